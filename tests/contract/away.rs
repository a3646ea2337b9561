//! A reader behind `attach`, of a [`PongSender`](futures_pinger::PongSender::attach) or a
//! [`Member`](futures_pinger::Member::attach), that is away with a message: no pong can
//! be read meanwhile, and none is judged.

use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};
use futures_pinger::{FilterPongs, Liveness, TimeoutPhase};

use crate::socket::{Msg, Plain};
use crate::world::{Broken, Path, Rig, exact, ms, s};

/// A peer and a reader that is driven by hand: it answers pings after no time, into the reader's stream.
struct Away {
    rig: Rig,
    socket: UnboundedSender<Result<Msg, Broken>>,
    reader: FilterPongs<UnboundedReceiver<Result<Msg, Broken>>, Plain>,
    answered: usize,
}

impl Away {
    fn new(path: Path, config: futures_pinger::ConfigBuilder) -> Self {
        let mut rig = Rig::new(path, config);
        // A ping whose pong cannot be read is.
        rig.written_off = 1000;
        let (socket, incoming) = unbounded();
        let reader = rig.reader.attach(incoming, Plain);
        Self {
            rig,
            socket,
            reader,
            answered: 0,
        }
    }

    fn receive(&self, message: Msg) {
        self.socket.unbounded_send(Ok(message)).expect("attached");
    }

    /// The peer answers each ping that has left.
    fn answer(&mut self) {
        while self.answered < self.rig.sink.pings().len() {
            self.receive(Msg::Pong(self.rig.sink.payload(self.answered)));
            self.answered += 1;
        }
    }

    /// The same with a reader that waits for messages.
    fn read_until(&mut self, time: Duration) {
        let mut now = self.rig.world.elapsed();
        while now < time {
            now = time.min(now + ms(250));
            self.live_until(now);
            self.drain();
        }
    }

    /// Runs until `time`, and answers each ping within 250 ms.
    fn live_until(&mut self, time: Duration) {
        let mut now = self.rig.world.elapsed();
        while now < time {
            now = time.min(now + ms(250));
            self.rig.run_until(now);
            self.answer();
        }
    }

    /// Reads one item.
    fn item(&mut self) -> bool {
        self.reader.next().now_or_never().is_some()
    }

    /// Reads until nothing more is there.
    fn drain(&mut self) {
        while self.item() {}
    }
}

/// Runs a test for the sender of a `pinger()`, and for a member of a set.
fn each_reader(test: impl Fn(Path)) {
    for path in [Path::Slot, Path::Set] {
        test(path);
    }
}

/// The promise of the contract: the defaults, a live peer, and a reader of 90 s for each message.
// contract: O130 Q113
#[test]
fn a_live_peer_outlives_a_reader_that_is_away_for_90_s() {
    each_reader(|path| {
        for from in 0..45 {
            let mut away = Away::new(path, exact());
            away.read_until(s(from));
            for job in 0..10 {
                away.receive(Msg::Data(job));
                assert!(away.item(), "a job");
                let until = away.rig.world.elapsed() + s(90);
                away.live_until(until);
                away.rig.assert_alive();
                away.drain();
            }
            away.read_until(s(1200));
            away.rig.assert_alive();
            // A ping for each interval: it may be late once for each job, by the slack.
            let pings = away.rig.sink.pings();
            assert!(pings.len() >= 58, "from {from}: {pings:?}");
            for pair in pings.windows(2) {
                let between = pair[1].checked_sub(pair[0]).expect("in order");
                assert!(between <= s(21), "from {from}: {pings:?}");
            }
            assert_eq!(away.rig.stats().missed(), 0);
        }
    });
}

/// The longer waits, the shorter, and the smart ways to be alive.
// contract: O130 Q113
#[test]
fn the_same_with_any_timeout_and_any_liveness() {
    each_reader(|path| {
        let unproven = s(100_000);
        for liveness in [
            Liveness::Pong,
            Liveness::AnyPong,
            Liveness::Activity {
                max_unproven: unproven,
            },
        ] {
            for timeout in [s(1), s(5), s(19), s(20), s(21), s(70)] {
                let mut away = Away::new(path, exact().timeout(timeout).liveness(liveness));
                away.read_until(s(30));
                away.receive(Msg::Data(0));
                assert!(away.item());
                away.live_until(s(1000));
                away.rig.assert_alive();
                let pings = away.rig.sink.pings().len();
                assert!(pings >= 44, "{liveness:?} {timeout:?}: {pings}");
                away.read_until(s(1100));
                away.rig.assert_alive();
            }
        }
    });
}

// contract: O130 Q113
#[test]
fn a_dead_peer_gets_its_verdict_once_the_reader_is_back() {
    each_reader(|path| {
        for back in [s(50), s(90), s(95), s(300)] {
            let mut away = Away::new(path, exact());
            away.read_until(s(30));
            away.receive(Msg::Data(0));
            assert!(away.item());
            // From here on the peer says nothing.
            away.rig.run_until(back);
            away.rig.assert_alive();
            away.drain();
            away.rig.run_until(back + s(41));
            let (at, verdict) = away.rig.verdict();
            assert_eq!(verdict.phase(), TimeoutPhase::Pong);
            assert!(at >= back && at <= back + s(22), "{back:?}: {at:?}");
        }
    });
}

