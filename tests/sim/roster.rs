//! What clients are told of each other's presence: only of their own tenant, only in rooms they are in; and what they were told last is so,
//! once the world is at rest.

use crate::client::{Client, Kind};
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use tenantcast::base::time::Duration;

/// What one client has heard since its session began.
#[derive(Default)]
pub struct Heard {
    /// Whether the user named is there, as last told.
    pub users: BTreeMap<String, bool>,
    /// Whether it is in the room.
    pub rooms: BTreeMap<(String, String), bool>,
    /// Tellings of a user's coming and going.
    pub changes: BTreeMap<String, u32>,
}

impl World {
    /// Presence, if this event is one.
    pub fn told_of_users(&mut self, c: usize, name: &str, data: &Value) -> bool {
        const LISTS: [&str; 6] = ["online", "offline", "status", "availability", "joined", "left"];
        match name {
            "user:online" => self.told_of(c, "online", data),
            "user:offline" => self.told_of(c, "offline", data),
            "user:status" => self.told_of(c, "status", data),
            "agent:availability" => self.told_of(c, "availability", data),
            "room:joined" => self.told_of(c, "joined", data),
            "room:left" => self.told_of(c, "left", data),
            "presence:changes" | "room:changes" => {
                for list in LISTS {
                    for entry in data[list].as_array().into_iter().flatten() {
                        self.told_of(c, list, entry);
                    }
                }
                if data
                    .as_object()
                    .is_none_or(|lists| lists.keys().any(|list| list != "room" && !LISTS.contains(&&**list)))
                {
                    self.fail(format!("presence in no list: {data}"));
                }
            }
            _ => return false,
        }
        true
    }

    fn told_of(&mut self, c: usize, what: &str, entry: &Value) {
        let client = &mut self.clients[c];
        let ours = format!("t{}.", client.tenant);
        let Some(user) = entry["user"].as_str().filter(|user| user.starts_with(&ours)).map(str::to_owned) else {
            let name = client.name.clone();
            return self.fail(format!("{name} is told of {entry}"));
        };
        let room = entry["room"].as_str().map(str::to_owned);
        match (what, room) {
            ("online" | "offline", None) => {
                *client.heard.changes.entry(user.clone()).or_default() += 1;
                client.heard.users.insert(user, what == "online");
            }
            ("status", None) => drop(client.heard.users.insert(user, entry["status"] != "offline")),
            ("availability", None)
                if ["available", "away", "busy", "offline"].map(Value::from).contains(&entry["availability"]) => {}
            ("joined" | "left", Some(room)) => {
                if !client.rooms.contains_key(&room) {
                    let what = format!("{} is told who is in {room}, which it is not in", client.name);
                    return self.fail(what);
                }
                client.heard.rooms.insert((room, user), what == "joined");
            }
            _ => self.fail(format!("presence that means nothing: {what} {entry}")),
        }
    }

    /// What was told before may have been dropped for who was slow: from here on nobody is.
    pub fn forget_what_was_heard(&mut self) {
        for client in &mut self.clients {
            client.heard = Heard::default();
        }
    }

    /// The world is at rest: what was told last is so.
    pub fn check_heard(&mut self) {
        let there = |clients: &[Client], tenant: usize, user: &str, room: Option<&str>| {
            let mut of_user =
                clients.iter().filter(|client| client.live && client.tenant == tenant && client.user == user);
            of_user.any(|client| room.is_none_or(|room| client.rooms.contains_key(room)))
        };
        let mut wrong = None;
        for client in self.clients.iter().filter(|client| client.live) {
            for (user, told) in &client.heard.users {
                if *told != there(&self.clients, client.tenant, user, None) {
                    wrong.get_or_insert(format!("{} was told last that {user} is there: {told}", client.name));
                }
            }
            for ((room, user), told) in &client.heard.rooms {
                let unsure = |client: &Client| client.rooms.get(room).is_some_and(|seat| !seat.certain);
                let still_in = client.rooms.contains_key(room) && !self.clients.iter().any(unsure);
                if still_in && *told != there(&self.clients, client.tenant, user, Some(room)) {
                    wrong.get_or_insert(format!("{} was told last that {user} is in {room}: {told}", client.name));
                }
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Somebody breaks off at rest. Back within the grace nobody hears of it; gone for good, all others hear it once, in time.
    pub fn check_grace(&mut self) {
        let grace = Duration::from_secs(self.swarm.grace_s);
        // The official client is back after a second, over a network that takes as long as this for each of the ways of a handshake.
        let back = Duration::from_secs(4);
        let alone = |c: &usize| {
            let one = &self.clients[*c];
            let same = self.clients.iter().filter(|other| other.tenant == one.tenant && other.user == one.user);
            // The end of a polling session may only be noticed by its heartbeat.
            let noticed = matches!(one.kind, Some(Kind::WebSocket | Kind::Plain));
            one.live && !one.hostile && noticed && same.count() == 1
        };
        let Some(c) = (0..self.clients.len()).find(alone) else { return };
        let (tenant, user) = (self.clients[c].tenant, self.clients[c].user.clone());
        let others = |world: &World| -> Vec<(usize, u32)> {
            let here = |o: &usize| *o != c && world.clients[*o].live && world.clients[*o].tenant == tenant;
            (0..world.clients.len()).filter(here).map(|o| (o, world.clients[o].epoch)).collect()
        };
        let before = others(self);
        let heard = |world: &World, o: usize| world.clients[o].heard.changes.get(&user).copied().unwrap_or(0);
        if grace > back {
            let counts: Vec<u32> = before.iter().map(|(o, _)| heard(self, *o)).collect();
            self.lost(c);
            self.run(back + grace);
            for ((o, _), count) in before.iter().zip(counts) {
                if self.clients[c].live && heard(self, *o) != count {
                    let what = format!("{} was told of {user}, who was away for a moment", self.clients[*o].name);
                    return self.fail(what);
                }
            }
        }
        let before = others(self);
        let counts: Vec<u32> = before.iter().map(|(o, _)| heard(self, *o)).collect();
        self.clients[c].gone = true;
        self.lost(c);
        self.run(grace + Duration::from_secs(5));
        let after = others(self);
        self.model.graces += after.len() as u64;
        for (o, count) in before.iter().zip(counts) {
            if after.contains(o) && (heard(self, o.0) != count + 1 || self.clients[o.0].heard.users[&user]) {
                let what = format!("{} did not hear, once, that {user} has gone", self.clients[o.0].name);
                return self.fail(what);
            }
        }
    }
}
