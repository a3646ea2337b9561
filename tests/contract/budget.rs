//! Q. A sink that yields speaks of the task's budget, and not of the peer.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::testing::{ScriptedSocket, Task};
use futures_pinger::{KeepAlive, Pinger, PingerSet, TimeoutPhase, TokioTimer};
use tokio::task::consume_budget;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::every_surface::build;
use crate::socket::{Kept, Msg, Plain};
use crate::world::{ManualTimer, Path, Rig, ScriptedSink, World, exact, ms, s};

/// A heartbeat over a scripted sink, which a test may poll by hand.
enum Heart {
    Rig(Box<Rig>),
    KeepAlive(Box<Kept>),
}

/// An operation of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Ready,
    Flush,
}

impl Heart {
    /// A ping leaves after 20 s, and its sink has 7 s to take it.
    fn each(test: impl Fn(Self)) {
        for grace in [true, false] {
            let config = exact().write_timeout(s(7)).stall_grace(grace);
            for path in [Path::Slot, Path::Stream, Path::Set] {
                test(Self::Rig(Box::new(Rig::new(path, config.clone()))));
            }
            test(Self::KeepAlive(Box::new(Kept::new(config))));
        }
    }

    /// The same for each operation at which the sink yields.
    fn each_at(test: impl Fn(Self, At)) {
        for at in [At::Ready, At::Flush] {
            Self::each(|heart| test(heart, at));
        }
    }

    fn run_until(&mut self, time: Duration) {
        match self {
            Self::Rig(rig) => rig.run_until(time),
            Self::KeepAlive(kept) => kept.run_until(time),
        }
    }

    /// Time goes on to `time`, and there is one poll then.
    fn poll_at(&mut self, time: Duration) {
        match self {
            Self::Rig(rig) => {
                rig.world_step(time);
                rig.poll();
            }
            Self::KeepAlive(kept) => {
                kept.idle_until(time);
                // What comes is a verdict.
                kept.read_once();
            }
        }
    }

    fn yield_at(&self, polls: impl Fn(usize) -> bool + Send + 'static) {
        match self {
            Self::Rig(rig) => rig.sink.yield_at(polls),
            Self::KeepAlive(kept) => kept.script.yield_at(polls),
        }
    }

    /// The sink takes nothing, or does not flush.
    fn block(&self, at: At) {
        match (self, at) {
            (Self::Rig(rig), At::Ready) => rig.sink.block(),
            (Self::Rig(rig), At::Flush) => rig.sink.block_flush(),
            (Self::KeepAlive(kept), At::Ready) => kept.script.block(),
            (Self::KeepAlive(kept), At::Flush) => kept.script.block_flush(),
        }
    }

    fn unblock(&self) {
        match self {
            Self::Rig(rig) => {
                rig.sink.unblock();
                rig.sink.unblock_flush();
            }
            Self::KeepAlive(kept) => kept.script.unblock_quietly(),
        }
    }

    fn answer_after(&self, rtt: Duration) {
        match self {
            Self::Rig(rig) => rig.answer_after(rtt),
            Self::KeepAlive(kept) => kept.answer_after(rtt),
        }
    }

    fn pings(&self) -> Vec<Duration> {
        match self {
            Self::Rig(rig) => rig.sink.pings(),
            Self::KeepAlive(kept) => kept.script.pings(),
        }
    }

    fn write_blocked(&self) -> Duration {
        match self {
            Self::Rig(rig) => rig.stats().write_blocked(),
            Self::KeepAlive(kept) => kept.stats().write_blocked(),
        }
    }

    #[track_caller]
    fn assert_alive(&self) {
        match self {
            Self::Rig(rig) => rig.assert_alive(),
            Self::KeepAlive(kept) => kept.assert_alive(),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Self::Rig(rig) => rig.outcome().is_some(),
            Self::KeepAlive(kept) => !kept.read.is_empty(),
        }
    }

    /// When the verdict of phase Write fell.
    #[track_caller]
    fn verdict(&self) -> Duration {
        let (at, verdict) = match self {
            Self::Rig(rig) => rig.verdict(),
            Self::KeepAlive(kept) => kept.verdict(),
        };
        assert_eq!(verdict.phase(), TimeoutPhase::Write);
        at
    }
}

