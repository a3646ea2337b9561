//! The way of a heartbeat's frames into a sink, one at a time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;

use crate::frame::Frame;
use crate::heartbeat::Heartbeat;
use crate::time::Time;

/// Finishes the flush that has begun, then passes on the frame that wants to go and flushes it.
/// `changed` is told of each frame before it is out of our hands, as its answer may come at once, on
/// another thread; and of a flush that took its time.
///
/// Ready: there is nothing to write. Pending: the sink wakes the task.
pub(crate) fn poll_transmit<Si: Sink<Frame>>(
    mut sink: Pin<&mut Si>,
    heartbeat: &mut Heartbeat,
    flushing: &mut bool,
    now: Time,
    cx: &mut Context<'_>,
    mut changed: impl FnMut(&Heartbeat, Option<&Frame>),
) -> Poll<Result<(), Si::Error>> {
    loop {
        if *flushing {
            ready!(sink.as_mut().poll_flush(cx))?;
            *flushing = false;
            let before = heartbeat.ledger().at;
            heartbeat.handle_sent_at(now);
            if heartbeat.ledger().at != before {
                changed(heartbeat, None);
            }
        }
        if !heartbeat.wants_transmit() {
            return Poll::Ready(Ok(()));
        }
        ready!(sink.as_mut().poll_ready(cx))?;
        if let Some(frame) = heartbeat.transmit_at(now) {
            changed(heartbeat, Some(&frame));
            sink.as_mut().start_send(frame)?;
            *flushing = true;
        }
    }
}
