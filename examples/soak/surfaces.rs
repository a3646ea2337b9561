//! The ways to have a heartbeat, each as an application would use it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{InspectOk, SplitSink, SplitStream};
use futures::{Sink, SinkExt, StreamExt, TryStreamExt};
use futures_pinger::{
    End, Error, FrameSink, KeepAlive, PingerSet, Rfc6455, TimedOut, TokioTimer, pinger,
};
use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::PollSender;

use super::ledger::{Life, add};
use super::real::Soak;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// A `KeepAlive` that a loop reads, and nobody polls while a handler works.
    Whole,
    /// A `KeepAlive` in halves, in two tasks.
    Halves,
    /// `pinger()` beside a reader that hands pongs over, with a writer in a task of its own.
    Pinger,
    /// A member of the `PingerSet`, with an attached reader and such a writer.
    Member,
    /// A `KeepAlive` whose handlers run under `run_while`.
    RunWhile,
}

impl Surface {
    pub(crate) const ALL: [Self; 5] = [
        Self::Whole,
        Self::Halves,
        Self::Pinger,
        Self::Member,
        Self::RunWhile,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Halves => "halves",
            Self::Pinger => "pinger",
            Self::Member => "member",
            Self::RunWhile => "run_while",
        }
    }
}

/// How a connection has ended.
#[derive(Debug)]
pub(crate) enum Ending {
    Verdict(TimedOut),
    /// Without a verdict: what the application was told.
    Other(String),
}

impl Ending {
    fn of<T: Debug, E: Debug>(ended: Result<T, Error<E>>) -> Self {
        match ended {
            Err(Error::Timeout(verdict)) => Self::Verdict(verdict),
            ended => Self::Other(format!("{ended:?}")),
        }
    }
}

/// The socket tells the ledger of each pong.
type Socket = InspectOk<WebSocketStream<TcpStream>, Box<dyn FnMut(&Message) + Send>>;
pub(crate) type Outgoing = FrameSink<PollSender<Message>, Rfc6455, Message>;
/// The key of a member is the way to its connection.
pub(crate) type Key = oneshot::Sender<Ending>;
pub(crate) type Set = PingerSet<Outgoing, Key, TokioTimer>;

/// Tells each connection of its departure.
pub(crate) async fn drive(mut set: Set) {
    while let Some(departure) = set.next().await {
        let ending = match departure.end {
            End::Failed(error) => Ending::of::<(), _>(Err(error)),
            end => Ending::Other(format!("{end:?}")),
        };
        // The connection may have ended by itself.
        let _ = departure.key.send(ending);
    }
}

/// Holds a connection to its end.
pub(crate) async fn hold(
    soak: Arc<Soak>,
    life: Arc<Life>,
    socket: WebSocketStream<TcpStream>,
) -> Ending {
    let (seen, counts) = (Arc::clone(&life), Arc::clone(&soak));
    let socket: Socket = socket.inspect_ok(Box::new(move |message| {
        if message.is_pong() {
            seen.prove();
            add(&counts.ledger.of(seen.surface).pongs);
        }
    }));
    let app = App { soak, life };
    match app.life.surface {
        Surface::Whole => app.whole(socket).await,
        Surface::Halves => app.halves(socket).await,
        Surface::Pinger => app.pinger(socket).await,
        Surface::Member => app.member(socket).await,
        Surface::RunWhile => app.run_while(socket).await,
    }
}

struct App {
    soak: Arc<Soak>,
    life: Arc<Life>,
}

impl App {
    /// What the handler of a question takes: a moment, and now and then up to three intervals.
    fn work(&self) -> Duration {
        let counts = self.soak.ledger.of(self.life.surface);
        add(&counts.handled);
        let mut random = rand::rng();
        if random.random_bool(0.875) {
            return Duration::from_millis(random.random_range(1..50));
        }
        add(&counts.slow);
        self.soak.interval.mul_f64(random.random_range(0.0..3.0))
    }

    /// Works on a question, and does not read meanwhile.
    async fn work_alone(&self) {
        let work = self.work();
        self.life.leave(work);
        sleep(work).await;
    }

