//! Nodes on one store: what one publishes reaches all, in one order; a client that lost one comes back to another.

use crate::backplane::memory::Memory;
use crate::base::{
    id::{ConnKey, NodeId, ReplyTo, ShardId, TenantId},
    slab::Key,
    time::Duration,
};
use crate::shard::{
    Settings,
    count::Count,
    default_app,
    fleet::FleetSettings,
    io::{Hangup, Input, Wire},
    relay::{self, Relay, Report},
    tests::{Rig, field},
};
use crate::wire::{
    api::{Call, Publish},
    close::Close,
    envelope::Origin,
};
use std::collections::VecDeque;

/// Some nodes of a shard each, and what is on its way between them and the store.
pub(super) struct Nodes {
    pub(super) rigs: Vec<Rig>,
    pub(super) store: Memory,
    /// Reports that have not been heard, in order, by node.
    pub(super) ways: Vec<VecDeque<Report>>,
    /// What waits for the store: appends, and what is not answered.
    journal: VecDeque<(usize, Relay)>,
    away: bool,
}

impl Nodes {
    pub(super) fn new(count: usize) -> Nodes {
        Nodes::with(count, |_| {})
    }

    pub(super) fn with(count: usize, change: fn(&mut Settings)) -> Nodes {
        let mut store = Memory::new([5; 32]);
        (0..count).for_each(|node| store.join(node));
        Nodes {
            rigs: (0..count).map(|node| Nodes::rig(node, node as u64 + 1, change)).collect(),
            store,
            ways: (0..count).map(|_| VecDeque::new()).collect(),
            journal: VecDeque::new(),
            away: false,
        }
    }

    pub(super) fn rig(node: usize, origin: u64, change: fn(&mut Settings)) -> Rig {
        // Ids that two nodes draw are two.
        Rig::seeded(default_app(["/", "/chat"]), origin as u8, |settings| {
            settings.node = NodeId(node as u16);
            settings.fleet = Some(FleetSettings {
                origin: Origin(origin),
                lease: Duration::from_secs(300),
                names_rooms: false,
                reads_rows: false,
            });
            change(settings);
        })
    }

    /// What the nodes have asked is done; what they hear of it is on its way.
    pub(super) fn ask(&mut self) {
        for node in 0..self.rigs.len() {
            for relay in std::mem::take(&mut self.rigs[node].relays) {
                if self.away && matches!(relay, Relay::Append { .. } | Relay::Share { ticket: None, .. }) {
                    self.journal.push_back((node, relay));
                    continue;
                }
                self.do_ask(node, relay);
            }
        }
    }

    fn do_ask(&mut self, node: usize, relay: Relay) {
        let mut heard = Vec::new();
        self.store.ask(self.rigs[node].now, node, relay, &mut heard);
        for (to, report) in heard {
            self.ways[to].push_back(report);
        }
    }

    /// Everything that is on its way arrives.
    pub(super) fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// As [`settle`](Self::settle), and some of it is lost.
    pub(super) fn settle_but(&mut self, is_lost: impl Fn(&Report) -> bool) {
        loop {
            self.ask();
            let Some(node) = (0..self.ways.len()).find(|node| !self.ways[*node].is_empty()) else { return };
            while let Some(report) = self.ways[node].pop_front() {
                if !is_lost(&report) {
                    self.rigs[node].input(Input::Report(report));
                }
            }
        }
    }

    /// What is on its way to a node is lost.
    pub(super) fn lose(&mut self, node: usize) {
        self.ask();
        self.ways[node].clear();
    }

    pub(super) fn go_away(&mut self) {
        self.settle();
        self.away = true;
        self.store.set_away(true);
        for node in 0..self.rigs.len() {
            let tenant = TenantId::parse("t").unwrap();
            self.rigs[node].input(Input::Report(Report::Opened { tenant, place: Err(relay::Unavailable) }));
        }
        self.settle();
    }

    pub(super) fn come_back(&mut self) {
        self.away = false;
        self.store.set_away(false);
        let tenant = TenantId::parse("t").unwrap();
        for node in 0..self.rigs.len() {
            self.reopen(node, &tenant);
        }
        for (node, relay) in std::mem::take(&mut self.journal) {
            self.do_ask(node, relay);
        }
        self.settle();
    }

