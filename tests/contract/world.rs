//! One heartbeat in a [`World`] of `futures_pinger::testing`, with what these tests keep book of.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream, StreamExt};
use futures_pinger::testing::{Answer, PongScript, Task};
pub use futures_pinger::testing::{Broken, Fault, ManualTimer, ScriptedSink, SinkScript, World};
use futures_pinger::{
    Closed, Config, ConfigBuilder, Controller, End, Error, FilterPongs, Frame, Member, MemberId,
    Pinger, PingerSet, PingerSetHandle, Pong, PongKind, PongSender, Stats, Stopped, TimedOut,
    pinger,
};

/// The times of no pings. It has a type, as durations of other crates compare with these too.
pub const NO_PINGS: [Duration; 0] = [];

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
    Config::builder()
        .interval(s(20))
        .granularity(Duration::ZERO)
}

/// Frames as time, length and number (of the ping, or the close code), and the end.
pub type Transcript = (Vec<(Duration, usize, u64)>, Option<(Duration, Outcome)>);

pub type Outcome = Result<Stopped, Error<Broken>>;

/// Any kind of [`Pinger`] over the World's parts.
pub trait Heart: Future<Output = Outcome> + Unpin {
    fn stats(&self) -> Stats;
    fn controller(&mut self) -> Controller;

    fn set_handle(&self) -> (PingerSetHandle<ScriptedSink>, MemberId) {
        panic!("it is no set")
    }
}

impl<St: Stream<Item = Pong> + Unpin, Out: Sink<Frame> + Unpin> Heart
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
    /// By the [`PongSender`] of `pinger()`.
    Slot,
    /// By a `Stream<Item = Pong>`.
    Stream,
    /// By the [`Member`] of a [`PingerSet`].
    Set,
}

/// The only member of a set, and the set.
struct Sole {
    set: PingerSet<ScriptedSink, (), ManualTimer>,
    id: MemberId,
    stats: Cell<Stats>,
}

impl Future for Sole {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(departure) = ready!(self.set.poll_next_unpin(cx)) else {
            unreachable!("a set never ends");
        };
        assert_eq!((self.set.len(), departure.id), (0, self.id));
        self.stats.set(departure.stats);
        match departure.end {
            End::Failed(error) => Poll::Ready(Err(error)),
            end => panic!("nobody closes it, but {end:?}"),
        }
    }
}

impl Heart for Sole {
    fn stats(&self) -> Stats {
        if let Ok(stats) = self.set.handle().stats(self.id) {
            self.stats.set(stats);
        }
        self.stats.get()
    }

    fn controller(&mut self) -> Controller {
        panic!("a member has none")
    }

    fn set_handle(&self) -> (PingerSetHandle<ScriptedSink>, MemberId) {
        (self.set.handle(), self.id)
    }
}

/// Runs a test over both paths to a [`Pinger`], where a set has no such thing: a dedicated sink, an end
/// of the pongs, a wake for each pong.
pub fn each_pinger(test: impl Fn(Path)) {
    for path in [Path::Slot, Path::Stream] {
        test(path);
    }
}

/// Runs a test over each path.
pub fn each_path(test: impl Fn(Path)) {
    for path in [Path::Slot, Path::Stream, Path::Set] {
        test(path);
    }
}

/// The reader's end of either path.
#[derive(Clone)]
pub enum Reader {
    Slot(Arc<Mutex<Option<PongSender>>>),
    Stream(PongScript),
    Set(Arc<Mutex<Option<Member>>>),
}

impl Reader {
    pub fn handle_pong(&self, payload: impl Into<Bytes>) {
        match self {
            Self::Slot(sender) => {
                if let Some(sender) = &*lock(sender) {
                    let _ = sender.handle_pong(&payload.into());
                }
            }
            Self::Stream(pongs) => pongs.push(payload),
            Self::Set(member) => {
                if let Some(member) = &*lock(member) {
                    member.handle_pong(&payload.into());
                }
            }
        }
    }

    /// What the sender says of a pong, where there is one.
    pub fn send(&self, payload: impl Into<Bytes>) -> Result<PongKind, Closed> {
        match self {
            Self::Slot(sender) => {
                let sender = lock(sender);
                sender
                    .as_ref()
                    .expect("not ended")
                    .handle_pong(&payload.into())
            }
            Self::Stream(_) => panic!("a stream says nothing"),
            Self::Set(member) => {
                let member = lock(member);
                Ok(member
                    .as_ref()
                    .expect("not ended")
                    .handle_pong(&payload.into()))
            }
        }
    }

    pub fn handle_activity(&self) {
        match self {
            Self::Slot(sender) => lock(sender).as_ref().expect("not ended").handle_activity(),
            Self::Stream(_) => panic!("a stream has pongs only"),
            Self::Set(member) => lock(member).as_ref().expect("not ended").handle_activity(),
        }
    }

