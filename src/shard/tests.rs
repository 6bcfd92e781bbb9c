//! A shard held in a test: packets in, packets out, time by hand.

use super::*;
use crate::base::id::{ReplyTo, TenantId};
use crate::base::limit;
use crate::base::time::UnixMs;
use crate::wire::api::{Call, Publish};
use crate::wire::auth::{Mint, mint};
use io::{Hangup, Open, Wire};

mod circle;
mod delivery;
mod document;
mod listener;
mod offline_queue;
mod presence;
mod profile;
mod spread;
mod story;
mod typing;
mod verdict;
mod writing;

/// By then presence has been told, however the timer wheel rounds.
const TOLD: Duration = Duration::from_millis(limit::PRESENCE_EVERY.as_millis() as u64 + 10);

/// A WebSocket client of a shard: what it has received, as packets.
pub(crate) struct Rig {
    pub(crate) shard: Shard,
    pub(crate) now: Now,
    pub(crate) next: u32,
    /// Packets written to each connection and not taken by the test yet.
    pub(crate) inbox: std::collections::BTreeMap<ConnKey, Vec<String>>,
    pub(crate) closed: Vec<(ConnKey, u16)>,
    pub(crate) responses: Vec<(ConnKey, u16, String)>,
    pub(crate) asks: Vec<io::Ask>,
    pub(crate) failed: Vec<(Box<str>, &'static str)>,
    pub(crate) relays: Vec<relay::Relay>,
    pub(crate) keys: Keys,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Rig {
        Rig::of(default_app(["/", "/chat"]), change)
    }

    pub(crate) fn of(app: App, change: impl FnOnce(&mut Settings)) -> Rig {
        Rig::seeded(app, 1, change)
    }

    /// Ids are drawn from the seed.
    pub(crate) fn seeded(app: App, seed: u8, change: impl FnOnce(&mut Settings)) -> Rig {
        let keys = Keys::from_secret(b"0123456789abcdef0123456789abcdef").unwrap();
        let mut settings =
            Settings { auth: Some(Auth { keys: keys.clone(), policy: Policy::default() }), ..Settings::new() };
        change(&mut settings);
        let shard = Shard::new(settings, app, [seed; 32]);
        let now = Now { at: Instant(1_000_000), unix: UnixMs(1_700_000_000_000) };
        Rig {
            shard,
            now,
            next: 0,
            inbox: Default::default(),
            closed: Vec::new(),
            responses: Vec::new(),
            asks: Vec::new(),
            failed: Vec::new(),
            relays: Vec::new(),
            keys,
        }
    }

    pub(crate) fn token(&self, tenant: &str, user: &str) -> String {
        self.token_for(tenant, user, 3600)
    }

    pub(crate) fn token_for(&self, tenant: &str, user: &str, seconds: u64) -> String {
        let mint_of = Mint {
            tenant,
            user,
            roles: &[],
            permissions: &["publish".to_owned()],
            rooms: &[],
            scope: &[],
            ttl: Some(Duration::from_secs(seconds)),
        };
        mint(&mint_of, &self.keys, &Policy::default(), self.now.unix).unwrap()
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.shard.handle(self.now, input, &mut outputs);
        self.turn(outputs);
    }

    pub(crate) fn turn(&mut self, mut outputs: Vec<Output>) {
        self.shard.end_turn(self.now, &mut outputs);
        while let Some(conn) = self.shard.next_dirty() {
            let bytes = self.shard.pending(conn).to_vec();
            self.read(conn, &bytes);
            self.shard.wrote(self.now, conn, bytes.len(), &mut outputs);
        }
        self.shard.end_writes(&mut outputs);
        for output in outputs {
            match output {
                Output::Respond { to, response } if to.is_elsewhere() => {
                    let errand = neighbour::Errand::Answer { to, response: Box::new(response) };
                    self.relays.push(relay::Relay::Neighbour(Box::new(errand)));
                }
                Output::Respond { to, response } => {
                    self.responses.push((
                        to.conn,
                        response.status,
                        String::from_utf8_lossy(&response.body).into_owned(),
                    ));
                }
                Output::Close { conn, rest, number, .. } => {
                    self.read(conn, &rest);
                    self.closed.push((conn, number));
                }
                Output::Ask(ask) => self.asks.push(ask),
                Output::Relay(relay) => self.relays.push(relay),
                Output::ListenerFailed { listener, code } => self.failed.push((listener, code)),
                Output::Upgrade { .. } | Output::Stream { .. } | Output::Release { .. } | Output::Refused { .. } => {}
                Output::Handoff { .. } | Output::Send { .. } => panic!("one shard has nobody to send to"),
            }
        }
    }

    /// Frames to packets.
    pub(crate) fn read(&mut self, conn: ConnKey, mut bytes: &[u8]) {
        let inbox = self.inbox.entry(conn).or_default();
        if bytes.first().is_some_and(u8::is_ascii) {
            // A stream of events: text as it is.
            return inbox.push(String::from_utf8_lossy(bytes).into_owned());
        }
        while !bytes.is_empty() {
            let (start, len) = match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
                len => (2, usize::from(len)),
            };
            inbox.push(String::from_utf8_lossy(&bytes[start..start + len]).into_owned());
            bytes = &bytes[start + len..];
        }
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now.at + by;
        while let Some(deadline) = self.shard.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.later(deadline.since(self.now.at));
            self.input(Input::Tick);
        }
        self.now = self.now.later(until.since(self.now.at));
        self.input(Input::Tick);
    }

    pub(crate) fn open(&mut self, wire: Wire, token: Option<String>) -> ConnKey {
        let conn = ConnKey::new(self.next, 0);
        self.next += 1;
        let open = Open {
            from: ReplyTo { shard: ShardId(0), conn },
            wire,
            token: token.map(Into::into),
            address: std::net::IpAddr::from([127, 0, 0, 1]),
            admission: None,
            hops: 0,
            crowded: false,
            rooms: Vec::new(),
            last_event_id: None,
        };
        self.input(Input::Open(Box::new(open)));
        conn
    }

    pub(crate) fn say(&mut self, conn: ConnKey, text: &str) {
        self.input(Input::Message { conn, message: Message::Text(text) });
    }

    pub(crate) fn take(&mut self, conn: ConnKey) -> Vec<String> {
        std::mem::take(self.inbox.entry(conn).or_default())
    }

    /// A Socket.IO client, connected and greeted.
    pub(crate) fn client(&mut self, tenant: &str, user: &str) -> ConnKey {
        let (conn, packets) = self.connect(tenant, user);
        assert!(packets[0].starts_with("0{\"sid\"") && packets[1].starts_with("40{\"sid\""), "{packets:?}");
        assert!(packets[2].starts_with("42[\"connected\""), "{packets:?}");
        conn
    }

    /// A Socket.IO client, and all that it was told.
    pub(crate) fn connect(&mut self, tenant: &str, user: &str) -> (ConnKey, Vec<String>) {
        let conn = self.open(Wire::WebSocket, None);
        let token = self.token(tenant, user);
        self.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
        (conn, self.take(conn))
    }

    pub(crate) fn drop_all(&mut self) {
        self.inbox.clear();
    }
}

