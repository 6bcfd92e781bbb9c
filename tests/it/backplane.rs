//! The backplane's guarantees (`shard::relay`), asked of a store in memory, of a Redis and of a Cluster; then what only a real one can suffer.

use crate::address;
use crate::document;
use crate::fleet::{Fleet, InMemory, OverRedis, append, at, body, room_epoch, said, tenant};
use crate::neighbour;
use crate::redis::Redis;
use tenantcast::backplane::Servers;
use tenantcast::base::chance::Chance;
use tenantcast::base::id::{NodeId, ShardId, Sid};
use tenantcast::base::time::Duration;
use tenantcast::shard::receipt::Told;
use tenantcast::shard::relay::queue::{Act, Answer, Track, Wait, Waiting};
use tenantcast::shard::relay::{self, Append, Place, Relay, Report, Ticket};

type Case = (&'static str, fn(&mut dyn Fleet));

/// Every guarantee, on a tenant of its own.
const CASES: &[Case] = &[
    ("order", order),
    ("known ids", known_ids),
    ("told", told),
    ("reading", reading),
    ("expiry", expiry),
    ("sockets", sockets),
    ("tenants apart", tenants_apart),
    ("closed and opened", closed_and_opened),
    ("addresses", address::counts),
    ("neighbours", neighbour::requests),
    ("documents", document::writes),
    ("documents that end", document::ends),
    ("loss", loss),
    ("waiting", waiting),
    ("waiting, bounds", waiting_bounds),
    ("waiting, kept again", kept_again),
    ("waiting, another epoch", waiting_epochs),
    ("receipts", receipts),
    ("presence", crate::roster::presence),
    ("leases", crate::roster::leases),
    ("presence lost", crate::roster::presence_lost),
];

/// Nodes that start anew over one store, for each case.
pub fn check<'a>(mut fleet: impl FnMut() -> Box<dyn Fleet + 'a>) {
    for (name, case) in CASES {
        println!("{name}");
        case(&mut *fleet());
    }
}

fn order(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "order");
    assert_eq!(fleet.open(1, "order"), place, "one epoch for everybody");
    assert_eq!(place.sequence, 0);
    for n in 0..30 {
        fleet.append(0, "order", n, append(["a", "b", "c"][n as usize % 3], &format!("event {n}")));
    }
    let mut answers = Vec::new();
    let mut heard = [Vec::new(), Vec::new()];
    while answers.len() + heard[0].len() < 60 {
        match fleet.hear(0) {
            Report::Appended { ticket, result } => answers.push((ticket.0, result.unwrap())),
            Report::Envelope { frame, .. } => heard[0].push(said(&frame)),
            other => panic!("{other:?}"),
        }
    }
    while heard[1].len() < 30 {
        heard[1].push(fleet.envelope(1));
    }
    for (n, (ticket, appended)) in answers.into_iter().enumerate() {
        let n = n as u64;
        let expected = (place.epoch.0, n + 1, place.epoch.0, n / 3 + 1);
        assert_eq!((ticket, appended.known), (n, false));
        assert_eq!((appended.sequence, appended.room_epoch.0, appended.offset), (expected.1, expected.2, expected.3));
        for heard in &heard {
            assert_eq!((&*heard[n as usize].text, heard[n as usize].place), (&*format!("event {n}"), Some(expected)));
        }
    }
}

fn known_ids(fleet: &mut dyn Fleet) {
    fleet.open(0, "ids");
    fleet.open(1, "ids");
    let named = |text: &str, id: &str| Append { id: Some(id.into()), ..append("a", text) };
    fleet.append(0, "ids", 1, named("first", "x"));
    let (first, _) = fleet.appended(0);
    assert_eq!(fleet.envelope(1).text, "first");
    for node in [0, 1] {
        fleet.append(node, "ids", 2, named("again", "x"));
        let again = fleet.answer(node).unwrap();
        assert_eq!((again.sequence, again.offset, again.known), (first.sequence, first.offset, true));
    }
    fleet.append(1, "ids", 3, named("other", "y"));
    let (other, frame) = fleet.appended(1);
    assert_eq!((other.sequence, other.offset, other.known, &*frame.text), (2, 2, false, "other"));
    assert_eq!(fleet.envelope(0).text, "other", "nobody heard the repetition");
    // A receipt has its time.
    let short = || Append { id_ttl: Duration::from_millis(30), ..named("short", "z") };
    fleet.append(0, "ids", 4, short());
    fleet.appended(0);
    fleet.until("the receipt expires", &mut |fleet| {
        fleet.append(0, "ids", 5, short());
        let known = fleet.answer_or_both(0);
        !known
    });
}

