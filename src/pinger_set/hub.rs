//! What the set, its handles and its members share: the seats with the members' state, and the news
//! for the driver.
//!
//! The seats lie in chunks, each behind a lock that is held for one step of one member. No foreign
//! code (sinks, wakers) runs under a lock.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake};

use super::totals::{Gone, Totals};
use super::{Member, MemberId};
use crate::config::Config;
use crate::drive::Turns;
use crate::error::Closed;
use crate::frame::CloseReason;
use crate::machine::{Input, Machine, Record, SinkState, Terms, Turn};
use crate::shared::{Presence, Reader, Visited};
use crate::stats::Stats;
use crate::sync::{AtomicBool, Mutex, MutexGuard, lock};
use crate::time::Time;
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
    pub(super) terms: Terms,
    /// None before the first poll.
    clock: OnceLock<Clock>,
    state: Mutex<State>,
}

struct State {
    open: bool,
    members: usize,
    /// Seats in the chunks are numbered through.
    chunks: Vec<Arc<Chunk>>,
    vacant: Vec<u32>,
    news: News,
    bell: Bell,
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
    /// Seats of members that have left.
    pub(super) left: Vec<u32>,
    /// Seats whose member must be looked at earlier than it would be.
    pub(super) due: Vec<u32>,
    /// Chunks in which a sink is ready again.
    pub(super) woken: Vec<u32>,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        !self.arrived && self.left.is_empty() && self.due.is_empty() && self.woken.is_empty()
    }
}

impl Hub {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            terms: Terms::new(config),
            clock: OnceLock::new(),
            state: Mutex::new(State {
                open: true,
                members: 0,
                chunks: Vec::new(),
                vacant: Vec::new(),
                news: News::default(),
                bell: Bell::new(),
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

    fn machine<R>(&self, id: MemberId, record: R) -> Machine<'_, R> {
        // Not of the seat alone: who had it before numbered its pings alike. 0 is for those that
        // share their key with nobody, and no generation is.
        let member = u64::from(id.generation) << 32 | u64::from(id.seat);
        Machine::member(&self.terms, record, member)
    }

    pub(super) fn members(&self) -> usize {
        self.state().members
    }

    /// A seat for a new member, and `arrive` is told where while nothing can come in between. None
    /// once the set is gone.
    pub(super) fn admit(self: &Arc<Self>, arrive: impl FnOnce(u32)) -> Option<Member> {
        let mut state = self.state();
        if !state.open {
            return None;
        }
        let seat = state.vacant.pop().unwrap_or_else(|| state.furnish(self));
        let chunk = Arc::clone(&state.chunks[(seat / CHUNK) as usize]);
        chunk.reader(seat).begins();
        let id = chunk.join(seat);
        state.members += 1;
        state.news.arrived = true;
        arrive(seat);
        let wakers = state.bell.call();
        drop(state);
        wake(wakers);
        Some(Member { chunk, id })
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

    /// The news up to now go `into` an empty list.
    pub(super) fn take_news(&self, into: &mut News) {
        mem::swap(into, &mut self.state().news);
    }

    /// The chunk in which that member is, or was.
    pub(super) fn find(&self, id: MemberId) -> Result<Arc<Chunk>, Closed> {
        let state = self.state();
        let chunk = state.chunks.get((id.seat / CHUNK) as usize);
        chunk.map(Arc::clone).ok_or(Closed)
    }

    pub(super) fn chunk(&self, number: usize) -> Arc<Chunk> {
        Arc::clone(&self.state().chunks[number])
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
            let due = chunk.close_all(reason, now);
            self.tell(|state| state.news.due.extend(due));
        }
    }

    /// The sums over all members. A chunk is locked at a time.
    pub(super) fn totals(&self) -> Totals {
        let now = self.now().instant();
        let chunks = self.state().chunks.clone();
        let mut totals = Totals::default();
        for chunk in chunks {
            chunk.add_to(&mut totals, now);
        }
        totals
    }

    pub(super) fn now(&self) -> Time {
        let clock = self.clock.get();
        clock.map_or(Time::ORIGIN, |clock| Time::of(clock.now()))
    }

    /// A heartbeat is over: its member is not counted any more.
    pub(super) fn uncount(&self) {
        self.state().members -= 1;
    }

    /// The seat may be taken again.
    pub(super) fn vacate(&self, seat: u32) {
        self.state().vacant.push(seat);
    }

    /// No member is let in any more.
    pub(super) fn close(&self) {
        let (wakers, chunks) = {
            let mut state = self.state();
            state.open = false;
            state.members = 0;
            state.news = News::default();
            (state.bell.ring(), mem::take(&mut state.chunks))
        };
        for chunk in chunks {
            let seats = &mut *chunk.seats();
            for record in &mut seats.records {
                // Nobody is told of it: the number of the member does not matter.
                Machine::member(&self.terms, record, 0).disconnect();
            }
        }
        // Last, as it can run foreign code, which may panic.
        drop(wakers);
    }
}

impl State {
    /// A chunk more, and the first of its seats; the others are vacant.
    fn furnish(&mut self, hub: &Arc<Hub>) -> u32 {
        // 2³¹ members do not fit into any memory.
        #[allow(clippy::cast_possible_truncation)]
        let first = self.chunks.len() as u32 * CHUNK;
        self.chunks.push(Chunk::new(first, hub));
        self.vacant.extend((1..CHUNK).rev().map(|n| first + n));
        first
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
    records: [Record; CHUNK as usize],
    /// How many have had it: that makes their ids differ.
    generations: [u32; CHUNK as usize],
    /// The member has left.
    left: u64,
    /// It is among those that are due.
    told: u64,
    /// The counters of those who had the seats before.
    gone: Gone,
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
        let machine = self.chunk.machine(seats, self.id.seat);
        if machine.has_ended() {
            return Err(Closed);
        }
        Ok(machine)
    }
}

impl Visited for Seat<'_> {
    fn visit<R>(&self, act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R) -> Result<R, Closed> {
        let (result, earlier) = {
            let seats = &mut *self.chunk.seats();
            let (result, earlier) = self.enter(seats)?.visited(act);
            (result, earlier && seats.tell(self.id.seat))
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
    /// Whether the member was found to have left.
    pub(super) left: bool,
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
        let mut machine = self.chunk.machine(seats, self.seat);
        // Under the lock: a reader that comes back later finds that the driver is not told of the seat.
        let reader = self.chunk.reader(self.seat);
        if !reader.is_reading() {
            return turn_without_reader(&mut machine, reader, self.now, sent, sink);
        }
        machine.turn(self.now, sent, sink, &mut Input::Drained)
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
        self.chunk.machine(seats, self.seat).fail()
    }
}

/// One turn for a member whose reader is away, or was.
#[cold]
fn turn_without_reader(
    machine: &mut Machine<'_, &mut Record>,
    reader: &Reader,
    now: Time,
    sent: bool,
    sink: SinkState,
) -> Turn {
    let mut leeway = None;
    let presence = reader.find(|| {
        leeway = machine.leeway(now);
        leeway.is_some()
    });
    let mut input = match presence {
        Presence::Reading => Input::Drained,
        Presence::Away => Input::More(0),
        Presence::Missed => Input::Unreadable,
    };
    match (machine.turn(now, sent, sink, &mut input), presence, leeway) {
        // The reader, when it comes back, calls before.
        (Turn::Rest(until), Presence::Away, Some(leeway)) => {
            Turn::Rest(until.max(now.plus(leeway)))
        }
        (turn, ..) => turn,
    }
}

/// A sink that panics takes its member along: nobody knows what the sink would do next. The sink itself
/// is dropped when the member leaves, as its drop may panic, too.
impl Drop for Look<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let over = {
                let seats = &mut *self.chunk.seats();
                let mut machine = self.chunk.machine(seats, self.seat);
                let over = machine.has_ended();
                machine.disconnect();
                over
            };
            if !over {
                self.chunk.hub.uncount();
            }
        }
    }
}

