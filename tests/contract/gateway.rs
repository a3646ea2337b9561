//! Q. A [`PingerSet`] as a gateway needs it: readers attached, connections told apart, steered and counted.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};
use futures_pinger::testing::{Answer, Task};
use futures_pinger::{
    CloseReason, Closed, ConfigBuilder, Departure, End, Error, Frame, HeartbeatState, Member,
    MemberId, PingNowError, PingerSet, PingerSetHandle, Stats, TimeoutPhase, Totals,
};

use crate::socket::{Msg, Plain};
use crate::world::{Broken, Fault, ManualTimer, ScriptedSink, SinkScript, World, exact, s};

pub type Set = PingerSet<ScriptedSink, &'static str, ManualTimer>;
pub type Ends = Rc<RefCell<Vec<(Duration, Departure<&'static str, Broken>)>>>;

/// Polls the set, which never ends.
pub struct Driver {
    world: World,
    set: Set,
    ends: Ends,
    /// So long the process does nothing else with each poll.
    cost: Duration,
}

impl Future for Driver {
    type Output = Infallible;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Infallible> {
        while let Poll::Ready(item) = self.set.poll_next_unpin(cx) {
            let departure = item.expect("a set never ends");
            let at = self.world.elapsed();
            self.ends.borrow_mut().push((at, departure));
        }
        if self.cost > Duration::ZERO {
            let now = self.world.elapsed();
            self.world.stall(now..now + self.cost);
        }
        Poll::Pending
    }
}

/// A set in a [`World`], and what it has yielded.
pub struct Gateway {
    pub world: World,
    pub handle: PingerSetHandle<ScriptedSink, &'static str>,
    pub task: Task<Driver>,
    pub ends: Ends,
}

impl Gateway {
    pub fn new(config: ConfigBuilder) -> Self {
        Self::with_cost(config, Duration::ZERO)
    }

    /// One each of whose polls takes so long.
    pub fn with_cost(config: ConfigBuilder, cost: Duration) -> Self {
        Self::with_set(config, cost, |set| set)
    }

    pub fn with_set(
        config: ConfigBuilder,
        cost: Duration,
        choose: impl FnOnce(Set) -> Set,
    ) -> Self {
        let world = World::new();
        let set = PingerSet::new(config.build().expect("valid")).with_timer(world.timer());
        let set = choose(set);
        let handle = set.handle();
        let ends = Ends::default();
        let task = world.task(Driver {
            world: world.clone(),
            set,
            ends: Rc::clone(&ends),
            cost,
        });
        Self {
            world,
            handle,
            task,
            ends,
        }
    }

    pub fn join(&self) -> (Member, SinkScript) {
        self.join_as("somebody")
    }

    pub fn join_as(&self, key: &'static str) -> (Member, SinkScript) {
        let (outgoing, sink) = self.world.sink();
        let inserted = self.handle.insert_keyed(key, outgoing);
        let Ok(member) = inserted else {
            panic!("the set is there");
        };
        (member, sink)
    }

    pub fn run_until(&mut self, time: Duration) {
        self.task.run_until(time);
    }
}

/// The incoming messages of a connection.
fn incoming() -> (
    UnboundedSender<Result<Msg, Broken>>,
    impl futures::Stream<Item = Result<Msg, Broken>> + Unpin,
) {
    unbounded()
}

// --- 113: attached readers ---

// contract: Q113
#[test]
fn dropping_an_attached_stream_leaves_the_set() {
    let mut gateway = Gateway::new(exact());
    let (member, sink) = gateway.join();
    let (socket, stream) = incoming();
    let reader = member.attach(stream, Plain);
    gateway.run_until(s(21));
    assert_eq!(sink.pings(), [s(20)]);
    assert_eq!(gateway.handle.len(), 1);
    drop(reader);
    assert_eq!(gateway.handle.len(), 0);
    gateway.run_until(s(100));
    assert_eq!(sink.pings(), [s(20)]);
    assert!(gateway.ends.borrow().is_empty());
    drop(socket);
}

// contract: Q113
#[test]
fn the_close_an_error_and_the_end_of_an_attached_stream_leave_the_set() {
    for end in [Some(Ok(Msg::Close)), Some(Err(Broken)), None] {
        let mut gateway = Gateway::new(exact());
        let (member, sink) = gateway.join();
        let (socket, stream) = incoming();
        let mut reader = member.attach(stream, Plain);
        gateway.run_until(s(21));
        let pong = Msg::Pong(sink.payload(0));
        socket.unbounded_send(Ok(pong)).expect("attached");
        socket.unbounded_send(Ok(Msg::Data(7))).expect("attached");
        let read = reader.next().now_or_never();
        assert_eq!(read, Some(Some(Ok(Msg::Data(7)))), "the pong is taken out");
        gateway.run_until(s(25));
        assert_eq!(gateway.handle.len(), 1);
        if let Some(last) = end.clone() {
            socket.unbounded_send(last).expect("attached");
        }
        drop(socket);
        assert_eq!(reader.next().now_or_never(), Some(end));
        assert_eq!(gateway.handle.len(), 0);
        gateway.run_until(s(100));
        assert!(gateway.ends.borrow().is_empty());
    }
}

// contract: Q113
#[test]
fn the_next_member_of_a_seat_has_a_reader_of_its_own() {
    let mut gateway = Gateway::new(exact());
    let (member, _) = gateway.join();
    let (socket, stream) = incoming();
    let mut reader = member.attach(stream, Plain);
    socket.unbounded_send(Ok(Msg::Data(0))).expect("attached");
    // The reader is away, and its heartbeat has seen that.
    assert!(reader.next().now_or_never().is_some());
    gateway.run_until(s(45));
    drop(reader);
    gateway.run_until(s(46));
    let (silent, _) = gateway.join();
    gateway.run_until(s(200));
    let ends = gateway.ends.borrow();
    let ends: Vec<_> = ends.iter().map(|(at, end)| (*at, end.id)).collect();
    assert_eq!(ends, [(s(86), silent.id())]);
}

// --- 109: keys, departures, and orders by id ---

/// The peer of a member that is held answers after no time.
pub fn answer(member: &Arc<Member>, sink: &SinkScript) {
    let member = Arc::downgrade(member);
    let peer = sink.peer(move |payload| {
        if let Some(member) = member.upgrade() {
            member.handle_pong(&payload);
        }
    });
    peer.answer(|_| Answer::After(Duration::ZERO));
}

// contract: Q109
#[test]
fn a_departure_tells_who_it_is_with_key_figures_and_cause() {
    let mut gateway = Gateway::new(exact().timeout(s(5)));
    let (dead, _) = gateway.join_as("dead");
    let (broken, sink) = gateway.join_as("broken");
    let (alive, answering) = gateway.join_as("alive");
    let alive = Arc::new(alive);
    answer(&alive, &answering);
    let (leaving, _) = gateway.join_as("leaving");
    gateway.world.at(s(3), move || drop(leaving));
    sink.fail(Fault::Ready);
    gateway.run_until(s(50));

    let ends = gateway.ends.borrow();
    let [(at, first), (later, second)] = &ends[..] else {
        panic!("two have failed, and one who has left yields nothing: {ends:?}");
    };
    assert_eq!((*at, first.key, first.id), (s(20), "broken", broken.id()));
    assert_eq!(first.end, End::Failed(Error::Transport(Broken)));
    assert_eq!(first.stats.sent(), 0);
    assert_eq!((*later, second.key, second.id), (s(25), "dead", dead.id()));
    assert_eq!((second.stats.sent(), second.stats.missed()), (1, 1));
    let End::Failed(Error::Timeout(verdict)) = &second.end else {
        panic!("a verdict: {second:?}");
    };
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
}

// contract: Q109
#[test]
fn a_key_is_given_back_with_its_sink_once_the_set_is_gone() {
    let gateway = Gateway::new(exact());
    let (world, handle) = (gateway.world.clone(), gateway.handle.clone());
    drop(gateway);
    let (outgoing, _) = world.sink();
    let refused = handle.insert_keyed("late", outgoing).map(|_| ());
    let (key, _sink) = refused.expect_err("the set is gone");
    assert_eq!(key, "late");
}

// contract: Q109
#[test]
fn the_handle_steers_a_member_also_after_attach_has_taken_it() {
    let mut gateway = Gateway::new(exact());
    let (member, sink) = gateway.join();
    let id = member.id();
    let (socket, stream) = incoming();
    let mut reader = member.attach(stream, Plain);
    let handle = gateway.handle.clone();
    let mut answer = |ping: usize| {
        let pong = Msg::Pong(sink.payload(ping));
        socket.unbounded_send(Ok(pong)).expect("attached");
        assert!(reader.next().now_or_never().is_none());
    };
    gateway.run_until(s(3));
    assert_eq!(handle.ping_now(id), Ok(()));
    gateway.run_until(s(3));
    assert_eq!(sink.pings(), [s(3)]);
    answer(0);
    let stats = handle.stats(id).expect("it is there");
    assert_eq!((stats.sent(), stats.answered()), (1, 1));

    assert_eq!(handle.pause(id), Ok(()));
    gateway.run_until(s(100));
    assert_eq!(sink.pings(), [s(3)], "no ping while it is paused");
    let paused = handle.stats(id).expect("it is there");
    let state = paused.state_at(gateway.world.instant(s(100)));
    assert_eq!(state, HeartbeatState::Paused);
    assert_eq!(handle.resume(id), Ok(()));
    gateway.run_until(s(120));
    assert_eq!(sink.pings(), [s(3), s(120)]);
    answer(1);
    gateway.run_until(s(139));
    assert!(gateway.ends.borrow().is_empty());
}

// contract: Q109
#[test]
fn an_id_that_is_gone_is_an_error_and_never_another_member() {
    let mut gateway = Gateway::new(exact());
    let (member, _) = gateway.join();
    let old = member.id();
    gateway.run_until(s(1));
    drop(member);
    let all_closed = |gateway: &Gateway| {
        let handle = &gateway.handle;
        assert_eq!(handle.stats(old).map(drop), Err(Closed));
        assert_eq!(handle.ping_now(old), Err(PingNowError::Closed));
        assert_eq!(handle.pause(old), Err(Closed));
        assert_eq!(handle.resume(old), Err(Closed));
    };
    all_closed(&gateway);
    gateway.run_until(s(2));
    let (member, sink) = gateway.join();
    assert_ne!(member.id(), old);
    all_closed(&gateway);
    gateway.run_until(s(21));
    all_closed(&gateway);
    assert!(sink.pings().is_empty(), "the seat is another's");
    gateway.run_until(s(22));
    assert_eq!(sink.pings(), [s(22)]);
    gateway.run_until(s(42));
    assert_eq!(gateway.ends.borrow().len(), 1);
    assert_eq!(
        gateway.handle.ping_now(member.id()),
        Err(PingNowError::Closed),
        "it has failed"
    );
}

// --- 112: closing ---

fn going_down() -> CloseReason {
    CloseReason::new(1001, "going down").expect("a code that may be sent")
}

impl Gateway {
    /// When each member was yielded, and that it was closed.
    #[track_caller]
    fn closed(&self) -> Vec<(Duration, MemberId)> {
        let ends = self.ends.borrow();
        let closed = ends.iter().map(|(at, departure)| {
            assert_eq!(departure.end, End::Closed);
            (*at, departure.id)
        });
        closed.collect()
    }
}

// contract: Q112
#[test]
fn close_all_closes_members_in_every_state_and_insert_works_afterwards() {
    let mut gateway = Gateway::new(exact().timeout(s(5)).close_timeout(s(3)));
    let (idle, idle_sink) = gateway.join();
    let idle = Arc::new(idle);
    answer(&idle, &idle_sink);
    let (waiting, waiting_sink) = gateway.join();
    let (blocked, blocked_sink) = gateway.join();
    blocked_sink.block();
    let (flushing, flushing_sink) = gateway.join();
    flushing_sink.block_flush();
    let (paused, paused_sink) = gateway.join();
    assert_eq!(gateway.handle.pause(paused.id()), Ok(()));
    gateway.run_until(s(22));
    let (fresh, fresh_sink) = gateway.join();
    gateway.handle.close_all(going_down());
    let after = gateway.join();
    gateway.run_until(s(25));

    let mut closed = gateway.closed();
    closed.sort();
    let mut wanted = [
        (s(22), idle.id()),
        (s(22), waiting.id()),
        (s(25), blocked.id()),
        (s(25), flushing.id()),
        (s(22), paused.id()),
        (s(22), fresh.id()),
    ];
    wanted.sort();
    assert_eq!(closed, wanted);
    for sink in [&idle_sink, &waiting_sink, &paused_sink, &fresh_sink] {
        assert_eq!(sink.closes(), [(s(22), Frame::Close(going_down()))]);
    }
    assert!(blocked_sink.closes().is_empty());
    assert_eq!(gateway.handle.len(), 1, "who came afterwards");
    gateway.run_until(s(45));
    assert_eq!(after.1.pings(), [s(42)]);
    for sink in [&idle_sink, &waiting_sink, &flushing_sink] {
        assert_eq!(sink.pings(), [s(20)], "no ping follows");
    }
    assert!(paused_sink.pings().is_empty() && fresh_sink.pings().is_empty());
}

// contract: Q112
#[test]
fn close_by_id_closes_one_member_before_the_first_poll_or_later() {
    for at in [s(0), s(7)] {
        // No close frame of a verdict, but one that is asked for.
        let mut gateway = Gateway::new(exact().no_close().close_timeout(s(3)));
        let (member, sink) = gateway.join_as("asked");
        let (other, answering) = gateway.join_as("other");
        let other = Arc::new(other);
        answer(&other, &answering);
        if at > s(0) {
            gateway.run_until(at);
        } else {
            gateway.world.run_until(s(30));
        }
        let now = gateway.world.elapsed();
        assert_eq!(gateway.handle.close(member.id(), going_down()), Ok(()));
        gateway.run_until(now + s(300));
        assert_eq!(gateway.closed(), [(now, member.id())]);
        assert_eq!(gateway.ends.borrow()[0].1.key, "asked");
        assert_eq!(sink.frames(), [(now, Frame::Close(going_down()))]);
        let again = gateway.handle.close(member.id(), going_down());
        assert_eq!(again, Err(Closed));
        assert_eq!(answering.pings().len(), 15);
    }
}

// contract: Q112
#[test]
fn a_blocked_sink_that_was_closed_before_the_first_poll_has_the_close_timeout() {
    let mut gateway = Gateway::new(exact().close_timeout(s(3)));
    let (member, sink) = gateway.join();
    sink.block();
    gateway.handle.close_all(going_down());
    gateway.world.run_until(s(30));
    gateway.run_until(s(50));
    assert_eq!(gateway.closed(), [(s(33), member.id())]);
}

// contract: Q112
#[test]
fn a_verdict_stands_and_a_broken_sink_is_closed() {
    let mut gateway = Gateway::new(exact().timeout(s(5)).close_timeout(s(3)));
    let (dead, dead_sink) = gateway.join();
    gateway.run_until(s(21));
    dead_sink.block();
    gateway.run_until(s(26));
    let (broken, broken_sink) = gateway.join();
    gateway.run_until(s(27));
    broken_sink.fail(Fault::Ready);
    gateway.handle.close_all(going_down());
    gateway.run_until(s(60));
    let ends = gateway.ends.borrow();
    let ends: Vec<_> = ends
        .iter()
        .map(|(at, end)| (*at, end.id, end.end == End::Closed))
        .collect();
    assert_eq!(
        ends,
        [(s(27), broken.id(), true), (s(28), dead.id(), false)]
    );
}

/// A connection's task may see the close frame, and drop the member, before the set has seen that the frame is
/// flushed.
// contract: Q112
#[test]
fn who_leaves_on_a_close_frame_departs_all_the_same() {
    let mut gateway = Gateway::new(exact().timeout(s(5)).close_timeout(s(3)));
    let (dead, dead_sink) = gateway.join_as("dead");
    let (closed, closed_sink) = gateway.join_as("closed");
    gateway.run_until(s(24));
    dead_sink.block_flush();
    closed_sink.block_flush();
    assert_eq!(gateway.handle.close(closed.id(), going_down()), Ok(()));
    gateway.run_until(s(26));
    // Both close frames are in the sinks.
    assert!(matches!(
        dead_sink.frames().last(),
        Some((_, Frame::Close(_)))
    ));
    assert!(matches!(
        closed_sink.frames().last(),
        Some((_, Frame::Close(_)))
    ));
    let (fresh, _) = gateway.join_as("fresh");
    let (leaving, _) = gateway.join_as("leaving");
    gateway.run_until(s(27));
    // This order comes with the drop, before the set has looked.
    let ids = [dead.id(), closed.id(), fresh.id()];
    assert_eq!(gateway.handle.close(fresh.id(), going_down()), Ok(()));
    drop((dead, closed, fresh, leaving));
    gateway.run_until(s(60));

    let mut ends: Vec<_> = gateway.ends.borrow().clone();
    ends.sort_by_key(|(_, departure)| departure.id);
    let told: Vec<_> = ends.iter().map(|(_, it)| (it.id, it.key)).collect();
    let keys = ["dead", "closed", "fresh"];
    assert_eq!(told, ids.into_iter().zip(keys).collect::<Vec<_>>());
    assert!(
        matches!(&ends[0].1.end, End::Failed(Error::Timeout(verdict)) if verdict.phase() == TimeoutPhase::Pong)
    );
    assert_eq!(
        (&ends[1].1.end, &ends[2].1.end),
        (&End::Closed, &End::Closed)
    );
    assert!(ends.iter().all(|(_, departure)| !departure.close_sent));
    assert_eq!(gateway.handle.totals().verdicts(TimeoutPhase::Pong), 1);
}

/// The close timeout is for the sink, and not for a process that was busy.
// contract: Q112
#[test]
fn a_set_that_is_polled_late_closes_its_members_all_the_same() {
    let mut gateway = Gateway::new(exact().close_timeout(s(1)));
    let (member, sink) = gateway.join();
    let (blocked, blocked_sink) = gateway.join();
    gateway.run_until(s(5));
    blocked_sink.block();
    gateway.handle.close_all(going_down());
    // Nobody polls the set for ten times as long.
    gateway.world.run_until(s(15));
    gateway.run_until(s(60));
    assert_eq!(
        gateway.closed(),
        [(s(15), member.id()), (s(16), blocked.id())]
    );
    let sent: Vec<_> = gateway
        .ends
        .borrow()
        .iter()
        .map(|(_, it)| it.close_sent)
        .collect();
    assert_eq!(sent, [true, false]);
    assert_eq!(sink.frames(), [(s(15), Frame::Close(going_down()))]);
}

// contract: Q112
#[test]
fn a_drained_set_ends_with_its_last_member_however_that_leaves() {
    let world = World::new();
    let config = exact().close_timeout(s(3)).build().expect("valid");
    let mut set = PingerSet::new(config).with_timer(world.timer());
    let handle = set.handle();
    assert_eq!(
        world.run_within(s(1), set.drain().count()),
        0,
        "it is empty"
    );

    let join = |key| {
        let (outgoing, sink) = world.sink();
        (set.insert_keyed(key, outgoing), sink)
    };
    let (ready, _) = join("ready");
    let (blocked, blocked_sink) = join("blocked");
    blocked_sink.block();
    let (leaving, leaving_sink) = join("leaving");
    leaving_sink.block();
    handle.close(ready.id(), going_down()).expect("it is there");
    handle
        .close(blocked.id(), going_down())
        .expect("it is there");
    world.at(s(10), move || drop(leaving));
    let departures = async {
        let departures = set.drain().map(|it| (world.elapsed(), it.key));
        departures.collect::<Vec<_>>().await
    };
    let departures = world.run_within(s(11), departures);
    assert_eq!(departures, [(s(0), "ready"), (s(3), "blocked")]);
    assert_eq!(world.elapsed(), s(10), "it waits for the last");
    assert!(set.is_empty());
    drop((ready, blocked));
}

// --- 111: totals ---

/// The figures of one member: sent, answered, missed, stale, unsolicited.
fn figures(stats: Stats) -> [u64; 5] {
    [
        stats.sent(),
        stats.answered(),
        stats.missed(),
        stats.stale(),
        stats.unsolicited(),
    ]
}

fn add(sums: &mut [u64; 5], stats: Stats) {
    for (sum, figure) in sums.iter_mut().zip(figures(stats)) {
        *sum += figure;
    }
}

const STATES: [HeartbeatState; 6] = [
    HeartbeatState::Idle,
    HeartbeatState::Sending,
    HeartbeatState::Waiting,
    HeartbeatState::Suspect,
    HeartbeatState::Closing,
    HeartbeatState::Paused,
];

/// Members of all kinds, over more than one chunk, some of which leave and have their seats used again: at each
/// second the totals are what a look at each member comes to.
// contract: Q111
#[test]
fn the_totals_equal_the_sums_over_all_members_those_gone_included() {
    let config = exact().timeout(s(5)).max_missed(2).close_timeout(s(3));
    let mut gateway = Gateway::new(config);
    let mut members: Vec<(Arc<Member>, SinkScript)> = Vec::new();
    // Of those who have left.
    let mut gone = [0; 5];
    let mut most_suspects = 0;
    for second in 0..200_u64 {
        if second < 100 {
            let (member, sink) = gateway.join();
            let member = Arc::new(member);
            match second % 8 {
                0 | 1 => answer(&member, &sink),
                2 => sink.block(),
                3 => sink.block_flush(),
                4 => {
                    // Each pong comes after the timeout, and one that nobody asked for.
                    let late = Arc::downgrade(&member);
                    let peer = sink.peer(move |payload| {
                        if let Some(late) = late.upgrade() {
                            late.handle_pong(&payload);
                            late.handle_pong(b"stray");
                        }
                    });
                    peer.answer(|_| Answer::After(s(7)));
                }
                5 => assert_eq!(gateway.handle.pause(member.id()), Ok(())),
                // The others are silent.
                _ => {}
            }
            members.push((member, sink));
        }
        if second % 16 == 9 {
            let (member, _) = members.swap_remove(second as usize % members.len());
            add(&mut gone, member.stats());
        }
        if second == 150 {
            gateway.handle.close_all(going_down());
        }
        gateway.run_until(s(second));

        // Before anything began nobody had waited for longer than usual: who is suspect has missed a ping.
        let (now, start) = (
            gateway.world.instant(s(second)),
            gateway.world.instant(s(0)),
        );
        let (mut sums, mut states, mut with_misses) = (gone, [0; 6], 0);
        let mut suspects = 0;
        for (member, _) in &members {
            let stats = member.stats();
            add(&mut sums, stats);
            suspects += usize::from(stats.state_at(now) == HeartbeatState::Suspect);
            let state = stats.state_at(start);
            if let Some(number) = STATES.iter().position(|known| *known == state) {
                states[number] += 1;
            }
            with_misses +=
                u64::from(stats.missed() > stats.stale() && state != HeartbeatState::Gone);
        }
        let totals = gateway.handle.totals();
        let told = [
            totals.sent(),
            totals.answered(),
            totals.missed(),
            totals.stale(),
            totals.unsolicited(),
        ];
        assert_eq!(told, sums, "at {second} s");
        assert_eq!(
            STATES.map(|state| totals.members(state)),
            states,
            "at {second} s"
        );
        assert_eq!(totals.with_misses(), with_misses, "at {second} s");
        assert_eq!(gateway.handle.suspects(), suspects, "at {second} s");
        most_suspects = most_suspects.max(suspects);
        let ends = gateway.ends.borrow();
        for phase in [
            TimeoutPhase::Pong,
            TimeoutPhase::Write,
            TimeoutPhase::Closing,
        ] {
            let verdicts = ends.iter().filter(|(_, departure)| {
                matches!(&departure.end, End::Failed(Error::Timeout(verdict)) if verdict.phase() == phase)
            });
            assert_eq!(
                totals.verdicts(phase),
                verdicts.count() as u64,
                "at {second} s"
            );
        }
    }
    assert!(most_suspects > 0);
    let totals = gateway.handle.totals();
    assert!(totals.stale() > 0 && totals.unsolicited() > 0 && totals.answered() > 0);
    assert!(totals.verdicts(TimeoutPhase::Pong) > 0 && totals.verdicts(TimeoutPhase::Write) > 0);
    assert_eq!(gateway.handle.len(), 0, "all were closed or have failed");
}

/// More chunks than are read in one go.
// contract: Q111
#[test]
fn the_totals_know_of_each_of_10_000_members() {
    let mut gateway = Gateway::new(exact().timeout(s(5)).no_close());
    let members: Vec<_> = (0..10_000).map(|_| gateway.join().0).collect();
    assert_eq!(
        gateway.handle.totals().members(HeartbeatState::Idle),
        10_000
    );
    gateway.run_until(s(21));
    let totals = gateway.handle.totals();
    assert_eq!(
        (totals.sent(), totals.members(HeartbeatState::Waiting)),
        (10_000, 10_000)
    );
    gateway.run_until(s(26));
    let totals = gateway.handle.totals();
    assert_eq!(totals.verdicts(TimeoutPhase::Pong), 10_000);
    assert_eq!(totals.members(HeartbeatState::Waiting), 0);
    drop(members);
    let Gateway { handle, task, .. } = gateway;
    drop(task);
    assert_eq!(handle.totals(), Totals::default(), "the set is gone");
}
