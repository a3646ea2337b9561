//! One deadline and its grace: a stall of this process is not the peer's silence.
//!
//! The rule stands in the [docs of the heartbeat](crate::heartbeat).

use crate::grid::Grid;
use crate::time::{Span, Time};

/// A deadline with its grace for local stalls. It is looked at and put away again: see
/// [`Pulse`](crate::pulse::Pulse) for what of it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    deadline: Time,
    /// The timeout that led to the deadline.
    span: Span,
    /// Whether it began with a grace.
    grace: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be looked at once before the deadline, at deadline − slack.
    Checkpoint,
    /// To be judged at the deadline; one extension, by as much as that is seen late, is left.
    Graceful,
    /// To be judged at the deadline, which a long stall has moved; one extension by the slack is
    /// left.
    Extended,
    /// To be judged at the deadline.
    Final,
}

/// What a look at a [`Watch`] shows.
pub(crate) enum Look {
    Early,
    /// A local stall: the deadline has moved.
    Late(Span),
    /// The deadline has passed; it was seen so much late.
    Expired(Span),
}

impl Stage {
    /// That of a deadline which nobody has looked at.
    #[inline]
    pub(crate) const fn first(grace: bool) -> Self {
        if grace { Self::Checkpoint } else { Self::Final }
    }

    /// When to look at a deadline of a wait that takes `span`.
    #[inline]
    pub(crate) fn next_look(self, deadline: Time, span: Span) -> Time {
        match self {
            Self::Checkpoint => deadline.minus(slack(span)),
            Self::Graceful | Self::Extended | Self::Final => deadline,
        }
    }
}

/// So much before the deadline is the checkpoint.
#[inline]
fn slack(span: Span) -> Span {
    const MIN: u64 = 10_000_000;
    const MAX: u64 = 1_000_000_000;
    let span = span.as_nanos();
    Span::nanos((span / 8).clamp(MIN, MAX).min(span / 2))
}

impl Watch {
    pub(crate) fn start(since: Time, span: Span, grace: bool) -> Self {
        Self::resume(since.plus(span), span, grace, Stage::first(grace))
    }

    /// One that was kept by its parts.
    #[inline]
    pub(crate) const fn resume(deadline: Time, span: Span, grace: bool, stage: Stage) -> Self {
        Self {
            deadline,
            span,
            grace,
            stage,
        }
    }

    /// The same wait under a new timeout, counted from the same start.
    ///
    /// A deadline that thereby lies in the past is judged at the next turn of the timer: in the
    /// time until then input is read.
    pub(crate) fn restart(self, since: Time, span: Span, grace: bool, now: Time) -> Self {
        if self.span == span && self.grace == grace {
            // A grace that was granted, or is yet to be granted, stays.
            return self;
        }
        let mut watch = Self::start(since, span, grace);
        if watch.deadline <= now {
            let turn = now.plus(Span::nanos(1));
            watch.deadline = match self.stage {
                // Else calls without end would put it off without end.
                Stage::Final => self.deadline.min(turn),
                Stage::Checkpoint | Stage::Graceful | Stage::Extended => turn,
            };
            watch.stage = Stage::Final;
        } else if watch.stage == Stage::Checkpoint && watch.next() <= now {
            watch.stage = Stage::Graceful;
        }
        watch
    }

