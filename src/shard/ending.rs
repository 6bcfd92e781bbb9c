//! How sessions and sockets end, and what is left of them.

use super::count::Count;
use super::encode::Outgoing;
use super::farewell::Upgrading;
use super::io::Output;
use super::outbox::Frame;
use super::room::slot;
use super::session::{End, Kind, SessionKey, Transport};
use super::socket::SocketKey;
use super::{Role, Shard, Timer};
use crate::base::{limit, time::Duration};
use crate::wire::{close::Close, json, socket_io};
use std::collections::VecDeque;
use std::rc::Rc;

impl Shard {
    /// Closes a session for a reason of the table: it is told, then its transport is closed.
    pub(super) fn close(&mut self, key: SessionKey, close: Close) {
        let Some(session) = self.sessions.get(key) else { return };
        self.counts.closed(close);
        self.out.push(Output::Refused { address: session.address, code: close.row().code });
        // Whoever does not read would not read this either.
        if close != Close::SlowConsumer {
            match session.kind {
                Kind::SocketIo => {
                    for socket in session.sockets.clone() {
                        self.say_error(socket, close.row().code, close.row().message);
                        if !close.row().retry {
                            self.send_disconnect(socket);
                        }
                    }
                }
                Kind::Events => {
                    let text = format!("event: error\ndata: {}\n\n", close.row().json);
                    let index = self.outbox.frame(Frame::raw(text.as_bytes()), false);
                    self.outbox.push(slot(key), index);
                }
                Kind::Raw | Kind::Bare | Kind::Plain => {}
            }
        }
        self.end(key, End::Close(close));
    }

    /// `error {code, message}` to one socket.
    pub(super) fn say_error(&mut self, socket: SocketKey, code: &str, message: &str) {
        let mut args = b"{\"code\":".to_vec();
        json::write_string(&mut args, code);
        args.extend_from_slice(b",\"message\":");
        json::write_string(&mut args, message);
        args.push(b'}');
        let args = String::from_utf8_lossy(&args).into_owned();
        self.send_event(socket, &Outgoing { name: "error", args: &args, ..Outgoing::default() }, false);
    }

    fn send_disconnect(&mut self, socket: SocketKey) {
        let Some(state) = self.sockets.get(socket) else { return };
        let session = state.session;
        let mut packet = Vec::new();
        socket_io::disconnect(&mut packet, &self.app.names[usize::from(state.namespace)]);
        self.send_text(session, &packet, false);
    }

    /// Ends a session: its sockets leave their rooms (and may come back where `end` allows it), its transport is closed.
    pub(super) fn end(&mut self, key: SessionKey, end: End) {
        if !self.sessions.contains(key) {
            return;
        }
        let lingers = self.lingers(key, end);
        if end.is_silent() {
            self.doubt(key);
        }
        for socket in self.sessions[key].sockets.clone().into_iter().rev() {
            self.remove_socket(socket, end.recoverable(), lingers.is_some());
        }
        self.discharge(key, lingers);
        let session = self.sessions.remove(key).expect("looked at above");
        let (number, text) = match end {
            End::Close(close) => (close.row().number, close.row().json),
            End::Gone | End::Lost | End::Left => (1000, ""),
            End::PingTimeout => (1001, "ping timeout"),
            End::Idle => (1000, "no namespace was joined in time"),
            End::Broken => (1002, ""),
        };
        match session.transport {
            Transport::WebSocket(conn) | Transport::Stream(conn) => {
                let slow = end == End::Close(Close::SlowConsumer);
                let frames = if slow { self.outbox.take_begun(slot(key)) } else { self.outbox.take_bytes(slot(key)) };
                let mut rest = self.take_link_bytes(conn);
                rest.extend(frames);
                if self.link(conn).is_some_and(|link| link.role == Role::Session(key)) {
                    self.set_role(conn, Role::None);
                    self.out.push(Output::Close { conn, rest, number, text });
                }
                if self.sids.remove(&session.sid).is_some() {
                    self.forget_elsewhere(session.sid);
                }
            }
            Transport::Polling(polling) => {
                // Who broke the protocol is not waited for.
                let told = matches!(end, End::Close(close) if close != Close::ProtocolError);
                // A client that was told `3probe` may have changed over already, and not poll again.
                let upgrading = polling.probe.filter(|_| polling.probed && told);
                if let Some(conn) = polling.probe
                    && upgrading.is_none()
                {
                    self.drop_conn(conn, number, text);
                }
                self.sids.remove(&session.sid);
                let mut payloads = VecDeque::new();
                while let Some(payload) = self.outbox.take_poll(slot(key)).filter(|_| told) {
                    payloads.push_back(payload.into());
                }
                let left = match polling.waiting {
                    // The client closes it: it gets its poll back, as the Node server gives it.
                    Some(to) if end == End::Left => {
                        self.answer_poll(to, b"6".to_vec());
                        false
                    }
                    None if !told => false,
                    waiting => {
                        let upgrading = upgrading.map(|conn| Upgrading { conn, number, text });
                        self.begin_farewell(session.sid, waiting, payloads, upgrading)
                    }
                };
                if !left {
                    self.forget_elsewhere(session.sid);
                }
            }
        }
        self.outbox.close(slot(key));
        self.release(session.address, session.crowded);
    }

