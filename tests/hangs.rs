//! The ways into a hang, on real sockets: each over tokio-tungstenite, axum and tokio-websockets, whole
//! and split, and as a client where the crate has one. Without a heartbeat each of these applications waits for ever.
//!
//! The heartbeats are quick here, and the limit generous: a slow machine fails nothing.

use std::fmt::Debug;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum_0_8::extract::ws::{Message as AxumMessage, WebSocketUpgrade};
use axum_0_8::routing::get;
use futures::future::join_all;
use futures::{Sink, SinkExt, Stream, StreamExt, TryStreamExt};
use futures_pinger::{Config, Error, KeepAlive, Protocol, Rfc6455, TimeoutPhase, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};
use tokio_websockets_0_13::Message as WebSocketsMessage;

/// What takes longer hangs.
const GUARD: Duration = Duration::from_secs(20);
/// More than all buffers between the two ends.
const TOO_MUCH: usize = 8 << 20;
/// Of the peer's socket.
const BUFFER: u32 = 4096;

type Peer = WebSocketStream<TcpStream>;
type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn config() -> Config {
    let config = Config::builder().interval(Duration::from_millis(300));
    let config = config.timeout(Duration::from_millis(500));
    let config = config.closing_handshake(Duration::from_millis(700));
    config.build().expect("valid")
}

/// A WebSocket crate, as a server or as a client.
trait Crate {
    type Message: Send + 'static;
    type Error: Debug + Send + 'static;
    type Socket: Stream<Item = Result<Self::Message, Self::Error>>
        + Sink<Self::Message, Error = Self::Error>
        + Unpin
        + Send
        + 'static;

    /// A socket of the crate's, and its peer.
    fn connect() -> Running<'static, io::Result<(Self::Socket, Peer)>>;
    fn data(bytes: usize) -> Self::Message;
    fn close() -> Self::Message;
}

struct Tungstenite;

impl Crate for Tungstenite {
    type Message = Message;
    type Error = tokio_tungstenite::tungstenite::Error;
    type Socket = WebSocketStream<TcpStream>;

    fn connect() -> Running<'static, io::Result<(Self::Socket, Peer)>> {
        Box::pin(connected_by_peer(async |listener: TcpListener| {
            let (tcp, _) = listener.accept().await.expect("a connection");
            accept_async(tcp).await.expect("a handshake")
        }))
    }

    fn data(bytes: usize) -> Message {
        Message::binary(vec![0; bytes])
    }

    fn close() -> Message {
        Message::Close(None)
    }
}

struct Axum;

impl Crate for Axum {
    type Message = AxumMessage;
    type Error = axum_0_8::Error;
    type Socket = axum_0_8::extract::ws::WebSocket;

    fn connect() -> Running<'static, io::Result<(Self::Socket, Peer)>> {
        Box::pin(connected_by_peer(async |listener: TcpListener| {
            let (socket, sockets) = oneshot::channel();
            let socket = std::sync::Arc::new(std::sync::Mutex::new(Some(socket)));
            let handler = get(move |upgrade: WebSocketUpgrade| async move {
                let upgrade = upgrade.max_message_size(2 * TOO_MUCH);
                upgrade
                    .max_frame_size(2 * TOO_MUCH)
                    .on_upgrade(move |accepted| async move {
                        let socket = socket.lock().expect("no panic").take();
                        let _ = socket.expect("one connection").send(accepted);
                    })
            });
            let router = axum_0_8::Router::new().route("/", handler);
            tokio::spawn(async move { axum_0_8::serve(listener, router).await });
            sockets.await.expect("a handshake")
        }))
    }

    fn data(bytes: usize) -> AxumMessage {
        AxumMessage::Binary(vec![0; bytes].into())
    }

    fn close() -> AxumMessage {
        AxumMessage::Close(None)
    }
}

struct WebSockets;

impl Crate for WebSockets {
    type Message = WebSocketsMessage;
    type Error = tokio_websockets_0_13::Error;
    type Socket = tokio_websockets_0_13::WebSocketStream<TcpStream>;

