//! The bare [`Heartbeat`], driven by hand as its docs say.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{
    Clock, Config, Frame, Heartbeat, HeartbeatState, Instant, Output, Stats, Verdict,
};

use crate::script::{Change, Did, End, Probed, Sink, Step};
use crate::system::{Order, System};

pub struct Bare {
    heartbeat: Heartbeat,
    start: Instant,
    now: Duration,
    sink: Sink,
    frames: Vec<(Duration, Frame)>,
    end: Option<(Duration, End)>,
    polled_more: bool,
    polls: usize,
}

impl Bare {
    fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// One turn; the instant of the next, if any.
    fn turn(&mut self) -> Option<Duration> {
        self.polls += 1;
        self.write();
        if self.end.is_none() {
            self.heartbeat.handle_timeout(self.instant());
        }
        while self.end.is_none() {
            match self.heartbeat.poll_output(self.instant()) {
                Output::Ping | Output::Close(_) => self.write(),
                Output::Wait(next) => {
                    return next.map(|next| next.saturating_duration_since(self.start));
                }
                Output::Done(Verdict::TimedOut(verdict)) => self.finish(verdict.into()),
                Output::Done(_) => self.finish(End::Requested),
            }
        }
        None
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert((self.now, end));
    }

    fn write(&mut self) {
        while self.end.is_none() {
            match self.sink.poll(self.heartbeat.wants_transmit()) {
                Did::Nothing => return,
                Did::Take => {
                    let frame = self.heartbeat.transmit(self.instant());
                    self.frames.push((self.now, frame.expect("it said so")));
                }
                Did::Flush => self.heartbeat.handle_sent(self.instant()),
                Did::Fail if self.heartbeat.is_closing() => {
                    return self.heartbeat.handle_close_failed();
                }
                Did::Fail => self.finish(End::Transport),
            }
        }
    }
}

impl System for Bare {
    fn can(step: &Step) -> bool {
        !matches!(
            step,
            Step::Probe(_) | Step::Suspend(_) | Step::Close | Step::Attach
        )
    }

    fn start(config: Config) -> Self {
        let start = Clock::system().now();
        Self {
            heartbeat: Heartbeat::with_key(config, start, [42; 16]),
            start,
            now: Duration::ZERO,
            sink: Sink::default(),
            frames: Vec::new(),
            end: None,
            polled_more: false,
            polls: 0,
        }
    }

    fn run_until(&mut self, time: Duration) {
        while let Some(next) = self.turn().filter(|next| *next <= time) {
            assert!(next > self.now, "it asked for the past at {next:?}");
            if self.polled_more {
                self.turn();
                self.now += (next - self.now) / 2;
                self.turn();
            }
            self.now = next;
        }
        self.now = time;
        self.turn();
    }

    fn stall_until(&mut self, time: Duration, pong: Option<Bytes>) {
        self.now = time;
        if let Some(payload) = pong {
            self.pong(payload);
        }
    }

    fn pong(&mut self, payload: Bytes) {
        if self.end.is_none() {
            self.heartbeat.handle_pong(&payload, self.instant());
        }
    }

    fn activity(&mut self, is_ping: bool) {
        match is_ping {
            _ if self.end.is_some() => {}
            true => self.heartbeat.handle_ping(self.instant()),
            false => self.heartbeat.handle_activity(self.instant()),
        }
    }

    fn sink(&mut self, change: Change) {
        self.sink.apply(change);
    }

    fn order(&mut self, order: Order) {
        let now = self.instant();
        match order {
            // After the end there is nothing to ping for.
            Order::PingNow => drop(self.heartbeat.ping_now(now)),
            Order::Pause => self.heartbeat.pause(now),
            Order::Resume => self.heartbeat.resume(now),
            Order::Configure(config) => self.heartbeat.set_config(config, now),
            Order::Stop => self.heartbeat.stop(),
            Order::Close | Order::Attach => unreachable!("it has no way to do that"),
        }
    }

    fn suspend(&mut self, _: Duration) {
        panic!("it has no timer");
    }

    fn probe(&mut self, _: Duration) {
        panic!("it has no handle");
    }

    fn probes(&self) -> Vec<Probed> {
        Vec::new()
    }

    fn end_pongs(&mut self) {
        if !self.heartbeat.is_closing() {
            self.finish(End::PongsEnded);
        }
    }

    fn frames(&self) -> Vec<(Duration, Frame)> {
        self.frames.clone()
    }

    fn stats(&self) -> Stats {
        self.heartbeat.stats()
    }

    fn state(&self) -> HeartbeatState {
        match self.end {
            Some(_) => HeartbeatState::Gone,
            None => self.stats().state_at(self.instant()),
        }
    }

    fn end(&self) -> Option<(Duration, End)> {
        self.end
    }

    fn poll_more(&mut self) {
        self.polled_more = true;
    }

    fn move_about(&mut self) {}

    fn polls(&self) -> usize {
        self.polls
    }

    fn drop_heartbeat(&mut self) -> bool {
        self.finish(End::Requested);
        true
    }
}
