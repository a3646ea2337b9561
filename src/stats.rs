//! A snapshot of what a heartbeat has seen.

use std::fmt;
use std::time::Duration;

use crate::rtt::Rtt;
use crate::time::{Instant, Span};

/// What a heartbeat has counted and measured so far: a copy, taken when it was asked for.
///
/// Round-trip times are exact to the nanosecond below 1 s, to the microsecond below 17 minutes.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
/// use futures_pinger::{Config, Heartbeat, HeartbeatState};
///
/// let now = Instant::now();
/// let stats = Heartbeat::new(Config::default(), now).stats();
/// assert_eq!((stats.sent(), stats.smoothed_rtt()), (0, None));
/// assert_eq!(stats.state_at(now), HeartbeatState::Idle);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub(crate) counters: Counters,
    pub(crate) rtt: Rtt,
    pub(crate) state: Snapshot,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) missed: u64,
    pub(crate) stale: u64,
    pub(crate) unsolicited: u64,
    pub(crate) late_wakes: u64,
    pub(crate) worst_lateness: Span,
    pub(crate) write_blocked: Span,
    pub(crate) reader_away: Span,
}

/// The state, and from when on a wait is suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshot {
    Fixed(HeartbeatState),
    Waiting { suspect_from: Option<Instant> },
}

/// What a heartbeat is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeartbeatState {
    /// No ping is out: the next one is not due, or the heartbeat only
    /// [watches](crate::ConfigBuilder::watch).
    Idle,
    /// A ping is on its way into the sink.
    Sending,
    /// A flushed ping waits for its answer, no longer than usual.
    Waiting,
    /// A ping has been unanswered for longer than the round-trip times seen so far explain
    /// (SRTT + max(G, 4·RTTVAR), and 1 s before the first of them; RFC 6298 §2), or an earlier one
    /// was missed.
    Suspect,
    /// The verdict has fallen and the close frame is on its way; or a close frame of the connection
    /// itself was sent or read.
    Closing,
    /// The heartbeat has ended.
    Gone,
    /// The heartbeat is [paused](crate::Controller::pause): it sends no pings and judges nothing.
    Paused,
}

impl HeartbeatState {
    /// All states there are, for labels of metrics and the like. A later version may have more.
    pub const ALL: &'static [Self] = &[
        Self::Idle,
        Self::Sending,
        Self::Waiting,
        Self::Suspect,
        Self::Closing,
        Self::Gone,
        Self::Paused,
    ];

    /// The name in lower case, as `Display` shows it.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::HeartbeatState;
    ///
    /// assert_eq!(HeartbeatState::Suspect.as_str(), "suspect");
    /// assert_eq!(HeartbeatState::ALL[0].to_string(), "idle");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Suspect => "suspect",
            Self::Closing => "closing",
            Self::Gone => "gone",
            Self::Paused => "paused",
        }
    }
}

impl fmt::Display for HeartbeatState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Stats {
    /// Pings that were flushed.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.counters.sent
    }

    /// Pings that were answered, by their pong or by policy.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.counters.answered
    }

    /// Pings that were not answered in time.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.counters.missed
    }

    /// Verified pongs that came too late for their ping.
    #[must_use]
    pub const fn stale(&self) -> u64 {
        self.counters.stale
    }

    /// Pongs that matched nothing: strays, forgeries, repetitions.
    #[must_use]
    pub const fn unsolicited(&self) -> u64 {
        self.counters.unsolicited
    }

    /// How many deadlines this side looked at later than it had asked to, because the process was stopped or
    /// its executor was busy.
    #[must_use]
    pub const fn late_wakes(&self) -> u64 {
        self.counters.late_wakes
    }

    /// The greatest lateness of the looks that [`late_wakes`](Self::late_wakes) counts.
    #[must_use]
    pub const fn worst_lateness(&self) -> Duration {
        self.counters.worst_lateness.to_duration()
    }

    /// The total time for which pings waited for the sink to take and flush them.
    #[must_use]
    pub const fn write_blocked(&self) -> Duration {
        self.counters.write_blocked.to_duration()
    }

    /// The total time for which no pong could be read, because the application did not read what lay before it
    /// ([`KeepAlive`](crate::KeepAlive#bounds)), or because the reader of an attached stream
    /// ([`attach`](crate::PongSender::attach)) was away. An absence counts from the time at which the heartbeat
    /// found it while a ping was out. It is added when everything has been read, so that an absence that goes
    /// on is not counted yet.
    #[must_use]
    pub const fn reader_away(&self) -> Duration {
        self.counters.reader_away.to_duration()
    }

    /// The latest round-trip time, from the flushed ping to its pong. A pong of another payload
    /// ([`Liveness::AnyPong`](crate::Liveness::AnyPong)) and an answer without one
    /// ([`MessageKind::Answer`](crate::MessageKind::Answer)) are measured where no earlier ping lacks its
    /// answer (Karn's rule, RFC 6298 §3). Data that answers is never measured.
    #[must_use]
    pub fn latest_rtt(&self) -> Option<Duration> {
        self.rtt.latest()
    }

    /// The smoothed round-trip time: SRTT of RFC 6298.
    #[must_use]
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// The variation of the round-trip times: RTTVAR of RFC 6298.
    #[must_use]
    pub fn rtt_variation(&self) -> Option<Duration> {
        self.rtt.variation()
    }

    /// The shortest round-trip time.
    #[must_use]
    pub fn min_rtt(&self) -> Option<Duration> {
        self.rtt.min()
    }

    /// The state at `now`, as far as this snapshot tells. [`Waiting`](HeartbeatState::Waiting) turns into
    /// [`Suspect`](HeartbeatState::Suspect) as time goes by; any other change needs a newer snapshot.
    #[must_use]
    pub fn state_at(&self, now: Instant) -> HeartbeatState {
        self.state.at(Some(now))
    }
}

impl Snapshot {
    /// The state at `now`. Without a `now`, because the clock is out of its range, a wait does not turn into
    /// [`HeartbeatState::Suspect`].
    pub(crate) fn at(self, now: Option<Instant>) -> HeartbeatState {
        match self {
            Self::Fixed(state) => state,
            Self::Waiting {
                suspect_from: Some(from),
            } if now.is_some_and(|now| now > from) => HeartbeatState::Suspect,
            Self::Waiting { .. } => HeartbeatState::Waiting,
        }
    }
}
