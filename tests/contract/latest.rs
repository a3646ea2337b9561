//! How late a verdict comes at the latest, in each mode, beside what the docs promise.

use std::time::Duration;

use futures_pinger::{Config, ConfigBuilder, HeartbeatState, Liveness};

use crate::every_surface::{Surface, build, surfaces};
use crate::world::{ms, s};

/// What counts as life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pong,
    AnyPong,
    Activity,
    Traffic,
    Watch,
    WatchPings,
}

const MODES: [Mode; 6] = [
    Mode::Pong,
    Mode::AnyPong,
    Mode::Activity,
    Mode::Traffic,
    Mode::Watch,
    Mode::WatchPings,
];

/// How often the script acts.
const STEP: Duration = Duration::from_millis(100);

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    /// Below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// One script: a peer that answers and talks for a while, and then falls silent, behind a sink that takes each
/// ping as late as it may.
struct Life {
    mode: Mode,
    config: ConfigBuilder,
    /// How long the sink keeps a ping waiting.
    blocks: Duration,
    max_unproven: Duration,
    random: Random,
}

impl Life {
    fn new(mode: Mode, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut time = |from: u64, to: u64| ms(100) * (from + random.below(to - from)) as u32;
        let (interval, timeout, write_timeout) = (time(20, 100), time(10, 60), time(10, 60));
        let (within, max_unproven) = (time(20, 100), time(50, 300));
        let config = Config::builder()
            .granularity([Duration::ZERO, ms(100)][random.below(2) as usize])
            .no_close();
        let config = match mode {
            Mode::Watch => config.watch(within),
            Mode::WatchPings => config.watch_pings(within),
            mode => config
                .interval(interval)
                .timeout(timeout)
                .write_timeout(write_timeout)
                .max_missed(1 + random.below(3) as u32)
                .liveness(match mode {
                    Mode::AnyPong => Liveness::AnyPong,
                    Mode::Activity => Liveness::Activity { max_unproven },
                    Mode::Traffic => Liveness::Traffic { max_unproven },
                    _ => Liveness::Pong,
                }),
        };
        Self {
            mode,
            config,
            blocks: write_timeout - STEP,
            max_unproven,
            random,
        }
    }

    /// Whether a message is a proof of life, where the last pong of a ping came at `pong`.
    fn proves(&self, is_ping: bool, now: Duration, pong: Duration) -> bool {
        match self.mode {
            Mode::Pong | Mode::AnyPong => false,
            Mode::Activity | Mode::Traffic => now < pong + self.max_unproven,
            Mode::Watch => true,
            Mode::WatchPings => is_ping,
        }
    }

    /// How long after the last proof of life the verdict falls.
    fn run(mut self, mut surface: Surface) -> Duration {
        let silent_from = s(20) + ms(self.random.below(20_000));
        let (mut proof, mut pong) = (Duration::ZERO, Duration::ZERO);
        let mut sending = None;
        surface.set_blocked(true);
        loop {
            let now = surface.now() + STEP;
            surface.run_until(now);
            if let Some(verdict) = surface.verdict() {
                return verdict - proof;
            }
            // The sink takes a ping just in time.
            if surface.state() == HeartbeatState::Sending {
                let since = *sending.get_or_insert(now);
                if now >= since + self.blocks.saturating_sub(STEP) {
                    surface.set_blocked(false);
                    surface.run_until(now);
                    surface.set_blocked(true);
                    sending = None;
                }
            }
            assert!(now < s(300), "it lives on without a peer");
            if now > silent_from {
                continue;
            }
            let before = surface.stats();
            // The pong may come just before its deadline, and more than once.
            let state = surface.state();
            let waits = matches!(state, HeartbeatState::Waiting | HeartbeatState::Suspect);
            if waits && self.random.below(8) == 0 {
                let newest = surface.payload(surface.pings().len() - 1);
                surface.arrives(newest);
                surface.run_until(now);
                let after = surface.stats();
                if after.answered() + after.stale() > before.answered() + before.stale() {
                    (proof, pong) = (now, now);
                }
            }
            if self.random.below(16) == 0 {
                let is_ping = self.random.below(2) == 0;
                surface.message(is_ping);
                surface.run_until(now);
                if self.proves(is_ping, now, pong) {
                    proof = now;
                }
            }
        }
    }
}

impl Surface {
    fn set_blocked(&mut self, blocked: bool) {
        match (self, blocked) {
            (Self::Rig(_, rig), true) => rig.sink.block(),
            (Self::Rig(_, rig), false) => rig.sink.unblock(),
            (Self::KeepAlive(kept), true) => kept.script.block(),
            (Self::KeepAlive(kept), false) => kept.script.unblock(),
            (Self::Bare(bare), true) => bare.ready = false,
            (Self::Bare(bare), false) => bare.unblock(),
        }
    }
}

// contract: P99 P100
#[test]
fn the_latest_verdict_of_each_mode_is_within_its_bound_and_comes_near_it() {
    for mode in MODES {
        let mut nearest = 0.0_f64;
        for seed in 0..40 {
            let life = || Life::new(mode, seed);
            let bound = build(life().config)
                .detection_bound()
                .expect("there is one");
            for surface in surfaces(&life().config) {
                let name = format!("{mode:?}, {}, {seed}", surface.name());
                let took = life().run(surface);
                assert!(took <= bound, "{name}: {took:?}, promised {bound:?}");
                nearest = nearest.max(took.as_secs_f64() / bound.as_secs_f64());
            }
        }
        // A bound that nobody needs would be as wrong.
        assert!(nearest >= 0.9, "{mode:?}: {nearest}");
    }
}
