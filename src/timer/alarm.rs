//! A timer and the instant that it is armed for: the timer is armed again only when the instant moves.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::interface::{Clock, Timer};
use crate::grid::Grid;
use crate::time::{Instant, Span, Time};

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Alarm<T> {
        #[pin]
        timer: T,
        // The deadline that the timer is armed for, rounded up to the grid. `Time::NEVER` before the first
        // use, and after the timer has fired, when it must not be polled.
        armed: Time,
    }
}

/// Whether a timer that is armed for the point `armed` of the grid also serves `deadline`: it wakes no
/// earlier than the deadline, and later by less than a step. This needs no division, as rounding would.
#[inline]
fn serves(armed: Time, deadline: Time, step: Span) -> bool {
    armed < Time::NEVER && armed >= deadline && armed.since(deadline) < step.max(Span::nanos(1))
}

impl<T> Alarm<T> {
    pub(crate) const fn new(timer: T) -> Self {
        Self {
            timer,
            armed: Time::NEVER,
        }
    }
}

impl<T: Timer> Alarm<T> {
    pub(crate) fn now(&self) -> Instant {
        self.timer.now()
    }

    /// See [`Timer::asleep`].
    #[inline]
    pub(crate) fn asleep(&self) -> Duration {
        self.timer.asleep()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.timer.clock()
    }

    /// Wakes `waker` at `deadline`, rounded up to the grid. Ready means that the timer fired, perhaps early,
    /// so that the caller must read the clock.
    ///
    /// `rung` says whether the timer has woken its waker since it was polled last. If it has not, and is
    /// armed for that point, the timer is not polled.
    #[inline]
    pub(crate) fn poll_at(
        self: Pin<&mut Self>,
        deadline: Time,
        grid: Grid,
        rung: bool,
        waker: impl FnOnce() -> Waker,
    ) -> Poll<()> {
        let mut this = self.project();
        let serves = serves(*this.armed, deadline, grid.step);
        if serves && !rung {
            // Pending: the timer wakes the waker of an earlier poll, which is the same one.
            return Poll::Pending;
        }
        let at = if serves {
            *this.armed
        } else {
            grid.round_up(deadline)
        };
        // The timer counts as not armed until it has answered, as it may panic.
        *this.armed = Time::NEVER;
        // Pending: nobody wakes the task, as an instant that the clock cannot express never comes.
        let Some(instant) = at.instant() else {
            return Poll::Pending;
        };
        let waker = WakeOnPanic(waker());
        if !serves {
            this.timer.as_mut().reset(instant);
        }
        // Pending: the timer wakes the waker.
        let polled = this.timer.poll_elapsed(&mut Context::from_waker(&waker.0));
        if polled.is_pending() {
            *this.armed = at;
        }
        polled
    }
}

/// Wakes the driver if the timer panics: the driver counts as asleep by then, and nothing else would wake it.
struct WakeOnPanic(Waker);

impl Drop for WakeOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::ORIGIN.plus(Span::nanos(nanos))
    }

    #[test]
    fn a_point_of_the_grid_serves_the_deadlines_that_are_rounded_up_to_it() {
        let step = Span::nanos(10);
        let served = |deadline| serves(at(20), at(deadline), step);
        assert!((11..=20).all(served));
        assert!(!served(10), "that would be late by a step");
        assert!(!served(21), "that would be early");
    }

    #[test]
    fn without_a_grid_an_instant_serves_itself_alone() {
        let served = |deadline| serves(at(20), at(deadline), Span::ZERO);
        assert!(served(20));
        assert!(!served(19) && !served(21));
    }

    #[test]
    fn a_timer_that_is_not_armed_serves_nothing() {
        for step in [Span::ZERO, Span::NEVER] {
            assert!(!serves(Time::NEVER, at(20), step));
            assert!(!serves(Time::NEVER, Time::NEVER, step));
        }
    }
}
