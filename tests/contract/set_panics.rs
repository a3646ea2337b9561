//! Q. Sinks of a [`PingerSet`] that panic.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::{Sink, SinkExt, StreamExt};
use futures_pinger::testing::Task;
use futures_pinger::{
    CloseReason, Closed, ConfigBuilder, Departure, End, Error, Frame, HeartbeatState, Member,
    MemberId, PingerSet, PingerSetHandle, TimeoutPhase,
};

use crate::world::{Broken, Fault, ManualTimer, ScriptedSink, SinkScript, World, exact, s};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Ready,
    Send,
    Flush,
    Drop,
}

/// What a panic of ours says.
struct OnPurpose;

/// A sink that panics in one kind of call, the first time after so many of that kind.
struct Panicking {
    inner: ScriptedSink,
    on: Option<(Call, usize)>,
    has_panicked: bool,
    /// Calls after the panic: there must be none.
    after: Arc<Mutex<Vec<Call>>>,
}

impl Panicking {
    fn called(&mut self, call: Call) {
        if self.has_panicked && call != Call::Drop {
            self.after.lock().expect("never poisoned").push(call);
        }
        match &mut self.on {
            Some((on, left)) if *on == call && *left == 0 && !self.has_panicked => {
                self.has_panicked = true;
                panic_any(OnPurpose);
            }
            Some((on, left)) if *on == call => *left = left.saturating_sub(1),
            _ => {}
        }
    }
}

impl Sink<Frame> for Panicking {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.called(Call::Ready);
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Broken> {
        self.called(Call::Send);
        Pin::new(&mut self.inner).start_send(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.called(Call::Flush);
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        unreachable!("the connection is not the set's to close")
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.called(Call::Drop);
    }
}

#[derive(Default)]
struct Seen {
    ends: BTreeMap<MemberId, (Duration, Departure<&'static str, Broken>)>,
    panics: Vec<Duration>,
}

/// Polls the set on after each panic.
struct Driver {
    world: World,
    set: PingerSet<Panicking, &'static str, ManualTimer>,
    seen: Arc<Mutex<Seen>>,
}

impl Future for Driver {
    type Output = Infallible;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Infallible> {
        let now = self.world.elapsed();
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| self.set.poll_next_unpin(cx)));
            let mut seen = self.seen.lock().expect("never poisoned");
            match polled {
                Ok(Poll::Ready(departure)) => {
                    let departure = departure.expect("a set never ends");
                    let before = seen.ends.insert(departure.id, (now, departure));
                    assert!(before.is_none(), "each once");
                }
                Ok(Poll::Pending) => return Poll::Pending,
                Err(panic) => {
                    assert!(panic.is::<OnPurpose>(), "no panic but ours");
                    seen.panics.push(now);
                }
            }
        }
    }
}

struct Rig {
    world: World,
    handle: PingerSetHandle<Panicking, &'static str>,
    task: Task<Driver>,
    seen: Arc<Mutex<Seen>>,
    after: Arc<Mutex<Vec<Call>>>,
}

impl Rig {
    fn new(config: ConfigBuilder) -> Self {
        let world = World::new();
        let set = PingerSet::new(config.build().expect("valid")).with_timer(world.timer());
        let handle = set.handle();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = world.task(Driver {
            world: world.clone(),
            set,
            seen: Arc::clone(&seen),
        });
        Self {
            world,
            handle,
            task,
            seen,
            after: Arc::default(),
        }
    }

    fn join(&self, on: Option<(Call, usize)>) -> (Member, SinkScript) {
        let (inner, script) = self.world.sink();
        let sink = Panicking {
            inner,
            on,
            has_panicked: false,
            after: Arc::clone(&self.after),
        };
        let inserted = self.handle.insert_keyed("somebody", sink);
        (inserted.ok().expect("the set is there"), script)
    }
}

