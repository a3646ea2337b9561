//! How long the reader, or the other half in its place, has waited for the answer to a ping.

use std::mem;

use crate::machine::slack;
use crate::shared::Shared;
use crate::time::{Span, Time};

/// The time in which the reader's task waited for the socket while the newest ping was out.
///
/// An application that is slow with each message keeps its peer from sending: messages, and perhaps the
/// pong, stay with the peer until there is room for them. The socket then has nothing to read for a moment,
/// now and again, which is not silence. So no verdict falls before the reader has waited for half the
/// timeout. The reader of a quick application has done so long before the deadline.
///
/// If the application does not read at all, the other half reads for it, from the checkpoint on. Then no
/// verdict falls before two looks, the slack apart, have found nothing more to read.
#[derive(Debug)]
pub(super) struct Listening {
    /// The number of the ping.
    ping: u64,
    /// Whether the pong of that ping was missing when the heartbeat was asked last.
    waiting: bool,
    total: Span,
    /// When the reader began to wait, if it does.
    since: Option<Time>,
    /// When the other half called the reader that waits, if it did.
    called: Option<Time>,
    /// Whether a poll of the reader past the deadline has found nothing, and another poll is to follow.
    pub(super) has_asked: bool,
    /// When the last part of the wait begins, as long as the slack.
    last_part: Time,
    /// When nothing more was found to read for the first time while that ping was out, by the reader in the
    /// last part of the wait, or by the other half; never if there was always more.
    drained: Time,
}

impl Listening {
    pub(super) const fn new() -> Self {
        Self {
            ping: 0,
            waiting: false,
            total: Span::ZERO,
            since: None,
            called: None,
            has_asked: false,
            last_part: Time::NEVER,
            drained: Time::NEVER,
        }
    }

    /// Takes over which pong is waited for, if any, from
    /// [`Machine::awaited`](crate::machine::Machine::awaited). Returns whether it is that of another ping than
    /// before.
    pub(super) fn wait_for(&mut self, awaited: Option<(u64, Time, Span)>, now: Time) -> bool {
        self.waiting = awaited.is_some();
        awaited.is_some_and(|(ping, deadline, timeout)| {
            self.last_part = deadline.minus(slack(timeout));
            self.turn_to(ping, now)
        })
    }

    /// Whether a pong is waited for, as far as is known.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Begins anew if `ping` is another ping than before, and returns whether it is.
    fn turn_to(&mut self, ping: u64, now: Time) -> bool {
        let turns = self.ping != ping;
        if turns {
            self.ping = ping;
            self.total = Span::ZERO;
            // Until now the reader has waited for the pong of another ping.
            self.since = self.since.map(|_| now);
            self.drained = Time::NEVER;
        }
        turns
    }

    /// The reader begins to wait. Returns whether it matters when the reader comes back.
    pub(super) fn begin(&mut self, now: Time) -> bool {
        if self.waiting {
            self.since = Some(now);
            if self.last_part.has_come(now) {
                self.drained = self.drained.min(now);
            }
        }
        self.waiting
    }

    /// Whether the reader waits, or has waited until now.
    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// The other half has no room to read ahead. Returns whether it leaves the judgement to the reader, which
    /// waits for the socket itself: the reader is woken, and may take as long to come back as the
    /// application may take for a batch of messages.
    pub(super) fn leaves_it_to_reader(&mut self, heartbeat: &Shared, now: Time) -> bool {
        if self.since.is_none() {
            return false;
        }
        let Some(called) = self.called else {
            self.called = Some(now);
            heartbeat.wake_reader();
            return true;
        };
        let patience = heartbeat.ask(|machine| machine.patience());
        !called.plus(patience).has_come(now)
    }

    /// The reader is back, if it was waiting.
    pub(super) fn end(&mut self, now: Time) {
        self.called = None;
        if let Some(since) = self.since.take() {
            self.total = self.total.saturating_add(now.since(since));
        }
    }

    /// Whether the reader must ask the socket in another poll before a deadline that has passed is judged.
    pub(super) fn asks_again(&mut self, heartbeat: &Shared, now: Time) -> bool {
        let awaited = heartbeat.ask(|machine| machine.awaited());
        let passed = awaited.is_some_and(|(_, deadline, _)| deadline.has_come(now));
        passed && !mem::replace(&mut self.has_asked, true)
    }

    /// Until when the reader does not judge a deadline that has passed, if nothing comes; `None` if it may
    /// judge now.
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

    /// The other half has found no room to read on: from now on messages of the peer may have to wait.
    pub(super) const fn found_no_room(&mut self) {
        self.drained = Time::NEVER;
    }

    /// The other half has found nothing more to read. Returns until when it does not judge a deadline that
    /// has passed, if nothing comes; `None` if it may judge now.
    pub(super) fn holds_for_writer(&mut self, heartbeat: &Shared, now: Time) -> Option<Time> {
        let (ping, deadline, timeout) = heartbeat.ask(|machine| machine.awaited())?;
        self.turn_to(ping, now);
        self.drained = self.drained.min(now);
        if now < deadline {
            return None;
        }
        let enough = self.drained.plus(slack(timeout));
        (!enough.has_come(now)).then_some(enough)
    }
}
