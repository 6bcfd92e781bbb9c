//! Receipts: the sender of an event is told who has got it (`delivered`) and who has read it (`read`), where the settings ask for it.
//!
//! Invariants: each is told once for a user and an event; only a user whom the event was for can cause one; `delivered` is never told
//! after `read`.

use super::Shard;
use super::history::Event;
use super::publish::Draft;
use super::socket::SocketKey;
use super::tenant::TenantKey;
use crate::base::{
    limit,
    time::{Duration, Instant},
};
use crate::wire::{auth::Pattern, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::rc::Rc;

/// Which events have receipts, and what these are called.
#[derive(Clone, Debug)]
pub struct ReceiptSettings {
    /// Event types; none by default.
    pub types: Vec<Pattern>,
    /// How long after its publication receipts of an event are told.
    pub ttl: Duration,
    pub delivered: Box<str>,
    pub read: Box<str>,
}

impl Default for ReceiptSettings {
    fn default() -> ReceiptSettings {
        let ttl = Duration::from_secs(24 * 3600);
        ReceiptSettings { types: Vec::new(), ttl, delivered: "delivered".into(), read: "read".into() }
    }
}

impl ReceiptSettings {
    pub(super) fn wants(&self, event: &str) -> bool {
        self.types.iter().any(|types| types.matches(event))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    Delivered,
    Read,
}

struct Tracked {
    sender: Rc<str>,
    room: Rc<str>,
    /// Of each user what its sender was told last; at most [`limit::RECEIPT_USERS_MAX`].
    told: BTreeMap<Box<str>, Told>,
}

/// The events of a tenant whose senders are told. At most [`limit::RECEIPTS_MAX`].
#[derive(Default)]
pub struct Receipts {
    events: BTreeMap<Rc<str>, Tracked>,
    /// Oldest first.
    order: VecDeque<(Instant, Rc<str>)>,
}

impl Receipts {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn track(&mut self, id: Rc<str>, until: Instant, tracked: Tracked) {
        // An id that a publisher gives again after five minutes is another event: it takes the place of the first.
        if self.events.insert(id.clone(), tracked).is_none() {
            self.order.push_back((until, id));
        }
        if self.events.len() > limit::RECEIPTS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.events.remove(&id);
        }
    }

    pub fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    /// The sender to be told, if there is something new to tell.
    fn news(&mut self, user: &str, id: &str, told: Told) -> Option<Rc<str>> {
        let tracked = self.events.get_mut(id)?;
        if *tracked.sender == *user {
            return None;
        }
        let is_full = tracked.told.len() >= limit::RECEIPT_USERS_MAX;
        match tracked.told.get_mut(user) {
            Some(before) if *before >= told => return None,
            Some(before) => *before = told,
            None if is_full => return None,
            None => drop(tracked.told.insert(user.into(), told)),
        }
        Some(tracked.sender.clone())
    }
}

impl Shard {
    /// A durable event was published: its receipts are told from now on, where its type has any.
    pub(super) fn track_receipts(&mut self, tenant: TenantKey, id: &Rc<str>, draft: &Draft<'_>, event: &Event) {
        let Some(sender) = draft.user else { return };
        if !self.wants_receipts(&event.name) {
            return;
        }
        let until = self.now.at + self.settings.receipts.ttl;
        let tracked = Tracked { sender: sender.into(), room: draft.room.into(), told: BTreeMap::new() };
        self.tenants[tenant].receipts.get_or_insert_default().track(id.clone(), until, tracked);
        self.tend_tenant(tenant);
    }

    /// A client says that it has got or read events; those of rooms that it is in count.
    pub(super) fn tell_receipts_of_rooms(&mut self, socket: SocketKey, ids: &[&str], told: Told) {
        if !self.is_fleet() {
            return ids.iter().for_each(|id| self.tell_receipt(socket, id, told));
        }
        let (tenant, user) = (self.tenant_of(socket), self.identity(socket).user.clone());
        let rooms = self.sockets[socket].seats.iter().map(|seat| Box::from(&*self.rooms[seat.room].name)).collect();
        self.tell_receipts(tenant, &user, told, ids.iter().map(|id| Box::from(*id)).collect(), Some(rooms));
    }

    fn tell_receipt(&mut self, socket: SocketKey, id: &str, told: Told) {
        let tenant = self.tenant_of(socket);
        let Some(receipts) = &self.tenants[tenant].receipts else { return };
        let Some(tracked) = receipts.events.get(id) else { return };
        let room = self.tenants[tenant].rooms.get(&tracked.room).copied();
        if room.is_some_and(|room| self.sockets[socket].seat(room).is_some()) {
            let user = self.identity(socket).user.clone();
            self.tell_receipt_of(tenant, &user, id, told);
        }
    }

    /// A user has got or read an event.
    pub(super) fn tell_receipt_of(&mut self, tenant: TenantKey, user: &str, id: &str, told: Told) {
        if self.is_fleet() {
            return self.tell_receipts(tenant, user, told, vec![id.into()], None);
        }
        let Some(receipts) = &mut self.tenants[tenant].receipts else { return };
        let Some(sender) = receipts.news(user, id, told) else { return };
        self.publish_receipt(tenant, &sender, user, id, told);
    }

    pub(super) fn publish_receipt(&mut self, tenant: TenantKey, sender: &str, user: &str, id: &str, told: Told) {
        let mut data = b"{\"id\":".to_vec();
        json::write_string(&mut data, id);
        data.extend_from_slice(b",\"user\":");
        json::write_string(&mut data, user);
        let _ = write!(data, ",\"time\":\"{}\"}}", self.now.unix.rfc3339());
        let data = String::from_utf8_lossy(&data);
        let event = match told {
            Told::Delivered => self.settings.receipts.delivered.clone(),
            Told::Read => self.settings.receipts.read.clone(),
        };
        // Of nobody, so that no receipt has a receipt; and not of the tenant's rate, which is for what it publishes.
        let room = self.own_room_name(sender);
        self.publish_now(tenant, &Draft { event: &event, room: &room, data: &data, ..Draft::default() }, None);
    }

    pub(super) fn expire_receipts(&mut self, tenant: TenantKey) {
        let Some(receipts) = &mut self.tenants[tenant].receipts else { return };
        receipts.expire(self.now.at);
        if receipts.is_empty() {
            self.tenants[tenant].receipts = None;
        }
    }
}
