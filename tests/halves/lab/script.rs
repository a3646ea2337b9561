//! The language of the scripts, and how bytes are read as one.

use std::time::Duration;

use futures_pinger::{Config, Liveness};

/// Bytes of the settings, and of each step after them.
const HEADER: usize = 16;
const STEP: usize = 3;

/// More steps than that find nothing that fewer do not.
const STEPS: usize = 100;

/// A life of a socket with a heartbeat.
#[derive(Debug, Clone)]
pub struct Script {
    pub settings: Settings,
    pub steps: Vec<Step>,
}

/// What holds for the whole of it.
#[derive(Debug, Clone)]
pub struct Settings {
    pub shape: Shape,
    /// Two tasks have the halves of `KeepAlive::into_split`.
    pub own_halves: bool,
    pub lookahead: usize,
    pub interval: Duration,
    pub timeout: Duration,
    pub write_timeout: Duration,
    /// None: no close frame is sent with a verdict.
    pub close_timeout: Option<Duration>,
    pub closing_handshake: Duration,
    pub max_missed: u32,
    pub granularity: Duration,
    pub stall_grace: bool,
    pub liveness: Lives,
    pub first_ping_at_once: bool,
    /// Each poll has a waker of its own, and the earlier ones wake nobody.
    pub fresh_wakers: bool,
    /// Timers fire so much too early, once for each deadline.
    pub early_timers: Duration,
    /// From a close frame on, the socket has room for the waker of one task.
    pub crowded: bool,
    /// Each message that is read is sent back.
    pub echo: bool,
    /// After how long the peer answers a ping; none: it does not.
    pub answer: Option<Duration>,
    /// The peer sends no more while so many messages lie unread; 0: it sends all it has.
    pub window: usize,
    /// How long the peer needs to send on once there is room.
    pub transit: Duration,
    pub on_close: OnClose,
    /// After so many calls in one poll of a task the socket says Pending and wakes at once, as runtimes do;
    /// 0: it never does.
    pub budget: u8,
    /// The connection is taken apart after the last step; else it goes on to its end.
    pub cut_short: bool,
}

/// Who polls which half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Two tasks, each with a half; the reader's is polled first.
    Split,
    /// The same; the writer's is polled first.
    SplitWriterFirst,
    /// One task that does not read while it writes.
    InTurn,
    /// One task that does both at once, as in a `select!`.
    AtOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lives {
    Pong,
    AnyPong,
    Traffic,
    /// No pings are sent: silence for as long as the timeout is the verdict.
    Watch,
    /// No bound is asked for: what was read counts from when the reader tells of it.
    Activity,
}

/// What the peer does when it gets a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnClose {
    Nothing,
    /// It answers, and ends the connection.
    AnswerAndEnd,
    /// It answers, and the connection stays.
    Answer,
    /// It ends the connection without an answer.
    End,
}

/// What happens next. Whoever was woken by it has been polled before the step after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pass(Duration),
    /// Time passes, and nobody is polled.
    Stall(Duration),

    /// The peer sends so many messages.
    Receive(u32),
    PeerPing,
    /// A pong that nobody asked for.
    Stray,
    /// The peer answers pings after so long from now on, or does not.
    Answer(Option<Duration>),
    /// The peer sends a message each so often from now on, or no more.
    Trickle(Option<Duration>),
    PeerClose,
    PeerEnd,
    PeerError,

    /// The socket takes nothing.
    Block,
    /// The socket takes messages and does not get rid of them.
    BlockFlush,
    /// Ends both.
    Unblock,
    /// Ends both; the reader, or the writer, is polled before anybody is woken for it.
    UnblockBefore(Half),
    /// The socket takes so many messages more, and then nothing.
    Room(usize),
    /// The socket refuses the next pings, so many.
    Refuse(u8),
    /// The socket's sink is broken.
    Break,

    /// The reader reads whatever comes, from now on.
    Read,
    /// The reader does something else, and polls nothing.
    Away,
    /// The reader does something else, under `poll_heartbeat`, which a half of `StreamExt::split` has not.
    Beat,
    /// The reader takes so long for each message.
    Pace(Duration),
    /// The writer sends so many messages, and flushes each.
    Send(u32),
    /// The writer sends so many messages, and flushes none.
    Feed(u32),
    /// The writer waits for room, and keeps it for its next message.
    Reserve,
    Flush,
    /// The writer sends a close frame.
    SendClose,
    /// The writer closes the sink.
    CloseSink,
    /// The writer gives up what it is about.
    GiveUp,

    PingNow,
    /// Asks for an answer within that time.
    Probe(Duration),
    /// The machine sleeps for so long, in which no time passes.
    Suspend(Duration),
    Pause,
    Resume,
    Stop,

    /// That half is woken by the socket for no reason.
    Wake(Half),
    /// That half is polled for no reason, if it waits.
    Poll(Half),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Reader,
    Writer,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pick<T: Copy>(of: &[T], byte: u8) -> T {
    of[usize::from(byte) % of.len()]
}

