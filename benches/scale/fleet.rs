//! One run: so many connections, each with its channel and its peer, under one kind of heartbeat.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures_pinger::{
    Config, End, Error, Frame, Member, PingerSet, PingerSetHandle, PongSender, Timer, pinger,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use ws_heartbeat::{HeartbeatRegistry, HeartbeatSession};

use crate::baseline::{self, Dead, Out};
use crate::channel_sink::ChannelSink;
use crate::meter::{self, Histogram, as_f64};
use crate::plan::{Contestant, Mode, On, Run};
use crate::runtimes::{Plain, Runtime, Smol, Tokio};

/// Of each connection's frames.
const CAPACITY: usize = 1;
/// From one batch of newcomers to the next.
const PACE: Duration = Duration::from_millis(5);

/// How late a ping reached its peer, after it was due.
static PINGS: Histogram = Histogram::new();
/// How late a verdict was told, after an interval and a timeout since the heartbeat began.
static VERDICTS: Histogram = Histogram::new();
/// The same after its own ping's deadline, where the heartbeat knows it.
static OVERDUE: Histogram = Histogram::new();
static EARLY: AtomicU64 = AtomicU64::new(0);

pub(crate) fn measure(run: Run) -> Value {
    match (run.contestant, run.on) {
        (Contestant::Floor, On::Tokio) => measure_on::<Floor<Tokio>>(run),
        (Contestant::Floor, On::Smol) => measure_on::<Floor<Smol>>(run),
        (Contestant::Floor, On::Plain) => measure_on::<Floor<Plain>>(run),
        (Contestant::Set, On::Tokio) => measure_on::<Set<Tokio>>(run),
        (Contestant::Set, On::Smol) => measure_on::<Set<Smol>>(run),
        (Contestant::Set, On::Plain) => measure_on::<Set<Plain>>(run),
        (Contestant::Pinger | Contestant::Exact | Contestant::Coarse, on) => match on {
            On::Tokio => measure_on::<Tasks<Tokio>>(run),
            On::Smol => measure_on::<Tasks<Smol>>(run),
            On::Plain => measure_on::<Tasks<Plain>>(run),
        },
        // These are of tokio.
        (Contestant::Select, _) => measure_on::<Select>(run),
        (Contestant::Ktor, _) => measure_on::<Ktor>(run),
        (Contestant::Registry, _) => measure_on::<Registry>(run),
    }
}

/// A kind of heartbeat, for a fleet of connections.
trait Fleet: Sized + 'static {
    type Runtime: Runtime;
    type Frame: Send + 'static;
    type Handle: Handle<Frame = Self::Frame>;
    /// What of the sink is in the heartbeat.
    const SINK: usize;

    fn new(runtime: Self::Runtime, run: Run) -> Self;
    /// One connection more. Its heartbeat begins.
    fn add(&mut self, out: mpsc::Sender<Self::Frame>) -> Self::Handle;
    /// Where the heartbeats share something that is to be started when they are there.
    fn launch(&mut self) {}
    /// How long it takes to sum up all figures, and to look at each heartbeat, where that can be asked.
    fn ask(&self) -> Option<(Duration, Duration)> {
        None
    }
    /// When the ping of a heartbeat that begins `now` is due.
    fn first_ping(&self, now: Instant) -> Instant;
    /// When the next is, after one that was due and came.
    fn next_ping(due: Instant, _came: Instant, interval: Duration) -> Instant {
        due + interval
    }
}

/// What the reader of a connection holds.
trait Handle: Send + 'static {
    type Frame;

    /// The payload of a ping; none of any other frame.
    fn payload(frame: Self::Frame) -> Option<Bytes>;
    fn pong(&self, payload: Bytes) -> impl Future<Output = ()> + Send;
}

