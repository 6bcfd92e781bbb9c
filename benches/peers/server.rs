//! The servers: how each is started on its core, what it speaks, and how it ends.
//!
//! Invariant: a server does not outlive its [`Server`]; it is ended by its own pid.

use crate::recipe::Built;
use crate::row::Scenario;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// Any will do: the server is on loopback and lives for seconds.
pub const SECRET: &str = "peers-0123456789abcdef0123456789abcdef";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// As shipped: durable events with history and positions, tokens verified, tenants apart, limits on.
    Tenantcast,
    /// The same server, its events published ephemeral: what the peers' `emit` is.
    TenantcastEphemeral,
    UWebSockets,
    Socketioxide,
    SocketIo,
}

impl Contender {
    pub const ALL: [Contender; 5] = [
        Contender::Tenantcast,
        Contender::TenantcastEphemeral,
        Contender::UWebSockets,
        Contender::Socketioxide,
        Contender::SocketIo,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Tenantcast => "tenantcast",
            Contender::TenantcastEphemeral => "tenantcast-ephemeral",
            Contender::UWebSockets => "uwebsockets",
            Contender::Socketioxide => "socketioxide",
            Contender::SocketIo => "socket.io",
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Contender::Tenantcast | Contender::TenantcastEphemeral)
    }

    /// How a published event is kept makes no difference where none is published.
    pub fn takes_part(self, scenario: &Scenario) -> bool {
        scenario.publishes || self != Contender::TenantcastEphemeral
    }

    fn command(self, built: &Built, core: usize) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]);
        match self {
            Contender::Tenantcast | Contender::TenantcastEphemeral => {
                command.arg(&built.tenantcast);
                for (name, value) in
                    [("HOST", "127.0.0.1"), ("PORT", "0"), ("ADMIN_PORT", "0"), ("SHARDS", "1"), ("JWT_SECRET", SECRET)]
                {
                    command.env(name, value);
                }
            }
            Contender::UWebSockets => drop(command.arg(&built.uwebsockets).arg("0")),
            Contender::Socketioxide => drop(command.arg(&built.socketioxide).arg("0")),
            Contender::SocketIo => drop(command.arg("node").arg(&built.socket_io).arg("0")),
        }
        command
    }

    /// The port in the line that says it accepts: `tenantcast ready on HOST:PORT`, or `listening PORT PID`.
    fn port(self, line: &str) -> Option<u16> {
        let text = match self.is_ours() {
            true => line.strip_prefix("tenantcast ready on ")?.rsplit(':').next()?,
            false => line.strip_prefix("listening ")?.split(' ').next()?,
        };
        text.trim().parse().ok()
    }
}

pub struct Server {
    pub contender: Contender,
    child: Child,
    port: u16,
}

impl Server {
    pub fn start(contender: Contender, built: &Built, core: usize) -> Result<Server> {
        let name = contender.name();
        let mut command = contender.command(built, core);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child =
            command.spawn().with_context(|| format!("{name}: starting it with taskset (package util-linux)"))?;
        // From here on a failure must end the child, so it already lives in the value that does.
        let mut server = Server { contender, child, port: 0 };
        let stdout = server.child.stdout.take().context("its stdout is piped")?;
        let stderr = server.child.stderr.take().context("its stderr is piped")?;
        let first = drained(stdout);
        let complaints = drained(stderr);
        match first.recv_timeout(READY_WITHIN).map(|line| contender.port(&line).ok_or(line)) {
            Ok(Ok(port)) => server.port = port,
            Ok(Err(line)) => bail!("{name}: its first line is {line:?}, not the one that says it accepts"),
            Err(_) => bail!("{name}: not ready within {READY_WITHIN:?}: {}", complaints.try_recv().unwrap_or_default()),
        }
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// taskset becomes the server, so its pid is the server's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it; an error if it had ended by itself.
    pub fn stop(mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended while it was measured: {status}", self.contender.name()),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of a pipe; the rest is read and dropped, because a full pipe would stop the server.
fn drained(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe).lines().map_while(Result::ok);
        if let Some(line) = lines.next() {
            let _ = sender.send(line);
        }
        lines.for_each(drop);
    });
    receiver
}
