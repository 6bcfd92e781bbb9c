//! A store in memory: what Redis does for the backplane, as a value. For the simulator, and to say what the real one has to do: both pass one
//! suite.
//!
//! Pure and synchronous: time is an argument, chance is seeded, and whoever calls carries what it answers, and may delay, lose or double it.
//!
//! Invariants: the guarantees of [`relay`](crate::shard::relay), but for what the caller does to the reports; what a room, a socket or a receipt
//! was kept for is gone when its time is over.

mod address;
mod document;
mod presence;
mod queue;

use crate::base::{
    chance::Chance,
    id::{ConnKey, ReplyTo, Sid, TenantId},
    limit::{READ_EVENTS_MAX, STORE_ROOMS_MAX},
    slab::Slab,
    time::{Duration, Instant, Now},
};
use crate::shard::{
    foreign::{Foreign, Missed, Past, Share, Wanted as Wanting, Whom},
    history::Epoch,
    neighbour::{Errand, News, unavailable, unknown},
    relay::{Act, Answer, Append, Appended, Place, Reading, Relay, Report, RoomRead, Stored, Unavailable, Wanted},
};
use crate::wire::{
    adapter::{Payload, streams::Offset},
    envelope::{self, Body, Frame, record},
    http::Response,
};
use std::collections::{BTreeMap, BTreeSet};

/// One node of a fleet, as the caller numbers them: the number in its session ids.
pub type Node = usize;

pub struct Memory {
    tenants: BTreeMap<TenantId, Tenant>,
    /// Who hears a tenant's channel: the nodes', not the store's, so that it outlives the store's loss.
    heard: BTreeMap<TenantId, BTreeSet<Node>>,
    /// Who is here, and has not left.
    present: BTreeSet<Node>,
    /// Requests of one node at another.
    requests: Slab<ConnKey, Asked>,
    /// Where events are read from a stream that is shared with servers of another make: its rows.
    rows: Option<Vec<Row>>,
    chance: Chance,
    away: bool,
}

/// An event of a tenant, as its row carries it, or another server's.
enum Row {
    Ours(TenantId, Box<[u8]>),
    Event { tenant: TenantId, rooms: Vec<Box<str>>, event: Box<str>, args: Box<str> },
}

struct Asked {
    by: Node,
    to: ReplyTo,
    sid: Sid,
}

struct Tenant {
    epoch: u64,
    sequence: u64,
    /// Birth mark of rooms that never had events.
    birth: u64,
    /// Rooms that ever had events, with the sequence of their newest.
    known: BTreeMap<Box<str>, u64>,
    rooms: BTreeMap<Box<str>, Room>,
    receipts: BTreeMap<Box<str>, (Appended, Instant)>,
    sockets: BTreeMap<Sid, (Box<[u8]>, Instant)>,
    presence: presence::Store,
    queue: queue::Store,
    document: document::Store,
    address: address::Store,
}

struct Room {
    epoch: u64,
    offset: u64,
    events: Vec<Event>,
    until: Instant,
}

struct Event {
    sequence: u64,
    offset: u64,
    at: Now,
    body: Box<[u8]>,
}

impl Memory {
    pub fn new(seed: [u8; 32]) -> Memory {
        Memory {
            tenants: BTreeMap::new(),
            heard: BTreeMap::new(),
            present: BTreeSet::new(),
            requests: Slab::default(),
            rows: None,
            chance: Chance::new(seed),
            away: false,
        }
    }

    /// From now on events are read from a shared stream.
    pub fn share_stream(&mut self) {
        self.rows = Some(Vec::new());
    }

