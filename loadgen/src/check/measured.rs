//! What the loop counts and times while it runs: plain tables, filled by `driver`, read by `run`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::histogram::histogram;

/// What the loop saw.
pub struct Measured {
    pub ready: u32,
    /// Microseconds from the first attempt to the last connection that got ready.
    pub connect_us: u64,
    pub closed_early: u64,
    /// Why connections were not opened or were closed.
    pub failures: BTreeMap<String, u64>,
    pub refusals: BTreeMap<String, u64>,
    /// Events that were not deliveries, by name.
    pub other_events: BTreeMap<String, u64>,
    /// Deliveries the fast reader declined, so that they were parsed as JSON.
    pub slow_reads: u64,
    /// Microseconds; connect attempt to ready.
    pub connect: Histogram<u64>,
    /// Microseconds; intended send time to receipt, measured part only.
    pub delivery: Histogram<u64>,
    /// Microseconds; intended send time to ack, measured part only.
    pub ack: Histogram<u64>,
    /// Microseconds; intended send time to real one: the load generator's own lateness.
    pub late: Histogram<u64>,
}

impl Measured {
    pub fn new() -> Measured {
        Measured {
            ready: 0,
            connect_us: 0,
            closed_early: 0,
            failures: BTreeMap::new(),
            refusals: BTreeMap::new(),
            other_events: BTreeMap::new(),
            slow_reads: 0,
            connect: histogram(),
            delivery: histogram(),
            ack: histogram(),
            late: histogram(),
        }
    }
}
