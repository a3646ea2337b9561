//! Random sinks, peers, stalls and schedules: the heartbeat always resolves within the bound that
//! its docs promise, and never early. That there is one ping in flight at the most, one in a poll,
//! each flushed, and nothing after the close frame, is checked by the World at each step.

use std::ops::Range;
use std::time::Duration;

use futures_pinger::{Config, ConfigBuilder, Error, TimeoutPhase};
use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use crate::world::{Path, Rig, SinkScript, ms, s};

/// What happens to one heartbeat, in milliseconds.
#[derive(Debug, Clone)]
struct Life {
    path: Path,
    initial_delay: u64,
    interval: u64,
    timeout: u64,
    write_timeout: u64,
    close_timeout: u64,
    max_missed: u32,
    jitter: f64,
    granularity: u64,
    grace: bool,
    /// The answer to each ping, if there is one; none after the last.
    answers: Vec<Option<u64>>,
    /// When the sink changes, and to what.
    sink: Vec<(u64, SinkChange)>,
    /// Whether pings reach the peer before their flush.
    eager: bool,
    strays: Vec<u64>,
    stalls: Vec<Range<u64>>,
}

#[derive(Debug, Clone, Copy)]
enum SinkChange {
    Block,
    Unblock,
    BlockFlush,
    UnblockFlush,
}

impl SinkChange {
    fn apply(self, sink: &SinkScript) {
        match self {
            Self::Block => sink.block(),
            Self::Unblock => sink.unblock(),
            Self::BlockFlush => sink.block_flush(),
            Self::UnblockFlush => sink.unblock_flush(),
        }
    }
}

fn millis(range: Range<u64>) -> impl Strategy<Value = u64> {
    // Short ones as often as long ones, and round ones that coincide.
    prop_oneof![
        range.clone(),
        range.clone().prop_map(|millis| millis / 10 + 1),
        range.prop_map(|millis| millis / 1000 * 1000 + 1000),
    ]
}

fn config() -> impl Strategy<Value = (u64, u64, u64, u64, u64, u32, f64, u64, bool)> {
    (
        millis(0..30_000),
        millis(1..30_000),
        millis(1..30_000),
        millis(1..30_000),
        millis(1..3_000),
        1..4_u32,
        prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0],
        prop_oneof![Just(0), 1..2_000_u64],
        prop::bool::weighted(0.8),
    )
}

fn life() -> impl Strategy<Value = Life> {
    let change = prop_oneof![
        Just(SinkChange::Block),
        Just(SinkChange::Unblock),
        Just(SinkChange::BlockFlush),
        Just(SinkChange::UnblockFlush),
    ];
    let stall = (millis(0..120_000), millis(1..40_000));
    (
        prop_oneof![Just(Path::Slot), Just(Path::Stream)],
        config(),
        prop::collection::vec(prop::option::weighted(0.9, millis(0..20_000)), 0..12),
        prop::collection::vec((millis(0..120_000), change), 0..10),
        any::<bool>(),
        prop::collection::vec(millis(0..120_000), 0..20),
        prop::collection::vec(stall, 0..4),
    )
        .prop_map(|(path, config, answers, sink, eager, strays, stalls)| {
            let (initial_delay, interval, timeout, write_timeout, close_timeout, ..) = config;
            let (.., max_missed, jitter, granularity, grace) = config;
            Life {
                path,
                initial_delay,
                interval,
                timeout,
                write_timeout,
                close_timeout,
                max_missed,
                jitter,
                granularity,
                grace,
                answers,
                sink,
                eager,
                strays,
                stalls: stalls.into_iter().map(|(at, len)| at..at + len).collect(),
            }
        })
}

impl Life {
    fn config(&self) -> ConfigBuilder {
        Config::builder()
            .initial_delay(ms(self.initial_delay))
            .interval(ms(self.interval))
            .timeout(ms(self.timeout))
            .write_timeout(ms(self.write_timeout))
            .close_timeout(ms(self.close_timeout))
            .max_missed(self.max_missed)
            .jitter(self.jitter)
            .granularity(ms(self.granularity))
            .stall_grace(self.grace)
    }