    /// Time passes, but not for these nodes.
    pub(super) fn pass(&mut self, by: Duration, dead: &[usize]) {
        for _ in 0..by.as_secs() {
            for node in (0..self.rigs.len()).filter(|node| !dead.contains(node)) {
                self.rigs[node].advance(Duration::from_secs(1));
            }
            self.settle();
        }
    }

    pub(super) fn reopen(&mut self, node: usize, tenant: &TenantId) {
        let place = Ok(self.store.place(tenant));
        self.ways[node].push_back(Report::Opened { tenant: tenant.clone(), place });
    }

    pub(super) fn client(&mut self, node: usize, user: &str) -> ConnKey {
        self.connect(node, user, "").0
    }

    /// A client, and its CONNECT's and greeting's packets.
    pub(super) fn connect(&mut self, node: usize, user: &str, more: &str) -> (ConnKey, Vec<String>) {
        let rig = &mut self.rigs[node];
        let conn = rig.open(Wire::WebSocket, None);
        let token = rig.token("t", user);
        rig.say(conn, &format!("40{{\"token\":\"{token}\"{more}}}"));
        self.settle();
        (conn, self.rigs[node].take(conn))
    }

    pub(super) fn say(&mut self, node: usize, conn: ConnKey, text: &str) -> Vec<String> {
        self.rigs[node].say(conn, text);
        self.settle();
        self.rigs[node].take(conn)
    }

    pub(super) fn take(&mut self, node: usize, conn: ConnKey) -> Vec<String> {
        self.rigs[node].take(conn)
    }

    pub(super) fn hang_up(&mut self, node: usize, conn: ConnKey) {
        self.rigs[node].input(Input::Hangup { conn, cause: Hangup::Closed });
        self.settle();
    }

    pub(super) fn publish(&mut self, node: usize, conn: ConnKey, room: &str, n: u64) -> Vec<String> {
        self.say(node, conn, &format!("420[\"publish\",{{\"room\":\"{room}\",\"type\":\"e\",\"data\":{n}}}]"))
    }
}

pub(super) fn join(nodes: &mut Nodes, node: usize, conn: ConnKey, room: &str) -> String {
    let answer = nodes.say(node, conn, &format!("420[\"subscribe\",{{\"rooms\":[\"{room}\"]}}]"));
    answer.into_iter().find(|packet| packet.starts_with("430")).expect("an answer")
}

/// The events `e` among packets: their data and offset.
pub(super) fn events(packets: &[String]) -> Vec<(u64, u64)> {
    let of = |packet: &&String| packet.starts_with("42[\"e\"");
    let read = |packet: &String| {
        let data = packet["42[\"e\",".len()..].split(',').next().unwrap().parse().unwrap();
        (data, field(packet, "offset").parse().unwrap())
    };
    packets.iter().filter(of).map(read).collect()
}

#[test]
fn what_one_node_publishes_reaches_all_in_one_order() {
    let mut nodes = Nodes::new(3);
    let clients: Vec<ConnKey> = (0..3).map(|node| nodes.client(node, &format!("u{node}"))).collect();
    for (node, conn) in clients.iter().enumerate() {
        let answer = join(&mut nodes, node, *conn, "r");
        assert!(answer.contains("\"ok\":true") && answer.contains("\"offset\":0"), "{answer}");
    }
    // All at once: what order they get is the store's business, and the same everywhere.
    for n in 0..30 {
        let node = n as usize % 3;
        let text = format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n}}}]");
        nodes.rigs[node].say(clients[node], &text);
    }
    nodes.settle();
    let heard: Vec<_> = (0..3).map(|node| events(&nodes.take(node, clients[node]))).collect();
    assert_eq!(heard[0].len(), 30);
    assert!(heard[0].iter().enumerate().all(|(nth, (_, offset))| *offset == nth as u64 + 1), "{:?}", heard[0]);
    assert_eq!((&heard[0], &heard[0]), (&heard[1], &heard[2]));
    let acked = nodes.publish(1, clients[1], "r", 99);
    assert!(acked.iter().any(|packet| packet.starts_with("430[{\"ok\":true") && packet.contains("\"offset\":31")));
}

