//! Sockets that may come back to any node: kept in the store while they live and for a while after, and taken by the node they come to.
//!
//! ```text
//!  a socket joins, leaves, narrows -> kept anew at the end of the turn, for as long as a lease and the time to come back
//!  its lease                       -> kept as it is, for as long again
//!  it breaks off                   -> kept for the time to come back          it says goodbye, or is sent away for good -> forgotten
//!  CONNECT with its private id     -> claimed: nobody else gets it; its rooms and their past are awaited; then it is as it was
//!                                     every other node is told, and closes the connection it may still believe in
//! ```
//!
//! What a client asks to join is answered when that is kept, so that what it was told holds wherever it comes back to; where it cannot be kept,
//! it is not let in.

use super::session::{Comer, Kept as Form};
use super::{Job, Needs};
use crate::base::{
    id::Sid,
    limit::REFRESH_BATCH_MAX,
    time::{Duration, Instant},
};
use crate::profile::room::Access;
use crate::shard::app::Context;
use crate::shard::filter::Filter;
use crate::shard::foreign::Wanted;
use crate::shard::history::{Epoch, Position};
use crate::shard::identity::Identity;
use crate::shard::io::{Open, Wire};
use crate::shard::late::LateConnect;
use crate::shard::namespace::{Claimed, member};
use crate::shard::refusal::Refusal;
use crate::shard::relay::Relay;
use crate::shard::session::{Kind, SessionKey};
use crate::shard::socket::SocketKey;
use crate::shard::tenant::{Saved, SavedSeat, Tenant, TenantKey};
use crate::shard::{Role, Shard};
use crate::wire::{
    auth::{Admission, Pattern},
    close::Close,
    envelope::{
        Body,
        record::{self, Record, Seat, Wants},
    },
    json,
};
use std::rc::Rc;

pub type Taken = Box<dyn FnOnce(&mut Shard, Option<Box<[u8]>>)>;

pub type Kept = Box<dyn FnOnce(&mut Shard, bool)>;

/// A CONNECT whose token was accepted, while it waits.
struct Connect {
    session: SessionKey,
    namespace: Box<str>,
    payload: Box<str>,
    admission: Box<Admission>,
    late: Option<LateConnect>,
}

/// The socket that comes back, and how it was kept.
struct Back {
    pid: Sid,
    saved: Box<Saved>,
    record: Box<[u8]>,
    /// Of the stream that is shared with servers of another make.
    wanted: Option<Wanted>,
}

impl Connect {
    fn member(&self, name: &str) -> Option<String> {
        member(&self.payload, name).and_then(json::string).map(Into::into)
    }
}

impl Shard {
    /// CONNECT at its tenant's home, its token accepted: answered when the tenant's stream is heard, and what the socket missed is here.
    pub(in crate::shard) fn connect_in_fleet(
        &mut self,
        session: SessionKey,
        namespace: &str,
        payload: &str,
        admission: Admission,
        late: Option<LateConnect>,
    ) {
        let tenant = self.tenant_or_new(&admission.tenant);
        let rooms = [self.tenant_room_name(tenant), self.own_room_name(&admission.user)];
        let needs = Needs { rooms: rooms.map(|room| (room.into(), false)).into(), ..Needs::default() };
        let admission = Box::new(admission);
        let connect = Connect { session, namespace: namespace.into(), payload: payload.into(), admission, late };
        self.when_ready(tenant, needs, move |shard| shard.connect_settled(tenant, connect));
    }

