//! How frames become messages, and what messages are.

use crate::frame::Frame;

/// Tells a heartbeat what the messages `M` of a WebSocket crate are, and makes them.
///
/// [`WebSocket`] implements it for the crates whose feature is on. For any other type, and for
/// heartbeats above the protocol, implement it for a type of your own.
///
/// # Examples
///
/// A browser's script can neither send nor see pings: the browser's network process answers them. An
/// application that wants to hear from the script pings in messages of its own, say in JSON:
///
/// ```
/// use futures_pinger::{Config, Frame, Kind, Liveness, Protocol};
///
/// /// `{"type":"ping"}`, which the page answers by `{"type":"pong"}`.
/// struct JsonPing;
///
/// impl Protocol<String> for JsonPing {
///     fn encode(&self, frame: Frame) -> String {
///         match frame {
///             Frame::Ping(_) => r#"{"type":"ping"}"#.into(),
///             Frame::Pong(_) => r#"{"type":"pong"}"#.into(),
///             Frame::Close(reason) => format!(r#"{{"type":"close","code":{}}}"#, reason.code()),
///         }
///     }
///
///     fn classify<'m>(&self, message: &'m String) -> Kind<'m> {
///         match message.as_str() {
///             r#"{"type":"pong"}"# => Kind::Pong(&[]),
///             _ => Kind::Data,
///         }
///     }
/// }
///
/// // These pings carry no payload, so that any pong must do:
/// let config = Config::builder().liveness(Liveness::AnyPong).build()?;
/// # let ping = JsonPing.encode(Frame::Ping(vec![1, 255].into()));
/// # assert_eq!(ping, r#"{"type":"ping"}"#);
/// # let pong = r#"{"type":"pong"}"#.to_string();
/// # assert_eq!(JsonPing.classify(&pong), Kind::Pong(&[]));
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
///
/// To keep the proof that [`Liveness::Pong`](crate::Liveness::Pong) asks for, the pong must bring
/// back the payload's bytes, which a binary message can:
///
/// ```
/// use futures_pinger::{Frame, Kind, Protocol};
///
/// /// The first byte says what follows: 1 a ping, 2 its pong, 3 the end, all else data.
/// struct Tagged;
///
/// impl Protocol<Vec<u8>> for Tagged {
///     fn encode(&self, frame: Frame) -> Vec<u8> {
///         match frame {
///             Frame::Ping(payload) => [&[1][..], &payload].concat(),
///             Frame::Pong(payload) => [&[2][..], &payload].concat(),
///             Frame::Close(reason) => [&[3][..], reason.reason().as_bytes()].concat(),
///         }
///     }
///
///     fn classify<'m>(&self, message: &'m Vec<u8>) -> Kind<'m> {
///         match message.split_first() {
///             Some((1, payload)) => Kind::Ping(payload),
///             Some((2, payload)) => Kind::Pong(payload),
///             Some((3, _)) => Kind::Close,
///             _ => Kind::Data,
///         }
///     }
/// }
/// # let ping = Tagged.encode(Frame::Ping(vec![7, 8].into()));
/// # assert_eq!(Tagged.classify(&ping), Kind::Ping(&[7, 8]));
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
