//! O. A socket that refuses a ping although it was ready.

use std::task::Poll;

use futures_pinger::{Error, Liveness};

use crate::socket::{Kept, Msg};
use crate::world::{Broken, NO_PINGS, exact, ms, s};

/// A socket that has refused the ping of second 20.
fn refused(refusals: usize) -> Kept {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    kept.script.refuse(refusals);
    kept.run_until(s(20));
    assert_eq!(kept.script.pings(), NO_PINGS);
    kept
}

/// The transport's error, given once to the reader at that second.
#[track_caller]
fn assert_failed(kept: &Kept, second: u64) {
    let [.., (at, last)] = &kept.read[..] else {
        panic!("nothing was read");
    };
    assert_eq!((*at, last), (s(second), &Err(Error::Transport(Broken))));
    let errors = kept.read.iter().filter(|(_, item)| item.is_err());
    assert_eq!(errors.count(), 1);
}

// A full write buffer ended the heartbeat of a live peer.
// contract: O95
#[test]
fn a_refused_ping_goes_once_more_after_a_flush_of_the_application() {
    let mut kept = refused(1);
    kept.run_until(s(25));
    assert_eq!((kept.script.pings(), kept.stats().sent()), (vec![], 0));
    kept.send(Msg::Data(1));
    assert_eq!(kept.script.pings(), [s(25)]);
    kept.run_until(s(100));
    // The schedule is as it was.
    assert_eq!(kept.script.pings(), [s(25), s(40), s(60), s(80), s(100)]);
    let stats = kept.stats();
    assert_eq!((stats.sent(), stats.answered()), (5, 4));
    assert_eq!(
        (stats.missed(), stats.stale(), stats.unsolicited()),
        (0, 0, 0)
    );
    kept.assert_alive();
}

// contract: O95
#[test]
fn the_sink_is_not_polled_for_a_refused_ping_before_the_application_has_flushed() {
    let mut kept = refused(1);
    let polls = kept.script.sink_polls();
    kept.script.receive(Msg::Data(1));
    for second in 21..40 {
        kept.run_until(s(second));
        kept.read_once();
    }
    assert_eq!(kept.script.sink_polls(), polls);
    // The application's own readiness is no flush.
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.sink_polls(), polls + 1);
    assert_eq!(kept.start_send(Msg::Data(2)), Ok(()));
    kept.run_until(ms(39_500));
    assert_eq!(kept.script.pings(), NO_PINGS);
    assert_eq!(kept.poll_flush(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.pings().len(), 1);
}

// contract: O95
#[test]
fn a_ping_that_is_refused_again_is_the_error_of_the_stream() {
    let mut kept = refused(2);
    kept.run_until(s(25));
    kept.send(Msg::Data(1));
    kept.run_until(s(25));
    assert_failed(&kept, 25);
    assert_eq!(kept.script.data(), [1]);
    // The socket is a plain one from now on, and takes what the writer has.
    kept.send(Msg::Data(2));
    assert_eq!(kept.script.data(), [1, 2]);
}

// contract: O95
#[test]
fn a_refused_ping_that_no_flush_follows_is_an_error_after_the_write_timeout() {
    let mut kept = refused(1);
    kept.run_until(s(100));
    assert_failed(&kept, 40);
    assert_eq!(kept.stats().missed(), 0);

    // From the writer's side alone.
    let mut kept = refused(1);
    for second in [30, 39, 40] {
        kept.idle_until(s(second));
        assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    }
    kept.run_until(s(40));
    assert_failed(&kept, 40);
}

// contract: O95
#[test]
fn a_refusal_neither_fails_nor_loses_a_message_of_the_writer() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    kept.run_until(s(19));
    // The ping takes the readiness that the writer was promised, and is refused.
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.script.refuse(1);
    kept.run_until(s(20));
    assert_eq!(kept.start_send(Msg::Data(1)), Ok(()));
    assert_eq!(kept.poll_flush(), Poll::Ready(Ok(())));
    assert_eq!(kept.script.data(), [1]);
    kept.run_until(s(60));
    assert_eq!(kept.script.pings(), [s(20), s(40), s(60)]);
    kept.assert_alive();
}

// contract: O95
#[test]
fn each_ping_may_be_refused_once() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    for second in [20, 40, 60] {
        kept.script.refuse(1);
        kept.run_until(s(second));
        kept.send(Msg::Data(0));
        kept.run_until(s(second + 1));
    }
    assert_eq!((kept.stats().sent(), kept.stats().answered()), (3, 3));
    kept.assert_alive();
}

// contract: O95
#[test]
fn orders_reach_a_refused_ping() {
    // A pause takes it back.
    let mut kept = refused(1);
    let controller = kept.alive.controller();
    controller.pause().expect("alive");
    kept.run_until(s(50));
    controller.resume().expect("alive");
    kept.run_until(s(70));
    assert_eq!(kept.script.pings(), [s(70)]);
    kept.assert_alive();

    // Activity makes it unnecessary.
    let trusting = Liveness::Activity {
        max_unproven: s(100),
    };
    let mut kept = Kept::new(exact().liveness(trusting));
    kept.answer_after(ms(30));
    kept.script.refuse(1);
    kept.run_until(s(20));
    kept.script.receive(Msg::Data(1));
    kept.run_until(s(30));
    kept.send(Msg::Data(2));
    kept.run_until(s(41));
    assert_eq!((kept.script.pings(), kept.stats().sent()), (vec![s(40)], 1));
    kept.assert_alive();

    // A longer write timeout is in force at once.
    let mut kept = refused(1);
    let config = exact().write_timeout(s(60)).build().expect("valid");
    kept.alive.controller().set_config(config).expect("alive");
    kept.run_until(s(100));
    assert_failed(&kept, 80);
}
