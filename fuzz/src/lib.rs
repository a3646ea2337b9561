//! Fuzzing: what goes through a heartbeat is decoded from bytes, in the language of `tests/model`,
//! and held against the same model and the same promises. What both halves of a socket go through is
//! decoded and judged as in `tests/halves`.

#[path = "../../tests/model/bare.rs"]
pub mod bare;
#[path = "../../tests/halves/lab/mod.rs"]
pub mod halves;
#[path = "../../tests/model/model.rs"]
#[rustfmt::skip]
pub mod model;
#[path = "../../tests/model/oracle.rs"]
pub mod oracle;
#[path = "../../tests/model/script.rs"]
pub mod script;
#[path = "../../tests/model/shells.rs"]
pub mod shells;
#[path = "../../tests/model/system.rs"]
pub mod system;

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use futures_pinger::testing::Fault;
use futures_pinger::{Config, ConfigBuilder, Liveness};

use crate::model::Model;
use crate::oracle::Oracle;
use crate::script::{Change, MILLISECOND, Options, Pong, Rule, Step, Time};
use crate::system::{Driver, System};

/// More of them find nothing that fewer do not, nor does more time.
const STEPS: usize = 100;
const TIME: Time = 1_000_000 * MILLISECOND;

/// A heartbeat's configuration, and its life.
#[derive(Debug)]
pub struct Input {
    options: Options,
    config: Configured,
    polled_more: bool,
    moved_about: bool,
    steps: Vec<Step>,
}

/// With what beyond the [`Options`].
#[derive(Debug)]
enum Configured {
    /// Nothing: the model says what it does.
    Plain,
    With(Extra),
}

#[derive(Debug)]
struct Extra {
    granularity: Time,
    jitter: u8,
    adaptive: Option<(Time, Time)>,
    no_timeout: bool,
    max_unproven: Option<Time>,
}

impl Extra {
    fn add_to(&self, options: &Options) -> ConfigBuilder {
        let nanos = Duration::from_nanos;
        let mut builder = options.builder().granularity(nanos(self.granularity));
        if options.rule.within().is_some() {
            // The rest is about pings.
            return builder;
        }
        builder = builder.jitter(f64::from(self.jitter) / 255.0);
        if let Some(max_unproven) = self.max_unproven.map(nanos) {
            builder = builder.liveness(Liveness::Activity { max_unproven });
        }
        if let Some((start, end)) = self.adaptive {
            builder = builder.adaptive_timeout(nanos(start)..=nanos(end));
        }
        match self.no_timeout {
            true => builder
                .no_timeout()
                .write_timeout(nanos(options.write_timeout)),
            false => builder,
        }
    }
}

impl Input {
    /// Takes a heartbeat through it.
    ///
    /// # Panics
    ///
    /// If it does what it must not do.
    pub fn run<S: System>(mut self) {
        if !S::KNOWN_BY_ANY_PONG && self.options.rule.is_answered_by_strays() {
            self.options.rule = Rule::Pong;
        }
        match &self.config {
            Configured::Plain => self.run_against_the_model::<S>(),
            Configured::With(extra) => {
                if let Ok(config) = extra.add_to(&self.options).build() {
                    self.run_under::<S>(config);
                }
            }
        }
    }

    fn start<S: System>(&self, config: Config) -> Driver<S> {
        let mut driver = Driver::<S>::start(config);
        if self.polled_more {
            driver.system.poll_more();
        }
        if self.moved_about {
            driver.system.move_about();
        }
        driver
    }

    fn run_against_the_model<S: System>(&self) {
        let mut driver = self.start::<S>(self.options.config());
        let mut model = Model::new(self.options);
        let mut oracle = Oracle::new(self.options.config());
        for step in &self.steps {
            if model.now < TIME && model.knows_of::<S>(step) {
                driver.step(step);
                model.step(step);
                model.check(&driver);
                oracle.check(step, &driver);
            }
        }
    }

