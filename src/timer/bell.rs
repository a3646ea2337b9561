//! Who is to be woken, and whether anything has called since the driver went to sleep.

use std::mem;
use std::task::{Context, Waker};

/// Wakers that were taken out of a [`Bell`]: the reader's, and the writer's. They are to be woken, or
/// dropped, without the lock: both can run foreign code.
pub(crate) type Wakers = (Option<Waker>, Option<Box<Waker>>);

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
    reader: Option<Waker>,
    /// Boxed, as few have one: a task of its own that is blocked while it writes.
    writer: Option<Box<Waker>>,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self {
            asleep: false,
            rung: false,
            reader: None,
            writer: None,
        }
    }

    /// Whether a poll by this task has nothing to look at.
    #[inline]
    pub(crate) fn lets_sleep(&self, cx: &Context<'_>) -> bool {
        let reader = self.reader.as_ref();
        self.asleep && reader.is_some_and(|reader| reader.will_wake(cx.waker()))
    }

    /// Whether a call would wake the driver. Where the reader is awake, and comes by in its own time, a
    /// writer that waits is to be woken.
    #[inline]
    pub(crate) const fn is_asleep(&self) -> bool {
        self.asleep || self.writer.is_some()
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

    /// This task is woken as well from now on.
    #[must_use = "to be dropped without the lock"]
    pub(crate) fn register_writer(&mut self, cx: &Context<'_>) -> Option<Box<Waker>> {
        match &mut self.writer {
            Some(known) if known.will_wake(cx.waker()) => None,
            writer => writer.replace(Box::new(cx.waker().clone())),
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
    pub(crate) fn call(&mut self) -> Wakers {
        if mem::replace(&mut self.asleep, false) {
            (self.reader.take(), self.writer.take())
        } else {
            (None, self.writer.take())
        }
    }

    /// The timer, or a sink, has woken. A driver that is awake looks once more.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn ring(&mut self) -> Wakers {
        self.rung = true;
        self.asleep = false;
        (self.reader.take(), self.writer.take())
    }

    /// The reader's task, to be woken for something that is of no interest to the writer.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn take_reader(&mut self) -> Option<Waker> {
        self.reader.take()
    }

    /// The writer's task, to be woken for something that is of no interest to the reader.
    #[must_use = "to be woken without the lock"]
    pub(crate) const fn take_writer(&mut self) -> Option<Box<Waker>> {
        self.writer.take()
    }
}

/// Wakes those who were taken.
#[inline]
pub(crate) fn wake((reader, writer): Wakers) {
    if let Some(reader) = reader {
        reader.wake();
    }
    if let Some(writer) = writer {
        writer.wake();
    }
}
