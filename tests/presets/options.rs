//! What presets are made of: bad input is refused by name, and headers become options.

use std::time::Duration;

use futures_pinger::protocols::{EngineIo, Json, Stomp, Text};
use futures_pinger::{Config, InvalidConfig, Liveness};

use crate::cases::{ms, s};

/// Name and value of what is refused.
fn refused<T: std::fmt::Debug>(result: Result<T, InvalidConfig>) -> (&'static str, String) {
    let error = result.expect_err("it is to be refused");
    let text = error.to_string();
    assert!(
        text.contains(error.option()) && text.contains(error.value()),
        "{text}"
    );
    (error.option(), error.value().into())
}

// contract: P103
#[test]
fn texts_that_make_no_heartbeat_are_refused_by_name_and_value() {
    let long = format!(r#"{{"type":"ping","text":"{}"}}"#, "x".repeat(1024));
    let (good, good_with_id) = (r#"{"type":"ping"}"#, r#"{"type":"ping","id":"$id"}"#);
    for bad in [
        "",
        "ping",
        "17",
        "\"$id\"",
        "{",
        r#"{"type":"ping"} x"#,
        r#"{"type":ping}"#,
        "{}",
        "[ ]",
        r#"{"id":"$id","also":"$id"}"#,
        r#"{"$id":1}"#,
        r#"{"$id":"$id"}"#,
        &long,
    ] {
        assert_eq!(refused(Json::new(bad, good)), ("ping", bad.into()));
        assert_eq!(refused(Json::new(good, bad)), ("pong", bad.into()));
    }
    assert_eq!(
        refused(Json::new(good, good_with_id)),
        ("pong", good_with_id.into())
    );
    assert!(
        Json::new(good_with_id, good).is_ok(),
        "the pong may leave it out"
    );
    assert!(Json::new(r#" [ 1 , "$id" ] "#, r#" [ 2 , "$id" ] "#).is_ok());

    for bad in ["", "$id", "$id $id"] {
        assert_eq!(refused(Text::new(bad, "pong")), ("ping", bad.into()));
        assert_eq!(refused(Text::new("ping", bad)), ("pong", bad.into()));
    }
    assert_eq!(
        refused(Text::new("ping", "pong $id")),
        ("pong", "pong $id".into())
    );
    assert!(
        Text::new("ping $id", "pong").is_ok(),
        "the pong may leave it out"
    );
}

// contract: P100
#[test]
fn a_client_of_engine_io_waits_as_long_as_the_server_says() {
    let watch = |open: &str| {
        let options = EngineIo::client_config(open)?;
        options
            .build()
            .map(|config| config.watch_pings().expect("it watches"))
    };
    let open =
        "0{ \"pingTimeout\" : 20000,\n\"sid\":\"x\", \"upgrades\":[], \"pingInterval\":25000 }";
    assert_eq!(watch(open), Ok(s(45)));
    let forever = format!(
        r#"0{{"pingInterval":{max},"pingTimeout":{max}}}"#,
        max = u64::MAX
    );
    assert!(watch(&forever).is_ok(), "it means never");

    for bad in [
        "",
        "0",
        "2",
        "4data",
        "0{",
        "0[] x",
        r#"{"pingInterval":1,"pingTimeout":1}"#,
    ] {
        assert_eq!(refused(watch(bad)), ("open", bad.into()));
    }
    for (interval, value) in [
        ("", "(none)"),
        (r#""pingInterval":"25000","#, r#""25000""#),
        (r#""pingInterval":-1,"#, "-1"),
        (r#""pingInterval":1.5,"#, "1.5"),
        (
            r#""pingInterval":18446744073709551616,"#,
            "18446744073709551616",
        ),
    ] {
        let open = format!(r#"0{{{interval}"pingTimeout":20000}}"#);
        assert_eq!(refused(watch(&open)), ("pingInterval", value.into()));
    }
    let open = r#"0{"pingInterval":25000}"#;
    assert_eq!(refused(watch(open)), ("pingTimeout", "(none)".into()));
    let open = r#"0{"pingInterval":0,"pingTimeout":0}"#;
    assert_eq!(refused(watch(open)), ("watch_pings", "0ns".into()));
}

// contract: P99
#[test]
fn two_headers_of_stomp_agree_on_what_both_can_do() {
    let config = |ours, theirs| -> Option<Config> {
        let options = Stomp::config(ours, theirs).expect("two headers")?;
        Some(options.build().expect("valid"))
    };
    for (ours, theirs) in [
        ("0,0", "0,0"),
        ("10,0", "10,0"),
        ("0,10", "0,10"),
        ("9,9", "0,0"),
    ] {
        assert_eq!(config(ours, theirs), None, "{ours} and {theirs}");
    }
    // We send: as often as they want, and no oftener than we can.
    for (ours, theirs, interval) in [
        ("10000,0", "0,5000", s(9)),
        ("5000,0", "0,10000", s(9)),
        (" 5000 , 0 ", "0,10000", s(9)),
        ("1,0", "7,1", Duration::from_micros(900)),
    ] {
        let config = config(ours, theirs).expect("beats of ours");
        assert_eq!((config.interval(), config.timeout()), (interval, None));
        assert_eq!(config.detection_bound(), None);
    }
    // They send: as often as we want, and no oftener than they can.
    for (ours, theirs) in [("0,10000", "5000,0"), ("0,5000", "10000,0")] {
        assert_eq!(
            config(ours, theirs).expect("beats of theirs").watch(),
            Some(s(20))
        );
    }
    // Both: the sum of the misses is what the peer may be silent.
    for (ours, theirs, interval, timeout, misses) in [
        ("10000,10000", "10000,10000", s(9), s(9), 3),
        ("10000,1000", "1000,10000", s(9), s(2), 1),
        ("1000,30000", "30000,1000", ms(900), ms(900), 67),
        ("4500,4500", "4500,0", ms(4050), ms(4050), 0),
    ] {
        let config = config(ours, theirs).expect("beats");
        if misses == 0 {
            assert_eq!(config.watch(), Some(s(9)));
            continue;
        }
        assert_eq!(
            (config.interval(), config.timeout()),
            (interval, Some(timeout))
        );
        assert_eq!(config.max_missed(), misses);
        let max_unproven = Duration::MAX;
        assert_eq!(config.liveness(), Liveness::Traffic { max_unproven });
        assert!(config.detection_bound().is_some());
    }

    for bad in [
        "",
        ",",
        "1",
        "1,",
        ",1",
        "a,b",
        "1,2,3",
        "-1,0",
        "1.5,0",
        "18446744073709551616,0",
    ] {
        assert_eq!(
            refused(Stomp::config(bad, "0,0")),
            ("heart-beat", bad.into())
        );
        assert_eq!(
            refused(Stomp::config("0,0", bad)),
            ("heart-beat", bad.into())
        );
    }
}
