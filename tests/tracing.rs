//! What the feature `tracing` tells: which events, how many, and in which span.

use std::fmt::{Debug, Write as _};
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::mpsc::{self, SendError};
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use futures_pinger::{
    Clock, CloseReason, Config, ConfigBuilder, Error, Frame, Heartbeat, Instant, KeepAlive,
    Liveness, Output, Pinger, PingerSet, Pong, PongKind, PongSender, Stopped, TimedOut, TokioTimer,
    Verdict, pinger,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tungstenite_0_30::Message;

// --- what was told ---

/// Writes down what it is told of this crate, and of the test itself.
#[derive(Clone)]
struct Recorder {
    level: Level,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    spans: Vec<Recorded>,
    events: Vec<Recorded>,
    entered: Vec<u64>,
    /// How often a span was entered.
    entries: usize,
    closed: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Recorded {
    level: Level,
    /// `name field=value …`; of an event, its message is the name.
    text: String,
    target: &'static str,
    /// The span that it was made in, or none.
    parent: Option<u64>,
}

impl Recorder {
    fn new(level: Level) -> Self {
        let log = Arc::default();
        Self { level, log }
    }

    /// Runs `work` with this recorder as the subscriber.
    fn record<R>(&self, work: impl FnOnce() -> R) -> R {
        tracing::subscriber::with_default(self.clone(), work)
    }

    fn events(&self) -> Vec<String> {
        let log = self.log.lock().expect("nobody panics");
        let text = |event: &Recorded| format!("{} {}", event.level, event.text);
        log.events.iter().map(text).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut events = self.events();
        events.retain(|event| event.starts_with("WARN") || event.starts_with("ERROR"));
        events
    }

    /// The heartbeats' spans.
    fn heartbeats(&self) -> Vec<Recorded> {
        let log = self.log.lock().expect("nobody panics");
        let spans = log.spans.iter();
        let ours = spans.filter(|span| span.target == "futures_pinger");
        ours.cloned().collect()
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut log = self.log.lock().expect("nobody panics");
        let mut text = Text::default();
        span.record(&mut text);
        let recorded = Recorded {
            level: *span.metadata().level(),
            text: span.metadata().name().to_owned() + &text.fields,
            target: span.metadata().target(),
            parent: match span.parent() {
                Some(parent) => Some(parent.into_u64()),
                None if span.is_contextual() => log.entered.last().copied(),
                None => None,
            },
        };
        log.spans.push(recorded);
        Id::from_u64(log.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {
        panic!("a span does not change");
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut log = self.log.lock().expect("nobody panics");
        let mut text = Text::default();
        event.record(&mut text);
        let recorded = Recorded {
            level: *event.metadata().level(),
            text: text.message + &text.fields,
            target: event.metadata().target(),
            parent: match event.parent() {
                Some(parent) => Some(parent.into_u64()),
                None if event.is_contextual() => log.entered.last().copied(),
                None => None,
            },
        };
        log.events.push(recorded);
    }

    fn enter(&self, span: &Id) {
        let mut log = self.log.lock().expect("nobody panics");
        log.entered.push(span.into_u64());
        log.entries += 1;
    }

    fn exit(&self, span: &Id) {
        let mut log = self.log.lock().expect("nobody panics");
        assert_eq!(log.entered.pop(), Some(span.into_u64()));
    }

    fn try_close(&self, span: Id) -> bool {
        let mut log = self.log.lock().expect("nobody panics");
        log.closed.push(span.into_u64());
        true
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a string takes all");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

// --- what happens ---

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn exact() -> ConfigBuilder {
    Config::builder()
        .granularity(Duration::ZERO)
        .interval(s(10))
        .timeout(s(4))
}

fn built(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}

/// A heartbeat over a sink that takes each frame at once, and what came of it.
struct Drive {
    heartbeat: Heartbeat,
    start: Instant,
    elapsed: Duration,
    frames: Vec<(Duration, Frame)>,
    verdict: Option<Verdict>,
}

impl Drive {
    fn new(config: ConfigBuilder) -> Self {
        let start = Clock::system().now();
        Self {
            heartbeat: Heartbeat::with_key(built(config), start, [7; 16]),
            start,
            elapsed: Duration::ZERO,
            frames: Vec::new(),
            verdict: None,
        }
    }

    fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    /// Does what the heartbeat wants done until then.
    fn until(&mut self, end: Duration) {
        loop {
            let now = self.now();
            match self.heartbeat.poll_output(now) {
                Output::Ping | Output::Close(_) => {
                    let frame = self.heartbeat.transmit(now).expect("one was announced");
                    self.frames.push((self.elapsed, frame));
                    self.heartbeat.handle_sent(now);
                }
                Output::Wait(Some(next)) if next <= self.start + end => {
                    self.elapsed = next - self.start;
                    self.heartbeat.handle_timeout(next);
                }
                Output::Wait(_) => break,
                Output::Done(verdict) => {
                    self.verdict = Some(verdict);
                    break;
                }
            }
        }
        self.elapsed = self.elapsed.max(end);
    }

    /// Nothing is done until then.
    fn stall(&mut self, end: Duration) {
        self.elapsed = end;
        let now = self.now();
        self.heartbeat.handle_timeout(now);
    }

    /// The pong of the ping before `earlier` others.
    fn pong(&mut self, earlier: usize) -> PongKind {
        let pings = self
            .frames
            .iter()
            .rev()
            .filter_map(|(_, frame)| match frame {
                Frame::Ping(payload) => Some(payload.clone()),
                _ => None,
            });
        let payload = { pings }.nth(earlier).expect("it was sent");
        let now = self.now();
        self.heartbeat.handle_pong(&payload, now)
    }
}

/// Everything that a heartbeat can tell of, once.
fn script() -> (Drive, Vec<PongKind>) {
    let close = CloseReason::new(4000, "no word of it").expect("valid");
    let mut drive = Drive::new(exact().max_missed(2).close(close));
    let mut pongs = Vec::new();

    drive.until(ms(10_250));
    pongs.push(drive.pong(0));
    let now = drive.now();
    pongs.push(drive.heartbeat.handle_pong(b"no word of it", now));

    // The second is missed, another goes out at once, and then the pong of the missed one comes.
    drive.until(s(25));
    pongs.push(drive.pong(1));
    pongs.push(drive.pong(0));

    let now = drive.now();
    drive.heartbeat.pause(now);
    drive.heartbeat.pause(now);
    drive.heartbeat.resume(now);
    drive.heartbeat.resume(now);
    let config = exact().interval(s(20)).timeout(s(8));
    drive.heartbeat.set_config(built(config), now);
    drive.heartbeat.ping_now(now).expect("it goes on");

    // Its checkpoint, 1 s before the deadline, is seen 2 s late.
    drive.until(s(25));
    drive.stall(s(34));
    drive.until(s(60));
    // After the end it is not counted any more.
    pongs.push(drive.pong(0));
    drive.heartbeat.stop();
    (drive, pongs)
}

const EVENTS: [&str; 15] = [
    "TRACE ping sequence=1 cause=Schedule",
    "TRACE pong sequence=1 rtt=250ms",
    "DEBUG stray pongs unsolicited=1 stale=0",
    "TRACE ping sequence=2 cause=Schedule",
    "DEBUG ping missed sequence=2 elapsed=4s missed=1",
    "TRACE ping sequence=3 cause=Miss",
    "DEBUG stray pongs unsolicited=1 stale=1",
    "TRACE pong sequence=3 rtt=1s",
    "DEBUG paused",
    "DEBUG resumed",
    "DEBUG new configuration interval=20s timeout=8s write_timeout=8s max_missed=1 liveness=Pong",
    "TRACE ping sequence=4 cause=Request",
    "DEBUG late wake lateness=2s",
    "DEBUG ping missed sequence=4 elapsed=11s missed=1",
    "WARN the peer is gone phase=Pong elapsed=11s missed=1 answered=2 last_rtt=1s lateness=2s unsolicited=1 reader_away=0ns \
     close_sent=true",
];

#[test]
fn a_life_gives_these_events_and_no_others() {
    let recorder = Recorder::new(Level::TRACE);
    recorder.record(script);
    assert_eq!(recorder.events(), EVENTS);
}

#[test]
fn each_level_gives_its_share_of_them_and_is_all_that_is_paid_for() {
    for (level, entries) in [(Level::DEBUG, 9), (Level::INFO, 1), (Level::ERROR, 0)] {
        let recorder = Recorder::new(level);
        recorder.record(script);
        let mut expected = EVENTS.to_vec();
        expected
            .retain(|event| event.split(' ').next().unwrap().parse::<Level>().unwrap() <= level);
        assert_eq!(recorder.events(), expected);
        // Not even entered for events that nobody wants.
        let log = recorder.log.lock().unwrap();
        assert_eq!((log.entries, expected.len()), (entries, entries), "{level}");
    }
}

#[test]
fn nothing_else_changes_where_somebody_listens() {
    let told = |(drive, pongs): (Drive, Vec<PongKind>)| {
        (drive.frames, drive.verdict, drive.heartbeat.stats(), pongs)
    };
    let alone = told(script());
    assert_eq!(Recorder::new(Level::TRACE).record(|| told(script())), alone);
    assert!(matches!(alone.1, Some(Verdict::TimedOut(_))));
}

#[test]
fn an_answer_by_policy_and_a_ping_without_a_timeout_are_told() {
    let recorder = Recorder::new(Level::TRACE);
    recorder.record(|| {
        let mut drive = Drive::new(exact().no_timeout().liveness(Liveness::AnyPong));
        drive.until(s(20));
        let now = drive.now();
        for _ in 0..2 {
            drive.heartbeat.handle_pong(b"any", now);
        }
        let config = exact().adaptive_timeout(s(1)..=s(3));
        drive.heartbeat.set_config(built(config), now);
        drive.heartbeat.stop();
        drive.heartbeat.stop();
        drive.heartbeat.set_config(Config::default(), now);
        drive.heartbeat.pause(now);
        drive.heartbeat.resume(now);
    });
    let expected = [
        "TRACE ping sequence=1 cause=Schedule",
        "DEBUG ping written off sequence=1",
        "TRACE ping sequence=2 cause=Schedule",
        "TRACE answered by policy sequence=2",
        "DEBUG stray pongs unsolicited=1 stale=0",
        "DEBUG new configuration interval=10s adaptive_timeout=1s..=3s write_timeout=3s \
         max_missed=3 liveness=Pong",
        "DEBUG stopped",
    ];
    assert_eq!(recorder.events(), expected);
}

#[test]
fn what_only_watches_tells_its_own_options() {
    let recorder = Recorder::new(Level::TRACE);
    let second = Duration::from_secs(1);
    let watch = || Config::builder().granularity(Duration::ZERO);
    recorder.record(|| {
        let mut drive = Drive::new(watch().watch(30 * second));
        let now = drive.now();
        let pings = watch().watch_pings(20 * second);
        drive.heartbeat.set_config(built(pings), now);
        drive.heartbeat.stop();
    });
    let expected = [
        "DEBUG new configuration write_timeout=20s watch_pings=20s",
        "DEBUG stopped",
    ];
    assert_eq!(recorder.events(), expected);
}

#[test]
fn what_the_timers_take_is_no_late_wake() {
    for (late, told) in [(999, 0), (1000, 1)] {
        let recorder = Recorder::new(Level::DEBUG);
        recorder.record(|| {
            let mut drive = Drive::new(exact());
            drive.until(s(10));
            drive.stall(ms(13_500) + Duration::from_micros(late));
            assert_eq!(drive.heartbeat.stats().late_wakes(), 1);
        });
        assert_eq!(recorder.events().len(), told, "{late} µs");
    }
}

// --- floods ---

const FLOOD: u32 = 1_000_000;

/// One for each power of two up to the flood.
fn assert_flood(recorder: &Recorder) {
    let events = recorder.events();
    let strays = |event: &String| event.starts_with("DEBUG stray pongs");
    assert!(events.iter().all(strays), "{events:?}");
    assert!((1..=20).contains(&events.len()), "{events:?}");
}

#[test]
fn a_million_strays_are_twenty_events() {
    let recorder = Recorder::new(Level::DEBUG);
    let drive = recorder.record(|| {
        let mut drive = Drive::new(exact());
        let now = drive.now();
        for _ in 0..FLOOD {
            drive.heartbeat.handle_pong(b"stray", now);
        }
        drive
    });
    assert_flood(&recorder);
    assert_eq!(recorder.events().len(), 20);
    assert_eq!(drive.heartbeat.stats().unsolicited(), u64::from(FLOOD));
}

#[test]
fn a_million_strays_through_the_handle_are_no_more() {
    let recorder = Recorder::new(Level::DEBUG);
    recorder.record(|| {
        let (outgoing, _frames) = mpsc::channel(0);
        let (pongs, pinger) = pinger(outgoing, built(exact()));
        let mut pinger = pin!(pinger);
        for stray in 0..FLOOD {
            pongs.handle_pong(&stray.to_be_bytes()).expect("it runs");
            // Sometimes one is waiting, sometimes thousands are.
            if stray % 7919 < 10 {
                assert!(pinger.as_mut().now_or_never().is_none());
            }
        }
    });
    assert_flood(&recorder);
}

// --- the ends ---

/// What the warning about a verdict must say.
fn warning(verdict: &TimedOut) -> String {
    let rtt = verdict.last_rtt().map(|rtt| format!(" last_rtt={rtt:?}"));
    format!(
        "WARN the peer is gone phase={:?} elapsed={:?} missed={} answered={}{} lateness={:?} unsolicited={} reader_away={:?} \
         close_sent={}",
        verdict.phase(),
        verdict.elapsed(),
        verdict.missed(),
        verdict.answered(),
        rtt.unwrap_or_default(),
        verdict.lateness(),
        verdict.unsolicited(),
        verdict.reader_away(),
        verdict.close_sent(),
    )
}

/// In tokio's paused time.
fn run<R>(recorder: &Recorder, work: impl Future<Output = R>) -> R {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    recorder.record(|| runtime.expect("it starts").block_on(work))
}

/// A sink of frames over a queue of one, and the peer's end of it.
fn queue() -> (mpsc::Sender<Frame>, mpsc::Receiver<Frame>) {
    mpsc::channel(0)
}

#[test]
fn a_verdict_of_a_pinger_is_one_warning() {
    let recorder = Recorder::new(Level::WARN);
    let verdict = run(&recorder, async {
        let (outgoing, frames) = queue();
        let (_pongs, pinger) = pinger(outgoing, Config::default());
        let pinger = pinger.with_timer(TokioTimer::new());
        let (ended, _) = futures::join!(pinger, frames.collect::<Vec<_>>());
        let Err(Error::Timeout(verdict)) = ended else {
            panic!("{ended:?}")
        };
        verdict
    });
    assert!(verdict.close_sent());
    assert_eq!(recorder.events(), [warning(&verdict)]);
}

#[test]
fn a_write_timeout_is_one_warning() {
    let recorder = Recorder::new(Level::WARN);
    let ended = run(&recorder, async {
        let (outgoing, _frames) = queue();
        let (_pongs, pinger) = pinger(outgoing, Config::default());
        pinger.with_timer(TokioTimer::new()).await
    });
    let Err(Error::Timeout(verdict)) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(recorder.events(), [warning(&verdict)]);
    assert!(recorder.events()[0].contains("phase=Write"));
}

#[test]
fn a_verdict_is_told_although_nobody_waits_for_its_close_frame() {
    let recorder = Recorder::new(Level::WARN);
    run(&recorder, async {
        let (outgoing, mut frames) = queue();
        let (_pongs, pinger) = pinger(outgoing, Config::default());
        let mut pinger = Box::pin(pinger.with_timer(TokioTimer::new()));
        let reads_one = async {
            frames.next().await;
            // The verdict falls; the close frame has another second.
            tokio::time::sleep(ms(20_500)).await;
        };
        tokio::select! {
            ended = &mut pinger => panic!("{ended:?}"),
            () = reads_one => {}
        }
        assert_eq!(recorder.warnings(), [""; 0]);
        drop(pinger);
    });
    let warnings = recorder.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("close_sent=false"), "{warnings:?}");
}

#[test]
fn however_the_close_frame_ends_the_verdict_is_told_once() {
    type End = fn(&mut Heartbeat, Instant);
    let ends: [(&str, End); 5] = [
        ("sent", Heartbeat::handle_sent),
        ("broken", |heartbeat, _| heartbeat.handle_close_failed()),
        ("late", |heartbeat, now| {
            heartbeat.handle_timeout(now + s(1));
        }),
        ("stopped", |heartbeat, _| heartbeat.stop()),
        ("dropped", |_, _| {}),
    ];
    for (how, end) in ends {
        let recorder = Recorder::new(Level::INFO);
        recorder.record(|| {
            let mut drive = Drive::new(exact());
            drive.until(ms(13_999));
            let verdict = drive.start + s(14);
            drive.heartbeat.handle_timeout(verdict);
            assert!(matches!(
                drive.heartbeat.poll_output(verdict),
                Output::Close(_)
            ));
            assert!(drive.heartbeat.transmit(verdict).is_some());
            assert_eq!(recorder.events(), [""; 0], "{how}");
            end(&mut drive.heartbeat, verdict);
        });
        let events = recorder.events();
        assert_eq!(events.len(), 1, "{how}: {events:?}");
        let sent = format!("close_sent={}", how == "sent");
        assert!(events[0].ends_with(&sent), "{how}: {events:?}");
    }
}

/// A socket of two channels.
struct Socket {
    incoming: mpsc::UnboundedReceiver<Result<Message, SendError>>,
    outgoing: mpsc::Sender<Message>,
}

impl Stream for Socket {
    type Item = Result<Message, SendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_next_unpin(cx)
    }
}

impl Sink<Message> for Socket {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.outgoing.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        self.outgoing.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.outgoing.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.outgoing.poll_close_unpin(cx)
    }
}

type Peer = (
    mpsc::UnboundedSender<Result<Message, SendError>>,
    mpsc::Receiver<Message>,
);

fn socket() -> (KeepAlive<Socket, futures_pinger::Rfc6455, TokioTimer>, Peer) {
    let (to_us, incoming) = mpsc::unbounded();
    let (outgoing, from_us) = mpsc::channel(0);
    let socket = KeepAlive::new(Socket { incoming, outgoing }, Config::default());
    (socket.with_timer(TokioTimer::new()), (to_us, from_us))
}

#[test]
fn a_verdict_of_a_keep_alive_is_one_warning() {
    let recorder = Recorder::new(Level::WARN);
    let verdict = run(&recorder, async {
        let (mut socket, (_to_us, mut from_us)) = socket();
        let reads = async { while from_us.next().await.is_some() {} };
        let verdict = tokio::select! {
            item = socket.next() => item,
            () = reads => unreachable!("the socket is there"),
        };
        let Some(Err(Error::Timeout(verdict))) = verdict else {
            panic!("{verdict:?}")
        };
        // The end of the stream, and each call of the sink, say nothing new.
        assert!(socket.next().await.is_none());
        assert!(socket.send(Message::text("late")).await.is_err());
        verdict
    });
    assert!(verdict.close_sent());
    assert_eq!(recorder.events(), [warning(&verdict)]);
}

#[test]
fn a_connection_that_breaks_under_the_close_frame_leaves_one_warning() {
    let recorder = Recorder::new(Level::WARN);
    let verdict = run(&recorder, async {
        let (mut socket, (to_us, mut from_us)) = socket();
        let reads_one = async {
            from_us.next().await;
            tokio::time::sleep(ms(20_500)).await;
            drop(to_us);
            futures::future::pending::<()>().await;
        };
        let item = tokio::select! {
            item = socket.next() => item,
            () = reads_one => unreachable!("it does not end"),
        };
        let Some(Err(Error::Timeout(verdict))) = item else {
            panic!("{item:?}")
        };
        verdict
    });
    assert!(!verdict.close_sent());
    assert_eq!(recorder.events(), [warning(&verdict)]);
}

#[test]
fn many_verdicts_of_a_set_at_once_are_one_warning() {
    let recorder = Recorder::new(Level::WARN);
    let verdicts = run(&recorder, async {
        let config = exact().timeout(s(5)).no_close();
        let mut set = PingerSet::new(built(config)).with_timer(TokioTimer::new());
        let members: Vec<_> = (0..200)
            .map(|_| set.insert(futures::sink::drain()))
            .collect();
        let verdicts = set.by_ref().take(200).count().await;
        let rest = tokio::time::timeout(s(100), set.next()).await;
        assert!(rest.is_err(), "nobody is left");
        drop(members);
        verdicts
    });
    assert_eq!(verdicts, 200);
    let warning = "WARN mass verdicts condemned=64 judged=64";
    assert_eq!(recorder.events(), [warning]);
}

#[test]
fn a_normal_end_says_nothing() {
    let recorder = Recorder::new(Level::DEBUG);
    run(&recorder, async {
        // The pongs end.
        let (outgoing, mut frames) = queue();
        let (pongs, heartbeat) = pinger(outgoing, Config::default());
        let peer = async {
            let Some(Frame::Ping(payload)) = frames.next().await else {
                panic!("no ping")
            };
            pongs.handle_pong(&payload).expect("it runs");
            drop(pongs);
        };
        let (ended, ()) = futures::join!(heartbeat.with_timer(TokioTimer::new()), peer);
        assert_eq!(ended, Ok(Stopped::PongsEnded));

        // It is dropped while a ping is out.
        let (outgoing, mut frames) = queue();
        let (_pongs, heartbeat) = pinger(outgoing, Config::default());
        tokio::select! {
            ended = heartbeat.with_timer(TokioTimer::new()) => panic!("{ended:?}"),
            _ = async { frames.next().await; tokio::time::sleep(s(1)).await } => {}
        }

        // The socket ends, and it is dropped.
        for ends in [true, false] {
            let (mut socket, (to_us, mut from_us)) = socket();
            tokio::select! {
                item = socket.next() => panic!("{item:?}"),
                _ = from_us.next() => {}
            }
            if ends {
                drop(to_us);
                assert!(socket.next().await.is_none());
            }
        }
    });
    assert_eq!(recorder.events(), [""; 0]);
    assert_eq!(recorder.heartbeats().len(), 4);
}

#[test]
fn a_stop_is_no_warning() {
    let recorder = Recorder::new(Level::DEBUG);
    run(&recorder, async {
        let (outgoing, _frames) = queue();
        let (_pongs, mut heartbeat) = pinger(outgoing, Config::default());
        let controller = heartbeat.controller();
        let (ended, stopped) = futures::join!(heartbeat.with_timer(TokioTimer::new()), async {
            controller.stop()
        });
        assert_eq!((ended, stopped), (Ok(Stopped::Requested), Ok(())));

        let (mut socket, _peer) = socket();
        let controller = socket.controller();
        assert!(socket.next().now_or_never().is_none());
        controller.stop().expect("it runs");
        assert!(socket.next().now_or_never().is_none());
        assert!(!controller.is_alive());
    });
    assert_eq!(recorder.events(), ["DEBUG stopped"; 2]);
}

// --- the span ---

#[test]
fn a_heartbeat_is_one_span_within_that_of_its_task() {
    let recorder = Recorder::new(Level::TRACE);
    recorder.record(|| {
        let task = tracing::info_span!("task");
        let (outgoing, mut frames) = queue();
        let (pongs, pongs_in) = mpsc::unbounded();
        let config = exact().initial_delay(Duration::ZERO);
        let mut pinger = Box::pin(Pinger::new(outgoing, pongs_in, built(config)));
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = || task.in_scope(|| pinger.poll_unpin(&mut cx));

        assert!(poll().is_pending());
        let Ok(Frame::Ping(payload)) = frames.try_recv() else {
            panic!("no ping")
        };
        assert!(poll().is_pending());
        pongs.unbounded_send(Pong(payload)).expect("it runs");
        for _ in 0..100 {
            assert!(poll().is_pending());
        }
    });

    let spans = recorder.heartbeats();
    let [span] = &spans[..] else {
        panic!("{spans:?}")
    };
    let fields = "heartbeat interval=10s timeout=4s write_timeout=4s max_missed=1 liveness=Pong";
    assert_eq!((span.level, span.parent), (Level::WARN, Some(1)));
    assert_eq!(span.text, fields);
    let log = recorder.log.lock().unwrap();
    let [ping, pong] = &log.events[..] else {
        panic!("{:?}", log.events)
    };
    for event in [ping, pong] {
        assert_eq!((event.target, event.parent), ("futures_pinger", Some(2)));
    }
    assert!(log.closed.contains(&2));
}

#[test]
fn an_event_is_in_the_callers_span_where_the_heartbeats_own_is_not_recorded() {
    let mut drive = Drive::new(exact());
    let recorder = Recorder::new(Level::TRACE);
    recorder.record(|| {
        let _task = tracing::info_span!("task").entered();
        drive.until(s(10));
    });
    let log = recorder.log.lock().unwrap();
    let parents: Vec<_> = log.events.iter().map(|event| event.parent).collect();
    assert_eq!(parents, [Some(1)]);
}

#[test]
fn what_has_not_begun_is_no_span_and_closing_begins() {
    let recorder = Recorder::new(Level::TRACE);
    run(&recorder, async {
        let (_pongs, heartbeat) = pinger(queue().0, Config::default());
        let (mut socket, _peer) = socket();
        assert_eq!(
            heartbeat.stats(),
            Heartbeat::new(Config::default(), now()).stats()
        );
        assert_eq!(socket.stats(), heartbeat.stats());
        // Closing begins it: the handshake has a clock.
        socket.close().await.expect("nothing is in the way");
        assert_eq!(
            socket.stats().state_at(now()),
            futures_pinger::HeartbeatState::Closing
        );
    });
    // That of the comparison, and that of the socket that closes.
    assert_eq!(recorder.heartbeats().len(), 2);
    assert_eq!(recorder.events(), [""; 0]);
}

fn now() -> Instant {
    Clock::system().now()
}

#[test]
fn the_feature_takes_nothing_from_the_types() {
    fn is<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>(_: &T) {}
    let heartbeat = Heartbeat::new(Config::default(), now());
    is(&heartbeat);
    assert!(format!("{heartbeat:?}").contains("trace: Trace }"));
}

/// A subscriber that uses the connection itself, as one does that sends its logs over it.
#[derive(Clone, Default)]
struct Reentrant(Arc<Mutex<Option<Arc<PongSender>>>>);

impl Subscriber for Reentrant {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let Some(sender) = self.0.lock().expect("no panic").clone() else {
            return;
        };
        // On a thread of its own: a deadlock is to fail the test, not to hang it.
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(sender.is_closed()));
        let in_time = is_done.recv_timeout(Duration::from_secs(10));
        in_time.expect("the slot is locked while an event is told");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

// The pong was told under the lock of the slot.
#[test]
fn a_subscriber_may_use_the_heartbeat_that_it_is_told_of() {
    let subscriber = Reentrant::default();
    tracing::subscriber::with_default(subscriber.clone(), || {
        let (outgoing, mut frames) = mpsc::channel(1);
        let config = Config::builder().initial_delay(Duration::ZERO).build();
        let (pongs, pinger) = pinger(outgoing, config.unwrap());
        let pongs = Arc::new(pongs);
        let mut pinger = pin!(pinger);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(pinger.as_mut().poll(cx).is_pending());
        let Ok(Frame::Ping(payload)) = frames.try_recv() else {
            panic!("a ping")
        };
        *subscriber.0.lock().unwrap() = Some(Arc::clone(&pongs));
        pongs.handle_pong(&payload).unwrap();
        assert!(pinger.as_mut().poll(cx).is_pending());
        *subscriber.0.lock().unwrap() = None;
    });
}
