//! J. Control and insight, through the shells: each test runs over [`Pinger`] with the pongs in the
//! slot, over [`Pinger`] with a stream of pongs, and over [`KeepAlive`].
//!
//! [`Pinger`]: futures_pinger::Pinger
//! [`KeepAlive`]: futures_pinger::KeepAlive

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_pinger::{
    Closed, Config, ConfigBuilder, Controller, Error, HeartbeatState, Liveness, PingNowError,
    PongKind, Stats, Stopped, TimedOut, TimeoutPhase,
};

use crate::socket::{Kept, Msg};
use crate::world::{Fault, NO_PINGS, Path, Reader, Rig, exact, ms, s};

/// A heartbeat in one of the shells.
enum Shell {
    Pinger(Box<Rig>),
    KeepAlive(Box<Kept>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    TimedOut(TimedOut),
    Stopped,
}

fn each_shell(config: &ConfigBuilder, test: impl Fn(Shell)) {
    for path in [Path::Slot, Path::Stream] {
        test(Shell::Pinger(Box::new(Rig::new(path, config.clone()))));
    }
    test(Shell::KeepAlive(Box::new(Kept::new(config.clone()))));
}

impl Shell {
    fn controller(&mut self) -> Controller {
        match self {
            Self::Pinger(rig) => rig.controller(),
            Self::KeepAlive(kept) => kept.alive.controller(),
        }
    }

    fn run_until(&mut self, time: Duration) {
        match self {
            Self::Pinger(rig) => rig.run_until(time),
            Self::KeepAlive(kept) => kept.run_until(time),
        }
    }

    fn answer(&self, rtt: impl Fn(usize) -> Option<Duration> + Send + 'static) {
        match self {
            Self::Pinger(rig) => rig.answer(rtt),
            Self::KeepAlive(kept) => kept.answer(rtt),
        }
    }

    /// Takes nothing from now on.
    fn block(&self) {
        match self {
            Self::Pinger(rig) => rig.sink.block(),
            Self::KeepAlive(kept) => kept.script.block(),
        }
    }

    fn unblock(&self) {
        match self {
            Self::Pinger(rig) => rig.sink.unblock(),
            Self::KeepAlive(kept) => kept.script.unblock(),
        }
    }

    fn stray(&self) {
        match self {
            Self::Pinger(rig) => rig.reader.handle_pong(&b"stray"[..]),
            Self::KeepAlive(kept) => kept.script.receive(Msg::Pong(b"stray"[..].into())),
        }
    }

    fn pings(&self) -> Vec<Duration> {
        match self {
            Self::Pinger(rig) => rig.sink.pings(),
            Self::KeepAlive(kept) => kept.script.pings(),
        }
    }

    /// Pings and close frames.
    fn frames(&self) -> usize {
        match self {
            Self::Pinger(rig) => rig.sink.frames().len(),
            Self::KeepAlive(kept) => kept.script.sent().len(),
        }
    }

    fn end(&self) -> Option<(Duration, End)> {
        match self {
            Self::Pinger(rig) => rig.outcome().map(|outcome| {
                let end = match outcome {
                    Ok(Stopped::Requested) => End::Stopped,
                    Err(Error::Timeout(verdict)) => End::TimedOut(verdict),
                    other => panic!("{other:?}"),
                };
                (rig.ended_at().expect("ended"), end)
            }),
            Self::KeepAlive(kept) => match kept.read.last() {
                Some((at, Err(Error::Timeout(verdict)))) => Some((*at, End::TimedOut(*verdict))),
                _ => (kept.stats().state_at(kept.world.instant(s(0))) == HeartbeatState::Gone)
                    .then(|| (kept.world.elapsed(), End::Stopped)),
            },
        }
    }

    #[track_caller]
    fn timed_out(&self) -> (Duration, TimedOut) {
        match self.end() {
            Some((at, End::TimedOut(verdict))) => (at, verdict),
            other => panic!("no verdict but {other:?}"),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Pinger(rig) => rig.stats(),
            Self::KeepAlive(kept) => kept.stats(),
        }
    }