impl Script {
    /// Any bytes are a script.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut header = [0; HEADER];
        let (first, rest) = bytes.split_at(bytes.len().min(HEADER));
        header[..first.len()].copy_from_slice(first);
        let settings = Settings::decode(header);
        let steps = rest.chunks_exact(STEP).take(STEPS);
        let steps = steps.map(|step| Step::decode(step[0], step[1], step[2], &settings));
        Self {
            steps: steps.collect(),
            settings,
        }
    }

    /// The bytes with one step less, if there is a step `at` that place.
    pub fn without_steps(bytes: &[u8], at: usize, count: usize) -> Option<Vec<u8>> {
        let start = HEADER + at * STEP;
        let end = bytes.len().min(start + count * STEP);
        (start < end).then(|| [&bytes[..start], &bytes[end..]].concat())
    }
}

/// The slack of a timeout, as its docs tell it.
pub fn slack(timeout: Duration) -> Duration {
    (timeout / 8).clamp(ms(10), ms(1000))
}

impl Settings {
    fn decode(header: [u8; HEADER]) -> Self {
        let flags = header[8];
        let timeout = pick(&[4000, 1000, 2000, 8000].map(ms), header[3]);
        let short = timeout / 40;
        Self {
            shape: pick(
                &[
                    Shape::Split,
                    Shape::InTurn,
                    Shape::AtOnce,
                    Shape::SplitWriterFirst,
                ],
                header[0],
            ),
            own_halves: header[0] & 4 != 0,
            lookahead: pick(&[16, 0, 1, 2, 4, 16, 3, 8], header[1]),
            interval: pick(&[4000, 1000, 2000, 5000, 20_000].map(ms), header[2]),
            timeout,
            write_timeout: pick(&[2000, 500, 1000, 4000].map(ms), header[4]),
            close_timeout: pick(
                &[Some(ms(1000)), Some(ms(200)), None, Some(ms(3000))],
                header[5],
            ),
            closing_handshake: pick(&[5000, 500, 2000, 10_000].map(ms), header[6]),
            max_missed: pick(&[1, 1, 1, 2, 3], header[7]),
            granularity: if flags & 1 == 0 { ms(0) } else { ms(16) },
            stall_grace: flags & 2 == 0,
            liveness: match header[14] {
                0xd0.. => Lives::Watch,
                0xb0.. => Lives::Traffic,
                other => pick(
                    &[
                        Lives::Pong,
                        Lives::Pong,
                        Lives::Pong,
                        Lives::Pong,
                        Lives::Pong,
                        Lives::Pong,
                        Lives::AnyPong,
                        Lives::Activity,
                    ],
                    other,
                ),
            },
            first_ping_at_once: flags & 4 != 0,
            fresh_wakers: flags & 8 != 0,
            early_timers: if flags & 0x30 == 0x30 { ms(1) } else { ms(0) },
            crowded: flags & 0x40 != 0,
            echo: flags & 0x80 != 0,
            answer: pick(
                &[
                    Some(ms(30)),
                    Some(ms(0)),
                    Some(timeout / 2),
                    Some(timeout - ms(1)),
                    None,
                ],
                header[9],
            ),
            window: pick(&[0, 0, 0, 0, 1, 2, 5, 16], header[10]),
            transit: pick(&[ms(0), short], header[10] >> 4),
            on_close: pick(
                &[
                    OnClose::Nothing,
                    OnClose::AnswerAndEnd,
                    OnClose::Answer,
                    OnClose::End,
                ],
                header[11],
            ),
            budget: pick(&[0, 0, 0, 0, 0, 2, 3, 7], header[12]),
            cut_short: header[15] & 3 == 3,
        }
    }

