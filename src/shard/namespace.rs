//! Socket.IO: CONNECT and what it takes to be let in, events, acknowledgements, rooms joined and left. `/ws` and `/events` are one socket
//! in the namespace `/` each, with other frames. (Socket.IO protocol, revision 5)

use super::app::{Args, Context, OnAck};
use super::count::Count;
use super::encode::{self, Outgoing};
use super::filter::Filter;
use super::history::{Epoch, Position};
use super::identity::Identity;
use super::io::{Open, Output, Wire};
use super::moving::Connecting;
use super::outbox::Frame;
use super::refusal::Refusal;
use super::room::{Member, Room, RoomKey, Variant, slot};
use super::session::{Kind, SessionKey, Transport};
use super::socket::{Extras, Socket, SocketKey};
use super::tenant::{Tenant, TenantKey};
use super::{Role, Settings, Shard};
use crate::base::{
    id::{Sid, TenantId},
    limit,
    slab::Key,
};
use crate::wire::{
    auth::{self, Admission, Reject, Rights},
    close::Close,
    http::Response,
    json,
    socket_io::{self, Kind as PacketKind, Packet},
};
use std::borrow::Cow;
use std::rc::Rc;

/// How an earlier socket comes back.
#[derive(Clone, Copy, Default)]
pub struct Comeback<'a> {
    pub pid: Option<&'a str>,
    pub offset: Option<&'a str>,
}

impl Shard {
    pub(super) fn socket_io_text(&mut self, key: SessionKey, text: &str) {
        let bytes_max = self.settings.limits.frame_bytes as usize;
        let Ok(packet) = socket_io::decode(text, &mut self.scratch) else { return self.broken(key) };
        match self.sessions[key].assembler.text(packet, bytes_max) {
            Ok(Some(packet)) => self.socket_io_packet(key, packet, &[]),
            Ok(None) => {}
            Err(_) => self.broken(key),
        }
    }

    pub(super) fn socket_io_binary(&mut self, key: SessionKey, bytes: Cow<'_, [u8]>) {
        // As many bytes as one message may have, for each part.
        let bytes_max = self.settings.limits.frame_bytes as usize * (limit::ATTACHMENTS_MAX + 1);
        match self.sessions[key].assembler.binary(bytes, bytes_max) {
            Ok(Some(assembled)) => self.socket_io_packet(key, assembled.packet(), &assembled.attachments),
            Ok(None) => {}
            Err(_) => self.broken(key),
        }
    }

    fn socket_io_packet(&mut self, key: SessionKey, packet: Packet<'_>, attachments: &[Vec<u8>]) {
        match packet.kind {
            PacketKind::Connect => self.connect(key, packet.namespace, packet.payload),
            PacketKind::ConnectError => self.broken(key),
            PacketKind::Disconnect => {
                if let Some(socket) = self.socket_in(key, packet.namespace) {
                    self.remove_socket(socket, false);
                    self.idle_if_empty(key);
                }
            }
            PacketKind::Event | PacketKind::BinaryEvent => {
                let Some(socket) = self.socket_in(key, packet.namespace) else { return self.broken(key) };
                let name = packet.event().unwrap_or_default();
                self.event(socket, &name, packet.id, Args::of_event(packet.payload, attachments));
            }
            PacketKind::Ack | PacketKind::BinaryAck => {
                let Some(socket) = self.socket_in(key, packet.namespace) else { return self.broken(key) };
                if let Some(id) = packet.id {
                    self.acked(socket, id, Args::of_ack(packet.payload, attachments));
                }
            }
        }
    }

    /// A session that left its last namespace has to join one again in time, as a new one has.
    fn idle_if_empty(&mut self, key: SessionKey) {
        if self.sessions.get(key).is_some_and(|session| session.sockets.is_empty()) {
            self.sessions[key].connect_by = self.now.at + self.settings.connect_timeout;
            self.arm_deadline(key);
        }
    }

