//! The real binary over real sockets: every built-in scenario against tenantcast, and a server of our own that does wrong on purpose.
//!
//! Nothing here asserts a time: what is asserted is that everything arrived, or that what did not was noticed.

mod fault;
mod peer;
mod scenario;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");
const SECRET: &str = "a key of these tests, long enough for anyone";

/// Exit code, stdout and stderr of loadgen.
pub fn loadgen(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(LOADGEN);
    command.args(args).env("JWT_SECRET", SECRET).stdin(Stdio::null());
    let output = command.output().expect("loadgen starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs a scenario with these settings over small ones; its exit code and report.
pub fn run(scenario: &str, url: &str, args: &[&str], sets: &[&str]) -> (Option<i32>, Value) {
    let small = [
        "connections=60",
        "tenants=2",
        "sources=2",
        "phases.settle=0",
        "phases.warmup=0.1",
        "phases.measure=0.5",
        "phases.drain=10",
    ];
    let mut all = vec!["run", scenario, "--url", url, "--json", "-"];
    all.extend(args);
    for set in small.iter().chain(sets) {
        all.extend(["--set", set]);
    }
    let (code, stdout, stderr) = loadgen(&all);
    let report = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{scenario}: {error}: {stdout}{stderr}"));
    (code, report)
}

/// A tenantcast of this build, stopped at the end.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start() -> Server {
        let beside = PathBuf::from(LOADGEN).with_file_name("tenantcast");
        let binary = std::env::var_os("TENANTCAST_BIN").map_or(beside, PathBuf::from);
        assert!(binary.exists(), "{} is missing: run cargo build --workspace first", binary.display());
        let mut command = Command::new(binary);
        // What says where the binaries are is no setting of the server's.
        command
            .env_remove("TENANTCAST_BIN")
            .env_remove("TENANTCAST_ECHO")
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("ADMIN_PORT", "0")
            .env("SHARDS", "1")
            .env("JWT_SECRET", SECRET);
        // Sixty connections ask as often as thousands would: how often one may is not what is tested here.
        command.env("TENANTCAST_LIMITS__EVENTS_PER_SECOND", "0");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tenantcast starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut server = Server { child, url: String::new() };
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next().expect("a first line").expect("of text");
        let address = first.strip_prefix("tenantcast ready on ").expect(&first);
        server.url = format!("http://{address}");
        // A pipe nobody reads would stop the server.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        server
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
