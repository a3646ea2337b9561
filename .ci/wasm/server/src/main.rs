//! usage: server: prints the port that it listens on, and serves until its input ends.
//!
//! The path that a client asks for says how many of its pings are answered. The connection goes on after them:
//! each further ping gets a message of data, and all else is sent back.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use tungstenite::Message;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Serves until the connection ends.
fn serve(stream: TcpStream) {
    let mut left = 0_u64;
    // Not by a message: a ping may come first.
    #[allow(clippy::result_large_err)]
    let look = |request: &Request, response| -> Result<Response, ErrorResponse> {
        let path = request.uri().path();
        left = path[1..].parse().expect("a number of pings");
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, look).expect("a handshake");
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else {
            continue;
        };
        let ping = r#""type":"ping""#;
        let answer = if !text.contains(ping) {
            text.to_string()
        } else if left > 0 {
            left -= 1;
            text.replace(ping, r#""type":"pong""#)
        } else {
            "busy".to_owned()
        };
        // Where the connection has ended, the next read says so.
        let _ = socket.send(Message::text(answer));
    }
}
