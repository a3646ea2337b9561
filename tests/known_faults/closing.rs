//! After a Close frame of a peer that does not read.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use axum_0_8::Router;
use axum_0_8::extract::ws::{Message as ServerMessage, WebSocket, WebSocketUpgrade};
use axum_0_8::routing::get;
use axum_0_8::serve::Listener;
use futures::{SinkExt, StreamExt};
use futures_pinger::{Error, KeepAlive, TimeoutPhase, TokioTimer};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::{Failure, config, hangs, keep_alive, ms, pair, phase, s};

/// The error that a reader ended with, if it was one.
async fn read_to_the_end<M, E>(
    mut stream: impl futures::Stream<Item = Result<M, E>> + Unpin,
) -> Option<E> {
    loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(error),
            None => return None,
        }
    }
}

/// A peer that reads nothing is found by the write timeout. The same peer is never found once it
/// has sent one Close frame: 2 bytes switch all judging off, the reader's task and the writer's
/// stay for ever.
// will change with O92
#[tokio::test(start_paused = true)]
async fn a_close_frame_of_a_peer_that_does_not_read_switches_judging_off() {
    for closes in [false, true] {
        let (ours, mut peer) = pair(4096).await;
        let (mut sink, stream) = keep_alive(ours, config(ms(500), ms(500))).split();
        let writer = tokio::spawn(async move {
            loop {
                if let Err(error) = sink.send(Message::binary(vec![0; 1 << 20])).await {
                    return error;
                }
            }
        });
        sleep(ms(300)).await;
        if closes {
            peer.send(Message::Close(None))
                .await
                .expect("there is room");
        }
        let start = Instant::now();
        let reader = tokio::spawn(read_to_the_end(stream));
        if closes {
            assert!(
                hangs(reader).await && hangs(writer).await,
                "the fault is gone: turn this into a test of O92"
            );
        } else {
            let error: Option<Failure> = reader.await.expect("no panic");
            assert_eq!(phase(&error.expect("a verdict")), TimeoutPhase::Write);
            assert_eq!(phase(&writer.await.expect("no panic")), TimeoutPhase::Write);
            assert!(start.elapsed() <= s(2));
        }
        drop(peer);
    }
}

/// Connections in memory for a server of axum.
struct InMemory(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for InMemory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A broadcaster as in axum's chat example; it tells when a connection's two tasks have ended.
async fn broadcast(socket: WebSocket, ended: mpsc::UnboundedSender<Option<TimeoutPhase>>) {
    let alive = KeepAlive::new(socket, config(ms(500), ms(500))).with_timer(TokioTimer::new());
    let (mut sink, stream) = alive.split();
    let send = async move {
        loop {
            let message = ServerMessage::Binary(vec![0; 1 << 20].into());
            if let Err(error) = sink.send(message).await {
                return Some(error);
            }
            sleep(ms(20)).await;
        }
    };
    // As in the example, each half has a task of its own.
    let (mut send, mut receive) = (tokio::spawn(send), tokio::spawn(read_to_the_end(stream)));
    let end = tokio::select! {
        end = &mut send => end,
        end = &mut receive => end,
    };
    let phase = match end.expect("no panic") {
        Some(Error::Timeout(verdict)) => Some(verdict.phase()),
        _ => None,
    };
    send.abort();
    receive.abort();
    let _ = ended.send(phase);
}

/// The same behind a server of axum: the handler of a client that sends a Close frame and does not
/// read never ends, so that any client can pile up handlers and what they hold.
// will change with O92
#[tokio::test(start_paused = true)]
async fn a_handler_of_axum_hangs_after_a_close_frame_of_a_peer_that_does_not_read() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (connect, incoming) = mpsc::unbounded_channel();
    let handler = get(move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(move |socket| broadcast(socket, ended))
    });
    let server = tokio::spawn(async move {
        let served = axum_0_8::serve(InMemory(incoming), Router::new().route("/", handler)).await;
        served.map(|()| unreachable!("it serves for ever"))
    });
    for closes in [false, true] {
        let (ours, theirs) = tokio::io::duplex(4096);
        connect.send(theirs).expect("the server runs");
        let client = client_async("ws://localhost/", ours).await;
        let (mut client, _) = client.expect("connected");
        if closes {
            sleep(ms(300)).await;
            client.send(Message::Close(None)).await.expect("room");
            assert!(
                hangs(ends.recv()).await,
                "the fault is gone: turn this into a test of O92"
            );
        } else {
            assert_eq!(ends.recv().await, Some(Some(TimeoutPhase::Write)));
        }
        drop(client);
    }
    server.abort();
    let stopped: Result<io::Result<Infallible>, _> = server.await;
    assert!(stopped.is_err());
}
