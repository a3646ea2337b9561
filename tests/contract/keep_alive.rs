//! I. `KeepAlive`, in virtual time; over real sockets it is in the package `adapters`.

use std::task::Poll;
use std::time::Duration;

use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use futures_pinger::{Error, HeartbeatState, Liveness, TimeoutPhase};

use crate::socket::{Kept, Msg, Script};
use crate::world::{Broken, NO_PINGS, exact, ms, s};

// contract: I54
#[test]
fn data_passes_both_ways_in_order_with_pings_in_between() {
    let mut kept = Kept::new(exact());
    // Some of it while a ping is out.
    kept.answer_after(ms(250));
    for number in 0..1000_u32 {
        let at = ms(100) * number;
        kept.at(at, move |script| script.receive(Msg::Data(number)));
        kept.run_until(at);
        kept.send(Msg::Data(number));
    }
    kept.assert_alive();
    let expected: Vec<_> = (0..1000).collect();
    assert_eq!(kept.script.data(), expected);
    let received = kept.messages();
    assert_eq!(
        received,
        expected.iter().map(|n| Msg::Data(*n)).collect::<Vec<_>>()
    );
    assert_eq!(kept.script.pings(), [s(20), s(40), s(60), s(80)]);
    assert_eq!(kept.stats().answered(), 4);
}

// contract: I55
#[test]
fn our_pongs_are_consumed_and_every_other_message_is_passed_on() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    let others = [
        Msg::Pong("not ours".into()),
        Msg::Pong("".into()),
        Msg::Ping("the peer's".into()),
        Msg::Data(1),
    ];
    for (second, message) in (1..).zip(others.clone()) {
        kept.at(s(10 * second), move |script| script.receive(message));
    }
    kept.run_until(s(45));
    assert_eq!(kept.messages(), others);
    assert_eq!(
        (kept.stats().answered(), kept.stats().unsolicited()),
        (2, 2)
    );

    // A pong that comes late is ours all the same; one that comes twice is not.
    let mut kept = Kept::new(exact().timeout(s(5)).max_missed(2));
    kept.run_until(s(26));
    let Msg::Ping(payload) = kept.script.sent()[0].1.clone() else {
        panic!("a ping")
    };
    kept.script.receive(Msg::Pong(payload.clone()));
    kept.run_until(s(27));
    assert_eq!((kept.messages(), kept.stats().stale()), (vec![], 1));
    kept.script.receive(Msg::Pong(payload.clone()));
    kept.run_until(s(28));
    assert_eq!(kept.messages(), [Msg::Pong(payload)]);
}

// The heartbeat ended with the close frame, and the answer to a ping that was out came as a surprise
// to the user.
// contract: I55
#[test]
fn our_pongs_are_consumed_after_the_close_frame_too() {
    let pong = |kept: &Kept| match &kept.script.sent()[0].1 {
        Msg::Ping(payload) => Msg::Pong(payload.clone()),
        other => panic!("{other:?}"),
    };
    let mut kept = Kept::new(exact());
    kept.run_until(s(21));
    kept.send(Msg::Close);
    let ours = pong(&kept);
    kept.script.receive(ours.clone());
    kept.script.receive(Msg::Pong("not ours".into()));
    kept.script.receive(ours.clone());
    kept.run_until(s(22));
    assert_eq!(
        kept.messages(),
        [Msg::Pong("not ours".into()), ours],
        "but once"
    );

    // While our own close frame is on its way.
    let mut kept = Kept::new(exact());
    kept.run_until(s(39));
    kept.script.block();
    kept.run_until(s(40));
    let ours = pong(&kept);
    kept.script.receive(ours);
    kept.run_until(s(50));
    assert_eq!(kept.messages(), []);
    assert_eq!(kept.verdict().0, s(41));
}

