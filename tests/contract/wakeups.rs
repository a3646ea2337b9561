//! H. Wake-ups: the World polls only when woken, so most tests here are of what wakes, and what
//! does not.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::StreamExt;
use futures_pinger::{Clock, Error, Instant, KeepAlive, Liveness, Stopped, Timer};

use crate::socket::{Plain, Woken};
use crate::world::{
    ManualTimer, Path, Rig, SinkScript, World, each_path, each_pinger, exact, ms, s,
};

/// Runs to `time` and tells how many wakes `event`, then, brings about.
fn wakes_of(rig: &mut Rig, time: u64, event: impl FnOnce(&Rig)) -> usize {
    rig.run_until(s(time));
    let before = rig.wakes();
    event(rig);
    rig.wakes() - before
}

// contract: H51
#[test]
fn idle_it_is_woken_by_the_timer_and_the_end_of_the_pongs() {
    each_pinger(|path| {
        let mut rig = Rig::new(path, exact());
        assert_eq!(wakes_of(&mut rig, 10, |rig| rig.sink.unblock()), 0);
        let stray = wakes_of(&mut rig, 11, |rig| rig.reader.handle_pong("stray"));
        // A stream has no way to know; the slot does.
        assert_eq!(stray, usize::from(path == Path::Stream));
        let before = rig.wakes();
        rig.run_until(s(20));
        // The stream's stray was read by a poll of its own.
        assert_eq!(rig.wakes() - before, 1, "the timer");

        let mut rig = Rig::new(path, exact());
        assert_eq!(wakes_of(&mut rig, 10, |rig| rig.reader.end()), 1);
        rig.run_until(s(10));
        assert_eq!(rig.outcome(), Some(Ok(Stopped::PongsEnded)));
    });
}

// contract: H51
#[test]
fn sending_it_is_woken_by_the_sink_the_timer_the_pong_and_the_end() {
    each_pinger(|path| {
        for block in [SinkScript::block, SinkScript::block_flush] {
            let mut rig = Rig::new(path, exact().write_timeout(s(8)));
            rig.sink.eager();
            block(&rig.sink);
            assert_eq!(wakes_of(&mut rig, 22, |rig| rig.sink.unblock()), 1);
            // Blocked in another way now, or not at all.
            rig.run_until(s(23));
            rig.sink.unblock_flush();
            rig.run_until(s(23));
            assert_eq!(rig.stats().sent(), 1);

            let mut rig = Rig::new(path, exact().write_timeout(s(8)));
            block(&rig.sink);
            rig.run_until(s(20));
            let before = rig.wakes();
            rig.run_until(s(27));
            assert_eq!(rig.wakes() - before, 1, "the checkpoint");
            rig.run_until(s(28));
            assert_eq!(rig.wakes() - before, 2, "the deadline");
            rig.verdict();

            let mut rig = Rig::new(path, exact());
            block(&rig.sink);
            assert_eq!(wakes_of(&mut rig, 22, |rig| rig.reader.end()), 1);
        }
        let mut rig = Rig::new(path, exact());
        rig.sink.eager();
        rig.sink.block_flush();
        let pong = wakes_of(&mut rig, 22, |rig| {
            rig.reader.handle_pong(rig.sink.payload(0));
        });
        // It beats the flush. A stream has to be read, the slot has entered it.
        assert_eq!(pong, usize::from(path == Path::Stream));
        // Answered: the flush goes on, and the sink still wakes it.
        assert_eq!(wakes_of(&mut rig, 23, |rig| rig.sink.unblock_flush()), 1);
    });
}

// contract: H51
#[test]
fn a_forged_pong_with_the_right_number_wakes_nobody() {
    let mut rig = Rig::new(Path::Slot, exact());
    let forged = |rig: &Rig| {
        let mut payload = rig.sink.payload(0).to_vec();
        payload[15] ^= 1;
        rig.reader.handle_pong(payload);
    };
    assert_eq!(wakes_of(&mut rig, 21, forged), 0);
    assert_eq!(rig.stats().unsolicited(), 1);
}

// contract: H51
#[test]
fn waiting_it_is_woken_by_the_pong_the_timer_and_the_end() {
    each_pinger(|path| {
        let mut rig = Rig::new(path, exact());
        let pong = wakes_of(&mut rig, 21, |rig| {
            rig.reader.handle_pong(rig.sink.payload(0));
        });
        assert_eq!(pong, usize::from(path == Path::Stream));
        rig.run_until(s(22));
        assert_eq!(
            wakes_of(&mut rig, 22, |rig| rig.sink.unblock()),
            0,
            "it has no frame"
        );

        let mut rig = Rig::new(path, exact());
        rig.run_until(s(20));
        let before = rig.wakes();
        rig.run_until(s(40));
        assert_eq!(rig.wakes() - before, 2, "the checkpoint and the deadline");

        let mut rig = Rig::new(path, exact());
        assert_eq!(wakes_of(&mut rig, 21, |rig| rig.reader.end()), 1);
    });
}

