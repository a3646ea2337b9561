//! Our side of the live tests: small programs with a heartbeat, each for one kind of foreign peer.
//!
//! ```text
//! live graphql-client HOST:PORT INTERVAL_MS TIMEOUT_MS SECONDS
//! live graphql-server INTERVAL_MS TIMEOUT_MS SECONDS
//! live handler run-while|bare INTERVAL_MS TIMEOUT_MS
//! live json-ping HOST:PORT INTERVAL_MS TIMEOUT_MS SECONDS
//! live json-watch HOST:PORT WITHIN_MS SECONDS
//! live mqtt HOST:PORT NAME any-pong|MAX_UNPROVEN_MS BURST SECONDS
//! live nats HOST:PORT INTERVAL_MS TIMEOUT_MS SECONDS
//! live phoenix-client HOST:PORT INTERVAL_MS TIMEOUT_MS SECONDS
//! live phoenix-server WITHIN_MS SECONDS
//! live socket-io-client HOST:PORT SECONDS
//! live socket-io-server INTERVAL_MS TIMEOUT_MS SECONDS
//! live stomp-server HEART_BEAT SECONDS
//! ```
//!
//! `.ci/live` runs them against peers that are not written in Rust, and stops those peers at the end.
//! Each program prints the bound that its configuration promises, and `gone: ...` with the verdict. Any
//! other end of its connection is a failure.

mod graphql;
mod handler;
mod json;
mod mqtt;
mod nats;
mod phoenix;
mod session;
mod socket_io;
mod stomp;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use futures_pinger::{Config, Error, Liveness, TimedOut, TimeoutPhase};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints what the configuration promises, which the runner holds against its own clock.
fn promise(config: &Config) -> Result<(), Failure> {
    let bound = config.detection_bound().ok_or("nothing is promised")?;
    println!("promised: {} ms", bound.as_millis());
    Ok(())
}

/// The verdict on a peer that was stopped; every other error is passed on.
fn verdict<E: Into<Failure>>(error: Error<E>) -> Result<TimedOut, Failure> {
    match error {
        Error::Timeout(verdict) if verdict.phase() != TimeoutPhase::Closing => Ok(verdict),
        Error::Timeout(verdict) => Err(verdict.into()),
        Error::Transport(error) => Err(error.into()),
        _ => Err("an error that is new here".into()),
    }
}

fn milliseconds(text: &str) -> Result<Duration, Failure> {
    Ok(Duration::from_millis(text.parse()?))
}

fn seconds(text: &str) -> Result<Duration, Failure> {
    Ok(Duration::from_secs(text.parse()?))
}

async fn run(arguments: &[&str]) -> Result<TimedOut, Failure> {
    match *arguments {
        ["graphql-client", address, interval, timeout, time] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            graphql::connect(address, interval, timeout, seconds(time)?).await
        }
        ["graphql-server", interval, timeout, time] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            graphql::serve(interval, timeout, seconds(time)?).await
        }
        ["handler", care, interval, timeout] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            handler::serve(care.parse()?, interval, timeout).await
        }
        ["json-ping", address, interval, timeout, time] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            json::ping(address, interval, timeout, seconds(time)?).await
        }
        ["json-watch", address, within, time] => {
            json::watch(address, milliseconds(within)?, seconds(time)?).await
        }
        ["mqtt", address, name, trust, burst, time] => {
            let liveness = match trust {
                "any-pong" => Liveness::AnyPong,
                time => Liveness::Traffic {
                    max_unproven: milliseconds(time)?,
                },
            };
            mqtt::run(address, name, liveness, burst.parse()?, seconds(time)?).await
        }
        ["nats", address, interval, timeout, time] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            nats::connect(address, interval, timeout, seconds(time)?).await
        }
        ["phoenix-client", address, interval, timeout, time] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            phoenix::connect(address, interval, timeout, seconds(time)?).await
        }
        ["phoenix-server", within, time] => {
            phoenix::serve(milliseconds(within)?, seconds(time)?).await
        }
        ["socket-io-client", address, time] => socket_io::connect(address, seconds(time)?).await,
        ["socket-io-server", interval, timeout, time] => {
            let (interval, timeout) = (milliseconds(interval)?, milliseconds(timeout)?);
            socket_io::serve(interval, timeout, seconds(time)?).await
        }
        ["stomp-server", heart_beat, time] => stomp::serve(heart_beat, seconds(time)?).await,
        _ => Err("which program? See the head of examples/live/main.rs".into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments).await {
        Ok(verdict) => {
            println!("gone: {verdict}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
