//! P104, P131. `FrameSink`, of a function and of a protocol: nothing but the frame changes on the way.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::{Sink, SinkExt};
use futures_pinger::{
    CloseReason, Error, Frame, FrameSink, MessageKind, Protocol, TimeoutPhase, pinger,
};
use futures_test::task::new_count_waker;

use crate::world::{Broken, Fault, SinkScript, World, exact, s};

/// A queue's own messages, as an application has them.
#[derive(Debug, Clone, PartialEq)]
enum Out {
    Beat(Frame),
}

/// The same messages by a protocol, which has none for pongs.
struct Beats;

impl Protocol<Out> for Beats {
    fn encode(&self, frame: Frame) -> Option<Out> {
        match frame {
            Frame::Pong(_) => None,
            other => Some(Out::Beat(other)),
        }
    }

    fn classify<'m>(&self, _: &'m Out) -> MessageKind<'m> {
        MessageKind::Data
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Call {
    Ready,
    Send(Out),
    Flush,
    Close,
}

type Answer = Poll<Result<(), &'static str>>;

/// Keeps book of what it is asked, and says what it was told to say.
#[derive(Default)]
struct Recorder {
    calls: Vec<Call>,
    answers: VecDeque<Answer>,
    waker: Option<Waker>,
}

impl Recorder {
    fn polled(&mut self, call: Call, cx: &Context<'_>) -> Answer {
        self.calls.push(call);
        self.waker = Some(cx.waker().clone());
        self.answers.pop_front().expect("one call for each")
    }
}

