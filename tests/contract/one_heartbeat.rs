//! R. One heartbeat: one state, which each handle visits, whatever the surface; and what foreign code
//! may do meanwhile.

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
    Clock, Config, ConfigBuilder, Controller, Error, Frame, Heartbeat, Instant, KeepAlive,
    Liveness, Member, Output, PingerSet, PongKind, PongSender, State, Stats, TimeoutPhase, Timer,
    Verdict, pinger,
};
use proptest::prelude::*;

use crate::bare::Bare;
use crate::socket::{Kept, Msg, Plain};
use crate::world::{
    Broken, ManualTimer, Path, Rig, ScriptedSink, SinkScript, World, each_pinger, exact, ms, s,
};

/// One heartbeat, whatever carries it.
enum Surface {
    Rig(Path, Box<Rig>),
    KeepAlive(Box<Kept>),
    Bare(Box<Bare>),
}

/// Runs a test on each surface.
fn each_surface(config: &ConfigBuilder, test: impl Fn(Surface)) {
    for surface in surfaces(config) {
        test(surface);
    }
}

fn surfaces(config: &ConfigBuilder) -> Vec<Surface> {
    let rig = |path| Surface::Rig(path, Box::new(Rig::new(path, config.clone())));
    vec![
        Surface::Bare(Box::new(Bare::new(config.clone()))),
        rig(Path::Slot),
        rig(Path::Stream),
        rig(Path::Set),
        Surface::KeepAlive(Box::new(Kept::new(config.clone()))),
    ]
}

/// Runs a test on each surface that has a [`Controller`].
fn each_steered(config: &ConfigBuilder, test: impl Fn(Surface, Controller)) {
    for mut surface in surfaces(config) {
        let controller = match &mut surface {
            Surface::Rig(Path::Slot | Path::Stream, rig) => rig.controller(),
            Surface::KeepAlive(kept) => kept.alive.controller(),
            Surface::Rig(Path::Set, _) | Surface::Bare(_) => continue,
        };
        test(surface, controller);
    }
}

impl Surface {
    fn name(&self) -> String {
        match self {
            Self::Rig(path, _) => format!("{path:?}"),
            Self::KeepAlive(_) => "KeepAlive".into(),
            Self::Bare(_) => "Bare".into(),
        }
    }

    fn run_until(&mut self, time: Duration) {
        match self {
            Self::Rig(_, rig) => rig.run_until(time),
            Self::KeepAlive(kept) => kept.run_until(time),
            Self::Bare(bare) => bare.run_until(time),
        }
    }

    fn now(&self) -> Duration {
        match self {
            Self::Rig(_, rig) => rig.world.elapsed(),
            Self::KeepAlive(kept) => kept.world.elapsed(),
            Self::Bare(bare) => bare.now,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Rig(_, rig) => rig.stats().state_at(rig.world.instant(self.now())),
            Self::KeepAlive(kept) => kept.stats().state_at(kept.world.instant(self.now())),
            Self::Bare(bare) => bare.state(),
        }
    }

    /// A pong arrives, and is not read where reading is up to the heartbeat's task.
    fn arrives(&mut self, payload: Bytes) {
        match self {
            Self::Rig(_, rig) => rig.reader.pong(payload),
            Self::KeepAlive(kept) => kept.script.receive(Msg::Pong(payload)),
            Self::Bare(bare) => {
                let now = bare.instant();
                bare.heartbeat.handle_pong(&payload, now);
            }
        }
    }

    /// Data arrives; a stream of pongs has none.
    fn activity(&mut self) {
        match self {
            Self::Rig(Path::Stream, _) => panic!("a stream has pongs only"),
            Self::Rig(_, rig) => rig.reader.activity(),
            Self::KeepAlive(kept) => kept.script.receive(Msg::Data(0)),
            Self::Bare(bare) => {
                let now = bare.instant();
                bare.heartbeat.handle_activity(now);
            }
        }
    }

    fn pings(&self) -> Vec<Duration> {
        match self {
            Self::Rig(_, rig) => rig.sink.pings(),
            Self::KeepAlive(kept) => kept.script.pings(),
            Self::Bare(bare) => bare.times(),
        }
    }

    fn payload(&self, ping: usize) -> Bytes {
        match self {
            Self::Rig(_, rig) => rig.sink.payload(ping),
            Self::KeepAlive(kept) => {
                let sent = kept.script.sent().into_iter();
                let mut pings = sent.filter_map(|(_, message)| match message {
                    Msg::Ping(payload) => Some(payload),
                    _ => None,
                });
                pings.nth(ping).expect("it was sent")
            }
            Self::Bare(bare) => bare.pings[ping].1.clone(),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Rig(_, rig) => rig.stats(),
            Self::KeepAlive(kept) => kept.stats(),
            Self::Bare(bare) => bare.stats(),
        }
    }

    /// When the verdict fell, if it has.
    fn verdict(&self) -> Option<Duration> {
        match self {
            Self::Rig(_, rig) => rig.outcome().map(|outcome| match outcome {
                Err(Error::Timeout(_)) => rig.ended_at().expect("it has ended"),
                other => panic!("{other:?}"),
            }),
            Self::KeepAlive(kept) => match kept.read.last() {
                Some((at, Err(Error::Timeout(_)))) => Some(*at),
                Some((_, Err(other))) => panic!("{other:?}"),
                _ => None,
            },
            Self::Bare(bare) => bare.done.map(|(at, verdict)| match verdict {
                Verdict::TimedOut(_) => at,
                other => panic!("{other:?}"),
            }),
        }
    }
}

/// Sent, answered, missed, stale, unsolicited.
fn counters(stats: Stats) -> [u64; 5] {
    [
        stats.sent(),
        stats.answered(),
        stats.missed(),
        stats.stale(),
        stats.unsolicited(),
    ]
}

fn trusting(max_unproven: Duration) -> Liveness {
    Liveness::Activity { max_unproven }
}

fn build(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}

// --- 119: entered once, shown at once ---

// contract: R119
#[test]
fn a_pong_told_to_a_handle_is_in_the_stats_of_each_at_once() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let controller = (path == Path::Slot).then(|| rig.controller());
        rig.run_until(s(20) + ms(70));
        let all = |rig: &Rig| {
            let polls = rig.polls();
            let mut all = vec![rig.stats()];
            all.extend(controller.as_ref().map(Controller::stats));
            assert_eq!(rig.polls(), polls);
            all
        };
        let stray = rig.reader.send("stray");
        assert_eq!(stray, Ok(PongKind::Unsolicited));
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 0, 0, 0, 1], "{path:?}");
        }
        let matched = rig.reader.send(rig.sink.payload(0));
        assert_eq!(matched, Ok(PongKind::Matched { rtt: ms(70) }));
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 1, 0, 0, 1], "{path:?}");
            assert_eq!(stats.latest_rtt(), Some(ms(70)));
            assert_eq!(stats.state_at(rig.world.instant(s(21))), State::Idle);
        }
        let again = rig.reader.send(rig.sink.payload(0));
        assert_eq!(again, Ok(PongKind::Unsolicited), "entered once");
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 1, 0, 0, 2], "{path:?}");
        }
        // The driver has nothing to add.
        rig.run_until(s(30));
        for stats in all(&rig) {
            assert_eq!(counters(stats), [1, 1, 0, 0, 2], "{path:?}");
        }
    }
}

