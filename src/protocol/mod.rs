//! What a message of a WebSocket crate is to a heartbeat: one file for each crate.
//!
//! | Feature | Message | Serves |
//! |---|---|---|
//! | `tungstenite-0_26` to `tungstenite-0_30` | `tungstenite::Message` | tokio-tungstenite of the same version, and the async-tungstenite above it |
//! | `axum-0_8` | `axum::extract::ws::Message` | axum 0.8 |
//! | `tokio-websockets-0_13` | `tokio_websockets::Message` | tokio-websockets 0.13 (needs Rust 1.89) |
//!
//! All of them may be on at once: each is an implementation of [`Protocol`] for another type.

#[cfg(feature = "axum-0_8")]
mod axum;
mod frame_sink;
mod interface;
#[cfg(feature = "tokio-websockets-0_13")]
mod tokio_websockets;
#[cfg(any(
    feature = "tungstenite-0_26",
    feature = "tungstenite-0_27",
    feature = "tungstenite-0_28",
    feature = "tungstenite-0_29",
    feature = "tungstenite-0_30",
))]
mod tungstenite;

pub use self::frame_sink::FrameSink;
pub use self::interface::{MessageKind, Protocol, Rfc6455, TextProtocol};
