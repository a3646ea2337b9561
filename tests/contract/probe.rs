//! P. A probe: the round trip of a ping, asked for by a handle.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::future::FusedFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use futures_pinger::{Config, Controller, KeepAlive, Liveness, Probe, ProbeError, Rfc6455};
use tokio_tungstenite::tungstenite::Message;

use crate::every_surface::{Surface, build, counters, each_steered, trusting};
use crate::hooks::Hook;
use crate::socket::{Kept, Msg, Woken};
use crate::world::{Path, Rig, World, exact, ms, s};

type Outcome = Result<Duration, ProbeError>;

/// A probe whose task is polled when it is woken, and then only.
struct Asked {
    probe: Probe,
    woken: Arc<Woken>,
    outcome: Option<Outcome>,
}

impl Asked {
    fn new(controller: &Controller, within: Duration) -> Self {
        let mut asked = Self {
            probe: controller.probe(within),
            woken: Arc::default(),
            outcome: None,
        };
        asked.poll();
        asked
    }

    fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.probe.poll_unpin(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => self.outcome = Some(outcome),
            Poll::Pending => {}
        }
    }

    /// What it has come to, if its task was woken for that.
    fn outcome(&mut self) -> Option<Outcome> {
        if self.woken.flag.swap(false, Ordering::Relaxed) {
            self.poll();
        }
        self.outcome
    }

    fn wakes(&self) -> usize {
        self.woken.count.load(Ordering::Relaxed)
    }
}

const fn late(within: Duration) -> Outcome {
    Err(ProbeError::Late { within })
}

/// The pong of that ping arrives now.
fn answer(surface: &mut Surface, ping: usize) {
    let payload = surface.payload(ping);
    surface.arrives(payload);
    surface.run_until(surface.now());
}

// contract: P101
#[test]
fn an_ordinary_ping_leaves_at_once_and_its_round_trip_is_told() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked = Asked::new(&controller, s(3));
        surface.run_until(s(5) + ms(700));
        assert_eq!(surface.pings(), [s(5)], "{name}");
        assert_eq!(asked.outcome(), None, "{name}");
        answer(&mut surface, 0);
        assert_eq!(asked.outcome(), Some(Ok(ms(700))), "{name}");
        assert_eq!(asked.wakes(), 1, "{name}");
        assert_eq!(counters(surface.stats()), [1, 1, 0, 0, 0], "{name}");
        // The schedule goes on as after any ping that was asked for.
        surface.run_until(s(25));
        assert_eq!(surface.pings(), [s(5), s(25)], "{name}");
    });
}

// contract: P101
#[test]
fn the_time_that_was_given_ends_the_probe_and_judges_nothing() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked = Asked::new(&controller, s(3));
        surface.run_until(s(8) - ms(1));
        assert_eq!(asked.outcome(), None, "{name}");
        surface.run_until(s(8));
        assert_eq!(asked.outcome(), Some(late(s(3))), "{name}");
        assert_eq!(asked.wakes(), 1, "{name}");
        surface.run_until(s(25) - ms(1));
        assert_eq!(surface.verdict(), None, "{name}");
        surface.run_until(s(25));
        assert_eq!(surface.verdict(), Some(s(25)), "{name}");
    });
}

// contract: P101
#[test]
fn the_ping_that_is_out_serves() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(21));
        // While the driver sleeps until the checkpoint, which is later than the probe waits.
        let (mut soon, mut asked) = (
            Asked::new(&controller, s(2)),
            Asked::new(&controller, s(10)),
        );
        surface.run_until(s(23));
        assert_eq!(soon.outcome(), Some(late(s(2))), "{name}");
        surface.run_until(s(24));
        answer(&mut surface, 0);
        assert_eq!(asked.outcome(), Some(Ok(s(4))), "{name}");
        assert_eq!(surface.pings(), [s(20)], "{name}");
    });
}

