//! Who comes back to a node that is behind, or whose store was away for a moment, has everything once, or is told before anything else.

use super::nodes::{Nodes, events, join};
use crate::base::id::TenantId;
use crate::shard::{
    io::Input,
    relay::{Relay, Report, Unavailable},
    tests::field,
};

/// It was on a node that had heard more than the one it comes to.
#[test]
fn a_client_that_is_ahead_of_its_node_gets_nothing_twice() {
    let mut nodes = Nodes::new(2);
    let (a, b, there) = (nodes.client(0, "a"), nodes.client(1, "b"), nodes.client(1, "there"));
    join(&mut nodes, 0, a, "r");
    join(&mut nodes, 1, there, "r");
    let answer = nodes.publish(0, a, "r", 1);
    let epoch = field(answer.iter().find(|packet| packet.starts_with("430")).unwrap(), "epoch").to_owned();
    let subscribe = |offset: u64| {
        format!("421[\"subscribe\",{{\"rooms\":[\"r\"],\"since\":{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}}}]")
    };
    for n in 2..=3 {
        nodes.rigs[0].say(a, &format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"e\",\"data\":{n}}}]"));
    }
    nodes.lose(1);
    nodes.settle();
    let heard = nodes.say(1, b, &subscribe(3));
    assert_eq!(events(&heard), []);
    assert!(
        heard.iter().any(|packet| packet.starts_with("431[") && packet.contains("\"recovered\":true")),
        "{heard:?}"
    );
    assert_eq!(events(&nodes.publish(0, a, "r", 4)).last(), Some(&(4, 4)));
    assert_eq!(events(&nodes.take(1, b)), [(4, 4)]);
    // Where nobody has been, the node does not wait for.
    nodes.say(1, b, "42[\"unsubscribe\",{\"rooms\":[\"r\"]}]");
    let heard = nodes.say(1, b, &subscribe(9));
    assert!(heard.iter().any(|packet| packet.contains("\"reason\":\"offset_unknown\"")), "{heard:?}");
}

/// The answer waits until the join is kept, and events do not wait for the answer.
#[test]
fn what_cannot_be_had_of_the_past_is_told_before_what_comes_next() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    join(&mut nodes, 0, a, "r");
    let answer = nodes.publish(0, a, "r", 1);
    let epoch = field(answer.iter().find(|packet| packet.starts_with("430")).unwrap(), "epoch").to_owned();
    nodes.publish(0, a, "r", 2);
    let subscribe = |ack: u32, epoch: &str| {
        format!("42{ack}[\"subscribe\",{{\"rooms\":[\"r\"],\"since\":{{\"epoch\":\"{epoch}\",\"offset\":1}}}}]")
    };
    let tenant = TenantId::parse("t").unwrap();
    nodes.rigs[1].input(Input::Report(Report::Opened { tenant: tenant.clone(), place: Err(Unavailable) }));
    nodes.rigs[1].say(b, &subscribe(1, &epoch));
    // Away for a moment only: back before anything else was asked.
    nodes.reopen(1, &tenant);
    nodes.publish(0, a, "r", 3);
    let heard = nodes.take(1, b);
    assert_eq!(events(&heard), [], "it is not in a room whose past it has not");
    let denied = "\"rooms\":[],\"denied\":[{\"room\":\"r\",\"code\":\"backplane_unavailable\"}]";
    assert!(heard.iter().any(|packet| packet.starts_with("431[") && packet.contains(denied)), "{heard:?}");
    let heard = nodes.say(1, b, &subscribe(2, &epoch));
    assert_eq!(events(&heard), [(2, 2), (3, 3)], "and has all of it when it asks again");
    nodes.say(1, b, "42[\"unsubscribe\",{\"rooms\":[\"r\"]}]");
    // Lost for good: it is let in, at once where the room's past is.
    let there = nodes.client(1, "there");
    nodes.say(1, there, &subscribe(1, &epoch));
    nodes.rigs[1].say(b, &subscribe(3, "zz"));
    nodes.rigs[0].say(a, "42[\"publish\",{\"room\":\"r\",\"type\":\"e\",\"data\":4}]");
    nodes.settle();
    let heard = nodes.take(1, b);
    let place = |prefix: &str| {
        heard.iter().position(|packet| packet.starts_with(prefix)).unwrap_or_else(|| panic!("{prefix}: {heard:?}"))
    };
    assert!(heard[place("42[\"gap\"")].contains("\"reason\":\"epoch_changed\",\"room\":\"r\""), "{heard:?}");
    assert!(place("42[\"gap\"") < place("42[\"e\",4") && place("42[\"gap\"") < place("433["), "{heard:?}");
    assert!(heard[place("433[")].contains("\"recovered\":false,\"reason\":\"epoch_changed\""), "{heard:?}");
}

/// A reading that took too long is answered as if the store were away, and nobody says then that it is back.
#[test]
fn a_reading_that_was_too_slow_is_not_the_end() {
    let mut nodes = Nodes::new(2);
    let (a, b) = (nodes.client(0, "a"), nodes.client(1, "b"));
    join(&mut nodes, 0, a, "r");
    let answer = nodes.publish(0, a, "r", 1);
    let epoch = field(answer.iter().find(|packet| packet.starts_with("430")).unwrap(), "epoch").to_owned();
    let subscribe =
        format!("421[\"subscribe\",{{\"rooms\":[\"r\"],\"since\":{{\"epoch\":\"{epoch}\",\"offset\":0}}}}]");
    nodes.rigs[1].say(b, &subscribe);
    let relays = std::mem::take(&mut nodes.rigs[1].relays);
    let (reads, others): (Vec<_>, Vec<_>) = relays.into_iter().partition(|relay| matches!(relay, Relay::Read { .. }));
    nodes.rigs[1].relays.extend(others);
    assert!(!reads.is_empty());
    for read in reads {
        let Relay::Read { ticket, .. } = read else { continue };
        nodes.rigs[1].input(Input::Report(Report::Read { ticket, result: Err(Unavailable) }));
    }
    nodes.settle();
    let heard = nodes.take(1, b);
    assert!(heard.iter().any(|packet| packet.contains("\"code\":\"backplane_unavailable\"")), "{heard:?}");
    assert_eq!(events(&nodes.say(1, b, &subscribe)), [(1, 1)]);
}
