//! The two processes of a scenario, and what comes of them.

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_pinger::{Clock, Config, Instant};
use serde_json::Value;

use super::network::{Network, Side};
use super::{GUARD, bound, config};
use super::{app, peers};

/// Why an attempt does not count.
pub(crate) struct Excuse(pub(crate) String);

pub(crate) struct Setup<'a> {
    pub(crate) connections: usize,
    pub(crate) config: Config,
    /// How late the peers answer.
    pub(crate) rtt: Duration,
    /// Whether the heartbeats start one after the other, so that a fault finds each elsewhere in
    /// its cycle.
    pub(crate) spread: bool,
    /// Whether a connection without a heartbeat is to notice nothing.
    pub(crate) silent: bool,
    pub(crate) network: Option<&'a Network>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            connections: 40,
            config: config().build().expect("valid"),
            rtt: Duration::ZERO,
            spread: true,
            silent: true,
            network: None,
        }
    }
}

/// A line of the table.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) connections: usize,
    /// Connections without a heartbeat that noticed the fault.
    pub(crate) controls: usize,
    /// Verdicts, or ends.
    pub(crate) expected: u64,
    pub(crate) found: u64,
    pub(crate) wrong: u64,
    pub(crate) close_sent: u64,
    /// How long each took to be found, in order.
    pub(crate) times: Vec<Duration>,
    pub(crate) bound: Option<Duration>,
    /// The most that a bound was extended by because the app did not run.
    pub(crate) stalled: Duration,
    pub(crate) note: String,
    pub(crate) ends: Vec<String>,
}

impl Figures {
    /// Whether all of them, if there are any, ended like that.
    pub(crate) fn ended_as(&self, ends: &[&str]) -> bool {
        self.ends.iter().all(|end| ends.contains(&end.as_str()))
    }
}

pub(crate) struct Lab {
    pub(crate) app: Process,
    pub(crate) peers: Process,
    // Last: it goes after its processes.
    pub(crate) network: Option<Network>,
    connections: usize,
    controls: usize,
    silent: bool,
    bound: Duration,
    /// What the rounding of timers may add to a deadline.
    steps: Duration,
    /// How late the peers may be.
    margin: Duration,
}

impl Lab {
    /// Once this returns, each heartbeat has been answered.
    pub(crate) fn start(setup: &Setup<'_>) -> Self {
        let controls = (setup.connections / 10).max(2);
        let config = &setup.config;
        let address = setup.network.map_or("127.0.0.1", |_| Side::Peers.address());
        let place = |side| setup.network.map(|network| network.inside(side));
        let micros = |time: Duration| time.as_micros().to_string();

        let role = [peers::ROLE, address, &micros(setup.rtt)].map(String::from);
        let mut peers = Process::start(place(Side::Peers).as_ref(), &role);
        let port = peers.wait("port").to_string();
        let timeout = config.timeout().expect("a fixed one");
        let mut role = [app::ROLE, address].map(String::from).to_vec();
        role.extend([port, setup.connections.to_string(), controls.to_string()]);
        role.push(setup.spread.to_string());
        let initial_delay = config.initial_delay();
        let write_timeout = config.write_timeout();
        let times = [config.interval(), initial_delay, timeout, write_timeout];
        role.extend(times.map(micros));
        let mut app = Process::start(place(Side::App).as_ref(), &role);
        app.wait("ready");
        // How late they were before does not matter.
        peers.ask("lateness");
        Self {
            app,
            peers,
            network: None,
            connections: setup.connections,
            controls,
            silent: setup.silent,
            bound: bound(config),
            steps: 2 * config.granularity(),
            margin: timeout.saturating_sub(setup.rtt) / 2,
        }
    }

    /// No connection has ended, with or without a heartbeat; unless the machine is to blame.
    pub(crate) fn none_found(&mut self) -> Result<Figures, Excuse> {
        // Whatever has ended has said so before it answers.
        self.app.ask("gap");
        let Some(report) = self.app.reports.pop_front() else {
            return Ok(Figures {
                connections: self.connections,
                bound: Some(self.bound),
                ..Figures::default()
            });
        };
        let lateness = self.peers.ask_time("lateness");
        let stopped = std::mem::take(&mut self.peers.stopped);
        let late = lateness.saturating_sub(stopped);
        let more = self.app.reports.len();
        assert!(
            late > self.margin,
            "found and alive, with {more} others: {report}; the peers were late by {late:?}"
        );
        Err(Excuse(format!("the peers were late by {late:?}: {report}")))
    }

