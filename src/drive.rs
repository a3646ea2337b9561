//! The one loop that drives a heartbeat: it moves frames into a sink, turn by turn, until the heartbeat
//! rests.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_sink::Sink;

use crate::frame::Frame;
use crate::machine::{Destination, SinkState, Turn, Verdict};
use crate::time::Time;

/// A heartbeat, as its driver sees it. Each call takes the lock and releases it.
pub(crate) trait Turns {
    /// See [`Machine::turn`](crate::machine::Machine::turn).
    fn turn(&mut self, sent: bool, sink: SinkState) -> Turn;

    /// A sink is about to be polled.
    fn expect_wake(&self);

    /// Whether the `Pending` of the sink that was polled last is a yield, with which the poll is to end.
    fn is_yield(&self) -> bool;

    /// See [`Machine::refuse`](crate::machine::Machine::refuse). Only the socket of a `KeepAlive` refuses.
    fn refuse(&mut self) {}

    /// See [`Machine::fail`](crate::machine::Machine::fail).
    fn fail(&mut self) -> bool;
}

/// The sinks of a heartbeat. An error is `None` if the driver must not report it.
pub(crate) trait Sinks {
    type Error;

    fn poll_ready(
        &mut self,
        to: Destination,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<Self::Error>>>;
    /// Gives the sink a frame. Returns false if the sink has not taken it: a ping is then offered again later.
    fn start_send(&mut self, to: Destination, frame: Frame) -> Result<bool, Option<Self::Error>>;
    fn poll_flush(
        &mut self,
        to: Destination,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<Self::Error>>>;
}

/// A single sink takes all frames, whatever their destination.
impl<Si: Sink<Frame>> Sinks for Pin<&mut Si> {
    type Error = Si::Error;

    #[inline]
    fn poll_ready(
        &mut self,
        _: Destination,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<Si::Error>>> {
        self.as_mut().poll_ready(cx).map_err(Some)
    }

    #[inline]
    fn start_send(&mut self, _: Destination, frame: Frame) -> Result<bool, Option<Si::Error>> {
        self.as_mut().start_send(frame).map_err(Some)?;
        Ok(true)
    }

    #[inline]
    fn poll_flush(
        &mut self,
        _: Destination,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Option<Si::Error>>> {
        self.as_mut().poll_flush(cx).map_err(Some)
    }
}

/// How often in a row a sink may yield. From then on the sink counts as one that is blocked.
const MAX_YIELDS: u8 = 64;

/// What a sink has answered last, as far as the next poll must know it.
///
/// A sink *yields* if its `Pending` says something about the runtime and nothing about the peer: tokio lets a
/// task do 128 operations on its channels and sockets in one poll, and from then on each of them returns
/// `Pending`. A sink that yields wakes its waker within the same poll, by which a yield is recognised. Since
/// version 1.44 tokio wakes only after the poll. Where a driver serves one sink alone that does no harm: the
/// driver is polled again at once, and judges nothing in a poll in which something was read. A set also takes
/// a `Pending` for a yield if the sink was asked after many others in the same poll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastAnswer {
    /// The sink is blocked: it takes nothing, or has not flushed what it took, and wakes the task.
    pub(crate) blocked: bool,
    /// How often in a row the sink has yielded, up to [`MAX_YIELDS`].
    yields: u8,
}

impl LastAnswer {
    pub(crate) const NONE: Self = Self {
        blocked: false,
        yields: 0,
    };

    /// Whether the sink has yielded, so that the next poll must ask it before others use up the budget of the
    /// task. The write timeout then begins anew, unless the sink was blocked before.
    #[inline]
    pub(crate) fn has_yielded(self) -> bool {
        (1..MAX_YIELDS).contains(&self.yields)
    }

    /// Counts one more yield of the sink.
    #[cold]
    pub(crate) fn yields(&mut self) {
        self.yields += 1;
    }

    /// The heartbeat rests, and the sink is `blocked` or not.
    #[inline]
    pub(crate) fn rests(&mut self, blocked: bool) {
        *self = Self {
            blocked,
            yields: if blocked && self.may_not_yield() {
                MAX_YIELDS
            } else {
                0
            },
        };
    }

    /// Whether one more yield counts as blocked.
    #[inline]
    pub(crate) fn may_not_yield(self) -> bool {
        self.yields >= MAX_YIELDS - 1
    }
}

/// How a call of [`drive`] has ended.
#[derive(Debug)]
pub(crate) enum Driven<E> {
    /// Nothing is to be done before `until`. If the sink is `blocked`, the sink wakes the task.
    Rests { until: Time, blocked: bool },
    /// The sink has yielded. Nothing was judged. The poll of the task must end, and the next one, which must
    /// come at once, asks the sink first.
    Yields,
    /// The heartbeat has ended, with this verdict unless its connection ended first.
    Over(Option<Verdict>),
    /// The sink has failed, and the heartbeat with it.
    Failed(E),
}

/// Drives a heartbeat until it rests. `in_sink` is kept from one call to the next, and says which sink has a
/// frame that is not flushed. `cx` has the waker of the heartbeat, which the sinks wake.
#[inline]
pub(crate) fn drive<S: Sinks>(
    sinks: &mut S,
    in_sink: &mut Option<Destination>,
    heartbeat: &mut impl Turns,
    cx: &mut Context<'_>,
) -> Driven<S::Error> {
    let mut state = SinkState::Unknown;
    // Whether the sink has answered `Pending`, so that it will wake the waker.
    let mut blocked = false;
    let mut sent = false;
    // The sink that was offered a frame last.
    let mut to = Destination::Outgoing;
    loop {
        let asked = match *in_sink {
            Some(taken_by) if state != SinkState::Blocked => {
                heartbeat.expect_wake();
                let flushed = sinks.poll_flush(taken_by, cx);
                if let Poll::Ready(Ok(())) = flushed {
                    *in_sink = None;
                    sent = true;
                }
                flushed
            }
            _ => match heartbeat.turn(std::mem::take(&mut sent), state) {
                // The flush of one frame is finished before the next frame is asked for.
                Turn::Offer(_) if in_sink.is_some() => {
                    state = SinkState::Blocked;
                    continue;
                }
                Turn::Offer(destination) => {
                    to = destination;
                    heartbeat.expect_wake();
                    let ready = sinks.poll_ready(to, cx);
                    if ready.is_ready() {
                        state = SinkState::Ready;
                    }
                    ready
                }
                Turn::Send(frame) => {
                    let started = sinks.start_send(to, frame);
                    *in_sink = Some(to);
                    state = SinkState::Unknown;
                    Poll::Ready(started.map(|taken| {
                        if !taken {
                            *in_sink = None;
                            heartbeat.refuse();
                        }
                    }))
                }
                // A frame that is still in the sink is given up.
                Turn::Close => {
                    *in_sink = None;
                    state = SinkState::Unknown;
                    blocked = false;
                    continue;
                }
                Turn::Rest(until) => return Driven::Rests { until, blocked },
                Turn::Over(verdict) => return Driven::Over(verdict),
            },
        };
        match asked {
            Poll::Ready(Ok(())) => {}
            Poll::Pending if heartbeat.is_yield() => return Driven::Yields,
            // Pending: the sink wakes us.
            Poll::Pending => {
                state = SinkState::Blocked;
                blocked = true;
            }
            Poll::Ready(Err(error)) => {
                *in_sink = None;
                state = SinkState::Blocked;
                let over = heartbeat.fail();
                if let (false, Some(error)) = (over, error) {
                    return Driven::Failed(error);
                }
            }
        }
    }
}
