//! O. What one half of a socket leaves to the other; found by the random scripts of `tests/halves`.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_pinger::{Error, TimeoutPhase};

use crate::socket::{Kept, Msg};
use crate::world::{Broken, exact, ms, s};

/// Polls the writer whenever it is woken, until it is done or `time` has come.
fn write_until(
    kept: &mut Kept,
    time: Duration,
    mut poll: impl FnMut(&mut Kept) -> Poll<Result<(), Error<Broken>>>,
) -> Poll<Result<(), Error<Broken>>> {
    let mut polls = 0;
    loop {
        while kept.writer_woken() {
            let polled = poll(kept);
            if polled.is_ready() {
                return polled;
            }
            polls += 1;
            assert!(polls < 1000, "a busy loop at {:?}", kept.world.elapsed());
        }
        if !kept.world.step(time) {
            return Poll::Pending;
        }
    }
}

/// The pong of the ping that was sent last.
#[track_caller]
fn pong(kept: &Kept) -> Msg {
    let sent = kept.script.sent().into_iter().rev();
    let mut pings = sent.filter_map(|(_, message)| match message {
        Msg::Ping(payload) => Some(payload),
        _ => None,
    });
    Msg::Pong(pings.next().expect("a ping"))
}

fn poll_reader(kept: &mut Kept) {
    kept.reader.flag.store(true, Ordering::Relaxed);
    let now = kept.world.elapsed();
    kept.run_until(now);
}

// A socket that had promised nothing was given a message: some sinks panic at that.
// contract: O92
#[test]
fn after_the_end_of_closing_no_message_goes_into_a_socket_that_is_not_ready() {
    for reserved in [false, true] {
        let mut kept = Kept::new(exact());
        if reserved {
            // A ping takes the readiness, so that the next message is held.
            assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
        }
        kept.run_until(s(20));
        kept.script.receive(Msg::Close);
        kept.run_until(s(30));
        assert_eq!(kept.ended, Some(s(30)));
        kept.script.block();
        for number in 0..3 {
            // A loop that only sends ends here, also where the socket itself would wait for ever.
            assert_eq!(kept.poll_ready(), Poll::Ready(Err(Error::Closed)));
            assert_eq!(kept.start_send(Msg::Data(number)), Err(Error::Closed));
        }
        assert_eq!(kept.poll_flush(), Poll::Ready(Ok(())));
        assert_eq!(kept.poll_close(), Poll::Ready(Ok(())));
        assert!(kept.script.data().is_empty());
    }
}

// The writer's look took the end of a runtime's share for the end of the input, and judged.
// contract: O88
#[test]
fn a_writer_that_reads_in_shares_reads_all_before_it_judges() {
    for share in [1, 3, 7] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(20));
        kept.script.budget(share);
        kept.script.block();
        assert_eq!(kept.poll_ready(), Poll::Pending);
        for number in 0..15 {
            kept.script.receive(Msg::Data(number));
        }
        let pong = pong(&kept);
        kept.script.receive(pong);
        // The next ping is offered at 40 s, and the socket takes nothing for the write timeout.
        let polled = write_until(&mut kept, s(45), Kept::poll_ready);
        assert_eq!(polled, Poll::Pending, "{share}");
        assert_eq!(kept.stats().answered(), 1, "{share}");
        assert_eq!(kept.stats().missed(), 0, "{share}");
    }
}

// Each `next` behind a `run_while` wrote the ping off as unread, so that no verdict ever fell.
// contract: O90
#[test]
fn a_message_that_was_read_ahead_and_taken_writes_off_no_ping_that_could_be_read() {
    let config = exact().interval(s(2)).timeout(s(8)).write_timeout(s(2));
    let bound = config.clone().build().expect("valid").detection_bound();
    let bound = bound.expect("there is one");
    let mut kept = Kept::new(config);
    let mut interrupted = None;
    for turn in 1..20 {
        // The peer sends on, and answers no ping.
        kept.script.receive(Msg::Data(turn));
        kept.reader.flag.store(true, Ordering::Relaxed);
        interrupted = kept.beat_until(s(3) * turn);
        if interrupted.is_some() {
            break;
        }
        assert!(kept.read_once());
    }
    assert!(interrupted.is_some_and(|at| at <= bound), "{interrupted:?}");
}

// The timer was armed for the next due time, and nobody came at the deadline.
// contract: O88
#[test]
fn a_message_that_was_read_ahead_and_taken_leaves_the_deadline_armed() {
    let mut kept = Kept::new(exact().timeout(s(4)).write_timeout(s(2)));
    kept.script.receive(Msg::Data(0));
    assert_eq!(kept.beat_until(s(20)), None);
    assert_eq!(kept.script.pings(), [s(20)]);
    assert!(kept.read_once());
    // What was read is sent back, and the reader does not come by meanwhile.
    kept.script.block();
    assert_eq!(kept.poll_ready(), Poll::Pending);
    let polled = write_until(&mut kept, s(1000), Kept::poll_ready);
    assert!(
        matches!(polled, Poll::Ready(Err(Error::Timeout(_)))),
        "{polled:?}"
    );
    assert_eq!(kept.world.elapsed(), s(24));
}

