//! The application: a reader and a writer, in two tasks or in one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use futures_pinger::testing::{Broken, ManualTimer, World};
use futures_pinger::{
    Controller, Error, HeartbeatState, KeepAlive, Probe, ProbeError, ReadHalf, TimedOut, WriteHalf,
};

use super::link::{Msg, Plain, Socket};
use super::script::{Half, Settings, Shape};

type Alive = KeepAlive<Socket, Plain, ManualTimer>;

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The socket with its heartbeat, whole or in two.
enum Halves {
    Whole(Box<Alive>),
    Split(SplitSink<Alive, Msg>, SplitStream<Alive>),
    Own(
        WriteHalf<Socket, Plain, ManualTimer>,
        ReadHalf<Socket, Plain, ManualTimer>,
    ),
}

/// What the reader is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Reads,
    Away,
    Beats,
}

/// What the writer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Send,
    Feed,
    Reserve,
    Flush,
    Close,
    CloseSink,
}

/// How a half has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    TimedOut(TimedOut),
    Transport,
    /// The closing handshake has ended the connection of a writer.
    Closed,
    /// The stream has ended without an error.
    None,
}

impl From<Error<Broken>> for End {
    fn from(error: Error<Broken>) -> Self {
        match error {
            Error::Timeout(verdict) => Self::TimedOut(verdict),
            Error::Closed => Self::Closed,
            _ => Self::Transport,
        }
    }
}

/// What was seen in a poll, for the oracle.
#[derive(Debug)]
pub enum Event {
    Read(Msg),
    ReaderEnded(End),
    WriterEnded(End),
    /// `poll_heartbeat` says that the stream has something final to yield.
    Interrupted,
    /// So many messages were accepted, and all are flushed, as the sink says.
    Flushed(u32),
    /// A close frame was handed over, or the sink is closed.
    Closes,
    /// What came of a probe that was made at that time.
    Probed(Duration, Result<Duration, ProbeError>),
}

/// A probe, in a task of its own.
pub struct Asked {
    probe: Probe,
    task: Arc<Woken>,
    pub since: Duration,
    pub within: Duration,
}

pub struct App {
    halves: Halves,
    pub controller: Controller,
    world: World,
    socket: Socket,
    settings: Settings,
    tasks: [Arc<Woken>; 2],
    pub reader: Reader,
    pub reader_end: Option<End>,
    pub pace: Duration,
    resting_until: Option<Duration>,
    pub jobs: VecDeque<Job>,
    /// The message of the first job was accepted, and is to be flushed.
    flushing: bool,
    reserved: bool,
    pub writer_end: Option<End>,
    pub accepted: u32,
    /// The application has sent a close frame, or closed the sink.
    pub has_closed: bool,
    pub begun: bool,
    pub polls: usize,
    /// When the stream was polled last.
    pub read_at: Option<Duration>,
    /// When `poll_heartbeat` was ready last.
    pub interrupted_at: Option<Duration>,
    /// Jobs of the writer that were done.
    pub done: usize,
    pub probes: Vec<Asked>,
}

impl App {
    pub fn new(world: &World, socket: Socket, settings: &Settings) -> Self {
        let alive = KeepAlive::with_protocol(socket.clone(), Plain, settings.config());
        let alive = alive.with_timer(world.timer());
        let mut alive = alive.with_lookahead(settings.lookahead);
        let controller = alive.controller();
        let halves = match settings.shape {
            Shape::Split | Shape::SplitWriterFirst if settings.own_halves => {
                let (stream, sink) = alive.into_split();
                Halves::Own(sink, stream)
            }
            Shape::Split | Shape::SplitWriterFirst => {
                let (sink, stream) = alive.split();
                Halves::Split(sink, stream)
            }
            Shape::InTurn | Shape::AtOnce => Halves::Whole(Box::new(alive)),
        };
        Self {
            halves,
            controller,
            world: world.clone(),
            socket,
            settings: settings.clone(),
            tasks: Default::default(),
            reader: Reader::Away,
            reader_end: None,
            pace: Duration::ZERO,
            resting_until: None,
            jobs: VecDeque::new(),
            flushing: false,
            reserved: false,
            writer_end: None,
            accepted: 0,
            has_closed: false,
            begun: false,
            polls: 0,
            read_at: None,
            interrupted_at: None,
            done: 0,
            probes: Vec::new(),
        }
    }