    fn rig(&self) -> Rig {
        let mut rig = Rig::new(self.path, self.config());
        let answers = self.answers.clone();
        rig.answer(move |ping| answers.get(ping).copied().flatten().map(ms));
        if self.eager {
            rig.sink.eager();
        }
        for (at, change) in self.sink.clone() {
            let sink = rig.sink.clone();
            rig.at(ms(at), move || change.apply(&sink));
        }
        for at in &self.strays {
            rig.pong_at(ms(*at), "stray");
        }
        for stall in &self.stalls {
            rig.stall(ms(stall.start)..ms(stall.end));
        }
        rig
    }

    /// The bound of the docs, from the last proof of life on.
    fn bound(&self, rig: &Rig, end: Duration) -> Duration {
        let start = rig.stalled_until(Duration::ZERO);
        // Before any proof: the first poll + initial delay − interval, so that the first ping is
        // due one interval after it.
        let (x, first_due) = match rig.proof() {
            Some(proof) => (proof, proof + ms(self.interval)),
            None => (start, start + ms(self.initial_delay)),
        };
        let longest = self.stalls.iter().map(|stall| ms(stall.end - stall.start));
        let longest = longest.max().unwrap_or_default();
        let stalled = rig.stalled_between(x, end);
        let (timeout, write_timeout) = (ms(self.timeout), ms(self.write_timeout));
        let grace = if self.grace {
            timeout.min(longest) + write_timeout.min(longest)
        } else {
            Duration::ZERO
        };
        let each = write_timeout + timeout + grace;
        let steps = ms(self.granularity) * (2 * self.max_missed + 2);
        first_due + self.max_missed * each + steps + stalled
    }
}

