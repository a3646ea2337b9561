//! The language of the scripts, and what can be seen of a heartbeat that goes through one.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_pinger::testing::Fault;
use futures_pinger::{Config, ConfigBuilder, HeartbeatState, Liveness, ProbeError};

/// Nanoseconds since the start.
pub type Time = u64;

pub const MILLISECOND: Time = 1_000_000;

/// What happens to a heartbeat. Its driver has done all that there is to do before the next step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Time passes, and the heartbeat is driven as it asks.
    Pass(Time),
    /// Time passes, and this process does not run; a pong of the newest ping may arrive meanwhile.
    Stall(Time, bool),
    /// The machine was in suspend for so long, and nothing of the time has passed that others see. Then the
    /// heartbeat is polled.
    Suspend(Time),
    Pong(Pong),
    /// So many pongs at once that nobody asked for.
    Strays(u8),
    /// A message that is no pong.
    Activity,
    /// A ping of the peer's.
    PeerPing,
    Sink(Change),
    /// So many calls in a row.
    PingsNow(u8),
    /// A probe that waits for so long.
    Probe(Time),
    Pause,
    Resume,
    Configure(Options),
    EndPongs,
    Stop,
    /// The owner asks for a close frame, 1001, and the end.
    Close,
    /// Whoever reads passes the whole stream of messages on from now on.
    Attach,
}

impl Step {
    /// Whose pongs come with it: the numbers of their pings, 0 for strays.
    pub fn pongs(&self, issued: u64, last: &mut u64) -> impl Iterator<Item = u64> + use<> {
        let (number, count) = match self {
            Self::Pong(pong) => (pong.number(issued, last), 1),
            Self::Strays(count) => (0, *count),
            Self::Stall(_, true) => (issued, 1),
            _ => (0, 0),
        };
        std::iter::repeat_n(number, count.into())
    }
}

/// Whose pong comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong {
    Newest,
    /// That of the ping so many before the newest but one.
    Earlier(u8),
    /// The same as the last one.
    Repeated,
    /// Nearly that of the newest ping.
    Forged(u8),
}

impl Pong {
    /// The number of its ping, from 1; 0 if it has none.
    pub fn number(self, issued: u64, last: &mut u64) -> u64 {
        match self {
            Self::Newest => *last = issued,
            Self::Earlier(back) => *last = issued.saturating_sub(1 + u64::from(back)),
            Self::Repeated => {}
            Self::Forged(_) => return 0,
        }
        *last
    }

    /// What it carries, where the pings so far carried `payloads`.
    pub fn payload(self, payloads: &[Bytes], last: &mut u64) -> Bytes {
        let number = usize::try_from(self.number(payloads.len() as u64, last)).expect("few");
        match (self, payloads.last()) {
            (Self::Forged(how), Some(newest)) => forged(newest, how),
            _ if number == 0 => Bytes::from_static(b"stray"),
            _ => payloads[number - 1].clone(),
        }
    }
}

/// Cut off, extended, or with one bit flipped.
fn forged(payload: &Bytes, how: u8) -> Bytes {
    let mut bytes = payload.to_vec();
    let at = usize::from(how >> 3);
    match at {
        0..16 => bytes[at] ^= 1 << (how & 7),
        16..24 => bytes.truncate(at - 16),
        24 => bytes.push(how),
        _ => bytes.resize(usize::from(how), how),
    }
    bytes.into()
}

/// What the sink does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It takes nothing.
    Block,
    /// It takes frames and does not flush them.
    BlockFlush,
    Unblock,
    Fail(Fault),
    /// The budget of its task runs out so often in a row from now on.
    Yield(u8),
}

/// What came of a step of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Nothing,
    /// The sink has taken the frame.
    Take,
    Flush,
    Fail,
}

/// The state of the sink.
#[derive(Debug, Clone, Default)]
pub struct Sink {
    unflushed: bool,
    blocked: bool,
    flush_blocked: bool,
    faults: Vec<Fault>,
}

impl Sink {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Block => self.blocked = true,
            Change::BlockFlush => self.flush_blocked = true,
            Change::Unblock => (self.blocked, self.flush_blocked) = (false, false),
            Change::Fail(fault) => self.faults.push(fault),
            // It is asked again at once.
            Change::Yield(_) => {}
        }
    }

    /// One step of whoever writes: what is in it is flushed before it takes another frame.
    pub fn poll(&mut self, wanted: bool) -> Did {
        let polled = match self.unflushed {
            true => self.flush(),
            false if wanted => self.ready(),
            false => Poll::Pending,
        };
        let did = match polled {
            Poll::Pending => return Did::Nothing,
            Poll::Ready(false) => return Did::Fail,
            Poll::Ready(true) if self.unflushed => Did::Flush,
            Poll::Ready(true) => Did::Take,
        };
        self.unflushed = did == Did::Take;
        did
    }

    pub fn has_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Whether it takes a frame; false is a failure.
    fn ready(&self) -> Poll<bool> {
        match self.blocked {
            _ if self.fails(Fault::Ready) => Poll::Ready(false),
            true => Poll::Pending,
            false => Poll::Ready(!self.fails(Fault::Send)),
        }
    }

    /// Whether it gets rid of a frame that it took; false is a failure.
    fn flush(&self) -> Poll<bool> {
        match self.flush_blocked {
            _ if self.fails(Fault::Flush) => Poll::Ready(false),
            true => Poll::Pending,
            false => Poll::Ready(true),
        }
    }

    fn fails(&self, at: Fault) -> bool {
        self.faults.contains(&at)
    }
}