// contract: Q115
#[test]
fn a_sink_that_panics_ends_its_own_member_and_all_others_keep_their_deadlines() {
    for call in [Call::Ready, Call::Send, Call::Flush] {
        // Of those that come late in a poll a `Pending` is not trusted, and they are asked first in the next.
        for (victim, before, blocks) in
            [(70, 0, false), (70, 1, false), (70, 1, true), (3, 1, true)]
        {
            if blocks && call == Call::Send {
                continue;
            }
            let mut rig = Rig::new(exact().timeout(s(30)).max_missed(2).no_close());
            let members: Vec<_> = (0..200)
                .map(|n| rig.join((n == victim).then_some((call, before))))
                .collect();
            if blocks {
                // The panic comes when the sink is woken, or at the deadline.
                match call {
                    Call::Ready => members[victim].1.block(),
                    _ => members[victim].1.block_flush(),
                }
                let script = members[victim].1.clone();
                rig.world.at(s(25), move || {
                    script.unblock();
                    script.unblock_flush();
                });
            }
            rig.task.run_until(s(200));
            let seen = rig.seen.lock().expect("never poisoned");
            assert_eq!(seen.panics.len(), 1, "{call:?} {before}");
            assert_eq!(*rig.after.lock().expect("never poisoned"), [], "{call:?}");
            assert_eq!(seen.ends.len(), 199, "{call:?} {before}");
            for (n, (member, script)) in members.iter().enumerate() {
                if n == victim {
                    let now = rig.world.instant(rig.world.elapsed());
                    assert_eq!(member.stats().state_at(now), HeartbeatState::Gone);
                    assert_eq!(rig.handle.stats(member.id()).map(drop), Err(Closed));
                } else {
                    let (at, departure) = &seen.ends[&member.id()];
                    assert_eq!((*at, script.pings()), (s(80), [20, 50].map(s).to_vec()));
                    let End::Failed(Error::Timeout(verdict)) = &departure.end else {
                        panic!("{departure:?}");
                    };
                    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
                    assert!(verdict.lateness().is_zero());
                }
            }
            drop(seen);
            assert_eq!(rig.handle.len(), 0);
            drop(members);
            rig.task.poll();
        }
    }
}

// contract: Q115
#[test]
fn a_sink_that_panics_in_its_drop_loses_no_departure() {
    let mut rig = Rig::new(exact().timeout(s(5)).close_timeout(s(3)));
    let panics = Some((Call::Drop, 0));
    let dead: Vec<_> = (0..5).map(|_| rig.join(panics).0).collect();
    let (broken, script) = rig.join(panics);
    script.fail(Fault::Ready);
    let (asked, _) = rig.join(panics);
    let (left, _) = rig.join(panics);
    let (_other, calm) = rig.join(None);
    rig.task.run_until(s(10));
    let reason = CloseReason::new(1001, "going down").expect("it may be sent");
    assert_eq!(rig.handle.close(asked.id(), reason), Ok(()));
    rig.task.run_until(s(11));
    drop(left);
    rig.task.run_until(s(30));

    let seen = rig.seen.lock().expect("never poisoned");
    let end = |member: &Member| {
        let (at, departure) = &seen.ends[&member.id()];
        assert_eq!(departure.key, "somebody");
        (*at, departure.end.clone())
    };
    assert_eq!(end(&asked), (s(10), End::Closed));
    assert_eq!(end(&broken), (s(20), End::Failed(Error::Transport(Broken))));
    for member in &dead {
        let (at, end) = end(member);
        assert_eq!(at, s(25));
        assert!(matches!(end, End::Failed(Error::Timeout(_))), "{end:?}");
    }
    let mut panics = seen.panics.clone();
    panics.sort();
    assert_eq!(
        panics,
        [10, 11, 20, 25, 25, 25, 25, 25].map(s),
        "all are seen"
    );
    assert_eq!(calm.pings(), [s(20)]);
}

/// Drives a set when it is dropped.
struct DrivesInDrop<'a>(&'a mut Rig, Duration);

impl Drop for DrivesInDrop<'_> {
    fn drop(&mut self) {
        // A second panic would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.task.run_until(self.1)));
    }
}

// contract: Q115
#[test]
fn a_set_that_is_polled_while_its_thread_unwinds_loses_no_member() {
    let mut rig = Rig::new(exact());
    let members: Vec<_> = (0..10).map(|_| rig.join(None)).collect();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _drives = DrivesInDrop(&mut rig, s(20));
        panic_any(OnPurpose);
    }));
    assert!(unwound.is_err());
    assert_eq!(rig.handle.len(), 10);
    rig.task.run_until(s(39));
    for (member, script) in &members {
        assert_eq!(script.pings(), [s(20)]);
        assert_eq!(member.stats().sent(), 1);
    }
}

