//! The suite: what holds over the socket of each crate.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{Either, join, join3, select};
use futures::{SinkExt, Stream, StreamExt};
use futures_pinger::{
    CloseReason, Config, ConfigBuilder, Error, Frame, KeepAlive, MessageKind, Protocol,
    TimeoutPhase, Timer,
};
use futures_timer::Delay;

use crate::{Adapter, Message};

const INTERVAL: Duration = Duration::from_millis(30);
/// Longer than any stall of a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Messages in a burst.
const BURST: u64 = 16;

fn config() -> ConfigBuilder {
    Config::builder()
        .interval(INTERVAL)
        .timeout(LONG)
        .close_timeout(LONG)
}

fn keep_alive<A: Adapter>(
    socket: A::Socket,
    config: ConfigBuilder,
) -> KeepAlive<A::Socket, A::Protocol, impl Timer + Send + Unpin + 'static> {
    KeepAlive::with_protocol(socket, A::PROTOCOL, config.build().unwrap()).with_timer(A::timer())
}

pub(crate) fn run<A: Adapter>(scenario: impl Future<Output = ()>) {
    A::block_on(async {
        if let Either::Right(_) = select(pin!(scenario), Delay::new(2 * LONG)).await {
            panic!("it hangs");
        }
    });
}

/// A pong that nobody asked for.
fn foreign(n: u64) -> String {
    format!("foreign {n}")
}

fn foreign_pong<A: Adapter>(n: u64) -> A::PeerMessage {
    A::PROTOCOL.encode(Frame::Pong(foreign(n).into())).unwrap()
}

fn close<M>(protocol: impl Protocol<M>) -> M {
    protocol
        .encode(Frame::Close(CloseReason::new(1000, "done").unwrap()))
        .unwrap()
}

/// Sends each text back behind a foreign pong, until the text is "last". At the fourth ping, so
/// after three answers, it says "enough".
async fn echo<A: Adapter>(mut peer: A::Peer) -> A::Peer {
    let (mut next, mut pings) = (0, 0);
    loop {
        let message = peer.next().await.unwrap().unwrap();
        match A::PROTOCOL.classify(&message) {
            MessageKind::Ping(_) => {
                // The crate has prepared the pong. To tungstenite a pong of ours would replace it.
                peer.flush().await.unwrap();
                pings += 1;
                if pings == 4 {
                    peer.send(Message::text("enough".into())).await.unwrap();
                }
            }
            MessageKind::Data => {
                let text = message.as_text().unwrap();
                if text == "last" {
                    peer.send(message).await.unwrap();
                    return peer;
                }
                assert_eq!(text, next.to_string());
                peer.feed(foreign_pong::<A>(next)).await.unwrap();
                peer.send(message).await.unwrap();
                next += 1;
            }
            kind => panic!("{kind:?}"),
        }
    }
}

/// What has come back from [`echo`] so far.
#[derive(Default)]
struct Echoes {
    pongs: u64,
    texts: u64,
    enough: bool,
    last: bool,
}

impl Echoes {
    async fn read<A: Adapter, E: fmt::Debug>(
        &mut self,
        reader: &mut (impl Stream<Item = Result<A::Message, E>> + Unpin),
    ) {
        let message = reader.next().await.unwrap().unwrap();
        match A::PROTOCOL.classify(&message) {
            MessageKind::Pong(payload) => {
                assert_eq!(payload, foreign(self.pongs).as_bytes());
                self.pongs += 1;
                assert_eq!(self.pongs, self.texts + 1);
            }
            MessageKind::Data => match message.as_text().unwrap() {
                "enough" => self.enough = true,
                "last" => self.last = true,
                text => {
                    assert_eq!(text, self.texts.to_string());
                    self.texts += 1;
                    assert_eq!(self.pongs, self.texts);
                }
            },
            kind => panic!("{kind:?}"),
        }
    }
}

pub(crate) async fn whole_socket<A: Adapter>() {
    let (socket, peer) = A::connect().await;
    let mut socket = keep_alive::<A>(socket, config());
    let user = async {
        let mut echoes = Echoes::default();
        while !echoes.enough {
            let sent = echoes.texts + BURST;
            for n in echoes.texts..sent {
                socket.feed(A::Message::text(n.to_string())).await.unwrap();
            }
            socket.flush().await.unwrap();
            while echoes.texts < sent {
                echoes.read::<A, _>(&mut socket).await;
            }
        }
        socket.send(A::Message::text("last".into())).await.unwrap();
        while !echoes.last {
            echoes.read::<A, _>(&mut socket).await;
        }
        assert!(socket.stats().answered() >= 3);
        assert_eq!(socket.stats().missed(), 0);
    };
    let ((), _peer) = join(user, echo::<A>(peer)).await;
}