/// The poll at which the sink yields, counted from the first for a ping.
fn nth(at: At) -> usize {
    match at {
        At::Ready => 0,
        At::Flush => 1,
    }
}

// contract: Q108
#[test]
fn a_sink_that_yields_at_any_operation_changes_no_frame() {
    for length in [0, 1, 3, 63] {
        for from in 0..20 {
            Heart::each(|mut heart| {
                heart.answer_after(ms(70));
                heart.yield_at(move |poll| (from..from + length).contains(&poll));
                heart.run_until(s(201));
                heart.assert_alive();
                let pings: Vec<_> = (1..=10).map(|n| s(20) * n).collect();
                assert_eq!(heart.pings(), pings, "{length} from {from} on");
                assert_eq!(heart.write_blocked(), Duration::ZERO);
            });
        }
    }
}

// contract: Q108
#[test]
fn the_write_timeout_begins_with_the_first_answer_that_is_no_yield() {
    Heart::each_at(|mut heart, at| {
        let from = nth(at);
        heart.yield_at(move |poll| (from..from + 2).contains(&poll));
        heart.block(at);
        heart.poll_at(s(0));
        heart.poll_at(s(20));
        heart.poll_at(s(40));
        heart.assert_alive();
        assert_eq!(heart.pings().len(), nth(at));
        // Here the sink says `Pending` for itself.
        heart.poll_at(s(60));
        heart.run_until(s(67) - ms(1));
        heart.assert_alive();
        heart.run_until(s(100));
        assert_eq!(heart.verdict(), s(67), "{at:?}");
        assert_eq!(heart.write_blocked(), s(7));
    });
}

// contract: Q108
#[test]
fn a_ping_that_is_taken_after_yields_has_been_blocked_by_nobody() {
    Heart::each_at(|mut heart, at| {
        let from = nth(at);
        heart.answer_after(ms(70));
        heart.yield_at(move |poll| (from..from + 2).contains(&poll));
        heart.poll_at(s(0));
        heart.poll_at(s(20));
        heart.poll_at(s(40));
        heart.run_until(s(50));
        heart.assert_alive();
        match at {
            At::Ready => assert_eq!(heart.pings(), [s(40)]),
            At::Flush => assert_eq!(heart.pings(), [s(20), s(40) + ms(70)]),
        }
        assert_eq!(heart.write_blocked(), Duration::ZERO);
    });
}

// contract: Q108
#[test]
fn a_yield_neither_ends_a_write_timeout_that_runs_nor_is_judged() {
    Heart::each_at(|mut heart, at| {
        heart.block(at);
        heart.poll_at(s(0));
        heart.run_until(s(26));
        heart.yield_at(|poll| poll < 1);
        heart.run_until(s(27) - ms(1));
        heart.assert_alive();
        heart.run_until(s(27));
        assert_eq!(heart.verdict(), s(27), "{at:?}");
    });
    Heart::each_at(|mut heart, at| {
        heart.block(at);
        heart.poll_at(s(0));
        heart.run_until(s(27) - ms(1));
        heart.yield_at(|poll| poll < 1);
        heart.poll_at(s(27));
        heart.assert_alive();
        heart.unblock();
        heart.answer_after(ms(70));
        heart.run_until(s(36));
        heart.assert_alive();
        assert_eq!(heart.pings().len(), 1);
    });
}

// contract: Q108
#[test]
fn a_sink_that_yields_for_ever_is_found_at_the_write_timeout_after_64_polls() {
    for step in [ms(100), ms(500)] {
        // The time that it has begins with the 64th poll.
        let found = s(20) + step * 63 + s(7);
        Heart::each_at(|mut heart, at| {
            let from = nth(at);
            heart.yield_at(move |poll| poll >= from);
            heart.poll_at(s(0));
            let mut now = s(20);
            while now < found {
                heart.poll_at(now);
                heart.assert_alive();
                now += step;
            }
            // With the grace a look that comes late puts the verdict off by as much as that.
            let mut rest = 0;
            while !heart.has_ended() {
                heart.poll_at(now);
                now += step;
                rest += 1;
            }
            let graces = s(7).as_millis() / step.as_millis();
            assert!(rest <= 2 + graces, "{at:?} {step:?}");
            assert!(heart.verdict() >= found);
        });
    }
}

