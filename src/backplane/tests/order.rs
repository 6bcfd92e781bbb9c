//! What one client says stays in its order, and what is lost on the way with nothing behind it is missed soon.

use super::nodes::{Nodes, join};
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId, Sid, TenantId},
    limit::{BEHIND_PATIENCE, REACH_PATIENCE},
    slab::Key,
    time::Duration,
};
use crate::shard::{
    io::{Input, Open, Wire},
    relay::{Relay, Report},
    tests::field,
};
use crate::wire::{
    api::{Call, Publish},
    envelope::{Body, Origin, told},
};

fn durable(n: u64) -> String {
    format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n}}}]")
}

fn ephemeral(n: u64) -> String {
    format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n},\"ephemeral\":true}}]")
}

const TYPING: &str = "42[\"typing:start\",{\"room\":\"r\"}]";

/// What a member has got: `e`'s data, or the event's name.
fn heard(packets: &[String]) -> Vec<String> {
    let of = |packet: &String| {
        let rest = packet.strip_prefix("42[\"")?;
        let (name, rest) = rest.split_once('"')?;
        let data = rest.trim_start_matches(',').split([',', ']']).next()?;
        matches!(name, "e" | "typing:start").then(|| if name == "e" { data.to_owned() } else { name.to_owned() })
    };
    packets.iter().filter_map(of).collect()
}

/// A publisher and a member on the first node, a member on the second.
fn room() -> (Nodes, ConnKey, ConnKey, ConnKey) {
    let mut nodes = Nodes::new(2);
    let (publisher, near) = (nodes.client(0, "p"), nodes.client(0, "near"));
    let far = nodes.client(1, "far");
    for (node, conn) in [(0, publisher), (0, near), (1, far)] {
        join(&mut nodes, node, conn, "r");
    }
    for (node, conn) in [(0, publisher), (0, near), (1, far)] {
        nodes.take(node, conn);
    }
    (nodes, publisher, near, far)
}

#[test]
fn a_clients_ephemeral_events_stay_behind_its_durable_ones() {
    let (mut nodes, publisher, near, far) = room();
    nodes.rigs[0].say(publisher, &ephemeral(0));
    assert_eq!(heard(&nodes.take(0, near)), ["0"], "with nothing before it, at once");
    for text in [durable(1), ephemeral(2), durable(3), ephemeral(4), TYPING.into()] {
        nodes.rigs[0].say(publisher, &text);
    }
    assert_eq!(heard(&nodes.take(0, near)), [""; 0], "behind its own");
    nodes.rigs[0].say(near, &ephemeral(9));
    assert_eq!(heard(&nodes.take(0, publisher)), ["0", "9"], "and nobody else's");
    nodes.settle();
    assert_eq!(heard(&nodes.take(0, near)), ["9", "1", "2", "3", "4", "typing:start"]);
    assert_eq!(heard(&nodes.take(0, publisher)), ["1", "2", "3", "4"]);
    let far = heard(&nodes.take(1, far));
    let of_publisher: Vec<&str> = far.iter().map(|what| &**what).filter(|what| *what != "9").collect();
    assert_eq!(of_publisher, ["0", "1", "2", "3", "4", "typing:start"]);
    nodes.rigs[0].say(publisher, &ephemeral(5));
    assert_eq!(heard(&nodes.take(0, near)), ["5"], "it has come back");
    // Of an id that was published before, nothing comes back.
    for n in [6, 7] {
        let text = format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n},\"id\":\"once\"}}]");
        nodes.rigs[0].say(publisher, &text);
        nodes.rigs[0].say(publisher, &ephemeral(n + 10));
        nodes.settle();
    }
    assert_eq!(heard(&nodes.take(0, near)), ["6", "16", "17"]);
}

/// A backend's calls are one speaker's, at a node.
#[test]
fn what_a_backend_says_stays_in_its_order() {
    let (mut nodes, _, near, far) = room();
    let call = |nodes: &mut Nodes, node: usize, events: &[(u64, bool)]| {
        let event = |(n, ephemeral): &(u64, bool)| Publish {
            event: "e".into(),
            room: Some("r".into()),
            data: n.to_string().into(),
            ephemeral: *ephemeral,
            ..Publish::default()
        };
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(900, 0) };
        let call = Box::new(Call::Publish(events.iter().map(event).collect()));
        nodes.rigs[node].input(Input::Call { from, tenant: TenantId::parse("t").unwrap(), call });
    };
    call(&mut nodes, 0, &[(1, false), (2, true), (3, false)]);
    call(&mut nodes, 0, &[(4, true)]);
    nodes.settle();
    for (node, conn) in [(0, near), (1, far)] {
        assert_eq!(heard(&nodes.take(node, conn)), ["1", "2", "3", "4"]);
    }
    // Where nobody is, nothing is held, and nothing stays.
    let mut nodes = Nodes::new(2);
    let far = nodes.client(1, "far");
    join(&mut nodes, 1, far, "r");
    call(&mut nodes, 0, &[(1, false), (2, true)]);
    nodes.settle();
    assert_eq!(heard(&nodes.take(1, far)), ["1", "2"]);
    nodes.rigs[0].advance(Duration::from_secs(60));
    assert!(nodes.rigs[0].shard.census().iter().all(|(_, count)| *count == 0), "{:?}", nodes.rigs[0].shard.census());
}

