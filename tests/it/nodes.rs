//! Two processes on one Redis are one server.

use crate::member::{member, publish, tick};
use crate::peer::Peer;
use crate::redis::Redis;
use crate::server::{Server, token, until};

fn node(redis: &Redis) -> Server {
    let port = redis.port.to_string();
    let limit = ("TENANTCAST_LIMITS__EVENTS_PER_SECOND", "0");
    Server::start(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port), limit])
}

#[test]
fn events_of_two_nodes_come_once_and_in_one_order() {
    const EVENTS: usize = 300;
    let redis = Redis::start(&[]);
    let nodes = [node(&redis), node(&redis)];
    let token = token("acme", "ana");
    let mut members: Vec<Peer> = (0..4).map(|n| member(&nodes[n % 2], &token)).collect();
    let mut publishers = [member(&nodes[0], &token), member(&nodes[1], &token)];
    for n in 0..EVENTS {
        publish(&mut publishers[n % 2], n + 2, &n.to_string());
    }
    let heard: Vec<Vec<String>> =
        members.iter_mut().map(|member| (0..EVENTS).map(|_| tick(member)).collect()).collect();
    for other in &heard[1..] {
        assert_eq!(*other, heard[0], "the same events in the same order");
    }
    for (n, event) in heard[0].iter().enumerate() {
        assert!(event.contains(&format!(r#""offset":{}"#, n + 1)), "{event}");
    }
    for n in 0..EVENTS {
        assert_eq!(heard[0].iter().filter(|event| event.contains(&format!(r#""data":{n},"#))).count(), 1, "{n}");
    }
}

#[test]
fn redis_is_restarted_and_a_node_drains() {
    let mut redis = Redis::start(&[]);
    let mut nodes = [node(&redis), node(&redis)];
    let token = token("acme", "ana");
    let mut reader = member(&nodes[1], &token);
    let mut publisher = member(&nodes[0], &token);
    publish(&mut publisher, 2, "1");
    assert!(tick(&mut reader).contains(r#""data":1,"#));
    redis.kill();
    // Acknowledged when Redis is back.
    publish(&mut publisher, 3, "2");
    redis.run();
    while !publisher.next_text().contains(r#""ack":3"#) {}
    assert!(tick(&mut reader).contains(r#""data":2,"#));
    let [first, second] = &mut nodes;
    first.terminate();
    assert_eq!(first.exit_code(), Some(0), "{}", first.said());
    let mut publisher = member(second, &token);
    publish(&mut publisher, 2, "3");
    let event = tick(&mut reader);
    assert!(event.contains(r#""data":3,"#) && event.contains(r#""offset":3"#), "{event}");
    until("only one node hears", || redis.ask(&["PUBSUB", "NUMSUB", "tc:{acme}"]).ends_with("\n1"));
}
