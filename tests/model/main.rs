//! Every heartbeat of the crate against one model of it, through random scripts in virtual time.
//!
//! `model` says what a heartbeat does, `script` what may happen to it, `system` what goes through
//! the scripts: another shell joins by one `impl`.
//!
//! The model knows `Liveness::Pong`, `AnyPong` and `Traffic`, heartbeats that only watch, and stalls where
//! there is no grace for them. Of the rest (`Activity`, the grace, adaptive and absent timeouts, jitter, granularity) `oracle` knows
//! the promises alone: never early, within the bound, one ping in flight. `fuzz` shares all this.

// One crate: what its modules share is their own business.
#![allow(unreachable_pub)]
// Times here are made up, and small.
#![allow(clippy::unchecked_time_subtraction, clippy::cast_possible_truncation)]

mod bare;
// A rule in a line: not as lines are broken elsewhere.
#[rustfmt::skip]
mod model;
mod oracle;
mod script;
mod shells;
mod steps;
mod system;

use std::marker::PhantomData;

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use crate::bare::Bare;
use crate::model::Model;
use crate::oracle::Oracle;
use crate::script::{Options, Rule, Seen, Step};
use crate::shells::{BySlot, ByStream, InSet, Kept, Run};
use crate::system::{Driver, System};

fn cases(cases: u32) -> Cases {
    Cases {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Cases::default()
    }
}

/// What a system goes through beside the model.
struct Against<S>(PhantomData<S>);

impl<S: System> ReferenceStateMachine for Against<S> {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        let options = steps::options().prop_map(|mut options| {
            if !S::KNOWN_BY_ANY_PONG && options.rule.is_answered_by_strays() {
                options.rule = Rule::Pong;
            }
            options
        });
        options.prop_map(Model::new).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Step> {
        steps::step(Some(model.phase), model.o.stall_grace).boxed()
    }

    fn preconditions(model: &Model, step: &Step) -> bool {
        model.knows_of::<S>(step)
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        model.step(step);
        model
    }
}

impl<S: System> StateMachineTest for Against<S> {
    type SystemUnderTest = Driver<S>;
    type Reference = Self;

    fn init_test(model: &Model) -> Driver<S> {
        let driver = Driver::start(model.o.config());
        model.check(&driver);
        driver
    }

    fn apply(mut driver: Driver<S>, model: &Model, step: Step) -> Driver<S> {
        driver.step(&step);
        model.check(&driver);
        driver
    }
}

type ByHand = Against<Bare>;
type Slot = Against<Run<BySlot>>;
type Streamed = Against<Run<ByStream>>;
type Socket = Against<Run<Kept>>;
type Membership = Against<Run<InSet>>;

prop_state_machine! {
    #![proptest_config(cases(4000))]

    #[test]
    fn the_bare_heartbeat_does_as_the_model(sequential 1..80 => ByHand);
}

prop_state_machine! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_pinger_with_a_slot_does_as_the_model(sequential 1..80 => Slot);

    #[test]
    fn a_pinger_with_a_stream_does_as_the_model(sequential 1..80 => Streamed);

    #[test]
    fn a_keep_alive_does_as_the_model(sequential 1..80 => Socket);

    // contract: M75
    #[test]
    fn a_member_of_a_set_does_as_the_model(sequential 1..80 => Membership);
}

/// The steps that such a system has a way to take.
fn possible<S: System>(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().filter(|step| S::can(step))
}

/// What is seen behind each step.
fn transcript<S: System>((options, steps): &Script, prepare: fn(&mut S)) -> Vec<Seen> {
    let mut driver = Driver::<S>::start(options.config());
    prepare(&mut driver.system);
    let seen = possible::<S>(steps).map(|step| {
        driver.step(step);
        driver.seen()
    });
    seen.collect()
}

type Script = (Options, Vec<Step>);

fn keeps_its_promises<S: System>((options, steps): &Script) {
    let mut driver = Driver::<S>::start(options.config());
    let mut oracle = Oracle::new(options.config());
    for step in possible::<S>(steps) {
        driver.step(step);
        oracle.check(step, &driver);
    }
}

fn is_the_same_each_time<S: System>(script: &Script) {
    let plain = transcript::<S>(script, |_| {});
    assert_eq!(transcript::<S>(script, |_| {}), plain, "once more");
    // Apart: a poll without a reason makes up for a wake-up that was lost.
    assert_eq!(transcript(script, S::poll_more), plain, "polled more");
    assert_eq!(transcript(script, S::move_about), plain, "moved about");
}

fn leaves_nothing_behind<S: System>((options, steps): &Script, at: prop::sample::Index) {
    let mut driver = Driver::<S>::start(options.config());
    let (before, after) = steps.split_at(at.index(steps.len() + 1));
    possible::<S>(before).for_each(|step| driver.step(step));
    let sent = driver.seen().frames;
    assert!(driver.system.drop_heartbeat(), "something is still held");
    let after = possible::<S>(after).filter(|step| !matches!(step, Step::Stall(..)));
    after.for_each(|step| driver.step(step));
    assert_eq!(driver.seen().frames, sent);
}

proptest! {
    #![proptest_config(cases(300))]

    // Also where a stall has its grace, of which the model says nothing.
    // contract: D24
    #[test]
    fn each_keeps_its_promises_in_every_script(script in steps::script()) {
        keeps_its_promises::<Bare>(&script);
        keeps_its_promises::<Run<BySlot>>(&script);
        keeps_its_promises::<Run<ByStream>>(&script);
        keeps_its_promises::<Run<Kept>>(&script);
        keeps_its_promises::<Run<InSet>>(&script);
    }

    // contract: H52 H53
    #[test]
    fn polls_without_a_reason_and_moved_wakers_change_nothing(script in steps::script()) {
        is_the_same_each_time::<Bare>(&script);
        is_the_same_each_time::<Run<BySlot>>(&script);
        is_the_same_each_time::<Run<ByStream>>(&script);
        is_the_same_each_time::<Run<Kept>>(&script);
        is_the_same_each_time::<Run<InSet>>(&script);
    }

    // contract: E36
    #[test]
    fn dropped_at_any_step_they_leave_nothing_behind(
        script in steps::script(),
        at in any::<prop::sample::Index>(),
    ) {
        leaves_nothing_behind::<Bare>(&script, at);
        leaves_nothing_behind::<Run<BySlot>>(&script, at);
        leaves_nothing_behind::<Run<ByStream>>(&script, at);
        leaves_nothing_behind::<Run<Kept>>(&script, at);
        leaves_nothing_behind::<Run<InSet>>(&script, at);
    }
}

// A ping that is due goes out between two polls' worth of reading. What was there before answers it too,
// and no later one.
// contract: B11 O96
#[test]
fn strays_that_came_before_a_ping_answer_that_one_and_no_later_one() {
    let second = 1000 * script::MILLISECOND;
    let options = Options {
        interval: second,
        initial_delay: 0,
        timeout: 2 * second,
        rule: Rule::AnyPong,
        ..Options::default()
    };
    let mut driver = Driver::<Run<ByStream>>::start(options.config());
    driver.step(&Step::Pass(second));
    driver.step(&Step::Strays(65));
    assert_eq!(driver.seen().answered, 2);
    driver.step(&Step::Pass(4 * second));
    assert_eq!(driver.seen().answered, 2);
}
