//! `run_while` borrows the whole socket by `&mut`, which a socket that is not `Unpin` does not allow.

use std::io;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Sink, Stream};
use futures_pinger::{Config, Frame, KeepAlive};

struct Socket(PhantomPinned);

impl Stream for Socket {
    type Item = io::Result<Frame>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Sink<Frame> for Socket {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, _: Frame) -> io::Result<()> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

async fn heartbeat(socket: Socket) {
    let mut socket = KeepAlive::new(socket, Config::default());
    let _ = socket.run_while(async {}).await;
}

fn main() {}
