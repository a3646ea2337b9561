//! One heartbeat, whatever carries it: what the tests of section R run each surface by.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{
    Config, ConfigBuilder, Controller, Error, Frame, HeartbeatState, Liveness, Stats, TimedOut,
    Verdict,
};

use crate::bare::Bare;
use crate::socket::{Kept, Msg};
use crate::world::{Path, Rig};

/// One heartbeat, whatever carries it.
pub enum Surface {
    Rig(Path, Box<Rig>),
    KeepAlive(Box<Kept>),
    Bare(Box<Bare>),
}

/// Runs a test on each surface.
pub fn each_surface(config: &ConfigBuilder, test: impl Fn(Surface)) {
    for surface in surfaces(config) {
        test(surface);
    }
}

pub fn surfaces(config: &ConfigBuilder) -> Vec<Surface> {
    let rig = |path| Surface::Rig(path, Box::new(Rig::new(path, config.clone())));
    vec![
        Surface::Bare(Box::new(Bare::new(config.clone()))),
        rig(Path::Slot),
        rig(Path::Stream),
        rig(Path::Set),
        Surface::KeepAlive(Box::new(Kept::new(config.clone()))),
    ]
}

/// Runs a test on each surface that has a [`Controller`].
pub fn each_steered(config: &ConfigBuilder, test: impl Fn(Surface, Controller)) {
    for mut surface in surfaces(config) {
        let controller = match &mut surface {
            Surface::Rig(Path::Slot | Path::Stream, rig) => rig.controller(),
            Surface::KeepAlive(kept) => kept.alive.controller(),
            Surface::Rig(Path::Set, _) | Surface::Bare(_) => continue,
        };
        test(surface, controller);
    }
}

impl Surface {
    pub fn name(&self) -> String {
        match self {
            Self::Rig(path, _) => format!("{path:?}"),
            Self::KeepAlive(_) => "KeepAlive".into(),
            Self::Bare(_) => "Bare".into(),
        }
    }

    pub fn run_until(&mut self, time: Duration) {
        match self {
            Self::Rig(_, rig) => rig.run_until(time),
            Self::KeepAlive(kept) => kept.run_until(time),
            Self::Bare(bare) => bare.run_until(time),
        }
    }

    pub fn now(&self) -> Duration {
        match self {
            Self::Rig(_, rig) => rig.world.elapsed(),
            Self::KeepAlive(kept) => kept.world.elapsed(),
            Self::Bare(bare) => bare.now,
        }
    }

    pub fn state(&self) -> HeartbeatState {
        match self {
            Self::Rig(_, rig) => rig.stats().state_at(rig.world.instant(self.now())),
            Self::KeepAlive(kept) => kept.stats().state_at(kept.world.instant(self.now())),
            Self::Bare(bare) => bare.state(),
        }
    }

    /// A pong arrives, and is not read where reading is up to the heartbeat's task.
    pub fn arrives(&mut self, payload: Bytes) {
        match self {
            Self::Rig(_, rig) => rig.reader.handle_pong(payload),
            Self::KeepAlive(kept) => kept.script.receive(Msg::Pong(payload)),
            Self::Bare(bare) => {
                let now = bare.instant();
                bare.heartbeat.handle_pong(&payload, now);
            }
        }
    }

    /// Data arrives; a stream of pongs has none.
    pub fn activity(&mut self) {
        match self {
            Self::Rig(Path::Stream, _) => panic!("a stream has pongs only"),
            Self::Rig(_, rig) => rig.reader.handle_activity(),
            Self::KeepAlive(kept) => kept.script.receive(Msg::Data(0)),
            Self::Bare(bare) => {
                let now = bare.instant();
                bare.heartbeat.handle_activity(now);
            }
        }
    }

