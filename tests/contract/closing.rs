//! O. After a Close frame the connection has so long to end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use axum_0_8::Router;
use axum_0_8::extract::ws::{Message as ServerMessage, WebSocket, WebSocketUpgrade};
use axum_0_8::routing::get;
use axum_0_8::serve::Listener;
use futures::{Sink, SinkExt, StreamExt};
use futures_pinger::{Error, Frame, KeepAlive, MessageKind, Protocol, TimeoutPhase, TokioTimer};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::pipe::{Failure, Raw, config, keep_alive, pair, phase};
use crate::socket::{Kept, Msg, Plain};
use crate::world::{Broken, NO_PINGS, World, exact, ms, s};

/// The end of what the reader was given: the phase of the verdict, if there was one, and when the
/// stream ended.
#[track_caller]
fn end(kept: &Kept) -> (Option<TimeoutPhase>, Duration) {
    let phase = match kept.read.last() {
        Some((_, Err(error))) => Some(phase(error)),
        _ => None,
    };
    (phase, kept.ended.expect("it has ended"))
}

fn is_closing<T: std::fmt::Debug>(polled: &Poll<Result<T, Error<Broken>>>) -> bool {
    matches!(polled, Poll::Ready(Err(Error::Timeout(verdict))) if verdict.phase() == TimeoutPhase::Closing)
}

/// Who closes at 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Send,
    PollClose,
    Peer,
}

fn close(kept: &mut Kept, by: By) {
    match by {
        By::Send => kept.send(Msg::Close),
        By::PollClose => drop(kept.poll_close()),
        By::Peer => kept.script.receive(Msg::Close),
    }
}

// contract: O92
#[test]
fn a_close_that_went_one_way_ends_with_a_verdict_once_and_then_the_end() {
    for by in [By::Send, By::PollClose, By::Peer] {
        for within in [s(10), ms(500), s(3600)] {
            let mut kept = Kept::new(exact().closing_handshake(within));
            kept.answer_after(ms(30));
            kept.run_until(s(5));
            if by == By::Peer {
                // The answer to the peer's Close cannot be written.
                kept.script.block_flush();
            }
            close(&mut kept, by);
            // A Close of ours is known at once, without a wake from elsewhere.
            kept.run_until(s(4000));
            assert_eq!(
                end(&kept),
                (Some(TimeoutPhase::Closing), s(5) + within),
                "{by:?}"
            );
            assert_eq!(
                kept.read.iter().filter(|(_, item)| item.is_err()).count(),
                1
            );
            assert_eq!(kept.script.pings(), NO_PINGS);
        }
    }
}

// contract: O92
#[test]
fn a_close_that_went_both_ways_ends_without_an_error() {
    for by in [By::Send, By::PollClose, By::Peer] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(5));
        close(&mut kept, by);
        if by != By::Peer {
            kept.at(s(6), |script| script.receive(Msg::Close));
        }
        // The peer never closes its TCP.
        kept.run_until(s(1000));
        assert_eq!(end(&kept), (None, s(15)), "{by:?}");
        assert_eq!(kept.messages(), [Msg::Close]);

        // The peer ends it in time.
        let mut kept = Kept::new(exact());
        kept.run_until(s(5));
        close(&mut kept, by);
        if by != By::Peer {
            kept.at(s(6), |script| script.receive(Msg::Close));
        }
        kept.at(s(7), crate::socket::Script::end);
        kept.run_until(s(1000));
        assert_eq!(end(&kept), (None, s(7)), "{by:?}");
    }
}