// contract: I55
#[test]
fn by_policy_a_pong_that_answers_is_consumed_and_data_is_not() {
    let mut kept = Kept::new(exact().liveness(Liveness::AnyPong));
    kept.at(s(21), |script| script.receive(Msg::Pong("".into())));
    kept.at(s(22), |script| script.receive(Msg::Pong("".into())));
    kept.run_until(s(23));
    assert_eq!(kept.messages(), [Msg::Pong("".into())], "the second");
    assert_eq!(kept.stats().answered(), 1);

    let unproven = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut kept = Kept::new(exact().liveness(unproven));
    kept.at(s(21), |script| {
        script.receive(Msg::Pong("the user's".into()));
    });
    kept.run_until(s(23));
    assert_eq!(kept.messages().len(), 1);
    assert_eq!(kept.stats().answered(), 1);
}

// contract: B18
#[test]
fn activity_is_what_is_read_and_not_what_is_sent() {
    let unproven = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut kept = Kept::new(exact().liveness(unproven));
    for second in [5, 12, 31] {
        kept.at(s(second), |script| script.receive(Msg::Data(0)));
    }
    kept.run_until(s(40));
    kept.send(Msg::Data(1));
    kept.run_until(s(60));
    assert_eq!(kept.script.pings(), [s(51)]);
    kept.run_until(s(100));
    assert_eq!(kept.verdict().0, s(71));
}

// contract: I56
#[test]
fn a_ping_may_take_the_readiness_that_the_user_was_promised() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    kept.run_until(s(10));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.run_until(s(21));
    assert_eq!(kept.script.pings(), [s(20)], "the ping goes out");
    // The promise holds: the message is taken, and follows the ping.
    assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
    assert_eq!(kept.poll_flush(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.data(), [1]);
    kept.send(Msg::Data(2));
    kept.run_until(s(30));
    kept.assert_alive();
    assert_eq!(kept.script.data(), [1, 2]);
}

// contract: I56
#[test]
fn a_held_message_goes_first_in_each_flush_and_close_and_holds_off_the_next() {
    let holding = || {
        let mut kept = Kept::new(exact());
        kept.run_until(s(10));
        assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
        kept.run_until(s(20));
        kept.script.block();
        assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
        kept
    };
    let mut kept = holding();
    assert!(kept.poll_ready().is_pending(), "one message is held");
    assert!(kept.poll_flush().is_pending());
    assert!(kept.poll_close().is_pending());
    assert!(!kept.script.is_closed());
    kept.script.unblock();
    assert!(kept.writer_woken());
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(kept.start_send(Msg::Data(2)), Ok(()));
    assert_eq!(kept.poll_flush(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.data(), [1, 2]);

    let mut kept = holding();
    kept.script.unblock();
    assert_eq!(kept.poll_close(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.data(), [1]);
    assert!(kept.script.is_closed());
}

// contract: I56
#[test]
fn a_held_message_is_not_lost_to_one_that_is_sent_without_asking() {
    let mut kept = Kept::new(exact());
    kept.script.tolerate();
    kept.run_until(s(10));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.run_until(s(20));
    assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
    assert_eq!(kept.start_send(Msg::Data(2)), Ok(()));
    assert_eq!(kept.script.data(), [1, 2]);
}

// contract: I56
#[test]
fn a_reservation_that_is_never_used_delays_no_ping_and_earns_no_verdict() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.run_until(s(205));
    kept.assert_alive();
    assert_eq!(kept.script.pings().len(), 10);
    assert_eq!(kept.stats().answered(), 10);
}

// contract: I57
#[test]
fn a_blocked_writer_is_woken_although_the_reader_polled_the_sink_since() {
    for block in [Script::block as fn(&Script), Script::block_flush] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(10));
        block(&kept.script);
        if kept.poll_ready().is_ready() {
            assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
            assert!(kept.poll_flush().is_pending());
        }
        kept.run_until(s(20));
        // The ping waits for the same sink, by the reader's task.
        kept.script.unblock();
        assert!(kept.writer_woken(), "the writer");
        assert!(kept.reader_woken(), "and the reader");
    }
}

