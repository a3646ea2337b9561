//! The answers that RFC 6455 §5.5.3 asks for: a pong for each ping, or for the newest.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use async_channel::{Receiver, Sender};
use atomic_waker::AtomicWaker;
use futures_core::{FusedFuture, Stream};
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::error::SendPingError;
use crate::frame::{Frame, Ping};
use crate::pinger::Stopped;

/// The longest payload of a control frame (RFC 6455 §5.5).
const MAX_PAYLOAD: usize = 125;

/// Pings answered in one poll before the executor's other tasks have their turn.
const BUDGET: usize = 64;

/// Answers pings on a raw transport: each [`Ping`] put into the sender comes out of the sink as a
/// pong of the same payload.
///
/// Most WebSocket crates answer pings by themselves; this is for those that do not.
///
/// While the sink is blocked, only the newest ping is kept, as RFC 6455 §5.5.3 allows.
/// [`Ponger::backlog`] keeps more.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// use futures::{StreamExt, channel::mpsc};
/// use futures_pinger::{Frame, Stopped, ponger};
///
/// let (outgoing, frames) = mpsc::channel(0);
/// let (pings, ponger) = ponger(outgoing);
/// pings.handle_ping(vec![1, 2, 3])?;
/// drop(pings); // The connection has ended: pings that are queued are still answered.
///
/// let (ended, frames) = futures::join!(ponger, frames.collect::<Vec<_>>());
/// assert_eq!(ended.unwrap(), Stopped::PingsEnded);
/// assert_eq!(frames, [Frame::Pong(vec![1, 2, 3].into())]);
/// # Ok::<(), futures_pinger::SendPingError>(())
/// # }).unwrap();
/// ```
pub fn ponger<Si>(outgoing: Si) -> (PingSender, Ponger<Si>) {
    let (sender, pings) = async_channel::bounded(1);
    let queue = Arc::new(Mutex::new(sender));
    let closing = Arc::new(Closing::default());
    let ponger = Ponger {
        outgoing,
        pings,
        queue: Arc::downgrade(&queue),
        closing: Arc::clone(&closing),
        taken: None,
        stage: Stage::Idle,
    };
    (PingSender { queue, closing }, ponger)
}

/// The sending side of the queue. It is replaced when the backlog is set, as a channel cannot change its size.
type Queue = Mutex<Sender<Ping>>;

fn lock(queue: &Queue) -> MutexGuard<'_, Sender<Ping>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether [`PingSender::close`] was called.
#[derive(Debug, Default)]
struct Closing {
    called: AtomicBool,
    /// The waker of the ponger. A ponger that waits for its sink is not woken by its queue.
    waker: AtomicWaker,
}

/// Takes the peer's pings; made by [`ponger()`].
///
/// When the last clone is dropped, the pings that are queued are answered, and the [`Ponger`] ends.
#[derive(Clone)]
pub struct PingSender {
    queue: Arc<Queue>,
    closing: Arc<Closing>,
}

impl PingSender {
    /// Queues a ping to be answered. The call never waits: where the queue is full, its oldest ping is dropped.
    ///
    /// # Errors
    ///
    /// [`SendPingError::TooLong`] for a payload of more than 125 bytes, which no valid pong can
    /// answer, [`SendPingError::Closed`] once the [`Ponger`] has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{SendPingError, ponger};
    ///
    /// # let outgoing = ();
    /// let (pings, ponger) = ponger(outgoing);
    /// assert_eq!(pings.handle_ping(vec![0; 126]), Err(SendPingError::TooLong(126)));
    /// drop(ponger);
    /// assert_eq!(pings.handle_ping(vec![0; 125]), Err(SendPingError::Closed));
    /// ```
    pub fn handle_ping(&self, ping: impl Into<Ping>) -> Result<(), SendPingError> {
        let ping = ping.into();
        let len = ping.0.len();
        if len > MAX_PAYLOAD {
            return Err(SendPingError::TooLong(len));
        }
        // The ping is sent without the lock: this wakes the ponger, which may run here and now.
        let queue = lock(&self.queue).clone();
        let displaced = queue.force_send(ping);
        displaced.map(drop).map_err(|_| SendPingError::Closed)
    }

    /// Answers no ping any more, not even those that are queued, as a close frame was sent or received
    /// (RFC 6455 §5.5.1). The [`Ponger`] ends with [`Stopped::Requested`].
    pub fn close(&self) {
        self.closing.called.store(true, Ordering::Release);
        // One of these two wakes the ponger, which then sees the flag: the waker if the ponger waits for
        // its sink, and the queue if it waits for pings.
        self.closing.waker.wake();
        let queue = lock(&self.queue).clone();
        queue.close();
    }
}

impl fmt::Debug for PingSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingSender").finish_non_exhaustive()
    }
}

