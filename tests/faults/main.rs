//! Faults of real connections: processes that stop, links that go down, packets that get lost,
//! windows that close, connections that end. Real processes, real sockets, real time.
//!
//! This program has a `main` of its own. For each scenario it starts itself again as two processes:
//! the app, with the heartbeats, and its peers. Beside the heartbeats the app holds connections
//! without one, the controls: a fault that they notice is not a silent one.
//!
//! Links and packets are those of a network of two namespaces, which the test makes and removes.
//! That needs root, `ip` and `nft`; without them these scenarios are skipped, and said to be. Where
//! `FAULTS_MUST_RUN` is set, that is a failure.
//!
//! A slow machine must not turn it red. Bounds grow by the time that the app was kept from running,
//! as it measures itself; and a verdict on peers that were themselves kept from running does not
//! count: the attempt is repeated.

mod app;
mod lab;
mod network;
mod peers;

use std::env;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use futures_pinger::{Clock, Config, ConfigBuilder};

use lab::{Excuse, Figures, Lab, Setup};
use network::{Network, Side};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const INTERVAL: Duration = millis(500);
const TIMEOUT: Duration = millis(1500);
const WRITE_TIMEOUT: Duration = millis(500);
const CLOSE_TIMEOUT: Duration = millis(100);
const RTT: Duration = millis(200);
const HOURS: Duration = Duration::from_secs(36_000);
/// What hangs fails after this long.
const GUARD: Duration = Duration::from_secs(30);
/// At each scenario while the machine does not let the peers run.
const ATTEMPTS: u32 = 3;

fn config() -> ConfigBuilder {
    let builder = Config::builder().interval(INTERVAL).timeout(TIMEOUT);
    let builder = builder.write_timeout(WRITE_TIMEOUT);
    builder.close_timeout(CLOSE_TIMEOUT)
}

/// What the docs promise a heartbeat of `config` that nothing stalls: the verdict, and the end.
fn bound(config: &Config) -> Duration {
    let verdict = config.detection_bound().expect("finite");
    verdict + config.close_timeout() + config.granularity()
}

type Outcome = Result<Figures, Excuse>;

// contract: F42 N83
fn our_process_is_stopped_for_less_and_more_than_the_timeout() -> Outcome {
    let mut lab = Lab::start(&Setup {
        connections: 200,
        rtt: RTT,
        ..Setup::default()
    });
    let stops = [4, 8, 12, 20, 30].map(|tenths| TIMEOUT * tenths / 10);
    for (pause, stop) in [90, 530, 270, 710, 410].into_iter().zip(stops) {
        thread::sleep(millis(pause));
        lab.app.stop_for(stop);
    }
    // What the last stop has done shows within a cycle.
    thread::sleep(INTERVAL + TIMEOUT + 2 * RTT);
    let stalled = lab.app.ask_time("stalled");
    assert!(stalled >= stops[4] * 9 / 10, "it ran on: {stalled:?}");
    lab.none_found()
}

// contract: F42
fn their_process_is_stopped_for_less_and_then_for_more_than_the_bound() -> Outcome {
    let mut lab = Lab::start(&Setup {
        connections: 200,
        rtt: RTT,
        ..Setup::default()
    });
    for (pause, stop) in [(130, 300), (310, 500), (690, 700)] {
        thread::sleep(millis(pause));
        lab.peers.stop_for(millis(stop));
    }
    thread::sleep(INTERVAL + TIMEOUT);
    lab.none_found()?;
    lab.peers.signal("STOP");
    let figures = lab.all_found();
    assert!(figures.ended_as(&["Pong"]), "{figures:?}");
    // Their system has taken it.
    assert_eq!(figures.close_sent, figures.found);
    Ok(figures)
}

/// A network of two namespaces that is cut by `fault`.
fn cut(fault: impl FnOnce(&Network)) -> Outcome {
    let network = Network::new();
    let mut lab = Lab::start(&Setup {
        network: Some(&network),
        ..Setup::default()
    });
    thread::sleep(INTERVAL);
    lab.none_found()?;
    fault(&network);
    let mut figures = lab.all_found();
    assert!(figures.ended_as(&["Pong"]), "{figures:?}");
    // On a dead path each send of a close frame "succeeds".
    assert_eq!(figures.close_sent, figures.found, "{figures:?}");
    // Time to arrive, if there were a way.
    thread::sleep(INTERVAL);
    let delivered = lab.peers.ask("closes");
    assert_eq!(delivered, 0, "{figures:?}");
    figures.note = format!("{} close frames sent, none delivered", figures.close_sent);
    lab.network = Some(network);
    Ok(figures)
}

