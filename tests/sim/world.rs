//! The world: a clock, a heap of what is to happen, shards driven as the pump drives them, and a network that is not to be relied on.
//!
//! ```text
//! client --uplink, delayed--> connection -> inbox of its shard -> a turn -> bytes --downlink, delayed--> client
//!                                                         |
//!                                                   lane, delayed -> another shard
//! ```
//!
//! Invariants: time is the heap's; what one connection carries stays in order in each direction, also across a move between shards; a
//! message between two shards never overtakes another. One node for now: a `Node` here is a shard of it.

use crate::client::Client;
use crate::model::Model;
use crate::parse::{Frames, Stream};
use crate::swarm::{Swarm, stream};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use tenantcast::base::chance::Chance;
use tenantcast::base::id::{ConnKey, ReplyTo, ShardId, Sid, TenantId};
use tenantcast::base::limit::Limits;
use tenantcast::base::slab::Slab;
use tenantcast::base::time::{Duration, Instant, Now, UnixMs};
use tenantcast::shard::history::Retention;
use tenantcast::shard::io::{Hangup, Input, Message, Open, Output, Parcel, Wire};
use tenantcast::shard::transit::Transit;
use tenantcast::shard::{Auth, HistorySettings, Settings, Shard, default_app};
use tenantcast::wire::api::Call;
use tenantcast::wire::auth::{Keys, Policy};
use tenantcast::wire::http::Response;

/// What a client sends on a connection.
pub enum Up {
    Open(Wire, Option<String>, Vec<Box<str>>, Option<Box<str>>),
    Text(String),
    Pong,
    Poll(Sid),
    Post(Sid, String),
    Call(TenantId, Box<Call>),
    Hangup,
    Writable,
}

/// What a client sees of a connection.
pub enum Down {
    Upgraded,
    Streaming,
    Bytes(Vec<u8>),
    Response(u16, Vec<u8>),
    Closed(u16),
    /// The client's end notices that the line is dead.
    Lost,
}

enum Lane {
    Parcel(Parcel),
    Reply(usize, u16, Vec<u8>),
    Handoff(Box<Transit>, SmallVec<[usize; 2]>),
}

enum Event {
    Turn(usize),
    Up(usize, Up),
    Down(usize, Down),
    Lane(usize, Lane),
    /// A client's own time has come; stale if it has begun something else since.
    Client(usize, u32),
    Fault(Fault),
}

#[derive(Clone, Copy)]
enum Fault {
    Cut,
    HalfOpen,
    Stall,
}

enum Held {
    Input(usize, Up),
    Lane(Lane),
}

