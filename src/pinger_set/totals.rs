//! The sums over all members of a set.

use crate::error::TimeoutPhase;
use crate::machine::{Machine, Record, Verdict};
use crate::stats::{HeartbeatState, Stats};
use crate::timer::Instant;

/// The figures of a [`PingerSet`](super::PingerSet), summed over all members that there are and were; from
/// [`PingerSetHandle::totals`](super::PingerSetHandle::totals).
///
/// # Examples
///
/// ```
/// use futures_pinger::{Config, Frame, HeartbeatState, PingerSet};
///
/// # let outgoing = futures::sink::drain::<Frame>();
/// let set = PingerSet::new(Config::default());
/// let member = set.insert(outgoing);
/// let totals = set.handle().totals();
/// assert_eq!(totals.members(HeartbeatState::Idle), 1);
/// assert_eq!(totals.sent(), 0);
/// # drop(member);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    idle: u64,
    sending: u64,
    waiting: u64,
    suspect: u64,
    closing: u64,
    paused: u64,
    with_misses: u64,
    mass_verdicts: u64,
    gone: Gone,
}

/// What stays of a member that is gone: counters alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gone {
    sent: u64,
    answered: u64,
    missed: u64,
    stale: u64,
    unsolicited: u64,
    /// Verdicts by phase.
    write: u64,
    pong: u64,
    silence: u64,
}

impl Gone {
    pub(super) const NONE: Self = Self {
        sent: 0,
        answered: 0,
        missed: 0,
        stale: 0,
        unsolicited: 0,
        write: 0,
        pong: 0,
        silence: 0,
    };

    /// Adds the counters of a member.
    pub(super) fn add(&mut self, machine: &Machine<'_, &mut Record>, stats: Stats) {
        self.sent += stats.sent();
        self.answered += stats.answered();
        self.missed += stats.missed();
        self.stale += stats.stale();
        self.unsolicited += stats.unsolicited();
        if let Some(Verdict::TimedOut(timed_out)) = machine.verdict() {
            match timed_out.phase() {
                TimeoutPhase::Write => self.write += 1,
                TimeoutPhase::Pong => self.pong += 1,
                TimeoutPhase::Silence => self.silence += 1,
                // A set knows nothing of the frames of others.
                TimeoutPhase::Closing => {}
            }
        }
    }
}

impl Totals {
    pub(super) fn new(mass_verdicts: u64) -> Self {
        Self {
            mass_verdicts,
            ..Self::default()
        }
    }

    /// How many members there are in that [state](crate::Stats::state_at); none is [gone](HeartbeatState::Gone).
    #[must_use]
    pub const fn members(&self, state: HeartbeatState) -> u64 {
        match state {
            HeartbeatState::Idle => self.idle,
            HeartbeatState::Sending => self.sending,
            HeartbeatState::Waiting => self.waiting,
            HeartbeatState::Suspect => self.suspect,
            HeartbeatState::Closing => self.closing,
            HeartbeatState::Paused => self.paused,
            HeartbeatState::Gone => 0,
        }
    }

    /// How many members there are whose newest pings were missed, and not answered since.
    #[must_use]
    pub const fn with_misses(&self) -> u64 {
        self.with_misses
    }

    /// Pings that were flushed: see [`Stats::sent`].
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.gone.sent
    }

    /// Pings that were answered: see [`Stats::answered`].
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.gone.answered
    }

    /// Pings that were not answered in time: see [`Stats::missed`].
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.gone.missed
    }

    /// Pongs that came too late: see [`Stats::stale`].
    #[must_use]
    pub const fn stale(&self) -> u64 {
        self.gone.stale
    }

    /// Pongs that answer nothing: see [`Stats::unsolicited`].
    #[must_use]
    pub const fn unsolicited(&self) -> u64 {
        self.gone.unsolicited
    }

    /// How many heartbeats have ended by a verdict of that phase.
    #[must_use]
    pub const fn verdicts(&self, phase: TimeoutPhase) -> u64 {
        match phase {
            TimeoutPhase::Write => self.gone.write,
            TimeoutPhase::Pong => self.gone.pong,
            TimeoutPhase::Silence => self.gone.silence,
            TimeoutPhase::Closing => 0,
        }
    }

    /// How often many verdicts have fallen at once, or were
    /// [held](super::PingerSet::hold_mass_verdicts): of the members that were judged in a second, 64 at the
    /// least, more than a [share](super::PingerSet::with_mass_verdict_share). Those that go on for longer
    /// count once.
    #[must_use]
    pub const fn mass_verdicts(&self) -> u64 {
        self.mass_verdicts
    }

    /// Adds a member that has a seat.
    pub(super) fn add(&mut self, machine: &Machine<'_, &mut Record>, now: Option<Instant>) {
        let stats = machine.stats();
        self.gone.add(machine, stats);
        let members = match stats.state.at(now) {
            HeartbeatState::Idle => &mut self.idle,
            HeartbeatState::Sending => &mut self.sending,
            HeartbeatState::Waiting => &mut self.waiting,
            HeartbeatState::Suspect => &mut self.suspect,
            HeartbeatState::Closing => &mut self.closing,
            HeartbeatState::Paused => &mut self.paused,
            HeartbeatState::Gone => return,
        };
        *members += 1;
        self.with_misses += u64::from(machine.has_misses());
    }

    /// Adds those whose seats are another's by now.
    pub(super) fn add_gone(&mut self, gone: &Gone) {
        for (sum, figure) in [
            (&mut self.gone.sent, gone.sent),
            (&mut self.gone.answered, gone.answered),
            (&mut self.gone.missed, gone.missed),
            (&mut self.gone.stale, gone.stale),
            (&mut self.gone.unsolicited, gone.unsolicited),
            (&mut self.gone.write, gone.write),
            (&mut self.gone.pong, gone.pong),
            (&mut self.gone.silence, gone.silence),
        ] {
            *sum += figure;
        }
    }
}
