//! What waits for users who are not there: the events of a user's own room that were published while none of its sockets was in it, given
//! to the next one that comes, in order and before anything newer, until they are acknowledged.
//!
//! ```text
//!   published, nobody there --> waiting --next socket--> given --received, ack, proof--> gone
//!                                  ^                       '--the socket ends without--> waiting
//!   sent to a connection that died without a word ('in doubt') --'
//! ```
//!
//! Invariants: what waits is given in the order it was published, and before anything newer; it waits until it is acknowledged, too old or
//! too much, and whatever of that happens is counted. The queues themselves are in `waiting.rs`.

use super::Shard;
use super::app::Context;
use super::count::Count;
use super::encode::{self, Outgoing};
use super::filter::Filter;
use super::history::{Event, Position, Token};
use super::receipt::Told;
use super::room::{RoomKey, slot};
use super::session::{Beat, Kind, SessionKey};
use super::socket::SocketKey;
use super::tenant::TenantKey;
use super::waiting::Waiting;
use crate::base::time::Duration;
use crate::profile::{catalogue::Entered, file::Removed};
use crate::wire::auth::{Pattern, Rights};
use std::collections::VecDeque;
use std::rc::Rc;

/// What is kept for whom, and for how long.
#[derive(Clone, Debug)]
pub struct OfflineSettings {
    /// How long an event waits.
    pub ttl: Duration,
    /// Events that wait for one user; beyond, its oldest are dropped and it is told how many. 0: nothing waits.
    pub per_user: u32,
    /// The first rule whose pattern fits an event's type decides; an event that none fits does not wait.
    pub rules: Vec<OfflineRule>,
}

#[derive(Clone, Debug)]
pub struct OfflineRule {
    pub types: Pattern,
    pub acknowledge: Acknowledge,
}

/// What ends an event's waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The client's `received {ids}`.
    Received,
    /// The acknowledgement of the event itself, which is sent with a request for one: `(data, meta, ack)`. `received` does, too.
    Asked,
    /// Nothing of the client's: a pong to a ping that was written behind the event. For clients that know nothing of a queue.
    Delivered,
}

impl Default for OfflineSettings {
    fn default() -> OfflineSettings {
        OfflineSettings::new(Duration::from_secs(24 * 3600), 1000, Removed::Received)
    }
}

impl OfflineSettings {
    /// One rule for all types: which of them wait is in the catalogue.
    pub fn new(ttl: Duration, per_user: u32, removed: Removed) -> OfflineSettings {
        let acknowledge = match removed {
            Removed::Received => Acknowledge::Received,
            Removed::Delivered => Acknowledge::Delivered,
        };
        let all = Pattern::parse("*").map(|types| OfflineRule { types, acknowledge });
        OfflineSettings { ttl, per_user, rules: all.into_iter().collect() }
    }
}

impl OfflineSettings {
    fn of(&self, event: &str) -> Option<Acknowledge> {
        let rule = self.rules.iter().find(|rule| rule.types.matches(event));
        rule.filter(|_| self.per_user > 0).map(|rule| rule.acknowledge)
    }
}

/// What was given to a socket out of its user's queue and is not acknowledged.
#[derive(Default)]
pub struct Given {
    /// Acknowledgements asked for, by their numbers: the events' places in the tenant's stream.
    asked: VecDeque<(u64, u64)>,
    /// Events that a pong proves.
    unproven: Vec<u64>,
    /// Pongs until it does: the first may answer a ping from before.
    pongs: u8,
}

impl Shard {
    /// Whether an event of this type waits, by the profile and the settings, and what ends that.
    pub(super) fn waits(&self, event: &str) -> Option<Acknowledge> {
        let profile = &self.app.profile;
        let entered = match profile.catalogue.of(event) {
            Entered::Known(entry) => entry.offline,
            Entered::Passed | Entered::Refused => None,
        };
        self.settings.offline.of(event).filter(|_| entered.unwrap_or(profile.offline.enabled))
    }