fn measure_on<F: Fleet>(run: Run) -> Value {
    let runtime = F::Runtime::start(run.threads);
    let mut figures = match run.mode {
        Mode::Memory => memory::<F>(runtime, run),
        Mode::Cycle => cycle::<F>(runtime, run),
        Mode::Death => death::<F>(runtime, run),
        Mode::Join => join::<F>(runtime, run),
    };
    let all = figures.as_object_mut().expect("each mode makes an object");
    all.extend([
        ("mode".into(), run.mode.name().into()),
        ("contestant".into(), run.contestant.name().into()),
        ("runtime".into(), run.on.name().into()),
        ("threads".into(), run.threads.into()),
        ("connections".into(), run.connections.into()),
        ("interval_ms".into(), run.interval_ms().into()),
    ]);
    figures
}

/// Idle heartbeats, polled until they wait for their first pings. The channels are there before.
fn memory<F: Fleet>(runtime: F::Runtime, run: Run) -> Value {
    let mut fleet = F::new(runtime, run);
    let mut outs = Vec::with_capacity(run.connections);
    let mut frames = Vec::with_capacity(run.connections);
    let mut handles = Vec::with_capacity(run.connections);
    for _ in 0..run.connections {
        let (out, frames_in) = mpsc::channel::<F::Frame>(CAPACITY);
        outs.push(out);
        frames.push(frames_in);
    }
    meter::settle();

    let (before, resident) = (meter::allocated(), meter::resident());
    handles.extend(outs.drain(..).map(|out| fleet.add(out)));
    fleet.launch();
    meter::settle();
    let (after, resident_after) = (meter::allocated(), meter::resident());

    assert!(frames.iter_mut().all(|frames| frames.try_recv().is_err()));
    let connections = as_f64(run.connections as u64);
    let heap = as_f64((meter::live(&after) - meter::live(&before)) as u64) / connections;
    // A handle lies in a task of the connection's own.
    let handle = size_of::<F::Handle>();
    let bytes = heap + as_f64(handle as u64) - as_f64(F::SINK as u64);
    let rss = resident
        .zip(resident_after)
        .map(|(before, after)| as_f64(after.saturating_sub(before)) / connections);
    json!({
        "bytes": bytes,
        "handle_bytes": handle,
        "sink_bytes": F::SINK,
        "allocations": as_f64(meter::allocations(&(after - before)) as u64) / connections,
        "rss_bytes": rss,
    })
}

/// The heartbeats begin evenly over an interval, and are then observed for some.
fn cycle<F: Fleet>(runtime: F::Runtime, run: Run) -> Value {
    let mut fleet = F::new(runtime, run);
    fleet.launch();
    let begun = Instant::now();
    let mut added = 0;
    while added < run.connections {
        let now = Instant::now();
        let share = (now - begun).as_secs_f64() / run.interval.as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // Positive, and no more than there are.
        let due = ((share * as_f64(run.connections as u64)) as usize).min(run.connections);
        while added < due {
            connect(&mut fleet, runtime, run, true);
            added += 1;
        }
        thread::sleep(PACE);
    }
    // The last to come are not what is measured.
    thread::sleep(run.interval / 4);

    PINGS.clear();
    let (cpu, allocated, since) = (meter::cpu(), meter::allocated(), Instant::now());
    thread::sleep(run.interval);
    let elapsed = since.elapsed().as_secs_f64();
    let cpu = meter::cpu().saturating_sub(cpu).as_secs_f64();
    let allocated = meter::allocated() - allocated;
    let cycles = as_f64(PINGS.count());
    json!({
        "cycles": PINGS.count(),
        "cpu_ns_per_cycle": 1e9 * cpu / cycles,
        "cpu_share": cpu / elapsed,
        "allocations_per_cycle": as_f64(meter::allocations(&allocated) as u64) / cycles,
        "late_p50_ms": PINGS.quantile(0.5),
        "late_p99_ms": PINGS.quantile(0.99),
        "late_max_ms": PINGS.max(),
    })
}

