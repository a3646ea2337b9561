//! usage: server: prints the port that it listens on, and serves until its input ends.
//!
//! The first message of a client says how many of its pings are answered. The connection goes on after them,
//! and each further ping gets a message of data.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use tungstenite::{Message, WebSocket};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                serve(tungstenite::accept(stream).expect("a handshake"));
            });
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Serves until the connection ends.
fn serve(mut socket: WebSocket<TcpStream>) {
    let mut left = None;
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else {
            continue;
        };
        let answer = match &mut left {
            None => {
                left = Some(text.parse::<u64>().expect("a number of pings"));
                format!("{text} pings will be answered")
            }
            Some(0) => "busy".to_owned(),
            Some(left) => {
                *left -= 1;
                text.replace(r#""type":"ping""#, r#""type":"pong""#)
            }
        };
        // Where the connection has ended, the next read says so.
        let _ = socket.send(Message::text(answer));
    }
}
