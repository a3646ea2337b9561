//! The socket and the peer behind it.

mod peer;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::testing::{Broken, World};
use futures_pinger::{Frame, MessageKind, Protocol};

use super::script::Settings;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Msg {
    /// Numbered in the order in which they are sent.
    Data(u32),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

/// The protocol of these messages.
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

/// A ping of the heartbeat that the socket took.
#[derive(Debug)]
pub struct Pinged {
    payload: Bytes,
    pub flushed: Option<Duration>,
    /// Whether its pong has come, be it that there is no room for it in the window yet.
    pub answered: Option<Duration>,
    /// Whether the socket has it.
    pub arrived: bool,
}

/// A close frame that the socket owes the peer, whose own was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    None,
    Owed,
    Taken,
}

/// The connection, from both its ends.
pub struct Link {
    // --- what the peer sends ---
    /// What the application must be given, in this order, beside the pongs of the heartbeat.
    pub arrived: Vec<Msg>,
    /// What lies in the socket, and the error behind it.
    queue: VecDeque<Result<Msg, Broken>>,
    /// What does not fit into the window.
    outbox: VecDeque<Result<Msg, Broken>>,
    in_transit: bool,
    ended: bool,
    /// How much of `arrived` was read from the socket, and how many pongs of the heartbeat.
    pub read: usize,
    pub pongs_read: usize,
    /// The newest ping whose pong was read, and whether that of an earlier one was read after it.
    newest_read: usize,
    pub has_read_late: bool,
    pub failure_read: bool,
    pub close_read: Option<Duration>,
    /// When the last pong of the heartbeat came into the socket, and anything at all.
    pub last_pong: Duration,
    pub last_arrival: Duration,
    reading: Option<Waker>,

    // --- what the socket takes ---
    room: Option<usize>,
    flush_blocked: bool,
    pub refuse: u8,
    pub was_refused: Option<Duration>,
    /// When the ping that is still to be taken was refused.
    pub refused_since: Option<Duration>,
    broken: bool,
    reserved: bool,
    unflushed: Vec<Msg>,
    /// Messages of the application that were taken, and flushed; they are numbered from 0.
    pub taken: u32,
    pub flushed: u32,
    pub pings: Vec<Pinged>,
    pub last_ping: Duration,
    pub last_taken: Duration,
    close_taken: bool,
    pub close_flushed: Option<Duration>,
    reply: Reply,
    closed: bool,
    writing: Option<Waker>,

    // --- the peer ---
    pub answer: Option<Duration>,
    pub trickle: Option<Duration>,
    trickling: bool,
    sent: u32,
    has_sent_close: bool,

    world: World,
    settings: Settings,
    reads: u8,
    writes: u8,
}

/// A handle on the connection, and the socket itself.
#[derive(Clone)]
pub struct Socket {
    link: Arc<Mutex<Link>>,
    world: World,
}

impl Socket {
    /// The socket of a new connection.
    pub fn new(world: &World, settings: &Settings) -> Self {
        let link = Link {
            arrived: Vec::new(),
            queue: VecDeque::new(),
            outbox: VecDeque::new(),
            in_transit: false,
            ended: false,
            read: 0,
            pongs_read: 0,
            newest_read: 0,
            has_read_late: false,
            failure_read: false,
            close_read: None,
            last_pong: Duration::ZERO,
            last_arrival: Duration::ZERO,
            reading: None,
            room: None,
            flush_blocked: false,
            refuse: 0,
            was_refused: None,
            refused_since: None,
            broken: false,
            reserved: false,
            unflushed: Vec::new(),
            taken: 0,
            flushed: 0,
            pings: Vec::new(),
            last_ping: Duration::ZERO,
            last_taken: Duration::ZERO,
            close_taken: false,
            close_flushed: None,
            reply: Reply::None,
            closed: false,
            writing: None,
            answer: settings.answer,
            trickle: None,
            trickling: false,
            sent: 0,
            has_sent_close: false,
            world: world.clone(),
            settings: settings.clone(),
            reads: 0,
            writes: 0,
        };
        Self {
            link: Arc::new(Mutex::new(link)),
            world: world.clone(),
        }
    }

    pub fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happens so much later. The world holds its events, so they hold no world.
    fn after(&self, delay: Duration, event: impl FnOnce(&Self) + Send + 'static) {
        let (link, time) = (Arc::downgrade(&self.link), self.world.elapsed() + delay);
        self.world.at(time, move || {
            if let Some(link) = link.upgrade() {
                let world = link
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .world
                    .clone();
                event(&Self { link, world });
            }
        });
    }