// contract: R119
#[test]
fn a_stale_pong_and_an_answer_by_policy_are_in_the_stats_at_once() {
    for path in [Path::Slot, Path::Set] {
        let config = exact().timeout(s(5)).max_missed(9);
        let mut rig = Rig::new(path, config.clone());
        rig.run_until(s(26));
        assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
        assert_eq!(counters(rig.stats()), [2, 0, 1, 1, 0], "{path:?}");

        let mut rig = Rig::new(path, config.clone().liveness(Liveness::AnyPong));
        rig.run_until(s(21));
        assert_eq!(rig.reader.send("mangled"), Ok(PongKind::Accepted));
        assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 0], "{path:?}");

        let mut rig = Rig::new(path, config.liveness(trusting(s(1000))));
        rig.run_until(s(21));
        rig.reader.activity();
        assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 0], "{path:?}");
    }
}

// contract: R119
#[test]
fn activity_told_to_a_controller_is_in_the_stats_of_each_at_once() {
    let config = exact().liveness(trusting(s(1000)));
    each_steered(&config, |mut surface, controller| {
        surface.run_until(s(21));
        controller.activity().expect("it runs");
        for stats in [surface.stats(), controller.stats()] {
            assert_eq!(counters(stats), [1, 1, 0, 0, 0], "{}", surface.name());
        }
    });
}

// contract: R119
#[test]
fn what_the_task_has_read_is_in_the_controllers_stats() {
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(21));
        let payload = surface.payload(0);
        surface.arrives("stray".into());
        surface.arrives(payload);
        surface.run_until(s(21));
        assert_eq!(surface.stats(), controller.stats(), "{}", surface.name());
        assert_eq!(counters(controller.stats()), [1, 1, 0, 0, 1]);
    });
}

// contract: R119
#[test]
fn of_a_pong_that_many_threads_tell_one_is_entered() {
    const THREADS: u64 = 8;
    for path in [Path::Slot, Path::Set] {
        for _ in 0..20 {
            let mut rig = Rig::new(path, exact());
            rig.run_until(s(21));
            let payload = rig.sink.payload(0);
            let start = std::sync::Barrier::new(THREADS as usize);
            let matched: u64 = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        let (reader, payload, start) =
                            (rig.reader.clone(), payload.clone(), &start);
                        scope.spawn(move || {
                            start.wait();
                            let kind = reader.send(payload).expect("it runs");
                            u64::from(matches!(kind, PongKind::Matched { .. }))
                        })
                    })
                    .collect();
                threads.into_iter().map(|it| it.join().unwrap()).sum()
            });
            assert_eq!(matched, 1);
            assert_eq!(counters(rig.stats()), [1, 1, 0, 0, THREADS - 1]);
            rig.run_until(s(22));
            assert_eq!(counters(rig.stats()), [1, 1, 0, 0, THREADS - 1]);
        }
    }
}

// --- 120: counters agree ---

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Activity,
    Mangled,
    /// Of the ping so many before the newest.
    Right(usize),
}

/// All of it comes at once: what follows from the first is not there yet when the last comes.
fn befall(surface: &mut Surface, inputs: &[Input]) {
    let newest = surface.pings().len();
    for input in inputs {
        match input {
            Input::Activity => surface.activity(),
            Input::Mangled => surface.arrives("mangled".into()),
            Input::Right(back) => {
                if let Some(ping) = newest.checked_sub(1 + back) {
                    let payload = surface.payload(ping);
                    surface.arrives(payload);
                }
            }
        }
    }
}

/// The surfaces that can be told all of that: a stream of pongs has no data.
fn surfaces_for(config: &ConfigBuilder, inputs: &[Input]) -> Vec<Surface> {
    let mut surfaces = surfaces(config);
    if inputs.contains(&Input::Activity) {
        surfaces.retain(|surface| !matches!(surface, Surface::Rig(Path::Stream, _)));
    }
    surfaces
}

// contract: R120
#[test]
fn activity_a_mangled_and_a_right_pong_between_two_polls_count_alike_in_any_order() {
    use Input::{Activity, Mangled, Right};
    let orders = [
        &[Activity, Mangled, Right(0)][..],
        &[Activity, Right(0), Mangled],
        &[Mangled, Activity, Right(0)],
        &[Mangled, Right(0), Activity],
        &[Right(0), Activity, Mangled],
        &[Right(0), Mangled, Activity],
        &[Activity, Activity],
        &[Activity, Activity, Right(0), Activity],
        &[Mangled, Right(0)],
        &[Right(0), Mangled],
        &[Mangled, Mangled, Right(0)],
        &[Right(0), Right(0)],
    ];
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        for order in orders {
            // Of these a pong counts as unsolicited that answered nothing and proved nothing.
            let (mut answered, mut proved, mut unsolicited) = (false, false, 0);
            for input in order {
                match (input, liveness) {
                    (Right(_), _) if !proved => (answered, proved) = (true, true),
                    (Right(_), _) => unsolicited += 1,
                    (Activity, Liveness::Activity { .. }) => answered = true,
                    (Activity, _) => {}
                    (Mangled, Liveness::Pong) => unsolicited += 1,
                    (Mangled, _) if !answered => answered = true,
                    (Mangled, _) => unsolicited += 1,
                }
            }
            let config = exact().liveness(liveness);
            for mut surface in surfaces_for(&config, order) {
                surface.run_until(s(21));
                befall(&mut surface, order);
                surface.run_until(s(22));
                assert_eq!(
                    counters(surface.stats()),
                    [1, answered.into(), 0, 0, unsolicited],
                    "{} under {liveness:?}: {order:?}",
                    surface.name()
                );
                // The right pong measures, also where something else answered first.
                assert_eq!(
                    surface.stats().latest_rtt(),
                    proved.then_some(s(1)),
                    "{} under {liveness:?}: {order:?}",
                    surface.name()
                );
            }
        }
    }
}

