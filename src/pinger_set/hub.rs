//! What the set, its handles and its members share: the seats with the members' state, and the news
//! for the driver.
//!
//! The seats lie in chunks, each behind a lock that is held for one step of one member. No foreign
//! code (sinks, wakers) runs under a lock.

mod probes;

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake};

use self::probes::ProbeLists;
use super::configs::Configs;
use super::judgements::Judgements;
use super::totals::{Gone, Totals};
use super::{Member, MemberId};
use crate::config::Config;
use crate::drive::Turns;
use crate::error::{Closed, SetConfigError};
use crate::frame::CloseReason;
use crate::machine::{Input, Machine, Record, SinkState, Terms, Turn};
use crate::shared::{Presence, Reader, Resolved, Visited};
use crate::stats::Stats;
use crate::sync::{AtomicBool, Mutex, MutexGuard, lock};
use crate::time::{Span, Time};
use crate::timer::{Bell, Clock, Instant, wake};

/// Seats in a chunk.
pub(super) const CHUNK: u32 = 64;

/// Where in its chunk a seat is.
pub(super) const fn place(seat: u32) -> usize {
    (seat % CHUNK) as usize
}

/// The bit of a seat in a word for its chunk.
pub(super) const fn bit(seat: u32) -> u64 {
    1 << (seat % CHUNK)
}

/// Shared by all; it knows nothing of the sinks. As a waker it rings the bell of the driver.
pub(super) struct Hub {
    /// The step of the grid, which all configurations share.
    pub(super) step: Span,
    /// None before the first poll.
    clock: OnceLock<Clock>,
    state: Mutex<State>,
}

struct State {
    open: bool,
    members: usize,
    /// Seats in the chunks are numbered through.
    chunks: Vec<Arc<Chunk>>,
    configs: Configs,
    news: News,
    bell: Bell,
    /// How often many verdicts have fallen at once.
    mass_verdicts: u64,
}

/// A member that the driver has not seen yet.
pub(super) struct Arrival<Si, K> {
    pub(super) seat: u32,
    pub(super) sink: Si,
    pub(super) key: K,
}

/// What the driver is to look at. Each seat, and each chunk, is in a list once at the most.
#[derive(Default)]
pub(super) struct News {
    /// Whether members have arrived.
    pub(super) arrived: bool,
    /// Whether another configuration is to be put in force.
    pub(super) configured: bool,
    /// Seats of members that have left.
    pub(super) left: Vec<u32>,
    /// Seats whose member must be looked at earlier than it would be.
    pub(super) due: Vec<u32>,
    /// Chunks in which a sink is ready again.
    pub(super) woken: Vec<u32>,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        !self.arrived
            && !self.configured
            && self.left.is_empty()
            && self.due.is_empty()
            && self.woken.is_empty()
    }
}

