//! The offline queue in the world: what is said to users who are not there.
//!
//! Checked on every event: what waited comes in order and before anything newer, and never again on a connection that began after it was
//! acknowledged. Checked at rest: to a user of each tenant who was never there everything was kept that the bounds let be kept, in order.

use crate::client::{Client, Kind, Request, Seat};
use crate::model::Spot;
use crate::world::World;
use serde_json::json;
use std::collections::BTreeMap;
use tenantcast::base::time::Duration;

#[derive(Default)]
pub struct Away {
    /// Of each tenant what backends have told the user who is never there: offset, when, and nonce.
    told: BTreeMap<usize, Vec<(u64, u64, u64)>>,
    /// When the server said that an event is acknowledged: by tenant, user and id.
    done: BTreeMap<(usize, String, String), u64>,
    pub given: u64,
}

/// The user of a tenant who is never there.
pub fn absent(tenant: usize) -> String {
    format!("t{tenant}.absent")
}

impl World {
    /// A backend has published to a user's own room.
    pub fn told(&mut self, spot: &Spot, nonce: u64) {
        if spot.room == format!("user:{}", absent(spot.tenant)) {
            let told = self.model.away.told.entry(spot.tenant).or_default();
            told.push((spot.offset, self.now.at.0, nonce));
        }
    }

    /// A client gets an event of its own room; `queued`: it has waited.
    pub fn came_to_its_own(&mut self, c: usize, spot: &Spot, id: &str, nonce: u64, queued: bool) {
        let client = &mut self.clients[c];
        if spot.room != format!("user:{}", client.user) {
            if queued {
                self.fail(format!("{} gets what waited in another room: {spot:?}", self.clients[c].name));
            }
            return;
        }
        let before = client.own.replace((spot.epoch.clone(), spot.offset));
        if before.is_some_and(|(epoch, offset)| epoch == spot.epoch && offset >= spot.offset) {
            return self.fail(format!("{} gets {spot:?} behind what is newer", self.clients[c].name));
        }
        if !queued {
            return;
        }
        client.queued.push((spot.offset, nonce));
        let key = (client.tenant, client.user.clone(), id.to_owned());
        if self.model.away.done.get(&key).is_some_and(|done| *done < client.began) {
            return self.fail(format!("{} gets {id}, which was acknowledged before it came", self.clients[c].name));
        }
        self.model.away.given += 1;
        if client.kind != Some(Kind::Events) && self.acting.below(3) == 0 {
            self.emit(c, "received", &json!({ "ids": [id] }), Request::Received { id: id.to_owned() });
        }
    }

    pub fn acknowledged(&mut self, c: usize, id: String) {
        let client = &self.clients[c];
        let key = (client.tenant, client.user.clone(), id);
        self.model.away.done.entry(key).or_insert(self.now.at.0);
    }

    /// Whoever was never there comes.
    pub fn check_away(&mut self) {
        let first = self.clients.len();
        for tenant in 0..self.swarm.tenants {
            let user = absent(tenant);
            let mut client = Client {
                name: format!("client of {user}"),
                tenant,
                role: crate::act::ROLES[0],
                kind: Some(Kind::WebSocket),
                nsp: "/",
                ..Client::default()
            };
            for room in [format!("tenant:t{tenant}"), format!("user:{user}")] {
                client.rooms.insert(room, Seat::default());
            }
            client.user = user;
            self.clients.push(client);
            self.wake_client(first + tenant, 1);
        }
        self.run(Duration::from_secs(10));
        for tenant in 0..self.swarm.tenants {
            let mut told = self.model.away.told.remove(&tenant).unwrap_or_default();
            told.sort_unstable();
            let kept = &told[told.len().saturating_sub(self.swarm.offline_events as usize)..];
            let client = &self.clients[first + tenant];
            // Answers come late, and so do the clocks of the last seconds.
            let age = |at: u64| (self.now.at.0 - at) / 1_000_000;
            let must = kept.iter().filter(|(_, at, _)| age(*at) + 30 < self.swarm.offline_s);
            let must: Vec<_> = must.map(|(offset, _, nonce)| (*offset, *nonce)).collect();
            let may: Vec<_> = kept.iter().filter(|(_, at, _)| age(*at) <= self.swarm.offline_s + 30).collect();
            let got = &client.queued;
            let ours = |(offset, nonce): &(u64, u64)| may.iter().any(|one| (one.0, one.2) == (*offset, *nonce));
            if !client.live || !got.iter().all(ours) || !got.ends_with(&must) {
                let what = format!("{} gets {got:?} of {told:?}, must get {must:?}", client.name);
                return self.fail(what);
            }
        }
    }
}
