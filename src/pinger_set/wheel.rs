//! Which of a million members is due when: a hierarchical timing wheel.
//!
//! Time is counted in ticks. The finest level has a slot for each of the next 4096 ticks, which at the
//! default granularity is a minute; the level above it has a slot for each 4096 ticks, and so on. A bit for
//! each slot says whether a member is in it, so that empty ticks cost nothing. A slot is a doubly linked
//! list through the members' own links: to arm, to disarm and to hand out one member takes the same few
//! steps however many there are.
//!
//! A member in a coarse slot is handed out when that slot begins, which is early: the caller sees that
//! nothing is due and arms the member again, now in a finer slot. So no tick is kept for each member.

use std::mem;

const LEVELS: usize = 3;
/// For each level, how many bits of a tick give the slot in that level.
const BITS: [u32; LEVELS] = [12, 9, 9];
/// For each level, how many bits of a tick are below those of the slot.
const SHIFT: [u32; LEVELS] = [0, BITS[0], BITS[0] + BITS[1]];
/// For each level, its first slot. Slots are numbered consecutively through all levels.
const FIRST: [usize; LEVELS] = [0, 1 << BITS[0], (1 << BITS[0]) + (1 << BITS[1])];
const SLOTS: usize = FIRST[LEVELS - 1] + (1 << BITS[LEVELS - 1]);
const WORDS: usize = SLOTS / 64;
/// How far ahead a member may be put: one slot of the coarsest level stays free, so that a slot never
/// means both now and a full turn later.
const HORIZON: u64 = ((1 << BITS[LEVELS - 1]) - 1) << SHIFT[LEVELS - 1];

/// The link at the end of a list.
const NIL: u32 = u32::MAX;
/// Marks a link to a slot instead of a member.
const SLOT: u32 = 1 << 31;
const PAGE: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    /// The member before; for the first member of a slot, the slot; `NIL` for a member in no slot.
    prev: u32,
}

const UNLINKED: Link = Link {
    next: NIL,
    prev: NIL,
};

#[derive(Debug)]
struct Slots {
    /// For each level, a bit for each word of `occupied` that is not zero.
    words: [u64; LEVELS],
    /// A bit for each slot that has a member.
    occupied: [u64; WORDS],
    heads: [u32; SLOTS],
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// All members that were due before this tick have been handed out.
    elapsed: u64,
    /// The slot that has begun, as long as it has members: they are handed out next.
    begun: Option<Slot>,
    slots: Box<Slots>,
    /// The links by member, in pages: a vector of pages moves only pointers when it grows, and wastes next to
    /// nothing.
    #[allow(clippy::vec_box)]
    links: Vec<Box<[Link; PAGE]>>,
}

/// The number of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(usize);

impl Slot {
    /// The slot for `tick`, seen from `elapsed`: in the finest level that reaches as far ahead.
    #[inline]
    fn of(tick: u64, elapsed: u64) -> Self {
        let reaches = |level: usize| {
            let ahead = (tick >> SHIFT[level]) - (elapsed >> SHIFT[level]);
            ahead < 1 << BITS[level]
        };
        if reaches(0) {
            Self::at(0, tick)
        } else if reaches(1) {
            Self::at(1, tick)
        } else {
            Self::at(2, tick)
        }
    }

    /// The slot of `tick` in a level.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // Masked.
    fn at(level: usize, tick: u64) -> Self {
        Self(FIRST[level] + ((tick >> SHIFT[level]) as usize & ((1 << BITS[level]) - 1)))
    }

    fn level(self) -> usize {
        if self.0 < FIRST[1] {
            0
        } else if self.0 < FIRST[2] {
            1
        } else {
            2
        }
    }

    fn from_link(link: u32) -> Self {
        Self((link & !SLOT) as usize)
    }

    #[allow(clippy::cast_possible_truncation)] // There are not that many.
    fn link(self) -> u32 {
        SLOT | self.0 as u32
    }
}

impl Wheel {
    pub(super) fn new(now: u64) -> Self {
        Self {
            elapsed: now,
            begun: None,
            slots: Box::new(Slots {
                words: [0; LEVELS],
                occupied: [0; WORDS],
                heads: [NIL; SLOTS],
            }),
            links: Vec::new(),
        }
    }

    /// Makes `member` be handed out at `tick`, or before if that is far away, or at the next tick if `tick`
    /// has passed. This replaces the tick that the member was armed for.
    pub(super) fn arm(&mut self, member: u32, tick: u64) {
        if self.room(member).prev != NIL {
            self.disarm(member);
        }
        let soonest = self.elapsed.saturating_add(1);
        let tick = tick.clamp(soonest, self.elapsed.saturating_add(HORIZON).max(soonest));
        let slot = Slot::of(tick, self.elapsed);
        debug_assert_ne!(self.begun, Some(slot), "what has begun lies in the past");
        let next = self.slots.put(slot, member);
        *self.link(member) = Link {
            next,
            prev: slot.link(),
        };
        if next != NIL {
            self.link(next).prev = member;
        }
    }

