//! D. Deadlines.

use std::time::Duration;

use futures_pinger::{Config, Frame, Heartbeat, Liveness, Output, PongKind, Verdict};

use crate::bare::Bare;
use crate::world::{Path, Rig, World, each_path, exact, ms, s};

// contract: D24
#[test]
fn silence_is_a_verdict_exactly_at_flush_plus_timeout() {
    each_path(|path| {
        let timeout = Duration::from_nanos(12_345_678_901);
        let mut rig = Rig::new(path, exact().timeout(timeout));
        rig.run_until(s(20) + timeout - Duration::from_nanos(1));
        rig.assert_alive();
        assert_eq!(rig.sink.closes(), []);
        rig.run_until(s(20) + timeout);
        let (at, verdict) = rig.verdict();
        assert_eq!(at, s(20) + timeout);
        assert_eq!(verdict.elapsed(), timeout);
    });
}

// contract: D25
#[test]
fn a_pong_in_the_same_poll_as_the_deadline_wins() {
    each_path(|path| {
        for grace in [true, false] {
            let mut rig = Rig::new(path, exact().stall_grace(grace));
            rig.answer(|ping| (ping == 0).then_some(s(20)));
            rig.run_until(s(40));
            rig.assert_alive();
            assert_eq!(rig.stats().answered(), 1);
            assert_eq!(rig.stats().late_wakes(), 0, "it was on time");
        }
    });
}

// contract: D26
#[test]
fn so_many_misses_in_a_row_make_the_verdict() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(5)).max_missed(3));
        rig.run_until(s(100));
        let (at, verdict) = rig.verdict();
        assert_eq!(
            rig.sink.pings(),
            [s(20), s(25), s(30)],
            "a miss pings at once"
        );
        assert_eq!((at, verdict.missed()), (s(35), 3));
    });
}

// contract: D26
#[test]
fn one_answer_resets_the_misses() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().timeout(s(5)).max_missed(3));
        // Two of three are missed, for ever.
        rig.answer(|ping| (ping % 3 == 2).then_some(s(1)));
        rig.run_until(s(4000));
        rig.assert_alive();
        assert_eq!(
            rig.sink.pings()[..6],
            [s(20), s(25), s(30), s(40), s(45), s(50)]
        );
        let stats = rig.stats();
        assert!(stats.missed() > 300);
        assert_eq!(stats.missed() / 2, stats.answered());
    });
}

// contract: D26
#[test]
fn an_extra_ping_after_a_miss_leaves_the_grid_where_it_is() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact().interval(s(20)).timeout(s(15)).max_missed(2));
        rig.answer(|ping| (ping != 0).then_some(s(10)));
        rig.run_until(s(81));
        // Missed at 35 s, answered at 45 s: the ping due at 40 s follows, and then the grid.
        assert_eq!(rig.sink.pings(), [s(20), s(35), s(45), s(60), s(80)]);
    });
}

// contract: D27
#[test]
fn after_the_verdict_a_pong_changes_nothing_and_nothing_is_sent() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.sink.block_flush();
        let (sink, reader) = (rig.sink.clone(), rig.reader.clone());
        let unblock = rig.sink.clone();
        rig.at(s(21), move || unblock.unblock_flush());
        let block = rig.sink.clone();
        rig.at(s(22), move || block.block_flush());
        // The verdict falls at 41 s, the close frame is stuck, the pong comes.
        rig.at(s(41) + ms(500), move || reader.handle_pong(sink.payload(0)));
        rig.run_until(s(200));
        let (at, verdict) = rig.verdict();
        assert_eq!((at, verdict.close_sent()), (s(42), false));
        assert!(matches!(
            rig.sink.frames()[..],
            [(_, Frame::Ping(_)), (_, Frame::Close(_))]
        ));
    });
}

// contract: D27
#[test]
fn a_pong_while_the_close_frame_is_on_its_way_leaves_the_numbers_of_the_verdict_alone() {
    let mut bare = Bare::new(exact().max_missed(2));
    bare.run_until(s(50));
    bare.ready = false;
    bare.run_until(s(60));
    assert!(bare.heartbeat.is_closing());
    let answers = [bare.pong_of(0), bare.pong_of(1)];
    assert_eq!(answers, [PongKind::Stale; 2]);
    bare.run_until(s(70));
    let (at, verdict) = bare.timed_out();
    assert_eq!((at, verdict.elapsed()), (s(61), s(20)));
    assert_eq!((verdict.missed(), verdict.answered()), (2, 0));
    assert_eq!(bare.stats().stale(), 2);
}

