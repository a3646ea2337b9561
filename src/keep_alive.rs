//! A whole socket with a heartbeat in it: `Stream` and `Sink` as before.

mod listening;
mod writer;

use std::fmt;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream, TryStream};
use futures_sink::Sink;
use pin_project_lite::pin_project;

use self::listening::Listening;
use self::writer::{Outbox, Outgoing, Wakers};
use crate::config::{Config, Liveness};
use crate::control::{Controlled, Controller};
use crate::error::{Error, TimedOut};
use crate::heartbeat::{Heartbeat, PongKind, Step, Verdict};
use crate::payload::{Key, Ledger, Proof};
use crate::protocol::{Kind, Protocol, WebSocket};
use crate::stats::Stats;
use crate::time::{Instant, Time};
use crate::timer::{Alarm, FuturesTimer, Timer};
use crate::transmit::poll_transmit;

/// Messages between two looks at the time.
const BATCH: u8 = 64;

pin_project! {
    /// A socket that keeps itself alive: the same `Stream` and `Sink`, with pings in between.
    ///
    /// **Poll the stream**: pings leave and deadlines are judged while it is polled, and at no other
    /// time. Whoever reads until the connection ends does so anyway. Who stops reading for a while
    /// gets no false verdict for it: what has arrived is read first.
    ///
    /// Data passes through untouched and in order. Pongs that answer the heartbeat's pings are
    /// consumed; every other message, other pongs included, is passed on. When the peer is gone the
    /// stream yields [`Error::Timeout`] once, and then ends; each later call of the sink returns the
    /// same error. After a close frame, sent or received, no ping is sent and nothing is judged: bound
    /// the closing handshake yourself where the peer may not finish it.
    ///
    /// It works whole, and after `StreamExt::split`.
    ///
    /// # Bounds
    ///
    /// The verdict falls within [`Config::detection_bound`] while the stream is polled whenever it
    /// wakes. A reader that takes its time over each message gets its verdict once all that has
    /// arrived before it is read and it has waited for the socket for half the timeout in all (what it
    /// had no time to read may keep the pong from being sent), or
    /// [65 536](crate::heartbeat::BACKLOG_LIMIT) messages are read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the socket. Between polls at most one message of yours is held, as in any
    /// sink: one that was accepted while a ping had the socket's readiness. It goes first in the next
    /// flush.
    ///
    /// # Wakeups
    ///
    /// The stream is woken by the socket and by the timer. The sink is woken by the socket, also
    /// where the reader's task has polled it since, and by the verdict.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{SinkExt, StreamExt};
    /// use futures_pinger::{Config, KeepAlive};
    /// use tungstenite_0_30::Message;
    ///
    /// # use futures::{channel::mpsc, stream, sink};
    /// # let (tx, _rx) = mpsc::channel::<Message>(8);
    /// # let (tx, rx) = (tx.sink_map_err(std::io::Error::other), stream::iter([Ok(Message::text("hi"))]));
    /// # struct Both<A, B>(A, B);
    /// # use std::{pin::Pin, task::{Context, Poll}};
    /// # use futures::{Sink, Stream};
    /// # impl<A: Unpin, B: Stream + Unpin> Stream for Both<A, B> {
    /// #     type Item = B::Item;
    /// #     fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Item>> {
    /// #         self.1.poll_next_unpin(cx)
    /// #     }
    /// # }
    /// # impl<M, A: Sink<M> + Unpin, B: Unpin> Sink<M> for Both<A, B> {
    /// #     type Error = A::Error;
    /// #     fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
    /// #         self.0.poll_ready_unpin(cx)
    /// #     }
    /// #     fn start_send(mut self: Pin<&mut Self>, m: M) -> Result<(), A::Error> {
    /// #         self.0.start_send_unpin(m)
    /// #     }
    /// #     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
    /// #         self.0.poll_flush_unpin(cx)
    /// #     }
    /// #     fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
    /// #         self.0.poll_close_unpin(cx)
    /// #     }
    /// # }
    /// # let socket = Both(tx, rx);
    /// let mut socket = KeepAlive::new(socket, Config::default());
    /// while let Some(message) = socket.next().await {
    ///     let message = message?; // `Error::Timeout` when the peer is gone
    ///     socket.send(message).await?;
    /// }
    /// # Ok::<(), futures_pinger::Error<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    #[project = Parts]
    #[must_use = "streams do nothing unless polled"]
    pub struct KeepAlive<S, P = WebSocket, T = FuturesTimer>
    where
        S: TryStream,
    {
        #[pin]
        socket: S,
        #[pin]
        alarm: Alarm<T>,
        protocol: P,
        core: Core,
        outbox: Outbox<S::Ok>,
        // The socket has a frame of ours that is not flushed.
        flushing: bool,
        // Messages that may pass before the next look at the time. None before the first poll, after
        // the end, and where the time matters at which the reader comes back, so that one test lets
        // a message pass.
        credit: u8,
        // A whole batch has passed since the socket had nothing more.
        batch_passed: bool,
        listening: Listening,
        // The socket's stream has ended.
        ended: bool,
        wakers: Option<Arc<Wakers>>,
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
    /// No heartbeat any more, a plain socket: a close frame was sent or read, the connection broke
    /// or ended.
    PassThrough {
        stats: Stats,
        /// For the pong of a ping that was out: it is nobody else's still.
        ledger: Ledger,
    },
    /// The peer is gone.
    TimedOut(TimedOut, Stats),
}

impl<S: TryStream> KeepAlive<S> {
    /// A heartbeat for `socket`, in the messages of a [WebSocket crate](crate#websocket-crates); it
    /// begins with the first poll of the stream.
    pub fn new(socket: S, config: Config) -> Self {
        Self {
            socket,
            alarm: Alarm::new(FuturesTimer::new()),
            protocol: WebSocket,
            core: Core::Unpolled {
                config,
                key: Key::unique(),
            },
            outbox: Outbox::Free,
            flushing: false,
            credit: 0,
            batch_passed: false,
            listening: Listening::new(),
            ended: false,
            wakers: None,
            control: Controlled::default(),
        }
    }
}

impl<S: TryStream, P, T> KeepAlive<S, P, T> {
    /// Speaks another protocol than that of the WebSocket crates. Choose it before the first poll.
    pub fn with_protocol<P2>(self, protocol: P2) -> KeepAlive<S, P2, T> {
        KeepAlive {
            socket: self.socket,
            alarm: self.alarm,
            protocol,
            core: self.core,
            outbox: self.outbox,
            flushing: self.flushing,
            credit: self.credit,
            batch_passed: self.batch_passed,
            listening: self.listening,
            ended: self.ended,
            wakers: self.wakers,
            control: self.control,
        }
    }

    /// Keeps time by `timer`. Choose it before the first poll: the times of one clock mean nothing
    /// to another.
    pub fn with_timer<T2>(self, timer: T2) -> KeepAlive<S, P, T2> {
        KeepAlive {
            socket: self.socket,
            alarm: Alarm::new(timer),
            protocol: self.protocol,
            core: self.core,
            outbox: self.outbox,
            flushing: self.flushing,
            credit: self.credit,
            batch_passed: self.batch_passed,
            listening: self.listening,
            ended: self.ended,
            wakers: self.wakers,
            control: self.control,
        }
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// A handle that steers the heartbeat, and tells its figures, from anywhere: from the writer's
    /// task after a split, say. It costs nothing until it is asked for.
    ///
    /// Its orders are carried out while the stream is polled.
    pub fn controller(&mut self) -> Controller {
        let alive = !self.core.is_over();
        self.control.controller(self.core.stats(), alive)
    }

    /// Sends a ping with the next poll of the stream, unless one is out; the next is due an interval
    /// after it.
    pub fn ping_now(&mut self)
    where
        T: Timer,
    {
        let now = self.alarm.now();
        if let Core::Unpolled { .. } = self.core {
            self.credit = BATCH;
        }
        if let Some(heartbeat) = self.core.started(now) {
            heartbeat.ping_now(now);
        }
        if let Some(wakers) = &self.wakers {
            wakers.reader.wake();
        }
    }

    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// The socket. Pongs that are read past the heartbeat are hidden from it, and a close frame that
    /// is sent past it does not end it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The socket, pinned.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut S> {
        self.project().socket
    }

    /// The socket back, without its heartbeat. Flush first: a message that was accepted may still be
    /// held.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl Core {
    fn stats(&self) -> Stats {
        match self {
            Self::Unpolled { .. } => Stats::unstarted(),
            Self::Running(heartbeat) => heartbeat.stats(),
            Self::PassThrough { stats, .. } | Self::TimedOut(_, stats) => *stats,
        }
    }

    /// The heartbeat, begun if it has not; none once it is over.
    fn started(&mut self, now: Instant) -> Option<&mut Heartbeat> {
        if let Self::Unpolled { config, key } = self {
            *self = Self::Running(Heartbeat::keyed(config.clone(), now, *key));
        }
        self.running()
    }

    /// The heartbeat while there is one.
    #[inline]
    fn running(&mut self) -> Option<&mut Heartbeat> {
        match self {
            Self::Running(heartbeat) => Some(heartbeat),
            _ => None,
        }
    }

    fn is_overdue(&self, now: Time) -> bool {
        matches!(self, Self::Running(heartbeat) if heartbeat.is_overdue(now))
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::PassThrough { .. } | Self::TimedOut(..))
    }

    /// The verdict, if one has fallen, be it that the close frame is still on its way.
    fn verdict(&self) -> Option<TimedOut> {
        match self {
            Self::TimedOut(timed_out, _) => Some(*timed_out),
            Self::Running(heartbeat) => heartbeat.closing(),
            Self::Unpolled { .. } | Self::PassThrough { .. } => None,
        }
    }

    /// No further frame of ours.
    fn pass_through(&mut self) {
        let (stats, ledger) = match self {
            Self::Unpolled { key, .. } => (Stats::unstarted().gone(), Ledger::new(*key)),
            Self::Running(heartbeat) => (heartbeat.final_stats(), *heartbeat.ledger()),
            Self::PassThrough { .. } | Self::TimedOut(..) => return,
        };
        *self = Self::PassThrough { stats, ledger };
    }
}

