//! The steps of a script, one after the other.

use std::time::Duration;

use futures_pinger::testing::World;

use super::app::{App, Job, Reader};
use super::link::Socket;
use super::oracle::{Facts, Oracle, Report};
use super::script::{Half, Script, Settings, Step};

/// Takes a socket with its heartbeat through the script.
///
/// # Panics
///
/// If a promise is broken.
pub fn run(script: &Script) -> Report {
    let mut lab = Lab::new(&script.settings);
    lab.settle();
    for step in &script.steps {
        lab.step(*step);
    }
    lab.finish()
}

struct Lab {
    world: World,
    socket: Socket,
    app: App,
    oracle: Oracle,
    settings: Settings,
}

impl Lab {
    fn new(settings: &Settings) -> Self {
        let world = World::new();
        world.early_timers(settings.early_timers);
        let socket = Socket::new(&world, settings);
        let mut app = App::new(&world, socket.clone(), settings);
        app.set_reader(Reader::Reads);
        Self {
            oracle: Oracle::new(settings),
            world,
            socket,
            app,
            settings: settings.clone(),
        }
    }

    fn now(&self) -> Duration {
        self.world.elapsed()
    }

    /// Polls whoever is woken until everybody waits.
    fn settle(&mut self) {
        let mut events = Vec::new();
        loop {
            let any = self.app.poll_woken(&mut events);
            self.see(&mut events);
            if !any {
                break;
            }
            let (now, link) = (self.now(), self.socket.link());
            self.oracle.check_spin(now, &self.app, &link);
        }
        let (now, link) = (self.now(), self.socket.link());
        self.oracle.settle(now, &self.app, &link);
    }

    fn see(&mut self, events: &mut Vec<super::app::Event>) {
        let now = self.now();
        for event in events.drain(..) {
            let link = self.socket.link();
            self.oracle.see(&event, now, &self.app, &link);
        }
    }

    fn arrive(&mut self) {
        let (now, link) = (self.now(), self.socket.link());
        self.oracle.arrive(now, &self.app, &link);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now() + time;
        loop {
            let more = self.world.step(until);
            self.arrive();
            self.settle();
            if !more {
                return;
            }
        }
    }

    fn stall(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.world.step(until) {}
        let now = self.now();
        self.oracle.excuse(now);
        self.arrive();
        self.settle();
    }

    fn poll(&mut self, half: Half) {
        let mut events = Vec::new();
        self.app.poll_half(half, &mut events);
        self.see(&mut events);
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Pass(time) => return self.pass(time),
            Step::Stall(time) => return self.stall(time),

            Step::Receive(count) => (0..count).for_each(|_| self.socket.receive_next()),
            Step::PeerPing => self.socket.receive_ping(),
            Step::Stray => self.socket.receive_stray(),
            Step::Answer(after) => self.socket.link().answer = after,
            Step::Trickle(each) => self.socket.set_trickle(each),
            Step::PeerClose => self.socket.receive_close(),
            Step::PeerEnd => self.socket.end(),
            Step::PeerError => self.socket.receive_error(),

            Step::Block => self.socket.block(),
            Step::BlockFlush => self.socket.block_flush(),
            Step::Unblock => {
                self.socket.unblock_quietly();
                self.socket.wake_writing();
                self.oracle.excuse(now);
            }
            Step::UnblockBefore(half) => {
                self.socket.unblock_quietly();
                self.poll(half);
                self.socket.wake_writing();
                self.oracle.excuse(now);
            }
            Step::Room(messages) => {
                self.socket.set_room(messages);
                self.oracle.excuse(now);
            }
            Step::Refuse(pings) => self.socket.link().refuse = pings,
            Step::Break => self.socket.break_sink(),

            Step::Read => self.app.set_reader(Reader::Reads),
            Step::Away => self.app.set_reader(Reader::Away),
            Step::Beat => self.app.set_reader(Reader::Beats),
            Step::Pace(pace) => self.app.pace = pace,
            Step::Send(count) => (0..count).for_each(|_| self.app.add_job(Job::Send)),
            Step::Feed(count) => (0..count).for_each(|_| self.app.add_job(Job::Feed)),
            Step::Reserve => self.app.add_job(Job::Reserve),
            Step::Flush => self.app.add_job(Job::Flush),
            Step::SendClose => self.app.add_job(Job::Close),
            Step::CloseSink => self.app.add_job(Job::CloseSink),
            Step::GiveUp => {
                self.app.give_up();
                // A reader that did not read meanwhile goes on.
                self.app.call(Half::Reader);
            }

            Step::PingNow => drop(self.app.controller.ping_now()),
            Step::Probe(within) => self.app.probe(within),
            Step::Suspend(time) => self.world.suspend(time),
            Step::Pause => {
                self.oracle.is_paused |= self.app.controller.pause().is_ok();
                // A ping that was refused is called off.
                self.socket.link().refused_since = None;
            }
            Step::Resume => {
                if self.app.controller.resume().is_ok() {
                    self.oracle.is_paused = false;
                    self.oracle.excuse(now);
                }
            }
            Step::Stop => self.oracle.is_plain |= self.app.controller.stop().is_ok(),

            Step::Wake(Half::Reader) => self.socket.wake_reading(),
            Step::Wake(Half::Writer) => self.socket.wake_writing(),
            Step::Poll(half) => self.poll(half),
        }
        self.settle();
    }

    /// The application reads to the end, if one comes.
    fn go_on(&mut self) {
        self.app.pace = Duration::ZERO;
        self.app.set_reader(Reader::Reads);
        self.socket.set_trickle(None);
        self.settle();
        let close_timeout = self.settings.close_timeout.unwrap_or_default();
        let last = 2 * self.settings.bound() + close_timeout + self.settings.closing_handshake;
        self.pass(last);
        self.app.add_job(Job::Flush);
        self.settle();
    }

    fn finish(mut self) -> Report {
        if !self.settings.cut_short {
            self.go_on();
        }
        let app = Facts {
            accepted: self.app.accepted,
            has_closed: self.app.has_closed,
            missed: self.app.controller.stats().missed() as usize,
            polls: self.app.polls,
        };
        let ahead = self.app.into_ahead();
        assert_eq!(self.world.timers(), 0, "nothing is left behind");
        let link = self.socket.link();
        let left = link.left();
        self.oracle.finish(&ahead, &left, &app, &link)
    }
}
