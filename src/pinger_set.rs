//! Every heartbeat of a process in one future: one task, one timer, a few words for each member.
//!
//! | File | Holds |
//! |---|---|
//! | `hub` | what the set, its handles and its members share, and the *news* for the driver |
//! | `chunk` | the *seats* of 64 members behind one lock, and a member's visit to its seat |
//! | `driver` | the one that looks at members, when the set is polled |
//! | `look` | one look of the driver at one member |
//! | `due_queue`, `wheel` | which member must be looked at when |
//! | `configs`, `sweep` | which configuration is in force in which chunk, and how it comes in force |
//! | `judgements`, `totals` | mass verdicts; the sums over all members |
//! | `handle`, `member`, `departure` | what users hold, and what the stream yields |

mod chunk;
mod configs;
mod departure;
mod driver;
mod due_queue;
mod handle;
mod hub;
mod judgements;
mod look;
mod member;
mod sweep;
mod totals;
mod wheel;

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use pin_project_lite::pin_project;

pub use self::departure::{Departure, End};
use self::driver::{Driver, Progress};
pub use self::handle::PingerSetHandle;
use self::hub::Hub;
use self::judgements::MassVerdicts;
pub use self::member::{Member, MemberId};
pub use self::totals::Totals;
use crate::config::Config;
use crate::error::{InsertError, InvalidConfig};
use crate::frame::Frame;
use crate::grid::Grid;
use crate::sync::lock;
use crate::time::Time;
use crate::timer::{Alarm, FuturesTimer, Timer};

pin_project! {
    /// The heartbeats of many connections in one [`Stream`], which yields a [`Departure`] for each that fails or
    /// is closed.
    ///
    /// **Poll the stream**: pings are sent and deadlines are judged there and nowhere else. Each item is a
    /// member whose peer is gone, whose sink has failed, or that was closed; the stream never ends. One task
    /// and one timer serve all members, in a few words for each.
    ///
    /// A member may have a key of type `K`, which comes back with its departure, such as the number of a
    /// connection. The set never looks at a key. Its [handle](PingerSetHandle) steers each member by its
    /// [`MemberId`], and knows no keys: to steer by keys, keep a map from key to id, and remove an entry with the
    /// departure and when the connection ends, if the entry still has that id.
    ///
    /// Each member behaves as a [`Pinger`](crate::Pinger) over [`pinger`](crate::pinger()) does, with
    /// the set's configuration. Frames go to the member's own sink: usually the sending half of a small
    /// bounded channel to the task that writes to its connection. A sink that takes nothing delays no
    /// other member.
    ///
    /// A member begins when the set is first polled with it. It leaves when its [`Member`] is dropped;
    /// its sink is dropped then, or with its failure.
    ///
    /// # Bounds
    ///
    /// Each verdict falls within [`Config::detection_bound`], and no earlier than that of a `Pinger`.
    /// The times at which members are looked at are rounded up to the
    /// [granularity](crate::ConfigBuilder::granularity) (15.6 ms by default), so that many members share one
    /// wake-up; with a granularity of zero each member has its own, which costs more. In one poll at most 1024
    /// members are looked at; then other tasks have their turn.
    ///
    /// # Channels of tokio
    ///
    /// A `tokio::sync::mpsc::Sender` is a sink by `PollSender` of `tokio-util`. tokio lets a task do 128
    /// operations on its channels in one poll, and from then on all of them say `Pending`, whatever room they
    /// have. The set does not take such an answer for a peer that does not read: the poll ends with the answer,
    /// the next poll asks that sink first, and the write timeout of the member begins with an answer that can be
    /// trusted.
    /// A sink that wakes its waker within 64 polls in a row, and takes nothing, counts as blocked. So the set
    /// needs no [`unconstrained`](https://docs.rs/tokio/latest/tokio/task/fn.unconstrained.html) around it.
    ///
    /// # Cancel safety
    ///
    /// The future of `next()` can be dropped at any time: nothing is lost. Dropping the set drops all sinks;
    /// the pongs of its members then mean nothing, and [`PingerSetHandle::insert`] gives the sink back.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::StreamExt;
    /// use futures::channel::mpsc;
    /// use futures_pinger::{Config, End, Error, Frame, PingerSet};
    ///
    /// # futures::executor::block_on(async {
    /// let config = Config::builder()
    ///     .interval(Duration::from_millis(20))
    ///     .timeout(Duration::from_millis(20))
    ///     .build()?;
    /// let mut set = PingerSet::new(config);
    ///
    /// // For each connection: a sink for its frames, and a handle for its reader.
    /// let (outgoing, mut frames) = mpsc::channel::<Frame>(1);
    /// let member = set.insert(outgoing);
    /// // member.handle_pong(&payload) for each pong that is read
    ///
    /// // This one never answers.
    /// let departure = set.select_next_some().await;
    /// assert_eq!(departure.id, member.id());
    /// assert!(matches!(departure.end, End::Failed(Error::Timeout(_))));
    /// assert!(matches!(frames.next().await, Some(Frame::Ping(_))));
    /// assert!(matches!(frames.next().await, Some(Frame::Close(_))));
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// # }).unwrap();
    /// ```
    #[must_use = "streams do nothing unless polled"]
    pub struct PingerSet<Si, K = (), T = FuturesTimer> {
        owner: Owner<Si, K>,
        #[pin]
        alarm: Alarm<T>,
        driver: Option<Driver<Si, K>>,
        mass_verdicts: MassVerdicts,
    }
}

