//! The server's end of the world: shards driven turn by turn as the pump drives them, and what their outputs do.

use super::{At, Down, Event, Held, Lane, Up, World};
use smallvec::SmallVec;
use std::net::IpAddr;
use tenantcast::base::id::{ConnKey, ReplyTo, ShardId};
use tenantcast::shard::io::{Announcement, Hangup, Input, Message, Open, Output, Parcel, Wire};
use tenantcast::shard::transit::Transit;
use tenantcast::wire::http::Response;

/// What the kernel would take for a peer that has gone silent.
const SILENT_BYTES: usize = 60_000;

/// Bytes on their way to a socket.
struct Write {
    key: ConnKey,
    conn: usize,
    bytes: Vec<u8>,
}

impl World {
    pub(super) fn arrived(&mut self, conn: usize, up: Up) {
        let state = &mut self.conns[conn];
        if (state.silent || state.dead) && !matches!(up, Up::Hangup) {
            return;
        }
        match state.at {
            At::Gone => {}
            At::Moving => state.held.push_back(up),
            At::Shard(shard, _) => {
                if let Up::Open(wire, ..) = &up
                    && !matches!(wire, Wire::Probe(_))
                {
                    *self.addresses.entry(state.address).or_default() += 1;
                }
                self.enqueue(shard, Held::Input(conn, up));
            }
        }
    }

    pub(super) fn enqueue(&mut self, shard: usize, held: Held) {
        self.nodes[shard].inbox.push_back(held);
        let at = self.now.at.0 + self.net.below(self.swarm.turn_us);
        self.schedule_turn(shard, at);
    }

    pub(super) fn schedule_turn(&mut self, shard: usize, at: u64) {
        let at = at.max(self.now.at.0);
        if self.nodes[shard].turn_at.is_none_or(|planned| planned > at) {
            self.nodes[shard].turn_at = Some(at);
            self.schedule(at, Event::Turn(shard));
        }
    }

    pub(super) fn turn(&mut self, shard: usize) {
        let now = self.now;
        let mut outputs = Vec::new();
        let (mut flush, mut batch) = (Vec::new(), Vec::new());
        self.nodes[shard].turn_at = None;
        for _ in 0..1 + self.net.below(self.swarm.turn_inputs) {
            let Some(held) = self.nodes[shard].inbox.pop_front() else { break };
            match held {
                Held::Lane(Lane::Parcel(parcel)) => {
                    self.nodes[shard].shard.handle(now, Input::Parcel(parcel), &mut outputs)
                }
                Held::Lane(Lane::Announce(announcement)) => {
                    self.nodes[shard].shard.handle(now, Input::Announce(announcement), &mut outputs)
                }
                Held::Lane(Lane::Reply(conn, status, body)) => self.respond(conn, status, body),
                Held::Lane(Lane::Handoff(transit, conns)) => self.land(shard, transit, &conns, &mut outputs),
                Held::Input(conn, up) => self.input(shard, conn, up, &mut outputs, &mut flush),
            }
        }
        let node = &mut self.nodes[shard];
        if node.shard.next_deadline().is_some_and(|at| at <= now.at) {
            node.shard.handle(now, Input::Tick, &mut outputs);
        }
        node.shard.end_turn(now, &mut outputs);
        loop {
            for output in std::mem::take(&mut outputs) {
                self.carry_out(shard, output);
            }
            while let Some(key) = self.nodes[shard].shard.next_dirty() {
                self.gather(shard, key, &mut batch);
                // A batch has its bound.
                if self.net.below(16) == 0 {
                    self.complete(shard, &mut batch, &mut outputs);
                }
            }
            for conn in std::mem::take(&mut flush) {
                if let At::Shard(at, key) = self.conns[conn].at
                    && at == shard
                {
                    self.gather(shard, key, &mut batch);
                }
            }
            self.complete(shard, &mut batch, &mut outputs);
            if outputs.is_empty() && !self.nodes[shard].shard.has_dirty() {
                self.nodes[shard].shard.end_writes(&mut outputs);
                if outputs.is_empty() {
                    break;
                }
            }
        }
        self.check_bounds(shard);
        if !self.nodes[shard].inbox.is_empty() {
            self.schedule_turn(shard, now.at.0 + 1);
        } else if let Some(at) = self.nodes[shard].shard.next_deadline() {
            // Never earlier than a moment from now: a coarse wheel slot may have to be looked at again.
            self.schedule_turn(shard, at.0.max(now.at.0 + 1));
        }
    }

