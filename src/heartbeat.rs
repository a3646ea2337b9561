//! The heartbeat as a state machine without I/O: no clock, no `Context`, no waker.
//!
//! [`Heartbeat`] is what every shell of this crate drives, and what those drive who have no
//! [`Sink`](futures_sink::Sink): an FFI binding, an event loop, a WebSocket crate with methods of
//! its own. Each call takes the time from the caller. Tell it what happened (`handle_…`), then call
//! [`poll_output`](Heartbeat::poll_output) until it says [`Output::Wait`] or [`Output::Done`].
//!
//! ```text
//!              due (interval, jitter)            flushed                      pong does not match: counted, ignored
//!   ┌──────┐ ─────────────────────► ┌─────────┐ ────────────► ┌──────────────┐ ◄──┐
//!   │ Idle │                        │ Sending │               │ AwaitingPong │ ───┘
//!   └──────┘ ◄───────────────────── └─────────┘ ◄──────────── └──────────────┘
//!       ▲     matching pong (either state: it may beat the flush)     │ timeout, misses < max_missed: ping again at once
//!       └─────────────────────────────────────────────────────────────┤
//!              write_timeout: Done(TimedOut, phase Write);             │ timeout, misses = max_missed
//!              with a dedicated close sink by way of Closing           ▼
//!                                                              Closing ── flushed or close_timeout ──► Done(TimedOut, phase Pong)
//! ```
//!
//! # Invariants
//!
//! 1. One ping is in flight at the most, and nothing is sent after the close frame.
//! 2. A verdict is never early: not before the flush + timeout, nor before the first offer + write
//!    timeout.
//! 3. A pong that was handled wins against a deadline that was not judged yet. Deadlines are judged
//!    by [`handle_timeout`](Heartbeat::handle_timeout) alone, which is called once all input that
//!    was ready has been handled; where input never ends, by
//!    [`handle_backlog`](Heartbeat::handle_backlog).
//! 4. With x = the last accepted proof of life (before any: the start + initial delay − interval)
//!    and g = the granularity, a strict heartbeat that is driven as it asks has its verdict by
//!    `x + interval + max_missed · (write_timeout + timeout) + (2 · max_missed + 2) · g`. Where the
//!    process stalls, add the time it stalled, and for either deadline of each ping up to twice the
//!    longest stall, or twice the timeout if that is less. The close frame adds at most
//!    `close_timeout + g`.
//!
//! # Schedule
//!
//! Due times lie on a grid: the start + initial delay, then every interval. A ping that leaves late
//! (a long round trip, a pause, a stall) moves no later one, and what was skipped is not made up
//! for. Only [`ping_now`](Heartbeat::ping_now), [`resume`](Heartbeat::resume), another interval by
//! [`set_config`](Heartbeat::set_config) and, with [`Liveness::Activity`], the peer's data start a new
//! grid.
//!
//! # A local stall is not the peer's silence
//!
//! A deadline that passes while this process does not run says nothing about the peer: its pong may
//! lie unread in a buffer. With slack = timeout / 8, no less than 10 ms and no more than 1 s or
//! half the timeout:
//!
//! ```text
//!     flush                         deadline − slack   deadline
//!       ├───────────────────────────────┼──────────────────┤
//!                                   checkpoint
//! ```
//!
//! The heartbeat asks to be woken at the checkpoint. If it is driven there on time, the deadline
//! stands. If it is driven there L late, the deadline moves to now + L, or the slack if that is
//! more, or the timeout if that is less. L counts from the wake-up as it was rounded up to the
//! grid, and leaves out one step of it, which the timer itself may take. A deadline that is itself seen
//! more than the slack late moves likewise, once; where the checkpoint was that late already, it moves
//! by the slack. So no verdict falls unless the heartbeat was driven with its input read shortly
//! before, or three stalls in a row hid it from a single ping, and a dead peer is found all the same.
//! The write deadline has the same grace, the close deadline has none.
//! [`ConfigBuilder::stall_grace`](crate::ConfigBuilder::stall_grace) turns it off.

use std::mem;
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::time::Duration;

use crate::config::{Config, Liveness, Timeout};
use crate::error::{TimedOut, TimeoutPhase};
use crate::frame::Frame;
use crate::grid::Grid;
use crate::payload::{Key, Ledger, Newest, Proof};
use crate::pulse::{Cause, CloseStep, Flag, Phase, Pulse};
use crate::stats::{Snapshot, State, Stats};
use crate::time::{Instant, Span, Time};
use crate::trace::Trace;
use crate::watch::{Look, Stage, Watch};

/// How many further items may be read past a deadline before it is judged although input is still
/// ready: enough for any honest backlog, and an end to an endless one.
pub const BACKLOG_LIMIT: u32 = 65_536;

/// How long a round trip usually takes as long as none was measured (RFC 6298 §2.1).
const UNMEASURED: Span = Span::nanos(1_000_000_000);

/// What the caller is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// A ping wants to go: once the sink is ready, send what [`Heartbeat::transmit`] returns, flush
    /// it, and call [`Heartbeat::handle_sent`]. Said once for each ping; poll on for the deadline.
    Ping,
    /// The close frame wants to go, by the same steps. Said once.
    Close(Destination),
    /// Nothing to do before that instant (none: never), unless there is something to handle. Then
    /// call [`Heartbeat::handle_timeout`].
    Wait(Option<Instant>),
    /// It is over; the answer does not change any more.
    Done(Verdict),
}

