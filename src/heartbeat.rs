//! The heartbeat as a state machine without I/O: no clock, no `Context`, no waker.
//!
//! Every other heartbeat of this crate drives the same machine. [`Heartbeat`] is for callers that have no
//! [`Sink`](futures_sink::Sink): an FFI binding, an event loop, a WebSocket crate with methods of its own.
//! Each call takes the time from the caller. Report what has happened (`handle_…`), then call
//! [`poll_output`](Heartbeat::poll_output) until it returns [`Output::Wait`] or [`Output::Done`].
//!
//! ```text
//!              due (interval, jitter)            flushed                      pong does not match: counted, ignored
//!   ┌──────┐ ─────────────────────► ┌─────────┐ ────────────► ┌──────────────┐ ◄──┐
//!   │ Idle │                        │ Sending │               │   Waiting    │ ───┘
//!   └──────┘ ◄───────────────────── └─────────┘ ◄──────────── └──────────────┘
//!       ▲     matching pong (either state: it may beat the flush)     │ timeout, misses < max_missed: ping again at once
//!       └─────────────────────────────────────────────────────────────┤
//!              write_timeout: Done(TimedOut, phase Write);             │ timeout, misses = max_missed
//!              with a dedicated close sink by way of Closing           ▼
//!                                                              Closing ── flushed or close_timeout ──► Done(TimedOut, phase Pong)
//! ```
//!
//! With [`watch`](crate::ConfigBuilder::watch) a heartbeat sends no pings, and waits for the peer's messages
//! alone.
//!
//! ```text
//!   ┌──────────┐ ◄──┐ message (with `watch_pings`: ping)
//!   │ Watching │ ───┘
//!   └──────────┘ ── within, nothing came ──► Closing ── flushed or close_timeout ──► Done(TimedOut, phase Silence)
//! ```
//!
//! # Invariants
//!
//! 1. One ping is in flight at the most, and nothing is sent after the close frame.
//! 2. A verdict is never early: not before the flush + timeout, nor before the first offer + write
//!    timeout.
//! 3. A pong that was handled wins against a deadline that was not judged yet. Deadlines are judged
//!    by [`handle_timeout`](Heartbeat::handle_timeout) alone, which is called once all input that
//!    was ready has been handled; where input never ends, by
//!    [`handle_backlog`](Heartbeat::handle_backlog).
//! 4. With x = the last accepted proof of life (before any: the start + initial delay − interval)
//!    and g = the granularity, a strict heartbeat that is driven as it asks has its verdict by
//!    `x + interval + max_missed · (write_timeout + timeout) + (2 · max_missed + 2) · g`. Where the
//!    process stalls, add the time it stalled, and for either deadline of each ping up to twice the
//!    longest stall, or twice the timeout if that is less. With a [`Meter`](crate::Meter) add
//!    `2 · max_missed · progress`. The close frame adds at most `close_timeout + g`.
//!
//! # Schedule
//!
//! Due times lie on a grid: the start + initial delay, then every interval. A ping that leaves late
//! (a long round trip, a pause, a stall) moves no later one, and what was skipped is not made up
//! for. With [`initial_delay_at_random`](crate::ConfigBuilder::initial_delay_at_random) the first of them is
//! drawn evenly from the interval. Only [`ping_now`](Heartbeat::ping_now), [`resume`](Heartbeat::resume), another interval by
//! [`set_config`](Heartbeat::set_config) and, with
//! [`Liveness::Activity`](crate::Liveness::Activity), the peer's data start a new
//! grid.
//!
//! # A local stall is not the peer's silence
//!
//! A deadline that passes while this process does not run says nothing about the peer: its pong may
//! lie unread in a buffer. With slack = timeout / 8, no less than 10 ms and no more than 1 s or
//! half the timeout:
//!
//! ```text
//!     flush                         deadline − slack   deadline
//!       ├───────────────────────────────┼──────────────────┤
//!                                   checkpoint
//! ```
//!
//! The heartbeat asks to be woken at the checkpoint, or before it when the next ping is due. If the
//! heartbeat is driven at the checkpoint on time, the deadline stands. If it is driven there L late, the
//! deadline moves to now + L, or to now + slack if that is more, or to now + timeout if that is less. L
//! counts from the wake-up as it was rounded up to the grid, and leaves out one step of the grid, which the
//! timer itself may take. A deadline that is itself seen more than the slack late moves likewise, once;
//! where the checkpoint was that late already, the deadline moves by the slack. So no verdict falls unless
//! the heartbeat was driven, with its input read, shortly before, or three stalls in a row fell into the
//! wait of a single ping. A dead peer is found all the same. The write deadline has the same grace, and the
//! close deadline has none. [`ConfigBuilder::stall_grace`](crate::ConfigBuilder::stall_grace) turns the
//! grace off.

use std::mem;

use crate::config::Config;
use crate::error::PingNowError;
use crate::frame::Frame;
pub use crate::machine::{BACKLOG_LIMIT, Destination, PongKind, Verdict};
use crate::machine::{Key, Machine, Record, Step, Terms};
use crate::stats::Stats;
use crate::time::{Instant, Time};
use crate::trace::Trace;

