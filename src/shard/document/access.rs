//! Documents as sockets have them: who may, who is told, when one is forgotten. They live in their tenant, on its home shard.
//!
//! Invariants: whoever has a document open (is in its room) is told of each of its versions once, in their order, and never less because it
//! reads slowly: it is closed first. A document is forgotten only when nobody has had it open for as long as its rule says.

use super::encode::{self, About};
use super::{Document, DocumentRule, Outcome, Stamp, Strategy, Update};
use crate::base::{
    chance::{Chance, Map},
    limit,
    slab::Key,
    time::{Instant, UnixMs},
};
use crate::profile::room::Access;
use crate::shard::Shard;
use crate::shard::app::Context;
use crate::shard::count::Count;
use crate::shard::encode::Outgoing;
use crate::shard::history::Epoch;
use crate::shard::refusal::Refusal;
use crate::shard::tenant::{Tenant, TenantKey};
use std::borrow::Cow;
use std::rc::Rc;

/// A tenant's documents; never empty.
pub struct Documents {
    known: Map<Rc<str>, Document>,
    weight: usize,
}

/// A client's update or decision, as it came.
pub struct Edit<'a> {
    pub base: u64,
    pub epoch: Option<Epoch>,
    /// As in [`Update::fields`].
    pub fields: Vec<(Cow<'a, str>, &'a str)>,
    /// None: now.
    pub at: Option<UnixMs>,
    /// The same fields and time as they were written: who sends them again sends the same.
    pub raw: (&'a str, &'a str),
}

/// A document as a client knows it that the server may not know.
pub struct Known<'a> {
    pub version: u64,
    pub fields: Vec<(Cow<'a, str>, &'a str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    Update,
    Resolve,
}

pub enum Whom {
    /// All who have it open but the writer.
    Others,
    All,
    /// The writer, who may not have it open.
    Writer,
    AllAndWriter,
}

/// What is said of a write: to its writer, and to whom else.
pub struct Tidings {
    pub answer: String,
    pub events: Vec<(Box<str>, String, Whom)>,
    /// It was not done as it was wanted.
    pub refused: bool,
}

impl Tidings {
    pub fn of(
        rule: &DocumentRule,
        deed: Deed,
        update: &Update<'_>,
        id: &str,
        document: &Document,
        outcome: &Outcome,
    ) -> Tidings {
        let about = About { id, document, version: outcome.version };
        let refused = match &outcome.clash {
            None => false,
            Some(clash) if deed == Deed::Update => clash.strategy != Strategy::LastWriteWins,
            Some(_) => outcome.written.is_empty(),
        };
        let answer = encode::answer(&about, update.base, outcome, refused);
        let mut events: Vec<(Box<str>, String, Whom)> = Vec::new();
        if !outcome.written.is_empty() {
            events.push((rule.update_event.clone(), encode::updated(&about, update, outcome), Whom::Others));
        }
        if let Some(clash) = outcome.clash.as_ref().filter(|_| !outcome.again) {
            let args = encode::clashed(&about, update, clash, &outcome.closed);
            let (conflict, resolved) = match (deed, clash.strategy) {
                (Deed::Update, Strategy::LastWriteWins) => (Some(Whom::Writer), Some(Whom::All)),
                (Deed::Update, Strategy::Manual) => (Some(Whom::AllAndWriter), None),
                (Deed::Resolve, _) if !refused => (None, Some(Whom::All)),
                (Deed::Update, Strategy::Reject) | (Deed::Resolve, _) => (Some(Whom::Writer), None),
            };
            let conflict = conflict.map(|whom| ("document:conflict".into(), args.clone(), whom));
            let resolved = resolved.map(|whom| ("conflict:resolved".into(), args, whom));
            events.extend(conflict.into_iter().chain(resolved));
        }
        Tidings { answer, events, refused }
    }
}

impl Documents {
    fn new(tenant: &Tenant) -> Box<Documents> {
        Box::new(Documents { known: Map::with_hasher(tenant.rooms.hasher().clone()), weight: 0 })
    }

    fn check_room_for(&self, bytes: usize) -> Result<(), Refusal> {
        let full = self.weight + bytes > limit::DOCUMENTS_BYTES_MAX;
        if full { Err(Refusal::TooManyDocuments) } else { Ok(()) }
    }

    fn add(&mut self, id: &str, document: Document) -> Result<(), Refusal> {
        self.check_room_for(document.weight())?;
        if self.known.len() >= limit::DOCUMENTS_MAX {
            return Err(Refusal::TooManyDocuments);
        }
        self.weight += document.weight();
        self.known.insert(id.into(), document);
        Ok(())
    }

