//! A whole socket, scripted: what [`KeepAlive`](crate::KeepAlive) wraps.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use super::incoming::Incoming;
use super::outgoing::{Broken, Fault, Outgoing};
use super::peer::Peer;
use super::time::{Time, lock};
use super::world::World;
use crate::frame::Frame;
use crate::protocol::{MessageKind, Protocol};

type Speaks<M> = Arc<dyn Protocol<M> + Send + Sync>;
type Hook<M> = Arc<Mutex<dyn FnMut(M) + Send>>;

/// A socket of messages `M`, made by [`World::socket`]. It behaves as a real one does: it has a waker for each
/// direction, and takes one message for each readiness.
///
/// # Panics
///
/// At a message without readiness, at one after the close frame (RFC 6455 §5.5.1), and at one after
/// `poll_close`.
pub struct ScriptedSocket<M> {
    time: Arc<Time>,
    protocol: Speaks<M>,
    incoming: Incoming<Result<M, Broken>>,
    outgoing: Outgoing<M>,
}

/// The handle by which a test moves a [`ScriptedSocket`], and sees what it was given.
pub struct SocketScript<M> {
    incoming: Incoming<Result<M, Broken>>,
    outgoing: Outgoing<M>,
    hook: Arc<Mutex<Option<Hook<M>>>>,
    peer: Peer,
}

impl World {
    /// A socket in the messages of `protocol`, and its script. A message that is sent reaches the other end
    /// at the flush; the [peer](SocketScript::peer) there answers no ping unless it is told to.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::StreamExt;
    /// use futures_pinger::testing::{ScriptedSocket, World};
    /// use futures_pinger::{Config, Error, KeepAlive, Rfc6455};
    /// use tungstenite_0_30::Message;
    ///
    /// let world = World::new();
    /// let (socket, script): (ScriptedSocket<Message>, _) = world.socket(Rfc6455);
    /// script.peer().answer_after(Duration::from_millis(30));
    /// world.at(Duration::from_secs(50), {
    ///     let script = script.clone();
    ///     move || script.peer().fall_silent()
    /// });
    /// script.receive(Message::text("hello"));
    ///
    /// let socket = KeepAlive::new(socket, Config::default()).with_timer(world.timer());
    /// let read: Vec<_> = world.run_within(Duration::from_secs(100), socket.collect());
    /// assert!(matches!(&read[..], [Ok(Message::Text(_)), Err(Error::Timeout(_))]));
    /// assert_eq!(script.pings().len(), 4);
    /// assert!(script.sent().last().is_some_and(|(_, message)| message.is_close()));
    /// ```
    #[must_use]
    pub fn socket<M, P>(&self, protocol: P) -> (ScriptedSocket<M>, SocketScript<M>)
    where
        M: Clone + Send + 'static,
        P: Protocol<M> + Send + Sync + 'static,
    {
        let protocol: Speaks<M> = Arc::new(protocol);
        let (incoming, outgoing) = (Incoming::new(), Outgoing::new());
        let peer = Peer::new(Arc::downgrade(self.time()), {
            let (incoming, protocol) = (incoming.clone(), Arc::clone(&protocol));
            move |payload| {
                if let Some(pong) = protocol.encode(Frame::Pong(payload)) {
                    incoming.push(Ok(pong));
                }
            }
        });
        let script = SocketScript {
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            hook: Arc::default(),
            peer: peer.clone(),
        };
        let (hook, speaks) = (Arc::clone(&script.hook), Arc::clone(&protocol));
        outgoing.on_wire(move |message| {
            if let MessageKind::Ping(payload) = speaks.classify(&message) {
                peer.receive(Bytes::copy_from_slice(payload));
            }
            let hook = lock(&hook).clone();
            if let Some(hook) = hook {
                lock(&hook)(message);
            }
        });
        let socket = ScriptedSocket {
            time: Arc::clone(self.time()),
            protocol,
            incoming,
            outgoing,
        };
        (socket, script)
    }
}

