//! O. The two halves of `into_split`.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::stream::FusedStream;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt, poll};
use futures_pinger::testing::{Fault, ScriptedSocket, SocketScript};
use futures_pinger::{
    Config, Error, HeartbeatState, KeepAlive, ReadHalf, ReuniteError, Rfc6455, TimeoutPhase,
    WriteHalf,
};
use futures_test::task::new_count_waker;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::pipe::{Failure, ends_within, keep_alive, pair, then_silent};
use crate::world::{ManualTimer, World, exact, ms, s};

type Reader = ReadHalf<ScriptedSocket<Message>, Rfc6455, ManualTimer>;
type Writer = WriteHalf<ScriptedSocket<Message>, Rfc6455, ManualTimer>;

/// The halves of a socket in a world, whose peer answers after 30 ms.
fn halves(world: &World) -> (Reader, Writer, SocketScript<Message>) {
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    script.peer().answer_after(ms(30));
    let config = exact().build().expect("valid");
    let alive = KeepAlive::new(socket, config).with_timer(world.timer());
    let (reader, writer) = alive.into_split();
    (reader, writer, script)
}

fn text(number: u64) -> Message {
    Message::text(number.to_string())
}

// contract: O91
#[test]
fn the_reading_half_goes_on_while_its_handler_works_and_the_other_half_writes() {
    let world = World::new();
    let (mut reader, mut writer, script) = halves(&world);
    script.receive(text(7));
    world.run_within(s(300), async {
        let reading = async {
            let question = reader.next().await.expect("a message").expect("no error");
            let done = reader.run_while(world.sleep(s(210)).map(|()| question));
            assert_eq!(done.await, Ok(text(7)));
            assert_eq!(world.elapsed(), s(210), "at once");
        };
        let writing = async {
            for number in 0..200 {
                writer.send(text(number)).await.expect("alive");
                world.sleep(s(1)).await;
            }
        };
        futures::join!(reading, writing);
    });
    let due: Vec<_> = (1..=10).map(|n| s(20) * n).collect();
    assert_eq!(script.pings(), due);
    let texts = script.sent().into_iter().map(|(_, message)| message);
    let texts: Vec<_> = texts.filter(Message::is_text).collect();
    assert_eq!(texts, (0..200).map(text).collect::<Vec<_>>());
    assert_eq!(reader.stats(), writer.stats());
    assert_eq!(
        (reader.stats().answered(), reader.stats().missed()),
        (10, 0)
    );
}

// contract: O91
#[test]
fn a_peer_that_dies_interrupts_the_work_of_the_reading_half_and_the_writer_learns_of_it() {
    let world = World::new();
    let (mut reader, mut writer, script) = halves(&world);
    script.peer().fall_silent();
    world.run_within(s(300), async {
        let work = std::future::pending::<()>();
        assert!(reader.run_while(work).await.is_err());
        assert_eq!(world.elapsed(), s(40));
        let end = reader.next().await.expect("the verdict");
        assert!(matches!(end, Err(Error::Timeout(_))), "{end:?}");
        assert!(reader.next().await.is_none());
        let sent = writer.send(text(1)).await;
        assert!(matches!(sent, Err(Error::Timeout(_))), "{sent:?}");
    });
}

// contract: O87 O88
#[tokio::test(start_paused = true)]
async fn two_tasks_with_the_halves_both_end_within_the_bound() {
    for buffer in [64, 4096, 65_536] {
        let (ours, peer) = pair(buffer).await;
        let (mut reader, mut writer) = keep_alive(ours, Config::default()).into_split();
        let (queue, mut queued) = mpsc::channel(4);
        let peer = then_silent(peer, 2, 262_144);
        let reading = tokio::spawn(async move {
            while let Some(message) = reader.next().await {
                match message {
                    // The writer's queue is full, sooner or later.
                    Ok(message) => queue.send(message).await.ok()?,
                    Err(error) => return Some(error),
                }
            }
            None
        });
        let writing = tokio::spawn(async move {
            while let Some(message) = queued.recv().await {
                let message: Message = message;
                if let Err(error) = writer.send(message).await {
                    return Some(error);
                }
            }
            None
        });
        let bound = Config::default().detection_bound().expect("there is one");
        let both = async {
            let (read, written) = tokio::join!(reading, writing);
            let (read, written): (Option<Failure>, Option<Failure>) =
                (read.expect("no panic"), written.expect("no panic"));
            read.or(written)
        };
        ends_within(bound, both).await;
        peer.abort();
    }
}

