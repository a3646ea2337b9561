//! The sans-IO [`Heartbeat`] with fastwebsockets, whose sockets are neither `Sink` nor `Stream`: one
//! loop that reads, writes and keeps time for it.
//!
//! `cargo run --example sans_io` takes two seconds. The client answers three pings and then reads no
//! more; it fails unless the server finds that out.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use fastwebsockets::{
    Frame as WsFrame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite,
    after_handshake_split,
};
use futures::future::{Fuse, FutureExt};
use futures::{SinkExt, Stream, TryStreamExt, stream};
use futures_pinger::{Config, Frame, Heartbeat, Instant, Output, TimedOut, Verdict};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep_until;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

type Failure = Box<dyn StdError + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let config = Config::builder()
        .interval(Duration::from_millis(100))
        .timeout(Duration::from_secs(1))
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // The HTTP upgrade is left out: fastwebsockets has it under the feature `upgrade`.
    tokio::spawn(client(TcpStream::connect(listener.local_addr()?).await?));
    let (tcp, _) = listener.accept().await?;
    let verdict = serve(tcp, config).await?;
    println!("{verdict}");
    if verdict.answered() == 3 && verdict.close_sent() {
        Ok(())
    } else {
        Err("the client answered three pings".into())
    }
}

/// Echoes until the client is gone.
async fn serve(tcp: TcpStream, config: Config) -> Result<TimedOut, Failure> {
    let (read, write) = tcp.into_split();
    let (read, writer) = after_handshake_split(read, write, Role::Server);
    let mut incoming = pin!(frames(read));
    // While a write is under way the future has the writer: one frame is finished before the next is
    // asked for.
    let mut writer = Some(writer);
    let mut writing = pin!(Fuse::terminated());
    let mut is_ours = false;
    // A server among strangers would bound it, and close when it is full.
    let mut replies = VecDeque::new();

    let mut heartbeat = Heartbeat::new(config, now());
    loop {
        // It has been told all that happened. Now it says what it wants, and how long it can wait.
        let deadline = loop {
            match heartbeat.poll_output(now()) {
                // `transmit` has the frame, for when the socket is ready.
                Output::Ping | Output::Close(_) => {}
                Output::Wait(deadline) => break deadline,
                Output::Done(Verdict::TimedOut(verdict)) => return Ok(verdict),
                other => return Err(format!("unexpected: {other:?}").into()),
            }
        };
        if let Some(idle) = writer.take() {
            let ours = heartbeat.transmit(now()).map(encode);
            is_ours = ours.is_some();
            match ours.or_else(|| replies.pop_front()) {
                Some(frame) => writing.set(write_frame(idle, frame).fuse()),
                None => writer = Some(idle),
            }
        }
        tokio::select! {
            // A deadline is judged last, when nothing more has come.
            biased;
            written = &mut writing => match written {
                Ok(idle) => {
                    writer = Some(idle);
                    if is_ours {
                        heartbeat.handle_sent(now());
                    }
                }
                // The verdict stands without its close frame.
                Err(_) if heartbeat.is_closing() => heartbeat.handle_close_failed(),
                Err(error) => return Err(error.into()),
            },
            frame = incoming.try_next() => {
                match frame {
                    Ok(Some((OpCode::Pong, payload))) => {
                        heartbeat.handle_pong(&payload, now());
                    }
                    Ok(Some((OpCode::Ping, payload))) => {
                        replies.push_back(WsFrame::pong(payload.into()));
                    }
                    Ok(Some((OpCode::Close, _)) | None) | Err(_) if heartbeat.is_closing() => {
                        heartbeat.handle_close_failed();
                    }
                    Ok(Some((OpCode::Close, _)) | None) => return Err("the client closed".into()),
                    Ok(Some((opcode, payload))) => {
                        replies.push_back(WsFrame::new(true, opcode, None, payload.into()));
                        heartbeat.handle_activity(now());
                    }
                    Err(error) => return Err(error.into()),
                }
                // Else a peer that never stops talking would never be judged.
                heartbeat.handle_backlog(1, now());
            }
            () = reached(deadline) => heartbeat.handle_timeout(now()),
        }
    }
}

/// The time of the heartbeat is that of the timer.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// What is read, as a stream: `read_frame` must not be dropped half-way, as each turn of the loop
/// would do with it.
fn frames(
    mut reader: WebSocketRead<OwnedReadHalf>,
) -> impl Stream<Item = Result<(OpCode, Vec<u8>), WebSocketError>> {
    // Left on, they would have the reader write, and wait for it.
    reader.set_auto_pong(false);
    reader.set_auto_close(false);
    stream::try_unfold(reader, async |mut reader| {
        let nothing = &mut async |_| Ok::<_, WebSocketError>(());
        let frame = reader.read_frame(nothing).await?;
        let frame = (frame.opcode, frame.payload.to_vec());
        Ok(Some((frame, reader)))
    })
}

async fn write_frame(
    mut writer: WebSocketWrite<OwnedWriteHalf>,
    frame: WsFrame<'static>,
) -> Result<WebSocketWrite<OwnedWriteHalf>, WebSocketError> {
    writer.write_frame(frame).await?;
    writer.flush().await?;
    Ok(writer)
}

fn encode(frame: Frame) -> WsFrame<'static> {
    match frame {
        Frame::Ping(payload) => {
            WsFrame::new(true, OpCode::Ping, None, Payload::Owned(payload.into()))
        }
        Frame::Pong(payload) => WsFrame::pong(Payload::Owned(payload.into())),
        Frame::Close(reason) => WsFrame::close(reason.code(), reason.reason().as_bytes()),
    }
}

/// Its TCP connection stays open when it reads no more.
async fn client(tcp: TcpStream) -> Result<(), tungstenite::Error> {
    let role = tungstenite::protocol::Role::Client;
    let mut socket = WebSocketStream::from_raw_socket(tcp, role, None).await;
    socket.send(Message::text("hello")).await?;
    let (mut pings, mut echoes) = (0, 0);
    while pings < 3 || echoes < 1 {
        match socket.try_next().await? {
            Some(Message::Ping(_)) => {
                // tungstenite has prepared the pong.
                socket.flush().await?;
                pings += 1;
            }
            Some(Message::Text(_)) => echoes += 1,
            _ => return Ok(()),
        }
    }
    pending().await
}
