//! The process with the peers. It says on its output who falls silent, before that peer does.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Options;

/// The first argument of the program in this role. The options are those of the soak.
pub(crate) const ROLE: &str = "peers";

/// What it says of a port of the app.
pub(crate) const SILENT: &str = "silent";
pub(crate) const GONE: &str = "gone";
/// How much later than asked for it has run, in microseconds; every second.
pub(crate) const LATE: &str = "late";
pub(crate) const PORT: &str = "port";

/// How long a peer lives on average; a short soak sees some die too.
fn life(time: Duration) -> Duration {
    (time / 4).clamp(Duration::from_secs(4), Duration::from_secs(120))
}

/// A connection whose peer is silent stays until the app has long given it up.
const GRAVE: Duration = Duration::from_secs(30);

/// The default holds 128 KiB for each connection.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096)
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    thread::spawn(|| {
        // Nothing ever comes: it ends with the app.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let (seed, life) = (options.seed, life(options.time));
    runtime.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        println!("{PORT} {}", address.port());
        tokio::spawn(watch_lateness());
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            let (socket, _) = listener.accept().await.map_err(|error| error.to_string())?;
            let end = End::draw(&mut random, life);
            tokio::spawn(async move {
                // A connection that breaks is the app's to notice.
                let _ = peer(socket, end).await;
            });
        }
    })
}

async fn watch_lateness() {
    let worst = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&worst);
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            println!("{LATE} {}", seen.swap(0, Ordering::Relaxed));
        }
    });
    loop {
        let asked = Instant::now() + Duration::from_millis(5);
        sleep_until(asked).await;
        let late = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        worst.fetch_max(late, Ordering::Relaxed);
    }
}

/// When and how a peer ends, and how late it answers until then.
struct End {
    after: Duration,
    silent: bool,
    delays: VecDeque<Duration>,
}

impl End {
    fn draw(random: &mut StdRng, life: Duration) -> Self {
        // Exponential: whoever has lived long dies no sooner.
        let after = life.mul_f64(-random.random_range(f64::EPSILON..1.0_f64).ln());
        let mut delay = || Duration::from_millis(random.random_range(0..300));
        let delays = (0..16).map(|_| delay()).collect();
        let silent = random.random_bool(0.75);
        Self {
            after,
            silent,
            delays,
        }
    }
}

async fn peer(
    socket: TcpStream,
    mut end: End,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let port = socket.peer_addr()?.port();
    let mut socket = accept_async_with_config(socket, Some(websocket_config())).await?;
    let death = Instant::now() + end.after;
    let live = async {
        // tungstenite answers a ping when it reads the next message.
        while let Some(Ok(_)) = socket.next().await {
            let delay = end.delays.pop_front().unwrap_or_default();
            sleep(delay).await;
            end.delays.push_back(delay);
        }
    };
    tokio::select! {
        () = live => {}
        () = sleep_until(death) => {
            if end.silent {
                println!("{SILENT} {port}");
                sleep(GRAVE).await;
            } else {
                println!("{GONE} {port}");
            }
        }
    }
    Ok(())
}
