//! Messages that take long to pass.

use futures::future::pending;
use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, ConfigBuilder, Liveness, TimeoutPhase};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use crate::{keep_alive, ms, phase, s};

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
