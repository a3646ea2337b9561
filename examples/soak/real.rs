//! Connections over the loopback, in real time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use futures::SinkExt;
use futures::channel::oneshot;
use futures_pinger::{Config, Instant, PingerSet, PingerSetHandle, TimedOut, TokioTimer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, sleep_until};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Options;
use super::ledger::{Configs, Fate, Ledger, Life, add, lock, now, read};
use super::peers::{self, FROZEN, GONE, KERNEL_BUFFER, LATE, PORT, SILENT, websocket_config};
use super::plot::{self, Sample};
use super::surfaces::{self, Ending, Outgoing, Surface};

/// Between two stops of a process, on average.
const PEACE: Duration = Duration::from_secs(7);
/// Each connection is given another configuration about once in so many seconds, and the set, too.
const CONFIGURED: f64 = 60.0;
const SET_CONFIGURED: f64 = 20.0;
/// What a peer says of a connection may come a little after the connection has ended.
const HEARSAY: Duration = Duration::from_millis(250);
/// Resident memory is what the allocator keeps; in the first minutes the buffers of the connections come.
const GROWTH: f64 = 1.1;

pub(crate) struct Soak {
    pub(crate) ledger: Ledger,
    pub(crate) interval: Duration,
    pub(crate) set: PingerSetHandle<Outgoing, surfaces::Key>,
    port: u16,
    /// The connections that there are, and what their peers have said, by the number of the connection.
    lives: Mutex<HashMap<u64, Arc<Life>>>,
    fates: Mutex<HashMap<u64, (Fate, Instant)>>,
    numbers: AtomicU64,
    over: AtomicBool,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let (peers, port) = Peers::start(options)?;
    let configs = Configs::new(options.interval).map_err(|error| error.to_string())?;
    let set = PingerSet::new(configs.all[0].clone()).with_timer(TokioTimer::new());
    let soak = Arc::new(Soak {
        ledger: Ledger::new(configs),
        interval: options.interval,
        set: set.handle(),
        port,
        lives: Mutex::default(),
        fates: Mutex::default(),
        numbers: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let samples = runtime.block_on(async {
        tokio::spawn(surfaces::drive(set));
        Arc::clone(&soak).all(options, peers).await
    })?;
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
            .args(["--interval", &options.interval.as_secs_f64().to_string()])
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
            sleep(self.interval / options.connections).await;
        }
        let stops = Arc::clone(&self).stop_now_and_then(options.seed, peers.child.id());
        let stops = tokio::spawn(stops);
        let configures = tokio::spawn(Arc::clone(&self).configure_now_and_then());
        let samples = self.sample(options.time).await;
        stops.abort();
        configures.abort();
        // Whoever had fallen silent by the end has its verdict after this.
        sleep(self.ledger.longest_bound() + 3 * self.interval).await;
        self.look_for_missed();
        self.over.store(true, Ordering::Relaxed);
        Ok(samples)
    }

    pub(crate) fn config(&self) -> Config {
        self.ledger.configs.all[0].clone()
    }

    /// The longest stop of the peers' process: with what a live peer takes besides, less than any timeout.
    fn stop(&self) -> Duration {
        self.interval / 2
    }

