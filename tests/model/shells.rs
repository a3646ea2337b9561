//! The shells of the crate in a [`World`], which polls them when they are woken.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Sink, Stream};
use futures_pinger::testing::{
    Broken, Fault, ManualTimer, PongScript, ScriptedPongs, ScriptedSink, ScriptedSocket,
    SinkScript, SocketScript, Task, World,
};
use futures_pinger::{
    CloseReason, Closed, Config, Controller, FilterPongs, Frame, HeartbeatState, KeepAlive, Member,
    MemberId, MessageKind, PingNowError, Pinger, PingerSet, PingerSetHandle, PongSender, Pongs,
    Probe, Protocol, Stats, Stopped, pinger,
};

use crate::script::{Change, End, Probed, Step};
use crate::system::{Order, System};

/// A shell, and what is around it.
pub trait Shell: Sized + 'static {
    /// What the test holds of the sink and of the pongs.
    type Script;

    fn new(world: &World, config: Config) -> (Self, Self::Script);

    /// Polls it until it waits; its end, once.
    fn drive(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End>;

    /// What steers it, if anything does.
    fn controller(&mut self) -> Option<Controller>;
    fn stats(&self) -> Stats;

    fn probe(_: &Self::Script, controller: Option<&Controller>, within: Duration) -> Probe {
        controller.expect("it has one").probe(within)
    }

    fn pong(script: &Self::Script) -> Arc<dyn Fn(Bytes) + Send + Sync>;
    fn activity(script: &Self::Script, controller: Option<&Controller>, is_ping: bool);
    fn sink(script: &Self::Script, change: Change);
    fn end_pongs(script: &Self::Script);
    fn frames(script: &Self::Script) -> Vec<(Duration, Frame)>;
    fn is_held(script: &Self::Script) -> bool;

    /// So many polls, at the most, were not for it.
    fn polls_of_others(_: &Self::Script) -> usize {
        0
    }

    /// Whether it has a way to do that; else that step is not taken.
    fn can(step: &Step) -> bool {
        !matches!(step, Step::Close | Step::Attach)
    }

    /// What the owner asks for. Whether it was heard, and whether it was to be.
    fn order(_: &Self::Script, controller: Option<&Controller>, order: Order) -> (bool, bool) {
        let controller = controller.expect("it has one");
        let alive = controller.is_alive();
        let asked = match order {
            Order::PingNow => has_asked(controller.ping_now()),
            Order::Pause => controller.pause(),
            Order::Resume => controller.resume(),
            Order::Configure(config) => controller.set_config(config),
            Order::Stop => controller.stop(),
            Order::Close | Order::Attach => unreachable!("it has no way to do that"),
        };
        (asked.is_ok(), alive)
    }

    /// See [`System::IS_ONE_OF_MANY`].
    const IS_ONE_OF_MANY: bool = false;

    /// See [`System::KNOWN_BY_ANY_PONG`].
    const KNOWN_BY_ANY_PONG: bool = true;
}

/// A shell that runs in a world of its own.
pub struct Run<H: Shell> {
    world: World,
    script: H::Script,
    shell: Rc<RefCell<Option<Pin<Box<H>>>>>,
    controller: Option<Controller>,
    task: Task<Beat<H>>,
    stats: Stats,
    probes: Vec<Probing>,
}

/// A probe whose task is polled when it is woken, and then only.
struct Probing {
    probe: Probe,
    woken: Arc<Woken>,
    probed: Probed,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Probing {
    fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let polled = Pin::new(&mut self.probe).poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(outcome) = polled {
            self.probed = outcome.into();
        }
    }
}

/// Polls the shell, which outlives its end.
pub struct Beat<H>(Rc<RefCell<Option<Pin<Box<H>>>>>);

impl<H: Shell> Future for Beat<H> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        match &mut *self.0.borrow_mut() {
            Some(shell) => shell.as_mut().drive(cx),
            None => Poll::Pending,
        }
    }
}

impl<H: Shell + Unpin> System for Run<H> {
    const KNOWN_BY_ANY_PONG: bool = H::KNOWN_BY_ANY_PONG;
    const IS_ONE_OF_MANY: bool = H::IS_ONE_OF_MANY;

