//! R. The figures of one heartbeat: entered once, shown at once, alike on every surface.

use std::thread;
use std::time::Duration;

use futures_pinger::{ConfigBuilder, Controller, HeartbeatState, Liveness, PongKind};
use proptest::prelude::*;

use crate::bare::Bare;
use crate::every_surface::{Surface, build, counters, each_steered, surfaces, trusting};
use crate::world::{Path, Rig, exact, ms, s};

// contract: R119
#[test]
fn a_pong_told_to_a_handle_is_in_the_stats_of_each_at_once() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let controller = (path == Path::Slot).then(|| rig.controller());
        rig.run_until(s(20) + ms(70));
        let all = |rig: &Rig| {
            let polls = rig.polls();
            let mut all = vec![rig.stats()];
            all.extend(controller.as_ref().map(Controller::stats));
            assert_eq!(rig.polls(), polls);
            all
        };
        let stray = rig.reader.send("stray");
        assert_eq!(stray, Ok(PongKind::Unsolicited));
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 0, 0, 0, 1], "{path:?}");
        }
        let matched = rig.reader.send(rig.sink.payload(0));
        assert_eq!(matched, Ok(PongKind::Matched { rtt: ms(70) }));
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 1, 0, 0, 1], "{path:?}");
            assert_eq!(stats.latest_rtt(), Some(ms(70)));
            assert_eq!(
                stats.state_at(rig.world.instant(s(21))),
                HeartbeatState::Idle
            );
        }
        let again = rig.reader.send(rig.sink.payload(0));
        assert_eq!(again, Ok(PongKind::Unsolicited), "entered once");
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 1, 0, 0, 2], "{path:?}");
        }
        // The driver has nothing to add.
        rig.run_until(s(30));
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 1, 0, 0, 2], "{path:?}");
        }
    }
}

// contract: R119
#[test]
fn a_stale_pong_and_an_answer_by_policy_are_in_the_stats_at_once() {
    for path in [Path::Slot, Path::Set] {
        let config = exact().timeout(s(5)).max_missed(9);
        let mut rig = Rig::new(path, config.clone());
        rig.run_until(s(26));
        assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
        assert_eq!(counters(rig.stats()), [2, 0, 1, 1, 0], "{path:?}");

        let mut rig = Rig::new(path, config.clone().liveness(Liveness::AnyPong));
        rig.run_until(s(21));
        assert_eq!(
            rig.reader.send("mangled"),
            Ok(PongKind::Accepted { ours: true })
        );
        assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 0], "{path:?}");

        let mut rig = Rig::new(path, config.liveness(trusting(s(1000))));
        rig.run_until(s(21));
        rig.reader.handle_activity();
        assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 0], "{path:?}");
    }
}

// contract: R119
#[test]
fn activity_told_to_a_controller_is_in_the_stats_of_each_at_once() {
    let config = exact().liveness(trusting(s(1000)));
    each_steered(&config, |mut surface, controller| {
        surface.run_until(s(21));
        controller.handle_activity().expect("it runs");
        for stats in [surface.stats(), controller.stats()] {
            assert_eq!(counters(stats), [1, 1, 0, 0, 0], "{}", surface.name());
        }
    });
}

// contract: R119
#[test]
fn what_the_task_has_read_is_in_the_controllers_stats() {
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(21));
        let payload = surface.payload(0);
        surface.arrives("stray".into());
        surface.arrives(payload);
        surface.run_until(s(21));
        assert_eq!(surface.stats(), controller.stats(), "{}", surface.name());
        assert_eq!(counters(controller.stats()), [1, 1, 0, 0, 1]);
    });
}

// contract: R119
#[test]
fn of_a_pong_that_many_threads_tell_one_is_entered() {
    const THREADS: u64 = 8;
    for path in [Path::Slot, Path::Set] {
        for _ in 0..20 {
            let mut rig = Rig::new(path, exact());
            rig.run_until(s(21));
            let payload = rig.sink.payload(0);
            let start = std::sync::Barrier::new(THREADS as usize);
            let matched: u64 = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        let (reader, payload, start) =
                            (rig.reader.clone(), payload.clone(), &start);
                        scope.spawn(move || {
                            start.wait();
                            let kind = reader.send(payload).expect("it runs");
                            u64::from(matches!(kind, PongKind::Matched { .. }))
                        })
                    })
                    .collect();
                threads.into_iter().map(|it| it.join().unwrap()).sum()
            });
            assert_eq!(matched, 1);
            assert_eq!(counters(rig.stats()), [1, 1, 0, 0, THREADS - 1]);
            rig.run_until(s(22));
            assert_eq!(counters(rig.stats()), [1, 1, 0, 0, THREADS - 1]);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Activity,
    Mangled,
    /// Of the ping so many before the newest.
    Right(usize),
}

/// All of it comes at once: what follows from the first is not there yet when the last comes.
fn befall(surface: &mut Surface, inputs: &[Input]) {
    let newest = surface.pings().len();
    for input in inputs {
        match input {
            Input::Activity => surface.activity(),
            Input::Mangled => surface.arrives("mangled".into()),
            Input::Right(back) => {
                if let Some(ping) = newest.checked_sub(1 + back) {
                    let payload = surface.payload(ping);
                    surface.arrives(payload);
                }
            }
        }
    }
}

/// The surfaces that can be told all of that: a stream of pongs has no data.
fn surfaces_for(config: &ConfigBuilder, inputs: &[Input]) -> Vec<Surface> {
    let mut surfaces = surfaces(config);
    if inputs.contains(&Input::Activity) {
        surfaces.retain(|surface| !matches!(surface, Surface::Rig(Path::Stream, _)));
    }
    surfaces
}

