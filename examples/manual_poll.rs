//! A heartbeat without a runtime: a [`Pinger`] over a channel and a stream of pongs, polled by a
//! `block_on` of twenty lines. The default timer needs nothing but its own thread.
//!
//! `cargo run --example manual_poll` takes a second, and fails unless the peer, who answers three
//! pings and then none, is found to be gone.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures_pinger::{Clock, Config, Error, Frame, HeartbeatState, Pinger, Pong, TimeoutPhase};

const ANSWERS: u64 = 3;

/// Runs a future on this thread, which sleeps while there is nothing to do.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            // A wake-up that came since the poll is not lost: `park` then returns at once.
            Poll::Pending => thread::park(),
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn StdError>> {
    let config = Config::builder()
        .initial_delay(Duration::ZERO)
        .interval(Duration::from_millis(200))
        .timeout(Duration::from_millis(300))
        .build()?;
    let (outgoing, frames) = mpsc::channel(0);
    let (pongs, pongs_in) = async_channel::bounded(1);
    let mut pinger = Box::pin(Pinger::new(outgoing, pongs_in, config));

    // One poll by hand puts the first ping, which is due at once, into the channel. Nothing wakes
    // this thread afterwards, so somebody has to poll again: `block_on` does, with its own waker.
    let mut cx = Context::from_waker(Waker::noop());
    let polled = pinger.as_mut().poll(&mut cx);
    let state = pinger.stats().state_at(Clock::system().now());
    say(format_args!(
        "heartbeat: {polled:?} after one poll, {state:?}"
    ));
    let began = polled.is_pending() && state == HeartbeatState::Sending;

    let peer = thread::spawn(move || peer(frames, &pongs));
    let ended = block_on(pinger.as_mut());
    // The sink goes with it, and so the frames of the peer end.
    drop(pinger);
    let came = peer.join().is_ok();

    let expected = match ended {
        Err(Error::Timeout(verdict)) => {
            say(format_args!("heartbeat: {verdict}"));
            verdict.phase() == TimeoutPhase::Pong && verdict.answered() == ANSWERS
        }
        other => {
            say(format_args!("heartbeat: {other:?}, which is wrong"));
            false
        }
    };
    Ok(if began && expected && came {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The other end of the connection: takes all frames, and answers the first pings only.
fn peer(mut frames: mpsc::Receiver<Frame>, pongs: &async_channel::Sender<Pong>) {
    let mut pings = 0;
    while let Some(frame) = block_on(frames.next()) {
        match frame {
            Frame::Ping(payload) => {
                pings += 1;
                if pings > ANSWERS {
                    say(format_args!("peer:      ping {pings}, no answer"));
                    continue;
                }
                say(format_args!("peer:      ping {pings}, answered"));
                if pongs.send_blocking(Pong(payload)).is_err() {
                    return; // The heartbeat is gone.
                }
            }
            Frame::Close(reason) => say(format_args!(
                "peer:      close {} {}",
                reason.code(),
                reason.reason()
            )),
            Frame::Pong(_) => {}
        }
    }
}

fn say(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        // Who reads through `head` has seen enough; that is no failure.
        std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
    }
}
