//! What a heartbeat does, in 60 lines (lone braces apart) that were written from the contract and not from the
//! code; the line of the contract stands behind its rule. Exact where nothing stalls, or nothing grants a grace.

use crate::script::{Did, End, Options, Phase::{self, *}, Seen, Sent, Sink, Step, Time};
#[derive(Debug, Clone, Default)] pub struct Model {
    pub o: Options, pub now: Time, pub phase: Phase, pub seen: Seen, sink: Sink, misses: u32, last: u64,
    begun: bool, base: Time, due: Time, since: Time, deadline: Time, pings: u64, open: bool, flight: Option<Time>, proved: u64,
}
impl Model {
    pub fn new(o: Options) -> Self { let mut new = Self { o, due: o.initial_delay, ..Self::default() }; new.settle(); new } // A2
    pub fn step(&mut self, step: &Step) {
        match (step, self.phase) {
            (Step::Pass(time), _) => self.pass(self.now + time),
            (Step::Stall(time, _), _) => self.now += time,
            (Step::Sink(change), _) => self.sink.apply(*change),
            (Step::Stop, _) => self.end(End::Requested), // J67
            (_, Closing(..) | Gone) => {} // D27
            (Step::EndPongs, _) => self.end(End::PongsEnded), // E34
            (Step::PingsNow(1..), Idle | Offered(_)) => { if self.phase == Idle { self.wait(Idle, self.o.write_timeout); } self.phase = Offered("request"); } // J66
            (Step::Pause, _) => self.phase = Paused, // J65
            (Step::Resume, Paused) => { (self.phase, self.misses, self.open, self.flight) = (Idle, 0, false, None); self.count_from(self.now); }
            (Step::Configure(o), _) => self.configure(*o), // J63
            _ => {} // B18: activity means nothing where a pong must answer.
        }
        for ping in step.pongs(self.pings, &mut self.last) { self.pong(ping); } // D25, F39: before anything is judged.
        self.settle();
    }
    fn pass(&mut self, end: Time) { while self.look() <= end { self.now = self.look(); self.settle(); } self.now = end; }
    fn look(&self) -> Time { match self.phase { Idle => self.due, Paused | Gone => Time::MAX, _ => self.deadline } }
    fn wait(&mut self, phase: Phase, time: Time) { (self.phase, self.since, self.deadline) = (phase, self.now, self.now + time); }
    fn count_from(&mut self, base: Time) { (self.begun, self.base, self.due) = (true, base, base + self.o.interval); }
    fn settle(&mut self) { self.write(); if self.now >= self.look() { self.judge(); } self.write(); } // A flush that completes now is in time.
    fn judge(&mut self) { match self.phase {
        Idle => self.wait(Offered("schedule"), self.o.write_timeout), // A3
        Waiting => self.miss(), // D24
        _ => self.end(End::NotWritten(self.now - self.since)), // C20, C21, E30
    } }
    fn write(&mut self) { while self.phase != Gone { match (self.sink.poll(matches!(self.phase, Offered(_) | Closing(..))), self.phase) { // C23
        (Did::Nothing, _) => return,
        (Did::Fail, _) => self.end(End::Transport), // E35
        (Did::Take, Closing(..)) => self.seen.frames.push((self.now, Sent::Close(1011))), // E29
        (Did::Take, cause) => self.hand_over(cause == Offered("request")),
        (Did::Flush, Closing(..)) => self.end(End::Requested), // The verdict: E29.
        (Did::Flush, phase) => { self.seen.sent = self.pings; if phase == Flushing { self.wait(Waiting, self.o.timeout); self.flight = Some(self.now); } }
    } } }
    fn hand_over(&mut self, requested: bool) {
        (self.phase, self.pings, self.open, self.flight) = (Flushing, self.pings + 1, true, Some(self.now));
        self.seen.frames.push((self.now, Sent::Ping(self.pings)));
        if requested { self.count_from(self.now); } else if self.due <= self.now { self.count_from(self.now - (self.now - self.due) % self.o.interval); } // A4, A5, J66
    }
    fn miss(&mut self) {
        (self.misses, self.seen.missed, self.open, self.flight) = (self.misses + 1, self.seen.missed + 1, false, None);
        if self.misses < self.o.max_missed { return self.wait(Offered("miss"), self.o.write_timeout); } // D26
        self.phase = Closing(self.now - self.since, self.misses);
        match self.o.close_timeout { Some(time) => self.deadline = self.now + time, None => self.end(End::Requested) } // E29, E31
    }
    fn end(&mut self, end: End) { // A verdict that has fallen stands.
        let end = match self.phase { Gone => return, Closing(elapsed, missed) => End::NoPong(elapsed, missed, self.sink.has_flushed() && self.seen.has_closed()), _ => end };
        (self.phase, self.open, self.flight, self.seen.end) = (Gone, false, None, Some((self.now, end)));
    }
    fn pong(&mut self, ping: u64) {
        if ping <= self.proved { return self.seen.unsolicited += u64::from(!self.o.any_pong || !self.answer()); } // B10 to B17
        (self.proved, self.misses) = (ping, 0); let Some(sent) = self.flight.filter(|_| ping == self.pings) else { return self.seen.stale += 1; }; // B12
        let late = match self.phase { Flushing | Waiting => self.now > self.deadline, phase => phase == Paused }; if !late { self.seen.rtt = Some(self.now - sent); } // B9
        (_, self.flight) = (self.answer(), None);
    }
    fn answer(&mut self) -> bool {
        if self.open { (self.misses, self.seen.answered, self.seen.sent) = (0, self.seen.answered + 1, self.pings); if self.phase != Paused { self.phase = Idle; } }
        std::mem::take(&mut self.open)
    }
    fn configure(&mut self, o: Options) {
        (self.o, self.deadline) = (o, (self.since + if self.phase == Waiting { o.timeout } else { o.write_timeout }).max(self.now + 1));
        if self.phase != Offered("schedule") { self.due = if !self.begun { o.initial_delay } else { self.base + o.interval }; } // J64
    }
}
