//! Engine.IO: how a session is opened, how its bytes come in and go out over both transports, the upgrade between them. (Engine.IO protocol, revision 4; refusals as the Node server's.)

use super::bucket::{Bucket, Verdict};
use super::count::Count;
use super::io::{Hangup, Message, Open, Output, Parcel, Wire};
use super::neighbour::{Errand, Request};
use super::outbox::Frame;
use super::room::slot;
use super::session::{Early, End, Kind, Polling, Session, SessionKey, Transport};
use super::{Place, Role, Settings, Shard, Timer};
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId, Sid},
    limit,
    time::Instant,
};
use crate::wire::{
    auth,
    close::Close,
    engine_io::{self, HandshakeError, Packet},
    http::Response,
    socket_io::Assembler,
};
use smallvec::SmallVec;
use std::net::IpAddr;

impl Shard {
    pub(super) fn open(&mut self, mut open: Open) {
        if let Wire::Probe(sid) = open.wire {
            return self.probe(open, sid);
        }
        if self.draining {
            return self.refuse_draining(&open);
        }
        let mut early = open.admission.take().map(|admission| Ok(*admission));
        if let (None, Some(settings), Some(token)) = (&early, &self.settings.auth, &open.token) {
            early = Some(auth::verify(token, &settings.keys, &settings.policy, self.now.unix));
        }
        if let Some(Ok(admission)) = &early {
            let home = admission.tenant.home(self.settings.shards);
            if home != self.settings.shard {
                let lend = self.settings.spreads(&admission.tenant);
                open.admission = early.and_then(Result::ok).map(Box::new);
                return self.open_elsewhere(open, home, lend);
            }
        }
        match (open.wire, early) {
            (Wire::Plain | Wire::Events, Some(Ok(admission))) if self.is_fleet() => self.open_in_fleet(open, admission),
            (Wire::Plain | Wire::Events, early) => self.open_plain(open, early),
            (Wire::Bare, _) => self.open_bare(&open),
            (_, early) => self.open_engine(open, early),
        }
    }

    fn open_engine(&mut self, open: Open, early: Option<Result<auth::Admission, auth::Reject>>) {
        let polling = matches!(open.wire, Wire::Polling | Wire::RawPolling);
        let kind = if matches!(open.wire, Wire::RawPolling | Wire::RawWebSocket) { Kind::Raw } else { Kind::SocketIo };
        let transport = match polling {
            true => Transport::Polling(Box::<Polling>::default()),
            false => Transport::WebSocket(open.from.conn),
        };
        let key = self.insert_session(kind, transport, &open);
        self.sessions[key].early = early.map(|early| Box::new(Early::Head(early)));
        let sid = self.sessions[key].sid;
        let mut packet = Vec::with_capacity(128);
        engine_io::Handshake {
            sid: &sid.to_string(),
            upgrades: polling,
            ping_interval_ms: self.settings.ping_interval.as_millis() as u32,
            ping_timeout_ms: self.settings.ping_timeout.as_millis() as u32,
            max_payload: self.settings.limits.frame_bytes,
        }
        .encode(&mut packet);
        if polling {
            self.sids.insert(sid, Place::Here(key));
            self.answer_poll(open.from, packet);
        } else {
            self.set_role(open.from.conn, Role::Session(key));
            self.out.push(Output::Upgrade { conn: open.from.conn });
            self.send_text(key, &packet, false);
        }
        if kind == Kind::Raw {
            // Nothing but Engine.IO is asked of it: it is admitted as it is.
            self.counts.up(Count::Sessions);
        }
    }

    fn open_bare(&mut self, open: &Open) {
        let conn = open.from.conn;
        let key = self.insert_session(Kind::Bare, Transport::WebSocket(conn), open);
        self.set_role(conn, Role::Session(key));
        self.out.push(Output::Upgrade { conn });
        self.counts.up(Count::Sessions);
    }

    /// A session that is open, but admitted nowhere.
    pub(super) fn insert_session(&mut self, kind: Kind, transport: Transport, open: &Open) -> SessionKey {
        let sid = Sid::new(self.settings.node, self.settings.shard, &mut self.chance);
        let session = self.new_session(sid, kind, transport, open.address, open.crowded);
        self.counts.up(Count::SessionsOpened);
        self.add_session(session)
    }

