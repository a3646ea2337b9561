//! One look of the driver at one member.

use std::sync::atomic::Ordering;

use super::chunk::{Chunk, Seats, bit};
use super::judgements::Judgements;
use crate::drive::Turns;
use crate::machine::{Input, SinkState, Turn};
use crate::shared::{Presence, Resolved};
use crate::time::Time;

/// A look of the driver at the seat of a member.
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
    /// Whether the look has ended without a panic of the sink.
    pub(super) done: bool,
    /// The tasks of probes that are resolved, until they can be woken without the lock.
    pub(super) resolved: &'a mut Option<Resolved>,
}

impl Turns for Look<'_> {
    #[inline]
    fn turn(&mut self, sent: bool, sink: SinkState) -> Turn {
        let seats = &mut *self.chunk.seats();
        seats.marked_due &= !bit(self.seat);
        if seats.left & bit(self.seat) != 0 {
            self.left = true;
            return Turn::Over(None);
        }
        // The reader is looked at under the lock: if it comes back later, it finds the seat not marked as due,
        // and calls the driver.
        let reader = self.chunk.reader(self.seat);
        if !reader.is_reading() || !seats.probes.is_empty() || self.judgements.hold_next() {
            return self.turn_with_care(seats, sent, sink);
        }
        seats.act(self.seat, |machine| {
            let issued = machine.issued();
            let turn = machine.turn(self.now, sent, sink, &mut Input::Drained);
            if let Some(ends) = machine.judgement(issued, self.now) {
                self.judgements.count(ends);
            }
            turn
        })
    }

    #[inline]
    fn expect_wake(&self) {
        self.chunk.woken.store(false, Ordering::Relaxed);
    }

    #[inline]
    fn is_yield(&self) -> bool {
        let wakes = self.chunk.woken.load(Ordering::Relaxed);
        // A `Pending` late in the poll counts as a yield. A sink that was blocked before is taken at its word,
        // unless its deadline would be judged now.
        let bit = bit(self.seat);
        self.comes_late && (self.blocked & bit == 0 || self.chunk.is_overdue(self.seat, self.now))
            || wakes && self.restless & bit == 0
    }

    fn fail(&mut self) -> bool {
        let seats = &mut *self.chunk.seats();
        self.left = seats.left & bit(self.seat) != 0;
        let over = seats.act(self.seat, |machine| machine.fail());
        self.keep_resolved(seats);
        over
    }
}

impl Look<'_> {
    /// One turn for a member whose reader is away, or was, or in whose chunk a probe is out, or whose verdict
    /// would be one of many.
    #[cold]
    fn turn_with_care(&mut self, seats: &mut Seats, sent: bool, sink: SinkState) -> Turn {
        let mut input = Input::Drained;
        let turn = seats.act(self.seat, |machine| {
            machine.holds_verdicts = self.judgements.hold_next();
            let issued = machine.issued();
            let mut leeway = None;
            let presence = self.chunk.reader(self.seat).find(|| {
                leeway = machine.leeway(self.now);
                leeway.is_some()
            });
            input = match presence {
                Presence::Reading => Input::Drained,
                Presence::Away => Input::More(0),
                Presence::Missed => Input::Unreadable,
            };
            let turn = match (
                machine.turn(self.now, sent, sink, &mut input),
                presence,
                leeway,
            ) {
                // The reader calls the driver earlier if it comes back.
                (Turn::Rest(until), Presence::Away, Some(leeway)) => {
                    Turn::Rest(until.max(self.now.plus(leeway)))
                }
                (turn, ..) => turn,
            };
            if let Some(ends) = machine.judgement(issued, self.now) {
                self.judgements.count(ends);
            }
            turn
        });
        self.look_at_probes(seats, input, turn)
    }

    /// Ends the heartbeat of the member.
    #[cold]
    fn give_up_member(&mut self) {
        {
            let seats = &mut *self.chunk.seats();
            seats.act(self.seat, |machine| machine.abandon());
            self.keep_resolved(seats);
        }
        self.chunk.uncount(self.seat);
        // This wakes the tasks of the probes, and the lock must not be held.
        drop(self.resolved.take());
    }
}

/// A sink that panics ends the heartbeat of its member, as such a sink cannot be trusted any more. The sink
/// itself is dropped when the member leaves, as its drop may panic, too.
impl Drop for Look<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.done {
            self.give_up_member();
        }
    }
}
