//! Random scripts. A seed makes the same script for ever: no crate has a say in it.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::testing::Fault;
use futures_pinger::{CloseReason, Config, Error, Liveness, TimedOut};

/// Nanoseconds.
pub type Time = u64;

const MILLISECOND: Time = 1_000_000;
const SECOND: Time = 1000 * MILLISECOND;
/// It becomes `Duration::MAX`.
const NEVER: Time = Time::MAX;

pub fn duration(time: Time) -> Duration {
    match time {
        NEVER => Duration::MAX,
        time => Duration::from_nanos(time),
    }
}

/// What happens to a heartbeat at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Pong(Pong),
    /// So many pongs at once that nobody asked for.
    Strays(u8),
    /// A message that is no pong.
    Activity,
    Sink(Change),
    /// So many calls in a row.
    PingsNow(u8),
    Pause,
    Resume,
    Configure(Options),
    EndPongs,
    Stop,
}

/// Steps of two kinds between the same two polls may be told apart by which came first (R124).
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Pong,
    Activity,
    Order,
}

impl Step {
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Pong(_) | Self::Strays(_) => Some(Kind::Pong),
            Self::Activity => Some(Kind::Activity),
            Self::PingsNow(_) | Self::Pause | Self::Resume | Self::Configure(_) => {
                Some(Kind::Order)
            }
            Self::Sink(_) | Self::EndPongs | Self::Stop => None,
        }
    }
}

/// Some steps and a time, and then the heartbeat is driven as it asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Time passes.
    Pass(Time),
    /// All that happens before the heartbeat is polled again.
    Now(Vec<Step>),
    /// Time passes, and this process does not run. A pong of the newest ping may arrive in that time,
    /// and other things may happen.
    Stall(Time, bool, Vec<Step>),
    /// Time passes in so many parts, and each ping that is seen behind one of them is answered.
    Live(Time, u64),
}

impl Turn {
    /// Leaves one kind of steps, that of the first.
    fn unmix(&mut self) {
        let (mut kind, steps) = match self {
            Self::Now(steps) => (None, steps),
            Self::Stall(_, pong, steps) => (pong.then_some(Kind::Pong), steps),
            Self::Pass(_) | Self::Live(..) => return,
        };
        steps.retain(|step| {
            kind = kind.or(step.kind());
            step.kind().is_none_or(|of| Some(of) == kind)
        });
    }
}

/// Whose pong comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong {
    Newest,
    /// That of the ping so many before the newest but one.
    Earlier(u8),
    /// The same as the last one.
    Repeated,
    /// Nearly that of the newest ping.
    Forged(u8),
}

impl Pong {
    /// What it carries, where the pings so far carried `payloads`. `last` is the number of the ping
    /// whose pong came last, from 1.
    pub fn payload(self, payloads: &[Bytes], last: &mut usize) -> Bytes {
        match self {
            Self::Newest => *last = payloads.len(),
            Self::Earlier(back) => *last = payloads.len().saturating_sub(1 + usize::from(back)),
            Self::Repeated => {}
            Self::Forged(how) => {
                return payloads.last().map_or(STRAY, |newest| forged(newest, how));
            }
        }
        match *last {
            0 => STRAY,
            number => payloads[number - 1].clone(),
        }
    }
}

pub const STRAY: Bytes = Bytes::from_static(b"stray");

/// Cut off, extended, or with one bit flipped.
fn forged(payload: &Bytes, how: u8) -> Bytes {
    let mut bytes = payload.to_vec();
    let at = usize::from(how >> 3);
    match at {
        0..16 => bytes[at] ^= 1 << (how & 7),
        16..24 => bytes.truncate(at - 16),
        24 => bytes.push(how),
        _ => bytes.resize(usize::from(how), how),
    }
    bytes.into()
}

/// What the sink does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It takes nothing.
    Block,
    /// It takes frames and does not flush them.
    BlockFlush,
    Unblock,
    Fail(Fault),
}

/// How a heartbeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    TimedOut(TimedOut),
    Transport,
    PongsEnded,
    Requested,
}

impl From<TimedOut> for End {
    fn from(verdict: TimedOut) -> Self {
        Self::TimedOut(verdict)
    }
}

