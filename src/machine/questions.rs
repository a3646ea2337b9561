//! What a heartbeat is asked: all that its record says, and changes nothing.

use std::ops::{Deref, RangeInclusive};

use super::deadline::{Deadline, slack};
use super::machine::{Destination, Machine, Verdict};
use super::record::{CloseStep, End, Handshake, Phase, Record, Start, WaitKind};
use crate::config::{Config, Liveness, Timeout};
use crate::error::{ProbeError, TimedOut, TimeoutPhase};
use crate::grid::Grid;
use crate::stats::{HeartbeatState, Snapshot, Stats};
use crate::time::{Span, Time};

/// The round-trip time that counts as usual before one was measured (RFC 6298 §2.1).
const UNMEASURED: Span = Span::nanos(1_000_000_000);

/// Which messages of the peer are signs of life, pongs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heeded {
    Nothing,
    Pings,
    Messages,
}

/// What one heartbeat adds to the totals of a set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) state: HeartbeatState,
    pub(crate) sent: u64,
    pub(crate) answered: u32,
    pub(crate) unsolicited: u32,
    /// `None` for a heartbeat that is quiet: all its pings were taken and answered at once.
    pub(crate) trouble: Option<Trouble>,
}

/// What a heartbeat that is not quiet adds to the totals of a set.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// Whether the newest pings were missed, and not answered since.
    pub(crate) has_misses: bool,
    pub(crate) missed: u32,
    pub(crate) stale: u64,
    /// The verdict by which it has ended.
    pub(crate) verdict: Option<TimeoutPhase>,
}

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

    /// Whether a handle reports the heartbeat as ended: it has ended, or a close frame of the connection
    /// itself was sent or read.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.record.phase, Phase::Handshake(_) | Phase::Ended(_))
    }

    /// Whether a close frame of the connection itself was read, and none was sent that is known of.
    #[inline]
    pub(crate) fn owes_close(&self) -> bool {
        self.record.phase == Phase::Handshake(Handshake::Read)
    }

    /// Whether a close frame of the connection itself went both ways, be it that the connection is over since.
    #[inline]
    pub(crate) fn has_closed(&self) -> bool {
        matches!(
            self.record.phase,
            Phase::Handshake(Handshake::Both) | Phase::Ended(End::Closed)
        )
    }

    /// Whether the heartbeat has ended, so that no close frame of its own is on its way either.
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

    /// Whether the last part of the wait for the peer has begun, by whose end the driver must know what is
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

    /// The state, without regard to the time: a heartbeat that waits for longer than usual is not suspect by
    /// that alone.
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

    /// What this heartbeat adds to the totals of a set.
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

    /// Whether any message but a pong can be a sign of life.
    #[inline]
    pub(crate) fn heeds_activity(&self) -> bool {
        self.config().liveness().max_unproven().is_some()
    }

    /// Which messages of the peer, besides pongs, must be reported to the heartbeat.
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
            Phase::Ended(End::Requested | End::Disconnected | End::Closed)
        )
    }

    /// By how much the judgement of the peer may be put off; `None` if nothing is to be judged at `now`.
    pub(crate) fn leeway(&self, now: Time) -> Option<Span> {
        let (.., timeout) = self.awaited()?;
        (self.is_overdue(now) || self.record.due.has_come(now)).then(|| slack(timeout))
    }

    /// How long an application may take for a batch of messages: a quarter of the slack.
    pub(crate) fn patience(&self) -> Span {
        let timeout = match &self.config().spans().timeout {
            Timeout::Fixed(timeout) => *timeout,
            Timeout::Adaptive(range) => *range.start(),
            // One of these two is never, as a heartbeat either sends pings or watches.
            Timeout::Never => self
                .config()
                .spans()
                .interval
                .min(self.config().spans().within),
        };
        Span::nanos(slack(timeout).as_nanos() / 4)
    }

    /// The wait for the peer: a number that tells it from other waits, its deadline, and its timeout. The wait
    /// is for the pong of the newest ping (deadline and timeout are never if no timeout is set), or for a sign
    /// of life where no pings are sent.
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

    /// Whether a turn has judged the peer, and if so, whether that ends the heartbeat, or would if the verdict
    /// were not held. `issued` is the number of pings before the turn. The peer is also judged, as alive, when
    /// the next ping is sent after an answer, or when the next silence is waited for.
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

    /// Whether a close frame of ours was handed to the sink and flushed.
    pub(crate) fn close_sent(&self) -> bool {
        self.record.close_sent()
    }

    /// The timeout that was found, even if its close frame is still on its way.
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
    /// due time, whichever is first; from the due time on, the visit that ends the wait wakes the driver.
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

    /// When to look at a ping that is on offer or out: when it is judged, or when the next ping is due.
    #[inline]
    pub(super) fn look_before(&self, judgement: Time) -> Time {
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

    /// The random share of the jitter in the wait for the next ping. It is the same at each call until the
    /// next wait begins.
    fn jitter_share(&self) -> u32 {
        // A draw costs a hash, which is spared if there is no jitter.
        if self.config().jitter() > 0.0 {
            self.draw()
        } else {
            0
        }
    }

    fn draw(&self) -> u32 {
        self.terms.key.draw(self.record.jitter_seed(), self.member)
    }

    pub(super) fn first_due(&self) -> Time {
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
    pub(super) fn wait(&self, config: &Config) -> Span {
        config.jittered(config.spans().interval, self.jitter_share())
    }

    // --- deadlines ---

    /// The deadline of the ping that is on offer or out, as this configuration counts it.
    pub(super) fn deadline(&self, config: &Config) -> Option<Deadline> {
        self.timeout(config)
            .map(|timeout| self.record.deadline(timeout))
    }

    /// How long the current wait may take: that of a ping on offer or out, or that for a sign of life.
    #[inline]
    pub(super) fn timeout(&self, config: &Config) -> Option<Span> {
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
    pub(super) fn close_deadline(&self, now: Time) -> Time {
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

    /// Until when activity is trusted in place of a pong; `None` if it never is.
    pub(super) fn trusted_until(&self) -> Option<Time> {
        let max_unproven = self.config().liveness().max_unproven()?;
        Some(self.record.last_proof.plus(max_unproven.into()))
    }

    /// Whether activity puts off the next ping.
    pub(super) fn postpones(&self) -> bool {
        matches!(self.config().liveness(), Liveness::Activity { .. })
    }

    pub(super) fn trusts_activity(&self, at: Time) -> bool {
        self.trusted_until().is_some_and(|until| at < until)
    }
}
