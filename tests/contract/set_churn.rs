//! Q. Members that come and go by the hundred thousand while a [`PingerSet`](futures_pinger::PingerSet) is driven.

use std::time::Duration;

use futures_pinger::{End, Error, Member};

use crate::gateway::Gateway;
use crate::world::{SinkScript, exact, ms, s};

const STEP: Duration = Duration::from_millis(50);
/// What a poll of 1024 members takes: a hundred thousand take longer than a step of the grid.
const POLL: Duration = Duration::from_millis(1);

// contract: Q118 M80
#[test]
fn a_hundred_thousand_that_come_and_go_make_no_deadline_late_by_a_step() {
    let config = exact().interval(s(1000)).granularity(STEP).no_close();
    let mut gateway = Gateway::with_cost(config.timeout(s(5)), POLL);
    // Deadlines all over the time of the churn.
    let mut silent: Vec<(Member, SinkScript)> = Vec::new();
    for n in 0..300 {
        gateway.run_until(s(1) + ms(10) * n);
        let (member, sink) = gateway.join();
        assert_eq!(gateway.handle.ping_now(member.id()), Ok(()));
        silent.push((member, sink));
    }
    gateway.run_until(s(6) - ms(1));
    let mut crowd = Vec::new();
    for round in 0..3 {
        let polls = gateway.task.polls();
        crowd.extend((0..100_000).map(|_| gateway.join().0));
        gateway.run_until(s(6) + ms(900) * round + ms(400));
        assert!(
            gateway.task.polls() - polls > 95,
            "it takes that many polls"
        );
        crowd.clear();
        gateway.run_until(s(6) + ms(900) * round + ms(800));
    }
    gateway.run_until(s(12));
    let ends = gateway.ends.borrow();
    assert_eq!(ends.len(), silent.len());
    for (at, departure) in &*ends {
        let (_, sink) = silent
            .iter()
            .find(|(member, _)| member.id() == departure.id)
            .expect("nobody who left has a verdict");
        let due = sink.pings()[0] + s(5);
        assert!(*at >= due, "never early");
        let late = *at - due;
        assert!(late <= STEP + 4 * POLL, "late by {late:?}");
        let End::Failed(Error::Timeout(verdict)) = &departure.end else {
            panic!("{departure:?}");
        };
        assert!(
            verdict.lateness().is_zero(),
            "and nothing looks like a stall"
        );
    }
    drop(ends);
    assert_eq!(gateway.handle.len(), 0);
    // Nobody is left: it sleeps.
    let (polls, resets) = (gateway.task.polls(), gateway.world.resets());
    gateway.run_until(s(7200));
    assert!(
        gateway.task.polls() <= polls + 1,
        "one timer may be armed still"
    );
    assert_eq!(gateway.world.resets(), resets);
}
