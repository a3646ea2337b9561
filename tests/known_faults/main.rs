//! Known faults of this version: situations in which the crate does not do what its users expect.
//!
//! Each test asserts the fault as it is today, so each turns red when the fault is gone. Whoever
//! repairs a fault turns its test into a test of the line of the contract that the comment above it
//! names, in `tests/contract`. These comments are no citations: a fault proves no promise.
//!
//! A future that "hangs" is one that is not ready after hours of virtual time.

mod closing;
mod handlers;
mod reading;
mod set;
mod writing;

use std::future::Future;
use std::time::Duration;

use futures_pinger::{Config, Error, KeepAlive, Rfc6455, TimeoutPhase, TokioTimer};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, protocol::Role};

/// The error of a heartbeat over tungstenite.
pub(crate) type Failure = Error<tungstenite::Error>;

/// A socket with a heartbeat over a pipe in memory.
pub(crate) type Socket = KeepAlive<WebSocketStream<DuplexStream>, Rfc6455, TokioTimer>;

/// Longer than any bound of these tests.
pub(crate) const HOURS: Duration = Duration::from_secs(3 * 3600);

/// Whole seconds.
pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A configuration that rounds nothing.
pub(crate) fn config(interval: Duration, timeout: Duration) -> Config {
    let config = Config::builder().interval(interval).timeout(timeout);
    config.granularity(s(0)).build().expect("valid")
}

/// Both ends of a connection in memory, ours first; each direction holds `buffer` bytes.
pub(crate) async fn pair(
    buffer: usize,
) -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(buffer);
    let ours = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    (ours, theirs)
}

/// `socket` with a heartbeat in tokio's time.
pub(crate) fn keep_alive(socket: WebSocketStream<DuplexStream>, config: Config) -> Socket {
    KeepAlive::new(socket, config).with_timer(TokioTimer::new())
}

/// Whether `future` is not ready after hours of tokio's paused time.
pub(crate) async fn hangs(future: impl Future) -> bool {
    tokio::time::timeout(HOURS, future).await.is_err()
}

/// The phase of the verdict that `error` is.
#[track_caller]
pub(crate) fn phase<E: std::fmt::Debug>(error: &Error<E>) -> TimeoutPhase {
    match error {
        Error::Timeout(verdict) => verdict.phase(),
        other => panic!("no verdict but {other:?}"),
    }
}
