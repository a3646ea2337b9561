//! A page that shows the heartbeat of every browser tab that has it open, on axum 0.8.
//!
//! `cargo run --example axum_dashboard [PORT]` prints its address. Open it in some tabs, close one,
//! freeze the script of one, stop a whole browser (`kill -STOP`), and see what is found out and when.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error as StdError;
use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_0_8::Router;
use axum_0_8::extract::State as Shared;
use axum_0_8::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum_0_8::http::{HeaderMap, HeaderName, StatusCode, header};
use axum_0_8::response::{IntoResponse, Response};
use axum_0_8::routing::get;
use futures::{SinkExt, StreamExt};
use futures_pinger::{
    Config, Error, HeartbeatState, Instant, KeepAlive, Stats, TimeoutPhase, TokioTimer,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

const SNAPSHOT_EVERY: Duration = Duration::from_millis(500);
/// What a chart shows.
const WINDOW: Duration = Duration::from_secs(60);
/// How long those that are gone stay listed, and how many of them.
const GONE_FOR: Duration = Duration::from_secs(120);
const GONE_MAX: usize = 8;
const LOG_MAX: usize = 40;
const CONNECTIONS_MAX: usize = 50;
/// Pages have nothing to say. What comes is thrown away, and more at once ends the connection.
const INCOMING_MAX: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let port = std::env::args().nth(1).unwrap_or("3000".into());
    if let Err(error) = run(&port).await {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn bind(port: &str) -> Result<TcpListener, String> {
    let number = port.parse::<u16>();
    let number = number.map_err(|error| format!("port {port}: {error}"))?;
    let listener = TcpListener::bind(("127.0.0.1", number)).await;
    listener.map_err(|error| format!("port {port}: {error}"))
}

async fn run(port: &str) -> Result<(), Box<dyn StdError>> {
    let config = Config::builder()
        .initial_delay(Duration::from_millis(250))
        .interval(Duration::from_secs(1))
        .timeout(Duration::from_secs(3))
        .build()?;
    let app = Arc::new(App {
        promised: config.detection_bound().ok_or("nothing is promised")?,
        config,
        board: Mutex::default(),
        snapshots: watch::Sender::default(),
    });
    let router = Router::new()
        .route(
            "/",
            get(async || {
                file(
                    "text/html; charset=utf-8",
                    include_str!("axum_dashboard/index.html"),
                )
            }),
        )
        .route(
            "/style.css",
            get(async || {
                file(
                    "text/css; charset=utf-8",
                    include_str!("axum_dashboard/style.css"),
                )
            }),
        )
        .route(
            "/app.js",
            get(async || {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("axum_dashboard/app.js"),
                )
            }),
        )
        .route("/ws", get(upgrade))
        .with_state(Arc::clone(&app));

    let listener = bind(port).await?;
    println!("listening on http://{}", listener.local_addr()?);
    tokio::select! {
        served = async { axum_0_8::serve(listener, router).await } => served?,
        () = publish(&app) => {}
    }
    Ok(())
}

struct App {
    config: Config,
    promised: Duration,
    board: Mutex<Board>,
    /// The latest only: a page that reads slowly misses some, and nothing queues up for it.
    snapshots: watch::Sender<Utf8Bytes>,
}

impl App {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("nobody panics with the board")
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

// --- HTTP ---

/// A file of the page, which may load nothing from elsewhere.
fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                          connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, text)
}