    fn connect_settled(&mut self, tenant: TenantKey, connect: Connect) {
        let is_new = self.sessions.get(connect.session).is_some_and(|session| session.kind == Kind::SocketIo);
        let pid = connect.member("pid").and_then(|pid| Sid::parse(&pid));
        match pid.filter(|_| is_new && connect.late.is_none() && self.settings.recovery > Duration::ZERO) {
            None => self.connect_queued(tenant, connect, None),
            Some(pid) => {
                // Its old connection is dead and nobody has noticed yet: what it was in is kept first, in the order of what is asked.
                self.replace_live(tenant, pid, connect.session, &connect.admission.user);
                let id = (*self.tenants[tenant].id).clone();
                let then: Taken = Box::new(move |shard, record| shard.connect_claimed(tenant, pid, connect, record));
                self.tenants[tenant].stream.get_or_insert_default().owed += 1;
                let ticket = self.ticket(Job::Claim { then });
                self.relay(Relay::Claim { tenant: id, pid, ticket });
            }
        }
    }

    fn connect_claimed(&mut self, tenant: TenantKey, pid: Sid, connect: Connect, record: Option<Box<[u8]>>) {
        let Some(state) = self.tenants.get_mut(tenant) else { return };
        if let Some(stream) = &mut state.stream {
            stream.owed -= 1;
        }
        self.stir(tenant);
        if !self.sessions.contains(connect.session) {
            // Whoever came for it has gone: it may come again.
            if let Some(record) = record {
                self.keep_record(connect.admission.tenant, pid, record);
            }
            return;
        }
        let Some(record) = record else { return self.connect_queued(tenant, connect, None) };
        let offset = connect.member("offset");
        let (namespace, admission) = (&*connect.namespace, &*connect.admission);
        let comer = Comer { pid, namespace, offset: offset.as_deref(), admission };
        let (saved, wanted) = match self.read_kept(tenant, &comer, &record) {
            Form::Its(saved, wanted) => (saved, wanted),
            Form::Unreadable => return self.connect_queued(tenant, connect, None),
            Form::Anothers => {
                // Not whose it is: who it is finds it as it was.
                self.keep_record(connect.admission.tenant.clone(), pid, record);
                return self.connect_queued(tenant, connect, None);
            }
        };
        let position = offset.and_then(|offset| Position::parse(&offset)).filter(|_| !self.reads_rows());
        // As far as it has read, and as the node had read on which it joined what it is in.
        let read = position.filter(|position| position.epoch == saved.epoch).map(|position| position.sequence);
        let joined = saved.rooms.iter().map(|seat| seat.joined_at).chain([saved.connected_at]);
        // What it missed is in the rooms' own past, or in the stream that is shared.
        let has_past = !self.reads_rows();
        let needs = Needs {
            rooms: saved.rooms.iter().map(|seat| ((*seat.room).into(), has_past)).collect(),
            sequence: joined.chain(read).max().filter(|_| saved.epoch == self.tenants[tenant].epoch),
            ..Needs::default()
        };
        let saved = Some(Back { pid, saved, record, wanted });
        self.when_ready(tenant, needs, move |shard| shard.connect_queued(tenant, connect, saved));
    }

    /// As [`connect_with`](Self::connect_with), once what waits for its user is here.
    fn connect_queued(&mut self, tenant: TenantKey, connect: Connect, mut back: Option<Back>) {
        let (session, user) = (connect.session, connect.admission.user.clone());
        let wanted = back.as_mut().and_then(|back| back.wanted.take());
        self.with_queue_and(tenant, &user, wanted, move |shard, is_read, missed| {
            let Some(before) = shard.sessions.get(session).map(|session| session.sockets.len()) else {
                // It has gone: it may come again.
                if let Some(Back { pid, record, .. }) = back {
                    shard.keep_record(connect.admission.tenant, pid, record);
                }
                return;
            };
            if !is_read {
                shard.begin_blind(tenant);
            }
            let id = connect.admission.tenant.clone();
            let claimed = |Back { pid, saved, record, .. }| (Claimed { pid, saved, missed }, (pid, record));
            let (claimed, record) = back.map(claimed).unzip();
            shard.connect_with(connect, claimed);
            if let Some((pid, record)) = record
                && shard.tenants.contains(tenant)
                && shard.live(tenant, pid).is_none()
            {
                // It could not be put back here. Where it still lives, as this was a late attempt of its client's, it goes on.
                shard.keep_record(id, pid, record);
            }
            if !is_read {
                let session = shard.sessions.get(session).filter(|session| session.sockets.len() > before);
                let socket = session.and_then(|session| session.sockets.last().copied());
                shard.end_blind(tenant, socket);
            }
        });
    }

