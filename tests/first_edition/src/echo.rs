//! A [`KeepAlive`] whose application sends each message of data back, and reads on only when most of
//! them are sent: the heartbeat and the application share the sink, and back-pressure stops the reading.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream};
use futures_pinger::testing::{ManualTimer, ScriptedSocket, SocketScript, World};
use futures_pinger::{Config, Controller, Frame, KeepAlive, Stats};

use crate::script::{Change, End};
use crate::shells::{Frames, Kept, Shell};

/// So many messages may wait for the sink before the stream is left alone.
const AHEAD: usize = 2;

pub struct Echo {
    alive: KeepAlive<ScriptedSocket<Frame>, Frames, ManualTimer>,
    controller: Option<Controller>,
    queue: VecDeque<Frame>,
    unflushed: bool,
}

impl Echo {
    /// Whether it got on.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut alive = Pin::new(&mut self.alive);
        let polled = match self.queue.front() {
            Some(_) => alive.as_mut().poll_ready(cx),
            None if self.unflushed => alive.as_mut().poll_flush(cx),
            None => Poll::Pending,
        };
        if polled.map_err(|error| End::from(&error))?.is_pending() {
            return Ok(false);
        }
        let message = self.queue.pop_front();
        self.unflushed = message.is_some();
        if let Some(message) = message {
            let sent = alive.start_send(message);
            sent.map_err(|error| End::from(&error))?;
        }
        Ok(true)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.queue.len() >= AHEAD {
            return Ok(false);
        }
        match Pin::new(&mut self.alive).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                if matches!(&message, Frame::Pong(payload) if payload == "data") {
                    self.queue.push_back(message);
                }
                Ok(true)
            }
            Poll::Ready(Some(Err(error))) => Err((&error).into()),
            Poll::Ready(None) => Err(End::PongsEnded),
            // A plain socket from now on.
            Poll::Pending if self.controller.as_ref().is_some_and(|c| !c.is_alive()) => {
                Err(End::Requested)
            }
            Poll::Pending => Ok(false),
        }
    }
}

impl Shell for Echo {
    type Script = SocketScript<Frame>;

    fn new(world: &World, config: Config) -> (Self, Self::Script) {
        let (socket, script) = world.socket(Frames);
        let alive = KeepAlive::new(socket, config);
        let new = Self {
            alive: alive.with_protocol(Frames).with_timer(world.timer()),
            controller: None,
            queue: VecDeque::new(),
            unflushed: false,
        };
        (new, script)
    }

    fn drive(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let wrote = match self.write(cx) {
                Ok(wrote) => wrote,
                Err(end) => return Poll::Ready(end),
            };
            match self.read(cx) {
                Ok(read) if wrote || read => {}
                Ok(_) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    fn controller(&mut self) -> Option<Controller> {
        self.controller = Some(self.alive.controller());
        self.controller.clone()
    }

    fn stats(&self) -> Stats {
        self.alive.stats()
    }

    fn pong(script: &Self::Script) -> Arc<dyn Fn(Bytes) + Send + Sync> {
        Kept::pong(script)
    }

    fn activity(script: &Self::Script, controller: Option<&Controller>) {
        Kept::activity(script, controller);
    }

    fn sink(script: &Self::Script, change: Change) {
        Kept::sink(script, change);
    }

    fn end_pongs(script: &Self::Script) {
        Kept::end_pongs(script);
    }

    fn frames(script: &Self::Script) -> Vec<(Duration, Frame)> {
        Kept::frames(script)
    }

    fn is_held(script: &Self::Script) -> bool {
        Kept::is_held(script)
    }
}
