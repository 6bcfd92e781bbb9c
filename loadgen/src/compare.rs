//! Two servers, the same scenario, in turns: A B A B. What disturbs the machine disturbs both, so the ratio of a round says more than two figures.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::report::{Report, figures};
use crate::round::{self, Side};
use crate::watch::Watch;

/// A difference below this part is none: two runs of one server differ by more.
const SAME: f64 = 0.02;

#[derive(Debug, Serialize)]
pub struct Comparison {
    /// By side.
    pub addresses: [String; 2],
    pub dialects: [String; 2],
    pub rows: Vec<Row>,
    /// In order: A and B of each round.
    pub rounds: Vec<[Report; 2]>,
    /// Every round of both sides.
    pub passed: bool,
}

/// One figure over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub more_is_better: bool,
    pub sides: [Spread; 2],
    /// A to B, of each round; `None` where B has a nought.
    pub ratio: Option<Spread>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

pub fn run(sides: [&Side; 2], rounds: u32) -> Result<Comparison> {
    let mut all = Vec::new();
    for round in 1..=rounds {
        let mut reports = Vec::new();
        for (side, name) in sides.into_iter().zip(["A", "B"]) {
            eprintln!("round {round} of {rounds}, {name}: {}", side.url.as_deref().unwrap_or("started here"));
            reports.push(round::run(side, &mut Watch::new()?)?);
        }
        all.extend(<[Report; 2]>::try_from(reports));
    }
    Ok(of(all))
}

/// The comparison of these rounds.
pub fn of(rounds: Vec<[Report; 2]>) -> Comparison {
    let side = |report: fn(&Report) -> &String, at: usize| {
        rounds.first().map(|round| report(&round[at]).clone()).unwrap_or_default()
    };
    let addresses = [0, 1].map(|at| side(|report| &report.address, at));
    let dialects = [0, 1].map(|at| side(|report| &report.dialect, at));
    let figures: Vec<[Vec<crate::report::Figure>; 2]> =
        rounds.iter().map(|round| [figures(&round[0]), figures(&round[1])]).collect();
    let names = figures.first().map(|[a, _]| a.clone()).unwrap_or_default();
    let mut rows = Vec::new();
    for figure in names {
        let value = |side: &Vec<crate::report::Figure>| {
            side.iter().find(|other| other.name == figure.name).map(|other| other.value)
        };
        let pairs: Option<Vec<(f64, f64)>> = figures.iter().map(|[a, b]| value(a).zip(value(b))).collect();
        // What only one side knows, such as the CPU of a process nobody named, is not compared.
        let Some(pairs) = pairs else { continue };
        let ratios: Option<Vec<f64>> = pairs.iter().map(|&(a, b)| (b != 0.0).then(|| a / b)).collect();
        rows.push(Row {
            name: figure.name,
            unit: figure.unit,
            more_is_better: figure.more_is_better,
            sides: [
                spread(pairs.iter().map(|pair| pair.0).collect()),
                spread(pairs.iter().map(|pair| pair.1).collect()),
            ],
            ratio: ratios.map(spread),
        });
    }
    let passed = rounds.iter().flatten().all(|report| report.passed);
    Comparison { addresses, dialects, rows, rounds, passed }
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
    let last = values.len().saturating_sub(1);
    Spread { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, min: at(0), max: at(last) }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds.len();
        if let Some([first, _]) = self.rounds.first() {
            writeln!(f, "{}: {}", first.scenario.name, first.scenario.about)?;
        }
        for (name, side) in [("A", 0), ("B", 1)] {
            writeln!(f, "{name}  {} ({})", self.addresses[side], self.dialects[side])?;
        }
        writeln!(f, "medians of {rounds} rounds in turns, and from the least to the most")?;
        writeln!(f, "{:28}{:>34}{:>34}{:>24}", "", "A", "B", "A / B")?;
        for row in &self.rows {
            let name = if row.unit.is_empty() { row.name.to_owned() } else { format!("{}, {}", row.name, row.unit) };
            let [a, b] =
                row.sides.map(|side| format!("{} ({}-{})", number(side.median), number(side.min), number(side.max)));
            let ratio = row.ratio.map_or("-".to_owned(), |r| format!("{:.2} ({:.2}-{:.2})", r.median, r.min, r.max));
            let better = match row.ratio {
                Some(ratio) if ratio.min > 1.0 + SAME => ["B", "A"][usize::from(row.more_is_better)],
                Some(ratio) if ratio.max < 1.0 - SAME => ["A", "B"][usize::from(row.more_is_better)],
                _ => "",
            };
            writeln!(f, "{name:28}{a:>34}{b:>34}{ratio:>24} {better}")?;
        }
        writeln!(f, "(the letter at the end is the side that was better in every round)")?;
        for (index, round) in self.rounds.iter().enumerate() {
            for (report, side) in round.iter().zip(["A", "B"]) {
                for check in report.checks.iter().filter(|check| !check.passed) {
                    writeln!(f, "FAILED {side}{}: {}: {}, wanted {}", index + 1, check.name, check.got, check.wanted)?;
                }
                for warning in &report.warnings {
                    writeln!(f, "warning {side}{}: {warning}", index + 1)?;
                }
            }
        }
        writeln!(f, "{}", if self.passed { "passed" } else { "FAILED" })
    }
}

/// As many digits as are read: 1,234,567 and 0.123.
pub fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) && !out.ends_with('-') {
                out.push(',');
            }
            out.push(digit);
        }
        out
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        for (values, expected) in
            [(vec![3.0, 1.0, 2.0], (2.0, 1.0, 3.0)), (vec![4.0, 1.0], (2.5, 1.0, 4.0)), (vec![7.0], (7.0, 7.0, 7.0))]
        {
            let Spread { median, min, max } = spread(values);
            assert_eq!((median, min, max), expected);
        }
        for (value, text) in [
            (1_234_567.4, "1,234,567"),
            (1000.0, "1,000"),
            (999.4, "999"),
            (12.34, "12.3"),
            (0.126, "0.13"),
            (-12_345.0, "-12,345"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