    pub fn handle_ping(&self) {
        match self {
            Self::Slot(sender) => lock(sender).as_ref().expect("not ended").handle_ping(),
            Self::Stream(_) => panic!("a stream has pongs only"),
            Self::Set(member) => lock(member).as_ref().expect("not ended").handle_ping(),
        }
    }

    /// The sender itself, where there is one.
    pub fn take(&self) -> PongSender {
        match self {
            Self::Slot(sender) => lock(sender).take().expect("not ended"),
            Self::Stream(_) | Self::Set(_) => panic!("it has no sender"),
        }
    }

    /// The reader's stream, with the pongs taken out of it.
    pub fn attach<St, P>(&self, incoming: St, protocol: P) -> FilterPongs<St, P> {
        match self {
            Self::Slot(_) => self.take().attach(incoming, protocol),
            Self::Stream(_) => panic!("it has no sender"),
            Self::Set(member) => {
                let member = lock(member).take().expect("not ended");
                member.attach(incoming, protocol)
            }
        }
    }

    pub fn end(&self) {
        match self {
            Self::Slot(sender) => drop(lock(sender).take()),
            Self::Stream(pongs) => pongs.end(),
            Self::Set(member) => drop(lock(member).take()),
        }
    }
}

fn lock<T>(handle: &Mutex<T>) -> MutexGuard<'_, T> {
    handle.lock().expect("no test panics with it")
}

type Beating = Rc<RefCell<Option<Pin<Box<dyn Heart>>>>>;

/// Polls the heartbeat and keeps book of it; the [`Rig`] keeps the heartbeat beyond its end.
struct Beat {
    heart: Beating,
    book: Rc<RefCell<Book>>,
    world: World,
    sink: SinkScript,
}

#[derive(Default)]
struct Book {
    stats: Option<Stats>,
    /// When the last proof of life was seen.
    proof: Option<Duration>,
    written_off: u64,
}

impl Future for Beat {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut heart = self.heart.borrow_mut();
        let Some(heart) = &mut *heart else {
            return Poll::Pending;
        };
        let polled = heart.as_mut().poll(cx);
        let stats = heart.stats();
        let mut book = self.book.borrow_mut();
        let proofs = |stats: Stats| stats.answered() + stats.stale();
        if proofs(stats) > book.stats.map_or(0, proofs) {
            book.proof = Some(self.world.elapsed());
        }
        book.stats = Some(stats);
        let settled = stats.answered() + stats.missed() + book.written_off;
        let pings = self.sink.pings().len() as u64;
        assert!(pings <= settled + 1, "two pings in flight");
        polled
    }
}

/// The heartbeat by the world's time, with a sink of its own for the close frame or without.
fn closing_to<St: Stream<Item = Pong> + Unpin + 'static>(
    pinger: Pinger<ScriptedSink, St>,
    out: Option<ScriptedSink>,
    world: &World,
) -> Pin<Box<dyn Heart>> {
    let pinger = pinger.with_timer(world.timer());
    match out {
        Some(out) => Box::pin(pinger.close_to(out)),
        None => Box::pin(pinger),
    }
}

/// One heartbeat in a [`World`], with all its handles.
pub struct Rig {
    pub world: World,
    pub sink: SinkScript,
    pub reader: Reader,
    heart: Beating,
    task: Task<Beat>,
    book: Rc<RefCell<Book>>,
    stalls: Vec<Range<Duration>>,
    /// Polls more than it is woken for, by so many at each step.
    pub extra_polls: usize,
    /// A new waker for each poll.
    pub moving: bool,
    /// Pings that were out when it was paused and resumed.
    pub written_off: u64,
}

impl Rig {
    pub fn new(path: Path, config: ConfigBuilder) -> Self {
        Self::in_world(World::new(), path, config, None)
    }

    /// With a dedicated sink for the close frame, which is returned.
    pub fn dedicated(path: Path, config: ConfigBuilder) -> (Self, SinkScript) {
        let world = World::new();
        let (out, script) = world.sink();
        (Self::in_world(world, path, config, Some(out)), script)
    }