/// All begin at once, and no peer ever answers.
fn death<F: Fleet>(runtime: F::Runtime, run: Run) -> Value {
    let mut fleet = F::new(runtime, run);
    let begun = Instant::now();
    for _ in 0..run.connections {
        connect(&mut fleet, runtime, run, false);
    }
    fleet.launch();
    let connections = run.connections as u64;
    let patience = 5 * (run.interval + run.timeout()) + Duration::from_secs(60);
    while VERDICTS.count() + EARLY.load(Ordering::Relaxed) < connections
        && begun.elapsed() < patience
    {
        thread::sleep(PACE);
    }
    let overdue = (OVERDUE.count() > 0).then(|| OVERDUE.max());
    json!({
        "verdicts": VERDICTS.count(),
        "early": EARLY.load(Ordering::Relaxed),
        "grid_ms": run.grid().as_secs_f64() * 1e3,
        "verdict_p50_ms": VERDICTS.quantile(0.5),
        "verdict_p99_ms": VERDICTS.quantile(0.99),
        "verdict_max_ms": VERDICTS.max(),
        "overdue_max_ms": overdue,
    })
}

/// All come at once, while the runtime runs. The channels are there before.
fn join<F: Fleet>(runtime: F::Runtime, run: Run) -> Value {
    let mut fleet = F::new(runtime, run);
    fleet.launch();
    let channels = (0..run.connections).map(|_| mpsc::channel::<F::Frame>(CAPACITY));
    let (outs, frames): (Vec<_>, Vec<_>) = channels.unzip();
    let mut handles = Vec::with_capacity(run.connections);
    meter::settle();

    let (cpu, begun) = (meter::cpu(), Instant::now());
    handles.extend(outs.into_iter().map(|out| fleet.add(out)));
    let joined = begun.elapsed();
    meter::settle();
    let cpu = meter::cpu().saturating_sub(cpu);
    let asked = fleet.ask();
    drop((frames, handles));
    json!({
        "join_ms": joined.as_secs_f64() * 1e3,
        "cpu_ms": cpu.as_secs_f64() * 1e3,
        "totals_us": asked.map(|(totals, _)| totals.as_secs_f64() * 1e6),
        "suspects_us": asked.map(|(_, suspects)| suspects.as_secs_f64() * 1e6),
    })
}

fn connect<F: Fleet>(fleet: &mut F, runtime: F::Runtime, run: Run, answers: bool) {
    let (out, frames) = mpsc::channel(CAPACITY);
    let due = fleet.first_ping(Instant::now());
    let handle = fleet.add(out);
    runtime.spawn(peer::<F>(frames, handle, due, run.interval, answers));
}

/// Reads what is sent to it and echoes each ping, if it answers at all.
async fn peer<F: Fleet>(
    mut frames: mpsc::Receiver<F::Frame>,
    handle: F::Handle,
    mut due: Instant,
    interval: Duration,
    answers: bool,
) {
    while let Some(frame) = frames.recv().await {
        let Some(payload) = F::Handle::payload(frame) else {
            continue;
        };
        let now = Instant::now();
        PINGS.record(now.saturating_duration_since(due));
        due = F::next_ping(due, now, interval);
        if answers {
            handle.pong(payload).await;
        }
    }
}

/// The verdict on a heartbeat that began at `begun`.
fn verdict(begun: Instant, run: Run, overdue: Option<Duration>) {
    let elapsed = begun.elapsed();
    match elapsed.checked_sub(run.interval + run.timeout()) {
        Some(late) => VERDICTS.record(late),
        None => {
            EARLY.fetch_add(1, Ordering::Relaxed);
        }
    }
    if let Some(overdue) = overdue {
        OVERDUE.record(overdue);
    }
}

fn ping(frame: Out) -> Option<Bytes> {
    match frame {
        Out::Ping(payload) => Some(payload),
        Out::Close(..) => None,
    }
}

fn ping_of_ours(frame: Frame) -> Option<Bytes> {
    match frame {
        Frame::Ping(payload) => Some(payload),
        Frame::Pong(_) | Frame::Close(_) => None,
    }
}

