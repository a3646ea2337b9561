//! What is shared across threads, in every order that the threads could take:
//!
//! ```sh
//! RUSTFLAGS="--cfg futures_pinger_loom" cargo test --release --test loom
//! ```
//!
//! A lost wake-up is a deadlock, which loom reports by ending the process.
#![cfg(futures_pinger_loom)]

#[path = "threads/parts.rs"]
mod parts;

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::{
    CloseReason, Closed, Config, ConfigBuilder, Controller, End, Frame, KeepAlive, Liveness,
    Member, MessageKind, PingNowError, PingerSet, PongKind, PongSender, ProbeError, Protocol,
    Stopped, Timer, pinger,
};
use loom::sync::Mutex;
use loom::thread;

use self::parts::{Count, Hand, Peer, Still, Task, block_on};

/// Runs `test` in every order that its two threads can take.
fn model_of_two(test: impl Fn() + Sync + Send + 'static) {
    loom::model::Builder::new().check(test);
}

/// Runs `test` in every order of its three threads with up to four switches away from a thread that
/// could have gone on: all orders would take hours, and a wake-up that is lost needs no more than three.
fn model_of_three(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(test);
}

// --- the parts ---

/// A peer that never answers, and the count of the pings it was sent.
fn silent_peer() -> (Peer<impl FnMut(Bytes) + Unpin>, Count) {
    let pings = Count::new();
    let counted = pings.clone();
    (Peer(move |_| counted.add()), pings)
}

/// A ping every 15 s. It is exact: where the grid of the process lies is chance, which no model may
/// depend on.
fn config() -> ConfigBuilder {
    Config::builder().granularity(Duration::ZERO)
}

/// Pings at once.
fn at_once() -> ConfigBuilder {
    config().initial_delay(Duration::ZERO)
}

fn build(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}

const INTERVAL: Duration = Duration::from_secs(15);

// --- what a controller asks ---

// contract: J67
#[test]
fn a_heartbeat_is_woken_by_what_a_controller_asks() {
    model_of_two(|| {
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(config()));
        let mut heartbeat = heartbeat.with_timer(Still);
        let controller = heartbeat.controller();
        let other = thread::spawn(move || controller.stop());
        assert_eq!(block_on(heartbeat), Ok(Stopped::Requested));
        assert_eq!(other.join().expect("no panic"), Ok(()));
        drop(pongs);
    });
}

// contract: J66
#[test]
fn no_order_is_lost_to_another() {
    model_of_three(|| {
        let (peer, pings) = silent_peer();
        let (pongs, heartbeat) = pinger(peer, build(config()));
        let mut heartbeat = heartbeat.with_timer(Still);
        let controller = heartbeat.controller();
        let (one, two) = (controller.clone(), controller);
        let threads = [
            thread::spawn(move || one.ping_now().expect("nobody has stopped it")),
            thread::spawn(move || {
                two.set_config(build(config()))
                    .expect("nobody has stopped it");
            }),
        ];
        let mut heartbeat = pin!(heartbeat);
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 1)
        });
        for thread in threads {
            thread.join().expect("no panic");
        }
        drop(pongs);
    });
}

fn ready_if(done: bool) -> Poll<()> {
    if done { Poll::Ready(()) } else { Poll::Pending }
}

// contract: J67
#[test]
fn a_heartbeat_that_ends_meanwhile_refuses_or_has_taken_the_order() {
    model_of_three(|| {
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(config()));
        let mut heartbeat = heartbeat.with_timer(Still);
        let controller = heartbeat.controller();
        let ending = thread::spawn(move || drop(pongs));
        let steering = thread::spawn(move || {
            let asked = controller.ping_now();
            (asked, controller)
        });
        assert_eq!(block_on(heartbeat), Ok(Stopped::PongsEnded));
        let (_, controller): (Result<(), PingNowError>, Controller) =
            steering.join().expect("no panic");
        ending.join().expect("no panic");
        assert!(!controller.is_alive());
        assert_eq!(controller.ping_now(), Err(PingNowError::Closed));
    });
}

#[test]
fn a_shorter_interval_from_another_thread_moves_the_timer() {
    model_of_two(|| {
        let hand = Hand::new();
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(config()));
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let shorter = Duration::from_secs(1);
        let other = thread::spawn(move || {
            let config = build(config().interval(shorter));
            controller
                .set_config(config)
                .expect("nobody has stopped it");
        });
        let mut heartbeat = pin!(heartbeat);
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(hand.armed_for() == Some(shorter))
        });
        other.join().expect("no panic");
        drop(pongs);
    });
}

