//! A heartbeat beside the readers of its pongs, and those that steer it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures_pinger::{Config, Error, Frame, PongKind, PongSender, ProbeError, Stopped, pinger};
use loom::thread;

use crate::parts::{Hand, Peer, Task, block_on};
use crate::rounds::{Queue, at_once, build, check, join_all};
use crate::wire::{Message, Plain, Wire};

/// Answers the pings of the queue until it is closed. Returns how many answers were taken as such.
fn answer(pings: &Queue<Bytes>, pongs: &PongSender) -> u64 {
    let mut matched = 0;
    while let Some(ping) = pings.pop() {
        match pongs.handle_pong(&ping) {
            Ok(PongKind::Matched { .. }) => matched += 1,
            // The next ping was out before the pong of this one came in, and may have its answer, too.
            Ok(kind) => assert!(matches!(kind, PongKind::Stale | PongKind::Unsolicited)),
            // A verdict has fallen.
            Err(_) => {}
        }
        pongs.handle_ping();
    }
    matched
}

/// Nine threads: the heartbeat, two that answer the pings, one with what answers none, two probes, the orders, the
/// timer, and one that waits for these before it ends the pongs. The heartbeat ends then, or by a verdict.
fn with_all_at_once(config: &Config, may_die: bool) {
    let (hand, pings) = (Hand::new(), Queue::new());
    let sent = pings.clone();
    let (pongs, heartbeat) = pinger(Peer(move |ping| sent.push(ping)), config.clone());
    let mut heartbeat = heartbeat.with_timer(hand.timer());
    let controller = heartbeat.controller();
    let pongs = Arc::new(pongs);

    let answering = [(), ()].map(|()| {
        let (pings, pongs) = (pings.clone(), Arc::clone(&pongs));
        thread::spawn(move || answer(&pings, &pongs))
    });
    let straying = {
        let (pongs, steering) = (Arc::clone(&pongs), controller.clone());
        thread::spawn(move || {
            for _ in 0..2 {
                let stray = pongs
                    .handle_pong(b"nobody's")
                    .unwrap_or(PongKind::Unsolicited);
                assert_eq!(stray, PongKind::Unsolicited);
                // A probe that nobody waits for any more.
                let mut probe = steering.probe(Duration::MAX);
                let _ = Task::new().poll(|cx| Pin::new(&mut probe).poll(cx));
            }
        })
    };
    drop(pongs);
    let probing = [(), ()].map(|()| {
        let controller = controller.clone();
        thread::spawn(move || {
            let probed = block_on(controller.probe(Duration::MAX));
            let dead = [Err(ProbeError::Closing), Err(ProbeError::Ended)];
            assert!(probed.is_ok() || may_die && dead.contains(&probed));
        })
    });
    let ordering = {
        let (controller, config) = (controller.clone(), config.clone());
        thread::spawn(move || {
            let mut done = controller.ping_now().is_ok();
            done &= controller.set_config(config).is_ok();
            let probed = block_on(controller.probe(Duration::MAX));
            done &= probed.is_ok();
            assert!(done || may_die);
        })
    };
    let clock = thread::spawn(move || {
        for _ in 0..3 {
            hand.fire();
        }
    });
    let ending = thread::spawn(move || {
        let [one, two] = probing;
        join_all([straying, one, two, ordering, clock]);
        // Those that answer drop the sender.
        pings.close();
    });

    let ended = block_on(heartbeat);
    match ended {
        Ok(stopped) => assert_eq!(stopped, Stopped::PongsEnded),
        Err(error) => assert!(may_die && matches!(error, Error::Timeout(_))),
    }
    ending.join().expect("no panic");
    let matched = answering.map(|thread| thread.join().expect("no panic"));
    let stats = controller.stats();
    assert_eq!(stats.answered(), matched.iter().sum());
    assert!(stats.answered() + stats.stale() <= stats.sent());
    assert!(!controller.is_alive());
}

#[test]
fn a_heartbeat_hears_of_all_at_once() {
    check(|| with_all_at_once(&build(at_once().no_timeout()), false));
}

