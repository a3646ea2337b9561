//! The cost of one heartbeat cycle.
//!
//! `cargo bench --bench cycle`. Every row runs on tokio's paused clock, so no real time is waited
//! for: what is measured is the work of a cycle, the runtime's part included.

use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::sync::mpsc;

#[path = "baseline/mod.rs"]
mod baseline;

use baseline::{Dead, Out};

const INTERVAL: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(20);

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a current-thread runtime needs no resources")
}

/// `cycles` pings and their pongs through one of the baseline loops.
async fn run_loop<F>(
    heartbeat: fn(mpsc::Sender<Out>, mpsc::Receiver<Bytes>, Duration, Duration) -> F,
    cycles: u64,
) where
    F: Future<Output = Result<(), Dead>> + Send + 'static,
{
    let (out, mut frames) = mpsc::channel(1);
    let (pongs, pongs_in) = mpsc::channel(1);
    let heartbeat = tokio::spawn(heartbeat(out, pongs_in, INTERVAL, TIMEOUT));
    for _ in 0..cycles {
        match frames.recv().await {
            Some(Out::Ping(payload)) => pongs.send(payload).await.expect("the loop runs"),
            other => panic!("a live peer got {other:?}"),
        }
    }
    drop(pongs);
    let ended = heartbeat.await.expect("the loop does not panic");
    assert_eq!(black_box(ended), Ok(()));
}

fn cycle(c: &mut Criterion) {
    let runtime = paused();
    let mut group = c.benchmark_group("cycle");
    group.bench_function(BenchmarkId::from_parameter("select! loop"), |b| {
        b.iter_custom(|cycles| {
            let started = std::time::Instant::now();
            runtime.block_on(run_loop(baseline::select_loop, cycles));
            started.elapsed()
        });
    });
    group.bench_function(BenchmarkId::from_parameter("ktor's two timeouts"), |b| {
        b.iter_custom(|cycles| {
            let started = std::time::Instant::now();
            runtime.block_on(run_loop(baseline::ktor_loop, cycles));
            started.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, cycle);
criterion_main!(benches);
