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
//!    process stalls, add the time it stalled, and for each ping up to twice the longest stall, or
//!    twice the timeout if that is less. The close frame adds at most `close_timeout + g`.
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
//! more than the slack late moves likewise, once, unless the checkpoint was that late already. So
//! no verdict falls unless the heartbeat was driven with its input read shortly before, and a dead
//! peer is found all the same. The write deadline has the same grace, the close deadline has none.
//! [`ConfigBuilder::stall_grace`](crate::ConfigBuilder::stall_grace) turns it off.

use std::time::Duration;

use crate::config::{Config, Liveness, Timeout};
use crate::error::{TimedOut, TimeoutPhase};
use crate::frame::Frame;
use crate::grid::Grid;
use crate::payload::{Key, Ledger, Newest, Proof};
use crate::rtt::Rtt;
use crate::stats::{Counters, Snapshot, State, Stats};
use crate::time::{Instant, Span, Time};
use crate::trace::Trace;
use crate::watch::{Look, Watch};

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

/// Why a ping is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Schedule,
    Miss,
    Request,
}

/// How far the close frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseStep {
    Due,
    Offered,
    Flushing,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The next ping is due at `due`.
    Idle,
    /// A ping is due at once, whatever the schedule says.
    Due(Cause),
    /// A ping has been offered to the sink, which is not ready.
    Offered {
        since: Time,
        watch: Watch,
        cause: Cause,
    },
    /// The sink has the ping, which is not flushed.
    Flushing {
        since: Time,
        watch: Watch,
    },
    /// The flushed ping waits for its answer.
    Waiting {
        since: Time,
        watch: Watch,
    },
    Paused,
    Closing {
        step: CloseStep,
        deadline: Time,
        verdict: TimedOut,
    },
    Done(Verdict),
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
    config: Config,
    origin: Instant,
    ledger: Ledger,
    phase: Phase,
    /// The next point of the grid at which a ping is due.
    due: Time,
    /// The point before it, from which `due` was counted.
    base: Time,
    /// The random share of the jitter in the wait between them.
    drawn: u32,
    /// `due` is that of the first ping, by the initial delay.
    initial: bool,
    /// Activity has put `due` off.
    postponed: bool,
    /// Consecutive pings without an answer.
    misses: u32,
    /// How often the adaptive timeout has doubled.
    doublings: u32,
    /// The last verified pong, or the start.
    proof: Time,
    /// There was more to read when it was last driven.
    crowded: bool,
    /// Items read past a deadline while more are ready; none as long as none is passed.
    backlog: Option<u32>,
    /// The worst lateness while the newest ping was out.
    lateness: Span,
    rtt: Rtt,
    counters: Counters,
    close_to: Destination,
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
            origin: now,
            ledger: Ledger::new(key),
            phase: Phase::Idle,
            due: Time::ORIGIN,
            base: Time::ORIGIN,
            drawn: 0,
            initial: true,
            postponed: false,
            misses: 0,
            doublings: 0,
            proof: Time::ORIGIN,
            crowded: false,
            backlog: None,
            lateness: Span::ZERO,
            rtt: Rtt::NONE,
            counters: Counters::default(),
            close_to: Destination::Outgoing,
            trace: Trace::new(&config),
            config,
        };
        heartbeat.draw();
        heartbeat.due = heartbeat.first_due();
        heartbeat
    }

    /// The close frame has a sink of its own: it is then sent after a write timeout too.
    #[must_use]
    pub fn dedicated_close(mut self) -> Self {
        self.close_to = Destination::Dedicated;
        self
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Judges the deadlines. Call it when the instant of [`Output::Wait`] has come, after all input
    /// that was ready has been handled; it does no harm at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout_at(self.time(now));
    }

    #[inline]
    pub(crate) fn handle_timeout_at(&mut self, now: Time) {
        self.backlog = None;
        if self.crowded {
            self.crowded = false;
            if let Some(flight) = self.ledger.open() {
                flight.crowded = false;
            }
        }
        // Nearly always, and then there is nothing to judge.
        if !matches!(self.phase, Phase::Idle) {
            self.judge(now);
        }
    }

    /// Instead of [`handle_timeout`](Self::handle_timeout), when `read` more items have been
    /// handled and further ones are ready. No deadline is judged before [`BACKLOG_LIMIT`] of them
    /// have been read past it; then it is judged, without grace.
    ///
    /// A caller that cannot know whether more is ready calls this with 1 after each item, and
    /// [`handle_timeout`](Self::handle_timeout) when its timer fires.
    pub fn handle_backlog(&mut self, read: u32, now: Instant) {
        self.handle_backlog_at(read, self.time(now));
    }

    pub(crate) fn handle_backlog_at(&mut self, read: u32, now: Time) {
        self.crowded = true;
        let deadline = match &self.phase {
            Phase::Offered { watch, .. } | Phase::Flushing { watch, .. } => watch.deadline(),
            Phase::Waiting { .. } if !self.config.judges_pongs() => self.due,
            Phase::Waiting { watch, .. } => watch.deadline(),
            Phase::Closing { .. } => return self.judge(now),
            Phase::Idle | Phase::Due(_) | Phase::Paused | Phase::Done(_) => {
                self.backlog = None;
                return;
            }
        };
        // What was read by the first look past the deadline may have been read before it.
        self.backlog = match self.backlog {
            _ if now < deadline => None,
            None => Some(0),
            Some(past) => Some(past.saturating_add(read)),
        };
        if self.backlog.is_none_or(|past| past < BACKLOG_LIMIT) {
            return;
        }
        self.backlog = None;
        if let Phase::Offered { watch, .. }
        | Phase::Flushing { watch, .. }
        | Phase::Waiting { watch, .. } = &mut self.phase
        {
            watch.end_grace();
        }
        self.judge(now);
    }

    /// The peer sent a pong. It may be of any length and content.
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) -> PongKind {
        self.handle_pong_at(payload, self.time(now))
    }

    pub(crate) fn handle_pong_at(&mut self, payload: &[u8], at: Time) -> PongKind {
        let mut proof = self.ledger.check(payload);
        if matches!(self.phase, Phase::Closing { .. } | Phase::Done(_)) {
            // Whose pong it is still matters; the verdict stands.
            self.ledger.newest = Newest::Closed;
            proof = self.ledger.check(payload);
        }
        match proof {
            Proof::Newest(flight) => {
                let rtt = at.since(flight.at);
                let late = self.observe_lateness(at) || flight.late;
                if !late {
                    self.rtt.sample(rtt);
                }
                self.proof = at;
                self.answered(at);
                self.ledger.enter(proof);
                self.trace.pong(self.ledger.issued(), rtt);
                PongKind::Matched {
                    rtt: rtt.to_duration(),
                }
            }
            Proof::Earlier(_) => {
                self.count_strays(0, 1);
                self.misses = 0;
                self.proof = at;
                self.ledger.enter(proof);
                PongKind::Stale
            }
            Proof::Nothing => self.handle_stray(at),
        }
    }

    /// The peer sent something else: data, a ping. It counts with [`Liveness::Activity`] alone;
    /// once for each batch of messages is enough.
    pub fn handle_activity(&mut self, now: Instant) {
        self.handle_activity_at(self.time(now));
    }

    pub(crate) fn handle_activity_at(&mut self, at: Time) {
        if self.heeds_activity() && self.trusts_activity(at) {
            self.active(at);
        }
    }

    /// The frame that [`transmit`](Self::transmit) returned is flushed.
    pub fn handle_sent(&mut self, now: Instant) {
        self.handle_sent_at(self.time(now));
    }

    pub(crate) fn handle_sent_at(&mut self, at: Time) {
        match self.phase {
            Phase::Flushing { since, .. } => {
                self.counters.blocked(at.since(since));
                let grace = self.config.stall_grace();
                if let Some(flight) = self.ledger.open() {
                    flight.at = at;
                }
                self.phase = Phase::Waiting {
                    since: at,
                    watch: Watch::start(at, self.pong_timeout(), grace),
                };
            }
            Phase::Closing {
                step: CloseStep::Flushing,
                mut verdict,
                ..
            } => {
                verdict.close_sent = true;
                self.end(verdict);
                return;
            }
            // Answered before the flush was seen to complete, paused, or over.
            _ => {}
        }
        self.counters.sent = self.ledger.issued();
    }

    /// The close frame cannot be written: the verdict stands without it.
    ///
    /// Before a verdict it does nothing: a broken transport is the caller's to report.
    pub fn handle_close_failed(&mut self) {
        if let Phase::Closing { verdict, .. } = self.phase {
            self.end(verdict);
        }
    }

    /// Puts another configuration in force. The ping in flight survives: its deadline is counted
    /// anew from its own sending, and where that lies in the past it is judged at the next turn of
    /// the timer, without grace. The next ping is due one new interval after the last due time. A
    /// lower `max_missed` applies from the next miss on. Once the verdict has fallen it changes
    /// nothing.
    pub fn set_config(&mut self, config: Config, now: Instant) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Done(_)) {
            return;
        }
        let now = self.time(now);
        self.config = config;
        // The same share as before, unless there was no jitter.
        self.draw();
        self.trace.configured(&self.config);
        let going = matches!(
            self.phase,
            Phase::Offered {
                cause: Cause::Schedule,
                ..
            }
        );
        // While a ping is on its way into the sink, `due` is its own: the next is counted from it.
        if !going {
            self.due = if self.initial {
                self.first_due()
            } else {
                self.base.plus(self.wait())
            };
            if let Some(limit) = self.trusted_until().filter(|_| self.postponed) {
                // No further than to the end of the trust in activity.
                self.due = self.due.min(limit.max(self.base));
            }
        }

        let grace = self.config.stall_grace();
        let write_timeout = Span::from(self.config.write_timeout());
        let pong_timeout = self.pong_timeout();
        match &mut self.phase {
            Phase::Offered { since, watch, .. } | Phase::Flushing { since, watch } => {
                *watch = watch.restart(*since, write_timeout, grace, now);
            }
            Phase::Waiting { since, watch } => {
                *watch = watch.restart(*since, pong_timeout, grace, now);
            }
            _ => {}
        }
    }

    /// Sends a ping at once, unless one is out already or the heartbeat is paused. The next one is
    /// due an interval after it.
    pub fn ping_now(&mut self, _now: Instant) {
        match &mut self.phase {
            Phase::Idle => self.phase = Phase::Due(Cause::Request),
            // On its way anyway; from now on it is asked for.
            Phase::Due(cause) | Phase::Offered { cause, .. } => *cause = Cause::Request,
            _ => {}
        }
    }

    /// No pings and no verdicts until [`resume`](Self::resume). Pongs are still welcome, a flush
    /// that has begun should be completed, and a close frame on its way goes on.
    pub fn pause(&mut self, _now: Instant) {
        if !matches!(
            self.phase,
            Phase::Paused | Phase::Closing { .. } | Phase::Done(_)
        ) {
            if let Newest::Open(flight) | Newest::Settled(flight) = &mut self.ledger.newest {
                // Its pong is read whenever somebody gets to it.
                flight.late = true;
            }
            self.phase = Phase::Paused;
            self.trace.paused();
        }
    }

    /// Goes on as if it were new: a ping that was in flight is written off without a miss, and the
    /// next is due one interval from now. Without a [`pause`](Self::pause) before it does nothing.
    pub fn resume(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Paused) {
            let now = self.time(now);
            self.ledger.newest = Newest::Closed;
            self.misses = 0;
            self.doublings = 0;
            self.proof = now;
            self.phase = Phase::Idle;
            self.rebase(now);
            self.trace.resumed();
        }
    }

    /// Ends the heartbeat: no further frame. A verdict that has fallen stands.
    pub fn stop(&mut self) {
        match self.phase {
            Phase::Done(_) => {}
            Phase::Closing { verdict, .. } => self.end(verdict),
            _ => {
                self.phase = Phase::Done(Verdict::Requested);
                self.trace.stopped();
            }
        }
    }

    /// What to do next; call it until it says [`Output::Wait`] or [`Output::Done`].
    ///
    /// The answer may change after any other call, and when the instant of [`Output::Wait`] comes.
    pub fn poll_output(&mut self, now: Instant) -> Output {
        match self.poll_step(self.time(now)) {
            Step::Ping => Output::Ping,
            Step::Close(destination) => Output::Close(destination),
            Step::Wait(until) => Output::Wait(until.instant(self.origin)),
            Step::Done(verdict) => Output::Done(verdict),
        }
    }

    pub(crate) fn poll_step(&mut self, at: Time) -> Step {
        match &mut self.phase {
            Phase::Idle if at >= self.due => self.offer(at, Cause::Schedule),
            Phase::Due(cause) => {
                let cause = *cause;
                self.offer(at, cause)
            }
            Phase::Closing {
                step: step @ CloseStep::Due,
                ..
            } => {
                *step = CloseStep::Offered;
                Step::Close(self.close_to)
            }
            Phase::Done(verdict) => Step::Done(*verdict),
            _ => Step::Wait(self.next_look()),
        }
    }

    /// The frame that wants to go. Call it once the sink is ready for it and put the frame into the
    /// sink at once: nothing is buffered here, and nothing is kept. None where nothing wants to go
    /// (any more).
    pub fn transmit(&mut self, now: Instant) -> Option<Frame> {
        self.transmit_at(self.time(now))
    }

    pub(crate) fn transmit_at(&mut self, at: Time) -> Option<Frame> {
        match &mut self.phase {
            Phase::Offered {
                since,
                watch,
                cause,
            } => {
                let (since, watch, cause) = (*since, *watch, *cause);
                self.phase = Phase::Flushing { since, watch };
                let payload = self.ledger.issue(at, self.crowded);
                match cause {
                    Cause::Schedule => self.advance(at),
                    Cause::Request => self.rebase(at),
                    // An extra ping: the grid goes on, unless it was overtaken.
                    Cause::Miss if self.due <= at => self.advance(at),
                    Cause::Miss => {}
                }
                self.trace.ping(self.ledger.issued(), cause);
                Some(Frame::Ping(payload))
            }
            Phase::Closing {
                step: step @ CloseStep::Offered,
                ..
            } => {
                *step = CloseStep::Flushing;
                self.config.close().cloned().map(Frame::Close)
            }
            _ => None,
        }
    }

    /// Whether [`transmit`](Self::transmit) would return a frame.
    #[inline]
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        matches!(
            self.phase,
            Phase::Offered { .. }
                | Phase::Closing {
                    step: CloseStep::Offered,
                    ..
                }
        )
    }

    /// Between two pings with the next not due, and nothing that was read changes that: there is
    /// nothing to do.
    #[inline]
    pub(crate) fn is_resting(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Idle)
            && !self.heeds_activity()
            && self.due.instant(self.origin).is_none_or(|due| now < due)
    }

    /// Whether a deadline, or the checkpoint before it, has passed and is not judged yet.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        match &self.phase {
            Phase::Offered { .. } | Phase::Flushing { .. } | Phase::Waiting { .. } => {
                self.next_look() <= now
            }
            _ => false,
        }
    }

    /// Whether the verdict has fallen and the close frame is on its way.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// The verdict while the close frame is on its way.
    #[inline]
    pub(crate) fn closing(&self) -> Option<TimedOut> {
        match &self.phase {
            Phase::Closing { verdict, .. } => Some(*verdict),
            _ => None,
        }
    }

    /// What has been counted and measured so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = match &self.phase {
            Phase::Idle | Phase::Due(_) => Snapshot::Fixed(State::Idle),
            Phase::Offered { .. } | Phase::Flushing { .. } => Snapshot::Fixed(State::Sending),
            Phase::Waiting { .. } if self.misses > 0 => Snapshot::Fixed(State::Suspect),
            Phase::Waiting { since, .. } => Snapshot::Waiting {
                suspect_from: self
                    .rtt
                    .timeout(self.granularity())
                    .map_or(since.plus(UNMEASURED), |usual| since.plus(usual))
                    .instant(self.origin),
            },
            Phase::Paused => Snapshot::Fixed(State::Paused),
            Phase::Closing { .. } => Snapshot::Fixed(State::Closing),
            Phase::Done(_) => Snapshot::Fixed(State::Gone),
        };
        Stats {
            counters: self.counters,
            rtt: self.rtt,
            state,
        }
    }

    /// The same for good: whatever it was doing, it is over.
    pub(crate) fn final_stats(&self) -> Stats {
        self.stats().gone()
    }

    /// Whether activity means anything to it.
    pub(crate) fn heeds_activity(&self) -> bool {
        matches!(self.config.liveness(), Liveness::Activity { .. })
    }

    /// The number of the ping whose pong is waited for, and its deadline.
    pub(crate) fn awaited(&self) -> Option<(u64, &Watch)> {
        match &self.phase {
            Phase::Waiting { watch, .. } if self.config.judges_pongs() => {
                Some((self.ledger.issued(), watch))
            }
            _ => None,
        }
    }

    /// Whether that ping was the newest, and its pong has come since.
    pub(crate) fn was_answered_after(&self, ping: u64, at: Instant) -> bool {
        self.unanswered().is_none() && self.ledger.issued() == ping && self.proof > self.time(at)
    }

    /// How it has ended.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match &self.phase {
            Phase::Done(verdict) => Some(*verdict),
            _ => None,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.phase, Phase::Paused)
    }

    /// The number of the ping that is out.
    pub(crate) fn unanswered(&self) -> Option<u64> {
        let open = matches!(self.ledger.newest, Newest::Open(_));
        open.then(|| self.ledger.issued())
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// The ping before the newest was missed.
    pub(crate) fn has_missed(&self) -> bool {
        self.misses > 0
    }

    /// The last verified pong, or the start.
    pub(crate) fn proof(&self) -> Time {
        self.proof
    }

    /// Pongs that mean nothing here, or that a shell has dropped on their way.
    pub(crate) fn count_strays(&mut self, unsolicited: u64, stale: u64) {
        let before = self.counters;
        self.counters.unsolicited += unsolicited;
        self.counters.stale += stale;
        self.trace.strays(&before, &self.counters);
    }

    /// The shells of this crate tell the time once in each poll.
    #[inline]
    pub(crate) fn time(&self, now: Instant) -> Time {
        Time::at(self.origin, now)
    }

    fn granularity(&self) -> Span {
        self.config.granularity().into()
    }

    /// The wake-ups that it asks for are rounded up to this.
    #[inline]
    pub(crate) fn grid(&self) -> Grid {
        Grid {
            origin: self.origin,
            step: self.granularity(),
        }
    }

    // --- the schedule ---

    fn draw(&mut self) {
        // Drawing costs a hash; without jitter nobody looks at it.
        if self.config.jitter() > 0.0 {
            self.drawn = self.ledger.key().draw(self.ledger.issued());
        }
    }

    fn first_due(&self) -> Time {
        let delay = self.config.initial_delay();
        Time::ORIGIN.plus(self.config.jittered(delay, self.drawn))
    }

    fn wait(&self) -> Span {
        self.config.jittered(self.config.interval(), self.drawn)
    }

    /// To the next point of the grid that lies in the future.
    fn advance(&mut self, now: Time) {
        self.initial = false;
        self.postponed = false;
        self.draw();
        // Full jitter can draw a wait of nothing.
        let wait = self.wait().max(Span::nanos(1));
        let skipped = now.since(self.due).as_nanos() / wait.as_nanos();
        self.base = self.due.plus(Span::nanos(skipped * wait.as_nanos()));
        self.due = self.base.plus(wait);
    }

    /// A new grid from now on.
    fn rebase(&mut self, now: Time) {
        self.initial = false;
        self.postponed = false;
        self.draw();
        self.base = now;
        self.due = now.plus(self.wait());
    }

    /// The peer was active: no ping is due before `at` + interval, but for the proof that activity
    /// is no substitute for.
    fn postpone(&mut self, at: Time) {
        let limit = self.trusted_until().unwrap_or(Time::NEVER);
        let due = at.plus(self.wait()).min(limit);
        if due > self.due {
            self.initial = false;
            self.base = at;
            self.due = due;
            self.postponed = true;
        }
    }

    fn offer(&mut self, now: Time, cause: Cause) -> Step {
        let write_timeout = Span::from(self.config.write_timeout());
        self.lateness = Span::ZERO;
        self.backlog = None;
        self.phase = Phase::Offered {
            since: now,
            watch: Watch::start(now, write_timeout, self.config.stall_grace()),
            cause,
        };
        Step::Ping
    }

    fn next_look(&self) -> Time {
        match &self.phase {
            Phase::Idle => self.due,
            Phase::Offered { watch, .. } | Phase::Flushing { watch, .. } => watch.next(),
            // Without a timeout the ping is written off when the next one is due.
            Phase::Waiting { .. } if !self.config.judges_pongs() => self.due,
            Phase::Waiting { watch, .. } => watch.next(),
            Phase::Closing { deadline, .. } => *deadline,
            Phase::Due(_) | Phase::Paused | Phase::Done(_) => Time::NEVER,
        }
    }

    fn pong_timeout(&self) -> Span {
        match self.config.pong_timeout() {
            Timeout::Fixed(timeout) => (*timeout).into(),
            Timeout::Never => Span::NEVER,
            Timeout::Adaptive(range) => {
                let (start, end) = (Span::from(*range.start()), Span::from(*range.end()));
                let Some(measured) = self.rtt.timeout(self.granularity()) else {
                    return end;
                };
                let factor = 1_u64.checked_shl(self.doublings).unwrap_or(u64::MAX);
                let backed_off = measured.clamp(start, end).as_nanos().saturating_mul(factor);
                Span::nanos(backed_off).min(end)
            }
        }
    }

    // --- answers ---

    /// The newest ping is answered; its pong or a policy says so.
    fn answered(&mut self, at: Time) {
        self.misses = 0;
        if !matches!(self.ledger.newest, Newest::Open(_)) {
            // Answered by policy before.
            return;
        }
        self.doublings = 0;
        self.counters.answered += 1;
        // It has reached the peer, whatever the flush says.
        self.counters.sent = self.ledger.issued();
        match self.phase {
            Phase::Flushing { since, .. } => {
                self.counters.blocked(at.since(since));
                self.phase = Phase::Idle;
            }
            Phase::Waiting { .. } => self.phase = Phase::Idle,
            // Paused while it was out.
            _ => {}
        }
    }

    fn answered_by_policy(&mut self, at: Time) {
        self.answered(at);
        self.ledger.settle();
        self.trace.answered_by_policy(self.ledger.issued());
    }

    fn handle_stray(&mut self, at: Time) -> PongKind {
        let answers = match self.config.liveness() {
            Liveness::Pong => false,
            // What was there before the ping is no answer to it.
            Liveness::AnyPong if self.ledger.open().is_some_and(|it| !it.crowded) => {
                self.answered_by_policy(at);
                true
            }
            Liveness::AnyPong => false,
            Liveness::Activity { .. } => self.trusts_activity(at) && self.active(at),
        };
        if answers {
            return PongKind::Accepted;
        }
        self.count_strays(1, 0);
        PongKind::Unsolicited
    }

    /// Until when activity is trusted in place of a pong; none where it never is.
    fn trusted_until(&self) -> Option<Time> {
        match self.config.liveness() {
            Liveness::Activity { max_unproven } => Some(self.proof.plus(max_unproven.into())),
            Liveness::Pong | Liveness::AnyPong => None,
        }
    }

    fn trusts_activity(&self, at: Time) -> bool {
        self.trusted_until().is_some_and(|until| at < until)
    }

    /// The peer was active, which is trusted. Whether that answers a ping.
    fn active(&mut self, at: Time) -> bool {
        match &mut self.phase {
            Phase::Idle => {
                self.misses = 0;
                self.postpone(at);
                false
            }
            Phase::Due(cause) | Phase::Offered { cause, .. } => {
                let cause = *cause;
                self.misses = 0;
                // Who asked for a ping gets one.
                if cause != Cause::Request {
                    self.phase = Phase::Idle;
                    self.postpone(at);
                }
                false
            }
            Phase::Flushing { .. } | Phase::Waiting { .. } => {
                // What was stamped before the ping was handed over is no answer to it.
                let answers = self.ledger.open().is_some_and(|flight| at >= flight.at);
                if answers {
                    self.answered_by_policy(at);
                    self.postpone(at);
                }
                answers
            }
            Phase::Paused | Phase::Closing { .. } | Phase::Done(_) => false,
        }
    }

    // --- deadlines ---

    /// Whether this look at the newest ping comes late; it is counted once.
    fn observe_lateness(&mut self, at: Time) -> bool {
        let late = match &self.phase {
            Phase::Flushing { watch, .. } | Phase::Waiting { watch, .. } => {
                watch.lateness(at, self.grid())
            }
            _ => Span::ZERO,
        };
        if late == Span::ZERO {
            return false;
        }
        self.count_late(late);
        true
    }

    fn count_late(&mut self, late: Span) {
        if late == Span::ZERO {
            return;
        }
        self.counters.late_wakes += 1;
        self.counters.worst_lateness = self.counters.worst_lateness.max(late);
        self.lateness = self.lateness.max(late);
        self.trace.late_wake(late);
    }

    fn judge(&mut self, now: Time) {
        let grid = self.grid();
        match &mut self.phase {
            Phase::Offered { since, watch, .. } | Phase::Flushing { since, watch } => {
                let since = *since;
                match watch.look(now, grid) {
                    Look::Early => {}
                    Look::Late(late) => self.late(late),
                    Look::Expired(late) => {
                        self.count_late(late);
                        self.counters.blocked(now.since(since));
                        self.time_out(TimeoutPhase::Write, now.since(since), now);
                    }
                }
            }
            Phase::Waiting { .. } if !self.config.judges_pongs() => self.write_off(now),
            Phase::Waiting { since, watch } => {
                let since = *since;
                match watch.look(now, grid) {
                    Look::Early => {}
                    Look::Late(late) => self.late(late),
                    Look::Expired(late) => {
                        self.count_late(late);
                        self.miss(now.since(since), now);
                    }
                }
            }
            Phase::Closing {
                deadline, verdict, ..
            } if now >= *deadline => {
                let verdict = *verdict;
                self.end(verdict);
            }
            _ => {}
        }
    }

    /// Without a timeout: a ping that is unanswered when the next one is due.
    fn write_off(&mut self, now: Time) {
        if now >= self.due {
            self.counters.missed += 1;
            self.ledger.newest = Newest::Closed;
            self.phase = Phase::Idle;
            self.trace.written_off(self.ledger.issued());
        }
    }

    fn late(&mut self, late: Span) {
        self.count_late(late);
        if let Some(flight) = self.ledger.open() {
            flight.late = true;
        }
    }

    fn miss(&mut self, elapsed: Span, now: Time) {
        self.counters.missed += 1;
        self.misses = self.misses.saturating_add(1);
        self.doublings = self.doublings.saturating_add(1);
        self.ledger.newest = Newest::Closed;
        self.trace.miss(self.ledger.issued(), elapsed, self.misses);
        if self.misses >= self.config.max_missed() {
            self.time_out(TimeoutPhase::Pong, elapsed, now);
        } else {
            self.phase = Phase::Due(Cause::Miss);
        }
    }

    fn time_out(&mut self, phase: TimeoutPhase, elapsed: Span, now: Time) {
        let verdict = TimedOut {
            phase,
            elapsed,
            missed: self.misses,
            answered: self.counters.answered,
            last_rtt: self.rtt.latest_span(),
            lateness: self.lateness,
            close_sent: false,
        };
        // A sink that could not take the ping will not take the close frame either.
        let has_sink = phase == TimeoutPhase::Pong || self.close_to == Destination::Dedicated;
        if has_sink && self.config.close().is_some() {
            self.phase = Phase::Closing {
                step: CloseStep::Due,
                deadline: now.plus(self.config.close_timeout().into()),
                verdict,
            };
        } else {
            self.end(verdict);
        }
    }

    /// The verdict is final, whatever has become of the close frame.
    fn end(&mut self, verdict: TimedOut) {
        self.phase = Phase::Done(Verdict::TimedOut(verdict));
        self.trace.timed_out(&verdict);
    }
}

/// A verdict is told also where nobody waits for its close frame any more.
impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.handle_close_failed();
    }
}
