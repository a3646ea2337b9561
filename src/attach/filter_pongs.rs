//! The reader of a split socket, with the pongs taken out of it.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::error::Closed;
use crate::handle::PongSender;
use crate::machine::BACKLOG_LIMIT;
use crate::pinger_set::Member;
use crate::protocol::{MessageKind, Protocol};
use crate::shared::Reader;

/// The most messages between two reports of activity.
const BATCH: u8 = 64;

impl PongSender {
    /// Wraps the stream of a socket for its reader. Pongs that answer the heartbeat's pings are consumed; every
    /// other message is passed through, and counts as activity.
    ///
    /// A reader that works on a message reads no pongs meanwhile. So no missing pong is judged from the moment
    /// a message is yielded until a later poll finds nothing more to read, or yields the 65 536th message. Pings
    /// leave as ever, and writes are judged. Before the first message the reader counts as one that reads.
    ///
    /// The heartbeat ends once a close frame, an error or the end of the stream is read, and when the wrapped
    /// stream is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{StreamExt, stream};
    /// use futures_pinger::{Config, Rfc6455, pinger};
    /// use tungstenite_0_30::{Error, Message};
    ///
    /// # let outgoing = futures::sink::drain();
    /// # let incoming = stream::iter([Ok::<_, Error>(Message::text("data"))]);
    /// let (pongs, pinger) = pinger(outgoing, Config::default());
    /// let mut incoming = pongs.attach(incoming, Rfc6455);
    /// assert_eq!(incoming.next().await.unwrap()?, Message::text("data"));
    /// # assert!(incoming.next().await.is_none());
    /// # assert_eq!(pinger.await.unwrap(), futures_pinger::Stopped::PongsEnded);
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn attach<St, P>(self, incoming: St, protocol: P) -> FilterPongs<St, P> {
        FilterPongs::new(incoming, protocol, Handle::Sender(self))
    }
}

impl Member {
    /// Wraps the stream of a socket for its reader, as [`PongSender::attach`] does. Pongs that answer the
    /// member's pings are consumed; every other message is passed through, and counts as activity. A missing
    /// pong is not judged while the reader works on a message.
    ///
    /// The member leaves the set once a close frame, an error or the end of the stream is read, and when the
    /// wrapped stream is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::{StreamExt, stream};
    /// use futures_pinger::{Config, PingerSet, Rfc6455};
    /// use tungstenite_0_30::{Error, Message};
    ///
    /// # let outgoing = futures::sink::drain::<futures_pinger::Frame>();
    /// # let incoming = stream::iter([Ok::<_, Error>(Message::text("data"))]);
    /// let set = PingerSet::new(Config::default());
    /// let member = set.insert(outgoing);
    /// let mut incoming = member.attach(incoming, Rfc6455);
    /// assert_eq!(incoming.next().await.unwrap()?, Message::text("data"));
    /// assert_eq!(set.len(), 1);
    /// drop(incoming);
    /// assert!(set.is_empty());
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn attach<St, P>(self, incoming: St, protocol: P) -> FilterPongs<St, P> {
        FilterPongs::new(incoming, protocol, Handle::Member(self))
    }
}

/// Takes the pongs of a heartbeat that is alone, or of a member of a set.
#[derive(Debug)]
enum Handle {
    Sender(PongSender),
    Member(Member),
}

impl Handle {
    /// Reports a pong, and returns whether it is the heartbeat's.
    fn handle_pong(&self, payload: &[u8]) -> bool {
        match self {
            Self::Sender(pongs) => match pongs.handle_pong(payload) {
                Ok(kind) => kind.is_ours(),
                // The heartbeat has ended, so the pong is passed on.
                Err(Closed) => false,
            },
            Self::Member(member) => member.handle_pong(payload).is_ours(),
        }
    }

    fn handle_answer(&self) {
        match self {
            // An answer that comes after the end means nothing.
            Self::Sender(pongs) => drop(pongs.handle_answer()),
            Self::Member(member) => drop(member.handle_answer()),
        }
    }

    fn handle_activity(&self) {
        match self {
            Self::Sender(pongs) => pongs.handle_activity(),
            Self::Member(member) => member.handle_activity(),
        }
    }

    fn handle_ping(&self) {
        match self {
            Self::Sender(pongs) => pongs.handle_ping(),
            Self::Member(member) => member.handle_ping(),
        }
    }

    #[inline]
    fn reader(&self) -> &Reader {
        match self {
            Self::Sender(pongs) => pongs.reader(),
            Self::Member(member) => member.reader(),
        }
    }

