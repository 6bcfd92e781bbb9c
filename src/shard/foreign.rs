//! What others than this server's own nodes say through Redis: servers of a Socket.IO fleet, emitters, and who publishes to plain channels.
//!
//! ```text
//!  Event, Join, Leave, Disconnect    every node hears it: each does it to its own sockets, and tells nobody
//!  Fetch, Rooms, an asking Event     as well, and answers: Relay::Answer by the ticket
//!  Read, an Event of a row           the nodes read their own events from the same stream, see fleet/rows.rs
//!  Publish                           every node has it appended under the same id, of which the store makes one event
//! ```
//!
//! Invariants: a tenant's sockets are reached by what names the tenant, and by their own ids; a socket is put into rooms of its tenant alone;
//! what the catalogue says of who may receive an event holds here too.

mod past;
mod question;

pub use past::{Missed, Past, Replay, Wanted};

use super::Shard;
use super::count::Count;
use super::delivery::Then;
use super::encode::{self, Outgoing};
use super::fleet::{self, event_of};
use super::history::{Position, Token};
use super::outbox::{Frame, FrameIndex};
use super::publish::{self, Draft};
use super::relay::Ticket;
use super::room::{self, Member, RoomKey, Variant};
use super::session::Kind;
use super::socket::SocketKey;
use super::tenant::TenantKey;
use crate::base::{
    id::{Sid, TenantId},
    slab::Key,
};
use crate::profile::{Profile, catalogue::Entered, channel::To};
use crate::wire::{
    adapter::{self, Payload, streams::Offset},
    close::Close,
    envelope::{self, Post},
    json,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is wanted of this shard.
#[derive(Debug)]
pub enum Foreign {
    /// An event, not stored; with a ticket its receivers are to acknowledge it.
    Event {
        to: Whom,
        event: Box<str>,
        /// As [`Payload`]: what clients get.
        args: Payload<'static>,
        /// It may be lost.
        volatile: bool,
        ask: Option<Ticket>,
        /// Its place among the nodes' own events, where they are read from the same stream.
        row: Option<Offset>,
    },
    /// So far the fleet's stream has been read: nothing in it is on its way here.
    Read {
        row: Offset,
    },
    /// The shared stream is read from behind this row on; what came behind it may be no more.
    Anew {
        row: Offset,
    },
    Join {
        to: Whom,
        rooms: Vec<(TenantId, Box<str>)>,
    },
    Leave {
        to: Whom,
        rooms: Vec<(TenantId, Box<str>)>,
    },
    /// The sockets leave the namespace; with `close`, their connections end.
    Disconnect {
        to: Whom,
        close: bool,
    },
    /// Which sockets there are.
    Fetch {
        to: Whom,
        ticket: Ticket,
    },
    /// Which rooms have members.
    Rooms {
        namespace: Box<str>,
        ticket: Ticket,
    },
    Publish(Box<Publish>),
}

/// Sockets of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whom {
    pub namespace: Box<str>,
    pub tenants: Vec<(TenantId, Share)>,
    /// By their ids, of whatever tenant.
    pub sockets: Vec<Sid>,
    pub except: Vec<Sid>,
}

/// One tenant's part: see [`adapter::Part`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub rooms: Vec<Box<str>>,
    pub all: bool,
    pub except: Vec<Box<str>>,
}

/// What a plain channel carried.
#[derive(Debug)]
pub struct Publish {
    pub tenant: TenantId,
    pub to: To,
    pub kind: Box<str>,
    /// JSON.
    pub data: Box<str>,
    /// The same on every node.
    pub id: Box<str>,
    /// No other node had it before: what is not stored is published by this one alone.
    pub is_first: bool,
}

