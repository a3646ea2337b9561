//! What the set, its handles and its members share: the seats with the members' state, and the news
//! for the driver.
//!
//! The seats lie in chunks, each behind a lock that is held for one step of one member. No foreign
//! code (sinks, wakers) runs under a lock.

use std::mem;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake};

use super::chunk::{CHUNK, Chunk};
use super::configs::Configs;
use super::totals::{Tally, Totals};
use super::{Member, MemberId};
use crate::config::Config;
use crate::error::{Closed, SetConfigError};
use crate::frame::CloseReason;
use crate::machine::Terms;
use crate::sync::{Mutex, MutexGuard, lock};
use crate::time::{Span, Time};
use crate::timer::{Bell, Clock, wake};

/// How many chunks share one tally: few enough that threads which visit members of different chunks seldom write
/// to the same tally, and enough to keep the tallies of a million members few.
const TALLIED: usize = 64;

/// What the set, its handles and its members share. It knows nothing of the sinks. As a waker it rings the bell
/// of the driver.
pub(super) struct Hub {
    /// The step of the grid, which all configurations share.
    pub(super) step: Span,
    /// Not set before the first poll.
    clock: OnceLock<Clock>,
    state: Mutex<State>,
}

struct State {
    open: bool,
    members: usize,
    /// By number. Seats are numbered consecutively through all chunks.
    chunks: Vec<Arc<Chunk>>,
    /// The counts of [`TALLIED`] chunks each.
    tallies: Vec<Arc<Tally>>,
    configs: Configs,
    news: News,
    bell: Bell,
    /// How often many verdicts have fallen at once.
    mass_verdicts: u64,
}

/// A member that the driver has not seen yet.
pub(super) struct Arrival<Si, K> {
    pub(super) seat: u32,
    pub(super) sink: Si,
    pub(super) key: K,
}

/// The news: what has happened since the driver took the news last. Each seat, and each chunk, is in a list
/// once at the most.
#[derive(Default)]
pub(super) struct News {
    /// Whether members have arrived.
    pub(super) arrived: bool,
    /// Whether another configuration is to be put in force.
    pub(super) configured: bool,
    /// Seats of members that have left.
    pub(super) left: Vec<u32>,
    /// Seats whose member must be looked at earlier than it would be.
    pub(super) due: Vec<u32>,
    /// Chunks in which a sink is ready again.
    pub(super) woken: Vec<u32>,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        !self.arrived
            && !self.configured
            && self.left.is_empty()
            && self.due.is_empty()
            && self.woken.is_empty()
    }
}

impl Hub {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            step: config.spans().granularity,
            clock: OnceLock::new(),
            state: Mutex::new(State {
                open: true,
                members: 0,
                chunks: Vec::new(),
                tallies: Vec::new(),
                configs: Configs::new(config),
                news: News::default(),
                bell: Bell::new(),
                mass_verdicts: 0,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The set is polled for the first time.
    pub(super) fn begin(&self, clock: impl FnOnce() -> Clock) {
        self.clock.get_or_init(clock);
    }

    pub(super) fn members(&self) -> usize {
        self.state().members
    }

    /// Whether there is no member, and no news of one that has left: a departure may be due for it.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.state();
        state.members == 0 && state.news.is_empty()
    }

    /// Gives a new member a seat under that configuration, or under the set's own. Calls `arrive` with the seat
    /// under the lock, so that the driver finds the arrival together with its news.
    pub(super) fn admit(
        self: &Arc<Self>,
        config: Option<&Config>,
        arrive: impl FnOnce(u32),
    ) -> Result<Member, SetConfigError> {
        let mut state = self.state();
        if !state.open {
            return Err(SetConfigError::Closed);
        }
        let seat = state.seat_under(config, self)?;
        let chunk = Arc::clone(&state.chunks[(seat / CHUNK) as usize]);
        chunk.reader(seat).begins();
        let id = chunk.join(seat);
        state.members += 1;
        state.news.arrived = true;
        arrive(seat);
        let wakers = state.bell.call();
        drop(state);
        wake(wakers);
        Ok(Member { chunk, id })
    }

    /// Changes which configurations must be in force, and makes the driver sweep all chunks. Returns whether
    /// there was something to change.
    pub(super) fn configure(
        &self,
        config: Config,
        change: impl FnOnce(&mut Configs, Config) -> bool,
    ) -> Result<bool, SetConfigError> {
        let wakers = {
            let mut state = self.state();
            if !state.open {
                return Err(SetConfigError::Closed);
            }
            state.configs.check(&config)?;
            if !change(&mut state.configs, config) {
                return Ok(false);
            }
            state.news.configured = true;
            state.bell.call()
        };
        wake(wakers);
        Ok(true)
    }

    /// The set's own configuration.
    pub(super) fn config(&self) -> Config {
        self.state().configs.own().clone()
    }

    /// The shortest interval of all configurations.
    pub(super) fn shortest_interval(&self) -> Span {
        self.state().configs.shortest_interval()
    }

    /// Begins a poll of the driver. Returns false if the driver has nothing to do and need not look (`must`).
    pub(super) fn wake_up(&self, must: bool, cx: &Context<'_>) -> bool {
        let old = {
            let bell = &mut self.state().bell;
            if !must && bell.lets_sleep(cx) {
                return false;
            }
            bell.enter(cx)
        };
        // Dropping a waker can run foreign code.
        drop(old);
        true
    }

    /// Lets the driver sleep, and returns whether the timer may have fired since it was polled last. `None` if
    /// there are news, so that the driver stays awake.
    pub(super) fn rest(&self) -> Option<bool> {
        let state = &mut *self.state();
        state.news.is_empty().then(|| state.bell.rest(true))
    }

    /// The timer has woken the set.
    pub(super) fn ring(&self) {
        let wakers = self.state().bell.ring();
        wake(wakers);
    }

    /// Moves the news up to now `into` an empty list, and calls `arrive`, which takes the arrivals up to now,
    /// under the same lock. Returns how many chunks there are.
    pub(super) fn take_news(&self, into: &mut News, arrive: impl FnOnce()) -> usize {
        let state = &mut *self.state();
        mem::swap(into, &mut state.news);
        arrive();
        state.chunks.len()
    }

    /// The chunk in which that member is, or was.
    pub(super) fn find(&self, id: MemberId) -> Result<Arc<Chunk>, Closed> {
        let state = self.state();
        let chunk = state.chunks.get((id.seat / CHUNK) as usize);
        chunk.map(Arc::clone).ok_or(Closed)
    }

    pub(super) fn chunk(&self, number: usize) -> Arc<Chunk> {
        Arc::clone(&self.state().chunks[number])
    }

    /// A chunk, and the terms that must be in force there.
    pub(super) fn chunk_to_sweep(&self, number: usize) -> (Arc<Chunk>, Arc<Terms>) {
        let state = self.state();
        let terms = state.configs.of_chunk(number);
        (Arc::clone(&state.chunks[number]), Arc::clone(terms))
    }

    /// Makes the driver look at that member.
    pub(super) fn mark_due(&self, seat: u32) {
        self.add_news(|state| state.news.due.push(seat));
    }

    /// The member has left. It was `counted` among the members unless its heartbeat had ended before.
    pub(super) fn mark_left(&self, seat: u32, counted: bool) {
        self.add_news(|state| {
            state.members -= usize::from(counted);
            state.news.left.push(seat);
        });
    }

    /// A sink of that chunk is ready again.
    pub(super) fn mark_woken(&self, chunk: u32) {
        self.add_news(|state| state.news.woken.push(chunk));
    }

    fn add_news(&self, add: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            if !state.open {
                return;
            }
            add(&mut state);
            state.bell.call()
        };
        wake(wakers);
    }

