//! The errors, each with the numbers that a log line needs.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::time::Span;

/// Why a heartbeat failed.
///
/// # Examples
///
/// ```
/// use futures_pinger::{Error, TimedOut};
///
/// fn log(error: &Error<std::io::Error>) {
///     match error {
///         Error::Timeout(peer) => eprintln!("the peer is gone: {peer}"),
///         Error::Transport(error) => eprintln!("the connection broke: {error}"),
///         other => eprintln!("{other}"),
///     }
/// }
/// # log(&Error::Transport(std::io::ErrorKind::BrokenPipe.into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The peer did not answer, or did not take what we sent, in time.
    Timeout(TimedOut),
    /// The sink or stream failed before any verdict.
    Transport(E),
    /// The closing handshake of a [`KeepAlive`](crate::KeepAlive) is complete and its connection has ended,
    /// so that a message was not sent. The stream ends without an error then.
    Closed,
}

impl<E> Error<E> {
    /// Returns the transport's error, if this error is one.
    ///
    /// # Errors
    ///
    /// This error itself, if it is not the transport's.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = futures_pinger::Error::Transport("reset by peer");
    /// assert_eq!(error.into_transport(), Ok("reset by peer"));
    /// ```
    pub fn into_transport(self) -> Result<E, Self> {
        match self {
            Self::Transport(error) => Ok(error),
            other => Err(other),
        }
    }
}

impl<E> From<TimedOut> for Error<E> {
    fn from(timed_out: TimedOut) -> Self {
        Self::Timeout(timed_out)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(timed_out) => timed_out.fmt(f),
            Self::Transport(error) => error.fmt(f),
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

/// The text of [`Error::Transport`] is that of the transport's error, so that [`source`](StdError::source)
/// returns the source of the transport's error, and no text appears twice.
impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Transport(error) => error.source(),
            Self::Timeout(_) | Self::Closed => None,
        }
    }
}

/// The verdict: the peer is gone, and what is known about it.
///
/// [`lateness`](Self::lateness) tells a dead peer from a starved process: it is how late our own
/// polls came while the fatal ping was out.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use futures_pinger::{Config, Heartbeat, Output, Verdict};
///
/// let (start, second) = (Instant::now(), Duration::from_secs(1));
/// let config = Config::builder().interval(second).timeout(second).no_close().build()?;
/// let mut heartbeat = Heartbeat::new(config, start);
///
/// assert_eq!(heartbeat.poll_output(start + second), Output::Ping);
/// let _ping = heartbeat.transmit(start + second);
/// heartbeat.handle_sent(start + second);
///
/// // Nobody answers. The heartbeat asks to be woken twice: shortly before its deadline, and at it.
/// while let Output::Wait(Some(next)) = heartbeat.poll_output(start + second) {
///     heartbeat.handle_timeout(next);
/// }
/// let Output::Done(Verdict::TimedOut(verdict)) = heartbeat.poll_output(start + 2 * second) else {
///     unreachable!()
/// };
/// assert_eq!(verdict.to_string(), "no pong for 1s (after 0 answered pings)");
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
// This struct is kept small, because each message that passes a `KeepAlive` is moved in a `Result` whose
// error contains it. With tungstenite that error is no larger than a message, so that the `Result` costs no
// more to move than the message alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    pub(crate) phase: TimeoutPhase,
    pub(crate) elapsed: Span,
    pub(crate) missed: u32,
    pub(crate) answered: u32,
    pub(crate) strays: u32,
    /// [`Span::NEVER`] if none was measured.
    pub(crate) last_rtt: Span,
    pub(crate) lateness: Span,
    pub(crate) reader_away: Span,
    pub(crate) close_sent: bool,
    /// Whether the heartbeat watched for pings alone, in the phase [`TimeoutPhase::Silence`].
    pub(crate) missed_pings: bool,
}