    fn state(&self, stats: Stats) -> HeartbeatState {
        let world = match self {
            Self::Pinger(rig) => &rig.world,
            Self::KeepAlive(kept) => &kept.world,
        };
        stats.state_at(world.instant(world.elapsed()))
    }

    /// How often it was woken so far.
    fn wakes(&self) -> usize {
        match self {
            Self::Pinger(rig) => rig.wakes(),
            Self::KeepAlive(kept) => kept.reader.count.load(Ordering::Relaxed),
        }
    }

    /// The ping that is out is written off by pausing and resuming.
    fn write_off(&mut self) {
        if let Self::Pinger(rig) = self {
            rig.written_off += 1;
        }
    }

    /// One poll more than it was woken for.
    fn poll(&mut self) {
        match self {
            Self::Pinger(rig) => rig.poll(),
            Self::KeepAlive(kept) => while kept.read_once() {},
        }
    }
}

fn build(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}

// contract: J63
#[test]
fn a_new_configuration_judges_the_ping_in_flight_from_its_own_sending() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(30));
        controller
            .set_config(build(exact().timeout(s(15))))
            .unwrap();
        shell.run_until(s(200));
        assert_eq!(shell.pings(), [s(20)], "it survives");
        assert_eq!(shell.timed_out().0, s(35));
    });
}

// contract: J63
#[test]
fn a_new_configuration_each_half_interval_for_ever_starves_no_ping() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.answer(|_| Some(s(1)));
        for half in 1..=100 {
            shell.run_until(s(10 * half));
            let timeout = s(20 + half % 2);
            controller
                .set_config(build(exact().timeout(timeout)))
                .unwrap();
        }
        let pings: Vec<_> = (1..=50).map(|number| s(20 * number)).collect();
        assert_eq!(shell.pings(), pings);
    });
}

// contract: J63
#[test]
fn a_configuration_that_makes_no_sense_is_refused_and_the_old_one_stays() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(1));
        let reconfigure = |interval| -> Result<(), Box<dyn std::error::Error>> {
            controller.set_config(exact().interval(interval).build()?)?;
            Ok(())
        };
        let error = reconfigure(s(0)).expect_err("nonsense").to_string();
        assert!(
            error.contains("interval") && error.contains("0ns"),
            "{error}"
        );
        shell.run_until(s(20));
        assert_eq!(shell.pings(), [s(20)]);
    });
}

// contract: J64
#[test]
fn a_new_interval_counts_from_the_last_due_time() {
    // Given at 30 s: the interval, and when the ping after the one at 20 s is due.
    for (interval, due) in [(s(25), s(45)), (s(15), s(35)), (s(5), s(30))] {
        each_shell(&exact(), |mut shell| {
            let controller = shell.controller();
            shell.answer(|_| Some(s(0)));
            shell.run_until(s(30));
            controller
                .set_config(build(exact().interval(interval)))
                .unwrap();
            shell.run_until(due);
            assert_eq!(shell.pings(), [s(20), due], "{interval:?}");
        });
    }
}

// contract: J64
#[test]
fn a_configuration_given_before_the_first_poll_is_in_force_from_the_start() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        controller
            .set_config(build(exact().interval(s(3))))
            .unwrap();
        shell.run_until(s(3));
        assert_eq!(shell.pings(), [s(3)]);
    });
}

// contract: J65
#[test]
fn paused_there_are_no_pings_and_no_verdicts_and_resumed_it_is_as_new() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(30));
        controller.pause().unwrap();
        shell.run_until(s(1000));
        assert_eq!((shell.pings(), shell.end()), (vec![s(20)], None));
        assert_eq!(shell.state(controller.stats()), HeartbeatState::Paused);

        controller.resume().unwrap();
        shell.write_off();
        shell.run_until(s(2000));
        assert_eq!(shell.pings(), [s(20), s(1020)]);
        let (at, verdict) = shell.timed_out();
        assert_eq!((at, verdict.missed()), (s(1040), 1));
    });
}

