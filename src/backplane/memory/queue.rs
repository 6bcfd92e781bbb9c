//! What waits for users who are not there, over all nodes; and whose senders are told of receipts.
//!
//! Invariants: in a queue sequences rise; `bytes` are the sums over all queues; every entry has a line in `ages`; a queue that is empty is not
//! there.

use super::Room;
use crate::base::{
    limit::{OFFLINE_EVENT_COST, OFFLINE_TENANT_BYTES_MAX, OFFLINE_USER_BYTES_MAX, RECEIPT_USERS_MAX, RECEIPTS_MAX},
    time::{Instant, Now, UnixMs},
};
use crate::shard::{
    history::Epoch,
    receipt::Told,
    relay::{
        Place, Stored,
        queue::{Act, Answer, Entry, Track, Wait, Waiting},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// What a tenant has of it.
#[derive(Default)]
pub struct Store {
    users: BTreeMap<Box<str>, Queue>,
    /// All entries in the order they leave by age.
    ages: BTreeSet<(Instant, u64, Box<str>)>,
    bytes: usize,
    tracked: BTreeMap<Box<str>, Tracked>,
    order: BTreeSet<(Instant, Box<str>)>,
}

#[derive(Default)]
struct Queue {
    entries: BTreeMap<u64, Kept>,
    bytes: usize,
    dropped: u64,
}

struct Kept {
    room_epoch: u64,
    offset: u64,
    at: UnixMs,
    until: Instant,
    in_doubt: bool,
    body: Box<[u8]>,
}

struct Tracked {
    until: Instant,
    sender: Box<str>,
    room: Box<str>,
    /// Of each user what was told last, and by which question.
    told: BTreeMap<Box<str>, (Told, u64)>,
}

impl Kept {
    fn cost(&self) -> usize {
        self.body.len() + OFFLINE_EVENT_COST
    }
}

/// An event that has its place.
pub struct Placed<'a> {
    pub sequence: u64,
    pub room_epoch: u64,
    pub offset: u64,
    pub at: UnixMs,
    pub body: &'a [u8],
}

impl Store {
    pub fn act(&mut self, now: Now, place: Place, rooms: &BTreeMap<Box<str>, Room>, act: Act) -> Answer {
        match act {
            Act::Read { user } => Answer::Waiting(self.read(now, place, &user)),
            Act::Done { epoch, sequences, told } => {
                if epoch == place.epoch {
                    if let Some((user, dropped)) = told
                        && let Some(queue) = self.users.get_mut(&user)
                    {
                        queue.dropped = queue.dropped.saturating_sub(dropped);
                    }
                    for sequence in sequences {
                        self.take(sequence, false);
                    }
                }
                Answer::Nothing
            }
            Act::Keep { epoch, room, sequences, wait } => {
                if epoch == place.epoch {
                    for sequence in sequences {
                        self.keep(now, rooms.get(&room), sequence, &wait);
                    }
                }
                Answer::Nothing
            }
            Act::Tell { user, told, ids, rooms, number } => {
                let known = |id: Box<str>| {
                    let sender = self.news(now, &user, &id, told, rooms.as_deref(), number)?;
                    Some((id, sender))
                };
                Answer::Tell(ids.into_iter().filter_map(known).collect())
            }
        }
    }

    /// An event waits from now on.
    pub fn put(&mut self, now: Now, placed: &Placed<'_>, wait: &Wait, in_doubt: bool) {
        self.expire(now.at);
        let Placed { sequence, room_epoch, offset, at, body } = *placed;
        let until = now.at + wait.ttl;
        let kept = Kept { room_epoch, offset, at, until, in_doubt, body: body.into() };
        let cost = kept.cost();
        let queue = self.users.entry(wait.user.clone()).or_default();
        queue.entries.insert(sequence, kept);
        queue.bytes += cost;
        self.bytes += cost;
        self.ages.insert((until, sequence, wait.user.clone()));
        while let Some(queue) = self.users.get(&wait.user)
            && (queue.entries.len() > wait.per_user.max(1) as usize
                || (queue.bytes > OFFLINE_USER_BYTES_MAX && queue.entries.len() > 1))
            && let Some((&oldest, _)) = queue.entries.first_key_value()
        {
            self.take(oldest, true);
        }
        while self.bytes > OFFLINE_TENANT_BYTES_MAX
            && let Some(&(_, oldest, _)) = self.ages.first()
        {
            self.take(oldest, true);
        }
    }

    fn keep(&mut self, now: Now, room: Option<&Room>, sequence: u64, wait: &Wait) {
        if let Some(kept) = self.users.get_mut(&wait.user).and_then(|queue| queue.entries.get_mut(&sequence)) {
            kept.in_doubt = true;
            return;
        }
        let Some(room) = room.filter(|room| room.until > now.at) else { return };
        if let Some(event) = room.events.iter().find(|event| event.sequence == sequence) {
            let (room_epoch, offset, at) = (room.epoch, event.offset, event.at.unix);
            self.put(now, &Placed { sequence, room_epoch, offset, at, body: &event.body }, wait, true);
        }
    }

    /// Takes an entry out; `dropped`: nobody has got it.
    fn take(&mut self, sequence: u64, dropped: bool) {
        let Some((user, queue)) = self.users.iter_mut().find(|(_, queue)| queue.entries.contains_key(&sequence)) else {
            return;
        };
        let Some(kept) = queue.entries.remove(&sequence) else { return };
        let user = user.clone();
        queue.bytes -= kept.cost();
        self.bytes -= kept.cost();
        queue.dropped += u64::from(dropped);
        let is_empty = queue.entries.is_empty();
        self.ages.remove(&(kept.until, sequence, user.clone()));
        if is_empty {
            self.users.remove(&user);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(until, sequence, _)) = self.ages.first()
            && until <= now
        {
            self.take(sequence, false);
        }
    }

    fn read(&mut self, now: Now, place: Place, user: &str) -> Waiting {
        self.expire(now.at);
        let Some(queue) = self.users.get(user) else {
            return Waiting { place: Some(place), dropped: 0, entries: Vec::new() };
        };
        let entry = |(sequence, kept): (&u64, &Kept)| Entry {
            stored: Stored { sequence: *sequence, offset: kept.offset, at: kept.at, body: kept.body.clone() },
            room_epoch: Epoch(kept.room_epoch),
            left: kept.until.since(now.at),
            in_doubt: kept.in_doubt,
        };
        let entries = queue.entries.iter().map(entry).collect();
        Waiting { place: Some(place), dropped: queue.dropped, entries }
    }

    /// The sender of an event is told who has got it.
    pub fn track(&mut self, now: Now, room: &str, track: Track) {
        while let Some((until, id)) = self.order.first().cloned()
            && (until <= now.at || self.order.len() >= RECEIPTS_MAX)
        {
            self.order.remove(&(until, id.clone()));
            self.tracked.remove(&id);
        }
        let Track { id, sender, ttl } = track;
        let until = now.at + ttl;
        let tracked = Tracked { until, sender, room: room.into(), told: BTreeMap::new() };
        if let Some(before) = self.tracked.insert(id.clone(), tracked) {
            self.order.remove(&(before.until, id.clone()));
        }
        self.order.insert((until, id));
    }

    fn news(
        &mut self,
        now: Now,
        user: &str,
        id: &str,
        told: Told,
        rooms: Option<&[Box<str>]>,
        number: u64,
    ) -> Option<Box<str>> {
        let tracked = self.tracked.get_mut(id).filter(|tracked| tracked.until > now.at)?;
        if *tracked.sender == *user || rooms.is_some_and(|rooms| !rooms.contains(&tracked.room)) {
            return None;
        }
        let is_full = tracked.told.len() >= RECEIPT_USERS_MAX;
        match tracked.told.get_mut(user) {
            Some(before) if *before == (told, number) => {}
            Some((before, _)) if *before >= told => return None,
            Some(before) => *before = (told, number),
            None if is_full => return None,
            None => drop(tracked.told.insert(user.into(), (told, number))),
        }
        Some(tracked.sender.clone())
    }
}
