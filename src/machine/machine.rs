//! Every transition of a heartbeat, with the rules in the docs of [`heartbeat`](crate::heartbeat).

use std::ops::DerefMut;
use std::time::Duration;

use super::deadline::{Check, Deadline, Grace};
use super::event::{Event, Events};
use super::proof::{Key, Proof, payload};
use super::record::{Cause, CloseStep, End, Handshake, Newest, Phase, Record, Start, WaitKind};
use super::schedule::Wait;
use crate::config::{Config, Liveness};
use crate::error::{ProbeError, TimedOut, TimeoutPhase};
use crate::frame::{CloseReason, Frame};
use crate::sync::Arc;
use crate::time::{Span, Time};

/// How many further items may be read past a deadline before it is judged although input is still
/// ready: enough for any honest backlog, and an end to an endless one.
pub const BACKLOG_LIMIT: u32 = 65_536;

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
    /// Whether the pong was meant for the heartbeat, and not for the application: such a pong is not passed
    /// on.
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

/// The configuration and the key of a heartbeat. The members of a set share them, as no ping changes them.
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

/// One heartbeat at work: its terms, its record, and the events that it causes. A machine with a shared
/// reference to its record answers questions; one with a mutable reference makes transitions.
pub(crate) struct Machine<'a, R> {
    pub(super) terms: &'a Terms,
    pub(super) record: R,
    /// The number of this heartbeat among those that share the key; 0 where the key is its own.
    pub(super) member: u64,
    /// Whether the close frame has a sink of its own. Only the driver sets this, as only the driver judges.
    pub(crate) dedicated_close: bool,
    /// Whether a verdict that would fall now is held for one more timeout, unless it was held before.
    pub(crate) holds_verdicts: bool,
    /// `None` until a deadline is judged; then whether that ends the heartbeat, or would if the verdict were
    /// not held.
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

    /// The machine of a member of a set, which shares its key with the other members, and has no events.
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

