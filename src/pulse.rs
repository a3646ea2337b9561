//! The state of one heartbeat in a few words: what a million connections cost.
//!
//! A heartbeat whose pings are taken and answered at once needs the words of [`Pulse`] and no more.
//! What trouble leaves behind is [`Rare`], and allocated with the first of it. Spans that the
//! configuration tells are kept in neither: a deadline is the start of its wait and the timeout
//! in force.

use std::ops::{Deref, DerefMut};

use crate::error::{TimedOut, TimeoutPhase};
use crate::payload::{Ledger, Packed};
use crate::rtt::Rtt;
use crate::stats::Counters;
use crate::time::{Span, Time};
use crate::watch::{Stage, Watch};

/// Why a ping is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Schedule,
    Miss,
    Request,
}

/// How far the close frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseStep {
    Due,
    Offered,
    Flushing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The next ping is due at `due`.
    Idle,
    /// A ping is due at once, whatever the schedule says.
    Due(Cause),
    /// A ping has been offered to the sink, which is not ready.
    Offered(Cause),
    /// The sink has the ping, which is not flushed.
    Flushing,
    /// The flushed ping waits for its answer.
    Waiting,
    Paused,
    /// The verdict has fallen, and its close frame is on its way.
    Closing(CloseStep),
    TimedOut,
    Stopped,
}

/// What is either so or not.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Flag {
    /// `due` is that of the first ping, by the initial delay.
    Initial = 1,
    /// Activity has put `due` off.
    Postponed = 1 << 1,
    /// There was more to read when it was last driven.
    Crowded = 1 << 2,
    /// The newest ping was flushed, or answered.
    Sent = 1 << 3,
    /// The wait for the sink began at [`Rare::offered`].
    Blocked = 1 << 4,
    /// The deadline is [`Rare::deadline`].
    Moved = 1 << 5,
    /// The sink has a frame that is not flushed. This is its shell's to know, and kept here as there
    /// is room.
    InSink = 1 << 6,
    /// The close frame has a sink of its own.
    Dedicated = 1 << 7,
}

#[derive(Debug, Clone, Copy)]
struct Flags(u8);

/// Where in the marks the stage begins.
const STAGE: u32 = Packed::MARKS.trailing_ones();

/// The state of one heartbeat. What it has in common with others is in its
/// [`Terms`](crate::heartbeat::Terms).
#[derive(Debug)]
pub(crate) struct Pulse {
    /// The pings issued, and the unproved: see [`Packed`].
    pings: u64,
    /// [`Ledger::at`]. While a ping is on offer and no pong of an earlier one can be read any more, it
    /// is the time of the offer.
    at: Time,
    /// The next point of the grid at which a ping is due.
    pub(crate) due: Time,
    /// The last verified pong, or the start.
    pub(crate) proof: Time,
    pub(crate) rtt: Rtt,
    rare: Option<Box<Rare>>,
    answered: u32,
    pub(crate) phase: Phase,
    /// Of the ledger; and above them the stage of the watch while a ping is out.
    marks: u8,
    flags: Flags,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Pulse>() <= 64);

/// What a quiet heartbeat has no need of.
#[derive(Debug, Clone)]
struct Rare {
    /// Consecutive pings without an answer.
    misses: u32,
    /// How often the adaptive timeout has doubled.
    doublings: u32,
    /// Pings that left beside the grid since `due` was counted.
    beside: u32,
    missed: u32,
    stale: u64,
    unsolicited: u64,
    late_wakes: u64,
    worst_lateness: Span,
    write_blocked: Span,
    /// The worst lateness while the newest ping was out.
    lateness: Span,
    /// Items read past a deadline while more are ready; none as long as none is passed.
    backlog: Option<u32>,
    /// When the newest ping was offered first, unless the ledger tells.
    offered: Time,
    /// The deadline that was moved by a grace, or that of the close frame.
    deadline: Time,
    /// From when `due` was counted, where that is never.
    base: Time,
    /// Of the verdict.
    elapsed: Span,
    timeout: TimeoutPhase,
    close_sent: bool,
}

impl Rare {
    const NONE: Self = Self {
        misses: 0,
        doublings: 0,
        beside: 0,
        missed: 0,
        stale: 0,
        unsolicited: 0,
        late_wakes: 0,
        worst_lateness: Span::ZERO,
        write_blocked: Span::ZERO,
        lateness: Span::ZERO,
        backlog: None,
        offered: Time::ORIGIN,
        deadline: Time::ORIGIN,
        base: Time::ORIGIN,
        elapsed: Span::ZERO,
        timeout: TimeoutPhase::Pong,
        close_sent: false,
    };
}