#[test]
fn nothing_is_held_for_long() {
    let (mut nodes, publisher, near, _) = room();
    nodes.rigs[0].say(publisher, &durable(1));
    nodes.lose(0);
    for n in 0..300 {
        nodes.rigs[0].say(publisher, &ephemeral(n));
    }
    assert_eq!(heard(&nodes.take(0, near)), [""; 0]);
    nodes.rigs[0].advance(BEHIND_PATIENCE + Duration::from_millis(10));
    let all: Vec<String> = (0..300).map(|n: u64| n.to_string()).collect();
    assert_eq!(heard(&nodes.take(0, near)), all);
    // The store is away: local delivery goes on.
    let (mut nodes, publisher, near, _) = room();
    nodes.rigs[0].say(publisher, &durable(1));
    nodes.rigs[0].say(publisher, &ephemeral(2));
    let waits = std::mem::take(&mut nodes.rigs[0].relays);
    nodes.go_away();
    nodes.rigs[0].say(publisher, &ephemeral(3));
    assert_eq!(heard(&nodes.take(0, near)), ["2", "3"]);
    nodes.rigs[0].relays.extend(waits);
    nodes.come_back();
    assert_eq!(heard(&nodes.take(0, near)), ["1"]);
}

/// An event is lost on its way to a node, and nothing comes after it: who waits for its place there is not kept waiting until somebody looks.
#[test]
fn who_waits_for_a_lost_event_is_let_in_soon() {
    let (mut nodes, publisher, _, far) = room();
    nodes.rigs[0].say(publisher, &durable(1));
    nodes.lose(1);
    nodes.settle();
    let conn = nodes.rigs[1].open(Wire::WebSocket, None);
    let token = nodes.rigs[1].token("t", "new");
    nodes.rigs[1].say(conn, &format!("40{{\"token\":\"{token}\"}}"));
    nodes.settle();
    let greeted = |packets: &[String]| packets.iter().any(|packet| packet.starts_with("42[\"connected\""));
    assert!(!greeted(&nodes.take(1, conn)), "what its queue is read at is not here");
    nodes.rigs[1].advance(REACH_PATIENCE + Duration::from_millis(10));
    let opens = nodes.rigs[1].relays.iter().filter(|relay| matches!(relay, Relay::Open { .. })).count();
    assert_eq!(opens, 1);
    nodes.settle();
    assert!(greeted(&nodes.take(1, conn)));
    assert_eq!(heard(&nodes.take(1, far)), ["1"], "and the others get it, too");
    nodes.rigs[1].advance(Duration::from_secs(5));
    assert!(!nodes.rigs[1].relays.iter().any(|relay| matches!(relay, Relay::Open { .. })), "nobody waits");
}

/// A node that was paused between its claim and its word says it when the client has long been elsewhere.
#[test]
fn a_late_word_of_an_earlier_life_closes_nothing() {
    let mut nodes = Nodes::new(2);
    let (_, packets) = nodes.connect(1, "u", "");
    let pid = field(&packets[1], "pid").to_owned();
    let more = format!(",\"pid\":\"{pid}\"");
    let (before, _) = nodes.connect(0, "u", &more);
    let (back, packets) = nodes.connect(1, "u", &more);
    assert!(packets.iter().any(|packet| packet.contains("\"recovered\":true")), "{packets:?}");
    assert!(nodes.rigs[0].closed.iter().any(|(conn, _)| *conn == before), "the life before it is over");
    let pid = Sid::parse(&pid).unwrap();
    for (generation, is_closed) in [(1, false), (2, false), (3, true)] {
        let frame = told(&Body::Replaced { pid, generation }.encode(Origin(1))).into();
        let tenant = TenantId::parse("t").unwrap();
        nodes.rigs[1].input(Input::Report(Report::Envelope { tenant, frame }));
        nodes.settle();
        assert_eq!(nodes.rigs[1].closed.iter().any(|(conn, _)| *conn == back), is_closed, "{generation}");
    }
}

/// A stream of events that broke off, and what was published while nobody of its tenant was on its node.
#[test]
fn a_stream_goes_on_where_it_ended() {
    let mut nodes = Nodes::new(2);
    let far = nodes.client(1, "far");
    for gone in [false, true] {
        let open = |nodes: &mut Nodes, last_event_id: Option<&str>| {
            let rig = &mut nodes.rigs[0];
            let conn = ConnKey::new(rig.next, 0);
            rig.next += 1;
            let open = Open {
                from: ReplyTo { shard: ShardId(0), conn },
                wire: Wire::Events,
                token: Some(rig.token("t", "reader").into()),
                address: std::net::IpAddr::from([127, 0, 0, 1]),
                admission: None,
                hops: 0,
                crowded: false,
                rooms: vec!["r".into(), "s".into()],
                last_event_id: last_event_id.map(Into::into),
            };
            rig.input(Input::Open(Box::new(open)));
            nodes.settle();
            (conn, nodes.take(0, conn).concat())
        };
        let (conn, greeting) = open(&mut nodes, None);
        assert!(greeting.contains("\"connected\""), "{greeting}");
        for (room, n) in [("r", 1), ("s", 2), ("r", 3)] {
            nodes.publish(1, far, room, n);
        }
        let text = nodes.take(0, conn).concat();
        assert_eq!(text.matches("\"event\":\"e\"").count(), 3, "{text}");
        let second = text.split("id: ").nth(2).unwrap().lines().next().unwrap().to_owned();
        nodes.hang_up(0, conn);
        if gone {
            nodes.rigs[0].advance(Duration::from_secs(40));
            nodes.settle();
        }
        for (room, n) in [("r", 4), ("elsewhere", 5), ("s", 6)] {
            nodes.publish(1, far, room, n);
        }
        let (conn, text) = open(&mut nodes, Some(&second));
        assert_eq!(text.matches("\"event\":\"e\"").count(), 3, "{second}: {text}");
        nodes.hang_up(0, conn);
    }
}
