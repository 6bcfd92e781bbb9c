//! The HTTP API's calls, answered by the tenant's shard.

use super::Shard;
use super::app::Context;
use super::count::Count;
use super::delivery::{self, Asked, Then};
use super::fleet::{Needs, Speaker};
use super::history::{Audience, Entry, Epoch};
use super::identity::Identity;
use super::io::Output;
use super::publish::Draft;
use super::refusal::Refusal;
use super::relay::presence::Totals;
use super::roster::write_rooms;
use super::socket::SocketKey;
use super::tenant::{Tenant, TenantKey};
use crate::base::{
    id::{ReplyTo, TenantId},
    time::UnixMs,
};
use crate::profile::{Profile, catalogue::Entered, room::Access};
use crate::wire::{
    api::{Call, Publish},
    auth::{Reject, Rights},
    http::Response,
};
use std::io::Write;
use std::rc::Rc;

impl Shard {
    pub(super) fn call(&mut self, from: ReplyTo, tenant: &TenantId, call: Call) {
        let home = tenant.home(self.settings.shards);
        if home != self.settings.shard {
            let parcel = super::io::Parcel::Call { from, tenant: tenant.clone(), call: Box::new(call) };
            return self.out.push(Output::Send { to: home, parcel });
        }
        self.counts.up(Count::CallsTotal);
        // A tenant nobody is of has empty rooms, not an error: it may have been full a second ago.
        let key = self.tenant_or_new(tenant);
        let call = match self.is_fleet() {
            true => match self.call_among_nodes(from, key, call) {
                Some(call) => call,
                None => return,
            },
            false => call,
        };
        let response = match call {
            Call::Publish(events) if events.iter().any(|event| event.ack.is_some()) => {
                // What other nodes say of their receivers is heard from then on.
                let publish = move |shard: &mut Shard| shard.call_publish_asking(from, key, &events);
                return self.when_ready(key, Needs::default(), publish);
            }
            Call::Publish(events) => match self.speak(Speaker::Backend, |shard| shard.call_publish(from, key, &events))
            {
                Some(response) => response,
                // It waits for its place.
                None => return,
            },
            Call::Rooms => Response::json(200, self.list_rooms(key)),
            Call::History { room, since, limit } if self.is_fleet() => {
                return self.call_history_in_fleet(from, key, room, since, limit);
            }
            Call::History { room, since, limit } => {
                let since = since.map(|(epoch, offset)| (Epoch::parse(&epoch).unwrap_or(Epoch(u64::MAX)), offset));
                Response::json(200, self.list_history(key, &room, since, limit, false, |_| true))
            }
            Call::Presence { room } => Response::json(200, self.list_presence(key, &room, false)),
            Call::User { user } => Response::json(200, self.describe_user(key, &user)),
            Call::Kick { user } => {
                let closed = self.kick(key, &user);
                Response::json(200, format!("{{\"closed\":{closed}}}").into_bytes())
            }
            Call::Stats => Response::json(200, self.stats(key, None)),
        };
        if self.tenants.contains(key) {
            self.tend_tenant(key);
        }
        self.out.push(Output::Respond { to: from, response: Response { no_store: true, ..response } });
    }

    fn call_publish_asking(&mut self, from: ReplyTo, key: TenantKey, events: &[Publish]) {
        let response = match self.tenants.contains(key) {
            true => self.speak(Speaker::Backend, |shard| shard.call_publish(from, key, events)),
            false => Some(refused(&Refusal::BackplaneUnavailable, 0, events.len())),
        };
        // Or it waits for those who are to acknowledge.
        if let Some(response) = response {
            if self.tenants.contains(key) {
                self.tend_tenant(key);
            }
            self.out.push(Output::Respond { to: from, response: Response { no_store: true, ..response } });
        }
    }

    /// The same once what the room has is here.
    fn call_history_in_fleet(
        &mut self,
        from: ReplyTo,
        key: TenantKey,
        room: Box<str>,
        since: Option<(Box<str>, u64)>,
        limit: usize,
    ) {
        let since = since.map(|(epoch, offset)| (Epoch::parse(&epoch).unwrap_or(Epoch(u64::MAX)), offset));
        self.when_ready(key, Needs::past(&room), move |shard| {
            if !shard.tenants.contains(key) {
                return;
            }
            let response = match shard.has_past(key, &room) {
                true => Response::json(200, shard.list_history(key, &room, since, limit, false, |_| true)),
                false => refused(&Refusal::BackplaneUnavailable, 0, 1),
            };
            shard.tend_tenant(key);
            shard.out.push(Output::Respond { to: from, response: Response { no_store: true, ..response } });
        });
    }

