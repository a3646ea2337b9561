//! What goes through the scripts: whatever sends pings and reads pongs.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{Config, Error, Frame, HeartbeatState, Stats, TimedOut, TimeoutPhase};

use crate::script::{Change, End, Pong, Probed, Seen, Sent, Step, Time, nanos};

/// A heartbeat under test, with its sink, its reader and whoever runs it. Times are since its start.
///
/// It starts with a sink that takes all, and at its first poll, which is at time zero.
pub trait System: Sized + 'static {
    fn start(config: Config) -> Self;

    /// Whether it has a way to do that; else no script has it do it.
    fn can(step: &Step) -> bool;

    /// Whether others get the same configuration at once, so that a ping which is overdue by it leaves later.
    const IS_ONE_OF_MANY: bool = false;

    /// Whether the model knows what it does where any pong answers. A socket looks at the time between
    /// two messages of its application, so that a ping which is due leaves among the strays that lie there,
    /// and is answered by the next of them.
    const KNOWN_BY_ANY_PONG: bool = true;

    /// Time passes, and it is driven as it asks; that it does at least once.
    fn run_until(&mut self, time: Duration);

    /// Time passes, and nothing of it runs. Then a pong arrives, if there is one.
    fn stall_until(&mut self, time: Duration, pong: Option<Bytes>);

    fn suspend(&mut self, time: Duration);
    fn pong(&mut self, payload: Bytes);
    fn activity(&mut self, is_ping: bool);
    fn sink(&mut self, change: Change);
    fn order(&mut self, order: Order);
    fn end_pongs(&mut self);
    fn probe(&mut self, within: Duration);

    /// What each probe has come to, whose tasks are polled when they are woken.
    fn probes(&self) -> Vec<Probed>;

    fn frames(&self) -> Vec<(Duration, Frame)>;
    fn stats(&self) -> Stats;
    fn state(&self) -> HeartbeatState;
    fn end(&self) -> Option<(Duration, End)>;

    /// From now on it is polled without a reason too.
    fn poll_more(&mut self);

    /// From now on each poll has a waker of its own.
    fn move_about(&mut self);

    /// How often it was polled.
    fn polls(&self) -> usize;

    /// Drops the heartbeat; whether all that it held is dropped too.
    fn drop_heartbeat(&mut self) -> bool;
}

/// What the owner of a heartbeat asks for.
#[derive(Debug)]
pub enum Order {
    PingNow,
    Pause,
    Resume,
    Configure(Config),
    Stop,
    Close,
    Attach,
}

impl From<TimedOut> for End {
    fn from(verdict: TimedOut) -> Self {
        let elapsed = nanos(verdict.elapsed());
        match verdict.phase() {
            TimeoutPhase::Write => Self::NotWritten(elapsed),
            phase => {
                assert_eq!(phase == TimeoutPhase::Silence, verdict.missed() == 0);
                Self::NoPong(elapsed, verdict.missed(), verdict.close_sent())
            }
        }
    }
}

impl<E> From<&Error<E>> for End {
    fn from(error: &Error<E>) -> Self {
        match error {
            Error::Timeout(verdict) => (*verdict).into(),
            _ => Self::Transport,
        }
    }
}

/// Takes a system through a script.
pub struct Driver<S> {
    pub system: S,
    pub now: Time,
    last: u64,
}

impl<S: System> Driver<S> {
    pub fn start(config: Config) -> Self {
        let mut system = S::start(config);
        system.run_until(Duration::ZERO);
        Self {
            system,
            now: 0,
            last: 0,
        }
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(time) => self.now += time,
            Step::Stall(time, pong) => {
                self.now += time;
                let newest = Pong::Newest.payload(&self.payloads(), &mut 0);
                self.system
                    .stall_until(Duration::from_nanos(self.now), pong.then_some(newest));
            }
            Step::Suspend(time) => self.system.suspend(Duration::from_nanos(time)),
            Step::Pong(pong) => {
                let payload = pong.payload(&self.payloads(), &mut self.last);
                self.system.pong(payload);
            }
            Step::Strays(count) => {
                for _ in 0..count {
                    self.system.pong(Bytes::from_static(b"stray"));
                }
            }
            Step::Activity => self.system.activity(false),
            Step::PeerPing => self.system.activity(true),
            Step::Sink(change) => self.system.sink(change),
            Step::PingsNow(count) => {
                for _ in 0..count {
                    self.system.order(Order::PingNow);
                }
            }
            Step::Probe(within) => self.system.probe(Duration::from_nanos(within)),
            Step::Pause => self.system.order(Order::Pause),
            Step::Resume => self.system.order(Order::Resume),
            Step::Configure(options) => self.system.order(Order::Configure(options.config())),
            Step::EndPongs => self.system.end_pongs(),
            Step::Stop => self.system.order(Order::Stop),
            Step::Close => self.system.order(Order::Close),
            Step::Attach => self.system.order(Order::Attach),
        }
        self.system.run_until(Duration::from_nanos(self.now));
    }

    fn payloads(&self) -> Vec<Bytes> {
        let frames = self.system.frames().into_iter();
        let pings = frames.filter_map(|(_, frame)| match frame {
            Frame::Ping(payload) => Some(payload),
            _ => None,
        });
        pings.collect()
    }

    pub fn seen(&self) -> Seen {
        let (stats, mut pings) = (self.system.stats(), 0);
        let frames = self.system.frames().into_iter();
        let frames = frames.map(|(at, frame)| match frame {
            Frame::Ping(payload) => {
                pings += 1;
                assert_eq!(payload.len(), 16, "ping {pings}");
                assert_eq!(payload[..8], u64::to_be_bytes(pings), "the ping's number");
                (nanos(at), Sent::Ping(pings))
            }
            Frame::Close(reason) => (nanos(at), Sent::Close(reason.code())),
            Frame::Pong(_) => panic!("a heartbeat sends no pongs"),
        });
        Seen {
            frames: frames.collect(),
            sent: stats.sent(),
            answered: stats.answered(),
            missed: stats.missed(),
            stale: stats.stale(),
            unsolicited: stats.unsolicited(),
            rtt: stats.latest_rtt().map(nanos),
            end: self.system.end().map(|(at, end)| (nanos(at), end)),
            probes: self.system.probes(),
        }
    }
}
