//! What a heartbeat costs each message that passes it: a bare socket, [`KeepAlive`], and two `select!`
//! loops around the socket, a careful one and the usual one, on tokio-tungstenite with frames of 32 bytes.
//!
//! `cargo bench --bench messages` prints how long each takes beside the bare socket. Wall-clock times
//! of such small things are rough; `.ci/message-cost` counts instructions, for which it calls
//!
//! ```text
//! messages SHAPE CONTESTANT COUNT      one run of COUNT messages
//! messages looks COUNT                 how often KeepAlive looked at clock and timer in a burst
//! messages loopback COUNT              CPU time of a server that echoes COUNT messages over TCP, for BENCHMARKS.md
//! ```
//!
//! A future is polled by hand, and again as soon as it is pending: no scheduler takes part.

// Here the time that passes is the subject; no heartbeat reads it.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::env;
use std::fs;
use std::future::Future;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{Clock, Config, KeepAlive, Liveness, Timer, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{MissedTickBehavior, interval_at, sleep};
use tokio_tungstenite::WebSocketStream;
use tungstenite_0_30::Message;
use tungstenite_0_30::protocol::{Role, WebSocketConfig};

/// Far enough off that no ping falls into a run.
const INTERVAL: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(20);

const PAYLOAD: [u8; 32] = *b"a message of exactly 32 bytes ..";
const FRAME: [u8; 34] = {
    // The last fragment, binary, not masked (RFC 6455 §5.2): from a server.
    let mut frame = [0; 34];
    frame[0] = 0x82;
    frame[1] = 32;
    let mut i = 0;
    while i < PAYLOAD.len() {
        frame[i + 2] = PAYLOAD[i];
        i += 1;
    }
    frame
};

/// How the messages come and go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Received, the next one there already.
    Burst,
    /// Received one at a time, with nothing to read after each.
    Single,
    /// Sent and flushed one at a time.
    Send,
    /// Received one at a time, and sent back.
    Echo,
}

const SHAPES: [(&str, Shape); 4] = [
    ("burst", Shape::Burst),
    ("single", Shape::Single),
    ("send", Shape::Send),
    ("echo", Shape::Echo),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Bare,
    KeepAlive,
    /// [`KeepAlive`] with a controller, which somebody keeps.
    Controlled,
    /// [`KeepAlive`] with a ping out all the time.
    PingOut,
    /// [`KeepAlive`] that takes activity for a sign of life.
    Activity,
    /// The careful loop. Its sender writes to the socket: there is nothing to measure for [`Shape::Send`].
    Select,
    /// The usual one.
    Interval,
}

const CONTESTANTS: [(&str, Contestant); 7] = [
    ("bare", Contestant::Bare),
    ("keep-alive", Contestant::KeepAlive),
    ("controlled", Contestant::Controlled),
    ("ping-out", Contestant::PingOut),
    ("activity", Contestant::Activity),
    ("select", Contestant::Select),
    ("interval", Contestant::Interval),
];

/// A transport that has so many frames to read, and swallows what is written.
struct Wire {
    frames: usize,
    /// How much of the current frame is read.
    offset: usize,
    single: bool,
    /// With `single`: the frame before was read, so say that there is nothing.
    drained: bool,
    /// At the end there is nothing to read, instead of the end of the connection.
    stays: bool,
}

