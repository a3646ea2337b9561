//! Both halves of a socket on threads of their own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Wake};
use std::time::Duration;

use futures::{Sink, Stream};
use futures_pinger::{
    Config, Controller, Error, Frame, KeepAlive, PingNowError, ProbeError, ReadHalf, WriteHalf,
};
use loom::thread;

use crate::parts::{Count, Hand, Hands, Task, block_on};
use crate::rounds::{at_once, build, check, join_all};
use crate::wire::{Message, Plain, Wire};

/// A peer that sends two messages, answers pings until the socket is closed, and closes the connection. Returns the
/// data that it has received.
fn peer(wire: &Wire) -> Vec<u32> {
    let mut received = Vec::new();
    for data in 0..2 {
        wire.send(Message::Data(data));
    }
    while let Some(message) = wire.take() {
        match message {
            Message::Frame(Frame::Ping(ping)) => wire.send(Message::Frame(Frame::Pong(ping))),
            Message::Frame(_) => {}
            Message::Data(data) => received.push(data),
        }
    }
    wire.end();
    received
}

type Reader = ReadHalf<Wire, Plain, Hands>;
type Writer = WriteHalf<Wire, Plain, Hands>;

/// Reads to the end. Returns the data.
fn read(mut reader: Reader) -> Vec<u32> {
    let (task, mut data) = (Task::new(), Vec::new());
    loop {
        match task.run(|cx| Pin::new(&mut reader).poll_next(cx)) {
            Some(Ok(Message::Data(number))) => data.push(number),
            Some(Ok(Message::Frame(_))) => {}
            Some(Err(Error::Timeout(_))) | None => return data,
            Some(Err(error)) => panic!("{error:?}"),
        }
    }
}

/// Sends three messages, and flushes each. Returns how many were sent before the end.
fn write(writer: &mut Writer, task: &Arc<Task>) -> u32 {
    let mut send = |data| {
        task.run(|cx| Pin::new(&mut *writer).poll_ready(cx))?;
        Pin::new(&mut *writer).start_send(Message::Data(data))?;
        task.run(|cx| Pin::new(&mut *writer).poll_flush(cx))
    };
    (0..3).find(|&data| send(data).is_err()).unwrap_or(3)
}

/// What the threads do beside the probes and the timer, and what may come of it.
struct Script {
    config: Config,
    order: fn(&Controller, Config) -> Result<(), PingNowError>,
    /// Whether a probe may learn that.
    may_tell: fn(ProbeError) -> bool,
    may_die: bool,
}

/// Eight threads: the two halves, the peer, two probes, the orders, the timer, and one that waits for these four before
/// the writer closes the socket.
fn play(script: &Script) {
    let &Script {
        ref config,
        order,
        may_tell,
        may_die,
    } = script;
    let (hand, wire, task) = (Hand::new(), Wire::new(), Task::new());
    let socket = KeepAlive::with_protocol(wire.clone(), Plain, config.clone());
    let (reader, mut writer) = socket.with_timer(hand.timer()).into_split();
    let controller = reader.controller();

    let peering = {
        let wire = wire.clone();
        thread::spawn(move || peer(&wire))
    };
    let reading = thread::spawn(move || read(reader));
    let [one, two] = [(), ()].map(|()| {
        let controller = controller.clone();
        thread::spawn(move || {
            let probed = block_on(controller.probe(Duration::MAX));
            assert!(probed.err().is_none_or(may_tell));
        })
    });
    let ordering = {
        let config = config.clone();
        thread::spawn(move || {
            let ordered = order(&controller, config);
            assert!(ordered.is_ok() || may_die);
        })
    };
    let clock = thread::spawn(move || {
        for _ in 0..3 {
            hand.fire();
        }
    });
    let done = Count::new();
    let ending = {
        let (task, done) = (Arc::clone(&task), done.clone());
        thread::spawn(move || {
            join_all([one, two, ordering, clock]);
            done.add();
            task.wake();
        })
    };

    let sent = write(&mut writer, &task);
    // The heartbeat goes on as long as one half is polled.
    task.run(|cx| {
        let flushed = Pin::new(&mut writer).poll_flush(cx);
        assert!(may_die || !matches!(flushed, Poll::Ready(Err(_))));
        if done.get() == 1 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let closed = task.run(|cx| Pin::new(&mut writer).poll_close(cx));
    assert!(closed.is_ok() || may_die);
    // A writer that is told of a verdict drops the connection.
    wire.close();
    join_all([ending]);
    let received = peering.join().expect("no panic");
    let read = reading.join().expect("no panic");
    if may_die {
        // What was accepted before a verdict may be lost with the connection.
        assert!([0, 1, 2].starts_with(&received));
        assert!([0, 1].starts_with(&read));
    } else {
        assert_eq!(sent, 3);
        assert_eq!(received, [0, 1, 2]);
        assert_eq!(read, [0, 1]);
    }
}

/// Nothing is judged.
fn harmless() -> Config {
    build(at_once().no_timeout().closing_handshake(Duration::MAX))
}

fn reconfigure(controller: &Controller, config: Config) -> Result<(), PingNowError> {
    controller
        .set_config(config)
        .map_err(|_| PingNowError::Closed)?;
    controller.ping_now()
}

#[test]
fn halves_hear_of_all_at_once() {
    check(|| {
        play(&Script {
            config: harmless(),
            order: reconfigure,
            may_tell: |_| false,
            may_die: false,
        });
    });
}

#[test]
fn halves_that_judge_hear_of_all_at_once() {
    check(|| {
        play(&Script {
            config: build(at_once().timeout(Duration::from_secs(5))),
            order: reconfigure,
            may_tell: |_| true,
            may_die: true,
        });
    });
}

#[test]
fn halves_go_on_after_a_pause_beside_probes() {
    check(|| {
        play(&Script {
            config: harmless(),
            order: |controller, _| {
                controller.pause().expect("nobody stops it");
                controller.resume().expect("nobody stops it");
                let probed = block_on(controller.probe(Duration::MAX));
                assert!(probed.is_ok());
                Ok(())
            },
            may_tell: |error| error == ProbeError::Paused,
            may_die: false,
        });
    });
}

#[test]
fn halves_go_on_without_a_heartbeat_that_is_stopped_or_paused_meanwhile() {
    check(|| {
        play(&Script {
            config: harmless(),
            order: |controller, _| controller.pause().map_err(|_| PingNowError::Closed),
            may_tell: |error| error == ProbeError::Paused,
            may_die: false,
        });
    });
    check(|| {
        play(&Script {
            config: harmless(),
            order: |controller, _| controller.stop().map_err(|_| PingNowError::Closed),
            may_tell: |error| error == ProbeError::Ended,
            may_die: false,
        });
    });
}
