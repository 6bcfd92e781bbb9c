//! Histograms of microseconds, their percentiles, and the short form in which they cross from one process to another.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Reasons and event names counted apart; the rest share one row.
const NAMES_MAX: usize = 32;

/// Microseconds. All zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// The values of a histogram and how often each was recorded: what a process tells of it.
pub type Sparse = Vec<(u64, u64)>;

/// One minute at three digits; a longer time counts as a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid")
}

/// Records the time from `since` to `now`, both in microseconds.
pub fn record(histogram: &mut Histogram<u64>, now: u64, since: u64) {
    histogram.saturating_record(now.saturating_sub(since));
}

/// What was recorded, bucket by bucket.
pub fn sparse(histogram: &Histogram<u64>) -> Sparse {
    histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect()
}

/// Adds what another process recorded: a value at the upper end of its bucket falls into the same bucket here.
pub fn merge(histogram: &mut Histogram<u64>, sparse: &Sparse) {
    for &(value, count) in sparse {
        histogram.saturating_record_n(value, count);
    }
}

impl Percentiles {
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        if histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
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
