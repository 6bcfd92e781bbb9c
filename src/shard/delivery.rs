//! Delivery with acknowledgement: an event is sent with a request for one, again to the users who do not answer in time, and whoever
//! published it may be told who did.
//!
//! ```text
//!   publish --> every member, with the delivery's number --ack, received--> the user has answered
//!                  ^                                                            |
//!                  '--timeout, `retries` times, to who has not answered     all have, or no retry is left: the publisher is answered
//! ```
//!
//! Invariants: what is waited for is users, not connections: the first of a user's devices to answer answers for it, and a retry goes to
//! whatever connections it has then; all members read the same frame, since a delivery has one number for all; a delivery ends, whatever
//! its receivers and its publisher do.

use super::app::Context;
use super::count::Count;
use super::encode::{self, Outgoing};
use super::fleet::Asking;
use super::history::{Epoch, Event};
use super::io::Output;
use super::publish::{Draft, Published, write_receipt};
use super::receipt::Told;
use super::refusal::Refusal;
use super::room::{self, RoomKey};
use super::socket::SocketKey;
use super::tenant::{Receipt, TenantKey};
use super::{Shard, Timer};
use crate::base::{id::ReplyTo, limit, time::Duration};
use crate::profile::catalogue::Entered;
use crate::wire::{api::Ack, envelope::Asks, http::Response, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Numbers of deliveries, as clients send them back: above all that a socket counts for itself, and within what clients of every language
/// hold (31 bits).
const NUMBERS_FROM: u64 = 1_000_000_000;

/// Who is told how it ended.
pub enum Then {
    Nobody,
    /// The client that published it, by its acknowledgement.
    Client(SocketKey, u64),
    /// A call of the HTTP API: one of its events.
    Call(u64, usize),
}

pub struct Delivery {
    tenant: TenantKey,
    room: RoomKey,
    event: Rc<Event>,
    sequence: u64,
    /// Of the tenant's stream, when it was sent.
    epoch: Epoch,
    receipt: Receipt,
    ack: Ack,
    /// How often it was sent.
    sent: u32,
    waiting: BTreeSet<Rc<str>>,
    acked: Vec<Rc<str>>,
    /// Nobody waits for these: they are not there, or only read.
    missing: Vec<Rc<str>>,
    then: Then,
}

/// A call that waits for the deliveries of its events.
struct Call {
    from: ReplyTo,
    answers: Vec<Vec<u8>>,
    open: usize,
}

/// What a shard waits for. At most [`limit::DELIVERIES_MAX`] deliveries.
#[derive(Default)]
pub struct Deliveries {
    open: BTreeMap<u64, Delivery>,
    /// By the event's id, for `received`.
    by_event: BTreeMap<(TenantKey, Rc<str>), u64>,
    calls: BTreeMap<u64, Call>,
    number: u64,
    call: u64,
}

impl Deliveries {
    pub fn len(&self) -> usize {
        self.open.len() + self.by_event.len() + self.calls.len()
    }

    /// Whether an acknowledgement's number is a delivery's.
    pub fn is_number(number: u64) -> bool {
        number >= NUMBERS_FROM
    }

    /// Whether a delivery waits for this user.
    pub fn waits_for(&self, number: u64, user: &str) -> bool {
        self.open.get(&number).is_some_and(|delivery| delivery.waiting.contains(user))
    }

    fn next_number(&mut self) -> u64 {
        self.number = (self.number + 1) % NUMBERS_FROM;
        NUMBERS_FROM + self.number
    }
}

/// What a publisher who asks for acknowledgements has got.
pub enum Asked {
    /// Everybody has answered who could: there is nothing to wait for.
    Done(Vec<u8>),
    Waits,
}

impl Shard {
    /// Publishes an event that its receivers are to acknowledge, as the catalogue has it.
    pub(super) fn publish_asking(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        ack: Ack,
        then: Then,
    ) -> Result<(Receipt, Asked), Refusal> {
        let app = self.app.clone();
        match app.profile.catalogue.of(draft.event) {
            Entered::Refused => Err(Refusal::UnknownType),
            Entered::Passed => self.publish_checked_asking(tenant, draft, ack, then),
            Entered::Known(entry) => {
                let draft = self.entered(entry, draft)?;
                if draft.ephemeral {
                    return Err(Refusal::InvalidArgument("an event of this type is ephemeral, and not acknowledged"));
                }
                self.publish_checked_asking(tenant, &draft, ack, then)
            }
        }
    }

    /// Whether a room's members are few enough to be waited for.
    pub(super) fn may_ask(&self, tenant: TenantKey, room: &str) -> bool {
        let members = self.tenants[tenant].rooms.get(room).map_or(0, |room| self.rooms[*room].members.len());
        members <= limit::DELIVERY_MEMBERS_MAX
    }

    /// As [`publish_asking`](Self::publish_asking), of what is known to be right.
    pub(super) fn publish_checked_asking(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        ack: Ack,
        then: Then,
    ) -> Result<(Receipt, Asked), Refusal> {
        debug_assert!(!draft.ephemeral, "who gets it twice has to be able to tell");
        if self.is_fleet() {
            if !self.may_ask(tenant, draft.room) {
                return Err(Refusal::TooManyReceivers);
            }
            // Who is told of its place is told with how it ended.
            let tallied = self.fleet.as_ref().map_or(0, |fleet| fleet.tallied());
            if self.deliveries.open.len() + tallied >= limit::DELIVERIES_MAX {
                return Err(Refusal::TooManyDeliveries);
            }
            self.append_paced(tenant, draft, Then::Nobody, Some(Asking { ack, then }))?;
            let id = draft.id.unwrap_or_default().into();
            return Ok((Receipt { id, place: None }, Asked::Waits));
        }
        let done = |receipt: Receipt, ended: Option<Ended<'_>>| {
            let answer = answer(&receipt, ended);
            (receipt, Asked::Done(answer))
        };
        if let Some(receipt) = self.published_before(tenant, draft) {
            return Ok(done(receipt, None));
        }
        if !self.may_ask(tenant, draft.room) {
            return Err(Refusal::TooManyReceivers);
        }
        if self.deliveries.open.len() >= limit::DELIVERIES_MAX {
            return Err(Refusal::TooManyDeliveries);
        }
        self.pace_tenant(tenant)?;
        let number = self.deliveries.next_number();
        let Published { receipt, kept } = self.publish_now(tenant, draft, Some(number));
        self.run_listeners(tenant, draft, &receipt);
        let Some((room, sequence, event)) = kept else { return Ok(done(receipt, None)) };
        let about = About { tenant, room, event, sequence, receipt: receipt.clone() };
        Ok(match self.begin_delivery(about, ack, then, number) {
            Ok(()) => (receipt, Asked::Waits),
            Err((missing, _)) => done(receipt, Some(Ended { acked: &[], missing: &missing })),
        })
    }

    /// Waits for the receivers of what was sent to them with a delivery's number; who cannot answer is given back with `then` where nobody can.
    fn begin_delivery(&mut self, about: About, ack: Ack, then: Then, number: u64) -> Result<(), (Vec<Rc<str>>, Then)> {
        let (waiting, missing) = self.receivers(about.room, &about.event);
        self.counts.up(Count::DeliveriesAsked);
        if waiting.is_empty() {
            self.counts.add(Count::DeliveriesUnanswered, missing.len() as u64);
            return Err((missing, then));
        }
        let About { tenant, room, event, sequence, receipt } = about;
        self.deliveries.by_event.insert((tenant, receipt.id.clone()), number);
        let acked = Vec::new();
        let epoch = self.tenants[tenant].epoch;
        let delivery =
            Delivery { tenant, room, event, sequence, epoch, receipt, ack, sent: 1, waiting, acked, missing, then };
        self.deliveries.open.insert(number, delivery);
        self.timers.arm(self.now.at + Duration::from_millis(u64::from(ack.timeout_ms)), Timer::Delivery(number));
        Ok(())
    }

    /// The number by which this node's members are asked to acknowledge an event of the stream, unless that is too much.
    pub(super) fn number_of_asked(&mut self, tenant: TenantKey, room: &str) -> Option<u64> {
        let has_room = self.deliveries.open.len() < limit::DELIVERIES_MAX && self.may_ask(tenant, room);
        has_room.then(|| self.next_delivery())
    }

    /// As [`begin_delivery`](Self::begin_delivery), of what came through the stream: whoever counts is told who is asked here.
    pub(super) fn ask_receivers(&mut self, about: About, asks: Asks, number: Option<u64>) {
        let (tenant, id) = (about.tenant, about.receipt.id.clone());
        let ack = Ack { timeout_ms: asks.timeout_ms, retries: asks.retries };
        let nobody = number.map(|number| self.begin_delivery(about, ack, Then::Nobody, number));
        if !asks.counted {
            return;
        }
        let (waiting, missing) = match (nobody, number.and_then(|number| self.deliveries.open.get(&number))) {
            (Some(Err((missing, _))), _) => (Vec::new(), missing),
            (_, Some(delivery)) => (delivery.waiting.iter().cloned().collect(), delivery.missing.clone()),
            (_, None) => (Vec::new(), Vec::new()),
        };
        self.say_receivers(tenant, &id, &waiting, &missing);
    }

    pub(super) fn next_delivery(&mut self) -> u64 {
        self.deliveries.next_number()
    }

    /// Tells a publisher what became of its event.
    pub(super) fn answer_then(&mut self, then: Then, outcome: Result<Vec<u8>, Refusal>) {
        match (then, outcome) {
            (Then::Nobody, _) => {}
            (Then::Client(socket, ack), Ok(answer)) => {
                let answer = [&b"{\"ok\":true,"[..], &answer[1..]].concat();
                self.send_ack(socket, ack, &String::from_utf8_lossy(&answer), &[]);
            }
            (Then::Client(socket, ack), Err(refusal)) => {
                if self.sockets.contains(socket) {
                    Context::new(self, socket, Some(ack)).refuse(&refusal);
                }
            }
            (Then::Call(call, nth), Ok(answer)) => self.answer_call(call, nth, answer),
            (Then::Call(call, nth), Err(refusal)) => {
                if let Some(Call { from, answers, .. }) = self.deliveries.calls.remove(&call) {
                    let response = super::call::refused(&refusal, nth, answers.len());
                    self.out.push(Output::Respond { to: from, response: Response { no_store: true, ..response } });
                }
            }
        }
    }

    /// The users an event is for: those who can answer, and those who cannot.
    fn receivers(&self, room: RoomKey, event: &Event) -> (BTreeSet<Rc<str>>, Vec<Rc<str>>) {
        let mut users: BTreeMap<&str, bool> = BTreeMap::new();
        let Shard { rooms, sockets, sessions, .. } = self;
        // The user it is addressed to is missed when it is not there; among nodes by who counts.
        let owner = self.owner_of(&rooms[room].name).filter(|_| !self.is_fleet());
        users.extend(owner.map(|owner| (owner, false)));
        for member in &rooms[room].members {
            if room::wants(sockets, sessions, room, member, event) {
                *users.entry(&self.identity(member.socket).user).or_default() |= member.variant != encode::EVENTS;
            }
        }
        let list = |answers: bool| {
            users.iter().filter(move |(_, can)| **can == answers).map(|(user, _)| Rc::from(*user)).collect::<Vec<_>>()
        };
        (list(true).into_iter().collect(), list(false))
    }

    /// A client has sent a delivery's number back.
    pub(super) fn acked_delivery(&mut self, socket: SocketKey, number: u64) {
        let (tenant, user) = (self.tenant_of(socket), self.identity(socket).user.clone());
        let Some(delivery) = self.deliveries.open.get_mut(&number).filter(|delivery| delivery.tenant == tenant) else {
            return;
        };
        // Whoever it did not wait for did not get it.
        let Some(user) = delivery.waiting.take(&*user) else { return };
        delivery.acked.push(user.clone());
        let (id, done) = (delivery.receipt.id.clone(), delivery.waiting.is_empty());
        self.tell_receipt_of(tenant, &user, &id, Told::Delivered);
        if self.is_fleet() {
            self.say_acked(tenant, &id, &user);
        }
        if done {
            self.end_delivery(number);
        }
    }

    /// Users have acknowledged an event where they are, too: they are not asked any more.
    pub(super) fn acked_elsewhere(&mut self, tenant: TenantKey, id: &str, users: &[&str]) {
        if self.deliveries.by_event.is_empty() {
            return;
        }
        let Some(number) = self.deliveries.by_event.get(&(tenant, Rc::from(id))).copied() else { return };
        let Some(delivery) = self.deliveries.open.get_mut(&number) else { return };
        for user in users {
            delivery.waiting.remove(*user);
        }
        if delivery.waiting.is_empty() {
            self.end_delivery(number);
        }
    }

    /// A client has said `received` of an event.
    pub(super) fn receiver_answered(&mut self, socket: SocketKey, id: &str) {
        if self.deliveries.by_event.is_empty() {
            return;
        }
        let key = (self.tenant_of(socket), Rc::from(id));
        if let Some(number) = self.deliveries.by_event.get(&key) {
            self.acked_delivery(socket, *number);
        }
    }

    /// Its time is over: once more to those who have not answered, or the end.
    pub(super) fn delivery_timer(&mut self, number: u64) {
        let Some(delivery) = self.deliveries.open.get_mut(&number) else { return self.end_tally(number) };
        if delivery.sent > delivery.ack.retries || !self.rooms.contains(delivery.room) {
            return self.end_delivery(number);
        }
        delivery.sent += 1;
        self.timers
            .arm(self.now.at + Duration::from_millis(u64::from(delivery.ack.timeout_ms)), Timer::Delivery(number));
        let (room, event) = (delivery.room, delivery.event.clone());
        let again = event.marked("attempt", delivery.sent);
        if self.rooms[room].members.is_empty() {
            return;
        }
        self.counts.up(Count::DeliveryRetries);
        let wrapped = self.wrapped(&again);
        let outgoing = Outgoing { id: Some(number), ..wrapped.outgoing(&again) };
        let frames = self.frames(room, &outgoing, false);
        let Shard { rooms, outbox, sockets, sessions, deliveries, .. } = self;
        let Some(delivery) = deliveries.open.get(&number) else { return };
        room::fan_out_some(&rooms[room].members, &frames, outbox, |member| {
            // A stream cannot answer, and would read it twice.
            member.variant != encode::EVENTS
                && room::wants(sockets, sessions, room, member, &event)
                && sessions[sockets[member.socket].session]
                    .identity
                    .as_ref()
                    .is_some_and(|identity| delivery.waiting.contains(&*identity.user))
        });
    }

    fn end_delivery(&mut self, number: u64) {
        let Some(mut delivery) = self.deliveries.open.remove(&number) else { return };
        let id = &delivery.receipt.id;
        self.deliveries.by_event.remove(&(delivery.tenant, id.clone()));
        // To whom it was addressed, and who did not answer, gets it when it comes next.
        if let Some(room) = self.rooms.get(delivery.room)
            && let Some(owner) = self.owner_of(&room.name)
            && self.tenants[delivery.tenant].epoch == delivery.epoch
        {
            if let Some(owner) = delivery.waiting.get(owner) {
                self.keep_unanswered(delivery.tenant, &owner.clone(), (delivery.sequence, id, &delivery.event));
            } else if self.is_fleet() && delivery.acked.iter().any(|user| **user == *owner) {
                self.done(delivery.tenant, [delivery.sequence]);
            }
        }
        delivery.missing.extend(std::mem::take(&mut delivery.waiting));
        self.counts.add(Count::DeliveriesUnanswered, delivery.missing.len() as u64);
        if self.is_fleet() {
            return self.give_up_asking(delivery.tenant, &delivery.receipt.id);
        }
        let answer = answer(&delivery.receipt, Some(Ended { acked: &delivery.acked, missing: &delivery.missing }));
        self.answer_then(delivery.then, Ok(answer));
    }

    /// A call's events are published: those that wait for acknowledgements are answered later.
    pub(super) fn open_call(&mut self) -> u64 {
        self.deliveries.call += 1;
        self.deliveries.call
    }

    /// The answers of a call's events so far; an empty one waits for its delivery.
    pub(super) fn wait_for_call(&mut self, call: u64, from: ReplyTo, answers: Vec<Vec<u8>>) {
        let open = answers.iter().filter(|answer| answer.is_empty()).count();
        self.deliveries.calls.insert(call, Call { from, answers, open });
    }

    fn answer_call(&mut self, key: u64, nth: usize, answer: Vec<u8>) {
        let Some(call) = self.deliveries.calls.get_mut(&key) else { return };
        call.answers[nth] = answer;
        call.open -= 1;
        if call.open == 0
            && let Some(call) = self.deliveries.calls.remove(&key)
        {
            // Whoever asked may have gone: its connection's key is of nobody then.
            let response = Response { no_store: true, ..published(&call.answers) };
            self.out.push(Output::Respond { to: call.from, response });
        }
    }

    /// The shard shuts down: nobody will answer any more.
    pub(super) fn end_deliveries(&mut self) {
        for number in self.deliveries.open.keys().copied().collect::<Vec<_>>() {
            self.end_delivery(number);
        }
        self.end_tallies();
    }
}

