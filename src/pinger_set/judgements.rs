//! Whether many verdicts fall at once, for which this side's network is a likelier reason than so many peers.

use crate::time::{Span, Time};

const SECOND: u64 = 1_000_000_000;
/// How many slices a second is counted in.
const SLICES: usize = 8;
const SLICE: u64 = SECOND / SLICES as u64;

/// The fewest judgements in a second whose share of verdicts counts.
const FEWEST: u32 = 64;

/// The options for many verdicts at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct MassVerdicts {
    /// Verdicts are many if they are more than this share of the judgements of a second.
    pub(super) share: f64,
    /// Whether such verdicts are held for one timeout.
    pub(super) hold: bool,
}

impl Default for MassVerdicts {
    fn default() -> Self {
        Self {
            share: 0.5,
            hold: false,
        }
    }
}

/// How many members were judged in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// All members that were judged: their pings were answered, or missed, or they were condemned.
    pub(crate) all: u32,
    /// The members that were condemned, or would have been if the verdict were not held.
    pub(crate) condemned: u32,
}

impl Judged {
    const fn add(&mut self, condemned: bool) {
        self.all = self.all.saturating_add(1);
        self.condemned = self.condemned.saturating_add(condemned as u32);
    }

    const fn subtract(&mut self, old: Self) {
        self.all = self.all.saturating_sub(old.all);
        self.condemned = self.condemned.saturating_sub(old.condemned);
    }
}

/// The judgements of the last second.
#[derive(Debug)]
pub(super) struct Judgements {
    options: MassVerdicts,
    now: Time,
    /// The index of the slice that `now` is in.
    slice: usize,
    slices: [Judged; SLICES],
    sum: Judged,
    /// When there were many verdicts last.
    many_at: Option<Time>,
    /// The judgements when many verdicts began to fall, until [`take_untold`](Self::take_untold).
    untold: Option<Judged>,
}

impl Judgements {
    pub(super) const fn new(options: MassVerdicts, now: Time) -> Self {
        Self {
            options,
            now,
            slice: index(now.as_nanos() / SLICE),
            slices: [Judged {
                all: 0,
                condemned: 0,
            }; SLICES],
            sum: Judged {
                all: 0,
                condemned: 0,
            },
            many_at: None,
            untold: None,
        }
    }

    /// Moves on to `now`: judgements that are more than a second old no longer count.
    pub(super) fn advance(&mut self, now: Time) {
        let (old, new) = (self.now.as_nanos() / SLICE, now.as_nanos() / SLICE);
        for slice in old + 1..=new.min(old.saturating_add(SLICES as u64)) {
            let slice = &mut self.slices[index(slice)];
            self.sum.subtract(*slice);
            *slice = Judged::default();
        }
        self.now = self.now.max(now);
        self.slice = index(self.now.as_nanos() / SLICE);
    }

    /// Whether the verdict on the next member that would be condemned must be held, as one of many.
    #[inline]
    pub(super) fn hold_next(&self) -> bool {
        self.options.hold && {
            let mut sum = self.sum;
            sum.add(true);
            self.are_many(sum)
        }
    }

    fn are_many(&self, judged: Judged) -> bool {
        judged.all >= FEWEST
            && f64::from(judged.condemned) > self.options.share * f64::from(judged.all)
    }

    /// Counts a member that was judged. `condemned` says whether its verdict has fallen or was held.
    #[inline]
    pub(super) fn count(&mut self, condemned: bool) {
        self.sum.add(condemned);
        self.slices[self.slice].add(condemned);
        if condemned && self.are_many(self.sum) {
            self.note_many();
        }
    }

    #[cold]
    fn note_many(&mut self) {
        let goes_on = |at: Time| self.now.since(at) <= Span::nanos(SECOND);
        if !self.many_at.is_some_and(goes_on) {
            self.untold = Some(self.sum);
        }
        self.many_at = Some(self.now);
    }

    /// Takes the judgements when many verdicts began to fall, if the subscriber was not told of it yet.
    pub(super) const fn take_untold(&mut self) -> Option<Judged> {
        self.untold.take()
    }
}

#[allow(clippy::cast_possible_truncation)] // Less than the number of slices.
const fn index(slice: u64) -> usize {
    (slice % SLICES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ORIGIN.plus(Span::nanos(millis * 1_000_000))
    }

    #[test]
    fn what_is_a_second_old_counts_no_more() {
        let mut judgements = Judgements::new(MassVerdicts::default(), at(10_000));
        for millis in 10_000..12_000 {
            judgements.advance(at(millis));
            judgements.count(false);
        }
        let all = judgements.sum.all;
        assert!((875..=1000).contains(&all), "{all}");
        judgements.advance(at(11_000));
        assert_eq!(judgements.sum.all, all, "time does not go backwards");
        judgements.advance(at(500_000));
        assert_eq!(judgements.sum, Judged::default());
    }

    #[test]
    fn many_are_more_than_the_share_of_64_and_are_told_of_once() {
        let mut judgements = Judgements::new(MassVerdicts::default(), at(0));
        (0..63).for_each(|_| judgements.count(true));
        assert_eq!(judgements.take_untold(), None, "too few");
        (0..63).for_each(|_| judgements.count(false));
        assert_eq!(judgements.take_untold(), None);
        judgements.count(true);
        let told = judgements
            .take_untold()
            .map(|told| (told.condemned, told.all));
        assert_eq!(told, Some((64, 127)));
        for second in 1..10 {
            judgements.advance(at(second * 900));
            (0..64).for_each(|_| judgements.count(true));
            assert_eq!(judgements.take_untold(), None, "it goes on");
        }
        judgements.advance(at(60_000));
        (0..64).for_each(|_| judgements.count(true));
        assert!(judgements.take_untold().is_some(), "and comes again");
    }
}
