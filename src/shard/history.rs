//! What a room remembers: a ring of its last events, bounded in number, age and bytes.
//!
//! Invariants: offsets rise by one within an epoch; `recover` answers with everything after a position or says why it cannot; an event
//! leaves the ring only from its old end.

use crate::base::limit::HISTORY_ROOM_BYTES_MAX;
use crate::base::time::{Duration, Instant};
use crate::wire::adapter::streams::Offset;
use crate::wire::auth::{Pattern, Rights};
use std::collections::VecDeque;
use std::rc::Rc;

/// The life of a history, written as base 36. A new one says that what came before is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn parse(text: &str) -> Option<Epoch> {
        (text.len() <= 13 && !text.starts_with('+')).then(|| u64::from_str_radix(text, 36).ok().map(Epoch))?
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_base36(f, self.0)
    }
}

fn write_base36(f: &mut std::fmt::Formatter<'_>, mut number: u64) -> std::fmt::Result {
    let mut digits = [0u8; 13];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
        if number == 0 {
            return f.write_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
        }
    }
}

/// A place in a tenant's stream of events over all its rooms: what Socket.IO's recovery calls the offset. Written `<epoch>-<sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub epoch: Epoch,
    pub sequence: u64,
    pub token: Token,
}

/// What a client of Socket.IO keeps of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The position itself.
    Own,
    /// The row of the stream that is shared with servers of another make.
    Row(Offset),
    /// Nothing: what it keeps already goes on to count.
    Unmoved,
}

impl Position {
    pub fn new(epoch: Epoch, sequence: u64) -> Position {
        Position { epoch, sequence, token: Token::Own }
    }

    pub fn parse(text: &str) -> Option<Position> {
        let (epoch, sequence) = text.split_once('-')?;
        Some(Position::new(Epoch::parse(epoch)?, Epoch::parse(sequence)?.0))
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-", self.epoch)?;
        write_base36(f, self.sequence)
    }
}

/// One event as it was published.
#[derive(Debug)]
pub struct Event {
    /// Its type: the name under which clients receive it.
    pub name: Box<str>,
    /// JSON.
    pub data: Box<str>,
    /// The envelope without `data`, a JSON object; empty for an ephemeral event.
    pub meta: Box<str>,
    pub entity: Option<(Box<str>, Box<str>)>,
    /// Who may receive it; `None`: every member.
    pub audience: Option<Box<Audience>>,
}

/// Members with one of these roles and one of these permissions; an empty list asks for nothing.
#[derive(Clone, Debug)]
pub struct Audience {
    pub roles: Box<[Box<str>]>,
    pub permissions: Box<[Box<str>]>,
    /// Who has to admit a member, too: a publisher narrows what the catalogue says, and never widens it.
    pub within: Option<Box<Audience>>,
}

impl Audience {
    pub fn admits(&self, rights: &Rights) -> bool {
        self.within.as_ref().is_none_or(|within| within.admits(rights))
            && (self.roles.is_empty() || self.roles.iter().any(|role| rights.has_role(role)))
            && (self.permissions.is_empty()
                || self.permissions.iter().any(|permission| rights.has_permission(permission)))
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub offset: u64,
    /// Place in the tenant's stream.
    pub sequence: u64,
    pub at: Instant,
    pub event: Rc<Event>,
}

/// How much a room remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub events: u32,
    pub ttl: Duration,
}

/// How much rooms remember.
#[derive(Clone, Debug)]
pub struct HistorySettings {
    pub default: Retention,
    /// The first pattern that fits a room's name decides.
    pub rooms: Vec<(Pattern, Retention)>,
}

impl Default for HistorySettings {
    fn default() -> HistorySettings {
        HistorySettings { default: Retention { events: 100, ttl: Duration::from_secs(300) }, rooms: Vec::new() }
    }
}

impl HistorySettings {
    pub(super) fn of(&self, room: &str) -> Retention {
        self.rooms.iter().find(|(pattern, _)| pattern.matches(room)).map_or(self.default, |(_, keep)| *keep)
    }
}

/// Why missed events cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The history the position is of was lost.
    EpochChanged,
    /// The oldest missed events are no longer kept.
    Expired,
    /// The position is ahead of the room: not one of this room.
    OffsetUnknown,
    /// The store that has them is away.
    Unavailable,
}