// --- probes ---

// contract: P101
#[test]
fn a_probe_gets_the_pong_that_comes_at_any_moment() {
    model_of_three(|| {
        let (hand, reader) = (Hand::new(), Reader::default());
        let peer = Peer(|ping| reader.answer(ping, || ()));
        let (pongs, heartbeat) = pinger(peer, build(config()));
        reader.sender.set(Some(pongs));
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let probing = thread::spawn(move || {
            let round_trip = block_on(controller.probe(Duration::MAX));
            controller.stop().expect("nobody else stops it");
            round_trip
        });
        assert_eq!(block_on(heartbeat), Ok(Stopped::Requested));
        assert_eq!(probing.join().expect("no panic"), Ok(Duration::ZERO));
        drop(reader.join());
    });
}

// contract: P101
#[test]
fn a_probe_learns_that_the_heartbeat_is_dropped_or_paused() {
    fn ends(end: fn(Pin<Box<dyn Future<Output = ()>>>, &Controller), error: ProbeError) {
        model_of_two(move || {
            let (pongs, heartbeat) = pinger(Peer(|_| ()), build(config()));
            let mut heartbeat = heartbeat.with_timer(Still);
            let controller = heartbeat.controller();
            let other = controller.clone();
            let mut heartbeat: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
                let _ = heartbeat.await;
            });
            let polled = Task::new().poll(|cx| heartbeat.as_mut().poll(cx));
            assert!(polled.is_pending());
            let probing = thread::spawn(move || block_on(controller.probe(Duration::MAX)));
            end(heartbeat, &other);
            assert_eq!(probing.join().expect("no panic"), Err(error));
            drop(pongs);
        });
    }

    ends(|heartbeat, _| drop(heartbeat), ProbeError::Ended);
    ends(
        |heartbeat, controller| {
            controller.pause().expect("it runs");
            // It goes on while the probe is asked for.
            std::mem::forget(heartbeat);
        },
        ProbeError::Paused,
    );
}

// contract: P101
#[test]
fn the_time_of_a_probe_moves_the_timer() {
    // Of two threads, but with too many steps for all orders.
    model_of_three(|| {
        let hand = Hand::new();
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(config()));
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let within = Duration::from_secs(1);
        let probing = thread::spawn(move || {
            let probe = controller.probe(within);
            // What the timer was armed for before, perhaps; the checkpoint, and the deadline.
            for _ in 0..3 {
                hand.fire();
            }
            let outcome = block_on(probe);
            controller.stop().expect("nobody else stops it");
            outcome
        });
        assert_eq!(block_on(heartbeat), Ok(Stopped::Requested));
        let outcome = probing.join().expect("no panic");
        assert_eq!(outcome, Err(ProbeError::Late { within }));
        drop(pongs);
    });
}

// contract: P101
#[test]
fn a_probe_that_is_dropped_while_it_is_answered_does_no_harm() {
    model_of_three(|| {
        let (hand, reader) = (Hand::new(), Reader::default());
        let peer = Peer(|ping| reader.answer(ping, || ()));
        let (pongs, heartbeat) = pinger(peer, build(config()));
        reader.sender.set(Some(pongs));
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let (mut dropped, probe) = (
            controller.probe(Duration::MAX),
            controller.probe(Duration::MAX),
        );
        let probing = thread::spawn(move || {
            let _ = Task::new().poll(|cx| Pin::new(&mut dropped).poll(cx));
            drop(dropped);
            let round_trip = block_on(probe);
            controller.stop().expect("nobody else stops it");
            round_trip
        });
        assert_eq!(block_on(heartbeat), Ok(Stopped::Requested));
        assert_eq!(probing.join().expect("no panic"), Ok(Duration::ZERO));
        drop(reader.join());
    });
}

// --- the bell ---

#[test]
fn a_timer_that_fires_on_another_thread_wakes_the_heartbeat() {
    model_of_two(|| {
        let hand = Hand::new();
        let (peer, pings) = silent_peer();
        let (pongs, heartbeat) = pinger(peer, build(config()));
        let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
        // The timer may fire before it is armed, between the arming and its first poll, and later.
        let clock = thread::spawn(move || hand.fire());
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 1)
        });
        clock.join().expect("no panic");
        drop(pongs);
    });
}

