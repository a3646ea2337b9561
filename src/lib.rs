//! A WebSocket heartbeat for any [`Sink`](futures_sink::Sink) and
//! [`Stream`](futures_core::Stream), on any executor: it pings, proves the pong, and tells you
//! within a bound you can write down when the peer is gone.
//!
//! A [`KeepAlive`] is the same `Stream` and `Sink` as the socket that it wraps, with pings in between:
//!
//! ```
//! # use futures_pinger::{Rfc6455, testing::World};
//! # use tungstenite_0_30::Message;
//! # let (socket, script) = World::new().socket::<Message, _>(Rfc6455);
//! # script.receive(Message::text("hello"));
//! # script.end();
//! # futures::executor::block_on(async {
//! use futures::{SinkExt, StreamExt};
//! use futures_pinger::{Config, KeepAlive};
//!
//! // The socket of tokio-tungstenite, axum, warp, poem, ...
//! let mut socket = KeepAlive::new(socket, Config::default());
//! while let Some(message) = socket.next().await {
//!     let message = message?; // `Error::Timeout` when the peer is gone
//!     if message.is_text() {
//!         socket.send(message).await?;
//!     }
//! }
//! # Ok::<(), futures_pinger::Error<_>>(())
//! # }).unwrap();
//! # assert_eq!(script.sent().len(), 1);
//! ```
//!
//! With `cargo add futures-pinger --features tungstenite-0_30,tokio` this serves tokio-tungstenite 0.30. The
//! features for other crates are [below](#websocket-crates).
//!
//! | You have | Take |
//! |---|---|
//! | a whole socket, `Stream` and `Sink` | [`KeepAlive`] |
//! | split halves, or a writer task behind a channel | [`pinger()`] |
//! | connections by the hundred thousand | [`PingerSet`] |
//! | a stream of pongs, a timer or an executor of your own | [`Pinger::new`] |
//! | no sink at all: FFI, an event loop, methods instead of traits | [`Heartbeat`] |
//! | a raw transport whose pings you must answer | [`ponger()`] |
//! | a peer that pings in text: graphql-ws, Phoenix, socket.io, STOMP, JSON | any of them with a preset of [`protocols`] |
//!
//! # What is promised
//!
//! With the default [`Config`] a ping leaves every 15 s, and a peer that is gone is found within 55 s and four steps of
//! 16 ms, whatever the application does meanwhile: [`Config::detection_bound`]. The heartbeat acts when it is
//! polled, so one half of the socket must be polled whenever it wakes.
//! There is one exception: a pong that cannot be read, as more unread messages lie before it than are [read
//! ahead](KeepAlive::with_lookahead), is not judged. Writes still are. [`heartbeat`] has the rules.
//!
//! The [`guide`] says how to [choose](guide::choosing) the times, how the heartbeat goes on [while a handler
//! works](guide::working), how a connection [ends in order](guide::closing), how a client
//! [reconnects](guide::reconnecting), what [a line in the log](guide::statistics) means, and what a
//! [verdict](guide::verdict) proves.
//!
//! # WebSocket crates
//!
//! [`Rfc6455`] tells a heartbeat what the messages of a crate mean:
//!
//! | Feature | Message | Serves |
//! |---|---|---|
//! | `tungstenite-0_24`, `tungstenite-0_26` … `tungstenite-0_30` | `tungstenite::Message` | tokio-tungstenite of that version, and the async-tungstenite on top of it |
//! | `axum-0_8` | `axum::extract::ws::Message` | axum 0.8 |
//! | `warp-0_3`, `warp-0_4` | `warp::ws::Message` | warp 0.3 and 0.4 |
//! | `poem-3` | `poem::web::websocket::Message` | poem 3 |
//! | `actix-ws-0_4` | `actix_ws::Message`, `actix_ws::AggregatedMessage` | actix-ws 0.4 (needs Rust 1.88): [`pinger()`] with its `Session`, [`attach`](PongSender::attach) with either of its streams |
//! | `reqwest-websocket-0_6` | `reqwest_websocket::Message` | reqwest-websocket 0.6 |
//! | `tokio-websockets-0_13` | `tokio_websockets::Message` | tokio-websockets 0.13 (needs Rust 1.89) |
//!
//! For other versions of tungstenite there is [`protocol_for_tungstenite!`]; for other crates, implement
//! [`Protocol`], which takes [ten lines](https://github.com/futures-pinger/futures-pinger/tree/main/adapters/tests/by_hand).
//! For pings in text there are [`protocols`].
//!
//! A new version of a WebSocket crate is a new feature beside the old one, in a release that breaks nothing; a feature
//! is removed, or its crate's requirements raised, only in a release that breaks compatibility.
//!
//! actix-ws answers no pings of the peer by itself. Its `Session` is a queue of 32 messages, for which the rules [for
//! queues](guide::choosing#queues-behind-a-sink) hold.
//!
//! # Other features
//!
//! | Feature | Adds |
//! |---|---|
//! | `tokio` | the [timer](Timer) `TokioTimer`, and tokio's traits for a [`Metered`] transport |
//! | `async-io` | the timer `AsyncIoTimer`, for smol and async-std |
//! | `futures-io` | the traits of futures-io for a [`Metered`] transport |
//! | `tracing` | a span and events for each heartbeat: [`guide::tracing`] |
//! | `serde` | a [`Config`] as a table of its options, with durations as `"15s"` |
//! | `suspend` | timers that know how long the machine was asleep, on Linux and Android: [`guide::suspend`] |
//! | `wasm` | browsers and Node: [`guide::wasm`] |
//! | `test-util` | the module `testing`: virtual time and scripted peers for your own tests |
//!
//! All features may be on at once, and none changes how another behaves. Without features no runtime is among the
//! dependencies: the default timer, [`FuturesTimer`], works on any executor.
#![cfg_attr(docsrs, feature(doc_cfg))]
// The labels of docs.rs say which features an item needs. What wasm is excluded from, or brings, is in the text.
#![cfg_attr(
    docsrs,
    doc(auto_cfg(hide(feature = "wasm", target_family = "wasm", target_os = "unknown")))
)]
// Tests subtract from an instant only what they have added to it.
#![cfg_attr(test, allow(clippy::unchecked_time_subtraction))]
// The path of a method of `Machine` has one lifetime of the machine, and a visit needs a function for all lifetimes.
#![allow(clippy::redundant_closure_for_method_calls)]

