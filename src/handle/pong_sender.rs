//! The handle that takes the peer's pongs, and the stream of them that a [`Pinger`](crate::Pinger)
//! gets in its place.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::config::Liveness;
use crate::error::Closed;
use crate::frame::Pong;
use crate::machine::PongKind;
use crate::shared::{Shared, Visited};
use crate::sync::Arc;

/// Takes the peer's pongs; from [`pinger()`](crate::pinger()).
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
        self.shared.handle_pong(payload.as_ref())
    }

    /// As [`send`](Self::send); whether the pong is the heartbeat's, and nobody else's.
    pub(crate) fn receive(&self, payload: &[u8]) -> Result<bool, Closed> {
        Ok(match self.send(payload)? {
            PongKind::Matched { .. } | PongKind::Stale => true,
            // As activity it is somebody else's pong.
            PongKind::Accepted => self
                .shared
                .ask(|machine| machine.config().liveness() == Liveness::AnyPong),
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
        // After the end activity means nothing.
        let _ = self.shared.handle_activity();
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
        self.shared.has_ended()
    }
}

impl Drop for PongSender {
    fn drop(&mut self) {
        // The heartbeat may have ended before.
        let _ = self.shared.visit(|machine| machine.disconnect());
    }
}

impl fmt::Debug for PongSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PongSender").finish_non_exhaustive()
    }
}

/// What a [`Pinger`](crate::Pinger) over [`pinger()`](crate::pinger()) has in place of a stream of
/// pongs: a stream that only ends, with its [`PongSender`] or its heartbeat. The pongs themselves
/// do not pass here.
pub struct Pongs {
    shared: Arc<Shared>,
}

impl Stream for Pongs {
    type Item = Pong;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Pong>> {
        if self.shared.has_ended() {
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
