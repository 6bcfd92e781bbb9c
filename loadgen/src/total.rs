//! What the load processes told, second by second, added up: histograms and counts of the whole, and a line for each second.

use hdrhistogram::Histogram;

use crate::histogram::{Percentiles, histogram, merge};
use crate::protocol::{Counts, Phase, Window};

pub struct Total {
    /// Of the first opening of each connection, and of coming back.
    pub connect: Histogram<u64>,
    pub reconnect: Histogram<u64>,
    /// Of what should have been sent while measuring, whenever it arrived.
    pub delivery: Histogram<u64>,
    pub publish_ack: Histogram<u64>,
    pub request: Histogram<u64>,
    pub late: Histogram<u64>,
    /// Of what happened while measuring.
    pub measured: Counts,
    /// Of all phases.
    pub counts: Counts,
    /// In the order of their starts, once all are in.
    pub seconds: Vec<Second>,
}

/// One second of all processes together.
#[derive(Clone, Debug)]
pub struct Second {
    pub phase: Phase,
    pub start_us: u64,
    pub end_us: u64,
    pub counts: Counts,
    pub delivery: Percentiles,
    pub request: Percentiles,
    /// Of connections that opened or came back.
    pub connect: Percentiles,
}

impl Total {
    pub fn new() -> Total {
        Total {
            connect: histogram(),
            reconnect: histogram(),
            delivery: histogram(),
            publish_ack: histogram(),
            request: histogram(),
            late: histogram(),
            measured: Counts::default(),
            counts: Counts::default(),
            seconds: Vec::new(),
        }
    }

    /// Adds the windows of one second, one of each process.
    pub fn add(&mut self, windows: &[Window]) {
        let Some(first) = windows.first() else { return };
        let mut counts = Counts::default();
        let [mut delivery, mut request, mut connect] = [histogram(), histogram(), histogram()];
        for window in windows {
            counts.add(&window.counts);
            merge(&mut delivery, &window.delivery);
            merge(&mut request, &window.request);
            merge(&mut connect, &window.connect);
            merge(&mut connect, &window.reconnect);
            merge(&mut self.connect, &window.connect);
            merge(&mut self.reconnect, &window.reconnect);
            if window.phase >= Phase::Measure {
                merge(&mut self.publish_ack, &window.publish_ack);
                merge(&mut self.late, &window.late);
                merge(&mut self.delivery, &window.delivery);
                merge(&mut self.request, &window.request);
            }
        }
        self.counts.add(&counts);
        if first.phase == Phase::Measure {
            self.measured.add(&counts);
        }
        let second = Second {
            phase: first.phase,
            start_us: first.start_us,
            end_us: windows.iter().map(|window| window.end_us).max().unwrap_or(first.end_us),
            counts,
            delivery: Percentiles::of(&delivery),
            request: Percentiles::of(&request),
            connect: Percentiles::of(&connect),
        };
        let place = self.seconds.partition_point(|other| other.start_us <= second.start_us);
        self.seconds.insert(place, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::sparse;

    #[test]
    fn merging_is_recording_in_one_place() {
        let mut whole = histogram();
        let mut total = Total::new();
        let mut windows = Vec::new();
        for process in 0..3u64 {
            let mut part = histogram();
            for n in 0..2_000 {
                let value = (n * 7919 + process * 104_729) % 70_000_000 + 1;
                part.saturating_record(value);
                whole.saturating_record(value);
            }
            let counts = Counts { deliveries: 2_000, ..Counts::default() };
            let delivery = sparse(&part);
            windows.push(Window {
                phase: Phase::Measure,
                index: 4,
                start_us: 9,
                end_us: 10,
                counts,
                delivery,
                ..Window::default()
            });
        }
        total.add(&windows);
        assert_eq!(Percentiles::of(&total.delivery), Percentiles::of(&whole));
        assert_eq!(sparse(&total.delivery), sparse(&whole));
        assert_eq!((total.measured.deliveries, total.counts.deliveries), (6_000, 6_000));
        assert_eq!(total.seconds[0].delivery, Percentiles::of(&whole));
    }

    #[test]
    fn only_what_was_sent_while_measuring_is_measured() {
        let mut total = Total::new();
        for (start_us, phase) in [(30, Phase::Measure), (10, Phase::Connect), (40, Phase::Drain), (20, Phase::Warmup)] {
            let counts = Counts { deliveries: 1, opened: 1, ..Counts::default() };
            let one = vec![(start_us, 1)];
            total.add(&[Window { phase, start_us, counts, delivery: one.clone(), connect: one, ..Window::default() }]);
        }
        assert_eq!((total.delivery.len(), total.connect.len()), (2, 4));
        assert_eq!((total.measured.deliveries, total.counts.opened), (1, 4));
        let starts: Vec<u64> = total.seconds.iter().map(|second| second.start_us).collect();
        assert_eq!(starts, [10, 20, 30, 40]);
    }
}
