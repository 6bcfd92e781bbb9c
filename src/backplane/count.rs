//! What the backplane counts, by name: shown with the shards' numbers.

use crate::base::count::counts;

counts! {
    /// Durable events that got their place.
    Appended "backplane_appended_total";
    /// Appends, reads and claims answered `backplane_unavailable`.
    Unavailable "backplane_unavailable_total";
    Told "backplane_told_total";
    /// Events and words for other nodes that found the store away.
    ToldDropped "backplane_told_dropped_total";
    Read "backplane_reads_total";
    Claimed "backplane_claims_total";
    /// Changes of saved sockets that found the store away for too long: those sockets come back to their own node only.
    SavesDropped "backplane_saves_dropped_total";
    Commands "backplane_commands_total";
    /// Pipelines they went in.
    Batches "backplane_batches_total";
    /// Pipelines whose outcome is not known and that were sent again.
    Repeated "backplane_batches_repeated_total";
    /// Commands that the store refused for now: full, read-only, loading.
    Refused "backplane_commands_refused_total";
    Envelopes "backplane_envelopes_total";
    /// Envelopes that a shard or this thread had no room for: read back from the store.
    EnvelopesDropped "backplane_envelopes_dropped_total";
    /// Times that an envelope was found to be missing without anything having broken.
    Gaps "backplane_gaps_total";
    /// Requests for sessions of other nodes.
    NeighbourAsks "neighbour_asks_total";
    /// Answers to such requests of other nodes.
    NeighbourAnswers "neighbour_answers_total";
    /// Messages between nodes that nobody heard, that had no room, or that could not be read.
    NeighbourFailed "neighbour_failed_total";
    Connected "backplane_connected_total";
    ConnectFailed "backplane_connect_failed_total";
    /// Messages of plain channels, emitters and servers of other makes.
    ForeignHeard "backplane_foreign_heard_total";
    /// Those that cannot be read, or are not what the profile says.
    ForeignBroken "backplane_foreign_broken_total";
    /// Those that name no tenant, and so reach nobody.
    ForeignNobody "backplane_foreign_unaddressed_total";
    /// Those, and ours for them, that there was no room or no Redis for.
    ForeignDropped "backplane_foreign_dropped_total";
    /// Times that rows of the stream that is shared with servers of other makes may have gone before they were read.
    RowsMissed "backplane_rows_missed_total";
    /// Events of ours that went out to servers of other makes.
    ForeignTold "backplane_foreign_told_total";
    ForeignAnswered "backplane_foreign_answered_total";
    /// Events that waited for the store when the process ended.
    Lost "backplane_lost_total";
}

/// In the order of [`Count`].
pub fn names() -> &'static [&'static str] {
    NAMES
}
