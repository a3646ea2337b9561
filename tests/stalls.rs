//! A process that is stopped (SIGSTOP) and goes on (SIGCONT) keeps its live peers and finds its
//! dead ones. Real processes, real sockets, real time.
//!
//! This program has a `main` of its own: it starts itself again as the process with the heartbeats,
//! plays their peers, and stops the other. Peers answer 200 ms late. What the heartbeats are worth
//! is judged by the clock of the process they run in.
//!
//! A slow machine must not turn it red: where a verdict could be the fault of peers that were
//! themselves kept from running, or of a process whose threads waited for a core while they could
//! have read, the attempt does not count and is repeated; and bounds grow by the time that the process
//! with the heartbeats was kept from running, as it measures itself.

use std::env;
use std::io::Write;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use futures_pinger::{Clock, Config};

const INTERVAL: Duration = Duration::from_millis(400);
const TIMEOUT: Duration = Duration::from_millis(800);
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
/// How late the peers answer.
const RTT: Duration = Duration::from_millis(200);
/// How far the two looks lie apart between which a reader has to run: an eighth of the timeout.
const SLACK: Duration = TIMEOUT.checked_div(8).expect("not zero");
/// What hangs fails after this long.
const GUARD: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|role| role == heartbeats::ROLE) {
        return heartbeats::main(&args[1..]);
    }
    harness(&args)
}

// contract: F42
fn live_peers_survive_stops_of_any_length_and_dead_ones_are_found_in_time() {
    let process = Process {
        connections: 200,
        ..Process::default()
    };
    // From 0.3 to 3 timeouts.
    process.survives(&Stops {
        seed: 42,
        count: 20,
        shortest: 3 * TIMEOUT / 10,
        longest: 3 * TIMEOUT,
    });
}

// contract: N83
fn stops_of_two_timeouts_are_survived_on_a_runtime_of_many_threads() {
    Process::default().survives(&Stops::of_two_timeouts(1));
}

// contract: N83
fn stops_of_two_timeouts_are_survived_on_a_runtime_of_one_thread() {
    let process = Process {
        threads: Threads::One,
        ..Process::default()
    };
    process.survives(&Stops::of_two_timeouts(2));
}

// contract: N83
fn stops_of_two_timeouts_are_survived_with_a_timer_on_a_thread_of_its_own() {
    let process = Process {
        timer: TimerKind::Futures,
        ..Process::default()
    };
    process.survives(&Stops::of_two_timeouts(3));
}

// contract: N83
fn stops_of_two_timeouts_are_survived_with_the_timer_of_another_runtime() {
    let process = Process {
        threads: Threads::One,
        timer: TimerKind::AsyncIo,
        ..Process::default()
    };
    process.survives(&Stops::of_two_timeouts(4));
}

/// Shows that the tests above can fail.
// contract: F42 N83
fn without_the_grace_a_stop_condemns_live_peers() {
    let process = Process {
        grace: false,
        ..Process::default()
    };
    let condemned = process.condemns(&Stops {
        seed: 5,
        count: 20,
        shortest: TIMEOUT,
        longest: 2 * TIMEOUT,
    });
    assert!(condemned > 0, "no false timeout: the stops do no harm");
}

type Test = (&'static str, fn());

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name)),*]
    };
}

const TESTS: &[Test] = tests![
    live_peers_survive_stops_of_any_length_and_dead_ones_are_found_in_time,
    stops_of_two_timeouts_are_survived_on_a_runtime_of_many_threads,
    stops_of_two_timeouts_are_survived_on_a_runtime_of_one_thread,
    stops_of_two_timeouts_are_survived_with_a_timer_on_a_thread_of_its_own,
    stops_of_two_timeouts_are_survived_with_the_timer_of_another_runtime,
    without_the_grace_a_stop_condemns_live_peers,
];

