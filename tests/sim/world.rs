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
use tenantcast::base::id::{ConnKey, ShardId, Sid, TenantId};
use tenantcast::base::limit::Limits;
use tenantcast::base::slab::Slab;
use tenantcast::base::time::{Duration, Instant, Now, UnixMs};
use tenantcast::shard::app::{App, Namespace};
use tenantcast::shard::history::Retention;
use tenantcast::shard::io::{Announcement, Parcel, Wire};
use tenantcast::shard::offline::{Acknowledge, OfflineRule, OfflineSettings};
use tenantcast::shard::transit::Transit;
use tenantcast::shard::{
    Auth, Availability, HistorySettings, PresenceSettings, RoomPresence, Settings, Shard, Wording, default_app,
};
use tenantcast::wire::api::Call;
use tenantcast::wire::auth::{Keys, Pattern, Policy};

/// What a client sends on a connection.
pub enum Up {
    Open(Wire, Option<String>, Vec<Box<str>>, Option<Box<str>>),
    Text(String),
    Binary(Vec<u8>),
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
    Announce(Announcement),
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

mod fault;
mod pump;

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
                        default: Retention { events: swarm.history_events, ttl: Duration::from_secs(swarm.history_s) },
                        rooms: Vec::new(),
                    },
                    documents: crate::document::settings(),
                    presence: presence(&swarm),
                    offline: OfflineSettings {
                        ttl: Duration::from_secs(swarm.offline_s),
                        per_user: swarm.offline_events as u32,
                        rules: vec![OfflineRule {
                            types: Pattern::parse("*").expect("a pattern"),
                            acknowledge: match swarm.offline_proof {
                                true => Acknowledge::Delivered,
                                false => Acknowledge::Received,
                            },
                        }],
                    },
                    ..Settings::new()
                };
                let mut seed = [0; 32];
                seeds.fill(&mut seed);
                Node {
                    shard: Shard::new(settings, app(), seed),
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
            let Some(Reverse((at, sequence))) = self.heap.peek().copied().filter(|Reverse((at, _))| *at <= until)
            else {
                break;
            };
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

/// Half of the roles are agents'.
fn presence(swarm: &Swarm) -> PresenceSettings {
    let wording = Wording::of_room();
    let watched = Pattern::parse("r*").map(|pattern| RoomPresence { pattern, wording });
    PresenceSettings {
        grace: Duration::from_secs(swarm.grace_s),
        batch_over: swarm.batch_over,
        rooms: watched.into_iter().filter(|_| swarm.watched).collect(),
        availability: Some(Availability {
            roles: [crate::act::ROLES[1].into()].into(),
            states: ["available", "busy", "offline", "auto"].map(Into::into).into(),
            auto_offline: Some(Duration::from_secs(20)),
        }),
        ..PresenceSettings::default()
    }
}

/// The default profile, and an event that is said again with its attachments: as an event, then as the answer.
fn app() -> App {
    let mirror = |namespace: &mut Namespace| {
        namespace.on("mirror", |socket, args| {
            socket.emit_binary("mirrored", args.raw(), args.attachments());
            socket.ack_binary(args.raw(), args.attachments());
        });
    };
    default_app(["/", "/chat"]).namespace("/", mirror).namespace("/chat", mirror)
}

/// Requests of backends have no client.
fn state_is_api(conn: &Conn) -> bool {
    conn.client == API
}

/// Stands for the client of a backend's connection.
pub const API: usize = 0x00ff_ffff;
