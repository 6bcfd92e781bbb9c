//! Counts and times by the second. A value is recorded once, into the window that is open; the leader adds the windows up.

use hdrhistogram::Histogram;

use crate::histogram::{histogram, record, sparse};
use crate::protocol::{Counts, Phase, Window};

const WINDOW_US: u64 = 1_000_000;

pub struct Meter {
    pub counts: Counts,
    pub connect: Histogram<u64>,
    pub reconnect: Histogram<u64>,
    pub publish_ack: Histogram<u64>,
    pub request: Histogram<u64>,
    pub late: Histogram<u64>,
    delivery: Histogram<u64>,
    /// Phases and their starts, the present one first.
    phases: Vec<(Phase, u64)>,
    index: u32,
    start_us: u64,
    end_us: u64,
    /// What should have been sent earlier is not measured; the warm-up has its own windows.
    from_us: u64,
    until_us: u64,
}

impl Meter {
    pub fn new() -> Meter {
        Meter {
            counts: Counts::default(),
            connect: histogram(),
            reconnect: histogram(),
            publish_ack: histogram(),
            request: histogram(),
            late: histogram(),
            delivery: histogram(),
            phases: Vec::new(),
            index: 0,
            start_us: 0,
            end_us: u64::MAX,
            from_us: 0,
            until_us: 0,
        }
    }

    pub fn begin(&mut self, phase: Phase, start_us: u64) {
        self.phases = vec![(phase, start_us)];
        self.open(0, start_us);
    }

    /// Warm-up, measuring and drain follow each other at these times.
    pub fn load(&mut self, start_us: u64, from_us: u64, until_us: u64) {
        self.phases.extend([(Phase::Warmup, start_us), (Phase::Measure, from_us), (Phase::Drain, until_us)]);
        // A warm-up of no length is not a phase.
        self.phases.dedup_by(|later, earlier| {
            earlier.1 == later.1 && {
                earlier.0 = later.0;
                true
            }
        });
        (self.from_us, self.until_us) = (from_us, until_us);
        self.end_us = self.end_us.min(start_us);
    }

    /// When the open window ends.
    pub fn end_us(&self) -> u64 {
        self.end_us
    }

    /// The window that has ended, if one has.
    pub fn roll(&mut self, now: u64) -> Option<Window> {
        if now < self.end_us {
            return None;
        }
        let window = self.take(self.end_us);
        match self.phases.get(1) {
            Some(&(_, start)) if self.end_us >= start => {
                self.phases.remove(0);
                self.open(0, start);
            }
            _ => self.open(self.index + 1, self.end_us),
        }
        window
    }

    /// The last window.
    pub fn finish(&mut self, now: u64) -> Option<Window> {
        self.take(now)
    }

    #[inline]
    pub fn delivered(&mut self, now: u64, at: u64) {
        self.counts.deliveries += 1;
        if self.is_measured(at) {
            record(&mut self.delivery, now, at);
        }
    }

    /// Whether what should have happened at this time counts in the window that is open.
    #[inline]
    pub fn is_measured(&self, at: u64) -> bool {
        at >= self.from_us || self.start_us < self.from_us
    }

    fn open(&mut self, index: u32, start_us: u64) {
        let next = self.phases.get(1).map_or(u64::MAX, |(_, start)| *start);
        (self.index, self.start_us, self.end_us) = (index, start_us, next.min(start_us + WINDOW_US));
    }

    fn take(&mut self, end_us: u64) -> Option<Window> {
        let (phase, _) = *self.phases.first()?;
        let drained = |histogram: &mut Histogram<u64>| {
            let values = if histogram.is_empty() { Vec::new() } else { sparse(histogram) };
            if !values.is_empty() {
                histogram.reset();
            }
            values
        };
        Some(Window {
            phase,
            index: self.index,
            start_us: self.start_us,
            end_us,
            counts: std::mem::take(&mut self.counts),
            connect: drained(&mut self.connect),
            reconnect: drained(&mut self.reconnect),
            delivery: drained(&mut self.delivery),
            publish_ack: drained(&mut self.publish_ack),
            request: drained(&mut self.request),
            late: drained(&mut self.late),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_phases() {
        let second = WINDOW_US;
        let mut meter = Meter::new();
        assert_eq!(meter.roll(5), None);
        meter.begin(Phase::Connect, 1000);
        meter.counts.opened = 7;
        meter.load(1000 + second * 3 / 2, 1000 + second * 2, 1000 + second * 5 / 2);
        // Of the warm-up, received in the warm-up: in its window. Received while measuring: nowhere.
        let mut windows = Vec::new();
        let mut at = 1000;
        while at <= 1000 + second * 3 {
            windows.extend(std::iter::from_fn(|| meter.roll(at)));
            if at == 1000 + second * 7 / 4 {
                meter.delivered(at, at - 30);
            }
            if at == 1000 + second * 9 / 4 {
                meter.delivered(at, 1000 + second * 2 - 1);
                meter.delivered(at, at - 40);
            }
            at += second / 4;
        }
        windows.extend(meter.finish(at));
        let seen: Vec<_> = windows
            .iter()
            .map(|w| (w.phase, w.index, w.start_us - 1000, w.end_us - 1000, w.counts.deliveries, w.delivery.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                (Phase::Connect, 0, 0, second, 0, vec![]),
                (Phase::Connect, 1, second, second * 3 / 2, 0, vec![]),
                (Phase::Warmup, 0, second * 3 / 2, second * 2, 1, vec![(30, 1)]),
                (Phase::Measure, 0, second * 2, second * 5 / 2, 2, vec![(40, 1)]),
                (Phase::Drain, 0, second * 5 / 2, second * 13 / 4, 0, vec![]),
            ]
        );
        assert_eq!(windows[0].counts.opened, 7);
    }

    #[test]
    fn no_warm_up_is_no_phase() {
        let mut meter = Meter::new();
        meter.begin(Phase::Connect, 0);
        meter.load(10, 10, 20);
        let phases: Vec<_> = std::iter::from_fn(|| meter.roll(30)).map(|window| window.phase).collect();
        assert_eq!(phases, [Phase::Connect, Phase::Measure]);
    }
}
