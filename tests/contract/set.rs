//! M. A set of many members: each as if it were alone, and all of them cheap.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, join_all, select};
use futures::stream::FusedStream;
use futures::{Sink, StreamExt};
use futures_pinger::testing::{Answer, Task};
use futures_pinger::{
    Clock, Config, ConfigBuilder, End, Error, Frame, HeartbeatState, Instant, Liveness, Member,
    MemberId, PingerSet, PingerSetHandle, PongKind, Timer,
};
use futures_test::task::new_count_waker;
use proptest::prelude::*;

use crate::world::{
    Broken, Fault, ManualTimer, Path, Rig, ScriptedSink, SinkScript, World, exact, ms, s,
};

type Set<Si> = PingerSet<Si, (), ManualTimer>;
type Ends = Rc<RefCell<Vec<(Duration, MemberId, Error<Broken>)>>>;

/// A set in a [`World`], and the ends of its members.
struct Crew<Si: Sink<Frame, Error = Broken> + Unpin = ScriptedSink> {
    world: World,
    set: Rc<RefCell<Option<Set<Si>>>>,
    handle: PingerSetHandle<Si>,
    task: Task<Watch<Si>>,
    ends: Ends,
}

/// Polls the set, which never ends.
struct Watch<Si> {
    world: World,
    set: Rc<RefCell<Option<Set<Si>>>>,
    ends: Ends,
}

impl<Si: Sink<Frame, Error = Broken> + Unpin> Future for Watch<Si> {
    type Output = Infallible;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Infallible> {
        let mut set = self.set.borrow_mut();
        let Some(set) = &mut *set else {
            return Poll::Pending;
        };
        while let Poll::Ready(item) = set.poll_next_unpin(cx) {
            let departure = item.expect("a set never ends");
            let End::Failed(error) = departure.end else {
                panic!("nobody closes it");
            };
            let end = (self.world.elapsed(), departure.id, error);
            self.ends.borrow_mut().push(end);
        }
        assert!(!set.is_terminated());
        Poll::Pending
    }
}

impl<Si: Sink<Frame, Error = Broken> + Unpin> Crew<Si> {
    fn new(config: ConfigBuilder) -> Self {
        Self::in_world(World::new(), config)
    }

    fn in_world(world: World, config: ConfigBuilder) -> Self {
        let config = config.build().expect("a valid configuration");
        let set = PingerSet::new(config).with_timer(world.timer());
        let handle = set.handle();
        let set = Rc::new(RefCell::new(Some(set)));
        let ends = Ends::default();
        let task = world.task(Watch {
            world: world.clone(),
            set: Rc::clone(&set),
            ends: Rc::clone(&ends),
        });
        Self {
            world,
            set,
            handle,
            task,
            ends,
        }
    }

    fn insert(&self, sink: Si) -> Member {
        match self.handle.insert(sink) {
            Ok(member) => member,
            Err(_) => panic!("the set is there"),
        }
    }

    fn run_until(&mut self, time: Duration) {
        self.task.run_until(time);
    }

    /// When and how that member ended.
    fn end(&self, id: MemberId) -> Option<(Duration, Error<Broken>)> {
        let ends = self.ends.borrow();
        let mut ends = ends.iter().filter(|(_, ended, _)| *ended == id);
        let end = ends.next().map(|(at, _, error)| (*at, error.clone()));
        assert_eq!(ends.next(), None, "a second end");
        end
    }

    fn drop_set(&self) {
        drop(self.set.take());
    }
}

impl Crew {
    fn hand(&self) -> Hand {
        let (sink, hand) = Hand::apart(&self.world);
        hand.join(self.insert(sink));
        hand
    }

    fn hands(&self, count: usize) -> Vec<Hand> {
        (0..count).map(|_| self.hand()).collect()
    }
}

/// A member, with the script of its sink.
#[derive(Clone)]
struct Hand {
    sink: SinkScript,
    member: Arc<Mutex<Option<Member>>>,
}

impl Hand {
    /// One that has not joined, and its sink.
    fn apart(world: &World) -> (ScriptedSink, Self) {
        let (outgoing, sink) = world.sink();
        let member = Arc::default();
        (outgoing, Self { sink, member })
    }

    fn join(&self, member: Member) {
        *self.member.lock().expect("no panic") = Some(member);
    }

    fn with<R>(&self, ask: impl FnOnce(&Member) -> R) -> Option<R> {
        self.member.lock().expect("no panic").as_ref().map(ask)
    }

    fn id(&self) -> MemberId {
        self.with(Member::id).expect("it has not left")
    }

    fn pong(&self, payload: &[u8]) -> PongKind {
        let kind = self.with(|member| member.handle_pong(payload));
        kind.expect("it has not left")
    }

    fn answer(&self, rtt: impl Fn(usize) -> Option<Duration> + Send + 'static) {
        let member = self.clone();
        let peer = self.sink.peer(move |payload| {
            member.with(|member| member.handle_pong(&payload));
        });
        peer.answer(move |ping| rtt(ping).map_or(Answer::Lost, Answer::After));
    }

    fn leave(&self) {
        let member = self.member.lock().expect("no panic").take();
        drop(member);
    }
}

/// What a set asks of a sink.
#[derive(Debug)]
enum Call {
    Ready,
    Send(Frame),
    Flush,
    Drop,
}

type Does = Box<dyn FnMut(Call) -> Poll<Result<(), Broken>> + Send>;

/// A sink that does as the test says.
struct Foreign(Does);

impl Foreign {
    /// It takes all, and is asked what it thinks of it.
    fn willing(mut hears: impl FnMut(Call) + Send + 'static) -> Self {
        Self(Box::new(move |call| {
            hears(call);
            Poll::Ready(Ok(()))
        }))
    }
}

impl Sink<Frame> for Foreign {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        (self.0)(Call::Ready)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Broken> {
        match (self.0)(Call::Send(frame)) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        (self.0)(Call::Flush)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        panic!("the connection is not the set's to close")
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = (self.0)(Call::Drop);
    }
}