    fn socket_in(&self, key: SessionKey, namespace: &str) -> Option<SocketKey> {
        let session = self.sessions.get(key)?;
        let index = self.app.names.iter().position(|name| **name == *namespace)? as u8;
        session.sockets.iter().copied().find(|socket| self.sockets[*socket].namespace == index)
    }

    fn connect(&mut self, key: SessionKey, namespace: &str, payload: &str) {
        let Some(index) = self.app.names.iter().position(|name| **name == *namespace) else {
            return self.connect_error(key, namespace, "Invalid namespace", None);
        };
        let session = &self.sessions[key];
        if session.sockets.iter().any(|socket| usize::from(self.sockets[*socket].namespace) == index) {
            return self.broken(key);
        }
        if session.sockets.len() >= limit::NAMESPACES_PER_SESSION_MAX {
            return self.connect_refused(key, namespace, &Refusal::TooManyItems);
        }
        let admission = match self.admission(key, payload) {
            Ok(admission) => admission,
            Err(reject) => return self.connect_refused(key, namespace, &Refusal::Token(reject)),
        };
        let session = &self.sessions[key];
        if let Some(identity) = &session.identity {
            if !identity.is(&admission) {
                return self.connect_refused(key, namespace, &Refusal::IdentityChanged);
            }
            return self.join_namespace(key, namespace, payload);
        }
        let home = admission.tenant.home(self.settings.shards);
        let admission = Box::new(admission);
        if home != self.settings.shard {
            return self.leave(key, home, Connecting { namespace, payload, admission });
        }
        self.connect_admitted(key, namespace, payload, admission);
    }

    /// Whom CONNECT is from: its own token, else the one of the request's head, else who this session is already.
    fn admission(&self, key: SessionKey, payload: &str) -> Result<Admission, Reject> {
        let session = &self.sessions[key];
        let Some(settings) = &self.settings.auth else {
            return Ok(Admission {
                tenant: TenantId::parse("default").expect("a plain name"),
                user: session.sid.to_string().into(),
                rights: Rights { permissions: ["publish".into()].into(), ..Rights::default() },
                expires_at: None,
            });
        };
        if let Some(token) = member(payload, "token") {
            let token = json::string(token).ok_or(Reject::Malformed)?;
            return auth::verify(&token, &settings.keys, &settings.policy, self.now.unix);
        }
        match (&session.early, &session.identity) {
            (Some(early), _) => (**early).clone(),
            (None, Some(identity)) => Ok(identity.admission()),
            (None, None) => Err(Reject::Missing),
        }
    }

    /// CONNECT at its tenant's home, its token accepted.
    pub(super) fn connect_admitted(&mut self, key: SessionKey, namespace: &str, payload: &str, admission: Box<Admission>) {
        match self.admit(key, admission) {
            Ok(()) => self.join_namespace(key, namespace, payload),
            Err(refusal) => self.connect_refused(key, namespace, &refusal),
        }
    }

    fn connect_refused(&mut self, key: SessionKey, namespace: &str, refusal: &Refusal) {
        match refusal {
            Refusal::Token(reject) => self.counts.refused(reject.close()),
            Refusal::TooManyConnections => self.counts.refused(Close::TooManyConnections),
            _ => self.counts.refused(Close::Forbidden),
        }
        self.out.push(Output::Refused { address: self.sessions[key].address, code: refusal.code() });
        let mut data = b"{".to_vec();
        refusal.write_members(&mut data);
        data.push(b'}');
        let data = String::from_utf8_lossy(&data).into_owned();
        self.connect_error(key, namespace, refusal.message(), Some(&data));
    }

    fn connect_error(&mut self, key: SessionKey, namespace: &str, message: &str, data: Option<&str>) {
        self.counts.up(Count::RefusedHandshake);
        let mut packet = Vec::new();
        socket_io::connect_error(&mut packet, namespace, message, data);
        self.send_text(key, &packet, false);
    }

