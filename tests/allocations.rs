//! What is allocated, by a counting allocator: one test, as it counts for the whole process.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::Sink;
use futures_pinger::{Clock, Config, Frame, Instant, PongKind, Timer, pinger};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

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

/// Time that the test moves; the test polls at each step, so nobody needs to be woken.
#[derive(Clone)]
struct Steps(Clock, Arc<AtomicU64>);

impl Steps {
    fn new() -> Self {
        let (start, steps) = (Clock::system().now(), Arc::new(AtomicU64::new(0)));
        let now = Arc::clone(&steps);
        let clock = Clock::new(move || start + Duration::from_secs(now.load(Ordering::Relaxed)));
        Self(clock, steps)
    }

    fn step(&self, seconds: u64) {
        self.1.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Timer for Steps {
    fn clock(&self) -> Clock {
        self.0.clone()
    }

    fn reset(self: Pin<&mut Self>, _: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
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
fn one_allocation_for_each_ping_and_none_for_idle_polls_and_strays() {
    let (steps, last) = (Steps::new(), Last::default());
    let config = Config::builder().interval(Duration::from_secs(20)).build();
    let (pongs, pinger) = pinger(last.clone(), config.expect("valid"));
    let mut pinger = pin!(pinger.with_timer(steps.clone()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = || assert!(pinger.as_mut().poll(&mut cx).is_pending());

    poll();
    let mut cycle = || {
        steps.step(19);
        poll();
        steps.step(1);
        poll();
        // Not a clone of the payload: that allocates.
        let answer = pongs.send(&*last.0.lock().unwrap()).expect("it runs");
        assert!(matches!(answer, PongKind::Matched { .. }));
        poll();
    };
    cycle();
    let (allocations, stays) = count(|| (0..1000).for_each(|_| cycle()));
    assert_eq!(
        (allocations, stays),
        (1000, 0),
        "the payload, and it is given back"
    );

    let idle = count(|| (0..1000).for_each(|_| poll()));
    assert_eq!(idle, (0, 0));

    let strays = count(|| {
        for stray in 0..1_000_000_u128 {
            let stray = pongs.send(stray.to_be_bytes()).expect("it runs");
            assert_eq!(stray, PongKind::Unsolicited);
        }
    });
    assert_eq!(strays, (0, 0));
}
