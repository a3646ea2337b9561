//! The split halves: [`PongSender::attach`](futures_pinger::PongSender::attach) and `FrameSink`.

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::sink::drain;
use futures::stream::FusedStream;
use futures::{FutureExt, SinkExt, Stream, StreamExt};
use futures_pinger::{
    CloseReason, Config, FilterPongs, Frame, FrameSink, Liveness, Stopped, pinger, ponger,
};

use crate::socket::{Msg, Plain};
use crate::world::{Broken, Path, Rig, exact, ms, s};

type Incoming = UnboundedReceiver<Result<Msg, Broken>>;

struct Attached {
    rig: Rig,
    socket: UnboundedSender<Result<Msg, Broken>>,
    reader: FilterPongs<Incoming, Plain>,
}

fn attach(config: futures_pinger::ConfigBuilder) -> Attached {
    let rig = Rig::new(Path::Slot, config);
    let (socket, incoming) = unbounded();
    let reader = rig.reader.take().attach(incoming, Plain);
    Attached {
        rig,
        socket,
        reader,
    }
}

impl Attached {
    fn receive(&mut self, message: Msg) -> Option<Msg> {
        self.socket.unbounded_send(Ok(message)).expect("attached");
        self.read()
    }

    /// What is passed on now, if anything is.
    fn read(&mut self) -> Option<Msg> {
        let next = self.reader.next().now_or_never()?;
        Some(next.expect("not ended").expect("no error"))
    }

    fn our_pong(&self, ping: usize) -> Msg {
        Msg::Pong(self.rig.sink.payload(ping))
    }
}

// contract: I55
#[test]
fn our_pongs_are_taken_out_of_the_stream_and_nothing_else() {
    let mut attached = attach(exact());
    for message in [
        Msg::Data(1),
        Msg::Ping("the peer's".into()),
        Msg::Pong("not ours".into()),
    ] {
        assert_eq!(attached.receive(message.clone()), Some(message));
    }
    attached.rig.run_until(s(21));
    let pong = attached.our_pong(0);
    assert_eq!(attached.receive(pong.clone()), None, "consumed");
    attached.rig.run_until(s(22));
    assert_eq!(attached.rig.stats().answered(), 1);
    assert_eq!(attached.receive(pong.clone()), Some(pong), "but once");
}

// contract: B18
#[test]
fn a_poll_that_finds_nothing_to_read_is_no_activity() {
    let unproven = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut attached = attach(exact().liveness(unproven));
    for second in 0..40 {
        attached.rig.run_until(s(second));
        assert_eq!(attached.read(), None);
    }
    attached.rig.run_until(s(40));
    assert_eq!(attached.rig.verdict().0, s(40));
}

#[test]
fn adapters_say_when_the_stream_below_has_ended() {
    let (socket, incoming) = unbounded::<Result<Msg, Broken>>();
    let (pongs, _pinger) = pinger(drain::<Frame>(), Config::default());
    let mut pongs = pongs.attach(incoming, Plain);
    assert!(!pongs.is_terminated());
    drop(socket);
    assert!(pongs.next().now_or_never().is_some());
    assert!(pongs.is_terminated());

    let (socket, incoming) = unbounded::<Result<Msg, Broken>>();
    let (pings, _ponger) = ponger(drain::<Frame>());
    let mut pings = pings.attach(incoming, Plain);
    assert!(!pings.is_terminated());
    drop(socket);
    assert!(pings.next().now_or_never().is_some());
    assert!(pings.is_terminated());
}

// contract: B18
#[test]
fn what_is_passed_on_is_activity_and_reported_once_for_each_batch() {
    let unproven = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut attached = attach(exact().liveness(unproven));
    attached.rig.run_until(s(15));
    let reads = attached.rig.world.clock_reads();
    for number in 0..640 {
        attached
            .socket
            .unbounded_send(Ok(Msg::Data(number)))
            .expect("attached");
    }
    for number in 0..640 {
        assert_eq!(attached.read(), Some(Msg::Data(number)));
    }
    assert_eq!(attached.read(), None);
    let reads = attached.rig.world.clock_reads() - reads;
    assert!(
        (1..=11).contains(&reads),
        "one in 64, and one at the end: {reads}"
    );
    attached.rig.run_until(s(40));
    assert_eq!(attached.rig.sink.pings(), [s(35)]);
    // A message that answers the ping that is out.
    attached.receive(Msg::Data(0));
    assert_eq!(attached.read(), None);
    attached.rig.run_until(s(41));
    assert_eq!(attached.rig.stats().answered(), 1);
}

