//! G. The ponger.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use futures::future::{FusedFuture, Future};
use futures::task::noop_waker_ref;
use futures_pinger::{Frame, PingSender, Ponger, SendPingError, Stopped, ponger};
use futures_test::task::new_count_waker;

use crate::world::{Broken, Fault, ScriptedSink, SinkScript, World};

struct Answering {
    pings: Option<PingSender>,
    sink: SinkScript,
    ponger: Pin<Box<Ponger<ScriptedSink>>>,
}

fn answering(backlog: usize) -> Answering {
    let (outgoing, sink) = World::new().sink();
    let (pings, ponger) = ponger(outgoing);
    let backlog = NonZeroUsize::new(backlog).expect("not zero");
    Answering {
        pings: Some(pings),
        sink,
        ponger: Box::pin(ponger.backlog(backlog)),
    }
}

impl Answering {
    fn ping(&self, payload: impl Into<Vec<u8>>) {
        let pings = self.pings.as_ref().expect("not dropped");
        pings.handle_ping(payload.into()).expect("the ponger runs");
    }

    fn poll(&mut self) -> Poll<Result<Stopped, Broken>> {
        let mut cx = std::task::Context::from_waker(noop_waker_ref());
        self.ponger.as_mut().poll(&mut cx)
    }

    fn pongs(&self) -> Vec<Bytes> {
        let frames = self.sink.frames().into_iter();
        let pongs = frames.map(|(_, frame)| match frame {
            Frame::Pong(payload) => payload,
            other => panic!("{other:?}"),
        });
        pongs.collect()
    }
}

// contract: G46
#[test]
fn behind_a_blocked_sink_the_newest_of_a_million_pings_is_kept() {
    let mut answering = answering(1);
    answering.sink.block();
    for ping in 0..1_000_000_u32 {
        answering.ping(ping.to_be_bytes());
        if ping % 10_000 == 0 {
            assert!(answering.poll().is_pending());
        }
    }
    answering.sink.unblock();
    assert!(answering.poll().is_pending());
    assert_eq!(answering.pongs(), [999_999_u32.to_be_bytes().to_vec()]);
}

// contract: G46
#[test]
fn by_default_the_newest_alone_is_kept() {
    let (outgoing, sink) = World::new().sink();
    let (pings, ponger) = ponger(outgoing);
    let mut answering = Answering {
        pings: Some(pings),
        sink,
        ponger: Box::pin(ponger),
    };
    answering.sink.block();
    for ping in 0..100_u8 {
        answering.ping([ping]);
        assert!(answering.poll().is_pending());
    }
    answering.sink.unblock();
    assert!(answering.poll().is_pending());
    assert_eq!(answering.pongs(), [vec![99]]);
}

// contract: G46
#[test]
fn a_backlog_of_ten_answers_ten_in_order() {
    for polled_in_between in [false, true] {
        let mut answering = answering(10);
        answering.sink.block();
        assert!(answering.poll().is_pending());
        for ping in 0..10_u8 {
            answering.ping([ping]);
            if polled_in_between {
                assert!(answering.poll().is_pending());
            }
        }
        answering.sink.unblock();
        assert!(answering.poll().is_pending());
        let expected: Vec<_> = (0..10_u8).map(|ping| Bytes::from(vec![ping])).collect();
        assert_eq!(answering.pongs(), expected);
    }
}

// contract: G46
#[test]
fn beyond_its_backlog_the_oldest_give_way() {
    for backlog in 1..5_u8 {
        let mut answering = answering(backlog.into());
        answering.sink.block();
        for ping in 0..20_u8 {
            answering.ping([ping]);
            assert!(answering.poll().is_pending());
        }
        answering.sink.unblock();
        assert!(answering.poll().is_pending());
        let expected: Vec<_> = (20 - backlog..20).map(|p| Bytes::from(vec![p])).collect();
        assert_eq!(answering.pongs(), expected);
    }
}

// contract: G46
#[test]
fn pings_that_wait_when_the_backlog_is_set_are_kept() {
    let (outgoing, sink) = World::new().sink();
    let (pings, ponger) = ponger(outgoing);
    pings.handle_ping(vec![1]).expect("it runs");
    let ponger = ponger.backlog(NonZeroUsize::new(2).expect("not zero"));
    pings.handle_ping(vec![2]).expect("it runs");
    let mut answering = Answering {
        pings: Some(pings),
        sink,
        ponger: Box::pin(ponger),
    };
    assert!(answering.poll().is_pending());
    assert_eq!(answering.pongs(), [vec![1], vec![2]]);
}

// contract: G47
#[test]
fn payloads_of_0_to_125_bytes_are_echoed_exactly_and_longer_ones_refused() {
    let mut answering = answering(1);
    for len in 0..=125_usize {
        let payload: Vec<u8> = (0..=255).cycle().skip(len).take(len).collect();
        answering.ping(payload.clone());
        assert!(answering.poll().is_pending());
        assert_eq!(
            answering.pongs().last().map(|pong| pong.to_vec()),
            Some(payload)
        );
    }
    let pings = answering.pings.as_ref().expect("not dropped");
    for len in [126, 127, 70_000] {
        assert_eq!(
            pings.handle_ping(vec![0; len]),
            Err(SendPingError::TooLong(len))
        );
    }
}

