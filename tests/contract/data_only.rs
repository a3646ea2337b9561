//! O. A socket that yields data alone.

use futures::{SinkExt, Stream, StreamExt};
use futures_pinger::{Config, Error, KeepAlive, Liveness, Rfc6455, TimeoutPhase, TokioTimer};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::pipe::{config, keep_alive, pair};
use crate::socket::{Kept, Msg};
use crate::world::{exact, ms, s};

/// A socket that yields data alone, in a world.
fn kept(config: futures_pinger::ConfigBuilder) -> Kept {
    Kept::new(config).data_only()
}

// contract: O98
#[test]
fn nothing_but_data_is_yielded() {
    let mut kept = kept(exact());
    kept.answer_after(ms(30));
    for number in 0..50 {
        kept.at(s(2) * number, move |script| {
            script.receive(Msg::Ping("are you there?".into()));
            script.receive(Msg::Data(number));
            script.receive(Msg::Pong("not asked for".into()));
        });
    }
    kept.run_until(s(100));
    assert_eq!(kept.messages(), (0..50).map(Msg::Data).collect::<Vec<_>>());
    assert_eq!(
        (kept.stats().answered(), kept.stats().unsolicited()),
        (4, 50)
    );
    kept.assert_alive();

    // The same where it is read ahead.
    let mut kept = self::kept(exact());
    kept.answer_after(ms(30));
    for number in 0..40 {
        kept.at(s(2) * number, move |script| {
            script.receive(Msg::Ping("are you there?".into()));
            script.receive(Msg::Pong("not asked for".into()));
        });
    }
    kept.script.receive(Msg::Data(7));
    assert_eq!(kept.beat_until(s(100)), None);
    assert_eq!(kept.into_ahead(), [Msg::Data(7)]);
}

// contract: O98
#[test]
fn it_ends_with_the_peers_close_and_with_errors_as_before() {
    let mut kept = kept(exact());
    kept.at(s(5), |script| {
        script.receive(Msg::Data(1));
        script.receive(Msg::Close);
    });
    kept.run_until(s(100));
    assert_eq!(kept.messages(), [Msg::Data(1)]);
    assert_eq!(kept.ended, Some(s(15)), "the peer leaves the rest to us");

    let mut kept = self::kept(exact());
    kept.at(s(5), |script| script.receive_error());
    kept.run_until(s(5));
    assert!(matches!(kept.read[..], [(_, Err(Error::Transport(_)))]));

    let mut kept = self::kept(exact());
    kept.run_until(s(100));
    assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Pong);
}

// contract: O98
#[test]
fn a_mute_peer_that_floods_pings_is_found_and_leaves_others_their_turn() {
    let mut kept = kept(exact());
    kept.script.flood_pings();
    let mut polls = 0;
    while kept.read.is_empty() {
        assert!(!kept.read_once() || !kept.read.is_empty());
        assert!(
            kept.reader_woken() || !kept.read.is_empty(),
            "it comes back"
        );
        let next = kept.world.elapsed() + ms(10);
        kept.idle_until(next);
        polls += 1;
        assert!(polls < 10_000, "no verdict");
    }
    assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Pong);
    assert_eq!(kept.script.pings(), [s(20)]);
}

// contract: O98
#[test]
fn the_peers_pings_are_activity() {
    let liveness = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut kept = kept(exact().liveness(liveness));
    for second in 0..100 {
        kept.at(s(second), |script| script.receive(Msg::Ping("beat".into())));
    }
    kept.run_until(s(100));
    assert_eq!((kept.script.pings(), kept.messages()), (vec![], vec![]));
}

// Some crates keep their answers until somebody flushes.
// contract: O98
#[test]
fn a_ping_that_is_not_yielded_is_followed_by_one_flush() {
    for ahead in [false, true] {
        let mut kept = kept(exact());
        kept.run_until(s(1));
        let polls = kept.script.sink_polls();
        let go_on = |kept: &mut Kept, until| {
            if ahead {
                assert_eq!(kept.beat_until(until), None);
            } else {
                kept.run_until(until);
            }
        };
        kept.script.receive(Msg::Ping("here?".into()));
        go_on(&mut kept, s(2));
        assert_eq!(kept.script.sink_polls(), polls + 1, "{ahead}");
        kept.script.receive(Msg::Data(1));
        go_on(&mut kept, s(3));
        assert_eq!(kept.script.sink_polls(), polls + 1, "{ahead}");

        // It goes on until the sink has done it.
        kept.script.block_flush();
        kept.script.receive(Msg::Ping("and now?".into()));
        go_on(&mut kept, s(4));
        let polls = kept.script.sink_polls();
        kept.script.unblock();
        go_on(&mut kept, s(5));
        assert_eq!(kept.script.sink_polls(), polls + 1, "{ahead}");
        kept.script.receive(Msg::Data(2));
        go_on(&mut kept, s(6));
        assert_eq!(kept.script.sink_polls(), polls + 1, "{ahead}");

        // An error of it is the stream's.
        kept.script.receive(Msg::Ping("still?".into()));
        kept.script.break_sink();
        if ahead {
            assert!(kept.beat_until(s(7)).is_some());
        }
        kept.run_until(s(7));
        let last = kept.read.last();
        assert!(
            matches!(last, Some((_, Err(Error::Transport(_))))),
            "{last:?}"
        );
    }
}

