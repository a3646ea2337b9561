//! The seats of 64 members behind one lock, with the state of each.

mod probes;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Wake;

use self::probes::ProbeLists;
use super::hub::Hub;
use super::totals::Tally;
use super::{Departure, End, MemberId};
use crate::error::Closed;
use crate::frame::CloseReason;
use crate::machine::{Machine, Record, Terms, Verdict};
use crate::shared::{Reader, Resolved, Visited};
use crate::stats::{HeartbeatState, Stats};
use crate::sync::{AtomicBool, Mutex, MutexGuard, lock};
use crate::time::{Span, Time};
use crate::timer::Instant;

/// Seats in a chunk.
pub(super) const CHUNK: u32 = 64;

/// The index of a seat in its chunk.
pub(super) const fn place(seat: u32) -> usize {
    (seat % CHUNK) as usize
}

/// The bit of a seat in a word for its chunk.
pub(super) const fn bit(seat: u32) -> u64 {
    1 << (seat % CHUNK)
}

/// Seats that share a lock, and a waker for those of their sinks that are not ready.
pub(super) struct Chunk {
    /// The number of its first seat.
    first: u32,
    pub(super) hub: Arc<Hub>,
    /// Whether the chunk is among the news, as a sink has woken its waker.
    is_news: AtomicBool,
    /// Whether the waker has been woken since a sink was about to be polled.
    pub(super) woken: AtomicBool,
    /// By seat: what is known of the reader of the attached stream.
    readers: [Reader; CHUNK as usize],
    seats: Mutex<Seats>,
}

/// The state of 64 members. Each array has an element, and each word a bit, for each seat.
pub(super) struct Seats {
    /// The terms that are in force for all seats.
    terms: Arc<Terms>,
    records: [Record; CHUNK as usize],
    /// How many members have had the seat, so that their ids differ.
    generations: [u32; CHUNK as usize],
    /// Whether the member has left.
    pub(super) left: u64,
    /// Whether the member is one of those that the set counts.
    counted: u64,
    /// Whether the seat is among the news as due.
    pub(super) marked_due: u64,
    /// The counts of the members, and of those that had the seats before.
    tally: Arc<Tally>,
    pub(super) probes: ProbeLists,
}

/// A member's seat, as the member visits it from any thread.
pub(super) struct Seat<'a> {
    pub(super) chunk: &'a Chunk,
    pub(super) id: MemberId,
}

impl Seat<'_> {
    /// Acts on the machine of the member. If its heartbeat has ended, the seat may be another member's, and this
    /// is an error.
    #[inline]
    fn enter<R>(
        &self,
        seats: &mut Seats,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed> {
        self.check(seats)?;
        Ok(seats.act(self.id.seat, act))
    }

    #[inline]
    fn check(&self, seats: &mut Seats) -> Result<(), Closed> {
        let seat = self.id.seat;
        if seats.id(seat) != self.id || seats.machine(seat).has_ended() {
            return Err(Closed);
        }
        Ok(())
    }
}

impl Visited for Seat<'_> {
    fn visit<R>(&self, act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R) -> Result<R, Closed> {
        // `_resolved` is dropped last, which wakes the tasks of the probes even if the driver's waker panics.
        let (result, earlier, _resolved) = {
            let seats = &mut *self.chunk.seats();
            let (result, earlier) = self.enter(seats, |machine| machine.visited(act))?;
            let earlier = earlier && seats.mark_due(self.id.seat);
            let resolved = seats.settle_probes(self.id.seat);
            (result, earlier, resolved)
        };
        if earlier {
            self.chunk.hub.mark_due(self.id.seat);
        }
        Ok(result)
    }

    fn visit_quietly<R>(
        &self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed> {
        let seats = &mut *self.chunk.seats();
        self.check(seats)?;
        let mut machine = seats.machine(self.id.seat);
        // A quiet visit changes no other figure than this.
        let before = machine.unsolicited();
        let result = act(&mut machine);
        let strays = machine.unsolicited().wrapping_sub(before);
        seats.tally.count_unsolicited(strays);
        Ok(result)
    }

    fn now(&self) -> Time {
        self.chunk.hub.now()
    }
}