    /// Another server tells rooms of a tenant something.
    pub fn broadcast(
        &mut self,
        tenant: &TenantId,
        rooms: &[&str],
        event: &str,
        args: &str,
        out: &mut Vec<(Node, Report)>,
    ) {
        let Some(rows) = &mut self.rows else { return };
        let own = |rooms: &[&str]| rooms.iter().map(|room| Box::from(*room)).collect::<Vec<Box<str>>>();
        rows.push(Row::Event { tenant: tenant.clone(), rooms: own(rooms), event: event.into(), args: args.into() });
        let row = Some(Offset { ms: 1, nth: rows.len() as u64 });
        for &node in &self.present {
            let share = Share { rooms: own(rooms), ..Share::default() };
            let to = Whom { namespace: "/".into(), tenants: vec![(tenant.clone(), share)], ..Whom::default() };
            let args = Payload::json(args.to_owned());
            let event = Foreign::Event { to, event: event.into(), args, volatile: false, ask: None, row };
            out.push((node, Report::Foreign(Box::new(event))));
        }
    }

    /// A frame as it is heard: with its row, if it gets one.
    fn in_row(&mut self, tenant: &TenantId, frame: Vec<u8>, in_row: bool) -> Vec<u8> {
        let Some(rows) = self.rows.as_mut().filter(|_| in_row) else { return frame };
        let row = Offset { ms: 1, nth: rows.len() as u64 + 1 };
        let frame = envelope::in_row(&frame, row).unwrap_or(frame);
        rows.push(Row::Ours(tenant.clone(), frame.as_slice().into()));
        frame
    }

    /// What somebody has missed of the shared stream.
    fn missed(&self, tenant: &TenantId, wanted: &Wanting) -> Option<Box<Missed>> {
        let rows = self.rows.as_ref()?;
        let after = usize::try_from(wanted.after.nth).ok().filter(|after| (1..=rows.len()).contains(after))?;
        let mut missed = Missed { first: None, past: Vec::new() };
        let is_its = |room: &str| wanted.rooms.iter().any(|own| **own == *format!("{tenant}/{room}"));
        for (at, row) in rows.iter().enumerate().skip(after) {
            match row {
                Row::Ours(of, frame) if of == tenant => {
                    let Ok(Frame { place: Some(place), body, .. }) = Frame::decode(frame) else { continue };
                    missed.first.get_or_insert((place.epoch, place.sequence));
                    if matches!(Body::decode(body), Ok((_, Body::Post(post))) if is_its(post.room)) {
                        missed.past.push(Past::Placed(frame.clone()));
                    }
                }
                Row::Event { tenant: of, rooms, event, args } if of == tenant => {
                    let rooms: Vec<Box<str>> = rooms.iter().filter(|room| is_its(room)).cloned().collect();
                    if !rooms.is_empty() {
                        let rooms = rooms.iter().map(|room| format!("{tenant}/{room}").into()).collect();
                        let (args, row) = (Payload::json(args.to_string()), Offset { ms: 1, nth: at as u64 + 1 });
                        missed.past.push(Past::Event { rooms, event: event.clone(), args, row });
                    }
                }
                Row::Ours(..) | Row::Event { .. } => {}
            }
        }
        Some(Box::new(missed))
    }

    /// Everything is lost, as when Redis is restarted empty. Who hears a channel goes on hearing it.
    pub fn lose(&mut self) {
        self.tenants.clear();
        self.rows.iter_mut().for_each(Vec::clear);
    }

    /// The store cannot be reached, or can again. Away, everything is answered `Unavailable` and what is told is dropped; the journal of what
    /// waits is its caller's.
    pub fn set_away(&mut self, away: bool) {
        self.away = away;
    }

    /// A node is here from now on, as from the first thing it asks.
    pub fn join(&mut self, node: Node) {
        self.present.insert(node);
    }

    /// A node is gone: it hears nothing any more.
    pub fn leave(&mut self, node: Node) {
        for nodes in self.heard.values_mut() {
            nodes.remove(&node);
        }
        self.present.remove(&node);
    }