/// Over TLS many a peer ends a connection without a word, which is an error to rustls; and tungstenite fails where
/// something is sent after the closing handshake.
// contract: O92
#[test]
fn after_a_closing_handshake_an_error_is_the_end_and_not_a_failure() {
    for by in [By::Send, By::PollClose, By::Peer] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(5));
        close(&mut kept, by);
        if by != By::Peer {
            kept.at(s(6), |script| script.receive(Msg::Close));
        }
        kept.run_until(s(7));
        kept.script.break_sink();
        for ended in [false, true] {
            if ended {
                kept.script.receive_error();
                kept.run_until(s(8));
                assert_eq!(end(&kept), (None, s(7)), "{by:?}");
            }
            let ready = kept.poll_ready();
            assert_eq!(ready, Poll::Ready(Err(Error::Closed)), "{by:?}, {ended}");
            let flushed = kept.poll_flush();
            assert_eq!(flushed, Poll::Ready(Err(Error::Closed)), "{by:?}, {ended}");
            let closed = kept.poll_close();
            assert_eq!(closed, Poll::Ready(Ok(())), "{by:?}, {ended}");
        }

        // With a close frame that went one way it is a failure.
        let mut kept = Kept::new(exact());
        kept.run_until(s(5));
        if by == By::Peer {
            // The answer to the peer's Close cannot be written.
            kept.script.block_flush();
        }
        close(&mut kept, by);
        kept.run_until(s(6));
        kept.script.receive_error();
        kept.run_until(s(7));
        let last = kept.read.last().map(|(_, item)| item);
        assert_eq!(last, Some(&Err(Error::Transport(Broken))), "{by:?}");
        // To the writer as well, whose close frame may still lie in the socket, also once the stream has ended.
        for _ in 0..2 {
            kept.script.break_sink();
            assert_eq!(
                kept.poll_close(),
                Poll::Ready(Err(Error::Transport(Broken))),
                "{by:?}"
            );
            kept.script.end();
            kept.run_until(s(8));
        }
        assert!(kept.ended.is_some(), "{by:?}");
    }
}

// contract: O92
#[test]
fn with_the_longest_duration_the_wait_has_no_end() {
    for by in [By::Send, By::PollClose, By::Peer] {
        let mut kept = Kept::new(exact().closing_handshake(Duration::MAX));
        kept.run_until(s(5));
        close(&mut kept, by);
        kept.run_until(s(1_000_000));
        kept.assert_alive();
    }
}

// contract: O92
#[test]
fn a_pause_does_not_stop_the_wait() {
    for before in [false, true] {
        for by in [By::Send, By::PollClose, By::Peer] {
            let mut kept = Kept::new(exact());
            let controller = kept.alive.as_mut().get_mut().controller();
            kept.run_until(s(5));
            if before {
                let _ = controller.pause();
                kept.run_until(s(5));
            }
            if by == By::Peer {
                kept.script.block_flush();
            }
            close(&mut kept, by);
            kept.run_until(s(6));
            let _ = controller.pause();
            kept.run_until(s(1000));
            assert_eq!(end(&kept), (Some(TimeoutPhase::Closing), s(15)), "{by:?}");
        }
    }
}

// contract: O92
#[test]
fn a_writer_that_waits_gets_the_same_as_the_reader() {
    for by in [By::PollClose, By::Peer] {
        let mut kept = Kept::new(exact().interval(s(3600)));
        kept.run_until(s(5));
        kept.script.block_flush();
        close(&mut kept, by);
        kept.run_until(s(5));
        assert_eq!(kept.poll_flush(), Poll::Pending);
        kept.writer_woken();
        kept.run_until(s(20));
        assert_eq!(end(&kept), (Some(TimeoutPhase::Closing), s(15)), "{by:?}");
        assert!(kept.writer_woken(), "{by:?}");
        let flushed = kept.poll_flush();
        assert!(is_closing(&flushed), "{by:?}: {flushed:?}");
        let ready = kept.poll_ready();
        assert!(is_closing(&ready), "{by:?}: {ready:?}");
    }
}

// contract: O92
#[test]
fn a_writer_alone_comes_to_the_end_of_the_wait() {
    let mut kept = Kept::new(exact().interval(s(3600)));
    kept.script.block_flush();
    assert_eq!(kept.poll_close(), Poll::Pending);
    let polled = loop {
        if kept.writer_woken() {
            let polled = kept.poll_close();
            if polled.is_ready() {
                break polled;
            }
        }
        assert!(kept.world.step(s(100)), "it hangs");
    };
    assert!(is_closing(&polled), "{polled:?}");
    assert_eq!(kept.world.elapsed(), s(10));
    kept.run_until(s(11));
    assert_eq!(end(&kept), (Some(TimeoutPhase::Closing), s(10)));
}