#[test]
fn a_timer_that_has_woken_early_is_asked_again() {
    model_of_two(|| {
        let hand = Hand::new();
        let (peer, pings) = silent_peer();
        let (pongs, heartbeat) = pinger(peer, build(config()));
        let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
        let clock = thread::spawn(move || {
            hand.wake_early();
            hand.fire();
        });
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 1)
        });
        clock.join().expect("no panic");
        drop(pongs);
    });
}

#[test]
fn a_timer_that_fires_finds_the_task_that_has_taken_over() {
    model_of_two(|| {
        let hand = Hand::new();
        let (peer, pings) = silent_peer();
        let (pongs, heartbeat) = pinger(peer, build(config()));
        let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
        let clock = thread::spawn(move || hand.fire());
        // This task is not polled again, whether it is woken or not.
        let first = Task::new().poll(|cx| heartbeat.as_mut().poll(cx));
        assert!(first.is_pending());
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 1)
        });
        clock.join().expect("no panic");
        drop(pongs);
    });
}

/// The sender of the pongs, until a ping comes; then the thread that answers it.
#[derive(Default)]
struct Reader {
    sender: Cell<Option<PongSender>>,
    thread: Cell<Option<thread::JoinHandle<(PongKind, PongSender)>>>,
}

impl Reader {
    /// Answers the first ping from a thread of its own; `after` that the thread does something else.
    fn answer(&self, ping: Bytes, after: impl FnOnce() + 'static) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        self.thread.set(Some(thread::spawn(move || {
            let kind = sender.handle_pong(&ping).expect("nobody has stopped it");
            after();
            (kind, sender)
        })));
    }

    fn join(&self) -> PongSender {
        let thread = self.thread.take().expect("a ping was sent");
        let (kind, sender) = thread.join().expect("no panic");
        assert!(matches!(kind, PongKind::Matched { .. }));
        sender
    }
}

#[test]
fn a_pong_and_the_timer_on_two_threads_let_the_next_ping_leave() {
    model_of_three(|| {
        let (hand, pings, reader) = (Hand::new(), Count::new(), Reader::default());
        let peer = Peer(|ping| {
            pings.add();
            reader.answer(ping, || ());
        });
        let (pongs, heartbeat) = pinger(peer, build(at_once()));
        reader.sender.set(Some(pongs));
        let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
        let clock = thread::spawn(move || hand.fire());
        // The pong comes first, and the timer wakes the heartbeat; or the next ping is due first, and
        // the pong does.
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 2)
        });
        clock.join().expect("no panic");
        drop(reader.join());
    });
}

// --- the wake rule ---

#[test]
fn a_pong_from_another_thread_answers_and_wakes_nobody() {
    model_of_two(|| {
        let (pings, reader) = (Count::new(), Reader::default());
        let hand = Hand::new();
        let peer = Peer(|ping| {
            pings.add();
            reader.answer(ping, || ());
        });
        let (pongs, heartbeat) = pinger(peer, build(at_once()));
        reader.sender.set(Some(pongs));
        let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
        let task = Task::new();
        // The pong comes while the heartbeat is polled, between the polls, or after them.
        for _ in 0..2 {
            let polled = task.poll(|cx| heartbeat.as_mut().poll(cx));
            assert!(polled.is_pending());
        }
        let pongs = reader.join();
        assert_eq!(task.wakes(), 0);
        assert_eq!(heartbeat.stats().answered(), 1);
        assert_eq!(hand.armed_for(), Some(INTERVAL));
        drop(pongs);
    });
}

#[test]
fn a_pong_and_then_the_timer_let_the_next_ping_leave() {
    model_of_two(|| {
        let (hand, pings, reader) = (Hand::new(), Count::new(), Reader::default());
        let clock = hand.clone();
        let peer = Peer(|ping| {
            pings.add();
            let clock = clock.clone();
            reader.answer(ping, move || clock.fire());
        });
        let (pongs, heartbeat) = pinger(peer, build(at_once()));
        reader.sender.set(Some(pongs));
        let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
        Task::new().run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 2)
        });
        assert_eq!(heartbeat.stats().answered(), 1);
        drop(reader.join());
    });
}