    /// A session as it begins on this shard.
    pub(super) fn new_session(
        &self,
        sid: Sid,
        kind: Kind,
        transport: Transport,
        address: IpAddr,
        crowded: bool,
    ) -> Session {
        Session {
            sid,
            kind,
            transport,
            beat: self.next_ping(),
            bucket: Bucket::new(self.now.at, self.settings.limits.events_burst),
            address,
            crowded,
            last_heard: self.now.at,
            connect_by: self.now.at + self.settings.connect_timeout,
            armed: Instant::NEVER,
            told_expiring: false,
            tenant: None,
            identity: None,
            early: None,
            sockets: SmallVec::new(),
            assembler: Assembler::default(),
        }
    }

    pub(super) fn add_session(&mut self, session: Session) -> SessionKey {
        let key = self.sessions.insert(session);
        self.outbox.open(slot(key));
        self.arm_deadline(key);
        key
    }

    fn refuse_draining(&mut self, open: &Open) {
        let row = Close::ServerDraining.row();
        let mut response = Response::error_json(503, row.code, row.message);
        response.retry_after_s = Some(1);
        self.refuse(open, response);
    }

    /// Answers a request for a session with something else.
    pub(super) fn refuse(&mut self, open: &Open, mut response: Response) {
        response.close = true;
        self.counts.up(Count::RefusedHandshake);
        // A probe belongs to a session that counts already.
        if !matches!(open.wire, Wire::Probe(_)) {
            self.release(open.address, open.crowded);
        }
        self.out.push(Output::Respond { to: open.from, response });
    }

    /// A session is over that counted against its address; one over the limit never did.
    pub(super) fn release(&mut self, address: IpAddr, crowded: bool) {
        if !crowded {
            self.out.push(Output::Release { address });
        }
    }

    pub(super) fn answer_poll(&mut self, to: ReplyTo, body: Vec<u8>) {
        let mut response = Response::new(200, "text/plain; charset=UTF-8", body);
        response.no_store = true;
        self.out.push(Output::Respond { to, response });
    }

    fn answer_error(&mut self, to: ReplyTo, error: HandshakeError) {
        self.counts.up(Count::RefusedHandshake);
        self.out.push(Output::Respond { to, response: Response::json(error.status(), error.json().into_bytes()) });
    }

    /// Queues one text packet for a session.
    pub(super) fn send_text(&mut self, key: SessionKey, packet: &[u8], ephemeral: bool) {
        let index = self.outbox.frame(Frame::text(packet), ephemeral);
        self.outbox.push(slot(key), index);
    }

    pub(super) fn send_binary(&mut self, key: SessionKey, bytes: &[u8]) {
        let index = self.outbox.frame(Frame::binary(bytes), false);
        self.outbox.push(slot(key), index);
    }

    // Long-polling.

    pub(super) fn poll(&mut self, from: ReplyTo, sid: Sid, first: bool) {
        // One that was passed on may come back when its connection is gone and another has its slot.
        if first {
            self.set_role(from.conn, Role::Request(sid));
        }
        match self.sids.get_mut(&sid) {
            Some(Place::Here(key)) => {
                let key = *key;
                self.poll_session(from, key);
            }
            Some(Place::Leaving(index)) => self.leaving[*index].later(super::transit::Later::Poll(from)),
            Some(Place::Moved(to, _)) => self.out.push(Output::Send { to: *to, parcel: Parcel::Poll { from, sid } }),
            Some(Place::Farewell(_)) => self.poll_farewell(from, sid),
            None => match self.elsewhere(sid, first) {
                Some(to) => self.out.push(Output::Send { to, parcel: Parcel::Poll { from, sid } }),
                None if first && self.is_elsewhere(sid) => {
                    self.errand(Errand::Ask { to: from, sid, request: Request::Poll });
                }
                None => self.answer_error(from, HandshakeError::UnknownSid),
            },
        }
    }

    /// The shard a session id names, if it is another one and was not asked yet.
    fn elsewhere(&self, sid: Sid, first: bool) -> Option<ShardId> {
        let Settings { node, shard, shards, .. } = &self.settings;
        (first && sid.node() == *node && sid.shard() != *shard && sid.shard().0 < *shards).then(|| sid.shard())
    }