mod attach;
mod config;
mod drive;
mod error;
mod frame;
mod grid;
#[cfg(any(doc, doctest))]
pub mod guide;
mod handle;
pub mod heartbeat;
mod keep_alive;
mod machine;
mod meter;
mod pinger;
mod pinger_set;
mod ponger;
mod protocol;
pub mod protocols;
mod rtt;
mod shared;
mod stats;
mod sync;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;
mod time;
mod timer;
mod trace;

pub use attach::{FilterPongs, InspectPings};
pub use config::{Config, ConfigBuilder, Liveness};
pub use error::{
    Closed, Error, InsertError, Interrupted, InvalidCloseReason, InvalidConfig, PingNowError,
    ProbeError, SendPingError, SetConfigError, TimedOut, TimeoutPhase,
};
pub use frame::{CloseReason, Frame, Ping, Pong};
pub use handle::{Controller, PongSender, Pongs, Probe};
pub use heartbeat::{Destination, Heartbeat, Output, PongKind, Verdict};
pub use keep_alive::{KeepAlive, ReadHalf, ReuniteError, WriteHalf};
pub use meter::{Meter, Metered};
pub use pinger::{Pinger, SameSink, Stopped, pinger};
pub use pinger_set::{Departure, Drain, End, Member, MemberId, PingerSet, PingerSetHandle, Totals};
pub use ponger::{PingSender, Ponger, ponger};
pub use protocol::{
    FnEncoder, FrameSink, MessageKind, MessageSink, Protocol, Rfc6455, TextProtocol,
};
pub use stats::{HeartbeatState, Stats};
#[cfg(feature = "async-io")]
#[cfg_attr(docsrs, doc(cfg(feature = "async-io")))]
pub use timer::AsyncIoTimer;
#[cfg(all(
    feature = "tokio",
    not(all(target_family = "wasm", target_os = "unknown"))
))]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use timer::TokioTimer;
pub use timer::{Clock, FnTimer, FuturesTimer, Instant, Timer, from_fn};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