/// How many seats the ids of these members name, at the least.
fn seats(ids: impl IntoIterator<Item = MemberId>) -> usize {
    let seat = |id: MemberId| {
        let id = id.to_string();
        let (seat, _) = id.split_once('.').expect("seat.generation");
        seat.parse::<usize>().expect("a number")
    };
    ids.into_iter().map(seat).max().map_or(0, |seat| seat + 1)
}

// --- 75: each as if it were alone ---

#[derive(Debug, Clone)]
enum Event {
    Block,
    BlockFlush,
    Unblock,
    Fail(Fault),
    /// Of the ping so many before the newest.
    Pong(usize),
    Stray,
    Activity,
}

impl Event {
    fn befall(&self, sink: &SinkScript, pong: impl Fn(Bytes), activity: impl Fn()) {
        match self {
            Self::Block => sink.block(),
            Self::BlockFlush => sink.block_flush(),
            Self::Unblock => {
                sink.unblock();
                sink.unblock_flush();
            }
            Self::Fail(fault) => sink.fail(*fault),
            Self::Pong(back) => {
                if let Some(ping) = sink.pings().len().checked_sub(1 + back) {
                    pong(sink.payload(ping));
                }
            }
            Self::Stray => pong(Bytes::from_static(b"stray")),
            Self::Activity => activity(),
        }
    }
}

/// One member's life, in times since it joined.
#[derive(Debug, Clone)]
struct Life {
    joins: Duration,
    leaves: Option<Duration>,
    /// The round trip of each ping, over and over.
    answers: Vec<Option<Duration>>,
    events: Vec<(Duration, Event)>,
}

impl Life {
    fn rtt(&self) -> impl Fn(usize) -> Option<Duration> + Send + 'static {
        let answers = self.answers.clone();
        move |ping| answers[ping % answers.len()]
    }

    /// When a member leaves, if it does: a moment before what comes at that very time.
    fn left(&self) -> Option<Duration> {
        let left = |leaves| self.joins + leaves - ms(1) + Duration::from_nanos(1);
        self.leaves.map(left)
    }

    /// The same for a heartbeat of its own: what comes of it until it leaves, and whether it was closing then.
    fn alone(
        &self,
        path: Path,
        config: ConfigBuilder,
        stalls: &[(Duration, Duration)],
    ) -> (Lived, bool) {
        let mut rig = Rig::new(path, config);
        for (from, to) in stalls {
            rig.stall(from.saturating_sub(self.joins)..to.saturating_sub(self.joins));
        }
        rig.answer(self.rtt());
        for (at, event) in &self.events {
            let (event, sink, reader) = (event.clone(), rig.sink.clone(), rig.reader.clone());
            rig.at(*at, move || {
                event.befall(
                    &sink,
                    |payload| reader.handle_pong(payload),
                    || reader.handle_activity(),
                );
            });
        }
        let end = END.saturating_sub(self.joins);
        let until = self.leaves.map_or(end, |leaves| leaves.min(end)) - ms(1);
        rig.run_until(until);
        let (frames, end) = rig.transcript();
        let times = frames
            .into_iter()
            .map(|(at, _, what)| (at + self.joins, what));
        let end = end.map(|(at, end)| (at + self.joins, end.expect_err("a failure")));
        let stats = rig.stats();
        let counted = [stats.sent(), stats.answered(), stats.missed()];
        let closing = stats.state_at(rig.world.instant(until)) == HeartbeatState::Closing;
        ((times.collect(), end, counted), closing)
    }
}

/// Frames with their times and numbers, the end, and what was counted. Not the wake-ups: a pong that comes
/// in a stall is handled then by a member, and after it by a `Pinger`.
type Lived = (
    Vec<(Duration, u64)>,
    Option<(Duration, Error<Broken>)>,
    [u64; 3],
);

const END: Duration = Duration::from_secs(150);

/// Never two things at once but by chance.
fn time(seconds: u64) -> impl Strategy<Value = Duration> {
    prop_oneof![(1..=seconds).prop_map(s), (2..=seconds * 1000).prop_map(ms),]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Block),
        2 => Just(Event::BlockFlush),
        5 => Just(Event::Unblock),
        1 => prop_oneof![Just(Fault::Ready), Just(Fault::Send), Just(Fault::Flush)].prop_map(Event::Fail),
        4 => (0..3_usize).prop_map(Event::Pong),
        1 => Just(Event::Stray),
        2 => Just(Event::Activity),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    (
        prop_oneof![Just(Duration::ZERO), time(40)],
        prop::option::weighted(0.3, time(100)),
        prop::collection::vec(prop::option::weighted(0.85, time(12)), 1..5),
        prop::collection::vec((time(120), event()), 0..12),
    )
        .prop_map(|(joins, leaves, answers, events)| Life {
            joins,
            leaves,
            answers,
            events,
        })
}

