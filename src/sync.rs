//! What is shared across threads. Under `--cfg futures_pinger_loom` it is loom's, which runs a test
//! in every order that the threads could take.

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

/// Locks, also after a panic: whatever is behind a mutex of this crate changes by plain stores, of
/// which a panic leaves no half.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