// contract: O88
#[test]
fn one_half_alone_drives_the_heartbeat() {
    // The writing half of a publisher.
    let world = World::new();
    let (reader, mut writer, script) = halves(&world);
    drop(reader);
    let ended = world.run_within(s(10_000), async {
        for number in 0..3600 {
            if number == 3000 {
                script.peer().fall_silent();
            }
            if let Err(error) = writer.send(text(number)).await {
                return Some((world.elapsed(), error));
            }
            world.sleep(s(1)).await;
        }
        None
    });
    let (at, error) = ended.expect("a verdict");
    assert!(matches!(error, Error::Timeout(verdict) if verdict.phase() == TimeoutPhase::Pong));
    assert!(at >= s(3020) && at <= s(3062), "{at:?}");
    assert_eq!(writer.stats().missed(), 1);

    // The reading half.
    let world = World::new();
    let (mut reader, writer, script) = halves(&world);
    drop(writer);
    let peer = script.clone();
    world.at(s(3010), move || peer.peer().fall_silent());
    let end = world.run_within(s(10_000), async { reader.next().await });
    assert!(matches!(end, Some(Err(Error::Timeout(_)))), "{end:?}");
    assert_eq!(world.elapsed(), s(3040));
}

// contract: O92
#[test]
fn a_close_frame_of_the_writing_half_gives_the_connection_so_long_to_end() {
    let world = World::new();
    let (mut reader, mut writer, _script) = halves(&world);
    world.run_within(s(300), async {
        let reading = async {
            let end = reader.next().await.expect("the verdict");
            assert!(
                matches!(&end, Err(Error::Timeout(it)) if it.phase() == TimeoutPhase::Closing),
                "{end:?}"
            );
            assert!(reader.next().await.is_none());
        };
        let writing = async {
            world.sleep(s(5)).await;
            writer
                .send(Message::Close(None))
                .await
                .expect("there is room");
        };
        futures::join!(reading, writing);
        assert_eq!(world.elapsed(), s(15));
    });
}

// contract: O92
#[test]
fn both_halves_come_to_the_end_where_the_connection_breaks_after_its_closing_handshake() {
    let world = World::new();
    let (mut reader, mut writer, script) = halves(&world);
    world.run_within(s(300), async {
        let reading = async {
            let close = reader.next().await.expect("the answer");
            assert_eq!(close, Ok(Message::Close(None)));
            assert!(!reader.is_terminated());
            assert_eq!(reader.next().await, None, "the error is the end");
            assert!(reader.is_terminated());
        };
        let writing = async {
            writer
                .send(Message::Close(None))
                .await
                .expect("there is room");
            world.sleep(s(5)).await;
            script.receive(Message::Close(None));
            world.sleep(s(1)).await;
            script.fail(Fault::Ready);
            script.fail(Fault::Flush);
            script.receive_error();
            world.sleep(s(1)).await;
            assert_eq!(writer.send(text(1)).await, Err(Error::Closed));
            assert_eq!(writer.close().await, Ok(()));
        };
        futures::join!(reading, writing);
    });
}

#[test]
fn either_half_has_controllers() {
    let world = World::new();
    let (mut reader, writer, script) = halves(&world);
    let (of_reader, of_writer) = (reader.controller(), writer.controller());
    world.run_within(s(300), async {
        assert!(poll!(reader.next()).is_pending());
        of_writer.ping_now().expect("it goes on");
        assert!(poll!(reader.next()).is_pending());
        assert_eq!(script.pings(), [s(0)]);
        of_reader.pause().expect("it goes on");
        assert!(poll!(reader.next()).is_pending());
    });
    let state = of_writer
        .stats()
        .state_at(futures_pinger::Timer::now(&world.timer()));
    assert_eq!(state, HeartbeatState::Paused);
}

#[test]
fn the_halves_of_one_socket_are_the_whole_again_and_others_are_not() {
    let world = World::new();
    let (reader, writer, script) = halves(&world);
    let (other_reader, other_writer, _script) = halves(&world);
    let refused = reader.reunite(other_writer).expect_err("another socket");
    assert_eq!(
        refused.to_string(),
        "the two halves are not of the same socket"
    );
    let ReuniteError(reader, other_writer) = refused;
    let mut whole = reader.reunite(writer).expect("the same socket");
    let other = other_reader.reunite(other_writer);
    drop(other.expect("the same socket"));
    script.receive(text(1));
    world.run_within(s(100), async {
        assert_eq!(whole.next().await.expect("one").expect("no error"), text(1));
        whole.send(text(2)).await.expect("alive");
    });
}

