//! tokio-websockets' messages.

use tokio_websockets_0_13::{CloseCode, Message};

use super::interface::{Kind, Protocol, WebSocket};
use crate::frame::Frame;

#[cfg_attr(docsrs, doc(cfg(feature = "tokio-websockets-0_13")))]
impl Protocol<Message> for WebSocket {
    fn encode(&self, frame: Frame) -> Message {
        match frame {
            Frame::Ping(payload) => Message::ping(payload),
            Frame::Pong(payload) => Message::pong(payload),
            Frame::Close(reason) => {
                // It knows all codes that a `CloseReason` can have; else the frame goes without.
                let code = CloseCode::try_from(reason.code()).ok();
                Message::close(code, reason.reason())
            }
        }
    }

    #[inline]
    fn classify<'m>(&self, message: &'m Message) -> Kind<'m> {
        if message.is_pong() {
            Kind::Pong(message.as_payload())
        } else if message.is_ping() {
            Kind::Ping(message.as_payload())
        } else if message.is_close() {
            Kind::Close
        } else {
            Kind::Data
        }
    }
}
