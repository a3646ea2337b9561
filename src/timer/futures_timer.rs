//! The default: futures-timer's helper thread (on wasm, the host's timers).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_timer::Delay;

use super::interface::{Clock, Timer};
use crate::time::Instant;

/// The timer of the `futures-timer` crate, which needs no runtime. The default.
///
/// # Examples
///
/// ```
/// use futures_pinger::{Clock, FuturesTimer, Timer};
///
/// assert!(FuturesTimer::new().now() <= Clock::system().now());
/// ```
#[derive(Default)]
pub struct FuturesTimer {
    delay: Option<Delay>,
}

impl FuturesTimer {
    /// A timer that takes no resources before it is armed.
    #[must_use]
    pub const fn new() -> Self {
        Self { delay: None }
    }
}

impl Timer for FuturesTimer {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let wait = deadline.saturating_duration_since(self.now());
        match &mut self.delay {
            Some(delay) => delay.reset(wait),
            None => self.delay = Some(Delay::new(wait)),
        }
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.delay {
            Some(delay) => Pin::new(delay).poll(cx),
            // Never armed: nothing will ever elapse.
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for FuturesTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuturesTimer").finish_non_exhaustive()
    }
}
