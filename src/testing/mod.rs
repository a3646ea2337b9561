//! Tests of your own heartbeat handling, in virtual time.
//!
//! A [`World`] runs any future that owns a heartbeat with the [timer](World::timer) of that world:
//! no test sleeps, hours take milliseconds, and each run is the same. What is around the heartbeat
//! is scripted:
//!
//! | Part | Stands for | Its script |
//! |---|---|---|
//! | [`World::socket`] | the whole socket that a [`KeepAlive`](crate::KeepAlive) wraps, or whose halves you split | [`SocketScript`] |
//! | [`World::sink`] | the sink of a [`Pinger`](crate::Pinger) or [`Ponger`](crate::Ponger) | [`SinkScript`] |
//! | [`World::pongs`] | the stream of [`Pinger::new`](crate::Pinger::new) | [`PongScript`] |
//! | [`World::timer`], [`World::sleep`] | the timers of the runtime | [`World::early_timers`] |
//! | [`World::task`], [`World::spawn`] | the executor, which polls only tasks that were woken | [`World::spurious_polls`], [`World::fresh_wakers`] |
//! | the process | | [`World::stall`] |
//!
//! At the other end of a socket or a sink is a [`Peer`] that answers pings, or loses, delays,
//! doubles, reorders or corrupts its pongs, falls silent, or sends unsolicited pongs. The parts panic if they
//! are misused, for instance by a frame after the close frame, and say how.
//!
//! Make the code under test generic over the socket and the [`Timer`](crate::Timer), and let it wait by
//! [`World::sleep`]. For code that sleeps by tokio, use `tokio::time::pause` with a `TokioTimer` instead.
//!
//! # Examples
//!
//! A client that reconnects when its peer is gone. The test claims that it does so within 45 s of
//! the silence, and that it logs why:
//!
//! ```
//! use std::time::Duration;
//!
//! use futures::{Sink, Stream, StreamExt, TryStream};
//! use futures_pinger::testing::World;
//! use futures_pinger::{Config, Error, KeepAlive, Timer, Rfc6455};
//! use tungstenite_0_30::Message;
//!
//! /// Under test: reads until the connection ends, and says why it did.
//! async fn session<S, E, T>(socket: S, timer: T) -> String
//! where
//!     S: Stream<Item = Result<Message, E>> + TryStream<Ok = Message, Error = E>,
//!     S: Sink<Message, Error = E> + Unpin,
//!     T: Timer + Unpin,
//!     E: std::error::Error,
//! {
//!     let mut socket = KeepAlive::new(socket, Config::default()).with_timer(timer);
//!     while let Some(message) = socket.next().await {
//!         match message {
//!             Ok(_) => {}
//!             Err(Error::Timeout(verdict)) => return verdict.to_string(),
//!             Err(error) => return format!("lost: {error}"),
//!         }
//!     }
//!     "ended".to_owned()
//! }
//!
//! const SECOND: Duration = Duration::from_secs(1);
//! let world = World::new();
//!
//! // The first connection falls silent after a minute, the second ends in order.
//! let (first, script) = world.socket::<Message, _>(Rfc6455);
//! script.peer().answer_after(SECOND / 10);
//! world.at(60 * SECOND, move || script.peer().fall_silent());
//! let (second, script) = world.socket(Rfc6455);
//! script.peer().answer_after(SECOND / 10);
//! world.at(200 * SECOND, move || script.end());
//!
//! let log = world.run_within(201 * SECOND, async {
//!     let mut log = Vec::new();
//!     for socket in [first, second] {
//!         let why = session(socket, world.timer()).await;
//!         log.push((world.elapsed(), why));
//!         world.sleep(SECOND).await;
//!     }
//!     log
//! });
//!
//! let (at, why) = &log[0];
//! assert!(*at <= 105 * SECOND, "{at:?}");
//! assert!(why.starts_with("no pong for 20s"), "{why}");
//! assert_eq!(log[1], (200 * SECOND, "ended".to_owned()));
//! assert_eq!(world.timers(), 0, "nothing is left behind");
//! ```

mod incoming;
mod outgoing;
mod peer;
mod pongs;
mod sink;
mod socket;
mod task;
mod time;
mod timer;
mod world;

pub use self::outgoing::{Broken, Fault};
pub use self::peer::{Answer, Peer};
pub use self::pongs::{PongScript, ScriptedPongs};
pub use self::sink::{ScriptedSink, SinkScript};
pub use self::socket::{ScriptedSocket, SocketScript};
pub use self::task::Task;
pub use self::timer::{ManualTimer, Sleep};
pub use self::world::World;
