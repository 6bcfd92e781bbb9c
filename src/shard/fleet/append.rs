//! Durable events on their way to their place: the store gives it, and says it to who published; the event itself comes back through the
//! stream, here as everywhere.

use super::Job;
use super::stream::State;
use crate::base::{
    limit::{APPENDS_MAX, FLEET_LINGER_MORE, PUBLISH_ID_TTL, ROOM_LINGER},
    time::UnixMs,
};
use crate::shard::Shard;
use crate::shard::count::Count;
use crate::shard::delivery::{self, Then};
use crate::shard::history::{Audience, Event, Position};
use crate::shard::publish::{Draft, meta};
use crate::shard::refusal::Refusal;
use crate::shard::relay::{Append, Appended, Relay, Unavailable};
use crate::shard::room::RoomKey;
use crate::shard::tenant::{Receipt, Tenant, TenantKey};
use crate::wire::{
    api::Ack,
    envelope::{self, Asks, Body, Layer, Post},
};
use std::rc::Rc;
use ulid::Ulid;

/// What is done when an event has its place.
pub struct Pending {
    tenant: TenantKey,
    id: Rc<str>,
    /// What listeners are told of it, where any listen.
    heard: Option<Box<Heard>>,
    then: Then,
    /// Who acknowledges it is counted.
    tally: Option<u64>,
}

/// A draft that outlives its publisher's packet.
struct Heard {
    id: Option<Box<str>>,
    event: Box<str>,
    room: Box<str>,
    entity: Option<(Box<str>, Box<str>)>,
    data: Box<str>,
    user: Option<Box<str>>,
    audience: Option<Box<Audience>>,
}

/// What is asked of the receivers of an event, and who is told how that ended.
pub struct Asking {
    pub ack: Ack,
    pub then: Then,
}

impl Asking {
    /// Somebody waits for how it ends.
    fn is_counted(&self) -> bool {
        !matches!(self.then, Then::Nobody)
    }

    fn asks(&self) -> Asks {
        Asks { timeout_ms: self.ack.timeout_ms, retries: self.ack.retries, counted: self.is_counted() }
    }
}

impl Shard {
    /// Sends a durable event to its place; `then` is told of that. `listens`: listeners hear of it. Only in a fleet.
    pub(in crate::shard) fn append(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        mut then: Then,
        listens: bool,
        asking: Option<Asking>,
    ) -> Result<Rc<str>, Refusal> {
        if self.fleet.as_ref().is_none_or(|fleet| fleet.jobs.len() >= APPENDS_MAX) {
            return Err(Refusal::BackplaneUnavailable);
        }
        let id: Rc<str> = match draft.id {
            Some(id) => id.into(),
            None => Ulid::from_parts(self.now.unix.0, self.chance.u128()).to_string().into(),
        };
        self.counts.up(Count::Published);
        let keep = self.settings.history.of(draft.room);
        let linger = (keep.ttl.max(self.settings.recovery) + FLEET_LINGER_MORE).max(ROOM_LINGER);
        let asks = asking.as_ref().map(Asking::asks);
        let append = Append {
            room: draft.room.into(),
            body: Body::Post(Post { asks, ..post_of(draft, &id, self.now.unix) }).encode(self.origin()),
            id: draft.id.map(Into::into),
            id_ttl: PUBLISH_ID_TTL,
            keep: keep.events,
            linger,
            wait: self.wait_of(draft.room, draft.event),
            track: self.track_of(draft, &id),
        };
        let heard = (listens && self.listens(draft.event)).then(|| Box::new(Heard::of(draft)));
        let stream = self.tenants[tenant].stream.get_or_insert_default();
        stream.owed += 1;
        stream.behind.appended = Some(self.now.at);
        let mut tally = None;
        if let Some(Asking { ack, then: told }) = asking.filter(Asking::is_counted) {
            if stream.asking.contains_key(&id) {
                // Asked again by the same id before it was answered: this one is told its place.
                then = told;
            } else {
                // Who has nobody here has to hear what the other nodes say all the same.
                self.open_stream(tenant);
                tally = self.begin_tally(tenant, (&id, draft.room), ack, told);
            }
        }
        self.flies(tenant, &id);
        let pending = Pending { tenant, id: id.clone(), heard, then, tally };
        let ticket = self.ticket(Job::Append(Box::new(pending)));
        let tenant = (*self.tenants[tenant].id).clone();
        self.relay(Relay::Append { tenant, ticket, append: Box::new(append) });
        Ok(id)
    }

