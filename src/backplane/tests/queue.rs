//! What waits for users, and receipts, over nodes on one store.

use super::nodes::Nodes;
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId, TenantId},
    slab::Key,
    time::Duration,
};
use crate::shard::{
    io::{Hangup, Input, Wire},
    relay::{Act, Relay, Report, queue},
    tests::{Rig, field},
};
use crate::wire::{
    api::{Ack, Call, Publish},
    auth::Pattern,
};

impl Nodes {
    /// Publishes as a backend at a node: an event for a user.
    fn tell(&mut self, node: usize, user: &str, event: &str, data: u32) {
        self.publish_for(node, user, event, data, None);
        self.settle();
        if !self.rigs[node].responses.is_empty() {
            assert_eq!(self.rigs[node].responses.pop().map(|(_, status, _)| status), Some(202));
        }
    }

    fn publish_for(&mut self, node: usize, user: &str, event: &str, data: u32, ack: Option<Ack>) {
        let (room, data) = (Some(format!("user:{user}").into()), data.to_string().into());
        let call = Call::Publish(vec![Publish { event: event.into(), room, data, ack, ..Publish::default() }]);
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(900, 0) };
        let tenant = TenantId::parse("t").unwrap();
        self.rigs[node].input(Input::Call { from, tenant, call: Box::new(call) });
    }

    /// A client of a user: its connection, and what it was told behind its greeting.
    fn come(&mut self, node: usize, user: &str) -> (ConnKey, Vec<String>) {
        let (conn, packets) = self.connect(node, user, "");
        let greeted = packets.iter().position(|packet| packet.starts_with("42[\"connected\"")).expect("a greeting");
        (conn, packets[greeted + 1..].to_vec())
    }

    fn cut(&mut self, node: usize, conn: ConnKey) {
        self.rigs[node].input(Input::Hangup { conn, cause: Hangup::Failed });
        self.settle();
    }

    /// A node dies without a word: what it asked is done, what it was to hear is lost.
    fn kill(&mut self, node: usize) {
        self.ask();
        self.ways[node].clear();
        self.store.leave(node);
        let now = self.rigs[node].now;
        self.rigs[node] = Rig { now, ..Nodes::rig(node, 100 + node as u64, |_| {}) };
    }

    fn later(&mut self, by: Duration) {
        for rig in &mut self.rigs {
            rig.advance(by);
        }
        self.settle();
    }

    fn received(&mut self, node: usize, conn: ConnKey, ids: &[String]) {
        let answer = self.say(node, conn, &format!("427[\"received\",{{\"ids\":{ids:?}}}]"));
        assert!(answer.contains(&"437[{\"ok\":true}]".to_owned()), "{answer:?}");
    }
}

/// The data of the events `n` among packets.
fn notes(packets: &[String]) -> Vec<u32> {
    let number = |packet: &String| {
        let rest =
            packet.strip_prefix("42")?.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("[\"n\",")?;
        rest[..rest.find([',', ']'])?].parse().ok()
    };
    packets.iter().filter_map(number).collect()
}

fn ids(packets: &[String]) -> Vec<String> {
    packets.iter().filter(|packet| packet.contains("[\"n\",")).map(|packet| field(packet, "id").into()).collect()
}

#[test]
fn what_waits_is_given_wherever_its_user_comes() {
    let mut nodes = Nodes::new(3);
    for n in 1..=4 {
        nodes.tell(n as usize % 3, "a", "n", n);
    }
    nodes.tell(0, "b", "n", 9);
    let (conn, packets) = nodes.come(1, "a");
    assert_eq!(notes(&packets), [1, 2, 3, 4], "{packets:?}");
    assert!(packets[0].contains("\"offset\":1,\"queued\":true}"), "{packets:?}");
    nodes.tell(2, "a", "n", 5);
    let live = nodes.take(1, conn);
    assert!(notes(&live) == [5] && !live[0].contains("queued"), "{live:?}");
    // Another device, elsewhere, gets what is not acknowledged; what was delivered as it came does not wait.
    let (other, more) = nodes.come(2, "a");
    assert_eq!(notes(&more), [1, 2, 3, 4]);
    let known = ids(&packets);
    nodes.received(1, conn, &[known[0].clone(), known[2].clone(), "unknown".into()]);
    let (third, packets) = nodes.come(2, "a");
    assert_eq!(notes(&packets), [2, 4], "the store knows what was acknowledged on another node");
    nodes.received(2, other, &known);
    for (node, conn) in [(1, conn), (2, other), (2, third)] {
        nodes.hang_up(node, conn);
    }
    assert_eq!(notes(&nodes.come(0, "a").1), [0; 0]);
    assert_eq!(notes(&nodes.come(0, "b").1), [9]);
    // Copies do not outlive their users' sockets.
    let b = nodes.client(0, "b");
    nodes.hang_up(0, b);
    for node in [1, 2] {
        let waiting =
            nodes.rigs[node].shard.census().iter().find(|(name, _)| *name == "events for who is away").unwrap().1;
        assert_eq!(waiting, 0);
    }
}

