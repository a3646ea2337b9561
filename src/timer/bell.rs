//! Who is to be woken, and whether anything has called since the driver went to sleep.

use std::mem;
use std::task::{Context, Waker};

/// Which half of a socket a task polls. A driver that is a single task is the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Reader,
    #[allow(dead_code)]
    Writer,
}

/// Wakers that were taken out of a [`Bell`], by half. They are to be woken, or dropped, without the
/// lock: both can run foreign code.
pub(crate) type Wakers = [Option<Waker>; 2];

/// Nobody.
pub(crate) const NOBODY: Wakers = [None, None];

/// The tasks that drive a heartbeat. The owner keeps it behind its own lock, next to what the driver
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
    tasks: Wakers,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self {
            asleep: false,
            rung: false,
            tasks: NOBODY,
        }
    }

    /// Whether a poll by this task has nothing to look at.
    #[inline]
    pub(crate) fn lets_sleep(&self, half: Half, cx: &Context<'_>) -> bool {
        let task = &self.tasks[half as usize];
        self.asleep
            && task
                .as_ref()
                .is_some_and(|task| task.will_wake(cx.waker()))
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
    pub(crate) fn enter(&mut self, half: Half, cx: &Context<'_>) -> Option<Waker> {
        self.asleep = false;
        self.register(half, cx)
    }

    /// This task is woken from now on.
    #[inline]
    #[must_use = "to be dropped without the lock"]
    pub(crate) fn register(&mut self, half: Half, cx: &Context<'_>) -> Option<Waker> {
        match &mut self.tasks[half as usize] {
            Some(known) if known.will_wake(cx.waker()) => None,
            task => task.replace(cx.waker().clone()),
        }
    }

    /// The driver goes to sleep. Whether the timer is to be polled again, be it armed or not.
    #[inline]
    pub(crate) const fn rest(&mut self) -> bool {
        self.asleep = true;
        mem::replace(&mut self.rung, false)
    }

    /// Something is to be done earlier than the driver sleeps. A driver that is awake sees it anyway.
    #[inline]
    #[must_use = "to be woken without the lock"]
    pub(crate) fn call(&mut self) -> Wakers {
        if mem::replace(&mut self.asleep, false) {
            mem::replace(&mut self.tasks, NOBODY)
        } else {
            NOBODY
        }
    }

    /// The timer, or a sink, has woken. A driver that is awake looks once more.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn ring(&mut self) -> Wakers {
        self.rung = true;
        self.asleep = false;
        mem::replace(&mut self.tasks, NOBODY)
    }

    /// The task of this half, to be woken for something that is of no interest to the other.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn take(&mut self, half: Half) -> Option<Waker> {
        self.tasks[half as usize].take()
    }
}

/// Wakes those who were taken.
#[inline]
pub(crate) fn wake(wakers: Wakers) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}
