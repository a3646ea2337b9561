//! A scripted socket for [`KeepAlive`] in the [`World`], with the manners of the real ones: one
//! waker for each direction, one message for each readiness.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::{ConfigBuilder, Error, Frame, KeepAlive, Kind, Protocol, Stats, TimedOut};

use crate::world::{Broken, ManualTimer, Woken, World};

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
    fn encode(&self, frame: Frame) -> Msg {
        match frame {
            Frame::Ping(payload) => Msg::Ping(payload),
            Frame::Pong(payload) => Msg::Pong(payload),
            Frame::Close(_) => Msg::Close,
        }
    }

    fn classify<'m>(&self, message: &'m Msg) -> Kind<'m> {
        match message {
            Msg::Data(_) => Kind::Data,
            Msg::Ping(payload) => Kind::Ping(payload),
            Msg::Pong(payload) => Kind::Pong(payload),
            Msg::Close => Kind::Close,
        }
    }
}

#[derive(Default)]
struct State {
    incoming: VecDeque<Result<Msg, Broken>>,
    ended: bool,
    /// Always one more message of data.
    endless: bool,
    read: u32,
    /// Says Pending after so many messages, as if the task had had its share.
    share: Option<u32>,
    shared: u32,
    reader: Option<Waker>,
    blocked: bool,
    flush_blocked: bool,
    broken: bool,
    reserved: bool,
    /// Takes messages without readiness too, as some sockets do.
    tolerant: bool,
    closed: bool,
    writer: Option<Waker>,
    unflushed: Vec<Msg>,
    sent: Vec<(Duration, Msg)>,
    on_wire: Option<Rc<dyn Fn(Msg)>>,
}

pub struct Socket {
    world: World,
    state: Rc<RefCell<State>>,
}

/// The handle by which a test moves the socket.
#[derive(Clone)]
pub struct Script {
    state: Rc<RefCell<State>>,
}

impl Script {
    fn wake_reader(&self) {
        let waker = self.state.borrow_mut().reader.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake_writer(&self) {
        let waker = self.state.borrow_mut().writer.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn receive(&self, message: Msg) {
        self.state.borrow_mut().incoming.push_back(Ok(message));
        self.wake_reader();
    }

    pub fn receive_error(&self) {
        self.state.borrow_mut().incoming.push_back(Err(Broken));
        self.wake_reader();
    }

    pub fn end(&self) {
        self.state.borrow_mut().ended = true;
        self.wake_reader();
    }

    pub fn flood(&self) {
        self.state.borrow_mut().endless = true;
        self.wake_reader();
    }

    pub fn block(&self) {
        self.state.borrow_mut().blocked = true;
    }

    pub fn block_flush(&self) {
        self.state.borrow_mut().flush_blocked = true;
    }

    pub fn unblock(&self) {
        self.unblock_quietly();
        self.wake_writer();
    }

    /// There is room, and nobody was told yet.
    pub fn unblock_quietly(&self) {
        let mut state = self.state.borrow_mut();
        state.blocked = false;
        state.flush_blocked = false;
    }

    /// Takes messages without readiness too, as some sockets do.
    pub fn tolerate(&self) {
        self.state.borrow_mut().tolerant = true;
    }

    /// Each turn of the task gets so many messages.
    pub fn share(&self, messages: u32) {
        self.state.borrow_mut().share = Some(messages);
    }

    /// The sink fails from now on.
    pub fn break_sink(&self) {
        self.state.borrow_mut().broken = true;
        self.wake_writer();
    }

    /// All messages handed to the socket, in order, with their times.
    pub fn sent(&self) -> Vec<(Duration, Msg)> {
        self.state.borrow().sent.clone()
    }

    /// The times of the pings among them.
    pub fn pings(&self) -> Vec<Duration> {
        let sent = self.sent().into_iter();
        let pings = sent.filter(|(_, message)| matches!(message, Msg::Ping(_)));
        pings.map(|(at, _)| at).collect()
    }

    pub fn data(&self) -> Vec<u32> {
        let sent = self.sent().into_iter();
        let data = sent.filter_map(|(_, message)| match message {
            Msg::Data(number) => Some(number),
            _ => None,
        });
        data.collect()
    }

    pub fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }
}

impl Stream for Socket {
    type Item = Result<Msg, Broken>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.state.borrow_mut();
        if state.share.is_some_and(|share| state.shared >= share) {
            state.shared = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(next) = state.incoming.pop_front() {
            state.shared += 1;
            return Poll::Ready(Some(next));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if state.endless {
            state.read += 1;
            return Poll::Ready(Some(Ok(Msg::Data(state.read))));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Sink<Msg> for Socket {
    type Error = Broken;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.state.borrow_mut();
        if state.broken {
            return Poll::Ready(Err(Broken));
        }
        if state.blocked {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.reserved = true;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Msg) -> Result<(), Broken> {
        let mut state = self.state.borrow_mut();
        assert!(
            state.reserved || state.tolerant,
            "a message without readiness"
        );
        state.reserved = false;
        let closed = state.sent.iter().any(|(_, sent)| *sent == Msg::Close);
        assert!(!closed, "a message after the close frame");
        state.sent.push((self.world.elapsed(), message.clone()));
        state.unflushed.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.state.borrow_mut();
        if state.broken {
            return Poll::Ready(Err(Broken));
        }
        if state.flush_blocked {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (flushed, on_wire) = (std::mem::take(&mut state.unflushed), state.on_wire.clone());
        drop(state);
        if let Some(on_wire) = on_wire {
            flushed.into_iter().for_each(|message| on_wire(message));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.state.borrow_mut().closed = true;
        self.poll_flush(cx)
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
        let world = World::new();
        let state = Rc::<RefCell<State>>::default();
        let socket = Socket {
            world: world.clone(),
            state: Rc::clone(&state),
        };
        let alive = KeepAlive::new(socket, config.build().expect("valid"));
        let alive = alive.with_protocol(Plain).with_timer(world.timer());
        let reader = Arc::new(Woken::default());
        reader.flag.store(true, Ordering::Relaxed);
        Self {
            world,
            script: Script { state },
            alive: Box::pin(alive),
            reader,
            writer: Arc::default(),
            read: Vec::new(),
            ended: None,
            extra_polls: 0,
        }
    }

    /// The peer answers each ping after `rtt`.
    pub fn answer_after(&self, rtt: Duration) {
        self.answer(move |_| Some(rtt));
    }

    /// The peer answers the ping of that number (from 0) after what `rtt` says, if anything.
    pub fn answer(&self, rtt: impl Fn(usize) -> Option<Duration> + 'static) {
        let (world, script) = (self.world.clone(), self.script.clone());
        let number = Cell::new(0);
        let answer = move |message| {
            let Msg::Ping(payload) = message else { return };
            let ping = number.replace(number.get() + 1);
            if let Some(rtt) = rtt(ping) {
                let script = script.clone();
                world.at(world.elapsed() + rtt, move || {
                    script.receive(Msg::Pong(payload));
                });
            }
        };
        self.script.state.borrow_mut().on_wire = Some(Rc::new(answer));
    }

    pub fn at(&self, time: Duration, event: impl FnOnce(&Script) + 'static) {
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