    fn connect() -> Running<'static, io::Result<(Self::Socket, Peer)>> {
        Box::pin(connected_by_peer(async |listener: TcpListener| {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let limits = tokio_websockets_0_13::Limits::unlimited();
            let server = tokio_websockets_0_13::ServerBuilder::new().limits(limits);
            server.accept(tcp).await.expect("a handshake").1
        }))
    }

    fn data(bytes: usize) -> WebSocketsMessage {
        WebSocketsMessage::binary(vec![0; bytes])
    }

    fn close() -> WebSocketsMessage {
        WebSocketsMessage::close(None, "")
    }
}

struct TungsteniteClient;

impl Crate for TungsteniteClient {
    type Message = Message;
    type Error = tokio_tungstenite::tungstenite::Error;
    type Socket = WebSocketStream<TcpStream>;

    fn connect() -> Running<'static, io::Result<(Self::Socket, Peer)>> {
        Box::pin(accepted_by_peer(async |tcp: TcpStream| {
            let connected = client_async("ws://localhost/", tcp).await;
            connected.expect("a handshake").0
        }))
    }

    fn data(bytes: usize) -> Message {
        Tungstenite::data(bytes)
    }

    fn close() -> Message {
        Tungstenite::close()
    }
}

struct WebSocketsClient;

impl Crate for WebSocketsClient {
    type Message = WebSocketsMessage;
    type Error = tokio_websockets_0_13::Error;
    type Socket = tokio_websockets_0_13::WebSocketStream<TcpStream>;

    fn connect() -> Running<'static, io::Result<(Self::Socket, Peer)>> {
        Box::pin(accepted_by_peer(async |tcp: TcpStream| {
            let uri = "ws://localhost/".parse().expect("an address");
            let limits = tokio_websockets_0_13::Limits::unlimited();
            let client = tokio_websockets_0_13::ClientBuilder::from_uri(uri).limits(limits);
            client.connect_on(tcp).await.expect("a handshake").0
        }))
    }

    fn data(bytes: usize) -> WebSocketsMessage {
        WebSockets::data(bytes)
    }

    fn close() -> WebSocketsMessage {
        WebSockets::close()
    }
}

type Alive<C> = KeepAlive<<C as Crate>::Socket, Rfc6455, TokioTimer>;
type Failure<C> = Error<<C as Crate>::Error>;

/// The peer connects to a server of ours.
async fn connected_by_peer<S>(accept: impl AsyncFnOnce(TcpListener) -> S) -> io::Result<(S, Peer)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let peer = async {
        let peer = TcpSocket::new_v4()?;
        peer.set_recv_buffer_size(BUFFER)?;
        let peer = peer.connect(address).await?;
        let connected = client_async("ws://localhost/", peer).await;
        Ok(connected.map_err(io::Error::other)?.0)
    };
    let (socket, peer) = tokio::join!(accept(listener), peer);
    peer.map(|peer| (socket, peer))
}

/// The peer is a server, to which we connect.
async fn accepted_by_peer<S>(connect: impl AsyncFnOnce(TcpStream) -> S) -> io::Result<(S, Peer)> {
    let listener = TcpSocket::new_v4()?;
    listener.set_recv_buffer_size(BUFFER)?;
    listener.bind(([127, 0, 0, 1], 0).into())?;
    let listener = listener.listen(1)?;
    let tcp = TcpStream::connect(listener.local_addr()?).await?;
    let (peer, _) = listener.accept().await?;
    let (socket, peer) = tokio::join!(connect(tcp), accept_async(peer));
    Ok((socket, peer.map_err(io::Error::other)?))
}

/// A socket of ours with its heartbeat, and the peer's.
async fn connected<C: Crate>() -> io::Result<(Alive<C>, Peer)>
where
    Rfc6455: Protocol<C::Message>,
{
    let (socket, peer) = C::connect().await?;
    let alive = KeepAlive::with_protocol(socket, Rfc6455, config());
    Ok((alive.with_timer(TokioTimer::new()), peer))
}

/// An application that ends with an error, if it ends.
#[derive(Debug, Clone, Copy)]
enum Way {
    Echo,
    Select,
    Forward,
    Queue { halves: bool },
    LimitedSends,
    Publisher { halves: bool },
}

const WAYS: [Way; 8] = [
    Way::Echo,
    Way::Select,
    Way::Forward,
    Way::Queue { halves: false },
    Way::Queue { halves: true },
    Way::LimitedSends,
    Way::Publisher { halves: false },
    Way::Publisher { halves: true },
];

