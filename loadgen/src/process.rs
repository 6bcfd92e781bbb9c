//! What `/proc` says about a process: resident bytes and CPU time.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

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

    /// As [`Process::usage`], with a CPU time in nanoseconds where the kernel keeps one: what 1,000 connections cost is less than ten of its ticks.
    pub fn precise_usage(&self) -> Result<Usage> {
        let usage = self.usage()?;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let on_cpu_ns = |text: String| text.split_ascii_whitespace().next().and_then(|first| first.parse::<u64>().ok());
        let times =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok().and_then(on_cpu_ns));
        let cpu_us = times.sum::<u64>() / 1000;
        // Threads that have ended are in the ticks alone; without schedstat everything is.
        let is_whole = cpu_us + 20_000 >= usage.cpu_us;
        Ok(Usage { cpu_us: if is_whole { cpu_us } else { usage.cpu_us }, ..usage })
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

/// CPU time of every program on this machine and of those they have waited for, and what its host took; microseconds.
///
/// Not `/proc/stat`'s own sum: that is sampled by the clock's tick and counts what interrupts do, which the load itself causes.
pub fn machine_cpu_us() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let stolen = stolen_ticks(&stat).context("/proc/stat has no times")?;
    let entries = std::fs::read_dir("/proc").context("reading /proc")?;
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_process));
    // One that ends meanwhile is in its parent's times.
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let ticks: u64 = stats.filter_map(|stat| program_ticks(&stat)).sum();
    Ok((ticks + stolen) * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// The eighth number of the first line of proc_stat(5).
fn stolen_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    fields.map_while(|field| field.parse().ok()).nth(7)
}

/// User and system time in proc_pid_stat(5), with that of children waited for; none of the kernel's own threads.
fn program_ticks(stat: &str) -> Option<u64> {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    (field(9)? & PF_KTHREAD == 0).then_some(())?;
    (14..=17).map(field).sum()
}

/// Raises the soft limit of open files to what the run needs, if the hard one allows.
pub fn reserve_files(needed: u64) -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let covers = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if covers(limit.current) {
        return Ok(());
    }
    if !covers(limit.maximum) {
        bail!("{needed} open files are needed, the limit is {:?}: use fewer --connections", limit.maximum.unwrap_or(0));
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).context("raising the limit of open files")
}

/// Keeps this thread, and what it starts from now on, on these cores; on any if there are none.
pub fn pin(cpus: &[usize]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            bail!("there is no core {cpu}");
        }
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("staying on the cores {cpus:?}"))
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
        assert_eq!(stolen_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 1 1\n"), Some(32));
        assert_eq!(stolen_ticks("cpu  1 2\n"), None);
    }

    #[test]
    fn programs_count_and_the_kernel_does_not() {
        let stat = |flags: u64| format!("7 (a ) b) S 1 7 7 0 -1 {flags} 5 6 7 8 100 20 3 4 20 0 1 0 99");
        assert_eq!(program_ticks(&stat(0x0040_0000)), Some(127));
        assert_eq!(program_ticks(&stat(0x0020_8040)), None);
        assert_eq!(program_ticks("7 (a) S"), None);
        assert!(machine_cpu_us().unwrap() > 0);
        assert!(Process::itself().usage().unwrap().rss_bytes > 100_000);
    }
}
