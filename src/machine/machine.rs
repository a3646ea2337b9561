//! Every transition of a heartbeat, with the rules in the docs of [`heartbeat`](crate::heartbeat).

use std::ops::{Deref, DerefMut, RangeInclusive};
use std::time::Duration;

use super::deadline::{Check, Deadline, Grace, slack};
use super::event::{Event, Events};
use super::proof::{Key, Proof, payload};
use super::record::{Cause, CloseStep, End, Handshake, Newest, Phase, Record, Start, WaitKind};
use super::schedule::Wait;
use crate::config::{Config, Liveness, Timeout};
use crate::error::{ProbeError, TimedOut, TimeoutPhase};
use crate::frame::{CloseReason, Frame};
use crate::grid::Grid;
use crate::stats::{HeartbeatState, Snapshot, Stats};
use crate::sync::Arc;
use crate::time::{Span, Time};

/// How many further items may be read past a deadline before it is judged although input is still
/// ready: enough for any honest backlog, and an end to an endless one.
pub const BACKLOG_LIMIT: u32 = 65_536;

/// How long a round trip usually takes as long as none was measured (RFC 6298 §2.1).
const UNMEASURED: Span = Span::nanos(1_000_000_000);

/// Where the close frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The sink that takes the pings.
    Outgoing,
    /// The sink that takes nothing else; see
    /// [`Heartbeat::dedicated_close`](crate::Heartbeat::dedicated_close).
    Dedicated,
}

/// How a heartbeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The peer is gone.
    TimedOut(TimedOut),
    /// [`Heartbeat::stop`](crate::Heartbeat::stop) was called.
    Requested,
}

/// What became of a pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PongKind {
    /// The pong answers the newest ping, and proves it.
    Matched {
        /// The time from the completed flush of the ping, or from its handing over if the pong came before
        /// the flush was complete.
        rtt: Duration,
    },
    /// The pong answers the newest ping without proving it.
    Accepted {
        /// Whether the pong belongs to the heartbeat: true with [`Liveness::AnyPong`], and for an answer
        /// that cannot carry a payload. With [`Liveness::Activity`] the pong is the application's, and only
        /// a sign of life.
        ours: bool,
    },
    /// The pong answers an earlier ping. It proves life, but the newest ping still needs its own pong.
    Stale,
    /// The pong answers nothing: it is a stray, a forgery or a repetition.
    Unsolicited,
}

impl PongKind {
    /// Whether the pong was meant for the heartbeat, and for nobody else: such a pong is not passed on.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::PongKind;
    ///
    /// assert!(PongKind::Stale.is_ours());
    /// assert!(!PongKind::Unsolicited.is_ours());
    /// ```
    #[must_use]
    pub const fn is_ours(self) -> bool {
        match self {
            Self::Matched { .. } | Self::Stale => true,
            Self::Accepted { ours } => ours,
            Self::Unsolicited => false,
        }
    }
}

/// Which messages of the peer are signs of life, pongs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heeded {
    Nothing,
    Pings,
    Messages,
}

/// What the totals of many heartbeats tell of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) state: HeartbeatState,
    pub(crate) sent: u64,
    pub(crate) answered: u32,
    pub(crate) unsolicited: u32,
    /// None where there was none yet.
    pub(crate) trouble: Option<Trouble>,
}

/// What the totals tell of a heartbeat that is not quiet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// Whether the newest pings were missed, and not answered since.
    pub(crate) has_misses: bool,
    pub(crate) missed: u32,
    pub(crate) stale: u64,
    /// The verdict by which it has ended.
    pub(crate) verdict: Option<TimeoutPhase>,
}

/// What is set for a heartbeat, and may be shared by many: nothing in it changes with a ping.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) config: Config,
    pub(crate) key: Key,
}

impl Terms {
    /// Terms with a random key of their own.
    pub(crate) fn new(config: Config) -> Self {
        Self::with_key(config, Key::unique())
    }

    pub(crate) const fn with_key(config: Config, key: Key) -> Self {
        Self { config, key }
    }
}

/// One heartbeat at work: its terms, its record, and the events that come of it. A machine that only
/// borrows its record can be asked how things stand.
pub(crate) struct Machine<'a, R> {
    pub(super) terms: &'a Terms,
    pub(super) record: R,
    /// The number of this heartbeat among those that share the key; 0 where the key is its own.
    member: u64,
    /// Whether the close frame has a sink of its own. Of interest to the driver alone, as nobody else
    /// judges.
    pub(crate) dedicated_close: bool,
    /// Whether a verdict is held that would fall now, for those that were not held before.
    pub(crate) holds_verdicts: bool,
    /// Whether a deadline was judged, and if so whether it ends the heartbeat, or would.
    pub(super) judged: Option<bool>,
    pub(crate) events: Events,
}

impl<'a, R> Machine<'a, R> {
    #[inline]
    pub(crate) const fn new(terms: &'a Terms, record: R) -> Self {
        Self {
            terms,
            record,
            member: 0,
            dedicated_close: false,
            holds_verdicts: false,
            judged: None,
            events: Events::new(),
        }
    }

    /// One of many that share the key. Members have no events.
    #[inline]
    pub(crate) const fn member(terms: &'a Terms, record: R, member: u64) -> Self {
        Self {
            terms,
            record,
            member,
            dedicated_close: false,
            holds_verdicts: false,
            judged: None,
            events: Events::silent(),
        }
    }
}

