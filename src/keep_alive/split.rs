//! The two halves of a socket with a heartbeat, for two tasks.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream, TryStream};
use futures_sink::Sink;

use super::{KeepAlive, run_while};
use crate::error::{Error, Interrupted};
use crate::handle::Controller;
use crate::protocol::{Protocol, Rfc6455};
use crate::shared::Shared;
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::timer::{FuturesTimer, Timer};

/// The reading half of a [`KeepAlive`], made by [`KeepAlive::into_split`].
///
/// The heartbeat goes on as long as one of the halves is polled until it is pending, and again whenever it is
/// woken, even if the other half was dropped.
///
/// # Examples
///
/// A reader and a writer in two tasks, with a handler that takes its time:
///
/// ```
/// # futures::executor::block_on(async {
/// use futures::{SinkExt, StreamExt, channel::mpsc};
/// use futures_pinger::{Config, KeepAlive};
/// use tungstenite_0_30::Message;
///
/// # use futures_pinger::testing::World;
/// # let world = World::new();
/// # let (socket, script) = world.socket(futures_pinger::Rfc6455);
/// # script.receive(Message::text("how much?"));
/// # script.end();
/// # async fn look_up(_: Message) -> Message { Message::text("42") }
/// let (mut reader, mut writer) = KeepAlive::new(socket, Config::default()).into_split();
/// let (answers, mut queue) = mpsc::channel(8);
///
/// let reading = async move {
///     let mut answers = answers;
///     while let Some(question) = reader.next().await {
///         // Pings leave and pongs are seen while this is looked up.
///         let answer = reader.run_while(look_up(question?)).await?;
///         answers.send(answer).await?;
///     }
///     Ok::<_, Box<dyn std::error::Error>>(())
/// };
/// let writing = async move {
///     while let Some(answer) = queue.next().await {
///         writer.send(answer).await?;
///     }
///     Ok::<_, Box<dyn std::error::Error>>(())
/// };
/// // The queue ends with the reader, which owns its only sender. If another part of the program kept a
/// // sender, `join!` would wait for that: see the guide, `closing`.
/// let (read, written) = futures::join!(reading, writing);
/// # read.unwrap();
/// # written.unwrap();
/// # });
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct ReadHalf<S: TryStream, P = Rfc6455, T = FuturesTimer> {
    whole: Arc<Whole<S, P, T>>,
    ended: bool,
}

/// The writing half of a [`KeepAlive`], made by [`KeepAlive::into_split`].
#[must_use = "sinks do nothing unless polled"]
pub struct WriteHalf<S: TryStream, P = Rfc6455, T = FuturesTimer> {
    whole: Arc<Whole<S, P, T>>,
    /// A message that was accepted while the other half had the lock. It goes to the socket next.
    accepted: Option<S::Ok>,
}

/// Two halves that are not of the same socket, given back.
pub struct ReuniteError<S: TryStream, P = Rfc6455, T = FuturesTimer>(
    /// The reading half.
    pub ReadHalf<S, P, T>,
    /// The writing half.
    pub WriteHalf<S, P, T>,
);

/// A socket that two tasks share, one at a time.
///
/// A half never blocks on the lock, as the socket, or a waker in it, may poll the other half. A half that
/// finds the lock taken is woken when the lock is free.
struct Whole<S: TryStream, P, T> {
    alive: Mutex<Boxed<S, P, T>>,
    /// The half that waits for the lock.
    waits: Mutex<Option<Waker>>,
    /// The heartbeat, for handles, which do not need the lock.
    home: Arc<Shared>,
}

/// The socket is boxed and pinned, so that the halves are [`Unpin`] whatever the socket is.
type Boxed<S, P, T> = Pin<Box<KeepAlive<S, P, T>>>;

/// The lock, held by one half. Fields are dropped in their order, so the lock is released before the other
/// half is woken.
struct Held<'a, S: TryStream, P, T> {
    alive: MutexGuard<'a, Boxed<S, P, T>>,
    _leave: Leave<'a>,
}

/// Wakes the half that waits for the lock.
struct Leave<'a>(&'a Mutex<Option<Waker>>);

impl<S: TryStream, P, T> KeepAlive<S, P, T> {
    /// Two halves for two tasks. Each is [`Unpin`], drives the heartbeat while it is polled, and gives
    /// [controllers](ReadHalf::controller); the reading half has [`run_while`](ReadHalf::run_while).
    ///
    /// `StreamExt::split` works as well, but its halves have none of these methods. Do not drop the reading half
    /// early: the writing half reads only where a pong is missing, so that data would stay unread.
    pub fn into_split(self) -> (ReadHalf<S, P, T>, WriteHalf<S, P, T>) {
        let whole = Arc::new(Whole {
            home: self.home.share(),
            alive: Mutex::new(Box::pin(self)),
            waits: Mutex::new(None),
        });
        let reader = ReadHalf {
            whole: Arc::clone(&whole),
            ended: false,
        };
        let writer = WriteHalf {
            whole,
            accepted: None,
        };
        (reader, writer)
    }
}

impl<S: TryStream, P, T> Whole<S, P, T> {
    /// Takes the lock. `None` if the other half has it, which wakes this task when it releases the lock.
    fn hold(&self, cx: &Context<'_>) -> Option<Held<'_, S, P, T>> {
        self.try_hold().or_else(|| {
            let old = lock(&self.waits).replace(cx.waker().clone());
            drop(old);
            // The other half may have released the lock before this task was registered.
            self.try_hold()
        })
    }

    fn try_hold(&self) -> Option<Held<'_, S, P, T>> {
        let alive = match self.alive.try_lock() {
            Ok(alive) => alive,
            // A socket that has panicked is polled on, as it would be without a split.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Held {
            alive,
            _leave: Leave(&self.waits),
        })
    }
}

