//! Counts the bytes that pass a transport, and keeps the time at which a driver saw that some had passed.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pin_project_lite::pin_project;

use crate::time::Time;

/// Counts the bytes that pass a transport, so that a heartbeat sees what moves below its messages.
///
/// A pong waits behind a message that takes a minute to arrive, and a ping waits behind a message that
/// takes a minute to leave. The peer is alive all the while, but a heartbeat that sees whole messages alone
/// cannot know that. With a meter under the socket it can: bytes that come in extend the deadline of a
/// pong, and bytes that go out extend the deadline of a write.
///
/// A heartbeat reads its meter when it wakes up for its schedule or for a deadline. If bytes have moved since
/// it read the meter last, the deadline lies a full timeout after that wake-up. Each of the two deadlines of a
/// ping is extended by [`progress`](crate::ConfigBuilder::progress) in all at the most, so that a peer that
/// moves a byte now and again is found all the same, within [`Config::detection_bound_with_meter`].
///
/// [`wrap`](Self::wrap) puts a meter around the transport: below the WebSocket and, where there is TLS, below
/// TLS. [`KeepAlive::with_meter`] and [`Pinger::with_meter`] take the meter, or a clone of it, which shares
/// its counters. Each connection needs a meter of its own. A transport that reads and writes in other ways
/// is counted by [`count_in`](Self::count_in) and [`count_out`](Self::count_out).
///
/// # What a meter does not see
///
/// A byte counts as sent when the transport takes it. A socket takes as much as the send buffer of the kernel
/// holds, which may be megabytes, also when the peer is gone: until that buffer is full, writing looks like
/// progress, and puts the verdict off by `progress` at the most. To shorten this delay, limit the buffers:
/// `SO_SNDBUF` limits that of the kernel, `TCP_USER_TIMEOUT` (RFC 5482) limits the time for which the kernel
/// waits for an acknowledgement, and `max_write_buffer_size` of tungstenite limits what waits before the
/// socket.
///
/// # Examples
///
/// ```
/// use futures_pinger::Meter;
///
/// let meter = Meter::new();
/// let transport = meter.wrap(std::io::empty()); // a `TcpStream`, say
///
/// // A transport without these traits is counted by hand:
/// meter.count_in(1448);
/// assert_eq!((meter.bytes_in(), meter.bytes_out()), (1448, 0));
/// # drop(transport);
/// ```
///
/// [`Config::detection_bound_with_meter`]: crate::Config::detection_bound_with_meter
/// [`KeepAlive::with_meter`]: crate::KeepAlive::with_meter
/// [`Pinger::with_meter`]: crate::Pinger::with_meter
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Meter {
    /// A meter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wraps a transport, so that the meter counts the bytes that it reads and writes.
    pub fn wrap<Io>(&self, io: Io) -> Metered<Io> {
        Metered {
            io,
            meter: self.clone(),
        }
    }

    /// Counts bytes that the transport has given.
    pub fn count_in(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that the transport has taken.
    pub fn count_out(&self, bytes: usize) {
        self.0.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes the transport has given.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.0.bytes_in.load(Ordering::Relaxed)
    }

    /// How many bytes the transport has taken.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.0.bytes_out.load(Ordering::Relaxed)
    }
}

pin_project! {
    /// A transport whose bytes a [`Meter`] counts.
    ///
    /// It is `AsyncRead` and `AsyncWrite` where the transport is: tokio's with the feature `tokio`, and
    /// those of futures-io with the feature `futures-io`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_pinger::{Config, KeepAlive, Meter};
    /// use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
    ///
    /// # let (tcp, _peer) = tokio::io::duplex(1024);
    /// let meter = Meter::new();
    /// let socket = WebSocketStream::from_raw_socket(meter.wrap(tcp), Role::Server, None).await;
    /// let socket = KeepAlive::new(socket, Config::default()).with_meter(meter);
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug)]
    pub struct Metered<Io> {
        #[pin]
        io: Io,
        meter: Meter,
    }
}

impl<Io> Metered<Io> {
    /// A reference to the transport.
    pub const fn get_ref(&self) -> &Io {
        &self.io
    }

    /// A mutable reference to the transport. What passes it directly is not counted.
    pub const fn get_mut(&mut self) -> &mut Io {
        &mut self.io
    }

    /// A pinned mutable reference to the transport.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut Io> {
        self.project().io
    }

    /// Returns the transport, without its meter.
    pub fn into_inner(self) -> Io {
        self.io
    }
}

/// When bytes were last seen to have moved; the origin if none were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) input: Time,
    pub(crate) output: Time,
}

/// What a driver knows of its meter. A meter does not say when its bytes moved, so they count as moved at
/// the look that finds them.
#[derive(Debug)]
pub(crate) struct Progress {
    meter: Meter,
    bytes_in: u64,
    bytes_out: u64,
    moved: Moved,
}

impl Progress {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            bytes_in: meter.bytes_in(),
            bytes_out: meter.bytes_out(),
            meter,
            moved: Moved {
                input: Time::ORIGIN,
                output: Time::ORIGIN,
            },
        }
    }

    /// Reads the meter at `now`, and returns when bytes were last seen to have moved either way.
    pub(crate) fn look(&mut self, now: Time) -> Moved {
        let (bytes_in, bytes_out) = (self.meter.bytes_in(), self.meter.bytes_out());
        if bytes_in != self.bytes_in {
            self.bytes_in = bytes_in;
            self.moved.input = now;
        }
        if bytes_out != self.bytes_out {
            self.bytes_out = bytes_out;
            self.moved.output = now;
        }
        self.moved
    }
}
