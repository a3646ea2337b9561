//! The process with the peers: they answer late, and fail as they are told.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, future};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{lab, millis};

/// The first argument of the program in this role; the address and the round-trip time follow.
pub(crate) const ROLE: &str = "peers";
/// Of each socket; the system makes of it what it likes.
pub(crate) const BUFFER: u32 = 4096;

/// The default holds 128 KiB for each connection.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
    Answer,
    /// Read nothing any more.
    Deaf,
    Fin,
    Rst,
}

#[derive(Default)]
struct Counts {
    /// How much later than asked for the process has run, in microseconds.
    lateness: AtomicU64,
    /// Close frames that were read.
    closes: AtomicU64,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(args));
    ExitCode::SUCCESS
}

/// Until the process ends with the one that started it.
async fn run(args: &[String]) {
    let [address, rtt] = args else {
        panic!("not two arguments: {args:?}");
    };
    let address: IpAddr = address.parse().expect("an address");
    let rtt = Duration::from_micros(rtt.parse().expect("a number"));
    let socket = TcpSocket::new_v4().expect("a socket");
    // Those that it accepts inherit it.
    let sized = socket.set_recv_buffer_size(BUFFER);
    sized.expect("a size");
    socket.bind((address, 0).into()).expect("an address");
    let listener = socket.listen(1024).expect("a listener");
    let port = listener.local_addr().expect("an address").port();

    let counts = Arc::new(Counts::default());
    let (manners, learned) = watch::channel(Manners::Answer);
    lab::obey({
        let counts = Arc::clone(&counts);
        move |command| {
            match command {
                "lateness" => return counts.lateness.swap(0, Ordering::SeqCst),
                "closes" => return counts.closes.load(Ordering::SeqCst),
                "deaf" => manners.send_replace(Manners::Deaf),
                "fin" => manners.send_replace(Manners::Fin),
                "rst" => manners.send_replace(Manners::Rst),
                _ => panic!("unknown: {command}"),
            };
            0
        }
    });
    tokio::spawn(watch_lateness(Arc::clone(&counts)));
    println!("{}", json!({ "port": port }));
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        tokio::spawn(converse(socket, rtt, learned.clone(), Arc::clone(&counts)));
    }
}

async fn watch_lateness(counts: Arc<Counts>) {
    loop {
        let asked = Instant::now() + millis(5);
        sleep_until(asked).await;
        let late = u64::try_from(asked.elapsed().as_micros()).expect("not for ever");
        counts.lateness.fetch_max(late, Ordering::SeqCst);
    }
}

async fn converse(
    mut socket: TcpStream,
    rtt: Duration,
    mut manners: watch::Receiver<Manners>,
    counts: Arc<Counts>,
) {
    let manners = tokio::select! {
        () = answer(&mut socket, rtt, &counts) => return,
        manners = manners.wait_for(|&manners| manners != Manners::Answer) => {
            *manners.expect("held for ever")
        }
    };
    match manners {
        Manners::Answer => unreachable!("something else was waited for"),
        Manners::Deaf => {}
        Manners::Fin => socket.shutdown().await.expect("a FIN"),
        Manners::Rst => {
            // Deprecated since a linger that is longer than zero blocks the thread on drop.
            #[allow(deprecated)]
            let linger = socket.set_linger(Some(Duration::ZERO));
            linger.expect("no linger");
            return;
        }
    }
    // The connection stays as it is.
    future::pending::<()>().await;
}

/// tungstenite answers pings at once; so what comes in is held back on its way to it.
async fn answer(socket: &mut TcpStream, rtt: Duration, counts: &Counts) {
    let (mut from_app, mut to_app) = socket.split();
    let (near, far) = tokio::io::duplex(4096);
    let (mut from_peer, mut to_peer) = tokio::io::split(far);
    let (hold, mut held) = mpsc::channel(1024);
    let take_in = async {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from_app.read(&mut bytes).await {
            let packet = (Instant::now() + rtt, bytes[..read].to_vec());
            hold.send(packet).await.ok()?;
        }
        Some(())
    };
    let hand_on = async {
        while let Some((release, bytes)) = held.recv().await {
            sleep_until(release).await;
            to_peer.write_all(&bytes).await.ok()?;
        }
        Some(())
    };
    let converse = async {
        let socket = accept_async_with_config(near, Some(websocket_config())).await;
        let mut socket = socket.ok()?;
        while let Some(Ok(message)) = socket.next().await {
            counts
                .closes
                .fetch_add(u64::from(message.is_close()), Ordering::SeqCst);
        }
        Some(())
    };
    let give_back = async {
        tokio::io::copy(&mut from_peer, &mut to_app).await.ok()?;
        Some(())
    };
    // The first that ends, ends all: then the connection is gone.
    tokio::select! {
        _ = take_in => {}
        _ = hand_on => {}
        _ = converse => {}
        _ = give_back => {}
    }
}
