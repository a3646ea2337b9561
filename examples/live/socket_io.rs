//! Both ends of socket.io 4 over a WebSocket, as much of it as it takes to pass messages there and back.
//!
//! In engine.io 4, the protocol below, the server pings and the client answers, in text messages of one digit.
//! Neither carries a payload.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::{
    Config, Error, Frame, KeepAlive, MessageKind, Protocol, Rfc6455, TimedOut, TimeoutPhase,
    TokioTimer,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval};
use tokio_tungstenite::{accept_async, client_async};
use tungstenite_0_30::{Error as WsError, Message};

use crate::{Failure, promise, verdict};

const BETWEEN_MESSAGES: Duration = Duration::from_millis(500);

/// The packets of engine.io 4 that are whole messages, and how the others begin.
mod packet {
    pub(super) const OPEN: &str = "0";
    pub(super) const PING: &str = "2";
    pub(super) const PONG: &str = "3";
    /// A message of engine.io with socket.io's request for its default namespace, and the start of the answer.
    pub(super) const CONNECT: &str = "40";
    /// The start of a message of engine.io with an event of socket.io.
    pub(super) const EVENT: &str = "42";
}

/// The heartbeat of engine.io 4, in the messages of both its ends.
struct EngineIo;

impl Protocol<Message> for EngineIo {
    fn encode(&self, frame: Frame) -> Option<Message> {
        match frame {
            Frame::Ping(_) => Some(Message::text(packet::PING)),
            Frame::Pong(_) => Some(Message::text(packet::PONG)),
            // The close frame is that of the WebSocket.
            close @ Frame::Close(_) => Rfc6455.encode(close),
        }
    }

    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        match message {
            Message::Text(text) => match text.as_str() {
                packet::PING => MessageKind::Ping(&[]),
                packet::PONG => MessageKind::Answer,
                _ => MessageKind::Data,
            },
            Message::Close(_) => MessageKind::Close,
            _ => MessageKind::Data,
        }
    }
}

/// Watches the pings of a server of socket.io, answers them, and sends messages that the server sends back, until
/// the heartbeat finds that the server is gone. Says when this has gone well for `time`.
pub(crate) async fn connect(address: &str, time: Duration) -> Result<TimedOut, Failure> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = client_async(url, tcp).await?;
    let open = socket.next().await.ok_or("the server has left")??;
    let config = Config::builder().watch_pings(patience(&open)?).build()?;
    promise(&config)?;
    socket.send(Message::text(packet::CONNECT)).await?;
    let mut socket =
        KeepAlive::with_protocol(socket, EngineIo, config).with_timer(TokioTimer::new());

    let (start, mut said) = (Instant::now(), false);
    let mut ticks = interval(BETWEEN_MESSAGES);
    let (mut connected, mut sent, mut returned, mut pings) = (false, 0, 0, 0);
    loop {
        let message = tokio::select! {
            message = socket.next() => Some(message.ok_or("the server has left")?),
            _ = ticks.tick(), if connected => None,
        };
        let reply = match message {
            Some(Ok(message)) => match message.to_text()? {
                packet::PING => {
                    pings += 1;
                    Some(packet::PONG.into())
                }
                text if text == echo(returned) => {
                    returned += 1;
                    None
                }
                text if text.starts_with(packet::CONNECT) && !connected => {
                    connected = true;
                    None
                }
                _ => return Err(format!("the server has sent {message:?}").into()),
            },
            Some(Err(error)) => return silence(error),
            None => {
                sent += 1;
                Some(echo(sent - 1))
            }
        };
        if let Some(reply) = reply {
            if let Err(error) = socket.send(Message::text(reply)).await {
                return silence(error);
            }
        }
        if !said && start.elapsed() >= time {
            said = true;
            println!("alive: {pings} pings answered, {returned} messages returned");
        }
    }
}

/// Pings one client of socket.io, and sends its messages back, until the heartbeat finds that the client is gone.
/// Says when this has gone well for `time`.
pub(crate) async fn serve(
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let config = Config::builder()
        .interval(interval)
        .timeout(timeout)
        // A machine with other things to do may keep a live peer from one answer.
        .max_missed(2)
        .build()?;
    promise(&config)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    let mut socket = accept_async(tcp).await?;
    let open = json!({
        "sid": "engine",
        "upgrades": [],
        "pingInterval": interval.as_millis(),
        "pingTimeout": timeout.as_millis(),
        "maxPayload": 1_000_000,
    });
    let open = format!("{}{open}", packet::OPEN);
    socket.send(Message::text(open)).await?;
    let mut socket =
        KeepAlive::with_protocol(socket, EngineIo, config).with_timer(TokioTimer::new());

    let (start, mut said) = (Instant::now(), false);
    let mut returned = 0;
    loop {
        let message = match socket.next().await.ok_or("the client has left")? {
            Ok(message) => message,
            Err(error) => return verdict(error),
        };
        let reply = match message.to_text()? {
            text if text == echo(returned) => {
                returned += 1;
                message
            }
            packet::CONNECT => {
                Message::text(format!("{}{}", packet::CONNECT, json!({ "sid": "socket" })))
            }
            // A pong would be one of these: the application must not see the heartbeat.
            _ => return Err(format!("the client has sent {message:?}").into()),
        };
        if let Err(error) = socket.send(reply).await {
            return verdict(error);
        }
        if !said && start.elapsed() >= time {
            said = true;
            let stats = socket.stats();
            let (answered, missed) = (stats.answered(), stats.missed());
            println!(
                "alive: {answered} pings answered, {missed} missed, {returned} messages returned"
            );
        }
    }
}

/// The event that either side of a test sends back.
fn echo(number: u32) -> String {
    format!("{}{}", packet::EVENT, json!(["echo", number]))
}

/// How long a client waits for a ping, from what the server has promised in its first packet.
fn patience(open: &Message) -> Result<Duration, Failure> {
    let open = open.to_text()?.strip_prefix(packet::OPEN);
    let open: Value = serde_json::from_str(open.ok_or("the first packet opens nothing")?)?;
    let time = |name: &str| {
        let time = open[name].as_u64().ok_or(format!("no {name} in {open}"));
        time.map(Duration::from_millis)
    };
    Ok(time("pingInterval")? + time("pingTimeout")?)
}

/// The verdict of a heartbeat that only watches; every other error is passed on.
fn silence(error: Error<WsError>) -> Result<TimedOut, Failure> {
    let verdict = verdict(error)?;
    match verdict.phase() {
        TimeoutPhase::Silence => Ok(verdict),
        _ => Err(verdict.into()),
    }
}
