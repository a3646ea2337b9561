//! J. Control and insight, against the core.

use std::time::Duration;

use futures_pinger::{
    ConfigBuilder, Frame, HeartbeatState, Liveness, Output, PingNowError, PongKind, TimeoutPhase,
    Verdict,
};

use crate::bare::Bare;
use crate::world::{exact, ms, s};

// contract: J63
#[test]
fn the_ping_in_flight_survives_a_new_configuration_and_is_judged_from_its_own_sending() {
    // Longer.
    let mut bare = Bare::new(exact());
    bare.run_until(s(30));
    bare.set_config(exact().timeout(s(50)));
    bare.run_until(s(200));
    assert_eq!((bare.times(), bare.timed_out().0), (vec![s(20)], s(70)));

    // Shorter, and still to come.
    let mut bare = Bare::new(exact());
    bare.run_until(s(30));
    bare.set_config(exact().timeout(s(11)));
    bare.run_until(s(200));
    assert_eq!(bare.timed_out().0, s(31));

    // It can still be answered.
    let mut bare = Bare::new(exact());
    bare.run_until(s(30));
    bare.set_config(exact().timeout(s(50)));
    bare.run_until(s(60));
    assert_eq!(bare.answer(), PongKind::Matched { rtt: s(40) });
}

// contract: J63
#[test]
fn a_deadline_that_thereby_lies_in_the_past_is_judged_one_slack_later() {
    // The calls come before and after the checkpoint of the old deadline, which is at 39 s.
    for called in [s(30), s(39) + ms(800)] {
        let set = || {
            let mut bare = Bare::new(exact());
            bare.run_until(called);
            bare.set_config(exact().timeout(s(3)));
            bare
        };
        let mut bare = set();
        let now = bare.instant();
        bare.heartbeat.handle_timeout(now);
        assert!(matches!(
            bare.heartbeat.poll_output(now),
            Output::Wait(Some(_))
        ));
        // Input is read meanwhile.
        let mut saved = set();
        saved.run_until(called + ms(374));
        assert!(matches!(saved.answer(), PongKind::Matched { .. }));

        bare.run_until(called + s(1));
        let (at, verdict) = bare.timed_out();
        assert_eq!(at, called + ms(375), "an eighth of 3 s");
        assert_eq!(bare.stats().late_wakes(), 0);
        assert_eq!(verdict.missed(), 1);
    }
}

// contract: J63
#[test]
fn a_new_configuration_each_half_interval_for_ever_starves_nothing() {
    let mut bare = Bare::new(exact());
    for half in 1..100 {
        bare.run_until(s(10 * half));
        bare.set_config(exact());
        if half > 2 && bare.stats().sent() > bare.stats().answered() && half < 50 {
            bare.answer();
        }
        if bare.done.is_some() {
            break;
        }
    }
    assert!(bare.times().len() > 20);
    let last = *bare.times().last().expect("pings");
    assert_eq!(bare.timed_out().0, last + s(20), "nor the verdict");
}

// contract: J63
#[test]
fn a_new_configuration_at_each_turn_does_not_put_off_a_deadline_in_the_past() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(30));
    for turn in 0..100 {
        bare.set_config(exact().timeout(s(3)));
        bare.run_until(s(30) + ms(10 * turn));
    }
    assert_eq!(bare.timed_out().0, s(30) + ms(375));

    // Another one each time, and just before the deadline that the last one has led to.
    for grace in [true, false] {
        let mut bare = Bare::new(exact().stall_grace(grace));
        bare.run_until(s(30));
        let (step, judged) = match grace {
            true => (ms(10), ms(380)),
            false => (Duration::from_nanos(1), Duration::from_nanos(2)),
        };
        for turn in 0..100 {
            bare.now = s(30) + step * turn;
            let timeout = s(3 + u64::from(turn % 2));
            bare.set_config(exact().stall_grace(grace).timeout(timeout));
            let now = bare.instant();
            bare.heartbeat.handle_timeout(now);
            bare.drive();
        }
        assert!(bare.timed_out().0 <= s(30) + judged);
    }
}

// contract: J63
#[test]
fn the_write_deadline_is_recomputed_from_the_first_offer() {
    let mut bare = Bare::new(exact());
    bare.ready = false;
    bare.run_until(s(25));
    bare.set_config(exact().write_timeout(s(7)));
    bare.run_until(s(200));
    let (at, verdict) = bare.timed_out();
    assert_eq!((at, verdict.phase()), (s(27), TimeoutPhase::Write));
}

