//! The socket's sink, which the heartbeat and the user share.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{Stream, TryStream};
use futures_sink::Sink;

use super::{KeepAlive, Parts};
use crate::drive::{Driven, Sinks};
use crate::error::Error;
use crate::frame::{CloseReason, Frame};
use crate::machine::{Destination, Handshake, Input};
use crate::protocol::{MessageKind, Protocol};
use crate::shared::{Then, Visited};
use crate::time::Time;
use crate::timer::Timer;

/// What the user of the sink was promised, and the message that was accepted on a promise that a ping has
/// broken.
pub(super) struct Outbox<M> {
    promise: Promise,
    /// A message that was accepted although a ping had taken the socket's readiness. It waits for the socket.
    held: Option<M>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing was promised.
    None,
    /// The user was told that the socket is ready.
    Reserved,
    /// The user was told that the socket is ready, and a ping has taken that readiness since.
    Taken,
}

impl<M> Outbox<M> {
    pub(super) const fn new() -> Self {
        Self {
            promise: Promise::None,
            held: None,
        }
    }

    /// Holds a message that was accepted, and that goes first.
    pub(super) fn hold(&mut self, message: M) {
        self.promise = Promise::None;
        self.held = Some(message);
    }

    /// Whether the next message may go directly to the socket.
    pub(super) fn is_free(&self) -> bool {
        self.promise != Promise::Taken && self.held.is_none()
    }
}

/// The socket's sink for the heartbeat's frames. A ping may take the readiness that the user was
/// promised: no reservation, however long it is held, delays a ping.
pub(super) struct Outgoing<'a, S: TryStream, P> {
    pub(super) socket: Pin<&'a mut S>,
    pub(super) protocol: &'a P,
    pub(super) outbox: &'a mut Outbox<S::Ok>,
    /// The error of a ping that the socket has refused, until the socket takes one.
    pub(super) refused: &'a mut Option<Box<S::Error>>,
    /// Whether the socket's sink was asked for anything.
    pub(super) asked: bool,
}

impl<S, P, M, E> Sinks for Outgoing<'_, S, P>
where
    S: TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
{
    type Error = E;

    fn poll_ready(&mut self, _: Destination, cx: &mut Context<'_>) -> Poll<Result<(), Option<E>>> {
        self.asked = true;
        self.socket.as_mut().poll_ready(cx).map_err(Some)
    }

    fn start_send(&mut self, _: Destination, frame: Frame) -> Result<bool, Option<E>> {
        let closes = matches!(frame, Frame::Close(_));
        let Some(message) = self.protocol.encode(frame) else {
            // The verdict stands without a close frame that the protocol does not have. Any other frame
            // is dropped.
            return if closes { Err(None) } else { Ok(true) };
        };
        if self.outbox.promise == Promise::Reserved {
            self.outbox.promise = Promise::Taken;
        }
        match self.socket.as_mut().start_send(message) {
            Ok(()) => {
                *self.refused = None;
                Ok(true)
            }
            // A buffer may be full, or the socket limits the rate: the ping is offered once more.
            Err(error) if !closes && self.refused.is_none() => {
                *self.refused = Some(Box::new(error));
                Ok(false)
            }
            Err(error) => Err(Some(error)),
        }
    }

    fn poll_flush(&mut self, _: Destination, cx: &mut Context<'_>) -> Poll<Result<(), Option<E>>> {
        self.asked = true;
        self.socket.as_mut().poll_flush(cx).map_err(Some)
    }
}

impl<S, P, T, M, E> Sink<M> for KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    type Error = Error<E>;

    // This is the short way. Most messages have nothing to do with the heartbeat, so everything else is kept
    // out of it.
    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        if self.is_clear() {
            let this = self.as_mut().project();
            if let Poll::Ready(Ok(())) = this.socket.poll_ready(cx) {
                this.outbox.promise = Promise::Reserved;
                return Poll::Ready(Ok(()));
            }
        }
        self.ready(cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error<E>> {
        let closes = matches!(self.protocol.classify(&message), MessageKind::Close);
        if closes || !self.is_clear() {
            return self.send_between(message, closes);
        }
        let this = self.as_mut().project();
        this.outbox.promise = Promise::None;
        this.socket.start_send(message).map_err(Error::Transport)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        if self.is_clear()
            && matches!(
                self.as_mut().project().socket.poll_flush(cx),
                Poll::Ready(Ok(()))
            )
        {
            return Poll::Ready(Ok(()));
        }
        self.flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        let mut this = self.project();
        this.pass_by(cx)?;
        let closed = this.poll_closed(cx);
        this.or_blocked(closed, cx)
    }
}

