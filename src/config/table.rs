//! A configuration as a table of its options, for the `serde` crate.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Config, Liveness, Timeout};
use crate::frame::CloseReason;

/// How [`Duration::MAX`] is written.
const NEVER: &str = "never";

/// The group of options that exclude each other, named after one of them. A table may set one option of
/// each group: a table has no order, so there is no later option that could win.
fn group(option: &str) -> &str {
    match option {
        "initial_delay_at_random" => "initial_delay",
        "watch_pings" => "watch",
        "adaptive_timeout" | "no_timeout" => "timeout",
        "no_close" => "close",
        other => other,
    }
}

/// Writes a table of all options that are in force: durations as `"15s"` or `"never"`, an adaptive timeout
/// as `"500ms..=20s"`, a close frame as `"1011 Ping timeout"`.
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_map(None)?;
        if let Some(watch) = self.0.watch {
            table.serialize_entry(watch.option(), &text(watch.within))?;
        } else {
            table.serialize_entry("interval", &text(self.interval()))?;
            if self.initial_delay_at_random() {
                table.serialize_entry("initial_delay_at_random", &true)?;
            } else {
                table.serialize_entry("initial_delay", &text(self.initial_delay()))?;
            }
            match &self.0.timeout {
                Timeout::Fixed(timeout) => table.serialize_entry("timeout", &text(*timeout))?,
                Timeout::Adaptive(range) => {
                    let range = format!("{}..={}", text(*range.start()), text(*range.end()));
                    table.serialize_entry("adaptive_timeout", &range)?;
                }
                Timeout::Never => table.serialize_entry("no_timeout", &true)?,
            }
            table.serialize_entry("max_missed", &self.max_missed())?;
            table.serialize_entry("jitter", &self.jitter())?;
            let liveness = match self.liveness() {
                Liveness::Pong => "pong",
                Liveness::AnyPong => "any_pong",
                Liveness::Activity { .. } => "activity",
                Liveness::Traffic { .. } => "traffic",
            };
            table.serialize_entry("liveness", liveness)?;
            if let Some(max_unproven) = self.liveness().max_unproven() {
                table.serialize_entry("max_unproven", &text(max_unproven))?;
            }
        }
        match self.close() {
            Some(close) => {
                let close = format!("{} {}", close.code(), close.reason());
                table.serialize_entry("close", &close)?;
            }
            None => table.serialize_entry("no_close", &true)?,
        }
        table.serialize_entry("write_timeout", &text(self.write_timeout()))?;
        table.serialize_entry("close_timeout", &text(self.close_timeout()))?;
        table.serialize_entry("closing_handshake", &text(self.closing_handshake()))?;
        table.serialize_entry("progress", &text(self.progress()))?;
        table.serialize_entry("stall_grace", &self.stall_grace())?;
        table.serialize_entry("granularity", &text(self.granularity()))?;
        table.end()
    }
}

/// Reads a table of some options; the others have their defaults. An option that is unknown, one that
/// another excludes, and a value that [`build`](crate::ConfigBuilder::build) refuses are errors that name
/// the option.
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of the options of a heartbeat")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut builder = Config::builder();
        let mut set = Vec::<String>::new();
        let (mut liveness, mut max_unproven) = (None, None);
        while let Some(option) = map.next_key::<String>()? {
            let (name, map) = (option.as_str(), &mut map);
            if let Some(other) = set.iter().find(|other| group(other) == group(name)) {
                let rule = format!("must not be set beside {other}");
                return Err(invalid(name, rule));
            }
            builder = match name {
                "interval" => builder.interval(parsed(name, map, time)?),
                "initial_delay" => builder.initial_delay(parsed(name, map, time)?),
                "initial_delay_at_random" if value(name, map)? => builder.initial_delay_at_random(),
                "watch" => builder.watch(parsed(name, map, time)?),
                "watch_pings" => builder.watch_pings(parsed(name, map, time)?),
                "timeout" => builder.timeout(parsed(name, map, time)?),
                "adaptive_timeout" => builder.adaptive_timeout(parsed(name, map, range)?),
                "no_timeout" if value(name, map)? => builder.no_timeout(),
                "write_timeout" => builder.write_timeout(parsed(name, map, time)?),
                "max_missed" => builder.max_missed(value(name, map)?),
                "close" => builder.close(parsed(name, map, close_reason)?),
                "no_close" if value(name, map)? => builder.no_close(),
                "close_timeout" => builder.close_timeout(parsed(name, map, time)?),
                "closing_handshake" => builder.closing_handshake(parsed(name, map, time)?),
                "progress" => builder.progress(parsed(name, map, time)?),
                "jitter" => builder.jitter(value(name, map)?),
                "stall_grace" => builder.stall_grace(value(name, map)?),
                "granularity" => builder.granularity(parsed(name, map, time)?),
                "liveness" => {
                    liveness = Some(value::<_, String>(name, map)?);
                    builder
                }
                "max_unproven" => {
                    max_unproven = Some(parsed(name, map, time)?);
                    builder
                }
                // `false` for one of these options is the same as leaving the option out.
                "initial_delay_at_random" | "no_timeout" | "no_close" => continue,
                _ => return Err(invalid(name, "there is no such option")),
            };
            set.push(option);
        }
        if liveness.is_some() || max_unproven.is_some() {
            let liveness = liveness.as_deref().unwrap_or("pong");
            builder = builder.liveness(liveness_of(liveness, max_unproven)?);
        }
        builder.build().map_err(de::Error::custom)
    }
}

