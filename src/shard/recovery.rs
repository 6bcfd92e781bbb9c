//! Coming back: a socket by its private id and the position it had read to, a room by its epoch and offset, an event stream by its last
//! event id. Each gets exactly what it missed, or is told that it cannot.

use super::Shard;
use super::encode::Outgoing;
use super::foreign::Replay;
use super::history::{Epoch, Event, Gap, Position, Token};
use super::namespace::{Claimed, Comeback};
use super::room::{RoomKey, Variant, slot};
use super::session::{End, SessionKey};
use super::socket::{Seat, Socket, SocketKey};
use super::tenant::{Pid, Saved, SavedSeat, TenantKey};
use crate::base::{id::Sid, limit, slab::Key, time::Duration};
use crate::profile::room::Access;
use crate::wire::close::Close;
use std::rc::Rc;

impl Shard {
    /// A socket leaves its session: it may come back, or is forgotten.
    pub(super) fn save_or_forget(&mut self, key: SocketKey, recoverable: bool) {
        let socket = &self.sockets[key];
        let Some(pid) = socket.pid else { return };
        let tenant = self.tenant_of(key);
        if self.is_fleet() {
            return self.save_or_forget_in_fleet(key, pid, recoverable);
        }
        if !recoverable {
            self.tenants[tenant].pids.remove(&pid);
            return;
        }
        let until = self.now.at + self.settings.recovery;
        let saved = Saved {
            sid: socket.sid,
            user: (*self.identity(key).user).into(),
            namespace: socket.namespace,
            automatic: socket.automatic,
            rooms: self.saved_seats(key),
            generation: 0,
            epoch: self.tenants[tenant].epoch,
            connected_at: socket.connected_at,
            until,
            data: None,
        };
        let tenant = &mut self.tenants[tenant];
        tenant.pids.insert(pid, Pid::Saved(Box::new(saved)));
        tenant.saved.push_back((until, pid));
        if tenant.saved.len() > limit::SAVED_SESSIONS_MAX
            && let Some((until, pid)) = tenant.saved.pop_front()
        {
            tenant.forget_saved(pid, until);
        }
    }

    pub(super) fn saved_seats(&self, key: SocketKey) -> Vec<SavedSeat> {
        let socket = &self.sockets[key];
        let save = |seat: &Seat| SavedSeat {
            room: self.rooms[seat.room].name.clone(),
            filter: seat.filter.clone(),
            joined_at: socket.joined_at(seat),
        };
        socket.seats.iter().map(save).collect()
    }

    pub(super) fn expire_saved(&mut self, key: TenantKey) {
        let tenant = &mut self.tenants[key];
        while let Some((until, pid)) = tenant.saved.front().copied() {
            if until > self.now.at {
                break;
            }
            tenant.saved.pop_front();
            tenant.forget_saved(pid, until);
        }
    }