#[test]
fn what_is_published_after_its_users_node_has_died_waits() {
    let mut nodes = Nodes::new(3);
    let (_, _) = nodes.come(0, "a");
    let (sender, _) = nodes.come(2, "s");
    nodes.kill(0);
    // Nobody knows yet that the user is not there any more.
    nodes.publish(2, sender, "user:a", 1);
    nodes.tell(1, "a", "n", 2);
    let (conn, packets) = nodes.come(1, "a");
    let got: Vec<bool> = packets.iter().map(|packet| packet.contains("\"queued\":true")).collect();
    assert!(packets[0].starts_with("42[\"e\",1,") && notes(&packets) == [2] && got == [true; 2], "{packets:?}");
    nodes.kill(1);
    let _ = conn;
    assert_eq!(notes(&nodes.come(2, "a").1), [2], "it was not acknowledged, and its node has died");
}

#[test]
fn what_a_dead_connection_was_sent_waits_again() {
    let mut nodes = Nodes::new(2);
    let conn = nodes.client(0, "a");
    nodes.later(Duration::from_secs(1));
    nodes.tell(1, "a", "n", 1);
    nodes.later(Duration::from_secs(1));
    nodes.say(0, conn, "425[\"presence\",{\"room\":\"user:a\"}]");
    nodes.later(Duration::from_secs(1));
    nodes.tell(1, "a", "n", 2);
    nodes.tell(1, "a", "n", 3);
    nodes.cut(0, conn);
    let (conn, packets) = nodes.come(1, "a");
    assert_eq!(notes(&packets), [2, 3], "what was sent since it was last heard of");
    nodes.received(1, conn, &ids(&packets));
    nodes.tell(0, "a", "n", 4);
    nodes.hang_up(1, conn);
    assert_eq!(notes(&nodes.come(0, "a").1), [0; 0], "one that closes has got it");
}

/// Whoever comes back with a place it has read to has acknowledged what is before it, on any node.
#[test]
fn recovery_and_the_queue_agree() {
    let mut nodes = Nodes::new(3);
    nodes.tell(2, "a", "n", 1);
    let (conn, hello) = nodes.connect(0, "a", "");
    let pid = field(hello.iter().find(|packet| packet.starts_with("40")).unwrap(), "pid").to_owned();
    let last = hello.iter().rfind(|packet| packet.starts_with("42[\"n\"")).unwrap();
    let offset = last[last.rfind(",\"").unwrap() + 2..].trim_end_matches("\"]").to_owned();
    nodes.cut(0, conn);
    nodes.tell(2, "a", "n", 2);
    nodes.tell(2, "a", "n", 3);
    let (conn, back) = nodes.connect(1, "a", &format!(",\"pid\":\"{pid}\",\"offset\":\"{offset}\""));
    assert!(back.iter().any(|packet| packet.contains("\"recovered\":true")), "{back:?}");
    assert_eq!(notes(&back), [2, 3], "once each: {back:?}");
    nodes.cut(1, conn);
    // It is not known to have got them.
    let (conn, packets) = nodes.come(2, "a");
    assert_eq!(notes(&packets), [2, 3], "and the first was acknowledged by its place");
    nodes.received(2, conn, &ids(&packets));
    assert_eq!(notes(&nodes.come(0, "a").1), [0; 0]);
}

