//! A [`KeepAlive`] of tokio-tungstenite over a pipe in memory, in tokio's paused time.

use std::fmt;
use std::future::{Future, pending};
use std::time::Duration;

use futures::SinkExt;
use futures_pinger::{Config, Error, KeepAlive, Rfc6455, TimeoutPhase, TokioTimer};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::Role};

/// The error of a heartbeat over tungstenite.
pub type Failure = Error<tungstenite::Error>;

/// One end of a connection in memory.
pub type Raw = WebSocketStream<DuplexStream>;

/// A configuration that rounds nothing.
pub fn config(interval: Duration, timeout: Duration) -> Config {
    let config = Config::builder().interval(interval).timeout(timeout);
    config.granularity(Duration::ZERO).build().expect("valid")
}

/// Both ends of a connection in memory, ours first; each direction holds `buffer` bytes.
pub async fn pair(buffer: usize) -> (Raw, Raw) {
    let (ours, theirs) = tokio::io::duplex(buffer);
    let ours = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    (ours, theirs)
}

/// `socket` with a heartbeat in tokio's time.
pub fn keep_alive<S: futures::TryStream + futures::Sink<S::Ok>>(
    socket: S,
    config: Config,
) -> KeepAlive<S, Rfc6455, TokioTimer>
where
    Rfc6455: futures_pinger::Protocol<S::Ok>,
{
    KeepAlive::new(socket, config).with_timer(TokioTimer::new())
}

/// A peer that sends `messages` of `size` bytes, then neither reads nor writes.
pub fn then_silent(mut peer: Raw, messages: usize, size: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        for _ in 0..messages {
            // The other end may have given up.
            if peer.send(Message::binary(vec![0; size])).await.is_err() {
                break;
            }
        }
        pending::<()>().await;
        drop(peer);
    })
}

/// The phase of the verdict that `error` is.
#[track_caller]
pub fn phase<E: fmt::Debug>(error: &Error<E>) -> TimeoutPhase {
    match error {
        Error::Timeout(verdict) => verdict.phase(),
        other => panic!("no verdict but {other:?}"),
    }
}

/// Runs an application to the verdict that it must end with `within` that time.
#[track_caller]
pub fn ends_within<E: fmt::Debug>(
    within: Duration,
    app: impl Future<Output = Option<Error<E>>>,
) -> impl Future<Output = (TimeoutPhase, Duration)> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        match timeout(within, app).await {
            Ok(Some(error)) => (phase(&error), start.elapsed()),
            Ok(None) => panic!("{caller}: the application ended without a verdict"),
            Err(_) => panic!("{caller}: no end within {within:?}"),
        }
    }
}
