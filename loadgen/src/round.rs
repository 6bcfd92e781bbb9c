//! One run of a scenario, led from here: start or find the server, start the load processes, connect, settle, load, drain, read the clocks and
//! the counters at exactly those moments, add everything up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::clock::now_us;
use crate::crew::Crew;
use crate::plan::Plan;
use crate::process::{Process, Usage, machine_cpu_us};
use crate::protocol::{News, Order, Outcome, Phase, Setup, Window};
use crate::report::{Report, gather};
use crate::scenario::Scenario;
use crate::server::{self, Server};
use crate::target::{Target, authority};
use crate::token::random_hex;
use crate::total::Total;
use crate::watch::Watch;

const SECOND_US: u64 = 1_000_000;
/// Between an order and what it orders: every process must have read it.
const NOTICE_US: u64 = 50_000;
/// How long the first answer of a process may take.
const READY_WITHIN_US: u64 = 30 * SECOND_US;
/// More than a drain's own end, for the last word of every process.
const RESULT_WITHIN_US: u64 = 30 * SECOND_US;

/// A server to measure, and how.
#[derive(Clone, Debug)]
pub struct Side {
    /// With its dialect.
    pub scenario: Scenario,
    /// `http://host:port`, with a comma of several nodes; `None` starts a tenantcast.
    pub url: Option<String>,
    pub secret: Option<String>,
    pub binary: Option<PathBuf>,
    pub shards: Option<u32>,
    /// Processes of a server that was not started here.
    pub pids: Vec<u32>,
    /// Processes that work for the server, its Redis for instance, and are not it.
    pub beside: Vec<u32>,
    pub server_cpus: Vec<usize>,
    pub processes: u32,
    pub cpus: Vec<usize>,
    /// The load polls without sleeping.
    pub busy_poll: bool,
}

/// CPU and memory at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at_us: u64,
    /// `None` where the server's process is not known.
    pub server: Option<Usage>,
    /// CPU time of what is beside the server, where something is.
    pub beside_us: Option<u64>,
    pub own: Usage,
    /// CPU time of everything on this machine.
    pub machine_us: u64,
}

/// Everything a run leaves behind.
pub struct Log {
    pub plan: Plan,
    pub address: String,
    pub pids: Vec<u32>,
    pub total: Total,
    /// Every second, and at the marks.
    pub samples: Vec<Sample>,
    pub marks: Marks,
    pub outcomes: Vec<Outcome>,
}

/// The samples between which is counted.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    pub empty: Sample,
    pub connected: Sample,
    pub settled: Sample,
    pub from: Sample,
    pub until: Sample,
}

/// Runs a scenario once. The error means "could not run", not "failed".
pub fn run(side: &Side, watch: &mut Watch) -> Result<Report> {
    side.scenario.validate(side.processes).map_err(anyhow::Error::msg)?;
    let dialect = side.scenario.dialect.clone().unwrap_or_default();
    crate::dialect::Dialect::compile(&dialect).map_err(anyhow::Error::msg)?;
    let (authorities, secret) = match &side.url {
        Some(url) => {
            if side.secret.is_none() && dialect.needs_secret() {
                bail!("tokens for {url} need its key: give --secret (or JWT_SECRET), or dialect.token");
            }
            (url.split(',').map(authority).collect::<Result<Vec<String>>>()?, side.secret.clone())
        }
        None => {
            let binary = side.binary.clone().map_or_else(server::find_binary, Ok)?;
            let secret = side.secret.clone().map_or_else(|| random_hex(32), Ok)?;
            let server = Server::start_on(&binary, &secret, side.shards, &side.server_cpus)?;
            (vec![watch.server.insert(server).address.clone()], Some(secret))
        }
    };
    authorities.iter().try_for_each(|authority| Target::of(authority).map(drop))?;
    let pids: Vec<u32> = match &watch.server {
        Some(server) => vec![server.process().pid],
        None => side.pids.clone(),
    };
    let outcome = lead(side, authorities, secret, pids, watch);
    watch.done();
    let passed = outcome.as_ref().is_ok_and(|report| report.passed);
    // The error of the run says more than that of the stop.
    let stopped = watch.server.take().map_or(Ok(()), |server| server.stop(passed));
    let report = outcome?;
    stopped?;
    Ok(report)
}

struct Leader<'a> {
    crew: Crew,
    watch: &'a mut Watch,
    servers: Vec<Process>,
    beside: Vec<Process>,
    /// Seconds of which not every process has told yet.
    windows: BTreeMap<(Phase, u32), Vec<Window>>,
    total: Total,
    samples: Vec<Sample>,
    sample_us: u64,
    ready: u32,
    opened: u32,
    sent_by: u32,
    sent: Vec<u32>,
    outcomes: Vec<Outcome>,
    position: u64,
    processes: usize,
}

