//! What is known of each connection, what each verdict may take, and the figures of each surface.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_pinger::{Clock, Config, Controller, Instant, InvalidConfig, TimedOut, TimeoutPhase};

use rand::Rng;

use super::surfaces::Surface;

pub(crate) fn now() -> Instant {
    Clock::system().now()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a peer has said of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The peer reads on.
    Silent,
    /// The peer reads nothing.
    Frozen,
    /// The connection ends, with a close frame or without, so that no verdict is needed.
    Gone,
}

/// The configurations that a connection may have at one time or another.
pub(crate) struct Configs {
    pub(crate) all: [Config; 3],
    /// From the last proof of life to the end, where one follows another since: the longest interval and the
    /// longest timeouts.
    mixed: Duration,
    interval: Duration,
    timeout: Duration,
}

impl Configs {
    pub(crate) fn new(interval: Duration) -> Result<Self, InvalidConfig> {
        let config = |wait: f64, timeout: f64| {
            let builder = Config::builder().interval(interval.mul_f64(wait));
            // With jitter those that come together do not stay together.
            builder
                .timeout(interval.mul_f64(timeout))
                .jitter(0.2)
                .build()
        };
        let (longest, timeout) = (config(1.3, 1.1)?, interval.mul_f64(1.1));
        // A deadline that another configuration puts into the past is judged one slack later.
        let slack = (timeout / 8).min(Duration::from_secs(1));
        Ok(Self {
            all: [config(1.0, 1.0)?, config(0.7, 1.1)?, config(1.3, 0.9)?],
            mixed: to_the_end(&longest) + slack,
            interval: interval.mul_f64(1.3),
            timeout,
        })
    }

    /// From the last proof of life to the end, under the first of the configurations.
    fn first(&self) -> Duration {
        to_the_end(&self.all[0])
    }
}

/// What the docs promise: the verdict, and the time of the close frame after it.
fn to_the_end(config: &Config) -> Duration {
    let verdict = config.detection_bound().unwrap_or(Duration::MAX);
    verdict + config.close_timeout() + config.granularity()
}

/// Which of the configurations is in force, and since when if it is not the first.
#[derive(Default)]
pub(crate) struct InForce(Option<(Instant, usize)>);

impl InForce {
    /// Draws another.
    pub(crate) fn draw<'a>(&mut self, configs: &'a Configs) -> &'a Config {
        let drawn = rand::rng().random_range(0..configs.all.len());
        self.0 = Some((now(), drawn));
        &configs.all[drawn]
    }

    fn bound(&self, configs: &Configs, since: Instant) -> Duration {
        match self.0 {
            None => configs.first(),
            Some((at, _)) if at >= since => configs.mixed,
            Some((_, drawn)) => to_the_end(&configs.all[drawn]),
        }
    }

    fn has_changed(&self, since: Instant) -> bool {
        self.0.is_some_and(|(at, _)| at >= since)
    }
}

/// What is known of one connection.
pub(crate) struct Life {
    pub(crate) surface: Surface,
    /// Where the heartbeat has one of its own.
    pub(crate) controller: OnceLock<Controller>,
    proof: Mutex<Instant>,
    /// When a handler kept the reader from reading, and for how long.
    away: Mutex<Vec<(Instant, Duration)>>,
    in_force: Mutex<InForce>,
}

impl Life {
    pub(crate) fn new(surface: Surface) -> Self {
        Self {
            surface,
            controller: OnceLock::new(),
            proof: Mutex::new(now()),
            away: Mutex::default(),
            in_force: Mutex::default(),
        }
    }

    /// Counts the bound from now on.
    pub(crate) fn prove(&self) {
        *lock(&self.proof) = now();
    }

    pub(crate) fn proof(&self) -> Instant {
        *lock(&self.proof)
    }

    /// The reader is away from now on.
    pub(crate) fn leave(&self, time: Duration) {
        let proof = self.proof();
        let mut away = lock(&self.away);
        away.retain(|(since, time)| *since + *time >= proof);
        away.push((now(), time));
    }

