//! async-tungstenite on smol and on async-std; its messages are those of tungstenite 0.30.

use std::future::Future;

use futures::future::join;
use futures_pinger::{AsyncIoTimer, Rfc6455, Timer, from_fn};

use crate::Adapter;

/// async-tungstenite over a socket of futures-io; its messages are those of tungstenite 0.30.
macro_rules! async_tungstenite {
    ($runtime:ident) => {
        type Message = async_tungstenite::tungstenite::Message;
        type Socket = async_tungstenite::WebSocketStream<$runtime::net::TcpStream>;
        type PeerMessage = Self::Message;
        type Peer = Self::Socket;
        type Protocol = Rfc6455;

        const PROTOCOL: Rfc6455 = Rfc6455;

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