    pub fn probe(&mut self, within: Duration) {
        let asked = Asked {
            probe: self.controller.probe(within),
            task: Arc::new(Woken(AtomicBool::new(true))),
            since: self.world.elapsed(),
            within,
        };
        self.probes.push(asked);
    }

    /// Polls the probes that were woken. Whether any was.
    fn poll_probes(&mut self, events: &mut Vec<Event>) -> bool {
        let mut any = false;
        self.probes.retain_mut(|asked| {
            if !asked.task.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            any = true;
            let waker = Waker::from(Arc::clone(&asked.task));
            let polled = asked.probe.poll_unpin(&mut Context::from_waker(&waker));
            let Poll::Ready(answer) = polled else {
                return true;
            };
            events.push(Event::Probed(asked.since, answer));
            false
        });
        any
    }

    fn is_split(&self) -> bool {
        !matches!(self.halves, Halves::Whole(_))
    }

    fn task(&self, half: Half) -> usize {
        usize::from(self.is_split() && half == Half::Writer)
    }

    /// That half has something new to do.
    pub fn call(&self, half: Half) {
        self.tasks[self.task(half)].0.store(true, Ordering::Relaxed);
    }

    pub fn state(&self) -> HeartbeatState {
        let now = self.world.instant(self.world.elapsed());
        self.controller.stats().state_at(now)
    }

    /// Whether the reader polls its stream whenever it is woken.
    pub fn reads(&self) -> bool {
        let in_turn = self.settings.shape == Shape::InTurn && self.writes();
        self.reader == Reader::Reads
            && self.reader_end.is_none()
            && self.resting_until.is_none()
            && !in_turn
    }

    /// Whether the reader goes on with the heartbeat while it does something else.
    pub fn beats(&self) -> bool {
        let in_turn = self.settings.shape == Shape::InTurn && self.writes();
        self.reader == Reader::Beats && self.reader_end.is_none() && !in_turn
    }

    /// Whether the writer polls the sink whenever it is woken.
    pub fn writes(&self) -> bool {
        !self.jobs.is_empty() && self.writer_end.is_none()
    }

    pub fn set_reader(&mut self, reader: Reader) {
        self.reader = match reader {
            // Such a half has no `poll_heartbeat`.
            Reader::Beats if matches!(self.halves, Halves::Split(..)) => Reader::Away,
            reader => reader,
        };
        self.resting_until = None;
        self.call(Half::Reader);
    }

    pub fn give_up(&mut self) {
        self.jobs.clear();
        self.flushing = false;
    }

    pub fn add_job(&mut self, job: Job) {
        if self.writer_end.is_some() || self.has_closed || self.jobs.len() >= 64 {
            return;
        }
        let last = self.jobs.back();
        if matches!(last, Some(Job::Close | Job::CloseSink)) {
            // Nothing follows a close frame.
            return;
        }
        self.jobs.push_back(job);
        self.call(Half::Writer);
    }

    /// Polls whoever was woken, once each. Whether anybody was.
    pub fn poll_woken(&mut self, events: &mut Vec<Event>) -> bool {
        let now = self.world.elapsed();
        if self.resting_until.is_some_and(|until| until <= now) {
            self.resting_until = None;
            self.call(Half::Reader);
        }
        let mut order = [0, 1];
        if self.settings.shape == Shape::SplitWriterFirst {
            order.reverse();
        }
        let mut any = self.poll_probes(events);
        for task in order {
            if self.tasks[task].0.swap(false, Ordering::Relaxed) {
                any = true;
                self.poll_task(task, events);
            }
        }
        any
    }

