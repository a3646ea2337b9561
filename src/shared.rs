//! The one state of a heartbeat, which its driver and its handles visit: the lock, the wake rule, and the
//! exit.
//!
//! Each holder of a heartbeat (its driver, a handle) locks the state, calls the [`Machine`], and leaves.
//! Nothing is copied, published or reported.
//!
//! # Invariants
//!
//! 1. A visit compares, on leaving, when the driver must look next with when the driver will wake by
//!    itself. If the driver must look earlier, or has something to send, the visit wakes the driver;
//!    otherwise it wakes nobody. So a pong that answers a ping wakes only the tasks of the probes that
//!    wait for it, as long as the next ping is not due.
//! 2. Only the driver judges deadlines; a visit never does.
//! 3. No foreign code runs under the lock: clocks are read before it; wakers are woken and dropped,
//!    and subscribers told, after it.

mod extras;
mod probes;
mod reader;

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::config::Config;
use crate::drive::{LastAnswer, Turns};
use crate::error::{Closed, PingNowError};
use crate::grid::Grid;
use crate::machine::{Events, Handshake, Input, Machine, PongKind, Record, SinkState, Terms, Turn};
use crate::meter::Progress;
use crate::stats::Stats;
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, lock};
use crate::time::{Span, Time};
use crate::timer::{Bell, Clock, wake};
#[cfg(feature = "tracing")]
use crate::trace::Trace;

use self::extras::Extras;
pub(crate) use self::probes::{ProbeId, Probed, Probes, Resolved};
pub(crate) use self::reader::{Presence, Reader};

/// What a handle needs of a heartbeat: [`Shared`] implements it for a heartbeat that is alone, and a seat for a
/// member of a set.
pub(crate) trait Visited {
    /// Calls the machine under the lock, unless the heartbeat has ended; then wakes the driver if it
    /// must look earlier than it would.
    fn visit<R>(&self, act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R) -> Result<R, Closed>;