/// What a heartbeat was waiting for when its time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutPhase {
    /// The sink did not take the ping and flush it within the write timeout.
    Write,
    /// No pong came within the timeout.
    Pong,
    /// A close frame was sent or read, and the connection did not end within
    /// [`closing_handshake`](crate::ConfigBuilder::closing_handshake).
    Closing,
    /// No sign of life came within the time of [`watch`](crate::ConfigBuilder::watch), or no ping within
    /// that of [`watch_pings`](crate::ConfigBuilder::watch_pings). Each message is a sign of life; where the
    /// application reports activity itself ([`handle_activity`](crate::PongSender::handle_activity)), each
    /// report is one.
    Silence,
}

impl TimeoutPhase {
    /// All phases there are, for labels of metrics and the like. A later version may have more.
    pub const ALL: &'static [Self] = &[Self::Write, Self::Pong, Self::Closing, Self::Silence];

    /// The name in lower case, as `Display` shows it: `write`, `pong`, `closing` or `silence`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Pong => "pong",
            Self::Closing => "closing",
            Self::Silence => "silence",
        }
    }
}

impl fmt::Display for TimeoutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl TimedOut {
    /// What the heartbeat was waiting for.
    #[must_use]
    pub const fn phase(&self) -> TimeoutPhase {
        self.phase
    }

    /// How long the heartbeat waited: from the completed flush of the fatal ping for
    /// [`TimeoutPhase::Pong`], from the first offer of that ping to the sink for
    /// [`TimeoutPhase::Write`], from the close frame for [`TimeoutPhase::Closing`], and from the last
    /// message or ping that was seen for [`TimeoutPhase::Silence`].
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed.to_duration()
    }

    /// The number of pings in a row that no pong answered in time. A ping that could not be written is not
    /// among them.
    #[must_use]
    pub const fn missed(&self) -> u32 {
        self.missed
    }

    /// Pings that were answered in the whole life of the heartbeat.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.answered as u64
    }

    /// Pongs that answered nothing in the whole life of the heartbeat: strays, forgeries and repetitions. Where
    /// there are as many of them as pings, the peer, or something in between, mangles the payload; see
    /// [`Liveness::AnyPong`](crate::Liveness::AnyPong).
    #[must_use]
    pub const fn unsolicited(&self) -> u64 {
        self.strays as u64
    }

    /// The latest round-trip time that was measured, if any.
    #[must_use]
    pub const fn last_rtt(&self) -> Option<Duration> {
        self.last_rtt.known()
    }

    /// The greatest lateness of this side's own polls while the fatal ping was out. More than a few
    /// milliseconds tell of a stalled process or an executor that is short of time.
    #[must_use]
    pub const fn lateness(&self) -> Duration {
        self.lateness.to_duration()
    }

    /// The time since the last proof of life in which no pong could be read, because the reader was away; see
    /// [`Stats::reader_away`](crate::Stats::reader_away).
    #[must_use]
    pub const fn reader_away(&self) -> Duration {
        self.reader_away.to_duration()
    }

    /// Whether the close frame of this verdict was handed to the sink and flushed within the close timeout.
    /// A verdict of phase [`Closing`](TimeoutPhase::Closing) sends none, so that this is false: a close frame
    /// was sent or read before.
    ///
    /// This does not mean that the frame was delivered: a transport takes frames also where the path is
    /// dead, and where the sink is a queue, a flushed frame is a queued one.
    #[must_use]
    pub const fn close_sent(&self) -> bool {
        self.close_sent
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.phase {
            TimeoutPhase::Write => "ping not written",
            TimeoutPhase::Pong => "no pong",
            TimeoutPhase::Closing => "closing handshake not complete",
            TimeoutPhase::Silence if self.missed_pings => "no ping received",
            TimeoutPhase::Silence => "no sign of life",
        };
        write!(f, "{what} for {:?}", legible(self.elapsed()))?;
        // The pings that were before, and how late they were looked at, have nothing to do with closing.
        let is_closing = self.phase == TimeoutPhase::Closing;
        if self.missed > 1 && !is_closing {
            write!(f, ", {} pings missed in a row", self.missed)?;
        }
        let mut before = " (";
        let counts_pings = match self.phase {
            TimeoutPhase::Write | TimeoutPhase::Pong => true,
            // A heartbeat that only watches sends no pings, but may have sent some before.
            TimeoutPhase::Silence => self.answered > 0,
            // The number of answered pings says nothing about a closing handshake.
            TimeoutPhase::Closing => false,
        };
        if counts_pings {
            let plural = if self.answered == 1 { "" } else { "s" };
            write!(f, "{before}after {} answered ping{plural}", self.answered)?;
            before = ", ";
            if self.strays > 0 {
                let plural = if self.strays == 1 { "" } else { "s" };
                write!(f, "{before}{} other pong{plural} came", self.strays)?;
            }
        }
        let rtt = self.last_rtt().filter(|_| !is_closing);
        if let Some(rtt) = rtt {
            write!(f, "{before}last rtt {:?}", legible(rtt))?;
            before = ", ";
        }
        // Less than 1 ms is within the resolution of the timers.
        if self.lateness() >= Duration::from_millis(1) && !is_closing {
            let lateness = legible(self.lateness());
            write!(f, "{before}this side was late by {lateness:?}")?;
            before = ", ";
        }
        if self.reader_away() >= Duration::from_millis(1) {
            let away = legible(self.reader_away());
            write!(f, "{before}the reader was away for {away:?}")?;
            before = ", ";
        }
        f.write_str(if before == ", " { ")" } else { "" })
    }
}

