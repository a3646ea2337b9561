//! What is held against a heartbeat: the model where that knows, and what holds in every script.

use std::time::Duration;

use futures_pinger::{Config, HeartbeatState};

use crate::model::Model;
use crate::script::{Change, End, Phase, Probed, Seen, Sent, Step, Time, nanos};
use crate::system::{Driver, System};

impl Model {
    /// Whether it says what comes of that step.
    pub fn knows(&self, step: &Step) -> bool {
        match step {
            // The end of a stall may be that of a grace.
            Step::Stall(..) => !self.o.stall_grace && !self.is_probed(),
            Step::Configure(options) => options.stall_grace == self.o.stall_grace,
            // More than one poll reads may answer for the next ping too.
            Step::Strays(60..) => !self.o.rule.is_answered_by_strays(),
            // A socket that has ended ends the wait for its close frame.
            Step::EndPongs => !matches!(self.phase, Phase::Closing(..)),
            _ => true,
        }
    }

    /// The same where the step is taken by such a system.
    pub fn knows_of<S: System>(&self, step: &Step) -> bool {
        let spread = match step {
            Step::Configure(options) => S::IS_ONE_OF_MANY && self.is_overdue_by(options),
            _ => false,
        };
        !spread && S::can(step) && self.knows(step)
    }

    /// Fails where that is not what it says.
    #[track_caller]
    pub fn check<S: System>(&self, driver: &Driver<S>) {
        let (mut seen, mut expected) = (driver.seen(), self.seen.clone());
        // Those of a second and more are kept to the microsecond.
        expected.rtt = expected.rtt.map(|rtt| match rtt {
            ..0x4000_0000 => rtt,
            _ => rtt / 1000 * 1000,
        });
        let mut state = driver.system.state();
        if state == HeartbeatState::Suspect {
            state = HeartbeatState::Waiting;
        }
        if matches!(state, HeartbeatState::Closing | HeartbeatState::Gone) {
            // No more strays need be counted.
            (seen.stale, seen.unsolicited) = (0, 0);
            (expected.stale, expected.unsolicited) = (0, 0);
        }
        assert_eq!(seen, expected, "at {} in {:?}", self.now, self.phase);
        assert_eq!(state, self.phase.state(), "at {}", self.now);
    }
}

/// How long the peer may be silent, where no pings are sent.
fn watched(config: &Config) -> Option<Duration> {
    config.watch().or(config.watch_pings())
}

/// Follows a script, and holds a heartbeat to the invariants and the bound of its docs.
pub struct Oracle {
    config: Config,
    before: Seen,
    /// When the peer last proved life, or may have; or when the schedule began anew.
    proof: Time,
    /// From then on, on top of its bound.
    delay: Duration,
    /// Since then.
    stalled: Duration,
    longest_stall: Duration,
    steps: usize,
    inputs: u64,
    resumes: u64,
    /// The verdict has fallen.
    judged: bool,
}

impl Oracle {
    pub fn new(config: Config) -> Self {
        let delay = config.initial_delay().saturating_sub(config.interval());
        Self {
            config,
            before: Seen::default(),
            proof: 0,
            delay,
            stalled: Duration::ZERO,
            longest_stall: Duration::ZERO,
            steps: 0,
            inputs: 0,
            resumes: 0,
            judged: false,
        }
    }

    /// To be called behind each step.
    pub fn check<S: System>(&mut self, step: &Step, driver: &Driver<S>) {
        let (seen, state) = (driver.seen(), driver.system.state());
        self.note(step, driver.now, &seen);
        self.check_frames(&seen);
        self.check_counters(&seen);
        self.check_end(&seen, state, driver.now);
        if state == HeartbeatState::Paused {
            (self.proof, self.stalled) = (driver.now, Duration::ZERO);
        }
        self.check_bound(&seen, driver.now);
        self.check_probes(&seen, state);
        let polls = driver.system.polls() / 3;
        let budget = 8 * self.steps + 8 * seen.frames.len() + self.inputs as usize / 16 + 16;
        assert!(polls <= budget, "{polls} polls in {} steps", self.steps);
        self.judged = matches!(state, HeartbeatState::Closing | HeartbeatState::Gone);
        self.before = seen;
    }

    fn note(&mut self, step: &Step, now: Time, seen: &Seen) {
        self.steps += 1;
        let anew = match step {
            Step::Stall(time, pong) => {
                self.inputs += 1;
                let time = Duration::from_nanos(*time);
                self.stalled += time;
                self.longest_stall = self.longest_stall.max(time);
                *pong
            }
            Step::Sink(Change::Yield(times)) => {
                self.inputs += 16 * u64::from(*times);
                false
            }
            Step::Pong(_) | Step::Activity | Step::PeerPing => {
                self.inputs += 1;
                true
            }
            Step::Strays(count) => {
                self.inputs += u64::from(*count);
                // With some policies they are proofs, or postpone a ping.
                true
            }
            Step::Resume => {
                self.resumes += 1;
                true
            }
            Step::Pause => true,
            Step::Configure(options) => {
                if !self.judged {
                    // A ping that was out is written off where pings begin or end.
                    let watched = watched(&self.config).is_some();
                    self.resumes += u64::from(watched != options.rule.within().is_some());
                    self.config = options.config();
                    let delay = self.config.initial_delay();
                    self.delay = delay.saturating_sub(self.config.interval());
                }
                true
            }
            _ => false,
        };
        let proofs = |seen: &Seen| seen.answered + seen.stale;
        if proofs(seen) > proofs(&self.before) || anew && self.proves(step) {
            (self.proof, self.stalled) = (now, Duration::ZERO);
        }
    }

