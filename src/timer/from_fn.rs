//! A timer from any function that sleeps.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::interface::{Clock, Timer};
use crate::time::Instant;

/// Makes a timer of a function that returns a future which is ready after the given time. The output of
/// the future is dropped.
///
/// The path of such a function is enough: `tokio::time::sleep`, `smol::Timer::after`, `async_std::task::sleep`,
/// `futures_timer::Delay::new`.
///
/// # Examples
///
/// ```
/// use futures_pinger::{Config, from_fn, pinger};
///
/// # let outgoing = ();
/// let (pongs, pinger) = pinger(outgoing, Config::default());
/// let pinger = pinger.with_timer(from_fn(smol::Timer::after));
/// # drop((pongs, pinger));
/// ```
pub const fn from_fn<F, Fut>(sleep: F) -> FnTimer<F, Fut>
where
    F: FnMut(Duration) -> Fut,
    Fut: Future,
{
    FnTimer {
        sleep,
        clock: Clock::system(),
        sleeping: None,
    }
}

/// The timer that [`from_fn`] makes.
///
/// # Examples
///
/// Under `tokio::time::pause` the clock must be tokio's too:
///
/// ```
/// use futures_pinger::{Clock, from_fn};
///
/// let virtual_time = Clock::new(|| tokio::time::Instant::now().into_std());
/// let timer = from_fn(tokio::time::sleep).with_clock(virtual_time);
/// # drop(timer);
/// ```
pub struct FnTimer<F, Fut> {
    sleep: F,
    clock: Clock,
    sleeping: Option<Pin<Box<Fut>>>,
}

impl<F, Fut> FnTimer<F, Fut> {
    /// Sets the clock of the time in which the function sleeps; [`Clock::system`] unless set.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

// The future is pinned in its box, and moving the timer does not move what is in the box.
impl<F, Fut> Unpin for FnTimer<F, Fut> {}

impl<F, Fut> Timer for FnTimer<F, Fut>
where
    F: FnMut(Duration) -> Fut,
    Fut: Future,
{
    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let wait = deadline.saturating_duration_since(self.now());
        let sleep = (self.sleep)(wait);
        match &mut self.sleeping {
            // Reuses the box of the last wait.
            Some(sleeping) => sleeping.set(sleep),
            None => self.sleeping = Some(Box::pin(sleep)),
        }
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleeping {
            Some(sleeping) => sleeping.as_mut().poll(cx).map(drop),
            // Never armed: nothing will ever elapse.
            None => Poll::Pending,
        }
    }
}

impl<F, Fut> fmt::Debug for FnTimer<F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnTimer").finish_non_exhaustive()
    }
}
