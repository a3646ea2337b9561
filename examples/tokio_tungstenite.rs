//! tokio-tungstenite, in the two forms that its users have: the whole socket in a [`KeepAlive`], and
//! split halves with a writer task, where the heartbeat has a queue of its own ahead of the data.
//!
//! `cargo run --example tokio_tungstenite` takes three seconds. Each server answers a client that is
//! well for a while and then reads no more; it fails unless the heartbeat finds that out.

use std::error::Error as StdError;
use std::future::pending;
use std::time::Duration;

use futures::channel::mpsc;
use futures::stream::{PollNext, select_with_strategy};
use futures::{SinkExt, StreamExt, TryStreamExt};
use futures_pinger::{Config, Error, FrameSink, KeepAlive, Rfc6455, TimedOut, TokioTimer, pinger};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{accept_async, connect_async};

type Failure = Box<dyn StdError + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let config = Config::builder()
        .interval(Duration::from_millis(100))
        .timeout(Duration::from_secs(1))
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);

    let peer = tokio::spawn(client(url.clone()));
    let (tcp, _) = listener.accept().await?;
    report("whole socket", whole(tcp, config.clone()).await?)?;
    peer.abort();

    let peer = tokio::spawn(client(url));
    let (tcp, _) = listener.accept().await?;
    report("split halves", split(tcp, config).await?)?;
    peer.abort();
    Ok(())
}

/// Echoes until the client is gone. Nothing but the first line differs from a bare socket.
async fn whole(tcp: TcpStream, config: Config) -> Result<TimedOut, Failure> {
    let mut socket = KeepAlive::new(accept_async(tcp).await?, config).with_timer(TokioTimer::new());
    loop {
        match socket.try_next().await {
            Ok(Some(message @ Message::Text(_))) => socket.send(message).await?,
            // The pings of the client, which tungstenite has answered, and its stray pongs.
            Ok(Some(_)) => {}
            Ok(None) => return Err("the client closed".into()),
            Err(Error::Timeout(verdict)) => return Ok(verdict),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same with a writer task.
async fn split(tcp: TcpStream, config: Config) -> Result<TimedOut, Failure> {
    let (sink, stream) = accept_async(tcp).await?.split();
    let (mut data, queue) = mpsc::channel::<Message>(32);

    // In a queue without slack a ping counts as sent when the writer has taken it, not before.
    let (frames, heartbeat_queue) = mpsc::channel::<Message>(0);
    let (pongs, heartbeat) = pinger(FrameSink::new(frames, Rfc6455), config);
    let heartbeat = tokio::spawn(heartbeat.with_timer(TokioTimer::new()));
    let mut incoming = pongs.attach(stream, Rfc6455);

    // A ping waits for the message that is being written, and for no other.
    let heartbeat_first = |_: &mut ()| PollNext::Left;
    let messages = select_with_strategy(heartbeat_queue, queue, heartbeat_first);
    let mut writer = tokio::spawn(messages.map(Ok).forward(sink));

    let reader = async {
        while let Some(message) = incoming.try_next().await? {
            if message.is_text() {
                data.send(message).await?;
            }
        }
        Err("the client closed".into())
    };
    let verdict = tokio::select! {
        ended = reader => ended,
        ended = heartbeat => match ended? {
            Err(Error::Timeout(verdict)) => Ok(verdict),
            other => Err(format!("{other:?}").into()),
        },
    };
    // The queues end here, and the writer after what is in them, which is the close frame; unless it
    // is stuck, as the client does not read.
    drop(data);
    let _ = timeout(Duration::from_secs(1), &mut writer).await;
    writer.abort();
    verdict
}

/// Is well until it has seen three pings, and then reads no more; its TCP connection stays open.
async fn client(url: String) -> Result<(), WsError> {
    let (mut socket, _) = connect_async(url).await?;
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

fn report(form: &str, verdict: TimedOut) -> Result<(), Failure> {
    println!("{form}: {verdict}");
    if verdict.answered() == 3 {
        Ok(())
    } else {
        Err("the client answered three pings".into())
    }
}
