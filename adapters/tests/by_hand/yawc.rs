//! yawc: its frames are the messages, and its stream of frames has no errors of its own.

use futures::future::join;
use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Frame, KeepAlive, MessageKind, Protocol, TokioTimer};
use tokio::net::TcpStream;
use yawc::close::CloseCode;
use yawc::frame::{Frame as Message, OpCode};
use yawc::{Options, Role, WebSocket, WebSocketError};

struct Yawc;

impl Protocol<Message> for Yawc {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(match frame {
            Frame::Ping(payload) => Message::ping(payload),
            Frame::Pong(payload) => Message::pong(payload),
            Frame::Close(reason) => Message::close(CloseCode::from(reason.code()), reason.reason()),
        })
    }

    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        match message.opcode() {
            OpCode::Ping => MessageKind::Ping(message.payload()),
            OpCode::Pong => MessageKind::Pong(message.payload()[..].into()),
            OpCode::Close => MessageKind::Close,
            _ => MessageKind::Data,
        }
    }
}

async fn echo(tcp: TcpStream, config: Config) -> u64 {
    let socket = WebSocket::from_stream(tcp, Role::Server, Options::default()).unwrap();
    let socket = socket.map(Ok::<_, WebSocketError>);
    let mut socket = KeepAlive::with_protocol(socket, Yawc, config).with_timer(TokioTimer::new());
    while let Some(Ok(message)) = socket.next().await {
        if message.opcode() == OpCode::Text {
            socket.send(message).await.unwrap();
        }
    }
    socket.stats().answered()
}

#[tokio::test]
async fn a_protocol_of_ones_own_is_enough() {
    let (tcp, peer) = super::connected().await;
    let (answered, ()) = join(echo(tcp, super::config()), super::answer_and_close(peer)).await;
    assert!(answered >= 3);
}
