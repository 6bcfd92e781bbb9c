//! What the store is to know of this node's users, and what it says of everybody's.
//!
//! ```text
//!  a user comes, goes, sits down, gets up, says how it is -> news; at the end of the turn all of it is said
//!  the store has seen all nodes and notes a change        -> every node tells its own, this one too       (Envelope)
//!  it answers                                             -> how the user is elsewhere; too many sessions are closed
//!  the store is away                                      -> this node's own are told at once, and the store when it is back
//!  it is back                                             -> all users are said again; nobody hears of whom it knew
//! ```
//!
//! Invariants: what is said of a user is all this node has of it, so that it may be said again at any time; a user is in the roll while it is
//! here, or until the store has heard that it is not; of what was said and not taken nothing is forgotten, but for what a lease would end anyway.

use super::stream::State;
use crate::base::{
    limit::{FLEET_RETURN, PRESENCE_SAY_MAX, PRESENCE_SEATS_MAX},
    time::{Duration, Instant, UnixMs},
};
use crate::shard::count::Count;
use crate::shard::gathering::Circle;
use crate::shard::relay::presence::{Act, Answer, Change, Row, Said, Seat, Stance, Terms};
use crate::shard::relay::{self, Unavailable};
use crate::shard::session::SessionKey;
use crate::shard::socket::SocketKey;
use crate::shard::status::{Choice, Standing, Status};
use crate::shard::tenant::TenantKey;
use crate::shard::{Shard, Timer};
use crate::wire::{close::Close, envelope::presence};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A tenant's users on this node, as the store knows them or is to.
#[derive(Default)]
pub struct Roll {
    users: BTreeMap<Rc<str>, Known>,
    /// Those with news, in the order they came.
    dirty: Vec<Rc<str>>,
    /// When the store has heard of it last.
    said_at: Instant,
    /// The store did not take what was said: it is not tried again before the lease is renewed, or the store is back.
    rests: bool,
    /// Until then nobody else is told what this node's own were told while the store was away.
    holds_until: Instant,
}

#[derive(Default)]
struct Known {
    /// It was said that it is here: the store may know.
    said: bool,
    /// The store has answered that it knows, and has told everybody.
    confirmed: bool,
    news: Option<Box<News>>,
}

#[derive(Default)]
struct News {
    /// It has said how it is.
    sets: bool,
    /// Everybody knows that it is here, should the store have forgotten.
    known: bool,
    /// This node's own have been told, and nobody else.
    told: bool,
    seen: UnixMs,
    /// Sessions that the store has not counted, oldest first.
    sessions: Vec<SessionKey>,
    /// What this node's own are to be told, should the store be away.
    untold: Vec<Untold>,
}

struct Untold {
    circle: Circle,
    from: Option<Standing>,
    to: Option<Standing>,
    seen: UnixMs,
}

/// What was said of one user.
struct Sent {
    user: Rc<str>,
    gone: bool,
    news: Box<News>,
}

impl Roll {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn news(&mut self, user: &str) -> &mut News {
        let name = match self.users.get_key_value(user) {
            Some((name, _)) => name.clone(),
            None => user.into(),
        };
        let known = self.users.entry(name.clone()).or_default();
        if known.news.is_none() {
            self.dirty.push(name);
        }
        known.news.get_or_insert_default()
    }
}

impl Shard {
    pub(super) fn terms(&self) -> Terms {
        let lease = self.fleet.as_ref().map_or(Duration::ZERO, |fleet| fleet.settings.lease);
        // Who is nobody, but the name of one session, does not come back.
        let remember = if self.settings.auth.is_some() { self.presence.last_seen_ttl } else { Duration::ZERO };
        // Whoever renews its lease next, a third of it later at most, finds out: a dead node is gone within one.
        Terms { valid: lease - lease / 3, remember }
    }