/// A heartbeat as a task. In a run that waits for verdicts the task also tells of its own.
fn spawn<T, R: Runtime>(
    runtime: R,
    run: Run,
    heartbeat: impl Future<Output = T> + Send + 'static,
    overdue: fn(T, Run) -> Option<Duration>,
) where
    T: Send + 'static,
{
    if run.mode != Mode::Death {
        return runtime.spawn(heartbeat);
    }
    runtime.spawn(async move {
        let begun = Instant::now();
        let end = heartbeat.await;
        verdict(begun, run, overdue(end, run));
    });
}

// --- this crate's, a task for each ---

struct Tasks<R> {
    runtime: R,
    run: Run,
    config: Config,
}

impl<R: Runtime> Fleet for Tasks<R> {
    type Runtime = R;
    type Frame = Frame;
    type Handle = PongSender;
    const SINK: usize = size_of::<ChannelSink<Frame>>();

    fn new(runtime: R, run: Run) -> Self {
        Self {
            runtime,
            run,
            config: run.config(),
        }
    }

    fn add(&mut self, out: mpsc::Sender<Frame>) -> PongSender {
        let (pongs, pinger) = pinger(ChannelSink::new(out), self.config.clone());
        spawn(
            self.runtime,
            self.run,
            pinger.with_timer(R::timer()),
            |end, run| overdue(&end.err()?, run),
        );
        pongs
    }

    fn first_ping(&self, now: Instant) -> Instant {
        now + self.run.interval
    }
}

fn overdue<E>(error: &Error<E>, run: Run) -> Option<Duration> {
    match error {
        Error::Timeout(timed_out) => Some(timed_out.elapsed().saturating_sub(run.timeout())),
        _ => None,
    }
}

impl Handle for PongSender {
    type Frame = Frame;

    fn payload(frame: Frame) -> Option<Bytes> {
        ping_of_ours(frame)
    }

    async fn pong(&self, payload: Bytes) {
        self.handle_pong(&payload).expect("the heartbeat runs");
    }
}

// --- this crate's, all in one task ---

struct Set<R: Runtime> {
    runtime: R,
    run: Run,
    handle: PingerSetHandle<ChannelSink<Frame>>,
    set: Option<PingerSet<ChannelSink<Frame>, (), R::Timer>>,
}

impl<R: Runtime> Fleet for Set<R> {
    type Runtime = R;
    type Frame = Frame;
    type Handle = Member;
    const SINK: usize = size_of::<Option<ChannelSink<Frame>>>();

    fn new(runtime: R, run: Run) -> Self {
        let set = PingerSet::new(run.config()).with_timer(R::timer());
        Self {
            runtime,
            run,
            handle: set.handle(),
            set: Some(set),
        }
    }

    fn add(&mut self, out: mpsc::Sender<Frame>) -> Member {
        let inserted = self.handle.insert(ChannelSink::new(out));
        inserted.unwrap_or_else(|_| unreachable!("the set stays"))
    }

    fn ask(&self) -> Option<(Duration, Duration)> {
        let time = |ask: &dyn Fn()| {
            let begun = Instant::now();
            ask();
            begun.elapsed()
        };
        // The middle of some.
        let middle = |ask: &dyn Fn()| {
            let mut all: Vec<_> = (0..9).map(|_| time(ask)).collect();
            all.sort();
            all[4]
        };
        let totals = middle(&|| {
            black_box(self.handle.totals());
        });
        let suspects = middle(&|| {
            black_box(self.handle.suspects());
        });
        Some((totals, suspects))
    }

    fn launch(&mut self) {
        let (mut set, run) = (self.set.take().expect("launched once"), self.run);
        self.runtime.spawn(async move {
            let begun = Instant::now();
            while let Some(departure) = set.next().await {
                if let End::Failed(error) = departure.end {
                    verdict(begun, run, overdue(&error, run));
                }
            }
        });
    }

