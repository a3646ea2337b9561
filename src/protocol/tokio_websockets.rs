//! tokio-websockets' messages.

use tokio_websockets_0_13::{CloseCode, Message};

use super::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
use crate::frame::Frame;

#[cfg_attr(docsrs, doc(cfg(feature = "tokio-websockets-0_13")))]
impl Protocol<Message> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::ping(payload),
            Frame::Pong(payload) => Message::pong(payload),
            Frame::Close(reason) => {
                // `CloseCode` knows all codes that a `CloseReason` can have. With any other code the frame
                // would go out without one.
                let code = CloseCode::try_from(reason.code()).ok();
                Message::close(code, reason.reason())
            }
        })
    }

    #[inline]
    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        if message.is_pong() {
            MessageKind::Pong(message.as_payload()[..].into())
        } else if message.is_ping() {
            MessageKind::Ping(message.as_payload())
        } else if message.is_close() {
            MessageKind::Close
        } else {
            MessageKind::Data
        }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "tokio-websockets-0_13")))]
impl TextProtocol<Message> for Rfc6455 {
    fn encode_text(&self, text: String) -> Message {
        Message::text(text)
    }

    fn text<'m>(&self, message: &'m Message) -> Option<&'m str> {
        message.as_text()
    }
}
