//! The offline queue: what waits, who gets it when, and what ends the waiting.

use super::*;
use crate::wire::auth::Pattern;
use offline::{Acknowledge, OfflineRule};

fn with(acknowledge: Acknowledge) -> Rig {
    Rig::with(|settings| {
        settings.offline.rules = vec![OfflineRule { types: Pattern::parse("*").unwrap(), acknowledge }];
    })
}

impl Rig {
    /// Publishes as a backend: an event for a user.
    fn tell(&mut self, user: &str, event: &str, data: u32) {
        let room = Some(format!("user:{user}").into());
        let event = Publish { event: event.into(), room, data: data.to_string().into(), ..Publish::default() };
        self.call(Call::Publish(vec![event]));
        assert_eq!(self.responses.pop().map(|(_, status, _)| status), Some(202));
    }

    pub(super) fn call(&mut self, call: Call) {
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(999, 0) };
        self.input(Input::Call { from, tenant: TenantId::parse("acme").unwrap(), call: Box::new(call) });
    }

    /// A client that connects, with more in its CONNECT: all packets after the handshake.
    fn come(&mut self, user: &str, more: &str) -> (ConnKey, Vec<String>) {
        let conn = self.open(Wire::WebSocket, None);
        let token = self.token("acme", user);
        self.say(conn, &format!("40{{\"token\":\"{token}\"{more}}}"));
        let packets = self.take(conn).split_off(1);
        (conn, packets)
    }

    fn hang_up(&mut self, conn: ConnKey) {
        self.input(Input::Hangup { conn, cause: Hangup::Closed });
    }

    fn cut(&mut self, conn: ConnKey) {
        self.input(Input::Hangup { conn, cause: Hangup::Failed });
    }
}

/// The data of the events of a name among packets.
fn data(packets: &[String], event: &str) -> Vec<u32> {
    let start = format!("[\"{event}\",");
    let number = |packet: &String| {
        let rest = &packet[packet.find(&start)? + start.len()..];
        rest[..rest.find([',', ']'])?].parse().ok()
    };
    packets.iter().filter_map(number).collect()
}

fn ids(packets: &[String], event: &str) -> Vec<String> {
    packets.iter().filter(|packet| packet.contains(&format!("[\"{event}\","))).map(|p| field(p, "id").into()).collect()
}

fn received(ids: &[String]) -> String {
    format!("427[\"received\",{{\"ids\":{ids:?}}}]")
}

#[test]
fn what_waits_comes_in_order_until_it_is_received() {
    let mut rig = Rig::new();
    let watcher = rig.client("acme", "w");
    for n in 1..=4 {
        rig.tell("a", "note", n);
    }
    rig.tell("b", "note", 9);
    let (first, packets) = rig.come("a", "");
    assert!(packets[0].starts_with("40{") && packets[1].starts_with("42[\"connected\""), "{packets:?}");
    assert_eq!(data(&packets, "note"), [1, 2, 3, 4], "right behind the greeting: {packets:?}");
    assert!(packets[2].contains("\"offset\":1,\"queued\":true}"), "{packets:?}");
    rig.tell("a", "note", 5);
    let live = rig.take(first);
    assert_eq!(data(&live, "note"), [5]);
    assert!(!live[0].contains("queued"), "{live:?}");
    // Two of them, one unknown, and one of somebody else's.
    let known = ids(&packets, "note");
    rig.say(first, &received(&[known[2].clone(), known[0].clone(), "nothing".into()]));
    assert_eq!(rig.take(first), ["437[{\"ok\":true}]"]);
    rig.hang_up(first);
    let (second, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [2, 4], "what was not acknowledged comes again");
    assert_eq!(ids(&packets, "note"), [known[1].clone(), known[3].clone()], "under the same ids");
    rig.say(second, &received(&known));
    rig.hang_up(second);
    let (third, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [0; 0]);
    rig.say(third, "428[\"received\",{\"ids\":\"x\"}]");
    assert!(rig.take(third)[0].contains("invalid_argument"));
    assert_eq!(data(&rig.take(watcher), "note"), [0; 0], "it was for nobody else");
    assert_eq!(data(&rig.come("b", "").1, "note"), [9]);
}