    fn first_ping(&self, now: Instant) -> Instant {
        now + self.run.interval
    }
}

impl Handle for Member {
    type Frame = Frame;

    fn payload(frame: Frame) -> Option<Bytes> {
        ping_of_ours(frame)
    }

    async fn pong(&self, payload: Bytes) {
        self.handle_pong(&payload);
    }
}

// --- the loops ---

struct Select(Tokio, Run);

impl Fleet for Select {
    type Runtime = Tokio;
    type Frame = Out;
    type Handle = mpsc::Sender<Bytes>;
    const SINK: usize = size_of::<mpsc::Sender<Out>>();

    fn new(runtime: Tokio, run: Run) -> Self {
        Self(runtime, run)
    }

    fn add(&mut self, out: mpsc::Sender<Out>) -> mpsc::Sender<Bytes> {
        let (pongs, pongs_in) = mpsc::channel(1);
        let run = self.1;
        let heartbeat = baseline::select_loop(out, pongs_in, run.interval, run.timeout());
        spawn(self.0, run, heartbeat, overdue_of_loop);
        pongs
    }

    fn first_ping(&self, now: Instant) -> Instant {
        now + self.1.interval
    }
}

fn overdue_of_loop(end: Result<(), Dead>, _: Run) -> Option<Duration> {
    let deadline = end.err()?.deadline?.into_std();
    Some(Instant::now().saturating_duration_since(deadline))
}

struct Ktor(Tokio, Run);

impl Fleet for Ktor {
    type Runtime = Tokio;
    type Frame = Out;
    type Handle = mpsc::Sender<Bytes>;
    const SINK: usize = size_of::<mpsc::Sender<Out>>();

    fn new(runtime: Tokio, run: Run) -> Self {
        Self(runtime, run)
    }

    fn add(&mut self, out: mpsc::Sender<Out>) -> mpsc::Sender<Bytes> {
        let (pongs, pongs_in) = mpsc::channel(1);
        let run = self.1;
        let heartbeat = baseline::ktor_loop(out, pongs_in, run.interval, run.timeout());
        spawn(self.0, run, heartbeat, overdue_of_loop);
        pongs
    }

    fn first_ping(&self, now: Instant) -> Instant {
        now + self.1.interval
    }

    /// Its period begins with the pong.
    fn next_ping(_: Instant, came: Instant, interval: Duration) -> Instant {
        came + interval
    }
}

impl Handle for mpsc::Sender<Bytes> {
    type Frame = Out;

    fn payload(frame: Out) -> Option<Bytes> {
        ping(frame)
    }

    async fn pong(&self, payload: Bytes) {
        // Whoever has ended needs none.
        let _ = self.send(payload).await;
    }
}

// --- the registry and its sweeper ---

struct Registry {
    runtime: Tokio,
    run: Run,
    registry: HeartbeatRegistry<u64, Session>,
    swept: Option<Instant>,
    next: u64,
}

#[derive(Clone)]
struct Session {
    out: mpsc::Sender<Out>,
    watch: Option<Arc<(Instant, Run)>>,
}

// As the crate's own adapters do it.
#[async_trait]
impl HeartbeatSession for Session {
    async fn send_ping(self) {
        let _ = self.out.send(Out::Ping(Bytes::new())).await;
    }

    async fn close_session(self) {
        let _ = self.out.send(Out::Close(1011, "Ping timeout")).await;
        if let Some(watch) = self.watch {
            verdict(watch.0, watch.1, None);
        }
    }
}

impl Fleet for Registry {
    type Runtime = Tokio;
    type Frame = Out;
    type Handle = (HeartbeatRegistry<u64, Session>, u64);
    // With the pointer to what the runs of the dead need.
    const SINK: usize = size_of::<Session>();

    fn new(runtime: Tokio, run: Run) -> Self {
        let mut fleet = Self {
            runtime,
            run,
            registry: HeartbeatRegistry::new(),
            swept: None,
            next: 0,
        };
        if run.mode == Mode::Memory {
            // Its first sweep comes at once, and finds nobody.
            fleet.sweep();
        }
        fleet
    }

