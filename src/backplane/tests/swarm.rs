//! Nodes on one store under everything that goes wrong between them: envelopes are lost, late and out of step with answers, nodes die without a
//! word, the store is away, or has lost all. Clients that behave as the official one does check every event they get.
//!
//! Checked: a client gets each event of its rooms once and in order; what it did not get was announced, by `gap` or by `recovered: false`; once
//! nothing goes wrong any more everybody has everything; what a publisher was told is in its place. And what `absent.rs` and
//! `presence.rs` say.

use super::absent::Absent;
use crate::backplane::memory::Memory;
use crate::base::{
    chance::Chance,
    id::{ConnKey, NodeId, TenantId},
    time::{Duration, Now},
};
use crate::shard::{
    default_app,
    fleet::FleetSettings,
    io::{Hangup, Input, Wire},
    relay::{self, Relay, Report},
    tests::{Rig, field},
};
use crate::wire::envelope::{Frame, Origin, record::Record};
use std::collections::{BTreeMap, VecDeque};

const NODES: usize = 3;
const LEASE: Duration = Duration::from_secs(300);
const ROOMS: [&str; 4] = ["r0", "r1", "r2", "r3"];

#[derive(Default)]
struct Client {
    user: String,
    at: Option<(usize, ConnKey)>,
    connected: bool,
    pid: Option<String>,
    position: Option<String>,
    /// By room: the place of the next event; none where it cannot know.
    rooms: BTreeMap<String, Option<(String, u64)>>,
    /// What it has asked for and was not answered, by the number of the acknowledgement.
    asked: BTreeMap<u64, Asked>,
    acks: u64,
    received: u64,
    gaps: u64,
}

enum Asked {
    Join(String),
    Leave(String),
    Publish(u64),
    /// To a user who comes and goes; how often the store had lost all by then.
    Tell(usize, u64),
}

pub struct Swarm {
    pub chance: Chance,
    pub rigs: Vec<Rig>,
    lives: u64,
    store: Memory,
    envelopes: Vec<VecDeque<Report>>,
    answers: Vec<VecDeque<Report>>,
    journal: VecDeque<(usize, Relay)>,
    away: bool,
    clients: Vec<Client>,
    pub absent: Vec<Absent>,
    losses: u64,
    published: u64,
    /// By room, epoch and offset.
    places: BTreeMap<(String, String, u64), u64>,
    recovered: u64,
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
        swarm.clients = (0..count).map(|n| Client { user: format!("u{}", n % 5), ..Client::default() }).collect();
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

    fn packet(&mut self, c: usize, packet: &str) {
        if std::env::var_os("SWARM_TRACE").is_some() {
            eprintln!("{c} {:?} <- {packet}", self.clients[c].at);
        }
        let client = &mut self.clients[c];
        if packet.starts_with("40{") {
            client.connected = true;
            let (pid, before) = (field(packet, "pid").to_owned(), client.pid.take());
            if before.as_ref() == Some(&pid) {
                self.recovered += 1;
            } else {
                // A new socket: it is in no room but its own.
                client.rooms.clear();
                client.position = None;
            }
            client.pid = Some(pid);
        } else if let Some(rest) = packet.strip_prefix("42[\"e\",") {
            let (room, epoch) = (field(rest, "room").to_owned(), field(rest, "epoch").to_owned());
            let offset: u64 = field(rest, "offset").parse().unwrap();
            let data: u64 = rest.split(',').next().unwrap().parse().unwrap();
            client.received += 1;
            client.position = Some(rest[rest.rfind(",\"").unwrap() + 2..].trim_end_matches("\"]").to_owned());
            let known = self.places.insert((room.clone(), epoch.clone(), offset), data);
            assert!(known.is_none_or(|known| known == data), "a place has one event");
            // A join that is not answered yet has no place to begin at.
            let next = client.rooms.entry(room.clone()).or_default();
            if let Some((known, next)) = next
                && *known == epoch
            {
                assert_eq!(offset, *next, "{}: {room} {epoch}: once and in order", client.user);
            } else if next.is_some() {
                assert_eq!(
                    offset, 1,
                    "{}: {room}: a new epoch that was not announced begins at its beginning",
                    client.user
                );
            }
            *next = Some((epoch, offset + 1));
        } else if packet.starts_with("42[\"gap\"") {
            client.gaps += 1;
            if packet.contains("\"room\":") {
                client.rooms.insert(field(packet, "room").to_owned(), None);
            } else {
                client.rooms.values_mut().for_each(|next| *next = None);
            }
        } else if let Some(rest) = packet.strip_prefix("43") {
            let (number, answer) = rest.split_once('[').unwrap();
            let Some(asked) = client.asked.remove(&number.parse().unwrap()) else { return };
            match asked {
                Asked::Join(room) if answer.contains("\"ok\":true") && answer.contains("\"epoch\"") => {
                    let place =
                        (field(answer, "epoch").to_owned(), field(answer, "offset").parse::<u64>().unwrap() + 1);
                    let next = client.rooms.entry(room.clone()).or_default();
                    // Where it has had events before the answer, those say it.
                    if let Some((epoch, next)) = next
                        && *epoch == place.0
                    {
                        assert_eq!(*next, place.1, "{}: {room}: the answer is of now", client.user);
                    }
                    *next = Some(place);
                }
                Asked::Publish(n) if answer.contains("\"ok\":true") => {
                    let _ = n;
                }
                Asked::Tell(absent, losses) if answer.contains("\"ok\":true") && losses == self.losses => {
                    self.absent[absent].expect(answer);
                }
                Asked::Join(room) if answer.contains("\"denied\":[{") => {
                    client.rooms.remove(&room);
                }
                // It may have waited for a join before it; till now its events came.
                Asked::Leave(room) => drop(client.rooms.remove(&room)),
                Asked::Join(_) | Asked::Publish(_) | Asked::Tell(..) => {}
            }
        }
    }