// contract: H51
#[test]
fn closing_it_is_woken_by_the_sink_and_the_timer() {
    each_pinger(|path| {
        let mut rig = Rig::new(path, exact());
        let sink = rig.sink.clone();
        rig.at(s(30), move || sink.block_flush());
        assert_eq!(wakes_of(&mut rig, 40, |rig| rig.sink.unblock_flush()), 1);
        rig.run_until(s(40));
        assert!(rig.verdict().1.close_sent());

        let (mut rig, out) = Rig::dedicated(path, exact());
        out.block();
        assert_eq!(wakes_of(&mut rig, 40, |_| out.unblock()), 1);
        rig.run_until(s(40));
        assert!(rig.verdict().1.close_sent());

        let mut rig = Rig::new(path, exact());
        let sink = rig.sink.clone();
        rig.at(s(30), move || sink.block());
        rig.run_until(s(40));
        let before = rig.wakes();
        rig.run_until(s(41));
        assert_eq!(rig.wakes() - before, 1, "the close timeout");
        rig.verdict();
    });
}

// contract: H51 R129
#[test]
fn an_answer_by_policy_wakes_nobody_while_the_next_ping_is_not_due() {
    let liveness = Liveness::Activity {
        max_unproven: s(1000),
    };
    let mut rig = Rig::new(Path::Slot, exact().liveness(liveness));
    assert_eq!(
        wakes_of(&mut rig, 1, |rig| rig.reader.handle_activity()),
        0,
        "nothing is out"
    );
    let answer = wakes_of(&mut rig, 22, |rig| {
        for _ in 0..100 {
            rig.reader.handle_activity();
        }
    });
    assert_eq!(answer, 0);
    assert_eq!(rig.stats().answered(), 1);
}

/// A life with all that can happen in it.
fn eventful(path: Path, prepare: impl Fn(&mut Rig)) -> Rig {
    let config = exact()
        .interval(s(10))
        .timeout(s(7))
        .write_timeout(s(9))
        .max_missed(2);
    let mut rig = Rig::new(path, config);
    prepare(&mut rig);
    rig.answer(|ping| match ping {
        0 => Some(ms(10)),
        1 => None,
        2 => Some(s(3)),
        3 => Some(s(8)),
        4 | 5 => Some(ms(0)),
        6..9 => Some(s(6)),
        _ => None,
    });
    for (second, action) in [
        (33, SinkScript::block as fn(&SinkScript)),
        (44, SinkScript::unblock),
        (48, SinkScript::block_flush),
        (55, SinkScript::unblock_flush),
    ] {
        let sink = rig.sink.clone();
        rig.at(s(second), move || action(&sink));
    }
    for second in 0..150 {
        rig.pong_at(s(second) + ms(500), "stray");
    }
    rig.stall(s(72)..s(79));
    rig.run_until(s(300));
    rig.verdict();
    rig
}

// contract: H52
#[test]
fn spurious_polls_change_nothing() {
    each_path(|path| {
        let plain = eventful(path, |_| {});
        let nervous = eventful(path, |rig| rig.extra_polls = 3);
        assert!(nervous.polls() > 2 * plain.polls());
        assert_eq!(nervous.transcript(), plain.transcript());
        let counters = |rig: &Rig| {
            let stats = rig.stats();
            (
                stats.sent(),
                stats.answered(),
                stats.missed(),
                stats.stale(),
                stats.unsolicited(),
            )
        };
        assert_eq!(counters(&nervous), counters(&plain));
    });
}

// contract: H53
#[test]
fn the_newest_waker_is_woken() {
    each_path(|path| {
        let plain = eventful(path, |_| {});
        // The World forgets the old waker at each poll: whoever wakes that one wakes nobody.
        let moving = eventful(path, |rig| rig.moving = true);
        assert_eq!(moving.transcript(), plain.transcript());
        let both = eventful(path, |rig| {
            rig.moving = true;
            rig.extra_polls = 1;
        });
        assert_eq!(both.transcript(), plain.transcript());
    });
}

