//! A single thread whose time moves only when all tasks wait.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::task::{Foreground, Routine, Task};
use super::time::{Time, lock};
use super::timer::{ManualTimer, Sleep};
use crate::time::Instant;
use crate::timer::Clock;

/// This many polls at one instant are a busy loop.
const BUSY: usize = 100_000;

type Spawned = Routine<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Virtual time, and the tasks and events in it. A clone is a handle on the same world.
///
/// The time of a world starts at zero, and moves only while the world runs and every task waits: from one
/// event or armed timer to the next, so that hours take milliseconds and every run is the same. Times are
/// given as [`Duration`]s after the start.
///
/// Tasks are polled on the thread that runs the world, and **only when they were woken**: a task that
/// lost a wake-up hangs, as it would on any executor.
///
/// A world knows of nothing but its own time. It does not wait for a future that waits for another thread, or
/// for a timer that is not the world's, such as the default timer of a heartbeat.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::testing::World;
///
/// let world = World::new();
/// let answer = world.run_within(Duration::from_secs(3600), async {
///     world.sleep(Duration::from_secs(1800)).await;
///     42
/// });
/// assert_eq!((answer, world.elapsed()), (42, Duration::from_secs(1800)));
/// ```
#[derive(Clone)]
pub struct World {
    time: Arc<Time>,
    spawned: Arc<Mutex<Vec<Spawned>>>,
}

