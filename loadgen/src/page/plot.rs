//! Line plots as SVG text: axes, bands, lines, and a value under every point. Colours are the page's, by class, so that one picture serves
//! light and dark.

use std::fmt::Write as _;

/// Of the drawing, about as large as it is shown, so that its letters are; it scales to the page.
const WIDTH: f64 = 560.0;
const WIDE: f64 = 1140.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 46.0;
/// Lines a picture tells apart.
pub const COLOURS: usize = 6;
/// More points than this get no mark of their own: they would be a smear.
const MARKS_MAX: usize = 125;

pub struct Plot {
    /// Over the whole width of the page.
    pub wide: bool,
    pub title: String,
    /// For those who do not see it.
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Named stretches of the x axis.
    pub bands: Vec<(f64, f64, String)>,
}

pub struct Axis {
    pub label: String,
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    Logarithmic,
    /// x is a number of nines: 2 is the 99th percentile.
    Nines,
}

pub struct Series {
    pub name: String,
    pub unit: &'static str,
    /// Which colour, below [`COLOURS`].
    pub colour: usize,
    pub dashed: bool,
    pub points: Vec<(f64, f64)>,
    /// Points further apart than this along x have nothing between them.
    pub gap: f64,
}

/// Where values are in the drawing.
struct Frame {
    width: f64,
    x: (f64, f64),
    y: (f64, f64),
    log: bool,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |value: f64, (low, high): (f64, f64)| if high > low { (value - low) / (high - low) } else { 0.5 };
        let y = if self.log { y.max(1e-9).log10() } else { y };
        let across = LEFT + part(x, self.x) * (self.width - LEFT - RIGHT);
        (across, HEIGHT - BOTTOM - part(y, self.y).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM))
    }
}

impl Plot {
    /// Whether there is anything to see.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    /// The figure: picture and legend.
    pub fn draw(&self) -> String {
        let frame = self.frame();
        let mut svg = String::new();
        let (title, description) = (escape(&self.title), escape(&self.description));
        let class = if self.wide { " class=\"wide\"" } else { "" };
        let _ = write!(
            svg,
            "<figure{class}><svg viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"{title}. {description}\">\
             <text class=\"title\" x=\"{LEFT}\" y=\"15\">{title}</text>",
            frame.width
        );
        for (index, (from, to, name)) in self.bands.iter().enumerate() {
            let ((left, _), (right, _)) = (frame.at(*from, 0.0), frame.at(*to, 0.0));
            let (width, height) = ((right - left).max(0.0), HEIGHT - TOP - BOTTOM);
            let shade = if index % 2 == 1 { "band odd" } else { "band" };
            let _ = write!(
                svg,
                "<rect class=\"{shade}\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
            if width > 7.0 * name.len() as f64 {
                let _ = write!(
                    svg,
                    "<text class=\"where\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    left + 5.0,
                    TOP + 13.0,
                    escape(name)
                );
            }
        }
        self.draw_axes(&frame, &mut svg);
        for series in &self.series {
            draw_series(series, &frame, self.x.scale, &mut svg);
        }
        svg.push_str("</svg><figcaption>");
        for series in &self.series {
            let dash = if series.dashed { " dashed" } else { "" };
            let _ =
                write!(svg, "<span class=\"key c{}{dash}\">{}</span>", series.colour % COLOURS, escape(&series.name));
        }
        svg.push_str("</figcaption></figure>");
        svg
    }

    fn frame(&self) -> Frame {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let extent = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
        };
        let bands = self.bands.iter().flat_map(|(from, to, _)| [*from, *to]);
        let x = extent(&mut points().map(|point| point.0).chain(bands));
        let x = if x.1 > x.0 { x } else { (x.0.min(0.0), x.0.max(0.0) + 1.0) };
        let log = self.y.scale == Scale::Logarithmic;
        let y = extent(&mut points().map(|point| point.1).filter(|y| !log || *y > 0.0));
        let y = match (log, y.1 >= y.0) {
            (_, false) => (0.0, 1.0),
            // At least a decade, or a flat line would fill the picture with its noise.
            (true, _) => {
                let (low, high) = (y.0.log10(), y.1.log10() + 0.05);
                if high - low < 1.0 { (low - 0.3, low + 0.8) } else { (low - 0.05, high) }
            }
            (false, _) => (0.0, if y.1 > 0.0 { y.1 * 1.08 } else { 1.0 }),
        };
        Frame { width: if self.wide { WIDE } else { WIDTH }, x, y, log }
    }

    fn draw_axes(&self, frame: &Frame, svg: &mut String) {
        let (right, bottom) = (frame.width - RIGHT, HEIGHT - BOTTOM);
        let y_ticks = if frame.log { decades(frame.y) } else { even(frame.y, 5.0) };
        for tick in y_ticks {
            let (_, y) = frame.at(frame.x.0, tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 7.0,
                y + 4.0,
                short(tick)
            );
        }
        let x_ticks: Vec<(f64, String)> = match self.x.scale {
            Scale::Nines => nines(frame.x.1),
            _ => even(frame.x, 8.0).into_iter().map(|tick| (tick, short(tick))).collect(),
        };
        for (tick, name) in x_ticks {
            let (x, _) = frame.at(tick, 0.0);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                bottom + 17.0
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"label\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"label\" x=\"{right}\" y=\"15\" text-anchor=\"end\">{}</text>",
            HEIGHT - 8.0,
            escape(&self.x.label),
            escape(&self.y.label)
        );
    }
}