pub(crate) fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let start = json.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {json}")) + name.len() + 3;
    let rest = json[start..].trim_start_matches('"');
    &rest[..rest.find(['"', ',', '}', ']']).unwrap_or(rest.len())]
}

#[test]
fn a_room_gets_each_event_once_in_order() {
    let mut rig = Rig::new();
    let (a, b, c) = (rig.client("acme", "a"), rig.client("acme", "b"), rig.client("globex", "c"));
    for conn in [a, b, c] {
        rig.say(conn, "421[\"subscribe\",{\"rooms\":[\"project:7\"]}]");
    }
    rig.drop_all();
    for n in 1..=3 {
        rig.say(a, &format!("42{n}[\"publish\",{{\"room\":\"project:7\",\"type\":\"note\",\"data\":{{\"n\":{n}}}}}]"));
    }
    let (of_a, of_b) = (rig.take(a), rig.take(b));
    assert_eq!(of_b.len(), 3, "{of_b:?}");
    assert_eq!(of_a.len(), 6, "its own events and three acks: {of_a:?}");
    for (n, packet) in (1..).zip(&of_b) {
        assert!(packet.starts_with(&format!("42[\"note\",{{\"n\":{n}}},{{\"id\":\"")), "{packet}");
        assert_eq!(field(packet, "offset"), n.to_string());
        assert_eq!(field(packet, "user"), "a");
    }
    assert_eq!(rig.take(c), Vec::<String>::new(), "another tenant's room of the same name is another room");
}

