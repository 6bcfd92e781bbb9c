//! What the loop counts and times while it runs: plain tables, filled by `driver`, read by `run`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Reasons and event names counted apart; the rest share one row.
const NAMES_MAX: usize = 32;

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

/// One minute at three digits; a longer time counts as a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid")
}

/// Records the time from `since` to `now`, both in microseconds.
pub fn record(histogram: &mut Histogram<u64>, now: u64, since: u64) {
    histogram.saturating_record(now.saturating_sub(since));
}

/// Counts a name, within the bound.
pub fn count(table: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = table.get_mut(name) {
        *count += 1;
    } else {
        let name = if table.len() < NAMES_MAX { name } else { "others" };
        *table.entry(name.to_owned()).or_default() += 1;
    }
}
