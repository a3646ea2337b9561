//! The reader of a raw transport, whose pings are answered on the side.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::ponger::PingSender;
use crate::protocol::{MessageKind, Protocol};

impl PingSender {
    /// Wraps the stream of a transport for its reader. Each ping is queued for its answer, and every message,
    /// pings included, is passed through.
    ///
    /// A close frame [closes](Self::close) the ponger; the end of the stream, an error, and the drop
    /// of the adapter drop this sender. A ping longer than the 125 bytes of a control frame has no
    /// answer (RFC 6455 §5.5); it is passed on like any other.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{StreamExt, channel::mpsc, stream};
    /// use futures_pinger::{Frame, Rfc6455, ponger};
    /// use tungstenite_0_30::{Error, Message};
    ///
    /// # let incoming = stream::iter([Ok::<_, Error>(Message::Ping(vec![7].into()))]);
    /// let (outgoing, mut frames) = mpsc::channel(1);
    /// let (pings, ponger) = ponger(outgoing);
    /// let mut incoming = pings.attach(incoming, Rfc6455);
    /// assert!(incoming.next().await.unwrap()?.is_ping());
    /// drop(incoming);
    /// ponger.await.unwrap();
    /// assert_eq!(frames.next().await, Some(Frame::Pong(vec![7].into())));
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn attach<St, P>(self, incoming: St, protocol: P) -> InspectPings<St, P> {
        InspectPings {
            incoming,
            protocol,
            pings: Some(self),
        }
    }
}

pin_project! {
    /// The stream that [`PingSender::attach`] makes.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct InspectPings<St, P> {
        #[pin]
        incoming: St,
        protocol: P,
        // None once no ping is answered any more.
        pings: Option<PingSender>,
    }
}

impl<St, P> InspectPings<St, P> {
    /// A reference to the stream of messages.
    pub fn get_ref(&self) -> &St {
        &self.incoming
    }

    /// A mutable reference to the stream of messages. Pings that are taken out of it stay unanswered.
    pub fn get_mut(&mut self) -> &mut St {
        &mut self.incoming
    }

    /// A pinned mutable reference to the stream of messages.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut St> {
        self.project().incoming
    }

    /// Returns the stream of messages; the ponger ends.
    pub fn into_inner(self) -> St {
        self.incoming
    }
}

impl<St, P, M, E> Stream for InspectPings<St, P>
where
    St: Stream<Item = Result<M, E>>,
    P: Protocol<M>,
{
    type Item = Result<M, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        // Pending: the stream wakes us.
        let next = ready!(this.incoming.poll_next(cx));
        let Some(pings) = &*this.pings else {
            return Poll::Ready(next);
        };
        match &next {
            Some(Ok(message)) => match this.protocol.classify(message) {
                MessageKind::Ping(payload) => {
                    // A ping that is too long has no answer, and a ponger that has ended gives none.
                    let _ = pings.handle_ping(Bytes::copy_from_slice(payload));
                }
                MessageKind::Close => {
                    pings.close();
                    *this.pings = None;
                }
                MessageKind::Pong(_)
                | MessageKind::Answer
                | MessageKind::PingBelow
                | MessageKind::PongBelow
                | MessageKind::Data => {}
            },
            Some(Err(_)) | None => *this.pings = None,
        }
        Poll::Ready(next)
    }
}

impl<St, P, M, E> FusedStream for InspectPings<St, P>
where
    St: FusedStream<Item = Result<M, E>>,
    P: Protocol<M>,
{
    fn is_terminated(&self) -> bool {
        self.incoming.is_terminated()
    }
}