/// Whatever comes while a socket is on its way is given once: by the queue up to the place where it came, by the stream beyond.
#[test]
fn what_comes_meanwhile_is_given_once() {
    // The turns after which the next event is published, and whether envelopes are behind answers.
    for steps in 0..12 {
        for late in [false, true] {
            let mut nodes = Nodes::new(2);
            let watcher = nodes.client(1, "w");
            nodes.tell(0, "a", "n", 1);
            let rig = &mut nodes.rigs[1];
            let conn = rig.open(Wire::WebSocket, None);
            let token = rig.token("t", "a");
            rig.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
            let mut held: Vec<Report> = Vec::new();
            for step in 0..40 {
                if step == steps || step == steps + 2 {
                    nodes.publish_for(0, "a", "n", 2 + u32::from(step > steps), None);
                }
                nodes.ask();
                for node in 0..2 {
                    let Some(report) = nodes.ways[node].pop_front() else { continue };
                    if late && node == 1 && step < 30 && matches!(report, Report::Envelope { .. }) {
                        held.push(report);
                        continue;
                    }
                    nodes.rigs[node].input(Input::Report(report));
                }
                if step == 30 {
                    for report in held.drain(..) {
                        nodes.rigs[1].input(Input::Report(report));
                    }
                }
            }
            nodes.settle();
            let packets = nodes.take(1, conn);
            assert_eq!(notes(&packets), [1, 2, 3], "{steps} {late}: {packets:?}");
            let queued: Vec<bool> = packets
                .iter()
                .filter(|packet| packet.starts_with("42[\"n\""))
                .map(|packet| packet.contains("queued"))
                .collect();
            assert!(queued.is_sorted_by(|a, b| a >= b), "{queued:?}");
            nodes.received(1, conn, &ids(&packets));
            nodes.hang_up(1, conn);
            assert_eq!(notes(&nodes.come(0, "a").1), [0; 0], "{steps} {late}");
            let _ = watcher;
        }
    }
}

#[test]
fn with_the_store_away_its_user_is_let_in_and_given_what_waits_when_it_is_back() {
    let mut nodes = Nodes::new(2);
    let other = nodes.client(0, "o");
    nodes.tell(1, "a", "n", 1);
    nodes.tell(1, "a", "n", 2);
    nodes.go_away();
    let (conn, packets) = nodes.come(0, "a");
    assert_eq!(notes(&packets), [0; 0], "it is let in");
    let (second, packets) = nodes.come(0, "a");
    assert_eq!(notes(&packets), [0; 0]);
    nodes.tell(0, "a", "n", 3);
    nodes.come_back();
    for conn in [conn, second] {
        let packets = nodes.take(0, conn);
        assert_eq!(notes(&packets), [1, 2, 3], "{packets:?}");
        let queued: Vec<bool> = packets
            .iter()
            .filter(|packet| packet.starts_with("42[\"n\""))
            .map(|packet| packet.contains("queued"))
            .collect();
        assert_eq!(queued, [true, true, false], "in order, and before anything newer: {packets:?}");
        nodes.received(0, conn, &ids(&packets));
    }
    nodes.tell(1, "a", "n", 4);
    assert_eq!(notes(&nodes.take(0, conn)), [4]);
    // Acknowledged while the store is away is acknowledged when it is back, which nobody can be promised until then.
    nodes.hang_up(0, conn);
    nodes.hang_up(0, second);
    nodes.tell(1, "a", "n", 5);
    let (conn, packets) = nodes.come(1, "a");
    nodes.go_away();
    let answer = nodes.say(1, conn, &format!("427[\"received\",{{\"ids\":{:?}}}]", ids(&packets)));
    assert!(answer.last().is_some_and(|answer| answer.contains("backplane_unavailable")), "{answer:?}");
    nodes.hang_up(1, conn);
    nodes.come_back();
    assert_eq!(notes(&nodes.come(0, "a").1), [0; 0]);
    let _ = other;
}

