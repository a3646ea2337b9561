//! Ping payloads that cannot be foretold, and the book of which pong would prove what.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use siphasher::sip::SipHasher24;

use crate::time::Time;

/// A sequence number (big-endian) and its tag. RFC 6455 §5.5 allows 125 bytes.
const LEN: usize = 16;

/// The secret of one heartbeat: whoever lacks it can neither tell the next payload nor forge one.
#[derive(Clone, Copy)]
pub(crate) struct Key([u8; 16]);

impl Key {
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// A key of its own for each caller, all derived from one random key of the process.
    pub(crate) fn unique() -> Self {
        static PROCESS: OnceLock<Key> = OnceLock::new();
        static DERIVED: AtomicU64 = AtomicU64::new(0);

        let process = PROCESS.get_or_init(|| {
            let mut key = [0; 16];
            if getrandom::fill(&mut key).is_err() {
                // The standard library's hash keys have sources of their own.
                let random = std::hash::RandomState::new();
                key[..8].copy_from_slice(&random.hash_one(0_u8).to_ne_bytes());
                key[8..].copy_from_slice(&random.hash_one(1_u8).to_ne_bytes());
            }
            Self::new(key)
        });
        let number = DERIVED.fetch_add(1, Ordering::Relaxed);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&process.hash(2 * number, 0).to_ne_bytes());
        key[8..].copy_from_slice(&process.hash(2 * number + 1, 0).to_ne_bytes());
        Self::new(key)
    }

    /// Of a sequence number, and of the member's where heartbeats share a key.
    #[inline]
    fn hash(&self, sequence: u64, member: u64) -> u64 {
        let hasher = SipHasher24::new_with_key(&self.0);
        if member == 0 {
            return hasher.hash(&sequence.to_be_bytes());
        }
        let both = u128::from(sequence) << 64 | u128::from(member);
        hasher.hash(&both.to_be_bytes())
    }

    #[inline]
    pub(crate) fn tag(&self, sequence: u64, member: u64) -> u64 {
        self.hash(sequence, member)
    }

    /// Of a ping that carries `payload`.
    pub(crate) fn tag_of(payload: &[u8]) -> u64 {
        let payload = <&[u8; LEN]>::try_from(payload);
        payload.map_or(0, |payload| split(payload).1)
    }

    /// A random number for the jitter after the ping `sequence`; no tag is made of the same input.
    pub(crate) fn draw(&self, sequence: u64, member: u64) -> u32 {
        (self.hash(sequence | 1 << 63, member) >> 32) as u32
    }

    /// What a ping carries.
    #[inline]
    pub(crate) fn payload(&self, sequence: u64, member: u64) -> Bytes {
        let mut payload = [0; LEN];
        payload[..8].copy_from_slice(&sequence.to_be_bytes());
        payload[8..].copy_from_slice(&self.tag(sequence, member).to_be_bytes());
        Bytes::copy_from_slice(&payload)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What has become of the newest ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newest {
    /// None was sent, or it was answered by its pong, missed, or written off.
    Closed,
    /// It waits for an answer.
    Open,
    /// Something else answered for it (by policy); its own pong is still unread.
    Settled,
}

/// What a pong proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It is the newest ping's own.
    Newest,
    /// It is that of an earlier ping, and newer than all proved so far.
    Earlier(u64),
    /// Nothing: forged, repeated or older than what is proved.
    Nothing,
}

/// Which pings are out, and which pong would prove what.
///
/// A pong is checked against the book and the key alone, so that whoever holds copies can tell a stray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ledger {
    issued: u64,
    /// When the newest ping was flushed, or handed to the sink while the flush is not complete.
    /// None of them unread, it is free for other use.
    pub(crate) at: Time,
    /// Pings since the newest that a pong proved. Of more than fit, the first prove nothing any
    /// more.
    unproved: u8,
    pub(crate) newest: Newest,
    /// A wake came late while the newest ping was out: its round trip is not the network's alone.
    pub(crate) late: bool,
    /// What was there to read when it left has not all been read yet.
    pub(crate) crowded: bool,
}