    fn connect_with(&mut self, connect: Connect, claimed: Option<Claimed>) {
        let Connect { session: key, namespace, payload, admission, late } = connect;
        let Some(session) = self.sessions.get(key) else { return };
        let admitted = match &session.identity {
            Some(identity) if identity.is(&admission) => Ok(()),
            Some(_) => Err(Refusal::IdentityChanged),
            None => self.admit(key, *admission),
        };
        match admitted {
            Ok(()) => self.join_namespace(key, &namespace, &payload, late, claimed),
            Err(refusal) => self.connect_refused(key, &namespace, &refusal),
        }
    }

    /// Gives back what was claimed, as it was.
    fn keep_record(&mut self, tenant: crate::base::id::TenantId, pid: Sid, body: Box<[u8]>) {
        let ttl = self.settings.recovery;
        let generation = record::generation(&body).saturating_add(1);
        self.relay(Relay::Save { tenant, pid, generation, body, ttl });
    }

    /// A request for `/ws` or `/events`, its token accepted: answered when the tenant's stream is heard, and what it asks for is here.
    pub(in crate::shard) fn open_in_fleet(&mut self, open: Open, admission: Admission) {
        let conn = open.from.conn;
        let tenant = self.tenant_or_new(&admission.tenant);
        let rooms = [self.tenant_room_name(tenant), self.own_room_name(&admission.user)];
        let mut needs = Needs { rooms: rooms.map(|room| (room.into(), false)).into(), ..Needs::default() };
        let position = open.last_event_id.as_deref().and_then(Position::parse);
        if let Some(position) = position.filter(|_| open.wire == Wire::Events) {
            let Tenant { id, rights, .. } = &mut self.tenants[tenant];
            let identity = Identity::new(admission.clone(), id.clone(), rights);
            let own = [self.tenant_room_name(tenant), self.own_room_name(&identity.user)];
            let asked = open
                .rooms
                .iter()
                .filter(|room| self.access(&identity, room) == Access::Granted && self.check_room_name(room).is_ok());
            let asked = asked.map(|room| String::from(&**room));
            let rooms = own.into_iter().chain(self.automatic_rooms(&identity)).chain(asked);
            needs.rooms = rooms.map(|room| (room.into(), true)).collect();
            // Where its epoch is another, what comes of it is known when the stream is.
            needs.sequence = Some(position.sequence).filter(|_| self.tenants[tenant].epoch == position.epoch);
        }
        self.set_role(conn, Role::Waiting);
        let user = admission.user.clone();
        let then = move |shard: &mut Shard, is_read: bool| {
            if shard.link(conn).is_none_or(|link| link.role != Role::Waiting) {
                return shard.release(open.address, open.crowded);
            }
            shard.set_role(conn, Role::None);
            if is_read {
                return shard.open_plain(open, Some(Ok(admission)));
            }
            shard.begin_blind(tenant);
            shard.open_plain(open, Some(Ok(admission)));
            let session = match shard.link(conn).map(|link| link.role) {
                Some(Role::Session(session)) => shard.sessions.get(session),
                _ => None,
            };
            let socket = session.and_then(|session| session.sockets.last().copied());
            shard.end_blind(tenant, socket);
        };
        self.when_ready(tenant, needs, move |shard| shard.with_queue(tenant, &user, then));
    }

    /// A socket is not kept as it is.
    pub(in crate::shard) fn unsaved(&mut self, socket: SocketKey) {
        if !self.is_fleet() || self.sockets[socket].pid.is_none() || self.settings.recovery.is_zero() {
            return;
        }
        let tenant = self.tenant_of(socket);
        if let Some(stream) = &mut self.tenants[tenant].stream {
            stream.unsaved.insert(socket);
        }
        self.stir(tenant);
    }