// contract: Q115
#[test]
fn a_sink_that_panics_over_its_close_frame_ends_its_member_once() {
    for asked in [true, false] {
        let mut rig = Rig::new(exact().timeout(s(5)));
        // The close frame of a verdict comes after a ping.
        let (victim, _) = rig.join(Some((Call::Send, usize::from(!asked))));
        let (other, _) = rig.join(None);
        rig.task.run_until(s(1));
        if asked {
            let reason = CloseReason::new(1001, "going down").expect("it may be sent");
            assert_eq!(rig.handle.close(victim.id(), reason), Ok(()));
            rig.task.run_until(s(2));
            assert_eq!(rig.handle.len(), 1);
        }
        // It is looked at again when its ping would have been due.
        rig.task.run_until(s(100));
        let seen = rig.seen.lock().expect("never poisoned");
        assert_eq!(seen.panics, [if asked { s(1) } else { s(25) }]);
        let ends: Vec<_> = seen.ends.keys().copied().collect();
        assert_eq!(ends, [other.id()], "{asked}");
        assert_eq!(rig.handle.len(), 0);
        assert_eq!(rig.handle.stats(victim.id()).map(drop), Err(Closed));
    }
}

// contract: Q112 R123
#[test]
fn a_task_that_panics_when_it_is_woken_keeps_nobody_from_being_closed() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic_any(OnPurpose);
        }
    }

    let world = World::new();
    let config = exact().build().expect("valid");
    let mut set = PingerSet::new(config).with_timer(world.timer());
    let handle = set.handle();
    let (sinks, scripts): (Vec<_>, Vec<_>) = (0..200).map(|_| world.sink()).unzip();
    let _members: Vec<_> = sinks.into_iter().map(|sink| set.insert(sink)).collect();
    let panics = Waker::from(Arc::new(Panics));
    let noop = futures::task::noop_waker();
    for waker in [&noop, &noop, &noop, &panics] {
        let polled = set.poll_next_unpin(&mut Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    let reason = CloseReason::new(1001, "going down").expect("it may be sent");
    let closed = catch_unwind(AssertUnwindSafe(|| handle.close_all(reason)));
    assert!(closed.is_err(), "the panic is the waker's");
    let mut task = world.task(set.for_each(|_| std::future::ready(())));
    task.run_until(s(1));
    assert_eq!(handle.len(), 0);
    assert!(scripts.iter().all(|script| script.closes().len() == 1));
}

/// An error that takes the member along when it is dropped.
struct Parting(Arc<Mutex<Option<Member>>>);

impl Drop for Parting {
    fn drop(&mut self) {
        drop(self.0.lock().expect("never poisoned").take());
    }
}

/// A sink with such errors.
struct PartingSink {
    inner: ScriptedSink,
    member: Arc<Mutex<Option<Member>>>,
}

impl PartingSink {
    fn error(&self) -> impl Fn(Broken) -> Parting + use<> {
        let member = Arc::clone(&self.member);
        move |Broken| Parting(Arc::clone(&member))
    }
}

impl Sink<Frame> for PartingSink {
    type Error = Parting;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Parting>> {
        let error = self.error();
        self.inner.poll_ready_unpin(cx).map_err(error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Parting> {
        let error = self.error();
        self.inner.start_send_unpin(frame).map_err(error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Parting>> {
        let error = self.error();
        self.inner.poll_flush_unpin(cx).map_err(error)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Parting>> {
        unreachable!("the connection is not the set's to close")
    }
}

// contract: Q118 R123
#[test]
fn who_leaves_while_the_error_of_its_sink_is_dropped_is_not_counted_any_more() {
    for closes in [true, false] {
        let world = World::new();
        let config = exact().build().expect("valid");
        let set = PingerSet::new(config).with_timer(world.timer());
        let handle = set.handle();
        let (inner, script) = world.sink();
        let slot = Arc::default();
        let sink = PartingSink {
            inner,
            member: Arc::clone(&slot),
        };
        let member = set.insert(sink);
        let id = member.id();
        *slot.lock().expect("never poisoned") = Some(member);
        let mut task = world.task(set.for_each(|_| std::future::ready(())));
        task.run_until(s(1));
        script.fail(Fault::Ready);
        if closes {
            // What the heartbeat ends with stands by then, and the error is nobody's.
            let reason = CloseReason::new(1001, "going down").expect("it may be sent");
            assert_eq!(handle.close(id, reason), Ok(()));
        }
        task.run_until(s(30));
        assert!(slot.lock().expect("never poisoned").is_none());
        assert_eq!(handle.len(), 0, "closing: {closes}");
    }
}