    /// What crosses nodes: carried at once. Who waits for a node that has left meanwhile waits until its caller gives it up.
    fn neighbour(&mut self, node: Node, errand: Errand, out: &mut Vec<(Node, Report)>) {
        let mut tell = |node, news| out.push((node, Report::Neighbour(Box::new(news))));
        let refused = |to, response: Response| News::Answered { to, response: Box::new(response) };
        match errand {
            Errand::Ask { to, .. } if self.away => tell(node, refused(to, unavailable())),
            Errand::Ask { to, sid, request } => {
                let owner = Node::from(sid.node().0);
                if !self.present.contains(&owner) {
                    return tell(node, refused(to, unknown()));
                }
                let from = ReplyTo::elsewhere(self.requests.insert(Asked { by: node, to, sid }));
                tell(owner, News::Asked { from, sid, request });
            }
            Errand::Left { to } => {
                let found = self.requests.iter().find(|(_, asked)| asked.by == node && asked.to == to);
                if let Some((key, _)) = found
                    && let Some(Asked { sid, .. }) = self.requests.remove(key)
                {
                    tell(sid.node().0.into(), News::Left { from: ReplyTo::elsewhere(key), sid });
                }
            }
            Errand::Release => {
                for (key, asked) in self.requests.iter().filter(|(_, asked)| asked.by == node) {
                    let from = ReplyTo::elsewhere(key);
                    tell(asked.sid.node().0.into(), News::Released { from, sid: asked.sid });
                }
            }
            Errand::Answer { to, response } => {
                if let Some(Asked { by, to, .. }) = self.requests.remove(to.conn) {
                    tell(by, News::Answered { to, response });
                }
            }
        }
    }

    /// Where a tenant's stream stands: what [`Report::Opened`] says. Draws an epoch where there is none.
    pub fn place(&mut self, tenant: &TenantId) -> Place {
        let Tenant { epoch, sequence, .. } = self.tenant(tenant);
        Place { epoch: Epoch(*epoch), sequence: *sequence }
    }

    /// Carries out what `node` asks; appends what every node hears then, the asking one's answer included, in order.
    pub fn ask(&mut self, now: Now, node: Node, relay: Relay, out: &mut Vec<(Node, Report)>) {
        self.present.insert(node);
        if let Relay::Neighbour(errand) = relay {
            return self.neighbour(node, *errand, out);
        }
        if self.away {
            return self.refuse(node, relay, out);
        }
        match relay {
            Relay::Neighbour(_) => {}
            Relay::Open { tenant } => {
                self.heard.entry(tenant.clone()).or_default().insert(node);
                let place = Ok(self.place(&tenant));
                out.push((node, Report::Opened { tenant, place }));
            }
            Relay::Close { tenant } => {
                if let Some(nodes) = self.heard.get_mut(&tenant) {
                    nodes.remove(&node);
                }
            }
            Relay::Append { tenant, ticket, append } => {
                let (appended, frame) = self.tenant(&tenant).append(now, *append);
                if let Some(frame) = frame {
                    let frame = self.in_row(&tenant, frame, true);
                    self.publish(&tenant, &frame, None, out);
                }
                out.push((node, Report::Appended { ticket, result: Ok(appended) }));
            }
            Relay::Tell { tenant, body, in_row } => {
                let frame = self.in_row(&tenant, envelope::told(&body), in_row);
                self.publish(&tenant, &frame, Some(node), out);
            }
            Relay::Read { tenant, ticket, rooms } => {
                let reading = self.tenant(&tenant).read(now, &rooms);
                out.push((node, Report::Read { ticket, result: Ok(reading) }));
            }
            Relay::Save { tenant, pid, generation, body, ttl } => {
                let sockets = &mut self.tenant(&tenant).sockets;
                sockets.retain(|_, (_, until)| *until > now.at);
                if sockets.get(&pid).is_none_or(|(kept, _)| record::generation(kept) <= generation) {
                    sockets.insert(pid, (body, now.at + ttl));
                } else {
                    out.push((node, Report::Replaced { tenant, pid }));
                }
            }
            Relay::Refresh { tenant, pids, ttl } => {
                let tenant = self.tenant(&tenant);
                tenant.sockets.retain(|_, (_, until)| *until > now.at);
                for pid in pids {
                    if let Some((_, until)) = tenant.sockets.get_mut(&pid) {
                        *until = now.at + ttl;
                    }
                }
            }
            Relay::Forget { tenant, pid, generation } => {
                let sockets = &mut self.tenant(&tenant).sockets;
                if sockets.get(&pid).is_some_and(|(kept, _)| record::generation(kept) <= generation) {
                    sockets.remove(&pid);
                }
            }
            // Nobody of another make is here.
            Relay::Answer { .. } | Relay::Room { .. } => {}
            Relay::Missed { tenant, ticket, wanted } => {
                let result = self.missed(&tenant, &wanted).ok_or(Unavailable);
                out.push((node, Report::Missed { ticket, result }));
            }
            Relay::Claim { tenant, pid, ticket } => {
                let kept = self.tenant(&tenant).sockets.get_mut(&pid).filter(|(_, until)| *until > now.at);
                let body = kept.filter(|(kept, _)| kept.len() > 4).map(|(kept, _)| {
                    let claimed = record::generation(kept).wrapping_add(1).to_be_bytes();
                    std::mem::replace(kept, claimed.into())
                });
                out.push((node, Report::Claimed { ticket, result: Ok(body) }));
            }
            Relay::Share { tenant, ticket, act } => {
                let shared = self.tenant(&tenant);
                let answer = shared.share(now, *act);
                let (edition, notes) = (shared.document.edition.take(), shared.presence.take_notes());
                let frames = edition.map(|edition| envelope::announced(&edition)).into_iter().chain(notes);
                for frame in frames {
                    self.publish(&tenant, &frame, None, out);
                }
                if let Some(ticket) = ticket {
                    out.push((node, Report::Shared { ticket, result: Ok(answer) }));
                }
            }
        }
    }

