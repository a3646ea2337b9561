//! What a heartbeat needs of time: a clock that says, and a timer that wakes.

use std::fmt;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

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

    /// A clock of one's own. It may stand still, and where it goes back no time has passed. It may differ from
    /// the system's clock by a century, but not by many.
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
/// timer may wake early or for no reason, but it must wake once the instant has come. A timer that has
/// not woken is not asked again, nor is its clock: one that never wakes is a heartbeat that stands still.
///
/// # Examples
///
/// Most need no implementation of their own, see [`from_fn`](crate::from_fn()). One for an event
/// loop with a queue of timers:
///
/// ```
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
/// use futures_pinger::{Clock, Instant, Timer};
///
/// # use std::sync::{Arc, Mutex};
/// # use std::task::Waker;
/// /// The loop wakes the waker of an entry once its deadline has come.
/// #[derive(Default)]
/// struct Queue(Mutex<Vec<(Instant, Waker)>>);
///
/// struct Queued {
///     queue: Arc<Queue>,
///     deadline: Option<Instant>,
/// }
///
/// impl Timer for Queued {
///     fn clock(&self) -> Clock {
///         Clock::system()
///     }
///
///     fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
///         self.deadline = Some(deadline);
///     }
///
///     fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
///         match self.deadline {
///             Some(deadline) if deadline <= self.now() => return Poll::Ready(()),
///             Some(deadline) => {
///                 let waker = cx.waker().clone();
///                 self.queue.0.lock().unwrap().push((deadline, waker));
///             }
///             None => {}
///         }
///         Poll::Pending
///     }
/// }
/// # let timer = Queued { queue: Arc::default(), deadline: None };
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

    /// The time that the machine has spent in suspend so far, counted from any fixed point; zero, unless the
    /// timer can tell.
    ///
    /// Where it has grown by more than the interval since a heartbeat looked last, one ping leaves at once,
    /// unless one is out: connections rarely survive a long sleep. The sleep itself judges nothing. A heartbeat
    /// looks when it is polled, so that the timer must wake it after the sleep: one on a clock that stands
    /// still meanwhile does so as late as without a sleep.
    ///
    /// The timers of this crate but [`from_fn`](crate::from_fn()) can tell with the feature `suspend`, on Linux
    /// and Android. That was not tried with a real suspend.
    ///
    /// # Examples
    ///
    /// A timer on a clock that stands still while the machine sleeps, beside one that goes on:
    ///
    /// ```
    /// use std::pin::Pin;
    /// use std::task::{Context, Poll};
    /// use std::time::Duration;
    /// use futures_pinger::{Clock, FuturesTimer, Instant, Timer};
    ///
    /// struct Laptop {
    ///     timer: FuturesTimer,
    ///     /// The time from the start of the machine, its sleeps included.
    ///     uptime: fn() -> Duration,
    ///     start: Instant,
    /// }
    ///
    /// impl Timer for Laptop {
    ///     fn clock(&self) -> Clock {
    ///         self.timer.clock()
    ///     }
    ///
    ///     fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
    ///         Pin::new(&mut self.timer).reset(deadline);
    ///     }
    ///
    ///     fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
    ///         Pin::new(&mut self.timer).poll_elapsed(cx)
    ///     }
    ///
    ///     fn asleep(&self) -> Duration {
    ///         let uptime = (self.uptime)();
    ///         uptime.saturating_sub(self.now().saturating_duration_since(self.start))
    ///     }
    /// }
    /// # let start = Clock::system().now();
    /// # let laptop = Laptop { timer: FuturesTimer::new(), uptime: || Duration::from_secs(60), start };
    /// # assert!(laptop.asleep() > Duration::from_secs(30));
    /// ```
    fn asleep(&self) -> Duration {
        Duration::ZERO
    }
}

impl<T: Timer + Unpin + ?Sized> Timer for &mut T {
    fn clock(&self) -> Clock {
        (**self).clock()
    }

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        Pin::new(&mut **self).reset(deadline);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut **self).poll_elapsed(cx)
    }

    fn asleep(&self) -> Duration {
        (**self).asleep()
    }
}

impl<T: Timer + Unpin + ?Sized> Timer for Box<T> {
    fn clock(&self) -> Clock {
        (**self).clock()
    }

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        Pin::new(&mut **self).reset(deadline);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut **self).poll_elapsed(cx)
    }

    fn asleep(&self) -> Duration {
        (**self).asleep()
    }
}

impl<P> Timer for Pin<P>
where
    P: DerefMut,
    P::Target: Timer,
{
    fn clock(&self) -> Clock {
        (**self).clock()
    }

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.as_deref_mut().reset(deadline);
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.as_deref_mut().poll_elapsed(cx)
    }

    fn asleep(&self) -> Duration {
        (**self).asleep()
    }
}
