//! The timeouts that are compared.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_pinger::Config;

/// From one ping to the next.
const INTERVAL: Duration = Duration::from_secs(20);
/// The fixed timeout, and the end of each range.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The crate's default timeout.
    Fixed,
    /// From `start` to [`TIMEOUT`].
    Adaptive { start: Duration, max_missed: u32 },
}

/// Where the ranges start.
pub(crate) const STARTS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
pub(crate) const MAX_MISSED: RangeInclusive<u32> = 1..=3;

impl Policy {
    /// The fixed one first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let adaptive = STARTS.into_iter().flat_map(|start| {
            MAX_MISSED.map(move |max_missed| Self::Adaptive { start, max_missed })
        });
        std::iter::once(Self::Fixed).chain(adaptive)
    }

    pub(crate) fn config(self) -> Config {
        let builder = match self {
            Self::Fixed => Config::builder().timeout(TIMEOUT),
            Self::Adaptive { start, max_missed } => Config::builder()
                .adaptive_timeout(start..=TIMEOUT)
                .max_missed(max_missed),
        };
        // What is measured is the verdict: the close frame only adds to it.
        let builder = builder.interval(INTERVAL).no_close();
        builder.build().expect("all of them are valid")
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => write!(f, "fixed {}", short(TIMEOUT)),
            Self::Adaptive { start, max_missed } => {
                let (start, end) = (short(*start), short(TIMEOUT));
                write!(f, "{start}..={end}, max_missed {max_missed}")
            }
        }
    }
}

/// A round number of seconds, or of milliseconds.
pub(crate) fn short(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}
