//! The handle that takes the peer's pongs, and the stream of them that a [`Pinger`](crate::Pinger)
//! gets in its place.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;

use crate::error::Closed;
use crate::frame::Pong;
use crate::machine::PongKind;
use crate::shared::{Reader, Shared, Visited};
use crate::sync::Arc;

/// Takes the peer's pongs; made by [`pinger()`](crate::pinger()).
///
/// Dropping a `PongSender` ends the heartbeat with [`Stopped::PongsEnded`](crate::Stopped::PongsEnded):
/// without a reader no pong can come.
pub struct PongSender {
    shared: Arc<Shared>,
}

impl PongSender {
    /// Verifies a pong, and records what it proves. The call never waits, takes no memory, and accepts
    /// payloads of any length.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    ///
    /// # Wakeups
    ///
    /// The heartbeat is woken where the next ping is due already and waits for this answer, and by no
    /// other pong.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::{Closed, Config, PongKind, pinger};
    ///
    /// # let outgoing = ();
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// assert_eq!(pongs.handle_pong(b"nobody asked"), Ok(PongKind::Unsolicited));
    /// drop(pinger);
    /// assert_eq!(pongs.handle_pong(b"nobody asks"), Err(Closed));
    /// ```
    pub fn handle_pong(&self, payload: &[u8]) -> Result<PongKind, Closed> {
        self.shared.handle_pong(payload)
    }

    /// Reports an answer to the newest ping that cannot say which ping it answers: see
    /// [`MessageKind::Answer`](crate::MessageKind::Answer).
    ///
    /// # Errors
    ///
    /// [`Closed`] once the heartbeat has ended.
    pub fn handle_answer(&self) -> Result<PongKind, Closed> {
        self.shared.handle_answer()
    }

    /// Reports that a message other than a pong was read. This counts only with
    /// [`Liveness::Activity`](crate::Liveness::Activity), [`Liveness::Traffic`](crate::Liveness::Traffic) and
    /// [`watch`](crate::ConfigBuilder::watch). One call for each batch of messages is enough.
    ///
    /// The heartbeat does not know of a reader that is away: while you work on a message for longer than the
    /// timeout, or the time of the watch, [pause](crate::Controller::pause) it, or read through
    /// [`attach`](Self::attach).
    ///
    /// # Wakeups
    ///
    /// The heartbeat is woken where the next ping is due already and waits for this answer.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (pongs, pinger) = futures_pinger::pinger((), futures_pinger::Config::default());
    /// pongs.handle_activity();
    /// # drop(pinger);
    /// ```
    pub fn handle_activity(&self) {
        // After the end activity means nothing.
        let _ = self.shared.handle_message(false);
    }

    /// Reports that a ping of the peer was read. A ping counts as activity does, and with
    /// [`watch_pings`](crate::ConfigBuilder::watch_pings) nothing else counts. The ping is answered by the
    /// WebSocket crate, or by a [`Ponger`](crate::Ponger).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::{Config, pinger};
    ///
    /// # let outgoing = ();
    /// let config = Config::builder().watch_pings(Duration::from_secs(30)).build()?;
    /// let (pongs, pinger) = pinger(outgoing, config);
    /// pongs.handle_ping(); // for each that is read
    /// # drop(pinger);
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    pub fn handle_ping(&self) {
        // After the end a ping means nothing.
        let _ = self.shared.handle_message(true);
    }

    /// What is known of the reader of the attached stream.
    #[inline]
    pub(crate) fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// Wakes the driver, as the reader is back.
    #[cold]
    pub(crate) fn ring(&self) {
        self.shared.ring();
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
        self.shared.is_gone() || self.shared.have_pongs_ended()
    }
}

impl Drop for PongSender {
    fn drop(&mut self) {
        self.shared.end_pongs();
    }
}

/// Forwards a stream of pongs into the heartbeat. Closing the sink says that the pongs have ended, as
/// dropping it does.
impl Sink<Pong> for PongSender {
    type Error = Closed;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(if self.is_closed() {
            Err(Closed)
        } else {
            Ok(())
        })
    }

    fn start_send(self: Pin<&mut Self>, Pong(payload): Pong) -> Result<(), Closed> {
        self.handle_pong(&payload).map(drop)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.shared.end_pongs();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for PongSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PongSender").finish_non_exhaustive()
    }
}

/// What a [`Pinger`](crate::Pinger) over [`pinger()`](crate::pinger()) has in place of a stream of
/// pongs: a stream that only ends, with its [`PongSender`]. The pongs themselves do not pass here.
///
/// When it ends, only the task of its heartbeat is woken.
pub struct Pongs {
    shared: Arc<Shared>,
}

impl Stream for Pongs {
    type Item = Pong;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Pong>> {
        if self.shared.have_pongs_ended() {
            return Poll::Ready(None);
        }
        // Pending: the drop of the sender wakes the heartbeat's task, which polls this.
        Poll::Pending
    }
}

impl fmt::Debug for Pongs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pongs").finish_non_exhaustive()
    }
}

/// The two ends for the pongs of a heartbeat.
pub(crate) fn pongs(shared: Arc<Shared>) -> (PongSender, Pongs) {
    let sender = PongSender {
        shared: Arc::clone(&shared),
    };
    (sender, Pongs { shared })
}
