//! Who is there, asked: the users in a room, users by name, one user for a backend.
//!
//! Invariant: who wants to appear offline is not in what clients are told, and its last sign of life is when it began to hide.

use super::Shard;
use super::app::Context;
use super::refusal::Refusal;
use super::relay::presence::Stance;
use super::room::RoomKey;
use super::status::{Duty, Standing, Status};
use super::tenant::{TenantKey, User};
use super::wording::PresenceSettings;
use crate::base::{limit, time::UnixMs};
use crate::wire::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::rc::Rc;

/// One user, as it is listed.
pub struct Present<'a> {
    user: &'a str,
    status: Status,
    duty: Option<Duty>,
    /// `None` of who is not known.
    since: Option<UnixMs>,
    last_seen: Option<UnixMs>,
    /// Its sockets in the room, or its sessions; 0 within its grace.
    connections: u32,
}

impl<'a> Present<'a> {
    fn of(name: &'a str, user: &User, connections: u32) -> Present<'a> {
        Present {
            user: name,
            status: user.status,
            duty: user.standing().duty,
            since: Some(user.since),
            last_seen: Some(user.last_seen),
            connections,
        }
    }

    /// As the store knows it; its connections are still to be added.
    pub fn there(name: &'a str, stance: &Stance, seen: UnixMs) -> Present<'a> {
        let Standing { status, duty } = stance.standing();
        Present { user: name, status, duty, since: Some(stance.since), last_seen: Some(seen), connections: 0 }
    }

    pub fn add(&mut self, seen: UnixMs, connections: u32) {
        self.last_seen = self.last_seen.max(Some(seen));
        self.connections += connections;
    }

    /// As it is when it has left; `agent`: it was one.
    pub fn left(name: &'a str, agent: bool, since: Option<UnixMs>) -> Present<'a> {
        Present { duty: agent.then_some(Duty::Offline), ..Present::gone(name, None, since) }
    }

    /// As it is when it is gone; of who hides, as others may know it.
    fn gone(name: &'a str, user: Option<&User>, since: Option<UnixMs>) -> Present<'a> {
        Present {
            user: name,
            status: Status::Offline,
            duty: user.and_then(|user| user.standing().duty).map(|_| Duty::Offline),
            since,
            last_seen: since,
            connections: 0,
        }
    }

    /// Its members without the brace that closes them.
    pub fn write(&self, settings: &PresenceSettings, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"user\":");
        json::write_string(out, self.user);
        let _ = write!(out, ",\"status\":\"{}\"", self.status.as_str());
        for (name, at) in [("since", self.since), ("lastSeen", self.last_seen)] {
            let _ = match at {
                Some(at) => write!(out, ",\"{name}\":\"{}\"", at.rfc3339()),
                None => write!(out, ",\"{name}\":null"),
            };
        }
        let _ = write!(out, ",\"connections\":{}", self.connections);
        if let Some(duty) = self.duty {
            out.extend_from_slice(b",\"availability\":");
            json::write_string(out, duty.as_str(settings.availability.as_ref()));
        }
    }
}

impl Shard {
    /// The users in a room, in the order they came, those within their grace last, at most [`limit::PRESENCE_MEMBERS_MAX`], and how many
    /// there are. Who wants to appear offline is left out.
    fn present_in<'a>(&'a self, tenant: TenantKey, name: &'a str) -> (Vec<Present<'a>>, usize) {
        let mut list: Vec<Present<'a>> = Vec::new();
        let room = self.tenants[tenant].rooms.get(name).copied();
        if let Some(room) = room {
            self.list_members(room, &mut list);
        }
        let mut lingering = self.tenants[tenant].absences.lingering_in(self.now.at, name).peekable();
        if lingering.peek().is_some() {
            let mut known: BTreeSet<&str> = list.iter().map(|present| present.user).collect();
            let mut added = Vec::new();
            for user in lingering {
                let Some(state) = self.there(tenant, user).filter(|state| state.status != Status::Offline) else {
                    continue;
                };
                if known.insert(user) {
                    added.push(Present::of(user, state, 0));
                }
            }
            list.append(&mut added);
        }
        let count = list.len();
        list.truncate(limit::PRESENCE_MEMBERS_MAX);
        (list, count)
    }

    fn list_members<'a>(&'a self, room: RoomKey, list: &mut Vec<Present<'a>>) {
        let mut places = BTreeMap::new();
        for member in &self.rooms[room].members {
            let socket = &self.sockets[member.socket];
            let session = &self.sessions[socket.session];
            let Some(identity) = &session.identity else { continue };
            let Some(own) = socket.seats.get(1) else { continue };
            let Some(user) = &self.rooms[own.room].user else { continue };
            if user.status == Status::Offline {
                continue;
            }
            let place = *places.entry(own.room).or_insert_with(|| {
                list.push(Present::of(&identity.user, user, 0));
                list.len() - 1
            });
            let heard = self.unix_at(session.last_heard);
            list[place].connections += 1;
            list[place].last_seen = list[place].last_seen.max(Some(heard));
        }
    }

    /// A user that is there: it has sessions, or is within its grace.
    fn there(&self, tenant: TenantKey, name: &str) -> Option<&User> {
        let absence = || self.tenants[tenant].absences.get(name).filter(|absence| absence.lingers);
        self.user(tenant, name).or_else(|| absence().map(|absence| &absence.user))
    }

    /// When a user with sessions was last heard.
    pub(super) fn last_seen(&self, tenant: TenantKey, name: &str, user: &User) -> UnixMs {
        let sessions = self.sessions_of(tenant, name);
        let heard = sessions.into_iter().map(|session| self.unix_at(self.sessions[session].last_heard));
        heard.chain([user.last_seen]).max().unwrap_or(user.last_seen)
    }

    /// `{members: [...]}`, with `total` where the list is cut.
    pub(super) fn list_presence(&self, tenant: TenantKey, room: &str, ok: bool) -> Vec<u8> {
        let (list, count) = self.present_in(tenant, room);
        write_members(&self.presence, &list, count, ok)
    }

    /// A user as other users may know it.
    fn seen_by_others<'a>(&'a self, tenant: TenantKey, name: &'a str) -> Present<'a> {
        match (self.there(tenant, name), self.tenants[tenant].absences.get(name)) {
            (Some(user), _) if user.status == Status::Offline => Present::gone(name, Some(user), Some(user.since)),
            (Some(user), _) => {
                let last_seen = Some(self.last_seen(tenant, name, user));
                let connections = self.user(tenant, name).map_or(0, |user| user.sessions);
                Present { last_seen, ..Present::of(name, user, connections) }
            }
            (None, Some(absence)) => {
                let user = &absence.user;
                let hid = user.status == Status::Offline;
                Present::gone(name, Some(user), Some(if hid { user.since } else { user.last_seen }))
            }
            (None, None) => Present::gone(name, None, None),
        }
    }

    /// `{ok, users}`: the users named, as other users may know them.
    pub(super) fn list_users(&self, tenant: TenantKey, users: &[impl AsRef<str>]) -> Vec<u8> {
        let mut out = b"{\"ok\":true,\"users\":[".to_vec();
        for (nth, user) in users.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            self.seen_by_others(tenant, user.as_ref()).write(&self.presence, &mut out);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// One user, for a backend.
    pub(super) fn describe_user(&self, tenant: TenantKey, name: &str) -> Vec<u8> {
        let mut rooms: BTreeSet<&str> = BTreeSet::new();
        let present = match (self.there(tenant, name), self.tenants[tenant].absences.get(name)) {
            (Some(user), _) => {
                for session in self.sessions_of(tenant, name) {
                    for socket in &self.sessions[session].sockets {
                        rooms.extend(self.sockets[*socket].seats.iter().map(|seat| &*self.rooms[seat.room].name));
                    }
                }
                rooms.extend(self.tenants[tenant].absences.rooms_of(self.now.at, name).map(|room: &Rc<str>| &**room));
                let last_seen = Some(self.last_seen(tenant, name, user));
                let connections = self.user(tenant, name).map_or(0, |user| user.sessions);
                Present { last_seen, ..Present::of(name, user, connections) }
            }
            (None, Some(absence)) => {
                let seen = Some(absence.user.last_seen);
                Present::gone(name, Some(&absence.user), seen)
            }
            (None, None) => Present::gone(name, None, None),
        };
        write_user(&self.presence, &present, &rooms)
    }
}

/// `{user, .., rooms: [...]}`: one user, for a backend.
pub fn write_user(settings: &PresenceSettings, present: &Present<'_>, rooms: &BTreeSet<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    present.write(settings, &mut out);
    out.extend_from_slice(b",\"rooms\":[");
    for (nth, room) in rooms.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::write_string(&mut out, room);
    }
    out.extend_from_slice(b"]}");
    out
}

/// `{members: [...]}`, with `total` where there are more than listed.
pub fn write_members(settings: &PresenceSettings, list: &[Present<'_>], count: usize, ok: bool) -> Vec<u8> {
    let mut out = if ok { b"{\"ok\":true,\"members\":[".to_vec() } else { b"{\"members\":[".to_vec() };
    for (nth, present) in list.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        present.write(settings, &mut out);
        out.push(b'}');
    }
    out.push(b']');
    if count > list.len() {
        let _ = write!(out, ",\"total\":{count}");
    }
    out.push(b'}');
    out
}

/// `{rooms: [{room, members}]}`, with `total` where there are more.
pub fn write_rooms<'a>(rooms: impl Iterator<Item = (&'a str, usize)>, total: Option<usize>) -> Vec<u8> {
    let mut out = b"{\"rooms\":[".to_vec();
    for (nth, (name, members)) in rooms.enumerate() {
        out.extend_from_slice(if nth > 0 { b",{\"room\":" } else { b"{\"room\":" });
        json::write_string(&mut out, name);
        let _ = write!(out, ",\"members\":{members}}}");
    }
    out.push(b']');
    if let Some(total) = total {
        let _ = write!(out, ",\"total\":{total}");
    }
    out.push(b'}');
    out
}

impl Context<'_> {
    /// `{ok, members, total?}`: who is in a room.
    pub(in crate::shard) fn presence(&self, room: &str) -> String {
        String::from_utf8(self.shard.list_presence(self.shard.tenant_of(self.socket), room, true)).unwrap_or_default()
    }

    /// `{ok, users}`: the users named, in this order; who is not known, or hides, is offline.
    pub(in crate::shard) fn presence_of(&self, users: &[Cow<'_, str>]) -> String {
        String::from_utf8(self.shard.list_users(self.shard.tenant_of(self.socket), users)).unwrap_or_default()
    }

    pub(in crate::shard) fn set_status(&mut self, status: Status) -> Result<(), Refusal> {
        self.shard.set_status(self.socket, status)
    }

    pub(in crate::shard) fn set_availability(&mut self, state: &str) -> Result<(), Refusal> {
        let user = self.identity().user.clone();
        self.shard.set_availability(self.shard.tenant_of(self.socket), &user, state)
    }
}
