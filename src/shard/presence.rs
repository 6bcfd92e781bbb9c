//! Who is there: users of a tenant with their sessions, and what others are told of them. Nothing of it leaves the tenant.

use super::encode::Outgoing;
use super::room::RoomKey;
use super::session::SessionKey;
use super::tenant::{Change, Status, Tenant, TenantKey, User};
use super::{Shard, Timer};
use crate::base::{
    limit,
    time::{Instant, UnixMs},
};
use crate::wire::{close::Close, json};
use std::io::Write;

/// One user in a room.
pub struct Present<'a> {
    pub user: &'a str,
    pub status: Status,
    pub since: UnixMs,
    pub last_seen: UnixMs,
    /// Its sockets in the room.
    pub connections: u32,
}

impl Present<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"user\":");
        json::write_string(out, self.user);
        let _ = write!(
            out,
            ",\"status\":\"{}\",\"since\":\"{}\",\"lastSeen\":\"{}\",\"connections\":{}}}",
            self.status.as_str(),
            self.since.rfc3339(),
            self.last_seen.rfc3339(),
            self.connections
        );
    }
}

impl Shard {
    /// The wall clock's reading at an earlier instant.
    fn unix_at(&self, at: Instant) -> UnixMs {
        UnixMs(self.now.unix.0.saturating_sub(self.now.at.since(at).as_millis() as u64))
    }

    pub(super) fn user_joined(&mut self, tenant: TenantKey, name: &str) {
        let now = self.now.unix;
        let own = self.own_room_name(name);
        let room = self.room_or_new(tenant, &own);
        if let Some(user) = &mut self.rooms[room].user {
            user.sessions += 1;
            user.last_seen = now;
            return;
        }
        self.rooms[room].user = Some(User { sessions: 1, status: Status::Online, since: now, last_seen: now });
        self.tenants[tenant].users += 1;
        self.user_changed(tenant, name, None, Some(Status::Online));
    }

    pub(super) fn user_left(&mut self, tenant: TenantKey, name: &str, seen: Instant) {
        let seen = self.unix_at(seen);
        let Some(room) = self.own_room(tenant, name) else { return };
        let Some(user) = &mut self.rooms[room].user else { return };
        user.sessions -= 1;
        user.last_seen = user.last_seen.max(seen);
        if user.sessions == 0 {
            let status = user.status;
            self.rooms[room].user = None;
            self.tenants[tenant].users -= 1;
            self.tend_room(room);
            self.user_changed(tenant, name, Some(status), None);
        }
    }

    pub(super) fn set_status(&mut self, tenant: TenantKey, name: &str, status: Status) {
        let Some(room) = self.own_room(tenant, name) else { return };
        let Some(user) = &mut self.rooms[room].user else { return };
        if user.status != status {
            let before = std::mem::replace(&mut user.status, status);
            user.since = self.now.unix;
            self.user_changed(tenant, name, Some(before), Some(status));
        }
    }

    /// Gathers what the tenant is to be told of one of its users. In a large tenant nobody is told: n joins would be n * n events, so clients
    /// ask there.
    fn user_changed(&mut self, key: TenantKey, user: &str, from: Option<Status>, to: Option<Status>) {
        if !self.tells_users(key) {
            return;
        }
        let at = self.now.unix;
        let Tenant { changes, tell_from, .. } = &mut self.tenants[key];
        let tell_now = *tell_from <= self.now.at;
        if changes.is_empty() && !tell_now {
            self.timers.arm(*tell_from, Timer::Presence(key));
        }
        match changes.iter_mut().find(|change| *change.user == *user) {
            Some(change) => (change.to, change.at) = (to, at),
            None => changes.push(Change { user: user.into(), from, to, at }),
        }
        if tell_now || changes.len() >= limit::PRESENCE_GATHERED_MAX {
            self.tell_users(key);
        }
    }

    fn tells_users(&self, key: TenantKey) -> bool {
        let room = self.tenant_room(key);
        let sockets = room.map_or(0, |room| self.rooms[room].members.len());
        self.app.announces_users && sockets <= limit::PRESENCE_ANNOUNCE_MAX
    }

    /// Tells the tenant what was gathered.
    pub(super) fn tell_users(&mut self, key: TenantKey) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let changes = std::mem::take(&mut tenant.changes);
        if changes.is_empty() {
            return;
        }
        tenant.tell_from = self.now.at + limit::PRESENCE_EVERY;
        let Some(room) = self.tenant_room(key).filter(|_| self.tells_users(key)) else { return };
        for change in changes {
            let Some((event, status)) = change.event() else { continue };
            let mut args = b"{\"user\":".to_vec();
            json::write_string(&mut args, &change.user);
            let _ = write!(args, ",\"status\":\"{}\",\"time\":\"{}\"}}", status.as_str(), change.at.rfc3339());
            let args = String::from_utf8_lossy(&args).into_owned();
            self.emit_to(room, &Outgoing { name: event, args: &args, ..Outgoing::default() }, None);
        }
    }

    /// The users in a room, in the order they came, at most [`limit::PRESENCE_MEMBERS_MAX`], and how many there are. Who wants to appear
    /// offline is left out.
    pub(super) fn present(&self, key: RoomKey) -> (Vec<Present<'_>>, usize) {
        let room = &self.rooms[key];
        let mut places = std::collections::BTreeMap::new();
        let mut list: Vec<Present<'_>> = Vec::new();
        for member in &room.members {
            let socket = &self.sockets[member.socket];
            let session = &self.sessions[socket.session];
            let Some(identity) = &session.identity else { continue };
            let Some(own) = socket.seats.get(1) else { continue };
            let Some(user) = &self.rooms[own.room].user else { continue };
            if user.status == Status::Offline {
                continue;
            }
            let place = *places.entry(own.room).or_insert_with(|| {
                list.push(Present {
                    user: &identity.user,
                    status: user.status,
                    since: user.since,
                    last_seen: user.last_seen,
                    connections: 0,
                });
                list.len() - 1
            });
            list[place].connections += 1;
            list[place].last_seen = list[place].last_seen.max(self.unix_at(session.last_heard));
        }
        let count = list.len();
        list.truncate(limit::PRESENCE_MEMBERS_MAX);
        (list, count)
    }

    /// A user's own room, which may outlive its sessions.
    fn own_room(&self, tenant: TenantKey, user: &str) -> Option<RoomKey> {
        self.tenants[tenant].rooms.get(&*self.own_room_name(user)).copied()
    }

    /// A user that has sessions.
    pub(super) fn user(&self, tenant: TenantKey, name: &str) -> Option<&User> {
        self.rooms[self.own_room(tenant, name)?].user.as_ref()
    }

    /// Sessions of a user.
    pub(super) fn sessions_of(&self, tenant: TenantKey, user: &str) -> Vec<SessionKey> {
        let Some(room) = self.own_room(tenant, user) else { return Vec::new() };
        let mut sessions: Vec<SessionKey> = self.rooms[room]
            .members
            .iter()
            .map(|member| self.sockets[member.socket].session)
            .filter(|session| self.sessions[*session].identity.as_ref().is_some_and(|identity| *identity.user == *user))
            .collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    pub(super) fn kick(&mut self, tenant: TenantKey, user: &str) -> usize {
        let sessions = self.sessions_of(tenant, user);
        for session in &sessions {
            self.close(*session, Close::Kicked);
        }
        sessions.len()
    }
}
