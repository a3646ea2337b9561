//! The process with the heartbeats, and with the connections that have none.

use std::net::IpAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{self, Either};
use futures::stream::{self, PollNext};
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt, TryStreamExt};
use futures_pinger::{
    Clock, Config, Error, FrameSink, Instant, KeepAlive, Rfc6455, Stopped, TimeoutPhase,
    TokioTimer, pinger,
};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::{self, Message};

use super::peers::{BUFFER, websocket_config};
use super::{CLOSE_TIMEOUT, lab, millis};

/// The first argument of the program in this role. The peers' address and port follow, the numbers
/// of heartbeats and of controls, whether to spread them, and the times of the configuration.
pub(crate) const ROLE: &str = "app";

/// More than the buffers of a connection, in a few messages.
const MESSAGE: usize = 1 << 20;

fn now() -> Instant {
    Clock::system().now()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("not for ever")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(args));
    ExitCode::SUCCESS
}

/// Until the process ends with the one that started it.
async fn run(args: &[String]) {
    let [address, port, connections, controls, spread, times @ ..] = args else {
        panic!("too few arguments: {args:?}");
    };
    let address: IpAddr = address.parse().expect("an address");
    let port: u16 = port.parse().expect("a port");
    let connections: u32 = connections.parse().expect("a number");
    let controls: u32 = controls.parse().expect("a number");
    let spread: bool = spread.parse().expect("a boolean");
    let times: Vec<_> = times
        .iter()
        .map(|time| time.parse().expect("a number"))
        .collect();
    let times: [u64; 4] = times.try_into().expect("four of them");
    let [interval, initial_delay, timeout, write_timeout] = times.map(Duration::from_micros);
    let config = Config::builder().interval(interval).timeout(timeout);
    let config = config
        .initial_delay(initial_delay)
        .write_timeout(write_timeout);
    let config = config.close_timeout(CLOSE_TIMEOUT).build().expect("valid");

    let (flood, flooding) = watch::channel(false);
    let stalls = Arc::new(Stalls::default());
    let worst_gap = Arc::new(AtomicU64::new(0));
    lab::obey({
        let (stalls, worst_gap) = (Arc::clone(&stalls), Arc::clone(&worst_gap));
        move |command| match command {
            "gap" => worst_gap.swap(0, Ordering::SeqCst),
            "stalled" => micros(stalls.longest()),
            "flood" => u64::from(!flood.send_replace(true)),
            _ => panic!("unknown: {command}"),
        }
    });

    let all = (0..connections + controls).map(|_| connect(address, port));
    let sockets = future::join_all(all).await;
    tokio::spawn(Arc::clone(&stalls).watch());
    let unproven = Arc::new(AtomicUsize::new(connections as usize));
    let step = if spread {
        interval / connections
    } else {
        Duration::ZERO
    };
    for (index, socket) in (0..).zip(sockets) {
        let proof = Arc::new(Mutex::new(None));
        let heard = {
            let (proof, unproven) = (Arc::clone(&proof), Arc::clone(&unproven));
            let worst_gap = Arc::clone(&worst_gap);
            move |message: &Message| {
                if !message.is_pong() {
                    return;
                }
                let now = now();
                match lock(&proof).replace(now) {
                    Some(before) => {
                        let gap = micros(now - before);
                        worst_gap.fetch_max(gap, Ordering::SeqCst);
                    }
                    None if unproven.fetch_sub(1, Ordering::SeqCst) == 1 => {
                        println!("{}", json!({ "ready": 1 }));
                    }
                    None => {}
                }
            }
        };
        let socket = socket.inspect_ok(heard);
        let flooding = flooding.clone();
        let (config, stalls) = (config.clone(), Arc::clone(&stalls));
        tokio::spawn(async move {
            let ended = if index >= connections {
                no_heartbeat(socket, flooding).await
            } else if index % 2 == 0 {
                whole_socket(socket, config.clone(), flooding).await
            } else {
                behind_a_channel(socket, config.clone(), flooding).await
            };
            let found = now();
            let proof = lock(&proof).unwrap_or(found);
            let allowance = allowance(&config, stalls.between(proof, found).await);
            let mut report = json!({
                "control": index >= connections,
                "index": index,
                "found": micros(found - proof),
                "stalled": micros(allowance),
            });
            describe(&mut report, &ended, &config);
            println!("{report}");
        });
        tokio::time::sleep(step).await;
    }
    future::pending::<()>().await;
}

fn describe(report: &mut Value, ended: &Ended, config: &Config) {
    let Err(Error::Timeout(verdict)) = ended else {
        report["ended"] = match ended {
            Err(Error::Transport(_)) => "Transport".into(),
            Ok(Stopped::PongsEnded) => "PongsEnded".into(),
            other => format!("{other:?}").into(),
        };
        return;
    };
    let least = match verdict.phase() {
        TimeoutPhase::Pong => config.timeout().expect("a fixed one"),
        _ => config.write_timeout(),
    };
    report["verdict"] = true.into();
    report["ended"] = format!("{:?}", verdict.phase()).into();
    report["waited"] = micros(verdict.elapsed()).into();
    report["least"] = micros(least).into();
    report["close_sent"] = verdict.close_sent().into();
}

