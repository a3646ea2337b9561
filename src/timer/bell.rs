//! The waker of the task that drives a heartbeat, and whether that task sleeps or has been called.

use std::mem;
use std::task::{Context, Waker};

/// The bell of a driver: the waker of its task, and two flags. The owner of a bell keeps it behind the lock
/// of the heartbeat, and gives the timer and the sinks a waker that calls [`ring`](Self::ring).
///
/// While the driver sleeps and its bell has not rung, a poll needs to ask neither the clock nor the timer,
/// because the timer holds a waker that rings the bell in time.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Whether the driver sleeps: nothing has called it since it went to sleep.
    asleep: bool,
    /// Whether the timer may have fired since it was polled last.
    rung: bool,
    /// The waker of the driver's task; `None` before its first poll and after it was woken.
    driver: Option<Waker>,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self {
            asleep: false,
            rung: false,
            driver: None,
        }
    }

    /// Whether a poll by this task has nothing to do: the driver sleeps, and will wake this task.
    #[inline]
    pub(crate) fn lets_sleep(&self, cx: &Context<'_>) -> bool {
        let driver = self.driver.as_ref();
        self.asleep && driver.is_some_and(|driver| driver.will_wake(cx.waker()))
    }

    /// Whether [`call`](Self::call) would wake the driver.
    #[inline]
    pub(crate) const fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Whether the waker of the driver's task is here: it is not if the timer or a sink has woken since
    /// [`enter`](Self::enter).
    pub(crate) const fn has_driver(&self) -> bool {
        self.driver.is_some()
    }

    /// Marks the driver as awake, and makes this task the one to wake. Returns the waker that this replaces,
    /// for the caller to drop after it has released the lock.
    #[inline]
    #[must_use = "to be dropped without the lock"]
    pub(crate) fn enter(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.asleep = false;
        match &mut self.driver {
            Some(known) if known.will_wake(cx.waker()) => None,
            driver => driver.replace(cx.waker().clone()),
        }
    }

    /// Marks the driver as awake, and keeps its waker.
    pub(crate) const fn stay_awake(&mut self) {
        self.asleep = false;
    }

    /// Ends a poll of the driver, which then sleeps or stays awake. Returns whether the timer may have fired
    /// since it was polled last, so that it must be polled even if it is armed for the right point.
    #[inline]
    pub(crate) const fn rest(&mut self, asleep: bool) -> bool {
        self.asleep = asleep;
        mem::replace(&mut self.rung, false)
    }

    /// Takes the waker of a driver that sleeps, because there is something to do before it would wake. A
    /// driver that is awake needs no wake: it sees the change before it rests.
    #[must_use = "to be woken without the lock"]
    pub(crate) fn call(&mut self) -> Option<Waker> {
        if mem::replace(&mut self.asleep, false) {
            self.driver.take()
        } else {
            None
        }
    }

    /// Takes the waker of the driver, awake or not, because the timer or a sink has woken.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn ring(&mut self) -> Option<Waker> {
        self.rung = true;
        self.asleep = false;
        self.driver.take()
    }

    /// Takes the waker of the driver's task, and changes nothing else: the flags are for the heartbeat, and
    /// the task is woken for another reason.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn take_driver(&mut self) -> Option<Waker> {
        self.driver.take()
    }
}

/// Wakes a task. No lock may be held, because a waker is foreign code.
#[inline]
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
