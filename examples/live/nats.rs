//! A client of nats-server over its WebSocket, with pings of RFC 6455 beside those of NATS.

use std::time::Duration;

use futures_pinger::{Rfc6455, TimedOut};
use tungstenite_0_30::Message;

use crate::Failure;
use crate::session::{self, Application, unexpected};

const CRLF: &str = "\r\n";

pub(crate) async fn connect(
    address: &str,
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let socket = session::connect(address, "").await?;
    let config = session::config(interval, timeout)?;
    session::run(socket, Rfc6455, config, time, Client::default()).await
}

#[derive(Default)]
struct Client {
    /// The server has said who it is.
    connected: bool,
    published: u32,
    returned: u32,
    /// What has come of a command that is not complete: a message may end anywhere.
    rest: String,
}

impl Client {
    /// Takes the next line off, if all of it has come.
    fn line(&mut self) -> Option<String> {
        let end = self.rest.find(CRLF)? + CRLF.len();
        let line: String = self.rest.drain(..end).collect();
        Some(line.trim_end().into())
    }
}

impl Application for Client {
    fn say(&mut self) -> Option<Message> {
        if !self.connected {
            return None;
        }
        let number = self.published.to_string();
        self.published += 1;
        let publish = format!("PUB live {}{CRLF}{number}{CRLF}", number.len());
        Some(Message::binary(publish))
    }

    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        self.rest += message.to_text()?;
        let mut replies = vec![];
        while let Some(line) = self.line() {
            let command = line.split(' ').next().unwrap_or_default();
            match command {
                "INFO" => {
                    self.connected = true;
                    replies.push(format!(
                        r#"CONNECT {{"verbose":false}}{CRLF}SUB live 1{CRLF}"#
                    ));
                }
                "PING" => replies.push(format!("PONG{CRLF}")),
                // The payload is the next line.
                "MSG" => {}
                number if number == self.returned.to_string() => self.returned += 1,
                _ => return Err(unexpected(message)),
            }
        }
        Ok(replies.into_iter().map(Message::binary).collect())
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}
