//! Which member the set must look at when: on the grid by a [`Wheel`], to the nanosecond by a sorted queue.

use std::collections::BTreeSet;

use super::wheel::Wheel;
use crate::grid::{Grid, Ticks};
use crate::time::{Span, Time};

/// The finest step of a wheel. With a finer step the wheel would not reach ahead as far as pings are apart, and
/// members would be looked at in vain.
const FINEST: Span = Span::nanos(1_000);

#[derive(Debug)]
pub(super) enum DueQueue {
    /// Times are rounded up to the grid, so that many members share a wake-up.
    Grid { wheel: Wheel, ticks: Ticks },
    /// With a granularity of zero, or nearly so, each member has its own time.
    Exact {
        queue: BTreeSet<(Time, u32)>,
        armed: Vec<Time>,
    },
}

impl DueQueue {
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

    /// Puts `member` into the queue, to be looked at when `look` has come, in place of the time before.
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

    /// When the next member must be looked at; [`Time::NEVER`] if there is none.
    pub(super) fn next(&self) -> Time {
        let next = match self {
            Self::Grid { wheel, ticks } => wheel.next().map(|tick| ticks.time(tick)),
            Self::Exact { queue, .. } => queue.first().map(|(look, _)| *look),
        };
        next.unwrap_or(Time::NEVER)
    }

    /// Takes a member that must be looked at by `now` out of the queue.
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
