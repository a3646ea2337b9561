//! O. What is read ahead of the application, and what cannot be read.

use std::task::Poll;

use futures::{SinkExt, StreamExt};
use futures_pinger::{Error, TimeoutPhase};
use tokio_tungstenite::tungstenite::Message;

use crate::pipe::{config, ends_within, keep_alive, pair};
use crate::socket::{Kept, Msg, Script};
use crate::world::{exact, ms, s};

/// Data by their numbers.
fn data(numbers: impl IntoIterator<Item = u32>) -> Vec<Msg> {
    numbers.into_iter().map(Msg::Data).collect()
}

// contract: O89
#[test]
fn what_is_read_ahead_is_yielded_in_order_before_anything_later() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    for number in 0..10 {
        kept.at(s(10) * number, move |script| {
            script.receive(Msg::Data(number));
        });
    }
    assert_eq!(kept.beat_until(s(100)), None);
    kept.script.receive(Msg::Data(10));
    kept.run_until(s(101));
    assert_eq!(kept.messages(), data(0..11));
    assert_eq!(kept.stats().answered(), 5);
    kept.assert_alive();
}

// contract: O89
#[test]
fn no_more_is_read_ahead_than_the_lookahead_allows() {
    for lookahead in [0, 1, 3, 16] {
        let mut kept = Kept::with_lookahead(exact(), lookahead);
        for number in 0..100 {
            kept.script.receive(Msg::Data(number));
        }
        assert_eq!(kept.beat_until(s(100)), None);
        let expected = data((0..100).take(lookahead));
        assert_eq!(kept.into_ahead(), expected);
    }
}

// contract: O89
#[test]
fn of_the_peers_pings_the_newest_alone_is_kept() {
    let ping = |name: &'static str| Msg::Ping(name.into());
    let mut kept = Kept::with_lookahead(exact(), 4);
    for second in 0..50 {
        kept.at(s(second), move |script| {
            if second == 10 {
                script.receive(Msg::Data(1));
            }
            script.receive(Msg::Ping("old".into()));
            if second == 20 {
                script.receive(Msg::Data(2));
            }
        });
    }
    kept.at(s(50), move |script| script.receive(ping("new")));
    kept.answer_after(ms(30));
    assert_eq!(kept.beat_until(s(60)), None);
    kept.run_until(s(61));
    assert_eq!(kept.messages(), [Msg::Data(1), Msg::Data(2), ping("new")]);
    assert_eq!(kept.stats().missed(), 0);
}

// contract: O89
#[test]
fn an_error_the_end_and_a_close_keep_their_places() {
    let received = [Msg::Data(1), Msg::Ping("p".into()), Msg::Data(2)];
    for close in [false, true] {
        for fails in [false, true] {
            let mut kept = Kept::new(exact());
            for message in received.clone() {
                kept.script.receive(message);
            }
            let mut expected = received.to_vec();
            if close {
                kept.script.receive(Msg::Close);
                kept.script.receive(Msg::Data(3));
                expected.extend([Msg::Close, Msg::Data(3)]);
            }
            if fails {
                kept.script.receive_error();
            }
            kept.script.end();
            assert_eq!(kept.beat_until(s(5)), Some(s(0)), "{close} {fails}");
            kept.idle_until(s(5));
            assert_eq!(kept.beat_until(s(5)), None, "nobody wakes the task again");
            kept.reader
                .flag
                .store(true, std::sync::atomic::Ordering::Relaxed);
            kept.run_until(s(6));
            assert_eq!(kept.messages(), expected, "{close} {fails}");
            let error = kept.read.last().expect("read").1.clone().err();
            assert_eq!(error.is_some(), fails);
            if fails {
                assert!(matches!(error, Some(Error::Transport(_))), "{error:?}");
            }
            assert_eq!(kept.ended, Some(s(5)), "{close} {fails}");
        }
    }
}

