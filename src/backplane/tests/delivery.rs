//! Delivery with acknowledgement, over nodes: each asks its own members, and whoever published is told of all of them.

use super::nodes::{Nodes, join};
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId, TenantId},
    limit::DELIVERY_TRAVEL,
    slab::Key,
    time::Duration,
};
use crate::shard::{io::Input, relay::Report, tests::field};
use crate::wire::{
    api::{Ack, Call, Publish},
    envelope::{Body, Frame},
};
use std::{borrow::Cow, collections::BTreeSet};

const ACK: Ack = Ack { timeout_ms: 1000, retries: 2 };

impl Nodes {
    fn member(&mut self, node: usize, user: &str) -> ConnKey {
        let conn = self.client(node, user);
        join(self, node, conn, "r");
        self.take(node, conn);
        conn
    }

    /// Publishes over HTTP at a node.
    fn asks(&mut self, node: usize, room: &str, ack: Ack) {
        let event = Publish {
            id: Some("x".into()),
            event: "alarm".into(),
            room: Some(room.into()),
            data: "1".into(),
            ack: Some(ack),
            ..Publish::default()
        };
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(900, 0) };
        let call = Box::new(Call::Publish(vec![event]));
        self.rigs[node].input(Input::Call { from, tenant: TenantId::parse("t").unwrap(), call });
    }

    /// The requests that a client has got: number, and how often it was asked.
    fn asked(&mut self, node: usize, conn: ConnKey) -> Vec<(String, String)> {
        let request = |packet: &String| {
            let at = packet.find("[\"alarm\"")?;
            let attempt = packet.contains("\"attempt\"").then(|| field(packet, "attempt").to_owned());
            Some((packet[2..at].to_owned(), attempt.unwrap_or_else(|| "1".into())))
        };
        self.take(node, conn).iter().filter_map(request).collect()
    }

    fn answers(&mut self, node: usize, conn: ConnKey) {
        let number = self.asked(node, conn).pop().expect("it was asked").0;
        self.say(node, conn, &format!("43{number}[]"));
    }

    /// What the publisher was told, once: `acked / missing`.
    fn told(&mut self, node: usize) -> Option<String> {
        let (_, status, body) = self.rigs[node].responses.pop()?;
        assert!(self.rigs[node].responses.is_empty() && status == 202, "{body}");
        let list = |name: &str| {
            let from = body.find(&format!("\"{name}\":[")).map(|at| at + name.len() + 4)?;
            Some(body[from..from + body[from..].find(']')?].replace('"', ""))
        };
        Some(match list("acked").zip(list("missing")) {
            Some((acked, missing)) => format!("{acked} / {missing}"),
            None => "known".into(),
        })
    }

    fn is_over(&mut self) {
        for rig in &self.rigs {
            let left = |name: &str| rig.shard.census().iter().find(|(of, _)| *of == name).map(|(_, count)| *count);
            assert_eq!(left("deliveries"), Some(0), "{:?}", rig.shard.census());
            assert_eq!(rig.shard.describe_asked(), 0);
        }
    }
}

/// The number of the answer that an event `e` asks for, and its packet without it.
pub fn request(packet: &str) -> (Option<u64>, Cow<'_, str>) {
    let number = packet.strip_prefix("42").and_then(|rest| rest.split_once("[\"e\",")).map(|(number, _)| number);
    match number.and_then(|number| number.parse().ok()) {
        Some(request) => (Some(request), packet.replacen(&format!("42{request}["), "42[", 1).into()),
        None => (None, packet.into()),
    }
}

/// What a publisher was told is so, of users who have acknowledged the events with these ids; how many it was told of.
pub fn check_told(answer: &str, acknowledged: &BTreeSet<(String, String)>) -> u64 {
    let list = |name: &str| -> Vec<&str> {
        let from = answer.find(&format!("\"{name}\":[")).map_or(0, |at| at + name.len() + 4);
        let list = &answer[from..from + answer[from..].find(']').unwrap_or(0)];
        list.split(',').map(|user| user.trim_matches('"')).filter(|user| !user.is_empty()).collect()
    };
    let (acked, missing) = (list("acked"), list("missing"));
    for user in &acked {
        assert!(acknowledged.contains(&((*user).to_owned(), field(answer, "id").to_owned())), "{user}: {answer}");
        assert!(!missing.contains(user), "{answer}");
    }
    acked.len() as u64
}

#[test]
fn the_publisher_is_told_of_the_receivers_of_all_nodes() {
    for publisher in [0, 1, 2] {
        let mut nodes = Nodes::new(3);
        let (a, b) = (nodes.member(0, "a"), nodes.member(1, "b"));
        let (here, there) = (nodes.member(0, "u"), nodes.member(1, "u"));
        for (node, conn) in [(0, a), (0, here), (1, b), (1, there)] {
            nodes.take(node, conn);
        }
        // At a node that has nobody of the tenant, too.
        nodes.asks(publisher, "r", ACK);
        nodes.settle();
        nodes.answers(0, a);
        assert_eq!(nodes.asked(0, here).len(), 1);
        // One of its devices answers for it, on all nodes.
        nodes.answers(1, there);
        assert_eq!(nodes.told(publisher), None, "one is waited for");
        nodes.pass(Duration::from_secs(2), &[]);
        assert_eq!(nodes.asked(0, here), [], "it is not asked again");
        assert_eq!(nodes.asked(1, b).len(), 3, "and who has not answered is");
        nodes.rigs[1].say(b, "42[\"received\",{\"ids\":[\"x\"]}]");
        nodes.settle();
        assert_eq!(nodes.told(publisher).unwrap(), "a,b,u / ");
        nodes.is_over();
        nodes.asks(1, "r", ACK);
        nodes.settle();
        assert_eq!(nodes.told(1).unwrap(), "known", "the same event, on any node: nobody is asked again");
    }
}