/// A page that is left before it was shown: what it asked in one breath is done in that order, though a join waits for the store.
#[test]
fn a_leave_waits_for_the_joins_before_it() {
    let ask = |event: &str, ack: u32| format!("42{ack}[\"{event}\",{{\"rooms\":[\"r\"]}}]");
    for (asked, stays) in [
        (&["subscribe", "unsubscribe"][..], false),
        (&["subscribe", "unsubscribe", "subscribe"], true),
        (&["subscribe", "subscribe", "unsubscribe", "subscribe", "unsubscribe"], false),
    ] {
        let mut nodes = Nodes::new(2);
        let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
        for (nth, event) in asked.iter().enumerate() {
            nodes.rigs[0].say(a, &ask(event, 100 + nth as u32));
        }
        assert!(nodes.take(0, a).is_empty(), "the store has said nothing yet");
        nodes.settle();
        let answers: Vec<String> = nodes.take(0, a);
        for nth in 0..asked.len() {
            let ok = |packet: &&String| packet.starts_with(&format!("43{}[{{\"ok\":true", 100 + nth));
            assert_eq!(answers.iter().filter(ok).count(), 1, "{asked:?}: {answers:?}");
        }
        nodes.publish(1, b, "r", 7);
        assert_eq!(events(&nodes.take(0, a)).len(), usize::from(stays), "{asked:?}");
    }
}

#[test]
fn ephemeral_events_and_typing_reach_the_other_nodes_once() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    join(&mut nodes, 0, a, "r");
    join(&mut nodes, 1, b, "r");
    let own = nodes.say(0, a, "42[\"publish\",{\"room\":\"r\",\"type\":\"x\",\"data\":1,\"ephemeral\":true}]");
    assert_eq!(own.iter().filter(|packet| packet.starts_with("42[\"x\",1")).count(), 1, "{own:?}");
    nodes.say(0, a, "42[\"typing:start\",{\"room\":\"r\"}]");
    let heard = nodes.take(1, b);
    let count = |prefix: &str| heard.iter().filter(|packet| packet.starts_with(prefix)).count();
    assert_eq!((count("42[\"x\",1"), count("42[\"typing:start\"")), (1, 1), "{heard:?}");
}

#[test]
fn a_tenant_is_heard_only_where_it_is() {
    let mut nodes = Nodes::new(2);
    let a = nodes.client(0, "a");
    join(&mut nodes, 0, a, "r");
    nodes.rigs[0].say(a, "42[\"publish\",{\"room\":\"r\",\"type\":\"e\",\"data\":1}]");
    nodes.ask();
    assert!(nodes.ways[1].is_empty(), "the other has nobody");
    nodes.settle();
    let b = nodes.client(1, "b");
    nodes.rigs[1].input(Input::Hangup { conn: b, cause: Hangup::Closed });
    nodes.rigs[1].advance(Duration::from_secs(3600));
    nodes.settle();
    assert!(nodes.rigs[1].shard.census().iter().all(|(_, count)| *count == 0), "{:?}", nodes.rigs[1].shard.census());
    nodes.publish(0, a, "r", 2);
    nodes.rigs[0].say(a, "42[\"publish\",{\"room\":\"r\",\"type\":\"e\",\"data\":3}]");
    nodes.ask();
    assert!(nodes.ways[1].is_empty(), "and has nobody again");
}

#[test]
fn what_was_lost_on_the_way_is_read_back() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    for room in ["r", "s"] {
        join(&mut nodes, 0, a, room);
        join(&mut nodes, 1, b, room);
    }
    let text = |room: &str, n: u64| format!("42[\"publish\",{{\"room\":\"{room}\",\"type\":\"e\",\"data\":{n}}}]");
    nodes.rigs[0].say(a, &text("r", 1));
    nodes.rigs[0].say(a, &text("s", 2));
    nodes.lose(1);
    nodes.settle();
    assert_eq!(events(&nodes.take(1, b)), [], "it does not know");
    nodes.rigs[0].say(a, &text("r", 3));
    nodes.settle();
    assert_eq!(events(&nodes.take(1, b)), [(1, 1), (2, 1), (3, 2)], "until something comes after it");
    nodes.rigs[0].say(a, &text("s", 4));
    nodes.lose(1);
    nodes.settle();
    nodes.reopen(1, &TenantId::parse("t").unwrap());
    nodes.settle();
    assert_eq!(events(&nodes.take(1, b)), [(4, 2)], "or the store says where it stands");
    assert_eq!(events(&nodes.take(0, a)), [(1, 1), (2, 1), (3, 2), (4, 2)]);
    assert_eq!(nodes.rigs[1].shard.counts().get(Count::Gaps), 0);
}