// contract: I57
#[test]
fn a_blocked_ping_is_woken_although_the_writer_polled_the_sink_since() {
    for block in [Script::block as fn(&Script), Script::block_flush] {
        let mut kept = Kept::new(exact());
        kept.answer_after(ms(5));
        kept.run_until(s(10));
        block(&kept.script);
        kept.run_until(s(20));
        // Ready or not, it has asked.
        let _ = kept.poll_ready();
        let _ = kept.poll_flush();
        kept.script.unblock();
        assert!(
            kept.reader.flag.load(std::sync::atomic::Ordering::Relaxed),
            "the reader"
        );
        kept.run_until(s(21));
        assert_eq!(kept.stats().answered(), 1);
    }
}

// contract: I57
#[test]
fn a_ping_that_the_writer_flushed_is_timed_by_the_reader() {
    let mut kept = Kept::new(exact().timeout(s(5)).write_timeout(s(60)));
    kept.run_until(s(10));
    kept.script.block_flush();
    kept.run_until(s(20));
    assert_eq!(kept.stats().sent(), 0);
    kept.at(s(25), Script::unblock_quietly);
    kept.idle_until(s(25));
    assert_eq!(
        kept.poll_flush(),
        Poll::Ready(Ok(())),
        "the writer is first"
    );
    assert_eq!(kept.stats().sent(), 1);
    // The deadline is the reader's to arm: it is polled only if it was woken.
    kept.run_until(s(100));
    assert_eq!(kept.verdict().0, s(30));
}

// A writer that fed the socket without a flush kept the ping from its own for ever.
// contract: I61
#[test]
fn a_writer_helps_a_ping_out_before_it_writes_on() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(10));
    kept.script.block_flush();
    kept.run_until(s(20));
    assert_eq!(kept.script.pings(), [s(20)]);
    assert!(kept.poll_ready().is_pending(), "the ping is not flushed");
    kept.script.unblock_quietly();
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(kept.stats().sent(), 1);

    let mut kept = Kept::new(exact());
    kept.run_until(s(10));
    kept.script.block();
    kept.run_until(s(20));
    kept.script.unblock_quietly();
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.pings().len(), 1, "the ping is first");
}

// contract: I57
#[test]
fn split_into_two_tasks_both_go_on() {
    use futures::SinkExt;
    use futures::executor::LocalPool;
    use futures::task::LocalSpawnExt;
    use std::cell::Cell;
    use std::rc::Rc;

    // The pool polls only what was woken; the World's time goes on when nothing is.
    let kept = Kept::new(exact().interval(s(2)).timeout(s(3)));
    kept.answer_after(ms(40));
    let (world, script) = (kept.world.clone(), kept.script.clone());
    let (mut sink, mut stream) = Pin::into_inner(kept.alive).split();
    let (sent, read) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut pool = LocalPool::new();
    let count = Rc::clone(&sent);
    let writer = async move {
        for number in 0..200 {
            sink.send(Msg::Data(number)).await.expect("alive");
            count.set(number + 1);
        }
    };
    let count = Rc::clone(&read);
    let reader = async move {
        while let Some(message) = stream.next().await {
            message.expect("alive");
            count.set(count.get() + 1);
        }
    };
    pool.spawner().spawn_local(writer).expect("the pool runs");
    pool.spawner().spawn_local(reader).expect("the pool runs");
    for tick in 0..1000_u32 {
        let script = script.clone();
        world.at(ms(50) * tick, move || match tick % 5 {
            0 => script.block(),
            1 | 3 => script.unblock(),
            2 => script.block_flush(),
            _ => script.receive(Msg::Data(tick)),
        });
    }
    loop {
        pool.run_until_stalled();
        if !world.step(s(60)) {
            break;
        }
    }
    assert_eq!((sent.get(), read.get()), (200, 200));
    assert!(script.pings().len() >= 20);
}

