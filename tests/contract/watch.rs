//! P. A heartbeat that only watches: it sends nothing, and silence is the verdict.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::unbounded;
use futures::{FutureExt, StreamExt};
use futures_pinger::{
    Config, ConfigBuilder, Error, HeartbeatState, Liveness, PingNowError, TimeoutPhase,
};

use crate::bare::Bare;
use crate::every_surface::{Surface, build, each_steered, each_surface};
use crate::socket::{Kept, Msg, Plain};
use crate::world::{Broken, NO_PINGS, Path, Rig, each_path, exact, ms, s};

/// Watches for anything.
fn watch() -> ConfigBuilder {
    Config::builder().granularity(Duration::ZERO).watch(s(30))
}

/// Watches for the peer's pings.
fn watch_pings() -> ConfigBuilder {
    Config::builder()
        .granularity(Duration::ZERO)
        .watch_pings(s(30))
}

/// What may arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
}

fn arrives(surface: &mut Surface, kind: Kind) {
    match kind {
        Kind::Data => surface.message(false),
        Kind::Ping => surface.message(true),
        Kind::Pong => surface.arrives(Bytes::from_static(b"unasked")),
    }
    surface.run_until(surface.now());
}

// contract: P100
#[test]
fn silence_from_the_start_is_a_verdict_and_nothing_but_the_close_frame_is_sent() {
    for (config, text) in [
        (watch(), "no sign of life for 30s"),
        (watch_pings(), "no ping received for 30s"),
    ] {
        each_surface(&config, |mut surface| {
            let name = surface.name();
            surface.run_until(s(30) - ms(1));
            assert_eq!(surface.verdict(), None, "{name}");
            assert_eq!(surface.state(), HeartbeatState::Idle, "{name}");
            surface.run_until(s(30));
            let (at, verdict) = surface.timed_out();
            assert_eq!(at, s(30), "{name}");
            assert_eq!(verdict.phase(), TimeoutPhase::Silence, "{name}");
            assert_eq!(verdict.elapsed(), s(30), "{name}");
            assert_eq!((verdict.missed(), verdict.answered()), (0, 0));
            assert!(verdict.close_sent(), "{name}");
            assert_eq!(verdict.to_string(), text, "{name}");
            assert_eq!(surface.pings(), NO_PINGS, "{name}");
            assert_eq!(surface.closes(), 1, "{name}");
            assert_eq!(surface.state(), HeartbeatState::Gone, "{name}");
        });
    }
}

// contract: P100
#[test]
fn whatever_arrives_ends_the_silence() {
    for kind in [Kind::Data, Kind::Ping, Kind::Pong] {
        each_surface(&watch(), |mut surface| {
            let name = surface.name();
            for second in [29, 45, 74, 75, 104] {
                surface.run_until(s(second));
                arrives(&mut surface, kind);
            }
            assert_eq!(surface.verdict(), None, "{name}: {kind:?}");
            assert_eq!(surface.pings(), NO_PINGS, "{name}");
            surface.run_until(s(200));
            assert_eq!(surface.verdict(), Some(s(134)), "{name}: {kind:?}");
        });
    }
    // An answer that cannot carry a payload is a message, too.
    let mut rig = Rig::new(Path::Slot, watch());
    let sender = rig.reader.take();
    rig.at(s(29), move || {
        let _ = sender.handle_answer();
        // Its drop would end the heartbeat.
        std::mem::forget(sender);
    });
    rig.run_until(s(200));
    assert_eq!(rig.verdict().0, s(59));
}

// contract: P100
#[test]
fn where_pings_are_watched_for_nothing_else_counts() {
    each_surface(&watch_pings(), |mut surface| {
        let name = surface.name();
        for second in 1..100 {
            surface.run_until(s(second));
            arrives(
                &mut surface,
                if second == 29 { Kind::Ping } else { Kind::Data },
            );
            if second % 3 == 0 && surface.verdict().is_none() {
                arrives(&mut surface, Kind::Pong);
            }
            if second == 58 {
                break;
            }
        }
        assert_eq!(surface.verdict(), None, "{name}");
        surface.run_until(s(59));
        let (at, verdict) = surface.timed_out();
        assert_eq!(
            (at, verdict.phase()),
            (s(59), TimeoutPhase::Silence),
            "{name}"
        );
    });
}

