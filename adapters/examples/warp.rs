//! An echo on warp 0.4: `KeepAlive` finds clients that are gone, and
//! Ctrl-C ends each connection with a close frame of 1001.
//!
//! `cargo run -p adapters --example warp [PORT]`, then `websocat ws://127.0.0.1:3000/echo` in some terminals.

use std::error::Error as StdError;
use std::fmt::Display;
use std::process::ExitCode;

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Error, KeepAlive, TokioTimer};
use tokio::{net::TcpListener, sync::watch};
use warp::Filter;
use warp::ws::{Message, WebSocket, Ws};
use warp_0_4 as warp;

async fn echo(
    socket: WebSocket,
    heartbeat: Config,
    mut down: watch::Receiver<bool>,
) -> Result<(), Error<warp::Error>> {
    let socket = KeepAlive::new(socket, heartbeat).with_timer(TokioTimer::new());
    let mut socket = socket.data_only();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => socket.send(message?).await?,
                None => return Ok(()),
            },
            Ok(()) = down.changed() => {
                // The client answers, or `closing_handshake` is over: either way the loop ends.
                socket.send(Message::close_with(1001_u16, "the server goes down")).await?;
            }
        }
    }
}

/// Serves until `stop` is ready and each connection has ended.
async fn serve(
    listener: TcpListener,
    heartbeat: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let (going_down, down) = watch::channel(false);
    let route = warp::path("echo").and(warp::ws()).map(move |upgrade: Ws| {
        let (heartbeat, down) = (heartbeat.clone(), down.clone());
        upgrade.on_upgrade(async |socket| {
            match echo(socket, heartbeat, down).await {
                Ok(()) => println!("somebody left"),
                // "no pong for 20s (after 12 answered pings, last rtt 31ms)"
                Err(error) => println!("somebody is gone: {error}"),
            }
        })
    });
    let tell = going_down.clone();
    let stop = async move {
        stop.await;
        let _ = tell.send(true);
    };
    warp::serve(route)
        .incoming(listener)
        .graceful(stop)
        .run()
        .await;
    // warp waits for requests, and not for sockets that were upgraded: each of them has a receiver.
    going_down.closed().await;
}

async fn bind(port: &str) -> Result<TcpListener, String> {
    let error = |error: &dyn Display| format!("port {port}: {error}");
    let number = port.parse::<u16>().map_err(|reason| error(&reason))?;
    let listener = TcpListener::bind(("127.0.0.1", number)).await;
    listener.map_err(|reason| error(&reason))
}

async fn run() -> Result<(), Box<dyn StdError>> {
    let port = std::env::args().nth(1).unwrap_or("3000".into());
    let listener = bind(&port).await?;
    println!("ws://{}/echo", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(listener, Config::default(), stop).await;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Err(error) = run().await {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
#[path = "check/mod.rs"]
mod check;

#[cfg(test)]
#[tokio::test]
async fn it_echoes_pings_and_ends_in_order() {
    let listener = bind("0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let taken = address.port().to_string();
    let error = bind(&taken).await.expect_err("it is taken");
    assert!(error.contains(&taken), "{error}");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = serve(listener, check::heartbeat(), async {
        let _ = stopped.await;
    });
    let server = async {
        server.await;
        Ok::<(), String>(())
    };
    check::echoes_pings_and_ends(format!("ws://{address}/echo"), stop, server).await;
}
