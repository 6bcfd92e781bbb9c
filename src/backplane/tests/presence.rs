//! Who is there, over nodes: told once everywhere, listed everywhere the same, whatever dies or is away meanwhile.

use super::nodes::{Nodes, join};
use crate::base::{
    id::{ConnKey, ReplyTo, ShardId, TenantId},
    limit::FLEET_RETURN,
    slab::Key,
    time::Duration,
};
use crate::shard::{RoomPresence, Settings, Status, Wording, io::Input, tests::field};
use crate::wire::{api::Call, auth::Pattern, close::Close};

const LEASE: Duration = Duration::from_secs(300);

/// Nothing is gathered, nobody is heard of again, and who breaks off is gone: unless a test says otherwise.
fn plain(settings: &mut Settings) {
    settings.ping_interval = Duration::from_secs(100_000);
    settings.presence.every = Duration::ZERO;
    settings.presence.grace = Duration::ZERO;
}

fn nodes(count: usize) -> Nodes {
    Nodes::with(count, plain)
}

/// What was said of users: `event user [status]`.
fn told(packets: &[String]) -> Vec<String> {
    let of = |packet: &String| {
        let event = packet.strip_prefix("42[\"")?.split('"').next()?;
        let room = event.starts_with("room:").then(|| format!(" {}", field(packet, "room")));
        let status = (event == "user:status").then(|| format!(" {}", field(packet, "status")));
        let is_of_users = event.starts_with("user:") || event.starts_with("room:");
        let (room, status) = (room.unwrap_or_default(), status.unwrap_or_default());
        is_of_users.then(|| format!("{event} {}{room}{status}", field(packet, "user")))
    };
    packets.iter().filter_map(of).collect()
}

impl Nodes {
    fn hears(&mut self, node: usize, conn: ConnKey) -> Vec<String> {
        told(&self.take(node, conn))
    }

    fn status(&mut self, node: usize, conn: ConnKey, status: Status) -> Vec<String> {
        let packets = self.say(node, conn, &format!("42[\"status\",{{\"status\":\"{}\"}}]", status.as_str()));
        told(&packets)
    }

    /// `user status connections` of a room's members, or of users.
    fn lists(&mut self, node: usize, conn: ConnKey, what: &str) -> String {
        let packets = self.say(node, conn, &format!("429[\"presence\",{{{what}}}]"));
        let answer = packets.iter().find(|packet| packet.starts_with("439")).expect("an answer").clone();
        let of = |user: &str| {
            format!("{} {} {}", user.split('"').next().unwrap(), field(user, "status"), field(user, "connections"))
        };
        let list: Vec<String> = answer.split("{\"user\":\"").skip(1).map(of).collect();
        let partial = if answer.contains("\"partial\":true") { " partial" } else { "" };
        format!("{}{partial}", list.join(", "))
    }

    fn call(&mut self, node: usize, call: Call) -> String {
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(900, 0) };
        let tenant = TenantId::parse("t").unwrap();
        self.rigs[node].input(Input::Call { from, tenant, call: Box::new(call) });
        self.settle();
        self.rigs[node].responses.pop().expect("an answer").2
    }

    /// A node ends without a word.
    fn dies(&mut self, node: usize) {
        self.lose(node);
        self.store.leave(node);
    }
}

