//! Ping payloads that cannot be foretold, and the book of which pong would prove what.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use siphasher::sip::SipHasher24;

use crate::time::Time;

/// A sequence number (big-endian) and its tag. RFC 6455 §5.5 allows 125 bytes.
pub(crate) const LEN: usize = 16;

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
        key[..8].copy_from_slice(&process.hash(2 * number).to_ne_bytes());
        key[8..].copy_from_slice(&process.hash(2 * number + 1).to_ne_bytes());
        Self::new(key)
    }

    fn hash(&self, number: u64) -> u64 {
        SipHasher24::new_with_key(&self.0).hash(&number.to_be_bytes())
    }

    fn tag(&self, sequence: u64) -> u64 {
        self.hash(sequence)
    }

    /// A random number for the jitter after the ping `sequence`; no tag is made of the same input.
    pub(crate) fn draw(&self, sequence: u64) -> u32 {
        (self.hash(sequence | 1 << 63) >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The newest ping, as long as its pong is unread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flight {
    tag: u64,
    /// When it was flushed, or handed to the sink while the flush is not complete.
    pub(crate) at: Time,
    /// A wake came late while it was out: its round trip is not the network's alone.
    pub(crate) late: bool,
    /// What was there to read when it left has not all been read yet.
    pub(crate) crowded: bool,
}

/// What has become of the newest ping.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Newest {
    /// None was sent, or it was answered by its pong, missed, or written off.
    Closed,
    /// It waits for an answer.
    Open(Flight),
    /// Something else answered for it (by policy); its own pong is still unread.
    Settled(Flight),
}

/// What a pong proves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof {
    /// It is the newest ping's own.
    Newest(Flight),
    /// It is that of an earlier ping, and newer than all proved so far.
    Earlier(u64),
    /// Nothing: forged, repeated or older than what is proved.
    Nothing,
}

/// Which pings are out, and which pong would prove what.
///
/// A pong is checked against the book alone, so that whoever holds a copy can tell a stray.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ledger {
    key: Key,
    issued: u64,
    /// The highest sequence number that a pong proved.
    proved: u64,
    pub(crate) newest: Newest,
}

impl Ledger {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            issued: 0,
            proved: 0,
            newest: Newest::Closed,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// How many pings were handed out.
    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    /// The payload of the next ping, which is out from now on.
    pub(crate) fn issue(&mut self, now: Time, crowded: bool) -> Bytes {
        self.issued += 1;
        let tag = self.key.tag(self.issued);
        self.newest = Newest::Open(Flight {
            tag,
            at: now,
            late: false,
            crowded,
        });
        let mut payload = [0; LEN];
        payload[..8].copy_from_slice(&self.issued.to_be_bytes());
        payload[8..].copy_from_slice(&tag.to_be_bytes());
        Bytes::copy_from_slice(&payload)
    }

    /// The ping in flight, waiting for an answer.
    pub(crate) fn open(&mut self) -> Option<&mut Flight> {
        match &mut self.newest {
            Newest::Open(flight) => Some(flight),
            Newest::Closed | Newest::Settled(_) => None,
        }
    }

    /// Something else than its pong answered the ping in flight.
    pub(crate) fn settle(&mut self) {
        if let Newest::Open(flight) = self.newest {
            self.newest = Newest::Settled(flight);
        }
    }

    /// Takes over what has changed in the heartbeat's own book, and keeps what pongs have proved to
    /// this copy in the meantime: the heartbeat will see them yet, if there are any such `answers`.
    pub(crate) fn follow(&mut self, heart: &Self, answers: bool) {
        let newest = match (self.newest, heart.newest) {
            _ if self.issued != heart.issued || !answers => heart.newest,
            // What answered the ping here stays.
            (newest @ (Newest::Closed | Newest::Settled(_)), Newest::Open(_)) => newest,
            // Flushed, missed or written off since.
            (_, newest) => newest,
        };
        *self = Self {
            proved: self.proved.max(heart.proved),
            newest,
            ..*heart
        };
    }