/// As much of the standard harness as cargo and its relatives ask for. All tests run at once: they
/// mostly wait.
fn harness(args: &[String]) -> ExitCode {
    const WITH_VALUE: &[&str] = &[
        "--color",
        "--format",
        "--logfile",
        "--shuffle-seed",
        "--test-threads",
        "-Z",
    ];
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let (mut list, mut exact, mut ignored) = (false, false, false);
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg {
            "--list" => list = true,
            "--exact" => exact = true,
            "--ignored" => ignored = true,
            "--skip" => skipped.extend(args.next()),
            _ if WITH_VALUE.contains(&arg) => drop(args.next()),
            _ if arg.starts_with('-') => {}
            filter => filters.push(filter),
        }
    }
    let matches = |name: &str, filter: &str| match exact {
        true => name == filter,
        false => name.contains(filter),
    };
    let selected = |(name, _): &&Test| {
        // There are no signals to stop a process by elsewhere; and none of the tests is ignored.
        cfg!(unix)
            && !ignored
            && (filters.is_empty() || filters.iter().any(|filter| matches(name, filter)))
            && !skipped.iter().any(|filter| matches(name, filter))
    };
    let selected: Vec<&Test> = TESTS.iter().filter(selected).collect();
    if list {
        for (name, _) in selected {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }

    let start = Clock::system().now();
    println!("\nrunning {} tests", selected.len());
    let running = selected.iter().map(|(name, test)| {
        let thread = thread::Builder::new().name((*name).into());
        (name, thread.spawn(*test).expect("a thread"))
    });
    let mut failed = 0;
    for (name, test) in running.collect::<Vec<_>>() {
        let passed = test.join().is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        selected.len() - failed,
        TESTS.len() - selected.len(),
        (Clock::system().now() - start).as_secs_f64(),
    );
    std::io::stdout().flush().expect("stdout");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the process with the heartbeats is to be.
#[derive(Debug, Clone, Copy)]
struct Process {
    connections: usize,
    threads: Threads,
    timer: TimerKind,
    grace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    One,
    Many,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimerKind {
    Tokio,
    Futures,
    AsyncIo,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            connections: 50,
            threads: Threads::Many,
            timer: TimerKind::Tokio,
            grace: true,
        }
    }
}

impl Process {
    fn config(&self) -> Config {
        let builder = Config::builder().interval(INTERVAL).timeout(TIMEOUT);
        let builder = builder.write_timeout(WRITE_TIMEOUT);
        let builder = builder.close_timeout(CLOSE_TIMEOUT).stall_grace(self.grace);
        builder.build().expect("valid")
    }

    fn to_args(self) -> [String; 4] {
        [
            self.connections.to_string(),
            format!("{:?}", self.threads),
            format!("{:?}", self.timer),
            self.grace.to_string(),
        ]
    }

    fn from_args(args: &[String]) -> Self {
        let [connections, threads, timer, grace] = args else {
            panic!("not four arguments: {args:?}");
        };
        Self {
            connections: connections.parse().expect("a number"),
            threads: match &threads[..] {
                "One" => Threads::One,
                _ => Threads::Many,
            },
            timer: match &timer[..] {
                "Tokio" => TimerKind::Tokio,
                "AsyncIo" => TimerKind::AsyncIo,
                _ => TimerKind::Futures,
            },
            grace: grace.parse().expect("a boolean"),
        }
    }
}

/// When the process is stopped, and for how long.
struct Stops {
    seed: u64,
    count: u32,
    shortest: Duration,
    longest: Duration,
}

impl Stops {
    fn of_two_timeouts(seed: u64) -> Self {
        Self {
            seed,
            count: 8,
            shortest: 2 * TIMEOUT,
            longest: 2 * TIMEOUT,
        }
    }
}

/// The side that plays the peers and stops the other.
mod peers {
    use std::env;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdin, Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use futures::StreamExt;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::Runtime;
    use tokio::time::Instant;
    use tokio_tungstenite::accept_async_with_config;

    use super::heartbeats::{ROLE, Report, websocket_config};
    use super::{GUARD, INTERVAL, Process, RTT, SLACK, Stops, TIMEOUT};

    /// Attempts at a test while the machine does not let the peers run.
    const ATTEMPTS: u32 = 3;

    impl Stops {
        /// A pause at a random point of the cycle, and the stop that follows it.
        fn draw(&self) -> Vec<(Duration, Duration)> {
            let mut random = StdRng::seed_from_u64(self.seed);
            let range = self.longest.saturating_sub(self.shortest) / self.count;
            // Spread evenly over the range, in random order.
            let mut stops: Vec<_> = (0..self.count)
                .map(|step| self.shortest + range.mul_f64(f64::from(step) + random.random::<f64>()))
                .collect();
            stops.shuffle(&mut random);
            let pause = |stop| (INTERVAL.mul_f64(random.random_range(0.1..1.1)), stop);
            stops.into_iter().map(pause).collect()
        }
    }

