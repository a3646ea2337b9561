//! Round-trip times, smoothed as TCP does it (RFC 6298 §2).

use std::time::Duration;

use crate::time::Span;

/// The smallest clock granularity that enters the retransmission timeout: G of RFC 6298.
const MIN_GRANULARITY: Span = Span::nanos(10_000_000);

/// Latest, smoothed, variation and minimum of the round-trip times seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rtt {
    latest: Span,
    smoothed: Span,
    variation: Span,
    min: Span,
}

impl Rtt {
    /// No sample yet. A real sample can be zero but not never.
    pub(crate) const NONE: Self = Self {
        latest: Span::NEVER,
        smoothed: Span::NEVER,
        variation: Span::NEVER,
        min: Span::NEVER,
    };

    /// RFC 6298 §2.2 for the first sample, §2.3 for each later one.
    pub(crate) fn sample(&mut self, rtt: Span) {
        let r = rtt.as_nanos();
        if self.latest == Span::NEVER {
            self.smoothed = rtt;
            self.variation = Span::nanos(r / 2);
            self.min = rtt;
        } else {
            let srtt = self.smoothed.as_nanos();
            let rttvar = self.variation.as_nanos();
            let error = srtt.abs_diff(r);
            self.variation = Span::nanos(rttvar - rttvar / 4 + error / 4);
            self.smoothed = Span::nanos(srtt - srtt / 8 + r / 8);
            self.min = self.min.min(rtt);
        }
        self.latest = rtt;
    }

    /// SRTT + max(G, 4·RTTVAR), unclamped; none before the first sample.
    pub(crate) fn timeout(&self, granularity: Span) -> Option<Span> {
        if self.latest == Span::NEVER {
            return None;
        }
        let spread = Span::nanos(self.variation.as_nanos().saturating_mul(4));
        let g = granularity.max(MIN_GRANULARITY);
        Some(self.smoothed.saturating_add(spread.max(g)))
    }

    /// Never before the first sample.
    pub(crate) fn latest_span(&self) -> Span {
        self.latest
    }

    pub(crate) fn latest(&self) -> Option<Duration> {
        self.latest.known()
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.known()
    }

    pub(crate) fn variation(&self) -> Option<Duration> {
        self.variation.known()
    }

    pub(crate) fn min(&self) -> Option<Duration> {
        self.min.known()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