// contract: P101
#[test]
fn several_at_once_share_one_ping_and_one_that_is_dropped_changes_nothing() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked: Vec<_> = (1..=1000)
            .map(|n| Asked::new(&controller, ms(10) * n))
            .collect();
        // Also one that was never polled.
        drop(controller.probe(s(1)));
        asked.truncate(800);
        surface.run_until(s(9));
        answer(&mut surface, 0);
        assert_eq!(surface.pings(), [s(5)], "{name}");
        for (n, asked) in (1..).zip(&mut asked) {
            let within = ms(10) * n;
            let expected = if within <= s(4) {
                late(within)
            } else {
                Ok(s(4))
            };
            assert_eq!(asked.outcome(), Some(expected), "{name}: {n}");
            assert_eq!(asked.wakes(), 1, "{name}");
        }
    });
    // The ping is on its way, and is judged.
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(5));
        let asked = Asked::new(&controller, s(3));
        surface.run_until(s(6));
        drop(asked);
        surface.run_until(s(30));
        assert_eq!(surface.verdict(), Some(s(25)), "{}", surface.name());
    });
}

// contract: P101
#[test]
fn its_time_begins_with_the_heartbeat() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        let (mut asked, mut soon) = (
            Asked::new(&controller, s(10)),
            Asked::new(&controller, s(3)),
        );
        match &mut surface {
            Surface::Rig(_, rig) => rig.world_step(s(100)),
            Surface::KeepAlive(kept) => kept.idle_until(s(100)),
            Surface::Bare(_) => unreachable!("it has no controller"),
        }
        assert_eq!(asked.outcome(), None, "{name}");
        surface.run_until(s(103));
        assert_eq!(surface.pings(), [s(100)], "{name}");
        assert_eq!(soon.outcome(), Some(late(s(3))), "{name}");
        answer(&mut surface, 0);
        assert_eq!(asked.outcome(), Some(Ok(s(3))), "{name}");
    });
}

// contract: P101
#[test]
fn no_time_and_all_time() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut now = Asked::new(&controller, Duration::ZERO);
        let mut ever = Asked::new(&controller, Duration::MAX);
        surface.run_until(s(5));
        assert_eq!(now.outcome(), Some(late(Duration::ZERO)), "{name}");
        assert_eq!(surface.pings(), [s(5)], "{name}");
        surface.run_until(s(25) - ms(1));
        assert_eq!(ever.outcome(), None, "{name}");
        surface.run_until(s(30));
        assert!(
            matches!(
                ever.outcome(),
                Some(Err(ProbeError::Closing | ProbeError::Ended))
            ),
            "{name}"
        );
    });
}

/// What ends the pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Pause,
    Watch,
    /// The heartbeat is dropped.
    Drop,
    /// The connection of a socket closes.
    Close,
}

impl End {
    fn comes(self, surface: &mut Surface, controller: &Controller) {
        match (self, surface) {
            (Self::Stop, _) => controller.stop().expect("it runs"),
            (Self::Pause, _) => controller.pause().expect("it runs"),
            (Self::Watch, _) => {
                let config = build(Config::builder().watch(s(60)));
                controller.set_config(config).expect("it runs");
            }
            (Self::Drop, Surface::Rig(_, rig)) => rig.drop_heart(),
            (Self::Drop, Surface::KeepAlive(kept)) => **kept = Kept::new(exact()),
            (Self::Close, Surface::KeepAlive(kept)) => {
                kept.script.receive(Msg::Close);
                kept.run_until(kept.world.elapsed());
            }
            (end, surface) => panic!("no {end:?} on {}", surface.name()),
        }
    }

    const fn error(self) -> ProbeError {
        match self {
            Self::Stop | Self::Drop => ProbeError::Ended,
            Self::Pause => ProbeError::Paused,
            Self::Watch => ProbeError::Watching,
            Self::Close => ProbeError::Closing,
        }
    }
}