    /// Takes `member` out of its slot, so that it is not handed out.
    pub(super) fn disarm(&mut self, member: u32) {
        let Link { next, prev } = mem::replace(self.room(member), UNLINKED);
        if prev == NIL {
            return;
        }
        if next != NIL {
            self.link(next).prev = prev;
        }
        if prev & SLOT == 0 {
            self.link(prev).next = next;
        } else {
            self.behead(Slot::from_link(prev), next);
        }
    }

    /// The first member of a slot has left the slot; `next` is the one after it.
    fn behead(&mut self, slot: Slot, next: u32) {
        self.slots.heads[slot.0] = next;
        if next == NIL {
            self.slots.leave(slot);
            self.begun = self.begun.filter(|begun| *begun != slot);
        }
    }

    /// The tick at which a member must be handed out next.
    pub(super) fn next(&self) -> Option<u64> {
        self.first().map(|(tick, _)| tick)
    }

    /// Hands out a member whose slot begins at `now` or earlier.
    pub(super) fn expire(&mut self, now: u64) -> Option<u32> {
        if self.begun.is_none() {
            self.begin(now);
        }
        let slot = self.begun?;
        let member = self.slots.heads[slot.0];
        let next = mem::replace(self.link(member), UNLINKED).next;
        if next != NIL {
            self.link(next).prev = slot.link();
        }
        self.behead(slot, next);
        Some(member)
    }

    /// The next slot begins, if it does so by `now`.
    fn begin(&mut self, now: u64) {
        match self.first() {
            Some((tick, slot)) if tick <= now => {
                // Members that are armed from now on are put into slots as seen from this tick.
                self.elapsed = self.elapsed.max(tick);
                self.begun = Some(slot);
            }
            _ => self.elapsed = self.elapsed.max(now),
        }
    }

    /// The next slot that has members, and the tick at which it begins: `elapsed` if it has begun.
    fn first(&self) -> Option<(u64, Slot)> {
        let slots = (0..LEVELS).filter_map(|level| {
            let here = Slot::at(level, self.elapsed);
            let slot = self.slots.occupied_from(level, here)?;
            let turn = self.elapsed >> SHIFT[level] >> BITS[level];
            // Each level reaches into its next turn.
            let turn = turn + u64::from(slot.0 < here.0);
            let begins = ((turn << BITS[level]) | (slot.0 - FIRST[level]) as u64) << SHIFT[level];
            Some((begins.max(self.elapsed), slot))
        });
        slots.min_by_key(|(begins, _)| *begins)
    }

    /// The link of a member that has been in a slot.
    #[inline]
    fn link(&mut self, member: u32) -> &mut Link {
        let member = member as usize;
        &mut self.links[member / PAGE][member % PAGE]
    }

    /// The link of any member, for which room is made.
    #[inline]
    fn room(&mut self, member: u32) -> &mut Link {
        while self.links.len() <= member as usize / PAGE {
            self.links.push(Box::new([UNLINKED; PAGE]));
        }
        self.link(member)
    }
}

impl Slots {
    /// Puts `member` first into a slot. Returns the member that was first before, or `NIL`.
    #[inline]
    fn put(&mut self, slot: Slot, member: u32) -> u32 {
        let next = mem::replace(&mut self.heads[slot.0], member);
        if next == NIL {
            let level = slot.level();
            self.occupied[slot.0 / 64] |= 1 << (slot.0 % 64);
            self.words[level] |= 1 << ((slot.0 - FIRST[level]) / 64);
        }
        next
    }

    /// A slot has no members any more.
    fn leave(&mut self, slot: Slot) {
        let level = slot.level();
        self.occupied[slot.0 / 64] &= !(1 << (slot.0 % 64));
        if self.occupied[slot.0 / 64] == 0 {
            self.words[level] &= !(1 << ((slot.0 - FIRST[level]) / 64));
        }
    }

