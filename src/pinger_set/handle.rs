//! The handle that lets connections into a set, and steers its members.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::chunk::Seat;
use super::hub::{Arrival, Hub};
#[cfg(doc)]
use super::{Departure, End, PingerSet};
use super::{Member, MemberId, Totals};
use crate::config::Config;
use crate::error::{Closed, InsertError, PingNowError, ProbeError, SetConfigError};
use crate::frame::CloseReason;
use crate::handle::Probe;
use crate::shared::Visited;
use crate::stats::Stats;
use crate::sync::{Mutex, lock};

/// Lets connections into a [`PingerSet`], and steers each by its [`MemberId`], from any task or thread. A handle
/// does not keep the set alive.
///
/// A call for one member takes as long in a set of a million as in a set of one, and acts at once, as those of a
/// [`Controller`](crate::Controller) do. An id is of use only in the set that it comes from.
///
/// # Errors
///
/// Each call for a member returns [`Closed`] ([`PingNowError::Closed`]) once its heartbeat has ended, or its
/// [`Member`] was dropped.
pub struct PingerSetHandle<Si, K = ()> {
    pub(super) hub: Arc<Hub>,
    /// Members that the driver has not seen yet.
    pub(super) arrivals: Arc<Mutex<Vec<Arrival<Si, K>>>>,
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
    /// the same chunks of 64, so that one that is used by a single member takes the room of 64. A set has at
    /// most 256 configurations at a time. Those that [`replace_config`](Self::replace_config) has made equal
    /// still count one by one, each until its last member has left.
    ///
    /// The granularity that is not set follows from the shortest duration of a configuration: where durations below
    /// 1 s may come, set the same one in all configurations of a set.
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
            (Err(_), None) => unreachable!("the parts are taken only if the member is admitted"),
        }
    }

    /// Puts another configuration in force for all members, those under a configuration of their own
    /// included, and for all that come later.
    ///
    /// Each poll of the set puts the configuration in force for 1024 members, and keeps no other member
    /// waiting. A ping that is out survives, and its deadline is counted anew from its own send time; see
    /// [`Heartbeat::set_config`](crate::Heartbeat::set_config). Where the interval is
    /// shorter, the pings that are overdue by it are spread evenly over the new interval, so that a hundred
    /// thousand do not leave at once; where it is longer, each member finds that out when it would have
    /// pinged. A new member may be under the configuration before until the next poll of the set. Until then
    /// calls of a handle for that member are answered by the configuration before.
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
        })?;
        Ok(())
    }

    /// Puts another configuration in force for the members that are under `before`, as
    /// [`set_config`](Self::set_config) does for all: the interval of all phones changes, for instance, and
    /// that of the desktops does not. If `before` is the set's own configuration, members that come later are
    /// under `config`, too. A member that is inserted under `before` afterwards is under `before`: change what your
    /// inserts take first.
    ///
    /// Configurations are compared by value. Phones and desktops that have been given the same configuration are one
    /// group from then on, which is changed as one.
    ///
    /// Returns whether `before` is a configuration of the set or of its members. If it is not, nothing has changed.
    ///
    /// # Errors
    ///
    /// Those of [`set_config`](Self::set_config).
    pub fn replace_config(&self, before: &Config, config: Config) -> Result<bool, SetConfigError> {
        self.hub
            .configure(config, |configs, config| configs.replace(before, config))
    }

    /// The sums over all members that there are and were. Once the set is gone all sums are zero.
    ///
    /// The sums are kept up to date with each ping and pong, so that a call takes microseconds, also for a
    /// million members, and holds up neither the set nor a reader. While other threads are at work, one sum may
    /// include a change that another sum does not include yet.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.hub.totals()
    }

    /// How many members are [suspect](crate::HeartbeatState::Suspect) at this moment: they have missed pings,
    /// or wait for a pong for longer than their round trips usually take. [`totals`](Self::totals) know only of
    /// the first.
    ///
    /// The call looks at each member, 64 of them under one lock: some milliseconds for a million.
    #[must_use]
    pub fn suspects(&self) -> usize {
        self.hub.suspects()
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

    /// Sends a ping to that member at once, unless one is out already, and returns a future of its round trip,
    /// which is an error if no answer comes `within` that time. See
    /// [`Controller::probe`](crate::Controller::probe); the task that ends the probe is the one that polls the
    /// set.
    ///
    /// # Errors
    ///
    /// The future is ready with [`ProbeError::Late`](crate::ProbeError::Late) when the time is over, and with
    /// the other errors as soon as the heartbeat has ended, is closing or paused, or only
    /// [watches](crate::ConfigBuilder::watch). The error is [`ProbeError::Ended`](crate::ProbeError::Ended) also if
    /// there is no such member, or its [`Member`] is dropped.
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

    /// Sends no pings to that member and judges nothing until [`resume`](Self::resume): see
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

    /// Ends the heartbeat of that member with a close frame with `reason`, through its sink. No ping
    /// follows. The [`Departure`] comes once the frame is flushed, or once the sink has taken nothing for the
    /// [`close_timeout`](crate::ConfigBuilder::close_timeout), or with the drop of the [`Member`]. Its end is
    /// [`End::Closed`], and [`close_sent`](Departure::close_sent) says whether the frame was flushed. A verdict that
    /// has fallen stands.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn close(&self, id: MemberId, reason: CloseReason) -> Result<(), Closed> {
        let chunk = self.hub.find(id)?;
        let (now, reason) = (self.hub.now(), Arc::new(reason));
        Seat { chunk: &chunk, id }.visit(|machine| machine.close(&reason, now))
    }

    /// Closes all members that there are, as [`close`](Self::close) does, for a gateway that goes down, or whose
    /// clients must connect elsewhere. Members that come later are let in as before.
    /// [`PingerSet::drain`](super::PingerSet::drain) waits for the end of all.
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

    /// How many heartbeats there are: members that have neither failed nor left. 0 once the set is gone.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hub.members()
    }

    /// Whether there are no heartbeats.
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

impl<Si, K> fmt::Debug for PingerSetHandle<Si, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingerSetHandle")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
