//! O. Whichever half the application polls, the heartbeat goes on.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, Error, TimeoutPhase};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::pipe::{Failure, ends_within, keep_alive, pair, then_silent};
use crate::socket::{Kept, Msg};
use crate::world::{Broken, exact, ms, s};

/// The bound of the default configuration.
fn bound() -> Duration {
    Config::default().detection_bound().expect("there is one")
}

// README's first example never ended: while its `send` waited for the socket, nobody judged.
// contract: O87
#[tokio::test(start_paused = true)]
async fn an_echo_loop_ends_within_the_bound_when_the_peer_goes_silent() {
    for buffer in [64, 4096, 65_536] {
        for lookahead in [0, 1, 16] {
            let (ours, peer) = pair(buffer).await;
            let socket = keep_alive(ours, Config::default());
            let mut socket = socket.with_lookahead(lookahead);
            let peer = then_silent(peer, 2, 262_144);
            let echo = async {
                loop {
                    let message = match socket.next().await? {
                        Ok(message) => message,
                        Err(error) => return Some(error),
                    };
                    if let Err(error) = socket.send(message).await {
                        return Some(error);
                    }
                }
            };
            ends_within(bound(), echo).await;
            peer.abort();
        }
    }
}

// contract: O87
#[tokio::test(start_paused = true)]
async fn a_select_with_a_send_in_an_arm_ends_within_the_bound() {
    for buffer in [64, 4096] {
        let (ours, peer) = pair(buffer).await;
        let mut socket = keep_alive(ours, Config::default());
        let mut ticks = tokio::time::interval(s(1));
        let peer = then_silent(peer, 0, 0);
        let app = async {
            loop {
                tokio::select! {
                    message = socket.next() => match message? {
                        Ok(_) => {}
                        Err(error) => return Some(error),
                    },
                    _ = ticks.tick() => {
                        let message = Message::text("x".repeat(1000));
                        if let Err(error) = socket.send(message).await {
                            return Some(error);
                        }
                    }
                }
            }
        };
        ends_within(bound(), app).await;
        peer.abort();
    }
}

// contract: O87
#[tokio::test(start_paused = true)]
async fn a_forward_to_the_same_socket_ends_within_the_bound() {
    for buffer in [64, 4096] {
        let (ours, peer) = pair(buffer).await;
        let (sink, stream) = keep_alive(ours, Config::default()).split();
        // More than both directions can hold.
        let peer = then_silent(peer, 8, 65_536);
        let app = async { stream.forward(sink).await.err() };
        ends_within(bound(), app).await;
        peer.abort();
    }
}

// contract: O87
#[tokio::test(start_paused = true)]
async fn two_tasks_with_a_bounded_queue_between_them_both_end_within_the_bound() {
    for (buffer, lookahead) in [(64, 16), (4096, 16), (4096, 0)] {
        let (ours, peer) = pair(buffer).await;
        let socket = keep_alive(ours, Config::default()).with_lookahead(lookahead);
        let (mut sink, mut stream) = socket.split();
        let peer = then_silent(peer, 40, 16_384);
        let (queue, mut queued) = mpsc::channel::<Message>(2);
        let writer = tokio::spawn(async move {
            while let Some(message) = queued.recv().await {
                if let Err(error) = sink.send(message).await {
                    return Some(error);
                }
            }
            None
        });
        // The queue is the back-pressure that stops the reading.
        let reader = tokio::spawn(async move {
            while let Some(message) = stream.next().await {
                match message {
                    Ok(message) => {
                        if queue.send(message).await.is_err() {
                            // The writer has ended, and the reader learns why.
                            continue;
                        }
                    }
                    Err(error) => return Some(error),
                }
            }
            None
        });
        let writer = ends_within(bound(), async { writer.await.expect("no panic") });
        let reader = ends_within(bound(), async { reader.await.expect("no panic") });
        tokio::join!(writer, reader);
        peer.abort();
    }
}

// contract: O87
#[tokio::test(start_paused = true)]
async fn a_loop_of_limited_sends_ends_within_the_bound() {
    for limit in [ms(10), s(5), s(30)] {
        let (ours, peer) = pair(4096).await;
        let mut socket = keep_alive(ours, Config::default());
        let peer = then_silent(peer, 0, 0);
        let publisher = async {
            loop {
                let send = socket.send(Message::binary(vec![0; 65_536]));
                if let Ok(Err(error)) = timeout(limit, send).await {
                    return Some(error);
                }
            }
        };
        // The last of the sends begins before the bound.
        let (phase, _) = ends_within(bound(), publisher).await;
        assert_eq!(phase, TimeoutPhase::Write);
        peer.abort();
    }
}