    fn poll_session(&mut self, from: ReplyTo, key: SessionKey) {
        if self.is_overdue(key) {
            return self.answer_error(from, HandshakeError::UnknownSid);
        }
        let Transport::Polling(polling) = &mut self.sessions[key].transport else {
            return self.answer_error(from, HandshakeError::BadRequest);
        };
        if let Some(before) = polling.waiting.take() {
            // Two at once: the client lost track, and which of them would get what follows is anybody's guess.
            self.answer_poll(before, b"1".to_vec());
            self.answer_error(from, HandshakeError::BadRequest);
            return self.end(key, End::Gone);
        }
        if polling.probed && self.outbox.is_empty(slot(key)) {
            return self.answer_poll(from, b"6".to_vec());
        }
        polling.waiting = Some(from);
        self.outbox.list(slot(key));
    }

    /// Ends a session whose pong is late, though its timer has not fired yet: a poll must not find what its heartbeat has lost.
    fn is_overdue(&mut self, key: SessionKey) -> bool {
        let beat = self.sessions[key].beat;
        let overdue = beat.waits_for_pong() && beat.at() <= self.now.at;
        if overdue {
            self.beat(key);
        }
        overdue
    }

    pub(super) fn post(&mut self, from: ReplyTo, sid: Sid, body: &str, first: bool) {
        match self.sids.get_mut(&sid) {
            Some(Place::Here(key)) => {
                let key = *key;
                self.post_session(from, key, body);
            }
            Some(Place::Leaving(index)) => self.leaving[*index].later(super::transit::Later::Post(from, body.into())),
            Some(Place::Moved(to, _)) => {
                let to = *to;
                self.out.push(Output::Send { to, parcel: Parcel::Post { from, sid, body: body.into() } });
            }
            Some(Place::Farewell(_)) => self.post_farewell(from, sid, body),
            None => match self.elsewhere(sid, first) {
                Some(to) => self.out.push(Output::Send { to, parcel: Parcel::Post { from, sid, body: body.into() } }),
                None if first && self.is_elsewhere(sid) => {
                    // As for a poll: who hangs up is not waited for.
                    self.set_role(from.conn, Role::Request(sid));
                    self.errand(Errand::Ask { to: from, sid, request: Request::Post(body.into()) });
                }
                None => self.answer_error(from, HandshakeError::UnknownSid),
            },
        }
    }

    fn post_session(&mut self, from: ReplyTo, key: SessionKey, body: &str) {
        if self.is_overdue(key) {
            return self.answer_error(from, HandshakeError::UnknownSid);
        }
        if !matches!(self.sessions[key].transport, Transport::Polling(_)) {
            return self.answer_error(from, HandshakeError::BadRequest);
        }
        let sid = self.sessions[key].sid;
        let mut broken = false;
        for part in body.split('\x1e') {
            match self.sids.get(&sid) {
                Some(Place::Here(_)) => match engine_io::decode(part) {
                    Ok(packet) => self.packet(key, packet),
                    Err(_) => {
                        broken = true;
                        self.counts.up(Count::RefusedPacket);
                        self.close(key, Close::ProtocolError);
                    }
                },
                // CONNECT moved it: the rest of the body goes with it.
                Some(Place::Leaving(index)) => {
                    let index = *index;
                    self.leaving[index].later(super::transit::Later::Text(part.into()));
                }
                _ => break,
            }
        }
        match broken {
            true => self.answer_error(from, HandshakeError::BadRequest),
            false => self.answer_post(from),
        }
    }

    pub(super) fn answer_post(&mut self, to: ReplyTo) {
        let response = Response { no_store: true, ..Response::new(200, "text/html", &b"ok"[..]) };
        self.out.push(Output::Respond { to, response });
    }

    /// A long-polling request's connection is gone.
    pub(super) fn abandon(&mut self, from: ReplyTo, sid: Sid, first: bool) {
        match self.sids.get_mut(&sid) {
            Some(Place::Here(key)) => {
                let key = *key;
                if let Transport::Polling(polling) = &mut self.sessions[key].transport
                    && polling.waiting == Some(from)
                {
                    polling.waiting = None;
                    self.end(key, End::Gone);
                }
            }
            Some(Place::Leaving(index)) => self.leaving[*index].later(super::transit::Later::Abandon(from)),
            Some(Place::Moved(to, _)) => self.out.push(Output::Send { to: *to, parcel: Parcel::Abandon { from, sid } }),
            Some(Place::Farewell(_)) => {}
            None => {
                if let Some(to) = self.elsewhere(sid, first) {
                    self.out.push(Output::Send { to, parcel: Parcel::Abandon { from, sid } });
                } else if first && self.is_elsewhere(sid) {
                    self.errand(Errand::Left { to: from });
                }
            }
        }
    }

