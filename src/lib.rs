//! A WebSocket heartbeat for any [`Sink`](futures_sink::Sink) and
//! [`Stream`](futures_core::Stream), on any executor: it pings, proves the pong, and tells you
//! within a bound you can write down when the peer is gone.
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
//! # Examples
//!
//! The heartbeat writes frames into a sink and learns of pongs through a handle that the reader
//! holds:
//!
//! ```
//! # futures::executor::block_on(async {
//! use std::time::Duration;
//! use futures::{StreamExt, channel::mpsc};
//! use futures_pinger::{Config, Frame, pinger};
//!
//! # let config = Config::builder().initial_delay(Duration::ZERO).build().unwrap();
//! let (outgoing, mut frames) = mpsc::channel(0);
//! let (pongs, pinger) = pinger(outgoing, config);
//!
//! let connection = async {
//!     // The writer: it would send each frame over the socket. Here it plays the peer instead,
//!     // who answers a ping with a pong of the same payload ...
//!     if let Some(Frame::Ping(payload)) = frames.next().await {
//!         // ... which the reader hands over.
//!         pongs.handle_pong(&payload).expect("the heartbeat runs");
//!     }
//!     drop(pongs); // The connection has ended, and so does the heartbeat.
//! };
//! let (ended, ()) = futures::join!(pinger, connection);
//! assert_eq!(ended.unwrap(), futures_pinger::Stopped::PongsEnded);
//! # });
//! ```
//!
//! # WebSocket crates
//!
//! [`Rfc6455`] tells a heartbeat what the messages of a crate are:
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
//! All may be on at once. For other versions of tungstenite there is [`protocol_for_tungstenite!`]; for other
//! crates, implement [`Protocol`]. For pings in text there are [`protocols`].
//!
//! The features `tokio` and `async-io` add [timers](Timer), `tokio` and `futures-io` the traits under
//! which a [`Metered`] transport reads and writes, `suspend` lets the timers tell how long the machine was
//! [asleep](Timer::asleep) (on Linux and Android; elsewhere it changes nothing), `serde` reads a [`Config`]
//! from a table of its options and writes it as one; `wasm` and `tracing` are below, and
//! `test-util` adds the module `testing`: virtual time and scripted peers for your own tests.
//!
//! # Browsers and Node
//!
//! With the feature `wasm`, the crate works on `wasm32-unknown-unknown`: [`FuturesTimer`],
//! [`Clock::system`] and the payloads of pings use the host's timers, clock and randomness, and
//! [`Instant`] is the `web-time` crate's, as the standard library has no clock there. Without it the
//! crate does not build for that target, unless its user gives `getrandom` another backend. On every
//! other target the feature changes nothing.
//!
//! The WebSockets of browsers and of Node send no pings of their own; ping in text by a preset of
//! [`protocols`] [over](protocols::Json::over) a [`TextProtocol`] of yours. tokio has no clock on that target, so `TokioTimer` is not there.
//!
//! # Tracing
//!
//! With the feature `tracing`, each heartbeat is a span `heartbeat` of the target `futures_pinger`,
//! at the level `WARN`. It begins with the heartbeat (a [`Pinger`]'s and a [`KeepAlive`]'s with the
//! first poll), as a child of the span that is current then, and its fields are the options:
//! `interval`, `timeout` or `adaptive_timeout`, `write_timeout`, `max_missed`, `liveness`, or `watch` or
//! `watch_pings` and `write_timeout`. In it:
//!
//! | Level | Event | Fields |
//! |---|---|---|
//! | `WARN` | `the peer is gone`: once for a verdict, when its close frame is flushed or given up | all of [`TimedOut`] |
//! | `DEBUG` | `ping missed` | `sequence`, `elapsed`, `missed` (in a row) |
//! | `DEBUG` | `ping written off`: unanswered, without a timeout, when the next is due | `sequence` |
//! | `DEBUG` | `late wake`: this process stalled, by 1 ms or more | `lateness` |
//! | `DEBUG` | `stray pongs`: whenever a total reaches or passes a power of two | the totals, `unsolicited` and `stale` |
//! | `DEBUG` | `paused`, `resumed`, `stopped` | |
//! | `DEBUG` | `new configuration` | the options, as in the span |
//! | `TRACE` | `ping`: the sink has taken it | `sequence`, `cause` |
//! | `TRACE` | `pong`: the newest ping's own | `sequence`, `rtt` |
//! | `TRACE` | `answered by policy`: see [`Liveness`] | `sequence` |
//!
//! Members of a [`PingerSet`] have no span and no events: a million would tell nobody anything. Only many verdicts at
//! once are one event in no span, `WARN` `mass verdicts` with `condemned` and `judged`: see
//! [`Totals::mass_verdicts`]. A million stray pongs are twenty events. A heartbeat that is dropped, or whose connection
//! ends, says nothing. No payload is ever logged, and no text of a close frame. An event that nobody
//! wants costs a look at its level, and without the feature there is nothing to look at.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Tests subtract what they have just added.
#![cfg_attr(test, allow(clippy::unchecked_time_subtraction))]
// The path of a method of `Machine` stands for one lifetime of the machine, and its visitors need them all.
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
pub use pinger_set::{Departure, End, Member, MemberId, PingerSet, PingerSetHandle, Totals};
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
