//! Nodes that read their events from a stream shared with servers of another make: whatever is late, who goes between them has all of it once.

use super::nodes::Nodes;
use crate::base::{
    chance::Chance,
    id::{ConnKey, Sid, TenantId},
    limit::BEHIND_PATIENCE,
    time::Duration,
};
use crate::shard::{
    foreign::Foreign,
    io::{Hangup, Input, Wire},
    relay::{Relay, Report},
    tests::field,
};
use crate::wire::{
    adapter::streams::{Offset, Session, encode_session},
    envelope::{Body, Frame, Origin, record, told},
};
use serde_json::Value;
use std::borrow::Cow;

/// A client as the official one is: it keeps the last argument of any event, if that is a string.
struct Client {
    at: Option<(usize, ConnKey)>,
    user: String,
    pid: Option<String>,
    offset: Option<String>,
    numbers: Vec<u64>,
    /// It has been there before: from now on it comes back.
    is_back: bool,
    is_in: bool,
    /// It could not come back once.
    is_anew: bool,
}

struct Story {
    nodes: Nodes,
    clients: Vec<Client>,
    /// Who publishes on each node, and never leaves.
    speakers: Vec<ConnKey>,
    chance: Chance,
    /// Numbers said in the room so far, in the order of the store.
    said: u64,
    /// Rows that a node has not read.
    missed: usize,
}

fn nodes(count: usize) -> Nodes {
    let mut nodes = Nodes::with(count, |settings| {
        if let Some(fleet) = &mut settings.fleet {
            fleet.reads_rows = true;
        }
    });
    nodes.store.share_stream();
    nodes
}

fn row_of(report: &Report) -> Option<Offset> {
    match report {
        Report::Envelope { frame, .. } => Frame::decode(frame).ok().and_then(|frame| frame.row),
        _ => None,
    }
}

