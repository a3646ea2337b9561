//! A server of STOMP 1.2 for one client, which sends back what it is sent.

use std::collections::HashMap;
use std::time::Duration;

use futures::SinkExt;
use futures_pinger::TimedOut;
use futures_pinger::protocols::Stomp;
use tungstenite_0_30::Message;

use crate::Failure;
use crate::session::{self, Application, unexpected};

/// The header that names how often an end beats, and how often it wants to hear from the other.
const HEART_BEAT: &str = "heart-beat";

/// Serves one client with the `heart-beat` header of ours.
pub(crate) async fn serve(heart_beat: &str, time: Duration) -> Result<TimedOut, Failure> {
    let mut socket = session::accept("v12.stomp").await?;
    let connect = session::first(&mut socket).await?;
    let (command, headers, _) = parse(&connect)?;
    if command != "CONNECT" {
        return Err(unexpected(&connect));
    }
    let theirs = headers.get(HEART_BEAT).copied().unwrap_or("0,0");
    let options = Stomp::config(heart_beat, theirs)?.ok_or("no beats were agreed on")?;
    println!("agreed on {theirs} and {heart_beat}");
    let connected = format!("CONNECTED\nversion:1.2\n{HEART_BEAT}:{heart_beat}\n\n\0");
    socket.send(Message::text(connected)).await?;
    let server = Server::default();
    session::run(socket, Stomp::new(), options.build()?, time, server).await
}

/// The command, the headers and the body of a frame that is a message of its own.
fn parse(message: &Message) -> Result<(&str, HashMap<&str, &str>, &str), Failure> {
    let text = message.to_text()?.strip_suffix('\0');
    let frame = text.and_then(|text| text.split_once("\n\n"));
    let (head, body) = frame.ok_or_else(|| unexpected(message))?;
    let (command, headers) = head.split_once('\n').unwrap_or((head, ""));
    let headers = headers.lines().filter_map(|line| line.split_once(':'));
    Ok((command, headers.collect(), body))
}

#[derive(Default)]
struct Server {
    subscription: Option<String>,
    returned: u32,
}

impl Application for Server {
    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        let (command, headers, body) = parse(message)?;
        match (command, &self.subscription) {
            ("SUBSCRIBE", None) => {
                let id = headers.get("id").ok_or("a subscription without an id")?;
                self.subscription = Some((*id).into());
                Ok(vec![])
            }
            ("SEND", Some(subscription)) => {
                let number = self.returned;
                self.returned += 1;
                let frame = format!(
                    "MESSAGE\nsubscription:{subscription}\nmessage-id:{number}\ndestination:/echo\n\n{body}\0"
                );
                Ok(vec![Message::text(frame)])
            }
            _ => Err(unexpected(message)),
        }
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}