    /// A durable event was published: it waits where the room is a user's own and the user is not there.
    pub(super) fn keep_for_absent(
        &mut self,
        tenant: TenantKey,
        room: RoomKey,
        id: &Rc<str>,
        sequence: u64,
        event: &Rc<Event>,
    ) {
        let Some(user) = self.owner_of(&self.rooms[room].name) else { return };
        let Some(acknowledge) = self.waits(&event.name) else { return };
        if self.sockets_of_owner(room, user).next().is_none() {
            let user: Rc<str> = user.into();
            self.keep(tenant, &user, (sequence, id, event), acknowledge, false);
        }
    }

    fn keep(
        &mut self,
        tenant: TenantKey,
        user: &str,
        (sequence, id, event): (u64, &Rc<str>, &Rc<Event>),
        acknowledge: Acknowledge,
        in_doubt: bool,
    ) {
        let until = self.now.at + self.settings.offline.ttl;
        let waiting = Waiting { sequence, id: id.clone(), event: event.clone(), until, acknowledge, in_doubt };
        let offline = self.tenants[tenant].offline.get_or_insert_default();
        let dropped = offline.keep(user, waiting, self.settings.offline.per_user);
        self.counts.up(Count::OfflineKept);
        self.counts.add(Count::OfflineDropped, dropped);
        self.tend_tenant(tenant);
    }

    /// An event that was sent to a user who did not answer waits for it, as one that was never sent.
    pub(super) fn keep_unanswered(&mut self, tenant: TenantKey, user: &str, event: (u64, &Rc<str>, &Rc<Event>)) {
        let Some(acknowledge) = self.waits(&event.2.name) else { return };
        if self.is_fleet() {
            return self.keep_again(tenant, user, vec![event.0]);
        }
        self.keep(tenant, user, event, acknowledge, true);
    }

    /// The sockets of the user whose own room this is; others may have been let in by their tokens.
    pub(super) fn sockets_of_owner<'a>(&'a self, room: RoomKey, user: &'a str) -> impl Iterator<Item = SocketKey> + 'a {
        let members = self.rooms[room].members.iter().map(|member| member.socket);
        members.filter(move |socket| *self.identity(*socket).user == *user)
    }

    /// A session ends without a word: what was sent to it since it was last heard of may not have arrived, and waits where no other
    /// connection of its user has got it.
    pub(super) fn doubt(&mut self, key: SessionKey) {
        let session = &self.sessions[key];
        let (Some(tenant), Some(identity)) = (session.tenant, &session.identity) else { return };
        // A stream says which event it read last when it comes back, and nothing before.
        if session.kind == Kind::Events || self.settings.offline.per_user == 0 {
            return;
        }
        let user = identity.user.clone();
        let Some(room) = self.own_room(tenant, &user) else { return };
        let Some(history) = &self.rooms[room].history else { return };
        let since = |of: &dyn Fn(SocketKey) -> bool| {
            let sockets = self.sockets_of_owner(room, &user).filter(|socket| of(*socket));
            sockets.map(|socket| self.sockets[socket].connected_at).min().unwrap_or(u64::MAX)
        };
        let from = since(&|socket| self.sockets[socket].session == key);
        let covered = since(&|socket| self.sockets[socket].session != key);
        let doubtful: Vec<(u64, Rc<Event>)> = history
            .entries()
            .rev()
            .take_while(|entry| entry.at > session.last_heard)
            .filter(|entry| entry.sequence > from && entry.sequence <= covered)
            .map(|entry| (entry.sequence, entry.event.clone()))
            .collect();
        if self.is_fleet() {
            let waits = doubtful.iter().rev().filter(|(_, event)| self.waits(&event.name).is_some());
            let sequences = waits.map(|(sequence, _)| *sequence).collect();
            return self.keep_again(tenant, &user, sequences);
        }
        for (sequence, event) in doubtful.into_iter().rev() {
            let id = super::namespace::member(&event.meta, "id").and_then(crate::wire::json::string);
            if let (Some(id), Some(acknowledge)) = (id, self.waits(&event.name)) {
                self.keep(tenant, &user, (sequence, &Rc::from(&*id), &event), acknowledge, true);
            }
        }
    }

