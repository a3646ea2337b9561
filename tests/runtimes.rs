//! One suite on every runtime, in real time: a peer answers three pings and then falls silent.
//!
//! A slow machine makes these tests slower and never red: what is early is judged exactly, what is
//! late only by [`GUARD`].

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::channel::mpsc as queue;
use futures::{SinkExt, StreamExt, future, join};
use futures_pinger::{
    AsyncIoTimer, Clock, CloseReason, Config, Error, Frame, FuturesTimer, Instant, Stopped,
    TimedOut, TimeoutPhase, Timer, TokioTimer, from_fn, pinger,
};

/// What hangs fails after this long.
const GUARD: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(30);
const TIMEOUT: Duration = Duration::from_millis(80);
const ANSWERS: usize = 3;

/// Runs it on a thread of its own, and does not wait for ever.
fn bounded<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, outcome) = mpsc::channel();
    let thread = thread::spawn(move || {
        // Nobody listens once the guard has fired.
        let _ = done.send(run());
    });
    match outcome.recv_timeout(GUARD) {
        Ok(returned) => returned,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {GUARD:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panicked) => std::panic::resume_unwind(panicked),
            Ok(()) => unreachable!("it sends before it returns"),
        },
    }
}

/// How a heartbeat ended, and when by the system's clock.
type Ended<E> = (Result<Stopped, Error<E>>, Instant);
/// Each frame, and when the peer took it.
type Received = Vec<(Frame, Instant)>;

fn config() -> Config {
    Config::builder()
        .interval(INTERVAL)
        .timeout(TIMEOUT)
        // A peer that runs late must not turn the verdict into another.
        .write_timeout(GUARD)
        .close_timeout(GUARD)
        .build()
        .expect("valid")
}

/// The heartbeat, and the peer that it talks to: two futures to be run side by side, in one task or
/// in two. Nothing of them has been polled.
fn heartbeat_and_peer<T: Timer>(
    timer: T,
) -> (
    impl Future<Output = Ended<queue::SendError>>,
    impl Future<Output = Received>,
) {
    let (outgoing, mut frames) = queue::channel(0);
    let (pongs, pinger) = pinger(outgoing, config());
    let pinger = pinger.with_timer(timer);
    let heartbeat = async move {
        let ended = pinger.await;
        (ended, Clock::system().now())
    };
    let peer = async move {
        let mut received = Vec::new();
        while let Some(frame) = frames.next().await {
            let now = Clock::system().now();
            if let (Frame::Ping(payload), true) = (&frame, received.len() < ANSWERS) {
                pongs.handle_pong(payload).expect("the heartbeat runs");
            }
            received.push((frame, now));
        }
        received
    };
    (heartbeat, peer)
}

/// The same for a runtime that spawns: both can be sent to any thread and borrow nothing.
fn sendable<T: Timer + Send + 'static>(
    timer: T,
) -> (
    impl Future<Output = Ended<queue::SendError>> + Send + 'static,
    impl Future<Output = Received> + Send + 'static,
) {
    heartbeat_and_peer(timer)
}

/// Three cycles are answered; then the verdict falls, not too early, and a close frame is sent.
fn check(start: Instant, (ended, at): Ended<queue::SendError>, received: &Received) {
    let verdict = timed_out(ended);
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert_eq!(verdict.answered(), ANSWERS as u64);
    assert_eq!(verdict.missed(), 1);
    assert!(verdict.last_rtt().is_some(), "{verdict}");
    assert!(verdict.elapsed() >= TIMEOUT, "{verdict}");
    assert!(verdict.close_sent(), "{verdict}");

    let [pings @ .., (close, _)] = &received[..] else {
        panic!("no frame at all");
    };
    assert_eq!(*close, Frame::Close(CloseReason::ping_timeout()));
    assert_eq!(pings.len(), ANSWERS + 1);
    let mut payloads = Vec::new();
    for ((frame, taken), due) in pings.iter().zip(1..) {
        let Frame::Ping(payload) = frame else {
            panic!("not a ping: {frame:?}");
        };
        assert!(*taken - start >= due * INTERVAL, "ping {due} was early");
        assert!(!payloads.contains(payload), "the peer saw it before");
        payloads.push(payload.clone());
    }
    // What the peer took is not flushed before.
    let (_, last_taken) = pings[ANSWERS];
    assert!(at - last_taken >= TIMEOUT, "the verdict was early");
}

fn timed_out<E: std::fmt::Debug>(ended: Result<Stopped, Error<E>>) -> TimedOut {
    match ended {
        Err(Error::Timeout(verdict)) => verdict,
        other => panic!("no verdict: {other:?}"),
    }
}