/// What the caller is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a ping: once the sink is ready, put in what [`Heartbeat::transmit`] returns, flush the sink,
    /// and call [`Heartbeat::handle_sent`]. This is returned once for each ping; poll on for its deadline.
    Ping,
    /// Send the close frame, by the same steps. This is returned once.
    Close(Destination),
    /// Wait until that instant, and then call [`Heartbeat::handle_timeout`]. Without an instant there is
    /// nothing to wait for but input. Handle any input that comes before at once.
    Wait(Option<Instant>),
    /// The heartbeat has ended, and this answer does not change any more.
    Done(Verdict),
}

/// The heartbeat of one connection, without I/O; see the [module docs](self).
///
/// # Examples
///
/// A peer that answers each ping, in virtual time:
///
/// ```
/// use std::time::{Duration, Instant};
/// use futures_pinger::{Config, Frame, Heartbeat, Output, PongKind};
///
/// let start = Instant::now();
/// let at = |secs| start + Duration::from_secs(secs);
/// let mut heartbeat = Heartbeat::new(Config::default(), start);
/// assert_eq!(heartbeat.poll_output(start), Output::Wait(Some(at(15))));
///
/// // 15 s later. The sink is ready:
/// assert_eq!(heartbeat.poll_output(at(15)), Output::Ping);
/// let Some(Frame::Ping(payload)) = heartbeat.transmit(at(15)) else { unreachable!() };
/// heartbeat.handle_sent(at(15));
///
/// // A second later the peer's pong is read:
/// let rtt = Duration::from_secs(1);
/// assert_eq!(heartbeat.handle_pong(&payload, at(16)), PongKind::Matched { rtt });
/// assert_eq!(heartbeat.poll_output(at(16)), Output::Wait(Some(at(30))));
/// ```
#[derive(Debug)]
pub struct Heartbeat {
    terms: Terms,
    record: Record,
    dedicated_close: bool,
    trace: Trace,
}