// contract: P101
#[test]
fn whatever_ends_the_pings_ends_the_probe_at_once() {
    for end in [End::Stop, End::Pause, End::Watch, End::Drop, End::Close] {
        // Before the first poll, while none is out, and while one is.
        for from in [None, Some(s(5)), Some(s(21))] {
            each_steered(&exact(), |mut surface, controller| {
                if end == End::Close && !matches!(surface, Surface::KeepAlive(_)) {
                    return;
                }
                let name = format!("{}, {end:?}, {from:?}", surface.name());
                if let Some(time) = from {
                    surface.run_until(time);
                }
                let mut asked = Asked::new(&controller, s(3));
                end.comes(&mut surface, &controller);
                let expected = Err(end.error());
                assert_eq!(asked.outcome(), Some(expected), "{name}");
                assert_eq!(asked.wakes(), 1, "{name}");
                // And none begins.
                let mut again = controller.probe(s(3));
                assert_eq!((&mut again).now_or_never(), Some(expected), "{name}");
                assert!(again.is_terminated());
            });
        }
    }
    for (error, text) in [
        (ProbeError::Ended, "the heartbeat has ended"),
        (ProbeError::Paused, "the heartbeat is paused"),
        (ProbeError::Closing, "the connection is closing"),
        (
            ProbeError::Watching,
            "the heartbeat only watches, and sends no pings",
        ),
        (
            ProbeError::Late { within: s(3) },
            "no ping was answered within 3s",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

// contract: P101
#[test]
fn a_verdict_whose_close_frame_is_on_its_way_ends_the_probe() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    let mut asked = Asked::new(&controller, s(60));
    let sink = rig.sink.clone();
    rig.at(s(39), move || sink.block());
    rig.run_until(s(40) - ms(1));
    assert_eq!(asked.outcome(), None);
    rig.run_until(s(40));
    assert_eq!(rig.outcome(), None, "the close frame is blocked");
    assert_eq!(asked.outcome(), Some(Err(ProbeError::Closing)));
}

// contract: P101
#[test]
fn what_answers_a_ping_by_its_policy_ends_the_probe_with_the_time_to_it() {
    let day = s(86_400);
    for liveness in [
        Liveness::AnyPong,
        trusting(day),
        Liveness::Traffic { max_unproven: day },
    ] {
        each_steered(&exact().liveness(liveness), |mut surface, controller| {
            let name = format!("{}, {liveness:?}", surface.name());
            surface.run_until(s(5));
            let mut asked = Asked::new(&controller, s(10));
            surface.run_until(s(7));
            if liveness == Liveness::AnyPong {
                surface.arrives(Bytes::new());
            } else {
                surface.message(false);
            }
            surface.run_until(s(7));
            assert_eq!(asked.outcome(), Some(Ok(s(2))), "{name}");
        });
    }
    // With nothing but a pong as an answer neither does.
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(5));
        let mut asked = Asked::new(&controller, s(10));
        surface.run_until(s(7));
        surface.arrives(Bytes::new());
        surface.message(false);
        surface.run_until(s(14));
        assert_eq!(asked.outcome(), None, "{}", surface.name());
    });
}

// contract: P101
#[test]
fn a_probe_goes_on_over_a_miss() {
    each_steered(&exact().max_missed(2), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked = Asked::new(&controller, s(60));
        surface.run_until(s(26));
        assert_eq!(surface.pings(), [s(5), s(25)], "{name}");
        // The pong of the missed ping is a sign of life, and no round trip.
        answer(&mut surface, 0);
        assert_eq!(asked.outcome(), None, "{name}");
        surface.run_until(s(27));
        answer(&mut surface, 1);
        assert_eq!(asked.outcome(), Some(Ok(s(2))), "{name}");
    });
}

// contract: P101
#[test]
fn a_stall_of_this_process_is_not_the_peers() {
    for pong in [true, false] {
        let mut rig = Rig::new(Path::Slot, exact().timeout(s(60)));
        let controller = rig.controller();
        rig.run_until(s(5));
        let mut asked = Asked::new(&controller, s(4));
        rig.run_until(s(5));
        rig.stall(s(6)..s(15));
        if pong {
            // It is read a moment after the stall, by who reads.
            rig.pong_at(s(15) + ms(1), rig.sink.payload(0));
        }
        rig.run_until(s(15));
        assert_eq!(asked.outcome(), None);
        rig.run_until(s(20));
        let expected = if pong { Ok(s(10) + ms(1)) } else { late(s(4)) };
        assert_eq!(asked.outcome(), Some(expected));
    }
}

