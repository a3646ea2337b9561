//! What a heartbeat needs of time: a clock that says, and a timer that wakes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::time::Instant;

/// A handle on a timer's time, for the threads that need the time and not the timer.
///
/// # Examples
///
/// A clock that a test moves by hand:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::{Duration, Instant};
/// use futures_pinger::Clock;
///
/// let start = Instant::now();
/// let elapsed = Arc::new(Mutex::new(Duration::ZERO));
/// let clock = Clock::new({
///     let elapsed = Arc::clone(&elapsed);
///     move || start + *elapsed.lock().unwrap()
/// });
/// *elapsed.lock().unwrap() += Duration::from_secs(5);
/// assert_eq!(clock.now() - start, Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Plain(fn() -> Instant),
    Shared(Arc<dyn Fn() -> Instant + Send + Sync>),
}

impl Clock {
    /// The monotonic clock of the system, [`Instant::now`].
    #[must_use]
    pub const fn system() -> Self {
        // The one place where the crate reads it.
        #[allow(clippy::disallowed_methods)]
        Self(Source::Plain(Instant::now))
    }

    /// A clock of one's own. It may stand still; what it reads less than before counts as no time. It
    /// may be a century away from the system's, but not many of them.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Source::Shared(Arc::new(now)))
    }

    /// A clock that needs no allocation.
    #[cfg(all(
        feature = "tokio",
        not(all(target_family = "wasm", target_os = "unknown"))
    ))]
    pub(crate) const fn plain(now: fn() -> Instant) -> Self {
        Self(Source::Plain(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::Plain(now) => now(),
            Source::Shared(now) => now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

/// A timer that wakes a task at an instant of its own clock.
///
/// The clock decides and the timer only wakes: a heartbeat never takes a wake-up for the time. So a
/// timer may wake early or for no reason, but it must wake once the instant has come.
///
/// # Examples
///
/// Most need no implementation of their own, see [`from_fn`](crate::from_fn()). One for an event
/// loop that polls all its tasks at each turn anyway:
///
/// ```
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
/// use futures_pinger::{Clock, Instant, Timer};
///
/// struct EachTurn {
///     deadline: Option<Instant>,
/// }
///
/// impl Timer for EachTurn {
///     fn clock(&self) -> Clock {
///         Clock::system()
///     }
///
///     fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
///         self.deadline = Some(deadline);
///     }
///
///     fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
///         match self.deadline {
///             Some(deadline) if deadline <= self.now() => Poll::Ready(()),
///             _ => Poll::Pending,
///         }
///     }
/// }
/// # let timer = EachTurn { deadline: None };
/// # let _pinger = futures_pinger::pinger((), futures_pinger::Config::default()).1.with_timer(timer);
/// ```
pub trait Timer {
    /// A handle on this timer's time.
    fn clock(&self) -> Clock;

    /// The time. Deadlines are made of it, and judged by it.
    fn now(&self) -> Instant {
        self.clock().now()
    }

    /// Arms the timer for `deadline` in place of the one before, fired or not.
    fn reset(self: Pin<&mut Self>, deadline: Instant);

    /// Ready once the deadline has come; until then the task is woken when it does. It is not
    /// polled before the first [`reset`](Self::reset), nor again after it was ready before the
    /// next.
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}