// contract: J65
#[test]
fn paused_and_resumed_in_one_breath_what_was_out_is_written_off() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(39));
        controller.pause().unwrap();
        controller.resume().unwrap();
        shell.write_off();
        shell.run_until(s(58));
        assert_eq!((shell.pings(), shell.end()), (vec![s(20)], None));
        shell.run_until(s(59));
        assert_eq!(shell.pings(), [s(20), s(59)]);
    });
}

// contract: J65
#[test]
fn a_paused_heartbeat_still_ends_with_its_connection() {
    for path in [Path::Slot, Path::Stream] {
        let mut rig = Rig::new(path, exact());
        let controller = rig.controller();
        rig.run_until(s(1));
        controller.pause().unwrap();
        rig.run_until(s(2));
        rig.reader.end();
        rig.run_until(s(3));
        assert_eq!(rig.outcome(), Some(Ok(Stopped::PongsEnded)));
        assert!(!controller.is_alive());
    }
}

// contract: J66
#[test]
fn a_thousand_calls_send_one_ping_and_the_next_is_due_an_interval_later() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(5));
        let wakes = shell.wakes();
        for _ in 0..1_000 {
            controller.ping_now().unwrap();
        }
        assert_eq!(shell.wakes(), wakes + 1);
        shell.run_until(s(6));
        assert_eq!(shell.pings(), [s(5)]);

        // One is out.
        for _ in 0..1_000 {
            controller.ping_now().unwrap();
            shell.run_until(s(6));
        }
        assert_eq!(shell.pings(), [s(5)]);
        shell.run_until(s(25) - ms(1));
        assert_eq!(shell.end(), None);
    });
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.answer(|_| Some(ms(100)));
        shell.run_until(s(5));
        controller.ping_now().unwrap();
        shell.run_until(s(45));
        assert_eq!(shell.pings(), [s(5), s(25), s(45)]);
    });
}

// contract: J66
#[test]
fn thousands_of_calls_from_many_threads_come_to_the_last_configuration_and_one_ping() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.answer(|_| Some(ms(100)));
        shell.run_until(s(1));
        let wakes = shell.wakes();
        thread::scope(|scope| {
            for thread in 0..4 {
                let controller = controller.clone();
                scope.spawn(move || {
                    for call in 0..2_500 {
                        let config = exact().interval(s(10 + (call + thread) % 7));
                        controller.set_config(build(config)).unwrap();
                        controller.ping_now().unwrap();
                        controller.handle_activity().unwrap();
                    }
                });
            }
        });
        controller
            .set_config(build(exact().interval(s(9))))
            .unwrap();
        assert_eq!(shell.wakes(), wakes + 1);
        shell.run_until(s(10));
        assert_eq!(shell.pings(), [s(1), s(10)]);
    });
}

// contract: J67
#[test]
fn stopped_it_ends_at_once_and_without_a_frame() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        controller.stop().unwrap();
        shell.run_until(s(0));
        assert_eq!(
            shell.end(),
            Some((s(0), End::Stopped)),
            "before the first poll"
        );
    });
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(30));
        controller.stop().unwrap();
        shell.run_until(s(30));
        assert_eq!(shell.end(), Some((s(30), End::Stopped)), "with a ping out");
        shell.run_until(s(100));
        assert_eq!(shell.frames(), 1);
        assert_eq!(shell.state(controller.stats()), HeartbeatState::Gone);
    });
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.block();
        shell.run_until(s(30));
        controller.stop().unwrap();
        shell.run_until(s(30));
        assert_eq!(
            shell.end(),
            Some((s(30), End::Stopped)),
            "with a ping in the sink"
        );
        shell.unblock();
        shell.run_until(s(100));
        assert_eq!(shell.frames(), 0);
    });
}

// contract: J67
#[test]
fn stopped_a_keep_alive_is_a_plain_socket() {
    let mut kept = Kept::new(exact());
    let controller = kept.alive.controller();
    kept.run_until(s(1));
    controller.stop().unwrap();
    kept.run_until(s(2));
    assert!(!controller.is_alive());
    kept.at(s(100), |script| script.receive(Msg::Data(7)));
    kept.run_until(s(200));
    kept.send(Msg::Data(8));
    assert_eq!(kept.messages(), [Msg::Data(7)]);
    assert_eq!(kept.script.data(), [8]);
    assert_eq!((kept.script.pings(), kept.ended), (vec![], None));
}

