//! Checks every delivery: none lost, none twice, none out of order, none from another tenant.
//!
//! The verifier is a plain value: publishes, acks and deliveries go in, a [`Tally`] comes out. Invariants it checks, per room:
//! - one publish has one offset, whoever reports it (its ack, or any member that received it);
//! - the offsets of one publisher rise with its sequence, and the offsets of the room have no hole;
//! - every member receives every offset of its room once, rising by exactly one.
//!
//! Memory: 48 bytes a member, 24 a publish. A member remembers the offset it expects next and the ranges it is missing, which is an empty list
//! unless something went wrong. A bound on a room's table ([`OFFSETS_AHEAD_MAX`]) keeps a server's nonsense offset from becoming an allocation.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;

use super::delivery::Delivery;

/// An offset further than this from the known ones is not a position in this history.
const OFFSETS_AHEAD_MAX: u64 = 65_536;
/// Faults described in words; the rest are only counted.
const EXAMPLES_MAX: usize = 12;
const NONE: u64 = u64::MAX;

/// Who is where: indices, fixed for a run.
pub struct Plan {
    /// Tenant of each room.
    pub room_tenants: Vec<u32>,
    /// Room of each member (a member is a connection).
    pub member_rooms: Vec<u32>,
    /// Member of each publisher.
    pub publisher_members: Vec<u32>,
}

/// The counts of a run. All but the first five are faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    pub published: u64,
    pub acked: u64,
    /// Deliveries there should have been: for every known publish, one a member of its room.
    pub expected: u64,
    /// Deliveries there were, each member's first of each publish.
    pub received: u64,
    /// Publishes that could not be sent, their connection being closed.
    pub unsent: u64,
    /// Publishes the server said no to.
    pub refused: u64,
    /// Publishes without an answer.
    pub unacked: u64,
    /// A member never received a publish of its room.
    pub lost: u64,
    /// A member received an offset, or a publish, again.
    pub duplicate: u64,
    /// A member received an offset after a later one; or a room's offsets are not in the order a publisher sent.
    pub out_of_order: u64,
    /// A member received an event of another tenant.
    pub foreign: u64,
    /// A member received an event of another room of its tenant.
    pub misrouted: u64,
    /// An event that cannot be read, or whose fields contradict each other.
    pub malformed: u64,
    /// An event or ack that fits no publish: never sent, answered twice, or with another offset than elsewhere.
    pub unknown: u64,
    /// The room's epoch changed: its history was lost.
    pub epoch_changed: u64,
    /// An offset of a room that no publish has.
    pub skipped_offsets: u64,
    /// The first few faults in words.
    pub examples: Vec<String>,
}

/// Whether a delivery counts for the latency: only the first of a publish at its rightful member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Counted,
    Fault,
}

pub struct Verifier {
    rooms: Vec<Room>,
    members: Vec<Member>,
    publishers: Vec<Publisher>,
    tally: Tally,
}

struct Room {
    tenant: u32,
    members: u64,
    epoch: Option<u64>,
    /// Offset of `records[0]`.
    base: u64,
    records: VecDeque<Option<Record>>,
}

#[derive(Clone, Copy)]
struct Record {
    publisher: u32,
    sequence: u32,
    /// The publish has an earlier record under another offset: its deliveries are duplicates.
    repeat: bool,
}

struct Member {
    room: u32,
    /// First offset received, [`NONE`] before it.
    first: u64,
    next: u64,
    missing: Vec<Range<u64>>,
}

struct Publisher {
    room: u32,
    publishes: Vec<Publish>,
}

#[derive(Clone, Copy)]
struct Publish {
    offset: u64,
    answered: bool,
}

