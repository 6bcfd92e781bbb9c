//! What `/proc` says about a process: resident bytes and CPU time.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// A process watched from outside, or this one.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub pid: u32,
}

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all its threads, microseconds; the kernel counts in ticks of 10,000.
    pub cpu_us: u64,
    /// The part of it outside the kernel.
    pub user_us: u64,
    pub rss_bytes: u64,
}

impl Process {
    pub fn itself() -> Process {
        Process { pid: std::process::id() }
    }

    pub fn usage(&self) -> Result<Usage> {
        let read = |name: &str| {
            let path = PathBuf::from(format!("/proc/{}/{name}", self.pid));
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (user, system) = cpu_ticks(&read("stat")?).context("/proc/PID/stat has no times")?;
        let rss = rss_bytes(&read("status")?).context("/proc/PID/status has no VmRSS: has the process ended?")?;
        let us = |ticks| ticks * 1_000_000 / rustix::param::clock_ticks_per_second();
        Ok(Usage { cpu_us: us(user + system), user_us: us(user), rss_bytes: rss })
    }
}

/// Fields 14 and 15 of proc_pid_stat(5); the second field is a name in parentheses that may hold spaces and parentheses itself.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files() {
        let stat = "7 (a) b)) S 1 7 7 0 -1 4194560 500 0 0 0 11 22 0 0 20 0 1 0 99 1000 50";
        assert_eq!(cpu_ticks(stat), Some((11, 22)));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    1234 kB\nVmData: 5 kB\n"), Some(1_263_616));
        assert_eq!(rss_bytes("Name:\tx\n"), None);
        assert!(Process::itself().usage().unwrap().rss_bytes > 100_000);
    }
}
