//! P. Protocols whose pongs carry nothing, that have no message for a frame, and how often they are asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::unbounded;
use futures::{FutureExt, SinkExt, Stream, StreamExt};
use futures_pinger::testing::World;
use futures_pinger::{
    CloseReason, ConfigBuilder, Frame, FrameSink, KeepAlive, Liveness, MessageKind, PingerSet,
    PongKind, Protocol, Stats, TimeoutPhase, pinger, ponger,
};

use crate::bare::Bare;
use crate::every_surface::{build, trusting};
use crate::socket::{Msg, Plain};
use crate::world::{Broken, exact, ms, s};

const DAY: Duration = Duration::from_secs(24 * 3600);

const PING: &str = r#"{"op":"ping"}"#;
const PONG: &str = r#"{"op":"pong"}"#;
const DATA: &str = r#"{"op":"trade"}"#;

/// Heartbeats in JSON: a pong has no place for a payload, and there is no close frame.
struct Json;

impl Protocol<String> for Json {
    fn encode(&self, frame: Frame) -> Option<String> {
        match frame {
            Frame::Ping(_) => Some(PING.into()),
            Frame::Pong(_) => Some(PONG.into()),
            Frame::Close(_) => None,
        }
    }

    fn classify<'m>(&self, message: &'m String) -> MessageKind<'m> {
        match message.as_str() {
            PONG => MessageKind::Answer,
            _ => MessageKind::Data,
        }
    }
}

/// Runs a test under each liveness, with a peer that talks each second and with one that only answers.
fn each_peer(test: impl Fn(ConfigBuilder, bool, u64)) {
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(30))] {
        for talks in [false, true] {
            // Trusted activity puts the ping off until a proof is wanted, which the answer is.
            let trusts = talks && matches!(liveness, Liveness::Activity { .. });
            let each = if trusts { 30 } else { 20 };
            test(exact().liveness(liveness), talks, DAY.as_secs() / each);
        }
    }
}

/// About so many pings, and each of them answered.
#[track_caller]
fn assert_lived(stats: Stats, pings: u64) {
    let about = pings * 98 / 100..=pings * 102 / 100;
    assert!(about.contains(&stats.sent()), "{stats:?} and not {pings}");
    assert_eq!((stats.missed(), stats.unsolicited()), (0, 0));
}

/// The application reads data, and nothing else.
fn read_data(
    world: &World,
    mut stream: impl Stream<Item = Result<String, impl std::fmt::Debug>> + Send + Unpin + 'static,
) {
    world.spawn(async move {
        while let Some(message) = stream.next().await {
            assert_eq!(message.expect("a live peer"), DATA);
        }
    });
}

/// Calls `talk` each second.
fn talk(world: &World, talks: bool, talk: impl Fn() + Send + 'static) {
    if !talks {
        return;
    }
    let clock = world.clone();
    world.spawn(async move {
        loop {
            clock.sleep(s(1)).await;
            talk();
        }
    });
}

// contract: P102
#[test]
fn a_json_peer_lives_for_a_day_on_keep_alive() {
    each_peer(|config, talks, expected| {
        let world = World::new();
        let (socket, script) = world.socket::<String, _>(Json);
        let (clock, peer) = (world.clone(), script.clone());
        script.on_wire(move |message| {
            assert_eq!(message, PING);
            let peer = peer.clone();
            clock.at(clock.elapsed() + ms(30), move || peer.receive(PONG.into()));
        });
        let talker = script.clone();
        talk(&world, talks, move || talker.receive(DATA.into()));
        let alive = KeepAlive::with_protocol(socket, Json, build(config));
        let mut alive = alive.with_timer(world.timer());
        let controller = alive.controller();
        read_data(&world, alive);
        world.run_until(DAY);
        assert!(controller.is_alive());
        let stats = controller.stats();
        assert_lived(stats, expected);
    });
}

// contract: P102
#[test]
fn a_json_peer_lives_for_a_day_beside_an_attached_reader() {
    each_peer(|config, talks, expected| {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (pongs, pinger) = pinger(outgoing, build(config));
        let (socket, incoming) = unbounded::<Result<String, Broken>>();
        let (clock, peer) = (world.clone(), socket.clone());
        sink.on_wire(move |_| {
            let peer = peer.clone();
            clock.at(clock.elapsed() + ms(30), move || {
                peer.unbounded_send(Ok(PONG.into())).expect("it is read");
            });
        });
        talk(&world, talks, move || {
            socket.unbounded_send(Ok(DATA.into())).expect("it is read");
        });
        read_data(&world, pongs.attach(incoming, Json));
        let mut pinger = pinger.with_timer(world.timer());
        let controller = pinger.controller();
        let mut heartbeat = world.task(pinger);
        heartbeat.run_until(DAY);
        assert!(!heartbeat.is_finished(), "{:?}", heartbeat.output());
        let stats = controller.stats();
        assert_lived(stats, expected);
    });
}

