//! What the set, its handles and its members share: the seats with the members' state, and the news
//! for the driver.
//!
//! The seats lie in chunks, each behind a lock that is held for one step of one member. No foreign
//! code (sinks, wakers) runs under a lock.

use std::cell::Cell;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};

use super::{Member, MemberId};
use crate::config::Config;
use crate::error::TimedOut;
use crate::frame::Frame;
use crate::heartbeat::{Beat, PongKind, Step, Terms, Verdict};
use crate::payload::Key;
use crate::pulse::{Phase, Pulse};
use crate::stats::Stats;
use crate::sync::{AtomicBool, Mutex, MutexGuard, lock, replace, wake};
use crate::time::Time;
use crate::timer::Clock;
use crate::trace::Trace;

/// Seats in a chunk.
pub(super) const CHUNK: u32 = 64;

/// Where in its chunk a seat is.
pub(super) const fn place(seat: u32) -> usize {
    (seat % CHUNK) as usize
}

/// The bit of a seat in a word for its chunk.
pub(super) const fn bit(seat: u32) -> u64 {
    1 << (seat % CHUNK)
}

/// Not of each member: a million spans would tell nobody anything, and whoever records them is
/// foreign code.
static TRACE: Trace = Trace::silent();

/// Shared by all; it knows nothing of the sinks.
pub(super) struct Hub {
    pub(super) config: Config,
    /// With the first poll.
    begun: OnceLock<Begun>,
    state: Mutex<State>,
}

struct Begun {
    terms: Terms,
    clock: Clock,
}

impl Begun {
    fn now(&self) -> Time {
        Time::of(self.clock.now())
    }

    fn beat<P>(&self, id: MemberId, pulse: P) -> Beat<'_, P> {
        Beat {
            terms: &self.terms,
            pulse,
            // Not of the seat alone: who had it before numbered its pings alike. 0 is for those that
            // share their key with nobody, and no generation is.
            member: u64::from(id.generation) << 32 | u64::from(id.seat),
            trace: &TRACE,
        }
    }
}

struct State {
    open: bool,
    members: usize,
    /// Seats in the chunks are numbered through.
    chunks: Vec<Arc<Chunk>>,
    vacant: Vec<u32>,
    news: News,
    waker: Option<Waker>,
}

/// What the driver is to look at. Each seat, and each chunk, is in a list once at the most.
#[derive(Default)]
pub(super) struct News {
    /// Seats of members that have left.
    pub(super) left: Vec<u32>,
    /// Seats whose next ping has been waiting for the pong that came.
    pub(super) due: Vec<u32>,
    /// Chunks in which a sink is ready again.
    pub(super) woken: Vec<u32>,
}

