//! The heartbeat of engine.io 4, on which socket.io is built.

use std::time::Duration;

use super::beats::{Beats, preset};
use super::scan;
use crate::config::{Config, ConfigBuilder};
use crate::error::InvalidConfig;
use crate::protocol::{MessageKind, Rfc6455};

/// The packets of a heartbeat (engine.io protocol, revision 4, "Packet encoding"), each a whole message.
const PING: &str = "2";
const PONG: &str = "3";
/// How the first packet of a server begins.
const OPEN: &str = "0";

/// The heartbeat of engine.io 4 (socket.io 3 and later): the server pings, and the client watches.
///
/// A ping is the text `2` and a pong the text `3`. Neither has a place for an id, so a pong is a
/// [`MessageKind::Answer`]. A server sets the interval and the timeout that it announces. A client uses
/// [`client_config`](Self::client_config), and answers each ping by
/// [`pong_for`](crate::Protocol::pong_for).
///
/// Source: the engine.io protocol, revision 4, "Heartbeat", "Packet encoding" and "Handshake".
///
/// # Examples
///
/// A client:
///
/// ```
/// # use std::time::Duration;
/// use futures_pinger::protocols::EngineIo;
/// use futures_pinger::{MessageKind, Protocol};
/// use tungstenite_0_30::Message;
///
/// let open = r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
/// let config = EngineIo::client_config(open)?.build()?;
/// assert_eq!(config.watch_pings(), Some(Duration::from_secs(45)));
///
/// let protocol = EngineIo::new();
/// let ping = Message::text("2");
/// assert_eq!(protocol.classify(&ping), MessageKind::Ping(&[]));
/// assert_eq!(protocol.pong_for(&ping), Some(Message::text("3")));
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineIo<P = Rfc6455> {
    below: P,
}

impl EngineIo {
    /// The heartbeat in the messages of a [WebSocket crate](crate#websocket-crates) whose feature is on.
    #[must_use]
    pub const fn new() -> Self {
        Self { below: Rfc6455 }
    }

    /// The options of a client: it [watches](ConfigBuilder::watch_pings) for pings, and waits for each as long
    /// as the server's first packet says, `pingInterval + pingTimeout`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], with the option `open`, `pingInterval` or `pingTimeout`, where `open` is no such
    /// packet.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::protocols::EngineIo;
    ///
    /// let error = EngineIo::client_config(r#"0{"pingInterval":"soon"}"#).unwrap_err();
    /// assert_eq!(error.to_string(), r#"invalid pingInterval "soon": must be whole milliseconds"#);
    /// ```
    pub fn client_config(open: &str) -> Result<ConfigBuilder, InvalidConfig> {
        let packet = open.strip_prefix(OPEN).filter(|text| scan::is_json(text));
        let Some(packet) = packet else {
            return Err(InvalidConfig::new(
                "open",
                open,
                "must be 0 followed by a JSON object, as the first packet of a server is",
            ));
        };
        let time = |option, name| {
            let value = scan::member(packet, name).unwrap_or("(none)");
            match value.parse() {
                Ok(millis) => Ok(Duration::from_millis(millis)),
                Err(_) => Err(InvalidConfig::new(
                    option,
                    value,
                    "must be whole milliseconds",
                )),
            }
        };
        let interval = time("pingInterval", "\"pingInterval\"")?;
        let timeout = time("pingTimeout", "\"pingTimeout\"")?;
        Ok(Config::builder().watch_pings(interval.saturating_add(timeout)))
    }
}

impl<P> Beats for EngineIo<P> {
    fn ping(&self, _: &[u8]) -> String {
        PING.into()
    }

    fn pong(&self, _: &[u8]) -> Option<String> {
        Some(PONG.into())
    }

    #[inline]
    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t> {
        match text {
            PING => MessageKind::Ping(&[]),
            PONG => MessageKind::Answer,
            _ => MessageKind::Data,
        }
    }
}

preset!(EngineIo {});