#[test]
fn who_does_not_answer_is_missing_in_time_wherever_it_is() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.member(0, "a"), nodes.member(1, "b"));
    nodes.take(0, a);
    nodes.asks(0, "r", ACK);
    nodes.settle();
    nodes.answers(0, a);
    nodes.pass(Duration::from_secs(3), &[]);
    assert_eq!(nodes.told(0), None);
    let attempts: Vec<String> = nodes.asked(1, b).into_iter().map(|(_, attempt)| attempt).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    nodes.pass(Duration::from_secs(1), &[]);
    assert_eq!(nodes.told(0).unwrap(), "a / b");
    nodes.is_over();
    // A socket's own acknowledgement is the same.
    nodes.say(0, a, "427[\"publish\",{\"room\":\"r\",\"type\":\"alarm\",\"data\":2,\"ack\":{\"timeoutMs\":1000}}]");
    nodes.answers(1, b);
    let number = nodes.rigs[0].shard.describe_asked();
    assert_eq!(number, 1, "its own device has not answered");
    nodes.pass(Duration::from_secs(4), &[]);
    let told = nodes.take(0, a).into_iter().find(|packet| packet.starts_with("437[")).expect("told");
    assert!(told.ends_with("\"acked\":[\"b\"],\"missing\":[\"a\"]}]"), "{told}");
}

/// Its members cannot be asked, and the publisher waits no longer than for anybody.
#[test]
fn a_node_that_has_died_holds_nobody() {
    let mut nodes = Nodes::new(2);
    let (a, _b) = (nodes.member(0, "a"), nodes.member(1, "b"));
    nodes.take(0, a);
    nodes.store.leave(1);
    nodes.asks(0, "r", ACK);
    nodes.settle();
    nodes.answers(0, a);
    assert_eq!(nodes.told(0), None, "it may be slow");
    let patience = Duration::from_millis(3000) + DELIVERY_TRAVEL;
    nodes.rigs[0].advance(patience - Duration::from_millis(100));
    nodes.settle();
    assert_eq!(nodes.told(0), None);
    nodes.rigs[0].advance(Duration::from_millis(200));
    nodes.settle();
    assert_eq!(nodes.told(0).unwrap(), "a / ", "nobody knows who was there");
}

#[test]
fn what_is_for_one_user_is_asked_where_it_is() {
    let mut nodes = Nodes::new(2);
    let b = nodes.member(1, "b");
    nodes.asks(0, "user:b", ACK);
    nodes.settle();
    nodes.answers(1, b);
    assert_eq!(nodes.told(0).unwrap(), "b / ");
    nodes.is_over();
    let mut nodes = Nodes::new(2);
    nodes.member(1, "b");
    nodes.asks(0, "user:nobody", ACK);
    nodes.settle();
    assert_eq!(nodes.told(0).unwrap(), " / nobody", "it is in the queue, and nobody is waited for");
    // Who has it on the line and does not answer finds it in the queue, on any node.
    let mut nodes = Nodes::new(2);
    let b = nodes.member(1, "b");
    nodes.asks(0, "user:b", Ack { retries: 0, ..ACK });
    nodes.settle();
    nodes.pass(Duration::from_secs(2), &[]);
    assert_eq!(nodes.told(0).unwrap(), " / b");
    nodes.hang_up(1, b);
    let (_, packets) = nodes.connect(0, "b", "");
    let again = packets.iter().find(|packet| packet.contains("\"alarm\"")).expect("it waited");
    assert!(again.contains("\"queued\":true"), "{again}");
}

/// What nodes say of it is told at most once: lost, somebody is missing who was not, and nothing waits for ever.
#[test]
fn words_that_are_lost_hold_nobody() {
    for what in ["who is asked", "who has answered"] {
        let mut nodes = Nodes::new(2);
        let (a, b) = (nodes.member(0, "a"), nodes.member(1, "b"));
        nodes.take(0, a);
        nodes.asks(0, "r", ACK);
        let is_lost = |report: &Report| {
            let Report::Envelope { frame, .. } = report else { return false };
            let body = Frame::decode(frame).and_then(|frame| Body::decode(frame.body));
            matches!(
                (what, body),
                ("who is asked", Ok((_, Body::Receivers { .. }))) | ("who has answered", Ok((_, Body::Acked { .. })))
            )
        };
        nodes.settle_but(is_lost);
        let number = nodes.asked(1, b).pop().expect("it was asked").0;
        nodes.rigs[1].say(b, &format!("43{number}[]"));
        nodes.settle_but(is_lost);
        nodes.answers(0, a);
        assert_eq!(nodes.told(0), None, "{what}");
        nodes.pass(Duration::from_secs(4), &[]);
        let told = if what == "who is asked" { "a,b / " } else { "a / b" };
        assert_eq!(nodes.told(0).unwrap(), told, "{what}");
        nodes.is_over();
    }
}

/// The store is away when it is published: it is asked when it has its place, and whoever published is told then.
#[test]
fn with_the_store_away_it_is_asked_later() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.member(0, "a"), nodes.member(1, "b"));
    nodes.take(0, a);
    nodes.go_away();
    nodes.asks(0, "r", ACK);
    nodes.pass(Duration::from_secs(20), &[]);
    assert_eq!(nodes.told(0), None, "it waits for its place");
    nodes.come_back();
    nodes.answers(0, a);
    nodes.answers(1, b);
    assert_eq!(nodes.told(0).unwrap(), "a,b / ");
    nodes.is_over();
}