// contract: G47
#[test]
fn after_close_nothing_is_answered_not_even_what_is_queued() {
    for drop_sender in [false, true] {
        let mut answering = answering(10);
        answering.ping([1]);
        answering.ping([2]);
        answering.pings.as_ref().expect("not dropped").close();
        if drop_sender {
            answering.pings = None;
        }
        assert_eq!(answering.poll(), Poll::Ready(Ok(Stopped::Requested)));
        assert_eq!(answering.pongs(), [] as [Bytes; 0]);
        if let Some(pings) = &answering.pings {
            assert_eq!(pings.handle_ping(vec![3]), Err(SendPingError::Closed));
        }
        assert!(answering.ponger.is_terminated());
    }
}

// contract: G47
#[test]
fn close_ends_it_while_the_sink_is_blocked() {
    let mut answering = answering(1);
    answering.sink.block();
    answering.ping([1]);
    let (waker, wakes) = new_count_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(answering.ponger.as_mut().poll(&mut cx).is_pending());
    answering.pings.as_ref().expect("not dropped").close();
    assert!(wakes.get() >= 1, "a lost wake-up");
    assert_eq!(answering.poll(), Poll::Ready(Ok(Stopped::Requested)));
}

#[test]
fn when_the_senders_are_gone_what_is_queued_is_answered_first() {
    let mut answering = answering(10);
    answering.ping([1]);
    answering.ping([2]);
    answering.pings = None;
    assert_eq!(answering.poll(), Poll::Ready(Ok(Stopped::PingsEnded)));
    assert_eq!(answering.pongs(), [vec![1], vec![2]]);
}

#[test]
fn it_wakes_for_a_ping_the_sink_and_the_end() {
    let mut answering = answering(1);
    let (waker, wakes) = new_count_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(answering.ponger.as_mut().poll(&mut cx).is_pending());
    answering.sink.block();
    answering.ping([1]);
    assert_eq!(wakes.get(), 1);
    assert!(answering.ponger.as_mut().poll(&mut cx).is_pending());
    answering.sink.unblock();
    assert_eq!(wakes.get(), 2);
    answering.sink.block_flush();
    assert!(answering.ponger.as_mut().poll(&mut cx).is_pending());
    answering.sink.unblock_flush();
    assert_eq!(wakes.get(), 3);
    assert!(answering.ponger.as_mut().poll(&mut cx).is_pending());
    answering.pings = None;
    assert_eq!(wakes.get(), 4);
    assert!(answering.ponger.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn an_error_of_the_sink_ends_it() {
    for fault in [Fault::Ready, Fault::Send, Fault::Flush] {
        let mut answering = answering(1);
        answering.sink.fail(fault);
        answering.ping([1]);
        assert_eq!(answering.poll(), Poll::Ready(Err(Broken)));
        let pings = answering.pings.as_ref().expect("not dropped");
        assert_eq!(pings.handle_ping(vec![2]), Err(SendPingError::Closed));
    }
}

// contract: G47
#[test]
fn attached_to_a_stream_it_answers_the_pings_and_passes_everything_on() {
    use crate::socket::{Msg, Plain};
    use futures::{FutureExt, StreamExt, stream};

    let run = |messages: Vec<Result<Msg, Broken>>| {
        let mut answering = answering(10);
        let pings = answering.pings.take().expect("not dropped");
        let attached = pings.attach(stream::iter(messages.clone()), Plain);
        let passed: Vec<_> = attached.collect().now_or_never().expect("it never waits");
        assert_eq!(passed, messages);
        let ended = answering.poll();
        (ended, answering.pongs())
    };
    let ping = |byte: u8| Ok(Msg::Ping(vec![byte].into()));
    let pong = |byte: u8| Bytes::from(vec![byte]);

    let (ended, pongs) = run(vec![
        ping(1),
        Ok(Msg::Data(1)),
        Ok(Msg::Pong("".into())),
        ping(2),
    ]);
    assert_eq!(ended, Poll::Ready(Ok(Stopped::PingsEnded)));
    assert_eq!(pongs, [pong(1), pong(2)]);

    let too_long = Ok(Msg::Ping(vec![0; 126].into()));
    let (ended, pongs) = run(vec![ping(1), too_long, Err(Broken), ping(2)]);
    assert_eq!(ended, Poll::Ready(Ok(Stopped::PingsEnded)));
    assert_eq!(pongs, [pong(1)]);

    let (ended, pongs) = run(vec![ping(1), Ok(Msg::Close), ping(2)]);
    assert_eq!(ended, Poll::Ready(Ok(Stopped::Requested)));
    assert_eq!(pongs, [] as [Bytes; 0], "nothing after the close frame");
}

// A peer that pings without pause cannot hold the executor.
#[test]
fn it_yields_after_a_budget_of_pings() {
    let mut answering = answering(1000);
    for _ in 0..1000 {
        answering.ping([0]);
    }
    let (waker, wakes) = new_count_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(answering.ponger.as_mut().poll(&mut cx).is_pending());
    assert!(answering.pongs().len() <= 64);
    assert_eq!(wakes.get(), 1, "it wakes itself");
}

// contract: G48
#[test]
fn a_blocked_ponger_does_not_keep_the_pinger_from_its_pong() {
    use crate::world::{Path, Rig, exact, ms, s};

    // One reader for both, as in a real program: it never waits for either.
    let mut answering = answering(1);
    answering.sink.block();
    let mut rig = Rig::new(Path::Slot, exact());
    rig.answer_after(ms(10));
    for second in 0..100 {
        answering.ping([0]);
        assert!(answering.poll().is_pending());
        rig.run_until(s(second));
    }
    rig.assert_alive();
    assert_eq!(rig.stats().answered(), 4);
}
