//! The heartbeat as a future over a sink of frames and a stream of pongs.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedFuture, Stream};
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::config::Config;
use crate::drive::{Driven, LastAnswer, Sinks, drive};
use crate::error::Error;
use crate::frame::{Frame, Pong};
use crate::handle::{Controller, PongSender, Pongs, pongs};
use crate::machine::{Destination, Input, Verdict};
use crate::meter::{Meter, Progress};
use crate::shared::{Driving, Owner, Presence, Then, Visited};
use crate::stats::Stats;
use crate::time::Time;
use crate::timer::{Alarm, FuturesTimer, Timer};

/// Makes a heartbeat on `outgoing`, and the handle that takes the peer's pongs, as ktor's `pinger` does.
///
/// The heartbeat does nothing unless it is polled: join it with the reader, by `select!` or `join!`. A
/// heartbeat that is spawned apart may look at its deadline, on a machine where tasks wait for their turn,
/// while the reader still waits with the pong before it: then a live peer is condemned.
///
/// The reader of the socket passes each pong to [`PongSender::handle_pong`], or reads through
/// [`PongSender::attach`], and drops the sender when the connection ends.
///
/// # Queues
///
/// Where `outgoing` is a queue, "flushed" means queued: the queue takes a ping even if nothing reads the
/// queue, the write timeout does not notice a stuck writer, and the timeout runs while the ping waits
/// behind other messages. Give the heartbeat an `mpsc::channel(0)` of its own (its flush completes
/// when the frame is taken out) that the writer reads ahead of data, or make the timeouts long
/// enough for the longest backlog.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// # use std::time::Duration;
/// use futures::{StreamExt, channel::mpsc};
/// use futures_pinger::{Config, Error, Frame, TimeoutPhase, pinger};
///
/// let config = Config::builder()
///     .initial_delay(Duration::ZERO)
///     .timeout(Duration::from_millis(30))
///     .build()?;
/// let (outgoing, frames) = mpsc::channel(0);
/// let (pongs, pinger) = pinger(outgoing, config);
///
/// // A peer that reads and never answers:
/// let (ended, frames) = futures::join!(pinger, frames.collect::<Vec<_>>());
/// let Err(Error::Timeout(verdict)) = ended else { unreachable!() };
/// assert_eq!(verdict.phase(), TimeoutPhase::Pong);
/// assert!(matches!(&frames[..], [Frame::Ping(_), Frame::Close(_)]));
/// # drop(pongs);
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// # }).unwrap();
/// ```
pub fn pinger<Si>(outgoing: Si, config: Config) -> (PongSender, Pinger<Si, Pongs>) {
    let home = Owner::new(config);
    let (sender, pongs) = pongs(home.share());
    (sender, Pinger::at(home, outgoing, pongs))
}

/// Pongs read in one poll before the executor's other tasks have their turn.
const BUDGET: u32 = 64;

/// How a heartbeat ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stopped {
    /// The pongs have ended, and with them the connection: the [`PongSender`](crate::PongSender) was dropped,
    /// or the stream of pongs has ended.
    PongsEnded,
    /// The pings of a [`Ponger`](crate::Ponger) have ended.
    PingsEnded,
    /// The heartbeat was asked to [stop](crate::Controller::stop).
    Requested,
}

/// The close frame goes to the sink that takes the pings; the default of a [`Pinger`].
///
/// Users cannot make a `SameSink`, as it would drop the frames that it takes. A `Pinger` never polls it.
#[derive(Debug)]
pub struct SameSink(());

impl Sink<Frame> for SameSink {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Frame) -> Result<(), Infallible> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

