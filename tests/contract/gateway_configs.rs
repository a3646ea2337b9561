//! Q. Other configurations in a [`PingerSet`](futures_pinger::PingerSet), for all members or for some.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures_pinger::{
    CloseReason, Config, ConfigBuilder, InvalidConfig, Member, PingNowError, SetConfigError,
};

use crate::gateway::{Gateway, answer};
use crate::world::{SinkScript, exact, ms, s};

fn config(config: ConfigBuilder) -> Config {
    config.build().expect("valid")
}

fn every(interval: Duration) -> Config {
    config(exact().interval(interval))
}

impl Gateway {
    /// A member whose peer answers.
    fn join_alive(&self) -> (Arc<Member>, SinkScript) {
        let (member, sink) = self.join();
        let member = Arc::new(member);
        answer(&member, &sink);
        (member, sink)
    }

    /// The same under another configuration than the set's.
    fn join_under(&self, config: &Config) -> (Arc<Member>, SinkScript) {
        let (outgoing, sink) = self.world.sink();
        let inserted = self.handle.insert_keyed_with(config, "other", outgoing);
        let member = Arc::new(inserted.expect("a configuration that suits the set"));
        answer(&member, &sink);
        (member, sink)
    }

    fn set_config(&self, config: Config) {
        assert_eq!(self.handle.set_config(config), Ok(()));
    }
}

/// How many pings of all sinks left in each of so many equal parts of a span.
fn spread(sinks: &[SinkScript], from: Duration, span: Duration, parts: u32) -> Vec<usize> {
    let mut counts = vec![0; parts as usize];
    for at in sinks.iter().flat_map(SinkScript::pings) {
        if at > from && at <= from + span {
            let part = (at - from - Duration::from_nanos(1)).as_nanos() * u128::from(parts);
            counts[(part / span.as_nanos()) as usize] += 1;
        }
    }
    counts
}

// contract: Q110
#[test]
fn pings_that_are_overdue_by_a_shorter_interval_are_spread_evenly_over_it() {
    let mut gateway = Gateway::new(exact().interval(s(1000)));
    let members: Vec<_> = (0..3000).map(|_| gateway.join_alive()).collect();
    gateway.run_until(s(1500));
    gateway.set_config(every(s(100)));
    gateway.run_until(s(1800));
    let sinks: Vec<_> = members.iter().map(|(_, sink)| sink.clone()).collect();
    for round in 0..3 {
        let counts = spread(&sinks, s(1500 + 100 * round), s(100), 20);
        let even = counts.iter().all(|count| (145..=155).contains(count));
        assert!(even, "round {round}: {counts:?}");
    }
    for sink in sinks {
        let pings = sink.pings();
        assert_eq!(pings.len(), 4, "one each interval, from its own point on");
        assert_eq!(pings[2] - pings[1], s(100));
    }
    assert!(gateway.ends.borrow().is_empty());
}

// contract: Q110
#[test]
fn a_ping_that_is_not_overdue_is_due_the_new_interval_after_the_last() {
    for (interval, next) in [(s(10), s(50)), (s(100), s(140)), (s(3), s(46))] {
        let mut gateway = Gateway::new(exact().interval(s(20)));
        let (_member, sink) = gateway.join_alive();
        gateway.run_until(s(44));
        let spread = s(43) >= s(40) + interval;
        gateway.set_config(every(interval));
        gateway.run_until(next);
        let pings = sink.pings();
        if spread {
            // Overdue, and some time within the new interval.
            assert!(pings[2] > s(44) && pings[2] <= s(47), "{pings:?}");
        } else {
            assert_eq!(pings, [s(20), s(40), next]);
        }
    }
}

// contract: Q110
#[test]
fn a_longer_interval_is_found_when_the_ping_would_have_been_due() {
    let mut gateway = Gateway::new(exact().interval(s(20)));
    let members: Vec<_> = (0..100).map(|_| gateway.join_alive()).collect();
    gateway.run_until(s(41));
    gateway.set_config(every(s(60)));
    gateway.run_until(s(41));
    let polls = gateway.task.polls();
    gateway.run_until(s(99));
    assert!(gateway.task.polls() <= polls + 1, "one look at the most");
    gateway.run_until(s(100));
    for (_, sink) in &members {
        assert_eq!(sink.pings(), [s(20), s(40), s(100)]);
    }
}

