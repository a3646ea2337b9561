//! The ktor shape: [`pinger()`] returns the handle that takes the pongs.
//!
//! Between the reader, who holds a [`PongSender`], and the heartbeat lies one slot, not a queue. A
//! pong is verified before it gets there: a stray wakes nobody, and nothing it could push out.

use std::fmt;
use std::mem;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::config::{Config, Liveness};
use crate::error::Closed;
use crate::frame::Pong;
use crate::heartbeat::{Heartbeat, PongKind};
use crate::payload::{Key, Ledger, Proof};
use crate::pinger::Pinger;
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, MutexGuard, lock, replace, wake};
use crate::time::Time;
use crate::timer::Clock;

/// A heartbeat on `outgoing`, and the handle that takes the peer's pongs: ktor's `pinger`.
///
/// The heartbeat does nothing unless it is polled: spawn it, or join it with the reader and the
/// writer. Whoever reads the socket passes each pong to [`PongSender::send`] and drops the sender
/// when the connection ends.
///
/// # Queues
///
/// Where `outgoing` is a queue, "flushed" means queued: the queue takes a ping although nobody reads
/// it, a stuck writer is not noticed by the write timeout, and the timeout runs while the ping waits
/// behind other messages. Give the heartbeat an `mpsc::channel(0)` of its own (its flush completes
/// when the frame is taken out) that the writer reads ahead of data, or make the timeouts long
/// enough for the longest backlog.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// # use std::time::Duration;
/// use futures::{StreamExt, channel::mpsc};
/// use futures_pinger::{Config, Error, Frame, TimeoutPhase, pinger};
///
/// let config = Config::builder()
///     .initial_delay(Duration::ZERO)
///     .timeout(Duration::from_millis(30))
///     .build()?;
/// let (outgoing, frames) = mpsc::channel(0);
/// let (pongs, pinger) = pinger(outgoing, config);
///
/// // A peer that reads and never answers:
/// let (ended, frames) = futures::join!(pinger, frames.collect::<Vec<_>>());
/// let Err(Error::Timeout(verdict)) = ended else { unreachable!() };
/// assert_eq!(verdict.phase(), TimeoutPhase::Pong);
/// assert!(matches!(&frames[..], [Frame::Ping(_), Frame::Close(_)]));
/// # drop(pongs);
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// # }).unwrap();
/// ```
pub fn pinger<Si>(outgoing: Si, config: Config) -> (PongSender, Pinger<Si, Pongs>) {
    let shared = Arc::new(Shared {
        slot: Mutex::new(Slot {
            life: Life::Open,
            book: None,
            inbox: Inbox::EMPTY,
            waker: None,
        }),
    });
    let sender = PongSender {
        shared: Arc::clone(&shared),
    };
    (sender, Pinger::new(outgoing, Pongs { shared }, config))
}

/// Takes the peer's pongs; from [`pinger()`].
///
/// Dropping it ends the heartbeat with [`Stopped::PongsEnded`](crate::Stopped::PongsEnded): without
/// a reader no pong can come.
pub struct PongSender {
    shared: Arc<Shared>,
}

impl PongSender {
    /// Verifies a pong and tells the heartbeat if it means something. It never waits, never grows,
    /// and takes payloads of any length.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    ///
    /// # Wakeups
    ///
    /// The heartbeat is woken by a pong that proves life or answers by policy, and by no other.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Closed, Config, PongKind, pinger};
    ///
    /// # let outgoing = ();
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// assert_eq!(pongs.send("nobody asked"), Ok(PongKind::Unsolicited));
    /// drop(pinger);
    /// assert_eq!(pongs.send("nobody asks"), Err(Closed));
    /// ```
    pub fn send(&self, payload: impl AsRef<[u8]>) -> Result<PongKind, Closed> {
        let payload = payload.as_ref();
        let (kind, waker) = self.shared.lock().pong(payload)?;
        // Not under the lock: a waker may run the heartbeat here and now.
        wake(waker);
        Ok(kind)
    }

