//! Crates without an adapter: what their users write, 20 to 30 lines for each, over real sockets. The peer
//! is tokio-tungstenite's, answers pings and closes.

#![allow(clippy::unwrap_used)]

mod fastwebsockets;
mod salvo;
mod soketto;
mod yawc;

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite_0_30::WebSocketStream;
use tokio_tungstenite_0_30::tungstenite::protocol::Role;

/// Short intervals, and a timeout that is longer than any stall of a busy machine.
fn config() -> Config {
    Config::builder()
        .interval(Duration::from_millis(20))
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// Both ends of a connection whose HTTP upgrade is left out.
async fn connected() -> (TcpStream, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (server, _) = listener.accept().await.unwrap();
    let client = WebSocketStream::from_raw_socket(client.unwrap(), Role::Client, None).await;
    (server, client)
}

/// Answers four pings, of which three are then known to be answered in time, and closes.
async fn answer_and_close(mut peer: WebSocketStream<TcpStream>) {
    let mut pings = 0;
    while pings < 4 {
        if peer.next().await.unwrap().unwrap().is_ping() {
            pings += 1;
            // tungstenite has prepared the pong.
            peer.flush().await.unwrap();
        }
    }
    peer.close(None).await.unwrap();
    while let Some(Ok(_)) = peer.next().await {}
}
