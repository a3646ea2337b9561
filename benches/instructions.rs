//! What a heartbeat costs in instructions and allocations: figures that repeat.
//!
//! `.ci/cost-gate` runs it under callgrind and holds the figures against `benches/limits.json`. By
//! hand:
//!
//! ```text
//! instructions COST COUNT      COUNT cycles, polls or pongs; 0 for the start alone
//! instructions counts          bytes and allocations, a line for each
//! ```
//!
//! Time is virtual, and each sink is a channel but for those of the machine, which keep nothing.

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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Sink, StreamExt};
use futures_pinger::{
    Clock, Config, Frame, Heartbeat, Member, Output, PingerSet, PongKind, PongSender, Timer, pinger,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;

#[path = "baseline/mod.rs"]
#[allow(unreachable_pub)]
mod baseline;
#[path = "contestants/mod.rs"]
mod contestants;

use contestants::{
    CAPACITY, ChannelSink, Contestant, INTERVAL, KtorLoop, Pinger, STRAY, SelectLoop, answer,
    paused,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Steps of the default grid in an interval, and how many members of a set are due at each.
const STEPS: usize = 1280;
const GROUP: usize = 78;
/// About 100 000.
const MEMBERS: usize = STEPS * GROUP;
const STEP: Duration = Duration::from_micros(15_625);

/// Time that the program moves. It polls by hand, so nobody needs to be woken.
#[derive(Clone)]
struct Virtual {
    now: Rc<Cell<Instant>>,
    /// The same for others.
    clock: Arc<Mutex<Instant>>,
}

impl Virtual {
    fn new() -> Self {
        Self::at(Instant::now())
    }

    fn at(start: Instant) -> Self {
        Self {
            now: Rc::new(Cell::new(start)),
            clock: Arc::new(Mutex::new(start)),
        }
    }

    fn advance(&self, by: Duration) {
        self.now.set(self.now.get() + by);
        *self.clock.lock().expect("nobody panics") = self.now.get();
    }
}

impl Timer for Virtual {
    fn clock(&self) -> Clock {
        let clock = Arc::clone(&self.clock);
        Clock::new(move || *clock.lock().expect("nobody panics"))
    }

    fn now(&self) -> Instant {
        self.now.get()
    }

    fn reset(self: Pin<&mut Self>, _: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Tells what it is armed for.
struct Probe(Arc<Mutex<Option<Instant>>>);

impl Timer for Probe {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        *self.0.lock().expect("nobody panics") = Some(deadline);
    }

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A point of the grid of wake-ups.
fn grid_point() -> Instant {
    let armed = Arc::default();
    let (_pongs, pinger) = pinger(Last::default(), Config::default());
    let mut pinger = pin!(pinger.with_timer(Probe(Arc::clone(&armed))));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pinger.as_mut().poll(&mut cx).is_pending());
    let point = armed.lock().expect("nobody panics").take();
    point.expect("the first ping is yet to come")
}

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
    let mut heartbeat = Heartbeat::new(Config::default(), now);
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

/// A [`pinger()`] in virtual time, with a sink that keeps nothing but the last ping.
fn machine(work: impl FnOnce(&Virtual, &Last, &PongSender, &mut dyn FnMut())) {
    let (time, last) = (Virtual::new(), Last::default());
    let (pongs, pinger) = pinger(last.clone(), Config::default());
    let mut pinger = pin!(pinger.with_timer(time.clone()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = || assert!(pinger.as_mut().poll(&mut cx).is_pending());
    poll();
    work(&time, &last, &pongs, &mut poll);
}

fn machine_cycle(cycles: usize) {
    machine(|time, last, pongs, poll| {
        for _ in 0..cycles {
            time.advance(INTERVAL);
            poll();
            let answer = pongs.send(last.take()).expect("it runs");
            assert!(matches!(answer, PongKind::Matched { .. }));
            poll();
        }
    });
}

fn idle_poll(polls: usize) {
    machine(|_, _, _, poll| (0..polls).for_each(|_| poll()));
}

fn stray_pong(count: usize) {
    machine(|_, _, pongs, _| {
        for _ in 0..count {
            assert_eq!(pongs.send(black_box(&STRAY)), Ok(PongKind::Unsolicited));
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

/// Tells whether anybody has woken it since it was asked.
#[derive(Default)]
struct Woken(AtomicU64);

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
    time: Virtual,
    set: PingerSet<ChannelSink<Frame>, Virtual>,
    groups: VecDeque<Vec<(Member, mpsc::Receiver<Frame>)>>,
    woken: Arc<Woken>,
    waker: Waker,
}

impl Fleet {
    fn new() -> Self {
        let time = Virtual::at(grid_point());
        let config = Config::default();
        assert_eq!(config.granularity(), STEP);
        let set = PingerSet::new(config).with_timer(time.clone());
        let woken = Arc::new(Woken::default());
        let mut fleet = Self {
            time,
            set,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
            groups: VecDeque::with_capacity(STEPS),
        };
        for _ in 0..STEPS {
            let members = (0..GROUP).map(|_| {
                let (out, frames) = mpsc::channel(CAPACITY);
                (fleet.set.insert(ChannelSink::new(out)), frames)
            });
            let members = members.collect();
            fleet.groups.push_back(members);
            fleet.poll();
            fleet.time.advance(STEP);
        }
        fleet
    }

    fn poll(&mut self) {
        loop {
            let mut cx = Context::from_waker(&self.waker);
            assert!(
                self.set.poll_next_unpin(&mut cx).is_pending(),
                "nobody dies"
            );
            if self.woken.0.swap(0, Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// One step of the grid: a group's pings and their pongs.
    fn step(&mut self) {
        self.poll();
        let mut members = self.groups.pop_front().expect("a group");
        for (member, frames) in &mut members {
            let Ok(Frame::Ping(payload)) = frames.try_recv() else {
                unreachable!("a ping was due")
            };
            assert!(matches!(member.pong(&payload), PongKind::Matched { .. }));
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
    Pinger(Config::default())
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
    let mut set = PingerSet::new(Config::default()).with_timer(Virtual::new());
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