// contract: O87
#[tokio::test(start_paused = true)]
async fn over_tokio_websockets_the_same_loops_end_within_the_bound() {
    use tokio_websockets_0_13::{Config as Limits, Message, ServerBuilder};

    for buffer in [64, 4096] {
        let (ours, theirs) = tokio::io::duplex(buffer);
        let socket = ServerBuilder::new().config(Limits::default()).serve(ours);
        let mut socket = keep_alive(socket, Config::default());
        let publisher = async {
            loop {
                let message = Message::binary(vec![0_u8; 65_536]);
                if let Err(error) = socket.send(message).await {
                    return Some(error);
                }
            }
        };
        ends_within(bound(), publisher).await;
        drop(theirs);
    }
}

/// An application that publishes once a second and never polls its stream.
fn publish(kept: &mut Kept, seconds: std::ops::Range<u64>) -> Option<(Duration, Error<Broken>)> {
    for second in seconds {
        let at = s(second);
        kept.idle_until(at);
        let sent = match kept.poll_ready() {
            Poll::Ready(Ok(())) => kept.start_send(Msg::Data(1)),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => continue,
        };
        let sent = sent.and_then(|()| match kept.poll_flush() {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        });
        if let Err(error) = sent {
            return Some((kept.world.elapsed(), error));
        }
    }
    None
}

// contract: O88
#[test]
fn an_app_that_only_publishes_keeps_a_live_peer_for_a_day() {
    for (rtt, seconds) in [(ms(30), 86_400), (ms(0), 3600), (s(5), 3600), (s(19), 3600)] {
        let mut kept = Kept::new(exact());
        kept.answer_after(rtt);
        assert_eq!(publish(&mut kept, 0..seconds), None, "{rtt:?}");
        let stats = kept.stats();
        assert!(stats.sent() >= seconds / 21, "{stats:?}");
        assert_eq!(stats.missed(), 0);
        assert!(stats.answered() + 1 >= stats.sent(), "{stats:?}");
        // What the sink's side reads was not read when it came.
        assert_eq!(stats.latest_rtt(), None, "{rtt:?}");
    }
}

// contract: O88
#[test]
fn an_app_that_only_publishes_finds_a_dead_peer_within_the_bound_and_two_sends() {
    for dies_after in [0, 1, 7] {
        let mut kept = Kept::new(exact());
        kept.answer(move |ping| (ping < dies_after).then_some(ms(30)));
        let (at, error) = publish(&mut kept, 0..1000).expect("a verdict");
        assert!(matches!(error, Error::Timeout(verdict) if verdict.phase() == TimeoutPhase::Pong));
        let proof = s(20) * u32::try_from(dies_after).expect("few") + ms(30);
        let bound = exact()
            .build()
            .expect("valid")
            .detection_bound()
            .expect("there is one");
        assert!(at <= proof + bound + s(2), "{at:?} after {proof:?}");
        assert!(at >= proof + s(20), "{at:?} after {proof:?}");
    }
}

// contract: O88
#[test]
fn the_sinks_side_does_not_judge_before_two_looks_have_found_nothing() {
    // The peer's window was shut: its pong comes only after something was read.
    // With the grace for stalls the machine waits for it in any case.
    for grace in [true, false] {
        let kept = Kept::new(exact().stall_grace(grace));
        the_pong_after_the_first_look_is_in_time(kept);
    }
}

fn the_pong_after_the_first_look_is_in_time(mut kept: Kept) {
    let script = kept.script.clone();
    kept.run_until(s(20));
    for number in 0..10 {
        script.receive(Msg::Data(number));
    }
    // Nobody polls before the deadline has passed.
    kept.idle_until(s(45));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    let sent = script.sent();
    let Msg::Ping(payload) = sent[0].1.clone() else {
        panic!("a ping")
    };
    kept.at(s(45) + ms(100), move |script| {
        script.receive(Msg::Pong(payload));
    });
    kept.idle_until(s(46));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.idle_until(s(60));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "alive");
    assert_eq!(kept.stats().answered(), 1);
    // What was read ahead is still there, and in its order.
    kept.run_until(s(61));
    assert_eq!(kept.messages(), (0..10).map(Msg::Data).collect::<Vec<_>>());
}

