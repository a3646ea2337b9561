//! Takes one edition of the crate through random scripts and prints what was seen of it.
//!
//! `.ci/first-edition` builds this program once with the first edition and once with the present
//! tree, and compares what the two print. Nothing here judges: a difference is the finding.
//!
//! usage: PROGRAM FROM TO [--full] [--surface NAME] [--without FEATURE]...
//!
//! For each seed in FROM..TO and each surface, it prints the seed, the surface and a hash of the
//! transcript, or with `--full` the transcript. Lines that start with `#` count what the scripts
//! reached, and are not compared.

// One program: what its modules share is their own business.
#![allow(unreachable_pub)]

mod bare;
mod echo;
mod script;
// The shells and their surroundings are those of the first edition's model, for both editions.
#[path = "../../../target/first-edition/old/tests/model/shells.rs"]
mod shells;
mod system;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bare::Bare;
use crate::echo::Echo;
use crate::script::Script;
use crate::shells::{BySlot, ByStream, InSet, Kept, Run};
use crate::system::{System, Transcript};

const SURFACES: [(&str, fn(&Script) -> Transcript); 6] = [
    ("bare", transcript::<Bare>),
    ("slot", transcript::<Run<BySlot>>),
    ("stream", transcript::<Run<ByStream>>),
    ("keep_alive", transcript::<Run<Kept>>),
    ("echo", transcript::<Run<Echo>>),
    ("set", transcript::<Run<InSet>>),
];

/// What is seen of it, also where it panics.
fn transcript<S: System>(script: &Script) -> Transcript {
    let mut seen = Transcript::default();
    let ran = catch_unwind(AssertUnwindSafe(|| seen.record::<S>(script)));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        seen.panicked(text.unwrap_or("no text"));
    }
    seen
}

/// FNV-1a: the same in each build.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn main() {
    let (mut full, mut surface, mut without, mut seeds) = (false, None, Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--full" => full = true,
            "--surface" => surface = arguments.next(),
            "--without" => without.extend(arguments.next()),
            seed => seeds.push(seed.parse::<u64>().expect("a seed is a number")),
        }
    }
    let &[from, to] = &*seeds else {
        panic!("two seeds: the first, and the one behind the last")
    };
    std::panic::set_hook(Box::new(|_| {}));

    let mut reached = BTreeMap::<(&str, String), u64>::new();
    let mut out = std::io::stdout().lock();
    let mut say = |line: &str| {
        if writeln!(out, "{line}").is_err() {
            // Whoever compares has seen enough.
            std::process::exit(0);
        }
    };
    for seed in from..to {
        let script = Script::of(seed, &without);
        for (name, run) in SURFACES {
            if surface.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let seen = run(&script.on(name));
            if full {
                say(&format!("seed {seed} {name} {:?}", script.on(name).options));
                say(&seen.text);
            } else {
                say(&format!("{seed} {name} {:016x}", hash(&seen.text)));
            }
            for (what, count) in seen.reached {
                *reached.entry((name, what)).or_default() += count;
            }
        }
    }
    if !full {
        for (name, _) in SURFACES {
            let of = reached.iter().filter(|((surface, _), _)| *surface == name);
            let of: Vec<_> = of.map(|((_, what), n)| format!("{what} {n}")).collect();
            say(&format!("# {name}: {}", of.join(", ")));
        }
    }
}