// contract: P100
#[test]
fn an_attached_reader_sees_the_peers_pings_and_what_it_has_not_read_is_no_silence() {
    let mut rig = Rig::new(Path::Slot, watch_pings());
    let (socket, incoming) = unbounded::<Result<Msg, Broken>>();
    let mut reader = rig.reader.take().attach(incoming, Plain);
    let mut read = |rig: &mut Rig, time, messages: &[Msg]| {
        rig.run_until(time);
        for message in messages {
            socket
                .unbounded_send(Ok(message.clone()))
                .expect("attached");
        }
        while reader.next().now_or_never().is_some() {}
    };
    let ping = Msg::Ping("peer's".into());
    read(&mut rig, s(20), &[Msg::Data(1), ping.clone(), Msg::Data(2)]);
    read(&mut rig, s(49), &[Msg::Data(3)]);
    rig.assert_alive();
    read(&mut rig, s(49), std::slice::from_ref(&ping));
    rig.run_until(s(78));
    rig.assert_alive();
    // The application takes a message, and leaves the rest for as long as it likes.
    for message in [Msg::Data(4), ping] {
        socket.unbounded_send(Ok(message)).expect("attached");
    }
    assert!(reader.next().now_or_never().is_some());
    rig.run_until(s(200));
    rig.assert_alive();
    while reader.next().now_or_never().is_some() {}
    rig.run_until(s(229));
    rig.assert_alive();
    rig.run_until(s(230));
    assert_eq!(rig.verdict().0, s(230));
}

// contract: P100
#[test]
fn messages_that_the_application_has_not_read_are_no_silence() {
    // Not by the grace for a stall.
    let mut kept = Kept::new(watch().stall_grace(false));
    kept.run_until(s(5));
    kept.at(s(20), |script| script.receive(Msg::Data(1)));
    // Not polled for ten times as long.
    kept.idle_until(s(300));
    kept.run_until(s(329));
    kept.assert_alive();
    assert_eq!(kept.messages(), [Msg::Data(1)]);
    kept.run_until(s(400));
    assert_eq!(kept.verdict().0, s(330));
}

// contract: P100
#[test]
fn the_writers_half_reads_for_a_reader_who_does_not() {
    // A live peer lives, however long nobody reads; and what is beyond the lookahead is no silence.
    for lookahead in [0, 1, 16] {
        let mut kept = Kept::with_lookahead(watch(), lookahead);
        for second in 0..600 {
            kept.idle_until(s(second));
            if second % 7 == 0 {
                kept.script.receive(Msg::Data(0));
            }
            assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "{second}");
        }
    }
    // A dead one is found.
    let mut kept = Kept::new(watch());
    let mut second = 0;
    while kept.poll_ready() == Poll::Ready(Ok(())) {
        second += 1;
        assert!(second < 70, "it is not found");
        kept.idle_until(s(second));
        if second < 10 {
            kept.script.receive(Msg::Data(0));
        }
    }
    assert!(second >= 39, "{second}");
    assert!(kept.script.pings().is_empty());
}

// The writer's half did not know of a message that its reader had just been given.
// contract: P100
#[test]
fn a_message_that_the_application_is_busy_with_is_no_silence_for_the_writer() {
    for config in [watch(), watch_pings()] {
        let mut kept = Kept::new(config);
        kept.run_until(s(29));
        kept.script.receive(Msg::Ping("peer's".into()));
        assert!(kept.read_once());
        for second in 29..=58 {
            kept.idle_until(s(second));
            assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "{second}");
        }
        for second in 59..100 {
            kept.idle_until(s(second));
            let _ = kept.poll_ready();
        }
        assert!(matches!(kept.poll_ready(), Poll::Ready(Err(_))));
    }
}