struct Node {
    shard: Shard,
    conns: Slab<ConnKey, usize>,
    inbox: VecDeque<Held>,
    turn_at: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum At {
    Shard(usize, ConnKey),
    Moving,
    Gone,
}

pub struct Conn {
    pub client: usize,
    pub at: At,
    address: IpAddr,
    /// What comes while it is on its way to another shard.
    held: VecDeque<Up>,
    /// Nothing arrives any more, in either direction.
    pub dead: bool,
    /// Nothing arrives, and nobody is told.
    silent: bool,
    pub speaks: bool,
    blocked: bool,
    /// Bytes a write takes; refilled when the reader reads.
    slow: Option<u64>,
    stalled_until: u64,
    up_at: u64,
    down_at: u64,
    pub frames: Frames,
    pub stream: Stream,
}

pub struct World {
    pub swarm: Swarm,
    pub now: Now,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    nodes: Vec<Node>,
    lanes: BTreeMap<(usize, usize), u64>,
    pub conns: Vec<Conn>,
    pub clients: Vec<Client>,
    pub model: Model,
    pub net: Chance,
    pub acting: Chance,
    faults: Chance,
    pub keys: Keys,
    pub policy: Policy,
    /// Sessions counted by address, as the bridge counts them.
    addresses: BTreeMap<IpAddr, i64>,
    pub violation: Option<String>,
    pub calm: bool,
    pub shown: Option<usize>,
    pub hash: u64,
    pub steps: u64,
    pub tamper: Option<crate::tamper::Tamper>,
    pub api: BTreeMap<usize, crate::act::Api>,
    pub answers: BTreeMap<usize, (u16, Vec<u8>)>,
}

const START: Now = Now { at: Instant(1_000_000), unix: UnixMs(1_700_000_000_000) };
/// What the kernel would take for a peer that has gone silent.
const SILENT_BYTES: usize = 60_000;

impl World {
    pub fn new(swarm: Swarm) -> World {
        let keys = Keys::from_secret(b"0123456789abcdef0123456789abcdef").expect("a secret");
        let mut seeds = stream(swarm.seed, 2);
        let nodes = (0..swarm.shards)
            .map(|shard| {
                let settings = Settings {
                    shard: ShardId(shard),
                    shards: swarm.shards,
                    auth: Some(Auth { keys: keys.clone(), policy: Policy::default() }),
                    limits: Limits {
                        outbox_bytes: swarm.outbox_bytes,
                        events_burst: swarm.events_burst,
                        connections_per_user: swarm.per_user,
                        ..Limits::default()
                    },
                    ping_interval: Duration::from_secs(swarm.ping_s),
                    ping_timeout: Duration::from_secs(swarm.ping_s - 1),
                    recovery: Duration::from_secs(swarm.recovery_s),
                    history: HistorySettings {
                        default: Retention {
                            events: swarm.history_events,
                            ttl: Duration::from_secs(swarm.history_s),
                        },
                        rooms: Vec::new(),
                    },
                    ..Settings::new()
                };
                let mut seed = [0; 32];
                seeds.fill(&mut seed);
                Node {
                    shard: Shard::new(settings, default_app(["/", "/chat"]), seed),
                    conns: Slab::default(),
                    inbox: VecDeque::new(),
                    turn_at: None,
                }
            })
            .collect();
        let mut world = World {
            now: START,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            nodes,
            lanes: BTreeMap::new(),
            conns: Vec::new(),
            clients: Vec::new(),
            model: Model::default(),
            net: stream(swarm.seed, 3),
            acting: stream(swarm.seed, 4),
            faults: stream(swarm.seed, 5),
            keys,
            policy: Policy::default(),
            addresses: BTreeMap::new(),
            violation: None,
            calm: false,
            shown: std::env::var("SIM_CLIENT").ok().and_then(|client| client.parse().ok()),
            hash: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            tamper: None,
            api: BTreeMap::new(),
            answers: BTreeMap::new(),
            swarm,
        };
        for fault in [Fault::Cut, Fault::HalfOpen, Fault::Stall] {
            world.next_fault(fault);
        }
        world
    }

    /// The first thing that is wrong ends the run.
    pub fn fail(&mut self, what: impl Into<String>) {
        let at = Duration::from_micros(self.now.at.0);
        self.violation.get_or_insert_with(|| format!("at {at:?}: {}", what.into()));
    }

