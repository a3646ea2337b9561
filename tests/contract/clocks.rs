//! R. Clocks outside of what is documented.

use futures_pinger::{Clock, Heartbeat, Instant, Output};

use crate::dial::each_dialled;
use crate::every_surface::build;
use crate::world::{exact, s};

/// So many years are beyond what is documented, and within what an `Instant` can tell here.
fn beyond() -> Vec<Instant> {
    const YEAR: u64 = 365 * 24 * 3600;
    let now = Clock::system().now();
    let years = [
        now.checked_add(s(600 * YEAR)),
        now.checked_add(s(5000 * YEAR)),
        now.checked_sub(s(200 * YEAR)),
        now.checked_sub(s(5000 * YEAR)),
    ];
    years.into_iter().flatten().collect()
}

// contract: R125
#[test]
fn with_a_clock_beyond_all_bounds_nothing_is_ever_due_on_any_surface() {
    for (era, start) in beyond().into_iter().enumerate() {
        for mut dialled in each_dialled(&exact(), start) {
            let name = dialled.name;
            for second in [0, 1, 19, 20, 21, 40, 60, 1000, 100_000] {
                dialled.poll_at(s(second));
                (dialled.pong)("stray".into());
                if let Some(activity) = &dialled.activity {
                    activity();
                }
                assert_eq!(dialled.end, None, "{name}, era {era} at {second}");
                assert_eq!((dialled.pings)(), 0, "{name}, era {era} at {second}");
            }
            let stats = (dialled.stats)();
            assert_eq!(stats.late_wakes(), 0, "{name}, era {era}");
        }

        let mut heartbeat = Heartbeat::with_key(build(exact()), start, [42; 16]);
        for second in [0, 1, 19, 20, 21, 40, 60, 1000, 100_000] {
            let now = start + s(second);
            heartbeat.handle_timeout(now);
            match heartbeat.poll_output(now) {
                Output::Wait(None) => {}
                Output::Wait(Some(next)) => assert!(next > now, "era {era}: a busy loop"),
                other => panic!("era {era} at {second}: {other:?}"),
            }
        }
    }
}

// contract: R125
#[test]
fn a_clock_that_leaves_its_bounds_means_the_same_on_every_surface() {
    for there in beyond() {
        let start = Clock::system().now();
        let mut ends = Vec::new();
        for mut dialled in each_dialled(&exact(), start) {
            dialled.poll_at(s(0));
            dialled.poll_at(s(20));
            // Back is not what a `Dial` can go beyond its start.
            let Some(away) = there.checked_duration_since(start) else {
                continue;
            };
            for second in [0, 20, 40, 1000] {
                dialled.poll_at(away + s(second));
            }
            assert_eq!(dialled.end, None, "{}", dialled.name);
            ends.push((dialled.name, (dialled.pings)()));
        }
        assert!(ends.iter().all(|(_, pings)| *pings == 1), "{ends:?}");
    }
}

// contract: R127
#[test]
fn the_docs_of_the_default_timer_tell_what_a_fork_does_and_the_way_out() {
    let source = include_str!("../../src/timer/futures_timer.rs");
    let (docs, _) = source
        .split_once("pub struct FuturesTimer")
        .expect("the type");
    for words in ["`fork`", "never fire there", "another timer", "from_fn"] {
        assert!(docs.contains(words), "{words}");
    }
}