    fn act(&mut self, faults: bool) {
        if self.chance.below(4) == 0 {
            let nth = self.chance.below(self.absent.len() as u64) as usize;
            self.absent_acts(nth);
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
                client.asked.insert(ack, Asked::Publish(n));
                let text = format!("42{ack}[\"publish\",{{\"room\":\"{room}\",\"type\":\"e\",\"data\":{n}}}]");
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
                for absent in &mut self.absent {
                    if absent.at.is_some_and(|(node, _)| node == dead) {
                        absent.at = None;
                    }
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

    fn describe(&self, client: &Client) -> String {
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
        for c in 0..self.clients.len() {
            if self.clients[c].at.is_none() {
                self.connect(c);
                self.settle(false);
            }
        }
        for client in &self.clients {
            assert!(client.connected, "{}: CONNECT is answered: {}", client.user, self.describe(client));
        }
        for c in 0..self.clients.len() {
            for room in ROOMS {
                let (node, conn) = self.clients[c].at.expect("connected");
                self.clients[c].acks += 1;
                let ack = self.clients[c].acks;
                self.clients[c].asked.insert(ack, Asked::Join(room.to_owned()));
                self.rigs[node].say(conn, &format!("42{ack}[\"subscribe\",{{\"rooms\":[\"{room}\"]}}]"));
                self.settle(false);
                self.read();
            }
        }
        for client in &self.clients {
            assert!(client.asked.is_empty(), "{}: everything is answered", client.user);
        }
        // All of them have everything, and so are at the same place.
        for room in ROOMS {
            let places: Vec<_> = self.clients.iter().map(|client| client.rooms[room].clone()).collect();
            assert!(places.iter().all(|place| place.is_some() && *place == places[0]), "{room}: {places:?}");
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
    for seed in only.map_or(0..runs, |seed| seed..seed + 1) {
        let ended = std::panic::catch_unwind(|| {
            let mut swarm = Swarm::new(seed);
            swarm.run(400);
            let sum = |of: fn(&Client) -> u64| swarm.clients.iter().map(of).sum::<u64>();
            let queued = swarm.absent.iter().map(|absent| absent.queued).sum::<u64>();
            (sum(|client| client.received), sum(|client| client.gaps), swarm.recovered, queued)
        });
        let Ok(ended) = ended else { panic!("SWARM_SEED={seed} cargo test --lib backplane::tests::swarm") };
        (received, gaps, recovered) = (received + ended.0, gaps + ended.1, recovered + ended.2);
        queued += ended.3;
    }
    println!("{received} events received, {queued} of queues, {gaps} gaps announced, {recovered} sockets recovered");
    assert!(
        only.is_some() || (received > 1000 && gaps > 0 && recovered > 10 && queued > 100),
        "{received} {gaps} {recovered}"
    );
}
