//! What its users see of it, and corners of its behaviour that no line of the contract names.

use std::fmt::Debug;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc;
use futures::executor::block_on;
use futures::future::FusedFuture;
use futures::sink::drain;
use futures::stream::FusedStream;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{
    AsyncIoTimer, Clock, CloseReason, Closed, Config, ConfigBuilder, Frame, FuturesTimer,
    KeepAlive, Liveness, MessageKind, Output, Pinger, Pong, PongKind, Protocol, Stopped, Timer,
    TokioTimer, Verdict, from_fn, pinger, ponger,
};

use crate::bare::Bare;
use crate::socket::{Kept, Msg, Script};
use crate::world::{NO_PINGS, Path, Rig, World, exact, ms, s};

#[test]
fn a_pinger_shows_its_parts_and_gives_them_back() {
    let (outgoing, mut frames) = mpsc::channel(1);
    let (_pongs, mut pinger) = pinger(outgoing, Config::default());
    assert!(!pinger.get_ref().0.is_closed());
    let frame = || Frame::Ping("mine"[..].into());
    pinger.get_mut().0.try_send(frame()).expect("room");
    assert_eq!(frames.try_recv(), Ok(frame()));
    let (mut outgoing, _) = Pin::new(&mut pinger).get_pin_mut();
    outgoing.try_send(frame()).expect("room");
    assert!(format!("{pinger:?}").starts_with("Pinger"));
    let (mut outgoing, _) = pinger.into_inner();
    assert_eq!(frames.try_recv(), Ok(frame()));
    outgoing.try_send(frame()).expect("it was not closed");
}

/// The protocol of sockets whose messages are numbers, all of them data.
struct Numbers;

impl Protocol<i32> for Numbers {
    fn encode(&self, _: Frame) -> Option<i32> {
        None
    }

    fn classify(&self, _: &i32) -> MessageKind<'static> {
        MessageKind::Data
    }
}

/// A socket that has numbers to read, and takes none.
#[derive(Debug)]
struct Socket<St>(St);

impl<St: Stream + Unpin> Stream for Socket<St> {
    type Item = St::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<St::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<St: Unpin> Sink<i32> for Socket<St> {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Err(()))
    }

    fn start_send(self: Pin<&mut Self>, _: i32) -> Result<(), ()> {
        Err(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_keep_alive_shows_its_socket_and_gives_it_back() {
    let socket = Socket(futures::stream::iter([Ok::<_, ()>(1), Ok(2), Ok(3)]));
    let mut alive = KeepAlive::with_protocol(socket, Numbers, Config::default());
    assert_eq!(alive.get_ref().0.size_hint(), (3, Some(3)));
    assert_eq!(block_on(alive.get_mut().next()), Some(Ok(1)));
    let mut pinned = Pin::new(&mut alive).get_pin_mut();
    assert_eq!(block_on(pinned.next()), Some(Ok(2)));
    assert!(format!("{alive:?}").starts_with("KeepAlive"));
    assert_eq!(block_on(alive.into_parts().0.next()), Some(Ok(3)));
}

#[test]
fn ping_now_before_the_first_poll_of_a_keep_alive_pings_with_it() {
    let mut kept = Kept::new(exact());
    kept.alive.ping_now().expect("it goes on");
    kept.run_until(s(5));
    assert_eq!(kept.script.pings(), [s(0)]);
}

#[test]
fn ping_now_wakes_a_reader_whose_heartbeat_has_waited_for_the_sink_before() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(10));
    kept.run_until(s(25));
    kept.reader_woken();
    kept.alive.ping_now().expect("it goes on");
    kept.run_until(s(26));
    assert_eq!(kept.script.pings().len(), 2);
}

#[test]
fn a_dedicated_sink_that_is_named_late_gets_the_close_frame_of_a_write_timeout_too() {
    let mut bare = Bare::new(exact().write_timeout(s(3)));
    bare.ready = false;
    bare.run_until(s(21));
    bare.heartbeat = bare.heartbeat.dedicated_close();
    bare.run_until(s(23));
    bare.ready = true;
    assert!(bare.heartbeat.is_closing());
    bare.unblock();
    bare.drive();
    assert!(bare.timed_out().1.close_sent());
}