fn config() -> impl Strategy<Value = (Duration, Duration, Duration, u32, bool, u8)> {
    (
        time(12),
        time(12),
        time(12),
        1..3_u32,
        any::<bool>(),
        0..4_u8,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    // contract: M75
    #[test]
    fn several_members_at_once_do_as_each_would_alone(
        (interval, timeout, write, missed, grace, liveness) in config(),
        lives in prop::collection::vec(life(), 1..6),
        stalls in prop::collection::vec((time(100), time(15)), 0..2),
    ) {
        // In a stall pongs reach a member, and a `Pinger` only after it: where any of them answers, or the
        // member leaves in it, that is another story.
        let stalls = stalls.into_iter().filter(|_| liveness > 1);
        let stalls: Vec<_> = stalls.map(|(from, long)| (from, from + long)).collect();
        let mut lives = lives;
        for life in &mut lives {
            life.leaves.take_if(|_| !stalls.is_empty());
        }
        let config = || {
            let config = exact().interval(interval).timeout(timeout).write_timeout(write);
            config.max_missed(missed).stall_grace(grace).liveness(match liveness {
                0 => Liveness::AnyPong,
                1 => Liveness::Activity { max_unproven: s(20) },
                _ => Liveness::Pong,
            })
        };
        // What a `Pinger` reads at once may have another order than the world gave it, which activity tells
        // from one another.
        let path = if liveness == 1 { Path::Set } else { Path::Slot };
        let mut crew = Crew::new(config());
        for (from, to) in &stalls {
            crew.world.stall(*from..*to);
        }
        let last = Arc::new(Mutex::new(HashMap::new()));
        let mut hands = Vec::new();
        for (number, life) in lives.iter().enumerate() {
            let (outgoing, hand) = Hand::apart(&crew.world);
            hand.answer(life.rtt());
            let (joining, handle) = (hand.clone(), crew.handle.clone());
            crew.world.at(life.joins, move || joining.join(handle.insert(outgoing).expect("open")));
            for (at, event) in &life.events {
                let (hand, event) = (hand.clone(), event.clone());
                crew.world.at(life.joins + *at, move || {
                    event.befall(
                        &hand.sink,
                        |payload| { hand.with(|member| member.handle_pong(&payload)); },
                        || { hand.with(Member::handle_activity); },
                    );
                });
            }
            if let Some(left) = life.left() {
                let (hand, last) = (hand.clone(), Arc::clone(&last));
                crew.world.at(left, move || {
                    let seen = hand.with(|member| (member.id(), member.stats()));
                    last.lock().expect("no panic").insert(number, seen.expect("it has joined"));
                    hand.leave();
                });
            }
            hands.push(hand);
        }
        crew.run_until(END - ms(1));
        for (number, (life, hand)) in lives.iter().zip(&hands).enumerate() {
            let seen = hand.with(|member| (member.id(), member.stats()));
            let (id, stats) = seen.unwrap_or_else(|| last.lock().expect("no panic")[&number]);
            let frames = hand.sink.frames().into_iter();
            let frames = frames.map(|(at, frame)| match frame {
                Frame::Ping(p) => (at, u64::from_be_bytes(p[..8].try_into().expect("8"))),
                Frame::Close(reason) => (at, reason.code().into()),
                Frame::Pong(_) => panic!("a heartbeat sends no pongs"),
            });
            let counted = [stats.sent(), stats.answered(), stats.missed()];
            let mut lived: Lived = (frames.collect(), crew.end(id), counted);
            let (alone, closing) = life.alone(path, config(), &stalls);
            // A member whose close frame is on its way departs with its verdict when it leaves.
            if let Some(left) = life.left().filter(|left| closing && *left < END - ms(1)) {
                let end = lived.1.take();
                prop_assert!(
                    matches!(&end, Some((at, Error::Timeout(_))) if *at == left),
                    "member {}, which left at {:?}: {:?}", number, left, end,
                );
            }
            prop_assert_eq!(lived, alone, "member {}", number);
        }
    }
}

// --- 76: on time ---

/// When each ping was flushed, by member, in nanoseconds; 0 for none.
fn flushes(count: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..count).map(|_| AtomicU64::new(0)).collect())
}

fn never_answers(world: &World, flushes: &Arc<Vec<AtomicU64>>, member: usize) -> Foreign {
    let (clock, start, flushes) = (world.clock(), world.instant(s(0)), Arc::clone(flushes));
    let mut pinged = false;
    Foreign::willing(move |call| match call {
        Call::Send(Frame::Ping(_)) => pinged = true,
        Call::Flush if pinged => {
            pinged = false;
            let at = (clock.now() - start).as_nanos() as u64;
            assert_eq!(flushes[member].swap(at, Ordering::Relaxed), 0, "one ping");
        }
        _ => {}
    })
}

/// Runs so many who never answer; checks each verdict.
fn each_verdict_is_on_time(count: usize, step: Duration, config: ConfigBuilder) {
    let mut crew = Crew::<Foreign>::new(config.granularity(step));
    let flushes = flushes(count);
    let sinks = (0..count).map(|number| never_answers(&crew.world, &flushes, number));
    let members: Vec<_> = sinks.map(|sink| crew.insert(sink)).collect();
    if count < 1000 {
        // Also where it is polled between the points of the grid.
        for time in (0..41_000).step_by(37) {
            crew.run_until(ms(time));
            crew.task.poll();
        }
    }
    crew.run_until(s(41));
    assert_eq!(crew.ends.borrow().len(), count);
    let ends: HashMap<_, _> = crew
        .ends
        .take()
        .into_iter()
        .map(|(at, id, error)| (id, (at, error)))
        .collect();
    assert_eq!(ends.len(), count);
    for (member, flushed) in members.iter().zip(&*flushes) {
        let flushed = Duration::from_nanos(flushed.load(Ordering::Relaxed));
        let (at, error) = &ends[&member.id()];
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        let waited = *at - flushed;
        assert!(waited >= s(20), "early: {waited:?}");
        assert!(waited <= s(20) + step, "late: {waited:?}");
    }
}

// contract: M76
#[test]
fn no_verdict_is_early_or_a_step_late_with_one_member_or_100_000() {
    let config = || Config::builder().jitter(0.9);
    for step in [0, 1, 99, 1000] {
        each_verdict_is_on_time(1, ms(step), config());
        each_verdict_is_on_time(130, ms(step), config());
    }
    each_verdict_is_on_time(100_000, ms(100), config());
}

// --- 77: nobody waits for another's sink ---

// contract: M77
#[test]
fn one_blocked_sink_delays_no_other_member() {
    for block in [SinkScript::block, SinkScript::block_flush] {
        let mut crew = Crew::new(exact().write_timeout(s(15)));
        let hands = crew.hands(70);
        for (number, hand) in hands.iter().enumerate() {
            match number % 3 {
                0 => block(&hand.sink),
                1 => hand.answer(|_| Some(s(1))),
                _ => {}
            }
        }
        crew.run_until(s(60));
        for (number, hand) in hands.iter().enumerate() {
            let (pings, end) = (hand.sink.pings(), crew.end(hand.id()));
            match number % 3 {
                0 => assert_eq!(end.expect("a verdict").0, s(35)),
                1 => assert_eq!((pings, end), (vec![s(20), s(40), s(60)], None)),
                _ => {
                    assert_eq!((pings, end.expect("a verdict").0), (vec![s(20)], s(40)));
                    assert_eq!(hand.sink.closes().len(), 1);
                }
            }
        }
    }
}