pin_project! {
    /// Answers pings; made by [`ponger()`].
    ///
    /// # Panics
    ///
    /// Polling it after it was ready panics; its [`FusedFuture`] tells before that.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses the pings that are not answered yet, and nothing else.
    ///
    /// # Wakeups
    ///
    /// The task is woken by a ping, by the end of the pings, and by the sink while a pong waits for the sink.
    #[project = PongerParts]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Ponger<Si> {
        #[pin]
        outgoing: Si,
        #[pin]
        pings: Receiver<Ping>,
        // The ponger does not keep its own senders alive.
        queue: Weak<Queue>,
        closing: Arc<Closing>,
        // A ping that has left the queue while the sink was not ready.
        taken: Option<Ping>,
        stage: Stage,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Flushing,
    Finished,
}

impl<Si> Ponger<Si> {
    /// Sets how many pings may wait for the sink; of more pings the oldest is dropped. Pings that wait already
    /// are kept as far as they fit.
    ///
    /// Default: 1, so that the newest ping is answered (RFC 6455 §5.5.3).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::num::NonZeroUsize;
    /// # let outgoing = ();
    /// let (pings, ponger) = futures_pinger::ponger(outgoing);
    /// let ponger = ponger.backlog(NonZeroUsize::new(10).unwrap());
    /// # drop((pings, ponger));
    /// ```
    pub fn backlog(self, pings: NonZeroUsize) -> Self {
        let Some(shared) = self.queue.upgrade() else {
            // All senders are gone, so that no ping can be queued any more.
            return self;
        };
        let (sender, receiver) = async_channel::bounded(pings.get());
        {
            let mut queue = lock(&shared);
            while let Ok(ping) = self.pings.try_recv() {
                // The new channel is open: both of its ends are here.
                let _ = sender.force_send(ping);
            }
            if queue.is_closed() {
                sender.close();
            }
            *queue = sender;
        }
        Self {
            pings: receiver,
            ..self
        }
    }

    /// A reference to the sink.
    pub fn get_ref(&self) -> &Si {
        &self.outgoing
    }

    /// A mutable reference to the sink.
    pub fn get_mut(&mut self) -> &mut Si {
        &mut self.outgoing
    }

    /// A pinned mutable reference to the sink.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut Si> {
        self.project().outgoing
    }

    /// Returns the sink.
    pub fn into_inner(self) -> Si {
        self.outgoing
    }
}

impl<Si: Sink<Frame>> Future for Ponger<Si> {
    type Output = Result<Stopped, Si::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        assert!(
            *this.stage != Stage::Finished,
            "`Ponger` polled after completion"
        );
        // The waker is registered before the flag is read: a `close` that sets the flag later finds the waker.
        this.closing.waker.register(cx.waker());
        let outcome = if this.closing.called.load(Ordering::Acquire) {
            Ok(Stopped::Requested)
        } else {
            ready!(this.answer(cx))
        };
        *this.stage = Stage::Finished;
        this.closing.waker.take();
        this.pings.close();
        Poll::Ready(outcome)
    }
}

impl<Si: Sink<Frame>> PongerParts<'_, Si> {
    fn answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stopped, Si::Error>> {
        for _ in 0..BUDGET {
            if *self.stage == Stage::Flushing {
                // Pending: the sink wakes us.
                ready!(self.outgoing.as_mut().poll_flush(cx))?;
                *self.stage = Stage::Idle;
            }
            if self.taken.is_none() && self.pings.is_empty() {
                // Pending: the senders wake us.
                match ready!(self.pings.as_mut().poll_next(cx)) {
                    ping @ Some(_) => *self.taken = ping,
                    None => return Poll::Ready(Ok(Stopped::PingsEnded)),
                }
            }
            // The other pings, the newest among them, stay in the queue until the sink is ready. Pending:
            // the sink wakes us.
            ready!(self.outgoing.as_mut().poll_ready(cx))?;
            if self.pings.is_full() {
                // The ping that was taken is one too many, and the oldest.
                *self.taken = None;
            }
            let next = self.taken.take().or_else(|| self.pings.try_recv().ok());
            if let Some(Ping(payload)) = next {
                self.outgoing.as_mut().start_send(Frame::Pong(payload))?;
                *self.stage = Stage::Flushing;
            }
        }
        // Pending: we wake ourselves, after the executor's other tasks had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<Si: Sink<Frame>> FusedFuture for Ponger<Si> {
    fn is_terminated(&self) -> bool {
        self.stage == Stage::Finished
    }
}

impl<Si: fmt::Debug> fmt::Debug for Ponger<Si> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ponger")
            .field("outgoing", &self.outgoing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Another thread can queue a ping between two looks of ours at the queue; no test can time that.
    #[test]
    fn a_ping_that_has_left_the_queue_counts_as_the_oldest_in_it() {
        use std::task::Waker;

        let (frames, mut sent) = futures::channel::mpsc::channel(8);
        let (pings, mut ponger) = ponger(frames);
        ponger.taken = Some(Ping(vec![1].into()));
        pings.handle_ping(vec![2]).unwrap();
        let mut ponger = Box::pin(ponger);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(ponger.as_mut().poll(&mut cx).is_pending());
        assert_eq!(sent.try_recv().ok(), Some(Frame::Pong(vec![2].into())));
        assert!(sent.try_recv().is_err());
    }
}
