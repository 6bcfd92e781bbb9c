//! Floor 1: an application as data. Pure: a profile's text in, checked values out.
//!
//! ```text
//! text --toml--> file::File (the format: types, JSON Schema) --check--> Profile (what the server reads)
//! ```
//!
//! Invariants: whatever is wrong with a profile is said here, at start, with line, key and reason; a [`Profile`] holds no text that is still
//! to be parsed. A profile is values only, so each shard has its own copy and nothing in it is shared between threads.

pub mod builtin;
pub mod catalogue;
pub mod channel;
mod check;
mod error;
pub mod file;
pub mod lines;
pub mod nearest;
mod rank;
pub mod room;
pub mod template;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use rank::Ranked;

use crate::base::{id::TenantId, time::Duration};
use crate::wire::auth::Pattern;
use catalogue::Catalogue;
use file::{Acknowledge, Delivery, Operation, Removed, Strategy};
use room::RoomRules;
use serde_json::Value;
use std::collections::BTreeMap;
use template::{Shape, Template};

/// An application's real-time server, checked.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: Box<str>,
    pub about: Box<str>,
    pub claims: Claims,
    /// A token may come after CONNECT.
    pub late: Option<Late>,
    pub namespaces: Box<[Box<str>]>,
    pub rooms: RoomRules,
    /// More rooms that every socket joins by itself.
    pub automatic: Box<[Template]>,
    pub by_role: Box<[RoleRooms]>,
    /// In place of `connected`.
    pub greeting: Option<Emit>,
    pub delivery: Delivery,
    pub client_events: BTreeMap<Box<str>, ClientEvent>,
    pub catalogue: Catalogue,
    /// Keys of `limits`, as defaults.
    pub limits: BTreeMap<Box<str>, u64>,
    pub ping_interval_ms: Option<u64>,
    pub ping_timeout_ms: Option<u64>,
    pub history: Option<file::History>,
    pub presence: Presence,
    pub typing: Typing,
    pub offline: Offline,
    pub documents: Ranked<Document>,
    pub backend: Option<file::Backend>,
    pub webhooks: Box<[(Box<str>, file::Webhook)]>,
    pub listeners: Box<[Listener]>,
    pub queues: BTreeMap<String, file::Queue>,
    pub schedules: BTreeMap<String, file::Schedule>,
    pub cache: BTreeMap<String, file::Cache>,
    pub channels: Box<[Channel]>,
}

/// Rooms that sockets with a role join by themselves.
#[derive(Clone, Debug)]
pub struct RoleRooms {
    pub role: Box<str>,
    pub rooms: Box<[Template]>,
}

/// Empty lists: the names every application has.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    pub user: Box<[Box<str>]>,
    pub tenant: Box<[Box<str>]>,
    pub roles: Box<[Box<str>]>,
    pub single_tenant: Option<TenantId>,
}

#[derive(Clone, Debug, Default)]
pub struct Late {
    pub accepted: Option<Emit>,
    pub refused: Option<Emit>,
}

/// An event that the server sends.
#[derive(Clone, Debug)]
pub struct Emit {
    pub event: Box<str>,
    /// None: what stands where it is sent.
    pub data: Option<Shape>,
}

/// What a client's event does.
#[derive(Clone, Debug)]
pub struct ClientEvent {
    pub act: Act,
    pub reply: Option<Emit>,
    pub roles: Box<[Box<str>]>,
    pub permissions: Box<[Box<str>]>,
    /// JSON Schema of the first argument.
    pub schema: Option<Value>,
}

