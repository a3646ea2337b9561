//! Q. The budget that tokio gives a task, over tokio's own channels and in tokio's paused time.

use std::fmt::Debug;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{Config, Frame, KeepAlive, Member, Pinger, PingerSet, Pong, TokioTimer};
use tokio::time::{advance, timeout};
use tokio_util::sync::PollSender;

use crate::every_surface::build;
use crate::socket::{Msg, Plain};
use crate::world::{ms, s};

/// The task that answers a member's pings.
type Peer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gives a member's peer the member.
type Serve = Box<dyn FnOnce(Member) -> Peer>;

/// The peer of a member, which answers each ping in `frames`.
fn peer(frames: impl Stream<Item = Frame> + Send + 'static) -> Serve {
    Box::new(|member| {
        Box::pin(async move {
            let mut frames = pin!(frames);
            while let Some(frame) = frames.next().await {
                if let Frame::Ping(payload) = frame {
                    member.handle_pong(&payload);
                }
            }
        })
    })
}

/// How many of 1000 live members are condemned within 5 s, while another task of the same thread
/// computes for 200 ms at a time.
async fn false_verdicts<Si>(connect: fn() -> (Si, Serve)) -> usize
where
    Si: Sink<Frame> + Unpin + Send + 'static,
    Si::Error: Debug + Send,
{
    let config = Config::builder().interval(s(1)).timeout(s(1));
    let set = PingerSet::new(build(config));
    for _ in 0..1000 {
        let (sink, serve) = connect();
        tokio::spawn(serve(set.insert(sink)));
    }
    // Time passes here alone: there is always a task that can run.
    let computes = compute();
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

// A gateway on tokio gives each member of a set the bounded channel of its writer. The set took the budget
// of its task for peers that do not read, and condemned live peers by the hundred.
// contract: Q108
#[tokio::test(start_paused = true)]
async fn a_busy_runtime_condemns_no_member_over_channels_of_any_crate() {
    let of_tokio = false_verdicts(|| {
        let (sender, mut frames) = tokio::sync::mpsc::channel::<Frame>(2);
        let frames = futures::stream::poll_fn(move |cx| frames.poll_recv(cx));
        (PollSender::new(sender), peer(frames))
    });
    assert_eq!(of_tokio.await, 0, "over tokio's channels");
    let of_futures = false_verdicts(|| {
        let (sender, frames) = futures::channel::mpsc::channel::<Frame>(1);
        (sender, peer(frames))
    });
    assert_eq!(of_futures.await, 0, "over futures' channels");
    let of_async_channel = false_verdicts(|| {
        let (sender, frames) = async_channel::bounded::<Frame>(1);
        let send = |sender: async_channel::Sender<Frame>, frame| async move {
            sender.send(frame).await.map(|()| sender)
        };
        let sink = Box::pin(futures::sink::unfold(sender, send));
        (sink, peer(frames))
    });
    assert_eq!(of_async_channel.await, 0, "over async-channel's");
}

/// A socket of tokio's channels, which share the budget of their task.
struct Channels {
    incoming: tokio::sync::mpsc::Receiver<Msg>,
    outgoing: PollSender<Msg>,
}

impl Stream for Channels {
    type Item = Result<Msg, tokio_util::sync::PollSendError<Msg>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx).map(|message| message.map(Ok))
    }
}

impl Sink<Msg> for Channels {
    type Error = tokio_util::sync::PollSendError<Msg>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.outgoing.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Msg) -> Result<(), Self::Error> {
        self.outgoing.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.outgoing.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.outgoing.poll_close_unpin(cx)
    }
}

/// Lets time pass in steps of 200 ms, as a task does that computes for so long.
fn compute() -> tokio::task::JoinHandle<()> {
    tokio::spawn(async {
        loop {
            advance(ms(200)).await;
        }
    })
}

// contract: Q108
#[tokio::test(start_paused = true)]
async fn a_live_peer_that_floods_a_socket_of_tokio_is_pinged_and_lives() {
    let (to_us, incoming) = tokio::sync::mpsc::channel(1024);
    let (outgoing, mut from_us) = tokio::sync::mpsc::channel(2);
    let outgoing = PollSender::new(outgoing);
    let flood = tokio::spawn({
        let to_us = to_us.clone();
        async move { while to_us.send(Msg::Data(0)).await.is_ok() {} }
    });
    let peer = tokio::spawn(async move {
        while let Some(message) = from_us.recv().await {
            if let Msg::Ping(payload) = message {
                // We may have ended.
                let _ = to_us.send(Msg::Pong(payload)).await;
            }
        }
    });
    let computes = compute();
    let app = tokio::spawn(async move {
        let config = build(Config::builder().interval(s(1)).timeout(s(1)));
        let socket = Channels { incoming, outgoing };
        let mut socket =
            KeepAlive::with_protocol(socket, Plain, config).with_timer(TokioTimer::new());
        let read = timeout(s(60), async {
            loop {
                if let Err(error) = socket.next().await.expect("no end") {
                    break error;
                }
            }
        });
        (read.await.err(), socket.stats())
    });
    let (alive, stats) = app.await.expect("no panic");
    assert!(alive.is_some(), "a verdict");
    assert!(stats.answered() >= 30, "{stats:?}");
    for task in [flood, peer, computes] {
        task.abort();
    }
}

// contract: Q108
#[tokio::test(start_paused = true)]
async fn a_live_peer_whose_strays_flood_a_stream_of_pongs_is_pinged_and_lives() {
    let (to_us, mut pongs) = tokio::sync::mpsc::channel(1024);
    let pongs = futures::stream::poll_fn(move |cx| pongs.poll_recv(cx));
    let (outgoing, mut from_us) = tokio::sync::mpsc::channel(2);
    let flood = tokio::spawn({
        let to_us = to_us.clone();
        async move { while to_us.send(Pong(vec![7; 8].into())).await.is_ok() {} }
    });
    let peer = tokio::spawn(async move {
        while let Some(frame) = from_us.recv().await {
            if let Frame::Ping(payload) = frame {
                // We may have ended.
                let _ = to_us.send(Pong(payload)).await;
            }
        }
    });
    let computes = compute();
    let heartbeat = tokio::spawn(async move {
        let config = build(Config::builder().interval(s(1)).timeout(s(1)));
        let pinger = Pinger::new(PollSender::new(outgoing), pongs, config);
        let mut pinger = pin!(pinger.with_timer(TokioTimer::new()));
        (timeout(s(60), pinger.as_mut()).await.err(), pinger.stats())
    });
    let (alive, stats) = heartbeat.await.expect("no panic");
    assert!(alive.is_some(), "a verdict");
    assert!(stats.answered() >= 30, "{stats:?}");
    for task in [flood, peer, computes] {
        task.abort();
    }
}
