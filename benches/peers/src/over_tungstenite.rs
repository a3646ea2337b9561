//! Heartbeats over tokio-tungstenite: none, ours, and what people write instead.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{
    Config, Frame, FrameSink, KeepAlive, PingerSet, PingerSetHandle, Rfc6455, TokioTimer,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{self, Instant, MissedTickBehavior, interval, interval_at, sleep};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::PollSender;
use ws_heartbeat::{HeartbeatRegistry, HeartbeatSession};

use crate::Beat;

type Socket = WebSocketStream<TcpStream>;

/// The capacity of the queue before a connection's writer.
const QUEUE: usize = 4;

impl Beat {
    fn config(self) -> Config {
        let config = Config::builder()
            .interval(self.interval)
            .timeout(self.timeout);
        config.build().expect("an interval is longer than zero")
    }
}

/// Serves each connection in a task of its own.
async fn for_each<F>(serve: impl Fn(Socket) -> F + Clone + Send + 'static) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = crate::listen()?;
    // The default of 128 KiB would be most of what a connection takes.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    loop {
        let stream = crate::accept(&listener).await?;
        let serve = serve.clone();
        tokio::spawn(async move {
            if let Ok(socket) = accept_async_with_config(stream, Some(config)).await {
                // In a task of its own: the task of the handshake is as large as the handshake needs it,
                // which would hide what the heartbeat needs.
                tokio::spawn(serve(socket));
            }
        });
    }
}

/// A block instead of an `async fn`, which would hold the stream twice: as its argument and as a variable.
#[allow(clippy::manual_async_fn)]
fn read_to_the_end<E>(
    mut incoming: impl Stream<Item = std::result::Result<Message, E>> + Unpin,
) -> impl Future<Output = ()> {
    async move { while let Some(Ok(_)) = incoming.next().await {} }
}

pub(crate) async fn bare() -> Result<()> {
    for_each(read_to_the_end).await
}

/// With a queue before each connection's writer, to which nobody sends.
pub(crate) async fn bare_queues() -> Result<()> {
    for_each(|socket| {
        let (sink, stream) = socket.split();
        let (queue, messages) = mpsc::channel(QUEUE);
        async move {
            tokio::select! {
                () = read_to_the_end(stream) => {}
                () = write_all(sink, messages) => {}
            }
            drop(queue);
        }
    })
    .await
}

// --- ours ---

pub(crate) async fn keep_alive(beat: Beat) -> Result<()> {
    let config = beat.config();
    for_each(move |socket| {
        read_to_the_end(KeepAlive::new(socket, config.clone()).with_timer(TokioTimer::new()))
    })
    .await
}

/// The set's handle. The set itself runs as long as this process.
fn spawn_set<Si>(beat: Beat) -> PingerSetHandle<Si, ()>
where
    Si: Sink<Frame, Error: Send> + Unpin + Send + 'static,
{
    let mut set = PingerSet::new(beat.config()).with_timer(TokioTimer::new());
    let handle = set.handle();
    tokio::spawn(async move { while set.next().await.is_some() {} });
    handle
}

/// The set has the writing half of each socket, as in a server that sends nothing else.
pub(crate) async fn set(beat: Beat) -> Result<()> {
    let handle = spawn_set(beat);
    for_each(move |socket| {
        let (sink, stream) = socket.split();
        let member = handle.insert(FrameSink::new(sink, Rfc6455));
        async move {
            if let Ok(member) = member {
                read_to_the_end(member.attach(stream, Rfc6455)).await;
            }
        }
    })
    .await
}

/// With a queue before each connection's writer, as a server that also sends messages has it.
pub(crate) async fn set_and_queues(beat: Beat) -> Result<()> {
    let handle = spawn_set(beat);
    for_each(move |socket| {
        let (sink, stream) = socket.split();
        let (queue, messages) = mpsc::channel(QUEUE);
        let member = handle.insert(FrameSink::new(PollSender::new(queue), Rfc6455));
        async move {
            let Ok(member) = member else {
                return;
            };
            let incoming = member.attach(stream, Rfc6455);
            tokio::select! {
                () = read_to_the_end(incoming) => {}
                () = write_all(sink, messages) => {}
            }
        }
    })
    .await
}

async fn write_all(mut sink: SplitSink<Socket, Message>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if sink.send(message).await.is_err() {
            break;
        }
    }
}

// --- the loops ---

