//! One suite over the sockets of every WebSocket crate that the features serve, on loopback TCP and
//! in real time: a socket in [`KeepAlive`] against a bare one of the same crate.
//!
//! Intervals are short and limits are long: a slow machine makes a run slower, and not red.

// The suite is made of generic functions, which clippy does not take for tests.
#![allow(clippy::unwrap_used)]

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{Either, join, join3, select};
use futures::{Sink, SinkExt, Stream, StreamExt, stream};
use futures_pinger::{
    AsyncIoTimer, CloseReason, Config, ConfigBuilder, Error, Frame, FuturesTimer, KeepAlive,
    MessageKind, Protocol, Rfc6455, TimeoutPhase, Timer, TokioTimer, from_fn,
};
use futures_timer::Delay;

const INTERVAL: Duration = Duration::from_millis(30);
/// Longer than any stall of a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Messages in a burst.
const BURST: u64 = 16;

// --- what an adapter is ---

/// What the suite asks of a crate's messages; [`Protocol`] knows the control frames.
trait Message: fmt::Debug + Send + 'static {
    fn text(text: String) -> Self;
    fn as_text(&self) -> Option<&str>;
    fn close_code(&self) -> Option<u16>;
}

/// The bounds of a socket under one name.
trait Socket<M>:
    Stream<Item = Result<M, Self::Failure>> + Sink<M, Error = Self::Failure> + Send + Unpin + 'static
{
    type Failure: StdError + Send + 'static;
}

impl<S, M, E> Socket<M> for S
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Send + Unpin + 'static,
    E: StdError + Send + 'static,
{
    type Failure = E;
}

/// A WebSocket crate on a runtime.
trait Adapter {
    type Message: Message;
    type Socket: Socket<Self::Message>;
    type PeerMessage: Message;
    type Peer: Socket<Self::PeerMessage>;

    fn block_on<F: Future>(future: F) -> F::Output;

    fn spawn<F>(future: F) -> impl Future<Output = F::Output>
    where
        F: Future<Output: Send> + Send + 'static;

    fn timer() -> impl Timer + Send + Unpin + 'static;

    /// The socket that gets a heartbeat, and its peer.
    fn connect() -> impl Future<Output = (Self::Socket, Self::Peer)>;
}

// --- the suite ---

fn config() -> ConfigBuilder {
    Config::builder()
        .interval(INTERVAL)
        .timeout(LONG)
        .close_timeout(LONG)
}