#[test]
fn what_the_store_has_lost_does_not_come_back() {
    let mut nodes = Nodes::new(2);
    let (_a, _b) = (nodes.client(0, "o"), nodes.client(1, "o"));
    nodes.tell(1, "a", "n", 1);
    let (conn, packets) = nodes.come(0, "a");
    assert_eq!(notes(&packets), [1]);
    nodes.go_away();
    nodes.store.lose();
    nodes.come_back();
    assert!(nodes.take(0, conn).iter().any(|packet| packet.contains("\"epoch_changed\"")));
    nodes.hang_up(0, conn);
    // It has the first one's place, in another life.
    nodes.tell(1, "a", "n", 2);
    let (conn, again) = nodes.come(0, "a");
    assert_eq!(notes(&again), [2]);
    nodes.received(0, conn, &ids(&packets));
    assert_eq!(notes(&nodes.come(1, "a").1), [2], "the old one's acknowledgement is not this one's");
    nodes.received(0, conn, &ids(&again));
    assert_eq!(notes(&nodes.come(1, "a").1), [0; 0]);
}

#[test]
fn too_much_is_told_and_once() {
    let mut nodes = Nodes::with(2, |settings| settings.offline.per_user = 2);
    for n in 1..=5 {
        nodes.tell(0, "a", "n", n);
    }
    let (conn, packets) = nodes.come(1, "a");
    assert!(packets[0].contains("\"offline_overflow\"") && packets[0].contains("\"dropped\":3"), "{packets:?}");
    assert_eq!(notes(&packets), [4, 5]);
    nodes.hang_up(1, conn);
    let (_, packets) = nodes.come(0, "a");
    assert_eq!((notes(&packets), packets.len()), (vec![4, 5], 2), "{packets:?}");
}

#[test]
fn who_did_not_answer_finds_it_in_the_queue() {
    let mut nodes = Nodes::new(2);
    let ack = || Some(Ack { timeout_ms: 100, retries: 0 });
    let conn = nodes.client(0, "a");
    nodes.publish_for(0, "a", "n", 1, ack());
    nodes.settle();
    nodes.later(Duration::from_millis(200));
    let (_, status, answer) = nodes.rigs[0].responses.pop().expect("an answer");
    assert!(status == 202 && answer.contains("\"missing\":[\"a\"]"), "{answer}");
    nodes.publish_for(0, "a", "n", 2, ack());
    nodes.settle();
    let asked = nodes.take(0, conn);
    let id = field(asked.last().unwrap(), "id").to_owned();
    nodes.received(0, conn, &[id]);
    let (_, _, answer) = nodes.rigs[0].responses.pop().expect("an answer");
    assert!(answer.contains("\"acked\":[\"a\"]"), "{answer}");
    nodes.hang_up(0, conn);
    assert_eq!(notes(&nodes.come(1, "a").1), [1]);
    // Nobody is there at all: it is said at once.
    nodes.publish_for(1, "b", "n", 3, ack());
    nodes.settle();
    let (_, _, answer) = nodes.rigs[1].responses.pop().expect("an answer");
    assert!(answer.contains("\"acked\":[],\"missing\":[\"b\"]"), "{answer}");
    assert_eq!(notes(&nodes.come(0, "b").1), [3]);
}

/// Who was told that an event is received does not get it again, whatever happens to its node then.
#[test]
fn received_is_answered_when_the_store_has_it() {
    let mut nodes = Nodes::new(2);
    nodes.tell(1, "a", "n", 1);
    let (conn, packets) = nodes.come(0, "a");
    let received = format!("427[\"received\",{{\"ids\":{:?}}}]", ids(&packets));
    nodes.rigs[0].say(conn, &received);
    assert_eq!(nodes.take(0, conn), [""; 0], "not before");
    nodes.kill(0);
    assert_eq!(notes(&nodes.come(1, "a").1), [0; 0], "what it asked was done");
    let mut nodes = Nodes::new(2);
    nodes.tell(1, "a", "n", 1);
    let (conn, packets) = nodes.come(0, "a");
    nodes.go_away();
    let received = format!("427[\"received\",{{\"ids\":{:?}}}]", ids(&packets));
    let answer = nodes.say(0, conn, &received);
    assert!(answer.last().is_some_and(|answer| answer.contains("backplane_unavailable")), "{answer:?}");
    nodes.come_back();
    assert_eq!(nodes.say(0, conn, &received), ["437[{\"ok\":true}]"], "and may be repeated");
}

