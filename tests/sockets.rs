//! Real sockets that end or block: a heartbeat over TCP on the loopback.
//!
//! Where it must end at once, its timeouts are hours: it ends at once or not within [`GUARD`]. No
//! test depends on how fast the machine is.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{self, Either};
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, SinkExt, StreamExt};
use futures_pinger::{
    CloseReason, Config, ConfigBuilder, Error, Frame, KeepAlive, PongKind, PongSender, Protocol,
    Rfc6455, Stopped, TimedOut, TimeoutPhase, TokioTimer, pinger,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

/// What hangs fails after this long.
const GUARD: Duration = Duration::from_secs(30);
const HOURS: Duration = Duration::from_secs(36_000);
/// Of each socket; the system makes of it what it likes.
const BUFFER: u32 = 4096;
/// More than all buffers between the heartbeat and a peer that does not read.
const TOO_MUCH: usize = 4 << 20;

type Socket = WebSocketStream<TcpStream>;
type Ended = Result<Stopped, Error<tungstenite::Error>>;

/// A heartbeat that nothing ends but the connection; its first ping leaves at once.
fn patient() -> ConfigBuilder {
    let builder = Config::builder().interval(HOURS).timeout(HOURS);
    builder.close_timeout(HOURS).initial_delay(Duration::ZERO)
}

/// Both ends of a connection with small buffers: the app's and the peer's.
async fn connected() -> io::Result<(Socket, Socket)> {
    let listener = TcpSocket::new_v4()?;
    // The accepted socket inherits it.
    listener.set_recv_buffer_size(BUFFER)?;
    listener.bind(([127, 0, 0, 1], 0).into())?;
    let listener = listener.listen(1)?;
    let address = listener.local_addr()?;
    let accept = async {
        let (socket, _) = listener.accept().await?;
        accept_async(socket).await.map_err(io::Error::other)
    };
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(BUFFER)?;
        let socket = socket.connect(address).await?;
        let connected = client_async("ws://localhost/", socket).await;
        connected.map_err(io::Error::other)
    };
    let (peer, (app, _)) = future::try_join(accept, connect).await?;
    Ok((app, peer))
}

fn message(frame: Frame) -> Message {
    Rfc6455.encode(frame).expect("RFC 6455 has every frame")
}

fn frames<S>(write: S) -> impl Sink<Frame, Error = tungstenite::Error>
where
    S: Sink<Message, Error = tungstenite::Error>,
{
    write.with(|frame| future::ready(Ok(message(frame))))
}

/// Reads until the connection ends, and then lets go of the pongs.
async fn read(mut messages: SplitStream<Socket>, pongs: PongSender) {
    while let Some(Ok(message)) = messages.next().await {
        if let Message::Pong(payload) = message {
            // Not ours, or too late: nothing to do about it.
            let _ = pongs.handle_pong(&payload);
        }
    }
}

/// Polls a heartbeat and its reader until the heartbeat ends.
async fn alongside(pinger: impl Future<Output = Ended>, reader: impl Future<Output = ()>) -> Ended {
    match future::select(pin!(pinger), pin!(reader)).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), pinger)) => pinger.await,
    }
}

/// The heartbeat of a whole connection, reader included.
async fn heartbeat(socket: Socket, config: Config) -> Ended {
    let (write, messages) = socket.split();
    let (pongs, pinger) = pinger(frames(write), config);
    let pinger = pinger.with_timer(TokioTimer::new());
    alongside(pinger, read(messages, pongs)).await
}

async fn bounded<F: Future>(future: F) -> F::Output {
    timeout(GUARD, future).await.expect("it hangs")
}

fn assert_end_of_connection(ended: &Ended) {
    assert!(
        matches!(ended, Ok(Stopped::PongsEnded) | Err(Error::Transport(_))),
        "{ended:?}"
    );
}