    /// Calls the machine as [`visit`](Self::visit) does, where that gives the driver nothing to do.
    fn visit_quietly<R>(
        &self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed>;

    /// The time. The clock is foreign code, so it is read before the lock.
    fn now(&self) -> Time;

    /// The peer sent a pong. The clock is read only for a pong that may mean something, not for each stray.
    #[inline]
    fn handle_pong(&self, payload: &[u8]) -> Result<PongKind, Closed> {
        if self.visit_quietly(|machine| machine.handle_stray(payload))? {
            return Ok(PongKind::Unsolicited);
        }
        let now = self.now();
        self.visit(|machine| machine.handle_pong(payload, now))
    }

    /// The peer sent something that answers its newest ping without a payload.
    fn handle_answer(&self) -> Result<PongKind, Closed> {
        let now = self.now();
        self.visit(|machine| machine.handle_answer(now))
    }

    /// The peer sent something else: a ping, or data.
    fn handle_message(&self, is_ping: bool) -> Result<(), Closed> {
        if self.visit_quietly(|machine| machine.heeds_activity())? {
            let now = self.now();
            self.visit(|machine| machine.handle_message(is_ping, now, now))?;
        }
        Ok(())
    }

    /// Asks for a ping at once.
    fn ping_now(&self) -> Result<(), PingNowError> {
        if self.visit(|machine| machine.ping_now())? {
            Ok(())
        } else {
            Err(PingNowError::Watching)
        }
    }
}

/// The state of one heartbeat, behind its lock. As a waker it rings the bell of the driver.
pub(crate) struct Shared {
    /// Not set before the first poll of the driver.
    begun: OnceLock<Begun>,
    /// Whether the handle that takes the pongs was dropped.
    pongs_ended: AtomicBool,
    /// Whether the driver has been called since it went to sleep. This can be read without the lock.
    called: AtomicBool,
    /// Whether the waker has been woken since [`expect_wake`](Shared::expect_wake).
    woken: AtomicBool,
    /// What is known of the reader of the attached stream.
    pub(crate) reader: Reader,
    state: Mutex<State>,
}

struct Begun {
    clock: Clock,
}

struct State {
    terms: Terms,
    record: Record,
    bell: Bell,
    /// What few heartbeats have; `None` until it is needed.
    extras: Option<Box<Extras>>,
    #[cfg(feature = "tracing")]
    untold: Untold,
}

/// Events that the subscriber was not told of yet. One visitor at a time tells them in their order, after it
/// has released the lock. Other visitors leave their events to that one.
#[cfg(feature = "tracing")]
#[derive(Default)]
struct Untold {
    /// The span, from the first poll of the driver to the end of the heartbeat. The timer may hold the
    /// waker, and so this state, for longer, and drop it on a thread of its own, where no subscriber must be
    /// called.
    trace: Option<Arc<Trace>>,
    events: Events,
    is_telling: bool,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            begun: OnceLock::new(),
            pongs_ended: AtomicBool::new(false),
            called: AtomicBool::new(true),
            woken: AtomicBool::new(false),
            reader: Reader::new(),
            state: Mutex::new(State {
                terms: Terms::new(config),
                record: Record::new(),
                bell: Bell::new(),
                extras: None,
                #[cfg(feature = "tracing")]
                untold: Untold::default(),
            }),
        }
    }

    /// Changes the state under the lock. After the lock is released, wakes the driver if `act` calls it, and
    /// tells the subscriber of the events.
    #[inline]
    fn enter<R>(&self, act: impl FnOnce(&mut State) -> (R, Call, Events)) -> R {
        let mut state = lock(&self.state);
        let (result, call, events) = act(&mut state);
        self.leave(state, call, events);
        result
    }

    /// The one exit: every visit releases the lock here.
    #[inline]
    fn leave(&self, state: MutexGuard<'_, State>, call: Call, events: Events) {
        if state.extras.is_some() {
            self.leave_with_probes(state, call, events);
        } else {
            self.unlock(state, call, events);
        }
    }

    #[cold]
    fn leave_with_probes(&self, mut state: MutexGuard<'_, State>, call: Call, events: Events) {
        // This is dropped last, which wakes the tasks of the probes even if the driver's waker panics.
        let _resolved = state.resolved();
        self.unlock(state, call, events);
    }

    #[inline]
    #[cfg_attr(not(feature = "tracing"), allow(clippy::needless_pass_by_value))]
    fn unlock(&self, state: MutexGuard<'_, State>, call: Call, events: Events) {
        #[cfg(feature = "tracing")]
        let mut state = state;
        #[cfg(feature = "tracing")]
        state.untold.events.append(events);
        #[cfg(feature = "tracing")]
        let untold = !state.untold.events.is_empty();
        #[cfg(not(feature = "tracing"))]
        let _ = events;
        match call {
            Call::Nobody => drop(state),
            Call::Driver => self.wake_driver(state),
        }
        #[cfg(feature = "tracing")]
        if untold {
            self.tell();
        }
    }

    #[cold]
    fn wake_driver(&self, mut state: MutexGuard<'_, State>) {
        // The writer may wait even though the reader is awake.
        let (reader, writer) = (state.bell.call(), state.take_writer());
        self.called.store(true, Ordering::Relaxed);
        drop(state);
        wake(reader);
        wake(writer);
    }

    /// Whether the driver has been called since it went to sleep. This is read without the lock: a call that
    /// comes at the same moment also wakes the driver, which then sees it.
    #[inline]
    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Makes the next poll of the driver look.
    pub(crate) fn mark_called(&self) {
        self.called.store(true, Ordering::Relaxed);
    }

    /// The driver has done what it was called for.
    pub(crate) fn answer_call(&self) {
        self.called.store(false, Ordering::Relaxed);
    }

    /// A half other than the reader drives the heartbeat: the driver counts as awake until it rests again.
    pub(crate) fn stay_awake(&self) {
        lock(&self.state).bell.stay_awake();
    }

    /// Tells the subscriber of the events that are left, unless another visitor does so now.
    #[cfg(feature = "tracing")]
    #[cold]
    fn tell(&self) {
        /// Clears the flag, even if the subscriber panics.
        struct Telling<'a>(&'a Shared);

        impl Drop for Telling<'_> {
            fn drop(&mut self) {
                lock(&self.0.state).untold.is_telling = false;
            }
        }

        let Some(trace) = lock(&self.state).untold.trace.clone() else {
            // There is no span yet, or no longer.
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
                    // The flag was cleared above, under this lock. The guard would clear it again later,
                    // when another visitor may have set it.
                    std::mem::forget(telling);
                    return;
                }
                std::mem::take(&mut untold.events)
            };
            telling.get_or_insert_with(|| Telling(self));
            trace.tell(events);
        }
    }

    /// Asks the machine a question under the lock.
    #[inline]
    pub(crate) fn ask<R>(&self, ask: impl FnOnce(&Machine<'_, &Record>) -> R) -> R {
        let state = lock(&self.state);
        ask(&Machine::new(&state.terms, &state.record))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.ask(|machine| machine.stats())
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.ask(|machine| machine.is_gone())
    }

    /// Puts another configuration in force.
    pub(crate) fn set_config(&self, config: Config) -> Result<(), Closed> {
        let now = self.now();
        self.enter(|state| {
            let machine = Machine::new(&state.terms, &state.record);
            if machine.is_over() {
                let result = if machine.is_gone() {
                    Err(Closed)
                } else {
                    Ok(())
                };
                return (result, Call::Nobody, Events::new());
            }
            let before = std::mem::replace(&mut state.terms.config, config);
            let mut machine = Machine::new(&state.terms, &mut state.record);
            machine.reconfigure(&before, now);
            let events = machine.events;
            // The driver sleeps by the grid and the waits of the old configuration, so it is always called.
            (Ok(()), Call::Driver, events)
        })
    }

    /// The connection is over.
    pub(crate) fn disconnect(&self) {
        self.enter(|state| state.visit(|machine| machine.disconnect()));
    }

    /// See [`Machine::refuse`].
    #[cold]
    fn refuse(&self) {
        self.enter(|state| state.visit(|machine| machine.refuse()));
    }

    /// See [`Machine::fail`].
    #[cold]
    fn fail(&self) -> bool {
        self.enter(|state| state.visit(|machine| machine.fail()))
    }

    /// See [`Machine::begin_write`].
    #[cold]
    pub(crate) fn begin_write(&self, now: Time) {
        self.enter(|state| state.visit(|machine| machine.begin_write(now)));
    }

    /// Handles a pong that the driver itself has read, also after the end: the pong of a ping that was out
    /// is still the heartbeat's, and not the application's.
    pub(crate) fn handle_own_pong(&self, payload: &[u8], now: Time) -> PongKind {
        self.enter(|state| state.visit(|machine| machine.handle_pong(payload, now)))
    }

    /// Input is read later than it came: the ping that is out gives no sample of the round trip.
    pub(crate) fn read_late(&self) {
        self.enter(|state| state.visit(|machine| machine.read_late()));
    }

    /// Reads the meter, if there is one, before the driver judges.
    #[inline]
    pub(crate) fn handle_progress(&self, progress: &mut Option<Box<Progress>>, now: Time) {
        if let Some(progress) = progress {
            let moved = progress.look(now);
            self.enter(|state| state.visit(|machine| machine.handle_progress(moved, now)));
        }
    }

    /// A close frame of the connection itself was sent or read.
    pub(crate) fn handle_close(&self, way: Handshake, now: Time) {
        self.enter(|state| state.visit(|machine| machine.handle_close(way, now)));
    }

    /// The driver is dropped, which ends the heartbeat.
    pub(crate) fn end(&self) {
        let wakers = self.enter(|state| {
            let mut machine = Machine::new(&state.terms, &mut state.record);
            machine.disconnect();
            let events = machine.events;
            (
                (state.bell.ring(), state.take_writer()),
                Call::Nobody,
                events,
            )
        });
        // Dropping a waker can run foreign code, and so can dropping a span.
        drop(wakers);
        #[cfg(feature = "tracing")]
        {
            let trace = lock(&self.state).untold.trace.take();
            drop(trace);
        }
    }

    /// There will be no more pongs. The driver is woken, and finds out by
    /// [`have_pongs_ended`](Self::have_pongs_ended).
    pub(crate) fn end_pongs(&self) {
        self.pongs_ended.store(true, Ordering::Release);
        self.ring();
    }

    #[inline]
    pub(crate) fn have_pongs_ended(&self) -> bool {
        self.pongs_ended.load(Ordering::Acquire)
    }

    // --- for the driver ---

    /// Begins the heartbeat if this is the first poll of the driver. Returns whether it is.
    #[inline]
    pub(crate) fn begin(&self, now: impl FnOnce() -> Time, clock: impl FnOnce() -> Clock) -> bool {
        let first = self.begun.get().is_none();
        if first {
            self.begin_now(now(), clock());
        }
        first
    }

    #[cold]
    fn begin_now(&self, now: Time, clock: Clock) {
        #[cfg(feature = "tracing")]
        {
            let config = lock(&self.state).terms.config.clone();
            let trace = Arc::new(Trace::new(&config));
            let old = lock(&self.state).untold.trace.replace(trace);
            drop(old);
        }
        // Only the driver gets here, so `get_or_init` never waits for another thread.
        self.begun.get_or_init(|| Begun { clock });
        self.enter(|state| state.visit(|machine| machine.begin(now)));
    }

    /// The driver is polled, and the computer has been in suspend for `asleep` so far. If it has slept for
    /// longer than the interval since the last poll, one ping leaves at once. Returns whether it has.
    #[inline]
    pub(crate) fn note_sleep(&self, asleep: Duration) -> bool {
        asleep > Duration::ZERO && self.compare_sleep(asleep.into())
    }

    #[cold]
    fn compare_sleep(&self, asleep: Span) -> bool {
        let begun = self.begun.get().is_some();
        self.enter(|state| {
            let known = &mut state.extras_mut().asleep;
            let grown = asleep.saturating_sub(*known);
            *known = asleep.max(*known);
            state.visit(|machine| {
                let slept = begun && grown > machine.config().spans().interval;
                if slept {
                    machine.ping_now();
                }
                slept
            })
        })
    }

    /// Begins a poll of the driver, which is awake from then on. Returns false instead if a poll by this task
    /// has nothing to do and need not look (`must`).
    #[inline]
    pub(crate) fn wake_up(&self, must: bool, cx: &Context<'_>) -> bool {
        let state = lock(&self.state);
        if !must && state.bell.lets_sleep(cx) {
            return false;
        }
        awaken(state, cx);
        true
    }

    /// From now on this task is woken whenever the driver is.
    pub(crate) fn register_writer(&self, cx: &Context<'_>) {
        let old = lock(&self.state).extras_mut().register_writer(cx);
        drop(old);
    }

    /// Wakes the writer's task alone.
    pub(crate) fn wake_writer(&self) {
        let writer = lock(&self.state).take_writer();
        wake(writer);
    }

    /// Wakes the reader's task alone.
    pub(crate) fn wake_reader(&self) {
        let reader = lock(&self.state).bell.take_driver();
        wake(reader);
    }

    /// See [`Turns::expect_wake`].
    #[inline]
    pub(crate) fn expect_wake(&self) {
        self.woken.store(false, Ordering::Relaxed);
    }

    /// Whether the waker has been woken since a sink was about to be polled.
    pub(crate) fn has_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// The timer, or a sink, has woken.
    pub(crate) fn ring(&self) {
        let (reader, writer) = {
            let mut state = lock(&self.state);
            self.called.store(true, Ordering::Relaxed);
            (state.bell.ring(), state.take_writer())
        };
        wake(reader);
        wake(writer);
    }
}

