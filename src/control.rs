//! The handle by which others steer a heartbeat that its task owns.
//!
//! Between the two lies one mailbox, not a queue: what is asked for twice is done once, and whatever
//! is asked for, in whatever order, fits into the same few words.

use std::fmt;
use std::mem;
use std::task::{Context, Waker};

use crate::config::Config;
use crate::error::Closed;
use crate::heartbeat::Heartbeat;
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::time::Instant;
use crate::timer::Clock;

/// Steers a heartbeat from any thread, and tells what it has seen; from
/// [`Pinger::controller`](crate::Pinger::controller) or
/// [`KeepAlive::controller`](crate::KeepAlive::controller).
///
/// A call never waits: it leaves a note, wakes the heartbeat's task and returns. The heartbeat does as
/// asked in its next poll, in the order of the calls. Notes do not queue up: of a thousand calls the
/// last configuration counts, and one ping is sent.
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
        self.ask(Orders::ping_now)
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
        self.ask(|orders| orders.config = Some(config))
    }

    /// No pings and no verdicts until [`resume`](Self::resume): a phone goes to sleep. Pongs are
    /// still read, a flush that has begun is completed, and the end of the connection still ends the
    /// heartbeat.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn pause(&self) -> Result<(), Closed> {
        self.ask(Orders::pause)
    }

    /// Goes on after a [`pause`](Self::pause) as if the heartbeat were new: a ping that was out is
    /// written off, and the next is due one interval from now.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn resume(&self) -> Result<(), Closed> {
        self.ask(Orders::resume)
    }

    /// Ends the heartbeat without a frame. A [`Pinger`](crate::Pinger) is then ready with
    /// [`Stopped::Requested`](crate::Stopped::Requested), a [`KeepAlive`](crate::KeepAlive) becomes a
    /// plain socket. A verdict that has fallen stands.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn stop(&self) -> Result<(), Closed> {
        self.ask(|orders| orders.stop = true)
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
        let mut guard = self.shared.open()?;
        let desk = &mut *guard;
        let Some(activity) = &mut desk.activity else {
            return Ok(());
        };
        let now = activity.clock.now();
        let answers = activity.ping.is_some() && activity.ping != activity.woken;
        activity.woken = activity.ping;
        desk.orders.activity = Some(now);
        let waker = desk.waker.take_if(|_| answers);
        drop(guard);
        wake(waker);
        Ok(())
    }

    /// What had been counted and measured by the end of the heartbeat's last poll; the last figures
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

    fn ask(&self, order: impl FnOnce(&mut Orders)) -> Result<(), Closed> {
        let mut desk = self.shared.open()?;
        order(&mut desk.orders);
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

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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
    fn obey(&self, heartbeat: &mut Heartbeat, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut old = None;
        let orders = {
            let mut desk = lock(&self.desk);
            let known = desk.waker.as_ref();
            if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                old = desk.waker.replace(cx.waker().clone());
            }
            mem::take(&mut desk.orders)
        };
        // Not under the lock: dropping a waker can run foreign code.
        drop(old);
        if orders.is_empty() {
            return false;
        }
        orders.carry_out(heartbeat, now);
        true
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
        let mut activity = heartbeat.heeds_activity().then(|| Activity {
            clock: clock(),
            ping: heartbeat.unanswered(),
            woken: None,
        });
        let mut desk = lock(&self.desk);
        desk.stats = stats;
        mem::swap(&mut desk.activity, &mut activity);
        if let (Some(new), Some(old)) = (&mut desk.activity, &activity) {
            new.woken = old.woken;
        }
        drop(desk);
        // Not under the lock: a clock can be foreign code.
        drop(activity);
    }
}

/// What the heartbeat and its controllers leave for each other.
struct Desk {
    orders: Orders,
    /// The heartbeat's task. It is taken by whoever wakes it, and put back by its next poll.
    waker: Option<Waker>,
    stats: Stats,
    /// None as long as activity means nothing.
    activity: Option<Activity>,
    alive: bool,
}

