//! Connections of one address to several nodes.

use super::nodes::Nodes;
use crate::base::{id::ConnKey, time::Duration};
use crate::shard::io::{Hangup, Input};
use crate::wire::close::Close;

fn nodes() -> Nodes {
    Nodes::with(2, |settings| settings.limits.connections_per_address = 3)
}

fn closed(nodes: &mut Nodes, node: usize) -> Vec<ConnKey> {
    let closed = std::mem::take(&mut nodes.rigs[node].closed);
    assert!(closed.iter().all(|(_, number)| *number == Close::TooManyConnections.row().number), "{closed:?}");
    closed.into_iter().map(|(conn, _)| conn).collect()
}

#[test]
fn the_newest_over_the_limit_of_all_is_closed() {
    let mut nodes = nodes();
    let (_a, b, _c) = (nodes.client(0, "a"), nodes.client(1, "b"), nodes.client(1, "c"));
    assert_eq!((closed(&mut nodes, 0), closed(&mut nodes, 1)), (vec![], vec![]));
    for (node, user) in [(0, "d"), (1, "e")] {
        let over = nodes.client(node, user);
        assert_eq!((closed(&mut nodes, node), closed(&mut nodes, 1 - node)), (vec![over], vec![]));
    }
    nodes.rigs[1].input(Input::Hangup { conn: b, cause: Hangup::Closed });
    nodes.settle();
    nodes.client(0, "f");
    assert_eq!((closed(&mut nodes, 0), closed(&mut nodes, 1)), (vec![], vec![]), "there is room again");
    let over = nodes.client(1, "g");
    assert_eq!(closed(&mut nodes, 1), [over]);
}

#[test]
fn a_dead_node_is_not_counted_after_its_lease_and_an_absent_store_counts_nothing() {
    let mut nodes = nodes();
    let _dead = (nodes.client(1, "a"), nodes.client(1, "b"));
    let here = nodes.client(0, "c");
    // Node 1 says nothing any more; what node 0 has, it says again before it is forgotten.
    for _ in 0..20 {
        let rig = &mut nodes.rigs[0];
        rig.say(here, "3");
        rig.advance(Duration::from_secs(20));
        nodes.settle();
    }
    let _more = (nodes.client(0, "d"), nodes.client(0, "e"));
    assert_eq!(closed(&mut nodes, 0), []);
    let over = nodes.client(0, "f");
    assert_eq!(closed(&mut nodes, 0), [over]);
    nodes.go_away();
    nodes.client(0, "g");
    assert_eq!(closed(&mut nodes, 0), [], "its own count is the data plane's");
}