fn invalid<E: de::Error>(option: &str, why: impl Display) -> E {
    E::custom(format_args!("invalid {option}: {why}"))
}

/// Reads the next value of the table; an error names the option.
fn value<'de, A: MapAccess<'de>, V: Deserialize<'de>>(
    option: &str,
    map: &mut A,
) -> Result<V, A::Error> {
    map.next_value().map_err(|error| invalid(option, error))
}

fn parsed<'de, A: MapAccess<'de>, V>(
    option: &str,
    map: &mut A,
    parse: impl FnOnce(&str) -> Result<V, String>,
) -> Result<V, A::Error> {
    let text: String = value(option, map)?;
    parse(&text).map_err(|why| invalid(option, format_args!("{text:?}: {why}")))
}

fn text(duration: Duration) -> String {
    match duration {
        Duration::MAX => NEVER.into(),
        _ => humantime::format_duration(duration).to_string(),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match text {
        NEVER => Ok(Duration::MAX),
        _ => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

fn range(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let ends = text.split_once("..=");
    let (start, end) = ends.ok_or("must be a range such as \"500ms..=20s\"")?;
    Ok(time(start.trim())?..=time(end.trim())?)
}

fn close_reason(text: &str) -> Result<CloseReason, String> {
    let (code, reason) = text.split_once(' ').unwrap_or((text, ""));
    let code = code.parse::<u16>();
    let code = code.map_err(|_| "must be a code and a reason, such as \"1011 Ping timeout\"")?;
    CloseReason::new(code, reason).map_err(|error| error.to_string())
}

fn liveness_of<E: de::Error>(
    liveness: &str,
    max_unproven: Option<Duration>,
) -> Result<Liveness, E> {
    match (liveness, max_unproven) {
        ("pong", None) => Ok(Liveness::Pong),
        ("any_pong", None) => Ok(Liveness::AnyPong),
        ("activity", Some(max_unproven)) => Ok(Liveness::Activity { max_unproven }),
        ("traffic", Some(max_unproven)) => Ok(Liveness::Traffic { max_unproven }),
        ("activity" | "traffic", None) => {
            Err(invalid("max_unproven", "must be set with this liveness"))
        }
        ("pong" | "any_pong", Some(_)) => {
            let rule = format!("must not be set with the liveness {liveness:?}");
            Err(invalid("max_unproven", rule))
        }
        _ => {
            let rule = "must be \"pong\", \"any_pong\", \"activity\" or \"traffic\"";
            Err(invalid("liveness", format_args!("{liveness:?}: {rule}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ConfigBuilder;

    fn read(json: &str) -> Result<Config, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_longest_time_is_written_as_never() {
        let config = Config::builder().interval(Duration::MAX);
        let table = serde_json::to_value(config.build().expect("valid")).expect("a table");
        assert_eq!(table["interval"], "never");
    }

    #[test]
    fn a_table_has_all_options_in_force_by_name() {
        let table = serde_json::to_value(Config::default()).expect("a table");
        assert_eq!(
            table,
            serde_json::json!({
                "interval": "15s",
                "initial_delay": "15s",
                "timeout": "20s",
                "max_missed": 1,
                "jitter": 0.0,
                "liveness": "pong",
                "close": "1011 Ping timeout",
                "write_timeout": "20s",
                "close_timeout": "1s",
                "closing_handshake": "10s",
                "progress": "20s",
                "stall_grace": true,
                "granularity": "15ms 625us",
            })
        );
    }

    #[test]
    fn what_a_table_leaves_out_has_its_default() {
        assert_eq!(read("{}"), Ok(Config::default()));
        let config = read(
            r#"{"interval": "30s", "initial_delay_at_random": true, "no_timeout": false,
                "adaptive_timeout": "500ms..=20s", "close": "3000", "max_unproven": "2m",
                "liveness": "traffic", "closing_handshake": "never"}"#,
        );
        let config = config.expect("valid");
        let second = Duration::from_secs(1);
        assert_eq!(config.interval(), 30 * second);
        assert!(config.initial_delay_at_random());
        assert_eq!(config.adaptive_timeout(), Some(second / 2..=20 * second));
        assert_eq!(config.max_missed(), 3);
        let max_unproven = 120 * second;
        assert_eq!(config.liveness(), Liveness::Traffic { max_unproven });
        assert_eq!(config.close().map(CloseReason::code), Some(3000));
        assert_eq!(config.closing_handshake(), Duration::MAX);
        let watch = read(r#"{"watch_pings": "45s"}"#).expect("valid");
        assert_eq!(watch.watch_pings(), Some(45 * second));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_the_option() {
        for (table, error) in [
            (
                r#"{"period": "1s"}"#,
                "invalid period: there is no such option",
            ),
            (
                r#"{"interval": "0s"}"#,
                "invalid interval 0ns: must be longer",
            ),
            (r#"{"interval": "soon"}"#, "invalid interval: \"soon\": "),
            (
                r#"{"interval": 15}"#,
                "invalid interval: invalid type: integer `15`",
            ),
            (r#"{"jitter": 1.5}"#, "invalid jitter 1.5: must be between"),
            (r#"{"jitter": "much"}"#, "invalid jitter: invalid type"),
            (r#"{"max_missed": -1}"#, "invalid max_missed: invalid value"),
            (r#"{"no_close": 1}"#, "invalid no_close: invalid type"),
            (
                r#"{"close": "1006 gone"}"#,
                "invalid close: \"1006 gone\": close code 1006",
            ),
            (
                r#"{"close": "gone"}"#,
                "invalid close: \"gone\": must be a code",
            ),
            (
                r#"{"adaptive_timeout": "1s"}"#,
                "invalid adaptive_timeout: \"1s\": must be a",
            ),
            (
                r#"{"adaptive_timeout": "2s..=1s"}"#,
                "invalid adaptive_timeout 2s..=1s: ",
            ),
            (
                r#"{"liveness": "ping"}"#,
                "invalid liveness: \"ping\": must be \"pong\"",
            ),
            (
                r#"{"liveness": "activity"}"#,
                "invalid max_unproven: must be set",
            ),
            (
                r#"{"max_unproven": "1s"}"#,
                "invalid max_unproven: must not be set with",
            ),
            (
                r#"{"liveness": "traffic", "max_unproven": "0s"}"#,
                "invalid max_unproven 0ns: must be longer",
            ),
            (
                r#"{"timeout": "1s", "no_timeout": true}"#,
                "invalid no_timeout: must not be set beside timeout",
            ),
            (
                r#"{"watch": "1s", "watch_pings": "1s"}"#,
                "invalid watch_pings: must not be set beside watch",
            ),
            (
                r#"{"interval": "1s", "interval": "2s"}"#,
                "invalid interval: must not be set beside interval",
            ),
            (
                r#"{"watch": "30s", "timeout": "2s"}"#,
                "invalid timeout 2s: must not be set beside watch",
            ),
            ("[]", "expected a table of the options of a heartbeat"),
        ] {
            let said = read(table).expect_err(table);
            assert!(said.contains(error), "{table}: {said}");
        }
    }

    fn any_time() -> impl Strategy<Value = Duration> {
        prop_oneof![
            4 => (1..10_000_u64).prop_map(Duration::from_millis),
            2 => (1..u64::MAX, 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
            1 => (1..u64::MAX).prop_map(Duration::from_nanos),
            1 => Just(Duration::MAX),
        ]
    }

    fn any_liveness() -> impl Strategy<Value = Liveness> {
        prop_oneof![
            Just(Liveness::Pong),
            Just(Liveness::AnyPong),
            any_time().prop_map(|max_unproven| Liveness::Activity { max_unproven }),
            any_time().prop_map(|max_unproven| Liveness::Traffic { max_unproven }),
        ]
    }

    fn any_builder() -> impl Strategy<Value = ConfigBuilder> {
        let pings = (
            prop::option::of(any_time()),
            prop_oneof![
                Just(None),
                Just(Some(None)),
                prop_oneof![Just(Duration::ZERO), any_time()].prop_map(|delay| Some(Some(delay))),
            ],
            0..4_u8,
            (any_time(), any_time()),
            prop::option::of(1..u32::MAX),
            // All of these are exact in decimals.
            prop::option::of((0..=256_u32).prop_map(|share| f64::from(share) / 256.0)),
            prop::option::of(any_liveness()),
        );
        let pings = pings.prop_map(
            |(interval, delay, kind, (a, b), missed, jitter, liveness)| {
                let builder = Config::builder();
                let builder = interval.into_iter().fold(builder, ConfigBuilder::interval);
                let builder = match delay {
                    None => builder,
                    Some(None) => builder.initial_delay_at_random(),
                    Some(Some(delay)) => builder.initial_delay(delay),
                };
                let builder = match kind {
                    0 => builder,
                    1 => builder.timeout(a),
                    2 => builder.adaptive_timeout(a.min(b)..=a.max(b)),
                    _ => builder.no_timeout(),
                };
                let builder = missed.into_iter().fold(builder, ConfigBuilder::max_missed);
                let builder = jitter.into_iter().fold(builder, ConfigBuilder::jitter);
                liveness.into_iter().fold(builder, ConfigBuilder::liveness)
            },
        );
        let watch = (any_time(), any::<bool>()).prop_map(|(within, pings)| match pings {
            true => Config::builder().watch_pings(within),
            false => Config::builder().watch(within),
        });
        let rest = (
            prop::option::of(prop::option::of((3000..5000_u16, " ?[a-zü ]{0,40}"))),
            prop::option::of(any_time()),
            prop::option::of(any_time()),
            prop::option::of(any_time()),
            prop::option::of(prop_oneof![Just(Duration::ZERO), any_time()]),
            any::<bool>(),
            prop::option::of(prop_oneof![Just(Duration::ZERO), any_time()]),
        );
        (prop_oneof![4 => pings.boxed(), 1 => watch.boxed()], rest).prop_map(
            |(builder, (close, write, frame, handshake, progress, grace, granularity))| {
                let builder = match close {
                    None => builder,
                    Some(None) => builder.no_close(),
                    Some(Some((code, reason))) => {
                        builder.close(CloseReason::new(code, reason).expect("valid"))
                    }
                };
                let builder = write
                    .into_iter()
                    .fold(builder, ConfigBuilder::write_timeout);
                let builder = frame
                    .into_iter()
                    .fold(builder, ConfigBuilder::close_timeout);
                let times = handshake.into_iter();
                let builder = times.fold(builder, ConfigBuilder::closing_handshake);
                let builder = progress.into_iter().fold(builder, ConfigBuilder::progress);
                let times = granularity.into_iter();
                let builder = times.fold(builder, ConfigBuilder::granularity);
                builder.stall_grace(grace)
            },
        )
    }

    proptest! {
        #[test]
        fn a_configuration_goes_through_a_table_and_back(builder in any_builder()) {
            let config = builder.build().expect("valid");
            let text = serde_json::to_string(&config).expect("a table");
            prop_assert_eq!(read(&text), Ok(config.clone()), "{}", text);
            let value = serde_json::to_value(&config).expect("a table");
            prop_assert_eq!(serde_json::from_value::<Config>(value).ok(), Some(config));
        }
    }
}