    fn proves(&self, step: &Step) -> bool {
        use futures_pinger::Liveness::{AnyPong, Pong};
        let strict = matches!(self.config.liveness(), Pong | AnyPong);
        !strict || matches!(step, Step::Pause | Step::Resume | Step::Configure(_))
    }

    fn check_frames(&self, seen: &Seen) {
        assert!(seen.frames.is_sorted_by_key(|(at, _)| *at));
        assert!(seen.frames.starts_with(&self.before.frames));
        let closes = seen.frames.iter().rev().skip(1);
        let mut closes = closes.filter(|(_, sent)| matches!(sent, Sent::Close(_)));
        assert_eq!(closes.next(), None, "something behind the close frame");
        if self.before.end.is_some() {
            assert_eq!(seen.frames, self.before.frames, "sent after the end");
        }
    }

    fn check_counters(&self, seen: &Seen) {
        let pings = seen.frames.iter();
        let pings = pings.filter(|(_, sent)| matches!(sent, Sent::Ping(_)));
        let pings = pings.count() as u64;
        let settled = seen.answered + seen.missed + self.resumes;
        assert!(pings <= settled + 1, "two pings in flight: {seen:?}");
        assert!(seen.answered + seen.missed <= pings, "{seen:?}");
        assert!(seen.answered <= seen.sent && seen.sent <= pings, "{seen:?}");
        let pongs = seen.stale + seen.unsolicited;
        assert!(pongs <= self.inputs, "{seen:?} of {}", self.inputs);
        let counters = |seen: &Seen| {
            let Seen {
                sent,
                answered,
                missed,
                stale,
                unsolicited,
                ..
            } = seen;
            [*sent, *answered, *missed, *stale, *unsolicited]
        };
        let grown = counters(seen).into_iter().zip(counters(&self.before));
        assert!(grown.into_iter().all(|(now, before)| now >= before));
    }

    fn check_end(&self, seen: &Seen, state: HeartbeatState, now: Time) {
        assert_eq!(
            seen.end.is_some(),
            state == HeartbeatState::Gone,
            "{seen:?}"
        );
        if self.before.end.is_some() {
            assert_eq!(seen.end, self.before.end, "another end");
        }
        let (config, last) = (&self.config, seen.frames.last());
        let (at, end) = match seen.end {
            Some(end) if self.before.end.is_none() => end,
            _ => return,
        };
        assert!(at <= now);
        match end {
            End::NoPong(elapsed, missed, close_sent) => {
                let timeout = match (config.adaptive_timeout(), watched(config)) {
                    (Some(range), _) => *range.start(),
                    (None, Some(within)) => within,
                    (None, None) => config.timeout().expect("no verdict without a timeout"),
                };
                assert!(Duration::from_nanos(elapsed) >= timeout, "early: {seen:?}");
                // More where it was lowered meanwhile.
                let silent = watched(config).is_some();
                assert!(silent || missed >= config.max_missed(), "{seen:?}");
                let closed = matches!(last, Some((_, Sent::Close(_))));
                assert!(closed || !close_sent, "{seen:?}");
                assert!(config.close().is_some() || !closed, "{seen:?}");
                let pings = seen.frames.iter().rev();
                let mut pings = pings.filter(|(_, sent)| matches!(sent, Sent::Ping(_)));
                let sent = pings.next().map_or(0, |(at, _)| *at);
                assert!(
                    silent || at >= sent + elapsed,
                    "before the ping was out: {seen:?}"
                );
            }
            End::NotWritten(elapsed) => {
                let timeout = config.write_timeout();
                assert!(Duration::from_nanos(elapsed) >= timeout, "early: {seen:?}");
                assert!(matches!(last, None | Some((_, Sent::Ping(_)))), "{seen:?}");
            }
            End::Transport | End::PongsEnded | End::Requested => {}
        }
    }

    /// What a probe has come to stands, and none waits where no ping is answered any more.
    fn check_probes(&self, seen: &Seen, state: HeartbeatState) {
        let known = self.before.probes.iter().zip(&seen.probes);
        let mut told = known.filter(|(before, _)| **before != Probed::Waiting);
        assert!(told.all(|(before, now)| before == now), "{seen:?}");
        if let HeartbeatState::Paused | HeartbeatState::Closing | HeartbeatState::Gone = state {
            assert!(!seen.probes.contains(&Probed::Waiting), "{seen:?}");
        }
    }

    /// The heartbeat has ended, or need not have.
    fn check_bound(&self, seen: &Seen, now: Time) {
        let Some(bound) = self.bound() else { return };
        let (at, what) = match seen.end {
            Some((at, _)) if self.before.end.is_none() => (at, "ended"),
            Some(_) => return,
            None => (now, "lives"),
        };
        let bound = nanos(bound.min(Duration::from_secs(u32::MAX.into())));
        let by = self.proof.saturating_add(bound);
        assert!(at <= by, "{what} at {at}, promised for {by}: {seen:?}");
    }

    fn bound(&self) -> Option<Duration> {
        let config = &self.config;
        let timeout = match (config.adaptive_timeout(), watched(config)) {
            (Some(range), _) => *range.end(),
            (None, Some(within)) => within,
            (None, None) => config.timeout()?,
        };
        let longest = self.longest_stall;
        let grace = timeout.min(longest) + config.write_timeout().min(longest);
        let closing = config.close_timeout() + config.granularity();
        let bound = config.detection_bound()?.checked_add(self.delay)?;
        let bound = bound.checked_add(grace.checked_mul(config.max_missed())?)?;
        bound.checked_add(self.stalled)?.checked_add(closing)
    }
}