#[test]
fn what_does_not_wait() {
    let mut rig = Rig::with(|settings| {
        let rule = OfflineRule { types: Pattern::parse("note:*").unwrap(), acknowledge: Acknowledge::Received };
        settings.offline.rules = vec![rule];
    });
    rig.tell("a", "note:1", 1);
    rig.tell("a", "other", 2);
    let event = |room: &str, ephemeral| Publish {
        event: "note:2".into(),
        room: Some(room.into()),
        data: "3".into(),
        ephemeral,
        ..Publish::default()
    };
    rig.call(Call::Publish(vec![event("user:a", true), event("project:7", false), event("user:", false)]));
    assert_eq!(rig.shard.census()[9], ("events for who is away", 1));
    let (_, packets) = rig.come("a", "");
    assert_eq!(packets.len(), 3, "{packets:?}");
    // The same name in another tenant is another user.
    let elsewhere = rig.client("globex", "a");
    assert_eq!(rig.take(elsewhere), [""; 0]);
    let mut off = Rig::with(|settings| settings.offline.per_user = 0);
    off.tell("a", "note", 1);
    assert_eq!(data(&off.come("a", "").1, "note"), [0; 0]);
}

#[test]
fn who_may_not_have_it_does_not_get_it() {
    let mut rig = Rig::new();
    let (room, to_roles) = (Some("user:a".into()), vec!["agent".into()]);
    rig.call(Call::Publish(vec![Publish {
        event: "n".into(),
        room,
        data: "1".into(),
        to_roles,
        ..Publish::default()
    }]));
    assert_eq!(data(&rig.come("a", "").1, "n"), [0; 0]);
}

#[test]
fn devices_get_it_until_one_has_acknowledged() {
    let mut rig = Rig::new();
    rig.tell("a", "note", 1);
    let (phone, one) = rig.come("a", "");
    let (laptop, other) = rig.come("a", "");
    assert_eq!((data(&one, "note"), data(&other, "note")), (vec![1], vec![1]), "each gets its own");
    rig.say(laptop, &received(&ids(&other, "note")));
    assert_eq!(data(&rig.come("a", "").1, "note"), [0; 0]);
    // With one of them there, nothing waits.
    rig.hang_up(phone);
    rig.take(laptop);
    rig.tell("a", "note", 2);
    assert_eq!(data(&rig.take(laptop), "note"), [2]);
    assert_eq!(data(&rig.come("a", "").1, "note"), [0; 0]);
}

#[test]
fn what_is_too_much_or_too_old_is_gone_and_told() {
    let mut rig = Rig::with(|settings| {
        settings.offline.per_user = 3;
        settings.offline.ttl = Duration::from_secs(60);
    });
    for n in 1..=5 {
        rig.tell("a", "note", n);
    }
    let (conn, packets) = rig.come("a", "");
    assert!(packets[2].starts_with("42[\"error\",{\"code\":\"offline_overflow\""), "{packets:?}");
    assert!(packets[2].contains("\"dropped\":2"), "{packets:?}");
    assert_eq!(data(&packets, "note"), [3, 4, 5]);
    rig.hang_up(conn);
    rig.advance(Duration::from_secs(50));
    rig.tell("a", "note", 6);
    let (conn, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [4, 5, 6], "told of what is lost once each: {packets:?}");
    assert!(packets[2].contains("\"dropped\":1"));
    rig.hang_up(conn);
    rig.advance(Duration::from_secs(11));
    let (conn, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [6]);
    assert!(packets[2].starts_with("42[\"note\""), "age is not told of: {packets:?}");
    rig.hang_up(conn);
    rig.advance(Duration::from_secs(4000));
    let counts = rig.shard.counts();
    let of = [Count::OfflineKept, Count::OfflineDropped, Count::OfflineExpired, Count::OfflineAcknowledged];
    assert_eq!(of.map(|count| counts.get(count)), [6, 3, 3, 0]);
    assert!(rig.shard.census().iter().all(|(_, count)| *count == 0), "{:?}", rig.shard.census());
}

