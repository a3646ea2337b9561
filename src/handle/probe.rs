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
/// Its task is woken once: when the answer is read, when the heartbeat ends, or, by the task of the heartbeat
/// (or set), when the time is over. On a [`KeepAlive`](crate::KeepAlive) one of the halves must read the answer.
///
/// # Cancel safety
///
/// Dropping a probe changes nothing: the ping is on its way.
///
/// # Panics
///
/// If it is polled again after it was ready.
#[must_use = "a probe gives the round trip when it is awaited; for the ping alone there is `ping_now`"]
pub struct Probe(State);

enum State {
    Waiting(Waiting),
    Refused(ProbeError),
    Done,
}

/// A probe on the list of its heartbeat.
struct Waiting {
    heartbeat: Arc<dyn Probed>,
    /// `None` once the probe is off the list, as its number may name another probe then.
    id: Option<ProbeId>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.heartbeat.forget_probe(id);
        }
    }
}

impl Probe {
    /// The probe that `heartbeat` was asked for.
    pub(crate) fn new(asked: Result<ProbeId, ProbeError>, heartbeat: Arc<dyn Probed>) -> Self {
        Self(match asked {
            Ok(id) => State::Waiting(Waiting {
                heartbeat,
                id: Some(id),
            }),
            Err(error) => State::Refused(error),
        })
    }

    /// A probe without a heartbeat, which gives `error`.
    pub(crate) const fn refused(error: ProbeError) -> Self {
        Self(State::Refused(error))
    }
}

impl Future for Probe {
    type Output = Result<Duration, ProbeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &mut self.0 {
            // Pending: as `poll_probe` says.
            State::Waiting(Waiting { heartbeat, id }) => ready!(heartbeat.poll_probe(id, cx)),
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

#[cfg(test)]
mod tests {
    use std::mem;
    use std::task::Waker;

    use super::*;
    use crate::grid::Grid;
    use crate::machine::Input;
    use crate::shared::Probes;
    use crate::sync::{Mutex, lock};
    use crate::time::Time;

    /// A member whose list is dropped when it is empty. At once another probe is made, as another thread, or
    /// a waker that is dropped, may do.
    struct Sought {
        probes: Mutex<(Probes, bool)>,
    }

    impl Probed for Sought {
        fn with_probes(&self, _: u32, act: &mut dyn FnMut(&mut Probes)) {
            let (probes, sought) = &mut *lock(&self.probes);
            act(probes);
            if probes.is_empty() && !mem::replace(sought, true) {
                *probes = Probes::default();
                probes.add(Duration::MAX, None);
            }
        }
    }

    // contract: P101
    #[test]
    fn a_probe_that_is_over_takes_no_other_off_the_list() {
        let mut probes = Probes::default();
        let number = probes.add(Duration::ZERO, Some(Time::ORIGIN));
        probes.look(Time::ORIGIN, Grid::NONE, Input::Drained);
        let member = Arc::new(Sought {
            probes: Mutex::new((probes, false)),
        });
        let mut probe = Probe::new(Ok(ProbeId { seat: 0, number }), Arc::clone(&member) as _);
        let polled = Pin::new(&mut probe).poll(&mut Context::from_waker(Waker::noop()));
        let within = Duration::ZERO;
        assert_eq!(polled, Poll::Ready(Err(ProbeError::Late { within })));
        assert!(probe.is_terminated());
        drop(probe);
        assert!(!lock(&member.probes).0.is_empty(), "the other one waits");
    }
}