// contract: Q110
#[test]
fn a_ping_in_flight_survives_and_its_deadline_counts_from_its_own_send_time() {
    for (timeout, verdict) in [(s(10), s(30)), (s(2), s(25) + ms(250)), (s(60), s(80))] {
        let mut gateway = Gateway::new(exact().interval(s(20)).timeout(s(20)).no_close());
        let (silent, sink) = gateway.join();
        let (_alive, answering) = gateway.join_alive();
        gateway.run_until(s(25));
        gateway.set_config(config(exact().interval(s(500)).timeout(timeout).no_close()));
        gateway.run_until(s(100));
        let ends = gateway.ends.borrow();
        let ends: Vec<_> = ends.iter().map(|(at, end)| (*at, end.id)).collect();
        let [(at, id)] = ends[..] else {
            panic!("the silent one alone: {ends:?}");
        };
        assert_eq!(id, silent.id());
        // What is in the past is judged one slack later.
        assert!(at >= verdict && at <= verdict + ms(1), "{at:?}");
        assert_eq!(sink.pings(), [s(20)], "no second ping");
        assert_eq!(answering.pings(), [s(20)]);
    }
}

// contract: Q110
#[test]
fn another_granularity_is_refused_by_name_and_changes_nothing() {
    let mut gateway = Gateway::new(exact());
    let (_member, sink) = gateway.join_alive();
    let coarse = config(exact().interval(s(1)).granularity(ms(7)));
    let refused = |error: SetConfigError| {
        let SetConfigError::Invalid(invalid) = &error else {
            panic!("{error:?}");
        };
        let InvalidConfig { .. } = invalid;
        assert_eq!((invalid.option(), invalid.value()), ("granularity", "7ms"));
        let text = "invalid granularity 7ms: must equal the granularity of the set";
        assert_eq!(error.to_string(), text);
    };
    refused(gateway.handle.set_config(coarse.clone()).unwrap_err());
    let own = config(exact());
    refused(
        gateway
            .handle
            .replace_config(&own, coarse.clone())
            .unwrap_err(),
    );
    let (outgoing, _) = gateway.world.sink();
    let error = gateway.handle.insert_keyed_with(&coarse, "fine", outgoing);
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.key, "fine", "nothing is lost");
    assert_eq!(format!("{error}"), format!("{}", error.cause));
    refused(error.cause);
    assert_eq!(gateway.handle.len(), 1);
    gateway.run_until(s(100));
    assert_eq!(sink.pings(), [20, 40, 60, 80, 100].map(s));
}

// contract: Q110
#[test]
fn members_live_by_the_configuration_that_they_came_with() {
    let mut gateway = Gateway::new(exact().interval(s(20)));
    let phones = every(s(60));
    let members: Vec<_> = (0..200)
        .map(|n| match n % 3 {
            0 => gateway.join_under(&phones),
            // Equal, and another.
            1 => gateway.join_under(&every(s(60))),
            _ => gateway.join_alive(),
        })
        .collect();
    let pings = |gateway: &mut Gateway, until| {
        gateway.run_until(until);
        let pings = |n: usize| members[n].1.pings();
        for (n, (_, sink)) in members.iter().enumerate() {
            assert_eq!(sink.pings(), pings(2 * usize::from(n % 3 == 2)), "{n}");
        }
        (pings(0), pings(2))
    };
    let (phone, desktop) = pings(&mut gateway, s(70));
    assert_eq!(
        (phone, desktop),
        (vec![s(60)], [20, 40, 60].map(s).to_vec())
    );

    // For some, and for those who are yet to come under it.
    let replaced = gateway.handle.replace_config(&phones, every(s(25)));
    assert_eq!(replaced, Ok(true));
    let (phone, desktop) = pings(&mut gateway, s(95));
    assert_eq!(phone, [60, 85].map(s));
    assert_eq!(desktop, [20, 40, 60, 80].map(s));
    let again = gateway.handle.replace_config(&phones, every(s(1)));
    assert_eq!(again, Ok(false), "nobody is under it any more");
    // For all.
    gateway.set_config(every(s(40)));
    let (phone, desktop) = pings(&mut gateway, s(130));
    assert_eq!(phone, [60, 85, 125].map(s));
    assert_eq!(desktop, [20, 40, 60, 80, 120].map(s));
}

// contract: Q110
#[test]
fn a_set_has_256_configurations_and_room_for_another_once_one_is_left_by_all() {
    let mut gateway = Gateway::new(exact());
    let members: Vec<_> = (1..256)
        .map(|n| gateway.join_under(&every(s(100 + n))))
        .collect();
    gateway.run_until(s(1));
    let more = every(s(7));
    let (outgoing, _) = gateway.world.sink();
    let refused = gateway.handle.insert_keyed_with(&more, "more", outgoing);
    let refused = refused.map(drop).unwrap_err();
    assert_eq!(
        (refused.key, refused.cause),
        ("more", SetConfigError::TooMany)
    );
    // Who is there, and the set's own, are no more.
    drop((gateway.join_alive(), gateway.join_under(&every(s(101)))));
    drop(gateway.join_under(&config(exact())));
    gateway.run_until(s(2));
    let mut members = members.into_iter();
    drop(members.nth(99));
    gateway.run_until(s(3));
    let (_member, sink) = gateway.join_under(&more);
    gateway.run_until(s(20));
    assert_eq!(sink.pings(), [s(10), s(17)], "it has its own interval");
    assert_eq!(gateway.handle.len(), 256 - 100);
}