pub(crate) async fn split_socket<A: Adapter>() {
    let (socket, peer) = A::connect().await;
    let socket = keep_alive::<A>(socket, config());
    let (mut writer, mut reader) = socket.split();
    let enough = Arc::new(AtomicBool::new(false));
    let writer = A::spawn({
        let enough = Arc::clone(&enough);
        async move {
            let mut next = 0;
            while !enough.load(Ordering::Relaxed) {
                for n in next..next + BURST {
                    writer.feed(A::Message::text(n.to_string())).await.unwrap();
                }
                writer.flush().await.unwrap();
                next += BURST;
                Delay::new(Duration::from_millis(1)).await;
            }
            writer.send(A::Message::text("last".into())).await.unwrap();
            (writer, next)
        }
    });
    let reader = A::spawn(async move {
        let mut echoes = Echoes::default();
        while !echoes.last {
            echoes.read::<A, _>(&mut reader).await;
            enough.store(echoes.enough, Ordering::Relaxed);
        }
        (reader, echoes.texts)
    });
    let ((writer, written), (reader, read), _peer) = join3(writer, reader, echo::<A>(peer)).await;
    assert_eq!(read, written);
    let socket = reader.reunite(writer).unwrap();
    assert!(socket.stats().answered() >= 3);
    assert_eq!(socket.stats().missed(), 0);
}

pub(crate) async fn silent_peer<A: Adapter>() {
    let (socket, mut peer) = A::connect().await;
    let config = config()
        .timeout(Duration::from_millis(100))
        .write_timeout(LONG);
    let mut socket = keep_alive::<A>(socket, config);
    let verdict = match socket.next().await {
        Some(Err(Error::Timeout(verdict))) => verdict,
        other => panic!("{other:?}"),
    };
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert!(verdict.close_sent());
    for _ in 0..2 {
        assert!(socket.next().await.is_none());
        match socket.send(A::Message::text("late".into())).await {
            Err(Error::Timeout(again)) => assert_eq!(again, verdict),
            other => panic!("{other:?}"),
        }
    }
    // This is what it was sent while it did not read.
    let ping = peer.next().await.unwrap().unwrap();
    assert!(matches!(A::PROTOCOL.classify(&ping), MessageKind::Ping(_)));
    let close = peer.next().await.unwrap().unwrap();
    assert_eq!(close.close_code(), Some(1011));
}

pub(crate) async fn silent_peer_of_a_writer<A: Adapter>() {
    let (socket, peer) = A::connect().await;
    let config = config().timeout(Duration::from_millis(300)).no_close();
    let socket = keep_alive::<A>(socket, config);
    let (mut writer, mut reader) = socket.split();
    let writer = A::spawn(async move {
        // More than the buffers of TCP hold.
        let text = "-".repeat(1 << 16);
        loop {
            match writer.send(A::Message::text(text.clone())).await {
                Ok(()) => {}
                Err(Error::Timeout(verdict)) => return verdict,
                other => panic!("{other:?}"),
            }
        }
    });
    let reader = A::spawn(async move {
        let ended = reader.next().await;
        assert!(reader.next().await.is_none());
        match ended {
            Some(Err(Error::Timeout(verdict))) => verdict,
            other => panic!("{other:?}"),
        }
    });
    let (to_writer, to_reader) = join(writer, reader).await;
    assert_eq!(to_writer, to_reader);
    drop(peer);
}

pub(crate) async fn paused_peer<A: Adapter>() {
    let (socket, mut peer) = A::connect().await;
    let socket = keep_alive::<A>(socket, config());
    let (mut writer, mut reader) = socket.split();
    let reads_again = Arc::new(AtomicBool::new(false));
    let writer = A::spawn({
        let reads_again = Arc::clone(&reads_again);
        async move {
            let text = "-".repeat(1 << 16);
            let mut sent = 0_u64;
            while !reads_again.load(Ordering::Relaxed) {
                writer.send(A::Message::text(text.clone())).await.unwrap();
                sent += 1;
            }
            writer.send(A::Message::text("last".into())).await.unwrap();
            sent
        }
    });
    // Its pings wait for the same socket as the writer does.
    let reader = A::spawn(async move {
        let message = reader.next().await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some("last"));
    });
    let peer = async {
        // By then the buffers of TCP are full.
        Delay::new(10 * INTERVAL).await;
        reads_again.store(true, Ordering::Relaxed);
        let mut read = 0_u64;
        loop {
            let message = peer.next().await.unwrap().unwrap();
            match message.as_text() {
                Some("last") => break peer.send(message).await.unwrap(),
                Some(_) => read += 1,
                None => peer.flush().await.unwrap(),
            }
        }
        (peer, read)
    };
    let (sent, (), (_peer, read)) = join3(writer, reader, peer).await;
    assert_eq!(read, sent);
}

