//! Publishing: one event into a room, once, in order, to every member that may have it.

use super::bucket::Verdict;
use super::count::Count;
use super::delivery::Then;
use super::encode::{self, Outgoing};
use super::fleet::{Asking, Speaker};
use super::history::{Audience, Epoch, Event, Position};
use super::outbox::FrameIndex;
use super::refusal::Refusal;
use super::room::{self, RoomKey};
use super::socket::SocketKey;
use super::tenant::{Receipt, Tenant, TenantKey};
use super::{Shard, Timer};
use crate::base::time::Duration;
use crate::profile::{
    catalogue::{Entered, Entry},
    file::{Acknowledge, Delivery},
};
use crate::wire::{
    api::Ack,
    envelope::{Body, Post},
    json,
};
use std::io::Write;
use std::rc::Rc;
use ulid::Ulid;

/// An event to be published; checked by the caller: names, sizes, permissions.
#[derive(Default)]
pub struct Draft<'a> {
    /// Chosen by the publisher, so that a retry within 5 minutes is the same event.
    pub id: Option<&'a str>,
    pub event: &'a str,
    pub room: &'a str,
    pub entity: Option<(&'a str, &'a str)>,
    /// JSON, validated.
    pub data: &'a str,
    pub ephemeral: bool,
    /// Who publishes it, where it is a user.
    pub user: Option<&'a str>,
    pub audience: Option<Box<Audience>>,
}

/// What was published.
pub struct Published {
    pub receipt: Receipt,
    /// Of a durable event: its room, its place in the tenant's stream, and what is remembered.
    pub kept: Option<(RoomKey, u64, Rc<Event>)>,
}

impl Shard {
    /// What is published meanwhile is of this speaker.
    pub(super) fn speak<T>(&mut self, speaker: Speaker, publish: impl FnOnce(&mut Shard) -> T) -> T {
        let before = self.speaker.replace(speaker);
        let done = publish(self);
        self.speaker = before;
        done
    }

