//! Nodes of a fleet, as their shards see the backplane: over a store in memory, or over Redis. One suite asks both.

use crate::redis::Redis;
use crate::server::{SOON, until};
use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use tenantcast::backplane::{self, Handle, Login, Server, Servers, Settings, Start, memory::Memory};
use tenantcast::base::id::{NodeId, ShardId, TenantId};
use tenantcast::base::time::{Clock, Duration, Instant, Now};
use tenantcast::boot::SystemClock;
use tenantcast::bridge::{Bounds, Errands};
use tenantcast::shard::history::Epoch;
use tenantcast::shard::neighbour::{Errand, News};
use tenantcast::shard::relay::{Append, Appended, Place, Reading, Relay, Report, Ticket, Unavailable, Wanted};
use tenantcast::wire::envelope::{Frame, Origin};

pub trait Fleet {
    fn ask(&mut self, node: usize, relay: Relay);
    /// What the node hears next.
    fn hear(&mut self, node: usize) -> Report;
    /// Tries until it is so: something takes time.
    fn until(&mut self, what: &str, ready: &mut dyn FnMut(&mut dyn Fleet) -> bool);
    /// The store loses everything.
    fn lose(&mut self);
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a tenant's name")
}

/// A body as nodes send it: this one's origin where the wire has it.
pub fn body(origin: u64, text: &str) -> Box<[u8]> {
    let mut body = vec![0; 8];
    body.push(1);
    body.extend_from_slice(&origin.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
    body.into()
}

pub fn append(room: &str, text: &str) -> Append {
    Append {
        room: room.into(),
        body: body(0, text),
        id: None,
        id_ttl: Duration::from_secs(60),
        keep: 100,
        linger: Duration::from_secs(60),
        wait: None,
        track: None,
    }
}

/// What a frame says: text, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    pub place: Option<(u64, u64, u64, u64)>,
}

pub fn said(frame: &[u8]) -> Said {
    let Frame { place, body, .. } = Frame::decode(frame).expect("a frame");
    Said {
        text: String::from_utf8(body[17..].to_vec()).expect("text"),
        place: place.map(|place| (place.epoch, place.sequence, place.room_epoch, place.offset)),
    }
}