    /// The configuration of the heartbeat.
    pub fn config(&self) -> Config {
        let builder = Config::builder();
        let builder = if self.watches() {
            builder.watch(self.timeout)
        } else {
            let builder = builder.interval(self.interval).timeout(self.timeout);
            builder.max_missed(self.max_missed)
        };
        let mut builder = builder
            .write_timeout(self.write_timeout)
            .closing_handshake(self.closing_handshake)
            .granularity(self.granularity)
            .stall_grace(self.stall_grace);
        builder = match self.close_timeout {
            Some(timeout) => builder.close_timeout(timeout),
            None => builder.no_close(),
        };
        if self.first_ping_at_once && !self.watches() {
            builder = builder.initial_delay(Duration::ZERO);
        }
        builder = match self.liveness {
            Lives::Pong | Lives::Watch => builder,
            Lives::Traffic => builder.liveness(Liveness::Traffic {
                max_unproven: Duration::MAX,
            }),
            Lives::AnyPong => builder.liveness(Liveness::AnyPong),
            Lives::Activity => builder.liveness(Liveness::Activity {
                max_unproven: Duration::MAX,
            }),
        };
        builder.build().expect("valid")
    }

    /// Whether no pings are sent.
    pub fn watches(&self) -> bool {
        self.liveness == Lives::Watch
    }

    /// The slack of the timeout, as its docs tell it.
    pub fn slack(&self) -> Duration {
        slack(self.timeout)
    }

    /// How long after the last sign of life the verdict falls at the latest.
    pub fn bound(&self) -> Duration {
        let bound = self.config().detection_bound();
        bound.expect("there is a timeout") + self.early_timers
    }
}

impl Step {
    fn decode(kind: u8, a: u8, b: u8, settings: &Settings) -> Self {
        let time = time(a, b, settings);
        let half = pick(&[Half::Reader, Half::Writer], a);
        let count = pick(
            &[
                1,
                2,
                3,
                5,
                settings.lookahead as u32,
                settings.lookahead as u32 + 1,
                17,
                70,
            ],
            a,
        );
        match kind {
            0..70 => Self::Pass(time),
            70..75 if b >= 0xc0 => Self::Suspend(time),
            70..75 => Self::Stall(time),
            75..95 => Self::Receive(count),
            95..99 => Self::PeerPing,
            99..102 => Self::Stray,
            102..110 => Self::Answer(Some(match a & 3 {
                0 => ms(30),
                1 => ms(0),
                2 => time,
                _ => settings.timeout / 2,
            })),
            110..120 => Self::Answer(None),
            120..127 => Self::Block,
            127..134 => Self::BlockFlush,
            134..148 => Self::Unblock,
            148..152 => Self::UnblockBefore(half),
            152..156 => Self::Room(usize::from(a & 3)),
            156..158 => Self::Refuse(1 + (a & 1)),
            158..160 => Self::PeerClose,
            160 => Self::PeerEnd,
            161 => Self::PeerError,
            162 => Self::Break,
            163..168 => Self::Trickle(pick(
                &[None, Some(ms(300)), Some(ms(1000)), Some(ms(3000))],
                a,
            )),
            168..182 => Self::Read,
            182..192 => Self::Away,
            192..202 => Self::Beat,
            202..205 => Self::Pace(pick(&[0, 100, 1000, 3000, 10_000].map(ms), a)),
            205..216 => Self::Send(pick(&[1, 1, 2, 3], a)),
            216..220 => Self::Feed(pick(&[1, 2, 3, 10], a)),
            220..226 => Self::Reserve,
            226..229 => Self::Flush,
            229..234 => Self::GiveUp,
            234 => Self::SendClose,
            235 => Self::CloseSink,
            236..240 if b >= 0x80 => Self::Probe(time),
            236..240 => Self::PingNow,
            240 => Self::Pause,
            241..244 => Self::Resume,
            244 if a < 64 => Self::Stop,
            244..249 => Self::Wake(half),
            249..=255 => Self::Poll(half),
        }
    }
}

/// A time around which something happens, or a little more.
fn time(a: u8, b: u8, settings: &Settings) -> Duration {
    let Settings {
        interval,
        timeout,
        write_timeout,
        ..
    } = *settings;
    let base = pick(
        &[
            interval,
            timeout,
            write_timeout,
            interval / 2,
            ms(1),
            ms(100),
            settings.slack(),
            timeout - settings.slack(),
            interval + timeout,
            interval + write_timeout,
            settings.closing_handshake,
            settings.bound(),
            timeout / 2,
            2 * interval,
            ms(10),
            2 * settings.bound(),
        ],
        a,
    );
    let odd = pick(&[0, 0, 0, 0, 1, 7, 33, 250].map(ms), b);
    base + odd
}

/// A generator of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // The first numbers of neighbouring seeds are alike without a finish (splitmix64).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The bytes of a random script, always the same for the same seed.
pub fn random(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let steps = 1 + numbers.next() as usize % 60;
    let length = HEADER + STEP * steps;
    let words = std::iter::repeat_with(|| numbers.next().to_le_bytes());
    words.flatten().take(length).collect()
}