/// What a task of tokio may do in one poll, shared by all that it holds.
#[derive(Clone, Default)]
struct Budget(Rc<Cell<usize>>);

const BUDGET: usize = 128;

impl Budget {
    /// Takes one, or yields.
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.set(self.0.get() - 1);
        Poll::Ready(())
    }

    /// Gives it anew, but for `spent` of it.
    fn renew(&self, spent: usize) {
        self.0.set(BUDGET - spent);
    }
}

/// A part of a task with a budget.
struct Budgeted<T> {
    part: T,
    budget: Budget,
    /// Of the sink: how often it has yielded.
    yields: Rc<Cell<usize>>,
}

impl<M, T: Sink<M> + Unpin> Sink<M> for Budgeted<T> {
    type Error = T::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        if self.budget.poll(cx).is_pending() {
            self.yields.set(self.yields.get() + 1);
            return Poll::Pending;
        }
        self.part.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: M) -> Result<(), T::Error> {
        self.part.start_send_unpin(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.part.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.part.poll_close_unpin(cx)
    }
}

impl<T: Stream + Unpin> Stream for Budgeted<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        if self.budget.poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.part.poll_next_unpin(cx)
    }
}

/// Polls `work` with a budget, of which other things have spent some.
struct Within<F> {
    work: F,
    budget: Budget,
    spent: usize,
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.budget.renew(self.spent);
        Pin::new(&mut self.work).poll(cx)
    }
}

type Set = PingerSet<Budgeted<ScriptedSink>, (), ManualTimer>;

/// A set, which yields nothing.
struct Quiet(Set);

impl Future for Quiet {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(end) = self.0.poll_next_unpin(cx) {
            panic!("{end:?}");
        }
        Poll::Pending
    }
}

// contract: Q108
#[test]
fn a_set_ends_its_poll_with_the_first_yield_and_asks_that_sink_first_in_the_next() {
    let world = World::new();
    let budget = Budget::default();
    let set = PingerSet::new(build(exact())).with_timer(world.timer());
    let mut sinks = Vec::new();
    for _ in 0..1000 {
        let (part, script) = world.sink();
        let yields = Rc::new(Cell::new(0));
        let sink = Budgeted {
            part,
            budget: budget.clone(),
            yields: Rc::clone(&yields),
        };
        sinks.push((script, yields, set.insert(sink)));
    }
    let mut task = world.task(Within {
        work: Quiet(set),
        budget,
        spent: 0,
    });
    task.poll();
    while world.step(s(20)) {}
    let (mut before, mut sent) = (None, 0);
    while sent < 1000 {
        task.poll();
        let yielded: Vec<_> = (0..1000).filter(|&n| sinks[n].1.take() > 0).collect();
        let pings = |n: usize| sinks[n].0.pings().len();
        let now: usize = (0..1000).map(pings).sum();
        assert_eq!(now - sent, BUDGET.min(1000 - sent), "the budget is used up");
        sent = now;
        if let Some(first) = before {
            assert_eq!(pings(first), 1, "it was asked first");
        }
        assert_eq!(yielded.len(), usize::from(sent < 1000), "the set went on");
        before = yielded.first().copied();
        // Another task computes.
        world.step(world.elapsed() + ms(200));
    }
    for (script, ..) in &sinks {
        let payload = script.payload(0);
        sinks.iter().for_each(|(_, _, member)| {
            member.handle_pong(&payload);
        });
    }
    task.run_until(s(25));
}

/// A socket that shares the budget of its task, and the application that reads all there is.
type Firehose = KeepAlive<Budgeted<ScriptedSocket<Msg>>, Plain, ManualTimer>;

struct Reads(Firehose);

impl Future for Reads {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(message) = self.0.poll_next_unpin(cx) {
            message.expect("no end").expect("no error");
        }
        Poll::Pending
    }
}

