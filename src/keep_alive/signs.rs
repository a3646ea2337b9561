//! Signs of life among the messages that were read.

use crate::machine::Heeded;
use crate::time::{Instant, Time};

/// When the newest sign of life was read. It is reported to the heartbeat with the next look, as nothing
/// depends on it before.
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

    /// A message was read. The clock is read only if the message is a sign of life.
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

    /// Whether there is a sign of life that was not reported yet.
    pub(super) const fn is_unreported(&self) -> bool {
        self.newest.is_some()
    }

    /// Takes the time at which the newest sign of life was read, unless it was reported before.
    pub(super) fn take(&mut self) -> Option<Time> {
        self.newest.take().map(Time::of)
    }
}