// contract: P100
#[test]
fn a_ping_that_is_kept_from_the_application_counts() {
    for config in [watch(), watch_pings()] {
        let mut kept = Kept::new(config).data_only();
        for second in [20, 45, 74] {
            kept.at(s(second), |script| {
                script.receive(Msg::Ping("peer's".into()));
            });
        }
        kept.run_until(s(104) - ms(1));
        kept.assert_alive();
        assert_eq!(kept.messages(), []);
        kept.run_until(s(110));
        assert_eq!(kept.verdict().0, s(104));
    }
}

// contract: P100
#[test]
fn a_local_stall_is_not_the_peers_silence() {
    each_path(|path| {
        let mut rig = Rig::new(path, watch());
        // What came meanwhile is read when it is over.
        rig.stall(s(25)..s(60));
        rig.pong_at(s(60), "unasked");
        rig.run_until(s(89));
        rig.assert_alive();
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(90));

        // And without a message the grace is bounded.
        let mut rig = Rig::new(path, watch());
        rig.stall(s(25)..s(60));
        rig.run_until(s(120));
        let (at, verdict) = rig.verdict();
        assert!(s(60) < at && at <= s(90), "{at:?}");
        assert!(verdict.lateness() >= s(30), "{verdict}");
        assert!(
            verdict.to_string().contains("(this side was late by"),
            "{verdict}"
        );
    });
    // Unless it is switched off.
    let mut rig = Rig::new(Path::Slot, watch().stall_grace(false));
    rig.stall(s(25)..s(60));
    rig.run_until(s(120));
    assert_eq!(rig.verdict().0, s(60));
}

// contract: P100
#[test]
fn a_flood_without_a_ping_cannot_put_the_verdict_off_for_ever() {
    let mut kept = Kept::new(watch_pings());
    kept.run_until(s(29));
    kept.script.flood();
    let mut read = 0_u32;
    kept.idle_until(s(31));
    while kept.read_once() && kept.read.last().is_some_and(|(_, item)| item.is_ok()) {
        read += 1;
        kept.read.clear();
        assert!(read < 200_000, "no verdict");
    }
    assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Silence);
    assert!(read >= 65_536, "{read}");
}

// contract: P100
#[test]
fn a_blocked_write_is_judged_where_nothing_can_be_read() {
    let config = watch().write_timeout(s(10));
    let mut kept = Kept::with_lookahead(config, 0);
    assert!(!kept.read_once());
    kept.script.receive(Msg::Data(1));
    kept.script.block_flush();
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(kept.start_send(Msg::Data(2)), Ok(()));
    // From the end of the time of silence on the write is on the clock.
    for second in 0..40 {
        kept.idle_until(s(second));
        assert_eq!(kept.poll_flush(), Poll::Pending, "{second}");
    }
    kept.idle_until(s(40));
    let Poll::Ready(Err(Error::Timeout(verdict))) = kept.poll_flush() else {
        panic!("no verdict")
    };
    assert_eq!(verdict.phase(), TimeoutPhase::Write);
    assert_eq!(verdict.elapsed(), s(10));
    assert!(!verdict.close_sent());
}

// contract: P100
#[test]
fn close_ends_the_watch_as_it_ends_pings() {
    for config in [watch(), watch_pings()] {
        let mut kept = Kept::new(config.closing_handshake(s(10)));
        kept.run_until(s(5));
        kept.script.receive(Msg::Close);
        kept.run_until(s(100));
        // The peer's close frame was answered by the socket; what is missing is the end.
        assert_eq!(kept.ended, Some(s(15)));
        assert_eq!(kept.script.pings(), NO_PINGS);
    }
}

// contract: P100
#[test]
fn ping_now_is_an_error_where_no_pings_are_sent() {
    each_steered(&watch(), |mut surface, controller| {
        let name = surface.name();
        assert_eq!(controller.ping_now(), Err(PingNowError::Watching), "{name}");
        surface.run_until(s(5));
        assert_eq!(controller.ping_now(), Err(PingNowError::Watching), "{name}");
        surface.run_until(s(20));
        assert_eq!(surface.pings(), NO_PINGS, "{name}");
        surface.run_until(s(100));
        assert_eq!(controller.ping_now(), Err(PingNowError::Closed), "{name}");
    });
    let mut bare = Bare::new(watch());
    let now = bare.instant();
    assert_eq!(bare.heartbeat.ping_now(now), Err(PingNowError::Watching));
    let mut kept = Kept::new(watch());
    let alive = kept.alive.as_mut().get_mut();
    assert_eq!(alive.ping_now(), Err(PingNowError::Watching));
    let text = PingNowError::Watching.to_string();
    assert_eq!(text, "the heartbeat only watches, and sends no pings");
}