    /// As [`send`](Self::send); whether the pong is the heartbeat's, and nobody else's.
    pub(crate) fn receive(&self, payload: &[u8]) -> Result<bool, Closed> {
        let (kind, any_pong, waker) = {
            let mut slot = self.shared.lock();
            let (kind, waker) = slot.pong(payload)?;
            (kind, slot.takes_any_pong(), waker)
        };
        wake(waker);
        Ok(match kind {
            PongKind::Matched { .. } | PongKind::Stale => true,
            // As activity it is somebody else's pong.
            PongKind::Accepted => any_pong,
            PongKind::Unsolicited => false,
        })
    }

    /// Something else than a pong was read: for [`Liveness::Activity`], without meaning for the
    /// others. Once for each batch of messages is enough.
    ///
    /// # Wakeups
    ///
    /// The heartbeat is woken once for each ping that this answers.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (pongs, pinger) = futures_pinger::pinger((), futures_pinger::Config::default());
    /// pongs.activity();
    /// # drop(pinger);
    /// ```
    pub fn activity(&self) {
        let waker = self.shared.lock().activity();
        wake(waker);
    }

    /// Whether the heartbeat has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (pongs, pinger) = futures_pinger::pinger((), futures_pinger::Config::default());
    /// drop(pinger);
    /// assert!(pongs.is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.lock().life == Life::Closed
    }
}

impl Drop for PongSender {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.shared.lock();
            if slot.life == Life::Open {
                slot.life = Life::Ended;
            }
            slot.waker.take()
        };
        wake(waker);
    }
}

impl fmt::Debug for PongSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PongSender").finish_non_exhaustive()
    }
}

/// The heartbeat's end of a [`PongSender`].
pub struct Pongs {
    shared: Arc<Shared>,
}

impl Drop for Pongs {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Pongs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pongs").finish_non_exhaustive()
    }
}

/// Where a [`Pinger`] learns of pongs: any `Stream<Item = Pong>`, such as an
/// `async_channel::Receiver<Pong>`, or the [`Pongs`] of [`pinger()`].
///
/// It is sealed: implement [`Stream`] instead.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of pongs",
    note = "a `Pinger` takes any `Stream<Item = futures_pinger::Pong>`"
)]
pub trait PongSource: sealed::Sealed {
    /// Hands the next pong to the heartbeat, and asks to be asked again; or, where they do not queue, all that
    /// have come, and is pending. None: there will be no more.
    #[doc(hidden)]
    fn poll_feed(
        self: Pin<&mut Self>,
        heartbeat: &mut Heartbeat,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Option<()>>;

    /// The heartbeat has started; this is its time.
    #[doc(hidden)]
    fn start(self: Pin<&mut Self>, _heartbeat: &Heartbeat, _clock: Clock) {}

    /// Other pongs than before answer from now on.
    #[doc(hidden)]
    fn publish(self: Pin<&mut Self>, _heartbeat: &Heartbeat) {}

    /// The same, and the newest ping is one with that payload.
    #[doc(hidden)]
    fn expect(self: Pin<&mut Self>, _heartbeat: &Heartbeat, _payload: &[u8]) {}

    /// Adds what has been counted and not been handed over yet.
    #[doc(hidden)]
    fn add_to(&self, _stats: &mut Stats) {}

    /// The heartbeat has ended.
    #[doc(hidden)]
    fn close(self: Pin<&mut Self>) {}
}

mod sealed {
    pub trait Sealed {}
}

impl<S: Stream<Item = Pong>> sealed::Sealed for S {}

impl<S: Stream<Item = Pong>> PongSource for S {
    fn poll_feed(
        self: Pin<&mut Self>,
        heartbeat: &mut Heartbeat,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Option<()>> {
        // Pending: the stream wakes us.
        self.poll_next(cx).map(|pong| {
            let Pong(payload) = pong?;
            heartbeat.handle_pong_at(&payload, now);
            Some(())
        })
    }
}

impl sealed::Sealed for Pongs {}

impl PongSource for Pongs {
    fn poll_feed(
        self: Pin<&mut Self>,
        heartbeat: &mut Heartbeat,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Option<()>> {
        // Pending: the sender wakes us.
        let mut old = None;
        let (inbox, polled) = self.shared.lock().poll_inbox(&mut old, cx);
        // Not under the lock: whoever traces the heartbeat is foreign code.
        if let Some(inbox) = inbox {
            inbox.feed(heartbeat, now);
        }
        polled
    }

    fn start(self: Pin<&mut Self>, heartbeat: &Heartbeat, clock: Clock) {
        self.shared.lock().book = Some(Book {
            key: *heartbeat.key(),
            ledger: heartbeat.ledger(),
            liveness: heartbeat.config().liveness(),
            proof: heartbeat.proof(),
            clock,
            tag: 0,
        });
    }

    fn publish(self: Pin<&mut Self>, heartbeat: &Heartbeat) {
        self.shared.lock().publish(heartbeat);
    }

    fn expect(self: Pin<&mut Self>, heartbeat: &Heartbeat, payload: &[u8]) {
        let slot = &mut *self.shared.lock();
        slot.publish(heartbeat);
        if let Some(book) = &mut slot.book {
            book.tag = Key::tag_of(payload);
        }
    }

    fn add_to(&self, stats: &mut Stats) {
        let slot = self.shared.lock();
        stats.counters.unsolicited += slot.inbox.unsolicited;
        stats.counters.stale += slot.inbox.stale;
    }

    fn close(self: Pin<&mut Self>) {
        self.shared.close();
    }
}

struct Shared {
    slot: Mutex<Slot>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        lock(&self.slot)
    }