impl dyn Fleet + '_ {
    /// Opens a tenant at a node, and answers where it stands.
    pub fn open(&mut self, node: usize, name: &str) -> Place {
        self.ask(node, Relay::Open { tenant: tenant(name) });
        self.opened(node).expect("the store is there")
    }

    pub fn opened(&mut self, node: usize) -> Result<Place, Unavailable> {
        match self.hear(node) {
            Report::Opened { place, .. } => place,
            other => panic!("{other:?}"),
        }
    }

    pub fn errand(&mut self, node: usize, errand: Errand) {
        self.ask(node, Relay::Neighbour(Box::new(errand)));
    }

    pub fn news(&mut self, node: usize) -> News {
        match self.hear(node) {
            Report::Neighbour(news) => *news,
            other => panic!("{other:?}"),
        }
    }

    pub fn append(&mut self, node: usize, name: &str, ticket: u64, append: Append) {
        self.ask(node, Relay::Append { tenant: tenant(name), ticket: Ticket(ticket), append: Box::new(append) });
    }

    /// Hears an answer and an envelope of an append, whichever comes first.
    pub fn appended(&mut self, node: usize) -> (Appended, Said) {
        let (mut answer, mut frame) = (None, None);
        while answer.is_none() || frame.is_none() {
            match self.hear(node) {
                Report::Appended { result, .. } => answer = Some(result.expect("the store is there")),
                Report::Envelope { frame: heard, .. } => frame = Some(said(&heard)),
                other => panic!("{other:?}"),
            }
        }
        (answer.expect("heard"), frame.expect("heard"))
    }

    pub fn answer(&mut self, node: usize) -> Result<Appended, Unavailable> {
        match self.hear(node) {
            Report::Appended { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn envelope(&mut self, node: usize) -> Said {
        match self.hear(node) {
            Report::Envelope { frame, .. } => said(&frame),
            other => panic!("{other:?}"),
        }
    }

    pub fn read(&mut self, node: usize, name: &str, rooms: &[(&str, Option<u64>)]) -> Result<Reading, Unavailable> {
        let rooms = rooms.iter().map(|&(room, after)| Wanted { room: room.into(), after }).collect();
        self.ask(node, Relay::Read { tenant: tenant(name), ticket: Ticket(0), rooms });
        match self.hear(node) {
            Report::Read { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn claim(&mut self, node: usize, name: &str, pid: tenantcast::base::id::Sid) -> Option<Box<[u8]>> {
        self.ask(node, Relay::Claim { tenant: tenant(name), pid, ticket: Ticket(0) });
        match self.hear(node) {
            Report::Claimed { result, .. } => result.expect("the store is there"),
            other => panic!("{other:?}"),
        }
    }
}

/// The epoch of a room that never had events, or whose first event was the tenant's `mark`th.
pub fn room_epoch(place: Place, mark: u64) -> Epoch {
    Epoch(place.epoch.0 + mark)
}

pub struct InMemory {
    memory: Memory,
    now: Now,
    heard: Vec<VecDeque<Report>>,
}

impl InMemory {
    pub fn new(nodes: usize) -> InMemory {
        let heard = (0..nodes).map(|_| VecDeque::new()).collect();
        InMemory { memory: Memory::new([7; 32]), now: Now::default(), heard }
    }
}

impl Fleet for InMemory {
    fn ask(&mut self, node: usize, relay: Relay) {
        let mut out = Vec::new();
        self.memory.ask(self.now, node, relay, &mut out);
        for (to, report) in out {
            self.heard[to].push_back(report);
        }
    }

    fn hear(&mut self, node: usize) -> Report {
        self.heard[node].pop_front().expect("something is to be heard")
    }

    fn until(&mut self, what: &str, ready: &mut dyn FnMut(&mut dyn Fleet) -> bool) {
        for _ in 0..100 {
            if ready(self) {
                return;
            }
            self.now = self.now.later(Duration::from_millis(10));
        }
        panic!("not within a second: {what}");
    }

    fn lose(&mut self) {
        self.memory.lose();
    }
}

/// One process' backplane; its only shard is the test.
pub struct Node {
    pub errands: Arc<Errands<Relay>>,
    reports: mpsc::Receiver<Report>,
    handle: Option<Handle>,
    clock: Arc<SystemClock>,
}

pub const JOURNAL_BYTES: usize = 150_000;

pub fn settings(servers: Servers, origin: u64) -> Settings {
    Settings {
        servers,
        login: Login::default(),
        db: 0,
        is_secure: false,
        prefix: "tc".into(),
        journal_bytes: JOURNAL_BYTES,
        origin: Origin(origin),
        // As a store in memory numbers them.
        node: NodeId(origin as u16 - 1),
        fleet: None,
    }
}

pub fn at(port: u16) -> Server {
    Server { host: "127.0.0.1".into(), port }
}

impl Node {
    pub fn start(settings: Settings) -> Result<Node, backplane::Error> {
        let errands = Arc::new(Errands::new(backplane::names(), Bounds { count: 4096, bytes: 1 << 26 }));
        let (sender, reports) = mpsc::channel();
        let deliver = move |_: ShardId, reports: Vec<Report>, _| {
            // A test that has ended hears nothing.
            reports.into_iter().for_each(|report| drop(sender.send(report)));
            Ok(())
        };
        let clock = Arc::new(SystemClock::new());
        let origin = settings.origin.0;
        let start = Start {
            errands: errands.clone(),
            clock: clock.clone(),
            deliver: Arc::new(deliver),
            shards: 1,
            seed: [origin as u8; 32],
        };
        let handle = Some(backplane::start(settings, start)?);
        Ok(Node { errands, reports, handle, clock })
    }

    pub fn ask(&self, relay: Relay) {
        assert!(self.errands.try_send(ShardId(0), relay).is_ok(), "the lane has room");
    }

    pub fn hear(&self) -> Report {
        self.reports.recv_timeout(SOON).expect("something is to be heard")
    }

    pub fn count(&self, name: &str) -> u64 {
        self.errands.counts().find(|(known, _)| *known == name).map(|(_, count)| count).expect("a count's name")
    }

    pub fn now(&self) -> Instant {
        self.clock.now().at
    }

    pub fn finish(&mut self, within: Duration) {
        let until = self.now() + within;
        if let Some(handle) = self.handle.take() {
            handle.finish(until);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}

/// Nodes over a Redis.
pub struct OverRedis<'a> {
    pub nodes: Vec<Node>,
    /// Those that hold the data.
    redis: Vec<&'a Redis>,
}

impl<'a> OverRedis<'a> {
    pub fn new(servers: Servers, nodes: usize, redis: Vec<&'a Redis>) -> OverRedis<'a> {
        let node = |nth| Node::start(settings(servers.clone(), nth as u64 + 1)).expect("it starts");
        OverRedis { nodes: (0..nodes).map(node).collect(), redis }
    }
}

impl Fleet for OverRedis<'_> {
    fn ask(&mut self, node: usize, relay: Relay) {
        self.nodes[node].ask(relay);
    }

    fn hear(&mut self, node: usize) -> Report {
        self.nodes[node].hear()
    }

    fn until(&mut self, what: &str, ready: &mut dyn FnMut(&mut dyn Fleet) -> bool) {
        until(what, || ready(self));
    }

    fn lose(&mut self) {
        for redis in &self.redis {
            redis.ask(&["FLUSHALL"]);
        }
    }
}