// contract: D28
#[test]
fn the_longest_durations_mean_never_and_panic_nowhere() {
    let forever = Duration::MAX;
    each_path(|path| {
        let all = Config::builder()
            .interval(forever)
            .initial_delay(forever)
            .timeout(forever)
            .write_timeout(forever)
            .close_timeout(forever)
            .liveness(Liveness::Activity {
                max_unproven: forever,
            })
            .jitter(1.0)
            .granularity(forever);
        let mut rig = Rig::new(path, all);
        rig.run_until(s(1_000_000));
        rig.assert_alive();
        assert_eq!(rig.sink.frames(), []);

        // A ping, and then never.
        let once = exact()
            .initial_delay(s(1))
            .interval(forever)
            .timeout(forever);
        let mut rig = Rig::new(path, once.write_timeout(forever));
        rig.run_until(s(1_000_000));
        rig.assert_alive();
        assert_eq!(rig.sink.pings(), [s(1)]);

        // Without a sample the adaptive timeout is the range's end.
        let range = exact().adaptive_timeout(s(1)..=forever);
        let mut rig = Rig::new(path, range.max_missed(u32::MAX));
        rig.run_until(s(1_000_000));
        rig.assert_alive();
        assert_eq!(rig.sink.pings(), [s(20)]);

        // A close frame that may take for ever.
        let mut rig = Rig::new(path, exact().close_timeout(forever));
        rig.answer(|_| None);
        let sink = rig.sink.clone();
        rig.at(s(30), move || sink.block());
        rig.run_until(s(1_000_000));
        rig.assert_alive();
    });
}

// contract: F43
#[test]
fn a_clock_that_goes_backwards_is_harmless() {
    let world = World::new();
    let at = |seconds| world.instant(s(1_000_000) + s(seconds));
    let before = world.instant(Duration::ZERO);
    let mut heartbeat = Heartbeat::new(exact().build().expect("valid"), at(0));

    // Long before the start: nothing is due, and the next instant is the same.
    assert_eq!(heartbeat.poll_output(before), Output::Wait(Some(at(20))));
    heartbeat.handle_timeout(before);
    assert_eq!(heartbeat.poll_output(at(20)), Output::Ping);
    let Some(Frame::Ping(payload)) = heartbeat.transmit(at(20)) else {
        panic!("a ping is due");
    };
    // Flushed, by a clock that has jumped back; no deadline is early by it.
    heartbeat.handle_sent(at(10));
    heartbeat.handle_timeout(before);
    heartbeat.handle_timeout(at(29));
    assert!(matches!(heartbeat.poll_output(at(29)), Output::Wait(_)));
    // The pong comes "before" its ping.
    let rtt = Duration::ZERO;
    let kind = heartbeat.handle_pong(&payload, at(5));
    assert_eq!(kind, PongKind::Matched { rtt });
    heartbeat.ping_now(before).expect("it goes on");
    heartbeat.pause(before);
    heartbeat.resume(before);
    heartbeat.set_config(Config::default(), before);
    heartbeat.handle_activity(before);
    heartbeat.handle_backlog(1, before);
    assert!(!matches!(heartbeat.poll_output(at(5)), Output::Done(_)));
    heartbeat.stop();
    assert_eq!(
        heartbeat.poll_output(before),
        Output::Done(Verdict::Requested)
    );
}

// contract: F43
#[test]
fn timers_that_are_early_make_nothing_early() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.answer_after(ms(10));
        rig.world.early_timers(ms(3));
        rig.run_until(s(100));
        rig.assert_alive();
        assert_eq!(
            rig.sink.pings(),
            [s(20), s(40), s(60), s(80), s(100)],
            "never early"
        );

        let mut rig = Rig::new(path, exact());
        rig.world.early_timers(ms(3));
        rig.run_until(s(100));
        assert_eq!(rig.verdict().0, s(40), "{path:?}");
    });
}

// contract: D28
#[test]
fn a_timeout_of_a_nanosecond_works() {
    let mut rig = Rig::new(Path::Slot, exact().timeout(Duration::from_nanos(1)));
    rig.run_until(s(30));
    assert_eq!(rig.verdict().0, s(20) + Duration::from_nanos(1));
}

// contract: F43
#[test]
fn a_clock_that_stands_still_under_a_timer_that_fires_at_once_does_not_hang_the_poll() {
    use futures::FutureExt;
    use futures_test::task::{new_count_waker, noop_context};

    let frozen = World::new().clock();
    let config = exact().build().expect("valid");
    let (pongs, pinger) = futures_pinger::pinger(futures::sink::drain(), config);
    let timer = futures_pinger::from_fn(|_| std::future::ready(())).with_clock(frozen);
    let mut pinger = pinger.with_timer(timer);
    let (waker, wakes) = new_count_waker();
    for polls in 1..100 {
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(pinger.poll_unpin(&mut cx).is_pending());
        assert_eq!(wakes.get(), polls, "it looks again, after everybody else");
    }
    drop(pongs);
    assert!(pinger.poll_unpin(&mut noop_context()).is_ready());
}
