//! The statistics of heartbeats in Prometheus: an axum server whose connections carry heartbeats,
//! and that serves `/metrics`.
//!
//! `cargo run --example prometheus` opens some clients, of which one falls silent and one sends pongs
//! that nobody asked for, scrapes itself over loopback, prints what Prometheus would read, and ends
//! after about two seconds. It fails where a metric is missing or wrong. With `--serve` it goes on
//! serving.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum_0_8::Router;
use axum_0_8::extract::State as Shared;
use axum_0_8::extract::ws::{self, WebSocketUpgrade};
use axum_0_8::http::header;
use axum_0_8::response::{IntoResponse, Response};
use axum_0_8::routing::get;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt, TryStreamExt};
use futures_pinger::{
    Config, Controller, Error, FrameSink, HeartbeatState, PongKind, PongSender, Rfc6455, Stats,
    TimeoutPhase, TokioTimer, pinger,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

type Result<T, E = Box<dyn StdError>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let config = Config::builder()
        .initial_delay(Duration::ZERO)
        .interval(Duration::from_millis(250))
        .timeout(Duration::from_secs(1))
        .build()?;
    let metrics = Metrics::new();
    let app = Arc::new(App {
        config,
        registry: metrics.registry(),
        metrics,
    });
    let router = Router::new()
        .route("/ws", get(upgrade))
        .route("/metrics", get(exposition))
        .with_state(app);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let serving = async { axum_0_8::serve(listener, router).await };

    let demonstration = async {
        for client in [Client::Well, Client::Well, Client::Silent, Client::Chatty] {
            tokio::spawn(client.run(server));
        }
        let code = tokio::time::timeout(Duration::from_secs(10), check(server)).await??;
        if std::env::args().any(|arg| arg == "--serve") {
            println!("serving http://{server}/metrics");
            pending::<()>().await;
        }
        Ok(code)
    };
    tokio::select! {
        served = serving => served.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        code = demonstration => code,
    }
}

// --- the metrics ---

/// What is counted as it happens, and the heartbeats that the rest is read from.
#[derive(Clone)]
struct Metrics {
    rtt: Histogram,
    verdicts: Family<[(&'static str, &'static str); 1], Counter>,
    heartbeats: Heartbeats,
}

impl Metrics {
    fn new() -> Self {
        let metrics = Self {
            // From 100 µs to 26 s.
            rtt: Histogram::new(exponential_buckets(0.0001, 4.0, 10)),
            verdicts: Family::default(),
            heartbeats: Heartbeats::default(),
        };
        // A series that begins with its first event hides that event from `rate()`.
        for phase in ["pong", "write"] {
            drop(metrics.verdicts.get_or_create(&[("phase", phase)]));
        }
        metrics
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("ws_heartbeat");
        registry.register_with_unit(
            "rtt",
            "Round-trip times, from a ping's flush to its pong",
            Unit::Seconds,
            self.rtt.clone(),
        );
        registry.register(
            "verdicts",
            "Peers found gone, by what their ping was waiting for",
            self.verdicts.clone(),
        );
        registry.register_collector(Box::new(self.heartbeats.clone()));
        registry
    }

    fn verdict(&self, phase: TimeoutPhase) {
        let phase = match phase {
            TimeoutPhase::Write => "write",
            _ => "pong",
        };
        self.verdicts.get_or_create(&[("phase", phase)]).inc();
    }
}

/// The heartbeats of all connections. A scrape reads them; between scrapes nothing is copied.
#[derive(Clone, Default)]
struct Heartbeats(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    joined: u64,
    alive: BTreeMap<u64, Controller>,
    /// Counters must not fall when a connection leaves.
    gone: Totals,
}

/// A connection on the board, for as long as this lives.
struct Joined {
    heartbeats: Heartbeats,
    id: u64,
}

