//! A [`KeepAlive`] over the scripted socket of `futures_pinger::testing`, polled by hand.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::testing::{Answer, ScriptedSocket, SocketScript};
use futures_pinger::{
    ConfigBuilder, Error, Frame, Interrupted, KeepAlive, MessageKind, Protocol, Stats, TimedOut,
};

use crate::world::{Broken, Fault, ManualTimer, World};

/// The messages of the scripted socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Msg {
    Data(u32),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

/// Their protocol.
pub struct Plain;

impl Protocol<Msg> for Plain {
    fn encode(&self, frame: Frame) -> Option<Msg> {
        Some(match frame {
            Frame::Ping(payload) => Msg::Ping(payload),
            Frame::Pong(payload) => Msg::Pong(payload),
            Frame::Close(_) => Msg::Close,
        })
    }

    fn classify<'m>(&self, message: &'m Msg) -> MessageKind<'m> {
        match message {
            Msg::Data(_) => MessageKind::Data,
            Msg::Ping(payload) => MessageKind::Ping(payload),
            Msg::Pong(payload) => MessageKind::Pong(payload[..].into()),
            Msg::Close => MessageKind::Close,
        }
    }
}

/// The socket of the kit, and what some sockets put up with beyond it.
pub struct Socket {
    socket: ScriptedSocket<Msg>,
    tolerant: Arc<AtomicBool>,
    limits: Arc<Limits>,
}

/// What the sink refuses, and how often it is asked.
#[derive(Default)]
pub struct Limits {
    /// So many pings are refused.
    refusals: AtomicUsize,
    /// Polls of the sink.
    polls: AtomicUsize,
}

/// The handle by which a test moves the socket.
#[derive(Clone)]
pub struct Script {
    script: SocketScript<Msg>,
    tolerant: Arc<AtomicBool>,
    limits: Arc<Limits>,
}

impl Deref for Script {
    type Target = SocketScript<Msg>;

    fn deref(&self) -> &SocketScript<Msg> {
        &self.script
    }
}

// Tests take some of these by their path, which finds no method of the target.
impl Script {
    pub fn receive_error(&self) {
        self.script.receive_error();
    }

    pub fn end(&self) {
        self.script.end();
    }

    pub fn block(&self) {
        self.script.block();
    }

    pub fn block_flush(&self) {
        self.script.block_flush();
    }

    pub fn unblock_quietly(&self) {
        self.script.unblock_quietly();
    }

    /// Always one more message of data.
    pub fn flood(&self) {
        let mut numbers = 1..;
        self.script
            .flood(move || Msg::Data(numbers.next().expect("endless")));
    }

    /// Always one more ping of the peer.
    pub fn flood_pings(&self) {
        self.script
            .flood(|| Msg::Ping(Bytes::from_static(b"flood")));
    }

    /// Takes messages without readiness too, as some sockets do.
    pub fn tolerate(&self) {
        self.tolerant.store(true, Ordering::Relaxed);
    }

    /// The next pings are refused, so many of them.
    pub fn refuse(&self, pings: usize) {
        self.limits.refusals.store(pings, Ordering::Relaxed);
    }

    /// How often the sink was polled.
    pub fn sink_polls(&self) -> usize {
        self.limits.polls.load(Ordering::Relaxed)
    }

    /// The sink fails from now on.
    pub fn break_sink(&self) {
        self.script.fail(Fault::Ready);
        self.script.fail(Fault::Flush);
    }

    pub fn data(&self) -> Vec<u32> {
        let sent = self.sent().into_iter();
        let data = sent.filter_map(|(_, message)| match message {
            Msg::Data(number) => Some(number),
            _ => None,
        });
        data.collect()
    }
}

impl Stream for Socket {
    type Item = Result<Msg, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.socket.poll_next_unpin(cx)
    }
}

