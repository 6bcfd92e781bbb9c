//! Nodes that write to the same documents, with answers and editions out of step, lost, or late, and a store that is away for a while.
//!
//! Checked: a version is given to one update; who has a document open hears of each version once and in order, by the others' updates and its own
//! answers, as on one node, and where something is lost the versions still rise; what was accepted is in the version it was given; in the end
//! everybody has what the store has.

use crate::backplane::memory::Memory;
use crate::base::{
    chance::Chance,
    id::{ConnKey, NodeId, TenantId},
    time::{Duration, Instant},
};
use crate::profile::file::Strategy;
use crate::shard::{
    default_app,
    document::{Document, DocumentRule},
    fleet::FleetSettings,
    io::{Input, Wire},
    relay::{self, Relay, Report, document::Answer},
    tests::Rig,
};
use crate::wire::{auth::Pattern, envelope::Origin};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

const NODES: usize = 2;
const DOCUMENTS: [&str; 3] = ["d", "r", "m"];
const FIELDS: [&str; 3] = ["a", "b", "c"];

type State = BTreeMap<String, Value>;

#[derive(Clone, Copy, PartialEq)]
enum Faults {
    /// What two connections do: answers and editions are out of step.
    None,
    /// Editions are lost, answers are lost, the store is away.
    All,
}

/// A document as a client has it.
#[derive(Clone, Default)]
struct Copy {
    epoch: String,
    version: u64,
    state: State,
}

struct Client {
    node: usize,
    conn: ConnKey,
    open: BTreeMap<&'static str, Copy>,
    asked: BTreeMap<u64, Asked>,
    acks: u64,
}

