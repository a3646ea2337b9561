//! Q. First pings at random: connections that come back together do not ping together.

use std::time::Duration;

use futures::StreamExt;
use futures_pinger::{Clock, ConfigBuilder, Heartbeat, Output, PingerSet};

use crate::every_surface::{build, each_steered, each_surface};
use crate::socket::Kept;
use crate::world::{Path, Rig, World, exact, ms, s};

fn at_random() -> ConfigBuilder {
    exact().initial_delay_at_random()
}

/// The share of the draws is even in each tenth of the interval, and none lies beyond it.
// contract: Q114
#[test]
fn first_pings_are_spread_evenly_over_the_whole_interval() {
    let start = Clock::system().now();
    let mut tenths = [0; 10];
    for number in 0_u32..20_000 {
        let mut key = [7; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let mut heartbeat = Heartbeat::with_key(build(at_random()), start, key);
        let Output::Wait(Some(due)) = heartbeat.poll_output(start) else {
            panic!("it is never due at once");
        };
        let wait = due.saturating_duration_since(start);
        assert!(Duration::ZERO < wait && wait <= s(20));
        tenths[((wait.as_nanos() - 1) / 2_000_000_000) as usize] += 1;
    }
    for tenth in tenths {
        assert!((1800..2200).contains(&tenth), "{tenths:?}");
    }
}

// contract: Q114
#[test]
fn the_first_pings_of_each_surface_are_spread() {
    let spread = |first: Vec<Duration>| {
        assert!(first.iter().all(|at| *at <= s(20)), "{first:?}");
        let early = first.iter().filter(|at| **at < s(10)).count();
        assert!((20..80).contains(&early), "of 100: {early}");
    };
    let first = |rig: &mut Rig| {
        rig.run_until(s(20));
        rig.sink.pings()[0]
    };
    for path in [Path::Slot, Path::Stream] {
        spread(
            (0..100)
                .map(|_| first(&mut Rig::new(path, at_random())))
                .collect(),
        );
    }
    let kept = (0..100).map(|_| {
        let mut kept = Kept::new(at_random());
        kept.run_until(s(20));
        kept.script.pings()[0]
    });
    spread(kept.collect());
    // The members of a set share a key.
    let world = World::new();
    let set = PingerSet::new(build(at_random())).with_timer(world.timer());
    let (sinks, members): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let (outgoing, script) = world.sink();
            (script, set.insert(outgoing))
        })
        .unzip();
    world.spawn(async move { drop(set.collect::<Vec<_>>().await) });
    world.run_until(s(20));
    spread(sinks.iter().map(|sink| sink.pings()[0]).collect());
    drop(members);
}

// contract: Q114
#[test]
fn jitter_shortens_the_waits_after_the_first_alone() {
    for _ in 0..50 {
        let mut rig = Rig::new(Path::Slot, at_random().jitter(0.1));
        rig.answer_after(ms(1));
        rig.run_until(s(45));
        let pings = rig.sink.pings();
        let wait = pings[1] - pings[0];
        assert!(s(18) <= wait && wait <= s(20), "{pings:?}");
    }
}

/// The draw is the heartbeat's, and not made anew when another configuration asks for it.
// contract: Q114
#[test]
fn another_interval_spreads_by_the_same_draw() {
    each_steered(&at_random(), |mut surface, controller| {
        surface.run_until(ms(1));
        for _ in 0..10 {
            let same = build(at_random().timeout(s(7)));
            controller.set_config(same).expect("it goes on");
            let twice = build(at_random().interval(s(40)));
            controller.set_config(twice).expect("it goes on");
        }
        surface.run_until(s(40));
        assert_eq!(surface.pings().len(), 1, "{}", surface.name());
    });
    let start = Clock::system().now();
    let due = |heartbeat: &mut Heartbeat| match heartbeat.poll_output(start) {
        Output::Wait(Some(due)) => due.saturating_duration_since(start),
        other => panic!("{other:?}"),
    };
    let mut heartbeat = Heartbeat::with_key(build(at_random()), start, [3; 16]);
    let once = due(&mut heartbeat);
    for _ in 0..3 {
        heartbeat.set_config(build(at_random().interval(s(40))), start);
        let twice = due(&mut heartbeat);
        assert!((2 * once).abs_diff(twice) < ms(1), "{once:?}, {twice:?}");
        heartbeat.set_config(build(at_random()), start);
        assert_eq!(due(&mut heartbeat), once);
    }
}

// contract: Q114
#[test]
fn the_later_of_the_two_initial_delays_counts() {
    each_surface(&at_random().initial_delay(s(3)), |mut surface| {
        surface.run_until(s(4));
        assert_eq!(surface.pings(), [s(3)], "{}", surface.name());
    });
    let config = build(exact().initial_delay(s(3)).initial_delay_at_random());
    assert!(config.initial_delay_at_random());
    assert_eq!(config.initial_delay(), s(20));
    let bound = config.detection_bound();
    assert_eq!(bound, build(exact()).detection_bound());
}