    /// Takes a session off its tenant's and user's accounts.
    fn discharge(&mut self, key: SessionKey, lingers: Option<Box<[Rc<str>]>>) {
        let session = &mut self.sessions[key];
        if matches!(session.kind, Kind::Raw | Kind::Bare) {
            self.counts.down(Count::Sessions);
            return;
        }
        let (Some(tenant), Some(identity)) = (session.tenant.take(), session.identity.take()) else { return };
        let seen = session.last_heard;
        self.counts.down(Count::Sessions);
        self.let_address_go(key);
        self.user_left(tenant, &identity.user, seen, lingers);
        self.queue_left(tenant, &identity.user);
        self.tenants[tenant].sessions -= 1;
        self.tend_tenant(tenant);
    }

    /// Removes a socket from its rooms and its session; `lingers`: its user stays in them for its grace.
    pub(super) fn remove_socket(&mut self, key: SocketKey, recoverable: bool, lingers: bool) {
        let Some(socket) = self.sockets.get(key) else { return };
        let session = socket.session;
        let app = self.app.clone();
        if let Some(handler) = &app.namespaces[usize::from(socket.namespace)].on_disconnect {
            handler(&mut super::app::Context::new(self, key, None));
        }
        self.stop_typing_everywhere(key);
        self.forget_stray(key);
        self.save_or_forget(key, recoverable);
        self.seats_altered(key);
        while let Some(seat) = self.sockets[key].seats.pop() {
            self.vacate(seat.room, seat.index, lingers);
        }
        self.sockets.remove(key);
        if let Some(session) = self.sessions.get_mut(session) {
            session.sockets.retain(|socket| *socket != key);
        }
    }

    /// A room without members is kept while its history, or somebody's place in it, may be asked for.
    pub(super) fn sweep_room(&mut self, key: super::room::RoomKey) {
        let among_nodes = self.is_fleet();
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.sweeping = false;
        let keep = self.settings.history.of(&room.name);
        let mut again = None;
        if let Some(history) = &mut room.history {
            history.expire(self.now.at, keep);
            again = history.entries().next().map(|oldest| oldest.at + keep.ttl + Duration::from_millis(10));
        }
        if among_nodes && room.is_vacant() {
            return self.drop_room(key);
        }
        if again.is_none() && room.is_vacant() {
            let until = room.empty_since + limit::ROOM_LINGER;
            if room.top() == 0 || until <= self.now.at {
                return self.drop_room(key);
            }
            again = Some(until);
        }
        if let Some(at) = again {
            room.sweeping = true;
            self.timers.arm(at, Timer::SweepRoom(key));
        }
    }

    pub(super) fn drop_room(&mut self, key: super::room::RoomKey) {
        let Some(room) = self.rooms.remove(key) else { return };
        debug_assert!(room.is_vacant());
        if room.rule != 0 {
            self.watches.remove(&key);
        }
        self.room_ends(room.tenant, key, &room.name);
        let is_fleet = self.is_fleet();
        let tenant = &mut self.tenants[room.tenant];
        tenant.rooms.remove(&room.name);
        // Among nodes it is in the store as it was, and what is lost of it is found out when it is read.
        let history = room.history.filter(|_| !is_fleet);
        tenant.lost = tenant.lost.max(history.map_or(0, |history| history.newest_sequence()));
        self.tend_tenant(room.tenant);
    }

    /// Forgets a tenant of which nothing is left, or sees to it that somebody looks again.
    pub(super) fn tend_tenant(&mut self, key: super::tenant::TenantKey) {
        self.rest_stream(key);
        let rate = self.settings.limits.tenant_events_per_second;
        let tenant = &mut self.tenants[key];
        // One that is forgotten begins with a full bucket.
        let paced = !tenant.bucket.is_full(self.now.at, rate, rate);
        if tenant.is_empty() && !paced {
            if let Some(tenant) = self.tenants.remove(key) {
                self.tenant_keys.remove(&*tenant.id);
                self.close_stream(&tenant);
            }
        } else if !tenant.sweeping && (paced || tenant.has_aging()) {
            tenant.sweeping = true;
            self.timers.arm(self.now.at + Duration::from_secs(30), Timer::SweepTenant(key));
        }
    }

    pub(super) fn sweep_tenant(&mut self, key: super::tenant::TenantKey) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        tenant.sweeping = false;
        tenant.publish_ids.expire(self.now.at);
        tenant.absences.expire(self.now.at, self.presence.last_seen_ttl);
        self.expire_saved(key);
        self.sweep_documents(key);
        self.expire_offline(key);
        self.expire_receipts(key);
        self.tend_tenant(key);
    }
}