fn told(fleet: &mut dyn Fleet) {
    fleet.open(0, "told");
    fleet.open(1, "told");
    fleet.append(0, "told", 1, append("a", "one"));
    fleet.ask(0, Relay::Tell { tenant: tenant("told"), body: body(1, "two"), in_row: false });
    fleet.append(0, "told", 2, append("a", "three"));
    let heard: Vec<_> = (0..3).map(|_| fleet.envelope(1)).collect();
    let texts: Vec<(&str, bool)> = heard.iter().map(|said| (&*said.text, said.place.is_some())).collect();
    assert_eq!(texts, [("one", true), ("two", false), ("three", true)]);
    let mut own = Vec::new();
    let mut answers = 0;
    while own.len() < 2 || answers < 2 {
        match fleet.hear(0) {
            Report::Envelope { frame, .. } => own.push(said(&frame).text),
            Report::Appended { .. } => answers += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(own, ["one", "three"], "a node does not hear its own words");
}

fn reading(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "reading");
    for n in 1..=6 {
        let room = if n % 2 == 1 { "odd" } else { "even" };
        fleet.append(0, "reading", n, Append { keep: 2, ..append(room, &n.to_string()) });
        fleet.appended(0);
    }
    let rooms =
        [("odd", Some(0)), ("even", Some(4)), ("even", Some(6)), ("even", None), ("never", Some(0)), ("nor", None)];
    let reading = fleet.read(0, "reading", &rooms).unwrap();
    assert_eq!(reading.place, Place { sequence: 6, ..place });
    let shown: Vec<_> = reading
        .rooms
        .iter()
        .map(|room| {
            assert_eq!(room.epoch, place.epoch);
            let entries: Vec<(u64, u64, String)> = room
                .entries
                .iter()
                .map(|entry| (entry.sequence, entry.offset, String::from_utf8(entry.body[17..].to_vec()).unwrap()))
                .collect();
            (room.sequence, room.offset, entries)
        })
        .collect();
    let entry = |sequence: u64, offset| (sequence, offset, sequence.to_string());
    assert_eq!(
        shown,
        [
            (5, 3, vec![entry(3, 2), entry(5, 3)]),
            (6, 3, vec![entry(6, 3)]),
            (6, 3, vec![]),
            (6, 3, vec![]),
            (0, 0, vec![]),
            (0, 0, vec![]),
        ],
        "two are kept, oldest first"
    );
    // A room that keeps nothing still has its head.
    fleet.append(0, "reading", 7, Append { keep: 0, ..append("odd", "7") });
    fleet.appended(0);
    let reading = fleet.read(0, "reading", &[("odd", None)]).unwrap();
    assert_eq!((reading.rooms[0].sequence, reading.rooms[0].offset), (7, 4));
    assert_eq!(fleet.read(0, "reading", &[]).unwrap().place.sequence, 7);
}

fn expiry(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "expiry");
    fleet.append(0, "expiry", 1, append("long", "1"));
    fleet.appended(0);
    fleet.append(0, "expiry", 2, Append { linger: Duration::from_millis(30), ..append("short", "2") });
    fleet.appended(0);
    fleet.until("the room expires", &mut |fleet| {
        fleet.read(0, "expiry", &[("short", None)]).unwrap().rooms[0].offset == 0
    });
    let gone = fleet.read(0, "expiry", &[("short", Some(0)), ("never", None)]).unwrap();
    let life = (gone.rooms[0].epoch, gone.rooms[0].sequence, gone.rooms[0].entries.len());
    assert_eq!(life, (room_epoch(place, 2), 2, 0), "another life, and what may be lost of the one before");
    assert_eq!(gone.rooms[1].epoch, room_epoch(place, 0));
    fleet.append(0, "expiry", 3, append("short", "3"));
    let (appended, _) = fleet.appended(0);
    assert_eq!(
        (appended.sequence, appended.offset, appended.room_epoch),
        (3, 1, room_epoch(place, 2)),
        "the one that was said"
    );
    let head = fleet.read(0, "expiry", &[("short", Some(0))]).unwrap();
    assert_eq!((head.rooms[0].epoch, head.rooms[0].offset), (room_epoch(place, 2), 1));
}

