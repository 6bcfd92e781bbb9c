//! loadgen: opens connections, makes the load of a scenario, checks every delivery; its exit code is the verdict.
//!
//! `loadgen run` measures any Socket.IO or WebSocket server. A `scenario` says what happens and a `dialect` how the server is spoken to; `round`
//! leads a run, `crew` holds the processes that make the load, and each of those is a `worker`: one loop over its sockets. Pure below that:
//! `plan` (who is where), `cadence` (who acts when), `payload` and `frame` (bytes to values), `ledger` (values to faults). What the workers tell
//! is added up in `total` and becomes a `report`: text, JSON, or a page; `compare` does so for two servers in turns.
//! `loadgen check` and `loadgen idle` (`check`) know tenantcast more closely: every offset of every history is verified.
//!
//! The loop is open: what is sent leaves by a schedule made before the first event, whatever the server does, and carries its intended time, from
//! which all latencies count. A server that stalls is charged for everything that should have happened meanwhile.

#![forbid(unsafe_code)]

mod cadence;
mod check;
mod cli;
mod clock;
mod compare;
mod crew;
mod dial;
mod dialect;
mod frame;
mod histogram;
mod ledger;
mod machine;
mod packet;
mod page;
mod payload;
mod plan;
mod process;
mod protocol;
mod report;
mod round;
mod scenario;
mod server;
mod target;
mod token;
mod total;
mod upgrade;
mod watch;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::{Command, Wanted};

const FAILED: u8 = 1;
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    match try_main() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(if error.is::<server::Ended>() { FAILED } else { COULD_NOT_RUN })
        }
    }
}

fn try_main() -> Result<bool> {
    match cli::Cli::parse().command {
        Command::Check(args) => check(args.into_run()?),
        Command::Idle(args) => check(args.into_run()?),
        Command::Run(args) => run(&args),
        Command::Scenarios { name } => scenarios(name.as_deref()),
        // It has told its leader what is wrong, who says it.
        Command::Worker => Ok(worker::main().is_ok()),
    }
}

fn check((scenario, against, json): (check::scenario::Scenario, check::Against, bool)) -> Result<bool> {
    let report = check::run(scenario, against)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.passed)
}

fn run(args: &cli::RunArgs) -> Result<bool> {
    match args.wanted()? {
        Wanted::One(side) => {
            let report = round::run(&side, &mut watch::Watch::new()?)?;
            write(args, &report, page::of_report)?;
            Ok(report.passed)
        }
        Wanted::Two { a, b, rounds } => {
            let comparison = compare::run([&a, &b], rounds)?;
            write(args, &comparison, page::of_comparison)?;
            Ok(comparison.passed)
        }
    }
}

/// As text, unless stdout is wanted for JSON; and into the files asked for.
fn write<R: serde::Serialize + std::fmt::Display>(
    args: &cli::RunArgs,
    result: &R,
    page: fn(&R) -> String,
) -> Result<()> {
    let into =
        |path: &Path, text: String| std::fs::write(path, text).with_context(|| format!("writing {}", path.display()));
    if let Some(path) = &args.html {
        into(path, page(result))?;
    }
    let json = args.json.as_ref().map(|_| serde_json::to_string_pretty(result)).transpose()?;
    match (args.json.as_deref(), json) {
        (Some(path), Some(json)) if path == Path::new("-") => println!("{json}"),
        (path, json) => {
            if let Some((path, json)) = path.zip(json) {
                into(path, json + "\n")?;
            }
            print!("{result}");
        }
    }
    Ok(())
}

fn scenarios(name: Option<&str>) -> Result<bool> {
    match name {
        None => {
            for (name, _) in scenario::BUILT_IN {
                println!("{name:16}{}", scenario::load(name, None, &[])?.about);
            }
        }
        Some(name) => {
            // Loading it makes the error for a name that is none.
            scenario::load(name, None, &[])?;
            let text = scenario::BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
            print!("{}", text.with_context(|| format!("{name} is a file of yours"))?);
        }
    }
    Ok(true)
}