    /// Keeps the sockets of a tenant that have changed.
    pub(super) fn save_sockets(&mut self, tenant: TenantKey) {
        let (Some(fleet), Some(stream)) = (&self.fleet, &mut self.tenants[tenant].stream) else { return };
        let ttl = fleet.settings.lease + self.settings.recovery;
        for socket in std::mem::take(&mut stream.unsaved) {
            if let Some(pid) = self.sockets.get(socket).and_then(|socket| socket.pid) {
                self.save_socket(tenant, socket, pid, ttl, false);
            }
        }
    }

    /// A socket leaves its session: it may come back to any node, or is forgotten.
    pub(in crate::shard) fn save_or_forget_in_fleet(&mut self, socket: SocketKey, pid: Sid, recoverable: bool) {
        let tenant = self.tenant_of(socket);
        self.tenants[tenant].pids.remove(&pid);
        if recoverable {
            let ttl = self.settings.recovery;
            self.save_socket(tenant, socket, pid, ttl, self.reads_rows());
        } else {
            let tenant = (*self.tenants[tenant].id).clone();
            let generation = self.generation(socket);
            self.relay(Relay::Forget { tenant, pid, generation });
        }
    }

    /// Asks for an answer that comes after what has just been kept.
    pub(super) fn ask_kept(&mut self, key: TenantKey) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        if stream.keeping.is_empty() {
            return;
        }
        let thens = std::mem::take(&mut stream.keeping);
        stream.owed += 1;
        let tenant = (*self.tenants[key].id).clone();
        let ticket = self.ticket(Job::Keep { tenant: key, thens });
        self.relay(Relay::Read { tenant, ticket, rooms: Vec::new() });
    }

    pub(super) fn kept(&mut self, key: TenantKey, thens: Vec<Kept>, kept: bool) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        if let Some(stream) = &mut tenant.stream {
            stream.owed -= 1;
        }
        for then in thens {
            then(self, kept);
            self.end_what_handlers_ended();
        }
        if self.tenants.contains(key) {
            self.stir(key);
        }
    }

    fn generation(&self, socket: SocketKey) -> u32 {
        self.sockets[socket].extras.as_ref().map_or(0, |extras| extras.generation)
    }

    /// `for_all`: in the form in which servers of another make take it, too.
    fn save_socket(&mut self, key: TenantKey, socket: SocketKey, pid: Sid, ttl: Duration, for_all: bool) {
        let state = &self.sockets[socket];
        let seats = self.saved_seats(socket);
        let record = Record {
            generation: self.generation(socket),
            sid: state.sid,
            user: &self.identity(socket).user,
            namespace: &self.app.names[usize::from(state.namespace)],
            automatic: state.automatic,
            epoch: self.tenants[key].epoch.0,
            connected_at: state.connected_at,
            seats: seats.iter().map(kept_seat).collect(),
            data: state.extras.as_ref().and_then(|extras| extras.data.as_deref()),
        };
        let mut body: Box<[u8]> = record.encode().into();
        let generation = record.generation;
        if for_all {
            body = self.session_of(key, socket, pid, &body);
        }
        let tenant = (*self.tenants[key].id).clone();
        self.relay(Relay::Save { tenant, pid, generation, body, ttl });
    }

    /// What is kept of a tenant's sockets counts for another lease.
    pub(super) fn refresh_sockets(&mut self, tenant: TenantKey) {
        let Some(fleet) = &self.fleet else { return };
        let ttl = fleet.settings.lease + self.settings.recovery;
        let pids: Vec<Sid> =
            self.sockets_of(tenant).into_iter().filter_map(|socket| self.sockets[socket].pid).collect();
        let id = (*self.tenants[tenant].id).clone();
        for pids in pids.chunks(REFRESH_BATCH_MAX) {
            self.relay(Relay::Refresh { tenant: id.clone(), pids: pids.to_vec(), ttl });
        }
    }

    /// A socket that is here has come back to another node.
    pub(super) fn replaced_elsewhere(&mut self, tenant: TenantKey, pid: Sid) {
        let Some(socket) = self.live(tenant, pid) else { return };
        // It is kept by another node now.
        self.sockets[socket].pid = None;
        self.tenants[tenant].pids.remove(&pid);
        self.close(self.sockets[socket].session, Close::Replaced);
    }

    /// As [`replaced_elsewhere`](Self::replaced_elsewhere), by a life of this generation: a word that was late is about an older life than the
    /// one that is here.
    pub(super) fn replaced_by(&mut self, tenant: TenantKey, pid: Sid, generation: u32) {
        if self.live(tenant, pid).is_some_and(|socket| self.generation(socket) < generation) {
            self.replaced_elsewhere(tenant, pid);
        }
    }

    /// A socket has come back here: whoever else believes to have it from before closes it.
    pub(in crate::shard) fn tell_replaced(&mut self, tenant: TenantKey, socket: SocketKey, pid: Sid) {
        let generation = self.generation(socket);
        self.tell_others(tenant, &Body::Replaced { pid, generation });
    }
}

