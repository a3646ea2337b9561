//! A sink that refuses a ping, and messages that take long to pass.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::future::{pending, poll_fn};
use futures::{Sink, SinkExt, Stream, StreamExt, poll};
use futures_pinger::{Config, ConfigBuilder, Error, KeepAlive, Liveness, TimeoutPhase, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::Role};

use crate::{config, keep_alive, ms, phase, s};

/// A socket whose sink refuses one ping, and whose peer answers each ping at once.
struct Refusing {
    ready: Arc<AtomicBool>,
    refuse: Arc<AtomicBool>,
    answers: mpsc::UnboundedReceiver<Message>,
    peer: mpsc::UnboundedSender<Message>,
}

impl Stream for Refusing {
    type Item = Result<Message, tungstenite::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.answers
            .poll_next_unpin(cx)
            .map(|answer| answer.map(Ok))
    }
}

impl Sink<Message> for Refusing {
    type Error = tungstenite::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.ready.load(Ordering::Relaxed) {
            Poll::Ready(Ok(()))
        } else {
            // The test polls again.
            Poll::Pending
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        if message.is_ping() && self.refuse.swap(false, Ordering::Relaxed) {
            return Err(tungstenite::Error::WriteBufferFull(Box::new(message)));
        }
        if let Message::Ping(payload) = message {
            let _ = self.peer.unbounded_send(Message::Pong(payload));
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_ready(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// The socket refuses a ping of ours for once (its buffer is full): the heartbeat ends with that,
/// although the socket is fine afterwards.
// will change with O95
#[tokio::test(start_paused = true)]
async fn a_refused_ping_ends_the_heartbeat_of_a_live_peer() {
    let (peer, answers) = mpsc::unbounded();
    let (ready, refuse) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let socket = Refusing {
        ready: Arc::clone(&ready),
        refuse: Arc::clone(&refuse),
        answers,
        peer,
    };
    let mut socket = KeepAlive::new(socket, config(s(1), s(1))).with_timer(TokioTimer::new());
    assert!(poll!(socket.next()).is_pending());
    ready.store(false, Ordering::Relaxed);
    sleep(s(1)).await;
    assert!(
        poll!(socket.next()).is_pending(),
        "the ping waits for the sink"
    );
    ready.store(true, Ordering::Relaxed);
    refuse.store(true, Ordering::Relaxed);

    let writer = poll!(poll_fn(|cx| socket.poll_ready_unpin(cx)));
    assert!(
        matches!(writer, Poll::Ready(Ok(()))),
        "what was refused is not the writer's: {writer:?}"
    );
    let read = timeout(s(30), socket.next()).await;
    assert!(
        matches!(read, Ok(Some(Err(Error::Transport(_))))),
        "the fault is gone: turn this into a test of O95: {read:?}"
    );
    assert_eq!(socket.stats().sent(), 0);
}

/// Passes bytes on at 100 kB/s.
async fn slowly(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 10_000];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        sleep(ms(read as u64 / 100)).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// The peer of a user with a slow line sends one message of 4 MB, which takes 40 s; the pong has to
/// wait behind it. The heartbeat condemns the peer in the middle of the message although bytes flow
/// all the time. Without a meter under the socket this stays so: what changes is the way out.
// will change with O97
#[tokio::test(start_paused = true)]
async fn one_big_message_on_a_slow_line_is_a_false_verdict() {
    let trusting = Liveness::Activity {
        max_unproven: s(120),
    };
    let builders: [fn(ConfigBuilder, Liveness) -> ConfigBuilder; 2] =
        [|strict, _| strict, ConfigBuilder::liveness];
    for builder in builders {
        let config = builder(Config::builder().granularity(s(0)), trusting);
        let (ours, near) = tokio::io::duplex(16 * 1024);
        let (far, theirs) = tokio::io::duplex(16 * 1024);
        let ((near_in, near_out), (far_in, far_out)) =
            (tokio::io::split(near), tokio::io::split(far));
        let line = tokio::spawn(async move {
            tokio::join!(slowly(near_in, far_out), slowly(far_in, near_out));
        });
        let ours = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
        let theirs = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let (mut to_us, mut from_us) = theirs.split();
        let reader = tokio::spawn(async move { while let Some(Ok(_)) = from_us.next().await {} });
        let sender = tokio::spawn(async move {
            sleep(s(15)).await;
            // It fails once we have given the connection up.
            let _ = to_us.send(Message::binary(vec![7; 4_000_000])).await;
            pending::<()>().await;
        });

        let start = Instant::now();
        let mut socket = keep_alive(ours, config.build().expect("valid"));
        let read = timeout(s(200), socket.next()).await;
        let Ok(Some(Err(error))) = read else {
            panic!("the fault is gone: turn this into a test of O97: {read:?}");
        };
        assert_eq!(phase(&error), TimeoutPhase::Pong);
        assert!(start.elapsed() < s(15 + 40), "the message was on its way");
        for task in [line, reader, sender] {
            task.abort();
        }
    }
}
