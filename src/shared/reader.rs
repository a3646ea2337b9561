//! Whether the reader of an attached stream is there to read a pong.

use std::sync::atomic::Ordering;

use crate::sync::AtomicU8;

/// The reader has read everything that was there, or no stream is attached.
const READING: u8 = 0;
/// The application has been given an item, and has not read on until nothing more was there.
const AWAY: u8 = 1;
/// The reader is away, and the heartbeat has wanted to judge since it left.
const MISSED: u8 = 2;
/// The reader has been given too many items since it was missed: a flood puts a verdict off no further.
const FLOODED: u8 = 3;

/// What is known of the reader. The reader and the driver change it without a lock.
#[derive(Debug)]
pub(crate) struct Reader(AtomicU8);

/// How a driver finds the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// There is no reason to wait for the reader.
    Reading,
    /// The reader is away. It may come back in a moment, so the driver gives it a little time.
    Away,
    /// The reader was away when the heartbeat wanted to judge before, and has not come back since.
    Missed,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(READING))
    }

    /// A new reader takes the place of the one before.
    pub(crate) fn begins(&self) {
        self.0.store(READING, Ordering::Relaxed);
    }

    /// Whether the reader has read everything, or no stream is attached.
    #[inline]
    pub(crate) fn is_reading(&self) -> bool {
        self.0.load(Ordering::Acquire) == READING
    }

    /// An item was given to the application. Returns whether the heartbeat waits for the reader.
    #[inline]
    pub(crate) fn leaves(&self) -> bool {
        let state = self.0.load(Ordering::Relaxed);
        if state == READING {
            self.0.store(AWAY, Ordering::Relaxed);
        }
        state == MISSED
    }

    /// Nothing more is there to be read. Returns whether the heartbeat has waited for the reader.
    #[inline]
    pub(crate) fn returns(&self) -> bool {
        self.0.load(Ordering::Relaxed) != READING
            && self.0.swap(READING, Ordering::AcqRel) == MISSED
    }

    /// The reader has been given too many items without an end: the heartbeat waits for it no longer.
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
                    // The reader has come back just now, and has read everything.
                    Presence::Reading
                }
            }
            _ => Presence::Reading,
        }
    }
}