fn sockets(fleet: &mut dyn Fleet) {
    let mut chance = Chance::new([3; 32]);
    let mut pid = || Sid::new(NodeId(1), ShardId(2), &mut chance);
    let (a, b, c) = (pid(), pid(), pid());
    let long = Duration::from_secs(60);
    let kept = |generation: u32, text: &str| [&generation.to_be_bytes()[..], text.as_bytes()].concat();
    let save = |pid, text: &str, ttl| {
        let body = kept(0, text).into();
        Relay::Save { tenant: tenant("sockets"), pid, generation: 0, body, ttl }
    };
    fleet.ask(0, save(a, "one", long));
    fleet.ask(0, save(a, "two", long));
    fleet.ask(0, save(b, "three", long));
    fleet.ask(0, Relay::Forget { tenant: tenant("sockets"), pid: b, generation: 0 });
    assert_eq!(fleet.claim(0, "sockets", b), None, "it was forgotten");
    assert_eq!(fleet.claim(1, "sockets", a).as_deref(), Some(&kept(0, "two")[..]));
    for node in [0, 1] {
        assert_eq!(fleet.claim(node, "sockets", a), None, "it was taken");
    }
    assert_eq!(fleet.claim(0, "sockets", c), None);
    // One is kept for a shorter time than it was, one is not.
    let hasten = |fleet: &mut dyn Fleet, generation| {
        let body = kept(generation, "short").into();
        fleet.ask(0, Relay::Save { tenant: tenant("sockets"), pid: b, generation, body, ttl: long });
        fleet.ask(0, Relay::Refresh { tenant: tenant("sockets"), pids: vec![b], ttl: Duration::from_millis(1) });
    };
    fleet.ask(0, save(c, "kept", long));
    hasten(fleet, 0);
    let mut early = 0;
    fleet.until("a saved socket expires", &mut |fleet| {
        let taken = fleet.claim(0, "sockets", b).is_some();
        if taken {
            // Too early; who has taken it keeps it again.
            early += 1;
            hasten(fleet, early);
        }
        !taken
    });
    assert_eq!(fleet.claim(1, "sockets", c).as_deref(), Some(&kept(0, "kept")[..]));
    // A node that knows it as it was before it came back to another changes nothing.
    let back = |generation, text: &str| Relay::Save {
        tenant: tenant("sockets"),
        pid: a,
        generation,
        body: kept(generation, text).into(),
        ttl: long,
    };
    // Two nodes: what one has asked is done when it has an answer to what it asked after that.
    let done = |fleet: &mut dyn Fleet, node, relay| {
        fleet.ask(node, relay);
        assert!(fleet.read(node, "sockets", &[]).is_ok());
    };
    done(fleet, 0, back(300, "back"));
    let replaced = |fleet: &mut dyn Fleet, node, relay| {
        fleet.ask(node, relay);
        assert!(matches!(fleet.hear(node), Report::Replaced { pid, .. } if pid == a), "who kept it in vain is told");
    };
    replaced(fleet, 1, back(299, "before"));
    done(fleet, 1, Relay::Forget { tenant: tenant("sockets"), pid: a, generation: 299 });
    done(fleet, 0, back(300, "back, and in a room"));
    assert_eq!(fleet.claim(1, "sockets", a), Some(kept(300, "back, and in a room").into()));
    // Who had it cannot keep it any more, though it does not know yet that it was taken; who has taken it may give it back.
    replaced(fleet, 0, back(300, "late"));
    assert_eq!(fleet.claim(0, "sockets", a), None);
    let returned = match back(300, "returned") {
        Relay::Save { tenant, pid, body, ttl, .. } => Relay::Save { tenant, pid, generation: 301, body, ttl },
        other => other,
    };
    done(fleet, 1, returned);
    assert_eq!(fleet.claim(0, "sockets", a), Some(kept(300, "returned").into()));
    done(fleet, 0, back(301, "back"));
    done(fleet, 1, Relay::Forget { tenant: tenant("sockets"), pid: a, generation: 301 });
    assert_eq!(fleet.claim(1, "sockets", a), None);
}

