//! O. Bytes that move are life.

use std::future::pending;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::WebSocketStream as FuturesSocket;
use futures::{SinkExt, StreamExt};
use futures_pinger::testing::{Answer, SinkScript};
use futures_pinger::{
    Config, ConfigBuilder, Error, KeepAlive, Liveness, Meter, Metered, Pinger, Rfc6455,
    TimeoutPhase, TokioTimer,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::pipe::{Failure, keep_alive, phase};
use crate::socket::{Kept, Msg};
use crate::world::{World, exact, ms, s};

/// The first ping leaves at 15 s. Each deadline is 20 s, and bytes that move extend it to 80 s.
fn slow() -> ConfigBuilder {
    Config::builder().granularity(s(0)).progress(s(60))
}

type Socket = KeepAlive<WebSocketStream<Metered<DuplexStream>>, Rfc6455, TokioTimer>;

/// A socket with a heartbeat over `io`, which has a meter that the heartbeat may know.
async fn metered(io: DuplexStream, config: ConfigBuilder, knows: bool) -> Socket {
    let meter = Meter::new();
    let socket = WebSocketStream::from_raw_socket(meter.wrap(io), Role::Server, None).await;
    let mut socket = KeepAlive::new(socket, config.build().expect("valid"));
    if knows {
        socket = socket.with_meter(meter);
    }
    socket.with_timer(TokioTimer::new())
}

/// Passes bytes on, so many at once, each time after so long.
async fn slowly(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: usize,
    after: Duration,
) {
    let mut buffer = vec![0; bytes];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        sleep(after).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Both ends of a line that holds and passes on `bytes` at a time, and takes so long for them.
fn line(bytes: usize, after: Duration) -> (DuplexStream, DuplexStream, JoinSet<()>) {
    let (ours, near) = duplex(bytes);
    let (far, theirs) = duplex(bytes);
    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let mut tasks = JoinSet::new();
    tasks.spawn(slowly(near_in, far_out, bytes, after));
    tasks.spawn(slowly(far_in, near_out, bytes, after));
    (ours, theirs, tasks)
}

/// A peer that answers pings, and sends a message of so many bytes when the first ping leaves.
async fn peer(io: DuplexStream, size: usize) {
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    let (mut to_us, mut from_us) = socket.split();
    let reads = async move { while let Some(Ok(_)) = from_us.next().await {} };
    let sends = async move {
        if size > 0 {
            sleep(s(15)).await;
            // It fails once we have given the connection up.
            let _ = to_us.send(Message::binary(vec![7; size])).await;
        }
        pending::<()>().await;
    };
    futures::join!(reads, sends);
}

// The peer of a user with a slow line sends one message of 4 MB, which takes 40 s; the pong has to wait
// behind it. Without a meter under the socket the heartbeat condemns the peer in the middle of the message.
// contract: O97
#[tokio::test(start_paused = true)]
async fn a_big_message_that_comes_in_slowly_is_no_verdict_with_a_meter() {
    let trusting = Liveness::Activity {
        max_unproven: s(120),
    };
    for liveness in [Liveness::Pong, trusting] {
        for knows in [true, false] {
            let (ours, theirs, mut tasks) = line(10_000, ms(100));
            tasks.spawn(peer(theirs, 4_000_000));
            let mut socket = metered(ours, slow().liveness(liveness), knows).await;
            let start = Instant::now();
            let read = timeout(s(200), socket.next()).await;
            let read = read.expect("a message or a verdict");
            if knows {
                assert_eq!(read.expect("it is up").expect("alive").len(), 4_000_000);
                assert!(start.elapsed() > s(15 + 40));
                let read = timeout(s(200), socket.next()).await;
                assert!(read.is_err(), "{read:?}");
                let stats = socket.stats();
                assert!(stats.answered() > 5 && stats.missed() == 0, "{stats:?}");
            } else {
                let error = read.expect("it is up").expect_err("condemned");
                assert_eq!(phase(&error), TimeoutPhase::Pong);
                assert_eq!(start.elapsed(), s(35), "in the middle of the message");
            }
        }
    }
}

// contract: O97
#[tokio::test(start_paused = true)]
async fn a_big_message_that_goes_out_slowly_is_no_verdict_with_a_meter() {
    // The second is as slow, and taken byte by byte.
    for (size, bytes, after) in [(4_000_000, 10_000, ms(100)), (40_000, 1, ms(1))] {
        for knows in [true, false] {
            let (ours, theirs, mut tasks) = line(bytes, after);
            tasks.spawn(peer(theirs, 0));
            let mut socket = metered(ours, slow(), knows).await;
            assert!(timeout(s(14), socket.next()).await.is_err());
            let start = Instant::now();
            let sent = socket.send(Message::binary(vec![7; size])).await;
            if knows {
                sent.expect("alive");
                assert!(start.elapsed() > s(39));
                let read = timeout(s(200), socket.next()).await;
                assert!(read.is_err(), "{read:?}");
                let stats = socket.stats();
                assert!(stats.answered() > 5 && stats.missed() == 0, "{stats:?}");
            } else {
                let error = sent.expect_err("condemned");
                assert_eq!(phase(&error), TimeoutPhase::Write);
                assert_eq!(start.elapsed(), s(21), "in the middle of the message");
            }
        }
    }
}

// contract: O97
#[tokio::test(start_paused = true)]
async fn the_halves_of_a_socket_have_its_meter() {
    let (ours, theirs, mut tasks) = line(10_000, ms(100));
    tasks.spawn(peer(theirs, 4_000_000));
    let (mut reader, mut writer) = metered(ours, slow(), true).await.into_split();
    let reads = tokio::spawn(async move { timeout(s(200), reader.next()).await });
    sleep(s(14)).await;
    let sent = writer.send(Message::binary(vec![7; 4_000_000])).await;
    sent.expect("alive");
    let read = reads.await.expect("no panic").expect("a message");
    assert_eq!(read.expect("it is up").expect("alive").len(), 4_000_000);
    let stats = writer.controller().stats();
    assert_eq!(stats.missed(), 0, "{stats:?}");
}

/// How an application that reads ends, and when, if the transport moves a byte each 10 s.
async fn end(mut socket: Socket, start: Instant) -> (Duration, TimeoutPhase) {
    let read = timeout(s(1000), socket.next()).await.expect("an end");
    let error: Failure = read.expect("a verdict").expect_err("a verdict");
    (start.elapsed(), phase(&error))
}

// contract: O97
#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_a_byte_now_and_again_is_gone_at_the_end_of_its_progress() {
    for (knows, expected) in [(true, s(95)), (false, s(35))] {
        let (ours, mut theirs) = duplex(1024);
        let start = Instant::now();
        let socket = metered(ours, slow(), knows).await;
        let peer = tokio::spawn(async move {
            // The head of a masked message of 60 000 bytes, and then the message.
            for byte in [0x82, 0xFE, 0xEA, 0x60].into_iter().chain([0; 60_000]) {
                sleep(s(10)).await;
                if theirs.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        });
        let end = end(socket, start).await;
        assert_eq!(end, (expected, TimeoutPhase::Pong));
        peer.abort();
    }
}

// contract: O97
#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_byte_now_and_again_is_gone_at_the_end_of_its_progress() {
    for (knows, expected) in [(true, s(95)), (false, s(35))] {
        let (ours, mut theirs) = duplex(1);
        let start = Instant::now();
        let socket = metered(ours, slow(), knows).await;
        let peer = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(s(10)).await;
            }
        });
        let end = end(socket, start).await;
        assert_eq!(end, (expected, TimeoutPhase::Write));
        peer.abort();
    }
}

