//! P104, P105. The messages beneath a preset.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc::unbounded;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use futures_pinger::protocols::{EngineIo, GraphqlWs, Phoenix, Stomp, Text};
use futures_pinger::testing::World;
use futures_pinger::{
    CloseReason, Config, Error, Frame, FrameSink, KeepAlive, Liveness, MessageKind, Protocol,
    Rfc6455, TextProtocol, TimeoutPhase, pinger, ponger,
};
use tungstenite_0_30::Message;

use crate::cases::{DAY, Preset, Run, SURFACES, Surface, exact, proven, s, trusted, with_id};

/// The messages of a browser's socket: there is no close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Text(String),
    Bytes(Vec<u8>),
}

/// Their protocol.
#[derive(Debug, Clone, Copy)]
struct Browser;

impl Protocol<Page> for Browser {
    fn encode(&self, _: Frame) -> Option<Page> {
        None
    }

    fn classify<'m>(&self, _: &'m Page) -> MessageKind<'m> {
        MessageKind::Data
    }
}

impl TextProtocol<Page> for Browser {
    fn encode_text(&self, text: String) -> Page {
        Page::Text(text)
    }

    fn text<'m>(&self, message: &'m Page) -> Option<&'m str> {
        match message {
            Page::Text(text) => Some(text),
            Page::Bytes(_) => None,
        }
    }
}

// contract: P104
#[test]
fn the_close_frame_of_a_preset_is_that_of_the_messages_below_where_they_have_one() {
    let close = || Frame::Close(CloseReason::ping_timeout());
    for case in proven().into_iter().chain(trusted()) {
        assert_eq!(
            case.preset.encode(close()),
            Rfc6455.encode(close()),
            "{}",
            case.name
        );
        let run = Run::new(Surface::KeepAlive, &case.preset, exact());
        run.run_until(s(100));
        assert_eq!(run.verdict().map(|(at, _)| at), Some(s(40)));
        assert!(run.sent()[1].1.is_close(), "{}", case.name);
    }

    let presets: [Arc<dyn Protocol<Page> + Send + Sync>; 6] = [
        Arc::new(GraphqlWs::new().over(Browser)),
        Arc::new(Phoenix::new().over(Browser)),
        Arc::new(EngineIo::new().over(Browser)),
        Arc::new(Stomp::new().over(Browser)),
        Arc::new(with_id().over(Browser)),
        Arc::new(Text::new("ping", "pong").expect("valid").over(Browser)),
    ];
    for preset in presets {
        assert_eq!(preset.encode(close()), None);
        assert_eq!(
            preset.classify(&Page::Bytes(b"2".into())),
            MessageKind::Data
        );
        let world = World::new();
        let (socket, script) = world.socket::<Page, _>(Arc::clone(&preset));
        let alive = KeepAlive::with_protocol(socket, preset, exact().build().expect("valid"));
        let mut alive = alive.with_timer(world.timer());
        let mut reader = world.task(async move { alive.next().await });
        reader.run_until(s(100));
        assert_eq!(reader.ended_at(), Some(s(40)));
        let Some(Some(Err(Error::Timeout(verdict)))) = reader.output() else {
            panic!("{:?}", reader.output())
        };
        assert!(!verdict.close_sent());
        assert_eq!(script.sent().len(), 1, "the ping alone");
    }
}