// contract: O92
#[test]
fn closing_the_sink_answers_a_close_that_was_read_before() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(20));
    kept.script.block_flush();
    kept.script.receive(Msg::Close);
    // The writer reads it where a pong is missing.
    kept.idle_until(s(40));
    assert_eq!(kept.poll_close(), Poll::Pending);
    kept.script.unblock_quietly();
    assert_eq!(kept.poll_close(), Poll::Ready(Ok(())));
    // The reader is away for longer than the handshake may take.
    kept.idle_until(s(100));
    poll_reader(&mut kept);
    assert_eq!(kept.messages(), [Msg::Close]);
    assert!(
        kept.read.iter().all(|(_, item)| item.is_ok()),
        "{:?}",
        kept.read
    );
    assert!(kept.ended.is_some());
}

// Nobody was woken, and a heartbeat that had been paused never began again.
// contract: O94
#[test]
fn an_order_wakes_a_writer_that_waits_while_the_reader_is_away() {
    for waits_first in [false, true] {
        let mut kept = Kept::new(exact());
        kept.run_until(s(1));
        let controller = kept.alive.as_mut().get_mut().controller();
        controller.pause().expect("it runs");
        // The timer that was armed before fires for nothing.
        kept.run_until(s(50));
        kept.script.block();
        if waits_first {
            assert_eq!(kept.poll_ready(), Poll::Pending);
        }
        // After so many the reader comes by in its own time.
        for number in 0..200 {
            kept.script.receive(Msg::Data(number));
            assert!(kept.read_once());
        }
        if !waits_first {
            assert_eq!(kept.poll_ready(), Poll::Pending);
        }
        controller.resume().expect("it is paused");
        let polled = write_until(&mut kept, s(1000), Kept::poll_ready);
        let Poll::Ready(Err(Error::Timeout(verdict))) = polled else {
            panic!("no verdict but {polled:?}, {waits_first}");
        };
        assert_eq!(verdict.phase(), TimeoutPhase::Write);
        assert_eq!(kept.world.elapsed(), s(50 + 20 + 20));
    }
}

// A look in between had found no room, so that the peer's window was shut again.
// contract: O88
#[test]
fn a_look_of_the_writer_that_finds_no_room_forgets_the_one_that_found_nothing() {
    let mut kept = Kept::with_lookahead(exact().interval(s(3600)), 1);
    let asked = kept.alive.as_mut().get_mut().ping_now();
    asked.expect("alive");
    kept.run_until(s(1));
    let pong = pong(&kept);
    // The checkpoint: there is nothing to read.
    kept.idle_until(s(19));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    for number in 0..3 {
        kept.script.receive(Msg::Data(number));
    }
    // The deadline: there is no room.
    kept.idle_until(s(20));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    // The reader takes what there is, and the peer sends on.
    while kept.messages().len() < 3 {
        assert!(kept.read_once());
    }
    kept.at(s(20) + ms(500), move |script| script.receive(pong));
    kept.idle_until(s(20) + ms(300));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "one look");
    kept.idle_until(s(21));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.idle_until(s(22));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "alive");
    assert_eq!(kept.stats().answered(), 1);
}

// The reader's next poll took its short way, although its waker had been used up.
// contract: O94
#[test]
fn an_order_between_two_polls_of_the_reader_is_not_forgotten() {
    let mut kept = Kept::new(exact());
    assert!(!kept.read_once());
    kept.script.receive(Msg::Pong("stray".into()));
    assert!(kept.read_once());
    let controller = kept.alive.as_mut().get_mut().controller();
    controller.pause().expect("it runs");
    controller.resume().expect("it is paused");
    kept.reader_woken();
    assert!(!kept.read_once());
    kept.run_until(s(30));
    assert_eq!(kept.script.pings(), [s(20)]);
}

// The reader has found nothing at the checkpoint, and the writer finds nothing at the deadline.
// contract: O88
#[test]
fn a_reader_that_waits_at_the_checkpoint_has_had_the_first_of_two_looks() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(39));
    kept.idle_until(s(39) + ms(500));
    kept.script.block();
    assert!(kept.poll_ready().is_pending());
    kept.idle_until(s(40));
    let verdict = match kept.poll_ready() {
        Poll::Ready(Err(Error::Timeout(verdict))) => verdict,
        other => panic!("{other:?}"),
    };
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
}

// Without a grace for stalls there is no checkpoint.
// contract: O88
#[test]
fn without_a_grace_the_writer_has_its_first_look_before_the_deadline_as_well() {
    let mut kept = Kept::new(exact().stall_grace(false));
    kept.run_until(s(30));
    kept.script.block();
    assert!(kept.poll_ready().is_pending());
    let ended = write_until(&mut kept, s(40), Kept::poll_ready);
    assert!(matches!(ended, Poll::Ready(Err(Error::Timeout(_)))));
    assert_eq!(kept.world.elapsed(), s(40));
}

// contract: O89
#[test]
fn without_a_lookahead_a_writer_leaves_the_pong_to_a_reader_that_waits() {
    let mut kept = Kept::with_lookahead(exact().timeout(s(40)), 0);
    for second in 20..60 {
        kept.run_until(s(second));
        if second > 58 {
            kept.script.block();
            assert!(kept.poll_ready().is_pending());
            kept.script.unblock();
            assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
        }
    }
    kept.run_until(s(100));
    let (at, verdict) = kept.verdict();
    assert_eq!((at, verdict.phase()), (s(60), TimeoutPhase::Pong));
}