impl Sink<Msg> for Socket {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.limits.polls.fetch_add(1, Ordering::Relaxed);
        self.socket.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Msg) -> Result<(), Broken> {
        let refusals = &self.limits.refusals;
        if matches!(message, Msg::Ping(_)) && refusals.load(Ordering::Relaxed) > 0 {
            refusals.fetch_sub(1, Ordering::Relaxed);
            return Err(Broken);
        }
        if self.tolerant.load(Ordering::Relaxed) {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = self.socket.poll_ready_unpin(&mut cx);
        }
        self.socket.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.limits.polls.fetch_add(1, Ordering::Relaxed);
        self.socket.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.socket.poll_close_unpin(cx)
    }
}

/// A waker of a test that polls by hand.
#[derive(Default)]
pub struct Woken {
    pub flag: AtomicBool,
    pub count: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

pub type Alive = KeepAlive<Socket, Plain, ManualTimer>;

/// A [`KeepAlive`] in a [`World`], with a reader's and a writer's task.
pub struct Kept {
    pub world: World,
    pub script: Script,
    pub alive: Pin<Box<Alive>>,
    pub reader: Arc<Woken>,
    pub writer: Arc<Woken>,
    /// What the reader was given, with the times.
    pub read: Vec<(Duration, Result<Msg, Error<Broken>>)>,
    pub ended: Option<Duration>,
    pub extra_polls: usize,
}

impl Kept {
    pub fn new(config: ConfigBuilder) -> Self {
        Self::with_lookahead(config, 16)
    }

    /// The same with a lookahead of so many messages.
    pub fn with_lookahead(config: ConfigBuilder, lookahead: usize) -> Self {
        let world = World::new();
        let (socket, script) = world.socket(Plain);
        let (tolerant, limits) = (Arc::default(), Arc::<Limits>::default());
        let socket = Socket {
            socket,
            tolerant: Arc::clone(&tolerant),
            limits: Arc::clone(&limits),
        };
        let config = config.build().expect("valid");
        let alive = KeepAlive::with_protocol(socket, Plain, config)
            .with_timer(world.timer())
            .with_lookahead(lookahead);
        let reader = Arc::new(Woken::default());
        reader.flag.store(true, Ordering::Relaxed);
        Self {
            world,
            script: Script {
                script,
                tolerant,
                limits,
            },
            alive: Box::pin(alive),
            reader,
            writer: Arc::default(),
            read: Vec::new(),
            ended: None,
            extra_polls: 0,
        }
    }

    /// The same, and nothing but data is yielded.
    pub fn data_only(mut self) -> Self {
        self.alive = Box::pin(Pin::into_inner(self.alive).data_only());
        self
    }

    /// The peer answers each ping after `rtt`.
    pub fn answer_after(&self, rtt: Duration) {
        self.script.peer().answer_after(rtt);
    }

    /// The peer answers the ping of that number (from 0) after what `rtt` says, if anything.
    pub fn answer(&self, rtt: impl Fn(usize) -> Option<Duration> + Send + 'static) {
        let peer = self.script.peer();
        peer.answer(move |ping| rtt(ping).map_or(Answer::Lost, Answer::After));
    }

    pub fn at(&self, time: Duration, event: impl FnOnce(&Script) + Send + 'static) {
        let script = self.script.clone();
        self.world.at(time, move || event(&script));
    }