    fn refuse(&mut self, node: Node, relay: Relay, out: &mut Vec<(Node, Report)>) {
        let report = match relay {
            Relay::Open { tenant } => {
                self.heard.entry(tenant.clone()).or_default().insert(node);
                Report::Opened { tenant, place: Err(Unavailable) }
            }
            Relay::Close { tenant } => {
                if let Some(nodes) = self.heard.get_mut(&tenant) {
                    nodes.remove(&node);
                }
                return;
            }
            Relay::Append { ticket, .. } => Report::Appended { ticket, result: Err(Unavailable) },
            Relay::Read { ticket, .. } => Report::Read { ticket, result: Err(Unavailable) },
            Relay::Claim { ticket, .. } => Report::Claimed { ticket, result: Err(Unavailable) },
            Relay::Missed { ticket, .. } => Report::Missed { ticket, result: Err(Unavailable) },
            Relay::Share { ticket: Some(ticket), .. } => Report::Shared { ticket, result: Err(Unavailable) },
            Relay::Tell { .. }
            | Relay::Answer { .. }
            | Relay::Room { .. }
            | Relay::Save { .. }
            | Relay::Refresh { .. }
            | Relay::Forget { .. }
            | Relay::Share { ticket: None, .. }
            | Relay::Neighbour(_) => return,
        };
        out.push((node, report));
    }

    fn publish(&self, tenant: &TenantId, frame: &[u8], but: Option<Node>, out: &mut Vec<(Node, Report)>) {
        let nodes = self.heard.get(tenant).into_iter().flatten();
        for &node in nodes.filter(|node| Some(**node) != but) {
            out.push((node, Report::Envelope { tenant: tenant.clone(), frame: frame.into() }));
        }
    }

    fn tenant(&mut self, tenant: &TenantId) -> &mut Tenant {
        let Memory { tenants, chance, .. } = self;
        tenants.entry(tenant.clone()).or_insert_with(|| Tenant {
            epoch: (chance.u64() >> 16).max(1),
            sequence: 0,
            birth: 0,
            known: BTreeMap::new(),
            rooms: BTreeMap::new(),
            receipts: BTreeMap::new(),
            sockets: BTreeMap::new(),
            presence: presence::Store::default(),
            queue: queue::Store::default(),
            document: document::Store::default(),
            address: address::Store::default(),
        })
    }
}