// contract: J63
#[test]
fn a_lower_max_missed_applies_at_the_next_miss() {
    let mut bare = Bare::new(exact().timeout(s(5)).max_missed(5));
    bare.run_until(s(37));
    assert_eq!(bare.times(), [s(20), s(25), s(30), s(35)]);
    bare.set_config(exact().timeout(s(5)).max_missed(2));
    assert_eq!(bare.done, None);
    bare.run_until(s(200));
    assert_eq!(bare.timed_out().0, s(40));
}

// contract: J63
#[test]
fn once_the_verdict_has_fallen_a_new_configuration_changes_nothing() {
    let closing = || {
        let mut bare = Bare::new(exact());
        bare.run_until(s(39));
        bare.ready = false;
        bare.run_until(s(40) + ms(500));
        assert_eq!(bare.state(), HeartbeatState::Closing);
        bare.set_config(exact().close_timeout(s(100)).no_close());
        bare
    };
    let mut bare = closing();
    bare.run_until(s(200));
    assert_eq!(bare.timed_out().0, s(41));

    // The frame goes out all the same.
    let mut bare = closing();
    bare.unblock();
    bare.drive();
    assert!(bare.timed_out().1.close_sent());
}

// contract: J64
#[test]
fn a_shorter_interval_counts_from_the_last_due_time() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(21));
    bare.answer();
    bare.run_until(s(25));
    bare.set_config(exact().interval(s(7)));
    bare.run_until(s(27));
    assert_eq!(bare.times(), [s(20), s(27)]);

    // Past already: at once.
    let mut bare = Bare::new(exact());
    bare.run_until(s(21));
    bare.answer();
    bare.run_until(s(35));
    bare.set_config(exact().interval(s(7)));
    assert_eq!(bare.times(), [s(20), s(35)]);
    bare.run_until(s(36));
    bare.answer();
    bare.run_until(s(41));
    assert_eq!(bare.times(), [s(20), s(35), s(41)], "and on its grid");

    // Past, but a ping is out: once it is answered.
    let mut bare = Bare::new(exact());
    bare.run_until(s(35));
    bare.set_config(exact().interval(s(7)));
    bare.run_until(s(38));
    assert_eq!(bare.times(), [s(20)]);
    bare.answer();
    assert_eq!(bare.times(), [s(20), s(38)]);
}

// contract: J64
#[test]
fn a_longer_interval_counts_from_the_last_due_time() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(21));
    bare.answer();
    bare.run_until(s(25));
    bare.set_config(exact().interval(s(50)));
    bare.run_until(s(70));
    assert_eq!(bare.times(), [s(20), s(70)]);
}

// contract: J64
#[test]
fn before_the_first_ping_the_new_initial_delay_counts_from_the_start() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(3));
    bare.set_config(exact().interval(s(7)));
    bare.run_until(s(7));
    assert_eq!(bare.times(), [s(7)]);
}

// contract: J64
#[test]
fn a_new_interval_keeps_the_share_of_the_jitter_that_was_drawn() {
    let mut bare = Bare::new(exact().jitter(0.5).interval(s(10)));
    bare.run_until(s(10));
    let first = bare.times()[0];
    let mut other = Bare::new(exact().jitter(0.5).interval(s(10)));
    other.run_until(s(1));
    other.set_config(exact().jitter(0.5).interval(s(20)));
    other.run_until(s(20));
    let (doubled, expected) = (other.times()[0], 2 * first);
    let difference = doubled.max(expected) - doubled.min(expected);
    assert!(difference < ms(1), "{doubled:?} {expected:?}");
}

// contract: J64
#[test]
fn between_two_pings_the_share_is_kept_and_jitter_that_is_turned_on_counts_at_once() {
    /// From the first ping to the second, with another configuration in between.
    fn wait(before: ConfigBuilder, after: Option<ConfigBuilder>) -> Duration {
        let mut bare = Bare::new(before.initial_delay(s(1)));
        bare.run_until(s(1));
        let first = bare.times()[0];
        bare.answer();
        if let Some(after) = after {
            bare.set_config(after);
        }
        bare.run_until(s(30));
        bare.times()[1] - first
    }
    let jittered = |interval| exact().jitter(0.5).interval(interval);
    let same = wait(jittered(s(10)), None);
    let doubled = wait(jittered(s(10)), Some(jittered(s(20))));
    assert!(same < s(10) && doubled.abs_diff(2 * same) < ms(1));
    let turned_on = wait(exact().interval(s(10)), Some(jittered(s(10))));
    assert!(turned_on.abs_diff(same) < ms(1), "{turned_on:?} {same:?}");
}