    /// Closes all members that there are. One chunk is locked at a time.
    pub(super) fn close_all(&self, reason: &Arc<CloseReason>, now: Time) {
        let chunks = self.state().chunks.clone();
        // No task is woken before all members are closed: a waker is foreign code, which may panic. The tasks
        // of the probes are woken last, by the drop of `resolved`.
        let mut resolved = Vec::new();
        let mut due = Vec::new();
        for chunk in chunks {
            let (seats, tasks) = chunk.close_all(reason, now);
            due.extend(seats);
            resolved.extend(tasks);
        }
        if !due.is_empty() {
            self.add_news(|state| state.news.due.extend(due));
        }
    }

    /// The sums over all members. No chunk is locked.
    pub(super) fn totals(&self) -> Totals {
        let (tallies, mass_verdicts) = {
            let state = self.state();
            (state.tallies.clone(), state.mass_verdicts)
        };
        Totals::sum(&tallies, mass_verdicts)
    }

    /// How many members are suspect. One chunk is locked at a time.
    pub(super) fn suspects(&self) -> usize {
        let now = self.now().instant();
        let chunks = self.state().chunks.clone();
        chunks.iter().map(|chunk| chunk.suspects(now)).sum()
    }

    pub(super) fn now(&self) -> Time {
        let clock = self.clock.get();
        clock.map_or(Time::ORIGIN, |clock| Time::of(clock.now()))
    }

    /// Many verdicts have fallen at once.
    pub(super) fn count_mass_verdicts(&self) {
        self.state().mass_verdicts += 1;
    }

    /// A heartbeat is over: its member is not counted any more.
    pub(super) fn uncount(&self) {
        self.state().members -= 1;
    }

    /// The seat is free. A new member may take it, unless it `is_spent`.
    pub(super) fn vacate(&self, seat: u32, is_spent: bool) {
        let mut state = self.state();
        if state.open {
            state.configs.vacate(seat, is_spent);
        }
    }

    /// Closes the set: no member is let in any more, and all heartbeats end.
    pub(super) fn close(&self) {
        let (wakers, chunks) = {
            let mut state = self.state();
            state.open = false;
            state.members = 0;
            state.news = News::default();
            state.mass_verdicts = 0;
            state.tallies = Vec::new();
            (state.bell.ring(), mem::take(&mut state.chunks))
        };
        let mut resolved = Vec::new();
        for chunk in chunks {
            resolved.extend(chunk.disconnect_all());
        }
        // These are dropped last, as that can run foreign code, which may panic.
        drop((resolved, wakers));
    }
}

impl State {
    /// Takes a seat under that configuration, or under the set's own. If none is vacant, a chunk is added.
    fn seat_under(
        &mut self,
        config: Option<&Config>,
        hub: &Arc<Hub>,
    ) -> Result<u32, SetConfigError> {
        let (number, replaces) = match config {
            Some(config) => self.configs.number(config)?,
            None => (0, false),
        };
        // The chunks of a configuration that is replaced are still under the old one, until a sweep.
        self.news.configured |= replaces;
        loop {
            if let Some(seat) = self.configs.take_seat(number) {
                return Ok(seat);
            }
            // 2³¹ members do not fit into any memory.
            #[allow(clippy::cast_possible_truncation)]
            let first = self.chunks.len() as u32 * CHUNK;
            let terms = self.configs.add_chunk(number, first);
            if self.chunks.len() % TALLIED == 0 {
                self.tallies.push(Arc::default());
            }
            let tally = Arc::clone(&self.tallies[self.chunks.len() / TALLIED]);
            self.chunks.push(Chunk::new(first, hub, terms, tally));
        }
    }
}

/// The timer rings the bell of the driver.
impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
