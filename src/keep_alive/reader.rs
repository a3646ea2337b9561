//! The socket's stream, which the heartbeat and the user share, and the heartbeat's turn in it.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream, TryStream};
use futures_sink::Sink;

use super::batch::Batch;
use super::look::{By, Reading};
use super::lookahead::Item;
use super::{KeepAlive, Parts};
use crate::error::Error;
use crate::machine::{Heeded, Input};
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

    // This is the short way. Most messages have nothing to do with the heartbeat, so everything else is kept
    // out of it.
    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.batch.credit == 0 || self.home.is_called() {
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

/// Whether a call wakes this task.
#[inline]
fn is_known(task: &Option<Waker>, cx: &Context<'_>) -> bool {
    task.as_ref().is_some_and(|task| task.will_wake(cx.waker()))
}

/// The answer of the stream.
type Polled<M, E> = Poll<Option<Result<M, Error<E>>>>;

/// What is off the short way of [`poll_next`](Stream::poll_next).
impl<S, P, T, M, E> KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Leaves the short way: the heartbeat was called, or a batch has passed.
    #[inline(never)]
    fn come_in(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<M, E> {
        let this = self.as_mut().project();
        if this.home.is_called() {
            // The call has taken the waker of this task.
            *this.still = false;
        } else if *this.still && this.listening.has_begun() {
            // The reader is back, and there is nothing else to do.
            let now = Time::of(this.alarm.now());
            this.listening.end(now);
            this.batch.begin(now);
            return self.pass(cx);
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
                    this.batch.credit -= 1;
                    if this.signs.heeded != Heeded::Nothing {
                        self.note_sign(false);
                    }
                    return polled.map_err(Error::Transport);
                }
                MessageKind::Ping(_) if !*this.data_only => {
                    this.batch.credit -= 1;
                    self.note_sign(true);
                    return polled.map_err(Error::Transport);
                }
                kind => self.as_mut().takes(kind),
            },
            Poll::Pending
                if *this.still
                    && is_known(this.task, cx)
                    && !this.home.note_sleep(this.alarm.asleep()) =>
            {
                if !this.listening.is_waiting() {
                    this.batch.renew();
                    this.batch.has_passed = false;
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

    /// Whether a whole batch has passed and there is nothing to do, as is nearly always so: then the next
    /// batch may pass.
    #[inline(never)]
    fn rests(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        // If there is credit left, the heartbeat was called.
        if this.batch.credit > 0
            || this.listening.has_begun()
            || this.in_sink.is_some()
            || *this.closing
            || !this.ahead.is_empty()
        {
            return false;
        }
        let now = Time::of(this.alarm.now());
        let (rests, patience) = this
            .home
            .ask(|machine| (machine.is_resting(now), machine.patience()));
        if rests {
            this.batch.has_passed = true;
            this.batch.next(now, patience);
        }
        rests
    }

    /// The socket has nothing more to read while the heartbeat sleeps. No look is needed. But what was read
    /// may be the answer that is waited for, and if it is not, it matters how long the reader waits.
    #[inline(never)]
    fn doze(mut self: Pin<&mut Self>) {
        let now = Time::of(self.alarm.now());
        if self.signs.is_unreported() {
            self.as_mut().project().report_signs(now);
        }
        let this = self.project();
        this.batch.has_passed = false;
        this.batch.begin(now);
        if this.listening.begin(now) {
            this.batch.come_by();
        }
    }

    /// Begins the heartbeat, looks, or yields what was read ahead. Returns `None` if the socket is to be read.
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
        let read = this.batch.read();
        // If the reader comes back from a wait, no whole batch has passed.
        let back = this.listening.has_begun();
        let patience = this.home.ask(|machine| machine.patience());
        let slow = this.batch.next(now, patience) && !back;
        if !this.ahead.is_empty() {
            return Some(this.next_ahead(now, cx));
        }
        if !first && !this.is_plain() {
            this.batch.has_passed |= read > 0 && !back;
            this.listening.end(now);
            this.wake_up(true, cx);
            // As far as is known here, more is ready.
            let input = if slow && read > 0 {
                Input::Behind(read.into())
            } else {
                Input::More(read.into())
            };
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
            // Some crates have room for the waker of one task only, and would forget the writer's.
            let both = this.home.waker();
            return Some(self.read_on(&mut Context::from_waker(&both), cx));
        }
        None
    }

    /// A message was read that may be a sign of life.
    #[inline(never)]
    fn note_sign(self: Pin<&mut Self>, is_ping: bool) {
        let this = self.project();
        this.signs.note(is_ping, || this.alarm.now());
    }

    /// Whether a message of that kind is kept from the application.
    #[inline(never)]
    fn takes(self: Pin<&mut Self>, kind: MessageKind<'_>) -> bool {
        self.project().takes_from_reader(kind)
    }

    /// Handles an answer of the socket that is no data. If a message was `taken` from the application, the
    /// next one is read.
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
    /// Reading ends with the first message that is passed on, or after a batch of others. There are few
    /// pongs, as each ping is answered only once, but if only data is passed on there may be any number of
    /// other messages.
    fn read_on(
        mut self: Pin<&mut Self>,
        socket_cx: &mut Context<'_>,
        cx: &mut Context<'_>,
    ) -> Polled<M, E> {
        for taken in 0..Batch::MAX {
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
        // Pending: we wake ourselves. The heartbeat looks before the next batch.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes on the answer of the socket. If the socket has nothing to read, the heartbeat looks.
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
                let item = this.broken(error);
                this.deliver(item)
            }
            Poll::Ready(None) => {
                let item = this.ended_below();
                this.deliver(item)
            }
            // Pending: the socket wakes us if something comes. `idle` sees to the other wakes.
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

    /// What is known of the input behind the messages that were read ahead. If a ping is to be judged or
    /// written off, its pong is looked for as far as there is room. `None` if the stream has failed or ended.
    fn read_behind(&mut self, now: Time, cx: &mut Context<'_>) -> Option<Input> {
        if self.home.ask(|machine| machine.leeway(now)).is_none() {
            // There is nothing to judge, and nothing to write off.
            return Some(Input::More(0));
        }
        self.home.read_late();
        let (reading, read) = self.read_ahead(now, cx);
        self.batch.has_passed |= read > 0;
        match reading {
            Reading::Over => None,
            Reading::Full => Some(Input::Behind(read)),
            // Nothing is judged before the application has taken what was read ahead.
            Reading::Drained | Reading::More => Some(Input::More(read)),
        }
    }

    /// What the stream yields for an item.
    fn deliver(&mut self, item: Item<M, E>) -> Polled<M, E> {
        match item {
            Item::Message(message) | Item::Ping(message) | Item::PingBelow(message) => {
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

    /// The socket has nothing more to read: the heartbeat looks, unless it has nothing to do.
    fn idle(&mut self, taken: bool, cx: &mut Context<'_>) -> Option<Item<M, E>> {
        if let Some(item) = self.flush_answers() {
            return Some(item);
        }
        let read = self.batch.read();
        let any = mem::take(&mut self.batch.has_passed) || read > 0 || taken;
        self.batch.renew();
        if *self.closing {
            self.come_by();
        }
        if self.is_plain() {
            return None;
        }
        let answered = self.signs.is_unreported() && self.listening.is_waiting();
        let must = answered || self.last.blocked || self.in_sink.is_some() || *self.closing;
        self.home.note_sleep(self.alarm.asleep());
        let awake = self.wake_up(must, cx);
        let now = Time::of(self.alarm.now());
        if !awake {
            if self.listening.begin(now) {
                self.come_by();
            }
            return None;
        }
        self.batch.began = now;
        let more = self.reads_on(any, now);
        if let Some(item) = self.ahead.pop() {
            return Some(item);
        }
        if more {
            // Pending: we wake ourselves.
            cx.waker().wake_by_ref();
        }
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

    /// Whether a message of that kind, which the reader has read, is kept from the application.
    fn takes_from_reader(&mut self, kind: MessageKind<'_>) -> bool {
        let now = Time::of(self.alarm.now());
        if let MessageKind::Pong(_) | MessageKind::Answer = kind {
            // Messages that were read before the pong are reported before it.
            self.report_signs(now);
        }
        let is_hidden = self.hides(&kind);
        let ours = self.takes(kind, now);
        self.listening
            .wait_for(self.home.ask(|machine| machine.awaited()), now);
        if !ours {
            self.batch.credit = self.batch.credit.saturating_sub(1);
        } else if self.home.ask(|machine| machine.is_ping_due(now)) {
            // The next ping leaves with the next message, even if the driver is awake, so that no visit calls
            // it.
            self.home.mark_called();
        }
        ours || is_hidden
    }
}
