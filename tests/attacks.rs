//! Peers that attack: a million forged, stale, repeated and oversized pongs by each way in, a million
//! pings at a ponger that cannot write, and payloads that somebody tries to foretell.
//!
//! What stays allocated is measured by a counting allocator, for the whole process: so one test runs
//! at a time. What a stray costs is printed, and not judged.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{FutureExt, Stream, StreamExt, future, stream};
use futures_pinger::testing::{Answer, World};
use futures_pinger::{
    Clock, Config, Error, Frame, Heartbeat, KeepAlive, Output, Ping, Pinger, Pong, PongKind,
    Rfc6455, Stats, TimedOut, TokioTimer, pinger, ponger,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tungstenite_0_30::Message;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const MILLION: usize = 1_000_000;
/// What the test harness may allocate meanwhile. A million of anything is more.
const NOISE: usize = 16 << 10;
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(10);

/// Two misses make a verdict; no rounding.
fn config() -> Config {
    let builder = Config::builder().interval(20 * SECOND).timeout(20 * SECOND);
    let builder = builder.max_missed(2).granularity(Duration::ZERO);
    builder.build().expect("valid")
}

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats
        .bytes_allocated
        .saturating_sub(stats.bytes_deallocated)
}

/// The most that is allocated at any of the looks.
struct Watermark {
    before: usize,
    highest: AtomicUsize,
}

impl Watermark {
    fn begin() -> Arc<Self> {
        Arc::new(Self {
            before: live(),
            highest: AtomicUsize::new(0),
        })
    }

    /// Now and then, as it is no stray that is measured by it.
    fn look(&self, count: usize) {
        if count % 4096 == 0 {
            self.highest.fetch_max(live(), Ordering::Relaxed);
        }
    }

    #[track_caller]
    fn assert_constant(&self) {
        self.highest.fetch_max(live(), Ordering::Relaxed);
        let grown = self
            .highest
            .load(Ordering::Relaxed)
            .saturating_sub(self.before);
        assert!(grown <= NOISE, "{grown} bytes more than before");
    }
}

/// Nanoseconds for each, of `work` that does so many.
fn cost(count: usize, work: impl FnOnce()) -> f64 {
    let clock = Clock::system();
    let start = clock.now();
    work();
    let count = u32::try_from(count).expect("a few millions");
    (clock.now() - start).as_secs_f64() * 1e9 / f64::from(count)
}

/// `bare` is the way without a heartbeat: the same stream or socket read, and for the sender a lock.
fn report(attack: Attack, way: &str, cost: f64, bare: f64) {
    let times = cost / bare;
    println!("{attack:?} {way}: {cost:.0} ns, {times:.1} times as much as without a heartbeat");
}

/// Random, and the same in each run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// The sequence number of the ping in flight, or that of the next, with a tag that is guessed.
    Forged,
    /// The pong of a ping that was missed.
    Stale,
    /// The pong that answered a ping, again.
    Duplicate,
    /// The right pong and more behind it, up to 64 KiB.
    Oversized,
}

impl Attack {
    const ALL: [Self; 4] = [Self::Forged, Self::Stale, Self::Duplicate, Self::Oversized];

    /// Of these pings the last is in flight, the one before it missed, the ones before answered.
    /// What is sent is taken from here in turn, so that the attacker allocates nothing.
    fn payloads(self, pings: &[Bytes]) -> Vec<Bytes> {
        let [.., answered, missed, open] = pings else {
            panic!("too few pings: {pings:?}");
        };
        match self {
            Self::Forged => {
                let mut random = Xorshift(7);
                let sequence = u64::from_be_bytes(open[..8].try_into().expect("8 bytes"));
                let forge = |ahead: u64| {
                    // With room to spare its `Bytes` allocates nothing when it is cloned first.
                    let mut payload = Vec::with_capacity(32);
                    payload.extend((sequence + ahead).to_be_bytes());
                    payload.extend(random.next().to_be_bytes());
                    Bytes::from(payload)
                };
                (0..1024).map(|round| round % 2).map(forge).collect()
            }
            Self::Stale => vec![missed.clone()],
            Self::Duplicate => vec![answered.clone()],
            Self::Oversized => {
                let mut longest = open.to_vec();
                longest.resize(1 << 16, 0);
                let longest = Bytes::from(longest);
                let lengths = [17, 125, 126, 127, 4096, 65_535, 65_536];
                lengths.map(|len| longest.slice(..len)).to_vec()
            }
        }
    }
}

