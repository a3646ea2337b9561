//! The messages that a scripted sink takes, and how it checks that it is used as it must be.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::time::{lock, wake};
use crate::protocol::MessageKind;

/// The error of the scripted parts.
///
/// For code that needs the errors of its own WebSocket crate, put `SinkExt::sink_map_err` and
/// `TryStreamExt::map_err` around the part, one around the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken by the script")
    }
}

impl StdError for Broken {}

/// Where a scripted sink fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// In `poll_ready`.
    Ready,
    /// In `start_send`.
    Send,
    /// In `poll_flush` and `poll_close`.
    Flush,
}

type Yields = Box<dyn Fn(usize) -> bool + Send>;
type Wire<M> = Arc<Mutex<dyn FnMut(M) + Send>>;

/// The state that a scripted sink and its script share.
pub(super) struct Outgoing<M>(Arc<Mutex<State<M>>>);

struct State<M> {
    blocked: bool,
    flush_blocked: bool,
    /// Which polls are answered with a yield, and from which poll on they are counted.
    yields: Option<(Yields, usize)>,
    eager: bool,
    faults: Vec<Fault>,
    reserved: bool,
    phase: Phase,
    held: bool,
    /// Messages that are not flushed, and have not reached the peer.
    unflushed: Vec<M>,
    sent: Vec<(Duration, M)>,
    pings: Vec<Duration>,
    ping_unflushed: bool,
    ping_flushed: Option<Duration>,
    readies: usize,
    polls: usize,
    on_wire: Option<Wire<M>>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// A close frame was taken.
    Closing,
    /// `poll_close` was called.
    Closed,
}

impl<M> State<M> {
    fn fails(&self, at: Fault) -> Result<(), Broken> {
        if self.faults.contains(&at) {
            return Err(Broken);
        }
        Ok(())
    }

    /// Whether this poll is answered with a yield.
    fn yields(&self) -> bool {
        let yields = self.yields.as_ref();
        // `polls` includes this poll already.
        yields.is_some_and(|(at, from)| at(self.polls - 1 - from))
    }
}

impl<M> Outgoing<M> {
    pub(super) fn release(&self) {
        let waker = {
            let mut state = lock(&self.0);
            state.held = false;
            state.waker.take()
        };
        drop(waker);
    }
}

impl<M: Clone> Outgoing<M> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            blocked: false,
            flush_blocked: false,
            yields: None,
            eager: false,
            faults: Vec::new(),
            reserved: false,
            phase: Phase::Open,
            held: true,
            unflushed: Vec::new(),
            sent: Vec::new(),
            pings: Vec::new(),
            ping_unflushed: false,
            ping_flushed: None,
            readies: 0,
            polls: 0,
            on_wire: None,
            waker: None,
        })))
    }

    pub(super) fn block(&self) {
        lock(&self.0).blocked = true;
    }

    pub(super) fn block_flush(&self) {
        lock(&self.0).flush_blocked = true;
    }

    pub(super) fn unblock(&self) {
        lock(&self.0).blocked = false;
    }

    pub(super) fn unblock_flush(&self) {
        lock(&self.0).flush_blocked = false;
    }

    pub(super) fn yield_at(&self, polls: impl Fn(usize) -> bool + Send + 'static) {
        let mut state = lock(&self.0);
        let from = state.polls;
        let old = state.yields.replace((Box::new(polls), from));
        drop(state);
        drop(old);
    }

    pub(super) fn eager(&self) {
        lock(&self.0).eager = true;
    }

    pub(super) fn fail(&self, fault: Fault) {
        lock(&self.0).faults.push(fault);
    }

    /// Wakes the task that waits for the sink.
    pub(super) fn wake(&self) {
        let waker = lock(&self.0).waker.take();
        wake(waker);
    }

    pub(super) fn on_wire(&self, peer: impl FnMut(M) + Send + 'static) {
        let old = lock(&self.0).on_wire.replace(Arc::new(Mutex::new(peer)));
        drop(old);
    }

    pub(super) fn sent(&self) -> Vec<(Duration, M)> {
        lock(&self.0).sent.clone()
    }

    pub(super) fn pings(&self) -> Vec<Duration> {
        lock(&self.0).pings.clone()
    }

    pub(super) fn ping_flushed(&self) -> Option<Duration> {
        lock(&self.0).ping_flushed
    }

    pub(super) fn has_unflushed(&self) -> bool {
        !lock(&self.0).unflushed.is_empty()
    }

    pub(super) fn readies(&self) -> usize {
        lock(&self.0).readies
    }

    pub(super) fn polls(&self) -> usize {
        lock(&self.0).polls
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.0).phase == Phase::Closed
    }

    pub(super) fn is_held(&self) -> bool {
        lock(&self.0).held
    }

    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = lock(&self.0);
        state.polls += 1;
        state.fails(Fault::Ready)?;
        if state.yields() {
            drop(state);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !state.blocked {
            state.reserved = true;
            state.readies += 1;
            return Poll::Ready(Ok(()));
        }
        // Pending: the script wakes it.
        let old = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    #[track_caller]
    pub(super) fn start_send(
        &self,
        message: &M,
        kind: &MessageKind<'_>,
        now: Duration,
    ) -> Result<(), Broken> {
        let mut state = lock(&self.0);
        state.fails(Fault::Send)?;
        assert!(
            state.reserved,
            "a message without readiness at {now:?}: each start_send needs a poll_ready that said so"
        );
        match state.phase {
            Phase::Open => {}
            Phase::Closing => panic!("a message after the close frame at {now:?}"),
            Phase::Closed => panic!("a message after the sink was closed at {now:?}"),
        }
        match kind {
            MessageKind::Ping(_) => {
                state.pings.push(now);
                state.ping_unflushed = true;
            }
            MessageKind::Close => state.phase = Phase::Closing,
            MessageKind::Pong(_)
            | MessageKind::Answer
            | MessageKind::PingBelow
            | MessageKind::PongBelow
            | MessageKind::Data => {}
        }
        state.reserved = false;
        state.sent.push((now, message.clone()));
        state.unflushed.push(message.clone());
        let wire = state.on_wire.clone().filter(|_| state.eager);
        drop(state);
        if let Some(wire) = wire {
            lock(&wire)(message.clone());
        }
        Ok(())
    }

    pub(super) fn poll_flush(&self, now: Duration, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = lock(&self.0);
        state.polls += 1;
        state.fails(Fault::Flush)?;
        if state.yields() {
            drop(state);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.flush_blocked {
            // Pending: the script wakes it.
            let old = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        if std::mem::take(&mut state.ping_unflushed) {
            state.ping_flushed = Some(now);
        }
        let flushed = std::mem::take(&mut state.unflushed);
        let wire = state.on_wire.clone().filter(|_| !state.eager);
        drop(state);
        if let Some(wire) = wire {
            flushed.into_iter().for_each(|message| lock(&wire)(message));
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_close(&self, now: Duration, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        lock(&self.0).phase = Phase::Closed;
        self.poll_flush(now, cx)
    }
}

impl<M> Clone for Outgoing<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