    /// `None`: the answer comes when the events' receivers have acknowledged them, or have not in time.
    fn call_publish(&mut self, from: ReplyTo, tenant: TenantKey, events: &[Publish]) -> Option<Response> {
        // All or nothing.
        for (nth, event) in events.iter().enumerate() {
            let fits = match self.app.profile.catalogue.of(&event.event) {
                Entered::Refused => Err(Refusal::UnknownType),
                Entered::Passed => Ok(()),
                Entered::Known(entry) => self.check_data(entry, &event.data),
            };
            if let Err(refusal) = fits {
                return Some(refused(&refusal, nth, events.len()));
            }
        }
        let call = self.open_call();
        let mut answers: Vec<Vec<u8>> = Vec::with_capacity(events.len());
        for (nth, event) in events.iter().enumerate() {
            let everyone = self.tenant_room_name(tenant);
            let user = event.user.as_deref().map(|user| self.own_room_name(user));
            let audience = (!event.to_roles.is_empty() || !event.to_permissions.is_empty()).then(|| {
                Box::new(Audience {
                    roles: event.to_roles.clone().into(),
                    permissions: event.to_permissions.clone().into(),
                    within: None,
                })
            });
            let draft = Draft {
                id: event.id.as_deref(),
                event: &event.event,
                room: event.room.as_deref().or(user.as_deref()).unwrap_or(&everyone),
                entity: event.entity.as_ref().map(|(kind, id)| (&**kind, &**id)),
                data: &event.data,
                ephemeral: event.ephemeral,
                user: None,
                audience,
            };
            let published = match event.ack {
                None => self.publish(tenant, &draft, Then::Call(call, nth)).map(|receipt| match receipt {
                    Some(receipt) => delivery::answer(&receipt, None),
                    None => Vec::new(),
                }),
                Some(ack) => {
                    self.publish_asking(tenant, &draft, ack, Then::Call(call, nth)).map(|(_, asked)| match asked {
                        Asked::Done(answer) => answer,
                        Asked::Waits => Vec::new(),
                    })
                }
            };
            match published {
                Ok(answer) => answers.push(answer),
                // What was published before it goes on; nobody waits for it any more.
                Err(refusal) => return Some(refused(&refusal, nth, events.len())),
            }
        }
        if answers.iter().any(Vec::is_empty) {
            self.wait_for_call(call, from, answers);
            return None;
        }
        Some(delivery::published(&answers))
    }

    pub(super) fn list_rooms(&self, tenant: TenantKey) -> Vec<u8> {
        let tenant = &self.tenants[tenant];
        let mut names: Vec<_> =
            tenant.rooms.iter().filter(|(_, room)| !self.rooms[**room].members.is_empty()).collect();
        names.sort_unstable_by(|a, b| a.0.cmp(b.0));
        write_rooms(names.into_iter().map(|(name, room)| (&**name, self.rooms[*room].members.len())), None)
    }

