//! The options of a heartbeat: plain data, validated once.

#[cfg(feature = "serde")]
mod table;

use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::error::InvalidConfig;
use crate::frame::CloseReason;
use crate::time::Span;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_CLOSING_HANDSHAKE: Duration = Duration::from_secs(10);
/// `max_missed` with a fixed timeout, and with an adaptive one.
const DEFAULT_MAX_MISSED: u32 = 1;
const DEFAULT_MAX_MISSED_ADAPTIVE: u32 = 3;
const MAX_DEFAULT_GRANULARITY: Duration = Duration::from_millis(100);

/// What counts as an answer to a ping.
///
/// The table says which one suits a peer:
///
/// | The peer | Liveness |
/// |---|---|
/// | answers pings as RFC 6455 §5.5.3 says | [`Pong`](Self::Pong) |
/// | sends pongs with another payload than the ping's | [`AnyPong`](Self::AnyPong) |
/// | answers pings, on a connection that is billed by the byte or wakes a phone | [`Activity`](Self::Activity) |
/// | must itself hear something in each interval, and sends whatever it has: STOMP (heart-beating), SignalR (`KeepAliveInterval`), AMQP 0-9-1 (heartbeat frames), clients of MQTT (`PINGREQ`) | [`Traffic`](Self::Traffic) |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Liveness {
    /// Only a pong with the payload of the ping in flight answers it (RFC 6455 §5.5.3).
    #[default]
    Pong,
    /// Any pong answers the ping in flight, for peers that mangle the payload. Such a pong is no proof
    /// against a peer that sends pongs unasked. Its round trip is measured where no earlier ping lacks an
    /// answer.
    AnyPong,
    /// Whatever the peer sends answers the ping in flight, and postpones the next ping, so that a busy
    /// connection carries the fewest pings. What this side sends never counts.
    Activity {
        /// The time after the last matching pong for which data is trusted; from then on only a matching
        /// pong answers. So a peer (or a proxy before it) that sends data but never a pong is found.
        max_unproven: Duration,
    },
    /// Whatever the peer sends after a ping answers that ping, and postpones nothing: pings keep their
    /// schedule, for peers that must hear from this side. What came before the ping was handed over is no
    /// answer, and what this side sends never counts.
    Traffic {
        /// The time after the last matching pong for which data is trusted; from then on only a matching
        /// pong answers. The first ping that needs one leaves within an interval from then.
        max_unproven: Duration,
    },
}

impl Liveness {
    /// How long data are trusted without a matching pong; `None` if they never are.
    #[inline]
    pub(crate) const fn max_unproven(self) -> Option<Duration> {
        match self {
            Self::Activity { max_unproven } | Self::Traffic { max_unproven } => Some(max_unproven),
            Self::Pong | Self::AnyPong => None,
        }
    }
}

/// What a heartbeat that sends no pings waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    within: Duration,
    /// Whether only the peer's pings count, and not its other messages.
    pings_only: bool,
}

impl Watch {
    const fn option(self) -> &'static str {
        if self.pings_only {
            "watch_pings"
        } else {
            "watch"
        }
    }
}

/// The time from the first poll to the first ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitialDelay {
    Fixed(Duration),
    AtRandom,
}

/// How long a flushed ping may wait for its pong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timeout<T = Duration> {
    Fixed(T),
    Adaptive(RangeInclusive<T>),
    Never,
}

impl Timeout {
    /// The same timeout in spans of the time line.
    fn spans(&self) -> Timeout<Span> {
        match self {
            Self::Fixed(timeout) => Timeout::Fixed((*timeout).into()),
            Self::Adaptive(range) => {
                Timeout::Adaptive((*range.start()).into()..=(*range.end()).into())
            }
            Self::Never => Timeout::Never,
        }
    }

    /// The longest wait for one pong.
    fn end(&self) -> Duration {
        match self {
            Self::Fixed(timeout) => *timeout,
            Self::Adaptive(range) => *range.end(),
            Self::Never => Duration::MAX,
        }
    }
}

/// A validated configuration; cloning it copies a pointer.
///
/// Each getter is named as its option in [`ConfigBuilder`].
///
/// With the feature `serde` a configuration is read from a table of options, such as a file, and written as one:
/// `interval = "15s"`, `adaptive_timeout = "500ms..=20s"`, `close = "1011 Ping timeout"`,
/// `liveness = "activity"` beside `max_unproven = "2m"`, `no_close = true`, and `"never"` for
/// [`Duration::MAX`]. What a table leaves out has its default; an unknown option, one that another
/// excludes, and a value that makes no sense are errors that name the option.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::Config;
///
/// let config = Config::builder().timeout(Duration::from_secs(5)).build()?;
/// assert_eq!(config.interval(), Duration::from_secs(15));
/// assert_eq!(config.write_timeout(), Duration::from_secs(5));
///
/// // What makes no sense is refused by name:
/// let error = Config::builder().timeout(Duration::ZERO).build().unwrap_err();
/// assert_eq!(error.to_string(), "invalid timeout 0ns: must be longer than zero");
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config(Arc<Options>);