#[test]
fn a_backlog_does_not_hold_up_the_close_frames_deadline() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(39));
    bare.ready = false;
    bare.run_until(s(40));
    bare.now = s(41);
    let now = bare.instant();
    bare.heartbeat.handle_backlog(1, now);
    bare.drive();
    assert_eq!(bare.timed_out().0, s(41));
}

#[test]
fn without_a_timeout_a_backlog_holds_up_the_writing_off_and_no_longer_than_its_limit() {
    let mut bare = Bare::new(exact().no_timeout());
    bare.run_until(s(39));
    bare.now = s(41);
    let now = bare.instant();
    bare.heartbeat.handle_backlog(64, now);
    bare.drive();
    assert_eq!(bare.stats().missed(), 0);
    for _ in 0..futures_pinger::heartbeat::BACKLOG_LIMIT / 64 {
        bare.heartbeat.handle_backlog(64, now);
    }
    bare.drive();
    assert_eq!((bare.stats().missed(), bare.times().len()), (1, 2));
}

#[test]
fn without_a_timeout_a_look_ahead_of_time_writes_nothing_off() {
    let mut bare = Bare::new(exact().no_timeout());
    bare.run_until(s(30));
    let now = bare.instant();
    bare.heartbeat.handle_timeout(now);
    assert_eq!(bare.stats().missed(), 0);
}

#[test]
fn activity_from_before_the_ping_was_handed_over_is_no_answer_to_it() {
    let liveness = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut bare = Bare::new(exact().liveness(liveness));
    bare.run_until(s(20));
    let earlier = bare.instant() - s(1);
    bare.heartbeat.handle_activity(earlier);
    assert_eq!(bare.stats().answered(), 0);
    let now = bare.instant();
    bare.heartbeat.handle_activity(now);
    assert_eq!(bare.stats().answered(), 1);
}

// contract: H52
#[test]
fn a_look_ahead_of_time_takes_no_grace_away() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(25));
    let now = bare.instant();
    bare.heartbeat.handle_timeout(now);
    // A stall hides the checkpoint and the deadline.
    bare.now = s(45);
    let now = bare.instant();
    bare.heartbeat.handle_timeout(now);
    bare.drive();
    assert_eq!(bare.done, None);
    assert!(matches!(bare.answer(), PongKind::Matched { .. }));
}

#[test]
fn after_the_end_the_pong_of_the_ping_that_was_out_answers_nothing() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(21));
    bare.heartbeat.stop();
    assert_eq!(bare.answer(), PongKind::Stale);
    assert_eq!(bare.stats().answered(), 0);
    assert_eq!(bare.stats().latest_rtt(), None);
    assert_eq!(bare.answer(), PongKind::Unsolicited);
}

#[test]
fn a_stray_answers_nothing_once_activity_is_trusted_no_more() {
    let liveness = Liveness::Activity {
        max_unproven: s(25),
    };
    let mut bare = Bare::new(exact().liveness(liveness));
    bare.run_until(s(24));
    let now = bare.instant();
    assert_eq!(
        bare.heartbeat.handle_pong(b"", now),
        PongKind::Accepted { ours: false }
    );
    bare.run_until(s(26));
    let now = bare.instant();
    assert_eq!(bare.heartbeat.handle_pong(b"", now), PongKind::Unsolicited);
}

#[test]
fn in_a_flood_activity_is_seen_once_in_each_batch() {
    let liveness = Liveness::Activity {
        max_unproven: s(60),
    };
    let mut kept = Kept::new(exact().liveness(liveness));
    kept.run_until(s(19));
    for number in 0..128 {
        kept.script.receive(Msg::Data(number));
    }
    while kept.read_once() {}
    kept.run_until(s(38));
    assert_eq!(kept.script.pings(), NO_PINGS);
    kept.run_until(s(39));
    assert_eq!(kept.script.pings(), [s(39)]);
}

