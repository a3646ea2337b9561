//! What a set yields for a member whose heartbeat has ended.

use super::MemberId;
use crate::error::Error;
use crate::stats::Stats;

/// A member whose heartbeat has ended in a [`PingerSet`](super::PingerSet), whose stream yields it.
///
/// A [`Member`](super::Member) that is dropped yields no departure, unless a verdict or an order to close came before.
/// The sink is dropped with each departure: a writer behind a queue reads the queue to its end, and then drops the
/// socket.
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
    /// Whether the close frame, of the verdict or of the order, was handed to the sink and flushed. It may not have
    /// been where the sink took nothing for the [`close_timeout`](crate::ConfigBuilder::close_timeout). Where the
    /// [`Member`](super::Member) was dropped meanwhile, false means that the set does not know.
    pub close_sent: bool,
}

/// Why the heartbeat of a member has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End<E> {
    /// The heartbeat was closed, or was to be closed, by [`close`](super::PingerSetHandle::close) or
    /// [`close_all`](super::PingerSetHandle::close_all).
    Closed,
    /// The peer is gone, or the sink has failed.
    Failed(Error<E>),
}