    /// Wakes the heartbeat, which has waited for the reader: the reader is back.
    #[cold]
    fn ring(&self) {
        match self {
            Self::Sender(pongs) => pongs.ring(),
            Self::Member(member) => member.ring(),
        }
    }

    /// The reader has found nothing more, and has so read everything that has arrived.
    #[inline]
    fn note_drained(&self) {
        if self.reader().returns() {
            self.ring();
        }
    }

    /// The reader leaves with an item, its `waited_for`-th while the heartbeat waits for it.
    #[inline]
    fn note_item(&self, waited_for: &mut u32) {
        if self.reader().leaves() {
            self.note_wait(waited_for);
        } else {
            *waited_for = 0;
        }
    }

    #[cold]
    fn note_wait(&self, waited_for: &mut u32) {
        *waited_for += 1;
        if *waited_for == BACKLOG_LIMIT {
            *waited_for = 0;
            self.reader().floods();
            self.ring();
        }
    }
}

pin_project! {
    /// The stream that [`PongSender::attach`] and [`Member::attach`] make.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct FilterPongs<St, P> {
        #[pin]
        incoming: St,
        protocol: P,
        // None once no further pong can come.
        pongs: Option<Handle>,
        // How many messages were read since activity was reported.
        unreported: u8,
        // Whether a ping of the peer is among the messages that were not reported.
        pinged: bool,
        // How many messages were read since the heartbeat began to wait for the reader.
        waited_for: u32,
    }
}

impl<St, P> FilterPongs<St, P> {
    const fn new(incoming: St, protocol: P, pongs: Handle) -> Self {
        Self {
            incoming,
            protocol,
            pongs: Some(pongs),
            unreported: 0,
            pinged: false,
            waited_for: 0,
        }
    }

    /// A reference to the stream of messages.
    pub fn get_ref(&self) -> &St {
        &self.incoming
    }

    /// A mutable reference to the stream of messages. Pongs that are taken out of it are hidden from the heartbeat.
    pub fn get_mut(&mut self) -> &mut St {
        &mut self.incoming
    }

    /// A pinned mutable reference to the stream of messages.
    #[must_use]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut St> {
        self.project().incoming
    }

    /// Returns the stream of messages; the heartbeat ends.
    pub fn into_inner(self) -> St {
        self.incoming
    }
}

impl<St, P, M, E> Stream for FilterPongs<St, P>
where
    St: Stream<Item = Result<M, E>>,
    P: Protocol<M>,
{
    type Item = Result<M, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        // The loop ends with the first message that is passed on. Few pongs are consumed in one poll, as
        // each ping is answered only once.
        loop {
            let polled = this.incoming.as_mut().poll_next(cx);
            let Some(pongs) = &*this.pongs else {
                return polled;
            };
            // A batch ends where nothing more is ready, or when it is long.
            if *this.unreported > 0 && (polled.is_pending() || *this.unreported >= BATCH) {
                *this.unreported = 0;
                if mem::take(this.pinged) {
                    pongs.handle_ping();
                } else {
                    pongs.handle_activity();
                }
            }
            if polled.is_pending() {
                pongs.note_drained();
            }
            // Pending: the stream wakes us.
            let next = ready!(polled);
            let kind = match &next {
                Some(Ok(message)) => this.protocol.classify(message),
                Some(Err(_)) | None => MessageKind::Close,
            };
            let taken = match kind {
                MessageKind::Data | MessageKind::PingBelow | MessageKind::PongBelow => {
                    *this.unreported += 1;
                    false
                }
                MessageKind::Ping(_) => {
                    *this.unreported += 1;
                    *this.pinged = true;
                    false
                }
                // `handle_pong` counts the pong as a sign of life, so it is no activity to report.
                MessageKind::Pong(payload) => pongs.handle_pong(&payload),
                MessageKind::Answer => {
                    // An answer is the heartbeat's, also after the end.
                    pongs.handle_answer();
                    true
                }
                MessageKind::Close => {
                    *this.pongs = None;
                    false
                }
            };
            if !taken {
                if let Some(pongs) = &*this.pongs {
                    pongs.note_item(this.waited_for);
                }
                return Poll::Ready(next);
            }
        }
    }
}

impl<St, P, M, E> FusedStream for FilterPongs<St, P>
where
    St: FusedStream<Item = Result<M, E>>,
    P: Protocol<M>,
{
    fn is_terminated(&self) -> bool {
        self.incoming.is_terminated()
    }
}
