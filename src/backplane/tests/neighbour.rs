//! Long-polling clients whose requests come to any node.

use super::nodes::Nodes;
use crate::base::{
    id::{ConnKey, NodeId, ReplyTo, ShardId, Sid},
    slab::Key,
    time::Duration,
};
use crate::shard::{
    io::{Hangup, Input, Wire},
    neighbour::News,
    relay::Report,
    tests::field,
};

/// A long-polling client whose requests come to any node, and its session's id.
fn polling(nodes: &mut Nodes, owner: usize) -> Sid {
    nodes.rigs[owner].open(Wire::Polling, None);
    let (_, status, open) = nodes.rigs[owner].responses.pop().expect("a handshake");
    assert_eq!(status, 200);
    Sid::parse(field(&open, "sid")).expect("an id")
}

fn request(nodes: &mut Nodes, node: usize, sid: Sid, body: Option<&str>) -> ConnKey {
    let rig = &mut nodes.rigs[node];
    let conn = ConnKey::new(rig.next, 0);
    rig.next += 1;
    let from = ReplyTo { shard: ShardId(0), conn };
    match body {
        Some(body) => rig.input(Input::Post { from, sid, body }),
        None => rig.input(Input::Poll { from, sid }),
    }
    nodes.settle();
    conn
}

/// The answers at a node since they were last taken.
fn answers(nodes: &mut Nodes, node: usize) -> Vec<(ConnKey, u16, String)> {
    std::mem::take(&mut nodes.rigs[node].responses)
}

#[test]
fn a_long_polling_client_may_come_to_any_node() {
    let mut nodes = Nodes::new(3);
    let sid = polling(&mut nodes, 0);
    let token = nodes.rigs[0].token("t", "ana");
    let post = request(&mut nodes, 1, sid, Some(&format!("40{{\"token\":\"{token}\"}}")));
    assert_eq!(answers(&mut nodes, 1), [(post, 200, "ok".into())]);
    let mut heard = String::new();
    for node in [2, 0, 1] {
        if !heard.contains("connected") {
            request(&mut nodes, node, sid, None);
            heard += &answers(&mut nodes, node).pop().expect("the greeting").2;
        }
    }
    assert!(heard.contains("40{\"sid\"") && heard.contains("42[\"connected\""), "{heard}");
    // One that waits is answered where it waits.
    let waits = request(&mut nodes, 2, sid, None);
    assert_eq!(answers(&mut nodes, 2), []);
    request(&mut nodes, 1, sid, Some("421[\"publish\",{\"room\":\"user:ana\",\"type\":\"n\",\"data\":1}]"));
    let (conn, status, packets) = answers(&mut nodes, 2).pop().expect("the event");
    assert_eq!((conn, status), (waits, 200));
    assert!(packets.contains("42[\"n\",1,"), "{packets}");
    // The node drains: the client polls somewhere else.
    let waits = request(&mut nodes, 1, sid, None);
    let waits = match answers(&mut nodes, 1).pop() {
        Some((_, 200, packets)) if packets.starts_with('4') => request(&mut nodes, 1, sid, None),
        None => waits,
        other => panic!("{other:?}"),
    };
    nodes.rigs[1].input(Input::Drain { spread: Duration::ZERO });
    nodes.settle();
    assert_eq!(answers(&mut nodes, 1), [(waits, 200, "6".into())]);
    // The connection breaks: so does the session.
    let waits = request(&mut nodes, 2, sid, None);
    nodes.rigs[2].input(Input::Hangup { conn: waits, cause: Hangup::Closed });
    nodes.settle();
    assert!(nodes.rigs[0].shard.is_empty());
    let late = request(&mut nodes, 2, sid, None);
    assert_eq!(answers(&mut nodes, 2), [(late, 400, "{\"code\":1,\"message\":\"Session ID unknown\"}".into())]);
}

#[test]
fn a_request_for_a_session_of_a_node_that_is_gone_or_cannot_be_reached_is_refused() {
    let mut nodes = Nodes::new(2);
    let sid = polling(&mut nodes, 0);
    nodes.store.set_away(true);
    let conn = request(&mut nodes, 1, sid, None);
    let (to, status, body) = answers(&mut nodes, 1).pop().expect("a refusal");
    assert_eq!((to, status, field(&body, "code")), (conn, 503, "backplane_unavailable"));
    nodes.store.set_away(false);
    nodes.store.leave(0);
    let conn = request(&mut nodes, 1, sid, Some("3"));
    assert_eq!(answers(&mut nodes, 1).pop().map(|(to, status, _)| (to, status)), Some((conn, 400)));
}

#[test]
fn session_ids_name_the_number_their_node_has_then() {
    let mut nodes = Nodes::new(2);
    let before = polling(&mut nodes, 0);
    nodes.rigs[0].input(Input::Report(Report::Neighbour(Box::new(News::Numbered(NodeId(9))))));
    let after = polling(&mut nodes, 0);
    assert_eq!((before.node(), after.node()), (NodeId(0), NodeId(9)));
    for sid in [before, after] {
        request(&mut nodes, 0, sid, Some("3"));
        assert_eq!(answers(&mut nodes, 0).pop().map(|(_, status, _)| status), Some(200), "it knows both");
    }
}
