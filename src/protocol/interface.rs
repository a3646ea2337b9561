//! How frames become messages, and what messages are.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::Frame;

/// Tells a heartbeat what the messages `M` of a WebSocket crate mean, and makes such messages.
///
/// [`Rfc6455`] implements it for the crates whose feature is on, and [`protocols`](crate::protocols) has
/// heartbeats in text. For any other type, and for any other heartbeat, implement it for a type of your own.
///
/// # Examples
///
/// A browser's script can neither send nor see pings: the browser's network process answers them. An
/// application that wants to hear from the script pings in messages of its own, say in JSON:
///
/// ```
/// use futures_pinger::{Frame, MessageKind, Protocol};
///
/// /// `{"type":"ping"}`, which the page answers by `{"type":"pong"}`.
/// struct JsonPing;
///
/// impl Protocol<String> for JsonPing {
///     fn encode(&self, frame: Frame) -> Option<String> {
///         match frame {
///             Frame::Ping(_) => Some(r#"{"type":"ping"}"#.into()),
///             Frame::Pong(_) => Some(r#"{"type":"pong"}"#.into()),
///             // There is no such message.
///             Frame::Close(_) => None,
///         }
///     }
///
///     fn classify<'m>(&self, message: &'m String) -> MessageKind<'m> {
///         match message.as_str() {
///             r#"{"type":"pong"}"# => MessageKind::Answer,
///             _ => MessageKind::Data,
///         }
///     }
/// }
///
/// # let ping = JsonPing.encode(Frame::Ping(vec![1, 255].into()));
/// # assert_eq!(ping.as_deref(), Some(r#"{"type":"ping"}"#));
/// # let pong = r#"{"type":"pong"}"#.to_string();
/// # assert_eq!(JsonPing.classify(&pong), MessageKind::Answer);
/// ```
///
/// To keep the proof that [`Liveness::Pong`](crate::Liveness::Pong) asks for, the pong must bring
/// back the payload's bytes, which a binary message can:
///
/// ```
/// use futures_pinger::{Frame, MessageKind, Protocol};
///
/// /// The first byte says what follows: 1 a ping, 2 its pong, 3 the end, all else data.
/// struct Tagged;
///
/// impl Protocol<Vec<u8>> for Tagged {
///     fn encode(&self, frame: Frame) -> Option<Vec<u8>> {
///         Some(match frame {
///             Frame::Ping(payload) => [&[1][..], &payload].concat(),
///             Frame::Pong(payload) => [&[2][..], &payload].concat(),
///             Frame::Close(reason) => [&[3][..], reason.reason().as_bytes()].concat(),
///         })
///     }
///
///     fn classify<'m>(&self, message: &'m Vec<u8>) -> MessageKind<'m> {
///         match message.split_first() {
///             Some((1, payload)) => MessageKind::Ping(payload),
///             Some((2, payload)) => MessageKind::Pong(payload.into()),
///             Some((3, _)) => MessageKind::Close,
///             _ => MessageKind::Data,
///         }
///     }
/// }
/// # let ping = Tagged.encode(Frame::Ping(vec![7, 8].into())).unwrap();
/// # assert_eq!(Tagged.classify(&ping), MessageKind::Ping(&[7, 8]));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know messages of the type `{M}`",
    label = "it does not know `{M}`",
    note = "is the feature of the WebSocket crate on? `tungstenite-0_24` to `tungstenite-0_30`, `axum-0_8`, `warp-0_3`, `warp-0_4`, `poem-3`, `actix-ws-0_4`, `reqwest-websocket-0_6`, `tokio-websockets-0_13`: each serves that version alone",
    note = "for another version of tungstenite: `futures_pinger::protocol_for_tungstenite!(struct Ws = tungstenite)`",
    note = "for any other message: implement `Protocol` for a type of your own, in ten lines, and give it to `KeepAlive::with_protocol`, `FrameSink::new` or `attach` in the place of `Rfc6455`"
)]
pub trait Protocol<M> {
    /// The message that carries `frame`. `None` if the protocol has no such message: a close frame is
    /// then not sent, and the verdict stands without it; any other frame is dropped.
    fn encode(&self, frame: Frame) -> Option<M>;