impl Hub {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            config,
            begun: OnceLock::new(),
            state: Mutex::new(State {
                open: true,
                members: 0,
                chunks: Vec::new(),
                vacant: Vec::new(),
                news: News::default(),
                waker: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// From now on members may begin.
    pub(super) fn begin(&self, clock: impl FnOnce() -> Clock) {
        self.begun.get_or_init(|| Begun {
            terms: Terms {
                config: self.config.clone(),
                key: Key::unique(),
            },
            clock: clock(),
        });
    }

    pub(super) fn members(&self) -> usize {
        self.state().members
    }

    /// A seat for a new member, and `arrive` is told where while nothing can come in between. None
    /// once the set is gone.
    pub(super) fn admit(self: &Arc<Self>, arrive: impl FnOnce(u32)) -> Option<Member> {
        let mut state = self.state();
        if !state.open {
            return None;
        }
        let seat = state.vacant.pop().unwrap_or_else(|| state.furnish(self));
        let chunk = Arc::clone(&state.chunks[(seat / CHUNK) as usize]);
        let id = chunk.seats().join(seat);
        state.members += 1;
        arrive(seat);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        Some(Member { chunk, id })
    }

    /// `cx` is woken for the next news; those up to now go `into` an empty list.
    pub(super) fn news(&self, into: Option<&mut News>, cx: &Context<'_>) {
        let old = {
            let mut state = self.state();
            if let Some(into) = into {
                mem::swap(into, &mut state.news);
            }
            replace(&mut state.waker, cx)
        };
        // Dropping a waker can run foreign code.
        drop(old);
    }

    pub(super) fn chunk(&self, number: usize) -> Arc<Chunk> {
        Arc::clone(&self.state().chunks[number])
    }

    fn tell(&self, tell: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state();
            if !state.open {
                return;
            }
            tell(&mut state);
            state.waker.take()
        };
        wake(waker);
    }

    /// A heartbeat is over: its member is not counted any more.
    pub(super) fn uncount(&self) {
        self.state().members -= 1;
    }

    /// The seat may be taken again.
    pub(super) fn vacate(&self, seat: u32) {
        self.state().vacant.push(seat);
    }

    /// No member is let in any more.
    pub(super) fn close(&self) {
        let (waker, chunks) = {
            let mut state = self.state();
            state.open = false;
            state.members = 0;
            state.news = News::default();
            (state.waker.take(), mem::take(&mut state.chunks))
        };
        drop(waker);
        for chunk in chunks {
            chunk.seats().over = u64::MAX;
        }
    }
}

impl State {
    /// A chunk more, and the first of its seats; the others are vacant.
    fn furnish(&mut self, hub: &Arc<Hub>) -> u32 {
        // 2³¹ members do not fit into any memory.
        #[allow(clippy::cast_possible_truncation)]
        let first = self.chunks.len() as u32 * CHUNK;
        self.chunks.push(Chunk::new(first, hub));
        self.vacant.extend((1..CHUNK).rev().map(|n| first + n));
        first
    }
}

/// Seats that share a lock, and a waker for those of their sinks that are not ready.
pub(super) struct Chunk {
    first: u32,
    hub: Arc<Hub>,
    /// It is among the news.
    woken: AtomicBool,
    seats: Mutex<Seats>,
}

/// By seat.
struct Seats {
    pulses: [Pulse; CHUNK as usize],
    /// How many have had it: that makes their ids differ.
    generations: [u32; CHUNK as usize],
    /// The driver has seen it: the time before is not silence.
    begun: u64,
    /// The heartbeat has ended, by itself or with the set.
    over: u64,
    /// The member has left.
    left: u64,
    /// It is among those that are due.
    told: u64,
}

/// What the driver is to do for a member.
pub(super) enum Turn {
    /// Get its sink ready.
    Offer,
    Send(Frame),
    /// Forget what is in its sink: the close frame is to go.
    Close,
    Rest(Time),
    Over(TimedOut),
    /// The member has left.
    Left,
}

/// What the driver knows of a member's sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sinking {
    Unknown,
    Ready,
    /// It takes nothing, or has not flushed what it took.
    Blocked,
}

/// How a member's sink has failed.
pub(super) enum Failed {
    Open,
    /// The verdict had fallen: it stands.
    Closing,
}

