//! Which runs there are, and the tables of their figures.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures_pinger::Config;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Memory,
    Cycle,
    Death,
    Join,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Floor,
    Select,
    Ktor,
    Registry,
    Pinger,
    /// The same without a grid.
    Exact,
    /// The same on a grid of 100 ms.
    Coarse,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Tokio,
    Smol,
    Plain,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Memory, Self::Cycle, Self::Death, Self::Join];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cycle => "cycle",
            Self::Death => "death",
            Self::Join => "join",
        }
    }
}

impl Contestant {
    const ALL: [Self; 8] = [
        Self::Floor,
        Self::Select,
        Self::Ktor,
        Self::Registry,
        Self::Pinger,
        Self::Exact,
        Self::Coarse,
        Self::Set,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Select => "select",
            Self::Ktor => "ktor",
            Self::Registry => "registry",
            Self::Pinger => "pinger",
            Self::Exact => "exact",
            Self::Coarse => "coarse",
            Self::Set => "set",
        }
    }
}

impl On {
    const ALL: [Self; 3] = [Self::Tokio, Self::Smol, Self::Plain];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::Plain => "futures-timer",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) mode: Mode,
    pub(crate) contestant: Contestant,
    pub(crate) on: On,
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) interval: Duration,
}

impl Run {
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let [mode, contestant, on, threads, connections, interval] = arguments else {
            return None;
        };
        Some(Self {
            mode: Mode::ALL.into_iter().find(|it| it.name() == mode)?,
            contestant: Contestant::ALL
                .into_iter()
                .find(|it| it.name() == contestant)?,
            on: On::ALL.into_iter().find(|it| it.name() == on)?,
            threads: threads.parse().ok()?,
            connections: connections.parse().ok()?,
            interval: Duration::from_millis(interval.parse().ok()?),
        })
    }

    /// In proportion to the interval as 20 s to 15 s, which is what the other benches take.
    pub(crate) fn timeout(self) -> Duration {
        self.interval * 4 / 3
    }

    pub(crate) fn interval_ms(self) -> u64 {
        u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn config(self) -> Config {
        let config = Config::builder()
            .interval(self.interval)
            .timeout(self.timeout());
        let config = match self.contestant {
            Contestant::Exact => config.granularity(Duration::ZERO),
            Contestant::Coarse => config.granularity(Duration::from_millis(100)),
            _ => config,
        };
        config.build().expect("an interval is longer than zero")
    }

    /// Zero for none.
    pub(crate) fn grid(self) -> Duration {
        self.config().granularity()
    }

    fn arguments(self) -> [String; 6] {
        [
            self.mode.name().into(),
            self.contestant.name().into(),
            self.on.name().into(),
            self.threads.to_string(),
            self.connections.to_string(),
            self.interval_ms().to_string(),
        ]
    }

    /// So many times, for the one in the middle. What memory it takes repeats.
    fn carry_out_often(self, rounds: usize) -> io::Result<Value> {
        let (rounds, figure) = match self.mode {
            Mode::Memory => (1, "bytes"),
            Mode::Cycle => (rounds, "cpu_ns_per_cycle"),
            Mode::Death => (rounds, "verdict_max_ms"),
            Mode::Join => (rounds, "join_ms"),
        };
        let all: io::Result<Vec<Value>> = (0..rounds).map(|_| self.carry_out()).collect();
        let mut all = all?;
        all.sort_by(|a, b| f64::total_cmp(&number(a, figure), &number(b, figure)));
        Ok(all.swap_remove(rounds / 2))
    }

    /// In a process of its own.
    fn carry_out(self) -> io::Result<Value> {
        let child = Command::new(env::current_exe()?)
            .args(self.arguments())
            .stderr(Stdio::inherit())
            .output()?;
        if !child.status.success() {
            return Err(io::Error::other(child.status.to_string()));
        }
        Ok(serde_json::from_slice(&child.stdout)?)
    }
}

struct Plan {
    sizes: &'static [usize],
    /// Of the comparison of runtimes and numbers of threads, and of the dead.
    large: &'static [usize],
    cycle: Duration,
    death: Duration,
    /// And what is asked of a million, at a gateway's interval.
    million: bool,
}

const QUICK: Plan = Plan {
    sizes: &[1_000, 10_000, 100_000],
    large: &[100_000],
    cycle: Duration::from_millis(1200),
    death: Duration::from_secs(1),
    million: false,
};

const MILLION: Plan = Plan {
    million: true,
    ..QUICK
};

