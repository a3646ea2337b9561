//! The client: as many connections as it is told to open, each of which answers pings and does nothing else.
//!
//! Frames are read and written by hand, so that this process leaves the processor to the server. A line on
//! its standard input is an order: `open COUNT MILLISECONDS` opens so many connections more, spread evenly over
//! that time, and `count` tells the pings since the start, and the most within 10 ms since the last `count`. Each order is answered by one line of JSON, once it is carried out.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// No more handshakes than these are under way at once: a slow server is not flooded.
const HANDSHAKES: usize = 64;

const WEBSOCKET_HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";

/// RFC 9113 §3.4: the preface, and settings of which all are the default.
const HTTP2_HANDSHAKE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

static PINGS: AtomicU64 = AtomicU64::new(0);
/// The step of 10 ms in which the last ping came, the pings in that step, and the most in any.
static STEP: AtomicU64 = AtomicU64::new(0);
static IN_STEP: AtomicU64 = AtomicU64::new(0);
static BUSIEST: AtomicU64 = AtomicU64::new(0);
/// Connections that the server has closed.
static LOST: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    WebSocket,
    Http2,
}

pub(crate) async fn run(protocol: Protocol, address: &str) -> Result<()> {
    let address = address.parse().map_err(Error::other)?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match order.split(' ').collect::<Vec<_>>()[..] {
            ["open", count, over] => {
                let count = count.parse().map_err(Error::other)?;
                let over = over.parse().map(Duration::from_millis);
                open(protocol, address, count, over.map_err(Error::other)?).await?;
                println!("{{\"opened\": {count}}}");
            }
            ["count"] => {
                let pings = PINGS.load(Ordering::Relaxed);
                let lost = LOST.load(Ordering::Relaxed);
                let busiest = BUSIEST.swap(0, Ordering::Relaxed);
                println!("{{\"pings\": {pings}, \"busiest\": {busiest}, \"lost\": {lost}}}");
            }
            _ => return Err(Error::other(format!("no such order: {order}"))),
        }
    }
    Ok(())
}

async fn open(protocol: Protocol, address: SocketAddr, count: u32, over: Duration) -> Result<()> {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    let begin = Instant::now();
    let mut handshakes = JoinSet::new();
    for number in 0..count {
        sleep_until(begin + over * number / count).await;
        let place = Arc::clone(&places).acquire_owned().await;
        handshakes.spawn(async move {
            let (stream, received) = connect(protocol, address).await?;
            tokio::spawn(async move {
                // An error is the end of the connection as well.
                let _ = answer(protocol, stream, received).await;
                LOST.fetch_add(1, Ordering::Relaxed);
            });
            drop(place);
            Ok(())
        });
    }
    handshakes.join_all().await.into_iter().collect()
}

/// The connection, and what has been read of its frames.
async fn connect(protocol: Protocol, address: SocketAddr) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    match protocol {
        Protocol::Http2 => {
            stream.write_all(HTTP2_HANDSHAKE).await?;
            // The settings of the server are the first that it sends.
            stream.read_buf(&mut received).await?;
        }
        Protocol::WebSocket => {
            stream.write_all(WEBSOCKET_HANDSHAKE).await?;
            let end = loop {
                if let Some(head) = received.windows(4).position(|it| it == b"\r\n\r\n") {
                    break head + 4;
                }
                if stream.read_buf(&mut received).await? == 0 {
                    break 0;
                }
            };
            if !received.starts_with(b"HTTP/1.1 101 ") {
                let said = String::from_utf8_lossy(&received).into_owned();
                return Err(Error::other(format!("no WebSocket: {said}")));
            }
            received.drain(..end);
        }
    }
    Ok((stream, received))
}

/// Reads frames and answers pings until the connection ends.
async fn answer(protocol: Protocol, mut stream: TcpStream, mut received: Vec<u8>) -> Result<()> {
    let mut answers = Vec::new();
    loop {
        let take = match protocol {
            Protocol::WebSocket => take_websocket_frame,
            Protocol::Http2 => take_http2_frame,
        };
        let mut taken = 0;
        while let Some(length) = take(&received[taken..], &mut answers)? {
            taken += length;
        }
        received.drain(..taken);
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
            answers.clear();
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

/// Counts a ping. All connections are on one thread, so that no two calls run at once.
fn count_ping() {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

    PINGS.fetch_add(1, Ordering::Relaxed);
    let step = u64::try_from(BEGIN.elapsed().as_millis() / 10).unwrap_or(u64::MAX);
    if STEP.swap(step, Ordering::Relaxed) != step {
        IN_STEP.store(0, Ordering::Relaxed);
    }
    let pings = IN_STEP.fetch_add(1, Ordering::Relaxed) + 1;
    BUSIEST.fetch_max(pings, Ordering::Relaxed);
}

/// The length of the frame at the beginning, if all of it is there. Of a ping its pong is added to `answers`.
fn take_websocket_frame(received: &[u8], answers: &mut Vec<u8>) -> Result<Option<usize>> {
    // RFC 6455 §5.2. A server masks nothing.
    let [first, length, ..] = *received else {
        return Ok(None);
    };
    let (start, length) = match (length, received) {
        (126, &[_, _, high, low, ..]) => (4, usize::from(u16::from_be_bytes([high, low]))),
        (126, _) => return Ok(None),
        (127.., _) => return Err(Error::other("a frame of more than 64 KiB, or a masked one")),
        (length, _) => (2, usize::from(length)),
    };
    let Some(payload) = received.get(start..start + length) else {
        return Ok(None);
    };
    match first & 0x0f {
        0x8 => return Err(Error::other("closed")),
        0x9 => {
            count_ping();
            // Masked with zeros. A payload of a control frame is no longer than 125 bytes.
            let masked = 0x80 | u8::try_from(length).map_err(Error::other)?;
            answers.extend([0x8a, masked, 0, 0, 0, 0]);
            answers.extend(payload);
        }
        _ => {}
    }
    Ok(Some(start + length))
}

/// `take_websocket_frame` for HTTP/2, where settings are answered as well.
fn take_http2_frame(received: &[u8], answers: &mut Vec<u8>) -> Result<Option<usize>> {
    const ACK: u8 = 1;

    // RFC 9113 §4.1.
    let [a, b, c, kind, flags, _, _, _, _, ..] = *received else {
        return Ok(None);
    };
    let end = 9 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
    let Some(payload) = received.get(9..end) else {
        return Ok(None);
    };
    match (kind, flags & ACK) {
        // SETTINGS
        (4, 0) => answers.extend([0, 0, 0, 4, ACK, 0, 0, 0, 0]),
        // PING
        (6, 0) => {
            count_ping();
            answers.extend([0, 0, 8, 6, ACK, 0, 0, 0, 0]);
            answers.extend(payload);
        }
        // GOAWAY
        (7, _) => return Err(Error::other("closed")),
        _ => {}
    }
    Ok(Some(end))
}
