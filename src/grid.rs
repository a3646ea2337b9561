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
        // Any instant will do for the grid to start at, as long as the process has but one.
        static START: OnceLock<Instant> = OnceLock::new();

        if self.step == Span::ZERO {
            return at;
        }
        self.round_up_from(*START.get_or_init(|| self.origin), at)
    }

    fn round_up_from(self, start: Instant, at: Time) -> Time {
        let step = self.step.as_nanos();
        // From the point of the grid at or before the origin to the origin.
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
        let since = at.since(Time::ORIGIN).as_nanos();
        match since.saturating_add(ahead) % step {
            0 => at,
            past => at.plus(Span::nanos(step - past)),
        }
    }

    /// How much later it is than a wake-up for `asked` had to be: later than the next point of the
    /// grid, and by more than a step. So much the timers themselves may take.
    pub(crate) fn lateness(self, asked: Time, now: Time) -> Span {
        now.since(self.round_up(asked)).saturating_sub(self.step)
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
                let rounded = grid.round_up_from(start, at);
                assert!(rounded >= at, "never early");
                assert!(rounded.since(at) < step.into(), "never late by a step");
                let point = rounded.instant(origin).expect("soon");
                let distance = point.max(start) - point.min(start);
                assert_eq!(distance.as_nanos() % step.as_nanos(), 0, "on one grid");
                let again = grid.round_up_from(start, rounded);
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