impl fmt::Debug for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedOut")
            .field("phase", &self.phase)
            .field("elapsed", &self.elapsed())
            .field("missed", &self.missed)
            .field("answered", &self.answered)
            .field("unsolicited", &self.strays)
            .field("last_rtt", &self.last_rtt())
            .field("lateness", &self.lateness())
            .field("reader_away", &self.reader_away())
            .field("close_sent", &self.close_sent)
            .finish()
    }
}

impl StdError for TimedOut {}

/// Rounds a duration to four significant digits, so that a message has no digits that say nothing.
fn legible(duration: Duration) -> Duration {
    let nanos = duration.as_nanos();
    let mut step = 1;
    while nanos / step >= 10_000 {
        step *= 10;
    }
    let rounded = (nanos + step / 2) / step * step;
    u64::try_from(rounded).map_or(duration, Duration::from_nanos)
}

/// The connection has failed or ended before the work of
/// [`KeepAlive::run_while`](crate::KeepAlive::run_while) was done. The stream yields what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interrupted(pub(crate) ());

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection has failed or ended before the work was done")
    }
}

impl StdError for Interrupted {}

/// A value that [`ConfigBuilder::build`](crate::ConfigBuilder::build) or a preset of
/// [`protocols`](crate::protocols) refuses; its text names the option and the value.
///
/// # Examples
///
/// ```
/// let error = futures_pinger::Config::builder().jitter(1.1).build().unwrap_err();
/// assert_eq!(error.option(), "jitter");
/// assert_eq!(error.to_string(), "invalid jitter 1.1: must be between 0 and 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidConfig {
    pub(crate) option: &'static str,
    pub(crate) value: String,
    pub(crate) rule: &'static str,
}

impl InvalidConfig {
    pub(crate) fn new(option: &'static str, value: impl Into<String>, rule: &'static str) -> Self {
        Self {
            option,
            value: value.into(),
            rule,
        }
    }

    /// The option's name, that of its builder method or its parameter.
    #[must_use]
    pub const fn option(&self) -> &'static str {
        self.option
    }

    /// The refused value as text.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {} {}: {}", self.option, self.value, self.rule)
    }
}

impl StdError for InvalidConfig {}

/// A close code or reason that no close frame may carry (RFC 6455 §5.5, §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidCloseReason {
    /// The code is reserved, undefined or out of range.
    Code(u16),
    /// The reason is longer than 123 bytes; this is its length.
    ReasonLength(usize),
}

impl fmt::Display for InvalidCloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => {
                write!(f, "close code {code} must not be sent in a close frame")
            }
            Self::ReasonLength(len) => {
                write!(f, "close reason of {len} bytes is longer than 123")
            }
        }
    }
}

impl StdError for InvalidCloseReason {}

/// The heartbeat of a handle has ended, so that the handle can do nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the heartbeat has ended")
    }
}