impl Verifier {
    pub fn new(plan: &Plan) -> Verifier {
        let mut rooms: Vec<Room> = plan
            .room_tenants
            .iter()
            .map(|&tenant| Room { tenant, members: 0, epoch: None, base: 0, records: VecDeque::new() })
            .collect();
        for &room in &plan.member_rooms {
            rooms[room as usize].members += 1;
        }
        let member = |&room: &u32| Member { room, first: NONE, next: 0, missing: Vec::new() };
        let publisher = |&member: &u32| Publisher { room: plan.member_rooms[member as usize], publishes: Vec::new() };
        Verifier {
            rooms,
            members: plan.member_rooms.iter().map(member).collect(),
            publishers: plan.publisher_members.iter().map(publisher).collect(),
            tally: Tally::default(),
        }
    }

    /// A publish left; returns its sequence.
    pub fn published(&mut self, publisher: usize) -> u32 {
        let publishes = &mut self.publishers[publisher].publishes;
        publishes.push(Publish { offset: NONE, answered: false });
        self.tally.published += 1;
        publishes.len() as u32 - 1
    }

    /// The last publish of a publisher could not leave.
    pub fn unsent(&mut self, publisher: usize) {
        if let Some(publish) = self.publishers[publisher].publishes.last_mut() {
            publish.answered = true;
            self.tally.unsent += 1;
        }
    }

    /// A member received something that is no delivery.
    pub fn malformed(&mut self, member: usize, reason: &str) {
        self.tally.malformed += 1;
        self.example(|| format!("member {member}: {reason}"));
    }

    /// The server accepted a publish under this offset. False: it answered one that was never sent, or again.
    pub fn acked(&mut self, publisher: usize, sequence: u64, offset: u64, epoch: u64) -> bool {
        if !self.answer(publisher, sequence) {
            return false;
        }
        self.tally.acked += 1;
        let room = self.publishers[publisher].room as usize;
        if !self.same_epoch(room, epoch) {
            self.tally.epoch_changed += 1;
            self.example(|| {
                format!("the ack of publisher {publisher} for {sequence} names another epoch of room {room}")
            });
        } else if self.record(room, offset, publisher as u32, sequence as u32).is_none() {
            self.tally.unknown += 1;
            self.example(|| {
                format!(
                    "publish {sequence} of publisher {publisher} was acked with offset {offset}, which is another's"
                )
            });
        }
        true
    }

    /// The server refused a publish. False: as for [`Verifier::acked`].
    pub fn refused(&mut self, publisher: usize, sequence: u64) -> bool {
        let known = self.answer(publisher, sequence);
        if known {
            self.tally.refused += 1;
            self.example(|| format!("publish {sequence} of publisher {publisher} was refused"));
        }
        known
    }

    /// A member received an event.
    pub fn delivered(&mut self, member: usize, delivery: &Delivery) -> Outcome {
        let payload = &delivery.payload;
        let room = self.members[member].room as usize;
        let tenant = self.rooms[room].tenant;
        if payload.tenant != tenant {
            self.tally.foreign += 1;
            return self.fault(|| format!("member {member} of tenant {tenant} received {payload:?}: foreign"));
        }
        if payload.room as usize != room {
            self.tally.misrouted += 1;
            return self.fault(|| format!("member {member} of room {room} received {payload:?}: misrouted"));
        }
        let sent = self
            .publishers
            .get(payload.publisher as usize)
            .is_some_and(|p| p.room as usize == room && (payload.sequence as usize) < p.publishes.len());
        if !sent {
            self.tally.unknown += 1;
            return self.fault(|| format!("member {member} received {payload:?}, which nobody sent"));
        }
        if !self.same_epoch(room, delivery.epoch) {
            self.tally.epoch_changed += 1;
            return self.fault(|| format!("member {member} received {payload:?} in another epoch of room {room}"));
        }
        let offset = delivery.offset;
        let Some(record) = self.record(room, offset, payload.publisher, payload.sequence) else {
            self.tally.unknown += 1;
            return self
                .fault(|| format!("member {member} received {payload:?} with offset {offset}, which is another's"));
        };
        match self.members[member].take(offset) {
            Arrival::Again => {
                self.tally.duplicate += 1;
                return self.fault(|| format!("member {member} received offset {offset} of room {room} twice"));
            }
            _ if record.repeat => {
                self.tally.duplicate += 1;
                return self.fault(|| format!("member {member} received {payload:?} again, as offset {offset}"));
            }
            Arrival::Late => {
                self.tally.out_of_order += 1;
                let next = self.members[member].next;
                self.example(|| format!("member {member} received offset {offset} of room {room} after {}", next - 1));
            }
            Arrival::InOrder => {}
        }
        self.tally.received += 1;
        Outcome::Counted
    }