/// Answers two pings and no other; so the third is missed at 80 s, and the fourth is in flight then.
fn two_answers(ping: usize) -> Answer {
    if ping < 2 {
        Answer::After(RTT)
    } else {
        Answer::Lost
    }
}

fn pings(frames: &[(Duration, Frame)]) -> Vec<Bytes> {
    let payload = |(_, frame): &(Duration, Frame)| match frame {
        Frame::Ping(payload) => Some(payload.clone()),
        _ => None,
    };
    frames.iter().filter_map(payload).collect()
}

/// The stale pong has proved life once. Then the fourth ping was missed, and the fifth.
#[track_caller]
fn assert_in_time(at: Duration, verdict: &TimedOut, stats: &Stats) {
    assert_eq!(at, 120 * SECOND, "{verdict}");
    assert_eq!((verdict.answered(), verdict.missed()), (2, 2));
    assert_eq!((stats.stale(), stats.latest_rtt()), (1, Some(RTT)));
}

// contract: G44 B10 B11 B13 B14
#[test]
fn millions_of_strays_into_the_sender_keep_nobody_alive_and_leave_nothing() {
    let _alone = alone();
    let world = World::new();
    let (outgoing, sink) = world.sink();
    let (pongs, pinger) = pinger(outgoing, config());
    let pongs = Arc::new(pongs);
    let peer = sink.peer({
        let pongs = Arc::clone(&pongs);
        move |payload| {
            // Its end is looked at elsewhere.
            let _ = pongs.handle_pong(&payload);
        }
    });
    peer.answer(two_answers);
    let mut heartbeat = world.task(pinger.with_timer(world.timer()));
    heartbeat.run_until(90 * SECOND);

    let pings = pings(&sink.frames());
    let wakes = heartbeat.wakes();
    let bare = cost(MILLION, || {
        let mutex = Mutex::new(0);
        for _ in 0..MILLION {
            *std::hint::black_box(&mutex).lock().expect("nobody panics") += 1;
        }
    });
    for attack in Attack::ALL {
        let payloads = attack.payloads(&pings);
        let watermark = Watermark::begin();
        let mut proofs = 0;
        let cost = cost(MILLION, || {
            for (count, payload) in (0..MILLION).zip(payloads.iter().cycle()) {
                match pongs.handle_pong(payload).expect("it runs") {
                    PongKind::Unsolicited => {}
                    PongKind::Stale => proofs += 1,
                    other => panic!("{attack:?}: {other:?}"),
                }
                watermark.look(count);
            }
        });
        report(attack, "into the sender", cost, bare);
        watermark.assert_constant();
        // Once it is one.
        assert_eq!(proofs, usize::from(attack == Attack::Stale));
        assert_eq!(heartbeat.wakes(), wakes, "none of them wakes anybody");
    }
    heartbeat.run_until(91 * SECOND);
    let stats = heartbeat.future().expect("alive").stats();
    assert_eq!(stats.unsolicited(), 4 * MILLION as u64 - 1);
    heartbeat.run_until(200 * SECOND);
    let Some(Err(Error::Timeout(verdict))) = heartbeat.output() else {
        panic!("no verdict: {heartbeat:?}");
    };
    assert_in_time(heartbeat.ended_at().expect("over"), verdict, &stats);
}

/// So many of the payloads at once, whenever it is loaded.
#[derive(Default)]
struct Magazine(Mutex<(Vec<Bytes>, usize)>);

impl Magazine {
    fn lock(&self) -> MutexGuard<'_, (Vec<Bytes>, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(self: Arc<Self>, watermark: Arc<Mutex<Arc<Watermark>>>) -> impl Stream<Item = Pong> {
        stream::poll_fn(move |_| {
            let (payloads, left) = &mut *self.lock();
            let Some(next) = left.checked_sub(1) else {
                // Pending: the test polls.
                return Poll::Pending;
            };
            *left = next;
            watermark.lock().expect("nobody panics").look(next);
            Poll::Ready(Some(Pong(payloads[next % payloads.len()].clone())))
        })
    }
}

