//! Heartbeats in texts that are compared as a whole.

use super::beats::{Beats, preset};
use super::id;
use crate::error::InvalidConfig;
use crate::protocol::{MessageKind, Rfc6455};

/// A heartbeat in plain texts: a ping and its pong, which are compared as a whole.
///
/// Where both have `$id` in them, the payload of the ping goes there as hexadecimal digits. The id proves the
/// pong, so that a replayed pong is refused. Without an id a pong is a [`MessageKind::Answer`].
///
/// The peer may ping in the same way. Whatever it has in the place of `$id`,
/// [`pong_for`](crate::Protocol::pong_for) sends it back.
///
/// # Examples
///
/// ```
/// use futures_pinger::protocols::Text;
/// use futures_pinger::{Frame, MessageKind, Protocol};
/// use tungstenite_0_30::Message;
///
/// // As many exchanges do it:
/// let trusted = Text::new("ping", "pong")?;
/// assert_eq!(trusted.encode(Frame::Ping(vec![1].into())), Some(Message::text("ping")));
/// assert_eq!(trusted.classify(&Message::text("pong")), MessageKind::Answer);
///
/// // With an id, which proves the pong:
/// let proven = Text::new("PING $id", "PONG $id")?;
/// let ping = proven.encode(Frame::Ping(vec![1, 0xff].into()));
/// assert_eq!(ping, Some(Message::text("PING 01ff")));
/// let pong = Message::text("PONG 01ff");
/// assert_eq!(proven.classify(&pong), MessageKind::Pong(vec![1, 0xff].into()));
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<P = Rfc6455> {
    ping: String,
    pong: String,
    below: P,
}

impl Text {
    /// A heartbeat of these pings and pongs.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], with the option `ping` or `pong`, for a text that is empty but for its `$id` or has
    /// `$id` twice; and for a pong with `$id` whose ping has none, which could never be proven.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::protocols::Text;
    ///
    /// let error = Text::new("ping", "").unwrap_err();
    /// assert_eq!((error.option(), error.value()), ("pong", ""));
    /// ```
    pub fn new(ping: impl Into<String>, pong: impl Into<String>) -> Result<Self, InvalidConfig> {
        let (ping, pong) = (ping.into(), pong.into());
        id::check(&ping, &pong, check)?;
        Ok(Self {
            ping,
            pong,
            below: Rfc6455,
        })
    }
}

/// Checks a text, and returns whether it has an id.
fn check(option: &'static str, text: &str) -> Result<bool, InvalidConfig> {
    let ids = text.matches(id::PLACE).count();
    let rule = if ids > 1 {
        "must contain $id at most once"
    } else if text.len() == ids * id::PLACE.len() {
        "must be neither empty nor $id alone"
    } else {
        return Ok(ids == 1);
    };
    Err(InvalidConfig::new(option, text, rule))
}

/// Compares `text` with `pattern`. `None` if they differ; else what `text` has in the place of the id, if
/// `pattern` has one.
fn matches<'t>(pattern: &str, text: &'t str) -> Option<Option<&'t str>> {
    match pattern.split_once(id::PLACE) {
        Some((before, after)) => Some(Some(text.strip_prefix(before)?.strip_suffix(after)?)),
        None => (pattern == text).then_some(None),
    }
}

impl<P> Beats for Text<P> {
    fn ping(&self, payload: &[u8]) -> String {
        self.ping.replacen(id::PLACE, &id::of(payload), 1)
    }

    fn pong(&self, payload: &[u8]) -> Option<String> {
        // A payload from a ping of the peer is a text, and goes back as it came. Any other payload is written as
        // our own are.
        let id = std::str::from_utf8(payload).map_or_else(|_| id::of(payload), str::to_owned);
        Some(self.pong.replacen(id::PLACE, &id, 1))
    }

    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t> {
        if let Some(id) = matches(&self.pong, text) {
            return id.map_or(MessageKind::Answer, id::pong);
        }
        match matches(&self.ping, text) {
            Some(id) => MessageKind::Ping(id.unwrap_or_default().as_bytes()),
            None => MessageKind::Data,
        }
    }
}

preset!(Text { ping, pong });
