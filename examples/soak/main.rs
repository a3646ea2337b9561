//! Heartbeats for hours, among peers that freeze, lose, delay and die: no verdict on a live one, one
//! in its bound on each that died, and no memory that grows.
//!
//! `cargo run --release --example soak -- virtual --minutes 60` runs random days in virtual time, one
//! after the other, for so many real minutes. `--seed` begins with another day; a day that fails says
//! which it was.
//!
//! `cargo run --release --example soak -- real --minutes 60 --connections 5000 --interval 5` holds
//! connections over the loopback, to peers in a process of their own. Each connection draws one of five
//! ways to have a heartbeat: a whole `KeepAlive`, a split one, `pinger()` beside a reader, a member of a
//! `PingerSet`, or `run_while`. Both processes are stopped now and then, handlers take up to three
//! intervals, and configurations change. Peers fall silent, freeze, close, vanish and reset. `--svg
//! docs/soak.svg` plots the memory. Either process needs a file for each connection, and more for those
//! that end (`ulimit -Hn`).
//!
//! Both fail at the first figure that is wrong.

#[cfg(unix)]
mod ledger;
#[cfg(unix)]
mod peers;
#[cfg(unix)]
mod plot;
#[cfg(unix)]
mod real;
mod simulated;
#[cfg(unix)]
mod surfaces;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

const USAGE: &str = "soak virtual [--minutes N] [--seed N]\n\
                     soak real [--minutes N] [--seed N] [--connections N] [--interval SECONDS] [--svg PATH]";

struct Options {
    time: Duration,
    seed: u64,
    connections: u32,
    /// Of the heartbeats over the loopback.
    interval: Duration,
    svg: Option<PathBuf>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            time: Duration::from_secs(60),
            seed: 1,
            connections: 200,
            interval: Duration::from_secs(2),
            svg: None,
        };
        while let Some(option) = args.next() {
            let value = args.next().ok_or_else(|| format!("{option} of what?"))?;
            match option.as_str() {
                "--minutes" => options.time = seconds(60.0 * number::<f64>(&value)?)?,
                "--interval" => options.interval = seconds(number(&value)?)?,
                "--seed" => options.seed = number(&value)?,
                "--connections" => options.connections = number(&value)?,
                "--svg" => options.svg = Some(value.into()),
                _ => return Err(format!("what is {option}?")),
            }
        }
        Ok(options)
    }
}

fn seconds(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{seconds} s: {error}"))
}

fn number<N: FromStr>(word: &str) -> Result<N, String> {
    word.parse()
        .map_err(|_| format!("{word} is no such number"))
}

/// As many descriptors as the system lets this process have.
#[cfg(unix)]
fn raise_limit_of_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is not allowed, connections fail, which shows.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let outcome = Options::parse(args).and_then(|options| match mode.as_str() {
        "virtual" => simulated::run(&options),
        #[cfg(unix)]
        "real" => {
            raise_limit_of_descriptors();
            real::run(&options)
        }
        #[cfg(unix)]
        peers::ROLE => {
            raise_limit_of_descriptors();
            peers::run(&options)
        }
        _ => Err(format!("usage:\n{USAGE}")),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
