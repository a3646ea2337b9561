//! What a heartbeat costs in memory: ours, the `select!` loop and ktor's pinger, side by side.
//!
//! `cargo run --release --example footprint` prints one `name: value` per line, in bytes or in
//! counts, and fails if this crate breaks one of its own limits. A build without optimisations
//! prints the same for this crate.
//!
//! The channel that takes the frames is in none of the figures. What a heartbeat needs besides is:
//! its task, its timers, and its way from the reader (for ours the slot, for the loops a channel).

use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures_pinger::{Clock, Frame, Heartbeat, Output, PongKind};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;
use tokio::task::yield_now;

#[path = "../benches/baseline/mod.rs"]
#[allow(unreachable_pub)]
mod baseline;
#[path = "../benches/contestants/mod.rs"]
mod contestants;

use contestants::{
    CAPACITY, Contestant, INTERVAL, KtorLoop, Pinger, STRAY, SelectLoop, answer, config, paused,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const HEARTBEATS: u32 = 1_000;
const CYCLES: u32 = 1_000;
const POLLS: u32 = 1_000;

type Count = Region<'static, std::alloc::System>;

fn count() -> Count {
    Region::new(ALLOCATOR)
}

/// Calls of the allocator. To grow a block counts: it may have to move.
fn allocations(count: &Count) -> usize {
    let change = count.change();
    change.allocations + change.reallocations
}

/// Bytes that were given and not given back.
fn bytes(count: &Count) -> usize {
    let change = count.change();
    change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated)
}

fn per(total: usize, count: u32) -> f64 {
    f64::from(u32::try_from(total).expect("nothing here needs 4 GB")) / f64::from(count)
}

struct Footprint {
    /// Of the future, which in a task is part of the task.
    future: usize,
    /// Of the reader's handle.
    handle: usize,
    /// Bytes allocated for an idle heartbeat besides its future.
    heap: f64,
    /// The same with the task, and the future in it.
    heap_with_task: f64,
    allocations_with_task: f64,
    allocations_per_cycle: f64,
    allocations_per_idle_poll: f64,
    allocations_per_stray: f64,
}

impl Footprint {
    fn of<C: Contestant>(contestant: &C) -> Self {
        let (future, handle) = {
            let (pongs, heartbeat) = contestant.start(mpsc::channel(CAPACITY).0);
            (size_of_val(&heartbeat), size_of_val(&pongs))
        };
        let (heap_with_task, allocations_with_task) = idle_task(contestant);
        Self {
            future,
            handle,
            heap: idle_heap(contestant),
            heap_with_task,
            allocations_with_task,
            allocations_per_cycle: per_cycle(contestant),
            allocations_per_idle_poll: per_idle_poll(contestant),
            allocations_per_stray: per_stray(contestant),
        }
    }

    /// All of an idle heartbeat: what it has allocated (in the task lies the future), and the handle
    /// in the reader.
    fn inline_plus_heap(&self) -> f64 {
        per(self.handle, 1) + self.heap_with_task
    }

    fn print(&self, name: &str) {
        println!("{name}.future bytes: {}", self.future);
        println!("{name}.handle bytes: {}", self.handle);
        println!("{name}.heap bytes per idle heartbeat: {}", self.heap);
        println!(
            "{name}.heap bytes per idle heartbeat with task: {}",
            self.heap_with_task
        );
        println!(
            "{name}.allocations per idle heartbeat with task: {}",
            self.allocations_with_task
        );
        println!(
            "{name}.inline plus heap bytes per idle heartbeat with task: {}",
            self.inline_plus_heap()
        );
        println!(
            "{name}.allocations per cycle: {}",
            self.allocations_per_cycle
        );
        println!(
            "{name}.allocations per idle poll: {}",
            self.allocations_per_idle_poll
        );
        println!(
            "{name}.allocations per stray pong: {}",
            self.allocations_per_stray
        );
    }
}

/// Bytes and allocations of an idle heartbeat as a task, polled until it waits for its first ping.
fn idle_task<C: Contestant>(contestant: &C) -> (f64, f64) {
    paused().block_on(async {
        let mut outs = Vec::new();
        let mut frames = Vec::new();
        let mut held = Vec::with_capacity(HEARTBEATS as usize);
        for _ in 0..=HEARTBEATS {
            let (out, frames_in) = mpsc::channel(CAPACITY);
            outs.push(out);
            frames.push(frames_in);
        }

        // One before the count begins: what is made once for all of them is nobody's cost.
        let (_pongs, first) = contestant.start(outs.pop().expect("one more than is counted"));
        let first = tokio::spawn(first);
        yield_now().await;

        let count = count();
        for out in outs.drain(..) {
            let (pongs, heartbeat) = contestant.start(out);
            held.push((pongs, tokio::spawn(heartbeat)));
            // One at a time, so that the runtime's queue does not grow.
            yield_now().await;
        }
        let idle = (
            per(bytes(&count), HEARTBEATS),
            per(allocations(&count), HEARTBEATS),
        );

        assert!(!first.is_finished() && held.iter().all(|(_, task)| !task.is_finished()));
        assert!(frames.iter_mut().all(|frames| frames.try_recv().is_err()));
        idle
    })
}

