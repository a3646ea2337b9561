//! The driver of a set: it looks at the members, when the set is polled.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures_sink::Sink;

use super::chunk::{CHUNK, Chunk, bit, place};
use super::departure::{Departure, End};
use super::due_queue::DueQueue;
use super::hub::{Arrival, Hub, News};
use super::judgements::{Judgements, MassVerdicts};
use super::look::Look;
use super::sweep::{self, Sweep};
use crate::drive::{Driven, LastAnswer, drive};
use crate::error::Error;
use crate::frame::Frame;
use crate::grid::Grid;
use crate::machine::{Destination, Verdict};
use crate::shared::Resolved;
use crate::sync::{Mutex, lock};
use crate::time::{Span, Time};
use crate::trace;

/// How many members are looked at in one poll. Then other tasks have their turn.
const BUDGET: u32 = 1024;

/// How many members are looked at in one poll before the `Pending` of a sink is taken for a yield. tokio lets a
/// task do four times as many operations.
const TRUSTED: u32 = 32;

/// How many members ping in one step of the grid after the computer has been in suspend.
const AWAKENED: u64 = 1024;

/// The capacity that a list of news keeps when it is empty.
const KEPT: usize = 64;

pub(super) struct Driver<Si, K> {
    pub(super) due_queue: DueQueue,
    /// The news that were taken from the hub, and are not dealt with yet.
    news: News,
    /// Members that have arrived, and have not begun.
    arrivals: Vec<Arrival<Si, K>>,
    /// By the number of the chunk.
    lanes: Vec<Lane<Si, K>>,
    /// Whether the news came first when a task was chosen last.
    prefers_news: bool,
    /// Whether all news up to this poll were taken from the hub.
    has_all_news: bool,
    /// A member whose sink has yielded in the last poll, and is asked before all others.
    yielded: Option<(u32, LastAnswer)>,
    /// The chunk whose sinks were woken, and a bit for each of its seats that was not looked at since.
    woken: Option<(u32, u64)>,
    /// How long the computer had been in suspend at the latest poll.
    asleep: Span,
    /// The step of the grid.
    step: Span,
    /// Which members must still ping because the computer has been in suspend.
    awakened: Option<Awakened>,
    sweep: Sweep,
    judgements: Judgements,
    /// The tasks of probes that a look has resolved, until they are woken.
    resolved: Option<Resolved>,
    /// What the drop of a sink has panicked with. The next poll resumes the panic, after the departure that the
    /// sink belongs to was yielded. There is no contention for the lock: it makes the driver `Sync`.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Members that must ping because the computer has been in suspend.
struct Awakened {
    /// How long the suspend was.
    asleep: Span,
    /// The next seat whose member must ping.
    seat: u32,
    /// When the first of the members must ping.
    from: Time,
}

/// What the driver alone has of a chunk: the sinks and the keys of its seats. Each word has a bit for each seat.
struct Lane<Si, K> {
    chunk: Arc<Chunk>,
    waker: Waker,
    sinks: Box<[Option<(Si, K)>; CHUNK as usize]>,
    /// Whether a frame of ours is in the sink and not flushed.
    in_sink: u64,
    /// Whether the sink will wake us.
    blocked: u64,
    /// Whether the sink has yielded so often in a row that its wakes do not count any more.
    restless: u64,
}

/// How a poll of the driver has ended.
pub(super) enum Progress<K, E> {
    Departed(Departure<K, E>),
    /// There is more to do: the budget is spent, a sink has yielded, or news are left.
    Busy,
    /// There is nothing to do until the timer fires or news come.
    Resting,
}

/// Why a poll ends with a member.
enum Stop<K, E> {
    Departed(Departure<K, E>),
    /// The sink of the member has yielded.
    Yielded,
}

/// What the driver does next.
enum Task<Si, K> {
    Start(Arrival<Si, K>),
    Remove(u32),
    Look(u32),
}

impl<Si, K> Driver<Si, K> {
    pub(super) fn new(grid: Grid, now: Time, asleep: Span, mass_verdicts: MassVerdicts) -> Self {
        Self {
            due_queue: DueQueue::new(grid, now),
            news: News::default(),
            arrivals: Vec::new(),
            lanes: Vec::new(),
            prefers_news: false,
            has_all_news: false,
            yielded: None,
            woken: None,
            asleep,
            step: grid.step,
            awakened: None,
            sweep: Sweep::default(),
            judgements: Judgements::new(mass_verdicts, now),
            resolved: None,
            panic: Mutex::new(None),
        }
    }

