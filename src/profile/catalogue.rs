//! The event catalogue: what an application's events are, who may publish and receive them.

use super::file::{Acknowledge, Publisher, UnknownEvents};
use super::rank::Ranked;
use crate::wire::auth::Rights;
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    entries: Ranked<Entry>,
    unknown: UnknownEvents,
}

#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place among the entries: whoever compiles their schemas keeps them in this order.
    pub index: usize,
    pub ephemeral: bool,
    pub receive_roles: Box<[Box<str>]>,
    pub receive_permissions: Box<[Box<str>]>,
    /// In the room of one user none of them are asked for.
    pub receive_own: bool,
    pub publish: Publisher,
    pub publish_roles: Box<[Box<str>]>,
    pub publish_permissions: Box<[Box<str>]>,
    pub schema: Option<Value>,
    /// None: as every other durable event.
    pub offline: Option<bool>,
    pub receipts: bool,
    pub acknowledge: Option<Acknowledge>,
}

/// What the catalogue says of an event type.
#[derive(Clone, Copy, Debug)]
pub enum Entered<'a> {
    Known(&'a Entry),
    /// It is published as it comes.
    Passed,
    Refused,
}

impl Catalogue {
    pub fn new(entries: Ranked<Entry>, unknown: UnknownEvents) -> Catalogue {
        Catalogue { entries, unknown }
    }

    pub fn of(&self, kind: &str) -> Entered<'_> {
        match (self.entries.of(kind), self.unknown) {
            (Some(entry), _) => Entered::Known(entry),
            (None, UnknownEvents::Pass) => Entered::Passed,
            (None, UnknownEvents::Refuse) => Entered::Refused,
        }
    }

    /// In the order of their index.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let mut entries: Vec<_> = self.entries.iter().map(|(pattern, entry)| (pattern.as_str(), entry)).collect();
        entries.sort_by_key(|(_, entry)| entry.index);
        entries.into_iter()
    }

    /// Whether any of them has receipts.
    pub fn has_receipts(&self) -> bool {
        self.entries.iter().any(|(_, entry)| entry.receipts)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    /// Whether a client with these rights may publish it to a room.
    pub fn lets_publish(&self, rights: &Rights, room: &str) -> bool {
        let has_role = self.publish_roles.is_empty() || self.publish_roles.iter().any(|role| rights.has_role(role));
        let may = match &*self.publish_permissions {
            [] => rights.may_publish(room),
            permissions => permissions.iter().any(|permission| rights.has_permission(permission)),
        };
        self.publish == Publisher::Anyone && has_role && may
    }

    /// Not every member of the room gets it.
    pub fn is_for_some(&self) -> bool {
        !self.receive_roles.is_empty() || !self.receive_permissions.is_empty()
    }
}