#[test]
fn a_broken_client_comes_back_to_exactly_what_it_missed() {
    let mut rig = Rig::new();
    let a = rig.client("acme", "a");
    let b = rig.open(Wire::WebSocket, None);
    let token = rig.token("acme", "b");
    rig.say(b, &format!("40{{\"token\":\"{token}\"}}"));
    let hello = rig.take(b).remove(1);
    let (sid, pid) = (field(&hello, "sid").to_owned(), field(&hello, "pid").to_owned());
    rig.say(b, "421[\"subscribe\",{\"rooms\":[\"r\"]}]");
    rig.take(b);
    rig.input(Input::Hangup { conn: b, cause: Hangup::Failed });
    for n in 1..=3 {
        rig.say(a, &format!("42[\"publish\",{{\"room\":\"r\",\"type\":\"note\",\"data\":{n}}}]"));
    }
    rig.advance(Duration::from_secs(100));
    // It never received an event, so it has no offset to send.
    let b = rig.open(Wire::WebSocket, None);
    rig.say(b, &format!("40{{\"token\":\"bad\",\"pid\":\"{pid}\"}}"));
    let refused = rig.take(b);
    assert!(refused[1].starts_with("44{") && refused.len() == 2, "nothing before the token is accepted: {refused:?}");
    rig.say(b, &format!("40{{\"token\":\"{token}\",\"pid\":\"{pid}\"}}"));
    let back = rig.take(b);
    let data: Vec<&str> = back.iter().filter_map(|p| p.strip_prefix("42[\"note\",")).map(|p| &p[..1]).collect();
    assert_eq!(data, ["1", "2", "3"], "{back:?}");
    let connect = back.iter().position(|packet| packet.starts_with("40{")).unwrap();
    assert_eq!(connect, 3, "missed events come before CONNECT: {back:?}");
    assert_eq!((field(&back[connect], "sid"), field(&back[connect], "pid")), (&*sid, &*pid));
    assert!(back[connect + 1].contains("\"recovered\":true"), "{back:?}");
    // Again, with the offset of the second event.
    let offset = back[1].rsplit('"').nth(1).unwrap().to_owned();
    rig.input(Input::Hangup { conn: b, cause: Hangup::Failed });
    let b = rig.open(Wire::WebSocket, None);
    rig.say(b, &format!("40{{\"token\":\"{token}\",\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}"));
    let back = rig.take(b);
    assert!(back[1].starts_with("42[\"note\",3,") && back[2].starts_with("40{"), "{back:?}");
    // Too late.
    rig.input(Input::Hangup { conn: b, cause: Hangup::Failed });
    rig.advance(Duration::from_secs(121));
    let b = rig.open(Wire::WebSocket, None);
    rig.say(b, &format!("40{{\"token\":\"{token}\",\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}"));
    let back = rig.take(b);
    assert_ne!(field(&back[1], "sid"), sid);
    assert!(back[2].contains("\"recovered\":false"), "{back:?}");
}

#[test]
fn long_polling_and_its_upgrade() {
    let mut rig = Rig::new();
    let from = |conn| ReplyTo { shard: ShardId(0), conn };
    let open = rig.open(Wire::Polling, None);
    let (_, status, body) = rig.responses.remove(0);
    assert_eq!(status, 200);
    let sid = Sid::parse(field(&body, "sid")).unwrap();
    let token = rig.token("acme", "a");
    rig.input(Input::Post {
        from: from(open),
        sid,
        body: &format!("40{{\"token\":\"{token}\"}}\x1e421[\"presence\",{{\"room\":\"user:a\"}}]"),
    });
    assert_eq!(rig.responses.remove(0).2, "ok");
    rig.input(Input::Poll { from: from(open), sid });
    let (_, _, body) = rig.responses.remove(0);
    let packets: Vec<&str> = body.split('\x1e').collect();
    assert!(packets.len() == 3 && packets[0].starts_with("40{") && packets[2].starts_with("431["), "{packets:?}");
    rig.input(Input::Poll { from: from(open), sid });
    assert!(rig.responses.is_empty(), "nothing to answer yet");
    let probe = rig.open(Wire::Probe(sid), None);
    rig.say(probe, "2probe");
    assert_eq!(rig.responses.remove(0).2, "6");
    assert_eq!(rig.take(probe), ["3probe"]);
    rig.say(probe, "5");
    rig.say(probe, "422[\"status\",{\"status\":\"away\"}]");
    assert_eq!(rig.take(probe), ["432[{\"ok\":true}]"]);
    rig.advance(TOLD);
    assert!(rig.take(probe)[0].starts_with("42[\"user:status\""));
    rig.input(Input::Poll { from: from(open), sid });
    assert_eq!(rig.responses.remove(0).1, 400, "polling is over");
    rig.advance(Duration::from_secs(25));
    assert_eq!(rig.take(probe), ["2"]);
    rig.say(probe, "3");
    rig.advance(Duration::from_secs(26));
    assert_eq!(rig.take(probe), ["2"]);
    rig.advance(Duration::from_secs(20));
    assert_eq!(rig.closed, [(probe, 1001)]);
    assert_eq!(rig.shard.sessions.len(), 0);
}

