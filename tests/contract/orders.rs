//! R. Orders act at once on the state.

use futures_pinger::{Config, HeartbeatState, Liveness, PongKind};

use crate::every_surface::{Surface, build, counters, each_steered, surfaces};
use crate::world::{Path, Rig, exact, ms, s};

// contract: R124
#[test]
fn a_pause_and_a_resume_show_in_the_state_at_once() {
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(21));
        controller.pause().expect("it runs");
        assert_eq!(
            surface.state(),
            HeartbeatState::Paused,
            "{}",
            surface.name()
        );
        controller.resume().expect("it runs");
        if let Surface::Rig(_, rig) = &mut surface {
            rig.written_off += 1;
        }
        assert_eq!(surface.state(), HeartbeatState::Idle, "{}", surface.name());
        // The next is due an interval after that.
        surface.run_until(s(41));
        assert_eq!(surface.pings(), [s(20), s(41)], "{}", surface.name());
    });
}

// contract: R124
#[test]
fn a_pong_that_was_unread_when_it_was_resumed_is_stale() {
    for before in [true, false] {
        each_steered(&exact(), |mut surface, controller| {
            // What is told to a handle is entered before the order, and so answers.
            let told = before && matches!(surface, Surface::Rig(Path::Slot, _));
            surface.run_until(s(21));
            let payload = surface.payload(0);
            if before {
                surface.arrives(payload.clone());
            }
            controller.pause().expect("it runs");
            controller.resume().expect("it runs");
            if !before {
                surface.arrives(payload);
            }
            surface.run_until(s(22));
            let expected = if told {
                [1, 1, 0, 0, 0]
            } else {
                [1, 0, 0, 1, 0]
            };
            assert_eq!(
                counters(surface.stats()),
                expected,
                "{}, it came before: {before}",
                surface.name()
            );
        });
    }
}

// contract: R124
#[test]
fn the_sender_calls_a_pong_stale_right_after_a_resume() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    controller.pause().expect("it runs");
    controller.resume().expect("it runs");
    assert_eq!(rig.reader.send(rig.sink.payload(0)), Ok(PongKind::Stale));
}

// contract: R124
#[test]
fn a_new_liveness_is_in_force_for_the_next_pong() {
    let mut rig = Rig::new(Path::Slot, exact());
    let controller = rig.controller();
    rig.run_until(s(21));
    let any = exact().liveness(Liveness::AnyPong);
    controller.set_config(build(any)).expect("it runs");
    assert_eq!(
        rig.reader.send("mangled"),
        Ok(PongKind::Accepted { ours: true })
    );
    controller.set_config(build(exact())).expect("it runs");
    rig.run_until(s(41));
    assert_eq!(rig.reader.send("mangled"), Ok(PongKind::Unsolicited));
}

// contract: R124 J63
#[test]
fn a_deadline_that_a_new_configuration_puts_into_the_past_is_judged_after_the_drain() {
    // At once: unread when the order comes, or told between the order and the next poll. Or within the slack.
    for answered in [Some(s(100)), Some(s(101) - ms(1)), None] {
        let config = exact().initial_delay(s(20)).interval(s(3600));
        let patient = config.clone().timeout(s(3600));
        for mut surface in surfaces(&patient) {
            surface.run_until(s(100));
            reconfigure(&mut surface, build(config.clone()));
            let payload = surface.payload(0);
            if let Some(at) = answered {
                if at > s(100) {
                    surface.run_until(at);
                }
                surface.arrives(payload);
            }
            surface.run_until(s(200));
            let name = surface.name();
            if answered.is_some() {
                assert_eq!(surface.verdict(), None, "{name}");
                assert_eq!(surface.stats().answered(), 1, "{name}");
            } else {
                assert_eq!(surface.timed_out().0, s(101), "{name}");
            }
        }
    }
}

fn reconfigure(surface: &mut Surface, config: Config) {
    match surface {
        Surface::Rig(Path::Set, rig) => {
            let (set, _) = rig.set_handle();
            set.set_config(config).expect("it runs");
        }
        Surface::Rig(_, rig) => rig.controller().set_config(config).expect("it runs"),
        Surface::KeepAlive(kept) => {
            let controller = kept.alive.controller();
            controller.set_config(config).expect("it runs");
        }
        Surface::Bare(bare) => {
            let now = bare.instant();
            bare.heartbeat.set_config(config, now);
        }
    }
}

// contract: R124
#[test]
fn a_new_schedule_wakes_the_driver_once_and_is_kept() {
    each_steered(&exact(), |mut surface, controller| {
        surface.run_until(s(5));
        let shorter = exact().interval(s(8));
        controller.set_config(build(shorter)).expect("it runs");
        surface.run_until(s(9));
        assert_eq!(surface.pings(), [s(8)], "{}", surface.name());
    });
}
