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

/// How the load is made.
pub struct How {
    pub core: usize,
    pub quick: bool,
    pub busy_poll: bool,
}

pub fn run(scenario: &Scenario, server: &Server, built: &Built, how: &How) -> Result<Report> {
    let mut command = Command::new("taskset");
    command.args(["-c", &how.core.to_string()]).arg(&built.loadgen).args(["run", scenario.file, "--json", "-"]);
    command.args(["--url", &server.url(), "--server-pid", &server.pids()]);
    if let Some(redis) = server.redis_pid() {
        command.args(["--beside-pid", &redis.to_string()]);
    }
    command.args(["--dialect", dialect(server.contender)]).current_dir(root());
    for setting in if how.quick { scenario.quick } else { scenario.settings } {
        command.args(["--set", setting]);
    }
    if how.busy_poll {
        command.arg("--busy-poll");
    }
    if server.contender.is_ours() {
        command.env("JWT_SECRET", SECRET);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().context("starting loadgen")?;
    // 1 says that a check failed, which the report tells; 2 that nothing was measured.
    match (output.status.code(), serde_json::from_slice(&output.stdout)) {
        (Some(0 | 1), Ok(report)) => Ok(Report(report)),
        (_, report) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let reading = report.err().map(|error| format!(" ({error})")).unwrap_or_default();
            bail!("loadgen {}{reading}: {}", output.status, said.trim());
        }
    }
}

impl Report {
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        let Report(report) = self;
        let server = &report["server"];
        let ms = |us: &Value| us.as_f64().map(|us| us / 1000.0);
        match figure {
            Figure::DeliveriesPerCpuSecond => server["deliveries_per_cpu_second"].as_f64(),
            Figure::DeliveryP99Ms => ms(&report["publishing"]["delivery"]["p99"]),
            Figure::LastDeliveryP99Ms => ms(&report["publishing"]["last"]["p99"]),
            Figure::RequestsPerCpuSecond => server["requests_per_cpu_second"].as_f64(),
            Figure::CpuUsPerConnection => server["cpu_us_per_connection"].as_f64(),
            Figure::BytesPerConnection => server["rss_per_connection_bytes"].as_f64(),
            Figure::IdleCpu => server["cpu_share"].as_f64().map(|share| share * 100.0),
            Figure::PublishesPerSecond => Some(self.published()? / self.seconds()?),
            Figure::RedisCpuUsPerPublish => {
                Some(report["beside_cpu_share"].as_f64()? * self.seconds()? * 1e6 / self.published()?)
            }
        }
    }

    fn published(&self) -> Option<f64> {
        self.0["publishing"]["published"].as_f64().filter(|published| *published > 0.0)
    }

    fn seconds(&self) -> Option<f64> {
        self.0["publishing"]["seconds"].as_f64()
    }

    /// What was not as it should be: deliveries that were lost or late, a load that could not keep up with itself.
    pub fn complaints(&self) -> Vec<String> {
        let Report(report) = self;
        let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
        let failed = list("checks").into_iter().filter(|check| check["passed"] == false);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let failed = failed.map(|check| {
            format!("{}: wanted {}, got {}", text(&check["name"]), text(&check["wanted"]), text(&check["got"]))
        });
        failed.chain(list("warnings").iter().map(text)).collect()
    }
}
