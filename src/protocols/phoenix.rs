//! The heartbeat of Phoenix channels.

use super::beats::{Beats, preset};
use super::json;
use crate::protocol::{MessageKind, Rfc6455};

/// The ping and its pong in one version of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    ping: &'static str,
    pong: &'static str,
}

/// Version 1: an object, with the names of its members.
const V1: Version = Version {
    ping: r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"$id"}"#,
    pong: r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"$id"}"#,
};

/// Version 2: an array of the join's reference, the reference, the topic, the event and the payload.
const V2: Version = Version {
    ping: r#"[null,"$id","phoenix","heartbeat",{}]"#,
    pong: r#"[null,"$id","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
};

/// The heartbeat of Phoenix channels, of either end: clients push the event `heartbeat` on the topic
/// `phoenix`, and the server replies.
///
/// The push carries the heartbeat's payload as its `ref`, in hexadecimal digits. This proves the reply, so that
/// a replayed reply is refused. The references of an application's own pushes are never taken for it: clients
/// count them, and no such number has as many digits.
///
/// A server of Phoenix closes a connection on which nothing came for 60 s. The client that comes with Phoenix
/// pushes a heartbeat each 30 s, and hangs up if the next one is due and the reply has not come. For a server of
/// your own use [`watch`](crate::ConfigBuilder::watch), as every message counts there, and reply by
/// [`pong_for`](crate::Protocol::pong_for). A text of more than 1 KiB is data, and is not looked at.
///
/// Sources: Phoenix's guide "Writing a Channels Client", `assets/js/phoenix/socket.js`, the serializers below
/// `lib/phoenix/socket/serializers`, and the docs of `Phoenix.Endpoint.socket/3` (`:timeout`).
///
/// # Examples
///
/// ```
/// use futures_pinger::protocols::Phoenix;
/// use futures_pinger::{Frame, MessageKind, Protocol};
/// use tungstenite_0_30::Message;
///
/// let protocol = Phoenix::new();
/// let push = protocol.encode(Frame::Ping(vec![1, 0xff].into()));
/// assert_eq!(push, Some(Message::text(r#"[null,"01ff","phoenix","heartbeat",{}]"#)));
/// let reply = r#"[null,"01ff","phoenix","phx_reply",{"response":{},"status":"ok"}]"#;
/// let reply = Message::text(reply);
/// assert_eq!(protocol.classify(&reply), MessageKind::Pong(vec![1, 0xff].into()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phoenix<P = Rfc6455> {
    version: Version,
    below: P,
}

impl Phoenix {
    /// The heartbeat in messages of version 2 (`vsn=2.0.0` in the address), in those of a [WebSocket
    /// crate](crate#websocket-crates) whose feature is on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: V2,
            below: Rfc6455,
        }
    }

    /// The heartbeat in messages of version 1 (`vsn=1.0.0`), which are objects.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::protocols::Phoenix;
    /// use futures_pinger::{Frame, Protocol};
    /// use tungstenite_0_30::Message;
    ///
    /// let push = Phoenix::v1().encode(Frame::Ping(vec![1, 0xff].into()));
    /// let text = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"01ff"}"#;
    /// assert_eq!(push, Some(Message::text(text)));
    /// ```
    #[must_use]
    pub const fn v1() -> Self {
        Self {
            version: V1,
            below: Rfc6455,
        }
    }
}

impl Default for Phoenix {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Beats for Phoenix<P> {
    fn ping(&self, payload: &[u8]) -> String {
        json::ping(self.version.ping, payload)
    }

    fn pong(&self, payload: &[u8]) -> Option<String> {
        Some(json::pong(self.version.pong, payload))
    }

    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t> {
        json::kind(self.version.ping, self.version.pong, text)
    }
}

preset!(Phoenix { version });
