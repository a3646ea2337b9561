//! The two ways to wait for virtual time: the timer of a heartbeat, and a sleep.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::time::Time;
use crate::time::Instant;
use crate::timer::{Clock, Timer};

/// The timer of a [`World`](super::World), made by [`World::timer`](super::World::timer).
///
/// # Panics
///
/// Polling it before a [`reset`](Timer::reset), or again after it was ready and before the next,
/// panics: the contract of [`Timer::poll_elapsed`] forbids both.
pub struct ManualTimer {
    time: Arc<Time>,
    id: u64,
}

impl ManualTimer {
    pub(super) fn new(time: &Arc<Time>) -> Self {
        Self {
            time: Arc::clone(time),
            id: time.add_timer(),
        }
    }
}

impl Drop for ManualTimer {
    fn drop(&mut self) {
        self.time.remove_timer(self.id);
    }
}

impl Timer for ManualTimer {
    fn clock(&self) -> Clock {
        self.time.clock()
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.time.reset(self.id, deadline);
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.time.poll_elapsed(self.id, cx)
    }

    fn asleep(&self) -> Duration {
        self.time.asleep()
    }
}

impl fmt::Debug for ManualTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualTimer").finish_non_exhaustive()
    }
}

/// A future that is ready once its time has come; made by [`World::sleep`](super::World::sleep).
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Sleep {
    timer: ManualTimer,
    deadline: Instant,
}

impl Sleep {
    pub(super) fn new(mut timer: ManualTimer, deadline: Instant) -> Self {
        Pin::new(&mut timer).reset(deadline);
        Self { timer, deadline }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { timer, deadline } = &mut *self;
        loop {
            ready!(Pin::new(&mut *timer).poll_elapsed(cx));
            if timer.now() >= *deadline {
                return Poll::Ready(());
            }
            // The timer has fired early: see `World::early_timers`.
            Pin::new(&mut *timer).reset(*deadline);
        }
    }
}
