//! What an operator sees of a heartbeat: a span, and the events in it that the [guide's
//! chapter](crate::guide::tracing) lists. Without the feature `tracing` a [`Trace`] has no size and no code.

use std::fmt;
#[cfg(feature = "tracing")]
use std::panic::AssertUnwindSafe;

use crate::config::Config;
use crate::machine::Events;
#[cfg(feature = "tracing")]
use crate::{machine::Event, time::Span};

#[cfg(feature = "tracing")]
const TARGET: &str = "futures_pinger";

#[cfg(feature = "tracing")]
/// The shortest lateness that is worth an event: the timers themselves may cause less.
const MIN_LATENESS: Span = Span::nanos(1_000_000);

/// An event in the heartbeat's span.
///
/// The span is entered for the event rather than named as its parent: where the span itself is not
/// recorded, the event is still within the caller's span. The span is not entered for an event that no
/// subscriber wants.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($trace:ident, $level:ident, $($fields:tt)+) => {
        if tracing::event_enabled!(target: TARGET, tracing::Level::$level, $($fields)+) {
            $trace.span.in_scope(|| {
                tracing::event!(target: TARGET, tracing::Level::$level, $($fields)+);
            });
        }
    };
}

#[cfg(feature = "tracing")]
/// A span or an event with the options that decide when a dead peer is found.
macro_rules! with_options {
    ($config:ident, $macro:ident! $($head:tt)+) => {
        $macro!(
            $($head)+
            interval = (!$config.watches()).then(|| tracing::field::debug($config.interval())),
            timeout = $config.timeout().map(tracing::field::debug),
            adaptive_timeout = $config.adaptive_timeout().map(tracing::field::debug),
            write_timeout = ?$config.write_timeout(),
            max_missed = (!$config.watches()).then(|| $config.max_missed()),
            liveness = (!$config.watches()).then(|| tracing::field::debug($config.liveness())),
            watch = $config.watch().map(tracing::field::debug),
            watch_pings = $config.watch_pings().map(tracing::field::debug),
        )
    };
}

/// The span of one heartbeat, for as long as it lives.
pub(crate) struct Trace {
    // `AssertUnwindSafe` holds because events only go into a span: nothing reads a state back from it that
    // a panic could have left half changed.
    #[cfg(feature = "tracing")]
    span: AssertUnwindSafe<tracing::Span>,
}

#[cfg_attr(
    not(feature = "tracing"),
    allow(
        unused_variables,
        clippy::unused_self,
        clippy::missing_const_for_fn,
        clippy::needless_pass_by_value
    )
)]
impl Trace {
    /// Opens the span of a heartbeat, as a child of the current span.
    #[inline]
    pub(crate) fn new(config: &Config) -> Self {
        #[cfg(feature = "tracing")]
        use tracing::warn_span;

        Self {
            // The span has the level of its gravest event, so that it is recorded wherever one of its events is.
            #[cfg(feature = "tracing")]
            span: AssertUnwindSafe(with_options!(config, warn_span! target: TARGET, "heartbeat",)),
        }
    }

    /// Tells the subscriber what has happened. A subscriber is foreign code: no lock may be held.
    #[inline]
    pub(crate) fn tell(&self, events: Events) {
        #[cfg(feature = "tracing")]
        events
            .into_list()
            .into_iter()
            .for_each(|event| self.tell_one(&event));
    }

    #[cfg(feature = "tracing")]
    fn tell_one(&self, event: &Event) {
        match event {
            Event::Ping { sequence, cause } => {
                event!(self, TRACE, sequence, ?cause, "ping");
            }
            Event::Pong { sequence, rtt } => {
                event!(self, TRACE, sequence, rtt = ?rtt.to_duration(), "pong");
            }
            Event::AnsweredByPolicy { sequence } => {
                event!(self, TRACE, sequence, "answered by policy");
            }
            Event::StrayPongs(strays) => event!(
                self,
                DEBUG,
                unsolicited = strays.unsolicited,
                stale = strays.stale,
                "stray pongs"
            ),
            Event::LateWake(lateness) if *lateness < MIN_LATENESS => {}
            Event::LateWake(lateness) => {
                event!(self, DEBUG, lateness = ?lateness.to_duration(), "late wake");
            }
            Event::Missed {
                sequence,
                elapsed,
                missed,
            } => {
                event!(self, DEBUG, sequence, elapsed = ?elapsed.to_duration(), missed, "ping missed");
            }
            Event::WrittenOff { sequence } => {
                event!(self, DEBUG, sequence, "ping written off");
            }
            Event::Paused => event!(self, DEBUG, "paused"),
            Event::Resumed => event!(self, DEBUG, "resumed"),
            Event::Configured(config) => {
                with_options!(config, event! self, DEBUG, message = "new configuration",);
            }
            Event::Stopped => event!(self, DEBUG, "stopped"),
            Event::TimedOut(verdict) => event!(
                self,
                WARN,
                phase = ?verdict.phase(),
                elapsed = ?verdict.elapsed(),
                missed = verdict.missed(),
                answered = verdict.answered(),
                last_rtt = verdict.last_rtt().map(tracing::field::debug),
                lateness = ?verdict.lateness(),
                unsolicited = verdict.unsolicited(),
                reader_away = ?verdict.reader_away(),
                close_sent = verdict.close_sent(),
                "the peer is gone"
            ),
        }
    }
}

/// Tells the subscriber that many members of a set were condemned at once, or would have been: `condemned` of
/// the `judged` members that were judged in the last second. The event has no span, as members have none.
#[cfg_attr(
    not(feature = "tracing"),
    allow(unused_variables, clippy::missing_const_for_fn)
)]
pub(crate) fn tell_mass_verdicts(condemned: u32, judged: u32) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, condemned, judged, "mass verdicts");
}

/// The text is the same with and without the feature.
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