#[test]
fn what_is_logged_names_itself_and_no_key() {
    let (pongs, mut heart) = pinger(drain::<Frame>(), Config::default());
    let (pings, ponger) = ponger(drain::<Frame>());
    let shown = |it: &dyn Debug, name: &str| {
        let shown = format!("{it:?}");
        assert!(shown.starts_with(name), "{shown}");
    };
    shown(&pongs, "PongSender");
    shown(heart.get_ref().1, "Pongs");
    shown(&heart.controller(), "Controller");
    shown(&pings, "PingSender");
    shown(&ponger, "Ponger");
    assert!(!ponger.is_terminated());

    let mut bare = Bare::new(exact());
    bare.run_until(s(40));
    shown(&bare.timed_out().1, "TimedOut { phase: Pong, elapsed: 20s");

    let refused = CloseReason::new(1005, "").expect_err("reserved");
    assert!(refused.to_string().contains("1005"), "{refused}");
    assert!(Closed.to_string().contains("ended"), "{Closed}");
    drop(ponger);
    let lost = pings.handle_ping(&b"mine"[..]).expect_err("nobody answers");
    assert!(lost.to_string().contains("ended"), "{lost}");
}

#[test]
fn a_sender_knows_when_its_heartbeat_is_gone() {
    let (pongs, heart) = pinger(drain::<Frame>(), Config::default());
    assert!(!pongs.is_closed());
    drop(heart);
    assert!(pongs.is_closed());
}

#[test]
fn after_its_end_a_pinger_that_is_kept_takes_no_pongs() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.run_until(s(100));
    rig.verdict();
    assert_eq!(rig.reader.send("too late"), Err(Closed));
    assert!(rig.reader.take().is_closed());
}

#[test]
fn strays_that_the_heartbeat_has_not_seen_yet_are_in_its_figures() {
    let (pongs, mut heart) = pinger(drain::<Frame>(), Config::default());
    let strays = |heart: &Pinger<_, _>| heart.stats().unsolicited();
    assert_eq!(
        pongs.handle_pong(b"before the first poll"),
        Ok(PongKind::Unsolicited)
    );
    assert_eq!(strays(&heart), 1);
    assert!((&mut heart).now_or_never().is_none());
    assert_eq!(strays(&heart), 1);
    assert_eq!(
        pongs.handle_pong(b"between polls"),
        Ok(PongKind::Unsolicited)
    );
    assert_eq!(pongs.handle_pong(b"again"), Ok(PongKind::Unsolicited));
    assert_eq!(strays(&heart), 3);
}

#[test]
fn a_late_pong_and_a_newer_one_between_two_polls_are_in_its_figures_at_once() {
    let mut rig = Rig::new(Path::Slot, exact().max_missed(2));
    rig.run_until(s(41));
    for (ping, answered) in [(0, 0), (1, 1)] {
        rig.reader.handle_pong(rig.sink.payload(ping));
        let stats = rig.stats();
        assert_eq!((stats.stale(), stats.answered()), (1, answered));
    }
    rig.run_until(s(42));
    let stats = rig.stats();
    assert_eq!((stats.stale(), stats.answered()), (1, 1));
}

#[test]
fn a_configuration_tells_its_range_and_its_bound() {
    let adaptive = exact()
        .adaptive_timeout(s(1)..=s(8))
        .build()
        .expect("valid");
    assert_eq!(adaptive.adaptive_timeout(), Some(s(1)..=s(8)));
    assert_eq!(Config::default().adaptive_timeout(), None);
    let bound = |config: ConfigBuilder| config.build().expect("valid").detection_bound();
    assert_eq!(bound(exact()), Some(s(60)));
    assert_eq!(bound(exact().no_timeout()), None);
    assert_eq!(bound(exact().interval(Duration::MAX)), None);
}

#[test]
fn jitter_takes_nothing_from_an_interval_without_end() {
    let mut bare = Bare::new(exact().interval(Duration::MAX).jitter(1.0));
    assert_eq!(bare.drive(), None);
}

#[test]
fn to_stop_what_has_ended_changes_nothing() {
    let mut bare = Bare::new(exact());
    bare.run_until(s(40));
    let verdict = bare.timed_out().1;
    bare.heartbeat.stop();
    let now = bare.instant();
    assert_eq!(
        bare.heartbeat.poll_output(now),
        Output::Done(Verdict::TimedOut(verdict))
    );
}

