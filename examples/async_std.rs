//! async-tungstenite on async-std. Its sleep, as that of any runtime, makes a timer; `AsyncIoTimer`
//! would do as well, as async-std runs on async-io.
//!
//! `cargo run --example async_std` takes a second. The client talks and answers pings, then closes;
//! it fails unless all of it came through, and nothing but it.

use std::error::Error as StdError;
use std::time::Duration;

use async_std::net::{SocketAddr, TcpListener, TcpStream};
use async_std::task;
use async_tungstenite::tungstenite::{Error as WsError, Message};
use async_tungstenite::{accept_async, client_async};
use futures::{SinkExt, TryStreamExt};
use futures_pinger::{Config, KeepAlive, from_fn};

type Failure = Box<dyn StdError + Send + Sync>;

fn main() -> Result<(), Failure> {
    task::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = task::spawn(client(listener.local_addr()?));
        let (tcp, _) = listener.accept().await?;
        serve(tcp).await?;
        Ok(client.await?)
    })
}

async fn serve(tcp: TcpStream) -> Result<(), Failure> {
    let config = Config::builder()
        .interval(Duration::from_millis(100))
        .build()?;
    let socket = accept_async(tcp).await?;
    let mut socket = KeepAlive::new(socket, config).with_timer(from_fn(task::sleep));
    let mut echoes = 0;
    while let Some(message) = socket.try_next().await? {
        match message {
            Message::Text(_) => {
                socket.send(message).await?;
                echoes += 1;
            }
            Message::Close(_) => {}
            // The pongs to its own pings stay with the heartbeat.
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    let stats = socket.stats();
    println!(
        "{echoes} echoes, {} of {} pings answered, smoothed rtt {:?}",
        stats.answered(),
        stats.sent(),
        stats.smoothed_rtt().unwrap_or_default(),
    );
    if echoes == 10 && stats.answered() >= 3 {
        Ok(())
    } else {
        Err("the client sent ten messages in the time of three pings".into())
    }
}

async fn client(server: SocketAddr) -> Result<(), WsError> {
    let tcp = TcpStream::connect(server).await?;
    let (mut socket, _) = client_async("ws://localhost/", tcp).await?;
    for n in 0..10 {
        task::sleep(Duration::from_millis(60)).await;
        socket.send(Message::text(n.to_string())).await?;
        // To read on is to answer pings.
        loop {
            match socket.try_next().await? {
                Some(Message::Text(_)) => break,
                Some(_) => {}
                None => return Err(WsError::ConnectionClosed),
            }
        }
    }
    socket.close(None).await?;
    while socket.try_next().await?.is_some() {}
    Ok(())
}