/// What moves the bytes of a heartbeat over a sink and pongs of the World.
struct Moves {
    world: World,
    meter: Meter,
}

impl Moves {
    /// So many bytes come in, and so many go out, each second from the one time to the other.
    fn each_second(&self, seconds: std::ops::Range<u64>, bytes_in: usize, bytes_out: usize) {
        for second in seconds {
            let meter = self.meter.clone();
            self.world.at(s(second), move || {
                meter.count_in(bytes_in);
                meter.count_out(bytes_out);
            });
        }
    }
}

/// When a pinger ends that has a meter, and in which phase. The peer answers so many pings.
fn pinger_end(
    config: ConfigBuilder,
    answers: usize,
    act: impl FnOnce(&Moves, &SinkScript),
) -> (Duration, TimeoutPhase) {
    let world = World::new();
    let meter = Meter::new();
    let (outgoing, sink) = world.sink();
    let (pongs, script) = world.pongs();
    let peer = sink.peer(move |payload| script.push(payload));
    peer.answer(move |ping| {
        if ping < answers {
            Answer::After(ms(30))
        } else {
            Answer::Lost
        }
    });
    let pinger = Pinger::new(outgoing, pongs, config.build().expect("valid"));
    let pinger = pinger.with_meter(meter.clone()).with_timer(world.timer());
    // The close frame is taken at once.
    let pinger = pinger.close_to(futures::sink::drain());
    let moves = Moves {
        world: world.clone(),
        meter,
    };
    act(&moves, &sink);
    let mut task = world.task(pinger);
    task.run_until(s(2000));
    match (task.ended_at(), task.output()) {
        (Some(at), Some(Err(Error::Timeout(verdict)))) => (at, verdict.phase()),
        (_, other) => panic!("no verdict but {other:?}"),
    }
}

