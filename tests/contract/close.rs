//! E. Timeout, then close; and the other ends.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_pinger::{
    CloseReason, Closed, Error, Frame, HeartbeatState, PongKind, Stopped, TimeoutPhase,
};

use crate::world::{Broken, Fault, Reader, Rig, SinkScript, each_path, each_pinger, exact, ms, s};

/// How the sink is by then.
type Prepare = fn(&SinkScript);

fn is_ping_timeout(frame: &Frame) -> bool {
    *frame == Frame::Close(CloseReason::ping_timeout())
}

// contract: E29
#[test]
fn a_pong_timeout_sends_one_close_frame_and_then_says_so() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(40), true));
        let frames = rig.sink.frames();
        assert!(matches!(&frames[..], [(_, Frame::Ping(_)), (t, close)]
            if *t == s(40) && is_ping_timeout(close)));
        let Frame::Close(reason) = &frames[1].1 else {
            unreachable!()
        };
        assert_eq!((reason.code(), reason.reason()), (1011, "Ping timeout"));
    });
}

// contract: E29
#[test]
fn the_verdict_waits_for_the_flush_of_the_close_frame() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        let (block, unblock) = (rig.sink.clone(), rig.sink.clone());
        rig.at(s(30), move || block.block_flush());
        rig.at(s(40) + ms(300), move || unblock.unblock_flush());
        rig.run_until(s(40) + ms(299));
        rig.assert_alive();
        assert_eq!(
            rig.stats().state_at(rig.world.instant(s(40))),
            HeartbeatState::Closing
        );
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(40) + ms(300), true));
    });
}

// contract: E29
#[test]
fn another_close_frame_can_be_chosen() {
    let reason = CloseReason::new(4001, "no heartbeat").expect("valid");
    each_path(|path| {
        let mut rig = Rig::new(path, exact().close(reason.clone()));
        rig.run_until(s(100));
        assert_eq!(rig.sink.closes(), [(s(40), Frame::Close(reason.clone()))]);
    });
}

// contract: E30
#[test]
fn a_close_frame_that_cannot_be_written_holds_the_verdict_no_longer_than_its_timeout() {
    each_path(|path| {
        for block in [SinkScript::block, SinkScript::block_flush] {
            let mut rig = Rig::new(path, exact().close_timeout(ms(700)));
            let sink = rig.sink.clone();
            rig.at(s(30), move || block(&sink));
            rig.run_until(s(100));
            let (at, verdict) = rig.verdict();
            assert_eq!((at, verdict.close_sent()), (s(40) + ms(700), false));
        }
    });
}

// contract: E31
#[test]
fn without_a_close_frame_the_verdict_comes_at_once() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().no_close());
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(40), false));
        assert_eq!(rig.sink.closes(), []);
    });
}

// contract: E32
#[test]
fn traffic_does_not_extend_the_wait_for_the_close_frame() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        let sink = rig.sink.clone();
        rig.at(s(30), move || sink.block());
        for millis in 1..3000 {
            let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
            rig.at(s(40) + ms(millis), move || {
                reader.handle_pong("stray");
                reader.handle_pong(sink.payload(0));
            });
        }
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(41), false));
    });
}

// contract: E34
#[test]
fn the_end_of_the_pongs_ends_the_heartbeat_at_once_without_a_frame() {
    each_pinger(|path| {
        // Idle, sending (blocked, and unflushed), waiting.
        let states: [(u64, Prepare); 4] = [
            (10, |_| {}),
            (25, SinkScript::block),
            (25, SinkScript::block_flush),
            (25, |_| {}),
        ];
        for (second, prepare) in states {
            let mut rig = Rig::new(path, exact());
            prepare(&rig.sink);
            let reader = rig.reader.clone();
            rig.at(s(second), move || reader.end());
            rig.run_until(s(100));
            assert_eq!(rig.outcome(), Some(Ok(Stopped::PongsEnded)));
            assert_eq!(rig.ended_at(), Some(s(second)));
            assert_eq!(rig.sink.closes(), []);
            assert!(rig.polls() < 10, "no busy loop");
        }
    });
}

