//! tenantcast beside the servers its users have today: uWebSockets, socketioxide and socket.io, in one run, on this machine.
//!
//! One core for the server (of two nodes: for both and their Redis), one for the load; each scenario is run in rounds, the servers one after the other within a round, each freshly
//! started; what is told are medians with least and most. The goals stand beside: uWebSockets' own figures of the same run, and absolute
//! ones where the aim is absolute. Take the ratios: the figures are this machine's.
//!
//! `cargo bench --bench peers -- run` (35 minutes with both cores to itself, which is why a plain `cargo bench` leaves it out) builds and
//! installs what it needs: Node 20, npm, a C++20 compiler, redis-server and crates.io have to be there. `-- --help` tells how to leave servers out, to
//! shorten it, and where the JSON goes.
//! Today (November 2026): see "Today" in benches/README.md and, with every round, tuning/results/.

mod load;
mod machine;
mod recipe;
mod row;
mod server;
mod steer;
mod table;

use anyhow::{Context, Result, bail};
use clap::Parser;
use server::{Contender, Server};
use std::path::PathBuf;
use std::process::ExitCode;
use table::Table;

#[derive(Parser)]
#[command(name = "peers", about = "Measures tenantcast and its peers side by side")]
struct Arguments {
    /// Says that it is meant: 35 minutes, and packages of npm and crates.io are installed
    #[arg(value_parser = ["run"])]
    go: Option<String>,
    /// Rounds of each scenario
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Scenarios to run, by name [default: all]
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Servers to leave out, by name
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// One round, a fifth of the time measured: to see that it runs
    #[arg(long)]
    quick: bool,
    /// The load's core does the receiver's share of TCP, as over a network: sets two of the machine's settings, and sets them back (root)
    #[arg(long)]
    steer: bool,
    /// The load polls without sleeping, so that no server pays for waking it, as over a network
    #[arg(long)]
    busy_poll: bool,
    /// Where the JSON goes; rows not measured this time stay in it [default: tuning/results/<machine>.json; `-steered`, `-polled` in its name with --steer, --busy-poll; with --quick, --without: nowhere]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Cargo says so under `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench || arguments.go.is_none() {
        println!("peers: not run, because it takes 35 minutes: cargo bench --bench peers -- run");
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut contenders = contenders(&arguments.without)?;
    let scenarios = scenarios(&arguments.only)?;
    contenders.retain(|contender| scenarios.iter().any(|scenario| contender.takes_part(scenario)));
    let (server_core, load_core) = machine::two_cores()?;
    let built = recipe::all(&contenders, scenarios.iter().any(|scenario| scenario.nodes > 1))?;
    let _steered = arguments.steer.then(|| steer::to(load_core)).transpose()?;
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    let mut table = Table::new(rounds, &contenders);
    for scenario in &scenarios {
        for round in 0..rounds as usize {
            for at in 0..contenders.len() {
                // Who comes first changes with the round.
                let contender = contenders[(at + round) % contenders.len()];
                if !contender.takes_part(scenario) {
                    continue;
                }
                let server = Server::start(contender, scenario.nodes, &built, server_core)?;
                let how = load::How { core: load_core, quick: arguments.quick, busy_poll: arguments.busy_poll };
                let report = load::run(scenario, &server, &built, &how)
                    .with_context(|| format!("{} against {}", scenario.name, contender.name()))?;
                server.stop()?;
                let told = table.take(scenario, contender, &report)?;
                eprintln!("{} {}/{rounds} {}: {told}", scenario.name, round + 1, contender.name());
            }
        }
    }
    print!("{}", table.text());
    let partial = arguments.quick || !arguments.without.is_empty();
    let out = arguments
        .out
        .clone()
        .or_else(|| (!partial).then(|| machine::results_file(arguments.steer, arguments.busy_poll)));
    if let Some(out) = out {
        table.save(&out)?;
        println!("\nsaved to {}", out.display());
    }
    Ok(())
}

fn contenders(without: &[String]) -> Result<Vec<Contender>> {
    let names: Vec<&str> = Contender::ALL.iter().map(|contender| contender.name()).collect();
    if let Some(unknown) = without.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no server is called {unknown:?}: {}", names.join(", "));
    }
    Ok(Contender::ALL.into_iter().filter(|contender| !without.iter().any(|name| name == contender.name())).collect())
}

fn scenarios(only: &[String]) -> Result<Vec<&'static row::Scenario>> {
    let names: Vec<&str> = row::SCENARIOS.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no scenario is called {unknown:?}: {}", names.join(", "));
    }
    let wanted = |scenario: &&row::Scenario| only.is_empty() || only.iter().any(|name| name == scenario.name);
    Ok(row::SCENARIOS.iter().filter(wanted).collect())
}
