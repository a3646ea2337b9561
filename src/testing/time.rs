//! The time of a world: what will happen when, and which timers are armed.
//!
//! The parts of a world hold its time, and not the world: the world owns its tasks, and they own the parts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::time::{self, Instant, Span};
use crate::timer::Clock;

/// Locks `mutex`. No foreign code may run under the lock, as it could ask for the lock again. The mutex is never
/// loom's, as a world has one order of events.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock has failed its test already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

type Event = Box<dyn FnOnce() + Send>;

pub(super) struct Time {
    now: Arc<Now>,
    agenda: Mutex<Agenda>,
}

/// The present time. It is apart from the agenda, as events on the agenda may hold a clock.
struct Now {
    start: Instant,
    nanos: AtomicU64,
    reads: AtomicU64,
}

impl Now {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// An instant that is a whole number of days after the origin of the time line, so that each granularity that
/// divides a day has a point of its grid there.
fn midnight() -> Instant {
    const DAY: u64 = 86_400_000_000_000;
    let now = time::Time::of(Clock::system().now());
    let passed = Span::nanos(now.as_nanos() % DAY);
    now.minus(passed)
        .instant()
        .expect("a clock can tell what it has told")
}

/// What will happen in a world, and the settings of its timers and tasks.
#[derive(Default)]
struct Agenda {
    /// By time, and for one time in the order in which they were scheduled.
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    timers: BTreeMap<u64, Armed>,
    made: u64,
    resets: usize,
    asleep: Duration,
    /// How long before its deadline a timer fires, once for each deadline.
    early: Duration,
    stalls: Vec<Range<Duration>>,
    spurious_polls: usize,
    fresh_wakers: bool,
    polls: u64,
    polling: bool,
}

#[derive(Default)]
struct Armed {
    deadline: Option<Duration>,
    waker: Option<Waker>,
    /// The deadline before which it has fired.
    was_early: Option<Duration>,
}

impl Armed {
    /// When the timer wakes a task; `None` if it wakes none.
    fn fires(&self, early: Duration) -> Option<Duration> {
        self.waker.as_ref()?;
        Some(self.ready_at(self.deadline?, early))
    }