    /// Gives a socket what waits for its user and was published up to a place in the tenant's stream, oldest first.
    pub(super) fn give_waiting(&mut self, socket: SocketKey, up_to: u64, filter: Option<&Filter>) {
        let Some(state) = self.sockets.get(socket) else { return };
        let tenant = self.tenant_of(socket);
        let is_blind = self.tenants[tenant].stream.as_ref().is_some_and(|stream| stream.queues.blind);
        if self.tenants[tenant].offline.is_none() || is_blind {
            return;
        }
        let session = state.session;
        let user = self.identity(socket).user.clone();
        let now = self.now.at;
        let Shard { tenants, sessions, .. } = self;
        let Some(queue) = tenants[tenant].offline.as_ref().and_then(|offline| offline.of(&user)) else { return };
        let rights: Option<&Rights> = sessions[session].identity.as_deref().map(|identity| &**identity);
        let due = |waiting: &&Waiting| {
            waiting.sequence <= up_to
                && waiting.until > now
                && filter.is_none_or(|filter| filter.wants(&waiting.event))
                && is_for(&waiting.event, rights)
        };
        let due: Vec<Waiting> = queue.waiting.iter().filter(due).cloned().collect();
        self.give(socket, due, Some(up_to));
    }

    /// Gives a socket what waited; up to a place in the tenant's stream: each at its own, because nothing newer has been given yet.
    pub(super) fn give(&mut self, socket: SocketKey, due: Vec<Waiting>, up_to: Option<u64>) {
        let Some(state) = self.sockets.get(socket) else { return };
        let (session, variant, tenant) = (state.session, state.variant, self.tenant_of(socket));
        let user = self.identity(socket).user.clone();
        let Some(offline) = &mut self.tenants[tenant].offline else { return };
        let dropped = offline.take_dropped(&user);
        let epoch = self.tenants[tenant].epoch;
        if dropped > 0 {
            if self.is_fleet() {
                self.told_dropped(tenant, &user, dropped);
            }
            let args = format!(
                "{{\"code\":\"offline_overflow\",\"message\":\"more events waited than are kept: the oldest are lost\",\"dropped\":{dropped}}}"
            );
            self.send_event(socket, &Outgoing { name: "error", args: &args, ..Outgoing::default() }, false);
        }
        self.counts.add(Count::OfflineGiven, due.len() as u64);
        let recovery = self.settings.recovery > Duration::ZERO && variant != encode::EVENTS;
        let mut given = Given::default();
        let last = due.last().map(|waiting| waiting.sequence);
        for waiting in &due {
            let id = (waiting.acknowledge == Acknowledge::Asked && variant != encode::EVENTS).then(|| {
                let acks = &mut self.sockets[socket].extras.get_or_insert_default().acks;
                acks.next += 1;
                acks.next - 1
            });
            match (waiting.acknowledge, id) {
                (Acknowledge::Delivered, _) => given.unproven.push(waiting.sequence),
                (_, Some(id)) => given.asked.push_back((id, waiting.sequence)),
                (Acknowledge::Received | Acknowledge::Asked, None) => {}
            }
            let event = waiting.event.marked("queued", true);
            self.outbox.grant(slot(session), event.bytes() + 128);
            // Its own place, though it comes late: a client that names it has got all that came before it. A stream gets the place it
            // goes on from behind the last, since its rooms' events from before are not asked for.
            // Among the rows of others what comes late has no place; only who has got the last of all that waited has all there was.
            let has_all = up_to == Some(u64::MAX) && last == Some(waiting.sequence);
            let token = if self.reads_rows() && !has_all { Token::Unmoved } else { self.token_now(tenant) };
            let position = Position { token, ..Position::new(epoch, waiting.sequence) };
            let position = (recovery && up_to.is_some() && id.is_none()).then_some(position);
            let wrapped = self.wrapped(&event);
            self.send_event(socket, &Outgoing { position, id, ..wrapped.outgoing(&event) }, false);
        }
        if !given.asked.is_empty() || !given.unproven.is_empty() {
            let kept = &mut self.sockets[socket].extras.get_or_insert_default().given;
            kept.asked.append(&mut given.asked);
            self.ask_for_proof(socket, given.unproven);
        }
    }

