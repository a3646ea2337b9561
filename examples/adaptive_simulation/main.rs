//! What `adaptive_timeout` is worth: how soon a dead peer is found, and how often a live one is
//! taken for dead, on four links with bursts of loss.
//!
//! `cargo run --release --example adaptive_simulation` prints the tables and writes them with a
//! plot to `docs/adaptive.md` and `docs/adaptive.svg`; both are the same, byte for byte, each time.
//! `-- some/where.svg` writes them there. `-- --quick` simulates a fraction, and writes nothing
//! unless it is told where.
//!
//! It drives the [`Heartbeat`](futures_pinger::Heartbeat) of this crate, over a model of TCP in
//! virtual time.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use futures_pinger::Clock;

mod connection;
mod link;
mod measure;
mod plot;
mod policy;
mod random;
mod report;
mod tcp;

use link::{LINKS, Link};
use measure::{Effort, Outcome, measure};
use policy::Policy;

const FULL: Effort = Effort {
    days: 1_000,
    deaths: 2_000,
};
const QUICK: Effort = Effort {
    days: 20,
    deaths: 200,
};

/// A policy on a link, and what was measured of it.
struct Cell {
    policy: Policy,
    link: Link,
    outcome: Outcome,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut effort, mut plot) = (FULL, None);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--quick" => effort = QUICK,
            option if option.starts_with('-') => return Err(format!("what is {option}?").into()),
            path => plot = Some(PathBuf::from(path)),
        }
    }
    if plot.is_none() && effort.days == FULL.days {
        plot = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/adaptive.svg").into());
    }

    let cells = simulate(effort);
    let report = report::markdown(&cells, effort);
    print!("{report}");
    if let Some(path) = plot {
        fs::write(&path, plot::svg(&cells, effort))?;
        fs::write(path.with_extension("md"), report)?;
    }
    Ok(())
}

/// Link by link, each with all policies.
fn simulate(effort: Effort) -> Vec<Cell> {
    // Any start will do: all that follows is counted from it.
    let origin = Clock::system().now();
    let cells: Vec<_> = LINKS
        .into_iter()
        .flat_map(|link| Policy::all().map(move |policy| (policy, link)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let taken = std::iter::from_fn(|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (policy, link) = *cells.get(index)?;
            let outcome = measure(policy, link, effort, origin);
            let cell = Cell {
                policy,
                link,
                outcome,
            };
            Some((index, cell))
        });
        taken.collect::<Vec<_>>()
    };
    let mut done = thread::scope(|scope| {
        let second = scope.spawn(work);
        let mut done = work();
        done.extend(second.join().expect("it does not panic"));
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, cell)| cell).collect()
}

/// How many times sooner than with the fixed timeout.
fn sooner(cells: &[Cell], cell: &Cell) -> f64 {
    let median = |cell: &Cell| cell.outcome.detection.median.as_secs_f64();
    median(fixed(cells, cell.link)) / median(cell)
}

/// Whether it raises no more false alarms than the fixed timeout does.
fn as_quiet(cells: &[Cell], cell: &Cell) -> bool {
    cell.outcome.false_alarms <= fixed(cells, cell.link).outcome.false_alarms
}

fn fixed(cells: &[Cell], link: Link) -> &Cell {
    on(cells, link)
        .find(|cell| cell.policy == Policy::Fixed)
        .expect("each link has it")
}

fn on(cells: &[Cell], link: Link) -> impl Iterator<Item = &Cell> {
    cells.iter().filter(move |cell| cell.link == link)
}