impl Tenant {
    fn share(&mut self, now: Now, act: Act) -> Answer {
        match act {
            Act::Presence(act) => Answer::Presence(self.presence.act(now, act)),
            Act::Queue(act) => {
                let place = Place { epoch: Epoch(self.epoch), sequence: self.sequence };
                Answer::Queue(self.queue.act(now, place, &self.rooms, act))
            }
            Act::Document(act) => Answer::Document(self.document.act(now, act)),
            Act::Address(act) => Answer::Address(self.address.act(now, act)),
        }
    }

    /// The place, and the frame to publish where the event is new.
    fn append(&mut self, now: Now, append: Append) -> (Appended, Option<Vec<u8>>) {
        let Append { room, body, id, id_ttl, keep, linger, wait, track } = append;
        self.receipts.retain(|_, (_, until)| *until > now.at);
        if let Some((appended, _)) = id.as_ref().and_then(|id| self.receipts.get(id)) {
            return (Appended { known: true, ..*appended }, None);
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.rooms.retain(|_, room| room.until > now.at);
        let epoch = self.epoch.wrapping_add(self.known.get(&room).copied().unwrap_or(self.birth));
        self.known.insert(room.clone(), sequence);
        let until = now.at + linger.max(Duration::from_millis(1));
        if let Some(track) = track {
            self.queue.track(now, &room, *track);
        }
        let known = self.rooms.entry(room).or_insert(Room { epoch, offset: 0, events: Vec::new(), until });
        known.offset += 1;
        known.until = until;
        let place = envelope::Place { epoch: self.epoch, sequence, room_epoch: known.epoch, offset: known.offset };
        let frame = envelope::placed(place, &body);
        if let Some(wait) = wait {
            let (room_epoch, offset, at) = (known.epoch, known.offset, now.unix);
            self.queue.put(now, &queue::Placed { sequence, room_epoch, offset, at, body: &body }, &wait, false);
        }
        known.events.push(Event { sequence, offset: known.offset, at: now, body });
        let spare = known.events.len().saturating_sub(keep.max(1) as usize);
        known.events.drain(..spare);
        let appended = Appended { sequence, room_epoch: Epoch(known.epoch), offset: known.offset, known: false };
        if self.known.len() > STORE_ROOMS_MAX.0 {
            let mut oldest: Vec<(u64, Box<str>)> =
                self.known.iter().map(|(room, sequence)| (*sequence, room.clone())).collect();
            oldest.sort();
            for (_, room) in oldest.into_iter().take(STORE_ROOMS_MAX.1) {
                self.known.remove(&room);
            }
            self.birth = sequence;
        }
        if let Some(id) = id.filter(|_| !id_ttl.is_zero()) {
            self.receipts.insert(id, (appended, now.at + id_ttl));
        }
        (appended, Some(frame))
    }

    fn read(&mut self, now: Now, wanted: &[Wanted]) -> Reading {
        self.rooms.retain(|_, room| room.until > now.at);
        let place = Place { epoch: Epoch(self.epoch), sequence: self.sequence };
        let rooms = wanted.iter().map(|wanted| match self.rooms.get(&wanted.room) {
            Some(room) => {
                let after = wanted.after.unwrap_or(u64::MAX);
                let first = room.events.partition_point(|event| event.sequence <= after);
                let first = first.max(room.events.len().saturating_sub(READ_EVENTS_MAX));
                let stored = |event: &Event| Stored {
                    sequence: event.sequence,
                    offset: event.offset,
                    at: event.at.unix,
                    body: event.body.clone(),
                };
                RoomRead {
                    epoch: Epoch(room.epoch),
                    offset: room.offset,
                    sequence: room.events.last().map_or(0, |event| event.sequence),
                    entries: room.events[first..].iter().map(stored).collect(),
                }
            }
            None => {
                let mark = self.known.get(&wanted.room).copied().unwrap_or(self.birth);
                let epoch = Epoch(self.epoch.wrapping_add(mark));
                RoomRead { epoch, offset: 0, sequence: mark, entries: Vec::new() }
            }
        });
        let rooms = rooms.collect();
        Reading { place, rooms }
    }
}
