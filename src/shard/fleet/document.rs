//! Documents among nodes: each lives in the store, and whoever writes to it says what it has read.
//!
//! ```text
//!  request --> the document's queue --> read, or made on the copy at hand --> written, if nobody was faster --> told --> answered
//!                                             ^                                     |                           ^
//!                                             '---------- what is there ------------'                           |
//!  edition, through the tenant's channel, from this node as from any -----------------> members ---------------'
//! ```
//!
//! Invariants: one request of a document is under way on a node, the others wait in their order, which is bounded; members hear of a version
//! from the channel, once and in order, and a request is answered when they have heard what it has seen, so that nobody is told of what it was
//! told before; what does not come through the channel in time is read, and told as one update; whoever waits is answered.

mod word;

use crate::base::{limit, time::Instant};
use crate::shard::Shard;
use crate::shard::app::Context;
use crate::shard::count::Count;
use crate::shard::document::access::{Deed, Edit, Known, Tidings, Whom};
use crate::shard::document::{Document, Stamp, Update, encode, stored};
use crate::shard::history::Epoch;
use crate::shard::refusal::Refusal;
use crate::shard::relay::{self, Unavailable, document::Act, document::Answer, document::Write};
use crate::shard::socket::SocketKey;
use crate::shard::tenant::TenantKey;
use crate::wire::envelope::{Body, Edition, Origin, Word};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// What a node has to do with a tenant's documents: those that somebody here has open, or asks about.
#[derive(Default)]
pub struct Desk {
    known: BTreeMap<Rc<str>, Shared>,
    /// Requests that wait for word, and until when; one whose number is another has it.
    patience: VecDeque<(Instant, Rc<str>, u64)>,
    number: u64,
    is_timed: bool,
    /// Of the requests that wait.
    bytes: usize,
    /// Of the copies.
    copied: usize,
}

struct Shared {
    /// Its rule, by its place, and its room.
    rule: usize,
    room: Rc<str>,
    /// What members here have last been told of; none: nobody knows what they have.
    told: Option<Told>,
    /// What was heard of while a word before it had not come.
    missed: Option<Told>,
    /// What the write that is under way will be.
    writing: Option<Told>,
    copy: Option<Reading>,
    /// The first is under way unless `stage` is idle.
    queue: VecDeque<Request>,
    stage: Stage,
    tries: u32,
    kept_at: Instant,
}

/// A version of one of a document's lives; of no life, where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    epoch: Epoch,
    version: u64,
}

const NOTHING: Told = Told { epoch: Epoch(0), version: 0 };

enum Stage {
    Idle,
    Asked,
    /// It is done, and members are to be told of it.
    Waits(Box<Waits>),
}

struct Waits {
    number: u64,
    reading: Reading,
    done: Done,
}

/// A document, and by what the store knows that it is this one.
struct Reading {
    document: Option<Document>,
    head: Box<[u8]>,
}

/// What came of a request.
#[derive(Default)]
struct Done {
    /// None: it is answered with the document.
    answer: Option<Result<String, Refusal>>,
    /// For the writer alone.
    own: Vec<(Box<str>, String, Whom)>,
    /// What all are told.
    edition: Option<Box<[u8]>>,
}

type Then = Box<dyn FnOnce(&mut Context<'_>, Result<String, Refusal>)>;

struct Request {
    wish: Wish,
    asker: Option<(SocketKey, Option<u64>, Then)>,
    bytes: usize,
}

enum Wish {
    Write(Draft),
    Get,
    /// With what the client has of it.
    Open(Option<(u64, Fields)>),
    /// Whether members have heard of all there is.
    Check,
}

type Fields = Vec<(Box<str>, Box<str>)>;

/// An update that outlives its packet.
struct Draft {
    deed: Deed,
    base: u64,
    epoch: Option<Epoch>,
    fields: Fields,
    stamp: Stamp,
    writer: u64,
    key: u64,
}

impl Draft {
    fn update(&self) -> Update<'_> {
        Update {
            base: self.base,
            epoch: self.epoch,
            fields: self.fields.iter().map(|(name, value)| (Cow::Borrowed(&**name), &**value)).collect(),
            stamp: self.stamp.clone(),
            writer: self.writer,
            key: self.key,
        }
    }
}