    /// One connection after the other.
    async fn connection(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            match self.connect(number).await {
                Ok(socket) => self.one_connection(number, socket).await,
                Err(_) if self.over.load(Ordering::Relaxed) => {}
                Err(error) => {
                    // The peers' process stops now and then; so a handshake may fail.
                    eprintln!("again: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn connect(&self, number: u64) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(KERNEL_BUFFER)?;
        let address = ([127, 0, 0, 1], self.port).into();
        let socket = socket.connect(address).await?;
        let config = Some(websocket_config());
        let (mut socket, _) = client_async_with_config("ws://localhost/", socket, config).await?;
        socket.send(Message::text(number.to_string())).await?;
        Ok(socket)
    }

    async fn one_connection(self: &Arc<Self>, number: u64, socket: WebSocketStream<TcpStream>) {
        let surface = Surface::ALL[rand::rng().random_range(0..Surface::ALL.len())];
        let life = Arc::new(Life::new(surface));
        lock(&self.lives).insert(number, Arc::clone(&life));
        let ending = surfaces::hold(Arc::clone(self), Arc::clone(&life), socket).await;
        let end = now();
        let fate = self.hear_of(number).await;
        lock(&self.lives).remove(&number);
        if !self.over.load(Ordering::Relaxed) {
            self.note(&life, &ending, fate, end);
        }
    }

    /// What the peer has said of its end.
    async fn hear_of(&self, number: u64) -> Option<Fate> {
        // A stop in which the connection ended may have swallowed this, and must be known before it counts.
        sleep(HEARSAY).await;
        for _ in 0..6 {
            sleep(HEARSAY).await;
            if let Some((fate, _)) = lock(&self.fates).remove(&number) {
                return Some(fate);
            }
        }
        None
    }

    fn note(&self, life: &Life, ending: &Ending, fate: Option<Fate>, end: Instant) {
        let (counts, surface) = (self.ledger.of(life.surface), life.surface.name());
        match (ending, fate) {
            (Ending::Verdict(verdict), Some(Fate::Silent | Fate::Frozen)) => {
                let (found, bound) = (end - life.proof(), life.bound(&self.ledger, life.proof()));
                counts.find(verdict, found, bound);
                if found > bound {
                    add(&counts.late);
                    eprintln!(
                        "late: {surface}, {fate:?}: {found:?} instead of {bound:?}: {verdict}"
                    );
                }
            }
            (Ending::Verdict(verdict), None | Some(Fate::Gone)) => self.doubt(life, verdict, fate),
            (Ending::Other(told), Some(Fate::Silent | Fate::Frozen)) => {
                add(&counts.missed);
                eprintln!("missed: {surface}, {fate:?}: the connection ended by {told}");
            }
            (Ending::Other(_), Some(Fate::Gone)) => add(&counts.ended),
            (Ending::Other(told), None) => {
                add(&counts.broken);
                eprintln!("broken: {surface}: {told}");
            }
        }
    }

    /// A verdict on a peer that lived, or that has ended the connection.
    fn doubt(&self, life: &Life, verdict: &TimedOut, fate: Option<Fate>) {
        let counts = self.ledger.of(life.surface);
        let late = self.ledger.lateness(life.proof());
        if late > self.stop() + self.interval / 8 {
            add(&counts.excused);
            return;
        }
        add(&counts.wrong);
        let surface = life.surface.name();
        eprintln!("false: {surface}, {fate:?}: {verdict}; the peers were late by {late:?}");
    }

    fn listen(&self, lines: impl Iterator<Item = std::io::Result<String>>) {
        for line in lines.map_while(Result::ok) {
            let Some((word, number)) = line.split_once(' ') else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or_default();
            let fate = match word {
                SILENT => Fate::Silent,
                FROZEN => Fate::Frozen,
                GONE => Fate::Gone,
                LATE => {
                    self.ledger.peers_ran_late(Duration::from_micros(number));
                    continue;
                }
                _ => {
                    eprintln!("the peers say: {line}");
                    continue;
                }
            };
            lock(&self.fates).insert(number, (fate, now()));
            let life = lock(&self.lives).get(&number).cloned();
            if let Some(counts) = life.map(|life| self.ledger.of(life.surface)) {
                match fate {
                    Fate::Silent => add(&counts.silent),
                    Fate::Frozen => add(&counts.frozen),
                    Fate::Gone => {}
                }
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
                self.ledger.stalled(late);
            }
        }
    }

    /// Of whom no verdict came.
    fn look_for_missed(&self) {
        let lives = lock(&self.lives);
        lock(&self.fates).retain(|number, (fate, since)| {
            let Some(life) = lives.get(number) else {
                // The words came after the end of the connection, or before its beginning.
                return now() - *since < Duration::from_secs(10);
            };
            let since = (*since).max(life.proof());
            let over = now() - since > life.bound(&self.ledger, since) + 8 * HEARSAY;
            if over {
                add(&self.ledger.of(life.surface).missed);
                let surface = life.surface.name();
                eprintln!("missed: {surface}, {fate:?} for {:?}", now() - since);
            }
            !over
        });
    }

    /// Freezes one of the two processes, again and again.
    async fn stop_now_and_then(self: Arc<Self>, seed: u64, peers: u32) {
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            sleep(PEACE.mul_f64(random.random_range(0.5..1.5))).await;
            // A stop of this process may well be longer than the timeout.
            let (process, longest) = match random.random() {
                true => (peers, self.stop()),
                false => (std::process::id(), 3 * self.stop()),
            };
            let stop = longest.mul_f64(random.random_range(0.1..1.0)).as_secs_f64();
            let command = format!("kill -STOP {process}; sleep {stop:.3}; kill -CONT {process}");
            let (done, stopped) = oneshot::channel();
            thread::spawn(move || {
                let status = Command::new("sh").args(["-c", &command]).status();
                // Nobody waits once the soak is over.
                let _ = done.send(status.is_ok_and(|status| status.success()));
            });
            if stopped.await == Ok(true) {
                add(&self.ledger.stops);
            }
        }
    }

    /// Gives each connection another configuration now and then, and all members of the set at once.
    async fn configure_now_and_then(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(1)).await;
            let lives: Vec<_> = lock(&self.lives).values().cloned().collect();
            let mut random = rand::rng();
            for life in lives {
                if random.random_bool(1.0 / CONFIGURED) {
                    life.configure(&self.ledger);
                }
            }
            if random.random_bool(1.0 / SET_CONFIGURED) {
                let ledger = &self.ledger;
                let config = lock(&ledger.set_in_force).draw(&ledger.configs).clone();
                // The set is there as long as its task runs.
                let _ = self.set.set_config(config);
                add(&ledger.of(Surface::Member).configured);
            }
        }
    }

