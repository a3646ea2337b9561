//! B. Verification.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{Closed, Frame, Liveness, PongKind, Stopped, TimeoutPhase};

use crate::world::{NO_PINGS, Path, Rig, each_path, exact, ms, s};

// contract: B9
#[test]
fn the_matching_pong_answers_and_the_round_trip_time_is_exact() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.answer_after(Duration::from_nanos(31_415_926));
        rig.run_until(s(25));
        let stats = rig.stats();
        assert_eq!(stats.answered(), 1);
        assert_eq!(stats.latest_rtt(), Some(Duration::from_nanos(31_415_926)));
    });
}

// contract: B10
#[test]
fn no_other_pong_ends_the_wait() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.pong_at(s(21), "");
        rig.pong_at(s(22), vec![0; 16]);
        rig.pong_at(s(23), "an unsolicited pong");
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.phase()), (s(40), TimeoutPhase::Pong));
        assert_eq!(rig.stats().unsolicited(), 3);
    });
}

// contract: B11
#[test]
fn pongs_before_and_between_pings_count_for_none() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        for second in (0..20).chain(21..40) {
            rig.pong_at(s(second), vec![7; 16]);
        }
        let answered = rig.sink.clone();
        rig.answer(move |ping| {
            let _ = answered.payload(ping);
            (ping == 0).then_some(ms(1))
        });
        // The answer of the first ping again, just before the second is due.
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        rig.at(s(39), move || {
            for _ in 0..100 {
                reader.handle_pong(sink.payload(0));
            }
        });
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(60), "on time, as if there had been none");
        assert_eq!(rig.stats().answered(), 1);
    });
}

// contract: B12 J68
#[test]
fn the_pong_of_a_missed_ping_proves_life_and_the_newer_still_needs_its_own() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(5)).max_missed(2));
        // Missed at 25 s, pinged again, and the first answer comes at 27 s. The second ping stays
        // unanswered: one miss at 30 s, and the third, at 35 s, is the second in a row.
        rig.answer(|ping| (ping == 0).then_some(s(7)));
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!(at, s(35), "misses began anew at 27 s");
        assert_eq!(verdict.missed(), 2);
        assert_eq!(rig.sink.pings(), [s(20), s(25), s(30)]);
        let stats = rig.stats();
        assert_eq!((stats.stale(), stats.answered(), stats.missed()), (1, 0, 3));
        assert_eq!(stats.latest_rtt(), None, "no sample of a stale pong");
    });
}

// contract: B13
#[test]
fn a_pong_counts_once() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        let reader = rig.reader.clone();
        rig.sink.on_wire(move |frame| {
            if let Frame::Ping(payload) = frame {
                reader.handle_pong(payload.clone());
                reader.handle_pong(payload);
            }
        });
        rig.run_until(s(30));
        let stats = rig.stats();
        assert_eq!((stats.answered(), stats.unsolicited()), (1, 1));
    });
}

// The pong was entered by the sender while the heartbeat was flushing the ping; the heartbeat then
// published its own book over it, and the same pong counted again.
// contract: B13
#[test]
fn a_pong_that_came_during_the_flush_counts_once_too() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.answer(|_| Some(Duration::ZERO));
    rig.run_until(s(21));
    assert_eq!(rig.stats().answered(), 1);
    let wakes = rig.wakes();
    let replay = rig.reader.send(rig.sink.payload(0));
    assert_eq!(replay, Ok(PongKind::Unsolicited));
    assert_eq!(rig.wakes(), wakes);
}

// contract: B17
#[test]
fn an_answer_by_policy_during_the_flush_counts_once_too() {
    let mut rig = Rig::new(Path::Slot, exact().liveness(Liveness::AnyPong));
    let reader = rig.reader.clone();
    rig.sink.on_wire(move |_| reader.handle_pong(""));
    rig.run_until(s(21));
    assert_eq!(rig.stats().answered(), 1);
    assert_eq!(rig.reader.send(""), Ok(PongKind::Unsolicited));
}

// contract: B12
#[test]
fn the_sender_knows_of_a_miss_although_the_next_ping_cannot_leave() {
    let mut rig = Rig::new(Path::Slot, exact().timeout(s(5)).max_missed(3));
    let sink = rig.sink.clone();
    rig.at(s(22), move || sink.block());
    rig.run_until(s(26));
    assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
}