    /// Says what `message` is. This is called once for each message, and should be cheap.
    fn classify<'m>(&self, message: &'m M) -> MessageKind<'m>;

    /// The pong that answers `message`, if that is a ping of the peer and the protocol has pongs.
    ///
    /// Pings of RFC 6455 are answered by the WebSocket crate beneath. Pings in messages must be answered by the
    /// application, or by a [`ponger`](crate::ponger()).
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Protocol, protocols::EngineIo};
    /// use tungstenite_0_30::Message;
    ///
    /// let protocol = EngineIo::new();
    /// assert_eq!(protocol.pong_for(&Message::text("2")), Some(Message::text("3")));
    /// assert_eq!(protocol.pong_for(&Message::text("4data")), None);
    /// ```
    fn pong_for(&self, message: &M) -> Option<M> {
        match self.classify(message) {
            MessageKind::Ping(payload) => self.encode(Frame::Pong(Bytes::copy_from_slice(payload))),
            _ => None,
        }
    }
}

/// A [`Protocol`] whose messages may be text: what the presets in [`protocols`](crate::protocols) build on.
///
/// [`Rfc6455`] implements it for the crates whose feature is on. For any other type, implement it beside
/// [`Protocol`] for a type of your own, and hand that to the `over` of a preset.
///
/// # Examples
///
/// The messages of a browser's socket, which has neither pings nor close frames to send:
///
/// ```
/// use futures_pinger::protocols::EngineIo;
/// use futures_pinger::{Frame, MessageKind, Protocol, TextProtocol};
///
/// #[derive(Debug, PartialEq)]
/// enum Message {
///     Text(String),
///     Bytes(Vec<u8>),
/// }
///
/// struct Browser;
///
/// impl Protocol<Message> for Browser {
///     fn encode(&self, _: Frame) -> Option<Message> {
///         None
///     }
///
///     fn classify<'m>(&self, _: &'m Message) -> MessageKind<'m> {
///         MessageKind::Data
///     }
/// }
///
/// impl TextProtocol<Message> for Browser {
///     fn encode_text(&self, text: String) -> Message {
///         Message::Text(text)
///     }
///
///     fn text<'m>(&self, message: &'m Message) -> Option<&'m str> {
///         match message {
///             Message::Text(text) => Some(text),
///             Message::Bytes(_) => None,
///         }
///     }
/// }
///
/// let protocol = EngineIo::new().over(Browser);
/// let ping = protocol.encode(Frame::Ping(vec![1].into()));
/// assert_eq!(ping, Some(Message::Text("2".into())));
/// assert_eq!(protocol.classify(&Message::Text("3".into())), MessageKind::Answer);
/// ```
pub trait TextProtocol<M>: Protocol<M> {
    /// The message whose text is `text`.
    fn encode_text(&self, text: String) -> M;

    /// The text of `message`; `None` for a message of another kind.
    fn text<'m>(&self, message: &'m M) -> Option<&'m str>;
}

impl<M, P: Protocol<M> + ?Sized> Protocol<M> for &P {
    fn encode(&self, frame: Frame) -> Option<M> {
        (**self).encode(frame)
    }

    fn classify<'m>(&self, message: &'m M) -> MessageKind<'m> {
        (**self).classify(message)
    }

    fn pong_for(&self, message: &M) -> Option<M> {
        (**self).pong_for(message)
    }
}

impl<M, P: Protocol<M> + ?Sized> Protocol<M> for Arc<P> {
    fn encode(&self, frame: Frame) -> Option<M> {
        (**self).encode(frame)
    }

    fn classify<'m>(&self, message: &'m M) -> MessageKind<'m> {
        (**self).classify(message)
    }

    fn pong_for(&self, message: &M) -> Option<M> {
        (**self).pong_for(message)
    }
}