/// Whoever recovers has what it missed from the history, and not from the queue again.
#[test]
fn recovery_and_the_queue_agree() {
    let mut rig = Rig::new();
    rig.tell("a", "note", 1);
    let (conn, hello) = rig.come("a", "");
    assert_eq!(data(&hello, "note"), [1]);
    let pid = field(&hello[0], "pid").to_owned();
    rig.cut(conn);
    rig.tell("a", "note", 2);
    rig.tell("a", "note", 3);
    // It had read the first: that position is its acknowledgement.
    let position = |packet: &str| packet.rsplit('"').nth(1).unwrap().to_owned();
    let at = position(&hello[2]);
    let (conn, back) = rig.come("a", &format!(",\"pid\":\"{pid}\",\"offset\":\"{at}\""));
    assert_eq!(data(&back, "note"), [2, 3], "once each: {back:?}");
    assert!(back[0].starts_with("42[\"note\",2") && back[2].starts_with("40{"), "{back:?}");
    assert!(back[3].contains("\"recovered\":true") && back.len() == 4, "{back:?}");
    // It breaks among them: the second is acknowledged by its place, the third comes once more.
    rig.cut(conn);
    let (conn, again) = rig.come("a", &format!(",\"pid\":\"{pid}\",\"offset\":\"{}\"", position(&back[0])));
    assert_eq!(data(&again, "note"), [3], "{again:?}");
    // It never comes back, but another does: nothing is lost, and nothing that was read is told again.
    rig.cut(conn);
    rig.tell("a", "note", 4);
    let (_, fresh) = rig.come("a", "");
    assert_eq!(data(&fresh, "note"), [3, 4]);
}

/// What waited and was not acknowledged comes before what was missed, also where the socket is an earlier one.
#[test]
fn a_recovered_socket_gets_it_in_order() {
    let mut rig = Rig::new();
    rig.tell("a", "note", 1);
    let (conn, hello) = rig.come("a", "");
    let pid = field(&hello[0], "pid").to_owned();
    rig.cut(conn);
    rig.tell("a", "note", 2);
    let (_, back) = rig.come("a", &format!(",\"pid\":\"{pid}\""));
    assert_eq!(data(&back, "note"), [1, 2], "it names no position, so it may have got nothing: {back:?}");
    assert!(back[2].starts_with("40{"), "{back:?}");
}

/// What was sent to a connection that was dead already waits.
#[test]
fn what_a_dead_connection_was_sent_waits() {
    type End = fn(&mut Rig, ConnKey);
    let ends: [(&str, End, &[u32]); 4] = [
        ("a ping timeout", |rig, _| rig.advance(Duration::from_secs(60)), &[2]),
        ("a reset", |rig, conn| rig.cut(conn), &[2]),
        ("a close", |rig, conn| rig.hang_up(conn), &[]),
        ("a farewell", |rig, conn| rig.say(conn, "41"), &[]),
    ];
    for (how, end, want) in ends {
        let mut rig = Rig::new();
        let conn = rig.client("acme", "a");
        rig.advance(Duration::from_secs(1));
        rig.tell("a", "note", 1);
        rig.advance(Duration::from_secs(1));
        rig.say(conn, "425[\"presence\",{\"room\":\"user:a\"}]");
        rig.advance(Duration::from_secs(1));
        rig.tell("a", "note", 2);
        assert_eq!(data(&rig.take(conn), "note"), [1, 2]);
        end(&mut rig, conn);
        let (_, packets) = rig.come("a", "");
        assert_eq!(data(&packets, "note"), want, "{how}");
    }
}

/// A new connection that came while the dead one was taken for alive: what only the dead one was sent waits, what the new one got does not.
#[test]
fn what_another_connection_got_does_not_wait() {
    let mut rig = Rig::new();
    let dead = rig.client("acme", "a");
    rig.advance(Duration::from_secs(1));
    rig.tell("a", "note", 1);
    let alive = rig.client("acme", "a");
    rig.tell("a", "note", 2);
    assert_eq!(data(&rig.take(alive), "note"), [2]);
    rig.cut(dead);
    rig.hang_up(alive);
    assert_eq!(data(&rig.come("a", "").1, "note"), [1]);
}

/// The old connection looks alive when its client comes back: what it was sent is given once, by the history or by the queue.
#[test]
fn a_replaced_connection_loses_nothing() {
    for knows_pid in [true, false] {
        let mut rig = Rig::new();
        let (_dead, hello) = rig.come("a", "");
        let pid = if knows_pid { field(&hello[0], "pid").to_owned() } else { "AAAAAAAAAAAAAAAAAAAA".to_owned() };
        rig.advance(Duration::from_secs(1));
        rig.tell("a", "note", 1);
        let (conn, back) = rig.come("a", &format!(",\"pid\":\"{pid}\""));
        let mut got = data(&back, "note");
        rig.hang_up(conn);
        rig.advance(Duration::from_secs(60));
        got.extend(data(&rig.come("a", "").1, "note"));
        assert!(got.contains(&1), "known {knows_pid}: {got:?}");
    }
}