/// An [`Output`] on the heartbeat's own time line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Ping,
    Close(Destination),
    Wait(Time),
    Done(Verdict),
}

/// Where the close frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The sink that takes the pings.
    Outgoing,
    /// The one that takes nothing else; see [`Heartbeat::dedicated_close`].
    Dedicated,
}

/// How a heartbeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The peer is gone.
    TimedOut(TimedOut),
    /// [`Heartbeat::stop`] was called.
    Requested,
}

/// What became of a pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PongKind {
    /// It is the answer to the newest ping.
    Matched {
        /// From the completed flush of the ping, or from its handing over if the pong beat that.
        rtt: Duration,
    },
    /// It answers by policy: [`Liveness::AnyPong`] or [`Liveness::Activity`].
    Accepted,
    /// It answers an earlier ping: proof of life, but the newest ping still needs its own.
    Stale,
    /// It answers nothing: a stray, a forgery, a repetition.
    Unsolicited,
}

/// The heartbeat of one connection, without I/O; see the [module docs](self).
///
/// # Examples
///
/// A peer that answers each ping, in virtual time:
///
/// ```
/// use std::time::{Duration, Instant};
/// use futures_pinger::{Config, Frame, Heartbeat, Output, PongKind};
///
/// let start = Instant::now();
/// let at = |secs| start + Duration::from_secs(secs);
/// let mut heartbeat = Heartbeat::new(Config::default(), start);
/// assert_eq!(heartbeat.poll_output(start), Output::Wait(Some(at(20))));
///
/// // 20 s later. The sink is ready:
/// assert_eq!(heartbeat.poll_output(at(20)), Output::Ping);
/// let Some(Frame::Ping(payload)) = heartbeat.transmit(at(20)) else { unreachable!() };
/// heartbeat.handle_sent(at(20));
///
/// // A second later the peer's pong is read:
/// let rtt = Duration::from_secs(1);
/// assert_eq!(heartbeat.handle_pong(&payload, at(21)), PongKind::Matched { rtt });
/// assert_eq!(heartbeat.poll_output(at(21)), Output::Wait(Some(at(40))));
/// ```
#[derive(Debug)]
pub struct Heartbeat {
    terms: Terms,
    pulse: Pulse,
    trace: Trace,
}

