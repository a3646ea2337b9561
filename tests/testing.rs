//! The kit of `futures_pinger::testing` itself: what its parts do is seen through a [`Pinger`] and a
//! [`KeepAlive`], who must see the same.

// Times here are made up, and small.
#![allow(clippy::unchecked_time_subtraction)]

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::testing::{
    Answer, Broken, Fault, ManualTimer, Peer, PongScript, ScriptedPongs, ScriptedSink,
    ScriptedSocket, SinkScript, SocketScript, Task, World,
};
use futures_pinger::{
    CloseReason, Config, ConfigBuilder, Error, Frame, KeepAlive, MessageKind, Pinger, Protocol,
    Stats, Stopped, TimeoutPhase, Timer, pinger,
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn exact() -> ConfigBuilder {
    Config::builder()
        .interval(s(20))
        .granularity(Duration::ZERO)
}

/// Messages of a protocol of their own: frames, and data.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Msg {
    Data(u32),
    Control(Frame),
}

struct Plain;

impl Protocol<Msg> for Plain {
    fn encode(&self, frame: Frame) -> Option<Msg> {
        Some(Msg::Control(frame))
    }

    fn classify<'m>(&self, message: &'m Msg) -> MessageKind<'m> {
        match message {
            Msg::Data(_) => MessageKind::Data,
            Msg::Control(Frame::Ping(payload)) => MessageKind::Ping(payload),
            Msg::Control(Frame::Pong(payload)) => MessageKind::Pong(payload[..].into()),
            Msg::Control(Frame::Close(_)) => MessageKind::Close,
        }
    }
}

/// What a heartbeat has seen of its peer.
#[derive(Debug, PartialEq)]
struct Seen {
    stats: Counts,
    pings: Vec<Duration>,
    ended: Option<(Duration, Option<TimeoutPhase>)>,
}

#[derive(Debug, PartialEq, Default)]
struct Counts {
    answered: u64,
    missed: u64,
    stale: u64,
    unsolicited: u64,
    late_wakes: u64,
    rtt: Option<Duration>,
}

impl From<Stats> for Counts {
    fn from(stats: Stats) -> Self {
        Self {
            answered: stats.answered(),
            missed: stats.missed(),
            stale: stats.stale(),
            unsolicited: stats.unsolicited(),
            late_wakes: stats.late_wakes(),
            rtt: stats.latest_rtt(),
        }
    }
}

/// Polls a heartbeat, and keeps what it says last.
struct Watched<H> {
    heart: Pin<Box<H>>,
    stats: Arc<Mutex<Counts>>,
}

