//! What the tests of the echoes ask of each of them.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::Config;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_tungstenite_0_30::connect_async;
use tokio_tungstenite_0_30::tungstenite::Message;

/// A heartbeat whose pings come soon.
pub(crate) fn heartbeat() -> Config {
    let heartbeat = Config::builder().interval(Duration::from_millis(50));
    heartbeat.build().expect("valid")
}

/// Talks to the server, stops it, and sees its end.
pub(crate) async fn echoes_pings_and_ends<E: std::fmt::Debug>(
    url: String,
    stop: oneshot::Sender<()>,
    server: impl Future<Output = Result<(), E>>,
) {
    let client = async {
        let (mut socket, _) = connect_async(url).await.expect("a server");
        // Two pings come, and answers from here to the first one and to the text.
        let (mut echoed, mut pings) = (None, 0);
        let text = Message::text("hello");
        socket.send(text.clone()).await.expect("open");
        socket.send(Message::Ping("?".into())).await.expect("open");
        let mut pongs = 0;
        while echoed.is_none() || pings < 2 || pongs < 1 {
            match socket.next().await.expect("open").expect("no error") {
                Message::Ping(_) => pings += 1,
                Message::Pong(_) => pongs += 1,
                message => assert_eq!(echoed.replace(message), None),
            }
        }
        assert_eq!(echoed, Some(text));

        stop.send(()).expect("it serves");
        let mut closed = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                closed = frame;
            }
        }
        assert_eq!(closed.map(|frame| u16::from(frame.code)), Some(1001));
    };
    let both = futures::future::join(client, server);
    let ((), ended) = timeout(Duration::from_secs(9), both)
        .await
        .expect("in time");
    ended.expect("an end in order");
}
