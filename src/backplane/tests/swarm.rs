//! Nodes on one store under everything that goes wrong between them: envelopes are lost, late and out of step with answers, nodes die without a
//! word, the store is away, or has lost all. Their clients check every event they get.
//!
//! Checked: what `member.rs`, `follower.rs`, `absent.rs` and `presence.rs` say; once nothing goes wrong any more everybody has everything; what a
//! publisher was told is in its place; who is said to have acknowledged has.

use super::{
    absent::Absent,
    follower::Follower,
    member::{Asked, Member},
};
use crate::backplane::memory::Memory;
use crate::base::{
    chance::Chance,
    id::{NodeId, TenantId},
    time::{Duration, Now},
};
use crate::shard::{
    default_app,
    fleet::FleetSettings,
    io::{Hangup, Input, Wire},
    relay::{self, Relay, Report},
    tests::Rig,
};
use crate::wire::envelope::{Frame, Origin, record::Record};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const NODES: usize = 3;
const LEASE: Duration = Duration::from_secs(300);
const ROOMS: [&str; 4] = ["r0", "r1", "r2", "r3"];

pub struct Swarm {
    pub chance: Chance,
    pub rigs: Vec<Rig>,
    lives: u64,
    store: Memory,
    envelopes: Vec<VecDeque<Report>>,
    answers: Vec<VecDeque<Report>>,
    journal: VecDeque<(usize, Relay)>,
    away: bool,
    pub clients: Vec<Member>,
    pub absent: Vec<Absent>,
    pub followers: Vec<Follower>,
    /// Users and the ids of events that they have acknowledged, as they were asked to.
    pub acknowledged: BTreeSet<(String, String)>,
    pub tallied: u64,
    pub losses: u64,
    published: u64,
    /// By room, epoch and offset.
    pub places: BTreeMap<(String, String, u64), u64>,
    pub recovered: u64,
}

fn rig(node: usize, life: u64, now: Option<Now>) -> Rig {
    let mut rig = Rig::seeded(default_app(["/", "/chat"]), life as u8, |settings| {
        settings.node = NodeId(node as u16);
        settings.limits.events_per_second = 0;
        // A line that is cut without a word is found out by who comes back, and by nothing else.
        settings.ping_interval = Duration::from_secs(100_000);
        settings.fleet =
            Some(FleetSettings { origin: Origin(life), lease: LEASE, names_rooms: false, reads_rows: false });
    });
    rig.now = now.unwrap_or(rig.now);
    rig
}

