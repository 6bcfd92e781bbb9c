//! A report as one page: no script, no font, no picture from elsewhere. Readable in light and dark, by eye and by ear: every plot says in words
//! what it shows, and its numbers stand in a table below.

mod chart;
mod plot;

use std::fmt::Write as _;

use crate::compare::{Comparison, number};
use crate::histogram::Percentiles;
use crate::report::{Report, figures};

use self::plot::escape;

/// Seconds in the table; of a longer run every second or third or so.
const ROWS_MAX: usize = 600;
const STYLE: &str = include_str!("style.css");

/// The page of one run.
pub fn of_report(report: &Report) -> String {
    let mut body = header(&report.scenario.name, &report.scenario.about, report.passed);
    let _ = write!(body, "<p class=\"soft\">{}</p></header>", escape(&place(report)));
    warnings(&mut body, "", report);
    body.push_str("<section class=\"tiles\" aria-label=\"Key figures\">");
    for figure in figures(report) {
        let (value, unit) = (number(figure.value), figure.unit);
        let _ =
            write!(body, "<div class=\"tile\"><b>{value} <small>{unit}</small></b><span>{}</span></div>", figure.name);
    }
    body.push_str("</section>");
    plots(&mut body, &[("", report)]);
    body.push_str("<h2>Latencies</h2>");
    percentiles(&mut body, report);
    body.push_str("<h2>Checks</h2>");
    checks(&mut body, report);
    about(&mut body, report);
    timeline(&mut body, "Second by second", report);
    page(&report.scenario.name, &body)
}

