//! Every heartbeat of a process in one future: one task, one timer, a few words for each member.

mod agenda;
mod configs;
mod departure;
mod driver;
mod hub;
mod judgements;
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
use self::hub::{Arrival, Chunk, Hub, Seat};
use self::judgements::MassVerdicts;
pub use self::totals::Totals;
use crate::config::Config;
use crate::error::{Closed, InsertError, InvalidConfig, PingNowError, ProbeError, SetConfigError};
use crate::frame::{CloseReason, Frame};
use crate::grid::Grid;
use crate::handle::Probe;
use crate::machine::PongKind;
use crate::shared::{Reader, Visited};
use crate::stats::Stats;
use crate::sync::{Mutex, lock};
use crate::time::Time;
use crate::timer::{Alarm, FuturesTimer, Timer};

pin_project! {
    /// The heartbeats of many connections in one [`Stream`], which yields a [`Departure`] for each that fails or
    /// is closed.
    ///
    /// **Poll it**: it is the one place where pings are sent and deadlines are judged. Each item is a
    /// member whose peer is gone or whose sink has failed; the stream never ends. One task, one timer
    /// and one waker serve all members, in a few words for each.
    ///
    /// A member may have a key of type `K`, which comes back with its departure: the number of a connection,
    /// say. The set never looks at a key. Its [handle](PingerSetHandle) steers each member by its [`MemberId`].
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
    /// The looks of all members are rounded up to the [granularity](crate::ConfigBuilder::granularity)
    /// (up to 100 ms by default), so that many share one wake-up; a granularity of zero gives each its
    /// own, and costs more. In one poll at most 1024 members are looked at; then the executor has its
    /// turn.
    ///
    /// # Channels of tokio
    ///
    /// A `tokio::sync::mpsc::Sender` is a sink by `PollSender` of `tokio-util`. tokio lets a task do 128
    /// operations on its channels in one poll, and from then on all of them say `Pending`, whatever room they
    /// have. The set takes no such answer for a peer that does not read: the poll ends with it, the next poll
    /// asks that sink first, and the write timeout of the member begins with an answer that can be trusted.
    /// A sink that wakes its waker within 64 polls in a row, and takes nothing, counts as blocked. So the set
    /// needs no [`unconstrained`](https://docs.rs/tokio/latest/tokio/task/fn.unconstrained.html) around it.
    ///
    /// # Cancel safety
    ///
    /// `next()` on it can be dropped at any time: nothing is lost. Dropping the set drops all sinks;
    /// its members' pongs then mean nothing, and [`PingerSetHandle::insert`] gives the sink back.
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
    /// A set whose members have this configuration, but for those that are let in under
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
    /// none of these members. The [`lateness`](crate::TimedOut::lateness) of a later verdict includes the time.
    /// Each ping is held once at the most, so that peers that are really dead are found within
    /// [`Config::detection_bound`] and one more of the timeout that has failed. The first members to be
    /// condemned, before there are enough of them for the share to count, are not held.
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

    /// Whether there is none.
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

/// With it the set ends for all that have a handle.
struct Owner<Si, K>(PingerSetHandle<Si, K>);

impl<Si, K> Drop for Owner<Si, K> {
    fn drop(&mut self) {
        self.0.hub.close();
        let arrivals = mem::take(&mut *lock(&self.0.arrivals));
        // Not under the lock: a sink is foreign code.
        drop(arrivals);
    }
}

/// Lets connections into a [`PingerSet`], and steers each by its [`MemberId`], from any task or thread. It does
/// not keep the set alive.
///
/// An order takes as long for a million members as for one, and acts at once, as those of a
/// [`Controller`](crate::Controller) do. An id is of use in the set that it comes from alone.
///
/// # Errors
///
/// Each order for a member returns [`Closed`] ([`PingNowError::Closed`]) once its heartbeat has ended, or its [`Member`] was dropped.
pub struct PingerSetHandle<Si, K = ()> {
    hub: Arc<Hub>,
    /// Members that the driver has not seen yet.
    arrivals: Arc<Mutex<Vec<Arrival<Si, K>>>>,
}

impl<Si> PingerSetHandle<Si> {
    /// Lets a connection in: its pings and its close frame go to `outgoing`. Its heartbeat begins when
    /// the set is polled next, which is woken for it.
    ///
    /// # Errors
    ///
    /// The sink, once the set is gone.
    pub fn insert(&self, outgoing: Si) -> Result<Member, Si> {
        self.insert_keyed((), outgoing)
            .map_err(|((), outgoing)| outgoing)
    }

    /// Lets a connection in under another configuration than the set's own, which must have the same
    /// [granularity](crate::ConfigBuilder::granularity): phones ping less often than desktops, say.
    ///
    /// A configuration costs nothing for each member. Members of the same configuration have their places in
    /// the same chunks of 64, so that one that is used by a single member takes the room of 64.
    ///
    /// # Errors
    ///
    /// The sink and the cause: another granularity, more than 256 configurations that members are under, or
    /// the set is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::{Config, Frame, PingerSet};
    ///
    /// # let (phone, desktop) = (futures::sink::drain::<Frame>(), futures::sink::drain());
    /// let set = PingerSet::new(Config::default());
    /// let phones = Config::builder().interval(Duration::from_secs(240)).build()?;
    /// let members = (set.insert_with(&phones, phone)?, set.insert(desktop));
    /// # drop(members);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_with(&self, config: &Config, outgoing: Si) -> Result<Member, InsertError<Si>> {
        self.insert_keyed_with(config, (), outgoing)
    }
}

