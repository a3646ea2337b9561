//! Futures that are polled only when they were woken.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::time::Time;
use super::world::World;

/// A waker that counts.
#[derive(Debug, Default)]
struct Woken {
    flag: AtomicBool,
    count: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A future until it ends, and its waker. It holds no world, as the world may hold it.
pub(super) struct Routine<F> {
    future: Option<F>,
    woken: Arc<Woken>,
    /// How often wakers that were replaced were woken.
    wakes_before: usize,
    polls: usize,
    polled_at: Option<Duration>,
}

impl<F: Future + Unpin> Routine<F> {
    pub(super) fn new(future: F) -> Self {
        let woken = Woken::default();
        woken.flag.store(true, Ordering::Relaxed);
        Self {
            future: Some(future),
            woken: Arc::new(woken),
            wakes_before: 0,
            polls: 0,
            polled_at: None,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.future.is_none()
    }

    /// Whether the future was woken since the last call.
    pub(super) fn take_wake(&self) -> bool {
        self.woken.flag.swap(false, Ordering::Relaxed)
    }

    /// Polls the future once, woken or not. Does nothing after its end.
    pub(super) fn poll(&mut self, time: &Time) -> Poll<F::Output> {
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        if time.has_fresh_wakers() {
            // From now on the old waker wakes nothing.
            self.wakes_before += self.woken.count.load(Ordering::Relaxed);
            self.woken = Arc::default();
        }
        self.polls += 1;
        self.polled_at = Some(time.elapsed());
        let waker = Waker::from(Arc::clone(&self.woken));
        let polling = time.begin_poll();
        let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
        drop(polling);
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }

    fn wakes(&self) -> usize {
        self.wakes_before + self.woken.count.load(Ordering::Relaxed)
    }
}

/// A future in a [`World`], made by [`World::task`]. It is polled only when it was woken, so that a future that
/// lost its wake-up hangs.
///
/// Dropping the task drops the future, wherever it is: so a test can check that nothing is left behind.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::testing::World;
///
/// let world = World::new();
/// let mut task = world.task(world.sleep(Duration::from_secs(5)));
/// task.run_until(Duration::from_secs(4));
/// assert!(!task.is_finished());
/// task.run_until(Duration::from_secs(60));
/// assert_eq!(task.ended_at(), Some(Duration::from_secs(5)));
/// // One poll to begin with, and one for the timer.
/// assert_eq!((task.polls(), task.wakes()), (2, 1));
/// ```
#[must_use = "tasks do nothing unless they are run"]
pub struct Task<F: Future> {
    world: World,
    routine: Routine<Pin<Box<F>>>,
    output: Option<(Duration, F::Output)>,
}

impl<F: Future> Task<F> {
    pub(super) fn new(world: World, future: F) -> Self {
        Self {
            world,
            routine: Routine::new(Box::pin(future)),
            output: None,
        }
    }

    /// Polls the future and the tasks of [`World::spawn`] whenever they are woken, until `time` after the
    /// start of the world. If the future ends before, the other tasks go on until then.
    ///
    /// # Panics
    ///
    /// For the reasons of [`World::run_until`].
    #[track_caller]
    pub fn run_until(&mut self, time: Duration) {
        let world = self.world.clone();
        world.drive(time, self, |_| false);
    }

    /// Runs the world until the future ends, no longer than until `time`.
    #[track_caller]
    pub(super) fn run_to_end(&mut self, time: Duration) {
        let world = self.world.clone();
        world.drive(time, self, |task| task.output.is_some());
    }

    /// Polls the future once, woken or not. Does nothing after its end.
    pub fn poll(&mut self) {
        if let Poll::Ready(output) = self.routine.poll(self.world.time()) {
            self.output = Some((self.world.elapsed(), output));
        }
    }

    /// The future, until it has ended.
    #[must_use]
    pub fn future(&self) -> Option<&F> {
        self.routine.future.as_deref()
    }

    /// Whether the future has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.output.is_some()
    }

    /// When the future ended, as the time after the start of the world.
    #[must_use]
    pub fn ended_at(&self) -> Option<Duration> {
        self.output.as_ref().map(|(at, _)| *at)
    }

    /// The output of the future, once it has ended.
    #[must_use]
    pub fn output(&self) -> Option<&F::Output> {
        self.output.as_ref().map(|(_, output)| output)
    }

    pub(super) fn into_output(self) -> Option<F::Output> {
        self.output.map(|(_, output)| output)
    }

    /// How often the task was woken. Its first poll needs no wake-up.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.routine.wakes()
    }

    /// How often the task was polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.routine.polls
    }

    /// When the task was polled last.
    #[must_use]
    pub fn polled_at(&self) -> Option<Duration> {
        self.routine.polled_at
    }
}

/// The task that a world polls besides its spawned tasks.
pub(super) trait Foreground {
    /// Polls the task if it was woken, and returns whether it was.
    fn poll_if_woken(&mut self) -> bool;

    /// Polls the task for no reason.
    fn poll_spuriously(&mut self);
}

impl<F: Future> Foreground for Task<F> {
    fn poll_if_woken(&mut self) -> bool {
        let woken = self.routine.take_wake();
        if woken {
            self.poll();
        }
        woken
    }

    fn poll_spuriously(&mut self) {
        self.poll();
    }
}

/// A world that polls its spawned tasks alone.
impl Foreground for () {
    fn poll_if_woken(&mut self) -> bool {
        false
    }

    fn poll_spuriously(&mut self) {}
}

impl<F: Future> fmt::Debug for Task<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("polls", &self.polls())
            .field("polled_at", &self.polled_at())
            .field("ended_at", &self.ended_at())
            .finish_non_exhaustive()
    }
}