    /// The computer has been in suspend for `asleep` so far. Returns whether it has slept for longer than the
    /// shortest interval since the latest poll: then members whose interval is shorter must ping soon.
    pub(super) fn note_sleep(
        &mut self,
        asleep: Span,
        hub: &Hub,
        now: impl FnOnce() -> Time,
    ) -> bool {
        let grown = asleep.saturating_sub(self.asleep);
        self.asleep = asleep.max(self.asleep);
        let slept = grown > Span::ZERO && grown > hub.shortest_interval();
        if slept {
            self.awakened = Some(Awakened {
                asleep: grown,
                seat: 0,
                from: now(),
            });
        }
        slept
    }

    /// The next member that must ping because the computer has slept. [`AWAKENED`] members ping in each step of
    /// the grid.
    fn next_awakened(&mut self) -> Option<u32> {
        let Awakened { asleep, seat, from } = self.awakened.take()?;
        let lane = self.lanes.get((seat / CHUNK) as usize)?;
        let steps = u64::from(seat) / AWAKENED;
        let wait = Span::nanos(self.step.as_nanos().saturating_mul(steps));
        lane.chunk.ping_after_sleep(seat, asleep, from.plus(wait));
        self.awakened = Some(Awakened {
            asleep,
            seat: seat + 1,
            from,
        });
        Some(seat)
    }

    fn lane(&mut self, seat: u32) -> &mut Lane<Si, K> {
        &mut self.lanes[(seat / CHUNK) as usize]
    }

    /// Takes the news from the hub, once all news that came before are dealt with. So a member that has left is
    /// found among those that have begun.
    pub(super) fn take_news(&mut self, hub: &Hub, arrivals: &Mutex<Vec<Arrival<Si, K>>>) {
        self.news.arrived = false;
        self.has_all_news = self.arrivals.is_empty() && self.news.is_empty();
        // After a million arrivals at once the lists give their memory back.
        self.arrivals.shrink_to(KEPT);
        let News {
            left, due, woken, ..
        } = &mut self.news;
        for seats in [left, due, woken] {
            seats.shrink_to(KEPT);
        }
        if self.has_all_news {
            // The news and the arrivals are taken under one lock, so that the news have the configuration of
            // each arrival.
            let arrive = || mem::swap(&mut self.arrivals, &mut *lock(arrivals));
            let chunks = hub.take_news(&mut self.news, arrive);
            if mem::take(&mut self.news.configured) {
                self.sweep.begin(chunks);
            }
        }
    }

    /// Puts new configurations in force for as many chunks as one poll may sweep.
    fn sweep(&mut self, hub: &Hub, now: Time) {
        for _ in 0..sweep::CHUNKS {
            match self.sweep.next() {
                Some(number) => self.configure(hub, number, now),
                None => return,
            }
        }
    }

    fn configure(&mut self, hub: &Hub, number: usize, now: Time) {
        let (chunk, terms) = hub.chunk_to_sweep(number);
        let Self {
            sweep, due_queue, ..
        } = self;
        chunk.configure(
            terms,
            now,
            || sweep.draw(),
            |seat, look| due_queue.arm(seat, look),
        );
    }

    /// Counts mass verdicts, and tells the subscriber. A subscriber is foreign code, which may panic, so this is
    /// called where no departure can be lost.
    fn tell_mass_verdicts(&mut self, hub: &Hub) {
        if let Some(judged) = self.judgements.take_untold() {
            hub.count_mass_verdicts();
            trace::tell_mass_verdicts(judged.condemned, judged.all);
        }
    }

    /// Takes tasks from the news and from the queue in turns, so that neither keeps the other waiting.
    fn next_task(&mut self, now: Time) -> Option<Task<Si, K>> {
        self.prefers_news = !self.prefers_news;
        if self.prefers_news {
            self.next_news().or_else(|| self.next_look(now))
        } else {
            self.next_look(now).or_else(|| self.next_news())
        }
    }

    fn next_look(&mut self, now: Time) -> Option<Task<Si, K>> {
        let seat = self.due_queue.expire(now);
        seat.or_else(|| self.next_awakened()).map(Task::Look)
    }

    fn next_news(&mut self) -> Option<Task<Si, K>> {
        if let Some(arrival) = self.arrivals.pop() {
            return Some(Task::Start(arrival));
        }
        if let Some(seat) = self.news.left.pop() {
            return Some(Task::Remove(seat));
        }
        if let Some(seat) = self.news.due.pop() {
            return Some(Task::Look(seat));
        }
        self.next_woken().map(Task::Look)
    }