impl<M: Clone + Send + 'static> SocketScript<M> {
    /// The peer, which answers the pings, those of the code under test too.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sets what else is done with each message that reaches the other end, in place of what was done
    /// before: a server's answers, or its part of the closing handshake.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use futures::{SinkExt, StreamExt};
    /// # use futures_pinger::testing::World;
    /// # use futures_pinger::Rfc6455;
    /// use tungstenite_0_30::Message;
    ///
    /// # let world = World::new();
    /// let (mut socket, script) = world.socket(Rfc6455);
    /// script.on_wire({
    ///     let script = script.clone();
    ///     move |message| {
    ///         if let Message::Close(_) = message {
    ///             script.receive(message);
    ///             script.end();
    ///         }
    ///     }
    /// });
    /// # world.run_within(Duration::ZERO, async {
    /// #     socket.send(Message::Close(None)).await.unwrap();
    /// #     assert_eq!(socket.count().await, 1);
    /// # });
    /// ```
    pub fn on_wire(&self, peer: impl FnMut(M) + Send + 'static) {
        let old = lock(&self.hook).replace(Arc::new(Mutex::new(peer)));
        drop(old);
    }

    /// A message arrives.
    pub fn receive(&self, message: M) {
        self.incoming.push(Ok(message));
    }

    /// [`Broken`] arrives, behind what has come before. The stream goes on until it
    /// [ends](Self::end).
    pub fn receive_error(&self) {
        self.incoming.push(Err(Broken));
    }

    /// The connection has ended: the stream does too, behind what has come before.
    pub fn end(&self) {
        self.incoming.end();
    }

    /// A message is always ready from now on, behind all others.
    pub fn flood(&self, mut messages: impl FnMut() -> M + Send + 'static) {
        self.incoming.flood(move || Ok(messages()));
    }

    /// Makes the stream return `Pending` after every `messages` messages and wake at once, as streams do
    /// under a cooperative budget.
    pub fn budget(&self, messages: usize) {
        self.incoming.budget(messages);
    }

    /// Makes the sink return `Pending` and wake at once at those of its polls for which `polls` is true, as a
    /// channel of tokio does when its task has used up its budget. Polls are counted from now on, from 0.
    pub fn yield_at(&self, polls: impl Fn(usize) -> bool + Send + 'static) {
        self.outgoing.yield_at(polls);
    }

    /// Makes the sink take nothing any more, as a socket does whose peer does not read.
    pub fn block(&self) {
        self.outgoing.block();
    }

    /// Makes the sink take messages and not flush them.
    pub fn block_flush(&self) {
        self.outgoing.block_flush();
    }

    /// Ends [`block`](Self::block) and [`block_flush`](Self::block_flush).
    pub fn unblock(&self) {
        self.unblock_quietly();
        self.outgoing.wake();
    }

    /// Ends [`block`](Self::block) and [`block_flush`](Self::block_flush) without a wake-up, as a poll may come
    /// before the wake-up.
    pub fn unblock_quietly(&self) {
        self.outgoing.unblock();
        self.outgoing.unblock_flush();
    }

    /// Makes the sink fail at `fault` from now on, with [`Broken`].
    pub fn fail(&self, fault: Fault) {
        self.outgoing.fail(fault);
        self.outgoing.wake();
    }

    /// The messages taken so far, those of the heartbeat too, with their times.
    #[must_use]
    pub fn sent(&self) -> Vec<(Duration, M)> {
        self.outgoing.sent()
    }

    /// The times of the pings that were taken.
    #[must_use]
    pub fn pings(&self) -> Vec<Duration> {
        self.outgoing.pings()
    }

    /// Whether the sink was closed by `poll_close`.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.outgoing.is_closed()
    }

    /// Whether the socket was not dropped yet.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.outgoing.is_held()
    }
}

impl<M> Stream for ScriptedSocket<M> {
    type Item = Result<M, Broken>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_next(cx)
    }
}

impl<M: Clone> Sink<M> for ScriptedSocket<M> {
    type Error = Broken;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.outgoing.poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), Broken> {
        let kind = self.protocol.classify(&message);
        self.outgoing
            .start_send(&message, &kind, self.time.elapsed())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.outgoing.poll_flush(self.time.elapsed(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.outgoing.poll_close(self.time.elapsed(), cx)
    }
}

impl<M> Drop for ScriptedSocket<M> {
    fn drop(&mut self) {
        self.outgoing.release();
    }
}

impl<M> Clone for SocketScript<M> {
    fn clone(&self) -> Self {
        Self {
            incoming: self.incoming.clone(),
            outgoing: self.outgoing.clone(),
            hook: Arc::clone(&self.hook),
            peer: self.peer.clone(),
        }
    }
}

impl<M> fmt::Debug for ScriptedSocket<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedSocket").finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for SocketScript<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketScript")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