#[test]
fn users_come_and_go_once_on_all_nodes() {
    let mut nodes = nodes(3);
    let ana = nodes.client(0, "ana");
    assert_eq!(nodes.hears(0, ana), [""; 0], "not of herself");
    let ben = nodes.client(1, "ben");
    assert_eq!(nodes.hears(0, ana), ["user:online ben"]);
    assert_eq!(nodes.hears(1, ben), [""; 0]);
    let again = nodes.client(2, "ben");
    assert_eq!((nodes.hears(0, ana), nodes.hears(1, ben)), (vec![], vec![]), "a second device is no news");
    assert_eq!(nodes.status(1, ben, Status::Busy), ["user:status ben busy"]);
    assert_eq!(nodes.hears(0, ana), ["user:status ben busy"]);
    assert_eq!(nodes.hears(2, again), ["user:status ben busy"]);
    let third = nodes.client(0, "ben");
    assert_eq!(nodes.lists(0, third, "\"users\":[\"ben\",\"ana\",\"eve\"]"), "ben busy 3, ana online 1, eve offline 0");
    assert_eq!(nodes.status(0, third, Status::Busy), [""; 0], "it is that already, since another node said so");
    nodes.hang_up(0, third);
    nodes.hang_up(1, ben);
    assert_eq!(nodes.hears(0, ana), [""; 0], "one device is left");
    assert_eq!(nodes.status(2, again, Status::Away), ["user:status ben away"]);
    nodes.hang_up(2, again);
    assert_eq!(nodes.hears(0, ana), ["user:status ben away", "user:offline ben"]);
    let gone = nodes.call(1, Call::User { user: "ben".into() });
    assert!(gone.starts_with("{\"user\":\"ben\",\"status\":\"offline\",\"since\":\"2023-"), "{gone}");
    assert!(gone.ends_with("\"connections\":0,\"rooms\":[]}"), "{gone}");
    let back = nodes.client(1, "ben");
    assert_eq!(nodes.hears(0, ana), ["user:online ben"]);
    assert_eq!(nodes.lists(1, back, "\"users\":[\"ben\"]"), "ben online 1", "and is what one is who comes");
}

#[test]
fn rooms_users_and_totals_are_of_all_nodes() {
    let mut nodes = nodes(3);
    let (ana, ben, again) = (nodes.client(0, "ana"), nodes.client(1, "ben"), nodes.client(2, "ben"));
    for (node, conn) in [(0, ana), (1, ben), (2, again)] {
        join(&mut nodes, node, conn, "r");
    }
    join(&mut nodes, 2, again, "s");
    for (node, conn) in [(0, ana), (1, ben), (2, again)] {
        assert_eq!(nodes.lists(node, conn, "\"room\":\"r\""), "ana online 1, ben online 2");
    }
    // Who joins and asks in one turn is there.
    let packets = nodes.say(0, ana, "420[\"subscribe\",{\"rooms\":[\"s\"]}]");
    assert!(packets.iter().any(|packet| packet.starts_with("430")));
    assert_eq!(nodes.lists(1, ben, "\"room\":\"s\""), "ana online 1, ben online 1");
    nodes.say(0, ana, "42[\"unsubscribe\",{\"rooms\":[\"s\"]}]");
    assert_eq!(nodes.lists(1, ben, "\"room\":\"s\""), "ben online 1");
    nodes.status(1, ben, Status::Offline);
    assert_eq!(nodes.lists(0, ana, "\"room\":\"r\""), "ana online 1", "who hides is not listed, on whichever node");
    assert_eq!(nodes.lists(0, ana, "\"users\":[\"ben\"]"), "ben offline 0");
    nodes.status(2, again, Status::Online);
    assert_eq!(
        nodes.call(0, Call::Rooms),
        "{\"rooms\":[{\"room\":\"r\",\"members\":3},{\"room\":\"s\",\"members\":1},{\"room\":\"tenant:t\",\"members\":3},\
         {\"room\":\"user:ana\",\"members\":1},{\"room\":\"user:ben\",\"members\":2}]}"
    );
    let stats = nodes.call(1, Call::Stats);
    assert!(stats.starts_with("{\"connections\":3,\"users\":2,\"rooms\":5,"), "{stats}");
    let user = nodes.call(0, Call::User { user: "ben".into() });
    assert!(
        user.contains("\"connections\":2") && user.contains("\"rooms\":[\"r\",\"s\",\"tenant:t\",\"user:ben\"]"),
        "{user}"
    );
    let room = nodes.call(1, Call::Presence { room: "r".into() });
    assert_eq!(room.matches("\"user\":").count(), 2, "{room}");
    assert_eq!(nodes.call(0, Call::Kick { user: "ben".into() }), "{\"closed\":2}");
    assert_eq!(nodes.rigs[1].closed, [(ben, Close::Kicked.row().number)]);
    assert_eq!(nodes.rigs[2].closed, [(again, Close::Kicked.row().number)]);
    nodes.hang_up(0, ana);
    assert_eq!(nodes.call(2, Call::Rooms), "{\"rooms\":[]}");
    let stats = nodes.call(1, Call::Stats);
    assert!(stats.starts_with("{\"connections\":0,\"users\":0,\"rooms\":0,"), "{stats}");
    nodes.pass(LEASE * 2, &[]);
    for rig in &nodes.rigs {
        // When they were last seen is known for a while.
        let left: Vec<_> =
            rig.shard.census().into_iter().filter(|(_, count)| *count > 0).map(|(what, _)| what).collect();
        assert!(left.iter().all(|what| ["tenants", "absences", "timers"].contains(what)), "{left:?}");
    }
}

