//! The other end of the connection: what it does with the pings that reach it.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::time::{Time, lock};

/// What a [`Peer`] does with a ping. Delays run from the arrival of the ping; with a delay of zero the pong is
/// sent within the flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Answer {
    /// Nothing: the ping or its pong is lost.
    Lost,
    /// A pong after that delay.
    After(Duration),
    /// Two pongs after that delay.
    Twice(Duration),
    /// A pong after that delay, in whose payload one bit has flipped. An empty payload gets a byte.
    Corrupted(Duration),
    /// A pong right behind the pong of the next ping that is answered.
    Reordered,
}

type Deliver = Arc<dyn Fn(Bytes) + Send + Sync>;
type Behaviour = Arc<Mutex<dyn FnMut(usize) -> Answer + Send>>;

/// The other end of a [`ScriptedSink`](super::ScriptedSink) or a
/// [`ScriptedSocket`](super::ScriptedSocket), which answers no ping unless it is told to. A clone is
/// a handle on the same peer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::testing::{Answer, World};
/// use futures_pinger::{Config, pinger};
///
/// let world = World::new();
/// let (outgoing, sink) = world.sink();
/// let (pongs, pinger) = pinger(outgoing, Config::builder().max_missed(2).build()?);
/// let peer = sink.peer(move |payload| {
///     let _ = pongs.handle_pong(&payload); // The heartbeat may have ended.
/// });
/// // Each third pong is lost.
/// peer.answer(|ping| match ping % 3 {
///     2 => Answer::Lost,
///     _ => Answer::After(Duration::from_millis(30)),
/// });
///
/// let mut heartbeat = world.task(pinger.with_timer(world.timer()));
/// heartbeat.run_until(Duration::from_secs(86_400));
/// assert!(!heartbeat.is_finished());
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Peer {
    /// A weak reference, as answers are on the agenda of the time.
    time: Weak<Time>,
    state: Arc<Mutex<State>>,
}

struct State {
    behaviour: Behaviour,
    pings: usize,
    /// The payloads of pongs that go behind the next answer.
    reordered: Vec<Bytes>,
    /// The way back, until the connection ends.
    deliver: Option<Deliver>,
}

impl Peer {
    pub(super) fn new(time: Weak<Time>, deliver: impl Fn(Bytes) + Send + Sync + 'static) -> Self {
        let state = State {
            behaviour: Arc::new(Mutex::new(|_| Answer::Lost)),
            pings: 0,
            reordered: Vec::new(),
            deliver: Some(Arc::new(deliver)),
        };
        Self {
            time,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Answers each ping from now on after `rtt`.
    pub fn answer_after(&self, rtt: Duration) {
        self.answer(move |_| Answer::After(rtt));
    }

    /// Answers no ping from now on. Pongs that are on their way arrive.
    pub fn fall_silent(&self) {
        self.answer(|_| Answer::Lost);
    }

    /// Sets the behaviour for all later pings; `behaviour` gets the number of the ping, from 0.
    pub fn answer(&self, behaviour: impl FnMut(usize) -> Answer + Send + 'static) {
        let behaviour: Behaviour = Arc::new(Mutex::new(behaviour));
        let old = std::mem::replace(&mut lock(&self.state).behaviour, behaviour);
        drop(old);
    }

    /// Sends an unsolicited pong now.
    pub fn pong(&self, payload: impl Into<Bytes>) {
        self.deliver(payload.into());
    }

    /// Sends this many unsolicited pongs now, all of them different.
    pub fn flood(&self, pongs: usize) {
        for stray in 0..pongs {
            self.pong(stray.to_be_bytes().to_vec());
        }
    }

    /// Ends the peer's side of the connection: drops the `deliver` of
    /// [`SinkScript::peer`](super::SinkScript::peer), and with it the sender that is in it. The stream of a
    /// socket is ended by [`SocketScript::end`](super::SocketScript::end).
    pub fn disconnect(&self) {
        let deliver = lock(&self.state).deliver.take();
        // This is dropped without the lock, as it wakes the heartbeat.
        drop(deliver);
    }

    /// How many pings have reached the peer.
    #[must_use]
    pub fn pings(&self) -> usize {
        lock(&self.state).pings
    }

    /// A ping has reached the peer.
    pub(super) fn receive(&self, payload: Bytes) {
        let (ping, behaviour) = {
            let mut state = lock(&self.state);
            state.pings += 1;
            (state.pings - 1, Arc::clone(&state.behaviour))
        };
        let answer = lock(&behaviour)(ping);
        match answer {
            Answer::Lost => {}
            Answer::After(rtt) => self.send(rtt, vec![payload]),
            Answer::Twice(rtt) => self.send(rtt, vec![payload.clone(), payload]),
            Answer::Corrupted(rtt) => self.send(rtt, vec![corrupted(&payload)]),
            Answer::Reordered => lock(&self.state).reordered.push(payload),
        }
    }

    fn send(&self, rtt: Duration, mut pongs: Vec<Bytes>) {
        pongs.append(&mut lock(&self.state).reordered);
        if rtt.is_zero() {
            return pongs.into_iter().for_each(|pong| self.deliver(pong));
        }
        // Once its world is dropped, nothing happens any more.
        let Some(time) = self.time.upgrade() else {
            return;
        };
        let peer = self.clone();
        time.at(time.elapsed() + rtt, move || {
            pongs.into_iter().for_each(|pong| peer.deliver(pong));
        });
    }

    fn deliver(&self, pong: Bytes) {
        let deliver = lock(&self.state).deliver.clone();
        if let Some(deliver) = deliver {
            deliver(pong);
        }
    }
}

fn corrupted(payload: &Bytes) -> Bytes {
    let mut payload = payload.to_vec();
    match payload.last_mut() {
        Some(last) => *last ^= 1,
        None => payload.push(0),
    }
    payload.into()
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("pings", &self.pings())
            .finish_non_exhaustive()
    }
}
