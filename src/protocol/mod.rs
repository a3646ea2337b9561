//! What a message of a WebSocket crate means to a heartbeat: one file for each crate.
//!
//! All features may be on at once, as each implements [`Protocol`] for another type. The table in the
//! documentation of the crate says which feature serves which messages.

#[cfg(feature = "actix-ws-0_4")]
mod actix_ws;
#[cfg(feature = "axum-0_8")]
mod axum;
mod frame_sink;
mod interface;
#[cfg(feature = "poem-3")]
mod poem;
#[cfg(feature = "reqwest-websocket-0_6")]
mod reqwest_websocket;
#[cfg(feature = "tokio-websockets-0_13")]
mod tokio_websockets;
mod tungstenite;
#[cfg(any(feature = "warp-0_3", feature = "warp-0_4"))]
mod warp;

pub use self::frame_sink::{FnEncoder, FrameSink, MessageSink};
pub use self::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
