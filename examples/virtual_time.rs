//! A user's test of a client that reconnects, run as a program in virtual time: a quarter of an
//! hour takes a few milliseconds, and goes the same way each time.
//!
//! `cargo run --example virtual_time` prints what happened, and fails unless each peer that is gone
//! was found out within the bound of the docs.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures::{Sink, StreamExt, TryStream, stream::Stream};
use futures_pinger::testing::{Answer, ScriptedSocket, SocketScript, World};
use futures_pinger::{Config, Error, KeepAlive, Rfc6455, Timer};
use tungstenite_0_30::Message;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What is under test: reads until the connection ends, and says why it did.
async fn session<S, E, T>(socket: S, config: Config, timer: T) -> String
where
    S: Stream<Item = Result<Message, E>>
        + TryStream<Ok = Message, Error = E>
        + Sink<Message, Error = E>
        + Unpin,
    E: StdError,
    T: Timer + Unpin,
{
    let mut socket = KeepAlive::new(socket, config).with_timer(timer);
    let mut messages = 0;
    while let Some(message) = socket.next().await {
        match message {
            Ok(_) => messages += 1,
            Err(Error::Timeout(verdict)) => return format!("given up: {verdict}"),
            Err(error) => return format!("lost: {error}"),
        }
    }
    format!("ended after {messages} messages")
}

/// What goes wrong with a connection, so many minutes after it was made.
struct Case {
    name: &'static str,
    minutes: u32,
    fault: fn(&SocketScript<Message>),
    gone: bool,
}

const CASES: [Case; 5] = [
    Case {
        name: "the peer falls silent",
        minutes: 5,
        fault: |script| script.peer().fall_silent(),
        gone: true,
    },
    Case {
        name: "the peer reads no more, and the socket fills up",
        minutes: 2,
        fault: SocketScript::block,
        gone: true,
    },
    Case {
        name: "pongs arrive corrupted",
        minutes: 3,
        fault: |script| script.peer().answer(|_| Answer::Corrupted(SECOND)),
        gone: true,
    },
    Case {
        name: "the connection breaks",
        minutes: 1,
        fault: |script| script.receive_error(),
        gone: false,
    },
    Case {
        name: "the peer hangs up",
        minutes: 1,
        fault: |script| {
            script.receive(Message::text("bye"));
            script.end();
        },
        gone: false,
    },
];

fn main() -> ExitCode {
    let world = World::new();
    stop_our_process(&world, MINUTE, 4 * MINUTE);
    let missed = world.run_within(60 * MINUTE, client(&world, &Config::default()));
    let (now, timers) = (world.elapsed(), world.timers());
    if missed.is_empty() && timers == 0 {
        say(now, format_args!("done, and nothing is left behind"));
        return ExitCode::SUCCESS;
    }
    say(
        now,
        format_args!("not as promised: {missed:?}, {timers} timers left"),
    );
    ExitCode::FAILURE
}

/// That is nobody's fault, and earns the peer no verdict.
fn stop_our_process(world: &World, from: Duration, until: Duration) {
    world.stall(from..until);
    world.at(from, move || {
        say(from, format_args!("  our process is stopped"));
    });
    world.at(until, move || {
        say(until, format_args!("  our process goes on"));
    });
}

/// Connects again whenever a session has ended; the faults that were not found out as promised.
async fn client(world: &World, config: &Config) -> Vec<&'static str> {
    let bound = config.detection_bound().expect("it has a timeout");
    let mut missed = Vec::new();
    for case in CASES {
        let connected = world.elapsed();
        say(
            connected,
            format_args!("connected; in {} min {}", case.minutes, case.name),
        );
        let socket = connect(world, &case);
        let why = session(socket, config.clone(), world.timer()).await;
        say(world.elapsed(), format_args!("{why}"));
        let latest = connected + case.minutes * MINUTE + bound;
        if case.gone != why.starts_with("given up") || world.elapsed() > latest {
            missed.push(case.name);
        }
        world.sleep(SECOND).await;
    }
    missed
}

fn connect(world: &World, case: &Case) -> ScriptedSocket<Message> {
    let (socket, script) = world.socket(Rfc6455);
    script.peer().answer_after(SECOND / 20);
    let fault = case.fault;
    world.at(world.elapsed() + case.minutes * MINUTE, move || {
        fault(&script);
    });
    socket
}

fn say(at: Duration, line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{:>5} s  {line}", at.as_secs()) {
        // Who reads through `head` has seen enough; that is no failure.
        std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
    }
}
