//! The server under test, when the load generator starts it: found or built, started, watched, stopped.
//!
//! Invariant: the child does not outlive its [`Server`], however this process ends short of SIGKILL or a second Ctrl-C.
//! It is stopped by its pid, first with SIGTERM.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::process::{Process, pin};

const READY: &str = "tenantcast ready on ";
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN_MS: u64 = 10_000;

/// The server ended while it was measured. A failed check, not a run that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Ended(pub String);

pub struct Server {
    child: Child,
    /// `host:port`, as the server printed it.
    pub address: String,
    log: PathBuf,
}

impl Server {
    /// Starts `binary` on a free port of 127.0.0.1 and waits for its ready line. Its output goes to a file, kept if the run fails.
    pub fn start(binary: &Path, secret: &str, shards: Option<u32>) -> Result<Server> {
        Server::start_on(binary, secret, shards, &[])
    }

    /// As [`Server::start`], on these cores alone.
    pub fn start_on(binary: &Path, secret: &str, shards: Option<u32>, cpus: &[usize]) -> Result<Server> {
        let log = env::temp_dir().join(format!("loadgen-server-{}.log", std::process::id()));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(binary);
        command
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("ADMIN_PORT", "0")
            .env("JWT_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?);
        if let Some(shards) = shards {
            command.env("SHARDS", shards.to_string());
        }
        // A child begins where its parent is; moving it later would miss the threads it has started by then.
        let before = rustix::thread::sched_getaffinity(None).context("the own cores")?;
        pin(cpus)?;
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()));
        rustix::thread::sched_setaffinity(None, &before).context("the own cores")?;
        let mut child = child?;
        let stdout = child.stdout.take().context("the server's stdout is piped")?;
        // From here on a failure must stop the child, so it already lives in the value that does.
        let mut server = Server { child, address: String::new(), log };
        match first_line(stdout, file).recv_timeout(READY_WITHIN) {
            Ok(line) => match line.strip_prefix(READY) {
                Some(address) => server.address = address.trim().to_owned(),
                None => {
                    bail!("the server's first line is {line:?}, not {READY:?}ADDRESS (see {})", server.log.display())
                }
            },
            Err(_) => bail!("the server ended or was not ready within {READY_WITHIN:?}: {}", server.log_tail()),
        }
        Ok(server)
    }

    pub fn process(&self) -> Process {
        Process { pid: self.child.id() }
    }

    /// Why the server is gone, or `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("the server ended ({status}): {}", self.log_tail()))
    }

    /// Stops the server; says how it went. Removes its log if `passed`.
    pub fn stop(mut self, passed: bool) -> Result<()> {
        let gone = self.ended();
        let stopped = self.end();
        if passed && gone.is_none() && stopped {
            let _ = fs::remove_file(&self.log);
        } else {
            eprintln!("server output: {}", self.log.display());
        }
        match gone {
            Some(reason) => Err(Ended(reason).into()),
            None if !stopped => bail!("the server did not stop within {STOPPED_WITHIN_MS} ms of SIGTERM"),
            None => Ok(()),
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
        format!("its last lines in {}:\n  {tail}", self.log.display())
    }

    /// SIGTERM, a wait, SIGKILL. True if the first was enough.
    fn end(&mut self) -> bool {
        if let Ok(Some(_)) = self.child.try_wait() {
            return true;
        }
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        for _ in 0..STOPPED_WITHIN_MS / 20 {
            if let Ok(Some(_)) = self.child.try_wait() {
                return true;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "waits for another process at the very end; no loop runs here"
            )]
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The `tenantcast` binary beside this one, built first if it is missing.
pub fn find_binary() -> Result<PathBuf> {
    let own = env::current_exe().context("finding the own executable")?;
    let directory = own.parent().context("the executable has a directory")?;
    let binary = directory.join("tenantcast");
    if binary.exists() {
        return Ok(binary);
    }
    eprintln!("{} is missing: cargo build --release -p tenantcast", binary.display());
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "-p", "tenantcast"]).stdout(Stdio::null());
    if !build.status().context("running cargo")?.success() {
        bail!("building the server failed; give its path with --server or its address with --url");
    }
    // A debug build of this tool sits in another directory than the release build of the server.
    let beside = directory.parent().map(|target| target.join("release/tenantcast"));
    [Some(binary), beside]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .context("cargo built no tenantcast binary here")
}

/// Sends the first line; then copies the rest to the log for as long as the server writes. A thread, because a full pipe would stop the server.
fn first_line(stdout: ChildStdout, mut log: File) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        if let Some(line) = lines.next() {
            let _ = sender.send(line);
        }
        for line in lines {
            let _ = writeln!(log, "{line}");
        }
    });
    receiver
}
