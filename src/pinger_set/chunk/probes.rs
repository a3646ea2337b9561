//! The probes of members. A chunk keeps a list of them for each seat that is probed, and no bytes for the
//! others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Chunk, MemberId, Seat, Seats, place};
use crate::error::ProbeError;
use crate::machine::{Input, Machine, Turn};
use crate::pinger_set::look::Look;
use crate::shared::{ProbeId, Probed, Probes, Resolved, Visited};

/// The probes of the members of a chunk, by seat. No list is empty. A chunk without probes has one word for them.
#[derive(Default)]
#[allow(clippy::box_collection)]
pub(in crate::pinger_set) struct ProbeLists(Option<Box<BTreeMap<u32, Probes>>>);

impl ProbeLists {
    #[inline]
    pub(in crate::pinger_set) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn of(&mut self, seat: u32) -> Option<&mut Probes> {
        self.0.as_mut()?.get_mut(&seat)
    }

    /// The seats that have a list.
    pub(super) fn seats(&self) -> Vec<u32> {
        let lists = self.0.iter().flat_map(|lists| lists.keys());
        lists.copied().collect()
    }

    fn drop_if_empty(&mut self, seat: u32) {
        if let Some(lists) = &mut self.0 {
            if lists.get(&seat).is_some_and(Probes::is_empty) {
                lists.remove(&seat);
            }
            if lists.is_empty() {
                self.0 = None;
            }
        }
    }
}

impl Chunk {
    /// Asks for a ping, unless one is out, and waits for its answer.
    pub(in crate::pinger_set) fn probe(
        &self,
        id: MemberId,
        within: Duration,
    ) -> Result<ProbeId, ProbeError> {
        let seat = Seat { chunk: self, id };
        let now = seat.now();
        let (number, is_new) = {
            let seats = &mut *self.seats();
            let since = seat
                .enter(seats, |machine| {
                    machine.probe()?;
                    Ok(machine.has_begun().then_some(now))
                })
                .unwrap_or(Err(ProbeError::Ended))?;
            let lists = seats.probes.0.get_or_insert_default();
            let number = lists.entry(id.seat).or_default().add(within, since);
            // The driver may sleep for longer than the probe waits.
            (number, seats.mark_due(id.seat))
        };
        if is_new {
            self.hub.mark_due(id.seat);
        }
        Ok(ProbeId {
            seat: id.seat,
            number,
        })
    }
}

impl Seats {
    /// See [`Probes::settle`]. Each change to the state of a member is followed by this call, under the same lock.
    /// The result is dropped without the lock.
    #[inline]
    #[must_use = "to be dropped without the lock"]
    pub(super) fn settle_probes(&mut self, seat: u32) -> Option<Resolved> {
        if self.probes.is_empty() {
            return None;
        }
        self.settle_list(seat)
    }

    #[cold]
    fn settle_list(&mut self, seat: u32) -> Option<Resolved> {
        let number = self.id(seat).number();
        let mut machine = Machine::member(&self.terms, &mut self.records[place(seat)], number);
        let probes = self.probes.of(seat)?;
        Some(probes.settle(&mut machine))
    }

    /// Does as [`settle_probes`](Self::settle_probes) for all members.
    #[must_use = "to be dropped without the lock"]
    pub(super) fn settle_all(&mut self) -> Vec<Resolved> {
        let probed = self.probes.seats().into_iter();
        probed.filter_map(|seat| self.settle_probes(seat)).collect()
    }
}

impl Probed for Chunk {
    fn with_probes(&self, seat: u32, act: &mut dyn FnMut(&mut Probes)) {
        let seats = &mut *self.seats();
        if let Some(probes) = seats.probes.of(seat) {
            act(probes);
            seats.probes.drop_if_empty(seat);
        }
    }
}

impl Look<'_> {
    /// Looks at the probes of the member after a turn of its heartbeat. If the heartbeat rests, it does so no
    /// longer than until the next deadline of a probe.
    pub(in crate::pinger_set) fn look_at_probes(
        &mut self,
        seats: &mut Seats,
        input: Input,
        turn: Turn,
    ) -> Turn {
        let grid = seats.machine(self.seat).grid();
        let turn = match (turn, seats.probes.of(self.seat)) {
            (Turn::Rest(until), Some(probes)) => {
                Turn::Rest(until.min(probes.look(self.now, grid, input)))
            }
            (turn, _) => turn,
        };
        self.keep_resolved(seats);
        turn
    }

    /// Keeps the tasks of probes that are resolved, until they can be woken without the lock.
    pub(in crate::pinger_set) fn keep_resolved(&mut self, seats: &mut Seats) {
        let resolved = seats.settle_probes(self.seat);
        match (&mut *self.resolved, resolved) {
            (Some(known), Some(resolved)) => known.extend(resolved),
            (None, resolved) => *self.resolved = resolved,
            (Some(_), None) => {}
        }
    }
}