trait Heart {
    /// Ready when it ends: with the phase of a verdict.
    fn beat(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TimeoutPhase>>;
    fn counts(&self) -> Counts;
}

fn phase<T>(ended: &Result<T, Error<Broken>>) -> Option<TimeoutPhase> {
    match ended {
        Err(Error::Timeout(verdict)) => Some(verdict.phase()),
        _ => None,
    }
}

impl Heart for Pinger<ScriptedSink, futures_pinger::Pongs, ManualTimer> {
    fn beat(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TimeoutPhase>> {
        self.poll(cx).map(|ended| phase(&ended))
    }

    fn counts(&self) -> Counts {
        self.stats().into()
    }
}

impl Heart for KeepAlive<ScriptedSocket<Msg>, Plain, ManualTimer> {
    fn beat(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TimeoutPhase>> {
        loop {
            match self.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(ended)) => return Poll::Ready(phase(&ended)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn counts(&self) -> Counts {
        self.stats().into()
    }
}

impl<H: Heart> Future for Watched<H> {
    type Output = Option<TimeoutPhase>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.heart.as_mut().beat(cx);
        *self.stats.lock().expect("no panic") = self.heart.counts();
        polled
    }
}

fn watch<H: Heart>(world: &World, heart: H, until: Duration) -> (Counts, Task<Watched<H>>) {
    let stats = Arc::new(Mutex::new(Counts::default()));
    let mut task = world.task(Watched {
        heart: Box::pin(heart),
        stats: Arc::clone(&stats),
    });
    task.run_until(until);
    // The sender counts for itself until the next poll.
    let counts = task.future().map(|watched| watched.heart.counts());
    let last = std::mem::take(&mut *stats.lock().expect("no panic"));
    (counts.unwrap_or(last), task)
}

fn ended<H: Heart>(task: &Task<Watched<H>>) -> Option<(Duration, Option<TimeoutPhase>)> {
    task.ended_at().zip(task.output().copied())
}

fn through_pinger(config: ConfigBuilder, script: impl Fn(&World, &Peer), until: Duration) -> Seen {
    let world = World::new();
    let (outgoing, sink) = world.sink();
    let (pongs, pinger) = pinger(outgoing, config.build().expect("valid"));
    let peer = sink.peer(move |payload| assert!(pongs.handle_pong(&payload).is_ok()));
    script(&world, &peer);
    let (stats, task) = watch(&world, pinger.with_timer(world.timer()), until);
    Seen {
        stats,
        pings: sink.pings(),
        ended: ended(&task),
    }
}

fn through_keep_alive(
    config: ConfigBuilder,
    script: impl Fn(&World, &Peer),
    until: Duration,
) -> Seen {
    let world = World::new();
    let (socket, handle) = world.socket(Plain);
    script(&world, handle.peer());
    let config = config.build().expect("valid");
    let alive = KeepAlive::with_protocol(socket, Plain, config).with_timer(world.timer());
    let (stats, task) = watch(&world, alive, until);
    Seen {
        stats,
        pings: handle.pings(),
        ended: ended(&task),
    }
}

/// What both have seen, who must have seen the same.
#[track_caller]
fn seen(config: &ConfigBuilder, script: impl Fn(&World, &Peer), until: Duration) -> Seen {
    let seen = through_pinger(config.clone(), &script, until);
    assert_eq!(through_keep_alive(config.clone(), &script, until), seen);
    seen
}

#[test]
fn a_peer_that_answers_keeps_them_alive() {
    let answering = |_: &World, peer: &Peer| peer.answer_after(ms(30));
    let seen = seen(&exact(), answering, s(605));
    assert_eq!(seen.ended, None);
    assert_eq!(seen.stats.answered, 30);
    assert_eq!(seen.stats.rtt, Some(ms(30)));
    assert_eq!(seen.pings[29], s(600));
}

#[test]
fn a_peer_answers_nothing_until_it_is_told_to() {
    let seen = seen(&exact(), |_, _| {}, s(100));
    assert_eq!(seen.ended, Some((s(40), Some(TimeoutPhase::Pong))));
}

#[test]
fn a_peer_that_falls_silent_is_given_up_a_timeout_after_the_next_ping() {
    let silent_at = |time| {
        move |world: &World, peer: &Peer| {
            peer.answer_after(s(1));
            let peer = peer.clone();
            world.at(time, move || peer.fall_silent());
        }
    };
    let seen_at = |time| seen(&exact(), silent_at(time), s(200));
    assert_eq!(
        seen_at(s(50)).ended,
        Some((s(80), Some(TimeoutPhase::Pong)))
    );
    // The pong of the ping at 60 s is on its way, and arrives.
    let on_its_way = seen_at(ms(60_500));
    assert_eq!(on_its_way.ended, Some((s(100), Some(TimeoutPhase::Pong))));
    assert_eq!(on_its_way.stats.answered, 3);
}

#[test]
fn lost_pongs_are_missed() {
    let each_third = |_: &World, peer: &Peer| {
        peer.answer(|ping| match ping % 3 {
            2 => Answer::Lost,
            _ => Answer::After(ms(30)),
        });
    };
    let config = exact().timeout(s(5)).max_missed(2);
    let patient = seen(&config, each_third, s(300));
    assert_eq!(patient.ended, None);
    assert!(patient.stats.missed >= 4, "{patient:?}");
    let strict = seen(&config.max_missed(1), each_third, s(300));
    assert_eq!(strict.ended, Some((s(65), Some(TimeoutPhase::Pong))));
}

#[test]
fn delayed_pongs_are_late_or_stale() {
    let delayed = |rtt| move |_: &World, peer: &Peer| peer.answer_after(rtt);
    let config = exact().timeout(s(5)).max_missed(2);
    let late = seen(&config, delayed(ms(4999)), s(100));
    assert_eq!((late.stats.rtt, late.ended), (Some(ms(4999)), None));
    let stale = seen(&config, delayed(s(7)), s(27));
    assert_eq!((stale.stats.answered, stale.stats.stale), (0, 1));
}

#[test]
fn of_doubled_pongs_the_second_answers_nothing() {
    let twice = |_: &World, peer: &Peer| peer.answer(|_| Answer::Twice(ms(30)));
    let seen = seen(&exact(), twice, s(105));
    assert_eq!((seen.stats.answered, seen.stats.unsolicited), (5, 5));
    assert_eq!(seen.ended, None);
}

#[test]
fn corrupted_pongs_prove_nothing() {
    let corrupted = |_: &World, peer: &Peer| peer.answer(|_| Answer::Corrupted(ms(30)));
    let seen = seen(&exact(), corrupted, s(100));
    assert_eq!((seen.stats.answered, seen.stats.unsolicited), (0, 1));
    assert_eq!(seen.ended, Some((s(40), Some(TimeoutPhase::Pong))));
}

#[test]
fn a_reordered_pong_comes_behind_the_next() {
    let reordered = |_: &World, peer: &Peer| {
        peer.answer(|ping| match ping {
            0 => Answer::Reordered,
            _ => Answer::After(ms(30)),
        });
    };
    let config = exact().timeout(s(5)).max_missed(2);
    let before = seen(&config, reordered, s(25));
    assert_eq!((before.stats.answered, before.stats.stale), (0, 0));
    let after = seen(&config, reordered, s(30));
    // Behind the newer one it says nothing new any more.
    assert_eq!((after.stats.answered, after.stats.unsolicited), (1, 1));
}

#[test]
fn strays_are_counted_and_answer_nothing() {
    let flooding = |world: &World, peer: &Peer| {
        let peer = peer.clone();
        world.at(s(25), move || peer.flood(1000));
    };
    let seen = seen(&exact(), flooding, s(100));
    assert_eq!((seen.stats.answered, seen.stats.unsolicited), (0, 1000));
    assert_eq!(seen.ended, Some((s(40), Some(TimeoutPhase::Pong))));
}

#[test]
fn an_answer_without_delay_is_there_when_the_flush_is_over() {
    let seen = seen(&exact(), |_, peer| peer.answer_after(s(0)), s(25));
    assert_eq!((seen.stats.answered, seen.stats.rtt), (1, Some(s(0))));

    for eager in [false, true] {
        let world = World::new();
        let ((mut sink, script), (mut pongs, feed)) = (world.sink(), world.pongs());
        let peer = script.peer(move |payload| feed.push(payload));
        peer.answer_after(s(0));
        if eager {
            script.eager();
        }
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(sink.poll_ready_unpin(cx).is_ready());
        sink.start_send_unpin(Frame::Ping("now".into()))
            .expect("open");
        // An eager one does not wait for the flush.
        assert_eq!(pongs.poll_next_unpin(cx).is_ready(), eager);
        assert!(sink.poll_flush_unpin(cx).is_ready());
        assert_eq!(pongs.poll_next_unpin(cx).is_ready(), !eager);
        assert_eq!(peer.pings(), 1);
    }
}

#[test]
fn a_stall_polls_nobody_and_hides_a_pong_that_is_read_after_it() {
    let stalled = |world: &World, peer: &Peer| {
        peer.answer_after(s(5));
        world.stall(s(22)..s(70));
    };
    let kept = through_keep_alive(exact(), stalled, s(71));
    assert_eq!((kept.ended, kept.stats.late_wakes), (None, 1));
    assert_eq!(kept.stats.answered, 1);
    assert_eq!(kept.pings, [s(20), s(70)]);
    // Here the pong goes straight to the sender, which takes the time of it.
    let pinged = through_pinger(exact(), stalled, s(71));
    assert_eq!((pinged.ended, pinged.stats.rtt), (None, Some(s(5))));
    assert_eq!(pinged.pings, [s(20), s(70)]);
}

#[test]
fn a_stall_extends_the_deadline_that_it_hid_but_not_for_ever() {
    let stalled = |world: &World, _: &Peer| world.stall(s(35)..s(70));
    let granted = seen(&exact(), stalled, s(200));
    let (at, phase) = granted.ended.expect("a verdict");
    assert!(at > s(70) && at <= s(90), "{at:?}");
    assert_eq!(phase, Some(TimeoutPhase::Pong));
    let denied = seen(&exact().stall_grace(false), stalled, s(200));
    assert_eq!(denied.ended, Some((s(70), Some(TimeoutPhase::Pong))));
}

#[test]
fn early_timers_spurious_polls_and_fresh_wakers_change_nothing() {
    let plain = |_: &World, peer: &Peer| {
        peer.answer(|ping| match ping {
            0..5 => Answer::After(s(2)),
            _ => Answer::Lost,
        });
    };
    let expected = seen(&exact(), plain, s(300));
    assert_eq!(expected.ended, Some((s(140), Some(TimeoutPhase::Pong))));
    let nervous: [fn(&World); 3] = [
        |world| world.early_timers(ms(3)),
        |world| world.spurious_polls(2),
        |world| world.fresh_wakers(true),
    ];
    for unsettle in nervous {
        let script = |world: &World, peer: &Peer| {
            plain(world, peer);
            unsettle(world);
        };
        assert_eq!(seen(&exact(), script, s(300)), expected);
    }
}

#[test]
fn a_disconnected_peer_ends_the_heartbeat() {
    let world = World::new();
    let (outgoing, sink) = world.sink();
    let (pongs, pinger) = pinger(outgoing, Config::default());
    let peer = sink.peer(move |payload| assert!(pongs.handle_pong(&payload).is_ok()));
    peer.answer_after(s(1));
    world.at(s(65), move || peer.disconnect());
    let ended = world.run_within(s(100), pinger.with_timer(world.timer()));
    assert_eq!((world.elapsed(), ended), (s(65), Ok(Stopped::PongsEnded)));
    assert!(!sink.is_held());
    assert_eq!(world.timers(), 0);
}

#[test]
fn a_blocked_sink_or_flush_earns_a_verdict_over_the_write() {
    type Block = (fn(&SinkScript), fn(&SocketScript<Msg>));
    let blocks: [Block; 2] = [
        (SinkScript::block, SocketScript::block),
        (SinkScript::block_flush, SocketScript::block_flush),
    ];
    for (block_sink, block_socket) in blocks {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (_pongs, pinger) = pinger(outgoing, exact().build().expect("valid"));
        block_sink(&sink);
        let ended = world.run_within(s(60), pinger.with_timer(world.timer()));
        assert_eq!(phase(&ended), Some(TimeoutPhase::Write));
        assert_eq!((world.elapsed(), sink.ping_flushed()), (s(40), None));

        let (world, _, script, alive) = kept(exact());
        block_socket(&script);
        let read: Vec<_> = world.run_within(s(60), alive.collect());
        let verdict = read.into_iter().next().expect("a verdict");
        assert_eq!(phase(&verdict), Some(TimeoutPhase::Write));
    }
}

type Kept = KeepAlive<ScriptedSocket<Msg>, Plain, ManualTimer>;

fn kept(config: ConfigBuilder) -> (World, Peer, SocketScript<Msg>, Kept) {
    let world = World::new();
    let (socket, script) = world.socket(Plain);
    let config = config.build().expect("valid");
    let alive = KeepAlive::with_protocol(socket, Plain, config).with_timer(world.timer());
    (world, script.peer().clone(), script, alive)
}

#[test]
fn a_blocked_sink_goes_on_where_it_was_when_there_is_room_again() {
    let world = World::new();
    let (outgoing, sink) = world.sink();
    let (_pongs, pinger) = pinger(outgoing, exact().build().expect("valid"));
    sink.block();
    let unblock = sink.clone();
    world.at(s(25), move || {
        unblock.unblock();
        unblock.block_flush();
    });
    let unblock = sink.clone();
    world.at(s(30), move || unblock.unblock_flush());
    let mut heartbeat = world.task(pinger.with_timer(world.timer()));
    heartbeat.run_until(s(35));
    assert_eq!(
        (sink.pings(), sink.ping_flushed()),
        (vec![s(25)], Some(s(30)))
    );
}

#[test]
fn each_fault_breaks_the_sink_where_it_says() {
    for fault in [Fault::Ready, Fault::Send, Fault::Flush] {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (_pongs, pinger) = pinger(outgoing, exact().build().expect("valid"));
        sink.fail(fault);
        let ended = world.run_within(s(60), pinger.with_timer(world.timer()));
        assert_eq!(
            (world.elapsed(), ended),
            (s(20), Err(Error::Transport(Broken)))
        );
        assert_eq!(sink.frames().len(), usize::from(fault == Fault::Flush));
        assert_eq!(sink.readies(), usize::from(fault != Fault::Ready));
    }
}

#[test]
fn whoever_waits_for_room_is_told_of_it_and_of_its_end() {
    type Change = fn(&SocketScript<Msg>);
    let room: Change = SocketScript::unblock;
    let fault: Change = |script| script.fail(Fault::Flush);
    for (change, sent) in [(room, Ok(())), (fault, Err(Broken))] {
        let world = World::new();
        let (mut socket, script) = world.socket(Plain);
        script.block_flush();
        world.at(s(5), move || change(&script));
        let ended = world.run_within(s(10), socket.send(Msg::Data(1)));
        assert_eq!((world.elapsed(), ended), (s(5), sent));
    }

    let world = World::new();
    let (mut sink, script) = world.sink();
    script.block();
    world.at(s(5), move || script.fail(Fault::Ready));
    let ended = world.run_within(s(10), sink.send(Frame::Ping("never".into())));
    assert_eq!((world.elapsed(), ended), (s(5), Err(Broken)));
}

#[test]
fn what_arrives_is_read_in_order_up_to_the_end() {
    let (world, _, script, alive) = kept(exact());
    let arriving = script.clone();
    world.at(s(1), move || {
        arriving.receive(Msg::Data(1));
        arriving.receive_error();
        arriving.end();
    });
    let read: Vec<_> = world.run_within(s(1), alive.collect());
    assert_eq!(read, [Ok(Msg::Data(1)), Err(Error::Transport(Broken))]);
    assert!(!script.is_held());
}

#[test]
fn a_flood_is_always_ready_and_a_budget_says_pending_in_between() {
    let world = World::new();
    let (mut socket, script) = world.socket(Plain);
    let mut numbers = 0..;
    script.flood(move || Msg::Data(numbers.next().expect("endless")));
    script.budget(10);
    let mut task = world.task(poll_fn(move |cx| {
        let mut turn = Vec::new();
        while let Poll::Ready(Some(Ok(Msg::Data(number)))) = socket.poll_next_unpin(cx) {
            turn.push(number);
        }
        if turn[0] < 20 {
            return Poll::Pending;
        }
        Poll::Ready(turn)
    }));
    task.run_until(s(0));
    assert_eq!(task.output(), Some(&(20..30).collect()));
    assert_eq!((task.polls(), task.wakes()), (3, 3), "it wakes at once");
}

#[test]
fn a_server_answers_what_reaches_it() {
    let world = World::new();
    let (mut socket, script) = world.socket(Plain);
    let server = script.clone();
    script.on_wire(move |message| match message {
        Msg::Data(number) => server.receive(Msg::Data(number + 1)),
        Msg::Control(Frame::Close(_)) => {
            server.receive(message);
            server.end();
        }
        Msg::Control(_) => {}
    });
    let close = Msg::Control(Frame::Close(CloseReason::ping_timeout()));
    let read: Vec<_> = world.run_within(s(0), async {
        socket.send(Msg::Data(1)).await.expect("open");
        socket.send(close.clone()).await.expect("open");
        socket.collect().await
    });
    assert_eq!(read, [Ok(Msg::Data(2)), Ok(close)]);
    assert_eq!(script.sent().len(), 2);
}

/// What a panic says.
fn panic_of<T>(run: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).err().expect("a panic");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("words")).to_owned(),
    }
}

/// What a sink says of whoever does that to it, at 7 s.
fn held_against<S, M>(
    sink: impl Fn(&World) -> S,
    act: impl Fn(Pin<&mut S>, &mut Context<'_>) + Copy,
) -> String
where
    S: Sink<M>,
{
    let world = World::new();
    let mut sink = Box::pin(sink(&world));
    panic_of(|| {
        world.run_within(s(10), async {
            world.sleep(s(7)).await;
            poll_fn(|cx| {
                act(sink.as_mut(), cx);
                Poll::Ready(())
            })
            .await;
        });
    })
}

/// Whatever that frame needs, in order.
fn sends<S: Sink<M>, M>(mut sink: Pin<&mut S>, cx: &mut Context<'_>, message: M) {
    assert!(sink.as_mut().poll_ready(cx).is_ready());
    assert!(sink.as_mut().start_send(message).is_ok());
    assert!(sink.poll_flush(cx).is_ready());
}

#[test]
fn bad_manners_are_held_against_whoever_uses_the_sink() {
    type Sunk<'a> = Pin<&'a mut ScriptedSink>;
    type Act = fn(Sunk<'_>, &mut Context<'_>);
    let cases: [(Act, &str); 6] = [
        (
            |sink, _| assert!(sink.start_send(Frame::Pong("".into())).is_ok()),
            "a message without readiness at 7s",
        ),
        (
            |mut sink, cx| {
                for _ in 0..2 {
                    assert!(sink.as_mut().poll_ready(cx).is_ready());
                    let _ = sink.as_mut().start_send(Frame::Pong("".into()));
                }
            },
            "a frame before the last one is flushed at 7s",
        ),
        (
            |mut sink, cx| {
                sends(sink.as_mut(), cx, Frame::Ping("1".into()));
                sends(sink, cx, Frame::Ping("2".into()));
            },
            "two pings in one wake at 7s",
        ),
        (
            |mut sink, cx| {
                sends(sink.as_mut(), cx, Frame::Close(CloseReason::ping_timeout()));
                sends(sink, cx, Frame::Ping("late".into()));
            },
            "a message after the close frame at 7s",
        ),
        (
            |sink, cx| sends(sink, cx, Frame::Ping(vec![0; 126].into())),
            "a control frame of 126 bytes at 7s",
        ),
        (
            |sink, cx| assert!(sink.poll_close(cx).is_ready()),
            "the sink was closed at 7s",
        ),
    ];
    for (act, expected) in cases {
        let said = held_against(|world| world.sink().0, act);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn bad_manners_are_held_against_whoever_uses_the_socket() {
    type Socket = ScriptedSocket<Msg>;
    type OnSocket = fn(Pin<&mut Socket>, &mut Context<'_>);
    let cases: [(OnSocket, &str); 4] = [
        (
            |mut socket, cx| {
                assert!(socket.as_mut().poll_ready(cx).is_ready());
                for _ in 0..2 {
                    assert!(socket.as_mut().start_send(Msg::Data(1)).is_ok());
                }
            },
            "a message without readiness at 7s",
        ),
        (
            |socket, _| assert!(socket.start_send(Msg::Data(1)).is_ok()),
            "a message without readiness at 7s",
        ),
        (
            |mut socket, cx| {
                let close = Frame::Close(CloseReason::ping_timeout());
                sends(socket.as_mut(), cx, Msg::Control(close));
                sends(socket, cx, Msg::Data(1));
            },
            "a message after the close frame at 7s",
        ),
        (
            |mut socket, cx| {
                assert!(socket.as_mut().poll_close(cx).is_ready());
                sends(socket, cx, Msg::Data(1));
            },
            "a message after the sink was closed at 7s",
        ),
    ];
    for (act, expected) in cases {
        let said = held_against(|world| world.socket(Plain).0, act);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn good_manners_are_not() {
    let world = World::new();
    let (mut sink, script) = world.sink();
    let close = || Frame::Close(CloseReason::ping_timeout());
    world.run_within(s(10), async {
        for payload in ["one", "two"] {
            sink.send(Frame::Ping(payload.into())).await.expect("open");
            world.sleep(s(1)).await;
        }
        sink.send(close()).await.expect("open");
        let (mut socket, script) = world.socket(Plain);
        for number in 0..2 {
            socket.feed(Msg::Data(number)).await.expect("open");
        }
        socket.close().await.expect("open");
        assert!(script.is_closed());
    });
    assert_eq!(script.frames().len(), 3);
    assert_eq!(script.closes(), [(s(2), close())]);
    assert_eq!(script.payload(1), "two");
}

#[test]
fn a_lost_wake_up_hangs_and_the_world_says_so() {
    // It keeps the waker of its first poll only.
    let loses = |world: &World| {
        let (sender, mut receiver) = oneshot::channel::<()>();
        world.at(s(5), move || sender.send(()).expect("waited for"));
        let mut polled = false;
        let mut nudge = Box::pin(world.sleep(s(3)));
        poll_fn(move |cx| {
            let first = !std::mem::replace(&mut polled, true);
            if first {
                assert!(nudge.as_mut().poll(cx).is_pending());
                return Poll::Pending;
            }
            let noop = &mut Context::from_waker(Waker::noop());
            Pin::new(&mut receiver).poll(noop)
        })
    };
    let world = World::new();
    let said = panic_of(|| world.run_within(s(40), loses(&world)));
    assert_eq!(
        said,
        "not ended after 40s: nothing is left in this world that could wake it \
         (polls: 2, the last at 3s)"
    );

    let world = World::new();
    world.at(s(60), || {});
    let said = panic_of(|| world.run_within(s(40), loses(&world)));
    assert!(said.contains("it waits while other things go on"), "{said}");
}

#[test]
fn a_limit_runs_from_now() {
    let world = World::new();
    world.run_until(s(30));
    world.run_within(s(5), world.sleep(s(5)));
    assert_eq!(world.elapsed(), s(35));
    let said = panic_of(|| world.run_within(s(5), world.sleep(s(6))));
    assert!(said.starts_with("not ended after 5s"), "{said}");
    assert_eq!(world.elapsed(), s(40));
}

#[test]
fn with_fresh_wakers_a_future_that_keeps_its_first_one_hangs() {
    for fresh in [false, true] {
        let world = World::new();
        world.fresh_wakers(fresh);
        let first = Arc::new(Mutex::new(None::<Waker>));
        for time in [s(1), s(2)] {
            let first = Arc::clone(&first);
            world.at(time, move || {
                let first = first.lock().expect("no panic");
                first.as_ref().expect("polled").wake_by_ref();
            });
        }
        let mut polls = 0;
        let mut task = world.task(poll_fn(move |cx| {
            let mut first = first.lock().expect("no panic");
            first.get_or_insert_with(|| cx.waker().clone());
            polls += 1;
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }));
        task.run_until(s(10));
        assert_eq!(task.is_finished(), !fresh);
        assert_eq!(
            (task.polls(), task.wakes()),
            if fresh { (2, 1) } else { (3, 2) }
        );
    }
}

#[test]
fn spurious_polls_come_at_each_thing_that_happens() {
    let world = World::new();
    world.spurious_polls(2);
    let mut task = world.task(std::future::pending::<()>());
    let spawned = Arc::new(AtomicUsize::new(0));
    let polls = Arc::clone(&spawned);
    world.spawn(poll_fn(move |_| {
        polls.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    }));
    world.at(s(1), || {});
    task.run_until(s(1));
    // The first, and two each at the start, at 1 s, and at the end.
    assert_eq!((task.polls(), task.wakes()), (7, 0));
    assert_eq!(spawned.load(Ordering::Relaxed), 7);
}

#[test]
fn a_busy_loop_is_no_hang() {
    let world = World::new();
    let busy = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    let said = panic_of(|| world.run_within(s(1), busy));
    assert_eq!(said, "a busy loop at 0ns");
}

#[test]
fn a_world_cannot_be_run_from_within_and_runs_on_after_a_panic() {
    let world = World::new();
    let within = world.clone();
    let said = panic_of(|| world.run_within(s(1), async { within.run_until(s(1)) }));
    assert_eq!(said, "a world cannot be run by its own tasks");
    world.run_within(s(1), world.sleep(s(1)));
    assert_eq!(world.elapsed(), s(1));
}

#[test]
fn events_happen_in_order_and_those_of_the_past_next() {
    let world = World::new();
    let (sender, mut events) = mpsc::unbounded();
    for (name, time) in [("b", s(2)), ("a", s(1)), ("c", s(2))] {
        let (sender, inner) = (sender.clone(), world.clone());
        world.at(time, move || {
            sender
                .unbounded_send((name, inner.elapsed()))
                .expect("open");
            if name == "c" {
                inner.at(s(0), move || {
                    sender.unbounded_send(("past", s(0))).expect("open");
                });
            }
        });
    }
    drop(sender);
    world.run_until(s(10));
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    assert_eq!(
        seen,
        [("a", s(1)), ("b", s(2)), ("c", s(2)), ("past", s(0))]
    );
    assert_eq!(world.elapsed(), s(10));
    // It does not go back.
    world.run_until(s(5));
    assert_eq!(world.elapsed(), s(10));
}

#[test]
fn spawned_tasks_are_polled_each_by_its_own_wake_ups() {
    let world = World::new();
    let polls = Arc::new(AtomicUsize::new(0));
    let (mut sender, mut receiver) = mpsc::channel(0);
    world.spawn({
        let polls = Arc::clone(&polls);
        let mut sleep = world.sleep(s(50));
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut sleep).poll(cx)
        })
    });
    let (first, second) = (world.sleep(s(1)), world.sleep(s(2)));
    world.spawn(async move {
        first.await;
        sender.send(1).await.expect("open");
        second.await;
        sender.send(2).await.expect("open");
    });
    world.run_within(s(10), async {
        assert_eq!(receiver.next().await, Some(1));
        assert_eq!(receiver.next().await, Some(2));
    });
    assert_eq!((world.elapsed(), polls.load(Ordering::Relaxed)), (s(2), 1));
    world.run_until(s(60));
    assert_eq!((polls.load(Ordering::Relaxed), world.timers()), (2, 0));
}

#[test]
fn a_task_may_spawn_another() {
    let world = World::new();
    let (sender, mut receiver) = mpsc::unbounded();
    world.spawn({
        let world = world.clone();
        async move {
            let sleep = world.sleep(s(1));
            world.spawn(async move {
                sleep.await;
                sender.unbounded_send("grandchild").expect("open");
            });
        }
    });
    let received = world.run_within(s(1), receiver.next());
    assert_eq!((world.elapsed(), received), (s(1), Some("grandchild")));
}

#[test]
fn a_sleep_is_never_short() {
    let world = World::new();
    world.early_timers(ms(500));
    world.run_within(s(10), world.sleep(s(3)));
    assert_eq!(world.elapsed(), s(3));
    // The early one, and the other.
    assert_eq!(world.resets(), 2);
}

#[test]
fn a_timer_that_is_not_armed_says_so() {
    let world = World::new();
    let mut timer = world.timer();
    let noop = &mut Context::from_waker(Waker::noop());
    let said = panic_of(|| Pin::new(&mut timer).poll_elapsed(noop));
    assert!(
        said.starts_with("a timer was polled though it is not armed"),
        "{said}"
    );
}

#[test]
fn a_dropped_task_leaves_nothing_behind() {
    let (world, peer, script, alive) = kept(exact());
    peer.answer_after(s(1));
    let mut task = world.task(alive.collect::<Vec<_>>());
    task.run_until(ms(20_500));
    assert!(script.is_held());
    drop(task);
    assert!(!script.is_held());
    assert_eq!(world.timers(), 0);
    world.run_until(s(100));
    assert_eq!(script.pings(), [s(20)]);
}

// The agenda held the pong on its way, and through it everything else, for ever.
#[test]
fn a_world_with_something_on_its_agenda_is_freed() {
    let token = Arc::new(());
    {
        let (world, peer, script, alive) = kept(exact());
        let held = Arc::clone(&token);
        peer.answer(move |_| {
            let _ = &held;
            Answer::After(s(100))
        });
        let held = (Arc::clone(&token), script);
        world.at(s(500), move || drop(held));
        let (outgoing, sink) = world.sink();
        let (pongs, pinger) = pinger(outgoing, exact().no_timeout().build().expect("valid"));
        let held = Arc::clone(&token);
        let slow = sink.peer(move |payload| {
            let _ = (&held, pongs.handle_pong(&payload));
        });
        slow.answer_after(s(100));
        let pinger = pinger.with_timer(world.timer());
        world.spawn(async move { drop(pinger.await) });
        let mut task = world.task(alive.collect::<Vec<_>>());
        task.run_until(s(30));
        assert!(Arc::strong_count(&token) > 1);
        assert_eq!((peer.pings(), slow.pings()), (1, 1));
    }
    assert_eq!(Arc::strong_count(&token), 1);
}

/// For handlers that are spawned on a pool of threads in production, and bounded so.
#[test]
fn all_parts_may_go_to_another_thread() {
    fn send<T: Send>() {}
    send::<World>();
    send::<ManualTimer>();
    send::<(ScriptedSink, SinkScript)>();
    send::<(ScriptedPongs, PongScript)>();
    send::<(ScriptedSocket<Msg>, SocketScript<Msg>)>();
    send::<Peer>();
    send::<KeepAlive<ScriptedSocket<Msg>, Plain, ManualTimer>>();
}

#[test]
fn a_stream_of_pongs_serves_a_pinger_too() {
    let world = World::new();
    let ((outgoing, sink), (stream, pongs)) = (world.sink(), world.pongs());
    let config = exact().build().expect("valid");
    let heartbeat = Pinger::new(outgoing, stream, config).with_timer(world.timer());
    let feed = pongs.clone();
    let peer = sink.peer(move |payload: Bytes| feed.push(payload));
    peer.answer(|_| Answer::Twice(ms(10)));
    let mut task = world.task(heartbeat);
    task.run_until(s(50));
    let stats = task.future().expect("alive").stats();
    assert_eq!((stats.answered(), pongs.read()), (2, 4));
    pongs.end();
    task.run_until(s(50));
    assert_eq!(task.output(), Some(&Ok(Stopped::PongsEnded)));
    assert!(!pongs.is_held());
}

#[test]
fn the_scripts_tell_what_was_asked_of_them() {
    let world = World::new();
    let (mut sink, script) = world.sink();
    let (mut stream, pongs) = world.pongs();
    let (socket, ends) = world.socket::<Msg, _>(Plain);
    let peer = script.peer(|_| {});
    assert_eq!((script.polls(), pongs.read(), peer.pings()), (0, 0, 0));
    assert!(script.is_held() && pongs.is_held() && ends.is_held() && !ends.is_closed());

    futures::executor::block_on(async {
        for ping in ["a", "b"] {
            sink.send(Frame::Ping(ping.into())).await.expect("it works");
        }
        pongs.push("a");
        pongs.push("b");
        for _ in 0..2 {
            assert!(stream.next().await.is_some());
        }
    });
    assert_eq!(script.polls(), 4, "readiness and a flush for each");
    assert_eq!((pongs.read(), peer.pings()), (2, 2));
    assert_eq!(format!("{peer:?}"), "Peer { pings: 2, .. }");

    drop((sink, stream, socket));
    assert!(!script.is_held() && !pongs.is_held() && !ends.is_held());
    assert_eq!(Broken.to_string(), "broken by the script");
}
