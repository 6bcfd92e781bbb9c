//! Who is there, over nodes: what a store does with what they say, in memory as in Redis. Cases of the backplane's suite.

use crate::fleet::{Fleet, append, tenant};
use tenantcast::base::time::{Duration, UnixMs};
use tenantcast::shard::Status;
use tenantcast::shard::relay::presence::{
    Act, Answer, Change, Found, Member, Question, Row, Seat, Stance, Terms, Totals,
};
use tenantcast::shard::relay::{self, Append, Relay, Report, Ticket};
use tenantcast::wire::envelope::{Origin, presence as wire};

const LONG: Terms = Terms { valid: Duration::from_secs(60), remember: Duration::from_secs(600) };
const SHORT: Terms = Terms { valid: Duration::from_millis(1), ..LONG };

/// Some time that the store would not forget as too long ago.
fn now() -> UnixMs {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    UnixMs(since.as_millis() as u64)
}

fn stance(status: Status) -> Stance {
    let fresh = Stance::decode(&[0; Stance::BYTES]).expect("eleven bytes");
    Stance { status, ..fresh }
}

/// `room sockets` of each, watched where the room begins with `w`.
fn here(user: &str, sessions: u32, seats: &[(&str, u32)]) -> Change {
    let seat = |(room, sockets): &(&str, u32)| Seat {
        room: (*room).into(),
        sockets: *sockets,
        watched: room.starts_with('w'),
    };
    let row = Row { sessions, seen: now(), seats: seats.iter().map(seat).collect() };
    Change { row: Some(row), ..gone(user) }
}

fn gone(user: &str) -> Change {
    let stance = stance(Status::Online);
    Change { user: user.into(), row: None, stance, sets: false, known: false, told: false, seen: now() }
}

fn say(node: usize, terms: Terms, changes: Vec<Change>) -> Act {
    Act::Say { origin: Origin(node as u64 + 10), terms, changes }
}

/// The notes of a frame: `user came online`, `user left`, `user online to busy`, each with its room and who is not told.
fn notes(frame: &[u8]) -> Vec<String> {
    let entries = wire::decode(wire::noted(frame).expect("the store's own words")).expect("entries");
    let word = |bytes: &[u8]| Stance::decode(bytes).map(|stance| stance.status.as_str());
    let note = |entry: wire::Entry<'_>| {
        let what = match (word(entry.from), word(entry.to)) {
            (None, Some(to)) => format!("came {to}"),
            (Some(_), None) => "left".to_owned(),
            (from, to) => format!("{} to {}", from.unwrap_or("-"), to.unwrap_or("-")),
        };
        let room = if entry.room.is_empty() { String::new() } else { format!(" in {}", entry.room) };
        let but = if entry.but.is_empty() { String::new() } else { format!(" but {}", entry.but) };
        format!("{} {what}{room}{but}", entry.user)
    };
    entries.into_iter().map(note).collect()
}

