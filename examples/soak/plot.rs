//! The memory of a soak, as a picture.

use std::fmt::{Result, Write};
use std::time::Duration;

/// What was measured at a time after the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) resident_kib: u64,
    pub(crate) verdicts: u64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = TOP + HEIGHT;
/// The lines are told apart by dashes and width, also where the picture has no colour.
const MEMORY: &str = r##"fill="none" stroke="#15c" stroke-width="2.5""##;
const VERDICTS: &str = r##"fill="none" stroke="#a40" stroke-width="1.5" stroke-dasharray="7 4""##;
/// More points would not be seen.
const POINTS: usize = 360;

/// An axis from zero to a round number, with some round ticks.
struct Axis {
    step: f64,
    ticks: u32,
}

impl Axis {
    /// Ticks at most `most` times up to the first at or past `largest`.
    fn up_to(largest: f64, most: u32) -> Self {
        let largest = largest.max(f64::MIN_POSITIVE);
        let power = 10_f64.powf((largest / f64::from(most)).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
        // Ten times the power of ten below is enough in any case.
        let fits = |step: &f64| largest / step <= f64::from(most);
        let step = steps.into_iter().find(fits).unwrap_or(10.0 * power);
        let ticks = (1..most).find(|ticks| f64::from(*ticks) * step >= largest);
        let ticks = ticks.unwrap_or(most);
        Self { step, ticks }
    }

    fn share(&self, value: f64) -> f64 {
        value / self.step / f64::from(self.ticks)
    }

    /// The share of the axis and the number of each tick.
    fn ticks(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = f64::from(self.ticks);
        (0..=self.ticks).map(move |tick| {
            // A tenth has no exact number.
            let number = (f64::from(tick) * self.step * 1e6).round() / 1e6;
            (f64::from(tick) / all, number)
        })
    }
}

fn x(share: f64) -> f64 {
    LEFT + WIDTH * share
}

fn y(share: f64) -> f64 {
    BOTTOM - HEIGHT * share
}

/// Resident memory on the left axis, verdicts so far on the right one; both from zero.
pub(crate) fn svg(samples: &[Sample], title: &str) -> std::result::Result<String, std::fmt::Error> {
    let minutes = |sample: &Sample| sample.at.as_secs_f64() / 60.0;
    let mib = |sample: &Sample| sample.resident_kib as f64 / 1024.0;
    let found = |sample: &Sample| sample.verdicts as f64;
    let largest = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).fold(0.0, f64::max);
    // The last sample comes a moment after the end.
    let time = Axis::up_to(largest(&minutes) * 0.999, 12);
    let memory = Axis::up_to(largest(&mib) * 1.1, 6);
    let verdicts = Axis::up_to(largest(&found) * 1.1, 6);

    let mut out = String::new();
    let (width, height) = (LEFT + WIDTH + RIGHT, BOTTOM + 60.0);
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="24" font-size="15">{title}</text>
<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>"##,
    )?;
    for (share, number) in time.ticks() {
        let unit = if share < 1.0 { "" } else { " min" };
        text(
            &mut out,
            "middle",
            (x(share), BOTTOM + 18.0),
            &format!("{number}{unit}"),
        )?;
    }
    for (share, number) in memory.ticks() {
        let right = x(1.0);
        writeln!(
            out,
            r##"<path d="M{LEFT} {0:.1}H{right}" stroke="#ddd"/>"##,
            y(share)
        )?;
        text(
            &mut out,
            "end",
            (LEFT - 6.0, y(share) + 4.0),
            &format!("{number} MiB"),
        )?;
    }
    for (share, number) in verdicts.ticks() {
        let right = x(1.0);
        writeln!(
            out,
            r##"<path d="M{right} {0:.1}h5" stroke="#999"/>"##,
            y(share)
        )?;
        text(
            &mut out,
            "start",
            (right + 8.0, y(share) + 4.0),
            &number.to_string(),
        )?;
    }
    let points = |value: &dyn Fn(&Sample) -> f64| {
        let chunks = samples.chunks(samples.len().div_ceil(POINTS).max(1));
        let point = |chunk: &[Sample]| {
            let at = chunk.last().map_or(0.0, minutes);
            let most = chunk.iter().map(value).fold(0.0, f64::max);
            format!("{:.1},{:.1} ", x(time.share(at).min(1.0)), y(most))
        };
        chunks.map(point).collect::<String>()
    };
    let line = |style: &str, points: &str| format!(r#"<polyline {style} points="{points}"/>"#);
    writeln!(
        out,
        "{}",
        line(VERDICTS, &points(&|sample| verdicts.share(found(sample))))
    )?;
    writeln!(
        out,
        "{}",
        line(MEMORY, &points(&|sample| memory.share(mib(sample))))
    )?;
    legend(&mut out, LEFT, MEMORY, "resident memory (left)")?;
    legend(
        &mut out,
        LEFT + 240.0,
        VERDICTS,
        "dead peers found so far (right)",
    )?;
    writeln!(out, "</svg>")?;
    Ok(out)
}

fn text(out: &mut String, anchor: &str, (x, y): (f64, f64), text: &str) -> Result {
    writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
    )
}

/// A piece of the line, and what it is.
fn legend(out: &mut String, x: f64, style: &str, what: &str) -> Result {
    let y = BOTTOM + 44.0;
    writeln!(out, r#"<path {style} d="M{x} {y}h42"/>"#)?;
    text(out, "start", (x + 50.0, y + 4.0), what)
}
