//! What emitters, servers of other makes and plain channels say, at a node's shard.

use crate::backplane::memory::Memory;
use crate::base::{
    id::{ConnKey, Sid, TenantId},
    time::Duration,
};
use crate::profile::{Profile, channel::To};
use crate::shard::{
    fleet::FleetSettings,
    foreign::{Answer, Foreign, Publish, Share, Whom, as_sent},
    io::{Input, Wire},
    profile_app,
    relay::{Relay, Report, Ticket},
    tests::Rig,
};
use crate::wire::{
    adapter::Payload,
    envelope::{Layer, Origin, Place, Post},
};
use std::borrow::Cow;

struct Node {
    rig: Rig,
    store: Memory,
    answers: Vec<Answer>,
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn node(profile: &str) -> Node {
    let fleet =
        FleetSettings { origin: Origin(1), lease: Duration::from_secs(300), names_rooms: true, reads_rows: false };
    let app = profile_app(Profile::parse(profile).expect("a right profile"), ["/", "/chat"]);
    Node {
        rig: Rig::of(app, |settings| settings.fleet = Some(fleet)),
        store: Memory::new([5; 32]),
        answers: Vec::new(),
    }
}

const OPEN: &str = "name = \"open\"\nabout = \"All.\"\n";

impl Node {
    fn settle(&mut self) {
        loop {
            let mut heard = Vec::new();
            for relay in std::mem::take(&mut self.rig.relays) {
                match relay {
                    Relay::Answer { answer, .. } => self.answers.push(*answer),
                    relay => self.store.ask(self.rig.now, 0, relay, &mut heard),
                }
            }
            if heard.is_empty() {
                return;
            }
            for (_, report) in heard {
                self.rig.input(Input::Report(report));
            }
        }
    }

    /// A socket of `namespace` in `rooms`, and its id; what it was told until then is taken.
    fn client(&mut self, of: &str, user: &str, namespace: &str, rooms: &[&str]) -> (ConnKey, String) {
        let conn = self.rig.open(Wire::WebSocket, None);
        let token = self.rig.token(of, user);
        self.rig.say(conn, &format!("40{namespace}{{\"token\":\"{token}\"}}"));
        self.settle();
        let packets = self.rig.take(conn);
        let sid =
            packets.iter().find_map(|packet| packet.split("\"sid\":\"").nth(1).filter(|_| packet.starts_with("40")));
        let sid = sid.expect("it is told its id")[..20].to_owned();
        self.foreign(Foreign::Join { to: by_id(namespace.trim_end_matches(','), &sid), rooms: rooms_of(of, rooms) });
        self.rig.take(conn);
        (conn, sid)
    }

    fn plain(&mut self, of: &str, user: &str) -> ConnKey {
        let token = self.rig.token(of, user);
        let conn = self.rig.open(Wire::Plain, Some(token));
        self.settle();
        self.rig.take(conn);
        conn
    }

    fn foreign(&mut self, foreign: Foreign) {
        self.rig.input(Input::Report(Report::Foreign(Box::new(foreign))));
        self.settle();
    }

    fn event(&mut self, to: Whom, args: &'static str) {
        let args = Payload::json(args);
        self.foreign(Foreign::Event { to, event: "note".into(), args, volatile: false, ask: None, row: None });
    }