impl Wire {
    fn new(shape: Shape, messages: usize) -> Self {
        let stays = shape == Shape::Send;
        Self {
            frames: if stays { 0 } else { messages },
            offset: 0,
            single: matches!(shape, Shape::Single | Shape::Echo),
            drained: true,
            stays,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.single && !self.drained {
            // Pending: whoever polls by hand comes back.
            self.drained = true;
            return Poll::Pending;
        }
        if self.frames == 0 && self.stays {
            return Poll::Pending;
        }
        while self.frames > 0 && buf.remaining() > 0 {
            let rest = &FRAME[self.offset..];
            let n = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..n]);
            self.offset += n;
            if self.offset == FRAME.len() {
                self.offset = 0;
                self.frames -= 1;
            }
            if self.single {
                self.drained = false;
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

type Socket = WebSocketStream<Wire>;

fn socket(shape: Shape, messages: usize) -> Socket {
    // A server does not mask what it sends: making masks would be most of the work.
    let role = match shape {
        Shape::Burst | Shape::Single | Shape::Echo => Role::Client,
        Shape::Send => Role::Server,
    };
    // The default is cleared before each read, all 128 KiB of it: nothing else would be seen.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let socket = Socket::from_raw_socket(Wire::new(shape, messages), role, Some(config));
    socket.now_or_never().expect("there is no handshake")
}

fn config(contestant: Contestant) -> Config {
    let builder = Config::builder().interval(INTERVAL).timeout(TIMEOUT);
    let builder = match contestant {
        // The peer does not answer, and has all the time to.
        Contestant::PingOut => builder.initial_delay(Duration::ZERO).timeout(INTERVAL),
        Contestant::Activity => builder.liveness(Liveness::Activity {
            max_unproven: INTERVAL,
        }),
        _ => builder,
    };
    builder.build().expect("the durations are not zero")
}

/// Both return how many messages they have read.
async fn read<S, E>(mut socket: S) -> usize
where
    S: Stream<Item = Result<Message, E>> + Unpin,
{
    let mut count = 0;
    while let Some(Ok(message)) = socket.next().await {
        black_box(&message);
        count += 1;
    }
    count
}

/// Sends back what it reads, and returns how many messages there were.
async fn echo<S, E>(mut socket: S) -> usize
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
{
    let mut count = 0;
    while let Some(Ok(message)) = socket.next().await {
        if socket.send(message).await.is_err() {
            break;
        }
        count += 1;
    }
    count
}

/// What users write, the careful version: as the loop in `baseline`, but on the socket itself.
async fn select<S>(mut socket: WebSocketStream<S>, echo: bool) -> usize
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ticks = interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = sleep(TIMEOUT);
    tokio::pin!(deadline);
    let mut waiting: Option<[u8; 8]> = None;
    let mut count = 0;

    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Pong(pong))) => {
                    if waiting.is_some_and(|payload| payload == *pong) {
                        waiting = None;
                    }
                }
                Some(Ok(message)) => {
                    black_box(&message);
                    if echo && socket.send(message).await.is_err() {
                        return count;
                    }
                    count += 1;
                }
                Some(Err(_)) | None => return count,
            },
            _ = ticks.tick(), if waiting.is_none() => {
                let payload: [u8; 8] = rand::random();
                let ping = Message::Ping(Bytes::copy_from_slice(&payload));
                if socket.send(ping).await.is_err() {
                    return count;
                }
                deadline.as_mut().reset(tokio::time::Instant::now() + TIMEOUT);
                waiting = Some(payload);
            }
            () = &mut deadline, if waiting.is_some() => {
                let _ = socket.close(None).await;
                return count;
            }
        }
    }
}

/// What most people write: an empty ping at each tick, any pong counts, and writes are waited for.
async fn interval<S>(mut socket: WebSocketStream<S>, echo: bool) -> usize
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ticks = interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
    let mut last_pong = tokio::time::Instant::now();
    let mut count = 0;

    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Pong(_))) => last_pong = tokio::time::Instant::now(),
                Some(Ok(message)) => {
                    black_box(&message);
                    if echo && socket.send(message).await.is_err() {
                        return count;
                    }
                    count += 1;
                }
                Some(Err(_)) | None => return count,
            },
            _ = ticks.tick() => {
                let ping = Message::Ping(Bytes::new());
                if last_pong.elapsed() > INTERVAL + TIMEOUT || socket.send(ping).await.is_err() {
                    return count;
                }
            }
        }
    }
}

async fn send<S, E>(mut socket: S, messages: usize) -> usize
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
{
    // The heartbeat begins with the first look at the stream.
    assert!(socket.next().now_or_never().is_none(), "nothing to read");
    let mut count = 0;
    while count < messages {
        let message = Message::Binary(Bytes::from_static(&PAYLOAD));
        if socket.send(message).await.is_err() {
            break;
        }
        count += 1;
    }
    count
}

