//! Foreign code with hooks in it, and heartbeats that are made of it alone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use futures_pinger::testing::{ScriptedSocket, SocketScript};
use futures_pinger::{
    Clock, Config, ConfigBuilder, Controller, Departure, End, Error, Frame, Instant, KeepAlive,
    Member, PingerSet, PongSender, Stats, Timer, pinger,
};

use crate::every_surface::build;
use crate::socket::{Msg, Plain};
use crate::world::{Broken, ManualTimer, ScriptedSink, SinkScript, World, exact, ms, s};

/// What foreign code does while it is called.
#[derive(Clone, Default)]
pub struct Hook(Arc<Hooked>);

pub type Work = Arc<dyn Fn(usize) + Send + Sync>;

#[derive(Default)]
pub struct Hooked {
    pub work: Mutex<Option<Work>>,
    pub calls: AtomicUsize,
    /// The work may lead to the hook again.
    pub busy: AtomicBool,
}

impl Hook {
    pub fn set(&self, work: impl Fn(usize) + Send + Sync + 'static) {
        *unpoisoned(&self.0.work) = Some(Arc::new(work));
    }

    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    pub fn run(&self) {
        if self.0.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let work = unpoisoned(&self.0.work).clone();
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let worked = catch_unwind(AssertUnwindSafe(|| {
            if let Some(work) = work {
                work(call);
            }
        }));
        self.0.busy.store(false, Ordering::Relaxed);
        if let Err(panic) = worked {
            resume_unwind(panic);
        }
    }
}

pub fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hooks of one heartbeat's foreign parts: the same one for those that a test is about.
#[derive(Clone, Default)]
pub struct Hooks {
    pub clock: Hook,
    pub timer: Hook,
    pub sink: Hook,
    pub wake: Hook,
    pub drop: Hook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Clock,
    Timer,
    /// The sink, or the whole socket and its protocol.
    Sink,
    Wake,
    /// The drop of a waker.
    Drop,
}

pub const PARTS: [Part; 5] = [Part::Clock, Part::Timer, Part::Sink, Part::Wake, Part::Drop];

impl Hooks {
    pub fn of(&self, part: Part) -> &Hook {
        match part {
            Part::Clock => &self.clock,
            Part::Timer => &self.timer,
            Part::Sink => &self.sink,
            Part::Wake => &self.wake,
            Part::Drop => &self.drop,
        }
    }
}

pub struct HookedTimer {
    pub timer: ManualTimer,
    pub clock: Clock,
    pub hook: Hook,
}

impl HookedTimer {
    pub fn new(world: &World, hooks: &Hooks) -> Self {
        let (clock, hook) = (world.clock(), hooks.clock.clone());
        let clock = Clock::new(move || {
            hook.run();
            clock.now()
        });
        Self {
            timer: world.timer(),
            clock,
            hook: hooks.timer.clone(),
        }
    }
}

impl Timer for HookedTimer {
    fn clock(&self) -> Clock {
        self.hook.run();
        self.clock.clone()
    }

    fn now(&self) -> Instant {
        self.hook.run();
        self.clock.now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.hook.run();
        Pin::new(&mut self.timer).reset(deadline);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.hook.run();
        Pin::new(&mut self.timer).poll_elapsed(cx)
    }
}

pub struct HookedSink<S> {
    pub sink: S,
    pub hook: Hook,
}

impl<M, S: Sink<M, Error = Broken> + Unpin> Sink<M> for HookedSink<S> {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.hook.run();
        self.sink.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Broken> {
        self.hook.run();
        self.sink.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.hook.run();
        self.sink.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.hook.run();
        self.sink.poll_close_unpin(cx)
    }
}

impl<S: Stream + Unpin> Stream for HookedSink<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.hook.run();
        self.sink.poll_next_unpin(cx)
    }
}

/// The clone of a waker cannot be hooked without unsafe code.
pub struct HookedWaker {
    pub woken: Arc<AtomicBool>,
    pub wake: Hook,
    pub drop: Hook,
}

impl Wake for HookedWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        self.wake.run();
    }
}

