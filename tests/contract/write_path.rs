//! C. Write path.

use futures_pinger::{Frame, TimeoutPhase};

use crate::world::{Rig, each_path, exact, ms, s};

// contract: C20
#[test]
fn a_sink_that_takes_nothing_is_a_verdict_after_the_write_timeout() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().write_timeout(s(7)));
        rig.sink.block();
        rig.run_until(s(27) - ms(1));
        rig.assert_alive();
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.phase()), (s(27), TimeoutPhase::Write));
        assert_eq!(verdict.elapsed(), s(7));
        assert_eq!((verdict.missed(), verdict.close_sent()), (0, false));
        assert_eq!(rig.sink.frames(), [], "no close frame is tried");
        assert_eq!(rig.stats().write_blocked(), s(7));
    });
}

// contract: C20
#[test]
fn the_write_timeout_is_not_spent_before_the_ping_is_offered() {
    each_path(|path| {
        // The grace would give back what was spent too early.
        for grace in [true, false] {
            let config = || exact().write_timeout(s(7)).stall_grace(grace);
            // Not while unpolled ...
            let mut rig = Rig::new(path, config());
            rig.sink.block();
            rig.stall(s(10)..s(200));
            rig.run_until(s(207) - ms(1));
            rig.assert_alive();
            rig.run_until(s(300));
            assert_eq!(rig.verdict().0, s(207));

            // ... nor while another ping is out.
            let mut rig = Rig::new(path, config().interval(s(10)).timeout(s(60)));
            rig.answer(|ping| (ping == 0).then_some(s(45)));
            let sink = rig.sink.clone();
            rig.at(s(11), move || sink.block());
            rig.run_until(s(300));
            let (at, verdict) = rig.verdict();
            assert_eq!((at, verdict.phase()), (s(62), TimeoutPhase::Write));
        }
    });
}

// contract: C21
#[test]
fn a_flush_that_never_completes_is_a_verdict_after_the_write_timeout() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().write_timeout(s(7)));
        rig.sink.block_flush();
        rig.run_until(s(26));
        assert_eq!(rig.stats().sent(), 0, "sent means flushed");
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.phase()), (s(27), TimeoutPhase::Write));
        assert!(matches!(rig.sink.frames()[..], [(_, Frame::Ping(_))]));
        assert_eq!(rig.stats().sent(), 0);
    });
}

// contract: C21
#[test]
fn the_timeout_starts_with_the_completed_flush() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.sink.block_flush();
        let sink = rig.sink.clone();
        rig.at(s(33), move || sink.unblock_flush());
        rig.run_until(s(53) - ms(1));
        rig.assert_alive();
        assert_eq!(rig.stats().sent(), 1);
        rig.run_until(s(53));
        assert_eq!(rig.verdict().0, s(53));
        assert_eq!(rig.stats().write_blocked(), s(13));
    });
}

// contract: C22
#[test]
fn a_slow_sink_and_a_slow_peer_together_are_alive() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(10)).write_timeout(s(10)));
        rig.answer_after(s(9));
        rig.sink.block();
        let sink = rig.sink.clone();
        rig.at(s(29), move || sink.unblock());
        rig.run_until(s(39));
        rig.assert_alive();
        assert_eq!((rig.sink.pings(), rig.stats().answered()), (vec![s(29)], 1));
        assert_eq!(rig.stats().latest_rtt(), Some(s(9)));
    });
}

// contract: C23
#[test]
fn a_ping_that_is_answered_before_its_flush_keeps_the_next_out_of_the_sink() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(60)));
        rig.sink.block_flush();
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        rig.at(s(21), move || reader.handle_pong(sink.payload(0)));
        let sink = rig.sink.clone();
        rig.at(s(50), move || sink.unblock_flush());
        rig.run_until(s(49));
        assert_eq!(rig.stats().answered(), 1);
        assert_eq!(rig.sink.pings(), [s(20)]);
        rig.run_until(s(51));
        assert_eq!(rig.sink.pings(), [s(20), s(50)]);
        assert_eq!(rig.sink.readies(), 2);
    });
}

// contract: C23
#[test]
fn each_frame_takes_one_readiness_and_is_flushed_before_the_next() {
    // The scripted sink panics at a frame without readiness and at one before a completed flush.
    each_path(|path| {
        let mut rig = Rig::new(path, exact().interval(s(3)).timeout(s(60)));
        rig.answer_after(ms(700));
        for round in 0..200 {
            let sink = rig.sink.clone();
            rig.at(ms(1700 * round), move || match round % 4 {
                0 => sink.block(),
                1 => sink.block_flush(),
                2 => sink.unblock(),
                _ => sink.unblock_flush(),
            });
        }
        rig.run_until(s(400));
        rig.assert_alive();
        let frames = rig.sink.frames().len();
        assert!(frames > 50, "{frames}");
        assert_eq!(rig.sink.readies(), frames);
    });
}
