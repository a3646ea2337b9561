//! Known faults of this version: situations in which the crate does not do what its users expect.
//!
//! Each test asserts the fault as it is today, so each turns red when the fault is gone. Whoever
//! repairs a fault turns its test into a test of the line of the contract that the comment above it
//! names, in `tests/contract`. These comments are no citations: a fault proves no promise.

mod set;
mod writing;

use std::time::Duration;

use futures_pinger::{Config, Error, KeepAlive, Rfc6455, TimeoutPhase, TokioTimer};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;

/// A socket with a heartbeat over a pipe in memory.
pub(crate) type Socket = KeepAlive<WebSocketStream<DuplexStream>, Rfc6455, TokioTimer>;

/// Whole seconds.
pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `socket` with a heartbeat in tokio's time.
pub(crate) fn keep_alive(socket: WebSocketStream<DuplexStream>, config: Config) -> Socket {
    KeepAlive::new(socket, config).with_timer(TokioTimer::new())
}

/// The phase of the verdict that `error` is.
#[track_caller]
pub(crate) fn phase<E: std::fmt::Debug>(error: &Error<E>) -> TimeoutPhase {
    match error {
        Error::Timeout(verdict) => verdict.phase(),
        other => panic!("no verdict but {other:?}"),
    }
}