// contract: G44 B10 B11 B13 B14
#[test]
fn millions_of_strays_in_a_stream_keep_nobody_alive_and_leave_nothing() {
    let _alone = alone();
    let world = World::new();
    let (outgoing, sink) = world.sink();
    let (honest, script) = world.pongs();
    let magazine = Arc::new(Magazine::default());
    let watermark = Arc::new(Mutex::new(Watermark::begin()));
    let strays = Arc::clone(&magazine).stream(Arc::clone(&watermark));
    let pinger = Pinger::new(outgoing, stream::select(honest, strays), config());
    sink.peer(move |payload| script.push(payload))
        .answer(two_answers);
    let mut heartbeat = world.task(pinger.with_timer(world.timer()));
    heartbeat.run_until(90 * SECOND);

    let pings = pings(&sink.frames());
    let bare = Arc::new(Magazine::default());
    *bare.lock() = (Attack::Forged.payloads(&pings), MILLION);
    let unread = Arc::clone(&bare).stream(Arc::clone(&watermark));
    let bare = cost(MILLION, || {
        let read = unread.take(MILLION).for_each(|_| future::ready(()));
        assert!(read.now_or_never().is_some());
    });
    for attack in Attack::ALL {
        *magazine.lock() = (attack.payloads(&pings), MILLION);
        *watermark.lock().expect("nobody panics") = Watermark::begin();
        let polls = heartbeat.polls();
        let cost = cost(MILLION, || {
            // Woken by nothing; then it wakes itself.
            heartbeat.poll();
            heartbeat.run_until(90 * SECOND);
        });
        report(attack, "in a stream", cost, bare);
        assert_eq!(magazine.lock().1, 0, "all are read");
        watermark.lock().expect("nobody panics").assert_constant();
        let turns = heartbeat.polls() - polls;
        assert!(turns >= MILLION / 64, "{turns} polls: others wait");
    }
    let stats = heartbeat.future().expect("alive").stats();
    assert_eq!(stats.unsolicited(), 4 * MILLION as u64 - 1);
    heartbeat.run_until(200 * SECOND);
    let Some(Err(Error::Timeout(verdict))) = heartbeat.output() else {
        panic!("no verdict: {heartbeat:?}");
    };
    assert_in_time(heartbeat.ended_at().expect("over"), verdict, &stats);
}

// contract: G44 I55 I60 B10 B11 B13 B14
#[test]
fn millions_of_strays_through_a_whole_socket_keep_nobody_alive_and_leave_nothing() {
    let _alone = alone();
    let world = World::new();
    let (socket, script) = world.socket::<Message, _>(Rfc6455);
    script.peer().answer(two_answers);
    let mut socket = KeepAlive::new(socket, config()).with_timer(world.timer());
    // Reads as long as there is nothing to read.
    let quiet = world.run_within(100 * SECOND, {
        let read = socket.next().map(Some);
        let later = world.sleep(90 * SECOND).map(|()| None);
        future::select(read, later).map(|first| first.factor_first().0)
    });
    assert!(quiet.is_none(), "{quiet:?}");

    let sent = script.sent();
    let pings: Vec<_> = sent
        .into_iter()
        .map(|(_, message)| message.into_data())
        .collect();
    let flood = |attack: Attack| {
        let payloads = attack.payloads(&pings);
        let mut next = 0;
        move || {
            next += 1;
            Message::Pong(payloads[next % payloads.len()].clone())
        }
    };
    let (unread, bare) = world.socket::<Message, _>(Rfc6455);
    bare.flood(flood(Attack::Forged));
    let bare = cost(MILLION, || {
        let read = unread.take(MILLION).for_each(|_| future::ready(()));
        assert!(read.now_or_never().is_some());
    });
    for attack in Attack::ALL {
        script.flood(flood(attack));
        let watermark = Watermark::begin();
        let cost = cost(MILLION, || {
            world.run_within(Duration::ZERO, async {
                for count in 0..MILLION {
                    let message = socket.next().await;
                    assert!(matches!(message, Some(Ok(Message::Pong(_)))), "{message:?}");
                    watermark.look(count);
                }
            });
        });
        report(attack, "through a whole socket", cost, bare);
        watermark.assert_constant();
    }
    let stats = socket.stats();
    let read = stats.unsolicited();
    assert!(read >= 4 * MILLION as u64 - 1, "{read}");

    // It never ends; so the verdict is a matter of messages: 65 536 for each of the two misses.
    world.run_until(100 * SECOND);
    let past = |world: &World, socket: &mut KeepAlive<_, _, _>| {
        world.run_within(Duration::ZERO, async {
            let mut past = 0;
            loop {
                match socket.next().await {
                    Some(Ok(_)) => past += 1,
                    Some(Err(Error::Timeout(verdict))) => return (past, Some(verdict)),
                    other => panic!("{other:?}"),
                }
                if past > 65_536 + 256 {
                    return (past, None);
                }
            }
        })
    };
    let (_, none) = past(&world, &mut socket);
    assert!(none.is_none(), "{none:?}");
    world.run_until(120 * SECOND);
    let (read, verdict) = past(&world, &mut socket);
    let verdict = verdict.expect("a verdict after 65 536 messages");
    assert!(read >= 65_536, "{read}");
    assert_in_time(world.elapsed(), &verdict, &socket.stats());
}

