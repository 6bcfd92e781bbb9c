//! A report for a terminal.

use std::fmt;

use super::{Publishing, Report, ServerCost};
use crate::histogram::Percentiles;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (c, tally) = (&self.connections, &self.tally);
        writeln!(f, "{}: {}", self.scenario.name, self.scenario.about)?;
        writeln!(f, "server       {} ({})", self.address, self.dialect)?;
        write!(f, "connections  {} of {} opened in {:.2} s ", c.opened, c.asked, c.seconds)?;
        writeln!(f, "({:.0}/s), {} closed early", c.per_second, c.closed_early)?;
        if c.left > 0 {
            writeln!(f, "             {} left, {} came back", c.left, c.came_back)?;
        }
        if c.slow > 0 {
            writeln!(f, "             {} do not read, {} of them closed by the server", c.slow, c.slow_closed)?;
        }
        if let Some(publishing) = &self.publishing {
            fmt_publishing(f, publishing)?;
        }
        if let Some(requests) = &self.requests {
            writeln!(
                f,
                "requests     {} answered in {:.2} s ({:.0}/s)",
                requests.answered, requests.seconds, requests.per_second
            )?;
        }
        if let Some(noise) = &self.noise {
            writeln!(f, "noise        {} sent, {} other events received", noise.sent, noise.received)?;
        }
        let faults = tally.faults().into_iter().filter(|(_, count)| *count > 0);
        let faults: Vec<String> = faults.map(|(name, count)| format!("{count} {name}")).collect();
        let verified = tally.received + tally.answered;
        writeln!(
            f,
            "faults       {} in {verified} verified",
            if faults.is_empty() { "none".to_owned() } else { faults.join(", ") }
        )?;
        for example in &tally.examples {
            writeln!(f, "  {example}")?;
        }
        writeln!(f, "{:46}{:>9} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99", "p99.9", "max")?;
        row(f, "  connect, to the joined room", Some(&c.latency))?;
        row(f, "  come back, to the joined room", Some(&c.reconnect))?;
        let publishing = self.publishing.as_ref();
        row(f, "  delivery, from the intended time", publishing.map(|publishing| &publishing.delivery))?;
        row(f, "  last delivery of a publish", publishing.and_then(|publishing| publishing.last.as_ref()))?;
        row(f, "  ack of a publish", publishing.and_then(|publishing| publishing.ack.as_ref()))?;
        row(f, "  request, from the intended time", self.requests.as_ref().map(|requests| &requests.latency))?;
        row(f, "  the load's own lateness, within these", Some(&self.own.late))?;
        if let Some(server) = &self.server {
            fmt_server(f, server)?;
        }
        if let Some(share) = self.beside_cpu_share {
            writeln!(f, "beside it    {:.1} % of a core", share * 100.0)?;
        }
        write!(f, "loadgen      {:.0} % of a core in {} process", self.own.cpu_share * 100.0, self.processes)?;
        if self.processes != 1 {
            write!(f, "es")?;
        }
        if self.own.busy_poll {
            write!(f, " (polling without sleeping)")?;
        }
        if let Some(cost) = self.own.cpu_us_per_delivery {
            write!(f, ", {cost:.2} us CPU a delivery")?;
        }
        writeln!(f, ", {} resident", mib(self.own.rss_bytes))?;
        for (name, table) in
            [("closed because", &self.failures), ("refused", &self.refusals), ("other events", &self.other_events)]
        {
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

fn fmt_publishing(f: &mut fmt::Formatter<'_>, publishing: &Publishing) -> fmt::Result {
    let Publishing { rooms, publishers, members_per_room_min: min, members_per_room_max: max, .. } = publishing;
    let members = if min == max { min.to_string() } else { format!("{min} to {max}") };
    writeln!(f, "rooms        {rooms} with {members} members each, {publishers} publishers")?;
    let (published, deliveries, seconds) = (publishing.published, publishing.deliveries, publishing.seconds);
    let rate = publishing.deliveries_per_second;
    writeln!(f, "deliveries   {deliveries} of {published} publishes in {seconds:.2} s ({rate:.0}/s)")
}

fn fmt_server(f: &mut fmt::Formatter<'_>, server: &ServerCost) -> fmt::Result {
    let [start, idle, end, most] =
        [server.rss_start_bytes, server.rss_idle_bytes, server.rss_end_bytes, server.rss_max_bytes].map(mib);
    writeln!(f, "server RSS   {start} empty, {idle} idle, {end} at the end, {most} at most")?;
    let (each, cpu) = (server.rss_per_connection_bytes, server.cpu_us_per_connection);
    writeln!(f, "  a connection: {each} bytes resident when idle, {cpu:.1} us CPU to open")?;
    let share = server.cpu_share * 100.0;
    write!(f, "server CPU   {:.2} s while measuring ({share:.1} % of a core)", server.cpu_seconds)?;
    for (rate, name) in [(server.deliveries_per_cpu_second, "deliveries"), (server.requests_per_cpu_second, "requests")]
    {
        if let Some(rate) = rate {
            write!(f, ", {rate:.0} {name} a CPU second")?;
        }
    }
    if let Some(cost) = server.cpu_us_per_reconnect {
        write!(f, ", {cost:.1} us a reconnect")?;
    }
    writeln!(f)
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, percentiles: Option<&Percentiles>) -> fmt::Result {
    let Some(p) = percentiles.filter(|p| p.count > 0) else { return Ok(()) };
    write!(f, "{name:46}")?;
    for value in [p.p50, p.p90, p.p99, p.p999, p.max] {
        write!(f, "{:>9.2} ", value as f64 / 1000.0)?;
    }
    writeln!(f, "ms")
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