// contract: R120
#[test]
fn data_is_never_an_unsolicited_pong() {
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        let config = exact().liveness(liveness);
        for mut surface in surfaces_for(&config, &[Input::Activity]) {
            for second in 0..60 {
                surface.run_until(s(second) + ms(500));
                for _ in 0..3 {
                    surface.activity();
                }
            }
            surface.run_until(s(60));
            assert_eq!(surface.stats().unsolicited(), 0, "{}", surface.name());
        }
    }
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let input = prop_oneof![
        2 => Just(Input::Activity),
        2 => Just(Input::Mangled),
        4 => (0..3_usize).prop_map(Input::Right),
    ];
    prop::collection::vec(input, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // contract: R120
    #[test]
    fn one_script_counts_alike_on_all_surfaces(
        // Never at the time at which something is due.
        script in prop::collection::vec((1..120_u64, inputs()), 0..12),
        liveness in prop_oneof![
            Just(Liveness::Pong),
            Just(Liveness::AnyPong),
            Just(trusting(Duration::from_secs(50))),
        ],
        timeout in 1..30_u64,
        max_missed in 1..4_u32,
        data in any::<bool>(),
    ) {
        let mut script = script;
        script.sort_by_key(|(at, _)| *at);
        if !data {
            for (_, inputs) in &mut script {
                inputs.retain(|input| *input != Input::Activity);
            }
        }
        let config = exact().interval(s(10)).timeout(s(timeout)).max_missed(max_missed).liveness(liveness);
        let all: Vec<_> = script.iter().flat_map(|(_, inputs)| inputs.clone()).collect();
        let mut expected = None;
        for mut surface in surfaces_for(&config, &all) {
            for (at, inputs) in &script {
                surface.run_until(s(*at) + ms(137));
                if surface.verdict().is_some() {
                    break;
                }
                befall(&mut surface, inputs);
            }
            surface.run_until(s(150));
            let lived = (surface.pings(), surface.verdict(), counters(surface.stats()));
            let expected = expected.get_or_insert_with(|| lived.clone());
            prop_assert_eq!(&lived, expected, "{}", surface.name());
        }
    }
}

// --- 121: a timeout where there was none ---

// contract: R121
#[test]
fn a_timeout_where_there_was_none_is_judged_at_one_time_by_all() {
    for (given, judged) in [
        (s(25), s(40)),
        (s(38), s(40)),
        (s(39) + ms(500), s(40)),
        // The deadline is past then: it is judged at once.
        (s(100), s(100)),
    ] {
        let config = exact().initial_delay(s(20)).interval(s(3600));
        each_steered(&config.clone().no_timeout(), |mut surface, controller| {
            surface.run_until(given);
            controller
                .set_config(build(config.clone()))
                .expect("it runs");
            surface.run_until(s(300));
            let at = surface.verdict().expect("a verdict");
            let name = surface.name();
            assert!(judged <= at && at < judged + ms(1), "{name}: {at:?}");
            assert_eq!(surface.stats().late_wakes(), 0, "{name}");
            assert_eq!(controller.stats().late_wakes(), 0, "{name}");
        });
        let mut bare = Bare::new(config.clone().no_timeout());
        bare.run_until(given);
        bare.set_config(config);
        bare.run_until(s(300));
        let (at, _) = bare.timed_out();
        assert!(judged <= at && at < judged + ms(1), "{at:?}");
        assert_eq!(bare.stats().late_wakes(), 0);
    }
}

// --- 123: foreign code ---

/// What foreign code does while it is called.
#[derive(Clone, Default)]
struct Hook(Arc<Hooked>);

type Work = Arc<dyn Fn(usize) + Send + Sync>;

#[derive(Default)]
struct Hooked {
    work: Mutex<Option<Work>>,
    calls: AtomicUsize,
    /// The work may lead to the hook again.
    busy: AtomicBool,
}