    /// Makes a session one of its tenant's and user's, if they may have another.
    fn admit(&mut self, key: SessionKey, admission: Box<Admission>) -> Result<(), Refusal> {
        let tenant = self.tenant_or_new(&admission.tenant);
        let limits = &self.settings.limits;
        let over = |limit: u32, count: u32| limit != 0 && count >= limit;
        let users = self.user(tenant, &admission.user).map_or(0, |user| user.sessions);
        if self.sessions[key].crowded
            || over(limits.connections_per_tenant, self.tenants[tenant].sessions)
            || over(limits.connections_per_user, users)
        {
            self.tend_tenant(tenant);
            return Err(Refusal::TooManyConnections);
        }
        self.tenants[tenant].sessions += 1;
        self.counts.up(Count::Sessions);
        let session = &mut self.sessions[key];
        session.tenant = Some(tenant);
        session.early = None;
        let user = admission.user.clone();
        let Tenant { id, rights, .. } = &mut self.tenants[tenant];
        session.identity = Some(Box::new(Identity::new(*admission, id.clone(), rights)));
        self.arm_deadline(key);
        self.user_joined(tenant, &user);
        Ok(())
    }

    pub(super) fn tenant_or_new(&mut self, id: &TenantId) -> TenantKey {
        assert_eq!(id.home(self.settings.shards), self.settings.shard, "a tenant lives on its home shard only");
        if let Some(key) = self.tenant_keys.get(id) {
            return *key;
        }
        let burst = self.settings.limits.tenant_events_per_second;
        let tenant = Tenant::new(id.clone(), self.now.at, burst, &mut self.chance);
        let key = self.tenants.insert(tenant);
        self.tenant_keys.insert(id.clone(), key);
        key
    }

    fn join_namespace(&mut self, key: SessionKey, namespace: &str, payload: &str) {
        let index = self.app.names.iter().position(|name| **name == *namespace).unwrap_or(0) as u8;
        let string = |name| member(payload, name).and_then(json::string);
        let (pid, offset) = (string("pid"), string("offset"));
        let comeback = Comeback { pid: pid.as_deref(), offset: offset.as_deref() };
        let (socket, recovered) = self.add_socket(key, index, encode::variant_of(index), comeback);
        if self.app.namespaces[usize::from(index)].keeps_auth && !payload.is_empty() {
            self.sockets[socket].extras.get_or_insert_default().auth = Some(payload.into());
        }
        let state = &self.sockets[socket];
        let (sid, pid) = (state.sid.to_string(), state.pid.map(|pid| pid.to_string()));
        let mut packet = Vec::new();
        socket_io::connect(&mut packet, namespace, &sid, pid.as_deref());
        self.send_text(key, &packet, false);
        self.greet(socket, recovered);
    }

    /// A socket in its automatic rooms, or an earlier one in its own; and whether it is one.
    pub(super) fn add_socket(&mut self, key: SessionKey, namespace: u8, variant: Variant, comeback: Comeback<'_>) -> (SocketKey, bool) {
        let tenant = self.sessions[key].tenant.expect("admitted");
        let recovery = self.settings.recovery.as_micros() > 0 && self.sessions[key].kind == Kind::SocketIo;
        if recovery
            && let Some(pid) = comeback.pid
        {
            if let Some(socket) = self.recover_socket(key, namespace, variant, pid, comeback.offset) {
                self.counts.up(Count::SessionsRecovered);
                return (socket, true);
            }
            self.counts.up(Count::SessionsNotRecovered);
        }
        let Settings { node, shard, .. } = self.settings;
        let sid = Sid::new(node, shard, &mut self.chance);
        let connected_at = self.tenants[tenant].sequence;
        let socket = self.sockets.insert_with(|socket| Socket {
            session: key,
            sid,
            pid: recovery.then(|| Sid::at_slot(node, shard, socket.index(), &mut self.chance)),
            namespace,
            variant,
            automatic: 2,
            typing: 0,
            seats: Vec::with_capacity(2),
            connected_at,
            extras: None,
        });
        self.sessions[key].sockets.push(socket);
        let identity = self.sessions[key].identity.as_ref().expect("admitted");
        // In this order: the user is found by the second seat.
        for room in [format!("tenant:{}", identity.tenant), own_room(&identity.user)] {
            let room = self.room_or_new(tenant, &room);
            self.seat(socket, room, None);
        }
        (socket, false)
    }

