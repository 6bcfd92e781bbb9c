//! What members of documents' rooms are told: each edition as the channel brings it, and what it has not brought.
//!
//! ```text
//!   edition after what was told last         told
//!   one of before                            known
//!   one is missing between them              read, and told as one update
//!   none comes of what a request has seen    the same, after a while
//!   the channel was away                     every document that is open is read
//! ```

use super::{NOTHING, Reading, Request, Shared, Stage, Told, Wish};
use crate::base::{limit, time::Duration};
use crate::shard::count::Count;
use crate::shard::document::{Document, encode};
use crate::shard::encode::Outgoing;
use crate::shard::history::Epoch;
use crate::shard::relay::{self, document::Act};
use crate::shard::tenant::TenantKey;
use crate::shard::{Shard, Timer};
use crate::wire::envelope::{Body, Edition, Origin, Word};
use std::rc::Rc;

impl Shard {
    /// A number for who begins to wait for word, and somebody who looks when that has not come.
    pub(super) fn next_patience(&mut self, key: TenantKey, id: &Rc<str>) -> u64 {
        let until = self.now.at + limit::DOCUMENT_WORD_PATIENCE;
        let Some(stream) = &mut self.tenants[key].stream else { return 0 };
        let desk = &mut stream.documents;
        desk.number += 1;
        desk.patience.push_back((until, id.clone(), desk.number));
        if !std::mem::replace(&mut desk.is_timed, true) {
            self.timers.arm(until, Timer::Documents(key));
        }
        desk.number
    }

    pub(in crate::shard) fn documents_timer(&mut self, key: TenantKey) {
        let now = self.now.at;
        loop {
            let Some(stream) = self.tenants.get_mut(key).and_then(|tenant| tenant.stream.as_mut()) else { return };
            let desk = &mut stream.documents;
            let Some((until, id, number)) = desk.patience.pop_front() else {
                desk.is_timed = false;
                break;
            };
            let is_waiting =
                |shared: &&mut Shared| matches!(&shared.stage, Stage::Waits(waits) if waits.number == number);
            if desk.known.get_mut(&id).filter(is_waiting).is_none() {
                continue;
            }
            if until > now {
                desk.patience.push_front((until, id, number));
                self.timers.arm(until, Timer::Documents(key));
                break;
            }
            self.catch_up_document(key, &id);
        }
        self.end_what_handlers_ended();
    }

    /// Tells members what they have not heard, of the document that the first request has seen.
    pub(super) fn catch_up_document(&mut self, key: TenantKey, id: &Rc<str>) {
        let Some(shared) = self.shared_document(key, id) else { return };
        let Stage::Waits(waits) = &shared.stage else { return };
        let (told, now_is, rule) = (shared.told.unwrap_or(NOTHING), waits.made.reading.told(), shared.rule);
        let (mark, edition) = waits.made.done.edition.clone().unzip();
        let writer = mark.and_then(|mark| shared.writer_of(mark));
        let since = if told.epoch == now_is.epoch { told.version } else { 0 };
        let about = waits.made.reading.document.as_ref();
        let about = about.map(|document| encode::About { id, document, version: now_is.version });
        let args = about.and_then(|about| encode::caught_up(&about, since));
        let room = shared.room.clone();
        match edition.as_deref().map(Body::decode) {
            Some(Ok((origin, Body::Edition(edition)))) if told.is_followed_by(&edition) => {
                self.tell_edition(key, id, origin, &edition);
            }
            _ => {
                if let (Some(args), Some(room)) = (args, self.tenants[key].rooms.get(&*room).copied()) {
                    let name = self.settings.documents.rules[rule].1.update_event.clone();
                    self.send_to(room, &Outgoing { name: &name, args: &args, ..Outgoing::default() }, false, writer);
                }
                if let Some(shared) = self.shared_document(key, id) {
                    if !told.is_after(now_is) {
                        shared.reach(now_is);
                    }
                    shared.has_heard = mark.is_some();
                }
            }
        }
        self.counts.up(Count::StreamRepairs);
        self.look_at_request(key, id);
    }

    /// The first request may have waited for what has just been told; the edition of a write says that it was written, also before its answer
    /// does.
    fn look_at_request(&mut self, key: TenantKey, id: &Rc<str>) {
        let Some(shared) = self.shared_document(key, id) else { return };
        match std::mem::replace(&mut shared.stage, Stage::Asked) {
            Stage::Writes(made) if shared.has_heard => self.document_was_written(key, id, *made),
            Stage::Waits(waits) => {
                let now_is = waits.made.reading.told();
                let is_write = waits.made.done.edition.is_some();
                let is_told = |told: Told| told.is_after(now_is) || (told == now_is && !is_write);
                if shared.has_heard || shared.told.is_none_or(is_told) {
                    self.settle_request(key, id, waits.made);
                } else {
                    shared.stage = Stage::Waits(waits);
                }
            }
            stage => shared.stage = stage,
        }
    }