impl Gap {
    pub fn code(self) -> &'static str {
        match self {
            Gap::EpochChanged => "epoch_changed",
            Gap::Expired => "history_expired",
            Gap::OffsetUnknown => "offset_unknown",
            Gap::Unavailable => "backplane_unavailable",
        }
    }
}

#[derive(Debug)]
pub struct History {
    epoch: Epoch,
    /// Offset of the newest event, 0 before the first.
    top: u64,
    /// Sequence of the newest event that has left the ring, 0 if none has.
    lost: u64,
    ring: VecDeque<Entry>,
    /// Bytes of the events in the ring.
    bytes: usize,
    /// What came before is known to be lost, not only not here.
    filled: bool,
}

impl Event {
    /// The same event with one more member in its envelope.
    pub fn marked(&self, name: &str, value: impl std::fmt::Display) -> Event {
        Event {
            name: self.name.clone(),
            data: self.data.clone(),
            meta: format!("{},\"{name}\":{value}}}", self.meta.strip_suffix('}').unwrap_or("{")).into(),
            entity: None,
            audience: None,
        }
    }

    /// What it costs to remember, without the containers' own.
    pub fn bytes(&self) -> usize {
        self.name.len() + self.data.len() + self.meta.len()
    }
}

impl History {
    pub fn new(epoch: Epoch) -> History {
        History { epoch, top: 0, lost: 0, ring: VecDeque::new(), bytes: 0, filled: true }
    }

    /// One whose events, up to this offset and this sequence, are elsewhere: until it is [filled](Self::fill).
    pub fn headed(epoch: Epoch, top: u64, sequence: u64) -> History {
        History { epoch, top, lost: sequence, ring: VecDeque::new(), bytes: 0, filled: false }
    }

    /// Whether all is here that there is.
    pub fn is_filled(&self) -> bool {
        self.filled
    }

    /// The offset of the oldest event here, or of the next where there is none.
    pub fn first_offset(&self) -> u64 {
        self.ring.front().map_or(self.top + 1, |oldest| oldest.offset)
    }