    /// Every publish is answered and every delivery is in: waiting longer can only show a duplicate.
    pub fn is_settled(&self) -> bool {
        self.unanswered() == 0 && self.tally.received >= self.tally.expected
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts what is still missing as lost.
    pub fn finish(mut self) -> Tally {
        self.tally.unacked = self.unanswered();
        let unanswered = |publisher: &Publisher| publisher.publishes.iter().position(|publish| !publish.answered);
        let first = self.publishers.iter().enumerate().find_map(|(index, p)| unanswered(p).map(|at| (index, at)));
        if let Some((publisher, sequence)) = first {
            self.example(|| format!("publish {sequence} of publisher {publisher} was never answered"));
        }
        for room in 0..self.rooms.len() {
            let skipped = self.rooms[room].records.iter().filter(|record| record.is_none()).count() as u64;
            self.tally.skipped_offsets += skipped;
            if skipped > 0 {
                self.example(|| format!("room {room} has {skipped} offsets that no publish has"));
            }
        }
        let members = std::mem::take(&mut self.members);
        for (index, member) in members.iter().enumerate() {
            let room = &self.rooms[member.room as usize];
            let end = room.base + room.records.len() as u64;
            let (first, next) = if member.first == NONE { (end, end) } else { (member.first, member.next) };
            let ends = [room.base..first, next..end];
            let missing = member.missing.iter().chain(&ends).flat_map(Range::clone);
            let mut lost = missing.filter(|&offset| room.get(offset).is_some_and(|record| !record.repeat));
            let Some(example) = lost.next() else { continue };
            let count = 1 + lost.count() as u64;
            self.tally.lost += count;
            let room = member.room;
            self.example(|| format!("member {index} never received offset {example} of room {room} ({count} lost)"));
        }
        self.tally
    }

    fn unanswered(&self) -> u64 {
        self.tally.published - self.tally.unsent - self.tally.acked - self.tally.refused
    }

    fn answer(&mut self, publisher: usize, sequence: u64) -> bool {
        let publish = self.publishers.get_mut(publisher).and_then(|p| p.publishes.get_mut(sequence as usize));
        match publish {
            Some(publish) if !publish.answered => {
                publish.answered = true;
                true
            }
            _ => {
                self.tally.unknown += 1;
                self.example(|| {
                    format!("publisher {publisher} received an ack for {sequence}, unsent or answered before")
                });
                false
            }
        }
    }

    fn same_epoch(&mut self, room: usize, epoch: u64) -> bool {
        *self.rooms[room].epoch.get_or_insert(epoch) == epoch
    }

    /// Finds or makes the record of an offset; `None` if it belongs to another publish or lies outside of any history.
    fn record(&mut self, room: usize, offset: u64, publisher: u32, sequence: u32) -> Option<Record> {
        if let Some(record) = self.rooms[room].get(offset) {
            return (record.publisher == publisher && record.sequence == sequence).then_some(record);
        }
        let publishes = &mut self.publishers[publisher as usize].publishes;
        let known = publishes[sequence as usize].offset;
        let record = Record { publisher, sequence, repeat: known != NONE };
        let slot = self.rooms[room].slot(offset)?;
        *slot = Some(record);
        if record.repeat {
            return Some(record);
        }
        publishes[sequence as usize].offset = offset;
        self.tally.expected += self.rooms[room].members;
        let (before, after) = publishes.split_at(sequence as usize);
        let earlier = before.iter().rev().map(|publish| publish.offset).find(|&offset| offset != NONE);
        let later = after.iter().skip(1).map(|publish| publish.offset).find(|&offset| offset != NONE);
        if earlier.is_some_and(|earlier| earlier > offset) || later.is_some_and(|later| later < offset) {
            self.tally.out_of_order += 1;
            self.example(|| {
                format!("publish {sequence} of publisher {publisher} has offset {offset}; those around it {earlier:?}, {later:?}")
            });
        }
        Some(record)
    }

    fn fault(&mut self, text: impl FnOnce() -> String) -> Outcome {
        self.example(text);
        Outcome::Fault
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.tally.examples.len() < EXAMPLES_MAX {
            self.tally.examples.push(text());
        }
    }
}

impl Tally {
    /// The fault counts by name, in the order of the report. `refused` and `unacked` are among them: a check tolerates neither.
    pub fn faults(&self) -> [(&'static str, u64); 12] {
        [
            ("unsent", self.unsent),
            ("refused", self.refused),
            ("unacked", self.unacked),
            ("lost", self.lost),
            ("duplicate", self.duplicate),
            ("out of order", self.out_of_order),
            ("foreign", self.foreign),
            ("misrouted", self.misrouted),
            ("malformed", self.malformed),
            ("unknown", self.unknown),
            ("epoch changed", self.epoch_changed),
            ("skipped offsets", self.skipped_offsets),
        ]
    }

    /// The faults there are, in one line; empty when there are none.
    pub fn faults_line(&self) -> String {
        let mut line = String::new();
        for (name, count) in self.faults().into_iter().filter(|(_, count)| *count > 0) {
            let _ = write!(line, "{}{count} {name}", if line.is_empty() { "" } else { ", " });
        }
        line
    }
}

impl Room {
    fn get(&self, offset: u64) -> Option<Record> {
        let index = offset.checked_sub(self.base)?;
        self.records.get(usize::try_from(index).ok()?).copied().flatten()
    }