struct Activity {
    clock: Clock,
    /// The number of the ping that is out.
    ping: Option<u64>,
    /// The number of the one that the heartbeat was woken for.
    woken: Option<u64>,
}

/// What was asked for and not done yet: the shortest series of orders that comes to the same as all
/// that were given.
#[derive(Debug, Default)]
struct Orders {
    config: Option<Config>,
    activity: Option<Instant>,
    ping: PingOrder,
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
    fn ping_now(&mut self) {
        if self.switch != Switch::Pause {
            self.ping = PingOrder::Last;
        }
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

    fn is_empty(&self) -> bool {
        self.config.is_none()
            && self.activity.is_none()
            && self.ping == PingOrder::None
            && self.switch == Switch::None
            && !self.stop
    }

    fn carry_out(self, heartbeat: &mut Heartbeat, now: Instant) {
        if let Some(config) = self.config {
            heartbeat.set_config(config, now);
        }
        if let Some(at) = self.activity {
            heartbeat.handle_activity(at);
        }
        if self.ping == PingOrder::First {
            heartbeat.ping_now(now);
        }
        if matches!(self.switch, Switch::Pause | Switch::Restart) {
            heartbeat.pause(now);
        }
        if matches!(self.switch, Switch::Resume | Switch::Restart) {
            heartbeat.resume(now);
        }
        if self.ping == PingOrder::Last {
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
                    activity: None,
                    alive,
                }),
            })
        });
        Controller {
            shared: Arc::clone(shared),
        }
    }

    /// Does what was asked for, if anything was; whoever asks for more wakes this task.
    #[inline]
    pub(crate) fn obey(
        &self,
        heartbeat: &mut Heartbeat,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> bool {
        match &self.shared {
            None => false,
            Some(shared) => shared.obey(heartbeat, now, cx),
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
    fn close(&mut self) -> (Option<Waker>, Option<Activity>) {
        self.alive = false;
        self.stats = self.stats.gone();
        self.orders = Orders::default();
        (self.waker.take(), self.activity.take())
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

    type Order = fn(&mut Orders);
    type Act = fn(&mut Heartbeat, Instant);

    const ORDERS: [(Order, Act); 3] = [
        (Orders::ping_now, Heartbeat::ping_now),
        (Orders::pause, Heartbeat::pause),
        (Orders::resume, Heartbeat::resume),
    ];

    /// A heartbeat in one of the states that an order can find it in.
    fn heartbeat(state: usize, start: Instant, now: Instant) -> Heartbeat {
        let mut heartbeat = Heartbeat::with_key(Config::default(), start, [7; 16]);
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

    #[test]
    fn any_series_of_orders_comes_to_the_same_as_one_by_one() {
        let start = Clock::system().now();
        let now = start + Duration::from_secs(20);
        let series = (0..=6_u32).flat_map(|len| {
            (0..3_usize.pow(len)).map(move |code| {
                let digits = (0..len).scan(code, |rest, _| {
                    let digit = *rest % 3;
                    *rest /= 3;
                    Some(digit)
                });
                digits.collect::<Vec<_>>()
            })
        });
        for series in series {
            for state in 0..10 {
                let mut one_by_one = heartbeat(state, start, now);
                let mut at_once = heartbeat(state, start, now);
                let mut orders = Orders::default();
                for order in &series {
                    let (order, act) = ORDERS[*order];
                    act(&mut one_by_one, now);
                    order(&mut orders);
                }
                orders.carry_out(&mut at_once, now);
                let states = [&one_by_one, &at_once].map(|it| it.stats().state_at(now));
                assert_eq!(states[0], states[1], "state {state}, orders {series:?}");
                // What a pause leaves behind is for the next to write off.
                one_by_one.resume(now);
                at_once.resume(now);
                assert_eq!(
                    format!("{one_by_one:?}"),
                    format!("{at_once:?}"),
                    "state {state}, orders {series:?}"
                );
            }
        }
    }
}