// contract: O130 Q113
#[test]
fn the_statistics_and_the_verdict_say_how_long_the_reader_was_away() {
    each_reader(|path| {
        let mut away = Away::new(path, exact());
        away.read_until(s(25));
        assert_eq!(away.rig.stats().reader_away(), s(0));
        away.receive(Msg::Data(0));
        assert!(away.item());
        // The ping of 40 s is answered, and nobody reads that.
        away.live_until(s(120));
        away.drain();
        away.rig.run_until(s(121));
        let before = away.rig.stats().reader_away();
        assert!(before > s(55) && before <= s(80), "{before:?}");
        // Once more, and then the peer is silent.
        away.read_until(s(125));
        away.receive(Msg::Data(1));
        away.receive(Msg::Pong("not asked for".into()));
        assert!(away.item());
        away.rig.run_until(s(200));
        away.drain();
        away.rig.run_until(s(300));
        let (_, verdict) = away.rig.verdict();
        let since = verdict.reader_away();
        assert!(since > s(35) && since <= s(60), "{since:?}");
        assert_eq!(away.rig.stats().reader_away(), before + since);
        assert_eq!(verdict.unsolicited(), 1);
        let text = verdict.to_string();
        let told = format!(", 1 other pong came, last rtt 0ns, the reader was away for {since:?})");
        assert!(text.ends_with(&told), "{text}");
    });
}

// contract: O130 Q113
#[test]
fn writes_are_judged_while_the_reader_is_away() {
    each_reader(|path| {
        let mut away = Away::new(path, exact());
        away.read_until(s(30));
        away.receive(Msg::Data(0));
        assert!(away.item());
        away.rig.sink.block();
        away.rig.run_until(s(120));
        let (at, verdict) = away.rig.verdict();
        assert_eq!(verdict.phase(), TimeoutPhase::Write);
        assert!(at <= s(62), "{at:?}");
    });
}

/// A peer that talks and sends no pongs, and a reader that is away for half of the time, or nearly all of
/// it, but comes back.
// contract: O130 Q113
#[test]
fn a_reader_that_comes_back_between_puts_no_verdict_off() {
    each_reader(|path| {
        for (work, idle) in [(53, 47), (97, 4), (307, 201), (911, 103)] {
            for (interval, timeout) in [(20, 20), (5, 20), (20, 5)] {
                let config = exact().interval(s(interval)).timeout(s(timeout));
                let mut away = Away::new(path, config);
                let mut now = Duration::ZERO;
                while away.rig.outcome().is_none() && now < s(200) {
                    away.receive(Msg::Data(0));
                    assert!(away.item());
                    now += ms(work);
                    away.rig.run_until(now);
                    away.drain();
                    now += ms(idle);
                    away.rig.run_until(now);
                }
                let (at, _) = away.rig.verdict();
                let bound = s(interval + timeout + 2);
                assert!(at <= bound, "{work} {idle} {interval} {timeout}: {at:?}");
            }
        }
    });
}

/// The message comes between the checkpoint and the deadline, and the pong behind it.
// contract: O130 Q113
#[test]
fn a_pong_behind_a_message_of_the_last_moment_is_not_missing() {
    each_reader(|path| {
        for timeout in [s(5), s(20), s(30)] {
            let mut away = Away::new(path, exact().timeout(timeout));
            let last_moment = s(20) + timeout - ms(100);
            away.rig.run_until(last_moment);
            away.drain();
            away.receive(Msg::Data(0));
            assert!(away.item());
            away.answer();
            away.rig.run_until(last_moment + ms(900));
            away.rig.assert_alive();
            away.drain();
            away.rig.run_until(last_moment + ms(901));
            away.rig.assert_alive();
            assert_eq!(away.rig.stats().answered(), 1, "{timeout:?}");
        }
    });
}

/// A flood has no end that could be read to.
// contract: N81 O130 Q113
#[test]
fn a_flood_behind_attach_puts_a_verdict_off_by_65_536_messages() {
    each_reader(|path| {
        let mut away = Away::new(path, exact());
        away.rig.run_until(s(30));
        let mut read = 0_u32;
        while away.rig.outcome().is_none() {
            away.receive(Msg::Data(0));
            // There is always one more.
            away.receive(Msg::Data(0));
            assert!(away.item());
            read += 1;
            if read % 64 == 0 {
                let now = away.rig.world.elapsed() + ms(20);
                away.rig.run_until(now);
            }
            assert!(read < 500_000, "never judged");
        }
        let (at, _) = away.rig.verdict();
        // 65 536 messages at 64 for each 20 ms are 20.5 s, from the first look past 40 s on.
        assert!(at >= s(40) && at <= s(62), "{at:?}");
    });
}

/// Traffic of requests and answers wakes the heartbeat no more than before.
// contract: E38 O130 Q113
#[test]
fn a_reader_that_comes_and_goes_wakes_nobody() {
    each_reader(|path| {
        let wakes = |messages| {
            let mut away = Away::new(path, exact());
            for second in 21..81 {
                for message in 0..messages {
                    away.receive(Msg::Data(message));
                    assert!(away.item());
                    away.drain();
                }
                away.live_until(s(second));
                away.drain();
            }
            away.rig.wakes()
        };
        assert_eq!(wakes(10), wakes(0));
    });
}

// contract: O130 Q113
#[test]
fn a_reader_that_takes_one_message_after_the_other_stays_away() {
    each_reader(|path| {
        let mut away = Away::new(path, exact());
        away.read_until(s(30));
        for job in 0..4 {
            away.receive(Msg::Data(job));
        }
        for job in 1..=4 {
            assert!(away.item());
            away.live_until(s(30) + s(90) * job);
            away.rig.assert_alive();
        }
    });
}
