//! The *World*: a single thread, a clock that only a test moves, a scripted sink, scripted pongs, and
//! a task that is polled **only when it was woken**, so that a lost wake-up shows as a hang.
//!
//! The sink checks the manners of whoever uses it: a frame without readiness, a second frame before
//! the first is flushed, two pings in one poll, a frame after the close frame: each is a panic.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::{
    Clock, CloseSink, Config, ConfigBuilder, Controller, Error, Frame, Instant, Pinger, Pong,
    PongKind, PongSource, SameSink, Stats, Stopped, TimedOut, Timer, pinger,
};

/// Whole seconds.
pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The options of a test: exact, unless it says otherwise.
pub fn exact() -> ConfigBuilder {
    Config::builder().granularity(Duration::ZERO)
}

type Event = Box<dyn FnOnce()>;

/// The clock, what is to happen at which time, and the timers that are armed.
#[derive(Clone)]
pub struct World {
    start: Instant,
    elapsed: Arc<AtomicU64>,
    events: Rc<RefCell<BTreeMap<(Duration, usize), Event>>>,
    scheduled: Rc<Cell<usize>>,
    timers: Rc<RefCell<Vec<Rc<RefCell<Armed>>>>>,
    /// How many polls there were: tells the frames of one poll from those of the next.
    polls: Rc<Cell<usize>>,
    /// How often the time was asked for.
    reads: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Armed {
    deadline: Option<Duration>,
    waker: Option<Waker>,
    resets: usize,
    /// Fires so much before its deadline, once for each.
    early: Duration,
    was_early: Option<Duration>,
}

impl World {
    pub fn new() -> Self {
        // One start for all: runs of the same script round to the same grid of wake-ups.
        static START: OnceLock<Instant> = OnceLock::new();
        Self {
            start: *START.get_or_init(|| Clock::system().now()),
            elapsed: Arc::default(),
            events: Rc::default(),
            scheduled: Rc::default(),
            timers: Rc::default(),
            polls: Rc::default(),
            reads: Arc::default(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::Relaxed))
    }

    pub fn instant(&self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }

    fn set(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).expect("tests are short");
        self.elapsed.store(nanos, Ordering::Relaxed);
    }

    pub fn clock(&self) -> Clock {
        let (start, elapsed) = (self.start, Arc::clone(&self.elapsed));
        let reads = Arc::clone(&self.reads);
        Clock::new(move || {
            reads.fetch_add(1, Ordering::Relaxed);
            start + Duration::from_nanos(elapsed.load(Ordering::Relaxed))
        })
    }

    /// How often the time was asked for.
    pub fn clock_reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Something happens at that time, after whatever was told to happen then before.
    pub fn at(&self, time: Duration, event: impl FnOnce() + 'static) {
        let number = self.scheduled.replace(self.scheduled.get() + 1);
        let event = Box::new(event);
        self.events.borrow_mut().insert((time, number), event);
    }

    pub fn timer(&self) -> ManualTimer {
        let armed = Rc::default();
        self.timers.borrow_mut().push(Rc::clone(&armed));
        ManualTimer {
            world: self.clone(),
            armed,
        }
    }

    /// How often timers were armed.
    pub fn resets(&self) -> usize {
        let timers = self.timers.borrow();
        timers.iter().map(|timer| timer.borrow().resets).sum()
    }

    /// Timers that wake so much too early.
    pub fn early_timers(&self, early: Duration) {
        for timer in self.timers.borrow().iter() {
            timer.borrow_mut().early = early;
        }
    }

    /// Timers that are alive: one for each heartbeat that is.
    pub fn timers(&self) -> usize {
        let timers = self.timers.borrow();
        timers
            .iter()
            .filter(|timer| Rc::strong_count(timer) > 1)
            .count()
    }

    /// To the next thing that happens, no further than `limit`; false if nothing does.
    pub fn step(&self, limit: Duration) -> bool {
        let event = self.events.borrow().keys().next().map(|(time, _)| *time);
        let timers = self.timers.borrow();
        let timer = timers.iter().filter_map(|t| t.borrow().fires()).min();
        let next = event.into_iter().chain(timer).min();
        drop(timers);
        let Some(next) = next.filter(|next| *next <= limit) else {
            self.set(limit);
            return false;
        };
        self.set(next.max(self.elapsed()));
        loop {
            let mut events = self.events.borrow_mut();
            match events.first_entry() {
                Some(first) if first.key().0 <= self.elapsed() => {
                    let event = first.remove();
                    drop(events);
                    event();
                }
                _ => break,
            }
        }
        for timer in self.timers.borrow().iter() {
            let mut timer = timer.borrow_mut();
            if timer.fires().is_some_and(|at| at <= self.elapsed()) {
                // It stays due: whoever is polled next sees it.
                if let Some(waker) = timer.waker.take() {
                    waker.wake();
                }
            }
        }
        true
    }
}

