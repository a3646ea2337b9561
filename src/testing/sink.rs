//! The sink of a [`Pinger`](crate::Pinger), scripted.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_sink::Sink;

use super::outgoing::{Broken, Fault, Outgoing};
use super::peer::Peer;
use super::time::Time;
use super::world::World;
use crate::frame::Frame;
use crate::protocol::MessageKind;

/// A sink for a [`Pinger`](crate::Pinger) or a [`Ponger`](crate::Ponger), made by [`World::sink`].
///
/// # Panics
///
/// The sink checks how it is used, and panics at
///
/// - a frame without readiness,
/// - a frame before the one ahead of it is flushed,
/// - a second ping in one poll of a task,
/// - a ping or pong of more than 125 bytes (RFC 6455 §5.5),
/// - a frame after the close frame (RFC 6455 §5.5.1),
/// - `poll_close`: the sink is not the heartbeat's to close.
pub struct ScriptedSink {
    time: Arc<Time>,
    outgoing: Outgoing<Frame>,
    /// The poll in which the latest ping was sent.
    last_poll: Option<u64>,
}

/// The handle by which a test moves a [`ScriptedSink`], and sees what it was given.
#[derive(Clone)]
pub struct SinkScript {
    /// A weak reference, as scripts are on the agenda of the time.
    time: Weak<Time>,
    outgoing: Outgoing<Frame>,
}

impl World {
    /// A sink that takes all frames at once, and its script.
    ///
    /// # Examples
    ///
    /// A socket that takes nothing any more:
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::testing::World;
    /// use futures_pinger::{Config, Error, TimeoutPhase, pinger};
    ///
    /// let world = World::new();
    /// let (outgoing, sink) = world.sink();
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// sink.block();
    /// let ended = world.run_within(Duration::from_secs(60), pinger.with_timer(world.timer()));
    /// let Err(Error::Timeout(verdict)) = ended else { panic!("{ended:?}") };
    /// assert_eq!(verdict.phase(), TimeoutPhase::Write);
    /// # drop(pongs);
    /// ```
    #[must_use]
    pub fn sink(&self) -> (ScriptedSink, SinkScript) {
        let outgoing = Outgoing::new();
        let sink = ScriptedSink {
            time: Arc::clone(self.time()),
            outgoing: outgoing.clone(),
            last_poll: None,
        };
        let time = Arc::downgrade(self.time());
        (sink, SinkScript { time, outgoing })
    }
}

impl SinkScript {
    /// Puts a peer at the other end of the sink, in place of what was [there](Self::on_wire). Its pongs
    /// go through `deliver`, for instance into a [`PongSender`](crate::PongSender) or a
    /// [`PongScript`](super::PongScript). `deliver` is called when a pong arrives, also in a
    /// [stall](World::stall). For a reader that stalls with the process, make the reader a task, and let
    /// `deliver` put the pongs into its channel.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::testing::World;
    /// use futures_pinger::{Config, pinger};
    ///
    /// let world = World::new();
    /// let (outgoing, sink) = world.sink();
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// let peer = sink.peer(move |payload| {
    ///     let _ = pongs.handle_pong(&payload); // The heartbeat may have ended.
    /// });
    /// peer.answer_after(Duration::from_millis(30));
    ///
    /// let mut heartbeat = world.task(pinger.with_timer(world.timer()));
    /// heartbeat.run_until(Duration::from_secs(3600));
    /// let stats = heartbeat.future().expect("it is alive").stats();
    /// assert_eq!(stats.answered(), 239);
    /// assert_eq!(stats.latest_rtt(), Some(Duration::from_millis(30)));
    /// ```
    pub fn peer(&self, deliver: impl Fn(Bytes) + Send + Sync + 'static) -> Peer {
        let peer = Peer::new(Weak::clone(&self.time), deliver);
        let far = peer.clone();
        self.on_wire(move |frame| {
            if let Frame::Ping(payload) = frame {
                far.receive(payload);
            }
        });
        peer
    }

    /// Sets what is done with each frame that reaches the other end, in place of what was done before.
    pub fn on_wire(&self, peer: impl FnMut(Frame) + Send + 'static) {
        self.outgoing.on_wire(peer);
    }

    /// Makes the sink take nothing any more, as a socket does whose peer does not read.
    pub fn block(&self) {
        self.outgoing.block();
    }

    /// Makes the sink take frames again.
    pub fn unblock(&self) {
        self.outgoing.unblock();
        self.outgoing.wake();
    }

