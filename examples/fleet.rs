//! A million heartbeats of one process in one [`PingerSet`], and one peer in a hundred dies.
//!
//! `cargo run --release --example fleet` holds a million, which takes some memory, most of it for the
//! channels and the peers; `fleet 20000` is over in seconds. Each connection has a bounded channel of its
//! own for its frames, and a peer: a task that echoes each ping, until it dies.
//!
//! It shows how things stand, and fails unless each dead peer is found and no live one given up.

use std::collections::HashMap;
use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures_pinger::{Clock, Config, Frame, Instant, Member, MemberId, PingerSet, TokioTimer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::time::sleep;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// One in so many dies.
const SHARE: usize = 100;
/// From one batch of newcomers to the next, and from one look at them all to the next.
const PACE: Duration = Duration::from_millis(10);
/// Those that are found later than after the detection bound and this are not found.
const PATIENCE: Duration = Duration::from_secs(30);

/// What peers and set tell.
struct Report {
    clock: Clock,
    answered: AtomicU64,
    /// Whose ping stayed without an answer, and when that came.
    dead: Mutex<HashMap<MemberId, Instant>>,
    /// Whom the set gave up, and when.
    found: Mutex<HashMap<MemberId, Instant>>,
}

impl Report {
    fn dead(&self) -> usize {
        self.dead.lock().expect("nobody panics").len()
    }

    fn found(&self) -> usize {
        self.found.lock().expect("nobody panics").len()
    }

    fn line(&self, what: &str, connections: usize) {
        let answered = self.answered.load(Ordering::Relaxed);
        let (dead, found) = (self.dead(), self.found());
        println!(
            "{what:<8} {connections:>9} heartbeats {answered:>10} pongs {dead:>7} dead {found:>7} found"
        );
    }
}

/// Echoes each ping. With the first that comes at `end` or later it has died.
async fn peer(
    mut frames: mpsc::Receiver<Frame>,
    member: Member,
    end: Option<Instant>,
    report: Arc<Report>,
) {
    let mut dead = false;
    while let Some(frame) = frames.next().await {
        let Frame::Ping(payload) = frame else { return };
        if dead {
            continue;
        }
        let now = end.map(|_| report.clock.now());
        dead = end <= now && end.is_some();
        if let Some(now) = now.filter(|_| dead) {
            let mut all = report.dead.lock().expect("nobody panics");
            all.insert(member.id(), now);
        } else {
            member.handle_pong(&payload);
            report.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Bytes of an idle heartbeat with its handle, without its channel.
#[allow(clippy::cast_precision_loss)] // A figure for people.
fn memory(config: &Config, connections: usize) -> f64 {
    let mut set = PingerSet::new(config.clone());
    let (mut outs, _frames): (Vec<_>, Vec<_>) =
        (0..connections).map(|_| mpsc::channel::<Frame>(1)).unzip();
    let sink = size_of_val(&outs[0]);
    let mut members = Vec::with_capacity(connections);
    let mut cx = Context::from_waker(Waker::noop());

    let region = Region::new(ALLOCATOR);
    members.extend(outs.drain(..).map(|out| set.insert(out)));
    // A poll looks at some of them, and then lets others have their turn.
    for _ in 0..connections / 1000 + 2 {
        assert!(set.poll_next_unpin(&mut cx).is_pending());
    }
    let change = region.change();
    let heap = change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated);
    heap as f64 / connections as f64 + size_of::<Member>() as f64 - sink as f64
}

/// CPU time of this process, where the system tells.
fn cpu() -> Option<Duration> {
    #[cfg(unix)]
    return Duration::try_from(rustix::time::clock_gettime(
        rustix::time::ClockId::ProcessCPUTime,
    ))
    .ok();
    #[cfg(not(unix))]
    None
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)] // Shares of a number that fits.
async fn run(connections: usize, config: Config) -> bool {
    let interval = config.interval();
    let timeout = config.timeout().expect("a fixed one");
    let set = PingerSet::new(config.clone()).with_timer(TokioTimer::new());
    let handle = set.handle();
    let clock = Clock::system();
    let report = Arc::new(Report {
        clock: clock.clone(),
        answered: AtomicU64::new(0),
        dead: Mutex::default(),
        found: Mutex::default(),
    });

    let driver = tokio::spawn({
        let (mut set, report) = (set, Arc::clone(&report));
        async move {
            while let Some(departure) = set.next().await {
                let now = report.clock.now();
                let mut found = report.found.lock().expect("nobody panics");
                found.insert(departure.id, now);
            }
        }
    });

    // They come over one interval, as connections do, answer over the next, and then some die.
    let begin = clock.now();
    let mut came = 0;
    let mut shown = begin;
    while came < connections {
        let passed = clock.now() - begin;
        let due = (connections as f64 * passed.as_secs_f64() / interval.as_secs_f64()) as usize;
        while came < due.min(connections) {
            let (out, frames) = mpsc::channel(1);
            let inserted = handle.insert(out);
            let member = inserted.unwrap_or_else(|_| unreachable!("the set stays"));
            let end = (came % SHARE == SHARE - 1)
                .then(|| begin + 2 * interval + interval.mul_f64(fraction(came)));
            tokio::spawn(peer(frames, member, end, Arc::clone(&report)));
            came += 1;
        }
        sleep(PACE).await;
        if clock.now() - shown >= Duration::from_secs(1) {
            shown = clock.now();
            report.line("arriving", handle.len());
        }
    }

    let answered = report.answered.load(Ordering::Relaxed);
    let (cpu_before, since) = (cpu(), clock.now());
    sleep(interval).await;
    let spent = clock.now() - since;
    let share = cpu()
        .zip(cpu_before)
        .map(|(after, before)| after.saturating_sub(before).as_secs_f64() / spent.as_secs_f64());
    let answered = report.answered.load(Ordering::Relaxed) - answered;
    report.line("all here", handle.len());

    let dying = connections / SHARE;
    let bound = config.detection_bound().expect("there is a timeout");
    let limit = begin + 4 * interval + bound + PATIENCE;
    while report.found() < dying && clock.now() < limit {
        sleep(PACE).await;
        if clock.now() - shown >= Duration::from_secs(1) {
            shown = clock.now();
            report.line("dying", handle.len());
        }
    }
    // Time for a live one to be given up by mistake.
    sleep(timeout).await;
    report.line("the end", handle.len());
    let survived = !driver.is_finished();

    let dead = report.dead.lock().expect("nobody panics");
    let found = report.found.lock().expect("nobody panics");
    let lost = found.keys().filter(|id| !dead.contains_key(id)).count();
    let mut late: Vec<Duration> = dead
        .iter()
        .filter_map(|(id, pinged)| {
            let deadline = *pinged + timeout;
            Some(found.get(id)?.saturating_duration_since(deadline))
        })
        .collect();
    late.sort_unstable();

    println!(
        "\nmemory    {:.1} B for each heartbeat, without its channel",
        memory(&config, connections.min(100_000))
    );
    if let Some(share) = share {
        println!(
            "CPU       {:.1} % of a core, channels and peers included, at {:.0} pings a second",
            100.0 * share,
            answered as f64 / spent.as_secs_f64()
        );
    }
    println!("dead      {} of {dying} found", late.len());
    println!("live      {lost} of {} lost", connections - dying);
    if let [.., last] = late[..] {
        println!(
            "lateness  half within {:?}, the last {last:?} after the ping came and the timeout passed",
            late[late.len() / 2]
        );
    }
    survived && dead.len() == dying && late.len() == dying && lost == 0
}

/// Somewhere from 0 to 1, not in the order of the numbers.
#[allow(clippy::cast_precision_loss)]
fn fraction(number: usize) -> f64 {
    (number.wrapping_mul(7_919) % 1_000_003) as f64 / 1_000_003.0
}

fn main() -> ExitCode {
    let connections = env::args().nth(1).map_or(Ok(1_000_000), |it| it.parse());
    let Ok(connections @ SHARE..) = connections else {
        eprintln!("usage: fleet [NUMBER], {SHARE} at the least");
        return ExitCode::FAILURE;
    };
    // A short run's pings come as often as those of a million would.
    let interval = Duration::from_secs(if connections > 100_000 { 30 } else { 1 });
    let config = Config::builder()
        .interval(interval)
        .timeout(interval)
        .build()
        .expect("longer than zero");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .expect("there are threads");
    if runtime.block_on(run(connections, config)) {
        ExitCode::SUCCESS
    } else {
        eprintln!("a dead peer was not found, or a live one was given up");
        ExitCode::FAILURE
    }
}
