//! The handle by which others steer a heartbeat that its task owns.
//!
//! Between the two lies one mailbox, not a queue: what is asked for twice is done once, and whatever
//! is asked for, in whatever order, fits into the same few words.

use std::fmt;
use std::mem;
use std::task::{Context, Waker};

use crate::config::{Config, Liveness};
use crate::error::Closed;
use crate::heartbeat::Heartbeat;
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, MutexGuard, lock, replace, wake};
use crate::time::{Instant, Time};
use crate::timer::Clock;

/// Steers a heartbeat from any thread, and tells what it has seen; from
/// [`Pinger::controller`](crate::Pinger::controller) or
/// [`KeepAlive::controller`](crate::KeepAlive::controller).
///
/// A call never waits: it leaves a note, wakes the heartbeat's task and returns. The heartbeat does as
/// asked in its next poll, in the order of the calls; a `KeepAlive` that finds one message after the
/// other looks at its notes once in 64 of them. Notes do not queue up: of a thousand calls the last
/// configuration counts, and one ping is sent.
///
/// A controller does not keep the heartbeat alive. Clones are cheap and steer the same heartbeat.
///
/// # Errors
///
/// Each call that asks for something returns [`Closed`] once the heartbeat has ended or was dropped.
///
/// # Wakeups
///
/// The heartbeat's task is known from the first poll after the controller was made: whoever makes
/// one between two polls of a running heartbeat polls it once more.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use futures::channel::mpsc;
/// use futures_pinger::{Closed, Config, Stopped, pinger};
///
/// let (outgoing, frames) = mpsc::channel(0);
/// let (pongs, mut pinger) = pinger(outgoing, Config::default());
/// let controller = pinger.controller();
///
/// // Elsewhere, while a task runs the heartbeat:
/// controller.stop()?;
///
/// assert_eq!(pinger.await.unwrap(), Stopped::Requested);
/// assert_eq!(controller.ping_now(), Err(Closed));
/// assert_eq!(controller.stats().sent(), 0);
/// # drop((pongs, frames));
/// # Ok::<(), Closed>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Controller {
    shared: Arc<Shared>,
}