impl Hub {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            step: config.spans().granularity,
            clock: OnceLock::new(),
            state: Mutex::new(State {
                open: true,
                members: 0,
                chunks: Vec::new(),
                configs: Configs::new(config),
                news: News::default(),
                bell: Bell::new(),
                mass_verdicts: 0,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The set is polled for the first time.
    pub(super) fn begin(&self, clock: impl FnOnce() -> Clock) {
        self.clock.get_or_init(clock);
    }

    pub(super) fn members(&self) -> usize {
        self.state().members
    }

    /// A seat for a new member under that configuration, or the set's own, and `arrive` is told where while
    /// nothing can come in between.
    pub(super) fn admit(
        self: &Arc<Self>,
        config: Option<&Config>,
        arrive: impl FnOnce(u32),
    ) -> Result<Member, SetConfigError> {
        let mut state = self.state();
        if !state.open {
            return Err(SetConfigError::Closed);
        }
        let seat = state.seat_under(config, self)?;
        let chunk = Arc::clone(&state.chunks[(seat / CHUNK) as usize]);
        chunk.reader(seat).begins();
        let id = chunk.join(seat);
        state.members += 1;
        state.news.arrived = true;
        arrive(seat);
        let wakers = state.bell.call();
        drop(state);
        wake(wakers);
        Ok(Member { chunk, id })
    }

    /// Changes which configurations are to be in force, and sees to it that the driver sweeps all chunks.
    pub(super) fn configure(
        &self,
        config: Config,
        change: impl FnOnce(&mut Configs, Config) -> bool,
    ) -> Result<(), SetConfigError> {
        let wakers = {
            let mut state = self.state();
            if !state.open {
                return Err(SetConfigError::Closed);
            }
            state.configs.check(&config)?;
            if !change(&mut state.configs, config) {
                return Ok(());
            }
            state.news.configured = true;
            state.bell.call()
        };
        wake(wakers);
        Ok(())
    }

    /// The set's own configuration.
    pub(super) fn config(&self) -> Config {
        self.state().configs.own().clone()
    }

    /// The shortest interval of all members.
    pub(super) fn shortest_interval(&self) -> Span {
        self.state().configs.shortest_interval()
    }

    /// The driver is polled. False if there is nothing to look at, unless it `must`.
    pub(super) fn wake_up(&self, must: bool, cx: &Context<'_>) -> bool {
        let old = {
            let bell = &mut self.state().bell;
            if !must && bell.lets_sleep(cx) {
                return false;
            }
            bell.enter(cx)
        };
        // Dropping a waker can run foreign code.
        drop(old);
        true
    }

    /// The driver goes to sleep, unless there is news. Whether the timer may have fired.
    pub(super) fn rest(&self) -> Option<bool> {
        let state = &mut *self.state();
        state.news.is_empty().then(|| state.bell.rest(true))
    }

    /// The timer has woken.
    pub(super) fn ring(&self) {
        let wakers = self.state().bell.ring();
        wake(wakers);
    }

    /// The news up to now go `into` an empty list, and `arrive` takes those who have arrived up to now. How
    /// many chunks there are.
    pub(super) fn take_news(&self, into: &mut News, arrive: impl FnOnce()) -> usize {
        let state = &mut *self.state();
        mem::swap(into, &mut state.news);
        arrive();
        state.chunks.len()
    }

    /// The chunk in which that member is, or was.
    pub(super) fn find(&self, id: MemberId) -> Result<Arc<Chunk>, Closed> {
        let state = self.state();
        let chunk = state.chunks.get((id.seat / CHUNK) as usize);
        chunk.map(Arc::clone).ok_or(Closed)
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.state().chunks.len()
    }

    pub(super) fn chunk(&self, number: usize) -> Arc<Chunk> {
        Arc::clone(&self.state().chunks[number])
    }

    /// A chunk, and the terms that are to be in force there.
    pub(super) fn chunk_to_sweep(&self, number: usize) -> (Arc<Chunk>, Arc<Terms>) {
        let state = self.state();
        let terms = state.configs.of_chunk(number);
        (Arc::clone(&state.chunks[number]), Arc::clone(terms))
    }

    fn tell(&self, tell: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            if !state.open {
                return;
            }
            tell(&mut state);
            state.bell.call()
        };
        wake(wakers);
    }

    /// Closes all members that there are. A chunk is locked at a time.
    pub(super) fn close_all(&self, reason: &Arc<CloseReason>, now: Time) {
        let chunks = self.state().chunks.clone();
        for chunk in chunks {
            // Dropped last, which wakes the tasks of the probes.
            let (due, _resolved) = chunk.close_all(reason, now);
            self.tell(|state| state.news.due.extend(due));
        }
    }

    /// The sums over all members. A chunk is locked at a time.
    pub(super) fn totals(&self) -> Totals {
        let now = self.now().instant();
        let (chunks, mass_verdicts) = {
            let state = self.state();
            (state.chunks.clone(), state.mass_verdicts)
        };
        let mut totals = Totals::new(mass_verdicts);
        for chunk in chunks {
            chunk.add_to(&mut totals, now);
        }
        totals
    }

    pub(super) fn now(&self) -> Time {
        let clock = self.clock.get();
        clock.map_or(Time::ORIGIN, |clock| Time::of(clock.now()))
    }

    /// Many verdicts have fallen at once.
    pub(super) fn count_mass_verdicts(&self) {
        self.state().mass_verdicts += 1;
    }

    /// A heartbeat is over: its member is not counted any more.
    pub(super) fn uncount(&self) {
        self.state().members -= 1;
    }

    /// Nobody has the seat any more. It may be taken again, unless it `is_spent`.
    fn vacate(&self, seat: u32, is_spent: bool) {
        let mut state = self.state();
        if state.open {
            state.configs.vacate(seat, is_spent);
        }
    }

    /// No member is let in any more.
    pub(super) fn close(&self) {
        let (wakers, chunks) = {
            let mut state = self.state();
            state.open = false;
            state.members = 0;
            state.news = News::default();
            state.mass_verdicts = 0;
            (state.bell.ring(), mem::take(&mut state.chunks))
        };
        let mut resolved = Vec::new();
        for chunk in chunks {
            let seats = &mut *chunk.seats();
            for seat in chunk.first..chunk.first + CHUNK {
                // Nobody is told of it.
                seats.machine(seat).disconnect();
            }
            resolved.extend(seats.settle_all());
        }
        // Last, as it can run foreign code, which may panic.
        drop((resolved, wakers));
    }
}

impl State {
    /// A seat under that configuration, or the set's own; a chunk more where none is vacant.
    fn seat_under(
        &mut self,
        config: Option<&Config>,
        hub: &Arc<Hub>,
    ) -> Result<u32, SetConfigError> {
        let (number, replaces) = match config {
            Some(config) => self.configs.number(config)?,
            None => (0, false),
        };
        // The chunks of the configuration that it replaces are still under that.
        self.news.configured |= replaces;
        loop {
            if let Some(seat) = self.configs.take_seat(number) {
                return Ok(seat);
            }
            // 2³¹ members do not fit into any memory.
            #[allow(clippy::cast_possible_truncation)]
            let first = self.chunks.len() as u32 * CHUNK;
            let terms = self.configs.add_chunk(number, first);
            self.chunks.push(Chunk::new(first, hub, terms));
        }
    }
}

/// Seats that share a lock, and a waker for those of their sinks that are not ready.
pub(super) struct Chunk {
    first: u32,
    hub: Arc<Hub>,
    /// It is among the news.
    woken: AtomicBool,
    /// Whether its waker has been woken since a sink was about to be polled.
    called: AtomicBool,
    /// By seat: whoever reads the stream that the member is attached to.
    readers: [Reader; CHUNK as usize],
    seats: Mutex<Seats>,
}

/// By seat.
struct Seats {
    /// What is in force for all of them.
    terms: Arc<Terms>,
    records: [Record; CHUNK as usize],
    /// How many have had it: that makes their ids differ.
    generations: [u32; CHUNK as usize],
    /// The member has left.
    left: u64,
    /// It is among those that are due.
    told: u64,
    /// The counters of those who had the seats before.
    gone: Gone,
    probes: ProbeLists,
}

/// A member's seat, as the member visits it from any thread.
pub(super) struct Seat<'a> {
    pub(super) chunk: &'a Chunk,
    pub(super) id: MemberId,
}

