//! The heartbeat as a future over a sink of frames and a stream of pongs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::FusedFuture;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::channel::PongSource;
use crate::config::Config;
use crate::control::{Controlled, Controller, Orders};
use crate::error::Error;
use crate::frame::Frame;
use crate::heartbeat::{Destination, Heartbeat, Step, Verdict};
use crate::payload::Key;
use crate::stats::Stats;
use crate::time::{Instant, Time};
use crate::timer::{Alarm, FuturesTimer, Timer};
use crate::transmit::poll_transmit;

/// Pongs read in one poll before the executor's other tasks have their turn.
const BUDGET: u32 = 64;

/// How a heartbeat ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stopped {
    /// The pong side ended: the [`PongSender`](crate::PongSender) was dropped, or the stream of
    /// pongs ended. The connection is over.
    PongsEnded,
    /// The ping side of a [`Ponger`](crate::Ponger) ended.
    PingsEnded,
    /// It was asked to stop.
    Requested,
}

/// The close frame goes to the sink that takes the pings; the default of a [`Pinger`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SameSink;

pin_project! {
    /// A heartbeat over a sink of [`Frame`]s and a stream of [`Pong`](crate::Pong)s: a future that
    /// is ready when the peer is gone, or the connection has ended.
    ///
    /// It sends a ping each interval, flushes it, waits for the pong that matches, and measures the
    /// round-trip time. When the peer does not answer in time, it sends a close frame and is ready
    /// with [`Error::Timeout`]. See the [rules](crate::heartbeat), and
    /// [`pinger()`](crate::pinger()) for the common case.
    ///
    /// It never closes the sink: closing is up to its owner.
    ///
    /// # Panics
    ///
    /// Polling it after it was ready panics; its [`FusedFuture`] tells before that.
    ///
    /// # Cancel safety
    ///
    /// Between polls nothing is held that could be lost: each frame is made when the sink is ready
    /// for it. Dropping the heartbeat means, on the wire, that no further frame comes from it; a
    /// ping that the sink has taken may still be flushed by whoever uses the sink next.
    ///
    /// # Wakeups
    ///
    /// It is woken by the sink while a frame waits for it, by the pongs, and by the timer: twice
    /// for a ping that is answered at once.
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
        core: Core,
        control: Controlled,
    }
}

// The large variant is the one that it is nearly always in.
#[allow(clippy::large_enum_variant)]
enum Core {
    /// The time before the first poll is not silence: the heartbeat starts with it.
    Unpolled {
        config: Config,
        key: Key,
    },
    Running(Heartbeat),
    Finished(Stats),
}

impl Core {
    fn stats(&self) -> Stats {
        match self {
            Self::Unpolled { .. } => Stats::unstarted(),
            Self::Running(heartbeat) => heartbeat.stats(),
            Self::Finished(stats) => *stats,
        }
    }
}

impl<Si, St> Pinger<Si, St> {
    /// A heartbeat that sends into `outgoing` and reads from `pongs`; it begins with its first
    /// poll.
    ///
    /// On tokio, whose channels say that they are empty once their task has had its share of a turn,
    /// do not let a sibling in the same task (a `join!` with a reader of a busy channel, say) spend it
    /// all: spawn the heartbeat, or take the pongs of [`pinger()`](crate::pinger()), which always
    /// tell the truth.
    pub fn new(outgoing: Si, pongs: St, config: Config) -> Self {
        Self {
            outgoing,
            pongs,
            alarm: Alarm::new(FuturesTimer::new()),
            out: SameSink,
            core: Core::Unpolled {
                config,
                key: Key::unique(),
            },
            control: Controlled::default(),
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
            core: self.core,
            control: self.control,
        }
    }

    /// Sends the close frame of a verdict to `out`, and nothing else: ktor's dedicated channel. It
    /// is then sent after a write timeout too, while the sink of the pings is still blocked.
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
        let core = match self.core {
            Core::Running(heartbeat) => Core::Running(heartbeat.dedicated_close()),
            core => core,
        };
        Pinger {
            outgoing: self.outgoing,
            pongs: self.pongs,
            alarm: self.alarm,
            out,
            core,
            control: self.control,
        }
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats
    where
        St: PongSource,
    {
        let mut stats = self.core.stats();
        self.pongs.add_to(&mut stats);
        stats
    }

    /// A handle that steers the heartbeat, and tells its figures, from anywhere. It costs nothing
    /// until it is asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures_pinger::{Config, State, pinger};
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
        let alive = !matches!(self.core, Core::Finished(_));
        self.control.controller(self.core.stats(), alive)
    }

    /// The sink and the pongs.
    pub fn get_ref(&self) -> (&Si, &St) {
        (&self.outgoing, &self.pongs)
    }

    /// The sink and the pongs. A frame put into the sink while the heartbeat's own is in it is
    /// harmless; taking pongs out of the stream hides them from the heartbeat.
    pub fn get_mut(&mut self) -> (&mut Si, &mut St) {
        (&mut self.outgoing, &mut self.pongs)
    }

    /// The sink and the pongs, pinned.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> (Pin<&mut Si>, Pin<&mut St>) {
        let this = self.project();
        (this.outgoing, this.pongs)
    }

    /// The sink and the pongs back; the heartbeat is over.
    pub fn into_inner(self) -> (Si, St) {
        (self.outgoing, self.pongs)
    }
}