// contract: E34
#[test]
fn a_pong_just_before_the_end_is_still_counted() {
    each_pinger(|path| {
        let mut rig = Rig::new(path, exact());
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        rig.at(s(21), move || {
            reader.handle_pong(sink.payload(0));
            reader.end();
        });
        rig.run_until(s(30));
        assert_eq!(rig.outcome(), Some(Ok(Stopped::PongsEnded)));
        assert_eq!(rig.stats().answered(), 1);
    });
}

// contract: E35
#[test]
fn an_error_of_the_sink_ends_the_heartbeat_with_it_and_no_close_frame_is_tried() {
    each_path(|path| {
        for fault in [Fault::Ready, Fault::Send, Fault::Flush] {
            let mut rig = Rig::new(path, exact());
            rig.sink.fail(fault);
            rig.run_until(s(100));
            assert_eq!(rig.outcome(), Some(Err(Error::Transport(Broken))));
            assert_eq!(rig.ended_at(), Some(s(20)));
            assert_eq!(rig.sink.closes(), []);
        }
        // While the flush hangs.
        let mut rig = Rig::new(path, exact());
        rig.sink.block_flush();
        let sink = rig.sink.clone();
        rig.at(s(22), move || sink.fail(Fault::Flush));
        rig.run_until(s(100));
        assert_eq!(rig.ended_at(), Some(s(22)));
    });
}

// contract: E35
#[test]
fn an_error_while_closing_leaves_the_verdict_as_it_is() {
    each_path(|path| {
        for fault in [Fault::Ready, Fault::Send, Fault::Flush] {
            let mut rig = Rig::new(path, exact());
            let sink = rig.sink.clone();
            rig.at(s(30), move || sink.fail(fault));
            rig.run_until(s(100));
            let (at, verdict) = rig.verdict();
            assert_eq!((at, verdict.close_sent()), (s(40), false), "{fault:?}");
        }
    });
}

// contract: E36
#[test]
fn dropped_in_any_state_it_lets_go_of_everything_and_sends_nothing_more() {
    each_path(|path| {
        let states: [(u64, Prepare); 6] = [
            (0, |_| {}),
            (10, |_| {}),
            (25, SinkScript::block),
            (25, SinkScript::block_flush),
            (25, |_| {}),
            (40, SinkScript::block_flush),
        ];
        for (second, prepare) in states {
            let mut rig = Rig::new(path, exact().write_timeout(s(60)));
            let sink = rig.sink.clone();
            let when = if second == 40 { s(30) } else { s(0) };
            rig.at(when, move || prepare(&sink));
            rig.run_until(s(second) + ms(10));
            rig.assert_alive();
            let before = rig.sink.frames().len();
            rig.drop_heart();
            rig.sink.unblock();
            rig.sink.unblock_flush();
            rig.reader.handle_pong("to nobody");
            rig.run_until(s(200));
            assert_eq!(rig.sink.frames().len(), before);
            assert!(!rig.sink.is_held(), "the sink is released");
            assert_eq!(rig.world.timers(), 0, "the timer is released");
            match &rig.reader {
                Reader::Stream(pongs) => assert!(!pongs.is_held(), "the stream is released"),
                Reader::Slot(_) => {
                    let refused = rig.reader.send("to nobody");
                    assert_eq!(refused, Err(Closed), "the channel is closed");
                }
                Reader::Set(_) => {
                    let stray = rig.reader.send("to nobody");
                    assert_eq!(stray, Ok(PongKind::Unsolicited));
                }
            }
        }
    });
}

