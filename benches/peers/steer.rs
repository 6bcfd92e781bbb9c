//! Loopback like a network: the receiver's share of TCP is done on the receiver's core.
//!
//! Without it the sender of a packet over loopback also takes it in, which is half of what a small send costs there, and none of what it costs
//! towards a network card. Receive packet steering hands that half to the load's core
//! (<https://www.kernel.org/doc/Documentation/networking/scaling.rst>). The queue between the two has to hold what the server sends
//! meanwhile, or packets are lost and sent again 200 ms later. Both are the machine's settings: root sets them, and they are set back.

use anyhow::{Context, Result};
use std::fs;

const STEERING: &str = "/sys/class/net/lo/queues/rx-0/rps_cpus";
const BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";
/// Packets: more than a publish to 10,000 brings.
const BACKLOG_PACKETS: &str = "30000";

/// What stood there before.
pub struct Steered([(&'static str, String); 2]);

pub fn to(core: usize) -> Result<Steered> {
    let read = |path: &'static str| {
        fs::read_to_string(path).map(|text| (path, text)).with_context(|| format!("reading {path}"))
    };
    let steered = Steered([read(STEERING)?, read(BACKLOG)?]);
    let write = |path, text: &str| fs::write(path, text).with_context(|| format!("setting {path} (as root)"));
    write(BACKLOG, BACKLOG_PACKETS)?;
    write(STEERING, &mask(core))?;
    Ok(steered)
}

/// A bit for each core, in words of 32, the highest first.
fn mask(core: usize) -> String {
    format!("{:x}{}", 1u32 << (core % 32), ",00000000".repeat(core / 32))
}

impl Drop for Steered {
    fn drop(&mut self) {
        for (path, text) in &self.0 {
            if let Err(error) = fs::write(path, text.trim()) {
                eprintln!("peers: {path} should be {:?} again: {error}", text.trim());
            }
        }
    }
}