    async fn sample(&self, time: Duration) -> Vec<Sample> {
        let start = now();
        let mut samples = Vec::new();
        while now() - start < time {
            let asked = tokio::time::Instant::now() + Duration::from_secs(1);
            sleep_until(asked).await;
            // After a stop of this process its length is not known yet.
            if asked.elapsed() < self.stop() / 10 {
                self.look_for_missed();
            }
            let sample = Sample {
                at: now() - start,
                resident_kib: resident_kib(),
                verdicts: self.ledger.sum(|counts| &counts.found),
            };
            samples.push(sample);
            if samples.len() % 300 == 0 {
                eprintln!("so far: {sample:?}");
            }
        }
        samples
    }

    fn judge(&self, options: &Options, samples: &[Sample]) -> Result<(), String> {
        let ledger = &self.ledger;
        // At first connections come, and with them buffers; at last they have been for long.
        let tenth = (samples.len() / 10).max(1);
        let early = median(samples.iter().skip(2 * tenth).take(tenth));
        let late = median(samples.iter().rev().take(tenth));
        println!("minutes: {:.1}", options.time.as_secs_f64() / 60.0);
        println!("connections at any time: {}", options.connections);
        println!("stops of one of the processes: {}", read(&ledger.stops));
        print!("{ledger}");
        let recent = lock(&self.fates)
            .values()
            .filter(|(fate, _)| *fate != Fate::Gone)
            .count();
        println!("silent for less than the bound when it was over: {recent}");
        println!("resident memory early and late: {early} KiB, {late} KiB");
        if let Some(path) = &options.svg {
            let title = format!(
                "{} connections in {} min: {} dead peers missed, {} live peers condemned",
                options.connections,
                (options.time.as_secs_f64() / 6.0).round() / 10.0,
                ledger.sum(|counts| &counts.missed),
                ledger.sum(|counts| &counts.wrong),
            );
            let picture = plot::svg(samples, &title).map_err(|error| error.to_string())?;
            fs::write(path, picture).map_err(|error| error.to_string())?;
        }
        if !ledger.is_right() || ledger.sum(|counts| &counts.found) == 0 {
            return Err("verdicts are wrong, or there were none".into());
        }
        let warm = options.time >= Duration::from_secs(300);
        if warm && late as f64 > early as f64 * GROWTH + 1024.0 {
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
