//! A profile as it is written: one TOML file. These types are the format; the JSON Schema that editors complete a profile with is made from them.
//!
//! Every table refuses keys it does not know. What a value means together with others is checked in `check`.

mod job;

pub use job::{Action, Backend, Backoff, BackoffKind, Cache, Channel, Listener, Queue, RateLimit, Schedule, Webhook};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One application's real-time server, as data.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "tenantcast profile")]
pub struct File {
    /// 1 to 64 characters: letters, digits, `-`, `_`.
    pub name: String,
    /// One sentence for `tenantcast profiles`.
    pub about: String,
    #[serde(default)]
    pub claims: Claims,
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub connection: Connection,
    /// Keys of the configuration's `[limits]`, as this application's defaults.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// How much a room remembers that has no rule of its own.
    #[serde(default)]
    pub history: Option<History>,
    /// By pattern of room names (`*`, `?`, `{tenant}`, `{user}`); the most specific pattern that fits decides.
    #[serde(default)]
    pub rooms: BTreeMap<String, Room>,
    /// What an event of a client does, by its name.
    #[serde(default)]
    pub client_events: BTreeMap<String, ClientEvent>,
    /// The event catalogue, by pattern of event types (`*`, `?`); the most specific pattern that fits decides.
    #[serde(default)]
    pub events: BTreeMap<String, Event>,
    /// What becomes of an event whose type is in no entry of `events`.
    #[serde(default)]
    pub unknown_events: UnknownEvents,
    #[serde(default)]
    pub presence: Presence,
    #[serde(default)]
    pub typing: Typing,
    #[serde(default)]
    pub offline: Offline,
    /// By pattern of document ids; the most specific pattern that fits decides.
    #[serde(default)]
    pub documents: BTreeMap<String, Document>,
    /// The application's own backend, asked where a room says `join = "backend"`.
    #[serde(default)]
    pub backend: Option<Backend>,
    /// By name.
    #[serde(default)]
    pub webhooks: BTreeMap<String, Webhook>,
    /// On this event do those actions; by name.
    #[serde(default)]
    pub listeners: BTreeMap<String, Listener>,
    /// By name.
    #[serde(default)]
    pub queues: BTreeMap<String, Queue>,
    /// By name.
    #[serde(default)]
    pub schedules: BTreeMap<String, Schedule>,
    /// Cached resources, by name.
    #[serde(default)]
    pub cache: BTreeMap<String, Cache>,
    /// Plain Redis channels that a backend publishes to, by name.
    #[serde(default)]
    pub channels: BTreeMap<String, Channel>,
}

/// Which claims of a token say who its bearer is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The first of these that is there names the user. Default: sub, userId, user_id, id.
    #[serde(default)]
    pub user: Option<Vec<String>>,
    /// The first of these that is there names the tenant. Default: tenant, tenantId, tenant_id, accountId, organizationId, orgId, companyId.
    #[serde(default)]
    pub tenant: Option<Vec<String>>,
    /// Claims with roles. Default: role, roles.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// The one tenant of an application that has no tenants: tokens need no tenant claim, and one they have is not looked at.
    #[serde(default)]
    pub single_tenant: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// A Socket.IO client may connect without a token and send it later, by a client event that does `authenticate`. It can do nothing
    /// else before, and is closed when `auth.deadline_ms` of the configuration is over.
    #[serde(default)]
    pub late: bool,
    /// Sent when a late token was accepted, before the greeting's rooms are joined.
    #[serde(default)]
    pub accepted: Option<Emit>,
    /// Sent when a late token was refused; the socket is disconnected after it.
    #[serde(default)]
    pub refused: Option<Emit>,
}

/// What happens when a socket connects, and how events reach it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// Socket.IO namespaces; each begins with `/`.
    pub namespaces: Vec<String>,
    /// The room of the whole tenant, which every socket is in: a template with `{tenant}`.
    pub tenant_room: String,
    /// The room of one user, which each of its sockets is in: a template with `{user}`.
    pub user_room: String,
    /// More rooms that every socket joins by itself: templates with `{tenant}` and `{user}`.
    pub rooms: Vec<String>,
    /// Rooms joined by role: `{ agent = ["agents"] }`.
    pub role_rooms: BTreeMap<String, Vec<String>>,
    /// Sent after joining. Default: `connected {sid, tenant, user, rooms, epoch, offset, recovered}`.
    pub greeting: Option<Emit>,
    pub delivery: Delivery,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection {
            namespaces: vec!["/".into()],
            tenant_room: "tenant:{tenant}".into(),
            user_room: "user:{user}".into(),
            rooms: Vec::new(),
            role_rooms: BTreeMap::new(),
            greeting: None,
            delivery: Delivery::Named,
        }
    }
}

