//! Who is to be woken, and whether anything has called since the driver went to sleep.

use std::mem;
use std::task::{Context, Waker};

/// The task that drives a heartbeat. The owner keeps the bell behind its own lock, next to what the driver
/// drives, and hands out a waker that calls [`ring`](Self::ring).
///
/// While the driver sleeps and its bell has not rung, neither clock nor timer needs to be asked: the
/// timer holds a waker that rings. That is right for any timer that wakes.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Whether the driver sleeps: nothing has called for it since it looked last.
    asleep: bool,
    /// Whether the timer may have fired since it was polled last.
    rung: bool,
    reader: Option<Waker>,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self {
            asleep: false,
            rung: false,
            reader: None,
        }
    }

    /// Whether a poll by this task has nothing to look at.
    #[inline]
    pub(crate) fn lets_sleep(&self, cx: &Context<'_>) -> bool {
        let reader = self.reader.as_ref();
        self.asleep && reader.is_some_and(|reader| reader.will_wake(cx.waker()))
    }

    /// Whether a call would wake the driver.
    #[inline]
    pub(crate) const fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// The driver is awake, and this task is woken from now on. The waker that this replaces is to be
    /// dropped without the lock.
    #[inline]
    #[must_use = "to be dropped without the lock"]
    pub(crate) fn enter(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.asleep = false;
        match &mut self.reader {
            Some(known) if known.will_wake(cx.waker()) => None,
            reader => reader.replace(cx.waker().clone()),
        }
    }

    /// The driver is awake.
    pub(crate) const fn stay_awake(&mut self) {
        self.asleep = false;
    }

    /// The driver rests, and goes to sleep or stays awake. Whether the timer is to be polled again, be it
    /// armed or not.
    #[inline]
    pub(crate) const fn rest(&mut self, asleep: bool) -> bool {
        self.asleep = asleep;
        mem::replace(&mut self.rung, false)
    }

    /// Something is to be done earlier than the driver sleeps. A reader that is awake sees it anyway.
    #[must_use = "to be woken without the lock"]
    pub(crate) fn call(&mut self) -> Option<Waker> {
        if mem::replace(&mut self.asleep, false) {
            self.reader.take()
        } else {
            None
        }
    }

    /// The timer, or a sink, has woken. A driver that is awake looks once more.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn ring(&mut self) -> Option<Waker> {
        self.rung = true;
        self.asleep = false;
        self.reader.take()
    }

    /// The reader's task, to be woken for something that is of no interest to the writer.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn take_reader(&mut self) -> Option<Waker> {
        self.reader.take()
    }
}

/// Wakes a task that was taken, without a lock: a waker is foreign code.
#[inline]
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