#[derive(Clone, Debug)]
pub enum Act {
    Subscribe,
    Unsubscribe,
    Join {
        room: Template,
    },
    Leave {
        room: Template,
    },
    Relay {
        room: Template,
        event: Option<Box<str>>,
        data: Option<Shape>,
    },
    /// Without a type: the client chooses room, type and all else.
    Publish {
        room: Option<Template>,
        kind: Option<Template>,
        data: Option<Shape>,
    },
    History {
        room: Option<Template>,
    },
    Presence {
        room: Option<Template>,
    },
    Status,
    Availability,
    Typing {
        room: Option<Template>,
        start: bool,
    },
    Received,
    Read,
    Document(DocumentAct),
    Authenticate,
    Reply {
        event: Option<Box<str>>,
        data: Option<Shape>,
    },
    Enqueue {
        queue: Box<str>,
        job: Box<str>,
        data: Option<Shape>,
    },
    /// Index into [`Profile::webhooks`].
    Webhook {
        hook: usize,
        data: Option<Shape>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentAct {
    Update,
    Open,
    Get,
    Close,
    Resolve,
}

#[derive(Clone, Debug)]
pub struct Presence {
    pub announce: bool,
    pub online: Option<Emit>,
    pub offline: Option<Emit>,
    pub status: Option<Emit>,
    pub grace: Option<Duration>,
    pub batch_over: Option<u32>,
    pub last_seen_ttl: Option<Duration>,
    pub rooms: Box<[Pattern]>,
    pub availability: Option<Availability>,
}

#[derive(Clone, Debug)]
pub struct Availability {
    pub roles: Box<[Box<str>]>,
    pub states: Box<[Box<str>]>,
    pub changed: Option<Emit>,
}

#[derive(Clone, Debug, Default)]
pub struct Typing {
    pub ttl: Option<Duration>,
    pub start: Option<Emit>,
    pub stop: Option<Emit>,
}

#[derive(Clone, Copy, Debug)]
pub struct Offline {
    pub enabled: bool,
    pub ttl: Option<Duration>,
    pub per_user: Option<u32>,
    pub removed: Removed,
}

#[derive(Clone, Debug)]
pub struct Document {
    pub strategy: Strategy,
    /// With `{document}`.
    pub room: Template,
    pub updated: Box<str>,
}

/// On this event do those actions.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: Box<str>,
    pub on: Box<[Pattern]>,
    /// By path in the event's data.
    pub when: Box<[(Box<str>, Value)]>,
    pub actions: Box<[Action]>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Emit {
        event: Box<str>,
        room: Template,
        data: Option<Shape>,
    },
    Enqueue {
        queue: Box<str>,
        job: Box<str>,
        data: Option<Shape>,
    },
    /// Index into [`Profile::webhooks`].
    Webhook(usize),
    Invalidate {
        resource: Box<str>,
        id: Option<Template>,
    },
    Count(Box<str>),
}

/// A plain Redis channel whose messages become events.
#[derive(Clone, Debug)]
pub struct Channel {
    pub name: Box<str>,
    /// None: the single tenant.
    pub tenant: Option<Template>,
    pub to: Target,
    pub kind: Box<str>,
    pub data: Option<Shape>,
}

#[derive(Clone, Debug)]
pub enum Target {
    User(Template),
    Room(Template),
}

impl Default for Profile {
    /// The profile of every application that has none of its own.
    fn default() -> Profile {
        Profile::parse(builtin::DEFAULT).expect("a test holds every built-in profile to be right")
    }
}

impl Profile {
    /// Reads and checks a profile; the first thing wrong with it is the error.
    pub fn parse(text: &str) -> Result<Profile, Error> {
        let lines = lines::Lines::of(text).map_err(|error| Error::syntax(text, &error))?;
        let file = toml::from_str(text).map_err(|error| Error::shape(text, &lines, &error))?;
        check::profile(file, &lines)
    }

    /// JSON Schema (2020-12) of a profile's file, pretty-printed: what editors complete with.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(file::File);
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    }

    /// What of it waits for a part of the server that is not there yet, for one line at start.
    pub fn waiting(&self) -> Vec<&'static str> {
        let parts = [
            (self.queues.is_empty(), "queues"),
            (self.schedules.is_empty(), "schedules"),
            (self.cache.is_empty(), "cache resources"),
        ];
        parts.into_iter().filter(|(is_empty, _)| !is_empty).map(|(_, name)| name).collect()
    }
}

impl Late {
    /// Sent for a token that was refused, where the profile names nothing.
    pub const REFUSED: &'static str = "authentication_failed";
}

/// Delivery with acknowledgement, as the catalogue has it.
impl Acknowledge {
    pub fn timeout(self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// The operation's name, as it is written.
impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Subscribe => "subscribe",
            Operation::Unsubscribe => "unsubscribe",
            Operation::Join => "join",
            Operation::Leave => "leave",
            Operation::Relay => "relay",
            Operation::Publish => "publish",
            Operation::History => "history",
            Operation::Presence => "presence",
            Operation::Status => "status",
            Operation::Availability => "availability",
            Operation::Typing => "typing",
            Operation::Received => "received",
            Operation::Read => "read",
            Operation::Document => "document",
            Operation::Authenticate => "authenticate",
            Operation::Reply => "reply",
            Operation::Enqueue => "enqueue",
            Operation::Webhook => "webhook",
        }
    }
}
