//! Whether the reader of an attached stream is there to read a pong.

use std::sync::atomic::Ordering;

use crate::sync::AtomicU8;

/// The reader has seen that nothing more is there, or it is nobody that we know of.
const READING: u8 = 0;
/// The application has been given an item, and has not come back to find nothing more.
const AWAY: u8 = 1;
/// The same since the heartbeat wanted to judge.
const MISSED: u8 = 2;
/// The reader has been given too many items since then: a flood puts a verdict off no further.
const FLOODED: u8 = 3;

/// What is known of the reader. Its own side and the driver's change it without a lock.
#[derive(Debug)]
pub(crate) struct Reader(AtomicU8);

/// What a driver makes of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Reading,
    /// It is away, and may be back in a moment: it is to have a little time.
    Away,
    /// It was away when the heartbeat wanted to judge before, and has not come back since.
    Missed,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(READING))
    }

    /// Another reader takes its place.
    pub(crate) fn begins(&self) {
        self.0.store(READING, Ordering::Relaxed);
    }

    /// Whether the reader is known to have read everything, or to be nobody that we know of.
    #[inline]
    pub(crate) fn is_reading(&self) -> bool {
        self.0.load(Ordering::Acquire) == READING
    }

    /// An item was given to the application. Whether the heartbeat waits for the reader.
    #[inline]
    pub(crate) fn leaves(&self) -> bool {
        let state = self.0.load(Ordering::Relaxed);
        if state == READING {
            self.0.store(AWAY, Ordering::Relaxed);
        }
        state == MISSED
    }

    /// Nothing more is there to be read. Whether the heartbeat waits for the reader.
    #[inline]
    pub(crate) fn returns(&self) -> bool {
        self.0.load(Ordering::Relaxed) != READING
            && self.0.swap(READING, Ordering::AcqRel) == MISSED
    }

    /// The reader goes on without an end.
    #[cold]
    pub(crate) fn floods(&self) {
        self.0.store(FLOODED, Ordering::Release);
    }

    /// How the driver finds the reader, where it `wants` to judge a pong.
    #[inline(always)]
    pub(crate) fn find(&self, wants: impl FnOnce() -> bool) -> Presence {
        match self.0.load(Ordering::Acquire) {
            MISSED => Presence::Missed,
            AWAY if wants() => {
                let missed =
                    self.0
                        .compare_exchange(AWAY, MISSED, Ordering::AcqRel, Ordering::Acquire);
                if missed.is_ok() {
                    Presence::Away
                } else {
                    // It has come back just now, with all that it has read.
                    Presence::Reading
                }
            }
            _ => Presence::Reading,
        }
    }
}
