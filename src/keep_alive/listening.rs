//! How long the reader has listened for the answer to a ping.

use crate::shared::Shared;
use crate::time::{Span, Time};

/// The time in which the reader's task waited for the socket while the newest ping was out.
///
/// An app that is slow with each message keeps its peer from sending: what is between the two, the
/// pong perhaps, lies with the peer until there is room for it. The socket then has nothing to read for
/// a moment, now and again, and that is not silence. So no verdict falls before the reader has waited
/// for half the timeout; that of an app that is quick has, long before the deadline.
#[derive(Debug)]
pub(super) struct Listening {
    /// The number of the ping.
    ping: u64,
    total: Span,
    /// When the reader began to wait; never while it does not.
    since: Time,
}

impl Listening {
    pub(super) const fn new() -> Self {
        Self {
            ping: 0,
            total: Span::ZERO,
            since: Time::NEVER,
        }
    }

    /// The reader waits, unless it does so already. Whether it is of interest when it comes back.
    pub(super) fn begin(&mut self, heartbeat: &Shared, now: Time) -> bool {
        let Some((ping, ..)) = heartbeat.ask(|machine| machine.awaited()) else {
            return false;
        };
        if self.ping != ping {
            self.ping = ping;
            self.total = Span::ZERO;
        }
        self.since = now;
        true
    }

    /// Whether the reader waits, or has waited until now.
    pub(super) fn has_begun(&self) -> bool {
        self.since < Time::NEVER
    }

    /// The reader is back.
    pub(super) fn end(&mut self, now: Time) {
        self.total = self.total.saturating_add(now.since(self.since));
        self.since = Time::NEVER;
    }

    /// Until when a deadline that has passed is not judged yet, if nothing comes.
    pub(super) fn holds(&self, heartbeat: &Shared, now: Time) -> Option<Time> {
        let (ping, deadline, timeout) = heartbeat.ask(|machine| machine.awaited())?;
        if now < deadline {
            return None;
        }
        let total = if ping == self.ping {
            self.total
        } else {
            Span::ZERO
        };
        let enough = Span::nanos(timeout.as_nanos() / 2);
        (total < enough).then(|| now.plus(enough.saturating_sub(total)))
    }
}
