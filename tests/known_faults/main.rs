//! Known faults of this version: situations in which the crate does not do what its users expect.
//!
//! Each test asserts the fault as it is today, so each turns red when the fault is gone. Whoever
//! repairs a fault turns its test into a test of the line of the contract that the comment above it
//! names, in `tests/contract`. These comments are no citations: a fault proves no promise.

mod set;

use std::time::Duration;

/// Whole seconds.
pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