fn tenants_apart(fleet: &mut dyn Fleet) {
    // Names that would be each other's, were they not escaped.
    for (mine, room, theirs) in [("a", "x", "b"), ("x", "r}:m", "x}:h:r"), ("%7D", "x", "}")] {
        fleet.open(0, mine);
        fleet.open(1, theirs);
        fleet.append(0, mine, 1, append(room, "mine"));
        fleet.appended(0);
        fleet.append(1, theirs, 1, append(room, "theirs"));
        let (appended, heard) = fleet.appended(1);
        assert_eq!((appended.sequence, &*heard.text), (1, "theirs"), "{theirs} heard nothing of {mine}");
        let head = fleet.read(0, mine, &[(room, Some(0))]).unwrap();
        assert_eq!((head.place.sequence, head.rooms[0].entries.len()), (1, 1));
    }
}

fn closed_and_opened(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "closed");
    fleet.open(1, "closed");
    fleet.ask(1, Relay::Close { tenant: tenant("closed") });
    // A question behind it: it is closed when that is answered, or soon after.
    fleet.open(1, "closed too");
    for n in 1..=3 {
        fleet.append(0, "closed", n, append("a", "unheard"));
        fleet.appended(0);
    }
    assert_eq!(fleet.open(1, "closed"), Place { sequence: 3, ..place });
    fleet.append(0, "closed", 4, append("a", "heard"));
    assert_eq!(fleet.envelope(1).place, Some((place.epoch.0, 4, place.epoch.0, 4)));
    fleet.appended(0);
    assert_eq!(fleet.open(1, "closed").sequence, 4, "asked again, it is told again");
}

fn loss(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "loss");
    fleet.append(0, "loss", 1, append("a", "lost"));
    fleet.appended(0);
    fleet.lose();
    let reading = fleet.read(0, "loss", &[("a", Some(0))]).unwrap();
    assert_ne!(reading.place.epoch, place.epoch, "what was lost does not come back");
    assert_eq!((reading.place.sequence, reading.rooms[0].offset), (0, 0));
    fleet.append(0, "loss", 2, append("a", "new"));
    let (appended, heard) = fleet.appended(0);
    assert_eq!((appended.sequence, appended.offset), (1, 1));
    assert_eq!(heard.place.map(|place| place.0), Some(reading.place.epoch.0));
    assert_eq!(fleet.open(0, "loss").epoch, reading.place.epoch);
}

/// An event that waits for a user.
fn for_user(user: &str, text: &str) -> Append {
    let wait = Wait { user: user.into(), ttl: Duration::from_secs(60), per_user: 3 };
    Append { wait: Some(wait.into()), ..append(&format!("user:{user}"), text) }
}

