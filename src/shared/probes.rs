//! The probes that wait for a round trip.
//!
//! A probe has no timer of its own: the driver looks at its deadline. The visit that answers a ping, or ends
//! the heartbeat, resolves the probes under the lock, and wakes their tasks after it has released the lock.

use std::ops::DerefMut;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Call, Shared, State};
use crate::error::ProbeError;
use crate::grid::Grid;
use crate::machine::{Check, Deadline, Input, Machine, Record};
use crate::sync::lock;
use crate::time::Time;

/// The result of a probe.
type Outcome = Result<Duration, ProbeError>;

/// Names a probe among those that wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeId {
    /// The seat of a member of a set. A heartbeat that is alone has number 0.
    pub(crate) seat: u32,
    pub(crate) number: u64,
}

/// The owner of lists of probes: a heartbeat that is alone, or the members of a set.
pub(crate) trait Probed: Send + Sync {
    /// Calls `act` with the list of that seat, under the lock. A list that is then empty may be dropped.
    fn with_probes(&self, seat: u32, act: &mut dyn FnMut(&mut Probes));
}

impl dyn Probed {
    /// The result of the probe, if there is one: then the probe is taken off the list, and `listed` is set to
    /// `None`. Otherwise this task is woken when there is a result.
    pub(crate) fn poll_probe(
        &self,
        listed: &mut Option<ProbeId>,
        cx: &Context<'_>,
    ) -> Poll<Outcome> {
        let id = listed.expect("a probe is polled until it is ready");
        let mut waker = Some(cx.waker().clone());
        let (mut outcome, mut old) = (None, None);
        self.with_probes(id.seat, &mut |probes| {
            let entry = probes
                .list
                .iter_mut()
                .find(|entry| entry.number == id.number);
            let entry = entry.expect("a probe is on the list until it is ready, or dropped");
            outcome = entry.outcome;
            old = std::mem::replace(&mut entry.waker, waker.take());
            if outcome.is_some() {
                waker = probes.remove(id.number).and_then(|entry| entry.waker);
                *listed = None;
            }
        });
        // Dropping a waker can run foreign code.
        drop((waker, old));
        // Pending: the visit that answers a ping or ends the heartbeat wakes us, and the driver does at the
        // deadline.
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    /// The probe is dropped.
    pub(crate) fn forget_probe(&self, id: ProbeId) {
        let mut entry = None;
        self.with_probes(id.seat, &mut |probes| entry = probes.remove(id.number));
        // The entry is dropped without the lock, as it has a waker.
        drop(entry);
    }
}

/// The wakers of probes that are resolved. Dropping this wakes them all, even if one of them panics.
#[derive(Default)]
pub(crate) struct Resolved(Vec<Waker>);

impl Resolved {
    pub(crate) fn extend(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        /// The wakers that are left when one panics.
        struct Rest<'a>(&'a mut Vec<Waker>);

        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.0.drain(..).for_each(Waker::wake);
            }
        }

        let rest = Rest(&mut self.0);
        while let Some(waker) = rest.0.pop() {
            waker.wake();
        }
    }
}

/// The probes of one heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// How many were made; the newest has this number.
    made: u64,
    list: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    within: Duration,
    /// `None` if the heartbeat has not begun, until the driver first sees the probe.
    deadline: Option<Deadline>,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// The deadline of a probe. A stall of this process is not the peer's silence here either.
fn deadline(since: Time, within: Duration) -> Deadline {
    Deadline::new(since, within.into(), true)
}

impl Probes {
    /// Adds a probe, and returns its number. Its time runs from `since`, or from when the driver first sees
    /// the probe.
    pub(crate) fn add(&mut self, within: Duration, since: Option<Time>) -> u64 {
        self.made += 1;
        self.list.push(Entry {
            number: self.made,
            within,
            deadline: since.map(|since| deadline(since, within)),
            outcome: None,
            waker: None,
        });
        self.made
    }

    /// Gives the probes that wait this result.
    fn resolve(&mut self, outcome: Outcome) {
        for entry in &mut self.list {
            entry.outcome.get_or_insert(outcome);
        }
    }

