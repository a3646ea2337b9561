//! P102. Answers that carry nothing.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::protocols::Json;
use futures_pinger::{Config, KeepAlive, Liveness, TokioTimer};
use tokio_tungstenite::WebSocketStream;
use tungstenite_0_30::Message;
use tungstenite_0_30::protocol::Role;

use crate::cases::{DAY, Run, SURFACES, exact, s, trusted};

const LIVENESSES: [Liveness; 6] = [
    Liveness::Pong,
    Liveness::AnyPong,
    Liveness::Activity {
        max_unproven: Duration::from_secs(30),
    },
    Liveness::Activity {
        max_unproven: Duration::MAX,
    },
    Liveness::Traffic {
        max_unproven: Duration::from_secs(30),
    },
    Liveness::Traffic {
        max_unproven: Duration::MAX,
    },
];

// contract: P102
#[test]
fn a_peer_that_answers_without_an_id_lives_for_a_day_under_every_liveness() {
    for case in trusted() {
        // One of them on each surface, the others on one: a day is long.
        let surfaces = if case.name == "Json" {
            &SURFACES[..]
        } else {
            &SURFACES[..1]
        };
        for &surface in surfaces {
            for liveness in LIVENESSES {
                for talks in [false, true] {
                    let run = Run::new(surface, &case.preset, exact().liveness(liveness));
                    run.peer(move |text| Some((case.answer)(text)));
                    if talks {
                        run.says(s(29), "data");
                    }
                    run.run_until(DAY);
                    let name = format!("{}, {surface:?}, {liveness:?}, talks: {talks}", case.name);
                    assert_eq!(run.verdict(), None, "{name}");
                    let stats = run.stats();
                    assert_eq!(stats.missed(), 0, "{name}");
                    if !talks {
                        // Data may be the answer to a ping, and what it says for a pong comes too late then.
                        assert_eq!(stats.unsolicited(), 0, "{name}");
                    }
                    let read = run.read();
                    assert!(
                        read.iter().all(|message| *message == Message::text("data")),
                        "{name}"
                    );
                    assert_eq!(read.is_empty(), !talks, "{name}");
                }
            }
        }
    }
}

/// A peer that answers each ping with what its protocol has for a pong, and talks or does not.
async fn answer(socket: tokio::io::DuplexStream, talks: bool) {
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let mut ticks = tokio::time::interval(s(29));
    loop {
        let reply = tokio::select! {
            _ = ticks.tick(), if talks => "data",
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    assert_eq!(text.as_str(), r#"{"op":"ping"}"#);
                    r#"{ "ts": 1700000000, "op": "pong" }"#
                }
                _ => return,
            },
        };
        if sink.send(Message::text(reply)).await.is_err() {
            return;
        }
    }
}

// contract: P102
#[tokio::test(start_paused = true)]
async fn over_a_real_websocket_no_answer_reaches_the_application_for_a_day() {
    // It was condemned under `Pong` and `Activity`, and read the pongs under `AnyPong`.
    for liveness in LIVENESSES {
        for talks in [true, false] {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let peer = tokio::spawn(answer(theirs, talks));
            let config = Config::builder()
                .interval(s(10))
                .timeout(s(10))
                .liveness(liveness)
                .build()
                .expect("valid");
            let json = Json::new(r#"{"op":"ping"}"#, r#"{"op":"pong"}"#).expect("valid");
            let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
            let socket = KeepAlive::with_protocol(socket, json, config);
            let mut socket = socket.with_timer(TokioTimer::new());
            let controller = socket.controller();
            let mut data = 0;
            let read = async {
                while let Some(message) = socket.next().await {
                    assert_eq!(message.expect("a live peer"), Message::text("data"));
                    data += 1;
                }
            };
            let end = tokio::time::timeout(DAY, read).await;
            assert!(end.is_err(), "{liveness:?}, talks: {talks}");
            assert_eq!(controller.stats().missed(), 0);
            assert_eq!(data > 2900, talks, "{liveness:?}: {data}");
            peer.abort();
        }
    }
}
