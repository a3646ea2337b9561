//! The state of one heartbeat, field by field. The size of a record is what each of a million
//! connections costs.
//!
//! A heartbeat whose pings are taken and answered at once needs the fields of [`Record`] and no
//! more. What only misses, stalls and blocked writes need is in [`Rare`], which is allocated when the
//! first of them happens. Spans that the configuration has are in neither: a deadline is computed from
//! the start of its wait and the timeout in force.

use super::deadline::{Deadline, Grace};
use super::schedule::Wait;
use crate::error::{TimedOut, TimeoutPhase};
use crate::frame::CloseReason;
use crate::rtt::Rtt;
use crate::stats::Counters;
use crate::sync::Arc;
use crate::time::{Span, Time};

/// Why a ping is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Schedule,
    Miss,
    Request,
    /// The sink has refused the same ping before.
    Refused,
}

/// How far the close frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseStep {
    Due,
    Offered,
    Flushing,
}

/// Which way a close frame of the connection itself has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Sent,
    Read,
    Both,
}

/// What a heartbeat will do when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The heartbeat waits for the initial delay.
    Waiting,
    /// A ping was asked for.
    Pinging,
    Paused,
    /// The heartbeat was paused and resumed: it waits for an interval.
    Resumed,
}

/// How a heartbeat has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    TimedOut,
    Requested,
    /// The connection is over, or the heartbeat was dropped.
    Disconnected,
    /// The connection is over after its closing handshake.
    Closed,
}

/// What a heartbeat is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The heartbeat was not driven yet. Silence counts only from when it is.
    NotBegun(Start),
    /// The next ping is due at [`Record::due`].
    Idle,
    /// A ping is due at once, whatever the schedule says.
    Due(Cause),
    /// A ping is offered to the sink, which has not taken it.
    Offered(Cause),
    /// The sink has refused the ping, and is not asked again until a flush of the application succeeds.
    Refused(Cause),
    /// The sink has the ping, and has not flushed it.
    Flushing,
    /// The flushed ping waits for its answer.
    Waiting,
    /// No pings are sent: the peer has sent nothing that counts since [`Record::waiting_since`].
    Watching,
    Paused,
    /// The verdict has fallen, and its close frame is on its way.
    Closing(CloseStep),
    /// A close frame of the connection itself was sent, or read, or both: no ping is sent any more, and
    /// the connection has until [`Record::close_deadline`] to end.
    Handshake(Handshake),
    Ended(End),
}

/// What has become of the newest ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    /// No ping was sent, or the newest was answered by its pong, missed, or written off.
    NotAwaited,
    Unanswered,
    /// Something else than its pong answered the newest ping; the pong may still be read.
    AnsweredByPolicy,
}

/// The kind of the wait that ends at [`Record::due`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitKind {
    /// The initial delay.
    First,
    /// The interval.
    Interval,
    /// An interval from the peer's latest activity on.
    Postponed,
    /// The wait has ended while a ping is out: the next ping waits for the end of that one.
    Over,
    /// A random time within a new, shorter interval by which the pings of many members were overdue.
    Spread,
}

/// The state of one heartbeat. What it has in common with others is in its
/// [`Terms`](super::Terms).
#[derive(Debug)]
pub(crate) struct Record {
    /// How many pings were handed out; the newest has this number.
    pub(super) issued: u64,
    /// The tag of the newest ping, so that its pong is compared and not hashed.
    pub(super) tag: u64,
    /// The start of the current wait: for the sink, when the newest ping was offered; for an answer, when
    /// that ping was flushed; where no pings are sent, when the peer was heard last.
    pub(super) waiting_since: Time,
    /// The next point of the grid at which a ping is due.
    pub(super) due: Time,
    /// When the last verified pong came; before any, the start.
    pub(super) last_proof: Time,
    pub(super) rtt: Rtt,
    rare: Option<Box<Rare>>,
    answered: u32,
    /// Pongs that answer nothing, counted up to 2³² − 1.
    unsolicited: u32,
    pub(super) phase: Phase,
    /// What is left of the grace of the deadline in force.
    grace: Grace,
    pub(super) newest: Newest,
    /// How many pings were handed out since the newest that a pong proved. If there are more than 255, the
    /// pongs of the oldest prove nothing any more.
    pub(super) unproved: u8,
    pub(super) wait_kind: WaitKind,
    /// Whether the newest ping was flushed, or answered.
    pub(super) sent: bool,
    /// Whether a wake came late while the newest ping was out. Its round trip is then no sample, as it is
    /// not that of the network alone.
    pub(super) late: bool,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Record>() <= 80);

