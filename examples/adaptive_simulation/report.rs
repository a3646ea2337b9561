//! The tables, and what follows from them.

use std::fmt::{self, Write};
use std::time::Duration;

use futures_pinger::Config;

use crate::link::{BURST, BURSTS_A_DAY, JITTER, LINKS};
use crate::measure::{Effort, WARM_UP};
use crate::policy::{MAX_MISSED, Policy, STARTS, TIMEOUT, short};
use crate::{Cell, as_quiet, on, sooner};

/// The first two links are fast.
const FAST: usize = 2;
/// How many times sooner than the fixed timeout the adaptive one is to be there.
const GOAL: f64 = 5.0;

pub(crate) fn markdown(cells: &[Cell], effort: Effort) -> String {
    let mut text = String::new();
    write(&mut text, cells, effort).expect("a string takes it all");
    text
}

fn write(out: &mut String, cells: &[Cell], effort: Effort) -> fmt::Result {
    introduction(out, effort)?;
    for link in LINKS {
        writeln!(out, "\n## A link of {}\n", link.name)?;
        links_table(out, on(cells, link), effort)?;
    }
    goal(out, cells)?;
    defaults(out, cells)
}

fn introduction(out: &mut String, Effort { days, deaths }: Effort) -> fmt::Result {
    let warm_up = WARM_UP.as_secs() / 60;
    let (least, most) = (BURST.start.as_secs_f64(), BURST.end.as_secs_f64());
    writeln!(
        out,
        "\
# What the adaptive timeout is worth

Written by `cargo run --release --example adaptive_simulation`, which drives the crate's own
`Heartbeat` in virtual time. Not measured on a network: simulated, as follows.

![how soon a dead peer is found](adaptive.svg)

- A delay each way is half the link's round trip plus queueing: exponential, with a mean of the
  round trip / {JITTER}.
- {BURSTS_A_DAY} bursts a day, at uniform times, each of {least} to {most} s (uniform), in which both directions lose
  everything.
- TCP sends a lost segment again after its retransmission timeout, and each time twice as long
  after that, until it gets through (RFC 6298, with Linux's floor: SRTT + max(200 ms, 4·RTTVAR)).
  What is sent after it is read after it. Fast retransmit, loss probes, delayed acknowledgements
  and the loss of acknowledgements are left out.
- A ping is due every 20 s. The peer answers at once, until it dies. The fixed timeout is the
  crate's default; the others are `adaptive_timeout`, with `max_missed` as given.
- False alarms: verdicts on a live peer in {days} days. After each there is a new connection, whose
  heartbeat and TCP have measured nothing: a death soon after it takes the end of the range for
  each miss. Where none was seen, the rate is below 3 in {days} days, with 95 % confidence.
- Detection: {deaths} deaths, each at a uniform point of the schedule of a connection that has lived
  for {warm_up} minutes under the same bursts. It counts from the flush of the first ping that
  remains unanswered to the verdict, without the close frame; from the death itself it takes
  up to an interval more, as nothing is noticed before that ping."
    )
}

fn links_table<'a>(
    out: &mut String,
    cells: impl Iterator<Item = &'a Cell>,
    effort: Effort,
) -> fmt::Result {
    writeln!(
        out,
        "\
| timeout | false alarms | a day | detection: median | p95 | max | from the death: median | p95 |
|---|---:|---:|---:|---:|---:|---:|---:|"
    )?;
    for cell in cells {
        let outcome = &cell.outcome;
        let a_day = f64::from(outcome.false_alarms) / f64::from(effort.days);
        let [median, p95, max] = [
            outcome.detection.median,
            outcome.detection.p95,
            outcome.detection.max,
        ]
        .map(seconds);
        let [late_median, late_p95] =
            [outcome.from_death.median, outcome.from_death.p95].map(seconds);
        writeln!(
            out,
            "| {} | {} | {a_day:.3} | {median} | {p95} | {max} | {late_median} | {late_p95} |",
            cell.policy, outcome.false_alarms,
        )?;
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn goal(out: &mut String, cells: &[Cell]) -> fmt::Result {
    let [first, second, ..] = LINKS;
    writeln!(
        out,
        "
## The goal

On the two fast links at least {GOAL} times sooner than the fixed timeout, by the median from the first
unanswered ping, with no more false alarms.

| timeout | sooner on {} | on {} | no more false alarms there | on all links | goal |
|---|---:|---:|---|---|---|",
        first.name, second.name,
    )?;
    for policy in Policy::all().skip(1) {
        let verdict = Judgement::of(cells, policy);
        let [first, second] = verdict.sooner;
        writeln!(
            out,
            "| {policy} | {first:.1} | {second:.1} | {} | {} | {} |",
            yes(verdict.quiet_on_fast),
            yes(verdict.quiet),
            if verdict.meets_goal() {
                "**met**"
            } else {
                "missed"
            },
        )?;
    }
    Ok(())
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn defaults(out: &mut String, cells: &[Cell]) -> fmt::Result {
    writeln!(out, "\n## What follows for the defaults\n")?;
    for start in STARTS {
        let least = MAX_MISSED
            .map(|max_missed| Judgement::of(cells, Policy::Adaptive { start, max_missed }))
            .zip(MAX_MISSED)
            .find(|(judgement, _)| judgement.quiet);
        match least {
            Some((Judgement { sooner, .. }, max_missed)) => writeln!(
                out,
                "- A range from {} on: `max_missed` {max_missed} is the least with no more false alarms than \
                 the\n  fixed timeout on any link; with it the verdict comes {:.1} times sooner on \
                 the fast links.",
                short(start),
                sooner[0].min(sooner[1]),
            )?,
            None => writeln!(
                out,
                "- A range from {} on: no `max_missed` up to {} has as few false alarms as the \
                 fixed\n  timeout on each link.",
                short(start),
                MAX_MISSED.end(),
            )?,
        }
    }
    of_the_crate(out, cells)?;
    limits(out)
}

/// The default of `max_missed` is the crate's, whatever it is.
fn of_the_crate(out: &mut String, cells: &[Cell]) -> fmt::Result {
    let builder = Config::builder().adaptive_timeout(TIMEOUT..=TIMEOUT);
    let max_missed = builder.build().expect("a valid range").max_missed();
    let judged = |start| Judgement::of(cells, Policy::Adaptive { start, max_missed });
    let starts = |passes: fn(&Judgement) -> bool| {
        let starts = STARTS.into_iter().filter(|start| passes(&judged(*start)));
        let names: Vec<_> = starts.map(short).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    writeln!(
        out,
        "\
- The crate's default with an adaptive timeout, `max_missed` {max_missed}. Starts of the range with which it
  raises no more false alarms than the fixed timeout on any link: {}. With which it also
  meets the goal: {}.",
        starts(|judgement| judgement.quiet),
        starts(|judgement| judgement.quiet && judgement.meets_goal()),
    )
}

fn limits(out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "
That holds for bursts of this length. A peer has at least the range's start · (2^`max_missed` − 1) to
answer: with `max_missed` 3 that is 3.5 s from 500 ms on, 7 s from 1 s on, and 14 s from 2 s on. As
TCP doubles its waits, what a burst struck may come twice the burst and a retransmission timeout
later. Where losses last longer than here, let the range start later."
    )
}

/// A policy beside the fixed timeout.
struct Judgement {
    /// How many times, on each fast link.
    sooner: [f64; FAST],
    /// No more false alarms on the fast links.
    quiet_on_fast: bool,
    /// On each link.
    quiet: bool,
}

impl Judgement {
    fn of(cells: &[Cell], policy: Policy) -> Self {
        let cell = |link| {
            let mut of_link = on(cells, link).filter(|cell| cell.policy == policy);
            of_link.next().expect("each link has each policy")
        };
        let [first, second, ..] = LINKS.map(|link| sooner(cells, cell(link)));
        let quiet = LINKS.map(|link| as_quiet(cells, cell(link)));
        Self {
            sooner: [first, second],
            quiet_on_fast: quiet[..FAST].iter().all(|quiet| *quiet),
            quiet: quiet.iter().all(|quiet| *quiet),
        }
    }

    fn meets_goal(&self) -> bool {
        self.quiet_on_fast && self.sooner.iter().all(|sooner| *sooner >= GOAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate;

    #[test]
    fn the_goal_is_met_from_half_a_second_on_with_the_default_of_max_missed() {
        let cells = simulate(Effort { days: 2, deaths: 5 });
        let judged = |start, max_missed| {
            let start = Duration::from_millis(start);
            Judgement::of(&cells, Policy::Adaptive { start, max_missed })
        };
        assert!(judged(500, 3).quiet && judged(500, 3).meets_goal());
        assert!(judged(1_000, 3).quiet && !judged(1_000, 3).meets_goal());
        assert!(!judged(500, 1).quiet && !judged(500, 1).meets_goal());

        let report = markdown(&cells, crate::QUICK);
        let met = "| 500 ms..=20 s, max_missed 3 | 5.7 | 5.7 | yes | yes | **met** |";
        assert!(report.contains(met), "{report}");
        assert!(report.contains("meets the goal: 500 ms.\n"), "{report}");
    }
}
