//! What few heartbeats have, in an allocation of its own.

use std::task::{Context, Waker};

use super::State;
use super::probes::Probes;
use crate::time::Span;

/// What few heartbeats have.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The task of the writing half while it is blocked: it is woken whenever the driver is.
    pub(super) writer: Option<Waker>,
    pub(super) probes: Probes,
    /// How long the computer had been in suspend when the driver was polled last.
    pub(super) asleep: Span,
}

impl Extras {
    /// Makes this task the writer's. Returns the waker that this replaces.
    #[must_use = "to be dropped without the lock"]
    pub(super) fn register_writer(&mut self, cx: &Context<'_>) -> Option<Waker> {
        match &mut self.writer {
            Some(known) if known.will_wake(cx.waker()) => None,
            writer => writer.replace(cx.waker().clone()),
        }
    }
}

impl State {
    #[cold]
    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Whether a call would wake a task. A writer that waits must be woken even if the reader is awake, as
    /// the reader may be polled much later.
    #[inline]
    pub(super) fn is_asleep(&self) -> bool {
        let writer = self
            .extras
            .as_ref()
            .and_then(|extras| extras.writer.as_ref());
        self.bell.is_asleep() || writer.is_some()
    }

    /// Takes the waker of the writer's task, to be woken without the lock.
    #[inline]
    pub(super) fn take_writer(&mut self) -> Option<Waker> {
        self.extras.as_mut()?.writer.take()
    }
}
