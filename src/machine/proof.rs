//! The key, the payloads that nobody can foretell, and which pong proves what.

use std::cell::Cell;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use siphasher::sip::SipHasher24;

use super::record::{Newest, Record};

/// The length of a payload: a sequence number (big-endian) and its tag. RFC 6455 §5.5 allows 125 bytes.
const LEN: usize = 16;

/// The length of a chunk: the payloads of 64 pings.
const CHUNK_LEN: usize = 64 * LEN;

/// The secret of one heartbeat, or of all members of a set: without the key nobody can foretell or forge a
/// payload.
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

    /// The hash of a sequence number, and of the member's number where heartbeats share the key.
    #[inline]
    fn hash(&self, sequence: u64, member: u64) -> u64 {
        let hasher = SipHasher24::new_with_key(&self.0);
        if member == 0 {
            return hasher.hash(&sequence.to_be_bytes());
        }
        let both = u128::from(sequence) << 64 | u128::from(member);
        hasher.hash(&both.to_be_bytes())
    }

    /// The tag of the ping `sequence`: nobody without the key can make it.
    #[inline]
    pub(super) fn tag(&self, sequence: u64, member: u64) -> u64 {
        self.hash(sequence, member)
    }

    /// A random number for the jitter after the ping `sequence`; no tag is made of the same input.
    pub(super) fn draw(&self, sequence: u64, member: u64) -> u32 {
        (self.hash(sequence | 1 << 63, member) >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The payload of the ping `sequence`: a piece of a chunk that the thread keeps, as an allocation for each
/// payload costs more than twice as much. As long as one payload is kept, its chunk is not freed.
#[inline]
pub(super) fn payload(sequence: u64, tag: u64) -> Bytes {
    thread_local! {
        static CHUNK: Cell<BytesMut> = Cell::default();
    }

    let both = u128::from(sequence) << 64 | u128::from(tag);
    // A thread that ends has dropped its chunk, so a payload that is made after that has its own allocation.
    let piece = CHUNK.try_with(|cell| {
        let mut chunk = cell.take();
        if chunk.capacity() < LEN {
            chunk = BytesMut::with_capacity(CHUNK_LEN);
        }
        chunk.extend_from_slice(&both.to_be_bytes());
        let piece = chunk.split();
        cell.set(chunk);
        piece
    });
    piece.map_or_else(
        |_| Bytes::copy_from_slice(&both.to_be_bytes()),
        BytesMut::freeze,
    )
}

/// What a pong proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The pong answers the newest ping.
    Newest,
    /// The pong answers that earlier ping, which is newer than all proved so far.
    Earlier(u64),
    /// The pong is forged, repeated, or older than what is proved.
    Nothing,
}

/// What a pong proves, by the record and the key alone.
impl Record {
    /// The sequence number up to which no pong proves anything any more: the highest that a pong proved, or
    /// a higher one if more pings are unproved than can be counted.
    #[inline]
    fn proved(&self) -> u64 {
        self.issued - u64::from(self.unproved)
    }

    /// Checks a pong of any length and content; nothing changes.
    #[inline]
    pub(super) fn check(&self, payload: &[u8], key: &Key, member: u64) -> Proof {
        let Ok(payload) = <&[u8; LEN]>::try_from(payload) else {
            return Proof::Nothing;
        };
        let (sequence, tag) = split(payload);
        let proof = self.proof_of(sequence);
        let expected = match proof {
            Proof::Nothing => return Proof::Nothing,
            _ if sequence == self.issued => self.tag,
            _ => key.tag(sequence, member),
        };
        if tag == expected {
            proof
        } else {
            Proof::Nothing
        }
    }

    /// Whether that pong proves nothing, whatever its tag is. This takes no hash.
    #[inline]
    pub(super) fn is_stray(&self, payload: &[u8]) -> bool {
        let payload = <&[u8; LEN]>::try_from(payload);
        payload.map_or(true, |payload| {
            self.proof_of(split(payload).0) == Proof::Nothing
        })
    }

    /// What a pong with that sequence number proves, if its tag is right.
    #[inline]
    fn proof_of(&self, sequence: u64) -> Proof {
        if sequence <= self.proved() || sequence > self.issued {
            return Proof::Nothing;
        }
        if sequence == self.issued && self.newest != Newest::NotAwaited {
            return Proof::Newest;
        }
        Proof::Earlier(sequence)
    }

    /// The next ping is handed out, and waits for an answer from now on.
    #[inline]
    pub(super) fn issue(&mut self, key: &Key, member: u64) {
        self.issued += 1;
        self.unproved = self.unproved.saturating_add(1);
        self.tag = key.tag(self.issued, member);
        self.newest = Newest::Unanswered;
        self.late = false;
    }

    /// The newest ping was not sent: its number is given to the next one.
    pub(super) fn recall(&mut self, key: &Key, member: u64) {
        self.issued -= 1;
        self.unproved = self.unproved.saturating_sub(1);
        self.tag = key.tag(self.issued, member);
        self.newest = Newest::NotAwaited;
        // When the ping before that one was sent is not known any more, so that it gives no sample.
        self.late = true;
    }

    /// Enters what a pong has proved: the same pong proves nothing from now on.
    #[inline]
    pub(super) fn enter(&mut self, proof: Proof) {
        match proof {
            Proof::Newest => {
                self.unproved = 0;
                self.newest = Newest::NotAwaited;
            }
            // The number of unproved pings only falls here.
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
        let (key, mut record) = (Key::new([7; 16]), Record::new());
        let mut seen = HashSet::new();
        let mut previous = (0_u64, 0_u64);
        let mut differences = HashSet::new();
        for _ in 0..1_000_000 {
            record.issue(&key, 0);
            let payload = payload(record.issued, record.tag);
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
            assert!(halves.insert(key.0[..8].to_vec()));
            assert!(halves.insert(key.0[8..].to_vec()));
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
        let (key, mut record) = (Key::new([1; 16]), Record::new());
        record.issue(&key, 0);
        let payload = payload(1, key.tag(1, 0)).to_vec();
        assert_eq!(record.check(&payload, &key, 0), Proof::Newest);

        let nothing = |payload: &[u8]| record.check(payload, &key, 0) == Proof::Nothing;
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
        let (key, mut record) = (Key::new([1; 16]), Record::new());
        record.issue(&key, 0);
        record.issue(&key, 0);
        let mut earlier = payload(1, key.tag(1, 0)).to_vec();
        assert_eq!(record.check(&earlier, &key, 0), Proof::Earlier(1));
        earlier[LEN - 1] ^= 1;
        assert_eq!(record.check(&earlier, &key, 0), Proof::Nothing);
    }

    #[test]
    fn members_that_share_a_key_never_answer_each_other() {
        let key = Key::new([1; 16]);
        let mut draws = HashSet::new();
        for member in 0..100 {
            assert!(
                draws.insert(key.draw(1, member)),
                "nor do they leave together"
            );
            let payload = payload(1, key.tag(1, member));
            assert_eq!(payload.len(), LEN);
            for other in 0..100 {
                let mut record = Record::new();
                record.issue(&key, other);
                let answers = record.check(&payload, &key, other) == Proof::Newest;
                assert_eq!(answers, member == other, "{member} and {other}");
            }
        }
    }

    #[test]
    fn of_more_unproved_pings_than_can_be_counted_the_first_prove_nothing() {
        let (key, mut record) = (Key::new([1; 16]), Record::new());
        record.unproved = u8::MAX - 1;
        record.issued = u64::from(record.unproved);
        for _ in 0..3 {
            record.issue(&key, 0);
        }
        let check = |record: &Record, sequence| {
            record.check(&payload(sequence, key.tag(sequence, 0)), &key, 0)
        };
        assert_eq!(check(&record, 2), Proof::Nothing);
        assert_eq!(check(&record, 3), Proof::Earlier(3));
        record.enter(Proof::Earlier(3));
        assert_eq!(check(&record, 3), Proof::Nothing);
        assert_eq!(check(&record, 4), Proof::Earlier(4));
        assert_eq!(check(&record, record.issued), Proof::Newest);
        record.enter(Proof::Newest);
        assert_eq!(check(&record, record.issued), Proof::Nothing);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::new([9; 16])), "Key(..)");
    }
}