    pub fn block(&self) {
        self.link().room = Some(0);
    }

    pub fn block_flush(&self) {
        self.link().flush_blocked = true;
    }

    pub fn unblock_quietly(&self) {
        let mut link = self.link();
        link.room = None;
        link.flush_blocked = false;
    }

    pub fn set_room(&self, messages: usize) {
        self.link().room = Some(messages);
        self.wake_writing();
    }

    pub fn break_sink(&self) {
        self.link().broken = true;
        self.wake_writing();
    }

    pub fn wake_reading(&self) {
        let waker = self.link().reading.take();
        wake(waker);
    }

    pub fn wake_writing(&self) {
        let waker = self.link().writing.take();
        wake(waker);
    }

    fn poll_write(&self, what: Write, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let now = self.world.elapsed();
        let mut link = self.link();
        let spent = link.is_spent();
        let (polled, flushed) = if spent {
            (Poll::Pending, Vec::new())
        } else {
            link.poll_write(what, now)
        };
        if polled.is_pending() {
            link.writing = Some(cx.waker().clone());
            if link.is_crowded() {
                link.reading = Some(cx.waker().clone());
            }
        }
        drop(link);
        if spent {
            cx.waker().wake_by_ref();
        }
        // Not under the lock: the peer may answer at once.
        flushed.iter().for_each(|message| self.deliver(message));
        polled
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Ready,
    Flush,
    Close,
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Link {
    /// A task is polled, and gets a new share of the runtime's time.
    pub fn begin_poll(&mut self) {
        (self.reads, self.writes) = (0, 0);
    }

    /// Whether the socket takes what it is given, and gets rid of it.
    pub fn is_free(&self) -> bool {
        self.room != Some(0) && !self.flush_blocked && !self.broken
    }

    /// What is on its way to the application and was not yielded, where so much was.
    pub fn unread(&self, yielded: usize) -> usize {
        self.arrived.len() - yielded + self.outbox.len()
    }

    /// Whether the pong of some ping is on its way.
    pub fn has_pong_on_its_way(&self) -> bool {
        let pings = self.pings.iter();
        pings.filter(|ping| ping.answered.is_some()).count() > self.pongs_read
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn has_taken_close(&self) -> bool {
        self.close_taken
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What lies unread in the socket, the heartbeat's own pongs left out.
    pub fn left(&self) -> Vec<Msg> {
        let left = self.queue.iter().filter_map(|message| message.clone().ok());
        left.filter(|message| !self.is_own_pong(message)).collect()
    }

    pub fn is_own_pong(&self, message: &Msg) -> bool {
        let Msg::Pong(payload) = message else {
            return false;
        };
        self.pings.iter().any(|ping| ping.payload == *payload)
    }

    fn is_crowded(&self) -> bool {
        self.settings.crowded && (self.close_read.is_some() || self.close_taken)
    }

    fn arrive(&mut self, message: Result<Msg, Broken>, now: Duration) {
        self.last_arrival = now;
        if let Ok(message) = &message {
            if self.is_own_pong(message) {
                self.last_pong = now;
                let mut pings = self.pings.iter_mut();
                let ping = pings.find(|ping| *message == Msg::Pong(ping.payload.clone()));
                ping.expect("it was sent").arrived = true;
            } else {
                self.arrived.push(message.clone());
            }
        }
        self.queue.push_back(message);
    }

    /// Whether the task has had its share of the runtime's time.
    fn is_spent(&mut self) -> bool {
        self.writes = self.writes.saturating_add(1);
        // Enough for what one poll asks of a socket that takes nothing: else nothing could ever be done.
        let most = self.settings.budget + 8;
        self.settings.budget > 0 && self.writes > most && !self.broken
    }

    fn poll_write(&mut self, what: Write, now: Duration) -> (Poll<Result<(), Broken>>, Vec<Msg>) {
        const NOTHING: Vec<Msg> = Vec::new();
        if self.broken {
            return (Poll::Ready(Err(Broken)), NOTHING);
        }
        if what == Write::Ready {
            if self.room == Some(0) {
                return (Poll::Pending, NOTHING);
            }
            self.reserved = true;
            return (Poll::Ready(Ok(())), NOTHING);
        }
        let closes = what == Write::Close && !self.close_taken && self.reply == Reply::None;
        if closes || self.reply == Reply::Owed {
            if self.room == Some(0) {
                return (Poll::Pending, NOTHING);
            }
            self.take(Msg::Close, now);
            match self.reply {
                Reply::Owed => self.reply = Reply::Taken,
                _ => self.close_taken = true,
            }
        }
        self.closed |= what == Write::Close;
        if self.flush_blocked {
            return (Poll::Pending, NOTHING);
        }
        let flushed = std::mem::take(&mut self.unflushed);
        for message in &flushed {
            self.last_taken = now;
            match message {
                Msg::Data(_) => self.flushed += 1,
                Msg::Close => self.close_flushed = Some(now),
                Msg::Ping(payload) => {
                    let mut pings = self.pings.iter_mut().rev();
                    let ping = pings.find(|ping| ping.payload == *payload);
                    ping.expect("it was taken").flushed = Some(now);
                }
                Msg::Pong(_) => {}
            }
        }
        (Poll::Ready(Ok(())), flushed)
    }

    fn take(&mut self, message: Msg, now: Duration) {
        if let Some(room) = &mut self.room {
            *room = room.saturating_sub(1);
        }
        self.last_taken = now;
        self.unflushed.push(message);
    }

    fn start_send(&mut self, message: Msg, now: Duration) -> Result<(), Broken> {
        if self.broken {
            return Err(Broken);
        }
        assert!(self.reserved, "{message:?} without readiness at {now:?}");
        assert!(!self.closed, "{message:?} after the sink was closed");
        assert!(!self.close_taken, "{message:?} after the close frame");
        if self.reply != Reply::None {
            // The answer to the peer's close frame is the last thing that is sent.
            return if message == Msg::Close {
                Ok(())
            } else {
                Err(Broken)
            };
        }
        match &message {
            Msg::Data(number) => {
                assert_eq!(*number, self.taken, "out of order, doubled or lost");
                self.taken += 1;
            }
            Msg::Ping(payload) => {
                if self.refuse > 0 {
                    self.refuse -= 1;
                    self.was_refused = Some(now);
                    self.refused_since.get_or_insert(now);
                    return Err(Broken);
                }
                self.last_ping = now;
                self.refused_since = None;
                self.pings.push(Pinged {
                    payload: payload.clone(),
                    flushed: None,
                    answered: None,
                    arrived: false,
                });
            }
            Msg::Close => self.close_taken = true,
            Msg::Pong(_) => panic!("nobody sends {message:?}"),
        }
        self.reserved = false;
        self.take(message, now);
        Ok(())
    }
}

impl Stream for Socket {
    type Item = Result<Msg, Broken>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let now = self.world.elapsed();
        let mut link = self.link();
        let budget = link.settings.budget;
        if budget > 0 && link.reads >= budget {
            drop(link);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(message) = link.queue.pop_front() else {
            if link.ended {
                return Poll::Ready(None);
            }
            link.reading = Some(cx.waker().clone());
            if link.is_crowded() {
                link.writing = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        link.reads = link.reads.saturating_add(1);
        match &message {
            Ok(message) if link.is_own_pong(message) => {
                link.pongs_read += 1;
                let mut pings = link.pings.iter();
                let ping = pings.position(|ping| *message == Msg::Pong(ping.payload.clone()));
                let ping = ping.expect("it was sent");
                // The heartbeat knows no more than the 255 newest pings.
                link.has_read_late |= ping < link.newest_read || link.pings.len() - ping > 255;
                link.newest_read = link.newest_read.max(ping);
            }
            Ok(message) => {
                link.read += 1;
                if *message == Msg::Close {
                    link.close_read.get_or_insert(now);
                    if !link.close_taken && link.reply == Reply::None {
                        link.reply = Reply::Owed;
                    }
                }
            }
            Err(Broken) => link.failure_read = true,
        }
        if link.queue.is_empty() && !link.outbox.is_empty() && !link.in_transit {
            link.in_transit = true;
            let transit = link.settings.transit;
            drop(link);
            self.after(transit, Self::send_on);
        }
        Poll::Ready(Some(message))
    }
}

impl Sink<Msg> for Socket {
    type Error = Broken;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.poll_write(Write::Ready, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Msg) -> Result<(), Broken> {
        let now = self.world.elapsed();
        self.link().start_send(message, now)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.poll_write(Write::Flush, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.poll_write(Write::Close, cx)
    }
}
