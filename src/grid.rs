//! The process-wide grid of wake-ups: heartbeats that are due about the same time wake together.

use std::sync::OnceLock;
use std::time::Duration;

use crate::time::{Instant, Span, Time};

/// The first point of the grid at or after `at`. A step of zero is no grid.
pub(crate) fn round_up(at: Instant, step: Duration) -> Instant {
    // Any instant will do for the grid to start at, as long as the process has but one.
    static START: OnceLock<Instant> = OnceLock::new();

    if step.is_zero() {
        return at;
    }
    round_up_from(*START.get_or_init(|| at), at, step)
}

fn round_up_from(start: Instant, at: Instant, step: Duration) -> Instant {
    // Of a step that is longer than the clock can tell, no point but the start is ever reached.
    let step = Span::from(step).as_nanos();
    let rest = match at.checked_duration_since(start) {
        Some(after) => match Span::from(after).as_nanos() % step {
            0 => 0,
            past => step - past,
        },
        None => Span::from(start.saturating_duration_since(at)).as_nanos() % step,
    };
    at.checked_add(Duration::from_nanos(rest)).unwrap_or(at)
}

/// The grid of wake-ups, on the time line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) origin: Instant,
    pub(crate) step: Duration,
}

impl Grid {
    /// How much later it is than a wake-up for `asked` had to be: later than the next point of the
    /// grid, and by more than a step. So much the timers themselves may take.
    pub(crate) fn lateness(self, asked: Time, now: Time) -> Span {
        let Some(instant) = asked.instant(self.origin) else {
            return Span::ZERO;
        };
        let point = Time::at(self.origin, round_up(instant, self.step));
        now.since(point).saturating_sub(self.step.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer::Clock;

    #[test]
    fn rounds_up_by_less_than_a_step_and_always_to_the_same_grid() {
        let step = Duration::from_millis(100);
        let start = Clock::system().now();
        for micros in 0..1_000 {
            for at in [
                start + Duration::from_micros(997 * micros),
                start - Duration::from_micros(997 * micros),
            ] {
                let rounded = round_up_from(start, at, step);
                assert!(rounded >= at, "never early");
                assert!(rounded - at < step, "never late by a step");
                let distance = rounded.max(start) - rounded.min(start);
                assert_eq!(distance.as_nanos() % step.as_nanos(), 0, "on one grid");
                assert_eq!(
                    round_up_from(start, rounded, step),
                    rounded,
                    "a point stays"
                );
            }
        }
    }

    #[test]
    fn the_process_has_one_grid() {
        let step = Duration::from_millis(100);
        let now = Clock::system().now();
        let (a, b) = (round_up(now, step), round_up(now + 7 * step / 3, step));
        assert_eq!((b - a).as_nanos() % step.as_nanos(), 0);
    }

    #[test]
    fn no_step_and_absurd_steps_are_harmless() {
        let now = Clock::system().now();
        assert_eq!(round_up(now, Duration::ZERO), now);
        let second = now + Duration::from_secs(1);
        assert!(round_up(second, Duration::MAX) >= second);
    }
}