impl Pulse {
    /// One that starts at `now` and has nothing due yet.
    pub(crate) const fn new(now: Time) -> Self {
        let packed = Ledger::new().pack();
        Self {
            pings: packed.pings,
            at: packed.at,
            due: Time::NEVER,
            proof: now,
            rtt: Rtt::NONE,
            rare: None,
            answered: 0,
            phase: Phase::Idle,
            marks: packed.marks | (Stage::Final as u8) << STAGE,
            flags: Flags(Flag::Initial as u8),
        }
    }

    #[inline]
    pub(crate) const fn is(&self, flag: Flag) -> bool {
        self.flags.0 & flag as u8 != 0
    }

    #[inline]
    pub(crate) const fn set(&mut self, flag: Flag, on: bool) {
        if on {
            self.flags.0 |= flag as u8;
        } else {
            self.flags.0 &= !(flag as u8);
        }
    }

    #[inline]
    fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&Rare::NONE)
    }

    #[cold]
    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| Box::new(Rare::NONE))
    }

    /// The verdict has fallen, or it was stopped.
    #[inline]
    pub(crate) const fn is_over(&self) -> bool {
        matches!(
            self.phase,
            Phase::Closing(_) | Phase::TimedOut | Phase::Stopped
        )
    }

    // --- the grid ---

    /// The number of the ping behind which the share of the jitter was drawn that led to `due`.
    #[inline]
    pub(crate) fn drawn_at(&self) -> u64 {
        self.ledger().issued() - u64::from(self.rare().beside)
    }

    /// A ping has left that moves no due time.
    pub(crate) fn count_beside(&mut self) {
        let beside = &mut self.rare_mut().beside;
        *beside = beside.saturating_add(1);
    }

    /// A share of the jitter is drawn anew: the wait for the next ping begins.
    #[inline]
    pub(crate) fn begin_wait(&mut self) {
        self.set(Flag::Initial, false);
        self.set(Flag::Postponed, false);
        if let Some(rare) = &mut self.rare {
            rare.beside = 0;
        }
    }

    #[inline]
    pub(crate) fn set_due(&mut self, base: Time, due: Time) {
        self.due = due;
        if due == Time::NEVER {
            self.rare_mut().base = base;
        }
    }

    /// From when a `due` was counted to which it was that `wait`.
    #[inline]
    pub(crate) fn base(&self, wait: Span) -> Time {
        match self.due {
            Time::NEVER => self.rare().base,
            due => due.minus(wait),
        }
    }

    // --- a ping's way ---

    #[inline]
    pub(crate) const fn ledger(&self) -> Ledger {
        let packed = Packed {
            pings: self.pings,
            at: self.at,
            marks: self.marks & Packed::MARKS,
        };
        packed.unpack()
    }

    #[inline]
    pub(crate) fn ledger_mut(&mut self) -> LedgerMut<'_> {
        LedgerMut {
            ledger: self.ledger(),
            pulse: self,
        }
    }

    #[inline]
    const fn stage(&self) -> Stage {
        match self.marks >> STAGE {
            0 => Stage::Checkpoint,
            1 => Stage::Graceful,
            2 => Stage::Extended,
            _ => Stage::Final,
        }
    }

    #[inline]
    const fn set_stage(&mut self, stage: Stage) {
        self.marks = self.marks & Packed::MARKS | (stage as u8) << STAGE;
    }

    /// A ping is on offer from `since` on.
    #[inline]
    pub(crate) fn offer(&mut self, since: Time, cause: Cause, stage: Stage) {
        if let Some(rare) = &mut self.rare {
            rare.lateness = Span::ZERO;
            rare.backlog = None;
        }
        self.phase = Phase::Offered(cause);
        self.begin_watch(stage);
        // The pong of an earlier one may yet be read, and wants its own time.
        let blocked = self.ledger().is_unread();
        self.set(Flag::Blocked, blocked);
        if blocked {
            self.rare_mut().offered = since;
        } else {
            self.at = since;
        }
    }

    /// The sink takes that ping.
    #[inline]
    pub(crate) fn issue(&mut self, at: Time) {
        let since = self.since();
        let crowded = self.is(Flag::Crowded);
        self.ledger_mut().issue(at, crowded);
        self.set(Flag::Blocked, since != at);
        if since != at {
            self.rare_mut().offered = since;
        }
        self.set(Flag::Sent, false);
        self.phase = Phase::Flushing;
    }

    /// It is flushed, and waits for its answer.
    #[inline]
    pub(crate) fn flushed(&mut self, at: Time, stage: Stage) {
        self.at = at;
        self.set(Flag::Blocked, false);
        self.begin_watch(stage);
        self.phase = Phase::Waiting;
    }

    /// Since when it has waited: for the sink, or for its answer.
    #[inline]
    pub(crate) fn since(&self) -> Time {
        if self.is(Flag::Blocked) {
            self.rare().offered
        } else {
            self.at
        }
    }

    /// How many pings have been sent.
    pub(crate) fn sent(&self) -> u64 {
        let unsent = u64::from(!self.is(Flag::Sent));
        self.ledger().issued().saturating_sub(unsent)
    }

    // --- its deadline ---

    #[inline]
    fn begin_watch(&mut self, stage: Stage) {
        self.set_stage(stage);
        self.set(Flag::Moved, false);
    }

    /// The deadline of the ping that is out, by the timeout in force.
    pub(crate) fn watch(&self, timeout: Span, grace: bool) -> Watch {
        Watch::resume(self.deadline(timeout), timeout, grace, self.stage())
    }

    #[inline]
    fn deadline(&self, timeout: Span) -> Time {
        if self.is(Flag::Moved) {
            self.rare().deadline
        } else {
            self.since().plus(timeout)
        }
    }

    /// When to look at that ping: [`Watch::next`].
    #[inline]
    pub(crate) fn next_look(&self, timeout: Span) -> Time {
        self.stage().next_look(self.deadline(timeout), timeout)
    }

    /// What has become of it.
    #[inline]
    pub(crate) fn keep(&mut self, watch: &Watch) {
        self.set_stage(watch.stage());
        let moved = watch.deadline() != self.since().plus(watch.span());
        self.set(Flag::Moved, moved);
        if moved {
            self.rare_mut().deadline = watch.deadline();
        }
    }

    pub(crate) fn backlog(&self) -> Option<u32> {
        self.rare().backlog
    }

    pub(crate) fn set_backlog(&mut self, backlog: Option<u32>) {
        if backlog != self.backlog() {
            self.rare_mut().backlog = backlog;
        }
    }

    // --- misses ---

    /// Consecutive pings without an answer.
    #[inline]
    pub(crate) fn misses(&self) -> u32 {
        self.rare().misses
    }

    #[inline]
    pub(crate) fn clear_misses(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.misses = 0;
        }
    }

    /// How often the adaptive timeout has doubled.
    pub(crate) fn doublings(&self) -> u32 {
        self.rare().doublings
    }

    #[inline]
    pub(crate) fn clear_doublings(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.doublings = 0;
        }
    }

    pub(crate) fn add_doubling(&mut self) {
        let doublings = &mut self.rare_mut().doublings;
        *doublings = doublings.saturating_add(1);
    }

    /// One more in a row.
    pub(crate) fn add_miss(&mut self) {
        let misses = &mut self.rare_mut().misses;
        *misses = misses.saturating_add(1);
    }

    // --- the counters ---

    #[inline]
    pub(crate) const fn count_answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    pub(crate) fn count_missed(&mut self) {
        let missed = &mut self.rare_mut().missed;
        *missed = missed.saturating_add(1);
    }

    /// The totals.
    pub(crate) fn strays(&self) -> Strays {
        let Rare {
            unsolicited, stale, ..
        } = *self.rare();
        Strays { unsolicited, stale }
    }

    pub(crate) fn count_strays(&mut self, unsolicited: u64, stale: u64) {
        let rare = self.rare_mut();
        rare.unsolicited += unsolicited;
        rare.stale += stale;
    }

    pub(crate) fn count_late(&mut self, late: Span) {
        let rare = self.rare_mut();
        rare.late_wakes += 1;
        rare.worst_lateness = rare.worst_lateness.max(late);
        rare.lateness = rare.lateness.max(late);
    }

    /// A ping has waited for the sink.
    #[inline]
    pub(crate) fn count_blocked(&mut self, wait: Span) {
        if wait > Span::ZERO {
            let blocked = &mut self.rare_mut().write_blocked;
            *blocked = blocked.saturating_add(wait);
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let rare = self.rare();
        Counters {
            sent: self.sent(),
            answered: self.answered.into(),
            missed: rare.missed.into(),
            stale: rare.stale,
            unsolicited: rare.unsolicited,
            late_wakes: rare.late_wakes,
            worst_lateness: rare.worst_lateness,
            write_blocked: rare.write_blocked,
        }
    }

    // --- the verdict ---

    /// The ping has waited for too long; whatever the verdict tells stays as it is.
    pub(crate) fn condemn(&mut self, timeout: TimeoutPhase, elapsed: Span) {
        let rare = self.rare_mut();
        rare.timeout = timeout;
        rare.elapsed = elapsed;
        self.phase = Phase::TimedOut;
    }

    /// Its close frame has until then.
    pub(crate) fn close_by(&mut self, deadline: Time) {
        self.rare_mut().deadline = deadline;
        self.phase = Phase::Closing(CloseStep::Due);
    }

    pub(crate) fn close_deadline(&self) -> Time {
        self.rare().deadline
    }

    pub(crate) fn close_sent(&mut self) {
        self.rare_mut().close_sent = true;
    }

    pub(crate) fn timed_out(&self) -> TimedOut {
        let rare = self.rare();
        TimedOut {
            phase: rare.timeout,
            elapsed: rare.elapsed,
            missed: rare.misses,
            answered: self.answered.into(),
            last_rtt: self.rtt.latest_span(),
            lateness: rare.lateness,
            close_sent: rare.close_sent,
        }
    }
}

