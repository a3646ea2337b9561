//! What all presets have in common: a heartbeat in texts, and the messages that carry the texts.

use crate::frame::Frame;
use crate::protocol::{MessageKind, TextProtocol};

/// The texts of a heartbeat, whatever messages carry them.
pub(super) trait Beats {
    /// The ping that carries `payload`.
    fn ping(&self, payload: &[u8]) -> String;

    /// The pong that answers the peer's ping with this payload; `None` if there are no pongs.
    fn pong(&self, payload: &[u8]) -> Option<String>;

    /// What `text` means to the heartbeat.
    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t>;
}

/// The message for a frame: its text in a message of `below`. The close frame is that of `below` itself.
pub(super) fn encode<M>(
    beats: &impl Beats,
    below: &impl TextProtocol<M>,
    frame: Frame,
) -> Option<M> {
    let text = match frame {
        Frame::Ping(payload) => beats.ping(&payload),
        Frame::Pong(payload) => beats.pong(&payload)?,
        close @ Frame::Close(_) => return below.encode(close),
    };
    Some(below.encode_text(text))
}

/// What a message means to the heartbeat: `below` tells data from the rest, and a text of data is looked at.
#[inline]
pub(super) fn classify<'m, M>(
    beats: &impl Beats,
    below: &impl TextProtocol<M>,
    message: &'m M,
) -> MessageKind<'m> {
    match below.classify(message) {
        MessageKind::Data => match below.text(message) {
            Some(text) => beats.kind(text),
            None => MessageKind::Data,
        },
        MessageKind::Close => MessageKind::Close,
        // The pings and pongs of the WebSocket do not belong to this heartbeat, and prove nothing to it.
        MessageKind::Ping(_) | MessageKind::PingBelow => MessageKind::PingBelow,
        MessageKind::Pong(_) | MessageKind::Answer | MessageKind::PongBelow => {
            MessageKind::PongBelow
        }
    }
}

/// Makes a [`Protocol`](crate::Protocol) of a type with [`Beats`] and a field `below`.
macro_rules! preset {
    ($preset:ident { $($field:ident),* }) => {
        impl<P> $preset<P> {
            /// The same heartbeat in the messages of `below`, which is [`Rfc6455`](crate::Rfc6455) by default.
            #[must_use]
            pub fn over<Q>(self, below: Q) -> $preset<Q> {
                $preset {
                    $($field: self.$field,)*
                    below,
                }
            }
        }

        impl<M, P: $crate::TextProtocol<M>> $crate::Protocol<M> for $preset<P> {
            fn encode(&self, frame: $crate::Frame) -> Option<M> {
                $crate::protocols::beats::encode(self, &self.below, frame)
            }

            #[inline]
            fn classify<'m>(&self, message: &'m M) -> $crate::MessageKind<'m> {
                $crate::protocols::beats::classify(self, &self.below, message)
            }
        }
    };
}
pub(super) use preset;