// contract: O89
#[test]
fn cancelled_at_any_point_nothing_that_was_read_is_lost() {
    for lookahead in [0, 1, 2, 16] {
        for seed in 0..200_u64 {
            let mut kept = Kept::with_lookahead(exact().interval(s(2)).timeout(s(2)), lookahead);
            kept.answer_after(ms(30));
            let mut random = seed;
            let mut next = move |below: u64| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let (mut received, mut sent) = (0, 0);
            for _ in 0..200 {
                // Each poll is of a future that is dropped right after it.
                match next(7) {
                    0 => {
                        kept.script.receive(Msg::Data(received));
                        received += 1;
                    }
                    1 => drop(kept.read_once()),
                    2 => drop(kept.poll_heartbeat()),
                    3 => drop(kept.poll_flush()),
                    4 => {
                        if kept.poll_ready() == Poll::Ready(Ok(())) {
                            assert_eq!(kept.start_send(Msg::Data(sent)), Ok(()));
                            sent += 1;
                        }
                    }
                    5 => {
                        if next(2) == 0 {
                            kept.script.block();
                        } else {
                            kept.script.unblock();
                        }
                    }
                    _ => {
                        let until = kept.world.elapsed() + ms(next(500));
                        kept.idle_until(until);
                    }
                }
                if kept.read.last().is_some_and(|(_, item)| item.is_err()) {
                    break;
                }
            }
            if kept.read.last().is_some_and(|(_, item)| item.is_err()) {
                // The socket took nothing for too long: what was read before came first.
                let messages = kept.messages();
                assert_eq!(messages, data((0..received).take(messages.len())));
                continue;
            }
            kept.script.unblock();
            let until = kept.world.elapsed() + s(1);
            kept.reader
                .flag
                .store(true, std::sync::atomic::Ordering::Relaxed);
            kept.run_until(until);
            let _ = kept.poll_flush();
            let what = format!("lookahead {lookahead}, seed {seed}");
            if kept.ended.is_none() && kept.read.iter().all(|(_, item)| item.is_ok()) {
                assert_eq!(kept.messages(), data(0..received), "{what}");
                assert_eq!(kept.script.data(), (0..sent).collect::<Vec<_>>(), "{what}");
            }
        }
    }
}

// contract: O89
#[tokio::test(start_paused = true)]
async fn into_parts_gives_back_what_was_read_ahead() {
    let (ours, mut peer) = pair(4096).await;
    let mut socket = keep_alive(ours, config(s(1), s(1)));
    for text in ["a", "b", "c"] {
        peer.send(Message::text(text)).await.expect("there is room");
    }
    let done = socket.run_while(tokio::time::sleep(ms(500))).await;
    assert_eq!(done, Ok(()));
    let (mut ours, ahead) = socket.into_parts();
    let ahead: Vec<_> = ahead.into_iter().collect();
    assert_eq!(ahead, ["a", "b", "c"].map(Message::text));
    peer.send(Message::text("d")).await.expect("there is room");
    let read = ours.next().await.expect("open").expect("no error");
    assert_eq!(read, Message::text("d"));
}

// contract: O90
#[test]
fn with_a_full_lookahead_pings_keep_leaving_and_what_is_unread_is_not_missed() {
    for lookahead in [0, 1, 16] {
        let mut kept = Kept::with_lookahead(exact(), lookahead);
        kept.answer_after(ms(30));
        for number in 0..20 {
            kept.script.receive(Msg::Data(number));
        }
        assert_eq!(kept.beat_until(s(205)), None, "{lookahead}");
        let due: Vec<_> = (1..=10).map(|n| s(20) * n).collect();
        assert_eq!(kept.script.pings(), due, "{lookahead}");
        let stats = kept.stats();
        assert_eq!((stats.sent(), stats.answered(), stats.missed()), (10, 0, 0));
        // The pongs come late, and are nobody else's.
        kept.reader
            .flag
            .store(true, std::sync::atomic::Ordering::Relaxed);
        kept.run_until(s(206));
        assert_eq!(kept.messages(), data(0..20));
        let stats = kept.stats();
        assert_eq!((stats.answered(), stats.stale(), stats.missed()), (1, 9, 0));
        // From the first ping, whose pong could not be read, on.
        assert_eq!(stats.reader_away(), s(185), "{lookahead}");
        assert_eq!(stats.latest_rtt(), None);
        kept.run_until(s(400));
        kept.assert_alive();
    }
}