/// A heartbeat whose second ping is due while the first one is out, and knows it: the pong of the first
/// ping, from another thread, and what `beside` does on a third one.
fn with_a_ping_overdue(beside: impl FnOnce(Controller) + 'static) {
    let (hand, pings) = (Hand::new(), Count::new());
    let first = Cell::new(None);
    let peer = Peer(|ping| {
        pings.add();
        first.set(first.take().or(Some(ping)));
    });
    let (pongs, heartbeat) = pinger(peer, build(at_once()));
    let mut heartbeat = heartbeat.with_timer(hand.timer());
    let controller = heartbeat.controller();
    let mut heartbeat = pin!(heartbeat);
    let task = Task::new();
    let mut poll = |cx: &mut Context<'_>| {
        assert!(heartbeat.as_mut().poll(cx).is_pending());
    };
    task.poll(&mut poll);
    hand.fire();
    task.poll(&mut poll);
    assert_eq!(pings.get(), 1);
    // One wake by the timer; it is dealt with.
    let before = task.wakes();
    assert_eq!(before, 1);
    task.wakes.lock().expect("no panic").pending = false;

    let ping = first.take().expect("it was sent");
    let answering = thread::spawn(move || (pongs.handle_pong(&ping), pongs));
    let other = thread::spawn(move || beside(controller));
    task.run(|cx| {
        poll(cx);
        ready_if(pings.get() == 2)
    });
    let (answered, pongs) = answering.join().expect("no panic");
    assert!(matches!(answered, Ok(PongKind::Matched { .. })));
    other.join().expect("no panic");
    task.poll(&mut poll);
    assert_eq!(pings.get(), 2);
    assert_eq!(task.wakes() - before, 1);
    drop(pongs);
}

#[test]
fn a_pong_that_the_next_ping_has_waited_for_wakes_once() {
    model_of_three(|| {
        with_a_ping_overdue(drop);
    });
}

#[test]
fn a_pong_and_an_order_at_once_let_one_ping_leave_and_wake_once() {
    model_of_three(|| {
        with_a_ping_overdue(|controller| controller.ping_now().expect("nobody has stopped it"));
    });
}

#[test]
fn activity_from_another_thread_answers() {
    model_of_two(|| {
        let liveness = Liveness::Activity {
            max_unproven: Duration::from_secs(60),
        };
        let hand = Hand::new();
        let (peer, pings) = silent_peer();
        let (pongs, heartbeat) = pinger(peer, build(at_once().liveness(liveness)));
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let mut heartbeat = pin!(heartbeat);
        let task = Task::new();
        // The first ping is out.
        let polled = task.poll(|cx| heartbeat.as_mut().poll(cx));
        assert!(polled.is_pending());
        let reader = thread::spawn(move || {
            controller.handle_activity().expect("nobody has stopped it");
            hand.fire();
        });
        task.run(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            ready_if(pings.get() == 2)
        });
        assert_eq!(heartbeat.stats().answered(), 1);
        reader.join().expect("no panic");
        drop(pongs);
    });
}

// --- the end of the pongs ---

#[test]
fn the_drop_of_the_sender_ends_the_heartbeat_at_any_moment() {
    model_of_two(|| {
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(at_once()));
        let mut heartbeat = pin!(heartbeat.with_timer(Still));
        let reader = thread::spawn(move || drop(pongs));
        let task = Task::new();
        // Also while the heartbeat is polled for no reason.
        let mut ended = task.poll(|cx| heartbeat.as_mut().poll(cx));
        if ended.is_pending() {
            ended = Poll::Ready(task.run(|cx| heartbeat.as_mut().poll(cx)));
        }
        assert_eq!(ended, Poll::Ready(Ok(Stopped::PongsEnded)));
        reader.join().expect("no panic");
    });
}

#[test]
fn the_drop_of_the_sender_is_not_lost_to_the_timer() {
    model_of_three(|| {
        let hand = Hand::new();
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(config()));
        let heartbeat = heartbeat.with_timer(hand.timer());
        let reader = thread::spawn(move || drop(pongs));
        let clock = thread::spawn(move || hand.fire());
        assert_eq!(block_on(heartbeat), Ok(Stopped::PongsEnded));
        reader.join().expect("no panic");
        clock.join().expect("no panic");
    });
}

// --- a whole socket ---

/// A socket with so many messages to read, that takes each message and never finishes a flush.
struct Stuck {
    unread: usize,
    sent: Count,
}