    /// Tells a circle what became of a user: at once where this node is alone, or the store is away; else the store does, which sees all nodes.
    pub(in crate::shard) fn note(
        &mut self,
        circle: Circle,
        user: &str,
        from: Option<Standing>,
        to: Option<Standing>,
        seen: UnixMs,
    ) {
        if !self.is_fleet() {
            return self.changed(circle, user, from, to, seen);
        }
        let tenant = match circle {
            Circle::Tenant(tenant) => tenant,
            Circle::Room(room) => self.rooms[room].tenant,
        };
        let is_away = self.tenants[tenant].stream.as_ref().is_some_and(|stream| stream.is_given_up());
        let news = self.news(tenant, user);
        news.seen = news.seen.max(seen);
        if is_away {
            news.told = true;
            self.changed(circle, user, from, to, seen);
        } else if news.untold.len() < PRESENCE_SEATS_MAX {
            news.untold.push(Untold { circle, from, to, seen });
        }
    }

    /// There is something to say of a user. Only in a fleet.
    fn news(&mut self, tenant: TenantKey, user: &str) -> &mut News {
        self.tenants[tenant].stream.get_or_insert_default();
        self.stir(tenant);
        self.tenants[tenant].stream.get_or_insert_default().roll.news(user)
    }

    /// What this node has of a user is not what it was.
    pub(in crate::shard) fn user_altered(&mut self, tenant: TenantKey, user: &str) {
        if self.is_fleet() {
            self.news(tenant, user);
        }
    }

    /// A user has said how it is.
    pub(in crate::shard) fn user_says(&mut self, tenant: TenantKey, user: &str) {
        if self.is_fleet() {
            self.news(tenant, user).sets = true;
        }
    }

    /// A session of a user is over; when it was last heard.
    pub(in crate::shard) fn user_seen(&mut self, tenant: TenantKey, user: &str, seen: UnixMs) {
        if self.is_fleet() {
            let news = self.news(tenant, user);
            news.seen = news.seen.max(seen);
        }
    }

    /// A socket sits down, or gets up.
    pub(in crate::shard) fn seats_altered(&mut self, socket: SocketKey) {
        if self.is_fleet() {
            let identity = self.sessions[self.sockets[socket].session].identity.as_ref();
            let Some(user) = identity.map(|identity| identity.user.clone()) else { return };
            self.news(self.tenant_of(socket), &user);
        }
    }

    /// A session has begun: whether its tenant and user may have it is known when the store has counted it.
    pub(in crate::shard) fn session_counts(&mut self, tenant: TenantKey, user: &str, session: SessionKey) {
        if self.is_fleet() {
            self.news(tenant, user).sessions.push(session);
        }
    }

