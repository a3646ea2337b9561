//! Servers that bring a heartbeat of their own, each also without it.

use std::convert::Infallible;
use std::io::{Error, Result};
use std::sync::Arc;

use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming, server::conn::http2::Builder};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jsonrpsee::RpcModule;
use jsonrpsee::server::{PingConfig, Server, ServerConfig};
use sockudo_ws::server::WebSocketServer;
use sockudo_ws::{Config, Http1};

use crate::Beat;

pub(crate) async fn sockudo(beat: Option<Beat>) -> Result<()> {
    let config = Config::builder().idle_timeout(0);
    let config = match beat {
        None => config.auto_ping(false),
        // The crate knows whole seconds alone, and `run` gives it no others.
        Some(beat) => {
            let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs());
            config
                .ping_interval(seconds(beat.interval).map_err(Error::other)?)
                .pong_timeout(seconds(beat.timeout).map_err(Error::other)?)
        }
    };
    let server = Arc::new(WebSocketServer::<Http1>::new(config.build()));
    let listener = crate::listen()?;
    loop {
        let stream = crate::accept(&listener).await?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            if let Ok((mut socket, _)) = server.accept(stream).await {
                // In a task of its own: the task of the handshake is as large as the handshake needs it.
                tokio::spawn(async move {
                    while let Some(Ok(_)) = futures::StreamExt::next(&mut socket).await {}
                });
            }
        });
    }
}

pub(crate) async fn jsonrpsee(beat: Option<Beat>) -> Result<()> {
    let config = ServerConfig::builder().max_connections(1_000_000).ws_only();
    let config = match beat {
        None => config,
        Some(beat) => config.enable_ws_ping(
            PingConfig::new()
                .ping_interval(beat.interval)
                .inactive_limit(beat.timeout)
                .max_failures(1),
        ),
    };
    let listener = crate::listen()?.into_std()?;
    let server = Server::builder()
        .set_config(config.build())
        .build_from_tcp(listener)?;
    server.start(RpcModule::new(())).stopped().await;
    Ok(())
}

pub(crate) async fn http2(beat: Option<Beat>) -> Result<()> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    if let Some(beat) = beat {
        builder
            .keep_alive_interval(beat.interval)
            .keep_alive_timeout(beat.timeout);
    }
    let listener = crate::listen()?;
    loop {
        let stream = crate::accept(&listener).await?;
        let answer =
            |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(String::new())) };
        let connection = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}