/// The fields that a quiet heartbeat does not need.
#[derive(Debug, Clone)]
struct Rare {
    /// Consecutive pings without an answer.
    misses: u32,
    /// How often the adaptive timeout has doubled.
    doublings: u32,
    /// Pings that left off the grid since the wait for `due` began.
    off_grid: u32,
    missed: u32,
    stale: u64,
    late_wakes: u64,
    worst_lateness: Span,
    write_blocked: Span,
    /// The worst lateness while the newest ping was out.
    lateness: Span,
    /// Items that were read past a deadline while more are ready; none while no deadline is passed.
    backlog: Option<u32>,
    /// When the newest ping was handed to the sink or flushed, where this is not `waiting_since`.
    sent_at: Option<Time>,
    /// When a ping was answered last; `None` once a probe has begun, or has taken this answer.
    answered_at: Option<Time>,
    /// The deadline, if a grace or bytes that move have moved it.
    moved_to: Option<Time>,
    /// The start of the wait that ends at `due`, where `due` is never.
    wait_start: Time,
    /// The deadline of the first ping that was written off as unread since the last proof of life, unless
    /// everything has been read since.
    unread_deadline: Option<Time>,
    /// Since when the pong of a ping that was out cannot be read.
    unread_since: Option<Time>,
    /// For how long no pong could be read, in all.
    away: Span,
    /// For how long no pong could be read, since the last proof of life.
    away_unproved: Span,
    /// When the close frame, or the closing handshake, is given up.
    close_deadline: Time,
    /// The elapsed time that the verdict reports.
    elapsed: Span,
    timeout: TimeoutPhase,
    close_sent: bool,
    /// Whether the verdict is that no ping of the peer has come.
    missed_pings: bool,
    /// Whether a ping before the newest has no answer, so that an answer without a payload may be meant for
    /// that ping.
    in_doubt: bool,
    /// The reason of a close frame that was requested; `None` for the close frame of a verdict.
    close_reason: Option<Arc<CloseReason>>,
}

impl Rare {
    const NONE: Self = Self {
        misses: 0,
        doublings: 0,
        off_grid: 0,
        missed: 0,
        stale: 0,
        late_wakes: 0,
        worst_lateness: Span::ZERO,
        write_blocked: Span::ZERO,
        lateness: Span::ZERO,
        backlog: None,
        sent_at: None,
        answered_at: None,
        moved_to: None,
        wait_start: Time::ORIGIN,
        unread_deadline: None,
        unread_since: None,
        away: Span::ZERO,
        away_unproved: Span::ZERO,
        close_deadline: Time::ORIGIN,
        elapsed: Span::ZERO,
        timeout: TimeoutPhase::Pong,
        close_sent: false,
        missed_pings: false,
        in_doubt: false,
        close_reason: None,
    };

    /// The time in which no pong could be read is over.
    fn end_unread(&mut self, now: Time) {
        if let Some(since) = self.unread_since.take() {
            let away = now.since(since);
            self.away = self.away.saturating_add(away);
            self.away_unproved = self.away_unproved.saturating_add(away);
        }
    }
}