// contract: P104
#[test]
fn the_ping_of_a_peer_is_answered_with_what_it_has_in_the_place_of_the_id() {
    let cases: [(Preset, &str, &str); 9] = [
        (
            Arc::new(with_id()),
            r#"{"op":"ping","id":7}"#,
            r#"{"op":"pong","id":7}"#,
        ),
        (
            Arc::new(with_id()),
            r#"{"id":"a\"b","op":"ping"}"#,
            r#"{"op":"pong","id":"a\"b"}"#,
        ),
        (
            Arc::new(with_id()),
            r#"{"op":"ping","id":{"n":[1,null]}}"#,
            r#"{"op":"pong","id":{"n":[1,null]}}"#,
        ),
        (
            Arc::new(GraphqlWs::new()),
            r#"{"type":"ping"}"#,
            r#"{"type":"pong"}"#,
        ),
        (
            Arc::new(GraphqlWs::new()),
            r#"{"type":"ping","payload":{"n":1}}"#,
            r#"{"type":"pong","payload":{"n":1}}"#,
        ),
        (
            Arc::new(Phoenix::default()),
            r#"[null,"7","phoenix","heartbeat",{}]"#,
            r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        ),
        (Arc::new(EngineIo::new()), "2", "3"),
        (
            Arc::new(Text::new("ping", "pong").expect("valid")),
            "ping",
            "pong",
        ),
        (
            Arc::new(Text::new("PING $id", "PONG $id").expect("valid")),
            "PING 31",
            "PONG 31",
        ),
    ];
    for (preset, ping, pong) in cases {
        let answer = preset.pong_for(&Message::text(ping));
        assert_eq!(answer, Some(Message::text(pong)), "{ping}");
    }
}

// contract: P105
#[test]
fn a_text_that_is_no_json_or_longer_than_any_ping_is_data() {
    let long = |text: &str| format!("{text}{}", " ".repeat(1024));
    let presets: [(Preset, &[&str]); 3] = [
        (
            Arc::new(GraphqlWs::new()),
            &[r#"{"type":"ping"}"#, r#"{"type":"pong"}"#],
        ),
        (Arc::new(with_id()), &[r#"{"op":"ping","id":7}"#]),
        (
            Arc::new(Phoenix::new()),
            &[r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
        ),
    ];
    for (preset, beats) in presets {
        for beat in beats {
            let kind = |text: String| match preset.classify(&Message::text(text)) {
                MessageKind::Data => true,
                MessageKind::Ping(_) | MessageKind::Pong(_) | MessageKind::Answer => false,
                other => panic!("{other:?}"),
            };
            assert!(!kind((*beat).into()), "{beat}");
            assert!(kind(long(beat)), "{beat}");
            assert!(kind(format!("{beat}]")), "{beat}");
            assert!(kind(beat[1..].into()), "{beat}");
        }
        for text in ["", "{", "[", "null", "ping", "{}", "[]", "7"] {
            let message = Message::text(text);
            assert_eq!(preset.classify(&message), MessageKind::Data, "{text}");
        }
    }
}

// contract: P104
#[test]
fn a_beat_without_a_pong_has_no_answer() {
    let (tx, rx) = unbounded::<Message>();
    let (pings, ponger) = ponger(FrameSink::new(tx, Stomp::new()));
    let incoming = futures::stream::iter([Ok::<_, ()>(Message::text("\n"))]);
    let mut incoming = pings.attach(incoming, Stomp::new());
    assert_eq!(
        incoming.next().now_or_never(),
        Some(Some(Ok(Message::text("\n"))))
    );
    drop(incoming);
    ponger.now_or_never().expect("it ends").expect("open");
    assert_eq!(rx.collect::<Vec<_>>().now_or_never(), Some(vec![]));
    assert_eq!(Stomp::new().pong_for(&Message::text("\n")), None);
}

/// Counts how often it is asked.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Counted {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Protocol<Message> for Counted {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Rfc6455.encode(frame)
    }

    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Rfc6455.classify(message)
    }
}

impl TextProtocol<Message> for Counted {
    fn encode_text(&self, text: String) -> Message {
        Rfc6455.encode_text(text)
    }

    fn text<'m>(&self, message: &'m Message) -> Option<&'m str> {
        Rfc6455.text(message)
    }
}

