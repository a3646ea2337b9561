//! actix-ws, whose socket is a `Session` to send by and a stream that stays on its thread: `pinger()`
//! with the one, `attach` with the other. The peer is tokio-tungstenite's.

use std::pin::pin;
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpServer, rt, web};
use actix_ws_0_4::{
    AggregatedMessage, Closed, Message, MessageStream, ProtocolError, Session, handle,
};
use futures::future::{Either, select};
use futures::{SinkExt, Stream, StreamExt};
use futures_pinger::{
    Config, ConfigBuilder, Error, FrameSink, Protocol, Rfc6455, Stats, Stopped, TimeoutPhase,
    TokioTimer, pinger,
};
use tokio::sync::mpsc;

use crate::{Client, client_of};

message!(Message);
message!(AggregatedMessage);

const LONG: Duration = Duration::from_secs(60);

/// How a heartbeat has ended, and its figures.
type Ended = (Result<Stopped, Error<Closed>>, Stats);

fn config() -> ConfigBuilder {
    Config::builder()
        .interval(Duration::from_millis(30))
        .timeout(LONG)
        .close_timeout(LONG)
}

/// One connection of the server: it sends each text back, beside the heartbeat.
async fn echo<M: crate::Message>(
    mut session: Session,
    incoming: impl Stream<Item = Result<M, ProtocolError>>,
    config: Config,
) -> Ended
where
    Rfc6455: Protocol<M>,
{
    let (pongs, pinger) = pinger(FrameSink::new(session.clone(), Rfc6455), config);
    let mut pinger = pin!(pinger.with_timer(TokioTimer::new()));
    let mut incoming = pin!(pongs.attach(incoming, Rfc6455));
    let reader = pin!(async {
        while let Some(Ok(message)) = incoming.next().await {
            if let Some(text) = message.as_text() {
                session.text(text.to_owned()).await.unwrap();
            }
        }
    });
    let ended = match select(reader, pinger.as_mut()).await {
        Either::Left(((), pinger)) => pinger.await,
        Either::Right((ended, _)) => ended,
    };
    (ended, pinger.stats())
}

/// A server of [`echo`] and a client. What comes out is how each connection's heartbeat has ended.
async fn connect<M, S>(
    config: ConfigBuilder,
    stream: fn(MessageStream) -> S,
) -> (Client, mpsc::Receiver<Ended>)
where
    M: crate::Message,
    S: Stream<Item = Result<M, ProtocolError>> + 'static,
    Rfc6455: Protocol<M>,
{
    let config = config.build().unwrap();
    let (ends, ended) = mpsc::channel(1);
    let app = move || {
        let (config, ends) = (config.clone(), ends.clone());
        let upgrade = move |request: HttpRequest, body: web::Payload| {
            let (config, ends) = (config.clone(), ends.clone());
            async move {
                let (response, session, messages) = handle(&request, body)?;
                rt::spawn(async move {
                    let ended = echo(session, stream(messages), config).await;
                    ends.send(ended).await.unwrap();
                });
                Ok::<_, actix_web::Error>(response)
            }
        };
        App::new().route("/", web::get().to(upgrade))
    };
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    // It serves until the runtime ends.
    tokio::spawn(server.run());
    (client_of(address).await, ended)
}

async fn answers<M, S>(stream: fn(MessageStream) -> S)
where
    M: crate::Message,
    S: Stream<Item = Result<M, ProtocolError>> + 'static,
    Rfc6455: Protocol<M>,
{
    let (mut client, mut ended) = connect(config(), stream).await;
    let (mut pings, mut texts) = (0, 0);
    while pings < 4 || texts < pings {
        let message = client.next().await.unwrap().unwrap();
        if message.is_ping() {
            // The flush sends the pong, too.
            client.send(format!("{pings}").into()).await.unwrap();
            pings += 1;
        } else {
            assert_eq!(message.into_text().unwrap().as_str(), texts.to_string());
            texts += 1;
        }
    }
    client.close(None).await.unwrap();
    let (ended, stats) = ended.recv().await.unwrap();
    assert_eq!(ended.unwrap(), Stopped::PongsEnded);
    assert!(stats.answered() >= 3);
    assert_eq!((stats.missed(), stats.unsolicited()), (0, 0));
}