fn run<A: Adapter>(scenario: impl Future<Output = ()>) {
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

fn foreign_pong<M>(n: u64) -> M
where
    Rfc6455: Protocol<M>,
{
    Rfc6455.encode(Frame::Pong(foreign(n).into())).unwrap()
}

fn close<M>() -> M
where
    Rfc6455: Protocol<M>,
{
    Rfc6455
        .encode(Frame::Close(CloseReason::new(1000, "done").unwrap()))
        .unwrap()
}

/// Sends each text back behind a foreign pong, until the text is "last". At the fourth ping, so
/// after three answers, it says "enough".
async fn echo<M: Message, S: Socket<M>>(mut peer: S) -> S
where
    Rfc6455: Protocol<M>,
{
    let (mut next, mut pings) = (0, 0);
    loop {
        let message = peer.next().await.unwrap().unwrap();
        match Rfc6455.classify(&message) {
            MessageKind::Ping(_) => {
                // The crate has prepared the pong. To tungstenite a pong of ours would replace it.
                peer.flush().await.unwrap();
                pings += 1;
                if pings == 4 {
                    peer.send(M::text("enough".into())).await.unwrap();
                }
            }
            MessageKind::Data => {
                let text = message.as_text().unwrap();
                if text == "last" {
                    peer.send(message).await.unwrap();
                    return peer;
                }
                assert_eq!(text, next.to_string());
                peer.feed(foreign_pong(next)).await.unwrap();
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
    async fn read<M: Message, E: fmt::Debug>(
        &mut self,
        reader: &mut (impl Stream<Item = Result<M, E>> + Unpin),
    ) where
        Rfc6455: Protocol<M>,
    {
        let message = reader.next().await.unwrap().unwrap();
        match Rfc6455.classify(&message) {
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

async fn whole_socket<A: Adapter>()
where
    Rfc6455: Protocol<A::Message> + Protocol<A::PeerMessage>,
{
    let (socket, peer) = A::connect().await;
    let mut socket = KeepAlive::new(socket, config().build().unwrap()).with_timer(A::timer());
    let user = async {
        let mut echoes = Echoes::default();
        while !echoes.enough {
            let sent = echoes.texts + BURST;
            for n in echoes.texts..sent {
                socket.feed(A::Message::text(n.to_string())).await.unwrap();
            }
            socket.flush().await.unwrap();
            while echoes.texts < sent {
                echoes.read(&mut socket).await;
            }
        }
        socket.send(A::Message::text("last".into())).await.unwrap();
        while !echoes.last {
            echoes.read(&mut socket).await;
        }
        assert!(socket.stats().answered() >= 3);
        assert_eq!(socket.stats().missed(), 0);
    };
    let ((), _peer) = join(user, echo(peer)).await;
}

async fn split_socket<A: Adapter>()
where
    Rfc6455: Protocol<A::Message> + Protocol<A::PeerMessage>,
{
    let (socket, peer) = A::connect().await;
    let socket = KeepAlive::new(socket, config().build().unwrap()).with_timer(A::timer());
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
            echoes.read(&mut reader).await;
            enough.store(echoes.enough, Ordering::Relaxed);
        }
        (reader, echoes.texts)
    });
    let ((writer, written), (reader, read), _peer) = join3(writer, reader, echo(peer)).await;
    assert_eq!(read, written);
    let socket = reader.reunite(writer).unwrap();
    assert!(socket.stats().answered() >= 3);
    assert_eq!(socket.stats().missed(), 0);
}

async fn silent_peer<A: Adapter>()
where
    Rfc6455: Protocol<A::Message> + Protocol<A::PeerMessage>,
{
    let (socket, mut peer) = A::connect().await;
    let config = config()
        .timeout(Duration::from_millis(100))
        .write_timeout(LONG)
        .build()
        .unwrap();
    let mut socket = KeepAlive::new(socket, config).with_timer(A::timer());
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
    assert!(matches!(Rfc6455.classify(&ping), MessageKind::Ping(_)));
    let close = peer.next().await.unwrap().unwrap();
    assert_eq!(close.close_code(), Some(1011));
}

async fn silent_peer_of_a_writer<A: Adapter>()
where
    Rfc6455: Protocol<A::Message>,
{
    let (socket, peer) = A::connect().await;
    let config = config()
        .timeout(Duration::from_millis(300))
        .no_close()
        .build()
        .unwrap();
    let socket = KeepAlive::new(socket, config).with_timer(A::timer());
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

async fn paused_peer<A: Adapter>()
where
    Rfc6455: Protocol<A::Message> + Protocol<A::PeerMessage>,
{
    let (socket, mut peer) = A::connect().await;
    let socket = KeepAlive::new(socket, config().build().unwrap()).with_timer(A::timer());
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
async fn close_late<M: Message, S: Socket<M>>(peer: &mut S) -> bool
where
    Rfc6455: Protocol<M>,
{
    Delay::new(5 * INTERVAL).await;
    while let Some(message) = peer.next().await {
        let message = message.unwrap();
        match Rfc6455.classify(&message) {
            MessageKind::Ping(_) => {}
            MessageKind::Close => return peer.next().await.is_none(),
            _ => return false,
        }
    }
    false
}

/// Answers a ping, and then says that it did.
async fn answer_one<M: Message, S: Socket<M>>(peer: &mut S)
where
    Rfc6455: Protocol<M>,
{
    let ping = peer.next().await.unwrap().unwrap();
    assert!(matches!(Rfc6455.classify(&ping), MessageKind::Ping(_)));
    peer.flush().await.unwrap();
    peer.send(M::text("answered".into())).await.unwrap();
}

async fn closed_by_user<A: Adapter>()
where
    Rfc6455: Protocol<A::Message> + Protocol<A::PeerMessage>,
{
    let (socket, mut peer) = A::connect().await;
    let mut socket = KeepAlive::new(socket, config().build().unwrap()).with_timer(A::timer());
    let user = async move {
        let answered = socket.next().await.unwrap().unwrap();
        assert_eq!(answered.as_text(), Some("answered"));
        assert!(socket.stats().answered() >= 1);
        socket.send(close()).await.unwrap();
        let sent = socket.stats().sent();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer.close_code(), Some(1000));
        assert!(socket.next().await.is_none());
        assert!(socket.next().await.is_none());
        assert_eq!(socket.stats().sent(), sent);
    };
    let peer = async move {
        answer_one(&mut peer).await;
        assert!(close_late(&mut peer).await);
    };
    // Each drops its socket when it has ended: a client reads until the server's end has come.
    join(user, peer).await;
}

async fn closed_by_peer<A: Adapter>()
where
    Rfc6455: Protocol<A::Message> + Protocol<A::PeerMessage>,
{
    let (socket, mut peer) = A::connect().await;
    let mut socket = KeepAlive::new(socket, config().build().unwrap()).with_timer(A::timer());
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
        answer_one(&mut peer).await;
        peer.send(close()).await.unwrap();
        assert!(close_late(&mut peer).await);
    };
    join(user, peer).await;
}

macro_rules! suite {
    ($name:ident, $adapter:ty) => {
        mod $name {
            use super::*;

            // contract: I62
            #[test]
            fn data_passes_in_order_while_pings_are_answered() {
                run::<$adapter>(whole_socket::<$adapter>());
            }

            // contract: I62
            #[test]
            fn split_halves_work_in_two_tasks() {
                run::<$adapter>(split_socket::<$adapter>());
            }

            // contract: I62
            #[test]
            fn a_silent_peer_is_found_once_and_fails_every_later_send() {
                run::<$adapter>(silent_peer::<$adapter>());
            }

            // contract: I62
            #[test]
            fn a_peer_that_stops_reading_fails_both_halves() {
                run::<$adapter>(silent_peer_of_a_writer::<$adapter>());
            }

            // contract: I62
            #[test]
            fn a_peer_that_reads_again_in_time_gets_all_of_it() {
                run::<$adapter>(paused_peer::<$adapter>());
            }

            // contract: I62
            #[test]
            fn no_ping_follows_the_users_close() {
                run::<$adapter>(closed_by_user::<$adapter>());
            }

            // contract: I62
            #[test]
            fn no_ping_follows_the_peers_close() {
                run::<$adapter>(closed_by_peer::<$adapter>());
            }
        }
    };
}

// --- the adapters ---

/// The runtime of an adapter on tokio.
macro_rules! tokio_runtime {
    () => {
        fn block_on<F: Future>(future: F) -> F::Output {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
                .block_on(future)
        }

        fn spawn<F>(future: F) -> impl Future<Output = F::Output>
        where
            F: Future<Output: Send> + Send + 'static,
        {
            let task = tokio::spawn(future);
            async { task.await.unwrap() }
        }
    };
}

/// Neither side waits to fill its segments: what is sent in two writes arrives as promptly as in one.
async fn tokio_pair() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = join(tokio::net::TcpStream::connect(address), listener.accept()).await;
    let (client, server) = (client.unwrap(), server.unwrap().0);
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

macro_rules! tungstenite_message {
    ($message:ty) => {
        impl Message for $message {
            fn text(text: String) -> Self {
                Self::Text(text.into())
            }

            fn as_text(&self) -> Option<&str> {
                match self {
                    Self::Text(text) => Some(text.as_str()),
                    _ => None,
                }
            }

            fn close_code(&self) -> Option<u16> {
                match self {
                    Self::Close(frame) => frame.as_ref().map(|frame| frame.code.into()),
                    _ => None,
                }
            }
        }
    };
}

macro_rules! tokio_tungstenite {
    ($name:ident, $adapter:ident, $tokio_tungstenite:ident) => {
        struct $adapter;

        tungstenite_message!($tokio_tungstenite::tungstenite::Message);

        impl Adapter for $adapter {
            type Message = $tokio_tungstenite::tungstenite::Message;
            type Socket = $tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;
            type PeerMessage = Self::Message;
            type Peer = Self::Socket;

            tokio_runtime!();

            fn timer() -> impl Timer + Send + Unpin + 'static {
                TokioTimer::new()
            }

            async fn connect() -> (Self::Socket, Self::Peer) {
                let (client, server) = tokio_pair().await;
                let client = $tokio_tungstenite::client_async("ws://localhost/", client);
                let server = $tokio_tungstenite::accept_async(server);
                let (client, server) = join(client, server).await;
                (client.unwrap().0, server.unwrap())
            }
        }

        suite!($name, $adapter);
    };
}

tokio_tungstenite!(
    on_tokio_tungstenite_0_26,
    TokioTungstenite26,
    tokio_tungstenite_0_26
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_27,
    TokioTungstenite27,
    tokio_tungstenite_0_27
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_28,
    TokioTungstenite28,
    tokio_tungstenite_0_28
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_29,
    TokioTungstenite29,
    tokio_tungstenite_0_29
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_30,
    TokioTungstenite30,
    tokio_tungstenite
);

/// async-tungstenite over a socket of futures-io; its messages are those of tungstenite 0.30.
macro_rules! async_tungstenite {
    ($runtime:ident) => {
        type Message = async_tungstenite::tungstenite::Message;
        type Socket = async_tungstenite::WebSocketStream<$runtime::net::TcpStream>;
        type PeerMessage = Self::Message;
        type Peer = Self::Socket;

        async fn connect() -> (Self::Socket, Self::Peer) {
            let listener = $runtime::net::TcpListener::bind("127.0.0.1:0")
                .await
                .unwrap();
            let address = listener.local_addr().unwrap();
            let client = $runtime::net::TcpStream::connect(address);
            let (client, server) = join(client, listener.accept()).await;
            let (client, server) = (client.unwrap(), server.unwrap().0);
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let client = async_tungstenite::client_async("ws://localhost/", client);
            let server = async_tungstenite::accept_async(server);
            let (client, server) = join(client, server).await;
            (client.unwrap().0, server.unwrap())
        }
    };
}

struct Smol;

impl Adapter for Smol {
    async_tungstenite!(smol);

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }

    fn spawn<F>(future: F) -> impl Future<Output = F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        smol::spawn(future)
    }

    fn timer() -> impl Timer + Send + Unpin + 'static {
        AsyncIoTimer::new()
    }
}

