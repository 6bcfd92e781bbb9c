//! A socket that breaks off, in the form in which servers of another make keep theirs: it may come back to them, and theirs here.
//!
//! ```text
//!  kept   record::FOREIGN (4 bytes), then the session as they write it (wire/adapter/streams.rs)
//!         ours have a record in it: who it is, its filters, and where it joined       theirs say its rooms, and what their application keeps
//! ```
//!
//! Invariants: whoever comes with a session's private id gets it where all of the session's rooms are of the tenant that the token names, and
//! none is another user's own: a server of another make knows no user, and its private id is the secret. What its application keeps with it
//! is kept here as it came, and given back so.

use crate::base::{
    id::{Sid, TenantId},
    limit::FLEET_DATA_BYTES_MAX,
    time::Instant,
};
use crate::shard::Shard;
use crate::shard::foreign::Wanted;
use crate::shard::socket::SocketKey;
use crate::shard::tenant::{Saved, SavedSeat, TenantKey};
use crate::wire::{
    adapter::{
        self,
        streams::{self, Offset, Session},
    },
    auth::Admission,
    envelope::record::{self, Record},
    json,
};
use std::borrow::Cow;

/// What was kept under a private id, to who comes with it.
pub enum Kept {
    /// With what is to be asked of the shared stream: none where the client names no row of it.
    Its(Box<Saved>, Option<Wanted>),
    Anothers,
    Unreadable,
}

/// Who comes.
pub struct Comer<'a> {
    pub pid: Sid,
    pub namespace: &'a str,
    pub offset: Option<&'a str>,
    pub admission: &'a Admission,
}

impl Shard {
    /// Reads what was kept of a socket: in the nodes' own form, or as others keep theirs.
    pub(super) fn read_kept(&self, tenant: TenantKey, comer: &Comer<'_>, bytes: &[u8]) -> Kept {
        let until = self.now.at + self.settings.recovery;
        match record::generation(bytes) {
            record::FOREIGN if self.reads_rows() => self.read_session(tenant, comer, &bytes[4..], until),
            _ => match Record::decode(bytes) {
                Ok(record) => self.read_record(tenant, comer, &record, until),
                Err(_) => Kept::Unreadable,
            },
        }
    }

    fn read_record(&self, tenant: TenantKey, comer: &Comer<'_>, record: &Record<'_>, until: Instant) -> Kept {
        let namespace = self.app.names.iter().position(|name| **name == *record.namespace);
        let is_its = record.user == &*comer.admission.user && record.namespace == comer.namespace;
        let Some(namespace) = namespace.filter(|_| is_its) else { return Kept::Anothers };
        let saved = Box::new(super::comeback::saved_of(record, namespace as u8, until));
        let wanted = self.wanted(tenant, comer, saved.sid, saved.rooms.iter());
        Kept::Its(saved, wanted)
    }

    fn read_session(&self, tenant: TenantKey, comer: &Comer<'_>, bytes: &[u8], until: Instant) -> Kept {
        let mut buffer = Vec::new();
        let Ok(session) = streams::decode_session(bytes, &mut buffer) else { return Kept::Unreadable };
        let Some(sid) = Sid::parse(&session.sid) else { return Kept::Unreadable };
        if Sid::parse(&session.pid) != Some(comer.pid) || session.data.len() > FLEET_DATA_BYTES_MAX {
            return Kept::Unreadable;
        }
        let Some(rooms) = self.rooms_of_session(tenant, comer.admission, &session) else { return Kept::Anothers };
        if let Some(record) = session.record.and_then(|bytes| Record::decode(bytes).ok()) {
            return self.read_record(tenant, comer, &record, until);
        }
        let namespace = self.app.names.iter().position(|name| **name == *comer.namespace).unwrap_or(0) as u8;
        let state = &self.tenants[tenant];
        let own = [self.tenant_room_name(tenant), self.own_room_name(&comer.admission.user)];
        let seat = |room: &str, joined_at| SavedSeat { room: room.into(), filter: None, joined_at };
        let mut seats: Vec<SavedSeat> = Vec::with_capacity(rooms.len() + own.len());
        for room in own.iter().map(|room| &**room).chain(rooms.iter().copied()) {
            if !seats.iter().any(|seat| *seat.room == *room) {
                // Where it was not, it has missed nothing.
                let is_in = rooms.contains(&room);
                seats.push(seat(room, if is_in { 0 } else { state.sequence }));
            }
        }
        let wanted = self.wanted(tenant, comer, sid, seats.iter().filter(|seat| rooms.contains(&&*seat.room)));
        let saved = Saved {
            sid,
            user: (*comer.admission.user).into(),
            namespace,
            automatic: own.len() as u8,
            rooms: seats,
            // They do not say how often it has come back. The second in which it comes is more than any life before has counted to.
            generation: u32::try_from(self.now.unix.0 / 1000).unwrap_or_default(),
            epoch: state.epoch,
            connected_at: 0,
            until,
            data: Some(session.data.into_owned().into()),
        };
        Kept::Its(Box::new(saved), wanted)
    }