/// A socket that does something before each of its polls, as a socket of one's own may.
struct Hooked {
    socket: ScriptedSocket<Message>,
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Hooked {
    fn run_hook(&self) {
        let hook = self.hook.lock().expect("no panic").take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Stream for Hooked {
    type Item = <ScriptedSocket<Message> as Stream>::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.run_hook();
        self.socket.poll_next_unpin(cx)
    }
}

impl Sink<Message> for Hooked {
    type Error = <ScriptedSocket<Message> as Sink<Message>>::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        self.socket.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket.poll_close_unpin(cx)
    }
}

type HookedReader = ReadHalf<Hooked, Rfc6455, ManualTimer>;
type HookedWriter = Arc<Mutex<WriteHalf<Hooked, Rfc6455, ManualTimer>>>;

/// The halves of such a socket, and what it does before its next poll.
fn hooked(
    world: &World,
) -> (
    HookedReader,
    HookedWriter,
    Arc<Mutex<Option<Hook>>>,
    SocketScript<Message>,
) {
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    let hook = Arc::new(Mutex::new(None::<Hook>));
    let socket = Hooked {
        socket,
        hook: Arc::clone(&hook),
    };
    let alive = KeepAlive::new(socket, exact().build().expect("valid"));
    let (reader, writer) = alive.with_timer(world.timer()).into_split();
    (reader, Arc::new(Mutex::new(writer)), hook, script)
}

// What the writing half does while the reading half has the socket happens within the poll of the reading
// half here: so a lock that waits would wait for ever.
#[test]
fn a_half_that_finds_the_other_at_the_socket_loses_no_message_and_is_woken() {
    let world = World::new();
    let (mut reader, writer, hook, script) = hooked(&world);
    let (waker, wakes) = new_count_waker();

    let ready = writer
        .lock()
        .expect("free")
        .poll_ready_unpin(&mut Context::from_waker(&waker));
    assert!(matches!(ready, Poll::Ready(Ok(()))));
    let (meanwhile, woken) = (Arc::clone(&writer), waker.clone());
    *hook.lock().expect("free") = Some(Box::new(move || {
        let mut writer = meanwhile.lock().expect("free");
        writer.start_send_unpin(text(1)).expect("it was ready");
        let cx = &mut Context::from_waker(&woken);
        assert!(writer.poll_flush_unpin(cx).is_pending());
        assert!(writer.poll_ready_unpin(cx).is_pending());
    }));
    assert!(reader.next().now_or_never().is_none());
    assert_eq!(wakes.get(), 1, "the other half has left");

    let mut writer = Arc::into_inner(writer)
        .expect("the hook is gone")
        .into_inner()
        .expect("free");
    let cx = &mut Context::from_waker(&waker);
    assert!(matches!(writer.poll_ready_unpin(cx), Poll::Ready(Ok(()))));
    writer.start_send_unpin(text(2)).expect("it was ready");
    assert!(matches!(writer.poll_flush_unpin(cx), Poll::Ready(Ok(()))));
    let sent: Vec<_> = script
        .sent()
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    assert_eq!(sent, [text(1), text(2)]);
}

// The same, and then the halves are united.
#[test]
fn a_message_that_was_accepted_meanwhile_stays_with_the_whole() {
    let world = World::new();
    let (mut reader, writer, hook, script) = hooked(&world);
    let (waker, _) = new_count_waker();
    let mut cx = Context::from_waker(&waker);
    let ready = writer.lock().expect("free").poll_ready_unpin(&mut cx);
    assert!(matches!(ready, Poll::Ready(Ok(()))));
    let meanwhile = Arc::clone(&writer);
    *hook.lock().expect("free") = Some(Box::new(move || {
        let mut writer = meanwhile.lock().expect("free");
        writer.start_send_unpin(text(1)).expect("it was ready");
    }));
    assert!(reader.next().now_or_never().is_none());
    let writer = Arc::into_inner(writer)
        .expect("the hook is gone")
        .into_inner()
        .expect("free");
    let mut whole = reader.reunite(writer).expect("the same socket");
    world.run_within(s(1), async { whole.send(text(2)).await.expect("alive") });
    let sent: Vec<_> = script
        .sent()
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    assert_eq!(sent, [text(1), text(2)]);
}

// contract: O92
#[test]
fn the_writing_half_closes_the_socket() {
    let world = World::new();
    let (_reader, mut writer, script) = halves(&world);
    world.run_within(s(300), async {
        writer.feed(text(1)).await.expect("alive");
        script.fail(Fault::Flush);
        assert!(writer.close().await.is_err(), "the error of the socket");
    });
}
