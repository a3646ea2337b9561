//! L. The adaptive timeout, against the core and, where it wakes them, against the shells.

use futures_pinger::{HeartbeatState, Liveness, PongKind};

use crate::bare::Bare;
use crate::world::{Rig, each_path, exact, ms, s};

/// One cycle with that round-trip time.
fn cycle(bare: &mut Bare, rtt: std::time::Duration) {
    let pings = bare.pings.len();
    while bare.pings.len() == pings {
        let next = bare.drive().expect("a ping is due");
        bare.run_until(next);
    }
    bare.run_until(bare.now + rtt);
    assert!(matches!(bare.answer(), PongKind::Matched { .. }));
}

/// The ping in flight, or the next, is left unanswered: how long it is waited for.
fn timeout(bare: &mut Bare) -> std::time::Duration {
    let step = |bare: &mut Bare| {
        let next = bare.drive().expect("something is due");
        bare.run_until(next);
    };
    while bare.state() == HeartbeatState::Idle {
        step(bare);
    }
    let (sent, missed) = (bare.times()[bare.pings.len() - 1], bare.stats().missed());
    while bare.stats().missed() == missed {
        step(bare);
    }
    bare.now - sent
}

// contract: L73
#[test]
fn before_the_first_sample_it_is_the_end_of_the_range() {
    let mut bare = Bare::new(exact().adaptive_timeout(s(1)..=s(15)));
    assert_eq!(timeout(&mut bare), s(15));
}

// contract: L73
#[test]
fn after_samples_it_is_srtt_and_four_times_the_variation_within_the_range() {
    // One sample of 400 ms: SRTT 400 ms, RTTVAR 200 ms.
    let mut bare = Bare::new(exact().adaptive_timeout(ms(1)..=s(15)));
    cycle(&mut bare, ms(400));
    assert_eq!(timeout(&mut bare), ms(1200));

    // Clamped from below and from above.
    let mut bare = Bare::new(exact().adaptive_timeout(s(2)..=s(15)));
    cycle(&mut bare, ms(400));
    assert_eq!(timeout(&mut bare), s(2));
    let mut bare = Bare::new(exact().adaptive_timeout(ms(1)..=s(1)));
    cycle(&mut bare, ms(400));
    assert_eq!(timeout(&mut bare), s(1));

    // A steady round trip keeps a margin of G = 10 ms, or the granularity if that is more.
    let mut bare = Bare::new(exact().adaptive_timeout(ms(1)..=s(15)));
    for _ in 0..100 {
        cycle(&mut bare, ms(50));
    }
    assert_eq!(timeout(&mut bare), ms(60));
    let config = exact().granularity(ms(40)).adaptive_timeout(ms(1)..=s(15));
    let mut bare = Bare::new(config);
    for _ in 0..100 {
        cycle(&mut bare, ms(50));
    }
    assert_eq!(timeout(&mut bare), ms(90));
}

// contract: L73
#[test]
fn a_miss_doubles_it_up_to_the_end_and_an_answer_recomputes_it() {
    let config = exact().adaptive_timeout(s(1)..=s(6)).max_missed(9);
    let mut bare = Bare::new(config);
    cycle(&mut bare, ms(200));
    let waits: Vec<_> = (0..5).map(|_| timeout(&mut bare)).collect();
    assert_eq!(waits, [s(1), s(2), s(4), s(6), s(6)]);
    bare.run_until(bare.now + ms(200));
    assert!(matches!(bare.answer(), PongKind::Matched { .. }));
    assert_eq!(timeout(&mut bare), s(1));
}

// contract: L73
#[test]
fn a_stale_pong_resets_the_misses_and_not_the_doubling() {
    let config = exact().adaptive_timeout(s(1)..=s(60)).max_missed(3);
    let mut bare = Bare::new(config);
    cycle(&mut bare, ms(200));
    // The link has become slow: each pong comes after 1.5 s. Without the doubling it would be
    // missed for ever; with it the second ping is answered, and gives a sample.
    let (first, missed) = (bare.pings.len(), timeout(&mut bare));
    assert_eq!(missed, s(1));
    bare.run_until(bare.now + ms(500));
    assert_eq!(bare.pong_of(first), PongKind::Stale);
    assert_eq!(
        bare.stats().smoothed_rtt(),
        Some(ms(200)),
        "no sample of a stale pong"
    );
    bare.run_until(bare.now + s(1));
    let rtt = ms(1500);
    assert_eq!(bare.answer(), PongKind::Matched { rtt });
    assert!(bare.stats().smoothed_rtt() > Some(ms(300)));

    // The stale pong comes before the next miss, which doubles once more.
    let config = exact().adaptive_timeout(s(1)..=s(60)).max_missed(3);
    let mut bare = Bare::new(config);
    cycle(&mut bare, ms(200));
    let first = bare.pings.len();
    assert_eq!(timeout(&mut bare), s(1));
    assert_eq!(bare.pong_of(first), PongKind::Stale);
    assert_eq!(timeout(&mut bare), s(2));
    assert_eq!(timeout(&mut bare), s(4));
}