// contract: J67
#[test]
fn without_its_controller_the_heartbeat_goes_on() {
    each_shell(&exact(), |mut shell| {
        shell.answer(|_| Some(s(1)));
        drop(shell.controller());
        shell.run_until(s(30));
        drop(shell.controller());
        shell.run_until(s(50));
        assert_eq!(shell.pings(), [s(20), s(40)]);
    });
}

// contract: J67
#[test]
fn without_its_heartbeat_a_controller_says_so_and_keeps_the_last_figures() {
    let refuses = |controller: &Controller| {
        assert!(!controller.is_alive());
        assert_eq!(controller.ping_now(), Err(PingNowError::Closed));
        assert_eq!(controller.set_config(Config::default()), Err(Closed));
        assert_eq!(controller.pause(), Err(Closed));
        assert_eq!(controller.resume(), Err(Closed));
        assert_eq!(controller.stop(), Err(Closed));
        assert_eq!(controller.handle_activity(), Err(Closed));
    };
    // It was dropped, before its first poll or later.
    for until in [None, Some(s(30))] {
        each_shell(&exact(), |mut shell| {
            let controller = shell.controller();
            if let Some(until) = until {
                shell.run_until(until);
            }
            assert!(controller.is_alive());
            drop(shell);
            refuses(&controller);
            assert_eq!(controller.stats().sent(), u64::from(until.is_some()));
            let now = futures_pinger::Clock::system().now();
            assert_eq!(controller.stats().state_at(now), HeartbeatState::Gone);
        });
    }
    // It has ended by a verdict; a controller may be asked for later still.
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(200));
        assert_eq!(shell.timed_out().0, s(40));
        refuses(&controller);
        refuses(&controller.clone());
        assert_eq!(controller.stats(), shell.stats());
        assert_eq!(controller.stats().missed(), 1);
    });
    each_shell(&exact(), |mut shell| {
        shell.run_until(s(200));
        let controller = shell.controller();
        refuses(&controller);
        assert_eq!(controller.stats(), shell.stats());
    });
}

// contract: J67
#[test]
fn a_keep_alive_whose_connection_ends_ends_its_controller() {
    let ends: [fn(&mut Kept); 5] = [
        |kept| kept.script.end(),
        |kept| kept.script.receive_error(),
        |kept| kept.script.receive(Msg::Close),
        |kept| kept.send(Msg::Close),
        |kept| assert!(kept.poll_close().is_ready()),
    ];
    for end in ends {
        let mut kept = Kept::new(exact());
        let controller = kept.alive.controller();
        kept.run_until(s(21));
        end(&mut kept);
        kept.run_until(s(22));
        assert!(!controller.is_alive());
        assert_eq!(controller.stats(), kept.stats());
        assert_eq!(controller.stats().sent(), 1);
    }
}

// contract: J67
#[test]
fn a_flood_of_pongs_pushes_no_order_out() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(1));
        controller.ping_now().unwrap();
        for _ in 0..10_000 {
            shell.stray();
        }
        shell.run_until(s(1));
        assert_eq!(shell.pings(), [s(1)]);
    });
    // Always one more: the order is carried out between two turns.
    let mut rig = Rig::new(Path::Stream, exact());
    let controller = rig.controller();
    rig.run_until(s(1));
    let Reader::Stream(pongs) = rig.reader.clone() else {
        unreachable!()
    };
    pongs.flood();
    rig.poll();
    controller.stop().unwrap();
    rig.poll();
    assert_eq!(rig.outcome(), Some(Ok(Stopped::Requested)));

    let mut kept = Kept::new(exact());
    let controller = kept.alive.controller();
    kept.run_until(s(1));
    kept.script.flood();
    assert!(kept.read_once());
    controller.ping_now().unwrap();
    for _ in 0..64 {
        assert!(kept.read_once());
    }
    assert_eq!(kept.script.pings(), [s(1)]);
}