#[test]
fn an_acknowledgement_that_was_asked_for() {
    let mut rig = with(Acknowledge::Asked);
    for n in 1..=3 {
        rig.tell("a", "note", n);
    }
    let (conn, packets) = rig.come("a", "");
    assert!(
        packets[2].starts_with("420[\"note\",1,{\"id\"") && packets[2].ends_with("\"queued\":true}]"),
        "{packets:?}"
    );
    assert!(packets[4].starts_with("422[\"note\",3,"), "{packets:?}");
    rig.say(conn, "432[]");
    rig.say(conn, "432[]");
    rig.say(conn, "4399[]");
    rig.say(conn, &received(&ids(&packets, "note")[..1]));
    rig.hang_up(conn);
    assert_eq!(data(&rig.come("a", "").1, "note"), [2]);
    // On /ws the same.
    let token = rig.token("acme", "a");
    let conn = rig.open(Wire::Plain, Some(token));
    let packets = rig.take(conn);
    assert!(
        packets[1].starts_with("{\"event\":\"note\",\"data\":2,") && packets[1].ends_with(",\"id\":0}"),
        "{packets:?}"
    );
    rig.say(conn, "{\"ack\":0}");
    assert_eq!(data(&rig.come("a", "").1, "note"), [0; 0]);
}

/// A pong to a ping sent behind the events proves that they came; without one they come again.
#[test]
fn a_pong_proves_delivery() {
    let mut rig = with(Acknowledge::Delivered);
    rig.tell("a", "note", 1);
    let (conn, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [1]);
    assert_eq!(packets.last().map(|packet| &**packet), Some("2"), "it is asked at once");
    // A pong nobody asked for proves nothing, and neither does another packet.
    rig.say(conn, "425[\"presence\",{\"room\":\"user:a\"}]");
    rig.hang_up(conn);
    let (conn, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [1], "again");
    rig.advance(Duration::from_millis(20));
    rig.say(conn, "3");
    rig.hang_up(conn);
    assert_eq!(data(&rig.come("a", "").1, "note"), [0; 0]);
    // By recovery, too.
    let (conn, hello) = rig.come("b", "");
    let pid = field(&hello[0], "pid").to_owned();
    rig.cut(conn);
    rig.tell("b", "note", 2);
    let (conn, back) = rig.come("b", &format!(",\"pid\":\"{pid}\""));
    assert_eq!(data(&back, "note"), [2]);
    rig.advance(Duration::from_millis(20));
    rig.say(conn, "3");
    rig.hang_up(conn);
    assert_eq!(data(&rig.come("b", "").1, "note"), [0; 0]);
}

/// A ping that was on its way before proves nothing of what was written behind it.
#[test]
fn a_pong_to_an_earlier_ping_proves_nothing() {
    let mut rig = with(Acknowledge::Delivered);
    let (conn, _) = rig.come("w", "");
    rig.advance(Duration::from_secs(26));
    assert!(rig.take(conn).contains(&"2".to_owned()));
    // The ping waits for its pong while the second namespace is joined, which gives what waits.
    rig.tell("a", "note", 1);
    let (conn, _) = rig.come("a", "");
    rig.hang_up(conn);
    let conn = rig.open(Wire::WebSocket, None);
    rig.advance(Duration::from_secs(26));
    let token = rig.token("acme", "a");
    rig.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
    rig.say(conn, "3");
    assert_eq!(rig.shard.census()[9].1, 1, "not by the first pong");
    rig.advance(Duration::from_millis(20));
    rig.say(conn, "3");
    assert_eq!(rig.shard.census()[9].1, 0, "by the second");
}