impl Hook {
    fn set(&self, work: impl Fn(usize) + Send + Sync + 'static) {
        *unpoisoned(&self.0.work) = Some(Arc::new(work));
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn run(&self) {
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

fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hooks of one heartbeat's foreign parts: the same one for those that a test is about.
#[derive(Clone, Default)]
struct Hooks {
    clock: Hook,
    timer: Hook,
    sink: Hook,
    wake: Hook,
    drop: Hook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Clock,
    Timer,
    /// The sink, or the whole socket and its protocol.
    Sink,
    Wake,
    /// The drop of a waker.
    Drop,
}

const PARTS: [Part; 5] = [Part::Clock, Part::Timer, Part::Sink, Part::Wake, Part::Drop];

impl Hooks {
    fn of(&self, part: Part) -> &Hook {
        match part {
            Part::Clock => &self.clock,
            Part::Timer => &self.timer,
            Part::Sink => &self.sink,
            Part::Wake => &self.wake,
            Part::Drop => &self.drop,
        }
    }
}

struct HookedTimer {
    timer: ManualTimer,
    clock: Clock,
    hook: Hook,
}

impl HookedTimer {
    fn new(world: &World, hooks: &Hooks) -> Self {
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

struct HookedSink<S> {
    sink: S,
    hook: Hook,
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
struct HookedWaker {
    woken: Arc<AtomicBool>,
    wake: Hook,
    drop: Hook,
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
enum Kind {
    Pinger,
    Set,
    KeepAlive,
}

const KINDS: [Kind; 3] = [Kind::Pinger, Kind::Set, Kind::KeepAlive];

type PollsTo<T> = Box<dyn FnMut(&mut Context<'_>) -> Poll<T>>;
type Driver = PollsTo<Option<Error<Broken>>>;

/// A heartbeat all of whose parts are hooked, and whose peer answers after 30 ms until it falls
/// silent.
struct Foreign {
    world: World,
    hooks: Hooks,
    woken: Arc<AtomicBool>,
    driver: Driver,
    handles: Handles,
    silent: Arc<AtomicBool>,
    stats: Box<dyn Fn() -> Stats>,
    pings: Box<dyn Fn() -> usize>,
    /// None within: its end was lost with a panic.
    ended: Option<Option<Error<Broken>>>,
    /// How often something panicked, and was caught.
    panics: usize,
}

#[derive(Clone)]
enum Handles {
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
    fn have_ended(&self) -> bool {
        match self {
            Self::Pinger(_, controller) | Self::KeepAlive(controller) => !controller.is_alive(),
            Self::Set { .. } => false,
        }
    }

    /// Calls all that changes nothing.
    fn look(&self) {
        match self {
            Self::Pinger(pongs, controller) => {
                let _ = pongs.is_closed();
                let _ = pongs.send("stray");
                pongs.activity();
                let _ = controller.stats();
                let _ = controller.is_alive();
                let _ = controller.activity();
            }
            Self::Set { member, handle, .. } => {
                let _ = member.stats();
                let _ = member.pong(b"stray");
                member.activity();
                let _ = handle.len();
            }
            Self::KeepAlive(controller) => {
                let _ = controller.stats();
                let _ = controller.is_alive();
                let _ = controller.activity();
            }
        }
    }

    /// Calls what gives the heartbeat something to do.
    fn order(&self) {
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

fn foreign() -> ConfigBuilder {
    exact().interval(s(15))
}

impl Foreign {
    fn new(kind: Kind) -> Self {
        let (world, hooks) = (World::new(), Hooks::default());
        let (woken, silent) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicBool::new(false)),
        );
        let timer = HookedTimer::new(&world, &hooks);
        let config = build(foreign());
        let (driver, handles, stats, pings): (Driver, _, Box<dyn Fn() -> Stats>, _) = match kind {
            Kind::Pinger => {
                let (sink, script) = hooked_sink(&world, &hooks);
                let (pongs, pinger) = pinger(sink, config);
                let mut pinger = pinger.with_timer(timer);
                let controller = pinger.controller();
                let pongs = Arc::new(pongs);
                let reader = Arc::clone(&pongs);
                answer(&world, &script, &silent, &woken, move |payload| {
                    let _ = reader.send(payload);
                });
                let watched = controller.clone();
                (
                    Box::new(move |cx| pinger.poll_unpin(cx).map(Result::err)),
                    Handles::Pinger(pongs, controller),
                    Box::new(move || watched.stats()),
                    script,
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
                    reader.pong(&payload);
                });
                let watched = Arc::clone(&member);
                let id = member.id();
                let driver = move |cx: &mut Context<'_>| match set.poll_next_unpin(cx) {
                    Poll::Ready(Some((ended, error))) if ended == id => Poll::Ready(Some(error)),
                    Poll::Ready(_) | Poll::Pending => Poll::Pending,
                };
                let handles = Handles::Set {
                    member,
                    handle,
                    world: world.clone(),
                    hooks: hooks.clone(),
                };
                (
                    Box::new(driver),
                    handles,
                    Box::new(move || watched.stats()),
                    script,
                )
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
            pings: Box::new(move || pings.pings().len()),
            ended: None,
            panics: 0,
        }
    }

    fn keep_alive(
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
        let alive = KeepAlive::new(socket, config).with_protocol(Plain);
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
            pings: Box::new(move || script.pings().len()),
            ended: None,
            panics: 0,
        }
    }

    /// Each poll has a waker of its own, and whatever panics is caught and polled again.
    fn run_until(&mut self, time: Duration) {
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

    fn caught(&mut self, panic: Box<dyn std::any::Any + Send>) {
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

fn hooked_sink(world: &World, hooks: &Hooks) -> (HookedSink<ScriptedSink>, SinkScript) {
    let (sink, script) = world.sink();
    let hook = hooks.sink.clone();
    (HookedSink { sink, hook }, script)
}

/// A panic that says nothing.
struct Boom;

/// The peer's answers, told once more where a call panicked.
fn answer(
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
fn without_hanging(what: &str, test: impl FnOnce() + Send + 'static) {
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

/// Lives for 100 s with a peer that answers, and is then judged.
fn live_and_die(foreign: &mut Foreign, what: &str) {
    foreign.run_until(s(100));
    assert!(foreign.ended.is_none(), "{what}: {:?}", foreign.ended);
    assert!((foreign.stats)().answered() >= 5, "{what}");
    foreign.silent.store(true, Ordering::Relaxed);
    foreign.run_until(s(300));
    match foreign.ended {
        Some(Some(Error::Timeout(_))) => {}
        Some(None) if foreign.panics > 0 => {}
        ref other => panic!("{what}: {other:?}"),
    }
}

// contract: R123
#[test]
fn foreign_code_may_look_at_any_handle_from_any_hook() {
    for kind in KINDS {
        for part in PARTS {
            let what = format!("{part:?} of {kind:?}");
            let name = what.clone();
            without_hanging(&what, move || {
                let mut foreign = Foreign::new(kind);
                let handles = foreign.handles.clone();
                foreign.hooks.of(part).set(move |_| handles.look());
                live_and_die(&mut foreign, &name);
                assert!(foreign.hooks.of(part).calls() > 3, "{name}");
            });
        }
    }
}

// contract: R123
#[test]
fn foreign_code_may_give_orders_from_any_hook() {
    for kind in KINDS {
        for part in PARTS {
            let what = format!("{part:?} of {kind:?}");
            let name = what.clone();
            without_hanging(&what, move || {
                let mut foreign = Foreign::new(kind);
                let handles = foreign.handles.clone();
                // A few, as each order may lead to the next, and writes off the ping that is out.
                foreign.hooks.of(part).set(move |call| {
                    if call < 20 {
                        handles.order();
                    }
                });
                foreign.run_until(s(100));
                assert!(foreign.ended.is_none(), "{name}: {:?}", foreign.ended);
                foreign.silent.store(true, Ordering::Relaxed);
                foreign.run_until(s(1000));
                assert!(foreign.ended.is_some(), "{name}");
            });
        }
    }
}

// contract: R123
#[test]
fn foreign_code_may_panic_in_any_call_and_nothing_is_poisoned() {
    for kind in KINDS {
        for part in PARTS {
            let what = format!("{part:?} of {kind:?}");
            let name = what.clone();
            without_hanging(&what, move || {
                for panics_at in 0.. {
                    let what = format!("{name}, call {panics_at}");
                    let mut foreign = Foreign::new(kind);
                    foreign.hooks.of(part).set(move |call| {
                        if call == panics_at {
                            resume_unwind(Box::new(Boom));
                        }
                    });
                    if part == Part::Sink {
                        // A frame may be lost with a sink that panics: how its heartbeat ends is
                        // not said, but it does.
                        foreign.run_until(s(100));
                        foreign.silent.store(true, Ordering::Relaxed);
                        foreign.run_until(s(300));
                        let gone = match &foreign.handles {
                            Handles::Set { handle, .. } => handle.is_empty(),
                            _ => false,
                        };
                        assert!(foreign.ended.is_some() || gone, "{what}");
                    } else {
                        live_and_die(&mut foreign, &what);
                    }
                    foreign.handles.look();
                    if foreign.hooks.of(part).calls() <= panics_at {
                        break;
                    }
                }
            });
        }
    }
}

// contract: R123
#[test]
fn a_sink_may_hand_over_the_pong_while_it_takes_the_ping() {
    for eager in [true, false] {
        let mut rig = Rig::new(Path::Slot, exact());
        if eager {
            rig.sink.eager();
        }
        rig.answer(|_| None);
        let (reader, controller) = (rig.reader.clone(), rig.controller());
        rig.sink.on_wire(move |frame| {
            if let Frame::Ping(payload) = frame {
                assert!(matches!(reader.send(payload), Ok(PongKind::Matched { .. })));
                assert_eq!(controller.stats().answered(), 1);
            }
        });
        rig.run_until(s(39));
        assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 0]);
    }
}

/// Time that the test sets, also back.
#[derive(Clone)]
struct Dial {
    start: Instant,
    now: Arc<Mutex<Duration>>,
    armed: Arc<Mutex<Option<(Instant, Waker)>>>,
}

impl Dial {
    fn starting(start: Instant) -> Self {
        Self {
            start,
            now: Arc::default(),
            armed: Arc::default(),
        }
    }

    fn set(&self, now: Duration) {
        *unpoisoned(&self.now) = now;
        let rings = unpoisoned(&self.armed).take_if(|(at, _)| *at <= self.start + now);
        if let Some((_, waker)) = rings {
            waker.wake();
        }
    }
}

impl Timer for Dial {
    fn clock(&self) -> Clock {
        let (start, now) = (self.start, Arc::clone(&self.now));
        Clock::new(move || start + *unpoisoned(&now))
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        *unpoisoned(&self.armed) = Some((deadline, Waker::noop().clone()));
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.now();
        let armed = &mut *unpoisoned(&self.armed);
        match armed {
            Some((deadline, waker)) if *deadline > now => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

/// How it is told of a pong, and of data.
type Told = (Box<dyn Fn(Bytes)>, Option<Box<dyn Fn()>>);

/// A heartbeat whose time a test sets, and which it polls by hand.
struct Dialed {
    name: &'static str,
    dial: Dial,
    poll: PollsTo<String>,
    pong: Box<dyn Fn(Bytes)>,
    activity: Option<Box<dyn Fn()>>,
    stats: Box<dyn Fn() -> Stats>,
    payload: Box<dyn Fn(usize) -> Bytes>,
    pings: Box<dyn Fn() -> usize>,
    end: Option<String>,
    wakes: Arc<crate::socket::Woken>,
}

fn each_dialed(config: &ConfigBuilder, start: Instant) -> Vec<Dialed> {
    [Path::Slot, Path::Stream, Path::Set]
        .into_iter()
        .map(|path| Dialed::over(path, build(config.clone()), Dial::starting(start)))
        .chain([Dialed::keep_alive(
            build(config.clone()),
            Dial::starting(start),
        )])
        .collect()
}

impl Dialed {
    fn over(path: Path, config: Config, dial: Dial) -> Self {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (name, poll, (pong, activity), stats): (
            _,
            PollsTo<String>,
            Told,
            Box<dyn Fn() -> Stats>,
        ) = match path {
            Path::Slot => {
                let (pongs, pinger) = pinger(outgoing, config);
                let mut pinger = pinger.with_timer(dial.clone());
                let controller = pinger.controller();
                let pongs = Arc::new(pongs);
                let told = Arc::clone(&pongs);
                (
                    "Slot",
                    Box::new(move |cx| pinger.poll_unpin(cx).map(|end| format!("{end:?}"))),
                    (
                        Box::new(move |payload| {
                            let _ = told.send(payload);
                        }),
                        Some(Box::new(move || pongs.activity())),
                    ),
                    Box::new(move || controller.stats()),
                )
            }
            Path::Stream => {
                let (stream, script) = world.pongs();
                let pinger = futures_pinger::Pinger::new(outgoing, stream, config);
                let mut pinger = pinger.with_timer(dial.clone());
                let controller = pinger.controller();
                (
                    "Stream",
                    Box::new(move |cx| pinger.poll_unpin(cx).map(|end| format!("{end:?}"))),
                    (Box::new(move |payload| script.push(payload)), None),
                    Box::new(move || controller.stats()),
                )
            }
            Path::Set => {
                let mut set = PingerSet::new(config).with_timer(dial.clone());
                let member = Arc::new(set.insert(outgoing));
                let (told, active) = (Arc::clone(&member), Arc::clone(&member));
                (
                    "Set",
                    Box::new(move |cx| set.poll_next_unpin(cx).map(|end| format!("{end:?}"))),
                    (
                        Box::new(move |payload| {
                            told.pong(&payload);
                        }),
                        Some(Box::new(move || active.activity())),
                    ),
                    Box::new(move || member.stats()),
                )
            }
        };
        let pings = sink.clone();
        Self {
            name,
            dial,
            poll,
            pong,
            activity,
            stats,
            payload: Box::new(move |ping| sink.payload(ping)),
            pings: Box::new(move || pings.pings().len()),
            end: None,
            wakes: Arc::default(),
        }
    }

    fn keep_alive(config: Config, dial: Dial) -> Self {
        let world = World::new();
        let (socket, script) = world.socket(Plain);
        let alive = KeepAlive::new(socket, config).with_protocol(Plain);
        let mut alive = alive.with_timer(dial.clone());
        let controller = alive.controller();
        let (told, data, pings) = (script.clone(), script.clone(), script.clone());
        let poll = move |cx: &mut Context<'_>| loop {
            match alive.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(end) => return Poll::Ready(format!("{end:?}")),
                Poll::Pending => return Poll::Pending,
            }
        };
        Self {
            name: "KeepAlive",
            dial,
            poll: Box::new(poll),
            pong: Box::new(move |payload| told.receive(Msg::Pong(payload))),
            activity: Some(Box::new(move || data.receive(Msg::Data(0)))),
            stats: Box::new(move || controller.stats()),
            payload: Box::new(move |ping| {
                let sent = script.sent().into_iter();
                let mut pings = sent.filter_map(|(_, message)| match message {
                    Msg::Ping(payload) => Some(payload),
                    _ => None,
                });
                pings.nth(ping).expect("it was sent")
            }),
            pings: Box::new(move || pings.pings().len()),
            end: None,
            wakes: Arc::default(),
        }
    }

    /// It is polled at that time, until it does not wake itself.
    fn poll_at(&mut self, time: Duration) {
        self.dial.set(time);
        let waker = Waker::from(Arc::clone(&self.wakes));
        for polls in 0.. {
            assert!(polls < 100, "{}: a busy loop at {time:?}", self.name);
            if self.end.is_some() {
                return;
            }
            self.wakes.flag.store(false, Ordering::Relaxed);
            if let Poll::Ready(end) = (self.poll)(&mut Context::from_waker(&waker)) {
                self.end = Some(end);
            }
            if !self.wakes.flag.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

// contract: R123
#[test]
fn a_pong_stamped_before_its_flush_gives_no_sample() {
    for mut dialed in each_dialed(&exact(), Clock::system().now()) {
        dialed.poll_at(s(0));
        dialed.poll_at(s(20));
        assert_eq!((dialed.pings)(), 1);
        // The reader looked at its clock before the driver did.
        dialed.dial.set(s(19));
        (dialed.pong)((dialed.payload)(0));
        dialed.poll_at(s(19));
        let stats = (dialed.stats)();
        assert_eq!(counters(stats), [1, 1, 0, 0, 0], "{}", dialed.name);
        assert_eq!(stats.latest_rtt(), None, "{}", dialed.name);
        dialed.poll_at(s(45));
        assert_eq!(dialed.end, None, "{}", dialed.name);
    }

    let mut bare = Bare::new(exact());
    bare.run_until(s(20));
    bare.now = s(19);
    assert!(matches!(bare.answer(), PongKind::Matched { .. }));
    assert_eq!(counters(bare.stats()), [1, 1, 0, 0, 0]);
    assert_eq!(bare.stats().latest_rtt(), None);
}

// contract: R123
#[test]
fn the_proof_of_life_never_goes_back() {
    let config = exact()
        .interval(s(20))
        .timeout(s(5))
        .max_missed(3)
        .liveness(trusting(s(60)));
    for mut dialed in each_dialed(&config, Clock::system().now()) {
        let Some(_) = dialed.activity else { continue };
        // Missed at 25 s, and pinged again.
        for millis in [0, 20_000, 24_375, 25_000] {
            dialed.poll_at(ms(millis));
        }
        assert_eq!((dialed.pings)(), 2, "{}", dialed.name);
        dialed.dial.set(s(29));
        (dialed.pong)((dialed.payload)(0));
        dialed.poll_at(s(29));
        dialed.dial.set(s(27));
        (dialed.pong)((dialed.payload)(1));
        dialed.poll_at(s(27));
        assert_eq!(
            counters((dialed.stats)()),
            [2, 1, 1, 1, 0],
            "{}",
            dialed.name
        );
        // The peer is trusted for 60 s from 29 s on: until then activity keeps a ping from leaving.
        for second in 29..90 {
            dialed.poll_at(s(second));
            dialed.activity.as_ref().expect("it has")();
            let expected = if second < 89 { 2 } else { 3 };
            dialed.poll_at(s(second));
            assert_eq!((dialed.pings)(), expected, "{} at {second}", dialed.name);
        }
    }
}

// contract: R123
#[test]
fn a_flush_never_goes_back() {
    let mut bare = Bare::new(exact().no_close());
    bare.ready = false;
    bare.run_until(s(20));
    let now = bare.instant();
    assert!(matches!(bare.heartbeat.transmit(now), Some(Frame::Ping(_))));
    // The flush was seen by a clock that was read before.
    bare.heartbeat
        .handle_sent(now.checked_sub(s(1)).expect("a second"));
    bare.run_until(s(100));
    let (at, verdict) = bare.timed_out();
    assert_eq!((at, verdict.phase()), (s(40), TimeoutPhase::Pong));
}

// contract: R123
#[test]
fn a_visit_past_the_deadline_judges_nothing() {
    for mut dialed in each_dialed(&exact(), Clock::system().now()) {
        dialed.poll_at(s(0));
        dialed.poll_at(s(20));
        dialed.poll_at(s(39));
        dialed.dial.set(s(45));
        (dialed.pong)("stray".into());
        if let Some(activity) = &dialed.activity {
            activity();
        }
        let state = (dialed.stats)().state_at(dialed.dial.start + s(45));
        assert!(
            matches!(state, State::Waiting | State::Suspect),
            "{}: {state:?}",
            dialed.name
        );
        (dialed.pong)((dialed.payload)(0));
        dialed.poll_at(s(45));
        assert_eq!(dialed.end, None, "{}", dialed.name);
        assert_eq!((dialed.stats)().answered(), 1, "{}", dialed.name);
    }
}

// --- 124: orders act at once ---

// contract: R124
#[test]
fn a_pause_and_a_resume_show_in_the_state_at_once() {
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(21));
        controller.pause().expect("it runs");
        assert_eq!(surface.state(), State::Paused, "{}", surface.name());
        controller.resume().expect("it runs");
        if let Surface::Rig(_, rig) = &mut surface {
            rig.written_off += 1;
        }
        assert_eq!(surface.state(), State::Idle, "{}", surface.name());
        // The next is due an interval after that.
        surface.run_until(s(41));
        assert_eq!(surface.pings(), [s(20), s(41)], "{}", surface.name());
    });
}

// contract: R124
#[test]
fn a_pong_that_was_unread_when_it_was_resumed_is_stale() {
    for before in [true, false] {
        each_steered(&exact(), |mut surface, controller| {
            // What is told to a handle is entered before the order, and so answers.
            let told = before && matches!(surface, Surface::Rig(Path::Slot, _));
            surface.run_until(s(21));
            let payload = surface.payload(0);
            if before {
                surface.arrives(payload.clone());
            }
            controller.pause().expect("it runs");
            controller.resume().expect("it runs");
            if !before {
                surface.arrives(payload);
            }
            surface.run_until(s(22));
            let expected = if told {
                [1, 1, 0, 0, 0]
            } else {
                [1, 0, 0, 1, 0]
            };
            assert_eq!(
                counters(surface.stats()),
                expected,
                "{}, it came before: {before}",
                surface.name()
            );
        });
    }
}

// contract: R124
#[test]
fn the_sender_calls_a_pong_stale_right_after_a_resume() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    controller.pause().expect("it runs");
    controller.resume().expect("it runs");
    assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
}

// contract: R124
#[test]
fn a_new_liveness_is_in_force_for_the_next_pong() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    let any = exact().liveness(Liveness::AnyPong);
    controller.set_config(build(any)).expect("it runs");
    assert_eq!(rig.reader.send("mangled"), Ok(PongKind::Accepted));
    controller.set_config(build(exact())).expect("it runs");
    rig.run_until(s(41));
    assert_eq!(rig.reader.send("mangled"), Ok(PongKind::Unsolicited));
}

// contract: R124
#[test]
fn a_deadline_that_a_new_configuration_puts_into_the_past_is_judged_after_the_drain() {
    for answered in [true, false] {
        let config = exact().initial_delay(s(20)).interval(s(3600));
        let patient = config.clone().timeout(s(3600));
        each_steered(&patient, |mut surface, controller| {
            surface.run_until(s(100));
            // Unread when the order comes, or told between the order and the next poll.
            controller
                .set_config(build(config.clone()))
                .expect("it runs");
            if answered {
                let payload = surface.payload(0);
                surface.arrives(payload);
            }
            surface.run_until(s(200));
            let name = surface.name();
            if answered {
                assert_eq!(surface.verdict(), None, "{name}");
                assert_eq!(surface.stats().answered(), 1, "{name}");
            } else {
                let at = surface.verdict().expect("a verdict");
                assert!(s(100) <= at && at < s(100) + ms(1), "{name}: {at:?}");
            }
        });
    }
}

// contract: R124
#[test]
fn a_new_schedule_wakes_the_driver_once_and_is_kept() {
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(5));
        let shorter = exact().interval(s(8));
        controller.set_config(build(shorter)).expect("it runs");
        surface.run_until(s(9));
        assert_eq!(surface.pings(), [s(8)], "{}", surface.name());
    });
}

// --- 125: a clock outside of what is documented ---

/// So many years are beyond what is documented, and within what an `Instant` can tell here.
fn beyond() -> Vec<Instant> {
    const YEAR: u64 = 365 * 24 * 3600;
    let now = Clock::system().now();
    let years = [
        now.checked_add(s(600 * YEAR)),
        now.checked_add(s(5000 * YEAR)),
        now.checked_sub(s(200 * YEAR)),
        now.checked_sub(s(5000 * YEAR)),
    ];
    years.into_iter().flatten().collect()
}

// contract: R125
#[test]
fn with_a_clock_beyond_all_bounds_nothing_is_ever_due_on_any_surface() {
    for (era, start) in beyond().into_iter().enumerate() {
        for mut dialed in each_dialed(&exact(), start) {
            let name = dialed.name;
            for second in [0, 1, 19, 20, 21, 40, 60, 1000, 100_000] {
                dialed.poll_at(s(second));
                (dialed.pong)("stray".into());
                if let Some(activity) = &dialed.activity {
                    activity();
                }
                assert_eq!(dialed.end, None, "{name}, era {era} at {second}");
                assert_eq!((dialed.pings)(), 0, "{name}, era {era} at {second}");
            }
            let stats = (dialed.stats)();
            assert_eq!(stats.late_wakes(), 0, "{name}, era {era}");
        }

        let mut heartbeat = Heartbeat::with_key(build(exact()), start, [42; 16]);
        for second in [0, 1, 19, 20, 21, 40, 60, 1000, 100_000] {
            let now = start + s(second);
            heartbeat.handle_timeout(now);
            match heartbeat.poll_output(now) {
                Output::Wait(None) => {}
                Output::Wait(Some(next)) => assert!(next > now, "era {era}: a busy loop"),
                other => panic!("era {era} at {second}: {other:?}"),
            }
        }
    }
}

// contract: R125
#[test]
fn a_clock_that_leaves_its_bounds_means_the_same_on_every_surface() {
    for there in beyond() {
        let start = Clock::system().now();
        let mut ends = Vec::new();
        for mut dialed in each_dialed(&exact(), start) {
            dialed.poll_at(s(0));
            dialed.poll_at(s(20));
            // Back is not what a `Dial` can go beyond its start.
            let Some(away) = there.checked_duration_since(start) else {
                continue;
            };
            for second in [0, 20, 40, 1000] {
                dialed.poll_at(away + s(second));
            }
            assert_eq!(dialed.end, None, "{}", dialed.name);
            ends.push((dialed.name, (dialed.pings)()));
        }
        assert!(ends.iter().all(|(_, pings)| *pings == 1), "{ends:?}");
    }
}

// --- 126: the pongs end while the close frame is on its way ---

// contract: R126
#[test]
fn the_end_of_the_pongs_during_the_close_ends_it_with_its_verdict() {
    each_pinger(|path| {
        for block in [SinkScript::block, SinkScript::block_flush] {
            let mut rig = Rig::new(path, exact());
            let sink = rig.sink.clone();
            rig.at(s(30), move || block(&sink));
            let reader = rig.reader.clone();
            rig.at(s(40) + ms(500), move || reader.end());
            rig.run_until(s(40) + ms(499));
            rig.assert_alive();
            rig.run_until(s(60));
            let (at, verdict) = rig.verdict();
            assert_eq!(at, s(40) + ms(500), "{path:?}");
            assert_eq!(verdict.phase(), TimeoutPhase::Pong);
            assert!(!verdict.close_sent());
            assert_eq!(rig.world.timers(), 1, "its own, kept by the Rig");
        }
        let (mut rig, out) = Rig::dedicated(path, exact());
        out.block();
        let reader = rig.reader.clone();
        rig.at(s(40) + ms(500), move || reader.end());
        rig.run_until(s(60));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(40) + ms(500), false));
        assert_eq!(out.frames().len(), 0);
    });
}

// --- 128, 129: how often the driver is woken ---

/// The interval and the timeout that are the defaults.
fn defaults() -> ConfigBuilder {
    Config::builder().interval(s(15)).timeout(s(20))
}

// contract: R128
#[test]
fn a_ping_that_is_answered_at_once_costs_one_wake_and_one_arming() {
    // On the grid of the default granularity, too.
    for config in [defaults(), defaults().granularity(s(0))] {
        for path in [Path::Slot, Path::Stream, Path::Set] {
            let mut rig = Rig::new(path, config.clone());
            rig.answer_after(ms(30));
            rig.run_until(s(16));
            let before = (rig.sink.pings().len(), rig.wakes(), rig.world.resets());
            rig.run_until(s(16 + 1500));
            assert_eq!(rig.sink.pings().len() - before.0, 100);
            // A stream of pongs has no way to know which of them matters.
            let wakes = if path == Path::Stream { 200 } else { 100 };
            assert_eq!(rig.wakes() - before.1, wakes, "{path:?}");
            assert_eq!(rig.world.resets() - before.2, 100, "{path:?}");
        }
        let mut kept = Kept::new(config);
        kept.answer_after(ms(30));
        kept.run_until(s(16));
        let before = (kept.script.pings().len(), kept.world.resets());
        kept.run_until(s(16 + 1500));
        assert_eq!(kept.script.pings().len() - before.0, 100);
        assert_eq!(kept.world.resets() - before.1, 100, "KeepAlive");
    }
}

// contract: R128
#[test]
fn the_wait_of_a_ping_that_is_out_is_for_the_checkpoint_or_the_next_due_time() {
    let waits = |config: ConfigBuilder, until: Duration| {
        let mut bare = Bare::new(config);
        bare.run_until(until);
        let next = bare.drive();
        bare.answer();
        (next, bare.drive())
    };
    let next_due = Some(s(30));
    assert_eq!(
        waits(defaults().granularity(s(0)), s(15)),
        (next_due, next_due)
    );
    // The slack of 20 s is 1 s.
    let checkpoint = exact().interval(s(20)).timeout(s(20));
    assert_eq!(waits(checkpoint, s(20)), (Some(s(39)), Some(s(40))));
}

// contract: R128
#[test]
fn a_timeout_shorter_than_the_interval_by_a_little_keeps_two_wakes() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact().interval(s(20)).timeout(s(20)));
        rig.answer_after(ms(30));
        rig.run_until(s(21));
        let before = (rig.wakes(), rig.world.resets());
        rig.run_until(s(21 + 2000));
        assert_eq!(rig.wakes() - before.0, 200, "{path:?}");
        assert_eq!(rig.world.resets() - before.1, 200, "{path:?}");
    }
}

