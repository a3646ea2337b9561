//! Round-trip times, smoothed as TCP does it (RFC 6298 §2).

use std::time::Duration;

use crate::time::Span;

/// The smallest clock granularity that enters the retransmission timeout: G of RFC 6298.
const MIN_GRANULARITY: Span = Span::nanos(10_000_000);

/// A span in four bytes: the lower 30 bits are a count of units, and the upper 2 bits say which unit. It is
/// exact to the nanosecond below 1 s, to the microsecond below 17 minutes, to the millisecond below 12 days,
/// and to the second above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short(u32);

impl Short {
    const UNITS: [u64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];
    const BITS: u32 = 30;
    const NEVER: Self = Self(u32::MAX);

    /// Rounds `span` down to what four bytes can say; the result is never [`Short::NEVER`].
    #[inline]
    fn new(span: Span) -> Self {
        match u32::try_from(span.as_nanos()) {
            Ok(nanos) if nanos >> Self::BITS == 0 => Self(nanos),
            _ => Self::coarse(span),
        }
    }

    #[cold]
    fn coarse(span: Span) -> Self {
        let mut units = (0..).zip(Self::UNITS);
        let short = units.find_map(|(which, unit)| {
            let count = u32::try_from(span.as_nanos() / unit).ok()?;
            (count >> Self::BITS == 0).then_some(Self(which << Self::BITS | count))
        });
        short
            .filter(|short| *short != Self::NEVER)
            .unwrap_or(Self(u32::MAX - 1))
    }

    #[inline]
    fn span(self) -> Span {
        if self == Self::NEVER {
            return Span::NEVER;
        }
        let count = u64::from(self.0 & ((1 << Self::BITS) - 1));
        Span::nanos(count * Self::UNITS[(self.0 >> Self::BITS) as usize])
    }
}

/// Latest, smoothed, variation and minimum of the round-trip times seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rtt {
    latest: Short,
    smoothed: Short,
    variation: Short,
    min: Short,
}

impl Rtt {
    /// No sample yet. A real sample can be zero but not never.
    pub(crate) const NONE: Self = Self {
        latest: Short::NEVER,
        smoothed: Short::NEVER,
        variation: Short::NEVER,
        min: Short::NEVER,
    };

    /// RFC 6298 §2.2 for the first sample, §2.3 for each later one.
    pub(crate) fn sample(&mut self, rtt: Span) {
        let r = rtt.as_nanos();
        let (srtt, rttvar) = if self.latest == Short::NEVER {
            (r, r / 2)
        } else {
            let srtt = self.smoothed.span().as_nanos();
            let rttvar = self.variation.span().as_nanos();
            let error = srtt.abs_diff(r);
            (srtt - srtt / 8 + r / 8, rttvar - rttvar / 4 + error / 4)
        };
        self.smoothed = Short::new(Span::nanos(srtt));
        self.variation = Short::new(Span::nanos(rttvar));
        self.latest = Short::new(rtt);
        if rtt < self.min.span() {
            self.min = self.latest;
        }
    }

    /// SRTT + max(G, 4·RTTVAR), unclamped; none before the first sample.
    pub(crate) fn timeout(&self, granularity: Span) -> Option<Span> {
        if self.latest == Short::NEVER {
            return None;
        }
        let spread = Span::nanos(self.variation.span().as_nanos().saturating_mul(4));
        let g = granularity.max(MIN_GRANULARITY);
        Some(self.smoothed.span().saturating_add(spread.max(g)))
    }

    /// The latest round-trip time; [`Span::NEVER`] before the first sample.
    pub(crate) fn latest_span(&self) -> Span {
        self.latest.span()
    }

    pub(crate) fn latest(&self) -> Option<Duration> {
        self.latest.span().known()
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.span().known()
    }

    pub(crate) fn variation(&self) -> Option<Duration> {
        self.variation.span().known()
    }

    pub(crate) fn min(&self) -> Option<Duration> {
        self.min.span().known()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ms(ms: u64) -> Span {
        Span::nanos(ms * 1_000_000)
    }

    // contract: J68
    #[test]
    fn smoothing_follows_rfc_6298_on_a_fixed_vector() {
        // Worked by hand from §2.2 and §2.3 with alpha = 1/8 and beta = 1/4.
        let vector: [(u64, u64, u64); 4] = [
            // sample ms, SRTT µs, RTTVAR µs
            (100, 100_000, 50_000),
            (200, 112_500, 62_500),
            (100, 110_937, 50_000),
            (40, 102_070, 55_234),
        ];
        let mut rtt = Rtt::NONE;
        assert_eq!(rtt.timeout(Span::ZERO), None);
        for (sample, srtt, rttvar) in vector {
            rtt.sample(ms(sample));
            let micros = |d: Option<Duration>| d.map_or(0, |d| d.as_micros());
            assert_eq!(micros(rtt.smoothed()), u128::from(srtt));
            assert_eq!(micros(rtt.variation()), u128::from(rttvar));
        }
        assert_eq!(rtt.latest(), Some(Duration::from_millis(40)));
        assert_eq!(rtt.min(), Some(Duration::from_millis(40)));
        assert_eq!(
            rtt.timeout(Span::ZERO).map(|t| t.to_duration().as_micros()),
            Some(323_007)
        );
    }

    #[test]
    fn the_timeout_keeps_a_margin_of_at_least_the_granularity() {
        let mut rtt = Rtt::NONE;
        for _ in 0..100 {
            rtt.sample(ms(50));
        }
        assert_eq!(rtt.timeout(Span::ZERO), Some(ms(60)), "10 ms at the least");
        assert_eq!(rtt.timeout(ms(30)), Some(ms(80)));
    }

    #[test]
    fn the_smoothing_of_a_few_microseconds_is_not_biased() {
        let mut rtt = Rtt::NONE;
        for _ in 0..1_000 {
            rtt.sample(Span::nanos(20_400));
            rtt.sample(Span::nanos(19_600));
        }
        let smoothed = rtt.smoothed().map_or(0, |srtt| srtt.as_nanos());
        assert!((19_940..=20_060).contains(&smoothed), "{smoothed} ns");
        assert_eq!(rtt.latest(), Some(Duration::from_nanos(19_600)));
    }

    #[test]
    fn a_short_span_is_as_exact_as_it_says() {
        let short = |nanos| Short::new(Span::nanos(nanos)).span().as_nanos();
        for nanos in [0, 1, 31_415_926, SECOND, (1 << 30) - 1] {
            assert_eq!(short(nanos), nanos, "nanoseconds");
        }
        for nanos in [9_279_001_000, 1_000 * SECOND, ((1 << 30) - 1) * 1_000] {
            assert_eq!(short(nanos), nanos, "microseconds");
            assert_eq!(short(nanos + 999), nanos, "rounded down");
        }
        assert_eq!(
            short(86_400 * SECOND + SECOND / 4),
            86_400 * SECOND + SECOND / 4
        );
        assert_eq!(short(1_000_000_000 * SECOND + 5), 1_000_000_000 * SECOND);
        assert!(short(u64::MAX - 1) >= 1_000_000_000 * SECOND);
        assert_eq!(Short::NEVER.span(), Span::NEVER);
        let longest = (1 << 30) * SECOND - 1;
        assert!(Short::new(Span::nanos(longest)) != Short::NEVER);
    }
}
