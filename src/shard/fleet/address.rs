//! `connections_per_address` over all nodes. A node lets in whom it may by its own count, asks, and closes what was over the limit of all: the
//! newest, since what was counted before it was within. Without a limit nothing is asked; with the store away a node's own count is what counts.
//!
//! Invariants: what a shard says is how many it has, not one more or less, so that it may be said again; a node that dies is not counted any
//! more when its lease is over; a connection is closed for its own answer and for no other's.

use super::{Job, Shard};
use crate::base::{
    address::prefix,
    id::TenantId,
    limit::APPENDS_MAX,
    time::{Duration, Instant},
};
use crate::shard::relay::{self, Relay, Unavailable, address::Act, address::Answer};
use crate::shard::session::SessionKey;
use crate::wire::close::Close;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Connections of this shard by their address, where that has a limit.
#[derive(Default)]
pub struct Addresses {
    held: BTreeMap<IpAddr, BTreeSet<SessionKey>>,
    /// All of them have been said since then.
    said: Instant,
}

impl Shard {
    /// A session was let in that counts.
    pub(in crate::shard) fn hold_address(&mut self, key: SessionKey) {
        let address = prefix(self.sessions[key].address);
        if self.settings.limits.connections_per_address == 0 {
            return;
        }
        let Some(fleet) = &mut self.fleet else { return };
        fleet.addresses.held.entry(address).or_default().insert(key);
        let asks = fleet.jobs.len() < APPENDS_MAX;
        self.say_address(address, asks.then_some(key));
    }

    /// It is over.
    pub(in crate::shard) fn let_address_go(&mut self, key: SessionKey) {
        let address = prefix(self.sessions[key].address);
        let Some(held) = self.fleet.as_mut().and_then(|fleet| fleet.addresses.held.get_mut(&address)) else { return };
        if held.remove(&key) {
            self.say_address(address, None);
        }
    }

    /// Says how many an address has here; of `asks`, whether it may be one of them.
    fn say_address(&mut self, address: IpAddr, asks: Option<SessionKey>) {
        let ticket = asks.map(|session| self.ticket(Job::Address { session }));
        let shard = self.settings.shard;
        let (Some(fleet), Some(tenant)) = (&mut self.fleet, TenantId::parse(&address.to_string())) else { return };
        let count = fleet.addresses.held.get(&address).map_or(0, BTreeSet::len) as u32;
        if count == 0 {
            fleet.addresses.held.remove(&address);
        }
        let act = Act::Hold { origin: fleet.settings.origin, shard, count, lease: fleet.settings.lease };
        self.relay(Relay::Share { tenant, ticket, act: Box::new(relay::Act::Address(act)) });
    }

    pub(super) fn address_held(&mut self, session: SessionKey, result: Result<relay::Answer, Unavailable>) {
        let limit = u64::from(self.settings.limits.connections_per_address);
        let Ok(relay::Answer::Address(Answer::Held { total })) = result else { return };
        if total > limit && self.sessions.get(session).is_some_and(|session| session.tenant.is_some()) {
            self.close(session, Close::TooManyConnections);
        }
    }

    /// Says again what is held, before the lease of what was said is over.
    pub(super) fn keep_addresses(&mut self, every: Duration) {
        let now = self.now.at;
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| fleet.addresses.said + every <= now) else { return };
        fleet.addresses.said = now;
        let held: Vec<IpAddr> = fleet.addresses.held.keys().copied().collect();
        for address in held {
            self.say_address(address, None);
        }
    }
}