// contract: J63
#[test]
fn a_new_configuration_does_not_put_off_the_proof_that_activity_is_no_substitute_for() {
    let config = || {
        exact().liveness(Liveness::Activity {
            max_unproven: s(60) + ms(500),
        })
    };
    let mut bare = Bare::new(config());
    for second in 1..60 {
        bare.run_until(s(second));
        let now = bare.instant();
        bare.heartbeat.handle_activity(now);
        bare.set_config(config());
    }
    // Nor does a longer interval.
    bare.set_config(config().interval(s(30)));
    bare.run_until(s(61));
    assert_eq!(bare.times(), [s(60) + ms(500)]);
}

// contract: J65
#[test]
fn paused_it_neither_pings_nor_judges_and_resumed_it_starts_anew() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(25));
    let now = bare.instant();
    bare.heartbeat.pause(now);
    assert_eq!(bare.drive(), None, "no timer");
    bare.run_until(s(1000));
    assert_eq!((bare.done, bare.state()), (None, HeartbeatState::Paused));
    assert_eq!(bare.times(), [s(20)]);

    let now = bare.instant();
    bare.heartbeat.ping_now(now).expect("it goes on");
    bare.run_until(s(1001));
    assert_eq!(bare.times(), [s(20)], "no ping by request either");

    let now = bare.instant();
    bare.heartbeat.resume(now);
    bare.run_until(s(1021));
    assert_eq!(bare.times(), [s(20), s(1021)], "one interval from then on");
    assert_eq!(
        bare.stats().missed(),
        0,
        "what was out is written off, not missed"
    );
    assert_eq!(bare.pong_of(0), PongKind::Stale);
    bare.run_until(s(2000));
    assert_eq!(bare.timed_out().0, s(1041));
}

// contract: J65
#[test]
fn a_pong_during_the_pause_is_welcome() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(25));
    let now = bare.instant();
    bare.heartbeat.pause(now);
    bare.run_until(s(26));
    assert_eq!(bare.answer(), PongKind::Matched { rtt: s(6) });
    assert_eq!(bare.stats().answered(), 1);
    assert_eq!(bare.state(), HeartbeatState::Paused);
}

// contract: J65
#[test]
fn a_pause_takes_back_a_ping_that_waits_for_the_sink_and_misses_before_it() {
    let mut bare = Bare::new(exact().timeout(s(5)).max_missed(2));
    bare.run_until(s(24));
    bare.ready = false;
    bare.run_until(s(27));
    assert!(bare.heartbeat.wants_transmit());
    let now = bare.instant();
    bare.heartbeat.pause(now);
    assert!(!bare.heartbeat.wants_transmit());
    bare.ready = true;
    bare.run_until(s(100));
    let now = bare.instant();
    bare.heartbeat.resume(now);
    bare.run_until(s(126));
    assert_eq!(
        bare.times(),
        [s(20), s(120), s(125)],
        "the miss before is forgotten"
    );
    assert_eq!(bare.done, None);
}

// contract: J65
#[test]
fn a_closing_heartbeat_goes_on_although_paused() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(39));
    bare.ready = false;
    bare.run_until(s(40));
    let now = bare.instant();
    bare.heartbeat.pause(now);
    bare.unblock();
    bare.drive();
    assert!(bare.timed_out().1.close_sent());
}

// contract: J65
#[test]
fn resumed_without_a_pause_it_changes_nothing() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(15));
    let now = bare.instant();
    bare.heartbeat.resume(now);
    bare.run_until(s(20));
    assert_eq!(bare.times(), [s(20)]);
}