    /// A member whose sink may be ready again.
    fn next_woken(&mut self) -> Option<u32> {
        loop {
            let (number, seats) = match self.woken.take() {
                Some(woken) => woken,
                None => {
                    let number = self.news.woken.pop()?;
                    let lane = &mut self.lanes[number as usize];
                    lane.chunk.rearm_waker();
                    (number, lane.blocked)
                }
            };
            if seats != 0 {
                self.woken = Some((number, seats & (seats - 1)));
                return Some(number * CHUNK + seats.trailing_zeros());
            }
        }
    }
}

impl<Si: Sink<Frame> + Unpin, K> Driver<Si, K> {
    pub(super) fn drive(&mut self, hub: &Hub, now: Time) -> Progress<K, Si::Error> {
        let panic = lock(&self.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        self.judgements.advance(now);
        self.tell_mass_verdicts(hub);
        if self.yielded.is_some() {
            if let Some(progress) = self.ask_first(now) {
                return progress;
            }
        }
        self.sweep(hub, now);
        for asked in 0..BUDGET {
            let seat = match self.next_task(now) {
                None if self.has_all_news && self.sweep.is_over() => {
                    self.tell_mass_verdicts(hub);
                    if lock(&self.panic).is_some() {
                        return Progress::Busy;
                    }
                    return Progress::Resting;
                }
                // There are news that were not taken, and will not wake us again; or more is to be swept.
                None => return Progress::Busy,
                Some(Task::Start(arrival)) => {
                    let seat = arrival.seat;
                    if !self.start(hub, arrival, now) {
                        continue;
                    }
                    seat
                }
                Some(Task::Remove(seat)) => match self.remove(seat) {
                    Some(stop) => return self.stop(seat, LastAnswer::NONE, stop),
                    None => continue,
                },
                Some(Task::Look(seat)) => seat,
            };
            if let Some(stop) = self.look(seat, now, asked >= TRUSTED) {
                return self.stop(seat, LastAnswer::NONE, stop);
            }
        }
        Progress::Busy
    }

    /// Looks at the member whose sink has yielded in the last poll. Returns how this poll ends, if it ends with
    /// that member.
    #[cold]
    fn ask_first(&mut self, now: Time) -> Option<Progress<K, Si::Error>> {
        let (seat, last) = self.yielded.take()?;
        if !last.blocked {
            self.lane(seat).chunk.begin_write(seat, now);
        }
        if last.may_not_yield() {
            self.lane(seat).restless |= bit(seat);
        }
        let stop = self.look(seat, now, false)?;
        Some(self.stop(seat, last, stop))
    }

    #[cold]
    fn stop(
        &mut self,
        seat: u32,
        mut last: LastAnswer,
        stop: Stop<K, Si::Error>,
    ) -> Progress<K, Si::Error> {
        match stop {
            Stop::Departed(departure) => Progress::Departed(departure),
            Stop::Yielded => {
                last.blocked = self.lane(seat).blocked & bit(seat) != 0;
                last.yields();
                // The poll ends here, as other sinks would yield, too.
                self.yielded = Some((seat, last));
                Progress::Busy
            }
        }
    }

    /// Begins the heartbeat of a new member. Returns false if the member has left before.
    fn start(&mut self, hub: &Hub, arrival: Arrival<Si, K>, now: Time) -> bool {
        let Arrival { seat, sink, key } = arrival;
        let number = (seat / CHUNK) as usize;
        while self.lanes.len() <= number {
            let chunk = hub.chunk(self.lanes.len());
            self.lanes.push(Lane::new(chunk));
        }
        if !self.sweep.is_over() {
            // The sweep may not have come to this chunk yet.
            self.configure(hub, number, now);
        }
        let lane = self.lane(seat);
        lane.sinks[place(seat)] = Some((sink, key));
        lane.chunk.start(seat, now)
    }

    /// The member has left. Where it was told of its end by the close frame itself, the departure is still due.
    fn remove(&mut self, seat: u32) -> Option<Stop<K, Si::Error>> {
        let verdict = self.lane(seat).chunk.verdict(seat);
        let departed = verdict.and_then(|verdict| self.depart(seat, verdict.into()));
        let parts = self.give_up(seat);
        self.lane(seat).chunk.vacate(seat);
        // The sink and the key are dropped last, as they are foreign code, which may panic.
        drop(parts);
        departed
    }

    /// Forgets a member, and returns its sink and its key, which the caller drops.
    fn give_up(&mut self, seat: u32) -> Option<(Si, K)> {
        self.due_queue.disarm(seat);
        let lane = self.lane(seat);
        let bit = bit(seat);
        lane.in_sink &= !bit;
        lane.blocked &= !bit;
        lane.restless &= !bit;
        lane.sinks[place(seat)].take()
    }

    /// Looks at a member, which may come late in the poll. Returns why the poll must end with the member, if it
    /// must.
    #[inline(always)]
    fn look(&mut self, seat: u32, now: Time, comes_late: bool) -> Option<Stop<K, Si::Error>> {
        // If there is no lane, the member has not begun. It is looked at when it begins.
        let lane = self.lanes.get_mut((seat / CHUNK) as usize)?;
        let Self {
            judgements,
            resolved,
            ..
        } = self;
        let driven = lane.look(seat, now, comes_late, judgements, resolved);
        // Probes are also resolved when a member leaves.
        if self.resolved.is_some() {
            self.wake_probes();
        }
        let end = match driven? {
            Driven::Rests { until, .. } => {
                self.due_queue.arm(seat, until);
                return None;
            }
            Driven::Yields => return Some(Stop::Yielded),
            Driven::Over(Some(verdict)) => verdict.into(),
            // The member has left.
            Driven::Over(None) => return None,
            Driven::Failed(error) => End::Failed(Error::Transport(error)),
        };
        self.depart(seat, end)
    }

    /// Wakes the tasks of probes. A waker is foreign code, which may panic: what the look has come to is not lost
    /// by that.
    #[cold]
    fn wake_probes(&mut self) {
        let resolved = self.resolved.take();
        self.catch(|| drop(resolved));
    }

    /// Runs foreign code. If it panics, the panic is kept for the next poll.
    fn catch(&mut self, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// The heartbeat of a member has ended.
    #[cold]
    fn depart(&mut self, seat: u32, end: End<Si::Error>) -> Option<Stop<K, Si::Error>> {
        let (sink, key) = self.give_up(seat)?;
        let chunk = &self.lane(seat).chunk;
        chunk.uncount(seat);
        let departure = chunk.departure(seat, key, end);
        // The departure is not lost where the drop of the sink panics.
        self.catch(|| drop(sink));
        Some(Stop::Departed(departure))
    }
}

impl<E> From<Verdict> for End<E> {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::TimedOut(timed_out) => Self::Failed(timed_out.into()),
            Verdict::Requested => Self::Closed,
        }
    }
}

impl<Si, K> Lane<Si, K> {
    fn new(chunk: Arc<Chunk>) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&chunk)),
            chunk,
            sinks: Box::new([const { None }; CHUNK as usize]),
            in_sink: 0,
            blocked: 0,
            restless: 0,
        }
    }
}

