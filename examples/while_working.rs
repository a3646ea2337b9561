//! A handler that takes its time over each message: `run_while` goes on with the heartbeat while the handler awaits a
//! service, or a computation in another thread. The client is judged meanwhile, and its pings are answered.
//!
//! `cargo run --example while_working` takes some six seconds. One client waits for a service, one for a computation,
//! and one falls silent while the handler works for it. The example fails unless the first two get their answers
//! and pongs meanwhile, and unless the work for the third one is dropped in time.

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::try_join;
use futures::{SinkExt, StreamExt, TryFutureExt, TryStreamExt};
use futures_pinger::{Config, Error, KeepAlive, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

type Failure = Box<dyn StdError + Send + Sync>;

/// Answers one question after the other until the client leaves.
async fn serve<S>(socket: WebSocketStream<S>, heartbeat: Config) -> Result<(), Error<WsError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let socket = KeepAlive::new(socket, heartbeat).with_timer(TokioTimer::new());
    let mut socket = socket.data_only();
    while let Some(question) = socket.next().await {
        let question = question?;
        let Ok(answer) = socket.run_while(work(question)).await else {
            // The connection has ended first. The work is dropped, and the next read tells what has happened.
            continue;
        };
        socket.send(answer).await?;
    }
    Ok(())
}

/// What the application does for a question.
async fn work(question: Message) -> Message {
    let text = question.to_text().unwrap_or_default();
    let (kind, number) = text.split_once(' ').unwrap_or((text, ""));
    let answer = match (kind, number.parse()) {
        ("find", Ok(seconds)) => {
            // A service that is slow: whatever awaits can stand here.
            sleep(Duration::from_secs(seconds)).await;
            "found".into()
        }
        ("primes", Ok(limit)) => {
            // In this thread a computation would stop the heartbeat, and all else.
            let counted = spawn_blocking(move || primes_below(limit)).await;
            counted.map_or_else(|error| error.to_string(), |count| count.to_string())
        }
        _ => "ask for: find SECONDS, or: primes LIMIT".into(),
    };
    Message::text(answer)
}

fn primes_below(limit: u64) -> usize {
    let is_prime = |n: &u64| (2..=n.isqrt()).all(|d| n % d != 0);
    (2..limit).filter(is_prime).count()
}

/// What a client sees while it waits.
#[derive(Debug, Default)]
struct Waited {
    /// Pings of the server.
    pings: u32,
    /// Answers to pings of the client.
    pongs: u32,
    answer: String,
}

/// A client that asks, and pings until it has its answer.
async fn ask<S>(
    mut socket: WebSocketStream<S>,
    question: &str,
    every: Duration,
) -> Result<Waited, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::text(question)).await?;
    let (mut waited, mut ticks) = (Waited::default(), interval(every));
    loop {
        tokio::select! {
            _ = ticks.tick(), if waited.answer.is_empty() => {
                socket.send(Message::Ping(Bytes::new())).await?;
            }
            message = socket.try_next() => match message? {
                Some(Message::Ping(_)) => waited.pings += 1,
                Some(Message::Pong(_)) => waited.pongs += 1,
                Some(Message::Text(answer)) => {
                    waited.answer = answer.as_str().to_owned();
                    socket.close(None).await?;
                }
                Some(_) => {}
                None => return Ok(waited),
            },
        }
    }
}

/// Both ends of a new connection, the server's first.
async fn connect(listener: &TcpListener) -> Result<[WebSocketStream<TcpStream>; 2], WsError> {
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address).await?;
    let (server, _) = listener.accept().await?;
    let client = client_async(format!("ws://{address}"), client);
    let (server, (client, _)) = try_join(accept_async(server), client).await?;
    Ok([server, client])
}

async fn demonstrate() -> Result<(), Failure> {
    let beat = Duration::from_millis(50);
    let heartbeat = Config::builder()
        .interval(beat)
        .timeout(Duration::from_secs(1))
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;

    for question in ["find 2", "primes 1500000"] {
        let [server, client] = connect(&listener).await?;
        let served = serve(server, heartbeat.clone()).err_into();
        let ((), waited) = try_join(served, ask(client, question, beat)).await?;
        let Waited {
            pings,
            pongs,
            answer,
        } = waited;
        println!(
            "{question}: {answer}, after {pings} pings of the server and {pongs} of its pongs"
        );
        if pings < 3 || pongs < 3 {
            return Err("the heartbeat has rested while the handler worked".into());
        }
    }

    let [server, mut client] = connect(&listener).await?;
    client.send(Message::text("find 60")).await?;
    // From here on the client neither reads nor writes, and its connection stays open.
    match serve(server, heartbeat).await {
        Err(Error::Timeout(verdict)) => {
            println!("find 60, for a client that falls silent: {verdict}");
        }
        other => return Err(format!("a client that falls silent was not found: {other:?}").into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Err(error) = demonstrate().await {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::Instant;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    async fn pipe() -> [WebSocketStream<DuplexStream>; 2] {
        let (server, client) = duplex(1 << 16);
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        [
            server,
            WebSocketStream::from_raw_socket(client, Role::Client, None).await,
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_looked_after_while_its_answer_is_found() {
        let [server, client] = pipe().await;
        let client = ask(client, "find 95", Duration::from_secs(10));
        let served = serve(server, Config::default()).err_into();
        let ((), waited) = try_join(served, client).await.expect("in good health");
        assert_eq!(waited.answer, "found");
        assert_eq!((waited.pings, waited.pongs), (6, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn work_for_a_client_that_is_gone_is_dropped_within_the_bound() {
        let [server, mut client] = pipe().await;
        let began = Instant::now();
        client.send(Message::text("find 1000")).await.expect("open");
        let ended = serve(server, Config::default()).await;
        assert!(matches!(ended, Err(Error::Timeout(_))), "{ended:?}");
        assert!(Some(began.elapsed()) <= Config::default().detection_bound());
    }
}