/// The page of a comparison: the ratios, and the last round of both sides drawn over each other.
pub fn of_comparison(comparison: &Comparison) -> String {
    let Some([a, b]) = comparison.rounds.last() else { return page("comparison", "") };
    let mut body = header(&a.scenario.name, &a.scenario.about, comparison.passed);
    for (side, name) in [(0, "A"), (1, "B")] {
        let (address, dialect) = (&comparison.addresses[side], &comparison.dialects[side]);
        let _ = write!(body, "<p class=\"soft\"><b>{name}</b> {} ({})</p>", escape(address), escape(dialect));
    }
    body.push_str("</header>");
    warnings(&mut body, "A: ", a);
    warnings(&mut body, "B: ", b);
    let rounds = comparison.rounds.len();
    let _ = write!(body, "<h2>Medians of {rounds} rounds in turns</h2>");
    table(&mut body, &["", "A", "A, least to most", "B", "B, least to most", "A / B", "in the rounds"], |rows| {
        for row in &comparison.rows {
            let name = if row.unit.is_empty() { row.name.to_owned() } else { format!("{}, {}", row.name, row.unit) };
            let mut cells = vec![name];
            for side in row.sides {
                cells.extend([number(side.median), format!("{} – {}", number(side.min), number(side.max))]);
            }
            match row.ratio {
                Some(ratio) => {
                    cells.extend([format!("{:.2}", ratio.median), format!("{:.2} – {:.2}", ratio.min, ratio.max)])
                }
                None => cells.extend(["–".to_owned(), "–".to_owned()]),
            }
            rows.push(cells);
        }
    });
    body.push_str("<p class=\"soft\">The plots and tables below are of the last round.</p>");
    plots(&mut body, &[("A ", a), ("B ", b)]);
    for (name, report) in [("A", a), ("B", b)] {
        let _ = write!(body, "<h2>Latencies of {name}</h2>");
        percentiles(&mut body, report);
    }
    body.push_str("<h2>Checks</h2><div class=\"two\">");
    for (name, report) in [("A", a), ("B", b)] {
        let _ = write!(body, "<div><p class=\"soft\">{name}</p>");
        checks(&mut body, report);
        body.push_str("</div>");
    }
    body.push_str("</div>");
    about(&mut body, a);
    timeline(&mut body, "A, second by second", a);
    timeline(&mut body, "B, second by second", b);
    page(&format!("{}: A and B", a.scenario.name), &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>loadgen: {}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

fn header(name: &str, about: &str, passed: bool) -> String {
    let verdict = if passed { "passed" } else { "failed" };
    let (name, about) = (escape(name), escape(about));
    format!(
        "<header><div class=\"line\"><h1>{name}</h1><span class=\"verdict {verdict}\">{verdict}</span></div><p>{about}</p>"
    )
}

fn place(report: &Report) -> String {
    let processes = if report.processes == 1 {
        "one load process".to_owned()
    } else {
        format!("{} load processes", report.processes)
    };
    format!("{}, spoken to as {}, by {processes}", report.address, report.dialect)
}

fn warnings(body: &mut String, side: &str, report: &Report) {
    for warning in &report.warnings {
        let _ = write!(body, "<p class=\"warning\" role=\"note\">{}{}</p>", escape(side), escape(warning));
    }
    for example in &report.tally.examples {
        let _ = write!(body, "<p class=\"warning\" role=\"note\">{}{}</p>", escape(side), escape(example));
    }
}

fn plots(body: &mut String, sides: &[(&str, &Report)]) {
    body.push_str("<h2>Plots</h2><section class=\"plots\" aria-label=\"Plots\">");
    for plot in chart::all(sides).into_iter().filter(|plot| !plot.is_empty()) {
        body.push_str(&plot.draw());
    }
    body.push_str("</section>");
}

fn percentiles(body: &mut String, report: &Report) {
    let publishing = report.publishing.as_ref();
    let rows = [
        ("connect, to the joined room", Some(report.connections.latency)),
        ("come back, to the joined room", Some(report.connections.reconnect)),
        ("delivery", publishing.map(|publishing| publishing.delivery)),
        ("last delivery of a publish", publishing.and_then(|publishing| publishing.last)),
        ("ack of a publish", publishing.and_then(|publishing| publishing.ack)),
        ("request", report.requests.as_ref().map(|requests| requests.latency)),
        ("the load's own lateness", Some(report.own.late)),
    ];
    table(body, &["milliseconds", "count", "p50", "p90", "p99", "p99.9", "most"], |cells| {
        for (name, percentiles) in rows {
            let Some(p) = percentiles.filter(|p: &Percentiles| p.count > 0) else { continue };
            let mut row = vec![name.to_owned(), number(p.count as f64)];
            row.extend([p.p50, p.p90, p.p99, p.p999, p.max].map(|us| number(us as f64 / 1000.0)));
            cells.push(row);
        }
    });
}

fn checks(body: &mut String, report: &Report) {
    body.push_str("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">check</th><th scope=\"col\">wanted</th><th scope=\"col\">got</th><th scope=\"col\">verdict</th></tr></thead><tbody>");
    for check in &report.checks {
        let verdict = if check.passed { "passed" } else { "failed" };
        let [name, wanted, got] = [&check.name, &check.wanted, &check.got].map(|text| escape(text));
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{name}</th><td>{wanted}</td><td>{got}</td><td class=\"{verdict}\">{verdict}</td></tr>"
        );
    }
    body.push_str("</tbody></table></div>");
}

/// The scenario as its file would say it, and the machine.
fn about(body: &mut String, report: &Report) {
    let scenario = toml::to_string(&report.scenario).unwrap_or_default();
    let machine = &report.machine;
    body.push_str("<div class=\"two\"><div><h2>Scenario</h2>");
    let _ = write!(body, "<pre tabindex=\"0\">{}</pre></div><div><h2>Machine</h2>", escape(&scenario));
    table(body, &["", ""], |rows| {
        let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
        row("processor", machine.cpu.clone());
        row("cores", machine.cores.to_string());
        row("memory", format!("{:.1} GiB", machine.memory_bytes as f64 / f64::from(1 << 30)));
        row("kernel", machine.kernel.clone());
        row("loadgen", env!("CARGO_PKG_VERSION").to_owned());
        row("loadgen's CPU", format!("{:.0} % of a core", report.own.cpu_share * 100.0));
        if let Some(server) = &report.server {
            let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            row(
                "server's CPU",
                format!(
                    "{:.1} % of a core, {:.1} outside the kernel",
                    server.cpu_share * 100.0,
                    server.user_share * 100.0
                ),
            );
            row("server's memory, empty", mib(server.rss_start_bytes));
            row("with idle connections", mib(server.rss_idle_bytes));
            row("at most", mib(server.rss_max_bytes));
        }
        row("ended", format!("{} UTC", moment(report.ended)));
    });
    for (title, counts) in
        [("Closed because", &report.failures), ("Refused", &report.refusals), ("Other events", &report.other_events)]
    {
        if !counts.is_empty() {
            let _ = write!(body, "<h2>{title}</h2>");
            table(body, &["", "count"], |rows| {
                rows.extend(counts.iter().map(|(name, count)| vec![name.clone(), number(*count as f64)]));
            });
        }
    }
    body.push_str("</div></div>");
}

fn timeline(body: &mut String, title: &str, report: &Report) {
    let _ = write!(body, "<details><summary>{}</summary>", escape(title));
    let columns = [
        "at, s",
        "phase",
        "opened",
        "published",
        "deliveries",
        "p50, ms",
        "p99, ms",
        "requests",
        "p99, ms",
        "server CPU, %",
        "memory, MiB",
    ];
    table(body, &columns, |rows| {
        let step = report.timeline.len().div_ceil(ROWS_MAX).max(1);
        for second in report.timeline.iter().step_by(step) {
            let ms = |us: u64| if us == 0 { "–".to_owned() } else { number(us as f64 / 1000.0) };
            let phase = format!("{:?}", second.phase).to_lowercase();
            rows.push(vec![
                format!("{:.0}", second.at),
                phase,
                second.opened.to_string(),
                second.published.to_string(),
                second.deliveries.to_string(),
                ms(second.delivery_p50),
                ms(second.delivery_p99),
                second.answered.to_string(),
                ms(second.request_p99),
                second.server_cpu.map_or("–".to_owned(), |share| format!("{:.0}", share * 100.0)),
                second
                    .server_rss_bytes
                    .map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20))),
            ]);
        }
    });
    body.push_str("</details>");
}

fn table(body: &mut String, columns: &[&str], fill: impl FnOnce(&mut Vec<Vec<String>>)) {
    let mut rows = Vec::new();
    fill(&mut rows);
    body.push_str("<div class=\"scroll\"><table>");
    if columns.iter().any(|column| !column.is_empty()) {
        body.push_str("<thead><tr>");
        for column in columns {
            let _ = write!(body, "<th scope=\"col\">{}</th>", escape(column));
        }
        body.push_str("</tr></thead>");
    }
    body.push_str("<tbody>");
    for row in rows {
        body.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = if index == 0 {
                write!(body, "<th scope=\"row\">{cell}</th>")
            } else {
                write!(body, "<td>{cell}</td>")
            };
        }
        body.push_str("</tr>");
    }
    body.push_str("</tbody></table></div>");
}

/// Seconds of Unix time as a date and time (the days' arithmetic is Howard Hinnant's `civil_from_days`).
fn moment(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
#[path = "../page_tests.rs"]
mod tests;