// contract: O92
#[test]
fn what_was_read_before_comes_first_and_what_comes_after_our_close_is_still_read() {
    let mut kept = Kept::new(exact());
    for number in 0..5 {
        kept.script.receive(Msg::Data(number));
    }
    assert_eq!(kept.beat_until(s(5)), None);
    kept.send(Msg::Close);
    for second in 6..30 {
        kept.at(s(second), move |script| {
            script.receive(Msg::Data(u32::try_from(second).expect("small")));
        });
    }
    assert_eq!(kept.beat_until(s(100)), Some(s(15)));
    kept.reader.flag.store(true, Ordering::Relaxed);
    kept.run_until(s(101));
    let expected = (0..5).chain(6..=14).map(Msg::Data);
    let (messages, expected) = (kept.messages(), expected.collect::<Vec<_>>());
    assert_eq!(messages[..14], expected);
    assert_eq!(end(&kept).0, Some(TimeoutPhase::Closing));

    // A peer that floods instead does not keep the connection open.
    let mut kept = Kept::new(exact());
    kept.run_until(s(5));
    kept.send(Msg::Close);
    kept.script.flood();
    for _ in 0..1000 {
        kept.read_once();
    }
    assert_eq!(kept.messages().len(), 1000);
    kept.idle_until(s(15));
    let mut polls = 0;
    while kept.ended.is_none() {
        kept.read_once();
        polls += 1;
        assert!(polls <= 65_536 + 100);
    }
    assert_eq!(end(&kept), (Some(TimeoutPhase::Closing), s(15)));
}

/// A protocol without a close frame.
struct Closeless;

impl Protocol<Msg> for Closeless {
    fn encode(&self, frame: Frame) -> Option<Msg> {
        match frame {
            Frame::Close(_) => None,
            frame => Plain.encode(frame),
        }
    }

    fn classify<'m>(&self, message: &'m Msg) -> MessageKind<'m> {
        Plain.classify(message)
    }
}

// contract: O92
#[test]
fn without_a_close_frame_closing_starts_no_clock() {
    let world = World::new();
    let (socket, script) = world.socket(Closeless);
    let config = exact().build().expect("valid");
    let alive = KeepAlive::with_protocol(socket, Closeless, config).with_timer(world.timer());
    let mut alive = Box::pin(alive);
    let reading = world.clone();
    world.at(s(3600), move || script.end());
    world.run_within(s(10_000), async {
        futures::future::poll_fn(|cx| alive.as_mut().poll_close(cx))
            .await
            .expect("closed");
        assert!(alive.next().await.is_none());
    });
    assert_eq!(reading.elapsed(), s(3600));
}

// contract: J67 O92
#[test]
fn a_socket_without_its_heartbeat_closes_as_the_bare_one_does() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(1));
    kept.alive
        .as_mut()
        .get_mut()
        .controller()
        .stop()
        .expect("it runs");
    kept.run_until(s(2));
    kept.script.block_flush();
    assert_eq!(kept.poll_close(), Poll::Pending);
    assert_eq!(kept.poll_close(), Poll::Pending);
    kept.run_until(s(100));
    assert!(kept.poll_close().is_pending(), "no clock runs");
    kept.script.unblock_quietly();
    assert!(matches!(kept.poll_close(), Poll::Ready(Ok(()))));
}

/// Reads to the error that ends the stream, if one does.
async fn read_to_the_end<M, E>(
    mut stream: impl futures::Stream<Item = Result<M, E>> + Unpin,
) -> Option<E> {
    loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(error),
            None => return None,
        }
    }
}