fn is_of_stream(report: &Report) -> bool {
    row_of(report).is_some() || matches!(report, Report::Foreign(_) | Report::Missed { .. })
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

impl Story {
    fn new(seed: u8) -> Story {
        let client = |c| Client {
            at: None,
            user: format!("u{c}"),
            pid: None,
            offset: None,
            numbers: Vec::new(),
            is_back: false,
            is_in: false,
            is_anew: false,
        };
        let clients = (0..3).map(client).collect();
        let mut story = Story {
            nodes: nodes(3),
            clients,
            speakers: Vec::new(),
            chance: Chance::new([seed; 32]),
            said: 0,
            missed: 0,
        };
        // Before the first row nobody is told one.
        story.nodes.store.broadcast(&tenant(), &["nobody"], "begin", "0", &mut Vec::new());
        for node in 0..3 {
            let row = Offset { ms: 1, nth: 1 };
            story.nodes.ways[node].push_back(Report::Foreign(Box::new(Foreign::Read { row })));
            story.nodes.settle();
            story.connect(node, node);
            story.nodes.settle();
            story.read();
            let speaker = story.nodes.client(node, "speaker");
            story.speakers.push(speaker);
            let (_, conn) = story.clients[node].at.expect("it has come");
            super::nodes::join(&mut story.nodes, node, conn, "r");
        }
        story
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance.below(bound as u64) as usize
    }

    /// The next number, by a node or by another server.
    fn speak(&mut self) {
        self.said += 1;
        let n = self.said;
        let node = self.below(self.speakers.len());
        match self.below(2) {
            0 => {
                let text = format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n}}}]");
                self.nodes.rigs[node].say(self.speakers[node], &text);
                self.nodes.ask();
            }
            _ => {
                let mut heard = Vec::new();
                let args = format!("{n},\"a text\"");
                self.nodes.store.broadcast(&tenant(), &["r"], "e", &args, &mut heard);
                for (node, report) in heard {
                    self.nodes.ways[node].push_back(report);
                }
            }
        }
    }

    /// A room that is new to a node holds up its tenant until the store has said where it stands.
    fn hold_up(&mut self) {
        let (room, c) = (self.below(1000), self.below(self.clients.len()));
        let Some((node, conn)) = self.clients[c].at.filter(|_| self.clients[c].is_in) else { return };
        self.nodes.rigs[node].say(conn, &format!("42[\"subscribe\",{{\"rooms\":[\"x{room}\"]}}]"));
        let node = self.below(self.speakers.len());
        let text = format!("42[\"publish\",{{\"room\":\"x{room}\",\"type\":\"x\",\"data\":0}}]");
        self.nodes.rigs[node].say(self.speakers[node], &text);
        self.nodes.ask();
    }

    /// Some of what is on its way to a node arrives.
    fn arrive(&mut self) {
        let node = self.below(self.nodes.ways.len());
        for _ in 0..self.below(6) {
            // Two ways lead there.
            let of_stream = self.below(2) == 0;
            let way = &mut self.nodes.ways[node];
            let Some(at) = way.iter().position(|report| is_of_stream(report) == of_stream) else { continue };
            let report = way.remove(at).expect("it is there");
            self.nodes.rigs[node].input(Input::Report(report));
        }
        self.nodes.ask();
        self.read();
    }

    /// The next rows of ours on their way to a node go unread, and that they may have is noticed.
    fn miss(&mut self) {
        let node = self.below(self.nodes.ways.len());
        let way = &mut self.nodes.ways[node];
        let Some(begin) = way.iter().position(|report| row_of(report).is_some()) else { return };
        let first = row_of(&way[begin]).expect("it has a row");
        let count = way.iter().skip(begin).take_while(|report| row_of(report).is_some()).count();
        way.drain(begin..begin + count);
        let row = Offset { nth: first.nth - 1, ..first };
        way.insert(begin, Report::Foreign(Box::new(Foreign::Anew { row })));
        self.missed += count;
    }

    fn cut(&mut self, c: usize) {
        self.read();
        // One that goes while it comes back is kept again when its node has heard of both: until then it is nowhere.
        if self.clients[c].is_in
            && let Some((node, conn)) = self.clients[c].at.take()
        {
            self.nodes.rigs[node].input(Input::Hangup { conn, cause: Hangup::Closed });
            self.nodes.ask();
        }
    }

    fn connect(&mut self, c: usize, node: usize) {
        let rig = &mut self.nodes.rigs[node];
        let conn = rig.open(Wire::WebSocket, None);
        let client = &mut self.clients[c];
        let token = rig.token("t", &client.user);
        let text = |name, value: &Option<String>| {
            value.as_ref().map_or(String::new(), |value| format!(",\"{name}\":\"{value}\""))
        };
        let (pid, offset) = (text("pid", &client.pid), text("offset", &client.offset));
        rig.say(conn, &format!("40{{\"token\":\"{token}\"{pid}{offset}}}"));
        (client.at, client.is_in) = (Some((node, conn)), false);
        self.nodes.ask();
    }

    fn read(&mut self) {
        for client in &mut self.clients {
            let Some((node, conn)) = client.at else { continue };
            for packet in self.nodes.take(node, conn) {
                if packet.starts_with("40") {
                    client.pid = Some(field(&packet, "pid").to_owned());
                }
                let Some(Value::Array(args)) =
                    packet.strip_prefix("42").and_then(|text| serde_json::from_str(text).ok())
                else {
                    continue;
                };
                match args[0].as_str() {
                    Some("e") => client.numbers.extend(args[1].as_u64()),
                    Some("connected") => {
                        // Where rows went unread while it came it is told so.
                        let is_back = args[1]["recovered"] == true;
                        assert!(is_back == client.is_back || (!is_back && self.missed > 0), "{args:?}");
                        client.is_anew |= is_back != client.is_back;
                        (client.is_back, client.is_in) = (true, true);
                    }
                    _ => {}
                }
                if let Some(Value::String(offset)) = args.last().filter(|_| args.len() > 1) {
                    client.offset = Some(offset.clone());
                }
            }
        }
    }

    fn go_on(&mut self) {
        match self.below(10) {
            0..4 => self.speak(),
            4..7 => self.arrive(),
            7 => self.hold_up(),
            8 => {
                let c = self.below(3);
                self.cut(c);
            }
            _ => {
                let (c, node) = (self.below(3), self.below(3));
                if self.clients[c].at.is_none() {
                    self.connect(c, node);
                }
            }
        }
    }

    /// Everything has come, to clients that are all there.
    fn end(&mut self) {
        for c in 0..self.clients.len() {
            if self.clients[c].at.is_none() {
                let node = self.below(3);
                self.connect(c, node);
            }
        }
        self.nodes.settle();
        self.read();
    }
}

