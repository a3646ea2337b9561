//! P. A probe: the round trip of a ping, asked for by a handle.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::future::FusedFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use futures_pinger::{
    CloseReason, Config, ConfigBuilder, Controller, KeepAlive, Liveness, Member, MemberId,
    PingerSet, PingerSetHandle, Probe, ProbeError, Rfc6455, Stats,
};
use tokio_tungstenite::tungstenite::Message;

use crate::every_surface::{Surface, build, counters, surfaces, trusting};
use crate::gateway::Gateway;
use crate::hooks::{Hook, HookedSink};
use crate::socket::{Kept, Msg, Woken};
use crate::world::{Fault, Path, Rig, ScriptedSink, World, exact, ms, s};

type Outcome = Result<Duration, ProbeError>;

/// The handle that is asked for probes.
#[derive(Clone)]
enum Handle {
    Controller(Controller),
    Member(PingerSetHandle<ScriptedSink>, MemberId),
}

impl Handle {
    fn of(surface: &mut Surface) -> Option<Self> {
        match surface {
            Surface::Rig(path, rig) => Some(Self::of_rig(*path, rig)),
            Surface::KeepAlive(kept) => Some(Self::Controller(kept.alive.controller())),
            Surface::Bare(_) => None,
        }
    }

    fn of_rig(path: Path, rig: &mut Rig) -> Self {
        if path == Path::Set {
            let (handle, id) = rig.set_handle();
            Self::Member(handle, id)
        } else {
            Self::Controller(rig.controller())
        }
    }

    fn probe(&self, within: Duration) -> Probe {
        match self {
            Self::Controller(controller) => controller.probe(within),
            Self::Member(handle, id) => handle.probe(*id, within),
        }
    }

    fn stats(&self) -> Option<Stats> {
        match self {
            Self::Controller(controller) => Some(controller.stats()),
            Self::Member(handle, id) => handle.stats(*id).ok(),
        }
    }
}

impl From<Controller> for Handle {
    fn from(controller: Controller) -> Self {
        Self::Controller(controller)
    }
}

/// Runs a test on each surface that can be probed.
fn each_probed(config: &ConfigBuilder, test: impl Fn(Surface, Handle)) {
    for mut surface in surfaces(config) {
        if let Some(handle) = Handle::of(&mut surface) {
            test(surface, handle);
        }
    }
}

/// A probe whose task is polled when it is woken, and then only.
struct Asked {
    probe: Probe,
    woken: Arc<Woken>,
    outcome: Option<Outcome>,
}