// contract: M77
#[test]
fn a_member_that_leaves_takes_no_wake_from_a_blocked_neighbour() {
    let mut crew = Crew::new(exact());
    let (blocked, other) = (crew.hand(), crew.hand());
    blocked.sink.block();
    crew.run_until(s(21));
    other.leave();
    crew.run_until(s(25));
    blocked.sink.unblock();
    crew.run_until(s(30));
    assert_eq!(blocked.sink.pings(), [s(25)]);
}

// contract: M77
#[test]
fn a_close_frame_that_fails_leaves_the_flushes_of_its_neighbours_alone() {
    let mut crew = Crew::new(exact());
    let slow = crew.hand();
    slow.answer(|_| Some(s(1)));
    crew.run_until(s(5));
    let dead = crew.hand();
    crew.run_until(s(39));
    slow.sink.block_flush();
    dead.sink.fail(Fault::Ready);
    crew.run_until(s(50));
    assert_eq!(crew.end(dead.id()).expect("a verdict").0, s(45));
    slow.sink.unblock_flush();
    crew.run_until(s(75));
    assert_eq!(crew.end(slow.id()), None, "it is alive");
    assert_eq!(slow.sink.pings(), [s(20), s(40), s(60)]);
}

// contract: M77
#[test]
fn a_sink_that_is_ready_again_is_told_apart_from_its_blocked_neighbours() {
    let mut crew = Crew::new(exact());
    let hands = crew.hands(130);
    hands.iter().for_each(|hand| hand.sink.block());
    crew.run_until(s(21));
    for (number, hand) in hands.iter().enumerate().rev() {
        hand.sink.unblock();
        let before = crew.task.polls();
        crew.run_until(s(21));
        assert_eq!(crew.task.polls() - before, 1, "of {number}");
        assert_eq!(hand.sink.pings(), [s(21)]);
    }
}

// --- 78: from many threads ---

// contract: M78
#[test]
fn many_threads_join_pong_and_leave_while_it_is_driven() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 300;
    // A wake-up that is lost is not made up for by the timer within the test.
    let config = Config::builder()
        .initial_delay(Duration::ZERO)
        .interval(s(3600))
        .timeout(s(3600));
    let mut set = PingerSet::new(config.build().expect("valid"));
    let patience = s(60);
    let (threads, done): (Vec<_>, Vec<_>) = (0..THREADS)
        .map(|_| {
            let (handle, (ending, end)) = (set.handle(), oneshot::channel::<()>());
            let work = move || {
                let _ending = ending;
                let (mut ids, mut old) = (Vec::new(), Bytes::from_static(b"stray"));
                for _ in 0..ROUNDS {
                    let (pings, sent) = mpsc::channel();
                    let sink = Foreign::willing(move |call| {
                        if let Call::Send(Frame::Ping(payload)) = call {
                            pings.send(payload).expect("it is waited for");
                        }
                    });
                    let member = handle.insert(sink).ok().expect("the set is there");
                    ids.push(member.id());
                    let payload = sent
                        .recv_timeout(patience)
                        .expect("a join that is heard of");
                    assert_eq!(
                        member.handle_pong(&old),
                        PongKind::Unsolicited,
                        "another's pong"
                    );
                    let answered = member.handle_pong(&payload);
                    assert!(matches!(answered, PongKind::Matched { .. }), "{answered:?}");
                    assert_eq!(member.stats().answered(), 1);
                    old = payload;
                    drop(member);
                    let gone = sent.recv_timeout(patience);
                    assert_eq!(
                        gone,
                        Err(mpsc::RecvTimeoutError::Disconnected),
                        "its sink is dropped"
                    );
                }
                ids
            };
            (thread::spawn(work), end)
        })
        .unzip();
    let driven = async {
        match select(set.next(), join_all(done)).await {
            Either::Left((end, _)) => panic!("nobody has failed: {end:?}"),
            Either::Right(_) => {}
        }
    };
    futures::executor::block_on(driven);
    let ids = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no panic"));
    let ids: Vec<_> = ids.collect();
    let different: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(different.len(), THREADS * ROUNDS, "ids repeat");
    assert!(seats(ids) <= 64, "seats are used again");
    assert_eq!(set.len(), 0);
}

// What came while the set was busy was heard of with the next timer only.
// contract: M78
#[test]
fn joins_and_leaves_while_it_is_busy_are_heard_of() {
    let mut crew = Crew::new(exact());
    let hands = crew.hands(1500);
    crew.task.poll();
    let late = crew.hand();
    hands[0].leave();
    crew.run_until(s(1));
    assert!(!hands[0].sink.is_held());
    crew.run_until(s(20));
    assert_eq!(late.sink.pings(), [s(20)]);
    assert!(hands[1..].iter().all(|hand| hand.sink.pings() == [s(20)]));
}

// contract: M78
#[test]
fn nobody_who_left_has_a_verdict_even_at_its_very_time() {
    let mut crew = Crew::new(exact());
    let hands = crew.hands(2);
    let leaving = hands[0].clone();
    crew.world.at(s(40), move || leaving.leave());
    crew.run_until(s(60));
    assert_eq!(crew.ends.borrow().len(), 1);
    assert!(crew.end(hands[1].id()).is_some());
    assert_eq!(hands[0].sink.closes(), []);
    assert!(!hands[0].sink.is_held());
}

