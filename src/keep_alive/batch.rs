//! How many messages pass the reader between two readings of the clock.

use crate::time::{Span, Time};

/// Messages that pass between two readings of the clock: the longer the application takes for a message, the
/// smaller is the batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// How many messages may still pass on the short way. It is 0 before the first poll, after the end, and
    /// if it matters when the reader comes back, so that one test lets a message pass.
    pub(super) credit: u8,
    size: u8,
    /// Whether the credit is 0 for another reason than that the batch has passed.
    comes_by: bool,
    pub(super) began: Time,
    /// Whether a whole batch has passed since the socket last had nothing more to read.
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

    /// The next poll of the reader must leave the short way, as there is something to do.
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

    /// A batch of the same size begins, and the clock was not read.
    pub(super) const fn renew(&mut self) {
        self.credit = self.size;
        self.comes_by = false;
    }

    /// The next batch begins. Returns whether the application took longer than `patience` for the last one:
    /// then its batches get smaller, so that the clock is never read much too late.
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