fn waiting(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "waiting");
    for (n, (user, text)) in (1..).zip([("a", "1"), ("b", "2"), ("a", "3"), ("a\0", "4"), ("a%", "5")]) {
        fleet.append(0, "waiting", n, for_user(user, text));
        fleet.appended(0);
    }
    let queue = fleet.queue(1, "waiting", "a");
    assert_eq!(queue.place, Some(Place { sequence: 5, ..place }));
    let entries: Vec<_> = queue
        .entries
        .iter()
        .map(|entry| {
            assert!(entry.room_epoch == place.epoch && !entry.in_doubt);
            assert!(entry.left > Duration::from_secs(50) && entry.left <= Duration::from_secs(60), "{:?}", entry.left);
            (entry.stored.sequence, entry.stored.offset, entry.stored.body.clone())
        })
        .collect();
    assert_eq!(entries, [(1, 1, body(0, "1")), (3, 2, body(0, "3"))], "as it was appended, where it was placed");
    for (user, sequences) in [("a\0", &[4][..]), ("a%", &[5]), ("b", &[2]), ("c", &[]), ("", &[])] {
        assert_eq!(fleet.queued(0, "waiting", user), sequences, "{user:?}");
    }
    fleet.act(0, "waiting", Act::Done { epoch: place.epoch, sequences: vec![1, 2, 99], told: None });
    assert_eq!((fleet.queued(0, "waiting", "a"), fleet.queued(0, "waiting", "b")), (vec![3], vec![]));
    // Published again by its id, it does not wait again.
    let named = || Append { id: Some("x".into()), ..for_user("a", "named") };
    for n in [6, 7] {
        fleet.append(0, "waiting", n, named());
        fleet.answer_or_both(0);
        if n == 6 {
            fleet.act(0, "waiting", Act::Done { epoch: place.epoch, sequences: vec![6], told: None });
        }
    }
    assert_eq!(fleet.queued(1, "waiting", "a"), [3]);
    // And in its time it is over.
    let wait = Wait { user: "short".into(), ttl: Duration::from_millis(30), per_user: 3 };
    fleet.append(0, "waiting", 8, Append { wait: Some(wait.into()), ..append("user:short", "8") });
    fleet.appended(0);
    fleet.until("it has waited long enough", &mut |fleet| fleet.queued(0, "waiting", "short").is_empty());
    assert_eq!(fleet.queued(0, "waiting", "a"), [3]);
}

fn waiting_bounds(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "bounds");
    for n in 1..=5 {
        fleet.append(0, "bounds", n, for_user("a", &n.to_string()));
        fleet.appended(0);
    }
    let queue = fleet.queue(0, "bounds", "a");
    assert_eq!(queue.dropped, 2);
    assert_eq!(fleet.queued(0, "bounds", "a"), [3, 4, 5], "the oldest go");
    fleet.act(0, "bounds", Act::Done { epoch: place.epoch, sequences: vec![3], told: Some(("a".into(), 2)) });
    assert_eq!(fleet.queue(0, "bounds", "a").dropped, 0, "it was told");
    // Eight MiB of a user, each of them a MiB.
    let large = "x".repeat(1 << 20);
    let wait = Wait { user: "b".into(), ttl: Duration::from_secs(60), per_user: 1000 };
    for n in 6..=15 {
        let event = Append { wait: Some(wait.clone().into()), keep: 1, ..append("user:b", &large) };
        fleet.append(0, "bounds", n, event);
        fleet.appended(0);
    }
    assert_eq!(fleet.queued(0, "bounds", "b"), (9..=15).collect::<Vec<_>>());
    assert_eq!(fleet.queue(0, "bounds", "b").dropped, 3);
    fleet.act(0, "bounds", Act::Done { epoch: place.epoch, sequences: (9..=15).collect(), told: None });
    assert_eq!(fleet.queue(0, "bounds", "b").dropped, 0, "whose queue is empty is told nothing");
    assert_eq!(fleet.queued(0, "bounds", "a"), [4, 5]);
}

