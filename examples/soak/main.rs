//! Heartbeats for hours, among peers that freeze, lose, delay and die: no verdict on a live one, one
//! in its bound on each that died, and no memory that grows.
//!
//! `cargo run --release --example soak -- virtual --minutes 60` runs random days in virtual time, one
//! after the other, for so many real minutes. `--seed` begins with another day; a day that fails says
//! which it was.
//!
//! `cargo run --release --example soak -- real --minutes 15 --connections 2000` holds connections over
//! the loopback, to peers in a process of their own. Both processes are stopped now and then. `--svg
//! docs/soak.svg` plots the memory. It needs two files for each connection (`ulimit -n`), in each
//! process.
//!
//! Both fail at the first figure that is wrong.

#[cfg(unix)]
mod peers;
mod plot;
#[cfg(unix)]
mod real;
mod simulated;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

const USAGE: &str = "soak virtual [--minutes N] [--seed N]\n\
                     soak real [--minutes N] [--connections N] [--svg PATH]";

struct Options {
    time: Duration,
    seed: u64,
    connections: usize,
    svg: Option<PathBuf>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            time: Duration::from_secs(60),
            seed: 1,
            connections: 200,
            svg: None,
        };
        while let Some(option) = args.next() {
            let value = args.next().ok_or_else(|| format!("{option} of what?"))?;
            match option.as_str() {
                "--minutes" => {
                    let minutes: f64 = number(&value)?;
                    let time = Duration::try_from_secs_f64(60.0 * minutes);
                    options.time = time.map_err(|error| format!("{value}: {error}"))?;
                }
                "--seed" => options.seed = number(&value)?,
                "--connections" => options.connections = number(&value)?,
                "--svg" => options.svg = Some(value.into()),
                _ => return Err(format!("what is {option}?")),
            }
        }
        Ok(options)
    }
}

fn number<N: FromStr>(word: &str) -> Result<N, String> {
    word.parse()
        .map_err(|_| format!("{word} is no such number"))
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let outcome = Options::parse(args).and_then(|options| match mode.as_str() {
        "virtual" => simulated::run(&options),
        #[cfg(unix)]
        "real" => real::run(&options),
        #[cfg(unix)]
        peers::ROLE => peers::run(&options),
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