fn cases(cases: u32) -> Cases {
    Cases {
        cases,
        max_global_rejects: 100_000,
        failure_persistence: None,
        ..Cases::default()
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    // contract: D24
    #[test]
    fn it_always_resolves_within_its_bound_and_never_early(life in life()) {
        let mut rig = life.rig();
        // Long after all that happens: at 160 s at the latest the peer is silent for good.
        rig.run_until(s(2_000));
        let end = rig.ended_at().expect("it resolves");
        let Some(Err(Error::Timeout(verdict))) = rig.outcome() else {
            return Err(TestCaseError::fail(format!("{:?}", rig.outcome())));
        };

        let bound = life.bound(&rig, end) + ms(life.close_timeout) + ms(life.granularity);
        prop_assert!(end <= bound, "resolved at {end:?}, promised for {bound:?}");

        match verdict.phase() {
            TimeoutPhase::Pong => {
                prop_assert!(verdict.elapsed() >= ms(life.timeout));
                prop_assert_eq!(verdict.missed(), life.max_missed);
                // The close frame was written at the verdict, or not at all.
                if let (Some((at, _)), Some(flushed)) =
                    (rig.sink.closes().first(), rig.last_ping_flushed())
                {
                    prop_assert!(*at >= flushed + ms(life.timeout));
                }
            }
            TimeoutPhase::Write => {
                prop_assert!(verdict.elapsed() >= ms(life.write_timeout));
                prop_assert!(verdict.missed() < life.max_missed);
                prop_assert!(rig.sink.closes().is_empty());
            }
            phase => return Err(TestCaseError::fail(format!("{phase:?}"))),
        }

        // Dues: never before the first, never closer than the schedule, but for misses.
        if life.jitter == 0.0 {
            let pings = rig.sink.pings();
            if let Some(first) = pings.first() {
                prop_assert!(*first >= rig.stalled_until(Duration::ZERO) + ms(life.initial_delay));
            }
            let scheduled = pings.len() as u64 - rig.stats().missed().min(pings.len() as u64);
            let possible = 2 + (end.as_millis() as u64) / life.interval;
            prop_assert!(scheduled <= possible, "{scheduled} pings in {end:?}");
        }
    }

}

proptest! {
    #![proptest_config(cases(3_000))]

    // contract: H52 H53
    #[test]
    fn extra_polls_and_moved_wakers_change_nothing(life in life()) {
        // The jitter is random in each run; and with a granularity a poll that nothing called for
        // may see a deadline before the wake-up for it.
        let life = Life { jitter: 0.0, granularity: 0, ..life };
        let transcript = |prepare: fn(&mut Rig)| {
            let mut rig = life.rig();
            prepare(&mut rig);
            rig.run_until(s(2_000));
            rig.transcript()
        };
        let plain = transcript(|_| {});
        prop_assert_eq!(&transcript(|rig| rig.extra_polls = 2), &plain);
        prop_assert_eq!(&transcript(|rig| rig.moving = true), &plain);
    }

    // contract: F39 F40 J63
    #[test]
    fn no_stall_of_our_own_kills_a_live_peer(
        life in life(), share in 0.0..1.0, change in -1..=1_i8,
    ) {
        // A peer that answers all, in time but for the slack; a sink that takes all; and a reactor
        // that sees what came in during a stall only some time after it.
        let timeout = ms(life.timeout);
        let shortest = if change < 0 { timeout / 2 } else { timeout };
        let slack = (shortest / 8).clamp(ms(10), s(1)).min(shortest / 2);
        let rtt = (shortest - slack).mul_f64(share);
        // A stall shorter than the granularity cannot be told from rounding.
        let granularity = life.granularity.min((slack / 2).as_millis() as u64);
        let life = Life { sink: Vec::new(), grace: true, granularity, ..life };
        let mut rig = life.rig();
        let stalls = life.stalls.clone();
        let (world, reader) = (rig.world.clone(), rig.reader.clone());
        rig.sink.on_wire(move |frame| {
            let futures_pinger::Frame::Ping(payload) = frame else { return };
            let mut seen = world.elapsed() + rtt;
            while let Some(stall) = stalls.iter().find(|stall| {
                seen >= ms(stall.start) && seen < ms(stall.end)
            }) {
                seen = ms(stall.end);
            }
            if seen > world.elapsed() + rtt {
                seen += slack.mul_f64(0.4);
            }
            let reader = reader.clone();
            world.at(seen, move || reader.handle_pong(payload));
        });
        // Stalls that follow each other without a pause are one.
        let mut sorted = life.stalls.clone();
        sorted.sort_by_key(|stall| stall.start);
        // A timeout that grows makes them longer.
        let apart = if change > 0 { 4 } else { 2 } * life.timeout;
        prop_assume!(sorted.windows(2).all(|two| two[0].end + apart < two[1].start));
        // Each time that the process runs again it may set another timeout before it does anything else.
        for (stall, quarters) in sorted.iter().zip(1..).filter(|_| change != 0) {
            let controller = rig.controller();
            let timeout = match change {
                1.. => timeout + quarters * timeout / 4,
                _ => (timeout - quarters * timeout / 8).max(shortest),
            };
            let config = life.config().timeout(timeout).build().expect("valid");
            rig.at(ms(stall.end), move || {
                // Whether the heartbeat has ended is looked at below.
                let _ = controller.set_config(config);
            });
        }
        rig.run_until(s(400));
        prop_assert_eq!(rig.outcome(), None);
    }

    // contract: E36
    #[test]
    fn dropped_at_any_step_it_sends_nothing_more(life in life(), at in 0..100_000_u64) {
        let mut rig = life.rig();
        rig.run_until(ms(at));
        let frames = rig.sink.frames().len();
        rig.drop_heart();
        rig.run_until(s(200));
        prop_assert_eq!(rig.sink.frames().len(), frames);
        prop_assert!(!rig.sink.is_held());
        prop_assert_eq!(rig.world.timers(), 0);
    }
}