impl Chunk {
    fn new(first: u32, hub: &Arc<Hub>) -> Arc<Self> {
        let seats = Seats {
            pulses: [const { Pulse::new(Time::ORIGIN) }; CHUNK as usize],
            generations: [0; CHUNK as usize],
            begun: 0,
            over: 0,
            left: 0,
            told: 0,
        };
        Arc::new(Self {
            first,
            hub: Arc::clone(hub),
            woken: AtomicBool::new(false),
            seats: Mutex::new(seats),
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }

    // --- by members, from any thread ---

    pub(super) fn pong(&self, seat: u32, payload: &[u8]) -> PongKind {
        let told = self.tell(seat, |beat, now| beat.handle_pong(payload, now));
        told.unwrap_or(PongKind::Unsolicited)
    }

    pub(super) fn activity(&self, seat: u32) {
        self.tell(seat, |beat, now| {
            if beat.heeds_activity() {
                let now = now();
                beat.handle_activity(now, now);
            }
        });
    }

    fn tell<R>(
        &self,
        seat: u32,
        tell: impl FnOnce(&mut Beat<'_, &mut Pulse>, &dyn Fn() -> Time) -> R,
    ) -> Option<R> {
        let begun = self.hub.begun.get()?;
        // The clock is read for what means something, not for each stray.
        let read = Cell::new(None);
        let now = || {
            let now = begun.now();
            read.set(Some(now));
            now
        };
        let (told, waits) = {
            let seats = &mut *self.seats();
            let mut beat = begun.beat(seats.id(seat), seats.beating(seat)?);
            let (due, offered) = (beat.pulse.due, beat.wants_transmit());
            let told = tell(&mut beat, &now);
            // Else its driver comes at `due`, as long as that lies ahead.
            let overslept = read.get().is_some_and(|now| offered || due <= now);
            let idle = beat.pulse.phase == Phase::Idle;
            (told, overslept && idle && seats.tell(seat))
        };
        if waits {
            // Its driver waits for a deadline that is no longer.
            self.hub.tell(|state| state.news.due.push(seat));
        }
        Some(told)
    }

    pub(super) fn stats(&self, seat: u32) -> Stats {
        let seats = &*self.seats();
        let stats = match self.hub.begun.get() {
            Some(begun) if seats.begun & bit(seat) != 0 => begun
                .beat(seats.id(seat), &seats.pulses[place(seat)])
                .stats(),
            _ => Stats::unstarted(),
        };
        if seats.over & bit(seat) != 0 {
            return stats.gone();
        }
        stats
    }

    /// The member has left: the driver is to give up its sink.
    pub(super) fn leave(&self, seat: u32) {
        let counted = {
            let seats = &mut *self.seats();
            seats.left |= bit(seat);
            seats.over & bit(seat) == 0
        };
        self.hub.tell(|state| {
            state.members -= usize::from(counted);
            state.news.left.push(seat);
        });
    }

    // --- by the driver ---

    /// In the order of the chunks.
    fn number(&self) -> u32 {
        self.first / CHUNK
    }

    /// Its sinks are about to be asked: whoever is ready from now on is news again.
    pub(super) fn heed(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// The heartbeat begins now, unless its member has left before.
    pub(super) fn start(&self, seat: u32, now: Time) -> bool {
        let Some(begun) = self.hub.begun.get() else {
            return false;
        };
        let seats = &mut *self.seats();
        if seats.left & bit(seat) != 0 {
            return false;
        }
        seats.begun |= bit(seat);
        let id = seats.id(seat);
        let pulse = &mut seats.pulses[place(seat)];
        *pulse = Pulse::new(now);
        begun.beat(id, pulse).begin();
        true
    }

    /// One step of a member: with `sent` its frame is flushed. What can be written goes before what is
    /// to be judged.
    pub(super) fn turn(&self, seat: u32, now: Time, sent: bool, sink: Sinking) -> Turn {
        let Some(begun) = self.hub.begun.get() else {
            return Turn::Left;
        };
        let seats = &mut *self.seats();
        seats.told &= !bit(seat);
        let id = seats.id(seat);
        let Some(pulse) = seats.beating(seat) else {
            return Turn::Left;
        };
        let mut beat = begun.beat(id, pulse);
        if sent {
            beat.handle_sent(now);
        }
        if sink == Sinking::Ready {
            if let Some(frame) = beat.transmit(now) {
                return Turn::Send(frame);
            }
        }
        if sink != Sinking::Blocked && beat.wants_transmit() {
            return Turn::Offer;
        }
        match beat.settle(now) {
            Step::Ping => Turn::Offer,
            Step::Close(_) => Turn::Close,
            Step::Wait(look) => Turn::Rest(beat.next_visit(look, now)),
            Step::Done(verdict) => {
                seats.over |= bit(seat);
                match verdict {
                    Verdict::TimedOut(timed_out) => Turn::Over(timed_out),
                    Verdict::Requested => Turn::Left,
                }
            }
        }
    }

    /// Its sink has failed. None where the member has left.
    pub(super) fn fail(&self, seat: u32) -> Option<Failed> {
        let begun = self.hub.begun.get()?;
        let seats = &mut *self.seats();
        let mut beat = begun.beat(seats.id(seat), seats.beating(seat)?);
        if beat.is_closing() {
            beat.handle_close_failed();
            return Some(Failed::Closing);
        }
        beat.stop();
        seats.over |= bit(seat);
        Some(Failed::Open)
    }

    pub(super) fn id(&self, seat: u32) -> MemberId {
        self.seats().id(seat)
    }

    /// Its sink is gone, and so is its member.
    pub(super) fn vacate(&self, seat: u32) {
        self.hub.vacate(seat);
    }
}

impl Seats {
    fn join(&mut self, seat: u32) -> MemberId {
        self.begun &= !bit(seat);
        self.over &= !bit(seat);
        self.left &= !bit(seat);
        let generation = &mut self.generations[place(seat)];
        // 4 billion members later, in this one seat, an id does come again.
        *generation = generation.checked_add(1).unwrap_or(1);
        self.id(seat)
    }

    /// Of who has it.
    fn id(&self, seat: u32) -> MemberId {
        let generation = self.generations[place(seat)];
        MemberId { seat, generation }
    }

    fn beating(&mut self, seat: u32) -> Option<&mut Pulse> {
        let beating = self.begun & !self.over & !self.left & bit(seat) != 0;
        beating.then(|| &mut self.pulses[place(seat)])
    }

    /// Whether the driver is not told of it yet.
    fn tell(&mut self, seat: u32) -> bool {
        let told = self.told & bit(seat) != 0;
        self.told |= bit(seat);
        !told
    }
}

/// The waker of all sinks of the chunk.
impl Wake for Chunk {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.hub.tell(|state| state.news.woken.push(self.number()));
        }
    }
}