use std::pin::Pin;

// contract: I58
#[test]
fn the_verdict_comes_once_and_then_the_end() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(100));
    let (at, verdict) = kept.verdict();
    assert_eq!((at, verdict.phase()), (s(40), TimeoutPhase::Pong));
    assert!(verdict.close_sent());
    assert_eq!(kept.read.len(), 1);
    assert_eq!(kept.ended, Some(s(40)));
    assert!(kept.alive.is_terminated());
    assert_eq!(
        kept.stats().state_at(kept.world.instant(s(100))),
        HeartbeatState::Gone
    );
}

// contract: E37
#[test]
fn polled_after_its_end_the_stream_is_still_over() {
    // After a verdict, and after the socket's own end.
    for end in [s(1000), s(5)] {
        let mut kept = Kept::new(exact());
        kept.at(end, Script::end);
        kept.run_until(s(100));
        assert!(kept.ended.is_some());
        for _ in 0..3 {
            assert_eq!(kept.alive.next().now_or_never(), Some(None));
        }
    }
}

// contract: I58
#[test]
fn at_the_verdict_a_blocked_writer_is_woken_and_each_later_call_says_why() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(30));
    kept.script.block();
    assert!(kept.poll_ready().is_pending());
    kept.run_until(s(39));
    kept.writer_woken();
    assert!(kept.poll_ready().is_pending());
    // The close frame cannot go, but the verdict has fallen.
    kept.run_until(s(40));
    assert!(kept.writer_woken());
    let expected = |kept: &mut Kept| match kept.poll_ready() {
        Poll::Ready(Err(Error::Timeout(verdict))) => verdict,
        other => panic!("{other:?}"),
    };
    let while_closing = expected(&mut kept);
    kept.run_until(s(41));
    let (at, verdict) = kept.verdict();
    assert_eq!((at, verdict.close_sent()), (s(41), false));
    assert_eq!(expected(&mut kept), verdict);
    assert_eq!(while_closing.elapsed(), verdict.elapsed());
    let error = Error::Timeout(verdict);
    assert_eq!(kept.start_send(Msg::Data(1)), Err(error.clone()));
    assert_eq!(kept.poll_flush(), Poll::Ready(Err(error.clone())));
    assert_eq!(kept.poll_close(), Poll::Ready(Err(error)));
}

// contract: I58
#[test]
fn after_a_write_timeout_no_close_frame_is_tried() {
    let mut kept = Kept::new(exact().write_timeout(s(7)));
    kept.script.block();
    kept.run_until(s(100));
    let (at, verdict) = kept.verdict();
    assert_eq!((at, verdict.phase()), (s(27), TimeoutPhase::Write));
    assert_eq!(kept.script.sent(), []);
}

#[test]
fn while_the_close_frame_is_on_its_way_what_is_read_is_passed_on() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(30));
    kept.script.block();
    kept.at(s(40) + ms(500), |script| script.receive(Msg::Data(7)));
    kept.run_until(s(100));
    assert_eq!(kept.messages(), [Msg::Data(7)]);
    assert_eq!(kept.verdict().0, s(41));

    // Its end, or its failure, is the end; the verdict stands.
    for end in [
        Script::end as fn(&Script),
        Script::receive_error,
        Script::break_sink,
    ] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(30));
        kept.script.block();
        kept.at(s(40) + ms(500), end);
        kept.run_until(s(100));
        assert_eq!(kept.verdict().0, s(40) + ms(500));
    }
}

