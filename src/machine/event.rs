//! The events of a heartbeat for the subscribers of `tracing`: collected under the lock, and passed on after
//! the lock is released.

use super::record::{Cause, Strays};
use crate::config::Config;
use crate::error::TimedOut;
use crate::time::Span;

/// One event of those that the [guide](crate::guide::tracing) lists.
#[derive(Debug)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(crate) enum Event {
    /// The sink has taken a ping.
    Ping {
        sequence: u64,
        cause: Cause,
    },
    /// The newest ping's own pong was read.
    Pong {
        sequence: u64,
        rtt: Span,
    },
    /// Something else answered the newest ping.
    AnsweredByPolicy {
        sequence: u64,
    },
    /// A total of pongs that answer nothing, or come too late, has reached another power of two.
    StrayPongs(Strays),
    /// This side looked at a deadline later than it had asked to.
    LateWake(Span),
    /// A ping was not answered in time; `missed` counts the misses in a row.
    Missed {
        sequence: u64,
        elapsed: Span,
        missed: u32,
    },
    /// A ping without a timeout was not answered before the next was due.
    WrittenOff {
        sequence: u64,
    },
    Paused,
    Resumed,
    Configured(Config),
    Stopped,
    TimedOut(TimedOut),
}

/// Events that were not passed on yet, in their order. Without the feature `tracing` the list has no size.
/// Without a subscriber the list stays empty.
#[derive(Debug, Default)]
pub(crate) struct Events {
    #[cfg(feature = "tracing")]
    list: Vec<Event>,
    #[cfg(feature = "tracing")]
    silent: bool,
}

#[cfg_attr(
    not(feature = "tracing"),
    allow(unused_variables, clippy::unused_self, clippy::missing_const_for_fn)
)]
impl Events {
    pub(crate) const fn new() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            list: Vec::new(),
            #[cfg(feature = "tracing")]
            silent: false,
        }
    }

    /// A list that stays empty, for the members of a set, which have no span and no events.
    pub(crate) const fn silent() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            list: Vec::new(),
            #[cfg(feature = "tracing")]
            silent: true,
        }
    }

    /// Adds an event, unless all levels are off. The static maximum level is all that is asked: a subscriber
    /// is foreign code, and this runs under a lock.
    #[inline]
    pub(super) fn push(&mut self, event: impl FnOnce() -> Event) {
        #[cfg(feature = "tracing")]
        if !self.silent
            && tracing::level_filters::LevelFilter::current()
                != tracing::level_filters::LevelFilter::OFF
        {
            self.list.push(event());
        }
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds later events.
    #[cfg(feature = "tracing")]
    pub(crate) fn append(&mut self, mut later: Self) {
        self.list.append(&mut later.list);
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn into_list(self) -> Vec<Event> {
        self.list
    }
}