// contract: O90
#[test]
fn a_writer_whose_stream_is_full_keeps_its_pings_leaving() {
    for lookahead in [0, 16] {
        let mut kept = Kept::with_lookahead(exact(), lookahead);
        kept.answer_after(ms(30));
        for number in 0..20 {
            kept.script.receive(Msg::Data(number));
        }
        for second in 0..500 {
            kept.idle_until(s(second));
            kept.send(Msg::Data(0));
        }
        let due: Vec<_> = (1..25).map(|n| s(20) * n).collect();
        assert_eq!(kept.script.pings(), due, "{lookahead}");
        assert_eq!(kept.stats().missed(), 0, "{lookahead}");
        kept.reader
            .flag
            .store(true, std::sync::atomic::Ordering::Relaxed);
        kept.run_until(s(500));
        assert_eq!(kept.messages(), data(0..20));
        kept.assert_alive();
    }
}

// contract: O90
#[test]
fn with_a_full_lookahead_a_blocked_write_is_judged() {
    for lookahead in [0, 16] {
        let mut kept = Kept::with_lookahead(exact(), lookahead);
        for number in 0..20 {
            kept.script.receive(Msg::Data(number));
        }
        kept.at(s(30), Script::block);
        let interrupted = kept.beat_until(s(1000));
        assert_eq!(interrupted, Some(s(40 + 20)), "{lookahead}");
        // What was read before comes first.
        kept.reader
            .flag
            .store(true, std::sync::atomic::Ordering::Relaxed);
        kept.run_until(s(1000));
        assert_eq!(kept.messages(), data((0..20).take(lookahead)));
        assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Write);
    }
}

// contract: O90
#[tokio::test(start_paused = true)]
async fn two_of_our_own_ends_that_block_each_other_both_end() {
    let (ours, theirs) = pair(64).await;
    let ends = [ours, theirs].map(|end| {
        let mut socket = keep_alive(end, config(s(2), s(2)));
        tokio::spawn(async move {
            loop {
                let flood = (0..40).map(|_| Ok(Message::binary(vec![0; 1000])));
                let mut flood = futures::stream::iter(flood);
                if let Err(error) = socket.send_all(&mut flood).await {
                    return Some(error);
                }
                if let Err(error) = socket.next().await? {
                    return Some(error);
                }
            }
        })
    });
    let [ours, theirs] = ends.map(|end| async {
        let end = end.await.expect("no panic");
        // Who is second may find the pipe broken by the first.
        assert!(
            matches!(end, Some(Error::Timeout(_) | Error::Transport(_))),
            "{end:?}"
        );
        end.filter(|end| matches!(end, Error::Timeout(_)))
    });
    let either = async {
        let (ours, theirs) = tokio::join!(ours, theirs);
        ours.or(theirs)
    };
    let (phase, _) = ends_within(s(60), either).await;
    assert_eq!(phase, TimeoutPhase::Write);
}

/// The application has written to a socket that takes nothing, with so many messages unread and a ping out.
fn blocked(lookahead: usize, unread: u32) -> Kept {
    // The next ping is far away: the deadline of the one that is out comes first.
    let mut kept = Kept::with_lookahead(exact().interval(s(3600)), lookahead);
    for number in 0..unread {
        kept.script.receive(Msg::Data(number));
    }
    let alive = kept.alive.as_mut().get_mut();
    alive.ping_now().expect("it goes on");
    assert_eq!(kept.beat_until(s(1)), None);
    assert_eq!(kept.script.pings(), [s(0)]);
    kept.script.block_flush();
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
    kept
}

