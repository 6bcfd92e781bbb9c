//! What waits for users who are not there: the events of a user's own room that were published while none of its sockets was in it, given
//! to the next one that comes, in order and before anything newer, until they are acknowledged.
//!
//! ```text
//!   published, nobody there --> waiting --next socket--> given --received, ack, proof--> gone
//!                                  ^                       '--the socket ends without--> waiting
//!   sent to a connection that died without a word ('in doubt') --'
//! ```
//!
//! Invariants: in a queue sequences rise, so what is given is in the order it was published; `bytes` and `count` are the sums over all
//! queues; every entry has a line in `order`; a queue that is empty is not there.
//!
//! The events are the history's own, by reference: what both remember costs once.

use super::Shard;
use super::app::Context;
use super::count::Count;
use super::encode::{self, Outgoing};
use super::filter::Filter;
use super::history::{Event, Position};
use super::receipt::Told;
use super::room::{RoomKey, slot};
use super::session::{Beat, Kind, SessionKey};
use super::socket::SocketKey;
use super::tenant::TenantKey;
use crate::base::{
    limit,
    time::{Duration, Instant},
};
use crate::profile::{catalogue::Entered, file::Removed};
use crate::wire::auth::{Pattern, Rights};
use std::collections::{BTreeMap, VecDeque};
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

/// One event that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its place in the tenant's stream.
    pub sequence: u64,
    pub id: Rc<str>,
    pub event: Rc<Event>,
    pub until: Instant,
    pub acknowledge: Acknowledge,
    /// It was sent to a connection that may have been dead: a position its user comes back with says nothing of it.
    pub in_doubt: bool,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.event.bytes() + limit::OFFLINE_EVENT_COST
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Events dropped since the user was told.
    dropped: u64,
}

/// All queues of a tenant.
#[derive(Default)]
pub struct Offline {
    users: BTreeMap<Rc<str>, Queue>,
    /// All entries in the order they leave by age; lines of entries that are gone are skipped.
    order: VecDeque<(Instant, u64, Rc<str>)>,
    count: usize,
    bytes: usize,
}

impl Offline {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Adds an event at its place of a user's queue, once; how many were dropped for it.
    fn keep(&mut self, user: &str, waiting: Waiting, per_user: u32) -> u64 {
        let name = self.users.get_key_value(user).map_or_else(|| user.into(), |(name, _)| name.clone());
        let queue = self.users.entry(name.clone()).or_default();
        let at = queue.waiting.partition_point(|other| other.sequence < waiting.sequence);
        if queue.waiting.get(at).is_some_and(|other| other.sequence == waiting.sequence) {
            return 0;
        }
        let (cost, line) = (waiting.cost(), (waiting.until, waiting.sequence, name));
        queue.waiting.insert(at, waiting);
        queue.bytes += cost;
        self.bytes += cost;
        self.count += 1;
        self.order.push_back(line);
        let mut dropped = 0;
        while queue.waiting.len() > per_user as usize
            || (queue.bytes > limit::OFFLINE_USER_BYTES_MAX && queue.waiting.len() > 1)
        {
            let Some(oldest) = queue.waiting.pop_front() else { break };
            queue.bytes -= oldest.cost();
            queue.dropped += 1;
            self.bytes -= oldest.cost();
            self.count -= 1;
            dropped += 1;
        }
        while self.bytes > limit::OFFLINE_TENANT_BYTES_MAX {
            let Some((_, sequence, user)) = self.order.pop_front() else { break };
            if let Some(queue) = self.users.get_mut(&user)
                && queue.waiting.binary_search_by_key(&sequence, |waiting| waiting.sequence).is_ok()
            {
                queue.dropped += 1;
                self.remove(&user, sequence);
                dropped += 1;
            }
        }
        if self.order.len() > 2 * self.count + 64 {
            let Offline { users, order, .. } = self;
            order.retain(|(_, sequence, user)| {
                users.get(user).is_some_and(|queue| {
                    queue.waiting.binary_search_by_key(sequence, |waiting| waiting.sequence).is_ok()
                })
            });
        }
        dropped
    }

