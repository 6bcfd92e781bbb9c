//! Rooms whose members are told who comes and goes (`room:joined`, `room:left`): a user's sockets in the room counted as one.
//!
//! Invariants: a room has a watch exactly while its rule is not 0 and it has had a member; a user with sockets in the room has as many here;
//! one with none is in its grace. Rooms without a rule, which is nearly all, pay one comparison for each seat taken or left.

use super::Shard;
use super::gathering::{Circle, Gathering};
use super::room::RoomKey;
use super::socket::SocketKey;
use super::tenant::TenantKey;
use crate::base::{chance::Map, time::Instant};
use std::rc::Rc;

pub struct Watch {
    /// Bounded by the room's members and by who lingers.
    users: Map<Rc<str>, Here>,
    pub gathering: Gathering,
}

/// A user in the room.
struct Here {
    sockets: u32,
    /// When the last of them broke off.
    left: Instant,
}

impl Shard {
    /// A socket is about to sit down in a room.
    pub(super) fn watch_in(&mut self, socket: SocketKey, room: RoomKey) {
        if self.rooms[room].rule == 0 {
            return;
        }
        let user: Rc<str> = (*self.identity(socket).user).into();
        let now = self.now.at;
        let chance = &mut self.chance;
        let watch = self.watches.entry(room).or_insert_with(|| {
            let hasher = chance.hasher();
            Box::new(Watch {
                users: Map::with_hasher(hasher.clone()),
                gathering: Gathering::new(now, Map::with_hasher(hasher)),
            })
        });
        if let Some(here) = watch.users.get_mut(&user) {
            here.sockets += 1;
            return;
        }
        watch.users.insert(user.clone(), Here { sockets: 1, left: now });
        let tenant = self.rooms[room].tenant;
        let standing = self.standing(tenant, &user);
        self.note(Circle::Room(room), &user, None, Some(standing), self.now.unix);
    }

    /// Who sits at this place of a watched room, and when it was last heard.
    pub(super) fn watched(&self, room: RoomKey, index: u32) -> Option<(Box<str>, Instant)> {
        let state = &self.rooms[room];
        let member = state.members.get(index as usize).filter(|_| state.rule != 0)?;
        let heard = self.sessions[self.sockets[member.socket].session].last_heard;
        Some((self.identity(member.socket).user.clone(), heard))
    }

    /// A socket of this user has left its seat; `lingers`: the user stays for its grace, which a queue ends.
    pub(super) fn watch_out(&mut self, room: RoomKey, user: &str, heard: Instant, lingers: bool) {
        let now = self.now.at;
        let Some(watch) = self.watches.get_mut(&room) else { return };
        let Some(here) = watch.users.get_mut(user) else { return };
        here.sockets -= 1;
        if here.sockets > 0 {
            return;
        }
        here.left = now;
        if !lingers {
            watch.users.remove(user);
            let standing = self.standing(self.rooms[room].tenant, user);
            self.note(Circle::Room(room), user, Some(standing), None, self.unix_at(heard));
        }
    }

    /// The grace of a session that broke off then is over: if its user is in the room only because of it, it is not any more.
    pub(super) fn end_grace_in(&mut self, tenant: TenantKey, name: &str, user: &str, broke_off: Instant) {
        if self.watches.is_empty() {
            return;
        }
        let Some(room) = self.tenants[tenant].rooms.get(name).copied() else { return };
        let Some(watch) = self.watches.get_mut(&room) else { return };
        if watch.users.get(user).is_some_and(|here| here.sockets == 0 && here.left <= broke_off) {
            watch.users.remove(user);
            let standing = self.standing(tenant, user);
            let absence = self.tenants[tenant].absences.get(user);
            let seen = absence.map_or(self.now.unix, |absence| absence.user.last_seen);
            self.note(Circle::Room(room), user, Some(standing), None, seen);
        }
    }

    /// The watched rooms in which a user has sockets.
    pub(super) fn watched_rooms(&self, tenant: TenantKey, user: &str) -> Vec<RoomKey> {
        if self.watches.is_empty() {
            return Vec::new();
        }
        let mut rooms: Vec<RoomKey> = Vec::new();
        for session in self.sessions_of(tenant, user) {
            for socket in &self.sessions[session].sockets {
                let seats = self.sockets[*socket].seats.iter().map(|seat| seat.room);
                rooms.extend(seats.filter(|room| self.rooms[*room].rule != 0));
            }
        }
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }
}