impl<S, P, T, M, E> Stream for KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    type Item = Result<M, Error<E>>;

    // Most messages pass here and have nothing to do with the heartbeat: their way is kept short, and
    // all else out of it.
    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.credit == 0 && !self.as_mut().rests() {
            if let Some(end) = self.as_mut().renew(cx) {
                return end;
            }
        }
        let this = self.as_mut().project();
        match Stream::poll_next(this.socket, cx) {
            Poll::Ready(Some(Ok(message)))
                if matches!(this.protocol.classify(&message), Kind::Data | Kind::Ping(_)) =>
            {
                *this.credit -= 1;
                Poll::Ready(Some(Ok(message)))
            }
            polled => self.handle(polled, cx),
        }
    }
}

impl<S, P, T, M, E> FusedStream for KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

/// What the stream answers.
type Polled<M, E> = Poll<Option<Result<M, Error<E>>>>;

/// What is off the short way of [`poll_next`](Stream::poll_next).
impl<S, P, T, M, E> KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Whether a whole batch has passed and there is nothing to do, as nearly always: then the next
    /// may pass.
    #[inline(never)]
    fn rests(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let Core::Running(heartbeat) = &*this.core else {
            return false;
        };
        let rests = !this.listening.has_begun()
            && !*this.flushing
            && !this.control.is_asked_for()
            && heartbeat.is_resting(this.alarm.now());
        if rests {
            *this.batch_passed = true;
            *this.credit = BATCH;
        }
        rests
    }

    /// Begins the heartbeat, or looks at the time: then messages may pass again, unless it ends.
    #[inline(never)]
    fn renew(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Polled<M, E>> {
        let this = self.as_mut().project();
        if *this.ended {
            return Some(Poll::Ready(None));
        }
        *this.credit = BATCH;
        match this.core {
            Core::Running(heartbeat) => {
                let instant = this.alarm.now();
                if let Some(orders) = this.control.orders(cx) {
                    orders.carry_out(heartbeat, instant);
                    wake_writer(this.wakers);
                }
                // It matters when the reader comes back, or a whole batch has passed.
                let back = this.listening.has_begun();
                *this.batch_passed |= !back;
                let now = heartbeat.time(instant);
                this.listening.end(now);
                let read = if back { 0 } else { BATCH };
                // More is ready, as far as we know.
                let error = self.project().look(read, now, true, cx)?;
                return Some(Poll::Ready(Some(Err(error))));
            }
            core @ Core::Unpolled { .. } => {
                core.started(this.alarm.now());
            }
            Core::PassThrough { .. } | Core::TimedOut(..) => {}
        }
        None
    }

    /// What the socket has said, and what it says after a pong of ours.
    ///
    /// It ends with the first message that is passed on: a ping is answered but once, so that few
    /// pongs are consumed.
    #[inline(never)]
    fn handle(
        self: Pin<&mut Self>,
        mut polled: Poll<Option<Result<M, E>>>,
        cx: &mut Context<'_>,
    ) -> Polled<M, E> {
        let mut this = self.project();
        let mut taken = false;
        loop {
            match polled {
                Poll::Ready(Some(Ok(message))) => {
                    if !this.takes(&message) {
                        this.report();
                        return Poll::Ready(Some(Ok(message)));
                    }
                    taken = true;
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(this.broken(error))));
                }
                Poll::Ready(None) => return Poll::Ready(this.end().map(Err)),
                // The socket wakes us if something comes; the rest is up to the heartbeat.
                Poll::Pending => {
                    let Core::Running(heartbeat) = &mut *this.core else {
                        return Poll::Pending;
                    };
                    let read = BATCH - mem::replace(this.credit, BATCH);
                    let now = this.alarm.now();
                    if let Some(orders) = this.control.orders(cx) {
                        orders.carry_out(heartbeat, now);
                        wake_writer(this.wakers);
                    }
                    let now = heartbeat.time(now);
                    // A runtime may say that nothing is ready because this task has had its share.
                    // So what has been read in this turn is followed by another turn before anything
                    // is judged.
                    let any = mem::take(this.batch_passed) || read > 0 || taken;
                    let more = any && this.core.is_overdue(now);
                    if more {
                        // Pending: we wake ourselves.
                        cx.waker().wake_by_ref();
                    }
                    let error = this.look(read, now, more, cx);
                    if let Core::Running(heartbeat) = &*this.core {
                        if this.listening.begin(heartbeat, now) {
                            *this.credit = 0;
                        }
                    }
                    return match error {
                        Some(error) => Poll::Ready(Some(Err(error))),
                        None => Poll::Pending,
                    };
                }
            }
            polled = Stream::poll_next(this.socket.as_mut(), cx);
        }
    }
}

