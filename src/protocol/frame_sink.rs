//! A sink of frames over a sink of messages.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::interface::{MessageKind, Protocol};
use crate::frame::Frame;

/// A sink of messages: every [`Sink<M>`](Sink) is one, and nothing else.
///
/// The constructors of [`FrameSink`] and [`KeepAlive`](crate::KeepAlive) ask for it, so that the compiler
/// says what to do where something is no sink of the messages that it should take.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no sink of messages of the type `{M}`",
    label = "it does not implement `Sink<{M}>`",
    note = "the sender of a tokio channel is no sink: wrap it in `tokio_util::sync::PollSender`",
    note = "a socket whose messages differ by direction, as a `Framed` may have them, is no `KeepAlive`: split it, and give its halves to `pinger()` and `PongSender::attach`"
)]
pub trait MessageSink<M>: Sink<M> {}

#[diagnostic::do_not_recommend]
impl<Si: Sink<M>, M> MessageSink<M> for Si {}

pin_project! {
    /// Takes the frames of a heartbeat for any sink of messages, such as the write half of a socket
    /// or a channel to the task that has it.
    ///
    /// A frame that the protocol has no message for is dropped, and counts as sent. Where that is the
    /// close frame, build the configuration with [`no_close`](crate::ConfigBuilder::no_close).
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{SinkExt, StreamExt, channel::mpsc};
    /// use futures_pinger::{Frame, FrameSink, Rfc6455};
    /// use tungstenite_0_30::Message;
    ///
    /// let (tx, rx) = mpsc::channel::<Message>(1);
    /// let mut frames = FrameSink::new(tx, Rfc6455);
    /// frames.send(Frame::Ping(vec![1, 2].into())).await?;
    /// drop(frames);
    /// assert_eq!(rx.collect::<Vec<_>>().await, [Message::Ping(vec![1, 2].into())]);
    /// # Ok::<(), mpsc::SendError>(())
    /// # }).unwrap();
    /// ```
    #[must_use = "sinks do nothing unless polled"]
    pub struct FrameSink<Si, P, M> {
        #[pin]
        sink: Si,
        protocol: P,
        message: std::marker::PhantomData<fn(M)>,
    }
}

// This is not derived, as a derived implementation would ask for `M: Clone`, and no `M` is held.
impl<Si: Clone, P: Clone, M> Clone for FrameSink<Si, P, M> {
    fn clone(&self) -> Self {
        Self {
            sink: self.sink.clone(),
            protocol: self.protocol.clone(),
            message: std::marker::PhantomData,
        }
    }
}

impl<Si: fmt::Debug, P: fmt::Debug, M> fmt::Debug for FrameSink<Si, P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSink")
            .field("sink", &self.sink)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl<Si, P, M> FrameSink<Si, P, M> {
    /// Makes a message of each frame by `protocol`, and puts it into `sink`.
    pub const fn new(sink: Si, protocol: P) -> Self
    where
        // These bounds tell the compiler what `M` is. The struct itself does not need them.
        Si: MessageSink<M>,
        P: Protocol<M>,
    {
        Self {
            sink,
            protocol,
            message: std::marker::PhantomData,
        }
    }
}

impl<Si, M> FrameSink<Si, (), M> {
    /// Makes a message of each frame by `encode`, and puts it into `sink`, such as a queue of an enum of your
    /// own with a variant for frames. As nothing is read there, no [`Protocol`] is needed.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{SinkExt, StreamExt, channel::mpsc};
    /// use futures_pinger::{Frame, FrameSink};
    ///
    /// #[derive(Debug, PartialEq)]
    /// enum Out {
    ///     Chat(String),
    ///     Beat(Frame),
    /// }
    ///
    /// let (queue, out) = mpsc::channel(4);
    /// let mut beat = FrameSink::map(queue.clone(), Out::Beat); // for `pinger()`
    /// let mut chat = queue;
    ///
    /// chat.send(Out::Chat("hello".into())).await?;
    /// beat.send(Frame::Ping(vec![1, 2].into())).await?;
    /// drop((chat, beat));
    /// let ping = Frame::Ping(vec![1, 2].into());
    /// assert_eq!(out.collect::<Vec<_>>().await, [Out::Chat("hello".into()), Out::Beat(ping)]);
    /// # Ok::<(), mpsc::SendError>(())
    /// # }).unwrap();
    /// ```
    pub const fn map<F>(sink: Si, encode: F) -> FrameSink<Si, FnEncoder<F>, M>
    where
        Si: MessageSink<M>,
        F: Fn(Frame) -> M,
    {
        FrameSink::new(sink, FnEncoder(encode))
    }
}

impl<Si, P, M> FrameSink<Si, P, M> {
    /// A reference to the sink of messages.
    pub fn get_ref(&self) -> &Si {
        &self.sink
    }

    /// A mutable reference to the sink of messages.
    pub fn get_mut(&mut self) -> &mut Si {
        &mut self.sink
    }

    /// A pinned mutable reference to the sink of messages.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut Si> {
        self.project().sink
    }

    /// Returns the sink of messages.
    pub fn into_inner(self) -> Si {
        self.sink
    }
}

impl<Si, P, M> Sink<Frame> for FrameSink<Si, P, M>
where
    Si: Sink<M>,
    P: Protocol<M>,
{
    type Error = Si::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.project().sink.poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        let this = self.project();
        match this.protocol.encode(frame) {
            Some(message) => this.sink.start_send(message),
            None => Ok(()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.project().sink.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.project().sink.poll_close(cx)
    }
}

/// The protocol of a [`FrameSink::map`], which makes messages by a function, and reads none.
#[derive(Clone, Copy)]
pub struct FnEncoder<F>(F);

impl<F> fmt::Debug for FnEncoder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnEncoder").finish_non_exhaustive()
    }
}

impl<F: Fn(Frame) -> M, M> Protocol<M> for FnEncoder<F> {
    fn encode(&self, frame: Frame) -> Option<M> {
        Some((self.0)(frame))
    }

    fn classify<'m>(&self, _: &'m M) -> MessageKind<'m> {
        MessageKind::Data
    }
}