fn timed_out(ended: Ended) -> TimedOut {
    match ended {
        Err(Error::Timeout(verdict)) => verdict,
        other => panic!("no verdict: {other:?}"),
    }
}

/// Reads pings, and answers them, until `answers` are given.
async fn answer(peer: &mut Socket, answers: usize) {
    for _ in 0..answers {
        let message = peer.next().await.expect("a message").expect("a whole one");
        assert!(message.is_ping(), "{message:?}");
        // tungstenite has the answer ready, and writes it with the next flush.
        peer.flush().await.expect("the app reads");
    }
}

/// Ends the stream of bytes; no WebSocket close frame goes before it.
async fn fin(peer: &mut Socket) {
    peer.get_mut().shutdown().await.expect("a FIN");
}

/// Tears the connection down.
fn rst(mut peer: Socket) {
    // Deprecated since a linger that is longer than zero blocks the thread on drop.
    #[allow(deprecated)]
    let linger = peer.get_mut().set_linger(Some(Duration::ZERO));
    linger.expect("no linger");
    drop(peer);
}

// contract: N84
#[tokio::test]
async fn a_fin_while_idle_ends_it_at_once() {
    let (app, mut peer) = connected().await.expect("connected");
    let config = patient().build().expect("valid");
    let ended = bounded(future::join(heartbeat(app, config), async {
        answer(&mut peer, 1).await;
        fin(&mut peer).await;
    }));
    assert_end_of_connection(&ended.await.0);
}

// contract: N84
#[tokio::test]
async fn a_fin_before_the_first_ping_ends_it_at_once() {
    let (app, mut peer) = connected().await.expect("connected");
    let config = patient().initial_delay(HOURS).build().expect("valid");
    let ended = bounded(future::join(heartbeat(app, config), fin(&mut peer)));
    assert_end_of_connection(&ended.await.0);
}

// contract: N84
#[tokio::test]
async fn a_fin_while_a_ping_is_unanswered_ends_it_at_once() {
    let (app, mut peer) = connected().await.expect("connected");
    let config = patient().build().expect("valid");
    let ended = bounded(future::join(heartbeat(app, config), async {
        // Until the ping has come, and no further: nobody answers it.
        peer.get_mut().readable().await.expect("a ping");
        fin(&mut peer).await;
    }));
    assert_end_of_connection(&ended.await.0);
}

// contract: N84
#[tokio::test]
async fn a_reset_while_idle_ends_it_at_once() {
    let (app, mut peer) = connected().await.expect("connected");
    let config = patient().build().expect("valid");
    let ended = bounded(future::join(heartbeat(app, config), async move {
        answer(&mut peer, 1).await;
        rst(peer);
    }));
    assert_end_of_connection(&ended.await.0);
}

// contract: N84
#[tokio::test]
async fn a_reset_while_a_ping_is_unanswered_ends_it_at_once() {
    let (app, mut peer) = connected().await.expect("connected");
    let config = patient().build().expect("valid");
    let ended = bounded(future::join(heartbeat(app, config), async move {
        peer.get_mut().readable().await.expect("a ping");
        rst(peer);
    }));
    assert_end_of_connection(&ended.await.0);
}

// contract: N84 E35
#[tokio::test]
async fn a_reset_that_only_the_writer_sees_is_an_error_of_the_transport() {
    let (app, mut peer) = connected().await.expect("connected");
    let (write, mut messages) = app.split();
    // The ping is due again and again: one of them meets the reset.
    let config = patient().interval(Duration::from_millis(20));
    let (pongs, pinger) = pinger(frames(write), config.build().expect("valid"));
    let reader = async {
        let message = messages.next().await.expect("a message").expect("a pong");
        let answered = pongs.handle_pong(&message.into_data()).expect("it runs");
        assert!(matches!(answered, PongKind::Matched { .. }), "{answered:?}");
        // From here on nobody reads, and the pong side stays open.
    };
    let peer = async move {
        answer(&mut peer, 1).await;
        rst(peer);
    };
    let pinger = pinger.with_timer(TokioTimer::new());
    let (ended, (), ()) = bounded(future::join3(pinger, reader, peer)).await;
    assert!(matches!(ended, Err(Error::Transport(_))), "{ended:?}");
    drop(pongs);
}

