//! P. What answers a ping, and what is measured by it.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{ConfigBuilder, Liveness, PongKind};

use crate::every_surface::{Surface, each_steered, each_surface, trusting};
use crate::socket::{Kept, Msg};
use crate::world::{Path, Rig, each_path, exact, ms, s};

fn traffic(max_unproven: Duration) -> ConfigBuilder {
    exact().liveness(Liveness::Traffic { max_unproven })
}

// contract: P99
#[test]
fn pings_keep_their_schedule_whatever_arrives_and_each_is_answered_by_it() {
    each_surface(&traffic(s(1000)), |mut surface| {
        for second in 1..100 {
            surface.run_until(s(second));
            surface.message(second % 3 == 0);
            surface.run_until(s(second));
        }
        let name = surface.name();
        assert_eq!(surface.pings(), [s(20), s(40), s(60), s(80)], "{name}");
        assert_eq!(surface.stats().answered(), 4, "{name}");
        assert_eq!(surface.verdict(), None, "{name}");
    });
}

// contract: P99
#[test]
fn what_came_before_the_ping_was_handed_over_does_not_answer_it() {
    each_surface(&traffic(s(1000)), |mut surface| {
        surface.run_until(s(20) - ms(1));
        surface.message(false);
        surface.run_until(s(100));
        assert_eq!(surface.verdict(), Some(s(40)), "{}", surface.name());
    });
    // Nor while the sink does not take the ping, which is not called off by it.
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, traffic(s(1000)));
        rig.sink.block();
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        rig.at(s(30), move || reader.handle_activity());
        rig.at(s(31), move || sink.unblock());
        rig.run_until(s(100));
        assert_eq!(rig.sink.pings(), [s(31)]);
        assert_eq!(rig.verdict().0, s(51));
    }
}

// contract: P99
#[test]
fn no_ping_is_called_off_by_what_arrives() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, traffic(s(1000)).timeout(s(5)).max_missed(3));
        // After the miss at 25 s the next ping is on offer.
        let sink = rig.sink.clone();
        rig.at(s(22), move || sink.block());
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        rig.at(s(27), move || reader.handle_activity());
        rig.at(s(28), move || sink.unblock());
        rig.run_until(s(30));
        assert_eq!(rig.sink.pings(), [s(20), s(28)], "{path:?}");
        assert_eq!(rig.stats().answered(), 0, "{path:?}");
    }
}

// contract: P99
#[test]
fn a_pong_of_any_kind_answers_as_all_else_does() {
    each_surface(&traffic(s(1000)), |mut surface| {
        for ping in 1..4 {
            surface.run_until(s(20 * ping) + ms(5));
            surface.arrives(Bytes::new());
            surface.run_until(s(20 * ping) + ms(5));
            assert_eq!(surface.stats().answered(), ping, "{}", surface.name());
        }
        surface.run_until(s(79));
        assert_eq!(surface.pings(), [s(20), s(40), s(60)], "{}", surface.name());
    });
}

// contract: P99
#[test]
fn a_chatty_peer_that_never_pongs_is_found_out_after_max_unproven() {
    // The last ping that data answer leaves before the trust ends; the next one needs its pong.
    for (unproven, max_missed, verdict) in [(60, 1, 65), (60, 3, 75), (50, 1, 65), (41, 2, 70)] {
        let config = traffic(s(unproven)).timeout(s(5)).max_missed(max_missed);
        each_surface(&config, |mut surface| {
            for second in 1..verdict {
                surface.run_until(s(second));
                surface.message(false);
                surface.run_until(s(second));
            }
            let name = surface.name();
            assert_eq!(surface.verdict(), None, "{name} {unproven}");
            assert_eq!(surface.pings()[..3], [s(20), s(40), s(60)], "{name}");
            surface.run_until(s(verdict + 1));
            assert_eq!(surface.verdict(), Some(s(verdict)), "{name} {unproven}");
        });
    }
}

// contract: P99
#[test]
fn a_matching_pong_renews_the_trust_in_traffic() {
    let mut rig = Rig::new(Path::Slot, traffic(s(50)).timeout(s(5)));
    // Data come first, and answer; the pong that follows proves.
    rig.answer_after(s(2));
    for second in 1..400 {
        let reader = rig.reader.clone();
        rig.at(s(second), move || reader.handle_activity());
    }
    rig.run_until(s(399));
    rig.assert_alive();
    assert_eq!(rig.sink.pings().len(), 19);
    assert_eq!(rig.stats().unsolicited(), 0);
}

// contract: P99
#[test]
fn what_an_application_has_read_before_the_ping_does_not_answer_it_when_it_comes_back() {
    let mut kept = Kept::new(traffic(s(1000)));
    kept.read_once();
    kept.script.receive(Msg::Data(1));
    assert!(kept.read_once(), "and it is busy with that");
    // The writer's half sends the ping.
    for second in 1..=30 {
        kept.idle_until(s(second));
        assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    }
    assert_eq!(kept.script.pings(), [s(20)]);
    assert!(!kept.read_once());
    assert_eq!(kept.stats().answered(), 0, "it came before the ping");
    kept.script.receive(Msg::Data(2));
    assert!(kept.read_once());
    assert!(!kept.read_once());
    assert_eq!(kept.stats().answered(), 1);
}

