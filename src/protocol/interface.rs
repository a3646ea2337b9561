//! How frames become messages, and what messages are.

use crate::frame::Frame;

/// Tells a heartbeat what the messages `M` of a WebSocket crate are, and makes them.
///
/// [`WebSocket`] implements it for the crates whose feature is on. For any other type, and for
/// heartbeats above the protocol, implement it for a type of your own.
///
/// # Examples
///
/// A browser's script can neither send nor see pings, so that an application which wants to hear
/// from the script, and not from the browser's network process, pings in its own messages:
///
/// ```
/// use bytes::Bytes;
/// use futures_pinger::{Frame, Kind, Protocol};
///
/// /// Text messages: `ping …`, answered by `pong …` with the same rest.
/// struct TextPing;
///
/// impl Protocol<String> for TextPing {
///     fn encode(&self, frame: Frame) -> String {
///         let hex = |payload: Bytes| payload.iter().map(|b| format!("{b:02x}")).collect::<String>();
///         match frame {
///             Frame::Ping(payload) => format!("ping {}", hex(payload)),
///             Frame::Pong(payload) => format!("pong {}", hex(payload)),
///             Frame::Close(reason) => format!("close {} {}", reason.code(), reason.reason()),
///         }
///     }
///
///     fn classify<'m>(&self, message: &'m String) -> Kind<'m> {
///         match message.split_once(' ') {
///             Some(("pong", payload)) => Kind::Pong(payload.as_bytes()),
///             _ => Kind::Data,
///         }
///     }
/// }
/// # let ping = TextPing.encode(Frame::Ping(vec![1, 255].into()));
/// # assert_eq!(ping, "ping 01ff");
/// ```
pub trait Protocol<M> {
    /// The message that carries `frame`.
    fn encode(&self, frame: Frame) -> M;

    /// What `message` is. It is asked for each message: look, and do not work.
    fn classify<'m>(&self, message: &'m M) -> Kind<'m>;
}

/// What a message is to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind<'m> {
    /// A ping with that payload.
    Ping(&'m [u8]),
    /// A pong with that payload.
    Pong(&'m [u8]),
    /// A close frame: nothing follows it.
    Close,
    /// Anything else.
    Data,
}

/// The WebSocket protocol (RFC 6455) in the types of the crates whose feature is on.
///
/// See the [table](crate#websocket-crates) of features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct WebSocket;