impl Heartbeats {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().expect("nobody panics with the board")
    }

    fn join(&self, controller: Controller) -> Joined {
        let mut board = self.board();
        board.joined += 1;
        let id = board.joined;
        board.alive.insert(id, controller);
        Joined {
            heartbeats: self.clone(),
            id,
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut board = self.heartbeats.board();
        if let Some(controller) = board.alive.remove(&self.id) {
            board.gone.add(&controller.stats());
        }
    }
}

/// Sums over connections.
#[derive(Clone, Copy, Default)]
struct Totals {
    sent: u64,
    answered: u64,
    missed: u64,
    stale: u64,
    unsolicited: u64,
    late_wakes: u64,
    worst_lateness: Duration,
    write_blocked: Duration,
}

impl Totals {
    fn add(&mut self, stats: &Stats) {
        self.sent += stats.sent();
        self.answered += stats.answered();
        self.missed += stats.missed();
        self.stale += stats.stale();
        self.unsolicited += stats.unsolicited();
        self.late_wakes += stats.late_wakes();
        self.worst_lateness = self.worst_lateness.max(stats.worst_lateness());
        self.write_blocked += stats.write_blocked();
    }
}

impl Collector for Heartbeats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = tokio::time::Instant::now().into_std();
        let states = HeartbeatState::ALL.iter();
        let mut states: Vec<_> = states.map(|state| (*state, 0_i64)).collect();
        let totals = {
            let board = self.board();
            let mut totals = board.gone;
            for controller in board.alive.values() {
                let stats = controller.stats();
                totals.add(&stats);
                let state = stats.state_at(now);
                let counts = states.iter_mut().filter(|(known, _)| *known == state);
                counts.for_each(|(_, count)| *count += 1);
            }
            totals
        };

        let mut connections = encoder.encode_descriptor(
            "connections",
            "Connections with a heartbeat, by its state.",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in states {
            let labels = [("state", state.as_str())];
            let series = connections.encode_family(&labels)?;
            ConstGauge::new(count).encode(series)?;
        }

        #[rustfmt::skip]
        let counters = [
            ("pings_sent", "Pings that were flushed.", totals.sent),
            ("pings_answered", "Pings that were answered in time.", totals.answered),
            ("pings_missed", "Pings that no answer came to in time.", totals.missed),
            ("pongs_stale", "Verified pongs that came too late.", totals.stale),
            ("pongs_unsolicited", "Pongs that matched nothing.", totals.unsolicited),
            ("late_wakes", "Deadlines that this process looked at late.", totals.late_wakes),
        ];
        for (name, help, value) in counters {
            let series = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(series)?;
        }

        let blocked = encoder.encode_descriptor(
            "write_blocked",
            "How long pings waited for their sinks.",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        ConstCounter::new(totals.write_blocked.as_secs_f64()).encode(blocked)?;
        let lateness = encoder.encode_descriptor(
            "worst_lateness",
            "How late this process looked at a deadline at the worst.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(totals.worst_lateness.as_secs_f64()).encode(lateness)
    }
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeats").finish_non_exhaustive()
    }
}

// --- the server ---

struct App {
    config: Config,
    metrics: Metrics,
    registry: Registry,
}

async fn exposition(Shared(app): Shared<Arc<App>>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut exposition = String::new();
    text::encode(&mut exposition, &app.registry).expect("writing to a string does not fail");
    ([(header::CONTENT_TYPE, TEXT)], exposition).into_response()
}

async fn upgrade(request: WebSocketUpgrade, Shared(app): Shared<Arc<App>>) -> Response {
    request.on_upgrade(move |socket| serve(socket, app))
}

async fn serve(socket: ws::WebSocket, app: Arc<App>) {
    let (sink, incoming) = socket.split();
    let (pongs, pinger) = pinger(FrameSink::new(sink, Rfc6455), app.config.clone());
    let mut pinger = pinger.with_timer(TokioTimer::new());
    // It outlives the heartbeat, whose last figures are then final.
    let controller = pinger.controller();
    let _joined = app.metrics.heartbeats.join(controller);
    tokio::select! {
        () = read(incoming, pongs, &app.metrics.rtt) => {}
        ended = pinger => if let Err(Error::Timeout(verdict)) = ended {
            app.metrics.verdict(verdict.phase());
        },
    }
}

