//! One suite over the sockets of every WebSocket crate that the features serve, on loopback TCP and
//! in real time: a socket in `KeepAlive` against a bare one of the same crate, or of tokio-tungstenite
//! where the crate has one side only. `scenarios.rs` is the suite, and each other file a crate.
//!
//! Intervals are short and limits are long: a slow machine makes a run slower, and not red.

// The suite is made of generic functions, which clippy does not take for tests.
#![allow(clippy::unwrap_used)]

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;

use futures::future::join;
use futures::{Sink, Stream};
use futures_pinger::{Protocol, Timer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;

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
    type Protocol: Protocol<Self::Message> + Protocol<Self::PeerMessage> + Copy + Send + 'static;

    const PROTOCOL: Self::Protocol;

    fn block_on<F: Future>(future: F) -> F::Output;

    fn spawn<F>(future: F) -> impl Future<Output = F::Output>
    where
        F: Future<Output: Send> + Send + 'static;

    fn timer() -> impl Timer + Send + Unpin + 'static;

    /// The socket that gets a heartbeat, and its peer.
    fn connect() -> impl Future<Output = (Self::Socket, Self::Peer)>;
}

/// Makes `Message` of a crate's own enum, where a close frame has a field `code`.
macro_rules! message {
    ($message:ty) => {
        impl crate::Message for $message {
            fn text(text: String) -> Self {
                Self::Text(text.into())
            }

            fn as_text(&self) -> Option<&str> {
                match self {
                    Self::Text(text) => Some(text),
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

// The macros above and that of the suite are for all that follow.
#[macro_use]
mod scenarios;
mod actix;
mod async_tungstenite;
mod axum;
mod frames;
mod poem;
mod reqwest;
mod tokio_websockets;
mod tungstenite;
mod warp;

/// The peer of a crate that has servers only.
type Client = tokio_tungstenite_0_30::WebSocketStream<TcpStream>;

async fn client_of(server: SocketAddr) -> Client {
    let tcp = TcpStream::connect(server).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let connected = tokio_tungstenite_0_30::client_async("ws://localhost/", tcp).await;
    connected.unwrap().0
}

/// A server's socket, which it hands out of its handler, and the client that it is for.
async fn handed_out<S>(server: SocketAddr, mut sockets: Receiver<S>) -> (S, Client) {
    let (client, socket) = join(client_of(server), sockets.recv()).await;
    (socket.unwrap(), client)
}

/// Neither side waits to fill its segments: what is sent in two writes arrives as promptly as in one.
async fn tokio_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = join(TcpStream::connect(address), listener.accept()).await;
    let (client, server) = (client.unwrap(), server.unwrap().0);
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}
