//! The presets of `futures_pinger::protocols`, in virtual time.

// One crate: what its modules share is their own business.
#![allow(unreachable_pub)]

mod cases;

mod answers;
mod messages;
mod options;
mod proof;
mod stomp;
