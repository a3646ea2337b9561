//! An echo on actix-ws 0.4, whose socket is a `Session` to send by and a stream: `pinger()` with the one, `attach` with
//! the other. The heartbeat finds clients that are gone, and Ctrl-C ends each connection with a close frame of 1001.
//!
//! `cargo run -p adapters --example actix [PORT]`, then `websocat ws://127.0.0.1:3000/echo` in some terminals.

use std::error::Error as StdError;
use std::fmt::Display;
use std::net::TcpListener;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpServer, rt, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, Session};
use actix_ws_0_4 as actix_ws;
use futures::{StreamExt, TryStreamExt};
use futures_pinger::{Config, FrameSink, Rfc6455, TokioTimer, pinger};
use tokio::{sync::watch, time::timeout};

async fn echo(
    mut session: Session,
    incoming: AggregatedMessageStream,
    heartbeat: Config,
    mut down: watch::Receiver<bool>,
) -> Result<(), Box<dyn StdError>> {
    let (pongs, heartbeat) = pinger(FrameSink::new(session.clone(), Rfc6455), heartbeat);
    let mut incoming = pin!(pongs.attach(incoming, Rfc6455));
    let reader = async {
        while let Some(message) = incoming.try_next().await? {
            match message {
                AggregatedMessage::Text(text) => session.text(text).await?,
                AggregatedMessage::Binary(bytes) => session.binary(bytes).await?,
                AggregatedMessage::Ping(payload) => session.pong(&payload).await?, // actix-ws answers none
                AggregatedMessage::Close(_) => break,
                AggregatedMessage::Pong(_) => {} // not for a ping of the heartbeat
            }
        }
        Ok::<(), Box<dyn StdError>>(())
    };
    // Whatever ends first ends the others. A reader that waits for room in the queue does not stop the heartbeat.
    let code = tokio::select! {
        ended = reader => ended.map(|()| CloseCode::Normal)?,
        verdict = heartbeat.with_timer(TokioTimer::new()) => verdict.map(|_| CloseCode::Normal)?,
        _ = down.changed() => CloseCode::Away,
    };
    session.close(Some(code.into())).await?;
    // The client answers, and closes; or it does not.
    let rest = async { while let Some(Ok(_)) = incoming.next().await {} };
    let _ = timeout(Duration::from_secs(5), rest).await;
    Ok(())
}

/// Serves until `stop` is ready and each connection has ended.
async fn serve(
    listener: TcpListener,
    heartbeat: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (going_down, down) = watch::channel(false);
    let upgrade = move |request: HttpRequest, body: web::Payload| {
        let (heartbeat, down) = (heartbeat.clone(), down.clone());
        async move {
            let (response, session, incoming) = actix_ws::handle(&request, body)?;
            let incoming = incoming.aggregate_continuations();
            rt::spawn(async move {
                match echo(session, incoming, heartbeat, down).await {
                    Ok(()) => println!("somebody left"),
                    // "no pong for 20s (after 12 answered pings, last rtt 31ms)"
                    Err(error) => println!("somebody is gone: {error}"),
                }
            });
            Ok::<_, actix_web::Error>(response)
        }
    };
    let app = move || App::new().route("/echo", web::get().to(upgrade.clone()));
    // actix waits for the connections that are open, for 30 s by default.
    let stop = async move {
        stop.await;
        let _ = going_down.send(true);
    };
    HttpServer::new(app)
        .shutdown_signal(stop)
        .listen(listener)?
        .run()
        .await
}

fn bind(port: &str) -> Result<TcpListener, String> {
    let error = |error: &dyn Display| format!("port {port}: {error}");
    let number = port.parse::<u16>().map_err(|reason| error(&reason))?;
    let listener = TcpListener::bind(("127.0.0.1", number));
    listener.map_err(|reason| error(&reason))
}

async fn run() -> Result<(), Box<dyn StdError>> {
    let port = std::env::args().nth(1).unwrap_or("3000".into());
    let listener = bind(&port)?;
    println!("ws://{}/echo", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(listener, Config::default(), stop).await?;
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
    let listener = bind("0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let taken = address.port().to_string();
    let error = bind(&taken).expect_err("it is taken");
    assert!(error.contains(&taken), "{error}");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = serve(listener, check::heartbeat(), async {
        let _ = stopped.await;
    });
    check::echoes_pings_and_ends(format!("ws://{address}/echo"), stop, server).await;
}
