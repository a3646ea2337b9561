//! A whole socket of the host: the heartbeat is in messages of JSON, as no script can send a ping of the
//! WebSocket. Its server answers a few pings, and after them sends data alone.

use std::future::poll_fn;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::protocols::Json;
use futures_pinger::{
    Clock, Config, Error, Frame, KeepAlive, MessageKind, Protocol, TextProtocol, TimeoutPhase,
};
use gloo_net::websocket::Message;
use gloo_net::websocket::futures::WebSocket;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::SLACK;

const INTERVAL: Duration = Duration::from_millis(50);
/// Long enough for a server that waits for a core.
const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWERED: u64 = 10;

/// The messages of `gloo-net`, of which none is a control frame.
struct Gloo;

impl Protocol<Message> for Gloo {
    fn encode(&self, _: Frame) -> Option<Message> {
        None
    }

    fn classify<'m>(&self, _: &'m Message) -> MessageKind<'m> {
        MessageKind::Data
    }
}

impl TextProtocol<Message> for Gloo {
    fn encode_text(&self, text: String) -> Message {
        Message::Text(text)
    }

    fn text<'m>(&self, message: &'m Message) -> Option<&'m str> {
        match message {
            Message::Text(text) => Some(text),
            Message::Bytes(_) => None,
        }
    }
}

fn config() -> Config {
    Config::builder()
        .interval(INTERVAL)
        .timeout(TIMEOUT)
        .granularity(Duration::ZERO)
        .build()
        .expect("valid")
}

fn keep_alive(socket: WebSocket) -> KeepAlive<WebSocket, Json<Gloo>> {
    let ping = r#"{"type":"ping","id":"$id"}"#;
    let pong = r#"{"type":"pong","id":"$id"}"#;
    let protocol = Json::new(ping, pong).expect("valid").over(Gloo);
    KeepAlive::with_protocol(socket, protocol, config())
}

/// What happened on a connection to the server at `url`, once it has happened as it should.
///
/// # Panics
///
/// If it did not.
#[wasm_bindgen]
pub async fn socket(url: String) -> String {
    crate::show_panics();
    let bound = config().detection_bound().expect("there is a timeout");
    let url = format!("{url}/{ANSWERED}");
    let mut socket = WebSocket::open(&url).expect("a valid address");
    // The heartbeat begins on an open socket: no ping has to wait for it.
    let open = poll_fn(|cx| socket.poll_ready_unpin(cx)).await;
    open.expect("an open socket");
    let mut socket = keep_alive(socket);
    let controller = socket.controller();
    let clock = Clock::system();
    let started = clock.now();

    let data = Message::Text("data".into());
    socket.send(data).await.expect("an open socket");
    let mut texts = Vec::new();
    let mut unanswered = None;
    let verdict = loop {
        match socket.next().await.expect("a verdict before the end") {
            Ok(Message::Text(text)) => {
                assert!(controller.is_alive());
                if text == "busy" {
                    unanswered = Some(clock.now());
                }
                texts.push(text);
            }
            Ok(Message::Bytes(_)) => panic!("the server sends text"),
            Err(Error::Timeout(verdict)) => break verdict,
            Err(other) => panic!("no verdict but {other:?}"),
        }
    };
    let ended = clock.now();
    assert!(socket.next().await.is_none(), "the stream ends");

    assert_eq!(texts, ["data", "busy"]);
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert_eq!(verdict.answered(), ANSWERED);
    // The protocol has no message for it. The host sends one as the socket is dropped.
    assert!(!verdict.close_sent());

    let lived = ended.saturating_duration_since(started);
    let pings = u32::try_from(ANSWERED + 1).expect("a few");
    let due = INTERVAL * pings + TIMEOUT;
    assert!(lived >= due, "after {lived:?}, before {due:?}");
    let unanswered = unanswered.expect("the server has seen one ping more");
    let silent = ended.saturating_duration_since(unanswered);
    assert!(silent < bound + SLACK, "{silent:?} after the ping");

    format!("{verdict}; {} ms, with data in between", lived.as_millis())
}

/// What happened where the server takes the connection, and answers nothing to the request for a WebSocket.
///
/// # Panics
///
/// If it was not found in its time.
#[wasm_bindgen]
pub async fn unopened(url: String) -> String {
    crate::show_panics();
    let clock = Clock::system();
    let started = clock.now();
    let mut socket = keep_alive(WebSocket::open(&url).expect("a valid address"));
    let Some(Err(Error::Timeout(verdict))) = socket.next().await else {
        panic!("no verdict");
    };
    let took = clock.now().saturating_duration_since(started);
    // The socket takes nothing as long as it is not open.
    assert_eq!(verdict.phase(), TimeoutPhase::Write);
    assert!(took >= INTERVAL + TIMEOUT, "after {took:?}");
    assert!(took < INTERVAL + TIMEOUT + SLACK, "after {took:?}");
    format!("{verdict}; {} ms, and never open", took.as_millis())
}
