//! G. Floods and cost, and what was learned of them on real networks (N81).

use bytes::Bytes;
use futures_pinger::Liveness;

use crate::world::{NO_PINGS, Path, Reader, Rig, each_path, exact, ms, s};

/// Pongs that one poll reads.
const BUDGET: usize = 64;

// contract: G44
#[test]
fn a_million_stray_pongs_change_nothing_and_wake_nobody() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.answer_after(ms(10));
    rig.run_until(s(21));
    let (wakes, polls) = (rig.wakes(), rig.polls());
    for stray in 0..1_000_000_u128 {
        let _ = rig.reader.send(stray.to_be_bytes().to_vec());
    }
    rig.run_until(s(22));
    assert_eq!((rig.wakes(), rig.polls()), (wakes, polls));
    assert_eq!(rig.stats().unsolicited(), 1_000_000);
    rig.run_until(s(100) + ms(500));
    rig.assert_alive();
    assert_eq!(rig.sink.pings(), [s(20), s(40), s(60), s(80), s(100)]);
}

// contract: G44
#[test]
fn each_poll_reads_a_bounded_number_of_pongs_and_then_yields() {
    let mut rig = Rig::new(Path::Stream, exact());
    let Reader::Stream(pongs) = rig.reader.clone() else {
        unreachable!()
    };
    for _ in 0..1000 {
        pongs.push(Bytes::from_static(b"stray"));
    }
    for poll in 1..=15 {
        rig.poll();
        assert_eq!(pongs.read(), BUDGET * poll);
        assert_eq!(rig.wakes(), poll, "it wakes itself, once");
    }
    rig.poll();
    assert_eq!((pongs.read(), rig.wakes()), (1000, 15), "drained");
}

// contract: G45
#[test]
fn a_pong_behind_a_long_backlog_is_read_before_any_verdict() {
    for backlog in [65, 1_000, 65_535] {
        let mut rig = Rig::new(Path::Stream, exact());
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        // All of it is there when the deadline is seen.
        rig.at(s(40), move || {
            for _ in 0..backlog {
                reader.handle_pong("stray");
            }
            reader.handle_pong(sink.payload(0));
        });
        rig.run_until(s(41));
        rig.assert_alive();
        assert_eq!(rig.stats().answered(), 1, "{backlog}");
    }
}

// A runtime's cooperative budget says Pending in the middle of a backlog; that was taken for its end.
// contract: G45
#[test]
fn a_backlog_that_a_runtime_hands_out_in_shares_is_read_before_any_verdict() {
    let mut rig = Rig::new(Path::Stream, exact().stall_grace(false));
    let Reader::Stream(pongs) = rig.reader.clone() else {
        unreachable!()
    };
    pongs.budget(10);
    let sink = rig.sink.clone();
    rig.at(s(40), move || {
        for _ in 0..1000 {
            pongs.push(Bytes::from_static(b"stray"));
        }
        pongs.push(sink.payload(0));
    });
    rig.run_until(s(41));
    rig.assert_alive();
    assert_eq!(rig.stats().answered(), 1);
}

// contract: N81
#[test]
fn an_endless_flood_cannot_postpone_the_verdict_for_ever() {
    let mut rig = Rig::new(Path::Stream, exact());
    let Reader::Stream(pongs) = rig.reader.clone() else {
        unreachable!()
    };
    rig.run_until(s(39));
    let before = pongs.read();
    pongs.flood();
    // Each poll costs time: a flood of 6 400 pongs a second.
    let mut now = s(39);
    while rig.outcome().is_none() {
        rig.poll();
        now += ms(10);
        rig.world_step(now);
        assert!(now < s(100), "no verdict");
    }
    let past = pongs.read() - before - 100 * BUDGET;
    assert!((65_536..65_536 + 2 * BUDGET).contains(&past), "{past}");
}