async fn run<C: Crate>(way: Way, mut socket: Alive<C>) -> Option<Failure<C>>
where
    Rfc6455: Protocol<C::Message>,
{
    match way {
        Way::Echo => loop {
            match socket.next().await? {
                Ok(message) => {
                    if let Err(error) = socket.send(message).await {
                        return Some(error);
                    }
                }
                Err(error) => return Some(error),
            }
        },
        Way::Select => {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    message = socket.next() => {
                        if let Err(error) = message? {
                            return Some(error);
                        }
                    }
                    _ = ticks.tick() => {
                        if let Err(error) = socket.send(C::data(TOO_MUCH)).await {
                            return Some(error);
                        }
                    }
                }
            }
        }
        Way::Forward => {
            let (sink, stream) = socket.split();
            stream.forward(sink).await.err()
        }
        Way::Queue { halves: true } => {
            let (reader, writer) = socket.into_split();
            through_a_queue(reader, writer).await
        }
        Way::Queue { halves: false } => {
            let (writer, reader) = socket.split();
            through_a_queue(reader, writer).await
        }
        Way::LimitedSends => loop {
            let sent = timeout(Duration::from_millis(30), socket.send(C::data(TOO_MUCH)));
            if let Ok(Err(error)) = sent.await {
                return Some(error);
            }
        },
        Way::Publisher { halves: false } => loop {
            if let Err(error) = socket.send(C::data(TOO_MUCH)).await {
                return Some(error);
            }
        },
        Way::Publisher { halves: true } => {
            let (_reader, mut writer) = socket.into_split();
            loop {
                if let Err(error) = writer.send(C::data(TOO_MUCH)).await {
                    return Some(error);
                }
            }
        }
    }
}