/// The task of [`drive`], which is polled anyway.
struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}

    fn wake_by_ref(self: &Arc<Self>) {}
}

/// Whether all of the messages came through.
fn drive(messages: usize, run: impl Future<Output = usize>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be built");
    // Entered and not blocked on: inside a task tokio would make every 128th poll yield.
    let _entered = runtime.enter();
    let mut run = pin!(run);
    // A waker that is counted, as those of executors are.
    let waker = Waker::from(Arc::new(Nobody));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(count) = run.as_mut().poll(&mut cx) {
            return count == messages;
        }
    }
}

fn run(shape: Shape, contestant: Contestant, messages: usize) -> bool {
    let socket = socket(shape, messages);
    match contestant {
        // tokio's timers are made inside the runtime.
        Contestant::Select if shape != Shape::Send => drive(messages, async {
            select(socket, shape == Shape::Echo).await
        }),
        Contestant::Interval if shape != Shape::Send => drive(messages, async {
            interval(socket, shape == Shape::Echo).await
        }),
        Contestant::Bare | Contestant::Select | Contestant::Interval => {
            pass(shape, socket, messages)
        }
        _ => {
            let alive = KeepAlive::new(socket, config(contestant));
            let mut alive = alive.with_timer(TokioTimer::new());
            let _controller = (contestant == Contestant::Controlled).then(|| alive.controller());
            pass(shape, alive, messages)
        }
    }
}

fn pass<S, E>(shape: Shape, socket: S, messages: usize) -> bool
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
{
    match shape {
        Shape::Burst | Shape::Single => drive(messages, read(socket)),
        Shape::Send => drive(messages, send(socket, messages)),
        Shape::Echo => drive(messages, echo(socket)),
    }
}

/// tokio's timer, and how often it was asked.
#[derive(Default)]
struct Counted {
    timer: TokioTimer,
    clock_reads: Rc<Cell<usize>>,
    timer_polls: Rc<Cell<usize>>,
}

impl Timer for Counted {
    fn clock(&self) -> Clock {
        self.timer.clock()
    }

    fn now(&self) -> Instant {
        self.clock_reads.set(self.clock_reads.get() + 1);
        self.timer.now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        Pin::new(&mut self.timer).reset(deadline);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer_polls.set(self.timer_polls.get() + 1);
        Pin::new(&mut self.timer).poll_elapsed(cx)
    }
}

fn looks(messages: usize) -> bool {
    let timer = Counted::default();
    let (clock_reads, timer_polls) = (Rc::clone(&timer.clock_reads), Rc::clone(&timer.timer_polls));
    let config = config(Contestant::KeepAlive);
    let socket = KeepAlive::new(socket(Shape::Burst, messages), config).with_timer(timer);
    let all = drive(messages, read(socket));
    println!("clock_reads {}", clock_reads.get());
    println!("timer_polls {}", timer_polls.get());
    all
}

/// Wall-clock time of each beside the bare socket's. The best of some runs in turn, so that a busy
/// machine does not favour one.
fn table() -> bool {
    const MESSAGES: usize = 50_000;
    const ROUNDS: usize = 15;

    println!("{:<8}{:>8}{:>12}{:>9}", "", "bare", "keep-alive", "select!");
    for (name, shape) in SHAPES {
        let mut best = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            let contestants = [Contestant::Bare, Contestant::KeepAlive, Contestant::Select];
            for (contestant, best) in contestants.into_iter().zip(&mut best) {
                let started = Instant::now();
                if !run(shape, contestant, MESSAGES) {
                    return false;
                }
                *best = (*best).min(started.elapsed());
            }
        }
        let [bare, keep_alive, select] = best.map(|best| best.as_secs_f64());
        let (keep_alive, select) = (keep_alive / bare, select / bare);
        if shape == Shape::Send {
            println!("{name:<8}{:>8.2}{keep_alive:>12.2}{:>9}", 1.0, "-");
        } else {
            println!("{name:<8}{:>8.2}{keep_alive:>12.2}{select:>9.2}", 1.0);
        }
    }
    true
}

