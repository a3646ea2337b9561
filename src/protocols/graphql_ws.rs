//! The heartbeat of graphql-transport-ws.

use super::beats::{Beats, preset};
use super::{id, json, scan};
use crate::protocol::{MessageKind, Rfc6455};

/// The ping. Its payload is an object, as the protocol demands.
const PING: &str = r#"{"type":"ping","payload":{"id":"$id"}}"#;
const PONG: &str = r#"{"type":"pong"}"#;
/// The pong that answers a ping with a payload.
const PONG_WITH_PAYLOAD: &str = r#"{"type":"pong","payload":"$id"}"#;

/// The heartbeat of the GraphQL over WebSocket protocol (subprotocol `graphql-transport-ws`), of either end.
///
/// A ping carries the heartbeat's payload as `{"id":"…"}`, in hexadecimal digits. The id proves the pong, so
/// that a replayed pong is refused. The library graphql-ws sends the payload back from either of its ends.
///
/// The protocol allows a pong without the payload. For a peer that sends such pongs use
/// [`Liveness::AnyPong`](crate::Liveness::AnyPong).
///
/// Either end may ping as soon as the connection is open. A ping of the peer is answered by
/// [`pong_for`](crate::Protocol::pong_for), with the payload that it had. A [`ponger`](crate::ponger()) answers
/// those whose payload has 125 bytes at the most. A text of more than 1 KiB is data, and is not looked at.
///
/// The predecessor of this protocol, the subprotocol `graphql-ws` of subscriptions-transport-ws, has no pings
/// but the server's `{"type":"ka"}`, for which there is [`watch`](crate::ConfigBuilder::watch).
///
/// Sources: graphql-ws' `PROTOCOL.md`, "Ping" and "Pong", and its `src/server.ts` and `src/client.ts`.
///
/// # Examples
///
/// ```
/// use futures_pinger::protocols::GraphqlWs;
/// use futures_pinger::{Frame, MessageKind, Protocol};
/// use tungstenite_0_30::Message;
///
/// let protocol = GraphqlWs::new();
/// let ping = protocol.encode(Frame::Ping(vec![1, 0xff].into()));
/// assert_eq!(ping, Some(Message::text(r#"{"type":"ping","payload":{"id":"01ff"}}"#)));
/// let pong = Message::text(r#"{"payload": {"id": "01ff"}, "type": "pong"}"#);
/// assert_eq!(protocol.classify(&pong), MessageKind::Pong(vec![1, 0xff].into()));
///
/// let ping = Message::text(r#"{"type":"ping","payload":{"theirs":7}}"#);
/// let pong = Message::text(r#"{"type":"pong","payload":{"theirs":7}}"#);
/// assert_eq!(protocol.pong_for(&ping), Some(pong));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GraphqlWs<P = Rfc6455> {
    below: P,
}

impl GraphqlWs {
    /// The heartbeat in the messages of a [WebSocket crate](crate#websocket-crates) whose feature is on.
    #[must_use]
    pub const fn new() -> Self {
        Self { below: Rfc6455 }
    }
}

impl<P> Beats for GraphqlWs<P> {
    fn ping(&self, payload: &[u8]) -> String {
        json::ping(PING, payload)
    }

    fn pong(&self, payload: &[u8]) -> Option<String> {
        if payload.is_empty() {
            return Some(PONG.into());
        }
        Some(json::pong(PONG_WITH_PAYLOAD, payload))
    }

    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t> {
        if text.len() > scan::MAX_LEN {
            return MessageKind::Data;
        }
        let is_pong = match scan::member(text, "\"type\"") {
            Some("\"pong\"") => true,
            Some("\"ping\"") => false,
            _ => return MessageKind::Data,
        };
        if !scan::is_json(text) {
            return MessageKind::Data;
        }
        let payload = scan::member(text, "\"payload\"").unwrap_or_default();
        if !is_pong {
            return MessageKind::Ping(payload.as_bytes());
        }
        match scan::member(payload, "\"id\"").and_then(scan::string) {
            Some(id) => id::pong(id),
            // The pong has a payload that is not ours, or none.
            None => MessageKind::Pong(payload.as_bytes().into()),
        }
    }
}

preset!(GraphqlWs {});
