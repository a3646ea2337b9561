//! actix-ws' messages: those of its plain stream, which its `Session` takes too, and those of its
//! stream that aggregates continuations.
//!
//! A `Session` is a queue of 32 messages: a frame that is flushed is queued, and not yet written.

use actix_ws_0_4::{AggregatedMessage, CloseReason, Message};

use super::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
use crate::frame::Frame;

fn close_reason(reason: &crate::CloseReason) -> CloseReason {
    CloseReason {
        code: reason.code().into(),
        description: Some(reason.reason().to_owned()),
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "actix-ws-0_4")))]
impl Protocol<Message> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Pong(payload) => Message::Pong(payload),
            Frame::Close(reason) => Message::Close(Some(close_reason(&reason))),
        })
    }

    #[inline]
    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        match message {
            Message::Ping(payload) => MessageKind::Ping(payload),
            Message::Pong(payload) => MessageKind::Pong(payload[..].into()),
            Message::Close(_) => MessageKind::Close,
            Message::Text(_) | Message::Binary(_) | Message::Continuation(_) | Message::Nop => {
                MessageKind::Data
            }
        }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "actix-ws-0_4")))]
impl Protocol<AggregatedMessage> for Rfc6455 {
    fn encode(&self, frame: Frame) -> Option<AggregatedMessage> {
        Some(match frame {
            Frame::Ping(payload) => AggregatedMessage::Ping(payload),
            Frame::Pong(payload) => AggregatedMessage::Pong(payload),
            Frame::Close(reason) => AggregatedMessage::Close(Some(close_reason(&reason))),
        })
    }

    #[inline]
    fn classify<'m>(&self, message: &'m AggregatedMessage) -> MessageKind<'m> {
        match message {
            AggregatedMessage::Ping(payload) => MessageKind::Ping(payload),
            AggregatedMessage::Pong(payload) => MessageKind::Pong(payload[..].into()),
            AggregatedMessage::Close(_) => MessageKind::Close,
            AggregatedMessage::Text(_) | AggregatedMessage::Binary(_) => MessageKind::Data,
        }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "actix-ws-0_4")))]
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

#[cfg_attr(docsrs, doc(cfg(feature = "actix-ws-0_4")))]
impl TextProtocol<AggregatedMessage> for Rfc6455 {
    fn encode_text(&self, text: String) -> AggregatedMessage {
        AggregatedMessage::Text(text.into())
    }

    fn text<'m>(&self, message: &'m AggregatedMessage) -> Option<&'m str> {
        match message {
            AggregatedMessage::Text(text) => Some(text),
            _ => None,
        }
    }
}
