//! axum, which has servers only: its socket gets the heartbeat, and the peer is tokio-tungstenite's.

use std::future::Future;

use axum_0_8::Router;
use axum_0_8::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum_0_8::routing::any;
use futures_pinger::{Rfc6455, Timer, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::{Adapter, Client, handed_out};

struct Axum;

message!(Message);

impl Adapter for Axum {
    type Message = Message;
    type Socket = WebSocket;
    type PeerMessage = tokio_tungstenite_0_30::tungstenite::Message;
    type Peer = Client;
    type Protocol = Rfc6455;

    const PROTOCOL: Rfc6455 = Rfc6455;

    tokio_runtime!();

    fn timer() -> impl Timer + Send + Unpin + 'static {
        TokioTimer::new()
    }

    async fn connect() -> (Self::Socket, Self::Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, upgraded) = mpsc::channel(1);
        let upgrade = async move |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async move |socket| sockets.send(socket).await.unwrap())
        };
        let app = Router::new().route("/", any(upgrade));
        // It serves until the runtime ends.
        tokio::spawn(async { axum_0_8::serve(listener, app).await.unwrap() });
        handed_out(address, upgraded).await
    }
}

suite!(on_axum_0_8, Axum);