impl<Si, K> PingerSetHandle<Si, K> {
    /// Lets a connection in, as `insert` does; `key` comes back with its [`Departure`].
    ///
    /// # Errors
    ///
    /// The key and the sink, once the set is gone.
    pub fn insert_keyed(&self, key: K, outgoing: Si) -> Result<Member, (K, Si)> {
        self.admit(None, key, outgoing)
            .map_err(|error| (error.key, error.outgoing))
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
        self.admit(Some(config), key, outgoing)
    }

    fn admit(
        &self,
        config: Option<&Config>,
        key: K,
        outgoing: Si,
    ) -> Result<Member, InsertError<Si, K>> {
        let mut parts = Some((key, outgoing));
        let admitted = self.hub.admit(config, |seat| {
            let arrival = parts.take().map(|(key, sink)| Arrival { seat, sink, key });
            lock(&self.arrivals).extend(arrival);
        });
        match (admitted, parts) {
            (Ok(member), _) => Ok(member),
            (Err(cause), Some((key, outgoing))) => Err(InsertError {
                key,
                outgoing,
                cause,
            }),
            (Err(_), None) => unreachable!("the parts are taken by who is admitted"),
        }
    }

    /// Puts another configuration in force for all members, those under a configuration of their own
    /// included, and for all that come.
    ///
    /// It is in force within a moment, 1024 members in each poll of the set, and keeps no other member
    /// waiting. A ping that is out survives, and its deadline is counted anew from its own send time; a
    /// deadline that thereby lies in the past is judged after what has arrived is read. Where the interval is
    /// shorter, the pings that are overdue by it are spread evenly over the new interval, so that a hundred
    /// thousand do not leave at once; where it is longer, each member finds that out when it would have
    /// pinged.
    ///
    /// # Errors
    ///
    /// [`SetConfigError::Invalid`] where the [granularity](crate::ConfigBuilder::granularity) is another than
    /// the set's, and [`SetConfigError::Closed`] once the set is gone; nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::{Config, Frame, PingerSet};
    ///
    /// let set = PingerSet::<futures::sink::Drain<Frame>>::new(Config::default());
    /// let config = Config::builder().interval(Duration::from_secs(5)).build()?;
    /// set.handle().set_config(config.clone())?;
    /// assert_eq!(set.config(), config);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_config(&self, config: Config) -> Result<(), SetConfigError> {
        self.hub.configure(config, |configs, config| {
            configs.replace_all(config);
            true
        })
    }

    /// Puts another configuration in force for the members that are under `before`, as
    /// [`set_config`](Self::set_config) does for all: the interval of all phones changes, say, and that of
    /// the desktops does not. Where `before` is the set's own, those that come are under `config`, too. It
    /// does nothing where no member is under `before`.
    ///
    /// # Errors
    ///
    /// Those of [`set_config`](Self::set_config).
    pub fn replace_config(&self, before: &Config, config: Config) -> Result<(), SetConfigError> {
        self.hub
            .configure(config, |configs, config| configs.replace(before, config))
    }

    /// The sums over all members that there are and were. Once the set is gone all sums are zero.
    ///
    /// The call looks at each member, 64 of them under one lock, so that it holds up neither the set nor a
    /// reader for more than a moment. A set that is never asked pays nothing for it.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.hub.totals()
    }

    /// What has been counted and measured so far of that member.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended; its last figures are those of its [`Departure`].
    pub fn stats(&self, id: MemberId) -> Result<Stats, Closed> {
        let chunk = self.hub.find(id)?;
        Seat { chunk: &chunk, id }.visit_quietly(|machine| machine.stats())
    }

    /// Sends a ping to that member at once: see [`Controller::ping_now`](crate::Controller::ping_now).
    ///
    /// # Errors
    ///
    /// [`PingNowError::Closed`] once the heartbeat has ended, and [`PingNowError::Watching`] where it only
    /// [watches](crate::ConfigBuilder::watch).
    pub fn ping_now(&self, id: MemberId) -> Result<(), PingNowError> {
        let chunk = self.hub.find(id)?;
        Seat { chunk: &chunk, id }.ping_now()
    }

    /// Sends a ping to that member at once, unless one is out already, and tells its round trip: `within` that
    /// time, or an error. See [`Controller::probe`](crate::Controller::probe); the task that looks at the time is
    /// the one that polls the set.
    ///
    /// # Errors
    ///
    /// The future is ready with [`ProbeError::Late`](crate::ProbeError::Late) when the time is over, and with
    /// the other errors as soon as the heartbeat has ended, is closing or paused, or only
    /// [watches](crate::ConfigBuilder::watch). [`ProbeError::Ended`](crate::ProbeError::Ended) is the error, too,
    /// where there is no such member, and where its [`Member`] is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use futures::{StreamExt, channel::mpsc};
    /// use futures_pinger::{Config, Frame, PingerSet, ProbeError};
    ///
    /// let mut set = PingerSet::new(Config::default());
    /// let handle = set.handle();
    /// let (outgoing, mut frames) = mpsc::channel::<Frame>(1);
    /// let member = set.insert(outgoing);
    /// let id = member.id();
    ///
    /// let connection = async {
    ///     let probe = handle.probe(id, Duration::from_secs(5));
    ///     // The peer answers the ping.
    ///     let Some(Frame::Ping(payload)) = frames.next().await else { unreachable!() };
    ///     member.handle_pong(&payload);
    ///     let round_trip = probe.await.unwrap();
    ///     assert!(round_trip < Duration::from_secs(5));
    ///
    ///     drop(member);
    ///     let probe = handle.probe(id, Duration::from_secs(5));
    ///     assert_eq!(probe.await, Err(ProbeError::Ended));
    /// };
    /// futures::future::select(set.next(), Box::pin(connection)).await;
    /// # });
    /// ```
    pub fn probe(&self, id: MemberId, within: Duration) -> Probe {
        match self.hub.find(id) {
            Ok(chunk) => Probe::new(chunk.probe(id, within), chunk),
            Err(Closed) => Probe::refused(ProbeError::Ended),
        }
    }

    /// No pings to that member and no verdicts until [`resume`](Self::resume): see
    /// [`Controller::pause`](crate::Controller::pause).
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn pause(&self, id: MemberId) -> Result<(), Closed> {
        let chunk = self.hub.find(id)?;
        Seat { chunk: &chunk, id }.visit(|machine| machine.pause())
    }

    /// Goes on after a [`pause`](Self::pause) as if the heartbeat were new: see
    /// [`Controller::resume`](crate::Controller::resume).
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Closed, Config, Frame, PingerSet};
    ///
    /// # let outgoing = futures::sink::drain::<Frame>();
    /// let set = PingerSet::new(Config::default());
    /// let handle = set.handle();
    /// let member = set.insert(outgoing);
    /// let id = member.id();
    /// handle.pause(id)?; // A phone goes to sleep,
    /// handle.resume(id)?; // and wakes up.
    /// drop(member);
    /// assert_eq!(handle.resume(id), Err(Closed));
    /// # Ok::<(), Closed>(())
    /// ```
    pub fn resume(&self, id: MemberId) -> Result<(), Closed> {
        let chunk = self.hub.find(id)?;
        let seat = Seat { chunk: &chunk, id };
        let now = seat.now();
        seat.visit(|machine| machine.resume(now))
    }

    /// Ends the heartbeat of that member with a close frame that says `reason`, through its sink. No ping
    /// follows. The [`Departure`] comes once the frame is flushed, or at
    /// [`close_timeout`](crate::ConfigBuilder::close_timeout); its end is [`End::Closed`]. A verdict that has
    /// fallen stands.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn close(&self, id: MemberId, reason: CloseReason) -> Result<(), Closed> {
        let chunk = self.hub.find(id)?;
        let (now, reason) = (self.hub.now(), Arc::new(reason));
        Seat { chunk: &chunk, id }.visit(|machine| machine.close(&reason, now))
    }

    /// Closes all members that there are, as [`close`](Self::close) does: a gateway goes down, or its
    /// clients are to connect elsewhere. Members that come later are let in as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::StreamExt;
    /// use futures::channel::mpsc;
    /// use futures_pinger::{CloseReason, Config, End, Frame, PingerSet};
    ///
    /// let mut set = PingerSet::new(Config::default());
    /// let (outgoing, mut frames) = mpsc::channel::<Frame>(1);
    /// let member = set.insert(outgoing);
    ///
    /// let reason = CloseReason::new(1001, "going down")?;
    /// set.handle().close_all(reason.clone());
    /// assert_eq!(set.select_next_some().await.end, End::Closed);
    /// assert_eq!(frames.next().await, Some(Frame::Close(reason)));
    /// # drop(member);
    /// # Ok::<(), futures_pinger::InvalidCloseReason>(())
    /// # }).unwrap();
    /// ```
    pub fn close_all(&self, reason: CloseReason) {
        self.hub.close_all(&Arc::new(reason), self.hub.now());
    }

    /// How many heartbeats there are: members that have neither failed nor left. None once the set is
    /// gone.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hub.members()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<Si, K> Clone for PingerSetHandle<Si, K> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            arrivals: Arc::clone(&self.arrivals),
        }
    }
}