// contract: P101
#[test]
fn what_has_arrived_is_read_before_the_time_is_over() {
    // In the same poll.
    for path in [Path::Slot, Path::Stream] {
        let mut rig = Rig::new(path, exact());
        let controller = rig.controller();
        rig.run_until(s(5));
        let mut asked = Asked::new(&controller, s(3));
        rig.run_until(s(5));
        rig.pong_at(s(8), rig.sink.payload(0));
        rig.run_until(s(8));
        assert_eq!(asked.outcome(), Some(Ok(s(3))), "{path:?}");
    }
    // By a reader that the timer wakes, or that was away.
    for (unread, time) in [(0, s(8)), (40, s(19))] {
        let mut kept = Kept::new(exact());
        let controller = kept.alive.controller();
        kept.run_until(s(5));
        let mut asked = Asked::new(&controller, s(3));
        kept.run_until(s(5));
        let mut surface = Surface::KeepAlive(Box::new(kept));
        let pong = surface.payload(0);
        let Surface::KeepAlive(kept) = &mut surface else {
            unreachable!("it is one")
        };
        // Its tasks are polled at the checkpoint, and then not before that time.
        kept.run_until(s(8) - ms(1));
        for number in 0..unread {
            kept.script.receive(Msg::Data(number));
        }
        kept.at(s(8), move |script| script.receive(Msg::Pong(pong)));
        kept.idle_until(time);
        kept.run_until(time);
        assert_eq!(asked.outcome(), Some(Ok(time - s(5))), "{unread}");
    }
    // But not for ever.
    let mut kept = Kept::new(exact());
    let controller = kept.alive.controller();
    kept.run_until(s(5));
    let mut asked = Asked::new(&controller, s(4));
    kept.run_until(s(5));
    kept.script.flood();
    while asked.outcome().is_none() {
        assert!(kept.world.elapsed() <= s(11), "it waits for ever");
        assert!(kept.read_once());
        kept.idle_until(kept.world.elapsed() + ms(1));
    }
    assert_eq!(asked.outcome(), Some(late(s(4))));
    assert!(kept.world.elapsed() >= s(9));
}

// contract: P101 R129
#[test]
fn an_answer_wakes_the_probe_and_not_the_driver() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(5));
    let before = rig.wakes();
    let mut asked = Asked::new(&controller, s(3));
    assert_eq!(rig.wakes() - before, 1, "for the ping");
    rig.run_until(s(6));
    let before = rig.wakes();
    rig.reader.handle_pong(rig.sink.payload(0));
    assert_eq!((rig.wakes() - before, asked.wakes()), (0, 1));
    assert_eq!(asked.outcome(), Some(Ok(s(1))));
    // The timer that was armed for the probe fires once more, and that is all.
    rig.run_until(s(25) - ms(1));
    assert!(rig.wakes() - before <= 1, "{}", rig.wakes() - before);
}

// contract: P101
#[test]
fn its_time_is_looked_at_also_where_nothing_can_be_judged() {
    // The reader of an attached stream is away, and no deadline is ahead.
    let mut rig = Rig::new(Path::Slot, exact().no_timeout());
    // Pings that cannot be answered are neither missed nor answered.
    rig.written_off = 2;
    let controller = rig.controller();
    let (socket, incoming) =
        futures::channel::mpsc::unbounded::<Result<Msg, crate::world::Broken>>();
    let mut reader = rig.reader.take().attach(incoming, crate::socket::Plain);
    rig.run_until(s(39));
    socket.unbounded_send(Ok(Msg::Data(1))).expect("attached");
    assert!(reader.next().now_or_never().is_some());
    let mut asked = Asked::new(&controller, s(10));
    rig.run_until(s(49) - ms(1));
    assert_eq!(asked.outcome(), None);
    rig.run_until(s(49));
    assert_eq!(asked.outcome(), Some(late(s(10))));

    // Nothing more can be read ahead of the application.
    let mut kept = Kept::with_lookahead(exact().timeout(s(300)), 0);
    let controller = kept.alive.controller();
    kept.run_until(s(5));
    let mut asked = Asked::new(&controller, s(10));
    while kept.world.elapsed() < s(15) {
        assert!(kept.poll_heartbeat().is_pending());
        assert_eq!(asked.outcome(), None, "{:?}", kept.world.elapsed());
        kept.world.step(s(15));
    }
    assert!(kept.poll_heartbeat().is_pending());
    assert_eq!(asked.outcome(), Some(late(s(10))));
}