    /// A client asks for what it missed of its own room, part of which it was given as it came.
    pub(super) fn leave_out_given(&self, socket: SocketKey, room: RoomKey, missed: &mut Vec<(u64, Rc<Event>)>) {
        let user = &self.identity(socket).user;
        let Some(offline) = &self.tenants[self.tenant_of(socket)].offline else { return };
        let Some(queue) = offline.of(user) else { return };
        if self.owner_of(&self.rooms[room].name) != Some(user) {
            return;
        }
        let connected_at = self.sockets[socket].connected_at;
        missed.retain(|(_, event)| {
            // Among nodes the queue has its own copies; an envelope names its event's place.
            let same = |waiting: &&Waiting| Rc::ptr_eq(&waiting.event, event) || waiting.event.meta == event.meta;
            let given = |waiting: &Waiting| !waiting.in_doubt && waiting.sequence <= connected_at;
            !queue.waiting.iter().find(same).is_some_and(given)
        });
    }

    /// A recovery has given these events again: what a pong proves of them is noted.
    pub(super) fn given_by_recovery(&mut self, socket: SocketKey, missed: &[(u64, Rc<Event>)]) {
        let Some(offline) = &self.tenants[self.tenant_of(socket)].offline else { return };
        let Some(queue) = offline.of(&self.identity(socket).user) else { return };
        let proven = queue.waiting.iter().filter(|waiting| {
            waiting.acknowledge == Acknowledge::Delivered
                && missed.binary_search_by_key(&waiting.sequence, |(sequence, _)| *sequence).is_ok()
        });
        let unproven = proven.map(|waiting| waiting.sequence).collect();
        self.ask_for_proof(socket, unproven);
    }

    /// Sends a ping right behind what was given: its pong says that all before it came.
    fn ask_for_proof(&mut self, socket: SocketKey, mut unproven: Vec<u64>) {
        if unproven.is_empty() {
            return;
        }
        let session = self.sockets[socket].session;
        let is_pinged = self.sessions[session].beat.waits_for_pong();
        let given = &mut self.sockets[socket].extras.get_or_insert_default().given;
        given.unproven.append(&mut unproven);
        given.unproven.sort_unstable();
        given.pongs = 1 + u8::from(is_pinged);
        if !is_pinged {
            self.ping_now(session);
        }
    }

    fn ping_now(&mut self, session: SessionKey) {
        self.sessions[session].beat = Beat::ping(self.now.at);
        self.beat(session);
        self.arm_deadline(session);
    }

    /// The peer has answered a ping: what was written before it has come.
    pub(super) fn proven(&mut self, key: SessionKey) {
        for nth in 0..self.sessions[key].sockets.len() {
            let socket = self.sessions[key].sockets[nth];
            let Some(extras) = &mut self.sockets[socket].extras else { continue };
            if extras.given.unproven.is_empty() {
                continue;
            }
            extras.given.pongs = extras.given.pongs.saturating_sub(1);
            if extras.given.pongs > 0 {
                self.ping_now(key);
                continue;
            }
            let proven = std::mem::take(&mut extras.given.unproven);
            self.settle(socket, |waiting| proven.binary_search(&waiting.sequence).is_ok());
        }
    }