impl Stream for Stuck {
    type Item = Result<Frame, ()>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.unread == 0 {
            return Poll::Pending;
        }
        self.unread -= 1;
        Poll::Ready(Some(Ok(Frame::Ping(Bytes::new()))))
    }
}

impl Sink<Frame> for Stuck {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Frame) -> Result<(), ()> {
        self.sent.add();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Pending
    }
}

/// Frames as they are.
struct Plain;

impl Protocol<Frame> for Plain {
    fn encode(&self, frame: Frame) -> Option<Frame> {
        Some(frame)
    }

    fn classify<'m>(&self, _: &'m Frame) -> MessageKind<'m> {
        MessageKind::Data
    }
}

type Socket<T> = KeepAlive<Stuck, Plain, T>;

// --- a reader that is away ---

/// A reader that was given a message, and comes back on another thread: while the heartbeat looks for
/// the first time, or after that look. Nothing was there to be read, so a verdict falls.
fn a_reader_comes_back(look_before: bool) {
    let hand = Hand::new();
    let (peer, _) = silent_peer();
    let config = at_once().interval(INTERVAL).timeout(Duration::from_secs(5));
    let (pongs, heartbeat) = pinger(peer, build(config));
    let mut heartbeat = pin!(heartbeat.with_timer(hand.timer()));
    let mut over = false;
    let mut poll = |cx: &mut Context<'_>| {
        over = over || heartbeat.as_mut().poll(cx).is_ready();
        over
    };
    let stream = Stuck {
        unread: 1,
        sent: Count::new(),
    };
    let mut reader = pongs.attach(stream, Plain);
    let task = Task::new();
    task.poll(&mut poll);
    let polled = Pin::new(&mut reader).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready());
    if look_before {
        hand.fire();
        task.poll(&mut poll);
    }
    let coming = thread::spawn(move || {
        let polled = Pin::new(&mut reader).poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        reader
    });
    hand.fire();
    task.poll(&mut poll);
    let reader = coming.join().expect("no panic");
    if !look_before {
        hand.fire();
    }
    // The deadline stands, or is later by the slack.
    task.run(|cx| {
        let extended = hand.armed_for() == Some(Duration::from_millis(5625));
        ready_if(poll(cx) || extended)
    });
    drop(reader);
}

#[test]
fn a_reader_that_comes_back_before_it_is_missed_lets_the_heartbeat_judge() {
    model_of_two(|| a_reader_comes_back(false));
}

#[test]
fn a_reader_that_comes_back_after_it_was_missed_lets_the_heartbeat_judge() {
    model_of_two(|| a_reader_comes_back(true));
}

fn socket<T: Timer>(unread: usize, config: ConfigBuilder, timer: T) -> (Socket<T>, Count) {
    let pings = Count::new();
    let sent = pings.clone();
    let socket = KeepAlive::with_protocol(Stuck { unread, sent }, Plain, build(config));
    (socket.with_timer(timer), pings)
}

#[test]
fn a_reader_of_a_socket_is_woken_by_a_stop() {
    model_of_two(|| {
        let (mut socket, _) = socket(0, config(), Still);
        let controller = socket.controller();
        let steering = controller.clone();
        let other = thread::spawn(move || steering.stop());
        let mut socket = pin!(socket);
        Task::new().run(|cx| {
            assert!(socket.as_mut().poll_next(cx).is_pending());
            ready_if(!controller.is_alive())
        });
        assert_eq!(other.join().expect("no panic"), Ok(()));
    });
}

#[test]
fn a_reader_of_a_socket_is_woken_by_a_timer_on_another_thread() {
    model_of_two(|| {
        let hand = Hand::new();
        let (socket, pings) = socket(0, config(), hand.timer());
        let clock = thread::spawn(move || hand.fire());
        let mut socket = pin!(socket);
        Task::new().run(|cx| {
            assert!(socket.as_mut().poll_next(cx).is_pending());
            ready_if(pings.get() == 1)
        });
        clock.join().expect("no panic");
    });
}