// contract: P102
#[test]
fn a_json_peer_lives_for_a_day_in_a_set() {
    each_peer(|config, talks, expected| {
        let world = World::new();
        let mut set = PingerSet::new(build(config)).with_timer(world.timer());
        let (outgoing, sink) = world.sink();
        let member = Arc::new(set.insert(outgoing));
        let (clock, reader) = (world.clone(), Arc::clone(&member));
        sink.on_wire(move |_| {
            let reader = Arc::clone(&reader);
            clock.at(clock.elapsed() + ms(30), move || {
                let answer = reader.handle_answer();
                assert!(matches!(answer, PongKind::Accepted { .. }));
            });
        });
        let talker = Arc::clone(&member);
        talk(&world, talks, move || talker.handle_activity());
        let mut ends = world.task(async move { set.next().await });
        ends.run_until(DAY);
        assert!(!ends.is_finished(), "{:?}", ends.output());
        let stats = member.stats();
        assert_lived(stats, expected);
    });
}

// contract: P102
#[test]
fn a_json_peer_lives_for_a_day_without_io() {
    each_peer(|config, talks, expected| {
        let mut bare = Bare::new(config);
        let mut answered = 0;
        for second in 0..DAY.as_secs() {
            bare.run_until(s(second));
            let now = bare.instant();
            if bare.pings.len() > answered {
                answered += 1;
                let answer = bare.heartbeat.handle_answer(now);
                assert!(matches!(answer, PongKind::Accepted { .. }));
            }
            if talks {
                bare.heartbeat.handle_activity(now);
            }
            assert_eq!(bare.done, None);
        }
        let stats = bare.stats();
        assert_lived(stats, expected);
    });
}

// contract: P102
#[test]
fn an_answer_reaches_no_application_also_where_nobody_waits_for_it() {
    let world = World::new();
    let (socket, script) = world.socket::<String, _>(Json);
    let alive = KeepAlive::with_protocol(socket, Json, build(exact()));
    let mut alive = alive.with_timer(world.timer());
    let controller = alive.controller();
    let mut read = || alive.next().now_or_never();
    script.receive(PONG.into());
    assert_eq!(read(), None, "before the first ping");
    controller.stop().expect("it runs");
    script.receive(PONG.into());
    script.receive(DATA.into());
    assert_eq!(read(), Some(Some(Ok(DATA.into()))), "after the end");

    let (pongs, pinger) = pinger(world.sink().0, build(exact()));
    let (socket, incoming) = unbounded::<Result<Msg, Broken>>();
    let mut incoming = pongs.attach(incoming, Counted::default());
    let mut receive = |message: Msg| {
        socket.unbounded_send(Ok(message)).expect("it is read");
        incoming.next().now_or_never()
    };
    assert_eq!(receive(ANSWER), None);
    drop(pinger);
    let pong = Msg::Pong("not ours".into());
    assert_eq!(receive(pong.clone()), Some(Some(Ok(pong))));
    assert_eq!(receive(ANSWER), None);
}

// contract: P104
#[test]
fn a_keep_alive_whose_protocol_has_no_close_frame_has_its_verdict_at_once() {
    let world = World::new();
    let (socket, script) = world.socket::<String, _>(Json);
    let alive = KeepAlive::with_protocol(socket, Json, build(exact()));
    let mut alive = alive.with_timer(world.timer());
    let mut reader = world.task(async move { alive.next().await });
    reader.run_until(s(100));
    assert_eq!(reader.ended_at(), Some(s(40)));
    let Some(Some(Err(futures_pinger::Error::Timeout(verdict)))) = reader.output() else {
        panic!("{:?}", reader.output())
    };
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert!(!verdict.close_sent());
    assert_eq!(script.sent(), [(s(20), PING.to_string())]);
}

// contract: P104
#[test]
fn a_frame_sink_swallows_what_its_protocol_has_no_message_for() {
    let (tx, rx) = unbounded::<String>();
    let mut frames = FrameSink::new(tx, Json);
    let send = async {
        frames.send(Frame::Ping("1".into())).await?;
        frames
            .send(Frame::Close(CloseReason::ping_timeout()))
            .await?;
        frames.send(Frame::Pong("2".into())).await?;
        frames.close().await
    };
    send.now_or_never().expect("it never waits").expect("open");
    let messages: Vec<_> = rx.collect().now_or_never().expect("closed");
    assert_eq!(messages, [PING, PONG]);

    // The close frame of a heartbeat counts as sent then.
    let world = World::new();
    let (tx, mut rx) = unbounded::<String>();
    let (_pongs, pinger) = pinger(FrameSink::new(tx, Json), build(exact()));
    let mut heartbeat = world.task(pinger.with_timer(world.timer()));
    heartbeat.run_until(s(100));
    assert_eq!(heartbeat.ended_at(), Some(s(40)));
    let Some(Err(futures_pinger::Error::Timeout(verdict))) = heartbeat.output() else {
        panic!("{:?}", heartbeat.output())
    };
    assert!(verdict.close_sent());
    assert_eq!(rx.try_recv().as_deref(), Ok(PING));
    assert!(rx.try_recv().is_err());
}