/// Does something at a node, and what both nodes hear of it: the same, where there is something to hear.
fn done(fleet: &mut dyn Fleet, node: usize, name: &str, act: Act, expected: &[&str]) -> Answer {
    let act = Box::new(relay::Act::Presence(act));
    fleet.ask(node, Relay::Share { tenant: tenant(name), ticket: Some(Ticket(7)), act });
    let (mut answer, mut heard) = (None, Vec::new());
    while answer.is_none() || heard.len() < usize::from(!expected.is_empty()) {
        match fleet.hear(node) {
            Report::Shared { result: Ok(relay::Answer::Presence(said)), .. } => answer = Some(said),
            Report::Envelope { frame, .. } => heard.push(notes(&frame)),
            // A store that has lost all is another stream.
            Report::Opened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    if !expected.is_empty() {
        while heard.len() < 2 {
            match fleet.hear(1 - node) {
                Report::Envelope { frame, .. } => heard.push(notes(&frame)),
                Report::Opened { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, [expected, expected]);
    }
    answer.expect("heard")
}

fn said(answer: Answer) -> Vec<(Option<Status>, bool, u32)> {
    let Answer::Said { users, .. } = answer else { panic!("{answer:?}") };
    users.into_iter().map(|said| (said.stance.map(|stance| stance.status), said.there, said.sessions)).collect()
}

fn ask(fleet: &mut dyn Fleet, node: usize, name: &str, what: Question) -> Answer {
    done(fleet, node, name, Act::Ask { terms: LONG, what }, &[])
}

/// `user status sockets`, one for each node.
fn room(fleet: &mut dyn Fleet, name: &str, room: &str, count: usize) -> (Vec<String>, usize) {
    let answer = ask(fleet, 0, name, Question::Room { room: room.into(), count });
    let Answer::Room { members, count } = answer else { panic!("{answer:?}") };
    let list = members
        .into_iter()
        .map(|Member { user, stance, sockets, .. }| format!("{user} {} {sockets}", stance.status.as_str()));
    let mut list: Vec<String> = list.collect();
    list.sort();
    (list, count)
}

/// The nodes on which a room is.
fn nodes(fleet: &mut dyn Fleet, name: &str, room: &str, count: usize) -> Vec<u64> {
    let answer = ask(fleet, 0, name, Question::Nodes { room: room.into(), count });
    let Answer::Nodes(nodes) = answer else { panic!("{answer:?}") };
    let mut nodes: Vec<u64> = nodes.into_iter().map(|node| node.0).collect();
    nodes.sort_unstable();
    nodes
}

fn users(fleet: &mut dyn Fleet, name: &str, users: &[&str]) -> Vec<Found> {
    let what = Question::Users(users.iter().map(|user| (*user).into()).collect());
    match ask(fleet, 1, name, what) {
        Answer::Users(found) => found,
        answer => panic!("{answer:?}"),
    }
}

fn totals(fleet: &mut dyn Fleet, name: &str) -> (u32, u32, u32) {
    match ask(fleet, 0, name, Question::Totals) {
        Answer::Totals(Totals { sessions, users, rooms }) => (sessions, users, rooms),
        answer => panic!("{answer:?}"),
    }
}

pub fn presence(fleet: &mut dyn Fleet) {
    const T: &str = "presence";
    fleet.open(0, T);
    fleet.open(1, T);
    let act = say(0, LONG, vec![here("ana", 1, &[("r", 1), ("w", 1)])]);
    let answer = done(fleet, 0, T, act, &["ana came online", "ana came online in w"]);
    assert_eq!(said(answer), [(None, false, 1)]);
    let act = say(1, LONG, vec![here("ana", 2, &[("r", 2), ("w", 2)]), here("ben", 1, &[("r", 1)])]);
    let answer = done(fleet, 1, T, act, &["ben came online"]);
    assert_eq!(said(answer), [(Some(Status::Online), true, 3), (None, false, 1)], "ana was there");
    // Said again, nothing changes.
    let answer = done(fleet, 1, T, say(1, LONG, vec![here("ben", 1, &[("r", 1)])]), &[]);
    assert_eq!(said(answer), [(Some(Status::Online), true, 1)]);
    // What one of them says of itself is so on all nodes; what another node believes does not count.
    let busy = Change { stance: stance(Status::Busy), sets: true, ..here("ana", 1, &[("r", 1), ("w", 1)]) };
    done(fleet, 0, T, say(0, LONG, vec![busy]), &["ana online to busy", "ana online to busy in w"]);
    let answer = done(fleet, 1, T, say(1, LONG, vec![here("ana", 2, &[("r", 1), ("s", 1)])]), &[]);
    assert_eq!(said(answer), [(Some(Status::Busy), true, 3)]);
    assert_eq!(room(fleet, T, "r", 10), (vec!["ana busy 1".into(), "ana busy 1".into(), "ben online 1".into()], 3));
    assert_eq!(room(fleet, T, "s", 10), (vec!["ana busy 1".into()], 1));
    assert_eq!(room(fleet, T, "nobody's", 10), (vec![], 0));
    let (some, count) = room(fleet, T, "r", 2);
    assert_eq!((some.len(), count), (2, 3));
    assert_eq!(
        [("r", 10), ("s", 10), ("nobody's", 10)].map(|(name, count)| nodes(fleet, T, name, count)),
        [vec![10, 11], vec![11], vec![]]
    );
    assert_eq!(nodes(fleet, T, "s", 0), [10, 11], "more places than are looked at: any node may have one");
    let found = users(fleet, T, &["ana", "eve"]);
    let mut rooms = found[0].rooms.clone();
    rooms.sort();
    assert_eq!((found[0].there, found[0].sessions, &rooms[..]), (true, 3, &["r".into(), "s".into(), "w".into()][..]));
    assert_eq!(found[1], Found::default());
    assert_eq!(totals(fleet, T), (4, 2, 3));
    let Answer::Rooms { mut rooms, count } = ask(fleet, 1, T, Question::Rooms { count: 10 }) else { panic!() };
    rooms.sort();
    assert_eq!((rooms, count), (vec![("r".into(), 3), ("s".into(), 1), ("w".into(), 1)], 3));
    let Answer::Rooms { rooms, count } = ask(fleet, 1, T, Question::Rooms { count: 1 }) else { panic!() };
    assert_eq!((rooms.len(), count), (1, 3));
    // One node less is not gone; the last one is, from its rooms first.
    let answer = done(fleet, 1, T, say(1, LONG, vec![gone("ana")]), &[]);
    assert_eq!(said(answer), [(Some(Status::Busy), true, 1)]);
    let told = Change { told: true, ..gone("ana") };
    let answer = done(fleet, 0, T, say(0, LONG, vec![told.clone()]), &["ana left in w but a", "ana left but a"]);
    assert_eq!(said(answer), [(None, false, 0)]);
    assert_eq!(said(done(fleet, 0, T, say(0, LONG, vec![told]), &[])), [(None, false, 0)], "once");
    let found = users(fleet, T, &["ana"]);
    assert_eq!((found[0].there, found[0].stance.map(|stance| stance.status)), (false, Some(Status::Busy)));
    assert!(found[0].seen.is_some_and(|seen| now().0 - seen.0 < 60_000), "when it was last seen is known");
    assert_eq!(totals(fleet, T), (1, 1, 1));
    // Within its grace it is there, without a socket.
    done(fleet, 1, T, say(1, LONG, vec![here("ben", 0, &[("r", 0)])]), &[]);
    assert_eq!(room(fleet, T, "r", 10), (vec!["ben online 0".into()], 1));
    assert_eq!(nodes(fleet, T, "r", 10), Vec::<u64>::new(), "no socket is in it");
    assert_eq!(totals(fleet, T), (0, 1, 0), "and in no list of rooms");
    // Back, it is as one that comes; how it was is known.
    let answer = done(fleet, 1, T, say(1, LONG, vec![here("ana", 1, &[])]), &["ana came online"]);
    assert_eq!(said(answer), [(Some(Status::Busy), false, 1)]);
}

/// More time than this passes.
fn pass(fleet: &mut dyn Fleet, name: &str, time: Duration) {
    let short = Append { linger: time + Duration::from_millis(30), ..append("passes", "x") };
    fleet.append(0, name, 1, short);
    fleet.appended(0);
    fleet.envelope(1);
    fleet.until("time passes", &mut |fleet| {
        fleet.read(0, name, &[("passes", None)]).expect("the store is there").rooms[0].offset == 0
    });
}

pub fn leases(fleet: &mut dyn Fleet) {
    const T: &str = "leases";
    fleet.open(0, T);
    fleet.open(1, T);
    done(fleet, 1, T, say(1, LONG, vec![here("ana", 1, &[("r", 1)])]), &["ana came online"]);
    let both = vec![here("ana", 1, &[("r", 1)]), here("ben", 1, &[("w", 1)])];
    done(fleet, 0, T, say(0, SHORT, both), &["ben came online", "ben came online in w"]);
    pass(fleet, T, SHORT.valid);
    done(fleet, 1, T, say(1, LONG, vec![]), &["ben left in w", "ben left"]);
    assert_eq!((totals(fleet, T), room(fleet, T, "r", 9).1), ((1, 1, 1), 1), "ana is on the other node");
    // Who only asks takes it away, too.
    done(fleet, 1, T, say(1, SHORT, vec![]), &[]);
    pass(fleet, T, SHORT.valid);
    let act = Act::Ask { terms: LONG, what: Question::Totals };
    let answer = done(fleet, 0, T, act, &["ana left"]);
    assert!(matches!(answer, Answer::Totals(Totals { sessions: 0, users: 0, rooms: 0 })), "{answer:?}");
    // A node that was silent for too long itself judges nobody: the store was away.
    let second = Terms { valid: Duration::from_secs(1), ..LONG };
    done(fleet, 1, T, say(1, second, vec![here("ben", 1, &[])]), &["ben came online"]);
    done(fleet, 0, T, say(0, SHORT, vec![here("ana", 1, &[])]), &["ana came online"]);
    pass(fleet, T, second.valid / 2);
    pass(fleet, T, second.valid / 2);
    done(fleet, 0, T, say(0, LONG, vec![]), &[]);
    assert_eq!(totals(fleet, T).1, 2);
    // A dead node's many users are taken away in parts; a few hundred at a time, and no note is missing.
    const M: &str = "many";
    fleet.open(0, M);
    fleet.open(1, M);
    let many = |from: usize| (from..from + 400).map(|n| here(&format!("u{n}"), 1, &[("r", 1)])).collect();
    for from in [0, 400] {
        let came: Vec<String> = (from..from + 400).map(|n| format!("u{n} came online")).collect();
        let came: Vec<&str> = came.iter().map(|text| &**text).collect();
        done(fleet, 0, M, say(0, LONG, many(from)), &came);
    }
    done(fleet, 0, M, say(0, SHORT, vec![]), &[]);
    pass(fleet, M, SHORT.valid);
    let mut left = 0;
    loop {
        let act = Box::new(relay::Act::Presence(say(1, LONG, vec![])));
        fleet.ask(1, Relay::Share { tenant: tenant(M), ticket: Some(Ticket(8)), act });
        let mut more = None;
        while more.is_none() {
            match fleet.hear(1) {
                Report::Shared { result: Ok(relay::Answer::Presence(Answer::Said { more: is, .. })), .. } => {
                    more = Some(is)
                }
                Report::Envelope { frame, .. } => left += notes(&frame).len(),
                other => panic!("{other:?}"),
            }
        }
        if more == Some(false) {
            break;
        }
    }
    while left < 800 {
        match fleet.hear(1) {
            Report::Envelope { frame, .. } => left += notes(&frame).len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(left, 800);
}

pub fn presence_lost(fleet: &mut dyn Fleet) {
    const T: &str = "presence lost";
    fleet.open(0, T);
    fleet.open(1, T);
    done(fleet, 0, T, say(0, LONG, vec![here("ana", 1, &[("w", 1)])]), &["ana came online", "ana came online in w"]);
    done(fleet, 1, T, say(1, LONG, vec![here("ben", 1, &[])]), &["ben came online"]);
    fleet.lose();
    let known = |change: Change| Change { known: true, ..change };
    // Whom everybody knows is no news; who came meanwhile is; who left meanwhile is, once.
    let act = say(0, LONG, vec![known(here("ana", 1, &[("w", 1)])), here("cat", 1, &[])]);
    done(fleet, 0, T, act, &["cat came online"]);
    done(fleet, 1, T, say(1, LONG, vec![known(gone("ben"))]), &["ben left"]);
    done(fleet, 1, T, say(1, LONG, vec![known(gone("ben"))]), &[]);
    assert_eq!(totals(fleet, T), (2, 2, 1));
    // A node that is late with it: others were told that its user is gone.
    done(fleet, 0, T, say(0, LONG, vec![known(here("ben", 1, &[]))]), &["ben came online"]);
}