    /// Looks at a pong of any length and content; nothing changes.
    pub(crate) fn check(&self, payload: &[u8]) -> Proof {
        let Ok(payload) = <&[u8; LEN]>::try_from(payload) else {
            return Proof::Nothing;
        };
        let (sequence, tag) = split(payload);
        if sequence <= self.proved || sequence > self.issued {
            return Proof::Nothing;
        }
        match self.newest {
            Newest::Open(flight) | Newest::Settled(flight) if sequence == self.issued => {
                if tag == flight.tag {
                    return Proof::Newest(flight);
                }
                Proof::Nothing
            }
            _ if tag == self.key.tag(sequence) => Proof::Earlier(sequence),
            _ => Proof::Nothing,
        }
    }

    /// Writes down what a pong proved: its like proves nothing any more.
    pub(crate) fn enter(&mut self, proof: Proof) {
        match proof {
            Proof::Newest(_) => {
                self.proved = self.issued;
                self.newest = Newest::Closed;
            }
            Proof::Earlier(sequence) => self.proved = sequence,
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
        let mut ledger = Ledger::new(Key::new([7; 16]));
        let mut seen = HashSet::new();
        let mut previous = (0_u64, 0_u64);
        let mut differences = HashSet::new();
        for _ in 0..1_000_000 {
            let payload = ledger.issue(Time::ORIGIN, false);
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
            assert!(tags.insert(key.tag(1)));
            assert!(halves.insert(key.0[..8].to_vec()) && halves.insert(key.0[8..].to_vec()));
        }
        assert_ne!(Key::new([0; 16]).tag(1), Key::new([1; 16]).tag(1));
    }

    #[test]
    fn a_jitter_draw_tells_nothing_of_a_tag() {
        let key = Key::new([3; 16]);
        for sequence in 1..1000 {
            assert_ne!(u64::from(key.draw(sequence)), key.tag(sequence) >> 32);
        }
    }

    // contract: B14
    #[test]
    fn only_the_exact_payload_of_a_ping_that_was_sent_proves_anything() {
        let mut ledger = Ledger::new(Key::new([1; 16]));
        let payload = ledger.issue(Time::ORIGIN, false).to_vec();
        assert!(matches!(ledger.check(&payload), Proof::Newest(_)));

        let nothing = |payload: &[u8]| matches!(ledger.check(payload), Proof::Nothing);
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
        ahead.extend(Key::new([1; 16]).tag(2).to_be_bytes());
        assert!(nothing(&ahead));
    }

    // contract: B14
    #[test]
    fn a_forged_pong_of_an_earlier_ping_proves_nothing() {
        let mut ledger = Ledger::new(Key::new([1; 16]));
        let mut earlier = ledger.issue(Time::ORIGIN, false).to_vec();
        ledger.issue(Time::ORIGIN, false);
        assert!(matches!(ledger.check(&earlier), Proof::Earlier(1)));
        earlier[LEN - 1] ^= 1;
        assert!(matches!(ledger.check(&earlier), Proof::Nothing));
    }

    #[test]
    fn a_copy_keeps_what_answered_its_ping_only_as_long_as_the_answer_is_on_its_way() {
        let mut heart = Ledger::new(Key::new([1; 16]));
        heart.issue(Time::ORIGIN, false);
        let mut copy = heart;
        copy.settle();
        let settled = |copy: &Ledger| matches!(copy.newest, Newest::Settled(_));
        copy.follow(&heart, true);
        assert!(settled(&copy), "the heartbeat has yet to see it");
        let mut refused = copy;
        refused.follow(&heart, false);
        assert!(!settled(&refused), "it has seen it and thought otherwise");
        heart.issue(Time::ORIGIN, false);
        copy.follow(&heart, true);
        assert!(!settled(&copy), "that was the ping before");
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::new([9; 16])), "Key(..)");
    }
}
