//! The executors and their timers.

use std::future::Future;
use std::thread;

use futures::executor::block_on;
use futures::future::pending;
use futures_pinger::{AsyncIoTimer, FuturesTimer, Timer, TokioTimer};
use smol::Executor;

/// What tasks run on. Its threads run until the process ends.
pub(crate) trait Runtime: Copy + Send + Sync + 'static {
    type Timer: Timer + Unpin + Send + 'static;

    fn start(threads: usize) -> Self;
    fn spawn<F: Future<Output: Send> + Send + 'static>(self, task: F);
    fn timer() -> Self::Timer;
}

#[derive(Clone, Copy)]
pub(crate) struct Tokio(pub(crate) &'static tokio::runtime::Runtime);

impl Runtime for Tokio {
    type Timer = TokioTimer;

    fn start(threads: usize) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).enable_time().build();
        Self(Box::leak(Box::new(runtime.expect("there are threads"))))
    }

    fn spawn<F: Future<Output: Send> + Send + 'static>(self, task: F) {
        drop(self.0.spawn(task));
    }

    fn timer() -> TokioTimer {
        TokioTimer::new()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Smol(&'static Executor<'static>);

impl Runtime for Smol {
    type Timer = AsyncIoTimer;

    fn start(threads: usize) -> Self {
        Self(run(threads, |executor| {
            smol::block_on(executor.run(pending::<()>()));
        }))
    }

    fn spawn<F: Future<Output: Send> + Send + 'static>(self, task: F) {
        self.0.spawn(task).detach();
    }

    fn timer() -> AsyncIoTimer {
        AsyncIoTimer::new()
    }
}

/// smol's executor without its reactor.
#[derive(Clone, Copy)]
pub(crate) struct Plain(&'static Executor<'static>);

impl Runtime for Plain {
    type Timer = FuturesTimer;

    fn start(threads: usize) -> Self {
        Self(run(threads, |executor| {
            block_on(executor.run(pending::<()>()));
        }))
    }

    fn spawn<F: Future<Output: Send> + Send + 'static>(self, task: F) {
        self.0.spawn(task).detach();
    }

    fn timer() -> FuturesTimer {
        FuturesTimer::new()
    }
}

fn run(threads: usize, run: fn(&'static Executor<'static>)) -> &'static Executor<'static> {
    let executor: &'static Executor<'static> = Box::leak(Box::new(Executor::new()));
    for _ in 0..threads {
        thread::spawn(move || run(executor));
    }
    executor
}
