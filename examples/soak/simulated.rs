//! Random hours of one connection in virtual time.
//!
//! What a peer does to each ping is drawn, and so is what happens to the sink and to the process. It
//! all stays within what a heartbeat must survive: answers in time but for fewer in a row than make a
//! verdict, a sink that blocks for less than the write timeout, stalls of any length. At last the
//! peer dies, and must be found in its bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use futures_pinger::testing::{Answer, Broken, Peer, SinkScript, SocketScript, World};
use futures_pinger::{
    Clock, Config, Error, KeepAlive, Rfc6455, Stopped, TimedOut, TimeoutPhase, pinger,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tungstenite_0_30::Message;

use super::Options;

const MILLI: Duration = Duration::from_millis(1);
const DAY: f64 = 86_400.0;

/// What a heartbeat went through.
#[derive(Debug, Default)]
struct Figures {
    heartbeats: u64,
    time: Duration,
    pings: u64,
    stalls: u64,
    blocks: u64,
    strays: u64,
    lost: u64,
    found: u64,
    ended: u64,
    /// The share of its bound that a verdict took, at most.
    nearest: f64,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.heartbeats += other.heartbeats;
        self.time += other.time;
        self.pings += other.pings;
        self.stalls += other.stalls;
        self.blocks += other.blocks;
        self.strays += other.strays;
        self.lost += other.lost;
        self.found += other.found;
        self.ended += other.ended;
        self.nearest = self.nearest.max(other.nearest);
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let clock = Clock::system();
    let end = clock.now() + options.time;
    let threads = thread::available_parallelism().map_or(1, Into::into) as u64;
    let total = Mutex::new(Figures::default());
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (total, clock) = (&total, clock.clone());
                scope.spawn(move || {
                    let mut seed = options.seed + thread;
                    while clock.now() < end {
                        let figures = life(seed).map_err(|why| format!("seed {seed}: {why}"))?;
                        lock(total).add(&figures);
                        seed += threads;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.collect::<Vec<_>>()
    });
    let figures = lock(&total);
    println!("heartbeats: {}", figures.heartbeats);
    println!("virtual days: {:.1}", figures.time.as_secs_f64() / DAY);
    println!("pings: {}, of which lost: {}", figures.pings, figures.lost);
    println!("stalls of the process: {}", figures.stalls);
    println!("times that the sink was blocked: {}", figures.blocks);
    println!("stray pongs: {}", figures.strays);
    println!("dead peers: {0}, found in their bound: {0}", figures.found);
    println!("connections that ended, seen at once: {}", figures.ended);
    println!(
        "longest share of its bound that a verdict took: {:.3}",
        figures.nearest
    );
    for outcome in outcomes {
        outcome.map_err(|_| "a thread has panicked")??;
    }
    println!("false verdicts: 0, missed: 0");
    Ok(())
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How it all ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Silent,
    /// And it reads nothing any more.
    Blocked,
    /// The connection ends in order.
    Ended,
}

struct Script {
    config: Config,
    death: Death,
    at: Duration,
    stalls: Vec<(Duration, Duration)>,
    blocks: Vec<(Duration, Duration)>,
    floods: Vec<(Duration, usize)>,
}

fn between(random: &mut StdRng, low: Duration, high: Duration) -> Duration {
    // As many short ones as long ones.
    let (low, high) = (low.as_secs_f64().ln(), high.as_secs_f64().ln());
    Duration::from_secs_f64(random.random_range(low..high).exp())
}

impl Script {
    fn draw(random: &mut StdRng) -> Result<Self, String> {
        let mut draw = |low: u32, high: u32| between(random, low * MILLI, high * MILLI);
        let (interval, timeout) = (draw(200, 60_000), draw(200, 60_000));
        let (write_timeout, close_timeout) = (draw(200, 60_000), draw(50, 5_000));
        let initial_delay = draw(1, 60_000);
        let builder = Config::builder().interval(interval).timeout(timeout);
        let builder = builder
            .write_timeout(write_timeout)
            .close_timeout(close_timeout);
        let builder = builder.initial_delay(initial_delay.min(interval));
        let builder = builder.max_missed(random.random_range(1..=3));
        let builder = builder.jitter(if random.random() { 0.0 } else { 0.3 });
        let builder = match random.random() {
            true => builder.granularity(Duration::ZERO),
            false => builder,
        };
        let config = builder.build().map_err(|error| error.to_string())?;

        let cycle = interval.max(timeout);
        let at = between(random, cycle, 300 * cycle);
        let faults = |random: &mut StdRng, most: u32| random.random_range(0..=most);
        let when = |random: &mut StdRng| at.mul_f64(random.random_range(0.0..1.1));
        let stalls =
            (0..faults(random, 20)).map(|_| (when(random), between(random, MILLI, 3 * cycle)));
        let stalls: Vec<_> = stalls.collect();
        let floods = (0..faults(random, 4)).map(|_| (when(random), random.random_range(1..200)));
        let floods = floods.collect();
        // One after the other, each shorter than the write timeout.
        let mut blocks: Vec<(Duration, Duration)> = Vec::new();
        let mut from = Duration::ZERO;
        for _ in 0..faults(random, 20) {
            from += at.mul_f64(random.random_range(0.001..0.2));
            let block = write_timeout.mul_f64(random.random_range(0.01..0.95));
            if from + block >= at {
                break;
            }
            // Whoever does not run while the sink has room sees one block and not two.
            let runs = |(at, stall): &(Duration, Duration)| from < *at || from > *at + *stall;
            if stalls.iter().all(runs) {
                blocks.push((from, from + block));
            }
            from += block + MILLI;
        }
        let death = match random.random_range(0..10) {
            0..5 => Death::Silent,
            5..9 => Death::Blocked,
            _ => Death::Ended,
        };
        Ok(Self {
            config,
            death,
            at,
            stalls,
            blocks,
            floods,
        })
    }

    /// From the last proof of life to the end, at the latest.
    fn bound(&self, from: Duration, to: Duration) -> Option<Duration> {
        let config = &self.config;
        let (timeout, write_timeout) = (config.timeout()?, config.write_timeout());
        let within = self
            .stalls
            .iter()
            .filter(|(at, stall)| *at <= to && *at + *stall >= from);
        let stalls = within.map(|(_, stall)| *stall);
        let longest = stalls.clone().max().unwrap_or_default();
        let grace = 2 * config.max_missed() * timeout.max(write_timeout).min(longest);
        let stalled: Duration = stalls.sum();
        let verdict = config.detection_bound()? + grace + stalled;
        Some(verdict + config.close_timeout() + config.granularity())
    }
}

/// Draws what the peer does to each ping, and knows its last proof of life.
struct Fate {
    random: StdRng,
    timeout: Duration,
    max_missed: u32,
    stalls: Vec<(Duration, Duration)>,
    lost_in_a_row: u32,
    lost: u64,
    pings: u64,
    proof: Duration,
}

impl Fate {
    /// What arrives while the process does not run is read a moment after it goes on: a runtime may
    /// look at its timers first.
    fn delivered(&self, arrival: Duration) -> Duration {
        let moment = (self.timeout / 8).min(Duration::from_secs(1)) / 2;
        let hides = |(at, stall): &&(Duration, Duration)| *at <= arrival && arrival < *at + *stall;
        match self.stalls.iter().find(hides) {
            Some((at, stall)) => *at + *stall + moment,
            None => arrival,
        }
    }

    fn answer(&mut self, now: Duration) -> Answer {
        self.pings += 1;
        let may_lose = self.lost_in_a_row + 1 < self.max_missed;
        if may_lose && self.random.random_bool(0.3) {
            self.lost_in_a_row += 1;
            self.lost += 1;
            return match self.random.random_range(0..3) {
                0 => Answer::Lost,
                1 => Answer::Corrupted(self.timeout / 2),
                _ => {
                    let late = self.timeout.mul_f64(self.random.random_range(1.01..2.0));
                    // It may prove life yet.
                    self.proof = self.proof.max(now + late);
                    Answer::After(late)
                }
            };
        }
        self.lost_in_a_row = 0;
        let longest = self.timeout.mul_f64(0.85);
        let rtt = between(&mut self.random, self.timeout / 1000, longest);
        let arrival = self.delivered(now + rtt);
        let rtt = arrival.saturating_sub(now);
        self.proof = self.proof.max(arrival);
        match self.random.random_bool(0.1) {
            true => Answer::Twice(rtt),
            false => Answer::After(rtt),
        }
    }
}

/// The two ends that a script moves.
#[derive(Clone)]
enum Wire {
    Sink(SinkScript),
    Socket(SocketScript<Message>),
}

impl Wire {
    fn block(&self) {
        match self {
            Self::Sink(sink) => sink.block(),
            Self::Socket(socket) => socket.block(),
        }
    }

    fn unblock(&self) {
        match self {
            Self::Sink(sink) => sink.unblock(),
            Self::Socket(socket) => socket.unblock(),
        }
    }

    fn end(&self, peer: &Peer) {
        match self {
            Self::Sink(_) => peer.disconnect(),
            Self::Socket(socket) => socket.end(),
        }
    }
}

type Ended = Result<Stopped, Error<Broken>>;

/// One heartbeat from its beginning to its end.
fn life(seed: u64) -> Result<Figures, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let script = Script::draw(&mut random)?;
    let world = World::new();
    let config = script.config.clone();
    let start = config.initial_delay();
    let fate = Arc::new(Mutex::new(Fate {
        timeout: config.timeout().ok_or("a fixed timeout")?,
        max_missed: config.max_missed(),
        stalls: script.stalls.clone(),
        lost_in_a_row: 0,
        lost: 0,
        pings: 0,
        // Before the first: the first poll + initial delay − interval; later it is as good.
        proof: start,
        random: StdRng::seed_from_u64(!seed),
    }));
    if random.random() {
        let (outgoing, sink) = world.sink();
        let (pongs, pinger) = pinger(outgoing, config);
        let peer = sink.peer(move |payload| {
            // Its end is looked at elsewhere.
            let _ = pongs.handle_pong(&payload);
        });
        let wire = Wire::Sink(sink);
        live(
            &world,
            &script,
            &fate,
            &peer,
            &wire,
            pinger.with_timer(world.timer()),
        )
    } else {
        let (socket, ends) = world.socket::<Message, _>(Rfc6455);
        let mut socket = KeepAlive::new(socket, config).with_timer(world.timer());
        let read = async move {
            loop {
                match socket.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(Stopped::PongsEnded),
                }
            }
        };
        let peer = ends.peer().clone();
        live(&world, &script, &fate, &peer, &Wire::Socket(ends), read)
    }
}