/// What a shard answers.
#[derive(Debug)]
pub enum Answer {
    /// Sockets that got an event and are to acknowledge it.
    Count(u64),
    /// One of them has: its first argument.
    Ack(Payload<'static>),
    Sockets(Vec<adapter::Socket<'static>>),
    Rooms(Vec<Box<str>>),
}

impl Foreign {
    pub fn bytes(&self) -> usize {
        size_of::<Foreign>()
            + match self {
                Foreign::Event { to, event, args, .. } => to.bytes() + event.len() + payload_bytes(args),
                Foreign::Join { to, rooms } | Foreign::Leave { to, rooms } => {
                    to.bytes()
                        + rooms.iter().map(|(tenant, room)| 32 + tenant.as_str().len() + room.len()).sum::<usize>()
                }
                Foreign::Disconnect { to, .. } | Foreign::Fetch { to, .. } => to.bytes(),
                Foreign::Rooms { namespace, .. } => namespace.len(),
                Foreign::Read { .. } | Foreign::Anew { .. } => 0,
                Foreign::Publish(publish) => size_of::<Publish>() + publish.kind.len() + publish.data.len(),
            }
    }
}

impl Whom {
    fn bytes(&self) -> usize {
        let names = |list: &[Box<str>]| list.iter().map(|name| 16 + name.len()).sum::<usize>();
        let shares = self.tenants.iter();
        let shares = shares.map(|(tenant, share)| {
            size_of::<Share>() + tenant.as_str().len() + names(&share.rooms) + names(&share.except)
        });
        shares.sum::<usize>() + size_of_val(&self.sockets[..]) + size_of_val(&self.except[..])
    }
}

impl Answer {
    pub fn bytes(&self) -> usize {
        size_of::<Answer>()
            + match self {
                Answer::Count(_) => 0,
                Answer::Ack(payload) => payload_bytes(payload),
                Answer::Sockets(sockets) => sockets
                    .iter()
                    .map(|socket| {
                        256 + socket.handshake.len() + socket.rooms.iter().map(|room| 24 + room.len()).sum::<usize>()
                    })
                    .sum(),
                Answer::Rooms(rooms) => rooms.iter().map(|room| 16 + room.len()).sum(),
            }
    }
}

fn payload_bytes(payload: &Payload<'_>) -> usize {
    payload.json.len() + payload.attachments.iter().map(|part| 24 + part.len()).sum::<usize>()
}

/// An event of ours as clients get it: name, and arguments. None: it is for some of a room only, and others cannot tell for whom.
pub fn as_sent(profile: &Profile, post: &Post<'_>, place: Option<&envelope::Place>) -> Option<(String, String)> {
    if !post.audience.is_empty() {
        return None;
    }
    let event = event_of(post, place);
    let wrapped = publish::wrapped(profile.delivery, &event);
    let sent = wrapped.outgoing(&event);
    let parts: Vec<&str> = [sent.args, sent.meta].into_iter().filter(|part| !part.is_empty()).collect();
    Some((sent.name.to_owned(), parts.join(",")))
}

/// Whether somebody who is meant by a room of theirs wants it.
type Wants<'a> = &'a dyn Fn(&Shard, RoomKey, &Member) -> bool;

impl Shard {
    pub(super) fn foreign(&mut self, foreign: Foreign) {
        match foreign {
            Foreign::Read { row } => self.read_to(row),
            Foreign::Anew { row } => self.read_anew(row),
            Foreign::Event { to, event, args, volatile, ask: None, row: Some(row) } => {
                self.event_in_row(to, fleet::Row { event, args, volatile, row });
            }
            Foreign::Event { to, event, args, volatile, ask, row: _ } => {
                let count = self.foreign_event(&to, &event, &args, volatile, ask, None);
                if let Some(ticket) = ask {
                    self.answer_foreign(ticket, Answer::Count(count));
                }
            }
            Foreign::Join { to, rooms } => {
                for (tenant, sockets) in self.meant(&to, &|_, _, _| true) {
                    for room in self.rooms_of(tenant, &rooms) {
                        for socket in &sockets {
                            // One that may be in no more rooms, or a name that is none: as for a client.
                            if self.join(*socket, room, None).is_err() {
                                self.counts.up(Count::RefusedRoom);
                            }
                        }
                    }
                }
            }
            Foreign::Leave { to, rooms } => {
                for (tenant, sockets) in self.meant(&to, &|_, _, _| true) {
                    for room in self.rooms_of(tenant, &rooms) {
                        for socket in &sockets {
                            self.leave_room(*socket, room);
                        }
                    }
                }
            }
            Foreign::Disconnect { to, close } => {
                for socket in self.meant(&to, &|_, _, _| true).into_values().flatten() {
                    let Some(state) = self.sockets.get(socket) else { continue };
                    let session = state.session;
                    match self.sessions[session].kind {
                        Kind::SocketIo if !close => self.disconnect_socket(socket),
                        _ => self.close(session, Close::Kicked),
                    }
                }
            }
            Foreign::Fetch { to, ticket } => self.foreign_fetch(&to, ticket),
            Foreign::Rooms { namespace, ticket } => self.foreign_rooms(&namespace, ticket),
            Foreign::Publish(publish) => self.foreign_publish(&publish),
        }
    }

    /// Those of a list that are a tenant's.
    fn rooms_of<'a>(&self, tenant: TenantKey, rooms: &'a [(TenantId, Box<str>)]) -> Vec<&'a str> {
        let Some(tenant) = self.tenants.get(tenant) else { return Vec::new() };
        rooms.iter().filter(|(of, _)| *of == *tenant.id).map(|(_, room)| &**room).collect()
    }