/// A message of each kind.
fn messages() -> Vec<Message> {
    vec![
        Message::text("data"),
        Message::text(r#"{"op":"pong","id":"00"}"#),
        Message::text(r#"{"op":"ping","id":"00"}"#),
        Message::binary(vec![1]),
        Message::Ping(vec![1].into()),
        Message::Pong(vec![1].into()),
        Message::text("data"),
        Message::Close(None),
    ]
}

// contract: P105
#[test]
fn a_preset_asks_once_what_a_message_is() {
    let counted = Arc::new(Counted::default());
    let preset = || with_id().over(Arc::clone(&counted));
    let messages = messages();

    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    let alive = KeepAlive::with_protocol(socket, preset(), exact().build().expect("valid"));
    let mut alive = alive.with_timer(world.timer());
    for message in &messages {
        script.receive(message.clone());
        while alive.next().now_or_never().is_some() {}
        assert_eq!(counted.take(), 1, "{message:?}");
    }
    assert_eq!(
        alive.send(Message::Close(None)).now_or_never(),
        Some(Ok(()))
    );
    assert_eq!(counted.take(), 1);

    let incoming = || futures::stream::iter(messages.clone().into_iter().map(Ok::<_, ()>));
    let (pongs, _pinger) = pinger(world.sink().0, Config::default());
    let read = pongs.attach(incoming(), preset()).count().now_or_never();
    assert_eq!(
        (read, counted.take()),
        (Some(messages.len()), messages.len())
    );

    let (pings, _ponger) = ponger(world.sink().0);
    let read = pings.attach(incoming(), preset()).count().now_or_never();
    assert_eq!(
        (read, counted.take()),
        (Some(messages.len()), messages.len())
    );
}

// contract: P100
#[test]
fn a_client_that_watches_for_pings_in_text_is_not_told_by_those_of_the_websocket() {
    let client = || EngineIo::client_config(r#"0{"pingInterval":10000,"pingTimeout":5000}"#);
    let client = || client().expect("a packet").granularity(Duration::ZERO);
    let preset: Preset = Arc::new(EngineIo::new());
    for surface in SURFACES {
        let run = Run::new(surface, &preset, client());
        run.says(s(10), "2");
        run.run_until(DAY);
        assert_eq!(run.verdict(), None, "{surface:?}");
        assert_eq!(run.read()[..2], [Message::text("2"), Message::text("2")]);

        let run = Run::new(surface, &preset, client());
        run.says(s(1), "4data");
        let (clock, peer) = (run.world.clone(), run.script.clone());
        run.world.spawn(async move {
            loop {
                clock.sleep(s(2)).await;
                peer.receive(Message::Ping(vec![1].into()));
                peer.receive(Message::Pong(vec![1].into()));
            }
        });
        run.run_until(s(100));
        assert_eq!(
            run.verdict(),
            Some((s(15), TimeoutPhase::Silence)),
            "{surface:?}"
        );
    }
}

// contract: P102
#[test]
fn the_frames_of_the_websocket_are_neither_pings_nor_pongs_of_a_preset() {
    let frames = [Message::Ping(vec![1].into()), Message::Pong(vec![1].into())];
    for case in proven().into_iter().chain(trusted()) {
        let kinds = [MessageKind::PingBelow, MessageKind::PongBelow];
        for (frame, kind) in frames.iter().zip(kinds) {
            assert_eq!(case.preset.classify(frame), kind, "{}", case.name);
            assert_eq!(case.preset.pong_for(frame), None, "{}", case.name);
        }
        assert_eq!(
            case.preset.classify(&Message::Close(None)),
            MessageKind::Close
        );
        assert_eq!(
            case.preset.classify(&Message::binary(vec![b'2'])),
            MessageKind::Data
        );

        // They are passed on and prove nothing, whatever the liveness.
        for liveness in [Liveness::Pong, Liveness::AnyPong] {
            for surface in SURFACES {
                let run = Run::new(surface, &case.preset, exact().liveness(liveness));
                let peer = run.script.clone();
                run.world
                    .at(s(21), move || peer.receive(Message::Pong(vec![1].into())));
                run.run_until(s(100));
                assert_eq!(
                    run.verdict().map(|(at, _)| at),
                    Some(s(40)),
                    "{}",
                    case.name
                );
                assert_eq!(run.read(), [Message::Pong(vec![1].into())]);
                assert_eq!(run.stats().unsolicited(), 0);
            }
        }
    }

    // They are answered by no ponger either, which would do so in text.
    let (tx, rx) = unbounded::<Message>();
    let (pings, ponger) = ponger(FrameSink::new(tx, EngineIo::new()));
    let incoming = futures::stream::iter([Ok::<_, ()>(frames[0].clone()), Ok(Message::text("2"))]);
    let read = pings
        .attach(incoming, EngineIo::new())
        .count()
        .now_or_never();
    assert_eq!(read, Some(2));
    ponger.now_or_never().expect("it ends").expect("open");
    assert_eq!(
        rx.collect::<Vec<_>>().now_or_never(),
        Some(vec![Message::text("3")])
    );
}

// contract: O89
#[test]
fn pings_of_the_websocket_displace_no_ping_in_text_that_was_read_ahead() {
    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    let alive = KeepAlive::with_protocol(socket, EngineIo::new(), exact().build().expect("valid"));
    let mut alive = alive.with_timer(world.timer()).with_lookahead(3);
    script.receive(Message::text("2"));
    for number in 0..40 {
        script.receive(Message::Ping(vec![number].into()));
    }
    script.receive(Message::text("4data"));
    assert!(
        alive
            .run_while(std::future::pending::<()>())
            .now_or_never()
            .is_none()
    );
    let mut read = || {
        alive
            .next()
            .now_or_never()
            .flatten()
            .map(|read| read.expect("alive"))
    };
    assert_eq!(read(), Some(Message::text("2")));
    assert_eq!(read(), Some(Message::Ping(vec![39].into())));
    assert_eq!(read(), Some(Message::text("4data")));
}

/// What the application gets of messages that come while it works, over a socket of `protocol`.
fn reads_afterwards(
    protocol: impl Protocol<Message>,
    received: &[Message],
    lookahead: usize,
) -> Vec<Message> {
    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    let config = exact().build().expect("valid");
    let alive = KeepAlive::with_protocol(socket, protocol, config);
    let mut alive = alive.with_timer(world.timer()).with_lookahead(lookahead);
    // Pings of the application itself.
    for payload in [b"a", b"b"] {
        let ping = Message::Ping(payload[..].into());
        assert_eq!(alive.send(ping).now_or_never(), Some(Ok(())));
    }
    for message in received {
        script.receive(message.clone());
    }
    let work = alive.run_while(std::future::pending::<()>());
    assert!(work.now_or_never().is_none());
    let read = std::iter::from_fn(|| alive.next().now_or_never().flatten());
    read.map(|message| message.expect("alive")).collect()
}

// The application has sent pings of the WebSocket, and waits for their pongs: it lost all but the last control
// frame of those that were read ahead.
//
// contract: O89
#[test]
fn a_pong_of_the_applications_own_ping_that_was_read_ahead_is_passed_on() {
    let ping = |payload: &'static str| Message::Ping(payload.into());
    let pong = |payload: &'static str| Message::Pong(payload.into());
    let received = [
        pong("a"),
        ping("x"),
        pong("b"),
        pong(""), // unsolicited (RFC 6455 §5.5.3)
        ping("y"),
        Message::text("data"),
    ];
    // Of the pings, which the WebSocket crate has answered, the newest is kept.
    let expected = [
        pong("a"),
        pong("b"),
        pong(""),
        ping("y"),
        received[5].clone(),
    ];
    assert_eq!(reads_afterwards(Rfc6455, &received, 16), expected);
    for case in proven().into_iter().chain(trusted()) {
        let read = reads_afterwards(Arc::clone(&case.preset), &received, 16);
        assert_eq!(read, expected, "{}", case.name);
    }
}

// contract: O89
#[test]
fn pongs_of_the_websocket_that_find_no_room_ahead_are_left_in_the_socket() {
    let received: Vec<_> = (0..40)
        .map(|number| Message::Pong(vec![number].into()))
        .collect();
    for lookahead in [0, 1, 3] {
        for preset in [Arc::new(EngineIo::new()) as Preset, Arc::new(with_id())] {
            assert_eq!(reads_afterwards(preset, &received, lookahead), received);
        }
    }
}

// contract: O98
#[test]
fn where_data_alone_is_passed_on_neither_are_pings_in_text_nor_frames_of_the_websocket() {
    for preset in [
        Arc::new(EngineIo::new()) as Preset,
        Arc::new(Text::new("2", "3").expect("valid")),
    ] {
        let world = World::new();
        let (socket, script) = world.socket::<Message, _>(Rfc6455);
        let alive = KeepAlive::with_protocol(socket, preset, exact().build().expect("valid"));
        let mut alive = alive.with_timer(world.timer()).data_only();
        for message in [
            Message::text("2"),
            Message::Ping(vec![1].into()),
            Message::Pong(vec![1].into()),
            Message::text("3"),
            Message::text("4data"),
        ] {
            script.receive(message);
        }
        let read = alive
            .next()
            .now_or_never()
            .flatten()
            .map(|read| read.expect("alive"));
        assert_eq!(read, Some(Message::text("4data")));
        assert_eq!(alive.next().now_or_never(), None);
    }
}

/// A socket whose flushes are counted.
struct Flushed<S> {
    socket: S,
    flushes: Arc<AtomicUsize>,
}

impl<S: Stream + Unpin> Stream for Flushed<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.socket.poll_next_unpin(cx)
    }
}

impl<S: Sink<Message> + Unpin> Sink<Message> for Flushed<S> {
    type Error = S::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.socket.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), S::Error> {
        self.socket.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.socket.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.socket.poll_close_unpin(cx)
    }
}