    fn remove(&mut self, user: &str, sequence: u64) -> Option<Waiting> {
        let queue = self.users.get_mut(user)?;
        let at = queue.waiting.binary_search_by_key(&sequence, |waiting| waiting.sequence).ok()?;
        let gone = queue.waiting.remove(at)?;
        queue.bytes -= gone.cost();
        self.bytes -= gone.cost();
        self.count -= 1;
        if queue.waiting.is_empty() {
            self.users.remove(user);
        }
        Some(gone)
    }

    /// Takes out of a user's queue what fits.
    fn take(&mut self, user: &str, fits: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let Some(queue) = self.users.get(user) else { return Vec::new() };
        let gone: Vec<u64> =
            queue.waiting.iter().filter(|waiting| fits(waiting)).map(|waiting| waiting.sequence).collect();
        gone.into_iter().filter_map(|sequence| self.remove(user, sequence)).collect()
    }

    /// Forgets what has waited long enough; how many.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let mut expired = 0;
        while self.order.front().is_some_and(|(until, ..)| *until <= now) {
            if let Some((_, sequence, user)) = self.order.pop_front() {
                expired += u64::from(self.remove(&user, sequence).is_some());
            }
        }
        expired
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
    fn waits(&self, event: &str) -> Option<Acknowledge> {
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
        if let Some(acknowledge) = self.waits(&event.2.name) {
            self.keep(tenant, user, event, acknowledge, true);
        }
    }

    /// The sockets of the user whose own room this is; others may have been let in by their tokens.
    fn sockets_of_owner<'a>(&'a self, room: RoomKey, user: &'a str) -> impl Iterator<Item = SocketKey> + 'a {
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
        if self.tenants[tenant].offline.is_none() {
            return;
        }
        let (session, variant) = (state.session, state.variant);
        let user = self.identity(socket).user.clone();
        let now = self.now.at;
        let Shard { tenants, sessions, .. } = self;
        let epoch = tenants[tenant].epoch;
        let Some(queue) = tenants[tenant].offline.as_mut().and_then(|offline| offline.users.get_mut(&*user)) else {
            return;
        };
        let rights: Option<&Rights> = sessions[session].identity.as_deref().map(|identity| &**identity);
        let due = |waiting: &&Waiting| {
            waiting.sequence <= up_to
                && waiting.until > now
                && filter.is_none_or(|filter| filter.wants(&waiting.event))
                && is_for(&waiting.event, rights)
        };
        let due: Vec<Waiting> = queue.waiting.iter().filter(due).cloned().collect();
        let dropped = std::mem::take(&mut queue.dropped);
        if dropped > 0 {
            let args = format!(
                "{{\"code\":\"offline_overflow\",\"message\":\"more events waited than are kept: the oldest are lost\",\"dropped\":{dropped}}}"
            );
            self.send_event(socket, &Outgoing { name: "error", args: &args, ..Outgoing::default() }, false);
        }
        self.counts.add(Count::OfflineGiven, due.len() as u64);
        let recovery = self.settings.recovery > Duration::ZERO && variant != encode::EVENTS;
        let mut given = Given::default();
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
            let position = Position { epoch, sequence: waiting.sequence };
            let position = (recovery && id.is_none()).then_some(position);
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
        let Some(queue) = offline.users.get(&**user) else { return };
        if self.owner_of(&self.rooms[room].name) != Some(user) {
            return;
        }
        let connected_at = self.sockets[socket].connected_at;
        missed.retain(|(_, event)| {
            let same = |waiting: &&Waiting| Rc::ptr_eq(&waiting.event, event);
            let given = |waiting: &Waiting| !waiting.in_doubt && waiting.sequence <= connected_at;
            !queue.waiting.iter().find(same).is_some_and(given)
        });
    }

    /// A recovery has given these events again: what a pong proves of them is noted.
    pub(super) fn given_by_recovery(&mut self, socket: SocketKey, missed: &[(u64, Rc<Event>)]) {
        let Some(offline) = &self.tenants[self.tenant_of(socket)].offline else { return };
        let Some(queue) = offline.users.get(&*self.identity(socket).user) else { return };
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
            self.answered(socket, id);
            self.tell_receipt(socket, id, Told::Delivered);
        }
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
        for id in ids {
            self.shard.tell_receipt(self.socket, id, Told::Read);
        }
        self.shard.received(self.socket, ids);
    }
}