/// Runs both in one task of an executor that spawns nothing.
fn in_one_task<T: Timer + Send + 'static>(
    timer: T,
    block_on: impl FnOnce(
        future::BoxFuture<'static, (Ended<queue::SendError>, Received)>,
    ) -> (Ended<queue::SendError>, Received)
    + Send
    + 'static,
) {
    bounded(move || {
        let (heartbeat, peer) = sendable(timer);
        let start = Clock::system().now();
        let (ended, received) = block_on(Box::pin(future::join(heartbeat, peer)));
        check(start, ended, &received);
    });
}

/// Runs each in a task of its own. They are made before the runtime is entered.
fn on_tokio<T: Timer + Send + 'static>(mut builder: tokio::runtime::Builder, timer: T) {
    bounded(move || {
        let (heartbeat, peer) = sendable(timer);
        let start = Clock::system().now();
        let runtime = builder.enable_time().build().expect("a runtime");
        let (ended, received) = runtime.block_on(async {
            let (heartbeat, peer) = (tokio::spawn(heartbeat), tokio::spawn(peer));
            (heartbeat.await.expect("ended"), peer.await.expect("ended"))
        });
        check(start, ended, &received);
    });
}

fn current_thread() -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_current_thread()
}

fn multi_thread() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2);
    builder
}

fn on_smol<T: Timer + Send + 'static>(timer: T) {
    bounded(move || {
        let (heartbeat, peer) = sendable(timer);
        let start = Clock::system().now();
        let (heartbeat, peer) = (smol::spawn(heartbeat), smol::spawn(peer));
        let (ended, received) = smol::block_on(async { join!(heartbeat, peer) });
        check(start, ended, &received);
    });
}

fn on_async_std<T: Timer + Send + 'static>(timer: T) {
    bounded(move || {
        let (heartbeat, peer) = sendable(timer);
        let start = Clock::system().now();
        let heartbeat = async_std::task::spawn(heartbeat);
        let peer = async_std::task::spawn(peer);
        let (ended, received) = async_std::task::block_on(async { join!(heartbeat, peer) });
        check(start, ended, &received);
    });
}

/// The smallest executor there is: it polls when woken, and sleeps until then.
fn hand_written_block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // May return for no reason: then the poll is one too many, and does no harm.
        thread::park();
    }
}

// contract: K69
#[test]
fn lives_and_dies_on_tokio_current_thread() {
    on_tokio(current_thread(), TokioTimer::new());
}

// contract: K69
#[test]
fn lives_and_dies_on_tokio_multi_thread() {
    on_tokio(multi_thread(), TokioTimer::new());
}

// contract: K69
#[test]
fn lives_and_dies_on_tokio_with_a_function_that_sleeps() {
    on_tokio(current_thread(), from_fn(tokio::time::sleep));
    on_tokio(multi_thread(), from_fn(tokio::time::sleep));
}

// contract: K69
#[test]
fn lives_and_dies_on_tokio_with_the_timer_of_no_runtime() {
    on_tokio(current_thread(), FuturesTimer::new());
    on_tokio(multi_thread(), FuturesTimer::new());
}

// contract: K69
#[test]
fn lives_and_dies_on_smol() {
    on_smol(AsyncIoTimer::new());
}

// contract: K69
#[test]
fn lives_and_dies_on_smol_with_a_function_that_sleeps() {
    on_smol(from_fn(smol::Timer::after));
}

// contract: K69
#[test]
fn lives_and_dies_on_async_std() {
    on_async_std(AsyncIoTimer::new());
}

// contract: K69
#[test]
fn lives_and_dies_on_async_std_with_a_function_that_sleeps() {
    on_async_std(from_fn(async_std::task::sleep));
}

// contract: K69
#[test]
fn lives_and_dies_on_the_executor_of_futures() {
    in_one_task(FuturesTimer::new(), futures::executor::block_on);
}

// contract: K69
#[test]
fn lives_and_dies_on_two_threads_of_the_executor_of_futures() {
    bounded(|| {
        let (heartbeat, peer) = sendable(FuturesTimer::new());
        let start = Clock::system().now();
        let peer = thread::spawn(|| futures::executor::block_on(peer));
        let ended = futures::executor::block_on(heartbeat);
        check(start, ended, &peer.join().expect("ended"));
    });
}

// contract: K69
#[test]
fn lives_and_dies_on_a_hand_written_block_on() {
    in_one_task(FuturesTimer::new(), hand_written_block_on);
}

