//! The behaviour contract, section by section, in virtual time.
//!
//! Each test cites the lines that it proves. `world` is the harness; `every_surface`, `hooks` and `dial` are
//! what the tests of section R have in common.

// One crate: what its modules share is their own business.
#![allow(unreachable_pub)]
// Times here are made up, and small.
#![allow(clippy::unchecked_time_subtraction, clippy::cast_possible_truncation)]

mod dial;
mod every_surface;
mod gateway;
mod gateway_configs;
mod hooks;
mod world;

mod adaptive;
mod any_pong;
mod attach;
mod away;
mod bare;
mod between_halves;
mod bounds;
mod budget;
mod budget_of_tokio;
mod clocks;
mod close;
mod closing;
mod control;
mod controller;
mod data_only;
mod deadlines;
mod driver;
mod either_half;
mod figures;
mod first_pings;
mod floods;
mod foreign_code;
mod frame_sink;
mod keep_alive;
mod latest;
mod liveness;
mod lookahead;
mod mass_verdicts;
mod meter;
mod orders;
mod pipe;
mod ponger;
mod probe;
mod protocols;
mod refused;
mod run_while;
mod schedule;
mod set;
mod set_churn;
mod set_panics;
mod slow_app;
mod socket;
mod split;
mod stalls;
mod surface;
mod suspend;
mod verification;
mod wakeups;
mod watch;
mod write_path;