impl Heartbeat {
    /// A heartbeat that starts at `now`, with a random key of its own.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self::start(Terms::new(config), now)
    }

    /// A heartbeat that starts at `now`, with a given key, for reproducible payloads and jitter. A peer that
    /// knows the key can forge pongs.
    #[must_use]
    pub fn with_key(config: Config, now: Instant, key: [u8; 16]) -> Self {
        Self::start(Terms::with_key(config, Key::new(key)), now)
    }

    fn start(terms: Terms, now: Instant) -> Self {
        let mut heartbeat = Self {
            trace: Trace::new(&terms.config),
            terms,
            record: Record::new(),
            dedicated_close: false,
        };
        heartbeat.act(|machine| machine.begin(Time::of(now)));
        heartbeat
    }

    /// Gives the close frame a sink of its own, so that it is sent after a write timeout, too.
    #[must_use]
    pub fn dedicated_close(mut self) -> Self {
        self.dedicated_close = true;
        self
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.terms.config
    }

    #[inline]
    fn machine(&self) -> Machine<'_, &Record> {
        Machine::new(&self.terms, &self.record)
    }

    /// Changes the record, and passes the events on to the subscriber.
    #[inline]
    fn act<R>(&mut self, act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R) -> R {
        let mut machine = Machine::new(&self.terms, &mut self.record);
        machine.dedicated_close = self.dedicated_close;
        let result = act(&mut machine);
        self.trace.tell(machine.events);
        result
    }

    /// Judges the deadlines. Call it when the instant of [`Output::Wait`] has come, after all input that was
    /// ready has been handled. At any other time the call does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.act(|machine| machine.handle_timeout(Time::of(now)));
    }

    /// Takes the place of [`handle_timeout`](Self::handle_timeout) when `read` more items have been handled
    /// and further ones are ready. A deadline is not judged before [`BACKLOG_LIMIT`] items have been read past
    /// it; then it is judged, without grace.
    ///
    /// A caller that cannot know whether more is ready calls this with 1 after each item, and
    /// [`handle_timeout`](Self::handle_timeout) when its timer fires.
    pub fn handle_backlog(&mut self, read: u32, now: Instant) {
        self.act(|machine| machine.handle_backlog(read, Time::of(now)));
    }

    /// Handles a pong that the peer sent, of any length and content.
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) -> PongKind {
        self.act(|machine| machine.handle_pong(payload, Time::of(now)))
    }

    /// Handles an answer to the newest ping that cannot say which ping it answers: see
    /// [`MessageKind::Answer`](crate::MessageKind::Answer).
    pub fn handle_answer(&mut self, now: Instant) -> PongKind {
        self.act(|machine| machine.handle_answer(Time::of(now)))
    }

    /// Handles something else that the peer sent, such as data. It counts only with
    /// [`Liveness::Activity`](crate::Liveness::Activity), [`Liveness::Traffic`](crate::Liveness::Traffic)
    /// and [`watch`](crate::ConfigBuilder::watch). One call for each batch of messages is enough.
    pub fn handle_activity(&mut self, now: Instant) {
        self.act(|machine| machine.handle_message(false, Time::of(now), Time::of(now)));
    }

    /// Handles a ping that the peer sent. A ping counts as activity does, and with
    /// [`watch_pings`](crate::ConfigBuilder::watch_pings) nothing else counts. The caller answers the ping.
    pub fn handle_ping(&mut self, now: Instant) {
        self.act(|machine| machine.handle_message(true, Time::of(now), Time::of(now)));
    }

    /// Handles the completed flush of the frame that [`transmit`](Self::transmit) returned.
    pub fn handle_sent(&mut self, now: Instant) {
        self.act(|machine| machine.handle_sent(Time::of(now)));
    }

    /// Handles a close frame that cannot be written: the verdict stands without it.
    ///
    /// Before a verdict the call does nothing: the caller reports a broken transport itself.
    pub fn handle_close_failed(&mut self) {
        self.act(|machine| machine.handle_close_failed());
    }

    /// Puts another configuration in force. The ping in flight survives: its deadline is counted
    /// anew from its own sending. If that deadline or its [checkpoint](crate::heartbeat) has passed, it is
    /// judged one slack after the call, so that a pong that has arrived can be read first. Without a stall
    /// grace it is judged at the next turn of the timer. Where a local stall has hidden the old deadline, the
    /// new one moves as the old one does. The next ping is due one new interval after the last due time. A lower
    /// `max_missed` applies from the next miss on. Once the verdict has fallen the call changes nothing.
    pub fn set_config(&mut self, config: Config, now: Instant) {
        if self.machine().is_over() {
            return;
        }
        let before = mem::replace(&mut self.terms.config, config);
        self.act(|machine| machine.reconfigure(&before, Time::of(now)));
    }

    /// Sends a ping at once, unless one is out already or the heartbeat is paused. The next one is
    /// due an interval after it.
    ///
    /// # Errors
    ///
    /// [`PingNowError::Closed`] once the heartbeat has ended, and [`PingNowError::Watching`] where it only
    /// [watches](crate::ConfigBuilder::watch).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use futures_pinger::{Config, Heartbeat, Output, PingNowError};
    ///
    /// let now = Instant::now();
    /// let mut heartbeat = Heartbeat::new(Config::default(), now);
    /// assert_eq!(heartbeat.ping_now(now), Ok(()));
    /// assert_eq!(heartbeat.poll_output(now), Output::Ping);
    ///
    /// let config = Config::builder().watch(Duration::from_secs(30)).build()?;
    /// let mut watcher = Heartbeat::new(config, now);
    /// assert_eq!(watcher.ping_now(now), Err(PingNowError::Watching));
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    pub fn ping_now(&mut self, _now: Instant) -> Result<(), PingNowError> {
        if self.machine().has_ended() {
            return Err(PingNowError::Closed);
        }
        if self.act(|machine| machine.ping_now()) {
            Ok(())
        } else {
            Err(PingNowError::Watching)
        }
    }

    /// Sends no pings and judges nothing until [`resume`](Self::resume). Pongs are still handled, a flush
    /// that has begun should be completed, and a close frame on its way goes on.
    pub fn pause(&mut self, _now: Instant) {
        self.act(|machine| machine.pause());
    }

    /// Goes on after a [`pause`](Self::pause) as a new heartbeat does: a ping that was in flight is written
    /// off without a miss, and the next is due one interval from now. Without a pause the call does nothing.
    pub fn resume(&mut self, now: Instant) {
        self.act(|machine| machine.resume(Time::of(now)));
    }

    /// Ends the heartbeat, which sends no further frame. A verdict that has fallen stands.
    pub fn stop(&mut self) {
        self.act(|machine| machine.stop());
    }

    /// Returns what to do next. Call it until it returns [`Output::Wait`] or [`Output::Done`].
    ///
    /// The answer may change after any other call, and when the instant of [`Output::Wait`] comes.
    pub fn poll_output(&mut self, now: Instant) -> Output {
        match self.act(|machine| machine.step(Time::of(now))) {
            Step::Ping => Output::Ping,
            Step::Close(destination) => Output::Close(destination),
            Step::Wait(until) => Output::Wait(until.instant()),
            Step::Done(verdict) => Output::Done(verdict),
        }
    }

    /// Returns the frame that is to be sent, or `None` if there is none, or no longer. Call it once the sink
    /// is ready, and put the frame into the sink at once: the heartbeat keeps no copy.
    pub fn transmit(&mut self, now: Instant) -> Option<Frame> {
        self.act(|machine| machine.transmit(Time::of(now)))
    }

    /// Whether [`transmit`](Self::transmit) would return a frame.
    #[inline]
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.machine().wants_transmit()
    }

    /// Whether the verdict has fallen and the close frame is on its way.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.machine().is_closing()
    }

    /// What has been counted and measured so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.machine().stats()
    }
}

/// The event of a verdict is emitted even if its close frame was never written.
impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.handle_close_failed();
    }
}