// contract: A4
#[test]
fn after_a_miss_that_overtook_the_grid_the_next_ping_waits_for_its_next_point() {
    // Missed at 40 s, when the next ping is due by the schedule, too.
    let mut bare = Bare::new(exact().max_missed(9));
    bare.run_until(s(59));
    assert_eq!(bare.times(), [s(20), s(40)]);
    bare.answer();
    bare.run_until(s(79));
    assert_eq!(bare.times(), [s(20), s(40), s(60)]);
}

// contract: B19
#[test]
fn at_the_very_end_of_its_trust_activity_is_no_answer() {
    let liveness = Liveness::Activity {
        max_unproven: s(25),
    };
    let mut bare = Bare::new(exact().liveness(liveness));
    bare.run_until(s(25));
    let now = bare.instant();
    bare.heartbeat.handle_activity(now);
    assert_eq!(bare.stats().answered(), 0);
    bare.run_until(s(40));
    assert_eq!(bare.timed_out().0, s(40));
}

#[test]
fn a_backlog_before_the_deadline_costs_a_ping_none_of_its_grace() {
    let mut bare = Bare::new(exact().interval(s(5)));
    bare.run_until(s(11));
    let now = bare.instant();
    for _ in 0..3 {
        bare.heartbeat
            .handle_backlog(futures_pinger::heartbeat::BACKLOG_LIMIT, now);
    }
    // Nobody has looked since: not the peer's silence.
    bare.now = s(30);
    let now = bare.instant();
    bare.heartbeat.handle_timeout(now);
    bare.drive();
    assert_eq!((bare.done, bare.closes), (None, 0));
}

// contract: I55
#[test]
fn in_a_flood_that_comes_as_the_ping_falls_due_the_ping_leaves_with_the_first_batch() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(19));
    for number in 0..1000 {
        kept.at(s(20), move |script| script.receive(Msg::Data(number)));
    }
    kept.idle_until(s(20));
    for _ in 0..65 {
        assert!(kept.read_once());
    }
    assert_eq!(kept.script.pings(), [s(20)]);
}

#[test]
fn a_reader_that_has_read_all_there_is_is_not_woken_for_it() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(1));
    kept.script.receive(Msg::Data(1));
    assert!(kept.read_once());
    kept.reader_woken();
    assert!(!kept.read_once());
    assert!(!kept.reader_woken());
}

// contract: I55
#[test]
fn in_a_flood_of_other_peoples_pongs_the_ping_leaves_with_the_first_batch_too() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(19));
    for _ in 0..1000 {
        kept.at(s(20), |script| script.receive(Msg::Pong("stray".into())));
    }
    kept.idle_until(s(20));
    for _ in 0..65 {
        assert!(kept.read_once());
    }
    assert_eq!(kept.script.pings(), [s(20)]);
}

// contract: E35
#[test]
fn a_socket_that_breaks_with_the_close_frame_leaves_the_verdict_and_does_not_delay_it() {
    let mut kept = Kept::new(exact());
    kept.at(s(39), Script::break_sink);
    kept.run_until(s(60));
    let verdict = kept.read.last().map(|(at, item)| (*at, item.is_err()));
    assert_eq!(verdict, Some((s(40), true)));
    assert_eq!(kept.ended, Some(s(40)));
}

#[test]
fn a_keep_alive_says_when_it_has_ended() {
    let mut kept = Kept::new(exact());
    assert!(!kept.alive.is_terminated());
    kept.run_until(s(60));
    assert!(kept.ended.is_some() && kept.alive.is_terminated());
}