    /// The place of an offset, growing the table towards it at either end.
    fn slot(&mut self, offset: u64) -> Option<&mut Option<Record>> {
        if self.records.is_empty() {
            // So that an end (`base + records.len()`) never overflows and never meets `NONE`.
            if offset >= NONE / 2 {
                return None;
            }
            self.base = offset;
        }
        if offset < self.base {
            if self.base - offset > OFFSETS_AHEAD_MAX {
                return None;
            }
            for _ in offset..self.base {
                self.records.push_front(None);
            }
            self.base = offset;
        }
        let index = offset - self.base;
        if index > self.records.len() as u64 + OFFSETS_AHEAD_MAX {
            return None;
        }
        let index = index as usize;
        if index >= self.records.len() {
            self.records.resize(index + 1, None);
        }
        self.records.get_mut(index)
    }
}

enum Arrival {
    InOrder,
    Late,
    Again,
}

impl Member {
    fn take(&mut self, offset: u64) -> Arrival {
        if offset == self.next && self.first != NONE {
            self.next += 1;
            return Arrival::InOrder;
        }
        if self.first == NONE {
            self.first = offset;
            self.next = offset + 1;
            return Arrival::InOrder;
        }
        if offset > self.next {
            self.missing.push(self.next..offset);
            self.next = offset + 1;
            return Arrival::InOrder;
        }
        if offset < self.first {
            self.missing.push(offset + 1..self.first);
            self.first = offset;
            return Arrival::Late;
        }
        let Some(index) = self.missing.iter().position(|range| range.contains(&offset)) else { return Arrival::Again };
        let hole = self.missing.swap_remove(index);
        for part in [hole.start..offset, offset + 1..hole.end] {
            if !part.is_empty() {
                self.missing.push(part);
            }
        }
        Arrival::Late
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
