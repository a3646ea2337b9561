//! The socket's stream, which the heartbeat and the user share, and the heartbeat's turn in it.

use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream, TryStream};
use futures_sink::Sink;

use super::writer::{Outgoing, Wakers};
use super::{BATCH, Core, KeepAlive, Parts};
use crate::config::Liveness;
use crate::error::{Error, TimedOut};
use crate::heartbeat::{PongKind, Step, Verdict};
use crate::payload::Proof;
use crate::protocol::{Kind, Protocol};
use crate::time::Time;
use crate::timer::Timer;
use crate::transmit::poll_transmit;

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
                let now = Time::of(instant);
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
                    let now = Time::of(now);
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
                    Core::PassThrough { key, ledger, .. } => {
                        let proof = ledger.check(payload, |sequence| key.tag(sequence, 0));
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
            heartbeat.handle_activity_at(now, now);
        }
        // Write before judging: a flush that completes now was in time.
        if let Err(error) = self.write(now, cx) {
            return Some(self.broken(error));
        }
        let heartbeat = self.core.running()?;
        let held = self.listening.holds(heartbeat, now);
        let mut step = if more || held.is_some() {
            heartbeat.handle_backlog_at(read.into(), now);
            heartbeat.poll_step(now)
        } else {
            heartbeat.settle(now)
        };
        loop {
            match step {
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
                    let grid = self.core.running()?.grid();
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
            step = self.core.running()?.poll_step(now);
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
        let written = poll_transmit(pin!(sink), heartbeat, self.flushing, now, cx, |_, _| {});
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
    pub(super) fn pass_through(&mut self) {
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