    /// The application's welcome.
    pub(super) fn greet(&mut self, socket: SocketKey, recovered: bool) {
        let Some(state) = self.sockets.get(socket) else { return };
        let app = self.app.clone();
        if let Some(hook) = &app.namespaces[usize::from(state.namespace)].on_connect {
            hook(&mut Context { recovered, ..Context::new(self, socket, None) });
        }
    }

    /// One event of a client, to whoever handles it.
    fn event(&mut self, socket: SocketKey, name: &str, ack: Option<u64>, args: Args<'_>) {
        let app = self.app.clone();
        let namespace = &app.namespaces[usize::from(self.sockets[socket].namespace)];
        let over_rate = self.over_rate.take();
        let mut context = Context::new(self, socket, ack);
        if let Some(wait) = over_rate {
            return context.refuse(&Refusal::RateLimited(wait));
        }
        match namespace.handlers.get(name) {
            Some(handler) => handler(&mut context, args),
            None => {
                context.refuse(&Refusal::UnknownEvent);
                self.counts.up(Count::RefusedPacket);
            }
        }
    }

    fn acked(&mut self, socket: SocketKey, id: u64, args: Args<'_>) {
        let Some(Extras { acks, .. }) = self.sockets[socket].extras.as_deref_mut() else { return };
        let Some(at) = acks.pending.iter().position(|(pending, _)| *pending == id) else { return };
        if let Some((_, then)) = acks.pending.remove(at) {
            then(&mut Context::new(self, socket, None), args);
        }
    }

    pub(super) fn send_with_ack(&mut self, socket: SocketKey, event: &str, args: &str, then: OnAck) {
        let Some(state) = self.sockets.get_mut(socket) else { return };
        let acks = &mut state.extras.get_or_insert_default().acks;
        let id = acks.next;
        acks.next += 1;
        acks.pending.push_back((id, then));
        if acks.pending.len() > limit::ACKS_PENDING_MAX {
            acks.pending.pop_front();
            self.counts.up(Count::AckDropped);
        }
        self.send_event(socket, &Outgoing { name: event, args, id: Some(id), ..Outgoing::default() }, false);
    }

    /// Queues an event for one socket.
    pub(super) fn send_event(&mut self, socket: SocketKey, event: &Outgoing<'_>, ephemeral: bool) {
        let Some(state) = self.sockets.get(socket) else { return };
        let (session, variant) = (state.session, state.variant);
        let frame = event.encode(variant, &self.app.names, &mut self.text);
        let index = self.outbox.frame(frame, ephemeral);
        self.outbox.push(slot(session), index);
        for attachment in event.attachments {
            self.send_binary(session, attachment);
        }
    }

    pub(super) fn send_ack(&mut self, socket: SocketKey, id: u64, args: &str, attachments: &[Vec<u8>]) {
        let Some(state) = self.sockets.get(socket) else { return };
        let session = state.session;
        let mut packet = Vec::with_capacity(args.len() + 32);
        if state.variant == encode::PLAIN {
            packet.extend_from_slice(b"{\"ack\":");
            json::write_number(&mut packet, id);
            packet.extend_from_slice(b",\"data\":");
            packet.extend_from_slice(if args.is_empty() { b"null" } else { args.as_bytes() });
            packet.push(b'}');
        } else {
            let namespace = &self.app.names[usize::from(state.namespace)];
            socket_io::ack(&mut packet, namespace, id, &format!("[{args}]"), attachments.len());
        }
        self.send_text(session, &packet, false);
        for attachment in attachments {
            self.send_binary(session, attachment);
        }
    }