    /// Sets another configuration, if the heartbeat has a controller of its own.
    pub(crate) fn configure(&self, ledger: &Ledger) {
        if let Some(controller) = self.controller.get() {
            let config = lock(&self.in_force).draw(&ledger.configs).clone();
            // The heartbeat may have ended.
            let _ = controller.set_config(config);
            add(&ledger.of(self.surface).configured);
        }
    }

    /// The time that the heartbeat may take from the last proof of life to the end, as the docs promise it.
    /// While a handler keeps a whole `KeepAlive` from being polled, its heartbeat stalls as it does with the
    /// process. A reader that was away must have waited for half a timeout before a missing pong is judged.
    pub(crate) fn bound(&self, ledger: &Ledger, since: Instant) -> Duration {
        let configs = &ledger.configs;
        let mut bound = lock(&self.in_force).bound(configs, since);
        if self.surface == Surface::Member {
            let in_force = lock(&ledger.set_in_force);
            bound = in_force.bound(configs, since);
            // The pings of a set that a shorter interval makes overdue are spread over that interval.
            if in_force.has_changed(since) {
                bound += configs.interval;
            }
        }
        let away = lock(&self.away);
        let away = away.iter().filter(|(at, time)| *at + *time >= since);
        let away = Sum::of(away.map(|(_, time)| *time));
        let stalls = lock(&ledger.stalls);
        let stalls = stalls.iter().filter(|(at, _)| *at >= since);
        let stalls = Sum::of(stalls.map(|(_, stall)| *stall));
        let patience = match away.total {
            Duration::ZERO => Duration::ZERO,
            _ => configs.timeout / 2,
        };
        let longest = stalls.longest.max(away.longest);
        bound + 2 * longest.min(configs.timeout) + stalls.total + away.total + patience
    }
}

struct Sum {
    total: Duration,
    longest: Duration,
}

impl Sum {
    fn of(durations: impl Iterator<Item = Duration> + Clone) -> Self {
        Self {
            total: durations.clone().sum(),
            longest: durations.max().unwrap_or_default(),
        }
    }
}

/// The figures of one surface.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) pongs: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) configured: AtomicU64,
    pub(crate) silent: AtomicU64,
    pub(crate) frozen: AtomicU64,
    pub(crate) found: AtomicU64,
    /// Those that were found by a write that was blocked.
    pub(crate) blocked: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) wrong: AtomicU64,
    /// Verdicts on live peers whose process was kept from running.
    pub(crate) excused: AtomicU64,
    /// Connections that the peer has ended.
    pub(crate) ended: AtomicU64,
    /// Connections that ended although the peer has not said so.
    pub(crate) broken: AtomicU64,
    /// The longest time from the last proof to the end, in microseconds, and the longest share of its bound
    /// that a verdict took, in thousandths.
    longest: AtomicU64,
    nearest: AtomicU64,
}

pub(crate) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Counts {
    /// A silent peer was found.
    pub(crate) fn find(&self, verdict: &TimedOut, found: Duration, bound: Duration) {
        add(&self.found);
        if verdict.phase() == TimeoutPhase::Write {
            add(&self.blocked);
        }
        let micros = u64::try_from(found.as_micros()).unwrap_or(u64::MAX);
        self.longest.fetch_max(micros, Ordering::Relaxed);
        let share = found.as_micros() * 1000 / bound.as_micros().max(1);
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        self.nearest.fetch_max(share, Ordering::Relaxed);
    }
}

/// All that is counted.
pub(crate) struct Ledger {
    pub(crate) configs: Configs,
    counts: [Counts; Surface::ALL.len()],
    /// How late the peers have run, and since when that is known.
    lateness: Mutex<VecDeque<(Instant, Duration)>>,
    /// How late this process has run.
    stalls: Mutex<VecDeque<(Instant, Duration)>>,
    pub(crate) set_in_force: Mutex<InForce>,
    pub(crate) stops: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(configs: Configs) -> Self {
        Self {
            configs,
            counts: Default::default(),
            lateness: Mutex::default(),
            stalls: Mutex::default(),
            set_in_force: Mutex::default(),
            stops: AtomicU64::default(),
        }
    }

