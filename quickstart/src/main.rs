//! The demonstration: a WebSocket server that heartbeats each connection through [`pinger()`], and
//! three clients over real TCP: one that is well, one that falls silent, and one that forges pongs.
//!
//! `cargo run -p quickstart` prints what happens as it happens, and a summary after about
//! eight seconds. It fails unless each client was found to be what it is, within the time promised.

use std::error::Error as StdError;
use std::fmt;
use std::future::{pending, ready};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use futures::{SinkExt, Stream, StreamExt, TryStreamExt};
use futures_pinger::{
    Closed, Config, Error, Frame, FrameSink, PongKind, PongSender, Rfc6455, Stats, Stopped,
    TimeoutPhase, TokioTimer, pinger,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{accept_hdr_async, connect_async};

/// What a client does, and so what the server must find out about it.
#[derive(Clone, Copy)]
struct Script {
    name: &'static str,
    /// The pings that it answers before it goes on to the end.
    answers: u64,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Closes,
    /// It reads no more, and its TCP connection stays open.
    FallsSilent,
    /// It answers each further ping with so many pongs that are not quite right.
    Forges(u8),
}

#[rustfmt::skip]
const CLIENTS: [Script; 3] = [
    Script { name: "healthy", answers: 8, end: End::Closes },
    Script { name: "silent", answers: 3, end: End::FallsSilent },
    Script { name: "forger", answers: 0, end: End::Forges(3) },
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn StdError>> {
    let config = Config::builder()
        .interval(Duration::from_secs(1))
        .write_timeout(Duration::from_millis(500))
        .timeout(Duration::from_millis(1500))
        .build()?;
    let promised = config.detection_bound().ok_or("nothing is promised")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let log = Log::start();
    print(format_args!(
        "{} pings every {:?}: a peer is found gone within {} of its last proof of life",
        listener.local_addr()?,
        config.interval(),
        seconds(promised),
    ));
    let reports = run(&listener, &config, log);
    let reports = tokio::time::timeout(Duration::from_secs(15), reports).await??;
    Ok(summary(&reports, promised, log))
}

/// Runs the clients and the server until each connection has ended; the silent client ends with it.
async fn run(
    listener: &TcpListener,
    config: &Config,
    log: Log,
) -> Result<Vec<Report>, Box<dyn StdError>> {
    let server = listener.local_addr()?;
    let mut clients = JoinSet::new();
    let mut connections = JoinSet::new();
    for script in CLIENTS {
        clients.spawn(client(server, script));
        let (tcp, _) = listener.accept().await?;
        connections.spawn(serve(tcp, config.clone(), log));
    }
    let reports = connections.join_all().await;
    Ok(reports.into_iter().collect::<Result<_, _>>()?)
}

// --- the server ---

/// What became of a connection.
struct Report {
    name: String,
    ended: Result<Stopped, Error<WsError>>,
    stats: Stats,
    /// From the last proof of life to the end.
    silence: Duration,
}

/// One connection: its reader and its heartbeat, side by side in one task.
async fn serve(tcp: TcpStream, config: Config, log: Log) -> Result<Report, WsError> {
    let mut name = String::new();
    // The size of the error is tungstenite's choice.
    #[allow(clippy::result_large_err)]
    let ask_name = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        name = request.uri().path().trim_start_matches('/').to_owned();
        Ok(response)
    };
    let (sink, incoming) = accept_hdr_async(tcp, ask_name).await?.split();
    let say = |what: &str, detail: fmt::Arguments<'_>| log.event(&name, what, detail);
    say("open", format_args!("connected"));

    // The heartbeat owns the sink, as this server sends nothing else. One that does forwards an
    // `mpsc::channel(0)` of messages into the sink, and gives the heartbeat one of its senders
    // (`sender.clone().with(..)`) and whoever has data another.
    let mut sent = 0;
    let outgoing = FrameSink::new(sink, Rfc6455).with(move |frame| {
        match &frame {
            Frame::Ping(_) => {
                sent += 1;
                say("ping", format_args!("#{sent}"));
            }
            Frame::Close(reason) => {
                say(
                    "close",
                    format_args!("{} {}", reason.code(), reason.reason()),
                );
            }
            Frame::Pong(_) => {}
        }
        ready(Ok::<_, WsError>(frame))
    });
    let (pongs, pinger) = pinger(outgoing, config);
    let mut pinger = pin!(pinger.with_timer(TokioTimer::new()));

    // Without a proof of life the time counts from the first poll, as the first ping is due one
    // interval after it.
    let mut proof = Instant::now();
    let ended = tokio::select! {
        read = read(incoming, pongs, say, &mut proof) => {
            read?;
            // The reader has dropped its `pongs`, which ends the heartbeat too.
            pinger.as_mut().await
        }
        // The verdict. Nothing more is read, and the return closes the TCP connection: a silent
        // peer never would.
        ended = pinger.as_mut() => ended,
    };
    let silence = proof.elapsed();

    match &ended {
        Ok(stopped) => say("end", format_args!("closed by the client ({stopped:?})")),
        Err(Error::Transport(error)) => say("broken", format_args!("{error}")),
        Err(verdict) => say("gone", format_args!("{verdict}")),
    }
    Ok(Report {
        ended,
        stats: pinger.stats(),
        silence,
        name,
    })
}

/// Hands each pong over until the connection ends. After a close frame it reads on, which completes
/// the closing handshake.
async fn read(
    mut incoming: impl Stream<Item = Result<Message, WsError>> + Unpin,
    pongs: PongSender,
    say: impl Fn(&str, fmt::Arguments<'_>),
    proof: &mut Instant,
) -> Result<(), WsError> {
    while let Some(message) = incoming.try_next().await? {
        let Message::Pong(payload) = message else {
            // The application's data would be handled here.
            continue;
        };
        match pongs.handle_pong(&payload) {
            Ok(PongKind::Unsolicited) => {
                say("forged", format_args!("pong ignored"));
                continue;
            }
            Ok(PongKind::Matched { rtt }) => say("pong", format_args!("rtt {}", millis(rtt))),
            Ok(kind) => say("pong", format_args!("{kind:?}")),
            Err(Closed) => break,
        }
        *proof = Instant::now();
    }
    Ok(())
}

// --- the clients ---

async fn client(server: SocketAddr, script: Script) -> Result<(), WsError> {
    let (mut socket, _) = connect_async(format!("ws://{server}/{}", script.name)).await?;
    for _ in 0..script.answers {
        // tungstenite prepares the pong when it reads the ping; the flush sends it.
        socket.try_next().await?;
        socket.flush().await?;
    }
    match script.end {
        End::Closes => {
            socket.close(None).await?;
            while socket.try_next().await?.is_some() {}
        }
        End::FallsSilent => pending().await,
        End::Forges(count) => {
            while let Some(Message::Ping(payload)) = socket.try_next().await? {
                for forgery in 1..=count {
                    let mut payload = payload.to_vec();
                    if let Some(last) = payload.last_mut() {
                        *last ^= forgery;
                    }
                    // It replaces the honest pong that tungstenite has prepared.
                    socket.feed(Message::Pong(payload.into())).await?;
                }
                socket.flush().await?;
            }
        }
    }
    Ok(())
}

// --- the judgement ---

impl Report {
    fn outcome(&self) -> String {
        match &self.ended {
            Ok(stopped) => format!("client closed ({stopped:?})"),
            Err(Error::Timeout(verdict)) => format!("timed out (phase {:?})", verdict.phase()),
            Err(_) => "transport failed".into(),
        }
    }

    /// From the last proof of life to the verdict, if that is how it ended. It includes the close
    /// frame, for which `close_timeout` + granularity more are promised: here it leaves at once.
    fn found_in(&self) -> Option<Duration> {
        matches!(self.ended, Err(Error::Timeout(_))).then_some(self.silence)
    }

    fn is_expected(&self, script: Script, promised: Duration) -> bool {
        let ended = match (&self.ended, script.end) {
            (Ok(Stopped::PongsEnded), End::Closes) => true,
            (Err(Error::Timeout(verdict)), End::FallsSilent | End::Forges(_)) => {
                // Where this process stalled, it has waited for what the stall may have hidden.
                let in_time = self.silence <= promised + 3 * verdict.lateness();
                verdict.phase() == TimeoutPhase::Pong && in_time
            }
            _ => false,
        };
        let forged = match script.end {
            End::Forges(count) => count.into(),
            End::Closes | End::FallsSilent => 0,
        };
        ended && self.stats.answered() == script.answers && self.stats.unsolicited() == forged
    }
}

fn summary(reports: &[Report], promised: Duration, log: Log) -> ExitCode {
    print(format_args!(
        "\n{:<10}  {:>8}  {:>6}  {:>8}  {:<26}  {:>8}  {:>8}",
        "connection", "answered", "forged", "last rtt", "outcome", "found in", "promised"
    ));
    let mut code = ExitCode::SUCCESS;
    for script in CLIENTS {
        let Some(report) = reports.iter().find(|report| report.name == script.name) else {
            print(format_args!("{:<10}  never came", script.name));
            code = ExitCode::FAILURE;
            continue;
        };
        let judgement = if report.is_expected(script, promised) {
            log.paint(GREEN, "ok")
        } else {
            code = ExitCode::FAILURE;
            log.paint(RED, "WRONG")
        };
        let found_in = report.found_in();
        print(format_args!(
            "{:<10}  {:>8}  {:>6}  {:>8}  {:<26}  {:>8}  {:>8}  {judgement}",
            report.name,
            report.stats.answered(),
            report.stats.unsolicited(),
            report.stats.latest_rtt().map_or("-".into(), millis),
            report.outcome(),
            found_in.map_or("-".into(), seconds),
            found_in.map_or("-".into(), |_| seconds(promised)),
        ));
    }
    code
}

// --- the output ---

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

#[derive(Clone, Copy)]
struct Log {
    start: Instant,
    colour: bool,
}

impl Log {
    fn start() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            start: Instant::now(),
            colour: io::stdout().is_terminal() && !no_colour,
        }
    }

    fn event(self, name: &str, what: &str, detail: fmt::Arguments<'_>) {
        let since = seconds(self.start.elapsed());
        let padded = format!("{what:<6}");
        let what = match what {
            "pong" => self.paint(GREEN, &padded),
            "forged" => self.paint(YELLOW, &padded),
            "gone" => self.paint(RED, &padded),
            _ => padded,
        };
        print(format_args!("{since:>8}  {name:<7}  {what}  {detail}"));
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn print(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        // Who reads through `head` has seen enough; that is no failure.
        std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.3} ms", 1e3 * time.as_secs_f64())
}