async fn silence<M, S>(stream: fn(MessageStream) -> S)
where
    M: crate::Message,
    S: Stream<Item = Result<M, ProtocolError>> + 'static,
    Rfc6455: Protocol<M>,
{
    let short = config()
        .timeout(Duration::from_millis(100))
        .write_timeout(LONG);
    let (mut client, mut ended) = connect(short, stream).await;
    match ended.recv().await.unwrap().0 {
        Err(Error::Timeout(verdict)) => {
            assert_eq!(verdict.phase(), TimeoutPhase::Pong);
            assert!(verdict.close_sent());
        }
        other => panic!("{other:?}"),
    }
    // This is what it was sent while it did not read.
    assert!(client.next().await.unwrap().unwrap().is_ping());
    let close = client.next().await.unwrap().unwrap();
    assert_eq!(crate::Message::close_code(&close), Some(1011));
}

async fn a_full_queue<M, S>(stream: fn(MessageStream) -> S)
where
    M: crate::Message,
    S: Stream<Item = Result<M, ProtocolError>> + 'static,
    Rfc6455: Protocol<M>,
{
    let short = config().timeout(Duration::from_millis(300)).no_close();
    let (mut client, mut ended) = connect(short, stream).await;
    let flood = pin!(async {
        // Below the size that actix takes for one frame.
        let text = "-".repeat(1 << 15);
        while client.send(text.clone().into()).await.is_ok() {}
    });
    let end = pin!(ended.recv());
    let ended = match select(end, flood).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), end)) => end.await,
    };
    match ended.unwrap().0 {
        Err(Error::Timeout(_)) => {}
        other => panic!("{other:?}"),
    }
}

macro_rules! actix {
    ($name:ident, $stream:expr) => {
        mod $name {
            use super::*;

            // contract: I62
            #[tokio::test]
            async fn texts_pass_while_pings_are_answered() {
                answers($stream).await;
            }

            // contract: I62
            #[tokio::test]
            async fn a_silent_peer_is_found_and_told() {
                silence($stream).await;
            }

            // contract: I62
            #[tokio::test]
            async fn a_peer_that_stops_reading_is_found_behind_a_full_queue() {
                a_full_queue($stream).await;
            }
        }
    };
}

actix!(on_actix_ws_0_4, |messages| messages);
actix!(on_actix_ws_0_4_aggregated, |messages| messages
    .aggregate_continuations());

// contract: I62
#[tokio::test]
async fn a_message_of_two_frames_arrives_whole_although_a_pong_is_between_them() {
    use tokio_tungstenite_0_30::tungstenite::Message;
    use tokio_tungstenite_0_30::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite_0_30::tungstenite::protocol::frame::coding::{Data, OpCode};

    let (mut client, mut ended) =
        connect(config(), |messages| messages.aggregate_continuations()).await;
    let frame = |text: &'static str, data, last| {
        Message::Frame(Frame::message(text, OpCode::Data(data), last))
    };
    client.send(frame("one ", Data::Text, false)).await.unwrap();
    assert!(client.next().await.unwrap().unwrap().is_ping());
    client
        .send(frame("two", Data::Continue, true))
        .await
        .unwrap();
    let echoed = loop {
        let message = client.next().await.unwrap().unwrap();
        if message.is_text() {
            break message;
        }
    };
    assert_eq!(echoed.into_text().unwrap().as_str(), "one two");
    client.close(None).await.unwrap();
    let (_, stats) = ended.recv().await.unwrap();
    assert!(stats.answered() >= 1);
}