// contract: N82
fn namespaces_our_link_goes_down() -> Outcome {
    cut(|network| network.link_down(Side::App))
}

// contract: N82
fn namespaces_their_link_goes_down() -> Outcome {
    cut(|network| network.link_down(Side::Peers))
}

// contract: N82
fn namespaces_packets_are_dropped_on_the_way_there() -> Outcome {
    cut(|network| network.drop_incoming(Side::Peers))
}

/// The close frame had a way. But TCP sends nothing new as long as it repeats what nobody confirms.
// contract: N82
fn namespaces_packets_are_dropped_on_the_way_back() -> Outcome {
    cut(|network| network.drop_incoming(Side::App))
}

/// A packet that is lost is sent again after 0.2 s, and then after twice the time from try to try: 8
/// losses in a row are 25 s, so that of ten thousand pings and their pongs one takes longer than 20 s.
/// No timeout is long enough for none. Here a try follows each second at the latest: 12 s are 15 tries,
/// and all are lost for one of 35 million pings.
// contract: D24
fn namespaces_30_percent_of_the_packets_are_lost_both_ways() -> Outcome {
    const INTERVAL: Duration = millis(300);
    const TIMEOUT: Duration = Duration::from_secs(12);

    let network = Network::new();
    if !network.retransmit_each_second() {
        return Ok(Figures {
            note: "SKIPPED: needs Linux 6.15, which has an upper limit for retransmissions".into(),
            ..Figures::default()
        });
    }
    let builder = config().interval(INTERVAL).timeout(TIMEOUT);
    let builder = builder.write_timeout(TIMEOUT);
    let mut lab = Lab::start(&Setup {
        config: builder.build().expect("valid"),
        network: Some(&network),
        ..Setup::default()
    });
    network.drop_some_incoming(Side::App, 30);
    network.drop_some_incoming(Side::Peers, 30);
    lab.app.ask_time("gap");
    // A verdict has time to fall.
    thread::sleep(2 * TIMEOUT + INTERVAL);
    let gap = lab.app.ask_time("gap");
    assert!(gap >= INTERVAL + millis(150), "nothing was lost: {gap:?}");
    let mut figures = lab.none_found()?;
    lab.network = Some(network);
    figures.note = format!("at worst {:.2} s from pong to pong", gap.as_secs_f64());
    Ok(figures)
}

// contract: C20
fn the_window_is_zero_and_the_buffers_are_full() -> Outcome {
    let builder = config().interval(millis(1000));
    let builder = builder.initial_delay(Duration::ZERO);
    let mut lab = Lab::start(&Setup {
        config: builder.build().expect("valid"),
        // All have been answered just now: no ping leaves before the buffers are full.
        spread: false,
        ..Setup::default()
    });
    lab.peers.ask("deaf");
    lab.app.ask("flood");
    let figures = lab.all_found();
    if !figures.ended_as(&["Write"]) && figures.ended_as(&["Write", "Pong"]) {
        // The next ping was faster.
        return Err(Excuse(format!("not full within an interval: {figures:?}")));
    }
    assert!(figures.ended_as(&["Write"]), "{figures:?}");
    assert_eq!(figures.close_sent, 0, "{figures:?}");
    Ok(figures)
}

/// Its timeouts are hours: it ends at once, or not within [`GUARD`].
fn ends_at_once(fault: &str) -> Figures {
    let builder = config().interval(HOURS).timeout(HOURS);
    let builder = builder.initial_delay(Duration::ZERO);
    let mut lab = Lab::start(&Setup {
        config: builder.build().expect("valid"),
        spread: false,
        silent: false,
        ..Setup::default()
    });
    lab.peers.ask(fault);
    let figures = lab.all_found();
    let at_once = figures.ended_as(&["Transport", "PongsEnded"]);
    assert!(at_once, "{figures:?}");
    figures
}

// contract: N84
fn a_fin_without_a_close_frame() -> Outcome {
    Ok(ends_at_once("fin"))
}

// contract: N84
fn a_rst() -> Outcome {
    Ok(ends_at_once("rst"))
}

type Scenario = (&'static str, fn() -> Outcome);

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name)),*]
    };
}

