//! Points and spans on the time line of the process, eight bytes each.

use std::time::Duration;

/// The type of every time in the crate's interface: the standard library's `Instant`. On
/// wasm32-unknown-unknown, where the standard library has no clock, it is the `Instant` of the crate
/// `web-time` with the feature `wasm`.
#[cfg(not(all(feature = "wasm", target_family = "wasm", target_os = "unknown")))]
pub use std::time::Instant;
#[cfg(all(feature = "wasm", target_family = "wasm", target_os = "unknown"))]
pub use web_time::Instant;

/// A span of time in nanoseconds. A duration that does not fit (584 years) is [`Span::NEVER`].
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

/// A point on the time line: nanoseconds since the origin, which all clocks of the process share.
/// A point after the end of the line is [`Time::NEVER`], and a point before the origin is the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) const ORIGIN: Self = Self(0);
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) const fn nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether this point is at or before `now`. [`Time::NEVER`] has not come even if `now` is
    /// [`Time::NEVER`] as well.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_never() {
        assert_eq!(Span::from(Duration::MAX), Span::NEVER);
        assert_eq!(Time::ORIGIN.plus(Span::NEVER), Time::NEVER);
        assert_eq!(Time::NEVER.minus(Span::nanos(5)), Time::NEVER);
        assert_eq!(Span::from(Duration::new(2, 5)), Span::nanos(2_000_000_005));
    }

    #[test]
    fn never_does_not_come() {
        let at = Time::nanos(5);
        assert!(at.has_come(at) && at.has_come(Time::NEVER));
        assert!(!at.has_come(Time::nanos(4)));
        assert!(!Time::NEVER.has_come(Time::NEVER));
    }
}
