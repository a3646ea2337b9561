//! What a heartbeat does, in little more than 100 lines (lone braces apart) that were written from the contract and
//! not from the code; the line of the contract stands behind its rule. Exact where nothing stalls, or nothing grants a
//! grace.

use crate::script::{Did, End, MILLISECOND, Options, Phase::{self, *}, Probed, Rule, Seen, Sent, Sink, Step, Time};
use futures_pinger::ProbeError;
#[derive(Debug, Clone, Default)] pub struct Model {
    pub o: Options, pub now: Time, pub phase: Phase, pub seen: Seen, sink: Sink, misses: u32, last: u64,
    begun: bool, base: Time, due: Time, since: Time, deadline: Time, pings: u64, open: bool, flight: Option<Time>, proved: u64, proof: Time, doubt: bool, asked: bool, moved: bool,
    probed_by: Vec<Time>,
}
impl Model {
    pub fn new(o: Options) -> Self { let mut new = Self { o, due: o.initial_delay, ..Self::default() }; new.watch(); new.settle(); new } // A2
    pub fn step(&mut self, step: &Step) {
        match (step, self.phase) {
            (Step::Pass(time), _) => self.pass(self.now + time),
            (Step::Stall(time, _), _) => self.now += time,
            (Step::Sink(change), _) => self.sink.apply(*change),
            (Step::Stop, _) => self.end(End::Requested), // J67
            (Step::Probe(within), _) => self.probe(*within),
            (_, Closing(..) | Gone) => {} // D27
            (Step::Close, _) => { (self.asked, self.open, self.flight) = (true, false, None); let time = self.o.close_timeout.unwrap_or(1_000_000_000); self.wait(Closing(0, 0), time); self.tell(Probed::Refused(ProbeError::Closing)); } // Q112, P101
            (Step::EndPongs, _) => self.end(End::PongsEnded), // E34
            (Step::PingsNow(1..), _) => self.ping_now(),
            (Step::Suspend(time), _) if *time > self.o.interval => self.ping_now(), // P107
            (Step::Pause, _) => { self.phase = Paused; self.tell(Probed::Refused(ProbeError::Paused)); } // J65, P101
            (Step::Resume, Paused) => self.begin_anew(),
            (Step::Configure(o), _) => self.configure(*o), // J63
            (Step::Activity | Step::PeerPing, _) => { self.hear(*step == Step::PeerPing); }
            _ => {}
        }
        for ping in step.pongs(self.pings, &mut self.last) { self.pong(ping); } // D25, F39: before anything is judged.
        self.settle();
    }
    fn pass(&mut self, end: Time) { while self.next() <= end { self.now = self.next(); self.settle(); } self.now = end; }
    fn next(&self) -> Time { self.probed().min().unwrap_or(Time::MAX).min(self.look()) }
    fn ping_now(&mut self) { if let Idle | Offered(_) = self.phase { if self.phase == Idle { self.wait(Idle, self.o.write_timeout); } self.phase = Offered("request"); } } // J66
    fn probe(&mut self, within: Time) { // P101
        let refused = match self.phase { Paused => Some(ProbeError::Paused), Closing(..) => Some(ProbeError::Closing), Gone => Some(ProbeError::Ended), Watching => Some(ProbeError::Watching), _ => None };
        if refused.is_none() { self.ping_now(); }
        self.seen.probes.push(refused.map_or(Probed::Waiting, Probed::Refused));
        self.probed_by.push(self.now + within);
    }
    fn probed(&self) -> impl Iterator<Item = Time> + '_ { std::iter::zip(&self.seen.probes, &self.probed_by).filter(|(told, _)| **told == Probed::Waiting).map(|(_, by)| *by) }
    pub fn is_probed(&self) -> bool { self.probed().next().is_some() }
    fn tell(&mut self, told: Probed) { for probe in &mut self.seen.probes { if *probe == Probed::Waiting { *probe = told; } } }
    fn give_probes_up(&mut self) { for (told, by) in std::iter::zip(&mut self.seen.probes, &self.probed_by) { if *told == Probed::Waiting && *by <= self.now { *told = Probed::Late; } } }
    fn look(&self) -> Time { match self.phase { Idle => self.due, Paused | Gone => Time::MAX, _ => self.deadline } }
    fn wait(&mut self, phase: Phase, time: Time) { (self.phase, self.since, self.deadline, self.moved) = (phase, self.now, self.now + time, false); }
    fn begin_anew(&mut self) { // J65, P100
        self.doubt |= self.open;
        (self.phase, self.misses, self.open, self.flight, self.proof) = (Idle, 0, false, None, self.now);
        if self.watch() { self.tell(Probed::Refused(ProbeError::Watching)); } else { self.count_from(self.now); }
    }
    fn watch(&mut self) -> bool { self.o.rule.within().map(|within| self.wait(Watching, within)).is_some() }
    fn hear(&mut self, ping: bool) -> bool { match (self.o.rule, self.phase) { // B18: it means nothing where a pong must answer.
        (Rule::Watch(_), Watching) => { self.watch(); false } // P100
        (Rule::WatchPings(_), Watching) => { let _ = ping && self.watch(); false }
        (Rule::Traffic(trusted), Flushing | Waiting) => self.now < self.proof + trusted && self.answer(), // P99, B19
        (Rule::Traffic(trusted), Idle | Offered(_)) => { if self.now < self.proof + trusted { self.misses = 0; } false }
        _ => false,
    } }
    fn count_from(&mut self, base: Time) { (self.begun, self.base, self.due) = (true, base, base + self.o.interval); }
    fn settle(&mut self) { self.write(); if self.now >= self.look() { self.judge(); } self.write(); self.give_probes_up(); } // A flush that completes now is in time.
    fn judge(&mut self) { match self.phase {
        Idle => self.wait(Offered("schedule"), self.o.write_timeout), // A3
        Waiting => self.miss(), // D24
        Watching => self.condemn(), // P100
        _ => self.end(End::NotWritten(self.now - self.since)), // C20, C21, E30
    } }
    fn write(&mut self) { while self.phase != Gone { match (self.sink.poll(matches!(self.phase, Offered(_) | Closing(..))), self.phase) { // C23
        (Did::Nothing, _) => return,
        (Did::Fail, _) => self.end(End::Transport), // E35
        (Did::Take, Closing(..)) => self.seen.frames.push((self.now, Sent::Close(if self.asked { 1001 } else { 1011 }))), // E29, Q112
        (Did::Take, cause) => self.hand_over(cause == Offered("request")),
        (Did::Flush, Closing(..)) if self.seen.has_closed() => self.end(End::Requested), // The verdict: E29.
        (Did::Flush, phase) => { self.seen.sent = self.pings; if phase == Flushing { self.wait(Waiting, self.o.timeout); self.flight = Some(self.now); } }
    } } }
    fn hand_over(&mut self, requested: bool) {
        (self.phase, self.pings, self.open, self.flight) = (Flushing, self.pings + 1, true, Some(self.now));
        self.seen.frames.push((self.now, Sent::Ping(self.pings)));
        if requested { self.count_from(self.now); } else if self.due <= self.now { self.count_from(self.now - (self.now - self.due) % self.o.interval); } // A4, A5, J66
    }
    fn miss(&mut self) {
        (self.misses, self.seen.missed, self.open, self.flight, self.doubt) = (self.misses + 1, self.seen.missed + 1, false, None, true);
        if self.misses < self.o.max_missed { return self.wait(Offered("miss"), self.o.write_timeout); } // D26
        self.condemn();
    }
    fn condemn(&mut self) {
        self.phase = Closing(self.now - self.since, self.misses);
        if self.o.close_timeout.is_some() { self.tell(Probed::Refused(ProbeError::Closing)); } // P101
        match self.o.close_timeout { Some(time) => self.deadline = self.now + time, None => self.end(End::Requested) } // E29, E31
    }
    fn end(&mut self, end: End) { // A verdict that has fallen stands.
        let end = match self.phase { Gone => return, Closing(..) if self.asked => End::Requested, Closing(elapsed, missed) => End::NoPong(elapsed, missed, self.sink.has_flushed() && self.seen.has_closed()), _ => end };
        (self.phase, self.open, self.flight, self.seen.end) = (Gone, false, None, Some((self.now, end)));
        self.tell(Probed::Refused(ProbeError::Ended)); // P101
    }
    fn pong(&mut self, ping: u64) {
        if ping <= self.proved { return self.seen.unsolicited += u64::from(!self.stray()); } // B10 to B17
        (self.proved, self.misses, self.proof) = (ping, 0, self.now);
        if self.flight.is_none() || ping < self.pings { (self.seen.stale, self.doubt) = (self.seen.stale + 1, self.doubt && ping + 1 < self.pings); if self.phase == Watching { self.hear(false); } return; } // B12
        self.measure(); // B9
        (_, self.flight) = (self.answer(), None);
    }
    fn stray(&mut self) -> bool {
        if self.o.rule != Rule::AnyPong { return self.hear(false); }
        if self.open && !self.doubt { self.measure(); } // P106
        self.answer()
    }
    fn measure(&mut self) {
        let late = match self.phase { Flushing | Waiting => self.now > self.deadline, phase => phase == Paused };
        if let (false, Some(sent)) = (late, self.flight) { self.seen.rtt = Some(self.now - sent); }
    }
    fn answer(&mut self) -> bool {
        self.doubt &= !self.open;
        if let (true, Some(sent)) = (self.open, self.flight) { self.tell(Probed::RoundTrip(self.now - sent)); } // P101
        if self.open { (self.misses, self.seen.answered, self.seen.sent) = (0, self.seen.answered + 1, self.pings); if self.phase != Paused { self.phase = Idle; } }
        std::mem::take(&mut self.open)
    }
    pub fn is_overdue_by(&self, o: &Options) -> bool { // Q110: such a ping is spread, by a share that the model does not know.
        let due = if self.begun { self.base + o.interval } else { o.initial_delay };
        o.rule.within().is_none() && (self.o.rule.within().is_some() || due <= self.now && self.now < self.due)
    }
    fn timeout(&self) -> Time { match self.phase { Watching => self.o.rule.within().unwrap_or(0), Waiting => self.o.timeout, _ => self.o.write_timeout } }
    fn rejudge(&mut self, timeout: Time) { // J63: from its own sending; once its checkpoint is past, a slack from now, and that once.
        let (own, slack) = (self.since + timeout, if self.o.stall_grace { (timeout / 8).clamp(10 * MILLISECOND, 1000 * MILLISECOND).min(timeout / 2) } else { 0 });
        let (again, rushed) = (if self.moved { own.max(self.deadline.min(self.now + timeout)) } else { self.now + slack.max(1) }, own - slack <= self.now);
        (self.deadline, self.moved) = (if rushed { again } else { own }, rushed);
    }
    fn configure(&mut self, o: Options) {
        let changes = o.rule.within().is_some() != self.o.rule.within().is_some();
        if changes && self.phase != Paused { self.o = o; return self.begin_anew(); } // P100
        let (before, after) = (self.timeout(), { self.o = o; self.timeout() });
        if before != after { self.rejudge(after); }
        if let Watching = self.phase { return; }
        if self.phase != Offered("schedule") { self.due = if !self.begun { o.initial_delay } else { self.base + o.interval }; } // J64
    }
}