impl Drop for HookedWaker {
    fn drop(&mut self) {
        self.drop.run();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pinger,
    Set,
    KeepAlive,
}

pub const KINDS: [Kind; 3] = [Kind::Pinger, Kind::Set, Kind::KeepAlive];

pub type PollsTo<T> = Box<dyn FnMut(&mut Context<'_>) -> Poll<T>>;
pub type Driver = PollsTo<Option<Error<Broken>>>;

/// A heartbeat all of whose parts are hooked, and whose peer answers after 30 ms until it falls
/// silent.
pub struct Foreign {
    pub world: World,
    pub hooks: Hooks,
    pub woken: Arc<AtomicBool>,
    pub driver: Driver,
    pub handles: Handles,
    pub silent: Arc<AtomicBool>,
    pub stats: Box<dyn Fn() -> Stats>,
    /// None within: its end was lost with a panic.
    pub ended: Option<Option<Error<Broken>>>,
    /// How often something panicked, and was caught.
    pub panics: usize,
}

#[derive(Clone)]
pub enum Handles {
    Pinger(Arc<PongSender>, Controller),
    Set {
        member: Arc<Member>,
        handle: futures_pinger::PingerSetHandle<HookedSink<ScriptedSink>>,
        world: World,
        hooks: Hooks,
    },
    KeepAlive(Controller),
}

impl Handles {
    /// Whether it must not be polled any more.
    pub fn have_ended(&self) -> bool {
        match self {
            Self::Pinger(_, controller) | Self::KeepAlive(controller) => !controller.is_alive(),
            Self::Set { .. } => false,
        }
    }

    /// Calls all that changes nothing.
    pub fn look(&self) {
        match self {
            Self::Pinger(pongs, controller) => {
                let _ = pongs.is_closed();
                let _ = pongs.handle_pong(b"stray");
                pongs.handle_activity();
                let _ = controller.stats();
                let _ = controller.is_alive();
                let _ = controller.handle_activity();
            }
            Self::Set { member, handle, .. } => {
                let _ = member.stats();
                let _ = member.handle_pong(b"stray");
                member.handle_activity();
                let _ = handle.len();
            }
            Self::KeepAlive(controller) => {
                let _ = controller.stats();
                let _ = controller.is_alive();
                let _ = controller.handle_activity();
            }
        }
    }

    /// Calls what gives the heartbeat something to do.
    pub fn order(&self) {
        match self {
            Self::Pinger(_, controller) | Self::KeepAlive(controller) => {
                let _ = controller.pause();
                let _ = controller.resume();
                let _ = controller.set_config(build(foreign()));
                let _ = controller.ping_now();
            }
            Self::Set {
                handle,
                world,
                hooks,
                ..
            } => {
                let sink = HookedSink {
                    sink: world.sink().0,
                    hook: hooks.sink.clone(),
                };
                // It joins and leaves.
                drop(handle.insert(sink));
            }
        }
    }
}

pub fn foreign() -> ConfigBuilder {
    exact().interval(s(15))
}

impl Foreign {
    pub fn new(kind: Kind) -> Self {
        let (world, hooks) = (World::new(), Hooks::default());
        let (woken, silent) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicBool::new(false)),
        );
        let timer = HookedTimer::new(&world, &hooks);
        let config = build(foreign());
        let (driver, handles, stats): (Driver, _, Box<dyn Fn() -> Stats>) = match kind {
            Kind::Pinger => {
                let (sink, script) = hooked_sink(&world, &hooks);
                let (pongs, pinger) = pinger(sink, config);
                let mut pinger = pinger.with_timer(timer);
                let controller = pinger.controller();
                let pongs = Arc::new(pongs);
                let reader = Arc::clone(&pongs);
                answer(&world, &script, &silent, &woken, move |payload| {
                    let _ = reader.handle_pong(&payload);
                });
                let watched = controller.clone();
                (
                    Box::new(move |cx| pinger.poll_unpin(cx).map(Result::err)),
                    Handles::Pinger(pongs, controller),
                    Box::new(move || watched.stats()),
                )
            }
            Kind::Set => {
                let (sink, script) = hooked_sink(&world, &hooks);
                let set = PingerSet::new(config);
                let handle = set.handle();
                let mut set = set.with_timer(timer);
                let member = Arc::new(set.insert(sink));
                let reader = Arc::clone(&member);
                answer(&world, &script, &silent, &woken, move |payload| {
                    reader.handle_pong(&payload);
                });
                let watched = Arc::clone(&member);
                let id = member.id();
                let driver = move |cx: &mut Context<'_>| match set.poll_next_unpin(cx) {
                    Poll::Ready(Some(Departure {
                        id: ended,
                        end: End::Failed(error),
                        ..
                    })) if ended == id => Poll::Ready(Some(error)),
                    Poll::Ready(_) | Poll::Pending => Poll::Pending,
                };
                let handles = Handles::Set {
                    member,
                    handle,
                    world: world.clone(),
                    hooks: hooks.clone(),
                };
                (Box::new(driver), handles, Box::new(move || watched.stats()))
            }
            Kind::KeepAlive => return Self::keep_alive(world, hooks, woken, silent, timer, config),
        };
        Self {
            world,
            hooks,
            woken,
            driver,
            handles,
            silent,
            stats,
            ended: None,
            panics: 0,
        }
    }

    pub fn keep_alive(
        world: World,
        hooks: Hooks,
        woken: Arc<AtomicBool>,
        silent: Arc<AtomicBool>,
        timer: HookedTimer,
        config: Config,
    ) -> Self {
        let (socket, script): (ScriptedSocket<Msg>, SocketScript<Msg>) = world.socket(Plain);
        let quiet = Arc::clone(&silent);
        script.peer().answer(move |_| {
            if quiet.load(Ordering::Relaxed) {
                futures_pinger::testing::Answer::Lost
            } else {
                futures_pinger::testing::Answer::After(ms(30))
            }
        });
        let socket = HookedSink {
            sink: socket,
            hook: hooks.sink.clone(),
        };
        let alive = KeepAlive::with_protocol(socket, Plain, config);
        let mut alive = alive.with_timer(timer);
        let controller = alive.controller();
        let watched = controller.clone();
        let driver = move |cx: &mut Context<'_>| loop {
            match alive.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        };
        Self {
            world,
            hooks,
            woken,
            driver: Box::new(driver),
            handles: Handles::KeepAlive(controller),
            silent,
            stats: Box::new(move || watched.stats()),
            ended: None,
            panics: 0,
        }
    }

    /// Each poll has a waker of its own, and whatever panics is caught and polled again.
    pub fn run_until(&mut self, time: Duration) {
        let mut polls = 0;
        loop {
            while self.ended.is_none() && self.woken.swap(false, Ordering::Relaxed) {
                polls += 1;
                assert!(polls < 10_000, "a busy loop at {:?}", self.world.elapsed());
                let polled = catch_unwind(AssertUnwindSafe(|| {
                    let waker = Waker::from(Arc::new(HookedWaker {
                        woken: Arc::clone(&self.woken),
                        wake: self.hooks.wake.clone(),
                        drop: self.hooks.drop.clone(),
                    }));
                    // Kept before the waker is dropped, which may panic.
                    if let Poll::Ready(end) = (self.driver)(&mut Context::from_waker(&waker)) {
                        self.ended = Some(end);
                    }
                }));
                if let Err(panic) = polled {
                    self.caught(panic);
                }
            }
            match catch_unwind(AssertUnwindSafe(|| self.world.step(time))) {
                Ok(true) => {}
                Ok(false) => break,
                Err(panic) => self.caught(panic),
            }
        }
    }

    pub fn caught(&mut self, panic: Box<dyn std::any::Any + Send>) {
        if panic.downcast_ref::<Boom>().is_none() {
            // Not ours: an assertion of the World's, say.
            resume_unwind(panic);
        }
        self.panics += 1;
        self.woken.store(true, Ordering::Relaxed);
        // Whoever panics in the very last poll takes its outcome along; a set loses none.
        if self.ended.is_none() && self.handles.have_ended() {
            self.ended = Some(None);
        }
    }
}

