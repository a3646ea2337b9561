//! Peers whose pongs carry no payload.

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Frame, KeepAlive, Kind, Liveness, Protocol, TokioTimer};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{pair, s};

/// Pings and pongs as texts, as many servers of JSON have them.
struct Texts;

impl Protocol<Message> for Texts {
    fn encode(&self, frame: Frame) -> Message {
        match frame {
            Frame::Ping(_) => Message::text("ping"),
            Frame::Pong(_) => Message::text("pong"),
            Frame::Close(_) => Message::Close(None),
        }
    }

    fn classify<'m>(&self, message: &'m Message) -> Kind<'m> {
        match message {
            Message::Text(text) if text.as_str() == "pong" => Kind::Pong(&[]),
            Message::Close(_) => Kind::Close,
            _ => Kind::Data,
        }
    }
}

/// Whether a live peer was condemned, and how many of its pongs reached the application. The peer
/// answers each ping; a busy one also sends data each second.
async fn live(liveness: Liveness, busy: bool) -> (bool, usize) {
    let (ours, theirs) = pair(1 << 16).await;
    let peer = tokio::spawn(async move {
        let (mut sink, mut stream) = theirs.split();
        let mut ticks = tokio::time::interval(s(1));
        loop {
            let sent = tokio::select! {
                _ = ticks.tick(), if busy => sink.send(Message::text("data")).await,
                message = stream.next() => match message {
                    Some(Ok(Message::Text(_))) => sink.send(Message::text("pong")).await,
                    Some(Ok(_)) => Ok(()),
                    _ => return,
                },
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let config = Config::builder().interval(s(10)).timeout(s(10));
    let config = config.liveness(liveness).build().expect("valid");
    let socket = KeepAlive::new(ours, config).with_protocol(Texts);
    let mut socket = socket.with_timer(TokioTimer::new());
    let mut pongs = 0;
    let condemned = timeout(s(600), async {
        while let Some(Ok(message)) = socket.next().await {
            pongs += usize::from(message == Message::text("pong"));
        }
    });
    let condemned = condemned.await.is_ok();
    peer.abort();
    (condemned, pongs)
}

/// The peer of a user answers each ping in JSON, where a pong has no place for our payload. It is
/// condemned under `Pong`, and under `Activity` as soon as a proof is wanted; and its pongs reach the
/// application. `AnyPong` alone does what is expected.
// will change with P102
#[tokio::test(start_paused = true)]
async fn a_live_peer_whose_pongs_have_no_payload_is_condemned() {
    let unproven = |max_unproven| Liveness::Activity { max_unproven };
    for busy in [false, true] {
        let (condemned, pongs) = live(Liveness::Pong, busy).await;
        assert!(
            condemned && pongs > 0,
            "the fault is gone: turn this into a test of P102"
        );
        let (condemned, _) = live(unproven(s(30)), busy).await;
        assert!(
            condemned,
            "the fault is gone: turn this into a test of P102"
        );
        let (condemned, pongs) = live(Liveness::AnyPong, busy).await;
        assert_eq!((condemned, pongs), (false, 0));
    }
    let (condemned, pongs) = live(unproven(std::time::Duration::MAX), false).await;
    assert!(
        !condemned && pongs > 0,
        "the fault is gone: turn this into a test of P102"
    );
}