// contract: R128 D24
#[test]
fn a_dead_peer_is_judged_on_time_although_the_driver_sleeps_past_the_ping() {
    each_surface(&defaults().granularity(s(0)), |mut surface| {
        surface.run_until(s(100));
        let name = surface.name();
        assert_eq!(surface.verdict(), Some(s(35)), "{name}");
        assert_eq!(surface.pings(), [s(15)], "{name}");
        assert_eq!(surface.stats().late_wakes(), 0, "{name}");
    });
}

// contract: R129 H51
#[test]
fn a_pong_wakes_nobody_as_long_as_the_next_ping_is_not_due() {
    for path in [Path::Slot, Path::Set] {
        // The own pong, at once and just before the next ping is due.
        for after in [ms(1), s(14) + ms(999)] {
            let mut rig = Rig::new(path, defaults().granularity(s(0)));
            rig.run_until(s(15) + after);
            let before = rig.wakes();
            rig.reader.pong(rig.sink.payload(0));
            assert_eq!(rig.wakes(), before, "{path:?}");
            rig.run_until(s(30));
            assert_eq!(rig.sink.pings(), [s(15), s(30)], "{path:?}");
        }
        // One that is stale, and one that answers by policy.
        let mut rig = Rig::new(path, exact().timeout(s(5)).max_missed(9));
        rig.run_until(s(26));
        let before = rig.wakes();
        assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
        assert_eq!(rig.wakes(), before, "{path:?}");
        for liveness in [Liveness::AnyPong, trusting(s(1000))] {
            let config = defaults().granularity(s(0)).liveness(liveness);
            let mut rig = Rig::new(path, config);
            rig.run_until(s(16));
            let before = rig.wakes();
            assert_eq!(rig.reader.send("mangled"), Ok(PongKind::Accepted));
            assert_eq!(rig.wakes(), before, "{path:?}");
        }
    }
}