/// A client that follows its own room by position is not given twice what it was given as it came.
#[test]
fn a_position_and_the_queue_agree() {
    let mut rig = Rig::new();
    let (conn, hello) = rig.come("a", "");
    rig.tell("a", "note", 1);
    let live = rig.take(conn);
    let epoch = field(&live[0], "epoch").to_owned();
    rig.hang_up(conn);
    rig.tell("a", "note", 2);
    assert_eq!(hello.len(), 2);
    let (conn, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "note"), [2]);
    rig.say(
        conn,
        &format!("421[\"subscribe\",{{\"rooms\":[\"user:a\"],\"since\":{{\"epoch\":\"{epoch}\",\"offset\":1}}}}]"),
    );
    let answer = rig.take(conn);
    assert!(answer.len() == 1 && answer[0].contains("\"recovered\":true"), "{answer:?}");
}

#[test]
fn receipts_are_told_once_to_the_sender() {
    let mut rig = Rig::with(|settings| settings.receipts.types = vec![Pattern::parse("message").unwrap()]);
    let sender = rig.client("acme", "s");
    rig.say(sender, "421[\"publish\",{\"room\":\"user:a\",\"type\":\"message\",\"data\":1,\"id\":\"m1\"}]");
    rig.say(sender, "422[\"publish\",{\"room\":\"user:a\",\"type\":\"other\",\"data\":2,\"id\":\"m2\"}]");
    let stranger = rig.client("acme", "x");
    rig.drop_all();
    rig.say(stranger, "421[\"read\",{\"ids\":[\"m1\"]}]");
    let (conn, packets) = rig.come("a", "");
    assert_eq!(data(&packets, "message"), [1]);
    assert!(!rig.take(sender).iter().any(|packet| packet.contains("delivered") || packet.contains("read")));
    let receipts = |rig: &mut Rig| -> Vec<String> {
        let told = rig.take(sender).into_iter().filter(|packet| packet.contains("\"id\":\"m"));
        told.map(|packet| packet[2..packet.find(",\"time\"").unwrap()].to_owned()).collect()
    };
    rig.say(conn, &received(&["m1".into(), "m2".into()]));
    assert_eq!(receipts(&mut rig), ["[\"delivered\",{\"id\":\"m1\",\"user\":\"a\""]);
    rig.say(conn, &received(&["m1".into()]));
    assert_eq!(receipts(&mut rig), [""; 0]);
    rig.say(conn, "423[\"read\",{\"ids\":[\"m1\",\"m2\"]}]");
    assert_eq!(receipts(&mut rig), ["[\"read\",{\"id\":\"m1\",\"user\":\"a\""]);
    rig.say(conn, "424[\"read\",{\"ids\":[\"m1\"]}]");
    assert_eq!(receipts(&mut rig), [""; 0]);
    // Live, and read at once: no `delivered` afterwards. The sender is away: its receipt waits for it.
    rig.say(sender, "421[\"publish\",{\"room\":\"user:a\",\"type\":\"message\",\"data\":1,\"id\":\"m3\"}]");
    rig.hang_up(sender);
    rig.say(conn, "424[\"read\",{\"ids\":[\"m3\"]}]");
    rig.say(conn, &received(&["m3".into()]));
    let (_, packets) = rig.come("s", "");
    let told: Vec<_> = packets.iter().filter(|packet| packet.contains("\"id\":\"m3\"")).collect();
    assert!(told.len() == 1 && told[0].starts_with("42[\"read\","), "{packets:?}");
}

/// Server-sent events cannot acknowledge; the id they come back with does.
#[test]
fn a_stream_acknowledges_by_its_last_event_id() {
    let mut rig = Rig::new();
    for n in 1..=2 {
        rig.tell("a", "note", n);
    }
    let token = rig.token("acme", "a");
    let read = |rig: &mut Rig, last_event_id: Option<Box<str>>| -> String {
        let conn = ConnKey::new(rig.next, 0);
        rig.next += 1;
        let open = Open {
            from: ReplyTo { shard: ShardId(0), conn },
            wire: Wire::Events,
            token: Some(token.as_str().into()),
            address: std::net::IpAddr::from([127, 0, 0, 1]),
            admission: None,
            hops: 0,
            crowded: false,
            rooms: Vec::new(),
            last_event_id,
        };
        let (mut outputs, mut text) = (Vec::new(), Vec::new());
        rig.shard.handle(rig.now, Input::Open(Box::new(open)), &mut outputs);
        rig.shard.end_turn(rig.now, &mut outputs);
        while let Some(conn) = rig.shard.next_dirty() {
            let bytes = rig.shard.pending(conn).to_vec();
            text.extend_from_slice(&bytes);
            rig.shard.wrote(rig.now, conn, bytes.len(), &mut outputs);
        }
        rig.shard.end_writes(&mut outputs);
        rig.input(Input::Hangup { conn, cause: Hangup::Failed });
        String::from_utf8(text).unwrap()
    };
    let count = |text: &str| text.matches("\"event\":\"note\"").count();
    let first = read(&mut rig, None);
    assert_eq!(count(&first), 2, "{first}");
    assert_eq!(first.matches("id: ").count(), 1, "the place to go on from, behind them: {first}");
    assert_eq!(count(&read(&mut rig, None)), 2, "cut off before it has that, it gets them again");
    let end = first.rsplit("id: ").next().unwrap().trim();
    let second = read(&mut rig, Some(end.into()));
    assert_eq!(count(&second), 0, "{second}");
    assert_eq!(rig.shard.census()[9].1, 0);
}