// contract: B13
#[test]
fn one_old_pong_replayed_for_ever_keeps_nobody_alive() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(5)).max_missed(3));
        // A verified but late pong, and then the same for ever.
        for tenth in 0..1000 {
            let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
            rig.at(s(26) + ms(100) * tenth, move || {
                reader.handle_pong(sink.payload(0));
            });
        }
        rig.run_until(s(200));
        // Stale at 26 s sets the misses back once: 30, 35, 40.
        assert_eq!(rig.verdict().0, s(40));
        assert_eq!(rig.stats().stale(), 1);
    });
}

// contract: B14
#[test]
fn the_tag_of_one_ping_is_none_for_the_next() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.run_until(s(21));
        let first = rig.sink.payload(0);
        rig.reader.handle_pong(first.clone());
        rig.run_until(s(41));
        let second = rig.sink.payload(1);
        assert_ne!(first[8..], second[8..]);
        rig.reader.handle_pong([&second[..8], &first[8..]].concat());
        rig.run_until(s(42));
        assert_eq!((rig.stats().answered(), rig.stats().unsolicited()), (1, 1));
        rig.reader.handle_pong(second);
        rig.run_until(s(43));
        assert_eq!(rig.stats().answered(), 2);
    });
}

// contract: B14
#[test]
fn payloads_of_any_length_and_content_do_no_harm() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        rig.at(s(21), move || {
            let payload = sink.payload(0).to_vec();
            for len in 0..payload.len() {
                reader.handle_pong(payload[..len].to_vec());
            }
            for bit in 0..payload.len() * 8 {
                let mut flipped = payload.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                reader.handle_pong(flipped);
            }
            for extra in [1, 109, 110, 111, 70_000] {
                let mut extended = payload.clone();
                extended.resize(payload.len() + extra, 0);
                reader.handle_pong(extended);
            }
        });
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(40));
        assert_eq!(rig.stats().unsolicited(), 16 + 128 + 5);
    });
}

// contract: B15
#[test]
fn a_pong_may_beat_the_flush() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.sink.eager();
        rig.sink.block_flush();
        rig.answer_after(ms(8));
        rig.run_until(s(21));
        assert_eq!(rig.stats().answered(), 1, "accepted at once");
        assert_eq!(
            rig.stats().latest_rtt(),
            Some(ms(8)),
            "from its handing over"
        );

        // The flush never completes, and no verdict comes of the ping that was answered. The next
        // one is due at 40 s, cannot go, and is judged at 60 s.
        rig.run_until(s(60) - ms(1));
        rig.assert_alive();
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.phase()), (s(60), TimeoutPhase::Write));
        assert_eq!(rig.sink.frames().len(), 1);
    });
}

// contract: B17
#[test]
fn with_any_pong_an_empty_one_answers_but_only_once_a_ping_is_out() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().liveness(Liveness::AnyPong));
        rig.pong_at(s(19), "");
        rig.pong_at(s(21), "");
        rig.run_until(s(50));
        rig.assert_alive();
        let stats = rig.stats();
        assert_eq!((stats.answered(), stats.unsolicited()), (1, 1));
        assert_eq!(stats.latest_rtt(), Some(s(1)), "no other ping is out");
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(60));
    });
}

// contract: B17
#[test]
fn with_any_pong_the_true_one_still_measures() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().liveness(Liveness::AnyPong));
        rig.answer_after(ms(70));
        rig.pong_at(s(20) + ms(20), "by policy first");
        rig.run_until(s(30));
        let stats = rig.stats();
        assert_eq!(
            (stats.answered(), stats.stale(), stats.unsolicited()),
            (1, 0, 0)
        );
        assert_eq!(stats.latest_rtt(), Some(ms(70)));
    });
}

fn activity(max_unproven: Duration) -> Liveness {
    Liveness::Activity { max_unproven }
}

// contract: B18
#[test]
fn activity_postpones_the_ping_to_an_interval_after_it() {
    let mut rig = Rig::new(Path::Slot, exact().liveness(activity(s(1000))));
    for second in [5, 12, 31] {
        let reader = rig.reader.clone();
        rig.at(s(second), move || reader.handle_activity());
    }
    rig.run_until(s(60));
    assert_eq!(rig.sink.pings(), [s(51)]);
    assert_eq!(rig.stats().answered(), 0, "nothing was out");
}

// contract: B18
#[test]
fn activity_answers_a_ping_that_is_out_without_a_sample() {
    let mut rig = Rig::new(Path::Slot, exact().liveness(activity(s(1000))));
    let reader = rig.reader.clone();
    rig.at(s(33), move || reader.handle_activity());
    rig.run_until(s(53));
    rig.assert_alive();
    assert_eq!(rig.sink.pings(), [s(20), s(53)]);
    assert_eq!(rig.stats().answered(), 1);
    assert_eq!(rig.stats().latest_rtt(), None);
    rig.run_until(s(100));
    assert_eq!(rig.verdict().0, s(73));
}