// contract: R129
#[test]
fn a_pong_wakes_the_driver_once_where_the_next_ping_waits_for_it() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact().interval(s(5)).timeout(s(20)));
        rig.run_until(s(12));
        assert_eq!(rig.sink.pings(), [s(5)], "one in flight");
        let before = rig.wakes();
        for _ in 0..100 {
            rig.reader.pong(rig.sink.payload(0));
        }
        assert_eq!(rig.wakes() - before, 1, "{path:?}");
        rig.run_until(s(12));
        assert_eq!(rig.sink.pings(), [s(5), s(12)], "{path:?}");
        rig.reader.pong(rig.sink.payload(1));
        rig.run_until(s(15));
        assert_eq!(rig.sink.pings(), [s(5), s(12), s(15)], "{path:?}");
    }
}

// --- O96: a backlog under `AnyPong` ---

fn any_pong() -> ConfigBuilder {
    exact().liveness(Liveness::AnyPong)
}

// contract: O96
#[test]
fn with_any_pong_a_pong_behind_a_backlog_answers_the_ping() {
    // A peer that answers by an empty pong after 5 ms, and 80 messages that are there just before
    // each ping is due; the app takes 5 ms for each.
    let world = World::new();
    let (socket, script) = world.socket::<Msg, _>(Plain);
    let (clock, peer) = (world.clone(), script.clone());
    script.on_wire(move |message| {
        if let Msg::Ping(_) = message {
            let peer = peer.clone();
            clock.at(clock.elapsed() + ms(5), move || {
                peer.receive(Msg::Pong(Bytes::new()));
            });
        }
    });
    for ping in 1..15 {
        let burst = script.clone();
        world.at(s(20 * ping) - ms(20), move || {
            for number in 0..80 {
                burst.receive(Msg::Data(number));
            }
        });
    }
    let alive = KeepAlive::new(socket, build(any_pong())).with_protocol(Plain);
    let mut alive = alive.with_timer(world.timer());
    let controller = alive.controller();
    let clock = world.clone();
    world.spawn(async move {
        while let Some(message) = alive.next().await {
            message.expect("a live peer");
            clock.sleep(ms(5)).await;
        }
    });
    world.run_until(s(299));
    let pings = script.pings();
    assert_eq!(pings.len(), 14);
    for (ping, at) in (1..).zip(pings) {
        // None out of schedule; and none much later than it.
        assert!(s(20 * ping) <= at && at < s(20 * ping) + ms(500), "{at:?}");
    }
    assert_eq!(controller.stats().answered(), 14);
    assert!(controller.is_alive());
}