impl Asked {
    fn new(handle: &Handle, within: Duration) -> Self {
        let mut asked = Self {
            probe: handle.probe(within),
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
    each_probed(&exact(), |mut surface, handle| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked = Asked::new(&handle, s(3));
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
    each_probed(&exact(), |mut surface, handle| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked = Asked::new(&handle, s(3));
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
    each_probed(&exact(), |mut surface, handle| {
        let name = surface.name();
        surface.run_until(s(21));
        // While the driver sleeps until the checkpoint, which is later than the probe waits.
        let (mut soon, mut asked) = (Asked::new(&handle, s(2)), Asked::new(&handle, s(10)));
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
    each_probed(&exact(), |mut surface, handle| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked: Vec<_> = (1..=1000)
            .map(|n| Asked::new(&handle, ms(10) * n))
            .collect();
        // Also one that was never polled.
        drop(handle.probe(s(1)));
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
    each_probed(&exact(), |mut surface, handle| {
        surface.run_until(s(5));
        let asked = Asked::new(&handle, s(3));
        surface.run_until(s(6));
        drop(asked);
        surface.run_until(s(30));
        assert_eq!(surface.verdict(), Some(s(25)), "{}", surface.name());
    });
}

// contract: P101
#[test]
fn its_time_begins_with_the_heartbeat() {
    each_probed(&exact(), |mut surface, handle| {
        let name = surface.name();
        let (mut asked, mut soon) = (Asked::new(&handle, s(10)), Asked::new(&handle, s(3)));
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
    each_probed(&exact(), |mut surface, handle| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut now = Asked::new(&handle, Duration::ZERO);
        let mut ever = Asked::new(&handle, Duration::MAX);
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
    /// The connection of a socket closes, or a member is closed.
    Close,
    /// The member leaves its set.
    Leave,
}

const ENDS: [End; 6] = [
    End::Stop,
    End::Pause,
    End::Watch,
    End::Drop,
    End::Close,
    End::Leave,
];

impl End {
    /// False where the surface has no such end.
    fn comes(self, surface: &mut Surface, handle: &Handle) -> bool {
        match (self, handle, surface) {
            (Self::Stop, Handle::Controller(controller), _) => controller.stop().expect("it runs"),
            (Self::Pause, Handle::Controller(controller), _) => {
                controller.pause().expect("it runs");
            }
            (Self::Pause, Handle::Member(set, id), _) => set.pause(*id).expect("it runs"),
            (Self::Watch, Handle::Controller(controller), _) => {
                let config = build(Config::builder().watch(s(60)));
                controller.set_config(config).expect("it runs");
            }
            (Self::Watch, Handle::Member(set, _), surface) => {
                let exact = Config::builder().granularity(Duration::ZERO);
                let config = build(exact.watch(s(60)));
                set.set_config(config).expect("it runs");
                // A set puts it in force with its next poll.
                surface.run_until(surface.now());
            }
            (Self::Drop, _, Surface::Rig(_, rig)) => rig.drop_heart(),
            (Self::Drop, _, Surface::KeepAlive(kept)) => **kept = Kept::new(exact()),
            (Self::Close, _, Surface::KeepAlive(kept)) => {
                kept.script.receive(Msg::Close);
                kept.run_until(kept.world.elapsed());
            }
            (Self::Close, Handle::Member(set, id), _) => {
                let reason = CloseReason::new(1001, "going down").expect("a valid code");
                set.close(*id, reason).expect("it runs");
            }
            (Self::Leave, Handle::Member(..), Surface::Rig(_, rig)) => rig.reader.end(),
            _ => return false,
        }
        true
    }

    const fn error(self) -> ProbeError {
        match self {
            Self::Stop | Self::Drop | Self::Leave => ProbeError::Ended,
            Self::Pause => ProbeError::Paused,
            Self::Watch => ProbeError::Watching,
            Self::Close => ProbeError::Closing,
        }
    }
}

// contract: P101
#[test]
fn whatever_ends_the_pings_ends_the_probe_at_once() {
    for end in ENDS {
        // Before the first poll, while none is out, and while one is.
        for from in [None, Some(s(5)), Some(s(21))] {
            each_probed(&exact(), |mut surface, handle| {
                let name = format!("{}, {end:?}, {from:?}", surface.name());
                if let Some(time) = from {
                    surface.run_until(time);
                }
                let mut asked = Asked::new(&handle, s(3));
                if !end.comes(&mut surface, &handle) {
                    return;
                }
                let expected = Err(end.error());
                assert_eq!(asked.outcome(), Some(expected), "{name}");
                assert_eq!(asked.wakes(), 1, "{name}");
                // And none begins.
                let mut again = handle.probe(s(3));
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
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let handle = Handle::of_rig(path, &mut rig);
        rig.run_until(s(21));
        let mut asked = Asked::new(&handle, s(60));
        let sink = rig.sink.clone();
        rig.at(s(39), move || sink.block());
        rig.run_until(s(40) - ms(1));
        assert_eq!(asked.outcome(), None, "{path:?}");
        rig.run_until(s(40));
        assert_eq!(rig.outcome(), None, "the close frame is blocked");
        let closing = Err(ProbeError::Closing);
        assert_eq!(asked.outcome(), Some(closing), "{path:?}");
    }
}

// The probe was told that its time was over while the verdict of that instant was yet to fall.
// contract: P101
#[test]
fn a_verdict_at_the_end_of_the_time_of_a_probe_ends_the_probe() {
    for within in [Duration::from_nanos(1), ms(5), s(15)] {
        let config = exact().write_timeout(within);
        each_probed(&config.no_close(), |mut surface, handle| {
            surface.run_until(s(5));
            match &surface {
                Surface::Rig(_, rig) => rig.sink.block(),
                Surface::KeepAlive(kept) => kept.script.block(),
                Surface::Bare(_) => unreachable!("it has no handle"),
            }
            let mut asked = Asked::new(&handle, within);
            surface.run_until(s(5) + within);
            let name = surface.name();
            assert_eq!(surface.timed_out().0, s(5) + within, "{name}");
            let ended = Some(Err(ProbeError::Ended));
            assert_eq!(asked.outcome(), ended, "{name} within {within:?}");
        });
    }
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
        each_probed(&exact().liveness(liveness), |mut surface, handle| {
            let name = format!("{}, {liveness:?}", surface.name());
            surface.run_until(s(5));
            let mut asked = Asked::new(&handle, s(10));
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
    each_probed(&exact(), |mut surface, handle| {
        surface.run_until(s(5));
        let mut asked = Asked::new(&handle, s(10));
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
    each_probed(&exact().max_missed(2), |mut surface, handle| {
        let name = surface.name();
        surface.run_until(s(5));
        let mut asked = Asked::new(&handle, s(60));
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

// contract: P101 Q115
#[test]
fn a_sink_that_breaks_or_panics_ends_the_probe_of_its_member() {
    for panics in [true, false] {
        let world = World::new();
        let set = PingerSet::new(build(exact())).with_timer(world.timer());
        let handle = set.handle();
        let (outgoing, script) = world.sink();
        let hook = Hook::default();
        let member = set.insert(HookedSink {
            sink: outgoing,
            hook: hook.clone(),
        });
        let mut task = world.task(StreamExt::into_future(set));
        task.run_until(s(5));
        let mut probe = handle.probe(member.id(), s(9));
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let polled = probe.poll_unpin(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        if panics {
            hook.set(|_| panic!("a sink"));
        } else {
            script.fail(Fault::Ready);
        }
        let run = std::panic::AssertUnwindSafe(|| task.run_until(s(5)));
        assert_eq!(std::panic::catch_unwind(run).is_err(), panics);
        assert_eq!(woken.count.load(Ordering::Relaxed), 1, "{panics}");
        assert_eq!(probe.now_or_never(), Some(Err(ProbeError::Ended)));
    }
}

// contract: P101 Q110
#[test]
fn another_configuration_of_a_set_leaves_the_time_of_a_probe() {
    let mut rig = Rig::new(Path::Set, exact());
    let handle = Handle::of_rig(Path::Set, &mut rig);
    rig.run_until(s(5));
    let mut asked = Asked::new(&handle, s(10));
    rig.run_until(s(6));
    // The deadline of the ping is earlier now, and later than the time of the probe.
    let (set, _) = rig.set_handle();
    set.set_config(build(exact().timeout(s(15))))
        .expect("it runs");
    rig.run_until(s(15) - ms(1));
    assert_eq!(asked.outcome(), None);
    rig.run_until(s(15));
    assert_eq!(asked.outcome(), Some(late(s(10))));
    rig.run_until(s(60));
    assert_eq!(rig.verdict().0, s(20));
}

// contract: P101
#[test]
fn a_stall_of_this_process_is_not_the_peers() {
    for (path, pong) in [
        (Path::Slot, true),
        (Path::Slot, false),
        (Path::Set, true),
        (Path::Set, false),
    ] {
        let mut rig = Rig::new(path, exact().timeout(s(60)));
        let handle = Handle::of_rig(path, &mut rig);
        rig.run_until(s(5));
        let mut asked = Asked::new(&handle, s(4));
        rig.run_until(s(5));
        rig.stall(s(6)..s(15));
        if pong {
            // It is read a moment after the stall, by who reads.
            rig.pong_at(s(15) + ms(1), rig.sink.payload(0));
        }
        rig.run_until(s(15));
        assert_eq!(asked.outcome(), None, "{path:?}");
        rig.run_until(s(20));
        let expected = if pong { Ok(s(10) + ms(1)) } else { late(s(4)) };
        assert_eq!(asked.outcome(), Some(expected), "{path:?}");
    }
}

// contract: P101
#[test]
fn what_has_arrived_is_read_before_the_time_is_over() {
    // In the same poll.
    for path in [Path::Slot, Path::Stream, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let handle = Handle::of_rig(path, &mut rig);
        rig.run_until(s(5));
        let mut asked = Asked::new(&handle, s(3));
        rig.run_until(s(5));
        rig.pong_at(s(8), rig.sink.payload(0));
        rig.run_until(s(8));
        assert_eq!(asked.outcome(), Some(Ok(s(3))), "{path:?}");
    }
    // By a reader that the timer wakes, or that was away.
    for (unread, time) in [(0, s(8)), (40, s(19))] {
        let mut kept = Kept::new(exact());
        let handle = Handle::from(kept.alive.controller());
        kept.run_until(s(5));
        let mut asked = Asked::new(&handle, s(3));
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
    let handle = Handle::from(kept.alive.controller());
    kept.run_until(s(5));
    let mut asked = Asked::new(&handle, s(4));
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
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let handle = Handle::of_rig(path, &mut rig);
        rig.run_until(s(5));
        let before = rig.wakes();
        let mut asked = Asked::new(&handle, s(3));
        assert_eq!(rig.wakes() - before, 1, "{path:?}: for the ping");
        rig.run_until(s(6));
        let before = rig.wakes();
        rig.reader.handle_pong(rig.sink.payload(0));
        assert_eq!((rig.wakes() - before, asked.wakes()), (0, 1), "{path:?}");
        assert_eq!(asked.outcome(), Some(Ok(s(1))), "{path:?}");
        // The timer that was armed for the probe fires once more, and that is all.
        rig.run_until(s(25) - ms(1));
        let wakes = rig.wakes() - before;
        assert!(wakes <= 1, "{path:?}: {wakes}");
    }
}

// contract: P101
#[test]
fn its_time_is_looked_at_also_where_nothing_can_be_judged() {
    // The reader of an attached stream is away, and no deadline is ahead.
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact().no_timeout());
        // Pings that cannot be answered are neither missed nor answered.
        rig.written_off = 2;
        let handle = Handle::of_rig(path, &mut rig);
        let (socket, incoming) =
            futures::channel::mpsc::unbounded::<Result<Msg, crate::world::Broken>>();
        let mut reader = rig.reader.attach(incoming, crate::socket::Plain);
        rig.run_until(s(39));
        socket.unbounded_send(Ok(Msg::Data(1))).expect("attached");
        assert!(reader.next().now_or_never().is_some());
        let mut asked = Asked::new(&handle, s(10));
        rig.run_until(s(49) - ms(1));
        assert_eq!(asked.outcome(), None, "{path:?}");
        rig.run_until(s(49));
        assert_eq!(asked.outcome(), Some(late(s(10))), "{path:?}");
    }

    // Nothing more can be read ahead of the application.
    let mut kept = Kept::with_lookahead(exact().timeout(s(300)), 0);
    let handle = Handle::from(kept.alive.controller());
    kept.run_until(s(5));
    let mut asked = Asked::new(&handle, s(10));
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

// contract: P101 Q109
#[test]
fn a_member_is_probed_also_after_attach_and_an_id_that_is_gone_never_probes_another() {
    let world = World::new();
    let set: PingerSet<ScriptedSink, (), _> =
        PingerSet::new(build(exact())).with_timer(world.timer());
    let handle = set.handle();
    let (outgoing, first) = world.sink();
    let member = set.insert(outgoing);
    let id = member.id();
    let (socket, incoming) =
        futures::channel::mpsc::unbounded::<Result<Msg, crate::world::Broken>>();
    let mut reader = member.attach(incoming, crate::socket::Plain);
    let mut task = world.task(StreamExt::into_future(set));
    task.run_until(s(5));
    let asked_for = Handle::Member(handle.clone(), id);
    let mut asked = Asked::new(&asked_for, s(9));
    task.run_until(s(6));
    assert_eq!(first.pings(), [s(5)]);
    socket
        .unbounded_send(Ok(Msg::Pong(first.payload(0))))
        .expect("attached");
    assert!(reader.next().now_or_never().is_none());
    assert_eq!(asked.outcome(), Some(Ok(s(1))));

    // One that waits learns that the member leaves, and does not end up with who has the seat next.
    let mut asked = Asked::new(&asked_for, s(9));
    let mut unpolled = asked_for.probe(s(9));
    drop(reader);
    assert_eq!(asked.outcome(), Some(Err(ProbeError::Ended)));
    task.run_until(s(7));
    let (outgoing, second) = world.sink();
    let member = handle.insert(outgoing).expect("the set is there");
    let of_second = Handle::Member(handle.clone(), member.id());
    let mut asked = Asked::new(&of_second, s(9));
    task.run_until(s(8));
    member.handle_pong(&second.payload(0));
    assert_eq!(asked.outcome(), Some(Ok(s(1))));
    assert_eq!((&mut unpolled).now_or_never(), Some(Err(ProbeError::Ended)));
    assert_eq!(
        asked_for.probe(s(9)).now_or_never(),
        Some(Err(ProbeError::Ended))
    );
    assert_eq!(second.pings(), [s(7)], "the seat is another's");
    // An id that the set has never given.
    let empty = PingerSet::<ScriptedSink>::new(build(exact()));
    let probe = empty.handle().probe(member.id(), s(9));
    assert_eq!(probe.now_or_never(), Some(Err(ProbeError::Ended)));
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

/// The sink of a member fails, and the task of its probe panics when it is told.
// contract: P101 R123
#[test]
fn a_task_that_panics_when_a_set_wakes_it_takes_no_departure_along() {
    let mut gateway = Gateway::new(exact());
    let (member, sink) = gateway.join();
    gateway.run_until(s(1));
    sink.fail(Fault::Ready);
    let mut probe = gateway.handle.probe(member.id(), s(9));
    let waker = Waker::from(Arc::new(Panics));
    let asked = probe.poll_unpin(&mut Context::from_waker(&waker));
    assert!(asked.is_pending());
    let run = std::panic::AssertUnwindSafe(|| gateway.run_until(s(2)));
    let panicked = std::panic::catch_unwind(run).is_err();
    assert!(panicked, "the panic is the waker's");
    gateway.task.poll();
    gateway.run_until(s(3));
    let ends: Vec<_> = gateway
        .ends
        .borrow()
        .iter()
        .map(|(_, end)| end.id)
        .collect();
    assert_eq!(ends, [member.id()]);
    assert!(gateway.handle.is_empty());
}

// contract: P101 R123
#[test]
fn a_task_that_panics_when_a_set_wakes_it_takes_no_member_along() {
    let world = World::new();
    let config = exact().timeout(s(5)).no_close();
    let set = PingerSet::new(build(config)).with_timer(world.timer());
    let handle = set.handle();
    let members: Vec<_> = (0..3).map(|_| set.insert(world.sink().0)).collect();
    let ids: Vec<_> = members.iter().map(Member::id).collect();
    let departed = Rc::new(RefCell::new(Vec::new()));
    let mut task = world.task({
        let (departed, world) = (Rc::clone(&departed), world.clone());
        set.for_each(move |departure| {
            departed.borrow_mut().push((departure.id, world.elapsed()));
            std::future::ready(())
        })
    });
    task.run_until(s(1));
    // The time of the first is over, the second ends with a verdict.
    let probes: Vec<_> = [(0, s(2)), (1, Duration::MAX)]
        .map(|(member, within)| {
            let waker = Waker::from(Arc::new(Panics));
            let mut probe = handle.probe(ids[member], within);
            assert!(
                probe
                    .poll_unpin(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            probe
        })
        .into();
    for panics_at in [s(3), s(6)] {
        task.run_until(panics_at - ms(1));
        let run = std::panic::AssertUnwindSafe(|| task.run_until(panics_at));
        assert!(
            std::panic::catch_unwind(run).is_err(),
            "the panic is the waker's"
        );
        // Whoever catches it polls the set again.
        task.poll();
    }
    task.run_until(s(60));
    let mut departed = departed.take();
    departed.sort();
    assert_eq!(departed, [(ids[0], s(6)), (ids[1], s(6)), (ids[2], s(25))]);
    drop(probes);
}

// contract: P101
#[test]
fn a_probe_is_told_also_where_its_member_leaves_while_the_set_looks_at_it() {
    let world = World::new();
    let config = build(exact().timeout(s(5)));
    let set = PingerSet::new(config).with_timer(world.timer());
    let handle = set.handle();
    let called = Hook::default();
    let member = set.insert(HookedSink {
        sink: world.sink().0,
        hook: called.clone(),
    });
    let id = member.id();
    let mut task = world.task(set.for_each(|_| std::future::ready(())));
    task.run_until(s(1));
    let mut probe = handle.probe(id, Duration::MAX);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let polled = probe.poll_unpin(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    task.run_until(s(2));
    // The sink is asked next whether it takes the close frame of the verdict, which is a step after the
    // probe has come to its end.
    let member = Mutex::new(Some(member));
    called.set(move |_| drop(member.lock().expect("not poisoned").take()));
    task.run_until(s(7));
    assert_eq!(handle.len(), 0);
    assert!(woken.flag.load(Ordering::Relaxed), "its task is woken");
    assert_eq!(probe.now_or_never(), Some(Err(ProbeError::Closing)));
}

// contract: P101 R123
#[test]
fn the_task_of_a_probe_may_call_any_handle_and_may_panic() {
    struct Calls(Mutex<Option<Handle>>, Hook);
    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.1.run();
        }
    }
    // It runs when the last waker is dropped, too.
    impl Drop for Calls {
        fn drop(&mut self) {
            if let Some(handle) = &*self.0.lock().expect("not poisoned") {
                let _ = handle.stats();
            }
        }
    }

    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let handle = Handle::of_rig(path, &mut rig);
        rig.run_until(s(5));
        let panics = Hook::default();
        panics.set(|_| panic!("a waker"));
        let calls = Hook::default();
        let again = Arc::new(Mutex::new(None));
        calls.set({
            let (handle, again) = (handle.clone(), Arc::clone(&again));
            move |_| *again.lock().expect("not poisoned") = Some(handle.probe(s(3)))
        });
        let mut probes = Vec::new();
        let mut asked = Vec::new();
        for hook in [&panics, &calls] {
            asked.push(Asked::new(&handle, s(9)));
            let waker = Waker::from(Arc::new(Calls(
                Mutex::new(Some(handle.clone())),
                hook.clone(),
            )));
            let mut probe = handle.probe(s(9));
            let polled = Pin::new(&mut probe).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            probes.push(probe);
        }
        asked.push(Asked::new(&handle, s(9)));
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
}

// contract: P101
#[test]
fn it_is_a_future_that_can_be_spawned_and_tells_when_it_is_over() {
    fn spawnable<F: Future + Send + Sync + Unpin + 'static>(_: &F) {}

    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, exact());
        let handle = Handle::of_rig(path, &mut rig);
        rig.run_until(s(5));
        // The handle itself goes to another thread.
        let thread = std::thread::spawn(move || handle.probe(s(9)));
        let mut probe = thread.join().expect("no panic");
        spawnable(&probe);
        assert!(!probe.is_terminated());
        rig.run_until(s(6));
        assert_eq!(rig.sink.pings(), [s(5)]);
        rig.reader.handle_pong(rig.sink.payload(0));
        let thread = std::thread::spawn(move || {
            assert_eq!((&mut probe).now_or_never(), Some(Ok(s(1))));
            probe
        });
        let probe = thread.join().expect("no panic");
        assert!(probe.is_terminated());
        let polled =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe.now_or_never()));
        assert!(polled.is_err(), "polled after completion");
    }
}

// contract: P101
#[test]
fn the_time_of_a_probe_of_a_member_begins_with_the_call_or_with_the_member() {
    for begun in [true, false] {
        let mut gateway = Gateway::new(exact());
        let (first, _) = gateway.join();
        gateway.run_until(s(5));
        let (second, _) = gateway.join();
        let id = if begun { first.id() } else { second.id() };
        let probe = gateway.handle.probe(id, s(10));
        // The set is not polled meanwhile.
        while gateway.world.step(s(8)) {}
        let late = if begun { s(15) } else { s(18) };
        gateway.run_until(late - ms(1));
        let mut probe = Box::pin(probe);
        assert_eq!(probe.as_mut().now_or_never(), None, "{begun}");
        gateway.run_until(late);
        let outcome = probe.as_mut().now_or_never();
        assert_eq!(
            outcome,
            Some(Err(ProbeError::Late { within: s(10) })),
            "{begun}"
        );
    }
}

// contract: P101
#[test]
fn a_probe_that_is_dropped_is_not_looked_at() {
    let config = exact().timeout(s(60)).interval(s(60));
    // Polls are counted on these surfaces.
    for path in [Path::Slot, Path::Stream, Path::Set] {
        let mut rig = Rig::new(path, config.clone());
        let handle = Handle::of_rig(path, &mut rig);
        // A ping is out.
        rig.run_until(s(61));
        drop(handle.probe(s(10)));
        rig.run_until(s(62));
        let polls = rig.polls();
        rig.run_until(s(80));
        assert_eq!(rig.polls(), polls, "{path:?}");
    }
}
