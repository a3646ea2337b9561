//! What is shared across threads. Under `--cfg futures_pinger_loom` it is loom's, which runs a test
//! in every order that the threads could take.

#[cfg(not(futures_pinger_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool};

#[cfg(futures_pinger_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool};

use std::sync::PoisonError;
use std::task::{Context, Waker};

/// Locks, also after a panic: whatever is behind a mutex of this crate changes by plain stores, of
/// which a panic leaves no half.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts this task's waker where it is to be taken from. The one before is to be dropped without the lock:
/// that can run foreign code.
#[must_use = "to be dropped without the lock"]
pub(crate) fn replace(waker: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match waker {
        Some(known) if known.will_wake(cx.waker()) => None,
        _ => waker.replace(cx.waker().clone()),
    }
}

/// Not under the lock either: a waker may run its task here and now.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
