//! The time line of the process: the conversion of instants of a clock to points of the line, and back.

use std::sync::OnceLock;
use std::time::Duration;

use super::interface::Clock;
use crate::time::{Instant, Span, Time};

impl Time {
    /// The point of `instant`. An instant before the origin is the origin; an instant after the end is
    /// [`Time::NEVER`].
    #[inline]
    pub(crate) fn of(instant: Instant) -> Self {
        let since: Span = instant.saturating_duration_since(origin()).into();
        Self::nanos(since.as_nanos())
    }

    /// The instant of this point; `None` for [`Time::NEVER`] and for what the platform's clock cannot express.
    #[inline]
    pub(crate) fn instant(self) -> Option<Instant> {
        if self == Self::NEVER {
            return None;
        }
        origin().checked_add(Duration::from_nanos(self.as_nanos()))
    }
}

/// The instant of [`Time::ORIGIN`]: the earliest that the platform's clock can express, up to 146 years ago,
/// because a user's [`Clock`] may lie behind the system's.
#[inline]
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // The origin is nearly always set, and this check takes fewer instructions than `get_or_init`.
    if let Some(origin) = ORIGIN.get() {
        return *origin;
    }
    *ORIGIN.get_or_init(|| earliest(Clock::system().now()))
}

#[cold]
fn earliest(now: Instant) -> Instant {
    let steps = (0..62).rev().map(|bit| Duration::from_nanos(1 << bit));
    steps.fold(now, |at, step| at.checked_sub(step).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_comes_back_as_it_was_also_from_before_the_first_look_at_the_clock() {
        let now = Clock::system().now();
        let minute = Duration::from_secs(60);
        for instant in [now, now + minute, now - minute.min(now - origin())] {
            assert_eq!(Time::of(instant).instant(), Some(instant));
        }
        assert_eq!(Time::of(now + minute).since(Time::of(now)), minute.into());
    }

    #[test]
    fn what_came_before_the_origin_is_the_origin() {
        assert_eq!(Time::of(origin()), Time::ORIGIN);
        if let Some(before) = origin().checked_sub(Duration::from_secs(3)) {
            assert_eq!(Time::of(before), Time::ORIGIN);
        }
        assert_eq!(
            Time::ORIGIN.since(Time::ORIGIN.plus(Span::nanos(1))),
            Span::ZERO
        );
    }

    #[test]
    fn the_origin_is_as_early_as_the_clock_can_tell_and_no_earlier_than_half_the_line() {
        let now = Clock::system().now();
        let back = now - earliest(now);
        assert!(back < Duration::from_nanos(1 << 62));
        let nano = Duration::from_nanos(1);
        assert!(
            back == Duration::from_nanos((1 << 62) - 1)
                || earliest(now).checked_sub(nano).is_none()
        );
    }
}