#[test]
fn a_heartbeat_that_judges_hears_of_all_at_once() {
    check(|| with_all_at_once(&build(at_once().timeout(Duration::from_secs(5))), true));
}

/// Seven threads: the heartbeat, one that answers, three probes, the timer, and the orders: a pause, and what goes on
/// after it. Each probe is answered or told of the pause, and one that is asked for after that is answered.
#[test]
fn a_heartbeat_goes_on_after_a_pause_beside_probes() {
    check(|| {
        let (hand, pings) = (Hand::new(), Queue::new());
        let sent = pings.clone();
        let config = build(at_once().no_timeout());
        let (pongs, heartbeat) = pinger(Peer(move |ping| sent.push(ping)), config);
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let answering = {
            let pings = pings.clone();
            thread::spawn(move || answer(&pings, &pongs))
        };
        let probing = [(), (), ()].map(|()| {
            let controller = controller.clone();
            thread::spawn(move || {
                let probed = block_on(controller.probe(Duration::MAX));
                assert!(matches!(probed, Ok(_) | Err(ProbeError::Paused)));
            })
        });
        let clock = thread::spawn(move || {
            for _ in 0..2 {
                hand.fire();
            }
        });
        let ordering = thread::spawn(move || {
            controller.pause().expect("nobody has stopped it");
            controller.resume().expect("nobody has stopped it");
            let probed = block_on(controller.probe(Duration::MAX));
            assert!(probed.is_ok());
            join_all(probing);
            controller.stop().expect("nobody has stopped it");
        });
        assert_eq!(block_on(heartbeat), Ok(Stopped::Requested));
        pings.close();
        join_all([ordering, clock]);
        answering.join().expect("no panic");
    });
}

/// Six threads: the heartbeat, which judges, its reader with the stream of a socket, one that sends data to it, a
/// probe, the timer, and one that ends the stream. The peer answers each ping at once.
#[test]
fn a_heartbeat_and_its_attached_reader_hear_of_each_other() {
    check(|| {
        let (hand, wire) = (Hand::new(), Wire::new());
        let peer = {
            let wire = wire.clone();
            Peer(move |ping| wire.send(Message::Frame(Frame::Pong(ping))))
        };
        let config = build(at_once().timeout(Duration::from_secs(5)));
        let (pongs, heartbeat) = pinger(peer, config);
        let mut heartbeat = heartbeat.with_timer(hand.timer());
        let controller = heartbeat.controller();
        let mut reader = pongs.attach(wire.clone(), Plain);
        let reading = thread::spawn(move || {
            let task = Task::new();
            let (mut pongs, mut data) = (0, Vec::new());
            while let Some(message) = task.run(|cx| Pin::new(&mut reader).poll_next(cx)) {
                match message.expect("it does not fail") {
                    Message::Frame(_) => pongs += 1,
                    Message::Data(number) => data.push(number),
                }
            }
            (pongs, data)
        });
        let sending = {
            let wire = wire.clone();
            thread::spawn(move || {
                for data in 0..3 {
                    wire.send(Message::Data(data));
                }
            })
        };
        let probing = thread::spawn(move || {
            let probed = block_on(controller.probe(Duration::MAX));
            let dead = [Err(ProbeError::Closing), Err(ProbeError::Ended)];
            assert!(probed.is_ok() || dead.contains(&probed));
        });
        let clock = thread::spawn(move || {
            for _ in 0..4 {
                hand.fire();
            }
        });
        let ending = thread::spawn(move || {
            join_all([sending, probing, clock]);
            wire.end();
        });
        let ended = block_on(heartbeat);
        join_all([ending]);
        let (pongs, data) = reading.join().expect("no panic");
        assert_eq!(data, [0, 1, 2]);
        match ended {
            // Each pong was the heartbeat's.
            Ok(stopped) => assert_eq!((stopped, pongs), (Stopped::PongsEnded, 0)),
            Err(error) => assert!(matches!(error, Error::Timeout(_))),
        }
    });
}
