//! Both halves of a `KeepAlive` in random scripts, in virtual time: see `lab`. `fuzz` shares all this.
//!
//! | Variable | What is run |
//! |---|---|
//! | none | the same few thousand scripts each time |
//! | `HALVES_SECONDS=3600` | other scripts for so long, from the seed `HALVES_SEED` on, or from a new one |
//! | `HALVES_REPLAY=00ff…` | the one script whose bytes these are, as a failure prints them |

// One crate: what its modules share is their own business.
#![allow(unreachable_pub)]
// Times here are made up, and small.
#![allow(clippy::unchecked_time_subtraction, clippy::cast_possible_truncation)]

mod lab;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_pinger::Clock;

use lab::{Report, Script, random, run, shrink};

/// Scripts that are run each time.
const SCRIPTS: u64 = 6000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    let bytes = digits.map(|digits| {
        let digits = std::str::from_utf8(digits).expect("hexadecimal digits");
        u8::from_str_radix(digits, 16).expect("hexadecimal digits")
    });
    bytes.collect()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

fn passes(bytes: &[u8]) -> std::thread::Result<Report> {
    let script = Script::decode(bytes);
    catch_unwind(AssertUnwindSafe(|| run(&script)))
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("")
}

/// What a panic says, without its numbers: a smaller script is to fail in the same way.
fn kind(panic: &(dyn Any + Send)) -> String {
    let letters = text(panic).chars().filter(|letter| letter.is_alphabetic());
    letters.take(24).collect()
}

/// Runs the script of those bytes. If it fails: says how to replay the smallest that does, and fails.
fn attempt(name: &str, bytes: Vec<u8>) -> Report {
    match passes(&bytes) {
        Ok(report) => report,
        Err(panic) => {
            eprintln!("{name} fails");
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let first = kind(&*panic);
            let fails = |bytes: &[u8]| passes(bytes).is_err_and(|panic| kind(&*panic) == first);
            let bytes = shrink(bytes, fails);
            std::panic::set_hook(hook);
            eprintln!("{:#?}", Script::decode(&bytes));
            eprintln!("HALVES_REPLAY={}", hex(&bytes));
            run(&Script::decode(&bytes));
            unreachable!("the script fails");
        }
    }
}

