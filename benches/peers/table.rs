//! The figures of all runs, and the table they make: medians, the goals beside them.

use crate::load::Report;
use crate::machine;
use crate::row::{Better, Figure, Goal, ROWS, Row, Scenario};
use crate::server::Contender;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

pub struct Table {
    rounds: u32,
    contenders: Vec<Contender>,
    /// By row, by contender: a figure a round.
    figures: Vec<Vec<Vec<f64>>>,
    /// What a run was not right in.
    complaints: Vec<String>,
}

impl Table {
    pub fn new(rounds: u32, contenders: &[Contender]) -> Table {
        let figures = ROWS.iter().map(|_| contenders.iter().map(|_| Vec::new()).collect()).collect();
        Table { rounds, contenders: contenders.to_vec(), figures, complaints: Vec::new() }
    }

    /// Takes the figures of one run; says them.
    pub fn take(&mut self, scenario: &Scenario, contender: Contender, report: &Report) -> Result<String> {
        let Some(column) = self.contenders.iter().position(|known| *known == contender) else {
            bail!("{} is not measured", contender.name());
        };
        let mut told = Vec::new();
        for (row, figures) in ROWS.iter().zip(&mut self.figures) {
            if row.scenario == scenario.name {
                let figure =
                    report.figure(row.figure).with_context(|| format!("{:?} is not in the report", row.figure))?;
                figures[column].push(figure);
                told.push(format!("{} {}", number(figure, row.figure), short_name(row.figure)));
            }
        }
        let complaints = report.complaints();
        let named = |complaint: &String| format!("{}, {}: {complaint}", scenario.name, contender.name());
        self.complaints.extend(complaints.iter().map(named));
        told.extend(complaints);
        Ok(told.join(", "))
    }

    fn median(&self, row: usize, contender: Contender) -> Option<f64> {
        let column = self.contenders.iter().position(|known| *known == contender)?;
        let mut figures = self.figures[row][column].clone();
        figures.sort_by(f64::total_cmp);
        let (low, high) = (figures.get(figures.len().wrapping_sub(1) / 2)?, figures.get(figures.len() / 2)?);
        Some((low + high) / 2.0)
    }

    /// What the row's goal is here, and where it comes from.
    fn goal(&self, at: usize) -> Option<(f64, &'static str)> {
        match ROWS[at].goal {
            Goal::Absolute(goal) => Some((goal, "absolute")),
            Goal::SocketIo => Some((self.median(at, Contender::SocketIo)?, "socket.io, this run")),
            Goal::ThreeTimesSocketIo => {
                Some((self.median(at, Contender::SocketIo)? * 3.0, "three times socket.io, this run"))
            }
            Goal::None => None,
            Goal::UWebSockets { of_socket_io } => {
                let measured = self.median(at, Contender::UWebSockets).map(|goal| (goal, "uwebsockets, this run"));
                let derived = || self.median(at, Contender::SocketIo).map(|figure| figure * of_socket_io);
                measured
                    .or_else(|| Some((derived()?, "socket.io, this run, times the ratio measured in November 2026")))
            }
        }
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "\n{}, medians of {} rounds with least - most", machine::describe(), self.rounds);
        for (at, row) in ROWS.iter().enumerate() {
            if self.figures[at].iter().all(Vec::is_empty) {
                continue;
            }
            let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
            let _ = writeln!(out, "\n{}{unit}", row.name);
            let reference = self.median(at, Contender::UWebSockets).or_else(|| self.median(at, Contender::SocketIo));
            for (contender, figures) in self.contenders.iter().zip(&self.figures[at]) {
                let Some(median) = self.median(at, *contender) else { continue };
                let (least, most) = range(figures);
                let range = format!("{} - {}", number(least, row.figure), number(most, row.figure));
                let ratio = reference.map_or(String::new(), |reference| format!("{:.2}", median / reference));
                let median = number(median, row.figure);
                let _ = writeln!(out, "  {:<22}{median:>12}{range:>26}{ratio:>9}", contender.name());
            }
            if let Some((goal, origin)) = self.goal(at) {
                let _ = write!(out, "  {:<22}{:>12}  ({origin})", "goal", number(goal, row.figure));
                for ours in self.contenders.iter().filter(|contender| contender.is_ours()) {
                    if let Some(median) = self.median(at, *ours) {
                        let _ = write!(out, " {}: {}", ours.name(), verdict(row, median, goal));
                    }
                }
                out.push('\n');
            }
        }
        out.push_str("\nratio: of uwebsockets' figure (of socket.io's, where it did not run)\n");
        if !self.complaints.is_empty() {
            let _ = writeln!(out, "not as it should be:\n  {}", self.complaints.join("\n  "));
        }
        out
    }

    /// Saves what was measured; rows of an earlier run that this one did not measure stay as they are.
    pub fn save(&self, path: &Path) -> Result<()> {
        let before: Value =
            std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let kept = |name: &str| before["rows"].as_array()?.iter().find(|row| row["name"] == name).cloned();
        let measured = |at: usize| self.figures[at].iter().any(|figures| !figures.is_empty());
        let rows = ROWS.iter().enumerate();
        let rows = rows.filter_map(|(at, row)| if measured(at) { Some(self.row(at, row)) } else { kept(row.name) });
        let all = json!({ "machine": machine::describe(), "rows": rows.collect::<Vec<_>>() });
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        }
        let text = serde_json::to_string_pretty(&all)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn row(&self, at: usize, row: &Row) -> Value {
        let servers: serde_json::Map<String, Value> = self
            .contenders
            .iter()
            .zip(&self.figures[at])
            .filter(|(_, figures)| !figures.is_empty())
            .map(|(contender, figures)| {
                let (least, most) = range(figures);
                let median = self.median(at, *contender);
                (contender.name().to_owned(), json!({ "median": median, "least": least, "most": most, "all": figures }))
            })
            .collect();
        let goal = self.goal(at).map(|(goal, origin)| json!({ "value": goal, "from": origin }));
        let date = humantime::format_rfc3339_seconds(machine::unix_time()).to_string();
        let complaints = self.complaints.iter().filter(|complaint| complaint.starts_with(row.scenario));
        json!({
            "name": row.name,
            "scenario": row.scenario,
            "unit": row.unit,
            "date": date,
            "servers": servers,
            "goal": goal,
            "complaints": complaints.collect::<Vec<_>>(),
        })
    }
}

fn verdict(row: &Row, ours: f64, goal: f64) -> &'static str {
    let met = match row.better {
        Better::Higher => ours >= goal,
        Better::Lower => ours <= goal,
    };
    if met { "met" } else { "NOT met" }
}

fn range(figures: &[f64]) -> (f64, f64) {
    figures.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| (least.min(*one), most.max(*one)))
}

fn short_name(figure: Figure) -> &'static str {
    match figure {
        Figure::DeliveriesPerCpuSecond => "deliveries per CPU-second",
        Figure::DeliveryP99Ms => "ms p99",
        Figure::LastDeliveryP99Ms => "ms p99 of the last",
        Figure::RequestsPerCpuSecond => "requests per CPU-second",
        Figure::CpuUsPerConnection => "us of CPU a connection",
        Figure::BytesPerConnection => "B a connection",
        Figure::IdleCpu => "% of a core idle",
        Figure::PublishesPerSecond => "publishes/s",
        Figure::RedisCpuUsPerPublish => "us of Redis' CPU a publish",
    }
}

/// Large ones whole, with commas; small ones with two digits.
fn number(value: f64, figure: Figure) -> String {
    if value < 100.0 && !matches!(figure, Figure::BytesPerConnection) {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
