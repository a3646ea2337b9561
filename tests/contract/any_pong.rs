//! O. A backlog under `AnyPong`: one rule on every surface.

use bytes::Bytes;
use futures::StreamExt;
use futures_pinger::{ConfigBuilder, KeepAlive, Liveness, PongKind};

use crate::bare::Bare;
use crate::every_surface::{Surface, build, counters, each_surface};
use crate::socket::{Kept, Msg, Plain};
use crate::world::{Path, Rig, World, exact, ms, s};

fn any_pong() -> ConfigBuilder {
    exact().liveness(Liveness::AnyPong)
}

// contract: O96
#[test]
fn with_any_pong_a_pong_behind_a_backlog_answers_the_ping() {
    // A peer that answers by an empty pong after 5 ms, and 80 messages that are there just before
    // each ping is due; the app takes 5 ms for each.
    let world = World::new();
    let (socket, script) = world.socket::<Msg, _>(Plain);
    let (clock, peer) = (world.clone(), script.clone());
    script.on_wire(move |message| {
        if let Msg::Ping(_) = message {
            let peer = peer.clone();
            clock.at(clock.elapsed() + ms(5), move || {
                peer.receive(Msg::Pong(Bytes::new()));
            });
        }
    });
    for ping in 1..15 {
        let burst = script.clone();
        world.at(s(20 * ping) - ms(20), move || {
            for number in 0..80 {
                burst.receive(Msg::Data(number));
            }
        });
    }
    let alive = KeepAlive::with_protocol(socket, Plain, build(any_pong()));
    let mut alive = alive.with_timer(world.timer());
    let controller = alive.controller();
    let clock = world.clone();
    world.spawn(async move {
        while let Some(message) = alive.next().await {
            message.expect("a live peer");
            clock.sleep(ms(5)).await;
        }
    });
    world.run_until(s(299));
    let pings = script.pings();
    assert_eq!(pings.len(), 14);
    for (ping, at) in (1..).zip(pings) {
        // None out of schedule; and none much later than it.
        assert!(s(20 * ping) <= at && at < s(20 * ping) + ms(500), "{at:?}");
    }
    assert_eq!(controller.stats().answered(), 14);
    assert!(controller.is_alive());
}

// contract: O96
#[test]
fn with_any_pong_strays_put_a_verdict_off_by_one_ping_at_the_most() {
    // However many: within one look, and over many of them.
    for strays in [1, 100, 200, 5_000] {
        each_surface(&any_pong(), |mut surface| {
            if let Surface::KeepAlive(_) | Surface::Rig(Path::Stream, _) = surface {
                // They are there when the ping leaves.
                match &surface {
                    Surface::KeepAlive(kept) => kept.at(s(20), move |script| {
                        for _ in 0..strays {
                            script.receive(Msg::Pong("stray".into()));
                        }
                    }),
                    Surface::Rig(_, rig) => {
                        let reader = rig.reader.clone();
                        rig.at(s(20), move || {
                            for _ in 0..strays {
                                reader.handle_pong("stray");
                            }
                        });
                    }
                    Surface::Bare(_) => unreachable!("it reads nothing"),
                }
            } else {
                // They are told one by one: before the ping none counts, after it the first.
                surface.run_until(s(20) - ms(1));
                for _ in 0..strays {
                    surface.arrives("stray".into());
                }
                surface.run_until(s(20) + ms(1));
                assert_eq!(surface.stats().answered(), 0);
                for _ in 0..strays {
                    surface.arrives("stray".into());
                }
            }
            surface.run_until(s(200));
            let name = surface.name();
            let verdict = surface.verdict().expect("a verdict");
            assert!(
                verdict == s(40) || verdict == s(60),
                "{name}, {strays}: {verdict:?}"
            );
            // No ping is out of schedule for it.
            let pings = [s(20), s(40)];
            let expected = if verdict == s(40) { 1 } else { 2 };
            assert_eq!(surface.pings(), pings[..expected], "{name}, {strays}");
        });
    }
}

// contract: O96
#[test]
fn with_any_pong_the_rule_is_one_on_all_surfaces() {
    // Read in full before the ping: nothing of it answers. Unread when the ping leaves: it answers.
    let mut bare = Bare::new(any_pong());
    bare.run_until(s(20) - ms(1));
    bare.now = s(20);
    let now = bare.instant();
    // There is more to read.
    bare.heartbeat.handle_backlog(64, now);
    bare.drive();
    assert_eq!(bare.times(), [s(20)]);
    assert_eq!(
        bare.heartbeat.handle_pong(b"stray", now),
        PongKind::Accepted { ours: true }
    );

    let mut rig = Rig::new(Path::Stream, any_pong());
    let reader = rig.reader.clone();
    rig.at(s(20), move || {
        for _ in 0..200 {
            reader.handle_pong("stray");
        }
    });
    rig.run_until(s(21));
    assert_eq!(counters(rig.stats()), [1, 1, 0, 0, 199]);

    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, any_pong());
        rig.run_until(s(20) - ms(1));
        assert_eq!(rig.reader.send("stray"), Ok(PongKind::Unsolicited));
        rig.run_until(s(20));
        assert_eq!(
            rig.reader.send("stray"),
            Ok(PongKind::Accepted { ours: true })
        );
        assert_eq!(rig.reader.send("stray"), Ok(PongKind::Unsolicited));
    }
}

// contract: O96
#[test]
fn with_any_pong_a_live_peer_lives_on_an_endless_firehose() {
    let mut kept = Kept::new(any_pong());
    let (world, peer) = (kept.world.clone(), kept.script.clone());
    kept.script.on_wire(move |message| {
        if let Msg::Ping(_) = message {
            let peer = peer.clone();
            world.at(world.elapsed() + ms(3), move || {
                peer.receive(Msg::Pong(Bytes::new()));
            });
        }
    });
    kept.script.flood();
    let mut now = s(0);
    while now < s(130) {
        assert!(kept.read_once(), "it has ended at {now:?}");
        now += ms(1);
        while kept.world.step(now) {}
    }
    kept.assert_alive();
    assert_eq!(kept.script.pings().len(), 6);
    assert_eq!(kept.stats().answered(), 6);
}
