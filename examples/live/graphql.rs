//! Both ends of graphql-ws 6 (the subprotocol graphql-transport-ws): one asks for numbers, the other echoes them.

use std::time::Duration;

use futures::SinkExt;
use futures_pinger::TimedOut;
use futures_pinger::protocols::GraphqlWs;
use serde_json::{Value, json};
use tungstenite_0_30::Message;

use crate::Failure;
use crate::session::{self, Application, unexpected};

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// A client of a server of graphql-ws.
pub(crate) async fn connect(
    address: &str,
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let mut socket = session::connect(address, SUBPROTOCOL).await?;
    let init = json!({ "type": "connection_init" });
    socket.send(Message::text(init.to_string())).await?;
    let ack = session::first(&mut socket).await?;
    if parse(&ack)?["type"] != "connection_ack" {
        return Err(unexpected(&ack));
    }
    let config = session::config(interval, timeout)?;
    session::run(socket, GraphqlWs::new(), config, time, Client::default()).await
}

/// A server for a client of graphql-ws.
pub(crate) async fn serve(
    interval: Duration,
    timeout: Duration,
    time: Duration,
) -> Result<TimedOut, Failure> {
    let mut socket = session::accept(SUBPROTOCOL).await?;
    let init = session::first(&mut socket).await?;
    if parse(&init)?["type"] != "connection_init" {
        return Err(unexpected(&init));
    }
    let ack = json!({ "type": "connection_ack" });
    socket.send(Message::text(ack.to_string())).await?;
    let config = session::config(interval, timeout)?;
    session::run(socket, GraphqlWs::new(), config, time, Server::default()).await
}

fn parse(message: &Message) -> Result<Value, Failure> {
    Ok(serde_json::from_str(message.to_text()?)?)
}

#[derive(Default)]
struct Client {
    asked: u32,
    returned: u32,
}

impl Application for Client {
    fn say(&mut self) -> Option<Message> {
        let number = self.asked;
        self.asked += 1;
        let query = format!("{{ echo(number: {number}) }}");
        let operation = json!({
            "id": number.to_string(),
            "type": "subscribe",
            "payload": { "query": query },
        });
        Some(Message::text(operation.to_string()))
    }

    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        let said = parse(message)?;
        if said["type"] == "next" && said["payload"]["data"]["echo"] == self.returned {
            self.returned += 1;
        } else if said["type"] != "complete" {
            return Err(unexpected(message));
        }
        Ok(vec![])
    }

    fn messages(&self) -> u32 {
        self.returned
    }
}

#[derive(Default)]
struct Server {
    echoed: u32,
}

impl Application for Server {
    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure> {
        let said = parse(message)?;
        let number = said["payload"]["variables"]["number"].as_u64();
        let (true, Some(number)) = (said["type"] == "subscribe", number) else {
            return Err(unexpected(message));
        };
        self.echoed += 1;
        let next = json!({
            "id": said["id"],
            "type": "next",
            "payload": { "data": { "echo": number } },
        });
        let complete = json!({ "id": said["id"], "type": "complete" });
        Ok([next, complete]
            .map(|said| Message::text(said.to_string()))
            .into())
    }

    fn messages(&self) -> u32 {
        self.echoed
    }
}
