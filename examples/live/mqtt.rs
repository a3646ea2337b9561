//! A client that speaks MQTT 3.1.1 over a WebSocket, as much of it as it takes to publish in bursts and to get
//! everything back.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{Config, Controller, Error, KeepAlive, Liveness, TimedOut, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_tungstenite::client_async;
use tungstenite_0_30::client::IntoClientRequest;
use tungstenite_0_30::http::HeaderValue;
use tungstenite_0_30::{Error as WsError, Message};

use crate::{Failure, promise, verdict};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The broker hangs up after one and a half of this without a packet (MQTT 3.1.1 §3.1.2.10).
const KEEP_ALIVE_SECONDS: u16 = 10;
const PADDING: usize = 2048;
const BETWEEN_BURSTS: Duration = Duration::from_secs(1);
/// The application takes its time after so many packets: most of a large burst waits before it, pongs among it.
const PACKETS_AT_ONCE: u32 = 16;
const PAUSE: Duration = Duration::from_millis(20);
const PACKET_ID: u16 = 1;

/// The first byte of each packet (MQTT 3.1.1 §2.2), flags included.
mod kind {
    pub(super) const CONNECT: u8 = 0x10;
    pub(super) const CONNACK: u8 = 0x20;
    pub(super) const PUBLISH: u8 = 0x30;
    pub(super) const SUBSCRIBE: u8 = 0x82;
    pub(super) const SUBACK: u8 = 0x90;
}

/// What the reader tells the writer.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Connected,
    Subscribed,
    /// A message of this client came back from the broker.
    Returned(u32),
}

/// Why one of the halves ended.
type Ended = Result<TimedOut, Failure>;

/// Publishes `burst_size` messages at a time, until the heartbeat finds that the broker is gone, and says when this has
/// gone well for `time`.
pub(crate) async fn run(
    address: &str,
    name: &str,
    liveness: Liveness,
    burst_size: usize,
    time: Duration,
) -> Ended {
    let config = Config::builder()
        .interval(INTERVAL)
        .timeout(TIMEOUT)
        .liveness(liveness)
        .build()?;
    promise(&config)?;
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut request = format!("ws://{address}/").into_client_request()?;
    let protocol = HeaderValue::from_static("mqtt");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let (socket, _) = client_async(request, tcp).await?;
    let mut socket = KeepAlive::new(socket, config).with_timer(TokioTimer::new());
    let controller = socket.controller();

    // Two halves: a writer that waits for the broker must not keep the reader from it.
    let (sink, stream) = socket.split();
    let (answers, answered) = mpsc::unbounded_channel();
    tokio::select! {
        ended = read(stream, name, answers) => ended,
        ended = write(sink, name, answered, &controller, burst_size, time) => ended,
    }
}

/// Reads what the broker sends, until the connection ends.
async fn read<S>(mut stream: S, name: &str, answers: mpsc::UnboundedSender<Answer>) -> Ended
where
    S: Stream<Item = Result<Message, Error<WsError>>> + Unpin,
{
    // A packet may begin in one message and end in another (MQTT 3.1.1 §6).
    let mut bytes = BytesMut::new();
    let (mut expected, mut packets) = (0, 0);
    loop {
        match stream.next().await.ok_or("the broker has left")? {
            Ok(Message::Binary(part)) => bytes.extend_from_slice(&part),
            Ok(Message::Close(_)) => return Err("the broker closes".into()),
            Ok(_) => {}
            Err(error) => return verdict(error),
        }
        while let Some((kind, body)) = take_packet(&mut bytes)? {
            packets += 1;
            if packets % PACKETS_AT_ONCE == 0 {
                sleep(PAUSE).await;
            }
            let answer = match kind {
                kind::CONNACK if body[..] == [0, 0] => Answer::Connected,
                kind::SUBACK if body.last() == Some(&0) => Answer::Subscribed,
                kind::PUBLISH => match own_number(body, name)? {
                    Some(number) if number == expected => {
                        expected += 1;
                        Answer::Returned(number)
                    }
                    Some(number) => return Err(format!("{number}, not {expected}").into()),
                    None => continue,
                },
                _ => return Err(format!("a packet of kind {kind:#x}: {body:?}").into()),
            };
            answers.send(answer)?;
        }
    }
}

