//! A whole socket with a heartbeat in it: `Stream` and `Sink` as before.

mod listening;
mod reader;
mod writer;

use std::fmt;
use std::pin::Pin;

use futures_core::TryStream;
use pin_project_lite::pin_project;

use self::listening::Listening;
use self::writer::Outbox;
use crate::config::Config;
use crate::handle::Controller;
use crate::machine::Destination;
use crate::protocol::{Protocol, Rfc6455};
use crate::shared::{Owner, Visited};
use crate::stats::Stats;
use crate::timer::{Alarm, FuturesTimer, Timer};

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
    pub struct KeepAlive<S, P = Rfc6455, T = FuturesTimer>
    where
        S: TryStream,
    {
        #[pin]
        socket: S,
        #[pin]
        alarm: Alarm<T>,
        protocol: P,
        home: Owner,
        outbox: Outbox<S::Ok>,
        // Where a frame of ours is that is not flushed.
        in_sink: Option<Destination>,
        // The socket takes no frame of ours at present, and wakes the task.
        blocked: bool,
        // Messages that may pass before the next look at the time. None before the first poll, after
        // the end, and where the time matters at which the reader comes back, so that one test lets
        // a message pass.
        credit: u8,
        // Messages of this batch that the heartbeat was told of as activity.
        reported: u8,
        // A whole batch has passed since the socket had nothing more.
        batch_passed: bool,
        listening: Listening,
        // The socket's stream has ended.
        ended: bool,
        // What the socket's sink said to a frame of ours in the writer's task: the stream yields it.
        failure: Option<S::Error>,
    }
}

impl<S: TryStream> KeepAlive<S> {
    /// A heartbeat for `socket`, in the messages of a [WebSocket crate](crate#websocket-crates) whose
    /// feature is on; it begins with the first poll of the stream.
    pub fn new(socket: S, config: Config) -> Self
    where
        Rfc6455: Protocol<S::Ok>,
    {
        Self::with_protocol(socket, Rfc6455, config)
    }
}

impl<S: TryStream, P> KeepAlive<S, P> {
    /// A heartbeat for `socket` that speaks a protocol of one's own; it begins with the first poll of the
    /// stream.
    pub fn with_protocol(socket: S, protocol: P, config: Config) -> Self
    where
        // Not needed to build it: it tells early what is missing.
        P: Protocol<S::Ok>,
    {
        Self {
            socket,
            alarm: Alarm::new(FuturesTimer::new()),
            protocol,
            home: Owner::new(config),
            outbox: Outbox::Free,
            in_sink: None,
            blocked: false,
            credit: 0,
            reported: 0,
            batch_passed: false,
            listening: Listening::new(),
            ended: false,
            failure: None,
        }
    }
}

impl<S: TryStream, P, T> KeepAlive<S, P, T> {
    /// Keeps time by `timer`. Choose it before the first poll: the times of one clock mean nothing
    /// to another.
    pub fn with_timer<T2>(self, timer: T2) -> KeepAlive<S, P, T2> {
        KeepAlive {
            socket: self.socket,
            alarm: Alarm::new(timer),
            protocol: self.protocol,
            home: self.home,
            outbox: self.outbox,
            in_sink: self.in_sink,
            blocked: self.blocked,
            credit: self.credit,
            reported: self.reported,
            batch_passed: self.batch_passed,
            listening: self.listening,
            ended: self.ended,
            failure: self.failure,
        }
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.home.stats()
    }

    /// A handle that steers the heartbeat, and tells its figures, from anywhere: from the writer's
    /// task after a split, say. It costs nothing until it is asked for.
    ///
    /// Its orders are carried out while the stream is polled.
    pub fn controller(&mut self) -> Controller {
        Controller::new(self.home.share())
    }

    /// Sends a ping with the next poll of the stream, unless one is out; the next is due an interval
    /// after it.
    pub fn ping_now(&mut self)
    where
        T: Timer,
    {
        // After the end there is nothing to ping for.
        let _ = self.home.visit(|machine| machine.ping_now());
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