#[test]
fn who_takes_a_seat_starts_without_the_figures_of_who_had_it() {
    let mut crew = Crew::new(exact());
    let before = crew.hand();
    before.answer(|_| Some(s(1)));
    crew.run_until(s(30));
    assert_eq!(before.stats_sent_and_answered(), (1, 1));
    before.leave();
    crew.run_until(s(31));
    let after = crew.hand();
    assert_eq!(after.stats_sent_and_answered(), (0, 0), "not even begun");
    crew.run_until(s(32));
    assert_eq!(after.stats_sent_and_answered(), (0, 0));
    assert_eq!(seats([after.id()]), 1);
}

// contract: M78
#[test]
fn a_seat_that_is_used_again_ignores_the_pongs_of_who_had_it() {
    let mut crew = Crew::new(exact());
    let old = crew.hand();
    crew.run_until(s(20));
    let (payload, id) = (old.sink.payload(0), old.id());
    old.leave();
    crew.run_until(s(21));
    let new = crew.hand();
    assert_eq!(seats([id, new.id()]), 1, "the same seat");
    assert_ne!(id, new.id());
    assert_eq!(new.pong(&payload), PongKind::Unsolicited, "not begun");
    crew.run_until(s(41));
    assert_eq!(new.sink.pings(), [s(41)], "a start of its own");
    assert_eq!(new.pong(&payload), PongKind::Unsolicited);
    assert_eq!(new.stats_sent_and_answered(), (1, 0));
    crew.run_until(s(61));
    assert!(crew.end(new.id()).is_some());
}

impl Hand {
    fn stats_sent_and_answered(&self) -> (u64, u64) {
        let stats = self.with(Member::stats).expect("it has not left");
        (stats.sent(), stats.answered())
    }
}

// --- 79: spread, and no more than needed ---

// contract: M79
#[test]
fn jitter_spreads_the_first_pings_of_those_who_join_together() {
    let mut crew = Crew::new(exact().jitter(1.0));
    let hands = crew.hands(2000);
    crew.run_until(s(19));
    let mut tenths = [0; 10];
    for hand in &hands {
        if let Some(at) = hand.sink.pings().first() {
            tenths[at.as_millis() as usize / 2000] += 1;
        }
    }
    // The last tenth has not passed.
    assert!(
        tenths[..9].iter().all(|pings| (120..=280).contains(pings)),
        "{tenths:?}"
    );
}

