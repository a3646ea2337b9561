//! axum's messages.

use axum_0_8::extract::ws::{CloseFrame, Message};

use super::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
use crate::frame::Frame;

#[cfg_attr(docsrs, doc(cfg(feature = "axum-0_8")))]
impl Protocol<Message> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Pong(payload) => Message::Pong(payload),
            Frame::Close(reason) => Message::Close(Some(CloseFrame {
                code: reason.code(),
                reason: reason.reason().into(),
            })),
        })
    }

    #[inline]
    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        match message {
            Message::Ping(payload) => MessageKind::Ping(payload),
            Message::Pong(payload) => MessageKind::Pong(payload[..].into()),
            Message::Close(_) => MessageKind::Close,
            Message::Text(_) | Message::Binary(_) => MessageKind::Data,
        }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "axum-0_8")))]
impl TextProtocol<Message> for Rfc6455 {
    fn encode_text(&self, text: String) -> Message {
        Message::Text(text.into())
    }

    fn text<'m>(&self, message: &'m Message) -> Option<&'m str> {
        match message {
            Message::Text(text) => Some(text),
            _ => None,
        }
    }
}
