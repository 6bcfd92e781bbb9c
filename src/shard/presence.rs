//! Users of a tenant while they have sessions: they come, go, and say how they are. Several devices are one user until the last has left;
//! what becomes of it then stands in `absence.rs`. Nothing of it leaves the tenant.

use super::gathering::Circle;
use super::refusal::Refusal;
use super::relay::presence::Stance;
use super::room::RoomKey;
use super::session::SessionKey;
use super::socket::SocketKey;
use super::status::{Choice, Standing, Status};
use super::tenant::{TenantKey, User};
use super::{Shard, Timer};
use crate::base::time::{Instant, UnixMs};
use crate::wire::close::Close;
use std::rc::Rc;

impl Shard {
    /// The wall clock's reading at an earlier instant.
    pub(super) fn unix_at(&self, at: Instant) -> UnixMs {
        UnixMs(self.now.unix.0.saturating_sub(self.now.at.since(at).as_millis() as u64))
    }

    /// A session of this user begins; `agent`: its token makes it one.
    pub(super) fn user_joined(&mut self, tenant: TenantKey, name: &str, agent: bool) {
        let now = self.now.unix;
        let own = self.own_room_name(name);
        let room = self.room_or_new(tenant, &own);
        if let Some(user) = &mut self.rooms[room].user {
            user.sessions += 1;
            user.last_seen = now;
            if agent && user.choice == Choice::None {
                self.alter_user(tenant, name, |user| user.choice = Choice::Auto);
            }
            return self.user_altered(tenant, name);
        }
        let absence = self.tenants[tenant].absences.take(name);
        let mut user = User::back(absence, now);
        if agent && user.choice == Choice::None {
            user.choice = Choice::Auto;
        }
        let from = absence.filter(|absence| absence.lingers).map(|absence| absence.user.standing());
        self.rooms[room].user = Some(user);
        self.tenants[tenant].users += 1;
        self.arm_idleness(room, user);
        if from != Some(user.standing()) {
            self.note(Circle::Tenant(tenant), name, from, Some(user.standing()), now);
        }
        self.user_altered(tenant, name);
    }

    /// A session of this user is over; `lingers`: it broke off, and the user is still in these rooms for its grace.
    pub(super) fn user_left(&mut self, tenant: TenantKey, name: &str, heard: Instant, lingers: Option<Box<[Rc<str>]>>) {
        let heard = self.unix_at(heard);
        let Some(room) = self.own_room(tenant, name) else { return };
        let Some(user) = &mut self.rooms[room].user else { return };
        user.sessions -= 1;
        user.last_seen = user.last_seen.max(heard);
        let seen = user.last_seen;
        let (user, broke_off) = (*user, lingers.is_some());
        let name: Rc<str> = name.into();
        if user.sessions == 0 {
            self.rooms[room].user = None;
            self.tenants[tenant].users -= 1;
            self.tend_room(room);
            self.absent(tenant, name.clone(), user, broke_off);
        }
        self.user_seen(tenant, &name, seen);
        if let Some(rooms) = lingers {
            self.linger(tenant, name, rooms);
        }
    }

    /// A socket's user says how it is. Many say it again and again.
    pub(super) fn set_status(&mut self, socket: SocketKey, status: Status) -> Result<(), Refusal> {
        if !self.presence.statuses.contains(&status) {
            return Err(Refusal::InvalidArgument("this application has no such status"));
        }
        let own = self.own_room_of(socket);
        if own.and_then(|own| self.rooms[own].user).is_some_and(|user| user.status == status) {
            return Ok(());
        }
        let (now, tenant, name) = (self.now.unix, self.tenant_of(socket), self.identity(socket).user.clone());
        self.alter_user(tenant, &name, |user| (user.status, user.since, user.idle) = (status, now, false));
        Ok(())
    }

    /// An agent chooses one of the application's states.
    pub(super) fn set_availability(&mut self, tenant: TenantKey, name: &str, state: &str) -> Result<(), Refusal> {
        let settings = self.presence.clone();
        let Some(availability) = &settings.availability else {
            return Err(Refusal::Unavailable("availability_unavailable"));
        };
        if self.user(tenant, name).is_none_or(|user| user.choice == Choice::None) {
            return Err(Refusal::Forbidden);
        }
        let choice = Choice::parse(state, availability);
        let choice = choice.ok_or(Refusal::InvalidArgument("this application has no such availability"))?;
        self.alter_user(tenant, name, |user| (user.choice, user.idle) = (choice, false));
        Ok(())
    }

