//! Signs of life among the messages that were read.

use crate::machine::Heeded;
use crate::time::{Instant, Time};

/// When the newest sign of life was read. The heartbeat is told of it when it looks: until then nothing
/// depends on it.
#[derive(Debug)]
pub(super) struct Signs {
    pub(super) heeded: Heeded,
    newest: Option<Instant>,
}

impl Signs {
    pub(super) const fn new() -> Self {
        Self {
            heeded: Heeded::Nothing,
            newest: None,
        }
    }

    /// A message was read. The clock is asked only where that is of interest.
    pub(super) fn note(&mut self, is_ping: bool, now: impl FnOnce() -> Instant) {
        let counts = match self.heeded {
            Heeded::Nothing => false,
            Heeded::Pings => is_ping,
            Heeded::Messages => true,
        };
        if counts {
            self.newest = Some(now());
        }
    }

    /// Whether there is something that the heartbeat was not told of.
    pub(super) const fn is_news(&self) -> bool {
        self.newest.is_some()
    }

    /// When the newest sign of life was read of which the heartbeat was not told.
    pub(super) fn take(&mut self) -> Option<Time> {
        self.newest.take().map(Time::of)
    }
}