// contract: B18
#[test]
fn activity_while_the_ping_waits_for_the_sink_cancels_it() {
    let mut rig = Rig::new(Path::Slot, exact().liveness(activity(s(1000))));
    rig.sink.block();
    let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
    rig.at(s(30), move || reader.handle_activity());
    rig.at(s(31), move || sink.unblock());
    rig.run_until(s(49));
    assert_eq!(rig.sink.pings(), NO_PINGS, "due at 20 s, cancelled at 30 s");
    assert_eq!(rig.stats().answered(), 0, "it is no answer");
    rig.run_until(s(50));
    assert_eq!(rig.sink.pings(), [s(50)]);
}

// contract: B18
#[test]
fn a_sink_that_takes_nothing_is_found_out_although_activity_is_told_late() {
    for path in [Path::Slot, Path::Set] {
        let config = exact()
            .interval(s(5))
            .timeout(s(60))
            .liveness(activity(s(1000)));
        let mut rig = Rig::new(path, config);
        rig.sink.block();
        let reader = rig.reader.clone();
        // Nobody is woken: it is looked at with the first deadline.
        rig.at(s(6), move || reader.handle_activity());
        rig.run_until(s(200));
        assert_eq!(rig.verdict().0, s(11 + 60), "due at 11 s from then on");
    }
}

// contract: B18
#[test]
fn activity_when_the_interval_is_shorter_than_the_timeout_keeps_the_schedule() {
    let config = exact()
        .interval(s(5))
        .timeout(s(60))
        .liveness(activity(s(1000)));
    let mut rig = Rig::new(Path::Slot, config);
    let reader = rig.reader.clone();
    rig.at(s(6), move || reader.handle_activity());
    rig.run_until(s(11));
    assert_eq!(rig.sink.pings(), [s(5), s(11)]);
}

// contract: B18
#[test]
fn a_stray_pong_is_activity_too() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().liveness(activity(s(1000))));
        rig.pong_at(s(10), "stray");
        rig.pong_at(s(31), "answers by policy");
        rig.run_until(s(51));
        assert_eq!(rig.sink.pings(), [s(30), s(51)]);
        let stats = rig.stats();
        assert_eq!((stats.answered(), stats.unsolicited()), (1, 1));
    });
}

// contract: B19
#[test]
fn a_chatty_peer_that_never_pongs_is_found_out() {
    for max_missed in [1, 3] {
        let config = exact()
            .interval(s(20))
            .timeout(s(5))
            .max_missed(max_missed)
            .liveness(activity(s(60)));
        let mut rig = Rig::new(Path::Slot, config);
        for second in 1..500 {
            let reader = rig.reader.clone();
            rig.at(s(second), move || {
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    reader.handle_activity();
                }));
            });
        }
        rig.run_until(s(400));
        assert_eq!(
            rig.sink.pings()[0],
            s(60),
            "from max_unproven on a pong is wanted"
        );
        assert_eq!(rig.verdict().0, s(60) + s(5) * max_missed);
    }
}

// contract: B19
#[test]
fn a_matching_pong_restores_the_trust_in_activity() {
    let config = exact()
        .interval(s(20))
        .timeout(s(5))
        .liveness(activity(s(60)));
    let mut rig = Rig::new(Path::Slot, config);
    rig.answer_after(ms(500));
    for second in 1..200 {
        let reader = rig.reader.clone();
        rig.at(s(second), move || reader.handle_activity());
    }
    rig.run_until(s(199));
    rig.assert_alive();
    // Proven at 60.5 s, so silent again until 120.5 s.
    assert_eq!(rig.sink.pings(), [s(60), s(120) + ms(500), s(181)]);
}

#[test]
fn the_sender_says_what_became_of_each_pong() {
    let mut rig = Rig::new(Path::Slot, exact().timeout(s(5)).max_missed(9));
    let unasked = Ok(PongKind::Unsolicited);
    assert_eq!(rig.reader.send(Bytes::new()), unasked, "not even started");
    rig.run_until(s(24));
    assert_eq!(rig.reader.send("stray"), unasked);
    let rtt = s(4);
    assert_eq!(
        rig.reader.send(rig.sink.payload(0)),
        Ok(PongKind::Matched { rtt })
    );
    assert_eq!(rig.reader.send(rig.sink.payload(0)), unasked, "once");
    rig.run_until(s(46));
    assert_eq!(rig.sink.pings(), [s(20), s(40), s(45)]);
    assert_eq!(rig.reader.send(rig.sink.payload(1)), Ok(PongKind::Stale));
    assert_eq!(
        rig.reader.send(rig.sink.payload(0)),
        unasked,
        "older than proved"
    );
    rig.drop_heart();
    assert_eq!(rig.reader.send(rig.sink.payload(2)), Err(Closed));
}