// contract: G46
#[test]
fn a_million_pings_at_a_ponger_that_cannot_write_leave_the_newest() {
    let _alone = alone();
    for backlog in [1, 10] {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (pings, ponger) = ponger(outgoing);
        let mut ponger = world.task(ponger.backlog(NonZeroUsize::new(backlog).expect("some")));
        sink.block();
        // What a queue of that size allocates once is no growth.
        for _ in 0..100 {
            pings.handle_ping(vec![0; 16]).expect("it runs");
            ponger.run_until(SECOND);
        }
        let watermark = Watermark::begin();
        let cost = cost(MILLION, || {
            for count in 0..MILLION {
                pings
                    .handle_ping((count as u64).to_be_bytes().to_vec())
                    .expect("it runs");
                if count % 64 == 0 {
                    ponger.run_until(SECOND);
                }
                watermark.look(count);
            }
        });
        println!("a ping at a blocked ponger with a backlog of {backlog}: {cost:.0} ns");
        watermark.assert_constant();
        sink.unblock();
        ponger.run_until(2 * SECOND);
        let newest = (MILLION - backlog..MILLION).map(|count| (count as u64).to_be_bytes());
        let newest: Vec<_> = newest
            .map(|ping| Frame::Pong(ping.to_vec().into()))
            .collect();
        let answers = sink.frames().into_iter().map(|(_, frame)| frame);
        assert_eq!(answers.collect::<Vec<_>>(), newest);
    }
}

// --- the neighbours ---

/// A ping every few milliseconds of real time, answered at once by another task; its round trips.
struct Neighbour {
    rtts: Arc<Mutex<Vec<Duration>>>,
}

impl Neighbour {
    const INTERVAL: Duration = Duration::from_millis(4);

    fn start() -> Self {
        let rtts = Arc::<Mutex<Vec<_>>>::default();
        let (frames, mut outgoing) = mpsc::channel(0);
        let config = Config::builder()
            .interval(Self::INTERVAL)
            .timeout(60 * SECOND);
        let (pongs, pinger) = pinger(frames, config.build().expect("valid"));
        tokio::spawn(pinger.with_timer(TokioTimer::new()));
        let seen = Arc::clone(&rtts);
        tokio::spawn(async move {
            while let Some(Frame::Ping(payload)) = outgoing.next().await {
                // As over a socket it comes in another turn.
                tokio::task::yield_now().await;
                if let Ok(PongKind::Matched { rtt }) = pongs.handle_pong(&payload) {
                    seen.lock().expect("nobody panics").push(rtt);
                }
            }
        });
        Self { rtts }
    }

    /// The round trips since, in order of length.
    fn take(&self) -> Vec<Duration> {
        let mut rtts = std::mem::take(&mut *self.rtts.lock().expect("nobody panics"));
        rtts.sort();
        rtts
    }
}

/// How much longer the neighbour's median round trip may be beside an attack. A million strays
/// without a pause take ten times that and more.
const MARGIN: Duration = Duration::from_millis(20);

fn median(rtts: &[Duration]) -> Duration {
    rtts[rtts.len() / 2]
}

/// What `attack` does to the round trips of another heartbeat on the same thread.
fn beside(name: &str, attack: impl AsyncFn()) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let neighbour = Neighbour::start();
        tokio::time::sleep(SECOND / 4).await;
        let quiet = neighbour.take();
        let (clock, mut attacks) = (Clock::system(), 0);
        let start = clock.now();
        // An optimised build is soon done with one.
        while attacks == 0 || clock.now() - start < SECOND / 4 {
            attack().await;
            attacks += 1;
        }
        let beside = neighbour.take();
        assert!(beside.len() >= 10, "{} answers meanwhile", beside.len());
        let (quiet, beside) = (median(&quiet), median(&beside));
        println!("the neighbour of {name}: {quiet:?} before it, {beside:?} beside it");
        assert!(beside <= quiet + MARGIN, "{beside:?} instead of {quiet:?}");
    });
}

