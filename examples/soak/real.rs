//! Connections over the loopback, in real time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use futures::channel::oneshot;
use futures::{StreamExt, TryStreamExt};
use futures_pinger::{Clock, Config, Error, Instant, KeepAlive, TimedOut, TokioTimer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Message;

use super::Options;
use super::peers::{self, GONE, LATE, PORT, SILENT, websocket_config};
use super::plot::{self, Sample};

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest stop of a process; the peers answer late besides, by 0.3 s.
const STOP: Duration = Duration::from_millis(1000);
/// Between two stops, on average.
const PEACE: Duration = Duration::from_secs(7);
/// What a peer says of a connection may come a little after the connection has ended.
const HEARSAY: Duration = Duration::from_millis(500);
/// Resident memory is what the allocator keeps.
const GROWTH: f64 = 1.1;

fn now() -> Instant {
    Clock::system().now()
}

fn config() -> Result<Config, String> {
    let builder = Config::builder().interval(INTERVAL).timeout(TIMEOUT);
    // Those that come again together do not stay together.
    builder
        .jitter(0.2)
        .build()
        .map_err(|error| error.to_string())
}

#[derive(Default)]
struct Counts {
    pongs: AtomicU64,
    killed: AtomicU64,
    found: AtomicU64,
    wrong: AtomicU64,
    missed: AtomicU64,
    late: AtomicU64,
    /// Verdicts on peers that were themselves kept from running.
    excused: AtomicU64,
    ended_at_once: AtomicU64,
    stops: AtomicU64,
    worst: AtomicU64,
}

struct Soak {
    config: Config,
    port: u16,
    counts: Counts,
    /// Who has fallen silent, by the app's port.
    silent: Mutex<HashMap<u16, Instant>>,
    /// How late the peers have run, and since when that is known.
    lateness: Mutex<Vec<(Instant, Duration)>>,
    stalls: Mutex<Vec<(Instant, Duration)>>,
    over: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let (peers, port) = Peers::start(options)?;
    let soak = Arc::new(Soak {
        config: config()?,
        port,
        counts: Counts::default(),
        silent: Mutex::default(),
        lateness: Mutex::default(),
        stalls: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let samples = runtime.block_on(Arc::clone(&soak).all(options, peers))?;
    soak.judge(options, &samples)
}

/// The process with the peers; it ends with this.
struct Peers {
    child: Child,
    lines: Option<std::io::Lines<BufReader<std::process::ChildStdout>>>,
}

impl Peers {
    fn start(options: &Options) -> Result<(Self, u16), String> {
        let this = env::current_exe().map_err(|error| error.to_string())?;
        let minutes = options.time.as_secs_f64() / 60.0;
        let child = Command::new(this)
            .arg(peers::ROLE)
            .args(["--minutes", &minutes.to_string()])
            .args(["--seed", &options.seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let port = first
            .strip_prefix(PORT)
            .and_then(|port| port.trim().parse().ok());
        let port = port.ok_or("the peers have no port")?;
        let lines = Some(lines);
        Ok((Self { child, lines }, port))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Soak {
    async fn all(
        self: Arc<Self>,
        options: &Options,
        mut peers: Peers,
    ) -> Result<Vec<Sample>, String> {
        let lines = peers.lines.take().ok_or("no output")?;
        let listening = Arc::clone(&self);
        thread::spawn(move || listening.listen(lines));
        tokio::spawn(Arc::clone(&self).watch_stalls());
        for _ in 0..options.connections {
            tokio::spawn(Arc::clone(&self).connection());
            // Spread over the interval.
            let connections = u32::try_from(options.connections).map_err(|_| "too many")?;
            sleep(INTERVAL / connections).await;
        }
        let stops = Arc::clone(&self).stop_now_and_then(options.seed, peers.child.id());
        let stops = tokio::spawn(stops);
        let samples = self.sample(options.time).await;
        stops.abort();
        // Whoever had fallen silent by the end has its verdict after this.
        sleep(self.bound() + 2 * STOP).await;
        self.look_for_missed();
        self.over.store(true, Ordering::Relaxed);
        Ok(samples)
    }

    /// From the last proof of life to the end, if nothing stalls.
    fn bound(&self) -> Duration {
        let verdict = self.config.detection_bound().unwrap_or(Duration::MAX);
        verdict + self.config.close_timeout() + self.config.granularity()
    }

    /// The same for a process that stalled since.
    fn bound_since(&self, since: Instant) -> Duration {
        let stalls = lock(&self.stalls);
        let seen = stalls.iter().filter(|(at, stall)| *at + *stall >= since);
        let (longest, total) = seen.fold(
            (Duration::ZERO, Duration::ZERO),
            |(longest, total), (_, stall)| (longest.max(*stall), total + *stall),
        );
        self.bound() + 2 * TIMEOUT.min(longest) + total
    }

    /// One connection after the other.
    async fn connection(self: Arc<Self>) {
        loop {
            let error = self.one_connection().await.err();
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            if let Some(error) = error {
                // The peers' process stops now and then; so a handshake may fail.
                eprintln!("again: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn one_connection(&self) -> Result<(), String> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await;
        let socket = socket.map_err(|error| error.to_string())?;
        let port = socket
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        let config = Some(websocket_config());
        let socket = client_async_with_config("ws://localhost/", socket, config).await;
        let (socket, _) = socket.map_err(|error| error.to_string())?;
        let proof = Mutex::new(now());
        let socket = socket.inspect_ok(|message: &Message| {
            if message.is_pong() {
                *lock(&proof) = now();
                add(&self.counts.pongs);
            }
        });
        let mut socket = KeepAlive::new(socket, self.config.clone()).with_timer(TokioTimer::new());
        let ended = loop {
            match socket.next().await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        let (proof, end) = (*lock(&proof), now());
        match ended {
            Some(Err(Error::Timeout(verdict))) => self.verdict(port, &verdict, proof, end).await,
            // With the peers' process.
            _ if self.over.load(Ordering::Relaxed) => {}
            ended if lock(&self.silent).remove(&port).is_some() => {
                add(&self.counts.missed);
                eprintln!("missed: a silent peer's connection ended by {ended:?}");
            }
            _ => add(&self.counts.ended_at_once),
        }
        Ok(())
    }

    async fn verdict(&self, port: u16, verdict: &TimedOut, proof: Instant, end: Instant) {
        sleep(HEARSAY).await;
        if lock(&self.silent).remove(&port).is_some() {
            add(&self.counts.found);
            let found = end - proof;
            let micros = u64::try_from(found.as_micros()).unwrap_or(u64::MAX);
            self.counts.worst.fetch_max(micros, Ordering::Relaxed);
            if found > self.bound_since(proof) {
                add(&self.counts.late);
                eprintln!("late: {found:?} after the last proof of life: {verdict}");
            }
            return;
        }
        let late = lock(&self.lateness);
        let late = late
            .iter()
            .filter(|(at, _)| *at >= proof)
            .map(|(_, late)| *late);
        let late = late.max().unwrap_or_default();
        if late > STOP + TIMEOUT / 8 {
            add(&self.counts.excused);
        } else {
            add(&self.counts.wrong);
            eprintln!("false: {verdict}; the peers were late by {late:?}");
        }
    }

    fn listen(&self, lines: impl Iterator<Item = std::io::Result<String>>) {
        for line in lines.map_while(Result::ok) {
            let Some((word, number)) = line.split_once(' ') else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or_default();
            match word {
                SILENT => {
                    add(&self.counts.killed);
                    let port = u16::try_from(number).unwrap_or_default();
                    lock(&self.silent).insert(port, now());
                }
                LATE => {
                    let mut lateness = lock(&self.lateness);
                    lateness.push((now(), Duration::from_micros(number)));
                    if lateness.len() > 120 {
                        lateness.drain(..60);
                    }
                }
                GONE => {}
                _ => eprintln!("the peers say: {line}"),
            }
        }
    }

    async fn watch_stalls(self: Arc<Self>) {
        const TURN: Duration = Duration::from_millis(5);
        loop {
            let asked = tokio::time::Instant::now() + TURN;
            sleep_until(asked).await;
            let late = asked.elapsed();
            if late > TURN {
                let mut stalls = lock(&self.stalls);
                stalls.push((now(), late));
                if stalls.len() > 4096 {
                    stalls.drain(..2048);
                }
            }
        }
    }

    /// Of whom no verdict came.
    fn look_for_missed(&self) {
        lock(&self.silent).retain(|port, since| {
            let over = now() - *since > self.bound_since(*since) + 2 * HEARSAY;
            if over {
                add(&self.counts.missed);
                eprintln!("missed: {port}, silent for {:?}", now() - *since);
            }
            !over
        });
    }

    /// Freezes one of the two processes, again and again.
    async fn stop_now_and_then(self: Arc<Self>, seed: u64, peers: u32) {
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            sleep(PEACE.mul_f64(random.random_range(0.5..1.5))).await;
            let process = if random.random_bool(0.5) {
                peers
            } else {
                std::process::id()
            };
            let stop = STOP.mul_f64(random.random_range(0.1..1.0)).as_secs_f64();
            let command = format!("kill -STOP {process}; sleep {stop:.3}; kill -CONT {process}");
            let (done, stopped) = oneshot::channel();
            thread::spawn(move || {
                let status = Command::new("sh").args(["-c", &command]).status();
                // Nobody waits once the soak is over.
                let _ = done.send(status.is_ok_and(|status| status.success()));
            });
            if stopped.await == Ok(true) {
                add(&self.counts.stops);
            }
        }
    }

    async fn sample(&self, time: Duration) -> Vec<Sample> {
        let start = now();
        let mut samples = Vec::new();
        while now() - start < time {
            sleep(Duration::from_secs(1)).await;
            self.look_for_missed();
            samples.push(Sample {
                at: now() - start,
                resident_kib: resident_kib(),
                verdicts: self.counts.found.load(Ordering::Relaxed),
            });
        }
        samples
    }

    fn judge(&self, options: &Options, samples: &[Sample]) -> Result<(), String> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        let worst = Duration::from_micros(read(&counts.worst));
        // At first connections come, and with them buffers; at last they have been for long.
        let tenth = (samples.len() / 10).max(1);
        let early = median(samples.iter().skip(2 * tenth).take(tenth));
        let late = median(samples.iter().rev().take(tenth));
        println!("minutes: {:.1}", options.time.as_secs_f64() / 60.0);
        println!("connections at any time: {}", options.connections);
        println!("pongs: {}", read(&counts.pongs));
        println!("stops of one of the processes: {}", read(&counts.stops));
        println!("peers that fell silent: {}", read(&counts.killed));
        println!("of these found: {}", read(&counts.found));
        println!("missed: {}", read(&counts.missed));
        let recent = lock(&self.silent).len();
        println!("silent for less than the bound when it was over: {recent}");
        println!("found after the bound: {}", read(&counts.late));
        println!("false verdicts: {}", read(&counts.wrong));
        println!(
            "verdicts on peers that could not run: {}",
            read(&counts.excused)
        );
        println!(
            "connections that ended at once: {}",
            read(&counts.ended_at_once)
        );
        println!(
            "longest from proof to end: {worst:?}; bound without stalls: {:?}",
            self.bound()
        );
        println!("resident memory early and late: {early} KiB, {late} KiB");
        if let Some(path) = &options.svg {
            let title = format!(
                "{} connections: {} dead peers found, {} missed, {} false verdicts",
                options.connections,
                read(&counts.found),
                read(&counts.missed),
                read(&counts.wrong),
            );
            let picture = plot::svg(samples, &title).map_err(|error| error.to_string())?;
            fs::write(path, picture).map_err(|error| error.to_string())?;
        }
        let right = read(&counts.missed) + read(&counts.late) + read(&counts.wrong) == 0;
        if !right || read(&counts.found) == 0 {
            return Err("verdicts are wrong, or there were none".into());
        }
        if late as f64 > early as f64 * GROWTH + 1024.0 {
            return Err("the memory grows".into());
        }
        Ok(())
    }
}

fn median<'a>(samples: impl Iterator<Item = &'a Sample>) -> u64 {
    let mut sizes: Vec<_> = samples.map(|sample| sample.resident_kib).collect();
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied().unwrap_or_default()
}

/// Zero where the system does not tell.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