pub fn hooked_sink(world: &World, hooks: &Hooks) -> (HookedSink<ScriptedSink>, SinkScript) {
    let (sink, script) = world.sink();
    let hook = hooks.sink.clone();
    (HookedSink { sink, hook }, script)
}

/// A panic that says nothing.
pub struct Boom;

/// The peer's answers, told once more where a call panicked.
pub fn answer(
    world: &World,
    script: &SinkScript,
    silent: &Arc<AtomicBool>,
    woken: &Arc<AtomicBool>,
    pong: impl Fn(Bytes) + Send + Sync + 'static,
) {
    let (world, silent, woken) = (world.clone(), Arc::clone(silent), Arc::clone(woken));
    let pong = Arc::new(pong);
    script.on_wire(move |frame| {
        let Frame::Ping(payload) = frame else { return };
        if silent.load(Ordering::Relaxed) {
            return;
        }
        let (pong, woken) = (Arc::clone(&pong), Arc::clone(&woken));
        world.at(world.elapsed() + ms(30), move || {
            let told = catch_unwind(AssertUnwindSafe(|| pong(payload.clone())));
            if told.is_err() {
                pong(payload);
                woken.store(true, Ordering::Relaxed);
            }
        });
    });
}

/// Runs `test` on a thread of its own, so that a test which hangs fails.
#[track_caller]
pub fn without_hanging(what: &str, test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(20)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs: {what}"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }
}