/// The durations of a configuration as spans of the time line: converted once, and not with each ping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spans {
    pub(crate) interval: Span,
    pub(crate) initial_delay: Span,
    pub(crate) timeout: Timeout<Span>,
    pub(crate) write_timeout: Span,
    pub(crate) close_timeout: Span,
    pub(crate) closing_handshake: Span,
    pub(crate) progress: Span,
    pub(crate) granularity: Span,
    /// The longest silence of the peer that a heartbeat which only watches allows; otherwise
    /// [`Span::NEVER`].
    pub(crate) within: Span,
}

#[derive(Debug, Clone, PartialEq)]
struct Options {
    spans: Spans,
    interval: Duration,
    initial_delay: Duration,
    initial_delay_at_random: bool,
    watch: Option<Watch>,
    timeout: Timeout,
    write_timeout: Duration,
    max_missed: u32,
    close: Option<CloseReason>,
    close_timeout: Duration,
    closing_handshake: Duration,
    progress: Duration,
    jitter: f64,
    liveness: Liveness,
    stall_grace: bool,
    granularity: Duration,
}

/// A ping every 15 seconds, 20 seconds for each pong. 15 seconds are half of the shortest idle limit
/// that is common on the way (30 seconds). With a timeout longer than the interval a ping costs one
/// wake-up: the driver looks for the pong when it sends the next ping.
impl Default for Config {
    fn default() -> Self {
        static DEFAULT: LazyLock<Config> = LazyLock::new(|| {
            let built = Config::builder().build();
            built.expect("the defaults are valid, as a test shows")
        });
        DEFAULT.clone()
    }
}