    /// What came under this name, without the rest.
    fn notes(&mut self, conn: ConnKey) -> Vec<String> {
        self.rig
            .take(conn)
            .into_iter()
            .filter(|packet| packet.contains("\"note\"") || packet.starts_with("bin"))
            .collect()
    }
}

fn rooms_of(of: &str, rooms: &[&str]) -> Vec<(TenantId, Box<str>)> {
    rooms.iter().map(|room| (tenant(of), Box::from(*room))).collect()
}

fn by_id(namespace: &str, sid: &str) -> Whom {
    let namespace = if namespace.is_empty() { "/" } else { namespace };
    Whom { namespace: namespace.into(), sockets: Sid::parse(sid).into_iter().collect(), ..Whom::default() }
}

fn to(namespace: &str, parts: &[(&str, &[&str], &[&str])]) -> Whom {
    let own = |list: &[&str]| list.iter().map(|name| Box::from(*name)).collect();
    let share = |(of, rooms, except): &(&str, &[&str], &[&str])| {
        (tenant(of), Share { rooms: own(rooms), all: rooms.is_empty(), except: own(except) })
    };
    Whom { namespace: namespace.into(), tenants: parts.iter().map(share).collect(), ..Whom::default() }
}

#[test]
fn an_event_reaches_whom_it_names_once_and_nobody_else() {
    let mut node = node(OPEN);
    let (ana, ana_id) = node.client("acme", "ana", "", &["r", "s"]);
    let (bob, _) = node.client("acme", "bob", "", &["r", "quiet"]);
    let (chat, _) = node.client("acme", "cat", "/chat,", &["r"]);
    let (eve, _) = node.client("beta", "eve", "", &["r", "quiet"]);
    let mut check = |whom: Whom, want: [usize; 4]| {
        let shown = format!("{whom:?}");
        node.event(whom, "1");
        let got = [ana, bob, chat, eve].map(|conn| node.notes(conn).len());
        assert_eq!(got, want, "{shown}");
    };
    check(to("/", &[("acme", &["r"], &[])]), [1, 1, 0, 0]);
    check(to("/", &[("acme", &["r", "s"], &[])]), [1, 1, 0, 0]);
    check(to("/chat", &[("acme", &["r"], &[])]), [0, 0, 1, 0]);
    check(to("/other", &[("acme", &["r"], &[])]), [0, 0, 0, 0]);
    check(to("/", &[("acme", &["r"], &["quiet"]), ("beta", &["r"], &[])]), [1, 0, 0, 1]);
    check(to("/", &[("acme", &["r"], &[&ana_id])]), [0, 1, 0, 0]);
    check(to("/", &[("acme", &[&ana_id], &[])]), [1, 0, 0, 0]);
    check(to("/", &[("beta", &[&ana_id], &[])]), [0, 0, 0, 0]);
    check(to("/", &[("acme", &[], &[])]), [1, 1, 0, 0]);
    check(to("/", &[("gone", &["r"], &[])]), [0, 0, 0, 0]);
    check(by_id("/", &ana_id), [1, 0, 0, 0]);
    check(by_id("/chat", &ana_id), [0, 0, 0, 0]);
    let except = Sid::parse(&ana_id).into_iter().collect();
    check(Whom { except, ..to("/", &[("acme", &["r"], &[])]) }, [0, 1, 0, 0]);
}

#[test]
fn every_form_of_an_event() {
    let mut node = node(OPEN);
    let (ana, _) = node.client("acme", "ana", "", &[]);
    let plain = node.plain("acme", "pat");
    let everyone = || to("/", &[("acme", &["tenant:acme"], &[])]);
    for (args, socket, other) in [
        ("", "42[\"note\"]", "{\"event\":\"note\",\"data\":null}"),
        ("{\"a\":1}", "42[\"note\",{\"a\":1}]", "{\"event\":\"note\",\"data\":{\"a\":1}}"),
        ("1,[2]", "42[\"note\",1,[2]]", "{\"event\":\"note\",\"data\":[1,[2]]}"),
    ] {
        node.event(everyone(), args);
        assert_eq!((node.notes(ana), node.notes(plain)), (vec![socket.to_owned()], vec![other.to_owned()]));
    }
    // Where it ends in a text, the place it was sent at is behind it, or the official client would take the text for one.
    node.event(everyone(), "\"x\"");
    assert!(node.notes(ana)[0].starts_with("42[\"note\",\"x\",\""));
    assert_eq!(node.notes(plain), ["{\"event\":\"note\",\"data\":\"x\"}"]);
    let args = Payload { json: Cow::Borrowed("{\"_placeholder\":true,\"num\":0}"), attachments: vec![b"bin".to_vec()] };
    let event = |ask| Foreign::Event {
        to: everyone(),
        event: "note".into(),
        args: args.clone(),
        volatile: true,
        ask,
        row: None,
    };
    node.foreign(event(None));
    assert_eq!(node.notes(ana), ["451-[\"note\",{\"_placeholder\":true,\"num\":0}]", "bin"]);
    assert_eq!(node.notes(plain), ["{\"event\":\"note\",\"data\":{\"_placeholder\":true,\"num\":0}}"]);
    node.foreign(event(Some(Ticket(7))));
    assert!(matches!(node.answers[..], [Answer::Count(2)]));
    let packet = node.notes(ana).remove(0);
    assert!(packet.starts_with("451-0[\"note\""), "{packet}");
    node.rig.say(ana, "430[{\"got\":1}]");
    node.settle();
    assert!(matches!(&node.answers[1..], [Answer::Ack(payload)] if payload.json == "{\"got\":1}"));
}

#[test]
fn sockets_join_leave_and_go_and_are_listed() {
    let mut node = node(OPEN);
    let (ana, ana_id) = node.client("acme", "ana", "", &[]);
    let (eve, _) = node.client("beta", "eve", "", &[]);
    let both = || to("/", &[("acme", &["tenant:acme"], &[]), ("beta", &["tenant:beta"], &[])]);
    node.foreign(Foreign::Join { to: both(), rooms: rooms_of("acme", &["r"]) });
    node.event(to("/", &[("acme", &["r"], &[]), ("beta", &["r"], &[])]), "1");
    assert_eq!((node.notes(ana).len(), node.notes(eve).len()), (1, 0), "a room of one tenant is nobody else's");
    node.foreign(Foreign::Fetch { to: to("/", &[("acme", &["r"], &[])]), ticket: Ticket(1) });
    let Some(Answer::Sockets(sockets)) = node.answers.pop() else { panic!("it is answered") };
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].rooms, [&*ana_id, "acme/tenant:acme", "acme/user:ana", "acme/r"]);
    assert_eq!(sockets[0].data.json, "{\"tenant\":\"acme\",\"user\":\"ana\"}");
    node.foreign(Foreign::Rooms { namespace: "/".into(), ticket: Ticket(2) });
    let Some(Answer::Rooms(mut rooms)) = node.answers.pop() else { panic!("it is answered") };
    rooms.sort();
    let rooms: Vec<&str> = rooms.iter().map(|room| &**room).collect();
    assert_eq!(rooms, ["acme/r", "acme/tenant:acme", "acme/user:ana", "beta/tenant:beta", "beta/user:eve"]);
    // A room of its own is not left.
    node.foreign(Foreign::Leave { to: both(), rooms: rooms_of("acme", &["r", "tenant:acme"]) });
    node.event(to("/", &[("acme", &["r"], &[])]), "1");
    node.event(to("/", &[("acme", &["tenant:acme"], &[])]), "2");
    assert_eq!(node.notes(ana), ["42[\"note\",2]"]);
    node.foreign(Foreign::Disconnect { to: to("/", &[("acme", &["user:ana"], &[])]), close: false });
    assert_eq!(node.rig.take(ana).last().map(String::as_str), Some("41"));
    node.foreign(Foreign::Disconnect { to: to("/", &[("beta", &["user:eve"], &[])]), close: true });
    assert_eq!(node.rig.closed, [(eve, 4410)]);
}

