//! Socket.IO: CONNECT and what it takes to be let in, events, acknowledgements. (Socket.IO protocol, revision 5)

use super::app::{Args, Context, OnAck};
use super::count::Count;
use super::default;
use super::delivery::Deliveries;
use super::encode::{self, Outgoing};
use super::foreign::Missed;
use super::history::Position;
use super::identity::Identity;
use super::io::Output;
use super::late::LateConnect;
use super::moving::Connecting;
use super::refusal::Refusal;
use super::room::{Variant, slot};
use super::session::{Early, Kind, SessionKey};
use super::socket::{Extras, Socket, SocketKey};
use super::tenant::{Saved, Tenant, TenantKey};
use super::{Settings, Shard};
use crate::base::{
    id::{Sid, TenantId},
    limit,
    slab::Key,
};
use crate::profile::template;
use crate::wire::{
    auth::{self, Admission, Reject, Rights},
    close::Close,
    json,
    socket_io::{self, Kind as PacketKind, Packet},
};
use std::borrow::Cow;

/// Bytes of the shard's own text that are kept after an acknowledgement was written into it.
const TEXT_KEPT: usize = 256 * 1024;

/// How an earlier socket comes back.
#[derive(Default)]
pub struct Comeback<'a> {
    pub pid: Option<&'a str>,
    pub offset: Option<&'a str>,
    /// Among nodes: what the store had kept of it.
    pub claimed: Option<Claimed>,
}

/// A socket that nobody else has any more.
pub struct Claimed {
    pub pid: Sid,
    pub saved: Box<Saved>,
    /// Of the stream that is shared with servers of another make, where events are read from that.
    pub missed: Option<Box<Missed>>,
}

