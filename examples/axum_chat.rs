//! A chat on axum 0.8: each message goes to all who are there. Handlers may be slow, peers may fall silent, and
//! Ctrl-C ends each connection with a close frame of 1001.
//!
//! `cargo run --example axum_chat [PORT]`, then `websocat ws://127.0.0.1:3000/chat` in some terminals. What is
//! not in axum's own chat: `KeepAlive` around the socket, `run_while` around what takes its time, and the
//! arm of the loop for the shutdown.

use std::error::Error as StdError;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use axum_0_8::Router;
use axum_0_8::extract::State;
use axum_0_8::extract::ws::{
    CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code,
};
use axum_0_8::response::Response;
use axum_0_8::routing::get;
use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Error, KeepAlive, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

/// What all connections share.
#[derive(Clone)]
struct Chat {
    said: broadcast::Sender<Utf8Bytes>,
    down: watch::Receiver<bool>,
    heartbeat: Config,
}

async fn join(State(chat): State<Chat>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| async {
        match talk(socket, chat).await {
            Ok(()) => println!("somebody left"),
            // "no pong for 20s (after 12 answered pings, last rtt 31ms)"
            Err(error) => println!("somebody is gone: {error}"),
        }
    })
}

async fn talk(socket: WebSocket, mut chat: Chat) -> Result<(), Error<axum_0_8::Error>> {
    let socket = KeepAlive::new(socket, chat.heartbeat.clone()).with_timer(TokioTimer::new());
    let mut socket = socket.data_only();
    let mut heard = chat.said.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => {
                    let Message::Text(text) = message? else { continue };
                    // The heartbeat goes on meanwhile. If the connection ends, the next read tells how.
                    if let Ok(Some(text)) = socket.run_while(moderate(text)).await {
                        let _ = chat.said.send(text);
                    }
                }
                None => return Ok(()),
            },
            text = heard.recv() => match text {
                Ok(text) => socket.send(Message::Text(text)).await?,
                // Who takes too little misses some of it.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            Ok(()) = chat.down.changed() => {
                let (code, reason) = (close_code::AWAY, "the server goes down".into());
                socket.send(Message::Close(Some(CloseFrame { code, reason }))).await?;
                // The peer answers, or `closing_handshake` is over: either way the loop ends.
            }
        }
    }
}

/// Asks a service that takes its time whether that may be said.
async fn moderate(text: Utf8Bytes) -> Option<Utf8Bytes> {
    let seconds = text
        .strip_prefix("slow ")
        .and_then(|number| number.parse().ok());
    tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(0))).await;
    (!text.contains("spam")).then_some(text)
}

/// Serves until `stop` is ready and each connection has ended.
async fn serve(
    listener: TcpListener,
    heartbeat: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (going_down, down) = watch::channel(false);
    let chat = Chat {
        said: broadcast::channel(64).0,
        down,
        heartbeat,
    };
    let router = Router::new().route("/chat", get(join)).with_state(chat);
    let server = axum_0_8::serve(listener, router).with_graceful_shutdown({
        let going_down = going_down.clone();
        async move {
            stop.await;
            let _ = going_down.send(true);
        }
    });
    server.await?;
    // axum waits for requests, and not for sockets that were upgraded: each of them has a receiver.
    going_down.closed().await;
    Ok(())
}

async fn run(port: &str) -> Result<(), Box<dyn StdError>> {
    let number = port.parse::<u16>();
    let number = number.map_err(|error| format!("port {port}: {error}"))?;
    let listener = TcpListener::bind(("127.0.0.1", number)).await;
    let listener = listener.map_err(|error| format!("port {port}: {error}"))?;
    println!("ws://{}/chat", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
        println!("going down");
    };
    serve(listener, Config::default(), stop).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let port = std::env::args().nth(1).unwrap_or("3000".into());
    if let Err(error) = run(&port).await {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio_tungstenite::connect_async;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    #[tokio::test]
    async fn all_hear_a_slow_message_and_are_told_of_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("ws://{}/chat", listener.local_addr().expect("bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        let heartbeat = Config::builder().interval(Duration::from_millis(200));
        let heartbeat = heartbeat.timeout(Duration::from_millis(800)).build();
        let server = serve(listener, heartbeat.expect("valid"), async {
            let _ = stopped.await;
        });
        let server = tokio::spawn(server);

        let (mut one, _) = connect_async(&url).await.expect("a server");
        let (mut other, _) = connect_async(&url).await.expect("a server");
        one.send(Message::text("spam")).await.expect("alive");
        one.send(Message::text("slow 1")).await.expect("alive");
        let (mut said, mut pings) = (None, 0);
        while said.is_none() {
            // The crate answers pings while it reads.
            tokio::select! {
                message = one.next() => if let Some(Ok(Message::Ping(_))) = message { pings += 1 },
                message = other.next() => if let Some(Ok(Message::Text(text))) = message { said = Some(text) },
            }
        }
        assert_eq!(said.expect("heard").as_str(), "slow 1");
        assert!(pings > 0, "the heartbeat goes on while the handler works");

        let _ = stop.send(());
        for socket in [&mut one, &mut other] {
            let mut closed = None;
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Close(frame) = message {
                    closed = frame;
                }
            }
            assert_eq!(closed.map(|frame| u16::from(frame.code)), Some(1001));
        }
        server.await.expect("no panic").expect("the end");
    }
}
