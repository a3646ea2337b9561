//! F. Local stalls and clocks; the real ones are in `tests/stalls.rs`.

use std::time::Duration;

use futures_pinger::HeartbeatState;

use crate::world::{Rig, each_path, exact, ms, s};

// contract: F39
#[test]
fn a_pong_that_was_queued_during_a_stall_wins() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.answer_after(s(1));
        rig.stall(s(20) + ms(500)..s(20) + ms(500) + s(60));
        rig.run_until(s(82));
        rig.assert_alive();
        assert_eq!(
            rig.stats().answered(),
            2,
            "the late one, and that of 80.5 s"
        );
    });
}

// contract: F40
#[test]
fn after_a_stall_over_the_deadline_a_live_peer_has_its_grace() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(8)));
        // The pong is read after the stall only: the reader stalls too.
        rig.answer_after(s(13));
        rig.stall(s(26)..s(31));
        rig.run_until(s(34));
        rig.assert_alive();
        assert_eq!((rig.stats().answered(), rig.stats().late_wakes()), (1, 1));
        // The checkpoint is at 27 s: the slack is a second.
        assert_eq!(rig.stats().worst_lateness(), s(4));
    });
}

// contract: F40
#[test]
fn after_a_stall_over_the_deadline_a_dead_peer_is_found_within_the_grace() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(8)));
        rig.stall(s(26)..s(31));
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!(at, s(31) + s(4), "four seconds late, four seconds of grace");
        assert_eq!(verdict.lateness(), s(4));
        assert!(verdict.to_string().contains("this side was late by 4s"));
    });
}

// contract: E38
#[test]
fn a_stall_an_hour_ago_does_not_show_in_a_later_verdict() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().interval(s(20)).timeout(s(8)));
        // A stall hides the deadline of the second ping, which is answered in its grace. An hour later
        // the peer falls silent.
        rig.answer(|ping| match ping {
            1 => Some(s(13)),
            _ => (ping < 180).then_some(s(1)),
        });
        rig.stall(s(46)..s(51));
        rig.run_until(s(54));
        assert_eq!(rig.stats().late_wakes(), 1, "{path:?}");
        rig.run_until(s(4000));
        let (_, verdict) = rig.verdict();
        assert_eq!(verdict.lateness(), s(0), "{path:?}");
        assert!(rig.stats().worst_lateness() > s(0), "{path:?}");
    });
}

// contract: F40
#[test]
fn a_stall_that_ends_just_before_the_deadline_has_the_same_grace() {
    each_path(|path| {
        // A pong that the reactor has not seen yet at the deadline.
        let mut rig = Rig::new(path, exact().timeout(s(8)));
        rig.answer_after(s(8) + ms(300));
        rig.stall(s(22)..s(27) + ms(900));
        rig.run_until(s(30));
        rig.assert_alive();
        assert_eq!(rig.stats().answered(), 1);

        let mut rig = Rig::new(path, exact().timeout(s(8)));
        rig.stall(s(22)..s(27) + ms(900));
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(28) + ms(900), "the slack from then on");
    });
}

// contract: F40
#[test]
fn no_verdict_falls_without_a_poll_shortly_before_it() {
    each_path(|path| {
        // Stalls of all lengths that end at all times around the deadline of 28 s.
        for end in (260..400).step_by(5) {
            for length in [3, 7, 12, 30, 90] {
                let end = ms(100 * end);
                let start = end.saturating_sub(ms(100 * length)).max(s(20) + ms(1));
                if start >= end {
                    continue;
                }
                let mut rig = Rig::new(path, exact().timeout(s(8)));
                rig.stall(start..end);
                rig.run_until(s(100));
                let (at, _) = rig.verdict();
                let slack = s(1);
                // The deadline as it stands is at least a slack after the last poll that came
                // late, or the stall did not touch it.
                let untouched = end <= s(27) || start > s(28);
                let hidden = start <= s(27) && end > s(27);
                if hidden {
                    assert!(at >= end + slack, "{start:?}..{end:?}: {at:?}");
                } else if untouched {
                    assert_eq!(at, s(28), "{start:?}..{end:?}");
                } else {
                    // Polled at the checkpoint on time, stalled over the deadline.
                    let late = end.saturating_sub(s(28));
                    let grace = if late > slack {
                        late.min(s(8))
                    } else {
                        Duration::ZERO
                    };
                    assert_eq!(at, end.max(s(28)) + grace, "{start:?}..{end:?}");
                }
            }
        }
    });
}

// contract: F41
#[test]
fn graces_never_chain() {
    each_path(|path| {
        let (interval, timeout) = (s(20), s(8));
        let mut rig = Rig::new(path, exact().interval(interval).timeout(timeout));
        // Never awake for more than 50 ms: each look comes three seconds late.
        for round in 0..200 {
            let start = ms(20_050 + 3_050 * round);
            rig.stall(start..start + s(3));
        }
        rig.run_until(s(1000));
        let (at, _) = rig.verdict();
        let (lateness, grace) = (s(3), s(3));
        let bound = s(20) + timeout + 2 * lateness + grace;
        assert!(at <= bound, "{at:?}");
    });
}

// contract: F41
#[test]
fn a_deadline_that_is_hidden_twice_is_put_off_once() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(8)));
        // Awake at the checkpoint, and stalled over the deadline: 2.5 s late, so it moves to 33 s.
        rig.stall(s(27) + ms(500)..s(30) + ms(500));
        rig.stall(s(32)..s(36));
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(36));
    });
}

// contract: F41
#[test]
fn the_write_deadline_has_the_same_grace() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().write_timeout(s(8)));
        rig.answer_after(ms(10));
        rig.sink.block();
        rig.stall(s(26)..s(31));
        let sink = rig.sink.clone();
        rig.at(s(33), move || sink.unblock());
        rig.run_until(s(39));
        rig.assert_alive();
        assert_eq!(rig.stats().answered(), 1);

        let mut rig = Rig::new(path, exact().write_timeout(s(8)));
        rig.sink.block();
        rig.stall(s(26)..s(31));
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(35));
    });
}

// contract: F40
#[test]
fn without_the_grace_the_deadline_is_the_deadline() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(8)).stall_grace(false));
        rig.stall(s(26)..s(31));
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(31));

        let mut rig = Rig::new(path, exact().timeout(s(8)).stall_grace(false));
        rig.run_until(s(28) - ms(1));
        rig.assert_alive();
        assert_eq!(rig.world.resets(), 2, "no checkpoint either");
        rig.run_until(s(28));
        assert_eq!(rig.verdict().0, s(28));
    });
}

// The close frame is the end in any case: its wait has no grace.
#[test]
fn the_close_deadline_has_no_grace() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        let sink = rig.sink.clone();
        rig.at(s(30), move || sink.block());
        rig.stall(s(40) + ms(100)..s(50));
        rig.run_until(s(40) + ms(50));
        let now = rig.world.instant(s(40));
        assert_eq!(rig.stats().state_at(now), HeartbeatState::Closing);
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(50));
    });
}