    async fn whole(self, socket: Socket) -> Ending {
        let config = self.soak.config();
        let mut socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
        let _ = self.life.controller.set(socket.controller());
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(_))) => self.work_alone().await,
                Some(Ok(_)) => {}
                ended => return Ending::of(ended.transpose()),
            }
        }
    }

    async fn run_while(self, socket: Socket) -> Ending {
        let config = self.soak.config();
        let mut socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
        let _ = self.life.controller.set(socket.controller());
        let mut socket = socket.data_only();
        loop {
            match socket.next().await {
                Some(Ok(_)) => {}
                ended => return Ending::of(ended.transpose()),
            }
            let Ok(()) = socket.run_while(sleep(self.work())).await else {
                continue; // The next read tells what has happened.
            };
            // A send that fails is told by the next read, too, unless this is a verdict.
            if let Err(error @ Error::Timeout(_)) = socket.send(Message::text("42")).await {
                return Ending::of::<(), _>(Err(error));
            }
        }
    }

    async fn halves(self, socket: Socket) -> Ending {
        let config = self.soak.config();
        let socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
        let (mut reader, mut writer) = socket.into_split();
        let _ = self.life.controller.set(reader.controller());
        let interval = self.soak.interval;
        // Dropping the set of tasks aborts the writer.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                sleep(silence(interval)).await;
                burst(&mut writer).await?;
            }
        });
        let reading = async {
            loop {
                match reader.next().await {
                    Some(Ok(Message::Text(_))) => self.work_alone().await,
                    Some(Ok(_)) => {}
                    ended => return Ending::of(ended.transpose()),
                }
            }
        };
        let writing = async {
            let written: Option<Result<Result<(), _>, _>> = tasks.join_next().await;
            match written {
                Some(Ok(Err(error @ Error::Timeout(_)))) => Ending::of::<(), _>(Err(error)),
                // The reader decides when the connection is over.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            read = reading => read,
            written = writing => written,
        }
    }

    async fn pinger(self, socket: Socket) -> Ending {
        let (sink, mut incoming) = socket.split();
        let (beat, frames) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(sink, frames, self.soak.interval));

        let outgoing = FrameSink::new(PollSender::new(beat), Rfc6455);
        let (pongs, mut pinger) = pinger(outgoing, self.soak.config());
        let controller = pinger.controller();
        let _ = self.life.controller.set(controller.clone());
        let reading = async {
            loop {
                match incoming.next().await {
                    Some(Ok(Message::Pong(payload))) => drop(pongs.handle_pong(&payload)),
                    Some(Ok(Message::Text(_))) => {
                        // The heartbeat does not know that no pong is read meanwhile.
                        let _ = controller.pause();
                        self.work_alone().await;
                        let _ = controller.resume();
                        // It begins anew.
                        self.life.prove();
                    }
                    Some(Ok(Message::Close(_))) => return Ending::Other("closed".into()),
                    Some(Ok(_)) => {}
                    ended => return Ending::Other(format!("{ended:?}")),
                }
            }
        };
        // In one task: a heartbeat that runs has a reader that runs.
        tokio::select! {
            read = reading => read,
            ended = pinger.with_timer(TokioTimer::new()) => Ending::of(ended),
        }
    }

    async fn member(self, socket: Socket) -> Ending {
        let (sink, incoming): (_, SplitStream<Socket>) = socket.split();
        let (beat, frames) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(sink, frames, self.soak.interval));

        let outgoing = FrameSink::new(PollSender::new(beat), Rfc6455);
        let (key, departed) = oneshot::channel();
        let Ok(member) = self.soak.set.insert_keyed(key, outgoing) else {
            return Ending::Other("the set is gone".into());
        };
        let mut incoming = member.attach(incoming, Rfc6455);
        let reading = async {
            loop {
                match incoming.next().await {
                    Some(Ok(Message::Text(_))) => self.work_alone().await,
                    Some(Ok(_)) => {}
                    ended => return Ending::Other(format!("{ended:?}")),
                }
            }
        };
        tokio::select! {
            read = reading => read,
            Ok(ending) = departed => ending,
        }
    }
}

/// The writer of a connection: frames of the heartbeat first, and data now and then.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut frames: mpsc::Receiver<Message>,
    interval: Duration,
) -> Result<(), tungstenite::Error> {
    loop {
        let data = sleep(silence(interval));
        tokio::pin!(data);
        loop {
            tokio::select! {
                biased;
                frame = frames.recv() => match frame {
                    Some(frame) => sink.send(frame).await?,
                    None => return Ok(()),
                },
                () = &mut data => break,
            }
        }
        burst(&mut sink).await?;
    }
}

/// The time from one burst to the next.
fn silence(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(1.0..3.0))
}

/// More than the kernel takes for a peer that does not read.
async fn burst<Si: Sink<Message> + Unpin>(sink: &mut Si) -> Result<(), Si::Error> {
    const DATA: &[u8] = &[42; 8 * 1024];
    for _ in 0..6 {
        sink.send(Message::Binary(Bytes::from_static(DATA))).await?;
    }
    Ok(())
}
