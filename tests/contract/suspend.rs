//! P. A machine that slept.

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures_pinger::testing::World;
use futures_pinger::{
    AsyncIoTimer, Config, ConfigBuilder, FuturesTimer, HeartbeatState, PingerSet, Timer, TokioTimer,
};

use crate::every_surface::{Surface, build, each_surface, trusting};
use crate::socket::Msg;
use crate::world::{NO_PINGS, exact, ms, s};

/// Runs a test on each surface that has a timer.
fn each_timed(config: &ConfigBuilder, test: impl Fn(Surface)) {
    each_surface(config, |surface| {
        if !matches!(surface, Surface::Bare(_)) {
            test(surface);
        }
    });
}

fn world(surface: &Surface) -> &World {
    match surface {
        Surface::Rig(_, rig) => &rig.world,
        Surface::KeepAlive(kept) => &kept.world,
        Surface::Bare(_) => unreachable!("it has no timer"),
    }
}

/// One poll, for no reason that the heartbeat would know of.
fn poll(surface: &mut Surface) {
    match surface {
        Surface::Rig(_, rig) => rig.poll(),
        Surface::KeepAlive(kept) => while kept.read_once() {},
        Surface::Bare(_) => unreachable!("it has no timer"),
    }
}

// contract: P107
#[test]
fn after_a_sleep_of_more_than_the_interval_one_ping_leaves_at_once() {
    for config in [exact(), exact().liveness(trusting(s(86_400)))] {
        each_timed(&config, |mut surface| {
            let name = surface.name();
            surface.run_until(s(5));
            world(&surface).suspend(s(20) + ms(1));
            assert_eq!(surface.pings(), NO_PINGS, "{name}");
            poll(&mut surface);
            surface.run_until(s(5));
            assert_eq!(surface.pings(), [s(5)], "{name}");
            let payload = surface.payload(0);
            surface.arrives(payload);
            // The sleep counts once, and the schedule goes on from that ping.
            for second in 6..25 {
                surface.run_until(s(second));
                poll(&mut surface);
            }
            assert_eq!(surface.pings(), [s(5)], "{name}");
            surface.run_until(s(25));
            assert_eq!(surface.pings(), [s(5), s(25)], "{name}");
        });
    }
}

// contract: P107
#[test]
fn a_shorter_sleep_changes_nothing_and_short_ones_add_up_until_somebody_looks() {
    each_timed(&exact(), |mut surface| {
        let name = surface.name();
        for second in 1..5 {
            surface.run_until(s(second));
            world(&surface).suspend(s(20));
            poll(&mut surface);
        }
        surface.run_until(s(5));
        assert_eq!(surface.pings(), NO_PINGS, "{name}");
        world(&surface).suspend(s(15));
        surface.run_until(s(6));
        world(&surface).suspend(s(15));
        poll(&mut surface);
        surface.run_until(s(6));
        assert_eq!(surface.pings(), [s(6)], "{name}");
    });
}

// contract: P107
#[test]
fn the_sleep_judges_nothing_and_a_ping_that_is_out_is_enough() {
    each_timed(&exact(), |mut surface| {
        let name = surface.name();
        surface.run_until(s(21));
        world(&surface).suspend(s(86_400));
        poll(&mut surface);
        surface.run_until(s(40) - ms(1));
        assert_eq!(surface.pings(), [s(20)], "{name}");
        assert_eq!(surface.verdict(), None, "{name}");
        assert_eq!(surface.stats().late_wakes(), 0, "{name}");
        surface.run_until(s(40));
        assert_eq!(surface.verdict(), Some(s(40)), "{name}");
        world(&surface).suspend(s(86_400));
        surface.run_until(s(100));
        assert_eq!(surface.pings(), [s(20)], "{name}");
    });
}

// contract: P107
#[test]
fn a_sleep_before_the_begin_is_none_of_the_heartbeats() {
    each_timed(&exact(), |mut surface| {
        let name = surface.name();
        world(&surface).suspend(s(86_400));
        surface.run_until(s(20) - ms(1));
        poll(&mut surface);
        assert_eq!(surface.pings(), NO_PINGS, "{name}");
        surface.run_until(s(20));
        assert_eq!(surface.pings(), [s(20)], "{name}");
    });
}