// contract: O96
#[test]
fn with_any_pong_strays_put_a_verdict_off_by_one_ping_at_the_most() {
    // However many: within one look, and over many of them.
    for strays in [1, 100, 200, 5_000] {
        each_surface(&any_pong(), |mut surface| {
            if let Surface::KeepAlive(_) | Surface::Rig(Path::Stream, _) = surface {
                // They are there when the ping leaves.
                match &surface {
                    Surface::KeepAlive(kept) => kept.at(s(20), move |script| {
                        for _ in 0..strays {
                            script.receive(Msg::Pong("stray".into()));
                        }
                    }),
                    Surface::Rig(_, rig) => {
                        let reader = rig.reader.clone();
                        rig.at(s(20), move || {
                            for _ in 0..strays {
                                reader.pong("stray");
                            }
                        });
                    }
                    Surface::Bare(_) => unreachable!("it reads nothing"),
                }
            } else {
                // They are told one by one: before the ping none counts, after it the first.
                surface.run_until(s(20) - ms(1));
                for _ in 0..strays {
                    surface.arrives("stray".into());
                }
                surface.run_until(s(20) + ms(1));
                assert_eq!(surface.stats().answered(), 0);
                for _ in 0..strays {
                    surface.arrives("stray".into());
                }
            }
            surface.run_until(s(200));
            let name = surface.name();
            let verdict = surface.verdict().expect("a verdict");
            assert!(
                verdict == s(40) || verdict == s(60),
                "{name}, {strays}: {verdict:?}"
            );
            // No ping is out of schedule for it.
            let pings = [s(20), s(40)];
            let expected = if verdict == s(40) { 1 } else { 2 };
            assert_eq!(surface.pings(), pings[..expected], "{name}, {strays}");
        });
    }
}