// contract: O97
#[test]
fn the_deadlines_of_a_pinger_are_extended_by_progress_in_all_at_the_most() {
    for grace in [true, false] {
        let config = || slow().stall_grace(grace);
        // The wait for a pong, by bytes that come in, and not by those that go out.
        let end = pinger_end(config(), 0, |moves, _| moves.each_second(0..1000, 1, 0));
        assert_eq!(end, (s(95), TimeoutPhase::Pong));
        let end = pinger_end(config(), 0, |moves, _| moves.each_second(0..1000, 0, 1));
        assert_eq!(end, (s(35), TimeoutPhase::Pong));
        // The wait for the sink, by bytes that go out, and not by those that come in.
        let end = pinger_end(config(), 0, |moves, sink| {
            sink.block();
            moves.each_second(0..1000, 0, 1);
        });
        assert_eq!(end, (s(95), TimeoutPhase::Write));
        let end = pinger_end(config(), 0, |moves, sink| {
            sink.block();
            moves.each_second(0..1000, 1, 0);
        });
        assert_eq!(end, (s(35), TimeoutPhase::Write));
        // A flush that is not complete.
        let end = pinger_end(config(), 0, |moves, sink| {
            sink.block_flush();
            moves.each_second(0..1000, 0, 1);
        });
        assert_eq!(end, (s(95), TimeoutPhase::Write));
        // No progress at all.
        let end = pinger_end(config().progress(s(0)), 0, |moves, _| {
            moves.each_second(0..1000, 1, 1);
        });
        assert_eq!(end, (s(35), TimeoutPhase::Pong));
    }
}

// contract: O97
#[test]
fn bytes_that_stop_moving_extend_a_deadline_by_a_timeout_from_the_look_that_saw_them() {
    // The last byte comes at 25 s; it is seen at 30 s, when the next ping is due, and that look counts.
    let end = pinger_end(slow(), 0, |moves, _| moves.each_second(0..26, 1, 1));
    assert_eq!(end, (s(50), TimeoutPhase::Pong));
    // Bytes from before the ping are none of its own.
    let end = pinger_end(slow(), 0, |moves, _| moves.each_second(0..15, 1, 1));
    assert_eq!(end, (s(35), TimeoutPhase::Pong));
    // Each ping has a progress of its own: the second leaves at 30 s.
    let end = pinger_end(slow(), 1, |moves, _| moves.each_second(0..1000, 1, 1));
    assert_eq!(end, (s(110), TimeoutPhase::Pong));
}

// contract: O97
#[test]
fn the_bound_with_a_meter_holds_where_every_deadline_is_extended() {
    let bound = |config: ConfigBuilder| config.build().expect("valid").detection_bound_with_meter();
    // 15 + 20 + 20, and 60 for either deadline.
    assert_eq!(bound(slow()), Some(s(175)));
    assert_eq!(bound(slow().max_missed(3)), Some(s(15 + 3 * 160)));
    assert_eq!(bound(slow().progress(s(0))), Some(s(55)));
    assert_eq!(bound(slow().progress(Duration::MAX)), None);
    assert_eq!(bound(slow().no_timeout()), None);
    for missed in [1, 2, 3] {
        let end = pinger_end(slow().max_missed(missed), 0, |moves, sink| {
            // Each ping waits for the sink for 79 s, and for its pong for 80 s.
            moves.each_second(0..1000, 1, 1);
            sink.block_flush();
            for ping in 0..u64::from(missed) {
                let flushed = 15 + 79 + 159 * ping;
                let (unblock, block) = (sink.clone(), sink.clone());
                let world = &moves.world;
                world.at(s(flushed), move || unblock.unblock_flush());
                world.at(s(flushed + 1), move || block.block_flush());
            }
        });
        assert_eq!(end.0, s(15 + 159 * u64::from(missed)));
        assert!(Some(end.0) <= bound(slow().max_missed(missed)));
    }
}