/// A writer that waits for a ping on its way goes on once the heartbeat was asked for that on another
/// thread, while a third one reads.
fn lets_the_writer_go_on(ask: fn(&Controller) -> Result<(), Closed>) {
    let (mut socket, pings) = socket(0, at_once(), Still);
    let controller = socket.controller();
    let reading = Task::new();
    let read = |socket: &mut Socket<Still>, cx: &mut Context<'_>| {
        assert!(Pin::new(socket).poll_next(cx).is_pending());
    };
    reading.poll(|cx| read(&mut socket, cx));
    assert_eq!(pings.get(), 1);
    let steering = thread::spawn(move || ask(&controller));
    // The halves of a split socket share it by a lock, too.
    let halves = loom::sync::Arc::new(Mutex::new(socket));
    let reader = {
        let halves = loom::sync::Arc::clone(&halves);
        thread::spawn(move || {
            reading.poll(|cx| read(&mut halves.lock().expect("no panic"), cx));
        })
    };
    let ready = Task::new().run(|cx| {
        let mut socket = halves.lock().expect("no panic");
        Pin::new(&mut *socket).poll_ready(cx)
    });
    assert_eq!(ready, Ok(()));
    assert_eq!(steering.join().expect("no panic"), Ok(()));
    reader.join().expect("no panic");
}

#[test]
fn a_writer_is_let_go_on_by_a_stop() {
    model_of_three(|| lets_the_writer_go_on(Controller::stop));
}

// A pause was lost between the writer's question whether to wait and its registration.
#[test]
fn a_writer_is_let_go_on_by_a_pause() {
    model_of_three(|| lets_the_writer_go_on(Controller::pause));
}

/// The same where the reader has been handed a message, and does not come back for the next.
fn lets_the_writer_go_on_without_the_reader(ask: fn(&Controller) -> Result<(), Closed>) {
    // The time is looked at after 64 messages.
    let (mut socket, pings) = socket(100, at_once(), Still);
    let controller = socket.controller();
    let reading = Task::new();
    while pings.get() == 0 {
        let read = reading.poll(|cx| Pin::new(&mut socket).poll_next(cx));
        assert!(read.is_ready());
    }
    let steering = thread::spawn(move || ask(&controller));
    let ready = Task::new().run(|cx| Pin::new(&mut socket).poll_ready(cx));
    assert_eq!(ready, Ok(()));
    assert_eq!(steering.join().expect("no panic"), Ok(()));
}

// A stop woke nobody while the reader was about to look.
#[test]
fn a_writer_is_let_go_on_by_a_stop_without_its_reader() {
    model_of_two(|| lets_the_writer_go_on_without_the_reader(Controller::stop));
}

#[test]
fn a_writer_is_let_go_on_by_a_pause_without_its_reader() {
    model_of_two(|| lets_the_writer_go_on_without_the_reader(Controller::pause));
}

// --- the two halves of a socket ---

/// A writer on a thread of its own waits for the lock that the reader has. Its socket is ready.
fn two_halves_meet() {
    let (socket, _) = socket(2, config().initial_delay(Duration::MAX), Still);
    let (mut reader, mut writer) = socket.into_split();
    let reading = thread::spawn(move || {
        let task = Task::new();
        for _ in 0..2 {
            let read = task.run(|cx| Pin::new(&mut reader).poll_next(cx));
            assert!(read.is_some());
        }
        reader
    });
    let task = Task::new();
    let ready = task.run(|cx| Pin::new(&mut writer).poll_ready(cx));
    assert_eq!(ready, Ok(()));
    // Taken at once, also where the reader has the socket.
    let sent = Pin::new(&mut writer).start_send(Frame::Pong(Bytes::new()));
    assert_eq!(sent, Ok(()));
    let reader = reading.join().expect("no panic");
    let whole = reader.reunite(writer).expect("of one socket");
    assert_eq!(whole.stats().sent(), 0);
}

// contract: O91
#[test]
fn a_half_that_waits_for_the_other_is_woken() {
    model_of_two(two_halves_meet);
}

// --- a set ---

/// Polls a set until `done`; no member of the set fails.
fn drive_until<Si, T: Timer>(
    set: PingerSet<Si, (), T>,
    done: impl Fn(&PingerSet<Si, (), T>) -> bool,
) where
    Si: Sink<Frame, Error = ()> + Unpin,
{
    let mut set = pin!(set);
    Task::new().run(|cx| {
        assert!(set.as_mut().poll_next(cx).is_pending());
        ready_if(done(&set))
    });
}

fn set<Si>(config: ConfigBuilder) -> PingerSet<Si, (), Still> {
    PingerSet::new(build(config)).with_timer(Still)
}