    fn close(&self) {
        let waker = {
            let mut slot = self.lock();
            slot.life = Life::Closed;
            slot.waker.take()
        };
        // Dropping a waker can run foreign code too.
        drop(waker);
    }
}

struct Slot {
    life: Life,
    /// None before the heartbeat's first poll: nothing was sent that a pong could answer.
    book: Option<Book>,
    inbox: Inbox,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The sender is gone: there will be no more pongs.
    Ended,
    /// The heartbeat is gone.
    Closed,
}

/// What has come that the heartbeat has not looked at: never more than this.
#[derive(Debug)]
struct Inbox {
    /// The latest proof of life: whose pong, and when it came. One is enough: a newer says more.
    verified: Option<(NonZeroU64, Time)>,
    /// When something answered the newest ping by policy; never, if nothing did.
    policy: Time,
    /// The latest activity that answered nothing; never, if there was none.
    activity: Time,
    unsolicited: u64,
    stale: u64,
}

impl Inbox {
    const EMPTY: Self = Self {
        verified: None,
        policy: Time::NEVER,
        activity: Time::NEVER,
        unsolicited: 0,
        stale: 0,
    };

    #[inline]
    fn is_empty(&self) -> bool {
        let Self {
            activity,
            unsolicited,
            stale,
            ..
        } = *self;
        !self.has_answer() && activity == Time::NEVER && unsolicited | stale == 0
    }

    #[inline]
    fn has_answer(&self) -> bool {
        self.verified.is_some() || self.policy < Time::NEVER
    }

    fn feed(&self, heartbeat: &mut Heartbeat, now: Time) {
        heartbeat.count_strays(self.unsolicited, self.stale);
        if self.activity < Time::NEVER {
            heartbeat.handle_activity_at(self.activity, now);
        }
        if let Some((sequence, at)) = self.verified {
            heartbeat.handle_verified_at(sequence.get(), at);
        }
        if self.policy < Time::NEVER {
            // Any payload that proves nothing will do.
            heartbeat.handle_pong_at(&[], self.policy);
        }
    }

    fn verified(&mut self, sequence: u64, at: Time) {
        // The first ping has the number 1.
        let verified = NonZeroU64::new(sequence).map(|sequence| (sequence, at));
        if mem::replace(&mut self.verified, verified).is_some() {
            // It is older, and answers a ping that is no longer the newest: all that it leaves
            // behind is its count.
            self.stale += 1;
        }
    }
}

/// The heartbeat's book as of its last change, for the sender to verify by.
struct Book {
    key: Key,
    ledger: Ledger,
    /// Of the newest ping: its pong needs no hash.
    tag: u64,
    liveness: Liveness,
    /// The last verified pong, or the start.
    proof: Time,
    clock: Clock,
}

impl Book {
    fn now(&self) -> Time {
        Time::of(self.clock.now())
    }