#[test]
fn a_dead_nodes_users_are_gone_within_one_lease() {
    let mut nodes = nodes(3);
    let (ana, ben, cat) = (nodes.client(0, "ana"), nodes.client(1, "ben"), nodes.client(2, "cat"));
    let both = nodes.client(1, "cat");
    for (node, conn) in [(0, ana), (1, ben), (1, both)] {
        join(&mut nodes, node, conn, "r");
    }
    nodes.pass(LEASE * 3, &[]);
    assert_eq!(nodes.lists(0, ana, "\"room\":\"r\""), "ana online 1, ben online 1, cat online 1", "it lives");
    nodes.take(0, ana);
    nodes.take(2, cat);
    nodes.dies(1);
    nodes.pass(LEASE / 3, &[1]);
    assert_eq!(nodes.lists(0, ana, "\"room\":\"r\""), "ana online 1, ben online 1, cat online 1", "it may come back");
    nodes.pass(LEASE - LEASE / 3, &[1]);
    assert_eq!(nodes.hears(0, ana), ["user:offline ben"]);
    assert_eq!(nodes.hears(2, cat), ["user:offline ben"], "told once, and cat is still on another node");
    assert_eq!(nodes.lists(0, ana, "\"room\":\"r\""), "ana online 1");
    // It was not dead, but slow: what it has counts again.
    let tenant = TenantId::parse("t").unwrap();
    nodes.rigs[1].now = nodes.rigs[0].now;
    nodes.rigs[1].relays.push(crate::shard::relay::Relay::Open { tenant });
    nodes.settle();
    nodes.status(1, ben, Status::Away);
    nodes.pass(Duration::from_secs(1), &[]);
    assert_eq!(nodes.hears(0, ana), ["user:online ben"]);
    assert_eq!(nodes.lists(0, ana, "\"users\":[\"ben\"]"), "ben away 1");
}

#[test]
fn while_the_store_is_away_a_node_tells_its_own_and_the_others_when_it_is_back() {
    for loses in [false, true] {
        let mut nodes = nodes(2);
        let (ana, ben, dan) = (nodes.client(0, "ana"), nodes.client(1, "ben"), nodes.client(1, "dan"));
        nodes.take(0, ana);
        nodes.take(1, ben);
        nodes.go_away();
        let cat = nodes.client(0, "cat");
        assert_eq!(nodes.hears(0, ana), ["user:online cat"], "at once");
        assert_eq!(nodes.lists(0, ana, "\"room\":\"tenant:t\""), "ana online 1, cat online 1 partial");
        assert_eq!(nodes.call(0, Call::Stats).split(',').next(), Some("{\"connections\":2"));
        nodes.status(0, cat, Status::Busy);
        nodes.hang_up(1, dan);
        assert_eq!(
            (nodes.hears(0, ana), nodes.hears(1, ben)),
            (vec!["user:status cat busy".into()], vec!["user:offline dan".into()])
        );
        if loses {
            nodes.store.lose();
        }
        nodes.come_back();
        let all = "ana online 1, ben online 1";
        assert_eq!(nodes.lists(1, ben, "\"users\":[\"ana\",\"ben\"]"), all, "who was there is there at once");
        assert_eq!((nodes.hears(0, ana), nodes.hears(1, ben)), (vec![], vec![]), "others may not hear yet");
        nodes.pass(FLEET_RETURN + Duration::from_secs(1), &[]);
        assert_eq!(nodes.hears(0, ana), ["user:offline dan"], "loses {loses}");
        assert_eq!(nodes.hears(1, ben), ["user:online cat"], "who knew is told nothing, loses {loses}");
        assert_eq!(nodes.lists(1, ben, "\"room\":\"tenant:t\""), "ana online 1, ben online 1, cat busy 1");
        nodes.hang_up(0, cat);
        assert_eq!(
            (nodes.hears(0, ana), nodes.hears(1, ben)),
            (vec!["user:offline cat".into()], vec!["user:offline cat".into()])
        );
    }
}