    /// The client has acknowledged an event of the queue. False: that number is of something else.
    pub(super) fn acked_queued(&mut self, socket: SocketKey, id: u64) -> bool {
        let Some(extras) = &mut self.sockets[socket].extras else { return false };
        let Some(at) = extras.given.asked.iter().position(|(asked, _)| *asked == id) else { return false };
        if let Some((_, sequence)) = extras.given.asked.remove(at) {
            self.settle(socket, |waiting| waiting.sequence == sequence);
        }
        true
    }

    /// The client has received these events, wherever from. `ids` are in order.
    pub(super) fn received(&mut self, socket: SocketKey, ids: &[&str]) {
        self.settle(socket, |waiting| ids.binary_search(&&*waiting.id).is_ok());
        for id in ids {
            self.receiver_answered(socket, id);
        }
        self.tell_receipts_of_rooms(socket, ids, Told::Delivered);
    }

    /// A socket comes back and names the place it has read to: what it had got by then is acknowledged. `live_from`: where its last life
    /// began; from there on it got everything as it was published.
    pub(super) fn settle_read(&mut self, session: SessionKey, filter: Option<&Filter>, read_to: u64, live_from: u64) {
        let state = &self.sessions[session];
        let (Some(tenant), Some(identity)) = (state.tenant, &state.identity) else { return };
        let Some(offline) = &mut self.tenants[tenant].offline else { return };
        let rights: Option<&Rights> = Some(&***identity);
        let gone = offline.take(&identity.user, |waiting| {
            waiting.sequence <= read_to
                && (!waiting.in_doubt || waiting.sequence > live_from)
                && filter.is_none_or(|filter| filter.wants(&waiting.event))
                && is_for(&waiting.event, rights)
        });
        let user: Rc<str> = (*identity.user).into();
        self.settled(tenant, &user, gone);
    }

    /// Ends the waiting of what fits, of this socket's user.
    fn settle(&mut self, socket: SocketKey, fits: impl Fn(&Waiting) -> bool) {
        let tenant = self.tenant_of(socket);
        let user: Rc<str> = (*self.identity(socket).user).into();
        let Some(offline) = &mut self.tenants[tenant].offline else { return };
        let gone = offline.take(&user, fits);
        self.settled(tenant, &user, gone);
    }

    fn settled(&mut self, tenant: TenantKey, user: &str, gone: Vec<Waiting>) {
        self.counts.add(Count::OfflineAcknowledged, gone.len() as u64);
        if self.tenants[tenant].offline.as_ref().is_some_and(|offline| offline.is_empty()) {
            self.tenants[tenant].offline = None;
        }
        if self.is_fleet() {
            self.done(tenant, gone.iter().map(|waiting| waiting.sequence));
            let ids = gone.iter().map(|waiting| Box::from(&*waiting.id)).collect();
            return self.tell_receipts(tenant, user, Told::Delivered, ids, None);
        }
        for waiting in gone {
            self.tell_receipt_of(tenant, user, &waiting.id, Told::Delivered);
        }
    }

    /// Forgets what has waited long enough.
    pub(super) fn expire_offline(&mut self, tenant: TenantKey) {
        let Some(offline) = &mut self.tenants[tenant].offline else { return };
        let expired = offline.expire(self.now.at);
        self.counts.add(Count::OfflineExpired, expired);
        if offline.is_empty() {
            self.tenants[tenant].offline = None;
        }
    }
}

impl Context<'_> {
    /// The client has these events; `ids` are in order.
    pub fn received(&mut self, ids: &[&str]) {
        self.shard.received(self.socket, ids);
    }

    /// As [`received`](Self::received), and its user has read them.
    pub fn read(&mut self, ids: &[&str]) {
        // First, so that the sender is told once.
        self.shard.tell_receipts_of_rooms(self.socket, ids, Told::Read);
        self.shard.received(self.socket, ids);
    }
}

fn is_for(event: &Event, rights: Option<&Rights>) -> bool {
    event.audience.as_ref().is_none_or(|audience| rights.is_some_and(|rights| audience.admits(rights)))
}
