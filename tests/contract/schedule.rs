//! A. Schedule.

use std::time::Duration;

use futures_pinger::{Config, Heartbeat, Output};

use crate::world::{NO_PINGS, Path, Rig, World, each_path, exact, ms, s};

// contract: A1
#[test]
fn a_live_peer_gets_a_ping_each_interval_and_no_close() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.answer_after(ms(30));
        rig.run_until(s(100) + ms(30));
        rig.assert_alive();
        assert_eq!(rig.sink.pings(), [s(20), s(40), s(60), s(80), s(100)]);
        assert_eq!(rig.sink.frames().len(), 5, "pings alone");
        assert_eq!((rig.stats().sent(), rig.stats().answered()), (5, 5));
    });
}

// contract: A2
#[test]
fn the_first_ping_leaves_at_the_initial_delay_and_not_before() {
    each_path(|path| {
        for (config, first) in [
            (exact(), s(20)),
            (exact().initial_delay(s(3)), s(3)),
            (exact().initial_delay(s(50)), s(50)),
            (exact().initial_delay(Duration::ZERO), s(0)),
        ] {
            let mut rig = Rig::new(path, config);
            if !first.is_zero() {
                rig.run_until(first - Duration::from_nanos(1));
                assert_eq!(rig.sink.pings(), NO_PINGS);
            }
            rig.run_until(first);
            assert_eq!(rig.sink.pings(), [first]);
        }
    });
}

// contract: A2
#[test]
fn the_time_before_the_first_poll_is_not_silence() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.answer_after(ms(1));
        rig.stall(s(0)..s(1000));
        rig.run_until(s(1019));
        assert_eq!(rig.sink.pings(), NO_PINGS);
        rig.run_until(s(1045));
        assert_eq!(rig.sink.pings(), [s(1020), s(1040)]);
    });
}

// contract: A3
#[test]
fn after_ten_thousand_cycles_there_is_no_drift() {
    let mut rig = Rig::new(Path::Slot, exact().interval(s(7)));
    // An uneven round trip: what pushes a drifting schedule off.
    rig.answer(|ping| Some(ms(1 + ping as u64 % 900)));
    rig.run_until(s(7 * 10_000));
    let pings = rig.sink.pings();
    assert_eq!(pings.len(), 10_000);
    for (k, at) in (1..).zip(pings) {
        assert_eq!(at, s(7 * k));
    }
}

// contract: A3
#[test]
fn pings_that_leave_late_cause_no_drift() {
    let mut rig = Rig::new(Path::Slot, exact().interval(s(7)));
    rig.answer_after(ms(1));
    let late = |k| s(7 * k) + ms(100 * (1 + k % 5));
    for k in 1..=1_000 {
        let (block, unblock) = (rig.sink.clone(), rig.sink.clone());
        rig.at(s(7 * k) - ms(1), move || block.block());
        rig.at(late(k), move || unblock.unblock());
    }
    rig.run_until(s(7_001));
    let expected: Vec<_> = (1..=1_000).map(late).collect();
    assert_eq!(rig.sink.pings(), expected);
}

// contract: A4
#[test]
fn a_slow_answer_delays_the_next_ping_and_not_the_grid() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().interval(s(10)).timeout(s(60)));
        // The first answer takes two intervals and a half.
        rig.answer(|ping| Some(if ping == 0 { s(25) } else { s(1) }));
        rig.run_until(s(61));
        rig.assert_alive();
        assert_eq!(rig.sink.pings(), [s(10), s(35), s(40), s(50), s(60)]);
    });
}

// contract: A5
#[test]
fn after_a_long_pause_of_the_executor_one_ping_leaves_and_the_grid_goes_on() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().interval(s(10)));
        rig.answer_after(ms(5));
        rig.stall(s(15)..s(115));
        rig.run_until(s(131));
        rig.assert_alive();
        assert_eq!(rig.sink.pings(), [s(10), s(115), s(120), s(130)]);
    });
}

