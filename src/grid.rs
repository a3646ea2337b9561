//! The process-wide grid of wake-ups: heartbeats that are due about the same time wake together.

use std::sync::OnceLock;

use crate::time::{Instant, Span, Time};

/// The grid of wake-ups, on the time line of one heartbeat. A step of zero is no grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Where the time line begins.
    pub(crate) origin: Instant,
    pub(crate) step: Span,
}

impl Grid {
    /// The first point of the grid at or after `at`.
    pub(crate) fn round_up(self, at: Time) -> Time {
        self.ticks().map_or(at, |ticks| ticks.round_up(at))
    }

    /// The points of the grid, numbered. None without a step.
    pub(crate) fn ticks(self) -> Option<Ticks> {
        // Any instant will do for the grid to start at, as long as the process has but one.
        static START: OnceLock<Instant> = OnceLock::new();

        if self.step == Span::ZERO {
            return None;
        }
        Some(self.ticks_from(*START.get_or_init(|| self.origin)))
    }

    fn ticks_from(self, start: Instant) -> Ticks {
        let step = self.step.as_nanos();
        let ahead = match self.origin.checked_duration_since(start) {
            Some(after) => Span::from(after).as_nanos() % step,
            None => {
                let before = start.saturating_duration_since(self.origin);
                match Span::from(before).as_nanos() % step {
                    0 => 0,
                    rest => step - rest,
                }
            }
        };
        Ticks { step, ahead }
    }

    /// How much later it is than a wake-up for `asked` had to be: later than the next point of the
    /// grid, and by more than a step. So much the timers themselves may take.
    pub(crate) fn lateness(self, asked: Time, now: Time) -> Span {
        now.since(self.round_up(asked)).saturating_sub(self.step)
    }
}

/// The points of a grid, numbered from the one at or before the origin of the time line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    step: u64,
    /// From the point number 0 to the origin.
    ahead: u64,
}

impl Ticks {
    /// Of the first point at or after `at`.
    pub(crate) fn at_or_after(self, at: Time) -> u64 {
        self.passed(at).div_ceil(self.step)
    }

    /// Of the last point at or before `at`.
    pub(crate) fn at_or_before(self, at: Time) -> u64 {
        self.passed(at) / self.step
    }

    /// When point number `tick` is. Number 0 is before the origin, and told as the origin.
    pub(crate) fn time(self, tick: u64) -> Time {
        let passed = Span::nanos(tick.saturating_mul(self.step));
        Time::ORIGIN.plus(passed.saturating_sub(Span::nanos(self.ahead)))
    }

    fn round_up(self, at: Time) -> Time {
        match self.passed(at) % self.step {
            0 => at,
            past => at.plus(Span::nanos(self.step - past)),
        }
    }

    fn passed(self, at: Time) -> u64 {
        at.since(Time::ORIGIN).as_nanos().saturating_add(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timer::Clock;

    fn grid(origin: Instant, step: Duration) -> Grid {
        Grid {
            origin,
            step: step.into(),
        }
    }

    fn time(since: Duration) -> Time {
        Time::ORIGIN.plus(since.into())
    }

    #[test]
    fn rounds_up_by_less_than_a_step_and_always_to_the_same_grid() {
        let step = Duration::from_millis(100);
        let start = Clock::system().now();
        for micros in 0..1_000 {
            let apart = Duration::from_micros(997 * micros);
            for origin in [start + apart, start - apart] {
                let (grid, at) = (grid(origin, step), time(apart / 3));
                let rounded = grid.ticks_from(start).round_up(at);
                assert!(rounded >= at, "never early");
                assert!(rounded.since(at) < step.into(), "never late by a step");
                let point = rounded.instant(origin).expect("soon");
                let distance = point.max(start) - point.min(start);
                assert_eq!(distance.as_nanos() % step.as_nanos(), 0, "on one grid");
                let ticks = grid.ticks_from(start);
                assert_eq!(ticks.time(ticks.at_or_after(at)), rounded);
                assert!(ticks.time(ticks.at_or_before(at)) <= at);
                assert!(ticks.time(ticks.at_or_before(at) + 1) > at);
                let again = grid.ticks_from(start).round_up(rounded);
                assert_eq!(again, rounded, "a point stays");
            }
        }
    }

    #[test]
    fn the_process_has_one_grid() {
        let step = Duration::from_millis(100);
        let now = Clock::system().now();
        let point = |origin| {
            let point = grid(origin, step).round_up(Time::ORIGIN);
            point.instant(origin).expect("soon")
        };
        let (a, b) = (point(now), point(now + 7 * step / 3));
        assert_eq!((b - a).as_nanos() % step.as_nanos(), 0);
    }

    #[test]
    fn no_step_and_absurd_steps_are_harmless() {
        let now = Clock::system().now();
        let second = time(Duration::from_secs(1));
        assert_eq!(grid(now, Duration::ZERO).round_up(second), second);
        assert!(grid(now, Duration::MAX).round_up(second) >= second);
        let day = grid(now, Duration::from_secs(86_400));
        assert_eq!(day.round_up(Time::NEVER), Time::NEVER);
    }
}