impl<S: TryStream, P, T> Held<'_, S, P, T> {
    fn alive(&mut self) -> Pin<&mut KeepAlive<S, P, T>> {
        self.alive.as_mut()
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let waits = lock(self.0).take();
        if let Some(waker) = waits {
            waker.wake();
        }
    }
}

impl<S: TryStream, P, T> ReadHalf<S, P, T> {
    /// As [`KeepAlive::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.whole.home.stats()
    }

    /// As [`KeepAlive::controller`].
    #[must_use]
    pub fn controller(&self) -> Controller {
        Controller::new(Arc::clone(&self.whole.home))
    }

    /// Puts the two halves of a socket together again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] with both halves, if they are not of the same socket.
    pub fn reunite(
        self,
        writer: WriteHalf<S, P, T>,
    ) -> Result<KeepAlive<S, P, T>, ReuniteError<S, P, T>>
    where
        KeepAlive<S, P, T>: Unpin,
    {
        if !Arc::ptr_eq(&self.whole, &writer.whole) {
            return Err(ReuniteError(self, writer));
        }
        let WriteHalf { whole, accepted } = writer;
        let ended = self.ended;
        drop(self);
        let whole = match Arc::try_unwrap(whole) {
            Ok(whole) => whole,
            // This cannot happen, as there are only two halves.
            Err(whole) => {
                let reader = Arc::clone(&whole);
                let reader = ReadHalf {
                    whole: reader,
                    ended,
                };
                return Err(ReuniteError(reader, WriteHalf { whole, accepted }));
            }
        };
        let alive = whole.alive.into_inner();
        let mut alive = *Pin::into_inner(alive.unwrap_or_else(PoisonError::into_inner));
        if let Some(message) = accepted {
            alive.outbox.hold(message);
            alive.clear = false;
        }
        Ok(alive)
    }
}

impl<S: TryStream, P, T> WriteHalf<S, P, T> {
    /// As [`KeepAlive::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.whole.home.stats()
    }

    /// As [`KeepAlive::controller`].
    #[must_use]
    pub fn controller(&self) -> Controller {
        Controller::new(Arc::clone(&self.whole.home))
    }
}

impl<S, P, T, M, E> ReadHalf<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// As [`KeepAlive::run_while`], while the writing half goes on.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] if the peer is found to be gone, or the connection fails or ends, before `work` is done.
    pub async fn run_while<F: Future>(&mut self, work: F) -> Result<F::Output, Interrupted> {
        run_while(work, |cx| self.poll_heartbeat(cx)).await
    }

    /// As [`KeepAlive::poll_heartbeat`].
    pub fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Interrupted> {
        match self.whole.hold(cx) {
            Some(mut held) => held.alive().poll_heartbeat(cx),
            // Pending: the other half wakes us.
            None => Poll::Pending,
        }
    }
}

impl<S, P, T, M, E> Stream for ReadHalf<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    type Item = Result<M, Error<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(mut held) = self.whole.hold(cx) else {
            // Pending: the other half wakes us.
            return Poll::Pending;
        };
        let polled = held.alive().poll_next(cx);
        drop(held);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled
    }
}

impl<S, P, T, M, E> FusedStream for ReadHalf<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S, P, T, M, E> WriteHalf<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// Sends the message that was accepted before, if there is one, and then calls `poll`.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut KeepAlive<S, P, T>>, &mut Context<'_>) -> Poll<Result<(), Error<E>>>,
    ) -> Poll<Result<(), Error<E>>> {
        let Some(mut held) = self.whole.hold(cx) else {
            // Pending: the other half wakes us.
            return Poll::Pending;
        };
        if let Some(message) = self.accepted.take() {
            // The socket was ready for the message when it was accepted.
            held.alive().start_send(message)?;
        }
        poll(held.alive(), cx)
    }
}

impl<S, P, T, M, E> Sink<M> for WriteHalf<S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    type Error = Error<E>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        self.poll(cx, KeepAlive::poll_ready)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error<E>> {
        let this = &mut *self;
        let Some(mut held) = this.whole.try_hold() else {
            // At most one message is kept here: a second needs a `poll_ready` before it, which sends the first.
            this.accepted = Some(message);
            return Ok(());
        };
        if let Some(first) = this.accepted.take() {
            held.alive().start_send(first)?;
        }
        held.alive().start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        self.poll(cx, KeepAlive::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        self.poll(cx, KeepAlive::poll_close)
    }
}

// The halves hold the socket behind a pointer.
impl<S: TryStream, P, T> Unpin for ReadHalf<S, P, T> {}
impl<S: TryStream, P, T> Unpin for WriteHalf<S, P, T> {}

impl<S: TryStream, P, T> fmt::Debug for ReadHalf<S, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl<S: TryStream, P, T> fmt::Debug for WriteHalf<S, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl<S: TryStream, P, T> fmt::Debug for ReuniteError<S, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S: TryStream, P, T> fmt::Display for ReuniteError<S, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves are not of the same socket")
    }
}

impl<S: TryStream, P, T> StdError for ReuniteError<S, P, T> {}
