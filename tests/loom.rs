//! What is shared across threads, in every order that the threads could take:
//!
//! ```sh
//! RUSTFLAGS="--cfg futures_pinger_loom" cargo test --release --test loom
//! ```
//!
//! A lost wake-up is a deadlock, which loom reports by ending the process.
#![cfg(futures_pinger_loom)]

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::{
    Clock, Closed, Config, ConfigBuilder, Controller, Frame, Instant, Liveness, PingerSet,
    PongKind, PongSender, Stopped, Timer, pinger,
};
use loom::future::block_on;
use loom::thread;

/// Three threads switched at any point would take hours; a wake-up that is lost needs no more than three
/// switches against their will.
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

/// Time stands still: nothing but a thread wakes the heartbeat.
struct Still(Instant);

impl Timer for Still {
    fn clock(&self) -> Clock {
        let now = self.0;
        Clock::new(move || now)
    }

    fn reset(self: Pin<&mut Self>, _deadline: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Hands each ping to the peer, who may be another thread.
struct Peer<F>(F);

impl<F: FnMut(Bytes) + Unpin> Sink<Frame> for Peer<F> {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), ()> {
        if let Frame::Ping(payload) = frame {
            (self.0)(payload);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

fn timer() -> Still {
    Still(Clock::system().now())
}

fn build(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}

/// Pings at once.
fn at_once() -> ConfigBuilder {
    Config::builder().initial_delay(Duration::ZERO)
}

// contract: J67
#[test]
fn a_heartbeat_is_woken_by_what_a_controller_asks() {
    model(|| {
        let (pongs, heartbeat) = pinger(Peer(|_| ()), Config::default());
        let mut heartbeat = heartbeat.with_timer(timer());
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
    model(|| {
        let pings = loom::sync::Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let order = loom::sync::atomic::Ordering::Relaxed;
        let counted = pings.clone();
        let peer = Peer(move |_| {
            counted.fetch_add(1, order);
        });
        let (pongs, heartbeat) = pinger(peer, Config::default());
        let mut heartbeat = heartbeat.with_timer(timer());
        let controller = heartbeat.controller();
        let pinged = pings.clone();
        let (one, two) = (controller.clone(), controller);
        let threads = [
            thread::spawn(move || one.ping_now().expect("nobody has stopped it")),
            thread::spawn(move || {
                let config = Config::default();
                two.set_config(config).expect("nobody has stopped it");
            }),
        ];
        // Until the ping has gone out.
        let mut heartbeat = pin!(heartbeat);
        block_on(poll_fn(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            if pinged.load(order) == 1 {
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        for thread in threads {
            thread.join().expect("no panic");
        }
        drop(pongs);
    });
}

// contract: J67
#[test]
fn a_heartbeat_that_ends_meanwhile_refuses_or_has_taken_the_order() {
    model(|| {
        let (pongs, heartbeat) = pinger(Peer(|_| ()), Config::default());
        let mut heartbeat = heartbeat.with_timer(timer());
        let controller = heartbeat.controller();
        let ending = thread::spawn(move || drop(pongs));
        let steering = thread::spawn(move || {
            let asked = controller.ping_now();
            (asked, controller)
        });
        assert_eq!(block_on(heartbeat), Ok(Stopped::PongsEnded));
        let (_, controller): (Result<(), Closed>, Controller) = steering.join().expect("no panic");
        ending.join().expect("no panic");
        assert!(!controller.is_alive());
        assert_eq!(controller.ping_now(), Err(Closed));
    });
}

#[test]
fn a_pong_from_another_thread_answers() {
    model(|| {
        let (reader, slot) = (Cell::new(None), Cell::new(None));
        let peer = Peer(|payload: Bytes| {
            let sender: PongSender = slot.take().expect("one ping");
            let send = move || (sender.send(payload), sender);
            reader.set(Some(thread::spawn(send)));
        });
        let (pongs, heartbeat) = pinger(peer, build(at_once()));
        slot.set(Some(pongs));
        let mut heartbeat = pin!(heartbeat.with_timer(timer()));
        block_on(poll_fn(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            if heartbeat.stats().answered() == 1 {
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        let reader = reader.take().expect("a ping was sent");
        let (sent, _sender) = reader.join().expect("no panic");
        assert!(matches!(sent, Ok(PongKind::Matched { .. })));
    });
}

#[test]
fn activity_from_another_thread_answers() {
    model(|| {
        let liveness = Liveness::Activity {
            max_unproven: Duration::from_secs(60),
        };
        let (pongs, heartbeat) = pinger(Peer(|_| ()), build(at_once().liveness(liveness)));
        let mut heartbeat = heartbeat.with_timer(timer());
        let controller = heartbeat.controller();
        let mut heartbeat = pin!(heartbeat);
        let mut reader = None;
        block_on(poll_fn(|cx| {
            assert!(heartbeat.as_mut().poll(cx).is_pending());
            let controller = &controller;
            // The ping is out and told of: from now on one call has to do.
            reader.get_or_insert_with(|| {
                let controller = controller.clone();
                thread::spawn(move || controller.activity().expect("it runs"))
            });
            if controller.stats().answered() == 1 {
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        reader.expect("spawned").join().expect("no panic");
        drop(pongs);
    });
}

/// Polls a set until that is so; nobody in it fails.
fn drive_until<Si>(set: PingerSet<Si, Still>, done: impl Fn(&PingerSet<Si, Still>) -> bool)
where
    Si: Sink<Frame, Error = ()> + Unpin,
{
    let mut set = pin!(set);
    block_on(poll_fn(|cx| {
        assert!(set.as_mut().poll_next(cx).is_pending());
        if done(&set) {
            return Poll::Ready(());
        }
        Poll::Pending
    }));
}

fn set<Si>(config: ConfigBuilder) -> PingerSet<Si, Still> {
    PingerSet::new(build(config)).with_timer(timer())
}

/// Counts what it is told, where all threads see it.
#[derive(Clone)]
struct Count(loom::sync::Arc<loom::sync::atomic::AtomicUsize>);

impl Count {
    fn new() -> Self {
        Self(loom::sync::Arc::new(loom::sync::atomic::AtomicUsize::new(
            0,
        )))
    }

    fn add(&self) {
        self.0.fetch_add(1, loom::sync::atomic::Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(loom::sync::atomic::Ordering::SeqCst)
    }
}

// contract: M78
#[test]
fn a_set_hears_of_each_member_that_is_let_in() {
    model(|| {
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

/// Tells that it is dropped.
struct Dropped(Count);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add();
    }
}

// contract: M78
#[test]
fn a_set_hears_of_a_member_that_leaves() {
    model(|| {
        let drops = Count::new();
        let set = set(Config::builder());
        let held = Dropped(drops.clone());
        // It is the sink's.
        let member = set.insert(Peer(move |_| assert_eq!(held.0.get(), 0)));
        let other = thread::spawn(move || drop(member));
        drive_until(set, |set| drops.get() == 1 && set.is_empty());
        other.join().expect("no panic");
    });
}

/// Takes a frame once another thread has let it.
struct Gate {
    open: Count,
    waker: loom::sync::Arc<loom::sync::Mutex<Option<Waker>>>,
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
    model(|| {
        let (set, sent) = (set(at_once()), Count::new());
        // They share a waker of the set's.
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

/// A timer that fires never, with a clock that any thread sets.
struct Set(Instant, Count);

impl Timer for Set {
    fn clock(&self) -> Clock {
        let (start, seconds) = (self.0, self.1.clone());
        Clock::new(move || start + Duration::from_secs(seconds.get() as u64))
    }

    fn reset(self: Pin<&mut Self>, _deadline: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

// The member's next ping has been due since before the pong.
// contract: M78
#[test]
fn a_set_hears_of_the_answer_that_a_ping_has_waited_for() {
    model(|| {
        let (seconds, pings) = (Count::new(), Count::new());
        let timer = Set(Clock::system().now(), seconds.clone());
        // Exact: where the grid of the process lies is chance, which no model may depend on.
        let exact = at_once().granularity(Duration::ZERO);
        let config = exact.interval(Duration::from_secs(1));
        let mut set = PingerSet::new(build(config)).with_timer(timer);
        let (payload, sent) = (
            loom::sync::Arc::new(loom::sync::Mutex::new(None)),
            pings.clone(),
        );
        let peer = {
            let payload = loom::sync::Arc::clone(&payload);
            Peer(move |ping: Bytes| {
                *payload.lock().expect("no panic") = Some(ping);
                sent.add();
            })
        };
        let member = std::sync::Arc::new(set.insert(peer));
        let mut reader = None;
        let mut set = pin!(&mut set);
        block_on(poll_fn(|cx| {
            assert!(set.as_mut().poll_next(cx).is_pending());
            if reader.is_none() {
                // The second ping is due; the set is driven once more, or not, before the pong comes.
                seconds.add();
                let ping = payload.lock().expect("no panic").take().expect("pinged");
                let member = std::sync::Arc::clone(&member);
                reader = Some(thread::spawn(move || member.pong(&ping)));
                assert!(set.as_mut().poll_next(cx).is_pending());
            }
            if pings.get() == 2 {
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        let answered = reader.expect("spawned").join().expect("no panic");
        assert!(matches!(answered, PongKind::Matched { .. }));
    });
}