    pub fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(what);
        }
    }

    fn trace(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    // Time.

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse((at.max(self.now.at.0), self.sequence)));
        self.events.insert(self.sequence, event);
    }

    pub fn wake_client(&mut self, client: usize, after_ms: u64) {
        let epoch = self.clients[client].epoch;
        self.schedule(self.now.at.0 + after_ms * 1000, Event::Client(client, epoch));
    }

    /// Runs for a while of the world's time, or until something is wrong.
    pub fn run(&mut self, for_: Duration) {
        let until = self.now.at.0 + for_.as_micros() as u64;
        while self.violation.is_none() {
            let Some(Reverse((at, sequence))) = self.heap.peek().copied().filter(|Reverse((at, _))| *at <= until) else { break };
            self.heap.pop();
            self.now = self.now.later(Duration::from_micros(at - self.now.at.0));
            // Milliseconds of the wall clock must not be lost to many short steps.
            self.now.unix = UnixMs(START.unix.0 + (self.now.at.0 - START.at.0) / 1000);
            let Some(event) = self.events.remove(&sequence) else { continue };
            self.steps += 1;
            self.step(event);
        }
        if self.violation.is_none() {
            self.now = self.now.later(Duration::from_micros(until - self.now.at.0));
            self.now.unix = UnixMs(START.unix.0 + (self.now.at.0 - START.at.0) / 1000);
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Turn(shard) => {
                if self.nodes[shard].turn_at == Some(self.now.at.0) {
                    self.turn(shard);
                }
            }
            Event::Up(conn, up) => self.arrived(conn, up),
            Event::Down(conn, down) => self.delivered(conn, down),
            Event::Lane(shard, lane) => self.enqueue(shard, Held::Lane(lane)),
            Event::Client(client, epoch) => {
                if self.clients[client].epoch == epoch {
                    self.client_turn(client);
                }
            }
            Event::Fault(fault) => self.fault(fault),
        }
    }

    // The client's end of a connection.

    /// Opens a connection to a shard of chance, as SO_REUSEPORT does.
    pub fn dial(&mut self, client: usize) -> usize {
        let shard = self.net.below(u64::from(self.swarm.shards)) as usize;
        let conn = self.conns.len();
        let key = self.nodes[shard].conns.insert(conn);
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + client as u32));
        self.conns.push(Conn {
            client,
            at: At::Shard(shard, key),
            address,
            held: VecDeque::new(),
            dead: false,
            silent: false,
            speaks: false,
            blocked: false,
            slow: None,
            stalled_until: 0,
            up_at: 0,
            down_at: 0,
            frames: Frames::default(),
            stream: Stream::default(),
        });
        conn
    }

    pub fn send(&mut self, conn: usize, up: Up) {
        let delay = 1 + self.net.below(self.swarm.latency_us);
        let state = &mut self.conns[conn];
        let at = (self.now.at.0 + delay).max(state.up_at);
        state.up_at = at;
        self.schedule(at, Event::Up(conn, up));
    }

    /// The client closes its end.
    pub fn hang_up(&mut self, conn: usize) {
        if !std::mem::replace(&mut self.conns[conn].dead, true) && !self.conns[conn].silent {
            self.send(conn, Up::Hangup);
        }
    }

    fn deliver(&mut self, conn: usize, down: Down) {
        let delay = 1 + self.net.below(self.swarm.latency_us);
        let state = &mut self.conns[conn];
        let at = (self.now.at.0 + delay).max(state.down_at);
        state.down_at = at;
        self.schedule(at, Event::Down(conn, down));
    }

    fn delivered(&mut self, conn: usize, down: Down) {
        let state = &self.conns[conn];
        let lost = matches!(down, Down::Lost);
        if (state.dead || state.silent) && !lost {
            return;
        }
        self.trace(&[conn as u8]);
        match &down {
            Down::Bytes(bytes) | Down::Response(_, bytes) => {
                let bytes = bytes.clone();
                self.trace(&bytes);
            }
            Down::Closed(number) => self.trace(&number.to_be_bytes()),
            Down::Upgraded | Down::Streaming | Down::Lost => {}
        }
        if state_is_api(&self.conns[conn]) {
            if let Down::Response(status, body) = down {
                self.api_answered(conn, status, body);
            }
            return;
        }
        let client = self.conns[conn].client;
        self.client_hears(client, conn, down);
    }

    // The server's end.

    fn arrived(&mut self, conn: usize, up: Up) {
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

    fn enqueue(&mut self, shard: usize, held: Held) {
        self.nodes[shard].inbox.push_back(held);
        let at = self.now.at.0 + self.net.below(self.swarm.turn_us);
        self.schedule_turn(shard, at);
    }

    fn schedule_turn(&mut self, shard: usize, at: u64) {
        let at = at.max(self.now.at.0);
        if self.nodes[shard].turn_at.is_none_or(|planned| planned > at) {
            self.nodes[shard].turn_at = Some(at);
            self.schedule(at, Event::Turn(shard));
        }
    }

    fn turn(&mut self, shard: usize) {
        let now = self.now;
        let mut outputs = Vec::new();
        let mut flush = Vec::new();
        self.nodes[shard].turn_at = None;
        for _ in 0..1 + self.net.below(self.swarm.turn_inputs) {
            let Some(held) = self.nodes[shard].inbox.pop_front() else { break };
            match held {
                Held::Lane(Lane::Parcel(parcel)) => self.nodes[shard].shard.handle(now, Input::Parcel(parcel), &mut outputs),
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
                self.flush(shard, key, &mut outputs);
            }
            for conn in std::mem::take(&mut flush) {
                if let At::Shard(at, key) = self.conns[conn].at
                    && at == shard
                {
                    self.flush(shard, key, &mut outputs);
                }
            }
            if outputs.is_empty() {
                break;
            }
        }
        if self.steps.is_multiple_of(64) {
            self.check_bounds(shard);
        }
        if !self.nodes[shard].inbox.is_empty() {
            self.schedule_turn(shard, now.at.0 + 1);
        } else if let Some(at) = self.nodes[shard].shard.next_deadline() {
            // Never earlier than a moment from now: a coarse wheel slot may have to be looked at again.
            self.schedule_turn(shard, at.0.max(now.at.0 + 1));
        }
    }

    fn input(&mut self, shard: usize, conn: usize, up: Up, outputs: &mut Vec<Output>, flush: &mut Vec<usize>) {
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
    fn release(&mut self, conn: usize) {
        if let At::Shard(shard, key) = std::mem::replace(&mut self.conns[conn].at, At::Gone) {
            self.nodes[shard].conns.remove(key);
        }
    }

    fn flush(&mut self, shard: usize, key: ConnKey, outputs: &mut Vec<Output>) {
        loop {
            let Some(conn) = self.nodes[shard].conns.get(key).copied() else { return };
            let now = self.now;
            let state = &mut self.conns[conn];
            if state.blocked {
                return;
            }
            let pending = self.nodes[shard].shard.pending(key);
            if pending.is_empty() {
                return;
            }
            let len = pending.len();
            let take = match state.slow {
                _ if state.silent => len.min(SILENT_BYTES / 8),
                _ if now.at.0 < state.stalled_until => len / 3,
                Some(bytes) => len.min(bytes as usize),
                None => len,
            };
            let bytes = pending[..take].to_vec();
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
                self.deliver(conn, Down::Bytes(bytes));
            }
            self.nodes[shard].shard.wrote(now, key, take, outputs);
        }
    }

    fn carry_out(&mut self, shard: usize, output: Output) {
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
            Output::Handoff { to, transit, conns } => self.hand_off(shard, to, transit, &conns),
            Output::Send { to, parcel } => match parcel.waits() {
                Some(waits) if self.mesh_is_full() => {
                    if let Parcel::Open(open) = &parcel {
                        self.released(open.address);
                    }
                    self.reply(shard, waits, Response::empty(503));
                }
                _ => self.cross(shard, to.index(), Lane::Parcel(parcel)),
            },
            Output::Refused { .. } => {}
            Output::Release { address } => self.released(address),
        }
    }

    fn released(&mut self, address: IpAddr) {
        let count = self.addresses.entry(address).or_default();
        *count -= 1;
        if *count < 0 {
            self.fail(format!("more sessions of {address} ended than began"));
        }
    }

    fn speak(&mut self, shard: usize, key: ConnKey, down: Down) {
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

    fn mesh_is_full(&mut self) -> bool {
        !self.calm && self.net.below(1000) < self.swarm.mesh_full
    }

    fn cross(&mut self, from: usize, to: usize, lane: Lane) {
        let delay = 1 + self.net.below(self.swarm.lane_us);
        let last = self.lanes.entry((from, to)).or_default();
        *last = (self.now.at.0 + delay).max(*last);
        let at = *last;
        self.schedule(at, Event::Lane(to, lane));
    }

    fn reply(&mut self, shard: usize, to: ReplyTo, response: Response) {
        let Some(conn) = self.nodes[to.shard.index()].conns.get(to.conn).copied() else { return };
        let (status, body) = (response.status, response.body.into_owned());
        if to.shard.index() == shard {
            self.respond(conn, status, body);
        } else {
            self.cross(shard, to.shard.index(), Lane::Reply(conn, status, body));
        }
    }

    fn respond(&mut self, conn: usize, status: u16, body: Vec<u8>) {
        if !matches!(self.conns[conn].at, At::Shard(..)) {
            return;
        }
        if self.conns[conn].speaks {
            self.fail("an answer to a request on a connection that has become something else");
        }
        self.deliver(conn, Down::Response(status, body));
    }

    fn hand_off(&mut self, shard: usize, to: ShardId, transit: Box<Transit>, keys: &[ConnKey]) {
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
    fn drop_transit(&mut self, shard: usize, transit: Transit, conns: &[usize]) {
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

    fn land(&mut self, shard: usize, transit: Box<Transit>, conns: &[usize], outputs: &mut Vec<Output>) {
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

    // Faults.

    fn next_fault(&mut self, fault: Fault) {
        let every = match fault {
            Fault::Cut => self.swarm.cut_every_ms,
            Fault::HalfOpen => self.swarm.half_open_every_ms,
            Fault::Stall => self.swarm.stall_every_ms,
        };
        if every > 0 && !self.calm {
            let at = self.now.at.0 + 1000 * (1 + self.faults.below(2 * every));
            self.schedule(at, Event::Fault(fault));
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        self.next_fault(fault);
        let recent = self.conns.len().min(self.swarm.clients * 3);
        for _ in 0..recent.min(8) {
            let conn = self.conns.len() - 1 - self.faults.below(recent as u64) as usize;
            if self.conns[conn].dead || self.conns[conn].silent || self.conns[conn].at == At::Gone || state_is_api(&self.conns[conn]) {
                continue;
            }
            match fault {
                Fault::Cut => self.cut(conn),
                Fault::HalfOpen => {
                    self.conns[conn].silent = true;
                    // Sooner or later somebody's heartbeat ends; the server's own is under test.
                    let after = 1000 * self.faults.below(2 * self.swarm.ping_s * 1000);
                    self.schedule(self.now.at.0 + after, Event::Down(conn, Down::Lost));
                    // A data plane's own deadlines, long after the shard's.
                    self.schedule(self.now.at.0 + 120_000_000, Event::Up(conn, Up::Hangup));
                }
                Fault::Stall => {
                    let (now, coin) = (self.now.at.0, self.faults.below(2) == 0);
                    let span = self.faults.below(6_000_000);
                    let slow = 1 + self.faults.below(3000);
                    let state = &mut self.conns[conn];
                    match coin {
                        true => state.stalled_until = now + span,
                        false => state.slow = Some(slow),
                    }
                }
            }
            return;
        }
    }

    /// The line is cut: what was under way is lost, both ends find out.
    fn cut(&mut self, conn: usize) {
        self.conns[conn].dead = true;
        let (here, there) = (self.faults.below(300_000), self.faults.below(2_000_000));
        self.schedule(self.now.at.0 + here, Event::Up(conn, Up::Hangup));
        self.schedule(self.now.at.0 + there, Event::Down(conn, Down::Lost));
    }

    /// No more faults; whoever was slow reads again.
    pub fn become_calm(&mut self) {
        self.calm = true;
        for conn in &mut self.conns {
            conn.slow = None;
            conn.stalled_until = conn.stalled_until.min(self.now.at.0);
        }
        for conn in 0..self.conns.len() {
            if self.conns[conn].blocked && !self.conns[conn].silent && matches!(self.conns[conn].at, At::Shard(..)) {
                self.schedule(self.now.at.0, Event::Up(conn, Up::Writable));
            }
        }
    }

    /// Whoever hid shows up, so that presence can be compared.
    pub fn show_up(&mut self) {
        for c in 0..self.clients.len() {
            if self.clients[c].live {
                let status = serde_json::json!({ "status": "online" });
                self.emit(c, "status", &status, crate::client::Request::Other);
            }
        }
    }

    pub fn everybody_leaves(&mut self) {
        for c in 0..self.clients.len() {
            self.clients[c].gone = true;
            self.lost(c);
        }
    }

    pub fn drain(&mut self) {
        let spread = Duration::from_secs(1);
        for shard in 0..self.nodes.len() {
            let mut outputs = Vec::new();
            self.nodes[shard].shard.handle(self.now, Input::Drain { spread }, &mut outputs);
            for output in outputs {
                self.carry_out(shard, output);
            }
            self.schedule_turn(shard, self.now.at.0);
        }
    }

    // What the shards hold.

    fn check_bounds(&mut self, shard: usize) {
        let excess = self.nodes[shard].shard.backlog_bytes_max();
        // What waits is measured between turns: at most the bound, whatever came.
        if excess > self.swarm.outbox_bytes as usize {
            self.fail(format!("{excess} bytes wait for one session beyond what it asked for"));
        }
    }

    pub fn check_empty(&mut self) {
        for shard in 0..self.nodes.len() {
            let node = &self.nodes[shard];
            let census = node.shard.census();
            if !node.shard.is_empty() || census.iter().any(|(_, count)| *count != 0) || !node.conns.is_empty() {
                let conns = node.conns.len();
                self.fail(format!("shard {shard} is not empty: {census:?}, {conns} connections"));
            }
        }
        let addresses: Vec<_> = self.addresses.iter().filter(|(_, count)| **count != 0).collect();
        if !addresses.is_empty() {
            let what = format!("sessions are still counted: {addresses:?}");
            self.fail(what);
        }
    }
}

/// Requests of backends have no client.
fn state_is_api(conn: &Conn) -> bool {
    conn.client == API
}

/// Stands for the client of a backend's connection.
pub const API: usize = 0x00ff_ffff;
