//! The command line: flags to what is to be run, against which server.

mod run;

pub use run::{RunArgs, Wanted};

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::check::Against;
use crate::check::scenario::{Scenario, TokenIn};
use crate::token::random_hex;

/// Opens connections, publishes at a fixed rate, checks every delivery. Exit code: 0 passed, 1 a check failed, 2 could not run.
#[derive(Parser)]
#[command(name = "loadgen", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Publishes to rooms and checks that every member receives everything once, in order, and in time
    Check(CheckArgs),
    /// Opens authenticated connections and holds them: memory and CPU a connection
    Idle(IdleArgs),
    /// Runs a scenario against any Socket.IO or WebSocket server: latencies, costs, and whether everything arrived
    Run(Box<RunArgs>),
    /// Lists the built-in scenarios, or prints one to start your own from
    Scenarios { name: Option<String> },
    /// One of the processes that `run` starts
    #[command(name = crate::crew::SUBCOMMAND, hide = true)]
    Worker,
}

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Rooms of each tenant; every connection is in one
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    rooms_per_tenant: u32,
    /// Publishes a second, over all rooms
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Measured seconds of publishing
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds of publishing before: checked, not measured
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 100)]
    payload_bytes: usize,
    /// Milliseconds the delivery p99 must stay under
    #[arg(long, default_value_t = 50.0)]
    p99_ms: f64,
    /// Seconds to wait for the last deliveries
    #[arg(long, default_value_t = 10)]
    drain_seconds: u64,
}

#[derive(Args)]
pub struct IdleArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Seconds to hold the connections
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Args)]
pub struct CommonArgs {
    /// The server's address (http://HOST:PORT); without it a server is started and stopped here
    #[arg(long)]
    url: Option<String>,
    /// The server's HS256 key; made up for a server started here
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The server's binary [default: tenantcast beside this one, built if missing]
    #[arg(long, conflicts_with = "url")]
    server: Option<PathBuf>,
    /// Shards of the server started here
    #[arg(long, conflicts_with = "url")]
    shards: Option<u32>,
    /// Process of a server given by --url, to report its memory and CPU
    #[arg(long, requires = "url")]
    server_pid: Option<u32>,
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
    #[arg(long, default_value_t = 50)]
    tenants: u32,
    /// Connections opened a second
    #[arg(long, default_value_t = 2000)]
    connect_rate: u64,
    /// Loopback addresses to connect from, 127.0.0.2 and up
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=250))]
    sources: u8,
    /// Where the token goes
    #[arg(long, value_enum, default_value_t = TokenIn::Auth)]
    token_in: TokenIn,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    /// The run asked for, and whether its report is wanted as JSON.
    pub fn into_run(self) -> Result<(Scenario, Against, bool)> {
        let CheckArgs { common, rooms_per_tenant, rate, seconds, warmup, payload_bytes, p99_ms, drain_seconds } = self;
        let scenario = Scenario {
            run: random_hex(4)?,
            connections: common.connections,
            tenants: common.tenants,
            rooms_per_tenant,
            rate,
            seconds,
            warmup,
            payload_bytes,
            connect_rate: common.connect_rate,
            sources: common.sources,
            token_in: common.token_in,
            p99_ms,
            drain_seconds,
        };
        let against = Against {
            url: common.url,
            secret: common.secret,
            binary: common.server,
            shards: common.shards,
            pid: common.server_pid,
        };
        Ok((scenario, against, common.json))
    }
}

impl IdleArgs {
    /// As [`CheckArgs::into_run`].
    pub fn into_run(self) -> Result<(Scenario, Against, bool)> {
        let IdleArgs { common, seconds } = self;
        let (rooms_per_tenant, rate, warmup, payload_bytes, p99_ms, drain_seconds) = (0, 0, 0, 0, 0.0, 0);
        CheckArgs { common, rooms_per_tenant, rate, seconds, warmup, payload_bytes, p99_ms, drain_seconds }.into_run()
    }
}
