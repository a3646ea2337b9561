//! axum, which has servers only: its socket gets the heartbeat, and the peer is tokio-tungstenite's.

use std::future::Future;

use futures::future::join;
use futures_pinger::{Rfc6455, Timer, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::Adapter;

struct Axum;

message!(axum_0_8::extract::ws::Message);

impl Adapter for Axum {
    type Message = axum_0_8::extract::ws::Message;
    type Socket = axum_0_8::extract::ws::WebSocket;
    type PeerMessage = tokio_tungstenite_0_30::tungstenite::Message;
    type Peer = tokio_tungstenite_0_30::WebSocketStream<TcpStream>;
    type Protocol = Rfc6455;

    const PROTOCOL: Rfc6455 = Rfc6455;

    tokio_runtime!();

    fn timer() -> impl Timer + Send + Unpin + 'static {
        TokioTimer::new()
    }

    async fn connect() -> (Self::Socket, Self::Peer) {
        use axum_0_8::extract::ws::WebSocketUpgrade;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, mut upgraded) = tokio::sync::mpsc::channel(1);
        let upgrade = async move |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async move |socket| sockets.send(socket).await.unwrap())
        };
        let app = axum_0_8::Router::new().route("/", axum_0_8::routing::any(upgrade));
        // It serves until the runtime ends.
        tokio::spawn(async { axum_0_8::serve(listener, app).await.unwrap() });
        let client = TcpStream::connect(address).await.unwrap();
        client.set_nodelay(true).unwrap();
        let client = tokio_tungstenite_0_30::client_async("ws://localhost/", client);
        let (client, server) = join(client, upgraded.recv()).await;
        (server.unwrap(), client.unwrap().0)
    }
}

suite!(on_axum_0_8, Axum);