    fn is_open(&self) -> bool {
        self.ledger.is_open()
    }

    fn pong(&mut self, payload: &[u8], inbox: &mut Inbox) -> PongKind {
        let proof = self.ledger.check(payload, |sequence| {
            if sequence == self.ledger.issued() {
                self.tag
            } else {
                self.key.tag(sequence, 0)
            }
        });
        if let Proof::Nothing = proof {
            if self.answers(inbox) {
                return PongKind::Accepted;
            }
            inbox.unsolicited += 1;
            return PongKind::Unsolicited;
        }
        // The clock is read for pongs that mean something, not for each stray.
        let at = self.now();
        self.proof = at;
        self.ledger.enter(proof);
        inbox.verified(self.ledger.proved(), at);
        match proof {
            Proof::Newest => PongKind::Matched {
                rtt: at.since(self.ledger.at).to_duration(),
            },
            _ => PongKind::Stale,
        }
    }

    /// Something unverified was read. Whether it answers the ping in flight, by policy.
    fn answers(&mut self, inbox: &mut Inbox) -> bool {
        let max_unproven = match self.liveness {
            Liveness::Pong => return false,
            Liveness::AnyPong => None,
            Liveness::Activity { max_unproven } => Some(max_unproven),
        };
        let open = self.is_open();
        if !open && max_unproven.is_none() {
            return false;
        }
        let at = self.now();
        let trusted_until = max_unproven.map(|unproven| self.proof.plus(unproven.into()));
        if trusted_until.is_some_and(|until| at >= until) {
            return false;
        }
        if open {
            self.ledger.settle();
            inbox.policy = at;
        } else {
            inbox.activity = at;
        }
        open
    }
}

impl Slot {
    fn publish(&mut self, heartbeat: &Heartbeat) {
        if let Some(book) = &mut self.book {
            let ledger = &mut book.ledger;
            ledger.follow(&heartbeat.ledger(), self.inbox.has_answer());
            book.liveness = heartbeat.config().liveness();
            book.proof = book.proof.max(heartbeat.proof());
        }
    }

    fn pong(&mut self, payload: &[u8]) -> Result<(PongKind, Option<Waker>), Closed> {
        if self.life == Life::Closed {
            return Err(Closed);
        }
        if let Some(book) = &self.book {
            // Nobody's business, and done with at once.
            if book.liveness == Liveness::Pong && book.ledger.is_stray(payload) {
                self.inbox.unsolicited += 1;
                return Ok((PongKind::Unsolicited, None));
            }
        }
        self.weigh(payload)
    }

    /// What is not plainly a stray.
    #[inline(never)]
    fn weigh(&mut self, payload: &[u8]) -> Result<(PongKind, Option<Waker>), Closed> {
        let kind = if let Some(book) = &mut self.book {
            book.pong(payload, &mut self.inbox)
        } else {
            self.inbox.unsolicited += 1;
            PongKind::Unsolicited
        };
        let waker = match kind {
            PongKind::Unsolicited => None,
            _ => self.waker.take(),
        };
        Ok((kind, waker))
    }

    fn takes_any_pong(&self) -> bool {
        let book = self.book.as_ref();
        book.is_some_and(|book| book.liveness == Liveness::AnyPong)
    }

    fn activity(&mut self) -> Option<Waker> {
        let book = self.book.as_mut()?;
        // Data is no pong, not even any.
        if book.liveness == Liveness::AnyPong || !book.answers(&mut self.inbox) {
            return None;
        }
        self.waker.take()
    }

    /// What has come. A waker that is replaced goes into `old`: dropping it can run foreign code.
    fn poll_inbox(
        &mut self,
        old: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> (Option<Inbox>, Poll<Option<()>>) {
        let inbox = (!self.inbox.is_empty()).then(|| mem::replace(&mut self.inbox, Inbox::EMPTY));
        if self.life == Life::Ended {
            return (inbox, Poll::Ready(None));
        }
        // The sender wakes us: by a pong that means something, or by its end.
        *old = replace(&mut self.waker, cx);
        (inbox, Poll::Pending)
    }
}