// contract: N84
#[tokio::test]
async fn a_reset_while_a_ping_is_stuck_in_a_full_buffer_ends_it_at_once() {
    let (mut app, peer) = connected().await.expect("connected");
    fill(&mut app).await;
    let config = patient().build().expect("valid");
    let mut stuck = Box::pin(heartbeat(app, config));
    // The ping is offered in the first poll.
    let offered = futures::poll!(&mut stuck);
    assert!(offered.is_pending(), "{offered:?}");
    rst(peer);
    assert_end_of_connection(&bounded(stuck).await);
}

/// Data for a peer that does not read: the window is zero, and the sink takes no more.
async fn fill(socket: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin)) {
    future::poll_fn(|cx| fill_now(Pin::new(&mut *socket), cx))
        .await
        .expect("the connection stands");
}

fn fill_now<S: Sink<Message>>(
    mut socket: Pin<&mut S>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), S::Error>> {
    ready!(socket.as_mut().poll_ready(cx))?;
    // tungstenite takes a message of any size, and keeps what the socket does not take.
    Poll::Ready(socket.start_send(Message::Binary(vec![0; TOO_MUCH].into())))
}

// contract: C20 C21
#[tokio::test]
async fn a_peer_that_does_not_read_is_found_by_the_write_timeout() {
    const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

    let (mut app, peer) = connected().await.expect("connected");
    fill(&mut app).await;
    let config = patient().write_timeout(WRITE_TIMEOUT).build();
    let ended = bounded(heartbeat(app, config.expect("valid"))).await;
    let verdict = timed_out(ended);
    assert_eq!(verdict.phase(), TimeoutPhase::Write);
    assert!(verdict.elapsed() >= WRITE_TIMEOUT, "{verdict}");
    assert!(!verdict.close_sent(), "{verdict}");
    assert_eq!((verdict.answered(), verdict.missed()), (0, 0));
    drop(peer);
}

// contract: C20
#[tokio::test]
async fn a_peer_that_stops_reading_after_some_answers_is_found_by_the_write_timeout() {
    const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

    let (app, mut peer) = connected().await.expect("connected");
    let (write, messages) = app.split();
    let config = patient().interval(Duration::from_millis(20));
    let config = config.write_timeout(WRITE_TIMEOUT).build().expect("valid");
    let (pongs, pinger) = pinger(frames(FillsAfter { write, pings: 3 }), config);
    let pinger = pinger.with_timer(TokioTimer::new());
    let reader = read(messages, pongs);
    let both = future::join(alongside(pinger, reader), answer(&mut peer, 3));
    let (ended, ()) = bounded(both).await;
    let verdict = timed_out(ended);
    assert_eq!(verdict.phase(), TimeoutPhase::Write);
    assert_eq!(verdict.answered(), 3);
    assert!(verdict.elapsed() >= WRITE_TIMEOUT, "{verdict}");
    assert!(!verdict.close_sent(), "{verdict}");
}

// contract: E30
#[tokio::test]
async fn a_close_frame_that_a_zero_window_blocks_does_not_hold_up_the_verdict() {
    const TIMEOUT: Duration = Duration::from_millis(100);

    let (app, peer) = connected().await.expect("connected");
    let (write, messages) = app.split();
    let config = patient().timeout(TIMEOUT).write_timeout(HOURS);
    let config = config.close_timeout(TIMEOUT).build().expect("valid");
    let (pongs, pinger) = pinger(frames(FillsAfter { write, pings: 1 }), config);
    let pinger = pinger.with_timer(TokioTimer::new());
    let ended = bounded(alongside(pinger, read(messages, pongs))).await;
    let verdict = timed_out(ended);
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert!(verdict.elapsed() >= TIMEOUT, "{verdict}");
    assert!(!verdict.close_sent(), "{verdict}");
    drop(peer);
}

