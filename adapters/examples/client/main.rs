//! A client of a public feed, an exchange say, which goes on until Ctrl-C whatever the server and the network do.
//!
//! `cargo run -p adapters --example client -- wss://HOST/PATH '{"op":"subscribe","channel":"trades"}'` prints the
//! data to the standard output, and all else to the other.
//!
//! - TLS by rustls, with the certificates of the system (or those of the file that `SSL_CERT_FILE` names).
//! - Pings in JSON, each with an id that must come back, find a server that is gone within 15 s. A second
//!   heartbeat, which sends nothing, finds a feed that brings no data for 10 s although its server answers.
//! - Each connection begins with the subscription. The waits between connections double up to 30 s, each with as much
//!   again at random, and start over after a connection that worked.
//! - Ctrl-C sends a close frame and waits for the answer. The exit code is 0 then, and 1 if the server wants none of us.

#[cfg(test)]
mod tests;

use std::io::{Write, stdout};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{SinkExt, StreamExt, sink::drain};
use futures_pinger::protocols::Json;
use futures_pinger::{Config, InvalidConfig, KeepAlive, Protocol, TokioTimer, pinger};
use tokio::{net::TcpStream, time};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use tokio_tungstenite_0_30 as tokio_tungstenite;
use tokio_util::sync::CancellationToken;

/// What the application knows of the feed.
struct Feed {
    url: String,
    subscribe: String,
    /// The ping and the pong of the server's manual.
    pings: Json,
    heartbeat: Config,
    /// How long no data may come.
    silence: Config,
    waits: ExponentialBuilder,
    /// The certificates to trust; none are the system's.
    connector: Option<Connector>,
}

impl Feed {
    fn new(url: String, subscribe: String) -> Result<Self, InvalidConfig> {
        let seconds = Duration::from_secs;
        Ok(Self {
            url,
            subscribe,
            pings: Json::new(r#"{"op":"ping","id":"$id"}"#, r#"{"op":"pong","id":"$id"}"#)?,
            heartbeat: Config::builder()
                .interval(seconds(5))
                .timeout(seconds(5))
                .closing_handshake(seconds(3))
                .no_close()
                .build()?,
            silence: Config::builder().watch(seconds(10)).no_close().build()?,
            waits: ExponentialBuilder::new()
                .with_min_delay(Duration::from_millis(500))
                .with_max_delay(seconds(30))
                .without_max_times()
                .with_jitter(),
            connector: None,
        })
    }
}

/// Why there is no connection, in words.
enum Failure {
    /// The next connection may do better.
    Passing(String),
    /// The server wants none of us, or the address is wrong.
    Final(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Passing(error.to_string())
    }
}

async fn connect(feed: &Feed) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Failure> {
    let limits = WebSocketConfig::default().max_message_size(Some(1 << 20));
    let (url, limits, tls) = (&feed.url, Some(limits), feed.connector.clone());
    let connecting = tokio_tungstenite::connect_async_tls_with_config(url, limits, true, tls);
    let within = time::timeout(Duration::from_secs(10), connecting).await;
    match within.map_err(|_| Failure::Passing("not connected within 10s".into()))? {
        Ok((socket, _)) => Ok(socket),
        // Another try would be answered the same.
        Err(WsError::Url(error)) => Err(Failure::Final(error.to_string())),
        Err(WsError::Http(answer)) if matches!(answer.status().as_u16(), 400 | 401 | 403 | 404) => {
            let status = answer.status();
            Err(Failure::Final(format!("the server answers {status}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// One connection, from the handshake to its end: without an error if we were stopped. It has `worked` once data
/// come while pings are answered.
async fn session(feed: &Feed, stop: &CancellationToken, worked: &mut bool) -> Result<(), Failure> {
    let connected = stop.run_until_cancelled(connect(feed)).await;
    let Some(socket) = connected else {
        return Ok(());
    };
    let socket = KeepAlive::with_protocol(socket?, feed.pings.clone(), feed.heartbeat.clone());
    let mut socket = socket.with_timer(TokioTimer::new());
    socket.send(Message::text(feed.subscribe.clone())).await?;
    // This heartbeat sees the data and nothing else, and sends nothing.
    let (seen, silence) = pinger(drain(), feed.silence.clone());
    let mut silence = pin!(silence.with_timer(TokioTimer::new()));
    let mut figures = time::interval(Duration::from_secs(5));
    figures.reset(); // not at once
    figures.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let (mut data, mut stopping) = (0, false);
    loop {
        tokio::select! {
            // What has arrived is read before its absence is judged.
            biased;
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                let (code, reason) = (CloseCode::Normal, "".into());
                // From here on the connection has the time of `closing_handshake` to end.
                socket.send(Message::Close(Some(CloseFrame { code, reason }))).await?;
            }
            _ = figures.tick() => {
                let (answered, rtt) = (socket.stats().answered(), socket.stats().smoothed_rtt());
                let rtt = rtt.map_or("unknown".into(), |rtt| format!("{rtt:.1?}"));
                eprintln!("{data} messages, pings answered: {answered}, round trip: {rtt}");
            }
            message = socket.next() => match message.transpose()? {
                Some(Message::Close(_)) if stopping => return Ok(()), // the answer
                Some(Message::Close(Some(frame))) if frame.code == CloseCode::Policy => {
                    return Err(Failure::Final(format!("the server closes: {frame}")));
                }
                Some(message @ Message::Text(_)) => match feed.pings.pong_for(&message) {
                    Some(pong) => socket.send(pong).await?, // the server pings as well
                    None => {
                        seen.handle_activity();
                        data += 1;
                        *worked = socket.stats().answered() > 0;
                        if writeln!(stdout(), "{message}").is_err() {
                            stop.cancel(); // nobody reads the output any more
                        }
                    }
                },
                Some(_) => {}
                None if stopping => return Ok(()),
                None => return Err(Failure::Passing("the server has closed".into())),
            },
            ended = &mut silence, if !stopping => drop(ended?),
        }
    }
}

/// One connection after the other until we are stopped, or until no further one makes sense.
async fn run(feed: &Feed, stop: &CancellationToken) -> Result<(), String> {
    let mut waits = feed.waits.build();
    while !stop.is_cancelled() {
        let mut worked = false;
        match session(feed, stop, &mut worked).await {
            Ok(()) => break,
            Err(Failure::Passing(why)) => eprintln!("{why}"),
            Err(Failure::Final(why)) => return Err(why),
        }
        if worked {
            waits = feed.waits.build();
        }
        let wait = waits.next().unwrap_or(Duration::from_secs(60));
        let _ = stop.run_until_cancelled(time::sleep(wait)).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, subscribe] = arguments.as_slice() else {
        eprintln!("usage: client URL SUBSCRIPTION");
        return ExitCode::from(2);
    };
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        interrupted.cancel();
    });
    let ended = match Feed::new(url.clone(), subscribe.clone()) {
        Ok(feed) => run(&feed, &stop).await,
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = ended {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
