//! Each case must not compile, and the message must be that of its file `.stderr`, which names the way out.
//! The texts are those of the Rust that `.ci/run` names; other versions have others. What the
//! compiler says now is written to the files by `TRYBUILD=overwrite cargo test --locked -p compile-fail`.

use std::fs;

/// Each case, and the words that lead its user on.
const CASES: [(&str, &str); 5] = [
    (
        "the_feature_is_off",
        "is the feature of the WebSocket crate on?",
    ),
    (
        "a_crate_without_an_adapter",
        "implement `Protocol` for a type of your own",
    ),
    (
        "a_framed_whose_messages_differ",
        "give its halves to `pinger()` and `PongSender::attach`",
    ),
    (
        "the_sender_of_a_tokio_channel",
        "wrap it in `tokio_util::sync::PollSender`",
    ),
    (
        "run_while_of_a_socket_that_must_be_pinned",
        "consider using `Box::pin`",
    ),
];

#[test]
fn the_compiler_names_the_way_out() {
    {
        // They run when this is dropped.
        let cases = trybuild::TestCases::new();
        for (name, _) in CASES {
            cases.compile_fail(format!("tests/cases/{name}.rs"));
        }
    }
    for (name, way_out) in CASES {
        let file = format!("tests/cases/{name}.stderr");
        let expected = fs::read_to_string(&file).expect("it was just compared");
        assert!(expected.contains(way_out), "{file}");
    }
}
