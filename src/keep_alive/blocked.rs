//! A write of the application that the socket does not take.

use crate::drive::LastAnswer;
use crate::machine::slack;
use crate::time::{Span, Time};

/// Since when the socket has taken nothing that the application wants to write.
///
/// While the pong of a ping cannot be read, such a write is judged in place of the ping. The heartbeat asks
/// the socket twice before a verdict, the slack apart: the application may have given up its write, and has
/// not asked the socket since.
#[derive(Debug)]
pub(super) struct BlockedWrite {
    /// When the socket took nothing for the first time; never if the last thing was taken.
    since: Time,
    /// When the socket was asked on behalf of the heartbeat; never if it was not.
    asked: Time,
    /// What the socket has answered to that.
    last: LastAnswer,
}

/// What is to be done about a blocked write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing is to be done before that time.
    Wait(Time),
    /// Ask the socket. A verdict falls if the socket still takes nothing and this is the last time.
    Ask { is_last: bool },
}

impl BlockedWrite {
    pub(super) const fn new() -> Self {
        Self {
            since: Time::NEVER,
            asked: Time::NEVER,
            last: LastAnswer::NONE,
        }
    }

    /// Whether the socket took something when it was asked last.
    pub(super) fn is_free(&self) -> bool {
        self.since == Time::NEVER
    }

    /// The socket takes nothing.
    pub(super) fn begin(&mut self, now: Time) {
        *self = Self {
            since: now,
            ..Self::new()
        };
    }

    /// The socket has taken something.
    pub(super) fn end(&mut self) {
        *self = Self::new();
    }

    /// When the time of the write begins: when the socket first took nothing, but not before `from`. Bytes
    /// that were seen to have `moved` since begin the time anew, later by `progress` at the most.
    pub(super) fn start(&self, from: Time, moved: Time, progress: Span) -> Time {
        let start = self.since.max(from);
        start.max(moved.min(start.plus(progress)))
    }

    /// What is to be done about a write whose time begins at `start`.
    pub(super) fn check(&self, start: Time, timeout: Span, now: Time) -> Check {
        let deadline = start.plus(timeout);
        let slack = slack(timeout);
        if self.asked == Time::NEVER {
            let asks = start.plus(timeout.saturating_sub(slack));
            return if asks.has_come(now) {
                Check::Ask { is_last: false }
            } else {
                Check::Wait(asks)
            };
        }
        let last = deadline.max(self.asked.plus(slack));
        if last.has_come(now) {
            Check::Ask { is_last: true }
        } else {
            Check::Wait(last)
        }
    }

    /// The socket was asked on behalf of the heartbeat, and takes nothing still.
    pub(super) fn asked(&mut self, now: Time) {
        self.asked = now;
        self.last = LastAnswer::NONE;
    }

    /// The socket has yielded. Returns whether that counts as no answer.
    pub(super) fn yields(&mut self) -> bool {
        self.last.yields();
        self.last.has_yielded()
    }

    /// For how long the socket has taken nothing since `from`.
    pub(super) fn elapsed(&self, from: Time, now: Time) -> Span {
        now.since(self.since.max(from))
    }
}