/// The answer of a peer to [`Counted`].
const ANSWER: Msg = Msg::Data(u32::MAX);

/// Keeps book of the messages it is asked about.
#[derive(Default)]
struct Counted(Mutex<Vec<Msg>>);

impl Counted {
    fn take(&self) -> Vec<Msg> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

impl Protocol<Msg> for Counted {
    fn encode(&self, frame: Frame) -> Option<Msg> {
        Plain.encode(frame)
    }

    fn classify<'m>(&self, message: &'m Msg) -> MessageKind<'m> {
        self.0.lock().expect("no panic").push(message.clone());
        if *message == ANSWER {
            return MessageKind::Answer;
        }
        Plain.classify(message)
    }
}

/// Messages of each kind, with the pong of the ping that is out, and more of them than are read between
/// two looks at the time.
fn messages(ours: Bytes) -> Vec<Msg> {
    let mut messages = vec![
        Msg::Data(0),
        Msg::Ping("the peer's".into()),
        ANSWER,
        Msg::Pong("not ours".into()),
        Msg::Pong(ours.clone()),
        Msg::Pong(ours),
        ANSWER,
    ];
    messages.extend((1..=200).map(Msg::Data));
    messages
}

// contract: P105
#[test]
fn a_keep_alive_asks_once_what_a_message_is() {
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        let world = World::new();
        let (socket, script) = world.socket::<Msg, _>(Plain);
        let counted = Arc::new(Counted::default());
        let config = build(exact().liveness(liveness));
        let alive = KeepAlive::with_protocol(socket, Arc::clone(&counted), config);
        let mut alive = alive.with_timer(world.timer());
        let read = |alive: &mut KeepAlive<_, _, _>| {
            while let Some(Some(message)) = alive.next().now_or_never() {
                message.expect("alive");
            }
        };
        read(&mut alive);
        while world.step(s(20)) {}
        read(&mut alive);
        let (_, Msg::Ping(ours)) = script.sent()[0].clone() else {
            panic!("no ping")
        };
        assert_eq!(
            counted.take(),
            [],
            "a ping of its own is asked about by nobody"
        );
        let mut expected = messages(ours);
        // One by one, and all at once.
        for message in expected.clone() {
            script.receive(message.clone());
            read(&mut alive);
            assert_eq!(counted.take(), [message]);
        }
        expected
            .iter()
            .cloned()
            .for_each(|message| script.receive(message));
        read(&mut alive);
        assert_eq!(counted.take(), expected);

        for message in [Msg::Data(7), Msg::Ping("8".into()), Msg::Pong("9".into())] {
            let sent = alive.send(message.clone()).now_or_never();
            assert_eq!(sent, Some(Ok(())));
            expected = vec![message];
            assert_eq!(counted.take(), expected);
        }
        script.receive(Msg::Close);
        script.receive(Msg::Data(1));
        script.end();
        read(&mut alive);
        assert_eq!(counted.take(), [Msg::Close, Msg::Data(1)]);
        let sent = alive.send(Msg::Close).now_or_never();
        assert_eq!(sent, Some(Ok(())));
        assert_eq!(counted.take(), [Msg::Close]);
    }
}

// contract: P105
#[test]
fn an_attached_reader_asks_once_what_a_message_is() {
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (pongs, pinger) = pinger(outgoing, build(exact().liveness(liveness)));
        let mut heartbeat = world.task(pinger.with_timer(world.timer()));
        heartbeat.run_until(s(20));
        let counted = Arc::new(Counted::default());
        let (socket, incoming) = unbounded::<Result<Msg, Broken>>();
        let mut incoming = pongs.attach(incoming, Arc::clone(&counted));
        let mut expected = messages(sink.payload(0));
        expected.push(Msg::Close);
        for message in expected.clone() {
            socket.unbounded_send(Ok(message)).expect("it is read");
        }
        while incoming.next().now_or_never().is_some() {}
        assert_eq!(counted.take(), expected);
    }
}

// contract: P105
#[test]
fn the_reader_of_a_ponger_asks_once_what_a_message_is() {
    let (pings, _ponger) = ponger(futures::sink::drain::<Frame>());
    let counted = Arc::new(Counted::default());
    let (socket, incoming) = unbounded::<Result<Msg, Broken>>();
    let mut incoming = pings.attach(incoming, Arc::clone(&counted));
    let mut expected = messages("of whomever".into());
    expected.push(Msg::Close);
    for message in expected.clone() {
        socket.unbounded_send(Ok(message)).expect("it is read");
    }
    while incoming.next().now_or_never().is_some() {}
    assert_eq!(counted.take(), expected);
}
