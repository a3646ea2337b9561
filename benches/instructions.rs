//! What a heartbeat costs in instructions and allocations: figures that repeat.
//!
//! `.ci/cost-gate` runs it under callgrind and holds the figures against `benches/limits.toml`. By
//! hand:
//!
//! ```text
//! instructions COST COUNT      COUNT cycles, polls or pongs; 0 for the start alone
//! instructions counts          bytes, allocations, wake-ups and looks, a line for each
//! ```
//!
//! Time is virtual, and its timer rings; a task is polled when it was woken. Each sink is a channel but for
//! those of the machine, which keep nothing.

// Virtual time begins at some instant, which no heartbeat reads.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::env;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Sink, StreamExt};
use futures_pinger::{
    Frame, Heartbeat, Member, Output, PingerSet, PongKind, PongSender, Timer, pinger,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;

#[path = "baseline/mod.rs"]
#[allow(unreachable_pub)]
mod baseline;
#[path = "contestants/mod.rs"]
mod contestants;
#[path = "virtual_time/mod.rs"]
mod virtual_time;

use contestants::{
    CAPACITY, ChannelSink, Contestant, INTERVAL, KtorLoop, Pinger, STRAY, SelectLoop, answer,
    config, paused,
};
use virtual_time::VirtualTime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The step of the default grid.
const STEP: Duration = Duration::from_micros(15_625);
/// The steps of an interval.
#[allow(clippy::cast_possible_truncation)] // An interval has no more than thousands.
const STEPS: usize = (INTERVAL.as_micros() / STEP.as_micros()) as usize;
/// The members of a set. `benches/gate.py` counts rounds of as many.
const MEMBERS: usize = 99_840;
/// The members that are due at each step.
const GROUP: usize = MEMBERS / STEPS;
const _: () = assert!(GROUP * STEPS == MEMBERS);

/// Keeps the payload of the last ping, for the program to answer it.
#[derive(Clone, Default)]
struct Last(Rc<Cell<Bytes>>);

impl Last {
    fn take(&self) -> Bytes {
        self.0.take()
    }
}

impl Sink<Frame> for Last {
    type Error = std::convert::Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        if let Frame::Ping(payload) = frame {
            self.0.set(payload);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// The sans-IO core: due, ping, pong, armed again.
fn core(cycles: usize) {
    let mut now = Instant::now();
    let mut heartbeat = Heartbeat::new(config(), now);
    for _ in 0..cycles {
        now += INTERVAL;
        assert_eq!(heartbeat.poll_output(now), Output::Ping);
        let Some(Frame::Ping(payload)) = heartbeat.transmit(now) else {
            unreachable!("a ping was due")
        };
        heartbeat.handle_sent(now);
        let answer = heartbeat.handle_pong(&payload, now);
        assert!(matches!(answer, PongKind::Matched { .. }));
        black_box(heartbeat.poll_output(now));
    }
}

/// A ping's payload, made and dropped: what of a cycle is the `bytes` crate's.
fn payload(cycles: usize) {
    for _ in 0..cycles {
        drop(black_box(Bytes::copy_from_slice(black_box(&STRAY))));
    }
}

/// What holds a [`pinger()`] in virtual time, with a sink that keeps nothing but the last ping.
struct Machine<'a> {
    time: VirtualTime,
    last: Last,
    pongs: PongSender,
    woken: Arc<Woken>,
    /// How often it has been polled because it was woken.
    wakes: u64,
    poll: &'a mut dyn FnMut(),
}

impl Machine<'_> {
    /// Polls the heartbeat as long as it has been woken, as an executor does.
    fn run(&mut self) {
        while self.woken.take() > 0 {
            self.wakes += 1;
            (self.poll)();
        }
    }

    /// Waits for the next ping and answers the ping at once.
    fn cycle(&mut self) {
        let end = self.time.now() + INTERVAL;
        while self.time.now() < end {
            self.time.advance_to(end);
            self.run();
        }
        let answer = self.pongs.handle_pong(&self.last.take()).expect("it runs");
        assert!(matches!(answer, PongKind::Matched { .. }));
        self.run();
    }
}

fn machine(work: impl FnOnce(&mut Machine<'_>)) {
    let (time, last, woken) = (VirtualTime::on_grid(), Last::default(), Woken::new());
    let (pongs, pinger) = pinger(last.clone(), config());
    let mut pinger = pin!(pinger.with_timer(time.clone()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut poll = || assert!(pinger.as_mut().poll(&mut cx).is_pending());
    let mut machine = Machine {
        time,
        last,
        pongs,
        woken,
        wakes: 0,
        poll: &mut poll,
    };
    machine.run();
    work(&mut machine);
}

fn machine_cycle(cycles: usize) {
    machine(|it| (0..cycles).for_each(|_| it.cycle()));
}

fn idle_poll(polls: usize) {
    machine(|it| (0..polls).for_each(|_| (it.poll)()));
}

fn stray_pong(count: usize) {
    machine(|it| {
        for _ in 0..count {
            assert_eq!(
                it.pongs.handle_pong(black_box(&STRAY)),
                Ok(PongKind::Unsolicited)
            );
        }
    });
}

/// So many tasks on tokio's paused clock, due together, each with its channel. To move a paused clock
/// costs far more than a heartbeat: where there is but one, that is what is measured.
fn on_tokio<C: Contestant>(contestant: &C, tasks: usize, cycles: usize) {
    paused().block_on(async {
        let start = |_| {
            let (out, frames) = mpsc::channel(CAPACITY);
            let (pongs, heartbeat) = contestant.start(out);
            (frames, pongs, tokio::spawn(heartbeat))
        };
        let mut all: Vec<_> = (0..tasks).map(start).collect();
        for _ in 0..cycles / tasks {
            for (frames, pongs, _) in &mut all {
                answer::<C>(frames, pongs, 1).await;
            }
        }
        for (_, pongs, heartbeat) in all {
            drop(pongs);
            black_box(heartbeat.await.is_ok());
        }
    });
}

/// How often a task has been woken since it was asked.
struct Woken(AtomicU64);

impl Woken {
    /// A task that is new, and so is to be polled.
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1)))
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Members of a set, in groups that are due at the same step, with the other ends of their channels.
struct Fleet {
    time: VirtualTime,
    set: PingerSet<ChannelSink<Frame>, (), VirtualTime>,
    groups: VecDeque<Vec<(Member, mpsc::Receiver<Frame>)>>,
    woken: Arc<Woken>,
    waker: Waker,
    /// How often the set has been polled because it was woken.
    wakes: u64,
}

impl Fleet {
    fn new() -> Self {
        Self::with(|_| GROUP)
    }

    /// A fleet whose group of step `n` has `members(n)` members.
    fn with(members: impl Fn(usize) -> usize) -> Self {
        let time = VirtualTime::on_grid();
        let config = config();
        assert_eq!(config.granularity(), STEP);
        let set = PingerSet::new(config).with_timer(time.clone());
        let woken = Woken::new();
        let mut fleet = Self {
            time,
            set,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
            wakes: 0,
            groups: VecDeque::with_capacity(STEPS),
        };
        for step in 0..STEPS {
            let members = (0..members(step)).map(|_| {
                let (out, frames) = mpsc::channel(CAPACITY);
                (fleet.set.insert(ChannelSink::new(out)), frames)
            });
            let members = members.collect();
            fleet.groups.push_back(members);
            fleet.run();
            fleet.time.advance(STEP);
        }
        fleet
    }

    /// Polls the set as long as it has been woken, as an executor does.
    fn run(&mut self) {
        while self.woken.take() > 0 {
            self.wakes += 1;
            let mut cx = Context::from_waker(&self.waker);
            assert!(
                self.set.poll_next_unpin(&mut cx).is_pending(),
                "nobody dies"
            );
        }
    }

    /// One step of the grid: a group's pings and their pongs.
    fn step(&mut self) {
        self.run();
        let mut members = self.groups.pop_front().expect("a group");
        for (member, frames) in &mut members {
            let Ok(Frame::Ping(payload)) = frames.try_recv() else {
                unreachable!("a ping was due")
            };
            assert!(matches!(
                member.handle_pong(&payload),
                PongKind::Matched { .. }
            ));
        }
        self.groups.push_back(members);
        self.time.advance(STEP);
    }
}

/// Rounded up to whole steps of the grid.
fn set_cycle(cycles: usize) {
    let mut fleet = Fleet::new();
    for _ in 0..cycles.div_ceil(GROUP) {
        fleet.step();
    }
}

/// The part of [`set_cycle`] that is the channels': no heartbeats, and a payload that costs nothing.
fn channel_cycle(cycles: usize) {
    let mut channels: Vec<_> = (0..MEMBERS).map(|_| mpsc::channel(CAPACITY)).collect();
    for cycle in 0..cycles {
        let (out, frames) = &mut channels[cycle % MEMBERS];
        let ping = Frame::Ping(Bytes::from_static(&STRAY));
        out.try_send(ping).expect("there is room");
        black_box(frames.try_recv().expect("it is there"));
    }
}

fn ours() -> Pinger {
    Pinger(config())
}

type Cost = (&'static str, fn(usize));

const COSTS: [Cost; 12] = [
    ("core", core),
    ("payload", payload),
    ("machine", machine_cycle),
    ("idle-poll", idle_poll),
    ("stray-pong", stray_pong),
    ("tokio-pinger", |n| on_tokio(&ours(), 100, n)),
    ("tokio-select", |n| on_tokio(&SelectLoop, 100, n)),
    ("tokio-ktor", |n| on_tokio(&KtorLoop, 100, n)),
    ("alone-pinger", |n| on_tokio(&ours(), 1, n)),
    ("alone-select", |n| on_tokio(&SelectLoop, 1, n)),
    ("channel", channel_cycle),
    ("set", set_cycle),
];

/// Allocations of many cycles, and the bytes that stay.
fn counted(work: impl FnOnce()) -> (usize, usize) {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    let stays = change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated);
    (change.allocations + change.reallocations, stays)
}

/// Cycles that are counted one by one. At the default grid they take a whole number of turns of the set's
/// wheel, whose turns cost looks, too.
const COUNTED: u64 = 64;

/// Wake-ups of a [`pinger()`]'s task and arms of its timer, in [`COUNTED`] cycles.
fn wakes_and_arms() -> (u64, u64) {
    let mut counted = (0, 0);
    machine(|it| {
        it.cycle();
        let before = (it.wakes, it.time.arms());
        (0..COUNTED).for_each(|_| it.cycle());
        counted = (it.wakes - before.0, it.time.arms() - before.1);
    });
    counted
}

/// Looks of a set at its only member, in [`COUNTED`] cycles. A look cannot be seen from outside. But a set
/// with one member has nothing else to do, so each wake-up of the set is counted as a look.
fn looks() -> u64 {
    let mut fleet = Fleet::with(|step| usize::from(step == 0));
    let mut cycles = |count: u64| {
        let before = fleet.wakes;
        for _ in 0..count {
            (0..STEPS).for_each(|_| fleet.step());
        }
        fleet.wakes - before
    };
    cycles(1);
    cycles(COUNTED)
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
fn each(total: u64) -> f64 {
    total as f64 / COUNTED as f64
}

#[allow(clippy::cast_precision_loss)] // Figures for people.
fn per(total: usize, count: usize) -> f64 {
    total as f64 / count as f64
}

fn counts() {
    let mut fleet = Fleet::new();
    for _ in 0..STEPS {
        fleet.step();
    }
    let (allocations, _) = counted(|| (0..STEPS).for_each(|_| fleet.step()));
    drop(fleet);

    // The channels are nobody's cost.
    let (mut outs, frames): (Vec<_>, Vec<_>) =
        (0..MEMBERS).map(|_| mpsc::channel(CAPACITY)).unzip();
    let mut members = Vec::with_capacity(MEMBERS);
    let mut set = PingerSet::new(config()).with_timer(VirtualTime::on_grid());
    let (_, heap) = counted(|| {
        members.extend(outs.drain(..).map(|out| set.insert(ChannelSink::new(out))));
        let mut cx = Context::from_waker(Waker::noop());
        // A poll looks at 1024 at the most.
        for _ in 0..MEMBERS / 1000 + 2 {
            assert!(set.poll_next_unpin(&mut cx).is_pending());
        }
    });
    let sinks = MEMBERS * size_of::<Option<ChannelSink<Frame>>>();
    println!(
        "set-bytes {}",
        per(heap - sinks, MEMBERS) + per(size_of::<Member>(), 1)
    );
    println!("set-allocations {}", per(allocations, MEMBERS));
    println!("heartbeat-bytes {}", size_of::<Heartbeat>());
    let (wakes, arms) = wakes_and_arms();
    println!("pinger-wakes {}", each(wakes));
    println!("pinger-arms {}", each(arms));
    println!("set-looks {}", each(looks()));
    assert_eq!(set.len(), members.len());
    drop((members, frames));
}

fn main() -> ExitCode {
    // cargo adds this one.
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // All of them once, to see that they work.
        [] => COSTS.iter().for_each(|(_, run)| run(1000)),
        ["counts"] => counts(),
        [name, count] => {
            let found = COSTS.iter().find(|(known, _)| *known == name);
            let (Some((_, run)), Ok(count)) = (found, count.parse()) else {
                eprintln!("no such cost: {name} {count}");
                return ExitCode::FAILURE;
            };
            run(count);
        }
        _ => {
            eprintln!("usage: instructions [COST COUNT | counts]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
