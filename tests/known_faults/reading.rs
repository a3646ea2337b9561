//! An application that is slow at reading.

use std::time::Duration;

use futures::StreamExt;
use futures_pinger::testing::World;
use futures_pinger::{KeepAlive, Rfc6455};
use tokio_tungstenite::tungstenite::Message;

use crate::{config, ms, s};

/// 100 messages are always unread and the application takes 1 s for each: a ping that is due at
/// 20 s leaves at 64 s, as the time is looked at once in 64 messages, and so does one that was asked
/// for at 3 s. A peer or a proxy with a timeout of its own has hung up by then.
// will change with O94
#[test]
fn a_slow_reader_sends_its_pings_64_messages_late() {
    let pings = |interval: Duration, asks_at: Option<Duration>| {
        let world = World::new();
        let (socket, script) = world.socket::<Message, _>(Rfc6455);
        script.peer().answer_after(ms(30));
        for _ in 0..100 {
            script.receive(Message::text("x"));
        }
        let socket = KeepAlive::new(socket, config(interval, s(20)));
        let mut socket = socket.with_timer(world.timer());
        let (clock, refill) = (world.clone(), script.clone());
        world.spawn(async move {
            let mut asks_at = asks_at;
            while let Some(Ok(_)) = socket.next().await {
                clock.sleep(s(1)).await;
                refill.receive(Message::text("x"));
                if asks_at.take_if(|at| clock.elapsed() >= *at).is_some() {
                    socket.ping_now();
                }
            }
        });
        world.run_until(s(70));
        script.pings()
    };
    assert_eq!(
        pings(s(20), None),
        [s(64)],
        "the fault is gone: turn this into a test of O94"
    );
    assert_eq!(
        pings(s(3600), Some(s(3))),
        [s(64)],
        "the fault is gone: turn this into a test of O94"
    );
}