/// Publishes burst after burst, of so many messages each. A burst begins when all of the one before has come back.
async fn write<S>(
    mut sink: S,
    name: &str,
    mut answers: mpsc::UnboundedReceiver<Answer>,
    controller: &Controller,
    burst_size: usize,
    time: Duration,
) -> Ended
where
    S: Sink<Message, Error = Error<WsError>> + Unpin,
{
    if let Err(error) = sink.send(connect(name)).await {
        return verdict(error);
    }
    expect(&mut answers, &Answer::Connected).await?;
    if let Err(error) = sink.send(subscribe()).await {
        return verdict(error);
    }
    expect(&mut answers, &Answer::Subscribed).await?;

    let (start, mut said, mut numbers) = (Instant::now(), false, 0..);
    let mut bursts = interval(BETWEEN_BURSTS);
    bursts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        bursts.tick().await;
        let burst: Vec<u32> = numbers.by_ref().take(burst_size).collect();
        for &number in &burst {
            if let Err(error) = sink.send(publish(name, number)).await {
                return verdict(error);
            }
        }
        for &number in &burst {
            expect(&mut answers, &Answer::Returned(number)).await?;
        }
        if !said && start.elapsed() >= time {
            said = true;
            let (stats, messages) = (controller.stats(), numbers.start);
            let (answered, missed) = (stats.answered(), stats.missed());
            println!(
                "alive: {messages} messages returned, {answered} pings answered, {missed} missed"
            );
        }
    }
}

async fn expect(
    answers: &mut mpsc::UnboundedReceiver<Answer>,
    expected: &Answer,
) -> Result<(), Failure> {
    let answer = answers.recv().await.ok_or("the reader has ended")?;
    if answer == *expected {
        Ok(())
    } else {
        Err(format!("{answer:?} instead of {expected:?}").into())
    }
}

fn connect(name: &str) -> Message {
    let mut body = BytesMut::new();
    put_text(&mut body, "MQTT");
    // Level 4 is version 3.1.1; the flag asks for a clean session.
    body.put_u8(4);
    body.put_u8(0x02);
    body.put_u16(KEEP_ALIVE_SECONDS);
    put_text(&mut body, name);
    packet(kind::CONNECT, &body)
}

fn subscribe() -> Message {
    let mut body = BytesMut::new();
    body.put_u16(PACKET_ID);
    put_text(&mut body, "live/#");
    // At most once.
    body.put_u8(0);
    packet(kind::SUBSCRIBE, &body)
}

fn publish(name: &str, number: u32) -> Message {
    let mut body = BytesMut::new();
    put_text(&mut body, &format!("live/{name}"));
    body.put_u32(number);
    body.put_bytes(0, PADDING);
    packet(kind::PUBLISH, &body)
}

/// The number in a published message, if this client is its sender.
fn own_number(mut body: Bytes, name: &str) -> Result<Option<u32>, Failure> {
    let length = usize::from(body.try_get_u16()?);
    if body.len() < length {
        return Err("a topic that is cut off".into());
    }
    let topic = body.split_to(length);
    let number = body.try_get_u32()?;
    Ok((topic == format!("live/{name}")).then_some(number))
}

fn put_text(body: &mut BytesMut, text: &str) {
    body.put_u16(u16::try_from(text.len()).expect("the texts of this program are short"));
    body.put_slice(text.as_bytes());
}

/// A packet in a message of its own. Its length is in groups of seven bits, the lowest first (MQTT 3.1.1 §2.2.3).
fn packet(kind: u8, body: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(body.len() + 5);
    bytes.put_u8(kind);
    let mut length = body.len();
    while length > 0x7f {
        bytes.put_u8(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.put_u8(length.to_le_bytes()[0]);
    bytes.put_slice(body);
    Message::Binary(bytes.freeze())
}

/// Takes the first packet off, once all of it is there.
fn take_packet(bytes: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Failure> {
    let (mut length, mut head) = (0, 1);
    loop {
        let Some(&group) = bytes.get(head) else {
            return Ok(None);
        };
        length |= usize::from(group & 0x7f) << (7 * (head - 1));
        head += 1;
        if group & 0x80 == 0 {
            break;
        }
        if head > 4 {
            return Err("a packet whose length has more than four bytes".into());
        }
    }
    if bytes.len() < head + length {
        return Ok(None);
    }
    let kind = bytes[0];
    bytes.advance(head);
    Ok(Some((kind, bytes.split_to(length).freeze())))
}