// contract: K69
#[test]
fn lives_and_dies_on_two_threads_of_a_hand_written_block_on() {
    bounded(|| {
        let (heartbeat, peer) = sendable(FuturesTimer::new());
        let start = Clock::system().now();
        let peer = thread::spawn(|| hand_written_block_on(peer));
        let ended = hand_written_block_on(heartbeat);
        check(start, ended, &peer.join().expect("ended"));
    });
}

/// A heartbeat of 20 s + 20 s against a peer that takes each frame at once and answers none: when
/// its ping left and when its verdict fell, both from the start on.
async fn silent_peer<T: Timer>(timer: T, config: Config) -> (Duration, Duration) {
    let (outgoing, mut frames) = queue::channel(0);
    let (pongs, pinger) = pinger(outgoing, config);
    let start = tokio::time::Instant::now();
    let heartbeat = async {
        let verdict = timed_out(pinger.with_timer(timer).await);
        assert_eq!(verdict.phase(), TimeoutPhase::Pong);
        assert!(verdict.close_sent(), "{verdict}");
        start.elapsed()
    };
    let peer = async {
        let ping = frames.next().await;
        assert!(matches!(ping, Some(Frame::Ping(_))), "{ping:?}");
        let pinged = start.elapsed();
        let close = frames.next().await;
        assert_eq!(close, Some(Frame::Close(CloseReason::ping_timeout())));
        assert_eq!(frames.next().await, None);
        pinged
    };
    let (verdict, pinged) = join!(heartbeat, peer);
    drop(pongs);
    (pinged, verdict)
}

const TWENTY: Duration = Duration::from_secs(20);

// contract: K70
#[tokio::test(start_paused = true)]
async fn the_verdict_falls_at_exactly_40_s_of_paused_time() {
    let exact = Config::builder()
        .interval(TWENTY)
        .timeout(TWENTY)
        .granularity(Duration::ZERO);
    let times = silent_peer(TokioTimer::new(), exact.build().expect("valid")).await;
    assert_eq!(times, (TWENTY, 2 * TWENTY));
}

// contract: K70
#[tokio::test(start_paused = true)]
async fn a_sleep_function_with_the_paused_clock_is_as_exact() {
    let exact = Config::builder()
        .interval(TWENTY)
        .timeout(TWENTY)
        .granularity(Duration::ZERO);
    let clock = Clock::new(|| tokio::time::Instant::now().into_std());
    let timer = from_fn(tokio::time::sleep).with_clock(clock);
    let times = silent_peer(timer, exact.build().expect("valid")).await;
    assert_eq!(times, (TWENTY, 2 * TWENTY));
}

// contract: K70
#[tokio::test(start_paused = true)]
async fn each_wake_in_paused_time_adds_at_most_one_step_and_none_is_early() {
    let builder = Config::builder().interval(TWENTY).timeout(TWENTY);
    let config = builder.build().expect("valid");
    // The step, and what tokio's own timers add: they count in milliseconds, and paused time jumps
    // by whole ones.
    let step = config.granularity() + Duration::from_millis(2);
    // The grid is the process's: where a heartbeat starts between two points of it is chance.
    for micros in (0..40_000).step_by(777) {
        tokio::time::advance(Duration::from_micros(micros)).await;
        let (pinged, verdict) = silent_peer(TokioTimer::new(), config.clone()).await;
        assert!(pinged >= TWENTY, "the ping was early: {pinged:?}");
        assert!(pinged <= TWENTY + step, "the ping was late: {pinged:?}");
        let waited = verdict.saturating_sub(pinged);
        assert!(waited >= TWENTY, "the verdict was early: {waited:?}");
        assert!(waited <= TWENTY + step, "the verdict was late: {waited:?}");
    }
}

/// Makes a heartbeat where there is no runtime, runs it to its end inside of one, and takes it out
/// again to be dropped.
fn built_outside<T: Timer + Send + 'static>(
    timer: T,
    run: impl FnOnce(future::BoxFuture<'static, ()>) + Send + 'static,
) {
    bounded(move || {
        let config = Config::builder().initial_delay(INTERVAL).timeout(TIMEOUT);
        let config = config.write_timeout(GUARD).close_timeout(GUARD);
        let (outgoing, mut frames) = queue::channel(2);
        let (pongs, pinger) = pinger(outgoing, config.build().expect("valid"));
        let mut pinger = Box::pin(pinger.with_timer(timer));
        let (taken_out, outside) = mpsc::channel();
        run(Box::pin(async move {
            let verdict = timed_out(pinger.as_mut().await);
            assert_eq!(verdict.phase(), TimeoutPhase::Pong);
            taken_out.send(pinger).expect("the test runs");
        }));
        drop(outside.recv().expect("it ended"));
        drop(pongs);
        let frames = futures::executor::block_on(async {
            [
                frames.next().await,
                frames.next().await,
                frames.next().await,
            ]
        });
        assert!(
            matches!(frames, [Some(Frame::Ping(_)), Some(Frame::Close(_)), None]),
            "{frames:?}"
        );
    });
}