// contract: N86
#[tokio::test]
async fn the_dedicated_sink_gets_the_close_frame_while_a_zero_window_blocks_the_pings() {
    let (mut app, peer) = connected().await.expect("connected");
    fill(&mut app).await;
    let (write, messages) = app.split();
    let config = patient().write_timeout(Duration::from_millis(100));
    let (pongs, pinger) = pinger(frames(write), config.build().expect("valid"));
    let (out, closes) = mpsc::channel(1);
    let pinger = pinger.close_to(out).with_timer(TokioTimer::new());
    let ended = bounded(alongside(pinger, read(messages, pongs))).await;
    let verdict = timed_out(ended);
    assert_eq!(verdict.phase(), TimeoutPhase::Write);
    assert!(verdict.close_sent(), "{verdict}");
    let closes: Vec<_> = bounded(closes.collect()).await;
    assert_eq!(closes, [Frame::Close(CloseReason::ping_timeout())]);
    drop(peer);
}

// contract: N86
#[tokio::test]
async fn the_dedicated_sink_may_be_a_second_connection() {
    let (mut app, peer) = connected().await.expect("connected");
    let (out, mut out_peer) = connected().await.expect("connected");
    fill(&mut app).await;
    let (write, messages) = app.split();
    let config = patient().write_timeout(Duration::from_millis(100));
    let (pongs, pinger) = pinger(frames(write), config.build().expect("valid"));
    let pinger = pinger.close_to(frames(out)).with_timer(TokioTimer::new());
    let ended = bounded(alongside(pinger, read(messages, pongs))).await;
    assert!(timed_out(ended).close_sent());
    let message = bounded(out_peer.next()).await.expect("a message");
    let Ok(Message::Close(Some(close))) = message else {
        panic!("not the close frame: {message:?}");
    };
    assert_eq!(
        (u16::from(close.code), &*close.reason),
        (1011, "Ping timeout")
    );
    drop(peer);
}

// contract: N86
#[tokio::test]
async fn a_dedicated_sink_that_a_zero_window_blocks_too_does_not_hold_up_the_verdict() {
    let (mut app, peer) = connected().await.expect("connected");
    let (mut out, out_peer) = connected().await.expect("connected");
    fill(&mut app).await;
    fill(&mut out).await;
    let (write, messages) = app.split();
    let short = Duration::from_millis(100);
    let config = patient().write_timeout(short).close_timeout(short);
    let (pongs, pinger) = pinger(frames(write), config.build().expect("valid"));
    let pinger = pinger.close_to(frames(out)).with_timer(TokioTimer::new());
    let ended = bounded(alongside(pinger, read(messages, pongs))).await;
    let verdict = timed_out(ended);
    assert_eq!(verdict.phase(), TimeoutPhase::Write);
    assert!(!verdict.close_sent(), "{verdict}");
    drop((peer, out_peer));
}

// contract: N84
#[tokio::test]
async fn bytes_that_are_no_websocket_end_it_at_once() {
    let (app, mut peer) = connected().await.expect("connected");
    let config = patient().build().expect("valid");
    let ended = bounded(future::join(heartbeat(app, config), async {
        let mut ping = [0; 2];
        peer.get_mut().read_exact(&mut ping).await.expect("a ping");
        peer.get_mut().write_all(&[0xff; 64]).await.expect("taken");
    }));
    assert_end_of_connection(&ended.await.0);
}

/// A sink that fills its socket as soon as that many pings are flushed: then the window is zero,
/// whatever the machine's pace.
struct FillsAfter {
    write: SplitSink<Socket, Message>,
    pings: usize,
}

