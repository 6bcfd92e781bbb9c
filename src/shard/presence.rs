//! Who is there: users of a tenant with their sessions, and what others are told of them. Nothing of it leaves the tenant.

use super::Shard;
use super::encode::Outgoing;
use super::publish::tenant_room;
use super::room::RoomKey;
use super::session::SessionKey;
use super::tenant::{Status, TenantKey, User};
use super::Timer;
use super::session::End;
use crate::base::{limit, time::{Duration, Instant, UnixMs}};
use crate::wire::{close::Close, json};
use std::io::Write;
use std::rc::Rc;

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
        if let Some(user) = self.tenants[tenant].users.get_mut(name) {
            user.sessions += 1;
            user.last_seen = now;
            return;
        }
        let user = User { sessions: 1, status: Status::Online, since: now, last_seen: now };
        self.tenants[tenant].users.insert(Rc::from(name), user);
        self.announce_user(tenant, "user:online", name, Status::Online);
    }

    pub(super) fn user_left(&mut self, tenant: TenantKey, name: &str, seen: Instant) {
        let seen = self.unix_at(seen);
        let Some(user) = self.tenants[tenant].users.get_mut(name) else { return };
        user.sessions -= 1;
        user.last_seen = user.last_seen.max(seen);
        if user.sessions == 0 {
            let hidden = user.status == Status::Offline;
            self.tenants[tenant].users.remove(name);
            if !hidden {
                self.announce_user(tenant, "user:offline", name, Status::Offline);
            }
        }
    }

    pub(super) fn set_status(&mut self, tenant: TenantKey, name: &str, status: Status) {
        let Some(user) = self.tenants[tenant].users.get_mut(name) else { return };
        if user.status != status {
            user.status = status;
            user.since = self.now.unix;
            self.announce_user(tenant, "user:status", name, status);
        }
    }

    /// Tells the tenant of one of its users. In a large tenant nobody is told: n joins would be n * n events, so clients ask there.
    fn announce_user(&mut self, tenant: TenantKey, event: &str, user: &str, status: Status) {
        let Some(room) = tenant_room(&self.tenants[tenant]) else { return };
        if self.rooms[room].members.len() > limit::PRESENCE_ANNOUNCE_MAX {
            return;
        }
        let mut args = b"{\"user\":".to_vec();
        json::write_string(&mut args, user);
        let _ = write!(args, ",\"status\":\"{}\",\"time\":\"{}\"}}", status.as_str(), self.now.unix.rfc3339());
        let args = String::from_utf8_lossy(&args).into_owned();
        self.emit_to(room, &Outgoing { name: event, args: &args, ..Outgoing::default() }, None);
    }

    /// The users in a room, in the order they came, at most [`limit::PRESENCE_MEMBERS_MAX`], and how many there are. Who wants to appear
    /// offline is left out.
    pub(super) fn present(&self, key: RoomKey) -> (Vec<Present<'_>>, usize) {
        let room = &self.rooms[key];
        let tenant = &self.tenants[room.tenant];
        let mut places = std::collections::BTreeMap::new();
        let mut list: Vec<Present<'_>> = Vec::new();
        for member in &room.members {
            let session = &self.sessions[self.sockets[member.socket].session];
            let Some(identity) = &session.identity else { continue };
            let Some(user) = tenant.users.get(&*identity.user) else { continue };
            if user.status == Status::Offline {
                continue;
            }
            let place = *places.entry(&*identity.user).or_insert_with(|| {
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

    /// Sessions of a user.
    pub(super) fn sessions_of(&self, tenant: TenantKey, user: &str) -> Vec<SessionKey> {
        let Some(room) = self.tenants[tenant].rooms.get(&*format!("user:{user}")) else { return Vec::new() };
        let mut sessions: Vec<SessionKey> = self.rooms[*room]
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

    // A token's end.

    pub(super) fn arm_token_timer(&mut self, key: SessionKey) {
        let Some(expires_at) = self.sessions[key].identity.as_ref().and_then(|identity| identity.expires_at) else { return };
        let left = Duration::from_millis(expires_at.0.saturating_sub(self.now.unix.0));
        self.timers.arm(self.now.at + left.saturating_sub(limit::TOKEN_EXPIRING_NOTICE), Timer::Token(key, expires_at));
    }

    /// A token is about to expire, has expired, or was replaced since this timer was armed.
    pub(super) fn token_timer(&mut self, key: SessionKey, of: UnixMs) {
        let Some(session) = self.sessions.get(key) else { return };
        let Some(expires_at) = session.identity.as_ref().and_then(|identity| identity.expires_at) else { return };
        if expires_at != of {
            // A fresh token has its own timer: one that was replaced must not run beside it.
            return;
        }
        let left = Duration::from_millis(expires_at.0.saturating_sub(self.now.unix.0));
        if left.is_zero() {
            return self.close(key, Close::TokenExpired);
        }
        if left > limit::TOKEN_EXPIRING_NOTICE {
            return self.arm_token_timer(key);
        }
        let args = format!("{{\"expiresAt\":\"{}\",\"inMs\":{}}}", expires_at.rfc3339(), left.as_millis());
        for socket in session.sockets.clone() {
            self.send_event(socket, &Outgoing { name: "session:expiring", args: &args, ..Outgoing::default() }, false);
        }
        self.timers.arm(self.now.at + left, Timer::Token(key, expires_at));
        debug_assert!(!End::Close(Close::TokenExpired).recoverable());
    }
}
