//! Moving a session to its tenant's home: once, before it is admitted, with its connections, unread bytes and all that comes meanwhile.
//!
//! ```text
//! here    CONNECT accepted -> leave(): out of the slab, its connections' roles are Leaving
//!         (rest of the turn)  what comes for it is kept in `later`
//!         end_turn -> depart(): Output::Handoff; its id, where a client polls with it, leads to the new shard from now on
//! there   Input::Arrive -> arrive(): into the slab, CONNECT is answered, then `later` is handled as if it came now
//! ```

use super::count::Count;
use super::io::{Message, Open, Output, Parcel, Wire};
use super::late::LateConnect;
use super::outbox::Frame;
use super::room::slot;
use super::session::{Kind, Polling, Session, SessionKey, Transport};
use super::transit::{Later, Transit, Traveller};
use super::{Place, Role, Shard, Timer};
use crate::base::id::{ConnKey, ReplyTo, ShardId, Sid};
use crate::wire::auth::Admission;
use smallvec::{SmallVec, smallvec};

/// A session that goes at the end of this turn.
pub struct Leaving {
    to: ShardId,
    traveller: Traveller,
    conns: SmallVec<[ConnKey; 2]>,
    /// Its tenant is spread.
    lend: bool,
    /// Its only connection is gone: nobody is left to move.
    gone: bool,
    /// WebSockets that want to probe it: they go after it, or they would be there first and find nothing.
    followers: Vec<Open>,
}

impl Leaving {
    pub fn followed_by(&mut self, open: Open) {
        self.followers.push(open);
    }

    pub fn later(&mut self, later: Later) {
        self.traveller.later.push(later);
    }

    pub fn message(&mut self, _nth: u8, message: Message<'_>) {
        let probe = self.traveller.probe;
        self.later(match message {
            Message::Text(text) if probe => Later::ProbeText(text.into()),
            Message::Text(text) => Later::Text(text.into()),
            Message::Binary(bytes) => Later::Binary(bytes.into()),
            Message::Pong => Later::Pong,
        });
    }

    pub fn hangup(&mut self, _nth: u8) {
        self.conns.clear();
        self.gone |= self.traveller.websocket;
        self.traveller.probe = false;
        self.traveller.probed = false;
    }
}

/// The CONNECT that moves a session, its token accepted.
pub struct Connecting<'a> {
    pub namespace: &'a str,
    pub payload: &'a str,
    pub admission: Box<Admission>,
    /// Its token came after it.
    pub late: Option<LateConnect>,
}

impl Shard {
    /// A handshake whose tenant lives on another shard.
    pub(super) fn open_elsewhere(&mut self, open: Open, to: ShardId, lend: bool) {
        match open.wire {
            Wire::Polling | Wire::RawPolling => {
                self.out.push(Output::Send { to, parcel: Parcel::Open(Box::new(open)) })
            }
            _ => self.handoff_opening(open, to, lend),
        }
    }

    pub(super) fn handoff_opening(&mut self, mut open: Open, to: ShardId, lend: bool) {
        open.hops += 1;
        let conns = smallvec![open.from.conn];
        self.out.push(Output::Handoff { to, transit: Box::new(Transit::Opening(Box::new(open))), conns, lend });
    }

    /// Takes a session that is not admitted out of this shard; it goes at the end of the turn.
    pub(super) fn leave(&mut self, key: SessionKey, to: ShardId, connecting: Connecting<'_>) {
        let session = self.sessions.remove(key).expect("the caller has just looked at it");
        assert!(session.tenant.is_none() && session.sockets.is_empty(), "an admitted session never moves");
        let lend = self.settings.spreads(&connecting.admission.tenant);
        let mut traveller = Traveller {
            sid: session.sid,
            websocket: false,
            waiting: None,
            probe: false,
            probed: false,
            beat: session.beat,
            bucket: session.bucket,
            address: session.address,
            crowded: session.crowded,
            last_heard: session.last_heard,
            unsent: Vec::new(),
            packets: Vec::new(),
            namespace: connecting.namespace.into(),
            payload: connecting.payload.into(),
            admission: connecting.admission,
            late: connecting.late,
            later: Vec::new(),
        };
        let mut conns = SmallVec::new();
        let index = self.leaving.len();
        match session.transport {
            Transport::WebSocket(conn) | Transport::Stream(conn) => {
                traveller.websocket = true;
                traveller.unsent = self.outbox.take_bytes(slot(key));
                conns.push(conn);
                self.set_role(conn, Role::Leaving(index as u32, 0));
            }
            Transport::Polling(polling) => {
                traveller.waiting = polling.waiting;
                traveller.probed = polling.probed;
                traveller.packets = self.outbox.take_packets(slot(key));
                if let Some(conn) = polling.probe {
                    traveller.probe = true;
                    conns.push(conn);
                    self.set_role(conn, Role::Leaving(index as u32, 0));
                }
            }
        }
        if let Some(place) = self.sids.get_mut(&session.sid) {
            *place = Place::Leaving(index);
        }
        self.outbox.close(slot(key));
        self.counts.up(Count::SessionsMovedOut);
        self.leaving.push(Leaving { to, traveller, conns, lend, gone: false, followers: Vec::new() });
    }