    fn run_under<S: System>(&self, config: Config) {
        let mut oracle = Oracle::new(config.clone());
        let mut driver = self.start::<S>(config);
        for step in &self.steps {
            // All members of a set are on one grid.
            let granular = S::IS_ONE_OF_MANY && matches!(step, Step::Configure(_));
            if driver.now < TIME && S::can(step) && !granular {
                driver.step(step);
                oracle.check(step, &driver);
            }
        }
        // And then nothing more from the peer: it has its verdict, if it is to have one.
        for _ in 0..20 {
            let step = Step::Pass(10_000 * MILLISECOND);
            driver.step(&step);
            oracle.check(&step, &driver);
        }
    }
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let kind: u8 = u.arbitrary()?;
        let options = options(u)?;
        let config = match kind & 1 {
            0 => Configured::Plain,
            _ => Configured::With(extra(u)?),
        };
        let mut steps = Vec::new();
        while !u.is_empty() && steps.len() < STEPS {
            steps.push(step(u, &options)?);
        }
        Ok(Self {
            options,
            config,
            polled_more: kind & 2 != 0,
            moved_about: kind & 4 != 0,
            steps,
        })
    }
}

/// One to 255 steps of a nanosecond, a millisecond, a tenth of a second or a second.
fn time(u: &mut Unstructured<'_>) -> Result<Time> {
    let (count, unit): (u8, u8) = u.arbitrary()?;
    let unit = [1, MILLISECOND, 100 * MILLISECOND, 1000 * MILLISECOND][usize::from(unit & 3)];
    Ok(u64::from(count.max(1)) * unit)
}

fn options(u: &mut Unstructured<'_>) -> Result<Options> {
    let flags: u8 = u.arbitrary()?;
    // Not so short that a script of minutes makes millions of pings.
    let interval = time(u)?.max(100 * MILLISECOND);
    let timeout = time(u)?.max(20 * MILLISECOND);
    Ok(Options {
        interval,
        initial_delay: if flags & 1 == 0 {
            interval
        } else {
            time(u)? - 1
        },
        timeout,
        write_timeout: if flags & 2 == 0 { timeout } else { time(u)? },
        close_timeout: if flags & 4 == 0 { Some(time(u)?) } else { None },
        max_missed: 1 + u32::from(flags >> 3 & 3),
        rule: match flags >> 5 & 3 {
            0 => Rule::Pong,
            1 if flags & 1 == 0 => Rule::Watch(time(u)?),
            1 => Rule::WatchPings(time(u)?),
            2 => Rule::Traffic(time(u)?),
            _ => Rule::AnyPong,
        },
        stall_grace: flags & 0x80 != 0,
    })
}

fn extra(u: &mut Unstructured<'_>) -> Result<Extra> {
    let flags: u8 = u.arbitrary()?;
    Ok(Extra {
        granularity: if flags & 1 == 0 { 0 } else { time(u)? },
        jitter: if flags & 2 == 0 { 0 } else { u.arbitrary()? },
        adaptive: if flags & 4 == 0 {
            None
        } else {
            Some((time(u)?, time(u)?))
        },
        no_timeout: flags & 0x18 == 0x18,
        max_unproven: if flags & 0x20 == 0 {
            None
        } else {
            Some(time(u)?)
        },
    })
}

fn step(u: &mut Unstructured<'_>, start: &Options) -> Result<Step> {
    let (kind, detail): (u8, u8) = u.arbitrary()?;
    Ok(match kind & 15 {
        0..4 => Step::Pass(time(u)?),
        4 if detail & 4 == 0 => Step::Stall(time(u)?, detail & 1 != 0),
        4 => Step::Suspend(time(u)?),
        5 => Step::Pong(Pong::Newest),
        6 => Step::Pong(match detail & 3 {
            0 => Pong::Repeated,
            1 => Pong::Forged(u.arbitrary()?),
            _ => Pong::Earlier(detail >> 2),
        }),
        7 => Step::Strays(detail),
        8 if detail & 1 == 0 => Step::Activity,
        8 => Step::PeerPing,
        9 => Step::Sink(Change::Unblock),
        10 => Step::Sink(match detail & 1 {
            0 => Change::Block,
            _ => Change::BlockFlush,
        }),
        11 if detail & 4 == 0 => Step::PingsNow(detail & 3),
        11 => Step::Probe(time(u)?),
        12 => Step::Pause,
        13 => Step::Resume,
        14 => Step::Configure(Options {
            stall_grace: start.stall_grace,
            ..options(u)?
        }),
        _ => match detail & 15 {
            0 => Step::Sink(Change::Fail(Fault::Ready)),
            1 => Step::Sink(Change::Fail(Fault::Send)),
            2 => Step::Sink(Change::Fail(Fault::Flush)),
            3 => Step::EndPongs,
            4 => Step::Stop,
            5 => Step::Close,
            6 => Step::Attach,
            7 | 8 => Step::Sink(Change::Yield(1 + detail / 4 % 63)),
            _ => Step::Pass(time(u)?),
        },
    })
}