// contract: G44 M77
#[test]
fn the_round_trips_of_a_neighbour_do_not_suffer_from_strays_in_a_stream() {
    let _alone = alone();
    beside("a flooded stream", async || {
        let mut strays = stream::repeat_with(|| Pong(Bytes::from_static(b"stray"))).take(MILLION);
        // Then it ends, and with it the heartbeat.
        let strays = stream::poll_fn(move |cx| strays.poll_next_unpin(cx));
        let (frames, _outgoing) = mpsc::channel(0);
        let pinger = Pinger::new(frames, strays, Config::default());
        let flooded = tokio::spawn(pinger.with_timer(TokioTimer::new()));
        flooded.await.expect("no panic").expect("the strays end");
    });
}

// contract: G44
#[test]
fn the_round_trips_of_a_neighbour_do_not_suffer_from_strays_into_a_sender() {
    let _alone = alone();
    beside("a flooded sender", async || {
        let (frames, _outgoing) = mpsc::channel(0);
        let (pongs, pinger) = pinger(frames, Config::default());
        tokio::spawn(pinger.with_timer(TokioTimer::new()));
        for stray in 0..MILLION {
            let _ = pongs.handle_pong(&(stray as u128).to_be_bytes());
            if stray % 64 == 0 {
                // As a socket's stream does.
                tokio::task::yield_now().await;
            }
        }
    });
}

// contract: G46 G48
#[test]
fn the_round_trips_of_a_neighbour_do_not_suffer_from_pings() {
    let _alone = alone();
    beside("a ponger under fire", async || {
        let (frames, outgoing) = mpsc::channel(0);
        let (pings, ponger) = ponger(frames);
        tokio::spawn(ponger);
        tokio::spawn(outgoing.for_each(|_| future::ready(())));
        for count in 0..MILLION / 4 {
            let _ = pings.handle_ping(Ping(Bytes::from_static(b"ping")));
            if count % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
}

// --- payloads ---

/// The pings of a heartbeat whose peer answers.
struct Pings {
    heartbeat: Heartbeat,
    now: futures_pinger::Instant,
}

impl Pings {
    fn new() -> Self {
        let now = Clock::system().now();
        let heartbeat = Heartbeat::new(config(), now);
        Self { heartbeat, now }
    }
}

impl Iterator for Pings {
    /// The sequence number and the tag.
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.now += 20 * SECOND;
        assert_eq!(self.heartbeat.poll_output(self.now), Output::Ping);
        let Some(Frame::Ping(payload)) = self.heartbeat.transmit(self.now) else {
            unreachable!("a ping is due");
        };
        self.heartbeat.handle_sent(self.now);
        let kind = self.heartbeat.handle_pong(&payload, self.now);
        assert!(matches!(kind, PongKind::Matched { .. }), "{kind:?}");
        self.heartbeat.poll_output(self.now);
        let (sequence, tag) = payload.split_at(8);
        let [sequence, tag] = [sequence, tag].map(|half| half.try_into().expect("8 bytes"));
        Some((u64::from_be_bytes(sequence), u64::from_be_bytes(tag)))
    }
}

/// The finalizer of `SplitMix64`: what one takes who scrambles a counter without a key.
fn scrambled(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Of an odd number, in the ring of 64 bits (Newton's iteration).
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |inverse, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)))
    })
}

/// What one could think the next tag is who has seen three, the oldest first.
fn guesses([first, second, third]: [u64; 3], sequence: u64) -> [u64; 12] {
    let step = third.wrapping_sub(second);
    let before = second.wrapping_sub(first);
    // Of a linear congruential generator of any constants, if its step can be divided by.
    let factor = step.wrapping_mul(inverse(before | 1));
    [
        third,
        third.wrapping_add(1),
        third.wrapping_sub(1),
        third.wrapping_add(step),
        third
            .wrapping_add(step)
            .wrapping_add(step.wrapping_sub(before)),
        third ^ second ^ first,
        second,
        third.wrapping_add(step.wrapping_mul(factor)),
        Xorshift(third).next(),
        scrambled(third),
        scrambled(sequence),
        sequence,
    ]
}

