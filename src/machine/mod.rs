//! The state machine of one heartbeat: every transition, and nothing that waits.
//!
//! | File | Holds |
//! |---|---|
//! | `machine` | every transition |
//! | `questions` | what the record says, and what follows of it |
//! | `record` | the state of one heartbeat, field by field |
//! | `schedule` | when the next ping is due: pure functions |
//! | `deadline` | one deadline and its grace for local stalls |
//! | `progress` | which deadlines are extended by bytes that move |
//! | `proof` | the key, the payload, and which pong proves what |
//! | `turn` | what a driver is to do next |
//! | `event` | the events for the subscribers of `tracing` |

mod deadline;
mod event;
// The main file of a floor has the name of the floor.
#[allow(clippy::module_inception)]
mod machine;
mod progress;
mod proof;
mod questions;
mod record;
mod schedule;
mod turn;

pub(crate) use self::deadline::{Check, Deadline, slack};
#[cfg(feature = "tracing")]
pub(crate) use self::event::Event;
pub(crate) use self::event::Events;
pub use self::machine::{BACKLOG_LIMIT, Destination, PongKind, Verdict};
pub(crate) use self::machine::{Machine, Terms};
pub(crate) use self::proof::Key;
pub(crate) use self::questions::{Heeded, Standing, Trouble};
pub(crate) use self::record::{Handshake, Record};
pub(crate) use self::turn::{Input, SinkState, Step, Turn};