    /// The rooms of a session without its own, where it may come back for this token.
    fn rooms_of_session<'a>(
        &self,
        tenant: TenantKey,
        admission: &Admission,
        session: &'a Session<'_>,
    ) -> Option<Vec<&'a str>> {
        let (id, single) = (&self.tenants[tenant].id, self.app.profile.claims.single_tenant.as_ref());
        let most = self.settings.limits.rooms_per_session as usize;
        let mut rooms = Vec::new();
        for room in session.rooms.iter().filter(|room| **room != session.sid) {
            let (of, name) = adapter::address(room, single)?;
            let is_its = self.owner_of(name).is_none_or(|owner| *owner == *admission.user);
            let is_one = self.check_room_name(name).is_ok() && (most == 0 || rooms.len() < most);
            if of != **id || !is_its || !is_one {
                return None;
            }
            rooms.push(name);
        }
        Some(rooms)
    }

    fn wanted<'a>(
        &self,
        tenant: TenantKey,
        comer: &Comer<'_>,
        sid: Sid,
        seats: impl Iterator<Item = &'a SavedSeat>,
    ) -> Option<Wanted> {
        let after = comer.offset.filter(|_| self.reads_rows()).and_then(Offset::parse)?;
        let id = &self.tenants[tenant].id;
        let rooms = seats.map(|seat| Box::from(self.fleet_name(id, &seat.room)));
        let rooms = rooms.chain([Box::from(sid.to_string())]).collect();
        Some(Wanted { namespace: comer.namespace.into(), after, rooms })
    }

    /// A socket in the others' form, around how the nodes keep it.
    pub(super) fn session_of(&self, tenant: TenantKey, socket: SocketKey, pid: Sid, record: &[u8]) -> Box<[u8]> {
        let state = &self.sockets[socket];
        let id: &TenantId = &self.tenants[tenant].id;
        let sid = state.sid.to_string();
        let rooms = state.seats.iter().map(|seat| Cow::Owned(self.fleet_name(id, &self.rooms[seat.room].name)));
        let rooms = [Cow::Owned(sid.clone())].into_iter().chain(rooms).collect();
        let data = match state.extras.as_ref().and_then(|extras| extras.data.as_deref()) {
            Some(data) => Cow::Borrowed(data),
            None => Cow::Owned(streams::pack(&self.data_of(socket))),
        };
        let pid = Cow::Owned(pid.to_string());
        let session = Session { sid: Cow::Owned(sid), pid, rooms, data, record: Some(record) };
        [&record::FOREIGN.to_be_bytes()[..], &streams::encode_session(&session)].concat().into()
    }

    /// What servers of another make find as the `data` of a socket that came to this one first: JSON.
    pub(in crate::shard) fn data_of(&self, socket: SocketKey) -> String {
        let identity = self.identity(socket);
        let mut data = b"{\"tenant\":".to_vec();
        json::write_string(&mut data, identity.tenant.as_str());
        data.extend_from_slice(b",\"user\":");
        json::write_string(&mut data, &identity.user);
        data.push(b'}');
        String::from_utf8(data).unwrap_or_default()
    }
}