fn kept_again(fleet: &mut dyn Fleet) {
    let place = fleet.open(0, "kept");
    for n in 1..=3 {
        fleet.append(0, "kept", n, Append { keep: 2, ..for_user("a", &n.to_string()) });
        fleet.appended(0);
    }
    let wait = || Wait { user: "a".into(), ttl: Duration::from_secs(60), per_user: 3 };
    let keep = |sequences: &[u64]| Act::Keep {
        epoch: place.epoch,
        room: "user:a".into(),
        sequences: sequences.into(),
        wait: wait(),
    };
    fleet.act(0, "kept", Act::Done { epoch: place.epoch, sequences: vec![1, 2, 3], told: None });
    // The first is not in its room any more, the last never was.
    fleet.act(1, "kept", keep(&[3, 2, 1, 9]));
    let queue = fleet.queue(1, "kept", "a");
    let entries: Vec<_> = queue
        .entries
        .iter()
        .map(|entry| (entry.stored.sequence, entry.stored.offset, entry.stored.body.clone(), entry.in_doubt))
        .collect();
    assert_eq!(entries, [(2, 2, body(0, "2"), true), (3, 3, body(0, "3"), true)], "in their order");
    fleet.append(0, "kept", 4, for_user("a", "4"));
    fleet.appended(0);
    fleet.act(0, "kept", keep(&[4]));
    let queue = fleet.queue(0, "kept", "a");
    let entries: Vec<_> = queue.entries.iter().map(|entry| (entry.stored.sequence, entry.in_doubt)).collect();
    assert_eq!(entries, [(2, true), (3, true), (4, true)], "once, and in doubt from now on");
    assert_eq!(queue.entries[2].stored.body, body(0, "4"));
}

fn waiting_epochs(fleet: &mut dyn Fleet) {
    let before = fleet.open(0, "epochs");
    fleet.append(0, "epochs", 1, for_user("a", "lost"));
    fleet.appended(0);
    fleet.lose();
    assert!(fleet.queue(0, "epochs", "a").entries.is_empty(), "what is lost does not wait");
    let after = fleet.open(0, "epochs");
    assert_ne!(after.epoch, before.epoch);
    fleet.append(0, "epochs", 2, for_user("a", "new"));
    fleet.appended(0);
    // What is said of places of the life before is of no meaning.
    fleet.act(0, "epochs", Act::Done { epoch: before.epoch, sequences: vec![1], told: None });
    assert_eq!(fleet.queued(0, "epochs", "a"), [1]);
    fleet.act(0, "epochs", Act::Done { epoch: after.epoch, sequences: vec![1], told: None });
    let wait = Wait { user: "a".into(), ttl: Duration::from_secs(60), per_user: 3 };
    let keep = Act::Keep { epoch: before.epoch, room: "user:a".into(), sequences: vec![1], wait };
    fleet.act(0, "epochs", keep);
    assert_eq!(fleet.queued(0, "epochs", "a"), [0; 0]);
}

fn receipts(fleet: &mut dyn Fleet) {
    fleet.open(0, "receipts");
    let tracked = |id: &str, ttl| {
        let track = Track { id: id.into(), sender: "s".into(), ttl };
        Append { track: Some(track.into()), ..append("r", id) }
    };
    for (n, id) in (1..).zip(["x", "y"]) {
        fleet.append(0, "receipts", n, tracked(id, Duration::from_secs(60)));
        fleet.appended(0);
    }
    let rooms = |name: &str| Some(vec!["q".into(), Box::from(name)]);
    use Told::{Delivered, Read};
    for (user, told, ids, rooms, number, news) in [
        ("u", Delivered, &["x", "z"][..], rooms("other"), 1, &[][..]),
        ("u", Delivered, &["x", "z"], rooms("r"), 2, &["x"]),
        // The connection broke before the answer came.
        ("u", Delivered, &["x", "z"], rooms("r"), 2, &["x"]),
        ("u", Delivered, &["x", "y"], None, 3, &["y"]),
        ("u", Read, &["x"], rooms("r"), 4, &["x"]),
        ("u", Read, &["x"], rooms("r"), 5, &[]),
        ("u", Delivered, &["x"], rooms("r"), 6, &[]),
        ("v", Read, &["x", "y"], rooms("r"), 7, &["x", "y"]),
        ("v", Delivered, &["x", "y"], rooms("r"), 8, &[]),
        ("s", Read, &["x"], rooms("r"), 9, &[]),
        ("", Read, &["x"], Some(Vec::new()), 10, &[]),
    ] {
        let ids = ids.iter().map(|id| Box::from(*id)).collect();
        let act = Act::Tell { user: user.into(), told, ids, rooms, number };
        let Answer::Tell(told) = fleet.shared(0, "receipts", act) else { panic!("an answer of another kind") };
        let wanted: Vec<(Box<str>, Box<str>)> = news.iter().map(|id| (Box::from(*id), "s".into())).collect();
        assert_eq!(told, wanted, "{number}");
    }
    // They have their time.
    let mut number = 10;
    fleet.append(0, "receipts", 3, tracked("short", Duration::from_millis(30)));
    fleet.appended(0);
    fleet.until("it is told no more", &mut |fleet| {
        number += 1;
        let user = format!("u{number}").into();
        let act = Act::Tell { user, told: Read, ids: vec!["short".into()], rooms: None, number };
        matches!(fleet.shared(0, "receipts", act), Answer::Tell(told) if told.is_empty())
    });
}