suite!(on_async_tungstenite_0_35_and_smol, Smol);

struct AsyncStd;

impl Adapter for AsyncStd {
    async_tungstenite!(async_std);

    fn block_on<F: Future>(future: F) -> F::Output {
        async_std::task::block_on(future)
    }

    fn spawn<F>(future: F) -> impl Future<Output = F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        async_std::task::spawn(future)
    }

    fn timer() -> impl Timer + Send + Unpin + 'static {
        from_fn(async_std::task::sleep)
    }
}

suite!(on_async_tungstenite_0_35_and_async_std, AsyncStd);

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
    type Socket = tokio_websockets_0_13::WebSocketStream<tokio::net::TcpStream>;
    type PeerMessage = Self::Message;
    type Peer = Self::Socket;

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

/// axum has servers only: its socket gets the heartbeat, and the peer is tokio-tungstenite's.
struct Axum;

tungstenite_message!(axum_0_8::extract::ws::Message);

impl Adapter for Axum {
    type Message = axum_0_8::extract::ws::Message;
    type Socket = axum_0_8::extract::ws::WebSocket;
    type PeerMessage = tokio_tungstenite::tungstenite::Message;
    type Peer = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

    tokio_runtime!();

    fn timer() -> impl Timer + Send + Unpin + 'static {
        TokioTimer::new()
    }

    async fn connect() -> (Self::Socket, Self::Peer) {
        use axum_0_8::extract::ws::WebSocketUpgrade;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, mut upgraded) = tokio::sync::mpsc::channel(1);
        let upgrade = async move |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async move |socket| sockets.send(socket).await.unwrap())
        };
        let app = axum_0_8::Router::new().route("/", axum_0_8::routing::any(upgrade));
        // It serves until the runtime ends.
        tokio::spawn(async { axum_0_8::serve(listener, app).await.unwrap() });
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.set_nodelay(true).unwrap();
        let client = tokio_tungstenite::client_async("ws://localhost/", client);
        let (client, server) = join(client, upgraded.recv()).await;
        (server.unwrap(), client.unwrap().0)
    }
}