    fn ready_at(&self, deadline: Duration, early: Duration) -> Duration {
        if self.was_early == Some(deadline) {
            return deadline;
        }
        deadline.saturating_sub(early)
    }
}

impl Agenda {
    fn timer(&mut self, id: u64) -> &mut Armed {
        let armed = self.timers.get_mut(&id);
        armed.expect("a timer is on the agenda until it is dropped")
    }
}

impl Time {
    pub(super) fn new() -> Self {
        // All worlds of a process start at one point of the grid, so that each run of a script rounds its
        // wake-ups alike.
        static START: OnceLock<Instant> = OnceLock::new();
        Self {
            now: Arc::new(Now {
                start: *START.get_or_init(midnight),
                nanos: AtomicU64::new(0),
                reads: AtomicU64::new(0),
            }),
            agenda: Mutex::default(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.elapsed()
    }

    /// Moves the time to `to`, and never back.
    fn advance(&self, to: Duration) {
        let nanos = u64::try_from(to.as_nanos()).expect("virtual time ends after 584 years");
        self.now.nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(super) fn instant(&self, elapsed: Duration) -> Instant {
        self.now.start + elapsed
    }

    pub(super) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Clock::new(move || {
            now.reads.fetch_add(1, Ordering::Relaxed);
            now.start + now.elapsed()
        })
    }

    pub(super) fn clock_reads(&self) -> u64 {
        self.now.reads.load(Ordering::Relaxed)
    }

    pub(super) fn at(&self, time: Duration, event: impl FnOnce() + Send + 'static) {
        let mut agenda = lock(&self.agenda);
        agenda.scheduled += 1;
        let key = (time, agenda.scheduled);
        agenda.events.insert(key, Box::new(event));
    }

    /// Moves the time to the next thing that happens, no further than `limit`; returns false if nothing does.
    pub(super) fn step(&self, limit: Duration) -> bool {
        let next = self.next().filter(|next| *next <= limit);
        self.advance(next.unwrap_or(limit));
        if next.is_none() {
            return false;
        }
        while let Some(event) = self.due() {
            event();
        }
        for waker in self.fire() {
            waker.wake();
        }
        true
    }

    /// Whether nothing will happen any more.
    pub(super) fn is_idle(&self) -> bool {
        self.next().is_none()
    }

    /// When the next thing happens, if anything does.
    fn next(&self) -> Option<Duration> {
        let agenda = lock(&self.agenda);
        let event = agenda.events.keys().next().map(|(time, _)| *time);
        let timers = agenda.timers.values();
        let timer = timers.filter_map(|timer| timer.fires(agenda.early)).min();
        event.into_iter().chain(timer).min()
    }

    fn due(&self) -> Option<Event> {
        let mut agenda = lock(&self.agenda);
        let first = agenda.events.first_entry()?;
        (first.key().0 <= self.elapsed()).then(|| first.remove())
    }

    /// Takes the wakers of the timers that are due. The timers stay due, so that the next poll sees it.
    fn fire(&self) -> Vec<Waker> {
        let mut agenda = lock(&self.agenda);
        let (early, now) = (agenda.early, self.elapsed());
        let timers = agenda.timers.values_mut();
        let due = timers.filter(|timer| timer.fires(early).is_some_and(|at| at <= now));
        due.filter_map(|timer| timer.waker.take()).collect()
    }

    pub(super) fn add_timer(&self) -> u64 {
        let mut agenda = lock(&self.agenda);
        agenda.made += 1;
        let id = agenda.made;
        agenda.timers.insert(id, Armed::default());
        id
    }

    pub(super) fn remove_timer(&self, id: u64) {
        let armed = lock(&self.agenda).timers.remove(&id);
        drop(armed);
    }

    pub(super) fn timers(&self) -> usize {
        lock(&self.agenda).timers.len()
    }

    pub(super) fn resets(&self) -> usize {
        lock(&self.agenda).resets
    }

    pub(super) fn suspend(&self, sleep: Duration) {
        let asleep = &mut lock(&self.agenda).asleep;
        *asleep = asleep.saturating_add(sleep);
    }

    pub(super) fn asleep(&self) -> Duration {
        lock(&self.agenda).asleep
    }

    pub(super) fn early_timers(&self, early: Duration) {
        lock(&self.agenda).early = early;
    }

    pub(super) fn reset(&self, id: u64, deadline: Instant) {
        let mut agenda = lock(&self.agenda);
        agenda.resets += 1;
        let deadline = deadline.saturating_duration_since(self.now.start);
        agenda.timer(id).deadline = Some(deadline);
    }

    pub(super) fn poll_elapsed(&self, id: u64, cx: &Context<'_>) -> Poll<()> {
        let mut agenda = lock(&self.agenda);
        let early = agenda.early;
        let armed = agenda.timer(id);
        let deadline = armed.deadline.expect(
            "a timer was polled though it is not armed: reset it first, and again after it was ready",
        );
        let ready = armed.ready_at(deadline, early) <= self.elapsed();
        let waker = (!ready).then(|| cx.waker().clone());
        if ready {
            armed.was_early = Some(deadline);
            armed.deadline = None;
        }
        let old = std::mem::replace(&mut armed.waker, waker);
        drop(agenda);
        drop(old);
        if ready {
            return Poll::Ready(());
        }
        // Pending: `step` wakes the task.
        Poll::Pending
    }

    pub(super) fn stall(&self, stall: Range<Duration>) {
        // An event at the end of the stall makes the time stop there.
        self.at(stall.end, || {});
        let now = self.elapsed();
        let stalls = &mut lock(&self.agenda).stalls;
        stalls.retain(|stall| stall.end > now);
        stalls.push(stall);
    }

    pub(super) fn is_stalled(&self) -> bool {
        let now = self.elapsed();
        let agenda = lock(&self.agenda);
        agenda.stalls.iter().any(|stall| stall.contains(&now))
    }

    pub(super) fn set_spurious_polls(&self, polls: usize) {
        lock(&self.agenda).spurious_polls = polls;
    }

    pub(super) fn spurious_polls(&self) -> usize {
        lock(&self.agenda).spurious_polls
    }

    pub(super) fn set_fresh_wakers(&self, fresh: bool) {
        lock(&self.agenda).fresh_wakers = fresh;
    }

    pub(super) fn has_fresh_wakers(&self) -> bool {
        lock(&self.agenda).fresh_wakers
    }

    /// Begins a poll, which goes on until the returned value is dropped.
    pub(super) fn begin_poll(&self) -> Polling<'_> {
        let mut agenda = lock(&self.agenda);
        agenda.polls += 1;
        agenda.polling = true;
        Polling(self)
    }

    /// The number of the poll that goes on; `None` if no task of the world is polled now.
    pub(super) fn current_poll(&self) -> Option<u64> {
        let agenda = lock(&self.agenda);
        agenda.polling.then_some(agenda.polls)
    }
}

/// Ends the poll when it is dropped, even by a panic.
pub(super) struct Polling<'a>(&'a Time);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        lock(&self.0.agenda).polling = false;
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Time")
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