// contract: O88
#[test]
fn a_pong_that_had_no_room_gets_the_slack_after_the_first_look_that_found_nothing() {
    for (pong, lives) in [(ms(20_500), true), (ms(22_000), true), (ms(40_000), false)] {
        let mut kept = Kept::with_lookahead(exact().interval(s(3600)), 1);
        kept.alive
            .as_mut()
            .get_mut()
            .ping_now()
            .expect("it goes on");
        for number in 0..5 {
            kept.script.receive(Msg::Data(number));
        }
        // The sink's side looks at the checkpoint and finds no room.
        assert_eq!(publish(&mut kept, 0..20), None);
        assert_eq!(kept.script.pings(), [s(0)]);
        // The reader takes what is there, and goes away again.
        kept.idle_until(ms(19_990));
        while kept.messages().len() < 5 {
            assert!(kept.read_once());
        }
        let Msg::Ping(payload) = kept.script.sent()[0].1.clone() else {
            panic!("a ping")
        };
        kept.at(pong, move |script| script.receive(Msg::Pong(payload)));
        let ended = publish(&mut kept, 20..60);
        assert_eq!(ended.is_none(), lives, "{pong:?}: {ended:?}");
        if let Some((at, _)) = ended {
            assert!(at <= s(25), "{at:?}");
        }
    }
}

// contract: O88
#[test]
fn a_look_of_the_sinks_side_that_did_not_read_is_none_of_the_two() {
    let mut kept = Kept::new(exact());
    kept.run_until(s(20));
    let controller = kept.alive.as_mut().get_mut().controller();
    // An order makes the sink's side look long before the deadline.
    kept.idle_until(s(22));
    controller.resume().expect("it goes on");
    controller.ping_now().expect("it goes on");
    let config = exact().max_missed(1).build().expect("valid");
    controller.set_config(config).expect("it goes on");
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())));
    kept.script.receive(Msg::Data(1));
    kept.idle_until(s(45));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "the first look");
    kept.idle_until(s(46));
    assert_eq!(kept.poll_ready(), Poll::Ready(Ok(())), "before the slack");
    let (at, error) = publish(&mut kept, 47..80).expect("a verdict");
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert!(at <= s(45 + 20), "{at:?}");
}

// contract: O88
#[test]
fn the_sinks_side_reads_nothing_while_no_pong_is_missing() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    kept.script.receive(Msg::Data(1));
    assert_eq!(publish(&mut kept, 0..20), None);
    // Else the peer would feel no back-pressure.
    let ahead = kept.into_ahead();
    assert_eq!(ahead, []);
}

// contract: O88
#[tokio::test(start_paused = true)]
async fn a_reader_and_a_writer_in_two_tasks_lose_no_wake() {
    for (reads, writes) in [(0, 7), (3, 0), (13, 11), (900, 30_000), (30_000, 900)] {
        let (ours, mut peer) = pair(64).await;
        let config = crate::pipe::config(s(2), s(2));
        let (mut sink, mut stream) = keep_alive(ours, config).split();
        let writer = tokio::spawn(async move {
            loop {
                sink.send(Message::binary(vec![0; 200])).await?;
                tokio::time::sleep(ms(writes)).await;
            }
            #[allow(unreachable_code)]
            Ok::<_, Failure>(())
        });
        let reader = tokio::spawn(async move {
            while let Some(message) = stream.next().await {
                if let Err(error) = message {
                    return Some(error);
                }
                tokio::time::sleep(ms(reads)).await;
            }
            None
        });
        let peer = tokio::spawn(async move {
            // An echo for a while, then nothing.
            let _ = timeout(s(300), async {
                while let Some(Ok(message)) = peer.next().await {
                    if message.is_binary() && peer.send(message).await.is_err() {
                        break;
                    }
                    let _ = peer.flush().await;
                }
            })
            .await;
            std::future::pending::<()>().await;
            drop(peer);
        });
        let both = async { tokio::join!(reader, writer) };
        let start = tokio::time::Instant::now();
        let (reader, writer) = timeout(s(1000), both).await.expect("both end");
        assert!(matches!(reader, Ok(Some(Error::Timeout(_)))), "{reader:?}");
        assert!(matches!(writer, Ok(Err(Error::Timeout(_)))), "{writer:?}");
        let lived = start.elapsed();
        // A reader that is away for longer keeps the peer from reading too: it takes nothing.
        if reads < 2000 {
            assert!(lived > s(300), "{reads} {writes}: {lived:?} {reader:?}");
        }
        peer.abort();
    }
}

// contract: O88
#[test]
fn the_halves_do_not_wake_each_other_for_ever() {
    let mut kept = Kept::new(exact());
    kept.answer_after(ms(30));
    kept.script.block();
    assert_eq!(kept.poll_ready(), Poll::Pending);
    // Each half is polled whenever it is woken; the busy loop would be caught by the count.
    let mut polls = 0;
    loop {
        let reads = kept.reader.flag.swap(false, Ordering::Relaxed);
        if reads {
            while kept.read_once() {}
        }
        let writes = kept.writer_woken();
        if writes {
            let _ = kept.poll_ready();
        }
        polls += u32::from(reads) + u32::from(writes);
        assert!(polls < 100, "a busy loop at {:?}", kept.world.elapsed());
        if !reads && !writes && !kept.world.step(s(39)) {
            break;
        }
    }
    assert!(polls < 20, "{polls} polls");
}