    /// Something else than a pong arrives, on any surface: a ping of the peer's, or data. A socket is read
    /// with the next run.
    pub fn message(&mut self, is_ping: bool) {
        match self {
            Self::Rig(Path::Stream, rig) => {
                // What reads the socket beside the pongs has a controller.
                let controller = rig.controller();
                let told = match is_ping {
                    true => controller.handle_ping(),
                    false => controller.handle_activity(),
                };
                told.expect("it goes on");
            }
            Self::Rig(_, rig) if is_ping => rig.reader.handle_ping(),
            Self::Rig(_, rig) => rig.reader.handle_activity(),
            Self::KeepAlive(kept) if is_ping => kept.script.receive(Msg::Ping("peer's".into())),
            Self::KeepAlive(kept) => kept.script.receive(Msg::Data(0)),
            Self::Bare(bare) => {
                let now = bare.instant();
                match is_ping {
                    true => bare.heartbeat.handle_ping(now),
                    false => bare.heartbeat.handle_activity(now),
                }
                bare.drive();
            }
        }
    }

    /// The phase and the time of the verdict.
    #[track_caller]
    pub fn timed_out(&self) -> (Duration, TimedOut) {
        match self {
            Self::Rig(_, rig) => rig.verdict(),
            Self::KeepAlive(kept) => kept.verdict(),
            Self::Bare(bare) => bare.timed_out(),
        }
    }

    /// How many close frames were sent.
    pub fn closes(&self) -> usize {
        match self {
            Self::Rig(_, rig) => {
                let frames = rig.sink.frames().into_iter();
                frames
                    .filter(|(_, frame)| matches!(frame, Frame::Close(_)))
                    .count()
            }
            Self::KeepAlive(kept) => {
                let sent = kept.script.sent().into_iter();
                sent.filter(|(_, message)| *message == Msg::Close).count()
            }
            Self::Bare(bare) => bare.closes,
        }
    }

    pub fn pings(&self) -> Vec<Duration> {
        match self {
            Self::Rig(_, rig) => rig.sink.pings(),
            Self::KeepAlive(kept) => kept.script.pings(),
            Self::Bare(bare) => bare.times(),
        }
    }

    pub fn payload(&self, ping: usize) -> Bytes {
        match self {
            Self::Rig(_, rig) => rig.sink.payload(ping),
            Self::KeepAlive(kept) => {
                let sent = kept.script.sent().into_iter();
                let mut pings = sent.filter_map(|(_, message)| match message {
                    Msg::Ping(payload) => Some(payload),
                    _ => None,
                });
                pings.nth(ping).expect("it was sent")
            }
            Self::Bare(bare) => bare.pings[ping].1.clone(),
        }
    }

    pub fn stats(&self) -> Stats {
        match self {
            Self::Rig(_, rig) => rig.stats(),
            Self::KeepAlive(kept) => kept.stats(),
            Self::Bare(bare) => bare.stats(),
        }
    }

    /// When the verdict fell, if it has.
    pub fn verdict(&self) -> Option<Duration> {
        match self {
            Self::Rig(_, rig) => rig.outcome().map(|outcome| match outcome {
                Err(Error::Timeout(_)) => rig.ended_at().expect("it has ended"),
                other => panic!("{other:?}"),
            }),
            Self::KeepAlive(kept) => match kept.read.last() {
                Some((at, Err(Error::Timeout(_)))) => Some(*at),
                Some((_, Err(other))) => panic!("{other:?}"),
                _ => None,
            },
            Self::Bare(bare) => bare.done.map(|(at, verdict)| match verdict {
                Verdict::TimedOut(_) => at,
                other => panic!("{other:?}"),
            }),
        }
    }
}

/// Sent, answered, missed, stale, unsolicited.
pub fn counters(stats: Stats) -> [u64; 5] {
    [
        stats.sent(),
        stats.answered(),
        stats.missed(),
        stats.stale(),
        stats.unsolicited(),
    ]
}

pub fn trusting(max_unproven: Duration) -> Liveness {
    Liveness::Activity { max_unproven }
}

pub fn build(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}