impl Shard {
    pub(super) fn socket_io_text(&mut self, key: SessionKey, text: &str) {
        let bytes_max = self.settings.limits.frame_bytes as usize;
        let Ok(packet) = socket_io::decode(text) else { return self.broken(key) };
        if packet.attachments > 0 && self.sessions[key].sockets.is_empty() {
            // Nobody is known yet, and nothing is kept for nobody.
            return self.broken(key);
        }
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
                    self.remove_socket(socket, false, false);
                    self.idle_if_empty(key);
                } else if self.waits_for_token_in(key, packet.namespace) {
                    self.sessions[key].early = None;
                    self.idle_if_empty(key);
                }
            }
            PacketKind::Event | PacketKind::BinaryEvent => {
                let name = packet.event().unwrap_or_default();
                let args = Args::of_event(&packet, attachments);
                let Some(socket) = self.socket_in(key, packet.namespace) else {
                    return match self.waits_for_token_in(key, packet.namespace) {
                        true => self.late_event(key, &name, packet.id, args),
                        false => self.broken(key),
                    };
                };
                self.event(socket, &name, packet.id, args);
            }
            PacketKind::Ack | PacketKind::BinaryAck => {
                let Some(socket) = self.socket_in(key, packet.namespace) else { return self.broken(key) };
                if let Some(id) = packet.id {
                    self.acked(socket, id, Args::of_array(packet.payload, attachments));
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

    fn waits_for_token_in(&self, key: SessionKey, namespace: &str) -> bool {
        self.waits_for_token(key).is_some_and(|(index, _)| *self.app.names[usize::from(index)] == *namespace)
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
            Err(reject) if self.waits_for_token(key).is_none() && self.let_token_come(key, index as u8, reject) => {
                return;
            }
            Err(reject) => return self.connect_refused(key, namespace, &Refusal::Token(reject)),
        };
        let session = &self.sessions[key];
        if let Some(identity) = &session.identity {
            if !identity.is(&admission) {
                return self.connect_refused(key, namespace, &Refusal::IdentityChanged);
            }
            if self.is_fleet() {
                return self.connect_in_fleet(key, namespace, payload, admission, None);
            }
            return self.join_namespace(key, namespace, payload, None, None);
        }
        let home = admission.tenant.home(self.settings.shards);
        let admission = Box::new(admission);
        if home != self.settings.shard {
            return self.leave(key, home, Connecting { namespace, payload, admission, late: None });
        }
        self.connect_admitted(key, namespace, payload, *admission, None);
    }

    /// Whom CONNECT is from: its own token, else the one of the request's head, else who this session is already.
    pub(super) fn admission(&self, key: SessionKey, payload: &str) -> Result<Admission, Reject> {
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
        match (session.early.as_deref(), &session.identity) {
            (Some(Early::Head(early)), _) => early.clone(),
            (_, Some(identity)) => Ok(identity.admission()),
            (_, None) => Err(Reject::Missing),
        }
    }

    /// CONNECT at its tenant's home, its token accepted.
    pub(super) fn connect_admitted(
        &mut self,
        key: SessionKey,
        namespace: &str,
        payload: &str,
        admission: Admission,
        late: Option<LateConnect>,
    ) {
        if self.is_fleet() {
            return self.connect_in_fleet(key, namespace, payload, admission, late);
        }
        match self.admit(key, admission) {
            Ok(()) => self.join_namespace(key, namespace, payload, late, None),
            Err(refusal) => self.connect_refused(key, namespace, &refusal),
        }
    }

    pub(super) fn connect_refused(&mut self, key: SessionKey, namespace: &str, refusal: &Refusal) {
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
    pub(super) fn admit(&mut self, key: SessionKey, admission: Admission) -> Result<(), Refusal> {
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
        let agent = self.presence.is_agent(&admission.rights);
        let Tenant { id, rights, .. } = &mut self.tenants[tenant];
        session.identity = Some(Box::new(Identity::new(admission, id.clone(), rights)));
        self.arm_deadline(key);
        self.user_joined(tenant, &user, agent);
        if self.is_fleet() {
            self.open_stream(tenant);
            self.begin_lease(tenant);
            self.session_counts(tenant, &user, key);
            self.hold_address(key);
        }
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

    pub(super) fn join_namespace(
        &mut self,
        key: SessionKey,
        namespace: &str,
        payload: &str,
        late: Option<LateConnect>,
        claimed: Option<Claimed>,
    ) {
        let index = self.app.names.iter().position(|name| **name == *namespace).unwrap_or(0) as u8;
        let string = |name| member(payload, name).and_then(json::string);
        let (pid, offset) = (string("pid"), string("offset"));
        let comeback = Comeback { pid: pid.as_deref(), offset: offset.as_deref(), claimed };
        let (socket, recovered) = self.add_socket(key, index, encode::variant_of(index), comeback);
        if self.app.namespaces[usize::from(index)].keeps_auth && !payload.is_empty() {
            self.sockets[socket].extras.get_or_insert_default().auth = Some(payload.into());
        }
        if let Some(late) = late {
            // It was told its id already, and no private one: it cannot be recovered by it.
            let state = &mut self.sockets[socket];
            (state.sid, state.pid) = (late.sid, None);
            self.note_stray(socket);
            default::accept_late(&mut Context::new(self, socket, late.ack));
            return self.greet(socket, recovered);
        }
        let state = &self.sockets[socket];
        let (sid, pid) = (state.sid.to_string(), state.pid.map(|pid| pid.to_string()));
        let mut packet = Vec::new();
        socket_io::connect(&mut packet, namespace, &sid, pid.as_deref());
        self.send_text(key, &packet, false);
        self.greet(socket, recovered);
    }

    /// A socket in its automatic rooms, or an earlier one in its own; and whether it is one.
    pub(super) fn add_socket(
        &mut self,
        key: SessionKey,
        namespace: u8,
        variant: Variant,
        comeback: Comeback<'_>,
    ) -> (SocketKey, bool) {
        let tenant = self.sessions[key].tenant.expect("admitted");
        let recovery = self.settings.recovery.as_micros() > 0 && self.sessions[key].kind == Kind::SocketIo;
        if recovery && comeback.pid.is_some() {
            if let Some(socket) = self.recover_socket(key, namespace, variant, comeback) {
                self.counts.up(Count::SessionsRecovered);
                self.note_stray(socket);
                return (socket, true);
            }
            self.counts.up(Count::SessionsNotRecovered);
        }
        let Settings { node, shard, .. } = self.settings;
        let connected_at = self.tenants[tenant].sequence;
        let socket = self.sockets.insert_with(|socket| Socket {
            session: key,
            sid: Sid::at_slot(node, shard, socket.index(), &mut self.chance),
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
        let own = [self.tenant_room_name(tenant), self.own_room_name(&identity.user)];
        let more = self.automatic_rooms(identity);
        for room in own.into_iter().chain(more) {
            let room = self.room_or_new(tenant, &room);
            if self.sockets[socket].seat(room).is_none() {
                self.seat(socket, room, None);
            }
        }
        self.sockets[socket].automatic = self.sockets[socket].seats.len() as u8;
        (socket, false)
    }

    /// Rooms beyond the tenant's and the user's that a socket joins by itself.
    pub(super) fn automatic_rooms(&self, identity: &Identity) -> Vec<String> {
        let profile = &self.app.profile;
        if profile.automatic.is_empty() && profile.by_role.is_empty() {
            return Vec::new();
        }
        let raw = |path: &str| match path {
            "tenant" => Some(template::quoted(identity.tenant.as_str())),
            "user" => Some(template::quoted(&identity.user)),
            _ => None,
        };
        let by_role = profile.by_role.iter().filter(|by| identity.has_role(&by.role)).flat_map(|by| &by.rooms);
        let names = profile.automatic.iter().chain(by_role).filter_map(|room| room.text(&raw).ok());
        names.take(limit::AUTOMATIC_ROOMS_MAX).collect()
    }

    /// The application's welcome.
    pub(super) fn greet(&mut self, socket: SocketKey, recovered: bool) {
        let Some(state) = self.sockets.get(socket) else { return };
        let app = self.app.clone();
        if let Some(hook) = &app.namespaces[usize::from(state.namespace)].on_connect {
            hook(&mut Context { recovered, ..Context::new(self, socket, None) });
        }
        // One that has recovered has got it.
        if !recovered {
            self.give_waiting(socket, u64::MAX, None);
        }
    }

    /// What a client keeps of where it began, among nodes that read their events from a stream shared with others: those have to be told a row.
    pub(super) fn position_at_first(&self, socket: SocketKey) -> Option<Position> {
        let tenant = self.tenant_of(socket);
        let is_asked = self.reads_rows() && encode::has_attachments(self.sockets[socket].variant);
        let user = &self.identity(socket).user;
        let waits = self.tenants[tenant].offline.as_ref().is_some_and(|offline| offline.of(user).is_some());
        let is_blind = self.tenants[tenant].stream.as_ref().is_some_and(|stream| stream.queues.blind);
        (is_asked && !self.settings.recovery.is_zero() && !waits && !is_blind).then(|| self.position_now(tenant))
    }

    /// One event of a client, to whoever handles it.
    pub(super) fn event(&mut self, socket: SocketKey, name: &str, ack: Option<u64>, args: Args<'_>) {
        let app = self.app.clone();
        let namespace = &app.namespaces[usize::from(self.sockets[socket].namespace)];
        let over_rate = self.over_rate.take();
        let mut context = Context::new(self, socket, ack);
        if let Some(wait) = over_rate {
            return context.refuse(&Refusal::RateLimited(wait));
        }
        match namespace.handlers.get(name) {
            Some(handler) => {
                handler(&mut context, args);
                self.end_what_handlers_ended();
            }
            None => {
                context.refuse(&Refusal::UnknownEvent);
                self.counts.up(Count::RefusedPacket);
            }
        }
    }

    /// Sockets and sessions that a handler ended, now that it has returned.
    pub(super) fn end_what_handlers_ended(&mut self) {
        while let Some((socket, close)) = self.endings.pop() {
            match (self.sockets.get(socket).map(|state| state.session), close) {
                (Some(session), Some(close)) => self.close(session, close),
                (Some(_), None) => self.disconnect_socket(socket),
                (None, _) => {}
            }
        }
    }

    pub(super) fn acked(&mut self, socket: SocketKey, id: u64, args: Args<'_>) {
        if Deliveries::is_number(id) {
            return self.acked_delivery(socket, id);
        }
        if self.acked_queued(socket, id) {
            return;
        }
        let Some(Extras { acks, .. }) = self.sockets[socket].extras.as_deref_mut() else { return };
        let Some(at) = acks.pending.iter().position(|(pending, _)| *pending == id) else { return };
        if let Some((_, then)) = acks.pending.remove(at) {
            then(&mut Context::new(self, socket, None), args);
        }
    }

    pub(super) fn send_with_ack(&mut self, socket: SocketKey, event: &str, args: &str, then: OnAck) {
        self.send_asking(socket, &Outgoing { name: event, args, ..Outgoing::default() }, then);
    }

    /// Queues an event for one socket, with a request for an acknowledgement.
    pub(super) fn send_asking(&mut self, socket: SocketKey, event: &Outgoing<'_>, then: OnAck) {
        let Some(state) = self.sockets.get_mut(socket) else { return };
        let acks = &mut state.extras.get_or_insert_default().acks;
        let id = acks.next;
        acks.next += 1;
        acks.pending.push_back((id, then));
        if acks.pending.len() > limit::ACKS_PENDING_MAX {
            acks.pending.pop_front();
            self.counts.up(Count::AckDropped);
        }
        self.send_event(socket, &Outgoing { id: Some(id), ..*event }, false);
    }

    /// Queues an event for one socket.
    pub(super) fn send_event(&mut self, socket: SocketKey, event: &Outgoing<'_>, ephemeral: bool) {
        let Some(state) = self.sockets.get(socket) else { return };
        let (session, variant) = (state.session, state.variant);
        let frame = event.encode(variant, &self.app.names, &mut self.text);
        let index = self.outbox.frame(frame, ephemeral);
        self.outbox.push(slot(session), index);
        if encode::has_attachments(variant) {
            event.attachments.iter().for_each(|attachment| self.send_binary(session, attachment));
        }
    }

    pub(super) fn send_ack(&mut self, socket: SocketKey, id: u64, args: &str, attachments: &[Vec<u8>]) {
        let Some(state) = self.sockets.get(socket) else { return };
        let (session, variant) = (state.session, state.variant);
        let mut packet = std::mem::take(&mut self.text);
        packet.clear();
        if variant == encode::PLAIN {
            packet.extend_from_slice(b"{\"ack\":");
            json::write_number(&mut packet, id);
            packet.extend_from_slice(b",\"data\":");
            packet.extend_from_slice(if args.is_empty() { b"null" } else { args.as_bytes() });
            packet.push(b'}');
        } else {
            let namespace = &self.app.names[usize::from(state.namespace)];
            socket_io::ack(&mut packet, namespace, id, args, attachments.len());
        }
        self.send_text(session, &packet, false);
        // A page of history was long; what follows it mostly is not.
        packet.clear();
        packet.shrink_to(TEXT_KEPT);
        self.text = packet;
        if encode::has_attachments(variant) {
            attachments.iter().for_each(|attachment| self.send_binary(session, attachment));
        }
    }

    pub(super) fn disconnect_socket(&mut self, socket: SocketKey) {
        let Some(state) = self.sockets.get(socket) else { return };
        let session = state.session;
        let mut packet = Vec::new();
        socket_io::disconnect(&mut packet, &self.app.names[usize::from(state.namespace)]);
        self.send_text(session, &packet, false);
        self.remove_socket(socket, false, false);
        self.idle_if_empty(session);
    }
}

/// The raw value of a member of a validated object.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    json::members(object).find(|(key, _)| json::string(key).is_some_and(|key| key == name)).map(|(_, value)| value)
}
