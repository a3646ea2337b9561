//! Points and spans on the time line of the process, eight bytes each.

use std::sync::OnceLock;
use std::time::Duration;

use crate::timer::Clock;

/// The instant that every time in this crate is: the standard library's. On wasm32-unknown-unknown,
/// where that has no clock, it is `web-time`'s with the feature `wasm`.
#[cfg(not(all(feature = "wasm", target_family = "wasm", target_os = "unknown")))]
pub use std::time::Instant;
#[cfg(all(feature = "wasm", target_family = "wasm", target_os = "unknown"))]
pub use web_time::Instant;

/// A span of time in nanoseconds. One that does not fit (584 years) is [`Span::NEVER`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(u64);

impl Span {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) const fn nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    pub(crate) const fn to_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// None for [`Span::NEVER`].
    pub(crate) const fn known(self) -> Option<Duration> {
        match self {
            Self::NEVER => None,
            known => Some(known.to_duration()),
        }
    }

    pub(crate) const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        let nanos = duration
            .as_secs()
            .checked_mul(1_000_000_000)
            .and_then(|secs| secs.checked_add(u64::from(duration.subsec_nanos())));
        nanos.map_or(Self::NEVER, Self)
    }
}

/// A point on the time line: nanoseconds since its origin, which all clocks of the process share. What comes after the end is [`Time::NEVER`], what came before the origin is the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) const ORIGIN: Self = Self(0);
    pub(crate) const NEVER: Self = Self(u64::MAX);

    #[inline]
    pub(crate) fn of(instant: Instant) -> Self {
        let since: Span = instant.saturating_duration_since(origin()).into();
        Self(since.0)
    }

    /// The instant, unless it is never (or beyond what the platform's clock can say).
    #[inline]
    pub(crate) fn instant(self) -> Option<Instant> {
        if self == Self::NEVER {
            return None;
        }
        origin().checked_add(Duration::from_nanos(self.0))
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether this point is not after `now`. Never does not come, be the clock beyond its end.
    #[inline]
    pub(crate) fn has_come(self, now: Self) -> bool {
        self <= now && self < Self::NEVER
    }

    pub(crate) const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    pub(crate) const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub(crate) const fn minus(self, span: Span) -> Self {
        if self.0 == u64::MAX {
            return Self::NEVER;
        }
        Self(self.0.saturating_sub(span.0))
    }
}

/// As long ago as the platform's clock can tell, up to 146 years: clocks of one's own may go back, too.
#[inline]
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // Nearly always it is there; so told apart, reading it is a few instructions less.
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
    fn what_does_not_fit_is_never() {
        assert_eq!(Span::from(Duration::MAX), Span::NEVER);
        assert_eq!(Time::ORIGIN.plus(Span::NEVER), Time::NEVER);
        assert_eq!(Time::NEVER.minus(Span::nanos(5)), Time::NEVER);
        assert_eq!(Time::NEVER.instant(), None);
        assert_eq!(Span::from(Duration::new(2, 5)), Span::nanos(2_000_000_005));
    }

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