#[test]
fn whatever_is_late_who_goes_between_nodes_has_all_once_and_in_order() {
    for seed in 0..60 {
        let mut story = Story::new(seed);
        (0..150).for_each(|_| story.go_on());
        story.end();
        let want: Vec<u64> = (1..=story.said).collect();
        for client in &story.clients {
            assert_eq!(client.numbers, want, "seed {seed}, {}", client.user);
        }
    }
}

/// The stream was trimmed before a node had read it, or its first look came too late.
#[test]
fn rows_that_went_unread_are_read_back() {
    let (mut missed, mut whole) = (0, 0);
    for seed in 0..60 {
        let mut story = Story::new(seed);
        for _ in 0..150 {
            story.go_on();
            if story.below(20) == 0 {
                story.miss();
            }
        }
        story.end();
        missed += story.missed;
        let want: Vec<u64> = (1..=story.said).collect();
        for client in story.clients.iter_mut().filter(|client| !client.is_anew) {
            whole += 1;
            // What a node has read back says no row: another server's event may come behind it that was earlier, and who comes back to the
            // row before it is told it again.
            client.numbers.sort_unstable();
            client.numbers.dedup();
            assert_eq!(client.numbers, want, "seed {seed}, {}", client.user);
        }
    }
    assert!(missed > 100 && whole > 100, "{missed} {whole}");
}

/// What is said behind an event takes its way: the channel may be quicker than the stream.
#[test]
fn a_clients_ephemeral_events_stay_behind_its_durable_ones_in_the_stream() {
    let said = |n: u64, more: &str| format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n}{more}}}]");
    let numbers = |packets: &[String]| -> Vec<u64> {
        let data = |packet: &String| packet.strip_prefix("42[\"e\",")?.split([',', ']']).next()?.parse().ok();
        packets.iter().filter_map(data).collect()
    };
    // All that only the channel carries is there before what is in the stream.
    let arrive = |nodes: &mut Nodes, node: usize| {
        nodes.ask();
        let in_row = |report: &Report| matches!(report, Report::Envelope { frame, .. } if Frame::decode(frame).is_ok_and(|frame| frame.row.is_some()));
        nodes.ways[node].make_contiguous().sort_by_key(in_row);
        while let Some(report) = nodes.ways[node].pop_front() {
            nodes.rigs[node].input(Input::Report(report));
        }
    };
    let mut nodes = nodes(2);
    let (publisher, far) = (nodes.client(0, "p"), nodes.client(1, "far"));
    for (node, conn) in [(0, publisher), (1, far)] {
        super::nodes::join(&mut nodes, node, conn, "r");
    }
    let ephemeral = ",\"ephemeral\":true";
    for (n, more) in [(1, ""), (2, ephemeral), (3, ""), (4, ephemeral)] {
        nodes.rigs[0].say(publisher, &said(n, more));
    }
    arrive(&mut nodes, 0);
    assert_eq!(numbers(&nodes.take(0, publisher)), [1, 2, 3, 4]);
    // The event has come back there, and is still on its way here.
    nodes.rigs[0].say(publisher, &said(5, ephemeral));
    nodes.rigs[0].say(publisher, "42[\"typing:start\",{\"room\":\"r\"}]");
    arrive(&mut nodes, 1);
    let heard = nodes.take(1, far);
    assert_eq!(numbers(&heard), [1, 2, 3, 4, 5]);
    assert!(heard.last().is_some_and(|packet| packet.starts_with("42[\"typing:start\"")), "{heard:?}");
    // With nothing before it for a while, by the channel.
    nodes.rigs[0].advance(BEHIND_PATIENCE + Duration::from_millis(1));
    nodes.rigs[0].say(publisher, &said(6, ephemeral));
    let in_row = nodes.rigs[0].relays.iter().find_map(|relay| match relay {
        Relay::Tell { in_row, .. } => Some(*in_row),
        _ => None,
    });
    assert_eq!(in_row, Some(false));
    arrive(&mut nodes, 1);
    assert_eq!(numbers(&nodes.take(1, far)), [6]);
    // A room that is new there holds it all up, in its order.
    nodes.rigs[1].say(far, "42[\"subscribe\",{\"rooms\":[\"x\"]}]");
    let elsewhere = "42[\"publish\",{\"room\":\"x\",\"type\":\"x\",\"data\":0}]".to_owned();
    for text in [elsewhere, said(7, ""), said(8, ephemeral)] {
        nodes.rigs[0].say(publisher, &text);
    }
    let relays = std::mem::take(&mut nodes.rigs[1].relays);
    arrive(&mut nodes, 1);
    assert_eq!(numbers(&nodes.take(1, far)), [0; 0]);
    nodes.rigs[1].relays.extend(relays);
    nodes.settle();
    assert_eq!(numbers(&nodes.take(1, far)), [7, 8]);
}