impl Seat<'_> {
    /// The machine of the member, unless its heartbeat has ended, and the seat may be another's.
    #[inline]
    fn enter<'a>(&'a self, seats: &'a mut Seats) -> Result<Machine<'a, &'a mut Record>, Closed> {
        if seats.id(self.id.seat) != self.id {
            return Err(Closed);
        }
        let machine = seats.machine(self.id.seat);
        if machine.has_ended() {
            return Err(Closed);
        }
        Ok(machine)
    }
}

impl Visited for Seat<'_> {
    fn visit<R>(&self, act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R) -> Result<R, Closed> {
        // Dropped last, which wakes the tasks of the probes, also where the driver's waker panics.
        let (result, earlier, _resolved) = {
            let seats = &mut *self.chunk.seats();
            let (result, earlier) = self.enter(seats)?.visited(act);
            let earlier = earlier && seats.tell(self.id.seat);
            let resolved = seats.settle_probes(self.id.seat);
            (result, earlier, resolved)
        };
        if earlier {
            self.chunk
                .hub
                .tell(|state| state.news.due.push(self.id.seat));
        }
        Ok(result)
    }

    fn visit_quietly<R>(
        &self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed> {
        let seats = &mut *self.chunk.seats();
        Ok(act(&mut self.enter(seats)?))
    }

    fn now(&self) -> Time {
        self.chunk.hub.now()
    }
}

