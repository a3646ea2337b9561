//! What the programs with a heartbeat in text have in common: an application that talks, and the answers to the
//! pings of the peer.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, KeepAlive, MessageKind, Protocol, TimedOut, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use tungstenite_0_30::Message;
use tungstenite_0_30::client::IntoClientRequest;
use tungstenite_0_30::handshake::server::{ErrorResponse, Request, Response};
use tungstenite_0_30::http::HeaderValue;

use crate::{Failure, promise, verdict};

const BETWEEN_MESSAGES: Duration = Duration::from_millis(500);

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Connects to a server that speaks `protocol`.
pub(crate) async fn connect(address: &str, protocol: &'static str) -> Result<Socket, Failure> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut request = format!("ws://{address}/").into_client_request()?;
    if !protocol.is_empty() {
        let protocol = HeaderValue::from_static(protocol);
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
    }
    Ok(client_async(request, tcp).await?.0)
}

/// Waits for one client that speaks `protocol`.
pub(crate) async fn accept(protocol: &'static str) -> Result<Socket, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    // The type of an error is tungstenite's choice.
    #[allow(clippy::result_large_err)]
    let choose = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        if !protocol.is_empty() {
            let protocol = HeaderValue::from_static(protocol);
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", protocol);
        }
        Ok(response)
    };
    Ok(accept_hdr_async(tcp, choose).await?)
}

/// What is said over a connection beside the heartbeat.
pub(crate) trait Application {
    /// What it says by itself, each half second.
    fn say(&mut self) -> Option<Message> {
        None
    }

    /// What it says to a message. Any message of the heartbeat is an error: it must not come here.
    fn reply(&mut self, message: &Message) -> Result<Vec<Message>, Failure>;

    /// How many messages have come back, or have gone there.
    fn messages(&self) -> u32;
}

/// Runs the application until the heartbeat finds that the peer is gone, and says when this has gone well for
/// `time`. The pings of the peer are answered.
pub(crate) async fn run<P>(
    socket: Socket,
    protocol: P,
    config: Config,
    time: Duration,
    mut application: impl Application,
) -> Result<TimedOut, Failure>
where
    P: Protocol<Message> + Clone,
{
    promise(&config)?;
    let socket = KeepAlive::with_protocol(socket, protocol.clone(), config);
    let mut socket = socket.with_timer(TokioTimer::new());
    let (start, mut said, mut pinged) = (Instant::now(), false, 0);
    let mut ticks = interval(BETWEEN_MESSAGES);
    loop {
        let message = tokio::select! {
            message = socket.next() => Some(message.ok_or("the peer has left")?),
            _ = ticks.tick() => None,
        };
        let replies = match message {
            // tungstenite has answered a ping of the WebSocket.
            Some(Ok(message)) if message.is_ping() => vec![],
            Some(Ok(message)) => match protocol.classify(&message) {
                MessageKind::Ping(_) => {
                    pinged += 1;
                    protocol.pong_for(&message).into_iter().collect()
                }
                MessageKind::Pong(_) => {
                    println!("refused: {message:?}");
                    vec![]
                }
                _ => application.reply(&message)?,
            },
            Some(Err(error)) => return verdict(error),
            None => application.say().into_iter().collect(),
        };
        for reply in replies {
            if let Err(error) = socket.send(reply).await {
                return verdict(error);
            }
        }
        if !said && start.elapsed() >= time {
            said = true;
            let (stats, messages) = (socket.stats(), application.messages());
            let (answered, missed) = (stats.answered(), stats.missed());
            println!(
                "alive: {answered} pings answered, {missed} missed, {pinged} of the peer's, {messages} messages"
            );
        }
    }
}

/// The next message of a peer that has not been given a heartbeat yet.
pub(crate) async fn first(socket: &mut Socket) -> Result<Message, Failure> {
    Ok(socket.next().await.ok_or("the peer has left")??)
}

/// The error of a program that has read what it should not.
pub(crate) fn unexpected(message: &Message) -> Failure {
    format!("the peer has sent {message:?}").into()
}

/// A heartbeat that pings.
pub(crate) fn config(interval: Duration, timeout: Duration) -> Result<Config, Failure> {
    let config = Config::builder().interval(interval).timeout(timeout);
    // A machine with other things to do may keep a live peer from one answer.
    Ok(config.max_missed(2).build()?)
}