impl State {
    /// One visit. Returns its result, whether the driver is woken, and the events.
    #[inline]
    fn visit<R>(
        &mut self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> (R, Call, Events) {
        let asleep = self.is_asleep();
        let mut machine = Machine::new(&self.terms, &mut self.record);
        let (result, earlier) = if asleep {
            machine.visited(act)
        } else {
            // The driver is awake, and sees the change before it rests.
            (act(&mut machine), false)
        };
        let call = if earlier { Call::Driver } else { Call::Nobody };
        (result, call, machine.events)
    }

    #[inline]
    fn is_gone(&self) -> bool {
        Machine::new(&self.terms, &self.record).is_gone()
    }
}

/// Whether the driver is woken when the lock is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Nobody,
    Driver,
}

#[inline(never)]
fn awaken(mut state: MutexGuard<'_, State>, cx: &Context<'_>) {
    let old = state.bell.enter(cx);
    drop(state);
    // Dropping a waker can run foreign code.
    drop(old);
}

impl Visited for Shared {
    #[inline]
    fn visit<R>(&self, act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R) -> Result<R, Closed> {
        self.enter(|state| {
            if state.is_gone() {
                return (Err(Closed), Call::Nobody, Events::new());
            }
            let (result, call, events) = state.visit(act);
            (Ok(result), call, events)
        })
    }

