//! Time that a program moves by hand, and a timer on it that rings when its instant comes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::sink::drain;
use futures_pinger::{Clock, Config, Timer, pinger};

/// One timer and its time: a clone is another handle of the same timer.
///
/// The timer wakes the task that polled it last as soon as the time reaches the deadline, as [`Timer`]
/// demands. The measured code pays for this timer as well, so the timer does no more than that.
#[derive(Clone)]
pub(crate) struct VirtualTime(Rc<Shared>);

struct Shared {
    now: Cell<Instant>,
    /// The same time for the clocks, which any thread may read.
    clock: Arc<Mutex<Instant>>,
    /// What the timer is armed for. None before the first reset, and once the deadline has come.
    deadline: Cell<Option<Instant>>,
    /// How often the timer has been armed.
    arms: Cell<u64>,
    /// The task to be woken at `deadline`. None before the first poll, and from the ring to the next poll.
    waker: RefCell<Option<Waker>>,
}

impl VirtualTime {
    /// Time that begins at a point of the default grid of wake-ups, so that a deadline a whole number of
    /// steps later is met exactly.
    pub(crate) fn on_grid() -> Self {
        let time = Self::at(Clock::system().now());
        let (_pongs, pinger) = pinger(drain(), Config::default());
        let mut pinger = pin!(pinger.with_timer(time.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pinger.as_mut().poll(&mut cx).is_pending());
        let point = time.0.deadline.get();
        Self::at(point.expect("the first ping is yet to come"))
    }

    fn at(start: Instant) -> Self {
        Self(Rc::new(Shared {
            now: Cell::new(start),
            clock: Arc::new(Mutex::new(start)),
            deadline: Cell::new(None),
            arms: Cell::new(0),
            waker: RefCell::new(None),
        }))
    }

    /// How often the timer has been armed so far.
    #[allow(dead_code)] // Not every program that uses this module counts.
    pub(crate) fn arms(&self) -> u64 {
        self.0.arms.get()
    }

    /// Moves the time by so much. The timer rings on the way, if that reaches its deadline.
    pub(crate) fn advance(&self, by: Duration) {
        let end = self.now() + by;
        while self.now() < end {
            self.advance_to(end);
        }
    }

    /// Moves the time to `end`, or to the deadline if the deadline comes first. At the deadline the timer
    /// rings, and the task that was woken may arm the timer again before the time moves on.
    pub(crate) fn advance_to(&self, end: Instant) {
        let deadline = self.0.deadline.get().filter(|deadline| *deadline <= end);
        let now = deadline.unwrap_or(end);
        self.0.now.set(now);
        *self.0.clock.lock().expect("nobody panics") = now;
        if deadline.is_some() {
            self.0.deadline.set(None);
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Shared {
    /// Stores the waker. `register` is out of line, as the waker of a task seldom changes.
    #[cold]
    fn register(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }
}

impl Timer for VirtualTime {
    fn clock(&self) -> Clock {
        let clock = Arc::clone(&self.0.clock);
        Clock::new(move || *clock.lock().expect("nobody panics"))
    }

    fn now(&self) -> Instant {
        self.0.now.get()
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.0.arms.set(self.0.arms.get() + 1);
        let ahead = deadline > self.0.now.get();
        self.0.deadline.set(ahead.then_some(deadline));
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline.get().is_none() {
            return Poll::Ready(());
        }
        let known = self
            .0
            .waker
            .borrow()
            .as_ref()
            .is_some_and(|it| it.will_wake(cx.waker()));
        if !known {
            self.0.register(cx.waker());
        }
        // Pending: `advance_to` wakes the task.
        Poll::Pending
    }
}
