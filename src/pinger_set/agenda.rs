//! When the set looks at whom: on the grid by a [`Wheel`], exactly by a sorted queue.

use std::collections::BTreeSet;

use super::wheel::Wheel;
use crate::grid::{Grid, Ticks};
use crate::time::{Span, Time};

/// A wheel of a finer grid would not reach ahead as far as pings are apart, and be looked at in vain.
const FINEST: Span = Span::nanos(1_000);

#[derive(Debug)]
pub(super) enum Agenda {
    /// Looks are rounded up to the grid, and many members share one.
    Grid { wheel: Wheel, ticks: Ticks },
    /// Without a granularity to speak of each has its own instant.
    Exact {
        queue: BTreeSet<(Time, u32)>,
        armed: Vec<Time>,
    },
}

impl Agenda {
    pub(super) fn new(grid: Grid, now: Time) -> Self {
        match grid.ticks() {
            Some(ticks) if grid.step >= FINEST => Self::Grid {
                wheel: Wheel::new(ticks.at_or_before(now)),
                ticks,
            },
            _ => Self::Exact {
                queue: BTreeSet::new(),
                armed: Vec::new(),
            },
        }
    }

    /// `member` is to be looked at when `look` has come.
    pub(super) fn arm(&mut self, member: u32, look: Time) {
        if look == Time::NEVER {
            return self.disarm(member);
        }
        match self {
            Self::Grid { wheel, ticks } => wheel.arm(member, ticks.at_or_after(look)),
            Self::Exact { queue, armed } => {
                let index = member as usize;
                if armed.len() <= index {
                    armed.resize(index + 1, Time::NEVER);
                }
                let before = std::mem::replace(&mut armed[index], look);
                queue.remove(&(before, member));
                queue.insert((look, member));
            }
        }
    }

    pub(super) fn disarm(&mut self, member: u32) {
        match self {
            Self::Grid { wheel, .. } => wheel.disarm(member),
            Self::Exact { queue, armed } => {
                if let Some(armed) = armed.get_mut(member as usize) {
                    let before = std::mem::replace(armed, Time::NEVER);
                    queue.remove(&(before, member));
                }
            }
        }
    }

    /// The next look.
    pub(super) fn next(&self) -> Time {
        let next = match self {
            Self::Grid { wheel, ticks } => wheel.next().map(|tick| ticks.time(tick)),
            Self::Exact { queue, .. } => queue.first().map(|(look, _)| *look),
        };
        next.unwrap_or(Time::NEVER)
    }

    /// A member that is to be looked at by now.
    pub(super) fn expire(&mut self, now: Time) -> Option<u32> {
        match self {
            Self::Grid { wheel, ticks } => wheel.expire(ticks.at_or_before(now)),
            Self::Exact { queue, armed } => {
                let (look, member) = *queue.first()?;
                if look > now {
                    return None;
                }
                queue.pop_first();
                armed[member as usize] = Time::NEVER;
                Some(member)
            }
        }
    }
}
