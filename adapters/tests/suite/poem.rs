//! poem, which has servers only: its socket gets the heartbeat, and the peer is tokio-tungstenite's.

use std::future::Future;

use futures_pinger::{Rfc6455, Timer, TokioTimer};
use poem_3::endpoint::make;
use poem_3::listener::TcpAcceptor;
use poem_3::web::websocket::{Message, WebSocket, WebSocketStream};
use poem_3::{FromRequest, IntoResponse, Request, Response, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::{Adapter, Client, handed_out};

struct Poem;

impl crate::Message for Message {
    fn text(text: String) -> Self {
        Self::Text(text)
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn close_code(&self) -> Option<u16> {
        match self {
            Self::Close(frame) => frame.as_ref().map(|(code, _)| (*code).into()),
            _ => None,
        }
    }
}

impl Adapter for Poem {
    type Message = Message;
    type Socket = WebSocketStream;
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
        let app = make(move |request: Request| {
            let sockets = sockets.clone();
            async move {
                let upgrade = WebSocket::from_request_without_body(&request).await?;
                let upgraded = upgrade
                    .on_upgrade(async move |socket| sockets.send(socket).await.unwrap())
                    .into_response();
                poem_3::Result::<Response>::Ok(upgraded)
            }
        });
        let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
        // It serves until the runtime ends.
        tokio::spawn(Server::new_with_acceptor(acceptor).run(app));
        handed_out(address, upgraded).await
    }
}

suite!(on_poem_3, Poem);