// Two bytes of the peer switched off all judging: the reader's task and the writer's stayed for ever.
// contract: O92
#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_and_does_not_read_is_given_up() {
    for closes in [false, true] {
        let (ours, mut peer) = pair(4096).await;
        let (mut sink, stream) = keep_alive(ours, config(ms(500), ms(500))).split();
        let writer = tokio::spawn(async move {
            loop {
                if let Err(error) = sink.send(Message::binary(vec![0; 1 << 20])).await {
                    return error;
                }
            }
        });
        sleep(ms(300)).await;
        if closes {
            peer.send(Message::Close(None))
                .await
                .expect("there is room");
        }
        let start = Instant::now();
        let reader = tokio::spawn(read_to_the_end(stream));
        let (reader, writer) = timeout(s(60), async { tokio::join!(reader, writer) })
            .await
            .expect("both end");
        let expected = if closes {
            TimeoutPhase::Closing
        } else {
            TimeoutPhase::Write
        };
        let error: Failure = reader.expect("no panic").expect("a verdict");
        assert_eq!(phase(&error), expected);
        assert!(
            matches!(writer, Ok(Error::Timeout(_) | Error::Transport(_))),
            "{writer:?}"
        );
        assert!(start.elapsed() <= s(if closes { 11 } else { 2 }));
        drop(peer);
    }
}

// contract: O92
#[tokio::test(start_paused = true)]
async fn both_ends_of_a_real_socket_close_without_an_error() {
    async fn closed(closer: Raw, other: Raw, by_sink: bool) {
        let mut closer = keep_alive(closer, config(s(20), s(20)));
        let other = tokio::spawn(read_to_the_end(keep_alive(other, config(s(20), s(20)))));
        if by_sink {
            closer.close().await.expect("open");
        } else {
            closer.send(Message::Close(None)).await.expect("open");
        }
        assert!(read_to_the_end(closer).await.is_none());
        assert!(other.await.expect("no panic").is_none());
    }

    for by_sink in [false, true] {
        let (server, client) = pair(4096).await;
        timeout(s(11), closed(server, client, by_sink))
            .await
            .expect("in time");
        let (server, client) = pair(4096).await;
        timeout(s(11), closed(client, server, by_sink))
            .await
            .expect("in time");
    }
}

/// Connections in memory for a server of axum.
struct InMemory(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for InMemory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A broadcaster as in axum's chat example; it tells when a connection's two tasks have ended.
async fn broadcast(socket: WebSocket, ended: mpsc::UnboundedSender<Option<TimeoutPhase>>) {
    let alive = KeepAlive::new(socket, config(ms(500), ms(500))).with_timer(TokioTimer::new());
    let (mut sink, stream) = alive.split();
    let send = async move {
        loop {
            let message = ServerMessage::Binary(vec![0; 1 << 20].into());
            if let Err(error) = sink.send(message).await {
                return Some(error);
            }
            sleep(ms(20)).await;
        }
    };
    // As in the example, each half has a task of its own.
    let (mut send, mut receive) = (tokio::spawn(send), tokio::spawn(read_to_the_end(stream)));
    let end = tokio::select! {
        end = &mut send => end,
        end = &mut receive => end,
    };
    let phase = match end.expect("no panic") {
        Some(Error::Timeout(verdict)) => Some(verdict.phase()),
        _ => None,
    };
    send.abort();
    receive.abort();
    let _ = ended.send(phase);
}

// Any client could pile up handlers and what they held, as none of them ended.
// contract: O92
#[tokio::test(start_paused = true)]
async fn a_handler_of_axum_ends_after_a_close_frame_of_a_peer_that_does_not_read() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (connect, incoming) = mpsc::unbounded_channel();
    let handler = get(move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(move |socket| broadcast(socket, ended))
    });
    let server = tokio::spawn(async move {
        let served = axum_0_8::serve(InMemory(incoming), Router::new().route("/", handler)).await;
        served.map(|()| unreachable!("it serves for ever"))
    });
    for closes in [false, true] {
        let (ours, theirs) = tokio::io::duplex(4096);
        connect.send(theirs).expect("the server runs");
        let client = client_async("ws://localhost/", ours).await;
        let (mut client, _) = client.expect("connected");
        if closes {
            sleep(ms(300)).await;
            client.send(Message::Close(None)).await.expect("room");
            let ended = timeout(s(11), ends.recv()).await.expect("in time");
            assert_eq!(ended, Some(Some(TimeoutPhase::Closing)));
        } else {
            assert_eq!(ends.recv().await, Some(Some(TimeoutPhase::Write)));
        }
        drop(client);
    }
    server.abort();
    let stopped: Result<io::Result<Infallible>, _> = server.await;
    assert!(stopped.is_err());
}
