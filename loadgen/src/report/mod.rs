//! The result of a run as a value: counts, percentiles, costs, a line for every second, and the checks whose conjunction is the verdict.
//! Rendered as text (`text`), as JSON (as it is), and as a page (`page`).

mod figure;
mod gather;
mod text;

pub use figure::{Figure, figures};
pub use gather::gather;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::Percentiles;
use crate::machine::Machine;
use crate::protocol::{Phase, Tally};
use crate::scenario::Scenario;

/// Above this share of a core a load process measures itself.
const OWN_CPU_SHARE_MAX: f64 = 0.9;
/// Cores taken by whoever else is on the machine, above which the figures are partly theirs.
const OTHERS_CPU_SHARE_MAX: f64 = 0.15;
/// Lateness of the load itself that is worth a word.
const LATE_P99_US: u64 = 5_000;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub scenario: Scenario,
    pub dialect: String,
    pub address: String,
    pub processes: u32,
    pub machine: Machine,
    /// Seconds of Unix time.
    pub ended: u64,
    pub connections: Connections,
    pub publishing: Option<Publishing>,
    pub requests: Option<Requests>,
    pub noise: Option<NoiseCount>,
    /// Over the whole run, warm-up included.
    pub tally: Tally,
    pub failures: BTreeMap<String, u64>,
    pub refusals: BTreeMap<String, u64>,
    pub other_events: BTreeMap<String, u64>,
    /// `None` if the server's process is not known.
    pub server: Option<ServerCost>,
    /// CPU of what works for the server beside it, of one core while measuring; `None` where nothing was named.
    pub beside_cpu_share: Option<f64>,
    pub own: OwnCost,
    /// Cores that neither the server nor the load used while measuring, but somebody did; `None` if the server's process is not known.
    pub others_cpu_share: Option<f64>,
    pub curves: Vec<Curve>,
    pub timeline: Vec<Second>,
    pub checks: Vec<Check>,
    pub warnings: Vec<String>,
    pub passed: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Connections {
    pub asked: u32,
    pub opened: u32,
    pub closed_early: u64,
    /// Of those that do not read.
    pub slow: u32,
    pub slow_closed: u64,
    /// Left on purpose, and came back.
    pub left: u64,
    pub came_back: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// From the intended time to the joined room. Microseconds, as everywhere.
    pub latency: Percentiles,
    pub reconnect: Percentiles,
}

#[derive(Clone, Debug, Serialize)]
pub struct Publishing {
    pub rooms: u32,
    pub publishers: u32,
    pub members_per_room_min: u32,
    pub members_per_room_max: u32,
    /// While measuring, as all rates here.
    pub seconds: f64,
    pub published: u64,
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    /// From the intended time (in a closed loop, the real one) to each delivery.
    pub delivery: Percentiles,
    /// To the last delivery of each publish, where it was asked for.
    pub last: Option<Percentiles>,
    pub ack: Option<Percentiles>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    pub seconds: f64,
    pub answered: u64,
    pub per_second: f64,
    pub latency: Percentiles,
}

#[derive(Clone, Debug, Serialize)]
pub struct NoiseCount {
    pub sent: u64,
    /// With every other event that is not the load's.
    pub received: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    pub pids: Vec<u32>,
    pub rss_start_bytes: u64,
    /// With every connection open and settled.
    pub rss_idle_bytes: u64,
    pub rss_end_bytes: u64,
    /// The most that was seen, once a second.
    pub rss_max_bytes: u64,
    pub rss_per_connection_bytes: u64,
    /// While connecting: handshake, token, joining.
    pub cpu_us_per_connection: f64,
    /// While measuring.
    pub cpu_seconds: f64,
    /// Of one core.
    pub cpu_share: f64,
    /// The part of it outside the kernel.
    pub user_share: f64,
    pub deliveries_per_cpu_second: Option<f64>,
    pub requests_per_cpu_second: Option<f64>,
    pub cpu_us_per_reconnect: Option<f64>,
    /// Of the memory, from the first quarter of measuring to the last.
    pub rss_growth_percent: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct OwnCost {
    /// Of one core, all processes together, while measuring; without polling while nothing came.
    pub cpu_share: f64,
    pub cpu_us_per_delivery: Option<f64>,
    /// It polled without sleeping.
    pub busy_poll: bool,
    pub rss_bytes: u64,
    /// How late the load itself was sent; contained in the latencies.
    pub late: Percentiles,
}

/// A latency by quantile.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    pub name: String,
    /// (quantile, microseconds)
    pub points: Vec<(f64, u64)>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Second {
    pub phase: Phase,
    /// Since the first connection was opened.
    pub at: f64,
    pub seconds: f64,
    pub opened: u64,
    pub published: u64,
    pub deliveries: u64,
    pub answered: u64,
    pub other_received: u64,
    pub received_bytes: u64,
    pub delivery_p50: u64,
    pub delivery_p99: u64,
    pub request_p50: u64,
    pub request_p99: u64,
    pub connect_p50: u64,
    pub connect_p99: u64,
    /// Of one core.
    pub server_cpu: Option<f64>,
    pub server_rss_bytes: Option<u64>,
    pub own_cpu: Option<f64>,
}

/// One condition of the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub wanted: String,
    pub got: String,
    pub passed: bool,
}

