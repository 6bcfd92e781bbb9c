//! Durable events on their way to their place: the store gives it, and says it to who published; the event itself comes back through the
//! stream, here as everywhere.

use super::Job;
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
use crate::shard::tenant::{Receipt, TenantKey};
use crate::wire::{
    api::Ack,
    envelope::{self, Body, Layer, Post},
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
    /// Its receivers are to acknowledge it; the user it is addressed to, where it is to one.
    asks: Option<Option<Box<str>>>,
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

impl Shard {
    /// Sends a durable event to its place; `then` is told of that. `listens`: listeners hear of it. Only in a fleet.
    pub(in crate::shard) fn append(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        then: Then,
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
        let append = Append {
            room: draft.room.into(),
            body: Body::Post(post_of(draft, &id, self.now.unix)).encode(self.origin()),
            id: draft.id.map(Into::into),
            id_ttl: PUBLISH_ID_TTL,
            keep: keep.events,
            linger,
            wait: self.wait_of(draft.room, draft.event),
            track: self.track_of(draft, &id),
        };
        let heard = (listens && self.listens(draft.event)).then(|| Box::new(Heard::of(draft)));
        let asks = asking.as_ref().map(|_| self.owner_of(draft.room).map(Box::from));
        let stream = self.tenants[tenant].stream.get_or_insert_default();
        stream.owed += 1;
        if let Some(Asking { ack, then }) = asking
            && let Some((_, before)) = stream.asking.insert(id.clone(), (ack, then))
        {
            // Asked again by the same id before it was answered: one of them is told how it ends.
            self.answer_unavailable(before);
        }
        let pending = Pending { tenant, id: id.clone(), heard, then, asks };
        let ticket = self.ticket(Job::Append(Box::new(pending)));
        let tenant = (*self.tenants[tenant].id).clone();
        self.relay(Relay::Append { tenant, ticket, append: Box::new(append) });
        Ok(id)
    }

    pub(super) fn appended(&mut self, pending: Pending, result: Result<Appended, Unavailable>) {
        let Pending { tenant: key, id, heard, then, asks } = pending;
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let live = tenant.stream.as_ref().is_some_and(|stream| stream.is_settled());
        if let Some(stream) = &mut tenant.stream {
            stream.owed -= 1;
        }
        match result {
            Ok(appended) => {
                let receipt = Receipt { id: id.clone(), place: Some((appended.room_epoch, appended.offset)) };
                if appended.known {
                    self.counts.up(Count::PublishedTwice);
                } else if let Some(heard) = heard {
                    self.run_listeners(key, &heard.draft(), &receipt);
                }
                self.answer_then(then, Ok(delivery::answer(&receipt, None)));
                // What was published before does not come again, and where nobody is nothing comes.
                if let Some(owner) = asks.filter(|_| appended.known || !live) {
                    self.nobody_asked(key, &receipt, owner.as_deref(), !appended.known);
                }
            }
            Err(Unavailable) => {
                let refusal = Refusal::BackplaneUnavailable;
                let asking = self.tenants[key].stream.as_mut().and_then(|stream| stream.asking.remove(&id));
                if let Some((_, then)) = asking {
                    self.answer_then(then, Err(refusal.clone()));
                }
                self.answer_then(then, Err(refusal));
            }
        }
        self.stir(key);
        self.tend_tenant(key);
    }

    /// An event that receivers are to acknowledge has none here.
    fn nobody_asked(&mut self, key: TenantKey, receipt: &Receipt, owner: Option<&str>, new: bool) {
        let asking = self.tenants[key].stream.as_mut().and_then(|stream| stream.asking.remove(&receipt.id));
        if let Some((_, then)) = asking {
            // The user it is addressed to is missed when it is not there.
            let missing: Vec<Rc<str>> = owner.map(Rc::from).into_iter().collect();
            let ended = new.then_some(delivery::Ended { acked: &[], missing: &missing });
            self.answer_then(then, Ok(delivery::answer(receipt, ended)));
        }
    }

    /// As [`nobody_asked`](Self::nobody_asked), when it has come back.
    pub(super) fn nobody_answers(&mut self, key: TenantKey, post: &Post<'_>, place: &envelope::Place) {
        let receipt =
            Receipt { id: post.id.into(), place: Some((crate::shard::history::Epoch(place.room_epoch), place.offset)) };
        let owner: Option<Box<str>> = self.owner_of(post.room).map(Into::into);
        self.nobody_asked(key, &receipt, owner.as_deref(), true);
    }

    /// Gives an event of the stream to those of its room who may have it. `late`: the stream had come as far as this before the event could be
    /// given.
    pub(super) fn deliver_placed(
        &mut self,
        key: TenantKey,
        room: RoomKey,
        event: &Rc<Event>,
        place: &envelope::Place,
        id: &str,
        late: Option<u64>,
    ) {
        let position = Position {
            token: self.token_of_landing(key, late.is_some()),
            ..Position::new(self.tenants[key].epoch, late.unwrap_or(place.sequence))
        };
        let asking = match &mut self.tenants[key].stream {
            Some(stream) if !stream.asking.is_empty() => stream.asking.remove(id),
            _ => None,
        };
        let number = asking.as_ref().map(|_| self.next_delivery());
        if late.is_some() {
            // Whoever has come since is told of it by where the room stands, or by its queue.
            self.deliver_late(room, event, position, place.sequence, number);
        } else {
            self.deliver(room, event, Some(position), false, None, number);
        }
        if let (Some((ack, then)), Some(number)) = (asking, number) {
            let epoch = self.rooms[room].epoch;
            let receipt = Receipt { id: id.into(), place: Some((epoch, place.offset)) };
            let asked = delivery::About { tenant: key, room, event: event.clone(), sequence: place.sequence, receipt };
            self.ask_receivers(asked, ack, then, number);
        }
        self.queue_landed(key, room, event, (place.sequence, id), number);
    }

    /// Publishes what is ephemeral to the others of the fleet; here it has been delivered.
    pub(in crate::shard) fn tell_post(&mut self, tenant: TenantKey, draft: &Draft<'_>, id: &str) {
        if self.is_fleet() {
            let post = post_of(draft, id, self.now.unix);
            self.tell_others(tenant, &Body::Post(post));
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