/// How things stand.
impl<'a, R: Deref<Target = Record>> Machine<'a, R> {
    #[inline]
    pub(crate) fn config(&self) -> &'a Config {
        &self.terms.config
    }

    pub(super) fn close_to(&self) -> Destination {
        if self.dedicated_close {
            Destination::Dedicated
        } else {
            Destination::Outgoing
        }
    }

    #[inline]
    pub(crate) fn wants_transmit(&self) -> bool {
        matches!(
            self.record.phase,
            Phase::Offered(_) | Phase::Closing(CloseStep::Offered)
        )
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.record.phase, Phase::Closing(_))
    }

    /// Whether the verdict has fallen, or the heartbeat has ended otherwise.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.record.is_over()
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.record.phase == Phase::Paused
    }

    /// Whether the heartbeat means nothing any more to who holds a handle of it: it has ended, or a close
    /// frame of the connection itself was sent or read.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.record.phase, Phase::Handshake(_) | Phase::Ended(_))
    }

    /// Whether a close frame of the connection itself was read, and none was sent that is known of.
    #[inline]
    pub(crate) fn owes_close(&self) -> bool {
        self.record.phase == Phase::Handshake(Handshake::Read)
    }

    /// Whether a close frame of the connection itself went both ways.
    #[inline]
    pub(crate) fn has_closed(&self) -> bool {
        self.record.phase == Phase::Handshake(Handshake::Both)
    }

    /// Whether the heartbeat is over, its close frame included.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.record.phase, Phase::Ended(_))
    }

    /// Whether the next ping is not due, and nothing that is read changes that.
    #[inline]
    pub(crate) fn is_resting(&self, now: Time) -> bool {
        self.record.phase == Phase::Idle && !self.record.due.has_come(now)
    }

    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.record.phase, Phase::NotBegun(_))
    }

    /// Whether no ping is out and the next one is due.
    pub(crate) fn is_ping_due(&self, now: Time) -> bool {
        self.record.phase == Phase::Idle && self.record.due.has_come(now)
    }

    /// Whether a deadline, or the checkpoint before it, has passed and is not judged yet.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        match self.record.phase {
            Phase::Offered(_)
            | Phase::Refused(_)
            | Phase::Flushing
            | Phase::Waiting
            | Phase::Watching => self.next_judgement().has_come(now),
            _ => false,
        }
    }

    /// Whether the last part of the wait for the peer has begun: whoever judges must know by its end what is
    /// there to be read.
    pub(crate) fn is_nearly_over(&self, now: Time) -> bool {
        self.awaited()
            .is_some_and(|(_, deadline, timeout)| deadline.minus(slack(timeout)).has_come(now))
    }

    /// Why no ping is answered any more, or for now, if that is so.
    pub(crate) fn refuses_probe(&self) -> Option<ProbeError> {
        match self.record.phase {
            Phase::NotBegun(Start::Paused) | Phase::Paused => Some(ProbeError::Paused),
            Phase::Closing(_) | Phase::Handshake(_) => Some(ProbeError::Closing),
            Phase::Ended(_) => Some(ProbeError::Ended),
            _ if self.config().watches() => Some(ProbeError::Watching),
            _ => None,
        }
    }

    /// The state, whatever the time is: who has missed none but waits for longer than usual is not suspect.
    #[inline]
    fn state(&self) -> HeartbeatState {
        match self.record.phase {
            Phase::NotBegun(Start::Paused) | Phase::Paused => HeartbeatState::Paused,
            Phase::NotBegun(_) | Phase::Idle | Phase::Due(_) | Phase::Watching => {
                HeartbeatState::Idle
            }
            Phase::Offered(_) | Phase::Refused(_) | Phase::Flushing => HeartbeatState::Sending,
            Phase::Waiting if self.record.misses() > 0 => HeartbeatState::Suspect,
            Phase::Waiting => HeartbeatState::Waiting,
            Phase::Closing(_) | Phase::Handshake(_) => HeartbeatState::Closing,
            Phase::Ended(_) => HeartbeatState::Gone,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = match self.state() {
            HeartbeatState::Waiting => Snapshot::Waiting {
                suspect_from: self
                    .record
                    .waiting_since
                    .plus(self.usual_round_trip())
                    .instant(),
            },
            state => Snapshot::Fixed(state),
        };
        Stats {
            counters: self.record.counters(),
            rtt: self.record.rtt,
            state,
        }
    }

    /// What the totals of many tell of this one.
    #[inline(always)]
    pub(crate) fn standing(&self) -> Standing {
        let is_quiet = self.record.is_quiet();
        Standing {
            state: self.state(),
            sent: self.record.sent(),
            answered: self.record.answered(),
            unsolicited: self.unsolicited(),
            trouble: (!is_quiet).then(|| self.trouble()),
        }
    }

    #[inline]
    pub(crate) fn unsolicited(&self) -> u32 {
        self.record.unsolicited()
    }

    #[cold]
    fn trouble(&self) -> Trouble {
        let verdict = match self.record.phase {
            Phase::Ended(End::TimedOut) => Some(self.record.timed_out().phase()),
            _ => None,
        };
        Trouble {
            has_misses: !self.has_ended() && self.record.misses() > 0,
            missed: self.record.missed(),
            stale: self.record.strays().stale,
            verdict,
        }
    }

    fn usual_round_trip(&self) -> Span {
        let measured = self.record.rtt.timeout(self.config().spans().granularity);
        measured.unwrap_or(UNMEASURED)
    }

    #[inline]
    pub(crate) fn heeds_activity(&self) -> bool {
        self.config().liveness().max_unproven().is_some()
    }

    /// Which messages the heartbeat is to be told of.
    pub(crate) fn heeded(&self) -> Heeded {
        if !self.heeds_activity() {
            Heeded::Nothing
        } else if self.config().watch_pings().is_some() {
            Heeded::Pings
        } else {
            Heeded::Messages
        }
    }

    /// Whether the heartbeat has ended without a timeout: by request, or with its connection.
    #[inline]
    pub(crate) fn is_disconnected(&self) -> bool {
        matches!(
            self.record.phase,
            Phase::Ended(End::Requested | End::Disconnected)
        )
    }

    /// How much later a pong may be judged at `now`, where one is to be judged.
    pub(crate) fn leeway(&self, now: Time) -> Option<Span> {
        let (.., timeout) = self.awaited()?;
        (self.is_overdue(now) || self.record.due.has_come(now)).then(|| slack(timeout))
    }

    /// How long an application may take for a batch of messages: a quarter of the slack.
    pub(crate) fn patience(&self) -> Span {
        let timeout = match &self.config().spans().timeout {
            Timeout::Fixed(timeout) => *timeout,
            Timeout::Adaptive(range) => *range.start(),
            // One of the two is never.
            Timeout::Never => self
                .config()
                .spans()
                .interval
                .min(self.config().spans().within),
        };
        Span::nanos(slack(timeout).as_nanos() / 4)
    }

    /// A number for the wait for the peer, and the deadline and the timeout of that wait: for the pong
    /// of the newest ping (both are never where no timeout is set), or for a sign of life where no pings
    /// are sent.
    pub(crate) fn awaited(&self) -> Option<(u64, Time, Span)> {
        let number = match self.record.phase {
            Phase::Waiting => self.record.issued,
            Phase::Watching => self.record.waiting_since.since(Time::ORIGIN).as_nanos(),
            _ => return None,
        };
        let deadline = self.deadline(self.config())?;
        Some((number, deadline.at, deadline.timeout))
    }

    /// How many pings were sent.
    #[inline]
    pub(crate) fn issued(&self) -> u64 {
        self.record.issued
    }

    /// Whether a turn, before which so many pings were `issued`, has judged the peer, and if so whether that
    /// ends the heartbeat, or would. The peer is judged also where its answer is found when the next ping is
    /// sent, or the next silence is waited for.
    #[inline]
    pub(crate) fn judgement(&self, issued: u64, now: Time) -> Option<bool> {
        if self.judged.is_some() {
            return self.judged;
        }
        if self.record.issued != issued {
            return (issued > 0 && !self.record.is_in_doubt()).then_some(false);
        }
        if self.record.phase == Phase::Watching {
            return self.was_heard_before(now).then_some(false);
        }
        None
    }

    /// Whether a peer that is only watched has sent something since it was looked at, and before `now`.
    #[cold]
    fn was_heard_before(&self, now: Time) -> bool {
        let is_fresh = self.record.is_fresh() || !self.config().stall_grace();
        is_fresh && self.record.waiting_since < now
    }

    /// How the heartbeat has ended, unless its connection ended first.
    #[inline]
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match self.record.phase {
            Phase::Ended(End::TimedOut) => Some(Verdict::TimedOut(self.record.timed_out())),
            Phase::Ended(End::Requested) => Some(Verdict::Requested),
            _ => None,
        }
    }

    /// The timeout that was found, be it that its close frame is still on its way.
    pub(crate) fn timed_out(&self) -> Option<TimedOut> {
        let found = matches!(
            self.record.phase,
            Phase::Closing(_) | Phase::Ended(End::TimedOut)
        ) && self.record.close_reason().is_none();
        found.then(|| self.record.timed_out())
    }

    #[inline]
    pub(crate) fn grid(&self) -> Grid {
        Grid {
            step: self.config().spans().granularity,
        }
    }

    // --- when to look ---

    /// When the driver must look next: at once where there is something to send or to report.
    ///
    /// A driver is not woken by pongs. So while a ping is out it looks at the deadline or at the next
    /// due time, whichever is first; from then on whoever ends the wait wakes the driver.
    #[inline]
    pub(crate) fn next_look(&self) -> Time {
        match self.record.phase {
            Phase::Idle => self.record.due,
            Phase::Offered(_) | Phase::Refused(_) | Phase::Flushing | Phase::Waiting => {
                self.look_before(self.next_judgement())
            }
            Phase::Watching => self.record.next_look(self.config().spans().within),
            Phase::Closing(CloseStep::Offered | CloseStep::Flushing) | Phase::Handshake(_) => {
                self.record.close_deadline()
            }
            Phase::NotBegun(_) | Phase::Paused => Time::NEVER,
            Phase::Due(_) | Phase::Closing(CloseStep::Due) | Phase::Ended(_) => Time::ORIGIN,
        }
    }

    /// When to look at a ping that is on offer or out, and is judged then.
    #[inline]
    fn look_before(&self, judgement: Time) -> Time {
        match self.record.phase {
            Phase::Flushing | Phase::Waiting if self.record.wait_kind != WaitKind::Over => {
                judgement.min(self.record.due)
            }
            _ => judgement,
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[inline]
    pub(super) fn next_judgement(&self) -> Time {
        match self.record.phase {
            Phase::Idle => self.record.due,
            // Without a timeout the ping is written off when the next one is due.
            Phase::Waiting if !self.config().judges_pongs() => self.record.due,
            Phase::Closing(_) | Phase::Handshake(_) => self.record.close_deadline(),
            _ => {
                let timeout = self.timeout(self.config());
                timeout.map_or(Time::NEVER, |timeout| self.record.next_look(timeout))
            }
        }
    }

    // --- the schedule ---

    /// The random share of the jitter in the wait for the next ping: the same whenever it is asked
    /// for.
    fn jitter_share(&self) -> u32 {
        // Drawing costs a hash; without jitter nobody looks at it.
        if self.config().jitter() > 0.0 {
            self.draw()
        } else {
            0
        }
    }

    fn draw(&self) -> u32 {
        self.terms.key.draw(self.record.jitter_seed(), self.member)
    }

    fn first_due(&self) -> Time {
        // No pong has come yet: the last proof of life is the start.
        let start = self.record.last_proof;
        let config = self.config();
        let drawn = if config.initial_delay_at_random() {
            self.draw()
        } else {
            self.jitter_share()
        };
        start.plus(config.first_wait(drawn))
    }

    /// The wait for the next ping as this configuration counts it.
    fn wait(&self, config: &Config) -> Span {
        config.jittered(config.spans().interval, self.jitter_share())
    }

    // --- deadlines ---

    /// The deadline of the ping that is on offer or out, as this configuration counts it.
    pub(super) fn deadline(&self, config: &Config) -> Option<Deadline> {
        self.timeout(config)
            .map(|timeout| self.record.deadline(timeout))
    }

    /// How long the ping may take that is on offer or out.
    #[inline]
    fn timeout(&self, config: &Config) -> Option<Span> {
        let spans = config.spans();
        match self.record.phase {
            Phase::Offered(_) | Phase::Refused(_) | Phase::Flushing => Some(spans.write_timeout),
            Phase::Watching => Some(spans.within),
            Phase::Waiting => Some(match &spans.timeout {
                Timeout::Fixed(timeout) => *timeout,
                Timeout::Never => Span::NEVER,
                Timeout::Adaptive(range) => self.adaptive_timeout(range, spans.granularity),
            }),
            _ => None,
        }
    }

    /// Until when a close frame that is due `now` may be written.
    fn close_deadline(&self, now: Time) -> Time {
        now.plus(self.config().spans().close_timeout)
    }

    fn adaptive_timeout(&self, range: &RangeInclusive<Span>, granularity: Span) -> Span {
        let (start, end) = (*range.start(), *range.end());
        let Some(measured) = self.record.rtt.timeout(granularity) else {
            return end;
        };
        let factor = 1_u64
            .checked_shl(self.record.doublings())
            .unwrap_or(u64::MAX);
        let backed_off = measured.clamp(start, end).as_nanos().saturating_mul(factor);
        Span::nanos(backed_off).min(end)
    }

    /// Until when activity is trusted in place of a pong; none where it never is.
    fn trusted_until(&self) -> Option<Time> {
        let max_unproven = self.config().liveness().max_unproven()?;
        Some(self.record.last_proof.plus(max_unproven.into()))
    }

    /// Whether activity puts off the next ping.
    fn postpones(&self) -> bool {
        matches!(self.config().liveness(), Liveness::Activity { .. })
    }

    fn trusts_activity(&self, at: Time) -> bool {
        self.trusted_until().is_some_and(|until| at < until)
    }
}

/// What happened.
impl<R: DerefMut<Target = Record>> Machine<'_, R> {
    /// The wake rule: acts, and tells whether the driver must look earlier by it than it would have.
    #[inline]
    pub(crate) fn visited<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let sleeps_until = self.next_look();
        let result = act(self);
        (result, self.next_look() < sleeps_until)
    }

    /// The heartbeat is driven for the first time: the first ping is due an initial delay from now.
    pub(crate) fn begin(&mut self, now: Time) {
        let Phase::NotBegun(start) = self.record.phase else {
            if self.is_closing() {
                // Closed before it was driven: the close frame can leave from now on.
                let deadline = self.close_deadline(now);
                self.record.close_by(deadline);
            }
            return;
        };
        self.record.last_proof = now;
        self.record.due = self.first_due();
        self.record.phase = match start {
            Start::Waiting | Start::Resumed => Phase::Idle,
            Start::Pinging => Phase::Due(Cause::Request),
            Start::Paused => Phase::Paused,
        };
        if start != Start::Paused && self.config().watches() {
            self.start_anew(now);
        } else if start == Start::Resumed {
            self.rebase(now);
        }
    }

    /// What was before counts no more, and no silence is older than `now`.
    fn start_anew(&mut self, now: Time) {
        if self.record.is_unanswered() {
            self.record.give_up();
        }
        self.record.newest = Newest::NotAwaited;
        self.record.clear_misses();
        self.record.clear_doublings();
        self.record.last_proof = self.record.last_proof.max(now);
        if self.config().watches() {
            self.record.due = Time::NEVER;
            self.listen(now);
        } else {
            self.record.phase = Phase::Idle;
            self.rebase(now);
        }
    }

    #[inline]
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.record.end_backlog(now);
        self.judge(now);
    }

    /// Judges what is to be judged. Nearly always that is nothing: then it is told when to look next,
    /// unless a ping is due.
    #[inline]
    pub(super) fn settle(&mut self, now: Time) -> Option<Time> {
        match self.record.phase {
            Phase::Idle => {
                self.record.end_backlog(now);
                (!self.record.due.has_come(now)).then_some(self.record.due)
            }
            Phase::Offered(_) | Phase::Refused(_) | Phase::Flushing | Phase::Waiting => {
                self.record.end_backlog(now);
                self.note_due(now);
                let judgement = self.next_judgement();
                if !judgement.has_come(now) {
                    return Some(self.look_before(judgement));
                }
                self.judge(now);
                self.note_due(now);
                None
            }
            _ => {
                self.handle_timeout(now);
                None
            }
        }
    }

    /// The next ping is due while one is out: from now on who ends the wait wakes the driver.
    #[inline]
    pub(super) fn note_due(&mut self, now: Time) {
        let out = matches!(self.record.phase, Phase::Flushing | Phase::Waiting);
        if out && self.record.due.has_come(now) {
            self.record.wait_kind = WaitKind::Over;
        }
    }

    pub(crate) fn handle_backlog(&mut self, read: u32, now: Time) {
        let deadline = match self.record.phase {
            Phase::Waiting if !self.config().judges_pongs() => Some(self.record.due),
            Phase::Closing(_) | Phase::Handshake(_) => return self.judge(now),
            _ => self.deadline(self.config()).map(|deadline| deadline.at),
        };
        let unread = self.record.unread_deadline();
        let deadline = unread.or(deadline);
        // What was read by the first look past the deadline may have been read before it.
        let backlog = match self.record.backlog() {
            _ if !deadline.is_some_and(|deadline| deadline.has_come(now)) => None,
            None => Some(0),
            Some(past) => Some(past.saturating_add(read)),
        };
        if backlog.is_none_or(|past| past < BACKLOG_LIMIT) {
            return self.record.set_backlog(backlog);
        }
        if unread.is_some() {
            // Of pings that were written off as unread, the one that is out now stands for all.
            if self.record.phase == Phase::Waiting {
                self.record.end_backlog(now);
                self.miss(now.since(self.record.waiting_since), now);
            }
            return;
        }
        self.record.set_backlog(None);
        if let Some(mut deadline) = self.deadline(self.config()) {
            deadline.grace = Grace::Spent;
            self.record.keep(&deadline);
        }
        self.judge(now);
    }

    /// Counts a pong that means nothing at any time: no clock needs to be read for it.
    #[inline]
    pub(crate) fn handle_stray(&mut self, payload: &[u8]) -> bool {
        let strict = matches!(self.config().liveness(), Liveness::Pong);
        let stray = strict && self.record.is_stray(payload);
        if stray {
            self.count_unsolicited();
        }
        stray
    }

    /// The peer sent a pong, which was read `at` that time.
    pub(crate) fn handle_pong(&mut self, payload: &[u8], at: Time) -> PongKind {
        if self.record.is_over() {
            // A pong can still be ours after the end, which decides whether it is passed on. It
            // changes nothing else.
            self.record.newest = Newest::NotAwaited;
        }
        let proof = self.record.check(payload, &self.terms.key, self.member);
        match proof {
            Proof::Newest => {
                let rtt = self.measure(at);
                self.record.last_proof = self.record.last_proof.max(at);
                self.record.clear_unread(at);
                self.answered(at);
                self.record.enter(proof);
                let sequence = self.record.issued;
                self.events.push(|| Event::Pong { sequence, rtt });
                PongKind::Matched {
                    rtt: rtt.to_duration(),
                }
            }
            Proof::Earlier(_) => {
                if !self.has_ended() {
                    self.count_stale();
                }
                if !self.record.is_over() {
                    self.record.clear_misses();
                    self.record.clear_unread(at);
                }
                self.record.last_proof = self.record.last_proof.max(at);
                self.record.enter(proof);
                if self.record.unproved <= 1 {
                    // All that were given up have their answer, or one that came after theirs.
                    self.record.clear_doubt();
                }
                if self.record.phase == Phase::Watching {
                    self.heard(at, false);
                }
                PongKind::Stale
            }
            Proof::Nothing => self.handle_unproven(at),
        }
    }

    /// Measures the round trip of the newest ping, whose answer came `at` that time.
    #[inline(always)]
    fn measure(&mut self, at: Time) -> Span {
        let rtt = at.since(self.record.sent_at());
        let late = self.observe_lateness(at) || self.record.late;
        // Clocks are read before locks, so that a pong may be stamped before its ping.
        if !late && at >= self.record.sent_at() {
            self.record.rtt.sample(rtt);
        }
        rtt
    }

    /// The same for an answer that does not say which ping it answers: an earlier one that has no
    /// answer may be meant (Karn's rule).
    #[cold]
    fn measure_if_alone(&mut self, at: Time) {
        if !self.record.is_in_doubt() {
            self.measure(at);
        }
    }

    /// Whoever reads is late: the ping that is out gives no sample of the round trip.
    pub(crate) fn read_late(&mut self) {
        self.record.late = true;
    }

    /// The peer was active `at` that time, and says so `now`.
    pub(crate) fn handle_activity(&mut self, at: Time, now: Time) {
        if self.heeds_activity() && self.trusts_activity(at) {
            self.active(at, now);
        }
    }

    /// The peer sent something else than a pong, `at` that time, and `now` it is told: a ping, or data.
    pub(crate) fn handle_message(&mut self, is_ping: bool, at: Time, now: Time) {
        if self.record.phase == Phase::Watching {
            self.heard(at, is_ping);
        } else {
            self.handle_activity(at, now);
        }
    }

    fn listen(&mut self, since: Time) {
        let grace = Grace::new(self.config().stall_grace());
        self.record.listen(since, grace);
    }

    /// The peer, which is only watched, has sent something: the time of silence begins again.
    fn heard(&mut self, at: Time, is_ping: bool) {
        // Clocks are read before locks, so that times may come out of order.
        if at >= self.record.waiting_since && self.config().counts(is_ping) {
            self.record.clear_unread(at);
            self.listen(at);
        }
    }

    pub(crate) fn handle_sent(&mut self, at: Time) {
        match self.record.phase {
            Phase::Flushing => {
                // Times that were read before a lock may come out of order: a flush is not before
                // the offer.
                let at = at.max(self.record.waiting_since);
                let blocked = at.since(self.record.waiting_since);
                self.record.count_blocked(blocked);
                let grace = Grace::new(self.config().stall_grace());
                self.record.flushed(at, grace);
            }
            Phase::Closing(CloseStep::Flushing) => {
                self.record.set_close_sent();
                self.end_timed_out();
                return;
            }
            // Answered before the flush was seen to complete, paused, or over.
            _ => {}
        }
        self.record.sent = true;
    }

    pub(crate) fn handle_close_failed(&mut self) {
        if let Phase::Closing(_) = self.record.phase {
            self.end_timed_out();
        }
    }

    /// Another configuration is in force than `before`.
    pub(crate) fn reconfigure(&mut self, before: &Config, now: Time) {
        match self.record.phase {
            Phase::NotBegun(_) => return,
            _ if self.record.is_over() => return,
            // What follows from it is up to the one who resumes.
            Phase::Paused if self.config().watches() || before.watches() => {}
            // Between pings and watching there is nothing to go on from.
            _ if self.config().watches() != before.watches() => self.start_anew(now),
            Phase::Watching => {}
            // While a ping is on its way into the sink, `due` is its own: the next is counted from
            // it.
            Phase::Offered(Cause::Schedule) => {}
            _ => self.reschedule(before),
        }
        let config = self.config();
        self.events.push(|| Event::Configured(config.clone()));

        let grace = config.stall_grace();
        if let (Some(old), Some(timeout)) = (self.deadline(before), self.timeout(config)) {
            // A grace that was granted, or is yet to be granted, stays where nothing changes.
            if old.timeout != timeout || before.stall_grace() != grace {
                let deadline = Deadline::new(self.record.waiting_since, timeout, grace);
                self.record.keep(&deadline.in_place_of(old, now));
            }
        }
    }

    /// The same for one of many that get the configuration at once. A ping that is overdue by it alone would
    /// leave together with all others: it leaves some time within the new interval, as is drawn for it. So
    /// does the first ping of a heartbeat that has only watched.
    pub(crate) fn reconfigure_among_many(
        &mut self,
        before: &Config,
        now: Time,
        draw: impl FnOnce() -> u32,
    ) {
        let was_due = self.record.due.has_come(now);
        self.reconfigure(before, now);
        let waits = matches!(
            self.record.phase,
            Phase::Idle | Phase::Flushing | Phase::Waiting
        );
        if !waits || was_due {
            return;
        }
        let is_spread = self.record.wait_kind == WaitKind::Spread;
        if is_spread || before.watches() || self.record.due.has_come(now) {
            let drawn = now.plus(self.config().within_interval(draw()));
            self.record.due = if is_spread {
                self.record.due.min(drawn)
            } else {
                drawn
            };
            self.record.wait_kind = WaitKind::Spread;
        }
    }

    /// The machine has slept for so long: a ping is due `by` then at the latest, unless one is out, or the
    /// interval is longer.
    pub(crate) fn ping_after_sleep(&mut self, asleep: Span, by: Time) {
        if self.record.phase == Phase::Idle && asleep > self.config().spans().interval {
            self.record.due = self.record.due.min(by);
        }
    }

    /// A probe asks for a ping, and for the next answer to one.
    pub(crate) fn probe(&mut self) -> Result<(), ProbeError> {
        if let Some(error) = self.refuses_probe() {
            return Err(error);
        }
        self.ping_now();
        self.record.await_answer();
        Ok(())
    }

    /// The round trip of the ping that was answered since this was asked last, or a probe was made.
    pub(crate) fn take_round_trip(&mut self) -> Option<Span> {
        let answered_at = self.record.take_answer()?;
        Some(answered_at.since(self.record.sent_at()))
    }

    /// False where no pings are sent.
    pub(crate) fn ping_now(&mut self) -> bool {
        if self.config().watches() {
            return false;
        }
        match &mut self.record.phase {
            Phase::NotBegun(start @ (Start::Waiting | Start::Resumed)) => *start = Start::Pinging,
            phase @ Phase::Idle => *phase = Phase::Due(Cause::Request),
            // The ping is on its way anyway; from now on it is asked for.
            Phase::Due(cause) | Phase::Offered(cause) | Phase::Refused(cause) => {
                *cause = Cause::Request;
            }
            _ => {}
        }
        true
    }

    pub(crate) fn pause(&mut self) {
        match &mut self.record.phase {
            Phase::NotBegun(start) => *start = Start::Paused,
            Phase::Paused | Phase::Closing(_) | Phase::Handshake(_) | Phase::Ended(_) => {}
            phase => {
                *phase = Phase::Paused;
                // The pong of a ping that is out is read whenever somebody gets to it.
                self.record.late = true;
                self.events.push(|| Event::Paused);
            }
        }
    }

    pub(crate) fn resume(&mut self, now: Time) {
        match &mut self.record.phase {
            Phase::NotBegun(start @ Start::Paused) => *start = Start::Resumed,
            Phase::Paused => {
                self.start_anew(now);
                self.events.push(|| Event::Resumed);
            }
            _ => {}
        }
    }

    pub(crate) fn stop(&mut self) {
        match self.record.phase {
            Phase::Ended(_) | Phase::Handshake(_) => {}
            Phase::Closing(_) => self.end_timed_out(),
            _ => {
                self.record.phase = Phase::Ended(End::Requested);
                self.events.push(|| Event::Stopped);
            }
        }
    }

    /// Ends the heartbeat with a close frame, and without a verdict. A verdict that has fallen stands.
    pub(crate) fn close(&mut self, reason: &Arc<CloseReason>, now: Time) {
        if !self.is_over() {
            let deadline = self.close_deadline(now);
            self.record.close_with(Arc::clone(reason), deadline);
        }
    }

    /// The connection is over, or nobody drives the heartbeat any more. A verdict that has fallen
    /// stands.
    pub(crate) fn disconnect(&mut self) {
        match self.record.phase {
            Phase::Ended(_) => {}
            Phase::Closing(_) => self.end_timed_out(),
            _ => self.record.phase = Phase::Ended(End::Disconnected),
        }
    }

    /// The sink has panicked: the heartbeat ends with no close frame, and nobody is told of the end.
    pub(crate) fn abandon(&mut self) {
        if !self.has_ended() {
            self.record.phase = Phase::Ended(End::Disconnected);
        }
    }

    /// A close frame of the connection itself was sent or read: no ping is sent any more, and the
    /// connection has so long to end. A verdict that has fallen stands.
    pub(crate) fn handle_close(&mut self, way: Handshake, now: Time) {
        match &mut self.record.phase {
            Phase::Closing(_) | Phase::Ended(_) => {}
            Phase::Handshake(known) => {
                if *known != way {
                    *known = Handshake::Both;
                }
            }
            _ => {
                let deadline = now.plus(self.config().spans().closing_handshake);
                self.record.end_by(deadline, now, way);
            }
        }
    }

    /// The pong of the newest ping cannot be read, and the sink has taken nothing of the application's for
    /// so long.
    pub(crate) fn handle_blocked_write(&mut self, elapsed: Span, now: Time) {
        if self.is_waiting() {
            self.time_out(TimeoutPhase::Write, elapsed, now);
        }
    }

    /// The pong of the newest ping cannot be read at present: the ping is written off where the next is
    /// due.
    #[inline]
    pub(super) fn write_off_unread(&mut self, now: Time) {
        if self.record.phase == Phase::Waiting && self.record.due.has_come(now) {
            let deadline = self.deadline(self.config());
            self.record.give_up();
            self.record
                .write_off_unread(deadline.map_or(now, |deadline| deadline.at));
        }
    }

    /// Whether something of the peer's is waited for: a pong, or a sign of life where no pings are sent.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.record.phase, Phase::Waiting | Phase::Watching)
    }

    /// Whether a frame is to go now that did not before: a ping that is due, or the close frame.
    #[inline]
    pub(super) fn offer_due(&mut self, now: Time) -> bool {
        match self.record.phase {
            Phase::Idle if self.record.due.has_come(now) => self.offer(now, Cause::Schedule),
            Phase::Due(cause) => self.offer(now, cause),
            Phase::Closing(CloseStep::Due) => {
                self.record.phase = Phase::Closing(CloseStep::Offered);
            }
            _ => return false,
        }
        true
    }

    pub(crate) fn transmit(&mut self, at: Time) -> Option<Frame> {
        match self.record.phase {
            Phase::Offered(cause) => {
                self.record.issue(&self.terms.key, self.member);
                self.record.hand_over(at);
                match cause {
                    Cause::Schedule => self.advance(at),
                    Cause::Request => self.rebase(at),
                    // An extra ping: the grid goes on, unless it was overtaken.
                    Cause::Miss if self.record.due.has_come(at) => self.advance(at),
                    Cause::Miss => self.record.count_off_grid(),
                    // The schedule has been told of it.
                    Cause::Refused => {}
                }
                let (sequence, tag) = (self.record.issued, self.record.tag);
                self.events.push(|| Event::Ping { sequence, cause });
                Some(Frame::Ping(payload(sequence, tag)))
            }
            Phase::Closing(CloseStep::Offered) => {
                self.record.phase = Phase::Closing(CloseStep::Flushing);
                let reason = self.record.close_reason().or(self.config().close());
                // A set may have been told to send none since the verdict fell: that one goes on its way.
                let reason = reason.cloned().unwrap_or_else(CloseReason::ping_timeout);
                Some(Frame::Close(reason))
            }
            _ => None,
        }
    }

    /// The sink answers for itself, after it has done nothing but yield since the ping was offered: the time
    /// that it has for the ping begins now.
    #[cold]
    pub(crate) fn begin_write(&mut self, now: Time) {
        if let Phase::Offered(_) | Phase::Flushing = self.record.phase {
            let grace = Grace::new(self.config().stall_grace());
            self.record.begin_write(now, grace);
        }
    }

    /// The sink was ready, and has refused the ping. The same ping is to be offered once more.
    pub(crate) fn refuse(&mut self) {
        if self.record.phase == Phase::Flushing {
            self.record.recall(&self.terms.key, self.member);
            self.record.phase = Phase::Refused(Cause::Refused);
        }
    }

    /// A flush of the application has succeeded: a ping that was refused is offered once more.
    pub(crate) fn offer_again(&mut self) {
        if let Phase::Refused(cause) = self.record.phase {
            self.record.phase = Phase::Offered(cause);
        }
    }

    fn count_unsolicited(&mut self) {
        if self.record.count_unsolicited().is_power_of_two() {
            let strays = self.record.strays();
            self.events.push(|| Event::StrayPongs(strays));
        }
    }

    #[cold]
    fn count_stale(&mut self) {
        if self.record.count_stale().is_power_of_two() {
            let strays = self.record.strays();
            self.events.push(|| Event::StrayPongs(strays));
        }
    }

    // --- the schedule ---

    /// To the next point of the grid that lies in the future.
    fn advance(&mut self, now: Time) {
        self.record.begin_wait();
        let wait = self.wait(self.config());
        let wait = Wait::after(self.record.due, wait, now);
        self.record.set_wait(wait);
    }

    /// A new grid from now on.
    fn rebase(&mut self, now: Time) {
        self.record.begin_wait();
        let wait = self.wait(self.config());
        self.record.set_wait(Wait::from(now, wait));
    }

    /// The peer was active: no ping is due before `at` + interval, but for the proof that activity
    /// is no substitute for.
    fn postpone(&mut self, at: Time) {
        if !self.postpones() {
            return;
        }
        let limit = self.trusted_until().unwrap_or(Time::NEVER);
        let wait = Wait::from(at, self.wait(self.config())).until(limit);
        if wait.due > self.record.due {
            self.record.wait_kind = WaitKind::Postponed;
            self.record.set_wait(wait);
        }
    }

    /// The same wait as before, by the configuration in force.
    fn reschedule(&mut self, before: &Config) {
        if self.record.wait_kind == WaitKind::First {
            self.record.due = self.first_due();
            return;
        }
        if self.record.wait_kind == WaitKind::Spread {
            // Whoever sets configurations without end would put the ping off without end.
            return;
        }
        let start = self.record.wait_start(self.wait(before));
        let mut wait = Wait::from(start, self.wait(self.config()));
        if self.record.wait_kind == WaitKind::Postponed && self.postpones() {
            if let Some(limit) = self.trusted_until() {
                // No further than to the end of the trust in activity.
                wait = wait.until(limit.max(start));
            }
        }
        self.record.set_wait(wait);
        if self.record.wait_kind == WaitKind::Over {
            // Whether the wait is over is for the driver to see.
            self.record.wait_kind = WaitKind::Interval;
        }
    }

    fn offer(&mut self, since: Time, cause: Cause) {
        let grace = Grace::new(self.config().stall_grace());
        self.record.offer(since, cause, grace);
    }

    // --- answers ---

    /// The newest ping is answered; its pong or a policy says so.
    fn answered(&mut self, at: Time) {
        if !self.record.settle(at) {
            // A policy has answered it before.
            return;
        }
        self.record.count_answered();
        // The ping has reached the peer, whatever the flush says.
        self.record.sent = true;
        match self.record.phase {
            Phase::Flushing => {
                let blocked = at.since(self.record.waiting_since);
                self.record.count_blocked(blocked);
                self.record.phase = Phase::Idle;
            }
            Phase::Waiting => self.record.phase = Phase::Idle,
            // Paused while it was out.
            _ => {}
        }
    }

    fn answered_by_policy(&mut self, at: Time) {
        self.record.clear_unread(at);
        self.answered(at);
        self.record.newest = Newest::AnsweredByPolicy;
        let sequence = self.record.issued;
        self.events.push(|| Event::AnsweredByPolicy { sequence });
    }

    fn handle_unproven(&mut self, at: Time) -> PongKind {
        let (answers, ours) = match self.config().liveness() {
            Liveness::Pong => (false, false),
            Liveness::AnyPong => {
                let answers = self.record.is_unanswered();
                if answers {
                    self.measure_if_alone(at);
                    self.answered_by_policy(at);
                }
                (answers, true)
            }
            Liveness::Activity { .. } | Liveness::Traffic { .. } => {
                (self.trusts_activity(at) && self.active(at, at), false)
            }
        };
        if answers {
            return PongKind::Accepted { ours };
        }
        if !self.has_ended() {
            self.count_unsolicited();
        }
        PongKind::Unsolicited
    }

    /// The peer answered, `at` that time, in a way that cannot say which ping: so it is the newest that
    /// is answered, as by its pong.
    pub(crate) fn handle_answer(&mut self, at: Time) -> PongKind {
        if !self.record.is_unanswered() || self.record.is_over() {
            if self.record.phase == Phase::Watching {
                self.heard(at, false);
            }
            if !self.has_ended() {
                self.count_unsolicited();
            }
            return PongKind::Unsolicited;
        }
        self.record.last_proof = self.record.last_proof.max(at);
        self.measure_if_alone(at);
        self.answered_by_policy(at);
        self.record.enter(Proof::Newest);
        PongKind::Accepted { ours: true }
    }

    /// The peer was active `at` a time at which that is trusted. Whether that answers a ping.
    fn active(&mut self, at: Time, now: Time) -> bool {
        match self.record.phase {
            Phase::Idle => {
                self.record.clear_misses();
                self.postpone(at);
                false
            }
            Phase::Due(cause) | Phase::Offered(cause) | Phase::Refused(cause) => {
                self.record.clear_misses();
                // Who asked for a ping gets one.
                if cause != Cause::Request && self.postpones() {
                    let offered = matches!(self.record.phase, Phase::Offered(_));
                    self.record.phase = Phase::Idle;
                    self.postpone(at);
                    // The activity is reported too late to cancel the ping: it was already due, so
                    // it is offered again.
                    if offered && self.record.due.has_come(now) {
                        self.offer(self.record.due, cause);
                    }
                }
                false
            }
            Phase::Flushing | Phase::Waiting => {
                // Activity from before the ping was handed over is no answer to it.
                let answers = self.record.is_unanswered() && at >= self.record.sent_at();
                if answers {
                    self.answered_by_policy(at);
                    self.postpone(at);
                }
                answers
            }
            Phase::Watching => {
                self.heard(at, false);
                false
            }
            Phase::NotBegun(_)
            | Phase::Paused
            | Phase::Closing(_)
            | Phase::Handshake(_)
            | Phase::Ended(_) => false,
        }
    }

    // --- deadlines ---

    /// Whether this look at the newest ping comes late; a late look is counted once.
    #[inline(always)]
    pub(super) fn observe_lateness(&mut self, at: Time) -> bool {
        let late = match self.record.phase {
            Phase::Flushing | Phase::Waiting => {
                let timeout = self.timeout(self.config());
                let look = timeout.map_or(Time::NEVER, |timeout| self.record.next_look(timeout));
                self.grid().lateness(look, at)
            }
            _ => Span::ZERO,
        };
        self.count_late(late);
        late > Span::ZERO
    }

    fn count_late(&mut self, late: Span) {
        if late > Span::ZERO {
            self.record.count_late(late);
            self.events.push(|| Event::LateWake(late));
        }
    }

    fn judge(&mut self, now: Time) {
        match self.record.phase {
            Phase::Waiting if !self.config().judges_pongs() => self.write_off(now),
            Phase::Handshake(way) if self.record.close_deadline().has_come(now) => {
                if way == Handshake::Both {
                    self.record.phase = Phase::Ended(End::Disconnected);
                } else {
                    let elapsed = now.since(self.record.waiting_since);
                    self.record.condemn(TimeoutPhase::Closing, elapsed);
                    self.end_timed_out();
                }
            }
            Phase::Closing(_) if self.record.close_deadline().has_come(now) => {
                self.end_timed_out();
            }
            _ => self.look(now),
        }
    }

    /// The deadline of the ping that is out is not to be judged yet, but its checkpoint has been looked at
    /// now: what comes later is no stall.
    pub(crate) fn pass_checkpoint(&mut self, now: Time) {
        let Some(mut deadline) = self.deadline(self.config()) else {
            return;
        };
        if let Some(late) = deadline.pass_checkpoint(now, self.grid()) {
            self.record.keep(&deadline);
            self.count_late(late);
            self.record.late |= late > Span::ZERO;
        }
    }

    /// Looks at the deadline of the ping that is out, if one is.
    fn look(&mut self, now: Time) {
        let Some(mut deadline) = self.deadline(self.config()) else {
            return;
        };
        let check = deadline.look(now, self.grid());
        self.record.keep(&deadline);
        match check {
            Check::Early => {}
            Check::Late(late) => {
                self.count_late(late);
                if self.record.is_unanswered() {
                    self.record.late = true;
                }
            }
            Check::Expired(late) => {
                self.count_late(late);
                let ends = self.ends_by_deadline();
                self.judged = Some(ends);
                if ends && self.holds_verdicts && deadline.hold(now) {
                    return self.hold(&deadline);
                }
                let elapsed = now.since(self.record.waiting_since);
                match self.record.phase {
                    Phase::Waiting => self.miss(elapsed, now),
                    // The sink's error is what the heartbeat ends with.
                    Phase::Refused(_) => self.disconnect(),
                    Phase::Watching => self.time_out(TimeoutPhase::Silence, elapsed, now),
                    _ => {
                        self.record.count_blocked(elapsed);
                        self.time_out(TimeoutPhase::Write, elapsed, now);
                    }
                }
            }
        }
    }

    /// Whether the deadline that is judged ends the heartbeat: not a miss after which another ping is sent.
    fn ends_by_deadline(&self) -> bool {
        let misses = self.record.misses().saturating_add(1);
        self.record.phase != Phase::Waiting || misses >= self.config().max_missed()
    }

    /// The verdict is held by that deadline, as after a stall of so long.
    #[cold]
    fn hold(&mut self, deadline: &Deadline) {
        self.record.keep(deadline);
        self.count_late(deadline.timeout);
        self.record.late = true;
    }

    /// Without a timeout: a ping that is unanswered when the next one is due.
    fn write_off(&mut self, now: Time) {
        if self.record.due.has_come(now) {
            self.record.count_missed();
            self.record.give_up();
            self.record.newest = Newest::NotAwaited;
            self.record.phase = Phase::Idle;
            let sequence = self.record.issued;
            self.events.push(|| Event::WrittenOff { sequence });
        }
    }

    fn miss(&mut self, elapsed: Span, now: Time) {
        self.record.count_missed();
        self.record.give_up();
        self.record.add_miss();
        self.record.newest = Newest::NotAwaited;
        let (sequence, missed) = (self.record.issued, self.record.misses());
        self.events.push(|| Event::Missed {
            sequence,
            elapsed,
            missed,
        });
        if missed >= self.config().max_missed() {
            self.time_out(TimeoutPhase::Pong, elapsed, now);
        } else {
            self.record.phase = Phase::Due(Cause::Miss);
        }
    }

    fn time_out(&mut self, phase: TimeoutPhase, elapsed: Span, now: Time) {
        self.record.condemn(phase, elapsed);
        if self.config().watch_pings().is_some() {
            self.record.miss_pings();
        }
        // A sink that could not take the ping will not take the close frame either.
        let has_sink = phase != TimeoutPhase::Write || self.dedicated_close;
        if has_sink && self.config().close().is_some() {
            let deadline = self.close_deadline(now);
            self.record.close_by(deadline);
        } else {
            self.end_timed_out();
        }
    }

    /// The verdict is final, whatever has become of the close frame. Without one the heartbeat was asked to
    /// close.
    fn end_timed_out(&mut self) {
        if self.record.close_reason().is_some() {
            self.record.phase = Phase::Ended(End::Requested);
            return self.events.push(|| Event::Stopped);
        }
        self.record.phase = Phase::Ended(End::TimedOut);
        let timed_out = self.record.timed_out();
        self.events.push(|| Event::TimedOut(timed_out));
    }
}