    /// The timeout that led to the deadline.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    pub(crate) fn deadline(&self) -> Time {
        self.deadline
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// The deadline is judged at the next look, however late that is.
    pub(crate) fn end_grace(&mut self) {
        self.stage = Stage::Final;
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Time {
        self.stage.next_look(self.deadline, self.span)
    }

    pub(crate) fn look(&mut self, now: Time, grid: Grid) -> Look {
        if now < self.next() {
            return Look::Early;
        }
        let slack = slack(self.span);
        let late = grid.lateness(self.next(), now);
        match self.stage {
            Stage::Checkpoint if late == Span::ZERO => {
                self.stage = Stage::Graceful;
                self.look(now, grid)
            }
            Stage::Checkpoint => {
                let stage = if late <= slack {
                    Stage::Graceful
                } else {
                    Stage::Extended
                };
                self.extend(now, late.max(slack), stage);
                Look::Late(late)
            }
            Stage::Graceful if late > slack => {
                self.extend(now, late, Stage::Final);
                Look::Late(late)
            }
            Stage::Extended if late > slack => {
                // Of a timeout of a nanosecond there is no eighth.
                self.extend(now, slack.max(Span::nanos(1)), Stage::Final);
                Look::Late(late)
            }
            Stage::Graceful | Stage::Extended | Stage::Final => Look::Expired(late),
        }
    }

    fn extend(&mut self, now: Time, by: Span, stage: Stage) {
        self.deadline = now.plus(by.min(self.span));
        self.stage = stage;
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
    fn watch() -> Watch {
        Watch::start(Time::ORIGIN, Span::nanos(4 * SECOND), true)
    }

    fn grid(step: Duration) -> Grid {
        Grid { step: step.into() }
    }

    fn look(watch: &mut Watch, now: Time) -> Look {
        watch.look(now, grid(Duration::ZERO))
    }

    fn expired(watch: &mut Watch, now: Time) -> bool {
        matches!(look(watch, now), Look::Expired(_))
    }

    #[test]
    fn seen_on_time_the_deadline_stands() {
        let mut watch = watch();
        assert_eq!(watch.next(), at(35));
        assert!(matches!(look(&mut watch, at(35)), Look::Early));
        assert_eq!(watch.next(), at(40));
        assert!(expired(&mut watch, at(40)));
    }

    #[test]
    fn a_checkpoint_seen_a_little_late_grants_the_slack() {
        let mut watch = watch();
        assert!(matches!(look(&mut watch, at(37)), Look::Late(_)));
        assert_eq!(watch.next(), at(42));
        // And, as it was little, one more grace for a deadline that is hidden by a longer stall.
        assert!(matches!(look(&mut watch, at(50)), Look::Late(_)));
        assert_eq!(watch.next(), at(58));
        assert!(expired(&mut watch, at(100)), "graces never chain");
    }

    #[test]
    fn a_checkpoint_seen_very_late_grants_that_much_once() {
        let mut watch = watch();
        assert!(matches!(look(&mut watch, at(55)), Look::Late(_)));
        assert_eq!(watch.next(), at(75));
        // A second stall hides that deadline, too: time enough to read what has come.
        assert!(matches!(look(&mut watch, at(200)), Look::Late(_)));
        assert_eq!(watch.next(), at(205));
        assert!(expired(&mut watch, at(400)), "graces never chain");
    }

    #[test]
    fn a_deadline_seen_late_by_the_slack_and_no_more_stands() {
        let mut on_time = watch();
        look(&mut on_time, at(35));
        assert!(expired(&mut on_time, at(45)));
        let mut extended = watch();
        look(&mut extended, at(55));
        assert!(expired(&mut extended, at(80)), "the deadline is at 7.5 s");
    }

    #[test]
    fn a_grace_is_no_longer_than_the_timeout() {
        let mut watch = watch();
        look(&mut watch, at(1000));
        assert_eq!(watch.next(), at(1040));
    }

    // A wake-up is rounded up to the grid, and then the timer takes its time: neither is a stall.
    #[test]
    fn the_grid_and_the_slowness_of_a_timer_explain_some_lateness() {
        let grid = grid(Duration::from_millis(100));
        let asked = watch().next();
        let point = (0..=1000_u64)
            .map(|millis| asked.plus(Span::nanos(millis * 100_000)))
            .find(|time| grid.lateness(asked, time.plus(Span::nanos(SECOND / 10))) > Span::ZERO)
            .expect("late from some point on");
        assert!(point.since(asked) <= Span::nanos(SECOND / 10));

        let mut on_time = watch();
        let slow = point.plus(Span::nanos(SECOND / 20));
        assert!(matches!(on_time.look(slow, grid), Look::Early));
        assert_eq!(on_time.next(), at(40), "the deadline stands");
        let mut late = watch();
        let stalled = point.plus(Span::nanos(SECOND / 5));
        assert!(matches!(late.look(stalled, grid), Look::Late(_)));
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
        let turn = |now: Time| now.plus(Span::nanos(1));
        let watch = watch().restart(Time::ORIGIN, span, true, at(20));
        assert_eq!(watch.next(), turn(at(20)));
        let mut watch = watch.restart(Time::ORIGIN, span, true, at(21));
        assert_eq!(watch.next(), turn(at(20)));
        assert!(expired(&mut watch, at(21)));
    }

    #[test]
    fn a_restart_past_the_new_checkpoint_waits_for_the_new_deadline() {
        let started = || Watch::start(at(0), Span::nanos(8 * SECOND), true);
        let span = Span::nanos(4 * SECOND);
        let before = started().restart(at(0), span, true, at(20));
        assert_eq!(before.next(), at(35), "its checkpoint is yet to come");
        let mut past = started().restart(at(0), span, true, at(36));
        assert_eq!(past.next(), at(40));
        assert!(expired(&mut past, at(40)));
    }

    #[test]
    fn also_the_shortest_timeout_asks_for_no_look_in_the_past() {
        let mut watch = Watch::start(Time::ORIGIN, Span::nanos(1), true);
        for late in [1, 5, 7] {
            assert!(matches!(look(&mut watch, at(late)), Look::Late(_)) == (late < 7));
            assert!(late == 7 || watch.next() > at(late));
        }
    }

    #[test]
    fn never_is_never() {
        let mut watch = Watch::start(at(5), Span::NEVER, true);
        assert_eq!(watch.next(), Time::NEVER);
        assert!(matches!(
            look(&mut watch, at(u64::from(u32::MAX))),
            Look::Early
        ));
    }
}