impl Controller {
    /// Sends a ping at once, unless one is out already or the heartbeat is paused. The next one is
    /// due an interval after it.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn ping_now(&self) -> Result<(), Closed> {
        let clock = self.shared.open()?.clock.clone();
        // Not under the lock: a clock can be foreign code.
        let now = clock.map(|clock| clock.now());
        self.ask(|desk| desk.orders.ping_now(desk.ping.zip(now)))
    }

    /// Puts another configuration in force; see
    /// [`Heartbeat::set_config`](crate::Heartbeat::set_config) for what becomes of a ping that is out.
    /// A configuration that makes no sense cannot get here: its
    /// [`build`](crate::ConfigBuilder::build) returns an error, and the old one stays.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::{Config, pinger};
    ///
    /// # let (pongs, mut pinger) = pinger((), Config::default());
    /// let controller = pinger.controller();
    /// let config = Config::builder().interval(Duration::ZERO).build();
    /// assert_eq!(config.unwrap_err().option(), "interval");
    ///
    /// let config = Config::builder().interval(Duration::from_secs(5)).build()?;
    /// controller.set_config(config)?;
    /// # drop(pongs);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_config(&self, config: Config) -> Result<(), Closed> {
        self.ask(|desk| desk.orders.set_config(config))
    }

    /// No pings and no verdicts until [`resume`](Self::resume): a phone goes to sleep. Pongs are
    /// still read, a flush that has begun is completed, and the end of the connection still ends the
    /// heartbeat.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn pause(&self) -> Result<(), Closed> {
        self.ask(|desk| desk.orders.pause())
    }

    /// Goes on after a [`pause`](Self::pause) as if the heartbeat were new: a ping that was out is
    /// written off, and the next is due one interval from now.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn resume(&self) -> Result<(), Closed> {
        self.ask(|desk| desk.orders.resume())
    }

    /// Ends the heartbeat without a frame. A [`Pinger`](crate::Pinger) is then ready with
    /// [`Stopped::Requested`](crate::Stopped::Requested), a [`KeepAlive`](crate::KeepAlive) becomes a
    /// plain socket. A verdict that has fallen stands.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn stop(&self) -> Result<(), Closed> {
        self.ask(|desk| desk.orders.stop = true)
    }

    /// The peer was seen to be active elsewhere: for
    /// [`Liveness::Activity`](crate::Liveness::Activity), without meaning for the others. Once for
    /// each batch of messages is enough.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    ///
    /// # Wakeups
    ///
    /// The heartbeat is woken once for each ping that this answers.
    pub fn activity(&self) -> Result<(), Closed> {
        let clock = self.shared.open()?.activity_clock();
        let Some(clock) = clock else {
            return Ok(());
        };
        // Not under the lock: a clock can be foreign code.
        let now = clock.now();
        let mut desk = self.shared.open()?;
        desk.orders.activity = Some(now);
        let answers = desk.ping.is_some() && desk.ping != desk.woken;
        desk.woken = desk.ping;
        let waker = desk.waker.take_if(|_| answers);
        drop(desk);
        wake(waker);
        Ok(())
    }

    /// What had been counted and measured when the heartbeat last looked at the time; the last figures
    /// after its end.
    ///
    /// Strays do not wake a heartbeat, so that those a [`PongSender`](crate::PongSender) took since
    /// then are not counted yet.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.shared.desk).stats
    }

    /// Whether the heartbeat exists and has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        lock(&self.shared.desk).alive
    }

    fn ask(&self, order: impl FnOnce(&mut Desk)) -> Result<(), Closed> {
        let mut desk = self.shared.open()?;
        order(&mut desk);
        let waker = desk.waker.take();
        drop(desk);
        // Not under the lock: a waker may run the heartbeat here and now.
        wake(waker);
        Ok(())
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

struct Shared {
    desk: Mutex<Desk>,
}

impl Shared {
    fn open(&self) -> Result<MutexGuard<'_, Desk>, Closed> {
        let desk = lock(&self.desk);
        if desk.alive { Ok(desk) } else { Err(Closed) }
    }

    // Out of the way of the heartbeats that nobody steers, as is `report`.
    #[inline(never)]
    fn orders(&self, cx: &mut Context<'_>) -> Option<Orders> {
        let old;
        let orders = {
            let mut desk = lock(&self.desk);
            old = replace(&mut desk.waker, cx);
            mem::take(&mut desk.orders)
        };
        // Not under the lock: dropping a waker can run foreign code.
        drop(old);
        (!orders.is_empty()).then_some(orders)
    }

    #[inline(never)]
    fn report(
        &self,
        heartbeat: &Heartbeat,
        clock: impl FnOnce() -> Clock,
        complete: impl FnOnce(&mut Stats),
    ) {
        let mut stats = heartbeat.stats();
        complete(&mut stats);
        let mut desk = lock(&self.desk);
        desk.stats = stats;
        desk.heeds_activity = heartbeat.heeds_activity();
        desk.ping = heartbeat.unanswered();
        desk.clock.get_or_insert_with(clock);
    }
}

/// What the heartbeat and its controllers leave for each other.
struct Desk {
    orders: Orders,
    /// The heartbeat's task. It is taken by whoever wakes it, and put back by its next poll.
    waker: Option<Waker>,
    stats: Stats,
    /// None before the heartbeat's first poll.
    clock: Option<Clock>,
    heeds_activity: bool,
    /// The number of the ping that is out.
    ping: Option<u64>,
    /// The number of the one that activity has woken the heartbeat for.
    woken: Option<u64>,
    alive: bool,
}

