//! What is on its way to one shard: a queue for each tenant, given in turn.
//!
//! Invariants: a tenant's reports keep their order; an answer is never dropped, because who asked waits for it and has bounded how many it asks;
//! an envelope is refused where more than [`REPORT_BYTES_MAX`] are under way, here and in the shard's lane together, or where its tenant holds
//! more than its share of that; the lane holds no more than a [`WINDOW`], so that a tenant's backlog stays here, where others pass it.

use super::hold::{Held, Hold};
use crate::base::{chance::Map, id::TenantId, limit::REPORT_BYTES_MAX};
use crate::bridge::{Load, Meter};
use crate::shard::relay::Report;
use std::collections::VecDeque;

/// Reports of one message.
const REPORTS_MAX: usize = 512;
/// Reports of one tenant in a message that another tenant waits for.
const TURN: usize = 64;
/// Bytes in the shard's lane, but for one message: more than a shard takes between two looks of this thread.
const WINDOW: usize = 2 << 20;

pub struct Outlet {
    queues: Map<TenantId, Queue>,
    /// Tenants with something to tell, each once.
    turns: VecDeque<TenantId>,
    /// What is of no tenant.
    others: VecDeque<Report>,
    /// The lane would not take it.
    stalled: Option<Vec<Report>>,
    envelopes: Hold,
    /// In the shard's lane.
    meter: Meter,
    /// Something was refused since there was room.
    refused: bool,
}

#[derive(Default)]
struct Queue {
    reports: VecDeque<Report>,
    held: Held,
}

impl Default for Outlet {
    fn default() -> Outlet {
        Outlet {
            queues: Map::default(),
            turns: VecDeque::new(),
            others: VecDeque::new(),
            stalled: None,
            envelopes: Hold::new(usize::MAX, REPORT_BYTES_MAX),
            meter: Meter::default(),
            refused: false,
        }
    }
}

impl Outlet {
    /// Puts a report behind its tenant's others (an answer's tenant is who asked), or gives it back: there is no room for an envelope.
    pub fn push(&mut self, asker: Option<&TenantId>, report: Report) -> Result<(), Report> {
        let Some(tenant) = asker.or(report.tenant()) else {
            self.others.push_back(report);
            return Ok(());
        };
        let bytes = report.bytes();
        if !self.queues.contains_key(tenant) {
            self.queues.insert(tenant.clone(), Queue::default());
            self.turns.push_back(tenant.clone());
        }
        let Some(queue) = self.queues.get_mut(tenant) else { return Err(report) };
        if matches!(report, Report::Envelope { .. }) {
            let is_full = self.envelopes.bytes + self.meter.bytes() + bytes > REPORT_BYTES_MAX;
            if is_full || !self.envelopes.has_room(queue.held, bytes) {
                self.refused = true;
                return Err(report);
            }
            self.envelopes.add(&mut queue.held, bytes);
        }
        queue.reports.push_back(report);
        Ok(())
    }

    /// Whether there is room again for what had been refused; says so once.
    pub fn has_regained(&mut self) -> bool {
        let regained = self.refused && self.envelopes.bytes + self.meter.bytes() < REPORT_BYTES_MAX / 2;
        self.refused &= !regained;
        regained
    }

    /// Hands over what waits, as far as the lane takes it.
    pub fn flush(&mut self, mut send: impl FnMut(Vec<Report>, Load) -> Result<(), Vec<Report>>) {
        while self.stalled.is_some() || self.meter.bytes() < WINDOW {
            let reports = self.stalled.take().unwrap_or_else(|| self.next());
            if reports.is_empty() {
                return;
            }
            let bytes = reports.iter().map(Report::bytes).sum();
            if let Err(reports) = send(reports, self.meter.load(bytes)) {
                self.stalled = Some(reports);
                return;
            }
        }
    }

