//! A whole socket with a heartbeat in it: `Stream` and `Sink` as before.
//!
//! | File | Holds |
//! |---|---|
//! | `reader`, `writer` | the stream and the sink |
//! | `look` | one look of the heartbeat, from either half |
//! | `split` | the two halves for two tasks |
//! | `batch` | how many messages pass between two readings of the clock |
//! | `lookahead` | messages that were read ahead of the application |
//! | `signs` | which messages are signs of life |
//! | `listening` | how long the reader has waited for the answer to a ping |
//! | `blocked` | a write of the application that the socket does not take |
//!
//! The heartbeat *looks* when it reads the clock, writes what is due, judges deadlines and arms the timer.
//! Most messages take the *short way* through either half, without a look. The reader has to *come by*
//! if its next poll must leave the short way. The heartbeat is *called* when it must look earlier than it
//! had planned.

mod batch;
mod blocked;
mod listening;
mod look;
mod lookahead;
mod reader;
mod signs;
mod split;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_core::{Stream, TryStream};
use futures_sink::Sink;
use pin_project_lite::pin_project;

use self::batch::Batch;
use self::blocked::BlockedWrite;
use self::listening::Listening;
use self::lookahead::Lookahead;
use self::signs::Signs;
pub use self::split::{ReadHalf, ReuniteError, WriteHalf};
use self::writer::Outbox;
use crate::config::Config;
use crate::drive::LastAnswer;
use crate::error::{Interrupted, PingNowError};
use crate::handle::Controller;
use crate::machine::Destination;
use crate::meter::{Meter, Progress};
use crate::protocol::{MessageSink, Protocol, Rfc6455};
use crate::shared::{Owner, Visited};
use crate::stats::Stats;
use crate::timer::{Alarm, FuturesTimer, Timer};

pin_project! {
    /// A socket that keeps itself alive: the same `Stream` and `Sink`, with pings in between.
    ///
    /// Whichever half is polled drives the heartbeat: the stream, the sink, or [`run_while`](Self::run_while)
    /// around other work. Pings leave and deadlines are judged as long as one of the three is polled until it
    /// is pending, and again whenever it is woken. An application that is blocked in a send learns there that the peer is gone. An
    /// application that stops reading for a while gets no false verdict for that: what has arrived is read
    /// first.
    ///
    /// Data passes through untouched and in order. Pongs that answer the heartbeat's pings are
    /// consumed; every other message, other pongs included, is passed on. When the peer is gone the
    /// stream yields [`Error::Timeout`](crate::Error::Timeout) once, and then ends; each later call of the sink returns the
    /// same error. After a close frame, sent or received, no ping is sent, and the connection has the
    /// time of [`closing_handshake`](crate::ConfigBuilder::closing_handshake) to end. The stream then ends
    /// without an error if a close frame went both ways, and else with a timeout of phase
    /// [`Closing`](crate::TimeoutPhase::Closing).
    ///
    /// A `KeepAlive` works whole, as the two halves of [`into_split`](Self::into_split), and after
    /// `StreamExt::split`.
    ///
    /// # Bounds
    ///
    /// The verdict falls within [`Config::detection_bound`] (with a meter:
    /// [`Config::detection_bound_with_meter`]) while either half is polled whenever it wakes.
    ///
    /// Where the writing half alone is polled, it reads for a missing pong twice before it condemns the peer.
    /// The two looks lie an eighth of the timeout (1 s at the most) apart, and the first is before the deadline.
    /// So the verdict is later than the deadline only where nothing was polled by then, or where the writer began
    /// to wait after the first look was due.
    ///
    /// A reader that takes its time over each message gets its verdict once two things hold: everything that
    /// had arrived is read, and the reader has waited for the socket for half the timeout in all. (Until then
    /// unread messages may be what keeps the peer from sending its pong.) At the latest it gets the verdict when
    /// [65 536](crate::heartbeat::BACKLOG_LIMIT) messages are read past the deadline.
    ///
    /// The one exception is a pong behind more unread messages than may be [read
    /// ahead](Self::with_lookahead): such a pong is not judged, and its ping counts neither as answered
    /// nor as missed. Pings keep leaving, and writes are judged: the socket is asked twice, an eighth of the
    /// write timeout (1 s at the most) apart, as the application may have given its write up.
    ///
    /// While nothing at all is polled, no ping leaves, the peer's are not answered, and nothing is judged. The
    /// next poll reads what has arrived before it judges anything.
    ///
    /// With [`Liveness::Activity`](crate::Liveness::Activity), [`Traffic`](crate::Liveness::Traffic) and
    /// [`watch`](crate::ConfigBuilder::watch) a message counts from the time when it is read from the socket.
    /// The heartbeat learns of the message when it looks next, and judges it by the configuration in force then.
    ///
    /// # Cancel safety
    ///
    /// Dropping a `KeepAlive` drops the socket. Between polls it holds at most one message of yours: one that
    /// was accepted while a ping had the socket's readiness. That message goes first in the next flush.
    ///
    /// # Wakeups
    ///
    /// The stream is woken by the socket and by the timer. A sink that waits is woken by the socket, also
    /// where the reader's task has polled it since, by the timer, and by the verdict.
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
        // Whether the writer may take the short way: as of the last look, nothing of the heartbeat's was in
        // its way.
        clear: bool,
        // Whether a reader that finds nothing to read may take the short way: as of the last look, the
        // heartbeat sleeps.
        still: bool,
        // The waker of the reader's task, as the heartbeat knows it.
        task: Option<Waker>,
        // The sink that has a frame of ours and has not flushed it.
        in_sink: Option<Destination>,
        // What the socket has answered to a frame of ours.
        last: LastAnswer,
        // The error of a ping that the socket has refused, until the socket takes one.
        refused: Option<Box<S::Error>>,
        // A write of the application that the socket does not take.
        write: BlockedWrite,
        // The bytes that pass the transport.
        progress: Option<Box<Progress>>,
        batch: Batch,
        // Which messages are signs of life, and the newest that was not reported yet.
        signs: Signs,
        listening: Listening,
        // Whether our stream has ended.
        ended: bool,
        // Whether a close frame was sent or read.
        closing: bool,
        // Whether the answer to a close frame is in the socket, which could not flush it at once.
        answers_close: bool,
        // Whether nothing but data is passed on.
        data_only: bool,
        // Whether a ping of the peer was not passed on, so that its answer may not be flushed.
        owes_answer: bool,
        // What was read ahead of the application.
        ahead: Lookahead<S::Ok, S::Error>,
    }
}