#[test]
fn the_catalogue_says_who_receives_and_what() {
    let profile = "name = \"p\"\nabout = \"P.\"\nunknown_events = \"refuse\"\n\
        [events.note]\nreceive_roles = [\"admin\"]\n[events.open]\nschema = { type = \"object\" }\n";
    let mut node = node(profile);
    let (ana, _) = node.client("acme", "ana", "", &[]);
    let mut check = |name: &str, args: &'static str| {
        let to = to("/", &[("acme", &["tenant:acme"], &[])]);
        node.foreign(Foreign::Event {
            to,
            event: name.into(),
            args: Payload::json(args),
            volatile: false,
            ask: None,
            row: None,
        });
        node.rig.take(ana).len()
    };
    assert_eq!(check("note", "1"), 0, "it is for admins");
    assert_eq!(check("other", "1"), 0, "nobody knows it");
    assert_eq!(check("open", "1"), 0, "its data is wrong");
    assert_eq!(check("open", "{}"), 1);
}

#[test]
fn what_a_channel_carries_is_published_once_whichever_node_has_it() {
    let mut node = node(OPEN);
    let (ana, _) = node.client("acme", "ana", "", &["r"]);
    let publish = |id: &str, is_first| {
        let (kind, data) = ("note".into(), "1".into());
        Foreign::Publish(Box::new(Publish {
            tenant: tenant("acme"),
            to: To::Room("r".into()),
            kind,
            data,
            id: id.into(),
            is_first,
        }))
    };
    for (id, is_first) in [("a", true), ("a", false), ("b", false), ("b", true)] {
        node.foreign(publish(id, is_first));
    }
    let notes = node.notes(ana);
    assert_eq!(notes.len(), 2);
    assert!(notes[0].contains("\"id\":\"a\"") && notes[0].contains("\"offset\":1"), "{notes:?}");
    assert!(notes[1].contains("\"id\":\"b\"") && notes[1].contains("\"offset\":2"), "{notes:?}");
    // Where nobody of a tenant is, nothing is left of it.
    let elsewhere = Publish {
        tenant: tenant("gone"),
        to: To::User("u".into()),
        kind: "note".into(),
        data: "1".into(),
        id: "c".into(),
        is_first: true,
    };
    node.foreign(Foreign::Publish(Box::new(elsewhere)));
    assert_eq!(node.rig.shard.counts().get(crate::shard::count::Count::Tenants), 1);
}