impl World {
    /// Makes a world, whose time is its own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            time: Arc::new(Time::new()),
            spawned: Arc::default(),
        }
    }

    pub(super) fn time(&self) -> &Arc<Time> {
        &self.time
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    /// The instant that the [`clock`](Self::clock) shows at the time `elapsed` after the start.
    #[must_use]
    pub fn instant(&self, elapsed: Duration) -> Instant {
        self.time.instant(elapsed)
    }

    /// A clock of this world, for [`Heartbeat`](crate::Heartbeat) and
    /// [`from_fn`](crate::from_fn()).
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.time.clock()
    }

    /// How often the clocks of this world were read.
    #[must_use]
    pub fn clock_reads(&self) -> u64 {
        self.time.clock_reads()
    }

    /// A timer of this world, for the `with_timer` of a heartbeat.
    #[must_use]
    pub fn timer(&self) -> ManualTimer {
        ManualTimer::new(&self.time)
    }

    /// How many timers are alive: one for each heartbeat and each [`sleep`](Self::sleep) that was not dropped.
    /// 0 when everything has ended.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.time.timers()
    }

    /// How often timers were armed.
    #[must_use]
    pub fn resets(&self) -> usize {
        self.time.resets()
    }

    /// Makes timers fire too early by `early` from now on, once for each deadline, as a
    /// [`Timer`](crate::Timer) may.
    pub fn early_timers(&self, early: Duration) {
        self.time.early_timers(early);
    }

    /// Waits for `duration`, for the pauses of the code under test, such as those between two attempts to
    /// connect.
    ///
    /// # Panics
    ///
    /// If the deadline is beyond what an [`Instant`] can tell.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let deadline = self.instant(self.elapsed() + duration);
        Sleep::new(self.timer(), deadline)
    }

    /// Schedules an event at the time `time` after the start, behind the events that were scheduled for that
    /// time before. An event in the past happens next.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use futures_pinger::testing::World;
    ///
    /// let (world, (sender, events)) = (World::new(), mpsc::channel());
    /// world.at(Duration::from_secs(2), move || sender.send("two seconds").unwrap());
    /// world.run_until(Duration::from_secs(1));
    /// assert!(events.try_recv().is_err());
    /// world.run_until(Duration::from_secs(2));
    /// assert_eq!(events.try_recv(), Ok("two seconds"));
    /// ```
    pub fn at(&self, time: Duration, event: impl FnOnce() + Send + 'static) {
        self.time.at(time, event);
    }

    /// Stops the process in that time, as SIGSTOP does or a machine that sleeps: no task is polled, while the
    /// clock, the peer and the network go on.
    ///
    /// # Panics
    ///
    /// If the range ends before it begins.
    #[track_caller]
    pub fn stall(&self, stall: Range<Duration>) {
        assert!(stall.start <= stall.end, "a stall ends after it begins");
        self.time.stall(stall);
    }

    /// Polls each task `polls` times for no reason whenever something happens: executors may do so, and it
    /// must change nothing. 0 unless set.
    pub fn spurious_polls(&self, polls: usize) {
        self.time.set_spurious_polls(polls);
    }

    /// Puts the machine in suspend for `sleep`, just now: its clock stood still, and with it the timers and
    /// the network of this world. [`Timer::asleep`](crate::Timer::asleep) grows by that time, and no task is
    /// woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::Timer;
    /// use futures_pinger::testing::World;
    ///
    /// let (world, night) = (World::new(), Duration::from_secs(8 * 3600));
    /// world.suspend(night);
    /// assert_eq!(world.timer().asleep(), night);
    /// assert_eq!(world.elapsed(), Duration::ZERO);
    /// ```
    pub fn suspend(&self, sleep: Duration) {
        self.time.suspend(sleep);
    }

    /// Gives each poll a waker of its own, and makes earlier wakers wake nothing: a future must keep the
    /// waker of its latest poll. False unless set.
    pub fn fresh_wakers(&self, fresh: bool) {
        self.time.set_fresh_wakers(fresh);
    }

    /// A future to run step by step, and to look at in between.
    pub fn task<F: Future>(&self, future: F) -> Task<F> {
        Task::new(self.clone(), future)
    }

    /// A task in the background: it runs whenever this world runs anything.
    ///
    /// The future itself must pass on its result. It is dropped with the last handle of the world, so it
    /// should hold no such handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::{SinkExt, StreamExt, channel::mpsc};
    /// use futures_pinger::testing::World;
    ///
    /// let world = World::new();
    /// let (mut sender, mut receiver) = mpsc::channel(0);
    /// let sleep = world.sleep(Duration::from_secs(3));
    /// world.spawn(async move {
    ///     sleep.await;
    ///     sender.send("later").await.unwrap();
    /// });
    /// let received = world.run_within(Duration::from_secs(10), receiver.next());
    /// assert_eq!((received, world.elapsed()), (Some("later"), Duration::from_secs(3)));
    /// ```
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        lock(&self.spawned).push(Routine::new(Box::pin(future)));
    }

    /// Runs `future` to its end, which must come no later than `limit` from now.
    ///
    /// # Panics
    ///
    /// If the future has not ended by then; the message tells a future that still works from one that hangs.
    /// Also for the reasons of [`run_until`](Self::run_until).
    ///
    /// # Examples
    ///
    /// A lost wake-up fails the test:
    ///
    /// ```should_panic
    /// use std::time::Duration;
    /// use futures_pinger::testing::World;
    ///
    /// // "not ended after 40s: nothing is left in this world that could wake it (polls: 1, ..."
    /// World::new().run_within(Duration::from_secs(40), std::future::pending::<()>());
    /// ```
    #[track_caller]
    pub fn run_within<F: Future>(&self, limit: Duration, future: F) -> F::Output {
        let mut task = self.task(future);
        task.run_to_end(self.elapsed() + limit);
        let (polls, last) = (task.polls(), task.polled_at().unwrap_or_default());
        // Not in a closure: the panic is the caller's.
        let Some(output) = task.into_output() else {
            let why = if self.time.is_idle() {
                "nothing is left in this world that could wake it"
            } else {
                "it waits while other things go on"
            };
            panic!("not ended after {limit:?}: {why} (polls: {polls}, the last at {last:?})")
        };
        output
    }

    /// Runs what was [spawned](Self::spawn) until that time after the start.
    ///
    /// # Panics
    ///
    /// If a task wakes itself 100 000 times at one instant, which is a busy loop, and if this is called
    /// in a task of this world. Panics of tasks and events pass through.
    #[track_caller]
    pub fn run_until(&self, time: Duration) {
        self.drive(time, &mut (), |()| false);
    }

    /// Moves the time to the next thing that happens, no further than `limit`, and polls no task: for tests
    /// that poll by hand. Returns whether anything happens until then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::testing::World;
    ///
    /// let world = World::new();
    /// world.at(Duration::from_secs(2), || {});
    /// assert!(world.step(Duration::from_secs(60)));
    /// assert_eq!(world.elapsed(), Duration::from_secs(2));
    /// assert!(!world.step(Duration::from_secs(60)));
    /// assert_eq!(world.elapsed(), Duration::from_secs(60));
    /// ```
    // A caller that only wants time to pass need not use the result.
    #[allow(clippy::must_use_candidate)]
    pub fn step(&self, limit: Duration) -> bool {
        self.time.step(limit)
    }

    /// Polls the tasks that are woken until `time`, or until `enough` is true.
    #[track_caller]
    pub(super) fn drive<F: Foreground>(
        &self,
        time: Duration,
        foreground: &mut F,
        enough: impl Fn(&F) -> bool,
    ) {
        assert!(
            self.time.current_poll().is_none(),
            "a world cannot be run by its own tasks"
        );
        loop {
            self.poll_while_woken(foreground);
            if enough(foreground) || !self.time.step(time) {
                break;
            }
        }
        if !enough(foreground) {
            self.poll_while_woken(foreground);
        }
    }

    #[track_caller]
    fn poll_while_woken(&self, foreground: &mut impl Foreground) {
        let mut polls = 0;
        loop {
            // A stall can begin with a poll.
            if self.time.is_stalled() {
                return;
            }
            // Both are polled in each round.
            if !(foreground.poll_if_woken() | self.poll_spawned(Routine::take_wake)) {
                break;
            }
            polls += 1;
            assert!(polls < BUSY, "a busy loop at {:?}", self.elapsed());
        }
        for _ in 0..self.time.spurious_polls() {
            foreground.poll_spuriously();
            self.poll_spawned(|_| true);
        }
    }

    /// Polls the spawned tasks for which `polled` is true. Returns whether there is one.
    fn poll_spawned(&self, polled: impl Fn(&Spawned) -> bool) -> bool {
        // The tasks are polled without the lock, as a task may spawn another.
        let mut tasks = std::mem::take(&mut *lock(&self.spawned));
        let mut any = false;
        for task in &mut tasks {
            if polled(task) {
                any = true;
                let _ = task.poll(&self.time);
            }
        }
        tasks.retain(|task| !task.is_finished());
        let mut spawned = lock(&self.spawned);
        // New tasks go behind those that were there before.
        tasks.append(&mut spawned);
        *spawned = tasks;
        any
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("elapsed", &self.elapsed())
            .field("timers", &self.timers())
            .finish_non_exhaustive()
    }
}
