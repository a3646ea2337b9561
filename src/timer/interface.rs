//! What a heartbeat needs of time: a clock that tells the time, and a timer that wakes a task.

use std::fmt;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::time::Instant;

/// A handle on a timer's clock, for threads that need the time but not the timer.
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
        // The one place where the crate reads the system's clock.
        #[allow(clippy::disallowed_methods)]
        Self(Source::Plain(Instant::now))
    }

    /// Makes a clock of a function that returns the time. The clock may stand still. If it goes back, no time
    /// has passed for a heartbeat. It may differ from the system's clock by a century, but not by many.
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
/// timer may wake early or for no reason, but it must wake once the instant has come. Until a timer has
/// woken the task, neither the timer nor its clock is asked again, so a heartbeat whose timer never wakes
/// stands still.
///
/// # Examples
///
/// Most users need no implementation of their own: see [`from_fn`](crate::from_fn()). This one is for an
/// event loop with a queue of timers:
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
    /// A handle on this timer's clock.
    fn clock(&self) -> Clock;

    /// The time by this timer's clock, by which deadlines are set and judged.
    fn now(&self) -> Instant {
        self.clock().now()
    }

    /// Arms the timer for `deadline`, in place of the deadline before, whether or not that has fired.
    fn reset(self: Pin<&mut Self>, deadline: Instant);

    /// Ready once the deadline has come. Until then the answer is `Pending`, and the task is woken when the
    /// deadline comes. A timer is not polled before the first [`reset`](Self::reset), nor between a `Ready`
    /// and the next `reset`.
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// The time that the machine has spent in suspend so far, counted from any fixed point; zero, unless the
    /// timer can tell.
    ///
    /// A heartbeat compares this time with the one that it saw when it was polled last. If the time has grown
    /// by more than the interval, one ping leaves at once, unless one is out: connections rarely survive a long
    /// sleep. The sleep alone never leads to a verdict. The timer must wake the heartbeat after the sleep; a
    /// timer whose clock stands still during the sleep wakes as late as if there had been none.
    ///
    /// The timers of this crate except [`from_fn`](crate::from_fn()) can tell with the feature `suspend`, on
    /// Linux and Android. This has not been tried with a real suspend.
    ///
    /// # Examples
    ///
    /// A timer whose clock stands still while the machine sleeps, beside a clock that goes on:
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