// contract: J66
#[test]
fn a_thousand_requests_make_one_ping_and_the_next_is_due_an_interval_after_it() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(5));
    for _ in 0..1000 {
        let now = bare.instant();
        bare.heartbeat.ping_now(now).expect("it goes on");
        bare.drive();
    }
    assert_eq!(bare.times(), [s(5)]);
    bare.run_until(s(6));
    bare.answer();
    bare.run_until(s(25));
    assert_eq!(bare.times(), [s(5), s(25)]);
}

// contract: J66
#[test]
fn a_request_while_a_ping_is_out_makes_no_second_frame() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(25));
    let now = bare.instant();
    bare.heartbeat.ping_now(now).expect("it goes on");
    bare.run_until(s(30));
    bare.answer();
    bare.run_until(s(41));
    assert_eq!(
        bare.times(),
        [s(20), s(40)],
        "nor does it move the schedule"
    );

    // Nor while it waits for the sink.
    let mut bare = Bare::new(exact());
    bare.ready = false;
    bare.run_until(s(25));
    let now = bare.instant();
    bare.heartbeat.ping_now(now).expect("it goes on");
    bare.unblock();
    bare.run_until(s(30));
    assert_eq!(bare.times().len(), 1);
}

// contract: J66
#[test]
fn a_requested_ping_counts_the_next_from_its_sending() {
    let mut bare = Bare::new(exact());
    bare.ready = false;
    bare.run_until(s(5));
    let now = bare.instant();
    bare.heartbeat.ping_now(now).expect("it goes on");
    bare.drive();
    bare.run_until(s(8));
    bare.unblock();
    bare.answer();
    bare.run_until(s(30));
    assert_eq!(bare.times(), [s(8), s(28)]);
}

// contract: J66
#[test]
fn activity_does_not_cancel_a_requested_ping() {
    let unproven = s(1000);
    let config = exact().liveness(Liveness::Activity {
        max_unproven: unproven,
    });
    let mut bare = Bare::new(config);
    bare.ready = false;
    bare.run_until(s(5));
    let now = bare.instant();
    bare.heartbeat.ping_now(now).expect("it goes on");
    bare.drive();
    let now = bare.instant();
    bare.heartbeat.handle_activity(now);
    bare.unblock();
    assert_eq!(bare.times(), [s(5)]);
}

// contract: J67
#[test]
fn stopped_it_is_over_at_once_without_a_frame() {
    for second in [10, 25] {
        let mut bare = Bare::new(exact());
        bare.run_until(s(second));
        bare.heartbeat.stop();
        bare.drive();
        assert_eq!(bare.done, Some((s(second), Verdict::Requested)));
        assert_eq!((bare.closes, bare.state()), (0, HeartbeatState::Gone));
        bare.heartbeat.stop();
        let now = bare.instant();
        bare.heartbeat.resume(now);
        assert_eq!(bare.heartbeat.ping_now(now), Err(PingNowError::Closed));
        let output = bare.heartbeat.poll_output(now);
        assert_eq!(output, Output::Done(Verdict::Requested));
    }
}

#[test]
fn stopped_while_closing_the_verdict_stands() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(39));
    bare.ready = false;
    bare.run_until(s(40));
    bare.heartbeat.stop();
    bare.drive();
    assert!(!bare.timed_out().1.close_sent());
}

// contract: J68
#[test]
fn the_counters_after_a_scripted_run_equal_the_script() {
    let mut bare = Bare::new(exact().interval(s(10)).timeout(s(4)).max_missed(3));
    // Answered after 1 s.
    bare.run_until(s(11));
    bare.answer();
    // Missed at 24 s, pinged again, answered late (stale) at 25 s and then in time.
    bare.run_until(s(25));
    assert_eq!(bare.pong_of(1), PongKind::Stale);
    bare.run_until(s(26));
    bare.answer();
    // The same again, and a stray.
    bare.answer();
    let now = bare.instant();
    bare.heartbeat.handle_pong(b"stray", now);
    // Blocked for 3 s.
    bare.ready = false;
    bare.run_until(s(33));
    bare.unblock();
    bare.run_until(s(34));
    bare.answer();
    let stats = bare.stats();
    assert_eq!(bare.times(), [s(10), s(20), s(24), s(33)]);
    assert_eq!((stats.sent(), stats.answered(), stats.missed()), (4, 3, 1));
    assert_eq!((stats.stale(), stats.unsolicited()), (1, 2));
    assert_eq!(stats.write_blocked(), s(3));
    assert_eq!((stats.late_wakes(), stats.worst_lateness()), (0, s(0)));
    // Samples of 1 s, 2 s and 1 s; none of the stale pong.
    assert_eq!(stats.latest_rtt(), Some(s(1)));
    assert_eq!(stats.min_rtt(), Some(s(1)));
    let nanos = 1_000_000_000_u64;
    let srtt = nanos - nanos / 8 + 2 * nanos / 8;
    let srtt = srtt - srtt / 8 + nanos / 8;
    let smoothed = stats.smoothed_rtt().map(|rtt| rtt.as_nanos());
    assert_eq!(smoothed, Some(u128::from(srtt)));
    assert_eq!(bare.state(), HeartbeatState::Idle);
}

