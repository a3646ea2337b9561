//! An echo server and an echo client for a WebSocket conformance suite, bare or with a heartbeat.
//!
//! ```text
//! conformance server bare|keep-alive [INTERVAL_MS]
//! conformance client bare|keep-alive ws://HOST:PORT [INTERVAL_MS]
//! ```
//!
//! The server prints its address and serves until it is killed. The client asks the suite's server
//! for each of its cases and then for its report. `.ci/conformance` runs both against the suite, and
//! compares what the suite says of the bare socket with what it says of the wrapped one.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{Config, KeepAlive, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};
use tungstenite_0_30::Message;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The suite waits up to 2 s in a case, and writes down each ping that it did not expect.
const INTERVAL: Duration = Duration::from_secs(10);

/// How the socket is used. The suite must not see a difference.
#[derive(Clone)]
enum Wrap {
    Bare,
    KeepAlive(Config),
}

impl Wrap {
    // contract: N85
    async fn echo<IO>(&self, socket: WebSocketStream<IO>)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        match self {
            Self::Bare => echo(socket).await,
            Self::KeepAlive(config) => {
                echo(KeepAlive::new(socket, config.clone()).with_timer(TokioTimer::new())).await;
            }
        }
    }
}

/// Sends each message back, until the connection ends. Half of the suite's cases break it: what a
/// broken connection does on the wire is for the suite to judge.
async fn echo<S, E>(mut socket: S)
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
}

async fn serve(wrap: Wrap) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        let wrap = wrap.clone();
        tokio::spawn(async move {
            // A handshake that fails is the suite's to see.
            if let Ok(socket) = accept_async(stream).await {
                wrap.echo(socket).await;
            }
        });
    }
}

async fn connect(url: &str) -> Result<WebSocketStream<TcpStream>, Failure> {
    let (address, _) = url
        .strip_prefix("ws://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or("the address must be ws://HOST:PORT")?;
    let stream = TcpStream::connect(address).await?;
    let (socket, _) = client_async(url, stream).await?;
    Ok(socket)
}

async fn run_cases(wrap: Wrap, server: &str) -> Result<(), Failure> {
    let mut socket = connect(&format!("{server}/getCaseCount")).await?;
    let count = socket.next().await.ok_or("no case count")??;
    let count: u32 = count.to_text()?.parse()?;
    socket.close(None).await?;
    for case in 1..=count {
        let url = format!("{server}/runCase?case={case}&agent=futures-pinger");
        wrap.echo(connect(&url).await?).await;
    }
    let url = format!("{server}/updateReports?agent=futures-pinger");
    connect(&url).await?.close(None).await?;
    println!("{count} cases");
    Ok(())
}

fn wrap(kind: &str, interval_ms: Option<&str>) -> Result<Wrap, Failure> {
    let interval = interval_ms.map(str::parse).transpose()?;
    let interval = interval.map_or(INTERVAL, Duration::from_millis);
    match kind {
        "bare" => Ok(Wrap::Bare),
        "keep-alive" => Ok(Wrap::KeepAlive(
            Config::builder()
                .interval(interval)
                .timeout(INTERVAL)
                .build()?,
        )),
        _ => Err("neither bare nor keep-alive".into()),
    }
}

async fn run(arguments: &[&str]) -> Result<(), Failure> {
    match *arguments {
        ["server", kind, ref rest @ ..] => serve(wrap(kind, rest.first().copied())?).await,
        ["client", kind, server, ref rest @ ..] => {
            run_cases(wrap(kind, rest.first().copied())?, server).await
        }
        _ => Err("server bare|keep-alive, or client bare|keep-alive ws://HOST:PORT".into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}
