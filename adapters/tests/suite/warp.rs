//! warp, which has servers only, in both of its versions: the peer is tokio-tungstenite's.

use std::future::Future;

use futures::{StreamExt, stream};
use futures_pinger::{Rfc6455, Timer, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::{Adapter, Client, Message, handed_out};

macro_rules! warp {
    ($name:ident, $adapter:ident, $warp:ident, |$listener:ident, $routes:ident| $serve:expr) => {
        struct $adapter;

        impl Message for $warp::ws::Message {
            fn text(text: String) -> Self {
                Self::text(text)
            }

            fn as_text(&self) -> Option<&str> {
                self.to_str().ok()
            }

            fn close_code(&self) -> Option<u16> {
                self.close_frame().map(|(code, _)| code)
            }
        }

        impl Adapter for $adapter {
            type Message = $warp::ws::Message;
            type Socket = $warp::ws::WebSocket;
            type PeerMessage = tokio_tungstenite_0_30::tungstenite::Message;
            type Peer = Client;
            type Protocol = Rfc6455;

            const PROTOCOL: Rfc6455 = Rfc6455;

            tokio_runtime!();

            fn timer() -> impl Timer + Send + Unpin + 'static {
                TokioTimer::new()
            }

            async fn connect() -> (Self::Socket, Self::Peer) {
                use $warp::Filter;

                let $listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = $listener.local_addr().unwrap();
                let (sockets, upgraded) = mpsc::channel(1);
                let $routes = $warp::ws().map(move |upgrade: $warp::ws::Ws| {
                    let sockets = sockets.clone();
                    upgrade.on_upgrade(async move |socket| sockets.send(socket).await.unwrap())
                });
                // It serves until the runtime ends.
                tokio::spawn($serve);
                handed_out(address, upgraded).await
            }
        }

        suite!($name, $adapter);
    };
}

warp!(on_warp_0_3, Warp3, warp_0_3, |listener, routes| {
    let accepted = async move { listener.accept().await.map(|(tcp, _)| tcp) };
    let incoming = Box::pin(stream::once(accepted).chain(stream::pending()));
    warp_0_3::serve(routes).run_incoming(incoming)
});
warp!(on_warp_0_4, Warp4, warp_0_4, |listener, routes| {
    warp_0_4::serve(routes).incoming(listener).run()
});