// contract: A6
#[test]
fn jitter_shortens_each_wait_by_a_share_of_its_own() {
    let mut waits = Vec::new();
    for _ in 0..2 {
        let mut rig = Rig::new(Path::Slot, exact().interval(s(10)).jitter(0.4));
        rig.answer_after(ms(5));
        rig.run_until(s(10_000));
        let pings = rig.sink.pings();
        let mut last = Duration::ZERO;
        let mut these = Vec::new();
        for at in pings {
            let wait = at - last;
            assert!((s(6)..=s(10)).contains(&wait), "{wait:?}");
            these.push(wait);
            last = at;
        }
        let (min, max) = (these.iter().min().copied(), these.iter().max().copied());
        assert!(
            min < Some(ms(6100)) && max > Some(ms(9900)),
            "the whole range is used"
        );
        let mean = last / u32::try_from(these.len()).expect("few");
        assert!((ms(7800)..=ms(8200)).contains(&mean), "evenly: {mean:?}");
        waits.push(these);
    }
    assert_ne!(waits[0], waits[1], "two heartbeats do not stay together");
    assert_ne!(waits[0][0], waits[1][0], "not even at first");
}

// contract: A6
#[test]
fn full_jitter_does_not_spin() {
    let mut rig = Rig::new(Path::Slot, exact().interval(s(10)).jitter(1.0));
    rig.answer(|_| Some(Duration::ZERO));
    rig.run_until(s(1000));
    let pings = rig.sink.pings().len();
    assert!((150..260).contains(&pings), "{pings}");
}

// contract: A7
#[test]
fn without_a_timeout_pings_go_on_and_the_unanswered_are_written_off() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().interval(s(10)).no_timeout());
        rig.run_until(s(100_005));
        rig.assert_alive();
        assert_eq!(rig.sink.pings().len(), 10_000);
        let stats = rig.stats();
        assert_eq!(
            (stats.sent(), stats.answered(), stats.missed()),
            (10_000, 0, 9_999)
        );
    });
}

// contract: A7
#[test]
fn without_a_timeout_an_explicit_write_timeout_still_judges() {
    each_path(|path| {
        let config = exact().interval(s(10)).no_timeout().write_timeout(s(3));
        let mut rig = Rig::new(path, config);
        rig.sink.block();
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!(at, s(13));
        assert_eq!(verdict.phase(), futures_pinger::TimeoutPhase::Write);
    });
}

// contract: A8
#[test]
fn timeouts_shorter_than_equal_to_and_longer_than_the_interval_all_hold() {
    each_path(|path| {
        for timeout in [ms(1), s(4), s(10), s(11), s(95)] {
            let mut rig = Rig::new(path, exact().interval(s(10)).timeout(timeout));
            rig.answer(|ping| (ping < 2).then_some(ms(1) / 2));
            rig.run_until(s(30) + timeout - Duration::from_nanos(1));
            rig.assert_alive();
            rig.run_until(s(30) + timeout);
            assert_eq!(rig.verdict().0, s(30) + timeout);
            assert_eq!(rig.sink.pings(), [s(10), s(20), s(30)], "{timeout:?}");
        }
    });
}

// contract: D24
#[test]
fn a_grid_of_wake_ups_is_never_early_and_at_most_one_step_late() {
    each_path(|path| {
        let step = ms(70);
        let config = Config::builder()
            .interval(s(1))
            .timeout(s(1))
            .granularity(step);
        let mut rig = Rig::new(path, config);
        rig.answer(|ping| (ping < 50).then_some(ms(3)));
        rig.run_until(s(60));
        let pings = rig.sink.pings();
        assert_eq!(pings.len(), 51);
        for (k, at) in (1..).zip(&pings) {
            assert!(*at >= s(k) && *at < s(k) + step, "{at:?}");
        }
        let (at, _) = rig.verdict();
        let deadline = pings[50] + s(1);
        assert!(at >= deadline && at < deadline + step, "{at:?}");
        assert_eq!(rig.stats().late_wakes(), 0, "a step is not lateness");
    });
}

// The core itself is exact, whatever the granularity: rounding is up to the shells.
#[test]
fn the_core_asks_for_exact_instants() {
    let start = World::new().instant(Duration::ZERO);
    let config = Config::builder().granularity(s(1)).interval(ms(1234));
    let mut heartbeat = Heartbeat::new(config.build().expect("valid"), start);
    let due = start + ms(1234);
    assert_eq!(heartbeat.poll_output(start), Output::Wait(Some(due)));
}