// contract: J68
#[test]
fn policy_answers_are_no_samples() {
    let max_unproven = s(1000);
    let mut bare = Bare::new(exact().liveness(Liveness::Activity { max_unproven }));
    bare.run_until(s(21));
    let now = bare.instant();
    assert_eq!(
        bare.heartbeat.handle_pong(b"", now),
        PongKind::Accepted { ours: false }
    );
    assert_eq!(bare.stats().answered(), 1);
    assert_eq!(bare.stats().smoothed_rtt(), None);
}

// The ping in the sink took the new interval for its own, and the next came a whole one later.
// contract: J64
#[test]
fn a_longer_interval_while_a_ping_waits_for_the_sink_counts_from_that_pings_due_time() {
    let mut bare = Bare::new(exact().interval(s(10)));
    bare.ready = false;
    bare.run_until(s(11));
    bare.set_config(exact().interval(s(60)));
    bare.run_until(s(12));
    bare.unblock();
    bare.answer();
    bare.run_until(s(75));
    assert_eq!(bare.times(), [s(12), s(70)]);
}

// An app that sets its configuration now and then lost live peers after each stall.
// contract: J63
#[test]
fn the_same_configuration_again_takes_no_grace_away() {
    let config = || exact().interval(s(10));
    for looked_before in [true, false] {
        let mut stalled = Bare::new(config());
        stalled.run_until(s(10));
        stalled.now = s(60);
        let now = stalled.instant();
        if looked_before {
            stalled.heartbeat.handle_timeout(now);
        }
        stalled.set_config(config());
        stalled.heartbeat.handle_timeout(now);
        stalled.run_until(s(79));
        assert_eq!(stalled.done, None);
        assert!(matches!(stalled.answer(), PongKind::Matched { .. }));
    }
}

// Another timeout that was set as soon as the process ran again condemned peers whose pongs were not read yet.
// contract: J63 F40
#[test]
fn another_timeout_takes_away_no_grace_of_a_stall() {
    // The ping left at 20 s; the checkpoint was 18 s later. The stall ends with the old deadline, or the
    // checkpoint before it, in the past: by as much as the look comes late the deadline moves, or by one timeout.
    for (timeout, awake, judged) in [
        (3, 60, s(63)),
        (15, 60, s(75)),
        (30, 60, s(79)),
        (3, 45, s(48)),
        (25, 45, s(52)),
        (20, 40, s(42)),
        (21, 41, s(44)),
    ] {
        for looked_before in [true, false] {
            let stalled = || {
                let mut stalled = Bare::new(exact().timeout(s(19)));
                stalled.run_until(s(20));
                stalled.now = s(awake);
                let now = stalled.instant();
                if looked_before {
                    stalled.heartbeat.handle_timeout(now);
                }
                // Twice: the second takes nothing away, either.
                for timeout in [s(timeout), s(timeout) + ms(1)] {
                    stalled.set_config(exact().timeout(timeout));
                    stalled.heartbeat.handle_timeout(now);
                }
                assert_eq!(stalled.drive().map(|next| next > s(awake)), Some(true));
                stalled
            };
            let mut live = stalled();
            live.run_until(judged - ms(1));
            assert_eq!(live.done, None, "{timeout} at {awake}");
            assert!(matches!(live.answer(), PongKind::Matched { .. }));

            let mut dead = stalled();
            dead.run_until(s(1000));
            assert_eq!(dead.timed_out().0, judged, "{timeout} at {awake}");
        }
    }
}

