//! A codec that reads another type than it writes.

use std::io;

use futures_pinger::{Config, Frame, KeepAlive, MessageKind, Protocol};
use tokio::net::TcpStream;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder, Framed};

struct Request;
struct Response;
struct Codec;

impl Decoder for Codec {
    type Item = Request;
    type Error = io::Error;

    fn decode(&mut self, _: &mut BytesMut) -> io::Result<Option<Request>> {
        Ok(None)
    }
}

impl Encoder<Response> for Codec {
    type Error = io::Error;

    fn encode(&mut self, _: Response, _: &mut BytesMut) -> io::Result<()> {
        Ok(())
    }
}

struct Plain;

impl<M> Protocol<M> for Plain {
    fn encode(&self, _: Frame) -> Option<M> {
        None
    }

    fn classify<'m>(&self, _: &'m M) -> MessageKind<'m> {
        MessageKind::Data
    }
}

fn heartbeat(socket: Framed<TcpStream, Codec>) {
    let _ = KeepAlive::with_protocol(socket, Plain, Config::default());
}

fn main() {}