fn lead(
    side: &Side,
    authorities: Vec<String>,
    secret: Option<String>,
    pids: Vec<u32>,
    watch: &mut Watch,
) -> Result<Report> {
    let run = u32::from_str_radix(&random_hex(4)?, 16).context("eight hexadecimal digits")?;
    let plan = Plan::new(side.scenario.clone(), side.processes, run);
    let setup = |process| Setup {
        scenario: side.scenario.clone(),
        processes: side.processes,
        process,
        run,
        authorities: authorities.clone(),
        secret: secret.clone(),
        cpus: side.cpus.clone(),
        busy_poll: side.busy_poll,
    };
    let mut leader = Leader {
        crew: Crew::start((0..side.processes).map(setup).collect())?,
        watch,
        servers: pids.iter().map(|&pid| Process { pid }).collect(),
        beside: side.beside.iter().map(|&pid| Process { pid }).collect(),
        windows: BTreeMap::new(),
        total: Total::new(),
        samples: Vec::new(),
        sample_us: u64::MAX,
        ready: 0,
        opened: 0,
        sent_by: 0,
        sent: vec![0; plan.publishing() as usize],
        outcomes: Vec::new(),
        position: 0,
        processes: side.processes as usize,
    };
    let marks = leader.through_the_phases(&plan)?;
    let Leader { windows, mut total, samples, outcomes, .. } = leader;
    // The last seconds, which not every process had.
    for second in windows.into_values() {
        total.add(&second);
    }
    Ok(gather(&Log { plan, address: authorities.join(","), pids, total, samples, marks, outcomes }))
}

impl Leader<'_> {
    fn through_the_phases(&mut self, plan: &Plan) -> Result<Marks> {
        let scenario = &plan.scenario;
        let phases = scenario.phases;
        let seconds = |seconds: f64| (seconds * 1e6) as u64;
        let all = plan.processes;
        if !self.pump(now_us() + READY_WITHIN_US, |leader| leader.ready == all)? {
            bail!("the load processes did not get ready");
        }

        self.phase("connect", scenario.connections.into());
        let empty = self.sample()?;
        let start_us = now_us() + NOTICE_US;
        self.sample_us = start_us + SECOND_US;
        self.crew.order(&Order::Connect { start_us })?;
        self.pump(u64::MAX, |leader| leader.opened == all)?;
        let connected = self.sample()?;
        self.phase("settle", phases.settle as u64);
        self.pump(now_us() + seconds(phases.settle), |_| false)?;
        let settled = self.sample()?;

        self.phase("load", (phases.warmup + phases.measure) as u64);
        let start_us = now_us() + NOTICE_US;
        let from_us = start_us + seconds(phases.warmup);
        let until_us = from_us + seconds(phases.measure);
        self.crew.order(&Order::Load { start_us, from_us, until_us })?;
        // Samples meet the windows, which begin anew at each of these times.
        self.sample_us = start_us;
        self.pump(from_us, |_| false)?;
        let from = self.sample()?;
        self.sample_us = from_us + SECOND_US;
        self.pump(until_us, |_| false)?;
        let until = self.sample()?;
        self.sample_us = until_us + SECOND_US;

        self.phase("drain", phases.drain as u64);
        if !self.pump(until_us + RESULT_WITHIN_US, |leader| leader.sent_by == all)? {
            bail!("a load process does not come to an end");
        }
        let drained_us = now_us().max(until_us) + seconds(phases.drain);
        self.crew.order(&Order::Drain { sent: self.sent.clone(), until_us: drained_us })?;
        if !self.pump(drained_us + RESULT_WITHIN_US, |leader| leader.outcomes.len() as u32 == all)? {
            bail!("a load process does not give its result");
        }
        Ok(Marks { empty, connected, settled, from, until })
    }

    fn phase(&mut self, name: &'static str, total: u64) {
        self.position = 0;
        self.watch.phase(name, total);
    }

    /// Listens, and samples every second, until it is `until_us` or `done`; whether it was `done`.
    fn pump(&mut self, until_us: u64, done: impl Fn(&Leader<'_>) -> bool) -> Result<bool> {
        loop {
            if done(self) {
                return Ok(true);
            }
            let now = now_us();
            if now >= until_us {
                return Ok(false);
            }
            if now >= self.sample_us {
                self.sample()?;
                self.sample_us += SECOND_US;
            }
            self.watch.tick(self.position)?;
            let look_again = now + SECOND_US / 10;
            if let Some(news) = self.crew.wait(until_us.min(self.sample_us).min(look_again))? {
                self.hear(news)?;
            }
        }
    }

    fn hear(&mut self, news: News) -> Result<()> {
        match news {
            News::Ready => self.ready += 1,
            News::Opened => self.opened += 1,
            News::Sent(counts) => {
                self.sent_by += 1;
                for (publisher, count) in counts {
                    *self.sent.get_mut(publisher as usize).context("a publisher nobody knows")? += count;
                }
            }
            News::Window(window) => {
                match window.phase {
                    Phase::Connect => self.position += window.counts.opened,
                    _ => self.position = self.position.max(u64::from(window.index) + 1),
                }
                let key = (window.phase, window.index);
                let second = self.windows.entry(key).or_default();
                second.push(*window);
                if second.len() == self.processes {
                    let second = self.windows.remove(&key).unwrap_or_default();
                    self.total.add(&second);
                }
            }
            News::Result(outcome) => self.outcomes.push(*outcome),
            News::Failed(reason) => bail!("{reason}"),
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample> {
        let server = if self.servers.is_empty() { None } else { Some(sum(&self.servers)?) };
        let beside_us = if self.beside.is_empty() { None } else { Some(sum(&self.beside)?.cpu_us) };
        let own = sum(&self.crew.processes())?;
        let sample = Sample { at_us: now_us(), server, beside_us, own, machine_us: machine_cpu_us()? };
        self.samples.push(sample);
        Ok(sample)
    }
}

fn sum(processes: &[Process]) -> Result<Usage> {
    let mut all = Usage::default();
    for process in processes {
        let usage = process.precise_usage()?;
        all.cpu_us += usage.cpu_us;
        all.user_us += usage.user_us;
        all.rss_bytes += usage.rss_bytes;
    }
    Ok(all)
}
