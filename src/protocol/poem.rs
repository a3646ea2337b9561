//! poem's messages.

use poem_3::web::websocket::Message;

use super::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
use crate::frame::Frame;

#[cfg_attr(docsrs, doc(cfg(feature = "poem-3")))]
impl Protocol<Message> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::ping(payload),
            Frame::Pong(payload) => Message::pong(payload),
            Frame::Close(reason) => Message::close_with(reason.code(), reason.reason()),
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

#[cfg_attr(docsrs, doc(cfg(feature = "poem-3")))]
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