    /// The tenants of this shard that are meant.
    pub(super) fn tenants_of(&self, to: &Whom) -> BTreeSet<TenantKey> {
        let named = to.tenants.iter().filter_map(|(tenant, _)| self.tenant_keys.get(tenant).copied());
        let of = |sid: &Sid| self.member_by_sid(*sid).map(|(room, _)| self.rooms[room].tenant);
        named.chain(to.sockets.iter().filter_map(of)).collect()
    }

    /// One tenant's part of who is meant.
    pub(super) fn part_of(&self, to: &Whom, key: TenantKey) -> Whom {
        let id = &self.tenants[key].id;
        let is_of = |sid: &&Sid| self.member_by_sid(**sid).is_some_and(|(room, _)| self.rooms[room].tenant == key);
        Whom {
            namespace: to.namespace.clone(),
            tenants: to.tenants.iter().filter(|(tenant, _)| *tenant == **id).cloned().collect(),
            sockets: to.sockets.iter().filter(is_of).copied().collect(),
            except: to.except.clone(),
        }
    }

    /// The sockets that are meant, tenant by tenant.
    fn meant(&self, to: &Whom, wants: Wants<'_>) -> BTreeMap<TenantKey, BTreeSet<SocketKey>> {
        let mut meant: BTreeMap<TenantKey, BTreeSet<SocketKey>> = BTreeMap::new();
        let Some(index) = self.app.names.iter().position(|name| *name == to.namespace) else { return meant };
        let of = |variant: Variant| {
            // `/ws` and `/events` are in the first namespace.
            variant == encode::variant_of(index as u8) || index == 0 && !encode::has_attachments(variant)
        };
        let fits = |room: RoomKey, member: &Member| of(member.variant) && wants(self, room, member);
        for (tenant, share) in &to.tenants {
            let Some(&key) = self.tenant_keys.get(tenant) else { continue };
            let state = &self.tenants[key];
            let sockets = meant.entry(key).or_default();
            let everyone = if share.all { self.tenant_room(key) } else { None };
            for room in share.rooms.iter().filter_map(|name| state.rooms.get(&**name)).copied().chain(everyone) {
                let members = self.rooms[room].members.iter().filter(|member| fits(room, member));
                sockets.extend(members.map(|member| member.socket));
            }
            let named = share.rooms.iter().filter_map(|name| self.member_by_name(name));
            let own = named.filter(|(room, member)| self.rooms[*room].tenant == key && fits(*room, member));
            sockets.extend(own.map(|(_, member)| member.socket));
        }
        for (room, member) in to.sockets.iter().filter_map(|sid| self.member_by_sid(*sid)) {
            if fits(room, &member) {
                meant.entry(self.rooms[room].tenant).or_default().insert(member.socket);
            }
        }
        for (tenant, share) in &to.tenants {
            let Some(&key) = self.tenant_keys.get(tenant) else { continue };
            let Some(sockets) = meant.get_mut(&key) else { continue };
            for name in &share.except {
                if let Some(room) = self.tenants[key].rooms.get(&**name) {
                    for member in &self.rooms[*room].members {
                        sockets.remove(&member.socket);
                    }
                }
                if let Some((_, member)) = self.member_by_name(name) {
                    sockets.remove(&member.socket);
                }
            }
        }
        for (room, member) in to.except.iter().filter_map(|sid| self.member_by_sid(*sid)) {
            if let Some(sockets) = meant.get_mut(&self.rooms[room].tenant) {
                sockets.remove(&member.socket);
            }
        }
        meant
    }

    fn member_by_name(&self, name: &str) -> Option<(RoomKey, Member)> {
        self.member_by_sid(Sid::parse(name)?)
    }

    /// The socket with this id, as a member of its tenant's room.
    fn member_by_sid(&self, sid: Sid) -> Option<(RoomKey, Member)> {
        let stray = || self.fleet.as_ref().and_then(|fleet| fleet.strays.get(&sid).copied());
        let is_it = |socket: &SocketKey| self.sockets.get(*socket).is_some_and(|state| state.sid == sid);
        let socket = self.sockets.key_at(sid.slot()).filter(is_it).or_else(|| stray().filter(is_it))?;
        let seat = self.sockets[socket].seats.first()?;
        Some((seat.room, self.rooms[seat.room].members[seat.index as usize]))
    }

    /// A socket has come with an id that does not say where it is.
    pub(super) fn note_stray(&mut self, socket: SocketKey) {
        let sid = self.sockets[socket].sid;
        if sid.slot() != socket.index()
            && let Some(fleet) = &mut self.fleet
        {
            fleet.strays.insert(sid, socket);
        }
    }

    pub(super) fn forget_stray(&mut self, socket: SocketKey) {
        let sid = self.sockets[socket].sid;
        if let Some(fleet) = &mut self.fleet
            && fleet.strays.get(&sid) == Some(&socket)
        {
            fleet.strays.remove(&sid);
        }
    }