// contract: P107
#[test]
fn where_no_pings_are_sent_a_sleep_changes_nothing() {
    let watch = Config::builder().granularity(Duration::ZERO).watch(s(30));
    each_timed(&watch, |mut surface| {
        surface.run_until(s(5));
        world(&surface).suspend(s(86_400));
        poll(&mut surface);
        surface.run_until(s(30) - ms(1));
        assert_eq!(surface.verdict(), None, "{}", surface.name());
        surface.run_until(s(30));
        assert_eq!(surface.verdict(), Some(s(30)), "{}", surface.name());
        assert_eq!(surface.pings(), NO_PINGS, "{}", surface.name());
    });
    each_timed(&exact(), |mut surface| {
        let controller = match &mut surface {
            Surface::KeepAlive(kept) => kept.alive.controller(),
            Surface::Rig(crate::world::Path::Slot, rig) => rig.controller(),
            _ => return,
        };
        surface.run_until(s(5));
        controller.pause().expect("it runs");
        world(&surface).suspend(s(86_400));
        poll(&mut surface);
        surface.run_until(s(60));
        assert_eq!(surface.state(), HeartbeatState::Paused);
        assert_eq!(surface.pings(), NO_PINGS, "{}", surface.name());
    });
}

// contract: P107
#[test]
fn a_socket_looks_when_a_message_wakes_its_reader_and_while_its_application_works() {
    let mut kept = crate::socket::Kept::new(exact());
    // Its reader has come to rest, with nothing to look at.
    kept.run_until(s(5));
    kept.script.receive(Msg::Data(1));
    kept.run_until(s(6));
    kept.world.suspend(s(3600));
    kept.script.receive(Msg::Data(2));
    kept.run_until(s(6));
    assert_eq!(kept.script.pings(), [s(6)]);

    let mut kept = crate::socket::Kept::new(exact());
    assert!(kept.poll_heartbeat().is_pending());
    kept.idle_until(s(7));
    kept.world.suspend(s(3600));
    assert!(kept.poll_heartbeat().is_pending());
    assert_eq!(kept.script.pings(), [s(7)]);
}

// contract: P107
#[test]
fn a_set_wakes_its_members_by_the_thousand() {
    let world = World::new();
    let config = exact().granularity(ms(100)).timeout(s(60));
    let mut set = PingerSet::new(build(config)).with_timer(world.timer());
    let mut members = Vec::new();
    let mut sinks = Vec::new();
    for _ in 0..3000 {
        let (outgoing, sink) = world.sink();
        members.push(set.insert(outgoing));
        sinks.push(sink);
    }
    // One has left, and one has its ping out.
    members.swap_remove(17);
    let mut driving = world.task(async move {
        let end = set.next().await;
        panic!("{end:?}");
    });
    driving.run_until(s(5));
    world.suspend(s(3600));
    driving.poll();
    driving.run_until(s(6));
    let pings: Vec<_> = sinks.iter().flat_map(|sink| sink.pings()).collect();
    assert_eq!(pings.len(), 2999);
    let at = |time| pings.iter().filter(|ping| **ping == time).count();
    assert_eq!([at(s(5)), at(s(5) + ms(100))], [1023, 1024]);
    assert_eq!(at(s(5) + ms(200)), 952);
}

// contract: P107
#[test]
fn timers_of_timers_tell_the_sleep_and_those_of_the_runtimes_tell_none_while_awake() {
    fn asleep<T: Timer>(timer: &T) -> Duration {
        timer.asleep()
    }

    let world = World::new();
    world.suspend(s(7));
    let mut timer = world.timer();
    assert_eq!(asleep(&&mut timer), s(7));
    assert_eq!(asleep(&Pin::new(&mut timer)), s(7));
    assert_eq!(asleep(&Box::new(timer)), s(7));
    for asleep in [
        FuturesTimer::new().asleep(),
        TokioTimer::new().asleep(),
        AsyncIoTimer::new().asleep(),
    ] {
        assert!(asleep < s(1), "{asleep:?}");
    }
}

// contract: P107
#[test]
fn a_member_whose_own_interval_is_no_shorter_than_the_sleep_keeps_its_schedule() {
    for asleep in [s(15), s(20)] {
        let world = World::new();
        let mut set = PingerSet::new(build(exact())).with_timer(world.timer());
        let often = build(exact().interval(s(10)));
        let (outgoing, seldom_pinged) = world.sink();
        let _seldom = set.insert(outgoing);
        let (outgoing, often_pinged) = world.sink();
        let _often = set.insert_with(&often, outgoing).expect("it suits the set");
        let mut driving = world.task(async move {
            let end = set.next().await;
            panic!("{end:?}");
        });
        driving.run_until(s(5));
        world.suspend(asleep);
        driving.poll();
        driving.run_until(s(6));
        assert_eq!(often_pinged.pings(), [s(5)]);
        assert_eq!(seldom_pinged.pings(), NO_PINGS);
    }
}