impl Config {
    /// A builder that starts at the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The time from one ping's due time to the next. With [`watch`](Self::watch) it is [`Duration::MAX`],
    /// which means never.
    #[doc(alias = "period")]
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.0.interval
    }

    /// The time from the first poll to the first ping. Where it is drawn at random, this is the longest that it
    /// can be.
    #[must_use]
    pub fn initial_delay(&self) -> Duration {
        self.0.initial_delay
    }

    /// Whether the initial delay is drawn at random, evenly from the whole interval.
    #[must_use]
    pub fn initial_delay_at_random(&self) -> bool {
        self.0.initial_delay_at_random
    }

    /// The time for which the peer may send nothing at all, where the heartbeat only watches.
    #[must_use]
    pub fn watch(&self) -> Option<Duration> {
        let watch = self.0.watch.filter(|watch| !watch.pings_only)?;
        Some(watch.within)
    }

    /// The time for which the peer may send no ping, where the heartbeat only watches for pings.
    #[must_use]
    pub fn watch_pings(&self) -> Option<Duration> {
        let watch = self.0.watch.filter(|watch| watch.pings_only)?;
        Some(watch.within)
    }

    /// The time that a pong may take, from the completed flush of its ping, where it is fixed.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self.0.timeout {
            Timeout::Fixed(timeout) => Some(timeout),
            Timeout::Adaptive(_) | Timeout::Never => None,
        }
    }

    /// The range of the adaptive timeout, where that is used.
    #[must_use]
    pub fn adaptive_timeout(&self) -> Option<RangeInclusive<Duration>> {
        match &self.0.timeout {
            Timeout::Adaptive(range) => Some(range.clone()),
            Timeout::Fixed(_) | Timeout::Never => None,
        }
    }

    /// The time that a ping may take to be written, from its first offer to the sink to its completed flush.
    /// [`Duration::MAX`] means never.
    #[must_use]
    pub fn write_timeout(&self) -> Duration {
        self.0.write_timeout
    }

    /// The number of consecutive misses that make a verdict.
    #[must_use]
    pub fn max_missed(&self) -> u32 {
        self.0.max_missed
    }

    /// The close frame that is sent after a pong timeout, if one is sent.
    #[must_use]
    pub fn close(&self) -> Option<&CloseReason> {
        self.0.close.as_ref()
    }

    /// The time that the close frame may take to be written.
    #[must_use]
    pub fn close_timeout(&self) -> Duration {
        self.0.close_timeout
    }

    /// The time that the connection of a [`KeepAlive`](crate::KeepAlive) has to end after a close frame.
    #[must_use]
    pub fn closing_handshake(&self) -> Duration {
        self.0.closing_handshake
    }

    /// The time by which bytes that move may extend a deadline of a ping, in all, with a
    /// [`Meter`](crate::Meter).
    #[must_use]
    pub fn progress(&self) -> Duration {
        self.0.progress
    }

    /// The largest share by which a wait is shortened at random.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.0.jitter
    }

    /// What counts as an answer to a ping. It has no meaning with [`watch`](Self::watch).
    #[must_use]
    #[inline]
    pub fn liveness(&self) -> Liveness {
        self.0.liveness
    }

    /// Whether a stall of this process extends a deadline that it hid.
    #[must_use]
    pub fn stall_grace(&self) -> bool {
        self.0.stall_grace
    }

    /// The step of the grid to which wake-ups are rounded up. Zero rounds nothing.
    #[must_use]
    pub fn granularity(&self) -> Duration {
        self.0.granularity
    }

    /// How long after the peer's last proof of life the verdict falls at the latest, if nothing
    /// stalls this process: `interval + max_missed · (write_timeout + timeout) +
    /// (2 · max_missed + 2) · granularity`. With [`ConfigBuilder::watch`] and
    /// [`ConfigBuilder::watch_pings`] it is `within + 2 · granularity`. `None` if there is no bound.
    ///
    /// The heartbeat ends with the verdict, or, where it sends a close frame, within the close
    /// timeout and one step of the granularity after it. With [`Liveness::Activity`] and
    /// [`Liveness::Traffic`] activity is such a proof as long as it is trusted. See [the docs of the
    /// heartbeat](crate::heartbeat#invariants) for stalls.
    ///
    /// One thing has no bound: a pong that cannot be read, as the application does not read what lies
    /// before it ([`KeepAlive`](crate::KeepAlive#bounds), [`attach`](crate::PongSender::attach)). The bound
    /// begins with the first poll in which there is room to read.
    ///
    /// A heartbeat with a [`Meter`](crate::Meter) has the bound of
    /// [`detection_bound_with_meter`](Self::detection_bound_with_meter).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::Config;
    ///
    /// let config = Config::default();
    /// let steps = 4 * config.granularity();
    /// assert_eq!(config.detection_bound(), Some(Duration::from_secs(55) + steps));
    /// assert_eq!(Config::builder().no_timeout().build()?.detection_bound(), None);
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn detection_bound(&self) -> Option<Duration> {
        self.bound(Duration::ZERO)
    }

    /// The [`detection_bound`](Self::detection_bound) of a heartbeat with a [`Meter`](crate::Meter): it is
    /// longer by `2 · max_missed · progress`, as either deadline of each ping may be extended by that much.
    ///
    /// A configuration does not know which of its heartbeats have a meter, so that there is one bound for
    /// those without and one for those with.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::Config;
    ///
    /// let config = Config::builder().progress(Duration::from_secs(60)).build()?;
    /// let longer = config.detection_bound().unwrap() + Duration::from_secs(120);
    /// assert_eq!(config.detection_bound_with_meter(), Some(longer));
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn detection_bound_with_meter(&self) -> Option<Duration> {
        self.bound(self.0.progress.checked_mul(2)?)
    }

    /// The detection bound, where bytes that move may extend the two deadlines of a ping by `progress` in
    /// total.
    fn bound(&self, progress: Duration) -> Option<Duration> {
        let options = &*self.0;
        if let Some(Watch { within, .. }) = options.watch {
            let bound = within.checked_add(options.granularity.checked_mul(2)?)?;
            // Silence has one deadline, where a ping has two.
            let bound = bound.checked_add(progress / 2)?;
            return (options.spans.within != Span::NEVER).then_some(bound);
        }
        let each = options.timeout.end().checked_add(options.write_timeout)?;
        let each = each.checked_add(progress)?;
        let steps = options.max_missed.checked_mul(2)?.checked_add(2)?;
        let bound = each
            .checked_mul(options.max_missed)?
            .checked_add(options.interval)?
            .checked_add(options.granularity.checked_mul(steps)?)?;
        (Span::from(bound) != Span::NEVER).then_some(bound)
    }

    pub(crate) fn spans(&self) -> &Spans {
        &self.0.spans
    }

    /// Whether an unanswered ping can ever end in a verdict.
    pub(crate) fn judges_pongs(&self) -> bool {
        !matches!(self.0.timeout, Timeout::Never)
    }

    /// Whether the heartbeat sends no pings, and only looks at what the peer sends.
    #[inline]
    pub(crate) fn watches(&self) -> bool {
        self.0.watch.is_some()
    }

    /// Whether a message of the peer counts for a heartbeat that only watches; `is_ping` says whether the
    /// message is a ping.
    pub(crate) fn counts(&self, is_ping: bool) -> bool {
        is_ping || self.watch().is_some()
    }

    /// Whether the two share their options. They are then equal, and need no comparison of each option.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The wait `full`, shortened at random: by the share `jitter · drawn / 2³²`.
    pub(crate) fn jittered(&self, full: Span, drawn: u32) -> Span {
        Self::shortened(full, self.0.jitter, drawn)
    }

    /// The initial delay, shortened at random: by the share `jitter · drawn / 2³²`, or `drawn / 2³²` if the
    /// whole delay is drawn at random.
    pub(crate) fn first_wait(&self, drawn: u32) -> Span {
        let most = if self.0.initial_delay_at_random {
            1.0
        } else {
            self.0.jitter
        };
        Self::shortened(self.0.spans.initial_delay, most, drawn)
    }

    /// A time within the interval: the interval, shortened by the share `drawn / 2³²`.
    pub(crate) fn within_interval(&self, drawn: u32) -> Span {
        Self::shortened(self.0.spans.interval, 1.0, drawn)
    }

    /// The wait `full`, shortened by the share `most · drawn / 2³²`.
    fn shortened(full: Span, most: f64, drawn: u32) -> Span {
        if most == 0.0 || full == Span::NEVER {
            return full;
        }
        let share = most * f64::from(drawn) / 4_294_967_296.0;
        // The product lies between zero and `full`: rounding cannot leave that range.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let cut = (full.as_nanos() as f64 * share) as u64;
        full.saturating_sub(Span::nanos(cut))
    }
}