/// Names a member of a [`PingerSet`]. No two members of a set ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    seat: u32,
    generation: u32,
}

impl MemberId {
    /// The number of the member among all that share the key of the set. Not that of the seat alone: who had
    /// the seat before numbered its pings alike. 0 is for a heartbeat that shares its key with nobody, and no
    /// generation is.
    #[inline]
    fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.seat)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seat, self.generation)
    }
}

/// A connection's place in a [`PingerSet`], for whoever reads from it. Dropping it leaves the set.
///
/// Whoever reads the socket calls [`handle_pong`](Self::handle_pong) for each pong, or wraps the stream of
/// messages by [`attach`](Self::attach).
pub struct Member {
    chunk: Arc<Chunk>,
    id: MemberId,
}

impl Member {
    fn seat(&self) -> Seat<'_> {
        Seat {
            chunk: &self.chunk,
            id: self.id,
        }
    }

    /// What the set's stream names this member by.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The peer sent a pong, of any length and content. It is verified here, on the caller's thread;
    /// the set is not woken for it, unless a ping has been waiting for this answer.
    ///
    /// Before the first poll, and after the end, no pong means anything.
    #[allow(clippy::must_use_candidate)] // Most callers have nothing to do with it.
    pub fn handle_pong(&self, payload: &[u8]) -> PongKind {
        // After the end no pong means anything.
        self.seat()
            .handle_pong(payload)
            .unwrap_or(PongKind::Unsolicited)
    }

    /// Enters an answer to the newest ping that cannot say which ping it answers: see
    /// [`MessageKind::Answer`](crate::MessageKind::Answer).
    #[allow(clippy::must_use_candidate)] // Most callers have nothing to do with it.
    pub fn handle_answer(&self) -> PongKind {
        // After the end no answer means anything.
        self.seat().handle_answer().unwrap_or(PongKind::Unsolicited)
    }

    /// Enters that something else than a pong was read. This counts only with
    /// [`Liveness::Activity`](crate::Liveness::Activity), [`Liveness::Traffic`](crate::Liveness::Traffic)
    /// and [`watch`](crate::ConfigBuilder::watch). One call for each batch of messages is enough.
    pub fn handle_activity(&self) {
        // After the end activity means nothing.
        let _ = self.seat().handle_message(false);
    }

    /// Enters that a ping of the peer was read. A ping counts as activity does, and with
    /// [`watch_pings`](crate::ConfigBuilder::watch_pings) nothing else counts.
    pub fn handle_ping(&self) {
        // After the end a ping means nothing.
        let _ = self.seat().handle_message(true);
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.chunk.stats(self.id.seat)
    }

    /// Whoever reads the attached stream.
    #[inline]
    pub(crate) fn reader(&self) -> &Reader {
        self.chunk.reader(self.id.seat)
    }

    /// The driver is to look at once: the reader is back.
    #[cold]
    pub(crate) fn ring(&self) {
        self.chunk.call(self.id.seat);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.chunk.leave(self.id.seat);
    }
}