impl Armed {
    /// When it wakes somebody.
    fn fires(&self) -> Option<Duration> {
        self.waker.as_ref()?;
        Some(self.ready_at(self.deadline?))
    }

    fn ready_at(&self, deadline: Duration) -> Duration {
        if self.was_early == Some(deadline) {
            return deadline;
        }
        deadline.saturating_sub(self.early)
    }
}

/// A timer of the [`World`].
pub struct ManualTimer {
    world: World,
    armed: Rc<RefCell<Armed>>,
}

impl Timer for ManualTimer {
    fn clock(&self) -> Clock {
        self.world.clock()
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let mut armed = self.armed.borrow_mut();
        let deadline = deadline.saturating_duration_since(self.world.start);
        armed.deadline = Some(deadline);
        armed.resets += 1;
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.armed.borrow_mut();
        let deadline = armed.deadline.expect("polled though not armed");
        if armed.ready_at(deadline) <= self.world.elapsed() {
            armed.was_early = Some(deadline);
            armed.deadline = None;
            armed.waker = None;
            return Poll::Ready(());
        }
        armed.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What a scripted sink fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl StdError for Broken {}

/// Where a scripted sink fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Ready,
    Send,
    Flush,
}

#[derive(Default)]
struct SinkState {
    blocked: bool,
    flush_blocked: bool,
    /// The frame reaches the peer before the flush completes.
    eager: bool,
    fault: Option<Fault>,
    reserved: bool,
    unflushed: Option<Frame>,
    closed: bool,
    waker: Option<Waker>,
    frames: Vec<(Duration, Frame)>,
    pings: u64,
    /// When the latest ping was flushed.
    ping_flushed: Option<Duration>,
    last_poll: Option<usize>,
    readies: usize,
    polls: usize,
    on_wire: Option<Rc<dyn Fn(Frame)>>,
}

/// The sink that a heartbeat is given.
pub struct ScriptedSink {
    world: World,
    state: Rc<RefCell<SinkState>>,
}

/// The handle by which a test moves that sink.
#[derive(Clone)]
pub struct SinkScript {
    state: Rc<RefCell<SinkState>>,
}

impl World {
    pub fn sink(&self) -> (ScriptedSink, SinkScript) {
        let state = Rc::default();
        let sink = ScriptedSink {
            world: self.clone(),
            state: Rc::clone(&state),
        };
        (sink, SinkScript { state })
    }
}

impl SinkScript {
    fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes nothing any more.
    pub fn block(&self) {
        self.state.borrow_mut().blocked = true;
    }

    pub fn unblock(&self) {
        self.state.borrow_mut().blocked = false;
        self.wake();
    }

    /// Takes a frame and does not get rid of it.
    pub fn block_flush(&self) {
        self.state.borrow_mut().flush_blocked = true;
    }

    pub fn unblock_flush(&self) {
        self.state.borrow_mut().flush_blocked = false;
        self.wake();
    }

    /// Frames reach the peer when they are taken, whatever the flush says.
    pub fn eager(&self) {
        self.state.borrow_mut().eager = true;
    }

    pub fn fail(&self, fault: Fault) {
        self.state.borrow_mut().fault = Some(fault);
        self.wake();
    }

    /// What the peer does with each frame that reaches it.
    pub fn on_wire(&self, peer: impl Fn(Frame) + 'static) {
        self.state.borrow_mut().on_wire = Some(Rc::new(peer));
    }

    /// The frames taken so far, with their times.
    pub fn frames(&self) -> Vec<(Duration, Frame)> {
        self.state.borrow().frames.clone()
    }

    /// The times of the pings.
    pub fn pings(&self) -> Vec<Duration> {
        let state = self.state.borrow();
        let pings = state.frames.iter();
        pings
            .filter(|(_, frame)| matches!(frame, Frame::Ping(_)))
            .map(|(at, _)| *at)
            .collect()
    }