// contract: P100
#[test]
fn a_pause_stops_the_watch_and_resume_begins_it_anew() {
    each_steered(&watch(), |mut surface, controller| {
        let name = surface.name();
        surface.run_until(s(20));
        controller.pause().expect("it goes on");
        surface.run_until(s(100));
        assert_eq!(surface.state(), HeartbeatState::Paused, "{name}");
        controller.resume().expect("it goes on");
        surface.run_until(s(129));
        assert_eq!(surface.verdict(), None, "{name}");
        surface.run_until(s(131));
        assert_eq!(surface.verdict(), Some(s(130)), "{name}");
    });
    // Another configuration does not end a pause.
    each_steered(&watch(), |mut surface, controller| {
        surface.run_until(s(20));
        controller.pause().expect("it goes on");
        for config in [exact(), watch(), exact()] {
            controller.set_config(build(config)).expect("it goes on");
            surface.run_until(surface.now() + s(50));
            assert_eq!(surface.state(), HeartbeatState::Paused);
        }
        controller.resume().expect("it goes on");
        surface.run_until(s(191));
        assert_eq!(surface.pings(), [s(190)], "{}", surface.name());
    });
    // Also before it has begun.
    each_steered(&watch(), |mut surface, controller| {
        controller.pause().expect("it goes on");
        controller.resume().expect("it goes on");
        surface.run_until(s(31));
        assert_eq!(surface.verdict(), Some(s(30)), "{}", surface.name());
    });
}

// contract: P100
#[test]
fn another_configuration_turns_pings_into_watching_and_back() {
    each_steered(&exact(), |mut surface, controller| {
        let name = surface.name();
        // A ping is out.
        surface.run_until(s(25));
        controller.set_config(build(watch())).expect("it goes on");
        if let Surface::Rig(_, rig) = &mut surface {
            rig.written_off = 1;
        }
        surface.run_until(s(54));
        assert_eq!(
            (surface.verdict(), surface.pings().len()),
            (None, 1),
            "{name}"
        );
        // Its pong is a message as any other.
        let payload = surface.payload(0);
        surface.arrives(payload);
        surface.run_until(s(60));
        let shorter = watch().watch(s(10));
        controller.set_config(build(shorter)).expect("it goes on");
        surface.run_until(s(63));
        assert_eq!(surface.verdict(), None, "{name}");
        controller.set_config(build(exact())).expect("it goes on");
        surface.run_until(s(102));
        assert_eq!(surface.pings(), [s(20), s(83)], "{name}");
        surface.run_until(s(104));
        let (at, verdict) = surface.timed_out();
        assert_eq!(
            (at, verdict.phase()),
            (s(103), TimeoutPhase::Pong),
            "{name}"
        );
    });
    // A time that has passed already is judged one slack later.
    each_steered(&watch(), |mut surface, controller| {
        surface.run_until(s(20));
        let shorter = watch().watch(s(10));
        controller.set_config(build(shorter)).expect("it goes on");
        surface.run_until(s(22));
        let (at, _) = surface.timed_out();
        assert_eq!(at, s(21), "{}", surface.name());
    });
}

// The close frame was put into a sink that had not flushed a ping from before.
// contract: P100
#[test]
fn the_close_frame_waits_for_a_ping_that_was_in_the_sink_before() {
    for flushed in [true, false] {
        let mut rig = Rig::new(Path::Stream, exact());
        let controller = rig.controller();
        rig.written_off = 1;
        rig.sink.block_flush();
        rig.run_until(s(25));
        controller.set_config(build(watch())).expect("it goes on");
        rig.run_until(s(55));
        rig.assert_alive();
        if flushed {
            rig.sink.unblock_flush();
        }
        rig.run_until(s(60));
        let (at, verdict) = rig.verdict();
        assert_eq!(verdict.close_sent(), flushed);
        assert_eq!(at, if flushed { s(55) } else { s(56) });
    }
}

