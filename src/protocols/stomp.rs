//! The heart-beats of STOMP 1.1 and 1.2.

use std::time::Duration;

use super::beats::{Beats, preset};
use crate::config::{Config, ConfigBuilder, Liveness};
use crate::error::InvalidConfig;
use crate::protocol::{MessageKind, Rfc6455};

/// The end of a line between frames (STOMP 1.2, "Heart-beating"), which since 1.2 may also be CR LF.
const BEAT: &str = "\n";
const LONG_BEAT: &str = "\r\n";

/// For how many of its own intervals a peer may be silent: the protocol asks for a margin of error, and stompjs
/// waits for twice the interval.
const MARGIN: u32 = 2;

/// The heart-beats of STOMP 1.1 and 1.2, of either end: each sends the end of a line where it has nothing else
/// to send, and neither answers the other's.
///
/// The two `heart-beat` headers say how often: [`config`](Self::config) makes the options of them. Beats of the
/// peer are passed on, as pings are, unless [`data_only`](crate::KeepAlive::data_only) takes them out; parsers of
/// STOMP skip them. As beats answer nothing, no round-trip time is measured.
///
/// Source: STOMP 1.2, "Heart-beating".
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::protocols::Stomp;
///
/// // The headers of the CONNECT frame that is sent, and of the CONNECTED frame that is read:
/// let options = Stomp::config("10000,10000", "0,10000")?.expect("we send, they do not");
/// let config = options.build()?;
/// assert_eq!(config.interval(), Duration::from_secs(9));
/// assert_eq!(config.timeout(), None);
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stomp<P = Rfc6455> {
    below: P,
}

impl Stomp {
    /// The heart-beats in the messages of a [WebSocket crate](crate#websocket-crates) whose feature is on.
    #[must_use]
    pub const fn new() -> Self {
        Self { below: Rfc6455 }
    }

    /// The options that two `heart-beat` headers make: ours and that of the peer, whichever of us is the client.
    /// `None` if there are no beats in either direction. For a frame without the header give `0,0`.
    ///
    /// Beats that the peer has asked for are sent a tenth earlier than they must be, as timers may be late.
    /// Beats that the peer has promised are waited for twice as long. Every message of the peer counts:
    ///
    /// | We send | The peer sends | Options |
    /// |---|---|---|
    /// | each S | each R | [`Liveness::Traffic`], an interval of 0.9 S, as many misses as it takes to wait for 2 R, and 2 R or 1.8 S for a write, whichever is longer |
    /// | each S | nothing | an interval of 0.9 S, [`no_timeout`](ConfigBuilder::no_timeout) |
    /// | nothing | each R | [`watch`](ConfigBuilder::watch)`(2 R)` |
    ///
    /// In the first of these a beat that the peer has not answered within an interval counts as a miss, although
    /// the peer may beat more slowly: [`Stats::missed`](crate::Stats::missed) grows then.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], with the option `heart-beat`, for a header that is not two numbers of milliseconds
    /// with a comma between.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::protocols::Stomp;
    ///
    /// let options = Stomp::config("0,5000", "5000,0")?.expect("they send");
    /// assert_eq!(options.build()?.watch(), Some(Duration::from_secs(10)));
    ///
    /// assert!(Stomp::config("10000,10000", "0,0")?.is_none());
    /// let error = Stomp::config("10000", "0,0").unwrap_err();
    /// assert_eq!(error.value(), "10000");
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    pub fn config(ours: &str, theirs: &str) -> Result<Option<ConfigBuilder>, InvalidConfig> {
        let (ours, theirs) = (HeartBeat::parse(ours)?, HeartBeat::parse(theirs)?);
        let sent = agreed(ours.sends, theirs.wants).map(|each| each.saturating_sub(each / 10));
        let silence = agreed(theirs.sends, ours.wants).map(|each| each.saturating_mul(MARGIN));
        let options = Config::builder();
        Ok(match (sent, silence) {
            (None, None) => None,
            (None, Some(silence)) => Some(options.watch(silence)),
            (Some(sent), None) => Some(options.interval(sent).no_timeout()),
            (Some(sent), Some(silence)) => {
                // A beat that waits for its answer holds the next one back, so it may wait no longer than an
                // interval.
                let timeout = silence.min(sent);
                let misses = silence.as_nanos().div_ceil(timeout.as_nanos());
                let options = options
                    .interval(sent)
                    .timeout(timeout)
                    // A beat that the sink does not take at once must not shorten the wait for the peer.
                    .write_timeout(silence.max(sent.saturating_mul(MARGIN)))
                    .max_missed(u32::try_from(misses).unwrap_or(u32::MAX))
                    .liveness(Liveness::Traffic {
                        max_unproven: Duration::MAX,
                    });
                Some(options)
            }
        })
    }
}

/// A `heart-beat` header.
#[derive(Clone, Copy)]
struct HeartBeat {
    /// The shortest interval at which the sender of the header can send beats; zero if it cannot.
    sends: Duration,
    /// The interval at which the sender of the header would like to read beats; zero if it would not.
    wants: Duration,
}

impl HeartBeat {
    fn parse(header: &str) -> Result<Self, InvalidConfig> {
        let millis = |text: &str| text.trim().parse().ok().map(Duration::from_millis);
        let pair = header.split_once(',');
        match pair.and_then(|(sends, wants)| Some((millis(sends)?, millis(wants)?))) {
            Some((sends, wants)) => Ok(Self { sends, wants }),
            None => {
                let rule = "must be two whole numbers of milliseconds with a comma between them";
                Err(InvalidConfig::new("heart-beat", header, rule))
            }
        }
    }
}

/// The interval of the beats in one direction: the longer of the two, and `None` if either end has none.
fn agreed(sends: Duration, wants: Duration) -> Option<Duration> {
    (!sends.is_zero() && !wants.is_zero()).then(|| sends.max(wants))
}

impl<P> Beats for Stomp<P> {
    fn ping(&self, _: &[u8]) -> String {
        BEAT.into()
    }

    fn pong(&self, _: &[u8]) -> Option<String> {
        None
    }

    #[inline]
    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t> {
        match text {
            BEAT | LONG_BEAT => MessageKind::Ping(&[]),
            _ => MessageKind::Data,
        }
    }
}

preset!(Stomp {});
