//! The items that a scripted stream yields, and when it returns `Pending`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::time::{lock, wake};

type Source<T> = Arc<Mutex<dyn FnMut() -> T + Send>>;

/// The state that a scripted stream and its script share.
pub(super) struct Incoming<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    queue: VecDeque<T>,
    ended: bool,
    /// The source of an endless flood behind the queue.
    endless: Option<Source<T>>,
    /// After how many items the stream yields, as if the task had had its share.
    budget: Option<usize>,
    /// How many items were read since the last yield.
    spent: usize,
    read: usize,
    held: bool,
    waker: Option<Waker>,
}

impl<T> Incoming<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            queue: VecDeque::new(),
            ended: false,
            endless: None,
            budget: None,
            spent: 0,
            read: 0,
            held: true,
            waker: None,
        })))
    }

    /// Changes something, and wakes the reader for it.
    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        let waker = {
            let mut state = lock(&self.0);
            change(&mut state);
            state.waker.take()
        };
        wake(waker);
    }

    pub(super) fn push(&self, item: T) {
        self.change(|state| state.queue.push_back(item));
    }

    pub(super) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    pub(super) fn flood(&self, source: impl FnMut() -> T + Send + 'static) {
        let source: Source<T> = Arc::new(Mutex::new(source));
        let mut old = None;
        self.change(|state| old = state.endless.replace(source));
        drop(old);
    }

    pub(super) fn budget(&self, items: usize) {
        lock(&self.0).budget = Some(items);
    }

    pub(super) fn read(&self) -> usize {
        lock(&self.0).read
    }

    pub(super) fn is_held(&self) -> bool {
        lock(&self.0).held
    }

    pub(super) fn release(&self) {
        let waker = {
            let mut state = lock(&self.0);
            state.held = false;
            state.waker.take()
        };
        drop(waker);
    }

    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0);
        if state.budget.is_some_and(|budget| state.spent >= budget) {
            state.spent = 0;
            drop(state);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(item) = state.queue.pop_front() {
            state.read += 1;
            state.spent += 1;
            return Poll::Ready(Some(item));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if let Some(source) = state.endless.clone() {
            state.read += 1;
            state.spent += 1;
            drop(state);
            return Poll::Ready(Some(lock(&source)()));
        }
        // Pending: the script wakes the task when it adds something.
        let old = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> Clone for Incoming<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
