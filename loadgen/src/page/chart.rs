//! Which plots a page has, and what is drawn in them.

use super::plot::{Axis, Plot, Scale, Series};
use crate::protocol::Phase;
use crate::report::{Report, Second};

/// Points of one line.
const POINTS_MAX: usize = 600;

/// One line of a plot over time: its name, its unit, whether it is the lesser one of its kind, and its values.
type Line = (&'static str, &'static str, bool, fn(&Second) -> Option<f64>);

/// The plots of one report, or of two drawn over each other; each side's name goes before its lines'.
pub fn all(sides: &[(&str, &Report)]) -> Vec<Plot> {
    let ms = |us: u64| (us > 0).then(|| us as f64 / 1000.0);
    let latency: [Line; 6] = [
        ("delivery p50", "ms", true, |second| above(second.delivery_p50)),
        ("delivery p99", "ms", false, |second| above(second.delivery_p99)),
        ("request p50", "ms", true, |second| above(second.request_p50)),
        ("request p99", "ms", false, |second| above(second.request_p99)),
        ("connect p50", "ms", true, |second| above(second.connect_p50)),
        ("connect p99", "ms", false, |second| above(second.connect_p99)),
    ];
    let throughput: [Line; 4] = [
        ("deliveries", "a second", false, |second| rate(second, second.deliveries)),
        ("requests answered", "a second", false, |second| rate(second, second.answered)),
        ("other events", "a second", true, |second| rate(second, second.other_received)),
        ("connections opened", "a second", true, |second| rate(second, second.opened)),
    ];
    let cpu: [Line; 2] = [
        ("server", "% of a core", false, |second| second.server_cpu.map(|share| share * 100.0)),
        ("loadgen", "% of a core", true, |second| second.own_cpu.map(|share| share * 100.0)),
    ];
    let memory: [Line; 1] =
        [("server", "MiB", false, |second| second.server_rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)))];
    let worst = sides.iter().flat_map(|(_, report)| &report.curves).flat_map(|curve| curve.points.last());
    let worst = worst.map(|(_, us)| *us).max().and_then(ms).unwrap_or(0.0);
    let mut plots = vec![Plot {
        wide: true,
        title: "Latency by percentile".to_owned(),
        description: format!(
            "How long the given share took at most; the longest value shown is {worst:.1} milliseconds"
        ),
        x: Axis { label: "percentile".to_owned(), scale: Scale::Nines },
        y: Axis { label: "milliseconds, logarithmic".to_owned(), scale: Scale::Logarithmic },
        series: curves(sides),
        bands: Vec::new(),
    }];
    for (title, unit, scale, lines) in [
        ("Latency over time", "milliseconds, logarithmic", Scale::Logarithmic, &latency[..]),
        ("Throughput over time", "a second", Scale::Linear, &throughput),
        ("Processor time", "% of a core", Scale::Linear, &cpu),
        ("Memory of the server", "MiB resident", Scale::Linear, &memory),
    ] {
        plots.push(over_time(title, unit, scale, lines, sides));
    }
    plots
}

fn above(us: u64) -> Option<f64> {
    (us > 0).then(|| us as f64 / 1000.0)
}

fn rate(second: &Second, count: u64) -> Option<f64> {
    // A sliver of a second between two phases says nothing about a rate.
    (second.seconds > 0.2).then(|| count as f64 / second.seconds)
}

fn curves(sides: &[(&str, &Report)]) -> Vec<Series> {
    let mut series = Vec::new();
    for (side, (name, report)) in sides.iter().enumerate() {
        for (index, curve) in report.curves.iter().enumerate() {
            // Of two servers, a colour is a side; of one, a kind.
            let (colour, dashed) = if sides.len() > 1 { (side + 2 * index, index > 0) } else { (index, false) };
            let nines = |quantile: f64| -(1.0 - quantile).max(1e-9).log10();
            let points = curve.points.iter().map(|&(quantile, us)| (nines(quantile), (us as f64 / 1000.0).max(0.001)));
            series.push(Series {
                name: format!("{name}{}", curve.name),
                unit: "ms",
                colour,
                dashed,
                points: points.collect(),
                gap: f64::MAX,
            });
        }
    }
    series
}

fn over_time(title: &str, unit: &str, scale: Scale, lines: &[Line], sides: &[(&str, &Report)]) -> Plot {
    let mut series = Vec::new();
    for (side, (name, report)) in sides.iter().enumerate() {
        let mut kind = 0;
        for (line, unit, lesser, value) in lines {
            let points: Vec<(f64, f64)> =
                report.timeline.iter().filter_map(|second| Some((second.at, value(second)?))).collect();
            if points.iter().all(|(_, y)| *y == 0.0) {
                continue;
            }
            let gap = 1.8 * points.len().div_ceil(POINTS_MAX) as f64;
            let points = thin(points, scale == Scale::Logarithmic);
            let colour = if sides.len() > 1 { side + 2 * kind } else { kind };
            series.push(Series { name: format!("{name}{line}"), unit, colour, dashed: *lesser, points, gap });
            // A median and its tail are one kind, told apart by the dashes.
            kind += usize::from(!(*lesser && scale == Scale::Logarithmic));
        }
    }
    let most = series.iter().flat_map(|series| &series.points).map(|(_, y)| *y).fold(0.0, f64::max);
    Plot {
        wide: false,
        title: title.to_owned(),
        description: format!("Second by second, at most {} {unit}", super::plot::short(most)),
        x: Axis { label: "seconds since the first connection".to_owned(), scale: Scale::Linear },
        y: Axis { label: unit.to_owned(), scale },
        series,
        bands: sides.first().map(|(_, report)| bands(report)).unwrap_or_default(),
    }
}

/// A day has more seconds than a picture has columns: as many points as can be told apart, each the mean of its stretch, or the greatest where
/// peaks are what is looked for.
fn thin(points: Vec<(f64, f64)>, peaks: bool) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(POINTS_MAX).max(1);
    let of = |part: &[(f64, f64)]| {
        let values = part.iter().map(|point| point.1);
        let value = if peaks { values.fold(f64::MIN, f64::max) } else { values.sum::<f64>() / part.len() as f64 };
        (part[0].0, value)
    };
    points.chunks(stretch).map(of).collect()
}

/// The phases, as stretches of time.
fn bands(report: &Report) -> Vec<(f64, f64, String)> {
    let mut bands: Vec<(f64, f64, String)> = Vec::new();
    for second in &report.timeline {
        let name = match second.phase {
            Phase::Connect => "connect, settle",
            Phase::Warmup => "warm-up",
            Phase::Measure => "measured",
            Phase::Drain => "drain",
        };
        let end = second.at + second.seconds;
        match bands.last_mut() {
            Some((_, last, before)) if before == name => *last = end,
            _ => bands.push((second.at, end, name.to_owned())),
        }
    }
    bands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_thinned() {
        let line = |count: u32| -> Vec<(f64, f64)> { (0..count).map(|x| (f64::from(x), f64::from(x % 4))).collect() };
        assert_eq!(thin(line(600), false), line(600));
        assert_eq!(thin(Vec::new(), true), []);
        assert_eq!(thin(line(2400), false)[1], (4.0, 1.5));
        assert_eq!(thin(line(2400), true)[1], (4.0, 3.0));
        assert!(thin(line(86_400), true).len() <= POINTS_MAX);
    }
}
