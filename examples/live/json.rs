//! A client of a server of npm's `ws` whose heartbeat is in JSON, in both directions.

use std::time::Duration;

use futures_pinger::protocols::Json;
use futures_pinger::{Config, TimedOut};
use serde_json::json;
use tungstenite_0_30::Message;

use crate::Failure;
use crate::session::{self, Application, unexpected};

/// The client pings, and the server must send back each ping's id.
pub(crate) async fn ping(
    address: &str,
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let config = session::config(interval, timeout)?;
    run(address, config, time).await
}

/// The client waits for the pings of the server, and sends back what is in them.
pub(crate) async fn watch(
    address: &str,
    within: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let config = Config::builder().watch_pings(within).build()?;
    run(address, config, time).await
}

async fn run(address: &str, config: Config, time: Duration) -> Result<TimedOut, Failure> {
    let socket = session::connect(address, "").await?;
    let json = Json::new(
        r#"{"type":"ping","id":"$id"}"#,
        r#"{"type":"pong","id":"$id"}"#,
    )?;
    session::run(socket, json, config, time, Client::default()).await
}

#[derive(Default)]
struct Client {
    sent: u32,
    returned: u32,
}

fn echo(number: u32) -> Message {
    Message::text(json!({ "type": "echo", "number": number }).to_string())
}

impl Application for Client {
    fn say(&mut self) -> Option<Message> {
        self.sent += 1;
        Some(echo(self.sent - 1))
    }

    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        if *message != echo(self.returned) {
            return Err(unexpected(message));
        }
        self.returned += 1;
        Ok(vec![])
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}