/// The ledger, to be changed: it is put away when this is dropped.
pub(crate) struct LedgerMut<'a> {
    pulse: &'a mut Pulse,
    ledger: Ledger,
}

impl Deref for LedgerMut<'_> {
    type Target = Ledger;

    #[inline]
    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl DerefMut for LedgerMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

impl Drop for LedgerMut<'_> {
    #[inline]
    fn drop(&mut self) {
        let Packed { pings, at, marks } = self.ledger.pack();
        let stage = self.pulse.marks & !Packed::MARKS;
        (self.pulse.pings, self.pulse.at, self.pulse.marks) = (pings, at, stage | marks);
    }
}

/// Pongs that answer nothing, or too late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strays {
    pub(crate) unsolicited: u64,
    pub(crate) stale: u64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Span = Span::nanos(1_000_000_000);

    fn at(secs: u64) -> Time {
        Time::ORIGIN.plus(Duration::from_secs(secs).into())
    }

    /// With a ping that the sink has taken.
    fn flushing(offered: u64, taken: u64) -> Pulse {
        let mut pulse = Pulse::new(at(0));
        pulse.offer(at(offered), Cause::Schedule, Stage::Checkpoint);
        pulse.issue(at(taken));
        pulse
    }

    #[test]
    fn the_stage_and_the_ledger_share_their_marks_and_do_not_touch_each_other() {
        let mut pulse = Pulse::new(Time::ORIGIN);
        let stages = [
            Stage::Checkpoint,
            Stage::Graceful,
            Stage::Extended,
            Stage::Final,
        ];
        for stage in stages {
            pulse.ledger_mut().issue(Time::ORIGIN, true);
            let ledger = pulse.ledger();
            pulse.set_stage(stage);
            assert_eq!((pulse.stage(), pulse.ledger()), (stage, ledger));
            pulse.ledger_mut().late = true;
            assert_eq!((pulse.stage(), pulse.ledger().late), (stage, true));
        }
    }

    #[test]
    fn a_quiet_cycle_allocates_nothing() {
        let mut pulse = flushing(1, 1);
        pulse.count_blocked(at(1).since(pulse.since()));
        pulse.flushed(at(1), Stage::Checkpoint);
        let watch = pulse.watch(SECOND, true);
        pulse.keep(&watch);
        pulse.set_backlog(None);
        pulse.clear_misses();
        pulse.count_answered();
        pulse.begin_wait();
        pulse.set_due(at(1), at(21));
        assert!(pulse.rare.is_none());
        assert_eq!(pulse.base(Duration::from_secs(20).into()), at(1));
    }

    #[test]
    fn each_flag_is_a_bit_of_its_own() {
        let flags = [
            Flag::Initial,
            Flag::Postponed,
            Flag::Crowded,
            Flag::Sent,
            Flag::Blocked,
            Flag::Moved,
            Flag::InSink,
            Flag::Dedicated,
        ];
        let mut pulse = Pulse::new(at(0));
        assert!(pulse.is(Flag::Initial));
        pulse.set(Flag::Initial, false);
        for flag in flags {
            pulse.set(flag, true);
            assert_eq!(flags.into_iter().filter(|flag| pulse.is(*flag)).count(), 1);
            assert!(pulse.is(flag));
            pulse.set(flag, false);
        }
        assert_eq!(pulse.flags.0, 0);
    }

    #[test]
    fn a_ping_waits_since_its_first_offer_and_then_since_its_flush() {
        let mut pulse = flushing(1, 4);
        assert_eq!((pulse.since(), pulse.ledger().at), (at(1), at(4)));
        pulse.flushed(at(6), Stage::Final);
        assert_eq!((pulse.since(), pulse.ledger().at), (at(6), at(6)));
    }

    #[test]
    fn an_offer_leaves_the_time_of_an_earlier_ping_alone_while_its_pong_is_unread() {
        let mut pulse = flushing(1, 1);
        pulse.flushed(at(1), Stage::Final);
        pulse.ledger_mut().settle();
        pulse.offer(at(5), Cause::Schedule, Stage::Final);
        assert_eq!((pulse.since(), pulse.ledger().at), (at(5), at(1)));
        pulse.issue(at(5));
        assert_eq!((pulse.since(), pulse.ledger().at), (at(5), at(5)));
    }

    #[test]
    fn a_deadline_is_counted_from_the_wait_unless_it_was_moved() {
        let mut pulse = flushing(1, 1);
        assert_eq!(pulse.watch(SECOND, true).deadline(), at(2));
        pulse.keep(&Watch::resume(at(7), SECOND, true, Stage::Final));
        let watch = pulse.watch(SECOND, true);
        assert_eq!((watch.deadline(), watch.stage()), (at(7), Stage::Final));

        pulse.flushed(at(8), Stage::Checkpoint);
        let watch = pulse.watch(SECOND, true);
        assert_eq!(
            (watch.deadline(), watch.stage()),
            (at(9), Stage::Checkpoint)
        );
    }

    #[test]
    fn from_when_a_wait_without_end_was_counted_is_kept() {
        let mut pulse = Pulse::new(at(0));
        pulse.set_due(at(3), Time::NEVER);
        assert_eq!(pulse.base(Span::NEVER), at(3));
        pulse.set_due(at(3), at(4));
        assert_eq!(pulse.base(SECOND), at(3));
    }

    #[test]
    fn pings_beside_the_grid_draw_no_share_of_the_jitter() {
        let mut pulse = flushing(1, 1);
        pulse.count_beside();
        assert_eq!(pulse.drawn_at(), 0);
        pulse.begin_wait();
        assert_eq!(pulse.drawn_at(), 1);
    }

    #[test]
    fn counters_that_are_full_stay_full() {
        let mut pulse = flushing(1, 1);
        pulse.answered = u32::MAX;
        let rare = pulse.rare_mut();
        (rare.misses, rare.missed, rare.doublings) = (u32::MAX, u32::MAX, u32::MAX);
        rare.write_blocked = Span::NEVER;
        pulse.count_answered();
        pulse.count_missed();
        pulse.add_miss();
        pulse.add_doubling();
        pulse.count_blocked(SECOND);
        let counters = pulse.counters();
        assert_eq!(
            (counters.answered, counters.missed),
            (u32::MAX.into(), u32::MAX.into())
        );
        assert_eq!((pulse.misses(), pulse.doublings()), (u32::MAX, u32::MAX));
        assert_eq!(counters.write_blocked, Span::NEVER);
    }

    #[test]
    fn the_newest_ping_counts_as_sent_once_it_is() {
        let mut pulse = Pulse::new(at(0));
        assert_eq!(pulse.sent(), 0);
        pulse.set(Flag::Sent, true);
        assert_eq!(pulse.sent(), 0, "there is none");
        pulse.offer(at(1), Cause::Request, Stage::Final);
        assert_eq!(pulse.sent(), 0);
        pulse.issue(at(1));
        assert_eq!(pulse.sent(), 0);
        pulse.set(Flag::Sent, true);
        assert_eq!(pulse.sent(), 1);
    }
}