// contract: J68
#[test]
fn the_controllers_figures_are_the_heartbeats() {
    let config = exact().interval(s(10)).timeout(s(4)).max_missed(3);
    each_shell(&config, |mut shell| {
        let controller = shell.controller();
        // The ping at 20 s is missed at 24 s; its pong comes at 25 s.
        shell.answer(|ping| match ping {
            0 => Some(s(1)),
            1 => Some(s(5)),
            _ => Some(s(2)),
        });
        let states = [
            (s(9), HeartbeatState::Idle),
            (s(10), HeartbeatState::Waiting),
            (s(19), HeartbeatState::Idle),
            (s(22), HeartbeatState::Waiting),
            (s(24), HeartbeatState::Suspect),
            (s(26), HeartbeatState::Idle),
        ];
        for (time, state) in states {
            shell.run_until(time);
            assert_eq!(shell.state(controller.stats()), state, "at {time:?}");
        }
        shell.block();
        shell.run_until(s(32));
        assert_eq!(shell.state(controller.stats()), HeartbeatState::Sending);
        shell.run_until(s(33));
        shell.unblock();
        shell.run_until(s(36));
        shell.stray();
        // Nothing but a stray: the next poll tells of it.
        shell.poll();

        let stats = controller.stats();
        assert_eq!(stats, shell.stats());
        assert_eq!((stats.sent(), stats.answered(), stats.missed()), (4, 3, 1));
        assert_eq!((stats.stale(), stats.unsolicited()), (1, 1));
        assert_eq!((stats.write_blocked(), stats.late_wakes()), (s(3), 0));
        assert_eq!(
            (stats.latest_rtt(), stats.min_rtt()),
            (Some(s(2)), Some(s(1)))
        );
        // RFC 6298: samples of 1 s, 2 s and 2 s.
        let second = 1_000_000_000_u64;
        let smoothed = second - second / 8 + 2 * second / 8;
        let smoothed = smoothed - smoothed / 8 + 2 * second / 8;
        assert_eq!(stats.smoothed_rtt(), Some(Duration::from_nanos(smoothed)));
    });
}

// contract: J68
#[test]
fn a_verdict_carries_the_numbers_that_tell_who_was_to_blame() {
    let mut rig = Rig::new(Path::Slot, exact());
    rig.answer(|ping| (ping < 2).then_some(s(1)));
    rig.stall(s(61)..s(85));
    rig.run_until(s(300));
    let (at, verdict) = rig.verdict();
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert_eq!((verdict.missed(), verdict.answered()), (1, 2));
    assert_eq!(verdict.last_rtt(), Some(s(1)));
    // The checkpoint at 79 s was looked at 6 s late, so that the deadline moved to 91 s.
    assert_eq!(
        (at, verdict.elapsed(), verdict.lateness()),
        (s(91), s(31), s(6))
    );
    let text = verdict.to_string();
    assert!(text.contains("2 answered") && text.contains("6s"), "{text}");
}

#[test]
fn activity_is_stamped_when_it_is_told_and_wakes_nobody_while_the_next_ping_is_not_due() {
    let liveness = Liveness::Activity {
        max_unproven: s(1_000),
    };
    each_shell(&exact().liveness(liveness), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(15));
        let wakes = shell.wakes();
        controller.handle_activity().unwrap();
        controller.handle_activity().unwrap();
        assert_eq!(shell.wakes(), wakes, "nothing is out");
        shell.run_until(s(34));
        assert_eq!(shell.pings(), NO_PINGS);
        shell.run_until(s(36));
        assert_eq!(shell.pings(), [s(35)], "15 s + the interval");

        let wakes = shell.wakes();
        for _ in 0..100 {
            controller.handle_activity().unwrap();
        }
        assert_eq!(shell.wakes(), wakes, "the next ping is not due");
        assert_eq!(controller.stats().answered(), 1);
        shell.run_until(s(56));
        assert_eq!(shell.pings(), [s(35), s(56)]);
    });
}

