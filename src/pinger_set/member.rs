//! A connection's place in a set.

use std::fmt;
use std::sync::Arc;

#[cfg(doc)]
use super::PingerSet;
use super::chunk::{Chunk, Seat};
use crate::machine::PongKind;
use crate::shared::{Reader, Visited};
use crate::stats::Stats;

/// Names a member of a [`PingerSet`]. No two members of a set ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    pub(super) seat: u32,
    pub(super) generation: u32,
}

impl MemberId {
    /// The number of the member among all that share the key of the set. The number of the seat would not do, as
    /// the member that had the seat before numbered its pings alike. The number is never 0, which stands for a
    /// heartbeat that does not share its key: generations begin at 1.
    #[inline]
    pub(super) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.seat)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seat, self.generation)
    }
}

/// A connection's place in a [`PingerSet`], for the reader of the connection. Dropping it leaves the set.
///
/// The reader calls [`handle_pong`](Self::handle_pong) for each pong, or wraps the stream of messages by
/// [`attach`](Self::attach).
pub struct Member {
    pub(super) chunk: Arc<Chunk>,
    pub(super) id: MemberId,
}

impl Member {
    fn seat(&self) -> Seat<'_> {
        Seat {
            chunk: &self.chunk,
            id: self.id,
        }
    }

    /// The id by which the set's stream and handle name this member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Verifies a pong of the peer, of any length and content, and records what it proves. This happens on the
    /// caller's thread; the set is woken only where the next ping is due and waits for this answer.
    ///
    /// Before the first poll, and after the end, a pong means nothing.
    #[allow(clippy::must_use_candidate)] // Most callers have nothing to do with it.
    pub fn handle_pong(&self, payload: &[u8]) -> PongKind {
        // After the end a pong means nothing.
        self.seat()
            .handle_pong(payload)
            .unwrap_or(PongKind::Unsolicited)
    }

    /// Reports an answer to the newest ping that cannot say which ping it answers: see
    /// [`MessageKind::Answer`](crate::MessageKind::Answer).
    #[allow(clippy::must_use_candidate)] // Most callers have nothing to do with it.
    pub fn handle_answer(&self) -> PongKind {
        // After the end an answer means nothing.
        self.seat().handle_answer().unwrap_or(PongKind::Unsolicited)
    }

    /// Reports that a message other than a pong was read. This counts only with
    /// [`Liveness::Activity`](crate::Liveness::Activity), [`Liveness::Traffic`](crate::Liveness::Traffic)
    /// and [`watch`](crate::ConfigBuilder::watch). One call for each batch of messages is enough.
    pub fn handle_activity(&self) {
        // After the end activity means nothing.
        let _ = self.seat().handle_message(false);
    }

    /// Reports that a ping of the peer was read. A ping counts as activity does, and with
    /// [`watch_pings`](crate::ConfigBuilder::watch_pings) nothing else counts.
    pub fn handle_ping(&self) {
        // After the end a ping means nothing.
        let _ = self.seat().handle_message(true);
    }

    /// What has been counted and measured so far; the last figures after the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.chunk.stats(self.id.seat)
    }

    /// What is known of the reader of the attached stream.
    #[inline]
    pub(crate) fn reader(&self) -> &Reader {
        self.chunk.reader(self.id.seat)
    }

    /// Makes the driver look at once, as the reader is back.
    #[cold]
    pub(crate) fn ring(&self) {
        self.chunk.call(self.id.seat);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.chunk.leave(self.id.seat);
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