    pub(crate) fn of(&self, surface: Surface) -> &Counts {
        &self.counts[surface as usize]
    }

    pub(crate) fn sum(&self, count: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.counts.iter().map(|counts| read(count(counts))).sum()
    }

    pub(crate) fn stalled(&self, stall: Duration) {
        remember(&self.stalls, stall, 4096);
    }

    pub(crate) fn peers_ran_late(&self, late: Duration) {
        remember(&self.lateness, late, 120);
    }

    /// The most by which the peers have run late.
    pub(crate) fn lateness(&self, since: Instant) -> Duration {
        let lateness = lock(&self.lateness);
        let late = lateness.iter().filter(|(at, _)| *at >= since);
        late.map(|(_, late)| *late).max().unwrap_or_default()
    }

    pub(crate) fn longest_bound(&self) -> Duration {
        self.configs.mixed + self.configs.interval
    }

    pub(crate) fn is_right(&self) -> bool {
        let wrong = [
            self.sum(|counts| &counts.missed),
            self.sum(|counts| &counts.late),
            self.sum(|counts| &counts.wrong),
            self.sum(|counts| &counts.broken),
        ];
        wrong == [0; 4]
    }
}

fn remember(times: &Mutex<VecDeque<(Instant, Duration)>>, time: Duration, most: usize) {
    let mut times = lock(times);
    times.push_back((now(), time));
    if times.len() > most {
        times.pop_front();
    }
}

/// The figures as a table, with a column for each surface.
impl Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        type Column = fn(&Counts) -> &AtomicU64;
        const ROWS: [(&str, Column); 14] = [
            ("pongs", |counts| &counts.pongs),
            ("messages handled", |counts| &counts.handled),
            ("of these slowly", |counts| &counts.slow),
            ("configurations changed", |counts| &counts.configured),
            ("peers that fell silent", |counts| &counts.silent),
            ("peers that froze", |counts| &counts.frozen),
            ("of both found", |counts| &counts.found),
            ("by a blocked write", |counts| &counts.blocked),
            ("missed", |counts| &counts.missed),
            ("found after the bound", |counts| &counts.late),
            ("false verdicts", |counts| &counts.wrong),
            ("on peers kept from running", |counts| &counts.excused),
            ("peers that ended the connection", |counts| &counts.ended),
            ("ended for no known reason", |counts| &counts.broken),
        ];
        write!(f, "{:32}", "")?;
        for surface in Surface::ALL {
            write!(f, "{:>12}", surface.name())?;
        }
        writeln!(f, "{:>12}", "all")?;
        for (name, count) in ROWS {
            write!(f, "{name:32}")?;
            for counts in &self.counts {
                write!(f, "{:12}", read(count(counts)))?;
            }
            writeln!(f, "{:12}", self.sum(count))?;
        }
        let line = |f: &mut fmt::Formatter<'_>, name: &str, cell: &dyn Fn(&Counts) -> f64| {
            write!(f, "{name:32}")?;
            let all = self.counts.iter().map(cell).fold(0.0, f64::max);
            let cells = self.counts.iter().map(cell).chain([all]);
            for cell in cells {
                write!(f, "{cell:12.3}")?;
            }
            writeln!(f)
        };
        let longest = |counts: &Counts| read(&counts.longest) as f64 / 1e6;
        line(f, "longest from proof to end, in s", &longest)?;
        let nearest = |counts: &Counts| read(&counts.nearest) as f64 / 1e3;
        line(f, "longest share of its bound", &nearest)?;
        let bound = self.configs.first();
        writeln!(f, "bound where nothing stalls or changes: {bound:?}")
    }
}