impl<S: TryStream> KeepAlive<S> {
    /// A heartbeat for `socket`, in the messages of a [WebSocket crate](crate#websocket-crates) whose
    /// feature is on; it begins with the first poll of either half.
    pub fn new(socket: S, config: Config) -> Self
    where
        Rfc6455: Protocol<S::Ok>,
        S: MessageSink<S::Ok>,
    {
        Self::with_protocol(socket, Rfc6455, config)
    }
}

impl<S: TryStream, P> KeepAlive<S, P> {
    /// A heartbeat for `socket` that speaks a protocol of one's own, or a preset of
    /// [`protocols`](crate::protocols); it begins with the first poll of either half.
    pub fn with_protocol(socket: S, protocol: P, config: Config) -> Self
    where
        // These bounds report early what is missing. The struct itself does not need them.
        P: Protocol<S::Ok>,
        S: MessageSink<S::Ok>,
    {
        Self {
            socket,
            alarm: Alarm::new(FuturesTimer::new()),
            protocol,
            home: Owner::new(config),
            outbox: Outbox::new(),
            clear: false,
            still: false,
            task: None,
            in_sink: None,
            last: LastAnswer::NONE,
            refused: None,
            write: BlockedWrite::new(),
            progress: None,
            batch: Batch::new(),
            signs: Signs::new(),
            listening: Listening::new(),
            ended: false,
            closing: false,
            answers_close: false,
            data_only: false,
            owes_answer: false,
            ahead: Lookahead::new(),
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
            clear: self.clear,
            still: self.still,
            task: self.task,
            in_sink: self.in_sink,
            last: self.last,
            refused: self.refused,
            write: self.write,
            progress: self.progress,
            batch: self.batch,
            signs: self.signs,
            listening: self.listening,
            ended: self.ended,
            closing: self.closing,
            answers_close: self.answers_close,
            data_only: self.data_only,
            owes_answer: self.owes_answer,
            ahead: self.ahead,
        }
    }

    /// Sets how many messages may be read ahead of the application, so that a pong behind them is seen while
    /// the application does not read: while it is blocked in a write, or in [`run_while`](Self::run_while).
    /// Of the peer's pings only the newest is kept; pongs that are not the heartbeat's are kept as data is.
    ///
    /// The memory that this may take is `messages` times the greatest message that the WebSocket crate allows.
    /// While the room is full no pong can be read, and a missing pong is not judged; writes are. With 0
    /// nothing is read ahead.
    ///
    /// Default: 16.
    pub fn with_lookahead(mut self, messages: usize) -> Self {
        self.ahead.set_limit(messages);
        self
    }