/// Which events wait, what ends it, and what has receipts is the profile's; and so is what a user's own room is called.
#[test]
fn a_profile_says_what_waits() {
    const CHAT: &str = r#"
name = "chat"
about = "-"
[connection]
user_room = "inbox_{user}_in"
delivery = "message"
[offline]
removed = "delivered"
[client_events]
send = { do = "publish", room = "inbox_{to}_in", type = "message", data = { text = "{text}" } }
seen = { do = "read" }
[events]
message = { receipts = true }
ad = { offline = false }
alarm = { acknowledge = { timeout_ms = 1000, retries = 1 } }
"#;
    let profile = crate::profile::Profile::parse(CHAT).unwrap_or_else(|error| panic!("{error}"));
    let removed = profile.offline.removed;
    let mut rig = Rig::of(profile_app(profile, ["/"]), |settings| {
        settings.offline = offline::OfflineSettings::new(Duration::from_secs(600), 10, removed);
    });
    let tell = |rig: &mut Rig, event: &str| {
        let event = Publish { event: event.into(), user: Some("a".into()), data: "1".into(), ..Publish::default() };
        rig.call(Call::Publish(vec![event]));
        assert_eq!(rig.responses.pop().map(|(_, status, _)| status), Some(202));
    };
    let (sender, _) = rig.come("s", "");
    rig.say(sender, "421[\"send\",{\"to\":\"a\",\"text\":\"hi\"}]");
    assert!(rig.take(sender)[0].contains("\"ok\":true"));
    tell(&mut rig, "ad");
    tell(&mut rig, "note");
    let (conn, packets) = rig.come("a", "");
    let wrapped: Vec<&String> =
        packets.iter().filter(|packet| packet.starts_with("42[\"message\",{\"type\"")).collect();
    assert_eq!(wrapped.len(), 2, "no ad: {packets:?}");
    assert!(wrapped[0].contains("{\"type\":\"message\",\"data\":{\"text\":\"hi\"}},{\"id\":"), "{wrapped:?}");
    assert!(wrapped[1].contains("\"type\":\"note\"") && wrapped[1].contains("\"queued\":true"), "{wrapped:?}");
    // The pong removes both, and is the receipt of the one that has any.
    rig.advance(Duration::from_millis(20));
    rig.say(conn, "3");
    assert_eq!(rig.shard.census()[7].1, 0);
    let told: Vec<String> = rig.take(sender).into_iter().filter(|packet| packet.contains("delivered")).collect();
    assert!(told.len() == 1 && told[0].contains("\"user\":\"a\""), "{told:?}");
    let id = field(wrapped[0], "id").to_owned();
    rig.say(conn, &format!("42[\"seen\",{{\"ids\":[\"{id}\"]}}]"));
    assert!(rig.take(sender).iter().any(|packet| packet.contains("\"type\":\"read\"")));
    // Everyone who publishes an alarm asks for acknowledgements, whoever waits for them.
    rig.take(conn);
    tell(&mut rig, "alarm");
    let first = rig.take(conn);
    assert!(first[0].starts_with("421000000") && first[0].contains("[\"message\",{\"type\":\"alarm\""), "{first:?}");
    rig.advance(Duration::from_millis(1010));
    assert!(rig.take(conn).iter().any(|packet| packet.contains("\"attempt\":2")), "and again");
}