impl Sink<Out> for Recorder {
    type Error = &'static str;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Answer {
        self.polled(Call::Ready, cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), &'static str> {
        self.calls.push(Call::Send(message));
        match self.answers.pop_front().expect("one call for each") {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("it takes or refuses"),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Answer {
        self.polled(Call::Flush, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Answer {
        self.polled(Call::Close, cx)
    }
}

fn frames() -> [Frame; 4] {
    [
        Frame::Ping(Bytes::from_static(b"1")),
        Frame::Close(CloseReason::ping_timeout()),
        Frame::Ping(Bytes::new()),
        Frame::Ping(Bytes::from_static(b"2")),
    ]
}

/// Each call is one call of the sink, and each answer the sink's own, whatever came before.
fn assert_transparent<P: Protocol<Out> + Unpin>(mut frames: FrameSink<Recorder, P, Out>) {
    let answers = [
        Poll::Pending,
        Poll::Ready(Err("it failed")),
        Poll::Ready(Ok(())),
        Poll::Pending,
        Poll::Ready(Ok(())),
    ];
    type Ask<P> = fn(Pin<&mut FrameSink<Recorder, P, Out>>, &mut Context<'_>) -> Answer;
    let asks: [(Call, Ask<P>); 3] = [
        (Call::Ready, |sink, cx| sink.poll_ready(cx)),
        (Call::Flush, |sink, cx| sink.poll_flush(cx)),
        (Call::Close, |sink, cx| sink.poll_close(cx)),
    ];
    for (call, ask) in asks {
        for answer in answers {
            let (waker, wakes) = new_count_waker();
            let mut cx = Context::from_waker(&waker);
            frames.get_mut().answers.push_back(answer);
            assert_eq!(ask(Pin::new(&mut frames), &mut cx), answer, "{call:?}");
            let sink = frames.get_mut();
            assert_eq!(std::mem::take(&mut sink.calls), std::slice::from_ref(&call));
            sink.waker.take().expect("it was handed on").wake();
            assert_eq!(wakes.get(), 1, "{call:?}: the waker is the caller's");
        }
    }
    for frame in self::frames() {
        for answer in [Err("it is full"), Ok(()), Err("it is gone"), Ok(())] {
            frames.get_mut().answers.push_back(Poll::Ready(answer));
            assert_eq!(frames.start_send_unpin(frame.clone()), answer);
            let sent = Call::Send(Out::Beat(frame.clone()));
            assert_eq!(std::mem::take(&mut frames.get_mut().calls), [sent]);
        }
    }
    assert_eq!(frames.get_ref().answers, []);
    assert_eq!(frames.into_inner().calls, []);
}

// contract: P131
#[test]
fn a_frame_sink_hands_on_each_call_and_each_answer() {
    assert_transparent(FrameSink::new(Recorder::default(), Beats));
}

// contract: P131
#[test]
fn a_mapped_frame_sink_hands_on_each_call_and_each_answer() {
    assert_transparent(FrameSink::map(Recorder::default(), Out::Beat));
}

// contract: P131
#[test]
fn frames_go_through_the_function_once_each_and_in_their_order() {
    let count = Cell::new(0);
    let mut beats = FrameSink::map(Recorder::default(), |frame| {
        count.set(count.get() + 1);
        Out::Beat(frame)
    });
    let pong = Frame::Pong(Bytes::from_static(b"3"));
    let sent = [&frames()[..], &[pong]].concat();
    for frame in &sent {
        beats.get_mut().answers.push_back(Poll::Ready(Ok(())));
        beats.start_send_unpin(frame.clone()).expect("it is taken");
    }
    let expected = sent.into_iter().map(|frame| Call::Send(Out::Beat(frame)));
    assert_eq!(beats.get_ref().calls, expected.collect::<Vec<_>>());
    assert_eq!(count.get(), 5);
}

// contract: P104
#[test]
fn a_frame_without_a_message_asks_nothing_of_the_sink() {
    let mut beats = FrameSink::new(Recorder::default(), Beats);
    let pong = Frame::Pong(Bytes::from_static(b"3"));
    assert_eq!(beats.start_send_unpin(pong), Ok(()));
    assert_eq!(beats.into_inner().calls, []);
}

// contract: P131
#[test]
fn a_heartbeat_is_judged_through_a_mapped_sink_by_what_its_sink_says() {
    // What is sent when, and the verdict: its time, its phase, and whether a close frame was sent.
    let expected: [(fn(&SinkScript), _, _); 3] = [
        (
            |_| {},
            vec![(s(20), "ping"), (s(40), "close")],
            (s(40), TimeoutPhase::Pong, true),
        ),
        (
            SinkScript::block,
            vec![],
            (s(27), TimeoutPhase::Write, false),
        ),
        (
            SinkScript::block_flush,
            vec![(s(20), "ping")],
            (s(27), TimeoutPhase::Write, false),
        ),
    ];
    for (script, frames, end) in expected {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        script(&sink);
        let config = exact().write_timeout(s(7)).build().expect("valid");
        let (pongs, pinger) = pinger(FrameSink::map(outgoing, |frame| frame), config);
        let ended = world.run_within(s(100), pinger.with_timer(world.timer()));
        let Err(Error::Timeout(verdict)) = ended else {
            panic!("no verdict but {ended:?}");
        };
        let (at, phase) = (world.elapsed(), verdict.phase());
        assert_eq!((at, phase, verdict.close_sent()), end);
        let sent = sink.frames().into_iter().map(|(at, frame)| match frame {
            Frame::Ping(_) => (at, "ping"),
            Frame::Close(_) => (at, "close"),
            Frame::Pong(_) => (at, "pong"),
        });
        assert_eq!(sent.collect::<Vec<_>>(), frames);
        drop(pongs);
    }
}

// contract: P131
#[test]
fn an_error_of_the_sink_behind_a_mapped_one_ends_the_heartbeat_with_it() {
    for fault in [Fault::Ready, Fault::Send, Fault::Flush] {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        sink.fail(fault);
        let config = exact().build().expect("valid");
        let (pongs, pinger) = pinger(FrameSink::map(outgoing, |frame| frame), config);
        let ended = world.run_within(s(20), pinger.with_timer(world.timer()));
        assert_eq!(ended, Err(Error::Transport(Broken)), "{fault:?}");
        drop(pongs);
    }
}