impl<Si, K> PingerSet<Si, K> {
    /// A set whose members have this configuration, except those that are let in under
    /// [another](Self::insert_with).
    pub fn new(config: Config) -> Self {
        let handle = PingerSetHandle {
            hub: Hub::new(config),
            arrivals: Arc::default(),
        };
        Self {
            owner: Owner(handle),
            alarm: Alarm::new(FuturesTimer::new()),
            driver: None,
            mass_verdicts: MassVerdicts::default(),
        }
    }
}

impl<Si, T> PingerSet<Si, (), T> {
    /// Lets a connection in: its pings and its close frame go to `outgoing`. Its heartbeat begins with
    /// the next poll.
    pub fn insert(&self, outgoing: Si) -> Member {
        self.insert_keyed((), outgoing)
    }

    /// Lets a connection in under a configuration of its own: see [`PingerSetHandle::insert_with`].
    ///
    /// # Errors
    ///
    /// The sink and the cause: another [granularity](crate::ConfigBuilder::granularity) than the set's, or too
    /// many configurations.
    pub fn insert_with(&self, config: &Config, outgoing: Si) -> Result<Member, InsertError<Si>> {
        self.owner.0.insert_with(config, outgoing)
    }
}

impl<Si, K, T> PingerSet<Si, K, T> {
    /// Keeps time by `timer`. Choose it before the first poll: the times of one clock mean nothing to
    /// another.
    ///
    /// Where the timer tells that the machine [has slept](Timer::asleep), all members ping that have no ping
    /// out, 1024 of them in each step of the [granularity](crate::ConfigBuilder::granularity).
    pub fn with_timer<T2>(self, timer: T2) -> PingerSet<Si, K, T2> {
        PingerSet {
            owner: self.owner,
            alarm: Alarm::new(timer),
            driver: self.driver,
            mass_verdicts: self.mass_verdicts,
        }
    }