impl Chunk {
    fn new(first: u32, hub: &Arc<Hub>) -> Arc<Self> {
        let seats = Seats {
            records: [const { Record::new() }; CHUNK as usize],
            generations: [0; CHUNK as usize],
            left: 0,
            told: 0,
            gone: Gone::NONE,
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

    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }

    #[inline]
    fn machine<'a>(&'a self, seats: &'a mut Seats, seat: u32) -> Machine<'a, &'a mut Record> {
        let id = seats.id(seat);
        self.hub.machine(id, &mut seats.records[place(seat)])
    }

    pub(super) fn stats(&self, seat: u32) -> Stats {
        let seats = &mut *self.seats();
        self.machine(seats, seat).stats()
    }

    /// A new member takes the seat; the counters of who had it stay.
    fn join(&self, seat: u32) -> MemberId {
        let seats = &mut *self.seats();
        let mut gone = seats.gone;
        if seats.generations[place(seat)] > 0 {
            let machine = self.machine(seats, seat);
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
                totals.add(&self.machine(seats, seat), now);
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

    /// Closes its members; whom the driver is to look at.
    fn close_all(&self, reason: &Arc<CloseReason>, now: Time) -> Vec<u32> {
        let seats = &mut *self.seats();
        let mut due = Vec::new();
        for seat in self.first..self.first + CHUNK {
            // A seat that was had by nobody has not begun; those of the gone have ended.
            if seats.generations[place(seat)] > 0 {
                let mut machine = self.machine(seats, seat);
                let ((), earlier) = machine.visited(|machine| machine.close(reason, now));
                if earlier && seats.tell(seat) {
                    due.push(seat);
                }
            }
        }
        due
    }

    /// The member has left: the driver is to give up its sink.
    pub(super) fn leave(&self, seat: u32) {
        let counted = {
            let seats = &mut *self.seats();
            seats.left |= bit(seat);
            let mut machine = self.machine(seats, seat);
            let counted = !machine.has_ended();
            machine.disconnect();
            counted
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
        self.machine(seats, seat).begin(now);
        true
    }

    /// Whether a deadline of that member is to be judged.
    #[cold]
    fn is_overdue(&self, seat: u32, now: Time) -> bool {
        let seats = &mut *self.seats();
        self.machine(seats, seat).is_overdue(now)
    }

    /// See [`Machine::begin_write`].
    #[cold]
    pub(super) fn begin_write(&self, seat: u32, now: Time) {
        let seats = &mut *self.seats();
        self.machine(seats, seat).begin_write(now);
    }

    pub(super) fn id(&self, seat: u32) -> MemberId {
        self.seats().id(seat)
    }

    /// See [`Machine::ping_by`].
    pub(super) fn ping_by(&self, seat: u32, by: Time) {
        self.machine(&mut self.seats(), seat).ping_by(by);
    }

    /// Its sink is gone, and so is its member.
    pub(super) fn vacate(&self, seat: u32) {
        self.hub.vacate(seat);
    }
}

impl Seats {
    fn join(&mut self, seat: u32) -> MemberId {
        self.left &= !bit(seat);
        self.records[place(seat)] = Record::new();
        let generation = &mut self.generations[place(seat)];
        // 4 billion members later, in this one seat, an id does come again.
        *generation = generation.checked_add(1).unwrap_or(1);
        self.id(seat)
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