// contract: K71
#[test]
fn built_outside_of_tokio_it_runs_inside() {
    let inside = |mut builder: tokio::runtime::Builder| {
        move |heartbeat| {
            let runtime = builder.enable_time().build().expect("a runtime");
            runtime.block_on(heartbeat);
        }
    };
    built_outside(TokioTimer::new(), inside(current_thread()));
    built_outside(TokioTimer::new(), inside(multi_thread()));
    built_outside(from_fn(tokio::time::sleep), inside(current_thread()));
    built_outside(FuturesTimer::new(), inside(current_thread()));
    built_outside(AsyncIoTimer::new(), inside(current_thread()));
}

// contract: K71
#[test]
fn built_outside_of_smol_and_async_std_it_runs_inside() {
    built_outside(AsyncIoTimer::new(), smol::block_on);
    built_outside(from_fn(smol::Timer::after), smol::block_on);
    built_outside(FuturesTimer::new(), smol::block_on);
    built_outside(AsyncIoTimer::new(), async_std::task::block_on);
    built_outside(from_fn(async_std::task::sleep), async_std::task::block_on);
}

// contract: K71
#[test]
fn built_anywhere_it_runs_where_there_is_no_runtime() {
    built_outside(FuturesTimer::new(), futures::executor::block_on);
    built_outside(FuturesTimer::new(), hand_written_block_on);
    built_outside(AsyncIoTimer::new(), hand_written_block_on);
}

// contract: K71
#[test]
fn a_heartbeat_that_was_never_polled_is_dropped_outside_of_any_runtime() {
    fn unpolled<T: Timer>(timer: T) {
        let (outgoing, mut frames) = queue::channel::<Frame>(1);
        let (pongs, pinger) = pinger(outgoing, config());
        drop(pinger.with_timer(timer));
        assert!(pongs.is_closed());
        assert_eq!(futures::executor::block_on(frames.next()), None);
    }

    unpolled(FuturesTimer::new());
    unpolled(TokioTimer::new());
    unpolled(AsyncIoTimer::new());
    unpolled(from_fn(tokio::time::sleep));
    unpolled(from_fn(smol::Timer::after));
    unpolled(from_fn(async_std::task::sleep));
}

// contract: K69
#[test]
fn a_heartbeat_is_send_where_its_parts_are() {
    fn send<T: Timer + Send + 'static>(timer: T) {
        fn is_send<F: Future + Send + 'static>(_: &F) {}

        let (outgoing, _frames) = queue::channel::<Frame>(0);
        let (pongs, pinger) = pinger(outgoing, config());
        let pinger = pinger.with_timer(timer);
        is_send(&pinger);
        let (out, _closes) = queue::channel::<Frame>(0);
        is_send(&pinger.close_to(out));
        drop(pongs);
    }

    send(FuturesTimer::new());
    send(TokioTimer::new());
    send(AsyncIoTimer::new());
    send(from_fn(tokio::time::sleep));
    send(from_fn(smol::Timer::after));
    send(from_fn(async_std::task::sleep));
}

// contract: K69
#[test]
fn a_heartbeat_over_parts_that_are_not_send_runs_in_a_local_set() {
    let (sunk, answered) = bounded(|| {
        let runtime = current_thread().enable_time().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let (outgoing, mut frames) = queue::channel(0);
            let sunk = Rc::new(Cell::new(0));
            let outgoing = outgoing.with({
                let sunk = Rc::clone(&sunk);
                move |frame: Frame| {
                    sunk.set(sunk.get() + 1);
                    future::ready(Ok::<_, queue::SendError>(frame))
                }
            });
            let (pongs, pinger) = pinger(outgoing, config());
            let heartbeat = tokio::task::spawn_local(pinger.with_timer(TokioTimer::new()));
            let peer = async {
                for _ in 0..ANSWERS {
                    let Some(Frame::Ping(payload)) = frames.next().await else {
                        panic!("no ping");
                    };
                    pongs.handle_pong(&payload).expect("the heartbeat runs");
                }
                frames.collect::<Vec<_>>().await
            };
            let (ended, rest) = join!(heartbeat, peer);
            assert!(
                matches!(rest[..], [Frame::Ping(_), Frame::Close(_)]),
                "{rest:?}"
            );
            let verdict = timed_out(ended.expect("it does not panic"));
            (sunk.get(), verdict.answered())
        })
    });
    assert_eq!((sunk, answered), (ANSWERS + 2, ANSWERS as u64));
}