/// Sets the options of a [`Config`]; [`build`](Self::build) checks them all.
///
/// An option set twice keeps the later value; so do [`timeout`](Self::timeout),
/// [`adaptive_timeout`](Self::adaptive_timeout) and [`no_timeout`](Self::no_timeout) among each
/// other, [`initial_delay`](Self::initial_delay) and
/// [`initial_delay_at_random`](Self::initial_delay_at_random), [`watch`](Self::watch) and
/// [`watch_pings`](Self::watch_pings), and [`close`](Self::close) and [`no_close`](Self::no_close). A
/// duration too long for the clock, such as [`Duration::MAX`], means never.
///
/// # Options
///
/// | Option | Default |
/// |---|---|
/// | [`interval`](Self::interval), from one ping's due time to the next | 15 s |
/// | [`initial_delay`](Self::initial_delay), before the first ping; or [`initial_delay_at_random`](Self::initial_delay_at_random) | the interval |
/// | [`timeout`](Self::timeout), from the flushed ping to its pong; or [`adaptive_timeout`](Self::adaptive_timeout) (RFC 6298); or [`no_timeout`](Self::no_timeout) | 20 s |
/// | [`write_timeout`](Self::write_timeout), from a ping's first offer to its completed flush | the timeout |
/// | [`max_missed`](Self::max_missed), consecutive misses that make the verdict | 1 (adaptive: 3) |
/// | [`liveness`](Self::liveness), what answers a ping | [`Liveness::Pong`] |
/// | [`watch`](Self::watch) or [`watch_pings`](Self::watch_pings): no pings, and silence is the verdict | neither |
/// | [`close`](Self::close), the close frame of a verdict; or [`no_close`](Self::no_close) | 1011 "Ping timeout" |
/// | [`close_timeout`](Self::close_timeout), for that frame to go out | 1 s |
/// | [`closing_handshake`](Self::closing_handshake), from a close frame to the end of the stream of a `KeepAlive` | 10 s |
/// | [`progress`](Self::progress), by how much bytes that move may extend a deadline in all, with a [`Meter`](crate::Meter) | the timeout |
/// | [`jitter`](Self::jitter), the largest random share by which a wait is shortened | 0 |
/// | [`stall_grace`](Self::stall_grace), whether a stall of our own extends the deadline that it hid | yes |
/// | [`granularity`](Self::granularity), the grid to which wake-ups are rounded up | 100 ms, or 1/64 of the shortest duration |
///
/// A value that makes no sense is refused with an error that names the option and the value.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_pinger::{Config, Liveness};
///
/// let config = Config::builder()
///     .interval(Duration::from_secs(30))
///     .adaptive_timeout(Duration::from_millis(500)..=Duration::from_secs(20))
///     .jitter(0.2)
///     .liveness(Liveness::Activity { max_unproven: Duration::from_secs(120) })
///     .build()?;
/// assert_eq!(config.max_missed(), 3);
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConfigBuilder {
    interval: Option<Duration>,
    initial_delay: Option<InitialDelay>,
    watch: Option<Watch>,
    timeout: Option<Timeout>,
    write_timeout: Option<Duration>,
    max_missed: Option<u32>,
    close: Option<CloseReason>,
    close_timeout: Duration,
    closing_handshake: Duration,
    progress: Option<Duration>,
    jitter: Option<f64>,
    liveness: Option<Liveness>,
    stall_grace: bool,
    granularity: Option<Duration>,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            interval: None,
            initial_delay: None,
            watch: None,
            timeout: None,
            write_timeout: None,
            max_missed: None,
            close: Some(CloseReason::ping_timeout()),
            close_timeout: DEFAULT_CLOSE_TIMEOUT,
            closing_handshake: DEFAULT_CLOSING_HANDSHAKE,
            progress: None,
            jitter: None,
            liveness: None,
            stall_grace: true,
            granularity: None,
        }
    }
}