/// A token of the swarm's tenant.
pub fn tenant_token(rig: &Rig, user: &str) -> String {
    rig.token("t", user)
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

impl Swarm {
    fn new(seed: u64) -> Swarm {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut swarm = Swarm {
            chance: Chance::new(bytes),
            rigs: Vec::new(),
            lives: 0,
            store: Memory::new(bytes),
            envelopes: (0..NODES).map(|_| VecDeque::new()).collect(),
            answers: (0..NODES).map(|_| VecDeque::new()).collect(),
            journal: VecDeque::new(),
            away: false,
            clients: Vec::new(),
            absent: (0..2).map(|n| Absent::new(format!("w{n}"))).collect(),
            followers: ROOMS.iter().map(|room| Follower::new(format!("f{room}"), room)).collect(),
            acknowledged: BTreeSet::new(),
            tallied: 0,
            losses: 0,
            published: 0,
            places: BTreeMap::new(),
            recovered: 0,
        };
        for node in 0..NODES {
            swarm.lives += 1;
            swarm.rigs.push(rig(node, swarm.lives, None));
        }
        let count = 2 + swarm.chance.below(8);
        swarm.clients = (0..count).map(|n| Member::new(format!("u{}", n % 5))).collect();
        swarm
    }

    /// What the nodes have asked reaches the store.
    fn ask(&mut self) {
        for node in 0..NODES {
            for relay in std::mem::take(&mut self.rigs[node].relays) {
                let waits = matches!(
                    relay,
                    Relay::Append { .. }
                        | Relay::Save { .. }
                        | Relay::Forget { .. }
                        | Relay::Share { ticket: None, .. }
                );
                if self.away && waits {
                    self.journal.push_back((node, relay));
                } else {
                    self.reach(node, relay);
                }
            }
        }
    }

    fn reach(&mut self, node: usize, relay: Relay) {
        let mut heard = Vec::new();
        if std::env::var_os("SWARM_TRACE").is_some() {
            match &relay {
                Relay::Save { pid, body, .. } => {
                    let record = Record::decode(body).unwrap();
                    let rooms: Vec<_> = record.seats.iter().map(|seat| seat.room).collect();
                    eprintln!("{node} saves {pid} {} {rooms:?}", record.generation);
                }
                Relay::Claim { .. } | Relay::Forget { .. } | Relay::Read { .. } => {
                    eprintln!("{node} asks {relay:?} away {}", self.away)
                }
                _ => {}
            }
        }
        self.store.ask(self.rigs[node].now, node, relay, &mut heard);
        for (to, report) in heard {
            match report {
                Report::Envelope { .. } => self.envelopes[to].push_back(report),
                _ => self.answers[to].push_back(report),
            }
        }
    }

    /// One report arrives somewhere, or is lost.
    fn hear(&mut self, node: usize, loses: bool) -> bool {
        let envelopes = self.chance.below(2) == 0;
        let ways = if envelopes { &mut self.envelopes } else { &mut self.answers };
        let Some(report) = ways[node].pop_front() else { return false };
        if envelopes && loses && self.chance.below(10) == 0 {
            return true;
        }
        if std::env::var_os("SWARM_TRACE").is_some() {
            match &report {
                Report::Read { ticket, result: Ok(reading) } => {
                    let of = |room: &relay::RoomRead| {
                        let entries: Vec<_> = room.entries.iter().map(|entry| (entry.sequence, entry.offset)).collect();
                        format!("{} {} {} {entries:?}", room.epoch, room.offset, room.sequence)
                    };
                    let rooms: Vec<_> = reading.rooms.iter().map(of).collect();
                    eprintln!("{node} reads {ticket:?} {:?} {rooms:?}", reading.place);
                }
                Report::Envelope { frame, .. } => {
                    let place = Frame::decode(frame).map(|frame| frame.place);
                    eprintln!("{node} hears {place:?}");
                }
                Report::Opened { place, .. } => eprintln!("{node} opened {place:?}"),
                _ => {}
            }
        }
        self.rigs[node].input(Input::Report(report));
        self.read();
        true
    }

    fn settle(&mut self, loses: bool) {
        loop {
            self.ask();
            let busy: Vec<usize> = (0..NODES)
                .filter(|node| !self.envelopes[*node].is_empty() || !self.answers[*node].is_empty())
                .collect();
            let Some(node) = busy.get(self.chance.below(busy.len().max(1) as u64) as usize) else { return };
            self.hear(*node, loses);
        }
    }

    fn reopen(&mut self) {
        for node in 0..NODES {
            let place = if self.away { Err(relay::Unavailable) } else { Ok(self.store.place(&tenant())) };
            self.answers[node].push_back(Report::Opened { tenant: tenant(), place });
        }
    }

    fn connect(&mut self, c: usize) {
        let node = self.chance.below(NODES as u64) as usize;
        let client = &mut self.clients[c];
        let rig = &mut self.rigs[node];
        let conn = rig.open(Wire::WebSocket, None);
        let token = rig.token("t", &client.user);
        let mut more = String::new();
        if let Some(pid) = &client.pid {
            more = format!(",\"pid\":\"{pid}\"");
            if let Some(position) = &client.position {
                more.push_str(&format!(",\"offset\":\"{position}\""));
            }
        }
        if std::env::var_os("SWARM_TRACE").is_some() {
            eprintln!("{c} goes to {node}: {more}");
        }
        for asked in std::mem::take(&mut client.asked).into_values() {
            // It may be in it or not.
            if let Asked::Join(room) | Asked::Leave(room) = asked {
                client.rooms.insert(room, None);
            }
        }
        client.connected = false;
        client.at = Some((node, conn));
        rig.say(conn, &format!("40{{\"token\":\"{token}\"{more}}}"));
    }

    /// Takes what has been written to every client.
    pub fn read(&mut self) {
        for absent in &mut self.absent {
            let Some((node, conn)) = absent.at else { continue };
            for packet in self.rigs[node].take(conn) {
                if std::env::var_os("SWARM_TRACE").is_some() {
                    eprintln!("{} at {node} <- {packet}", absent.user);
                }
                let is_cut_off =
                    self.rigs[node].shard.describe_streams().iter().any(|stream| stream.contains("away true"));
                absent.packet(&packet, is_cut_off);
            }
            assert!(self.rigs[node].closed.iter().all(|(closed, _)| *closed != conn), "nobody closes it");
        }
        for follower in &mut self.followers {
            let Some((node, conn)) = follower.at else { continue };
            for packet in self.rigs[node].take(conn) {
                if std::env::var_os("SWARM_TRACE").is_some() {
                    eprintln!("{} at {node} <- {packet}", follower.user);
                }
                if let Some((place, data)) = follower.packet(&packet) {
                    assert_eq!(*self.places.entry(place).or_insert(data), data, "a place has one event");
                }
            }
            if self.rigs[node].closed.iter().any(|(closed, _)| *closed == conn) {
                follower.at = None;
            }
        }
        for c in 0..self.clients.len() {
            let Some((node, conn)) = self.clients[c].at else { continue };
            for packet in self.rigs[node].take(conn) {
                self.packet(c, &packet);
            }
            let rig = &mut self.rigs[node];
            if let Some(at) = rig.closed.iter().position(|(closed, _)| *closed == conn) {
                let closed = rig.closed.remove(at);
                if std::env::var_os("SWARM_TRACE").is_some() {
                    eprintln!("{c} closed {closed:?}");
                }
                self.clients[c].at = None;
            }
        }
    }

    fn act(&mut self, faults: bool) {
        if self.chance.below(4) == 0 {
            let nth = self.chance.below(self.absent.len() as u64) as usize;
            self.absent_acts(nth);
        }
        if self.chance.below(4) == 0 {
            let nth = self.chance.below(self.followers.len() as u64) as usize;
            self.follower_acts(nth);
        }
        let c = self.chance.below(self.clients.len() as u64) as usize;
        let room = ROOMS[self.chance.below(ROOMS.len() as u64) as usize];
        let Some((node, conn)) = self.clients[c].at else { return self.connect(c) };
        let client = &mut self.clients[c];
        client.acks += 1;
        let ack = client.acks;
        // The official client keeps its events until it is connected.
        let die = self.chance.below(if faults { 100 } else { 80 });
        if !client.connected && die < 80 {
            return;
        }
        match die {
            0..20 => {
                client.asked.insert(ack, Asked::Join(room.to_owned()));
                self.rigs[node].say(conn, &format!("42{ack}[\"subscribe\",{{\"rooms\":[\"{room}\"]}}]"));
            }
            20..24 => {
                client.asked.insert(ack, Asked::Leave(room.to_owned()));
                self.rigs[node].say(conn, &format!("42{ack}[\"unsubscribe\",{{\"rooms\":[\"{room}\"]}}]"));
            }
            24..36 => {
                self.published += 1;
                let (n, absent) = (self.published, self.chance.below(self.absent.len() as u64) as usize);
                client.asked.insert(ack, Asked::Tell(absent, self.losses));
                let room = format!("user:{}", self.absent[absent].user);
                let text = format!("42{ack}[\"publish\",{{\"room\":\"{room}\",\"type\":\"w\",\"data\":{n}}}]");
                self.rigs[node].say(conn, &text);
            }
            36..80 => {
                self.published += 1;
                let n = self.published;
                client.asked.insert(ack, Asked::Publish);
                let asks = if self.chance.below(4) == 0 { ",\"ack\":{\"timeoutMs\":300,\"retries\":1}" } else { "" };
                let text = format!("42{ack}[\"publish\",{{\"room\":\"{room}\",\"type\":\"e\",\"data\":{n}{asks}}}]");
                self.rigs[node].say(conn, &text);
            }
            // Its line is cut; its node may not notice.
            80..90 => {
                self.read();
                self.clients[c].at = None;
                if self.chance.below(2) == 0 {
                    self.rigs[node].input(Input::Hangup { conn, cause: Hangup::Failed });
                }
            }
            // Not while what it keeps waits for the store: that would be lost with it.
            90..93 if !self.away => {
                // A node dies. What it asked has reached the store, as what it answered has reached its clients; the answers are lost.
                self.ask();
                let dead = self.chance.below(NODES as u64) as usize;
                self.read();
                self.store.leave(dead);
                self.envelopes[dead].clear();
                self.answers[dead].clear();
                self.journal.retain(|(node, _)| *node != dead);
                self.lives += 1;
                let now = self.rigs[dead].now;
                self.rigs[dead] = rig(dead, self.lives, Some(now));
                for client in &mut self.clients {
                    if client.at.is_some_and(|(node, _)| node == dead) {
                        client.at = None;
                    }
                }
                let others = self.absent.iter_mut().map(|absent| &mut absent.at);
                for at in others.chain(self.followers.iter_mut().map(|follower| &mut follower.at)) {
                    *at = at.filter(|(node, _)| *node != dead);
                }
            }
            93..96 if !self.away => {
                self.away = true;
                self.store.set_away(true);
                self.reopen();
            }
            90..98 => self.come_back(),
            98 => {
                self.come_back();
                self.ask();
                self.store.lose();
                self.losses += 1;
                self.absent.iter_mut().for_each(Absent::store_lost);
                self.reopen();
            }
            _ => self.reopen(),
        }
        let by = Duration::from_millis(1 + self.chance.below(200));
        for rig in &mut self.rigs {
            rig.advance(by);
        }
        self.read();
    }

    fn describe(&self, client: &Member) -> String {
        let Some((node, _)) = client.at else { return "nowhere".into() };
        format!("node {node}: {:?}", self.rigs[node].shard.describe_streams())
    }

    fn come_back(&mut self) {
        self.away = false;
        self.store.set_away(false);
        self.reopen();
        for (node, relay) in std::mem::take(&mut self.journal) {
            self.reach(node, relay);
        }
    }

    /// It is there.
    fn see_to(&mut self, c: usize) {
        if self.clients[c].at.is_none() {
            self.connect(c);
            self.settle(false);
        }
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.act(true);
            self.ask();
            for node in 0..NODES {
                for _ in 0..self.chance.below(4) {
                    self.hear(node, true);
                }
            }
        }
        // Nothing goes wrong any more.
        self.come_back();
        self.settle(false);
        self.reopen();
        self.settle(false);
        (0..self.clients.len()).for_each(|c| self.see_to(c));
        for client in &self.clients {
            assert!(client.connected, "{}: CONNECT is answered: {}", client.user, self.describe(client));
        }
        for c in 0..self.clients.len() {
            // A node that took its session over late, for a line that is gone, has it closed where it is: it comes back.
            for room in ROOMS.into_iter().chain(ROOMS) {
                self.see_to(c);
                let (node, conn) = self.clients[c].at.expect("connected");
                self.clients[c].acks += 1;
                let ack = self.clients[c].acks;
                self.clients[c].asked.insert(ack, Asked::Join(room.to_owned()));
                self.rigs[node].say(conn, &format!("42{ack}[\"subscribe\",{{\"rooms\":[\"{room}\"]}}]"));
                self.settle(false);
                self.read();
            }
        }
        // Who was asked and has not answered is waited for, and asked again.
        for _ in 0..20 {
            self.rigs.iter_mut().for_each(|rig| rig.advance(Duration::from_millis(100)));
            self.settle(false);
            self.read();
        }
        for client in &self.clients {
            assert!(client.asked.is_empty(), "{}: everything is answered", client.user);
        }
        // All of them have everything, and so are at the same place.
        for room in ROOMS {
            let places: Vec<_> = self.clients.iter().map(|client| client.rooms[room].clone()).collect();
            assert!(places.iter().all(|place| place.is_some() && *place == places[0]), "{room}: {places:?}");
        }
        for (nth, room) in ROOMS.into_iter().enumerate() {
            if self.followers[nth].at.is_none() {
                self.follower_comes(nth);
                self.settle(false);
            }
            // Where it was told of a gap, the answer says its place.
            self.followers[nth].is_in = false;
            self.follower_asks(nth);
            self.settle(false);
            self.read();
            let (follower, there) = (&self.followers[nth], self.clients[0].rooms[room].clone());
            let here = follower.last.clone().map(|(epoch, offset)| (epoch, offset + 1));
            assert!(follower.is_in && here == there, "{room}: {here:?} {there:?}");
        }
        // Whoever comes has got all, and what it has acknowledged does not come again.
        for nth in (0..self.absent.len()).chain(0..self.absent.len()) {
            if let Some((node, conn)) = self.absent[nth].at.take() {
                self.rigs[node].input(Input::Hangup { conn, cause: Hangup::Closed });
                self.settle(false);
            }
            self.absent_comes(nth);
            self.settle(false);
            self.absent_acknowledges(nth);
            self.settle(false);
            self.absent[nth].is_whole();
        }
        for _ in 0..20 {
            self.rigs.iter_mut().for_each(|rig| rig.advance(LEASE / 20));
            self.settle(false);
            self.read();
        }
        super::presence::check(&self.rigs, &mut self.store, &tenant());
        for rig in &self.rigs {
            let waits = rig.shard.census().iter().find(|(name, _)| *name == "joins that wait").unwrap().1;
            assert_eq!(waits, 0, "nobody waits");
        }
    }
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_without_a_word() {
    let only = std::env::var("SWARM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let runs = std::env::var("SWARM_RUNS").ok().and_then(|runs| runs.parse::<u64>().ok()).unwrap_or(60);
    let (mut received, mut gaps, mut recovered, mut queued) = (0, 0, 0, 0);
    let (mut followed, mut tallied) = (0, 0);
    for seed in only.map_or(0..runs, |seed| seed..seed + 1) {
        let ended = std::panic::catch_unwind(|| {
            let mut swarm = Swarm::new(seed);
            swarm.run(400);
            let sum = |of: fn(&Member) -> u64| swarm.clients.iter().map(of).sum::<u64>();
            let queued = swarm.absent.iter().map(|absent| absent.queued).sum::<u64>();
            let followed = swarm.followers.iter().map(|follower| follower.followed).sum::<u64>();
            let ended = [sum(|client| client.received), sum(|client| client.gaps), swarm.recovered];
            (ended, queued, followed, swarm.tallied)
        });
        let Ok((ended, waited, since, acked)) = ended else {
            panic!("SWARM_SEED={seed} cargo test --lib backplane::tests::swarm")
        };
        (received, gaps, recovered) = (received + ended[0], gaps + ended[1], recovered + ended[2]);
        (queued, followed, tallied) = (queued + waited, followed + since, tallied + acked);
    }
    let all = format!(
        "{received} events received, {queued} of queues, {followed} by who asked since when, {gaps} gaps announced, {recovered} sockets \
         recovered, {tallied} acknowledged"
    );
    println!("{all}");
    let is_worth = received > 1000 && gaps > 0 && recovered > 10 && queued > 100 && followed > 100 && tallied > 100;
    assert!(only.is_some() || is_worth, "{all}");
}