    /// Puts an earlier socket back, with its id, its rooms and all it missed. `None`: it is unknown, another user's, too old, or something
    /// it missed is gone; then it is a new socket, and is told so.
    pub(super) fn recover_socket(
        &mut self,
        key: SessionKey,
        namespace: u8,
        variant: Variant,
        comeback: Comeback<'_>,
    ) -> Option<SocketKey> {
        let tenant = self.sessions[key].tenant?;
        let user: Rc<str> = (*self.sessions[key].identity.as_ref()?.user).into();
        let (pid, claimed, past) = match comeback.claimed {
            Some(Claimed { pid, saved, missed }) => (pid, Some(saved), missed),
            // Among nodes, whoever has not been claimed is not here.
            None if self.is_fleet() => return None,
            None => (Sid::parse(comeback.pid?)?, None, None),
        };
        if claimed.is_none() && !self.replace_live(tenant, pid, key, &user) {
            return None;
        }
        let offset = comeback.offset;
        let saved = match (&claimed, self.tenants[tenant].pids.get(&pid)) {
            (Some(saved), _) | (None, Some(Pid::Saved(saved))) => saved,
            (None, _) => return None,
        };
        let is_its = saved.until > self.now.at && saved.user == user && saved.namespace == namespace;
        if !is_its || saved.epoch != self.tenants[tenant].epoch {
            return None;
        }
        // Among nodes: another one had come further, and this one cannot follow while the store is away.
        let here = self.tenants[tenant].sequence;
        if saved.connected_at > here || saved.rooms.iter().any(|seat| seat.joined_at > here) {
            return None;
        }
        let mut read_to = None;
        let since = match offset {
            // Its rows say what it missed, and where they begin in the tenant's stream.
            _ if self.reads_rows() => {
                let read = match past.as_ref()?.first {
                    Some((epoch, _)) if epoch != self.tenants[tenant].epoch.0 => return None,
                    Some((_, first)) => first.saturating_sub(1).min(here),
                    None => here,
                };
                read_to = Some(read);
                read.max(saved.connected_at)
            }
            None => saved.connected_at,
            Some(text) => {
                let position = Position::parse(text)?;
                read_to = Some(position.sequence);
                (position.epoch == self.tenants[tenant].epoch && position.sequence <= self.tenants[tenant].sequence)
                    // Of an earlier life, if nothing came in the last one: that one was told what it had missed.
                    .then_some(position.sequence.max(saved.connected_at))?
            }
        };
        let mut saved = match (claimed, self.tenants[tenant].pids.remove(&pid)) {
            (Some(saved), _) | (None, Some(Pid::Saved(saved))) => saved,
            (None, _) => return None,
        };
        // What its token no longer permits, it does not get back; the automatic rooms, which come first, it always gets.
        let identity = self.sessions[key].identity.as_ref()?;
        let automatic = usize::from(saved.automatic);
        let mut nth = 0;
        saved.rooms.retain(|seat| {
            nth += 1;
            nth <= automatic || self.may_stay(identity, &seat.room)
        });
        let own = self.own_room_name(&user);
        let own = saved.rooms.iter().find(|seat| *seat.room == own).and_then(|seat| seat.filter.clone());
        if let Some(read_to) = read_to {
            self.settle_read(key, own.as_deref(), read_to, saved.connected_at);
        }
        let replays = past.map(|past| {
            let identity = self.sessions[key].identity.as_deref();
            identity.map_or(Vec::new(), |identity| self.replays(tenant, identity, &saved.rooms, since, past.past))
        });
        let missed = match &replays {
            Some(replays) => placed(replays),
            None => self.missed(tenant, key, &saved.rooms, since).ok()?,
        };
        let socket = self.sockets.insert(Socket {
            session: key,
            sid: saved.sid,
            pid: Some(pid),
            namespace,
            variant,
            automatic: saved.automatic,
            typing: 0,
            seats: Vec::with_capacity(saved.rooms.len()),
            connected_at: since,
            extras: None,
        });
        self.sessions[key].sockets.push(socket);
        if socket.index() != pid.slot() {
            self.tenants[tenant].pids.insert(pid, Pid::Live(socket));
        }
        for saved_seat in &saved.rooms {
            let room = self.room_or_new(tenant, &saved_seat.room);
            self.seat_since(socket, room, saved_seat.joined_at, saved_seat.filter.clone());
        }
        // What waits for its user is older than what it missed, or is what it missed.
        self.give_waiting(socket, since, own.as_deref());
        match &replays {
            Some(replays) => self.replay_rows(socket, replays),
            None => self.replay(socket, &missed),
        }
        self.given_by_recovery(socket, &missed);
        if self.is_fleet() {
            let extras = self.sockets[socket].extras.get_or_insert_default();
            (extras.generation, extras.data) = (saved.generation + 1, saved.data);
            self.unsaved(socket);
            self.tell_replaced(tenant, socket, pid);
        }
        Some(socket)
    }

    /// Ends the session of a socket that comes back by another: its old connection is dead and nobody has noticed yet, as when a phone changes
    /// its network. False if it may not: it is this very session's, or another user's.
    pub(super) fn replace_live(&mut self, tenant: TenantKey, pid: Sid, by: SessionKey, user: &str) -> bool {
        if let Some(socket) = self.live(tenant, pid) {
            let session = self.sockets[socket].session;
            if session == by || *self.identity(socket).user != *user {
                return false;
            }
            self.replace(session);
        }
        true
    }

    /// The socket of this tenant that has this private id.
    pub(super) fn live(&self, tenant: TenantKey, pid: Sid) -> Option<SocketKey> {
        let at_home = self.sockets.key_at(pid.slot()).filter(|socket| self.sockets[*socket].pid == Some(pid));
        match (at_home, self.tenants[tenant].pids.get(&pid)) {
            (Some(socket), _) => (self.tenant_of(socket) == tenant).then_some(socket),
            (None, Some(Pid::Live(socket))) => Some(*socket),
            (None, _) => None,
        }
    }

    /// Another connection of the same client takes over.
    fn replace(&mut self, session: SessionKey) {
        self.counts.closed(Close::Replaced);
        self.end(session, End::Lost);
    }

    /// All events after `since` in the rooms named that this session may have, oldest first, each once.
    fn missed(
        &self,
        key: TenantKey,
        session: SessionKey,
        rooms: &[SavedSeat],
        since: u64,
    ) -> Result<Vec<(u64, Rc<Event>)>, Gap> {
        let identity = self.sessions[session].identity.as_ref();
        let tenant = &self.tenants[key];
        let mut missed = Vec::new();
        for SavedSeat { room: name, filter, joined_at } in rooms {
            let since = since.max(*joined_at);
            if !self.has_past(key, name) {
                return Err(Gap::Unavailable);
            }
            let Some(room) = tenant.rooms.get(name) else {
                // Forgotten since: fine, if nothing of it was missed.
                if tenant.lost > since {
                    return Err(Gap::Expired);
                }
                continue;
            };
            if self.rooms[*room].lost > since {
                return Err(Gap::Expired);
            }
            let Some(history) = &self.rooms[*room].history else { continue };
            for entry in history.recover_sequence(since)? {
                let wanted = filter.as_ref().is_none_or(|filter| filter.wants(&entry.event));
                let admits =
                    |audience: &super::history::Audience| identity.is_some_and(|identity| audience.admits(identity));
                if wanted && entry.event.audience.as_deref().is_none_or(admits) {
                    missed.push((entry.sequence, entry.event.clone()));
                }
            }
        }
        missed.sort_unstable_by_key(|(sequence, _)| *sequence);
        missed.dedup_by_key(|(sequence, _)| *sequence);
        Ok(missed)
    }

