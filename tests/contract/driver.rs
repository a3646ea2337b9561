//! R. How often the driver is woken, and when it ends.

use std::time::Duration;

use futures_pinger::{Config, ConfigBuilder, Liveness, PongKind, TimeoutPhase};

use crate::bare::Bare;
use crate::every_surface::{each_surface, trusting};
use crate::socket::Kept;
use crate::world::{Path, Rig, SinkScript, each_pinger, exact, ms, s};

// contract: R126
#[test]
fn the_end_of_the_pongs_during_the_close_ends_it_with_its_verdict() {
    each_pinger(|path| {
        for block in [SinkScript::block, SinkScript::block_flush] {
            let mut rig = Rig::new(path, exact());
            let sink = rig.sink.clone();
            rig.at(s(30), move || block(&sink));
            let reader = rig.reader.clone();
            rig.at(s(40) + ms(500), move || reader.end());
            rig.run_until(s(40) + ms(499));
            rig.assert_alive();
            rig.run_until(s(60));
            let (at, verdict) = rig.verdict();
            assert_eq!(at, s(40) + ms(500), "{path:?}");
            assert_eq!(verdict.phase(), TimeoutPhase::Pong);
            assert!(!verdict.close_sent());
            assert_eq!(rig.world.timers(), 1, "its own, kept by the Rig");
        }
        let (mut rig, out) = Rig::dedicated(path, exact());
        out.block();
        let reader = rig.reader.clone();
        rig.at(s(40) + ms(500), move || reader.end());
        rig.run_until(s(60));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(40) + ms(500), false));
        assert_eq!(out.frames().len(), 0);
    });
}

/// The interval and the timeout that are the defaults.
fn defaults() -> ConfigBuilder {
    Config::builder().interval(s(15)).timeout(s(20))
}

// contract: R128
#[test]
fn a_ping_that_is_answered_at_once_costs_one_wake_and_one_arming() {
    // On the grid of the default granularity, too.
    for config in [defaults(), defaults().granularity(s(0))] {
        for path in [Path::Slot, Path::Stream, Path::Set] {
            let mut rig = Rig::new(path, config.clone());
            rig.answer_after(ms(30));
            rig.run_until(s(16));
            let before = (rig.sink.pings().len(), rig.wakes(), rig.world.resets());
            rig.run_until(s(16 + 1500));
            assert_eq!(rig.sink.pings().len() - before.0, 100);
            // A stream of pongs has no way to know which of them matters.
            let wakes = if path == Path::Stream { 200 } else { 100 };
            assert_eq!(rig.wakes() - before.1, wakes, "{path:?}");
            assert_eq!(rig.world.resets() - before.2, 100, "{path:?}");
        }
        let mut kept = Kept::new(config);
        kept.answer_after(ms(30));
        kept.run_until(s(16));
        let before = (kept.script.pings().len(), kept.world.resets());
        kept.run_until(s(16 + 1500));
        assert_eq!(kept.script.pings().len() - before.0, 100);
        assert_eq!(kept.world.resets() - before.1, 100, "KeepAlive");
    }
}

// contract: R128
#[test]
fn the_wait_of_a_ping_that_is_out_is_for_the_checkpoint_or_the_next_due_time() {
    let waits = |config: ConfigBuilder, until: Duration| {
        let mut bare = Bare::new(config);
        bare.run_until(until);
        let next = bare.drive();
        bare.answer();
        (next, bare.drive())
    };
    let next_due = Some(s(30));
    assert_eq!(
        waits(defaults().granularity(s(0)), s(15)),
        (next_due, next_due)
    );
    // The slack of 20 s is 1 s.
    let checkpoint = exact().interval(s(20)).timeout(s(20));
    assert_eq!(waits(checkpoint, s(20)), (Some(s(39)), Some(s(40))));
}

// contract: R128
#[test]
fn a_timeout_shorter_than_the_interval_by_a_little_keeps_two_wakes() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact().interval(s(20)).timeout(s(20)));
        rig.answer_after(ms(30));
        rig.run_until(s(21));
        let before = (rig.wakes(), rig.world.resets());
        rig.run_until(s(21 + 2000));
        assert_eq!(rig.wakes() - before.0, 200, "{path:?}");
        assert_eq!(rig.world.resets() - before.1, 200, "{path:?}");
    }
}

// contract: R128 D24
#[test]
fn a_dead_peer_is_judged_on_time_although_the_driver_sleeps_past_the_ping() {
    each_surface(&defaults().granularity(s(0)), |mut surface| {
        surface.run_until(s(100));
        let name = surface.name();
        assert_eq!(surface.verdict(), Some(s(35)), "{name}");
        assert_eq!(surface.pings(), [s(15)], "{name}");
        assert_eq!(surface.stats().late_wakes(), 0, "{name}");
    });
}

// contract: R129 H51
#[test]
fn a_pong_wakes_nobody_as_long_as_the_next_ping_is_not_due() {
    for path in [Path::Slot, Path::Set] {
        // The own pong, at once and just before the next ping is due.
        for after in [ms(1), s(14) + ms(999)] {
            let mut rig = Rig::new(path, defaults().granularity(s(0)));
            rig.run_until(s(15) + after);
            let before = rig.wakes();
            rig.reader.handle_pong(rig.sink.payload(0));
            assert_eq!(rig.wakes(), before, "{path:?}");
            rig.run_until(s(30));
            assert_eq!(rig.sink.pings(), [s(15), s(30)], "{path:?}");
        }
        // One that is stale, and one that answers by policy.
        let mut rig = Rig::new(path, exact().timeout(s(5)).max_missed(9));
        rig.run_until(s(26));
        let before = rig.wakes();
        assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
        assert_eq!(rig.wakes(), before, "{path:?}");
        for (liveness, ours) in [(Liveness::AnyPong, true), (trusting(s(1000)), false)] {
            let config = defaults().granularity(s(0)).liveness(liveness);
            let mut rig = Rig::new(path, config);
            rig.run_until(s(16));
            let before = rig.wakes();
            assert_eq!(rig.reader.send("mangled"), Ok(PongKind::Accepted { ours }));
            assert_eq!(rig.wakes(), before, "{path:?}");
        }
    }
}

// contract: R129
#[test]
fn a_pong_wakes_the_driver_once_where_the_next_ping_waits_for_it() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact().interval(s(5)).timeout(s(20)));
        rig.run_until(s(12));
        assert_eq!(rig.sink.pings(), [s(5)], "one in flight");
        let before = rig.wakes();
        for _ in 0..100 {
            rig.reader.handle_pong(rig.sink.payload(0));
        }
        assert_eq!(rig.wakes() - before, 1, "{path:?}");
        rig.run_until(s(12));
        assert_eq!(rig.sink.pings(), [s(5), s(12)], "{path:?}");
        rig.reader.handle_pong(rig.sink.payload(1));
        rig.run_until(s(15));
        assert_eq!(rig.sink.pings(), [s(5), s(12), s(15)], "{path:?}");
    }
}
