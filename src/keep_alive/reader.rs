//! The socket's stream, which the heartbeat and the user share, and the heartbeat's turn in it.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream, TryStream};
use futures_sink::Sink;

use super::look::{By, Reading};
use super::lookahead::Item;
use super::{BATCH, KeepAlive, Parts};
use crate::error::Error;
use crate::machine::Input;
use crate::protocol::{MessageKind, Protocol};
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
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.credit == 0 || self.home.is_called() {
            return self.come_in(cx);
        }
        self.pass(cx)
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

/// Whether the heartbeat wakes this task when something calls.
#[inline]
fn is_known(task: &Option<Waker>, cx: &Context<'_>) -> bool {
    task.as_ref().is_some_and(|task| task.will_wake(cx.waker()))
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
    /// The heartbeat has called, or a batch has passed.
    #[inline(never)]
    fn come_in(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<M, E> {
        if self.home.is_called() {
            // Whoever has called has taken the waker of this task.
            *self.as_mut().project().still = false;
        }
        if let Some(end) = self.as_mut().renew(cx) {
            return end;
        }
        self.pass(cx)
    }

    /// Lets one message pass.
    #[inline(always)]
    fn pass(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<M, E> {
        let this = self.as_mut().project();
        let polled = Stream::poll_next(this.socket, cx);
        let taken = match &polled {
            Poll::Ready(Some(Ok(message))) => match this.protocol.classify(message) {
                MessageKind::Data => {
                    *this.credit -= 1;
                    return polled.map_err(Error::Transport);
                }
                MessageKind::Ping(_) if !*this.data_only => {
                    *this.pinged = true;
                    *this.credit -= 1;
                    return polled.map_err(Error::Transport);
                }
                kind => self.as_mut().takes(kind),
            },
            Poll::Pending
                if *this.still
                    && is_known(this.task, cx)
                    && !this.home.note_sleep(this.alarm.asleep()) =>
            {
                if !*this.heeds_activity && !this.listening.is_waiting() {
                    *this.credit = *this.batch;
                    *this.batch_passed = false;
                } else {
                    self.doze();
                }
                // Pending: the socket wakes us if something comes, and a call does.
                return Poll::Pending;
            }
            _ => false,
        };
        self.go_on(polled, taken, cx)
    }

    /// Whether a whole batch has passed and there is nothing to do, as nearly always: then the next
    /// may pass.
    #[inline(never)]
    fn rests(self: Pin<&mut Self>) -> bool {
        let mut this = self.project();
        if *this.still && this.listening.has_begun() && !this.home.is_called() {
            // The reader is back, and that is all.
            let now = Time::of(this.alarm.now());
            this.listening.end(now);
            this.begin_batch(now);
            return true;
        }
        // With credit left it is something that has called.
        if *this.credit > 0
            || this.listening.has_begun()
            || this.in_sink.is_some()
            || *this.closing
            || !this.ahead.is_empty()
        {
            return false;
        }
        let now = Time::of(this.alarm.now());
        let rests = this.home.ask(|machine| machine.is_resting(now));
        if rests {
            *this.batch_passed = true;
            this.next_batch(now);
        }
        rests
    }

    /// The socket has nothing more to read while the heartbeat sleeps: there is nothing to look at, but
    /// what was read may be of interest, and so may be how long the reader waits.
    #[inline(never)]
    fn doze(self: Pin<&mut Self>) {
        let mut this = self.project();
        let now = Time::of(this.alarm.now());
        if *this.heeds_activity {
            let read = this.read_in_batch();
            this.report_activity(read, now);
        }
        *this.batch_passed = false;
        this.begin_batch(now);
        if this.listening.begin(now) {
            this.come_by();
        }
    }

    /// Begins the heartbeat, looks at the time, or yields what was read ahead. None: the socket is to be
    /// read.
    #[cold]
    #[inline(never)]
    fn renew(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Polled<M, E>> {
        if self.as_mut().rests() {
            return None;
        }
        let mut this = self.as_mut().project();
        if *this.ended {
            return Some(Poll::Ready(None));
        }
        let (now, first) = this.begin();
        let read = this.read_in_batch();
        // It matters when the reader comes back, or a whole batch has passed.
        let back = this.listening.has_begun();
        let slow = this.next_batch(now) && !back;
        if !this.ahead.is_empty() {
            return Some(this.next_ahead(now, cx));
        }
        if !first && !this.is_plain() {
            *this.batch_passed |= read > 0 && !back;
            this.listening.end(now);
            this.wake_up(true, cx);
            this.report_activity(read, now);
            // More is ready, as far as we know.
            let input = if slow && read > 0 {
                Input::Behind(read.into())
            } else {
                Input::More(read.into())
            };
            *this.reported = 0;
            if let Some(item) = this.look(now, input, By::Reader, false) {
                return Some(this.deliver(item));
            }
            if this.last.has_yielded() {
                // Pending: the look has woken us. The next poll asks the socket first as well.
                return Some(Poll::Pending);
            }
        }
        if *this.closing {
            this.come_by();
            this.wake_up(true, cx);
            // Some crates have room for the waker of one task, and would forget that of the other.
            let both = this.home.waker();
            return Some(self.read_on(&mut Context::from_waker(&both), cx));
        }
        None
    }

    /// Whether a message of that kind is not passed on.
    #[inline(never)]
    fn takes(self: Pin<&mut Self>, kind: MessageKind<'_>) -> bool {
        self.project().takes_from_reader(kind)
    }

    /// The socket has said something else than data: a message that was `taken` is followed by the next.
    #[cold]
    #[inline(never)]
    fn go_on(
        self: Pin<&mut Self>,
        polled: Poll<Option<Result<M, E>>>,
        taken: bool,
        cx: &mut Context<'_>,
    ) -> Polled<M, E> {
        if !taken {
            return self.conclude(polled, taken, cx);
        }
        drop(polled);
        let waker = cx.waker().clone();
        self.read_on(&mut Context::from_waker(&waker), cx)
    }

    /// Reads from the socket, which wakes `socket_cx`.
    ///
    /// It ends with the first message that is passed on, or when a batch of others has been read: a ping
    /// is answered but once, but where data alone is passed on there may be any number of others.
    fn read_on(
        mut self: Pin<&mut Self>,
        socket_cx: &mut Context<'_>,
        cx: &mut Context<'_>,
    ) -> Polled<M, E> {
        for taken in 0..BATCH {
            let mut this = self.as_mut().project();
            match Stream::poll_next(this.socket.as_mut(), socket_cx) {
                Poll::Ready(Some(Ok(message))) => {
                    let kind = this.protocol.classify(&message);
                    if !this.takes_from_reader(kind) {
                        return Poll::Ready(Some(Ok(message)));
                    }
                }
                polled => return self.conclude(polled, taken > 0, cx),
            }
        }
        // Pending: we wake ourselves. The time is looked at before the next batch.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Answers with what the socket has said. Where it has nothing to read the heartbeat has its turn.
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
            Poll::Ready(Some(Err(error))) => {
                let error = this.broken(error);
                this.deliver(Item::Failed(error))
            }
            Poll::Ready(None) => {
                let item = this.ended_below();
                this.deliver(item)
            }
            // The socket wakes us if something comes; the rest is up to the heartbeat.
            Poll::Pending => match this.idle(taken, cx) {
                Some(item) => this.deliver(item),
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
    /// Yields what was read ahead, in its order.
    fn next_ahead(&mut self, now: Time, cx: &mut Context<'_>) -> Polled<M, E> {
        self.wake_up(true, cx);
        if !self.ahead.is_over() && !self.is_plain() {
            self.listening.end(now);
            let input = self.read_behind(now, cx);
            let item = input.and_then(|input| self.look(now, input, By::Reader, false));
            if let Some(item) = item {
                self.ahead.push(item);
            }
        }
        let was_full = self.ahead.is_full();
        let item = self.ahead.pop();
        if was_full {
            // The writer's half may read on.
            self.home.wake_writer();
        }
        if !self.ahead.is_empty() || *self.closing {
            self.come_by();
        }
        item.map_or(Poll::Pending, |item| self.deliver(item))
    }

    /// What is known of the input behind what was read ahead. The pong of a ping that is to be written off
    /// is looked for where there is room. None: the stream has failed or ended.
    fn read_behind(&mut self, now: Time, cx: &mut Context<'_>) -> Option<Input> {
        if self.home.ask(|machine| machine.leeway(now)).is_none() {
            // There is nothing to judge, and nothing to write off.
            return Some(Input::More(0));
        }
        self.home.read_late();
        let (reading, read) = self.read_ahead(now, cx);
        *self.batch_passed |= read > 0;
        match reading {
            Reading::Over => None,
            Reading::Full => Some(Input::Behind(read)),
            // Nothing is judged before the reader has taken what there is.
            Reading::Drained | Reading::More => Some(Input::More(read)),
        }
    }

    /// Messages of this batch that were passed on.
    pub(super) fn read_in_batch(&self) -> u8 {
        self.batch.saturating_sub(*self.credit) * u8::from(!*self.comes_by)
    }

    /// The next batch begins. Whether the application was slow with the last one: then its batches get
    /// smaller, so that it never comes to the time much too late.
    fn next_batch(&mut self, now: Time) -> bool {
        let took = now.since(*self.batch_began);
        let slow = self.home.ask(|machine| took > machine.patience());
        *self.batch = if slow {
            (*self.batch / 2).max(1)
        } else {
            (*self.batch * 2).min(BATCH)
        };
        let reported = *self.reported;
        self.begin_batch(now);
        *self.reported = reported;
        slow
    }

    fn begin_batch(&mut self, now: Time) {
        *self.batch_began = now;
        *self.credit = *self.batch;
        *self.comes_by = false;
        *self.reported = 0;
    }

    /// What the stream yields for an item.
    fn deliver(&mut self, item: Item<M, E>) -> Polled<M, E> {
        match item {
            Item::Message(message) | Item::Ping(message) | Item::Control(message) => {
                Poll::Ready(Some(Ok(message)))
            }
            Item::Failed(error) => {
                if let Error::Timeout(_) = error {
                    self.end();
                }
                Poll::Ready(Some(Err(error)))
            }
            Item::End => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn end(&mut self) {
        *self.ended = true;
        self.come_by();
        self.home.wake_writer();
    }

    /// The socket has nothing more to read: the time is looked at, unless nothing has called for it.
    fn idle(&mut self, taken: bool, cx: &mut Context<'_>) -> Option<Item<M, E>> {
        if let Some(item) = self.flush_answers() {
            return Some(item);
        }
        let read = self.read_in_batch();
        let any = mem::take(self.batch_passed) || read > 0 || taken;
        *self.credit = *self.batch;
        *self.comes_by = false;
        if *self.closing {
            self.come_by();
        }
        if self.is_plain() {
            return None;
        }
        let heeded = any && self.home.ask(|machine| machine.heeds_activity());
        let must = heeded || self.last.blocked || self.in_sink.is_some() || *self.closing;
        self.home.note_sleep(self.alarm.asleep());
        let awake = self.wake_up(must, cx);
        let now = Time::of(self.alarm.now());
        if !awake {
            if self.listening.begin(now) {
                self.come_by();
            }
            return None;
        }
        *self.batch_began = now;
        // A runtime may say that nothing is ready because this task has had its share. So what has
        // been read in this turn is followed by another turn before anything is judged.
        let more = any && self.home.is_overdue(now);
        if more {
            // Pending: we wake ourselves.
            cx.waker().wake_by_ref();
        }
        self.report_activity(read, now);
        *self.reported = 0;
        let input = if more {
            Input::More(read.into())
        } else {
            Input::Drained
        };
        let item = self.look(now, input, By::Reader, more);
        if self.listening.begin(now) {
            self.come_by();
        }
        item
    }

    /// Whether a message of that kind, which the reader has read, is not passed on.
    fn takes_from_reader(&mut self, kind: MessageKind<'_>) -> bool {
        let now = Time::of(self.alarm.now());
        if let MessageKind::Pong(_) | MessageKind::Answer = kind {
            // What was read before the pong comes before it.
            let read = self.read_in_batch();
            self.report_activity(read, now);
        }
        let is_hidden = self.hides(&kind);
        let ours = self.takes(kind, now);
        self.listening
            .wait_for(self.home.ask(|machine| machine.awaited()));
        if !ours {
            *self.credit = self.credit.saturating_sub(1);
        } else if self.home.ask(|machine| machine.is_ping_due(now)) {
            // The next ping leaves with the next message, also where the driver is awake already.
            self.home.mark_called();
        }
        ours || is_hidden
    }
}
