//! What a profile says of the application's own backend, of jobs, cache and Redis channels.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Requests are signed: header `Tenantcast-Signature`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Or `{env:NAME}`: an environment variable.
    pub url: String,
    /// Name of the environment variable that holds the signing secret.
    pub secret_env: String,
    /// Default: 2,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// How long an answer counts. Default: 60.
    #[serde(default)]
    pub cache_ttl_s: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Or `{env:NAME}`: an environment variable.
    pub url: String,
    /// Name of the environment variable that holds the signing secret.
    pub secret_env: String,
    /// Default: 10,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Tries in all. Default: 5.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// Requests at once. Default: 8.
    #[serde(default)]
    pub at_once: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// For people.
    #[serde(default)]
    pub about: Option<String>,
    /// Patterns of event types.
    pub on: Vec<String>,
    /// Only events whose data has these values: `{ "message.private" = false }`.
    #[serde(default)]
    pub when: BTreeMap<String, Value>,
    /// In this order.
    #[serde(rename = "do")]
    pub actions: Vec<Action>,
}

/// Exactly one of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Sends an event, not kept, to `room` (or `user`).
    #[serde(default)]
    pub emit: Option<String>,
    /// Of `emit`: a template with `{tenant}`, `{user}`, `{data.name}`.
    #[serde(default)]
    pub room: Option<String>,
    /// Adds a job to this queue.
    #[serde(default)]
    pub enqueue: Option<String>,
    /// Of `enqueue`: the job's name.
    #[serde(default)]
    pub job: Option<String>,
    /// Calls this webhook with the event.
    #[serde(default)]
    pub webhook: Option<String>,
    /// Forgets this cached resource.
    #[serde(default)]
    pub invalidate: Option<String>,
    /// Of `invalidate`: which one; a template. Without: all of them.
    #[serde(default)]
    pub id: Option<String>,
    /// Counts under this name.
    #[serde(default)]
    pub count: Option<String>,
    /// Of `emit` and `enqueue`: JSON with templates. Default: the event's data.
    #[serde(default)]
    pub data: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Jobs at once.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Tries of a job in all. Default: 3.
    #[serde(default)]
    pub attempts: Option<u32>,
    #[serde(default)]
    pub backoff: Option<Backoff>,
    #[serde(default)]
    pub limit: Option<RateLimit>,
    /// Names of its jobs.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// Where its failed jobs go. Default: they stay in it.
    #[serde(default)]
    pub dead_letter: Option<String>,
    /// Event types published when a job is done or has failed, to the user (or tenant) named in its data.
    #[serde(default)]
    pub completed: Option<String>,
    #[serde(default)]
    pub failed: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    #[serde(rename = "type")]
    pub kind: BackoffKind,
    pub delay_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackoffKind {
    Fixed,
    Exponential,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub max: u32,
    pub duration_ms: u64,
}

/// A job added by the clock: `cron` or `every_s`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub queue: String,
    pub job: String,
    /// Five fields: minute, hour, day of month, month, day of week.
    #[serde(default)]
    pub cron: Option<String>,
    #[serde(default)]
    pub every_s: Option<u64>,
    /// An IANA time zone. Default: UTC.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// One job for each tenant.
    #[serde(default)]
    pub per_tenant: bool,
    #[serde(default)]
    pub data: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    pub ttl_s: u64,
    /// Its key: a template with `{tenant}` and `{id}`. Default: `tenant:{tenant}:{resource}:{id}`.
    #[serde(default)]
    pub key: Option<String>,
    /// Event type published to the tenant when one is forgotten.
    #[serde(default)]
    pub invalidated: Option<String>,
    /// Filled when a tenant's first user connects.
    #[serde(default)]
    pub warm_up: bool,
}

/// What is published to a channel becomes an event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The tenant: a template over the message. Not needed with `claims.single_tenant`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Where it goes: a template over the message; `user` or `room`.
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub room: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the message. Default: all of it.
    #[serde(default)]
    pub data: Option<Value>,
}