// contract: Q110
#[test]
fn a_sweep_takes_1024_members_in_each_poll_and_keeps_no_deadline_waiting() {
    let base = || exact().timeout(s(5)).granularity(ms(50)).no_close();
    // 40 polls of 2 ms are more than a step of the grid.
    let mut gateway = Gateway::with_cost(base().interval(s(100)), ms(2));
    let members: Vec<_> = (0..40 * 1024).map(|_| gateway.join().0).collect();
    gateway.run_until(s(10));
    let (dead, sink) = gateway.join();
    assert_eq!(gateway.handle.ping_now(dead.id()), Ok(()));
    gateway.run_until(s(15) - ms(1));
    assert_eq!(sink.pings().len(), 1);
    let polls = gateway.task.polls();
    gateway.set_config(config(base().interval(s(50))));
    gateway.run_until(s(16));
    let polls = gateway.task.polls() - polls;
    assert!((40..=45).contains(&polls), "{polls}");
    let ends = gateway.ends.borrow();
    let ends: Vec<_> = ends.iter().map(|(at, end)| (*at, end.id)).collect();
    let [(at, id)] = ends[..] else {
        panic!("one has died: {ends:?}");
    };
    assert_eq!(id, dead.id());
    let due = sink.pings()[0] + s(5);
    assert!(
        at >= due && at <= due + ms(50) + ms(4),
        "{at:?}, due {due:?}"
    );
    drop(members);
}

// contract: Q110
#[test]
fn configurations_without_end_starve_no_ping_and_keep_no_chunk_waiting() {
    // More members than are swept in the polls between two configurations.
    let mut gateway = Gateway::with_cost(exact().interval(s(60)), ms(400));
    let mut members: Vec<_> = (0..3000).map(|_| gateway.join()).collect();
    let last = gateway.join_alive();
    members.truncate(2_990);
    let alive: Vec<_> = (0..20).map(|_| gateway.join_alive()).collect();
    gateway.run_until(s(1));
    for half in 0..300_u32 {
        let interval = if half % 2 == 0 { s(20) } else { s(60) };
        gateway.set_config(config(exact().interval(interval).no_timeout()));
        gateway.run_until(ms(1500) + ms(500) * half);
    }
    let fewest = alive
        .iter()
        .chain([&last])
        .map(|(_, sink)| sink.pings().len());
    let fewest = fewest.min();
    assert!(fewest >= Some(4), "{fewest:?} pings in 150 s");
}

// contract: Q110
#[test]
fn who_comes_after_it_is_under_the_new_configuration_at_once() {
    let mut gateway = Gateway::new(exact().interval(s(20)));
    let mut members: Vec<_> = (0..5000).map(|_| gateway.join()).collect();
    gateway.run_until(s(1));
    drop(members.remove(4990));
    gateway.run_until(s(2));
    // Its seat is in a chunk that is swept late.
    gateway.set_config(config(exact().interval(s(30)).initial_delay(s(0))));
    let (_member, sink) = gateway.join_alive();
    gateway.run_until(s(40));
    assert_eq!(sink.pings(), [s(2), s(32)]);
    drop(members);
}

// contract: Q110
#[test]
fn it_is_in_force_before_the_first_poll_and_an_error_once_the_set_is_gone() {
    let mut gateway = Gateway::new(exact().interval(s(20)));
    let (_member, sink) = gateway.join_alive();
    gateway.set_config(every(s(7)));
    gateway.run_until(s(15));
    assert_eq!(sink.pings(), [s(7), s(14)]);
    let Gateway {
        world,
        handle,
        task,
        ..
    } = gateway;
    drop(task);
    let closed = Err(SetConfigError::Closed);
    assert_eq!(handle.set_config(every(s(7))), closed);
    let replaced = handle.replace_config(&every(s(7)), every(s(9)));
    assert_eq!(replaced.map(drop), closed);
    let (outgoing, _) = world.sink();
    let refused = handle.insert_keyed_with(&every(s(7)), "late", outgoing);
    let refused = refused.map(drop).unwrap_err();
    assert_eq!(
        (refused.key, refused.cause),
        ("late", SetConfigError::Closed)
    );
}

