//! The messages are of a crate that nobody has written an adapter for.

use futures::channel::mpsc;
use futures_pinger::{FrameSink, Rfc6455};

struct Message;

fn heartbeat(queue: mpsc::Sender<Message>) {
    let _ = FrameSink::new(queue, Rfc6455);
}

fn main() {}