const SCENARIOS: &[Scenario] = scenarios![
    our_process_is_stopped_for_less_and_more_than_the_timeout,
    their_process_is_stopped_for_less_and_then_for_more_than_the_bound,
    namespaces_our_link_goes_down,
    namespaces_their_link_goes_down,
    namespaces_packets_are_dropped_on_the_way_there,
    namespaces_packets_are_dropped_on_the_way_back,
    namespaces_30_percent_of_the_packets_are_lost_both_ways,
    the_window_is_zero_and_the_buffers_are_full,
    a_fin_without_a_close_frame,
    a_rst,
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(app::ROLE) => app::main(&args[1..]),
        Some(peers::ROLE) => peers::main(&args[1..]),
        _ => harness(&args),
    }
}

/// The scenarios that the arguments of `cargo test` ask for.
fn selected(args: &[String]) -> Vec<Scenario> {
    let has = |flag| args.iter().any(|arg| arg == flag);
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--skip" => skipped.extend(words.next()),
            "--color" | "--format" | "--test-threads" | "--logfile" => drop(words.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(word),
        }
    }
    let matches = |name: &str, filter: &str| match has("--exact") {
        true => name == filter,
        false => name.contains(filter),
    };
    let wanted = |(name, _): &Scenario| {
        // There are no signals to stop a process by elsewhere; and none of them is ignored.
        cfg!(unix)
            && !has("--ignored")
            && (filters.is_empty() || filters.iter().any(|filter| matches(name, filter)))
            && !skipped.iter().any(|filter| matches(name, filter))
    };
    SCENARIOS.iter().copied().filter(wanted).collect()
}

/// Runs the scenarios, all at once: they mostly wait.
fn harness(args: &[String]) -> ExitCode {
    let scenarios = selected(args);
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in scenarios {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let start = Clock::system().now();
    println!("\nrunning {} tests", scenarios.len());
    let missing = Network::missing().err();
    let (mut passed, mut skipped) = (0, 0);
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let mut running = Vec::new();
        let rows = &rows;
        for &(name, scenario) in &scenarios {
            match &missing {
                Some(why) if name.starts_with("namespaces") => {
                    println!("test {name} ... SKIPPED: {why}");
                    skipped += 1;
                }
                _ => {
                    let thread = thread::Builder::new().name(name.into());
                    let run = move || {
                        let figures = repeated(scenario);
                        rows.lock().expect("nobody panics").push((name, figures));
                    };
                    running.push((name, thread.spawn_scoped(scope, run).expect("a thread")));
                }
            }
        }
        for (name, scenario) in running {
            let ok = scenario.join().is_ok();
            println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
            passed += usize::from(ok);
        }
    });
    let rows = rows.into_inner().expect("nobody panics");
    print(&rows);
    let failed = scenarios.len() - passed - skipped;
    let must_run = env::var_os("FAULTS_MUST_RUN").is_some();
    let ok = failed == 0 && !(must_run && skipped > 0);
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; {} \
         filtered out; finished in {:.2}s\n",
        if ok { "ok" } else { "FAILED" },
        SCENARIOS.len() - scenarios.len(),
        (Clock::system().now() - start).as_secs_f64(),
    );
    std::io::stdout().flush().expect("stdout");
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Again while the machine is to blame.
fn repeated(scenario: fn() -> Outcome) -> Figures {
    let mut excuses = Vec::new();
    for _ in 0..ATTEMPTS {
        match scenario() {
            Ok(figures) => return figures,
            Err(Excuse(excuse)) => excuses.push(excuse),
        }
    }
    panic!("no attempt counts: {excuses:#?}");
}

fn print(rows: &[(&str, Figures)]) {
    let seconds = |time: Option<Duration>| match time {
        Some(time) => format!("{:.3}", time.as_secs_f64()),
        None => "-".into(),
    };
    println!(
        "\n{:68} {:>5} {:>8} {:>8} {:>6} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7}  note",
        "times in seconds: from the last pong (FIN, RST: from the fault)",
        "conns",
        "controls",
        "expected",
        "found",
        "false",
        "min",
        "median",
        "max",
        "bound",
        "stalled",
    );
    for (name, figures) in rows {
        println!(
            "{:68} {:>5} {:>8} {:>8} {:>6} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7}  {}",
            name.replace('_', " "),
            figures.connections,
            figures.controls,
            figures.expected,
            figures.found,
            figures.wrong,
            seconds(figures.times.first().copied()),
            seconds(figures.times.get(figures.times.len() / 2).copied()),
            seconds(figures.times.last().copied()),
            seconds(figures.bound),
            seconds(figures.times.first().map(|_| figures.stalled)),
            figures.note,
        );
    }
}