// contract: I54
#[test]
fn the_flush_of_a_ping_that_is_answered_already_goes_on_in_a_flood() {
    let mut kept = Kept::new(exact());
    let wire = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&wire);
    kept.script.on_wire(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    kept.script.block_flush();
    kept.run_until(s(20));
    let Some((_, Msg::Ping(payload))) = kept.script.sent().pop() else {
        panic!("no ping");
    };
    kept.script.receive(Msg::Pong(payload));
    while kept.read_once() {}
    assert_eq!(kept.stats().answered(), 1);
    kept.script.unblock_quietly();
    for number in 0..200 {
        kept.script.receive(Msg::Data(number));
    }
    for _ in 0..130 {
        assert!(kept.read_once());
    }
    assert_eq!(wire.load(Ordering::Relaxed), 1);
}

#[test]
fn clocks_and_timers_name_themselves() {
    let sleep = |_: Duration| pending::<()>();
    let shown = [
        (format!("{:?}", Clock::system()), "Clock"),
        (format!("{:?}", FuturesTimer::new()), "FuturesTimer"),
        (format!("{:?}", from_fn(sleep)), "FnTimer"),
        (format!("{:?}", TokioTimer::new()), "TokioTimer"),
        (format!("{:?}", AsyncIoTimer::new()), "AsyncIoTimer"),
    ];
    for (shown, name) in shown {
        assert!(shown.starts_with(name), "{shown}");
    }
}

#[test]
fn a_stream_of_pongs_can_be_forwarded_into_the_sender() {
    let world = World::new();
    let (outgoing, sink) = world.sink();
    let (pongs, pinger) = pinger(outgoing, exact().build().expect("valid"));
    let (peer, incoming) = mpsc::unbounded::<Pong>();
    let (clock, answers) = (world.clone(), peer.clone());
    sink.on_wire(move |frame| {
        let Frame::Ping(payload) = frame else { return };
        let answers = answers.clone();
        clock.at(clock.elapsed() + ms(30), move || {
            let _ = answers.unbounded_send(Pong(payload));
        });
    });
    world.spawn(async move {
        incoming.map(Ok).forward(pongs).await.expect("it runs");
    });
    world.at(s(205), move || peer.close_channel());
    let mut pinger = pinger.with_timer(world.timer());
    let controller = pinger.controller();
    let mut heartbeat = world.task(pinger);
    heartbeat.run_until(s(204));
    assert_eq!(controller.stats().answered(), 10);
    heartbeat.run_until(s(300));
    assert_eq!(heartbeat.ended_at(), Some(s(205)));
    assert_eq!(heartbeat.output(), Some(&Ok(Stopped::PongsEnded)));
}

#[test]
fn closing_the_sender_says_that_the_pongs_have_ended() {
    let world = World::new();
    let (outgoing, _sink) = world.sink();
    let (mut pongs, pinger) = pinger(outgoing, exact().build().expect("valid"));
    let mut heartbeat = world.task(pinger.with_timer(world.timer()));
    heartbeat.run_until(s(25));
    assert_eq!(pongs.flush().now_or_never(), Some(Ok(())));
    assert!(!pongs.is_closed());
    assert_eq!(pongs.close().now_or_never(), Some(Ok(())));
    assert!(pongs.is_closed());
    let late = pongs.send(Pong("late".into())).now_or_never();
    assert_eq!(late, Some(Err(Closed)));
    heartbeat.run_until(s(26));
    assert_eq!(heartbeat.ended_at(), Some(s(25)));
    assert_eq!(heartbeat.output(), Some(&Ok(Stopped::PongsEnded)));
}

#[test]
fn a_timer_may_be_boxed_pinned_or_borrowed() {
    fn ends(world: &World, timer: impl Timer) {
        let (outgoing, _sink) = world.sink();
        let (_pongs, pinger) = pinger(outgoing, exact().build().expect("valid"));
        let mut heartbeat = world.task(pinger.with_timer(timer));
        let start = world.elapsed();
        heartbeat.run_until(start + s(100));
        assert_eq!(heartbeat.ended_at(), Some(start + s(40)));
    }

    let world = World::new();
    let boxed: Box<dyn Timer + Unpin> = Box::new(world.timer());
    ends(&world, boxed);
    let pinned: Pin<Box<dyn Timer>> = Box::pin(world.timer());
    ends(&world, pinned);
    let mut timer = world.timer();
    ends(&world, &mut timer);
    ends(&world, Pin::new(&mut timer));
}