// contract: P101
#[test]
fn either_half_drives_it() {
    for by_writer in [true, false] {
        let world = World::new();
        let (socket, script) = world.socket::<Message, _>(Rfc6455);
        script.peer().answer_after(ms(30));
        let alive = KeepAlive::new(socket, build(exact())).with_timer(world.timer());
        let (mut reader, mut writer) = alive.into_split();
        let controllers = [reader.controller(), writer.controller()];
        world.run_within(s(300), async {
            let driving = async {
                if by_writer {
                    loop {
                        let sent = writer.send(Message::text("ours")).await;
                        sent.expect("it is alive");
                        world.sleep(ms(100)).await;
                    }
                }
                reader.next().await;
            };
            let probing = async {
                for controller in &controllers {
                    world.sleep(s(1)).await;
                    let round_trip = controller.probe(s(9)).await.expect("alive");
                    // A half that comes by each 100 ms sees it by then.
                    assert!(
                        round_trip >= ms(30) && round_trip <= ms(130),
                        "{round_trip:?}"
                    );
                }
                script.peer().fall_silent();
                let before = world.elapsed();
                let outcome = controllers[0].probe(s(4)).await;
                assert_eq!(outcome, late(s(4)));
                let took = world.elapsed() - before;
                assert!(took >= s(4) && took <= s(4) + ms(200), "{took:?}");
            };
            futures::pin_mut!(driving, probing);
            futures::future::select(driving, probing).await;
        });
        assert_eq!(script.pings().len(), 3, "by the writer: {by_writer}");
    }
}

// contract: P101 R123
#[test]
fn the_task_of_a_probe_may_call_any_handle_and_may_panic() {
    struct Calls(Mutex<Option<Controller>>, Hook);
    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.1.run();
        }
    }
    // It runs when the last waker is dropped, too.
    impl Drop for Calls {
        fn drop(&mut self) {
            if let Some(controller) = &*self.0.lock().expect("not poisoned") {
                let _ = controller.stats();
            }
        }
    }

    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(5));
    let panics = Hook::default();
    panics.set(|_| panic!("a waker"));
    let calls = Hook::default();
    let again = Arc::new(Mutex::new(None));
    calls.set({
        let (controller, again) = (controller.clone(), Arc::clone(&again));
        move |_| *again.lock().expect("not poisoned") = Some(controller.probe(s(3)))
    });
    let mut probes = Vec::new();
    let mut asked = Vec::new();
    for hook in [&panics, &calls] {
        asked.push(Asked::new(&controller, s(9)));
        let waker = Waker::from(Arc::new(Calls(
            Mutex::new(Some(controller.clone())),
            hook.clone(),
        )));
        let mut probe = controller.probe(s(9));
        let polled = Pin::new(&mut probe).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        probes.push(probe);
    }
    asked.push(Asked::new(&controller, s(9)));
    rig.run_until(s(6));
    let payload = rig.sink.payload(0);
    let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        rig.reader.handle_pong(payload);
    }));
    assert!(answered.is_err(), "the panic is the waker's");
    for asked in &mut asked {
        assert_eq!(asked.outcome(), Some(Ok(s(1))));
    }
    assert_eq!((panics.calls(), calls.calls()), (1, 1));
    for probe in probes {
        assert_eq!(probe.now_or_never(), Some(Ok(s(1))));
    }
    rig.run_until(s(6));
    assert_eq!(rig.sink.pings(), [s(5), s(6)]);
    rig.answer_after(ms(10));
}

// contract: P101
#[test]
fn it_is_a_future_that_can_be_spawned_and_tells_when_it_is_over() {
    fn spawnable<F: Future + Send + Sync + Unpin + 'static>(_: &F) {}

    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(5));
    let mut probe = controller.probe(s(9));
    spawnable(&probe);
    assert!(!probe.is_terminated());
    rig.run_until(s(6));
    rig.reader.handle_pong(rig.sink.payload(0));
    let thread = std::thread::spawn(move || {
        assert_eq!((&mut probe).now_or_never(), Some(Ok(s(1))));
        probe
    });
    let probe = thread.join().expect("no panic");
    assert!(probe.is_terminated());
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe.now_or_never()));
    assert!(polled.is_err(), "polled after completion");
}