    /// Publishes an event as the catalogue has it. None: among nodes it has no place yet, and `then` is told when it has.
    pub(super) fn publish(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        then: Then,
    ) -> Result<Option<Receipt>, Refusal> {
        let app = self.app.clone();
        match app.profile.catalogue.of(draft.event) {
            Entered::Refused => Err(Refusal::UnknownType),
            Entered::Passed => self.publish_checked(tenant, draft, then),
            Entered::Known(entry) => {
                let draft = self.entered(entry, draft)?;
                match entry.acknowledge.filter(|_| !draft.ephemeral && self.may_ask(tenant, draft.room)) {
                    None => self.publish_checked(tenant, &draft, then),
                    Some(Acknowledge { timeout_ms, retries }) => {
                        let ack = Ack { timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX), retries };
                        if self.is_fleet() {
                            let asking = Some(Asking { ack, then: Then::Nobody });
                            return self.append_paced(tenant, &draft, then, asking);
                        }
                        self.publish_checked_asking(tenant, &draft, ack, Then::Nobody).map(|(receipt, _)| Some(receipt))
                    }
                }
            }
        }
    }

    /// An event as the catalogue has it.
    pub(super) fn entered<'a>(&self, entry: &Entry, draft: &Draft<'a>) -> Result<Draft<'a>, Refusal> {
        self.check_data(entry, draft.data)?;
        let is_own = entry.receive_own && self.app.profile.rooms.is_user_room(draft.room);
        let audience = match entry.is_for_some() && !is_own {
            false => draft.audience.clone(),
            true => {
                let (roles, permissions) = (entry.receive_roles.clone(), entry.receive_permissions.clone());
                Some(Box::new(Audience { roles, permissions, within: draft.audience.clone() }))
            }
        };
        Ok(Draft { ephemeral: draft.ephemeral || entry.ephemeral, audience, ..*draft })
    }

    /// Whether data fits the schema of its type.
    pub(super) fn check_data(&self, entry: &Entry, data: &str) -> Result<(), Refusal> {
        match self.app.schemas.get(entry.index) {
            Some(Some(schema)) => schema.check(data, "/data"),
            _ => Ok(()),
        }
    }

    /// Publishes what is known to be right.
    fn publish_checked(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        then: Then,
    ) -> Result<Option<Receipt>, Refusal> {
        if self.is_fleet() && !draft.ephemeral {
            return self.append_paced(tenant, draft, then, None);
        }
        if let Some(receipt) = self.published_before(tenant, draft) {
            return Ok(Some(receipt));
        }
        self.pace_tenant(tenant)?;
        let receipt = self.publish_now(tenant, draft, None).receipt;
        self.run_listeners(tenant, draft, &receipt);
        Ok(Some(receipt))
    }

    /// Sends an event to its place, within its tenant's rate. Only in a fleet.
    pub(super) fn append_paced(
        &mut self,
        tenant: TenantKey,
        draft: &Draft<'_>,
        then: Then,
        asking: Option<Asking>,
    ) -> Result<Option<Receipt>, Refusal> {
        self.pace_tenant(tenant)?;
        self.append(tenant, draft, then, true, asking)?;
        Ok(None)
    }

    /// What became of an event whose publisher repeats it.
    pub(super) fn published_before(&mut self, tenant: TenantKey, draft: &Draft<'_>) -> Option<Receipt> {
        let receipt = self.tenants[tenant].publish_ids.get(draft.id?)?.clone();
        self.counts.up(Count::PublishedTwice);
        Some(receipt)
    }

    pub(super) fn pace_tenant(&mut self, tenant: TenantKey) -> Result<(), Refusal> {
        let rate = self.settings.limits.tenant_events_per_second;
        match self.tenants[tenant].bucket.take(self.now.at, 1, rate, rate) {
            Verdict::Granted => Ok(()),
            Verdict::Refused(wait) => Err(self.over_tenant_rate(wait)),
            Verdict::Flood => Err(self.over_tenant_rate(Duration::from_secs(1))),
        }
    }

    /// Publishes what was looked at before, and runs no listeners. `number`: members are asked to acknowledge it by this number.
    /// Among nodes a durable event is only sent to its place; what may become of that, nobody is told.
    pub(super) fn publish_now(&mut self, tenant: TenantKey, draft: &Draft<'_>, number: Option<u64>) -> Published {
        if self.is_fleet() && !draft.ephemeral {
            let id = self.append(tenant, draft, Then::Nobody, false, None).unwrap_or_default();
            return Published { receipt: Receipt { id, place: None }, kept: None };
        }
        let id: Rc<str> = match draft.id {
            Some(id) => id.into(),
            None => Ulid::from_parts(self.now.unix.0, self.chance.u128()).to_string().into(),
        };
        self.counts.up(Count::Published);
        let mut event = Event {
            name: draft.event.into(),
            data: draft.data.into(),
            meta: "".into(),
            entity: draft.entity.map(|(kind, id)| (kind.into(), id.into())),
            audience: draft.audience.clone(),
        };
        let mut receipt = Receipt { id, place: None };
        let mut kept = None;
        if draft.ephemeral {
            match self.tenants[tenant].rooms.get(draft.room).copied() {
                Some(room) if self.is_behind(tenant, self.speaker) => {
                    let event = Box::new(event);
                    self.say_behind(tenant, self.speaker, move |shard| shard.deliver_told(room, &event));
                }
                Some(room) => self.deliver(room, &event, None, true, None, None),
                None => {}
            }
            self.tell_post(tenant, draft, &receipt.id);
        } else {
            let room = self.room_or_new(tenant, draft.room);
            let sequence = self.tenants[tenant].sequence + 1;
            self.tenants[tenant].sequence = sequence;
            let position = Position::new(self.tenants[tenant].epoch, sequence);
            let state = &mut self.rooms[room];
            let (epoch, offset) = (state.epoch, state.history_mut().next_offset());
            receipt.place = Some((epoch, offset));
            event.meta = self.meta(draft, &receipt);
            let event = Rc::new(event);
            let keep = self.settings.history.of(draft.room);
            let state = &mut self.rooms[room];
            state.history_mut().append(self.now.at, sequence, event.clone(), keep);
            if !state.sweeping {
                state.sweeping = true;
                self.timers.arm(self.now.at + keep.ttl + Duration::from_millis(10), Timer::SweepRoom(room));
            }
            self.deliver(room, &event, Some(position), false, None, number);
            self.keep_for_absent(tenant, room, &receipt.id, sequence, &event);
            self.track_receipts(tenant, &receipt.id, draft, &event);
            kept = Some((room, sequence, event));
        }
        if draft.id.is_some() {
            self.tenants[tenant].publish_ids.insert(self.now.at, receipt.clone());
            self.tend_tenant(tenant);
        }
        Published { receipt, kept }
    }

    fn over_tenant_rate(&mut self, wait: Duration) -> Refusal {
        self.counts.up(Count::RefusedRate);
        Refusal::RateLimited(wait)
    }

    /// The envelope without its data.
    pub(super) fn meta(&self, draft: &Draft<'_>, receipt: &Receipt) -> Box<str> {
        let post = Post {
            id: &receipt.id,
            event: draft.event,
            room: draft.room,
            time: self.now.unix,
            user: draft.user,
            entity: draft.entity,
            ..Post::default()
        };
        meta(&post, receipt.place)
    }

    /// Encodes an event once for each form its room's members read, and gives each member its own.
    pub(super) fn deliver(
        &mut self,
        room: RoomKey,
        event: &Event,
        position: Option<Position>,
        ephemeral: bool,
        except: Option<SocketKey>,
        number: Option<u64>,
    ) {
        let state = &self.rooms[room];
        if state.members.is_empty() {
            return;
        }
        let wrapped = self.wrapped(event);
        let outgoing = wrapped.outgoing(event);
        let position = position.or_else(|| self.spoil_guard(room, outgoing.args));
        let outgoing = Outgoing { position, id: number, ..outgoing };
        let frames = self.frames(room, &outgoing, ephemeral);
        let Shard { rooms, outbox, sockets, sessions, .. } = self;
        let state = &rooms[room];
        if event.audience.is_none() && state.narrowed == 0 && except.is_none() {
            return room::fan_out(&state.members, &frames, outbox);
        }
        room::fan_out_some(&state.members, &frames, outbox, |member| {
            except != Some(member.socket) && room::wants(sockets, sessions, room, member, event)
        });
    }

    /// As [`deliver`](Self::deliver), of an ephemeral event, if its room is still here.
    fn deliver_told(&mut self, room: RoomKey, event: &Event) {
        if self.rooms.contains(room) {
            self.deliver(room, event, None, true, None, None);
        }
    }

    /// As [`deliver`](Self::deliver), to those who were members before this place of the tenant's sequence.
    pub(super) fn deliver_late(
        &mut self,
        room: RoomKey,
        event: &Event,
        position: Position,
        sequence: u64,
        number: Option<u64>,
    ) {
        if self.rooms[room].members.is_empty() {
            return;
        }
        let wrapped = self.wrapped(event);
        let outgoing = Outgoing { position: Some(position), id: number, ..wrapped.outgoing(event) };
        let frames = self.frames(room, &outgoing, false);
        let Shard { rooms, outbox, sockets, sessions, .. } = self;
        room::fan_out_some(&rooms[room].members, &frames, outbox, |member| {
            let socket = &sockets[member.socket];
            let was_here = socket.seat(room).is_some_and(|seat| socket.joined_at(seat) < sequence);
            was_here && room::wants(sockets, sessions, room, member, event)
        });
    }

    /// The form in which this application's clients want their events.
    pub(super) fn wrapped(&self, event: &Event) -> Wrapped {
        wrapped(self.app.profile.delivery, event)
    }

    /// Sends what is not stored to a room's members on every node, but not to one that reads slowly.
    pub(super) fn emit_everywhere(
        &mut self,
        tenant: TenantKey,
        room: &str,
        outgoing: &Outgoing<'_>,
        except: Option<SocketKey>,
    ) {
        let speaker = except.map(Speaker::Socket);
        match self.tenants[tenant].rooms.get(room).copied() {
            Some(room) if self.is_behind(tenant, speaker) => {
                let (event, args): (Box<str>, Box<str>) = (outgoing.name.into(), outgoing.args.into());
                self.say_behind(tenant, speaker, move |shard| {
                    if shard.rooms.contains(room) {
                        let outgoing = Outgoing { name: &event, args: &args, ..Outgoing::default() };
                        shard.emit_to(room, &outgoing, except);
                    }
                });
            }
            Some(room) => self.emit_to(room, outgoing, except),
            None => {}
        }
        if self.is_fleet() {
            let Outgoing { name: event, args, .. } = *outgoing;
            self.tell_behind(tenant, &Body::Emit { room, event, args, ephemeral: true, except: None });
        }
    }

    /// Sends what is not stored to a room's members, but not to one that reads slowly.
    pub(super) fn emit_to(&mut self, room: RoomKey, outgoing: &Outgoing<'_>, except: Option<SocketKey>) {
        self.send_to(room, outgoing, true, except);
    }

    /// Sends what is not stored to a room's members; one that reads slowly does not get what is ephemeral.
    pub(super) fn send_to(
        &mut self,
        room: RoomKey,
        outgoing: &Outgoing<'_>,
        ephemeral: bool,
        except: Option<SocketKey>,
    ) {
        if self.rooms[room].members.is_empty() {
            return;
        }
        let outgoing = Outgoing { position: self.spoil_guard(room, outgoing.args), ..*outgoing };
        let frames = self.frames(room, &outgoing, ephemeral);
        let Shard { rooms, outbox, .. } = self;
        match except {
            None => room::fan_out(&rooms[room].members, &frames, outbox),
            Some(except) => {
                room::fan_out_some(&rooms[room].members, &frames, outbox, |member| member.socket != except);
            }
        }
    }

    /// The official client takes any string at an event's end for the position to recover from. What is not stored has none, so where it
    /// ends in a string it is given the place it was sent at; without this, one such event would spoil the next recovery.
    fn spoil_guard(&self, room: RoomKey, args: &str) -> Option<Position> {
        self.guard(self.rooms[room].tenant, args)
    }

    /// As [`spoil_guard`](Self::spoil_guard).
    pub(super) fn guard(&self, tenant: TenantKey, args: &str) -> Option<Position> {
        (self.settings.recovery > Duration::ZERO && args.ends_with('"')).then(|| self.position_now(tenant))
    }

    /// Where a tenant's stream stands here.
    pub(super) fn position_now(&self, tenant: TenantKey) -> Position {
        let Tenant { epoch, sequence, .. } = self.tenants[tenant];
        Position { token: self.token_now(tenant), ..Position::new(epoch, sequence) }
    }

    /// One frame for each variant among a room's members, indexed by variant.
    pub(super) fn frames(
        &mut self,
        room: RoomKey,
        outgoing: &Outgoing<'_>,
        ephemeral: bool,
    ) -> smallvec::SmallVec<[FrameIndex; 8]> {
        let Shard { rooms, outbox, app, text, settings, .. } = self;
        outbox.reserve(rooms[room].variants().count());
        let mut frames = smallvec::SmallVec::from_elem(FrameIndex::NONE, encode::variant_count(app.names.len()));
        for variant in rooms[room].variants() {
            let outgoing = match variant {
                // `/ws` has no use for a position; server-sent events always have, for `Last-Event-ID`.
                // A stream cannot acknowledge anything.
                encode::EVENTS => Outgoing { id: None, ..*outgoing },
                // With a request for an acknowledgement a position is of no use: the official client looks for it at the end of the
                // arguments, where the acknowledgement is then.
                _ if settings.recovery == Duration::ZERO || outgoing.id.is_some() => {
                    Outgoing { position: None, ..*outgoing }
                }
                _ => *outgoing,
            };
            frames[usize::from(variant.0)] = outbox.frame(outgoing.encode(variant, &app.names, text), ephemeral);
        }
        frames
    }

    pub(super) fn announce_all(&mut self, announcement: &super::io::Announcement) {
        let tenants = self.tenants.keys().collect::<Vec<_>>();
        let rooms: Vec<RoomKey> = tenants.into_iter().filter_map(|tenant| self.tenant_room(tenant)).collect();
        for room in rooms {
            let outgoing = Outgoing { name: &announcement.event, args: &announcement.data, ..Outgoing::default() };
            self.emit_to(room, &outgoing, None);
        }
    }
}