impl Shared {
    fn new(rule: usize, room: &str, now: Instant) -> Shared {
        Shared {
            rule,
            room: room.into(),
            told: None,
            missed: None,
            writing: None,
            copy: None,
            queue: VecDeque::new(),
            stage: Stage::Idle,
            tries: 0,
            kept_at: now,
        }
    }

    /// The writer whose write this edition is of, if it is under way.
    fn writer_of(&self, edition: &Edition<'_>) -> Option<SocketKey> {
        let now_is = Told::by(edition);
        // One that was given up, and done all the same, was another version.
        let request =
            self.queue.front().filter(|_| self.writing == Some(now_is) && edition.before != Some(now_is.version))?;
        request.asker.as_ref().map(|(socket, ..)| *socket)
    }

    /// Members have been told of as much.
    fn reach(&mut self, told: Told) {
        self.told = Some(told);
        self.missed = self.missed.filter(|missed| missed.epoch == told.epoch && missed.version > told.version);
    }
}

impl Reading {
    /// What cannot be read is a document that nobody knows; whoever writes it anew says that it has seen that.
    fn of(body: Option<Box<[u8]>>, now: Instant) -> (Reading, bool) {
        let head = stored::head(body.as_deref().unwrap_or_default()).into();
        let document = body.map(|body| Document::decode(&body, now));
        let is_broken = matches!(document, Some(Err(_)));
        (Reading { document: document.and_then(Result::ok), head }, is_broken)
    }

    fn told(&self) -> Told {
        self.document.as_ref().map_or(NOTHING, Told::of)
    }
}

impl Done {
    fn refused(refusal: Refusal) -> Done {
        Done { answer: Some(Err(refusal)), ..Done::default() }
    }
}

/// By which an update is known on every node when it is sent again: FNV-1a, since only who sends both could make two of them one.
fn fingerprint(parts: [&[u8]; 4]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let part = |hash, part: &[u8]| part.len().to_be_bytes().iter().chain(part).fold(hash, fold);
    parts.into_iter().fold(0xcbf2_9ce4_8422_2325, part)
}

