//! Q. Many verdicts of a [`PingerSet`](futures_pinger::PingerSet) at once.

use std::sync::Arc;
use std::time::Duration;

use futures_pinger::testing::Answer;
use futures_pinger::{ConfigBuilder, End, Error, Member, TimedOut, TimeoutPhase};

use crate::gateway::Gateway;
use crate::world::{SinkScript, exact, ms, s};

type Joined = (Arc<Member>, SinkScript);

/// A member whose peer answers each ping so long after it, or not at all.
fn join(gateway: &Gateway, answer: impl Fn(usize) -> Option<Duration> + Send + 'static) -> Joined {
    let (member, sink) = gateway.join();
    let member = Arc::new(member);
    let reader = Arc::downgrade(&member);
    let peer = sink.peer(move |payload| {
        if let Some(reader) = reader.upgrade() {
            reader.handle_pong(&payload);
        }
    });
    peer.answer(move |ping| answer(ping).map_or(Answer::Lost, Answer::After));
    (member, sink)
}

fn at_once(_: usize) -> Option<Duration> {
    Some(Duration::ZERO)
}

fn never(_: usize) -> Option<Duration> {
    None
}

/// The times of the verdicts, and what they tell.
fn verdicts(gateway: &Gateway) -> Vec<(Duration, TimedOut)> {
    let ends = gateway.ends.borrow();
    let verdict = |(at, departure): &(Duration, _)| {
        let departure: &futures_pinger::Departure<_, _> = departure;
        match &departure.end {
            End::Failed(Error::Timeout(verdict)) => (*at, *verdict),
            end => panic!("no verdict: {end:?}"),
        }
    };
    ends.iter().map(verdict).collect()
}

fn base() -> ConfigBuilder {
    exact().timeout(s(20)).no_close()
}

fn holding(config: ConfigBuilder) -> Gateway {
    Gateway::with_set(config, Duration::ZERO, |set| set.hold_mass_verdicts(true))
}

// contract: Q117
#[test]
fn more_than_the_share_of_those_who_are_judged_in_a_second_count_once_as_many() {
    // Of ten members, so many are dead.
    for (dead, share, found) in [
        (4, 0.5, 0),
        (6, 0.5, 1),
        (3, 0.2, 1),
        (1, 0.2, 0),
        (10, 1.0, 0),
    ] {
        let mut gateway = Gateway::with_set(base(), Duration::ZERO, |set| {
            set.with_mass_verdict_share(share).expect("a share")
        });
        let members: Vec<_> = (0..1000)
            .map(|n| match n % 10 {
                n if n < dead => join(&gateway, never),
                _ => join(&gateway, at_once),
            })
            .collect();
        gateway.run_until(s(39));
        assert_eq!(gateway.handle.totals().mass_verdicts(), 0);
        gateway.run_until(s(300));
        let totals = gateway.handle.totals();
        assert_eq!(totals.mass_verdicts(), found, "{dead} of 10, share {share}");
        // It changes no verdict.
        let fallen = verdicts(&gateway);
        assert_eq!(fallen.len(), 100 * dead);
        assert!(fallen.iter().all(|(at, _)| *at == s(40)));
        assert!(
            fallen
                .iter()
                .all(|(_, verdict)| verdict.lateness().is_zero())
        );
        drop(members);
    }
}

// contract: Q117
#[test]
fn fewer_than_64_or_some_in_each_second_are_not_many() {
    let mut gateway = holding(base());
    let members: Vec<_> = (0..63).map(|_| join(&gateway, never)).collect();
    gateway.run_until(s(100));
    assert_eq!(gateway.handle.totals().mass_verdicts(), 0);
    assert!(verdicts(&gateway).iter().all(|(at, _)| *at == s(40)));
    drop(members);

    // 60 in each second.
    let mut gateway = holding(base());
    let mut members = Vec::new();
    for second in 0..10 {
        gateway.run_until(s(second));
        members.extend((0..60).map(|_| join(&gateway, never)));
    }
    gateway.run_until(s(100));
    assert_eq!(gateway.handle.totals().mass_verdicts(), 0);
    assert_eq!(verdicts(&gateway).len(), 600);
}

// contract: Q117
#[test]
fn pings_that_are_missed_before_the_last_and_newcomers_are_no_verdicts() {
    let mut gateway = Gateway::new(base().max_missed(3));
    let members: Vec<_> = (0..200).map(|_| join(&gateway, never)).collect();
    gateway.run_until(s(79) + ms(500));
    assert_eq!(gateway.handle.totals().missed(), 400);
    assert_eq!(gateway.handle.totals().mass_verdicts(), 0);
    // Who has just come was not judged.
    let more: Vec<_> = (0..1000).map(|_| join(&gateway, at_once)).collect();
    for (member, _) in &more {
        assert_eq!(gateway.handle.ping_now(member.id()), Ok(()));
    }
    gateway.run_until(s(80));
    assert_eq!(verdicts(&gateway).len(), 200);
    assert_eq!(gateway.handle.totals().mass_verdicts(), 1);
    drop(members);
}