pin_project! {
    /// A heartbeat over a sink of [`Frame`]s and a stream of [`Pong`](crate::Pong)s: a future that
    /// is ready when the peer is gone, or the connection has ended.
    ///
    /// A `Pinger` sends a ping each interval, flushes it, waits for the pong that matches, and measures the
    /// round-trip time. When the peer does not answer in time, the future sends a close frame and is ready
    /// with [`Error::Timeout`]. See the [rules](crate::heartbeat), and
    /// [`pinger()`](crate::pinger()) for the common case.
    ///
    /// The sink is never closed: closing is up to its owner.
    ///
    /// # Panics
    ///
    /// Polling it after it was ready panics; its [`FusedFuture`] tells before that.
    ///
    /// # Cancel safety
    ///
    /// Between polls nothing is held that could be lost: each frame is made when the sink is ready
    /// for it. Dropping the heartbeat means, on the wire, that no further frame comes from it; a
    /// ping that the sink has taken may still be flushed by the next user of the sink.
    ///
    /// # Wakeups
    ///
    /// The task is woken by the sink while a frame waits for the sink, by a stream of pongs, and by the timer:
    /// once for a ping that is answered at once, with the defaults. Where the timeout is shorter than about
    /// 8/7 of the interval the timer wakes the task once more, to look for the pong. The pongs of a
    /// [`PongSender`] wake the task only where the next ping waits for them.
    ///
    /// # Examples
    ///
    /// Over channels, with pongs from an `async_channel`:
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use std::time::Duration;
    /// use futures::{StreamExt, channel::mpsc};
    /// use futures_pinger::{Config, Frame, Pinger, Pong, Stopped};
    ///
    /// # let config = Config::builder().initial_delay(Duration::ZERO).build().unwrap();
    /// let (outgoing, mut frames) = mpsc::channel(0);
    /// let (pongs, pongs_in) = async_channel::bounded(1);
    /// let pinger = Pinger::new(outgoing, pongs_in, config);
    ///
    /// let peer = async {
    ///     let Some(Frame::Ping(payload)) = frames.next().await else { unreachable!() };
    ///     pongs.send(Pong(payload)).await.unwrap();
    ///     pongs.close();
    /// };
    /// let (ended, ()) = futures::join!(pinger, peer);
    /// assert_eq!(ended.unwrap(), Stopped::PongsEnded);
    /// # });
    /// ```
    #[project = Parts]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Pinger<Si, St, T = FuturesTimer, Out = SameSink> {
        #[pin]
        outgoing: Si,
        #[pin]
        pongs: St,
        #[pin]
        alarm: Alarm<T>,
        #[pin]
        out: Out,
        home: Owner,
        // The sink that has a frame of ours and has not flushed it.
        in_sink: Option<Destination>,
        // Whether the close frame goes to `out`.
        dedicated_close: bool,
        // The bytes that pass the transport.
        progress: Option<Box<Progress>>,
        // What the sink has answered.
        last: LastAnswer,
        finished: bool,
    }
}

impl<Si, St> Pinger<Si, St> {
    /// A heartbeat that sends into `outgoing` and reads from `pongs`; it begins with its first
    /// poll.
    ///
    /// tokio's channels say that they are empty once a task has done 128 operations in one poll. Where `pongs`
    /// is such a channel, and another future in the same task reads a busy one, a pong may seem to be missing.
    /// Use [`pinger()`](crate::pinger()) there, whose [`PongSender`] is no channel.
    pub fn new(outgoing: Si, pongs: St, config: Config) -> Self {
        Self::at(Owner::new(config), outgoing, pongs)
    }

    const fn at(home: Owner, outgoing: Si, pongs: St) -> Self {
        Self {
            outgoing,
            pongs,
            alarm: Alarm::new(FuturesTimer::new()),
            out: SameSink(()),
            home,
            in_sink: None,
            dedicated_close: false,
            progress: None,
            last: LastAnswer::NONE,
            finished: false,
        }
    }
}

impl<Si, St, T, Out> Pinger<Si, St, T, Out> {
    /// Keeps time by `timer`. Choose it before the first poll: the times of one clock mean nothing
    /// to another.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Config, TokioTimer, pinger};
    ///
    /// # let outgoing = ();
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// let pinger = pinger.with_timer(TokioTimer::new());
    /// # drop((pongs, pinger));
    /// ```
    pub fn with_timer<T2>(self, timer: T2) -> Pinger<Si, St, T2, Out> {
        Pinger {
            outgoing: self.outgoing,
            pongs: self.pongs,
            alarm: Alarm::new(timer),
            out: self.out,
            home: self.home,
            in_sink: self.in_sink,
            dedicated_close: self.dedicated_close,
            progress: self.progress,
            last: self.last,
            finished: self.finished,
        }
    }