impl Heartbeat {
    /// A heartbeat that starts at `now`, with a random key of its own.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self::keyed(config, now, Key::unique())
    }

    /// The same with a given key, for reproducible payloads and jitter. Whoever knows the key can
    /// forge pongs.
    #[must_use]
    pub fn with_key(config: Config, now: Instant, key: [u8; 16]) -> Self {
        Self::keyed(config, now, Key::new(key))
    }

    pub(crate) fn keyed(config: Config, now: Instant, key: Key) -> Self {
        let mut heartbeat = Self {
            trace: Trace::new(&config),
            terms: Terms { config, key },
            pulse: Pulse::new(Time::of(now)),
        };
        heartbeat.beat_mut().begin();
        heartbeat
    }

    /// The close frame has a sink of its own: it is then sent after a write timeout too.
    #[must_use]
    pub fn dedicated_close(mut self) -> Self {
        self.pulse.set(Flag::Dedicated, true);
        self
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.terms.config
    }

    #[inline]
    fn beat(&self) -> Beat<'_, &Pulse> {
        Beat {
            terms: &self.terms,
            pulse: &self.pulse,
            member: 0,
            trace: &self.trace,
        }
    }

    #[inline]
    fn beat_mut(&mut self) -> Beat<'_, &mut Pulse> {
        Beat {
            terms: &self.terms,
            pulse: &mut self.pulse,
            member: 0,
            trace: &self.trace,
        }
    }

    /// Judges the deadlines. Call it when the instant of [`Output::Wait`] has come, after all input
    /// that was ready has been handled; it does no harm at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.beat_mut().handle_timeout(Time::of(now));
    }

    /// Instead of [`handle_timeout`](Self::handle_timeout), when `read` more items have been
    /// handled and further ones are ready. No deadline is judged before [`BACKLOG_LIMIT`] of them
    /// have been read past it; then it is judged, without grace.
    ///
    /// A caller that cannot know whether more is ready calls this with 1 after each item, and
    /// [`handle_timeout`](Self::handle_timeout) when its timer fires.
    pub fn handle_backlog(&mut self, read: u32, now: Instant) {
        self.handle_backlog_at(read, Time::of(now));
    }

    pub(crate) fn handle_backlog_at(&mut self, read: u32, now: Time) {
        self.beat_mut().handle_backlog(read, now);
    }

    /// The peer sent a pong. It may be of any length and content.
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) -> PongKind {
        self.handle_pong_at(payload, Time::of(now))
    }

    pub(crate) fn handle_pong_at(&mut self, payload: &[u8], at: Time) -> PongKind {
        self.beat_mut().handle_pong(payload, || at)
    }

    pub(crate) fn handle_verified_at(&mut self, sequence: u64, at: Time) {
        self.beat_mut().handle_verified(sequence, at);
    }

    /// The peer sent something else: data, a ping. It counts with [`Liveness::Activity`] alone;
    /// once for each batch of messages is enough.
    pub fn handle_activity(&mut self, now: Instant) {
        let now = Time::of(now);
        self.handle_activity_at(now, now);
    }

    /// The peer was active `at` that time.
    pub(crate) fn handle_activity_at(&mut self, at: Time, now: Time) {
        self.beat_mut().handle_activity(at, now);
    }

    /// The frame that [`transmit`](Self::transmit) returned is flushed.
    pub fn handle_sent(&mut self, now: Instant) {
        self.handle_sent_at(Time::of(now));
    }

    pub(crate) fn handle_sent_at(&mut self, at: Time) {
        self.beat_mut().handle_sent(at);
    }

    /// The close frame cannot be written: the verdict stands without it.
    ///
    /// Before a verdict it does nothing: a broken transport is the caller's to report.
    pub fn handle_close_failed(&mut self) {
        self.beat_mut().handle_close_failed();
    }

    /// Puts another configuration in force. The ping in flight survives: its deadline is counted
    /// anew from its own sending, and where that lies in the past it is judged at the next turn of
    /// the timer, without grace. The next ping is due one new interval after the last due time. A
    /// lower `max_missed` applies from the next miss on. Once the verdict has fallen it changes
    /// nothing.
    pub fn set_config(&mut self, config: Config, now: Instant) {
        if self.pulse.is_over() {
            return;
        }
        let now = Time::of(now);
        let before = mem::replace(&mut self.terms.config, config);
        self.beat_mut().reconfigure(&before, now);
    }

    /// Sends a ping at once, unless one is out already or the heartbeat is paused. The next one is
    /// due an interval after it.
    pub fn ping_now(&mut self, _now: Instant) {
        self.beat_mut().ping_now();
    }

    /// No pings and no verdicts until [`resume`](Self::resume). Pongs are still welcome, a flush
    /// that has begun should be completed, and a close frame on its way goes on.
    pub fn pause(&mut self, _now: Instant) {
        self.beat_mut().pause();
    }

    /// Goes on as if it were new: a ping that was in flight is written off without a miss, and the
    /// next is due one interval from now. Without a [`pause`](Self::pause) before it does nothing.
    pub fn resume(&mut self, now: Instant) {
        let now = Time::of(now);
        self.beat_mut().resume(now);
    }

    /// Ends the heartbeat: no further frame. A verdict that has fallen stands.
    pub fn stop(&mut self) {
        self.beat_mut().stop();
    }

    /// What to do next; call it until it says [`Output::Wait`] or [`Output::Done`].
    ///
    /// The answer may change after any other call, and when the instant of [`Output::Wait`] comes.
    pub fn poll_output(&mut self, now: Instant) -> Output {
        match self.poll_step(Time::of(now)) {
            Step::Ping => Output::Ping,
            Step::Close(destination) => Output::Close(destination),
            Step::Wait(until) => Output::Wait(until.instant()),
            Step::Done(verdict) => Output::Done(verdict),
        }
    }

    #[inline]
    pub(crate) fn poll_step(&mut self, at: Time) -> Step {
        self.beat_mut().poll_step(at)
    }

    /// [`handle_timeout`](Self::handle_timeout), and then what to do next.
    #[inline]
    pub(crate) fn settle(&mut self, now: Time) -> Step {
        self.beat_mut().settle(now)
    }

    /// The frame that wants to go. Call it once the sink is ready for it and put the frame into the
    /// sink at once: nothing is buffered here, and nothing is kept. None where nothing wants to go
    /// (any more).
    pub fn transmit(&mut self, now: Instant) -> Option<Frame> {
        self.transmit_at(Time::of(now))
    }

    pub(crate) fn transmit_at(&mut self, at: Time) -> Option<Frame> {
        self.beat_mut().transmit(at)
    }

    /// Whether [`transmit`](Self::transmit) would return a frame.
    #[inline]
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.beat().wants_transmit()
    }

    /// Between two pings with the next not due, and nothing that was read changes that: there is
    /// nothing to do.
    #[inline]
    pub(crate) fn is_resting(&self, now: Instant) -> bool {
        // As an instant `due` costs less than `now` as a time.
        self.pulse.phase == Phase::Idle
            && self.pulse.due.instant().is_none_or(|due| now < due)
            && !self.heeds_activity()
    }

    /// Whether a deadline, or the checkpoint before it, has passed and is not judged yet.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.beat().is_overdue(now)
    }

    /// Whether the verdict has fallen and the close frame is on its way.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.pulse.phase, Phase::Closing(_))
    }

    /// The verdict while the close frame is on its way.
    #[inline]
    pub(crate) fn closing(&self) -> Option<TimedOut> {
        self.is_closing().then(|| self.pulse.timed_out())
    }

    /// What has been counted and measured so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.beat().stats()
    }

    /// The same for good: whatever it was doing, it is over.
    pub(crate) fn final_stats(&self) -> Stats {
        self.stats().gone()
    }

    /// Whether activity means anything to it.
    pub(crate) fn heeds_activity(&self) -> bool {
        self.beat().heeds_activity()
    }

    /// The number of the ping whose pong is waited for, and its deadline.
    pub(crate) fn awaited(&self) -> Option<(u64, Watch)> {
        self.beat().awaited()
    }

    /// Whether that ping was the newest, and its pong has come since.
    pub(crate) fn was_answered_after(&self, ping: u64, at: Instant) -> bool {
        self.unanswered().is_none() && self.ledger().issued() == ping && self.proof() > Time::of(at)
    }

    /// How it has ended.
    #[inline]
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.beat().verdict()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pulse.phase == Phase::Paused
    }

    /// The number of the ping that is out.
    pub(crate) fn unanswered(&self) -> Option<u64> {
        let ledger = self.ledger();
        ledger.is_open().then(|| ledger.issued())
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.pulse.ledger()
    }

    /// Whether its shell has put a frame into the sink that is not flushed.
    #[inline]
    pub(crate) fn is_in_sink(&self) -> bool {
        self.pulse.is(Flag::InSink)
    }

    #[inline]
    pub(crate) fn set_in_sink(&mut self, is: bool) {
        self.pulse.set(Flag::InSink, is);
    }

    pub(crate) fn key(&self) -> &Key {
        &self.terms.key
    }

    /// The ping before the newest was missed.
    pub(crate) fn has_missed(&self) -> bool {
        self.pulse.misses() > 0
    }

    /// The last verified pong, or the start.
    pub(crate) fn proof(&self) -> Time {
        self.pulse.proof
    }

    /// Pongs that mean nothing here, or that a shell has dropped on their way.
    pub(crate) fn count_strays(&mut self, unsolicited: u64, stale: u64) {
        if unsolicited + stale > 0 {
            self.beat_mut().count_strays(unsolicited, stale);
        }
    }

    /// The wake-ups that it asks for are rounded up to this.
    #[inline]
    pub(crate) fn grid(&self) -> Grid {
        self.beat().grid()
    }
}

