//! async-io's timer, which smol and async-std use.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::interface::{Clock, Timer};
use super::suspend::asleep;
use crate::time::Instant;

/// The timer of async-io's reactor: for smol, async-std, and all that run on it.
///
/// # Examples
///
/// ```
/// use futures_pinger::{AsyncIoTimer, Config, pinger};
///
/// # let outgoing = ();
/// let (pongs, pinger) = pinger(outgoing, Config::default());
/// let pinger = pinger.with_timer(AsyncIoTimer::new());
/// # drop((pongs, pinger));
/// ```
#[derive(Default)]
pub struct AsyncIoTimer {
    timer: Option<async_io::Timer>,
}

impl AsyncIoTimer {
    /// A timer that takes no resources before it is armed.
    #[must_use]
    pub const fn new() -> Self {
        Self { timer: None }
    }
}

impl Timer for AsyncIoTimer {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        match &mut self.timer {
            Some(timer) => timer.set_at(deadline),
            None => self.timer = Some(async_io::Timer::at(deadline)),
        }
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(drop),
            // Never armed: nothing will ever elapse.
            None => Poll::Pending,
        }
    }

    #[inline]
    fn asleep(&self) -> Duration {
        asleep()
    }
}

impl fmt::Debug for AsyncIoTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncIoTimer").finish_non_exhaustive()
    }
}
