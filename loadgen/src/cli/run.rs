//! `loadgen run`: flags to the sides of a measurement.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::round::Side;
use crate::scenario::load;

#[derive(Args)]
pub struct RunArgs {
    /// A built-in scenario (see `loadgen scenarios`) or a .toml file
    scenario: String,
    /// The server's address (http://HOST:PORT); several nodes of one server with a comma: every room is spread over them in equal parts, its
    /// publishers at the first; without it a tenantcast is started and stopped here
    #[arg(long)]
    url: Option<String>,
    /// Compare two servers, in interleaved rounds A B A B
    #[arg(long, num_args = 2, value_names = ["URL_A", "URL_B"], conflicts_with = "url")]
    compare: Option<Vec<String>>,
    /// Rounds of a comparison
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A setting of the scenario: connections=500, publish.rate=100, dialect.event=message
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// How the server is spoken to: tenantcast, socket.io, websocket, or a .toml file; for a comparison two, with a comma
    #[arg(long)]
    dialect: Option<String>,
    /// The server's HS256 key; made up for a server started here
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The server's binary [default: tenantcast beside this one, built if missing]
    #[arg(long, conflicts_with_all = ["url", "compare"])]
    server: Option<PathBuf>,
    /// Shards of the server started here
    #[arg(long, conflicts_with_all = ["url", "compare"])]
    shards: Option<u32>,
    /// Process of a server given by --url, to report its memory and CPU; several with +, those of a comparison with a comma
    #[arg(long)]
    server_pid: Option<String>,
    /// Processes beside the server, such as its Redis: their CPU is told apart; several with +
    #[arg(long, conflicts_with = "compare")]
    beside_pid: Option<String>,
    /// Load processes; each may hold as many connections as it may open files
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// Cores of the load processes: 0,2-3
    #[arg(long)]
    cpus: Option<String>,
    /// Load processes poll without sleeping, so nobody pays for waking them, as over a network; each needs a core of its own
    #[arg(long)]
    busy_poll: bool,
    /// Cores of the server started here
    #[arg(long, conflicts_with_all = ["url", "compare"])]
    server_cpus: Option<String>,
    /// Write the report as JSON; - is stdout, in place of the text
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// What to measure.
pub enum Wanted {
    One(Box<Side>),
    Two { a: Box<Side>, b: Box<Side>, rounds: u32 },
}

impl RunArgs {
    pub fn wanted(&self) -> Result<Wanted> {
        let Some(urls) = &self.compare else {
            let pids = self.server_pid.as_deref().map_or(Ok(Vec::new()), pids)?;
            return Ok(Wanted::One(Box::new(self.side(self.url.clone(), self.dialect.as_deref(), pids)?)));
        };
        let dialects = per_side("--dialect", self.dialect.as_deref())?;
        let processes = per_side("--server-pid", self.server_pid.as_deref())?;
        let side = |at: usize| -> Result<Box<Side>> {
            let pids = processes[at].map_or(Ok(Vec::new()), pids)?;
            Ok(Box::new(self.side(Some(urls[at].clone()), dialects[at], pids)?))
        };
        if processes[0].is_some() && processes[0] == processes[1] && urls[0] != urls[1] {
            bail!("--server-pid takes one of each side: A,B");
        }
        Ok(Wanted::Two { a: side(0)?, b: side(1)?, rounds: self.rounds })
    }

    fn side(&self, url: Option<String>, dialect: Option<&str>, pids: Vec<u32>) -> Result<Side> {
        let list = |text: &Option<String>| text.as_deref().map_or(Ok(Vec::new()), cpus);
        let own_cpus = list(&self.cpus)?;
        if self.busy_poll {
            let cores = match own_cpus.len() {
                0 => std::thread::available_parallelism()?.get(),
                cores => cores,
            };
            if self.processes as usize > cores {
                bail!("--busy-poll: {} processes need a core each, and there are {cores}", self.processes);
            }
        }
        let scenario = load(&self.scenario, dialect, &self.sets)?;
        scenario.validate(self.processes).map_err(|reason| anyhow::anyhow!("{}: {reason}", self.scenario))?;
        Ok(Side {
            scenario,
            url,
            secret: self.secret.clone(),
            binary: self.server.clone(),
            shards: self.shards,
            pids,
            beside: self.beside_pid.as_deref().map_or(Ok(Vec::new()), self::pids)?,
            server_cpus: list(&self.server_cpus)?,
            processes: self.processes,
            cpus: own_cpus,
            busy_poll: self.busy_poll,
        })
    }
}

/// `a,b`, or one for both.
fn per_side<'a>(flag: &str, text: Option<&'a str>) -> Result<[Option<&'a str>; 2]> {
    let Some(text) = text else { return Ok([None, None]) };
    let parts: Vec<&str> = text.split(',').collect();
    match parts[..] {
        [both] => Ok([Some(both), Some(both)]),
        [a, b] => Ok([a, b].map(|part| (!part.is_empty()).then_some(part))),
        _ => bail!("{flag} takes one, or one for each side: A,B"),
    }
}

fn pids(text: &str) -> Result<Vec<u32>> {
    text.split('+')
        .map(|pid| pid.parse().with_context(|| format!("{pid:?} is no process: write PID or PID+PID")))
        .collect()
}

/// `0,2-3`
fn cpus(text: &str) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().with_context(|| format!("{text:?} is no core: write 0,2-3"));
        all.extend(number(first)?..=number(last)?);
    }
    if all.is_empty() {
        bail!("{text:?} names no core");
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (text, expected) in
            [("0", Some(vec![0])), ("0,2-4", Some(vec![0, 2, 3, 4])), ("", None), ("3-1", None), ("a", None)]
        {
            assert_eq!(cpus(text).ok(), expected, "{text}");
        }
        for (text, expected) in [("7", Some(vec![7])), ("7+8", Some(vec![7, 8])), ("7+", None)] {
            assert_eq!(pids(text).ok(), expected, "{text}");
        }
        assert_eq!(per_side("--x", None).unwrap(), [None, None]);
        assert_eq!(per_side("--x", Some("a")).unwrap(), [Some("a"), Some("a")]);
        assert_eq!(per_side("--x", Some(",b")).unwrap(), [None, Some("b")]);
        assert!(per_side("--x", Some("a,b,c")).is_err());
    }
}