const FULL: Plan = Plan {
    sizes: &[1_000, 10_000, 100_000, 1_000_000],
    large: &[100_000, 1_000_000],
    cycle: GATEWAY,
    death: MASS_DEATH,
    million: false,
};

const GATEWAY: Duration = Duration::from_secs(30);
/// Longer than a million takes to begin.
const MASS_DEATH: Duration = Duration::from_secs(10);

/// No ping falls into a count of memory.
const IDLE: Duration = Duration::from_secs(3600);

impl Plan {
    fn runs(&self) -> Vec<Run> {
        use Contestant::{Coarse, Exact, Floor, Ktor, Pinger, Registry, Select, Set};

        let all = [Select, Ktor, Registry, Pinger, Set];
        let with_floor = [Floor, Select, Ktor, Registry, Pinger, Set];
        let ours = [Floor, Pinger, Set];
        let mut runs = Vec::new();
        let mut push_at = |interval, mode, contestants: &[Contestant], on, threads, connections| {
            runs.extend(contestants.iter().map(|&contestant| Run {
                mode,
                contestant,
                on,
                threads,
                connections,
                interval,
            }));
        };
        let mut push = |mode, contestants: &[Contestant], on, threads, connections| {
            let interval = match mode {
                Mode::Memory | Mode::Join => IDLE,
                Mode::Cycle => self.cycle,
                Mode::Death => self.death,
            };
            push_at(interval, mode, contestants, on, threads, connections);
        };
        for &connections in self.sizes {
            push(Mode::Memory, &all, On::Tokio, 1, connections);
        }
        for &connections in self.sizes {
            push(Mode::Cycle, &with_floor, On::Tokio, 1, connections);
        }
        // What the grid is worth.
        push(Mode::Cycle, &[Coarse, Exact], On::Tokio, 1, 10_000);
        push(
            Mode::Cycle,
            &[Floor, Pinger, Coarse, Exact],
            On::Plain,
            1,
            10_000,
        );
        for &connections in self.large {
            push(Mode::Cycle, &with_floor, On::Tokio, 2, connections);
            for on in [On::Smol, On::Plain] {
                push(Mode::Cycle, &ours, on, 1, connections);
                push(Mode::Cycle, &ours, on, 2, connections);
            }
        }
        for &connections in self.large {
            push(Mode::Death, &all, On::Tokio, 1, connections);
            push(
                Mode::Death,
                &[Select, Pinger, Set],
                On::Tokio,
                2,
                connections,
            );
        }
        for &connections in self.large {
            push(
                Mode::Join,
                &[Select, Pinger, Set],
                On::Tokio,
                1,
                connections,
            );
        }
        if self.million {
            let million = 1_000_000;
            let some = [Select, Pinger, Set];
            push_at(IDLE, Mode::Memory, &some, On::Tokio, 1, million);
            for connections in [100_000, million] {
                let some = [Floor, Select, Set];
                push_at(GATEWAY, Mode::Cycle, &some, On::Tokio, 1, connections);
            }
            push_at(MASS_DEATH, Mode::Death, &[Set], On::Tokio, 1, million);
            push_at(IDLE, Mode::Join, &[Set], On::Tokio, 1, million);
        }
        runs
    }
}

/// All runs of the plan that the environment names.
pub(crate) fn carry_out() -> ExitCode {
    let plan = match env::var("SCALE").as_deref() {
        Ok("million") => MILLION,
        Ok("full") => FULL,
        Ok("quick") | Err(env::VarError::NotPresent) => QUICK,
        _ => {
            eprintln!("SCALE is quick, million or full");
            return ExitCode::FAILURE;
        }
    };
    let rounds = env::var("SCALE_ROUNDS").map_or(Ok(1), |rounds| rounds.parse());
    let Ok(rounds @ 1..) = rounds else {
        eprintln!("SCALE_ROUNDS is a number, and not 0");
        return ExitCode::FAILURE;
    };
    match run_all(&plan, rounds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(plan: &Plan, rounds: usize) -> io::Result<bool> {
    let started = Instant::now();
    let path = env::var_os("SCALE_OUT").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scale.jsonl"),
        PathBuf::from,
    );
    let mut out = File::create(&path)?;
    writeln!(out, "{}", machine(rounds))?;

    let mut table = Table::default();
    let mut done = true;
    for run in plan.runs() {
        match run.carry_out_often(rounds) {
            Ok(figures) => {
                writeln!(out, "{figures}")?;
                table.row(run, &figures);
            }
            Err(error) => {
                println!("{}: {error}", run.arguments().join(" "));
                done = false;
            }
        }
    }
    println!(
        "\n{:.0} s; figures in {}",
        started.elapsed().as_secs_f64(),
        path.display()
    );
    Ok(done)
}

/// What the figures were measured on, and of which commit.
fn machine(rounds: usize) -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .map(str::trim);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "mode": "machine",
        "cpu": cpu.map(|(_, name)| name),
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "memory": memory,
        "kernel": kernel.trim().split('-').next(),
        "load": load.split_whitespace().next(),
        "rustc": said("rustc", &["--version"]),
        "commit": said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        "plan": env::var("SCALE").unwrap_or_else(|_| "quick".into()),
        "rounds": rounds,
    })
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

