//! One deadline and its grace: a stall of this process is not the peer's silence.
//!
//! The rule stands in the [docs of the heartbeat](crate::heartbeat).

use crate::grid::Grid;
use crate::time::{Span, Time};

/// A deadline with its grace for local stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(super) at: Time,
    /// The timeout that led to the deadline.
    pub(super) timeout: Span,
    pub(super) grace: Grace,
}

/// What is left of the grace of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grace {
    /// The deadline is to be looked at once before it is judged, at deadline − slack.
    Checkpoint,
    /// The deadline is judged when it has come. It is extended once by as much as it is seen late.
    Graceful,
    /// A long stall has moved the deadline. It is extended once more, by the slack.
    Extended,
    /// The deadline is judged when it has come.
    Spent,
    /// The deadline is judged when it has come. Its verdict was held before, and is not held again.
    Held,
}

/// What a look at a [`Deadline`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing is to be judged yet.
    Early,
    /// The look came late by this much, through a local stall: the deadline has moved.
    Late(Span),
    /// The deadline has passed, and the look came late by this much.
    Expired(Span),
}

impl Grace {
    /// The grace of a new deadline.
    #[inline]
    pub(super) const fn new(stall_grace: bool) -> Self {
        if stall_grace {
            Self::Checkpoint
        } else {
            Self::Spent
        }
    }

    /// When to look at a deadline that ends a wait of `timeout`.
    #[inline]
    pub(super) fn next_look(self, deadline: Time, timeout: Span) -> Time {
        match self {
            Self::Checkpoint => deadline.minus(slack(timeout)),
            Self::Graceful | Self::Extended | Self::Spent | Self::Held => deadline,
        }
    }
}

/// How long before the deadline the checkpoint is.
#[inline]
pub(crate) fn slack(timeout: Span) -> Span {
    const MIN: u64 = 10_000_000;
    const MAX: u64 = 1_000_000_000;
    let timeout = timeout.as_nanos();
    Span::nanos((timeout / 8).clamp(MIN, MAX).min(timeout / 2))
}

impl Deadline {
    pub(crate) fn new(waiting_since: Time, timeout: Span, stall_grace: bool) -> Self {
        Self {
            at: waiting_since.plus(timeout),
            timeout,
            grace: Grace::new(stall_grace),
        }
    }

    /// This deadline, set anew from the start of its wait, in place of `old`.
    ///
    /// A local stall that hides the old deadline has hidden the peer's answer as well, so that the new deadline
    /// is moved as the old one is, or was. A local stall that ends before the checkpoint of the old deadline is
    /// not noticed, but it hides the new one if that is shorter. So a deadline whose checkpoint has passed by
    /// now is judged one slack from now, which is the time to read in.
    pub(super) fn in_place_of(mut self, mut old: Self, now: Time, grid: Grid) -> Self {
        let (wait, longest, left) = match self.grace {
            Grace::Checkpoint => (self.slack(), self.timeout, Grace::Extended),
            // Also without a grace the timer has a turn, in which input is read.
            _ => (Span::nanos(1), Span::nanos(1), Grace::Spent),
        };
        // The driver may not have looked since the stall.
        old.look(now, grid);
        if self.next_look().has_come(now) {
            (self.at, self.grace) = match old.grace {
                Grace::Checkpoint | Grace::Graceful => (now.plus(wait), left),
                // Moved before, or without a grace: configurations that are set without end do not put it off.
                moved => (self.at.max(old.at.min(now.plus(longest))), moved),
            };
        }
        self
    }

    /// When to look at the deadline next.
    pub(crate) fn next_look(&self) -> Time {
        self.grace.next_look(self.at, self.timeout)
    }

    /// When the deadline is judged even if there is input left that was not read.
    pub(crate) fn read_by(&self) -> Time {
        self.at.plus(self.slack())
    }