    fn can(step: &Step) -> bool {
        H::can(step)
    }

    fn start(config: Config) -> Self {
        let world = World::new();
        let (mut shell, script) = H::new(&world, config);
        let controller = shell.controller();
        let stats = shell.stats();
        let shell = Rc::new(RefCell::new(Some(Box::pin(shell))));
        let task = world.task(Beat(Rc::clone(&shell)));
        Self {
            world,
            script,
            shell,
            controller,
            task,
            stats,
            probes: Vec::new(),
        }
    }

    fn run_until(&mut self, time: Duration) {
        self.task.run_until(time);
        if let Some(shell) = &*self.shell.borrow() {
            self.stats = shell.stats();
        }
        for probing in &mut self.probes {
            if probing.woken.0.swap(false, Ordering::Relaxed) {
                probing.poll();
            }
        }
    }

    fn probe(&mut self, within: Duration) {
        let mut probing = Probing {
            probe: H::probe(&self.script, self.controller.as_ref(), within),
            woken: Arc::default(),
            probed: Probed::Waiting,
        };
        probing.poll();
        self.probes.push(probing);
    }

    fn probes(&self) -> Vec<Probed> {
        self.probes.iter().map(|probing| probing.probed).collect()
    }

    fn stall_until(&mut self, time: Duration, pong: Option<Bytes>) {
        self.world.stall(self.world.elapsed()..time);
        let pass = H::pong(&self.script);
        if let Some(payload) = pong {
            self.world.at(time, move || pass(payload));
        }
    }

    fn suspend(&mut self, time: Duration) {
        self.world.suspend(time);
        self.task.poll();
    }

    fn pong(&mut self, payload: Bytes) {
        H::pong(&self.script)(payload);
    }

    fn activity(&mut self, is_ping: bool) {
        H::activity(&self.script, self.controller.as_ref(), is_ping);
    }

    fn sink(&mut self, change: Change) {
        H::sink(&self.script, change);
    }

    fn order(&mut self, order: Order) {
        let (heard, alive) = H::order(&self.script, self.controller.as_ref(), order);
        assert_eq!(heard, alive);
    }

    fn end_pongs(&mut self) {
        H::end_pongs(&self.script);
    }

    fn frames(&self) -> Vec<(Duration, Frame)> {
        H::frames(&self.script)
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn state(&self) -> HeartbeatState {
        let now = self.world.instant(self.world.elapsed());
        self.stats.state_at(now)
    }

    fn end(&self) -> Option<(Duration, End)> {
        self.task.ended_at().zip(self.task.output().copied())
    }

    fn poll_more(&mut self) {
        self.world.spurious_polls(2);
    }

    fn move_about(&mut self) {
        self.world.fresh_wakers(true);
    }

    fn polls(&self) -> usize {
        self.task
            .polls()
            .saturating_sub(H::polls_of_others(&self.script))
    }

    fn drop_heartbeat(&mut self) -> bool {
        *self.shell.borrow_mut() = None;
        let steered = self.controller.as_ref().is_some_and(Controller::is_alive);
        !H::is_held(&self.script) && self.world.timers() == 0 && !steered
    }
}

/// What only watches needs no ping.
fn has_asked(asked: Result<(), PingNowError>) -> Result<(), Closed> {
    match asked {
        Ok(()) | Err(PingNowError::Watching) => Ok(()),
        Err(_) => Err(Closed),
    }
}

fn change_sink(sink: &SinkScript, change: Change) {
    match change {
        Change::Block => sink.block(),
        Change::BlockFlush => sink.block_flush(),
        Change::Unblock => {
            sink.unblock();
            sink.unblock_flush();
        }
        Change::Fail(fault) => sink.fail(fault),
        Change::Yield(times) => sink.yield_at(move |poll| poll < usize::from(times)),
    }
}

impl From<Stopped> for End {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::PongsEnded => Self::PongsEnded,
            _ => Self::Requested,
        }
    }
}

