//! The stream of pongs of a [`Pinger`](crate::Pinger), scripted.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use super::incoming::Incoming;
use super::world::World;
use crate::frame::Pong;

/// The payload of each pong of a flood.
const STRAY: &[u8] = b"stray";

/// A stream of pongs for [`Pinger::new`](crate::Pinger::new), made by [`World::pongs`].
pub struct ScriptedPongs(Incoming<Pong>);

/// The handle by which a test feeds a [`ScriptedPongs`].
#[derive(Clone)]
pub struct PongScript(Incoming<Pong>);

impl World {
    /// A stream of pongs that is empty at first, and its script.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::testing::World;
    /// use futures_pinger::{Config, Pinger, Stopped};
    ///
    /// let world = World::new();
    /// let ((outgoing, sink), (pongs, script)) = (world.sink(), world.pongs());
    /// let pinger = Pinger::new(outgoing, pongs, Config::default()).with_timer(world.timer());
    /// let peer = sink.peer({
    ///     let script = script.clone();
    ///     move |payload| script.push(payload)
    /// });
    /// peer.answer_after(Duration::from_millis(5));
    /// world.at(Duration::from_secs(300), move || script.end());
    ///
    /// let ended = world.run_within(Duration::from_secs(300), pinger);
    /// assert_eq!(ended, Ok(Stopped::PongsEnded));
    /// ```
    #[must_use]
    pub fn pongs(&self) -> (ScriptedPongs, PongScript) {
        let incoming = Incoming::new();
        (ScriptedPongs(incoming.clone()), PongScript(incoming))
    }
}

impl PongScript {
    /// A pong arrives.
    pub fn push(&self, payload: impl Into<Bytes>) {
        self.0.push(Pong(payload.into()));
    }

    /// The connection has ended: there will be no more pongs.
    pub fn end(&self) {
        self.0.end();
    }

    /// Makes a pong that answers nothing always ready from now on, behind all others.
    pub fn flood(&self) {
        self.0.flood(|| Pong(Bytes::from_static(STRAY)));
    }

    /// Makes the stream return `Pending` after every `pongs` pongs and wake at once, as streams do under a
    /// cooperative budget.
    pub fn budget(&self, pongs: usize) {
        self.0.budget(pongs);
    }

    /// How many pongs were read.
    #[must_use]
    pub fn read(&self) -> usize {
        self.0.read()
    }

    /// Whether the stream was not dropped yet.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }
}

impl Stream for ScriptedPongs {
    type Item = Pong;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pong>> {
        self.0.poll_next(cx)
    }
}

impl Drop for ScriptedPongs {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for ScriptedPongs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedPongs").finish_non_exhaustive()
    }
}

impl fmt::Debug for PongScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PongScript")
            .field("read", &self.read())
            .finish_non_exhaustive()
    }
}
