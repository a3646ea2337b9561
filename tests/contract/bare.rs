//! The bare [`Heartbeat`] in virtual time, with a sink that is always ready unless told otherwise.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{
    Clock, ConfigBuilder, Frame, Heartbeat, HeartbeatState, Instant, Output, PongKind, Stats,
    TimedOut, Verdict,
};

pub struct Bare {
    pub heartbeat: Heartbeat,
    start: Instant,
    pub now: Duration,
    pub pings: Vec<(Duration, Bytes)>,
    pub closes: usize,
    pub ready: bool,
    /// The verdict and its time.
    pub done: Option<(Duration, Verdict)>,
}

impl Bare {
    pub fn new(config: ConfigBuilder) -> Self {
        let start = Clock::system().now();
        let config = config.build().expect("valid");
        let mut bare = Self {
            heartbeat: Heartbeat::with_key(config, start, [42; 16]),
            start,
            now: Duration::ZERO,
            pings: Vec::new(),
            closes: 0,
            ready: true,
            done: None,
        };
        bare.drive();
        bare
    }

    pub fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// Lets everything happen that is to happen until then, on time.
    pub fn run_until(&mut self, time: Duration) {
        while self.done.is_none() {
            match self.drive() {
                Some(next) if next <= time => {
                    self.now = self.now.max(next);
                    let now = self.instant();
                    self.heartbeat.handle_timeout(now);
                }
                _ => break,
            }
        }
        self.now = time;
        self.drive();
    }

    /// Drains the outputs; the next instant to look at, if any.
    pub fn drive(&mut self) -> Option<Duration> {
        let now = self.instant();
        loop {
            match self.heartbeat.poll_output(now) {
                Output::Ping | Output::Close(_) => self.write(),
                Output::Wait(next) => {
                    return next.map(|next| next.saturating_duration_since(self.start));
                }
                Output::Done(verdict) => {
                    self.done.get_or_insert((self.now, verdict));
                    return None;
                }
            }
        }
    }

    /// The sink is ready again.
    pub fn unblock(&mut self) {
        self.ready = true;
        self.write();
    }

    fn write(&mut self) {
        if !self.ready {
            return;
        }
        let now = self.instant();
        match self.heartbeat.transmit(now) {
            Some(Frame::Ping(payload)) => self.pings.push((self.now, payload)),
            Some(Frame::Close(_)) => self.closes += 1,
            Some(Frame::Pong(_)) => panic!("a heartbeat sends no pongs"),
            None => return,
        }
        self.heartbeat.handle_sent(now);
    }

    /// The newest ping's pong arrives now.
    pub fn answer(&mut self) -> PongKind {
        let ping = self.pings.len() - 1;
        self.pong_of(ping)
    }

    pub fn pong_of(&mut self, ping: usize) -> PongKind {
        let payload = self.pings[ping].1.clone();
        let now = self.instant();
        let kind = self.heartbeat.handle_pong(&payload, now);
        self.drive();
        kind
    }

    pub fn set_config(&mut self, config: ConfigBuilder) {
        let config = config.build().expect("valid");
        let now = self.instant();
        self.heartbeat.set_config(config, now);
        self.drive();
    }

    pub fn times(&self) -> Vec<Duration> {
        self.pings.iter().map(|(at, _)| *at).collect()
    }

    pub fn stats(&self) -> Stats {
        self.heartbeat.stats()
    }

    pub fn state(&self) -> HeartbeatState {
        self.stats().state_at(self.instant())
    }

    #[track_caller]
    pub fn timed_out(&self) -> (Duration, TimedOut) {
        match self.done {
            Some((at, Verdict::TimedOut(verdict))) => (at, verdict),
            other => panic!("no verdict but {other:?}"),
        }
    }
}