impl Sink<Message> for FillsAfter {
    type Error = tungstenite::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.write).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        Pin::new(&mut self.write).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(Pin::new(&mut self.write).poll_flush(cx))?;
        if self.pings == 1 {
            ready!(fill_now(Pin::new(&mut self.write), cx))?;
        }
        self.pings = self.pings.saturating_sub(1);
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.write).poll_close(cx)
    }
}

/// Two ends of tokio-websockets that flood each other through small pipes, each in two tasks of a
/// runtime with two threads. One of them closes. How many of the four tasks of each connection hang.
fn hanging_after_a_close<R, W>(wrap: impl Fn(WebSocketsSocket) -> (R, W)) -> usize
where
    R: futures::Stream<Item = Result<WebSocketsMessage, tokio_websockets_0_13::Error>>
        + Unpin
        + Send
        + 'static,
    W: Sink<WebSocketsMessage> + Unpin + Send + 'static,
    W::Error: Send,
{
    use tokio_websockets_0_13::{ClientBuilder, ServerBuilder};

    const CONNECTIONS: u64 = 30;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for number in 0..CONNECTIONS {
            let (ours, theirs) = tokio::io::duplex(256);
            let server = ServerBuilder::new().serve(ours);
            let client = ClientBuilder::new().take_over(theirs);
            for (end, closes) in [
                (wrap(server), number % 2 == 0),
                (wrap(client), number % 2 == 1),
            ] {
                let (mut read, mut write) = end;
                tasks.push(tokio::spawn(async move {
                    while let Some(Ok(_)) = read.next().await {}
                }));
                tasks.push(tokio::spawn(async move {
                    let mut sent = 0;
                    while !(closes && sent > 50 + number) {
                        let message = WebSocketsMessage::binary(vec![0; 100]);
                        if write.send(message).await.is_err() {
                            return;
                        }
                        sent += 1;
                    }
                    let _ = write.send(WebSocketsMessage::close(None, "")).await;
                }));
            }
        }
        // Twice the time that a closing handshake has.
        let end = tokio::time::Instant::now() + 2 * CLOSING;
        let mut hanging = 0;
        for mut task in tasks {
            if tokio::time::timeout_at(end, &mut task).await.is_err() {
                hanging += 1;
                task.abort();
            }
        }
        hanging
    })
}

type WebSocketsSocket = tokio_websockets_0_13::WebSocketStream<tokio::io::DuplexStream>;
type WebSocketsMessage = tokio_websockets_0_13::Message;

/// The time of a closing handshake.
const CLOSING: Duration = Duration::from_secs(3);

// The crate's own flush overwrites the waker of a reader that flushes the answer to a close frame.
// contract: O93
#[test]
fn no_task_hangs_after_a_close_between_two_ends_that_flood() {
    let bare = hanging_after_a_close(|socket| {
        let (write, read) = socket.split();
        (read, write)
    });
    println!("{bare} tasks hang with the bare sockets");
    let config = patient().initial_delay(HOURS).closing_handshake(CLOSING);
    let config = config.build().expect("valid");
    let alive = |socket| {
        let alive = KeepAlive::<_, Rfc6455>::new(socket, config.clone());
        alive.with_timer(TokioTimer::new())
    };
    let transport = |error| match error {
        Error::Transport(error) => error,
        // For the loop above any error is the end.
        _ => tokio_websockets_0_13::Error::AlreadyClosed,
    };
    let split = hanging_after_a_close(|socket| {
        let (write, read) = alive(socket).split();
        (read.map(move |read| read.map_err(transport)), write)
    });
    assert_eq!(
        split, 0,
        "of StreamExt::split; {bare} hang with the bare sockets"
    );
    let halves = hanging_after_a_close(|socket| {
        let (read, write) = alive(socket).into_split();
        (read.map(move |read| read.map_err(transport)), write)
    });
    assert_eq!(
        halves, 0,
        "of into_split; {bare} hang with the bare sockets"
    );
}