impl ConfigBuilder {
    /// The time from one ping's due time to the next. Due times do not drift, and no burst of pings follows
    /// a pause.
    ///
    /// Default: 15 s. Zero is refused.
    #[doc(alias = "period")]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// The time from the first poll to the first ping. Zero sends the first ping at once.
    ///
    /// Default: the interval.
    pub fn initial_delay(mut self, initial_delay: Duration) -> Self {
        self.initial_delay = Some(InitialDelay::Fixed(initial_delay));
        self
    }

    /// Draws the time from the first poll to the first ping at random, evenly from the whole
    /// interval. Where a restart brings a hundred thousand connections back at once, their first pings, and
    /// all that follow, are so spread over the interval. Discord asks its clients for such a first heartbeat.
    ///
    /// The jitter shortens only the waits after it. The draw is made once for each heartbeat: another
    /// configuration that is put in force before the first ping spreads by the same draw.
    ///
    /// Default: the first ping leaves after the interval.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = futures_pinger::Config::builder().initial_delay_at_random().build()?;
    /// assert!(config.initial_delay_at_random());
    /// assert_eq!(config.initial_delay(), config.interval());
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    pub fn initial_delay_at_random(mut self) -> Self {
        self.initial_delay = Some(InitialDelay::AtRandom);
        self
    }

    /// Sends no pings, and ends with [`TimeoutPhase::Silence`](crate::TimeoutPhase::Silence) once no
    /// message at all has come for `within`. This is for a peer that pings by itself, or talks all the time:
    /// clients of engine.io 4 wait for `pingInterval + pingTimeout`.
    ///
    /// Nothing but the close frame is sent. Unread data is no silence: what has arrived is read before
    /// anything is judged, and a local stall has the same grace as with pings. The time runs from the
    /// first poll.
    ///
    /// Options that are about pings make no sense beside it and are refused by
    /// [`build`](Self::build): the interval, both kinds of initial delay, all kinds of timeout,
    /// `max_missed`, `jitter` and `liveness`. The write timeout, which is then `within` unless it is
    /// set, judges writes of the application on a [`KeepAlive`](crate::KeepAlive) alone. For pings *and* a limit
    /// for data there is [a way beside the heartbeat](crate::guide::above#data-alone).
    ///
    /// Default: pings are sent. Zero is refused.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_pinger::Config;
    ///
    /// let config = Config::builder().watch(Duration::from_secs(45)).build()?;
    /// let steps = 2 * config.granularity();
    /// assert_eq!(config.detection_bound(), Some(Duration::from_secs(45) + steps));
    ///
    /// let both = Config::builder().watch(Duration::from_secs(45)).jitter(0.1).build();
    /// assert_eq!(both.unwrap_err().option(), "jitter");
    /// # Ok::<(), futures_pinger::InvalidConfig>(())
    /// ```
    pub fn watch(mut self, within: Duration) -> Self {
        self.watch = Some(Watch {
            within,
            pings_only: false,
        });
        self
    }

    /// Watches as [`watch`](Self::watch) does, but of what the peer sends only its pings count. This is for a
    /// peer that promises pings, as exchanges do, and may talk on although its heartbeat has died.
    ///
    /// A [`KeepAlive`](crate::KeepAlive) and [`PongSender::attach`](crate::PongSender::attach) see the
    /// pings by themselves; elsewhere the reader reports each by `handle_ping`.
    ///
    /// Default: pings are sent. Zero is refused.
    pub fn watch_pings(mut self, within: Duration) -> Self {
        self.watch = Some(Watch {
            within,
            pings_only: true,
        });
        self
    }

