//! Heartbeats by the thousand and by the million: ours as tasks and in a set beside a `select!` loop,
//! ktor's pinger and the registry with a sweeper of the `ws-heartbeat` crate.
//!
//! `cargo bench --bench scale` prints the quick table, to 100 000 connections; `SCALE=million` adds what
//! is asked of a set of a million (ten minutes), and `SCALE=full` is the whole table to a million (12 GB
//! of memory, an hour and a half). With `SCALE_ROUNDS=3` each run is made three times, and the one in the middle counts. The figures, a JSON object for each run, are left in
//! `target/tmp/scale.jsonl` or where `SCALE_OUT` says; `benches/report.py` makes the tables and the
//! plots of `BENCHMARKS.md` of them.
//!
//! Each run is a process of its own, one after the other:
//!
//! ```text
//! scale MODE CONTESTANT RUNTIME THREADS CONNECTIONS INTERVAL_MS     one run, for instance
//! scale cycle set tokio 1 100000 1200
//! ```
//!
//! `memory` counts what idle heartbeats have allocated, `cycle` what a ping and its pong cost, `death` how
//! long the verdicts take where no peer answers, and `join` how long it takes until all are let in.

// Here the time that passes is the subject; no heartbeat reads it.
#![allow(clippy::disallowed_methods)]

#[path = "../baseline/mod.rs"]
#[allow(unreachable_pub)]
mod baseline;
#[path = "../contestants/channel_sink.rs"]
mod channel_sink;
mod fleet;
mod meter;
mod plan;
mod runtimes;

use std::env;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    // cargo adds this one.
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    if arguments.is_empty() {
        return plan::carry_out();
    }
    match plan::Run::parse(&arguments) {
        Some(run) => {
            println!("{}", fleet::measure(run));
            // A million tasks need not be dropped one by one.
            std::process::exit(0)
        }
        None => {
            eprintln!("usage: scale [MODE CONTESTANT RUNTIME THREADS CONNECTIONS INTERVAL_MS]");
            ExitCode::FAILURE
        }
    }
}
