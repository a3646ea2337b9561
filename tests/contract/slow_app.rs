//! O. An application that takes its time over each message.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use futures_pinger::testing::World;
use futures_pinger::{Clock, Config, Controller, Instant, KeepAlive, Liveness, Rfc6455, Timer};
use tokio_tungstenite::tungstenite::Message;

use crate::socket::{Kept, Msg};
use crate::world::{exact, ms, s};

fn config(interval: Duration) -> Config {
    let config = Config::builder().interval(interval).timeout(s(20));
    config.granularity(Duration::ZERO).build().expect("valid")
}

/// 100 messages are always unread, and the application takes a second for each. What is done at a time
/// is done by the application, before its next poll. When the pings left.
fn pings(interval: Duration, at: u64, act: fn(&Controller), until: Duration) -> Vec<Duration> {
    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    script.peer().answer_after(ms(30));
    for _ in 0..100 {
        script.receive(Message::text("x"));
    }
    let socket = KeepAlive::new(socket, config(interval));
    let mut socket = socket.with_timer(world.timer());
    let controller = socket.controller();
    let (clock, refill) = (world.clone(), script.clone());
    world.spawn(async move {
        let mut acts_at = Some(s(at));
        while let Some(Ok(_)) = socket.next().await {
            clock.sleep(s(1)).await;
            refill.receive(Message::text("x"));
            if acts_at.take_if(|at| clock.elapsed() >= *at).is_some() {
                act(&controller);
            }
        }
    });
    world.run_until(until);
    script.pings()
}

// The time was looked at once in 64 messages: pings left at 64, 192 and 320 s, and the one that was
// asked for at 3 s left at 64 s.
// contract: O94
#[test]
fn with_a_backlog_each_ping_leaves_with_the_first_poll_after_it_is_due() {
    let due = [s(20), s(40), s(60), s(80), s(100), s(120)];
    assert_eq!(pings(s(20), 500, |_| {}, s(121)), due);
}

// contract: O94
#[test]
fn orders_act_with_the_next_poll_whatever_the_backlog() {
    let ping_now = |controller: &Controller| controller.ping_now().expect("it goes on");
    assert_eq!(pings(s(3600), 3, ping_now, s(10)), [s(3)]);
    let sooner = |controller: &Controller| controller.set_config(config(s(5))).expect("it goes on");
    assert_eq!(pings(s(3600), 7, sooner, s(16)), [s(7), s(10), s(15)]);
    let pause = |controller: &Controller| controller.pause().expect("it goes on");
    assert_eq!(pings(s(20), 39, pause, s(200)), [s(20)]);
    let stop = |controller: &Controller| controller.stop().expect("it goes on");
    assert_eq!(pings(s(20), 39, stop, s(200)), [s(20)]);
}

// contract: O94
#[test]
fn an_order_from_another_thread_acts_with_the_next_poll_in_the_middle_of_a_batch() {
    let mut kept = Kept::new(exact().interval(s(3600)));
    kept.answer_after(ms(30));
    let controller = kept.alive.as_mut().get_mut().controller();
    for number in 0..1000 {
        kept.script.receive(Msg::Data(number));
    }
    for _ in 0..300 {
        assert!(kept.read_once());
    }
    std::thread::spawn(move || controller.ping_now().expect("it goes on"))
        .join()
        .expect("no panic");
    assert!(kept.read_once());
    assert_eq!(kept.script.pings(), [s(0)]);
}

// contract: O94
#[test]
fn also_an_app_that_computes_without_yielding_sends_its_pings_in_time() {
    for each in [ms(100), s(1), s(3)] {
        let mut kept = Kept::new(exact());
        kept.answer_after(ms(30));
        kept.script.flood();
        while kept.world.elapsed() < s(200) {
            assert!(kept.read_once());
            let next = kept.world.elapsed() + each;
            kept.idle_until(next);
        }
        let pings = kept.script.pings();
        assert!(pings.len() >= 9, "{each:?}: {pings:?}");
        for (ping, due) in pings.iter().zip((1..).map(|n| s(20) * n)) {
            assert!(*ping <= due + each, "{each:?}: {pings:?}");
        }
    }
}

// contract: O94
#[test]
fn a_timer_that_is_always_early_costs_a_look_each_time_and_none_for_each_message() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    kept.run_until(s(1));
    // As the timer does, a thousand times before anything is due.
    let before = kept.world.clock_reads();
    kept.world.early_timers(s(15));
    kept.script.flood();
    let mut read = 0_u64;
    for round in 0..1000 {
        kept.idle_until(s(1) + ms(10) * round);
        for _ in 0..64 {
            assert!(kept.read_once());
            read += 1;
        }
    }
    let reads = kept.world.clock_reads() - before;
    assert!(reads < 8 * 1000, "{reads} readings for {read} messages");
}

/// A timer that nobody gives a turn: its clock goes on.
struct Starved(Clock);

impl Timer for Starved {
    fn clock(&self) -> Clock {
        self.0.clone()
    }

    fn reset(self: Pin<&mut Self>, _: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

// An application that was quick, and then holds up its runtime, with the timer in it, for a second with
// each message: after a long batch the batches get short.
// contract: O94
#[test]
fn batches_get_shorter_where_even_the_timer_has_no_turn() {
    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    script.flood(|| Message::text("x"));
    let clock = world.timer().clock();
    let socket = KeepAlive::new(socket, config(s(20))).with_timer(Starved(clock));
    let mut socket = std::pin::pin!(socket);
    let mut read = || {
        let polled = socket
            .as_mut()
            .poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Some(Ok(_)))));
    };
    for _ in 0..1000 {
        read();
    }
    for second in 1..300 {
        world.run_until(s(second));
        read();
    }
    // 64 + 32 + 16 + … messages later each is looked at. Nobody answers, so one ping is out, and it is
    // written off each time that the next is due.
    let pings = script.pings();
    let on_time = |due| pings.contains(&s(due)) || pings.contains(&s(due + 1));
    for due in (140..300).step_by(20) {
        assert!(on_time(due), "{due}: {pings:?}");
    }
}

// contract: O94
#[test]
fn ping_now_of_a_socket_acts_with_the_next_poll_in_the_middle_of_a_batch() {
    let mut kept = Kept::new(exact().liveness(Liveness::AnyPong));
    kept.run_until(s(20));
    for number in 0..200 {
        if number == 100 {
            kept.script.receive(Msg::Pong(Bytes::new()));
        }
        kept.script.receive(Msg::Data(number));
    }
    // Batches have ended while the ping is out, so that the reader has looked and not slept since.
    while kept.stats().answered() == 0 {
        assert!(kept.read_once());
    }
    let asked = kept.alive.as_mut().get_mut().ping_now();
    asked.expect("alive");
    assert!(kept.read_once());
    assert_eq!(kept.script.pings(), [s(20), s(20)]);
}