    /// Says what is new of a tenant's users.
    pub(super) fn say_presence(&mut self, key: TenantKey) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        if stream.state != State::Live || stream.away || stream.roll.rests {
            return;
        }
        let mut dirty = std::mem::take(&mut stream.roll.dirty);
        if stream.roll.holds_until > self.now.at {
            let Roll { users, dirty: held, .. } = &mut stream.roll;
            dirty.retain(|user| {
                let holds = users.get(user).and_then(|known| known.news.as_ref()).is_some_and(|news| news.told);
                if holds {
                    held.push(user.clone());
                }
                !holds
            });
        }
        for users in dirty.chunks(PRESENCE_SAY_MAX) {
            let (mut changes, mut sent) = (Vec::with_capacity(users.len()), Vec::with_capacity(users.len()));
            for user in users {
                let (row, stance) = self.row_of(key, user);
                let Some(stream) = &mut self.tenants[key].stream else { return };
                let Some(known) = stream.roll.users.get_mut(user) else { continue };
                let Some(news) = known.news.take() else { continue };
                if row.is_none() && !known.said {
                    // It was here for less than a turn.
                    stream.roll.users.remove(user);
                    continue;
                }
                known.said = true;
                let News { sets, told, seen, .. } = *news;
                let gone = row.is_none();
                let known = if gone { known.confirmed } else { news.known };
                changes.push(Change { user: (**user).into(), row, stance, sets, known, told, seen });
                sent.push(Sent { user: user.clone(), gone, news });
            }
            if !changes.is_empty() {
                self.say(key, changes, sent);
            }
        }
    }

    fn say(&mut self, key: TenantKey, changes: Vec<Change>, sent: Vec<Sent>) {
        let act = Act::Say { origin: self.origin(), terms: self.terms(), changes };
        self.share_then(key, relay::Act::Presence(act), move |shard, result| shard.said(key, sent, result));
    }

    /// What this node has of a user, and how the user is.
    fn row_of(&self, key: TenantKey, name: &str) -> (Option<Row>, Stance) {
        let tenant = &self.tenants[key];
        let absence = tenant.absences.get(name);
        let (user, sessions) = match (self.user(key, name), absence) {
            (Some(user), _) => (user, user.sessions),
            (None, Some(absence)) if absence.lingers => (&absence.user, 0),
            (None, absence) => {
                let fresh = Stance { status: Status::Online, choice: Choice::None, idle: false, since: self.now.unix };
                return (None, absence.map_or(fresh, |absence| absence.user.stance()));
            }
        };
        let mut seats: BTreeMap<&Rc<str>, (u32, bool)> = BTreeMap::new();
        for session in self.sessions_of(key, name) {
            for socket in &self.sessions[session].sockets {
                for seat in &self.sockets[*socket].seats {
                    let room = &self.rooms[seat.room];
                    seats.entry(&room.name).or_insert((0, room.rule != 0)).0 += 1;
                }
            }
        }
        for room in tenant.absences.rooms_of(self.now.at, name) {
            seats.entry(room).or_insert_with(|| (0, self.presence.rule(room) != 0));
        }
        let seat =
            |(room, (sockets, watched)): (&Rc<str>, (u32, bool))| Seat { room: (**room).into(), sockets, watched };
        let seats = seats.into_iter().take(PRESENCE_SEATS_MAX).map(seat).collect();
        (Some(Row { sessions, seen: user.last_seen, seats }), user.stance())
    }

    fn said(&mut self, key: TenantKey, sent: Vec<Sent>, result: Result<relay::Answer, Unavailable>) {
        let Ok(relay::Answer::Presence(Answer::Said { users, sessions, more })) = result else {
            return sent.into_iter().for_each(|sent| self.unsaid(key, sent));
        };
        if let Some(stream) = &mut self.tenants[key].stream {
            stream.roll.said_at = self.now.at;
        }
        let limits = &self.settings.limits;
        let over = |limit: u32, count: u32| if limit == 0 { 0 } else { count.saturating_sub(limit) as usize };
        let (per_user, mut spare) = (limits.connections_per_user, over(limits.connections_per_tenant, sessions));
        let mut surplus: Vec<SessionKey> = Vec::new();
        for (sent, said) in sent.into_iter().zip(users).rev() {
            self.user_said(key, &sent, said);
            let newest = sent.news.sessions.iter().rev().filter(|session| self.sessions.contains(**session));
            let too_many = over(per_user, said.sessions).max(spare);
            let before = surplus.len();
            surplus.extend(newest.take(too_many));
            spare = spare.saturating_sub(surplus.len() - before);
        }
        for session in surplus {
            self.close(session, Close::TooManyConnections);
        }
        if more {
            self.say(key, Vec::new(), Vec::new());
        }
    }

    /// The store has taken down what was said of a user.
    fn user_said(&mut self, key: TenantKey, sent: &Sent, said: Said) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        let Some(known) = stream.roll.users.get_mut(&sent.user) else { return };
        known.confirmed = !sent.gone;
        let sets = known.news.as_ref().is_some_and(|news| news.sets) || sent.news.sets;
        if sent.gone {
            if known.news.is_none() {
                stream.roll.users.remove(&sent.user);
            }
            if let Some(stance) = said.stance.filter(|_| said.there && sent.news.told) {
                // This node's own were told that it is gone, while nobody knew that it is elsewhere.
                self.changed(Circle::Tenant(key), &sent.user, None, Some(stance.standing()), sent.news.seen);
            }
            return;
        }
        match said.stance {
            Some(stance) if said.there && !sets => self.take_stance(key, &sent.user, stance),
            Some(stance) if !said.there && !sent.news.known => self.take_choice(key, &sent.user, stance.choice),
            _ => {}
        }
    }

    /// What was said of a user was not taken down, or nobody knows.
    fn unsaid(&mut self, key: TenantKey, mut sent: Sent) {
        for Untold { circle, from, to, seen } in std::mem::take(&mut sent.news.untold) {
            let is_there = match circle {
                Circle::Tenant(_) => true,
                Circle::Room(room) => self.rooms.contains(room),
            };
            if is_there {
                sent.news.told = true;
                self.changed(circle, &sent.user, from, to, seen);
            }
        }
        let Some(stream) = &mut self.tenants[key].stream else { return };
        stream.roll.rests = true;
        let newer = stream.roll.news(&sent.user);
        let News { sets, known, told, seen, mut sessions, .. } = *sent.news;
        sessions.append(&mut newer.sessions);
        newer.sessions = sessions;
        (newer.sets, newer.known, newer.told) = (newer.sets || sets, newer.known || known, newer.told || told);
        newer.seen = newer.seen.max(seen);
    }

    /// The store is back, or another one is there: all is said again, and what it knew is no news.
    pub(super) fn say_all(&mut self, key: TenantKey) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        if stream.roll.is_empty() {
            return;
        }
        stream.roll.rests = false;
        stream.roll.holds_until = self.now.at + FLEET_RETURN;
        self.timers.arm(stream.roll.holds_until, Timer::Say(key));
        let known = |(user, known): (&Rc<str>, &Known)| (user.clone(), known.confirmed);
        for (user, confirmed) in stream.roll.users.iter().map(known).collect::<Vec<_>>() {
            stream.roll.news(&user).known |= confirmed;
        }
    }

    pub(in crate::shard) fn say_timer(&mut self, key: TenantKey) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let Some(stream) = &mut tenant.stream else { return };
        // The timer wheel may be early by a little.
        stream.roll.holds_until = Instant::default();
        self.stir(key);
    }

    /// What was said of this node's users counts for another lease. Whether there is anything.
    pub(super) fn renew_presence(&mut self, key: TenantKey) -> bool {
        let Some(fleet) = &self.fleet else { return false };
        let lease = fleet.settings.lease;
        let tenant = &mut self.tenants[key];
        let Some(stream) = &mut tenant.stream else { return false };
        stream.roll.rests = false;
        if tenant.sessions == 0 && self.now.at.since(stream.roll.said_at) > lease {
            // Nobody is here, and whatever the store knows of them does not count any more.
            stream.roll = Roll::default();
        }
        if stream.roll.is_empty() {
            return false;
        }
        if stream.state == State::Live && !stream.away {
            self.say(key, Vec::new(), Vec::new());
            self.stir(key);
        }
        true
    }

    /// What the store has seen of users on all nodes.
    pub(super) fn noted(&mut self, key: TenantKey, entries: &[u8]) {
        let Some(entries) = presence::decode(entries) else { return self.counts.up(Count::EnvelopesBroken) };
        let own = format!("{:x}", self.origin().0);
        for entry in entries {
            let stance = |bytes: &[u8]| if bytes.is_empty() { Some(None) } else { Stance::decode(bytes).map(Some) };
            let (Some(from), Some(to)) = (stance(entry.from), stance(entry.to)) else {
                self.counts.up(Count::EnvelopesBroken);
                continue;
            };
            let circle = match (entry.room, self.tenants[key].rooms.get(entry.room)) {
                ("", _) => Circle::Tenant(key),
                (_, Some(room)) => Circle::Room(*room),
                (_, None) => continue,
            };
            if circle == Circle::Tenant(key) {
                match (from, to) {
                    (Some(_), Some(to)) if !self.has_said(key, entry.user) => self.take_stance(key, entry.user, to),
                    // It was taken for dead with this node, which was only cut off.
                    (_, None) if self.user(key, entry.user).is_some() => drop(self.news(key, entry.user)),
                    _ => {}
                }
            }
            if entry.but != own {
                let standing = |stance: Option<Stance>| stance.map(|stance| stance.standing());
                self.changed(circle, entry.user, standing(from), standing(to), UnixMs(entry.seen));
            }
        }
    }

    /// A user has said here how it is, and the store does not know.
    fn has_said(&self, key: TenantKey, user: &str) -> bool {
        let known = self.tenants[key].stream.as_ref().and_then(|stream| stream.roll.users.get(user));
        known.and_then(|known| known.news.as_ref()).is_some_and(|news| news.sets)
    }
}
