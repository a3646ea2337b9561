//! reqwest-websocket's messages. In browsers there are no pings and pongs: the crate takes such a frame there
//! and sends nothing.
// On wasm32 the crate marks these messages as deprecated for that reason.
#![cfg_attr(target_arch = "wasm32", allow(deprecated))]

use reqwest_websocket_0_6::{CloseCode, Message};

use super::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
use crate::frame::Frame;

#[cfg_attr(docsrs, doc(cfg(feature = "reqwest-websocket-0_6")))]
impl Protocol<Message> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Pong(payload) => Message::Pong(payload),
            Frame::Close(reason) => Message::Close {
                code: CloseCode::from(reason.code()),
                reason: reason.reason().to_owned(),
            },
        })
    }

    #[inline]
    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        match message {
            Message::Ping(payload) => MessageKind::Ping(payload),
            Message::Pong(payload) => MessageKind::Pong(payload[..].into()),
            Message::Close { .. } => MessageKind::Close,
            Message::Text(_) | Message::Binary(_) => MessageKind::Data,
        }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "reqwest-websocket-0_6")))]
impl TextProtocol<Message> for Rfc6455 {
    fn encode_text(&self, text: String) -> Message {
        Message::Text(text)
    }

    fn text<'m>(&self, message: &'m Message) -> Option<&'m str> {
        match message {
            Message::Text(text) => Some(text),
            _ => None,
        }
    }
}
