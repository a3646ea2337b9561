//! What is read off: the process's CPU time, its memory, and how late things were.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use stats_alloc::Stats;

use crate::ALLOCATOR;

/// CPU time of all threads of this process.
pub(crate) fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("CPU time is not negative")
}

/// Returns when this process has gone to rest.
pub(crate) fn settle() {
    let mut quiet = 0;
    let mut before = cpu();
    while quiet < 3 {
        thread::sleep(Duration::from_millis(20));
        let now = cpu();
        quiet = if now.saturating_sub(before) < Duration::from_micros(500) {
            quiet + 1
        } else {
            0
        };
        before = now;
    }
}

pub(crate) fn allocated() -> Stats {
    ALLOCATOR.stats()
}

/// Calls of the allocator. To grow a block counts: it may have to move.
pub(crate) fn allocations(change: &Stats) -> usize {
    change.allocations + change.reallocations
}

/// Bytes that were given and not given back.
pub(crate) fn live(stats: &Stats) -> usize {
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Resident memory in bytes, where the system tells.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Durations, counted in buckets of an eighth of their power of two.
pub(crate) struct Histogram {
    buckets: [AtomicU64; 512],
    max: AtomicU64,
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; 512],
            max: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        if nanos > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
        self.max.store(0, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        let counts = self.buckets.iter().map(|it| it.load(Ordering::Relaxed));
        counts.sum()
    }

    /// Milliseconds that a share of them did not exceed, to an eighth above.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = share * as_f64(self.count());
        let mut below = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            below += bucket.load(Ordering::Relaxed);
            if below > 0 && as_f64(below) >= rank {
                return (as_f64(end(index)) / 1e6).min(self.max());
            }
        }
        0.0
    }

    /// The longest, in milliseconds.
    pub(crate) fn max(&self) -> f64 {
        as_f64(self.max.load(Ordering::Relaxed)) / 1e6
    }
}

#[allow(clippy::cast_possible_truncation)] // Below 512.
fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(8);
    let power = nanos.ilog2();
    (u64::from(power) * 8 + ((nanos >> (power - 3)) & 7)) as usize
}

/// The first number past a bucket.
fn end(bucket: usize) -> u64 {
    let (power, eighths) = (bucket / 8, bucket as u64 % 8);
    match power {
        0..3 => 8,
        _ => (8 + eighths + 1).saturating_mul(1 << (power - 3)),
    }
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
