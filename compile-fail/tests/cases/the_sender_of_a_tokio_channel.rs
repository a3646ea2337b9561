//! The sender of a tokio channel, which is no sink.

use futures_pinger::{Frame, FrameSink, Rfc6455};
use tokio::sync::mpsc;

fn heartbeat(queue: mpsc::Sender<Frame>) {
    let _ = FrameSink::new(queue, Rfc6455);
}

fn main() {}