/// The side that answers a close frame takes five intervals for it. Returns whether pings, and
/// nothing else, came before that frame, and nothing after it.
async fn close_late<A: Adapter>(peer: &mut A::Peer) -> bool {
    Delay::new(5 * INTERVAL).await;
    while let Some(message) = peer.next().await {
        let message = message.unwrap();
        match A::PROTOCOL.classify(&message) {
            MessageKind::Ping(_) => {}
            MessageKind::Close => return peer.next().await.is_none(),
            _ => return false,
        }
    }
    false
}

/// Answers a ping, and then says that it did.
async fn answer_one<A: Adapter>(peer: &mut A::Peer) {
    let ping = peer.next().await.unwrap().unwrap();
    assert!(matches!(A::PROTOCOL.classify(&ping), MessageKind::Ping(_)));
    peer.flush().await.unwrap();
    peer.send(Message::text("answered".into())).await.unwrap();
}

pub(crate) async fn closed_by_user<A: Adapter>() {
    let (socket, mut peer) = A::connect().await;
    let mut socket = keep_alive::<A>(socket, config());
    let user = async move {
        let answered = socket.next().await.unwrap().unwrap();
        assert_eq!(answered.as_text(), Some("answered"));
        assert!(socket.stats().answered() >= 1);
        socket.send(close(A::PROTOCOL)).await.unwrap();
        let sent = socket.stats().sent();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer.close_code(), Some(1000));
        assert!(socket.next().await.is_none());
        assert!(socket.next().await.is_none());
        assert_eq!(socket.stats().sent(), sent);
    };
    let peer = async move {
        answer_one::<A>(&mut peer).await;
        assert!(close_late::<A>(&mut peer).await);
    };
    // Each drops its socket when it has ended: a client reads until the server's end has come.
    join(user, peer).await;
}

pub(crate) async fn closed_by_peer<A: Adapter>() {
    let (socket, mut peer) = A::connect().await;
    let mut socket = keep_alive::<A>(socket, config());
    let user = async move {
        let answered = socket.next().await.unwrap().unwrap();
        assert_eq!(answered.as_text(), Some("answered"));
        let close = socket.next().await.unwrap().unwrap();
        assert_eq!(close.close_code(), Some(1000));
        let sent = socket.stats().sent();
        assert!(sent >= 1);
        assert!(socket.next().await.is_none());
        assert!(socket.next().await.is_none());
        assert_eq!(socket.stats().sent(), sent);
    };
    let peer = async move {
        answer_one::<A>(&mut peer).await;
        peer.send(close(A::PROTOCOL)).await.unwrap();
        assert!(close_late::<A>(&mut peer).await);
    };
    join(user, peer).await;
}

macro_rules! suite {
    ($name:ident, $adapter:ty) => {
        mod $name {
            use super::*;
            use crate::scenarios;

            // contract: I62
            #[test]
            fn data_passes_in_order_while_pings_are_answered() {
                scenarios::run::<$adapter>(scenarios::whole_socket::<$adapter>());
            }

            // contract: I62
            #[test]
            fn split_halves_work_in_two_tasks() {
                scenarios::run::<$adapter>(scenarios::split_socket::<$adapter>());
            }

            // contract: I62
            #[test]
            fn a_silent_peer_is_found_once_and_fails_every_later_send() {
                scenarios::run::<$adapter>(scenarios::silent_peer::<$adapter>());
            }

            // contract: I62
            #[test]
            fn a_peer_that_stops_reading_fails_both_halves() {
                scenarios::run::<$adapter>(scenarios::silent_peer_of_a_writer::<$adapter>());
            }

            // contract: I62
            #[test]
            fn a_peer_that_reads_again_in_time_gets_all_of_it() {
                scenarios::run::<$adapter>(scenarios::paused_peer::<$adapter>());
            }

            // contract: I62
            #[test]
            fn no_ping_follows_the_users_close() {
                scenarios::run::<$adapter>(scenarios::closed_by_user::<$adapter>());
            }

            // contract: I62
            #[test]
            fn no_ping_follows_the_peers_close() {
                scenarios::run::<$adapter>(scenarios::closed_by_peer::<$adapter>());
            }
        }
    };
}