#[test]
fn an_outage_longer_than_a_lease_makes_nobody_gone() {
    let mut nodes = nodes(2);
    let (ana, ben) = (nodes.client(0, "ana"), nodes.client(1, "ben"));
    nodes.take(0, ana);
    nodes.go_away();
    nodes.pass(LEASE * 2, &[]);
    nodes.come_back();
    nodes.pass(LEASE, &[]);
    assert_eq!((nodes.hears(0, ana), nodes.hears(1, ben)), (vec![], vec![]));
    assert_eq!(nodes.lists(1, ben, "\"room\":\"tenant:t\""), "ana online 1, ben online 1");
}

#[test]
fn who_breaks_off_and_comes_back_to_another_node_within_its_grace_was_never_gone() {
    let mut nodes = Nodes::with(2, |settings| {
        plain(settings);
        settings.presence.grace = Duration::from_secs(10);
    });
    let (ana, ben) = (nodes.client(0, "ana"), nodes.client(1, "ben"));
    join(&mut nodes, 1, ben, "r");
    nodes.status(1, ben, Status::Busy);
    nodes.take(0, ana);
    nodes.hang_up(1, ben);
    assert_eq!(nodes.lists(0, ana, "\"room\":\"r\""), "ben busy 0");
    let back = nodes.client(0, "ben");
    nodes.pass(Duration::from_secs(20), &[]);
    assert_eq!(nodes.hears(0, ana), [""; 0]);
    assert_eq!(nodes.lists(0, ana, "\"users\":[\"ben\"]"), "ben busy 1");
    nodes.hang_up(0, back);
    nodes.pass(Duration::from_secs(5), &[]);
    assert_eq!(nodes.hears(0, ana), [""; 0], "in its grace");
    nodes.pass(Duration::from_secs(6), &[]);
    assert_eq!(nodes.hears(0, ana), ["user:offline ben"]);
}

#[test]
fn a_watched_room_hears_who_is_in_it_on_any_node() {
    let mut nodes = Nodes::with(2, |settings| {
        plain(settings);
        settings.presence.tenant = None;
        let pattern = Pattern::parse("w*").unwrap();
        settings.presence.rooms = vec![RoomPresence {
            pattern,
            wording: Wording { status: Wording::of_tenant().status, ..Wording::of_room() },
        }]
        .into();
    });
    let (ana, ben, again) = (nodes.client(0, "ana"), nodes.client(1, "ben"), nodes.client(0, "ben"));
    join(&mut nodes, 0, ana, "w");
    join(&mut nodes, 1, ben, "w");
    join(&mut nodes, 0, again, "w");
    join(&mut nodes, 1, ben, "unwatched");
    assert_eq!(nodes.hears(0, ana), ["room:joined ben w"]);
    nodes.status(0, again, Status::Busy);
    assert_eq!(nodes.hears(0, ana), ["user:status ben busy"]);
    nodes.say(0, again, "42[\"unsubscribe\",{\"rooms\":[\"w\"]}]");
    assert_eq!(nodes.hears(0, ana), [""; 0]);
    nodes.hang_up(1, ben);
    assert_eq!(nodes.hears(0, ana), ["room:left ben w"]);
}

#[test]
fn connections_are_counted_over_all_nodes() {
    let mut nodes = Nodes::with(2, |settings| {
        plain(settings);
        settings.limits.connections_per_user = 2;
        settings.limits.connections_per_tenant = 3;
    });
    let kept = [(0, nodes.client(0, "ana")), (1, nodes.client(1, "ana"))];
    let third = nodes.client(1, "ana");
    assert_eq!(nodes.rigs[1].closed, [(third, Close::TooManyConnections.row().number)], "a third of one user");
    nodes.client(0, "ben");
    let fourth = nodes.client(1, "cat");
    assert_eq!(nodes.rigs[1].closed[1..], [(fourth, Close::TooManyConnections.row().number)], "a fourth of the tenant");
    assert_eq!(nodes.rigs[0].closed, []);
    nodes.hang_up(0, kept[0].1);
    nodes.client(1, "cat");
    assert_eq!(nodes.rigs[1].closed.len(), 2, "one has gone, and another may come");
}
