//! What the peer sends, and what it does with what comes to it.

use std::time::Duration;

use bytes::Bytes;
use futures_pinger::testing::Broken;

use super::super::script::OnClose;
use super::{Msg, Socket, wake};

impl Socket {
    fn send(&self, message: Result<Msg, Broken>) {
        let now = self.world.elapsed();
        let waker = {
            let mut link = self.link();
            let over = link.has_sent_close && message != Ok(Msg::Close);
            if link.ended || over && message.is_ok() {
                return;
            }
            let window = link.settings.window;
            if window > 0 && (link.queue.len() >= window || !link.outbox.is_empty()) {
                link.outbox.push_back(message);
                None
            } else {
                link.arrive(message, now);
                link.reading.take()
            }
        };
        wake(waker);
    }

    pub fn receive(&self, message: Msg) {
        self.send(Ok(message));
    }

    /// The next message of the peer's.
    pub fn receive_next(&self) {
        let mut link = self.link();
        let number = link.sent;
        link.sent += 1;
        drop(link);
        self.receive(Msg::Data(number));
    }

    pub fn receive_ping(&self) {
        let mut link = self.link();
        let number = link.sent;
        link.sent += 1;
        drop(link);
        self.receive(Msg::Ping(number.to_be_bytes().to_vec().into()));
    }

    pub fn receive_stray(&self) {
        let mut link = self.link();
        let number = link.sent;
        link.sent += 1;
        drop(link);
        self.receive(Msg::Pong(number.to_be_bytes().to_vec().into()));
    }

    /// The peer's close frame, behind which nothing comes.
    pub fn receive_close(&self) {
        if !std::mem::replace(&mut self.link().has_sent_close, true) {
            self.receive(Msg::Close);
        }
    }

    /// The connection breaks.
    pub fn receive_error(&self) {
        self.send(Err(Broken));
        self.end();
    }

    /// The connection ends behind what was sent.
    pub fn end(&self) {
        let waker = {
            let mut link = self.link();
            let (now, outbox) = (self.world.elapsed(), std::mem::take(&mut link.outbox));
            for message in outbox {
                link.arrive(message, now);
            }
            link.ended = true;
            link.reading.take()
        };
        wake(waker);
    }

    pub fn set_trickle(&self, each: Option<Duration>) {
        let mut link = self.link();
        link.trickle = each;
        if let (Some(each), false) = (each, link.trickling) {
            link.trickling = true;
            drop(link);
            self.after(each, Self::trickle);
        }
    }

    fn trickle(&self) {
        let Some(each) = self.link().trickle else {
            self.link().trickling = false;
            return;
        };
        self.receive_next();
        self.after(each, Self::trickle);
    }

    /// There is room in the window.
    pub(super) fn send_on(&self) {
        let waker = {
            let mut link = self.link();
            link.in_transit = false;
            let (now, outbox) = (self.world.elapsed(), std::mem::take(&mut link.outbox));
            for message in outbox {
                link.arrive(message, now);
            }
            link.reading.take()
        };
        wake(waker);
    }

    /// A message has come to the peer.
    pub(super) fn deliver(&self, message: &Msg) {
        match message {
            Msg::Ping(payload) => {
                let Some(delay) = self.link().answer else {
                    return;
                };
                let payload = payload.clone();
                let pong = move |socket: &Self| socket.pong(payload);
                if delay.is_zero() {
                    pong(self);
                } else {
                    self.after(delay, pong);
                }
            }
            Msg::Close => {
                let conduct = self.link().settings.on_close;
                self.after(Duration::from_millis(40), move |socket| {
                    if matches!(conduct, OnClose::Answer | OnClose::AnswerAndEnd) {
                        socket.receive_close();
                    }
                    if matches!(conduct, OnClose::End | OnClose::AnswerAndEnd) {
                        socket.end();
                    }
                });
            }
            Msg::Data(_) | Msg::Pong(_) => {}
        }
    }

    fn pong(&self, payload: Bytes) {
        let now = self.world.elapsed();
        let mut link = self.link();
        if link.ended || link.has_sent_close {
            return;
        }
        let ping = link.pings.iter_mut().find(|ping| ping.payload == payload);
        ping.expect("it was sent").answered.get_or_insert(now);
        drop(link);
        self.receive(Msg::Pong(payload));
    }
}