/// Bytes that an idle heartbeat allocates besides its future.
fn idle_heap<C: Contestant>(contestant: &C) -> f64 {
    let runtime = paused();
    // Entered and not blocked on: a task has to yield to the others now and then.
    let _entered = runtime.enter();
    let mut cx = Context::from_waker(Waker::noop());
    let (out, _frames) = mpsc::channel(CAPACITY);
    let count = count();
    let (_pongs, heartbeat) = contestant.start(out);
    let mut heartbeat = pin!(heartbeat);
    assert!(heartbeat.as_mut().poll(&mut cx).is_pending());
    per(bytes(&count), 1)
}

/// In steady state: the first cycles fill the channels' and the runtime's stores.
fn per_cycle<C: Contestant>(contestant: &C) -> f64 {
    paused().block_on(async {
        let (out, mut frames) = mpsc::channel(CAPACITY);
        let (pongs, heartbeat) = contestant.start(out);
        let heartbeat = tokio::spawn(heartbeat);
        answer::<C>(&mut frames, &pongs, CYCLES.into()).await;
        let count = count();
        answer::<C>(&mut frames, &pongs, CYCLES.into()).await;
        let allocations = allocations(&count);
        assert!(!heartbeat.is_finished());
        per(allocations, CYCLES)
    })
}

fn per_idle_poll<C: Contestant>(contestant: &C) -> f64 {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut cx = Context::from_waker(Waker::noop());
    let (out, _frames) = mpsc::channel(CAPACITY);
    let (_pongs, heartbeat) = contestant.start(out);
    let mut heartbeat = pin!(heartbeat);
    assert!(heartbeat.as_mut().poll(&mut cx).is_pending());
    let count = count();
    for _ in 0..POLLS {
        assert!(heartbeat.as_mut().poll(&mut cx).is_pending());
    }
    per(allocations(&count), POLLS)
}

/// With what the heartbeat does about it, if it is woken.
fn per_stray<C: Contestant>(contestant: &C) -> f64 {
    paused().block_on(async {
        let (out, mut frames) = mpsc::channel(CAPACITY);
        let (pongs, heartbeat) = contestant.start(out);
        let heartbeat = tokio::spawn(heartbeat);
        // A ping has gone out and been answered: there is something to compare with.
        answer::<C>(&mut frames, &pongs, CYCLES.into()).await;
        yield_now().await;
        let count = count();
        for _ in 0..POLLS {
            C::pong(&pongs, Bytes::from_static(&STRAY)).await;
            yield_now().await;
        }
        let allocations = allocations(&count);
        assert!(!heartbeat.is_finished());
        per(allocations, POLLS)
    })
}

/// The sans-IO core alone: allocations per cycle, per idle poll and per stray pong.
fn machine() -> [f64; 3] {
    let start = Clock::system().now();
    let mut heartbeat = Heartbeat::new(config(), start);
    let mut now = start;

    let cycles = count();
    for _ in 0..CYCLES {
        now += INTERVAL;
        assert_eq!(heartbeat.poll_output(now), Output::Ping);
        let Some(Frame::Ping(payload)) = heartbeat.transmit(now) else {
            unreachable!("a ping was due")
        };
        heartbeat.handle_sent(now);
        let answer = heartbeat.handle_pong(&payload, now);
        assert!(matches!(answer, PongKind::Matched { .. }));
        assert!(matches!(heartbeat.poll_output(now), Output::Wait(Some(_))));
    }
    let per_cycle = per(allocations(&cycles), CYCLES);

    let polls = count();
    for _ in 0..POLLS {
        assert!(matches!(heartbeat.poll_output(now), Output::Wait(Some(_))));
    }
    let per_idle_poll = per(allocations(&polls), POLLS);

    // The first makes room for what only trouble leaves behind.
    assert_eq!(heartbeat.handle_pong(&STRAY, now), PongKind::Unsolicited);
    let strays = count();
    for _ in 0..POLLS {
        assert_eq!(heartbeat.handle_pong(&STRAY, now), PongKind::Unsolicited);
    }
    [per_cycle, per_idle_poll, per(allocations(&strays), POLLS)]
}

fn main() -> ExitCode {
    println!("heartbeat.bytes: {}", size_of::<Heartbeat>());
    let [per_cycle, per_idle_poll, per_stray] = machine();
    println!("heartbeat.allocations per cycle: {per_cycle}");
    println!("heartbeat.allocations per idle poll: {per_idle_poll}");
    println!("heartbeat.allocations per stray pong: {per_stray}");

    let pinger = Footprint::of(&Pinger(config()));
    pinger.print("pinger");
    Footprint::of(&SelectLoop).print("select loop");
    Footprint::of(&KtorLoop).print("ktor loop");

    let mut kept = true;
    for (what, is, limit) in [
        ("allocations per cycle", pinger.allocations_per_cycle, 1.0),
        (
            "allocations per idle poll",
            pinger.allocations_per_idle_poll,
            0.0,
        ),
        (
            "allocations per stray pong",
            pinger.allocations_per_stray,
            0.0,
        ),
        (
            "inline plus heap bytes per idle heartbeat with task",
            pinger.inline_plus_heap(),
            700.0,
        ),
        ("allocations per cycle of the core", per_cycle, 1.0),
        ("allocations per idle poll of the core", per_idle_poll, 0.0),
        ("allocations per stray pong of the core", per_stray, 0.0),
    ] {
        if is > limit {
            eprintln!("limit broken: {what}: {is}, no more than {limit} allowed");
            kept = false;
        }
    }
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