impl Context<'_> {
    /// Whether another node may take this socket over.
    pub(in crate::shard) fn is_kept(&self) -> bool {
        let shard = &self.shard;
        shard.is_fleet() && !shard.settings.recovery.is_zero() && shard.sockets[self.socket].pid.is_some()
    }

    /// Does something once what this socket is in now is kept, or could not be, if the socket is still there; it owes the acknowledgement that
    /// this context owed.
    pub(in crate::shard) fn when_kept(&mut self, then: impl FnOnce(&mut Context<'_>, bool) + 'static) {
        self.shard.unsaved(self.socket);
        self.when_answered(then);
    }

    /// Does something once the store has done all that is asked of it by the end of this turn, or could not.
    pub(super) fn when_answered(&mut self, then: impl FnOnce(&mut Context<'_>, bool) + 'static) {
        let (socket, ack) = (self.socket, self.ack.take());
        let tenant = self.shard.tenant_of(socket);
        let then: Kept = Box::new(move |shard, kept| {
            if shard.sockets.contains(socket) {
                then(&mut Context::new(shard, socket, ack), kept);
            }
        });
        if let Some(stream) = &mut self.shard.tenants[tenant].stream {
            stream.keeping.push(then);
        }
        self.shard.stir(tenant);
    }
}

fn kept_seat(seat: &SavedSeat) -> Seat<'_> {
    let filter = seat.filter.as_ref().map(|filter| {
        let types = filter.types.iter().map(Pattern::as_str).collect();
        Wants { types, entities: filter.entities.iter().map(|(kind, id)| (&**kind, &**id)).collect() }
    });
    Seat { room: &seat.room, joined_at: seat.joined_at, filter }
}

pub(super) fn saved_of(record: &Record<'_>, namespace: u8, until: Instant) -> Saved {
    let filter = |Wants { types, entities }: &Wants<'_>| {
        Rc::new(Filter {
            // Patterns once, they are patterns now.
            types: types.iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
            entities: entities.iter().map(|(kind, id)| (Box::from(*kind), Box::from(*id))).collect(),
        })
    };
    let seat = |seat: &Seat<'_>| SavedSeat {
        room: seat.room.into(),
        filter: seat.filter.as_ref().map(filter),
        joined_at: seat.joined_at,
    };
    Saved {
        sid: record.sid,
        user: record.user.into(),
        namespace,
        automatic: record.automatic,
        rooms: record.seats.iter().map(seat).collect(),
        generation: record.generation,
        epoch: Epoch(record.epoch),
        connected_at: record.connected_at,
        until,
        data: record.data.map(Into::into),
    }
}
