//! What wraps a sink, a stream or a socket gives them back.

use std::pin::Pin;

use futures::channel::mpsc;
use futures::executor::block_on;
use futures::{Stream, StreamExt};
use futures_pinger::{Config, KeepAlive, Liveness, PongKind, pinger};

use crate::bare::Bare;
use crate::socket::{Kept, Msg};
use crate::world::{exact, ms, s};

#[test]
fn a_pinger_shows_its_parts_and_gives_them_back() {
    let (outgoing, mut frames) = mpsc::channel(1);
    let (_pongs, mut pinger) = pinger(outgoing, Config::default());
    assert!(!pinger.get_ref().0.is_closed());
    let frame = || futures_pinger::Frame::Ping("mine"[..].into());
    pinger.get_mut().0.try_send(frame()).expect("room");
    assert_eq!(frames.try_recv(), Ok(frame()));
    let (mut outgoing, _) = Pin::new(&mut pinger).get_pin_mut();
    outgoing.try_send(frame()).expect("room");
    assert!(format!("{pinger:?}").starts_with("Pinger"));
    let (mut outgoing, _) = pinger.into_inner();
    assert_eq!(frames.try_recv(), Ok(frame()));
    outgoing.try_send(frame()).expect("it was not closed");
}

#[test]
fn a_keep_alive_shows_its_socket_and_gives_it_back() {
    let socket = futures::stream::iter([Ok::<_, ()>(1), Ok(2), Ok(3)]);
    let mut alive = KeepAlive::new(socket, Config::default());
    assert_eq!(alive.get_ref().size_hint(), (3, Some(3)));
    assert_eq!(block_on(alive.get_mut().next()), Some(Ok(1)));
    let mut pinned = Pin::new(&mut alive).get_pin_mut();
    assert_eq!(block_on(pinned.next()), Some(Ok(2)));
    assert!(format!("{alive:?}").starts_with("KeepAlive"));
    assert_eq!(block_on(alive.into_inner().next()), Some(Ok(3)));
}

#[test]
fn ping_now_before_the_first_poll_of_a_keep_alive_pings_with_it() {
    let mut kept = Kept::new(exact());
    kept.alive.ping_now();
    kept.run_until(s(5));
    assert_eq!(kept.script.pings(), [s(0)]);
}

#[test]
fn ping_now_wakes_a_reader_whose_heartbeat_has_waited_for_the_sink_before() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(10));
    kept.run_until(s(25));
    kept.reader_woken();
    kept.alive.ping_now();
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
fn a_stray_answers_nothing_once_activity_is_trusted_no_more() {
    let liveness = Liveness::Activity {
        max_unproven: s(25),
    };
    let mut bare = Bare::new(exact().liveness(liveness));
    bare.run_until(s(24));
    let now = bare.instant();
    assert_eq!(bare.heartbeat.handle_pong(b"", now), PongKind::Accepted);
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
    assert_eq!(kept.script.pings(), []);
    kept.run_until(s(39));
    assert_eq!(kept.script.pings(), [s(39)]);
}