// A deadline that the new timeout puts into the past is judged a slack later, here at 31 s: the stall hides that.
// contract: J63 F40
#[test]
fn a_stall_right_after_a_shorter_timeout_leaves_a_slack_to_read_in() {
    let stalled = || {
        let mut stalled = Bare::new(exact());
        stalled.run_until(s(30));
        stalled.set_config(exact().timeout(s(8)));
        stalled.drive();
        stalled.now = s(33);
        let now = stalled.instant();
        stalled.heartbeat.handle_timeout(now);
        stalled
    };
    let mut live = stalled();
    live.run_until(s(34) - ms(1));
    assert_eq!(live.done, None);
    assert!(matches!(live.answer(), PongKind::Matched { .. }));

    let mut dead = stalled();
    dead.run_until(s(1000));
    assert_eq!(dead.timed_out().0, s(34));
}

// contract: J63 F40
#[test]
fn without_a_grace_a_deadline_put_into_the_past_is_judged_after_one_turn() {
    // The grace is off from the start, and a stall has hidden the deadline; or the call turns the grace off.
    for (grace, called) in [(false, s(60)), (true, s(36))] {
        // A stall after the call gives no more time.
        for awake in [called, called + s(30)] {
            let mut bare = Bare::new(exact().stall_grace(grace));
            bare.run_until(s(20));
            bare.now = called;
            bare.set_config(exact().stall_grace(false).timeout(s(15)));
            bare.now = awake;
            bare.run_until(awake + s(5));
            let judged = bare.timed_out().0;
            assert!(judged < awake + ms(1), "{grace} {awake:?}: {judged:?}");
        }
    }
}

// contract: J64
#[test]
fn while_a_ping_for_a_miss_waits_for_the_sink_a_new_interval_counts_from_the_last_due_time() {
    let config = || exact().timeout(s(5)).max_missed(3);
    let mut bare = Bare::new(config());
    bare.run_until(s(24));
    bare.ready = false;
    bare.run_until(s(26));
    bare.set_config(config().interval(s(8)));
    bare.unblock();
    bare.answer();
    bare.run_until(s(28));
    assert_eq!(bare.times(), [s(20), s(26), s(28)]);
}

// contract: J64
#[test]
fn a_configuration_after_a_miss_moves_no_ping_that_activity_has_not_put_off() {
    let liveness = Liveness::Activity {
        max_unproven: s(10),
    };
    let config = || {
        exact()
            .interval(s(40))
            .timeout(s(5))
            .max_missed(3)
            .liveness(liveness)
    };
    let mut bare = Bare::new(config());
    bare.run_until(s(46));
    bare.set_config(config());
    bare.run_until(s(47));
    bare.answer();
    bare.run_until(s(79));
    assert_eq!(bare.times(), [s(40), s(45)]);
}

// contract: J66
#[test]
fn a_request_for_a_ping_that_waits_already_keeps_activity_from_cancelling_it() {
    let liveness = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut bare = Bare::new(exact().liveness(liveness));
    bare.ready = false;
    bare.run_until(s(21));
    let now = bare.instant();
    bare.heartbeat.ping_now(now).expect("it goes on");
    bare.heartbeat.handle_activity(now);
    bare.unblock();
    assert_eq!(bare.times(), [s(21)]);
}

// contract: J65
#[test]
fn a_pause_ends_the_doubling_of_the_adaptive_timeout_too() {
    let mut bare = Bare::new(exact().adaptive_timeout(s(1)..=s(60)).max_missed(9));
    bare.run_until(s(20));
    bare.run_until(s(20) + ms(100));
    bare.answer();
    bare.run_until(s(44));
    assert_eq!(bare.stats().missed(), 2, "after one second, and two more");
    let now = bare.instant();
    bare.heartbeat.pause(now);
    bare.heartbeat.resume(now);
    bare.run_until(s(65));
    assert_eq!(bare.stats().missed(), 3, "one second again");
}

// contract: J63
#[test]
fn a_stall_grace_that_is_turned_off_or_on_counts_for_the_ping_in_flight() {
    for grace in [true, false] {
        let mut bare = Bare::new(exact().stall_grace(!grace));
        bare.run_until(s(25));
        bare.set_config(exact().stall_grace(grace));
        // The stall hides the deadline of 40 s.
        bare.now = s(41);
        let now = bare.instant();
        bare.heartbeat.handle_timeout(now);
        bare.drive();
        assert_eq!(bare.done.is_some(), !grace, "{grace}");
    }
}