    pub fn payload(&self, ping: usize) -> Bytes {
        let state = self.state.borrow();
        let mut pings = state.frames.iter().filter_map(|(_, frame)| match frame {
            Frame::Ping(payload) => Some(payload.clone()),
            _ => None,
        });
        pings.nth(ping).expect("that ping was sent")
    }

    pub fn closes(&self) -> Vec<(Duration, Frame)> {
        let mut frames = self.frames();
        frames.retain(|(_, frame)| matches!(frame, Frame::Close(_)));
        frames
    }

    /// How often it said that it is ready.
    pub fn readies(&self) -> usize {
        self.state.borrow().readies
    }

    /// How often anything was asked of it.
    pub fn polls(&self) -> usize {
        self.state.borrow().polls
    }

    /// The heartbeat still has it.
    pub fn is_held(&self) -> bool {
        Rc::strong_count(&self.state) > 1
    }
}

impl ScriptedSink {
    fn fails(&self, at: Fault) -> Result<(), Broken> {
        if self.state.borrow().fault == Some(at) {
            return Err(Broken);
        }
        Ok(())
    }

    /// Not under the borrow: the peer may do anything.
    fn deliver(&self, frame: Frame) {
        let on_wire = self.state.borrow().on_wire.clone();
        if let Some(on_wire) = on_wire {
            on_wire(frame);
        }
    }
}

impl Sink<Frame> for ScriptedSink {
    type Error = Broken;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.state.borrow_mut().polls += 1;
        self.fails(Fault::Ready)?;
        let mut state = self.state.borrow_mut();
        if state.blocked {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.reserved = true;
        state.readies += 1;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Broken> {
        self.fails(Fault::Send)?;
        let mut state = self.state.borrow_mut();
        assert!(state.reserved, "a frame without readiness");
        assert!(
            state.unflushed.is_none(),
            "a frame before the last is flushed"
        );
        assert!(!state.closed, "a frame after the close frame");
        match &frame {
            Frame::Ping(payload) => {
                assert!(payload.len() <= 125);
                let poll = Some(self.world.polls.get());
                assert_ne!(state.last_poll, poll, "two pings in one wake");
                state.last_poll = poll;
                state.pings += 1;
            }
            Frame::Pong(payload) => assert!(payload.len() <= 125),
            Frame::Close(_) => state.closed = true,
        }
        state.reserved = false;
        state.frames.push((self.world.elapsed(), frame.clone()));
        state.unflushed = Some(frame.clone());
        let eager = state.eager;
        drop(state);
        if eager {
            self.deliver(frame);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.state.borrow_mut().polls += 1;
        self.fails(Fault::Flush)?;
        let mut state = self.state.borrow_mut();
        if state.flush_blocked {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let flushed = state.unflushed.take();
        if let Some(Frame::Ping(_)) = flushed {
            state.ping_flushed = Some(self.world.elapsed());
        }
        let flushed = flushed.filter(|_| !state.eager);
        drop(state);
        if let Some(frame) = flushed {
            self.deliver(frame);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        panic!("a heartbeat never closes the sink");
    }
}

#[derive(Default)]
struct PongState {
    queue: VecDeque<Pong>,
    ended: bool,
    /// Always one more.
    endless: bool,
    /// Says Pending after so many, as if the task had had its share.
    share: Option<usize>,
    waker: Option<Waker>,
    read: usize,
    shared: usize,
}

/// The pong stream that a heartbeat is given.
pub struct ScriptedPongs {
    state: Rc<RefCell<PongState>>,
}

/// The handle by which a test feeds that stream.
#[derive(Clone)]
pub struct PongScript {
    state: Rc<RefCell<PongState>>,
}

impl World {
    pub fn pongs(&self) -> (ScriptedPongs, PongScript) {
        let state = Rc::default();
        let stream = ScriptedPongs {
            state: Rc::clone(&state),
        };
        (stream, PongScript { state })
    }
}

impl PongScript {
    fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn push(&self, payload: impl Into<Bytes>) {
        self.state
            .borrow_mut()
            .queue
            .push_back(Pong(payload.into()));
        self.wake();
    }

    pub fn end(&self) {
        self.state.borrow_mut().ended = true;
        self.wake();
    }

    /// A stray is always ready from now on.
    pub fn flood(&self) {
        self.state.borrow_mut().endless = true;
        self.wake();
    }

    /// Each turn of the task gets so many pongs.
    pub fn share(&self, pongs: usize) {
        self.state.borrow_mut().share = Some(pongs);
    }

    /// How many pongs were taken.
    pub fn read(&self) -> usize {
        self.state.borrow().read
    }

    pub fn is_held(&self) -> bool {
        Rc::strong_count(&self.state) > 1
    }
}

impl Stream for ScriptedPongs {
    type Item = Pong;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pong>> {
        let mut state = self.state.borrow_mut();
        if state.share.is_some_and(|share| state.shared >= share) {
            state.shared = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(pong) = state.queue.pop_front() {
            state.read += 1;
            state.shared += 1;
            return Poll::Ready(Some(pong));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if state.endless {
            state.read += 1;
            return Poll::Ready(Some(Pong(Bytes::from_static(b"stray"))));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A waker that counts.
#[derive(Default)]
pub struct Woken {
    pub flag: AtomicBool,
    pub count: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Frames as time, length and number (of the ping, or the close code), and the end.
pub type Transcript = (Vec<(Duration, usize, u64)>, Option<(Duration, Outcome)>);

pub type Outcome = Result<Stopped, Error<Broken>>;

/// Any kind of [`Pinger`] over the World's parts.
pub trait Heart: Future<Output = Outcome> + Unpin {
    fn stats(&self) -> Stats;
    fn controller(&mut self) -> Controller;
}

impl<St: PongSource + Unpin, Out: CloseSink + Unpin> Heart
    for Pinger<ScriptedSink, St, ManualTimer, Out>
{
    fn stats(&self) -> Stats {
        Pinger::stats(self)
    }

    fn controller(&mut self) -> Controller {
        Pinger::controller(self)
    }
}

/// How pongs get to the heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// By the [`PongSender`](futures_pinger::PongSender) of `pinger()`.
    Slot,
    /// By a `Stream<Item = Pong>`.
    Stream,
}

/// Runs a test over both paths.
pub fn each_path(test: impl Fn(Path)) {
    for path in [Path::Slot, Path::Stream] {
        test(path);
    }
}

/// The reader's end of either path.
#[derive(Clone)]
pub enum Reader {
    Slot(Rc<RefCell<Option<futures_pinger::PongSender>>>),
    Stream(PongScript),
}

impl Reader {
    pub fn pong(&self, payload: impl Into<Bytes>) {
        match self {
            Self::Slot(sender) => {
                if let Some(sender) = &*sender.borrow() {
                    let _ = sender.send(payload.into());
                }
            }
            Self::Stream(pongs) => pongs.push(payload),
        }
    }

    /// What the sender says of a pong, where there is one.
    pub fn send(&self, payload: impl Into<Bytes>) -> Result<PongKind, futures_pinger::Closed> {
        match self {
            Self::Slot(sender) => {
                let sender = sender.borrow();
                sender.as_ref().expect("not ended").send(payload.into())
            }
            Self::Stream(_) => panic!("a stream says nothing"),
        }
    }

    pub fn activity(&self) {
        match self {
            Self::Slot(sender) => sender.borrow().as_ref().expect("not ended").activity(),
            Self::Stream(_) => panic!("a stream has pongs only"),
        }
    }

    /// The sender itself, where there is one.
    pub fn take(&self) -> futures_pinger::PongSender {
        match self {
            Self::Slot(sender) => sender.take().expect("not ended"),
            Self::Stream(_) => panic!("a stream has no sender"),
        }
    }

    pub fn end(&self) {
        match self {
            Self::Slot(sender) => drop(sender.take()),
            Self::Stream(pongs) => pongs.end(),
        }
    }
}

/// One heartbeat in a [`World`], with all its handles.
pub struct Rig {
    pub world: World,
    pub sink: SinkScript,
    pub reader: Reader,
    heart: Option<Pin<Box<dyn Heart>>>,
    woken: Arc<Woken>,
    outcome: Option<(Duration, Outcome)>,
    stalls: Vec<Range<Duration>>,
    /// Polls more than it is woken for, by so many at each step.
    pub extra_polls: usize,
    /// A new waker for each poll.
    pub moving: bool,
    /// Pings that were out when it was paused and resumed.
    pub written_off: u64,
    polls: usize,
    stats: Option<Stats>,
    /// When the last proof of life was seen.
    proof: Option<Duration>,
}

impl Rig {
    pub fn new(path: Path, config: ConfigBuilder) -> Self {
        Self::with_close(path, config, SameSink)
    }

    /// With a dedicated sink for the close frame, which is returned.
    pub fn dedicated(path: Path, config: ConfigBuilder) -> (Self, SinkScript) {
        let world = World::new();
        let (out, script) = world.sink();
        (Self::in_world(world, path, config, out), script)
    }

    fn with_close<Out: CloseSink + Unpin + 'static>(
        path: Path,
        config: ConfigBuilder,
        out: Out,
    ) -> Self {
        Self::in_world(World::new(), path, config, out)
    }

    fn in_world<Out: CloseSink + Unpin + 'static>(
        world: World,
        path: Path,
        config: ConfigBuilder,
        out: Out,
    ) -> Self {
        let config = config.build().expect("a valid configuration");
        let (outgoing, sink) = world.sink();
        let (reader, heart): (_, Pin<Box<dyn Heart>>) = match path {
            Path::Slot => {
                let (sender, pinger) = pinger(outgoing, config);
                let pinger = pinger.with_timer(world.timer()).close_to(out);
                let sender = Rc::new(RefCell::new(Some(sender)));
                (Reader::Slot(sender), Box::pin(pinger))
            }
            Path::Stream => {
                let (pongs, script) = world.pongs();
                let pinger = Pinger::new(outgoing, pongs, config);
                let pinger = pinger.with_timer(world.timer()).close_to(out);
                (Reader::Stream(script), Box::pin(pinger))
            }
        };
        let woken = Arc::new(Woken::default());
        woken.flag.store(true, Ordering::Relaxed);
        Self {
            world,
            sink,
            reader,
            heart: Some(heart),
            woken,
            outcome: None,
            stalls: Vec::new(),
            extra_polls: 0,
            moving: false,
            written_off: 0,
            polls: 0,
            stats: None,
            proof: None,
        }
    }

    /// The peer answers each ping after `rtt`.
    pub fn answer_after(&self, rtt: Duration) {
        self.answer(move |_| Some(rtt));
    }

    /// The peer answers the ping of that number (from 0) after what `rtt` says, if anything.
    pub fn answer(&self, rtt: impl Fn(usize) -> Option<Duration> + 'static) {
        let (world, reader, number) = (self.world.clone(), self.reader.clone(), Cell::new(0));
        self.sink.on_wire(move |frame| {
            let Frame::Ping(payload) = frame else { return };
            let ping = number.replace(number.get() + 1);
            if let Some(rtt) = rtt(ping) {
                let reader = reader.clone();
                if rtt.is_zero() {
                    reader.pong(payload);
                } else {
                    world.at(world.elapsed() + rtt, move || reader.pong(payload));
                }
            }
        });
    }

    pub fn at(&self, time: Duration, event: impl FnOnce() + 'static) {
        self.world.at(time, event);
    }

    /// A pong with that payload arrives at that time.
    pub fn pong_at(&self, time: Duration, payload: impl Into<Bytes>) {
        let (reader, payload) = (self.reader.clone(), payload.into());
        self.at(time, move || reader.pong(payload));
    }

    /// The process does not run in that time.
    pub fn stall(&mut self, stall: Range<Duration>) {
        // Something must happen at its end for time to stop there.
        self.at(stall.end, || {});
        self.stalls.push(stall);
    }

    fn stalled(&self) -> bool {
        let now = self.world.elapsed();
        self.stalls.iter().any(|stall| stall.contains(&now))
    }

    /// Runs until `time`, or until the heartbeat ends and nothing else happens.
    pub fn run_until(&mut self, time: Duration) {
        loop {
            self.poll_while_woken();
            if !self.world.step(time) {
                break;
            }
        }
        self.poll_while_woken();
    }

    /// Time goes on to `time` without a poll: for tests that poll by hand.
    pub fn world_step(&mut self, time: Duration) {
        while self.world.step(time) {}
    }

    fn poll_while_woken(&mut self) {
        if self.stalled() {
            return;
        }
        let mut polls = 0;
        while self.woken.flag.swap(false, Ordering::Relaxed) {
            self.poll();
            polls += 1;
            assert!(polls < 100_000, "a busy loop at {:?}", self.world.elapsed());
        }
        for _ in 0..self.extra_polls {
            self.poll();
        }
    }

    /// One poll, woken or not.
    pub fn poll(&mut self) {
        let Some(heart) = &mut self.heart else { return };
        if self.outcome.is_some() {
            return;
        }
        if self.moving {
            // Whoever still holds the old one wakes nobody.
            let flag = self.woken.flag.load(Ordering::Relaxed);
            self.woken = Arc::default();
            self.woken.flag.store(flag, Ordering::Relaxed);
        }
        self.world.polls.set(self.world.polls.get() + 1);
        self.polls += 1;
        let waker = Waker::from(Arc::clone(&self.woken));
        if let Poll::Ready(outcome) = heart.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.outcome = Some((self.world.elapsed(), outcome));
        }
        let stats = heart.stats();
        let proofs = |stats: Stats| stats.answered() + stats.stale();
        if proofs(stats) > self.stats.map_or(0, proofs) {
            self.proof = Some(self.world.elapsed());
        }
        self.stats = Some(stats);
        let pings = self.sink.state.borrow().pings;
        let settled = stats.answered() + stats.missed() + self.written_off;
        assert!(pings <= settled + 1, "two pings in flight");
    }

    /// When the last proof of life was seen.
    pub fn proof(&self) -> Option<Duration> {
        self.proof
    }

    /// The end of the stall that goes on at `time`, or that time.
    pub fn stalled_until(&self, time: Duration) -> Duration {
        let mut time = time;
        while let Some(stall) = self.stalls.iter().find(|stall| stall.contains(&time)) {
            time = stall.end;
        }
        time
    }

    /// When the latest ping was flushed.
    pub fn last_ping_flushed(&self) -> Option<Duration> {
        self.sink.state.borrow().ping_flushed
    }

    /// How long it was stalled from `since` to `until`.
    pub fn stalled_between(&self, since: Duration, until: Duration) -> Duration {
        // Stalls may overlap: what counts is the time that no poll could come in.
        let mut stalls: Vec<_> = self.stalls.iter().map(|s| (s.start, s.end)).collect();
        stalls.sort();
        let (mut total, mut from) = (Duration::ZERO, since);
        for (start, end) in stalls {
            let start = start.max(from);
            let end = end.min(until);
            total += end.saturating_sub(start);
            from = from.max(end);
        }
        total
    }

    /// Polls although it has ended.
    pub fn poll_after_the_end(&mut self) {
        assert!(self.outcome.is_some());
        let heart = self.heart.as_mut().expect("not dropped");
        let _ = heart.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// A handle that steers it.
    pub fn controller(&mut self) -> Controller {
        self.heart.as_mut().expect("not dropped").controller()
    }

    pub fn drop_heart(&mut self) {
        self.heart = None;
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.as_ref().map(|(_, outcome)| outcome.clone())
    }

    pub fn ended_at(&self) -> Option<Duration> {
        self.outcome.as_ref().map(|(at, _)| *at)
    }

    /// The verdict and its time.
    #[track_caller]
    pub fn verdict(&self) -> (Duration, TimedOut) {
        match &self.outcome {
            Some((at, Err(Error::Timeout(verdict)))) => (*at, *verdict),
            other => panic!("no verdict but {other:?} at {:?}", self.world.elapsed()),
        }
    }

    #[track_caller]
    pub fn assert_alive(&self) {
        assert_eq!(self.outcome, None);
    }

    pub fn stats(&self) -> Stats {
        match &self.heart {
            Some(heart) => heart.stats(),
            None => self.stats.expect("polled before"),
        }
    }

    /// How often it was woken so far.
    pub fn wakes(&self) -> usize {
        self.woken.count.load(Ordering::Relaxed)
    }

    /// How often it was polled so far.
    pub fn polls(&self) -> usize {
        self.polls
    }

    /// All that came of it: frames with their times, and the end.
    pub fn transcript(&self) -> Transcript {
        let frames = self.sink.frames().into_iter();
        let frames = frames.map(|(at, frame)| match frame {
            // The tags are random; the sequence is not.
            Frame::Ping(p) => (
                at,
                p.len(),
                u64::from_be_bytes(p[..8].try_into().expect("8")),
            ),
            Frame::Pong(p) => (at, p.len(), u64::MAX),
            Frame::Close(reason) => (at, reason.reason().len(), reason.code().into()),
        });
        (frames.collect(), self.outcome.clone())
    }
}