    #[inline]
    fn visit_quietly<R>(
        &self,
        act: impl FnOnce(&mut Machine<'_, &mut Record>) -> R,
    ) -> Result<R, Closed> {
        self.enter(|state| {
            if state.is_gone() {
                return (Err(Closed), Call::Nobody, Events::new());
            }
            let mut machine = Machine::new(&state.terms, &mut state.record);
            let result = act(&mut machine);
            (Ok(result), Call::Nobody, machine.events)
        })
    }

    fn now(&self) -> Time {
        let begun = self.begun.get();
        begun.map_or(Time::ORIGIN, |begun| Time::of(begun.clock.now()))
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        self.ring();
    }
}

/// The driver's own reference to a heartbeat. Dropping it ends the heartbeat.
pub(crate) struct Owner(Arc<Shared>);

impl Owner {
    pub(crate) fn new(config: Config) -> Self {
        Self(Arc::new(Shared::new(config)))
    }

    /// A reference for a handle.
    pub(crate) fn share(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    /// The waker for the timer and the sinks, which rings the bell of the driver.
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
    input: Input,
    then: Then,
    /// Whether the close frame has a sink of its own.
    pub(crate) dedicated_close: bool,
    /// What the sink has answered in the poll before.
    pub(crate) last: LastAnswer,
    seen: Seen,
}

/// What the driver does when the heartbeat rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The driver sleeps until it is called.
    Sleep,
    /// The driver stays awake: it looks again with one of the next messages, or when its timer wakes it.
    ComeBy,
    /// The driver comes back at once.
    ComeBack,
}

/// What a driver needs to know after it has driven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Whether a call wakes the driver's task. If not, its waker was woken in this poll, and the next poll must
    /// enter anew.
    pub(crate) registered: bool,
    /// Whether the timer may have fired since it was polled last.
    pub(crate) rung: bool,
    /// When to look at the probes that wait.
    pub(crate) probes: Time,
    /// The grid of the configuration in force.
    pub(crate) grid: Grid,
}