#[test]
fn what_is_not_kept_any_more_is_announced() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    join(&mut nodes, 0, a, "r");
    join(&mut nodes, 1, b, "r");
    for n in 1..=120 {
        nodes.rigs[0].say(a, &format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n}}}]"));
    }
    nodes.lose(1);
    nodes.settle();
    nodes.publish(0, a, "r", 121);
    let heard = nodes.take(1, b);
    let gap = heard.iter().position(|packet| packet.starts_with("42[\"gap\"")).expect("said");
    assert!(heard[gap].contains("\"reason\":\"history_expired\",\"room\":\"r\""), "{}", heard[gap]);
    let offsets: Vec<u64> = events(&heard).iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, (22..=121).collect::<Vec<_>>(), "and what is kept comes");
    assert_eq!(events(&heard[..gap]), [], "after it was said");
}

#[test]
fn a_client_comes_back_to_another_node_with_what_it_missed() {
    let mut nodes = Nodes::new(3);
    let other = nodes.client(2, "other");
    join(&mut nodes, 2, other, "r");
    let (conn, packets) = nodes.connect(0, "u", "");
    let (sid, pid) = (field(&packets[1], "sid").to_owned(), field(&packets[1], "pid").to_owned());
    join(&mut nodes, 0, conn, "r");
    nodes.publish(2, other, "r", 1);
    let heard = nodes.take(0, conn);
    assert_eq!(events(&heard), [(1, 1)]);
    let last = heard.last().unwrap();
    let offset = last[last.rfind(",\"").unwrap() + 2..].trim_end_matches("\"]").to_owned();
    // Its node dies without a word, twice; it comes back to another each time, and misses something each time.
    let mut dead = 0;
    let mut read_to = Some(offset);
    let mut n = 2;
    for node in [1, 0, 1] {
        nodes.ways[dead].clear();
        nodes.store.leave(dead);
        let fresh = Nodes::new(2).rigs.swap_remove(0);
        let now = nodes.rigs[dead].now;
        nodes.rigs[dead] = Rig { now, ..fresh };
        for _ in 0..2 {
            nodes.publish(2, other, "r", n);
            n += 1;
        }
        let more = match &read_to {
            Some(offset) => format!(",\"pid\":\"{pid}\",\"offset\":\"{offset}\""),
            None => format!(",\"pid\":\"{pid}\""),
        };
        let (conn, packets) = nodes.connect(node, "u", &more);
        assert_eq!(events(&packets).iter().map(|(data, _)| *data).collect::<Vec<_>>(), [n - 2, n - 1], "{packets:?}");
        let connect = packets.iter().find(|packet| packet.starts_with("40")).unwrap();
        assert_eq!((field(connect, "sid"), field(connect, "pid")), (&*sid, &*pid));
        assert!(packets.iter().any(|packet| packet.contains("\"recovered\":true")), "{packets:?}");
        let last = packets.iter().rfind(|packet| packet.starts_with("42[\"e\"")).unwrap();
        read_to = Some(last[last.rfind(",\"").unwrap() + 2..].trim_end_matches("\"]").to_owned());
        nodes.publish(2, other, "r", n);
        let heard = nodes.take(node, conn);
        assert_eq!(events(&heard).iter().map(|(data, _)| *data).collect::<Vec<_>>(), [n], "and goes on");
        let last = heard.last().unwrap();
        read_to = read_to.and(Some(last[last.rfind(",\"").unwrap() + 2..].trim_end_matches("\"]").to_owned()));
        n += 1;
        dead = node;
    }
}

