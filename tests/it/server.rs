//! A server process of a test's own. Ended when dropped.

use crate::peer::Peer;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is not about time. Generous: all tests run at once on two cores.
pub const SOON: Duration = Duration::from_secs(15);
pub const SECRET: &str = "the integration tests' secret, of more than 32 bytes";
pub const API_KEY: &str = "api-key-of-every-tenant-0123456789abcdef";

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    said: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

/// `tenantcast` with nothing of the caller's environment but `PATH`.
pub fn command(env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantcast"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    command(env).args(args).output().expect("the binary starts")
}

/// A token of `tenant` for `user` that may publish.
pub fn token(tenant: &str, user: &str) -> String {
    let args = ["token", "--tenant", tenant, "--user", user, "--permission", "publish"];
    let output = run(&args, &[("JWT_SECRET", SECRET)]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Waits until `ready` says so. For what only another process knows.
#[expect(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
pub fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !ready() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Server {
    /// Starts a server with two shards and `env` over the defaults, and waits for its ready line.
    pub fn start(env: &[(&str, &str)]) -> Server {
        let defaults = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("SHARDS", "2"),
            ("JWT_SECRET", SECRET),
            ("API_KEYS", API_KEY),
        ];
        let mut command = command(&defaults);
        command.envs(env.iter().copied()).arg("serve").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let said = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut readers = vec![keep(stderr, said.clone())];
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the ready line");
        let address = line.trim_end().strip_prefix("tenantcast ready on ").and_then(|address| address.parse().ok());
        readers.push(keep(stdout, said.clone()));
        let mut server = Server { child, address: ([0, 0, 0, 0], 0).into(), said, readers };
        match address {
            Some(address) => server.address = address,
            None => panic!("the first line on stdout is `{line}`\n{}", server.said()),
        }
        server
    }

    pub fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to drain.
    pub fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().expect("kill starts");
        assert!(told.success());
    }

    /// Waits for its end: its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut ended = None;
        until("it ends", || {
            ended = self.child.try_wait().expect("waits");
            ended.is_some()
        });
        ended.and_then(|status| status.code())
    }

    /// Everything it said so far on stderr, and on stdout after the ready line.
    pub fn said(&self) -> String {
        self.said.lock().expect("a reader panicked").clone()
    }

    /// It runs, and answers.
    pub fn assert_alive(&mut self, after: &str) {
        let ended = self.child.try_wait().expect("waits");
        assert!(ended.is_none(), "after {after}: ended with {ended:?}\n{}", self.said());
        let mut peer = self.connect();
        peer.send("GET /health/websocket HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let answer = peer.read_to_end();
        assert!(answer.starts_with("HTTP/1.1 200 "), "after {after}: {answer}");
        assert!(answer.contains("\"status\":\"ok\""), "after {after}: {answer}");
        assert!(!self.said().contains("panicked"), "after {after}: {}", self.said());
    }

    /// Sessions it says it has.
    pub fn sessions(&self) -> u64 {
        self.number("connectedClients")
    }

    /// Connections it says it has, the one that asks among them.
    pub fn connections(&self) -> u64 {
        self.number("connections")
    }

    fn number(&self, name: &str) -> u64 {
        let mut peer = self.connect();
        peer.send("GET /health/websocket HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let answer = peer.read_to_end();
        let (_, rest) = answer.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {answer}"));
        rest.split([',', '}']).next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs").count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn keep(mut from: impl Read + Send + 'static, to: Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            to.lock().expect("a reader panicked").push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}
