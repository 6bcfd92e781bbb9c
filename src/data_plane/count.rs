//! What the data plane counts, by name. Published behind the shard's own [`Counts`] in the same row of the bridge's gauges.

use crate::{base::count::counts, shard::count::Counts};

counts! {
    /// Gauge: sockets open now.
    Connections "connections";
    /// Gauge: those of them whose tenant is spread and lives on another shard.
    ConnectionsLent "connections_lent";
    /// Gauge: 1 while this shard drains.
    Draining "draining";
    /// Gauge: 1 while this shard drains and has nobody left.
    Drained "drained";
    /// Gauge: messages that wait for room in a lane.
    MeshSpilled "mesh_spilled";
    Accepted "connections_accepted_total";
    AcceptErrors "accept_errors_total";
    RefusedRate "refused_connections_rate_total";
    Requests "http_requests_total";
    RequestsBroken "http_requests_broken_total";
    DeadlinesMissed "http_deadlines_missed_total";
    FramesBroken "websocket_frames_broken_total";
    BytesIn "bytes_in_total";
    BytesOut "bytes_out_total";
    /// Sockets that did not take all bytes at once.
    WritesShort "writes_short_total";
    HandoffsOut "handoffs_out_total";
    HandoffsIn "handoffs_in_total";
    /// Messages that found the mesh full and were answered 503, or whose connections were closed.
    MeshRefused "mesh_refused_total";
    /// Joins refused and webhooks' events dropped because the control plane takes no more.
    AsksRefused "control_refused_total";
    /// Asks that the backplane's lane had no room for: answered `backplane_unavailable`, dropped, or put off.
    RelaysRefused "backplane_refused_total";
    /// Times that what is for lent connections, or from them, had to wait because the other shard was behind.
    LoansPutOff "loans_put_off_total";
    Turns "turns_total";
}

#[derive(Clone, Debug)]
pub struct PlaneCounts([u64; NAMES.len()]);

impl Default for PlaneCounts {
    fn default() -> PlaneCounts {
        PlaneCounts([0; NAMES.len()])
    }
}

impl PlaneCounts {
    pub fn up(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    pub fn add(&mut self, count: Count, by: usize) {
        self.0[count as usize] += by as u64;
    }

    pub fn set(&mut self, count: Count, to: usize) {
        self.0[count as usize] = to as u64;
    }

    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }
}

/// Length of a row of the bridge's gauges: the shard's numbers, then these.
pub const ROW: usize = Counts::LEN + NAMES.len();

/// Where a number of the data plane stands in a row.
pub const fn in_row(count: Count) -> usize {
    Counts::LEN + count as usize
}

/// Names of a row's numbers without prefix, with a label's value for those that have one.
pub fn names() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    Counts::names().chain(NAMES.iter().map(|name| (*name, None)))
}
