//! The memory of a soak, as a picture.

use std::fmt::Write;
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

/// Resident memory on the left axis, verdicts so far on the right one; both from zero.
pub(crate) fn svg(samples: &[Sample], title: &str) -> Result<String, std::fmt::Error> {
    let last = samples.last().map_or(1.0, |sample| sample.at.as_secs_f64());
    let mib = |sample: &Sample| sample.resident_kib as f64 / 1024.0;
    let most = samples.iter().map(mib).fold(1.0, f64::max) * 1.25;
    let verdicts = samples.last().map_or(1, |sample| sample.verdicts).max(1) as f64;
    let x = |sample: &Sample| LEFT + WIDTH * sample.at.as_secs_f64() / last;
    let y = |share: f64| TOP + HEIGHT * (1.0 - share);
    let line = |value: &dyn Fn(&Sample) -> f64| {
        let point = |sample| format!("{:.1},{:.1} ", x(sample), y(value(sample)));
        samples.iter().map(point).collect::<String>()
    };
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    let mut out = String::new();
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="24" font-size="15">{title}</text>
<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>"##,
        right + RIGHT,
        bottom + 50.0,
    )?;
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (across, up) = (LEFT + WIDTH * share, y(share));
        writeln!(
            out,
            r##"<path d="M{LEFT} {up}H{right}" stroke="#ddd"/>
<text x="{}" y="{}" text-anchor="end" fill="#15c">{:.0} MiB</text>
<text x="{}" y="{}" fill="#a40">{:.0}</text>
<text x="{across}" y="{}" text-anchor="middle">{:.1} min</text>"##,
            LEFT - 6.0,
            up + 4.0,
            most * share,
            right + 6.0,
            up + 4.0,
            verdicts * share,
            bottom + 20.0,
            last * share / 60.0,
        )?;
    }
    writeln!(
        out,
        r##"<polyline fill="none" stroke="#a40" stroke-width="1.5" points="{}"/>
<polyline fill="none" stroke="#15c" stroke-width="2" points="{}"/>
<text x="{LEFT}" y="{}"><tspan fill="#15c">resident memory</tspan><tspan dx="20" fill="#a40">dead peers found</tspan></text>
</svg>"##,
        line(&|sample| sample.verdicts as f64 / verdicts),
        line(&|sample| mib(sample) / most),
        bottom + 42.0,
    )?;
    Ok(out)
}