/// How a published event reaches a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Under its type: `on(type, (data, meta) => ..)`.
    #[default]
    Named,
    /// As `event`, with the whole envelope: `on("event", ({type, data, ..}) => ..)`.
    Event,
    /// As `message`: `on("message", ({type, data}) => ..)`.
    Message,
}

/// An event that the server sends: its name, and its argument as JSON in which `{user}`, `{tenant}`, `{sid}` and what else is known there
/// are filled in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    pub event: String,
    #[serde(default)]
    pub data: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Default: 25,000.
    #[serde(default)]
    pub interval_ms: Option<u64>,
    /// Default: 20,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Newest events kept. 0: none.
    pub events: u32,
    pub ttl_s: u64,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Room {
    #[serde(default)]
    pub join: Join,
    /// One of these roles is needed to join. Empty: none.
    #[serde(default)]
    pub roles: Vec<String>,
    /// One of these permissions is needed to join. Empty: none.
    #[serde(default)]
    pub permissions: Vec<String>,
    #[serde(default)]
    pub history: Option<History>,
}

/// Who may join a room, of those with the role and permission it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Whom the token's claim `rooms` lets in; everyone where it has none.
    #[default]
    Claims,
    /// Everyone of the tenant.
    Anyone,
    /// Nobody by asking; only who is put there.
    Nobody,
    /// Whom the application's backend lets in.
    Backend,
}

/// What a client's event does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientEvent {
    #[serde(rename = "do")]
    pub operation: Operation,
    /// Of `typing` (`start`, `stop`) and `document` (`update`, `open`, `get`, `close`, `resolve`).
    #[serde(default)]
    pub action: Option<String>,
    /// The room it is about: a template with `{0}` (the first argument), `{name}` (a member of it), `{user}`, `{tenant}`. Without: the
    /// argument's `room`.
    #[serde(default)]
    pub room: Option<String>,
    /// Of `relay` and `reply`: the event sent. Default of `relay`: the client's own.
    #[serde(default)]
    pub event: Option<String>,
    /// Of `publish`: the type, where the client does not choose it.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Of `relay`, `reply`, `publish`, `enqueue`, `webhook`: the argument sent. Default: what the client sent.
    #[serde(default)]
    pub data: Option<Value>,
    /// What is sent back as an event when it is done, for clients that ask for no acknowledgement.
    #[serde(default)]
    pub reply: Option<Emit>,
    /// One of these roles is needed. Empty: none.
    #[serde(default)]
    pub roles: Vec<String>,
    /// One of these permissions is needed. Empty: none.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// JSON Schema of the first argument.
    #[serde(default)]
    pub schema: Option<Value>,
    /// Of `enqueue`.
    #[serde(default)]
    pub queue: Option<String>,
    /// Of `enqueue`: the job's name.
    #[serde(default)]
    pub job: Option<String>,
    /// Of `webhook`: its name.
    #[serde(default)]
    pub webhook: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Joins rooms, narrows what is wanted of them, replays: `{rooms?, eventTypes?, entities?, since?}`.
    Subscribe,
    Unsubscribe,
    /// Joins one room.
    Join,
    /// Leaves one room.
    Leave,
    /// Sends an event, not kept, to the others in a room the socket is in.
    Relay,
    /// Publishes an event of the catalogue.
    Publish,
    History,
    Presence,
    Status,
    Availability,
    Typing,
    Received,
    Read,
    Document,
    Authenticate,
    /// Sends an event back: a heartbeat's `pong`.
    Reply,
    Enqueue,
    Webhook,
}

