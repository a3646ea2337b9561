//! The round trip of a ping, as a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::FusedFuture;

use crate::error::ProbeError;
use crate::shared::{ProbeId, Probed};
use crate::sync::Arc;

/// The round trip of a ping, from [`Controller::probe`](crate::Controller::probe) or
/// [`PingerSetHandle::probe`](crate::PingerSetHandle::probe): ready with the time from the flush of the ping to
/// its answer, or with the reason why there is none.
///
/// It may be sent to another task or thread, and does not keep the heartbeat alive.
///
/// # Wakeups
///
/// Its task is woken once, by whoever reads the answer or ends the heartbeat, or by the task of the heartbeat
/// (or set) when the time is over. On a [`KeepAlive`](crate::KeepAlive) the answer must be read by one of the halves.
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
    heartbeat: Arc<dyn Probed>,
    id: ProbeId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.heartbeat.forget_probe(self.id);
    }
}

impl Probe {
    /// The probe that `heartbeat` was asked for.
    pub(crate) fn new(asked: Result<ProbeId, ProbeError>, heartbeat: Arc<dyn Probed>) -> Self {
        Self(match asked {
            Ok(id) => State::Waiting(Waiting { heartbeat, id }),
            Err(error) => State::Refused(error),
        })
    }

    /// There is no heartbeat to be asked.
    pub(crate) const fn refused(error: ProbeError) -> Self {
        Self(State::Refused(error))
    }
}

impl Future for Probe {
    type Output = Result<Duration, ProbeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &self.0 {
            // Pending: as `poll_probe` says.
            State::Waiting(waiting) => ready!(waiting.heartbeat.poll_probe(waiting.id, cx)),
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
