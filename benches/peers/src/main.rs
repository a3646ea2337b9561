//! The processes of `benches/peers/run`, which measures what a heartbeat costs over real sockets.
//!
//! ```text
//! peers serve CONTESTANT INTERVAL_MS TIMEOUT_MS     a server, which prints its address
//! peers load ws|http2 ADDRESS                       the client of any server, steered by its standard input
//! ```

// Here the time that passes is the subject; no heartbeat reads it.
#![allow(clippy::disallowed_methods)]

mod by_crates;
mod load;
mod over_tungstenite;

use std::env;
use std::io::{Error, Result};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What a server is told about its heartbeat. Servers without one ignore it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// Listens on a free port of the loopback and prints the address for whoever started this process.
pub(crate) fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(1024)?;
    println!("on {}", listener.local_addr()?);
    Ok(listener)
}

pub(crate) async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn serve(contestant: &str, beat: Beat) -> Result<()> {
    match contestant {
        "bare" => over_tungstenite::bare().await,
        "keep-alive" => over_tungstenite::keep_alive(beat).await,
        "set" => over_tungstenite::set(beat).await,
        "queues-bare" => over_tungstenite::bare_queues().await,
        "queues-set" => over_tungstenite::set_and_queues(beat).await,
        "select" => over_tungstenite::select_loop(beat).await,
        "naive" => over_tungstenite::naive_loop(beat).await,
        "one-task" => over_tungstenite::one_task(beat).await,
        "one-task-spread" => over_tungstenite::one_task_spread(beat).await,
        "queues-registry" => over_tungstenite::registry(beat).await,
        "sockudo-bare" => by_crates::sockudo(None).await,
        "sockudo" => by_crates::sockudo(Some(beat)).await,
        "jsonrpsee-bare" => by_crates::jsonrpsee(None).await,
        "jsonrpsee" => by_crates::jsonrpsee(Some(beat)).await,
        "http2-bare" => by_crates::http2(None).await,
        "http2" => by_crates::http2(Some(beat)).await,
        _ => Err(Error::other(format!("there is no contestant {contestant}"))),
    }
}

async fn run(arguments: &[&str]) -> Result<()> {
    let milliseconds = |text: &str| text.parse().map(Duration::from_millis);
    match arguments {
        ["serve", contestant, interval, timeout] => {
            let interval = milliseconds(interval).map_err(Error::other)?;
            let timeout = milliseconds(timeout).map_err(Error::other)?;
            serve(contestant, Beat { interval, timeout }).await
        }
        ["load", "ws", address] => load::run(load::Protocol::WebSocket, address).await,
        ["load", "http2", address] => load::run(load::Protocol::Http2, address).await,
        _ => Err(Error::other(
            "usage: peers serve CONTESTANT INTERVAL_MS TIMEOUT_MS | peers load ws|http2 ADDRESS",
        )),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread, as Node and Python have: what a second one costs is not the heartbeat's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a thread needs nothing that could be missing");
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