// contract: Q108
#[test]
fn a_socket_whose_messages_use_up_the_budget_is_asked_before_they_are_read() {
    let world = World::new();
    let (part, script) = world.socket(Plain);
    let budget = Budget::default();
    let socket = Budgeted {
        part,
        budget: budget.clone(),
        yields: Rc::default(),
    };
    let keep_alive =
        KeepAlive::with_protocol(socket, Plain, build(exact())).with_timer(world.timer());
    let mut task: Task<_> = world.task(Within {
        work: Reads(keep_alive),
        budget,
        spent: 0,
    });
    script.peer().answer_after(ms(70));
    script.flood(|| Msg::Data(0));
    for tenth in 0..2000 {
        while world.step(ms(100) * tenth) {}
        task.poll();
    }
    let pings = script.pings();
    assert_eq!(pings.len(), 9);
    for (n, ping) in (1..).zip(&pings) {
        assert!(*ping <= s(20) * n + ms(100), "{ping:?}");
    }
}

// contract: Q108
#[test]
fn a_sink_that_has_yielded_is_asked_before_strays_use_up_the_budget_again() {
    let world = World::new();
    let budget = Budget::default();
    let (part, sink) = world.sink();
    let (strays, script) = world.pongs();
    let pinger = Pinger::new(
        Budgeted {
            part,
            budget: budget.clone(),
            yields: Rc::default(),
        },
        Budgeted {
            part: strays,
            budget: budget.clone(),
            yields: Rc::default(),
        },
        build(exact()),
    );
    sink.peer({
        let script = script.clone();
        move |payload| script.push(payload)
    })
    .answer_after(ms(70));
    script.flood();
    let mut task = world.task(Within {
        work: Box::pin(pinger.with_timer(world.timer())),
        budget,
        // Something else in the same task.
        spent: BUDGET - 32,
    });
    for tenth in 0..2000 {
        while world.step(ms(100) * tenth) {}
        task.poll();
    }
    assert!(!task.is_finished());
    assert_eq!(sink.pings().len(), 9, "{:?}", sink.pings());
}

// tokio wakes a task that has had its share only after the poll, so that nothing shows it within.
// contract: I60 Q108
#[tokio::test(start_paused = true)]
async fn over_tokio_the_end_of_a_share_is_not_the_end_of_the_input() {
    const MESSAGES: usize = 300;
    let (ours, theirs) = tokio::io::duplex(16 << 20);
    // Each message takes a read of its own, and more than one share of them are there.
    let small = WebSocketConfig::default().read_buffer_size(4096);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Server, Some(small)).await;
    let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let config = exact().timeout(s(10)).stall_grace(false);
    let config = config.build().expect("valid");
    let mut socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
    let controller = socket.controller();
    let pinged = tokio::time::timeout(s(21), socket.next()).await;
    assert!(pinged.is_err(), "nothing was sent");
    for _ in 0..MESSAGES {
        let message = Message::binary(vec![0; 5000]);
        peer.send(message).await.expect("there is room");
    }
    assert!(matches!(peer.next().await, Some(Ok(Message::Ping(_)))));
    peer.flush().await.expect("there is room");
    // The application does something else until the deadline has passed.
    tokio::time::sleep(s(15)).await;
    for _ in 0..MESSAGES {
        let message = socket.next().await.expect("a message");
        message.expect("the pong lies behind the messages");
    }
    let quiet = tokio::time::timeout(ms(1), socket.next()).await;
    assert!(quiet.is_err());
    assert_eq!(controller.stats().answered(), 1);
}

// The pong lies in the socket.
// contract: Q108
#[tokio::test(start_paused = true)]
async fn over_tokio_a_share_that_was_spent_on_something_else_condemns_nobody() {
    let (ours, theirs) = tokio::io::duplex(16 << 20);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
    let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let config = exact().timeout(s(10)).stall_grace(false);
    let config = config.build().expect("valid");
    let mut socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
    let controller = socket.controller();
    let pinged = tokio::time::timeout(s(21), socket.next()).await;
    assert!(pinged.is_err(), "nothing was sent");
    assert!(matches!(peer.next().await, Some(Ok(Message::Ping(_)))));
    peer.flush().await.expect("there is room");
    tokio::time::sleep(s(15)).await;
    // The application does in one poll what its share allows, and reads then.
    let mut is_first = true;
    let read = poll_fn(|cx| {
        while is_first && pin!(consume_budget()).poll(cx).is_ready() {}
        is_first = false;
        socket.poll_next_unpin(cx)
    });
    let quiet = tokio::time::timeout(ms(1), read).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(controller.stats().answered(), 1);
}