/// The client that was told `3probe` may have changed over to the WebSocket, or go on polling: it hears the last words either way.
#[test]
fn drained_while_upgrading() {
    for upgrades in [true, false] {
        let mut rig = Rig::new();
        let from = |conn| ReplyTo { shard: ShardId(0), conn };
        let open = rig.open(Wire::Polling, None);
        let sid = Sid::parse(field(&rig.responses.remove(0).2, "sid")).unwrap();
        let token = rig.token("acme", "a");
        rig.input(Input::Post { from: from(open), sid, body: &format!("40{{\"token\":\"{token}\"}}") });
        rig.input(Input::Poll { from: from(open), sid });
        rig.responses.clear();
        let probe = rig.open(Wire::Probe(sid), None);
        rig.say(probe, "2probe");
        assert_eq!(rig.take(probe), ["3probe"]);
        rig.input(Input::Drain { spread: Duration::from_secs(5) });
        assert!(rig.closed.is_empty() && !rig.shard.is_empty(), "it has not been told");
        let told = if upgrades {
            rig.say(probe, "5");
            rig.take(probe)
        } else {
            rig.input(Input::Poll { from: from(open), sid });
            let packets = rig.responses.remove(0).2;
            rig.input(Input::Poll { from: from(open), sid });
            assert_eq!(rig.responses.remove(0).2, "1");
            packets.split('\x1e').map(String::from).collect()
        };
        assert!(told[0].starts_with("42[\"server:draining\""), "{told:?}");
        assert!(told[1].contains("server_draining"), "{told:?}");
        assert_eq!(rig.closed, [(probe, 4503)]);
        assert!(rig.shard.is_empty());
    }
}

/// When each of them is told that it will be closed, and when it is.
#[test]
fn a_drain_lets_its_sessions_go_one_after_the_other() {
    const COUNT: u64 = 20;
    let spread = Duration::from_secs(4);
    let mut rig = Rig::new();
    let conns: Vec<ConnKey> = (0..COUNT).map(|n| rig.client("acme", &format!("user-{n}"))).collect();
    rig.drop_all();
    let began = rig.now.at;
    rig.input(Input::Drain { spread });
    let told: Vec<u64> = conns
        .iter()
        .map(|conn| {
            let packets = rig.take(*conn);
            assert!(packets[0].starts_with("42[\"server:draining\""), "{packets:?}");
            field(&packets[0], "reconnectAfterMs").parse().unwrap()
        })
        .collect();
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..COUNT).map(|nth| nth * 200).collect::<Vec<_>>(), "evenly");
    assert_ne!(sorted, told, "in an order of chance");
    let late = rig.open(Wire::WebSocket, None);
    assert_eq!(rig.responses.pop().map(|(conn, status, _)| (conn, status)), Some((late, 503)), "nobody new");
    let mut gone = vec![None; conns.len()];
    while rig.now.at.since(began) <= spread {
        for (conn, number) in std::mem::take(&mut rig.closed) {
            let nth = conns.iter().position(|known| *known == conn).unwrap();
            assert_eq!((number, gone[nth]), (4503, None));
            gone[nth] = Some(rig.now.at.since(began).as_millis() as u64);
        }
        rig.advance(Duration::from_millis(10));
    }
    for (told, gone) in told.into_iter().zip(gone) {
        let gone = gone.expect("everybody is closed");
        assert!(gone >= told && gone <= told + 30, "closed {gone} ms after the beginning, told {told}");
    }
    assert!(rig.shard.is_empty());
}