/// What is off the short way.
impl<S, P, T, M, E> KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Whether a write concerns the socket alone.
    #[inline]
    fn is_clear(&self) -> bool {
        self.clear && !self.home.is_called()
    }

    #[inline(never)]
    fn ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        let mut this = self.project();
        this.pass_by(cx)?;
        let ready = this.poll_room(cx);
        if ready.is_pending() {
            ready!(this.or_blocked(ready, cx))?;
            // `or_blocked` is ready without an error only if the connection has ended.
            return Poll::Ready(Err(Error::Closed));
        }
        ready
    }

    #[inline(never)]
    fn flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        let mut this = self.project();
        this.pass_by(cx)?;
        let flushed = this.poll_flushed(cx);
        this.or_blocked(flushed, cx)
    }

    #[inline(never)]
    fn send_between(self: Pin<&mut Self>, message: M, closes: bool) -> Result<(), Error<E>> {
        let mut this = self.project();
        this.check_verdict().map_err(Error::Timeout)?;
        if closes {
            // Nothing of ours may follow a close frame (RFC 6455 §5.5.1).
            let now = Time::of(this.alarm.now());
            this.close(Handshake::Sent, now);
        }
        let promise = mem::replace(&mut this.outbox.promise, Promise::None);
        if promise != Promise::Reserved && this.is_given_up() {
            return Err(Error::Closed);
        }
        if promise == Promise::Taken {
            this.outbox.hold(message);
            return Ok(());
        }
        // The user may send without asking for readiness. Whether the socket takes the message is up to the
        // socket, but the message that is held goes first.
        if let Some(first) = this.outbox.held.take() {
            let sent = this.socket.as_mut().start_send(first);
            sent.map_err(|error| this.writer_error(error))?;
        }
        let sent = this.socket.as_mut().start_send(message);
        sent.map_err(|error| this.writer_error(error))
    }
}