    /// Makes the sink take a frame and not flush it.
    pub fn block_flush(&self) {
        self.outgoing.block_flush();
    }

    /// Makes the sink flush again.
    pub fn unblock_flush(&self) {
        self.outgoing.unblock_flush();
        self.outgoing.wake();
    }

    /// Makes the sink return `Pending` and wake at once at those of its polls for which `polls` is true, as a
    /// channel of tokio does when its task has used up its budget. Polls are counted from now on, from 0.
    pub fn yield_at(&self, polls: impl Fn(usize) -> bool + Send + 'static) {
        self.outgoing.yield_at(polls);
    }

    /// Makes frames reach the peer when they are taken, and not at the flush: a pong may then come before its
    /// ping is flushed.
    pub fn eager(&self) {
        self.outgoing.eager();
    }

    /// Makes the sink fail at `fault` from now on, with [`Broken`].
    pub fn fail(&self, fault: Fault) {
        self.outgoing.fail(fault);
        self.outgoing.wake();
    }

    /// The frames taken so far, with their times.
    #[must_use]
    pub fn frames(&self) -> Vec<(Duration, Frame)> {
        self.outgoing.sent()
    }

    /// The times of the pings that were taken.
    #[must_use]
    pub fn pings(&self) -> Vec<Duration> {
        self.outgoing.pings()
    }

    /// The close frames that were taken: one at the most.
    #[must_use]
    pub fn closes(&self) -> Vec<(Duration, Frame)> {
        let mut frames = self.frames();
        frames.retain(|(_, frame)| matches!(frame, Frame::Close(_)));
        frames
    }

    /// The payload of the ping of that number, from 0.
    ///
    /// # Panics
    ///
    /// If no such ping was sent.
    #[must_use]
    #[track_caller]
    pub fn payload(&self, ping: usize) -> Bytes {
        let mut pings = self
            .frames()
            .into_iter()
            .filter_map(|(_, frame)| match frame {
                Frame::Ping(payload) => Some(payload),
                _ => None,
            });
        pings
            .nth(ping)
            .unwrap_or_else(|| panic!("ping {ping} was not sent"))
    }

    /// When the latest ping was flushed: its timeout runs from there.
    #[must_use]
    pub fn ping_flushed(&self) -> Option<Duration> {
        self.outgoing.ping_flushed()
    }

    /// How often the sink said that it is ready.
    #[must_use]
    pub fn readies(&self) -> usize {
        self.outgoing.readies()
    }

    /// How often the sink was polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.outgoing.polls()
    }

    /// Whether the sink was not dropped yet.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.outgoing.is_held()
    }
}

impl ScriptedSink {
    #[track_caller]
    fn assert_manners(&mut self, frame: &Frame, now: Duration) {
        assert!(
            !self.outgoing.has_unflushed(),
            "a frame before the last one is flushed at {now:?}"
        );
        if let Frame::Ping(payload) | Frame::Pong(payload) = frame {
            let len = payload.len();
            assert!(len <= 125, "a control frame of {len} bytes at {now:?}");
        }
        if let Frame::Ping(_) = frame {
            // If a test polls by hand, it is not known which sends belong to one poll.
            let poll = self.time.current_poll();
            let first = poll.is_none() || self.last_poll != poll;
            assert!(first, "two pings in one wake at {now:?}");
            self.last_poll = poll;
        }
    }
}

const fn kind(frame: &Frame) -> MessageKind<'static> {
    match frame {
        Frame::Ping(_) => MessageKind::Ping(&[]),
        Frame::Pong(_) => MessageKind::Pong(Cow::Borrowed(&[])),
        Frame::Close(_) => MessageKind::Close,
    }
}

impl Sink<Frame> for ScriptedSink {
    type Error = Broken;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.outgoing.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Broken> {
        let now = self.time.elapsed();
        self.assert_manners(&frame, now);
        self.outgoing.start_send(&frame, &kind(&frame), now)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.outgoing.poll_flush(self.time.elapsed(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let now = self.time.elapsed();
        panic!("the sink was closed at {now:?}: it is not the heartbeat's to close")
    }
}

impl Drop for ScriptedSink {
    fn drop(&mut self) {
        self.outgoing.release();
    }
}

impl fmt::Debug for ScriptedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedSink").finish_non_exhaustive()
    }
}

impl fmt::Debug for SinkScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkScript")
            .field("frames", &self.frames())
            .finish_non_exhaustive()
    }
}