    // The upgrade.

    fn probe(&mut self, open: Open, sid: Sid) {
        let conn = open.from.conn;
        match self.sids.get(&sid) {
            Some(Place::Here(key)) => {
                let key = *key;
                self.out.push(Output::Upgrade { conn });
                match &mut self.sessions[key].transport {
                    Transport::Polling(polling) if polling.probe.is_none() => {
                        polling.probe = Some(conn);
                        self.set_role(conn, Role::Probe(key));
                        self.timers.arm(self.now.at + limit::UPGRADE_TIMEOUT, Timer::Upgrade(key, conn));
                    }
                    // It has one, or is one.
                    _ => self.out.push(Output::Close { conn, rest: Vec::new(), number: 1000, text: "" }),
                }
            }
            Some(Place::Leaving(index)) => {
                let index = *index;
                self.leaving[index].followed_by(open);
            }
            Some(Place::Moved(to, lend)) => {
                let (to, lend) = (*to, *lend);
                self.handoff_opening(open, to, lend);
            }
            Some(Place::Farewell(_)) => self.refuse_upgrade(&open, HandshakeError::UnknownSid),
            None => match self.elsewhere(sid, open.hops == 0) {
                // Whose it is only the session's first shard knows.
                Some(to) => self.handoff_opening(open, to, false),
                None => self.refuse_upgrade(&open, HandshakeError::UnknownSid),
            },
        }
    }

    fn refuse_upgrade(&mut self, open: &Open, error: HandshakeError) {
        self.refuse(open, Response::new(400, "text/html", error.message().as_bytes()));
    }

    pub(super) fn probe_message(&mut self, key: SessionKey, conn: ConnKey, message: Message<'_>) {
        let Transport::Polling(polling) = &mut self.sessions[key].transport else { return };
        match message {
            Message::Text("2probe") => {
                polling.probed = true;
                let waiting = polling.waiting.take();
                if let Some(link) = self.link_mut(conn) {
                    link.bytes.append_slice(b"\x81\x063probe");
                }
                self.writes.push(conn);
                if let Some(to) = waiting {
                    match self.outbox.take_poll(slot(key)) {
                        Some(body) => self.answer_poll(to, body),
                        None => self.answer_poll(to, b"6".to_vec()),
                    }
                }
            }
            Message::Text("5") if polling.probed => {
                let waiting = polling.waiting.take();
                self.sessions[key].transport = Transport::WebSocket(conn);
                self.set_role(conn, Role::Session(key));
                if let Some(to) = waiting {
                    self.answer_poll(to, b"6".to_vec());
                }
                self.outbox.list(slot(key));
            }
            Message::Pong => {}
            Message::Text(_) | Message::Binary(_) => {
                polling.probe = None;
                polling.probed = false;
                self.counts.up(Count::RefusedPacket);
                self.drop_conn(conn, 1002, "");
            }
        }
    }

    pub(super) fn upgrade_timeout(&mut self, key: SessionKey, conn: ConnKey) {
        if let Some(Session { transport: Transport::Polling(polling), .. }) = self.sessions.get_mut(key)
            && polling.probe == Some(conn)
        {
            polling.probe = None;
            polling.probed = false;
            self.drop_conn(conn, 1000, "");
        }
    }

    /// Closes a connection that is no session's transport.
    pub(super) fn drop_conn(&mut self, conn: ConnKey, number: u16, text: &'static str) {
        self.set_role(conn, Role::None);
        let rest = self.take_link_bytes(conn);
        self.out.push(Output::Close { conn, rest, number, text });
    }

    /// What the connection's socket has not taken yet of the answer to its probe: it may be half written.
    pub(super) fn take_link_bytes(&mut self, conn: ConnKey) -> Vec<u8> {
        self.link_mut(conn).map(|link| std::mem::take(&mut link.bytes).into_vec()).unwrap_or_default()
    }