// contract: N81
#[test]
fn due_pings_leave_in_the_middle_of_a_flood() {
    let mut rig = Rig::new(Path::Stream, exact());
    let Reader::Stream(pongs) = rig.reader.clone() else {
        unreachable!()
    };
    rig.answer_after(ms(1));
    pongs.flood();
    let mut now = s(0);
    while now < s(65) {
        rig.poll();
        now += ms(5);
        rig.world_step(now);
    }
    rig.assert_alive();
    assert_eq!(rig.sink.pings(), [s(20), s(40), s(60)]);
    assert_eq!(rig.stats().answered(), 3, "and their pongs are read");
}

// contract: N81
#[test]
fn in_a_flood_the_write_deadline_is_judged_too() {
    let mut rig = Rig::new(Path::Stream, exact());
    let Reader::Stream(pongs) = rig.reader.clone() else {
        unreachable!()
    };
    rig.sink.block();
    pongs.flood();
    let mut now = s(0);
    while rig.outcome().is_none() {
        rig.poll();
        now += ms(10);
        rig.world_step(now);
        assert!(now < s(100), "no verdict");
    }
    let (at, _) = rig.verdict();
    assert!(
        at >= s(40) + ms(10) * 1023 && at < s(40) + ms(10) * 1026,
        "{at:?}"
    );
}

// contract: G49
#[test]
fn the_timer_is_armed_twice_for_each_cycle_answered_at_once() {
    each_path(|path| {
        for traffic in [false, true] {
            let mut rig = Rig::new(path, exact());
            rig.answer_after(ms(20));
            if traffic {
                for millis in 0..20_000 {
                    rig.pong_at(ms(100 * millis), "stray");
                }
            }
            rig.run_until(s(2000) + ms(500));
            rig.assert_alive();
            assert_eq!(rig.sink.pings().len(), 100);
            // And once at the start. The last pong wakes nobody, so that the next ping is yet to be
            // armed for, unless the pong had to be read out of a stream.
            let arms = if path == Path::Stream { 201 } else { 200 };
            assert_eq!(rig.world.resets(), arms);
        }
    });
}

// contract: G49
#[test]
fn a_blocked_sink_and_a_miss_cost_one_arming_more() {
    each_path(|path| {
        let cost = |prepare: &dyn Fn(&Rig)| {
            let mut rig = Rig::new(path, exact().timeout(s(8)).max_missed(2));
            rig.answer(|_| Some(ms(20)));
            prepare(&rig);
            rig.run_until(s(39));
            rig.assert_alive();
            rig.world.resets()
        };
        assert_eq!(cost(&|_| {}), 3);
        let blocked = cost(&|rig| {
            let sink = rig.sink.clone();
            sink.block();
            rig.at(s(21), move || sink.unblock());
        });
        assert_eq!(blocked, 4);
        // The missed ping has no due time to arm for, but a deadline beyond its checkpoint.
        let missed = cost(&|rig| rig.answer(|ping| (ping > 0).then_some(ms(20))));
        assert_eq!(missed, 3 + 2);
    });
}

// contract: G49
#[test]
fn activity_without_end_arms_no_timer() {
    let unproven = Liveness::Activity {
        max_unproven: s(1_000_000),
    };
    let mut rig = Rig::new(Path::Slot, exact().liveness(unproven));
    for tenth in 0..10_000 {
        let reader = rig.reader.clone();
        rig.at(ms(100) * tenth, move || reader.handle_activity());
    }
    rig.run_until(s(1000));
    // Woken by the timer alone, which looks at what has come in between.
    assert!(rig.world.resets() <= 52, "{}", rig.world.resets());
    assert_eq!(rig.sink.pings(), NO_PINGS);
}

// contract: G50
#[test]
fn a_poll_with_nothing_to_do_asks_nothing_of_the_sink_and_arms_nothing() {
    each_path(|path| {
        for time in [s(5), s(25)] {
            let mut rig = Rig::new(path, exact());
            rig.run_until(time);
            let before = (rig.sink.polls(), rig.world.resets(), rig.wakes());
            for _ in 0..100 {
                rig.poll();
            }
            assert_eq!((rig.sink.polls(), rig.world.resets(), rig.wakes()), before);
        }
    });
}