// contract: I59
#[test]
fn after_a_close_frame_sent_or_received_no_ping_is_sent() {
    let mut kept = Kept::new(exact().closing_handshake(Duration::MAX));
    kept.answer_after(ms(5));
    kept.run_until(s(25));
    kept.send(Msg::Close);
    kept.run_until(s(300));
    kept.assert_alive();
    assert_eq!(kept.script.pings(), [s(20)]);
    kept.script.end();
    kept.run_until(s(301));
    assert_eq!(kept.ended, Some(s(300)), "it ends as the socket does");

    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    kept.at(s(25), |script| script.receive(Msg::Close));
    kept.run_until(s(300));
    assert_eq!(kept.messages(), [Msg::Close]);
    assert_eq!(kept.script.pings(), [s(20)]);
    assert_eq!(kept.ended, Some(s(35)), "or by the bound of the handshake");

    // Closed by `poll_close` alone.
    let mut kept = Kept::new(exact());
    kept.run_until(s(5));
    assert_eq!(kept.poll_close(), Poll::Ready(Ok(())));
    kept.run_until(s(300));
    assert_eq!(kept.script.pings(), NO_PINGS);
}

// contract: I59
#[test]
fn the_end_and_the_errors_of_the_socket_are_passed_on() {
    let mut kept = Kept::new(exact());
    kept.at(s(5), Script::receive_error);
    kept.at(s(6), |script| script.receive(Msg::Data(1)));
    kept.at(s(70), Script::end);
    kept.run_until(s(300));
    assert_eq!(
        kept.read,
        [
            (s(5), Err(Error::Transport(Broken))),
            (s(6), Ok(Msg::Data(1))),
        ]
    );
    assert_eq!(kept.ended, Some(s(70)));
    assert_eq!(kept.script.sent(), [], "no ping on a broken connection");

    let mut ended = Kept::new(exact());
    ended.script.end();
    ended.run_until(s(1));
    assert_eq!(ended.ended, Some(s(0)), "closed when it was wrapped");
}

#[test]
fn an_error_of_the_sink_is_yielded_by_whoever_meets_it() {
    let mut kept = Kept::new(exact());
    kept.script.break_sink();
    kept.run_until(s(20));
    assert_eq!(kept.read, [(s(20), Err(Error::Transport(Broken)))]);

    let mut kept = Kept::new(exact());
    kept.run_until(s(5));
    kept.script.break_sink();
    assert_eq!(
        kept.poll_ready(),
        Poll::Ready(Err(Error::Transport(Broken)))
    );
}

// contract: I60
#[test]
fn a_pong_behind_a_thousand_unread_messages_is_found_by_a_slow_app() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(20));
    let Msg::Ping(payload) = kept.script.sent()[0].1.clone() else {
        panic!("a ping")
    };
    for number in 0..1000 {
        kept.script.receive(Msg::Data(number));
    }
    kept.script.receive(Msg::Pong(payload));
    // 100 ms for each message: 100 s in all, five timeouts.
    for number in 0..1000_u64 {
        kept.idle_until(s(20) + ms(100) * u32::try_from(number).expect("few"));
        assert!(kept.read_once());
    }
    kept.assert_alive();
    kept.read_once();
    kept.assert_alive();
    // Pings went on to leave meanwhile, so that it is the pong of an earlier one.
    assert_eq!(kept.stats().stale(), 1);
    assert!(kept.script.pings().len() > 1);
}

// A runtime's cooperative budget says Pending in the middle of a backlog; that was taken for its end.
// contract: I60
#[test]
fn a_runtime_that_gives_each_turn_a_share_of_the_backlog_earns_no_false_verdict() {
    // 64 and 128: whole batches between two looks at the time.
    for share in [1, 50, 64, 128] {
        // A slow app from the start, and one that has listened for nearly the whole timeout.
        shared_backlog(share, s(20), ms(100));
        shared_backlog(share, s(39) + ms(500), ms(1));
    }
}

