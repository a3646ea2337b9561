//! How many messages pass the reader between two looks at the time.

use crate::time::{Span, Time};

/// Messages that pass without a look at the time: the fewer, the longer the application takes for them.
#[derive(Debug)]
pub(super) struct Batch {
    /// Messages that may pass before the next look. None before the first poll, after the end, and where the
    /// time matters at which the reader comes back, so that one test lets a message pass.
    pub(super) credit: u8,
    size: u8,
    /// The next message may not pass for another reason than the end of the batch.
    comes_by: bool,
    pub(super) began: Time,
    /// A whole batch has passed since the socket had nothing more.
    pub(super) has_passed: bool,
}

impl Batch {
    /// The most messages of a batch.
    pub(super) const MAX: u8 = 64;

    pub(super) const fn new() -> Self {
        Self {
            credit: 0,
            size: 1,
            comes_by: false,
            began: Time::ORIGIN,
            has_passed: false,
        }
    }

    /// The reader has to come by before a message may pass: there is something to do with the next poll.
    pub(super) const fn come_by(&mut self) {
        self.credit = 0;
        self.comes_by = true;
    }

    /// Messages of this batch that were passed on.
    pub(super) const fn read(&self) -> u8 {
        if self.comes_by {
            0
        } else {
            self.size.saturating_sub(self.credit)
        }
    }

    /// A batch of the same size begins.
    pub(super) const fn begin(&mut self, now: Time) {
        self.began = now;
        self.renew();
    }

    /// The same, where nobody has looked at the time.
    pub(super) const fn renew(&mut self) {
        self.credit = self.size;
        self.comes_by = false;
    }

    /// The next batch begins, for which the application may take so long. Whether it was slow with the last
    /// one: then its batches get smaller, so that it never comes to the time much too late.
    pub(super) fn next(&mut self, now: Time, patience: Span) -> bool {
        let slow = now.since(self.began) > patience;
        self.size = if slow {
            (self.size / 2).max(1)
        } else {
            (self.size * 2).min(Self::MAX)
        };
        self.begin(now);
        slow
    }
}