impl<E> From<&Error<E>> for End {
    fn from(error: &Error<E>) -> Self {
        match error {
            Error::Timeout(verdict) => (*verdict).into(),
            _ => Self::Transport,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Timeout {
    Fixed(Time),
    Adaptive(Time, Time),
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Life {
    Pong,
    AnyPong,
    Activity(Time),
}

/// A configuration. Each option is set: what the defaults are makes no difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub interval: Time,
    pub initial_delay: Time,
    pub timeout: Timeout,
    pub write_timeout: Time,
    /// None: no close frame.
    pub close: Option<u16>,
    pub close_timeout: Time,
    pub max_missed: u32,
    pub life: Life,
    pub stall_grace: bool,
    pub granularity: Time,
    /// In percent, and of the bare heartbeat alone: the others have a random key.
    pub jitter: u8,
}

impl Options {
    pub fn config(&self) -> Config {
        let builder = Config::builder()
            .interval(duration(self.interval))
            .initial_delay(duration(self.initial_delay))
            .write_timeout(duration(self.write_timeout))
            .close_timeout(duration(self.close_timeout))
            .max_missed(self.max_missed)
            .stall_grace(self.stall_grace)
            .granularity(duration(self.granularity))
            .jitter(f64::from(self.jitter) / 100.0)
            .liveness(match self.life {
                Life::Pong => Liveness::Pong,
                Life::AnyPong => Liveness::AnyPong,
                Life::Activity(unproven) => Liveness::Activity {
                    max_unproven: duration(unproven),
                },
            });
        let builder = match self.timeout {
            Timeout::Fixed(timeout) => builder.timeout(duration(timeout)),
            Timeout::Adaptive(from, to) => builder.adaptive_timeout(duration(from)..=duration(to)),
            Timeout::Never => builder.no_timeout(),
        };
        let builder = match self.close {
            Some(code) => builder.close(CloseReason::new(code, "no pong").expect("valid")),
            None => builder.no_close(),
        };
        builder.build().expect("valid")
    }
}

#[derive(Debug, Clone)]
pub struct Script {
    pub options: Options,
    pub turns: Vec<Turn>,
    /// Polled also without a reason.
    pub polled_more: bool,
    /// With a new waker for each poll.
    pub moved: bool,
}

impl Script {
    /// That of the seed, without what `--without` names.
    pub fn of(seed: u64, without: &[String]) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let script = random.script();
        let has = |what: &str| without.iter().any(|feature| feature == what);
        let turns = script.turns.into_iter().filter(|turn| match turn {
            Turn::Now(steps) => !(has("several-at-once") && steps.len() > 1),
            Turn::Stall(.., steps) => {
                !(has("stalls") || has("several-at-once") && !steps.is_empty())
            }
            Turn::Pass(_) | Turn::Live(..) => true,
        });
        Self {
            turns: turns.collect(),
            polled_more: script.polled_more && !has("more-polls"),
            moved: script.moved && !has("more-polls"),
            options: match has("jitter") {
                true => script.options.without_jitter(),
                false => script.options,
            },
        }
    }

    /// As that surface can do it.
    pub fn on(&self, surface: &str) -> Self {
        let mut script = self.clone();
        if surface != "bare" {
            script.options = script.options.without_jitter();
            for turn in &mut script.turns {
                if let Turn::Now(steps) | Turn::Stall(.., steps) = turn {
                    for step in steps {
                        if let Step::Configure(options) = step {
                            *options = options.without_jitter();
                        }
                    }
                }
            }
        }
        script
    }
}

impl Options {
    fn without_jitter(self) -> Self {
        Self { jitter: 0, ..self }
    }
}

/// What the script has done so far that the next step depends on.
struct State {
    options: Options,
    paused: bool,
    blocked: bool,
}

impl State {
    /// About the time until a ping is out.
    fn until_due(&self) -> Turn {
        Turn::Pass(self.options.interval.min(10 * SECOND))
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        (u128::from(self.next()) * u128::from(end) >> 64) as u64
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Up to so many milliseconds and a second. Round ones coincide.
    fn time(&mut self, millis: u64) -> Time {
        let time = 1 + self.below(millis);
        MILLISECOND
            * match self.below(4) {
                0 | 1 => time / 1000 * 1000 + 1000,
                2 => time / 10 + 1,
                _ => time,
            }
    }

    /// The same, and now and then never.
    fn timeout(&mut self, millis: u64) -> Time {
        match self.percent(2) {
            true => NEVER,
            false => self.time(millis),
        }
    }

    fn options(&mut self) -> Options {
        let timeout = match self.below(20) {
            0..12 => Timeout::Fixed(self.timeout(10_000)),
            12..17 => {
                let (one, other) = (self.time(5_000), self.time(12_000));
                Timeout::Adaptive(one.min(other), one.max(other))
            }
            _ => Timeout::Never,
        };
        let interval = self.timeout(10_000);
        Options {
            interval: match timeout {
                // Its pings go out whether they are answered or not.
                Timeout::Never => interval.max(300 * MILLISECOND),
                _ => interval,
            },
            initial_delay: match self.percent(40) {
                true => 0,
                false => self.timeout(12_000),
            },
            timeout,
            write_timeout: self.timeout(8_000),
            close: match self.below(10) {
                0 | 1 => None,
                2 => Some(3_000 + self.below(2_000) as u16),
                _ => Some(1011),
            },
            close_timeout: self.timeout(3_000),
            max_missed: 1 + self.below(4) as u32,
            life: match self.below(10) {
                0..5 => Life::Pong,
                5..7 => Life::AnyPong,
                _ => Life::Activity(self.timeout(30_000)),
            },
            stall_grace: self.percent(70),
            // Each divides a day, so that all scripts begin at a point of the grid.
            granularity: match self.below(10) {
                0..5 => 0,
                5 => MILLISECOND,
                6 => 10 * MILLISECOND,
                7 => 15_625_000,
                8 => 100 * MILLISECOND,
                _ => SECOND,
            },
            jitter: match self.percent(20) {
                true => 1 + self.below(100) as u8,
                false => 0,
            },
        }
    }

    /// A time that may be just that of a deadline, or just beside it.
    fn passing(&mut self, options: &Options, millis: u64) -> Time {
        if self.percent(60) {
            return self.time(millis);
        }
        let timeout = match options.timeout {
            Timeout::Fixed(timeout) => timeout,
            Timeout::Adaptive(from, to) => match self.percent(50) {
                true => from,
                false => to,
            },
            Timeout::Never => options.interval,
        };
        let exact = match self.below(7) {
            0 => options.interval,
            1 => options.write_timeout,
            2 => options.close_timeout,
            3 => timeout - timeout / 8,
            4 => timeout.saturating_add(timeout / 8),
            _ => timeout,
        };
        if exact > 60 * SECOND {
            return self.time(millis);
        }
        match self.below(4) {
            0 => exact.saturating_sub(1),
            1 => exact + 1,
            _ => exact,
        }
    }

    fn pong(&mut self) -> Pong {
        match self.below(8) {
            0..4 => Pong::Newest,
            4 | 5 => Pong::Earlier(self.below(4) as u8),
            6 => Pong::Repeated,
            _ => Pong::Forged(self.byte()),
        }
    }

    fn change(&mut self, blocked: &mut bool) -> Change {
        let change = match self.below(60) {
            _ if *blocked && self.percent(60) => Change::Unblock,
            0 => Change::Fail(match self.below(3) {
                0 => Fault::Ready,
                1 => Fault::Send,
                _ => Fault::Flush,
            }),
            1..20 => Change::Block,
            20..40 => Change::BlockFlush,
            _ => Change::Unblock,
        };
        *blocked = matches!(change, Change::Block | Change::BlockFlush);
        change
    }

    fn step(&mut self, state: &mut State) -> Step {
        if state.paused && self.percent(40) {
            state.paused = false;
            return Step::Resume;
        }
        if state.blocked && self.percent(30) {
            state.blocked = false;
            return Step::Sink(Change::Unblock);
        }
        match self.below(80) {
            0..32 => Step::Pong(self.pong()),
            32..36 => Step::Strays(match self.percent(30) {
                true => self.byte(),
                false => self.below(6) as u8,
            }),
            36..46 => Step::Activity,
            46..60 => Step::Sink(self.change(&mut state.blocked)),
            60..66 => Step::PingsNow(self.below(3) as u8),
            66..69 => {
                state.paused = true;
                Step::Pause
            }
            69..71 => Step::Resume,
            71..78 => {
                let mut new = self.options();
                if self.percent(60) {
                    // One option alone.
                    let before = state.options;
                    new = match self.below(6) {
                        0 => Options {
                            interval: new.interval.max(300 * MILLISECOND),
                            ..before
                        },
                        1 => Options {
                            timeout: new.timeout,
                            interval: before.interval.max(300 * MILLISECOND),
                            ..before
                        },
                        2 => Options {
                            write_timeout: new.write_timeout,
                            ..before
                        },
                        3 => Options {
                            life: new.life,
                            ..before
                        },
                        4 => Options {
                            granularity: new.granularity,
                            ..before
                        },
                        _ => Options {
                            stall_grace: new.stall_grace,
                            max_missed: new.max_missed,
                            ..before
                        },
                    };
                }
                state.options = new;
                Step::Configure(new)
            }
            78 => Step::Pong(Pong::Newest),
            _ => match self.below(6) {
                0 | 1 => Step::EndPongs,
                2 => Step::Stop,
                _ => Step::Activity,
            },
        }
    }

    fn steps(&mut self, count: u64, state: &mut State) -> Vec<Step> {
        (0..count).map(|_| self.step(state)).collect()
    }

    /// One turn, or some that belong together. The shares of the kinds are in percent.
    fn turns(&mut self, answers: u64, passes: u64, stalls: u64, state: &mut State) -> Vec<Turn> {
        if state.blocked && self.percent(40) {
            state.blocked = false;
            return vec![Turn::Now(vec![Step::Sink(Change::Unblock)])];
        }
        let share = self.below(100);
        if share < answers {
            let time = self.passing(&state.options, 20_000);
            return vec![Turn::Live(time, 1 + self.below(8))];
        }
        if share < answers + passes {
            return vec![Turn::Pass(self.passing(&state.options, 6_000))];
        }
        if share < answers + passes + stalls {
            let time = self.passing(&state.options, 20_000);
            let (count, steps) = (self.below(3), self.below(4));
            let steps = match steps {
                // The pong lies behind more than one poll reads.
                0 => vec![Step::Strays(64 | self.byte()), Step::Pong(Pong::Newest)],
                _ => self.steps(count, state),
            };
            let stall = Turn::Stall(time, self.percent(50), steps);
            let again = Turn::Stall(self.passing(&state.options, 8_000), false, Vec::new());
            // A stall means most while a ping is out.
            return match self.below(6) {
                0 => vec![stall],
                1 => vec![Turn::Now(vec![Step::PingsNow(1)]), stall],
                2 => {
                    let before = self.passing(&state.options, 2_000);
                    let ping = Turn::Now(vec![Step::PingsNow(1)]);
                    vec![ping, Turn::Pass(before), stall]
                }
                3 => vec![Turn::Now(vec![Step::PingsNow(1)]), again, stall],
                4 => vec![state.until_due(), again, stall],
                _ => vec![state.until_due(), stall],
            };
        }
        if share < answers + passes + stalls + 1 {
            // The verdict falls while the sink is blocked, and more comes while it closes.
            state.blocked = true;
            let block = match self.percent(50) {
                true => Change::Block,
                false => Change::BlockFlush,
            };
            let timeout = match state.options.timeout {
                Timeout::Fixed(timeout) | Timeout::Adaptive(_, timeout) => timeout,
                Timeout::Never => SECOND,
            };
            let steps = match self.below(4) {
                0 => vec![Step::EndPongs],
                1 => vec![Step::Pong(Pong::Newest)],
                _ => self.steps(2, state),
            };
            return vec![
                state.until_due(),
                Turn::Now(vec![Step::Sink(block)]),
                Turn::Pass(timeout.min(12 * SECOND)),
                Turn::Now(steps),
                Turn::Pass(self.passing(&state.options, 1_000)),
            ];
        }
        let count = match self.percent(70) {
            true => 1,
            false => 2 + self.below(4),
        };
        vec![Turn::Now(self.steps(count, state))]
    }

    fn script(&mut self) -> Script {
        let options = self.options();
        let mut state = State {
            options,
            paused: false,
            blocked: false,
        };
        // Peers that answer get far; the others are judged.
        let (answers, passes, stalls) = (self.below(80), self.below(12), self.below(12));
        let turns = 1 + self.below(100);
        let turns = (0..turns).flat_map(|_| self.turns(answers, passes, stalls, &mut state));
        let mut turns: Vec<Turn> = turns.collect();
        // A turn that mixes kinds may be excused, and with it all turns behind it: few scripts have one.
        if self.percent(75) {
            turns.iter_mut().for_each(Turn::unmix);
        }
        Script {
            options,
            turns,
            polled_more: self.percent(10),
            moved: self.percent(10),
        }
    }
}
