//! The synchronisation types of the crate: the standard library's or, under
//! `--cfg futures_pinger_loom`, loom's, which runs a test in every order that the threads could take.

#[cfg(not(futures_pinger_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8},
};

#[cfg(futures_pinger_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8},
};

pub(crate) use std::sync::Arc;
use std::sync::PoisonError;

/// Locks `mutex` even if it is poisoned: the data behind each mutex of this crate changes by plain
/// stores, so a panic leaves no change half made.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
