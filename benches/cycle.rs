//! The cost of one heartbeat cycle, and of what happens between cycles.
//!
//! `cargo bench --bench cycle`. What needs a runtime runs on tokio's paused clock, so no real time
//! is waited for: what is measured is the work, the runtime's part included.

// Here the time that passes is the subject; no heartbeat reads it.
#![allow(clippy::disallowed_methods)]
// What `criterion_group!` makes has no docs.
#![allow(missing_docs)]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use futures_pinger::{Config, Frame, Heartbeat, Output, PongKind};
use tokio::sync::mpsc;

#[path = "baseline/mod.rs"]
#[allow(unreachable_pub)]
mod baseline;
#[path = "contestants/mod.rs"]
mod contestants;

use contestants::{
    CAPACITY, Contestant, INTERVAL, KtorLoop, Pinger, STRAY, SelectLoop, answer, config, options,
    paused,
};

fn no_grid() -> Config {
    let config = options().granularity(Duration::ZERO).build();
    config.expect("a zero granularity is valid")
}

/// `cycles` pings and their pongs, from the spawning of the heartbeat to its end.
async fn run<C: Contestant>(contestant: &C, cycles: u64) {
    let (out, mut frames) = mpsc::channel(CAPACITY);
    let (pongs, heartbeat) = contestant.start(out);
    let heartbeat = tokio::spawn(heartbeat);
    answer::<C>(&mut frames, &pongs, cycles).await;
    drop(pongs);
    black_box(heartbeat.await.is_ok());
}

fn cycle_of<C: Contestant>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, contestant: &C) {
    let runtime = paused();
    group.bench_function(name, |b| {
        b.iter_custom(|cycles| {
            let started = Instant::now();
            runtime.block_on(run(contestant, cycles));
            started.elapsed()
        });
    });
}

/// A full cycle as a task on tokio: due, ping, pong, armed again.
fn cycle(c: &mut Criterion) {
    let mut group = c.benchmark_group("cycle");
    cycle_of(&mut group, "pinger()", &Pinger(config()));
    cycle_of(&mut group, "pinger(), granularity zero", &Pinger(no_grid()));
    cycle_of(&mut group, "select! loop", &SelectLoop);
    cycle_of(&mut group, "ktor's two timeouts", &KtorLoop);
    group.finish();
}

/// The sans-IO core alone.
fn machine(c: &mut Criterion) {
    let mut group = c.benchmark_group("machine");
    let start = Instant::now();

    group.bench_function("cycle", |b| {
        let mut heartbeat = Heartbeat::new(config(), start);
        let mut now = start;
        b.iter(|| {
            now += INTERVAL;
            assert_eq!(heartbeat.poll_output(now), Output::Ping);
            let Some(Frame::Ping(payload)) = heartbeat.transmit(now) else {
                unreachable!("a ping was due")
            };
            heartbeat.handle_sent(now);
            black_box(heartbeat.handle_pong(&payload, now));
            heartbeat.poll_output(now)
        });
    });
    group.bench_function("idle poll", |b| {
        let mut heartbeat = Heartbeat::new(config(), start);
        b.iter(|| heartbeat.poll_output(black_box(start)));
    });
    group.bench_function("stray pong", |b| {
        let mut heartbeat = Heartbeat::new(config(), start);
        b.iter(|| heartbeat.handle_pong(black_box(&STRAY), black_box(start)));
    });
    group.finish();
}

/// A poll that finds nothing to do, by hand: no scheduler takes part.
fn idle_poll_of<C: Contestant>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    contestant: &C,
) {
    let runtime = paused();
    // Entered and not blocked on: inside a task tokio would make every 128th poll yield.
    let _entered = runtime.enter();
    let (out, _frames) = mpsc::channel(CAPACITY);
    let (_pongs, heartbeat) = contestant.start(out);
    let mut heartbeat = pin!(heartbeat);
    let mut cx = Context::from_waker(Waker::noop());
    group.bench_function(name, |b| {
        b.iter(|| assert!(heartbeat.as_mut().poll(&mut cx).is_pending()));
    });
}

fn idle_poll(c: &mut Criterion) {
    let mut group = c.benchmark_group("idle poll");
    idle_poll_of(&mut group, "pinger()", &Pinger(config()));
    idle_poll_of(&mut group, "pinger(), granularity zero", &Pinger(no_grid()));
    idle_poll_of(&mut group, "select! loop", &SelectLoop);
    idle_poll_of(&mut group, "ktor's two timeouts", &KtorLoop);
    group.finish();
}

/// For the loops: the pong is put into the channel, and the loop, which that wakes, is polled (by
/// hand: no scheduler takes part).
fn stray_pong_of<C: Contestant>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    contestant: &C,
) {
    let runtime = paused();
    let _entered = runtime.enter();
    let (out, _frames) = mpsc::channel(CAPACITY);
    let (pongs, heartbeat) = contestant.start(out);
    let mut heartbeat = pin!(heartbeat);
    let mut cx = Context::from_waker(Waker::noop());
    group.bench_function(name, |b| {
        b.iter(|| {
            let sent = C::pong(&pongs, Bytes::from_static(black_box(&STRAY)));
            sent.now_or_never().expect("there is room for one pong");
            assert!(heartbeat.as_mut().poll(&mut cx).is_pending());
        });
    });
}

fn stray_pong(c: &mut Criterion) {
    let mut group = c.benchmark_group("stray pong");
    {
        // It wakes nobody, so there is no poll to count.
        let runtime = paused();
        let _entered = runtime.enter();
        let (pongs, heartbeat) = futures_pinger::pinger(futures::sink::drain(), config());
        let mut heartbeat = pin!(heartbeat.with_timer(futures_pinger::TokioTimer::new()));
        let polled = heartbeat
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Pending);
        group.bench_function("pinger()", |b| {
            b.iter(|| {
                assert_eq!(
                    pongs.handle_pong(black_box(&STRAY)),
                    Ok(PongKind::Unsolicited)
                );
            });
        });
    }
    stray_pong_of(&mut group, "select! loop", &SelectLoop);
    stray_pong_of(&mut group, "ktor's two timeouts", &KtorLoop);
    group.finish();
}

criterion_group! {
    name = benches;
    // Short runs: the rows are compared with each other, within one run.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = cycle, machine, idle_poll, stray_pong
}
criterion_main!(benches);
