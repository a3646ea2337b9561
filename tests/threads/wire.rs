//! A connection of a socket to a peer on another thread.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{Sink, Stream};
use futures_pinger::{Frame, MessageKind, Protocol};
use loom::sync::{Arc, Condvar, Mutex};

/// A frame, or a number as data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Frame(Frame),
    Data(u32),
}

/// The messages as they are.
pub(crate) struct Plain;

impl Protocol<Message> for Plain {
    fn encode(&self, frame: Frame) -> Option<Message> {
        Some(Message::Frame(frame))
    }

    fn classify<'m>(&self, message: &'m Message) -> MessageKind<'m> {
        match message {
            Message::Frame(Frame::Ping(payload)) => MessageKind::Ping(payload),
            Message::Frame(Frame::Pong(payload)) => MessageKind::Pong(payload.as_ref().into()),
            Message::Frame(Frame::Close(_)) => MessageKind::Close,
            Message::Data(_) => MessageKind::Data,
        }
    }
}

/// A connection between a socket, which holds one message that is not sent yet, and a peer on a thread of its own.
#[derive(Clone)]
pub(crate) struct Wire(Arc<(Mutex<Ends>, Condvar)>);

#[derive(Default)]
struct Ends {
    incoming: VecDeque<Message>,
    is_over: bool,
    reader: Option<Waker>,
    outgoing: Option<Message>,
    is_closed: bool,
    writer: Option<Waker>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::default(), Condvar::new())))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Ends) -> R) -> R {
        change(&mut self.0.0.lock().expect("no panic"))
    }

    /// What the socket sends next; `None` once the socket is closed.
    pub(crate) fn take(&self) -> Option<Message> {
        let (ends, changed) = &*self.0;
        let mut ends = ends.lock().expect("no panic");
        loop {
            if let Some(message) = ends.outgoing.take() {
                let waker = ends.writer.take();
                drop(ends);
                wake(waker);
                return Some(message);
            }
            if ends.is_closed {
                return None;
            }
            ends = changed.wait(ends).expect("no panic");
        }
    }

    /// Sends to the socket.
    pub(crate) fn send(&self, message: Message) {
        wake(self.change(|ends| {
            ends.incoming.push_back(message);
            ends.reader.take()
        }));
    }

    /// The socket sends nothing any more.
    pub(crate) fn close(&self) {
        self.change(|ends| ends.is_closed = true);
        self.0.1.notify_all();
    }

    /// The peer closes the connection.
    pub(crate) fn end(&self) {
        wake(self.change(|ends| {
            ends.is_over = true;
            ends.reader.take()
        }));
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), ()>> {
        self.change(|ends| {
            if ends.outgoing.is_none() {
                return Poll::Ready(Ok(()));
            }
            ends.writer = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Stream for Wire {
    type Item = Result<Message, ()>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.change(|ends| match ends.incoming.pop_front() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None if ends.is_over => Poll::Ready(None),
            None => {
                ends.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }
}

impl Sink<Message> for Wire {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), ()> {
        let before = self.change(|ends| ends.outgoing.replace(message));
        assert_eq!(before, None);
        self.0.1.notify_all();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.poll_room(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let flushed = self.poll_room(cx);
        if flushed.is_ready() {
            self.close();
        }
        flushed
    }
}
