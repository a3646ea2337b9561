//! When the next ping is due: pure functions over points and spans of time.
//!
//! The rule stands in the [docs of the heartbeat](crate::heartbeat#schedule).

use crate::time::{Span, Time};

/// The wait for the next ping: from `start` to `due`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) start: Time,
    pub(super) due: Time,
}

impl Wait {
    /// A new grid, from `start` on.
    pub(super) const fn from(start: Time, span: Span) -> Self {
        Self {
            start,
            due: start.plus(span),
        }
    }

    /// The wait for the next point in the future, on the grid that goes through `due`. Points that have
    /// passed are skipped: there is no burst after a pause.
    #[inline]
    pub(super) fn after(due: Time, span: Span, now: Time) -> Self {
        // Full jitter can draw a wait of zero.
        let span = span.max(Span::nanos(1));
        let skipped = now.since(due).as_nanos() / span.as_nanos();
        Self::from(due.plus(Span::nanos(skipped * span.as_nanos())), span)
    }

    /// The same wait, but no longer than until `limit`.
    pub(super) fn until(self, limit: Time) -> Self {
        Self {
            start: self.start,
            due: self.due.min(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::ORIGIN.plus(Span::nanos(nanos))
    }

    #[test]
    fn a_ping_that_leaves_late_moves_no_later_one() {
        let wait = Wait::after(at(20), Span::nanos(20), at(23));
        assert_eq!((wait.start, wait.due), (at(20), at(40)));
    }

    #[test]
    fn what_was_skipped_is_not_made_up_for() {
        let wait = Wait::after(at(20), Span::nanos(20), at(99));
        assert_eq!((wait.start, wait.due), (at(80), at(100)));
        let wait = Wait::after(at(20), Span::nanos(20), at(100));
        assert_eq!((wait.start, wait.due), (at(100), at(120)));
    }

    #[test]
    fn a_wait_of_nothing_and_one_without_end_are_harmless() {
        assert_eq!(Wait::after(at(20), Span::ZERO, at(30)).due, at(31));
        assert_eq!(Wait::after(at(20), Span::NEVER, at(30)).due, Time::NEVER);
        assert_eq!(Wait::from(at(5), Span::NEVER).until(at(9)).due, at(9));
    }
}
