//! What a set yields for a member whose heartbeat has ended.

use super::MemberId;
use crate::error::Error;
use crate::stats::Stats;

/// A member whose heartbeat has ended in a [`PingerSet`](super::PingerSet), whose stream yields it.
///
/// For a [`Member`](super::Member) that is dropped no departure is yielded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Departure<K, E> {
    /// The member.
    pub id: MemberId,
    /// The key that [`insert_keyed`](super::PingerSet::insert_keyed) was given.
    pub key: K,
    /// The last figures of the heartbeat.
    pub stats: Stats,
    /// Why the heartbeat has ended.
    pub end: End<E>,
}

/// Why the heartbeat of a member has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End<E> {
    /// The heartbeat was closed by [`close`](super::PingerSetHandle::close) or
    /// [`close_all`](super::PingerSetHandle::close_all).
    Closed,
    /// The peer is gone, or the sink has failed.
    Failed(Error<E>),
}