    /// Changes a user that has sessions, and tells those it concerns what they see of it.
    fn alter_user(&mut self, tenant: TenantKey, name: &str, alter: impl FnOnce(&mut User)) {
        let Some(room) = self.own_room(tenant, name) else { return };
        let Some(user) = &mut self.rooms[room].user else { return };
        let was = user.stance();
        alter(user);
        let user = *user;
        self.arm_idleness(room, user);
        let (from, to) = (was.standing(), user.standing());
        if was != user.stance() {
            self.user_says(tenant, name);
        }
        if from != to {
            let now = self.now.unix;
            self.note(Circle::Tenant(tenant), name, Some(from), Some(to), now);
            for watched in self.watched_rooms(tenant, name) {
                self.note(Circle::Room(watched), name, Some(from), Some(to), now);
            }
        }
    }

    /// How a user is, as another node has said it: whoever is to be told of that is, by the same word.
    pub(super) fn take_stance(&mut self, tenant: TenantKey, name: &str, stance: Stance) {
        let Some(room) = self.own_room(tenant, name) else { return };
        let Some(user) = &mut self.rooms[room].user else { return };
        if user.stance() == stance {
            return;
        }
        // What makes one an agent is its token: it stays one.
        let choice = if stance.choice == Choice::None { user.choice } else { stance.choice };
        let says = choice != stance.choice;
        (user.status, user.choice, user.idle, user.since) = (stance.status, choice, stance.idle, stance.since);
        let user = *user;
        self.arm_idleness(room, user);
        if says {
            self.user_says(tenant, name);
        }
    }

    /// What a user had chosen when it was last here, or on another node.
    pub(super) fn take_choice(&mut self, tenant: TenantKey, name: &str, was: Choice) {
        if was != Choice::None {
            self.alter_user(tenant, name, |user| {
                if matches!(user.choice, Choice::None | Choice::Auto) {
                    user.choice = was;
                }
            });
        }
    }

    /// Sees to it that an agent that is away does not count as available for ever.
    fn arm_idleness(&mut self, room: RoomKey, user: User) {
        let after = self.presence.availability.as_ref().and_then(|known| known.auto_offline);
        if let Some(after) = after
            && user.status == Status::Away
            && user.choice != Choice::None
            && !user.idle
        {
            self.timers.arm(self.now.at + after, Timer::Idle(room, user.since));
        }
    }

    /// The agent whose own room this is has been away since then, if it still is.
    pub(super) fn idle(&mut self, room: RoomKey, since: UnixMs) {
        let Some(state) = self.rooms.get(room) else { return };
        let away = |user: &User| user.status == Status::Away && user.since == since && !user.idle;
        if !state.user.as_ref().is_some_and(away) {
            return;
        }
        // Every socket in it is one of the user's own, or of somebody who may listen to it.
        let names = state.members.iter().map(|member| self.identity(member.socket).user.clone());
        let (tenant, own) = (state.tenant, state.name.clone());
        let name = names.into_iter().find(|name| *self.own_room_name(name) == *own);
        if let Some(name) = name {
            self.alter_user(tenant, &name, |user| user.idle = true);
        }
    }

    /// A user's own room, which may outlive its sessions.
    pub(super) fn own_room(&self, tenant: TenantKey, user: &str) -> Option<RoomKey> {
        self.tenants[tenant].rooms.get(&*self.own_room_name(user)).copied()
    }

    /// That of a socket's user: where every socket has its second seat, so that nobody has to look for it.
    fn own_room_of(&self, socket: SocketKey) -> Option<RoomKey> {
        let user = &*self.identity(socket).user;
        let second = self.sockets[socket].seats.get(1).map(|seat| seat.room);
        let own = second.filter(|room| self.owner_of(&self.rooms[*room].name) == Some(user));
        own.or_else(|| self.own_room(self.tenant_of(socket), user))
    }

    /// A user that has sessions.
    pub(super) fn user(&self, tenant: TenantKey, name: &str) -> Option<&User> {
        self.rooms[self.own_room(tenant, name)?].user.as_ref()
    }

    /// How a user is, or was when it left.
    pub(super) fn standing(&self, tenant: TenantKey, name: &str) -> Standing {
        let absent = || self.tenants[tenant].absences.get(name).map(|absence| &absence.user);
        let user = self.user(tenant, name).or_else(absent);
        user.map_or(Standing { status: Status::Online, duty: None }, User::standing)
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
