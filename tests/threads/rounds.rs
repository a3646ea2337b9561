//! How many orders are drawn, and what connects the threads.

use std::collections::VecDeque;
use std::time::Duration;

use futures_pinger::{Config, ConfigBuilder};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use shuttle::Runner;
use shuttle::scheduler::{PctScheduler, RandomScheduler};

/// How many orders are drawn from each seed, in each of the two ways.
const ORDERS: usize = 1000;
/// How many seeds there are unless `THREADS_ROUNDS` says so.
const ROUNDS: u64 = 20;

/// Runs `test` in random orders of its threads: orders in which each step is any thread's, and orders in which
/// one thread goes before another until one of a few points, where that changes.
pub(crate) fn check(test: fn()) {
    let rounds = std::env::var("THREADS_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    for seed in 0..rounds {
        let told = Told(seed);
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        config.silence_warnings = true;
        Runner::new(RandomScheduler::new_from_seed(seed, ORDERS), config.clone()).run(test);
        for changes in [3, 8] {
            let orders = PctScheduler::new_from_seed(seed, changes, ORDERS / 2);
            Runner::new(orders, config.clone()).run(test);
        }
        std::mem::forget(told);
    }
}

/// Tells the seed if a test panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("in the orders of seed {}", self.0);
    }
}

pub(crate) fn join_all(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// A queue for threads that wait until there is something in it.
pub(crate) struct Queue<T>(Arc<(Mutex<Queued<T>>, Condvar)>);

struct Queued<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let queued = Queued {
            items: VecDeque::new(),
            is_closed: false,
        };
        Self(Arc::new((Mutex::new(queued), Condvar::new())))
    }

    fn change(&self, change: impl FnOnce(&mut Queued<T>)) {
        let (queued, changed) = &*self.0;
        change(&mut queued.lock().expect("no panic"));
        changed.notify_all();
    }

    pub(crate) fn push(&self, item: T) {
        self.change(|queued| queued.items.push_back(item));
    }

    /// Nothing will be pushed any more.
    pub(crate) fn close(&self) {
        self.change(|queued| queued.is_closed = true);
    }

    /// Waits for the next item. `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let (queued, changed) = &*self.0;
        let mut queued = queued.lock().expect("no panic");
        loop {
            if let Some(item) = queued.items.pop_front() {
                return Some(item);
            }
            if queued.is_closed {
                return None;
            }
            queued = changed.wait(queued).expect("no panic");
        }
    }
}

/// A ping every 15 s, from the first poll on. Where the grid of the process lies is chance, so the pings are on
/// none.
pub(crate) fn at_once() -> ConfigBuilder {
    Config::builder()
        .granularity(Duration::ZERO)
        .initial_delay(Duration::ZERO)
}

pub(crate) fn build(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}
