//! Random scripts.

use std::ops::Range;

use futures_pinger::testing::Fault;
use proptest::prelude::*;

use crate::script::{Change, MILLISECOND, Options, Phase, Pong, Rule, Step, Time};

fn time(range: Range<u64>) -> impl Strategy<Value = Time> {
    // Round ones coincide.
    prop_oneof![
        2 => range.clone().prop_map(|millis| millis / 1000 * 1000 + 1000),
        1 => range.clone().prop_map(|millis| millis / 10 + 1),
        1 => range,
    ]
    .prop_map(|millis| millis * MILLISECOND)
}

pub fn options() -> impl Strategy<Value = Options> {
    (
        time(1..10_000),
        prop_oneof![Just(0), time(1..15_000)],
        time(1..10_000),
        time(1..8_000),
        prop::option::weighted(0.8, time(1..3_000)),
        1..4_u32,
        rule(),
        any::<bool>(),
    )
        .prop_map(
            |(interval, delay, timeout, write_timeout, close_timeout, missed, rule, grace)| {
                Options {
                    interval,
                    initial_delay: delay,
                    timeout,
                    write_timeout,
                    close_timeout,
                    max_missed: missed,
                    rule,
                    stall_grace: grace,
                }
            },
        )
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        10 => Just(Rule::Pong),
        3 => Just(Rule::AnyPong),
        3 => time(1..60_000).prop_map(Rule::Traffic),
        2 => time(1..15_000).prop_map(Rule::Watch),
        2 => time(1..15_000).prop_map(Rule::WatchPings),
    ]
}

fn pong() -> impl Strategy<Value = Pong> {
    prop_oneof![
        4 => Just(Pong::Newest),
        2 => (0..4_u8).prop_map(Pong::Earlier),
        1 => Just(Pong::Repeated),
        1 => any::<u8>().prop_map(Pong::Forged),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Block),
        3 => Just(Change::BlockFlush),
        8 => Just(Change::Unblock),
        1 => prop_oneof![Just(Fault::Ready), Just(Fault::Send), Just(Fault::Flush)]
            .prop_map(Change::Fail),
        2 => (1..64_u8).prop_map(Change::Yield),
    ]
}

/// Any step, and more often one that keeps it going. Stalls and configurations are such as a
/// heartbeat of that `grace` can do with.
pub fn step(phase: Option<Phase>, grace: bool) -> impl Strategy<Value = Step> {
    let answers = match phase {
        Some(Phase::Flushing | Phase::Waiting | Phase::Watching) => 40,
        _ => 15,
    };
    let resumes = match phase {
        Some(Phase::Paused) => 20,
        _ => 3,
    };
    prop_oneof![
        20 => time(1..12_000).prop_map(Step::Pass),
        3 => (time(1..20_000), any::<bool>()).prop_map(move |(time, pong)| match grace {
            true => Step::Pass(time),
            false => Step::Stall(time, pong),
        }),
        2 => time(1..20_000).prop_map(Step::Suspend),
        answers => pong().prop_map(Step::Pong),
        1 => any::<u8>().prop_map(Step::Strays),
        4 => prop_oneof![Just(Step::Activity), Just(Step::PeerPing)],
        6 => change().prop_map(Step::Sink),
        3 => (0..3_u8).prop_map(Step::PingsNow),
        3 => prop_oneof![1 => Just(0), 9 => time(1..15_000)].prop_map(Step::Probe),
        2 => Just(Step::Pause),
        resumes => Just(Step::Resume),
        3 => options().prop_map(move |options| Step::Configure(Options { stall_grace: grace, ..options })),
        1 => prop_oneof![Just(Step::EndPongs), Just(Step::Stop), Just(Step::Close)],
        1 => Just(Step::Attach),
    ]
}

/// A configuration, and a script for it that the model need not know.
pub fn script() -> impl Strategy<Value = (Options, Vec<Step>)> {
    let stall = (time(1..20_000), any::<bool>());
    let stall = stall.prop_map(|(time, pong)| Step::Stall(time, pong));
    let step = prop_oneof![12 => step(None, true), 1 => stall];
    (options(), prop::collection::vec(step, 0..60))
}