/// A backlog that is there at `from`, with a pong behind it; each message takes the app so long.
fn shared_backlog(share: usize, from: Duration, each: Duration) {
    let mut kept = Kept::new(exact());
    kept.run_until(from);
    let Msg::Ping(payload) = kept.script.sent()[0].1.clone() else {
        panic!("a ping")
    };
    for number in 0..1000 {
        kept.script.receive(Msg::Data(number));
    }
    kept.script.receive(Msg::Pong(payload));
    kept.script.budget(share);
    let mut now = from;
    let proofs = |kept: &Kept| kept.stats().answered() + kept.stats().stale();
    while proofs(&kept) == 0 {
        if kept.read_once() {
            now += each;
            kept.idle_until(now);
        } else if proofs(&kept) == 0 {
            assert!(kept.reader_woken(), "it comes back");
        }
        kept.assert_alive();
    }
    assert!(now > s(40), "past the deadline");
    assert_eq!(kept.messages().len(), 1000);
}

// What our own slowness kept in the peer's kernel was taken for silence: between two segments there is
// nothing to read for a moment.
// contract: I60
#[test]
fn a_slow_app_whose_backlog_is_still_with_the_peer_earns_no_false_verdict() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(20));
    let Msg::Ping(payload) = kept.script.sent()[0].1.clone() else {
        panic!("a ping")
    };
    // The peer's kernel sends 16 messages whenever we have read those before, 1 ms later; the pong
    // is behind a thousand of them. Each takes the app 400 ms: 400 s in all, twenty timeouts.
    let (mut sent, mut now) = (0, s(20));
    let proofs = |kept: &Kept| kept.stats().answered() + kept.stats().stale();
    while proofs(&kept) == 0 {
        if kept.read_once() {
            now += ms(400);
            kept.idle_until(now);
        } else if proofs(&kept) == 0 {
            // As an executor would, before anything comes.
            while kept.reader_woken() {
                assert!(!kept.read_once());
            }
            now += ms(1);
            kept.idle_until(now);
            for _ in 0..16 {
                kept.script.receive(Msg::Data(sent));
                sent += 1;
            }
            if sent > 1000 {
                kept.script.receive(Msg::Pong(payload.clone()));
            }
        }
        kept.assert_alive();
        assert!(now < s(500));
    }
}

// contract: I60
#[test]
fn a_peer_that_talks_and_never_pongs_is_judged_on_time_by_a_quick_app() {
    let mut kept = Kept::new(exact());
    for number in 0..10_000_u32 {
        kept.at(ms(5) * number, move |script| {
            script.receive(Msg::Data(number));
        });
    }
    kept.run_until(s(100));
    assert_eq!(kept.verdict().0, s(40));
}

// contract: I60
#[test]
fn a_peer_that_talks_and_never_pongs_is_judged_by_a_slow_app_too() {
    // A message each 100 ms, of which the app takes `busy` ms: it listens the rest of the time, and
    // half a timeout of that is what a peer gets at the least. A deadline that is seen late by that
    // has its grace, as ever.
    for (busy, verdict) in [(40, s(40)), (75, s(80)), (95, s(240))] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(20));
        let mut now = s(20);
        while kept.read.iter().all(|(_, item)| item.is_ok()) {
            now += ms(100);
            kept.script.receive(Msg::Data(0));
            assert!(kept.read_once());
            kept.idle_until(now + ms(busy));
            while kept.read_once() {}
            loop {
                while kept.reader_woken() {
                    while kept.read_once() {}
                }
                if !kept.world.step(now + ms(100)) {
                    break;
                }
            }
            assert!(now < s(500), "no verdict");
        }
        let (at, _) = kept.verdict();
        assert!(
            verdict <= at && at < verdict + ms(200),
            "{at:?} with {busy} ms"
        );
    }
}

// contract: I60
#[test]
fn an_app_that_stops_reading_for_ten_timeouts_earns_no_false_verdict() {
    let mut kept = Kept::new(exact());
    kept.answer_after(s(1));
    kept.run_until(s(20));
    kept.idle_until(s(220));
    kept.run_until(s(225));
    kept.assert_alive();
    assert_eq!(kept.stats().answered(), 2);
}