/// A careful loop: the payload is random and verified, no write is waited for without end, missed ticks
/// are skipped, and one pinned sleep is armed again for each ping.
pub(crate) async fn select_loop(beat: Beat) -> Result<()> {
    for_each(move |mut socket| async move {
        let Beat { interval, timeout } = beat;
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let deadline = sleep(timeout);
        tokio::pin!(deadline);
        let mut waiting: Option<[u8; 8]> = None;
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Pong(pong))) => {
                        if waiting.is_some_and(|payload| payload == *pong) {
                            waiting = None;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                _ = ticks.tick(), if waiting.is_none() => {
                    let payload: [u8; 8] = rand::random();
                    let ping = Message::Ping(Bytes::copy_from_slice(&payload));
                    let Ok(Ok(())) = time::timeout(timeout, socket.send(ping)).await else {
                        return;
                    };
                    deadline.as_mut().reset(Instant::now() + timeout);
                    waiting = Some(payload);
                }
                () = &mut deadline, if waiting.is_some() => {
                    let frame = CloseFrame { code: CloseCode::Error, reason: "Ping timeout".into() };
                    let _ = time::timeout(timeout, socket.close(Some(frame))).await;
                    return;
                }
            }
        }
    })
    .await
}

/// The loop that most people write: an empty ping at each tick, any pong counts, and the write is waited for.
pub(crate) async fn naive_loop(beat: Beat) -> Result<()> {
    for_each(move |mut socket| async move {
        let mut ticks = interval(beat.interval);
        let mut last_pong = Instant::now();
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Pong(_))) => last_pong = Instant::now(),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                _ = ticks.tick() => {
                    if last_pong.elapsed() > beat.interval + beat.timeout {
                        return;
                    }
                    if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await
}

// --- one task that has all sinks, judges nobody, and waits for each write ---

type Arrival = SplitSink<Socket, Message>;

/// The task pings all sinks in a row.
pub(crate) async fn one_task(beat: Beat) -> Result<()> {
    let (arrivals, mut newcomers) = mpsc::unbounded_channel::<Arrival>();
    tokio::spawn(async move {
        let mut sinks = Vec::new();
        let mut ticks = interval(beat.interval);
        loop {
            ticks.tick().await;
            while let Ok(sink) = newcomers.try_recv() {
                sinks.push(sink);
            }
            let mut index = 0;
            while let Some(sink) = sinks.get_mut(index) {
                if sink.send(Message::Ping(Bytes::new())).await.is_ok() {
                    index += 1;
                } else {
                    drop(sinks.swap_remove(index));
                }
            }
        }
    });
    for_each_stream(arrivals).await
}

/// The task pings each sink an interval after its last ping, on a grid as coarse as ours is by default.
pub(crate) async fn one_task_spread(beat: Beat) -> Result<()> {
    const STEP: Duration = Duration::from_millis(16);

    let (arrivals, mut newcomers) = mpsc::unbounded_channel::<Arrival>();
    tokio::spawn(async move {
        let mut sinks = VecDeque::new();
        let mut ticks = interval(STEP);
        loop {
            let now = ticks.tick().await;
            while let Ok(sink) = newcomers.try_recv() {
                sinks.push_back((now + beat.interval, sink));
            }
            while sinks.front().is_some_and(|(due, _)| *due <= now) {
                let Some((due, mut sink)) = sinks.pop_front() else {
                    break;
                };
                if sink.send(Message::Ping(Bytes::new())).await.is_ok() {
                    sinks.push_back((due + beat.interval, sink));
                }
            }
        }
    });
    for_each_stream(arrivals).await
}

async fn for_each_stream(arrivals: mpsc::UnboundedSender<Arrival>) -> Result<()> {
    for_each(move |socket| {
        let (sink, stream) = socket.split();
        // The task of the sinks runs as long as this process.
        let _ = arrivals.send(sink);
        read_to_the_end(stream)
    })
    .await
}

// --- ws-heartbeat ---

/// A session as the crate's own for axum is: the queue of the connection's writer.
#[derive(Clone)]
struct Session(mpsc::Sender<Message>);

#[async_trait]
impl HeartbeatSession for Session {
    async fn send_ping(self) {
        let _ = self.0.send(Message::Ping(Bytes::new())).await;
    }

    async fn close_session(self) {
        let _ = self.0.send(Message::Close(None)).await;
    }
}

pub(crate) async fn registry(beat: Beat) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let registry = HeartbeatRegistry::new();
    registry.spawn_sweeper(beat.interval, beat.interval + beat.timeout);
    for_each(move |socket| {
        let registry = registry.clone();
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sink, mut stream) = socket.split();
        let (queue, messages) = mpsc::channel(QUEUE);
        registry.register(key, Session(queue));
        async move {
            let reader = async {
                while let Some(Ok(message)) = stream.next().await {
                    if message.is_pong() {
                        registry.touch(&key);
                    }
                }
            };
            tokio::select! {
                () = reader => {}
                () = write_all(sink, messages) => {}
            }
            registry.remove(&key);
        }
    })
    .await
}
