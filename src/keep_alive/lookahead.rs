//! What was read ahead of the application: kept in its order, and yielded before anything later.

use std::collections::VecDeque;
use std::mem::discriminant;

use crate::error::Error;

/// What the stream has yet to yield.
pub(super) enum Item<M, E> {
    Message(M),
    /// A ping of the peer.
    Ping(M),
    /// A ping of the WebSocket beneath a heartbeat that is in messages.
    PingBelow(M),
    /// The heartbeat or the socket has failed.
    Failed(Error<E>),
    /// The stream has ended.
    End,
}

/// Messages that were read so that a pong behind them could be read, and perhaps the end of the stream.
pub(super) struct Lookahead<M, E> {
    items: VecDeque<Item<M, E>>,
    messages: usize,
    limit: usize,
    /// Whether nothing can follow.
    over: bool,
}

impl<M, E> Lookahead<M, E> {
    /// How many messages are read ahead at the most, by default.
    const DEFAULT: usize = 16;

    pub(super) const fn new() -> Self {
        Self {
            items: VecDeque::new(),
            messages: 0,
            limit: Self::DEFAULT,
            over: false,
        }
    }

    pub(super) const fn set_limit(&mut self, messages: usize) {
        self.limit = messages;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is no room for another message.
    pub(super) const fn is_full(&self) -> bool {
        self.messages >= self.limit
    }

    /// Whether an error or the end is among the items: nothing is read any more.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn push(&mut self, item: Item<M, E>) {
        match &item {
            Item::Message(_) => self.messages += 1,
            Item::Ping(_) | Item::PingBelow(_) => {
                // Of the peer's pings the newest is kept: it is enough to answer that one (RFC 6455 §5.5.3).
                // Those of the WebSocket beneath do not displace those of the protocol. Of pongs each is kept
                // as data is: the application may have sent the ping, and an unsolicited pong that comes
                // later says nothing of that ping.
                let (before, kind) = (self.items.len(), discriminant(&item));
                self.items.retain(|kept| discriminant(kept) != kind);
                self.messages += 1;
                self.messages -= before - self.items.len();
            }
            Item::Failed(_) | Item::End => self.over = true,
        }
        self.items.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<Item<M, E>> {
        let item = self.items.pop_front()?;
        if let Item::Message(_) | Item::Ping(_) | Item::PingBelow(_) = item {
            self.messages -= 1;
        }
        Some(item)
    }

    /// The messages alone.
    pub(super) fn into_messages(self) -> VecDeque<M> {
        let messages = self.items.into_iter().filter_map(|item| match item {
            Item::Message(message) | Item::Ping(message) | Item::PingBelow(message) => {
                Some(message)
            }
            Item::Failed(_) | Item::End => None,
        });
        messages.collect()
    }
}