fn owned(fields: &[(Cow<'_, str>, &str)]) -> (Fields, usize) {
    let fields: Fields = fields.iter().map(|(name, value)| ((**name).into(), (*value).into())).collect();
    let bytes = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    (fields, bytes)
}

impl Context<'_> {
    pub(in crate::shard) fn is_among_nodes(&self) -> bool {
        self.shard.is_fleet()
    }

    /// As [`write_document`](Self::write_document), among nodes: `then` is told.
    pub(in crate::shard) fn write_shared(
        &mut self,
        id: &str,
        deed: Deed,
        edit: &Edit<'_>,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (rule, room) = self.enter(id)?;
        self.shard.pace_tenant(self.shard.tenant_of(self.socket))?;
        let user: Rc<str> = (*self.identity().user).into();
        let (fields, bytes) = owned(&edit.fields);
        if bytes > self.shard.settings.documents.rules[rule].1.bytes_max {
            // It could never be part of it, and need not wait to be told so.
            return Err(Refusal::DocumentTooLarge);
        }
        let deed_byte = [deed as u8];
        let base = edit.base.to_be_bytes();
        let raw = [edit.raw.0, "\0", edit.raw.1].concat();
        let draft = Draft {
            deed,
            base: edit.base,
            epoch: edit.epoch,
            fields,
            stamp: Stamp::new(edit.at, user.clone(), self.shard.now.unix),
            // A socket that comes back to another node is the same writer.
            writer: fingerprint([self.sid().as_bytes(), b"", b"", b""]),
            key: fingerprint([&deed_byte, user.as_bytes(), &base, raw.as_bytes()]),
        };
        self.request(id, rule, &room, Wish::Write(draft), bytes, then)
    }

    /// As [`read_document`](Self::read_document), among nodes.
    pub(in crate::shard) fn read_shared(
        &mut self,
        id: &str,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (rule, room) = self.enter(id)?;
        self.request(id, rule, &room, Wish::Get, 0, then)
    }

    /// As [`open_document`](Self::open_document), among nodes.
    pub(in crate::shard) fn open_shared(
        &mut self,
        id: &str,
        copy: Option<&Known<'_>>,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (rule, room) = self.enter(id)?;
        let (version, (fields, bytes)) = copy.map_or_else(Default::default, |copy| (copy.version, owned(&copy.fields)));
        let rule_of = &self.shard.settings.documents.rules[rule].1;
        if bytes > rule_of.bytes_max || fields.len() > rule_of.fields_max {
            return Err(Refusal::DocumentTooLarge);
        }
        let wish = Wish::Open(copy.map(|_| (version, fields)));
        self.request(id, rule, &room, wish, bytes, then)
    }

    fn request(
        &mut self,
        id: &str,
        rule: usize,
        room: &str,
        wish: Wish,
        bytes: usize,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (key, now) = (self.shard.tenant_of(self.socket), self.shard.now.at);
        let desk = &mut self.shard.tenants[key].stream.get_or_insert_default().documents;
        let waiting = desk.known.get(id).map_or(0, |shared| shared.queue.len());
        if waiting >= limit::DOCUMENT_WAITS_MAX || desk.bytes + bytes > limit::DOCUMENT_WAITS_BYTES_MAX {
            return Err(Refusal::DocumentBusy);
        }
        let id: Rc<str> = match desk.known.get_key_value(id) {
            Some((id, _)) => id.clone(),
            None => id.into(),
        };
        desk.known.entry(id.clone()).or_insert_with(|| Shared::new(rule, room, now));
        let asker = Some((self.socket, self.ack.take(), Box::new(then) as Then));
        self.shard.enqueue(key, &id, Request { wish, asker, bytes });
        Ok(())
    }
}

impl Shard {
    fn shared_document(&mut self, key: TenantKey, id: &str) -> Option<&mut Shared> {
        self.tenants.get_mut(key)?.stream.as_mut()?.documents.known.get_mut(id)
    }

    fn has_open(&self, key: TenantKey, room: &str) -> bool {
        let room = self.tenants.get(key).and_then(|tenant| tenant.rooms.get(room));
        room.is_some_and(|room| !self.rooms[*room].members.is_empty())
    }

    fn enqueue(&mut self, key: TenantKey, id: &Rc<str>, request: Request) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        stream.documents.bytes += request.bytes;
        let Some(shared) = stream.documents.known.get_mut(id) else { return };
        // The tenant stays until it is answered.
        stream.owed += 1;
        shared.queue.push_back(request);
        self.take_up_request(key, id);
    }

    /// The next request, if none is under way.
    fn take_up_request(&mut self, key: TenantKey, id: &Rc<str>) {
        let Some(stream) = self.tenants.get_mut(key).and_then(|tenant| tenant.stream.as_mut()) else { return };
        let desk = &mut stream.documents;
        let Some(shared) = desk.known.get_mut(id).filter(|shared| matches!(shared.stage, Stage::Idle)) else { return };
        let Some(request) = shared.queue.front() else { return };
        shared.tries = 0;
        let copy = shared.copy.take();
        desk.copied -= copy.iter().flat_map(|copy| &copy.document).map(Document::weight).sum::<usize>();
        match (&request.wish, copy) {
            (Wish::Write(_), Some(copy)) => self.make_document(key, id, copy, false),
            _ => self.read_document_again(key, id),
        }
    }

    fn read_document_again(&mut self, key: TenantKey, id: &Rc<str>) {
        let kept = |shard: &Shard, rule: usize| shard.settings.documents.rules[rule].1.kept;
        let Some(shared) = self.shared_document(key, id) else { return };
        shared.stage = Stage::Asked;
        let opens = matches!(shared.queue.front(), Some(Request { wish: Wish::Open(_), .. }));
        let rule = shared.rule;
        let keep = opens.then(|| kept(self, rule) * 2);
        let act = Act::Read { document: (**id).into(), keep };
        let id = id.clone();
        self.share_then(key, relay::Act::Document(act), move |shard, result| {
            let read = match result {
                Ok(relay::Answer::Document(Answer::Read(body))) => Ok(body),
                _ => Err(Unavailable),
            };
            shard.document_was_read(key, &id, read);
        });
    }

    fn document_was_read(&mut self, key: TenantKey, id: &Rc<str>, read: Result<Option<Box<[u8]>>, Unavailable>) {
        let Ok(body) = read else {
            return self.finish_request(key, id, None, Done::refused(Refusal::BackplaneUnavailable));
        };
        let (reading, is_broken) = Reading::of(body, self.now.at);
        if is_broken {
            self.counts.up(Count::EnvelopesBroken);
        }
        let Some(shared) = self.shared_document(key, id) else { return };
        let Some(request) = shared.queue.front() else { return };
        match (&request.wish, &reading.document) {
            (Wish::Write(_), _) => self.make_document(key, id, reading, true),
            (Wish::Open(Some(_)), None) => self.adopt_shared(key, id, &reading),
            (Wish::Get, None) => self.finish_request(key, id, None, Done::refused(Refusal::UnknownDocument)),
            // Somebody has just heard of it: it is there by now.
            (Wish::Open(None), None) if shared.tries == 0 && shared.told.is_some_and(|told| told != NOTHING) => {
                shared.tries = 1;
                self.read_document_again(key, id);
            }
            (Wish::Open(None) | Wish::Check, None) => self.finish_request(key, id, Some(reading), Done::default()),
            (Wish::Get | Wish::Open(_) | Wish::Check, Some(_)) => {
                self.settle_request(key, id, reading, Done::default())
            }
        }
    }

    /// What the client has becomes the document.
    fn adopt_shared(&mut self, key: TenantKey, id: &Rc<str>, reading: &Reading) {
        let (epoch, now) = (Epoch((self.chance.u64() >> 16).max(1)), self.now.at);
        let Some(shared) = self.shared_document(key, id) else { return };
        let Some(Request { wish: Wish::Open(Some((version, fields))), .. }) = shared.queue.front() else { return };
        let fields = fields.iter().map(|(name, value)| (&**name, &**value));
        let document = Document::new(epoch, *version, fields, now);
        let room = shared.room.clone();
        let version = document.version();
        let edition = Edition { document: id, room: &room, epoch: epoch.0, before: None, version, words: Vec::new() };
        let edition = Body::Edition(edition).encode(self.origin());
        self.write_made(key, id, reading.head.clone(), document, Done { edition: Some(edition), ..Done::default() });
    }

    /// Makes of a document what the first request wants of it. `fresh`: it was asked for this.
    fn make_document(&mut self, key: TenantKey, id: &Rc<str>, reading: Reading, fresh: bool) {
        let Shard { settings, tenants, chance, now, .. } = self;
        let Some(stream) = tenants.get_mut(key).and_then(|tenant| tenant.stream.as_mut()) else { return };
        let Some(shared) = stream.documents.known.get_mut(id) else { return };
        let Some(Request { wish: Wish::Write(draft), asker, .. }) = shared.queue.front() else { return };
        let rule = &settings.documents.rules[shared.rule].1;
        let wants_ack = matches!(asker, Some((_, Some(_), _)));
        let Reading { document, head } = reading;
        let is_new = document.is_none();
        if is_new && (draft.deed == Deed::Resolve || draft.base > 0 || draft.epoch.is_some()) {
            return self.finish_request(key, id, None, Done::refused(Refusal::UnknownDocument));
        }
        let mut document = document.unwrap_or_else(|| Document::new(Epoch((chance.u64() >> 16).max(1)), 0, [], now.at));
        let before = document.version();
        let update = draft.update();
        let outcome = match draft.deed {
            Deed::Update => document.update(rule, &update),
            Deed::Resolve => document.resolve(rule, &update),
        };
        // What is refused, or done already, was decided on what is there now.
        let (is_done, done) = match outcome {
            Ok(outcome) => {
                let Tidings { answer, events, refused } =
                    Tidings::of(rule, draft.deed, &update, id, &document, &outcome);
                let is_done =
                    outcome.again || (refused && outcome.clash.as_ref().is_some_and(|clash| clash.kept.is_none()));
                let words = events.iter().filter(|(.., whom)| !matches!(whom, Whom::Writer));
                let words: Vec<Word<'_>> = words
                    .map(|(event, args, whom)| Word { event, args, others: matches!(whom, Whom::Others) })
                    .collect();
                let version = outcome.version;
                let says = !is_done && (version > before || !words.is_empty());
                let room = &shared.room;
                let edition =
                    Edition { document: id, room, epoch: document.epoch.0, before: Some(before), version, words };
                let edition = says.then_some(Body::Edition(edition));
                let origin = self.fleet.as_ref().map_or(Origin(0), |fleet| fleet.settings.origin);
                let edition = edition.map(|edition| edition.encode(origin));
                let own = events.into_iter().filter(|(.., whom)| matches!(whom, Whom::Writer | Whom::AllAndWriter));
                if !is_done {
                    self.counts.add(Count::DocumentConflicts, u64::from(outcome.clash.is_some()));
                }
                (is_done, Done { answer: Some(Ok(answer)), own: own.collect(), edition })
            }
            Err(refusal @ (Refusal::VersionTooOld | Refusal::VersionUnknown)) if wants_ack && !is_new => {
                let about = encode::About { id, document: &document, version: document.version() };
                (true, Done { answer: Some(Ok(encode::rebase(&about, &refusal))), ..Done::default() })
            }
            Err(refusal) if is_new => return self.finish_request(key, id, None, Done::refused(refusal)),
            Err(refusal) => (true, Done::refused(refusal)),
        };
        if !is_done {
            self.write_made(key, id, head, document, done);
        } else if fresh {
            self.settle_request(key, id, Reading { document: Some(document), head }, done);
        } else {
            self.read_document_again(key, id);
        }
    }

    fn write_made(&mut self, key: TenantKey, id: &Rc<str>, on: Box<[u8]>, document: Document, done: Done) {
        let body = document.encode(self.chance.u64());
        let Some(shared) = self.shared_document(key, id) else { return };
        (shared.stage, shared.writing) = (Stage::Asked, Some(Told::of(&document)));
        let rule = shared.rule;
        let keep = self.settings.documents.rules[rule].1.kept * 2;
        let head = stored::head(&body).into();
        let edition = done.edition.clone().unwrap_or_default();
        let write = Write { document: (**id).into(), on, body, keep, edition };
        let id = id.clone();
        self.share_then(key, relay::Act::Document(Act::Write(Box::new(write))), move |shard, result| match result {
            Ok(relay::Answer::Document(Answer::Written)) => {
                shard.document_was_written(key, &id, Reading { document: Some(document), head }, done);
            }
            Ok(relay::Answer::Document(Answer::Other(body))) => {
                let Some(shared) = shard.shared_document(key, &id) else { return };
                shared.tries += 1;
                if shared.tries > limit::DOCUMENT_TRIES_MAX {
                    return shard.finish_request(key, &id, None, Done::refused(Refusal::DocumentBusy));
                }
                shard.document_was_read(key, &id, Ok(body));
            }
            Ok(relay::Answer::Document(Answer::Full)) => {
                shard.finish_request(key, &id, None, Done::refused(Refusal::TooManyDocuments));
            }
            _ => shard.finish_request(key, &id, None, Done::refused(Refusal::BackplaneUnavailable)),
        });
    }

    fn document_was_written(&mut self, key: TenantKey, id: &Rc<str>, reading: Reading, done: Done) {
        let now = self.now.at;
        let Some(shared) = self.shared_document(key, id) else { return };
        shared.kept_at = now;
        if let Some(Ok((_, Body::Edition(edition)))) = done.edition.as_deref().map(Body::decode)
            && let Some(before) = edition.before
        {
            if shared.told.is_none() {
                // Who is in its room without having opened it hears of this write, too.
                let epoch = if before > 0 { Epoch(edition.epoch) } else { NOTHING.epoch };
                shared.told = Some(Told { epoch, version: before });
            }
            self.counts.add(Count::DocumentVersions, u64::from(edition.version > before));
        }
        self.settle_request(key, id, reading, done);
    }

    /// Ends a request when members here have been told of what it has seen.
    fn settle_request(&mut self, key: TenantKey, id: &Rc<str>, reading: Reading, done: Done) {
        let Some(shared) = self.shared_document(key, id) else { return };
        let (room, now_is) = (shared.room.clone(), reading.told());
        let has_open = self.has_open(key, &room);
        let Some(shared) = self.shared_document(key, id) else { return };
        let told = shared.told.unwrap_or(now_is);
        let reads = matches!(shared.queue.front(), Some(Request { wish: Wish::Get | Wish::Open(_), .. }));
        if reads && told.is_after(now_is) {
            shared.tries += 1;
            if shared.tries > limit::DOCUMENT_TRIES_MAX {
                return self.finish_request(key, id, None, Done::refused(Refusal::DocumentBusy));
            }
            return self.read_document_again(key, id);
        }
        if !has_open || told == now_is {
            shared.reach(now_is);
        } else if !told.is_after(now_is) {
            let has_missed = shared.missed.is_some();
            let number = self.next_patience(key, id);
            let Some(shared) = self.shared_document(key, id) else { return };
            shared.stage = Stage::Waits(Box::new(Waits { number, reading, done }));
            if has_missed {
                self.catch_up_document(key, id);
            }
            return;
        }
        self.finish_request(key, id, Some(reading), done);
    }

    /// Answers the first request, and takes up the next.
    fn finish_request(&mut self, key: TenantKey, id: &Rc<str>, reading: Option<Reading>, done: Done) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let Some(stream) = &mut tenant.stream else { return };
        let Some(shared) = stream.documents.known.get_mut(id) else { return };
        let Some(Request { wish, asker, bytes }) = shared.queue.pop_front() else { return };
        (shared.stage, shared.writing) = (Stage::Idle, None);
        let room = shared.room.clone();
        let now_is = reading.as_ref().map_or(NOTHING, Reading::told);
        stream.owed -= 1;
        stream.documents.bytes -= bytes;
        if let Some((socket, ack, then)) = asker
            && self.sockets.contains(socket)
        {
            let opens = matches!(wish, Wish::Open(_));
            let had_open = self.has_open(key, &room);
            let mut context = Context::new(self, socket, ack);
            let document = reading.as_ref().and_then(|reading| reading.document.as_ref());
            let whole = || match document {
                Some(document) => encode::whole(&encode::About { id, document, version: document.version() }),
                None => encode::nothing(id),
            };
            let answer = match done.answer {
                Some(answer) => answer,
                None if opens && !context.is_in(&room) => context.join(&room).map(|()| whole()),
                None => Ok(whole()),
            };
            let is_outside = !context.is_in(&room);
            for (event, args, whom) in &done.own {
                if matches!(whom, Whom::Writer) || is_outside {
                    context.emit(event, args);
                }
            }
            then(&mut context, answer);
            if opens && let Some(shared) = self.shared_document(key, id) {
                shared.reach(shared.told.filter(|_| had_open).unwrap_or(now_is));
            }
        }
        let stays = self.has_open(key, &room);
        let Some(stream) = self.tenants.get_mut(key).and_then(|tenant| tenant.stream.as_mut()) else { return };
        let desk = &mut stream.documents;
        let Some(shared) = desk.known.get_mut(id) else { return };
        let (is_answered, has_missed) = (reading.is_some(), shared.missed.is_some());
        let weight = reading.as_ref().and_then(|reading| reading.document.as_ref()).map_or(0, Document::weight);
        let is_present = !stays || shared.told == Some(now_is);
        if weight > 0 && is_present && desk.copied + weight <= limit::DOCUMENT_COPIES_BYTES_MAX {
            desk.copied += weight;
            shared.copy = reading;
        }
        if shared.queue.is_empty() && !stays {
            if let Some(shared) = desk.known.remove(id) {
                desk.drop_copy(shared);
            }
        } else if shared.queue.is_empty() && has_missed && is_answered {
            self.check_document(key, id);
        } else {
            self.take_up_request(key, id);
        }
        self.stir(key);
    }
}

impl Desk {
    fn drop_copy(&mut self, shared: Shared) {
        self.copied -= shared.copy.and_then(|copy| copy.document).map_or(0, |document| document.weight());
    }
}