impl<Si, K, T> Stream for PingerSet<Si, K, T>
where
    Si: Sink<Frame> + Unpin,
    T: Timer,
{
    type Item = Departure<K, Si::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
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
            // Pending: the timer wakes us, and whoever has news: an insert, a drop of a member, a
            // sink, a pong that a ping has waited for.
            return Poll::Pending;
        }
        let now = Time::of(this.alarm.now());
        hub.begin(|| this.alarm.clock());
        let grid = Grid { step: hub.step };
        let driver = this
            .driver
            .get_or_insert_with(|| Driver::new(grid, now, asleep.into(), *this.mass_verdicts));

        driver.hear(hub, &handle.arrivals);
        match driver.drive(hub, now) {
            Progress::Departed(departure) => return Poll::Ready(Some(departure)),
            Progress::Busy => {}
            Progress::Resting => {
                if let Some(rung) = hub.rest() {
                    let next = driver.agenda.next();
                    let waker = || Waker::from(Arc::clone(hub));
                    if this.alarm.poll_at(next, grid, rung, waker).is_ready() {
                        // As in `Pinger`: by way of the executor.
                        hub.ring();
                    }
                    // Pending: the timer and the news wake us, or we did.
                    return Poll::Pending;
                }
            }
        }
        // Pending: we wake ourselves, after others have had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
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

impl<Si, K> fmt::Debug for PingerSetHandle<Si, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingerSetHandle")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