/// A reader and a writer with a bounded queue between them.
async fn through_a_queue<M, E>(
    mut reader: impl Stream<Item = Result<M, Error<E>>> + Unpin,
    mut writer: impl Sink<M, Error = Error<E>> + Unpin,
) -> Option<Error<E>> {
    let (queue, mut queued) = mpsc::channel(1);
    let read = async move {
        loop {
            match reader.try_next().await {
                Ok(Some(message)) => {
                    if queue.send(message).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    let write = async move {
        while let Some(message) = queued.recv().await {
            if let Err(error) = writer.send(message).await {
                return Some(error);
            }
        }
        None
    };
    let (read, written) = tokio::join!(read, write);
    read.or(written)
}

/// A peer that sends data, and then neither reads nor writes.
async fn falls_silent<C: Crate>(way: Way)
where
    Rfc6455: Protocol<C::Message>,
{
    let (socket, mut peer) = connected::<C>().await.expect("connected");
    let peer = tokio::spawn(async move {
        for _ in 0..3 {
            let message = Message::binary(vec![0; TOO_MUCH / 2]);
            if peer.send(message).await.is_err() {
                break;
            }
        }
        pending::<()>().await;
        drop(peer);
    });
    let end = timeout(GUARD, run::<C>(way, socket)).await;
    let end = end.unwrap_or_else(|_| panic!("{way:?} hangs"));
    assert!(matches!(end, Some(Error::Timeout(_))), "{way:?}: {end:?}");
    peer.abort();
}

// contract: O87
#[tokio::test]
async fn each_way_into_a_hang_ends_where_the_peer_falls_silent() {
    async fn all<C: Crate>()
    where
        Rfc6455: Protocol<C::Message>,
    {
        // One after the other for each crate: the messages are large.
        for way in WAYS {
            falls_silent::<C>(way).await;
        }
    }
    tokio::join!(all::<Tungstenite>(), all::<Axum>(), all::<WebSockets>());
    tokio::join!(all::<TungsteniteClient>(), all::<WebSocketsClient>());
}

/// Who sends the close frame.
#[derive(Debug, Clone, Copy)]
enum By {
    Message,
    Sink,
    Peer,
}

/// A connection in which a close frame goes one way only, with a reader and a writer in two tasks.
async fn closes_one_way<C: Crate>(by: By, halves: bool, floods: bool)
where
    Rfc6455: Protocol<C::Message>,
{
    let (socket, mut peer) = connected::<C>().await.expect("connected");
    if let By::Peer = by {
        peer.send(Message::Close(None))
            .await
            .expect("there is room");
    }
    let (read, written) = if halves {
        let (reader, writer) = socket.into_split();
        both::<C>(reader, writer, by, floods).await
    } else {
        let (writer, reader) = socket.split();
        both::<C>(reader, writer, by, floods).await
    };
    let what = format!("{by:?}, {halves}, {floods}");
    if let By::Peer = by {
        // The crate answers, so that the connection may end without an error; a peer that reads nothing is
        // found else.
        let fine = match &read {
            None => true,
            Some(Error::Timeout(verdict)) => verdict.phase() == TimeoutPhase::Closing,
            Some(_) => false,
        };
        assert!(fine, "{what}: {read:?}, {written:?}");
    } else {
        let verdict =
            matches!(&read, Some(Error::Timeout(it)) if it.phase() == TimeoutPhase::Closing);
        assert!(verdict, "{what}: {read:?}, {written:?}");
    }
    drop(peer);
}

/// What the reader and the writer end with; neither may hang.
async fn both<C: Crate>(
    mut reader: impl Stream<Item = Result<C::Message, Failure<C>>> + Unpin,
    mut writer: impl Sink<C::Message, Error = Failure<C>> + Unpin,
    by: By,
    floods: bool,
) -> (Option<Failure<C>>, Option<Failure<C>>)
where
    Rfc6455: Protocol<C::Message>,
{
    let read = async {
        loop {
            match reader.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    let write = async {
        sleep(Duration::from_millis(50)).await;
        let closed = match by {
            By::Message => writer.send(C::close()).await,
            By::Sink => writer.close().await,
            By::Peer => Ok(()),
        };
        if let Err(error) = closed {
            return Some(error);
        }
        if !floods {
            return None;
        }
        loop {
            if let Err(error) = writer.send(C::data(TOO_MUCH)).await {
                return Some(error);
            }
        }
    };
    let both = timeout(GUARD, async { tokio::join!(read, write) }).await;
    both.unwrap_or_else(|_| panic!("{by:?} {floods}: a half hangs"))
}

// contract: O92
#[tokio::test]
async fn each_close_that_goes_one_way_has_an_end() {
    async fn all<C: Crate>()
    where
        Rfc6455: Protocol<C::Message>,
    {
        let ways = [By::Message, By::Sink, By::Peer];
        let ways = ways.into_iter().flat_map(|by| [(by, false), (by, true)]);
        // After our own close frame nothing else may be sent.
        let ways = ways.flat_map(|(by, halves)| {
            let floods = matches!(by, By::Peer);
            [(by, halves, false), (by, halves, floods)]
        });
        join_all(ways.map(|(by, halves, floods)| closes_one_way::<C>(by, halves, floods))).await;
    }
    tokio::join!(all::<Tungstenite>(), all::<Axum>(), all::<WebSockets>());
    tokio::join!(all::<TungsteniteClient>(), all::<WebSocketsClient>());
}

/// A peer that answers for a while, and then no more.
async fn lives_and_dies<C: Crate>()
where
    Rfc6455: Protocol<C::Message>,
{
    let (mut socket, mut peer) = connected::<C>().await.expect("connected");
    let controller = socket.controller();
    let answers = async {
        while controller.stats().answered() < 3 {
            // The crate answers what it reads.
            let _ = timeout(Duration::from_millis(20), peer.next()).await;
        }
    };
    let ended = async {
        while let Ok(Some(_)) = socket.try_next().await {}
        panic!("nothing else ends it");
    };
    timeout(GUARD, async {
        tokio::select! {
            () = answers => {}
            () = ended => {}
        }
    })
    .await
    .expect("a live peer lives");
    let end = timeout(GUARD, socket.try_next()).await.expect("a verdict");
    let end = end.map(|_| "a message");
    let verdict = matches!(&end, Err(Error::Timeout(it)) if it.phase() == TimeoutPhase::Pong);
    assert!(verdict, "{end:?}");
    drop(peer);
}

// contract: I62 K72
#[tokio::test]
async fn over_each_crate_a_peer_that_answers_is_alive_and_a_mute_one_is_found() {
    tokio::join!(
        lives_and_dies::<Tungstenite>(),
        lives_and_dies::<Axum>(),
        lives_and_dies::<WebSockets>(),
        lives_and_dies::<TungsteniteClient>(),
        lives_and_dies::<WebSocketsClient>(),
    );
}
