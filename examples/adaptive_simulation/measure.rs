//! What is measured of a policy on a link.

use std::time::Duration;

use futures_pinger::Instant;

use crate::connection::{Connection, NEVER};
use crate::link::{Bursts, DAY, Link, Path};
use crate::policy::Policy;
use crate::random::Random;

/// How long a connection has lived before its peer may die.
pub(crate) const WARM_UP: Duration = Duration::from_secs(60 * 60);

/// How much is simulated for each policy on each link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) days: u32,
    pub(crate) deaths: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) false_alarms: u32,
    /// From the flush of the first ping that remains unanswered to the verdict.
    pub(crate) detection: Spread,
    /// From the death itself: it has to wait for that ping.
    pub(crate) from_death: Spread,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) median: Duration,
    pub(crate) p95: Duration,
    pub(crate) max: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        // The least one that so many percent of all do not exceed.
        let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
        Self {
            median: percentile(50),
            p95: percentile(95),
            max: percentile(100),
        }
    }
}

/// All policies meet the same bursts and the same deaths.
pub(crate) fn measure(policy: Policy, link: Link, effort: Effort, origin: Instant) -> Outcome {
    let deaths = (0..effort.deaths).map(|number| death(policy, link, number, origin));
    let (detection, from_death) = deaths.unzip();
    Outcome {
        false_alarms: false_alarms(policy, link, effort.days, origin),
        detection: Spread::of(detection),
        from_death: Spread::of(from_death),
    }
}

/// Verdicts on a peer that lives. After each a new connection is opened, which knows nothing of
/// the one before.
fn false_alarms(policy: Policy, link: Link, days: u32, origin: Instant) -> u32 {
    let bursts = Bursts::draw(days, &mut stream(link, Draw::Bursts));
    let mut path = Path::new(link, bursts, stream(link, Draw::Delays));
    let (mut now, mut alarms) = (Duration::ZERO, 0);
    loop {
        let connection = Connection::open(policy.config(), &mut path, origin, now, NEVER);
        match connection.run(DAY * days) {
            Some(verdict) => (now, alarms) = (verdict.at, alarms + 1),
            None => return alarms,
        }
    }
}

/// How long it takes to find one death: from the first ping without an answer, and from the death.
fn death(policy: Policy, link: Link, number: u32, origin: Instant) -> (Duration, Duration) {
    let mut random = stream(link, Draw::Death(number));
    // At any point of the schedule.
    let dies = random.within(&(WARM_UP..WARM_UP + policy.config().interval()));
    let bursts = Bursts::draw(1, &mut random);
    let mut path = Path::new(link, bursts, random);
    let mut now = Duration::ZERO;
    loop {
        let connection = Connection::open(policy.config(), &mut path, origin, now, dies);
        let verdict = connection.run(NEVER).expect("a dead peer is found");
        match verdict.unanswered {
            Some(ping) => {
                return (
                    verdict.at.saturating_sub(ping),
                    verdict.at.saturating_sub(dies),
                );
            }
            // A false alarm before the death.
            None => now = verdict.at,
        }
    }
}

/// What the random numbers are for: each use has a stream of its own.
#[derive(Clone, Copy)]
enum Draw {
    Bursts,
    Delays,
    Death(u32),
}

fn stream(link: Link, draw: Draw) -> Random {
    let number = match draw {
        Draw::Bursts => 0,
        Draw::Delays => 1,
        Draw::Death(number) => 2 + u64::from(number),
    };
    Random::stream(u64::from(link.rtt.subsec_micros()) << 32 | number)
}

#[cfg(test)]
mod tests {
    use futures_pinger::Clock;

    use super::*;
    use crate::link::LINKS;
    use crate::policy::TIMEOUT;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn adaptive(start: u64, max_missed: u32) -> Policy {
        Policy::Adaptive {
            start: ms(start),
            max_missed,
        }
    }

    fn now() -> Instant {
        Clock::system().now()
    }

    /// Verdicts in a day without bursts but for these.
    fn alarms(policy: Policy, link: Link, bursts: Vec<std::ops::Range<Duration>>) -> u32 {
        let mut path = Path::new(link, Bursts::new(bursts), Random::stream(0));
        let connection = Connection::open(policy.config(), &mut path, now(), ms(0), NEVER);
        u32::from(connection.run(DAY).is_some())
    }

    #[test]
    fn without_bursts_the_fixed_timeout_raises_no_alarm() {
        for link in LINKS {
            assert_eq!(alarms(Policy::Fixed, link, Vec::new()), 0, "{link:?}");
        }
    }

    #[test]
    fn a_burst_that_outlasts_the_timeouts_raises_an_alarm() {
        let [fast, ..] = LINKS;
        // The ping of 40 s is lost. Its retransmissions come after 0.2, 0.6, 1.4, and 3 s.
        let burst = |end: u64| vec![ms(39_999)..ms(40_000 + end)];
        assert_eq!(alarms(adaptive(1_000, 2), fast, burst(1_350)), 0);
        assert_eq!(alarms(adaptive(1_000, 2), fast, burst(1_450)), 1);
        assert_eq!(alarms(adaptive(1_000, 3), fast, burst(1_450)), 0);
        assert_eq!(alarms(adaptive(1_000, 1), fast, burst(650)), 1);
        assert_eq!(alarms(adaptive(1_000, 1), fast, burst(550)), 0);
        assert_eq!(alarms(Policy::Fixed, fast, burst(12_000)), 0);
        assert_eq!(alarms(Policy::Fixed, fast, burst(13_000)), 1);
    }

    #[test]
    fn a_death_is_found_a_sum_of_timeouts_after_the_first_ping() {
        let effort = Effort {
            days: 1,
            deaths: 20,
        };
        let median = |policy| {
            let outcome = measure(policy, LINKS[1], effort, now());
            // The deaths are spread over the 20 s before that ping.
            assert!(outcome.from_death.median > outcome.detection.median + ms(5_000));
            assert!(outcome.from_death.max > outcome.from_death.median + ms(5_000));
            assert!(outcome.from_death.max <= outcome.detection.max + ms(20_000));
            outcome.detection.median
        };
        assert_eq!(median(Policy::Fixed), TIMEOUT);
        assert_eq!(median(adaptive(1_000, 2)), ms(1_000 + 2_000));
        assert_eq!(median(adaptive(500, 3)), ms(500 + 1_000 + 2_000));
    }

    #[test]
    fn the_same_is_measured_each_time() {
        let effort = Effort {
            days: 1,
            deaths: 10,
        };
        let again = || measure(adaptive(1_000, 1), LINKS[3], effort, now());
        let outcome = again();
        assert!(outcome.false_alarms > 0, "else it shows little");
        assert_eq!(outcome, again());
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let spread = Spread::of((1..=200).rev().map(ms).collect());
        assert_eq!(spread.median, ms(100));
        assert_eq!(spread.p95, ms(190));
        assert_eq!(spread.max, ms(200));
    }
}
