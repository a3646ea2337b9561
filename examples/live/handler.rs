//! A server whose application takes its time, as long as its client asks for.

use std::str::FromStr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::{Config, KeepAlive, TimedOut, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_tungstenite::accept_async;
use tungstenite_0_30::Message;

use crate::{Failure, milliseconds, promise, verdict};

/// What the application does about the heartbeat while it works on a message.
#[derive(Clone, Copy)]
pub(crate) enum Care {
    /// The heartbeat goes on, by `run_while`.
    RunWhile,
    /// Nothing: the control, whose peers must hang up.
    Bare,
}

impl FromStr for Care {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "run-while" => Ok(Self::RunWhile),
            "bare" => Ok(Self::Bare),
            _ => Err(format!("{text} is neither run-while nor bare")),
        }
    }
}

/// Serves one client until the heartbeat finds that the client is gone. The application takes its time over the
/// message `pause MS` for so long, during which the socket is not polled. `work MS` is the long work that
/// `run_while` is for, and that message is sent back when the work is done.
pub(crate) async fn serve(
    care: Care,
    interval: Duration,
    timeout: Duration,
) -> Result<TimedOut, Failure> {
    let config = Config::builder()
        .interval(interval)
        .timeout(timeout)
        // A machine with other things to do may keep a live peer from one answer.
        .max_missed(2)
        .build()?;
    promise(&config)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    let socket = accept_async(tcp).await?;
    let mut socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());

    loop {
        let message = match socket.next().await.ok_or("the client has left")? {
            Ok(message) => message,
            Err(error) => return verdict(error),
        };
        if !message.is_text() {
            continue;
        }
        let (task, time) = task(&message)?;
        match (task, care) {
            (Task::Pause, _) => {
                sleep(time).await;
                continue;
            }
            (Task::Work, Care::Bare) => sleep(time).await,
            (Task::Work, Care::RunWhile) => {
                // If the heartbeat interrupts the work, the next message is the reason.
                if socket.run_while(sleep(time)).await.is_err() {
                    continue;
                }
            }
        }
        if let Err(error) = socket.send(message).await {
            return verdict(error);
        }
    }
}

enum Task {
    Pause,
    Work,
}

fn task(message: &Message) -> Result<(Task, Duration), Failure> {
    let mut words = message.to_text()?.split(' ');
    match (words.next(), words.next()) {
        (Some("pause"), Some(time)) => Ok((Task::Pause, milliseconds(time)?)),
        (Some("work"), Some(time)) => Ok((Task::Work, milliseconds(time)?)),
        _ => Err("a message is `pause MS ...` or `work MS ...`".into()),
    }
}
