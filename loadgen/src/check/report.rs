//! The result of a run as a value: counts, percentiles, costs, and the checks whose conjunction is the verdict. Rendered as text or JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::scenario::Scenario;
use super::verify::Tally;
use crate::histogram::Percentiles;

/// Above this share of a core the load generator measures itself.
const OWN_CPU_SHARE_MAX: f64 = 0.9;

#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: Scenario,
    pub address: String,
    pub connections: Connections,
    /// `None` for a run that only holds connections.
    pub publishing: Option<Publishing>,
    /// `None` if the server's process is not known.
    pub server: Option<ServerCost>,
    pub own: OwnCost,
    /// Why connections failed or were closed, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Events that are not the load's, by name.
    pub other_events: BTreeMap<String, u64>,
    pub checks: Vec<Check>,
    pub warnings: Vec<String>,
    pub passed: bool,
}

#[derive(Debug, Serialize)]
pub struct Connections {
    pub asked: u32,
    pub opened: u32,
    pub closed_early: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// From the attempt to the acked subscription.
    pub latency: Percentiles,
}

#[derive(Debug, Serialize)]
pub struct Publishing {
    pub rooms: u32,
    pub publishers: u32,
    pub members_per_room_min: u32,
    pub members_per_room_max: u32,
    /// From the first publish until all was delivered or given up.
    pub seconds: f64,
    pub deliveries_per_second: f64,
    pub tally: Tally,
    pub refusals: BTreeMap<String, u64>,
    pub delivery: Percentiles,
    pub ack: Percentiles,
    /// How late the load generator itself sent; contained in the two above.
    pub late: Percentiles,
}

#[derive(Debug, Serialize)]
pub struct ServerCost {
    pub pid: u32,
    pub rss_start_bytes: u64,
    /// With every connection open and settled.
    pub rss_idle_bytes: u64,
    pub rss_end_bytes: u64,
    pub rss_per_connection_bytes: u64,
    /// Handshake, token, subscription.
    pub cpu_us_per_connection: f64,
    /// While publishing, or while holding.
    pub cpu_seconds: f64,
    /// Of one core, in the same time.
    pub cpu_share: f64,
    /// Zero without publishing.
    pub deliveries_per_cpu_second: f64,
}

#[derive(Debug, Serialize)]
pub struct OwnCost {
    /// Of one core, while publishing or holding.
    pub cpu_share: f64,
    /// CPU a delivery received, microseconds, publishing and acks included. Zero without publishing.
    pub cpu_us_per_delivery: f64,
    /// The part of it outside the kernel.
    pub user_us_per_delivery: f64,
    pub rss_bytes: u64,
}

/// One condition of the verdict.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub wanted: String,
    pub got: String,
    pub passed: bool,
}