    /// Makes the stream yield data alone: no pings, no pongs and no close frame. The stream ends when the
    /// connection does.
    ///
    /// The answers that the WebSocket crate gives to the peer's pings are flushed even if the application
    /// sends nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::StreamExt;
    /// use futures_pinger::{Config, KeepAlive};
    /// # use futures_pinger::{Rfc6455, testing::World};
    /// use tungstenite_0_30::Message;
    ///
    /// # let (socket, script) = World::new().socket(Rfc6455);
    /// # script.receive(Message::Ping("who is there?".into()));
    /// # script.receive(Message::text("hi"));
    /// # script.end();
    /// let mut socket = KeepAlive::new(socket, Config::default()).data_only();
    /// while let Some(message) = socket.next().await {
    ///     assert!(message?.is_text());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn data_only(mut self) -> Self {
        self.data_only = true;
        self
    }

    /// Takes bytes that pass `meter`, which lies under the socket, for signs of life: they extend the two
    /// deadlines of a ping, each by [`progress`](crate::ConfigBuilder::progress) in all at the most. See
    /// [`Metered`](crate::Metered) for an example.
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
    /// Its orders are carried out with the next poll of either half.
    pub fn controller(&mut self) -> Controller {
        Controller::new(self.home.share())
    }

    /// Sends a ping with the next poll of either half, unless one is out; the next is due an interval
    /// after it.
    ///
    /// # Errors
    ///
    /// [`PingNowError::Closed`] once the heartbeat has ended, and [`PingNowError::Watching`] where it only
    /// [watches](crate::ConfigBuilder::watch).
    pub fn ping_now(&mut self) -> Result<(), PingNowError>
    where
        T: Timer,
    {
        self.home.ping_now()?;
        self.home.mark_called();
        Ok(())
    }

    /// A reference to the socket.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// A mutable reference to the socket. The heartbeat does not see pongs that are read here, and a close frame
    /// that is sent here does not end the heartbeat.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// A pinned mutable reference to the socket.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut S> {
        self.project().socket
    }

    /// Returns the socket, without its heartbeat, and the messages that were read ahead of the application, in
    /// their order. Flush first: a message that was accepted may still be held.
    pub fn into_parts(self) -> (S, VecDeque<S::Ok>) {
        (self.socket, self.ahead.into_messages())
    }
}

impl<S, P, T, M, E> KeepAlive<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Polls `work`, such as a call to a database, and goes on with the heartbeat meanwhile: pings leave, the
    /// peer's pings of the WebSocket are answered, and pongs are seen as long as no more messages come than are
    /// [read ahead](Self::with_lookahead). The stream yields these messages afterwards.
    ///
    /// `work` cannot use the socket: what it wants to send it returns, or puts into a channel. Nothing else in the
    /// task is polled meanwhile, such as a signal to go down: it is part of `work`, or the socket is
    /// [split](Self::into_split).
    ///
    /// # Errors
    ///
    /// [`Interrupted`] if the peer is found to be gone, or the connection fails or ends, before `work` is
    /// done, which is then dropped. The end of a closing handshake is such an end. The stream yields what has
    /// happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work`. Nothing that was read is lost.
    pub async fn run_while<F: Future>(&mut self, work: F) -> Result<F::Output, Interrupted>
    where
        Self: Unpin,
    {
        run_while(work, |cx| Pin::new(&mut *self).poll_heartbeat(cx)).await
    }

    /// Goes on with the heartbeat while the application does something else than reading. This is for futures
    /// that are written by hand, and for sockets that are not [`Unpin`]. The poll is ready when the connection
    /// has failed or ended; the stream yields the reason after all that was read before.
    ///
    /// # Wakeups
    ///
    /// The task is woken by the socket and by the timer, as by the stream.
    pub fn poll_heartbeat(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Interrupted> {
        self.project().poll_heartbeat(cx).map(|()| Interrupted(()))
    }
}

/// Does `work`, and goes on with `heartbeat` meanwhile.
async fn run_while<F: Future>(
    work: F,
    mut heartbeat: impl FnMut(&mut Context<'_>) -> Poll<Interrupted>,
) -> Result<F::Output, Interrupted> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // Work that is done counts more than the end of the connection, which the stream yields next.
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        heartbeat(cx).map(Err)
    })
    .await
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