#[test]
fn activity_that_is_not_trusted_wakes_nobody() {
    let liveness = Liveness::Activity { max_unproven: s(1) };
    each_shell(&exact().liveness(liveness), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(21));
        let wakes = shell.wakes();
        for _ in 0..100 {
            controller.handle_activity().unwrap();
            shell.run_until(s(21));
        }
        assert_eq!(shell.wakes(), wakes);
        shell.run_until(s(100));
        assert_eq!(shell.timed_out().0, s(40));
    });
}

#[test]
fn strict_heartbeats_are_not_woken_by_activity() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(21));
        let wakes = shell.wakes();
        controller.handle_activity().unwrap();
        assert_eq!(shell.wakes(), wakes);
        shell.run_until(s(100));
        assert_eq!(shell.timed_out().0, s(40));
    });
}

/// A moving waker must not strand an order.
#[test]
fn the_task_that_polled_last_is_the_one_that_is_woken() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.moving = true;
    rig.run_until(s(1));
    rig.poll();
    rig.poll();
    controller.ping_now().unwrap();
    rig.run_until(s(1));
    assert_eq!(rig.sink.pings(), [s(1)]);
}

#[test]
fn an_order_from_within_the_heartbeats_own_poll_is_carried_out() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    let asked = Arc::new(AtomicBool::new(false));
    let (once, handle) = (Arc::clone(&asked), controller.clone());
    // The peer's reaction runs inside the sink's flush.
    rig.sink.on_wire(move |_| {
        once.store(true, Ordering::Relaxed);
        handle.stop().unwrap();
    });
    rig.run_until(s(20));
    assert!(asked.load(Ordering::Relaxed));
    assert_eq!(rig.outcome(), Some(Ok(Stopped::Requested)));
}

#[test]
fn it_is_a_handle_for_any_thread() {
    fn handle<T: Clone + Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    handle::<Controller>();
}

// contract: L73
#[test]
fn the_adaptive_timeout_follows_the_round_trip_times() {
    let config = exact().adaptive_timeout(ms(500)..=s(8)).max_missed(3);
    each_shell(&config, |mut shell| {
        shell.run_until(s(100));
        // Never answered: the range's end each time.
        assert_eq!(shell.pings(), [s(20), s(28), s(36)]);
        assert_eq!(shell.timed_out().0, s(44));
    });
    each_shell(&config, |mut shell| {
        // A sample of 400 ms: 400 + 4 · 200 = 1 200 ms; each miss doubles it.
        shell.answer(|ping| (ping == 0).then_some(ms(400)));
        shell.run_until(s(100));
        assert_eq!(shell.pings(), [s(20), s(40), ms(41_200), ms(43_600)]);
        assert_eq!(shell.timed_out().0, ms(48_400));
    });
    each_shell(&config, |mut shell| {
        // The range's start, at the least, and an answer ends the doubling.
        shell.answer(|ping| (ping != 1 && ping < 3).then_some(ms(1)));
        shell.run_until(s(100));
        let pings = [s(20), s(40), ms(40_500), s(60), ms(60_500), ms(61_500)];
        assert_eq!(shell.pings(), pings);
        assert_eq!(shell.timed_out().0, ms(63_500));
    });
}

// contract: L73
#[test]
fn a_ping_seen_late_gives_no_sample() {
    // In the slot the pong is stamped as it comes; a stream is read when we come.
    let mut rig = Rig::new(Path::Stream, exact().adaptive_timeout(s(1)..=s(8)));
    rig.answer(|_| Some(ms(400)));
    rig.stall(ms(20_100)..s(29));
    rig.run_until(s(39));
    assert_eq!(rig.stats().answered(), 1);
    assert_eq!(rig.stats().smoothed_rtt(), None);
    rig.run_until(s(41));
    assert_eq!(rig.stats().smoothed_rtt(), Some(ms(400)));
}