/// The same, and it asks for its write no more.
fn given_up(lookahead: usize, unread: u32) -> Kept {
    let mut kept = blocked(lookahead, unread);
    assert_eq!(kept.poll_flush(), Poll::Pending);
    kept
}

// contract: O90
#[test]
fn a_blocked_write_of_the_application_is_on_the_clock_once_a_pong_cannot_be_read() {
    let mut kept = blocked(0, 1);
    let ended = loop {
        if let Poll::Ready(flushed) = kept.poll_flush() {
            assert!(matches!(flushed, Err(Error::Timeout(_))), "{flushed:?}");
            break kept.world.elapsed();
        }
        while !kept.writer_woken() {
            assert!(kept.world.step(s(10_000)), "it hangs");
        }
    };
    // From the deadline on, by W.
    assert_eq!(ended, s(40));
    kept.run_until(s(41));
    assert_eq!(kept.messages(), [], "nothing was read ahead");
    assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Write);
}

// contract: O90
#[test]
fn a_write_that_was_given_up_is_asked_for_before_it_is_judged() {
    for lookahead in [0, 16] {
        let mut kept = given_up(lookahead, 20);
        // The peer takes what it is given, and nobody asks the sink again.
        kept.at(s(5), |script| script.unblock());
        assert_eq!(kept.beat_until(s(3500)), None);
        kept.reader
            .flag
            .store(true, std::sync::atomic::Ordering::Relaxed);
        kept.run_until(s(3500));
        kept.assert_alive();
    }
}

// contract: O90 Q108
#[test]
fn a_write_that_was_given_up_is_not_judged_by_a_yield() {
    let mut kept = given_up(0, 1);
    kept.at(s(5), |script| script.unblock());
    // As many as there are looks before a verdict.
    kept.script.yield_at(|poll| poll < 2);
    assert_eq!(kept.beat_until(s(3500)), None);
    assert_eq!(kept.messages().len(), 0, "the reader was away");
    kept.run_until(s(3500));
    kept.assert_alive();
}

// contract: O90 Q108
#[test]
fn a_write_that_was_given_up_is_judged_although_the_socket_yields_without_end() {
    let mut kept = given_up(0, 1);
    kept.script.yield_at(|_| true);
    let ended = kept.beat_until(s(3500));
    assert!(ended.is_some_and(|at| at <= s(43)), "{ended:?}");
    kept.run_until(s(3500));
    assert_eq!(kept.verdict().1.phase(), TimeoutPhase::Write);
}

// contract: O90
#[test]
fn an_error_of_a_write_that_was_given_up_is_yielded_by_the_stream() {
    let mut kept = given_up(0, 1);
    kept.at(s(5), Script::break_sink);
    let interrupted = kept.beat_until(s(3500));
    assert!(interrupted.is_some_and(|at| at <= s(40)), "{interrupted:?}");
    assert!(kept.read_once());
    let read = kept.read.last().expect("read");
    assert!(matches!(read.1, Err(Error::Transport(_))), "{read:?}");
}

// The next ping would wait for the end of the batch.
// contract: O94
#[test]
fn a_ping_that_is_overdue_leaves_with_the_message_after_the_pong() {
    let mut kept = Kept::new(exact().timeout(s(60)));
    kept.run_until(s(39));
    for message in data(0..100) {
        kept.script.receive(message);
    }
    let Some((_, Msg::Ping(payload))) = kept.script.sent().pop() else {
        panic!("a ping is out");
    };
    kept.script.receive(Msg::Pong(payload));
    for message in data(100..200) {
        kept.script.receive(message);
    }
    kept.idle_until(s(41));
    while kept.read.len() < 101 {
        assert!(kept.read_once());
    }
    assert_eq!(kept.script.pings(), [s(20)]);
    assert!(kept.read_once());
    assert_eq!(kept.script.pings(), [s(20), s(41)]);
}