fn is_for(event: &Event, rights: Option<&Rights>) -> bool {
    event.audience.as_ref().is_none_or(|audience| rights.is_some_and(|rights| audience.admits(rights)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(sequence: u64, bytes: usize) -> Waiting {
        let event = Rc::new(Event {
            name: "e".into(),
            data: "x".repeat(bytes).into(),
            meta: "{}".into(),
            entity: None,
            audience: None,
        });
        let (id, until) = (sequence.to_string().into(), Instant(sequence * 10));
        Waiting { sequence, id, event, until, acknowledge: Acknowledge::Received, in_doubt: false }
    }

    fn sequences(offline: &Offline, user: &str) -> Vec<u64> {
        offline.users.get(user).map_or(Vec::new(), |queue| queue.waiting.iter().map(|one| one.sequence).collect())
    }

    /// The sums are what the queues hold, and nothing is left of an empty queue.
    fn check(offline: &Offline) {
        let all = || offline.users.values().flat_map(|queue| &queue.waiting);
        assert_eq!((offline.count, offline.bytes), (all().count(), all().map(Waiting::cost).sum()));
        assert!(offline.users.values().all(|queue| !queue.waiting.is_empty()));
        assert!(offline.order.len() >= offline.count);
    }

    #[test]
    fn a_queue_is_in_order_whatever_comes_when() {
        let mut offline = Offline::default();
        for (until, (sequence, dropped, want)) in (1..).zip([
            (5, 0, &[5][..]),
            (7, 0, &[5, 7]),
            (6, 0, &[5, 6, 7]),
            (6, 0, &[5, 6, 7]),
            (9, 1, &[6, 7, 9]),
            // Older than all that is kept: it is the one to go.
            (1, 1, &[6, 7, 9]),
        ]) {
            let until = Instant(10 * until);
            assert_eq!(offline.keep("u", Waiting { until, ..waiting(sequence, 1) }, 3), dropped);
            assert_eq!(sequences(&offline, "u"), want);
            check(&offline);
        }
        assert_eq!(offline.users["u"].dropped, 2);
        assert_eq!(offline.take("u", |one| one.sequence == 7).len(), 1);
        assert_eq!(offline.expire(Instant(30)), 1, "6 is over, 5 and 1 are gone already");
        assert_eq!(sequences(&offline, "u"), [9]);
        check(&offline);
        assert_eq!(offline.expire(Instant(50)), 1);
        assert!(offline.is_empty() && offline.users.is_empty());
    }

    #[test]
    fn bytes_are_bounded_for_a_user_and_for_a_tenant() {
        let mut offline = Offline::default();
        let large = 1 << 20;
        let kept = (limit::OFFLINE_USER_BYTES_MAX / (large + limit::OFFLINE_EVENT_COST)) as u64;
        let mut dropped = 0;
        for n in 1..=20 {
            dropped += offline.keep("u", waiting(n, large), 1000);
            check(&offline);
        }
        assert_eq!(dropped, 20 - kept);
        assert_eq!(sequences(&offline, "u").first(), Some(&(21 - kept)));
        for n in 21..=200 {
            offline.keep(&format!("u{n}"), waiting(n, large), 1000);
            check(&offline);
            assert!(offline.bytes <= limit::OFFLINE_TENANT_BYTES_MAX);
        }
        assert_eq!(sequences(&offline, "u"), [0; 0], "the oldest of the tenant go first, whoever they are for");
        assert_eq!(sequences(&offline, "u200"), [200]);
    }

    #[test]
    fn lines_of_what_is_gone_do_not_pile_up() {
        let mut offline = Offline::default();
        for n in 1..=10_000 {
            offline.keep("u", waiting(n, 1), 10);
            if n % 3 == 0 {
                offline.take("u", |one| one.sequence == n);
            }
            check(&offline);
            assert!(offline.order.len() <= 2 * 10 + 65);
        }
    }
}