    /// Polls the task of that half, be it that nobody has woken it.
    pub fn poll_half(&mut self, half: Half, events: &mut Vec<Event>) {
        self.poll_task(self.task(half), events);
    }

    fn poll_task(&mut self, task: usize, events: &mut Vec<Event>) {
        if self.settings.fresh_wakers {
            // Whoever holds the old one wakes nobody any more.
            self.tasks[task] = Arc::default();
        }
        self.socket.link().begin_poll();
        let waker = Waker::from(Arc::clone(&self.tasks[task]));
        let mut cx = Context::from_waker(&waker);
        let split = self.is_split();
        if split && task == 1 {
            self.write(&mut cx, events);
            return;
        }
        loop {
            if !split {
                self.write(&mut cx, events);
            }
            let jobs = self.jobs.len();
            if self.reads() {
                self.read(&mut cx, events);
            } else if self.beats() {
                self.beat(&mut cx, events);
                if !self.reads() {
                    return;
                }
                continue;
            }
            // What was read may be sent back, by this very task.
            if split || self.jobs.len() == jobs {
                return;
            }
        }
    }

    /// The reader reads until it waits, or does something else.
    fn read(&mut self, cx: &mut Context<'_>, events: &mut Vec<Event>) {
        while self.reads() {
            self.begun = true;
            self.polls += 1;
            self.read_at = Some(self.world.elapsed());
            let polled = match &mut self.halves {
                Halves::Whole(alive) => Pin::new(&mut **alive).poll_next(cx),
                Halves::Split(_, stream) => stream.poll_next_unpin(cx),
                Halves::Own(_, stream) => stream.poll_next_unpin(cx),
            };
            let Poll::Ready(item) = polled else {
                return;
            };
            match item {
                Some(Ok(message)) => {
                    if self.settings.echo && matches!(message, Msg::Data(_)) {
                        self.add_job(Job::Send);
                    }
                    events.push(Event::Read(message));
                    if !self.pace.is_zero() {
                        let until = self.world.elapsed() + self.pace;
                        self.resting_until = Some(until);
                        self.world.at(until, || {});
                    }
                }
                Some(Err(error)) => {
                    let end = End::from(error);
                    self.reader_end = Some(end);
                    events.push(Event::ReaderEnded(end));
                    if let End::TimedOut(_) = end {
                        self.check_that_it_stays_ended(cx);
                    }
                }
                None => {
                    self.reader_end = Some(End::None);
                    events.push(Event::ReaderEnded(End::None));
                    self.check_that_it_stays_ended(cx);
                }
            }
        }
    }

    fn check_that_it_stays_ended(&mut self, cx: &mut Context<'_>) {
        let polled = match &mut self.halves {
            Halves::Whole(alive) => Pin::new(&mut **alive).poll_next(cx),
            Halves::Split(_, stream) => stream.poll_next_unpin(cx),
            Halves::Own(_, stream) => stream.poll_next_unpin(cx),
        };
        assert!(
            matches!(polled, Poll::Ready(None)),
            "{polled:?} after the end"
        );
    }

