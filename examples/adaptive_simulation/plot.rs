//! The plot: a row for each policy, link by link, on a logarithmic axis.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::link::{BURSTS_A_DAY, LINKS, Link};
use crate::measure::Effort;
use crate::policy::Policy;
use crate::{Cell, as_quiet, on};

const WIDTH: f64 = 900.0;
/// The axis goes from one to the other; the names stand to its left, the false alarms to its right.
const LEFT: f64 = 220.0;
const RIGHT: f64 = 770.0;
const ROW: f64 = 17.0;
/// A link's name above its rows, and a gap below them.
const HEAD: f64 = 24.0;
const GAP: f64 = 14.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 64.0;

/// The axis, in seconds: its ends and all that is written at it.
const TICKS: [f64; 9] = [0.4, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0, 40.0, 50.0];

const GREY: &str = "#555555";
const RED: &str = "#b00020";

pub(crate) fn svg(cells: &[Cell], effort: Effort) -> String {
    let mut text = String::new();
    write(&mut text, cells, effort).expect("a string takes it all");
    text
}

fn write(out: &mut String, cells: &[Cell], effort: Effort) -> fmt::Result {
    let bottom = LINKS.iter().fold(TOP, |y, link| y + height(cells, *link));
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" font-family="sans-serif" font-size="12" fill="#222222">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="28" font-size="17" font-weight="bold">How soon a dead peer is found, and how often a live one is taken for dead</text>
<text x="20" y="48" fill="{GREY}">Simulated: {BURSTS_A_DAY} bursts of loss a day over TCP; {deaths} deaths and {days} days for each row; a ping every 20 s</text>"##,
        total = bottom + BOTTOM,
        deaths = effort.deaths,
        days = effort.days,
    )?;
    legend(out)?;
    axis(out, bottom)?;
    let mut y = TOP;
    for link in LINKS {
        rows(out, cells, link, y)?;
        y += height(cells, link);
    }
    writeln!(out, "</svg>")
}

fn height(cells: &[Cell], link: Link) -> f64 {
    on(cells, link).fold(HEAD + GAP, |height, _| height + ROW)
}

fn legend(out: &mut String) -> fmt::Result {
    let mut x = 20.0;
    for (colour, label, width) in [
        (colour(0), "fixed timeout", 110.0),
        (colour(1), "adaptive, max_missed 1", 178.0),
        (colour(2), "2", 42.0),
        (colour(3), "3", 60.0),
    ] {
        writeln!(
            out,
            r#"<circle cx="{}" cy="69" r="5" fill="{colour}"/><text x="{}" y="73">{label}</text>"#,
            x + 5.0,
            x + 16.0,
        )?;
        x += width;
    }
    writeln!(
        out,
        r#"<text x="{x}" y="73" fill="{GREY}">dot: median, bar: to the 95th percentile, line: to the longest</text>"#
    )
}

fn axis(out: &mut String, bottom: f64) -> fmt::Result {
    let [_, labelled @ .., _] = TICKS;
    for tick in labelled {
        let x = x(tick);
        writeln!(
            out,
            r##"<path d="M{x:.1} {TOP}V{bottom}" stroke="#dddddd"/><text x="{x:.1}" y="{}" text-anchor="middle">{tick} s</text>"##,
            bottom + 16.0,
        )?;
    }
    writeln!(
        out,
        r#"<path d="M{LEFT} {bottom}H{RIGHT}" stroke="{GREY}"/>
<text x="{}" y="{}" text-anchor="middle">from the first unanswered ping to the verdict (logarithmic)</text>"#,
        f64::midpoint(LEFT, RIGHT),
        bottom + 40.0,
    )
}

fn rows(out: &mut String, cells: &[Cell], link: Link, top: f64) -> fmt::Result {
    writeln!(
        out,
        r#"<text x="20" y="{y}" font-size="14" font-weight="bold">{name} round trip</text><text x="{WIDTH}" dx="-20" y="{y}" text-anchor="end" fill="{GREY}">false alarms</text>"#,
        y = top + 14.0,
        name = link.name,
    )?;
    let mut y = top + HEAD + ROW / 2.0;
    for cell in on(cells, link) {
        let alarms = if as_quiet(cells, cell) { GREY } else { RED };
        let detection = &cell.outcome.detection;
        let [median, p95, max] = [detection.median, detection.p95, detection.max]
            .map(|time: Duration| x(time.as_secs_f64()));
        let colour = match cell.policy {
            Policy::Fixed => colour(0),
            Policy::Adaptive { max_missed, .. } => colour(max_missed),
        };
        writeln!(
            out,
            r#"<text x="{}" y="{text}" text-anchor="end">{}</text><path d="M{median:.1} {y}H{max:.1}" stroke="{colour}"/><path d="M{median:.1} {y}H{p95:.1}" stroke="{colour}" stroke-width="4"/><circle cx="{median:.1}" cy="{y}" r="5" fill="{colour}"/><text x="{WIDTH}" dx="-20" y="{text}" text-anchor="end" fill="{alarms}">{}</text>"#,
            LEFT - 12.0,
            cell.policy,
            cell.outcome.false_alarms,
            text = y + 4.0,
        )?;
        y += ROW;
    }
    Ok(())
}

/// Told apart by the colour-blind too; 0 is the fixed timeout.
fn colour(max_missed: u32) -> &'static str {
    match max_missed {
        0 => GREY,
        1 => "#d55e00",
        2 => "#0072b2",
        _ => "#009e73",
    }
}

fn x(seconds: f64) -> f64 {
    let [first, .., last] = TICKS;
    LEFT + (RIGHT - LEFT) * (seconds / first).log2() / (last / first).log2()
}