    /// Writes events of the past to a socket. They may exceed its bound: it asked for them.
    pub(super) fn replay(&mut self, socket: SocketKey, missed: &[(u64, Rc<Event>)]) {
        let Some(state) = self.sockets.get(socket) else { return };
        let at = slot(state.session);
        let epoch = self.tenants[self.tenant_of(socket)].epoch;
        let recovery = self.settings.recovery > Duration::ZERO || state.variant == super::encode::EVENTS;
        for (sequence, event) in missed {
            self.outbox.grant(at, event.data.len() + event.meta.len() + 128);
            // Among others' rows they have no place here: what its client keeps already goes on to count.
            let token = if self.reads_rows() { Token::Unmoved } else { Token::Own };
            let position = recovery.then_some(Position { token, ..Position::new(epoch, *sequence) });
            let wrapped = self.wrapped(event);
            self.send_event(socket, &Outgoing { position, ..wrapped.outgoing(event) }, false);
        }
    }

    /// The events of one room after an offset that this socket may have, by its filter and its token.
    pub(super) fn since(
        &self,
        socket: SocketKey,
        room: RoomKey,
        epoch: Epoch,
        offset: u64,
    ) -> Result<Vec<(u64, Rc<Event>)>, Gap> {
        let room_state = &self.rooms[room];
        let Some(history) = &room_state.history else {
            return match (epoch == room_state.epoch, offset) {
                (true, 0) => Ok(Vec::new()),
                (true, _) => Err(Gap::OffsetUnknown),
                (false, _) => Err(Gap::EpochChanged),
            };
        };
        let identity = self.identity(socket);
        let filter = self.sockets[socket].seat(room).and_then(|seat| seat.filter.clone());
        let wanted = |event: &Event| {
            filter.as_ref().is_none_or(|filter| filter.wants(event))
                && event.audience.as_ref().is_none_or(|audience| audience.admits(identity))
        };
        let entries = history.recover(epoch, offset)?;
        // All of them at the place the socket has read to: with their own, a socket cut off after them would come back to a place before
        // what it had already, and get that twice. One cut off among them has no answer to its request, and asks again.
        let here = self.tenants[room_state.tenant].sequence;
        Ok(entries.filter(|entry| wanted(&entry.event)).map(|entry| (here, entry.event.clone())).collect())
    }

    /// `/events`: joins the rooms of the query, and goes on after `Last-Event-ID`. True if nothing is missing.
    pub(super) fn resume_events(&mut self, socket: SocketKey, rooms: &[Box<str>], last_event_id: Option<&str>) -> bool {
        for room in rooms.iter().take(limit::SUBSCRIBE_ITEMS_MAX) {
            let refusal = match self.access(self.identity(socket), room) == Access::Granted {
                true => self.join(socket, room, None).err(),
                false => Some(super::refusal::Refusal::Forbidden),
            };
            if let Some(refusal) = refusal {
                self.counts.up(super::count::Count::RefusedRoom);
                self.say_error(socket, refusal.code(), refusal.message());
            }
        }
        let tenant = self.tenant_of(socket);
        let Some(position) = last_event_id.and_then(Position::parse) else { return false };
        let state = &self.tenants[tenant];
        if position.epoch != state.epoch || position.sequence > state.sequence {
            return false;
        }
        let session = self.sockets[socket].session;
        // What it reads is in its request's head: it was in these rooms when it had that position, too.
        let seats: Vec<_> =
            self.saved_seats(socket).into_iter().map(|seat| SavedSeat { joined_at: 0, ..seat }).collect();
        self.settle_read(session, None, position.sequence, position.sequence);
        match self.missed(tenant, session, &seats, position.sequence) {
            Ok(missed) => {
                self.give_waiting(socket, position.sequence, None);
                self.replay(socket, &missed);
                self.given_by_recovery(socket, &missed);
                true
            }
            Err(_) => false,
        }
    }
}

/// The nodes' own events among what is given back.
fn placed(replays: &[Replay]) -> Vec<(u64, Rc<Event>)> {
    let own = replays.iter().filter_map(|replay| match replay {
        Replay::Placed { sequence, event, .. } => Some((*sequence, event.clone())),
        Replay::Event { .. } => None,
    });
    own.collect()
}