/// A generator of numbers for the schedules of the test below.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// A reader's and a writer's task, each of which is polled when it is woken, unless it is away.
struct Tasks {
    kept: Kept,
    /// Whether the writer waits for a flush.
    flushing: bool,
    writer_ended: Option<Duration>,
    polls: usize,
}

impl Tasks {
    fn write(&mut self) {
        if self.writer_ended.is_some() {
            return;
        }
        if !self.flushing {
            match self.kept.poll_ready() {
                Poll::Ready(Ok(())) => {
                    self.flushing = self.kept.start_send(Msg::Data(0)).is_ok();
                }
                Poll::Ready(Err(_)) => self.writer_ended = Some(self.kept.world.elapsed()),
                Poll::Pending => {}
            }
        }
        if self.flushing {
            match self.kept.poll_flush() {
                Poll::Ready(Ok(())) => self.flushing = false,
                Poll::Ready(Err(_)) => self.writer_ended = Some(self.kept.world.elapsed()),
                Poll::Pending => {}
            }
        }
    }

    /// Both tasks go on until `time`.
    fn run(&mut self, reads: bool, writes: bool, time: Duration) {
        loop {
            let mut any = false;
            if reads && self.kept.reader.flag.swap(false, Ordering::Relaxed) {
                while self.kept.read_once() {}
                any = true;
            }
            if writes && self.kept.writer_woken() {
                self.write();
                any = true;
            }
            if any {
                self.polls += 1;
                assert!(self.polls < 100_000, "a busy loop");
            } else if !self.kept.world.step(time) {
                break;
            }
        }
    }
}

// contract: O87, O88
#[test]
fn whichever_half_is_polled_a_live_peer_lives_and_a_dead_one_is_found() {
    for seed in 0..300_u64 {
        let mut random = Random(seed);
        let lookahead = [0, 1, 16][usize::try_from(random.below(3)).expect("small")];
        let mut tasks = Tasks {
            kept: Kept::with_lookahead(exact(), lookahead),
            flushing: false,
            writer_ended: None,
            polls: 0,
        };
        tasks.kept.answer_after(ms(random.below(15_000)));
        for _ in 0..random.below(100) {
            let (reads, writes) = [(true, false), (false, true), (true, true)]
                [usize::try_from(random.below(3)).expect("small")];
            if random.coin() {
                tasks.kept.script.receive(Msg::Data(1));
            }
            if random.coin() {
                // A writer comes by with a message, be it that the socket takes nothing for a while.
                if random.below(4) == 0 {
                    tasks.kept.script.block_flush();
                }
                tasks.write();
                let now = tasks.kept.world.elapsed();
                tasks.run(reads, writes, now + ms(random.below(8000)));
                tasks.kept.script.unblock();
            }
            // A task that comes back polls first.
            tasks.kept.reader.flag.store(true, Ordering::Relaxed);
            tasks.kept.writer.flag.store(true, Ordering::Relaxed);
            let now = tasks.kept.world.elapsed();
            tasks.run(reads, writes, now + ms(random.below(9000)));
            assert!(
                tasks.writer_ended.is_none(),
                "seed {seed}: {:?}",
                tasks.kept.stats()
            );
            tasks.kept.assert_alive();
        }
        // From here on the peer neither reads nor writes.
        tasks.kept.script.peer().fall_silent();
        tasks.kept.script.block_flush();
        let died = tasks.kept.world.elapsed();
        let (reads, writes) = [(true, false), (false, true), (true, true)]
            [usize::try_from(random.below(3)).expect("small")];
        tasks.kept.reader.flag.store(true, Ordering::Relaxed);
        tasks.kept.writer.flag.store(true, Ordering::Relaxed);
        tasks.write();
        tasks.run(reads, writes, died + s(1000));
        let bound = died + s(20 + 20 + 20) + s(5);
        let what = format!("seed {seed}, {lookahead} ahead, died at {died:?}, {reads} {writes}");
        if reads {
            let ended = tasks.kept.ended;
            assert!(ended.is_some_and(|at| at <= bound), "{what}: {ended:?}");
        }
        if writes {
            let ended = tasks.writer_ended;
            assert!(ended.is_some_and(|at| at <= bound), "{what}: {ended:?}");
        }
    }
}