#[test]
fn everything_is_given_back() {
    let mut rig = Rig::new();
    for round in 0..3 {
        let conns: Vec<_> = (0..20).map(|n| rig.client(["acme", "globex"][n % 2], &format!("u{}", n % 7))).collect();
        for conn in &conns {
            rig.say(*conn, "421[\"subscribe\",{\"rooms\":[\"r\",\"s\"],\"eventTypes\":[\"note\"]}]");
            rig.say(*conn, "422[\"typing:start\",{\"room\":\"r\"}]");
            rig.say(*conn, "423[\"publish\",{\"room\":\"s\",\"type\":\"note\",\"data\":1,\"id\":\"x\"}]");
        }
        for (n, conn) in conns.into_iter().enumerate() {
            match n % 3 {
                0 => rig.say(conn, "1"),
                1 => rig.say(conn, "41"),
                _ => rig.input(Input::Hangup { conn, cause: Hangup::Closed }),
            }
        }
        rig.drop_all();
        assert!(round < 3);
    }
    rig.advance(Duration::from_secs(4000));
    let shard = &rig.shard;
    assert_eq!(
        (shard.sessions.len(), shard.sockets.len(), shard.rooms.len(), shard.tenants.len(), shard.typing.len()),
        (0, 0, 0, 0, 0)
    );
    assert_eq!((shard.sids.len(), shard.tenant_keys.len(), shard.timers.len() + shard.looks.len()), (0, 0, 0));
    assert_eq!(shard.counts.get(Count::Sessions), 0);
}

/// A request that comes back from another shard after its connection is gone does not take the place of whoever has its slot now.
#[test]
fn a_late_poll_does_not_hide_another_connection() {
    let mut rig = Rig::with(|settings| settings.shards = 2);
    let before = ConnKey::new(0, 0);
    let open = Open {
        from: ReplyTo { shard: ShardId(0), conn: ConnKey::new(0, 1) },
        wire: Wire::WebSocket,
        token: None,
        address: std::net::IpAddr::from([127, 0, 0, 1]),
        admission: None,
        hops: 0,
        crowded: false,
        rooms: Vec::new(),
        last_event_id: None,
    };
    let conn = open.from.conn;
    rig.input(Input::Open(Box::new(open)));
    rig.take(conn);
    let sid = Sid::new(NodeId(0), ShardId(1), &mut Chance::new([7; 32]));
    rig.input(Input::Parcel(Parcel::Poll { from: ReplyTo { shard: ShardId(0), conn: before }, sid }));
    assert_eq!(rig.responses.remove(0).1, 400, "nobody of that name is here");
    rig.say(conn, "4nonsense");
    assert_eq!(rig.closed, [(conn, 4400)], "it is still heard");
}

#[test]
fn a_token_ends_and_is_renewed() {
    let mut rig = Rig::new();
    let conn = rig.open(Wire::WebSocket, Some(rig.token_for("acme", "a", 100)));
    rig.say(conn, "40");
    rig.take(conn);
    rig.advance(Duration::from_secs(39));
    rig.take(conn);
    rig.advance(Duration::from_secs(2));
    assert!(rig.take(conn).iter().any(|packet| packet.starts_with("42[\"session:expiring\"")));
    let fresh = rig.token_for("acme", "a", 200);
    rig.say(conn, &format!("421[\"authenticate\",\"{fresh}\"]"));
    assert!(rig.take(conn)[0].starts_with("431[{\"ok\":true,\"expiresAt\":\"2023-"));
    let other = rig.token_for("acme", "b", 200);
    rig.say(conn, &format!("421[\"authenticate\",\"{other}\"]"));
    assert!(rig.take(conn)[0].contains("\"code\":\"forbidden\""));
    for _ in 0..20 {
        rig.say(conn, "3");
        rig.advance(Duration::from_secs(10));
    }
    let packets = rig.take(conn);
    assert!(packets.iter().any(|packet| packet.starts_with("42[\"error\",{\"code\":\"token_expired\"")), "{packets:?}");
    assert_eq!(rig.closed, [(conn, 4401)]);
}