// contract: M78
#[test]
fn a_set_hears_of_each_member_that_is_let_in() {
    model_of_three(|| {
        let pings = Count::new();
        let set = set(at_once());
        let joining = [(), ()].map(|()| {
            let (handle, pings) = (set.handle(), pings.clone());
            thread::spawn(move || {
                let counted = Peer(move |_| pings.add());
                handle.insert(counted).ok().expect("the set is there")
            })
        });
        drive_until(set, |_| pings.get() == 2);
        for thread in joining {
            thread.join().expect("no panic");
        }
    });
}

/// Counts its own drop.
struct Dropped(Count);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add();
    }
}

// contract: M78
#[test]
fn a_set_hears_of_a_member_that_leaves() {
    model_of_two(|| {
        let drops = Count::new();
        let set = set(config());
        let held = Dropped(drops.clone());
        // The sink owns the count.
        let member = set.insert(Peer(move |_| assert_eq!(held.0.get(), 0)));
        let other = thread::spawn(move || drop(member));
        drive_until(set, |set| drops.get() == 1 && set.is_empty());
        other.join().expect("no panic");
    });
}

/// A sink that takes a frame once another thread has opened it.
struct Gate {
    open: Count,
    waker: loom::sync::Arc<Mutex<Option<Waker>>>,
    sent: Count,
}