#[test]
fn a_client_that_had_received_nothing_comes_back_and_an_old_connection_is_closed() {
    let mut nodes = Nodes::new(2);
    let other = nodes.client(1, "other");
    let (conn, packets) = nodes.connect(0, "u", "");
    let pid = field(&packets[1], "pid").to_owned();
    join(&mut nodes, 0, conn, "r");
    // Its line is cut, and its node has not noticed.
    let (back, packets) = nodes.connect(1, "u", &format!(",\"pid\":\"{pid}\""));
    assert!(packets.iter().any(|packet| packet.contains("\"recovered\":true")), "{packets:?}");
    assert_eq!(nodes.rigs[0].closed, [(conn, Close::Replaced.row().number)], "the node that had it has let go");
    nodes.publish(1, other, "r", 7);
    assert_eq!(events(&nodes.take(1, back)), [(7, 1)], "it is in its room");
    // Somebody else's secret is of no use, and is not spent by trying.
    let (_, packets) = nodes.connect(0, "eve", &format!(",\"pid\":\"{pid}\""));
    assert!(packets.iter().any(|packet| packet.contains("\"recovered\":false")), "{packets:?}");
}

#[test]
fn since_and_history_are_answered_from_the_store() {
    let mut nodes = Nodes::new(2);
    let a = nodes.client(0, "a");
    join(&mut nodes, 0, a, "r");
    for n in 1..=5 {
        nodes.publish(0, a, "r", n);
    }
    let answer = nodes.publish(0, a, "r", 6);
    let epoch = field(answer.iter().find(|packet| packet.starts_with("430")).unwrap(), "epoch").to_owned();
    let b = nodes.client(1, "b");
    let answer = nodes.say(1, b, "421[\"history\",{\"room\":\"r\"}]");
    let answer = answer.iter().find(|packet| packet.starts_with("431")).unwrap();
    assert_eq!(answer.matches("\"type\":\"e\"").count(), 6, "{answer}");
    assert!(answer.contains("\"complete\":true") && answer.contains("\"offset\":6"), "{answer}");
    let since = format!("422[\"subscribe\",{{\"rooms\":[\"r\"],\"since\":{{\"epoch\":\"{epoch}\",\"offset\":3}}}}]");
    let packets = nodes.say(1, b, &since);
    assert_eq!(events(&packets), [(4, 4), (5, 5), (6, 6)]);
    let answer = packets.last().unwrap();
    assert!(answer.contains("\"recovered\":true") && answer.contains("\"offset\":6"), "{answer}");
    let wrong = "423[\"subscribe\",{\"rooms\":[\"r\"],\"since\":{\"epoch\":\"zz\",\"offset\":3}}]";
    let packets = nodes.say(1, b, wrong);
    assert!(packets.last().unwrap().contains("\"reason\":\"epoch_changed\""), "{packets:?}");
}

#[test]
fn the_same_id_is_one_event_on_all_nodes() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    join(&mut nodes, 0, a, "r");
    let text = "420[\"publish\",{\"id\":\"once\",\"room\":\"r\",\"type\":\"e\",\"data\":1}]";
    let first = nodes.say(0, a, text);
    let again = nodes.say(1, b, text);
    assert_eq!(events(&first), [(1, 1)]);
    assert!(again.iter().any(|packet| packet.starts_with("430") && packet.contains("\"offset\":1")), "{again:?}");
    assert_eq!(nodes.take(0, a), Vec::<String>::new());
}

#[test]
fn with_the_store_away_what_is_durable_waits_and_what_is_ephemeral_goes_on() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(0, "b"));
    let far = nodes.client(1, "far");
    for (node, conn) in [(0, a), (0, b), (1, far)] {
        join(&mut nodes, node, conn, "r");
    }
    nodes.go_away();
    assert_eq!(events(&nodes.publish(0, a, "r", 1)), []);
    nodes.say(0, a, "42[\"publish\",{\"room\":\"r\",\"type\":\"x\",\"data\":1,\"ephemeral\":true}]");
    assert!(nodes.take(0, b).iter().any(|packet| packet.starts_with("42[\"x\",1")), "local delivery goes on");
    // Who comes now is let in, and told what cannot be had.
    let late = nodes.client(0, "late");
    let packets = nodes.say(0, late, "421[\"history\",{\"room\":\"r\"}]");
    assert!(packets.iter().any(|packet| packet.contains("backplane_unavailable")), "{packets:?}");
    let denied = join(&mut nodes, 0, late, "new");
    assert!(
        denied.contains("\"rooms\":[],\"denied\":[{\"room\":\"new\",\"code\":\"backplane_unavailable\"}]"),
        "{denied}"
    );
    nodes.come_back();
    assert_eq!(events(&nodes.take(1, far)), [(1, 1)], "in its place now");
    let acked = nodes.take(0, a);
    assert_eq!(events(&acked), [(1, 1)]);
    assert!(acked.iter().any(|packet| packet.starts_with("430[{\"ok\":true")), "{acked:?}");
    assert!(join(&mut nodes, 0, late, "new").contains("\"rooms\":[\"new\"]"), "and is let in now");
    nodes.publish(1, far, "new", 2);
    assert_eq!(events(&nodes.take(0, late)), [(2, 1)], "and hears it");
}

