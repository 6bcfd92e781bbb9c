//! Rooms as sockets see them: joined, narrowed, left.
//!
//! Invariant: a seat and its member name each other: `seat.index` is the member's place, and whoever moves in a room's list is told.

use super::Shard;
use super::filter::Filter;
use super::history::Epoch;
use super::identity::Identity;
use super::refusal::Refusal;
use super::room::{Member, Room, RoomKey, slot};
use super::socket::SocketKey;
use super::tenant::TenantKey;
use crate::profile::room::Access;
use std::rc::Rc;

impl Shard {
    pub(super) fn identity(&self, socket: SocketKey) -> &Identity {
        self.sessions[self.sockets[socket].session].identity.as_ref().expect("a socket's session is admitted")
    }

    pub(super) fn tenant_of(&self, socket: SocketKey) -> TenantKey {
        self.sessions[self.sockets[socket].session].tenant.expect("a socket's session is admitted")
    }

    pub(super) fn room_key(&self, socket: SocketKey, name: &str) -> Option<RoomKey> {
        self.tenants[self.tenant_of(socket)].rooms.get(name).copied()
    }

    /// The room that every socket of a user is in.
    pub(super) fn own_room_name(&self, user: &str) -> String {
        self.app.profile.rooms.user_room(user)
    }

    /// The user whose own room this is, where it is one.
    pub(super) fn owner_of<'a>(&self, room: &'a str) -> Option<&'a str> {
        self.app.profile.rooms.user_of(room)
    }

    /// The room that every socket of a tenant is in.
    pub(super) fn tenant_room_name(&self, tenant: TenantKey) -> String {
        self.app.profile.rooms.tenant_room(self.tenants[tenant].id.as_str())
    }

    pub(super) fn tenant_room(&self, tenant: TenantKey) -> Option<RoomKey> {
        self.tenants[tenant].rooms.get(&*self.tenant_room_name(tenant)).copied()
    }

    /// Whether somebody may join a room of its tenant.
    pub(super) fn access(&self, identity: &Identity, room: &str) -> Access {
        self.app.profile.rooms.access(&identity.tenant, &identity.user, identity, room)
    }

    /// As [`access`](Self::access), of a room the socket was in: whom the backend has let in stays in.
    pub(super) fn may_stay(&self, identity: &Identity, room: &str) -> bool {
        self.access(identity, room) != Access::Denied
    }

    pub(super) fn room_or_new(&mut self, tenant: TenantKey, name: &str) -> RoomKey {
        if let Some(key) = self.tenants[tenant].rooms.get(name) {
            return *key;
        }
        let name: Rc<str> = name.into();
        // A room that is forgotten with events in it comes back with another epoch, since then `lost` has risen; one in which nothing was
        // ever published comes back as what it was.
        let state = &self.tenants[tenant];
        let epoch = Epoch(state.epoch.0.wrapping_add(state.lost));
        let rule = self.presence.rule(&name);
        let mut room = Room::new(tenant, name.clone(), epoch, self.tenants[tenant].lost, self.now.at);
        room.rule = rule;
        let key = self.rooms.insert(room);
        self.tenants[tenant].rooms.insert(name, key);
        self.room_begins(tenant, key);
        key
    }

    /// Checks a room's name as a client wrote it.
    pub(super) fn check_room_name(&self, name: &str) -> Result<(), Refusal> {
        let max = self.settings.limits.room_name_bytes as usize;
        if name.is_empty() || name.chars().any(char::is_control) {
            Err(Refusal::RoomNameInvalid)
        } else if max != 0 && name.len() > max {
            Err(Refusal::RoomNameTooLong)
        } else {
            Ok(())
        }
    }

    /// Puts a socket into a room of its tenant; in it already, only its filter changes.
    pub(super) fn join(
        &mut self,
        socket: SocketKey,
        name: &str,
        filter: Option<Rc<Filter>>,
    ) -> Result<RoomKey, Refusal> {
        self.check_room_name(name)?;
        if let Some(room) = self.room_key(socket, name)
            && self.sockets[socket].seat(room).is_some()
        {
            self.narrow(socket, room, filter);
            return Ok(room);
        }
        let max = self.settings.limits.rooms_per_session as usize;
        let state = &self.sockets[socket];
        if max != 0 && state.seats.len() - usize::from(state.automatic) >= max {
            return Err(Refusal::TooManyRooms);
        }
        let room = self.room_or_new(self.tenant_of(socket), name);
        self.seat(socket, room, filter);
        Ok(room)
    }

    pub(super) fn seat(&mut self, socket: SocketKey, key: RoomKey, filter: Option<Rc<Filter>>) {
        let joined_at = self.tenants[self.rooms[key].tenant].sequence;
        self.seat_since(socket, key, joined_at, filter);
    }

    /// As [`seat`](Self::seat), for a socket that was in the room before: since this place of the tenant's sequence.
    pub(super) fn seat_since(&mut self, socket: SocketKey, key: RoomKey, joined_at: u64, filter: Option<Rc<Filter>>) {
        self.watch_in(socket, key);
        let room = &mut self.rooms[key];
        let state = &mut self.sockets[socket];
        assert_eq!(Some(room.tenant), self.sessions[state.session].tenant, "a room and its members are of one tenant");
        let index =
            room.add(Member { socket, slot: slot(state.session), variant: state.variant, narrowed: filter.is_some() });
        state.sit(key, index, joined_at, filter);
        self.unsaved(socket);
        self.seats_altered(socket);
    }

    pub(super) fn narrow(&mut self, socket: SocketKey, key: RoomKey, filter: Option<Rc<Filter>>) {
        let Some(seat) = self.sockets[socket].seat_mut(key) else { return };
        let room = &mut self.rooms[key];
        let member = &mut room.members[seat.index as usize];
        room.narrowed = room.narrowed - u32::from(member.narrowed) + u32::from(filter.is_some());
        member.narrowed = filter.is_some();
        seat.filter = filter;
        self.unsaved(socket);
    }

    pub(super) fn leave_room(&mut self, socket: SocketKey, name: &str) -> bool {
        let Some(room) = self.room_key(socket, name) else { return false };
        let state = &self.sockets[socket];
        let Some(at) = state.seats.iter().position(|seat| seat.room == room) else { return false };
        if at < usize::from(state.automatic) {
            return false;
        }
        self.stop_typing(room, socket);
        let seat = self.sockets[socket].seats.remove(at);
        self.vacate(seat.room, seat.index, false);
        self.unsaved(socket);
        self.seats_altered(socket);
        true
    }

    /// Empties a member's place in a room, whose last member takes it; `lingers`: its user stays in it for its grace.
    pub(super) fn vacate(&mut self, key: RoomKey, index: u32, lingers: bool) {
        let watched = self.watched(key, index);
        let room = &mut self.rooms[key];
        if let Some(moved) = room.remove(index, self.now.at)
            && let Some(seat) = self.sockets[moved.socket].seat_mut(key)
        {
            seat.index = index;
        }
        if let Some((user, heard)) = watched {
            self.watch_out(key, &user, heard, lingers);
        }
        self.tend_room(key);
    }

    /// Forgets a room that nobody needs, or sees to it that somebody looks again.
    pub(super) fn tend_room(&mut self, key: RoomKey) {
        let room = &self.rooms[key];
        if room.is_vacant() {
            // Among nodes, the store remembers.
            if room.top() == 0 || self.is_fleet() {
                self.drop_room(key);
            } else if !room.sweeping {
                self.sweep_room(key);
            }
        }
    }
}