/// A member's seat, as the driver looks at it.
pub(super) struct Look<'a> {
    pub(super) chunk: &'a Chunk,
    pub(super) seat: u32,
    pub(super) now: Time,
    /// Whether others have used the budget of the task in the same poll.
    pub(super) comes_late: bool,
    /// By seat: the sink is known to be blocked.
    pub(super) blocked: u64,
    /// By seat: the wakes of the sink do not count.
    pub(super) restless: &'a u64,
    pub(super) judgements: &'a mut Judgements,
    /// Whether the member was found to have left.
    pub(super) left: bool,
    /// The tasks of probes that are resolved, until they can be woken without the lock.
    pub(super) resolved: &'a mut Option<Resolved>,
}

impl Turns for Look<'_> {
    #[inline]
    fn turn(&mut self, sent: bool, sink: SinkState) -> Turn {
        let seats = &mut *self.chunk.seats();
        seats.told &= !bit(self.seat);
        if seats.left & bit(self.seat) != 0 {
            self.left = true;
            return Turn::Over(None);
        }
        // Under the lock: a reader that comes back later finds that the driver is not told of the seat.
        let reader = self.chunk.reader(self.seat);
        if !reader.is_reading() || !seats.probes.is_empty() || self.judgements.hold_next() {
            return self.turn_with_care(seats, sent, sink);
        }
        let mut machine = seats.machine(self.seat);
        let issued = machine.issued();
        let turn = machine.turn(self.now, sent, sink, &mut Input::Drained);
        if let Some(ends) = machine.judgement(issued, self.now) {
            self.judgements.count(ends);
        }
        turn
    }

    #[inline]
    fn expect_wake(&self) {
        self.chunk.called.store(false, Ordering::Relaxed);
    }

    #[inline]
    fn is_yield(&self) -> bool {
        let wakes = self.chunk.called.load(Ordering::Relaxed);
        // A sink that is known to be blocked may be so, as long as that is not judged.
        let bit = bit(self.seat);
        self.comes_late && (self.blocked & bit == 0 || self.chunk.is_overdue(self.seat, self.now))
            || wakes && self.restless & bit == 0
    }

    fn fail(&mut self) -> bool {
        let seats = &mut *self.chunk.seats();
        self.left = seats.left & bit(self.seat) != 0;
        let over = seats.machine(self.seat).fail();
        self.keep_resolved(seats);
        over
    }
}

impl Look<'_> {
    /// One turn for a member whose reader is away, or was, or in whose chunk a probe is out, or whose verdict
    /// would be one of many.
    #[cold]
    fn turn_with_care(&mut self, seats: &mut Seats, sent: bool, sink: SinkState) -> Turn {
        let mut machine = seats.machine(self.seat);
        machine.holds_verdicts = self.judgements.hold_next();
        let issued = machine.issued();
        let mut leeway = None;
        let presence = self.chunk.reader(self.seat).find(|| {
            leeway = machine.leeway(self.now);
            leeway.is_some()
        });
        let mut input = match presence {
            Presence::Reading => Input::Drained,
            Presence::Away => Input::More(0),
            Presence::Missed => Input::Unreadable,
        };
        let turn = match (
            machine.turn(self.now, sent, sink, &mut input),
            presence,
            leeway,
        ) {
            // The reader, when it comes back, calls before.
            (Turn::Rest(until), Presence::Away, Some(leeway)) => {
                Turn::Rest(until.max(self.now.plus(leeway)))
            }
            (turn, ..) => turn,
        };
        if let Some(ends) = machine.judgement(issued, self.now) {
            self.judgements.count(ends);
        }
        self.look_at_probes(seats, input, turn)
    }

    #[cold]
    fn give_up_member(&mut self) {
        let over = {
            let seats = &mut *self.chunk.seats();
            let mut machine = seats.machine(self.seat);
            let over = machine.has_ended();
            machine.disconnect();
            self.keep_resolved(seats);
            over
        };
        if !over {
            self.chunk.hub.uncount();
        }
        // Not under the lock. Dropping it wakes the tasks of the probes.
        drop(self.resolved.take());
    }
}

/// A sink that panics takes its member along: nobody knows what the sink would do next. The sink itself
/// is dropped when the member leaves, as its drop may panic, too.
impl Drop for Look<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.give_up_member();
        }
    }
}

