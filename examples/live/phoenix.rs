//! Both ends of Phoenix channels, as far as it takes to join one and to echo what is pushed.

use std::time::Duration;

use futures_pinger::protocols::Phoenix;
use futures_pinger::{Config, TimedOut};
use serde_json::{Value, json};
use tungstenite_0_30::Message;

use crate::Failure;
use crate::session::{self, Application, unexpected};

/// A server for the client that comes with Phoenix, which it only watches.
pub(crate) async fn serve(within: Duration, time: Duration) -> Result<TimedOut, Failure> {
    let socket = session::accept("").await?;
    let config = Config::builder().watch(within).build()?;
    session::run(socket, Phoenix::new(), config, time, Server::default()).await
}

/// A client of a server that echoes what is pushed.
pub(crate) async fn connect(
    address: &str,
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let socket = session::connect(address, "").await?;
    let config = session::config(interval, timeout)?;
    session::run(socket, Phoenix::new(), config, time, Client::default()).await
}

/// Version 2: the join's reference, the reference, the topic, the event and the payload.
type Push = (Value, Value, String, String, Value);

fn parse(message: &Message) -> Result<Push, Failure> {
    Ok(serde_json::from_str(message.to_text()?)?)
}

#[derive(Default)]
struct Server {
    echoed: u32,
}

impl Application for Server {
    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        let (join, reference, topic, event, payload) = parse(message)?;
        let response = match event.as_str() {
            "phx_join" => json!({}),
            "echo" => {
                self.echoed += 1;
                payload
            }
            _ => return Err(unexpected(message)),
        };
        let payload = json!({ "status": "ok", "response": response });
        let reply = json!([join, reference, topic, "phx_reply", payload]);
        Ok(vec![Message::text(reply.to_string())])
    }

    fn messages(&self) -> u32 {
        self.echoed
    }
}

#[derive(Default)]
struct Client {
    pushed: u32,
    returned: u32,
}

impl Application for Client {
    fn say(&mut self) -> Option<Message> {
        let number = self.pushed;
        self.pushed += 1;
        // The first reference is that of the join, which this server does not ask for.
        let push =
            json!(["1", (number + 2).to_string(), "room:live", "echo", { "number": number }]);
        Some(Message::text(push.to_string()))
    }

    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        let (_, _, _, event, payload) = parse(message)?;
        if event != "phx_reply" || payload["response"]["number"] != self.returned {
            return Err(unexpected(message));
        }
        self.returned += 1;
        Ok(vec![])
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}
