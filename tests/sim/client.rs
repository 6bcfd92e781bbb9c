//! A virtual client: what the official client does, in as little state as it takes, over any of the four transports.
//!
//! Recovery is the official client's: it remembers the private id of its last CONNECT and the string at the end of the last event, and
//! sends both when it comes back. Rooms are the application's: it knows for each the place it has read to.

use crate::parse::{Frame, Packet, Sse, engine, plain};
use crate::world::{Down, Up, World};
use base64::engine::{Engine, general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tenantcast::base::id::Sid;
use tenantcast::base::time::Duration;
use tenantcast::shard::io::Wire;
use tenantcast::wire::auth::{Mint, mint};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Polling,
    Plain,
    Events,
}

/// A room as a client knows it.
#[derive(Clone, Debug, Default)]
pub struct Seat {
    /// Epoch and offset it has read to.
    pub at: Option<(String, u64)>,
    /// The server has said so, and nothing has happened since that could make it untrue.
    pub certain: bool,
    pub filter: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub enum Request {
    Subscribe {
        room: String,
        since: bool,
    },
    Unsubscribe {
        room: String,
    },
    Publish {
        id: Option<String>,
        room: String,
        nonce: u64,
    },
    History,
    Presence,
    Renew,
    Received {
        id: String,
    },
    /// These attachments, not said again yet or already.
    Mirror {
        parts: Vec<Vec<u8>>,
        said: bool,
    },
    /// `document:open`.
    Open {
        document: String,
    },
    /// `document:update` or `conflict:resolve`.
    Write {
        document: String,
        sent: crate::document::Fields,
        strategy: tenantcast::shard::document::Strategy,
        decides: bool,
    },
    Other,
}

/// An event that has not been acknowledged; where it has an id, it is published again.
#[derive(Clone, Debug)]
pub struct Draft {
    pub id: Option<String>,
    pub room: String,
    pub event: &'static str,
    pub data: String,
    pub nonce: u64,
    pub ephemeral: bool,
}

/// The transport of long-polling.
#[derive(Default)]
pub struct Poll {
    pub get: Option<usize>,
    pub post: Option<usize>,
    pub out: Vec<String>,
    /// The WebSocket that probes, and how far it is.
    pub probe: Option<usize>,
    pub pausing: bool,
    pub idle: Vec<usize>,
}

#[derive(Default)]
pub struct Client {
    pub name: String,
    pub tenant: usize,
    pub user: String,
    pub role: &'static str,
    pub kind: Option<Kind>,
    pub nsp: &'static str,
    pub hostile: bool,
    /// Has left for good.
    pub gone: bool,
    /// Rises whenever it begins something else, so that what it planned before does not happen.
    pub epoch: u32,
    pub main: Option<usize>,
    pub poll: Option<Box<Poll>>,
    pub sid: Option<Sid>,
    /// It has sent a good token on this session.
    pub admitted: bool,
    pub live: bool,
    pub pid: Option<String>,
    pub last: Option<String>,
    /// What came before CONNECT: an earlier session's.
    pub early: Vec<(String, Vec<Value>)>,
    /// A packet that waits for attachments: how many, and those that have come.
    pub partial: Option<(usize, Packet, Vec<Vec<u8>>)>,
    pub next_ack: u64,
    pub pending: BTreeMap<u64, Request>,
    pub drafts: BTreeMap<u64, Draft>,
    pub rooms: BTreeMap<String, Seat>,
    pub documents: BTreeMap<String, crate::document::Copy>,
    pub fleeting: BTreeSet<u64>,
    pub announced: BTreeSet<u64>,
    pub heard: crate::roster::Heard,
    pub expiring: Option<String>,
    pub refused: u32,
    /// When its session began.
    pub began: u64,
    /// The newest place of its own room that this connection has got, and what had waited, by offset and nonce.
    pub own: Option<(String, u64)>,
    pub queued: Vec<(u64, u64)>,
}

/// Nobody asks for these.
pub fn is_automatic(room: &str) -> bool {
    room.starts_with("tenant:") || room.starts_with("user:")
}

impl World {
    pub fn token(&mut self, c: usize, good: bool) -> String {
        let client = &self.clients[c];
        let (tenant, user) = (format!("t{}", client.tenant), client.user.clone());
        if !good {
            return ["", "x.y.z", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwidGVuYW50IjoidDAifQ."]
                [self.acting.below(3) as usize]
                .to_owned();
        }
        let claims = Mint {
            tenant: &tenant,
            user: &user,
            roles: &[client.role.to_owned()],
            permissions: &["publish".to_owned()],
            // When all is calm nobody is to be found between two sessions.
            ttl: Some(Duration::from_secs(if self.calm { 7200 } else { self.swarm.token_s })),
            ..Mint::default()
        };
        mint(&claims, &self.keys, &self.policy, self.now.unix).expect("a shared secret signs")
    }

    /// Opens a session: what a client does first, and again after every end.
    pub fn begin(&mut self, c: usize) {
        self.leave_transport(c);
        let client = &mut self.clients[c];
        client.epoch += 1;
        client.began = self.now.at.0;
        let (kind, hostile) = (client.kind.expect("drawn at the start"), client.hostile);
        let head = matches!(kind, Kind::Plain | Kind::Events) || self.acting.below(100) < self.swarm.head_token;
        let token = head.then(|| self.token(c, !hostile));
        let conn = self.dial(c);
        let wire = match kind {
            Kind::WebSocket => Wire::WebSocket,
            Kind::Polling => Wire::Polling,
            Kind::Plain => Wire::Plain,
            Kind::Events => Wire::Events,
        };
        let (mut rooms, mut last) = (Vec::new(), None);
        let client = &mut self.clients[c];
        client.admitted = matches!(kind, Kind::Plain | Kind::Events) && !hostile;
        if kind == Kind::Events {
            rooms = client.rooms.keys().filter(|room| !is_automatic(room)).map(|room| room.as_str().into()).collect();
            last = client.last.as_deref().map(Into::into);
        }
        match kind {
            Kind::Polling => client.poll = Some(Box::new(Poll { get: Some(conn), ..Poll::default() })),
            _ => client.main = Some(conn),
        }
        self.send(conn, Up::Open(wire, token, rooms, last));
        // A client gives up on a connection that never comes about.
        self.wake_client(c, 20_000);
    }

    /// With `SIM_CLIENT=n` what this client says and hears is printed.
    pub fn show(&self, c: usize, what: &str, text: &dyn std::fmt::Debug) {
        if self.shown == Some(c) {
            let text: String = format!("{text:?}").chars().take(400).collect();
            eprintln!("{:?} {} {what} {text}", Duration::from_micros(self.now.at.0), self.clients[c].name);
        }
    }

    /// Lets go of every connection.
    fn leave_transport(&mut self, c: usize) {
        if self.clients[c].kind == Some(Kind::Events) {
            // An event source hands on what it gets at once, and asks for what comes after it, also when it is cut off in the midst of it.
            for (name, args) in std::mem::take(&mut self.clients[c].early) {
                self.event(c, &name, &args);
            }
        }
        let client = &mut self.clients[c];
        let poll = client.poll.take().map(|poll| *poll).unwrap_or_default();
        let all = client.main.take().into_iter().chain(poll.get).chain(poll.post).chain(poll.probe).chain(poll.idle);
        for conn in all.collect::<Vec<_>>() {
            self.hang_up(conn);
        }
        let client = &mut self.clients[c];
        (client.sid, client.live, client.admitted) = (None, false, false);
        client.expiring = None;
        client.early.clear();
        client.partial = None;
    }

    /// The session is over: what was asked stays unanswered, and the client comes back.
    pub fn lost(&mut self, c: usize) {
        self.show(c, "is cut off", &self.clients[c].last);
        self.leave_transport(c);
        let client = &mut self.clients[c];
        client.epoch += 1;
        for (_, request) in std::mem::take(&mut client.pending) {
            let room = match request {
                Request::Subscribe { room, .. } | Request::Unsubscribe { room } => room,
                _ => continue,
            };
            if let Some(seat) = client.rooms.get_mut(&room) {
                seat.certain = false;
            }
        }
        if !client.gone {
            let after = if self.calm { 1000 } else { self.acting.below(6000) };
            self.wake_client(c, after);
        }
    }

    // Bytes in.

    pub fn client_hears(&mut self, c: usize, conn: usize, down: Down) {
        let client = &mut self.clients[c];
        let probing = client.poll.as_ref().is_some_and(|poll| poll.probe == Some(conn));
        match down {
            Down::Lost | Down::Closed(_) => {
                if let Down::Closed(_) = down
                    && !self.conns[conn].frames.is_whole()
                {
                    self.fail(format!("a close in the middle of a frame, on connection {conn}"));
                }
                self.conns[conn].dead = true;
                let client = &mut self.clients[c];
                if probing {
                    // The official client goes on polling.
                    if let Some(poll) = &mut client.poll {
                        (poll.probe, poll.pausing) = (None, false);
                    }
                    self.poll_again(c);
                } else if client.main == Some(conn)
                    || client.poll.as_ref().is_some_and(|poll| poll.get == Some(conn) || poll.post == Some(conn))
                {
                    self.lost(c);
                }
            }
            Down::Upgraded if probing => self.send(conn, Up::Text("2probe".into())),
            Down::Upgraded | Down::Streaming => {}
            Down::Response(status, body) => self.answered(c, conn, status, &body),
            Down::Bytes(bytes) if client.kind == Some(Kind::Events) => match self.conns[conn].stream.push(&bytes) {
                Ok(events) => events.into_iter().for_each(|event| self.streamed(c, conn, event)),
                Err(what) => self.fail(what),
            },
            Down::Bytes(bytes) => match self.conns[conn].frames.push(&bytes) {
                Ok(frames) => frames.into_iter().for_each(|frame| self.framed(c, conn, frame)),
                Err(what) => self.fail(format!("connection {conn}: {what}")),
            },
        }
    }

    fn framed(&mut self, c: usize, conn: usize, frame: Frame) {
        let client = &mut self.clients[c];
        let probing = client.poll.as_ref().is_some_and(|poll| poll.probe == Some(conn));
        if client.main != Some(conn) && !probing {
            return;
        }
        let packet = match (frame, client.kind) {
            (Frame::Ping, _) => return self.send(conn, Up::Pong),
            (Frame::Text(text), Some(Kind::Plain)) => plain(&text),
            (Frame::Text(text), _) if text.starts_with('b') => Err("base64 on a WebSocket".to_owned()),
            (Frame::Text(text), _) => engine(&text),
            (Frame::Binary(bytes), _) => Ok(Packet::Attachment(bytes)),
        };
        match packet {
            Ok(Packet::ProbePong) if probing => self.probed(c),
            Ok(packet) if probing => self.fail(format!("{packet:?} on a connection that only probes")),
            Ok(packet) => self.packet(c, packet),
            Err(what) => self.fail(what),
        }
    }

    fn streamed(&mut self, c: usize, conn: usize, event: Sse) {
        if self.clients[c].main != Some(conn) {
            return;
        }
        let Sse { id, event: name, data } = event;
        if let Some(data) = data {
            match plain(&data) {
                Ok(Packet::Event { name: inner, .. }) if Some(&inner) != name.as_ref() => {
                    self.fail("two names of one event")
                }
                Ok(packet) => self.packet(c, packet),
                // A refusal of the server is no event of ours.
                Err(_) if name.as_deref() == Some("error") => {}
                Err(what) => self.fail(what),
            }
        }
        if id.is_some() {
            self.clients[c].last = id;
        }
    }

    // Long-polling.

    fn http(&mut self, c: usize) -> usize {
        let reuse = self.acting.below(3) > 0;
        let conns = &self.conns;
        let idle = self.clients[c].poll.as_mut().filter(|_| reuse).and_then(|poll| {
            poll.idle.retain(|conn| !conns[*conn].dead);
            poll.idle.pop()
        });
        idle.unwrap_or_else(|| self.dial(c))
    }

    pub fn poll_again(&mut self, c: usize) {
        let client = &self.clients[c];
        let (Some(sid), Some(poll)) = (client.sid, &client.poll) else { return };
        if poll.get.is_none() && !poll.pausing {
            let conn = self.http(c);
            self.send(conn, Up::Poll(sid));
            if let Some(poll) = &mut self.clients[c].poll {
                poll.get = Some(conn);
            }
        }
    }

    fn post(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let (Some(sid), Some(poll)) = (client.sid, &mut client.poll) else { return };
        if poll.post.is_none() && !poll.out.is_empty() && !poll.pausing {
            let body = std::mem::take(&mut poll.out).join("\x1e");
            let conn = self.http(c);
            self.send(conn, Up::Post(sid, body));
            if let Some(poll) = &mut self.clients[c].poll {
                poll.post = Some(conn);
            }
        }
    }

    fn answered(&mut self, c: usize, conn: usize, status: u16, body: &[u8]) {
        let client = &mut self.clients[c];
        let Some(poll) = &mut client.poll else {
            // A refused upgrade or stream.
            self.conns[conn].dead = true;
            self.send_hangup(conn);
            if self.clients[c].main == Some(conn) {
                self.lost(c);
            }
            return;
        };
        if poll.probe == Some(conn) {
            (poll.probe, poll.pausing) = (None, false);
            self.hang_up(conn);
            return self.poll_again(c);
        }
        let (get, post) = (poll.get == Some(conn), poll.post == Some(conn));
        if !get && !post {
            return;
        }
        if get {
            poll.get = None
        } else {
            poll.post = None
        }
        poll.idle.push(conn);
        if status != 200 {
            return self.lost(c);
        }
        if post {
            if body != b"ok" {
                self.fail("a post is answered with ok");
            }
            self.post(c);
            return self.paused(c);
        }
        let text = String::from_utf8_lossy(body).into_owned();
        for part in text.split('\x1e') {
            match engine(part) {
                Ok(packet) => self.packet(c, packet),
                Err(what) => self.fail(what),
            }
            if self.clients[c].poll.is_none() {
                return;
            }
        }
        self.poll_again(c);
        self.paused(c);
    }

    fn send_hangup(&mut self, conn: usize) {
        self.conns[conn].dead = false;
        self.hang_up(conn);
    }

    pub fn start_probe(&mut self, c: usize) {
        let Some(sid) = self.clients[c].sid else { return };
        if self.clients[c].poll.as_ref().is_some_and(|poll| poll.probe.is_none()) {
            let conn = self.dial(c);
            self.send(conn, Up::Open(Wire::Probe(sid), None, Vec::new(), None));
            if let Some(poll) = &mut self.clients[c].poll {
                poll.probe = Some(conn);
            }
        }
    }

    fn probed(&mut self, c: usize) {
        if let Some(poll) = &mut self.clients[c].poll {
            poll.pausing = true;
        }
        self.paused(c);
    }

    /// Once no request is under way, the WebSocket takes over.
    fn paused(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let ready = client.poll.as_ref().is_some_and(|poll| poll.pausing && poll.get.is_none() && poll.post.is_none());
        let Some(poll) = client.poll.take_if(|_| ready) else { return };
        let conn = poll.probe.expect("pausing for it");
        client.main = Some(conn);
        self.model.upgraded += 1;
        self.send(conn, Up::Text("5".into()));
        for text in poll.out {
            // What is no base64 is a text of garbage.
            let bytes = text.strip_prefix('b').and_then(|text| STANDARD.decode(text).ok());
            self.send(conn, bytes.map_or(Up::Text(text), Up::Binary));
        }
        for conn in poll.idle {
            self.hang_up(conn);
        }
    }

    // Packets out.

    /// One Engine.IO packet, or a text of `/ws`.
    pub fn say(&mut self, c: usize, text: String) {
        self.show(c, "says", &text);
        if let Some(conn) = self.clients[c].main {
            return self.send(conn, Up::Text(text));
        }
        if let Some(poll) = &mut self.clients[c].poll {
            poll.out.push(text);
        }
        self.post(c);
    }

    pub fn connect(&mut self, c: usize) {
        let hostile = self.clients[c].hostile;
        let mut auth = serde_json::Map::new();
        // With a token in the head CONNECT may do without.
        if self.swarm.head_token < 100 || hostile {
            let token = self.token(c, !hostile);
            auth.insert("token".into(), token.into());
        }
        let client = &mut self.clients[c];
        if let Some(pid) = &client.pid {
            auth.insert("pid".into(), pid.clone().into());
            if let Some(last) = &client.last {
                auth.insert("offset".into(), last.clone().into());
            }
        }
        client.admitted = !hostile;
        let nsp = if client.nsp == "/" { String::new() } else { format!("{},", client.nsp) };
        self.say(c, format!("40{nsp}{}", Value::Object(auth)));
    }

    pub fn emit(&mut self, c: usize, event: &str, data: &Value, request: Request) {
        let client = &mut self.clients[c];
        if client.kind == Some(Kind::Events) {
            return;
        }
        let id = client.next_ack;
        client.next_ack += 1;
        client.pending.insert(id, request);
        let text = match client.kind {
            Some(Kind::Plain) => json!({ "event": event, "data": data, "id": id }).to_string(),
            _ => {
                let nsp = if client.nsp == "/" { String::new() } else { format!("{},", client.nsp) };
                format!("42{nsp}{id}{}", json!([event, data]))
            }
        };
        self.say(c, text);
    }
}
