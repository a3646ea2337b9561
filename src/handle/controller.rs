//! The handle by which other tasks steer a heartbeat.

use std::fmt;
use std::time::Duration;

use super::probe::Probe;
use crate::config::Config;
use crate::error::{Closed, PingNowError};
use crate::shared::{Shared, Visited};
use crate::stats::Stats;
use crate::sync::Arc;

/// Steers a heartbeat from any thread, and tells what it has seen; from
/// [`Pinger::controller`](crate::Pinger::controller) or
/// [`KeepAlive::controller`](crate::KeepAlive::controller).
///
/// A call never waits: it changes the state of the heartbeat at once, and wakes the task that drives the
/// heartbeat where there is something to do earlier than that task would look. Pings are sent, and
/// deadlines judged, by that task alone, with its next poll. Calls do not queue up: of a thousand calls the
/// last configuration counts, and one ping is sent.
///
/// A controller does not keep the heartbeat alive. Clones are cheap and steer the same heartbeat.
///
/// # Errors
///
/// Each call that asks for something returns [`Closed`] ([`PingNowError::Closed`]) once the heartbeat has
/// ended or was dropped.
///
/// # Wakeups
///
/// The heartbeat's task is known from the first poll of the heartbeat on.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use futures::channel::mpsc;
/// use futures_pinger::{Closed, Config, PingNowError, Stopped, pinger};
///
/// let (outgoing, frames) = mpsc::channel(0);
/// let (pongs, mut pinger) = pinger(outgoing, Config::default());
/// let controller = pinger.controller();
///
/// // Elsewhere, while a task runs the heartbeat:
/// controller.stop()?;
///
/// assert_eq!(pinger.await.unwrap(), Stopped::Requested);
/// assert_eq!(controller.ping_now(), Err(PingNowError::Closed));
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
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends a ping at once, unless one is out already or the heartbeat is paused. The next one is
    /// due an interval after it.
    ///
    /// # Errors
    ///
    /// [`PingNowError::Closed`] once the heartbeat has ended, and [`PingNowError::Watching`] where it only
    /// [watches](crate::ConfigBuilder::watch).
    pub fn ping_now(&self) -> Result<(), PingNowError> {
        self.shared.ping_now()?;
        self.shared.mark_called();
        Ok(())
    }

    /// Sends a ping at once, unless one is out already, and returns a future of its round trip, which is an
    /// error if no answer comes `within` that time. The next ping is due an interval after a ping that was
    /// sent for the probe.
    ///
    /// The ping is an ordinary one, and is judged by the [timeout](crate::ConfigBuilder::timeout) as any
    /// other; `within` itself judges nothing. Where the ping is missed and another follows
    /// ([`max_missed`](crate::ConfigBuilder::max_missed)), the probe waits for the answer of that one. What
    /// answers a ping by the [`Liveness`](crate::Liveness) of the heartbeat ends the probe too, with the time
    /// from the ping to that answer. Several probes share one ping.
    ///
    /// `within` counts from this call, or from the first poll of the heartbeat. `Duration::MAX` waits until
    /// the heartbeat ends, and `Duration::ZERO` does not wait: the ping is sent nevertheless. A probe has no
    /// timer of its own: the task of the heartbeat ends it, up to one step of the
    /// [granularity](crate::ConfigBuilder::granularity) after `within`, later if that task is late, and never
    /// if the heartbeat is not polled. What has arrived by then is read first, and a stall of this process
    /// makes `within` longer, as it does with a [timeout](crate::ConfigBuilder::stall_grace).
    ///
    /// # Errors
    ///
    /// The future is ready with [`ProbeError::Late`](crate::ProbeError::Late) when the time is over, and with
    /// the other errors as soon as the heartbeat ends, is closing or paused, or only
    /// [watches](crate::ConfigBuilder::watch).
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use futures::{StreamExt, channel::mpsc};
    /// use futures_pinger::{Config, Frame, ProbeError, pinger};
    ///
    /// let (outgoing, mut frames) = mpsc::channel(0);
    /// let (pongs, mut pinger) = pinger(outgoing, Config::default());
    /// let controller = pinger.controller();
    ///
    /// let connection = async {
    ///     let probe = controller.probe(Duration::from_secs(5));
    ///     // The peer answers the ping.
    ///     let Some(Frame::Ping(payload)) = frames.next().await else { unreachable!() };
    ///     pongs.handle_pong(&payload).unwrap();
    ///     let round_trip = probe.await.unwrap();
    ///     assert!(round_trip < Duration::from_secs(5));
    ///
    ///     let probe = controller.probe(Duration::from_secs(5));
    ///     controller.stop().unwrap();
    ///     assert_eq!(probe.await, Err(ProbeError::Ended));
    /// };
    /// futures::join!(pinger, connection).0.unwrap();
    /// # });
    /// ```
    pub fn probe(&self, within: Duration) -> Probe {
        let asked = self.shared.probe(within);
        Probe::new(asked, Arc::clone(&self.shared) as _)
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
        self.shared.set_config(config)
    }

    /// Sends no pings and judges nothing until [`resume`](Self::resume), for instance while a phone sleeps.
    /// Pongs are still read, a flush that has begun is completed, and the end of the connection still ends
    /// the heartbeat.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn pause(&self) -> Result<(), Closed> {
        self.shared.visit(|machine| machine.pause())?;
        // The writer of a socket waits for a ping that is on its way, but not for a paused one.
        self.shared.wake_writer();
        self.shared.mark_called();
        Ok(())
    }

    /// Goes on after a [`pause`](Self::pause) as if the heartbeat were new: a ping that was out is
    /// written off, and the next is due one interval from now.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn resume(&self) -> Result<(), Closed> {
        let now = self.shared.now();
        self.shared.visit(|machine| machine.resume(now))?;
        self.shared.mark_called();
        Ok(())
    }

    /// Ends the heartbeat without a frame. A [`Pinger`](crate::Pinger) is then ready with
    /// [`Stopped::Requested`](crate::Stopped::Requested), a [`KeepAlive`](crate::KeepAlive) becomes a
    /// plain socket. A verdict that has fallen stands.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn stop(&self) -> Result<(), Closed> {
        self.shared.visit(|machine| machine.stop())?;
        self.shared.mark_called();
        // The writer of a socket waits for a ping that is on its way. The visit does not call a driver that
        // is awake, and the reader may not be polled soon.
        self.shared.wake_writer();
        Ok(())
    }

    /// Reports that the peer was seen to be active elsewhere. This counts only with
    /// [`Liveness::Activity`](crate::Liveness::Activity), [`Liveness::Traffic`](crate::Liveness::Traffic) and
    /// [`watch`](crate::ConfigBuilder::watch). One call for each batch of messages is enough.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    ///
    /// # Wakeups
    ///
    /// The heartbeat is woken once for each ping that this answers.
    pub fn handle_activity(&self) -> Result<(), Closed> {
        self.shared.handle_message(false)
    }

    /// Reports that a ping of the peer was seen elsewhere. A ping counts as activity does, and with
    /// [`watch_pings`](crate::ConfigBuilder::watch_pings) nothing else counts.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn handle_ping(&self) -> Result<(), Closed> {
        self.shared.handle_message(true)
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Whether the heartbeat exists and has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.shared.is_gone()
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}
