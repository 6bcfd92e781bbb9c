//! `loadgen check` and `loadgen idle`: one process against tenantcast, every offset of every history verified.
//!
//! One run from start to report: start or find the server, connect, settle, publish or hold, drain, stop, judge.

mod delivery;
mod driver;
mod measured;
pub mod report;
pub mod scenario;
mod session;
mod verify;

use std::path::PathBuf;

use anyhow::{Context, Result};

use self::driver::Driver;
use self::report::{Connections, OwnCost, Publishing, Report, ServerCost};
use self::scenario::Scenario;
use crate::clock::now_us;
use crate::histogram::Percentiles;
use crate::process::{Process, Usage, reserve_files};
use crate::server::{self, Server};
use crate::target::{Target, authority};
use crate::token::{Mint, random_hex, unix_seconds};
use crate::watch::Watch;

/// Between the last connection and the look at the server's memory.
const SETTLE_SECONDS: u64 = 2;
/// Files this process has open besides its connections.
const FILES_SPARE: u64 = 32;

/// Which server a run is against.
pub struct Against {
    /// `http://host:port`; `None` starts one.
    pub url: Option<String>,
    /// The key of the tokens; `None` makes one up for a server started here.
    pub secret: Option<String>,
    pub binary: Option<PathBuf>,
    pub shards: Option<u32>,
    /// Watches the memory and CPU of a server that was not started here.
    pub pid: Option<u32>,
}

/// Runs a scenario. Without rooms it holds the connections for the scenario's seconds. The error means "could not run", not "failed".
pub fn run(scenario: Scenario, against: Against) -> Result<Report> {
    scenario.validate().map_err(anyhow::Error::msg)?;
    reserve_files(u64::from(scenario.connections) + FILES_SPARE)?;
    let mut watch = Watch::new()?;
    let (authority, secret) = match &against.url {
        Some(url) => {
            let secret = against.secret.context("with --url, --secret (or JWT_SECRET) must be the server's key")?;
            (authority(url)?, secret)
        }
        None => {
            let binary = against.binary.map_or_else(server::find_binary, Ok)?;
            let secret = against.secret.map_or_else(|| random_hex(32), Ok)?;
            let server = Server::start(&binary, &secret, against.shards)?;
            (watch.server.insert(server).address.clone(), secret)
        }
    };
    let target = Target::of(&authority)?;
    let process = watch.server.as_ref().map(Server::process).or(against.pid.map(|pid| Process { pid }));
    let mint = Mint::new(&secret, unix_seconds()?);
    let outcome = measure(&scenario, target, mint, process, &mut watch);
    watch.done();
    let passed = outcome.as_ref().is_ok_and(|report| report.passed);
    // The error of the run says more than that of the stop.
    let stopped = watch.server.take().map_or(Ok(()), |server| server.stop(passed));
    let report = outcome?;
    stopped?;
    Ok(report)
}

fn measure(
    scenario: &Scenario,
    target: Target,
    mint: Mint,
    process: Option<Process>,
    watch: &mut Watch,
) -> Result<Report> {
    let address = target.authority.clone();
    let look = || process.map(|process| process.usage()).transpose();
    let publishes = scenario.rooms() > 0;
    let mut driver = Driver::new(scenario, target, mint)?;
    let empty = look()?;
    watch.phase("connect", scenario.connections.into());
    driver.connect(watch)?;
    let connected = look()?;
    watch.phase("settle", SETTLE_SECONDS);
    driver.hold(SETTLE_SECONDS, watch)?;
    let settled = look()?;

    let own_before = Process::itself().usage()?;
    let start = now_us();
    if publishes {
        watch.phase("publish", scenario.rate * (scenario.warmup + scenario.seconds));
        driver.publish(watch)?;
        watch.phase("drain", driver.tally().expected);
        driver.drain(watch)?;
    } else {
        watch.phase("idle", scenario.seconds);
        driver.hold(scenario.seconds, watch)?;
    }
    let seconds = (now_us() - start) as f64 / 1e6;
    let own = Process::itself().usage()?;
    let end = look()?;
    let (measured, tally) = driver.finish();

    let own_us = own.cpu_us - own_before.cpu_us;
    let opened = measured.ready;
    let connect_seconds = measured.connect_us as f64 / 1e6;
    let (members_per_room_min, members_per_room_max) = scenario.members_per_room();
    let received = tally.received;
    let mut warnings = Vec::new();
    if measured.slow_reads > 0 {
        let slow = measured.slow_reads;
        warnings.push(format!(
            "{slow} deliveries were not laid out as expected and were parsed as JSON: loadgen used more CPU"
        ));
    }
    let [own_per_delivery, user_per_delivery] = match received {
        0 => [0.0; 2],
        _ => [own_us, own.user_us - own_before.user_us].map(|us| us as f64 / received as f64),
    };
    let report = Report {
        scenario: scenario.clone(),
        address,
        connections: Connections {
            asked: scenario.connections,
            opened,
            closed_early: measured.closed_early,
            seconds: connect_seconds,
            per_second: f64::from(opened) / connect_seconds,
            latency: Percentiles::of(&measured.connect),
        },
        publishing: publishes.then(|| Publishing {
            rooms: scenario.rooms(),
            publishers: scenario.publishers(),
            members_per_room_min,
            members_per_room_max,
            seconds,
            deliveries_per_second: received as f64 / seconds,
            tally,
            refusals: measured.refusals,
            delivery: Percentiles::of(&measured.delivery),
            ack: Percentiles::of(&measured.ack),
            late: Percentiles::of(&measured.late),
        }),
        server: process.zip(empty).zip(connected).zip(settled.zip(end)).map(
            |(((process, empty), connected), (settled, end))| {
                server_cost(process, [empty, connected, settled, end], opened, seconds, received)
            },
        ),
        own: OwnCost {
            cpu_share: own_us as f64 / 1e6 / seconds,
            cpu_us_per_delivery: own_per_delivery,
            user_us_per_delivery: user_per_delivery,
            rss_bytes: own.rss_bytes,
        },
        failures: measured.failures,
        other_events: measured.other_events,
        checks: Vec::new(),
        warnings,
        passed: false,
    };
    Ok(report.judge())
}

fn server_cost(process: Process, looks: [Usage; 4], opened: u32, seconds: f64, received: u64) -> ServerCost {
    let [empty, connected, settled, end] = looks;
    let opened = u64::from(opened.max(1));
    let cpu_seconds = (end.cpu_us - settled.cpu_us) as f64 / 1e6;
    ServerCost {
        pid: process.pid,
        rss_start_bytes: empty.rss_bytes,
        rss_idle_bytes: settled.rss_bytes,
        rss_end_bytes: end.rss_bytes,
        rss_per_connection_bytes: settled.rss_bytes.saturating_sub(empty.rss_bytes) / opened,
        cpu_us_per_connection: (connected.cpu_us - empty.cpu_us) as f64 / opened as f64,
        cpu_seconds,
        cpu_share: cpu_seconds / seconds,
        deliveries_per_cpu_second: if cpu_seconds > 0.0 { received as f64 / cpu_seconds } else { 0.0 },
    }
}
