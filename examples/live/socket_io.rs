//! Both ends of socket.io 4 over a WebSocket, as much of it as it takes to pass messages there and back.
//!
//! In engine.io 4, the protocol below, the server pings and the client answers.

use std::time::Duration;

use futures::SinkExt;
use futures_pinger::TimedOut;
use futures_pinger::protocols::EngineIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tungstenite_0_30::Message;

use crate::Failure;
use crate::session::{self, Application, unexpected};

/// How packets of engine.io 4 begin.
mod packet {
    pub(super) const OPEN: &str = "0";
    /// A message of engine.io with socket.io's request for its default namespace, and the start of the answer.
    pub(super) const CONNECT: &str = "40";
    /// The start of a message of engine.io with an event of socket.io.
    pub(super) const EVENT: &str = "42";
}

/// Watches the pings of a server of socket.io, answers them, and sends messages that the server sends back.
pub(crate) async fn connect(address: &str, time: Duration) -> Result<TimedOut, Failure> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = client_async(url, tcp).await?;
    let open = session::first(&mut socket).await?;
    let config = EngineIo::client_config(open.to_text()?)?.build()?;
    socket.send(Message::text(packet::CONNECT)).await?;
    session::run(socket, EngineIo::new(), config, time, Client::default()).await
}

/// Pings one client of socket.io, and sends its messages back.
pub(crate) async fn serve(
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let mut socket = session::accept("").await?;
    let open = json!({
        "sid": "engine",
        "upgrades": [],
        "pingInterval": interval.as_millis(),
        "pingTimeout": timeout.as_millis(),
        "maxPayload": 1_000_000,
    });
    let open = format!("{}{open}", packet::OPEN);
    socket.send(Message::text(open)).await?;
    let config = session::config(interval, timeout)?;
    session::run(socket, EngineIo::new(), config, time, Server::default()).await
}

/// The event that either side of a test sends back.
fn echo(number: u32) -> String {
    format!("{}{}", packet::EVENT, json!(["echo", number]))
}

#[derive(Default)]
struct Client {
    connected: bool,
    sent: u32,
    returned: u32,
}

impl Application for Client {
    fn say(&mut self) -> Option<Message> {
        if !self.connected {
            return None;
        }
        self.sent += 1;
        Some(Message::text(echo(self.sent - 1)))
    }

    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        match message.to_text()? {
            text if text == echo(self.returned) => self.returned += 1,
            text if text.starts_with(packet::CONNECT) && !self.connected => self.connected = true,
            _ => return Err(unexpected(message)),
        }
        Ok(vec![])
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}

#[derive(Default)]
struct Server {
    returned: u32,
}

impl Application for Server {
    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        match message.to_text()? {
            text if text == echo(self.returned) => {
                self.returned += 1;
                Ok(vec![message.clone()])
            }
            packet::CONNECT => {
                let answer = format!("{}{}", packet::CONNECT, json!({ "sid": "socket" }));
                Ok(vec![Message::text(answer)])
            }
            _ => Err(unexpected(message)),
        }
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}
