//! What a heartbeat does, in 60 lines (lone braces apart) that were written from the contract and not
//! from the code; the line of the contract stands behind its rule. Exact where nothing stalls, or where
//! nothing grants a grace for it.

use crate::script::{End, Options, Phase::{self, *}, Seen, Sent, Sink, Step, Time};
use std::task::Poll::{Pending, Ready};

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub o: Options, pub now: Time, pub phase: Phase, pub seen: Seen, sink: Sink, unflushed: bool, misses: u32, last: u64,
    base: Time, due: Time, since: Time, deadline: Time, // the grid, and the wait that goes on
    pings: u64, open: bool, flight: Option<Time>, proved: u64, // the newest ping, and the newest that a pong proved
}

impl Model {
    pub fn new(o: Options) -> Self { let mut new = Self { o, due: o.initial_delay, ..Self::default() }; new.settle(); new } // A2
    pub fn step(&mut self, step: &Step) {
        match (step, self.phase) {
            (Step::Pass(time), _) => { let end = self.now + time; while self.look() <= end { self.now = self.look(); self.settle(); } self.now = end; }
            (Step::Stall(time, pong), _) => { self.now += time; if *pong { self.pong(self.pings); } } // F39
            (Step::Sink(change), _) => self.sink.apply(*change),
            (Step::Stop, _) => self.end(End::Requested), // J67
            (_, Closing(..) | Gone) => {} // D27
            (Step::Pong(pong), _) => { let ping = pong.number(self.pings, &mut self.last); self.pong(ping); }
            (Step::Strays(count), _) => (0..*count).for_each(|_| self.pong(0)),
            (Step::EndPongs, _) => self.end(End::PongsEnded), // E34
            (Step::PingsNow(1..), Idle) => self.offer("request"), // J66
            (Step::PingsNow(1..), Offered(_)) => self.phase = Offered("request"),
            (Step::Pause, _) => self.phase = Paused, // J65
            (Step::Resume, Paused) => { (self.phase, self.misses, self.open, self.flight) = (Idle, 0, false, None); self.count_from(self.now); }
            (Step::Configure(o), _) => self.configure(*o),
            _ => {} // Activity means nothing where a pong must answer.
        }
        self.settle();
    }
    fn look(&self) -> Time { match self.phase { Idle => self.due, Paused | Gone => Time::MAX, _ => self.deadline } }
    fn settle(&mut self) {
        self.write(); // A flush that completes now is in time.
        match self.phase {
            _ if self.now < self.look() => {}
            Idle => self.offer("schedule"), // A3
            Waiting => self.miss(), // D24
            _ => self.end(End::NotWritten(self.now - self.since)), // C20, C21, E30
        }
        self.write();
    }
    fn write(&mut self) { while self.unflushed || matches!(self.phase, Offered(_) | Closing(..)) { // C23
        match (if self.unflushed { self.sink.flush() } else { self.sink.ready() }, self.unflushed, self.phase) {
            (Pending, ..) => return,
            (Ready(false), ..) => self.end(End::Transport), // E35
            (_, true, Closing(..)) => { self.unflushed = false; self.end(End::Requested); } // E29
            (_, false, Closing(..)) => { self.unflushed = true; self.seen.frames.push((self.now, Sent::Close(1011))); }
            (_, true, phase) => { (self.unflushed, self.seen.sent) = (false, self.pings); if phase == Flushing { self.wait(Waiting, self.o.timeout); self.flight = Some(self.now); } }
            (_, false, phase) => {
                (self.pings, self.phase, self.unflushed, self.open, self.flight) = (self.pings + 1, Flushing, true, true, Some(self.now));
                self.seen.frames.push((self.now, Sent::Ping(self.pings)));
                if phase == Offered("request") { self.count_from(self.now); } // J66
                else if self.due <= self.now { self.count_from(self.now - (self.now - self.due) % self.o.interval); } // A4, A5
            }
    } } }
    fn wait(&mut self, phase: Phase, time: Time) { (self.phase, self.since, self.deadline) = (phase, self.now, self.now + time); }
    fn offer(&mut self, cause: &'static str) { self.wait(Offered(cause), self.o.write_timeout); }
    fn count_from(&mut self, base: Time) { (self.base, self.due) = (base, base + self.o.interval); }
    fn miss(&mut self) {
        (self.misses, self.seen.missed, self.open, self.flight) = (self.misses + 1, self.seen.missed + 1, false, None);
        if self.misses < self.o.max_missed { return self.offer("miss"); } // D26
        self.wait(Closing(self.now - self.since, self.misses), self.o.close_timeout.unwrap_or(0)); // E29
        if self.o.close_timeout.is_none() { self.end(End::Requested); } // E31
    }
    fn end(&mut self, end: End) { // A verdict that has fallen stands.
        let closed = !self.unflushed && matches!(self.seen.frames.last(), Some((_, Sent::Close(_))));
        let end = match self.phase { Gone => return, Closing(elapsed, missed) => End::NoPong(elapsed, missed, closed), _ => end };
        (self.phase, self.unflushed, self.open, self.flight, self.seen.end) = (Gone, false, false, None, Some((self.now, end)));
    }
    fn pong(&mut self, ping: u64) { // B10 to B17
        if ping <= self.proved { let any = self.o.any_pong && self.answer(); self.seen.unsolicited += u64::from(!any); return; }
        (self.proved, self.misses) = (ping, 0);
        let Some(sent) = self.flight.filter(|_| ping == self.pings) else { self.seen.stale += 1; return; }; // B12
        if !matches!(self.phase, Flushing | Waiting) || self.now <= self.deadline { self.seen.rtt = Some(self.now - sent); } // B9, B15
        self.answer(); self.flight = None;
    }
    fn answer(&mut self) -> bool {
        if self.open { (self.misses, self.seen.answered, self.seen.sent) = (0, self.seen.answered + 1, self.pings); if self.phase != Paused { self.phase = Idle; } }
        std::mem::take(&mut self.open)
    }
    fn configure(&mut self, o: Options) { // J63, J64
        self.o = o;
        if self.phase != Offered("schedule") { self.due = if self.pings + self.base == 0 { o.initial_delay } else { self.base + o.interval }; }
        let time = if self.phase == Waiting { o.timeout } else { o.write_timeout };
        if let Offered(_) | Flushing | Waiting = self.phase { self.deadline = (self.since + time).max(self.now + 1); }
    }
}
