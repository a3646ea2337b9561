//! The feature `tungstenite-0_30` is not on.

use futures_pinger::{Config, KeepAlive};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

fn heartbeat(socket: WebSocketStream<TcpStream>) {
    let _ = KeepAlive::new(socket, Config::default());
}

fn main() {}