/// A member of a [`PingerSet`], among others who answer at once, come and go.
pub struct InSet {
    set: PingerSet<Seat, usize, ManualTimer>,
    id: MemberId,
    handle: PingerSetHandle<Seat, usize>,
    stats: Stats,
    others: Arc<Mutex<Others>>,
}

/// A place in that set.
pub enum Seat {
    /// Of the member that the script is for.
    First(ScriptedSink),
    /// Of one whose peer answers while its frame is flushed: its number.
    Other(usize, Arc<Mutex<Others>>, Option<Bytes>),
}

pub struct Others {
    members: Vec<Option<Member>>,
    handle: PingerSetHandle<Seat, usize>,
    pings: usize,
}

/// Whoever reads for the member.
enum Reading {
    Member(Member),
    /// The stream of messages that it is attached to.
    Attached(
        UnboundedSender<Read>,
        Pin<Box<FilterPongs<UnboundedReceiver<Read>, Frames>>>,
    ),
}

/// What a stream of messages yields.
type Read = Result<Frame, Broken>;

impl Reading {
    /// A message is read, and all that there is with it.
    fn read(&mut self, message: Frame) {
        match (self, message) {
            (Self::Member(member), Frame::Pong(payload)) if payload == DATA => {
                member.handle_activity();
            }
            (Self::Member(member), Frame::Pong(payload)) => {
                member.handle_pong(&payload);
            }
            (Self::Member(member), _) => member.handle_ping(),
            (Self::Attached(sender, stream), message) => {
                sender.unbounded_send(Ok(message)).expect("it is there");
                let mut cx = Context::from_waker(Waker::noop());
                while let Poll::Ready(read) = stream.as_mut().poll_next(&mut cx) {
                    assert!(read.is_some(), "it has not ended");
                }
            }
        }
    }

    fn attach(self) -> Self {
        let Self::Member(member) = self else {
            return self;
        };
        let (sender, stream) = unbounded();
        Self::Attached(sender, Box::pin(member.attach(stream, Frames)))
    }
}

/// The key of the member, and that of all others.
const KEY: usize = 7;
const OTHER: usize = 8;

/// How many more there are in a set.
const OTHERS: usize = 3;

impl Others {
    fn count(&self) -> usize {
        self.members.iter().flatten().count()
    }

    fn join(others: &Arc<Mutex<Self>>, number: usize) {
        let handle = others.lock().expect("no panic").handle.clone();
        let seat = Seat::Other(number, Arc::clone(others), None);
        let joined = handle.insert_keyed(OTHER, seat);
        let left = std::mem::replace(
            &mut others.lock().expect("no panic").members[number],
            joined.ok(),
        );
        drop(left);
    }

    /// Its pong; and another is replaced now and then, until each leaves by itself: a script may last for
    /// thousands of intervals.
    fn answer(others: &Arc<Mutex<Self>>, number: usize, payload: &[u8]) {
        let pings = {
            let mut others = others.lock().expect("no panic");
            if let Some(member) = &others.members[number] {
                member.handle_pong(payload);
            }
            others.pings += 1;
            others.pings
        };
        if pings > 30 {
            let left = others.lock().expect("no panic").members[number].take();
            drop(left);
        } else if pings % 3 == 0 {
            Self::join(others, (number + 1) % OTHERS);
        }
    }
}