// contract: H53
#[test]
fn the_waker_of_a_poll_that_had_nothing_to_do_is_woken() {
    each_path(|path| {
        let mut rig = Rig::new(path, exact());
        rig.run_until(s(5));
        rig.moving = true;
        rig.poll();
        rig.run_until(s(20));
        assert_eq!(rig.sink.pings(), [s(20)], "{path:?}");
    });
}

// contract: H52
#[test]
fn pending_in_between_changes_the_number_of_polls_alone() {
    use futures::executor::block_on;
    use futures::{SinkExt, StreamExt, channel::mpsc};
    use futures_pinger::{Frame, Pinger, Pong};
    use futures_test::sink::SinkTestExt;
    use futures_test::stream::StreamTestExt;
    use std::time::Duration;

    // Real time, but nothing waits for it: pings at once, pongs at once. A sink that yields has the heartbeat read
    // one pong at a time, and a timer that fires during a poll makes any sink seem to yield.
    let run = |sink: bool, stream: bool| {
        let config = exact()
            .initial_delay(Duration::ZERO)
            .interval(Duration::from_nanos(1));
        let config = config.build().expect("valid");
        let (outgoing, mut frames) = mpsc::channel(0);
        let (pongs, pongs_in) = mpsc::unbounded::<Pong>();
        let outgoing = if sink {
            outgoing.interleave_pending_sink().left_sink()
        } else {
            outgoing.right_sink()
        };
        let pongs_in = if stream {
            pongs_in.interleave_pending().left_stream()
        } else {
            pongs_in.right_stream()
        };
        let heartbeat = Pinger::new(outgoing, pongs_in, config);
        let peer = async move {
            for _ in 0..50 {
                match frames.next().await {
                    Some(Frame::Ping(payload)) => {
                        pongs.unbounded_send(Pong(payload)).expect("it runs");
                    }
                    other => panic!("{other:?}"),
                }
            }
            // The sink lives until the end of the pongs is read: a ping that is due before that still finds it.
            frames
        };
        let (ended, _frames) = block_on(futures::future::join(heartbeat, peer));
        ended.expect("no verdict")
    };
    for (sink, stream) in [(false, false), (true, false), (false, true), (true, true)] {
        assert_eq!(run(sink, stream), Stopped::PongsEnded, "{sink} {stream}");
    }
}

/// A timer whose wake comes in the middle of a poll, as that of a timer on another thread may.
struct Crossing {
    timer: ManualTimer,
    waker: Mutex<Option<Waker>>,
    /// Whether the reads of the clock wake.
    crosses: Arc<AtomicBool>,
}

impl Timer for Crossing {
    fn clock(&self) -> Clock {
        self.timer.clock()
    }

    fn now(&self) -> Instant {
        if self.crosses.load(Ordering::Relaxed) {
            let waker = self.waker.lock().expect("no panic").clone();
            waker.expect("it was polled before").wake();
        }
        self.timer.now()
    }

    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        Pin::new(&mut self.timer).reset(deadline);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.waker.lock().expect("no panic") = Some(cx.waker().clone());
        Pin::new(&mut self.timer).poll_elapsed(cx)
    }
}

// The wake had used up the reader's waker, and the poll that it brought about took the short way, which left none:
// nothing of the heartbeat woke the reader any more, and a peer that was gone was not found.
// contract: H51
#[test]
fn a_reader_whose_poll_is_crossed_by_the_wake_of_its_timer_is_woken_again() {
    let (world, crosses) = (World::new(), Arc::<AtomicBool>::default());
    let (socket, script) = world.socket(Plain);
    let timer = Crossing {
        timer: world.timer(),
        waker: Mutex::default(),
        crosses: Arc::clone(&crosses),
    };
    let config = exact().timeout(s(5)).no_close().build().expect("valid");
    let mut alive = KeepAlive::with_protocol(socket, Plain, config).with_timer(timer);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut read = || alive.poll_next_unpin(&mut Context::from_waker(&waker));
    assert!(read().is_pending());
    while world.step(s(20)) {}

    // The ping leaves, and the timer is armed for the time of its pong.
    crosses.store(true, Ordering::Relaxed);
    assert!(read().is_pending());
    crosses.store(false, Ordering::Relaxed);
    assert_eq!(script.pings(), [s(20)]);
    let mut polled = Poll::Pending;
    while polled.is_pending() && (woken.flag.load(Ordering::Relaxed) || world.step(s(60))) {
        if woken.flag.swap(false, Ordering::Relaxed) {
            polled = read();
        }
    }
    assert!(matches!(polled, Poll::Ready(Some(Err(Error::Timeout(_))))));
    assert_eq!(world.elapsed(), s(25));
}