    /// The next message: of each tenant whose turn it is no more than others may wait for.
    fn next(&mut self) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        let count = self.others.len().min(REPORTS_MAX);
        reports.extend(self.others.drain(..count));
        let mut bytes = 0;
        while reports.len() < REPORTS_MAX && bytes < WINDOW / 2 {
            let Some(tenant) = self.turns.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&tenant) else { continue };
            let most = if self.turns.is_empty() { REPORTS_MAX } else { TURN };
            for _ in 0..most.min(REPORTS_MAX - reports.len()) {
                let Some(report) = queue.reports.pop_front() else { break };
                let of_this = report.bytes();
                if matches!(report, Report::Envelope { .. }) {
                    self.envelopes.remove(&mut queue.held, of_this);
                }
                bytes += of_this;
                reports.push(report);
                if bytes >= WINDOW / 2 {
                    break;
                }
            }
            if queue.reports.is_empty() {
                self.queues.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        reports
    }

    /// Something waits for room: in the lane, or for it to become less.
    pub fn waits(&self) -> bool {
        self.refused || self.stalled.is_some() || !self.others.is_empty() || !self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Sid;
    use crate::shard::relay::{Ticket, Unavailable};

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn envelope(name: &str, bytes: usize) -> Report {
        Report::Envelope { tenant: tenant(name), frame: vec![0; bytes].into_boxed_slice() }
    }

    fn push(outlet: &mut Outlet, name: &str, report: Report) -> bool {
        outlet.push(Some(&tenant(name)), report).is_ok()
    }

    #[test]
    fn envelopes_are_bounded_with_those_in_the_lane_and_answers_are_not() {
        let answer = |n| Report::Claimed { ticket: Ticket(n), result: Err(Unavailable) };
        let mut outlet = Outlet::default();
        assert!(push(&mut outlet, "t", envelope("t", REPORT_BYTES_MAX / 2)));
        let mut lane = Vec::new();
        outlet.flush(|reports, load| {
            lane.push((reports, load));
            Ok(())
        });
        assert!(!outlet.waits());
        assert!(!push(&mut outlet, "t", envelope("t", REPORT_BYTES_MAX / 2)), "the first is still in the lane");
        assert!(push(&mut outlet, "t", answer(1)) && push(&mut outlet, "t", answer(2)));
        outlet.flush(|_, _| panic!("the lane has enough"));
        assert!(outlet.waits() && !outlet.has_regained());
        lane.clear();
        assert!(outlet.has_regained() && !outlet.has_regained());
        let mut refusals = 0;
        outlet.flush(|reports, _| {
            refusals += 1;
            Err(reports)
        });
        assert!(outlet.waits() && refusals == 1);
        let mut got = Vec::new();
        outlet.flush(|reports, _| {
            got.extend(reports);
            Ok(())
        });
        assert!(matches!(
            got[..],
            [Report::Claimed { ticket: Ticket(1), .. }, Report::Claimed { ticket: Ticket(2), .. }]
        ));
        assert!(!outlet.waits() && outlet.queues.is_empty());
    }

    /// A tenant that floods a shard fills neither its lane nor all there is room for, and holds nobody up.
    #[test]
    fn tenants_take_turns() {
        let mut outlet = Outlet::default();
        let hot = (0..1000).take_while(|_| push(&mut outlet, "hot", envelope("hot", 1 << 18))).count();
        assert!(hot < REPORT_BYTES_MAX / (1 << 18) * 5 / 6, "{hot}");
        let place = Report::Replaced { tenant: tenant("calm"), pid: Sid::from_bytes(&[0; 15]).unwrap() };
        assert!(push(&mut outlet, "calm", place) && push(&mut outlet, "calm", envelope("calm", 100)));
        let mut lane = Vec::new();
        outlet.flush(|reports, load| {
            lane.push((reports, load));
            Ok(())
        });
        assert!(lane.len() <= 2, "the rest waits here");
        let calm: Vec<_> =
            lane.iter().flat_map(|(reports, _)| reports).filter(|r| r.tenant() != Some(&tenant("hot"))).collect();
        assert!(
            matches!(calm[..], [Report::Replaced { .. }, Report::Envelope { .. }]),
            "in the first window, in order"
        );
        let mut rest = 0;
        while outlet.waits() {
            lane.clear();
            outlet.has_regained();
            outlet.flush(|reports, load| {
                rest += reports.len();
                lane.push((reports, load));
                Ok(())
            });
        }
        assert_eq!(outlet.envelopes.bytes, 0);
        assert!(rest > hot / 2);
    }
}