impl Sink<Frame> for Seat {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match &mut *self {
            Self::First(sink) => Pin::new(sink).poll_ready(cx),
            Self::Other(..) => Poll::Ready(Ok(())),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Broken> {
        match (&mut *self, frame) {
            (Self::First(sink), frame) => Pin::new(sink).start_send(frame),
            (Self::Other(.., ping), Frame::Ping(payload)) => {
                assert_eq!(ping.replace(payload), None, "not flushed");
                Ok(())
            }
            (Self::Other(..), frame) => panic!("it answers, and is sent {frame:?}"),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match &mut *self {
            Self::First(sink) => return Pin::new(sink).poll_flush(cx),
            Self::Other(number, others, ping) => {
                if let Some(payload) = ping.take() {
                    Others::answer(others, *number, &payload);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        panic!("the connection is not the set's to close")
    }
}

pub struct InSetScript {
    sink: SinkScript,
    id: MemberId,
    handle: PingerSetHandle<Seat, usize>,
    reading: Arc<Mutex<Option<Reading>>>,
    others: Arc<Mutex<Others>>,
}

impl Shell for InSet {
    type Script = InSetScript;

    fn new(world: &World, config: Config) -> (Self, InSetScript) {
        let (outgoing, sink) = world.sink();
        // Without pings the others had nothing to answer.
        let pings = config.watch().or(config.watch_pings()).is_none();
        let set = PingerSet::new(config).with_timer(world.timer());
        let others = Arc::new(Mutex::new(Others {
            members: (0..OTHERS).map(|_| None).collect(),
            handle: set.handle(),
            pings: 0,
        }));
        let before = (0..OTHERS - 1).filter(|_| pings);
        before.for_each(|number| Others::join(&others, number));
        let member = set.insert_keyed(KEY, Seat::First(outgoing));
        if pings {
            Others::join(&others, OTHERS - 1);
        }
        let (stats, id, handle) = (member.stats(), member.id(), set.handle());
        let script = InSetScript {
            sink,
            id,
            handle: handle.clone(),
            reading: Arc::new(Mutex::new(Some(Reading::Member(member)))),
            others: Arc::clone(&others),
        };
        let new = Self {
            set,
            id,
            handle,
            stats,
            others,
        };
        (new, script)
    }

    fn drive(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let polled = Pin::new(&mut self.set).poll_next(cx);
        let others = self.others.lock().expect("no panic").count();
        assert_eq!(self.set.len(), others + usize::from(polled.is_pending()));
        let Poll::Ready(ended) = polled else {
            return Poll::Pending;
        };
        let departure = ended.expect("a set never ends");
        let who = (departure.key, departure.id);
        assert_eq!(who, (KEY, self.id), "the others answer");
        self.stats = departure.stats;
        Poll::Ready(match &departure.end {
            futures_pinger::End::Failed(error) => error.into(),
            _ => End::Requested,
        })
    }

    fn controller(&mut self) -> Option<Controller> {
        None
    }

    fn stats(&self) -> Stats {
        self.handle.stats(self.id).unwrap_or(self.stats)
    }

    fn pong(script: &InSetScript) -> Arc<dyn Fn(Bytes) + Send + Sync> {
        let reading = Arc::clone(&script.reading);
        Arc::new(move |payload| {
            if let Some(reading) = &mut *reading.lock().expect("no panic") {
                reading.read(Frame::Pong(payload));
            }
        })
    }

    fn probe(script: &InSetScript, _: Option<&Controller>, within: Duration) -> Probe {
        script.handle.probe(script.id, within)
    }

    fn activity(script: &InSetScript, _: Option<&Controller>, is_ping: bool) {
        if let Some(reading) = &mut *script.reading.lock().expect("no panic") {
            reading.read(match is_ping {
                true => Frame::Ping(DATA),
                false => Frame::Pong(DATA),
            });
        }
    }

    fn order(script: &InSetScript, _: Option<&Controller>, order: Order) -> (bool, bool) {
        let InSetScript { handle, id, .. } = script;
        let alive = handle.stats(*id).is_ok();
        let asked = match order {
            Order::PingNow => has_asked(handle.ping_now(*id)),
            Order::Pause => handle.pause(*id),
            Order::Resume => handle.resume(*id),
            Order::Configure(config) => {
                if config.watch().or(config.watch_pings()).is_some() {
                    // Without pings the others had nothing to answer.
                    let mut others = script.others.lock().expect("no panic");
                    let left: Vec<_> = others.members.iter_mut().map(Option::take).collect();
                    drop(others);
                    drop(left);
                }
                // The set goes on without the member, unless it was dropped itself.
                let set = handle.set_config(config);
                return (set.is_ok() || !alive, true);
            }
            Order::Close => {
                let reason = CloseReason::new(1001, "going down").expect("it may be sent");
                handle.close(*id, reason)
            }
            Order::Attach => {
                let reading = &mut *script.reading.lock().expect("no panic");
                *reading = reading.take().map(Reading::attach);
                return (true, true);
            }
            Order::Stop => unreachable!("it has no way to do that"),
        };
        (asked.is_ok(), alive)
    }

    const IS_ONE_OF_MANY: bool = true;

    fn sink(script: &InSetScript, change: Change) {
        change_sink(&script.sink, change);
    }

    fn end_pongs(_: &InSetScript) {
        panic!("they come until it leaves");
    }

    fn frames(script: &InSetScript) -> Vec<(Duration, Frame)> {
        script.sink.frames()
    }

    fn is_held(script: &InSetScript) -> bool {
        script.sink.is_held()
    }

    fn polls_of_others(script: &InSetScript) -> usize {
        // A ping, a successor, and either of them polled three times.
        9 * script.others.lock().expect("no panic").pings
    }

    /// Its pongs come until it leaves, and it is closed rather than stopped. When the machine has slept the
    /// members of a set ping one after another, and keep their schedule.
    fn can(step: &Step) -> bool {
        !matches!(step, Step::Suspend(_) | Step::EndPongs | Step::Stop)
    }
}

/// A [`Pinger`] that takes its pongs out of a slot.
pub type BySlot = Pinger<ScriptedSink, Pongs, ManualTimer>;

pub struct SlotScript {
    sink: SinkScript,
    pongs: Arc<Mutex<Option<PongSender>>>,
}

impl Shell for BySlot {
    type Script = SlotScript;

    fn new(world: &World, config: Config) -> (Self, SlotScript) {
        let (outgoing, sink) = world.sink();
        let (sender, pinger) = pinger(outgoing, config);
        let pongs = Arc::new(Mutex::new(Some(sender)));
        (pinger.with_timer(world.timer()), SlotScript { sink, pongs })
    }

    fn drive(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let ended = self.poll(cx);
        ended.map(|ended| ended.map_or_else(|error| (&error).into(), End::from))
    }

    fn controller(&mut self) -> Option<Controller> {
        Some(Pinger::controller(self))
    }

    fn stats(&self) -> Stats {
        Pinger::stats(self)
    }

    fn pong(script: &SlotScript) -> Arc<dyn Fn(Bytes) + Send + Sync> {
        let pongs = Arc::clone(&script.pongs);
        Arc::new(move |payload| {
            if let Some(pongs) = &*pongs.lock().expect("no panic") {
                let _ = pongs.handle_pong(&payload); // It may have ended.
            }
        })
    }

    fn activity(script: &SlotScript, _: Option<&Controller>, is_ping: bool) {
        if let Some(pongs) = &*script.pongs.lock().expect("no panic") {
            match is_ping {
                true => pongs.handle_ping(),
                false => pongs.handle_activity(),
            }
        }
    }

    fn sink(script: &SlotScript, change: Change) {
        change_sink(&script.sink, change);
    }

    fn end_pongs(script: &SlotScript) {
        *script.pongs.lock().expect("no panic") = None;
    }

    fn frames(script: &SlotScript) -> Vec<(Duration, Frame)> {
        script.sink.frames()
    }

    fn is_held(script: &SlotScript) -> bool {
        script.sink.is_held()
    }
}

/// A [`Pinger`] that reads its pongs from a stream.
pub type ByStream = Pinger<ScriptedSink, ScriptedPongs, ManualTimer>;

impl Shell for ByStream {
    type Script = (SinkScript, PongScript);

    fn new(world: &World, config: Config) -> (Self, Self::Script) {
        let ((outgoing, sink), (incoming, pongs)) = (world.sink(), world.pongs());
        let pinger = Pinger::new(outgoing, incoming, config);
        (pinger.with_timer(world.timer()), (sink, pongs))
    }

    fn drive(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let ended = self.poll(cx);
        ended.map(|ended| ended.map_or_else(|error| (&error).into(), End::from))
    }

    fn controller(&mut self) -> Option<Controller> {
        Some(Pinger::controller(self))
    }

    fn stats(&self) -> Stats {
        Pinger::stats(self)
    }

    fn pong((_, pongs): &Self::Script) -> Arc<dyn Fn(Bytes) + Send + Sync> {
        let pongs = pongs.clone();
        Arc::new(move |payload| pongs.push(payload))
    }

    fn activity(_: &Self::Script, controller: Option<&Controller>, is_ping: bool) {
        let controller = controller.expect("it has one");
        // It may have ended.
        let _ = match is_ping {
            true => controller.handle_ping(),
            false => controller.handle_activity(),
        };
    }

    fn sink((sink, _): &Self::Script, change: Change) {
        change_sink(sink, change);
    }

    fn end_pongs((_, pongs): &Self::Script) {
        pongs.end();
    }

    fn frames((sink, _): &Self::Script) -> Vec<(Duration, Frame)> {
        sink.frames()
    }

    fn is_held((sink, pongs): &Self::Script) -> bool {
        sink.is_held() || pongs.is_held()
    }
}

/// A [`KeepAlive`] whose stream is read by nobody but its heartbeat.
pub struct Kept {
    alive: KeepAlive<ScriptedSocket<Frame>, Frames, ManualTimer>,
    controller: Option<Controller>,
}

/// The protocol of sockets whose messages are frames. A pong of nobody's serves as data.
pub struct Frames;

const DATA: Bytes = Bytes::from_static(b"data");

impl Protocol<Frame> for Frames {
    fn encode(&self, frame: Frame) -> Option<Frame> {
        Some(frame)
    }

    fn classify<'m>(&self, message: &'m Frame) -> MessageKind<'m> {
        match message {
            Frame::Ping(payload) => MessageKind::Ping(payload),
            Frame::Pong(payload) if *payload == DATA => MessageKind::Data,
            Frame::Pong(payload) => MessageKind::Pong(payload[..].into()),
            Frame::Close(_) => MessageKind::Close,
        }
    }
}

impl Shell for Kept {
    const KNOWN_BY_ANY_PONG: bool = false;

    fn can(step: &Step) -> bool {
        match step {
            Step::Configure(options) => !options.rule.is_answered_by_strays(),
            // Such a ping is offered once more, which is up to the tests of O95.
            Step::Sink(Change::Fail(Fault::Send)) => false,
            Step::Close | Step::Attach => false,
            _ => true,
        }
    }

    type Script = SocketScript<Frame>;

    fn new(world: &World, config: Config) -> (Self, Self::Script) {
        let (socket, script) = world.socket(Frames);
        let alive = KeepAlive::with_protocol(socket, Frames, config).with_timer(world.timer());
        let controller = None;
        (Self { alive, controller }, script)
    }

    fn drive(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match Pin::new(&mut self.alive).poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready((&error).into()),
                Poll::Ready(None) => return Poll::Ready(End::PongsEnded),
                // A plain socket from now on.
                Poll::Pending if self.controller.as_ref().is_some_and(|c| !c.is_alive()) => {
                    return Poll::Ready(End::Requested);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn controller(&mut self) -> Option<Controller> {
        self.controller = Some(self.alive.controller());
        self.controller.clone()
    }

    fn stats(&self) -> Stats {
        self.alive.stats()
    }

    fn pong(script: &Self::Script) -> Arc<dyn Fn(Bytes) + Send + Sync> {
        let script = script.clone();
        Arc::new(move |payload| script.receive(Frame::Pong(payload)))
    }

    fn activity(script: &Self::Script, _: Option<&Controller>, is_ping: bool) {
        script.receive(match is_ping {
            true => Frame::Ping(DATA),
            false => Frame::Pong(DATA),
        });
    }

    fn sink(script: &Self::Script, change: Change) {
        match change {
            Change::Block => script.block(),
            Change::BlockFlush => script.block_flush(),
            Change::Unblock => script.unblock(),
            Change::Fail(fault) => script.fail(fault),
            Change::Yield(times) => script.yield_at(move |poll| poll < usize::from(times)),
        }
    }

    fn end_pongs(script: &Self::Script) {
        script.end();
    }

    fn frames(script: &Self::Script) -> Vec<(Duration, Frame)> {
        script.sent()
    }

    fn is_held(script: &Self::Script) -> bool {
        script.is_held()
    }
}
