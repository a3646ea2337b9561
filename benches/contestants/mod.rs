//! This crate's heartbeat and the two baselines behind one trait, so that each is measured by the
//! same code on channels of the same kind and capacity.

mod channel_sink;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_pinger::{Config, ConfigBuilder, Frame, PongSender, TokioTimer, pinger};
use tokio::sync::mpsc;

pub(crate) use self::channel_sink::ChannelSink;
use crate::baseline::{self, Out};

/// The time from one ping to the next, for every contestant.
pub(crate) const INTERVAL: Duration = Duration::from_secs(15);
/// The time that a pong may take, for every contestant.
const TIMEOUT: Duration = Duration::from_secs(20);

/// This crate's defaults, but for the interval and the timeout of the contestants.
pub(crate) fn options() -> ConfigBuilder {
    Config::builder().interval(INTERVAL).timeout(TIMEOUT)
}

/// The configuration that [`options`] builds.
pub(crate) fn config() -> Config {
    options().build().expect("the durations are not zero")
}

/// Sixteen random bytes, the same in each run: as long as a payload of this crate.
pub(crate) const STRAY: [u8; 16] =
    *b"\x9d\x1f\x60\x2b\xe7\x83\x4c\xa5\x0e\xd8\x71\x36\xfa\x92\x5d\x04";

/// A heartbeat under measurement.
pub(crate) trait Contestant {
    /// What it sends.
    type Frame: Send + 'static;
    /// What the reader holds to hand pongs over.
    type Pongs;

    /// A heartbeat that sends into `out`.
    fn start(
        &self,
        out: mpsc::Sender<Self::Frame>,
    ) -> (Self::Pongs, impl Future<Output: Send> + Send + 'static);

    /// The payload of a ping; none of any other frame.
    fn ping(frame: Self::Frame) -> Option<Bytes>;

    /// Hands a pong over.
    async fn pong(pongs: &Self::Pongs, payload: Bytes);
}

/// [`pinger()`] with tokio's timer.
pub(crate) struct Pinger(pub(crate) Config);

impl Contestant for Pinger {
    type Frame = Frame;
    type Pongs = PongSender;

    fn start(
        &self,
        out: mpsc::Sender<Frame>,
    ) -> (PongSender, impl Future<Output: Send> + Send + 'static) {
        let (pongs, pinger) = pinger(ChannelSink::new(out), self.0.clone());
        (pongs, pinger.with_timer(TokioTimer::new()))
    }

    fn ping(frame: Frame) -> Option<Bytes> {
        match frame {
            Frame::Ping(payload) => Some(payload),
            Frame::Pong(_) | Frame::Close(_) => None,
        }
    }

    async fn pong(pongs: &PongSender, payload: Bytes) {
        pongs.handle_pong(&payload).expect("the heartbeat runs");
    }
}

/// The `select!` loop.
pub(crate) struct SelectLoop;

impl Contestant for SelectLoop {
    type Frame = Out;
    type Pongs = mpsc::Sender<Bytes>;

    fn start(
        &self,
        out: mpsc::Sender<Out>,
    ) -> (
        mpsc::Sender<Bytes>,
        impl Future<Output: Send> + Send + 'static,
    ) {
        let (pongs, pongs_in) = mpsc::channel(1);
        (
            pongs,
            baseline::select_loop(out, pongs_in, INTERVAL, TIMEOUT),
        )
    }

    fn ping(frame: Out) -> Option<Bytes> {
        ping(frame)
    }

    async fn pong(pongs: &mpsc::Sender<Bytes>, payload: Bytes) {
        pongs.send(payload).await.expect("the loop runs");
    }
}

/// ktor's pinger.
pub(crate) struct KtorLoop;

impl Contestant for KtorLoop {
    type Frame = Out;
    type Pongs = mpsc::Sender<Bytes>;

    fn start(
        &self,
        out: mpsc::Sender<Out>,
    ) -> (
        mpsc::Sender<Bytes>,
        impl Future<Output: Send> + Send + 'static,
    ) {
        let (pongs, pongs_in) = mpsc::channel(1);
        (pongs, baseline::ktor_loop(out, pongs_in, INTERVAL, TIMEOUT))
    }

    fn ping(frame: Out) -> Option<Bytes> {
        ping(frame)
    }

    async fn pong(pongs: &mpsc::Sender<Bytes>, payload: Bytes) {
        pongs.send(payload).await.expect("the loop runs");
    }
}

fn ping(frame: Out) -> Option<Bytes> {
    match frame {
        Out::Ping(payload) => Some(payload),
        Out::Close(..) => None,
    }
}

/// The capacity of every frame channel.
pub(crate) const CAPACITY: usize = 1;

/// A current-thread runtime whose clock moves only when nothing else can.
pub(crate) fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a current-thread runtime needs no resources")
}

/// `cycles` pings, each answered at once.
pub(crate) async fn answer<C: Contestant>(
    frames: &mut mpsc::Receiver<C::Frame>,
    pongs: &C::Pongs,
    cycles: u64,
) {
    for _ in 0..cycles {
        let frame = frames.recv().await.expect("the heartbeat runs");
        let payload = C::ping(frame).expect("a live peer gets no close frame");
        C::pong(pongs, payload).await;
    }
}