/// A configuration, in nanoseconds; exact, and without chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub interval: Time,
    pub initial_delay: Time,
    pub timeout: Time,
    pub write_timeout: Time,
    /// None: no close frame.
    pub close_timeout: Option<Time>,
    pub max_missed: u32,
    pub rule: Rule,
    pub stall_grace: bool,
}

/// What the peer must do. What only watches makes no use of what is said about pings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rule {
    #[default]
    Pong,
    AnyPong,
    /// Trusted for so long.
    Traffic(Time),
    /// Something comes within that time.
    Watch(Time),
    /// A ping comes within that time.
    WatchPings(Time),
}

impl Rule {
    /// How long the peer may be silent, where no pings are sent.
    pub fn within(self) -> Option<Time> {
        match self {
            Self::Watch(within) | Self::WatchPings(within) => Some(within),
            _ => None,
        }
    }

    /// Whether pongs answer that are not the ping's own.
    pub fn is_answered_by_strays(self) -> bool {
        matches!(self, Self::AnyPong | Self::Traffic(_))
    }
}

impl Default for Options {
    fn default() -> Self {
        let second = 1000 * MILLISECOND;
        Self {
            interval: 20 * second,
            initial_delay: 20 * second,
            timeout: 20 * second,
            write_timeout: 20 * second,
            close_timeout: Some(second),
            max_missed: 1,
            rule: Rule::Pong,
            stall_grace: true,
        }
    }
}

impl Options {
    pub fn builder(&self) -> ConfigBuilder {
        let nanos = Duration::from_nanos;
        let builder = Config::builder()
            .granularity(Duration::ZERO)
            .write_timeout(nanos(self.write_timeout))
            .stall_grace(self.stall_grace);
        let builder = match self.rule {
            Rule::Watch(within) => builder.watch(nanos(within)),
            Rule::WatchPings(within) => builder.watch_pings(nanos(within)),
            rule => builder
                .interval(nanos(self.interval))
                .initial_delay(nanos(self.initial_delay))
                .timeout(nanos(self.timeout))
                .max_missed(self.max_missed)
                .liveness(match rule {
                    Rule::AnyPong => Liveness::AnyPong,
                    Rule::Traffic(time) => Liveness::Traffic {
                        max_unproven: nanos(time),
                    },
                    _ => Liveness::Pong,
                }),
        };
        match self.close_timeout {
            Some(timeout) => builder.close_timeout(nanos(timeout)),
            None => builder.no_close(),
        }
    }

    pub fn config(&self) -> Config {
        self.builder().build().expect("valid")
    }
}

pub fn nanos(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).expect("virtual times are small")
}

/// A frame that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// With its number, from 1.
    Ping(u64),
    /// With its code.
    Close(u16),
}

/// How a heartbeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// So long after it was offered.
    NotWritten(Time),
    /// So long after the flush, with so many misses in a row, and whether the close frame was sent. With
    /// none it is silence, where no pings are sent.
    NoPong(Time, u32, bool),
    Transport,
    PongsEnded,
    Requested,
}

/// What a probe has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    Waiting,
    RoundTrip(Time),
    Late,
    Refused(ProbeError),
}

impl From<Result<Duration, ProbeError>> for Probed {
    fn from(outcome: Result<Duration, ProbeError>) -> Self {
        match outcome {
            Ok(round_trip) => Self::RoundTrip(nanos(round_trip)),
            Err(ProbeError::Late { .. }) => Self::Late,
            Err(error) => Self::Refused(error),
        }
    }
}

/// Where a heartbeat stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Idle,
    /// A ping waits for the sink; why it is due.
    Offered(&'static str),
    /// The sink has it.
    Flushing,
    Waiting,
    /// No pings are sent.
    Watching,
    Paused,
    /// The time without a pong, and the misses in a row, of the verdict that has fallen.
    Closing(Time, u32),
    Gone,
}

impl Phase {
    pub fn state(self) -> HeartbeatState {
        match self {
            Self::Idle | Self::Watching => HeartbeatState::Idle,
            Self::Offered(_) | Self::Flushing => HeartbeatState::Sending,
            Self::Waiting => HeartbeatState::Waiting,
            Self::Paused => HeartbeatState::Paused,
            Self::Closing(..) => HeartbeatState::Closing,
            Self::Gone => HeartbeatState::Gone,
        }
    }
}

/// All that can be seen of a heartbeat but its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub sent: u64,
    pub answered: u64,
    pub missed: u64,
    /// No more than these are counted once the verdict has fallen.
    pub stale: u64,
    pub unsolicited: u64,
    pub rtt: Option<Time>,
    pub frames: Vec<(Time, Sent)>,
    pub end: Option<(Time, End)>,
    pub probes: Vec<Probed>,
}

impl Seen {
    /// Whether the sink has taken a close frame.
    pub fn has_closed(&self) -> bool {
        matches!(self.frames.last(), Some((_, Sent::Close(_))))
    }
}