    /// Sends the close frame of a verdict to `out`, and nothing else there, as ktor does to its `out` channel.
    /// The close frame is then sent after a write timeout, too, while the sink of the pings is still blocked.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use std::time::Duration;
    /// use futures::{StreamExt, channel::mpsc};
    /// use futures_pinger::{CloseReason, Config, Frame, pinger};
    ///
    /// # let config = Config::builder().initial_delay(Duration::ZERO)
    /// #     .timeout(Duration::from_millis(20)).build().unwrap();
    /// let (outgoing, _never_read) = mpsc::channel(0);
    /// let (out, closes) = mpsc::channel(1);
    /// let (pongs, pinger) = pinger(outgoing, config);
    ///
    /// pinger.close_to(out).await.unwrap_err();
    /// let closes: Vec<_> = closes.collect().await;
    /// assert_eq!(closes, [Frame::Close(CloseReason::ping_timeout())]);
    /// # drop(pongs);
    /// # });
    /// ```
    pub fn close_to<O>(self, out: O) -> Pinger<Si, St, T, O> {
        Pinger {
            outgoing: self.outgoing,
            pongs: self.pongs,
            alarm: self.alarm,
            out,
            home: self.home,
            in_sink: self.in_sink,
            dedicated_close: true,
            progress: self.progress,
            last: self.last,
            finished: self.finished,
        }
    }

    /// Takes bytes that pass `meter` for signs of life: they extend the two deadlines of a ping, each by
    /// [`progress`](crate::ConfigBuilder::progress) in all at the most. The meter lies under the socket that
    /// takes the frames and gives the pongs.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Config, Meter, pinger};
    ///
    /// # let (outgoing, tcp) = ((), std::io::empty());
    /// let meter = Meter::new();
    /// let transport = meter.wrap(tcp); // which carries the WebSocket
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// let pinger = pinger.with_meter(meter);
    /// # drop((transport, pongs, pinger));
    /// ```
    pub fn with_meter(mut self, meter: Meter) -> Self {
        self.progress = Some(Box::new(Progress::new(meter)));
        self
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.home.stats()
    }

    /// A handle that steers the heartbeat, and tells its figures, from any task or thread. A heartbeat without
    /// a controller pays nothing for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures_pinger::{Config, HeartbeatState, pinger};
    ///
    /// # let (outgoing, frames) = futures::channel::mpsc::channel(0);
    /// let (pongs, mut pinger) = pinger(outgoing, Config::default());
    /// let controller = pinger.controller();
    /// # let controller2 = controller.clone();
    /// let page = move || controller.stats().smoothed_rtt(); // shown elsewhere
    /// # assert_eq!(page(), None);
    /// # controller2.stop().unwrap();
    ///
    /// pinger.await.unwrap();
    /// # drop((pongs, frames));
    /// # });
    /// ```
    pub fn controller(&mut self) -> Controller {
        Controller::new(self.home.share())
    }

    /// A reference to the sink and the pongs.
    pub fn get_ref(&self) -> (&Si, &St) {
        (&self.outgoing, &self.pongs)
    }

    /// A mutable reference to the sink and the pongs. A frame put into the sink while the heartbeat's own is in it is
    /// harmless; taking pongs out of the stream hides them from the heartbeat.
    pub fn get_mut(&mut self) -> (&mut Si, &mut St) {
        (&mut self.outgoing, &mut self.pongs)
    }

    /// A pinned mutable reference to the sink and the pongs.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> (Pin<&mut Si>, Pin<&mut St>) {
        let this = self.project();
        (this.outgoing, this.pongs)
    }

    /// Returns the sink and the pongs; the heartbeat is over.
    pub fn into_inner(self) -> (Si, St) {
        (self.outgoing, self.pongs)
    }
}