/// A verdict is told also where nobody waits for its close frame any more.
impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.handle_close_failed();
    }
}

/// What many heartbeats may share: nothing in it changes with a ping.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) config: Config,
    pub(crate) key: Key,
}

/// One heartbeat at work: what it shares, and what is its own. Of a pulse that is only borrowed it can be
/// asked how things stand.
pub(crate) struct Beat<'a, P> {
    pub(crate) terms: &'a Terms,
    pub(crate) pulse: P,
    /// Its number among those that share the key; 0 for one that shares it with none.
    pub(crate) member: u64,
    /// The span that its events are in.
    pub(crate) trace: &'a Trace,
}

/// How things stand.
impl<'a, P: Deref<Target = Pulse>> Beat<'a, P> {
    #[inline]
    fn config(&self) -> &'a Config {
        &self.terms.config
    }

    fn close_to(&self) -> Destination {
        if self.pulse.is(Flag::Dedicated) {
            Destination::Dedicated
        } else {
            Destination::Outgoing
        }
    }

    #[inline]
    pub(crate) fn wants_transmit(&self) -> bool {
        matches!(
            self.pulse.phase,
            Phase::Offered(_) | Phase::Closing(CloseStep::Offered)
        )
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.pulse.phase, Phase::Closing(_))
    }

    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        match self.pulse.phase {
            Phase::Offered(_) | Phase::Flushing | Phase::Waiting => self.next_look() <= now,
            _ => false,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = match self.pulse.phase {
            Phase::Idle | Phase::Due(_) => Snapshot::Fixed(State::Idle),
            Phase::Offered(_) | Phase::Flushing => Snapshot::Fixed(State::Sending),
            Phase::Waiting if self.pulse.misses() > 0 => Snapshot::Fixed(State::Suspect),
            Phase::Waiting => Snapshot::Waiting {
                suspect_from: self.pulse.since().plus(self.usual_round_trip()).instant(),
            },
            Phase::Paused => Snapshot::Fixed(State::Paused),
            Phase::Closing(_) => Snapshot::Fixed(State::Closing),
            Phase::TimedOut | Phase::Stopped => Snapshot::Fixed(State::Gone),
        };
        Stats {
            counters: self.pulse.counters(),
            rtt: self.pulse.rtt,
            state,
        }
    }

    fn usual_round_trip(&self) -> Span {
        let measured = self.pulse.rtt.timeout(self.config().spans().granularity);
        measured.unwrap_or(UNMEASURED)
    }

    pub(crate) fn heeds_activity(&self) -> bool {
        matches!(self.config().liveness(), Liveness::Activity { .. })
    }

    pub(crate) fn awaited(&self) -> Option<(u64, Watch)> {
        if self.pulse.phase != Phase::Waiting || !self.config().judges_pongs() {
            return None;
        }
        let watch = self.watch(self.config())?;
        Some((self.pulse.ledger().issued(), watch))
    }

    #[inline]
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match self.pulse.phase {
            Phase::TimedOut => Some(Verdict::TimedOut(self.pulse.timed_out())),
            Phase::Stopped => Some(Verdict::Requested),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn grid(&self) -> Grid {
        Grid {
            step: self.config().spans().granularity,
        }
    }

    /// When a driver who is not told of pongs is to look again, where others do so at `look`: no later
    /// than the next ping is due. Where that has passed, it is to be told of the pong.
    pub(crate) fn next_visit(&self, look: Time, now: Time) -> Time {
        match self.pulse.phase {
            Phase::Flushing | Phase::Waiting if self.pulse.due > now => look.min(self.pulse.due),
            _ => look,
        }
    }

    // --- the schedule ---

    /// The random share of the jitter in the wait for the next ping: the same whenever it is asked
    /// for.
    fn drawn(&self) -> u32 {
        // Drawing costs a hash; without jitter nobody looks at it.
        if self.config().jitter() > 0.0 {
            self.terms.key.draw(self.pulse.drawn_at(), self.member)
        } else {
            0
        }
    }

    fn first_due(&self) -> Time {
        let delay = self.config().spans().initial_delay;
        // No pong has come yet: the start.
        let start = self.pulse.proof;
        start.plus(self.config().jittered(delay, self.drawn()))
    }

    fn wait(&self) -> Span {
        self.wait_under(self.config())
    }

    fn wait_under(&self, config: &Config) -> Span {
        config.jittered(config.spans().interval, self.drawn())
    }

    fn next_look(&self) -> Time {
        match self.pulse.phase {
            Phase::Idle => self.pulse.due,
            // Without a timeout the ping is written off when the next one is due.
            Phase::Waiting if !self.config().judges_pongs() => self.pulse.due,
            Phase::Closing(_) => self.pulse.close_deadline(),
            _ => self.watch_look(),
        }
    }

    fn check(&self, payload: &[u8]) -> Proof {
        let tag = |sequence| self.terms.key.tag(sequence, self.member);
        self.pulse.ledger().check(payload, tag)
    }

    // --- deadlines ---

    /// The deadline of the ping that is on its way or out, as this configuration counts it.
    fn watch(&self, config: &Config) -> Option<Watch> {
        let timeout = self.timeout(config)?;
        Some(self.pulse.watch(timeout, config.stall_grace()))
    }

    /// When to look at that ping next.
    #[inline]
    fn watch_look(&self) -> Time {
        let timeout = self.timeout(self.config());
        timeout.map_or(Time::NEVER, |timeout| self.pulse.next_look(timeout))
    }

    /// How long it may take.
    #[inline]
    fn timeout(&self, config: &Config) -> Option<Span> {
        let spans = config.spans();
        match self.pulse.phase {
            Phase::Offered(_) | Phase::Flushing => Some(spans.write_timeout),
            Phase::Waiting => Some(match &spans.timeout {
                Timeout::Fixed(timeout) => *timeout,
                Timeout::Never => Span::NEVER,
                Timeout::Adaptive(range) => self.adaptive_timeout(range, spans.granularity),
            }),
            _ => None,
        }
    }

    fn adaptive_timeout(&self, range: &RangeInclusive<Span>, granularity: Span) -> Span {
        let (start, end) = (*range.start(), *range.end());
        let Some(measured) = self.pulse.rtt.timeout(granularity) else {
            return end;
        };
        let factor = 1_u64
            .checked_shl(self.pulse.doublings())
            .unwrap_or(u64::MAX);
        let backed_off = measured.clamp(start, end).as_nanos().saturating_mul(factor);
        Span::nanos(backed_off).min(end)
    }

    /// Until when activity is trusted in place of a pong; none where it never is.
    fn trusted_until(&self) -> Option<Time> {
        match self.config().liveness() {
            Liveness::Activity { max_unproven } => Some(self.pulse.proof.plus(max_unproven.into())),
            Liveness::Pong | Liveness::AnyPong => None,
        }
    }

    fn trusts_activity(&self, at: Time) -> bool {
        self.trusted_until().is_some_and(|until| at < until)
    }
}