    fn in_world(
        world: World,
        path: Path,
        config: ConfigBuilder,
        out: Option<ScriptedSink>,
    ) -> Self {
        let config = config.build().expect("a valid configuration");
        let (outgoing, sink) = world.sink();
        let (reader, heart): (_, Pin<Box<dyn Heart>>) = match path {
            Path::Slot => {
                let (sender, pinger) = pinger(outgoing, config);
                let sender = Arc::new(Mutex::new(Some(sender)));
                (Reader::Slot(sender), closing_to(pinger, out, &world))
            }
            Path::Stream => {
                let (pongs, script) = world.pongs();
                let pinger = Pinger::new(outgoing, pongs, config);
                (Reader::Stream(script), closing_to(pinger, out, &world))
            }
            Path::Set => {
                let set = PingerSet::new(config).with_timer(world.timer());
                let member = set.insert(outgoing);
                let (id, stats) = (member.id(), Cell::new(member.stats()));
                let member = Arc::new(Mutex::new(Some(member)));
                let sole = Sole { set, id, stats };
                (Reader::Set(member), Box::pin(sole))
            }
        };
        let heart = Rc::new(RefCell::new(Some(heart)));
        let book = Rc::<RefCell<Book>>::default();
        let task = world.task(Beat {
            heart: Rc::clone(&heart),
            book: Rc::clone(&book),
            world: world.clone(),
            sink: sink.clone(),
        });
        Self {
            world,
            sink,
            reader,
            heart,
            task,
            book,
            stalls: Vec::new(),
            extra_polls: 0,
            moving: false,
            written_off: 0,
        }
    }

    /// The peer answers each ping after `rtt`.
    pub fn answer_after(&self, rtt: Duration) {
        self.answer(move |_| Some(rtt));
    }

    /// The peer answers the ping of that number (from 0) after what `rtt` says, if anything.
    pub fn answer(&self, rtt: impl Fn(usize) -> Option<Duration> + Send + 'static) {
        let reader = self.reader.clone();
        let peer = self.sink.peer(move |payload| reader.handle_pong(payload));
        peer.answer(move |ping| rtt(ping).map_or(Answer::Lost, Answer::After));
    }

    pub fn at(&self, time: Duration, event: impl FnOnce() + Send + 'static) {
        self.world.at(time, event);
    }

    /// A pong with that payload arrives at that time.
    pub fn pong_at(&self, time: Duration, payload: impl Into<Bytes>) {
        let (reader, payload) = (self.reader.clone(), payload.into());
        self.at(time, move || reader.handle_pong(payload));
    }

    /// The process does not run in that time.
    pub fn stall(&mut self, stall: Range<Duration>) {
        self.world.stall(stall.clone());
        self.stalls.push(stall);
    }

    /// Runs until `time`, or until the heartbeat ends and nothing else happens.
    pub fn run_until(&mut self, time: Duration) {
        self.set_up();
        self.task.run_until(time);
    }

    /// What tests may have changed since.
    fn set_up(&self) {
        self.world.spurious_polls(self.extra_polls);
        self.world.fresh_wakers(self.moving);
        self.book.borrow_mut().written_off = self.written_off;
    }

    /// Time goes on to `time` without a poll: for tests that poll by hand.
    pub fn world_step(&mut self, time: Duration) {
        while self.world.step(time) {}
    }

    /// One poll, woken or not.
    pub fn poll(&mut self) {
        self.set_up();
        if self.heart.borrow().is_some() {
            self.task.poll();
        }
    }

    /// When the last proof of life was seen.
    pub fn proof(&self) -> Option<Duration> {
        self.book.borrow().proof
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
        self.sink.ping_flushed()
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
        assert!(self.task.is_finished());
        let mut heart = self.heart.borrow_mut();
        let heart = heart.as_mut().expect("not dropped");
        let _ = heart.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// A handle that steers it.
    pub fn controller(&mut self) -> Controller {
        let mut heart = self.heart.borrow_mut();
        heart.as_mut().expect("not dropped").controller()
    }

    /// The handle of the set, and the id of its only member.
    pub fn set_handle(&self) -> (PingerSetHandle<ScriptedSink>, MemberId) {
        let heart = self.heart.borrow();
        heart.as_ref().expect("not dropped").set_handle()
    }

    pub fn drop_heart(&mut self) {
        *self.heart.borrow_mut() = None;
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.task.output().cloned()
    }

    pub fn ended_at(&self) -> Option<Duration> {
        self.task.ended_at()
    }

    /// The verdict and its time.
    #[track_caller]
    pub fn verdict(&self) -> (Duration, TimedOut) {
        match (self.ended_at(), self.task.output()) {
            (Some(at), Some(Err(Error::Timeout(verdict)))) => (at, *verdict),
            (_, other) => panic!("no verdict but {other:?} at {:?}", self.world.elapsed()),
        }
    }

    #[track_caller]
    pub fn assert_alive(&self) {
        assert_eq!(self.outcome(), None);
    }

    pub fn stats(&self) -> Stats {
        match &*self.heart.borrow() {
            Some(heart) => heart.stats(),
            None => self.book.borrow().stats.expect("polled before"),
        }
    }

    /// How often it was woken so far.
    pub fn wakes(&self) -> usize {
        self.task.wakes()
    }

    /// How often it was polled so far.
    pub fn polls(&self) -> usize {
        self.task.polls()
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
        (frames.collect(), self.ended_at().zip(self.outcome()))
    }
}