    /// A word has come of a document.
    pub(in crate::shard::fleet) fn edition(&mut self, key: TenantKey, origin: Origin, edition: &Edition<'_>) {
        let has_open = self.has_open(key, edition.room);
        let rules = &self.settings.documents.rules;
        let Some(rule) = rules.iter().position(|(pattern, _)| pattern.matches(edition.document)) else { return };
        let now = self.now.at;
        let Some(stream) = &mut self.tenants[key].stream else { return };
        let known = &mut stream.documents.known;
        if !has_open && known.get(edition.document).is_none_or(|shared| shared.queue.is_empty()) {
            if let Some(shared) = known.remove(edition.document) {
                stream.documents.drop_copy(shared);
            }
            return;
        }
        let id: Rc<str> =
            known.get_key_value(edition.document).map_or_else(|| edition.document.into(), |(id, _)| id.clone());
        let shared = known.entry(id.clone()).or_insert_with(|| Shared::new(rule, edition.room, now));
        match shared.told {
            _ if !has_open => shared.reach(Told::by(edition)),
            Some(told) if told.is_before(edition) => {
                // One between them has not come.
                shared.missed = Some(Told::by(edition));
                if matches!(shared.stage, Stage::Waits(_)) {
                    self.catch_up_document(key, &id);
                }
                let Some(shared) = self.shared_document(key, &id) else { return };
                match shared.told {
                    Some(told) if told.is_followed_by(edition) => self.tell_edition(key, &id, origin, edition),
                    Some(told) if told.is_before(edition) => {
                        shared.missed = Some(Told::by(edition));
                        if shared.queue.is_empty() {
                            self.check_document(key, &id);
                        }
                    }
                    _ => {}
                }
            }
            Some(told) if !told.is_followed_by(edition) => {}
            Some(_) | None => self.tell_edition(key, &id, origin, edition),
        }
        if !has_open && let Some(shared) = self.shared_document(key, &id) {
            shared.has_heard |= shared.is_of(edition.mark);
        }
        self.look_at_request(key, &id);
        self.end_what_handlers_ended();
    }

    fn tell_edition(&mut self, key: TenantKey, id: &Rc<str>, origin: Origin, edition: &Edition<'_>) {
        let own = origin == self.origin();
        let Some(shared) = self.shared_document(key, id) else { return };
        let writer = shared.writer_of(edition.mark).filter(|_| own);
        shared.has_heard |= own && shared.is_of(edition.mark);
        let now_is = Told::by(edition);
        shared.reach(now_is);
        // What was at hand is not what is there any more.
        if let Some(stream) = &mut self.tenants[key].stream {
            let desk = &mut stream.documents;
            let is_older = |copy: &mut Reading| copy.told() != now_is;
            if let Some(copy) = desk.known.get_mut(id).and_then(|shared| shared.copy.take_if(is_older)) {
                desk.copied -= copy.document.as_ref().map_or(0, Document::weight);
            }
        }
        let Some(room) = self.tenants[key].rooms.get(edition.room).copied() else { return };
        for Word { event, args, others } in &edition.words {
            let except = writer.filter(|_| *others);
            self.send_to(room, &Outgoing { name: event, args, ..Outgoing::default() }, false, except);
        }
    }

    /// Reads what members may not have been told of.
    pub(super) fn check_document(&mut self, key: TenantKey, id: &Rc<str>) {
        self.enqueue(key, id, Request { wish: Wish::Check, asker: None, bytes: 0 });
    }

    /// Words may have been missed of any document that somebody here has open.
    pub(in crate::shard::fleet) fn check_documents(&mut self, key: TenantKey) {
        let Some(stream) = self.tenants.get(key).and_then(|tenant| tenant.stream.as_ref()) else { return };
        let idle = stream.documents.known.iter().filter(|(_, shared)| shared.queue.is_empty() && shared.told.is_some());
        let idle: Vec<(Rc<str>, Rc<str>)> = idle.map(|(id, shared)| (id.clone(), shared.room.clone())).collect();
        for (id, room) in idle {
            if self.has_open(key, &room) {
                self.check_document(key, &id);
            }
        }
    }

    /// Keeps what somebody here has open, and lets go of the rest.
    pub(in crate::shard::fleet) fn keep_documents(&mut self, key: TenantKey) {
        let now = self.now.at;
        let Shard { settings, tenants, rooms, .. } = self;
        let tenant = &mut tenants[key];
        let Some(stream) = &mut tenant.stream else { return };
        let desk = &mut stream.documents;
        let mut open = Vec::new();
        let mut closed = Vec::new();
        for (id, shared) in &mut desk.known {
            let room = tenant.rooms.get(&*shared.room);
            if room.is_some_and(|room| !rooms[*room].members.is_empty()) {
                let kept = settings.documents.rules[shared.rule].1.kept;
                if shared.kept_at + kept / 4 <= now {
                    shared.kept_at = now;
                    open.push((Box::from(&**id), kept * 2));
                }
            } else if shared.queue.is_empty() {
                closed.push(id.clone());
            }
        }
        for id in closed {
            if let Some(shared) = desk.known.remove(&id) {
                desk.drop_copy(shared);
            }
        }
        let mut open: &[(Box<str>, Duration)] = &open;
        while !open.is_empty() {
            let (some, rest) = open.split_at(open.len().min(limit::REFRESH_BATCH_MAX));
            self.share(key, relay::Act::Document(Act::Keep { documents: some.to_vec() }));
            open = rest;
        }
    }
}

impl Told {
    pub(super) fn by(edition: &Edition<'_>) -> Told {
        Told { epoch: Epoch(edition.epoch), version: edition.version }
    }

    /// Of the same life, and later.
    pub(super) fn is_after(self, other: Told) -> bool {
        self.epoch == other.epoch && self.version > other.version
    }

    pub(super) fn of(document: &Document) -> Told {
        Told { epoch: document.epoch, version: document.version() }
    }

    /// What a node had of an edition's life before it.
    fn in_life_of(self, edition: &Edition<'_>) -> u64 {
        if self.epoch.0 == edition.epoch { self.version } else { 0 }
    }

    /// Another one is between them.
    fn is_before(self, edition: &Edition<'_>) -> bool {
        edition.before.is_some_and(|before| before > self.in_life_of(edition))
    }

    /// Nothing is between them, and it is new: another version, or what is said of one.
    fn is_followed_by(self, edition: &Edition<'_>) -> bool {
        match edition.before {
            Some(before) => before == self.in_life_of(edition),
            None => self.epoch.0 != edition.epoch,
        }
    }
}