    /// `{events, epoch, offset, complete}`: the newest `limit` events, or the first `limit` after a position. `complete`: nothing between
    /// the position (or the room's beginning) and its newest event is missing from the list; `offset` is that of the last event listed.
    pub(super) fn list_history(
        &mut self,
        tenant: TenantKey,
        room: &str,
        since: Option<(Epoch, u64)>,
        limit: usize,
        ok: bool,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(if ok { b"{\"ok\":true,\"events\":[" } else { b"{\"events\":[" });
        let keep = self.settings.history.of(room);
        let Some(key) = self.tenants[tenant].rooms.get(room).copied() else {
            let complete = since.is_none();
            let _ = write!(out, "],\"epoch\":null,\"offset\":0,\"complete\":{complete}}}");
            return out;
        };
        let now = self.now.at;
        let state = &mut self.rooms[key];
        let (epoch, top) = (state.epoch, state.top());
        let mut complete = true;
        let mut last = top;
        if let Some(history) = &mut state.history {
            history.expire(now, keep);
            let mut list: Vec<&Entry> = Vec::new();
            match since.map(|(epoch, offset)| history.recover(epoch, offset)) {
                Some(Ok(entries)) => {
                    list.extend(entries);
                    complete = list.len() <= limit;
                    list.truncate(limit);
                }
                // Something is lost: give what there is, and say so.
                Some(Err(_)) => {
                    list.extend(history.entries().take(limit));
                    complete = false;
                }
                None => {
                    list.extend(history.entries().rev().take(limit));
                    list.reverse();
                    complete = list.first().map_or(top, |first| first.offset - 1) == 0;
                }
            }
            last = list.last().map_or(last, |entry| entry.offset);
            for (nth, entry) in list.into_iter().filter(|entry| wanted(entry)).enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                let meta = entry.event.meta.strip_suffix('}').unwrap_or("{");
                let _ = write!(out, "{meta},\"data\":{}}}", entry.event.data);
            }
        } else if let Some((since, offset)) = since {
            complete = since == epoch && offset == 0;
        }
        let _ = write!(out, "],\"epoch\":\"{epoch}\",\"offset\":{last},\"complete\":{complete}}}");
        out
    }

    /// `totals`: of all nodes.
    pub(super) fn stats(&self, tenant: TenantKey, totals: Option<Totals>) -> Vec<u8> {
        let tenant = &self.tenants[tenant];
        let here = || {
            let rooms = tenant.rooms.values().filter(|room| !self.rooms[**room].members.is_empty()).count();
            Totals { sessions: tenant.sessions, users: tenant.users, rooms: rooms as u32 }
        };
        let Totals { sessions, users, rooms } = totals.unwrap_or_else(here);
        let mut out = format!(
            "{{\"connections\":{sessions},\"users\":{users},\"rooms\":{rooms},\"recoverable\":{},\"published\":{}",
            tenant.saved.len(),
            tenant.sequence
        )
        .into_bytes();
        self.listeners.write_counters(&tenant.counters, &mut out);
        out.push(b'}');
        out
    }

    /// A fresh token for a session: it may say anything but another tenant or user. Rooms it no longer permits are left.
    pub(super) fn authenticate(&mut self, socket: SocketKey, token: &str) -> Result<Option<UnixMs>, Refusal> {
        let Some(settings) = &self.settings.auth else { return Ok(None) };
        let admission = crate::wire::auth::verify(token, &settings.keys, &settings.policy, self.now.unix)?;
        let key = self.sockets[socket].session;
        let before = self.sessions[key].identity.as_ref().ok_or(Refusal::Token(Reject::Missing))?;
        if !before.is(&admission) {
            return Err(Refusal::IdentityChanged);
        }
        let expires_at = admission.expires_at;
        let renewed = before.expires_at != expires_at;
        let tenant = self.tenant_of(socket);
        let Tenant { id, rights, .. } = &mut self.tenants[tenant];
        self.sessions[key].identity = Some(Box::new(Identity::new(admission, id.clone(), rights)));
        for socket in self.sessions[key].sockets.clone() {
            let identity = self.identity(socket);
            let lost: Vec<Rc<str>> = self.sockets[socket]
                .seats
                .iter()
                .skip(usize::from(self.sockets[socket].automatic))
                .map(|seat| self.rooms[seat.room].name.clone())
                .filter(|room| !self.may_stay(identity, room))
                .collect();
            for room in lost {
                self.leave_room(socket, &room);
            }
        }
        if renewed {
            self.sessions[key].told_expiring = false;
            self.arm_deadline(key);
        }
        Ok(expires_at)
    }
}

pub(super) fn refused(refusal: &Refusal, nth: usize, of: usize) -> Response {
    let among = match refusal {
        Refusal::InvalidData { pointer, why } if of > 1 => {
            Some(Refusal::InvalidData { pointer: format!("/{nth}{pointer}").into(), why: why.clone() })
        }
        _ => None,
    };
    let refusal = among.as_ref().unwrap_or(refusal);
    let mut body = b"{".to_vec();
    refusal.write_members(&mut body);
    if of > 1 && !matches!(refusal, Refusal::InvalidData { .. }) {
        // Of one that is refused while they are published: what came before it is published, and the caller repeats the rest.
        let _ = write!(body, ",\"pointer\":\"/{nth}\"");
    }
    body.push(b'}');
    match refusal {
        Refusal::RateLimited(wait) => {
            Response { retry_after_s: Some(wait.as_millis().div_ceil(1000).max(1) as u32), ..Response::json(429, body) }
        }
        Refusal::TooManyDeliveries | Refusal::BackplaneUnavailable => {
            Response { retry_after_s: Some(1), ..Response::json(503, body) }
        }
        _ => Response::json(400, body),
    }
}