    /// The time that a pong may take, from the completed flush of its ping.
    ///
    /// Default: 20 s. Zero is refused.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(Timeout::Fixed(timeout));
        self
    }

    /// Replaces the fixed timeout by one that follows the measured round-trip times as TCP's does:
    /// SRTT + max(G, 4·RTTVAR), kept within `range` (RFC 6298; G is the granularity, 10 ms at the least).
    ///
    /// Before the first measurement the timeout is the end of the range. A miss doubles the timeout, and an
    /// answer puts it back to what the measurements say. `max_missed` is then 3 unless it is set. A range
    /// that is empty or starts at zero is refused.
    pub fn adaptive_timeout(mut self, range: RangeInclusive<Duration>) -> Self {
        self.timeout = Some(Timeout::Adaptive(range));
        self
    }

    /// Sends pings to keep the connection open, and lets no missing pong end it. A ping that is
    /// unanswered when the next one is due is counted as missed.
    ///
    /// There is then no write timeout either, unless it is set.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Some(Timeout::Never);
        self
    }

    /// The time that a ping may take to be written, from the poll that first offers the ping to the sink to
    /// its completed flush. This timeout finds a dead peer behind a sink that takes nothing any more.
    ///
    /// Default: the timeout, or the end of the adaptive range. Zero is refused.
    pub fn write_timeout(mut self, write_timeout: Duration) -> Self {
        self.write_timeout = Some(write_timeout);
        self
    }

    /// The number of pings in a row that must be missed for a verdict. After a miss the next ping is sent at
    /// once.
    ///
    /// Default: 1, or 3 with an adaptive timeout. Zero is refused.
    pub fn max_missed(mut self, max_missed: u32) -> Self {
        self.max_missed = Some(max_missed);
        self
    }

    /// The close frame that is sent after a pong timeout. After a write timeout it is sent only where there is
    /// a sink of its own for it ([`close_to`](crate::Pinger::close_to)), as the other sink could not even
    /// take the ping.
    ///
    /// Default: [`CloseReason::ping_timeout`].
    pub fn close(mut self, close: CloseReason) -> Self {
        self.close = Some(close);
        self
    }

    /// Sends no close frame, so that the verdict comes at once.
    pub fn no_close(mut self) -> Self {
        self.close = None;
        self
    }

    /// The time that the close frame may take to be written, from the verdict on.
    ///
    /// Default: 1 s. Zero is refused ([`no_close`](Self::no_close) sends none).
    pub fn close_timeout(mut self, close_timeout: Duration) -> Self {
        self.close_timeout = close_timeout;
        self
    }

    /// The time that the connection of a [`KeepAlive`](crate::KeepAlive) has to end after a close frame,
    /// sent or read (RFC 6455 §7.1.1 leaves that open). Then the stream ends. [`Duration::MAX`] is never.
    ///
    /// Default: 10 s. Zero is refused.
    pub fn closing_handshake(mut self, closing_handshake: Duration) -> Self {
        self.closing_handshake = closing_handshake;
        self
    }

    /// The time by which bytes that move may extend a deadline of a ping, in all, where the heartbeat has a
    /// [`Meter`](crate::Meter). Bytes that come in extend the wait for the pong, and bytes that go out
    /// extend the wait for the sink. With [`watch`](Self::watch) bytes that come in extend the time of
    /// silence. Without a meter the option changes nothing.
    ///
    /// Choose the time that your largest message takes on the slowest line. With [`Duration::MAX`] bytes that
    /// move put a verdict off without end, and with zero they extend nothing.
    ///
    /// Default: the timeout, or the end of the adaptive range; without a timeout, the write timeout.
    pub fn progress(mut self, progress: Duration) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The largest share by which each wait for a ping, the first included, is shortened at random, so that
    /// many heartbeats that start together do not stay together.
    ///
    /// Default: 0.0. A value that is not between 0.0 and 1.0 is refused.
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = Some(jitter);
        self
    }

    /// What counts as an answer to a ping.
    ///
    /// Default: [`Liveness::Pong`], the strictest. A `max_unproven` of zero is refused.
    pub fn liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = Some(liveness);
        self
    }

    /// Whether a stall of this process (a blocked executor, a stopped process, a sleeping machine)
    /// that hides a deadline extends this deadline, so that the peer's answer can still be read. With `false`
    /// the time in which the heartbeat was not polled counts as the peer's silence. What has arrived is still
    /// read first; the exception is a `Pinger` beside an attached reader whose task has used up its share of
    /// the runtime.
    ///
    /// Default: true. See the [module docs](crate::heartbeat) for the rule.
    pub fn stall_grace(mut self, stall_grace: bool) -> Self {
        self.stall_grace = stall_grace;
        self
    }

    /// The step of a process-wide grid to which wake-ups are rounded up, so that many heartbeats share
    /// one wake-up. Rounding makes nothing early, and nothing late by more than a step. Zero rounds nothing.
    ///
    /// A stall of this process that is no longer than a step or two cannot be told from rounding. For the
    /// full effect of [`stall_grace`](Self::stall_grace) keep the step well below an eighth of the
    /// timeouts, as the default does.
    ///
    /// Default: 100 ms, or a 64th of the shortest duration set here if that is less (with the
    /// default close timeout of 1 s: 15.625 ms).
    pub fn granularity(mut self, granularity: Duration) -> Self {
        self.granularity = Some(granularity);
        self
    }

    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], with the option's name and value, for the first that is refused.
    pub fn build(self) -> Result<Config, InvalidConfig> {
        self.refuse_pings_beside_watch()?;
        let watches = self.watch.is_some();
        let within = self.watch.map_or(Duration::MAX, |watch| watch.within);
        let interval = self.interval.unwrap_or(if watches {
            Duration::MAX
        } else {
            DEFAULT_INTERVAL
        });
        let (initial_delay, at_random) = match self.initial_delay {
            Some(InitialDelay::Fixed(delay)) => (delay, false),
            at_random => (interval, at_random.is_some()),
        };
        let timeout = self.timeout.clone().unwrap_or(if watches {
            Timeout::Never
        } else {
            Timeout::Fixed(DEFAULT_TIMEOUT)
        });
        // Where no pings are sent, a write may take no longer than silence may last.
        let write_timeout = self.write_timeout.unwrap_or(timeout.end().min(within));
        let progress = self.progress.unwrap_or(match timeout {
            Timeout::Never => write_timeout,
            _ => timeout.end(),
        });
        let jitter = self.jitter.unwrap_or(0.0);
        let liveness = self.liveness.unwrap_or(if watches {
            // Whatever the peer sends counts, for ever.
            Liveness::Traffic {
                max_unproven: Duration::MAX,
            }
        } else {
            Liveness::Pong
        });

        if let Some(watch) = self.watch {
            longer_than_zero(watch.option(), within)?;
        }
        longer_than_zero("interval", interval)?;
        match &timeout {
            Timeout::Fixed(timeout) => longer_than_zero("timeout", *timeout)?,
            Timeout::Adaptive(range) if range.is_empty() => {
                let rule = "the range must not end before it starts";
                return Err(refused("adaptive_timeout", format!("{range:?}"), rule));
            }
            Timeout::Adaptive(range) if range.start().is_zero() => {
                let rule = "the range must start above zero";
                return Err(refused("adaptive_timeout", format!("{range:?}"), rule));
            }
            Timeout::Adaptive(_) | Timeout::Never => {}
        }
        longer_than_zero("write_timeout", write_timeout)?;
        longer_than_zero("close_timeout", self.close_timeout)?;
        longer_than_zero("closing_handshake", self.closing_handshake)?;
        if let Some(max_unproven) = liveness.max_unproven() {
            longer_than_zero("max_unproven", max_unproven)?;
        }
        if self.max_missed == Some(0) {
            return Err(refused("max_missed", "0".into(), "must be at least 1"));
        }
        // NaN lies in no range, so this check refuses it as well.
        if !(0.0..=1.0).contains(&jitter) {
            let value = format!("{jitter:?}");
            return Err(refused("jitter", value, "must be between 0 and 1"));
        }

        let max_missed = self.max_missed.unwrap_or(match timeout {
            Timeout::Adaptive(_) => DEFAULT_MAX_MISSED_ADAPTIVE,
            Timeout::Fixed(_) | Timeout::Never => DEFAULT_MAX_MISSED,
        });
        let granularity = self.granularity.unwrap_or_else(|| {
            let judged_after = match &timeout {
                Timeout::Adaptive(range) => *range.start(),
                other => other.end(),
            };
            default_granularity([
                interval,
                initial_delay,
                judged_after,
                write_timeout,
                within,
                self.close_timeout,
                liveness.max_unproven().unwrap_or(Duration::MAX),
            ])
        });
        Ok(Config(Arc::new(Options {
            spans: Spans {
                interval: interval.into(),
                initial_delay: initial_delay.into(),
                timeout: timeout.spans(),
                write_timeout: write_timeout.into(),
                close_timeout: self.close_timeout.into(),
                closing_handshake: self.closing_handshake.into(),
                progress: progress.into(),
                granularity: granularity.into(),
                within: within.into(),
            },
            interval,
            initial_delay,
            initial_delay_at_random: at_random,
            watch: self.watch,
            timeout,
            write_timeout,
            max_missed,
            close: self.close,
            close_timeout: self.close_timeout,
            closing_handshake: self.closing_handshake,
            progress,
            // The check lets -0.0 pass; it is kept as 0.0.
            jitter: jitter.abs(),
            liveness,
            stall_grace: self.stall_grace,
            granularity,
        })))
    }

    /// Refuses the options that are about pings where no pings are sent: an option that is ignored would
    /// promise what the heartbeat does not do.
    fn refuse_pings_beside_watch(&self) -> Result<(), InvalidConfig> {
        let Some(watch) = self.watch else {
            return Ok(());
        };
        let initial_delay = self.initial_delay.map(|delay| match delay {
            InitialDelay::Fixed(delay) => ("initial_delay", format!("{delay:?}")),
            InitialDelay::AtRandom => ("initial_delay_at_random", "true".into()),
        });
        let timeout = self.timeout.as_ref().map(|timeout| match timeout {
            Timeout::Fixed(timeout) => ("timeout", format!("{timeout:?}")),
            Timeout::Adaptive(range) => ("adaptive_timeout", format!("{range:?}")),
            Timeout::Never => ("no_timeout", "true".into()),
        });
        let set = (self
            .interval
            .map(|interval| ("interval", format!("{interval:?}"))))
        .or(initial_delay)
        .or(timeout)
        .or(self.max_missed.map(|max| ("max_missed", max.to_string())))
        .or(self.jitter.map(|jitter| ("jitter", format!("{jitter:?}"))))
        .or(self
            .liveness
            .map(|liveness| ("liveness", format!("{liveness:?}"))));
        match set {
            Some((option, value)) => {
                let rule = if watch.pings_only {
                    "must not be set beside watch_pings, which sends no pings"
                } else {
                    "must not be set beside watch, which sends no pings"
                };
                Err(refused(option, value, rule))
            }
            None => Ok(()),
        }
    }
}