/// The envelope of an event without its data.
pub(super) fn meta(post: &Post<'_>, place: Option<(Epoch, u64)>) -> Box<str> {
    let mut out = Vec::with_capacity(160);
    let mut text = |name: &str, value: &str| {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        json::write_string(&mut out, value);
    };
    text("id", post.id);
    text("type", post.event);
    text("room", post.room);
    if let Some(user) = post.user {
        text("user", user);
    }
    if let Some((kind, id)) = post.entity {
        out.extend_from_slice(b",\"entity\":{\"type\":");
        json::write_string(&mut out, kind);
        out.extend_from_slice(b",\"id\":");
        json::write_string(&mut out, id);
        out.push(b'}');
    }
    let _ = write!(out, ",\"time\":\"{}\"", post.time.rfc3339());
    if let Some((epoch, offset)) = place {
        let _ = write!(out, ",\"epoch\":\"{epoch}\",\"offset\":{offset}");
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default().into()
}

/// An event in the form in which an application's clients want theirs.
pub(super) fn wrapped(delivery: Delivery, event: &Event) -> Wrapped {
    let mut out = Vec::new();
    let name = match delivery {
        Delivery::Named => return Wrapped(None),
        // The envelope: of a durable event its meta with the data.
        Delivery::Event if event.meta.len() > 2 => {
            out.extend_from_slice(&event.meta.as_bytes()[..event.meta.len() - 1]);
            "event"
        }
        Delivery::Event | Delivery::Message => {
            out.extend_from_slice(b"{\"type\":");
            json::write_string(&mut out, &event.name);
            if delivery == Delivery::Event { "event" } else { "message" }
        }
    };
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(event.data.as_bytes());
    out.push(b'}');
    Wrapped(Some((name, String::from_utf8(out).unwrap_or_default())))
}

/// An event's name and argument as clients get it, where that is not its own.
pub(super) struct Wrapped(Option<(&'static str, String)>);

impl Wrapped {
    pub fn outgoing<'a>(&'a self, event: &'a Event) -> Outgoing<'a> {
        match &self.0 {
            None => Outgoing { name: &event.name, args: &event.data, meta: &event.meta, ..Outgoing::default() },
            // The envelope is all there is; `message` has its meta beside it, as named events have.
            Some((name @ "event", args)) => Outgoing { name, args, ..Outgoing::default() },
            Some((name, args)) => Outgoing { name, args, meta: &event.meta, ..Outgoing::default() },
        }
    }
}

/// `"id":..,"epoch":..,"offset":..`; an ephemeral event has no place.
pub(super) fn write_receipt(receipt: &Receipt, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"id\":");
    json::write_string(out, &receipt.id);
    if let Some((epoch, offset)) = receipt.place {
        let _ = write!(out, ",\"epoch\":\"{epoch}\",\"offset\":{offset}");
    }
}
