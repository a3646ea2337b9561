//! The round trip of a ping, as a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::FusedFuture;

use crate::error::ProbeError;
use crate::shared::Shared;
use crate::sync::Arc;

/// The round trip of a ping, from [`Controller::probe`](crate::Controller::probe): ready with the time from
/// the flush of the ping to its answer, or with the reason why there is none.
///
/// It may be sent to another task or thread, and does not keep the heartbeat alive.
///
/// # Wakeups
///
/// Its task is woken once, by whoever reads the answer or ends the heartbeat, or by the task of the heartbeat
/// when the time is over. On a [`KeepAlive`](crate::KeepAlive) the answer must be read by one of the halves.
///
/// # Cancel safety
///
/// Dropping a probe changes nothing: the ping is on its way.
///
/// # Panics
///
/// If it is polled again after it was ready.
#[must_use = "a probe tells the round trip when it is awaited; for the ping alone there is `ping_now`"]
pub struct Probe(State);

enum State {
    Waiting(Waiting),
    Refused(ProbeError),
    Done,
}

/// A probe on the list of its heartbeat.
struct Waiting {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.forget_probe(self.number);
    }
}

impl Probe {
    pub(super) fn new(shared: &Arc<Shared>, within: Duration) -> Self {
        Self(match shared.probe(within) {
            Ok(number) => State::Waiting(Waiting {
                shared: Arc::clone(shared),
                number,
            }),
            Err(error) => State::Refused(error),
        })
    }
}

impl Future for Probe {
    type Output = Result<Duration, ProbeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &self.0 {
            // Pending: as `poll_probe` says.
            State::Waiting(waiting) => ready!(waiting.shared.poll_probe(waiting.number, cx)),
            State::Refused(error) => Err(*error),
            State::Done => panic!("`Probe` polled after completion"),
        };
        self.0 = State::Done;
        Poll::Ready(outcome)
    }
}

impl FusedFuture for Probe {
    fn is_terminated(&self) -> bool {
        matches!(self.0, State::Done)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}
