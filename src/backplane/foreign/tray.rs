//! What this node's shards have for the fleet's other servers, on its way to who tells them.
//!
//! Invariant: bounded by [`FLEET_TOLD_BYTES_MAX`]; what does not fit is dropped, and who put it there counts it.

use super::past::Ask;
use crate::backplane::{command::Done, count::Count, journal::Job, run::Core};
use crate::base::{
    id::{ShardId, TenantId},
    limit::FLEET_TOLD_BYTES_MAX,
};
use crate::shard::foreign::Answer;
use crate::shard::relay::{Report, Ticket};
use crate::wire::envelope::Place;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

#[derive(Debug)]
pub enum Word {
    Answer {
        from: ShardId,
        ticket: Ticket,
        answer: Box<Answer>,
    },
    /// A room has come to be here, or is no more.
    Room {
        tenant: TenantId,
        room: Box<str>,
        is_here: bool,
    },
    Missed(Ask),
    /// A body of [`envelope`](crate::wire::envelope); with its place, where it has one.
    Event {
        tenant: TenantId,
        body: Box<[u8]>,
        place: Option<Place>,
    },
}

/// Both ends run on one thread, so nobody ever waits for the lock.
#[derive(Default)]
pub struct Tray {
    queue: Mutex<Queue>,
    notify: Notify,
    /// Events of ours are told, too: a fleet is configured, and not emitters alone.
    is_outward: bool,
}

#[derive(Default)]
struct Queue {
    words: VecDeque<Word>,
    bytes: usize,
    is_ended: bool,
}

impl Tray {
    pub fn new(is_outward: bool) -> Tray {
        Tray { is_outward, ..Tray::default() }
    }

    pub fn is_outward(&self) -> bool {
        self.is_outward
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: there is no room.
    pub fn put(&self, word: Word) -> bool {
        let mut queue = self.queue();
        let bytes = size_of::<Word>()
            + match &word {
                Word::Answer { answer, .. } => answer.bytes(),
                Word::Room { room, .. } => room.len(),
                Word::Missed(ask) => ask.wanted.bytes(),
                Word::Event { body, .. } => body.len(),
            };
        // Which rooms are here is bounded by the rooms that are.
        if queue.bytes + bytes > FLEET_TOLD_BYTES_MAX && !matches!(word, Word::Room { .. }) {
            return false;
        }
        queue.bytes += bytes;
        queue.words.push_back(word);
        self.notify.notify_one();
        true
    }

    pub fn take(&self) -> VecDeque<Word> {
        let mut queue = self.queue();
        queue.bytes = 0;
        std::mem::take(&mut queue.words)
    }

    /// Nothing comes any more.
    pub fn end(&self) {
        self.queue().is_ended = true;
        self.notify.notify_one();
    }

    pub fn is_ended(&self) -> bool {
        self.queue().is_ended
    }

    pub fn is_empty(&self) -> bool {
        self.queue().words.is_empty()
    }

    /// Returns when something may have been put there, or it has ended.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}

impl Core {
    pub(in crate::backplane) fn put(&self, word: Word) {
        if self.tray.as_ref().is_some_and(|tray| !tray.put(word)) {
            self.count(Count::ForeignDropped);
        }
    }

    /// False: nobody looks for it.
    pub(in crate::backplane) fn put_ask(&self, ask: Ask) -> bool {
        self.tray.as_ref().is_some_and(|tray| tray.put(Word::Missed(ask)))
    }

    /// Tells servers of other makes what was published here.
    pub(in crate::backplane) fn tell_fleet(&self, tenant: &TenantId, body: &[u8], place: Option<Place>) {
        if self.tray.as_ref().is_some_and(|tray| tray.is_outward()) {
            self.put(Word::Event { tenant: tenant.clone(), body: body.into(), place });
        }
    }

    /// As [`tell_fleet`](Self::tell_fleet), of a durable event that has its place: by the node where it was published, and not again where it was
    /// published again.
    pub(in crate::backplane) fn tell_placed(&self, job: &Job, done: &Done) {
        if self.outward.is_some() {
            // The store's script has.
            return;
        }
        let Job::Append { tenant, append, .. } = job else { return };
        let Done::Answer { report: Report::Appended { result: Ok(at), .. }, .. } = done else { return };
        if !at.known {
            // The tenant's epoch is of no matter to clients: a room's place is what they are told.
            let place = Place { epoch: 0, sequence: at.sequence, room_epoch: at.room_epoch.0, offset: at.offset };
            self.tell_fleet(tenant, &append.body, Some(place));
        }
    }
}