// contract: P99
#[test]
fn from_activity_to_traffic_nothing_is_postponed_any_more() {
    each_steered(
        &exact().liveness(trusting(s(1000))),
        |mut surface, controller| {
            surface.run_until(s(5));
            surface.message(false);
            surface.run_until(s(5));
            let config = traffic(s(10)).build().expect("valid");
            controller.set_config(config).expect("it goes on");
            surface.run_until(s(15));
            surface.message(false);
            surface.run_until(s(26));
            // A KeepAlive tells of what it has read when it looks next, by the configuration of then.
            let postponed = surface.name() != "KeepAlive";
            let ping = if postponed { s(25) } else { s(20) };
            assert_eq!(surface.pings(), [ping], "{}", surface.name());
        },
    );
}

fn any_pong() -> ConfigBuilder {
    exact().liveness(Liveness::AnyPong)
}

// contract: P106
#[test]
fn a_mangled_pong_and_an_answer_measure_the_round_trip_of_the_only_ping() {
    each_surface(&any_pong(), |mut surface| {
        for (ping, rtt) in [(1, ms(70)), (2, ms(90))] {
            surface.run_until(s(20 * ping) + rtt);
            surface.arrives(Bytes::new());
            surface.run_until(s(20 * ping) + rtt);
            assert_eq!(
                surface.stats().latest_rtt(),
                Some(rtt),
                "{}",
                surface.name()
            );
        }
    });
    for liveness in [Liveness::Pong, Liveness::AnyPong, trusting(s(1000))] {
        let mut rig = Rig::new(Path::Slot, exact().liveness(liveness));
        rig.run_until(s(20) + ms(70));
        let sender = rig.reader.take();
        assert_eq!(
            sender.handle_answer(),
            Ok(PongKind::Accepted { ours: true })
        );
        assert_eq!(rig.stats().latest_rtt(), Some(ms(70)), "{liveness:?}");
    }
}

// contract: P106
#[test]
fn where_an_earlier_ping_has_no_answer_nothing_is_measured() {
    each_surface(&any_pong().timeout(s(5)).max_missed(3), |mut surface| {
        // The pong at 26 s may be that of 20 s, which was missed at 25 s.
        surface.run_until(s(26));
        assert_eq!(surface.pings(), [s(20), s(25)]);
        surface.arrives(Bytes::new());
        surface.run_until(s(26));
        let name = surface.name();
        assert_eq!(surface.stats().answered(), 1, "{name}");
        assert_eq!(surface.stats().latest_rtt(), None, "{name}");
        // The next is the only one again.
        surface.run_until(s(40) + ms(70));
        surface.arrives(Bytes::new());
        surface.run_until(s(40) + ms(70));
        assert_eq!(surface.stats().latest_rtt(), Some(ms(70)), "{name}");
    });
}

// contract: P106
#[test]
fn the_late_pong_of_the_earlier_ping_ends_the_doubt() {
    each_surface(&any_pong().timeout(s(5)).max_missed(3), |mut surface| {
        surface.run_until(s(26));
        let late = surface.payload(0);
        surface.arrives(late);
        surface.run_until(s(27));
        surface.arrives(Bytes::new());
        surface.run_until(s(27));
        let name = surface.name();
        assert_eq!(surface.stats().stale(), 1, "{name}");
        assert_eq!(surface.stats().latest_rtt(), Some(s(2)), "{name}");
    });
}

// contract: P106
#[test]
fn a_ping_that_was_written_off_leaves_the_same_doubt() {
    // Without a timeout, and by a pause.
    let mut rig = Rig::new(Path::Slot, any_pong().no_timeout());
    rig.run_until(s(41));
    rig.pong_at(s(41), "");
    rig.run_until(s(42));
    assert_eq!((rig.stats().answered(), rig.stats().missed()), (1, 1));
    assert_eq!(rig.stats().latest_rtt(), None);

    each_steered(&any_pong(), |mut surface, controller| {
        surface.run_until(s(21));
        controller.pause().expect("it goes on");
        controller.resume().expect("it goes on");
        if let Surface::Rig(_, rig) = &mut surface {
            rig.written_off = 1;
        }
        surface.run_until(s(42));
        surface.arrives(Bytes::new());
        surface.run_until(s(42));
        assert_eq!(surface.stats().answered(), 1, "{}", surface.name());
        assert_eq!(surface.stats().latest_rtt(), None, "{}", surface.name());
    });
}

// contract: P106
#[test]
fn activity_and_traffic_measure_nothing_and_the_pong_behind_them_does() {
    for liveness in [
        trusting(s(1000)),
        Liveness::Traffic {
            max_unproven: s(1000),
        },
    ] {
        each_path(|path| {
            let mut rig = Rig::new(path, exact().liveness(liveness));
            rig.pong_at(s(20) + ms(20), "mangled");
            rig.answer_after(ms(70));
            rig.run_until(s(20) + ms(50));
            assert_eq!(rig.stats().answered(), 1);
            assert_eq!(rig.stats().latest_rtt(), None);
            rig.run_until(s(21));
            assert_eq!(rig.stats().latest_rtt(), Some(ms(70)));
        });
    }
}
