//! tokio-tungstenite on tokio, one for each version of tungstenite.

use std::future::Future;

use futures::future::join;
use futures_pinger::{Rfc6455, Timer, TokioTimer, protocol_for_tungstenite};
use tokio::net::TcpStream;

use crate::{Adapter, tokio_pair};

macro_rules! tokio_tungstenite {
    ($name:ident, $adapter:ident, $tokio_tungstenite:ident, $protocol:ident) => {
        struct $adapter;

        message!($tokio_tungstenite::tungstenite::Message);

        impl Adapter for $adapter {
            type Message = $tokio_tungstenite::tungstenite::Message;
            type Socket = $tokio_tungstenite::WebSocketStream<TcpStream>;
            type PeerMessage = Self::Message;
            type Peer = Self::Socket;
            type Protocol = $protocol;

            const PROTOCOL: $protocol = $protocol;

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

protocol_for_tungstenite!(struct Ws = tokio_tungstenite_0_23::tungstenite);

tokio_tungstenite!(
    on_tokio_tungstenite_0_23_which_has_no_feature,
    TokioTungstenite23,
    tokio_tungstenite_0_23,
    Ws
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_24,
    TokioTungstenite24,
    tokio_tungstenite_0_24,
    Rfc6455
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_26,
    TokioTungstenite26,
    tokio_tungstenite_0_26,
    Rfc6455
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_27,
    TokioTungstenite27,
    tokio_tungstenite_0_27,
    Rfc6455
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_28,
    TokioTungstenite28,
    tokio_tungstenite_0_28,
    Rfc6455
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_29,
    TokioTungstenite29,
    tokio_tungstenite_0_29,
    Rfc6455
);
tokio_tungstenite!(
    on_tokio_tungstenite_0_30,
    TokioTungstenite30,
    tokio_tungstenite_0_30,
    Rfc6455
);
