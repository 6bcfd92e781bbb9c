//! What is on its way to one shard.
//!
//! Invariants: reports keep their order; an answer is never dropped, because who asked waits for it and has bounded how many it asks; an
//! envelope is refused where more than [`REPORT_BYTES_MAX`] are under way, here and in the shard's lane together.

use crate::base::limit::REPORT_BYTES_MAX;
use crate::bridge::{Load, Meter};
use crate::shard::relay::Report;
use std::collections::VecDeque;

/// Reports of one message: what a shard takes in one go.
const REPORTS_MAX: usize = 512;

#[derive(Default)]
pub struct Outlet {
    waiting: VecDeque<Report>,
    bytes: usize,
    /// In the shard's lane.
    meter: Meter,
    /// Something was refused since there was room.
    refused: bool,
}

impl Outlet {
    /// Puts a report behind the others. False: there is no room for an envelope, or for what others say.
    pub fn push(&mut self, report: Report) -> bool {
        let bytes = report.bytes();
        if matches!(report, Report::Envelope { .. } | Report::Foreign(_)) && self.under_way() + bytes > REPORT_BYTES_MAX
        {
            self.refused = true;
            return false;
        }
        self.bytes += bytes;
        self.waiting.push_back(report);
        true
    }

    fn under_way(&self) -> usize {
        self.bytes + self.meter.bytes()
    }

    /// Whether there is room again for what had been refused; says so once.
    pub fn has_regained(&mut self) -> bool {
        let regained = self.refused && self.under_way() < REPORT_BYTES_MAX / 2;
        self.refused &= !regained;
        regained
    }

    /// Hands over what waits, as far as the lane takes it.
    pub fn flush(&mut self, mut send: impl FnMut(Vec<Report>, Load) -> Result<(), Vec<Report>>) {
        while !self.waiting.is_empty() {
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

    /// Something waits for room: in the lane, or for it to become less.
    pub fn waits(&self) -> bool {
        self.refused || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::TenantId;
    use crate::shard::relay::{Ticket, Unavailable};

    #[test]
    fn envelopes_are_bounded_with_those_in_the_lane_and_answers_are_not() {
        let tenant = TenantId::parse("t").unwrap();
        let envelope =
            |bytes: usize| Report::Envelope { tenant: tenant.clone(), frame: vec![0; bytes].into_boxed_slice() };
        let answer = |n| Report::Claimed { ticket: Ticket(n), result: Err(Unavailable) };
        let mut outlet = Outlet::default();
        assert!(outlet.push(envelope(REPORT_BYTES_MAX / 2)));
        let mut lane = Vec::new();
        outlet.flush(|reports, load| {
            lane.push((reports, load));
            Ok(())
        });
        assert!(!outlet.waits());
        assert!(!outlet.push(envelope(REPORT_BYTES_MAX / 2)), "the first is still in the lane");
        assert!(outlet.push(answer(1)) && outlet.push(answer(2)));
        outlet.flush(|reports, _| Err(reports));
        assert!(outlet.waits() && !outlet.has_regained());
        lane.clear();
        assert!(outlet.has_regained() && !outlet.has_regained());
        let mut got = Vec::new();
        outlet.flush(|reports, _| {
            got.extend(reports);
            Ok(())
        });
        assert!(matches!(
            got[..],
            [Report::Claimed { ticket: Ticket(1), .. }, Report::Claimed { ticket: Ticket(2), .. }]
        ));
        assert!(!outlet.waits());
    }
}