/// What was asked for and not done yet: the shortest series of orders that comes to the same as all
/// that were given.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    config: Option<Config>,
    /// The latest activity before that configuration was given, and after.
    earlier: Option<Instant>,
    activity: Option<Instant>,
    ping: PingOrder,
    /// The ping that was out when one was asked for, as far as was known, and when that was.
    out: Option<(u64, Instant)>,
    switch: Switch,
    stop: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum PingOrder {
    #[default]
    None,
    /// Asked for before the heartbeat was to resume: without meaning should it be paused now.
    First,
    Last,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Switch {
    #[default]
    None,
    Pause,
    Resume,
    /// To pause and to resume: what was out is written off.
    Restart,
}

impl Orders {
    fn ping_now(&mut self, out: Option<(u64, Instant)>) {
        if self.switch != Switch::Pause {
            self.ping = PingOrder::Last;
            self.out = out;
        }
    }

    fn set_config(&mut self, config: Config) {
        self.config = Some(config);
        self.earlier = self.activity.take().or(self.earlier);
    }

    fn pause(&mut self) {
        self.switch = Switch::Pause;
        self.ping = PingOrder::None;
    }

    fn resume(&mut self) {
        match self.switch {
            Switch::None => {
                self.switch = Switch::Resume;
                if self.ping == PingOrder::Last {
                    self.ping = PingOrder::First;
                }
            }
            Switch::Pause => self.switch = Switch::Restart,
            // It runs already.
            Switch::Resume | Switch::Restart => {}
        }
    }

    /// Nothing else matters.
    pub(crate) fn stop(&self) -> bool {
        self.stop
    }

    fn is_empty(&self) -> bool {
        self.config.is_none()
            && self.earlier.is_none()
            && self.activity.is_none()
            && self.ping == PingOrder::None
            && self.switch == Switch::None
            && !self.stop
    }

    pub(crate) fn carry_out(self, heartbeat: &mut Heartbeat, now: Instant) {
        if let Some(at) = self.earlier {
            heartbeat.handle_activity_at(Time::of(at), Time::of(now));
        }
        if let Some(config) = self.config {
            heartbeat.set_config(config, now);
        }
        if let Some(at) = self.activity {
            heartbeat.handle_activity_at(Time::of(at), Time::of(now));
        }
        // One was out then.
        let out = self.out;
        let ping = if out.is_some_and(|(ping, at)| heartbeat.was_answered_after(ping, at)) {
            PingOrder::None
        } else {
            self.ping
        };
        if ping == PingOrder::First {
            heartbeat.ping_now(now);
        }
        if matches!(self.switch, Switch::Pause | Switch::Restart) {
            heartbeat.pause(now);
        }
        if matches!(self.switch, Switch::Resume | Switch::Restart) {
            heartbeat.resume(now);
        }
        if ping == PingOrder::Last {
            heartbeat.ping_now(now);
        }
        if self.stop {
            heartbeat.stop();
        }
    }
}

/// The heartbeat's end of its controllers: a null pointer until one is asked for. Dropping it ends
/// them.
#[derive(Default)]
pub(crate) struct Controlled {
    shared: Option<Arc<Shared>>,
}

impl Controlled {
    /// A controller for a heartbeat of these figures.
    pub(crate) fn controller(&mut self, stats: Stats, alive: bool) -> Controller {
        let shared = self.shared.get_or_insert_with(|| {
            Arc::new(Shared {
                desk: Mutex::new(Desk {
                    orders: Orders::default(),
                    waker: None,
                    stats,
                    clock: None,
                    heeds_activity: false,
                    ping: None,
                    woken: None,
                    alive,
                }),
            })
        });
        Controller {
            shared: Arc::clone(shared),
        }
    }

    /// Whether there may be orders, or somebody to report to.
    #[inline]
    pub(crate) fn is_asked_for(&self) -> bool {
        self.shared.is_some()
    }

    /// What was asked for, if anything was; whoever asks for more wakes this task.
    #[inline]
    pub(crate) fn orders(&self, cx: &mut Context<'_>) -> Option<Orders> {
        match &self.shared {
            None => None,
            Some(shared) => shared.orders(cx),
        }
    }

    /// Tells what the heartbeat has come to.
    #[inline]
    pub(crate) fn report(
        &self,
        heartbeat: &Heartbeat,
        clock: impl FnOnce() -> Clock,
        complete: impl FnOnce(&mut Stats),
    ) {
        if let Some(shared) = &self.shared {
            shared.report(heartbeat, clock, complete);
        }
    }

    /// The heartbeat has ended, with the figures last reported.
    pub(crate) fn end(&self) {
        if let Some(shared) = &self.shared {
            // Not under the lock: dropping a waker can run foreign code.
            let left = lock(&shared.desk).close();
            drop(left);
        }
    }
}

impl Desk {
    #[must_use = "to be dropped without the lock"]
    fn close(&mut self) -> (Option<Waker>, Option<Clock>) {
        self.alive = false;
        self.stats = self.stats.gone();
        self.orders = Orders::default();
        (self.waker.take(), self.clock.take())
    }

    /// None where activity means nothing.
    fn activity_clock(&self) -> Option<Clock> {
        let heeds_activity = match &self.orders.config {
            Some(config) => matches!(config.liveness(), Liveness::Activity { .. }),
            None => self.heeds_activity,
        };
        self.clock.clone().filter(|_| heeds_activity)
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(all(test, not(futures_pinger_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::heartbeat::Output;

    type Order = fn(&mut Orders, Instant);
    type Act = fn(&mut Heartbeat, Instant);

    fn slow() -> Config {
        let interval = Duration::from_secs(60);
        let trusting = Config::builder().liveness(Liveness::Activity {
            max_unproven: 4 * interval,
        });
        trusting.interval(interval).build().expect("valid")
    }

    fn quick() -> Config {
        let interval = Duration::from_secs(1);
        Config::new(interval, interval).expect("valid")
    }

    /// What may be asked for, on the mailbox and at once.
    const ORDERS: [(Order, Act); 5] = [
        (|orders, _| orders.ping_now(None), Heartbeat::ping_now),
        (|orders, _| orders.pause(), Heartbeat::pause),
        (|orders, _| orders.resume(), Heartbeat::resume),
        (
            |orders, _| orders.set_config(slow()),
            |heart, now| heart.set_config(slow(), now),
        ),
        (
            |orders, _| orders.set_config(quick()),
            |heart, now| heart.set_config(quick(), now),
        ),
    ];
    const ACTIVITY: (Order, Act) = (
        |orders, now| orders.activity = Some(now),
        Heartbeat::handle_activity,
    );

    /// A heartbeat in one of the states that an order can find it in.
    fn heartbeat(config: Config, state: usize, start: Instant, now: Instant) -> Heartbeat {
        let mut heartbeat = Heartbeat::with_key(config, start, [7; 16]);
        let (step, paused) = (state / 2, state % 2 == 1);
        if step > 0 {
            assert_eq!(heartbeat.poll_output(now), Output::Ping);
        }
        if step > 1 {
            assert!(heartbeat.transmit(now).is_some());
        }
        if step > 2 {
            heartbeat.handle_sent(now);
        }
        if step > 3 {
            heartbeat.stop();
        }
        if paused {
            heartbeat.pause(now);
        }
        heartbeat
    }

    /// All series of so many of these.
    fn series<T: Copy>(of: &[T], len: u32) -> impl Iterator<Item = Vec<T>> {
        (0..of.len().pow(len)).map(move |code| {
            let digits = (0..len).scan(code, |rest, _| {
                let digit = *rest % of.len();
                *rest /= of.len();
                Some(of[digit])
            });
            digits.collect()
        })
    }

    fn assert_equivalent(config: &Config, states: usize, orders: &[(Order, Act)]) {
        let start = Clock::system().now();
        let now = start + Duration::from_secs(60);
        for state in 0..states {
            let mut one_by_one = heartbeat(config.clone(), state, start, now);
            let mut at_once = heartbeat(config.clone(), state, start, now);
            let mut mailbox = Orders::default();
            for (order, act) in orders {
                act(&mut one_by_one, now);
                order(&mut mailbox, now);
            }
            mailbox.carry_out(&mut at_once, now);
            let states = [&one_by_one, &at_once].map(|it| it.stats().state_at(now));
            assert_eq!(states[0], states[1], "state {state}");
            // What a pause leaves behind is for the next to write off.
            one_by_one.resume(now);
            at_once.resume(now);
            assert_eq!(format!("{one_by_one:?}"), format!("{at_once:?}"));
        }
    }

    #[test]
    fn any_series_of_orders_comes_to_the_same_as_one_by_one() {
        let switches = &ORDERS[..3];
        for len in 0..=6 {
            for orders in series(switches, len) {
                assert_equivalent(&Config::default(), 10, &orders);
            }
        }
    }

    #[test]
    fn activity_counts_by_the_configuration_that_it_was_told_under() {
        let [.., slow, quick] = ORDERS;
        let (trusts, strict) = (self::slow(), self::quick());
        assert_equivalent(&trusts, 8, &[ACTIVITY]);
        assert_equivalent(&trusts, 8, &[ACTIVITY, quick]);
        assert_equivalent(&trusts, 8, &[ACTIVITY, slow, ACTIVITY]);
        assert_equivalent(&trusts, 8, &[ACTIVITY, quick, slow]);
        assert_equivalent(&strict, 8, &[slow, ACTIVITY]);
        assert_equivalent(&strict, 8, &[quick, slow, ACTIVITY]);
    }
}