async fn upgrade(
    request: WebSocketUpgrade,
    headers: HeaderMap,
    Shared(app): Shared<Arc<App>>,
) -> Response {
    // Any page of any site may open a WebSocket to this machine; only our own shall read along.
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    if origin.is_some_and(|(_, origin)| Some(origin) != text(header::HOST)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if app.board().is_full() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let name = browser(text(header::USER_AGENT).unwrap_or_default());
    request
        .max_message_size(INCOMING_MAX)
        .on_upgrade(move |socket| serve(socket, name, app))
}

/// "Chrome 156", as a user agent tells it.
fn browser(agent: &str) -> String {
    const KNOWN: [(&str, &str); 5] = [
        ("Edg/", "Edge"),
        ("HeadlessChrome/", "Headless Chrome"),
        ("Chrome/", "Chrome"),
        ("Firefox/", "Firefox"),
        ("Version/", "Safari"),
    ];
    for (token, name) in KNOWN {
        if let Some((_, version)) = agent.split_once(token) {
            let digits = version
                .bytes()
                .take_while(u8::is_ascii_digit)
                .take(4)
                .count();
            return format!("{name} {}", &version[..digits]);
        }
    }
    "Unknown client".into()
}

// --- a connection ---

/// What is on its way to a page.
enum Outgoing {
    Nothing,
    Next(Message),
    Flushing,
    /// It cannot be written to any more; the reader will learn why.
    Broken,
}

async fn serve(socket: WebSocket, name: String, app: Arc<App>) {
    let mut socket = KeepAlive::new(socket, app.config.clone()).with_timer(TokioTimer::new());
    let id = app.board().join(name, socket.stats(), now());
    let mut snapshots = app.snapshots.subscribe();
    let hello = json!({
        "you": id,
        "interval": millis(app.config.interval()),
        "timeout": app.config.timeout().map(millis),
        "promised": millis(app.promised),
        "window": millis(WINDOW),
    });
    let mut outgoing = Outgoing::Next(Message::text(hello.to_string()));
    let mut farewell = None;

    let ended = loop {
        let idle = matches!(outgoing, Outgoing::Nothing);
        // Both sides of the socket in one task. It is not split, which leaves `stats` at hand: the
        // pongs do not show up among what is read.
        let read = poll_fn(|cx| {
            let writing = matches!(outgoing, Outgoing::Next(_) | Outgoing::Flushing);
            let written = writing && poll_write(&mut socket, &mut outgoing, cx).is_ready();
            let read = socket.poll_next_unpin(cx).map(Some);
            app.board().observe(id, socket.stats(), now());
            match read {
                Poll::Pending if written => Poll::Ready(None),
                // The socket and the heartbeat's timer wake us.
                read => read,
            }
        });
        tokio::select! {
            read = read => match read {
                None => {} // All is written: the next snapshot may come.
                Some(Some(Ok(Message::Close(frame)))) => {
                    farewell = Some(frame);
                    // The answer to it. There is no heartbeat any more, so nobody is waited for.
                    let answer = tokio::time::timeout(app.config.close_timeout(), socket.flush());
                    drop(answer.await);
                    break None;
                }
                Some(Some(Ok(_))) => {}
                Some(Some(Err(error))) => break Some(error),
                Some(None) => break None,
            },
            _ = snapshots.changed(), if idle => {
                let snapshot = snapshots.borrow_and_update().clone();
                outgoing = Outgoing::Next(Message::Text(snapshot));
            }
        }
    };

    let now = now();
    let mut board = app.board();
    board.observe(id, socket.stats(), now);
    match (ended, farewell) {
        (Some(Error::Timeout(verdict)), _) => {
            let why = match verdict.phase() {
                TimeoutPhase::Write => "ping not written",
                _ => "no pong",
            };
            let detail = format!(
                "{verdict}; detected {} after its last proof of life, promised {}",
                seconds(board.silence(id, now)),
                seconds(app.promised),
            );
            board.leave(id, Life::Gone, why, &detail, now);
        }
        (_, Some(frame)) => {
            let code = frame.map_or("no code".into(), |frame| frame.code.to_string());
            board.leave(
                id,
                Life::Left,
                &format!("closed, {code}"),
                "closed by the page",
                now,
            );
        }
        (Some(error), None) => {
            // The error of the transport says more than that it is one.
            let detail = error
                .source()
                .map_or(error.to_string(), ToString::to_string);
            board.leave(id, Life::Gone, "connection broke", &detail, now);
        }
        (None, None) => {
            board.leave(
                id,
                Life::Gone,
                "connection ended",
                "it ended without a close frame",
                now,
            );
        }
    }
}

/// Ready once nothing is left to write.
fn poll_write(
    socket: &mut KeepAlive<WebSocket, futures_pinger::Rfc6455, TokioTimer>,
    outgoing: &mut Outgoing,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let written = match std::mem::replace(outgoing, Outgoing::Flushing) {
        Outgoing::Next(message) => match socket.poll_ready_unpin(cx) {
            Poll::Pending => {
                *outgoing = Outgoing::Next(message);
                return Poll::Pending;
            }
            Poll::Ready(ready) => match ready.and_then(|()| socket.start_send_unpin(message)) {
                Ok(()) => ready!(socket.poll_flush_unpin(cx)),
                error => error,
            },
        },
        Outgoing::Flushing => ready!(socket.poll_flush_unpin(cx)),
        done => {
            *outgoing = done;
            return Poll::Ready(());
        }
    };
    *outgoing = match written {
        Ok(()) => Outgoing::Nothing,
        Err(_) => Outgoing::Broken,
    };
    Poll::Ready(())
}

// --- what is known of all connections ---

#[derive(Default)]
struct Board {
    joined: u64,
    connections: BTreeMap<u64, Connection>,
    logged: u64,
    log: VecDeque<Entry>,
}

struct Connection {
    name: String,
    life: Life,
    since: Instant,
    /// Why it ended.
    why: String,
    stats: Stats,
    /// The last proof of life; at first, when it joined.
    proof: Instant,
    beats: VecDeque<(Instant, Duration)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    Suspect,
    Gone,
    Left,
}

struct Entry {
    number: u64,
    at: Instant,
    id: u64,
    kind: &'static str,
    text: String,
}

impl Life {
    fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
            Self::Left => "left",
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Gone | Self::Left)
    }
}

impl Board {
    fn is_full(&self) -> bool {
        let connections = self.connections.values();
        connections
            .filter(|connection| !connection.life.is_over())
            .count()
            >= CONNECTIONS_MAX
    }