impl<Si, St, T, Out> Future for Pinger<Si, St, T, Out>
where
    Si: Sink<Frame>,
    St: PongSource,
    T: Timer,
    Out: CloseSink,
{
    type Output = Result<Stopped, Error<Si::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let now = this.alarm.now();
        if let Core::Unpolled { config, key } = this.core {
            let mut heartbeat = Heartbeat::keyed(config.clone(), now, *key);
            if Out::DESTINATION == Destination::Dedicated {
                heartbeat = heartbeat.dedicated_close();
            }
            this.pongs.as_mut().start(&heartbeat, this.alarm.clock());
            *this.core = Core::Running(heartbeat);
        }
        // Pending: as `drive` says.
        let outcome = ready!(this.drive(now, cx));
        if let Core::Running(heartbeat) = this.core {
            let (alarm, pongs) = (this.alarm, this.pongs.as_ref());
            this.control
                .report(heartbeat, || alarm.clock(), |stats| pongs.add_to(stats));
            *this.core = Core::Finished(heartbeat.final_stats());
        }
        this.control.end();
        this.pongs.close();
        Poll::Ready(outcome)
    }
}

impl<Si, St, T, Out> FusedFuture for Pinger<Si, St, T, Out>
where
    Si: Sink<Frame>,
    St: PongSource,
    T: Timer,
    Out: CloseSink,
{
    fn is_terminated(&self) -> bool {
        matches!(self.core, Core::Finished(_))
    }
}

/// What reading the pongs has come to.
enum Input {
    /// No more for now, after so many: the stream wakes us.
    Drained(u32),
    /// The budget is spent, and more may be ready.
    More,
    Ended,
}

impl<Si, St, T, Out> Parts<'_, Si, St, T, Out>
where
    Si: Sink<Frame>,
    St: PongSource,
    T: Timer,
    Out: CloseSink,
{
    fn drive(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stopped, Error<Si::Error>>> {
        let Core::Running(heartbeat) = &mut *self.core else {
            panic!("`Pinger` polled after completion");
        };

        let orders = self.control.orders(cx);
        if orders.as_ref().is_some_and(Orders::stop) {
            heartbeat.stop();
        }
        if let Some(verdict) = heartbeat.verdict() {
            return Poll::Ready(outcome(verdict));
        }
        let (instant, now) = (now, Time::of(now));

        // Read first: a pong that has arrived wins against a deadline that has passed. Nothing
        // that arrives while the close frame is on its way matters any more.
        let input = if heartbeat.is_closing() {
            Input::Drained(0)
        } else {
            read(self.pongs.as_mut(), heartbeat, now, cx)
        };
        // What had come before an order was given is not affected by it.
        if let Some(orders) = orders {
            orders.carry_out(heartbeat, instant);
            self.pongs.as_mut().publish(heartbeat);
        }
        let (read, more) = match input {
            Input::Drained(0) => (0, false),
            // A runtime may say that nothing is ready because this task has had its share. So what
            // has been read in this turn is followed by another turn before anything is judged.
            Input::Drained(read) => (read, heartbeat.is_overdue(now)),
            Input::More => (BUDGET, true),
            Input::Ended => return Poll::Ready(Ok(Stopped::PongsEnded)),
        };

        // Write before judging, too: a flush that completes now was in time.
        let mut frames = Frames {
            heartbeat,
            pongs: self.pongs.as_mut(),
            now,
        };
        let (outgoing, out) = (&mut self.outgoing, &mut self.out);
        write(outgoing.as_mut(), out.as_mut(), &mut frames, cx).map_err(Error::Transport)?;
        let mut step = if more {
            frames.heartbeat.handle_backlog_at(read, now);
            frames.heartbeat.poll_step(now)
        } else {
            frames.heartbeat.settle(now)
        };

        loop {
            match step {
                Step::Ping | Step::Close(_) => {
                    if let Step::Close(_) = step {
                        // Either nothing is in the sink, or the sink is given up.
                        frames.heartbeat.set_in_sink(false);
                    } else if frames.heartbeat.has_missed() {
                        // The pong of a missed ping is stale from now on, whenever the next leaves.
                        frames.pongs.as_mut().publish(frames.heartbeat);
                    }
                    let written = write(outgoing.as_mut(), out.as_mut(), &mut frames, cx);
                    written.map_err(Error::Transport)?;
                    step = frames.heartbeat.poll_step(now);
                }
                Step::Wait(next) => {
                    let (alarm, pongs) = (self.alarm.as_ref(), frames.pongs.as_ref());
                    let complete = |stats: &mut Stats| pongs.add_to(stats);
                    self.control
                        .report(frames.heartbeat, || alarm.clock(), complete);
                    if more {
                        // Pending: we wake ourselves, to go on reading.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if next < Time::NEVER {
                        let grid = frames.heartbeat.grid();
                        if self.alarm.as_mut().poll_at(next, grid, cx).is_ready() {
                            // The instant has come since `now` was read, or the timer is early. By
                            // way of the executor, so that a broken timer cannot hold us here.
                            cx.waker().wake_by_ref();
                        }
                    }
                    // Pending: the timer wakes us for the next deadline (or we did, above), the
                    // sink if a frame waits for it, and the pongs unless we are closing.
                    return Poll::Pending;
                }
                Step::Done(verdict) => return Poll::Ready(outcome(verdict)),
            }
        }
    }
}

fn outcome<E>(verdict: Verdict) -> Result<Stopped, Error<E>> {
    match verdict {
        Verdict::TimedOut(timed_out) => Err(Error::Timeout(timed_out)),
        Verdict::Requested => Ok(Stopped::Requested),
    }
}

#[inline]
fn read<St: PongSource>(
    mut pongs: Pin<&mut St>,
    heartbeat: &mut Heartbeat,
    now: Time,
    cx: &mut Context<'_>,
) -> Input {
    for read in 0..BUDGET {
        match pongs.as_mut().poll_feed(heartbeat, now, cx) {
            Poll::Ready(Some(())) => {}
            Poll::Ready(None) => return Input::Ended,
            // The pongs wake us.
            Poll::Pending => return Input::Drained(read),
        }
    }
    Input::More
}

/// Writes what wants to go: pings into `outgoing`, the close frame where it belongs. Whichever sink is
/// not ready wakes us; the heartbeat goes on meanwhile.
#[inline]
fn write<Si: Sink<Frame>, St: PongSource, Out: CloseSink>(
    outgoing: Pin<&mut Si>,
    out: Pin<&mut Out>,
    frames: &mut Frames<'_, St>,
    cx: &mut Context<'_>,
) -> Result<(), Si::Error> {
    if !frames.heartbeat.is_in_sink() && !frames.heartbeat.wants_transmit() {
        return Ok(());
    }
    if frames.heartbeat.is_closing() {
        if let Poll::Ready(Err(CloseFailed)) = out.poll_close_frame(outgoing, frames, cx) {
            frames.heartbeat.handle_close_failed();
        }
        return Ok(());
    }
    match frames.poll_write(outgoing, cx) {
        Poll::Pending => Ok(()),
        Poll::Ready(written) => written,
    }
}

/// The way of the heartbeat's frames into a sink.
#[doc(hidden)]
#[allow(missing_debug_implementations)] // Not of the public API.
pub struct Frames<'a, St> {
    heartbeat: &'a mut Heartbeat,
    pongs: Pin<&'a mut St>,
    now: Time,
}