impl<Si, St, T, Out> Future for Pinger<Si, St, T, Out>
where
    Si: Sink<Frame>,
    St: Stream<Item = Pong>,
    T: Timer,
    Out: Sink<Frame>,
{
    type Output = Result<Stopped, Error<Si::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        this.home.note_sleep(this.alarm.asleep());
        if this.home.wake_up(this.last.blocked, cx) {
            // Pending: as `poll_on` says.
            return this.poll_on(None, cx);
        }
        // The heartbeat was not called. There may still be pongs to read.
        let Poll::Ready(pong) = this.pongs.as_mut().poll_next(cx) else {
            // Pending: the timer wakes us for the next look, the handles when that is to be earlier,
            // and the stream of pongs.
            return Poll::Pending;
        };
        this.home.wake_up(true, cx);
        this.poll_on(Some(pong), cx)
    }
}

impl<Si, St, T, Out> FusedFuture for Pinger<Si, St, T, Out>
where
    Si: Sink<Frame>,
    St: Stream<Item = Pong>,
    T: Timer,
    Out: Sink<Frame>,
{
    fn is_terminated(&self) -> bool {
        self.finished
    }
}

/// What reading the pongs has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// There are no more pongs for now, after this many: the stream wakes us.
    Drained(u32),
    /// The budget is spent, and more may be ready.
    More,
    Ended,
}

