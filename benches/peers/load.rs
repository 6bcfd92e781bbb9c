//! loadgen on its core: one scenario against one server, and the figures of its report.

use crate::machine::root;
use crate::recipe::Built;
use crate::row::{Figure, Scenario, dialect};
use crate::server::{SECRET, Server};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::{Command, Stdio};

/// loadgen's report, as JSON.
pub struct Report(Value);

pub fn run(scenario: &Scenario, server: &Server, built: &Built, core: usize, quick: bool) -> Result<Report> {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(&built.loadgen).args(["run", scenario.name, "--json", "-"]);
    command.args(["--url", &server.url(), "--server-pid", &server.pid().to_string()]);
    command.args(["--dialect", dialect(server.contender)]).current_dir(root());
    for setting in if quick { scenario.quick } else { scenario.settings } {
        command.args(["--set", setting]);
    }
    if server.contender.is_ours() {
        command.env("JWT_SECRET", SECRET);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().context("starting loadgen")?;
    // A report of lost deliveries is one of a server that does less than it is given credit for.
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("loadgen {}: {}", output.status, said.trim());
    }
    Ok(Report(serde_json::from_slice(&output.stdout).context("reading loadgen's report")?))
}

impl Report {
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        let Report(report) = self;
        match figure {
            Figure::DeliveriesPerCpuSecond => report["deliveries_per_cpu_second"].as_f64(),
            Figure::DeliveryP99Ms => report["delivery"]["p99_ms"].as_f64(),
            Figure::LastDeliveryP99Ms => report["last"]["p99_ms"].as_f64(),
            Figure::RequestsPerCpuSecond => report["requests_per_cpu_second"].as_f64(),
            Figure::CpuUsPerConnection => report["cpu_us_per_connection"].as_f64(),
            Figure::BytesPerConnection => report["bytes_per_connection"].as_f64(),
            Figure::IdleCpu => report["cpu_percent"].as_f64(),
        }
    }
}