// contract: B13
#[test]
fn a_pong_that_comes_out_of_the_very_flush_counts_once() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.sink.block_flush();
    let reader = rig.reader.clone();
    rig.sink.on_wire(move |frame| {
        if let Frame::Ping(payload) = frame {
            reader.handle_pong(payload);
        }
    });
    let sink = rig.sink.clone();
    rig.at(s(25), move || sink.unblock_flush());
    rig.run_until(s(26));
    assert_eq!(rig.stats().answered(), 1);
    let unasked = Ok(PongKind::Unsolicited);
    assert_eq!(rig.reader.send(rig.sink.payload(0)), unasked, "twice");
}

#[test]
fn the_sender_measures_from_the_flush() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.sink.block_flush();
    let sink = rig.sink.clone();
    rig.at(s(25), move || sink.unblock_flush());
    rig.run_until(s(26));
    let rtt = s(1);
    let matched = Ok(PongKind::Matched { rtt });
    assert_eq!(rig.reader.send(rig.sink.payload(0)), matched);
    rig.run_until(s(27));
    assert_eq!(rig.stats().latest_rtt(), Some(rtt));
}

// A pong that is replaced in the slot before the heartbeat looks is counted all the same.
#[test]
fn two_proofs_of_life_between_two_polls_are_both_counted() {
    let mut rig = Rig::new(Path::Slot, exact().timeout(s(5)).max_missed(9));
    rig.run_until(s(26));
    assert_eq!(rig.sink.pings(), [s(20), s(25)]);
    assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
    let rtt = s(1);
    assert_eq!(
        rig.reader.send(rig.sink.payload(1)),
        Ok(PongKind::Matched { rtt })
    );
    let counts = |rig: &Rig| (rig.stats().answered(), rig.stats().stale());
    rig.run_until(s(27));
    assert_eq!(counts(&rig), (1, 1));
}

#[test]
fn a_sender_dropped_before_the_first_poll_ends_the_heartbeat() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.reader.end();
    rig.run_until(s(0));
    assert_eq!(rig.outcome(), Some(Ok(Stopped::PongsEnded)));
}

// They shared one place, and the later took the earlier away.
// contract: B17
#[test]
fn an_answer_by_policy_and_a_stale_pong_between_two_polls_are_both_counted() {
    for policy_first in [false, true] {
        let config = exact()
            .timeout(s(5))
            .max_missed(3)
            .liveness(Liveness::AnyPong);
        let mut rig = Rig::new(Path::Slot, config);
        rig.run_until(s(26));
        assert_eq!(rig.sink.pings(), [s(20), s(25)]);
        if policy_first {
            assert_eq!(rig.reader.send(""), Ok(PongKind::Accepted { ours: true }));
        }
        assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
        if !policy_first {
            assert_eq!(rig.reader.send(""), Ok(PongKind::Accepted { ours: true }));
        }
        rig.run_until(s(27));
        assert_eq!((rig.stats().answered(), rig.stats().stale()), (1, 1));
    }
}

// A due ping goes out between two turns of reading a long backlog.
// contract: B11 O96
#[test]
fn what_is_left_of_a_backlog_when_a_ping_leaves_answers_one_ping_at_the_most() {
    let mut rig = Rig::new(Path::Stream, exact().liveness(Liveness::AnyPong));
    let reader = rig.reader.clone();
    rig.at(s(20), move || {
        for _ in 0..200 {
            reader.handle_pong(&b"stray"[..]);
        }
    });
    rig.run_until(s(100));
    assert_eq!(rig.sink.pings(), [s(20), s(40)]);
    assert_eq!(rig.verdict().0, s(60));
    assert_eq!(
        (rig.stats().answered(), rig.stats().unsolicited()),
        (1, 199)
    );
    // And no more strays are needed for it.
    let mut rig = Rig::new(Path::Stream, exact().liveness(Liveness::AnyPong));
    let (backlog, later) = (rig.reader.clone(), rig.reader.clone());
    rig.at(s(20), move || {
        for _ in 0..200 {
            backlog.handle_pong(&b"stray"[..]);
        }
    });
    rig.at(s(21), move || later.handle_pong(&b"stray"[..]));
    rig.run_until(s(39));
    assert_eq!(rig.stats().answered(), 1);
}
