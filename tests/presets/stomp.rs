//! P99, P100. STOMP: each end beats for itself.

use std::sync::Arc;
use std::time::Duration;

use futures_pinger::TimeoutPhase;
use futures_pinger::protocols::Stomp;
use tungstenite_0_30::Message;

use crate::cases::{DAY, Preset, Run, SURFACES, Surface, ms, s};

/// Ours, theirs, and how often we must send and may expect something, in seconds.
const BOTH: [(&str, &str, u64, u64); 4] = [
    ("10000,10000", "10000,10000", 10, 10),
    ("10000,10000", "3000,0", 0, 10),
    ("5000,60000", "60000,0", 0, 60),
    ("5000,60000", "60000,5000", 5, 60),
];

fn run(surface: Surface, ours: &str, theirs: &str) -> (Run, Duration) {
    let options = Stomp::config(ours, theirs)
        .expect("headers")
        .expect("beats");
    let options = options.granularity(Duration::ZERO);
    let bound = options.clone().build().expect("valid").detection_bound();
    let preset: Preset = Arc::new(Stomp::new());
    (
        Run::new(surface, &preset, options),
        bound.expect("they send"),
    )
}

// contract: P99
#[test]
fn a_peer_that_beats_for_itself_lives_for_a_day_and_hears_from_us_as_often_as_it_wants() {
    for (ours, theirs, sent_each, sends_each) in BOTH {
        for surface in SURFACES {
            for says in ["\n", "\r\n", "MESSAGE\ndestination:/a\n\nbody\0"] {
                let (run, _) = run(surface, ours, theirs);
                // As late as the error margin allows.
                run.says(s(sends_each) * 19 / 10, says);
                run.run_until(DAY);
                assert_eq!(
                    run.verdict(),
                    None,
                    "{ours}, {theirs}, {surface:?}, {says:?}"
                );
                assert_eq!(run.stats().latest_rtt(), None, "a beat is no answer");
                assert!(
                    run.read()
                        .iter()
                        .all(|message| *message == Message::text(says))
                );
                let sent = run.sent();
                assert_eq!(sent.is_empty(), sent_each == 0);
                let mut last = Duration::ZERO;
                for (at, message) in sent {
                    assert_eq!(message, Message::text("\n"));
                    assert!(
                        at <= last + s(sent_each),
                        "{ours}, {theirs}: from {last:?} to {at:?}"
                    );
                    last = at;
                }
                assert!(sent_each == 0 || DAY <= last + s(sent_each));
            }
        }
    }
}

// contract: P99 P100
#[test]
fn a_peer_that_falls_silent_is_found_and_not_before_its_margin_is_over() {
    for (ours, theirs, sent_each, sends_each) in BOTH {
        for surface in SURFACES {
            let (run, bound) = run(surface, ours, theirs);
            let peer = run.script.clone();
            let last = s(sends_each);
            run.world
                .at(last, move || peer.receive(Message::text("\n")));
            run.run_until(last + bound + ms(1));
            let (at, phase) = run.verdict().expect("it is silent");
            assert!(
                at >= last + 2 * s(sends_each),
                "{ours}, {theirs}, {surface:?}: {at:?}"
            );
            let expected = match sent_each {
                0 => TimeoutPhase::Silence,
                _ => TimeoutPhase::Pong,
            };
            assert_eq!(phase, expected);
        }
    }
}

// A sink that is blocked is no reason to give up before the peer's silence would be.
// contract: P99
#[test]
fn a_write_may_take_as_long_as_the_peer_may_be_silent() {
    for (ours, theirs, seconds) in [
        ("1000,60000", "60000,1000", 120),
        ("5000,60000", "60000,5000", 120),
        ("60000,1000", "1000,60000", 108),
    ] {
        let options = Stomp::config(ours, theirs)
            .expect("headers")
            .expect("beats");
        let config = options.build().expect("valid");
        assert_eq!(config.write_timeout(), s(seconds), "{ours}, {theirs}");
    }
}