// contract: Q110
#[test]
fn members_that_watched_begin_to_ping_all_over_the_interval() {
    let mut gateway = Gateway::new(exact());
    let watching = config(ConfigBuilder::default().granularity(s(0)).watch(s(1000)));
    gateway.set_config(watching.clone());
    let members: Vec<_> = (0..500).map(|_| gateway.join_alive()).collect();
    gateway.run_until(s(100));
    gateway.set_config(every(s(20)));
    gateway.run_until(s(120));
    let sinks: Vec<_> = members.iter().map(|(_, sink)| sink.clone()).collect();
    let counts = spread(&sinks, s(100), s(20), 10);
    assert!(counts.iter().all(|n| (47..=53).contains(n)), "{counts:?}");
    gateway.set_config(watching);
    gateway.run_until(s(1119));
    assert!(gateway.ends.borrow().is_empty());
    gateway.run_until(s(1200));
    assert_eq!(gateway.ends.borrow().len(), 500, "of silence");
}

// contract: Q110
#[test]
fn it_can_be_set_from_any_thread() {
    let mut gateway = Gateway::new(exact().interval(s(20)));
    let (_member, sink) = gateway.join_alive();
    gateway.run_until(s(1));
    thread::scope(|scope| {
        let gateway = &gateway.handle;
        scope.spawn(move || gateway.set_config(every(s(5))).expect("it suits"));
    });
    gateway.run_until(s(10));
    assert_eq!(sink.pings(), [s(5), s(10)]);
}

// A verdict whose close frame was yet to be sent waited for the close timeout where a new configuration sends none.
// contract: Q110
#[test]
fn a_close_frame_that_is_on_its_way_is_sent_whatever_is_set() {
    let base = || exact().timeout(s(5)).close_timeout(s(30));
    let mut gateway = Gateway::new(base());
    let (_member, sink) = gateway.join();
    gateway.run_until(s(21));
    sink.block();
    gateway.run_until(s(26));
    gateway.set_config(config(base().no_close()));
    gateway.run_until(s(27));
    sink.unblock();
    gateway.run_until(s(100));
    assert_eq!(sink.closes().len(), 1);
    let ends = gateway.ends.borrow();
    assert_eq!(ends.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [s(27)]);
}

// Chunks were left out where others came during the sweep.
// contract: Q110
#[test]
fn a_set_that_grows_while_it_is_swept_is_swept_all_the_same() {
    // A poll sweeps 16 chunks of 64 members, and takes 1 ms.
    let mut gateway = Gateway::with_cost(exact(), ms(1));
    let mut members: Vec<_> = (0..1500).map(|_| gateway.join().0).collect();
    gateway.run_until(s(1));
    // The next sweep begins behind the chunks that there are now.
    gateway.set_config(every(s(30)));
    gateway.run_until(s(2));
    members.extend((1500..6400).map(|_| gateway.join().0));
    gateway.run_until(s(3));
    let watching = ConfigBuilder::default().granularity(s(0)).watch(s(1000));
    gateway.set_config(config(watching));
    gateway.run_until(s(3) + ms(2));
    members.extend((0..128).map(|_| gateway.join().0));
    gateway.run_until(s(4));
    for (n, member) in members.iter().enumerate() {
        let asked = gateway.handle.ping_now(member.id());
        assert_eq!(asked, Err(PingNowError::Watching), "{n}");
    }
}

// The driver knew nothing yet of the chunk of a member that it was to look at.
// contract: Q110 P101
#[test]
fn who_is_probed_while_another_configuration_is_set_may_have_come_just_before() {
    for more in [0, 1] {
        let mut gateway = Gateway::new(exact());
        let mut members: Vec<_> = (0..64 - more).map(|_| gateway.join_alive()).collect();
        gateway.run_until(s(1));
        members.extend((0..more).map(|_| gateway.join_alive()));
        let (member, sink) = gateway.join_alive();
        let probe = gateway.handle.probe(member.id(), s(3));
        gateway.set_config(every(s(30)));
        gateway.run_until(s(2));
        assert_eq!(sink.pings(), [s(1)]);
        assert_eq!(probe.now_or_never(), Some(Ok(Duration::ZERO)));
    }
}

// contract: Q110 Q112
#[test]
fn a_member_that_is_closing_is_closed_in_time_whatever_configuration_follows() {
    let mut gateway = Gateway::new(exact().close_timeout(s(5)));
    let (_member, sink) = gateway.join();
    gateway.run_until(s(10));
    sink.block();
    gateway
        .handle
        .close_all(CloseReason::new(1001, "restart").expect("valid"));
    gateway.run_until(s(11));
    let watch = Config::builder().granularity(Duration::ZERO).watch(s(3600));
    gateway.set_config(config(watch));
    gateway.run_until(s(14));
    assert!(gateway.ends.borrow().is_empty());
    gateway.run_until(s(15));
    assert_eq!(gateway.ends.borrow().len(), 1);
}