    fn join(&mut self, name: String, stats: Stats, now: Instant) -> u64 {
        self.joined += 1;
        let id = self.joined;
        let connection = Connection {
            name,
            life: Life::Alive,
            since: now,
            why: String::new(),
            stats,
            proof: now,
            beats: VecDeque::new(),
        };
        self.connections.insert(id, connection);
        self.note(id, "joined", "opened the page".into(), now);
        id
    }

    /// Takes down what the heartbeat has seen; each answer is a proof of life.
    fn observe(&mut self, id: u64, stats: Stats, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if stats.answered() > connection.stats.answered() {
            connection.proof = now;
            connection
                .beats
                .extend(stats.latest_rtt().map(|rtt| (now, rtt)));
        }
        connection.stats = stats;
        while connection
            .beats
            .front()
            .is_some_and(|(at, _)| since(*at, now) > WINDOW)
        {
            connection.beats.pop_front();
        }
    }

    fn silence(&self, id: u64, now: Instant) -> Duration {
        let connection = self.connections.get(&id);
        connection.map_or(Duration::ZERO, |connection| since(connection.proof, now))
    }

    fn leave(&mut self, id: u64, life: Life, why: &str, detail: &str, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.life = life;
            connection.since = now;
            connection.why = why.into();
        }
        self.note(id, life.name(), detail.into(), now);
    }

    fn note(&mut self, id: u64, kind: &'static str, text: String, at: Instant) {
        self.logged += 1;
        self.log.push_back(Entry {
            number: self.logged,
            at,
            id,
            kind,
            text,
        });
        if self.log.len() > LOG_MAX {
            self.log.pop_front();
        }
    }

    /// Sees who has become suspect by the mere passing of time, and who no longer is.
    fn judge(&mut self, now: Instant) {
        let mut notes = Vec::new();
        for (&id, connection) in &mut self.connections {
            let state = connection.stats.state_at(now);
            let suspect = matches!(state, HeartbeatState::Suspect | HeartbeatState::Closing);
            let silence = seconds(since(connection.proof, now));
            let (life, text) = match connection.life {
                Life::Alive if suspect => (
                    Life::Suspect,
                    format!("a pong is overdue, last proof of life {silence} ago"),
                ),
                Life::Suspect if !suspect => {
                    let suspected = seconds(since(connection.since, now));
                    (
                        Life::Alive,
                        format!("answers again, was suspect for {suspected}"),
                    )
                }
                _ => continue,
            };
            connection.life = life;
            connection.since = now;
            notes.push((id, life.name(), text));
        }
        for (id, kind, text) in notes {
            self.note(id, kind, text, now);
        }
    }

    fn forget(&mut self, now: Instant) {
        let over = |connection: &Connection| connection.life.is_over();
        let mut surplus = self
            .connections
            .values()
            .filter(|connection| over(connection))
            .count()
            .saturating_sub(GONE_MAX);
        self.connections.retain(|_, connection| {
            let forgotten =
                over(connection) && (surplus > 0 || since(connection.since, now) > GONE_FOR);
            surplus = surplus.saturating_sub(forgotten.into());
            !forgotten
        });
    }

    fn snapshot(&self, now: Instant) -> Value {
        let connections = self
            .connections
            .iter()
            .map(|(id, connection)| connection.snapshot(*id, now));
        let log = self.log.iter().map(|entry| {
            json!({
                "number": entry.number,
                "ago": whole_millis(since(entry.at, now)),
                "id": entry.id,
                "kind": entry.kind,
                "text": entry.text,
            })
        });
        json!({ "connections": connections.collect::<Value>(), "log": log.collect::<Value>() })
    }
}

impl Connection {
    /// Times are so many milliseconds ago: of the time of day the page knows more than we do.
    fn snapshot(&self, id: u64, now: Instant) -> Value {
        let shown = if self.life.is_over() { self.since } else { now };
        let beats = self
            .beats
            .iter()
            .map(|(at, rtt)| json!([whole_millis(since(*at, shown)), millis(*rtt)]));
        json!({
            "id": id,
            "name": self.name,
            "state": self.life.name(),
            "why": self.why,
            "since": whole_millis(since(self.since, now)),
            "silence": whole_millis(since(self.proof, shown)),
            "answered": self.stats.answered(),
            "latest": self.stats.latest_rtt().map(millis),
            "smoothed": self.stats.smoothed_rtt().map(millis),
            "beats": beats.collect::<Value>(),
        })
    }
}

/// Gives each page a new snapshot, for ever.
async fn publish(app: &App) {
    let mut ticks = tokio::time::interval(SNAPSHOT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await.into_std();
        let mut board = app.board();
        board.judge(now);
        board.forget(now);
        app.snapshots
            .send_replace(board.snapshot(now).to_string().into());
    }
}

fn since(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Duration) -> f64 {
    // To the microsecond.
    (1e6 * time.as_secs_f64()).round() / 1e3
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_of_the_port_names_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let taken = listener.local_addr().expect("bound").port().to_string();
        for port in [taken.as_str(), "seven", "65536"] {
            let error = run(port).await.expect_err("no such port, or a used one");
            let error = error.to_string();
            assert!(error.starts_with(&format!("port {port}: ")), "{error}");
        }
    }
}