fn live(
    world: &World,
    script: &Script,
    fate: &Arc<Mutex<Fate>>,
    peer: &Peer,
    wire: &Wire,
    heartbeat: impl Future<Output = Ended>,
) -> Result<Figures, String> {
    let (clock, start) = (world.clock(), world.instant(Duration::ZERO));
    let decides = Arc::clone(fate);
    peer.answer(move |_| lock(&decides).answer(clock.now() - start));
    for &(at, stall) in &script.stalls {
        world.stall(at..at + stall);
    }
    for &(from, to) in &script.blocks {
        let [blocks, unblocks] = [wire.clone(), wire.clone()];
        world.at(from, move || blocks.block());
        world.at(to, move || unblocks.unblock());
    }
    for &(at, strays) in &script.floods {
        let peer = peer.clone();
        world.at(at, move || peer.flood(strays));
    }
    let mut task = world.task(heartbeat);
    task.run_until(script.at);
    if let Some(ended) = task.output() {
        let at = task.ended_at();
        return Err(format!("false at {at:?}: {ended:?}; {:?}", script.config));
    }

    let fall_silent = || peer.fall_silent();
    match script.death {
        Death::Silent => fall_silent(),
        Death::Blocked => {
            fall_silent();
            wire.block();
        }
        Death::Ended => wire.end(peer),
    }
    let stalled = script.stalls.iter().map(|(at, stall)| *at + *stall).max();
    let limit = script
        .bound(Duration::ZERO, Duration::MAX)
        .ok_or("finite")?;
    task.run_until(script.at.max(stalled.unwrap_or_default()) + 3 * limit);
    let Some(ended) = task.output() else {
        return Err(format!("missed; {:?} at {:?}", script.config, script.at));
    };
    let at = task.ended_at().unwrap_or_default();
    let fate = lock(fate);
    let mut figures = Figures {
        heartbeats: 1,
        time: at,
        pings: fate.pings,
        lost: fate.lost,
        stalls: script.stalls.len() as u64,
        blocks: script.blocks.len() as u64,
        strays: script.floods.iter().map(|(_, strays)| *strays as u64).sum(),
        ..Figures::default()
    };
    match (script.death, ended) {
        (Death::Ended, Ok(Stopped::PongsEnded)) => {
            // At once, or when it ran again.
            let awake = script.stalls.iter().map(|(at, stall)| *at + *stall);
            if at != script.at && !awake.into_iter().any(|end| end == at) {
                return Err(format!("ended at {:?}, seen at {at:?}", script.at));
            }
            figures.ended = 1;
        }
        (Death::Silent | Death::Blocked, Err(Error::Timeout(verdict))) => {
            let bound = script.bound(fate.proof, at).ok_or("finite")?;
            let found = at.saturating_sub(fate.proof);
            if found > bound {
                let config = &script.config;
                return Err(format!(
                    "{found:?} instead of {bound:?}: {verdict}; {config:?}"
                ));
            }
            early(script, verdict)?;
            figures.found = 1;
            figures.nearest = found.as_secs_f64() / bound.as_secs_f64();
        }
        (death, ended) => return Err(format!("{death:?} led to {ended:?}")),
    }
    Ok(figures)
}

/// No verdict falls before its deadline.
fn early(script: &Script, verdict: &TimedOut) -> Result<(), String> {
    let least = match verdict.phase() {
        TimeoutPhase::Write => script.config.write_timeout(),
        _ => script.config.timeout().ok_or("a fixed timeout")?,
    };
    if verdict.elapsed() < least {
        return Err(format!("early: {verdict}; {:?}", script.config));
    }
    Ok(())
}