impl Record {
    /// The record of a heartbeat that has not begun.
    pub(crate) const fn new() -> Self {
        Self {
            issued: 0,
            tag: 0,
            waiting_since: Time::ORIGIN,
            due: Time::NEVER,
            last_proof: Time::ORIGIN,
            rtt: Rtt::NONE,
            rare: None,
            answered: 0,
            unsolicited: 0,
            phase: Phase::NotBegun(Start::Waiting),
            grace: Grace::Spent,
            newest: Newest::NotAwaited,
            unproved: 0,
            wait_kind: WaitKind::First,
            sent: false,
            late: false,
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

    /// Whether the verdict has fallen, or the heartbeat has ended otherwise.
    #[inline]
    pub(super) const fn is_over(&self) -> bool {
        matches!(
            self.phase,
            Phase::Closing(_) | Phase::Handshake(_) | Phase::Ended(_)
        )
    }

    #[inline]
    pub(super) fn is_unanswered(&self) -> bool {
        self.newest == Newest::Unanswered
    }

    // --- the schedule ---

    /// The number of the ping after which the share of the jitter was drawn that led to `due`.
    #[inline]
    pub(super) fn jitter_seed(&self) -> u64 {
        self.issued - u64::from(self.rare().off_grid)
    }

    /// A ping has left that moves no due time.
    pub(super) fn count_off_grid(&mut self) {
        let off_grid = &mut self.rare_mut().off_grid;
        *off_grid = off_grid.saturating_add(1);
    }

    /// The wait for the next ping begins, with a new share of the jitter.
    #[inline]
    pub(super) fn begin_wait(&mut self) {
        self.wait_kind = WaitKind::Interval;
        if let Some(rare) = &mut self.rare {
            rare.off_grid = 0;
        }
    }

    #[inline]
    pub(super) fn set_wait(&mut self, wait: Wait) {
        self.due = wait.due;
        if wait.due == Time::NEVER {
            self.rare_mut().wait_start = wait.start;
        }
    }

    /// The start of the wait that ends at `due`: `due − span`, or the stored start if `due` is never.
    #[inline]
    pub(super) fn wait_start(&self, span: Span) -> Time {
        match self.due {
            Time::NEVER => self.rare().wait_start,
            due => due.minus(span),
        }
    }

    // --- the way of a ping ---

    /// A ping is offered to the sink from `since` on.
    #[inline]
    pub(super) fn offer(&mut self, since: Time, cause: Cause, grace: Grace) {
        if let Some(rare) = &mut self.rare {
            rare.lateness = Span::ZERO;
            // After a ping that was written off as unread, the count of items goes on.
            if rare.unread_deadline.is_none() {
                rare.backlog = None;
            }
        }
        self.phase = Phase::Offered(cause);
        self.begin_write(since, grace);
    }

    /// The sink has a write timeout from `since` on to take and to flush the ping that is on offer.
    #[inline]
    pub(super) fn begin_write(&mut self, since: Time, grace: Grace) {
        if self.newest != Newest::NotAwaited {
            // The pong of a ping that was sent may still be read, and is measured from its own time.
            self.rare_mut().sent_at = Some(self.sent_at());
        }
        self.waiting_since = since;
        self.begin_deadline(grace);
    }

    /// The sink takes the newest ping.
    #[inline]
    pub(super) fn hand_over(&mut self, at: Time) {
        self.set_sent_at(at);
        self.sent = false;
        self.phase = Phase::Flushing;
    }

    /// No pings are sent, and the peer is silent from `since` on.
    pub(super) fn listen(&mut self, since: Time, grace: Grace) {
        if let Some(rare) = &mut self.rare {
            rare.lateness = Span::ZERO;
            rare.backlog = None;
        }
        self.phase = Phase::Watching;
        self.waiting_since = since;
        self.begin_deadline(grace);
    }

    /// The newest ping is flushed, and waits for its answer.
    #[inline]
    pub(super) fn flushed(&mut self, at: Time, grace: Grace) {
        self.waiting_since = at;
        self.set_sent_at(at);
        self.begin_deadline(grace);
        self.phase = Phase::Waiting;
    }

    /// When the newest ping was flushed, or handed to the sink while the flush is not complete.
    #[inline]
    pub(super) fn sent_at(&self) -> Time {
        self.rare().sent_at.unwrap_or(self.waiting_since)
    }

    #[inline]
    fn set_sent_at(&mut self, at: Time) {
        if at != self.waiting_since {
            self.rare_mut().sent_at = Some(at);
        } else if let Some(rare) = &mut self.rare {
            rare.sent_at = None;
        }
    }

    /// How many pings have been sent.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.issued.saturating_sub(u64::from(!self.sent))
    }

    // --- the deadline of a ping ---

    #[inline]
    fn begin_deadline(&mut self, grace: Grace) {
        self.grace = grace;
        if let Some(rare) = &mut self.rare {
            rare.moved_to = None;
        }
    }

    #[inline]
    fn deadline_at(&self, timeout: Span) -> Time {
        let moved_to = self.rare.as_ref().and_then(|rare| rare.moved_to);
        moved_to.unwrap_or_else(|| self.waiting_since.plus(timeout))
    }

    /// Whether the deadline was not looked at since its wait began.
    pub(super) fn is_fresh(&self) -> bool {
        self.grace == Grace::Checkpoint
    }

    /// The deadline of the ping that is on offer or out, by the timeout in force.
    pub(super) fn deadline(&self, timeout: Span) -> Deadline {
        Deadline {
            at: self.deadline_at(timeout),
            timeout,
            grace: self.grace,
        }
    }

    /// When to look at that deadline: [`Deadline::next_look`].
    #[inline]
    pub(super) fn next_look(&self, timeout: Span) -> Time {
        self.grace.next_look(self.deadline_at(timeout), timeout)
    }

    /// Keeps what a look has made of the deadline.
    #[inline]
    pub(super) fn keep(&mut self, deadline: &Deadline) {
        self.grace = deadline.grace;
        if deadline.at != self.waiting_since.plus(deadline.timeout) {
            self.rare_mut().moved_to = Some(deadline.at);
        } else if let Some(rare) = &mut self.rare {
            rare.moved_to = None;
        }
    }

    /// The deadline that a backlog is counted from, where pings were written off as unread.
    pub(super) fn unread_deadline(&self) -> Option<Time> {
        self.rare().unread_deadline
    }

    /// The newest ping is written off as unread: it is neither answered nor missed.
    pub(super) fn write_off_unread(&mut self, deadline: Time) {
        self.rare_mut().unread_deadline.get_or_insert(deadline);
        self.newest = Newest::NotAwaited;
        self.phase = Phase::Idle;
    }

    #[inline]
    pub(super) fn clear_unread(&mut self, now: Time) {
        if let Some(rare) = &mut self.rare {
            rare.end_unread(now);
            rare.unread_deadline = None;
            rare.away_unproved = Span::ZERO;
        }
    }

    /// The pong of the ping that is out cannot be read at present.
    pub(super) fn begin_unread(&mut self, now: Time) {
        self.rare_mut().unread_since.get_or_insert(now);
    }

    pub(super) fn backlog(&self) -> Option<u32> {
        self.rare().backlog
    }

    /// All that was there to read has been read.
    #[inline]
    pub(super) fn end_backlog(&mut self, now: Time) {
        if let Some(rare) = &mut self.rare {
            rare.end_unread(now);
            rare.backlog = None;
            rare.unread_deadline = None;
        }
    }

    #[inline]
    pub(super) fn set_backlog(&mut self, backlog: Option<u32>) {
        if backlog.is_some() {
            self.rare_mut().backlog = backlog;
        } else if let Some(rare) = &mut self.rare {
            rare.backlog = None;
        }
    }

    // --- misses ---

    /// Consecutive pings without an answer.
    #[inline]
    pub(super) fn misses(&self) -> u32 {
        self.rare().misses
    }

    #[inline]
    pub(super) fn clear_misses(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.misses = 0;
        }
    }

