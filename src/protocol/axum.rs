//! axum's messages.

use axum_0_8::extract::ws::{CloseFrame, Message};

use super::interface::{Kind, Protocol, WebSocket};
use crate::frame::Frame;

#[cfg_attr(docsrs, doc(cfg(feature = "axum-0_8")))]
impl Protocol<Message> for WebSocket {
    fn encode(&self, frame: Frame) -> Message {
        match frame {
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Pong(payload) => Message::Pong(payload),
            Frame::Close(reason) => Message::Close(Some(CloseFrame {
                code: reason.code(),
                reason: reason.reason().into(),
            })),
        }
    }

    #[inline]
    fn classify<'m>(&self, message: &'m Message) -> Kind<'m> {
        match message {
            Message::Ping(payload) => Kind::Ping(payload),
            Message::Pong(payload) => Kind::Pong(payload),
            Message::Close(_) => Kind::Close,
            Message::Text(_) | Message::Binary(_) => Kind::Data,
        }
    }
}