// contract: O96
#[test]
fn with_any_pong_the_rule_is_one_on_all_surfaces() {
    // Read in full before the ping: nothing of it answers. Unread when the ping leaves: it answers.
    let mut bare = Bare::new(any_pong());
    bare.run_until(s(20) - ms(1));
    bare.now = s(20);
    let now = bare.instant();
    // There is more to read.
    bare.heartbeat.handle_backlog(64, now);
    bare.drive();
    assert_eq!(bare.times(), [s(20)]);
    assert_eq!(
        bare.heartbeat.handle_pong(b"stray", now),
        PongKind::Accepted
    );

    let mut rig = Rig::new(Path::Stream, any_pong());
    let reader = rig.reader.clone();
    rig.at(s(20), move || {
        for _ in 0..200 {
            reader.pong("stray");
        }
    });
    rig.run_until(s(21));
    assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 199]);

    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, any_pong());
        rig.run_until(s(20) - ms(1));
        assert_eq!(rig.reader.send("stray"), Ok(PongKind::Unsolicited));
        rig.run_until(s(20));
        assert_eq!(rig.reader.send("stray"), Ok(PongKind::Accepted));
        assert_eq!(rig.reader.send("stray"), Ok(PongKind::Unsolicited));
    }
}

// contract: O96
#[test]
fn with_any_pong_a_live_peer_lives_on_an_endless_firehose() {
    let mut kept = Kept::new(any_pong());
    let (world, peer) = (kept.world.clone(), kept.script.clone());
    kept.script.on_wire(move |message| {
        if let Msg::Ping(_) = message {
            let peer = peer.clone();
            world.at(world.elapsed() + ms(3), move || {
                peer.receive(Msg::Pong(Bytes::new()));
            });
        }
    });
    kept.script.flood();
    let mut now = s(0);
    while now < s(130) {
        assert!(kept.read_once(), "it has ended at {now:?}");
        now += ms(1);
        while kept.world.step(now) {}
    }
    kept.assert_alive();
    assert_eq!(kept.script.pings().len(), 6);
    assert_eq!(kept.stats().answered(), 6);
}
