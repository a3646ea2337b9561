//! O. The heartbeat goes on while the application does something else.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use futures_pinger::testing::{ScriptedSocket, SocketScript};
use futures_pinger::{Config, Error, KeepAlive, Rfc6455, TimeoutPhase};
use tokio_tungstenite::tungstenite::Message;

use crate::pipe::{config, keep_alive, pair};
use crate::world::{ManualTimer, World, ms, s};

type Alive = KeepAlive<ScriptedSocket<Message>, Rfc6455, ManualTimer>;

/// A heartbeat of 20 s in a world, whose peer answers after 30 ms.
fn alive(world: &World) -> (Alive, SocketScript<Message>) {
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    script.peer().answer_after(ms(30));
    let config = Config::builder().granularity(Duration::ZERO);
    let config = config.interval(s(20)).build().expect("valid");
    let alive = KeepAlive::new(socket, config).with_timer(world.timer());
    (alive, script)
}

/// Sets its flag when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// contract: O91
#[test]
fn pings_leave_on_schedule_while_the_work_goes_on() {
    let world = World::new();
    let (mut alive, script) = alive(&world);
    for second in [10, 30, 50] {
        let script = script.clone();
        world.at(s(second), move || {
            script.receive(Message::text(second.to_string()));
        });
    }
    let read = world.run_within(s(300), async {
        let done = alive.run_while(world.sleep(s(210)).map(|()| 7)).await;
        assert_eq!(done, Ok(7));
        assert_eq!(world.elapsed(), s(210), "at once");
        let read: Vec<_> = alive.by_ref().take(3).collect().await;
        read
    });
    let due: Vec<_> = (1..=10).map(|n| s(20) * n).collect();
    assert_eq!(script.pings(), due);
    let texts = read
        .into_iter()
        .map(|read| read.expect("no error").to_string());
    assert_eq!(texts.collect::<Vec<_>>(), ["10", "30", "50"]);
    let stats = alive.stats();
    assert_eq!((stats.answered(), stats.missed()), (10, 0));
    assert_eq!(stats.latest_rtt(), Some(ms(30)));
}

// contract: O91
#[test]
fn the_output_of_the_work_wins_over_a_verdict_that_comes_next() {
    let world = World::new();
    let (mut alive, script) = alive(&world);
    script.peer().fall_silent();
    world.run_within(s(300), async {
        assert_eq!(alive.run_while(world.sleep(s(40))).await, Ok(()));
        assert_eq!(world.elapsed(), s(40));
        let end = alive.next().await.expect("the verdict");
        assert!(matches!(end, Err(Error::Timeout(_))), "{end:?}");
        assert!(alive.next().await.is_none());
    });
}

// contract: O91
#[test]
fn a_peer_that_dies_interrupts_work_that_hangs() {
    let world = World::new();
    let (mut alive, script) = alive(&world);
    let (dropped, peer) = (Arc::new(AtomicBool::new(false)), script.clone());
    world.at(s(30), move || {
        peer.receive(Message::text("last words"));
        peer.peer().fall_silent();
    });
    world.run_within(s(300), async {
        let guard = Dropped(Arc::clone(&dropped));
        let work = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        assert!(alive.run_while(work).await.is_err());
        assert!(dropped.load(Ordering::Relaxed));
        let at = world.elapsed();
        assert!(at >= s(60) && at <= s(61), "{at:?}");
        // Nothing is done any more once it has ended.
        assert!(alive.run_while(pending::<()>()).await.is_err());
        let words = alive.next().await.expect("a message").expect("no error");
        assert_eq!(words, Message::text("last words"));
        let end = alive.next().await.expect("the verdict");
        assert!(
            matches!(&end, Err(Error::Timeout(verdict)) if verdict.phase() == TimeoutPhase::Pong),
            "{end:?}"
        );
        assert!(alive.next().await.is_none());
        assert!(alive.run_while(pending::<()>()).await.is_err());
        assert_eq!(world.elapsed(), at);
    });
}

// contract: O91
#[test]
fn an_error_and_the_end_interrupt_the_work() {
    for fails in [false, true] {
        let world = World::new();
        let (mut alive, script) = alive(&world);
        world.at(s(30), move || {
            script.receive(Message::text("x"));
            if fails {
                script.receive_error();
            }
            script.end();
        });
        world.run_within(s(300), async {
            assert!(alive.run_while(pending::<()>()).await.is_err());
            assert_eq!(world.elapsed(), s(30));
            assert!(alive.next().await.expect("a message").is_ok());
            if fails {
                let end = alive.next().await.expect("the error");
                assert!(matches!(end, Err(Error::Transport(_))), "{end:?}");
            }
            assert!(alive.next().await.is_none());
        });
    }
}

// contract: O91
#[test]
fn the_end_of_closing_interrupts_the_work() {
    let world = World::new();
    let (mut alive, script) = alive(&world);
    world.at(s(30), move || {
        script.block_flush();
        script.receive(Message::Close(None));
    });
    world.run_within(s(300), async {
        assert!(alive.run_while(pending::<()>()).await.is_err());
        assert_eq!(world.elapsed(), s(40));
        let close = alive.next().await.expect("a message").expect("no error");
        assert!(close.is_close());
        let end = alive.next().await.expect("the verdict");
        assert!(
            matches!(&end, Err(Error::Timeout(verdict)) if verdict.phase() == TimeoutPhase::Closing),
            "{end:?}"
        );
        assert!(alive.next().await.is_none());
        assert_eq!(world.elapsed(), s(40));
    });
}

// contract: O91
#[test]
fn work_may_panic() {
    let world = World::new();
    let (mut alive, script) = alive(&world);
    world.run_within(s(300), async {
        for _ in 0..3 {
            let work = async {
                world.sleep(s(25)).await;
                panic!("the work");
            };
            let worked = AssertUnwindSafe(alive.run_while(work)).catch_unwind().await;
            assert!(worked.is_err());
        }
        script.receive(Message::text("x"));
        assert!(alive.next().await.expect("a message").is_ok());
        assert_eq!(alive.run_while(world.sleep(s(25))).await, Ok(()));
    });
    assert_eq!(script.pings(), [s(20), s(40), s(60), s(80)]);
    assert_eq!(alive.stats().answered(), 4);
}

// The handler of a server made a call of 3 s with an interval of 0.5 s: no ping left meanwhile, no pong
// was sent, and a client with a heartbeat of its own hung up.
// contract: O91
#[tokio::test(start_paused = true)]
async fn a_client_with_a_heartbeat_outlives_a_long_handler() {
    let (ours, theirs) = pair(4096).await;
    let mut socket = keep_alive(ours, config(ms(500), ms(500)));
    let mut client = keep_alive(theirs, config(ms(500), ms(500)));
    client.send(Message::text("query")).await.expect("open");

    let server = async {
        let query = socket.next().await.expect("open").expect("a message");
        assert!(query.is_text());
        let answer = socket.run_while(async {
            tokio::time::sleep(s(3)).await;
            Message::text("answer")
        });
        let answer = answer.await.expect("not interrupted");
        socket.send(answer).await.expect("open");
        socket.stats().sent()
    };
    let client = async {
        loop {
            let message = client.next().await.expect("open").expect("no verdict");
            if message.is_text() {
                break;
            }
        }
    };
    let (pings, ()) = tokio::join!(server, client);
    assert!(pings >= 5, "{pings}");
}