/// By how much the end may be later than in a process that always runs.
fn allowance(config: &Config, stalled: Stalled) -> Duration {
    let timeout = config.timeout().expect("a fixed one");
    // What is not seen as a stall is shorter than a turn.
    let unseen = 2 * Stalls::TURN;
    2 * config.max_missed() * timeout.min(stalled.longest) + stalled.total + unseen
}

async fn connect(
    address: IpAddr,
    port: u16,
) -> impl Stream<Item = Result<Message, tungstenite::Error>>
+ Sink<Message, Error = tungstenite::Error>
+ Unpin
+ Send {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(BUFFER).expect("a size");
    let socket = socket.connect((address, port).into()).await;
    let config = Some(websocket_config());
    let socket = socket.expect("connected");
    let socket = client_async_with_config("ws://localhost/", socket, config).await;
    socket.expect("a handshake").0
}

trait Socket:
    Stream<Item = Result<Message, tungstenite::Error>>
    + Sink<Message, Error = tungstenite::Error>
    + Unpin
    + Send
    + 'static
{
}

impl<S> Socket for S where
    S: Stream<Item = Result<Message, tungstenite::Error>>
        + Sink<Message, Error = tungstenite::Error>
        + Unpin
        + Send
        + 'static
{
}

type Ended = Result<Stopped, Error<tungstenite::Error>>;

/// Data from the command on, without end.
fn data(mut flooding: watch::Receiver<bool>) -> impl Stream<Item = Message> + Send {
    let start = async move {
        // The command may never come; its sender goes with the process.
        let _ = flooding.wait_for(|flooding| *flooding).await;
        stream::repeat_with(|| Message::Binary(vec![0; MESSAGE].into()))
    };
    start.flatten_stream()
}

/// Reads until the end, while it writes as much as goes.
async fn drain<S, E>(socket: S, flooding: watch::Receiver<bool>) -> Result<Stopped, E>
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin + Send,
    E: std::fmt::Debug,
{
    let (mut write, mut read) = socket.split();
    let writer = pin!(async {
        let mut data = pin!(data(flooding).map(Ok));
        // The reader tells how it has ended.
        let _ = write.send_all(&mut data).await;
        future::pending::<()>().await;
    });
    let reader = pin!(async {
        loop {
            match read.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(Stopped::PongsEnded),
            }
        }
    });
    match future::select(reader, writer).await {
        Either::Left((ended, _)) => ended,
        Either::Right(_) => unreachable!("the writer never ends"),
    }
}

async fn no_heartbeat(socket: impl Socket, flooding: watch::Receiver<bool>) -> Ended {
    drain(socket, flooding).await.map_err(Error::Transport)
}

async fn whole_socket(
    socket: impl Socket,
    config: Config,
    flooding: watch::Receiver<bool>,
) -> Ended {
    let socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
    drain(socket, flooding).await
}

/// The writer is a task of its own, which sends frames ahead of data.
async fn behind_a_channel(
    socket: impl Socket,
    config: Config,
    flooding: watch::Receiver<bool>,
) -> Ended {
    let (write, read) = socket.split();
    let (frames, outgoing) = mpsc::channel(0);
    let (pongs, pinger) = pinger(FrameSink::new(frames, Rfc6455), config);
    let both = stream::select_with_strategy(outgoing, data(flooding), |(): &mut ()| PollNext::Left);
    let writer = tokio::spawn(both.map(Ok).forward(write));
    let reader = tokio::spawn(pongs.attach(read, Rfc6455).for_each(|_| future::ready(())));
    let ended = pinger.with_timer(TokioTimer::new()).await;
    tokio::spawn(async move {
        // What was handed over is on its way by then.
        tokio::time::sleep(millis(50)).await;
        writer.abort();
        reader.abort();
    });
    match ended {
        Ok(stopped) => Ok(stopped),
        Err(Error::Timeout(verdict)) => Err(Error::Timeout(verdict)),
        // The writer has gone with the connection.
        Err(_) => Err(Error::Transport(tungstenite::Error::ConnectionClosed)),
    }
}

/// When this process did not run.
#[derive(Default)]
struct Stalls(Mutex<Vec<(Instant, Duration)>>);

#[derive(Debug, Clone, Copy)]
struct Stalled {
    longest: Duration,
    total: Duration,
}

impl Stalls {
    const TURN: Duration = millis(5);

    async fn watch(self: Arc<Self>) {
        loop {
            let asked = tokio::time::Instant::now() + Self::TURN;
            tokio::time::sleep_until(asked).await;
            let late = asked.elapsed();
            if late > Self::TURN {
                lock(&self.0).push((now(), late));
            }
        }
    }

    fn longest(&self) -> Duration {
        let seen = lock(&self.0);
        seen.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    async fn between(&self, from: Instant, to: Instant) -> Stalled {
        // One that is under way is seen at its end.
        tokio::time::sleep(4 * Self::TURN).await;
        let seen = lock(&self.0);
        let within = |(end, late): &&(Instant, Duration)| *end >= from && *end <= to + *late;
        let within = seen.iter().filter(within).map(|(_, late)| *late);
        Stalled {
            longest: within.clone().max().unwrap_or_default(),
            total: within.sum(),
        }
    }
}