    impl Process {
        /// Stops the process again and again: no heartbeat ends. Then the peers fall silent, and
        /// each ends in time.
        pub(super) fn survives(&self, stops: &Stops) {
            for attempt in 1.. {
                let run = Run::start(self);
                let condemned = run.stop_and_go(stops, usize::MAX);
                if !condemned.is_empty() {
                    let late = run.peers.worst_lateness();
                    // Not the heartbeats' fault if it is as late as that.
                    let peers = late > TIMEOUT.saturating_sub(RTT) / 2;
                    // Nor if a reader had no core to read on between the checkpoint and the deadline.
                    let busy = condemned.iter().all(|report| report.without_core > SLACK);
                    let what = format!(
                        "{} false: {:?}; the peers were late by {late:?}",
                        condemned.len(),
                        condemned[0],
                    );
                    assert!(peers || busy, "{what}");
                    let test = thread::current();
                    let test = test.name().unwrap_or_default();
                    println!("{test}: attempt {attempt} of {ATTEMPTS} is excused, {what}");
                    assert!(attempt < ATTEMPTS, "{test}: no attempt could be judged");
                    continue;
                }
                run.fall_silent(self);
                return;
            }
        }

        /// Stops the process until a heartbeat ends by a timeout; how many did.
        pub(super) fn condemns(&self, stops: &Stops) -> usize {
            let ended = Run::start(self).stop_and_go(stops, 1);
            ended.iter().filter(|report| report.ended == "Pong").count()
        }
    }

    struct Run {
        // First: the process goes before its peers.
        process: Stoppable,
        peers: Peers,
    }

    impl Run {
        fn start(process: &Process) -> Self {
            let peers = Peers::start();
            let process = Stoppable::start(process, peers.port);
            assert_eq!(process.next_line(), "ready");
            Self { process, peers }
        }

        /// The heartbeats that ended although their peers answer; it stops at so many.
        fn stop_and_go(&self, stops: &Stops, enough: usize) -> Vec<Report> {
            let mut ended = Vec::new();
            for (pause, stop) in stops.draw() {
                thread::sleep(pause);
                self.process.signal("STOP");
                thread::sleep(stop);
                self.process.signal("CONT");
                ended.extend(self.process.reports());
                if ended.len() >= enough {
                    break;
                }
            }
            // What the last stop has done shows within a cycle.
            thread::sleep(INTERVAL + TIMEOUT + 2 * RTT);
            ended.extend(self.process.reports());
            ended
        }

        /// From here on nobody answers, nor ends a connection.
        fn fall_silent(mut self, process: &Process) {
            self.peers.silent.store(true, Ordering::SeqCst);
            let mut seen = vec![false; process.connections];
            let mut late_wakes = 0;
            for _ in 0..process.connections {
                let line = self.process.next_line();
                let report = Report::parse(&line);
                assert_eq!(report.ended, "Pong", "{line}");
                assert!(report.waited >= TIMEOUT, "early: {line}");
                assert!(report.found <= report.bound, "late: {line}");
                assert!(report.answered > 0, "{line}");
                late_wakes += report.late_wakes;
                let seen = &mut seen[report.connection];
                assert!(!*seen, "ended twice: {line}");
                *seen = true;
            }
            // The stops have hit something.
            assert!(late_wakes > 0, "no heartbeat has noticed a stop");
            assert_eq!(self.process.next_line(), "done");
            let status = self.process.child.wait().expect("a child");
            assert!(status.success(), "{status}");
        }
    }

    /// The process with the heartbeats; it ends with this.
    struct Stoppable {
        child: Child,
        lines: mpsc::Receiver<String>,
        // Waiting for the child would close its own, and so end it.
        _stdin: Option<ChildStdin>,
    }

    impl Stoppable {
        fn start(process: &Process, port: u16) -> Self {
            let mut child = Command::new(env::current_exe().expect("a path"))
                .arg(ROLE)
                .arg(port.to_string())
                .args(process.to_args())
                // It ends when this pipe does, so with this process at the latest.
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a child");
            let stdout = child.stdout.take().expect("piped");
            let (line, lines) = mpsc::channel();
            thread::spawn(move || {
                for read in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if line.send(read).is_err() {
                        break;
                    }
                }
            });
            let _stdin = child.stdin.take();
            Self {
                child,
                lines,
                _stdin,
            }
        }

        fn signal(&self, name: &str) {
            let kill = format!("kill -{name} {}", self.child.id());
            let status = Command::new("sh").args(["-c", &kill]).status();
            let status = status.expect("a shell");
            assert!(status.success(), "{kill}: {status}");
        }

        fn next_line(&self) -> String {
            let line = self.lines.recv_timeout(GUARD);
            line.expect("the process says something in time")
        }