    /// The slack, but at least 1 ns: an eighth of a 1 ns timeout is zero.
    fn slack(&self) -> Span {
        slack(self.timeout).max(Span::nanos(1))
    }

    /// Looks at the deadline at `now`, and moves it if a local stall has hidden it.
    pub(crate) fn look(&mut self, now: Time, grid: Grid) -> Check {
        if !self.next_look().has_come(now) {
            return Check::Early;
        }
        let slack = slack(self.timeout);
        let late = grid.lateness(self.next_look(), now);
        match self.grace {
            Grace::Checkpoint if late == Span::ZERO => {
                self.grace = Grace::Graceful;
                self.look(now, grid)
            }
            Grace::Checkpoint => {
                let left = if late <= slack {
                    Grace::Graceful
                } else {
                    Grace::Extended
                };
                self.extend(now, late.max(slack), left);
                Check::Late(late)
            }
            Grace::Graceful if late > slack => {
                self.extend(now, late, Grace::Spent);
                Check::Late(late)
            }
            Grace::Extended if late > slack => {
                self.extend(now, self.slack(), Grace::Spent);
                Check::Late(late)
            }
            Grace::Graceful | Grace::Extended | Grace::Spent | Grace::Held => Check::Expired(late),
        }
    }

    /// Holds the verdict of a deadline that has passed for one more timeout. Returns false if it was held
    /// before.
    pub(super) fn hold(&mut self, now: Time) -> bool {
        let first = self.grace != Grace::Held;
        if first {
            self.extend(now, self.timeout, Grace::Held);
        }
        first
    }

    /// Looks at the checkpoint alone, where the deadline is not to be judged yet. Returns how late the look
    /// is, or `None` if the checkpoint has passed or is yet to come.
    pub(super) fn pass_checkpoint(&mut self, now: Time, grid: Grid) -> Option<Span> {
        if self.grace != Grace::Checkpoint || !self.next_look().has_come(now) {
            return None;
        }
        let late = grid.lateness(self.next_look(), now);
        if late == Span::ZERO {
            self.grace = Grace::Graceful;
        } else {
            self.look(now, grid);
        }
        Some(late)
    }

