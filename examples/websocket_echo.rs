//! Echoes WebSocket messages of up to 16 MiB, through the same connection code as everything else: for WebSocket conformance suites.
//!
//! `cargo run --release --example websocket_echo -- 9001`

use tenantcast::boot::Server;
use tenantcast::config::{Config, Sources};
use tenantcast::shard::app::App;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "9001".into());
    let flags = vec![("--port", "server.port", port), ("--admin-port", "server.admin_port", "0".into())];
    let mut config = Config::load(&Sources { flags, ..Sources::default() })?;
    config.server.shards = 1;
    config.limits.frame_bytes = 16 << 20;
    config.limits.outbox_bytes = 64 << 20;
    config.limits.events_per_second = 0;
    Server::new(config).open_to_all().app(|| App::new().websocket(|session, message| session.send(message))).run()?;
    Ok(())
}