// contract: B17
#[test]
fn with_any_pong_the_one_that_answers_is_taken_and_with_activity_it_is_passed_on() {
    let mut attached = attach(exact().liveness(Liveness::AnyPong));
    attached.rig.run_until(s(21));
    assert_eq!(attached.receive(Msg::Pong("".into())), None);
    assert_eq!(
        attached.receive(Msg::Pong("".into())),
        Some(Msg::Pong("".into()))
    );

    let unproven = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut attached = attach(exact().liveness(unproven));
    attached.rig.run_until(s(21));
    let pong = Msg::Pong("the user's".into());
    assert_eq!(attached.receive(pong.clone()), Some(pong));
    attached.rig.run_until(s(22));
    assert_eq!(attached.rig.stats().answered(), 1);
}

// contract: E34
#[test]
fn the_end_of_the_connection_in_any_form_is_the_end_of_the_pongs() {
    let ends: [fn(&mut Attached); 3] = [
        |attached| {
            assert_eq!(attached.receive(Msg::Close), Some(Msg::Close));
        },
        |attached| {
            attached
                .socket
                .unbounded_send(Err(Broken))
                .expect("attached");
            let next = attached.reader.next().now_or_never();
            assert_eq!(next, Some(Some(Err(Broken))));
        },
        |attached| {
            attached.socket.close_channel();
            assert_eq!(attached.reader.next().now_or_never(), Some(None));
        },
    ];
    for end in ends {
        let mut attached = attach(exact());
        attached.rig.run_until(s(25));
        end(&mut attached);
        attached.rig.run_until(s(25) + ms(1));
        assert_eq!(attached.rig.outcome(), Some(Ok(Stopped::PongsEnded)));
    }
    let Attached {
        mut rig, reader, ..
    } = attach(exact());
    rig.run_until(s(25));
    drop(reader);
    rig.run_until(s(26));
    assert_eq!(rig.outcome(), Some(Ok(Stopped::PongsEnded)), "dropped");
}

#[test]
fn after_the_heartbeat_has_ended_the_reader_reads_on() {
    let mut attached = attach(exact());
    attached.rig.run_until(s(100));
    attached.rig.verdict();
    for message in [Msg::Pong("late".into()), Msg::Data(1), Msg::Pong("".into())] {
        assert_eq!(attached.receive(message.clone()), Some(message));
    }
}

#[test]
fn a_frame_sink_makes_messages_of_frames() {
    let (tx, rx) = unbounded::<Msg>();
    let mut frames = FrameSink::new(tx, Plain);
    let send = async {
        frames.send(Frame::Ping("1".into())).await?;
        frames.feed(Frame::Pong("2".into())).await?;
        frames
            .send(Frame::Close(CloseReason::ping_timeout()))
            .await?;
        frames.close().await
    };
    send.now_or_never().expect("it never waits").expect("open");
    let messages: Vec<_> = rx.collect().now_or_never().expect("closed");
    let expected = [Msg::Ping("1".into()), Msg::Pong("2".into()), Msg::Close];
    assert_eq!(messages, expected);
}

// A reader that is woken by the socket, and by nothing else, is enough.
#[test]
fn it_passes_the_wakers_of_the_stream_through() {
    let mut attached = attach(exact());
    let (waker, wakes) = futures_test::task::new_count_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(attached.reader.poll_next_unpin(&mut cx).is_pending());
    attached
        .socket
        .unbounded_send(Ok(Msg::Data(1)))
        .expect("attached");
    assert_eq!(wakes.get(), 1);
    assert_eq!(attached.reader.size_hint(), (0, None));
}