    fn extend(&mut self, now: Time, by: Span, left: Grace) {
        self.at = now.plus(by.min(self.timeout));
        self.grace = left;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(tenths: u64) -> Time {
        Time::ORIGIN.plus(Span::nanos(tenths * SECOND / 10))
    }

    /// A timeout of 4 s from the origin on: the slack is half a second.
    fn deadline() -> Deadline {
        Deadline::new(Time::ORIGIN, Span::nanos(4 * SECOND), true)
    }

    fn grid(step: Duration) -> Grid {
        Grid { step: step.into() }
    }

    fn look(deadline: &mut Deadline, now: Time) -> Check {
        deadline.look(now, grid(Duration::ZERO))
    }

    fn expired(deadline: &mut Deadline, now: Time) -> bool {
        matches!(look(deadline, now), Check::Expired(_))
    }

    #[test]
    fn seen_on_time_the_deadline_stands() {
        let mut deadline = deadline();
        assert_eq!(deadline.next_look(), at(35));
        assert!(matches!(look(&mut deadline, at(35)), Check::Early));
        assert_eq!(deadline.next_look(), at(40));
        assert!(expired(&mut deadline, at(40)));
    }

    #[test]
    fn a_checkpoint_seen_a_little_late_grants_the_slack() {
        let mut deadline = deadline();
        assert!(matches!(look(&mut deadline, at(37)), Check::Late(_)));
        assert_eq!(deadline.next_look(), at(42));
        // And, as it was little, one more grace for a deadline that is hidden by a longer stall.
        assert!(matches!(look(&mut deadline, at(50)), Check::Late(_)));
        assert_eq!(deadline.next_look(), at(58));
        assert!(expired(&mut deadline, at(100)), "graces never chain");
    }

    #[test]
    fn a_checkpoint_seen_very_late_grants_that_much_once() {
        let mut deadline = deadline();
        assert!(matches!(look(&mut deadline, at(55)), Check::Late(_)));
        assert_eq!(deadline.next_look(), at(75));
        // A second stall hides that deadline, too: time enough to read what has come.
        assert!(matches!(look(&mut deadline, at(200)), Check::Late(_)));
        assert_eq!(deadline.next_look(), at(205));
        assert!(expired(&mut deadline, at(400)), "graces never chain");
    }

    #[test]
    fn a_deadline_seen_late_by_the_slack_and_no_more_stands() {
        let mut on_time = deadline();
        look(&mut on_time, at(35));
        assert!(expired(&mut on_time, at(45)));
        let mut extended = deadline();
        look(&mut extended, at(55));
        assert!(expired(&mut extended, at(80)), "the deadline is at 7.5 s");
    }

    #[test]
    fn a_checkpoint_that_is_passed_judges_nothing() {
        let exact = grid(Duration::ZERO);
        let mut early = deadline();
        assert_eq!(early.pass_checkpoint(at(34), exact), None);
        let mut on_time = deadline();
        assert_eq!(on_time.pass_checkpoint(at(35), exact), Some(Span::ZERO));
        assert_eq!(on_time.next_look(), at(40), "the deadline stands");
        assert_eq!(on_time.pass_checkpoint(at(50), exact), None, "but once");
        // What comes after a late look is no stall.
        let mut late = deadline();
        let stall = Span::nanos(2 * SECOND);
        assert_eq!(late.pass_checkpoint(at(55), exact), Some(stall));
        assert_eq!(late.next_look(), at(75));
    }

    #[test]
    fn a_grace_is_no_longer_than_the_timeout() {
        let mut deadline = deadline();
        look(&mut deadline, at(1000));
        assert_eq!(deadline.next_look(), at(1040));
    }

    // A wake-up is rounded up to the grid, and then the timer takes its time: neither is a stall.
    #[test]
    fn the_grid_and_the_slowness_of_a_timer_explain_some_lateness() {
        let grid = grid(Duration::from_millis(100));
        let asked = deadline().next_look();
        let point = (0..=1000_u64)
            .map(|millis| asked.plus(Span::nanos(millis * 100_000)))
            .find(|time| grid.lateness(asked, time.plus(Span::nanos(SECOND / 10))) > Span::ZERO)
            .expect("late from some point on");
        assert!(point.since(asked) <= Span::nanos(SECOND / 10));

        let mut on_time = deadline();
        let slow = point.plus(Span::nanos(SECOND / 20));
        assert!(matches!(on_time.look(slow, grid), Check::Early));
        assert_eq!(on_time.next_look(), at(40), "the deadline stands");
        let mut late = deadline();
        let stalled = point.plus(Span::nanos(SECOND / 5));
        assert!(matches!(late.look(stalled, grid), Check::Late(_)));
    }

    #[test]
    fn slack_is_an_eighth_within_limits() {
        let slack = |nanos| slack(Span::nanos(nanos));
        assert_eq!(slack(4 * SECOND), Span::nanos(SECOND / 2));
        assert_eq!(slack(80 * SECOND), Span::nanos(SECOND), "1 s at the most");
        assert_eq!(
            slack(SECOND / 25),
            Span::nanos(SECOND / 100),
            "10 ms at the least"
        );
        assert_eq!(
            slack(SECOND / 100),
            Span::nanos(SECOND / 200),
            "but no more than half"
        );
    }

    #[test]
    fn restarts_without_end_do_not_put_a_passed_deadline_off_without_end() {
        let span = Span::nanos(SECOND);
        let put_off = at(20).plus(slack(span));
        let deadline =
            Deadline::new(at(0), span, true).in_place_of(deadline(), at(20), grid(Duration::ZERO));
        assert_eq!(deadline.next_look(), put_off);
        let mut deadline =
            Deadline::new(at(0), span, true).in_place_of(deadline, at(21), grid(Duration::ZERO));
        assert_eq!(deadline.next_look(), put_off);
        assert!(expired(&mut deadline, put_off));
    }

    // Timeouts that were set again at one time had led to an earlier deadline than at first.
    #[test]
    fn the_same_restarts_again_at_one_time_change_nothing() {
        let restart = |old, timeout| {
            Deadline::new(at(1), timeout, true).in_place_of(old, at(238), grid(Duration::ZERO))
        };
        let (longer, shorter) = (Span::nanos(238 * SECOND / 10), Span::nanos(SECOND / 50));
        let both = |old| restart(restart(old, longer), shorter);
        let once = both(Deadline::new(at(1), Span::nanos(27 * SECOND), true));
        assert_eq!(once.next_look(), at(238).plus(shorter));
        assert_eq!(both(once), once);
    }

    #[test]
    fn a_restart_past_the_new_checkpoint_leaves_a_slack_to_read_in() {
        let started = || Deadline::new(at(0), Span::nanos(8 * SECOND), true);
        let span = Span::nanos(4 * SECOND);
        let before =
            Deadline::new(at(0), span, true).in_place_of(started(), at(20), grid(Duration::ZERO));
        assert_eq!(before.next_look(), at(35), "its checkpoint is yet to come");
        let mut past =
            Deadline::new(at(0), span, true).in_place_of(started(), at(36), grid(Duration::ZERO));
        assert_eq!(past.next_look(), at(41));
        assert!(expired(&mut past, at(41)));
    }

    #[test]
    fn a_stall_after_a_restart_leaves_a_slack_once_more() {
        let span = Span::nanos(4 * SECOND);
        let started = Deadline::new(at(0), Span::nanos(8 * SECOND), true);
        let mut past =
            Deadline::new(at(0), span, true).in_place_of(started, at(50), grid(Duration::ZERO));
        assert_eq!(past.next_look(), at(55));
        assert!(matches!(look(&mut past, at(70)), Check::Late(_)));
        assert_eq!(past.next_look(), at(75));
        assert!(expired(&mut past, at(90)));
    }

    #[test]
    fn a_longer_timeout_counts_from_the_start_also_after_a_stall() {
        let mut moved = deadline();
        look(&mut moved, at(55));
        assert_eq!(moved.next_look(), at(75));
        let span = Span::nanos(78 * SECOND / 10);
        let longer =
            Deadline::new(at(0), span, true).in_place_of(moved, at(70), grid(Duration::ZERO));
        assert_eq!(longer.next_look(), at(78));
    }

    #[test]
    fn a_verdict_that_is_held_is_held_under_another_timeout_but_once() {
        let mut held = deadline();
        look(&mut held, at(35));
        assert!(held.hold(at(40)));
        let span = Span::nanos(3 * SECOND);
        let mut shorter =
            Deadline::new(at(0), span, true).in_place_of(held, at(50), grid(Duration::ZERO));
        assert_eq!(shorter.next_look(), at(80));
        assert!(expired(&mut shorter, at(80)));
        assert!(!shorter.hold(at(80)));
    }

    #[test]
    fn also_the_shortest_timeout_asks_for_no_look_in_the_past() {
        let mut deadline = Deadline::new(Time::ORIGIN, Span::nanos(1), true);
        for late in [1, 5, 7] {
            assert!(matches!(look(&mut deadline, at(late)), Check::Late(_)) == (late < 7));
            assert!(late == 7 || deadline.next_look() > at(late));
        }
    }

    #[test]
    fn never_is_never() {
        let mut deadline = Deadline::new(at(5), Span::NEVER, true);
        assert_eq!(deadline.next_look(), Time::NEVER);
        assert!(matches!(
            look(&mut deadline, at(u64::from(u32::MAX))),
            Check::Early
        ));
    }
}
