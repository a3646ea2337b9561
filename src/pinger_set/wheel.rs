//! Who is due when, for a million of them: a hierarchical timing wheel.
//!
//! Time is counted in ticks. A level has a slot for each of the next 1024 ticks, the level above it
//! one for each 1024 of those, and so on; a bit for each slot tells whether anybody is in it, so that
//! empty ticks cost nothing. A slot is a doubly linked list through the members' own links: to arm,
//! to disarm and to hand out one member takes the same few steps however many there are.
//!
//! Whoever lies in a coarse slot is handed out when that slot begins, which is early: the caller sees
//! that nothing is due and arms it again, now in a finer slot. So no tick is kept for each member.

use std::mem;

const BITS: u32 = 10;
const SLOTS: usize = 1 << BITS;
const WORDS: usize = SLOTS / 64;
const LEVELS: u32 = 3;
/// Further ahead than this nobody is put: one slot of the coarsest level stays free, so that a slot
/// never means both now and a full turn later.
const HORIZON: u64 = ((SLOTS - 1) as u64) << (BITS * (LEVELS - 1));

/// At the end of a list.
const NIL: u32 = u32::MAX;
/// Marks a link to a slot instead of a member.
const SLOT: u32 = 1 << 31;
const PAGE: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    /// The member before, the slot for the first one, or `NIL` for who is in none.
    prev: u32,
}

const UNLINKED: Link = Link {
    next: NIL,
    prev: NIL,
};

#[derive(Debug)]
struct Level {
    /// A bit for each word of `occupied` that has one.
    words: u16,
    /// A bit for each slot that anybody is in.
    occupied: [u64; WORDS],
    heads: [u32; SLOTS],
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// All that was due before this tick has been handed out.
    elapsed: u64,
    levels: Box<[Level; LEVELS as usize]>,
    /// By member. In pages: a vector that grows moves nothing but pointers, and wastes next to nothing.
    #[allow(clippy::vec_box)]
    links: Vec<Box<[Link; PAGE]>>,
}

/// A slot of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    level: u32,
    slot: usize,
}

impl Place {
    /// Where `tick` belongs, seen from `elapsed`: in the finest level whose present turn it lies in.
    fn of(tick: u64, elapsed: u64) -> Self {
        let apart = (tick ^ elapsed) | 1;
        let level = (apart.ilog2() / BITS).min(LEVELS - 1);
        Self {
            level,
            slot: slot_of(tick, level),
        }
    }

    fn from_link(link: u32) -> Self {
        let number = link & !SLOT;
        Self {
            level: number >> BITS,
            slot: number as usize % SLOTS,
        }
    }

    #[allow(clippy::cast_possible_truncation)] // A slot's number has ten bits.
    fn link(self) -> u32 {
        SLOT | self.level << BITS | self.slot as u32
    }
}

#[allow(clippy::cast_possible_truncation)] // Masked.
fn slot_of(tick: u64, level: u32) -> usize {
    (tick >> (BITS * level)) as usize & (SLOTS - 1)
}

impl Wheel {
    pub(super) fn new(now: u64) -> Self {
        const EMPTY: Level = Level {
            words: 0,
            occupied: [0; WORDS],
            heads: [NIL; SLOTS],
        };
        Self {
            elapsed: now,
            levels: Box::new([EMPTY; LEVELS as usize]),
            links: Vec::new(),
        }
    }

    /// Hands `member` out at `tick`, or before where that is far away; at the next tick where it has
    /// passed. It replaces what it was armed for.
    pub(super) fn arm(&mut self, member: u32, tick: u64) {
        self.disarm(member);
        let soonest = self.elapsed.saturating_add(1);
        let tick = tick.clamp(soonest, self.elapsed.saturating_add(HORIZON).max(soonest));
        let place = Place::of(tick, self.elapsed);
        let level = &mut self.levels[place.level as usize];
        level.occupy(place.slot);
        let next = mem::replace(&mut level.heads[place.slot], member);
        *self.link(member) = Link {
            next,
            prev: place.link(),
        };
        if next != NIL {
            self.link(next).prev = member;
        }
    }

    /// Does not hand `member` out.
    pub(super) fn disarm(&mut self, member: u32) {
        let Link { next, prev } = mem::replace(self.link(member), UNLINKED);
        if prev == NIL {
            return;
        }
        if next != NIL {
            self.link(next).prev = prev;
        }
        if prev & SLOT == 0 {
            self.link(prev).next = next;
            return;
        }
        let place = Place::from_link(prev);
        let level = &mut self.levels[place.level as usize];
        level.heads[place.slot] = next;
        if next == NIL {
            level.leave(place.slot);
        }
    }

    /// The tick at which the next member is to be handed out.
    pub(super) fn next(&self) -> Option<u64> {
        self.first().map(|(tick, _)| tick)
    }

    /// A member whose tick is `now` or earlier.
    pub(super) fn expire(&mut self, now: u64) -> Option<u32> {
        match self.first() {
            Some((tick, place)) if tick <= now => {
                // Its own slot may begin here: what is armed from now on is seen from here.
                self.elapsed = self.elapsed.max(tick);
                let member = self.levels[place.level as usize].heads[place.slot];
                self.disarm(member);
                Some(member)
            }
            _ => {
                self.elapsed = self.elapsed.max(now);
                None
            }
        }
    }

    /// The slot that is next, and when it begins: now, where it has begun.
    fn first(&self) -> Option<(u64, Place)> {
        let slots = (0..LEVELS).filter_map(|level| {
            let here = slot_of(self.elapsed, level);
            let slot = self.levels[level as usize].occupied_from(here)?;
            let turn = self.elapsed >> (BITS * level) >> BITS;
            // Only the coarsest level reaches into its next turn.
            let turn = turn + u64::from(slot < here);
            let begins = ((turn << BITS) | slot as u64) << (BITS * level);
            Some((begins.max(self.elapsed), Place { level, slot }))
        });
        slots.min_by_key(|(begins, _)| *begins)
    }

    fn link(&mut self, member: u32) -> &mut Link {
        let member = member as usize;
        while self.links.len() <= member / PAGE {
            self.links.push(Box::new([UNLINKED; PAGE]));
        }
        &mut self.links[member / PAGE][member % PAGE]
    }
}

impl Level {
    fn occupy(&mut self, slot: usize) {
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.words |= 1 << (slot / 64);
    }

    fn leave(&mut self, slot: usize) {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        if self.occupied[slot / 64] == 0 {
            self.words &= !(1 << (slot / 64));
        }
    }

    /// The first occupied slot at or after `from`, around the end of the level.
    fn occupied_from(&self, from: usize) -> Option<usize> {
        if self.words == 0 {
            return None;
        }
        let (word, bit) = (from / 64, from % 64);
        let ahead = self.occupied[word] & (u64::MAX << bit);
        if ahead != 0 {
            return Some(word * 64 + ahead.trailing_zeros() as usize);
        }
        // The words after that of `from`, and at last that word once more, for what lies before it.
        let after = self.words & (u16::MAX << word << 1);
        let first = if after == 0 { self.words } else { after };
        let word = first.trailing_zeros() as usize;
        Some(word * 64 + self.occupied[word].trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Drives the wheel as the set does: who is handed out early is armed again.
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

    #[derive(Debug, Clone)]
    enum Do {
        Arm(u32, u64),
        Disarm(u32),
        Pass(u64),
        /// To the tick that it names.
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