    /// Sends an event to whom it is for; how many are to acknowledge it.
    pub(super) fn foreign_event(
        &mut self,
        to: &Whom,
        name: &str,
        args: &Payload<'_>,
        volatile: bool,
        ask: Option<Ticket>,
        row: Option<Offset>,
    ) -> u64 {
        let list = format!("[{}]", args.json);
        let several = json::elements(&list).nth(1).is_some();
        let Some(known) = self.known(name, args) else {
            self.counts.up(Count::ForeignRefused);
            return 0;
        };
        let wants = |shard: &Shard, room: RoomKey, member: &Member| {
            let event = known.for_room(shard, &shard.rooms[room].name);
            let is_for_all = event.audience.is_none() && !member.narrowed;
            is_for_all || room::wants(&shard.sockets, &shard.sessions, room, member, event)
        };
        let meant = self.meant(to, &wants);
        let mut asked = 0;
        for (tenant, sockets) in meant {
            self.counts.up(Count::ForeignEvents);
            let mut position = self.guard(tenant, &args.json);
            if let Some(row) = row {
                self.came_in_row(tenant, row);
                let here = self.position_now(tenant);
                position = Some(Position { token: Token::Row(row), ..here }).filter(|_| !volatile).or(position);
            }
            let outgoing =
                Outgoing { name, args: &args.json, position, attachments: &args.attachments, ..Outgoing::default() };
            // Where there is one value, several are a list.
            let single = Outgoing { args: if several { &list } else { &args.json }, ..outgoing };
            if let Some(ticket) = ask {
                let (can, cannot): (Vec<_>, Vec<_>) =
                    sockets.into_iter().partition(|socket| self.sockets[*socket].variant != encode::EVENTS);
                asked += can.len() as u64;
                for socket in can {
                    let form = if self.sockets[socket].variant == encode::PLAIN { single } else { outgoing };
                    self.send_asking(socket, &Outgoing { position: None, ..form }, question::on_ack(ticket));
                }
                self.send_foreign(cannot, &outgoing, &single, volatile);
            } else {
                self.send_foreign(sockets, &outgoing, &single, volatile);
            }
        }
        asked
    }

    /// As [`send_to`](Self::send_to), to sockets of one tenant: each form is encoded once.
    fn send_foreign(
        &mut self,
        sockets: impl IntoIterator<Item = SocketKey>,
        outgoing: &Outgoing<'_>,
        single: &Outgoing<'_>,
        volatile: bool,
    ) {
        let Shard { sockets: all, outbox, app, text, .. } = self;
        let mut frames: BTreeMap<Variant, FrameIndex> = BTreeMap::new();
        // One namespace, `/ws`, `/events`, and what follows.
        outbox.reserve(3 + outgoing.attachments.len());
        // A packet whose binary parts do not follow would break the connection.
        let ephemeral = volatile && outgoing.attachments.is_empty();
        let mut parts: Vec<FrameIndex> = Vec::new();
        for socket in sockets {
            let Some(state) = all.get(socket) else { continue };
            let (variant, slot) = (state.variant, room::slot(state.session));
            let follows = encode::has_attachments(variant);
            let frame = *frames.entry(variant).or_insert_with(|| {
                let form = if follows { outgoing } else { single };
                outbox.frame(form.encode(variant, &app.names, text), ephemeral)
            });
            outbox.push(slot, frame);
            if follows && !outgoing.attachments.is_empty() {
                if parts.is_empty() {
                    let binary = outgoing.attachments.iter();
                    parts = binary.map(|part| outbox.frame(Frame::binary(part), false)).collect();
                }
                parts.iter().for_each(|part| outbox.push(slot, *part));
            }
        }
    }

    fn foreign_publish(&mut self, heard: &Publish) {
        let Publish { tenant, to, kind, data, id, is_first } = heard;
        if tenant.home(self.settings.shards) != self.settings.shard {
            return;
        }
        let app = self.app.clone();
        let is_kept = !matches!(app.profile.catalogue.of(kind), Entered::Known(entry) if entry.ephemeral);
        if !is_kept && !is_first {
            return;
        }
        let room = match to {
            To::User(user) => self.own_room_name(user),
            To::Room(room) => room.clone(),
        };
        let key = self.tenant_or_new(tenant);
        let draft = Draft { id: Some(id), event: kind, room: &room, data, ..Draft::default() };
        let published = self.check_room_name(&room).and_then(|()| self.publish(key, &draft, Then::Nobody));
        if published.is_err() {
            self.counts.up(Count::ForeignUnpublished);
        }
        if self.tenants.contains(key) {
            self.tend_tenant(key);
        }
    }
}