// contract: L73
#[test]
fn a_ping_with_a_late_wake_gives_no_sample() {
    let mut bare = Bare::new(exact().adaptive_timeout(s(1)..=s(8)));
    bare.run_until(s(20));
    // Stalled for 30 s, with the pong unread.
    bare.now = s(50);
    assert_eq!(bare.answer(), PongKind::Matched { rtt: s(30) });
    let stats = bare.stats();
    assert_eq!((stats.answered(), stats.smoothed_rtt()), (1, None));
    assert_eq!(stats.late_wakes(), 1);

    // Seen late first, and the pong in the grace.
    let mut bare = Bare::new(exact().adaptive_timeout(s(1)..=s(8)));
    bare.run_until(s(20));
    bare.now = s(50);
    let now = bare.instant();
    bare.heartbeat.handle_timeout(now);
    bare.run_until(s(51));
    assert_eq!(bare.answer(), PongKind::Matched { rtt: s(31) });
    assert_eq!(bare.stats().smoothed_rtt(), None);
    assert_eq!(bare.stats().late_wakes(), 1);
}

// contract: L73
#[test]
fn by_default_it_takes_three_misses() {
    let mut bare = Bare::new(exact().adaptive_timeout(s(1)..=s(8)));
    cycle(&mut bare, ms(100));
    bare.run_until(s(1000));
    let (at, verdict) = bare.timed_out();
    assert_eq!(verdict.missed(), 3);
    assert_eq!(at, s(40) + s(1) + s(2) + s(4));
}

// contract: L73
#[test]
fn the_shells_wake_for_the_timeout_that_was_measured() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().adaptive_timeout(s(1)..=s(20)));
        // SRTT 400 ms and RTTVAR 200 ms.
        rig.answer(|ping| (ping == 0).then_some(ms(400)));
        rig.run_until(s(100));
        let (first, second, third) = (ms(1200), ms(2400), ms(4800));
        assert_eq!(
            rig.sink.pings(),
            [s(20), s(40), s(40) + first, s(40) + first + second]
        );
        let (at, verdict) = rig.verdict();
        assert_eq!(at, s(40) + first + second + third);
        assert_eq!((verdict.missed(), verdict.elapsed()), (3, third));
    });
}

// contract: L73
#[test]
fn a_pong_that_is_read_after_a_stall_gives_the_shells_no_sample() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().adaptive_timeout(s(1)..=s(8)));
        // It has arrived long since, but neither the reader nor the heartbeat has run.
        rig.answer(|ping| (ping == 0).then_some(s(30)));
        rig.stall(s(21)..s(50));
        rig.run_until(s(51));
        let stats = rig.stats();
        assert_eq!((stats.answered(), stats.late_wakes()), (1, 1));
        assert_eq!(stats.smoothed_rtt(), None);
        // The next ping waits for as long as the first did.
        let next = rig.sink.pings()[1];
        rig.run_until(next + s(8));
        assert_eq!(rig.stats().missed(), 1);
    });
}

// contract: L74
#[test]
fn the_shells_show_a_suspect_until_its_pong() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().adaptive_timeout(s(5)..=s(20)));
        rig.answer(|ping| Some([ms(400), s(3)][ping.min(1)]));
        let state = |rig: &mut Rig, at| {
            rig.run_until(at);
            rig.stats().state_at(rig.world.instant(at))
        };
        assert_eq!(state(&mut rig, s(41)), HeartbeatState::Waiting);
        assert_eq!(state(&mut rig, s(42)), HeartbeatState::Suspect);
        assert_eq!(state(&mut rig, s(44)), HeartbeatState::Idle);
        rig.assert_alive();
    });
}

// contract: L74
#[test]
fn a_ping_unanswered_for_longer_than_usual_is_suspect_until_its_pong() {
    for config in [exact(), exact().adaptive_timeout(s(5)..=s(20))] {
        let mut bare = Bare::new(config);
        cycle(&mut bare, ms(400));
        bare.run_until(s(40));
        // SRTT 400 ms and four times 200 ms: 1.2 s.
        let state_after = |bare: &Bare, wait| {
            let at = bare.instant() + wait;
            bare.stats().state_at(at)
        };
        assert_eq!(state_after(&bare, ms(0)), HeartbeatState::Waiting);
        assert_eq!(state_after(&bare, ms(1200)), HeartbeatState::Waiting);
        assert_eq!(state_after(&bare, ms(1201)), HeartbeatState::Suspect);
        bare.run_until(s(43));
        assert_eq!((bare.state(), bare.done), (HeartbeatState::Suspect, None));
        bare.answer();
        assert_eq!(bare.state(), HeartbeatState::Idle);
    }
}

// contract: L74
#[test]
fn a_peer_that_never_answered_is_suspect_after_a_second() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(21));
    assert_eq!(bare.state(), HeartbeatState::Waiting);
    bare.run_until(s(22));
    assert_eq!(bare.state(), HeartbeatState::Suspect);
}

// contract: L74
#[test]
fn after_a_miss_it_is_suspect_until_a_proof_of_life() {
    let mut bare = Bare::new(exact().timeout(s(5)).max_missed(3));
    bare.run_until(s(25) + ms(500));
    assert_eq!(bare.state(), HeartbeatState::Suspect);
    assert_eq!(bare.pong_of(0), PongKind::Stale);
    assert_eq!(bare.state(), HeartbeatState::Waiting);
}

#[test]
fn an_answer_by_policy_recomputes_it_too() {
    let config = exact()
        .adaptive_timeout(s(1)..=s(60))
        .max_missed(9)
        .liveness(Liveness::AnyPong);
    let mut bare = Bare::new(config);
    cycle(&mut bare, ms(200));
    assert_eq!(timeout(&mut bare), s(1));
    let now = bare.instant();
    assert_eq!(
        bare.heartbeat.handle_pong(b"", now),
        PongKind::Accepted { ours: true }
    );
    assert_eq!(timeout(&mut bare), s(1), "not 2 s");
}
