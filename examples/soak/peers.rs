//! The process with the peers. It says on its output how a peer ends, before that peer does.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{copy, sink};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

use super::Options;

/// The first argument of the program in this role. The options are those of the soak.
pub(crate) const ROLE: &str = "peers";

/// What the process says of a peer, followed by the number of its connection.
pub(crate) const SILENT: &str = "silent";
pub(crate) const FROZEN: &str = "frozen";
pub(crate) const GONE: &str = "gone";
/// How much later than asked for the process has run, in microseconds; every second.
pub(crate) const LATE: &str = "late";
pub(crate) const PORT: &str = "port";

/// The kernel's buffers are small, so that a peer that reads nothing soon blocks the app's writes.
pub(crate) const KERNEL_BUFFER: u32 = 8 * 1024;
/// The longest time that a live peer takes for its answer.
const ANSWER: Duration = Duration::from_millis(300);
/// A peer asks something each so many intervals, on average.
const QUESTIONS: f64 = 5.0;
/// A connection whose peer has ended stays for so many intervals, until the app has long given it up.
const GRAVE: u32 = 20;

/// How long a peer lives on average; a short soak sees some die too.
fn life(time: Duration) -> Duration {
    (time / 4).clamp(Duration::from_secs(4), Duration::from_secs(180))
}

/// The default holds 128 KiB for each connection.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096)
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    thread::spawn(|| {
        // Nothing ever comes: the input ends with the app.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let served = runtime.block_on(serve(options));
    served.map_err(|error| error.to_string())
}

async fn serve(options: &Options) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(1024)?;
    println!("{PORT} {}", listener.local_addr()?.port());
    tokio::spawn(watch_lateness());
    let mut random = StdRng::seed_from_u64(options.seed);
    loop {
        let (socket, _) = listener.accept().await?;
        let peer = Peer {
            interval: options.interval,
            random: StdRng::seed_from_u64(random.random()),
        };
        let life = life(options.time);
        tokio::spawn(async move {
            // A connection that breaks is the app's to notice.
            let _ = peer.serve(socket, life).await;
        });
    }
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

type Socket = WebSocketStream<TcpStream>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Peer {
    interval: Duration,
    random: StdRng,
}

impl Peer {
    async fn serve(mut self, socket: TcpStream, life: Duration) -> Result<(), Failure> {
        let mut socket = accept_async_with_config(socket, Some(websocket_config())).await?;
        // A port may soon be another connection's; so the app says the number of the connection.
        let hello = socket.next().await.ok_or("no hello")??;
        let number: u64 = hello.to_text()?.parse()?;
        // Exponential: whoever has lived long dies no sooner.
        let life = life.mul_f64(-self.random.random_range(f64::EPSILON..1.0_f64).ln());
        tokio::select! {
            lived = self.live(&mut socket) => lived,
            () = sleep(life) => self.end(socket, number).await,
        }
    }

    /// Answers each ping a little late, and asks something now and then.
    async fn live(&mut self, socket: &mut Socket) -> Result<(), Failure> {
        // The delays are drawn once, so that few random numbers are needed.
        let mut delays: VecDeque<_> = (0..16)
            .map(|_| ANSWER.mul_f64(self.random.random()))
            .collect();
        let mut question = Instant::now() + self.silence();
        loop {
            tokio::select! {
                message = socket.next() => match message.ok_or("the app has left")?? {
                    // tungstenite answers a ping when it reads the next message.
                    Message::Ping(_) => {
                        delays.rotate_left(1);
                        sleep(delays.front().copied().unwrap_or_default()).await;
                    }
                    Message::Close(_) => return Ok(()),
                    _ => {}
                },
                () = sleep_until(question) => {
                    for _ in 0..self.random.random_range(1..=3) {
                        socket.send(Message::text("how much?")).await?;
                    }
                    question = Instant::now() + self.silence();
                }
            }
        }
    }

    /// The time from one question to the next.
    fn silence(&mut self) -> Duration {
        self.interval
            .mul_f64(QUESTIONS * self.random.random_range(0.5..1.5))
    }

    /// Ends as a peer may.
    async fn end(mut self, mut socket: Socket, number: u64) -> Result<(), Failure> {
        let grave = GRAVE * self.interval;
        match self.random.random_range(0..100) {
            // The peer's kernel takes all that comes, and nobody answers.
            0..40 => {
                println!("{SILENT} {number}");
                timeout(grave, copy(socket.get_mut(), &mut sink())).await??;
            }
            // Nobody reads, so that the kernel soon takes no more.
            40..75 => {
                println!("{FROZEN} {number}");
                sleep(grave).await;
            }
            // A closing handshake.
            75..88 => {
                println!("{GONE} {number}");
                let to_the_end = async {
                    socket.close(None).await?;
                    while let Some(Ok(_)) = socket.next().await {}
                    Ok::<_, Failure>(())
                };
                timeout(grave, to_the_end).await??;
            }
            // The end of the stream, without a close frame.
            88..94 => println!("{GONE} {number}"),
            // A reset.
            _ => {
                println!("{GONE} {number}");
                // Deprecated since a linger that is longer than zero blocks the thread on drop.
                #[allow(deprecated)]
                socket.get_ref().set_linger(Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }
}
