//! fastwebsockets: its halves have methods, so the heartbeat writes into a channel, and the reader reports
//! pongs. Answers to pings take the same way.

use std::pin::pin;

use fastwebsockets::{
    Frame as Message, OpCode, Payload, Role, WebSocketError, after_handshake_split,
};
use futures::channel::mpsc;
use futures::future::join;
use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Frame, TokioTimer, pinger};
use tokio::net::TcpStream;

async fn serve(tcp: TcpStream, config: Config) -> u64 {
    let (read, write) = tcp.into_split();
    let (mut reader, mut writer) = after_handshake_split(read, write, Role::Server);
    reader.set_auto_pong(false);
    reader.set_auto_close(false);
    let (outgoing, mut frames) = mpsc::channel(0);
    let mut answers = outgoing.clone();
    let (pongs, pinger) = pinger(outgoing, config);
    let mut pinger = pin!(pinger.with_timer(TokioTimer::new()));
    let writer = async {
        while let Some(frame) = frames.next().await {
            let message = match &frame {
                Frame::Ping(payload) => {
                    Message::new(true, OpCode::Ping, None, Payload::Borrowed(payload))
                }
                Frame::Pong(payload) => Message::pong(Payload::Borrowed(payload)),
                Frame::Close(reason) => Message::close(reason.code(), reason.reason().as_bytes()),
            };
            writer.write_frame(message).await?;
            writer.flush().await?;
        }
        Ok::<_, WebSocketError>(())
    };
    let reader = async move {
        let mut nothing = async |_| Ok::<_, WebSocketError>(());
        while let Ok(message) = reader.read_frame(&mut nothing).await {
            match message.opcode {
                OpCode::Pong => drop(pongs.handle_pong(&message.payload)),
                OpCode::Ping => {
                    let pong = Frame::Pong(message.payload.to_vec().into());
                    answers.send(pong).await.unwrap();
                }
                OpCode::Close => break,
                _ => {} // The application's data would be handled here.
            }
        }
    };
    tokio::select! {
        ((), _) = join(reader, pinger.as_mut()) => {}
        written = writer => written.unwrap(),
    }
    pinger.stats().answered()
}

#[tokio::test]
async fn a_channel_and_two_loops_are_enough() {
    let (tcp, peer) = super::connected().await;
    let (answered, ()) = join(serve(tcp, super::config()), super::answer_and_close(peer)).await;
    assert!(answered >= 3);
}