// contract: E37
#[test]
fn polled_after_completion_it_panics_as_documented() {
    each_pinger(|path| {
        let mut rig = Rig::new(path, exact());
        rig.reader.end();
        rig.run_until(s(1));
        let panic = catch_unwind(AssertUnwindSafe(|| rig.poll_after_the_end()));
        let message = panic.expect_err("it panics");
        let message = message.downcast_ref::<&str>().copied();
        assert_eq!(message, Some("`Pinger` polled after completion"));
    });
}

// contract: E37
#[test]
fn a_fused_future_says_that_it_has_ended_before_that() {
    use futures::FutureExt;
    use futures::future::FusedFuture;

    let (sink, pongs) = (futures::sink::drain(), futures::stream::empty());
    let config = exact().build().expect("valid");
    let mut pinger = futures_pinger::Pinger::new(sink, pongs, config);
    assert!(!pinger.is_terminated());
    let ended = (&mut pinger).now_or_never().expect("the pongs have ended");
    assert_eq!(ended.ok(), Some(Stopped::PongsEnded));
    assert!(pinger.is_terminated());
}

// contract: E38
#[test]
fn the_verdict_carries_the_numbers() {
    each_path(|path| {
        let config = exact().interval(s(10)).timeout(s(5)).max_missed(2);
        let mut rig = Rig::new(path, config);
        rig.answer(|ping| (ping < 12).then_some(ms(31)));
        rig.run_until(s(1000));
        let (_, verdict) = rig.verdict();
        assert_eq!(verdict.phase(), TimeoutPhase::Pong);
        assert_eq!(verdict.elapsed(), s(5));
        assert_eq!((verdict.missed(), verdict.answered()), (2, 12));
        assert_eq!(verdict.last_rtt(), Some(ms(31)));
        assert_eq!(
            Error::<Broken>::Timeout(verdict).to_string(),
            "no pong for 5s, 2 pings missed in a row (after 12 answered pings, last rtt 31ms)"
        );
    });
}

// contract: N86
#[test]
fn the_dedicated_sink_gets_the_close_frame_and_nothing_else() {
    each_pinger(|path| {
        let (mut rig, out) = Rig::dedicated(path, exact());
        rig.answer(|ping| (ping < 3).then_some(ms(5)));
        rig.run_until(s(200));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(100), true));
        assert_eq!(rig.sink.pings().len(), rig.sink.frames().len());
        assert_eq!(
            out.frames(),
            [(s(100), Frame::Close(CloseReason::ping_timeout()))]
        );
    });
}

// contract: N86
#[test]
fn after_a_write_timeout_the_dedicated_sink_gets_the_close_frame_too() {
    each_pinger(|path| {
        for block in [SinkScript::block, SinkScript::block_flush] {
            let (mut rig, out) = Rig::dedicated(path, exact().write_timeout(s(5)));
            block(&rig.sink);
            rig.run_until(s(200));
            let (at, verdict) = rig.verdict();
            assert_eq!(verdict.phase(), TimeoutPhase::Write);
            assert_eq!((at, verdict.close_sent()), (s(25), true));
            assert_eq!(out.closes().len(), 1);
            assert_eq!(rig.sink.closes(), []);
        }
    });
}

// contract: N86
#[test]
fn a_dedicated_sink_that_is_blocked_or_broken_only_costs_the_close_frame() {
    each_pinger(|path| {
        for fault in [Fault::Ready, Fault::Send, Fault::Flush] {
            let (mut rig, out) = Rig::dedicated(path, exact());
            out.fail(fault);
            rig.run_until(s(200));
            let (at, verdict) = rig.verdict();
            assert_eq!((at, verdict.close_sent()), (s(40), false));
        }
        for block in [SinkScript::block, SinkScript::block_flush] {
            let (mut rig, out) = Rig::dedicated(path, exact().close_timeout(ms(400)));
            block(&out);
            rig.run_until(s(200));
            let (at, verdict) = rig.verdict();
            assert_eq!((at, verdict.close_sent()), (s(40) + ms(400), false));
        }
    });
}
