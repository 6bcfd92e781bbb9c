//! The servers: how each is started on its core, of how many nodes, what it speaks, and how it ends.
//!
//! Invariant: neither a node nor its Redis outlives its [`Server`]; each is ended by its own pid.

use crate::recipe::Built;
use crate::row::Scenario;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// What is kept of a pipe: more than redis-server says until it accepts.
const FIRST_LINES: usize = 64;
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
        let is_fleet = self.is_ours() || self == Contender::SocketIo;
        (scenario.publishes || self != Contender::TenantcastEphemeral) && (scenario.nodes == 1 || is_fleet)
    }

    /// One node; `redis`: where it meets the others.
    fn command(self, built: &Built, core: usize, redis: Option<&Redis>) -> Command {
        let mut command = on(core);
        if let Some(redis) = redis {
            command.env("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port));
        }
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
    nodes: Vec<Node>,
    /// Of several nodes.
    redis: Option<Redis>,
}

struct Node {
    process: Process,
    port: u16,
}

/// Fresh for each server, with nothing on disk.
struct Redis {
    process: Process,
    port: u16,
}

impl Server {
    /// All on one core: a server of several nodes shares it with its Redis.
    pub fn start(contender: Contender, nodes: usize, built: &Built, core: usize) -> Result<Server> {
        let redis = if nodes > 1 { Some(Redis::start(core)?) } else { None };
        let node = |_| Node::start(contender, contender.command(built, core, redis.as_ref()));
        let nodes = (0..nodes).map(node).collect::<Result<_>>()?;
        Ok(Server { contender, nodes, redis })
    }

    /// Of every node, with commas, as loadgen takes them.
    pub fn url(&self) -> String {
        self.joined(",", |node| format!("http://127.0.0.1:{}", node.port))
    }

    /// Of every node, with plus signs.
    pub fn pids(&self) -> String {
        self.joined("+", |node| node.process.pid().to_string())
    }

    fn joined(&self, between: &str, of: impl Fn(&Node) -> String) -> String {
        self.nodes.iter().map(of).collect::<Vec<String>>().join(between)
    }

    pub fn redis_pid(&self) -> Option<u32> {
        self.redis.as_ref().map(|redis| redis.process.pid())
    }

    /// Ends it; an error if some of it had ended by itself.
    pub fn stop(self) -> Result<()> {
        let name = self.contender.name();
        for node in self.nodes {
            node.process.stop().with_context(|| format!("{name} ended while it was measured"))?;
        }
        self.redis.map_or(Ok(()), |redis| redis.process.stop().context("redis-server ended while it was used"))
    }
}

impl Node {
    fn start(contender: Contender, command: Command) -> Result<Node> {
        let name = contender.name();
        let (process, lines, complaints) = Process::start(command).context(name)?;
        match lines.recv_timeout(READY_WITHIN).map(|line| contender.port(&line).ok_or(line)) {
            Ok(Ok(port)) => Ok(Node { process, port }),
            Ok(Err(line)) => bail!("{name}: its first line is {line:?}, not the one that says it accepts"),
            Err(_) => bail!("{name}: not ready within {READY_WITHIN:?}: {}", complaints.try_recv().unwrap_or_default()),
        }
    }
}

impl Redis {
    fn start(core: usize) -> Result<Redis> {
        // Free a moment ago: redis-server takes no 0.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = on(core);
        command.args(["redis-server", "--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let (process, lines, _) = Process::start(command).context("redis-server")?;
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(READY_WITHIN) {
                Ok(line) if line.contains("Ready to accept connections") => return Ok(Redis { process, port }),
                Ok(line) => said.push(line),
                Err(_) => bail!("redis-server: not ready within {READY_WITHIN:?}: {}", said.join("\n")),
            }
        }
    }
}

/// taskset becomes what it starts, so its pid is that one's.
fn on(core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]);
    command
}

struct Process {
    child: Child,
}

impl Process {
    /// With the first lines of its stdout and of its stderr.
    fn start(mut command: Command) -> Result<(Process, mpsc::Receiver<String>, mpsc::Receiver<String>)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("starting it with taskset (package util-linux)")?;
        // From here on a failure must end the child, so it already lives in the value that does.
        let mut process = Process { child };
        let stdout = process.child.stdout.take().context("its stdout is piped")?;
        let stderr = process.child.stderr.take().context("its stderr is piped")?;
        Ok((process, drained(stdout), drained(stderr)))
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it; an error if it had ended by itself.
    fn stop(mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first lines of a pipe; the rest is read and dropped, because a full pipe would stop the server.
fn drained(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe).lines().map_while(Result::ok);
        for line in lines.by_ref().take(FIRST_LINES) {
            let _ = sender.send(line);
        }
        lines.for_each(drop);
    });
    receiver
}
