//! The executor, the time and the parts of the tests that are about threads: of `tests/loom.rs`, and of
//! `tests/threads`, where the name `loom` is given to shuttle.
#![allow(dead_code, reason = "each of the two uses its own part of this")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::Sink;
use futures_pinger::{Clock, Frame, Instant, Timer};
use loom::sync::{Condvar, Mutex, MutexGuard};

// --- the executor ---

/// A task that counts its wakes, and is polled once more only after one: unlike the tasks of loom's own
/// `block_on`, which are also polled for no reason.
pub(crate) struct Task {
    pub(crate) wakes: Mutex<Wakes>,
    pub(crate) woken: Condvar,
}

#[derive(Default)]
pub(crate) struct Wakes {
    /// Whether the task was woken since it was polled last.
    pub(crate) pending: bool,
    pub(crate) total: usize,
}

impl Task {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            wakes: Mutex::default(),
            woken: Condvar::new(),
        })
    }

    /// Polls until `poll` is ready.
    pub(crate) fn run<R>(self: &Arc<Self>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
        loop {
            if let Poll::Ready(result) = self.poll(&mut poll) {
                return result;
            }
            let mut wakes = self.wakes.lock().expect("no panic");
            while !wakes.pending {
                wakes = self.woken.wait(wakes).expect("no panic");
            }
            wakes.pending = false;
        }
    }

    /// Polls once, woken or not.
    pub(crate) fn poll<R>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let waker = Waker::from(Arc::clone(self));
        // Else each poll would be one by another task.
        assert!(waker.will_wake(&waker.clone()));
        poll(&mut Context::from_waker(&waker))
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.lock().expect("no panic").total
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        {
            let mut wakes = self.wakes.lock().expect("no panic");
            wakes.pending = true;
            wakes.total += 1;
        }
        self.woken.notify_one();
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    Task::new().run(|cx| future.as_mut().poll(cx))
}

// --- the time ---

/// The hand of a clock, which any thread moves. The time stands still but for that.
#[derive(Clone)]
pub(crate) struct Hand(loom::sync::Arc<Mutex<Time>>);

pub(crate) struct Time {
    pub(crate) now: Instant,
    pub(crate) deadline: Option<Instant>,
    /// How often the time came to a deadline before there was one.
    pub(crate) early: u32,
    pub(crate) waker: Option<Waker>,
}

impl Hand {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Arc::new(Mutex::new(Time {
            now: start(),
            deadline: None,
            early: 0,
            waker: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Time> {
        self.0.lock().expect("no panic")
    }

    /// The time comes to the deadline that the timer is armed for: the timer fires. While the timer is
    /// not armed, or has fired, the time comes to the next deadline as soon as that is set.
    pub(crate) fn fire(&self) {
        self.wake(|time| match time.deadline {
            Some(deadline) if time.now < deadline => time.now = deadline,
            _ => time.early += 1,
        });
    }

    /// The timer wakes although its time has not come, and forgets whom to wake.
    pub(crate) fn wake_early(&self) {
        self.wake(|_| {});
    }

    pub(crate) fn wake(&self, change: impl FnOnce(&mut Time)) {
        let waker = {
            let mut time = self.lock();
            change(&mut time);
            time.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The timer of a heartbeat.
    pub(crate) fn timer(&self) -> Hands {
        Hands(self.clone())
    }

    /// What the timer is armed for, from the start on.
    pub(crate) fn armed_for(&self) -> Option<Duration> {
        let deadline = self.lock().deadline;
        deadline.map(|deadline| deadline - start())
    }
}

/// The timer on a clock whose hand any thread moves. One that is dropped forgets whom to wake.
pub(crate) struct Hands(Hand);

impl Drop for Hands {
    fn drop(&mut self) {
        let waker = self.0.lock().waker.take();
        drop(waker);
    }
}

impl Timer for Hands {
    fn clock(&self) -> Clock {
        let hand = self.0.clone();
        Clock::new(move || hand.lock().now)
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let mut time = self.0.lock();
        time.deadline = Some(deadline);
        if time.early > 0 && time.now < deadline {
            time.early -= 1;
            time.now = deadline;
        }
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.0.lock();
        if time.deadline.is_some_and(|deadline| deadline <= time.now) {
            return Poll::Ready(());
        }
        let old = time.waker.replace(cx.waker().clone());
        drop(time);
        drop(old);
        Poll::Pending
    }
}

/// Time stands still: nothing but a thread wakes the heartbeat.
pub(crate) struct Still;

impl Timer for Still {
    fn clock(&self) -> Clock {
        Clock::new(start)
    }

    fn reset(self: Pin<&mut Self>, _deadline: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// When every run of every model begins.
pub(crate) fn start() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(|| Clock::system().now());
    *START
}

// --- the parts ---

/// A count that all threads see.
#[derive(Clone)]
pub(crate) struct Count(loom::sync::Arc<loom::sync::atomic::AtomicUsize>);

impl Count {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Arc::new(loom::sync::atomic::AtomicUsize::new(
            0,
        )))
    }

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, loom::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(loom::sync::atomic::Ordering::SeqCst)
    }
}

/// A sink that hands each ping to a function.
pub(crate) struct Peer<F>(pub(crate) F);

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
