//! soketto: its halves have methods, so the heartbeat writes into a channel, and the reader reports pongs.

use std::pin::pin;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::join;
use futures_pinger::{Config, Frame, TokioTimer, pinger};
use soketto::connection::{Builder, Mode};
use soketto::{Incoming, connection};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

async fn serve(tcp: TcpStream, config: Config) -> u64 {
    let (mut sender, mut receiver) = Builder::new(tcp.compat(), Mode::Server).finish();
    let (outgoing, mut frames) = mpsc::channel(0);
    let (pongs, pinger) = pinger(outgoing, config);
    let mut pinger = pin!(pinger.with_timer(TokioTimer::new()));
    let writer = async {
        while let Some(frame) = frames.next().await {
            match frame {
                // A payload of the heartbeat's is 8 bytes long.
                Frame::Ping(payload) => sender.send_ping(payload[..].try_into().unwrap()).await?,
                Frame::Pong(_) => {} // soketto answers pings where it reads them.
                Frame::Close(_) => sender.close().await?,
            }
            sender.flush().await?;
        }
        Ok::<_, connection::Error>(())
    };
    let reader = async move {
        let mut message = Vec::new();
        while let Ok(incoming) = receiver.receive(&mut message).await {
            match incoming {
                Incoming::Pong(payload) => drop(pongs.handle_pong(payload)),
                Incoming::Closed(_) => break,
                Incoming::Data(_) => message.clear(), // The application's data would be handled here.
            }
        }
    };
    tokio::select! {
        ((), _) = join(reader, pinger.as_mut()) => {}
        written = writer => written.unwrap(),
    }
    pinger.stats().answered()
}

#[tokio::test]
async fn a_channel_and_two_loops_are_enough() {
    let (tcp, peer) = super::connected().await;
    let (answered, ()) = join(serve(tcp, super::config()), super::answer_and_close(peer)).await;
    assert!(answered >= 3);
}