    /// Puts in front what came before the oldest event here, oldest first. `lost`: the sequence up to which events may be lost for good.
    pub fn fill(&mut self, older: Vec<Entry>, lost: u64) {
        self.filled = true;
        let Some(newest) = older.last() else {
            // Nothing of it is left: what is here begins where it begins.
            if self.top == 0 || self.ring.is_empty() {
                self.lost = self.lost.max(lost);
            }
            return;
        };
        if newest.offset + 1 != self.first_offset() {
            // They do not reach what is here: there is a hole, and nothing before it is of use.
            return;
        }
        self.lost = lost;
        for entry in older.into_iter().rev() {
            self.bytes += entry.event.bytes();
            self.ring.push_front(entry);
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn top(&self) -> u64 {
        self.top
    }

    /// Sequence of the newest event there ever was, 0 if none.
    pub fn newest_sequence(&self) -> u64 {
        self.ring.back().map_or(self.lost, |entry| entry.sequence)
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The offset the next event gets: its envelope has to name it before it is made.
    pub fn next_offset(&self) -> u64 {
        self.top + 1
    }

    pub fn append(&mut self, now: Instant, sequence: u64, event: Rc<Event>, keep: Retention) -> u64 {
        assert!(sequence > self.newest_sequence(), "a tenant's sequence rises");
        self.top += 1;
        self.bytes += event.bytes();
        self.ring.push_back(Entry { offset: self.top, sequence, at: now, event });
        self.expire(now, keep);
        self.top
    }

    /// Lets go of what is too old or too much.
    pub fn expire(&mut self, now: Instant, keep: Retention) {
        while let Some(oldest) = self.ring.front() {
            let few = self.ring.len() <= keep.events as usize && self.bytes <= HISTORY_ROOM_BYTES_MAX;
            if few && now.since(oldest.at) <= keep.ttl {
                break;
            }
            self.lost = oldest.sequence;
            self.bytes -= oldest.event.bytes();
            self.ring.pop_front();
        }
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
    }

    /// Everything after `offset` of `epoch`, oldest first.
    pub fn recover(&self, epoch: Epoch, offset: u64) -> Result<impl Iterator<Item = &Entry>, Gap> {
        if epoch != self.epoch {
            return Err(Gap::EpochChanged);
        }
        let missed = self.top.checked_sub(offset).ok_or(Gap::OffsetUnknown)?;
        if missed > self.ring.len() as u64 {
            return Err(Gap::Expired);
        }
        Ok(self.ring.iter().skip(self.ring.len() - missed as usize))
    }

    /// Everything after `sequence` of the tenant's stream, oldest first.
    pub fn recover_sequence(&self, sequence: u64) -> Result<impl Iterator<Item = &Entry>, Gap> {
        if self.lost > sequence {
            return Err(Gap::Expired);
        }
        let kept = self.ring.partition_point(|entry| entry.sequence <= sequence);
        Ok(self.ring.iter().skip(kept))
    }

    /// All that is kept, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.ring.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Rc<Event> {
        Rc::new(Event { name: "e".into(), data: "1".into(), meta: "{}".into(), entity: None, audience: None })
    }

    const KEEP: Retention = Retention { events: 3, ttl: Duration::from_secs(10) };

    #[test]
    fn a_position_is_met_exactly_or_refused() {
        let mut history = History::new(Epoch(9));
        for n in 1..=5 {
            assert_eq!(history.append(Instant(n), n * 10, event(), KEEP), n);
        }
        let offsets =
            |from: u64| history.recover(Epoch(9), from).map(|entries| entries.map(|e| e.offset).collect::<Vec<_>>());
        for (from, want) in [
            (5, Ok(vec![])),
            (4, Ok(vec![5])),
            (2, Ok(vec![3, 4, 5])),
            (1, Err(Gap::Expired)),
            (6, Err(Gap::OffsetUnknown)),
        ] {
            assert_eq!(offsets(from), want, "since {from}");
        }
        assert_eq!(history.recover(Epoch(8), 5).err(), Some(Gap::EpochChanged));
        let sequences =
            |from: u64| history.recover_sequence(from).map(|entries| entries.map(|e| e.offset).collect::<Vec<_>>());
        for (from, want) in
            [(50, Ok(vec![])), (49, Ok(vec![5])), (20, Ok(vec![3, 4, 5])), (19, Err(Gap::Expired)), (99, Ok(vec![]))]
        {
            assert_eq!(sequences(from), want, "sequence {from}");
        }
    }

    #[test]
    fn age_empties_the_ring_but_not_the_count() {
        let mut history = History::new(Epoch(1));
        history.append(Instant(0), 1, event(), KEEP);
        history.expire(Instant(0) + Duration::from_secs(11), KEEP);
        assert!(history.is_empty());
        assert_eq!((history.top(), history.newest_sequence()), (1, 1));
        assert_eq!(history.recover(Epoch(1), 1).map(|entries| entries.count()), Ok(0), "a quiet room has no gap");
        assert_eq!(history.recover(Epoch(1), 0).err(), Some(Gap::Expired));
    }

    #[test]
    fn large_events_leave_early() {
        let keep = Retention { events: 100, ttl: Duration::from_secs(10) };
        let mut history = History::new(Epoch(1));
        let large = || {
            Rc::new(Event {
                data: "x".repeat(1 << 20).into(),
                ..Event { name: "e".into(), data: "".into(), meta: "".into(), entity: None, audience: None }
            })
        };
        for n in 1..=20 {
            history.append(Instant(n), n, large(), keep);
        }
        assert_eq!(history.entries().count(), 7, "8 MiB hold 7 events of 1 MiB and a name");
        assert_eq!(history.recover(Epoch(1), 12).err(), Some(Gap::Expired), "and the gap shows");
        assert_eq!(history.recover(Epoch(1), 13).map(|entries| entries.count()), Ok(7));
    }

    #[test]
    fn positions_read_back() {
        for (epoch, sequence) in [(0, 0), (35, 36), (u64::MAX, u64::MAX)] {
            let position = Position::new(Epoch(epoch), sequence);
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        for bad in ["", "-", "1", "1-", "-1", "+1-1", "1-1-1", "zzzzzzzzzzzzzz-1", "a b-1", "é-1"] {
            assert_eq!(Position::parse(bad), None, "{bad:?}");
        }
    }
}