    fn beat(&mut self, cx: &mut Context<'_>, events: &mut Vec<Event>) {
        let polled = match &mut self.halves {
            Halves::Whole(alive) => Pin::new(&mut **alive).poll_heartbeat(cx),
            Halves::Own(_, stream) => stream.poll_heartbeat(cx),
            Halves::Split(..) => return,
        };
        self.begun = true;
        self.polls += 1;
        if polled.is_ready() {
            self.interrupted_at = Some(self.world.elapsed());
            // The application reads what has happened, and takes no time for it.
            self.reader = Reader::Reads;
            self.pace = Duration::ZERO;
            events.push(Event::Interrupted);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, events: &mut Vec<Event>) {
        while self.writes() {
            let polled = self.poll_job(self.jobs[0], cx, events);
            match polled {
                Poll::Ready(Ok(())) => {
                    self.jobs.pop_front();
                    self.flushing = false;
                    self.done += 1;
                }
                Poll::Ready(Err(error)) => {
                    let end = End::from(error);
                    self.writer_end = Some(end);
                    events.push(Event::WriterEnded(end));
                    if let End::TimedOut(_) = end {
                        let again = self.poll_sink(Job::Reserve, cx);
                        let same = matches!(&again, Poll::Ready(Err(Error::Timeout(_))));
                        let own = matches!(self.halves, Halves::Split(..));
                        assert!(same || own, "{again:?} after {end:?}");
                    }
                }
                Poll::Pending => {
                    return;
                }
            }
        }
    }

    fn poll_job(
        &mut self,
        job: Job,
        cx: &mut Context<'_>,
        events: &mut Vec<Event>,
    ) -> Poll<Result<(), Error<Broken>>> {
        if let Job::Reserve | Job::Send | Job::Feed | Job::Close = job {
            if !self.reserved && !self.flushing {
                std::task::ready!(self.poll_sink(Job::Reserve, cx))?;
                self.reserved = true;
            }
        }
        if let Job::Send | Job::Feed | Job::Close = job {
            if !self.flushing {
                self.reserved = false;
                let message = match job {
                    Job::Close => Msg::Close,
                    _ => Msg::Data(self.accepted),
                };
                if job == Job::Close {
                    self.has_closed = true;
                    events.push(Event::Closes);
                }
                match &mut self.halves {
                    Halves::Whole(alive) => Pin::new(&mut **alive).start_send(message)?,
                    Halves::Split(sink, _) => sink.start_send_unpin(message)?,
                    Halves::Own(sink, _) => sink.start_send_unpin(message)?,
                }
                self.accepted += u32::from(job != Job::Close);
                self.flushing = job != Job::Feed;
            }
        }
        match job {
            Job::Reserve | Job::Feed => return Poll::Ready(Ok(())),
            Job::CloseSink => {
                if !self.has_closed {
                    self.has_closed = true;
                    events.push(Event::Closes);
                }
                return self.poll_sink(Job::CloseSink, cx);
            }
            Job::Send | Job::Flush | Job::Close => {}
        }
        let flushed = self.poll_sink(Job::Flush, cx);
        if let Poll::Ready(Ok(())) = flushed {
            events.push(Event::Flushed(self.accepted));
        }
        flushed
    }

    fn poll_sink(&mut self, job: Job, cx: &mut Context<'_>) -> Poll<Result<(), Error<Broken>>> {
        self.begun = true;
        self.polls += 1;
        match &mut self.halves {
            Halves::Whole(alive) => {
                let alive = Pin::new(&mut **alive);
                match job {
                    Job::Flush => alive.poll_flush(cx),
                    Job::CloseSink => alive.poll_close(cx),
                    _ => alive.poll_ready(cx),
                }
            }
            Halves::Split(sink, _) => match job {
                Job::Flush => sink.poll_flush_unpin(cx),
                Job::CloseSink => sink.poll_close_unpin(cx),
                _ => sink.poll_ready_unpin(cx),
            },
            Halves::Own(sink, _) => match job {
                Job::Flush => sink.poll_flush_unpin(cx),
                Job::CloseSink => sink.poll_close_unpin(cx),
                _ => sink.poll_ready_unpin(cx),
            },
        }
    }

    /// What was read ahead of the reader, which gives the connection up.
    pub fn into_ahead(self) -> Vec<Msg> {
        let alive = match self.halves {
            Halves::Whole(alive) => *alive,
            Halves::Split(sink, stream) => {
                sink.reunite(stream).expect("two halves of the same socket")
            }
            Halves::Own(sink, stream) => {
                stream.reunite(sink).expect("two halves of the same socket")
            }
        };
        let (_, ahead) = alive.into_parts();
        ahead.into()
    }
}