    /// Looks at the deadlines of the probes, by what the driver knows of its input. Returns when the driver
    /// must look next.
    #[cold]
    pub(crate) fn look(&mut self, now: Time, grid: Grid, input: Input) -> Time {
        // The answer may be in input that is not read yet.
        let unread = matches!(input, Input::More(_) | Input::Behind(_));
        let mut next = Time::NEVER;
        for entry in &mut self.list {
            if entry.outcome.is_some() {
                continue;
            }
            let within = entry.within;
            let deadline = entry.deadline.get_or_insert_with(|| deadline(now, within));
            let due = deadline.next_look();
            next = next.min(if !due.has_come(now) {
                due
            } else if unread && !deadline.read_by().has_come(now) {
                deadline.read_by()
            } else if let Check::Expired(_) = deadline.look(now, grid) {
                entry.outcome = Some(Err(ProbeError::Late { within }));
                continue;
            } else {
                deadline.next_look()
            });
        }
        next
    }

    /// The probes that wait.
    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter().filter(|entry| entry.outcome.is_none())
    }

    /// Whether a deadline is to be looked at.
    fn is_overdue(&self, now: Time) -> bool {
        let mut deadlines = self.waiting().filter_map(|entry| entry.deadline);
        deadlines.any(|deadline| deadline.next_look().has_come(now))
    }

    /// Resolves the probes if a ping was answered, or if none will be. Returns the wakers of all probes that
    /// are resolved.
    pub(crate) fn settle(
        &mut self,
        machine: &mut Machine<'_, impl DerefMut<Target = Record>>,
    ) -> Resolved {
        if let Some(round_trip) = machine.take_round_trip() {
            self.resolve(Ok(round_trip.to_duration()));
        }
        if let Some(error) = machine.refuses_probe() {
            self.resolve(Err(error));
        }
        let resolved = self.list.iter_mut().filter(|entry| entry.outcome.is_some());
        Resolved(resolved.filter_map(|entry| entry.waker.take()).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes a probe off the list.
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let place = self.list.iter().position(|entry| entry.number == number)?;
        Some(self.list.swap_remove(place))
    }
}

impl State {
    /// See [`Probes::settle`].
    pub(super) fn resolved(&mut self) -> Resolved {
        let Some(extras) = &mut self.extras else {
            return Resolved::default();
        };
        let mut machine = Machine::new(&self.terms, &mut self.record);
        extras.probes.settle(&mut machine)
    }
}

impl Shared {
    /// Asks for a ping, unless one is out, and waits for its answer.
    pub(crate) fn probe(&self, within: Duration) -> Result<ProbeId, ProbeError> {
        let begun = self.begun.get();
        let since = begun.map(|begun| Time::of(begun.clock.now()));
        self.enter(|state| {
            let (asked, _, events) = state.visit(|machine| machine.probe());
            if let Err(error) = asked {
                return (Err(error), Call::Nobody, events);
            }
            let number = state.extras_mut().probes.add(within, since);
            // The driver may sleep for longer than the probe waits.
            (Ok(ProbeId { seat: 0, number }), Call::Driver, events)
        })
    }

    /// Whether a probe waits.
    pub(crate) fn has_probes(&self) -> bool {
        let state = lock(&self.state);
        let probes = state.extras.as_ref().map(|extras| &extras.probes);
        probes.is_some_and(|probes| probes.waiting().next().is_some())
    }

    /// Whether a deadline of a ping or of a probe has passed that is not judged yet.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        let state = lock(&self.state);
        let probes = state.extras.as_ref().map(|extras| &extras.probes);
        Machine::new(&state.terms, &state.record).is_overdue(now)
            || probes.is_some_and(|probes| probes.is_overdue(now))
    }
}

impl Probed for Shared {
    fn with_probes(&self, _: u32, act: &mut dyn FnMut(&mut Probes)) {
        act(&mut lock(&self.state).extras_mut().probes);
    }
}
