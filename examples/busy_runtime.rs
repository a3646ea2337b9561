//! A set of live members in a runtime that is busy: none may be condemned, whatever channel carries the frames.
//!
//! All members share one task, and a runtime may give a task a share of each poll only: tokio lets it do 128
//! operations on its channels, and from then on they say that they are full. Beside it another task computes
//! for so long at a time that the set is polled late.
//!
//! ```text
//! cargo run --release --example busy_runtime -- [RUNTIME] [CHANNEL] [MEMBERS] [BUSY_MS] [TIMEOUT_MS] [TIMEOUTS]
//! ```
//!
//! `RUNTIME` is `tokio` or `smol`, `CHANNEL` is `tokio`, `futures` or `async` (async-channel). It ends with 1 if a
//! member was condemned. With a `BUSY_MS` of 0 nothing else computes, and the CPU time of each ping is told, that
//! of its channel and its peer included.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::{Sink, SinkExt, StreamExt, sink};
use futures_pinger::{
    AsyncIoTimer, Clock, Config, End, Error, Frame, Member, PingerSet, TimeoutPhase, Timer,
    TokioTimer,
};
use tokio_util::sync::PollSender;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Outgoing = Pin<Box<dyn Sink<Frame, Error = Box<dyn StdError + Send + Sync>> + Send>>;

#[derive(Debug, Clone, Copy)]
enum Channel {
    Tokio,
    Futures,
    Async,
}

/// What is run, and for how long.
#[derive(Debug, Clone, Copy)]
struct Load {
    channel: Channel,
    members: usize,
    busy: Duration,
    timeout: Duration,
    time: Duration,
}

/// A connection: the sink of its frames, and a peer that answers each ping.
fn connect(channel: Channel) -> (Outgoing, Box<dyn FnOnce(Member) -> Task + Send>) {
    let answer = |member: &Member, frame: &Frame| {
        if let Frame::Ping(payload) = frame {
            member.handle_pong(payload);
        }
    };
    match channel {
        Channel::Tokio => {
            let (frames, mut peer) = tokio::sync::mpsc::channel::<Frame>(2);
            let peer = Box::new(move |member: Member| {
                let serve = async move {
                    while let Some(frame) = peer.recv().await {
                        answer(&member, &frame);
                    }
                };
                Box::pin(serve) as Task
            });
            let sink = PollSender::new(frames).sink_map_err(Into::into);
            (Box::pin(sink), peer)
        }
        Channel::Futures => {
            let (frames, mut peer) = mpsc::channel::<Frame>(1);
            let peer = Box::new(move |member: Member| {
                let serve = async move {
                    while let Some(frame) = peer.next().await {
                        answer(&member, &frame);
                    }
                };
                Box::pin(serve) as Task
            });
            (Box::pin(frames.sink_map_err(Into::into)), peer)
        }
        Channel::Async => {
            let (frames, peer) = async_channel::bounded::<Frame>(2);
            let peer = Box::new(move |member: Member| {
                let serve = async move {
                    while let Ok(frame) = peer.recv().await {
                        answer(&member, &frame);
                    }
                };
                Box::pin(serve) as Task
            });
            // Its sender is no sink, but has an async function.
            let sink = sink::unfold(frames, |frames, frame| async move {
                frames.send(frame).await?;
                Ok::<_, Box<dyn StdError + Send + Sync>>(frames)
            });
            (Box::pin(sink), peer)
        }
    }
}

/// Computes for a while, again and again, and lets others have their turn in between.
async fn compute(busy: Duration) {
    let clock = Clock::system();
    loop {
        let until = clock.now() + busy;
        while clock.now() < until {
            std::hint::spin_loop();
        }
        wake_at_once().await;
        futures::pending!();
    }
}

/// Wakes the task that polls it.
async fn wake_at_once() {
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::Ready(())
    })
    .await;
}

/// How many of the members were condemned.
async fn run<T: Timer + Unpin>(
    load: Load,
    timer: T,
    limit: impl Future<Output = ()>,
    spawn: impl Fn(Task),
) -> usize {
    let config = Config::builder()
        .interval(load.timeout)
        .timeout(load.timeout);
    let set = PingerSet::new(config.build().expect("valid"));
    let handle = set.handle();
    for _ in 0..load.members {
        let (sink, serve) = connect(load.channel);
        spawn(serve(set.insert(sink)));
    }
    if load.busy > Duration::ZERO {
        spawn(Box::pin(compute(load.busy)));
    }

    let mut set = set.with_timer(timer);
    let mut limit = std::pin::pin!(limit);
    let (mut condemned, mut in_writing) = (0, 0);
    while let Either::Left((departure, _)) = select(set.next(), limit.as_mut()).await {
        let Some(departure) = departure else { break };
        if let End::Failed(Error::Timeout(verdict)) = departure.end {
            if condemned == 0 {
                println!("the first: {verdict}");
            }
            condemned += 1;
            in_writing += usize::from(verdict.phase() == TimeoutPhase::Write);
        }
    }
    let totals = handle.totals();
    println!(
        "{} pings, {} answered; {condemned} of {} live members condemned, {in_writing} of them for a write",
        totals.sent(),
        totals.answered(),
        load.members,
    );
    #[cfg(unix)]
    if load.busy == Duration::ZERO {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(cpu).expect("CPU time is not negative");
        let pings = u32::try_from(totals.sent()).expect("not that many").max(1);
        println!("{:?} of CPU for each ping", cpu / pings);
    }
    condemned
}

fn main() -> Result<ExitCode, Box<dyn StdError>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize, or: &'static str| arguments.get(at).map_or(or, String::as_str);
    let number = |at: usize, or: &'static str| text(at, or).parse::<u64>();
    let timeout = Duration::from_millis(number(4, "1000")?);
    let load = Load {
        channel: match text(1, "tokio") {
            "tokio" => Channel::Tokio,
            "futures" => Channel::Futures,
            "async" => Channel::Async,
            other => return Err(format!("no channel is called {other}").into()),
        },
        members: usize::try_from(number(2, "20000")?)?,
        busy: Duration::from_millis(number(3, "10")?),
        timeout,
        time: timeout * u32::try_from(number(5, "5")?)?,
    };
    println!("{load:?}");
    let condemned = match text(0, "tokio") {
        "tokio" => {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_time().build()?;
            runtime.block_on(async {
                // The set shares the runtime with its peers, and has no task of its own to itself.
                let limit = tokio::task::unconstrained(tokio::time::sleep(load.time));
                let set = run(load, TokioTimer::new(), limit, |task| {
                    drop(tokio::spawn(task));
                });
                tokio::spawn(set).await
            })?
        }
        "smol" => {
            let executor = Arc::new(smol::Executor::new());
            let peers = Arc::clone(&executor);
            let set = executor.spawn(async move {
                let limit = async {
                    smol::Timer::after(load.time).await;
                };
                let spawn = move |task| peers.spawn(task).detach();
                run(load, AsyncIoTimer::new(), limit, spawn).await
            });
            smol::block_on(executor.run(set))
        }
        other => return Err(format!("no runtime is called {other}").into()),
    };
    Ok(ExitCode::from(u8::from(condemned > 0)))
}