// contract: L74
#[test]
fn a_ping_unanswered_for_longer_than_usual_is_suspect_until_its_pong() {
    // With a fixed timeout, and with an adaptive one.
    for config in [exact(), exact().adaptive_timeout(s(10)..=s(20))] {
        each_shell(&config, |mut shell| {
            let controller = shell.controller();
            // 400 + 4 · 200 = 1 200 ms after the first.
            shell.answer(|ping| Some(if ping == 0 { ms(400) } else { s(5) }));
            for (time, state) in [
                (s(20), HeartbeatState::Waiting),
                (s(21), HeartbeatState::Idle),
                (ms(41_200), HeartbeatState::Waiting),
                (ms(41_201), HeartbeatState::Suspect),
                (ms(44_999), HeartbeatState::Suspect),
                (s(45), HeartbeatState::Idle),
            ] {
                shell.run_until(time);
                assert_eq!(shell.state(controller.stats()), state, "at {time:?}");
                assert_eq!(shell.state(shell.stats()), state, "at {time:?}");
            }
        });
    }
}

/// Sends the pong of that ping, and what has come of it waits for the heartbeat's next poll.
fn pong(rig: &Rig, ping: usize) -> PongKind {
    let payload = rig.sink.payload(ping);
    rig.reader.send(payload).expect("it runs")
}

// An order was carried out before the pong that had come before it: the ping was lost.
// contract: J66
#[test]
fn a_ping_asked_for_after_the_pong_of_the_last_is_sent() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    let kind = pong(&rig, 0);
    assert!(matches!(kind, PongKind::Matched { .. }));
    controller.ping_now().unwrap();
    rig.run_until(s(21));
    assert_eq!(rig.sink.pings(), [s(20), s(21)]);
}

// contract: J66
#[test]
fn a_ping_asked_for_while_one_is_out_is_not_sent_although_its_pong_comes_first_to_be_read() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    controller.ping_now().unwrap();
    rig.world_step(s(22));
    pong(&rig, 0);
    rig.run_until(s(39));
    assert_eq!(rig.sink.pings(), [s(20)]);
}

// contract: J65
#[test]
fn a_pong_before_the_resume_answers_its_ping() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    controller.pause().unwrap();
    rig.run_until(s(22));
    pong(&rig, 0);
    controller.resume().unwrap();
    rig.run_until(s(22));
    assert_eq!((rig.stats().answered(), rig.stats().stale()), (1, 0));
}

// An hour of sleep was taken for the round trip.
// contract: J65
#[test]
fn a_pong_that_is_read_in_a_pause_is_no_sample() {
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.answer(|_| Some(s(2)));
        shell.run_until(s(21));
        controller.pause().unwrap();
        shell.run_until(s(3600));
        assert_eq!(controller.stats().answered(), 1);
        assert_eq!(controller.stats().smoothed_rtt(), None);
    });
}

// contract: J67
#[test]
fn stopped_is_stopped_although_the_pong_side_ends_or_the_sink_fails_with_it() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(1));
    controller.stop().unwrap();
    rig.reader.end();
    rig.run_until(s(1));
    assert_eq!(rig.outcome(), Some(Ok(Stopped::Requested)));

    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        match &shell {
            Shell::Pinger(rig) => rig.sink.block_flush(),
            Shell::KeepAlive(kept) => kept.script.block_flush(),
        }
        shell.run_until(s(21));
        controller.stop().unwrap();
        match &shell {
            Shell::Pinger(rig) => rig.sink.fail(Fault::Flush),
            Shell::KeepAlive(kept) => kept.script.break_sink(),
        }
        shell.run_until(s(21));
        assert_eq!(shell.end(), Some((s(21), End::Stopped)));
    });
}

// contract: J63
#[test]
fn activity_before_a_new_configuration_counts_by_the_old_one_and_after_it_by_the_new() {
    let trusting = || {
        exact().liveness(Liveness::Activity {
            max_unproven: s(1_000),
        })
    };
    each_shell(&trusting(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(21));
        controller.handle_activity().unwrap();
        controller.set_config(build(exact())).unwrap();
        shell.run_until(s(21));
        assert_eq!(controller.stats().answered(), 1);
    });
    each_shell(&exact(), |mut shell| {
        let controller = shell.controller();
        shell.run_until(s(21));
        controller.set_config(build(trusting())).unwrap();
        controller.handle_activity().unwrap();
        shell.run_until(s(21));
        assert_eq!(controller.stats().answered(), 1);
    });
}