impl Chunk {
    fn new(first: u32, hub: &Arc<Hub>, terms: Arc<Terms>) -> Arc<Self> {
        let seats = Seats {
            terms,
            records: [const { Record::new() }; CHUNK as usize],
            generations: [0; CHUNK as usize],
            left: 0,
            told: 0,
            gone: Gone::NONE,
            probes: ProbeLists::default(),
        };
        Arc::new(Self {
            first,
            hub: Arc::clone(hub),
            woken: AtomicBool::new(false),
            called: AtomicBool::new(false),
            readers: std::array::from_fn(|_| Reader::new()),
            seats: Mutex::new(seats),
        })
    }

    #[inline(always)]
    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }

    pub(super) fn stats(&self, seat: u32) -> Stats {
        self.seats().machine(seat).stats()
    }

    /// A new member takes the seat; the counters of who had it stay.
    fn join(&self, seat: u32) -> MemberId {
        let seats = &mut *self.seats();
        let mut gone = seats.gone;
        if seats.generations[place(seat)] > 0 {
            let machine = seats.machine(seat);
            gone.add(&machine, machine.stats());
        }
        seats.gone = gone;
        seats.join(seat)
    }

    /// Adds its members to the sums.
    fn add_to(&self, totals: &mut Totals, now: Option<Instant>) {
        let seats = &mut *self.seats();
        totals.add_gone(&seats.gone);
        for seat in self.first..self.first + CHUNK {
            if seats.generations[place(seat)] > 0 {
                totals.add(&seats.machine(seat), now);
            }
        }
    }

    #[inline]
    pub(super) fn reader(&self, seat: u32) -> &Reader {
        &self.readers[place(seat)]
    }

    /// The driver is to look at that member.
    pub(super) fn call(&self, seat: u32) {
        let untold = self.seats().tell(seat);
        if untold {
            self.hub.tell(|state| state.news.due.push(seat));
        }
    }

    /// Closes its members. Whom the driver is to look at, and whose tasks are to be woken.
    fn close_all(&self, reason: &Arc<CloseReason>, now: Time) -> (Vec<u32>, Vec<Resolved>) {
        let seats = &mut *self.seats();
        let mut due = Vec::new();
        for seat in self.first..self.first + CHUNK {
            // A seat that was had by nobody has not begun; those of the gone have ended.
            if seats.generations[place(seat)] > 0 {
                let mut machine = seats.machine(seat);
                let ((), earlier) = machine.visited(|machine| machine.close(reason, now));
                if earlier && seats.tell(seat) {
                    due.push(seat);
                }
            }
        }
        (due, seats.settle_all())
    }

    /// The member has left: the driver is to give up its sink.
    pub(super) fn leave(&self, seat: u32) {
        // Dropped last, which wakes the tasks of the probes.
        let (counted, _resolved) = {
            let seats = &mut *self.seats();
            seats.left |= bit(seat);
            let mut machine = seats.machine(seat);
            let counted = !machine.has_ended();
            machine.disconnect();
            (counted, seats.settle_probes(seat))
        };
        self.hub.tell(|state| {
            state.members -= usize::from(counted);
            state.news.left.push(seat);
        });
    }

    // --- by the driver ---

    /// In the order of the chunks.
    fn number(&self) -> u32 {
        self.first / CHUNK
    }

    /// Its sinks are about to be asked: whoever is ready from now on is news again.
    pub(super) fn rearm_waker(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// The heartbeat begins now, unless its member has left before.
    pub(super) fn start(&self, seat: u32, now: Time) -> bool {
        let seats = &mut *self.seats();
        if seats.left & bit(seat) != 0 {
            return false;
        }
        seats.machine(seat).begin(now);
        true
    }

    /// Whether a deadline of that member is to be judged.
    #[cold]
    fn is_overdue(&self, seat: u32, now: Time) -> bool {
        self.seats().machine(seat).is_overdue(now)
    }

    /// See [`Machine::begin_write`].
    #[cold]
    pub(super) fn begin_write(&self, seat: u32, now: Time) {
        self.seats().machine(seat).begin_write(now);
    }

    pub(super) fn id(&self, seat: u32) -> MemberId {
        self.seats().id(seat)
    }

    /// See [`Machine::ping_after_sleep`].
    pub(super) fn ping_after_sleep(&self, seat: u32, asleep: Span, by: Time) {
        self.seats().machine(seat).ping_after_sleep(asleep, by);
    }

    /// Puts other terms in force for its members, and tells by `arm` when to look at whom earlier than before.
    /// What is overdue by them is spread as is drawn.
    pub(super) fn configure(
        &self,
        terms: Arc<Terms>,
        now: Time,
        mut draw: impl FnMut() -> u32,
        mut arm: impl FnMut(u32, Time),
    ) {
        let seats = &mut *self.seats();
        if Arc::ptr_eq(&seats.terms, &terms) {
            return;
        }
        let before = mem::replace(&mut seats.terms, terms);
        for seat in self.first..self.first + CHUNK {
            let sleeps_until = seats.machine_under(&before, seat).next_look();
            let mut machine = seats.machine(seat);
            machine.reconfigure_among_many(&before.config, now, &mut draw);
            let look = machine.next_look();
            if look < sleeps_until {
                arm(seat, look);
            }
        }
        // What has come of a probe, and when to look at it next, is found by a look at the member.
        for seat in seats.probes.seats() {
            arm(seat, now);
        }
    }

    /// Its sink is gone, and so is its member.
    pub(super) fn vacate(&self, seat: u32) {
        let is_spent = self.seats().is_spent(seat);
        self.hub.vacate(seat, is_spent);
    }
}