    /// Each heartbeat ends, in its bound; no control does where the fault is silent.
    pub(crate) fn all_found(&mut self) -> Figures {
        let since = now();
        let mut seen = vec![false; self.connections];
        let mut figures = Figures {
            connections: self.connections,
            expected: self.connections as u64,
            bound: Some(self.bound),
            ..Figures::default()
        };
        while seen.contains(&false) || (!self.silent && figures.controls < self.controls) {
            let report = self.app.next_report();
            if report["control"] == true {
                figures.controls += 1;
                assert!(!self.silent, "the fault is not silent: {report}");
                continue;
            }
            let index = report["index"].as_u64().expect("a number");
            let seen = &mut seen[usize::try_from(index).expect("a few")];
            assert!(!*seen, "ended twice: {report}");
            *seen = true;
            figures.found += 1;
            figures.close_sent += u64::from(report["close_sent"] == true);
            let ended = report["ended"].as_str().expect("a word");
            figures.ends.push(ended.into());
            if report["verdict"] == true {
                let [waited, least] = ["waited", "least"].map(|name| time(&report[name]));
                let early = waited < least;
                assert!(!early, "early: {report}");
                let [found, stalled] = ["found", "stalled"].map(|name| time(&report[name]));
                assert!(found <= self.bound + stalled, "late: {report}");
                let late = waited > least + self.steps + stalled;
                assert!(!late, "late after its ping: {report}");
                figures.times.push(found);
                figures.stalled = figures.stalled.max(stalled);
            } else {
                figures.times.push(now() - since);
                figures.bound = None;
            }
        }
        figures.times.sort();
        figures
    }
}

fn now() -> Instant {
    Clock::system().now()
}

fn time(micros: &Value) -> Duration {
    Duration::from_micros(micros.as_u64().expect("a number"))
}

/// This program in another role. It ends with this.
pub(crate) struct Process {
    child: Child,
    // It ends when this pipe does, so with this process at the latest.
    stdin: ChildStdin,
    lines: mpsc::Receiver<Value>,
    reports: VecDeque<Value>,
    /// For how long, of late.
    stopped: Duration,
}

impl Process {
    fn start(place: Option<&[String; 4]>, role: &[String]) -> Self {
        let this = env::current_exe().expect("a path");
        let mut command = match place {
            // It becomes the command that it runs, so their process is the same.
            Some([ip, netns, exec, name]) => {
                let mut command = Command::new(ip);
                command.args([netns, exec, name]).arg(this);
                command
            }
            None => Command::new(this),
        };
        let command = command.args(role).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a child");
        let stdout = child.stdout.take().expect("piped");
        let stdin = child.stdin.take().expect("piped");
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for read in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&read).expect("JSON");
                if line.send(value).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
            reports: VecDeque::new(),
            stopped: Duration::ZERO,
        }
    }

    fn next_line(&self) -> Value {
        let line = self.lines.recv_timeout(GUARD);
        line.expect("the process says something in time")
    }

    fn next_report(&mut self) -> Value {
        let stored = self.reports.pop_front();
        stored.unwrap_or_else(|| self.next_line())
    }

    /// What it says of that; reports are kept.
    fn wait(&mut self, word: &str) -> u64 {
        loop {
            let line = self.next_line();
            match line.get(word) {
                Some(value) if line.get("ended").is_none() => {
                    return value.as_u64().expect("a number");
                }
                _ => self.reports.push_back(line),
            }
        }
    }

    pub(crate) fn ask(&mut self, question: &str) -> u64 {
        writeln!(self.stdin, "{question}").expect("it reads");
        self.wait(question)
    }

    pub(crate) fn ask_time(&mut self, question: &str) -> Duration {
        Duration::from_micros(self.ask(question))
    }

    pub(crate) fn stop_for(&mut self, stop: Duration) {
        self.signal("STOP");
        let start = now();
        thread::sleep(stop);
        self.signal("CONT");
        self.stopped = self.stopped.max(now() - start);
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        let status = status.expect("a shell");
        assert!(status.success(), "{kill}: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; and while panicking there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands each line of the other process's commands to `obey`, which says what the answer is; ends
/// with that process.
pub(crate) fn obey(mut obey: impl FnMut(&str) -> u64 + Send + 'static) {
    thread::spawn(move || {
        for command in std::io::stdin().lines().map_while(Result::ok) {
            let answer = obey(&command);
            println!("{}", serde_json::json!({ command: answer }));
        }
        std::process::exit(2);
    });
}
