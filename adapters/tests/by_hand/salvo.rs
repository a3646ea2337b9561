//! salvo: its messages do not show what they are made of, and its socket is a `Stream` and a `Sink`.

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Frame, KeepAlive, MessageKind, Protocol, TokioTimer};
use salvo::conn::TcpListener;
use salvo::http::StatusError;
use salvo::websocket::{Message, WebSocket, WebSocketUpgrade};
use salvo::{Depot, FlowCtrl, Handler, Listener, Request, Response, Router, Server, async_trait};
use tokio::sync::mpsc;

struct Salvo;

impl Protocol<Message> for Salvo {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::ping(payload),
            Frame::Pong(payload) => Message::pong(payload),
            Frame::Close(reason) => Message::close_with(reason.code(), reason.reason()),
        })
    }

    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        if message.is_pong() {
            MessageKind::Pong(message.as_bytes().into())
        } else if message.is_ping() {
            MessageKind::Ping(message.as_bytes())
        } else if message.is_close() {
            MessageKind::Close
        } else {
            MessageKind::Data
        }
    }
}

async fn echo(socket: WebSocket, config: Config) -> u64 {
    let mut socket = KeepAlive::with_protocol(socket, Salvo, config).with_timer(TokioTimer::new());
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            socket.send(message).await.unwrap();
        }
    }
    socket.stats().answered()
}

struct Upgrade(mpsc::Sender<u64>);

#[async_trait]
impl Handler for Upgrade {
    async fn handle(
        &self,
        request: &mut Request,
        _: &mut Depot,
        response: &mut Response,
        _: &mut FlowCtrl,
    ) {
        let ended = self.0.clone();
        let serve = async move |socket| {
            let answered = echo(socket, super::config()).await;
            ended.send(answered).await.unwrap();
        };
        let upgraded: Result<(), StatusError> = WebSocketUpgrade::new()
            .upgrade(request, response, serve)
            .await;
        upgraded.unwrap();
    }
}

#[tokio::test]
async fn a_protocol_of_ones_own_is_enough() {
    let (ends, mut ended) = mpsc::channel(1);
    let acceptor = TcpListener::new("127.0.0.1:0").bind().await;
    let address = acceptor.local_addr().unwrap();
    tokio::spawn(Server::new(acceptor).serve(Router::new().goal(Upgrade(ends))));
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let peer = tokio_tungstenite_0_30::client_async("ws://localhost/", tcp).await;
    super::answer_and_close(peer.unwrap().0).await;
    assert!(ended.recv().await.unwrap() >= 3);
}