#[test]
fn a_store_that_lost_all_is_a_new_epoch_and_said_so() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    join(&mut nodes, 0, a, "r");
    join(&mut nodes, 1, b, "r");
    nodes.publish(0, a, "r", 1);
    nodes.take(1, b);
    nodes.go_away();
    nodes.store.lose();
    nodes.come_back();
    for (node, conn) in [(0, a), (1, b)] {
        let heard = nodes.take(node, conn);
        assert!(heard.iter().any(|packet| packet.starts_with("42[\"gap\",{\"reason\":\"epoch_changed\"")), "{heard:?}");
    }
    nodes.publish(0, a, "r", 2);
    assert_eq!(events(&nodes.take(1, b)), [(2, 1)]);
    let (conn, packets) = nodes.connect(1, "c", "");
    assert!(packets.iter().any(|packet| packet.starts_with("42[\"connected\"")));
    nodes.rigs[1].input(Input::Hangup { conn, cause: Hangup::Closed });
}

#[test]
fn the_http_api_publishes_and_reads_among_nodes() {
    let mut nodes = Nodes::new(2);
    let a = nodes.client(0, "a");
    join(&mut nodes, 0, a, "r");
    let tenant = TenantId::parse("t").unwrap();
    let conn = ConnKey::new(900, 0);
    let from = ReplyTo { shard: ShardId(0), conn };
    let publish = |n: u64| Publish {
        event: "e".into(),
        room: Some("r".into()),
        data: n.to_string().into(),
        ..Publish::default()
    };
    let call = Box::new(Call::Publish(vec![publish(1), publish(2)]));
    nodes.rigs[1].input(Input::Call { from, tenant: tenant.clone(), call });
    assert!(nodes.rigs[1].responses.is_empty(), "not before they have their places");
    nodes.settle();
    let (_, status, body) = nodes.rigs[1].responses.pop().unwrap();
    assert_eq!(status, 202, "{body}");
    assert!(body.contains("\"offset\":1}") && body.contains("\"offset\":2}"), "{body}");
    assert_eq!(events(&nodes.take(0, a)), [(1, 1), (2, 2)]);
    let call = Box::new(Call::History { room: "r".into(), since: None, limit: 10 });
    nodes.rigs[1].input(Input::Call { from, tenant, call });
    nodes.settle();
    let (_, status, body) = nodes.rigs[1].responses.pop().unwrap();
    assert_eq!((status, body.matches("\"type\":\"e\"").count()), (200, 2), "{body}");
    nodes.rigs[1].advance(Duration::from_secs(120));
    nodes.settle();
    assert!(nodes.rigs[1].shard.census().iter().all(|(_, count)| *count == 0), "{:?}", nodes.rigs[1].shard.census());
}

#[test]
fn a_tenants_rate_is_kept_where_nobody_of_it_is() {
    let mut nodes = Nodes::new(1);
    nodes.rigs[0] = Rig::with(|settings| {
        settings.limits.tenant_events_per_second = 2;
        settings.fleet = Some(FleetSettings {
            origin: Origin(1),
            lease: Duration::from_secs(300),
            names_rooms: false,
            reads_rows: false,
        });
    });
    let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(900, 0) };
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let event = Publish { event: "e".into(), room: Some("r".into()), data: "1".into(), ..Publish::default() };
        let call = Box::new(Call::Publish(vec![event]));
        nodes.rigs[0].input(Input::Call { from, tenant: TenantId::parse("t").unwrap(), call });
        nodes.settle();
        statuses.push(nodes.rigs[0].responses.pop().map(|(_, status, _)| status));
    }
    assert_eq!(statuses, [Some(202), Some(202), Some(429)]);
    nodes.rigs[0].advance(Duration::from_secs(60));
    assert!(nodes.rigs[0].shard.census().iter().all(|(_, count)| *count == 0), "and is forgotten when it is over");
}
