//! async-tungstenite on smol: a socket in a [`KeepAlive`] that keeps time by async-io's reactor, the
//! one that smol's sockets use.
//!
//! `cargo run --example smol` takes two seconds. The client answers three pings and then reads no more;
//! it fails unless the server finds that out.

use std::error::Error as StdError;
use std::future::pending;
use std::time::Duration;

use async_tungstenite::tungstenite::{Error as WsError, Message};
use async_tungstenite::{accept_async, client_async};
use futures::{SinkExt, TryStreamExt};
use futures_pinger::{AsyncIoTimer, Config, Error, KeepAlive};
use smol::net::{SocketAddr, TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn StdError>> {
    let config = Config::builder()
        .interval(Duration::from_millis(100))
        .timeout(Duration::from_secs(1))
        .build()?;
    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let _client = smol::spawn(client(listener.local_addr()?));
        let (tcp, _) = listener.accept().await?;

        let socket = accept_async(tcp).await?;
        let mut socket = KeepAlive::new(socket, config).with_timer(AsyncIoTimer::new());
        let verdict = loop {
            match socket.try_next().await {
                Ok(Some(message @ Message::Text(_))) => socket.send(message).await?,
                Ok(Some(_)) => {}
                Ok(None) => return Err("the client closed".into()),
                Err(Error::Timeout(verdict)) => break verdict,
                Err(error) => return Err(error.into()),
            }
        };
        println!("{verdict}");
        if verdict.answered() == 3 {
            Ok(())
        } else {
            Err("the client answered three pings".into())
        }
    })
}

/// Its TCP connection stays open when it reads no more.
async fn client(server: SocketAddr) -> Result<(), WsError> {
    let tcp = TcpStream::connect(server).await?;
    let (mut socket, _) = client_async("ws://localhost/", tcp).await?;
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
