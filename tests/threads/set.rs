//! A set whose members come, answer and leave on threads of their own.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::{
    CloseReason, End, Error, Frame, HeartbeatState, Member, PingerSet, PingerSetHandle, PongKind,
    ProbeError,
};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::parts::{Count, Hand, Still, Task, block_on};
use crate::rounds::{Queue, at_once, build, check, join_all};

/// A sink that takes a frame once another thread has made room for one, and counts its drop.
struct Gate {
    door: Door,
    pings: Queue<Bytes>,
    drops: Count,
}

/// The room in a [`Gate`], and who waits for it.
#[derive(Clone)]
struct Door(Arc<Mutex<(usize, Option<Waker>)>>);

impl Door {
    fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new((room, None))))
    }

    fn open(&self) {
        let waker = {
            let (room, waker) = &mut *self.0.lock().expect("no panic");
            *room += 1;
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Sink<Frame> for Gate {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let (room, waker) = &mut *self.door.0.lock().expect("no panic");
        if *room > 0 {
            return Poll::Ready(Ok(()));
        }
        *waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), ()> {
        self.door.0.lock().expect("no panic").0 -= 1;
        if let Frame::Ping(payload) = frame {
            self.pings.push(payload);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.drops.add();
        self.pings.close();
    }
}

/// What the threads of the members share.
#[derive(Clone)]
struct Members {
    handle: PingerSetHandle<Gate>,
    /// How many answers were taken as such.
    matched: Count,
    /// How many sinks were dropped.
    drops: Count,
}

impl Members {
    fn of<T>(set: &PingerSet<Gate, (), T>) -> Self {
        Self {
            handle: set.handle(),
            matched: Count::new(),
            drops: Count::new(),
        }
    }

    /// Calls `go` on a thread of its own.
    fn spawn(&self, go: fn(&Self)) -> thread::JoinHandle<()> {
        let members = self.clone();
        thread::spawn(move || go(&members))
    }

    /// A member, the door of its sink, and the pings that it is sent. `None` if the set is gone.
    fn join(&self, room: usize) -> Option<(Member, Door, Queue<Bytes>)> {
        let (door, pings) = (Door::new(room), Queue::new());
        let gate = Gate {
            door: door.clone(),
            pings: pings.clone(),
            drops: self.drops.clone(),
        };
        let member = self.handle.insert(gate).ok()?;
        Some((member, door, pings))
    }

    fn answer(&self, member: &Member, ping: &[u8]) {
        match member.handle_pong(ping) {
            PongKind::Matched { .. } => self.matched.add(),
            // The next ping is out before the pong of this one is in.
            PongKind::Stale => {}
            // The heartbeat has ended.
            kind => assert_eq!(kind, PongKind::Unsolicited),
        }
    }

    /// Comes, answers the first ping and one that is asked for, and leaves; twice, as a seat is used again.
    fn come_and_go(&self) {
        for _ in 0..2 {
            let (member, _, pings) = self.join(usize::MAX).expect("the set is there");
            let ping = pings.pop().expect("nobody else ends it");
            self.answer(&member, &ping);
            self.handle.ping_now(member.id()).expect("it is there");
            let ping = pings.pop().expect("nobody else ends it");
            self.answer(&member, &ping);
        }
    }

    /// Comes with a sink that takes one ping each time another thread lets it, answers two, and leaves.
    fn come_blocked(&self) {
        let (member, door, pings) = self.join(0).expect("the set is there");
        let opening = thread::spawn(move || {
            door.open();
            door.open();
        });
        for _ in 0..2 {
            let ping = pings.pop().expect("nobody else ends it");
            self.answer(&member, &ping);
            self.handle.ping_now(member.id()).expect("it is there");
        }
        opening.join().expect("no panic");
    }

    /// Comes, is probed while another thread answers, and leaves. Returns what the probe has told.
    fn come_probed(&self) -> Option<Result<Duration, ProbeError>> {
        let (member, _, pings) = self.join(usize::MAX)?;
        let probe = self.handle.probe(member.id(), Duration::MAX);
        let answering = {
            let (members, pings) = (self.clone(), pings.clone());
            thread::spawn(move || {
                while let Some(ping) = pings.pop() {
                    members.answer(&member, &ping);
                }
            })
        };
        let probed = block_on(probe);
        pings.close();
        answering.join().expect("no panic");
        Some(probed)
    }

    /// Comes, and answers until its sink is dropped.
    fn come_and_stay(&self) {
        let Some((member, _, pings)) = self.join(usize::MAX) else {
            return;
        };
        while let Some(ping) = pings.pop() {
            self.answer(&member, &ping);
        }
        assert!(self.handle.ping_now(member.id()).is_err());
    }
}

/// Nine threads: the set, one that comes and goes, two whose sinks are blocked and two that let them go on, one that
/// is probed and one that answers for it, and the timer with the orders.
#[test]
fn a_set_hears_of_all_members_at_once() {
    check(|| {
        let hand = Hand::new();
        let config = build(at_once().no_timeout());
        let set = PingerSet::new(config).with_timer(hand.timer());
        let members = Members::of(&set);
        let threads = [
            members.spawn(Members::come_and_go),
            members.spawn(Members::come_blocked),
            members.spawn(Members::come_blocked),
            members.spawn(|members| {
                let probed = members.come_probed().expect("the set is there");
                assert!(probed.is_ok());
            }),
        ];
        let steering = {
            let handle = members.handle.clone();
            thread::spawn(move || {
                hand.fire();
                let shorter = at_once().no_timeout().interval(Duration::from_secs(5));
                handle.set_config(build(shorter)).expect("it is there");
                hand.fire();
                assert!(handle.totals().answered() <= handle.totals().sent());
                hand.fire();
            })
        };
        let mut set = pin!(set);
        Task::new().run(|cx| {
            assert!(set.as_mut().poll_next(cx).is_pending());
            let done = members.drops.get() == 5 && set.is_empty();
            if done { Poll::Ready(()) } else { Poll::Pending }
        });
        join_all(threads);
        steering.join().expect("no panic");
        let totals = members.handle.totals();
        assert_eq!(totals.answered(), members.matched.get() as u64);
        for state in [HeartbeatState::Idle, HeartbeatState::Waiting] {
            assert_eq!(totals.members(state), 0);
        }
    });
}

/// Nine threads: the set, which judges, two that come, answer and stay until they are closed or found dead, two that
/// are probed meanwhile and two that answer for them, the timer, and the orders to close all that are there.
#[test]
fn a_set_departs_with_all_that_are_closed_at_once() {
    check(|| {
        let hand = Hand::new();
        let config = build(at_once().timeout(Duration::from_secs(5)));
        let set = PingerSet::new(config).with_timer(hand.timer());
        let members = Members::of(&set);
        let staying = [(), ()].map(|()| members.spawn(Members::come_and_stay));
        let probing = [(), ()].map(|()| {
            members.spawn(|members| {
                let probed = members.come_probed().expect("the set is there");
                let ended = [Err(ProbeError::Closing), Err(ProbeError::Ended)];
                assert!(probed.is_ok() || ended.contains(&probed));
            })
        });
        let clock = thread::spawn(move || {
            for _ in 0..3 {
                hand.fire();
            }
        });
        let closing = {
            let members = members.clone();
            thread::spawn(move || {
                let reason = CloseReason::new(1001, "done").expect("a valid code");
                members.handle.close_all(reason.clone());
                join_all(probing);
                // Until those that stay are gone, too.
                while members.drops.get() < 4 {
                    members.handle.close_all(reason.clone());
                    thread::yield_now();
                }
            })
        };
        let mut set = pin!(set);
        Task::new().run(|cx| {
            while let Poll::Ready(departure) = set.as_mut().poll_next(cx) {
                let end = departure.expect("a set never ends").end;
                assert!(matches!(end, End::Closed | End::Failed(Error::Timeout(_))));
            }
            let done = members.drops.get() == 4 && set.is_empty();
            if done { Poll::Ready(()) } else { Poll::Pending }
        });
        join_all(staying);
        join_all([clock, closing]);
    });
}

/// Five threads: the set, which is dropped, two that come and stay meanwhile, one that is probed, and one that answers
/// for it. Nobody waits for ever, and each sink is dropped.
#[test]
fn a_set_that_is_dropped_leaves_nobody_waiting() {
    check(|| {
        let set = PingerSet::new(build(at_once().no_timeout())).with_timer(Still);
        let members = Members::of(&set);
        let threads = [
            members.spawn(Members::come_and_stay),
            members.spawn(Members::come_and_stay),
            members.spawn(|members| {
                let probed = members.come_probed();
                assert!(matches!(
                    probed,
                    None | Some(Ok(_) | Err(ProbeError::Ended))
                ));
            }),
        ];
        {
            let mut set = pin!(set);
            for _ in 0..2 {
                let polled = Task::new().poll(|cx| set.as_mut().poll_next(cx));
                assert!(polled.is_pending());
                thread::yield_now();
            }
        }
        join_all(threads);
        assert_eq!(members.drops.get(), 3);
    });
}