// contract: P100
#[test]
fn what_arrives_wakes_nobody() {
    for path in [Path::Slot, Path::Set] {
        let mut rig = Rig::new(path, watch());
        rig.run_until(s(1));
        let wakes = rig.wakes();
        for _ in 0..1000 {
            rig.reader.handle_activity();
            rig.reader.handle_ping();
            rig.reader.handle_pong("unasked");
        }
        rig.run_until(s(1));
        assert_eq!(rig.wakes(), wakes, "{path:?}");
    }
}

// contract: P100
#[test]
fn the_bound_is_the_time_and_two_steps_and_the_verdict_keeps_it() {
    for step in [Duration::ZERO, ms(100), ms(250)] {
        let config = Config::builder().watch(s(30)).granularity(step);
        let bound = s(30) + 2 * step;
        assert_eq!(build(config.clone()).detection_bound(), Some(bound));
        each_surface(&config, |mut surface| {
            surface.run_until(s(7) + ms(13));
            arrives(&mut surface, Kind::Data);
            surface.run_until(s(60));
            let at = surface.verdict().expect("a verdict");
            let from = s(7) + ms(13);
            assert!(
                from + s(30) <= at && at <= from + bound,
                "{}",
                surface.name()
            );
        });
    }
    let never = build(Config::builder().watch(Duration::MAX));
    assert_eq!(never.detection_bound(), None);
    each_surface(&Config::builder().watch(Duration::MAX), |mut surface| {
        surface.run_until(s(1_000_000));
        assert_eq!(surface.verdict(), None);
    });
}

// contract: P100
#[test]
fn options_about_pings_are_refused_by_name_beside_watch() {
    let refused = [
        (watch().interval(s(5)), "interval"),
        (watch().initial_delay(s(5)), "initial_delay"),
        (watch().initial_delay_at_random(), "initial_delay_at_random"),
        (watch().timeout(s(5)), "timeout"),
        (
            watch_pings().adaptive_timeout(s(1)..=s(5)),
            "adaptive_timeout",
        ),
        (watch().no_timeout(), "no_timeout"),
        (watch_pings().max_missed(2), "max_missed"),
        (watch().jitter(0.0), "jitter"),
        (watch().liveness(Liveness::Pong), "liveness"),
        (watch().watch(Duration::ZERO), "watch"),
        (watch().watch_pings(Duration::ZERO), "watch_pings"),
    ];
    for (builder, option) in refused {
        let error = builder.build().expect_err(option);
        assert_eq!(error.option(), option, "{error}");
    }
    let error = watch().interval(s(5)).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid interval 5s: must not be set beside watch, which sends no pings"
    );
    // What is about writes, stalls and the end is not.
    let config = build(
        watch()
            .write_timeout(s(3))
            .close_timeout(s(2))
            .closing_handshake(s(4))
            .stall_grace(false)
            .no_close(),
    );
    assert_eq!((config.watch(), config.watch_pings()), (Some(s(30)), None));
    assert_eq!(config.write_timeout(), s(3));
    assert_eq!((config.interval(), config.timeout()), (Duration::MAX, None));
    let config = build(watch().watch_pings(s(7)));
    assert_eq!((config.watch(), config.watch_pings()), (None, Some(s(7))));
    assert_eq!(build(watch()).write_timeout(), s(30));
}

// contract: P100
#[test]
fn before_the_first_poll_another_configuration_begins_no_silence() {
    let mut kept = Kept::new(exact());
    let controller = kept.alive.controller();
    kept.idle_until(s(5));
    let config = build(watch().stall_grace(false));
    controller.set_config(config).expect("it goes on");
    kept.idle_until(s(28));
    kept.run_until(s(58) - ms(1));
    assert_eq!(kept.ended, None);
    kept.run_until(s(58));
    assert_eq!(kept.ended, Some(s(58)));
}