/// The transitions, with the rules in the docs of [`Heartbeat`].
impl<P: DerefMut<Target = Pulse>> Beat<'_, P> {
    /// The first ping is due an initial delay after the start.
    pub(crate) fn begin(&mut self) {
        self.pulse.due = self.first_due();
    }

    #[inline]
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.end_backlog();
        self.judge(now);
    }

    /// Judges what is to be judged, and says what to do next.
    #[inline]
    pub(crate) fn settle(&mut self, now: Time) -> Step {
        self.end_backlog();
        match self.pulse.phase {
            Phase::Idle if now < self.pulse.due => return Step::Wait(self.pulse.due),
            Phase::Idle => {}
            Phase::Offered(_) | Phase::Flushing | Phase::Waiting => {
                // Nearly always there is nothing to judge.
                let look = self.next_look();
                if now < look {
                    return Step::Wait(look);
                }
                self.judge(now);
            }
            _ => self.judge(now),
        }
        self.poll_step(now)
    }

    /// All that was there to read has been read.
    #[inline]
    fn end_backlog(&mut self) {
        if self.pulse.is(Flag::Crowded) {
            self.pulse.set(Flag::Crowded, false);
            self.pulse.set_backlog(None);
            self.pulse.ledger_mut().crowded = false;
        }
    }

    pub(crate) fn handle_backlog(&mut self, read: u32, now: Time) {
        self.pulse.set(Flag::Crowded, true);
        let deadline = match self.pulse.phase {
            Phase::Waiting if !self.config().judges_pongs() => Some(self.pulse.due),
            Phase::Closing(_) => return self.judge(now),
            _ => self.watch(self.config()).map(|watch| watch.deadline()),
        };
        // What was read by the first look past the deadline may have been read before it.
        let backlog = match self.pulse.backlog() {
            _ if deadline.is_none_or(|deadline| now < deadline) => None,
            None => Some(0),
            Some(past) => Some(past.saturating_add(read)),
        };
        if backlog.is_none_or(|past| past < BACKLOG_LIMIT) {
            return self.pulse.set_backlog(backlog);
        }
        self.pulse.set_backlog(None);
        if let Some(mut watch) = self.watch(self.config()) {
            watch.end_grace();
            self.pulse.keep(&watch);
        }
        self.judge(now);
    }

    /// The time is asked for where it matters: not for strays.
    pub(crate) fn handle_pong(&mut self, payload: &[u8], now: impl FnOnce() -> Time) -> PongKind {
        self.close_when_over();
        let proof = self.check(payload);
        self.handle_proof(proof, now)
    }

    /// The pong of that ping, verified before by the same key.
    pub(crate) fn handle_verified(&mut self, sequence: u64, at: Time) {
        self.close_when_over();
        let proof = self.pulse.ledger().proof_of(sequence);
        self.handle_proof(proof, || at);
    }

    /// Whose pong it is matters also then; the verdict stands.
    fn close_when_over(&mut self) {
        if self.pulse.is_over() {
            self.pulse.ledger_mut().newest = Newest::Closed;
        }
    }

    fn handle_proof(&mut self, proof: Proof, now: impl FnOnce() -> Time) -> PongKind {
        match proof {
            Proof::Newest => {
                let at = now();
                let rtt = at.since(self.pulse.ledger().at);
                let late = self.observe_lateness(at) || self.pulse.ledger().late;
                if !late {
                    self.pulse.rtt.sample(rtt);
                }
                self.pulse.proof = at;
                self.answered(at);
                self.pulse.ledger_mut().enter(proof);
                self.trace.pong(self.pulse.ledger().issued(), rtt);
                PongKind::Matched {
                    rtt: rtt.to_duration(),
                }
            }
            Proof::Earlier(_) => {
                let at = now();
                self.count_strays(0, 1);
                if !self.pulse.is_over() {
                    self.pulse.clear_misses();
                }
                self.pulse.proof = at;
                self.pulse.ledger_mut().enter(proof);
                PongKind::Stale
            }
            Proof::Nothing => self.handle_stray(now),
        }
    }

    pub(crate) fn handle_activity(&mut self, at: Time, now: Time) {
        if self.heeds_activity() && self.trusts_activity(at) {
            self.active(at, now);
        }
    }

    pub(crate) fn handle_sent(&mut self, at: Time) {
        match self.pulse.phase {
            Phase::Flushing => {
                let blocked = at.since(self.pulse.since());
                self.pulse.count_blocked(blocked);
                let stage = Stage::first(self.config().stall_grace());
                self.pulse.flushed(at, stage);
            }
            Phase::Closing(CloseStep::Flushing) => {
                self.pulse.close_sent();
                self.end();
                return;
            }
            // Answered before the flush was seen to complete, paused, or over.
            _ => {}
        }
        self.pulse.set(Flag::Sent, true);
    }

    pub(crate) fn handle_close_failed(&mut self) {
        if let Phase::Closing(_) = self.pulse.phase {
            self.end();
        }
    }

    /// Another configuration is in force than `before`.
    pub(crate) fn reconfigure(&mut self, before: &Config, now: Time) {
        if self.pulse.is_over() {
            return;
        }
        self.trace.configured(self.config());
        // While a ping is on its way into the sink, `due` is its own: the next is counted from it.
        if self.pulse.phase != Phase::Offered(Cause::Schedule) {
            self.reschedule(before);
        }

        if let (Some(old), Some(new)) = (self.watch(before), self.watch(self.config())) {
            let (since, grace) = (self.pulse.since(), self.config().stall_grace());
            self.pulse.keep(&old.restart(since, new.span(), grace, now));
        }
    }

    pub(crate) fn ping_now(&mut self) {
        match &mut self.pulse.phase {
            phase @ Phase::Idle => *phase = Phase::Due(Cause::Request),
            // On its way anyway; from now on it is asked for.
            Phase::Due(cause) | Phase::Offered(cause) => *cause = Cause::Request,
            _ => {}
        }
    }

    pub(crate) fn pause(&mut self) {
        if self.pulse.phase != Phase::Paused && !self.pulse.is_over() {
            // The pong of a ping that is out is read whenever somebody gets to it.
            self.pulse.ledger_mut().late = true;
            self.pulse.phase = Phase::Paused;
            self.trace.paused();
        }
    }

    pub(crate) fn resume(&mut self, now: Time) {
        if self.pulse.phase == Phase::Paused {
            self.pulse.ledger_mut().newest = Newest::Closed;
            self.pulse.clear_misses();
            self.pulse.clear_doublings();
            self.pulse.proof = now;
            self.pulse.phase = Phase::Idle;
            self.rebase(now);
            self.trace.resumed();
        }
    }

    pub(crate) fn stop(&mut self) {
        match self.pulse.phase {
            Phase::TimedOut | Phase::Stopped => {}
            Phase::Closing(_) => self.end(),
            _ => {
                self.pulse.phase = Phase::Stopped;
                self.trace.stopped();
            }
        }
    }

    #[inline]
    pub(crate) fn poll_step(&mut self, at: Time) -> Step {
        match self.pulse.phase {
            Phase::Idle if at >= self.pulse.due => self.offer(at, Cause::Schedule),
            Phase::Due(cause) => self.offer(at, cause),
            Phase::Closing(CloseStep::Due) => {
                self.pulse.phase = Phase::Closing(CloseStep::Offered);
                Step::Close(self.close_to())
            }
            _ => match self.verdict() {
                Some(verdict) => Step::Done(verdict),
                None => Step::Wait(self.next_look()),
            },
        }
    }

    pub(crate) fn transmit(&mut self, at: Time) -> Option<Frame> {
        match self.pulse.phase {
            Phase::Offered(cause) => {
                self.pulse.issue(at);
                match cause {
                    Cause::Schedule => self.advance(at),
                    Cause::Request => self.rebase(at),
                    // An extra ping: the grid goes on, unless it was overtaken.
                    Cause::Miss if self.pulse.due <= at => self.advance(at),
                    Cause::Miss => self.pulse.count_beside(),
                }
                let sequence = self.pulse.ledger().issued();
                self.trace.ping(sequence, cause);
                Some(Frame::Ping(self.terms.key.payload(sequence, self.member)))
            }
            Phase::Closing(CloseStep::Offered) => {
                self.pulse.phase = Phase::Closing(CloseStep::Flushing);
                self.config().close().cloned().map(Frame::Close)
            }
            _ => None,
        }
    }

    #[cold]
    pub(crate) fn count_strays(&mut self, unsolicited: u64, stale: u64) {
        let before = self.pulse.strays();
        self.pulse.count_strays(unsolicited, stale);
        self.trace.strays(before, self.pulse.strays());
    }

    // --- the schedule ---

    /// To the next point of the grid that lies in the future.
    fn advance(&mut self, now: Time) {
        self.pulse.begin_wait();
        // Full jitter can draw a wait of nothing.
        let wait = self.wait().max(Span::nanos(1));
        let skipped = now.since(self.pulse.due).as_nanos() / wait.as_nanos();
        let base = self.pulse.due.plus(Span::nanos(skipped * wait.as_nanos()));
        self.pulse.set_due(base, base.plus(wait));
    }

    /// A new grid from now on.
    fn rebase(&mut self, now: Time) {
        self.pulse.begin_wait();
        let due = now.plus(self.wait());
        self.pulse.set_due(now, due);
    }

    /// The peer was active: no ping is due before `at` + interval, but for the proof that activity
    /// is no substitute for.
    fn postpone(&mut self, at: Time) {
        let limit = self.trusted_until().unwrap_or(Time::NEVER);
        let due = at.plus(self.wait()).min(limit);
        if due > self.pulse.due {
            self.pulse.set(Flag::Initial, false);
            self.pulse.set_due(at, due);
            self.pulse.set(Flag::Postponed, true);
        }
    }

    /// The same wait as before, by the configuration in force.
    fn reschedule(&mut self, before: &Config) {
        if self.pulse.is(Flag::Initial) {
            self.pulse.due = self.first_due();
            return;
        }
        let base = self.pulse.base(self.wait_under(before));
        let mut due = base.plus(self.wait());
        if let Some(limit) = self
            .trusted_until()
            .filter(|_| self.pulse.is(Flag::Postponed))
        {
            // No further than to the end of the trust in activity.
            due = due.min(limit.max(base));
        }
        self.pulse.set_due(base, due);
    }

    fn offer(&mut self, now: Time, cause: Cause) -> Step {
        let stage = Stage::first(self.config().stall_grace());
        self.pulse.offer(now, cause, stage);
        Step::Ping
    }

    // --- answers ---

    /// The newest ping is answered; its pong or a policy says so.
    fn answered(&mut self, at: Time) {
        self.pulse.clear_misses();
        if !self.pulse.ledger().is_open() {
            // Answered by policy before.
            return;
        }
        self.pulse.clear_doublings();
        self.pulse.count_answered();
        // It has reached the peer, whatever the flush says.
        self.pulse.set(Flag::Sent, true);
        match self.pulse.phase {
            Phase::Flushing => {
                let blocked = at.since(self.pulse.since());
                self.pulse.count_blocked(blocked);
                self.pulse.phase = Phase::Idle;
            }
            Phase::Waiting => self.pulse.phase = Phase::Idle,
            // Paused while it was out.
            _ => {}
        }
    }

    fn answered_by_policy(&mut self, at: Time) {
        self.answered(at);
        self.pulse.ledger_mut().settle();
        self.trace.answered_by_policy(self.pulse.ledger().issued());
    }

    fn handle_stray(&mut self, now: impl FnOnce() -> Time) -> PongKind {
        let answers = match self.config().liveness() {
            Liveness::Pong => false,
            // What was there before the ping is no answer to it.
            Liveness::AnyPong if self.pulse.ledger().is_open() && !self.pulse.ledger().crowded => {
                self.answered_by_policy(now());
                true
            }
            Liveness::AnyPong => false,
            Liveness::Activity { .. } => {
                let at = now();
                self.trusts_activity(at) && self.active(at, at)
            }
        };
        if answers {
            return PongKind::Accepted;
        }
        self.count_strays(1, 0);
        PongKind::Unsolicited
    }

    /// The peer was active, which is trusted and told now. Whether that answers a ping.
    fn active(&mut self, at: Time, now: Time) -> bool {
        match self.pulse.phase {
            Phase::Idle => {
                self.pulse.clear_misses();
                self.postpone(at);
                false
            }
            Phase::Due(cause) | Phase::Offered(cause) => {
                self.pulse.clear_misses();
                // Who asked for a ping gets one.
                if cause != Cause::Request {
                    let offered = matches!(self.pulse.phase, Phase::Offered(_));
                    self.pulse.phase = Phase::Idle;
                    self.postpone(at);
                    // Told so late, it has called nothing off: the sink has been asked all the while.
                    if offered && self.pulse.due <= now {
                        self.offer(self.pulse.due, cause);
                    }
                }
                false
            }
            Phase::Flushing | Phase::Waiting => {
                let ledger = self.pulse.ledger();
                // What was stamped before the ping was handed over is no answer to it.
                let answers = ledger.is_open() && at >= ledger.at;
                if answers {
                    self.answered_by_policy(at);
                    self.postpone(at);
                }
                answers
            }
            Phase::Paused | Phase::Closing(_) | Phase::TimedOut | Phase::Stopped => false,
        }
    }

    // --- deadlines ---

    /// Whether this look at the newest ping comes late; it is counted once.
    fn observe_lateness(&mut self, at: Time) -> bool {
        let late = match self.pulse.phase {
            Phase::Flushing | Phase::Waiting => self.grid().lateness(self.watch_look(), at),
            _ => Span::ZERO,
        };
        self.count_late(late);
        late > Span::ZERO
    }

    fn count_late(&mut self, late: Span) {
        if late == Span::ZERO {
            return;
        }
        self.pulse.count_late(late);
        self.trace.late_wake(late);
    }

    fn judge(&mut self, now: Time) {
        match self.pulse.phase {
            Phase::Waiting if !self.config().judges_pongs() => self.write_off(now),
            Phase::Closing(_) if now >= self.pulse.close_deadline() => self.end(),
            _ => self.look(now),
        }
    }

    /// At the deadline of the ping that is out, if one is.
    fn look(&mut self, now: Time) {
        let Some(mut watch) = self.watch(self.config()) else {
            return;
        };
        let look = watch.look(now, self.grid());
        self.pulse.keep(&watch);
        match look {
            Look::Early => {}
            Look::Late(late) => self.late(late),
            Look::Expired(late) => {
                self.count_late(late);
                let elapsed = now.since(self.pulse.since());
                if self.pulse.phase == Phase::Waiting {
                    self.miss(elapsed, now);
                } else {
                    self.pulse.count_blocked(elapsed);
                    self.time_out(TimeoutPhase::Write, elapsed, now);
                }
            }
        }
    }

    /// Without a timeout: a ping that is unanswered when the next one is due.
    fn write_off(&mut self, now: Time) {
        if now >= self.pulse.due {
            self.pulse.count_missed();
            self.pulse.ledger_mut().newest = Newest::Closed;
            self.pulse.phase = Phase::Idle;
            self.trace.written_off(self.pulse.ledger().issued());
        }
    }

    fn late(&mut self, late: Span) {
        self.count_late(late);
        if self.pulse.ledger().is_open() {
            self.pulse.ledger_mut().late = true;
        }
    }

    fn miss(&mut self, elapsed: Span, now: Time) {
        self.pulse.count_missed();
        self.pulse.add_miss();
        self.pulse.add_doubling();
        self.pulse.ledger_mut().newest = Newest::Closed;
        let misses = self.pulse.misses();
        self.trace
            .miss(self.pulse.ledger().issued(), elapsed, misses);
        if misses >= self.config().max_missed() {
            self.time_out(TimeoutPhase::Pong, elapsed, now);
        } else {
            self.pulse.phase = Phase::Due(Cause::Miss);
        }
    }

    fn time_out(&mut self, phase: TimeoutPhase, elapsed: Span, now: Time) {
        self.pulse.condemn(phase, elapsed);
        // A sink that could not take the ping will not take the close frame either.
        let has_sink = phase == TimeoutPhase::Pong || self.close_to() == Destination::Dedicated;
        if has_sink && self.config().close().is_some() {
            let deadline = now.plus(self.config().spans().close_timeout);
            self.pulse.close_by(deadline);
        } else {
            self.end();
        }
    }

    /// The verdict is final, whatever has become of the close frame.
    fn end(&mut self) {
        self.pulse.phase = Phase::TimedOut;
        self.trace.timed_out(&self.pulse.timed_out());
    }
}