impl Seats {
    fn join(&mut self, seat: u32) -> MemberId {
        self.left &= !bit(seat);
        self.records[place(seat)] = Record::new();
        self.generations[place(seat)] += 1;
        self.id(seat)
    }

    /// Whether 4 billion members have had it: another would have an id, and tags, that were another's.
    fn is_spent(&self, seat: u32) -> bool {
        self.generations[place(seat)] == u32::MAX
    }

    #[inline]
    fn machine(&mut self, seat: u32) -> Machine<'_, &mut Record> {
        let number = self.id(seat).number();
        Machine::member(&self.terms, &mut self.records[place(seat)], number)
    }

    /// The same under other terms than those in force.
    fn machine_under<'a>(&'a self, terms: &'a Terms, seat: u32) -> Machine<'a, &'a Record> {
        Machine::member(terms, &self.records[place(seat)], self.id(seat).number())
    }

    /// Of who has it.
    fn id(&self, seat: u32) -> MemberId {
        let generation = self.generations[place(seat)];
        MemberId { seat, generation }
    }

    /// Whether the driver is not told of it yet.
    fn tell(&mut self, seat: u32) -> bool {
        let told = self.told & bit(seat) != 0;
        self.told |= bit(seat);
        !told
    }
}

/// The timer rings the bell of the driver.
impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// The waker of all sinks of the chunk.
impl Wake for Chunk {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::Relaxed);
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.hub.tell(|state| state.news.woken.push(self.number()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A member that joins, leaves, and whose sink the driver gives up.
    fn come_and_go(hub: &Arc<Hub>) -> MemberId {
        let member = hub.admit(None, |_| ()).expect("open");
        let (id, chunk) = (member.id, Arc::clone(&member.chunk));
        drop(member);
        chunk.vacate(id.seat);
        id
    }

    // contract: Q116
    #[test]
    fn a_seat_whose_generations_are_used_up_is_retired() {
        let hub = Hub::new(Config::default());
        let first = come_and_go(&hub);
        assert_eq!(come_and_go(&hub).seat, first.seat, "a seat is used again");
        // As if so many members had come and gone.
        let chunk = hub.find(first).expect("it is there");
        chunk.seats().generations[place(first.seat)] = u32::MAX - 2;

        let mut ids = BTreeSet::new();
        for _ in 0..2 {
            let id = come_and_go(&hub);
            assert_eq!(id.seat, first.seat);
            assert!(ids.insert(id));
        }
        for _ in 0..100 {
            let id = come_and_go(&hub);
            assert_ne!(id.seat, first.seat, "the seat is retired");
        }
        let members: Vec<_> = (0..200).map(|_| hub.admit(None, |_| ())).collect();
        for member in &members {
            let id = member.as_ref().expect("open").id;
            assert_ne!(id.seat, first.seat);
            assert!(ids.insert(id), "an id comes once");
        }
        assert_eq!(hub.find(first).map(drop), Ok(()), "those who ask are told");
        assert_eq!(hub.members(), 200);
    }
}