    pub(super) fn input(
        &mut self,
        shard: usize,
        conn: usize,
        up: Up,
        outputs: &mut Vec<Output>,
        flush: &mut Vec<usize>,
    ) {
        let At::Shard(at, key) = self.conns[conn].at else { return };
        assert_eq!(at, shard, "what is for a connection moves with it");
        let from = ReplyTo { shard: ShardId(shard as u8), conn: key };
        let address = self.conns[conn].address;
        let now = self.now;
        let shard = &mut self.nodes[shard].shard;
        match up {
            Up::Open(wire, token, rooms, last_event_id) => {
                let open = Open {
                    from,
                    wire,
                    token: token.map(Into::into),
                    address,
                    admission: None,
                    hops: 0,
                    crowded: false,
                    rooms,
                    last_event_id,
                };
                shard.handle(now, Input::Open(Box::new(open)), outputs);
            }
            Up::Text(text) => shard.handle(now, Input::Message { conn: key, message: Message::Text(&text) }, outputs),
            Up::Binary(bytes) => {
                shard.handle(now, Input::Message { conn: key, message: Message::Binary(&bytes) }, outputs)
            }
            Up::Pong => shard.handle(now, Input::Message { conn: key, message: Message::Pong }, outputs),
            Up::Poll(sid) => shard.handle(now, Input::Poll { from, sid }, outputs),
            Up::Post(sid, body) => shard.handle(now, Input::Post { from, sid, body: &body }, outputs),
            Up::Call(tenant, call) => shard.handle(now, Input::Call { from, tenant, call }, outputs),
            Up::Writable => {
                self.conns[conn].blocked = false;
                shard.handle(now, Input::Writable { conn: key }, outputs);
                flush.push(conn);
            }
            Up::Hangup => {
                shard.handle(now, Input::Hangup { conn: key, cause: Hangup::Failed }, outputs);
                self.release(conn);
            }
        }
    }

    /// The data plane forgets a connection.
    pub(super) fn release(&mut self, conn: usize) {
        if let At::Shard(shard, key) = std::mem::replace(&mut self.conns[conn].at, At::Gone) {
            self.nodes[shard].conns.remove(key);
        }
    }

    /// Asks for what a connection has to write now. As in the pump, many are asked for before any of them is written.
    fn gather(&mut self, shard: usize, key: ConnKey, batch: &mut Vec<Write>) {
        let Some(conn) = self.nodes[shard].conns.get(key).copied() else { return };
        if self.conns[conn].blocked || batch.iter().any(|write| write.conn == conn) {
            return;
        }
        let bytes = self.nodes[shard].shard.pending(key);
        if !bytes.is_empty() {
            batch.push(Write { key, conn, bytes: bytes.to_vec() });
        }
    }

    /// Writes them, and says what became of each.
    fn complete(&mut self, shard: usize, batch: &mut Vec<Write>, outputs: &mut Vec<Output>) {
        for Write { key, conn, mut bytes } in batch.drain(..) {
            let now = self.now;
            let state = &mut self.conns[conn];
            let len = bytes.len();
            let take = match state.slow {
                _ if state.silent => len.min(SILENT_BYTES / 8),
                _ if now.at.0 < state.stalled_until => len / 3,
                Some(bytes) => len.min(bytes as usize),
                None => len,
            };
            let speaks = state.speaks;
            if take < len {
                state.blocked = true;
                let resume = match (state.silent, now.at.0 < state.stalled_until) {
                    (true, _) => None,
                    (false, true) => Some(state.stalled_until + 1),
                    (false, false) => Some(now.at.0 + 20_000),
                };
                if let Some(at) = resume {
                    self.schedule(at, Event::Up(conn, Up::Writable));
                }
            }
            if !speaks {
                self.fail("bytes before the answer that says what they are");
            }
            if take > 0 {
                bytes.truncate(take);
                self.deliver(conn, Down::Bytes(bytes));
            }
            self.nodes[shard].shard.wrote(now, key, take, outputs);
        }
    }

    pub(super) fn carry_out(&mut self, shard: usize, output: Output) {
        match output {
            Output::Respond { to, response } => self.reply(shard, to, response),
            Output::Upgrade { conn } => self.speak(shard, conn, Down::Upgraded),
            Output::Stream { conn } => self.speak(shard, conn, Down::Streaming),
            Output::Close { conn: key, rest, number, .. } => {
                let Some(conn) = self.nodes[shard].conns.get(key).copied() else { return };
                if !rest.is_empty() {
                    self.deliver(conn, Down::Bytes(rest));
                }
                if number == 4508 {
                    self.model.slow += 1;
                }
                self.deliver(conn, Down::Closed(number));
                self.release(conn);
            }
            Output::Handoff { to, transit, conns, .. } => self.hand_off(shard, to, transit, &conns),
            Output::Send { to, parcel } => match parcel.waits() {
                Some(waits) if self.mesh_is_full() => {
                    if let Parcel::Open(open) = &parcel {
                        self.released(open.address);
                    }
                    self.reply(shard, waits, Response::empty(503));
                }
                _ => self.cross(shard, to.index(), Lane::Parcel(parcel)),
            },
            Output::Refused { .. } | Output::Ask(_) | Output::Relay(_) | Output::ListenerFailed { .. } => {}
            Output::Release { address } => self.released(address),
        }
    }

    pub(super) fn released(&mut self, address: IpAddr) {
        let count = self.addresses.entry(address).or_default();
        *count -= 1;
        if *count < 0 {
            self.fail(format!("more sessions of {address} ended than began"));
        }
    }