impl Report {
    /// Fills in checks, warnings and the verdict from the rest.
    pub fn judge(mut self) -> Report {
        let mut checks = Vec::new();
        let mut check = |name: &str, wanted: String, got: String, passed: bool| {
            checks.push(Check { name: name.to_owned(), wanted, got, passed });
        };
        let connections = &self.connections;
        let opened = connections.opened;
        check("connections opened", connections.asked.to_string(), opened.to_string(), opened == connections.asked);
        let early = connections.closed_early;
        check("connections closed early", "0".to_owned(), early.to_string(), early == 0);
        if let Some(publishing) = &self.publishing {
            let tally = &publishing.tally;
            let planned = self.scenario.rate * (self.scenario.seconds + self.scenario.warmup);
            check("publishes acked", planned.to_string(), tally.acked.to_string(), tally.acked == planned);
            let complete = tally.received == tally.expected && tally.received > 0;
            check("deliveries", tally.expected.to_string(), tally.received.to_string(), complete);
            for (name, count) in tally.faults() {
                check(name, "0".to_owned(), count.to_string(), count == 0);
            }
            let p99_ms = publishing.delivery.p99 as f64 / 1000.0;
            let passed = publishing.delivery.count > 0 && p99_ms < self.scenario.p99_ms;
            check("delivery p99", format!("< {} ms", self.scenario.p99_ms), format!("{p99_ms:.2} ms"), passed);
        }
        self.passed = checks.iter().all(|check| check.passed);
        self.checks = checks;
        if self.own.cpu_share > OWN_CPU_SHARE_MAX {
            let share = self.own.cpu_share * 100.0;
            self.warnings
                .push(format!("loadgen used {share:.0} % of a core: the latencies measure it, not the server"));
        }
        if let Some(publishing) = self.publishing.as_ref().filter(|publishing| publishing.late.p99 > 5_000) {
            let late = publishing.late.p99 as f64 / 1000.0;
            self.warnings.push(format!("loadgen sent late (p99 {late:.1} ms): it lacked CPU"));
        }
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.connections;
        writeln!(f, "server       {}", self.address)?;
        write!(f, "connections  {} of {} opened in {:.2} s ", c.opened, c.asked, c.seconds)?;
        writeln!(f, "({:.0}/s), {} closed early", c.per_second, c.closed_early)?;
        writeln!(f, "{:46}{:>9} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99", "p99.9", "max")?;
        row(f, "  to the acked subscription", &c.latency)?;
        if let Some(publishing) = &self.publishing {
            fmt_publishing(f, publishing, self.scenario.warmup)?;
        }
        if let Some(server) = &self.server {
            fmt_server(f, server, self.publishing.is_some())?;
        }
        write!(f, "loadgen      {:.0} % of a core", self.own.cpu_share * 100.0)?;
        if self.publishing.is_some() {
            let (all, user) = (self.own.cpu_us_per_delivery, self.own.user_us_per_delivery);
            write!(f, ", {all:.2} us CPU a delivery ({user:.2} of it outside the kernel)")?;
        }
        writeln!(f, ", {} resident", bytes(self.own.rss_bytes))?;
        for (name, table) in [("closed because", &self.failures), ("other events", &self.other_events)] {
            for (reason, count) in table {
                writeln!(f, "{name}: {reason} ({count})")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for check in self.checks.iter().filter(|check| !check.passed) {
            writeln!(f, "FAILED {}: {}, wanted {}", check.name, check.got, check.wanted)?;
        }
        let passed = self.checks.iter().filter(|check| check.passed).count();
        let verdict = if self.passed { "passed" } else { "FAILED" };
        writeln!(f, "{verdict}: {passed} of {} checks", self.checks.len())
    }
}

fn fmt_publishing(f: &mut fmt::Formatter<'_>, publishing: &Publishing, warmup: u64) -> fmt::Result {
    let Publishing { rooms, publishers, members_per_room_min, members_per_room_max, tally, .. } = publishing;
    let members = match members_per_room_min == members_per_room_max {
        true => members_per_room_min.to_string(),
        false => format!("{members_per_room_min} to {members_per_room_max}"),
    };
    writeln!(f, "rooms        {rooms} with {members} members each, {publishers} publishers")?;
    writeln!(
        f,
        "publishes    {} due, {} acked, {} refused, {} unacked, {} unsent",
        tally.published, tally.acked, tally.refused, tally.unacked, tally.unsent
    )?;
    writeln!(
        f,
        "deliveries   {} of {} in {:.2} s ({:.0}/s)",
        tally.received, tally.expected, publishing.seconds, publishing.deliveries_per_second
    )?;
    row(f, "  delivery, from the intended time", &publishing.delivery)?;
    row(f, "  ack, from the intended time", &publishing.ack)?;
    row(f, "  loadgen's own lateness, within both", &publishing.late)?;
    if warmup > 0 {
        writeln!(f, "  (the first {warmup} s are checked but not in delivery and ack)")?;
    }
    let faults = tally.faults_line();
    writeln!(f, "faults       {}", if faults.is_empty() { "none" } else { &faults })?;
    for example in &tally.examples {
        writeln!(f, "  {example}")?;
    }
    for (reason, count) in &publishing.refusals {
        writeln!(f, "refused: {reason} ({count})")?;
    }
    Ok(())
}

fn fmt_server(f: &mut fmt::Formatter<'_>, server: &ServerCost, publishing: bool) -> fmt::Result {
    let [start, idle, end] = [server.rss_start_bytes, server.rss_idle_bytes, server.rss_end_bytes].map(bytes);
    writeln!(f, "server RSS   {start} empty, {idle} with idle connections, {end} at the end")?;
    let (each, cpu) = (server.rss_per_connection_bytes, server.cpu_us_per_connection);
    writeln!(f, "  a connection: {each} bytes resident when idle, {cpu:.0} us CPU to open")?;
    let doing = if publishing { "publishing" } else { "idle" };
    write!(f, "server CPU   {:.2} s while {doing} ({:.0} % of a core)", server.cpu_seconds, server.cpu_share * 100.0)?;
    match publishing {
        true => writeln!(f, ", {:.0} deliveries a CPU second", server.deliveries_per_cpu_second),
        false => writeln!(f),
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, p: &Percentiles) -> fmt::Result {
    write!(f, "{name:46}")?;
    for value in [p.p50, p.p90, p.p99, p.p999, p.max] {
        write!(f, "{:>9.2} ", value as f64 / 1000.0)?;
    }
    writeln!(f, "ms")
}

fn bytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
