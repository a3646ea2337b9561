//! A reader that works on a message for longer than the heartbeat waits.

use std::future::Future;

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, FrameSink, Rfc6455, TimeoutPhase, TokioTimer, pinger};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::{Socket, config, keep_alive, ms, pair, phase, s};

/// The reader of an attached stream works on one message for 90 s: the pongs of the live peer are
/// unread meanwhile, and the peer is condemned at 40 s.
// will change with O130
#[tokio::test(start_paused = true)]
async fn a_long_handler_behind_attach_is_a_false_verdict() {
    let (ours, mut peer) = pair(1 << 20).await;
    let peer = tokio::spawn(async move {
        peer.send(Message::text("job")).await.expect("open");
        while let Some(Ok(_)) = peer.next().await {
            // The answer to a ping is written by a flush.
            let _ = peer.flush().await;
        }
    });
    let (sink, stream) = ours.split();
    let (pongs, pinger) = pinger(FrameSink::new(sink, Rfc6455), Config::default());
    let mut incoming = pongs.attach(stream, Rfc6455);
    let start = Instant::now();
    let reader = async {
        while let Some(Ok(_)) = incoming.next().await {
            sleep(s(90)).await;
        }
    };
    let ended = tokio::select! {
        () = reader => panic!("the socket is open"),
        ended = pinger.with_timer(TokioTimer::new()) => ended,
        () = sleep(s(600)) => panic!("the fault is gone: turn this into a test of O130"),
    };
    assert_eq!(phase(&ended.expect_err("a verdict")), TimeoutPhase::Pong);
    assert!(
        start.elapsed() < s(90),
        "the fault is gone: turn this into a test of O130"
    );
    peer.abort();
}

/// Stands in for the method of that name until a `KeepAlive` has one, which then is the one that is
/// called: this one waits for the work and does nothing else.
trait RunWhile {
    async fn run_while<F: Future>(&mut self, work: F) -> F::Output;
}

impl RunWhile for Socket {
    async fn run_while<F: Future>(&mut self, work: F) -> F::Output {
        work.await
    }
}

/// A handler makes a call of 3 s to a database while its socket has an interval of 0.5 s. No ping
/// leaves meanwhile, no pong is sent, and a client with a heartbeat of its own hangs up.
// will change with O91
#[tokio::test(start_paused = true)]
async fn no_ping_leaves_during_a_long_handler_and_the_client_hangs_up() {
    let (ours, theirs) = pair(4096).await;
    let mut socket = keep_alive(ours, config(ms(500), ms(500)));
    let mut client = keep_alive(theirs, config(ms(500), ms(500)));
    client.send(Message::text("query")).await.expect("open");

    let server = async {
        let query = socket.next().await.expect("open").expect("a message");
        assert!(query.is_text());
        let _ = socket.run_while(sleep(s(3))).await;
        socket.stats().sent()
    };
    let client = async {
        let start = Instant::now();
        (client.next().await, start.elapsed())
    };
    let (pings, (end, at)) = tokio::join!(server, client);
    assert_eq!(pings, 0, "the fault is gone: turn this into a test of O91");
    let end = end.expect("no end").expect_err("no message");
    assert_eq!(phase(&end), TimeoutPhase::Pong);
    assert!(at <= s(2));
}