impl dyn Fleet + '_ {
    fn shared(&mut self, node: usize, name: &str, act: Act) -> Answer {
        let act = Box::new(relay::Act::Queue(act));
        self.ask(node, Relay::Share { tenant: tenant(name), ticket: Some(Ticket(0)), act });
        match self.hear(node) {
            Report::Shared { result: Ok(relay::Answer::Queue(answer)), .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Changes what waits; it is done when this returns.
    fn act(&mut self, node: usize, name: &str, act: Act) {
        assert!(matches!(self.shared(node, name, act), Answer::Nothing));
    }

    fn queue(&mut self, node: usize, name: &str, user: &str) -> Waiting {
        match self.shared(node, name, Act::Read { user: user.into() }) {
            Answer::Waiting(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn queued(&mut self, node: usize, name: &str, user: &str) -> Vec<u64> {
        self.queue(node, name, user).entries.iter().map(|entry| entry.stored.sequence).collect()
    }

    /// Hears an answer, and the envelope where there is one: whether the event was known.
    fn answer_or_both(&mut self, node: usize) -> bool {
        match self.hear(node) {
            Report::Appended { result, .. } => {
                let known = result.unwrap().known;
                if !known {
                    self.envelope(node);
                }
                known
            }
            Report::Envelope { .. } => self.answer(node).unwrap().known,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_store_in_memory_keeps_the_guarantees() {
    check(|| Box::new(InMemory::new(2)));
}

#[test]
fn a_redis_keeps_the_guarantees() {
    let redis = Redis::start(&[]);
    check(|| Box::new(OverRedis::new(Servers::One(at(redis.port)), 2, vec![&redis])));
}

/// It was in the form in which servers of another make take it, and one of them may have.
#[test]
fn what_an_older_life_says_late_is_not_kept_over_a_session_of_all() {
    let redis = Redis::start(&[]);
    let save = |keys: &[&str], generation: &str, body: &str| {
        let count = keys.len().to_string();
        let head = ["EVAL", include_str!("../../src/backplane/lua/save.lua"), &count];
        redis.ask(&[&head, keys, &[generation, body, "60000"]].concat())
    };
    assert_eq!(save(&["own"], "1", "\0\0\0\u{1}life one"), "1");
    assert_eq!(save(&["own", "all"], "2", "life two"), "1");
    for (keys, body) in [(&["own"][..], "late"), (&["own", "all"], "late"), (&["own"], "")] {
        assert_eq!(save(keys, "1", body), "0");
    }
    // Another server has taken it.
    assert_eq!(redis.ask(&["GETDEL", "all"]), "life two");
    assert_eq!(save(&["own", "all"], "1", "late"), "0");
    // Given back, by who took it and was not its own.
    assert_eq!(save(&["own", "all"], "4294967295", "life two"), "1");
    assert_eq!(save(&["own", "all"], "1", "late"), "0");
    assert_eq!(redis.ask(&["GET", "all"]), "life two");
    assert_eq!(save(&["own"], "3", "\0\0\0\u{3}life three"), "1");
}
