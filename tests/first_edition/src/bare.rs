//! The bare [`Heartbeat`], driven by hand as its docs say.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::testing::{Fault, World};
use futures_pinger::{Config, Frame, Heartbeat, Instant, Output, State, Stats, Verdict};

use crate::script::{Change, End};
use crate::system::{Order, System};

/// So many pongs are read in one turn.
const BUDGET: u32 = 64;

/// The state of the sink.
#[derive(Default)]
struct Sink {
    unflushed: bool,
    blocked: bool,
    flush_blocked: bool,
    faults: Vec<Fault>,
}

impl Sink {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Block => self.blocked = true,
            Change::BlockFlush => self.flush_blocked = true,
            Change::Unblock => (self.blocked, self.flush_blocked) = (false, false),
            Change::Fail(fault) => self.faults.push(fault),
        }
    }

    /// Whether that succeeds; none as long as it is blocked.
    fn take(&self, at: Fault, blocked: bool) -> Option<bool> {
        match self.faults.contains(&at) {
            true => Some(false),
            false => (!blocked).then_some(true),
        }
    }
}

pub struct Bare {
    heartbeat: Heartbeat,
    start: Instant,
    now: Duration,
    sink: Sink,
    frames: Vec<(Duration, Frame)>,
    end: Option<(Duration, End)>,
    polled_more: bool,
    polls: usize,
    /// Pongs since the last turn.
    read: u32,
    answers: String,
}

impl Bare {
    fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// One turn; the instant of the next, if any.
    fn turn(&mut self) -> Option<Duration> {
        self.polls += 1;
        self.write();
        let read = std::mem::take(&mut self.read);
        if read > BUDGET && self.end.is_none() {
            // As if it had been read in two turns.
            self.heartbeat.handle_backlog(BUDGET, self.instant());
            self.outputs();
        }
        if self.end.is_none() {
            self.heartbeat.handle_timeout(self.instant());
        }
        self.outputs()
    }

    fn outputs(&mut self) -> Option<Duration> {
        while self.end.is_none() {
            match self.heartbeat.poll_output(self.instant()) {
                Output::Ping | Output::Close(_) => self.write(),
                Output::Wait(next) => {
                    return next.map(|next| next.saturating_duration_since(self.start));
                }
                Output::Done(Verdict::TimedOut(verdict)) => self.finish(verdict.into()),
                Output::Done(_) => self.finish(End::Requested),
                other => panic!("{other:?}"),
            }
        }
        None
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert((self.now, end));
    }

    fn write(&mut self) {
        while self.end.is_none() {
            let sink = &mut self.sink;
            let did = match sink.unflushed {
                true => sink.take(Fault::Flush, sink.flush_blocked),
                false if !self.heartbeat.wants_transmit() => return,
                false => match sink.take(Fault::Ready, sink.blocked) {
                    Some(true) => sink.take(Fault::Send, false),
                    other => other,
                },
            };
            match did {
                None => return,
                Some(false) if self.heartbeat.is_closing() => {
                    return self.heartbeat.handle_close_failed();
                }
                Some(false) => self.finish(End::Transport),
                Some(true) if sink.unflushed => {
                    sink.unflushed = false;
                    self.heartbeat.handle_sent(self.instant());
                }
                Some(true) => {
                    sink.unflushed = true;
                    let frame = self.heartbeat.transmit(self.instant());
                    self.frames.push((self.now, frame.expect("it said so")));
                }
            }
        }
    }
}

impl System for Bare {
    fn start(config: Config) -> Self {
        // A point of the grid.
        let start = World::new().instant(Duration::ZERO);
        Self {
            heartbeat: Heartbeat::with_key(config, start, [42; 16]),
            start,
            now: Duration::ZERO,
            sink: Sink::default(),
            frames: Vec::new(),
            end: None,
            polled_more: false,
            polls: 0,
            read: 0,
            answers: String::new(),
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
            let kind = self.heartbeat.handle_pong(&payload, self.instant());
            self.read += 1;
            self.answers += &format!(" {kind:?}");
        }
    }

    fn activity(&mut self) {
        self.heartbeat.handle_activity(self.instant());
    }

    fn sink(&mut self, change: Change) {
        self.sink.apply(change);
    }

    fn order(&mut self, order: Order) {
        let now = self.instant();
        match order {
            Order::PingNow => self.heartbeat.ping_now(now),
            Order::Pause => self.heartbeat.pause(now),
            Order::Resume => self.heartbeat.resume(now),
            Order::Configure(config) => self.heartbeat.set_config(config, now),
            Order::Stop => self.heartbeat.stop(),
        }
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

    fn state(&self) -> State {
        match self.end {
            Some(_) => State::Gone,
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

    fn answers(&mut self) -> String {
        std::mem::take(&mut self.answers)
    }
}
