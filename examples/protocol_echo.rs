//! The echo application that the public Engine.IO and Socket.IO protocol test suites expect.
//!
//! `cargo run --example protocol_echo -- 3000`: Socket.IO at `/socket.io/` with the namespaces `/` and `/custom`, Engine.IO alone at
//! `/engine.io/`. Heartbeats are short, as the suites wait for them; a second argument is a ping timeout in milliseconds other than 200, for
//! tests that are not about it.

use std::time::Duration;
use tenantcast::boot::Server;
use tenantcast::config::{Config, Sources};
use tenantcast::shard::app::{App, Namespace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".into());
    let ping_timeout = std::env::args().nth(2).map_or(Ok(200), |ms| ms.parse())?;
    let flags = vec![("--port", "server.port", port), ("--admin-port", "server.admin_port", "0".into())];
    let mut config = Config::load(&Sources { flags, ..Sources::default() })?;
    config.server.shards = 1;
    config.socket_io.ping_interval = Duration::from_millis(300);
    config.socket_io.ping_timeout = Duration::from_millis(ping_timeout);
    config.socket_io.connect_timeout = Duration::from_millis(800) + config.socket_io.ping_timeout;
    config.socket_io.recovery = None;
    config.limits.frame_bytes = 1_000_000;
    config.limits.connections_per_user = 0;
    Server::new(config).open_to_all().app(app).run()?;
    Ok(())
}

fn app() -> App {
    App::new().namespace("/", echo).namespace("/custom", echo).engine(|session, message| session.send(message))
}

fn echo(namespace: &mut Namespace) {
    namespace
        .keep_auth()
        .on_connect(|socket| {
            let auth = socket.auth().to_owned();
            // The suites' client loses the second of two messages that arrive in one read; the Node server writes them a while apart.
            socket.after(Duration::from_millis(10), move |socket| socket.emit("auth", &auth));
        })
        .on("message", |socket, args| socket.emit_binary("message-back", args.raw(), args.attachments()))
        .on("message-with-ack", |socket, args| socket.ack_binary(args.raw(), args.attachments()))
        // Not of the suites: asks the client, and tells it what it answered.
        .on("ask-me", |socket, args| {
            socket.emit_with_ack("question", args.raw(), |socket, answer| {
                socket.emit_binary("answered", answer.raw(), answer.attachments())
            });
        });
}