impl StdError for Closed {}

/// Why a [`PingerSet`](crate::PingerSet) does not put a configuration in force.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::{Config, Frame, PingerSet, SetConfigError};
///
/// let set = PingerSet::<futures::sink::Drain<Frame>>::new(Config::default());
/// let other = Config::builder().granularity(Duration::from_millis(5)).build()?;
/// let refused = set.handle().set_config(other).unwrap_err();
/// assert_eq!(refused.to_string(), "invalid granularity 5ms: must equal the granularity of the set");
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetConfigError {
    /// The set is gone.
    Closed,
    /// The configuration does not suit the set: all its members share one granularity.
    Invalid(InvalidConfig),
    /// The members of the set are under 256 other configurations already.
    TooMany,
}

impl fmt::Display for SetConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the set is gone"),
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::TooMany => {
                f.write_str("the set has 256 configurations already, and cannot have more")
            }
        }
    }
}

impl StdError for SetConfigError {}

/// A connection that a [`PingerSet`](crate::PingerSet) did not let in, given back with the cause.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InsertError<Si, K = ()> {
    /// The key that was given.
    pub key: K,
    /// The sink that was given.
    pub outgoing: Si,
    /// Why the connection was not let in.
    pub cause: SetConfigError,
}

impl<Si, K> fmt::Debug for InsertError<Si, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsertError")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl<Si, K> fmt::Display for InsertError<Si, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

// The text is that of the cause, so that `source` must not return the cause again. The cause has no source.
impl<Si, K> StdError for InsertError<Si, K> {}

/// Why no ping is sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PingNowError {
    /// The heartbeat has ended.
    Closed,
    /// The heartbeat sends no pings: it only [watches](crate::ConfigBuilder::watch).
    Watching,
}

impl From<Closed> for PingNowError {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl fmt::Display for PingNowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => Closed.fmt(f),
            Self::Watching => f.write_str("the heartbeat only watches, and sends no pings"),
        }
    }
}

impl StdError for PingNowError {}

/// Why a [`Probe`](crate::Probe) has no round trip to tell.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::ProbeError;
///
/// let late = ProbeError::Late { within: Duration::from_secs(5) };
/// assert_eq!(late.to_string(), "no ping was answered within 5s");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeError {
    /// No ping was answered in the time that was given. The heartbeat goes on: only its own timeout
    /// judges.
    Late {
        /// The time that was given.
        within: Duration,
    },
    /// The heartbeat has ended.
    Ended,
    /// The heartbeat is [paused](crate::Controller::pause).
    Paused,
    /// A verdict has fallen and its close frame is on its way, or a close frame of the connection itself was
    /// sent or read.
    Closing,
    /// The heartbeat sends no pings: it only [watches](crate::ConfigBuilder::watch).
    Watching,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { within } => write!(f, "no ping was answered within {within:?}"),
            Self::Ended => Closed.fmt(f),
            Self::Paused => f.write_str("the heartbeat is paused"),
            Self::Closing => f.write_str("the connection is closing"),
            Self::Watching => PingNowError::Watching.fmt(f),
        }
    }
}

impl StdError for ProbeError {}

/// Why a [`PingSender`](crate::PingSender) did not take a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendPingError {
    /// The [`Ponger`](crate::Ponger) has ended.
    Closed,
    /// The payload is longer than the 125 bytes of a control frame (RFC 6455 §5.5), so that no
    /// valid pong can answer it; this is its length. The peer broke the protocol.
    TooLong(usize),
}

impl fmt::Display for SendPingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the ponger has ended"),
            Self::TooLong(len) => {
                write!(f, "ping payload of {len} bytes is longer than 125")
            }
        }
    }
}