/// The answer to the HTTP API's publish.
pub(super) fn published(answers: &[Vec<u8>]) -> Response {
    let mut body = b"[".to_vec();
    body.extend_from_slice(&answers.join(&b","[..]));
    body.push(b']');
    Response::json(202, body)
}

/// The users who have answered, and those who have not.
pub(super) struct Ended<'a> {
    pub acked: &'a [Rc<str>],
    pub missing: &'a [Rc<str>],
}

/// An event that its receivers are to acknowledge.
pub(super) struct About {
    pub tenant: TenantKey,
    pub room: RoomKey,
    pub event: Rc<Event>,
    pub sequence: u64,
    pub receipt: Receipt,
}

/// `{id, epoch, offset}`, with `acked` and `missing` where there was somebody to wait for.
pub(super) fn answer(receipt: &Receipt, ended: Option<Ended<'_>>) -> Vec<u8> {
    let mut out = b"{".to_vec();
    write_receipt(receipt, &mut out);
    if let Some(Ended { acked, missing }) = ended {
        for (name, users) in [(&b",\"acked\":["[..], acked), (b",\"missing\":[", missing)] {
            out.extend_from_slice(name);
            for (nth, user) in users.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                json::write_string(&mut out, user);
            }
            out.push(b']');
        }
    }
    out.push(b'}');
    out
}

impl Context<'_> {
    /// As [`publish`](Context::publish), and asks the receivers for acknowledgements. `None`: this event is acknowledged once they have
    /// answered, or have not in time.
    pub fn publish_asking(&mut self, draft: &Draft<'_>, ack: Ack) -> Result<Option<String>, Refusal> {
        let tenant = self.shard.tenant_of(self.socket);
        let then = self.ack.map_or(Then::Nobody, |ack| Then::Client(self.socket, ack));
        Ok(match self.speak(|shard| shard.publish_asking(tenant, draft, ack, then))?.1 {
            Asked::Done(answer) => {
                let answer = [&b"{\"ok\":true,"[..], &answer[1..]].concat();
                Some(String::from_utf8(answer).unwrap_or_default())
            }
            Asked::Waits => {
                self.ack = None;
                None
            }
        })
    }
}
