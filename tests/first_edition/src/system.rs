//! What goes through the scripts, and what is written down of it.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use futures_pinger::testing::World;
use futures_pinger::{Config, Frame, State, Stats};

use crate::script::{Change, End, Pong, STRAY, Script, Step, Turn, duration};

/// A heartbeat under test, as the model of the first edition knows it, whose shells implement this.
pub trait System: Sized + 'static {
    fn start(config: Config) -> Self;

    /// Whether it has a way to do that; else no script has it do it.
    fn can(_: &Step) -> bool {
        true
    }

    /// Time passes, and it is driven as it asks; that it does at least once.
    fn run_until(&mut self, time: Duration);

    /// Time passes, and nothing of it runs. Then a pong arrives, if there is one.
    fn stall_until(&mut self, time: Duration, pong: Option<Bytes>);

    fn pong(&mut self, payload: Bytes);
    fn activity(&mut self);
    fn sink(&mut self, change: Change);
    fn order(&mut self, order: Order);
    fn end_pongs(&mut self);

    fn frames(&self) -> Vec<(Duration, Frame)>;
    fn stats(&self) -> Stats;
    fn state(&self) -> State;
    fn end(&self) -> Option<(Duration, End)>;

    /// From now on it is polled without a reason too.
    fn poll_more(&mut self);

    /// From now on each poll has a waker of its own.
    fn move_about(&mut self);

    /// How often it was polled: the editions need not agree in that.
    #[allow(dead_code)]
    fn polls(&self) -> usize;

    #[allow(dead_code)]
    fn drop_heartbeat(&mut self) -> bool;

    /// What it has said to the calls since it was last asked.
    fn answers(&mut self) -> String {
        String::new()
    }
}

/// What the owner of a heartbeat asks for.
#[derive(Debug)]
pub enum Order {
    PingNow,
    Pause,
    Resume,
    Configure(Config),
    Stop,
}

/// What was seen, as lines of text: a turn, and below it, indented, what came of it.
#[derive(Default)]
pub struct Transcript {
    pub text: String,
    /// What the script has reached.
    pub reached: Vec<(String, u64)>,
}

impl Transcript {
    pub fn record<S: System>(&mut self, script: &Script) {
        let mut driver = Driver::<S> {
            system: S::start(script.options.config()),
            now: 0,
            last: 0,
            answered: 0,
        };
        if script.polled_more {
            driver.system.poll_more();
        }
        if script.moved {
            driver.system.move_about();
        }
        driver.run();
        let (mut frames, mut after) = (0, 0);
        self.turn("start", &mut driver, &mut frames);
        for turn in &script.turns {
            // The end stays as it is.
            after += u32::from(driver.system.end().is_some());
            if after > 3 {
                break;
            }
            let mut turn = turn.clone();
            if let Turn::Now(steps) | Turn::Stall(.., steps) = &mut turn {
                steps.retain(S::can);
            }
            driver.turn(&turn);
            self.turn(&format!("{turn:?}"), &mut driver, &mut frames);
        }
        self.count(&driver.system);
    }

    pub fn panicked(&mut self, text: &str) {
        self.write(format_args!("  panicked: {text}"));
        self.reached.push(("panics".into(), 1));
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("text takes all");
    }

    fn turn<S: System>(&mut self, turn: &str, driver: &mut Driver<S>, frames: &mut usize) {
        self.write(format_args!("@{:?} {turn}", duration(driver.now)));
        let answers = driver.system.answers();
        if !answers.is_empty() {
            self.write(format_args!("  told{answers}"));
        }
        let all = driver.system.frames();
        for (at, frame) in &all[*frames..] {
            match frame {
                // The rest of a payload is keyed by chance.
                Frame::Ping(payload) => {
                    let number = payload
                        .first_chunk()
                        .map(|bytes| u64::from_be_bytes(*bytes));
                    let length = payload.len();
                    self.write(format_args!(
                        "  ping at={at:?} number={number:?} length={length}"
                    ));
                }
                other => self.write(format_args!("  sent at={at:?} {other:?}")),
            }
        }
        *frames = all.len();
        let (stats, state) = (driver.system.stats(), driver.system.state());
        self.write(format_args!(
            "  stats state={state:?} sent={} answered={} missed={} stale={} unsolicited={} late_wakes={} \
             worst_lateness={:?} write_blocked={:?} latest={:?} smoothed={:?} variation={:?} min={:?} later={}",
            stats.sent(),
            stats.answered(),
            stats.missed(),
            stats.stale(),
            stats.unsolicited(),
            stats.late_wakes(),
            stats.worst_lateness(),
            stats.write_blocked(),
            stats.latest_rtt(),
            stats.smoothed_rtt(),
            stats.rtt_variation(),
            stats.min_rtt(),
            driver.later(&stats),
        ));
        match driver.system.end() {
            Some((at, End::TimedOut(verdict))) => {
                self.write(format_args!("  end at={at:?} {verdict}: {verdict:?}"));
            }
            Some((at, end)) => self.write(format_args!("  end at={at:?} {end:?}")),
            None => {}
        }
    }

