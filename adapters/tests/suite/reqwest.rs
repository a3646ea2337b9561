//! reqwest-websocket, which has clients only: its socket gets the heartbeat, and the peer is
//! tokio-tungstenite's.

use std::future::Future;

use futures::future::join;
use futures_pinger::{Rfc6455, Timer, TokioTimer};
use reqwest_websocket_0_6::{Message, Upgrade, WebSocket};
use tokio::net::TcpListener;

use crate::{Adapter, Client};

struct Reqwest;

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
            Self::Close { code, .. } => Some((*code).into()),
            _ => None,
        }
    }
}

impl Adapter for Reqwest {
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
        let server = format!("ws://{}/", listener.local_addr().unwrap());
        let client = async {
            let client = reqwest::Client::builder().http1_only().no_proxy();
            let request = client.build().unwrap().get(server).upgrade();
            let response = request.send().await.unwrap();
            response.into_websocket().await.unwrap()
        };
        let server = async {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            tokio_tungstenite_0_30::accept_async(tcp).await.unwrap()
        };
        join(client, server).await
    }
}

suite!(on_reqwest_websocket_0_6, Reqwest);