    pub(super) fn speak(&mut self, shard: usize, key: ConnKey, down: Down) {
        let Some(conn) = self.nodes[shard].conns.get(key).copied() else { return };
        if std::mem::replace(&mut self.conns[conn].speaks, true) {
            self.fail("one connection was answered twice");
        }
        if self.swarm.stall_every_ms > 0 && !self.calm && self.net.below(20) == 0 {
            // The data plane's own bytes, the answer itself, do not all go out: nothing of the shard's is asked for meanwhile.
            self.conns[conn].blocked = true;
            let at = self.now.at.0 + self.net.below(3_000_000);
            self.schedule(at, Event::Up(conn, Up::Writable));
        }
        self.deliver(conn, down);
    }

    pub(super) fn mesh_is_full(&mut self) -> bool {
        !self.calm && self.net.below(1000) < self.swarm.mesh_full
    }

    pub(super) fn cross(&mut self, from: usize, to: usize, lane: Lane) {
        let delay = 1 + self.net.below(self.swarm.lane_us);
        let last = self.lanes.entry((from, to)).or_default();
        *last = (self.now.at.0 + delay).max(*last);
        let at = *last;
        self.schedule(at, Event::Lane(to, lane));
    }

    /// Every shard gets it, each in its time.
    pub fn announce(&mut self) {
        self.model.announced += 1;
        let data = format!("{{\"n\":{}}}", self.model.announced);
        let announcement = Announcement { event: "announced".into(), data: data.into() };
        for shard in 0..self.nodes.len() {
            self.cross(shard, shard, Lane::Announce(announcement.clone()));
        }
    }

    pub(super) fn reply(&mut self, shard: usize, to: ReplyTo, response: Response) {
        let Some(conn) = self.nodes[to.shard.index()].conns.get(to.conn).copied() else { return };
        let (status, body) = (response.status, response.body.into_owned());
        if to.shard.index() == shard {
            self.respond(conn, status, body);
        } else {
            self.cross(shard, to.shard.index(), Lane::Reply(conn, status, body));
        }
    }

    pub(super) fn respond(&mut self, conn: usize, status: u16, body: Vec<u8>) {
        if !matches!(self.conns[conn].at, At::Shard(..)) {
            return;
        }
        if self.conns[conn].speaks {
            self.fail("an answer to a request on a connection that has become something else");
        }
        self.deliver(conn, Down::Response(status, body));
    }

    pub(super) fn hand_off(&mut self, shard: usize, to: ShardId, transit: Box<Transit>, keys: &[ConnKey]) {
        let conns: SmallVec<[usize; 2]> =
            keys.iter().filter_map(|key| self.nodes[shard].conns.get(*key).copied()).collect();
        let whole = conns.len() == keys.len();
        for conn in &conns {
            self.release(*conn);
        }
        if !whole || self.mesh_is_full() {
            return self.drop_transit(shard, *transit, &conns);
        }
        self.model.moved += 1;
        for &conn in &conns {
            let inbox = std::mem::take(&mut self.nodes[shard].inbox);
            let state = &mut self.conns[conn];
            state.at = At::Moving;
            for held in inbox {
                match held {
                    Held::Input(of, up) if of == conn => state.held.push_back(up),
                    held => self.nodes[shard].inbox.push_back(held),
                }
            }
        }
        self.cross(shard, to.index(), Lane::Handoff(transit, conns));
    }

    /// The mesh is full: connections are closed, who waits is told, and the shard forgets where its session went.
    pub(super) fn drop_transit(&mut self, shard: usize, transit: Transit, conns: &[usize]) {
        for &conn in conns {
            self.deliver(conn, Down::Lost);
        }
        match transit {
            Transit::Opening(open) if !matches!(open.wire, Wire::Probe(_)) => self.released(open.address),
            Transit::Opening(_) => {}
            Transit::Session(traveller) => {
                self.released(traveller.address);
                for to in traveller.waits() {
                    self.reply(shard, to, Response::empty(503));
                }
                let mut outputs = Vec::new();
                let forget = Parcel::Forget { sid: traveller.sid };
                self.nodes[shard].shard.handle(self.now, Input::Parcel(forget), &mut outputs);
                for output in outputs {
                    self.carry_out(shard, output);
                }
            }
        }
    }

    pub(super) fn land(&mut self, shard: usize, transit: Box<Transit>, conns: &[usize], outputs: &mut Vec<Output>) {
        let mut keys = SmallVec::new();
        for &conn in conns {
            let key = self.nodes[shard].conns.insert(conn);
            self.conns[conn].at = At::Shard(shard, key);
            keys.push(key);
        }
        self.nodes[shard].shard.handle(self.now, Input::Arrive { transit, conns: keys }, outputs);
        for &conn in conns {
            // Whether it takes bytes is found out by writing.
            self.conns[conn].blocked = false;
            for up in std::mem::take(&mut self.conns[conn].held) {
                self.enqueue(shard, Held::Input(conn, up));
            }
        }
    }
}
