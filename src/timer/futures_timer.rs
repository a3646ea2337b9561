//! The default: futures-timer's helper thread (with the feature `wasm`, a browser's or Node's timers).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_timer::Delay;

use super::interface::{Clock, Timer};
use super::suspend::asleep;
use crate::time::Instant;

/// The timer of the `futures-timer` crate, which needs no runtime. The default.
///
/// A helper thread keeps the time for the whole process. A child that was made by `fork` without `exec`
/// has no such thread: timers that use it never fire there, and a heartbeat stands still. Fork before the
/// first heartbeat is polled, or give the heartbeats of the child another timer: the runtime's own, or
/// [`from_fn`](crate::from_fn()) with any function that sleeps.
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
        #[cfg(all(feature = "wasm", target_family = "wasm", target_os = "unknown"))]
        let wait = for_set_timeout(wait);
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

    #[inline]
    fn asleep(&self) -> Duration {
        asleep()
    }
}

/// Makes `wait` one that `setTimeout` can keep: rounded up to whole milliseconds, of which 31 bits are used.
/// `setTimeout` rounds down, and would wake early again and again; a longer wait it ends at once.
#[cfg(any(
    test,
    all(feature = "wasm", target_family = "wasm", target_os = "unknown")
))]
fn for_set_timeout(wait: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
    const STEP: u32 = 1_000_000;

    let wait = wait.min(LONGEST);
    let beyond = wait.subsec_nanos() % STEP;
    if beyond == 0 {
        return wait;
    }
    wait + Duration::from_nanos(u64::from(STEP - beyond))
}

impl fmt::Debug for FuturesTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuturesTimer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_the_host_is_rounded_up_to_milliseconds_and_fits_into_31_bits() {
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (Duration::new(3, 999_999_999), 4_000),
            (Duration::from_millis(0x7fff_ffff), 0x7fff_ffff),
            (
                Duration::from_nanos(0x7fff_ffff * 1_000_000 + 1),
                0x7fff_ffff,
            ),
            (Duration::MAX, 0x7fff_ffff),
        ];
        for (wait, millis) in cases {
            let kept = for_set_timeout(wait);
            assert_eq!(kept, Duration::from_millis(millis), "{wait:?}");
        }
    }
}