/// The reader's side.
impl<S, P, T, M, E> Parts<'_, S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Whether the message is for the heartbeat alone.
    fn takes(&mut self, message: &M) -> bool {
        match self.protocol.classify(message) {
            Kind::Data | Kind::Ping(_) => {}
            Kind::Pong(payload) => {
                match &mut *self.core {
                    Core::Running(heartbeat) => {
                        let kind = heartbeat.handle_pong(payload, self.alarm.now());
                        let any_pong = heartbeat.config().liveness() == Liveness::AnyPong;
                        match kind {
                            PongKind::Matched { .. } | PongKind::Stale => return true,
                            PongKind::Accepted if any_pong => return true,
                            // As activity it is somebody else's pong.
                            PongKind::Accepted | PongKind::Unsolicited => {}
                        }
                    }
                    Core::PassThrough { ledger, .. } => {
                        let proof = ledger.check(payload);
                        ledger.enter(proof);
                        if !matches!(proof, Proof::Nothing) {
                            return true;
                        }
                    }
                    Core::Unpolled { .. } | Core::TimedOut(..) => {}
                }
            }
            // Nothing may be sent after the answer to it. A verdict that has fallen stands.
            Kind::Close => {
                if self.core.verdict().is_none() {
                    self.pass_through();
                }
            }
        }
        *self.credit -= 1;
        false
    }

    /// Looks at the time, after `read` messages: writes what is due, judges deadlines, arms the
    /// timer. `more`: there is more to read, and whoever reads comes back.
    fn look(&mut self, read: u8, now: Time, more: bool, cx: &mut Context<'_>) -> Option<Error<E>> {
        let error = self.turn(read, now, more, cx);
        self.report();
        error
    }

    fn turn(&mut self, read: u8, now: Time, more: bool, cx: &mut Context<'_>) -> Option<Error<E>> {
        let heartbeat = self.core.running()?;
        if let Some(verdict) = heartbeat.verdict() {
            return self.conclude(verdict);
        }
        if read > 0 {
            heartbeat.handle_activity_at(now);
        }
        // Write before judging: a flush that completes now was in time.
        if let Err(error) = self.write(now, cx) {
            return Some(self.broken(error));
        }
        let heartbeat = self.core.running()?;
        let held = self.listening.holds(heartbeat, now);
        if more || held.is_some() {
            heartbeat.handle_backlog_at(read.into(), now);
        } else {
            heartbeat.handle_timeout_at(now);
        }
        loop {
            let heartbeat = self.core.running()?;
            match heartbeat.poll_step(now) {
                Step::Ping => {
                    if let Err(error) = self.write(now, cx) {
                        return Some(self.broken(error));
                    }
                }
                Step::Close(_) => {
                    // The verdict has fallen: a writer that is blocked has waited long enough.
                    self.wake_writer();
                    *self.flushing = false;
                    // It never fails: a close frame that cannot be written leaves the verdict.
                    let _ = self.write(now, cx);
                }
                Step::Wait(next) => {
                    if more || next == Time::NEVER {
                        return None;
                    }
                    let grid = heartbeat.grid();
                    let next = held.unwrap_or(next);
                    if self.alarm.as_mut().poll_at(next, grid, cx).is_ready() {
                        // The instant has come since `now` was read, or the timer is early. By way
                        // of the executor, so that a broken timer cannot hold us here.
                        cx.waker().wake_by_ref();
                    }
                    return None;
                }
                Step::Done(verdict) => return self.conclude(verdict),
            }
        }
    }

    /// The heartbeat's frames into the socket.
    fn write(&mut self, now: Time, cx: &mut Context<'_>) -> Result<(), E> {
        let Core::Running(heartbeat) = &mut *self.core else {
            return Ok(());
        };
        if !*self.flushing && !heartbeat.wants_transmit() {
            return Ok(());
        }
        let wakers = self.wakers.get_or_insert_default();
        wakers.reader.register(cx.waker());
        let both = Waker::from(Arc::clone(wakers));
        let sink = Outgoing {
            socket: self.socket.as_mut(),
            protocol: self.protocol,
            outbox: self.outbox,
        };
        let cx = &mut Context::from_waker(&both);
        let written = poll_transmit(pin!(sink), heartbeat, self.flushing, now, cx, |_| {});
        if written.is_ready() {
            // The socket may have got room by it, and told us instead of the writer.
            wakers.writer.wake();
        }
        // Pending: the socket wakes us, and the writer.
        match written {
            Poll::Ready(Err(_)) if heartbeat.is_closing() => {
                heartbeat.handle_close_failed();
                Ok(())
            }
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> Option<Error<E>> {
        match verdict {
            Verdict::TimedOut(timed_out) => Some(self.time_out(timed_out)),
            Verdict::Requested => {
                self.pass_through();
                None
            }
        }
    }

    /// No further frame of ours.
    fn pass_through(&mut self) {
        self.report();
        self.core.pass_through();
        self.control.end();
        self.wake_writer();
    }

    /// Tells the controllers, if there are any, what the heartbeat has come to.
    fn report(&self) {
        if let Core::Running(heartbeat) = &*self.core {
            self.control
                .report(heartbeat, || self.alarm.clock(), |_| {});
        }
    }

    fn time_out(&mut self, timed_out: TimedOut) -> Error<E> {
        self.report();
        self.control.end();
        if let Core::Running(heartbeat) = &*self.core {
            *self.core = Core::TimedOut(timed_out, heartbeat.final_stats());
        }
        *self.ended = true;
        *self.credit = 0;
        self.wake_writer();
        Error::Timeout(timed_out)
    }

    /// The connection broke. A verdict that has fallen stands.
    fn broken(&mut self, error: E) -> Error<E> {
        if let Some(timed_out) = self.core.verdict() {
            return self.time_out(timed_out);
        }
        self.pass_through();
        Error::Transport(error)
    }

    /// The connection ended.
    fn end(&mut self) -> Option<Error<E>> {
        *self.ended = true;
        *self.credit = 0;
        if let Some(timed_out) = self.core.verdict() {
            return Some(self.time_out(timed_out));
        }
        self.pass_through();
        None
    }

    fn wake_writer(&self) {
        wake_writer(self.wakers);
    }
}

/// It may have waited for a frame of ours, or for a heartbeat that is over.
fn wake_writer(wakers: &Option<Arc<Wakers>>) {
    if let Some(wakers) = wakers {
        wakers.writer.wake();
    }
}

impl<S, P, T> fmt::Debug for KeepAlive<S, P, T>
where
    S: TryStream + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