/// Rows as they come, a head before each kind.
#[derive(Default)]
struct Table {
    kind: Option<Mode>,
    /// By runtime, threads and connections: CPU time of a cycle of nobody and of the `select!` loop.
    floors: BTreeMap<(&'static str, usize, usize), f64>,
    loops: BTreeMap<(&'static str, usize, usize), f64>,
}

impl Table {
    fn row(&mut self, run: Run, figures: &Value) {
        if self.kind.replace(run.mode) != Some(run.mode) {
            head(run.mode);
        }
        print!(
            "{:<9} {:<13} {} {:>9}",
            run.contestant.name(),
            run.on.name(),
            run.threads,
            run.connections
        );
        match run.mode {
            Mode::Memory => print(figures, &["bytes", "allocations", "rss_bytes"]),
            Mode::Cycle => {
                self.cpu(run, figures);
                let rest = [
                    "allocations_per_cycle",
                    "late_p50_ms",
                    "late_p99_ms",
                    "late_max_ms",
                    "cycles",
                ];
                print(figures, &rest);
            }
            Mode::Death => {
                let all = [
                    "verdict_p50_ms",
                    "verdict_p99_ms",
                    "verdict_max_ms",
                    "overdue_max_ms",
                    "verdicts",
                    "early",
                ];
                print(figures, &all);
            }
            Mode::Join => print(figures, &["join_ms", "cpu_ms", "totals_us", "suspects_us"]),
        }
        println!();
    }

    /// Of all, of the heartbeat alone, and that beside the loop's.
    fn cpu(&mut self, run: Run, figures: &Value) {
        let of = (run.on.name(), run.threads, run.connections);
        let all = number(figures, "cpu_ns_per_cycle");
        if run.contestant == Contestant::Floor {
            self.floors.insert(of, all);
        }
        let own = all - self.floors.get(&of).unwrap_or(&f64::NAN);
        if run.contestant == Contestant::Select {
            self.loops.insert(of, own);
        }
        let beside = own / self.loops.get(&of).unwrap_or(&f64::NAN);
        print!(" {all:>9.0} {own:>9.0} {beside:>8.2}");
    }
}

fn head(mode: Mode) {
    let fleet = format!("{:<9} {:<13} {} {:>9}", "", "on", "T", "conns");
    match mode {
        Mode::Memory => {
            println!("\nidle, each: bytes allocated with task and handle, without its sink");
            println!("{fleet} {:>9} {:>9} {:>9}", "bytes", "allocs", "RSS");
        }
        Mode::Cycle => {
            println!("\na cycle: CPU ns of the process, less those of the floor (peers and");
            println!("channels without heartbeats), that beside select!; a ping's lateness in ms");
            println!(
                "{fleet} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "CPU", "own", "/select", "allocs", "p50", "p99", "max", "cycles"
            );
        }
        Mode::Join => {
            println!(
                "\nall come while the runtime runs: ms until the last is let in, CPU ms until all"
            );
            println!("have begun; us for the totals of a set, and for a look at each member");
            println!(
                "{fleet} {:>9} {:>9} {:>9} {:>9}",
                "joined", "CPU", "totals", "suspects"
            );
        }
        Mode::Death => {
            println!("\nall peers silent, the verdicts: ms after interval and timeout;");
            println!("the last one after its own ping's deadline");
            println!(
                "{fleet} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "p50", "p99", "max", "overdue", "verdicts", "early"
            );
        }
    }
}

fn number(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or(f64::NAN)
}

fn print(figures: &Value, names: &[&str]) {
    for name in names {
        match &figures[name] {
            Value::Number(number) if number.is_f64() => {
                print!(" {:>9.2}", number.as_f64().unwrap_or(f64::NAN));
            }
            Value::Null => print!(" {:>9}", "-"),
            other => print!(" {other:>9}"),
        }
    }
}