// contract: O97
#[test]
fn bytes_that_came_in_before_the_flush_extend_no_wait_for_a_pong_also_where_the_writer_flushes() {
    let ends = [true, false].map(|moved| {
        let mut kept = Kept::new(slow());
        let meter = Meter::new();
        kept.alive = Box::pin(Pin::into_inner(kept.alive).with_meter(meter.clone()));
        kept.script.block_flush();
        assert_eq!(kept.beat_until(s(16)), None);
        meter.count_in(moved.into());
        kept.script.unblock_quietly();
        kept.idle_until(s(18));
        assert_eq!(kept.poll_flush(), Poll::Ready(Ok(())));
        // The flush wakes the reader, which comes a while later, and is then told of all that has come in.
        kept.idle_until(s(25));
        kept.beat_until(s(1000))
    });
    assert_eq!(ends, [Some(s(38)); 2]);
}

// contract: O97
#[test]
fn a_blocked_write_of_the_application_has_its_progress_too() {
    for (moving, expected) in [(true, s(40 + 60)), (false, s(40))] {
        // The next ping is far away, and nothing can be read: from the deadline of the ping that is out on
        // the write is judged.
        let config = exact().interval(s(3600)).progress(s(60));
        let mut kept = Kept::with_lookahead(config, 0);
        let meter = Meter::new();
        kept.alive = Box::pin(Pin::into_inner(kept.alive).with_meter(meter.clone()));
        kept.script.receive(Msg::Data(0));
        kept.alive
            .as_mut()
            .get_mut()
            .ping_now()
            .expect("it goes on");
        assert_eq!(kept.beat_until(s(1)), None);
        kept.script.block_flush();
        assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
        assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
        for second in 1..1000 {
            let meter = meter.clone();
            kept.at(s(second), move |_| meter.count_out(moving.into()));
        }
        let ended = loop {
            if let Poll::Ready(flushed) = kept.poll_flush() {
                assert!(matches!(flushed, Err(Error::Timeout(_))), "{flushed:?}");
                break kept.world.elapsed();
            }
            while !kept.writer_woken() {
                assert!(kept.world.step(s(10_000)), "it hangs");
            }
        };
        assert_eq!(ended, expected);
        kept.run_until(s(999));
        assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Write);
    }
}

// contract: O97
#[tokio::test(start_paused = true)]
async fn bytes_that_move_when_the_heartbeat_asks_the_socket_count_for_a_write() {
    let (ours, mut theirs) = duplex(1000);
    let start = Instant::now();
    let config = slow().interval(s(3600)).initial_delay(s(0));
    let mut socket = metered(ours, config, true).await.with_lookahead(0);
    let peer = tokio::spawn(async move {
        let mut buffer = [0; 1000];
        while let Ok(1..) = theirs.read(&mut buffer).await {
            sleep(s(1)).await;
        }
    });
    // The ping leaves, and its pong would have to be read. Then the application gives its write up.
    assert!(timeout(ms(1), socket.next()).await.is_err());
    let send = socket.send(Message::binary(vec![0; 1_000_000]));
    assert!(timeout(ms(1), send).await.is_err());
    let interrupted = socket.run_while(pending::<()>()).await;
    assert!(interrupted.is_err());
    assert_eq!(end(socket, start).await, (s(100), TimeoutPhase::Write));
    peer.abort();
}

/// 300 000 bytes, of which no two parts are alike.
fn data() -> Vec<u8> {
    let numbers = (0..75_000_u32).map(|n| n.wrapping_mul(2_654_435_761));
    numbers.flat_map(u32::to_be_bytes).collect()
}

/// How much of the rest the next two writes take.
fn sizes() -> impl Iterator<Item = (usize, usize)> {
    (1..).map(|n: usize| (n * n % 1000, n * 31 % 700))
}