// contract: M79
#[test]
fn it_looks_at_1024_members_in_one_poll_and_yields() {
    let counts = Arc::new(AtomicUsize::new(0));
    let mut crew = Crew::<Foreign>::new(exact());
    let sink = || {
        let counts = Arc::clone(&counts);
        Foreign::willing(move |call| {
            if let Call::Send(_) = call {
                counts.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let _members: Vec<_> = (0..3000).map(|_| crew.insert(sink())).collect();
    crew.run_until(s(19));
    assert_eq!(counts.load(Ordering::Relaxed), 0);
    while crew.world.step(s(20)) {}
    for expected in [1024, 2048, 3000] {
        let wakes = crew.task.wakes();
        crew.task.poll();
        assert_eq!(counts.load(Ordering::Relaxed), expected);
        assert_eq!(
            crew.task.wakes() - wakes,
            usize::from(expected < 3000),
            "it goes on"
        );
    }
    // By itself, too.
    crew.run_until(s(60));
    assert_eq!(crew.ends.borrow().len(), 3000);
}

// contract: M79
#[test]
fn many_share_a_wake_and_no_frame_goes_before_it_is_due() {
    let mut crew = Crew::new(Config::builder().interval(s(20)).granularity(s(1)));
    let mut hands = Vec::new();
    for number in 0..100 {
        crew.run_until(ms(10 * number));
        hands.push(crew.hand());
    }
    crew.run_until(s(19));
    let before = crew.task.polls();
    crew.run_until(s(21) + ms(999));
    // Of the two grid points that these ticks fall on; the timer is told of by way of the executor.
    assert!(
        crew.task.polls() - before <= 8,
        "{}",
        crew.task.polls() - before
    );
    for (number, hand) in (0..).zip(&hands) {
        let [at] = hand.sink.pings()[..] else {
            panic!("one ping")
        };
        let due = s(20) + ms(10 * number);
        assert!(at >= due && at <= due + s(1), "{number}: {at:?}");
    }
}

// contract: M79
#[test]
fn neither_newcomers_nor_those_who_are_due_keep_the_others_waiting() {
    let mut crew = Crew::new(exact().initial_delay(s(5)));
    let due = crew.hands(600);
    crew.run_until(s(4));
    while crew.world.step(s(5)) {}
    let newcomers = crew.hands(600);
    crew.task.poll();
    let pinged = due.iter().filter(|hand| hand.sink.pings() == [s(5)]);
    assert_eq!(pinged.count(), 512, "half of the poll");
    crew.run_until(s(10));
    assert!(newcomers.iter().all(|hand| hand.sink.pings() == [s(10)]));
}

// The wheel of so fine a grid reached but seconds ahead, and woke the set each time that it ended.
// contract: M79
#[test]
fn a_granularity_of_nanoseconds_makes_no_wakes_of_its_own() {
    let granularity = Duration::from_nanos(8);
    let mut crew = Crew::new(Config::builder().granularity(granularity).interval(s(219)));
    let hand = crew.hand();
    crew.run_until(s(218));
    assert_eq!(crew.task.polls(), 1);
    crew.run_until(s(220));
    assert_eq!(hand.sink.pings().len(), 1);
}

// --- 80: its end ---

// contract: M80
#[test]
fn the_handle_alone_keeps_nothing_alive() {
    let mut crew = Crew::new(exact());
    let (begun, handle) = (crew.hand(), crew.handle.clone());
    crew.run_until(s(20));
    let waiting = crew.hand();
    assert_eq!(handle.len(), 2);
    crew.drop_set();
    assert!(!begun.sink.is_held() && !waiting.sink.is_held());
    assert_eq!(
        (handle.len(), handle.is_empty(), crew.world.timers()),
        (0, true, 0)
    );
    assert_eq!(begun.pong(&begun.sink.payload(0)), PongKind::Unsolicited);
    let stats = begun.with(Member::stats).expect("it has not left");
    assert_eq!((stats.sent(), stats.answered()), (1, 0), "the last figures");
    let now = crew.world.instant(s(20));
    assert_eq!(stats.state_at(now), HeartbeatState::Gone);
    assert_eq!(
        waiting.with(|member| member.stats().state_at(now)),
        Some(HeartbeatState::Gone)
    );
    begun.leave();
    assert_eq!(handle.len(), 0);
}

// contract: M80
#[test]
fn after_the_end_of_the_set_insert_gives_the_sink_back() {
    let crew = Crew::new(exact());
    crew.drop_set();
    let (sink, hand) = Hand::apart(&crew.world);
    let back = crew.handle.insert(sink).expect_err("it is gone");
    assert!(hand.sink.is_held());
    drop(back);
    assert!(!hand.sink.is_held());
}

// contract: M80
#[test]
fn an_empty_set_sleeps_without_a_timer() {
    let mut crew = Crew::new(Config::builder());
    crew.run_until(s(3600));
    assert_eq!((crew.task.polls(), crew.world.resets()), (1, 0));
    let hand = crew.hand();
    crew.run_until(s(3601));
    assert_eq!(crew.world.resets(), 1);
    hand.leave();
    crew.run_until(s(3700));
    let polls = crew.task.polls();
    crew.run_until(s(7200));
    assert_eq!((crew.task.polls(), crew.world.resets()), (polls, 1));
}

#[test]
fn a_set_tells_its_configuration_and_how_many_it_has() {
    let config = exact().interval(s(7)).build().expect("valid");
    let set: PingerSet<ScriptedSink> = PingerSet::new(config.clone());
    assert_eq!(set.config(), config);
    let member = set.insert(World::new().sink().0);
    let (handle, id) = (set.handle(), member.id());
    assert_eq!(format!("{set:?}"), "PingerSet { len: 1, .. }");
    assert_eq!(format!("{handle:?}"), "PingerSetHandle { len: 1, .. }");
    assert_eq!(
        format!("{member:?}"),
        format!("Member {{ id: {id:?}, .. }}")
    );
}

// contract: M80
#[test]
fn len_counts_right_through_joins_failures_and_leaves_in_any_order() {
    let mut crew = Crew::new(exact());
    let is_empty = |crew: &Crew| crew.set.borrow().as_ref().expect("a set").is_empty();
    assert!(is_empty(&crew));
    let hands = crew.hands(5);
    assert_eq!(crew.handle.len(), 5, "also before they begin");
    assert!(!is_empty(&crew) && !crew.handle.is_empty());
    hands[0].leave();
    assert_eq!(crew.handle.len(), 4);
    hands[1].sink.fail(Fault::Ready);
    crew.run_until(s(20));
    assert_eq!(crew.handle.len(), 3);
    hands[1].leave();
    assert_eq!(crew.handle.len(), 3, "it had failed before");
    hands[2].pong(&hands[2].sink.payload(0));
    crew.run_until(s(40));
    assert_eq!(crew.handle.len(), 1, "two timed out");
    hands[3].leave();
    hands[2].leave();
    assert_eq!((crew.handle.len(), crew.handle.is_empty()), (0, true));
    let again = crew.hands(3);
    assert_eq!(crew.handle.len(), 3);
    crew.run_until(s(41));
    drop(again);
    assert_eq!(crew.handle.len(), 0);
    hands[4].leave();
    crew.run_until(s(100));
    assert_eq!(crew.handle.len(), 0);
    assert_eq!(crew.ends.borrow().len(), 3);
}

// contract: M80
#[test]
fn a_sink_is_dropped_with_the_poll_after_its_member_left_and_with_its_failure() {
    let mut crew = Crew::new(exact());
    let (left, failed) = (crew.hand(), crew.hand());
    crew.run_until(s(10));
    let wakes = crew.task.wakes();
    left.leave();
    assert_eq!(crew.task.wakes() - wakes, 1);
    crew.run_until(s(10));
    assert!(!left.sink.is_held());
    crew.run_until(s(40));
    assert!(!failed.sink.is_held());
    let stats = failed.with(Member::stats).expect("it has not left");
    assert_eq!((stats.sent(), stats.missed()), (1, 1), "the last figures");
    assert_eq!(
        stats.state_at(crew.world.instant(s(40))),
        HeartbeatState::Gone
    );
}

// contract: M80
#[test]
fn thousands_who_come_and_go_use_the_same_seats() {
    let mut crew = Crew::new(Config::builder());
    let (mut ids, mut last) = (BTreeSet::new(), Vec::new());
    for round in 0..100 {
        // The earlier ones go when the next are there.
        last = crew.hands(50 + round % 7);
        ids.extend(last.iter().map(Hand::id));
        crew.run_until(ms(round as u64));
    }
    assert_eq!(crew.handle.len(), last.len());
    assert_eq!(
        ids.len(),
        (0..100).map(|round| 50 + round % 7).sum::<usize>()
    );
    assert!(seats(ids) <= 128);
}

// --- in bad company ---

// contract: M77
#[test]
fn a_sink_may_pong_for_itself_and_for_a_neighbour_wherever_it_is_called() {
    let mut crew = Crew::<Foreign>::new(exact().close_timeout(s(1)));
    let members: Arc<Mutex<Vec<Option<Member>>>> = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let handle = crew.handle.clone();
    for own in 0..2 {
        let (all, calls, handle) = (Arc::clone(&members), Arc::clone(&calls), handle.clone());
        let sink = Foreign::willing(move |call| {
            let payload = match &call {
                Call::Send(Frame::Ping(payload)) => payload.clone(),
                _ => Bytes::from_static(b"stray"),
            };
            // Whoever lets a member in or go holds them; it is told of nothing then.
            let Ok(members) = all.try_lock() else { return };
            for member in members.iter().flatten() {
                calls.fetch_add(1, Ordering::Relaxed);
                member.handle_pong(&payload);
                member.handle_activity();
                assert!(member.stats().sent() <= 4 && handle.len() <= 2);
            }
            drop(call);
        });
        let member = crew.insert(sink);
        members.lock().expect("no panic").push(Some(member));
        assert_eq!(crew.handle.len(), own + 1);
    }
    crew.run_until(s(60));
    assert_eq!(crew.handle.len(), 2, "each answers itself");
    let leaving = members.lock().expect("no panic")[0].take();
    let before = calls.load(Ordering::Relaxed);
    drop(leaving);
    crew.run_until(s(60));
    assert_eq!(calls.load(Ordering::Relaxed), before + 1, "in its drop");
    crew.drop_set();
    assert_eq!(calls.load(Ordering::Relaxed), before + 2);
}

#[test]
fn a_sink_may_let_others_in_and_see_its_own_member_leave() {
    let mut crew = Crew::<Foreign>::new(exact());
    let own = Arc::new(Mutex::new(None::<Member>));
    let newcomer = Arc::new(Mutex::new(None::<Member>));
    let pings = Arc::new(AtomicUsize::new(0));
    let (leaving, joining, handle, pinged) = (
        Arc::clone(&own),
        Arc::clone(&newcomer),
        crew.handle.clone(),
        Arc::clone(&pings),
    );
    let member = crew.insert(Foreign::willing(move |call| {
        if let Call::Send(Frame::Ping(_)) = call {
            let pinged = Arc::clone(&pinged);
            let sink = Foreign::willing(move |call| {
                if let Call::Send(Frame::Ping(_)) = call {
                    pinged.fetch_add(1, Ordering::Relaxed);
                }
            });
            *joining.lock().expect("no panic") = handle.insert(sink).ok();
            let left = leaving.lock().expect("no panic").take();
            drop(left);
        }
    }));
    *own.lock().expect("no panic") = Some(member);
    crew.run_until(s(40));
    assert_eq!(
        pings.load(Ordering::Relaxed),
        1,
        "its start is that of the ping"
    );
    assert_eq!((crew.handle.len(), crew.ends.borrow().len()), (1, 0));
}

#[test]
fn others_go_on_when_a_sink_panics() {
    for when in ["ready", "send", "flush"] {
        let mut crew = Crew::<Foreign>::new(exact());
        let pings = Arc::new(AtomicUsize::new(0));
        let mut members = Vec::new();
        for number in 0..5 {
            let pings = Arc::clone(&pings);
            members.push(crew.insert(Foreign::willing(move |call| {
                let now = match call {
                    Call::Ready => "ready",
                    Call::Send(_) => "send",
                    Call::Flush => "flush",
                    Call::Drop => "drop",
                };
                assert!(number != 2 || now != when, "on purpose");
                if now == "flush" && number != 2 {
                    pings.fetch_add(1, Ordering::Relaxed);
                }
            })));
        }
        crew.run_until(s(10));
        let ran = catch_unwind(AssertUnwindSafe(|| crew.run_until(s(20))));
        assert!(ran.is_err(), "the panic is the caller's to see");
        crew.task.poll();
        assert_eq!(pings.load(Ordering::Relaxed), 4, "panic in {when}");
        let gone = members.remove(2);
        drop(gone);
        crew.run_until(s(40));
        assert_eq!((crew.ends.borrow().len(), crew.handle.len()), (4, 0));
    }
}

// A panic in the drop of a sink kept its seat, and its member among those that are counted.
#[test]
fn a_sink_that_panics_in_its_drop_leaves_the_count_and_the_seat_right() {
    let sink = || Foreign::willing(|call| assert!(!matches!(call, Call::Drop), "on purpose"));
    let mut crew = Crew::<Foreign>::new(exact());
    let failing = crew.insert(sink());
    let leaving = crew.insert(sink());
    let (id, other) = (failing.id(), leaving.id());
    crew.run_until(s(10));
    drop(leaving);
    assert!(catch_unwind(AssertUnwindSafe(|| crew.run_until(s(10)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| crew.run_until(s(40)))).is_err());
    assert_eq!(crew.handle.len(), 0);
    drop(failing);
    crew.task.poll();
    let again: Vec<_> = (0..2)
        .map(|_| crew.insert(Foreign::willing(|_| ())))
        .collect();
    assert_eq!(seats(again.iter().map(Member::id)), seats([id, other]));
}

/// A waker that does something where it is woken.
struct Inline(Box<dyn Fn() + Send + Sync>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn a_waker_may_use_the_set_where_it_is_woken() {
    let crew = Crew::new(exact());
    let (woken, handle, world) = (
        Arc::new(AtomicUsize::new(0)),
        crew.handle.clone(),
        crew.world.clone(),
    );
    let inner = Arc::new(Mutex::new(Vec::new()));
    let waker = {
        let (woken, inner) = (Arc::clone(&woken), Arc::clone(&inner));
        Waker::from(Arc::new(Inline(Box::new(move || {
            woken.fetch_add(1, Ordering::Relaxed);
            let (sink, hand) = Hand::apart(&world);
            hand.join(handle.insert(sink).expect("open"));
            hand.pong(b"stray");
            inner.lock().expect("no panic").push((hand, handle.len()));
        }))))
    };
    let mut set = crew.set.borrow_mut();
    let set = set.as_mut().expect("not dropped");
    assert!(
        set.poll_next_unpin(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let hand = crew.hand();
    assert_eq!(woken.load(Ordering::Relaxed), 1, "once until it is polled");
    assert_eq!(inner.lock().expect("no panic")[0].1, 2);
    assert!(
        set.poll_next_unpin(&mut Context::from_waker(&waker))
            .is_pending()
    );
    hand.leave();
    assert_eq!(woken.load(Ordering::Relaxed), 2);
    assert_eq!(set.len(), 2);
}

// --- answers ---

// contract: A4 M75
#[test]
fn a_ping_that_waits_for_a_slow_answer_leaves_with_it() {
    let mut crew = Crew::new(exact().interval(s(5)).timeout(s(30)));
    let (slow, quick) = (crew.hand(), crew.hand());
    slow.answer(|_| Some(s(8)));
    quick.answer(|_| Some(s(1)));
    crew.run_until(s(40));
    // Due at 5, 10 and so on; each leaves when the one before is answered.
    assert_eq!(slow.sink.pings(), [s(5), s(13), s(21), s(29), s(37)]);
    assert_eq!(
        quick.sink.pings(),
        (1..=8).map(|n| s(5 * n)).collect::<Vec<_>>()
    );
}

// A pong in time wakes nobody.
// contract: M79
#[test]
fn pongs_wake_the_set_for_nothing_but_a_ping_that_waits() {
    let mut crew = Crew::new(exact().interval(s(5)).timeout(s(30)));
    let hand = crew.hand();
    crew.run_until(s(6));
    let wakes = crew.task.wakes();
    assert!(matches!(
        hand.pong(&hand.sink.payload(0)),
        PongKind::Matched { .. }
    ));
    hand.pong(b"stray");
    assert_eq!(crew.task.wakes(), wakes);
    crew.run_until(s(16));
    let wakes = crew.task.wakes();
    hand.pong(b"stray");
    assert_eq!(crew.task.wakes(), wakes);
    hand.pong(&hand.sink.payload(1));
    hand.pong(&hand.sink.payload(1));
    assert_eq!(crew.task.wakes(), wakes + 1, "once");
    crew.run_until(s(16));
    assert_eq!(hand.sink.pings(), [s(5), s(10), s(16)]);
}

// contract: B17 B18 M75
#[test]
fn any_pong_or_activity_counts_for_the_member_that_it_came_for() {
    let mut crew = Crew::new(exact().liveness(Liveness::AnyPong));
    let hands = crew.hands(2);
    crew.run_until(s(30));
    assert_eq!(hands[0].pong(b""), PongKind::Accepted { ours: true });
    crew.run_until(s(41));
    assert_eq!(hands[0].sink.pings(), [s(20), s(40)]);
    assert!(crew.end(hands[0].id()).is_none() && crew.end(hands[1].id()).is_some());

    let liveness = Liveness::Activity {
        max_unproven: s(60),
    };
    let mut crew = Crew::new(exact().liveness(liveness));
    let hands = crew.hands(2);
    crew.run_until(s(15));
    hands[0].with(Member::handle_activity);
    crew.run_until(s(36));
    assert_eq!(
        (hands[0].sink.pings(), hands[1].sink.pings()),
        (vec![s(35)], vec![s(20)])
    );
    hands[0].with(Member::handle_activity);
    crew.run_until(s(41));
    assert!(crew.end(hands[0].id()).is_none() && crew.end(hands[1].id()).is_some());
}

// The set slept on until the deadline of the ping that was answered, or of the one that was called off.
// contract: B18
#[test]
fn activity_that_answers_late_or_calls_a_ping_off_is_not_slept_through() {
    let liveness = Liveness::Activity {
        max_unproven: s(600),
    };
    let config = || exact().liveness(liveness).max_missed(2);
    let mut crew = Crew::new(config().interval(s(5)).timeout(s(30)));
    let hand = crew.hand();
    crew.run_until(s(12));
    hand.with(Member::handle_activity);
    crew.run_until(s(17));
    assert_eq!(hand.sink.pings(), [s(5), s(17)]);

    let mut crew = Crew::new(config().interval(s(5)).timeout(s(3)).write_timeout(s(30)));
    let hand = crew.hand();
    crew.run_until(s(6));
    hand.sink.block();
    // The next is offered at 8, before it is due.
    crew.run_until(s(9));
    hand.with(Member::handle_activity);
    crew.run_until(s(44));
    let (at, error) = crew.end(hand.id()).expect("a verdict");
    assert!(matches!(error, Error::Timeout(_)));
    assert_eq!(at, s(44), "offered at 14");
}

/// A clock that the test sets, and a timer that never fires.
struct Settable(Arc<AtomicU64>, Instant);

impl Timer for Settable {
    fn clock(&self) -> Clock {
        let (seconds, start) = (Arc::clone(&self.0), self.1);
        Clock::new(move || start + s(seconds.load(Ordering::Relaxed)))
    }

    fn reset(self: Pin<&mut Self>, _: Instant) {}

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

// contract: F43
#[test]
fn a_clock_that_goes_backwards_makes_no_verdict_early_and_no_round_trip_negative() {
    for step in [s(0), s(1)] {
        let (world, seconds) = (World::new(), Arc::new(AtomicU64::new(1000)));
        let timer = Settable(Arc::clone(&seconds), world.instant(s(0)));
        let config = Config::builder()
            .granularity(step)
            .stall_grace(false)
            .build();
        let mut set = PingerSet::new(config.expect("valid")).with_timer(timer);
        let poll_at = |set: &mut PingerSet<ScriptedSink, (), Settable>, time| {
            seconds.store(time, Ordering::Relaxed);
            // A task that is new each time, as the timer never wakes the one that waits.
            let waker = new_count_waker().0;
            set.poll_next_unpin(&mut Context::from_waker(&waker))
        };
        let (outgoing, sink) = world.sink();
        let member = set.insert(outgoing);
        assert!(poll_at(&mut set, 1000).is_pending());
        assert!(poll_at(&mut set, 900).is_pending(), "before its start");
        assert!(poll_at(&mut set, 1021).is_pending());
        assert_eq!(sink.pings().len(), 1);
        for back in [1010, 990, 0] {
            assert!(poll_at(&mut set, back).is_pending());
        }
        let PongKind::Matched { rtt } = member.handle_pong(&sink.payload(0)) else {
            panic!("it answers")
        };
        assert_eq!(rtt, s(0));
        assert!(poll_at(&mut set, 1042).is_pending());
        assert_eq!(sink.pings().len(), 2);
        assert!(poll_at(&mut set, 1061).is_pending(), "not early");
        assert!(poll_at(&mut set, 1063).is_ready());
        assert_eq!(set.len(), 0);
    }
}