/// Somebody who comes back is gone again before what it missed has come; nothing of its tenant is left there.
#[test]
fn who_is_gone_before_its_past_has_come_leaves_nothing() {
    let mut nodes = nodes(2);
    nodes.store.broadcast(&tenant(), &["nobody"], "begin", "0", &mut Vec::new());
    for node in 0..2 {
        let row = Offset { ms: 1, nth: 1 };
        nodes.ways[node].push_back(Report::Foreign(Box::new(Foreign::Read { row })));
    }
    nodes.settle();
    let (conn, packets) = nodes.connect(0, "u", "");
    let pid = field(&packets[1], "pid").to_owned();
    nodes.hang_up(0, conn);
    let conn = nodes.rigs[1].open(Wire::WebSocket, None);
    let token = nodes.rigs[1].token("t", "u");
    nodes.rigs[1].say(conn, &format!("40{{\"token\":\"{token}\",\"pid\":\"{pid}\",\"offset\":\"1-1\"}}"));
    // Until it is asked what it has missed.
    while !nodes.rigs[1].relays.iter().any(|relay| matches!(relay, Relay::Missed { .. })) {
        nodes.ask();
        let report = nodes.ways[1].pop_front().expect("it asks what it has missed");
        nodes.rigs[1].input(Input::Report(report));
    }
    nodes.rigs[1].input(Input::Hangup { conn, cause: Hangup::Closed });
    nodes.settle();
    nodes.rigs[1].advance(Duration::from_secs(3600));
    nodes.settle();
    assert!(nodes.rigs[1].shard.census().iter().all(|(_, count)| *count == 0), "{:?}", nodes.rigs[1].shard.census());
}

/// A server of another make does not say how often a socket has come back: its life here is newer than any before.
#[test]
fn who_comes_from_another_server_is_newer_than_its_lives_before() {
    let mut nodes = nodes(2);
    nodes.store.broadcast(&tenant(), &["nobody"], "begin", "0", &mut Vec::new());
    let (conn, packets) = nodes.connect(0, "u", "");
    let (sid, pid) = (field(&packets[1], "sid").to_owned(), field(&packets[1], "pid").to_owned());
    let more = format!(",\"pid\":\"{pid}\",\"offset\":\"1-1\"");
    nodes.hang_up(0, conn);
    let session = Session {
        sid: Cow::Borrowed(&sid),
        pid: Cow::Borrowed(&pid),
        rooms: vec![Cow::Borrowed(&sid), Cow::Borrowed("t/r")],
        data: Cow::Borrowed(&[0x80]),
        record: None,
    };
    let body = [&record::FOREIGN.to_be_bytes()[..], &encode_session(&session)].concat().into();
    let (pid, ttl) = (Sid::parse(&pid).unwrap(), Duration::from_secs(60));
    let save = Relay::Save { tenant: tenant(), pid, generation: record::FOREIGN, body, ttl };
    nodes.store.ask(nodes.rigs[0].now, 0, save, &mut Vec::new());
    let (conn, packets) = nodes.connect(1, "u", &more);
    assert!(packets.iter().any(|packet| packet.contains("\"recovered\":true")), "{packets:?}");
    for (generation, is_closed) in [(1, false), (100, false), (u32::MAX, true)] {
        let frame = told(&Body::Replaced { pid, generation }.encode(Origin(1))).into();
        nodes.rigs[1].input(Input::Report(Report::Envelope { tenant: tenant(), frame }));
        nodes.settle();
        assert_eq!(nodes.rigs[1].closed.iter().any(|(closed, _)| *closed == conn), is_closed, "{generation}");
    }
}