impl Chunk {
    pub(super) fn new(
        first: u32,
        hub: &Arc<Hub>,
        terms: Arc<Terms>,
        tally: Arc<Tally>,
    ) -> Arc<Self> {
        let seats = Seats {
            terms,
            records: [const { Record::new() }; CHUNK as usize],
            generations: [0; CHUNK as usize],
            left: 0,
            counted: 0,
            marked_due: 0,
            tally,
            probes: ProbeLists::default(),
        };
        Arc::new(Self {
            first,
            hub: Arc::clone(hub),
            is_news: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            readers: std::array::from_fn(|_| Reader::new()),
            seats: Mutex::new(seats),
        })
    }

    #[inline(always)]
    pub(super) fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }

    pub(super) fn stats(&self, seat: u32) -> Stats {
        self.seats().machine(seat).stats()
    }

    /// How the heartbeat has ended, unless its member has left, or the connection has failed, before.
    pub(super) fn verdict(&self, seat: u32) -> Option<Verdict> {
        self.seats().machine(seat).verdict()
    }

    /// A new member takes the seat.
    pub(super) fn join(&self, seat: u32) -> MemberId {
        self.seats().join(seat)
    }

    /// How many of its members are suspect at that time.
    pub(super) fn suspects(&self, now: Option<Instant>) -> usize {
        let seats = &mut *self.seats();
        let is_suspect = |seat: &u32| {
            let state = seats.machine(*seat).stats().state;
            state.at(now) == HeartbeatState::Suspect
        };
        // The state of a seat that no member has had is never suspect.
        (self.first..self.first + CHUNK).filter(is_suspect).count()
    }

    #[inline]
    pub(super) fn reader(&self, seat: u32) -> &Reader {
        &self.readers[place(seat)]
    }

    /// Makes the driver look at that member.
    pub(super) fn call(&self, seat: u32) {
        let is_new = self.seats().mark_due(seat);
        if is_new {
            self.hub.mark_due(seat);
        }
    }

    /// Closes the members of the chunk. Returns the seats that the driver must look at, and the wakers of probes.
    pub(super) fn close_all(
        &self,
        reason: &Arc<CloseReason>,
        now: Time,
    ) -> (Vec<u32>, Vec<Resolved>) {
        let seats = &mut *self.seats();
        let mut due = Vec::new();
        for seat in self.first..self.first + CHUNK {
            // A seat that no member has had is left as it is. A heartbeat that has ended does not change.
            if seats.generations[place(seat)] > 0 {
                let ((), earlier) = seats.act(seat, |machine| {
                    machine.visited(|machine| machine.close(reason, now))
                });
                if earlier && seats.mark_due(seat) {
                    due.push(seat);
                }
            }
        }
        (due, seats.settle_all())
    }

    /// The set is gone: the heartbeats of its members end without a departure. Returns the wakers of probes.
    pub(super) fn disconnect_all(&self) -> Vec<Resolved> {
        let seats = &mut *self.seats();
        for seat in self.first..self.first + CHUNK {
            seats.machine(seat).disconnect();
        }
        seats.settle_all()
    }

    /// The member has left: the driver must drop its sink.
    pub(super) fn leave(&self, seat: u32) {
        // `_resolved` is dropped last, which wakes the tasks of the probes.
        let (counted, _resolved) = {
            let seats = &mut *self.seats();
            seats.left |= bit(seat);
            seats.act(seat, |machine| machine.disconnect());
            (seats.uncount(seat), seats.settle_probes(seat))
        };
        self.hub.mark_left(seat, counted);
    }

    // --- for the driver ---

    /// The number of this chunk among the chunks of the set.
    fn number(&self) -> u32 {
        self.first / CHUNK
    }

    /// The sinks of the chunk are about to be asked: a wake from now on makes the chunk news again.
    pub(super) fn rearm_waker(&self) {
        self.is_news.store(false, Ordering::Release);
    }

    /// The heartbeat begins now, unless its member has left before.
    pub(super) fn start(&self, seat: u32, now: Time) -> bool {
        let seats = &mut *self.seats();
        if seats.left & bit(seat) != 0 {
            return false;
        }
        seats.act(seat, |machine| machine.begin(now));
        true
    }

    /// Whether a deadline of that member is to be judged.
    #[cold]
    pub(super) fn is_overdue(&self, seat: u32, now: Time) -> bool {
        self.seats().machine(seat).is_overdue(now)
    }

    /// See [`Machine::begin_write`].
    #[cold]
    pub(super) fn begin_write(&self, seat: u32, now: Time) {
        self.seats().act(seat, |machine| machine.begin_write(now));
    }

    /// See [`Machine::ping_after_sleep`].
    pub(super) fn ping_after_sleep(&self, seat: u32, asleep: Span, by: Time) {
        self.seats()
            .act(seat, |machine| machine.ping_after_sleep(asleep, by));
    }

    /// Puts other terms in force for the members of the chunk. Calls `arm` for each member that must be looked at
    /// earlier than before. Pings that are overdue by the new terms are spread as `draw` says.
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
            let look = seats.act(seat, |machine| {
                machine.reconfigure_among_many(&before.config, now, &mut draw);
                machine.next_look()
            });
            if look < sleeps_until {
                arm(seat, look);
            }
        }
        // The driver looks at each member that is probed, as the new terms may end a probe.
        for seat in seats.probes.seats() {
            arm(seat, now);
        }
    }

    /// The heartbeat of the member is over, so that the set counts it no longer. If the member has left before, it
    /// is not counted any more.
    pub(super) fn uncount(&self, seat: u32) {
        let counted = self.seats().uncount(seat);
        if counted {
            self.hub.uncount();
        }
    }

    /// What the heartbeat of the member has come to, by its `end`.
    pub(super) fn departure<K, E>(&self, seat: u32, key: K, end: End<E>) -> Departure<K, E> {
        let seats = &mut *self.seats();
        let id = seats.id(seat);
        let machine = seats.machine(seat);
        Departure {
            id,
            key,
            stats: machine.stats(),
            end,
            close_sent: machine.close_sent(),
        }
    }

    /// The member and its sink are gone: the seat is free.
    pub(super) fn vacate(&self, seat: u32) {
        let is_spent = self.seats().is_spent(seat);
        self.hub.vacate(seat, is_spent);
    }
}

