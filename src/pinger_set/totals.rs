//! The sums over all members of a set.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::TimeoutPhase;
use crate::machine::{Standing, Trouble};
use crate::stats::HeartbeatState;

/// The figures of a [`PingerSet`](super::PingerSet), summed over all members that there are and were; returned by
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
    /// By [`Figure`].
    figures: [u64; FIGURES],
    mass_verdicts: u64,
}

/// A figure that is summed.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Idle,
    Sending,
    Waiting,
    Suspect,
    Closing,
    Paused,
    WithMisses,
    Sent,
    Answered,
    Missed,
    Stale,
    Unsolicited,
    WriteVerdicts,
    PongVerdicts,
    SilenceVerdicts,
}

const FIGURES: usize = Figure::SilenceVerdicts as usize + 1;

impl Figure {
    /// The number of members in that state. Members that are gone are not counted.
    const fn members(state: HeartbeatState) -> Option<Self> {
        Some(match state {
            HeartbeatState::Idle => Self::Idle,
            HeartbeatState::Sending => Self::Sending,
            HeartbeatState::Waiting => Self::Waiting,
            HeartbeatState::Suspect => Self::Suspect,
            HeartbeatState::Closing => Self::Closing,
            HeartbeatState::Paused => Self::Paused,
            HeartbeatState::Gone => return None,
        })
    }

    /// The number of verdicts of that phase. A set has none of phase `Closing`, as it does not see the close
    /// frames of a connection.
    const fn verdicts(phase: TimeoutPhase) -> Option<Self> {
        Some(match phase {
            TimeoutPhase::Write => Self::WriteVerdicts,
            TimeoutPhase::Pong => Self::PongVerdicts,
            TimeoutPhase::Silence => Self::SilenceVerdicts,
            TimeoutPhase::Closing => return None,
        })
    }
}

/// The figures of some members, those that are gone included. They change under the locks of the members, and are
/// read without a lock.
#[derive(Debug, Default)]
pub(super) struct Tally([AtomicU64; FIGURES]);

impl Tally {
    /// Counts a new member, which has not begun.
    pub(super) fn join(&self) {
        self.add(Figure::Idle, 1);
    }

    /// Counts what has changed for a member between two times.
    #[inline(always)]
    pub(super) fn note(&self, before: &Standing, after: &Standing) {
        if before.state != after.state {
            self.change(Figure::members(before.state), Figure::members(after.state));
        }
        self.add(Figure::Sent, after.sent.wrapping_sub(before.sent));
        let answered = after.answered.wrapping_sub(before.answered);
        self.add(Figure::Answered, answered.into());
        self.count_unsolicited(after.unsolicited.wrapping_sub(before.unsolicited));
        if let Some(trouble) = after.trouble {
            self.note_trouble(before.trouble.unwrap_or_default(), trouble);
        }
    }

    #[cold]
    fn note_trouble(&self, before: Trouble, after: Trouble) {
        self.add(Figure::Missed, (after.missed - before.missed).into());
        self.add(Figure::Stale, after.stale - before.stale);
        // Nothing is taken away and added again: somebody may read in between.
        if before.has_misses != after.has_misses {
            let misses = |trouble: Trouble| trouble.has_misses.then_some(Figure::WithMisses);
            self.change(misses(before), misses(after));
        }
        if before.verdict != after.verdict {
            let verdicts = |trouble: Trouble| trouble.verdict.and_then(Figure::verdicts);
            self.change(verdicts(before), verdicts(after));
        }
    }

    #[inline]
    pub(super) fn count_unsolicited(&self, count: u32) {
        self.add(Figure::Unsolicited, count.into());
    }

    /// Counts one less in the first figure, and one more in the second.
    fn change(&self, from: Option<Figure>, to: Option<Figure>) {
        if let Some(from) = from {
            self.add(from, 1_u64.wrapping_neg());
        }
        if let Some(to) = to {
            self.add(to, 1);
        }
    }

    #[inline]
    fn add(&self, figure: Figure, difference: u64) {
        if difference != 0 {
            self.0[figure as usize].fetch_add(difference, Ordering::Relaxed);
        }
    }
}

impl Totals {
    pub(super) fn sum(tallies: &[Arc<Tally>], mass_verdicts: u64) -> Self {
        let sum = |figure: usize| {
            let all = tallies.iter().map(|tally| &tally.0[figure]);
            all.map(|figure| figure.load(Ordering::Relaxed)).sum()
        };
        Self {
            figures: array::from_fn(sum),
            mass_verdicts,
        }
    }

    const fn figure(&self, figure: Option<Figure>) -> u64 {
        match figure {
            Some(figure) => self.figures[figure as usize],
            None => 0,
        }
    }

    /// How many members there are in that state; none is [gone](HeartbeatState::Gone). A member that waits for
    /// its pong is suspect here once a ping was missed. A member that is suspect only because its pong takes
    /// longer than usual counts as waiting; [`suspects`](super::PingerSetHandle::suspects) counts both.
    #[must_use]
    pub const fn members(&self, state: HeartbeatState) -> u64 {
        self.figure(Figure::members(state))
    }

    /// How many members there are whose newest pings were missed, and not answered since.
    #[must_use]
    pub const fn with_misses(&self) -> u64 {
        self.figure(Some(Figure::WithMisses))
    }

    /// Pings that were flushed: see [`Stats::sent`](crate::Stats::sent).
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.figure(Some(Figure::Sent))
    }

    /// Pings that were answered: see [`Stats::answered`](crate::Stats::answered).
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.figure(Some(Figure::Answered))
    }

    /// Pings that were not answered in time: see [`Stats::missed`](crate::Stats::missed).
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.figure(Some(Figure::Missed))
    }

    /// Pongs that came too late: see [`Stats::stale`](crate::Stats::stale).
    #[must_use]
    pub const fn stale(&self) -> u64 {
        self.figure(Some(Figure::Stale))
    }

    /// Pongs that answer nothing: see [`Stats::unsolicited`](crate::Stats::unsolicited).
    #[must_use]
    pub const fn unsolicited(&self) -> u64 {
        self.figure(Some(Figure::Unsolicited))
    }

    /// How many heartbeats have ended by a verdict of that phase.
    #[must_use]
    pub const fn verdicts(&self, phase: TimeoutPhase) -> u64 {
        self.figure(Figure::verdicts(phase))
    }

    /// How often many verdicts have fallen at once, or were
    /// [held](super::PingerSet::hold_mass_verdicts): of the members that were judged in a second, 64 at the
    /// least, more than a [share](super::PingerSet::with_mass_verdict_share). Mass verdicts that go on for longer
    /// count once.
    #[must_use]
    pub const fn mass_verdicts(&self) -> u64 {
        self.mass_verdicts
    }
}
