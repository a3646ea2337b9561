//! What TCP does to a message that is lost: it comes later, and so does all that follows it.

use std::time::Duration;

use crate::link::Path;

/// Linux's least retransmission timeout above the smoothed round trip: its floor is under the
/// term 4·RTTVAR of RFC 6298 §2.3.
const MIN_SPREAD: Duration = Duration::from_millis(200);

/// The retransmission timeout of RFC 6298 §2.
struct Rto {
    smoothed: Duration,
    variation: Duration,
}

impl Rto {
    fn new(rtt: Duration) -> Self {
        Self {
            smoothed: rtt,
            variation: rtt / 2,
        }
    }

    fn sample(&mut self, rtt: Duration) {
        let error = self.smoothed.abs_diff(rtt);
        self.variation = self.variation * 3 / 4 + error / 4;
        self.smoothed = self.smoothed * 7 / 8 + rtt / 8;
    }

    fn get(&self) -> Duration {
        self.smoothed + MIN_SPREAD.max(self.variation * 4)
    }
}

/// How a segment got through.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivery {
    /// When it was sent that time.
    pub(crate) sent: Duration,
    /// When the receiver reads it, with all that was sent before it.
    pub(crate) read: Duration,
    /// When the sender knows.
    acknowledged: Duration,
}

/// The sender of one direction, each segment of which holds one message.
pub(crate) struct Sender {
    rto: Rto,
    last: Delivery,
}

impl Sender {
    /// A fresh connection, which knows the round trip of its handshake.
    pub(crate) fn new(path: &mut Path) -> Self {
        let handshake = path.delay() + path.delay();
        Self {
            rto: Rto::new(handshake),
            last: Delivery::default(),
        }
    }

    /// What becomes of a message that is written at `now`. Nothing is lost for ever.
    pub(crate) fn send(&mut self, now: Duration, path: &mut Path) -> Delivery {
        let alone = self.last.acknowledged <= now;
        let rto = self.rto.get();
        let (sent, arrived) = match path.carry(now) {
            Some(arrived) => (now, arrived),
            None if alone => retransmit(now + rto, rto * 2, path),
            // There is one timer, and it counts for the oldest segment. When that one is
            // acknowledged it is this one's turn.
            None => retransmit(self.last.acknowledged, rto, path),
        };
        let read = arrived.max(self.last.read);
        let acknowledged = read + path.delay();
        // Of a segment that was sent twice nobody knows which one is acknowledged (Karn).
        if alone && sent == now {
            self.rto.sample(acknowledged.saturating_sub(now));
        }
        self.last = Delivery {
            sent,
            read,
            acknowledged,
        };
        self.last
    }
}

/// At that time, and each time twice as long after it (RFC 6298 §5.4 to §5.6), until it gets
/// through.
fn retransmit(mut at: Duration, mut wait: Duration, path: &mut Path) -> (Duration, Duration) {
    loop {
        if let Some(arrived) = path.carry(at) {
            return (at, arrived);
        }
        at += wait;
        wait *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Bursts, LINKS, Link};
    use crate::random::Random;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A path of 100 ms without queueing, that is dead until then.
    fn dead_until(end: Duration) -> Path {
        let link = Link {
            name: "",
            rtt: ms(100),
        };
        let bursts = Bursts::new(vec![ms(0)..end + link.rtt / 4]);
        Path {
            queueing: ms(0),
            ..Path::new(link, bursts, Random::stream(0))
        }
    }

    #[test]
    fn the_timeout_follows_rfc_6298_on_a_fixed_vector() {
        // Worked by hand: the same vector as for the heartbeat's own, and Linux's floor.
        let mut rto = Rto::new(ms(100));
        assert_eq!(rto.get(), ms(300), "4 · 50 ms is just the floor");
        rto.sample(ms(200));
        assert_eq!(rto.get(), Duration::from_micros(112_500 + 4 * 62_500));
        rto.sample(ms(100));
        assert_eq!(rto.get().as_micros(), 110_937 + 4 * 50_000);
        for _ in 0..100 {
            rto.sample(ms(100));
        }
        assert_eq!(rto.get().as_millis(), 300);
        assert_eq!(Rto::new(ms(800)).get(), ms(2_400));
    }

    #[test]
    fn a_lost_segment_is_sent_again_at_each_doubled_timeout() {
        // The timeout after a handshake of 100 ms is 300 ms.
        for (end, sent) in [
            (0, 0),
            (1, 300),
            (300, 300),
            (301, 900),
            (901, 2_100),
            (2_101, 4_500),
        ] {
            let path = &mut dead_until(ms(end));
            let delivery = Sender::new(path).send(ms(0), path);
            assert_eq!(delivery.sent, ms(sent), "a burst of {end} ms");
            assert_eq!(delivery.read, ms(sent + 50));
        }
    }

    #[test]
    fn what_is_sent_after_a_lost_segment_is_read_after_it() {
        // Sent while the first one waits for its second retransmission, and not lost.
        let path = &mut dead_until(ms(800));
        let mut sender = Sender::new(path);
        let first = sender.send(ms(0), path);
        let second = sender.send(ms(850), path);
        assert_eq!((second.sent, second.read), (ms(850), first.read));
        assert_eq!(first.read, ms(950));

        // Lost too: it is sent again when the first one is acknowledged.
        let path = &mut dead_until(ms(800));
        let mut sender = Sender::new(path);
        sender.send(ms(0), path);
        let second = sender.send(ms(500), path);
        assert_eq!((second.sent, second.read), (ms(1_000), ms(1_050)));
    }

    #[test]
    fn a_retransmission_gives_no_sample() {
        let path = &mut dead_until(ms(10));
        let mut sender = Sender::new(path);
        sender.send(ms(0), path);
        assert_eq!(sender.rto.get(), ms(300));
        sender.send(ms(5_000), path);
        assert!(sender.rto.variation < ms(50));
    }

    #[test]
    fn a_burst_delays_and_never_loses_for_ever() {
        for (number, link) in (0_u64..).zip(LINKS) {
            let bursts = Bursts::draw(2, &mut Random::stream(number));
            let mut path = Path::new(link, bursts, Random::stream(10 + number));
            let mut sender = Sender::new(&mut path);
            let (mut now, mut read, mut late) = (ms(0), ms(0), 0);
            while now < 2 * crate::link::DAY {
                let delivery = sender.send(now, &mut path);
                assert!(delivery.read >= read, "out of order");
                // A burst is hardly ever followed by another one before the next retransmission.
                assert!(delivery.read < now + ms(20_000), "{link:?}: {delivery:?}");
                late += u32::from(delivery.sent > now);
                read = delivery.read;
                now += ms(1_000);
            }
            // 40 bursts of 0.85 s, on a segment each second.
            assert!((20..50).contains(&late), "{link:?}: {late} were lost");
        }
    }
}