#[test]
fn receipts_are_told_once_to_the_sender_wherever_it_is() {
    let mut nodes = Nodes::with(3, |settings| settings.receipts.types = vec![Pattern::parse("m").unwrap()]);
    let sender = nodes.client(0, "s");
    let publish = |nodes: &mut Nodes, room: &str, id: &str| {
        let text = format!("421[\"publish\",{{\"room\":\"{room}\",\"type\":\"m\",\"data\":1,\"id\":\"{id}\"}}]");
        nodes.say(0, sender, &text);
    };
    let told = |nodes: &mut Nodes, node: usize, conn: ConnKey| -> Vec<String> {
        let packets = nodes.take(node, conn).into_iter();
        let told = packets.filter(|packet| packet.contains("[\"delivered\"") || packet.contains("[\"read\""));
        told.map(|packet| packet[3..packet.find(",\"time\"").unwrap()].to_owned()).collect()
    };
    let (a, b) = (nodes.client(1, "a"), nodes.client(2, "b"));
    nodes.say(1, a, "421[\"subscribe\",{\"rooms\":[\"r\"]}]");
    publish(&mut nodes, "r", "m1");
    nodes.received(2, b, &["m1".into()]);
    assert_eq!(told(&mut nodes, 0, sender), [""; 0], "it is not in that room");
    nodes.received(1, a, &["m1".into()]);
    nodes.received(1, a, &["m1".into()]);
    nodes.say(1, a, "423[\"read\",{\"ids\":[\"m1\"]}]");
    nodes.received(1, a, &["m1".into()]);
    let want = ["\"delivered\",{\"id\":\"m1\",\"user\":\"a\"", "\"read\",{\"id\":\"m1\",\"user\":\"a\""];
    assert_eq!(told(&mut nodes, 0, sender), want);
    // Of what waited, too; the sender is away, and its receipt waits for it.
    publish(&mut nodes, "user:c", "m2");
    nodes.hang_up(0, sender);
    let (c, packets) = nodes.come(1, "c");
    assert!(packets.iter().any(|packet| packet.contains("\"m2\"")), "{packets:?}");
    nodes.received(1, c, &["m2".into()]);
    let (_, packets) = nodes.come(2, "s");
    let receipt = packets.iter().find(|packet| packet.starts_with("42[\"delivered\"")).expect("a receipt");
    assert!(receipt.contains("\"id\":\"m2\",\"user\":\"c\"") && receipt.contains("\"queued\":true"), "{receipt}");
    // With the store away nobody knows whom to tell; it is asked again.
    let (sender, _) = nodes.connect(0, "t", "");
    nodes.say(0, sender, "421[\"publish\",{\"room\":\"r\",\"type\":\"m\",\"data\":1,\"id\":\"m3\"}]");
    nodes.go_away();
    nodes.received(1, a, &["m3".into()]);
    nodes.come_back();
    assert_eq!(told(&mut nodes, 0, sender), ["\"delivered\",{\"id\":\"m3\",\"user\":\"a\""]);
}

/// One node takes out what it has delivered, in one message a turn.
#[test]
fn what_was_delivered_is_taken_out_by_the_turn() {
    let mut nodes = Nodes::new(1);
    let _conn = nodes.client(0, "a");
    for n in 1..=3 {
        nodes.publish_for(0, "a", "n", n, None);
    }
    let relays = std::mem::take(&mut nodes.rigs[0].relays);
    assert!(relays.iter().all(|relay| matches!(relay, Relay::Append { append, .. } if append.wait.is_some())));
    nodes.rigs[0].relays = relays;
    nodes.ask();
    let mut done = Vec::new();
    while let Some(report) = nodes.ways[0].pop_front() {
        nodes.rigs[0].input(Input::Report(report));
        for relay in &nodes.rigs[0].relays {
            let Relay::Share { act, ticket: None, .. } = relay else { continue };
            let Act::Queue(queue::Act::Done { sequences, .. }) = &**act else { continue };
            done.push(sequences.clone());
        }
        nodes.ask();
    }
    assert_eq!(done, [[1], [2], [3]]);
}