    pub(super) fn hangup(&mut self, conn: ConnKey, cause: Hangup) {
        let Some(link) = self.link_mut(conn) else { return };
        link.bytes = Default::default();
        match std::mem::take(&mut link.role) {
            Role::None | Role::Waiting => {}
            Role::Session(key) => {
                // Its connection cannot take anything any more.
                self.end(key, if cause == Hangup::Failed { End::Lost } else { End::Gone });
            }
            Role::Probe(key) => {
                if let Some(Session { transport: Transport::Polling(polling), .. }) = self.sessions.get_mut(key) {
                    polling.probe = None;
                    polling.probed = false;
                }
            }
            // It may still come for them by polling.
            Role::Parting(sid) => self.parting_hangup(sid),
            Role::Request(sid) => self.abandon(ReplyTo { shard: self.settings.shard, conn }, sid, true),
            Role::Leaving(index, nth) => self.leaving[index as usize].hangup(nth),
        }
    }

    // What comes in.

    pub(super) fn session_message(&mut self, key: SessionKey, message: Message<'_>) {
        let session = &mut self.sessions[key];
        session.last_heard = self.now.at;
        match (session.kind, message) {
            (_, Message::Pong) => self.pong(key),
            (Kind::SocketIo | Kind::Raw, Message::Text(text)) => match engine_io::decode(text) {
                // Only long-polling writes binary as text.
                Ok(Packet::Binary(_)) | Err(_) => self.broken(key),
                Ok(packet) => self.packet(key, packet),
            },
            (Kind::SocketIo | Kind::Raw, Message::Binary(bytes)) => self.packet(key, Packet::Binary(bytes.into())),
            (Kind::Plain, Message::Text(text)) => self.plain_text(key, text),
            (Kind::Plain, Message::Binary(_)) => self.broken(key),
            (Kind::Bare, message) => {
                if self.paced(key) {
                    self.raw_message(key, message);
                }
            }
            (Kind::Events, _) => {}
        }
    }

    /// The peer broke the protocol.
    pub(super) fn broken(&mut self, key: SessionKey) {
        self.counts.up(Count::RefusedPacket);
        self.close(key, Close::ProtocolError);
    }

    /// One Engine.IO packet, from either transport.
    pub(super) fn packet(&mut self, key: SessionKey, packet: Packet<'_>) {
        self.sessions[key].last_heard = self.now.at;
        match packet {
            Packet::Pong(_) if self.sessions[key].beat.waits_for_pong() => self.pong(key),
            Packet::Message(text) => {
                if self.paced(key) {
                    match self.sessions[key].kind {
                        Kind::Raw => self.raw_message(key, Message::Text(text)),
                        _ => self.socket_io_text(key, text),
                    }
                }
            }
            Packet::Binary(bytes) => {
                // An attachment is part of an event that was counted.
                self.over_rate = None;
                if self.sessions[key].assembler.is_waiting() || self.paced(key) {
                    match self.sessions[key].kind {
                        Kind::Raw => self.raw_message(key, Message::Binary(&bytes)),
                        _ => self.socket_io_binary(key, bytes),
                    }
                }
            }
            Packet::Close => self.end(key, End::Left),
            // A pong nobody asked for does no harm, and the client may have sent it as its answer came late.
            Packet::Pong(_) | Packet::Noop => drop(self.paced(key)),
            Packet::Open(_) | Packet::Ping(_) | Packet::Upgrade => self.broken(key),
        }
    }

    /// Takes a token for one packet. What is over the rate is still handled, with `rate_limited` for an answer, unless it is a flood.
    pub(super) fn paced(&mut self, key: SessionKey) -> bool {
        self.counts.up(Count::PacketsIn);
        let limits = &self.settings.limits;
        let verdict = self.sessions[key].bucket.take(self.now.at, 1, limits.events_per_second, limits.events_burst);
        match verdict {
            Verdict::Granted => {
                self.over_rate = None;
                true
            }
            Verdict::Refused(wait) => {
                self.counts.up(Count::RefusedRate);
                self.over_rate = Some(wait);
                true
            }
            Verdict::Flood => {
                self.counts.up(Count::RefusedRate);
                self.close(key, Close::RateLimited);
                false
            }
        }
    }

    fn raw_message(&mut self, key: SessionKey, message: Message<'_>) {
        let app = self.app.clone();
        let handler = if self.sessions[key].kind == Kind::Bare { &app.websocket } else { &app.engine };
        if let Some(handler) = handler {
            handler(&mut super::app::RawSession { shard: self, key }, message);
        }
    }
}
