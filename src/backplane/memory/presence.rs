//! Who is there, over all nodes.

use crate::base::time::{Duration, Instant, Now, UnixMs};
use crate::shard::relay::presence::{
    Act, Answer, Change, Found, Member, Question, Row, Said, Seat, Stance, Terms, Totals,
};
use crate::wire::envelope::{Origin, presence};
use std::collections::{BTreeMap, BTreeSet};

type Node = u64;

/// What a tenant has of it.
#[derive(Default)]
pub struct Store {
    leases: BTreeMap<Node, Instant>,
    rows: BTreeMap<(Box<str>, Node), Row>,
    users: BTreeMap<Box<str>, Stance>,
    past: BTreeMap<Box<str>, (UnixMs, Stance)>,
    notes: Vec<Note>,
}

struct Note {
    but: Option<Node>,
    room: Box<str>,
    user: Box<str>,
    from: Option<Stance>,
    to: Option<Stance>,
    seen: UnixMs,
}

impl Store {
    pub fn act(&mut self, now: Now, act: Act) -> Answer {
        let (terms, what) = match act {
            Act::Say { origin, terms, changes } => return self.say(now, origin, terms, changes),
            Act::Ask { terms, what } => (terms, what),
        };
        self.reap(now, terms);
        match what {
            Question::Room { room, count } => {
                let rows = self.rows.iter().filter_map(|((user, node), row)| {
                    let seat = row.seats.iter().find(|seat| seat.room == room)?;
                    let seen = self.seen(now, row, *node, terms.valid);
                    Some(Member { user: user.clone(), stance: *self.users.get(user)?, seen, sockets: seat.sockets })
                });
                let mut members: Vec<Member> = rows.collect();
                let total = members.len();
                members.truncate(count);
                Answer::Room { members, count: total }
            }
            Question::Users(users) => {
                Answer::Users(users.iter().map(|user| self.found(now, user, terms.valid)).collect())
            }
            Question::Nodes { room, count } => {
                let is_in = |row: &Row| row.seats.iter().any(|seat| seat.room == room && seat.sockets > 0);
                let seats = self.rows.values().filter(|row| row.seats.iter().any(|seat| seat.room == room)).count();
                let of = |((_, node), row): (&(Box<str>, Node), &Row)| is_in(row).then_some(*node);
                let nodes: BTreeSet<Node> = match seats > count {
                    true => self.leases.keys().copied().collect(),
                    false => self.rows.iter().filter_map(of).collect(),
                };
                Answer::Nodes(nodes.into_iter().map(Origin).collect())
            }
            Question::Rooms { count } => {
                let mut rooms = self.rooms();
                let total = rooms.len();
                rooms.truncate(count);
                Answer::Rooms { rooms, count: total }
            }
            Question::Totals => Answer::Totals(Totals {
                sessions: self.sessions(),
                users: self.users.len() as u32,
                rooms: self.rooms().len() as u32,
            }),
        }
    }

    /// What is to be published of what was done since it was last asked.
    pub fn take_notes(&mut self) -> Option<Vec<u8>> {
        let notes = std::mem::take(&mut self.notes);
        let bytes = |stance: Option<Stance>| stance.map_or_else(Vec::new, |stance| stance.encode().to_vec());
        let fields = notes.iter().map(|note| {
            let but = note.but.map_or_else(String::new, |node| format!("{node:x}"));
            (but, bytes(note.from), bytes(note.to))
        });
        let fields: Vec<(String, Vec<u8>, Vec<u8>)> = fields.collect();
        let entries = notes.iter().zip(&fields).map(|(note, (but, from, to))| {
            let (room, user, seen) = (&*note.room, &*note.user, note.seen.0);
            presence::Entry { but, room, user, from, to, seen }
        });
        let entries: Vec<presence::Entry<'_>> = entries.collect();
        (!entries.is_empty()).then(|| presence::frame(&entries))
    }

    fn say(&mut self, now: Now, origin: Origin, terms: Terms, changes: Vec<Change>) -> Answer {
        let node = origin.0;
        if self.leases.get(&node).is_some_and(|until| *until < now.at) {
            for until in self.leases.values_mut().filter(|until| **until < now.at) {
                *until = now.at + terms.valid;
            }
        }
        self.leases.insert(node, now.at + terms.valid);
        self.reap(now, terms);
        let users = changes.into_iter().map(|change| self.change(node, terms.remember, change)).collect();
        self.past.retain(|_, (seen, _)| seen.0 + terms.remember.as_millis() as u64 > now.unix.0);
        Answer::Said { users, sessions: self.sessions(), more: false }
    }

    /// Takes away what those have said whose lease is over.
    fn reap(&mut self, now: Now, terms: Terms) {
        let dead: BTreeSet<Node> =
            self.leases.iter().filter(|(_, until)| **until < now.at).map(|(node, _)| *node).collect();
        let rows: Vec<_> = self.rows.iter().filter(|((_, node), _)| dead.contains(node)).collect();
        let gone: Vec<_> = rows.into_iter().map(|((user, node), row)| (user.clone(), *node, row.seen)).collect();
        for (user, node, seen) in gone {
            let Some(stance) = self.users.get(&user).copied() else { continue };
            let change = Change { user, row: None, stance, sets: false, known: false, told: false, seen };
            self.change(node, terms.remember, change);
        }
        self.leases.retain(|node, _| !dead.contains(node));
    }

