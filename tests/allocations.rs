//! What is allocated, by a counting allocator: one test, as it counts for the whole process.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Sink;
use futures::task::noop_waker_ref;
use futures_pinger::{Config, Frame, PongKind, pinger};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[path = "../benches/virtual_time/mod.rs"]
mod virtual_time;

use virtual_time::VirtualTime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Calls of the allocator while `work` runs, and the bytes that stay.
///
/// The least of three runs: the threads of the test harness allocate now and then.
fn count(mut work: impl FnMut()) -> (usize, usize) {
    let runs = [(); 3].map(|()| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        let stays = change
            .bytes_allocated
            .saturating_sub(change.bytes_deallocated);
        (change.allocations + change.reallocations, stays)
    });
    runs.into_iter().min().unwrap_or_default()
}

/// Keeps the payload of the last ping.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<Bytes>>);

impl Sink<Frame> for Last {
    type Error = std::convert::Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        if let Frame::Ping(payload) = frame {
            *self.0.lock().expect("nobody panics") = payload;
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

// contract: G44 G50
#[test]
fn two_allocations_for_64_pings_and_none_for_idle_polls_and_strays() {
    let (time, last) = (VirtualTime::on_grid(), Last::default());
    let config = Config::builder().interval(Duration::from_secs(20)).build();
    let (pongs, pinger) = pinger(last.clone(), config.expect("valid"));
    let mut pinger = pin!(pinger.with_timer(time.clone()));
    // A clone of the standard library's `Waker::noop()` does not always say that it wakes the same task.
    let mut cx = Context::from_waker(noop_waker_ref());
    assert!(cx.waker().will_wake(&cx.waker().clone()));
    let mut poll = || assert!(pinger.as_mut().poll(&mut cx).is_pending());

    poll();
    let mut cycle = || {
        time.advance(Duration::from_secs(19));
        poll();
        time.advance(Duration::from_secs(1));
        poll();
        // Not a clone of the payload: that allocates.
        let answer = pongs.handle_pong(&last.0.lock().unwrap()).expect("it runs");
        assert!(matches!(answer, PongKind::Matched { .. }));
        poll();
    };
    cycle();
    // The payloads are pieces of chunks of 64, and a chunk is two allocations.
    for _ in 1..64 {
        cycle();
    }
    let (allocations, stays) = count(|| (0..64 * 100).for_each(|_| cycle()));
    assert!(allocations <= 2 * 100, "{allocations}");
    assert_eq!(stays, 0, "a chunk is given back with its last payload");

    let idle = count(|| (0..1000).for_each(|_| poll()));
    assert_eq!(idle, (0, 0));

    let strays = count(|| {
        for stray in 0..1_000_000_u128 {
            let stray = pongs.handle_pong(&stray.to_be_bytes()).expect("it runs");
            assert_eq!(stray, PongKind::Unsolicited);
        }
    });
    assert_eq!(strays, (0, 0));
}
