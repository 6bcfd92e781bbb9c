//! loadgen: opens connections, publishes at a fixed rate, checks every delivery; its exit code is the verdict.
//!
//! The flow: `cli` makes a `Scenario` (who connects, who publishes when), `run` starts the server and leads through the phases, `driver` is the
//! loop over all sockets. Pure below that: `session` (a client's way in), `frame`, `packet` and `delivery` (bytes to values), `verify` (values
//! to faults). `report` turns the counts into checks, and those into the verdict.
//!
//! The loop is open: publishes leave by a schedule made before the first one, whatever the server does, and carry their intended time, from
//! which all latencies count. A server that stalls is charged for every publish that should have happened meanwhile.

#![forbid(unsafe_code)]

mod cli;
mod clock;
mod delivery;
mod dial;
mod driver;
mod frame;
mod measured;
mod packet;
mod process;
mod report;
mod run;
mod scenario;
mod server;
mod session;
mod token;
mod verify;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

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
    let (scenario, against, json) = cli::Cli::parse().command.into_run()?;
    let report = run::run(scenario, against)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.passed)
}
