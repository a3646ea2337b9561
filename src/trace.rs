//! What an operator sees of a heartbeat: a span, and the events in it that the [crate
//! docs](crate#tracing) list. Without the feature `tracing` it is nothing: no size, no code.

use std::fmt;
#[cfg(feature = "tracing")]
use std::panic::AssertUnwindSafe;

use crate::config::Config;
use crate::error::TimedOut;
use crate::pulse::{Cause, Strays};
use crate::time::Span;

#[cfg(feature = "tracing")]
const TARGET: &str = "futures_pinger";

/// Lateness below it tells nothing: so much the timers themselves may take.
const TELLING: Span = Span::nanos(1_000_000);

/// An event in the heartbeat's span.
///
/// The span is entered for it rather than named as its parent: where the span itself is not
/// recorded, the event is still within the caller's. Nothing is entered for an event that nobody
/// wants.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($trace:ident, $level:ident, $($fields:tt)+) => {
        if let Some(span) = &$trace.span {
            if tracing::event_enabled!(target: TARGET, tracing::Level::$level, $($fields)+) {
                span.in_scope(|| {
                    tracing::event!(target: TARGET, tracing::Level::$level, $($fields)+);
                });
            }
        }
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($($event:tt)+) => {};
}

/// A span or an event with the options that tell when a dead peer is found.
macro_rules! with_options {
    ($config:ident, $macro:ident! $($head:tt)+) => {
        $macro!(
            $($head)+
            interval = ?$config.interval(),
            timeout = $config.timeout().map(tracing::field::debug),
            adaptive_timeout = $config.adaptive_timeout().map(tracing::field::debug),
            write_timeout = ?$config.write_timeout(),
            max_missed = $config.max_missed(),
            liveness = ?$config.liveness(),
        )
    };
}

/// The span of one heartbeat, for as long as it lives.
pub(crate) struct Trace {
    // Whatever panics, it leaves no half of a change here: a span is told of things, and asked
    // nothing.
    #[cfg(feature = "tracing")]
    span: Option<AssertUnwindSafe<tracing::Span>>,
}

#[cfg_attr(
    not(feature = "tracing"),
    allow(unused_variables, clippy::unused_self, clippy::missing_const_for_fn)
)]
impl Trace {
    /// A child of the span that is current.
    #[inline]
    pub(crate) fn new(config: &Config) -> Self {
        #[cfg(feature = "tracing")]
        use tracing::warn_span;

        Self {
            // At the level of the gravest event in it: wherever one is recorded, so is the span.
            #[cfg(feature = "tracing")]
            span: Some(AssertUnwindSafe(
                with_options!(config, warn_span! target: TARGET, "heartbeat",),
            )),
        }
    }

    /// Of one that is not traced.
    pub(crate) const fn silent() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: None,
        }
    }

    /// The sink has taken a ping.
    #[inline]
    pub(crate) fn ping(&self, sequence: u64, cause: Cause) {
        event!(self, TRACE, sequence, ?cause, "ping");
    }

    /// The newest ping's own pong.
    #[inline]
    pub(crate) fn pong(&self, sequence: u64, rtt: Span) {
        event!(self, TRACE, sequence, rtt = ?rtt.to_duration(), "pong");
    }

    /// Something else answered the newest ping.
    #[inline]
    pub(crate) fn answered_by_policy(&self, sequence: u64) {
        event!(self, TRACE, sequence, "answered by policy");
    }

    /// Pongs that answer nothing or too late: told whenever a total reaches another power of two,
    /// so that a flood without end is a few dozen events.
    #[inline]
    pub(crate) fn strays(&self, before: Strays, now: Strays) {
        let grown = |before: u64, now: u64| before.checked_ilog2() < now.checked_ilog2();
        if grown(before.unsolicited, now.unsolicited) || grown(before.stale, now.stale) {
            event!(
                self,
                DEBUG,
                unsolicited = now.unsolicited,
                stale = now.stale,
                "stray pongs"
            );
        }
    }

    /// This side looked at a deadline later than it had asked to.
    #[inline]
    pub(crate) fn late_wake(&self, lateness: Span) {
        if lateness >= TELLING {
            event!(self, DEBUG, lateness = ?lateness.to_duration(), "late wake");
        }
    }

    /// A ping that was not answered in time; so many in a row now.
    #[inline]
    pub(crate) fn miss(&self, sequence: u64, elapsed: Span, missed: u32) {
        event!(self, DEBUG, sequence, elapsed = ?elapsed.to_duration(), missed, "ping missed");
    }

    /// A ping without a timeout that was not answered before the next.
    #[inline]
    pub(crate) fn written_off(&self, sequence: u64) {
        event!(self, DEBUG, sequence, "ping written off");
    }

    #[inline]
    pub(crate) fn paused(&self) {
        event!(self, DEBUG, "paused");
    }

    #[inline]
    pub(crate) fn resumed(&self) {
        event!(self, DEBUG, "resumed");
    }

    #[inline]
    pub(crate) fn configured(&self, config: &Config) {
        with_options!(config, event! self, DEBUG, message = "new configuration",);
    }

    #[inline]
    pub(crate) fn stopped(&self) {
        event!(self, DEBUG, "stopped");
    }

    #[inline]
    pub(crate) fn timed_out(&self, verdict: &TimedOut) {
        event!(
            self,
            WARN,
            phase = ?verdict.phase(),
            elapsed = ?verdict.elapsed(),
            missed = verdict.missed(),
            answered = verdict.answered(),
            last_rtt = verdict.last_rtt().map(tracing::field::debug),
            lateness = ?verdict.lateness(),
            close_sent = verdict.close_sent(),
            "the peer is gone"
        );
    }
}

/// The same with and without the feature.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

#[cfg(all(test, not(feature = "tracing")))]
#[test]
fn without_the_feature_it_takes_no_room() {
    assert_eq!((size_of::<Trace>(), align_of::<Trace>()), (0, 1));
    assert!(!std::mem::needs_drop::<Trace>());
}