// contract: O98
#[test]
fn where_data_alone_is_passed_on_the_answer_to_a_ping_of_the_websocket_is_flushed() {
    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    let flushes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&flushes);
    let socket = Flushed { socket, flushes };
    let config = exact().build().expect("valid");
    let alive = KeepAlive::with_protocol(socket, EngineIo::new(), config);
    let mut alive = alive.with_timer(world.timer()).data_only();
    assert_eq!(alive.next().now_or_never().map(|_| ()), None);
    let before = count.load(Ordering::Relaxed);
    script.receive(Message::Ping(vec![1].into()));
    assert_eq!(alive.next().now_or_never().map(|_| ()), None);
    assert_eq!(count.load(Ordering::Relaxed), before + 1);
    script.receive(Message::text("4data"));
    assert!(alive.next().now_or_never().is_some());
    assert_eq!(count.load(Ordering::Relaxed), before + 1);
}

// contract: P105
#[test]
fn a_protocol_behind_a_reference_or_a_pointer_writes_and_reads_as_itself() {
    fn check(protocol: impl TextProtocol<Message>) {
        let text = protocol.encode_text("beat".into());
        assert_eq!(text, Message::text("beat"));
        assert_eq!(protocol.text(&text), Some("beat"));
        assert_eq!(protocol.text(&Message::binary(&b"data"[..])), None);
        let ping = Frame::Ping("ping".into());
        assert_eq!(protocol.encode(ping), Some(Message::Ping("ping".into())));
        let pong = protocol.pong_for(&Message::Ping("ping".into()));
        assert_eq!(pong, Some(Message::Pong("ping".into())));
    }
    let reference: &dyn TextProtocol<Message> = &Rfc6455;
    check(Rfc6455);
    check(reference);
    check(Arc::new(Rfc6455));
}

// contract: P104
#[test]
fn a_preset_whose_pings_come_from_the_peer_has_a_message_for_one_of_ours_too() {
    let ping = || Frame::Ping("payload".into());
    assert_eq!(EngineIo::new().encode(ping()), Some(Message::text("2")));
    let stomp = Stomp::new();
    assert_eq!(stomp.encode(ping()), Some(Message::text("\n")));
    for beat in ["\n", "\r\n"] {
        let beat = Message::text(beat);
        assert!(matches!(stomp.classify(&beat), MessageKind::Ping(_)));
    }
}
