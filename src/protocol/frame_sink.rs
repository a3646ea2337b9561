//! A sink of frames over a sink of messages.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::interface::Protocol;
use crate::frame::Frame;

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
    #[derive(Debug, Clone)]
    #[must_use = "sinks do nothing unless polled"]
    pub struct FrameSink<Si, P, M> {
        #[pin]
        sink: Si,
        protocol: P,
        message: std::marker::PhantomData<fn(M)>,
    }
}

impl<Si, P, M> FrameSink<Si, P, M> {
    /// Frames become messages by `protocol` and go into `sink`.
    pub const fn new(sink: Si, protocol: P) -> Self
    where
        // Not needed to build it: they tell the compiler what `M` is.
        Si: Sink<M>,
        P: Protocol<M>,
    {
        Self {
            sink,
            protocol,
            message: std::marker::PhantomData,
        }
    }

    /// The sink of messages.
    pub fn get_ref(&self) -> &Si {
        &self.sink
    }

    /// The sink of messages.
    pub fn get_mut(&mut self) -> &mut Si {
        &mut self.sink
    }

    /// The sink of messages, pinned.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut Si> {
        self.project().sink
    }

    /// The sink of messages back.
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