#[test]
fn rooms_are_named_while_they_are_here() {
    let mut node = node(OPEN);
    let conn = node.rig.open(Wire::WebSocket, None);
    let token = node.rig.token("acme", "ana");
    node.rig.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
    let mut named = Vec::new();
    for _ in 0..8 {
        let mut heard = Vec::new();
        for relay in std::mem::take(&mut node.rig.relays) {
            if let Relay::Room { room, is_here, .. } = &relay {
                named.push(format!("{room} {is_here}"));
            }
            node.store.ask(node.rig.now, 0, relay, &mut heard);
        }
        heard.into_iter().for_each(|(_, report)| node.rig.input(Input::Report(report)));
    }
    assert_eq!(named, ["tenant:acme true", "user:ana true"]);
}

#[test]
fn ours_go_out_as_our_clients_get_them() {
    let post = Post { id: "i", event: "e", room: "r", data: "{\"a\":1}", ..Post::default() };
    let place = Place { epoch: 0, sequence: 9, room_epoch: 36, offset: 2 };
    let meta = "{\"id\":\"i\",\"type\":\"e\",\"room\":\"r\",\"time\":\"1970-01-01T00:00:00.000Z\",\"epoch\":\"10\",\"offset\":2}";
    let sent = |delivery: &str, post: &Post<'_>, place| {
        let profile =
            Profile::parse(&format!("{OPEN}[connection]\ndelivery = \"{delivery}\"\n")).expect("a right profile");
        as_sent(&profile, post, place).map(|(event, args)| format!("{event} {args}"))
    };
    assert_eq!(sent("named", &post, Some(&place)), Some(format!("e {{\"a\":1}},{meta}")));
    assert_eq!(sent("named", &post, None), Some("e {\"a\":1}".into()));
    assert_eq!(sent("message", &post, None), Some("message {\"type\":\"e\",\"data\":{\"a\":1}}".into()));
    assert!(sent("event", &post, Some(&place)).is_some_and(|sent| sent.starts_with("event {\"id\":\"i\"")));
    let narrow = Post { audience: vec![Layer::default()], ..post };
    assert_eq!(sent("named", &narrow, None), None);
}
