//! Q. A [`PingerSet`] as a gateway needs it: readers attached, connections told apart, steered and counted.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};
use futures_pinger::testing::Task;
use futures_pinger::{ConfigBuilder, Error, Member, MemberId, PingerSet, PingerSetHandle};

use crate::socket::{Msg, Plain};
use crate::world::{Broken, ManualTimer, ScriptedSink, SinkScript, World, exact, s};

type Set = PingerSet<ScriptedSink, ManualTimer>;
type Ends = Rc<RefCell<Vec<(Duration, MemberId, Error<Broken>)>>>;

/// Polls the set, which never ends.
struct Driver {
    world: World,
    set: Set,
    ends: Ends,
}

impl Future for Driver {
    type Output = Infallible;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Infallible> {
        while let Poll::Ready(item) = self.set.poll_next_unpin(cx) {
            let (id, error) = item.expect("a set never ends");
            let at = self.world.elapsed();
            self.ends.borrow_mut().push((at, id, error));
        }
        Poll::Pending
    }
}

/// A set in a [`World`], and what it has yielded.
struct Gateway {
    world: World,
    handle: PingerSetHandle<ScriptedSink>,
    task: Task<Driver>,
    ends: Ends,
}

impl Gateway {
    fn new(config: ConfigBuilder) -> Self {
        let world = World::new();
        let set = PingerSet::new(config.build().expect("valid")).with_timer(world.timer());
        let handle = set.handle();
        let ends = Ends::default();
        let task = world.task(Driver {
            world: world.clone(),
            set,
            ends: Rc::clone(&ends),
        });
        Self {
            world,
            handle,
            task,
            ends,
        }
    }

    fn join(&self) -> (Member, SinkScript) {
        let (outgoing, sink) = self.world.sink();
        let member = self.handle.insert(outgoing).expect("the set is there");
        (member, sink)
    }

    fn run_until(&mut self, time: Duration) {
        self.task.run_until(time);
    }
}

/// The incoming messages of a connection.
fn incoming() -> (
    UnboundedSender<Result<Msg, Broken>>,
    impl futures::Stream<Item = Result<Msg, Broken>> + Unpin,
) {
    unbounded()
}

// --- 113: attached readers ---

// contract: Q113
#[test]
fn dropping_an_attached_stream_leaves_the_set() {
    let mut gateway = Gateway::new(exact());
    let (member, sink) = gateway.join();
    let (socket, stream) = incoming();
    let reader = member.attach(stream, Plain);
    gateway.run_until(s(21));
    assert_eq!(sink.pings(), [s(20)]);
    assert_eq!(gateway.handle.len(), 1);
    drop(reader);
    assert_eq!(gateway.handle.len(), 0);
    gateway.run_until(s(100));
    assert_eq!(sink.pings(), [s(20)]);
    assert!(gateway.ends.borrow().is_empty());
    drop(socket);
}

// contract: Q113
#[test]
fn the_close_an_error_and_the_end_of_an_attached_stream_leave_the_set() {
    for end in [Some(Ok(Msg::Close)), Some(Err(Broken)), None] {
        let mut gateway = Gateway::new(exact());
        let (member, sink) = gateway.join();
        let (socket, stream) = incoming();
        let mut reader = member.attach(stream, Plain);
        gateway.run_until(s(21));
        let pong = Msg::Pong(sink.payload(0));
        socket.unbounded_send(Ok(pong)).expect("attached");
        socket.unbounded_send(Ok(Msg::Data(7))).expect("attached");
        let read = reader.next().now_or_never();
        assert_eq!(read, Some(Some(Ok(Msg::Data(7)))), "the pong is taken out");
        gateway.run_until(s(25));
        assert_eq!(gateway.handle.len(), 1);
        if let Some(last) = end.clone() {
            socket.unbounded_send(last).expect("attached");
        }
        drop(socket);
        assert_eq!(reader.next().now_or_never(), Some(end));
        assert_eq!(gateway.handle.len(), 0);
        gateway.run_until(s(100));
        assert!(gateway.ends.borrow().is_empty());
    }
}

// contract: Q113
#[test]
fn the_next_member_of_a_seat_has_a_reader_of_its_own() {
    let mut gateway = Gateway::new(exact());
    let (member, _) = gateway.join();
    let (socket, stream) = incoming();
    let mut reader = member.attach(stream, Plain);
    socket.unbounded_send(Ok(Msg::Data(0))).expect("attached");
    // The reader is away, and its heartbeat has seen that.
    assert!(reader.next().now_or_never().is_some());
    gateway.run_until(s(45));
    drop(reader);
    gateway.run_until(s(46));
    let (silent, _) = gateway.join();
    gateway.run_until(s(200));
    let ends = gateway.ends.borrow();
    let ends: Vec<_> = ends.iter().map(|(at, id, _)| (*at, *id)).collect();
    assert_eq!(ends, [(s(86), silent.id())]);
}