    /// Sets the share of condemned peers above which verdicts count as *mass verdicts*: when more than this
    /// share of the peers that are judged within a second are condemned, this side's network is more likely at
    /// fault than so many peers. [`Totals::mass_verdicts`] counts such an event, and with the feature `tracing`
    /// one warning tells of it. Fewer than 64 judgements in a second are too few to count. A peer is judged when
    /// a deadline has passed, and when its answer is found in time.
    ///
    /// Default: 0.5. Choose it before the first poll.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] with the option `mass_verdict_share`, where the share is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Config, Frame, PingerSet};
    ///
    /// let set = PingerSet::<futures::sink::Drain<Frame>>::new(Config::default());
    /// let set = set.with_mass_verdict_share(0.2)?.hold_mass_verdicts(true);
    ///
    /// let refused = set.with_mass_verdict_share(f64::NAN).unwrap_err();
    /// assert_eq!(refused.option(), "mass_verdict_share");
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    pub fn with_mass_verdict_share(mut self, share: f64) -> Result<Self, InvalidConfig> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidConfig {
                option: "mass_verdict_share",
                value: format!("{share:?}"),
                rule: "must be between 0 and 1",
            });
        }
        self.mass_verdicts.share = share;
        Ok(self)
    }

    /// Sets whether a member that would be condemned among [mass verdicts](Self::with_mass_verdict_share) gets
    /// one timeout more, as after a stall of this process. A network that comes back within that time costs
    /// none of the members that are held. The [`lateness`](crate::TimedOut::lateness) of a later verdict includes the time.
    /// Each of the two deadlines of a ping, that of its write and that of its pong, is held once at the most.
    /// So peers that are really dead are found within [`Config::detection_bound`] and one more of the timeout
    /// that has failed, or of both timeouts where the write was held and completed then. The members
    /// that are condemned before there are enough of them for the share to count are not held, and those of the
    /// second in which answers come again may not be: in a gateway of 4900 live members whose network was gone for
    /// 5 s, with a timeout of 3 s, some 350 to 760 were lost.
    ///
    /// Default: false. Choose it before the first poll.
    pub fn hold_mass_verdicts(mut self, hold: bool) -> Self {
        self.mass_verdicts.hold = hold;
        self
    }

    /// Lets a connection in, as `insert` does; `key` comes back with its [`Departure`].
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use std::time::Duration;
    /// use futures::StreamExt;
    /// use futures::channel::mpsc;
    /// use futures_pinger::{Config, Frame, PingerSet};
    ///
    /// # let config = Config::builder().initial_delay(Duration::ZERO).build().unwrap();
    /// let mut set = PingerSet::new(config);
    /// let (outgoing, frames) = mpsc::channel::<Frame>(1);
    /// let member = set.insert_keyed("alice", outgoing);
    ///
    /// drop(frames); // Her connection fails.
    /// assert_eq!(set.select_next_some().await.key, "alice");
    /// # drop(member);
    /// # });
    /// ```
    pub fn insert_keyed(&self, key: K, outgoing: Si) -> Member {
        match self.owner.0.insert_keyed(key, outgoing) {
            Ok(member) => member,
            Err(_) => unreachable!("a set is open as long as it is there"),
        }
    }

    /// Lets a connection in, as [`insert_with`](Self::insert_with) does; `key` comes back with its
    /// [`Departure`].
    ///
    /// # Errors
    ///
    /// The key, the sink and the cause.
    pub fn insert_keyed_with(
        &self,
        config: &Config,
        key: K,
        outgoing: Si,
    ) -> Result<Member, InsertError<Si, K>> {
        self.owner.0.insert_keyed_with(config, key, outgoing)
    }

    /// A handle that lets connections in and steers them, from anywhere.
    #[must_use]
    pub fn handle(&self) -> PingerSetHandle<Si, K> {
        self.owner.0.clone()
    }

    /// How many heartbeats there are: members that have neither failed nor left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owner.0.len()
    }

    /// Whether there are no heartbeats.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The set's own configuration, which all members have that are not let in under another.
    #[must_use]
    pub fn config(&self) -> Config {
        self.owner.0.hub.config()
    }
}

/// The set's own handle: its drop ends the set for all other handles.
struct Owner<Si, K>(PingerSetHandle<Si, K>);

impl<Si, K> Drop for Owner<Si, K> {
    fn drop(&mut self) {
        self.0.hub.close();
        let arrivals = mem::take(&mut *lock(&self.0.arrivals));
        // The arrivals are dropped without the lock, as a sink is foreign code.
        drop(arrivals);
    }
}

impl<Si, K, T> Stream for PingerSet<Si, K, T>
where
    Si: Sink<Frame> + Unpin,
    T: Timer,
{
    type Item = Departure<K, Si::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.poll_progress(cx) {
            Progress::Departed(departure) => Poll::Ready(Some(departure)),
            Progress::Busy | Progress::Resting => Poll::Pending,
        }
    }
}