#[test]
fn a_backend_publishes_and_asks() {
    let mut rig = Rig::new();
    let a = rig.client("acme", "a");
    let call = |rig: &mut Rig, call: Call| {
        let from = ReplyTo { shard: ShardId(0), conn: ConnKey::new(999, 0) };
        rig.input(Input::Call { from, tenant: TenantId::parse("acme").unwrap(), call: Box::new(call) });
        rig.responses.pop().unwrap()
    };
    let event = Publish { event: "paid".into(), data: "{\"n\":1}".into(), id: Some("x".into()), ..Publish::default() };
    let (_, status, body) = call(&mut rig, Call::Publish(vec![event.clone(), event.clone()]));
    assert_eq!(status, 202);
    assert_eq!(body.matches("\"offset\":1}").count(), 2, "a retry is the same event: {body}");
    let packets = rig.take(a);
    assert_eq!(packets.len(), 1, "{packets:?}");
    assert!(
        packets[0].starts_with("42[\"paid\",{\"n\":1},{\"id\":\"x\",\"type\":\"paid\",\"room\":\"tenant:acme\""),
        "{packets:?}"
    );
    let (_, _, body) = call(&mut rig, Call::History { room: "tenant:acme".into(), since: None, limit: 10 });
    assert!(
        body.starts_with("{\"events\":[{\"id\":\"x\"") && body.ends_with("\"offset\":1,\"complete\":true}"),
        "{body}"
    );
    let (_, _, body) = call(&mut rig, Call::User { user: "a".into() });
    assert!(body.contains("\"status\":\"online\"") && body.contains("\"connections\":1,"), "{body}");
    let (_, _, body) = call(&mut rig, Call::Kick { user: "a".into() });
    assert_eq!(body, "{\"closed\":1}");
    assert_eq!(rig.closed, [(a, 4410)]);
    assert_eq!(rig.take(a).last().map(String::as_str), Some("41"));
}

/// A handler may end its own socket, go on using it, and be called again for its end.
#[test]
fn a_handler_may_end_its_socket() {
    let app = App::new().namespace("/", |namespace| {
        namespace
            .on("leave", |socket, _| {
                socket.disconnect();
                socket.disconnect();
                socket.emit("bye", "1");
                assert!(socket.join("later").is_ok() && !socket.identity().user.is_empty());
                socket.ack("2");
            })
            .on("quit", |socket, _| socket.close(crate::wire::close::Close::Kicked))
            .on_disconnect(|socket| {
                socket.emit("last", "");
                socket.disconnect();
            });
    });
    let mut rig = Rig::of(app, |_| {});
    for (event, want) in [
        ("leave", &["42[\"bye\",1]", "431[2]", "41", "42[\"last\"]"][..]),
        ("quit", &["42[\"error\",", "41", "42[\"last\"]"][..]),
    ] {
        let conn = rig.open(Wire::WebSocket, Some(rig.token("acme", "a")));
        rig.say(conn, "40");
        rig.take(conn);
        rig.say(conn, &format!("421[\"{event}\"]"));
        let packets = rig.take(conn);
        assert!(
            packets.iter().zip(want).all(|(packet, want)| packet.starts_with(want)) && packets.len() == want.len(),
            "{packets:?}"
        );
        assert!(rig.shard.sockets.is_empty());
    }
    assert_eq!(rig.closed.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [4410]);
}

/// `/ws` and `/events` have no place for attachments: they get the arguments alone.
#[test]
fn attachments_are_of_socket_io_alone() {
    let app = App::new().namespace("/", |namespace| {
        namespace.on("ask", |socket, _| {
            socket.emit_binary("told", "1", &[vec![b'!']]);
            socket.ack_binary("2", &[vec![b'!']]);
        });
    });
    let mut rig = Rig::of(app, |_| {});
    for (wire, ask, want) in [
        (Wire::WebSocket, "427[\"ask\"]", &["451-[\"told\",1]", "!", "461-7[2]", "!"][..]),
        (
            Wire::Plain,
            "{\"event\":\"ask\",\"id\":7}",
            &["{\"event\":\"told\",\"data\":1}", "{\"ack\":7,\"data\":2}"][..],
        ),
    ] {
        let conn = rig.open(wire, Some(rig.token("acme", "a")));
        if wire == Wire::WebSocket {
            rig.say(conn, "40");
        }
        rig.take(conn);
        rig.say(conn, ask);
        assert_eq!(rig.take(conn), want, "{wire:?}");
    }
}

/// Nobody is known before CONNECT, and nothing is kept for nobody.
#[test]
fn attachments_need_a_namespace() {
    let mut rig = Rig::new();
    let conn = rig.open(Wire::WebSocket, None);
    rig.say(conn, "451-[\"x\",{\"_placeholder\":true,\"num\":0}]");
    assert_eq!(rig.closed, [(conn, 4400)]);
}
