//! What the first stray pong of a connection allocates, by a counting allocator: one test, as it counts
//! for the whole process.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{FutureExt, StreamExt};
use futures_pinger::testing::World;
use futures_pinger::{
    Clock, Config, Heartbeat, Instant, KeepAlive, Pinger, PingerSet, PongKind, Rfc6455, Timer,
    pinger,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tungstenite_0_30::Message;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The allocations of `stray` on a new connection: the least of many runs, as the threads of the test
/// harness allocate now and then.
fn least<C>(mut connect: impl FnMut() -> C, mut stray: impl FnMut(&mut C)) -> usize {
    let runs = (0..50).map(|_| {
        let mut connection = connect();
        let region = Region::new(ALLOCATOR);
        stray(&mut connection);
        let change = region.change();
        change.allocations + change.reallocations
    });
    runs.min().expect("some")
}

/// A timer that wakes nobody. Its clock allocates nothing, other than the clock of a World.
struct Still;

impl Timer for Still {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn reset(self: Pin<&mut Self>, _: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

fn config() -> Config {
    Config::default()
}

fn pending<T>(polled: &Poll<T>) {
    assert!(polled.is_pending());
}

// contract: R122
#[test]
fn the_first_stray_of_a_connection_allocates_nothing() {
    let mut cx = Context::from_waker(Waker::noop());
    let now = Clock::system().now();
    let bare = least(
        || Heartbeat::with_key(config(), now, [7; 16]),
        |heartbeat| assert_eq!(heartbeat.handle_pong(b"stray", now), PongKind::Unsolicited),
    );
    assert_eq!(bare, 0, "Heartbeat");

    let slot = least(
        || {
            let world = World::new();
            let (outgoing, _) = world.sink();
            let (pongs, pinger) = pinger(outgoing, config());
            let mut pinger = pinger.with_timer(Still);
            pending(&pinger.poll_unpin(&mut Context::from_waker(Waker::noop())));
            (pongs, pinger)
        },
        |(pongs, pinger)| {
            assert_eq!(pongs.handle_pong(b"stray"), Ok(PongKind::Unsolicited));
            pending(&pinger.poll_unpin(&mut cx));
        },
    );
    assert_eq!(slot, 0, "Pinger with a PongSender");

    let member = least(
        || {
            let world = World::new();
            let (outgoing, _) = world.sink();
            let mut set = PingerSet::new(config()).with_timer(Still);
            let member = set.insert(outgoing);
            pending(&set.poll_next_unpin(&mut Context::from_waker(Waker::noop())));
            (member, set)
        },
        |(member, _)| assert_eq!(member.handle_pong(b"stray"), PongKind::Unsolicited),
    );
    assert_eq!(member, 0, "Member");

    let stream = least(
        || {
            let world = World::new();
            let ((outgoing, _), (pongs, script)) = (world.sink(), world.pongs());
            let pinger = Pinger::new(outgoing, pongs, config());
            let mut pinger = pinger.with_timer(Still);
            pending(&pinger.poll_unpin(&mut Context::from_waker(Waker::noop())));
            script.push("stray");
            pinger
        },
        |pinger| {
            pending(&pinger.poll_unpin(&mut cx));
            assert_eq!(pinger.stats().unsolicited(), 1);
        },
    );
    assert_eq!(stream, 0, "Pinger with a stream");

    let keep_alive = least(
        || {
            let world = World::new();
            let (socket, script) = world.socket::<Message, _>(Rfc6455);
            let alive = KeepAlive::new(socket, config());
            let mut alive = Box::pin(alive.with_timer(Still));
            pending(&alive.poll_next_unpin(&mut Context::from_waker(Waker::noop())));
            script.receive(Message::Pong("stray".into()));
            alive
        },
        |alive| {
            let item = alive.poll_next_unpin(&mut cx);
            assert!(matches!(item, Poll::Ready(Some(Ok(Message::Pong(_))))));
            assert_eq!(alive.stats().unsolicited(), 1);
        },
    );
    assert_eq!(keep_alive, 0, "KeepAlive");
}
