//! One connection: the crate's heartbeat, the network, and a peer that answers until it dies.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{Config, Frame, Heartbeat, Instant, Output};

use crate::link::Path;
use crate::tcp::Sender;

/// Later than any connection lives.
pub(crate) const NEVER: Duration = Duration::MAX;

/// Times count from the start of the simulation, which is `origin` to the heartbeat.
pub(crate) struct Connection<'a> {
    path: &'a mut Path,
    origin: Instant,
    now: Duration,
    /// From then on the peer sends nothing.
    dies: Duration,
    heartbeat: Heartbeat,
    pings: Sender,
    pongs: Sender,
    /// Pongs on their way, and when each is read.
    answers: VecDeque<(Duration, Bytes)>,
    unanswered: Option<Duration>,
}

/// When it fell, and when the ping was flushed that is the first to remain without a pong for
/// ever: none if all of them would have been answered, and the peer was alive.
pub(crate) struct Verdict {
    pub(crate) at: Duration,
    pub(crate) unanswered: Option<Duration>,
}

impl<'a> Connection<'a> {
    pub(crate) fn open(
        config: Config,
        path: &'a mut Path,
        origin: Instant,
        now: Duration,
        dies: Duration,
    ) -> Self {
        Self {
            heartbeat: Heartbeat::with_key(config, origin + now, [0; 16]),
            pings: Sender::new(path),
            pongs: Sender::new(path),
            answers: VecDeque::new(),
            unanswered: None,
            path,
            origin,
            now,
            dies,
        }
    }

    /// Until the verdict, if it falls before `end`.
    pub(crate) fn run(mut self, end: Duration) -> Option<Verdict> {
        loop {
            let now = self.origin + self.now;
            match self.heartbeat.poll_output(now) {
                Output::Ping => self.ping(now),
                Output::Wait(deadline) => {
                    let deadline = deadline.expect("no timeout here is for ever");
                    if !self.step(deadline - self.origin, end) {
                        return None;
                    }
                }
                Output::Done(_) => {
                    return Some(Verdict {
                        at: self.now,
                        unanswered: self.unanswered,
                    });
                }
                output => unreachable!("without a close frame: {output:?}"),
            }
        }
    }

    /// The next thing that happens: a pong is read, or the deadline comes.
    fn step(&mut self, deadline: Duration, end: Duration) -> bool {
        let read = self.answers.front().map_or(NEVER, |(read, _)| *read);
        self.now = read.min(deadline);
        if self.now >= end {
            return false;
        }
        let now = self.origin + self.now;
        // What has arrived is read before a deadline is judged.
        if read <= deadline {
            if let Some((_, pong)) = self.answers.pop_front() {
                self.heartbeat.handle_pong(&pong, now);
            }
        } else {
            self.heartbeat.handle_timeout(now);
        }
        true
    }

    /// The socket takes it at once, and the peer answers as soon as it reads it.
    fn ping(&mut self, now: Instant) {
        let Some(Frame::Ping(payload)) = self.heartbeat.transmit(now) else {
            unreachable!("a ping was announced");
        };
        self.heartbeat.handle_sent(now);
        let ping = self.pings.send(self.now, self.path);
        let pong = self.pongs.send(ping.read, self.path);
        // A peer that is dead sends nothing again either, and then what came after it is not read.
        if pong.sent < self.dies && self.unanswered.is_none() {
            self.answers.push_back((pong.read, payload));
        } else {
            self.unanswered.get_or_insert(self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_pinger::Clock;

    use super::*;
    use crate::link::{Bursts, Link};
    use crate::policy::Policy;
    use crate::random::Random;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Without queueing.
    fn path(rtt: Duration, bursts: Bursts) -> Path {
        let link = Link { name: "", rtt };
        Path {
            queueing: ms(0),
            ..Path::new(link, bursts, Random::stream(0))
        }
    }

    fn run(policy: Policy, path: &mut Path, dies: Duration, end: Duration) -> Option<Verdict> {
        let origin = Clock::system().now();
        Connection::open(policy.config(), path, origin, ms(0), dies).run(end)
    }

    #[test]
    fn a_pong_that_comes_with_the_deadline_is_read_first() {
        let end = ms(1_000_000);
        let path = |rtt| path(ms(rtt), Bursts::new(Vec::new()));
        assert!(run(Policy::Fixed, &mut path(20_000), NEVER, end).is_none());
        assert!(run(Policy::Fixed, &mut path(20_002), NEVER, end).is_some());
    }

    #[test]
    fn what_a_peer_sent_after_a_lost_pong_is_not_read_when_it_dies() {
        // The second ping arrives at 40.05 s. Its pong is lost, and again at 40.35 s; before the
        // next time, at 40.95 s, the peer is dead. The pong of the third ping was sent at 40.55 s.
        let policy = Policy::Adaptive {
            start: ms(500),
            max_missed: 3,
        };
        let burst = ms(40_030)..ms(40_400);
        let mut path = path(ms(100), Bursts::new(vec![burst]));
        let verdict = run(policy, &mut path, ms(40_700), NEVER).expect("it is dead");
        assert_eq!(verdict.unanswered, Some(ms(40_000)));
        assert_eq!(verdict.at, ms(40_000 + 500 + 1_000 + 2_000));
    }
}