    pub(super) fn appended(&mut self, pending: Pending, result: Result<Appended, Unavailable>) {
        let Pending { tenant: key, id, heard, then, tally } = pending;
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        if let Some(stream) = &mut tenant.stream {
            stream.owed -= 1;
        }
        match result {
            Ok(appended) => {
                let Tenant { sequence, stream, .. } = &self.tenants[key];
                let is_live = stream.as_ref().is_some_and(|stream| stream.state == State::Live);
                if appended.known || !is_live || *sequence >= appended.sequence {
                    // It came back before, or never will.
                    self.landed(key, &id);
                }
                let receipt = Receipt { id, place: Some((appended.room_epoch, appended.offset)) };
                if appended.known {
                    self.counts.up(Count::PublishedTwice);
                } else if let Some(heard) = heard {
                    self.run_listeners(key, &heard.draft(), &receipt);
                }
                self.answer_then(then, Ok(delivery::answer(&receipt, None)));
                if let Some(tally) = tally {
                    self.tally_placed(tally, receipt, &appended);
                }
            }
            Err(Unavailable) => {
                self.landed(key, &id);
                self.answer_then(then, Err(Refusal::BackplaneUnavailable));
                if let Some(tally) = tally {
                    self.tally_failed(tally);
                }
            }
        }
        self.stir(key);
        self.tend_tenant(key);
    }

    /// An event of the stream has its room on other nodes only.
    pub(super) fn nobody_asked(&mut self, key: TenantKey, post: &Post<'_>) {
        if post.asks.is_some_and(|asks| asks.counted) {
            let own = self.origin();
            self.hear_receivers(key, own, post.id, &[], &[]);
        }
    }

    /// Gives an event of the stream to those of its room who may have it. `late`: the stream had come as far as this before the event could be
    /// given.
    pub(super) fn deliver_placed(
        &mut self,
        key: TenantKey,
        room: RoomKey,
        event: &Rc<Event>,
        place: &envelope::Place,
        post: &Post<'_>,
        late: Option<u64>,
    ) {
        let position = Position {
            token: self.token_of_landing(key, late.is_some()),
            ..Position::new(self.tenants[key].epoch, late.unwrap_or(place.sequence))
        };
        let number = post.asks.and_then(|_| self.number_of_asked(key, post.room));
        if late.is_some() {
            // Whoever has come since is told of it by where the room stands, or by its queue.
            self.deliver_late(room, event, position, place.sequence, number);
        } else {
            self.deliver(room, event, Some(position), false, None, number);
        }
        if let Some(asks) = post.asks {
            let epoch = self.rooms[room].epoch;
            let receipt = Receipt { id: post.id.into(), place: Some((epoch, place.offset)) };
            let asked = delivery::About { tenant: key, room, event: event.clone(), sequence: place.sequence, receipt };
            self.ask_receivers(asked, asks, number);
        }
        self.queue_landed(key, room, event, (place.sequence, post.id), number);
    }

    /// Publishes what is ephemeral to the others of the fleet; here it has been delivered.
    pub(in crate::shard) fn tell_post(&mut self, tenant: TenantKey, draft: &Draft<'_>, id: &str) {
        if self.is_fleet() {
            let post = post_of(draft, id, self.now.unix);
            self.tell_behind(tenant, &Body::Post(post));
        }
    }
}

impl Heard {
    fn of(draft: &Draft<'_>) -> Heard {
        Heard {
            id: draft.id.map(Into::into),
            event: draft.event.into(),
            room: draft.room.into(),
            entity: draft.entity.map(|(kind, id)| (kind.into(), id.into())),
            data: draft.data.into(),
            user: draft.user.map(Into::into),
            audience: draft.audience.clone(),
        }
    }

    fn draft(&self) -> Draft<'_> {
        Draft {
            id: self.id.as_deref(),
            event: &self.event,
            room: &self.room,
            entity: self.entity.as_ref().map(|(kind, id)| (&**kind, &**id)),
            data: &self.data,
            ephemeral: false,
            user: self.user.as_deref(),
            audience: self.audience.clone(),
        }
    }
}

fn post_of<'a>(draft: &'a Draft<'_>, id: &'a str, time: UnixMs) -> Post<'a> {
    let mut audience = Vec::new();
    let mut layer = draft.audience.as_deref();
    while let Some(Audience { roles, permissions, within }) = layer {
        audience.push(Layer {
            roles: roles.iter().map(|role| &**role).collect(),
            permissions: permissions.iter().map(|permission| &**permission).collect(),
        });
        layer = within.as_deref();
    }
    Post {
        id,
        event: draft.event,
        room: draft.room,
        data: draft.data,
        time,
        user: draft.user,
        entity: draft.entity,
        audience,
        asks: None,
    }
}

/// An event as a shard has it.
pub fn event_of(post: &Post<'_>, place: Option<&envelope::Place>) -> Event {
    let own = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect();
    let audience = post.audience.iter().rev().fold(None, |within, layer| {
        Some(Box::new(Audience { roles: own(&layer.roles), permissions: own(&layer.permissions), within }))
    });
    let place = place.map(|place| (crate::shard::history::Epoch(place.room_epoch), place.offset));
    Event {
        name: post.event.into(),
        data: post.data.into(),
        // Ephemeral events have none.
        meta: if place.is_some() { meta(post, place) } else { "".into() },
        entity: post.entity.map(|(kind, id)| (kind.into(), id.into())),
        audience,
    }
}