/// What the default profile's events need beyond an application's means.
impl Context<'_> {
    /// Whether a room's past is here, or there is no store it could be in.
    pub(super) fn has_past(&self, room: &str) -> bool {
        self.shard.has_past(self.shard.tenant_of(self.socket), room)
    }

    /// Epoch and offset of a room's newest event; none where there is no such room, or only a store that is away could say.
    pub(super) fn place(&self, room: &str) -> Option<(Epoch, u64)> {
        let room = self.shard.room_key(self.socket, room).filter(|room| self.shard.is_headed(*room))?;
        let room = &self.shard.rooms[room];
        Some((room.epoch, room.top()))
    }

    /// Of the tenant's stream.
    pub(super) fn epoch(&self) -> Epoch {
        self.shard.tenants[self.shard.tenant_of(self.socket)].epoch
    }

    pub(super) fn profile(&self) -> Rc<Profile> {
        self.shard.app.profile.clone()
    }

    /// The room of all of the socket's tenant.
    pub(super) fn tenant_room(&self) -> String {
        self.shard.tenant_room_name(self.shard.tenant_of(self.socket))
    }

    pub(super) fn access(&self, room: &str) -> Access {
        self.shard.access(self.identity(), room)
    }

    /// Whether it may publish events of this type to a room.
    pub(super) fn may_publish(&self, room: &str, kind: &str) -> bool {
        match self.shard.app.profile.catalogue.of(kind) {
            Entered::Known(entry) => entry.lets_publish(self.identity(), room),
            // Of what is refused the publisher is told the reason, if it may publish at all.
            Entered::Passed | Entered::Refused => self.identity().may_publish(room),
        }
    }

    pub(super) fn check_room_name(&self, room: &str) -> Result<(), Refusal> {
        self.shard.check_room_name(room)
    }

    pub(super) fn subscribe(&mut self, room: &str, filter: Option<Rc<super::filter::Filter>>) -> Result<(), Refusal> {
        let room = self.shard.join(self.socket, room, filter)?;
        self.shard.owe_head(room);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, room: &str) -> bool {
        self.shard.leave_room(self.socket, room)
    }

    pub(super) fn narrow_all(&mut self, filter: Option<Rc<super::filter::Filter>>) {
        for seat in self.shard.sockets[self.socket].seats.clone() {
            self.shard.narrow(self.socket, seat.room, filter.clone());
        }
    }

    /// Whether a client has been further in a room than this node, as far as that is known.
    pub(super) fn is_ahead(&self, room: &str, epoch: Epoch, offset: u64) -> bool {
        self.shard.is_fleet() && self.place(room).is_some_and(|(here, top)| here == epoch && top < offset)
    }

    pub(super) fn replay(&mut self, room: &str, epoch: Epoch, offset: u64) -> Result<(), super::history::Gap> {
        if !self.has_past(room) {
            return Err(super::history::Gap::Unavailable);
        }
        if self.is_ahead(room, epoch, offset) && self.shard.is_store_away(self.shard.tenant_of(self.socket)) {
            // Another node may have given it out, and only the store could say.
            return Err(super::history::Gap::Unavailable);
        }
        let Some(room) = self.shard.room_key(self.socket, room) else { return Ok(()) };
        let mut missed = self.shard.since(self.socket, room, epoch, offset)?;
        self.shard.leave_out_given(self.socket, room, &mut missed);
        self.shard.replay(self.socket, &missed);
        Ok(())
    }

    /// This socket has missed something of a room that cannot be had.
    pub(super) fn tell_gap(&mut self, room: &str, gap: super::history::Gap) {
        if let Some(room) = self.shard.room_key(self.socket, room) {
            self.shard.counts.up(Count::Gaps);
            let args = self.shard.gap_of_room(room, gap);
            self.emit("gap", &args);
        }
    }

    pub(super) fn history(&mut self, room: &str, since: Option<(Epoch, u64)>, limit: usize) -> String {
        let tenant = self.shard.tenant_of(self.socket);
        let rights = Rights::clone(self.identity());
        let admits = |entry: &Entry| entry.event.audience.as_ref().is_none_or(|audience| audience.admits(&rights));
        String::from_utf8(self.shard.list_history(tenant, room, since, limit, true, admits)).unwrap_or_default()
    }

    pub(super) fn authenticate(&mut self, token: &str) -> Result<Option<UnixMs>, Refusal> {
        self.shard.authenticate(self.socket, token)
    }

    pub(super) fn count_refused_room(&mut self) {
        self.shard.counts.up(Count::RefusedRoom);
    }

    pub(super) fn count_refused_publish(&mut self) {
        self.shard.counts.up(Count::RefusedPublish);
    }
}