    fn count<S: System>(&mut self, system: &S) {
        let (stats, end) = (system.stats(), system.end());
        let end = match end {
            Some((_, End::TimedOut(verdict))) => format!("end {:?}", verdict.phase()),
            Some((_, end)) => format!("end {end:?}"),
            None => "end none".into(),
        };
        let counters = [
            ("sent", stats.sent()),
            ("answered", stats.answered()),
            ("missed", stats.missed()),
            ("stale", stats.stale()),
            ("unsolicited", stats.unsolicited()),
            ("late", stats.late_wakes()),
        ];
        let counters = counters.map(|(what, count)| (what.to_owned(), count));
        self.reached.extend(counters);
        self.reached.push((end, 1));
    }
}

/// Takes a system through a script.
struct Driver<S> {
    system: S,
    now: u64,
    /// The ping whose pong came last, from 1.
    last: usize,
    /// The newest ping that [`Turn::Live`] has answered.
    answered: usize,
}

impl<S: System> Driver<S> {
    fn turn(&mut self, turn: &Turn) {
        match turn {
            Turn::Pass(time) => self.now += time,
            Turn::Now(steps) => self.steps(steps),
            Turn::Stall(time, pong, steps) => {
                self.now += time;
                let payload = Pong::Newest.payload(&self.payloads(), &mut 0);
                let pong = pong.then_some(payload);
                self.system.stall_until(duration(self.now), pong);
                self.steps(steps);
            }
            Turn::Live(time, parts) => {
                for _ in 0..*parts {
                    self.now += time / parts;
                    self.run();
                    let payloads = self.payloads();
                    if payloads.len() > self.answered {
                        self.answered = payloads.len();
                        let pong = Pong::Newest.payload(&payloads, &mut self.last);
                        self.system.pong(pong);
                        self.run();
                    }
                }
            }
        }
        self.run();
    }

    fn run(&mut self) {
        self.system.run_until(duration(self.now));
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Pong(pong) => {
                    let payload = pong.payload(&self.payloads(), &mut self.last);
                    self.system.pong(payload);
                }
                Step::Strays(count) => (0..*count).for_each(|_| self.system.pong(STRAY)),
                Step::Activity => self.system.activity(),
                Step::Sink(change) => self.system.sink(*change),
                Step::PingsNow(count) => {
                    (0..*count).for_each(|_| self.system.order(Order::PingNow));
                }
                Step::Pause => self.system.order(Order::Pause),
                Step::Resume => self.system.order(Order::Resume),
                Step::Configure(options) => self.system.order(Order::Configure(options.config())),
                Step::EndPongs => self.system.end_pongs(),
                Step::Stop => self.system.order(Order::Stop),
            }
        }
    }

    fn payloads(&self) -> Vec<Bytes> {
        let frames = self.system.frames().into_iter();
        let pings = frames.filter_map(|(_, frame)| match frame {
            Frame::Ping(payload) => Some(payload),
            _ => None,
        });
        pings.collect()
    }

    /// The state that the same statistics will show later.
    fn later(&self, stats: &Stats) -> String {
        // All worlds of a process begin at one instant.
        let (world, now) = (World::new(), duration(self.now));
        let later = [0, 1, 50, 1000, 10_000].map(|millis| {
            let at = world.instant(now + Duration::from_millis(millis));
            format!("{:?}", stats.state_at(at))
        });
        later.join(",")
    }
}
