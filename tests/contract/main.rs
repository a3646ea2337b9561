//! The behaviour contract, section by section, in virtual time.
//!
//! Each test cites the lines that it proves. `world` is the harness.

// One crate: what its modules share is their own business.
#![allow(unreachable_pub)]
// Times here are made up, and small.
#![allow(clippy::unchecked_time_subtraction, clippy::cast_possible_truncation)]

mod world;

mod adaptive;
mod attach;
mod bare;
mod bounds;
mod close;
mod control;
mod controller;
mod deadlines;
mod floods;
mod keep_alive;
mod one_heartbeat;
mod ponger;
mod schedule;
mod set;
mod socket;
mod stalls;
mod surface;
mod verification;
mod wakeups;
mod write_path;