impl<M, P: TextProtocol<M> + ?Sized> TextProtocol<M> for &P {
    fn encode_text(&self, text: String) -> M {
        (**self).encode_text(text)
    }

    fn text<'m>(&self, message: &'m M) -> Option<&'m str> {
        (**self).text(message)
    }
}

impl<M, P: TextProtocol<M> + ?Sized> TextProtocol<M> for Arc<P> {
    fn encode_text(&self, text: String) -> M {
        (**self).encode_text(text)
    }

    fn text<'m>(&self, message: &'m M) -> Option<&'m str> {
        (**self).text(message)
    }
}

/// What a message is to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MessageKind<'m> {
    /// A ping with that payload.
    Ping(&'m [u8]),
    /// A pong with that payload, borrowed from the message or made of it.
    Pong(Cow<'m, [u8]>),
    /// A pong that cannot carry a payload. It answers the newest ping, whatever the
    /// [`Liveness`](crate::Liveness) is, and is never passed on. It proves that the peer is alive, but not that
    /// the peer has seen this very ping.
    Answer,
    /// A ping of the WebSocket beneath a heartbeat that pings in messages, which the WebSocket crate answers. It
    /// is no ping of this protocol, and counts as data does. With [`data_only`](crate::KeepAlive::data_only) it
    /// is not passed on.
    PingBelow,
    /// A pong of the WebSocket beneath a heartbeat that pings in messages, such as that of a ping of the
    /// application's own. It is no pong of this protocol, and counts as data does. With
    /// [`data_only`](crate::KeepAlive::data_only) it is not passed on.
    PongBelow,
    /// A close frame: nothing follows it.
    Close,
    /// Anything else.
    Data,
}

/// The WebSocket protocol (RFC 6455) in the types of the crates whose feature is on.
///
/// See the [table](crate#websocket-crates) of features.
///
/// It also knows two types for transports that read and write frames by themselves: [`Frame`], and
/// `Option<Frame>`, where `None` is a message of data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rfc6455;

// The compiler shows the notes of `Protocol` only for a type that implements it more than once, and every
// other implementation for `Rfc6455` depends on a feature.

impl Protocol<Frame> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Frame> {
        Some(frame)
    }

    fn classify<'m>(&self, message: &'m Frame) -> MessageKind<'m> {
        match message {
            Frame::Ping(payload) => MessageKind::Ping(payload),
            Frame::Pong(payload) => MessageKind::Pong(payload[..].into()),
            Frame::Close(_) => MessageKind::Close,
        }
    }
}

impl Protocol<Option<Frame>> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Option<Frame>> {
        Some(Some(frame))
    }

    fn classify<'m>(&self, message: &'m Option<Frame>) -> MessageKind<'m> {
        message
            .as_ref()
            .map_or(MessageKind::Data, |frame| self.classify(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::CloseReason;

    #[test]
    fn frames_are_messages_too_and_where_there_is_none_it_is_data() {
        let close = CloseReason::new(1000, "done").expect("valid");
        let payload = Bytes::from_static(b"payload");
        for (frame, kind) in [
            (Frame::Ping(payload.clone()), MessageKind::Ping(b"payload")),
            (
                Frame::Pong(payload.clone()),
                MessageKind::Pong(b"payload".into()),
            ),
            (Frame::Close(close), MessageKind::Close),
        ] {
            let message: Frame = Rfc6455.encode(frame.clone()).expect("each has one");
            assert_eq!(
                (Rfc6455.classify(&message), &message),
                (kind.clone(), &frame)
            );
            let message: Option<Frame> = Rfc6455.encode(frame.clone()).expect("each has one");
            assert_eq!(Rfc6455.classify(&message), kind);
            assert_eq!(message, Some(frame));
        }
        assert_eq!(Rfc6455.classify(&None::<Frame>), MessageKind::Data);
    }
}
