//! What a shard counts, by name. Plain numbers here; the pump copies them where other threads may read them.

use crate::{base::count::counts, wire::close::Close};

counts! {
    /// Gauge: sessions open now, authenticated.
    Sessions "sessions";
    /// Gauge.
    Tenants "tenants";
    /// Gauge.
    Rooms "rooms";
    /// Gauge: long-polling sessions that are closed and have not fetched their last packets.
    Farewells "farewells";
    /// Gauge: sessions that a drain has yet to close.
    Leavers "sessions_leaving";
    /// Gauge: documents that are remembered.
    Documents "documents";
    SessionsOpened "sessions_opened_total";
    SessionsMovedIn "sessions_moved_in_total";
    SessionsMovedOut "sessions_moved_out_total";
    SessionsRecovered "sessions_recovered_total";
    SessionsNotRecovered "sessions_not_recovered_total";
    PacketsIn "packets_in_total";
    Published "events_published_total";
    PublishedTwice "events_published_twice_total";
    Delivered "events_delivered_total";
    /// Ephemeral events dropped for slow consumers.
    Dropped "events_dropped_total";
    DocumentVersions "document_versions_total";
    DocumentConflicts "document_conflicts_total";
    CallsTotal "api_calls_total";
    RefusedHandshake "refused_handshake_total";
    RefusedPacket "refused_packet_total";
    RefusedRoom "refused_room_total";
    RefusedPublish "refused_publish_total";
    RefusedRate "refused_rate_total";
    PingTimeouts "ping_timeouts_total";
    AckDropped "acks_dropped_total";
    /// Events that began to wait for a user who was not there.
    OfflineKept "offline_kept_total";
    /// Given to a socket; again for each that comes before they are acknowledged.
    OfflineGiven "offline_given_total";
    OfflineAcknowledged "offline_acknowledged_total";
    /// Dropped because too many waited.
    OfflineDropped "offline_dropped_total";
    OfflineExpired "offline_expired_total";
    /// Events published with a request for acknowledgements.
    DeliveriesAsked "deliveries_asked_total";
    DeliveryRetries "delivery_retries_total";
    /// Users who did not answer.
    DeliveriesUnanswered "deliveries_unanswered_total";
    /// Durable events that came through a tenant's stream, from any node.
    EnvelopesApplied "envelopes_applied_total";
    /// What came from other nodes and could not be read.
    EnvelopesBroken "envelopes_broken_total";
    /// Times a tenant's stream had a hole that was read back.
    StreamRepairs "stream_repairs_total";
    /// Times sockets were told that events are lost.
    Gaps "gaps_total";
    /// Events of other makes' servers and emitters for sockets of this shard.
    ForeignEvents "foreign_events_total";
    /// Those of them that the catalogue does not let through.
    ForeignRefused "foreign_refused_total";
    /// What plain channels and fleets brought that could not be published.
    ForeignUnpublished "foreign_unpublished_total";
    /// Joins the application's backend was asked about.
    VerdictsAsked "verdicts_asked_total";
    /// Joins decided by an answer that was still known, or that another join was waiting for.
    VerdictsShared "verdicts_shared_total";
    /// Joins the backend did not permit.
    VerdictsDenied "verdicts_denied_total";
    /// Joins refused because the backend did not answer, or could not be asked.
    VerdictsUnavailable "verdicts_unavailable_total";
    /// Times a listener's filter fitted an event.
    ListenersRun "listeners_run_total";
    /// Actions of listeners that could not be done, the next two among them.
    ListenerActionsFailed "listener_actions_failed_total";
    JobsUnavailable "listener_jobs_unavailable_total";
    CacheUnavailable "listener_cache_unavailable_total";
}

/// Counters by [`Count`], and sessions closed and handshakes refused by row of the close table.
#[derive(Clone, Debug)]
pub struct Counts {
    values: [u64; NAMES.len()],
    closed: [u64; Close::ALL.len()],
    refused: [u64; Close::ALL.len()],
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { values: [0; NAMES.len()], closed: [0; Close::ALL.len()], refused: [0; Close::ALL.len()] }
    }
}

impl Counts {
    /// How many numbers [`values`](Self::values) yields.
    pub const LEN: usize = NAMES.len() + 2 * Close::ALL.len();

    pub fn up(&mut self, count: Count) {
        self.values[count as usize] += 1;
    }

    /// Of a gauge.
    pub fn down(&mut self, count: Count) {
        self.values[count as usize] -= 1;
    }

    pub fn add(&mut self, count: Count, by: u64) {
        self.values[count as usize] += by;
    }

    pub fn set(&mut self, count: Count, to: usize) {
        self.values[count as usize] = to as u64;
    }

    pub fn closed(&mut self, close: Close) {
        self.closed[close as usize] += 1;
    }

    /// A handshake was refused for a reason of the table.
    pub fn refused(&mut self, close: Close) {
        self.refused[close as usize] += 1;
    }

    pub fn get(&self, count: Count) -> u64 {
        self.values[count as usize]
    }

    /// All numbers, in the order of [`names`](Self::names).
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.values.iter().chain(&self.closed).chain(&self.refused).copied()
    }

    /// Metric names without prefix, with the close code as a label for the closes.
    pub fn names() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        let by_code = |name| Close::ALL.iter().map(move |close| (name, Some(close.row().code)));
        let names = NAMES.iter().map(|name| (*name, None));
        names.chain(by_code("sessions_closed_total")).chain(by_code("handshakes_refused_total"))
    }

    /// Where [`Count::Sessions`] stands in [`values`](Self::values).
    pub const SESSIONS: usize = Count::Sessions as usize;
}