/// Transitions: what has happened.
impl<R: DerefMut<Target = Record>> Machine<'_, R> {
    /// The wake rule: runs `act`, and returns whether the driver must look earlier after it than before.
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

    /// Begins again as a new heartbeat does: pings and misses from before count no more, and silence counts
    /// from `now`.
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

    /// Judges the deadline that has come. Nearly always there is none: then this returns when to look next,
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

    /// Notes whether the next ping is due while one is out. From then on the visit that ends the wait wakes
    /// the driver, which no longer looks at the due time.
    #[inline]
    pub(super) fn note_due(&mut self, now: Time) {
        let out = matches!(self.record.phase, Phase::Flushing | Phase::Waiting);
        if out && self.record.due.has_come(now) {
            self.record.wait_kind = WaitKind::Over;
        }
    }

    /// Counts `read` items that were read while more are ready. Once [`BACKLOG_LIMIT`] items have been read
    /// past a deadline, the deadline is judged.
    pub(crate) fn handle_backlog(&mut self, read: u32, now: Time) {
        let deadline = match self.record.phase {
            Phase::Waiting if !self.config().judges_pongs() => Some(self.record.due),
            Phase::Closing(_) | Phase::Handshake(_) => return self.judge(now),
            _ => self.deadline(self.config()).map(|deadline| deadline.at),
        };
        let unread = self.record.unread_deadline();
        let deadline = unread.or(deadline);
        // What the first look past the deadline reports may have been read before the deadline.
        let backlog = match self.record.backlog() {
            _ if !deadline.is_some_and(|deadline| deadline.has_come(now)) => None,
            None => Some(0),
            Some(past) => Some(past.saturating_add(read)),
        };
        if backlog.is_none_or(|past| past < BACKLOG_LIMIT) {
            return self.record.set_backlog(backlog);
        }
        if unread.is_some() {
            // The ping that is out now stands for all that were written off as unread.
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

    /// Whether a pong means nothing, whenever it came. Such a pong is counted here, so that no clock needs to
    /// be read for it.
    #[inline]
    pub(crate) fn handle_stray(&mut self, payload: &[u8]) -> bool {
        let strict = matches!(self.config().liveness(), Liveness::Pong);
        let stray = strict && self.record.is_stray(payload);
        if stray {
            self.count_unsolicited();
        }
        stray
    }

    /// The peer sent a pong, which was read at the time `at`.
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
                    // Each ping that was given up is now answered, by its own pong or by a later one.
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

    /// Measures the round trip of the newest ping, whose answer came at the time `at`.
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

    /// Measures the round trip by an answer that does not say which ping it answers, unless there is an
    /// earlier ping without an answer, which may be meant (Karn's rule).
    #[cold]
    fn measure_if_alone(&mut self, at: Time) {
        if !self.record.is_in_doubt() {
            self.measure(at);
        }
    }

    /// Input is read later than it came: the ping that is out gives no sample of the round trip.
    pub(crate) fn read_late(&mut self) {
        self.record.late = true;
    }

    /// The peer was active at the time `at`, which is reported at `now`.
    pub(crate) fn handle_activity(&mut self, at: Time, now: Time) {
        if self.heeds_activity() && self.trusts_activity(at) {
            self.active(at, now);
        }
    }

    /// The peer sent a ping or data at the time `at`, which is reported at `now`.
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

    /// A new configuration is in force, in place of `before`.
    pub(crate) fn reconfigure(&mut self, before: &Config, now: Time) {
        match self.record.phase {
            Phase::NotBegun(_) => return,
            _ if self.record.is_over() => return,
            // `resume` will begin anew by the configuration that is in force then.
            Phase::Paused if self.config().watches() || before.watches() => {}
            // Pings and watching have no wait in common that could go on.
            _ if self.config().watches() != before.watches() => self.start_anew(now),
            Phase::Watching => {}
            // While a ping is on its way into the sink, `due` is the due time of that ping, from which the
            // next one is counted.
            Phase::Offered(Cause::Schedule) => {}
            _ => self.reschedule(before),
        }
        let config = self.config();
        self.events.push(|| Event::Configured(config.clone()));

        let (grace, grid) = (config.stall_grace(), self.grid());
        if let (Some(old), Some(timeout)) = (self.deadline(before), self.timeout(config)) {
            // A grace that was granted, or is yet to be granted, stays where nothing changes.
            if old.timeout != timeout || before.stall_grace() != grace {
                let deadline = Deadline::new(self.record.waiting_since, timeout, grace);
                self.record.keep(&deadline.in_place_of(old, now, grid));
            }
        }
    }

    /// A new configuration is in force for many heartbeats at once, of which this is one. If the ping is
    /// overdue only by the new configuration, it would leave together with those of the others, so it leaves
    /// at a random time within the new interval. So does the first ping of a heartbeat that has only watched.
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

    /// The computer has been in suspend for `asleep`. If that is longer than the interval and no ping is out,
    /// the next ping is due at `by` at the latest.
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

    /// The round trip of the ping that was answered since the last call or the last probe, if one was.
    pub(crate) fn take_round_trip(&mut self) -> Option<Span> {
        let answered_at = self.record.take_answer()?;
        Some(answered_at.since(self.record.sent_at()))
    }

    /// Asks for a ping at once. Returns false if the heartbeat only watches.
    pub(crate) fn ping_now(&mut self) -> bool {
        if self.config().watches() {
            return false;
        }
        match &mut self.record.phase {
            Phase::NotBegun(start @ (Start::Waiting | Start::Resumed)) => *start = Start::Pinging,
            phase @ Phase::Idle => *phase = Phase::Due(Cause::Request),
            // A ping is on its way already, and counts as requested from now on.
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
                // During a pause no pong is waited for, so that the ping that is out gives no sample.
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

    /// The connection is over, or the driver is dropped. A verdict that has fallen stands.
    pub(crate) fn disconnect(&mut self) {
        match self.record.phase {
            Phase::Ended(_) => {}
            Phase::Closing(_) => self.end_timed_out(),
            Phase::Handshake(Handshake::Both) => self.record.phase = Phase::Ended(End::Closed),
            _ => self.record.phase = Phase::Ended(End::Disconnected),
        }
    }

    /// The sink has panicked: the heartbeat ends without a close frame and without an event.
    pub(crate) fn abandon(&mut self) {
        if !self.has_ended() {
            self.record.phase = Phase::Ended(End::Disconnected);
        }
    }

    /// A close frame of the connection itself was sent or read: no ping is sent any more, and the
    /// connection has the time of `closing_handshake` to end. A verdict that has fallen stands.
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
    /// `elapsed`, which is too long.
    pub(crate) fn handle_blocked_write(&mut self, elapsed: Span, now: Time) {
        if self.is_waiting() {
            self.time_out(TimeoutPhase::Write, elapsed, now);
        }
    }

    /// The pong of the newest ping cannot be read at present: the ping is written off once the next one is
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

    /// Whether the heartbeat waits for the peer: for a pong, or for a sign of life where no pings are sent.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.record.phase, Phase::Waiting | Phase::Watching)
    }

    /// Offers the frame that is due, a ping or the close frame, and returns whether there is one.
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
                    // The schedule was advanced when the ping was handed out first.
                    Cause::Refused => {}
                }
                let (sequence, tag) = (self.record.issued, self.record.tag);
                self.events.push(|| Event::Ping { sequence, cause });
                Some(Frame::Ping(payload(sequence, tag)))
            }
            Phase::Closing(CloseStep::Offered) => {
                self.record.phase = Phase::Closing(CloseStep::Flushing);
                let reason = self.record.close_reason().or(self.config().close());
                // The configuration of a set may have lost its close frame since the verdict fell. The one
                // that is on its way still goes out.
                let reason = reason.cloned().unwrap_or_else(CloseReason::ping_timeout);
                Some(Frame::Close(reason))
            }
            _ => None,
        }
    }

    /// The sink has done nothing but yield since the ping was offered, and now gives an answer of its own: its
    /// write timeout begins now.
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

    /// Moves `due` to the next point of the grid in the future.
    fn advance(&mut self, now: Time) {
        self.record.begin_wait();
        let wait = self.wait(self.config());
        let wait = Wait::after(self.record.due, wait, now);
        self.record.set_wait(wait);
    }

    /// Begins a new grid at `now`.
    fn rebase(&mut self, now: Time) {
        self.record.begin_wait();
        let wait = self.wait(self.config());
        self.record.set_wait(Wait::from(now, wait));
    }

    /// The peer was active at the time `at`: the next ping is not due before `at` + interval, or before the
    /// end of the trust in activity if that is earlier.
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

    /// Changes the wait for the next ping from the configuration `before` to the one in force.
    fn reschedule(&mut self, before: &Config) {
        if self.record.wait_kind == WaitKind::First {
            self.record.due = self.first_due();
            return;
        }
        if self.record.wait_kind == WaitKind::Spread {
            // Otherwise configurations that are set without end would put the ping off without end.
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
            // The driver will see whether the changed wait is over, too.
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
        if !self.record.note_answer(at) {
            // A policy has answered the ping before.
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
            // The heartbeat was paused while the ping was out.
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

    /// The peer answered at the time `at`, in a form that cannot name a ping: so it is the newest ping that is
    /// answered, as by its pong.
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

    /// The peer was active at the time `at`, when activity is trusted. Returns whether that answers a ping.
    fn active(&mut self, at: Time, now: Time) -> bool {
        match self.record.phase {
            Phase::Idle => {
                self.record.clear_misses();
                self.postpone(at);
                false
            }
            Phase::Due(cause) | Phase::Offered(cause) | Phase::Refused(cause) => {
                self.record.clear_misses();
                // A ping that was requested is sent all the same.
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

    /// Whether this look at the newest ping comes late. A late look is counted.
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

    /// Judges the deadline in force: of the ping, of the close frame, or of the closing handshake.
    fn judge(&mut self, now: Time) {
        match self.record.phase {
            Phase::Waiting if !self.config().judges_pongs() => self.write_off(now),
            Phase::Handshake(way) if self.record.close_deadline().has_come(now) => {
                if way == Handshake::Both {
                    self.disconnect();
                } else {
                    let elapsed = now.since(self.record.waiting_since);
                    self.record.condemn(TimeoutPhase::Closing, elapsed);
                    self.end_timed_out();
                }
            }
            Phase::Closing(step) if self.record.close_deadline().has_come(now) => {
                if step == CloseStep::Due {
                    // Ordered while nobody drove the heartbeat: the frame can leave from now on.
                    let deadline = self.close_deadline(now);
                    self.record.close_by(deadline);
                } else {
                    self.end_timed_out();
                }
            }
            _ => self.look(now),
        }
    }

    /// Looks at the checkpoint of the ping that is out, where its deadline is not to be judged yet: time that
    /// passes from now on is no stall.
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

    /// Looks at the deadline of the current wait, if there is one.
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
                    // The heartbeat ends with the sink's error, and not with a verdict.
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

    /// Whether the deadline that is judged ends the heartbeat. A miss after which another ping is sent does
    /// not.
    fn ends_by_deadline(&self) -> bool {
        let misses = self.record.misses().saturating_add(1);
        self.record.phase != Phase::Waiting || misses >= self.config().max_missed()
    }

    /// Holds the verdict until `deadline`, as after a stall of one timeout.
    #[cold]
    fn hold(&mut self, deadline: &Deadline) {
        self.record.keep(deadline);
        self.count_late(deadline.timeout);
        self.record.late = true;
    }

    /// Writes off a ping without a timeout that is unanswered when the next one is due.
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

    /// Ends the heartbeat, whatever has become of its close frame: with the verdict, or without one if the
    /// close frame was requested.
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