enum Asked {
    Open(&'static str),
    /// `again`: it has been sent before.
    Update {
        document: &'static str,
        fields: State,
        text: String,
        again: bool,
    },
    Get(&'static str),
}

struct Sim {
    chance: Chance,
    faults: Faults,
    rigs: Vec<Rig>,
    store: Memory,
    editions: Vec<VecDeque<Report>>,
    answers: Vec<VecDeque<Report>>,
    away: bool,
    clients: Vec<Client>,
    /// By document, epoch and version: what was written by the one who was answered so.
    written: BTreeMap<(&'static str, String, u64), State>,
    /// The same, as others have heard it.
    heard: BTreeMap<(&'static str, String, u64), State>,
    values: u64,
    counts: [u64; 4],
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

fn rig(node: usize) -> Rig {
    Rig::seeded(default_app(["/"]), node as u8 + 1, |settings| {
        settings.node = NodeId(node as u16);
        settings.limits.events_per_second = 0;
        settings.ping_interval = Duration::from_secs(100_000);
        settings.fleet = Some(FleetSettings {
            origin: Origin(node as u64 + 1),
            lease: Duration::from_secs(300),
            names_rooms: false,
            reads_rows: false,
        });
        let rule = |strategy| DocumentRule { strategy, ..DocumentRule::default() };
        settings.documents.rules.insert(0, (Pattern::parse("m*").unwrap(), rule(Strategy::Manual)));
        settings.documents.rules.insert(1, (Pattern::parse("r*").unwrap(), rule(Strategy::Reject)));
    })
}

fn object(value: &Value) -> State {
    value.as_object().map(|fields| fields.clone().into_iter().collect()).unwrap_or_default()
}

impl Sim {
    fn new(seed: u64, faults: Faults) -> Sim {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut sim = Sim {
            chance: Chance::new(bytes),
            faults,
            rigs: (0..NODES).map(rig).collect(),
            store: Memory::new(bytes),
            editions: (0..NODES).map(|_| VecDeque::new()).collect(),
            answers: (0..NODES).map(|_| VecDeque::new()).collect(),
            away: false,
            clients: Vec::new(),
            written: BTreeMap::new(),
            heard: BTreeMap::new(),
            values: 0,
            counts: [0; 4],
        };
        for n in 0..2 + sim.chance.below(4) as usize {
            let node = n % NODES;
            let rig = &mut sim.rigs[node];
            let conn = rig.open(Wire::WebSocket, None);
            let token = rig.token("t", &format!("u{n}"));
            rig.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
            let client = Client { node, conn, open: BTreeMap::new(), asked: BTreeMap::new(), acks: 0 };
            sim.clients.push(client);
        }
        sim.settle();
        sim
    }

    /// What the nodes have asked reaches the store; with faults, not every answer reaches them.
    fn ask(&mut self) {
        for node in 0..NODES {
            for relay in std::mem::take(&mut self.rigs[node].relays) {
                let loses = self.faults == Faults::All && self.chance.below(40) == 0;
                let ticket = match &relay {
                    Relay::Share { ticket: Some(ticket), .. } if loses => Some(*ticket),
                    _ => None,
                };
                let mut heard = Vec::new();
                self.store.ask(self.rigs[node].now, node, relay, &mut heard);
                for (to, report) in heard {
                    match report {
                        Report::Envelope { .. } => self.editions[to].push_back(report),
                        Report::Shared { .. } if ticket.is_some() => {}
                        _ => self.answers[to].push_back(report),
                    }
                }
                if let Some(ticket) = ticket {
                    // It was done, and nobody knows.
                    self.answers[node].push_back(Report::Shared { ticket, result: Err(relay::Unavailable) });
                }
            }
        }
    }

    fn hear(&mut self, node: usize) {
        let editions = self.chance.below(2) == 0;
        let ways = if editions { &mut self.editions } else { &mut self.answers };
        let Some(report) = ways[node].pop_front() else { return };
        if editions && self.faults == Faults::All && self.chance.below(20) == 0 {
            self.counts[3] += 1;
            return;
        }
        self.rigs[node].input(Input::Report(report));
        self.read();
    }

    fn settle(&mut self) {
        loop {
            self.ask();
            let is_busy = |node: &usize| !self.editions[*node].is_empty() || !self.answers[*node].is_empty();
            let busy: Vec<usize> = (0..NODES).filter(is_busy).collect();
            let Some(node) = busy.get(self.chance.below(busy.len().max(1) as u64) as usize) else { return };
            self.hear(*node);
        }
    }

    fn reopen(&mut self) {
        for node in 0..NODES {
            let place = if self.away { Err(relay::Unavailable) } else { Ok(self.store.place(&tenant())) };
            self.answers[node].push_back(Report::Opened { tenant: tenant(), place });
        }
    }

    fn say(&mut self, c: usize, event: &str, argument: &str, asked: Asked) {
        let client = &mut self.clients[c];
        client.acks += 1;
        let ack = client.acks;
        client.asked.insert(ack, asked);
        let (node, conn) = (client.node, client.conn);
        self.rigs[node].say(conn, &format!("42{ack}[\"{event}\",{argument}]"));
        self.read();
    }

    fn act(&mut self) {
        let c = self.chance.below(self.clients.len() as u64) as usize;
        let document = DOCUMENTS[self.chance.below(3) as usize];
        let is_opening =
            self.clients[c].asked.values().any(|asked| matches!(asked, Asked::Open(open) if *open == document));
        let Some(copy) = self.clients[c].open.get(document) else {
            if !is_opening {
                self.say(c, "document:open", &format!("{{\"document\":\"{document}\"}}"), Asked::Open(document));
            }
            return;
        };
        if self.clients[c].asked.len() > 2 {
            return;
        }
        if self.chance.below(8) == 0 {
            return self.say(c, "document:get", &format!("{{\"document\":\"{document}\"}}"), Asked::Get(document));
        }
        let (version, epoch) = (copy.version, copy.epoch.clone());
        let epoch = if version > 0 { format!(",\"epoch\":\"{epoch}\"") } else { String::new() };
        let mut fields = State::new();
        for _ in 0..1 + self.chance.below(2) {
            self.values += 1;
            fields.insert(FIELDS[self.chance.below(3) as usize].to_owned(), self.values.into());
        }
        let time = self.rigs[0].now.unix.0 - self.chance.below(1000);
        let text = format!(
            "{{\"document\":\"{document}\",\"baseVersion\":{version}{epoch},\"fields\":{},\"timestamp\":{time}}}",
            serde_json::to_string(&fields).unwrap()
        );
        self.say(c, "document:update", &text.clone(), Asked::Update { document, fields, text, again: false });
    }

    /// Takes what has been written to every client.
    fn read(&mut self) {
        for c in 0..self.clients.len() {
            let (node, conn) = (self.clients[c].node, self.clients[c].conn);
            for packet in self.rigs[node].take(conn) {
                self.packet(c, &packet);
            }
        }
    }

    fn packet(&mut self, c: usize, packet: &str) {
        if std::env::var_os("SWARM_TRACE").is_some() {
            eprintln!("{c} <- {packet}");
        }
        if let Some(rest) = packet.strip_prefix("42[\"document:updated\",") {
            let told: Value = serde_json::from_str(rest.strip_suffix(']').unwrap()).unwrap();
            self.updated(c, &told);
        } else if let Some(rest) = packet.strip_prefix("43") {
            let (number, answer) = rest.split_once('[').unwrap();
            let answer: Value = serde_json::from_str(answer.strip_suffix(']').unwrap()).unwrap();
            if let Some(asked) = self.clients[c].asked.remove(&number.parse().unwrap()) {
                self.answered(c, asked, &answer);
            }
        }
    }

    fn updated(&mut self, c: usize, told: &Value) {
        let document = DOCUMENTS.into_iter().find(|document| told["document"] == **document).unwrap();
        let (epoch, version) = (told["epoch"].as_str().unwrap(), told["version"].as_u64().unwrap());
        let fields = object(&told["fields"]);
        let strict = self.faults == Faults::None;
        if strict {
            let heard = self.heard.entry((document, epoch.to_owned(), version)).or_insert_with(|| fields.clone());
            assert_eq!(*heard, fields, "everybody hears the same of {document} {version}");
        }
        let Some(copy) = self.clients[c].open.get_mut(document) else { return };
        let is_new = copy.epoch != epoch;
        if is_new {
            assert!(copy.version == 0 || !strict, "{document} has another life");
            *copy = Copy { epoch: epoch.to_owned(), ..Copy::default() };
        }
        if strict {
            assert_eq!(version, copy.version + 1, "client {c}, {document}: each version once and in order");
        }
        assert!(version > copy.version, "client {c}, {document}: versions rise");
        copy.version = version;
        copy.state.extend(fields);
        self.counts[0] += 1;
    }

    fn answered(&mut self, c: usize, asked: Asked, answer: &Value) {
        let strict = self.faults == Faults::None;
        let (code, version) = (answer["code"].as_str().unwrap_or_default(), answer["version"].as_u64());
        assert!(!strict || code.is_empty() || code == "conflict" || code == "unknown_document", "{answer}");
        match asked {
            Asked::Open(document) => {
                if let Some(version) = version {
                    let epoch = answer["epoch"].as_str().unwrap_or_default().to_owned();
                    let copy = Copy { epoch, version, state: object(&answer["fields"]) };
                    self.clients[c].open.insert(document, copy);
                }
            }
            Asked::Get(document) => {
                let Some(copy) = self.clients[c].open.get(document) else { return };
                if code.is_empty() && strict {
                    assert_eq!(
                        (version, object(&answer["fields"])),
                        (Some(copy.version), copy.state.clone()),
                        "client {c}"
                    );
                }
            }
            Asked::Update { document, fields, text, again } => match (code, version) {
                ("" | "conflict", Some(version)) => {
                    let epoch = answer["epoch"].as_str().unwrap().to_owned();
                    let clashed = !answer["strategy"].is_null() || !answer["conflict"].is_null();
                    let Some(copy) = self.clients[c].open.get_mut(document) else { return };
                    let rises = version > copy.version || copy.epoch != epoch;
                    if strict {
                        assert!(version - copy.version <= 1, "client {c}, {document}: {answer} after {}", copy.version);
                    }
                    if rises && strict {
                        let known = self.written.insert((document, epoch.clone(), version), fields.clone());
                        assert_eq!(known, None, "{document} {version} is given once");
                    }
                    if version >= copy.version && copy.epoch == epoch || copy.version == 0 {
                        let disputed = |name: &str| {
                            let names = answer["conflictedFields"].as_array();
                            names.is_some_and(|names| names.iter().any(|other| other == name))
                        };
                        if code.is_empty() {
                            copy.state.extend(fields);
                        } else if answer["strategy"] == "manual" {
                            copy.state.extend(fields.into_iter().filter(|(name, _)| !disputed(name)));
                        }
                        copy.state.extend(object(&answer["fields"]));
                        copy.version = version;
                        copy.epoch = epoch;
                    }
                    if again {
                        // It says the version it was given, and not what else is in that.
                        self.clients[c].open.remove(document);
                    }
                    self.counts[1] += u64::from(rises);
                    self.counts[2] += u64::from(clashed);
                }
                ("backplane_unavailable" | "document_busy", _) => {
                    assert!(!strict || code == "document_busy", "{answer}");
                    if self.chance.below(2) == 0 {
                        let asked = Asked::Update { document, fields, text: text.clone(), again: true };
                        self.say(c, "document:update", &text, asked);
                    } else {
                        // It may have been written.
                        self.clients[c].open.remove(document);
                    }
                }
                ("version_unknown" | "version_too_old" | "unknown_document", _) => {
                    assert!(!strict || code == "unknown_document", "{answer}");
                    self.clients[c].open.remove(document);
                }
                _ => panic!("{answer}"),
            },
        }
    }

    fn run(&mut self) {
        for _ in 0..150 {
            match self.chance.below(10) {
                0..3 => self.act(),
                3 if self.faults == Faults::All && self.chance.below(20) == 0 => {
                    self.away = !self.away;
                    self.store.set_away(self.away);
                    self.reopen();
                }
                _ => {
                    self.ask();
                    let node = self.chance.below(NODES as u64) as usize;
                    self.hear(node);
                }
            }
        }
        // Nothing goes wrong any more.
        self.away = false;
        self.store.set_away(false);
        if self.faults == Faults::All {
            self.reopen();
        }
        for _ in 0..4 {
            self.calm();
        }
        self.check();
    }

    fn calm(&mut self) {
        loop {
            let is_busy = |node: &usize| {
                !self.editions[*node].is_empty()
                    || !self.answers[*node].is_empty()
                    || !self.rigs[*node].relays.is_empty()
            };
            let Some(node) = (0..NODES).find(is_busy) else { break };
            for relay in std::mem::take(&mut self.rigs[node].relays) {
                let mut heard = Vec::new();
                self.store.ask(self.rigs[node].now, node, relay, &mut heard);
                for (to, report) in heard {
                    match report {
                        Report::Envelope { .. } => self.editions[to].push_back(report),
                        _ => self.answers[to].push_back(report),
                    }
                }
            }
            for _ in 0..3 {
                let ways = if self.chance.below(2) == 0 { &mut self.editions } else { &mut self.answers };
                if let Some(report) = ways[node].pop_front() {
                    self.rigs[node].input(Input::Report(report));
                    self.read();
                }
            }
        }
        for node in 0..NODES {
            self.rigs[node].advance(Duration::from_millis(1500));
        }
        self.read();
    }

    fn check(&mut self) {
        for document in DOCUMENTS {
            let mut heard = Vec::new();
            let act = relay::document::Act::Read { document: document.into(), keep: None };
            let ask = Relay::Share {
                tenant: tenant(),
                ticket: Some(relay::Ticket(0)),
                act: Box::new(relay::Act::Document(act)),
            };
            self.store.ask(self.rigs[0].now, 0, ask, &mut heard);
            let Some((_, Report::Shared { result: Ok(relay::Answer::Document(Answer::Read(body))), .. })) = heard.pop()
            else {
                panic!("{heard:?}")
            };
            let kept = body.map(|body| Document::decode(&body, Instant(0)).unwrap());
            let state: State = kept
                .iter()
                .flat_map(Document::fields)
                .map(|(name, value)| (name.to_owned(), serde_json::from_str(value).unwrap()))
                .collect();
            let version = kept.as_ref().map_or(0, Document::version);
            for (c, client) in self.clients.iter().enumerate() {
                assert!(client.asked.is_empty(), "client {c} waits");
                let Some(copy) = client.open.get(document) else { continue };
                assert_eq!((copy.version, &copy.state), (version, &state), "client {c}, {document}");
            }
            if self.faults == Faults::None && document == "r" {
                for ((_, _, version), fields) in self.written.iter().filter(|((of, ..), _)| *of == document) {
                    let key = self.heard.iter().find(|((of, _, heard), _)| *of == document && heard == version);
                    assert!(key.is_none_or(|(_, heard)| heard == fields), "what was accepted is what was told");
                }
            }
        }
        for rig in &mut self.rigs {
            assert!(rig.closed.is_empty());
        }
    }
}

fn swarm(faults: Faults, seeds: u64) -> [u64; 4] {
    let from: u64 = std::env::var("SWARM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let seeds = if from > 0 { from..from + 1 } else { 1..seeds + 1 };
    let mut counts = [0; 4];
    for seed in seeds {
        let sim = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed, faults);
            sim.run();
            sim.counts
        });
        match sim {
            Ok(more) => (0..4).for_each(|nth| counts[nth] += more[nth]),
            Err(panic) => {
                eprintln!("SWARM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    counts
}

#[test]
fn documents_that_two_nodes_write_are_one() {
    let counts = swarm(Faults::None, 2000);
    println!("{} updates heard, {} accepted, {} conflicts", counts[0], counts[1], counts[2]);
    assert!(counts[..3].iter().all(|count| *count > 1000), "{counts:?}");
}

#[test]
fn documents_agree_again_after_what_is_lost() {
    let counts = swarm(Faults::All, 2000);
    println!(
        "{} updates heard, {} accepted, {} conflicts, {} editions lost",
        counts[0], counts[1], counts[2], counts[3]
    );
    assert!(counts.iter().all(|count| *count > 1000), "{counts:?}");
}
