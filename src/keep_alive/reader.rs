//! The socket's stream, which the heartbeat and the user share, and the heartbeat's turn in it.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream, TryStream};
use futures_sink::Sink;

use super::writer::Outgoing;
use super::{BATCH, KeepAlive, Parts};
use crate::drive::{Driven, drive};
use crate::error::{Error, TimedOut};
use crate::machine::Verdict;
use crate::protocol::{MessageKind, Protocol};
use crate::shared::{Driving, Seen, Visited};
use crate::time::Time;
use crate::timer::Timer;

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
            Poll::Ready(Some(Ok(message))) => match this.protocol.classify(&message) {
                MessageKind::Data | MessageKind::Ping(_) => {
                    *this.credit -= 1;
                    Poll::Ready(Some(Ok(message)))
                }
                kind => {
                    if self.as_mut().takes(kind) {
                        return self.handle(true, cx);
                    }
                    Poll::Ready(Some(Ok(message)))
                }
            },
            polled => self.conclude(polled, false, cx),
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
        if this.listening.has_begun() || this.in_sink.is_some() {
            return false;
        }
        let now = Time::of(this.alarm.now());
        let rests = this.home.ask(|machine| machine.is_resting(now));
        if rests {
            *this.batch_passed = true;
            *this.credit = BATCH;
        }
        rests
    }

    /// Begins the heartbeat, or looks at the time: then messages may pass again, unless it ends.
    #[inline(never)]
    fn renew(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Polled<M, E>> {
        let mut this = self.as_mut().project();
        if *this.ended {
            return Some(Poll::Ready(None));
        }
        if let Some(error) = this.failure.take() {
            return Some(Poll::Ready(Some(Err(Error::Transport(error)))));
        }
        let now = Time::of(this.alarm.now());
        let alarm = this.alarm.as_ref();
        let first = this.home.begin(|| now, || alarm.clock());
        // Only now: a clock that panics leaves the heartbeat to be begun by the next poll.
        *this.credit = BATCH;
        if first || this.is_plain() {
            return None;
        }
        // It matters when the reader comes back, or a whole batch has passed.
        let back = this.listening.has_begun();
        *this.batch_passed |= !back;
        this.listening.end(now);
        let read = if back { 0 } else { BATCH };
        this.home.wake_up(true, cx);
        // More is ready, as far as we know.
        let error = self.project().look(read, now, true, cx)?;
        Some(Poll::Ready(Some(Err(error))))
    }

    /// Whether a message of that kind is for the heartbeat alone.
    #[inline(never)]
    fn takes(self: Pin<&mut Self>, kind: MessageKind<'_>) -> bool {
        self.project().takes(kind)
    }

    /// What the socket says after it has said something that was `taken`.
    ///
    /// It ends with the first message that is passed on: a ping is answered but once, so that few
    /// pongs are consumed.
    #[inline(never)]
    fn handle(mut self: Pin<&mut Self>, taken: bool, cx: &mut Context<'_>) -> Polled<M, E> {
        loop {
            let mut this = self.as_mut().project();
            let polled = match Stream::poll_next(this.socket.as_mut(), cx) {
                Poll::Ready(Some(Ok(message))) => {
                    let kind = this.protocol.classify(&message);
                    if this.takes(kind) {
                        continue;
                    }
                    Poll::Ready(Some(Ok(message)))
                }
                polled => return self.conclude(polled, taken, cx),
            };
            return polled;
        }
    }

    /// The socket has said that there is nothing to read, or nothing any more.
    #[inline(never)]
    fn conclude(
        self: Pin<&mut Self>,
        polled: Poll<Option<Result<M, E>>>,
        taken: bool,
        cx: &mut Context<'_>,
    ) -> Polled<M, E> {
        let mut this = self.project();
        match polled {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Some(Ok(message))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.broken(error)))),
            Poll::Ready(None) => Poll::Ready(this.end().map(Err)),
            // The socket wakes us if something comes; the rest is up to the heartbeat.
            Poll::Pending => match this.idle(taken, cx) {
                Some(error) => Poll::Ready(Some(Err(error))),
                None => Poll::Pending,
            },
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
    /// The socket has nothing more to read: the time is looked at, unless nothing has called for it.
    fn idle(&mut self, taken: bool, cx: &mut Context<'_>) -> Option<Error<E>> {
        let read = BATCH - mem::replace(self.credit, BATCH);
        let any = mem::take(self.batch_passed) || read > 0 || taken;
        if let Some(error) = self.failure.take() {
            return Some(Error::Transport(error));
        }
        if self.is_plain() {
            return None;
        }
        let heeded = any && self.home.ask(|machine| machine.heeds_activity());
        let must = heeded || *self.blocked || self.in_sink.is_some();
        if !self.home.wake_up(must, cx) {
            return None;
        }
        let now = Time::of(self.alarm.now());
        // A runtime may say that nothing is ready because this task has had its share. So what has
        // been read in this turn is followed by another turn before anything is judged.
        let more = any && self.home.ask(|machine| machine.is_overdue(now));
        if more {
            // Pending: we wake ourselves.
            cx.waker().wake_by_ref();
        }
        let error = self.look(read, now, more, cx);
        if self.listening.begin(self.home, now) {
            *self.credit = 0;
        }
        error
    }

    /// Whether there is no heartbeat any more, and no verdict to report: the socket is a plain one.
    fn is_plain(&mut self) -> bool {
        let plain = self.home.ask(|machine| machine.is_disconnected());
        if plain {
            *self.in_sink = None;
        }
        plain
    }

    /// Whether a message of that kind is for the heartbeat alone.
    fn takes(&mut self, kind: MessageKind<'_>) -> bool {
        let ours = match kind {
            MessageKind::Data | MessageKind::Ping(_) => false,
            MessageKind::Pong(payload) => {
                let now = Time::of(self.alarm.now());
                // What was read before the pong comes before it.
                self.report_activity(BATCH - *self.credit, now);
                self.home.handle_own_pong(&payload, now).is_ours()
            }
            // An answer is nobody else's, also after the end.
            MessageKind::Answer => {
                let now = Time::of(self.alarm.now());
                self.report_activity(BATCH - *self.credit, now);
                let _ = self.home.visit(|machine| machine.handle_answer(now));
                true
            }
            // Nothing may be sent after the answer to it. A verdict that has fallen stands.
            MessageKind::Close => {
                if self.home.ask(|machine| machine.timed_out()).is_none() {
                    self.pass_through();
                }
                false
            }
        };
        if !ours {
            *self.credit -= 1;
        }
        ours
    }

    /// Looks at the time, after `read` messages: writes what is due, judges deadlines, arms the
    /// timer. `more`: there is more to read, and whoever reads comes back.
    fn look(&mut self, read: u8, now: Time, more: bool, cx: &mut Context<'_>) -> Option<Error<E>> {
        self.report_activity(read, now);
        *self.reported = 0;
        let held = self.listening.holds(self.home, now);
        let backlog = (more || held.is_some()).then_some(read.into());
        let (driven, seen) = self.drive(now, backlog, !more);
        if seen.verdict_fell {
            // A writer that is blocked has waited long enough.
            self.wake_writer();
        }
        match driven {
            Driven::Rests { until, blocked } => {
                *self.blocked = blocked;
                if !more {
                    let until = held.unwrap_or(until);
                    let Seen { grid, rung, .. } = seen;
                    let home = &*self.home;
                    let ringing = self
                        .alarm
                        .as_mut()
                        .poll_at(until, grid, rung, || home.waker());
                    if ringing.is_ready() {
                        // The instant has come since `now` was read, or the timer is early. By way
                        // of the executor, so that a broken timer cannot hold us here.
                        cx.waker().wake_by_ref();
                        self.home.ring();
                    }
                }
                None
            }
            Driven::Over(Some(Verdict::TimedOut(timed_out))) => Some(self.time_out(timed_out)),
            Driven::Over(_) => None,
            Driven::Failed(error) => Some(self.broken(error)),
        }
    }

    /// Tells the heartbeat of the activity in the messages that were read in this batch, once.
    fn report_activity(&mut self, read: u8, now: Time) {
        if read > *self.reported {
            *self.reported = read;
            // After the end activity means nothing.
            let _ = self.home.visit(|machine| machine.handle_activity(now, now));
        }
    }

    /// The heartbeat's frames into the socket, which wakes us and the writer.
    pub(super) fn drive(
        &mut self,
        now: Time,
        backlog: Option<u32>,
        sleeps: bool,
    ) -> (Driven<E>, Seen) {
        let mut sink = Outgoing {
            socket: self.socket.as_mut(),
            protocol: self.protocol,
            outbox: self.outbox,
            asked: false,
        };
        let both = self.home.waker();
        let cx = &mut Context::from_waker(&both);
        let mut driving = Driving::new(self.home, now, backlog, sleeps);
        let driven = drive(&mut sink, self.in_sink, &mut driving, cx);
        if sink.asked && !matches!(driven, Driven::Rests { blocked: true, .. }) {
            // The socket may have got room by it, and told us instead of the writer.
            self.home.wake_writer();
        }
        (driven, driving.seen())
    }

    /// No further frame of ours.
    pub(super) fn pass_through(&mut self) {
        self.home.disconnect();
        *self.in_sink = None;
        self.wake_writer();
    }

    fn time_out(&mut self, timed_out: TimedOut) -> Error<E> {
        *self.ended = true;
        *self.credit = 0;
        self.wake_writer();
        Error::Timeout(timed_out)
    }

    /// The connection broke. A verdict that has fallen stands.
    fn broken(&mut self, error: E) -> Error<E> {
        if let Some(timed_out) = self.verdict() {
            return self.time_out(timed_out);
        }
        self.pass_through();
        Error::Transport(error)
    }

    /// The connection ended.
    fn end(&mut self) -> Option<Error<E>> {
        *self.ended = true;
        *self.credit = 0;
        if let Some(timed_out) = self.verdict() {
            return Some(self.time_out(timed_out));
        }
        self.pass_through();
        None
    }

    /// The connection is over: a close frame on its way is given up, and the verdict is final.
    fn verdict(&mut self) -> Option<TimedOut> {
        let timed_out = self.home.ask(|machine| machine.timed_out());
        if timed_out.is_some() {
            self.home.disconnect();
        }
        timed_out
    }

    /// The writer may have waited for a frame of ours, or for a heartbeat that is over.
    pub(super) fn wake_writer(&self) {
        self.home.wake_writer();
    }
}
