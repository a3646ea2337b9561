//! R. What foreign code may do while it is called: look, give orders, panic, and tell times out of order.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Wake, Waker};

use futures_pinger::{
    Clock, Controller, Error, Frame, HeartbeatState, PongKind, TimeoutPhase, pinger,
};

use crate::bare::Bare;
use crate::dial::each_dialled;
use crate::every_surface::{counters, trusting};
use crate::hooks::{Boom, Foreign, Handles, KINDS, Kind, PARTS, Part, without_hanging};
use crate::world::{Path, Rig, World, exact, ms, s};

/// Lives for 100 s with a peer that answers, and is then judged.
fn live_and_die(foreign: &mut Foreign, what: &str) {
    foreign.run_until(s(100));
    assert!(foreign.ended.is_none(), "{what}: {:?}", foreign.ended);
    assert!((foreign.stats)().answered() >= 5, "{what}");
    foreign.silent.store(true, Ordering::Relaxed);
    foreign.run_until(s(300));
    match foreign.ended {
        Some(Some(Error::Timeout(_))) => {}
        Some(None) if foreign.panics > 0 => {}
        ref other => panic!("{what}: {other:?}"),
    }
}

// contract: R123
#[test]
fn foreign_code_may_look_at_any_handle_from_any_hook() {
    for kind in KINDS {
        for part in PARTS {
            let what = format!("{part:?} of {kind:?}");
            let name = what.clone();
            without_hanging(&what, move || {
                let mut foreign = Foreign::new(kind);
                let handles = foreign.handles.clone();
                foreign.hooks.of(part).set(move |_| handles.look());
                live_and_die(&mut foreign, &name);
                assert!(foreign.hooks.of(part).calls() > 3, "{name}");
            });
        }
    }
}

// contract: R123
#[test]
fn foreign_code_may_give_orders_from_any_hook() {
    for kind in KINDS {
        for part in PARTS {
            let what = format!("{part:?} of {kind:?}");
            let name = what.clone();
            without_hanging(&what, move || {
                let mut foreign = Foreign::new(kind);
                let handles = foreign.handles.clone();
                // A few, as each order may lead to the next, and writes off the ping that is out.
                foreign.hooks.of(part).set(move |call| {
                    if call < 20 {
                        handles.order();
                    }
                });
                foreign.run_until(s(100));
                assert!(foreign.ended.is_none(), "{name}: {:?}", foreign.ended);
                foreign.silent.store(true, Ordering::Relaxed);
                foreign.run_until(s(1000));
                assert!(foreign.ended.is_some(), "{name}");
            });
        }
    }
}

// contract: R123
#[test]
fn foreign_code_may_panic_in_any_call_and_nothing_is_poisoned() {
    for kind in KINDS {
        for part in PARTS {
            let what = format!("{part:?} of {kind:?}");
            let name = what.clone();
            without_hanging(&what, move || {
                for panics_at in 0.. {
                    let what = format!("{name}, call {panics_at}");
                    let mut foreign = Foreign::new(kind);
                    foreign.hooks.of(part).set(move |call| {
                        if call == panics_at {
                            resume_unwind(Box::new(Boom));
                        }
                    });
                    let loses = match part {
                        // A frame may be lost with a sink that panics, ...
                        Part::Sink => true,
                        // ... and a pong that a socket has given away when the time is asked.
                        Part::Clock | Part::Timer => kind == Kind::KeepAlive,
                        Part::Wake | Part::Drop => false,
                    };
                    if loses {
                        // How such a heartbeat ends is not said, but it does.
                        foreign.run_until(s(100));
                        foreign.silent.store(true, Ordering::Relaxed);
                        foreign.run_until(s(300));
                        let gone = match &foreign.handles {
                            Handles::Set { handle, .. } => handle.is_empty(),
                            _ => false,
                        };
                        assert!(foreign.ended.is_some() || gone, "{what}");
                    } else {
                        live_and_die(&mut foreign, &what);
                    }
                    foreign.handles.look();
                    // The drop of the heartbeat may call the hook as well, outside of what is caught.
                    foreign.hooks.of(part).set(|_| {});
                    if foreign.hooks.of(part).calls() <= panics_at {
                        break;
                    }
                }
            });
        }
    }
}

// contract: R123
#[test]
fn an_order_to_a_heartbeat_that_sleeps_wakes_its_task_outside_of_the_lock() {
    for kind in KINDS {
        without_hanging(&format!("{kind:?}"), move || {
            let mut foreign = Foreign::new(kind);
            foreign.run_until(s(20));
            let handles = foreign.handles.clone();
            foreign.hooks.wake.set(move |_| handles.look());
            let before = foreign.hooks.wake.calls();
            foreign.handles.order();
            assert!(foreign.hooks.wake.calls() > before, "{kind:?}");
        });
    }
}

// contract: R123
#[test]
fn a_timer_that_panics_when_it_is_armed_wakes_the_task_that_arms_it() {
    for kind in KINDS {
        let mut foreign = Foreign::new(kind);
        foreign.run_until(s(14));
        // The poll at 15 s reads the clock of the timer first.
        let (calls, wakes) = (foreign.hooks.timer.calls(), foreign.hooks.wake.calls());
        foreign.hooks.timer.set(move |call| {
            if call == calls + 1 {
                resume_unwind(Box::new(Boom));
            }
        });
        foreign.run_until(s(15));
        assert_eq!(foreign.panics, 1, "{kind:?}");
        let wakes = foreign.hooks.wake.calls() - wakes;
        assert_eq!(wakes, 2, "{kind:?}: by the timer, and by the panic");
        foreign.hooks.timer.set(|_| {});
        live_and_die(&mut foreign, "a timer that has panicked once");
    }
}