// What the slot took by one policy was refused by the next, and the slot did not hear of it.
// contract: J63
#[test]
fn an_answer_by_policy_stands_whatever_configuration_follows() {
    let any = || exact().liveness(Liveness::AnyPong);
    let mut rig = Rig::new(Path::Slot, any());
    let controller = rig.controller();
    rig.run_until(s(21));
    let stray = || rig.reader.send(&b"x"[..]);
    assert_eq!(stray(), Ok(PongKind::Accepted { ours: true }));
    controller.set_config(build(exact())).unwrap();
    rig.run_until(s(21));
    assert_eq!(rig.stats().answered(), 1);

    // Refused for once, and then asked for again.
    let mut rig = Rig::new(Path::Slot, any());
    let controller = rig.controller();
    rig.run_until(s(21));
    controller.set_config(build(exact())).unwrap();
    rig.run_until(s(22));
    assert_eq!(rig.reader.send(&b"x"[..]), Ok(PongKind::Unsolicited));
    controller.set_config(build(any())).unwrap();
    rig.run_until(s(23));
    assert_eq!(
        rig.reader.send(&b"x"[..]),
        Ok(PongKind::Accepted { ours: true })
    );
}

// contract: J64
#[test]
fn once_it_was_resumed_the_initial_delay_is_over() {
    each_shell(&exact().initial_delay(s(0)), |mut shell| {
        let controller = shell.controller();
        controller.pause().unwrap();
        controller.resume().unwrap();
        shell.run_until(s(3));
        let config = exact().initial_delay(s(0)).interval(s(30));
        controller.set_config(build(config)).unwrap();
        shell.run_until(s(31));
        assert_eq!(shell.pings(), [s(30)]);
    });
}

// A fleet that was to be spread went on in step for one more interval.
// contract: J64
#[test]
fn jitter_that_is_turned_on_is_in_force_at_once() {
    let mut early = 0;
    for _ in 0..20 {
        let mut rig = Rig::new(Path::Slot, exact());
        let controller = rig.controller();
        rig.run_until(s(1));
        controller.set_config(build(exact().jitter(1.0))).unwrap();
        rig.run_until(s(19));
        early += rig.sink.pings().len().min(1);
    }
    assert!(early > 0, "at 1 in 20 each, 20 times in a row");
}

// It ended without a word.
// contract: I58
#[test]
fn closing_the_sink_while_the_close_frame_is_on_its_way_does_not_swallow_the_verdict() {
    let mut kept = Kept::new(exact());
    let controller = kept.alive.controller();
    kept.run_until(s(21));
    kept.script.block_flush();
    kept.run_until(s(40));
    let Poll::Ready(Err(error)) = kept.poll_close() else {
        panic!("it waits")
    };
    assert!(matches!(error, Error::Timeout(_)));
    assert!(controller.is_alive(), "the close frame is on its way");
    kept.run_until(s(100));
    assert_eq!(kept.verdict().0, s(41));
}

// contract: J67
#[test]
fn a_writer_that_waits_for_nothing_but_our_frame_is_woken_by_a_stop_and_by_a_pause() {
    for order in [Controller::stop, Controller::pause] {
        let mut kept = Kept::new(exact());
        let controller = kept.alive.controller();
        kept.script.block_flush();
        kept.run_until(s(21));
        assert!(kept.poll_ready().is_pending(), "the ping goes first");
        kept.writer_woken();
        order(&controller).unwrap();
        kept.run_until(s(21));
        assert!(kept.writer_woken());
        assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    }
}

// contract: J68
#[test]
fn a_pong_read_ahead_of_data_is_in_the_controllers_figures() {
    let mut kept = Kept::new(exact());
    let controller = kept.alive.controller();
    kept.run_until(s(21));
    let Msg::Ping(payload) = kept.script.sent()[0].1.clone() else {
        panic!("a ping")
    };
    kept.script.receive(Msg::Pong(payload));
    kept.script.receive(Msg::Data(1));
    assert!(kept.read_once());
    assert_eq!(controller.stats(), kept.stats());
    assert_eq!(controller.stats().answered(), 1);
}