impl Report {
    /// Fills in checks, warnings and the verdict from the rest.
    fn judge(mut self) -> Report {
        let mut checks = Vec::new();
        let mut check = |name: &str, wanted: String, got: String, passed: bool| {
            checks.push(Check { name: name.to_owned(), wanted, got, passed });
        };
        let (connections, tally) = (&self.connections, &self.tally);
        let (asked, opened) = (connections.asked, connections.opened);
        check("connections opened", asked.to_string(), opened.to_string(), opened == asked);
        let early = connections.closed_early;
        check("connections closed early", "0".to_owned(), early.to_string(), early == 0);
        if self.scenario.churn.is_some() || self.scenario.storm.is_some() {
            let (left, back) = (connections.left, connections.came_back);
            check("connections that came back", left.to_string(), back.to_string(), left == back && left > 0);
        }
        if self.publishing.is_some() {
            let complete = tally.received == tally.expected && tally.received > 0;
            check("deliveries", tally.expected.to_string(), tally.received.to_string(), complete);
        }
        if self.scenario.publish.is_some_and(|publish| publish.ack) && tally.acked + tally.unacked + tally.refused > 0 {
            check(
                "publishes acked",
                tally.published.to_string(),
                tally.acked.to_string(),
                tally.acked == tally.published,
            );
        }
        if self.requests.is_some() {
            let complete = tally.answered == tally.requested && tally.answered > 0;
            check("requests answered", tally.requested.to_string(), tally.answered.to_string(), complete);
        }
        for (name, count) in tally.faults() {
            check(name, "0".to_owned(), count.to_string(), count == 0);
        }
        let limits = self.scenario.checks;
        let nothing = Percentiles::default();
        let delivery = self.publishing.as_ref().map_or(nothing, |publishing| publishing.delivery);
        let last = self.publishing.as_ref().and_then(|publishing| publishing.last).unwrap_or(nothing);
        let request = self.requests.as_ref().map_or(nothing, |requests| requests.latency);
        for (name, limit, percentiles) in [
            ("delivery p99", limits.delivery_p99_ms, delivery),
            ("last delivery p99", limits.last_p99_ms, last),
            ("request p99", limits.request_p99_ms, request),
            ("connect p99", limits.connect_p99_ms, connections.latency),
        ] {
            let Some(limit) = limit else { continue };
            let got = percentiles.p99 as f64 / 1000.0;
            check(name, format!("< {limit} ms"), format!("{got:.2} ms"), percentiles.count > 0 && got < limit);
        }
        if let Some(limit) = limits.rss_growth_percent {
            match &self.server {
                Some(server) => {
                    let growth = server.rss_growth_percent;
                    check("server memory growth", format!("< {limit} %"), format!("{growth:.1} %"), growth < limit);
                }
                None => self.warnings.push("the server's memory is not known: give --server-pid".to_owned()),
            }
        }
        self.passed = checks.iter().all(|check| check.passed);
        self.checks = checks;
        let each = self.own.cpu_share / f64::from(self.processes);
        if each > OWN_CPU_SHARE_MAX && self.scenario.is_open() {
            let share = each * 100.0;
            self.warnings
                .push(format!("a load process used {share:.0} % of a core: the latencies measure it, not the server"));
        }
        if let Some(share) = self.others_cpu_share.filter(|share| *share > OTHERS_CPU_SHARE_MAX) {
            self.warnings
                .push(format!("others on this machine used {share:.1} cores meanwhile: repeat it when they do not"));
        }
        if self.own.late.p99 > LATE_P99_US {
            let late = self.own.late.p99 as f64 / 1000.0;
            self.warnings.push(format!("the load was sent late (p99 {late:.1} ms): its processes lacked CPU"));
        }
        self
    }
}

#[cfg(test)]
#[path = "../report_tests.rs"]
pub mod tests;
