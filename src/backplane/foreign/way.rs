//! What others say, on its way to one shard.
//!
//! Invariants: it keeps its order; here and in the shard's lane together it is at most [`REPORT_BYTES_MAX`], and what is more is refused; little
//! of it is in the lane at a time, so that the nodes' own reports do not wait behind it.

use crate::base::limit::REPORT_BYTES_MAX;
use crate::bridge::{Load, Meter};
use crate::shard::relay::Report;
use std::collections::VecDeque;

/// Reports of one message to the shard.
const REPORTS_MAX: usize = 128;
/// Bytes in the lane at a time.
const WINDOW: usize = 1 << 20;

#[derive(Default)]
pub struct Way {
    waiting: VecDeque<Report>,
    bytes: usize,
    /// In the shard's lane.
    meter: Meter,
}

impl Way {
    /// False: there is no room.
    pub fn push(&mut self, report: Report) -> bool {
        let bytes = report.bytes();
        if self.bytes + self.meter.bytes() + bytes > REPORT_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.waiting.push_back(report);
        true
    }

    /// As [`push`](Self::push), of what may not be lost: who reads it looks before whether there [is room](Self::has_room).
    pub fn put(&mut self, report: Report) {
        self.bytes += report.bytes();
        self.waiting.push_back(report);
    }

    pub fn has_room(&self) -> bool {
        self.bytes + self.meter.bytes() < REPORT_BYTES_MAX / 2
    }

    /// Hands over what waits, as far as the lane takes it.
    pub fn flush(&mut self, mut send: impl FnMut(Vec<Report>, Load) -> Result<(), Vec<Report>>) {
        while !self.waiting.is_empty() && self.meter.bytes() < WINDOW {
            let count = self.waiting.len().min(REPORTS_MAX);
            let reports: Vec<Report> = self.waiting.drain(..count).collect();
            let bytes = reports.iter().map(Report::bytes).sum();
            match send(reports, self.meter.load(bytes)) {
                Ok(()) => self.bytes -= bytes,
                Err(reports) => {
                    for report in reports.into_iter().rev() {
                        self.waiting.push_front(report);
                    }
                    return;
                }
            }
        }
    }

    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::foreign::Foreign;
    use crate::shard::relay::Ticket;

    #[test]
    fn it_is_bounded_with_what_is_in_the_lane_and_keeps_its_order() {
        let rooms = |bytes: usize, n| {
            let namespace = "x".repeat(bytes).into();
            Report::Foreign(Box::new(Foreign::Rooms { namespace, ticket: Ticket(n) }))
        };
        let mut way = Way::default();
        assert!(way.push(rooms(REPORT_BYTES_MAX / 2, 0)));
        let mut lane = Vec::new();
        way.flush(|reports, load| {
            lane.push((reports, load));
            Ok(())
        });
        assert!(!way.waits() && !way.push(rooms(REPORT_BYTES_MAX / 2, 1)), "the first is still in the lane");
        assert!(way.push(rooms(1, 2)) && way.push(rooms(1, 3)));
        way.flush(|_, _| panic!("there is enough in the lane"));
        lane.clear();
        way.flush(|reports, _| Err(reports));
        let mut got = Vec::new();
        way.flush(|reports, _| {
            got.extend(reports);
            Ok(())
        });
        let tickets: Vec<u64> = got
            .iter()
            .filter_map(|report| match report {
                Report::Foreign(foreign) => match &**foreign {
                    Foreign::Rooms { ticket, .. } => Some(ticket.0),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        assert_eq!(tickets, [2, 3]);
        assert!(!way.waits());
    }
}
