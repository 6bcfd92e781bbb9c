//! Every bound of the server, each with its unit and with what happens when it is reached.
//!
//! [`Limits`] are the ones an operator sets (section `limits` of the configuration, 0 means none); the constants are the ones nobody
//! has to. The assertions at the end relate them.

use super::time::Duration;

/// Bounds an operator may set. Field names are the configuration's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions from one address, counted over all shards. Above: CONNECT is answered `too_many_connections`.
    pub connections_per_address: u32,
    /// Sessions of one user within its tenant. Above: `too_many_connections`.
    pub connections_per_user: u32,
    /// Sessions of one tenant. Above: `too_many_connections`.
    pub connections_per_tenant: u32,
    /// New connections from one address in a second. Above: closed at once, counted.
    pub handshakes_per_second_per_address: u32,
    /// Milliseconds from accept to a complete request head and body. Above: the connection is closed, `408` where an answer is possible.
    pub handshake_ms: u32,
    /// Bytes of one WebSocket message or long-polling body. Above: `protocol_error` (WebSocket 1009), `413`.
    pub frame_bytes: u32,
    /// Rooms one socket may be in, the automatic ones not counted. Above: the room is denied, `too_many_rooms`.
    pub rooms_per_session: u32,
    /// Bytes of a room's name. Above: the room is denied, `room_name_too_long`.
    pub room_name_bytes: u32,
    /// Packets a connection may send in a second, steadily. Above: `rate_limited`, and the socket is closed once it owes a full burst.
    pub events_per_second: u32,
    /// Packets a connection may send at once.
    pub events_burst: u32,
    /// Events published in one tenant in a second. Above: `rate_limited` with the time to wait.
    pub tenant_events_per_second: u32,
    /// Bytes waiting for one session. Above: its ephemeral events are dropped, then it is closed `slow_consumer`.
    pub outbox_bytes: u32,
    /// Bytes of an HTTP API body. Above: `413`.
    pub http_body_bytes: u32,
}

const GIB: u64 = 1 << 30;
const MANY: u64 = u32::MAX as u64;

