//! A set over the channels of tokio.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use futures::{Sink, StreamExt};
use futures_pinger::{Config, Frame, Member, PingerSet, TokioTimer};
use tokio::time::{advance, timeout};
use tokio_util::sync::PollSender;

use crate::{ms, s};

/// The task that answers a member's pings.
type Peer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gives a member's peer the member.
type Serve = Box<dyn FnOnce(Member) -> Peer>;

/// How many of 1000 live members are condemned within 5 s, while another task of the same thread
/// computes for 200 ms at a time.
async fn false_verdicts<Si>(connect: fn() -> (Si, Serve)) -> usize
where
    Si: Sink<Frame> + Unpin + Send + 'static,
    Si::Error: Debug + Send,
{
    let config = Config::builder().interval(s(1)).timeout(s(1)).build();
    let set = PingerSet::new(config.expect("valid"));
    for _ in 0..1000 {
        let (sink, serve) = connect();
        tokio::spawn(serve(set.insert(sink)));
    }
    // Time passes here alone: there is always a task that can run.
    let computes = tokio::spawn(async {
        loop {
            advance(ms(200)).await;
        }
    });
    let mut set = set.with_timer(TokioTimer::new());
    // The set has a task of its own, with a budget of its own.
    let verdicts = tokio::spawn(async move {
        let mut verdicts = 0;
        let _ = timeout(s(5), async {
            while set.next().await.is_some() {
                verdicts += 1;
            }
        })
        .await;
        verdicts
    });
    let verdicts = verdicts.await.expect("no panic");
    computes.abort();
    verdicts
}

/// A gateway on tokio gives each member of a set the bounded channel of its writer. A task of tokio
/// may do 128 operations on such channels in a poll, then they all say `Pending`: the set takes that
/// for a peer that does not read, and condemns live peers by the hundred while the machine is busy.
/// Channels of another crate, which know of no budget, show that all peers are live.
// will change with Q108
#[tokio::test(start_paused = true)]
async fn a_busy_runtime_condemns_live_members_over_channels_of_tokio() {
    let of_tokio = false_verdicts(|| {
        let (sender, mut frames) = tokio::sync::mpsc::channel::<Frame>(2);
        let serve = |member: Member| -> Peer {
            Box::pin(async move {
                while let Some(frame) = frames.recv().await {
                    if let Frame::Ping(payload) = frame {
                        member.handle_pong(&payload);
                    }
                }
            })
        };
        (PollSender::new(sender), Box::new(serve))
    });
    let of_tokio = of_tokio.await;
    assert!(
        of_tokio > 0,
        "the fault is gone: turn this into a test of Q108"
    );
    let of_futures = false_verdicts(|| {
        let (sender, mut frames) = futures::channel::mpsc::channel::<Frame>(1);
        let serve = |member: Member| -> Peer {
            Box::pin(async move {
                while let Some(frame) = frames.next().await {
                    if let Frame::Ping(payload) = frame {
                        member.handle_pong(&payload);
                    }
                }
            })
        };
        (sender, Box::new(serve))
    });
    assert_eq!(of_futures.await, 0, "of {of_tokio} over tokio's channels");
}