    fn add(&mut self, out: mpsc::Sender<Out>) -> Self::Handle {
        let key = self.next;
        self.next += 1;
        let watch = (self.run.mode == Mode::Death).then(|| Arc::new((Instant::now(), self.run)));
        self.registry.register(key, Session { out, watch });
        (self.registry.clone(), key)
    }

    fn launch(&mut self) {
        if self.run.mode != Mode::Memory {
            self.sweep();
        }
    }

    /// With the sweep after it.
    fn first_ping(&self, now: Instant) -> Instant {
        let Some(swept) = self.swept else { return now };
        let mut sweep = swept;
        while sweep < now {
            sweep += self.run.interval;
        }
        sweep
    }
}

impl Registry {
    fn sweep(&mut self) {
        let _entered = self.runtime.0.enter();
        // The silence after which the others have their verdict.
        let timeout = self.run.interval + self.run.timeout();
        self.registry.spawn_sweeper(self.run.interval, timeout);
        self.swept = Some(Instant::now());
    }
}

impl Handle for (HeartbeatRegistry<u64, Session>, u64) {
    type Frame = Out;

    fn payload(frame: Out) -> Option<Bytes> {
        ping(frame)
    }

    async fn pong(&self, _: Bytes) {
        self.0.touch(&self.1);
    }
}

// --- none: a task that sends as many pings, evenly, and nobody who judges ---

struct Floor<R> {
    runtime: R,
    run: Run,
    outs: Option<mpsc::UnboundedSender<mpsc::Sender<Out>>>,
    newcomers: Option<mpsc::UnboundedReceiver<mpsc::Sender<Out>>>,
}

impl<R: Runtime> Fleet for Floor<R> {
    type Runtime = R;
    type Frame = Out;
    type Handle = ();
    const SINK: usize = size_of::<mpsc::Sender<Out>>();

    fn new(runtime: R, run: Run) -> Self {
        let (outs, newcomers) = mpsc::unbounded_channel();
        Self {
            runtime,
            run,
            outs: Some(outs),
            newcomers: Some(newcomers),
        }
    }

    fn add(&mut self, out: mpsc::Sender<Out>) {
        let outs = self.outs.as_ref().expect("it stays");
        assert!(outs.send(out).is_ok(), "the sender stays");
    }

    fn launch(&mut self) {
        let newcomers = self.newcomers.take().expect("launched once");
        self.runtime.spawn(send(newcomers, R::timer(), self.run));
    }

    fn first_ping(&self, now: Instant) -> Instant {
        now + self.run.interval
    }
}

/// At each step of the grid to those that are due, in the order in which they came.
async fn send<T: Timer + Unpin>(
    mut newcomers: mpsc::UnboundedReceiver<mpsc::Sender<Out>>,
    mut timer: T,
    run: Run,
) {
    let mut outs: Vec<(Instant, mpsc::Sender<Out>)> = Vec::with_capacity(run.connections);
    let mut next = 0;
    let mut step = timer.now();
    loop {
        step += run.grid();
        Pin::new(&mut timer).reset(step);
        poll_fn(|cx| Pin::new(&mut timer).poll_elapsed(cx)).await;
        let now = Instant::now();
        while let Ok(out) = newcomers.try_recv() {
            outs.push((now + run.interval, out));
        }
        while let Some((due, out)) = outs.get_mut(next).filter(|(due, _)| *due <= now) {
            let _ = out.try_send(Out::Ping(Bytes::from_static(b"a ping's payload")));
            *due += run.interval;
            next = if next + 1 == run.connections {
                0
            } else {
                next + 1
            };
        }
    }
}

impl Handle for () {
    type Frame = Out;

    fn payload(frame: Out) -> Option<Bytes> {
        ping(frame)
    }

    async fn pong(&self, payload: Bytes) {
        drop(payload);
    }
}