    fn change(&mut self, node: Node, remember: Duration, change: Change) -> Said {
        let Change { user, row, stance, sets, known, told, seen } = change;
        let but = told.then_some(node);
        let before = self.users.get(&user).copied();
        let after = before.filter(|_| !sets).unwrap_or(stance);
        let mut note = |room: &str, from, to| {
            self.notes.push(Note { but, room: room.into(), user: user.clone(), from, to, seen });
        };
        let is_here = row.is_some();
        if is_here {
            match before {
                None => {
                    let was = self.past.remove(&user);
                    if !known || was.is_some() {
                        note("", None, Some(after));
                    }
                    self.users.insert(user.clone(), after);
                    self.seat(node, &user, row, after, (known, but, seen));
                    return Said { stance: was.map(|(_, stance)| stance), there: false, sessions: self.of(&user).0 };
                }
                Some(before) if before != after => {
                    note("", Some(before), Some(after));
                    for room in self.watched(&user) {
                        let (user, from, to) = (user.clone(), Some(before), Some(after));
                        self.notes.push(Note { but, room, user, from, to, seen });
                    }
                }
                Some(_) => {}
            }
            self.users.insert(user.clone(), after);
        }
        self.seat(node, &user, row, if is_here { after } else { before.unwrap_or(stance) }, (known, but, seen));
        let (sessions, nodes) = self.of(&user);
        if nodes > 0 {
            return Said { stance: self.users.get(&user).copied(), there: true, sessions };
        }
        self.users.remove(&user);
        let forgotten = before.is_none() && known && !remember.is_zero() && !self.past.contains_key(&user);
        if before.is_some() || forgotten {
            let from = Some(before.unwrap_or(stance));
            self.notes.push(Note { but, room: "".into(), user: user.clone(), from, to: None, seen });
            if !remember.is_zero() {
                self.past.insert(user, (seen, before.unwrap_or(stance)));
            }
        }
        Said { stance: None, there: false, sessions: 0 }
    }

    /// What a node has of a user, in place of what it had.
    fn seat(
        &mut self,
        node: Node,
        user: &str,
        row: Option<Row>,
        stance: Stance,
        (known, but, seen): (bool, Option<Node>, UnixMs),
    ) {
        let key = (Box::from(user), node);
        let seats = |row: Option<&Row>| row.map_or_else(Vec::new, |row| row.seats.clone());
        let old = seats(self.rows.get(&key));
        let new = seats(row.as_ref());
        let in_before: Vec<bool> = new.iter().map(|seat| self.is_in(&seat.room, user)).collect();
        match row {
            Some(row) => drop(self.rows.insert(key, row)),
            None => drop(self.rows.remove(&key)),
        }
        let has = |seats: &[Seat], room: &str| seats.iter().any(|seat| *seat.room == *room);
        for seat in old.iter().filter(|seat| seat.watched && !has(&new, &seat.room)) {
            if !self.is_in(&seat.room, user) {
                let (room, user) = (seat.room.clone(), user.into());
                self.notes.push(Note { but, room, user, from: Some(stance), to: None, seen });
            }
        }
        for (seat, was_in) in new.into_iter().zip(in_before) {
            if seat.watched && !known && !was_in && !has(&old, &seat.room) {
                self.notes.push(Note { but, room: seat.room, user: user.into(), from: None, to: Some(stance), seen });
            }
        }
    }

    fn rows_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (Node, &'a Row)> {
        self.rows.iter().filter(move |((name, _), _)| **name == *user).map(|((_, node), row)| (*node, row))
    }

    fn is_in(&self, room: &str, user: &str) -> bool {
        self.rows_of(user).any(|(_, row)| row.seats.iter().any(|seat| *seat.room == *room))
    }

    fn watched(&self, user: &str) -> BTreeSet<Box<str>> {
        let seats = self.rows_of(user).flat_map(|(_, row)| &row.seats);
        seats.filter(|seat| seat.watched).map(|seat| seat.room.clone()).collect()
    }

    /// Sessions of a user, and nodes it is on.
    fn of(&self, user: &str) -> (u32, u32) {
        self.rows_of(user).fold((0, 0), |(sessions, nodes), (_, row)| (sessions + row.sessions, nodes + 1))
    }

    fn sessions(&self) -> u32 {
        self.rows.values().map(|row| row.sessions).sum()
    }

    fn rooms(&self) -> Vec<(Box<str>, u32)> {
        let mut rooms: BTreeMap<&str, u32> = BTreeMap::new();
        for seat in self.rows.values().flat_map(|row| &row.seats).filter(|seat| seat.sockets > 0) {
            *rooms.entry(&seat.room).or_default() += seat.sockets;
        }
        rooms.into_iter().map(|(room, sockets)| (room.into(), sockets)).collect()
    }

    /// Who is connected was there when its node last said so.
    fn seen(&self, now: Now, row: &Row, node: Node, valid: Duration) -> UnixMs {
        let said = self.leases.get(&node).map_or(UnixMs(0), |until| {
            let ago = now.at.since(*until - valid);
            UnixMs(now.unix.0.saturating_sub(ago.as_millis() as u64))
        });
        if row.sessions > 0 { row.seen.max(said) } else { row.seen }
    }

    fn found(&self, now: Now, user: &str, valid: Duration) -> Found {
        let (sessions, nodes) = self.of(user);
        if nodes == 0 {
            let past = self.past.get(user);
            return Found {
                stance: past.map(|(_, stance)| *stance),
                seen: past.map(|(seen, _)| *seen),
                ..Found::default()
            };
        }
        let rooms: BTreeSet<Box<str>> =
            self.rows_of(user).flat_map(|(_, row)| row.seats.iter().map(|seat| seat.room.clone())).collect();
        Found {
            there: true,
            stance: self.users.get(user).copied(),
            sessions,
            seen: self.rows_of(user).map(|(node, row)| self.seen(now, row, node, valid)).max(),
            rooms: rooms.into_iter().collect(),
        }
    }
}