impl<Si: Sink<Frame> + Unpin, K> Lane<Si, K> {
    /// Drives the heartbeat of a member; `None` if the member has left.
    #[inline]
    fn look(
        &mut self,
        seat: u32,
        now: Time,
        comes_late: bool,
        judgements: &mut Judgements,
        resolved: &mut Option<Resolved>,
    ) -> Option<Driven<Si::Error>> {
        let bit = bit(seat);
        let (sink, _) = self.sinks[place(seat)].as_mut()?;
        let mut sink = Pin::new(sink);
        let mut in_sink = (self.in_sink & bit != 0).then_some(Destination::Outgoing);
        let was_blocked = self.blocked;
        // Where the sink panics nothing is left to be done with it.
        self.in_sink &= !bit;
        self.blocked &= !bit;
        let mut look = Look {
            chunk: &self.chunk,
            seat,
            now,
            comes_late,
            blocked: was_blocked,
            restless: &self.restless,
            judgements,
            left: false,
            done: false,
            resolved,
        };
        let mut cx = Context::from_waker(&self.waker);
        let driven = drive(&mut sink, &mut in_sink, &mut look, &mut cx);
        look.done = true;
        let blocked = match driven {
            Driven::Rests { blocked, .. } => blocked,
            // A sink that was blocked stays blocked, and its write timeout goes on.
            Driven::Yields => was_blocked & bit != 0,
            Driven::Over(_) | Driven::Failed(_) => false,
        };
        for (seats, on) in [
            (&mut self.in_sink, in_sink.is_some()),
            (&mut self.blocked, blocked),
        ] {
            *seats |= if on { bit } else { 0 };
        }
        (!look.left).then_some(driven)
    }
}
