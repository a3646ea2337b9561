//! The one state of a heartbeat, which all who hold it visit: the lock, the wake rule, and the exit.
//!
//! Whoever holds a heartbeat (its driver, a handle) locks its state, calls the
//! [`Machine`], and leaves. Nothing is copied, published or reported.
//!
//! # Invariants
//!
//! 1. A visit compares, on leaving, when the driver must look next with what the driver sleeps for.
//!    Earlier, or something to send: the driver is woken. Else nobody is. So a pong that answers a
//!    ping wakes nobody while the next ping is not due.
//! 2. Only the driver judges deadlines; a visit never does.
//! 3. No foreign code runs under the lock: clocks are read before it; wakers are woken and dropped,
//!    and subscribers told, after it.

use std::ops::Deref;
use std::sync::OnceLock;
use std::task::{Context, Wake, Waker};

use crate::config::{Config, Liveness};
use crate::drive::Turns;
use crate::error::Closed;
use crate::grid::Grid;
use crate::machine::{Events, Machine, PongKind, Record, SinkState, Terms, Turn};
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, lock};
use crate::time::Time;
use crate::timer::{Bell, Clock, Half, NOBODY, Wakers, wake};
use crate::trace::Trace;

/// What a visitor needs of a heartbeat: [`Shared`] for one that is alone, a seat for a member of a set.
pub(crate) trait Visited {
    /// Calls the machine under the lock, unless the heartbeat has ended; then wakes the driver if it
    /// must look earlier than it would.
    fn visit<R>(
        &self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed>;

    /// The time. The clock is foreign code, so it is read before the lock.
    fn now(&self) -> Time;

    /// The peer sent a pong. The clock is read for a pong that means something, not for each stray.
    fn handle_pong(&self, payload: &[u8]) -> Result<PongKind, Closed> {
        if self.visit(|machine| machine.handle_stray(payload))? {
            return Ok(PongKind::Unsolicited);
        }
        let now = self.now();
        self.visit(|machine| machine.handle_pong(payload, now))
    }

    /// The peer sent something else.
    fn handle_activity(&self) -> Result<(), Closed> {
        if self.visit(|machine| machine.heeds_activity())? {
            let now = self.now();
            self.visit(|machine| machine.handle_activity(now, now))?;
        }
        Ok(())
    }
}

/// The state of one heartbeat, behind its lock. As a waker it rings the bell of the driver.
pub(crate) struct Shared {
    /// None before the first poll of the driver.
    begun: OnceLock<Begun>,
    state: Mutex<State>,
}

struct Begun {
    clock: Clock,
    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    trace: Trace,
}

struct State {
    terms: Terms,
    record: Record,
    bell: Bell,
    #[cfg(feature = "tracing")]
    untold: Untold,
}

/// Events that were not told yet. They are told in their order, by whoever leaves the lock: one
/// visitor at a time, and the others leave theirs to that one.
#[cfg(feature = "tracing")]
#[derive(Default)]
struct Untold {
    events: Events,
    is_telling: bool,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            begun: OnceLock::new(),
            state: Mutex::new(State {
                terms: Terms::new(config),
                record: Record::new(),
                bell: Bell::new(),
                #[cfg(feature = "tracing")]
                untold: Untold::default(),
            }),
        }
    }

    /// Changes the state, and does what comes of it once the lock is left.
    #[inline]
    fn enter<R>(&self, act: impl FnOnce(&mut State) -> (R, Wakers, Events)) -> R {
        let mut state = lock(&self.state);
        let (result, wakers, events) = act(&mut state);
        #[cfg(feature = "tracing")]
        state.untold.events.append(events);
        #[cfg(feature = "tracing")]
        let untold = !state.untold.events.is_empty();
        #[cfg(not(feature = "tracing"))]
        let _ = events;
        drop(state);
        wake(wakers);
        #[cfg(feature = "tracing")]
        if untold {
            self.tell();
        }
        result
    }

    /// Tells the subscriber what was left to tell, unless somebody else does.
    #[cfg(feature = "tracing")]
    #[cold]
    fn tell(&self) {
        /// Ends the telling also where the subscriber panics.
        struct Telling<'a>(&'a Shared);

        impl Drop for Telling<'_> {
            fn drop(&mut self) {
                lock(&self.0.state).untold.is_telling = false;
            }
        }

        let Some(begun) = self.begun.get() else {
            // There is no span yet.
            return;
        };
        let mut telling = None;
        loop {
            let events = {
                let untold = &mut lock(&self.state).untold;
                if telling.is_none() && untold.is_telling {
                    return;
                }
                untold.is_telling = !untold.events.is_empty();
                if !untold.is_telling {
                    // The flag is down already, under this very lock: a guard would lower the flag
                    // of somebody else.
                    std::mem::forget(telling);
                    return;
                }
                std::mem::take(&mut untold.events)
            };
            telling.get_or_insert_with(|| Telling(self));
            begun.trace.tell(events);
        }
    }

    /// Asks the machine how things stand.
    #[inline]
    pub(crate) fn ask<R>(&self, ask: impl FnOnce(&Machine<'_, &Record>) -> R) -> R {
        let state = lock(&self.state);
        ask(&Machine::new(&state.terms, &state.record))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.ask(|machine| machine.stats())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ask(|machine| machine.has_ended())
    }

    /// Puts another configuration in force.
    pub(crate) fn set_config(&self, config: Config) -> Result<(), Closed> {
        let now = self.now();
        self.enter(|state| {
            let machine = Machine::new(&state.terms, &state.record);
            if machine.is_over() {
                let result = if machine.has_ended() {
                    Err(Closed)
                } else {
                    Ok(())
                };
                return (result, NOBODY, Events::new());
            }
            let before = std::mem::replace(&mut state.terms.config, config);
            let mut machine = Machine::new(&state.terms, &mut state.record);
            machine.reconfigure(&before, now);
            let events = machine.events;
            // The driver sleeps by the grid and the waits of the configuration that it knows.
            (Ok(()), state.bell.call(), events)
        })
    }

    /// The close frame has a sink of its own.
    pub(crate) fn dedicate_close(&self) {
        lock(&self.state).terms.dedicated_close = true;
    }

    /// The connection is over.
    pub(crate) fn disconnect(&self) {
        // The heartbeat may have ended before.
        let _ = self.visit(|machine| machine.disconnect());
    }

    /// A pong that the driver itself has read, also after the end: the pong of a ping that was out is
    /// nobody else's still. What it is, and whether any pong would do.
    pub(crate) fn handle_pong_at(&self, payload: &[u8], now: Time) -> (PongKind, bool) {
        self.enter(|state| {
            let (kind, wakers, events) = state.visit(|machine| {
                let any_pong = machine.config().liveness() == Liveness::AnyPong;
                (machine.handle_pong(payload, now), any_pong)
            });
            (kind, wakers, events)
        })
    }

    /// Nobody drives the heartbeat any more.
    pub(crate) fn end(&self) {
        let wakers = self.enter(|state| {
            let mut machine = Machine::new(&state.terms, &mut state.record);
            machine.disconnect();
            (state.bell.ring(), NOBODY, machine.events)
        });
        // Dropping a waker can run foreign code.
        drop(wakers);
    }

    // --- for the driver ---

    /// Begins the heartbeat with the first poll. Whether it is the first.
    #[inline]
    pub(crate) fn begin(
        &self,
        now: impl FnOnce() -> Time,
        clock: impl FnOnce() -> Clock,
    ) -> bool {
        let first = self.begun.get().is_none();
        if first {
            self.begin_now(now(), clock());
        }
        first
    }

    #[cold]
    fn begin_now(&self, now: Time, clock: Clock) {
        let config = lock(&self.state).terms.config.clone();
        let trace = Trace::new(&config);
        // Only the driver gets here: nobody waits for anybody.
        self.begun.get_or_init(|| Begun { clock, trace });
        self.enter(|state| state.visit(|machine| machine.begin(now)));
    }

    /// The driver is polled. False if there is nothing to look at, unless it `must`.
    #[inline]
    pub(crate) fn wake_up(&self, half: Half, must: bool, cx: &Context<'_>) -> bool {
        let old = {
            let bell = &mut lock(&self.state).bell;
            if !must && bell.lets_sleep(half, cx) {
                return false;
            }
            bell.enter(half, cx)
        };
        // Dropping a waker can run foreign code.
        drop(old);
        true
    }

    /// This task is woken as well when the driver is.
    pub(crate) fn register(&self, half: Half, cx: &Context<'_>) {
        let old = lock(&self.state).bell.register(half, cx);
        drop(old);
    }

    /// Wakes the task of this half alone.
    pub(crate) fn wake(&self, half: Half) {
        let waker = lock(&self.state).bell.take(half);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The timer, or a sink, has woken.
    pub(crate) fn ring(&self) {
        let wakers = lock(&self.state).bell.ring();
        wake(wakers);
    }
}

impl State {
    /// One visit: what it came to, who is to be woken, and what is to be told.
    #[inline]
    fn visit<R>(
        &mut self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> (R, Wakers, Events) {
        let mut machine = Machine::new(&self.terms, &mut self.record);
        if !self.bell.is_asleep() {
            // The driver is awake, and sees what comes of it before it rests.
            let result = act(&mut machine);
            return (result, NOBODY, machine.events);
        }
        let (result, earlier) = machine.visited(act);
        let wakers = if earlier { self.bell.call() } else { NOBODY };
        (result, wakers, machine.events)
    }
}

impl Visited for Shared {
    #[inline]
    fn visit<R>(
        &self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed> {
        self.enter(|state| {
            if Machine::new(&state.terms, &state.record).has_ended() {
                return (Err(Closed), NOBODY, Events::new());
            }
            let (result, wakers, events) = state.visit(act);
            (Ok(result), wakers, events)
        })
    }

    fn now(&self) -> Time {
        let begun = self.begun.get();
        begun.map_or(Time::ORIGIN, |begun| Time::of(begun.clock.now()))
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// The driver's own hold of a heartbeat. Dropping it ends the heartbeat.
pub(crate) struct Owner(Arc<Shared>);

impl Owner {
    pub(crate) fn new(config: Config) -> Self {
        Self(Arc::new(Shared::new(config)))
    }

    /// A hold for a handle.
    pub(crate) fn share(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    /// What rings the bell of the driver.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.0))
    }
}

impl Deref for Owner {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// One poll of a driver.
pub(crate) struct Driving<'a> {
    shared: &'a Shared,
    now: Time,
    /// How many items were read in this poll where more are ready: nothing is judged before they are
    /// read.
    backlog: Option<u32>,
    /// Whether the driver goes to sleep when the heartbeat rests.
    sleeps: bool,
    seen: Seen,
}

/// What a driver needs to know after it has driven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Whether the timer may have fired since it was polled last.
    pub(crate) rung: bool,
    /// Whether a verdict has fallen.
    pub(crate) verdict_fell: bool,
    /// The grid of the configuration in force.
    pub(crate) grid: Grid,
}

impl<'a> Driving<'a> {
    #[inline]
    pub(crate) const fn new(
        shared: &'a Shared,
        now: Time,
        backlog: Option<u32>,
        sleeps: bool,
    ) -> Self {
        Self {
            shared,
            now,
            backlog,
            sleeps,
            seen: Seen {
                rung: false,
                verdict_fell: false,
                grid: Grid::NONE,
            },
        }
    }

    #[inline]
    pub(crate) const fn seen(&self) -> Seen {
        self.seen
    }
}

impl Turns for Driving<'_> {
    #[inline]
    fn turn(&mut self, sent: bool, sink: SinkState) -> Turn {
        self.shared.enter(|state| {
            let (turn, wakers, events) = state.visit(|machine| {
                self.seen.grid = machine.grid();
                machine.turn(self.now, sent, sink, &mut self.backlog)
            });
            match turn {
                Turn::Rest(_) if self.sleeps => self.seen.rung = state.bell.rest(),
                Turn::Close => self.seen.verdict_fell = true,
                _ => {}
            }
            (turn, wakers, events)
        })
    }

    fn fail(&mut self) -> bool {
        self.shared.enter(|state| state.visit(|machine| machine.fail()))
    }
}