impl<Si, K, T> PingerSet<Si, K, T>
where
    Si: Sink<Frame> + Unpin,
    T: Timer,
{
    /// Busy: it has woken itself. Resting: it is woken when there is something to do.
    fn poll_progress(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Progress<K, Si::Error> {
        let this = self.project();
        let handle = &this.owner.0;
        let hub = &handle.hub;
        let asleep = this.alarm.asleep();
        let now = || Time::of(this.alarm.now());
        let must = match this.driver {
            Some(_) if asleep == Duration::ZERO => false,
            Some(driver) => driver.note_sleep(asleep.into(), hub, now),
            None => true,
        };
        if !hub.wake_up(must, cx) {
            // Pending: the timer wakes us, and so do news: an insert, a drop of a member, a sink, a pong
            // that the next ping has waited for.
            return Progress::Resting;
        }
        let now = Time::of(this.alarm.now());
        hub.begin(|| this.alarm.clock());
        let grid = Grid { step: hub.step };
        let driver = this
            .driver
            .get_or_insert_with(|| Driver::new(grid, now, asleep.into(), *this.mass_verdicts));

        driver.take_news(hub, &handle.arrivals);
        match driver.drive(hub, now) {
            Progress::Departed(departure) => return Progress::Departed(departure),
            Progress::Busy => {}
            Progress::Resting => {
                if let Some(rung) = hub.rest() {
                    let next = driver.due_queue.next();
                    let waker = || Waker::from(Arc::clone(hub));
                    if this.alarm.poll_at(next, grid, rung, waker).is_ready() {
                        // As in `Pinger`, the wake goes by way of the executor.
                        hub.ring();
                    }
                    // Pending: the timer and the news wake us, or we did.
                    return Progress::Resting;
                }
            }
        }
        // Pending: we wake ourselves, after others have had their turn.
        cx.waker().wake_by_ref();
        Progress::Busy
    }

    /// Goes on with the set until no member is left: the stream yields the departures, and ends with the last
    /// member, whether it has departed or was dropped. Members that come meanwhile are waited for as well.
    ///
    /// It does not close the members: see [`PingerSetHandle::close_all`].
    ///
    /// # Cancel safety
    ///
    /// The stream can be dropped at any time: nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{StreamExt, channel::mpsc};
    /// use futures_pinger::{CloseReason, Config, Frame, PingerSet};
    ///
    /// let mut set = PingerSet::new(Config::default());
    /// let (outgoing, _frames) = mpsc::channel::<Frame>(1);
    /// let members = (set.insert(outgoing.clone()), set.insert(outgoing));
    /// drop(members.1); // This connection has ended: no departure tells of it.
    ///
    /// set.handle().close_all(CloseReason::new(1001, "restart")?);
    /// let departures: Vec<_> = set.drain().collect().await;
    /// assert_eq!(departures.len(), 1);
    /// assert_eq!(departures[0].id, members.0.id());
    /// # Ok::<(), futures_pinger::InvalidCloseReason>(())
    /// # }).unwrap();
    /// ```
    pub fn drain(&mut self) -> Drain<'_, Si, K, T>
    where
        T: Unpin,
    {
        Drain { set: self }
    }
}

/// The departures of a [`PingerSet`] until no member is left; from [`PingerSet::drain`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Drain<'a, Si, K = (), T = FuturesTimer> {
    set: &'a mut PingerSet<Si, K, T>,
}

impl<Si, K, T> Stream for Drain<'_, Si, K, T>
where
    Si: Sink<Frame> + Unpin,
    T: Timer + Unpin,
{
    type Item = Departure<K, Si::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut *self.set).poll_progress(cx) {
            Progress::Departed(departure) => Poll::Ready(Some(departure)),
            Progress::Resting if self.set.owner.0.hub.is_drained() => Poll::Ready(None),
            // Pending: the set wakes us, also when a member leaves.
            Progress::Busy | Progress::Resting => Poll::Pending,
        }
    }
}

/// The stream never ends.
impl<Si, K, T> FusedStream for PingerSet<Si, K, T>
where
    Si: Sink<Frame> + Unpin,
    T: Timer,
{
    fn is_terminated(&self) -> bool {
        false
    }
}

impl<Si, K, T> fmt::Debug for PingerSet<Si, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingerSet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