fn default_granularity(waits: [Duration; 7]) -> Duration {
    let waits = waits.into_iter();
    // An initial delay of zero is "at once", not a wait to be precise about.
    waits
        .filter(|wait| !wait.is_zero())
        .map(|wait| wait / 64)
        .fold(MAX_DEFAULT_GRANULARITY, Duration::min)
}

fn longer_than_zero(option: &'static str, duration: Duration) -> Result<(), InvalidConfig> {
    if duration.is_zero() {
        let value = format!("{duration:?}");
        return Err(refused(option, value, "must be longer than zero"));
    }
    Ok(())
}

fn refused(option: &'static str, value: String, rule: &'static str) -> InvalidConfig {
    InvalidConfig::new(option, value, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    // contract: D28
    #[test]
    fn each_bad_value_is_refused_by_name_and_value() {
        let b = Config::builder;
        let unproven = Liveness::Activity {
            max_unproven: Duration::ZERO,
        };
        let bad = [
            (b().interval(Duration::ZERO), "interval", "0ns"),
            (b().timeout(Duration::ZERO), "timeout", "0ns"),
            (b().write_timeout(Duration::ZERO), "write_timeout", "0ns"),
            (b().close_timeout(Duration::ZERO), "close_timeout", "0ns"),
            (
                b().closing_handshake(Duration::ZERO),
                "closing_handshake",
                "0ns",
            ),
            (b().liveness(unproven), "max_unproven", "0ns"),
            (b().max_missed(0), "max_missed", "0"),
            (b().jitter(-0.1), "jitter", "-0.1"),
            (b().jitter(1.1), "jitter", "1.1"),
            (b().jitter(f64::NAN), "jitter", "NaN"),
            (b().jitter(f64::INFINITY), "jitter", "inf"),
            (
                #[allow(clippy::reversed_empty_ranges)]
                b().adaptive_timeout(2 * SECOND..=SECOND),
                "adaptive_timeout",
                "2s..=1s",
            ),
            (
                b().adaptive_timeout(Duration::ZERO..=SECOND),
                "adaptive_timeout",
                "0ns..=1s",
            ),
        ];
        for (builder, option, value) in bad {
            let error = builder.build().expect_err(option);
            assert_eq!((error.option(), error.value()), (option, value));
            let text = error.to_string();
            assert!(text.contains(option) && text.contains(value), "{text}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_docs() {
        let config = Config::default();
        assert_eq!(config, Config::builder().build().expect("valid"));
        assert_eq!(config.interval(), 15 * SECOND);
        assert_eq!(config.initial_delay(), 15 * SECOND);
        assert_eq!(config.timeout(), Some(20 * SECOND));
        assert_eq!(config.adaptive_timeout(), None);
        assert_eq!(config.write_timeout(), 20 * SECOND);
        assert_eq!(config.progress(), 20 * SECOND);
        assert_eq!(config.max_missed(), 1);
        assert_eq!(config.close(), Some(&CloseReason::ping_timeout()));
        assert_eq!(config.close_timeout(), SECOND);
        assert!(config.jitter() == 0.0 && config.stall_grace());
        assert_eq!(config.liveness(), Liveness::Pong);
        assert_eq!(config.granularity(), Duration::from_micros(15_625));
    }

    #[test]
    fn dependent_defaults_follow_what_is_set() {
        let build = |b: ConfigBuilder| b.build().expect("valid");
        let b = Config::builder;

        let adaptive = build(b().adaptive_timeout(SECOND..=9 * SECOND));
        assert_eq!(adaptive.write_timeout(), 9 * SECOND);
        assert_eq!(adaptive.progress(), 9 * SECOND);
        assert_eq!(adaptive.max_missed(), 3);
        assert_eq!(adaptive.timeout(), None);

        let pings_only = build(b().no_timeout());
        assert_eq!(pings_only.write_timeout(), Duration::MAX);
        assert!(!pings_only.judges_pongs());
        let writes_only = build(b().no_timeout().write_timeout(7 * SECOND));
        assert_eq!(writes_only.progress(), 7 * SECOND);

        let coarse = b().close_timeout(20 * SECOND);
        assert_eq!(
            build(coarse.clone()).granularity(),
            Duration::from_millis(100)
        );
        let at_once = build(coarse.initial_delay(Duration::ZERO));
        assert_eq!(at_once.granularity(), Duration::from_millis(100));
        let fine = build(b().timeout(Duration::from_millis(64)));
        assert_eq!(fine.granularity(), Duration::from_millis(1));
        let exact = build(b().granularity(Duration::ZERO));
        assert_eq!(exact.granularity(), Duration::ZERO);
    }

    #[test]
    fn the_later_of_two_rivals_wins() {
        let build = |b: ConfigBuilder| b.build().expect("valid");
        let b = Config::builder;
        let fixed = build(b().no_timeout().timeout(SECOND));
        assert_eq!(fixed.timeout(), Some(SECOND));
        let closes = build(b().no_close().close(CloseReason::ping_timeout()));
        assert!(closes.close().is_some());
    }
}