    /// The turn ends: sessions that leave go.
    pub(super) fn depart(&mut self) {
        for mut leaving in std::mem::take(&mut self.leaving) {
            let sid = leaving.traveller.sid;
            if leaving.gone {
                self.sids.remove(&sid);
                debug_assert!(
                    leaving.followers.is_empty(),
                    "only a WebSocket session has one connection, and nobody probes it"
                );
                self.release(leaving.traveller.address, leaving.traveller.crowded);
                continue;
            }
            if let Some(place) = self.sids.get_mut(&sid) {
                *place = Place::Moved(leaving.to, leaving.lend);
            }
            for conn in &leaving.conns {
                let bytes = self.take_link_bytes(*conn);
                leaving.traveller.unsent.splice(0..0, bytes);
                self.set_role(*conn, Role::None);
            }
            self.out.push(Output::Handoff {
                to: leaving.to,
                transit: Box::new(Transit::Session(Box::new(leaving.traveller))),
                conns: leaving.conns,
                lend: leaving.lend,
            });
            for open in leaving.followers {
                self.handoff_opening(open, leaving.to, leaving.lend);
            }
        }
    }

    pub(super) fn arrive(&mut self, transit: Transit, conns: &[ConnKey]) {
        match (transit, conns) {
            (Transit::Opening(mut open), [conn]) => {
                open.from = ReplyTo { shard: self.settings.shard, conn: *conn };
                self.open(*open);
            }
            (Transit::Opening(_), _) => debug_assert!(false, "a handshake has one connection"),
            (Transit::Session(traveller), conns) => self.arrive_session(*traveller, conns),
        }
    }

    fn arrive_session(&mut self, traveller: Traveller, conns: &[ConnKey]) {
        let sid = traveller.sid;
        let conn = conns.first().copied();
        let transport = match (traveller.websocket, conn) {
            (true, Some(conn)) => Transport::WebSocket(conn),
            // Its connection was lost on the way.
            (true, None) => {
                self.release(traveller.address, traveller.crowded);
                return self.forget_elsewhere(sid);
            }
            (false, conn) => Transport::Polling(Box::new(Polling {
                waiting: traveller.waiting,
                probe: conn,
                probed: traveller.probed && conn.is_some(),
            })),
        };
        self.counts.up(Count::SessionsMovedIn);
        let key = self.add_session(Session {
            beat: traveller.beat,
            bucket: traveller.bucket,
            last_heard: traveller.last_heard,
            ..self.new_session(sid, Kind::SocketIo, transport, traveller.address, traveller.crowded)
        });
        if traveller.websocket {
            if let Some(conn) = conn {
                self.set_role(conn, Role::Session(key));
            }
            if !traveller.unsent.is_empty() {
                self.outbox.resume(slot(key), &traveller.unsent);
            }
        } else {
            self.sids.insert(sid, Place::Here(key));
            for (binary, packet) in &traveller.packets {
                let frame = if *binary { Frame::binary(packet) } else { Frame::text(packet) };
                let index = self.outbox.frame(frame, false);
                self.outbox.push(slot(key), index);
            }
            if let Some(conn) = conn {
                self.set_role(conn, Role::Probe(key));
                self.timers.arm(self.now.at + crate::base::limit::UPGRADE_TIMEOUT, Timer::Upgrade(key, conn));
                if let Some(link) = self.link_mut(conn) {
                    link.bytes.append_slice(&traveller.unsent);
                    if !link.bytes.is_empty() {
                        self.writes.push(conn);
                    }
                }
            }
        }
        if self.draining {
            self.leaves_too(key);
        }
        self.connect_admitted(key, &traveller.namespace, &traveller.payload, *traveller.admission, traveller.late);
        for later in traveller.later {
            self.arrive_later(key, sid, conn, later);
        }
    }

    fn arrive_later(&mut self, key: SessionKey, sid: Sid, conn: Option<ConnKey>, later: Later) {
        match later {
            Later::Text(text) if conn.is_some() && self.link_is(conn, Role::Session(key)) => {
                self.message_on(conn, Message::Text(&text));
            }
            // The rest of a long-polling body.
            Later::Text(text) => {
                if self.sessions.contains(key) {
                    match crate::wire::engine_io::decode(&text) {
                        Ok(packet) => self.packet(key, packet),
                        Err(_) => self.broken(key),
                    }
                }
            }
            Later::ProbeText(text) => self.message_on(conn, Message::Text(&text)),
            Later::Binary(bytes) => self.message_on(conn, Message::Binary(&bytes)),
            Later::Pong => self.message_on(conn, Message::Pong),
            Later::Poll(from) => self.poll(from, sid, false),
            Later::Post(from, body) => self.post(from, sid, &body, false),
            Later::Abandon(from) => self.abandon(from, sid, false),
        }
    }

    fn link_is(&self, conn: Option<ConnKey>, role: Role) -> bool {
        conn.and_then(|conn| self.link(conn)).is_some_and(|link| link.role == role)
    }

    fn message_on(&mut self, conn: Option<ConnKey>, message: Message<'_>) {
        if let Some(conn) = conn {
            self.message(conn, message);
        }
    }

    /// A session that came from another shard is over: that shard need not remember where it went.
    pub(super) fn forget_elsewhere(&mut self, sid: Sid) {
        if sid.shard() != self.settings.shard && self.is_own(sid) && sid.shard().0 < self.settings.shards {
            self.out.push(Output::Send { to: sid.shard(), parcel: Parcel::Forget { sid } });
        }
    }
}