// contract: J64
#[test]
fn after_an_interval_of_ever_a_new_one_counts_from_the_last_due_time() {
    let mut bare = Bare::new(exact().interval(Duration::MAX).initial_delay(s(20)));
    bare.run_until(s(25));
    bare.answer();
    bare.run_until(s(3000));
    assert_eq!(bare.times(), [s(20)]);
    bare.set_config(exact().interval(s(3010)));
    bare.run_until(s(3029));
    assert_eq!(bare.times(), [s(20)]);
    bare.run_until(s(3030));
    assert_eq!(bare.times(), [s(20), s(3030)]);
}

// contract: J64
#[test]
fn a_new_interval_after_pings_for_misses_keeps_the_share_of_the_jitter() {
    /// The time of the ping that follows two misses, where this interval is set in between.
    fn next(interval: Duration) -> Duration {
        let config = || exact().timeout(s(2)).max_missed(9).jitter(0.5);
        let mut bare = Bare::new(config().initial_delay(s(0)));
        bare.run_until(s(5));
        assert_eq!(bare.times(), [s(0), s(2), s(4)]);
        bare.answer();
        bare.set_config(config().interval(interval));
        bare.run_until(s(60));
        bare.times()[3]
    }
    let doubled = next(s(40));
    assert!(doubled.abs_diff(2 * next(s(20))) < ms(1), "{doubled:?}");
}

// contract: B15
#[test]
fn the_round_trip_of_a_pong_before_the_flush_begins_when_the_ping_was_handed_over() {
    let mut bare = Bare::new(exact());
    bare.ready = false;
    bare.run_until(s(23));
    // The sink takes the ping, and has not flushed it.
    let now = bare.instant();
    let Some(Frame::Ping(payload)) = bare.heartbeat.transmit(now) else {
        panic!("a ping was due at 20 s");
    };
    bare.now = s(24);
    let now = bare.instant();
    let kind = bare.heartbeat.handle_pong(&payload, now);
    assert_eq!(kind, PongKind::Matched { rtt: s(1) });
}

// contract: P102
#[test]
fn an_answer_that_answers_nothing_is_unsolicited_until_the_end() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(21));
    let now = bare.instant();
    let mut answer = || bare.heartbeat.handle_answer(now);
    assert_eq!(answer(), PongKind::Accepted { ours: true });
    assert_eq!(answer(), PongKind::Unsolicited);
    assert_eq!(bare.stats().unsolicited(), 1);
    bare.heartbeat.stop();
    let now = bare.instant();
    assert_eq!(bare.heartbeat.handle_answer(now), PongKind::Unsolicited);
    assert_eq!(bare.stats().unsolicited(), 1);
}

// contract: J63
#[test]
fn the_configuration_in_force_is_the_last_one() {
    let mut bare = Bare::new(exact());
    let slower = || exact().interval(s(60));
    bare.set_config(slower());
    assert_eq!(bare.heartbeat.config(), &slower().build().expect("valid"));
}

// contract: E29
#[test]
fn it_is_closing_from_the_verdict_to_the_end_of_its_close_frame() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(39));
    assert!(!bare.heartbeat.is_closing());
    bare.ready = false;
    bare.run_until(s(40));
    assert!(bare.heartbeat.is_closing());
    bare.unblock();
    bare.drive();
    assert!(!bare.heartbeat.is_closing());
}

// RFC 6298 §2.2.
// contract: J68
#[test]
fn the_first_sample_varies_by_half_of_itself() {
    let mut bare = Bare::new(exact());
    assert_eq!(bare.stats().rtt_variation(), None);
    bare.run_until(s(20));
    bare.run_until(s(22));
    bare.answer();
    let stats = bare.stats();
    assert_eq!(stats.smoothed_rtt(), Some(s(2)));
    assert_eq!(stats.rtt_variation(), Some(s(1)));
}

// contract: E38
#[test]
fn a_verdict_tells_how_many_other_pongs_came() {
    for strays in [0, 2] {
        let mut bare = Bare::new(exact());
        bare.run_until(s(21));
        for _ in 0..strays {
            let now = bare.instant();
            bare.heartbeat.handle_pong(b"stray", now);
        }
        bare.run_until(s(60));
        assert_eq!(bare.timed_out().1.unsolicited(), strays);
    }
}