/// That none of `COUNT` random bits is ever far from even: 6 standard deviations happen to one bit in
/// 500 million.
fn assert_even(ones: &[u32; 64], count: u32, what: &str) {
    let far = 3.0 * f64::from(count).sqrt();
    for (bit, ones) in ones.iter().enumerate() {
        let off = (f64::from(*ones) - f64::from(count) / 2.0).abs();
        assert!(off < far, "bit {bit} of {what}: {ones} of {count}");
    }
}

fn count_bits(ones: &mut [u32; 64], number: u64) {
    for (bit, ones) in ones.iter_mut().enumerate() {
        *ones += u32::from(number >> bit & 1 == 1);
    }
}

// contract: B16
#[test]
fn a_million_payloads_cannot_be_foretold() {
    let _alone = alone();
    let (mut pings, other) = (Pings::new(), Pings::new());
    let mut last = [(); 3].map(|()| pings.next().expect("endless").1);
    let mut seen: HashSet<u64> = HashSet::with_capacity(MILLION);
    let (mut ones, mut changes) = ([0; 64], [0; 64]);
    let count = MILLION - 3;
    for ((sequence, tag), (same, others)) in pings.zip(other.skip(3)).take(count) {
        assert_eq!(sequence, same);
        assert_ne!(tag, others, "the tag of another heartbeat");
        let right = guesses(last, sequence)
            .iter()
            .position(|&guess| guess == tag);
        assert_eq!(right, None, "guessed from {last:x?}");
        assert!(seen.insert(tag), "{tag:x} twice");
        count_bits(&mut ones, tag);
        count_bits(&mut changes, tag ^ last[2]);
        last = [last[1], last[2], tag];
    }
    let count = u32::try_from(count).expect("a million");
    assert_even(&ones, count, "the tags");
    assert_even(&changes, count, "the changes from tag to tag");
}

// contract: B16
#[test]
fn the_keys_of_many_heartbeats_have_nothing_to_do_with_each_other() {
    const HEARTBEATS: u32 = 20_000;

    let _alone = alone();
    let mut seen = HashSet::new();
    let mut last = [0; 3];
    let (mut ones, mut changes) = ([0; 64], [0; 64]);
    for made in 0..HEARTBEATS {
        let mut pings = Pings::new();
        let (sequence, tag) = pings.next().expect("endless");
        assert_eq!(sequence, 1, "the same for all");
        let right = guesses(last, made.into())
            .iter()
            .position(|&guess| guess == tag);
        assert_eq!(right, None, "guessed from {last:x?}");
        // Not the first tag of one the second of the next either.
        for tag in [tag, pings.next().expect("endless").1] {
            assert!(seen.insert(tag), "{tag:x} twice");
        }
        count_bits(&mut ones, tag);
        count_bits(&mut changes, tag ^ last[2]);
        last = [last[1], last[2], tag];
    }
    assert_even(&ones, HEARTBEATS, "the first tags");
    assert_even(
        &changes,
        HEARTBEATS,
        "the changes from heartbeat to heartbeat",
    );
}

/// Shows that the guesses are worth something: each finds the next number of what it is made for.
#[test]
fn what_can_be_foretold_is() {
    let lcg = |state: &u64| {
        Some(
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1),
        )
    };
    let takes = |series: Vec<u64>| {
        let found = |window: &[u64]| {
            let [first, second, third, next] = window else {
                unreachable!()
            };
            guesses([*first, *second, *third], 0).contains(next)
        };
        series.windows(4).filter(|window| found(window)).count() * 3 >= series.len()
    };
    let series = |next: &dyn Fn(&u64) -> Option<u64>| {
        std::iter::successors(Some(12_345), next)
            .take(30)
            .collect::<Vec<u64>>()
    };
    assert!(takes(series(&|state| Some(*state))));
    assert!(takes(series(&|state| Some(state + 1))));
    assert!(takes(series(&|state| Some(state + 977))));
    assert!(takes(series(&|state| Some(Xorshift(*state).next()))));
    assert!(takes(series(&|state| Some(scrambled(*state)))));
    assert!(takes(series(&lcg)));
    assert!(!takes(Pings::new().map(|(_, tag)| tag).take(30).collect()));
}