// contract: R123
#[test]
fn a_sink_may_hand_over_the_pong_while_it_takes_the_ping() {
    for eager in [true, false] {
        let mut rig = Rig::new(Path::Slot, exact());
        if eager {
            rig.sink.eager();
        }
        rig.answer(|_| None);
        let (reader, controller) = (rig.reader.clone(), rig.controller());
        rig.sink.on_wire(move |frame| {
            if let Frame::Ping(payload) = frame {
                assert!(matches!(reader.send(payload), Ok(PongKind::Matched { .. })));
                assert_eq!(controller.stats().answered(), 1);
            }
        });
        rig.run_until(s(39));
        assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 0]);
    }
}

// contract: R123
#[test]
fn a_pong_stamped_before_its_flush_gives_no_sample() {
    for mut dialled in each_dialled(&exact(), Clock::system().now()) {
        dialled.poll_at(s(0));
        dialled.poll_at(s(20));
        assert_eq!((dialled.pings)(), 1);
        // The reader looked at its clock before the driver did.
        dialled.dial.set(s(19));
        (dialled.pong)((dialled.payload)(0));
        dialled.poll_at(s(19));
        let stats = (dialled.stats)();
        assert_eq!(counters(stats), [1, 1, 0, 0, 0], "{}", dialled.name);
        assert_eq!(stats.latest_rtt(), None, "{}", dialled.name);
        dialled.poll_at(s(45));
        assert_eq!(dialled.end, None, "{}", dialled.name);
    }

    let mut bare = Bare::new(exact());
    bare.run_until(s(20));
    bare.now = s(19);
    assert!(matches!(bare.answer(), PongKind::Matched { .. }));
    assert_eq!(counters(bare.stats()), [1, 1, 0, 0, 0]);
    assert_eq!(bare.stats().latest_rtt(), None);
}

// contract: R123
#[test]
fn the_proof_of_life_never_goes_back() {
    let config = exact()
        .interval(s(20))
        .timeout(s(5))
        .max_missed(3)
        .liveness(trusting(s(60)));
    for mut dialled in each_dialled(&config, Clock::system().now()) {
        let Some(_) = dialled.activity else { continue };
        // Missed at 25 s, and pinged again.
        for millis in [0, 20_000, 24_375, 25_000] {
            dialled.poll_at(ms(millis));
        }
        assert_eq!((dialled.pings)(), 2, "{}", dialled.name);
        dialled.dial.set(s(29));
        (dialled.pong)((dialled.payload)(0));
        dialled.poll_at(s(29));
        dialled.dial.set(s(27));
        (dialled.pong)((dialled.payload)(1));
        dialled.poll_at(s(27));
        assert_eq!(
            counters((dialled.stats)()),
            [2, 1, 1, 1, 0],
            "{}",
            dialled.name
        );
        // The peer is trusted for 60 s from 29 s on: until then activity keeps a ping from leaving.
        for second in 29..90 {
            dialled.poll_at(s(second));
            dialled.activity.as_ref().expect("it has")();
            let expected = if second < 89 { 2 } else { 3 };
            dialled.poll_at(s(second));
            assert_eq!((dialled.pings)(), expected, "{} at {second}", dialled.name);
        }
    }
}

// contract: R123
#[test]
fn a_flush_never_goes_back() {
    let mut bare = Bare::new(exact().no_close());
    bare.ready = false;
    bare.run_until(s(20));
    let now = bare.instant();
    assert!(matches!(bare.heartbeat.transmit(now), Some(Frame::Ping(_))));
    // The flush was seen by a clock that was read before.
    bare.heartbeat
        .handle_sent(now.checked_sub(s(1)).expect("a second"));
    bare.run_until(s(100));
    let (at, verdict) = bare.timed_out();
    assert_eq!((at, verdict.phase()), (s(40), TimeoutPhase::Pong));
}

// contract: R123
#[test]
fn a_visit_past_the_deadline_judges_nothing() {
    // With the grace a stall hides the deadline, and without it the deadline has passed.
    for mut dialled in [true, false].into_iter().flat_map(|grace| {
        let config = exact().stall_grace(grace);
        each_dialled(&config, Clock::system().now())
    }) {
        dialled.poll_at(s(0));
        dialled.poll_at(s(20));
        dialled.poll_at(s(39));
        dialled.dial.set(s(45));
        (dialled.pong)("stray".into());
        if let Some(activity) = &dialled.activity {
            activity();
        }
        let state = (dialled.stats)().state_at(dialled.dial.start + s(45));
        assert!(
            matches!(state, HeartbeatState::Waiting | HeartbeatState::Suspect),
            "{}: {state:?}",
            dialled.name
        );
        (dialled.pong)((dialled.payload)(0));
        dialled.poll_at(s(45));
        assert_eq!(dialled.end, None, "{}", dialled.name);
        assert_eq!((dialled.stats)().answered(), 1, "{}", dialled.name);
    }
}

/// A waker that asks for the figures of a heartbeat when it is dropped.
struct Asking(Controller);

impl Wake for Asking {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.stats();
    }
}

// A heartbeat that moves from one task to another drops the waker of the first.
// contract: R123
#[test]
fn a_waker_that_is_replaced_may_call_a_handle_when_it_is_dropped() {
    without_hanging("a heartbeat that moves", || {
        let world = World::new();
        let config = exact().build().expect("valid");
        let (pongs, pinger) = pinger(futures::sink::drain(), config);
        let mut pinger = pinger.with_timer(world.timer());
        let controller = pinger.controller();
        for _ in 0..3 {
            let waker = Waker::from(Arc::new(Asking(controller.clone())));
            let polled = Pin::new(&mut pinger).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(pongs);
    });
}
