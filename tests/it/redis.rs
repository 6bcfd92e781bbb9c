//! A Redis of a test's own: started, killed, restarted with or without its data, ended by its process id.

use crate::server::until;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    directory: PathBuf,
    args: Vec<String>,
}

/// A port that nobody had a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl Redis {
    /// A server with what is appended to its log synced at once, and `args` besides.
    pub fn start(args: &[&str]) -> Redis {
        let mut redis = Redis::prepare(args);
        redis.run();
        redis
    }

    /// One that does not run yet.
    pub fn prepare(args: &[&str]) -> Redis {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("redis-{}-{number}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A Cluster's bus is at 10,000 above.
        let port = std::iter::repeat_with(free_port).find(|port| *port < 55_000).expect("there are ports");
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Redis { child: None, port, directory, args }
    }

    /// Runs it, with the data it has, until it answers.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        std::fs::create_dir_all(&self.directory).expect("a directory");
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--logfile"])
            // Whole: some versions open it before they go to the directory.
            .arg(self.directory.join("redis.log"))
            .arg("--dir")
            .arg(&self.directory)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed: tests/run does it"));
        until("Redis answers", || {
            self.try_ask(&["PING"]).is_some_and(|answer| answer.contains("PONG") || answer.contains("NOAUTH"))
        });
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }

    /// Its data is gone when it runs again.
    pub fn empty(&self) {
        std::fs::remove_dir_all(&self.directory).expect("its own directory");
    }

    /// It goes on, or does not, without anybody's connection being closed.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("kill starts").success());
    }

    /// One command; the answer as it comes, nested ones flat, a line each.
    pub fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).expect("it answers")
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        Redis::ask_at(self.port, command)
    }

    pub fn ask_at(port: u16, command: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut text = format!("*{}\r\n", command.len());
        for part in command {
            let _ = write!(text, "${}\r\n{part}\r\n", part.len());
        }
        stream.write_all(text.as_bytes()).ok()?;
        let mut out = String::new();
        read(&mut BufReader::new(stream), &mut out)?;
        Some(out.trim_end().to_owned())
    }
}

fn read(from: &mut impl BufRead, out: &mut String) -> Option<()> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    match kind {
        "*" => {
            for _ in 0..rest.parse::<i64>().ok()? {
                read(from, out)?;
            }
        }
        "$" if rest != "-1" => {
            let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
            from.read_exact(&mut bytes).ok()?;
            bytes.truncate(bytes.len() - 2);
            out.push_str(&String::from_utf8_lossy(&bytes));
            out.push('\n');
        }
        "$" => out.push_str("(nil)\n"),
        _ => {
            out.push_str(rest);
            out.push('\n');
        }
    }
    Some(())
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
