//! A timer and what it is armed for: it is armed again only when the instant moves.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::interface::{Clock, Timer};
use crate::grid::Grid;
use crate::time::{Instant, Span, Time};

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Alarm<T> {
        #[pin]
        timer: T,
        armed: Option<Armed>,
    }
}

/// What the timer is armed for; none before the first use and after it has fired, when it must not be
/// polled.
#[derive(Debug, Clone, Copy)]
struct Armed {
    /// As it was asked for: as long as that stays, nothing needs to be rounded.
    deadline: Time,
    step: Span,
    /// And as it was rounded.
    at: Time,
}

impl Armed {
    fn is_for(&self, deadline: Time, step: Span) -> bool {
        self.deadline == deadline && self.step == step
    }
}

impl<T> Alarm<T> {
    pub(crate) const fn new(timer: T) -> Self {
        Self { timer, armed: None }
    }
}

impl<T: Timer> Alarm<T> {
    pub(crate) fn now(&self) -> Instant {
        self.timer.now()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.timer.clock()
    }

    /// Wakes the task at `deadline` rounded up to the grid. Ready means that the timer fired, early
    /// perhaps: look at the clock.
    #[inline]
    pub(crate) fn poll_at(
        self: Pin<&mut Self>,
        deadline: Time,
        grid: Grid,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let armed = this.armed.as_ref();
        if !armed.is_some_and(|armed| armed.is_for(deadline, grid.step)) {
            let at = grid.round_up(deadline);
            // Beyond what the clock can tell lies never.
            let Some(instant) = at.instant(grid.origin) else {
                return Poll::Pending;
            };
            if armed.is_none_or(|armed| armed.at != at) {
                this.timer.as_mut().reset(instant);
            }
            *this.armed = Some(Armed {
                deadline,
                step: grid.step,
                at,
            });
        }
        // Pending: the timer wakes us, with the waker of this very poll.
        ready!(this.timer.poll_elapsed(cx));
        *this.armed = None;
        Poll::Ready(())
    }
}