/// Echoes of one message at a time over the loopback: the CPU time of the server's thread beside the bare
/// socket's, the best of some rounds in turn. Leaves the figures for BENCHMARKS.md.
fn loopback(messages: usize) -> bool {
    const ROUNDS: usize = 11;

    let contestants = [
        ("bare", Contestant::Bare),
        ("keep-alive", Contestant::KeepAlive),
        ("select", Contestant::Select),
        ("interval", Contestant::Interval),
    ];
    let mut best = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        for ((_, contestant), best) in contestants.into_iter().zip(&mut best) {
            let Some(took) = serve_one(contestant, messages) else {
                return false;
            };
            *best = (*best).min(took);
        }
    }
    let bare = best[0].as_secs_f64();
    println!("CPU of the server for each of {messages} echoes over the loopback, in us");
    let mut figures = serde_json::Map::new();
    for ((name, _), best) in contestants.into_iter().zip(best) {
        let each = 1e6 * best.as_secs_f64() / f64::from(u32::try_from(messages).expect("few"));
        println!("{name:<12}{each:>7.2}{:>9.3}", best.as_secs_f64() / bare);
        figures.insert(name.into(), each.into());
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loopback.json");
    let written = fs::write(&path, serde_json::Value::from(figures).to_string());
    written.is_ok()
}

/// The CPU time that a server takes on a thread of its own. None: not all of the messages came back.
fn serve_one(contestant: Contestant, messages: usize) -> Option<Duration> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).ok()?;
    let address = listener.local_addr().ok()?;
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_all()
            .build()
            .expect("a runtime can be built")
    };
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            let (tcp, _) = listener.accept().expect("a connection");
            tcp.set_nonblocking(true).expect("possible");
            tcp.set_nodelay(true).expect("possible");
            let tcp = tokio::net::TcpStream::from_std(tcp).expect("possible");
            let config = WebSocketConfig::default().read_buffer_size(4096);
            let socket = tokio_tungstenite::accept_async_with_config(tcp, Some(config));
            let socket = socket.await.expect("a handshake");
            let start = cpu_time();
            let count = match contestant {
                Contestant::Bare => echo(socket).await,
                Contestant::Select => select(socket, true).await,
                Contestant::Interval => interval(socket, true).await,
                _ => {
                    let alive = KeepAlive::new(socket, crate::config(contestant));
                    echo(alive.with_timer(TokioTimer::new())).await
                }
            };
            (count, cpu_time().saturating_sub(start))
        })
    });
    let client = runtime().block_on(async {
        let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{address}")).await?;
        for _ in 0..messages {
            client
                .send(Message::Binary(Bytes::from_static(&PAYLOAD)))
                .await?;
            client.next().await.transpose()?;
        }
        client.close(None).await
    });
    let (count, took) = server.join().ok()?;
    // The close frame is a message as well.
    (client.is_ok() && count >= messages).then_some(took)
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it is not negative")
}

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}

fn main() -> ExitCode {
    // cargo adds this one.
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => Some(table()),
        ["looks", count] => count.parse().ok().map(looks),
        ["loopback", count] => count.parse().ok().map(loopback),
        [shape, contestant, count] => named(&SHAPES, shape)
            .zip(named(&CONTESTANTS, contestant))
            .zip(count.parse().ok())
            .map(|((shape, contestant), count)| run(shape, contestant, count)),
        _ => None,
    };
    match done {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => {
            eprintln!("not all of the messages came through");
            ExitCode::FAILURE
        }
        None => {
            eprintln!(
                "usage: messages [burst|single|send|echo \
                 bare|keep-alive|controlled|ping-out|activity|select|interval COUNT], looks COUNT, or loopback COUNT"
            );
            ExitCode::FAILURE
        }
    }
}