// contract: O97
#[tokio::test]
async fn what_is_metered_passes_untouched_over_the_traits_of_tokio() {
    let (ours, theirs) = duplex(4096);
    let (out, input) = (Meter::new(), Meter::new());
    let (mut ours, mut theirs) = (out.wrap(ours), input.wrap(theirs));
    assert!(ours.is_write_vectored(), "as the pipe itself");
    assert!(
        !out.wrap(tokio::io::join(&[][..], Plain))
            .is_write_vectored()
    );
    let data = data();
    let writes = async {
        let mut rest = &data[..];
        for (first, second) in sizes() {
            let (first, other) = rest.split_at(first.min(rest.len()));
            let second = &other[..second.min(other.len())];
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let written = ours.write_vectored(&slices).await.expect("open");
            assert_eq!(written == 0, first.len() + second.len() == 0);
            rest = &rest[written..];
            let written = ours.write(&rest[..first.len().min(rest.len())]).await;
            rest = &rest[written.expect("open")..];
            if rest.is_empty() {
                break;
            }
        }
        ours.flush().await.expect("open");
        ours.shutdown().await.expect("open");
    };
    let mut read = b"before".to_vec();
    let (_, all) = tokio::join!(writes, theirs.read_to_end(&mut read));
    assert_eq!(all.expect("open"), data.len());
    assert!(read[6..] == data);
    assert_eq!((out.bytes_out(), out.bytes_in()), (300_000, 0));
    assert_eq!((input.bytes_out(), input.bytes_in()), (0, 300_000));
    drop(ours.into_inner());
}

/// A sink of bytes that takes one slice at a time, and cannot be flushed.
struct Plain;

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// contract: O97
#[tokio::test]
async fn what_is_metered_passes_untouched_over_the_traits_of_futures_io() {
    let (ours, theirs) = duplex(4096);
    let (out, input) = (Meter::new(), Meter::new());
    let (mut ours, mut theirs) = (out.wrap(ours.compat()), input.wrap(theirs.compat()));
    let data = data();
    let writes = async {
        use futures::io::AsyncWriteExt;
        let mut rest = &data[..];
        for (first, second) in sizes() {
            let (first, other) = rest.split_at(first.min(rest.len()));
            let second = &other[..second.min(other.len())];
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let written = ours.write_vectored(&slices).await.expect("open");
            assert_eq!(written == 0, first.len() + second.len() == 0);
            rest = &rest[written..];
            let written = ours.write(&rest[..first.len().min(rest.len())]).await;
            rest = &rest[written.expect("open")..];
            if rest.is_empty() {
                break;
            }
        }
        ours.flush().await.expect("open");
        ours.close().await.expect("open");
    };
    let reads = async {
        use futures::io::AsyncReadExt;
        let mut read = Vec::new();
        let (mut first, mut second) = ([0; 100], [0; 50]);
        while read.len() < 100_000 {
            let slices = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            let length = theirs.read_vectored(slices).await.expect("open");
            let both = first.iter().chain(&second).copied();
            read.extend(both.take(length));
        }
        theirs.read_to_end(&mut read).await.expect("open");
        read
    };
    let ((), read) = tokio::join!(writes, reads);
    assert!(read == data);
    assert_eq!((out.bytes_out(), out.bytes_in()), (300_000, 0));
    assert_eq!((input.bytes_out(), input.bytes_in()), (0, 300_000));
    drop(ours.into_inner());
}

// contract: O97
#[tokio::test(start_paused = true)]
async fn a_metered_socket_of_async_tungstenite_has_its_heartbeat() {
    let (ours, theirs) = duplex(1024);
    let meter = Meter::new();
    let ours = FuturesSocket::from_raw_socket(meter.wrap(ours.compat()), Role::Server, None).await;
    let theirs = FuturesSocket::from_raw_socket(theirs.compat(), Role::Client, None).await;
    let mut ours = keep_alive(ours, slow().build().expect("valid")).with_meter(meter.clone());
    let (mut to_us, mut from_us) = theirs.split();
    let echo = tokio::spawn(async move {
        while let Some(Ok(message)) = from_us.next().await {
            if message.is_binary() {
                to_us.send(message).await.expect("open");
            }
        }
    });
    for size in [0, 1, 125, 126, 1024, 65_536] {
        let message = Message::binary(data()[..size].to_vec());
        // More than the pipe can hold: read and written at once.
        let (mut sink, mut stream) = (&mut ours).split();
        let (sent, echoed) = futures::join!(sink.send(message.clone()), stream.next());
        sent.expect("alive");
        assert_eq!(echoed.expect("it is up").expect("alive"), message);
    }
    assert!(meter.bytes_in() > 66_000 && meter.bytes_out() > 66_000);
    assert!(timeout(s(100), ours.next()).await.is_err());
    assert_eq!(ours.stats().answered(), 6);
    echo.abort();
}

// contract: O97
#[tokio::test]
async fn what_is_metered_is_flushed() {
    let mut metered = Meter::new().wrap(Plain);
    assert!(metered.flush().await.is_err());
    let mut metered = Meter::new().wrap(Plain.compat_write());
    assert!(futures::AsyncWriteExt::flush(&mut metered).await.is_err());
}
