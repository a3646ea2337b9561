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
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Sink;
use futures_pinger::{
    Clock, Closed, Config, ConfigBuilder, Controller, Frame, Instant, Liveness, PongKind,
    PongSender, Stopped, Timer, pinger,
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