/// The smallest scripts that once failed, and what was wrong.
const FOUND: [(&str, &str); 27] = [
    (
        "a message went into a socket that was not ready, after the end of closing",
        "000000000000000000000000000000009f0000000d007b0000cd0000",
    ),
    (
        "the same, in the place of a message that was held",
        "56000000000000000000000000000000de00000000009f00007b0000d57300",
    ),
    (
        "the writer took the end of a runtime's share for the end of the input",
        "0100000000000000a000000006000000000000b600005636007b0000",
    ),
    (
        "the same, where the writer could read nothing at all",
        "0100000000000000f4000000550000007a0000537500",
    ),
    (
        "the error of a refused ping was kept over a close frame",
        "000000000000000000000000000000009d00000000009e0000800000e40000",
    ),
    (
        "a message that was read ahead and taken wrote off a ping that could be read",
        "0100011b000000000000070000000000520e00c70000700000002c00",
    ),
    (
        "closing the sink was not taken for the answer to a close frame",
        "00000000000000000400000000000000b600008200009f0000000000eb0000890000000b00",
    ),
    (
        "an order woke nobody where the reader was away and the writer waited",
        "01000000000000000000000000000000ca9400f000000000007e0000500100000000d30000000000f20000000f00",
    ),
    (
        "a reader that waited did not listen for a ping that the writer had sent",
        "0100000000000000010000000000e700000037690100ee0000c50000f10000700000009c00006300cd0000004d00",
    ),
    (
        "a message that was read ahead and taken disarmed the deadline",
        "01000e0000000000be00000000000000c600005e0000710000000000820000",
    ),
    (
        "an order between two polls of the reader was forgotten",
        "00000000000000000000000000000000cc0100640000f00000820000f30000",
    ),
    (
        "after a close frame the writer's waker was lost by `poll_heartbeat`",
        "07000000000000006400000000000000000000830000ea0000c100008a0000",
    ),
    (
        "the wait for a reader that was away counted as a stall",
        "01010100010000000000260000000000c40000000f00bf0000730000000100e20000005a47",
    ),
    (
        "a deadline of the writer was late behind a reader that takes its time",
        "0100000000000000e8003700000000004d2e00c500007e00009f0000009a00",
    ),
    (
        "the second of two polls of the stream in one of the task took the end of the share for the end of the input",
        "a2000001010000008e0894002500000000490000e6000035674e3300",
    ),
    (
        "the same, where there is no grace",
        "8e8b000100000000ba8f1f0045000000000700002500000000980000510700",
    ),
    (
        "the same, under `poll_heartbeat`",
        "fe0000000000000037300000150000007e0000d50000c30000a30100490000",
    ),
    (
        "without a grace the writer's first look was at the deadline",
        "0100000b01000000f2220000000000000000007e0000dc0000",
    ),
    (
        "without a lookahead the writer wrote off a ping although the reader waited",
        "0001007b000000009de000006e000000005700538a00",
    ),
    (
        "a flush of the application that took the answer to a close frame along was not seen",
        "01000000000000000000000000000000cb01006300009b00009e0000af0000e20000970000820000",
    ),
    (
        "without a lookahead a reader that came back from `poll_heartbeat` was not judged for",
        "0101000100000000000000000000dc00840000cc0100d000004e00008b0000c40000000000",
    ),
    (
        "two looks at a probe armed a timer that is early for two times in turn",
        "0000000000000000bc00000000000000000000ecd4e0",
    ),
    (
        "a message counted as activity from when the writer came by",
        "00000001000000009c00000000000700a40100cc54009a0000000000000000",
    ),
    (
        "a reader that waited at the checkpoint was no first look",
        "0100565b010000000000000000000000720000000100840000d20000",
    ),
    (
        "a write that was given up was stuck for the slack of the write timeout, not of the timeout",
        "0101000000000000000000000000e900c70000820000000000d30000490000e60000960000840000000000",
    ),
    (
        "the oracle took a late pong of ours that was read ahead for no message",
        "011200e3000000000080000000000000000000c700006300006b0000000000b30000710000c50000000000000100",
    ),
    (
        "the same of a pong that a policy had answered before",
        "01aa122b01000000004300000000be004901006600005b0000c10000000000720000000000000000",
    ),
];

#[derive(Debug, Default)]
struct Tally {
    scripts: u64,
    pong_verdicts: u64,
    write_verdicts: u64,
    closing_verdicts: u64,
    closed: u64,
    failed: u64,
    alive: u64,
    polls: usize,
}

impl Tally {
    fn add(&mut self, report: Report) {
        self.scripts += 1;
        self.pong_verdicts += u64::from(report.pong_verdict);
        self.write_verdicts += u64::from(report.write_verdict);
        self.closing_verdicts += u64::from(report.closing_verdict);
        self.closed += u64::from(report.closed);
        self.failed += u64::from(report.failed);
        self.alive += u64::from(report.alive);
        self.polls += report.polls;
    }
}

#[test]
fn the_scripts_that_once_failed_pass() {
    for (fault, script) in FOUND {
        if let Err(panic) = passes(&from_hex(script)) {
            panic!("{fault}: {}", text(&*panic));
        }
    }
}

// contract: O87 O88 O89 O90 O91 O92
#[test]
fn whatever_the_application_and_the_peer_do_the_promises_hold() {
    if let Ok(replay) = std::env::var("HALVES_REPLAY") {
        let bytes = from_hex(&replay);
        eprintln!("{:#?}", Script::decode(&bytes));
        eprintln!("{:?}", attempt("the script", bytes));
        return;
    }
    let try_seed = |seed: u64| attempt(&format!("seed {seed}"), random(seed));
    let mut tally = Tally::default();
    if let Some(seconds) = number("HALVES_SECONDS") {
        let clock = Clock::system();
        let start = clock.now();
        let mut seed = number("HALVES_SEED").unwrap_or_else(rand::random);
        while clock.now() < start + Duration::from_secs(seconds) {
            tally.add(try_seed(seed));
            seed = seed.wrapping_add(1);
        }
    } else {
        (0..SCRIPTS).for_each(|seed| tally.add(try_seed(seed)));
    }
    eprintln!("{tally:#?}");
}