impl<'a> Driving<'a> {
    #[inline]
    pub(crate) const fn new(shared: &'a Shared, now: Time, input: Input, then: Then) -> Self {
        Self {
            shared,
            now,
            input,
            then,
            dedicated_close: false,
            last: LastAnswer::NONE,
            seen: Seen {
                registered: false,
                rung: false,
                probes: Time::NEVER,
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
    #[inline(always)]
    fn turn(&mut self, sent: bool, sink: SinkState) -> Turn {
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        // The driver is asleep if another half writes for it.
        let asleep = state.is_asleep();
        let mut machine = Machine::new(&state.terms, &mut state.record);
        machine.dedicated_close = self.dedicated_close;
        let sleeps_until = if asleep {
            machine.next_look()
        } else {
            Time::ORIGIN
        };
        let turn = machine.turn(self.now, sent, sink, &mut self.input);
        let call = if asleep && machine.next_look() < sleeps_until {
            Call::Driver
        } else {
            Call::Nobody
        };
        if let Turn::Rest(_) = turn {
            if let Some(extras) = &mut state.extras {
                self.seen.probes = extras.probes.look(self.now, machine.grid(), self.input);
            }
            if self.then != Then::ComeBack {
                self.seen.grid = machine.grid();
                self.seen.registered = state.bell.has_driver();
                self.seen.rung = state.bell.rest(self.then == Then::Sleep);
                self.shared.called.store(false, Ordering::Relaxed);
            }
        }
        let events = machine.events;
        self.shared.leave(guard, call, events);
        turn
    }

    #[inline]
    fn expect_wake(&self) {
        self.shared.expect_wake();
    }

    #[inline]
    fn is_yield(&self) -> bool {
        self.shared.has_woken() && !self.last.may_not_yield()
    }

    #[inline]
    fn refuse(&mut self) {
        self.shared.refuse();
    }

    #[inline]
    fn fail(&mut self) -> bool {
        self.shared.fail()
    }
}
