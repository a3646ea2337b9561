//! What users write today, as the yardstick: a good `select!` loop, and ktor's pinger in Rust.
//!
//! Both are generic over nothing and run on tokio with tokio's channels, the way they are found in
//! the field. They share the frame type below; the crate under test is never used here.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

/// What the loops put on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// A ping with its payload.
    Ping(Bytes),
    /// A close frame: code and reason.
    Close(u16, &'static str),
}

/// The peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// By when its pong had to be there, where the loop knows.
    pub deadline: Option<Instant>,
}

/// The careful `select!` loop: missed ticks are skipped, one pinned sleep is re-armed for each
/// ping, the payload is random and verified, a stray pong is ignored.
///
/// `Ok` when the writer or the reader is gone, [`Dead`] when the peer is.
pub async fn select_loop(
    out: mpsc::Sender<Out>,
    mut pongs: mpsc::Receiver<Bytes>,
    interval: Duration,
    timeout: Duration,
) -> Result<(), Dead> {
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = sleep(timeout);
    tokio::pin!(deadline);
    let mut waiting: Option<[u8; 8]> = None;

    loop {
        tokio::select! {
            pong = pongs.recv() => match pong {
                None => return Ok(()),
                Some(pong) => {
                    if waiting.is_some_and(|payload| payload == *pong) {
                        waiting = None;
                    }
                }
            },
            _ = ticks.tick(), if waiting.is_none() => {
                let payload: [u8; 8] = rand::random();
                if out.send(Out::Ping(Bytes::copy_from_slice(&payload))).await.is_err() {
                    return Ok(());
                }
                deadline.as_mut().reset(Instant::now() + timeout);
                waiting = Some(payload);
            }
            () = &mut deadline, if waiting.is_some() => {
                let _ = out.send(Out::Close(1011, "Ping timeout")).await;
                return Err(Dead {
                    deadline: Some(deadline.deadline()),
                });
            }
        }
    }
}

/// ktor's pinger, carried over: a delay of `period` that pongs may end early (and are then thrown
/// away), then one `timeout` around sending the ping and waiting for its pong. The payload is a
/// random number as text.
///
/// `Ok` when the writer or the reader is gone, [`Dead`] when the peer is.
pub async fn ktor_loop(
    out: mpsc::Sender<Out>,
    mut pongs: mpsc::Receiver<Bytes>,
    period: Duration,
    limit: Duration,
) -> Result<(), Dead> {
    loop {
        // The first timer: drop whatever pongs come until the period is over.
        let drained = timeout(period, async { while pongs.recv().await.is_some() {} }).await;
        if drained.is_ok() {
            return Ok(());
        }

        // The second: the ping and its answer.
        let payload = format!("[ping {:x} ping]", rand::random::<u64>());
        let answered = timeout(limit, async {
            let ping = Bytes::copy_from_slice(payload.as_bytes());
            if out.send(Out::Ping(ping)).await.is_err() {
                return false;
            }
            loop {
                match pongs.recv().await {
                    None => return false,
                    Some(pong) if pong == payload.as_bytes() => return true,
                    Some(_) => {}
                }
            }
        })
        .await;
        match answered {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(_) => {
                let _ = out.send(Out::Close(1011, "Ping timeout")).await;
                return Err(Dead { deadline: None });
            }
        }
    }
}