/// The writer's side.
impl<S, P, T, M, E> Parts<'_, S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Looks if the heartbeat was called, as the writer may be the only half that is polled. Returns the
    /// verdict as an error, if one has fallen.
    fn pass_by(&mut self, cx: &mut Context<'_>) -> Result<(), Error<E>> {
        if self.home.is_called() {
            self.look_from_writer(cx).map_err(Error::Timeout)?;
        }
        self.check_verdict().map_err(Error::Timeout)
    }

    /// Makes a writer that is blocked wait for the heartbeat as well: for a verdict, and for the end of the
    /// closing handshake, after which this is ready.
    fn or_blocked(
        &mut self,
        polled: Poll<Result<(), Error<E>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<E>>> {
        if polled.is_pending() {
            // The timer, and whatever wakes the reader, wakes us as well.
            self.home.register_writer(cx);
            if self.home.is_called() {
                self.look_from_writer(cx).map_err(Error::Timeout)?;
            }
            if self.is_given_up() {
                return Poll::Ready(Ok(()));
            }
        }
        polled
    }

    /// Whether the connection has ended by its closing handshake: nothing will be taken any more.
    fn is_given_up(&self) -> bool {
        *self.closing && (*self.ended || self.ahead.is_over())
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        ready!(self.poll_held(cx))?;
        ready!(self.poll_ours(cx));
        // Pending: the socket wakes us.
        ready!(self.poll_socket(cx, S::poll_ready))?;
        self.outbox.promise = Promise::Reserved;
        Poll::Ready(Ok(()))
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        ready!(self.poll_held(cx))?;
        // Pending: the socket wakes us.
        ready!(self.poll_socket(cx, S::poll_flush))?;
        self.flushed();
        if *self.answers_close && self.home.ask(|machine| machine.owes_close()) {
            let now = Time::of(self.alarm.now());
            self.home.handle_close(Handshake::Sent, now);
        }
        if self.refused.is_some() && self.home.visit(|machine| machine.offer_again()).is_ok() {
            // The writer's flush has succeeded, whatever becomes of the ping.
            let _ = self.poll_ours(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        ready!(self.poll_held(cx))?;
        if !*self.closing && !self.is_plain() {
            if self
                .protocol
                .encode(Frame::Close(CloseReason::ping_timeout()))
                .is_some()
            {
                let now = Time::of(self.alarm.now());
                self.close(Handshake::Sent, now);
            } else {
                // Without a close frame there is no handshake to wait for.
                self.pass_through();
            }
        }
        // Pending: the socket wakes us.
        match ready!(self.poll_socket(cx, S::poll_close)) {
            // The connection is closed, as the writer has asked for.
            Err(Error::Closed) => return Poll::Ready(Ok(())),
            closed => closed?,
        }
        if self.home.ask(|machine| machine.owes_close()) {
            // The peer's close frame was read before, and is answered by this.
            let now = Time::of(self.alarm.now());
            self.home.handle_close(Handshake::Sent, now);
        }
        Poll::Ready(Ok(()))
    }

    /// Asks the socket's sink for something on behalf of the writer.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), Error<E>>> {
        let ours = *self.closing
            || self.in_sink.is_some()
            || self.home.ask(|machine| machine.wants_transmit());
        let polled = if ours {
            // A frame of ours waits too, or the socket closes: the socket must wake the reader as well.
            self.home.register_writer(cx);
            let both = self.home.waker();
            poll(self.socket.as_mut(), &mut Context::from_waker(&both))
        } else {
            poll(self.socket.as_mut(), cx)
        };
        if polled.is_ready() {
            self.write.end();
            *self.clear = self.is_clear();
        } else if self.write.is_free() {
            *self.clear = false;
            let now = Time::of(self.alarm.now());
            self.write.begin(now);
            if self.ahead.is_full() || self.home.ask(|machine| machine.is_nearly_over(now)) {
                // The heartbeat sleeps until the next ping is due, and must look earlier now: the blocked
                // write has a deadline, or the first of the writer's two looks comes before the deadline.
                self.home.mark_called();
            }
        }
        polled.map_err(|error| self.writer_error(error))
    }

    /// The error for the writer when the socket's sink has failed. After a closing handshake it is no failure
    /// that the sink takes nothing any more.
    fn writer_error(&self, error: E) -> Error<E> {
        if self.home.ask(|machine| machine.has_closed()) {
            Error::Closed
        } else {
            Error::Transport(error)
        }
    }

    /// A frame of ours that waits goes first: otherwise a writer that never leaves the socket any room would
    /// keep the frame waiting until its write timeout.
    fn poll_ours(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits_for_ours() {
            return Poll::Ready(());
        }
        self.home.register_writer(cx);
        let now = Time::of(self.alarm.now());
        self.home.handle_progress(self.progress, now);
        // Messages that were read before the ping leaves do not answer it.
        self.report_signs(now);
        // Nothing is judged here, and the timer is armed with the next look.
        let driven = self.drive(now, Input::More(0), Then::ComeBack).0;
        self.call_listener(now);
        match driven {
            // Pending: the socket wakes us, and a pause does. A pause that came before this task was
            // registered woke nobody, so the writer asks once more.
            Driven::Rests { blocked: true, .. } if self.waits_for_ours() => Poll::Pending,
            // Pending: the socket has woken us, as nothing was read before.
            Driven::Yields => Poll::Pending,
            Driven::Rests { .. } | Driven::Over(_) => Poll::Ready(()),
            // The stream yields the error, as the frame that failed is not the writer's.
            Driven::Failed(error) => {
                let item = self.broken(error);
                self.keep(item);
                Poll::Ready(())
            }
        }
    }

    /// Wakes a reader that waits for the socket if the writer has sent a ping: the reader waits for that pong
    /// from now on.
    fn call_listener(&mut self, now: Time) {
        let awaited = self.home.ask(|machine| machine.awaited());
        if self.listening.wait_for(awaited, now) {
            self.home.wake_reader();
        }
    }

    /// Whether the writer lets a frame of the heartbeat go first. A heartbeat that is paused has no
    /// write timeout, so the writer does not wait for its frame.
    fn waits_for_ours(&self) -> bool {
        self.home.ask(|machine| {
            (self.in_sink.is_some() || machine.wants_transmit())
                && !machine.is_paused()
                && !machine.is_gone()
        })
    }

    /// Sends the message that is held, if there is one.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        if self.outbox.held.is_some() {
            // Pending: the socket wakes us.
            ready!(self.poll_socket(cx, S::poll_ready))?;
            if let Some(message) = self.outbox.held.take() {
                let sent = self.socket.as_mut().start_send(message);
                sent.map_err(|error| self.writer_error(error))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The socket is flushed, and with it a frame of ours that was in it.
    fn flushed(&mut self) {
        if self.in_sink.take().is_some() {
            let now = Time::of(self.alarm.now());
            // Bytes that have moved until now do not extend the wait for the pong, which begins now.
            self.home.handle_progress(self.progress, now);
            // The visit wakes the reader if its deadline is earlier now.
            let _ = self.home.visit(|machine| machine.handle_sent(now));
            self.call_listener(now);
        }
    }
}
