//! What is shared across threads, in random orders of more threads than loom can take:
//!
//! ```sh
//! RUSTFLAGS="--cfg futures_pinger_loom" cargo test --release --manifest-path tests/threads/Cargo.toml
//! ```
//!
//! `tests/loom.rs` has each order of two or three threads. Here shuttle draws orders of five to nine, from fixed
//! seeds. A lost wake-up is a deadlock, which shuttle reports with the threads that are blocked. Loads and stores
//! are never reordered here: that is what loom is for.
//!
//! A failure tells the seed. `THREADS_ROUNDS=100` draws from 100 seeds instead of 20.
#![cfg(all(test, futures_pinger_loom))]

mod halves;
mod parts;
mod pinger;
mod rounds;
mod set;
mod wire;