/// What a peer that pings `pings` times and closes then is answered, while ours only reads.
async fn answered<S, E>(mut ours: S, mut peer: crate::pipe::Raw, pings: usize) -> usize
where
    S: Stream<Item = Result<Message, Error<E>>> + Unpin + Send + 'static,
    E: std::fmt::Debug + Send,
{
    let reader = tokio::spawn(async move {
        let mut texts = Vec::new();
        while let Some(message) = ours.next().await {
            texts.push(message.expect("no error"));
        }
        texts
    });
    let mut pongs = 0;
    for number in 0..pings {
        let ping = Message::Ping(number.to_string().into());
        peer.send(ping).await.expect("alive");
        loop {
            let answer = timeout(s(5), peer.next()).await.expect("an answer");
            match answer.expect("alive").expect("no error") {
                Message::Pong(payload) => {
                    assert_eq!(payload, number.to_string().as_bytes());
                    pongs += 1;
                    break;
                }
                // Of ours.
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        sleep(s(1)).await;
    }
    peer.send(Message::text("bye")).await.expect("alive");
    peer.send(Message::Close(None)).await.expect("alive");
    let ended = timeout(s(5), async { while let Some(Ok(_)) = peer.next().await {} });
    ended.await.expect("the close is answered");
    let texts = timeout(s(15), reader).await.expect("it ends");
    assert_eq!(texts.expect("no panic"), [Message::text("bye")]);
    pongs
}

// A handler that only reads answered no ping, as nobody flushed.
// contract: O98
#[tokio::test(start_paused = true)]
async fn answers_are_flushed_although_nobody_sends() {
    for buffer in [64, 4096] {
        let (ours, peer) = pair(buffer).await;
        let ours = keep_alive(ours, config(s(7), s(7))).data_only();
        assert_eq!(answered(ours, peer, 30).await, 30);

        let (ours, peer) = pair(buffer).await;
        let (reader, writer) = keep_alive(ours, config(s(7), s(7)))
            .data_only()
            .into_split();
        // The connection is ours as long as one half is there.
        drop(writer);
        assert_eq!(answered(reader, peer, 30).await, 30);
    }
}

// A peer that reads nothing for a while gets its answers when it reads again.
// contract: O98
#[tokio::test(start_paused = true)]
async fn answers_that_had_no_room_are_flushed_later() {
    let (ours, mut peer) = pair(64).await;
    let (config, payload) = (config(s(60), s(60)), vec![1; 100]);
    let mut ours = keep_alive(ours, config).data_only();
    let reader = tokio::spawn(async move { ours.next().await.is_none() });
    peer.send(Message::Ping(payload.clone().into()))
        .await
        .expect("alive");
    sleep(s(3)).await;
    let answer = timeout(s(5), peer.next()).await.expect("an answer");
    assert!(matches!(answer, Some(Ok(Message::Pong(pong))) if pong == payload));
    reader.abort();
}

// contract: O98
#[tokio::test(start_paused = true)]
async fn it_is_still_the_sink_with_run_while_and_controllers() {
    let (ours, mut peer) = pair(4096).await;
    let mut ours = keep_alive(ours, config(s(1), s(1))).data_only();
    let controller = ours.controller();
    let peer = tokio::spawn(async move {
        peer.send(Message::Ping("a".into())).await.expect("alive");
        let mut texts = 0;
        while let Some(Ok(message)) = peer.next().await {
            if !message.is_text() {
                continue;
            }
            texts += 1;
            if texts == 2 {
                peer.send(Message::text("bye")).await.expect("alive");
                peer.send(Message::Close(None)).await.expect("alive");
            }
        }
        texts
    });
    ours.send(Message::text("one")).await.expect("alive");
    assert_eq!(ours.run_while(sleep(s(10))).await, Ok(()));
    ours.send(Message::text("two")).await.expect("alive");
    let all: Vec<Result<Message, Error<tungstenite::Error>>> = ours.collect().await;
    assert!(matches!(&all[..], [Ok(bye)] if bye.is_text()), "{all:?}");
    assert_eq!(peer.await.expect("no panic"), 2);
    assert!(controller.stats().answered() >= 9);
}

// contract: O98
#[tokio::test(start_paused = true)]
async fn over_tokio_websockets_answers_are_flushed_too() {
    use tokio_websockets_0_13::{Message, ServerBuilder};

    let (ours, theirs) = tokio::io::duplex(4096);
    let ours = KeepAlive::<_, Rfc6455>::new(ServerBuilder::new().serve(ours), Config::default());
    let mut ours = ours.with_timer(TokioTimer::new()).data_only();
    let theirs = tokio_tungstenite::WebSocketStream::from_raw_socket(
        theirs,
        tungstenite::protocol::Role::Client,
        None,
    );
    let mut theirs = theirs.await;
    let reader = tokio::spawn(async move {
        let read: Vec<Message> = ours
            .by_ref()
            .map(|it| it.expect("no error"))
            .collect()
            .await;
        read.len()
    });
    for _ in 0..10 {
        let ping = tungstenite::Message::Ping("here?".into());
        theirs.send(ping).await.expect("alive");
        let answer = timeout(s(5), theirs.next()).await.expect("an answer");
        assert!(matches!(answer, Some(Ok(tungstenite::Message::Pong(_)))));
    }
    theirs
        .send(tungstenite::Message::text("bye"))
        .await
        .expect("alive");
    theirs.close(None).await.expect("alive");
    while let Some(Ok(_)) = theirs.next().await {}
    assert_eq!(reader.await.expect("no panic"), 1);
}