/// A [`Ledger`] in two words and four bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed {
    /// In the highest byte the unproved, below it the issued: at a ping each millisecond enough for two
    /// million years.
    pub(crate) pings: u64,
    pub(crate) at: Time,
    /// No more than [`Packed::MARKS`].
    pub(crate) marks: u8,
}

impl Packed {
    /// The bits that it needs of the marks.
    pub(crate) const MARKS: u8 = 0b1111;
    const LATE: u8 = 1 << 2;
    const CROWDED: u8 = 1 << 3;
    const UNPROVED: u32 = 56;

    #[inline]
    pub(crate) const fn unpack(self) -> Ledger {
        Ledger {
            issued: self.pings << 8 >> 8,
            at: self.at,
            unproved: (self.pings >> Self::UNPROVED) as u8,
            newest: match self.marks & 0b11 {
                0 => Newest::Closed,
                1 => Newest::Open,
                _ => Newest::Settled,
            },
            late: self.marks & Self::LATE != 0,
            crowded: self.marks & Self::CROWDED != 0,
        }
    }
}

impl Ledger {
    #[inline]
    pub(crate) const fn pack(self) -> Packed {
        let mut marks = self.newest as u8;
        if self.late {
            marks |= Packed::LATE;
        }
        if self.crowded {
            marks |= Packed::CROWDED;
        }
        Packed {
            pings: self.issued | (self.unproved as u64) << Packed::UNPROVED,
            at: self.at,
            marks,
        }
    }

    pub(crate) const fn new() -> Self {
        Self {
            issued: 0,
            at: Time::ORIGIN,
            unproved: 0,
            newest: Newest::Closed,
            late: false,
            crowded: false,
        }
    }

    /// How many pings were handed out.
    #[inline]
    pub(crate) const fn issued(&self) -> u64 {
        self.issued
    }

    /// The highest sequence number that a pong proved.
    #[inline]
    pub(crate) fn proved(&self) -> u64 {
        self.issued - u64::from(self.unproved)
    }

    /// The next ping is out from now on.
    #[inline]
    pub(crate) const fn issue(&mut self, now: Time, crowded: bool) {
        self.issued += 1;
        self.at = now;
        self.unproved = self.unproved.saturating_add(1);
        self.newest = Newest::Open;
        self.late = false;
        self.crowded = crowded;
    }

    /// Whether the newest ping waits for an answer.
    #[inline]
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.newest, Newest::Open)
    }

    /// Whether its own pong is still to be read.
    #[inline]
    pub(crate) const fn is_unread(&self) -> bool {
        !matches!(self.newest, Newest::Closed)
    }

    /// Something else than its pong answered the ping in flight.
    pub(crate) const fn settle(&mut self) {
        if self.is_open() {
            self.newest = Newest::Settled;
        }
    }

    /// Takes over what has changed in the heartbeat's own book, and keeps what pongs have proved to
    /// this copy in the meantime: the heartbeat will see them yet, if there are any such `answers`.
    pub(crate) fn follow(&mut self, heart: &Self, answers: bool) {
        let newest = match (self.newest, heart.newest) {
            _ if self.issued != heart.issued || !answers => heart.newest,
            // What answered the ping here stays.
            (newest @ (Newest::Closed | Newest::Settled), Newest::Open) => newest,
            // Flushed, missed or written off since.
            (_, newest) => newest,
        };
        let unproved = heart.issued - self.proved().max(heart.proved());
        *self = Self {
            // No more than in one of the two.
            unproved: u8::try_from(unproved).unwrap_or(u8::MAX),
            newest,
            ..*heart
        };
    }

    /// Looks at a pong of any length and content; nothing changes. `expected` tells the tag of a ping.
    #[inline]
    pub(crate) fn check(&self, payload: &[u8], expected: impl FnOnce(u64) -> u64) -> Proof {
        let Ok(payload) = <&[u8; LEN]>::try_from(payload) else {
            return Proof::Nothing;
        };
        let (sequence, tag) = split(payload);
        let proof = self.proof_of(sequence);
        // Of a stray nothing is hashed.
        if proof != Proof::Nothing && tag != expected(sequence) {
            return Proof::Nothing;
        }
        proof
    }

    /// Whether that pong proves nothing, whatever its tag.
    #[inline]
    pub(crate) fn is_stray(&self, payload: &[u8]) -> bool {
        let payload = <&[u8; LEN]>::try_from(payload);
        payload.map_or(true, |payload| {
            self.proof_of(split(payload).0) == Proof::Nothing
        })
    }

    /// What the pong of that ping proves.
    #[inline]
    pub(crate) fn proof_of(&self, sequence: u64) -> Proof {
        if sequence <= self.proved() || sequence > self.issued {
            return Proof::Nothing;
        }
        if sequence == self.issued && self.is_unread() {
            return Proof::Newest;
        }
        Proof::Earlier(sequence)
    }

    /// Writes down what a pong proved: its like proves nothing any more.
    #[inline]
    pub(crate) fn enter(&mut self, proof: Proof) {
        match proof {
            Proof::Newest => {
                self.unproved = 0;
                self.newest = Newest::Closed;
            }
            // No more than before.
            Proof::Earlier(sequence) => {
                self.unproved = u8::try_from(self.issued - sequence).unwrap_or(u8::MAX);
            }
            Proof::Nothing => {}
        }
    }
}