// contract: Q117
#[test]
fn a_network_that_comes_back_within_a_timeout_costs_none_of_those_that_are_held() {
    let mut gateway = holding(base());
    let members: Vec<_> = (0..1000)
        .map(|_| {
            // The pong of the second ping comes 15 s after its deadline.
            join(&gateway, |ping| Some(if ping == 1 { s(35) } else { s(0) }))
        })
        .collect();
    gateway.run_until(s(300));
    let fallen = verdicts(&gateway);
    assert_eq!(fallen.len(), 63, "the first, before so many were judged");
    assert!(fallen.iter().all(|(at, _)| *at == s(60)));
    assert_eq!(gateway.handle.totals().mass_verdicts(), 1);
    for (member, sink) in &members[63..] {
        let stats = member.stats();
        assert_eq!(stats.missed(), 0);
        assert_eq!(stats.late_wakes(), 1, "as after a stall");
        assert_eq!(stats.worst_lateness(), s(20));
        assert_eq!(sink.pings()[..3], [20, 40, 75].map(s), "then the grid");
    }
}

// contract: Q117
#[test]
fn a_true_mass_death_is_found_one_timeout_after_the_bound() {
    for max_missed in [1, 2] {
        let config = base().max_missed(max_missed).granularity(ms(100));
        let bound = config.clone().build().expect("valid").detection_bound();
        let bound = bound.expect("there is one");
        let mut gateway = holding(config);
        // All over the interval.
        let mut members = Vec::new();
        for n in 0..2000 {
            gateway.run_until(ms(10) * n);
            members.push(join(&gateway, |ping| (ping == 0).then_some(s(0))));
        }
        gateway.run_until(s(300));
        let fallen = verdicts(&gateway);
        assert_eq!(fallen.len(), 2000);
        let (mut held, end) = (0, s(20) * max_missed);
        for (at, departure) in &*gateway.ends.borrow() {
            let End::Failed(Error::Timeout(verdict)) = &departure.end else {
                panic!("{departure:?}");
            };
            let joined = members
                .iter()
                .find(|(member, _)| member.id() == departure.id);
            let (_, sink) = joined.expect("one of them");
            let [proof, second, ..] = sink.pings()[..] else {
                panic!("two pings");
            };
            assert!(*at >= second + end, "never early");
            assert!(*at <= proof + bound + s(20), "{at:?}");
            let lateness = verdict.lateness();
            if lateness >= s(20) {
                held += 1;
                assert!(*at >= second + end + s(20));
                assert_eq!(verdict.missed(), max_missed);
            } else {
                assert!(*at <= second + end + ms(200) * max_missed, "{at:?}");
            }
        }
        assert!(held > 1900, "{held}");
    }
}

// contract: Q117
#[test]
fn blocked_sinks_and_silent_peers_are_held_too() {
    let watching = ConfigBuilder::default()
        .granularity(s(0))
        .no_close()
        .watch(s(20));
    for (config, phase) in [
        (base().write_timeout(s(20)), TimeoutPhase::Write),
        (watching, TimeoutPhase::Silence),
    ] {
        let mut gateway = holding(config);
        let members: Vec<_> = (0..300)
            .map(|_| {
                let joined = join(&gateway, never);
                joined.1.block();
                joined
            })
            .collect();
        gateway.run_until(s(300));
        let fallen = verdicts(&gateway);
        assert_eq!(fallen.len(), 300);
        let first = fallen[0].0;
        let held = fallen.iter().filter(|(at, verdict)| {
            assert_eq!(verdict.phase(), phase);
            *at >= first + s(20) && verdict.lateness() >= s(20)
        });
        assert_eq!(held.count(), 300 - 63);
        assert!(fallen.iter().all(|(at, _)| *at <= first + s(21)));
        drop(members);
    }
}

// contract: Q117
#[test]
fn peers_that_are_watched_and_talk_are_judged_to_live() {
    let watching = ConfigBuilder::default().granularity(s(0)).watch(s(20));
    let mut gateway = Gateway::new(watching.no_close());
    // 150 join in each of 20 seconds, and from 50 s on 80 fall silent in each of five.
    let mut members = Vec::new();
    for tenth in 0..1000 {
        gateway.run_until(ms(100) * tenth);
        if tenth < 200 {
            members.extend((0..15).map(|_| gateway.join().0));
        }
        let silent = 8 * tenth.saturating_sub(500).min(50);
        for (n, member) in (0..).zip(&members) {
            // From all over.
            if n * 1237 % 3000 >= silent {
                member.handle_activity();
            }
        }
    }
    assert_eq!(verdicts(&gateway).len(), 400);
    assert_eq!(gateway.handle.totals().mass_verdicts(), 0);
}