    /// How often the adaptive timeout has doubled.
    pub(super) fn doublings(&self) -> u32 {
        self.rare().doublings
    }

    #[inline]
    pub(super) fn clear_doublings(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.doublings = 0;
        }
    }

    /// One more miss in a row.
    pub(super) fn add_miss(&mut self) {
        let rare = self.rare_mut();
        rare.misses = rare.misses.saturating_add(1);
        rare.doublings = rare.doublings.saturating_add(1);
    }

    /// From now on [`take_answer`](Self::take_answer) returns the time of a new answer.
    pub(super) fn await_answer(&mut self) {
        self.rare_mut().answered_at = None;
    }

    /// Takes the time of the last answer, unless it was taken before.
    pub(super) fn take_answer(&mut self) -> Option<Time> {
        self.rare.as_mut()?.answered_at.take()
    }

    /// The newest ping has no answer, and waits for none any more.
    pub(super) fn give_up(&mut self) {
        self.rare_mut().in_doubt = true;
    }

    /// Whether a ping before the newest was given up, and none was answered since.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.rare().in_doubt
    }

    /// The newest ping is answered, and with it all that came before. Returns whether this is its first
    /// answer.
    #[inline]
    pub(super) fn note_answer(&mut self, at: Time) -> bool {
        let first = self.is_unanswered();
        if let Some(rare) = &mut self.rare {
            rare.misses = 0;
            rare.in_doubt = false;
            if first {
                rare.doublings = 0;
                rare.answered_at = Some(at);
            }
        }
        first
    }

    pub(super) fn clear_doubt(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.in_doubt = false;
        }
    }

    // --- the counters ---

    #[inline]
    pub(super) const fn count_answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    pub(super) fn count_missed(&mut self) {
        let missed = &mut self.rare_mut().missed;
        *missed = missed.saturating_add(1);
    }

    #[inline]
    pub(super) const fn answered(&self) -> u32 {
        self.answered
    }

    #[inline]
    pub(super) const fn unsolicited(&self) -> u32 {
        self.unsolicited
    }

    /// Whether nothing has happened yet but pings that were taken and answered at once.
    #[inline]
    pub(super) const fn is_quiet(&self) -> bool {
        self.rare.is_none()
    }

    pub(super) fn missed(&self) -> u32 {
        self.rare().missed
    }

    pub(super) fn strays(&self) -> Strays {
        Strays {
            unsolicited: self.unsolicited.into(),
            stale: self.rare().stale,
        }
    }

    /// Counts one more, and returns the total.
    #[inline]
    pub(super) const fn count_unsolicited(&mut self) -> u32 {
        self.unsolicited = self.unsolicited.saturating_add(1);
        self.unsolicited
    }

    /// Counts one more, and returns the total.
    pub(super) fn count_stale(&mut self) -> u64 {
        let stale = &mut self.rare_mut().stale;
        *stale += 1;
        *stale
    }

    pub(super) fn count_late(&mut self, late: Span) {
        let rare = self.rare_mut();
        rare.late_wakes += 1;
        rare.worst_lateness = rare.worst_lateness.max(late);
        rare.lateness = rare.lateness.max(late);
    }

    /// Adds `wait`, for which a ping has waited for the sink.
    #[inline]
    pub(super) fn count_blocked(&mut self, wait: Span) {
        if wait > Span::ZERO {
            let blocked = &mut self.rare_mut().write_blocked;
            *blocked = blocked.saturating_add(wait);
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let rare = self.rare();
        Counters {
            sent: self.sent(),
            answered: self.answered.into(),
            missed: rare.missed.into(),
            stale: rare.stale,
            unsolicited: self.unsolicited.into(),
            late_wakes: rare.late_wakes,
            worst_lateness: rare.worst_lateness,
            write_blocked: rare.write_blocked,
            reader_away: rare.away,
        }
    }

    // --- the verdict ---

    /// Enters what has timed out, and after how long, for the verdict to report.
    pub(super) fn condemn(&mut self, timeout: TimeoutPhase, elapsed: Span) {
        let rare = self.rare_mut();
        rare.timeout = timeout;
        rare.elapsed = elapsed;
    }

    /// The verdict is that no ping of the peer has come.
    pub(super) fn miss_pings(&mut self) {
        self.rare_mut().missed_pings = true;
    }

    /// The close frame is due, and may be written until `deadline`.
    pub(super) fn close_by(&mut self, deadline: Time) {
        self.rare_mut().close_deadline = deadline;
        self.phase = Phase::Closing(CloseStep::Due);
    }

    /// A close frame with `reason` was requested, and may be written until `deadline`. No verdict has fallen.
    pub(super) fn close_with(&mut self, reason: Arc<CloseReason>, deadline: Time) {
        self.rare_mut().close_reason = Some(reason);
        self.close_by(deadline);
    }

    /// The reason of the close frame that was requested, if one was.
    pub(super) fn close_reason(&self) -> Option<&CloseReason> {
        self.rare().close_reason.as_deref()
    }

    /// The connection has until `deadline` to end.
    pub(super) fn end_by(&mut self, deadline: Time, now: Time, handshake: Handshake) {
        self.waiting_since = now;
        self.rare_mut().close_deadline = deadline;
        self.phase = Phase::Handshake(handshake);
    }

    pub(super) fn close_deadline(&self) -> Time {
        self.rare().close_deadline
    }

    pub(super) fn close_sent(&self) -> bool {
        self.rare().close_sent
    }

    pub(super) fn set_close_sent(&mut self) {
        self.rare_mut().close_sent = true;
    }

    pub(super) fn timed_out(&self) -> TimedOut {
        let rare = self.rare();
        TimedOut {
            phase: rare.timeout,
            elapsed: rare.elapsed,
            missed: rare.misses,
            answered: self.answered,
            strays: self.unsolicited,
            last_rtt: self.rtt.latest_span(),
            lateness: rare.lateness,
            reader_away: rare.away_unproved,
            close_sent: rare.close_sent,
            missed_pings: rare.missed_pings,
        }
    }
}

/// Pongs that answer nothing, or too late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strays {
    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    pub(crate) unsolicited: u64,
    pub(crate) stale: u64,
}