async fn read(mut incoming: SplitStream<ws::WebSocket>, pongs: PongSender, rtts: &Histogram) {
    while let Some(Ok(message)) = incoming.next().await {
        // The application's data would be handled here.
        let ws::Message::Pong(payload) = message else {
            continue;
        };
        if let Ok(PongKind::Matched { rtt }) = pongs.handle_pong(&payload) {
            rtts.observe(rtt.as_secs_f64());
        }
    }
}

// --- the clients ---

#[derive(Clone, Copy)]
enum Client {
    Well,
    /// It answers one ping, and then reads no more.
    Silent,
    /// It begins with a pong of its own.
    Chatty,
}

impl Client {
    async fn run(self, server: SocketAddr) -> Result<(), WsError> {
        // Nagle's algorithm would hold a pong back until what was sent before it is acknowledged.
        let (url, nodelay) = (format!("ws://{server}/ws"), true);
        let (mut socket, _) = connect_async_with_config(url, None, nodelay).await?;
        if let Self::Chatty = self {
            socket.send(Message::Pong("unasked".into())).await?;
        }
        while socket.try_next().await?.is_some() {
            // tungstenite prepares the pong when it reads the ping; the flush sends it.
            socket.flush().await?;
            if let Self::Silent = self {
                pending::<()>().await;
            }
        }
        Ok(())
    }
}

// --- the check ---

/// What an exposition must show at the least once the silent client is found out.
#[rustfmt::skip]
const EXPECTED: [(&str, f64); 14] = [
    ("ws_heartbeat_connections{state=\"idle\"}", 0.0),
    ("ws_heartbeat_connections{state=\"suspect\"}", 0.0),
    ("ws_heartbeat_pings_sent_total", 10.0),
    ("ws_heartbeat_pings_answered_total", 10.0),
    ("ws_heartbeat_pings_missed_total", 1.0),
    ("ws_heartbeat_pongs_stale_total", 0.0),
    ("ws_heartbeat_pongs_unsolicited_total", 1.0),
    ("ws_heartbeat_rtt_seconds_count", 10.0),
    ("ws_heartbeat_rtt_seconds_bucket{le=\"+Inf\"}", 10.0),
    ("ws_heartbeat_verdicts_total{phase=\"pong\"}", 1.0),
    ("ws_heartbeat_verdicts_total{phase=\"write\"}", 0.0),
    ("ws_heartbeat_late_wakes_total", 0.0),
    ("ws_heartbeat_worst_lateness_seconds", 0.0),
    ("ws_heartbeat_write_blocked_seconds_total", 0.0),
];

/// Scrapes until the silent client, suspect for a while, is found out.
async fn check(server: SocketAddr) -> Result<ExitCode> {
    let mut suspected = false;
    let exposition = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let exposition = scrape(server).await?;
        let shows = |series| value(&exposition, series).is_some_and(|value| value > 0.0);
        suspected |= shows("ws_heartbeat_connections{state=\"suspect\"}");
        if shows("ws_heartbeat_verdicts_total{phase=\"pong\"}") {
            break exposition;
        }
    };
    print!("{exposition}");

    let mut code = ExitCode::SUCCESS;
    let mut wrong = |what: fmt::Arguments<'_>| {
        eprintln!("{what}");
        code = ExitCode::FAILURE;
    };
    if !suspected {
        wrong(format_args!("nobody was suspected before the verdict"));
    }
    for (series, least) in EXPECTED {
        match value(&exposition, series) {
            Some(value) if value >= least => {}
            Some(value) => wrong(format_args!("{series} is {value}, less than {least}")),
            None => wrong(format_args!("{series} is missing")),
        }
    }
    Ok(code)
}

async fn scrape(server: SocketAddr) -> Result<String> {
    let mut tcp = TcpStream::connect(server).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    tcp.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no HTTP response")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.into());
    }
    Ok(body.into())
}

fn value(exposition: &str, series: &str) -> Option<f64> {
    let mut lines = exposition.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}