/// An entry of the event catalogue.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// For people.
    #[serde(default)]
    pub about: Option<String>,
    /// Delivered at most once and not kept.
    #[serde(default)]
    pub ephemeral: bool,
    /// Who may receive it: members with one of these roles and one of `receive_permissions`; an empty list asks for nothing.
    #[serde(default)]
    pub receive_roles: Vec<String>,
    #[serde(default)]
    pub receive_permissions: Vec<String>,
    /// Addressed to a user, it is received by that user whatever their roles and permissions.
    #[serde(default)]
    pub receive_own: bool,
    /// Who may publish it.
    #[serde(default)]
    pub publish: Publisher,
    /// Of clients: one of these roles, where there are any, beside the permission to publish to the room.
    #[serde(default)]
    pub publish_roles: Vec<String>,
    /// Of clients: one of these permissions, in place of the permission to publish to the room.
    #[serde(default)]
    pub publish_permissions: Vec<String>,
    /// JSON Schema of its data.
    #[serde(default)]
    pub schema: Option<Value>,
    /// Addressed to a user who has no connection, it waits.
    #[serde(default)]
    pub offline: Option<bool>,
    /// The publisher hears when a receiver has it (`delivered`) and has read it (`read`).
    #[serde(default)]
    pub receipts: bool,
    /// Delivered until each receiver has acknowledged it.
    #[serde(default)]
    pub acknowledge: Option<Acknowledge>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Publisher {
    #[default]
    Anyone,
    /// Only the backend: the HTTP API and Redis.
    Backend,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    pub timeout_ms: u64,
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownEvents {
    /// It is published as any other: durable, to all members.
    #[default]
    Pass,
    Refuse,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// The tenant is told who comes and goes.
    pub announce: bool,
    /// With `{user}`, `{status}`, `{time}`. Defaults: `user:online`, `user:offline`, `user:status` with `{user, status, time}`.
    pub online: Option<Emit>,
    pub offline: Option<Emit>,
    pub status: Option<Emit>,
    /// How long a user whose last connection ended is not offline yet.
    pub grace_ms: Option<u64>,
    /// Sockets of a tenant above which changes are told in one event, `presence:changes`.
    pub batch_over: Option<u32>,
    /// How long a user's last sign of life is remembered.
    pub last_seen_ttl_s: Option<u64>,
    /// Patterns of rooms whose members are told who joins and leaves.
    pub rooms: Vec<String>,
    pub availability: Option<Availability>,
}

impl Default for Presence {
    fn default() -> Presence {
        Presence {
            announce: true,
            online: None,
            offline: None,
            status: None,
            grace_ms: None,
            batch_over: None,
            last_seen_ttl_s: None,
            rooms: Vec::new(),
            availability: None,
        }
    }
}

/// Whether people are there for others: agents for customers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Availability {
    /// Who has one.
    pub roles: Vec<String>,
    /// What they may say of themselves.
    pub states: Vec<String>,
    /// Sent to the tenant when it changes, with `{user}`, `{availability}`, `{time}`. Default: `agent:availability`.
    #[serde(default)]
    pub changed: Option<Emit>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// How long somebody types who does not say so again. Default: 6,000.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// With `{user}`, `{room}`, and the members of the client's argument. Defaults: `typing:start`, `typing:stop`.
    #[serde(default)]
    pub start: Option<Emit>,
    #[serde(default)]
    pub stop: Option<Emit>,
}

/// Events for users who have no connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offline {
    /// Whether they wait. Default: true.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Default: `offline.ttl_s` of the configuration.
    #[serde(default)]
    pub ttl_s: Option<u64>,
    /// Events that wait for one user; the oldest goes first. Default: 1,000.
    #[serde(default)]
    pub per_user: Option<u32>,
    #[serde(default)]
    pub removed: Removed,
}

/// When an event that waited is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// The client says `received`.
    #[default]
    Received,
    /// It was written to a connection that showed life afterwards: for clients that acknowledge nothing.
    Delivered,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    #[serde(default)]
    pub strategy: Strategy,
    /// Who is in it has the document open: a template with `{document}`. Default: `document:{document}`.
    #[serde(default)]
    pub room: Option<String>,
    /// What the others who have it open are told of an update. Default: `document:updated`.
    #[serde(default)]
    pub updated: Option<String>,
}

/// What becomes of two edits of one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The later timestamp counts; of equal ones the greater user id.
    #[default]
    LastWriteWins,
    /// The later to arrive is refused.
    Reject,
    /// Both are kept until somebody resolves it.
    Manual,
}