impl Sink<Frame> for Gate {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        *self.waker.lock().expect("no panic") = Some(cx.waker().clone());
        match self.open.get() {
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn start_send(self: Pin<&mut Self>, _: Frame) -> Result<(), ()> {
        self.sent.add();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

// contract: M77 M78
#[test]
fn a_set_hears_of_each_sink_that_is_ready_again() {
    model_of_three(|| {
        let (set, sent) = (set(at_once()), Count::new());
        // Both sinks are given the same waker by the set.
        let gates = [(), ()].map(|()| {
            let (open, waker) = (Count::new(), loom::sync::Arc::default());
            let gate = Gate {
                open: open.clone(),
                waker: loom::sync::Arc::clone(&waker),
                sent: sent.clone(),
            };
            let member = set.insert(gate);
            let opening = thread::spawn(move || {
                open.add();
                let waker = waker.lock().expect("no panic").take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
            (member, opening)
        });
        drive_until(set, |_| sent.get() == 2);
        for (_, opening) in gates {
            opening.join().expect("no panic");
        }
    });
}

// contract: M78
#[test]
fn a_set_hears_of_the_answer_that_a_ping_has_waited_for() {
    model_of_two(|| {
        let (hand, pings) = (Hand::new(), Count::new());
        let first = Cell::new(None);
        let mut set = PingerSet::new(build(at_once())).with_timer(hand.timer());
        let member = set.insert(Peer(|ping: Bytes| {
            pings.add();
            first.set(first.take().or(Some(ping)));
        }));
        let mut set = pin!(&mut set);
        let task = Task::new();
        let mut poll = |cx: &mut Context<'_>| assert!(set.as_mut().poll_next(cx).is_pending());
        task.poll(&mut poll);
        // The second ping is due. The set sees that before the pong comes, or after it.
        hand.fire();
        let ping = first.take().expect("it was sent");
        let reader = thread::spawn(move || (member.handle_pong(&ping), member));
        task.run(|cx| {
            poll(cx);
            ready_if(pings.get() == 2)
        });
        let (answered, member) = reader.join().expect("no panic");
        assert!(matches!(answered, PongKind::Matched { .. }));
        drop(member);
    });
}

/// The reader of a member was given a message, and comes back on another thread: while the set looks at the
/// member, or after that. Nothing was there to be read, so a verdict falls.
fn a_reader_of_a_member_comes_back(look_before: bool) {
    let hand = Hand::new();
    let (peer, _) = silent_peer();
    let config = at_once()
        .interval(INTERVAL)
        .timeout(Duration::from_secs(5))
        .no_close();
    let set = PingerSet::new(build(config)).with_timer(hand.timer());
    let member = set.insert(peer);
    let mut set = pin!(set);
    let mut over = false;
    let mut poll = |cx: &mut Context<'_>| {
        over = over || set.as_mut().poll_next(cx).is_ready();
        over
    };
    let stream = Stuck {
        unread: 1,
        sent: Count::new(),
    };
    let mut reader = member.attach(stream, Plain);
    let task = Task::new();
    task.poll(&mut poll);
    let polled = Pin::new(&mut reader).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready());
    if look_before {
        hand.fire();
        task.poll(&mut poll);
    }
    let coming = thread::spawn(move || {
        let polled = Pin::new(&mut reader).poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        reader
    });
    hand.fire();
    task.poll(&mut poll);
    let reader = coming.join().expect("no panic");
    if !look_before {
        hand.fire();
    }
    // The deadline stands, or is later by the slack.
    task.run(|cx| {
        let extended = hand.armed_for() == Some(Duration::from_millis(5625));
        if extended {
            hand.fire();
        }
        ready_if(poll(cx))
    });
    drop(reader);
}

// contract: O130 Q113
#[test]
fn a_reader_of_a_member_that_comes_back_as_the_set_looks_loses_no_wake() {
    model_of_two(|| a_reader_of_a_member_comes_back(false));
    model_of_two(|| a_reader_of_a_member_comes_back(true));
}

/// A member with its first ping, until a thread of its own answers it.
#[derive(Default)]
struct Answering {
    member: Option<Member>,
    reading: Option<thread::JoinHandle<Member>>,
}

// contract: P101 Q109
#[test]
fn a_probe_of_a_member_gets_the_pong_that_comes_at_any_moment() {
    model_of_three(|| {
        let hand = Hand::new();
        let set = PingerSet::new(build(config())).with_timer(hand.timer());
        let answering = loom::sync::Arc::new(Mutex::new(Answering::default()));
        let peer = {
            let answering = answering.clone();
            Peer(move |ping: Bytes| {
                let mut answering = answering.lock().expect("no panic");
                let member = answering.member.take().expect("one ping is sent");
                answering.reading = Some(thread::spawn(move || {
                    member.handle_pong(&ping);
                    member
                }));
            })
        };
        let (handle, member) = (set.handle(), set.insert(peer));
        let id = member.id();
        answering.lock().expect("no panic").member = Some(member);
        let probing = thread::spawn(move || {
            let round_trip = block_on(handle.probe(id, Duration::MAX));
            let reason = CloseReason::new(1001, "done").expect("a valid code");
            handle.close(id, reason).expect("it is there");
            round_trip
        });
        let mut set = pin!(set);
        let departure = block_on(std::future::poll_fn(|cx| set.as_mut().poll_next(cx)));
        assert_eq!(departure.expect("a set never ends").end, End::Closed);
        assert_eq!(probing.join().expect("no panic"), Ok(Duration::ZERO));
        let reading = answering.lock().expect("no panic").reading.take();
        drop(reading.expect("it was sent").join());
    });
}

// contract: P101 Q109
#[test]
fn a_probe_of_a_member_learns_that_it_leaves_or_that_the_set_is_dropped() {
    for leaves in [true, false] {
        model_of_two(move || {
            let set = set(config());
            let (handle, member) = (set.handle(), set.insert(Peer(|_: Bytes| ())));
            let id = member.id();
            let mut set = Box::pin(set);
            let polled = Task::new().poll(|cx| set.as_mut().poll_next(cx).is_pending());
            assert!(polled);
            let probing = thread::spawn(move || block_on(handle.probe(id, Duration::MAX)));
            if leaves {
                drop(member);
                // The set goes on while the probe is asked for.
                std::mem::forget(set);
            } else {
                drop(set);
                drop(member);
            }
            let outcome = probing.join().expect("no panic");
            assert_eq!(outcome, Err(ProbeError::Ended));
        });
    }
}

#[test]
fn a_set_hears_of_its_timer_and_of_a_newcomer_at_once() {
    model_of_three(|| {
        let hand = Hand::new();
        // Without a timeout the next ping leaves when it is due, answered or not.
        let set = PingerSet::new(build(at_once().no_timeout())).with_timer(hand.timer());
        let (resident, newcomer) = (Count::new(), Count::new());
        let counted = |pings: &Count| {
            let pings = pings.clone();
            Peer(move |_| pings.add())
        };
        let member = set.insert(counted(&resident));
        let clock = thread::spawn(move || hand.fire());
        let (handle, sink) = (set.handle(), counted(&newcomer));
        let joining = thread::spawn(move || handle.insert(sink).ok().expect("the set is there"));
        drive_until(set, |_| resident.get() == 2 && newcomer.get() >= 1);
        clock.join().expect("no panic");
        joining.join().expect("no panic");
        drop(member);
    });
}
