//! Heartbeats above the protocol: presets for peers that ping in text messages.
//!
//! | Preset | Ping, of the end that sends it | Pong | Proven |
//! |---|---|---|---|
//! | [`GraphqlWs`] | `{"type":"ping","payload":{…}}`, either | `{"type":"pong","payload":{…}}` | by an id in the payload |
//! | [`Phoenix`] | the event `heartbeat`, the client | `phx_reply` | by its `ref` |
//! | [`EngineIo`] | `2`, the server | `3` | no |
//! | [`Stomp`] | the end of a line, both | none: each end sends its own | no |
//! | [`Json`] | as you say | as you say | where both have an id |
//! | [`Text`] | as you say | as you say | where both have an id |
//!
//! Each preset is a [`Protocol`](crate::Protocol) over the text messages of a WebSocket crate, for everything that
//! takes a protocol: [`KeepAlive::with_protocol`](crate::KeepAlive::with_protocol), [`FrameSink`](crate::FrameSink)
//! and [`PongSender::attach`](crate::PongSender::attach). A verdict sends the close frame of the WebSocket. Pings
//! and pongs of the WebSocket itself (RFC 6455 §5.5) do not count for [such a
//! heartbeat](crate::MessageKind::PongBelow).
//!
//! Pongs that answer our pings are taken out of what the application reads. Pings of the peer are passed on, and
//! the application, or a [`ponger`](crate::ponger()), answers each by
//! [`Protocol::pong_for`](crate::Protocol::pong_for). Where the peer waits for an answer, do not use
//! [`data_only`](crate::KeepAlive::data_only), which hides pings from the application, and let no
//! [`run_while`](crate::KeepAlive::run_while) take longer than the peer waits. Of the pings that a
//! [`KeepAlive`](crate::KeepAlive) reads ahead of the application, only the newest is kept, as RFC 6455 §5.5.3 allows
//! for its own pings: if a peer wants each ping answered, the application must read faster than the pings come. Pings
//! of the WebSocket, which the WebSocket crate has answered, are kept in the same way beside them. Pongs that are not
//! the heartbeat's are all kept, as one may answer a ping of the application's own.
//!
//! The [guide](crate::guide::above) has more heartbeats of this kind, line by line.
//!
//! # Examples
//!
//! A client of graphql-ws. Its pings reach the server itself, even if a proxy in between answers pings of the
//! WebSocket:
//!
//! ```
//! # use futures::StreamExt;
//! use futures_pinger::{Config, KeepAlive, protocols::GraphqlWs};
//! # use futures_pinger::{Rfc6455, testing::World};
//! # use tungstenite_0_30::Message;
//!
//! # let (socket, script) = World::new().socket::<Message, _>(Rfc6455);
//! # script.receive(Message::text(r#"{"type":"connection_ack"}"#));
//! # script.end();
//! # futures::executor::block_on(async {
//! let mut socket = KeepAlive::with_protocol(socket, GraphqlWs::new(), Config::default());
//! while let Some(message) = socket.next().await {
//!     let message = message?; // `Error::Timeout` when the server is gone
//!     # assert!(message.is_text());
//! }
//! # Ok::<(), futures_pinger::Error<_>>(())
//! # }).unwrap();
//! ```

mod beats;
mod engine_io;
mod graphql_ws;
mod id;
mod json;
mod phoenix;
mod scan;
mod stomp;
mod text;

pub use self::engine_io::EngineIo;
pub use self::graphql_ws::GraphqlWs;
pub use self::json::Json;
pub use self::phoenix::Phoenix;
pub use self::stomp::Stomp;
pub use self::text::Text;