fn split(payload: &[u8; LEN]) -> (u64, u64) {
    let number = u128::from_be_bytes(*payload);
    // Two halves of 64 bits each.
    #[allow(clippy::cast_possible_truncation)]
    ((number >> 64) as u64, number as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    // contract: B16
    #[test]
    fn a_million_payloads_are_short_unique_and_not_foretold_by_those_seen() {
        let (key, mut ledger) = (Key::new([7; 16]), Ledger::new());
        let mut seen = HashSet::new();
        let mut previous = (0_u64, 0_u64);
        let mut differences = HashSet::new();
        for _ in 0..1_000_000 {
            ledger.issue(Time::ORIGIN, false);
            let payload = key.payload(ledger.issued(), 0);
            assert_eq!(payload.len(), LEN);
            let tag = u64::from_be_bytes(payload[8..].try_into().expect("8 bytes"));
            assert!(seen.insert(payload));
            // Neither a constant step nor a constant difference leads from one tag to the next.
            differences.insert(tag.wrapping_sub(previous.0));
            differences.insert(tag ^ previous.1);
            previous = (tag, tag);
        }
        // Random numbers of 64 bits repeat in this many draws with a chance of one in ten million.
        assert!(differences.len() >= 2_000_000 - 2);
    }

    // contract: B16
    #[test]
    fn the_same_sequence_has_unrelated_tags_under_other_keys() {
        let mut tags = HashSet::new();
        let mut halves = HashSet::new();
        for _ in 0..1000 {
            let key = Key::unique();
            assert!(tags.insert(key.tag(1, 0)));
            assert!(halves.insert(key.0[..8].to_vec()) && halves.insert(key.0[8..].to_vec()));
        }
        assert_ne!(Key::new([0; 16]).tag(1, 0), Key::new([1; 16]).tag(1, 0));
    }

    #[test]
    fn a_jitter_draw_tells_nothing_of_a_tag() {
        let key = Key::new([3; 16]);
        for sequence in 1..1000 {
            assert_ne!(u64::from(key.draw(sequence, 0)), key.tag(sequence, 0) >> 32);
        }
    }

    // contract: B14
    #[test]
    fn only_the_exact_payload_of_a_ping_that_was_sent_proves_anything() {
        let (key, mut ledger) = (Key::new([1; 16]), Ledger::new());
        ledger.issue(Time::ORIGIN, false);
        let payload = key.payload(1, 0).to_vec();
        assert_eq!(ledger.check(&payload, |n| key.tag(n, 0)), Proof::Newest);

        let nothing = |payload: &[u8]| ledger.check(payload, |n| key.tag(n, 0)) == Proof::Nothing;
        for len in 0..LEN {
            assert!(nothing(&payload[..len]), "prefix of {len}");
        }
        for extra in [1, 109, 110, 70_000] {
            let mut extended = payload.clone();
            extended.resize(LEN + extra, 0);
            assert!(nothing(&extended), "{extra} bytes more");
        }
        for bit in 0..8 * LEN {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(nothing(&flipped), "bit {bit} flipped");
        }
        // The right tag for a ping that is yet to come.
        let mut ahead = 2_u64.to_be_bytes().to_vec();
        ahead.extend(key.tag(2, 0).to_be_bytes());
        assert!(nothing(&ahead));
    }

    // contract: B14
    #[test]
    fn a_forged_pong_of_an_earlier_ping_proves_nothing() {
        let (key, mut ledger) = (Key::new([1; 16]), Ledger::new());
        ledger.issue(Time::ORIGIN, false);
        ledger.issue(Time::ORIGIN, false);
        let mut earlier = key.payload(1, 0).to_vec();
        assert_eq!(ledger.check(&earlier, |n| key.tag(n, 0)), Proof::Earlier(1));
        earlier[LEN - 1] ^= 1;
        assert_eq!(ledger.check(&earlier, |n| key.tag(n, 0)), Proof::Nothing);
    }

    #[test]
    fn a_copy_keeps_what_answered_its_ping_only_as_long_as_the_answer_is_on_its_way() {
        let mut heart = Ledger::new();
        heart.issue(Time::ORIGIN, false);
        let mut copy = heart;
        copy.settle();
        copy.follow(&heart, true);
        assert_eq!(
            copy.newest,
            Newest::Settled,
            "the heartbeat has yet to see it"
        );
        let mut refused = copy;
        refused.follow(&heart, false);
        assert_eq!(
            refused.newest,
            Newest::Open,
            "it has seen it and thought otherwise"
        );
        heart.issue(Time::ORIGIN, false);
        copy.follow(&heart, true);
        assert_eq!(copy.newest, Newest::Open, "that was the ping before");
    }

    #[test]
    fn members_that_share_a_key_never_answer_each_other() {
        let (key, mut ledger) = (Key::new([1; 16]), Ledger::new());
        ledger.issue(Time::ORIGIN, false);
        let mut draws = HashSet::new();
        for member in 0..100 {
            assert!(
                draws.insert(key.draw(1, member)),
                "nor do they leave together"
            );
            let payload = key.payload(1, member);
            assert_eq!(payload.len(), LEN);
            for other in 0..100 {
                let answers = ledger.check(&payload, |n| key.tag(n, other)) == Proof::Newest;
                assert_eq!(answers, member == other, "{member} and {other}");
            }
        }
    }

    #[test]
    fn of_more_unproved_pings_than_can_be_counted_the_first_prove_nothing() {
        let (key, mut ledger) = (Key::new([1; 16]), Ledger::new());
        ledger.unproved = u8::MAX - 1;
        ledger.issued = u64::from(ledger.unproved);
        for _ in 0..3 {
            ledger.issue(Time::ORIGIN, false);
        }
        let check =
            |ledger: &Ledger, sequence| ledger.check(&key.payload(sequence, 0), |n| key.tag(n, 0));
        assert_eq!(check(&ledger, 2), Proof::Nothing);
        assert_eq!(check(&ledger, 3), Proof::Earlier(3));
        ledger.enter(Proof::Earlier(3));
        assert_eq!(check(&ledger, 3), Proof::Nothing);
        assert_eq!(check(&ledger, 4), Proof::Earlier(4));
        assert_eq!(check(&ledger, ledger.issued()), Proof::Newest);
        ledger.enter(Proof::Newest);
        assert_eq!(check(&ledger, ledger.issued()), Proof::Nothing);
    }

    #[test]
    fn a_packed_ledger_is_the_same_when_it_is_unpacked() {
        for newest in [Newest::Closed, Newest::Open, Newest::Settled] {
            for (late, crowded) in [(false, false), (true, false), (false, true), (true, true)] {
                for (issued, unproved) in [(0, 0), (300, u8::MAX), ((1 << 56) - 1, 7)] {
                    let ledger = Ledger {
                        issued,
                        at: Time::NEVER,
                        unproved,
                        newest,
                        late,
                        crowded,
                    };
                    let packed = ledger.pack();
                    assert_eq!(packed.marks & !Packed::MARKS, 0);
                    assert_eq!(packed.unpack(), ledger);
                }
            }
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::new([9; 16])), "Key(..)");
    }
}
