//! The types of shuttle under the names of loom: `src/sync.rs` has one cfg for both, and shuttle, which has many
//! dependencies, is in no lock file of a user.

pub use shuttle::{sync, thread};