    fn write(
        &mut self,
        id: &str,
        rule: &DocumentRule,
        deed: Deed,
        update: &Update<'_>,
        now: Instant,
        chance: &mut Chance,
    ) -> Result<Outcome, Refusal> {
        let bytes = update.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.check_room_for(bytes)?;
        let Some(document) = self.known.get_mut(id) else {
            if deed == Deed::Resolve || update.base > 0 || update.epoch.is_some() {
                return Err(Refusal::UnknownDocument);
            }
            let mut document = Document::new(new_epoch(chance), 0, [], now);
            let outcome = document.update(rule, update)?;
            return self.add(id, document).map(|()| outcome);
        };
        let before = document.weight();
        document.touch(now);
        let outcome = match deed {
            Deed::Update => document.update(rule, update),
            Deed::Resolve => document.resolve(rule, update),
        };
        self.weight = self.weight - before + document.weight();
        outcome
    }
}

fn new_epoch(chance: &mut Chance) -> Epoch {
    Epoch(chance.u64() >> 16)
}

impl Context<'_> {
    /// The rule of a document, by its place, and the document's room.
    fn place_of(&self, id: &str) -> Result<(usize, String), Refusal> {
        let rules = &self.shard.settings.documents.rules;
        if rules.is_empty() {
            return Err(Refusal::Unavailable("documents_unavailable"));
        }
        if !is_name(id) {
            return Err(Refusal::InvalidArgument("a document's id is 1 to 256 bytes without control characters"));
        }
        let rule = rules.iter().position(|(pattern, _)| pattern.matches(id)).ok_or(Refusal::UnknownDocument)?;
        let room = rules[rule].1.room_of(id);
        self.check_room_name(&room)?;
        Ok((rule, room))
    }

    /// As [`place_of`](Self::place_of), for who may have it open. Whom only the backend can let in has to open it first.
    pub(in crate::shard) fn enter(&self, id: &str) -> Result<(usize, String), Refusal> {
        let (rule, room) = self.place_of(id)?;
        let may = self.is_in(&room) || self.access(&room) == Access::Granted;
        if may { Ok((rule, room)) } else { Err(Refusal::Forbidden) }
    }

    /// The room about which the backend is asked before this socket may open the document.
    pub(in crate::shard) fn asks_to_open(&self, id: &str) -> Result<Option<String>, Refusal> {
        let (_, room) = self.place_of(id)?;
        let asks = !self.is_in(&room) && self.access(&room) == Access::AskBackend;
        Ok(asks.then_some(room))
    }

    fn document(&self, id: &str) -> Option<&Document> {
        self.shard.tenants[self.shard.tenant_of(self.socket)].documents.as_ref()?.known.get(id)
    }

    fn about<'a>(&'a self, id: &'a str) -> Option<About<'a>> {
        self.document(id).map(|document| About { id, document, version: document.version() })
    }

    /// A document as it is now.
    pub(in crate::shard) fn read_document(&self, id: &str) -> Result<String, Refusal> {
        self.enter(id)?;
        self.about(id).map(|about| encode::whole(&about)).ok_or(Refusal::UnknownDocument)
    }

    /// Has a document open from now on: in its room, and told what it is. One that the server does not know becomes the client's copy.
    pub(in crate::shard) fn open_document(&mut self, id: &str, copy: Option<Known<'_>>) -> Result<String, Refusal> {
        let (rule, room) = self.enter(id)?;
        if !self.is_in(&room) {
            self.join(&room)?;
        }
        let (tenant, now) = (self.shard.tenant_of(self.socket), self.shard.now.at);
        let documents = self.shard.tenants[tenant].documents.as_mut();
        match (documents.and_then(|documents| documents.known.get_mut(id)), copy) {
            (Some(document), _) => document.touch(now),
            (None, Some(copy)) => self.adopt(id, rule, &copy)?,
            (None, None) => {}
        }
        Ok(self.about(id).map_or_else(|| encode::nothing(id), |about| encode::whole(&about)))
    }

    fn adopt(&mut self, id: &str, rule: usize, copy: &Known<'_>) -> Result<(), Refusal> {
        let tenant = self.shard.tenant_of(self.socket);
        let Shard { settings, tenants, chance, counts, now, .. } = &mut *self.shard;
        let fields = copy.fields.iter().map(|(name, value)| (&**name, *value));
        let document = Document::new(new_epoch(chance), copy.version, fields, now.at);
        if document.is_too_large(&settings.documents.rules[rule].1) {
            return Err(Refusal::DocumentTooLarge);
        }
        let mut documents = tenants[tenant].documents.take().unwrap_or_else(|| Documents::new(&tenants[tenant]));
        let added = documents.add(id, document);
        tenants[tenant].documents = (!documents.known.is_empty()).then_some(documents);
        added?;
        counts.up(Count::Documents);
        self.shard.tend_tenant(tenant);
        Ok(())
    }

    pub(in crate::shard) fn close_document(&mut self, id: &str) -> Result<(), Refusal> {
        let (_, room) = self.enter(id)?;
        self.leave(&room);
        Ok(())
    }

    /// Writes to a document, or decides its conflicts; tells whoever is to know, and answers.
    pub(in crate::shard) fn write_document(&mut self, id: &str, deed: Deed, edit: Edit<'_>) -> Result<String, Refusal> {
        let (place, room) = self.enter(id)?;
        let tenant = self.shard.tenant_of(self.socket);
        self.shard.pace_tenant(tenant)?;
        let user: Rc<str> = (*self.identity().user).into();
        let Shard { settings, tenants, chance, now, .. } = &mut *self.shard;
        let rule = &settings.documents.rules[place].1;
        let Edit { base, epoch, fields, at, raw } = edit;
        let key = tenants[tenant].rooms.hasher().hash_one((deed, &*user, base, raw));
        let stamp = Stamp::new(at, user, now.unix);
        let writer = u64::from(self.socket.index()) << 32 | u64::from(self.socket.generation());
        let update = Update { base, epoch, fields, stamp, writer, key };
        let mut documents = tenants[tenant].documents.take().unwrap_or_else(|| Documents::new(&tenants[tenant]));
        let count = documents.known.len();
        let outcome = documents.write(id, rule, deed, &update, now.at, chance);
        let is_new = documents.known.len() > count;
        tenants[tenant].documents = (!documents.known.is_empty()).then_some(documents);
        if is_new {
            self.shard.counts.up(Count::Documents);
            self.shard.tend_tenant(tenant);
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal @ (Refusal::VersionTooOld | Refusal::VersionUnknown)) if self.wants_ack() => {
                return self.about(id).map(|about| encode::rebase(&about, &refusal)).ok_or(Refusal::UnknownDocument);
            }
            Err(refusal) => return Err(refusal),
        };
        let Some(document) = self.document(id) else { return Err(Refusal::UnknownDocument) };
        let rule = &self.shard.settings.documents.rules[place].1;
        let Tidings { answer, events, refused: _ } = Tidings::of(rule, deed, &update, id, document, &outcome);
        if outcome.clash.is_some() && !outcome.again {
            self.shard.counts.up(Count::DocumentConflicts);
        }
        if !outcome.written.is_empty() {
            self.shard.counts.up(Count::DocumentVersions);
        }
        for (event, args, whom) in events {
            self.tell(&room, &event, &args, &whom);
        }
        Ok(answer)
    }

    fn tell(&mut self, room: &str, event: &str, args: &str, whom: &Whom) {
        let outside = !self.is_in(room);
        if let Some(room) = self.shard.room_key(self.socket, room)
            && !matches!(whom, Whom::Writer)
        {
            let except = matches!(whom, Whom::Others).then_some(self.socket);
            self.shard.send_to(room, &Outgoing { name: event, args, ..Outgoing::default() }, false, except);
        }
        if matches!(whom, Whom::Writer) || (outside && matches!(whom, Whom::AllAndWriter)) {
            self.emit(event, args);
        }
    }
}

impl Shard {
    /// Forgets the documents of a tenant that nobody has had open for long.
    pub(in crate::shard) fn sweep_documents(&mut self, key: TenantKey) {
        let Shard { settings, tenants, rooms, counts, now, .. } = self;
        let Tenant { documents, rooms: names, .. } = &mut tenants[key];
        let Some(Documents { known, weight }) = documents.as_deref_mut() else { return };
        known.retain(|id, document| {
            let Some((_, rule)) = settings.documents.rules.iter().find(|(pattern, _)| pattern.matches(id)) else {
                return true;
            };
            let is_open = || names.get(&*rule.room_of(id)).is_some_and(|room| !rooms[*room].members.is_empty());
            let over = document.is_over(now.at, rule, is_open);
            if over {
                *weight -= document.weight();
                counts.down(Count::Documents);
            }
            !over
        });
        if known.is_empty() {
            debug_assert_eq!(*weight, 0, "what is gone weighs nothing");
            *documents = None;
        }
    }
}

/// What may name a document or a field of one.
pub fn is_name(text: &str) -> bool {
    (1..=limit::DOCUMENT_NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}
