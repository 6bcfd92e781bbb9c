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

mod request;
mod word;

use crate::base::{limit, time::Instant};
use crate::shard::Shard;
use crate::shard::app::Context;
use crate::shard::count::Count;
use crate::shard::document::access::{Deed, Tidings, Whom};
use crate::shard::document::{Document, encode, stored};
use crate::shard::history::Epoch;
use crate::shard::refusal::Refusal;
use crate::shard::relay::{self, Unavailable, document::Act, document::Answer, document::Write};
use crate::shard::socket::SocketKey;
use crate::shard::tenant::TenantKey;
use crate::wire::envelope::{Body, Edition, Origin, Word};
use request::{Draft, Fields};
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
    /// The edition of the write that is under way has come.
    has_heard: bool,
    /// What was heard of while a word before it had not come.
    missed: Option<Told>,
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
    /// It is written if nobody was faster.
    Writes(Box<Made>),
    /// It is done, and members are to be told of it.
    Waits(Box<Waits>),
}

/// What is there once it is done, and what is said then.
struct Made {
    reading: Reading,
    done: Done,
}

struct Waits {
    number: u64,
    made: Made,
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
    /// What all are told, by its mark.
    edition: Option<(u64, Box<[u8]>)>,
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

impl Shared {
    fn new(rule: usize, room: &str, now: Instant) -> Shared {
        Shared {
            rule,
            room: room.into(),
            told: None,
            has_heard: false,
            missed: None,
            copy: None,
            queue: VecDeque::new(),
            stage: Stage::Idle,
            tries: 0,
            kept_at: now,
        }
    }

    /// What is under way is the write of this mark.
    fn is_of(&self, mark: u64) -> bool {
        let made = match &self.stage {
            Stage::Writes(made) => made,
            Stage::Waits(waits) => &waits.made,
            Stage::Idle | Stage::Asked => return false,
        };
        made.done.edition.as_ref().is_some_and(|(known, _)| *known == mark)
    }

    /// The writer whose write this is, if it is under way.
    fn writer_of(&self, mark: u64) -> Option<SocketKey> {
        let request = self.queue.front().filter(|_| self.is_of(mark))?;
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
                self.settle_request(key, id, Made { reading, done: Done::default() })
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
        let (version, mark) = (document.version(), self.chance.u64());
        let words = Vec::new();
        let edition = Edition { document: id, room: &room, epoch: epoch.0, mark, before: None, version, words };
        let edition = Some((mark, Body::Edition(edition).encode(self.origin())));
        self.write_made(key, id, reading.head.clone(), document, Done { edition, ..Done::default() });
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
                let (version, mark, room) = (outcome.version, chance.u64(), &shared.room);
                let epoch = document.epoch.0;
                let edition = Edition { document: id, room, epoch, mark, before: Some(before), version, words };
                let origin = self.fleet.as_ref().map_or(Origin(0), |fleet| fleet.settings.origin);
                let edition = (!is_done).then(|| (mark, Body::Edition(edition).encode(origin)));
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
            let reading = Reading { document: Some(document), head };
            self.settle_request(key, id, Made { reading, done });
        } else {
            self.read_document_again(key, id);
        }
    }

    fn write_made(&mut self, key: TenantKey, id: &Rc<str>, on: Box<[u8]>, document: Document, done: Done) {
        let Some((mark, edition)) = done.edition.clone() else { return };
        let body = document.encode(mark);
        let Some(shared) = self.shared_document(key, id) else { return };
        let reading = Reading { document: Some(document), head: stored::head(&body).into() };
        shared.stage = Stage::Writes(Box::new(Made { reading, done }));
        let rule = shared.rule;
        let keep = self.settings.documents.rules[rule].1.kept * 2;
        let write = Write { document: (**id).into(), on, body, keep, edition };
        let id = id.clone();
        self.share_then(key, relay::Act::Document(Act::Write(Box::new(write))), move |shard, result| {
            let Some(shared) = shard.shared_document(key, &id).filter(|shared| shared.is_of(mark)) else { return };
            // Its edition has come before the answer: then it is written, and answered.
            let Stage::Writes(made) = std::mem::replace(&mut shared.stage, Stage::Asked) else { return };
            let refusal = match result {
                Ok(relay::Answer::Document(Answer::Written)) => return shard.document_was_written(key, &id, *made),
                Ok(relay::Answer::Document(Answer::Other(body))) => {
                    shared.tries += 1;
                    if shared.tries <= limit::DOCUMENT_TRIES_MAX {
                        return shard.document_was_read(key, &id, Ok(body));
                    }
                    Refusal::DocumentBusy
                }
                Ok(relay::Answer::Document(Answer::Full)) => Refusal::TooManyDocuments,
                _ => Refusal::BackplaneUnavailable,
            };
            shard.finish_request(key, &id, None, Done::refused(refusal));
        });
    }

    fn document_was_written(&mut self, key: TenantKey, id: &Rc<str>, made: Made) {
        let now = self.now.at;
        let Some(shared) = self.shared_document(key, id) else { return };
        shared.kept_at = now;
        if let Some(Ok((_, Body::Edition(edition)))) = made.done.edition.as_ref().map(|(_, body)| Body::decode(body))
            && let Some(before) = edition.before
        {
            if shared.told.is_none() {
                // Who is in its room without having opened it hears of this write, too.
                let epoch = if before > 0 { Epoch(edition.epoch) } else { NOTHING.epoch };
                shared.told = Some(Told { epoch, version: before });
            }
            self.counts.add(Count::DocumentVersions, u64::from(edition.version > before));
        }
        self.settle_request(key, id, made);
    }

    /// Ends a request when members here have been told of what it has seen.
    fn settle_request(&mut self, key: TenantKey, id: &Rc<str>, made: Made) {
        let Some(shared) = self.shared_document(key, id) else { return };
        let (room, now_is) = (shared.room.clone(), made.reading.told());
        let has_open = self.has_open(key, &room);
        let Some(shared) = self.shared_document(key, id) else { return };
        let told = shared.told.unwrap_or(now_is);
        let is_check = matches!(shared.queue.front(), Some(Request { wish: Wish::Check, .. }));
        if told.is_after(now_is) && made.done.edition.is_none() && !is_check {
            // It has been told of more than this has seen.
            shared.tries += 1;
            if shared.tries > limit::DOCUMENT_TRIES_MAX {
                return self.finish_request(key, id, None, Done::refused(Refusal::DocumentBusy));
            }
            return self.read_document_again(key, id);
        }
        // What is written without a new version is told, too.
        let is_told = told == now_is && made.done.edition.is_none();
        if !has_open || is_told || shared.has_heard {
            shared.reach(if told.is_after(now_is) { told } else { now_is });
        } else if !told.is_after(now_is) {
            let has_missed = shared.missed.is_some();
            let number = self.next_patience(key, id);
            let Some(shared) = self.shared_document(key, id) else { return };
            shared.stage = Stage::Waits(Box::new(Waits { number, made }));
            if has_missed {
                self.catch_up_document(key, id);
            }
            return;
        }
        self.finish_request(key, id, Some(made.reading), made.done);
    }

    /// Answers the first request, and takes up the next.
    fn finish_request(&mut self, key: TenantKey, id: &Rc<str>, reading: Option<Reading>, done: Done) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let Some(stream) = &mut tenant.stream else { return };
        let Some(shared) = stream.documents.known.get_mut(id) else { return };
        let Some(Request { wish, asker, bytes }) = shared.queue.pop_front() else { return };
        (shared.stage, shared.has_heard) = (Stage::Idle, false);
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