impl<Si, St, T, Out> Parts<'_, Si, St, T, Out>
where
    Si: Sink<Frame>,
    St: Stream<Item = Pong>,
    T: Timer,
    Out: Sink<Frame>,
{
    /// Reads the pongs that have come, of which the `first` may have been read before, and then drives the
    /// heartbeat.
    #[inline(never)]
    fn poll_on(
        &mut self,
        first: Option<Option<Pong>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stopped, Error<Si::Error>>> {
        assert!(!*self.finished, "`Pinger` polled after completion");
        let now = Time::of(self.alarm.now());
        let alarm = self.alarm.as_ref();
        self.home.begin(|| now, || alarm.clock());
        // Reading comes first: a pong that has arrived wins against a deadline that has passed.
        let pongs = self.read(first, now, cx);
        // Pending: as `drive` says.
        self.drive(pongs, now, cx)
    }

    /// How many pongs may be read in this poll. A sink that has yielded is asked before reading has used up
    /// the budget of the task once more.
    #[inline]
    fn budget(&self) -> u32 {
        if self.last.has_yielded() { 1 } else { BUDGET }
    }

    #[inline]
    fn read(&mut self, mut first: Option<Option<Pong>>, now: Time, cx: &mut Context<'_>) -> Read {
        for read in 0..self.budget() {
            let next = first
                .take()
                .map_or_else(|| self.pongs.as_mut().poll_next(cx), Poll::Ready);
            match next {
                Poll::Ready(Some(Pong(payload))) => {
                    // A pong after the end means nothing.
                    let _ = self
                        .home
                        .visit(|machine| machine.handle_pong(&payload, now));
                }
                Poll::Ready(None) => return Read::Ended,
                // The pongs wake us.
                Poll::Pending => return Read::Drained(read),
            }
        }
        Read::More
    }

    #[inline(always)]
    fn drive(
        &mut self,
        pongs: Read,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stopped, Error<Si::Error>>> {
        let mut leeway = None;
        let home = &**self.home;
        home.handle_progress(self.progress, now);
        let presence = home.reader.find(|| {
            leeway = home.ask(|machine| machine.leeway(now));
            leeway.is_some()
        });
        let input = match pongs {
            Read::Drained(0) => match presence {
                Presence::Reading => Input::Drained,
                Presence::Away => Input::More(0),
                Presence::Missed => Input::Unreadable,
            },
            // A runtime may say that nothing is ready because this task has had its share. So what
            // has been read in this turn is followed by another turn before anything is judged.
            Read::Drained(read) if self.home.is_overdue(now) => Input::More(read),
            Read::Drained(_) => Input::Drained,
            Read::More => Input::More(self.budget()),
            Read::Ended => {
                // If the heartbeat has ended by a verdict or by request, that stands.
                self.home.disconnect();
                Input::Drained
            }
        };
        let more = matches!(input, Input::More(1..));
        let mut driving = Driving::new(
            self.home,
            now,
            input,
            if more { Then::ComeBack } else { Then::Sleep },
        );
        driving.dedicated_close = *self.dedicated_close;
        driving.last = *self.last;
        if self.last.has_yielded() && !self.last.blocked {
            self.home.begin_write(now);
        }
        let mut sinks = Outlets {
            outgoing: self.outgoing.as_mut(),
            out: self.out.as_mut(),
        };
        // The sinks get a waker that shows whether a sink yields, and the timer gets the same.
        let waker = self.home.waker();
        let sink_cx = &mut Context::from_waker(&waker);
        let outcome = match drive(&mut sinks, self.in_sink, &mut driving, sink_cx) {
            Driven::Yields => {
                self.last.yields();
                // Pending: the sink has woken us.
                return Poll::Pending;
            }
            Driven::Rests { blocked, .. } if more => {
                self.last.rests(blocked);
                // Pending: we wake ourselves, to go on reading.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Driven::Rests { until, blocked } => {
                self.last.rests(blocked);
                let until = match leeway {
                    // The reader wakes us earlier if it comes back.
                    Some(leeway) if presence == Presence::Away => until.max(now.plus(leeway)),
                    _ => until,
                };
                let home = &*self.home;
                let seen = driving.seen();
                if self
                    .alarm
                    .as_mut()
                    .poll_at(until.min(seen.probes), seen.grid, seen.rung, || waker)
                    .is_ready()
                {
                    // The instant has come since `now` was read, or the timer is early. The wake goes by
                    // way of the executor, so that a broken timer cannot keep us in a loop.
                    home.ring();
                }
                // Pending: the timer wakes us for the next look (or we did, above), the sink if a
                // frame waits for it, the handles, and the pongs.
                return Poll::Pending;
            }
            Driven::Over(Some(Verdict::TimedOut(timed_out))) => Err(Error::Timeout(timed_out)),
            Driven::Over(Some(Verdict::Requested)) => Ok(Stopped::Requested),
            Driven::Over(None) => Ok(Stopped::PongsEnded),
            Driven::Failed(error) => Err(Error::Transport(error)),
        };
        *self.finished = true;
        self.home.end();
        Poll::Ready(outcome)
    }
}

/// The sink of the pings, and the sink of its own that a close frame may have.
struct Outlets<'a, Si, Out> {
    outgoing: Pin<&'a mut Si>,
    out: Pin<&'a mut Out>,
}

impl<Si: Sink<Frame>, Out: Sink<Frame>> Sinks for Outlets<'_, Si, Out> {
    type Error = Si::Error;

    #[inline]
    fn poll_ready(
        &mut self,
        to: Destination,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<Si::Error>>> {
        match to {
            Destination::Outgoing => self.outgoing.as_mut().poll_ready(cx).map_err(Some),
            // A close frame that cannot be written leaves the verdict as it is.
            Destination::Dedicated => self.out.as_mut().poll_ready(cx).map_err(|_| None),
        }
    }

    #[inline]
    fn start_send(&mut self, to: Destination, frame: Frame) -> Result<bool, Option<Si::Error>> {
        let sent = match to {
            Destination::Outgoing => self.outgoing.as_mut().start_send(frame).map_err(Some),
            Destination::Dedicated => self.out.as_mut().start_send(frame).map_err(|_| None),
        };
        sent.map(|()| true)
    }

    #[inline]
    fn poll_flush(
        &mut self,
        to: Destination,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<Si::Error>>> {
        match to {
            Destination::Outgoing => self.outgoing.as_mut().poll_flush(cx).map_err(Some),
            Destination::Dedicated => self.out.as_mut().poll_flush(cx).map_err(|_| None),
        }
    }
}

impl<Si: fmt::Debug, St: fmt::Debug, T, Out> fmt::Debug for Pinger<Si, St, T, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinger")
            .field("outgoing", &self.outgoing)
            .field("pongs", &self.pongs)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, SinkExt};

    use super::*;

    /// The type of a `Pinger` demands a second sink, which is never polled.
    #[test]
    fn the_stand_in_for_a_second_sink_is_one() {
        let mut sink = SameSink(());
        let sent = sink.send(Frame::Ping(bytes::Bytes::new())).now_or_never();
        assert_eq!(sent, Some(Ok(())));
        assert_eq!(sink.close().now_or_never(), Some(Ok(())));
    }
}