        /// The heartbeats that have ended since.
        fn reports(&self) -> impl Iterator<Item = Report> {
            let lines = self.lines.try_iter().take_while(|line| line != "done");
            lines.map(|line| Report::parse(&line))
        }
    }

    impl Drop for Stoppable {
        fn drop(&mut self) {
            // It may have ended by itself; and while panicking there is nobody left to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// WebSocket peers that answer late, or never.
    struct Peers {
        port: u16,
        silent: Arc<AtomicBool>,
        worst_lateness: Arc<AtomicU64>,
        // They live in it.
        _runtime: Runtime,
    }

    impl Peers {
        fn start() -> Self {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
            let listener = listener.expect("a listener");
            let port = listener.local_addr().expect("an address").port();
            let silent = Arc::new(AtomicBool::new(false));
            runtime.spawn({
                let silent = Arc::clone(&silent);
                async move {
                    while let Ok((socket, _)) = listener.accept().await {
                        tokio::spawn(peer(socket, Arc::clone(&silent)));
                    }
                }
            });
            let worst_lateness = Arc::new(AtomicU64::new(0));
            runtime.spawn(watch(Arc::clone(&worst_lateness)));
            Self {
                port,
                silent,
                worst_lateness,
                _runtime: runtime,
            }
        }

        /// How much later than asked for one of them has run.
        fn worst_lateness(&self) -> Duration {
            Duration::from_micros(self.worst_lateness.load(Ordering::SeqCst))
        }
    }

    async fn watch(worst: Arc<AtomicU64>) {
        loop {
            let asked = Instant::now() + Duration::from_millis(5);
            tokio::time::sleep_until(asked).await;
            let late = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            worst.fetch_max(late, Ordering::SeqCst);
        }
    }

    /// tungstenite answers pings at once; so what comes in is held back on its way to it.
    async fn peer(socket: TcpStream, silent: Arc<AtomicBool>) {
        let (mut from_app, mut to_app) = socket.into_split();
        let (near, far) = tokio::io::duplex(4096);
        let (mut from_peer, mut to_peer) = tokio::io::split(far);
        let (hold, mut held) = tokio::sync::mpsc::unbounded_channel();
        let take_in = async {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = from_app.read(&mut bytes).await {
                if !silent.load(Ordering::SeqCst) {
                    let release = Instant::now() + RTT;
                    hold.send((release, bytes[..read].to_vec())).ok()?;
                }
            }
            Some(())
        };
        let hand_on = async {
            while let Some((release, bytes)) = held.recv().await {
                tokio::time::sleep_until(release).await;
                to_peer.write_all(&bytes).await.ok()?;
            }
            Some(())
        };
        let answer = async {
            let socket = accept_async_with_config(near, Some(websocket_config())).await;
            let mut socket = socket.ok()?;
            while let Some(Ok(_)) = socket.next().await {}
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
            _ = answer => {}
            _ = give_back => {}
        }
    }
}

/// The side that is stopped.
mod heartbeats {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fs;
    use std::io::Read;
    use std::pin::pin;
    use std::process::{self, ExitCode};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread;
    use std::time::Duration;

    use futures::stream::SplitStream;
    use futures::{SinkExt, StreamExt, future};
    use futures_pinger::{
        AsyncIoTimer, Clock, Config, Error, Frame, FuturesTimer, Instant, PongKind, PongSender,
        Protocol, Rfc6455, Timer, TokioTimer, pinger,
    };
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;
    use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
    use tokio_tungstenite::tungstenite::{self, Message};
    use tokio_tungstenite::{WebSocketStream, client_async_with_config};

    use super::{Process, Threads, TimerKind};

    /// The first argument of the program in this role; the port and the process follow.
    pub(super) const ROLE: &str = "heartbeats";

    type Socket = WebSocketStream<TcpStream>;

    /// The default holds 128 KiB for each connection.
    pub(super) fn websocket_config() -> WebSocketConfig {
        WebSocketConfig::default().read_buffer_size(4096)
    }

    pub(super) fn main(args: &[String]) -> ExitCode {
        thread::spawn(|| {
            // Nothing ever comes: it ends with the other process.
            let _ = std::io::stdin().read(&mut [0]);
            process::exit(2);
        });
        let (port, process) = args.split_first().expect("a port");
        let port = port.parse().expect("a port");
        let process = Process::from_args(process);
        let mut builder = match process.threads {
            Threads::One => tokio::runtime::Builder::new_current_thread(),
            Threads::Many => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.enable_all().build().expect("a runtime");
        runtime.block_on(run(process, port));
        println!("done");
        ExitCode::SUCCESS
    }

    async fn run(process: Process, port: u16) {
        let sockets = (0..process.connections).map(|_| connect(port));
        let sockets = future::join_all(sockets).await;
        let stalls = Stalls::watch();
        let unproven = Arc::new(AtomicUsize::new(process.connections));
        let mut running = JoinSet::new();
        for (connection, socket) in sockets.into_iter().enumerate() {
            let heartbeat = Heartbeat {
                connection,
                socket,
                config: process.config(),
                stalls: Arc::clone(&stalls),
                unproven: Arc::clone(&unproven),
            };
            match process.timer {
                TimerKind::Tokio => running.spawn(heartbeat.run(TokioTimer::new())),
                TimerKind::Futures => running.spawn(heartbeat.run(FuturesTimer::new())),
                TimerKind::AsyncIo => running.spawn(heartbeat.run(AsyncIoTimer::new())),
            };
            // Spread over the cycle.
            let connections = u32::try_from(process.connections).expect("a few");
            tokio::time::sleep(super::INTERVAL / connections).await;
        }
        while let Some(report) = running.join_next().await {
            println!("{}", report.expect("no panic").to_line());
        }
    }

    async fn connect(port: u16) -> Socket {
        let socket = TcpStream::connect(("127.0.0.1", port)).await;
        let config = Some(websocket_config());
        let socket = socket.expect("connected");
        let socket = client_async_with_config("ws://localhost/", socket, config).await;
        socket.expect("a handshake").0
    }

    fn message(frame: Frame) -> Message {
        Rfc6455.encode(frame).expect("RFC 6455 has every frame")
    }

    struct Heartbeat {
        connection: usize,
        socket: Socket,
        config: Config,
        stalls: Arc<Stalls>,
        unproven: Arc<AtomicUsize>,
    }

    impl Heartbeat {
        async fn run<T: Timer>(self, timer: T) -> Report {
            let (write, messages) = self.socket.split();
            let outgoing = write
                .with(|frame: Frame| future::ready(Ok::<_, tungstenite::Error>(message(frame))));
            let (pongs, pinger) = pinger(outgoing, self.config.clone());
            let proof = Arc::new(Mutex::new(Clock::system().now()));
            // A task of its own: what the heartbeat's timer wakes does not read the socket.
            let reader = tokio::spawn(read(messages, pongs, Arc::clone(&proof), self.unproven));
            let mut pinger = pin!(pinger.with_timer(timer));
            let ended = pinger.as_mut().await;
            let now = Clock::system().now();
            let proof = *proof.lock().unwrap_or_else(PoisonError::into_inner);
            reader.abort();
            let late_wakes = pinger.stats().late_wakes();
            let stalled = self.stalls.between(proof, now).await;
            let (ended, waited, answered) = match ended {
                Err(Error::Timeout(verdict)) => (
                    format!("{:?}", verdict.phase()),
                    verdict.elapsed(),
                    verdict.answered(),
                ),
                other => (format!("{other:?}").replace(' ', "_"), Duration::ZERO, 0),
            };
            Report {
                connection: self.connection,
                ended,
                waited,
                answered,
                found: now - proof,
                bound: bound(&self.config, &stalled),
                without_core: stalled.without_core,
                late_wakes,
            }
        }
    }

    /// How long after the last proof of life a heartbeat ends at the latest: the formula of the
    /// docs, for a process that may be kept from running, and the time of the close frame.
    fn bound(config: &Config, stalled: &Stalled) -> Duration {
        let timeout = config.timeout().expect("a fixed one");
        let grace = 2 * timeout.min(stalled.longest);
        let each = config.write_timeout() + timeout + grace;
        let wakes = 2 * config.max_missed() + 2;
        let verdict = config.interval() + config.max_missed() * each + wakes * config.granularity();
        verdict + stalled.total + config.close_timeout() + config.granularity()
    }

    async fn read(
        mut messages: SplitStream<Socket>,
        pongs: PongSender,
        proof: Arc<Mutex<Instant>>,
        unproven: Arc<AtomicUsize>,
    ) {
        let mut first = true;
        while let Some(Ok(message)) = messages.next().await {
            let Message::Pong(payload) = message else {
                continue;
            };
            let now = Clock::system().now();
            if let Ok(PongKind::Matched { .. } | PongKind::Stale) = pongs.handle_pong(&payload) {
                *proof.lock().unwrap_or_else(PoisonError::into_inner) = now;
                if first && unproven.fetch_sub(1, Ordering::SeqCst) == 1 {
                    println!("ready");
                }
                first = false;
            }
        }
    }

    /// When this process did not run.
    struct Stalls(Mutex<Vec<Turn>>);

    struct Turn {
        at: Instant,
        /// How much later than asked for.
        late: Duration,
        waits: Waits,
    }

    /// By thread: how long it has waited for a core since its start. One that is stopped does not wait.
    type Waits = HashMap<OsString, Duration>;

    struct Stalled {
        longest: Duration,
        total: Duration,
        /// How long the thread that waited longest had no core, though it could have run.
        without_core: Duration,
    }

    impl Stalls {
        const TURN: Duration = Duration::from_millis(5);

        fn watch() -> Arc<Self> {
            let stalls = Arc::new(Self(Mutex::default()));
            tokio::spawn({
                let stalls = Arc::clone(&stalls);
                async move {
                    loop {
                        let asked = tokio::time::Instant::now() + Self::TURN;
                        tokio::time::sleep_until(asked).await;
                        let late = asked.elapsed();
                        let turn = Turn {
                            at: Clock::system().now(),
                            late,
                            waits: waits(),
                        };
                        let mut seen = stalls.0.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.push(turn);
                    }
                }
            });
            stalls
        }

        async fn between(&self, from: Instant, to: Instant) -> Stalled {
            // One that is under way is seen at its end.
            tokio::time::sleep(4 * Self::TURN).await;
            let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let within = seen.iter().filter(|turn| turn.late > Self::TURN);
            let within = within.filter(|turn| turn.at >= from && turn.at <= to + turn.late);
            let within = within.map(|turn| turn.late);
            let before = seen.iter().rfind(|turn| turn.at <= from);
            let after = seen.iter().find(|turn| turn.at >= to);
            let (before, after) = (before.or(seen.first()), after.or(seen.last()));
            let without_core = before.zip(after).map(|(before, after)| {
                let grown = after.waits.iter().map(|(thread, wait)| {
                    let before = before.waits.get(thread).copied();
                    wait.saturating_sub(before.unwrap_or_default())
                });
                grown.max().unwrap_or_default()
            });
            Stalled {
                longest: within.clone().max().unwrap_or_default(),
                total: within.sum(),
                without_core: without_core.unwrap_or_default(),
            }
        }
    }

    /// Nothing where the system does not tell: then nothing is excused by it.
    fn waits() -> Waits {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
        let threads = threads.filter_map(Result::ok).filter_map(|thread| {
            let told = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            // The time on a core, the time without one, and how often, in nanoseconds.
            let wait = told.split(' ').nth(1)?.parse().ok()?;
            Some((thread.file_name(), Duration::from_nanos(wait)))
        });
        threads.collect()
    }

    /// How a heartbeat ended, as a line of text.
    #[derive(Debug)]
    pub(super) struct Report {
        pub(super) connection: usize,
        /// The phase of the verdict.
        pub(super) ended: String,
        /// From the flush to the verdict.
        pub(super) waited: Duration,
        pub(super) answered: u64,
        /// From the last proof of life to the end.
        pub(super) found: Duration,
        /// What that may be at the most.
        pub(super) bound: Duration,
        /// How long in that time a thread of the process could have run, and had no core.
        pub(super) without_core: Duration,
        pub(super) late_wakes: u64,
    }

    impl Report {
        fn to_line(&self) -> String {
            format!(
                "{} {} {} {} {} {} {} {}",
                self.connection,
                self.ended,
                self.waited.as_nanos(),
                self.answered,
                self.found.as_nanos(),
                self.bound.as_nanos(),
                self.without_core.as_nanos(),
                self.late_wakes,
            )
        }

        pub(super) fn parse(line: &str) -> Self {
            let words: Vec<&str> = line.split(' ').collect();
            let [
                connection,
                ended,
                waited,
                answered,
                found,
                bound,
                without_core,
                late_wakes,
            ] = words[..]
            else {
                panic!("not a report: {line}");
            };
            let number = |word: &str| word.parse::<u64>().expect("a number");
            Self {
                connection: connection.parse().expect("a number"),
                ended: ended.to_owned(),
                waited: Duration::from_nanos(number(waited)),
                answered: number(answered),
                found: Duration::from_nanos(number(found)),
                bound: Duration::from_nanos(number(bound)),
                without_core: Duration::from_nanos(number(without_core)),
                late_wakes: number(late_wakes),
            }
        }
    }
}