impl StdError for SendPingError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stats::HeartbeatState;

    fn verdict() -> TimedOut {
        TimedOut {
            phase: TimeoutPhase::Pong,
            elapsed: Duration::from_secs(20).into(),
            missed: 1,
            answered: 12,
            last_rtt: Duration::from_millis(31).into(),
            lateness: Span::ZERO,
            reader_away: Span::ZERO,
            strays: 0,
            close_sent: true,
            missed_pings: false,
        }
    }

    // contract: E38
    #[test]
    fn the_text_of_an_unfinished_closing_handshake_says_nothing_of_pings() {
        let closing = TimedOut {
            phase: TimeoutPhase::Closing,
            missed: 2,
            lateness: Duration::from_secs(1).into(),
            ..verdict()
        };
        assert_eq!(
            closing.to_string(),
            "closing handshake not complete for 20s"
        );
    }

    // contract: E38
    #[test]
    fn the_text_of_a_verdict_carries_its_numbers() {
        assert_eq!(
            verdict().to_string(),
            "no pong for 20s (after 12 answered pings, last rtt 31ms)"
        );
        let stalled = TimedOut {
            phase: TimeoutPhase::Write,
            missed: 2,
            answered: 1,
            last_rtt: Span::NEVER,
            lateness: Duration::from_millis(1500).into(),
            ..verdict()
        };
        assert_eq!(
            stalled.to_string(),
            "ping not written for 20s, 2 pings missed in a row \
             (after 1 answered ping, this side was late by 1.5s)"
        );
        let away = TimedOut {
            strays: 3,
            reader_away: Duration::from_secs(31).into(),
            ..verdict()
        };
        assert_eq!(
            away.to_string(),
            "no pong for 20s (after 12 answered pings, 3 other pongs came, last rtt 31ms, \
             the reader was away for 31s)"
        );
    }

    #[test]
    fn each_phase_and_each_state_has_a_name_of_its_own() {
        let phases: BTreeSet<_> = TimeoutPhase::ALL.iter().map(|it| it.to_string()).collect();
        assert_eq!(phases.len(), 4);
        let states: BTreeSet<_> = HeartbeatState::ALL
            .iter()
            .map(|it| it.to_string())
            .collect();
        assert_eq!(states.len(), 7);
    }

    #[test]
    fn durations_are_shown_with_four_digits() {
        let shown = |nanos| format!("{:?}", legible(Duration::from_nanos(nanos)));
        assert_eq!(shown(1_507_433_928), "1.507s");
        assert_eq!(shown(151_475), "151.5µs");
        assert_eq!(shown(20_000_000_000), "20s");
        assert_eq!(shown(0), "0ns");
        assert_eq!(legible(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn the_error_of_the_transport_is_shown_in_its_own_words_and_once() {
        let error = Error::Transport(std::io::Error::other("reset"));
        assert_eq!(error.to_string(), "reset");
        assert!(
            error
                .source()
                .is_none_or(|source| source.to_string() != "reset")
        );
        let error: Error<std::io::Error> = verdict().into();
        assert_eq!(error.to_string(), verdict().to_string());
        let other = error.into_transport().unwrap_err();
        assert!(matches!(other, Error::Timeout(timed_out) if timed_out == verdict()));
    }

    /// An error of a transport, with the one beneath it.
    #[derive(Debug)]
    struct Reset(fmt::Error);

    impl fmt::Display for Reset {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("reset")
        }
    }

    impl StdError for Reset {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_source_is_that_of_the_error_of_the_transport() {
        let error = Error::Transport(Reset(fmt::Error));
        assert!(
            error
                .source()
                .is_some_and(|source| source.is::<fmt::Error>())
        );
        assert!(Error::<Reset>::Closed.source().is_none());
    }

    // contract: E38
    #[test]
    fn the_text_of_silence_tells_of_pings_if_any_were_answered_before() {
        let silence = |answered| TimedOut {
            phase: TimeoutPhase::Silence,
            answered,
            ..verdict()
        };
        assert_eq!(
            silence(3).to_string(),
            "no sign of life for 20s (after 3 answered pings, last rtt 31ms)"
        );
        assert_eq!(
            silence(0).to_string(),
            "no sign of life for 20s (last rtt 31ms)"
        );
    }

    #[test]
    fn work_that_was_interrupted_says_why() {
        assert_eq!(
            Interrupted(()).to_string(),
            "the connection has failed or ended before the work was done"
        );
    }
}