impl Seats {
    fn join(&mut self, seat: u32) -> MemberId {
        self.left &= !bit(seat);
        self.counted |= bit(seat);
        self.records[place(seat)] = Record::new();
        self.generations[place(seat)] += 1;
        self.tally.join();
        self.id(seat)
    }

    /// Whether 4 billion members have had the seat. One more would have the id and the tags of an earlier one.
    fn is_spent(&self, seat: u32) -> bool {
        self.generations[place(seat)] == u32::MAX
    }

    /// Acts on the machine of the seat, and counts in the totals what has changed.
    #[inline(always)]
    pub(super) fn act<R>(
        &mut self,
        seat: u32,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> R {
        let mut machine = self.machine(seat);
        let before = machine.standing();
        let result = act(&mut machine);
        let after = machine.standing();
        self.tally.note(&before, &after);
        result
    }

    /// The machine of the seat, for questions only: changes that are not made by [`act`](Self::act) are not
    /// counted.
    #[inline]
    pub(super) fn machine(&mut self, seat: u32) -> Machine<'_, &mut Record> {
        let number = self.id(seat).number();
        Machine::member(&self.terms, &mut self.records[place(seat)], number)
    }

    /// The machine of the seat, under other terms than those in force.
    fn machine_under<'a>(&'a self, terms: &'a Terms, seat: u32) -> Machine<'a, &'a Record> {
        Machine::member(terms, &self.records[place(seat)], self.id(seat).number())
    }

    /// The id of the member that has the seat.
    fn id(&self, seat: u32) -> MemberId {
        let generation = self.generations[place(seat)];
        MemberId { seat, generation }
    }

    /// Counts the member no longer. Returns whether it was counted until now.
    fn uncount(&mut self, seat: u32) -> bool {
        let counted = self.counted & bit(seat) != 0;
        self.counted &= !bit(seat);
        counted
    }

    /// Marks the seat as due. Returns whether the driver must be told, as the seat was not marked before.
    fn mark_due(&mut self, seat: u32) -> bool {
        let marked = self.marked_due & bit(seat) != 0;
        self.marked_due |= bit(seat);
        !marked
    }
}

/// The waker of all sinks of the chunk.
impl Wake for Chunk {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if !self.is_news.swap(true, Ordering::AcqRel) {
            self.hub.mark_woken(self.number());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

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