    /// The first occupied slot of a level at or after `from`, around its end.
    fn occupied_from(&self, level: usize, from: Slot) -> Option<Slot> {
        let words = self.words[level];
        if words == 0 {
            return None;
        }
        let first = FIRST[level] / 64;
        let (word, bit) = (from.0 / 64, from.0 % 64);
        let ahead = self.occupied[word] & (u64::MAX << bit);
        if ahead != 0 {
            return Some(Slot(word * 64 + ahead.trailing_zeros() as usize));
        }
        // The words after that of `from`, and at last that word once more, for what lies before it.
        let after = words & (u64::MAX << (word - first) << 1);
        let next = if after == 0 { words } else { after };
        let word = first + next.trailing_zeros() as usize;
        Some(Slot(
            word * 64 + self.occupied[word].trailing_zeros() as usize,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Drives the wheel as the set does: a member that is handed out early is armed again.
    fn run(wheel: &mut Wheel, due: &mut BTreeMap<u32, u64>, now: u64) -> Vec<(u32, u64)> {
        let mut out = Vec::new();
        while let Some(member) = wheel.expire(now) {
            let tick = due[&member];
            if tick > now {
                wheel.arm(member, tick);
            } else {
                due.remove(&member);
                out.push((member, tick));
            }
        }
        out
    }

    #[test]
    fn empty_ticks_cost_nothing_and_an_empty_wheel_waits_for_nobody() {
        let mut wheel = Wheel::new(5);
        assert_eq!(wheel.next(), None);
        assert_eq!(wheel.expire(1 << 40), None);
        wheel.arm(0, (1 << 40) + 300);
        assert_eq!(wheel.next(), Some((1 << 40) + 300), "straight to the tick");
        wheel.disarm(0);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_has_passed_comes_with_the_next_tick() {
        let mut wheel = Wheel::new(100);
        wheel.arm(7, 3);
        assert_eq!(wheel.expire(100), None);
        assert_eq!(wheel.expire(101), Some(7));
    }

    #[test]
    fn to_the_end_of_time_nothing_overflows() {
        let mut wheel = Wheel::new(0);
        wheel.arm(0, u64::MAX);
        assert_eq!(wheel.next(), Some(HORIZON));
        while wheel.expire(u64::MAX - 1).is_some() {}
        wheel.arm(0, u64::MAX);
        assert_eq!(wheel.next(), Some(u64::MAX));
        assert_eq!(wheel.expire(u64::MAX), Some(0));
        wheel.arm(0, u64::MAX);
        assert_eq!(wheel.next(), Some(u64::MAX));
    }

    #[test]
    fn the_coarsest_level_goes_on_at_its_beginning() {
        let turn = 1 << (SHIFT[2] + BITS[2]);
        for late in [0, 1 << SHIFT[2]] {
            let mut wheel = Wheel::new(turn - 10);
            wheel.arm(0, turn + late);
            wheel.arm(1, turn - 5);
            assert_eq!(wheel.expire(turn - 5), Some(1));
            assert_eq!(wheel.next(), Some(turn + late));
            assert_eq!(wheel.expire(turn + late - 1), None);
            assert_eq!(wheel.expire(turn + late), Some(0));
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn whoever_leaves_a_slot_of_many_takes_no_other_along() {
        for left in 0..4 {
            let mut wheel = Wheel::new(0);
            for member in 0..4 {
                wheel.arm(member, 9);
            }
            wheel.disarm(left);
            let mut out: Vec<_> = std::iter::from_fn(|| wheel.expire(9)).collect();
            out.sort_unstable();
            let others: Vec<_> = (0..4).filter(|member| *member != left).collect();
            assert_eq!(out, others, "without {left}");
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn a_tick_that_is_nearly_a_turn_away_is_not_taken_for_the_next() {
        let mut wheel = Wheel::new(100);
        // Its slot is in the word of the tick 100, and lies before that tick.
        wheel.arm(0, 100 + 4090);
        wheel.arm(1, 500);
        assert_eq!(wheel.next(), Some(500));
        assert_eq!(wheel.expire(500), Some(1));
        assert_eq!(wheel.next(), Some(100 + 4090));
    }

    #[test]
    fn many_members_share_a_page_of_links() {
        let mut wheel = Wheel::new(0);
        wheel.arm(200, 5);
        assert_eq!(wheel.links.len(), 4);
    }

    #[derive(Debug, Clone)]
    enum Do {
        Arm(u32, u64),
        Disarm(u32),
        Pass(u64),
        /// To the tick that `next` names.
        Sleep,
    }

    fn deeds() -> impl Strategy<Value = Vec<Do>> {
        let span = || prop_oneof![0..5_u64, 0..3_000_u64, 0..4_000_000_u64, 0..(1_u64 << 33)];
        let deed = prop_oneof![
            4 => (0..200_u32, span()).prop_map(|(member, ahead)| Do::Arm(member, ahead)),
            1 => (0..200_u32).prop_map(Do::Disarm),
            1 => span().prop_map(Do::Pass),
            4 => Just(Do::Sleep),
        ];
        prop::collection::vec(deed, 1..300)
    }

    proptest! {
        #[test]
        fn each_is_handed_out_at_its_tick_once_and_never_before(start in 0..(1_u64 << 40), deeds in deeds()) {
            let (mut wheel, mut due, mut now) = (Wheel::new(start), BTreeMap::new(), start);
            for deed in deeds {
                match deed {
                    Do::Arm(member, ahead) => {
                        due.insert(member, now + 1 + ahead);
                        wheel.arm(member, now + 1 + ahead);
                    }
                    Do::Disarm(member) => {
                        due.remove(&member);
                        wheel.disarm(member);
                    }
                    Do::Pass(ticks) => now += ticks,
                    Do::Sleep => now = wheel.next().unwrap_or(now).max(now),
                }
                let expected: Vec<_> = due.iter().map(|(m, t)| (*m, *t)).filter(|(_, t)| *t <= now).collect();
                let mut out = run(&mut wheel, &mut due, now);
                out.sort_unstable();
                prop_assert_eq!(out, expected);
                let first = due.values().min().copied();
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next() <= first, "nobody is overslept");
                prop_assert!(wheel.next().is_none_or(|next| next > now), "no wake without a reason");
            }
        }
    }
}