impl<St: PongSource> Frames<'_, St> {
    fn poll_write<S: Sink<Frame>>(
        &mut self,
        sink: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>> {
        let pongs = &mut self.pongs;
        let publish = |heartbeat: &Heartbeat, sent: Option<&Frame>| match sent {
            Some(Frame::Ping(payload)) => pongs.as_mut().expect(heartbeat, payload),
            _ => pongs.as_mut().publish(heartbeat),
        };
        let mut flushing = self.heartbeat.is_in_sink();
        let written = poll_transmit(sink, self.heartbeat, &mut flushing, self.now, cx, publish);
        self.heartbeat.set_in_sink(flushing);
        written
    }
}

/// Where the close frame of a verdict goes: [`SameSink`], or any `Sink<Frame>` given to
/// [`Pinger::close_to`].
///
/// It is sealed: implement [`Sink`] instead.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no sink for the close frame",
    note = "`Pinger::close_to` takes any `Sink<futures_pinger::Frame>`"
)]
pub trait CloseSink: sealed::Sealed {
    #[doc(hidden)]
    const DESTINATION: Destination;

    /// Writes the close frame where it belongs. Pending: that sink wakes us.
    #[doc(hidden)]
    fn poll_close_frame<Si: Sink<Frame>, St: PongSource>(
        self: Pin<&mut Self>,
        outgoing: Pin<&mut Si>,
        frames: &mut Frames<'_, St>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseFailed>>;
}

/// The close frame cannot be written; why does not matter any more.
#[doc(hidden)]
#[derive(Debug)]
pub struct CloseFailed;

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for SameSink {}

impl CloseSink for SameSink {
    const DESTINATION: Destination = Destination::Outgoing;

    fn poll_close_frame<Si: Sink<Frame>, St: PongSource>(
        self: Pin<&mut Self>,
        outgoing: Pin<&mut Si>,
        frames: &mut Frames<'_, St>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseFailed>> {
        frames.poll_write(outgoing, cx).map_err(|_| CloseFailed)
    }
}

impl<O: Sink<Frame>> sealed::Sealed for O {}

impl<O: Sink<Frame>> CloseSink for O {
    const DESTINATION: Destination = Destination::Dedicated;

    fn poll_close_frame<Si: Sink<Frame>, St: PongSource>(
        self: Pin<&mut Self>,
        _outgoing: Pin<&mut Si>,
        frames: &mut Frames<'_, St>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseFailed>> {
        frames.poll_write(self, cx).map_err(|_| CloseFailed)
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