// contract: I60
#[test]
fn an_endless_flood_without_a_pong_is_judged_in_the_end() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(39));
    kept.script.flood();
    let mut now = s(39);
    let mut past = 0;
    while kept.read_once() {
        if kept.read.last().is_some_and(|(_, item)| item.is_err()) {
            break;
        }
        if now >= s(40) {
            past += 1;
        }
        now += Duration::from_micros(500);
        kept.world.step(now);
        assert!(now < s(200), "no verdict");
    }
    assert!((65_536..65_536 + 256).contains(&past), "{past}");
    kept.verdict();
}

// contract: I60
#[test]
fn in_a_flood_pings_leave_and_their_pongs_are_seen() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(3));
    kept.script.flood();
    let mut now = s(0);
    while now < s(65) {
        assert!(kept.read_once());
        now += ms(1);
        while kept.world.step(now) {}
    }
    kept.assert_alive();
    let pings = kept.script.pings();
    assert_eq!(pings.len(), 3);
    for (k, at) in (1..).zip(pings) {
        assert!(
            at >= s(20 * k) && at <= s(20 * k) + ms(64),
            "one look in 64 messages: {at:?}"
        );
    }
    assert_eq!(kept.stats().answered(), 3);
}

// contract: I61
#[test]
fn data_in_one_direction_alone_does_not_keep_pings_from_leaving() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    for tick in 0..1000_u32 {
        kept.at(ms(100) * tick, move |script| {
            script.receive(Msg::Data(tick));
        });
    }
    kept.run_until(s(99));
    assert_eq!(kept.script.pings(), [s(20), s(40), s(60), s(80)]);

    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    for tick in 0..990_u32 {
        kept.run_until(ms(100) * tick);
        kept.send(Msg::Data(tick));
    }
    kept.assert_alive();
    assert_eq!(kept.script.pings(), [s(20), s(40), s(60), s(80)]);
}

#[test]
fn the_clock_is_read_once_in_64_messages_of_a_quick_app() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(1));
    kept.script.flood();
    let (reads, resets) = (kept.world.clock_reads(), kept.world.resets());
    for _ in 0..6400 {
        assert!(kept.read_once());
    }
    // The first batches are smaller: nobody knows yet how quick it is.
    assert!(kept.world.clock_reads() - reads <= 110);
    assert_eq!(kept.world.resets(), resets);
}

// contract: H52
#[test]
fn extra_polls_of_the_stream_change_nothing() {
    let life = |extra_polls| {
        let mut kept = Kept::new(exact().interval(s(10)).timeout(s(7)).max_missed(2));
        kept.extra_polls = extra_polls;
        kept.answer_after(s(3));
        for tick in 0..100_u32 {
            kept.at(ms(700) * tick, move |script| match tick % 7 {
                0 => script.block(),
                3 => script.block_flush(),
                2 | 5 => script.unblock(),
                _ => script.receive(Msg::Data(tick)),
            });
        }
        kept.at(s(71), Script::block);
        kept.run_until(s(300));
        let sent = kept.script.sent().into_iter();
        let sent: Vec<_> = sent
            .map(|(at, message)| (at, matches!(message, Msg::Ping(_))))
            .collect();
        (sent, kept.read, kept.ended)
    };
    let plain = life(0);
    assert!(plain.2.is_some());
    assert_eq!(life(3), plain);
}

#[test]
fn ping_now_leaves_with_the_next_poll() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(5));
    kept.run_until(s(5));
    kept.alive.ping_now().expect("it goes on");
    kept.reader
        .flag
        .store(true, std::sync::atomic::Ordering::Relaxed);
    kept.run_until(s(26));
    assert_eq!(kept.script.pings(), [s(5), s(25)]);
}

#[test]
fn dropped_or_unwrapped_it_sends_nothing_more() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(25));
    let Kept {
        alive,
        world,
        script,
        ..
    } = kept;
    let socket = Pin::into_inner(alive).into_parts().0;
    while world.step(s(100)) {}
    assert_eq!(script.pings(), [s(20)]);
    assert_eq!(world.timers(), 0);
    drop(socket);
}