fn draw_series(series: &Series, frame: &Frame, x_scale: Scale, svg: &mut String) {
    let mut path = String::new();
    // Infinitely far from the first point, so that any gap begins the line there.
    let mut before = f64::NEG_INFINITY;
    for &(x, y) in &series.points {
        let (across, down) = frame.at(x, y);
        // A line of no length is a dot: a point alone is seen too.
        let _ = if x - before > series.gap {
            write!(path, "M{across:.1} {down:.1}h0")
        } else {
            write!(path, "L{across:.1} {down:.1}")
        };
        before = x;
    }
    let (colour, dash) = (series.colour % COLOURS, if series.dashed { " dashed" } else { "" });
    let _ = write!(svg, "<path class=\"line c{colour}{dash}\" d=\"{path}\"/>");
    if series.points.len() > MARKS_MAX {
        return;
    }
    for &(x, y) in &series.points {
        let (across, down) = frame.at(x, y);
        let at = match x_scale {
            Scale::Nines => format!("p{}", percent(x)),
            _ => format!("at {} s", short(x)),
        };
        let text = format!("{}, {at}: {} {}", series.name, short(y), series.unit);
        let _ = write!(
            svg,
            "<circle class=\"mark c{colour}\" cx=\"{across:.1}\" cy=\"{down:.1}\" r=\"3.5\"><title>{}</title></circle>",
            escape(&text)
        );
    }
}

/// 2.0 as `99`, 3.0 as `99.9`.
fn percent(nines: f64) -> String {
    let value = 100.0 * (1.0 - 10f64.powf(-nines));
    let text = format!("{value:.*}", (nines.ceil() as usize).saturating_sub(1));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn nines(most: f64) -> Vec<(f64, String)> {
    let known = [
        (0.0, "least"),
        (std::f64::consts::LOG10_2, "50"),
        (1.0, "90"),
        (2.0, "99"),
        (3.0, "99.9"),
        (4.0, "99.99"),
        (5.0, "99.999"),
        (6.0, "99.9999"),
    ];
    known.into_iter().filter(|(at, _)| *at <= most + 0.01).map(|(at, name)| (at, name.to_owned())).collect()
}

/// About so many round numbers.
fn even((low, high): (f64, f64), about: f64) -> Vec<f64> {
    let rough = (high - low).max(1e-9) / about;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..).map(|n| n as f64 * step).take_while(|tick| *tick <= high * 1.000_001).take(40).collect()
}

/// 1, 10, 100; with 2 and 5 where there are few of them. The range is of logarithms.
fn decades((low, high): (f64, f64)) -> Vec<f64> {
    let fine: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let range = low.floor() as i32..=high.ceil() as i32;
    let all = range.flat_map(|power| fine.iter().map(move |digit| digit * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(&tick.log10())).collect()
}

/// 1234567 as `1.23M`, 0.5 as `0.5`.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 10_000.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// For text and attributes of HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_they_are_read() {
        for (value, text) in [
            (0.0, "0"),
            (0.05, "0.05"),
            (0.5, "0.5"),
            (1234.0, "1234"),
            (98_765.0, "98.8k"),
            (1_234_567.0, "1.23M"),
            (200.0, "200"),
            (30.0, "30"),
        ] {
            assert_eq!(short(value), text);
        }
        for (nines, text) in
            [(std::f64::consts::LOG10_2, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (2.5, "99.68")]
        {
            assert_eq!(percent(nines), text);
        }
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(even((0.0, 10.8), 5.0), [0.0, 5.0, 10.0]);
        assert_eq!(even((0.0, 1.0), 5.0).len(), 6);
        assert_eq!(even((0.0, 0.0), 5.0), [0.0]);
        assert_eq!(decades((-0.5, 1.2)), [0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(decades((-1.1, 2.2)), [0.1, 1.0, 10.0, 100.0]);
    }

    #[test]
    fn every_point_is_in_the_picture() {
        for (scale, gap) in [(Scale::Linear, 1.5), (Scale::Logarithmic, 1.5), (Scale::Linear, f64::MAX)] {
            for points in [vec![(0.0, 5.0)], vec![(0.0, 0.0), (1.0, 1e6)], vec![(2.0, 3.0), (2.0, 3.0)], vec![]] {
                let series = Series {
                    name: "<a>".to_owned(),
                    unit: "ms",
                    colour: 7,
                    dashed: false,
                    points: points.clone(),
                    gap,
                };
                let axis = |scale| Axis { label: "x".to_owned(), scale };
                let plot = Plot {
                    wide: false,
                    title: "t".to_owned(),
                    description: "d".to_owned(),
                    x: axis(Scale::Linear),
                    y: axis(scale),
                    series: vec![series],
                    bands: vec![(0.0, 4.0, "load".to_owned())],
                };
                let frame = plot.frame();
                for (x, y) in points {
                    let (x, y) = frame.at(x, y);
                    assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{x} {y}");
                }
                let svg = plot.draw();
                assert!(svg.contains(" d=\"M") || plot.is_empty(), "a path begins somewhere: {svg}");
                assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<a>"), "{svg}");
            }
        }
    }
}