impl Limits {
    /// Each limit's name, its value in `self`, and the greatest it may have.
    pub fn each(&mut self) -> [(&'static str, &mut u32, u64); 13] {
        macro_rules! each {
            ($($name:ident $max:expr;)*) => { [$((stringify!($name), &mut self.$name, $max),)*] };
        }
        each! {
            connections_per_address MANY;
            connections_per_user MANY;
            connections_per_tenant MANY;
            handshakes_per_second_per_address MANY;
            handshake_ms 600_000;
            frame_bytes GIB;
            rooms_per_session MANY;
            room_name_bytes 65_535;
            events_per_second MANY;
            events_burst MANY;
            tenant_events_per_second MANY;
            outbox_bytes GIB;
            http_body_bytes GIB;
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_per_address: 0,
            connections_per_user: 50,
            connections_per_tenant: 0,
            handshakes_per_second_per_address: 0,
            handshake_ms: 10_000,
            frame_bytes: 1_000_000,
            rooms_per_session: 256,
            room_name_bytes: 256,
            events_per_second: 100,
            events_burst: 500,
            tenant_events_per_second: 0,
            outbox_bytes: 1_048_576,
            http_body_bytes: 1_000_000,
        }
    }
}

/// Bytes of a tenant's or user's name in a token; a longer one is a malformed token.
pub const TENANT_BYTES_MAX: usize = 256;
/// Bytes of a token, in whatever place it comes; a longer one is `token_malformed`.
pub const TOKEN_BYTES_MAX: usize = 8192;
/// Bytes of a request head; a longer one is answered `431`.
pub const HEAD_BYTES_MAX: usize = 16_384;
/// Header lines of a request; more are answered `431`.
pub const HEADERS_MAX: usize = 64;
/// Shards of one process: a session id has one byte for them.
pub const SHARDS_MAX: u8 = 255;
/// Attachments of one binary packet; more close the connection, as the official parser does.
pub const ATTACHMENTS_MAX: usize = 10;
/// Levels of arrays and objects in a JSON text; a deeper one is refused.
pub const JSON_DEPTH_MAX: usize = 128;
/// Rooms beyond its tenant's and its user's that a socket joins by itself; what a profile names beyond is left out.
pub const AUTOMATIC_ROOMS_MAX: usize = 64;
/// Namespaces one session may join.
pub const NAMESPACES_PER_SESSION_MAX: usize = 32;
/// Acknowledgements the server may wait for on one socket; above, the oldest is dropped.
pub const ACKS_PENDING_MAX: usize = 64;
/// Rooms, event types or entities one `subscribe` may name.
pub const SUBSCRIBE_ITEMS_MAX: usize = 256;
/// Joins and leaves of one socket that wait for an earlier one; above, `too_many_items`.
pub const ROOM_TURNS_MAX: usize = 256;
/// Bytes of an event's type or id.
pub const EVENT_NAME_BYTES_MAX: usize = 256;
/// Events one `history` answer holds; a caller pages with `since`.
pub const HISTORY_PAGE_MAX: usize = 300;
/// Bytes of the events one room remembers; beyond, the oldest leave before their time, and who asks for them is told of the gap.
pub const HISTORY_ROOM_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events one HTTP publish holds.
pub const PUBLISH_BATCH_MAX: usize = 100;
/// Members one `presence` answer lists.
pub const PRESENCE_MEMBERS_MAX: usize = 1000;
/// Envelopes of one tenant that a node holds before their turn; the newest beyond are dropped, and read back.
pub const HELD_MAX: usize = 4096;
/// Bytes of them.
pub const HELD_BYTES_MAX: usize = 16 << 20;
/// Requests of one shard that wait for a tenant's stream or rooms; beyond, they go on with what is here.
pub const FLEET_WAITS_MAX: usize = 65_536;
/// Events of one shard that wait for their place; beyond, publishers are answered `backplane_unavailable`.
pub const APPENDS_MAX: usize = 65_536;
/// How long the store keeps a room after its last event beyond the time its events count.
pub const FLEET_LINGER_MORE: Duration = Duration::from_secs(60);
/// When a node looks again at a room that it has for a request, and nobody in it.
pub const FLEET_LOOK_AFTER: Duration = Duration::from_secs(30);
/// How long a node that has Redis back keeps what its users did meanwhile: the others hear it only when they are back, too.
pub const FLEET_RETURN: Duration = Duration::from_secs(3);
/// Sockets that are kept for another lease by one message.
pub const REFRESH_BATCH_MAX: usize = 500;
/// Users of whom a node says by one script how they are here.
pub const PRESENCE_SAY_MAX: usize = 200;
/// Users of one tenant of whom a node says so in one turn; the rest follows in the next.
pub const PRESENCE_TURN_MAX: usize = 5_000;
/// Rooms of one user that a node says of it; in those beyond it is not listed.
pub const PRESENCE_SEATS_MAX: usize = 1024;
/// Users whom one script takes away of nodes whose lease is over; whoever asked asks again for the rest.
pub const PRESENCE_REAP_MAX: usize = 500;
/// Rooms that one `rooms` lists over all nodes; of more the answer has `total`.
pub const ROOMS_LISTED_MAX: usize = 10_000;
/// Users one `presence` may ask for by name; more are refused, `too_many_items`.
pub const PRESENCE_QUERY_MAX: usize = 100;
/// How often a tenant is told of joins and leaves at most: the first at once, what follows gathered into one write to a member, so that
/// nobody hears of who was away for less.
pub const PRESENCE_EVERY: Duration = Duration::from_millis(500);
/// Users whose changes are gathered; beyond, they are told at once.
pub const PRESENCE_GATHERED_MAX: usize = 256;
/// The same where many members get one event for all changes, and each telling costs a write to every member.
pub const PRESENCE_BATCHED_MAX: usize = 10_000;
/// Changes in one event; more go into another right behind it.
pub const PRESENCE_BATCH_MAX: usize = 500;
/// Members told of presence, after whom other circles that are due wait for the next turn: 7 us each, and nobody is heard meanwhile.
pub const PRESENCE_TOLD_MAX: usize = 250;
/// Users that have gone of whom a tenant remembers when they were last seen; beyond, the oldest are forgotten before their time.
pub const USERS_REMEMBERED_MAX: usize = 50_000;
/// Sessions of a tenant that broke off and whose users are present for their grace; beyond, the grace of the oldest ends at once.
pub const LINGERING_MAX: usize = 20_000;
/// Event ids of publishers a tenant remembers; beyond, the oldest are forgotten before their time.
pub const PUBLISH_IDS_MAX: usize = 100_000;
/// How long a publisher's event id is remembered.
pub const PUBLISH_ID_TTL: Duration = Duration::from_secs(300);
/// Disconnected sessions a tenant keeps for recovery; beyond, the oldest are forgotten before their time.
pub const SAVED_SESSIONS_MAX: usize = 50_000;
/// Documents of one tenant. Above: a new one is refused, `too_many_documents`.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Bytes of one tenant's documents, with what is kept of their past. Above: what would add to them is refused, `too_many_documents`.
pub const DOCUMENTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a document's id, and of a field's name; a longer one is an `invalid_argument`.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 256;
/// Versions of a document that a rule may keep to compare with; beyond, it keeps this many.
pub const DOCUMENT_VERSIONS_MAX: u64 = 10_000;
/// Version at which a client may open a document that the server does not know; a higher one is an `invalid_argument`. JavaScript counts
/// to twice as many.
pub const DOCUMENT_VERSION_OPENED_MAX: u64 = 1 << 52;
/// Conflicts of one document that wait for somebody to decide. Above: the update is refused, `too_many_conflicts`.
pub const DOCUMENT_CONFLICTS_MAX: usize = 32;
/// Updates of one document that are known when they are sent again; beyond, the oldest are forgotten.
pub const DOCUMENT_RECEIPTS_MAX: usize = 64;
/// How far a writer's timestamp may be ahead of the server's clock; one farther ahead counts as this far, or a wrong clock would win for ever.
pub const DOCUMENT_AHEAD_MAX: Duration = Duration::from_secs(60);
/// Requests about one document that wait for the store, among nodes. Above: refused, `document_busy`.
pub const DOCUMENT_WAITS_MAX: usize = 128;
/// Bytes of the updates of one tenant's documents that wait for the store. Above: refused, `document_busy`.
pub const DOCUMENT_WAITS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often an update is made anew because another node has written first, and a reading because it was behind what members had been told: one
/// of ten nodes that write all the time loses so often once in a million. Then: refused, `document_busy`.
pub const DOCUMENT_TRIES_MAX: u32 = 128;
/// How long what members are to be told of a document may take to come through the tenant's channel. Then they are told what was read.
pub const DOCUMENT_WORD_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the documents of one tenant that a node among others has at hand. Beyond, it reads them again.
pub const DOCUMENT_COPIES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long `typing:start` lasts without another, where the application says nothing else.
pub const TYPING_TTL: Duration = Duration::from_secs(6);
/// Rooms in which one socket may be typing at a time; another start is refused, `too_many_items`.
pub const TYPING_ROOMS_MAX: u8 = 64;
/// Bytes of the data that tells of a start, and of a stop; more are refused, `invalid_argument`.
pub const TYPING_DATA_BYTES_MAX: usize = 1024;
/// How long before its token expires a socket is told.
pub const TOKEN_EXPIRING_NOTICE: Duration = Duration::from_secs(60);
/// How long an empty room keeps its epoch and offset after its last event has left the history.
pub const ROOM_LINGER: Duration = Duration::from_secs(300);
/// How long a closed connection may take to read its last bytes.
pub const CLOSE_LINGER: Duration = Duration::from_secs(5);
/// How long a WebSocket that probes an upgrade may take, as the Node server's `upgradeTimeout`.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle keep-alive connection is kept.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(65);
/// Messages in one lane of the mesh. Full: the sender keeps what must arrive in a queue of [`MESH_SPILL_MAX`].
pub const MESH_LANE_MAX: usize = 4096;
/// Messages a shard keeps for a full lane. Beyond: requests are answered `503`, sessions on the move are closed and come back.
pub const MESH_SPILL_MAX: usize = 16_384;
/// Joins of one shard that wait for the backend's answer. Beyond: refused `backend_unavailable`.
pub const VERDICT_WAITS_MAX: usize = 16_384;
/// Joins of one socket that wait for the backend's answer. Beyond: refused `too_many_items`.
pub const VERDICT_WAITS_PER_SOCKET_MAX: u32 = 32;
/// How long an answer of the backend counts at most, whatever it says itself.
pub const VERDICT_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How much longer than the control plane a shard waits for the backend's answer before it refuses by itself.
pub const VERDICT_SLACK: Duration = Duration::from_secs(1);
/// Event types of which a shard remembers who listens. Beyond, all are forgotten and looked up again: a type is any text of a publisher.
pub const LISTENER_TYPES_MAX: usize = 1024;
/// Asks in the lane to the control plane. Full: a join is refused `backend_unavailable`, a webhook is dropped and counted.
pub const CONTROL_LANE_MAX: usize = 4096;
/// Bytes of asks the control plane holds, from the lane to the last attempt. Beyond: as when the lane is full.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Asks of one node in the lane to the backplane. Full, an append, a read or a claim is answered `backplane_unavailable`, what is told is dropped,
/// and the rest waits on its shard.
pub const RELAY_LANE_MAX: usize = 16_384;
/// Bytes of asks in that lane. Beyond: as when it is full.
pub const RELAY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Durable events that wait for the store, besides their bytes (`redis.journal_bytes`). Beyond: answered `backplane_unavailable`.
pub const JOURNAL_EVENTS_MAX: usize = 1_000_000;
/// Bytes of all else that waits for the store: reads, claims, saved sockets, what is told. Beyond, reads and claims are answered
/// `backplane_unavailable`, the rest is dropped and counted: an ephemeral event, or a socket's return to another node.
pub const JOURNAL_REST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Commands of one pipeline to the store, and their bytes, but for one ask that has more by itself.
pub const BATCH_COMMANDS_MAX: usize = 256;
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How long a read or a claim waits for the store. Then: `backplane_unavailable`.
pub const RELAY_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes from the store's channels that the backplane has not looked at. Beyond: dropped, and what was missed is read back.
pub const HEARD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes under way from the backplane to one shard. Beyond, envelopes are dropped, and what was missed is read back.
pub const REPORT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a tenant's envelopes that come before it is known where its stream stands. Beyond: dropped, and it is asked again.
pub const OPENING_BYTES_MAX: usize = 1024 * 1024;
/// Events of one room that are read back at once: the newest. Those before are lost to who asked.
pub const READ_EVENTS_MAX: usize = 10_000;
/// Rooms of a tenant of which the store knows that they ever had events. Beyond, those whose events are oldest are forgotten, as many at once,
/// and are new when they have events again.
pub const STORE_ROOMS_MAX: (usize, usize) = (100_000, 1_000);
/// Requests of this node at others, and of others at this node: of each. Beyond: answered `503`.
pub const NEIGHBOUR_REQUESTS_MAX: usize = 65_536;
/// Bytes that wait to be sent to other nodes, and of their requests' bodies here: of each. Beyond: a request is answered `503`, and an answer is
/// dropped, which ends its session.
pub const NEIGHBOUR_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a request waits for the node that has its session, or for its word that it waits there. Then: `400`, session unknown.
pub const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(3);
/// When that word is said first, and how often again; three times as long without it ends the request.
pub const NEIGHBOUR_HELD_AFTER: Duration = Duration::from_secs(1);
pub const NEIGHBOUR_HELD_EVERY: Duration = Duration::from_secs(4);
/// Bytes of an answer of a backend that are read. A longer one is no answer.
pub const BACKEND_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long a webhook's `Retry-After` is waited for at most; one that asks for more is asked again then.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Bytes of what waits for one user who is not there, with [`OFFLINE_EVENT_COST`] for each event; beyond, its oldest are dropped, and it is
/// told how many (`offline_overflow`).
pub const OFFLINE_USER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same over all users of a tenant; beyond, the tenant's oldest are dropped, whoever they are for, and counted.
pub const OFFLINE_TENANT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that waiting costs an event, besides its own.
pub const OFFLINE_EVENT_COST: usize = 256;
/// Ids that one `received` or `read` names; with more it is refused `too_many_items`.
pub const RECEIVED_IDS_MAX: usize = 1000;
/// Events that wait no more, in one message to the store.
pub const DONE_BATCH_MAX: usize = 1000;
/// Questions of one tenant about whom to tell of receipts that wait for the store; beyond, those receipts are not told.
pub const UNTOLD_MAX: usize = 1000;
/// Events of a tenant whose receipts are told; beyond, those of the oldest are told no more.
pub const RECEIPTS_MAX: usize = 10_000;
/// Users of whom an event's sender gets receipts; beyond, it gets none of the others.
pub const RECEIPT_USERS_MAX: usize = 256;
/// Sockets in a room whose acknowledgements can be waited for; in a larger one the event is refused `too_many_receivers`, and not published.
pub const DELIVERY_MEMBERS_MAX: usize = 1000;
/// Events of a shard that wait for acknowledgements; beyond, another is refused `too_many_deliveries`, and not published.
pub const DELIVERIES_MAX: usize = 10_000;
/// Milliseconds until an event is sent again to who has not acknowledged it: by default, at least, at most.
pub const DELIVERY_TIMEOUT_MS: (u32, u32, u32) = (5000, 100, 20_000);
/// How often it is sent again: by default, at most.
pub const DELIVERY_RETRIES: (u32, u32) = (2, 5);
/// Users of all nodes who are counted for one event's publisher; beyond, they are asked and not counted.
pub const DELIVERY_USERS_MAX: usize = 10_000;
/// Places in a room that are looked at for the nodes they are on; with more of them every node of the tenant is waited for.
pub const DELIVERY_SEATS_MAX: usize = 2000;
/// How much longer than its receivers have the publisher waits for what other nodes say.
pub const DELIVERY_TRAVEL: Duration = Duration::from_millis(500);
/// How long a client's ephemeral event waits on its own node for the durable one it has published before; then it goes first.
pub const BEHIND_PATIENCE: Duration = Duration::from_secs(1);
/// Ephemeral events of a tenant that wait so; beyond, they do not wait.
pub const BEHIND_MAX: usize = 1000;
/// How long somebody waits for what the stream had before it is asked where the stream stands, and again.
pub const REACH_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one message of a Socket.IO fleet, on a channel or in a stream. A longer one is not read, and reaches nobody.
pub const FLEET_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Rooms one message of a fleet names in one place. With more it is refused.
pub const FLEET_ROOMS_MAX: usize = 10_000;
/// Sockets one node of a fleet lists. A longer list is refused, and a shard lists no more of its own.
pub const FLEET_SOCKETS_MAX: usize = 100_000;
/// Bytes of the id of a fleet's node or request; a message with a longer one is refused.
pub const FLEET_ID_BYTES_MAX: usize = 256;
/// Bytes of what a server of a fleet keeps with a socket. One with more does not come back here: it would not be whole where it goes next.
pub const FLEET_DATA_BYTES_MAX: usize = 64 * 1024;
/// Rows of a fleet's stream that are looked through for somebody who comes back, and bytes of what is found. With more it is not recovered.
pub const FLEET_MISSED_ROWS_MAX: usize = 20_000;
pub const FLEET_MISSED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a node that is asked for a row waits until it has read that far itself.
pub const FLEET_MISSED_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of what waits to be told to a fleet's other servers. Beyond: dropped and counted.
pub const FLEET_TOLD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Questions of a fleet's servers that are open at a time. Beyond: answered at once, with nothing.
pub const FLEET_QUESTIONS_MAX: usize = 1024;
/// How long a node's shards may take for their part of an answer. Then it is answered without the rest: who asks waits for 5 s.
pub const FLEET_ANSWER_MAX: Duration = Duration::from_secs(3);
/// Within how long of each other nodes hear one message of a plain channel: a text heard again later is another message.
pub const CHANNEL_WINDOW: Duration = Duration::from_secs(5);
/// Messages of one text within that time that nodes tell apart. Beyond, the oldest are forgotten: a slow node may publish one again.
pub const CHANNEL_REPEATS_MAX: usize = 256;

const _: () = {
    assert!(OFFLINE_USER_BYTES_MAX <= OFFLINE_TENANT_BYTES_MAX);
    assert!(HEAD_BYTES_MAX >= 2 * TOKEN_BYTES_MAX, "a head has room for a token and its own lines");
    assert!(ROOM_LINGER.as_secs() >= 120, "a room outlives the sessions that may come back to it");
    assert!(MESH_SPILL_MAX >= MESH_LANE_MAX);
    assert!(STORE_ROOMS_MAX.1 < STORE_ROOMS_MAX.0 && BATCH_BYTES_MAX < RELAY_BYTES_MAX);
    assert!(NEIGHBOUR_HELD_AFTER.as_micros() < NEIGHBOUR_PATIENCE.as_micros());
    assert!(USERS_REMEMBERED_MAX > LINGERING_MAX, "nobody is forgotten before others were told that it is gone");
};
