//! The machine at hand: its cores, and how its results are named.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One for the server, one for the load: the first two this process may use.
pub fn two_cores() -> Result<(usize, usize)> {
    match allowed()[..] {
        [server, load, ..] => Ok((server, load)),
        _ => bail!("two cores are needed: one for the server, one for the load"),
    }
}

/// `Cpus_allowed_list` is `0-3,8`.
fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model.trim()).to_owned()
}

pub fn describe() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    json!({ "cpu": model(), "cores": allowed().len(), "kernel": kernel.trim(), "memory_mib": kib / 1024 })
}

/// `tuning/results/amd-epyc-2-cores.json`, or `amd-epyc-2-cores-steered.json`, `amd-epyc-2-cores-polled.json`.
pub fn results_file(steered: bool, polled: bool) -> PathBuf {
    let [steered, polled] =
        [(steered, "-steered"), (polled, "-polled")].map(|(is_so, how)| if is_so { how } else { "" });
    let name = format!("{}-{}-cores{steered}{polled}", model(), allowed().len()).to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    root().join("tuning/results").join(words.join("-")).with_extension("json")
}

#[expect(clippy::disallowed_methods, reason = "the date of a result; nothing here is replayed")]
pub fn unix_time() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