suite!(on_axum_0_8, Axum);

// --- without a socket ---

fn control_frames_keep_their_meaning<M: Message>()
where
    Rfc6455: Protocol<M>,
{
    let payload = b"payload".as_slice();
    let ping = Rfc6455.encode(Frame::Ping(payload.into())).unwrap();
    assert_eq!(Rfc6455.classify(&ping), MessageKind::Ping(payload));
    let pong = Rfc6455.encode(Frame::Pong(payload.into())).unwrap();
    assert_eq!(Rfc6455.classify(&pong), MessageKind::Pong(payload.into()));
    for code in [1000, 1011, 3000, 4999] {
        let reason = CloseReason::new(code, "reason").unwrap();
        let close = Rfc6455.encode(Frame::Close(reason)).unwrap();
        assert_eq!(Rfc6455.classify(&close), MessageKind::Close);
        assert_eq!(close.close_code(), Some(code));
    }
    let text = M::text("ping".into());
    assert_eq!(Rfc6455.classify(&text), MessageKind::Data);
}

// contract: K72
#[test]
fn one_protocol_serves_the_messages_of_all_crates_at_once() {
    control_frames_keep_their_meaning::<tokio_tungstenite_0_26::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_27::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_28::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_29::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_websockets_0_13::Message>();
    control_frames_keep_their_meaning::<axum_0_8::extract::ws::Message>();
}

#[test]
fn it_is_send_with_every_timer_where_the_socket_is() {
    fn is_send<T: Send>(_: &T) {}
    let socket = || {
        let socket = stream::pending::<Result<tokio_websockets_0_13::Message, io::Error>>();
        is_send(&socket);
        KeepAlive::new(socket, Config::default())
    };
    // That it compiles is the test. None of them needs its runtime before it is polled.
    is_send(&socket());
    is_send(&socket().with_timer(FuturesTimer::new()));
    is_send(&socket().with_timer(TokioTimer::new()));
    is_send(&socket().with_timer(AsyncIoTimer::new()));
    is_send(&socket().with_timer(from_fn(tokio::time::sleep)));
    is_send(&socket().with_timer(from_fn(smol::Timer::after)));
    is_send(&socket().with_timer(from_fn(async_std::task::sleep)));
    is_send(&socket().with_timer(from_fn(Delay::new)));
}
