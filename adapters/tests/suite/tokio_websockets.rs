//! tokio-websockets on tokio.

use std::future::Future;

use futures::future::join;
use futures_pinger::{FuturesTimer, Rfc6455, Timer};
use tokio::net::TcpStream;

use crate::{Adapter, Message, tokio_pair};

struct TokioWebsockets;

impl Message for tokio_websockets_0_13::Message {
    fn text(text: String) -> Self {
        Self::text(text)
    }

    fn as_text(&self) -> Option<&str> {
        self.as_text()
    }

    fn close_code(&self) -> Option<u16> {
        self.as_close().map(|(code, _)| code.into())
    }
}

impl Adapter for TokioWebsockets {
    type Message = tokio_websockets_0_13::Message;
    type Socket = tokio_websockets_0_13::WebSocketStream<TcpStream>;
    type PeerMessage = Self::Message;
    type Peer = Self::Socket;
    type Protocol = Rfc6455;

    const PROTOCOL: Rfc6455 = Rfc6455;

    tokio_runtime!();

    fn timer() -> impl Timer + Send + Unpin + 'static {
        FuturesTimer::new()
    }

    async fn connect() -> (Self::Socket, Self::Peer) {
        let (client, server) = tokio_pair().await;
        let builder = tokio_websockets_0_13::ClientBuilder::new()
            .uri("ws://localhost/")
            .unwrap();
        let client = builder.connect_on(client);
        let builder = tokio_websockets_0_13::ServerBuilder::new();
        let server = builder.accept(server);
        let (client, server) = join(client, server).await;
        (client.unwrap().0, server.unwrap().1)
    }
}

suite!(on_tokio_websockets_0_13, TokioWebsockets);
