//! The process-wide grid of wake-ups: heartbeats that are due about the same time wake together.

use crate::time::{Span, Time};

/// The grid of wake-ups: the multiples of `step` on the time line of the process. With a step of zero
/// every point of the time line is a point of the grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) step: Span,
}

impl Grid {
    pub(crate) const NONE: Self = Self { step: Span::ZERO };

    /// The first point of the grid at or after `at`.
    #[inline]
    pub(crate) fn round_up(self, at: Time) -> Time {
        match at.as_nanos().checked_rem(self.step.as_nanos()) {
            None | Some(0) => at,
            Some(past) => at.plus(Span::nanos(self.step.as_nanos() - past)),
        }
    }

    /// The numbers of the points of the grid. None if the step is zero.
    pub(crate) fn ticks(self) -> Option<Ticks> {
        (self.step > Span::ZERO).then_some(Ticks {
            step: self.step.as_nanos(),
        })
    }

    /// How late a wake-up for `asked` is at `now`, beyond what the timers themselves may cause: a timer
    /// may fire up to one step after the first point of the grid at or after `asked`.
    #[inline]
    pub(crate) fn lateness(self, asked: Time, now: Time) -> Span {
        if now <= asked {
            return Span::ZERO;
        }
        now.since(self.round_up(asked)).saturating_sub(self.step)
    }
}

/// The numbers of the points of a grid: the origin is point 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    step: u64,
}

impl Ticks {
    /// The number of the first point at or after `at`.
    #[inline]
    pub(crate) fn at_or_after(self, at: Time) -> u64 {
        at.as_nanos().div_ceil(self.step)
    }

    /// The number of the last point at or before `at`.
    #[inline]
    pub(crate) fn at_or_before(self, at: Time) -> u64 {
        at.as_nanos() / self.step
    }

    /// The time of point number `tick`.
    #[inline]
    pub(crate) fn time(self, tick: u64) -> Time {
        Time::ORIGIN.plus(Span::nanos(tick.saturating_mul(self.step)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn grid(step: Duration) -> Grid {
        Grid { step: step.into() }
    }

    fn time(since: Duration) -> Time {
        Time::ORIGIN.plus(since.into())
    }

    #[test]
    fn rounds_up_by_less_than_a_step_and_always_to_the_same_grid() {
        let step = Duration::from_millis(100);
        let grid = grid(step);
        let ticks = grid.ticks().expect("there is a step");
        for micros in 0..1_000 {
            let at = time(Duration::from_micros(997 * micros));
            let rounded = grid.round_up(at);
            assert!(rounded >= at, "never early");
            assert!(rounded.since(at) < step.into(), "never late by a step");
            assert_eq!(rounded.as_nanos() % 100_000_000, 0, "on one grid");
            assert_eq!(grid.round_up(rounded), rounded, "a point stays");
            assert_eq!(ticks.time(ticks.at_or_after(at)), rounded);
            assert!(ticks.time(ticks.at_or_before(at)) <= at);
            assert!(ticks.time(ticks.at_or_before(at) + 1) > at);
        }
    }

    #[test]
    fn no_step_and_absurd_steps_are_harmless() {
        let second = time(Duration::from_secs(1));
        assert_eq!(grid(Duration::ZERO).round_up(second), second);
        assert!(grid(Duration::ZERO).ticks().is_none());
        assert!(grid(Duration::MAX).round_up(second) >= second);
        let day = grid(Duration::from_secs(86_400));
        assert_eq!(day.round_up(Time::NEVER), Time::NEVER);
    }
}