    pub(super) fn disconnect_socket(&mut self, socket: SocketKey) {
        let Some(state) = self.sockets.get(socket) else { return };
        let session = state.session;
        let mut packet = Vec::new();
        socket_io::disconnect(&mut packet, &self.app.names[usize::from(state.namespace)]);
        self.send_text(session, &packet, false);
        self.remove_socket(socket, false);
        self.idle_if_empty(session);
    }

    // Rooms.

    pub(super) fn identity(&self, socket: SocketKey) -> &Identity {
        self.sessions[self.sockets[socket].session].identity.as_ref().expect("a socket's session is admitted")
    }

    pub(super) fn tenant_of(&self, socket: SocketKey) -> TenantKey {
        self.sessions[self.sockets[socket].session].tenant.expect("a socket's session is admitted")
    }

    pub(super) fn room_key(&self, socket: SocketKey, name: &str) -> Option<RoomKey> {
        self.tenants[self.tenant_of(socket)].rooms.get(name).copied()
    }

    pub(super) fn room_or_new(&mut self, tenant: TenantKey, name: &str) -> RoomKey {
        if let Some(key) = self.tenants[tenant].rooms.get(name) {
            return *key;
        }
        let name: Rc<str> = name.into();
        let epoch = Epoch(self.chance.u64() >> 16);
        let key = self.rooms.insert(Room::new(tenant, name.clone(), epoch, self.tenants[tenant].lost, self.now.at));
        self.tenants[tenant].rooms.insert(name, key);
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
    pub(super) fn join(&mut self, socket: SocketKey, name: &str, filter: Option<Rc<Filter>>) -> Result<RoomKey, Refusal> {
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
        let room = &mut self.rooms[key];
        let state = &mut self.sockets[socket];
        assert_eq!(Some(room.tenant), self.sessions[state.session].tenant, "a room and its members are of one tenant");
        let index = room.add(Member { socket, slot: slot(state.session), variant: state.variant, narrowed: filter.is_some() });
        state.sit(key, index, joined_at, filter);
    }

    pub(super) fn narrow(&mut self, socket: SocketKey, key: RoomKey, filter: Option<Rc<Filter>>) {
        let Some(seat) = self.sockets[socket].seat_mut(key) else { return };
        let room = &mut self.rooms[key];
        let member = &mut room.members[seat.index as usize];
        room.narrowed = room.narrowed - u32::from(member.narrowed) + u32::from(filter.is_some());
        member.narrowed = filter.is_some();
        seat.filter = filter;
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
        self.vacate(seat.room, seat.index);
        true
    }

    /// Empties a member's place in a room, whose last member takes it.
    pub(super) fn vacate(&mut self, key: RoomKey, index: u32) {
        let room = &mut self.rooms[key];
        if let Some(moved) = room.remove(index, self.now.at)
            && let Some(seat) = self.sockets[moved.socket].seat_mut(key)
        {
            seat.index = index;
        }
        self.tend_room(key);
    }

    /// Forgets a room that nobody needs, or sees to it that somebody looks again.
    pub(super) fn tend_room(&mut self, key: RoomKey) {
        let room = &self.rooms[key];
        if room.is_vacant() {
            if room.top() == 0 {
                self.drop_room(key);
            } else if !room.sweeping {
                self.sweep_room(key);
            }
        }
    }

    // `/ws` and `/events`.

    pub(super) fn open_plain(&mut self, open: Open, early: Option<Result<Admission, Reject>>) {
        let conn = open.from.conn;
        let websocket = open.wire == Wire::Plain;
        let (kind, transport, variant) = match websocket {
            true => (Kind::Plain, Transport::WebSocket(conn), encode::PLAIN),
            false => (Kind::Events, Transport::Stream(conn), encode::EVENTS),
        };
        let admission = match (early, &self.settings.auth) {
            (Some(Ok(admission)), _) => Ok(admission),
            (Some(Err(reject)), _) => Err(reject.close()),
            (None, Some(_)) => Err(Close::TokenMissing),
            (None, None) => {
                let key = self.insert_session(kind, transport.clone(), &open);
                let admission = self.admission(key, "");
                return self.open_admitted(key, open, variant, admission.expect("everyone is welcome"));
            }
        };
        match admission {
            Ok(admission) => {
                let key = self.insert_session(kind, transport, &open);
                self.open_admitted(key, open, variant, admission);
            }
            Err(close) if websocket => {
                // A browser shows its program nothing of a refused upgrade, but the close frame it does.
                self.counts.refused(close);
                self.counts.up(Count::RefusedHandshake);
                self.out.push(Output::Refused { address: open.address, code: close.row().code });
                self.release(open.address, open.crowded);
                self.out.push(Output::Upgrade { conn });
                self.out.push(Output::Close { conn, rest: Vec::new(), number: close.row().number, text: close.row().json });
            }
            Err(close) => {
                self.counts.refused(close);
                self.refuse(&open, Response::json(401, close.row().json.as_bytes()));
            }
        }
    }

    fn open_admitted(&mut self, key: SessionKey, open: Open, variant: Variant, admission: Admission) {
        let conn = open.from.conn;
        if let Err(refusal) = self.admit(key, Box::new(admission)) {
            self.set_role(conn, Role::Session(key));
            debug_assert_eq!(refusal, Refusal::TooManyConnections);
            if open.wire == Wire::Plain {
                self.out.push(Output::Upgrade { conn });
                return self.close(key, Close::TooManyConnections);
            }
            self.set_role(conn, Role::None);
            self.end(key, super::session::End::Broken);
            // Its end has released its address already.
            let open = Open { crowded: true, ..open };
            return self.refuse(&open, Response::json(429, Close::TooManyConnections.row().json.as_bytes()));
        }
        self.set_role(conn, Role::Session(key));
        self.out.push(if open.wire == Wire::Plain { Output::Upgrade { conn } } else { Output::Stream { conn } });
        if open.wire == Wire::Events {
            // Some proxies hold a response back until it has a body.
            let index = self.outbox.frame(Frame::raw(b": open\n\n"), false);
            self.outbox.push(slot(key), index);
        }
        let (socket, _) = self.add_socket(key, 0, variant, Comeback::default());
        let recovered = match open.wire {
            Wire::Events => self.resume_events(socket, &open.rooms, open.last_event_id.as_deref()),
            _ => false,
        };
        self.greet(socket, recovered);
        if open.wire == Wire::Events {
            // A reader that never gets an event has a place to come back to, too; and one that was not given what it missed does not
            // come back with a place before that.
            let position = Position { epoch: self.tenants[self.tenant_of(socket)].epoch, sequence: self.tenants[self.tenant_of(socket)].sequence };
            let index = self.outbox.frame(Frame::raw(format!("id: {position}\n\n").as_bytes()), false);
            self.outbox.push(slot(key), index);
        }
    }

    /// `{"event":"subscribe","data":{...},"id":1}`, or `{"ack":1,"data":...}`.
    pub(super) fn plain_text(&mut self, key: SessionKey, text: &str) {
        if !self.paced(key) {
            return;
        }
        if !json::validate(text, &mut self.scratch) {
            return self.broken(key);
        }
        let Some(socket) = self.sessions.get(key).and_then(|session| session.sockets.first().copied()) else { return };
        let number = |raw: &str| raw.parse::<u64>().ok();
        let id = match member(text, "id").map(number) {
            Some(None) => return self.broken(key),
            id => id.flatten(),
        };
        let data = member(text, "data").unwrap_or("");
        if let Some(ack) = member(text, "ack").and_then(number) {
            return self.acked(socket, ack, Args::of_value(data));
        }
        match member(text, "event").and_then(json::string) {
            Some(name) => self.event(socket, &name, id, Args::of_value(data)),
            None => self.broken(key),
        }
    }
}

/// The room that every socket of a user is in.
pub(super) fn own_room(user: &str) -> String {
    format!("user:{user}")
}

/// The raw value of a member of a validated object.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    json::members(object).find(|(key, _)| json::string(key).is_some_and(|key| key == name)).map(|(_, value)| value)
}