    /// The reader polls once; whether it was given something.
    pub fn read_once(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.reader));
        let polled = self
            .alive
            .as_mut()
            .poll_next(&mut Context::from_waker(&waker));
        let now = self.world.elapsed();
        match polled {
            Poll::Ready(Some(item)) => {
                self.read.push((now, item));
                true
            }
            Poll::Ready(None) => {
                self.ended = Some(now);
                false
            }
            Poll::Pending => false,
        }
    }

    /// The reader reads all there is, whenever it is woken, until `time`.
    pub fn run_until(&mut self, time: Duration) {
        loop {
            self.read_while_woken();
            if !self.world.step(time) {
                break;
            }
        }
        self.read_while_woken();
    }

    fn read_while_woken(&mut self) {
        let mut polls = 0;
        while self.reader.flag.swap(false, Ordering::Relaxed) {
            while self.read_once() {}
            polls += 1;
            assert!(polls < 100_000, "a busy loop at {:?}", self.world.elapsed());
        }
        for _ in 0..self.extra_polls {
            while self.read_once() {}
        }
    }

    /// Time goes on without a poll.
    pub fn idle_until(&mut self, time: Duration) {
        while self.world.step(time) {}
    }

    fn writing(&self) -> Waker {
        Waker::from(Arc::clone(&self.writer))
    }

    pub fn poll_ready(&mut self) -> Poll<Result<(), Error<Broken>>> {
        let waker = self.writing();
        self.alive
            .as_mut()
            .poll_ready(&mut Context::from_waker(&waker))
    }

    pub fn start_send(&mut self, message: Msg) -> Result<(), Error<Broken>> {
        self.alive.as_mut().start_send(message)
    }

    pub fn poll_flush(&mut self) -> Poll<Result<(), Error<Broken>>> {
        let waker = self.writing();
        self.alive
            .as_mut()
            .poll_flush(&mut Context::from_waker(&waker))
    }

    pub fn poll_close(&mut self) -> Poll<Result<(), Error<Broken>>> {
        let waker = self.writing();
        self.alive
            .as_mut()
            .poll_close(&mut Context::from_waker(&waker))
    }

    /// Sends and flushes a message that the socket takes at once.
    #[track_caller]
    pub fn send(&mut self, message: Msg) {
        assert_eq!(self.poll_ready(), Poll::Ready(Ok(())));
        assert_eq!(self.start_send(message), Ok(()));
        assert_eq!(self.poll_flush(), Poll::Ready(Ok(())));
    }

    /// Whether the writer was woken since the last look.
    pub fn writer_woken(&self) -> bool {
        self.writer.flag.swap(false, Ordering::Relaxed)
    }

    pub fn reader_woken(&self) -> bool {
        self.reader.flag.swap(false, Ordering::Relaxed)
    }

    pub fn messages(&self) -> Vec<Msg> {
        let messages = self.read.iter().filter_map(|(_, item)| item.clone().ok());
        messages.collect()
    }

    pub fn stats(&self) -> Stats {
        self.alive.stats()
    }

    /// What was read ahead of the reader, which gives the heartbeat up.
    pub fn into_ahead(self) -> Vec<Msg> {
        let (_, ahead) = Pin::into_inner(self.alive).into_parts();
        ahead.into()
    }

    /// Goes on with the heartbeat as `run_while` does, with the reader's waker.
    pub fn poll_heartbeat(&mut self) -> Poll<Interrupted> {
        let waker = Waker::from(Arc::clone(&self.reader));
        self.alive
            .as_mut()
            .poll_heartbeat(&mut Context::from_waker(&waker))
    }

    /// The heartbeat alone goes on, whenever the reader's task is woken, until `time`.
    pub fn beat_until(&mut self, time: Duration) -> Option<Duration> {
        let mut polls = 0;
        loop {
            while self.reader.flag.swap(false, Ordering::Relaxed) {
                if self.poll_heartbeat().is_ready() {
                    return Some(self.world.elapsed());
                }
                polls += 1;
                assert!(polls < 100_000, "a busy loop at {:?}", self.world.elapsed());
            }
            if !self.world.step(time) {
                return None;
            }
        }
    }

    /// The verdict and its time; it is the last item.
    #[track_caller]
    pub fn verdict(&self) -> (Duration, TimedOut) {
        match self.read.last() {
            Some((at, Err(Error::Timeout(verdict)))) => (*at, *verdict),
            other => panic!("no verdict but {other:?}"),
        }
    }

    #[track_caller]
    pub fn assert_alive(&self) {
        assert_eq!(self.ended, None);
        assert!(self.read.iter().all(|(_, item)| item.is_ok()));
    }
}
