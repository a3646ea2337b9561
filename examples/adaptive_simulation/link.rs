//! A network path: how long a segment takes, and when it is lost.

use std::ops::Range;
use std::time::Duration;

use crate::random::Random;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) const BURSTS_A_DAY: u32 = 20;
pub(crate) const BURST: Range<Duration> = Duration::from_millis(200)..Duration::from_millis(1_500);

/// The mean of the queueing delay each way is the round trip divided by this.
pub(crate) const JITTER: u32 = 10;

/// A kind of link, by its round trip without queueing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) rtt: Duration,
}

pub(crate) const LINKS: [Link; 4] = [
    Link {
        name: "0.2 ms",
        rtt: Duration::from_micros(200),
    },
    Link {
        name: "20 ms",
        rtt: Duration::from_millis(20),
    },
    Link {
        name: "200 ms",
        rtt: Duration::from_millis(200),
    },
    Link {
        name: "800 ms",
        rtt: Duration::from_millis(800),
    },
];

/// Times at which everything is lost: in order, and apart from each other.
pub(crate) struct Bursts(Vec<Range<Duration>>);

impl Bursts {
    /// So many days of them, each with starts anywhere in it.
    pub(crate) fn draw(days: u32, random: &mut Random) -> Self {
        let mut bursts = Vec::new();
        for day in 0..days {
            for _ in 0..BURSTS_A_DAY {
                let start = random.within(&(DAY * day..DAY * (day + 1)));
                bursts.push(start..start + random.within(&BURST));
            }
        }
        Self::new(bursts)
    }

    pub(crate) fn new(mut bursts: Vec<Range<Duration>>) -> Self {
        bursts.sort_by_key(|burst| burst.start);
        bursts.dedup_by(|next, burst| {
            let overlap = next.start <= burst.end;
            if overlap {
                burst.end = burst.end.max(next.end);
            }
            overlap
        });
        Self(bursts)
    }

    fn cover(&self, at: Duration) -> bool {
        let begun = self.0.partition_point(|burst| burst.start <= at);
        begun > 0 && at < self.0[begun - 1].end
    }
}

/// One connection's way through the network, the same in both directions.
pub(crate) struct Path {
    pub(crate) link: Link,
    pub(crate) bursts: Bursts,
    pub(crate) random: Random,
    pub(crate) queueing: Duration,
}

impl Path {
    pub(crate) fn new(link: Link, bursts: Bursts, random: Random) -> Self {
        Self {
            link,
            bursts,
            random,
            queueing: link.rtt / JITTER,
        }
    }

    /// One way: half a round trip, and what the queues add.
    pub(crate) fn delay(&mut self) -> Duration {
        self.link.rtt / 2 + self.random.exponential(self.queueing)
    }

    /// When a segment that is sent at that time arrives, if it does: a burst strikes half-way.
    pub(crate) fn carry(&mut self, sent: Duration) -> Option<Duration> {
        let lost = self.bursts.cover(sent + self.link.rtt / 4);
        (!lost).then(|| sent + self.delay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn bursts_that_overlap_are_one() {
        let bursts = Bursts::new(vec![s(20)..s(21), s(3)..s(4), s(1)..s(9), s(9)..s(10)]);
        assert_eq!(bursts.0, [s(1)..s(10), s(20)..s(21)]);
        let covered: Vec<_> = (0..30).filter(|at| bursts.cover(s(*at))).collect();
        assert_eq!(covered, [1, 2, 3, 4, 5, 6, 7, 8, 9, 20]);
    }

    #[test]
    fn each_day_has_its_bursts() {
        let Bursts(bursts) = Bursts::draw(100, &mut Random::stream(0));
        assert!(bursts.len() > 1_980, "few of them touch: {}", bursts.len());
        let lost: Duration = bursts
            .iter()
            .map(|burst| burst.end.abs_diff(burst.start))
            .sum();
        let expected = (BURST.start + BURST.end) / 2 * BURSTS_A_DAY * 100;
        assert!(lost.abs_diff(expected) < expected / 20, "{lost:?}");
    }

    #[test]
    fn a_delay_is_half_the_round_trip_or_more() {
        let link = LINKS[2];
        let mut path = Path::new(link, Bursts::new(Vec::new()), Random::stream(0));
        let delays: Vec<_> = (0..10_000).map(|_| path.delay()).collect();
        assert!(delays.iter().all(|delay| *delay >= link.rtt / 2));
        let mean = delays.iter().sum::<Duration>() / 10_000;
        let expected = link.rtt / 2 + link.rtt / JITTER;
        assert!(mean.abs_diff(expected) < expected / 50, "{mean:?}");
    }
}
