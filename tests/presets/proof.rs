//! P103. An id in text is proof.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use futures_pinger::protocols::GraphqlWs;
use futures_pinger::{Liveness, MessageKind, Protocol, TimeoutPhase};
use tungstenite_0_30::Message;

use crate::cases::{DAY, Preset, Run, SURFACES, Surface, exact, ms, proven, s};

// contract: P103
#[test]
fn an_id_in_text_is_proof_for_a_day_and_measures_the_round_trip() {
    for case in proven() {
        for surface in SURFACES {
            let run = Run::new(surface, &case.preset, exact());
            run.peer(move |text| Some((case.answer)(text)));
            run.run_until(DAY);
            let (stats, name) = (run.stats(), case.name);
            assert_eq!(run.verdict(), None, "{name}, {surface:?}");
            assert!(
                (4316..=4320).contains(&stats.answered()),
                "{name}, {surface:?}: {stats:?}"
            );
            assert_eq!(
                (stats.missed(), stats.unsolicited()),
                (0, 0),
                "{name}, {surface:?}"
            );
            assert_eq!(stats.latest_rtt(), Some(ms(30)), "{name}, {surface:?}");
            assert_eq!(run.read(), [], "{name}, {surface:?}: pongs of ours");
            let sent = run.sent();
            let texts: HashSet<_> = sent
                .iter()
                .map(|(_, message)| message.to_string())
                .collect();
            assert_eq!(texts.len(), sent.len(), "{name}: each ping is another");
        }
    }
}

// contract: P103
#[test]
fn a_replayed_id_is_refused_and_reaches_the_application() {
    for case in proven() {
        for surface in SURFACES {
            let run = Run::new(surface, &case.preset, exact());
            let mut first = None;
            run.peer(move |text| Some(first.get_or_insert_with(|| (case.answer)(text)).clone()));
            run.run_until(s(100));
            // The ping of 40 s has no pong of its own.
            let verdict = Some((s(60), TimeoutPhase::Pong));
            assert_eq!(run.verdict(), verdict, "{}, {surface:?}", case.name);
            let stats = run.stats();
            assert_eq!(
                (stats.answered(), stats.unsolicited()),
                (1, 1),
                "{}, {surface:?}",
                case.name
            );
            assert_eq!(run.read().len(), 1, "{}, {surface:?}", case.name);
        }
    }
}

/// The id in a pong.
fn id(pong: &str) -> &str {
    let runs = pong.split(|c: char| !c.is_ascii_hexdigit());
    let id = runs.max_by_key(|run| run.len()).expect("an id");
    assert_eq!(id.len(), 32, "{pong}");
    id
}

// contract: P103
#[test]
fn a_wrong_id_is_refused() {
    let wrong: [fn(&str) -> String; 8] = [
        |id| format!("{}{}", &id[..31], if id.ends_with('0') { 1 } else { 0 }),
        |id| format!("{}{}", if id.starts_with('0') { 1 } else { 0 }, &id[1..]),
        |id| id[..30].into(),
        |id| id[..31].into(),
        |id| format!("{id}00"),
        |id| format!("x{}", &id[1..]),
        |id| format!("é{id}"),
        |_| String::new(),
    ];
    for case in proven() {
        for (index, wrong) in wrong.into_iter().enumerate() {
            for surface in SURFACES {
                let run = Run::new(surface, &case.preset, exact());
                run.peer(move |text| {
                    let pong = (case.answer)(text);
                    Some(pong.replace(id(&pong), &wrong(id(&pong))))
                });
                run.run_until(s(100));
                let verdict = Some((s(40), TimeoutPhase::Pong));
                assert_eq!(
                    run.verdict(),
                    verdict,
                    "{}, {index}, {surface:?}",
                    case.name
                );
                assert_eq!(run.read().len(), 1, "{}, {index}, {surface:?}", case.name);
            }
        }
    }
}

// contract: P103
#[test]
fn a_proof_in_text_is_owned_and_a_foreign_pong_is_not_ours() {
    let pong = Message::text(r#"{"type":"pong","payload":{"id":"00ff7A"}}"#);
    let kind = GraphqlWs::new().classify(&pong);
    let MessageKind::Pong(Cow::Owned(payload)) = kind else {
        panic!("{kind:?}")
    };
    assert_eq!(payload, [0, 0xff, 0x7a]);

    // Those of the application's own pings, and those of peers that send nothing back.
    let foreign = [
        r#"{"type":"pong"}"#,
        r#"{"type":"pong","payload":null}"#,
        r#"{"type":"pong","payload":{}}"#,
        r#"{"type":"pong","payload":{"id":7}}"#,
        r#"{"type":"pong","payload":{"id":"mine"}}"#,
    ];
    for text in foreign {
        let run = Run::new(
            Surface::KeepAlive,
            &(Arc::new(GraphqlWs::new()) as Preset),
            exact(),
        );
        run.peer(move |_| Some(text.into()));
        run.run_until(s(100));
        assert_eq!(run.verdict(), Some((s(40), TimeoutPhase::Pong)), "{text}");
        assert_eq!(run.read(), [Message::text(text)]);

        let config = exact().liveness(Liveness::AnyPong);
        let run = Run::new(
            Surface::KeepAlive,
            &(Arc::new(GraphqlWs::new()) as Preset),
            config,
        );
        run.peer(move |_| Some(text.into()));
        run.run_until(s(100));
        assert_eq!(run.verdict(), None, "{text}");
    }
}