// contract: R120
#[test]
fn activity_a_mangled_and_a_right_pong_between_two_polls_count_alike_in_any_order() {
    use Input::{Activity, Mangled, Right};
    let orders = [
        &[Activity, Mangled, Right(0)][..],
        &[Activity, Right(0), Mangled],
        &[Mangled, Activity, Right(0)],
        &[Mangled, Right(0), Activity],
        &[Right(0), Activity, Mangled],
        &[Right(0), Mangled, Activity],
        &[Activity, Activity],
        &[Activity, Activity, Right(0), Activity],
        &[Mangled, Right(0)],
        &[Right(0), Mangled],
        &[Mangled, Mangled, Right(0)],
        &[Right(0), Right(0)],
    ];
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        for order in orders {
            // Of these a pong counts as unsolicited that answered nothing and proved nothing.
            let (mut answered, mut proved, mut unsolicited) = (false, false, 0);
            for input in order {
                match (input, liveness) {
                    (Right(_), _) if !proved => (answered, proved) = (true, true),
                    (Right(_), _) => unsolicited += 1,
                    (Activity, Liveness::Activity { .. }) => answered = true,
                    (Activity, _) => {}
                    (Mangled, Liveness::Pong) => unsolicited += 1,
                    (Mangled, _) if !answered => answered = true,
                    (Mangled, _) => unsolicited += 1,
                }
            }
            let config = exact().liveness(liveness);
            for mut surface in surfaces_for(&config, order) {
                surface.run_until(s(21));
                befall(&mut surface, order);
                surface.run_until(s(22));
                assert_eq!(
                    counters(surface.stats()),
                    [1, answered.into(), 0, 0, unsolicited],
                    "{} under {liveness:?}: {order:?}",
                    surface.name()
                );
                // The right pong measures, also where something else answered first.
                assert_eq!(
                    surface.stats().latest_rtt(),
                    proved.then_some(s(1)),
                    "{} under {liveness:?}: {order:?}",
                    surface.name()
                );
            }
        }
    }
}

// contract: R120
#[test]
fn data_is_never_an_unsolicited_pong() {
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        let config = exact().liveness(liveness);
        for mut surface in surfaces_for(&config, &[Input::Activity]) {
            for second in 0..60 {
                surface.run_until(s(second) + ms(500));
                for _ in 0..3 {
                    surface.activity();
                }
            }
            surface.run_until(s(60));
            assert_eq!(surface.stats().unsolicited(), 0, "{}", surface.name());
        }
    }
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let input = prop_oneof![
        2 => Just(Input::Activity),
        2 => Just(Input::Mangled),
        4 => (0..3_usize).prop_map(Input::Right),
    ];
    prop::collection::vec(input, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // contract: R120
    #[test]
    fn one_script_counts_alike_on_all_surfaces(
        // Never at the time at which something is due.
        script in prop::collection::vec((1..120_u64, inputs()), 0..12),
        liveness in prop_oneof![
            Just(Liveness::Pong),
            Just(Liveness::AnyPong),
            Just(trusting(Duration::from_secs(50))),
        ],
        timeout in 1..30_u64,
        max_missed in 1..4_u32,
        data in any::<bool>(),
    ) {
        let mut script = script;
        if liveness != Liveness::Pong {
            // Between two messages of its application a `KeepAlive` looks at the time: a ping that is due
            // leaves, and what was there before it may answer it.
            for (_, inputs) in &mut script {
                inputs.truncate(1);
            }
        }
        script.sort_by_key(|(at, _)| *at);
        if !data {
            for (_, inputs) in &mut script {
                inputs.retain(|input| *input != Input::Activity);
            }
        }
        let config = exact().interval(s(10)).timeout(s(timeout)).max_missed(max_missed).liveness(liveness);
        let all: Vec<_> = script.iter().flat_map(|(_, inputs)| inputs.clone()).collect();
        let mut expected = None;
        for mut surface in surfaces_for(&config, &all) {
            for (at, inputs) in &script {
                surface.run_until(s(*at) + ms(137));
                if surface.verdict().is_some() {
                    break;
                }
                befall(&mut surface, inputs);
            }
            surface.run_until(s(150));
            let lived = (surface.pings(), surface.verdict(), counters(surface.stats()));
            let expected = expected.get_or_insert_with(|| lived.clone());
            prop_assert_eq!(&lived, expected, "{}", surface.name());
        }
    }
}

// contract: R121
#[test]
fn a_timeout_where_there_was_none_is_judged_at_one_time_by_all() {
    for (given, judged) in [
        (s(25), s(40)),
        (s(38), s(40)),
        // Its checkpoint is past then: it is judged one slack later.
        (s(39) + ms(500), s(40) + ms(500)),
        (s(100), s(101)),
    ] {
        let config = exact().initial_delay(s(20)).interval(s(3600));
        each_steered(&config.clone().no_timeout(), |mut surface, controller| {
            surface.run_until(given);
            controller
                .set_config(build(config.clone()))
                .expect("it runs");
            surface.run_until(s(300));
            let at = surface.verdict().expect("a verdict");
            let name = surface.name();
            assert!(judged <= at && at < judged + ms(1), "{name}: {at:?}");
            assert_eq!(surface.stats().late_wakes(), 0, "{name}");
            assert_eq!(controller.stats().late_wakes(), 0, "{name}");
        });
        let mut bare = Bare::new(config.clone().no_timeout());
        bare.run_until(given);
        bare.set_config(config);
        bare.run_until(s(300));
        let (at, _) = bare.timed_out();
        assert!(judged <= at && at < judged + ms(1), "{at:?}");
        assert_eq!(bare.stats().late_wakes(), 0);
    }
}
