//! tokio's timer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::interface::{Clock, Timer};
use super::suspend::asleep;
use crate::time::Instant;

/// tokio's timer and tokio's clock: under `tokio::time::pause` a heartbeat runs in virtual time.
///
/// # Panics
///
/// Polling it outside of a tokio runtime with its time enabled panics, as tokio's own timers do.
/// Building it does not.
///
/// # Examples
///
/// ```
/// use futures_pinger::{Config, TokioTimer, pinger};
///
/// # let outgoing = ();
/// let (pongs, pinger) = pinger(outgoing, Config::default());
/// let pinger = pinger.with_timer(TokioTimer::new());
/// # drop((pongs, pinger));
/// ```
#[derive(Default)]
pub struct TokioTimer {
    // The `Sleep` is boxed, as it must not move and this timer may. It is made when the timer is first
    // armed, as a `Sleep` cannot be made outside of a runtime.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl TokioTimer {
    /// A timer that takes no resources before it is armed.
    #[must_use]
    pub const fn new() -> Self {
        Self { sleep: None }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Timer for TokioTimer {
    fn clock(&self) -> Clock {
        Clock::plain(now)
    }

    fn now(&self) -> Instant {
        now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let deadline = tokio::time::Instant::from_std(deadline);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            // Never armed: nothing will ever elapse.
            None => Poll::Pending,
        }
    }

    #[inline]
    fn asleep(&self) -> Duration {
        asleep()
    }
}

impl fmt::Debug for TokioTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioTimer").finish_non_exhaustive()
    }
}
