//! How a new configuration comes in force: chunk by chunk, a number of them in each poll.

/// How many chunks are swept in one poll, which makes 1024 members.
pub(super) const CHUNKS: usize = 16;

/// Which chunks must still be swept. A sweep that begins during another goes on from where the other one is, so
/// that configurations which are set without end keep no chunk waiting without end.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The number of the chunk that is next.
    next: usize,
    /// How many chunks there were when the sweep began. Later chunks are under the new configuration already.
    chunks: usize,
    /// How many of these chunks are left.
    left: usize,
    /// How many pings were overdue by a new configuration so far.
    overdue: u32,
}

impl Sweep {
    /// Begins to sweep this many chunks.
    pub(super) const fn begin(&mut self, chunks: usize) {
        self.chunks = chunks;
        self.left = chunks;
    }

    pub(super) const fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The number of the next chunk.
    pub(super) const fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let number = self.next % self.chunks;
        self.next = number + 1;
        Some(number)
    }

    /// Counts one more ping that is overdue, and returns the share (of 2³²) by which its wait is shorter than the
    /// new interval. By the golden ratio each share lies in the largest gap between the shares before it.
    pub(super) const fn draw(&mut self) -> u32 {
        self.overdue = self.overdue.wrapping_add(1);
        self.overdue.wrapping_mul(0x9E37_79B9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_evenly_however_many_there_are() {
        for count in [2_u32, 10, 100, 1000] {
            let mut sweep = Sweep::default();
            let mut shares: Vec<_> = (0..count).map(|_| sweep.draw()).collect();
            shares.sort_unstable();
            let even = u32::MAX / count;
            for pair in shares.windows(2) {
                assert!(pair[1] - pair[0] < 2 * even, "{count}: {shares:?}");
            }
        }
    }

    // contract: Q110
    #[test]
    fn a_sweep_that_begins_anew_all_the_time_gets_to_each_chunk() {
        let mut sweep = Sweep::default();
        let mut swept = Vec::new();
        for _ in 0..10 {
            sweep.begin(7);
            swept.extend((0..3).filter_map(|_| sweep.next()));
        }
        assert!((0..7).all(|chunk| swept.contains(&chunk)));
        let rest = std::iter::from_fn(|| sweep.next()).count();
        assert_eq!(rest, 4);
        assert!(sweep.is_over());
    }
}
