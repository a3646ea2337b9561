//! Numbers that look random and are the same on every machine and in every year.

use std::f64::consts::LN_2;
use std::ops::Range;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 6298;

/// Not `StdRng`: what that one is may change with each release of `rand`.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// Streams of different numbers know nothing of each other.
    pub(crate) fn stream(number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        rng.set_stream(number);
        Self(rng)
    }

    pub(crate) fn within(&mut self, range: &Range<Duration>) -> Duration {
        range.start + range.end.abs_diff(range.start).mul_f64(self.0.random())
    }

    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        // Zero is drawn now and then, one never is.
        mean.mul_f64(-ln(1.0 - self.0.random::<f64>()))
    }
}

/// The natural logarithm of a normal, positive number. How exact `f64::ln` is depends on the
/// platform; what is used here does not.
fn ln(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;

    let exponent = (x.to_bits() >> 52) as f64 - 1023.0;
    let mantissa = f64::from_bits(x.to_bits() & FRACTION | 1.0_f64.to_bits());
    // ln m = 2 · (s + s³/3 + s⁵/5 + …), and s is at most 1/3.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..12)
        .rev()
        .fold(0.0, |sum, n| sum * s * s + 1.0 / f64::from(2 * n + 1));
    exponent * LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for n in 1..10_000 {
            let x = f64::from(n) / 1_000.0;
            assert!((ln(x) - x.ln()).abs() < 1e-11, "ln {x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(f64::EPSILON) - f64::EPSILON.ln()).abs() < 1e-11);
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |number| Random::stream(number).exponential(Duration::from_secs(1));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn the_mean_is_what_was_asked_for() {
        const DRAWS: u32 = 100_000;
        let mean = Duration::from_millis(20);
        let mut random = Random::stream(0);
        let sum: Duration = (0..DRAWS).map(|_| random.exponential(mean)).sum();
        let error = (sum / DRAWS).abs_diff(mean);
        assert!(error < mean / 100, "{error:?}");
    }
}
