//! Users of a tenant that have gone: for a while still present (their grace), then remembered for when they were last seen.
//!
//! Invariants: a user is here or has sessions, never both; who lingers has a [`Lingering`] in the queue that ends it; what is remembered is
//! bounded by [`limit::USERS_REMEMBERED_MAX`] and leaves oldest first, what lingers by [`limit::LINGERING_MAX`].
//!
//! ```text
//! last session breaks off -> lingers (grace): present as it was -> back: nobody is told
//!                                                               -> its time is up: told offline, remembered
//! last session says goodbye, or is closed by the server --------> told offline, remembered -> last_seen_ttl: forgotten
//! ```

use super::gathering::Circle;
use super::session::{End, SessionKey};
use super::status::{Choice, Status};
use super::tenant::{TenantKey, User};
use super::{Shard, Timer};
use crate::base::{
    chance::Map,
    limit,
    time::{Duration, Instant, UnixMs},
};
use std::collections::VecDeque;
use std::rc::Rc;

/// One user without sessions, as it was.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    pub user: User,
    /// When its last session ended.
    pub left: Instant,
    /// Nobody was told that it is gone.
    pub lingers: bool,
}

/// A session that broke off: until then its user is where it was.
pub struct Lingering {
    pub until: Instant,
    pub user: Rc<str>,
    pub rooms: Box<[Rc<str>]>,
}

pub struct Absences {
    known: Map<Rc<str>, Absence>,
    /// When each left, oldest first; entries of who came back, or left again later, are skipped.
    order: VecDeque<(Instant, Rc<str>)>,
    lingering: VecDeque<Lingering>,
}

impl Absences {
    pub fn new(known: Map<Rc<str>, Absence>) -> Absences {
        Absences { known, order: VecDeque::new(), lingering: VecDeque::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.lingering.is_empty()
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn get(&self, user: &str) -> Option<&Absence> {
        self.known.get(user)
    }

    /// The user is back.
    pub fn take(&mut self, user: &str) -> Option<Absence> {
        // Most tenants have nobody here most of the time.
        if self.known.is_empty() { None } else { self.known.remove(user) }
    }

    fn insert(&mut self, user: Rc<str>, absence: Absence) {
        self.order.push_back((absence.left, user.clone()));
        self.known.insert(user, absence);
        if self.order.len() > 2 * self.known.len() + 16 {
            // Users that come and go leave entries that mean nothing: were they to fill the list, others would be forgotten too soon.
            let known = &self.known;
            self.order.retain(|(left, user)| known.get(user).is_some_and(|absence| absence.left == *left));
        }
        while self.known.len() > limit::USERS_REMEMBERED_MAX && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((left, user)) = self.order.pop_front() else { return false };
        if self.known.get(&user).is_some_and(|absence| absence.left == left) {
            self.known.remove(&user);
        }
        true
    }

    /// Forgets whoever left longer ago than this, and does not linger.
    pub fn expire(&mut self, now: Instant, ttl: Duration) {
        while let Some((left, user)) = self.order.front() {
            let current = self.known.get(user).filter(|absence| absence.left == *left);
            if current.is_some_and(|absence| absence.lingers || absence.left + ttl > now) {
                break;
            }
            self.forget_oldest();
        }
    }

    /// Who is in the room only because of its grace.
    pub fn lingering_in<'a>(&'a self, now: Instant, room: &'a str) -> impl Iterator<Item = &'a Rc<str>> {
        let there =
            move |lingering: &&Lingering| lingering.until > now && lingering.rooms.iter().any(|name| **name == *room);
        self.lingering.iter().filter(there).map(|lingering| &lingering.user)
    }

    /// The rooms a user is in only because of its grace.
    pub fn rooms_of<'a>(&'a self, now: Instant, user: &'a str) -> impl Iterator<Item = &'a Rc<str>> {
        let theirs = move |lingering: &&Lingering| lingering.until > now && *lingering.user == *user;
        self.lingering.iter().filter(theirs).flat_map(|lingering| lingering.rooms.iter())
    }
}

impl Shard {
    /// The rooms in which a session's user stays for its grace; none: the session is gone at once. Asked before its sockets are removed.
    pub(super) fn lingers(&self, key: SessionKey, end: End) -> Option<Box<[Rc<str>]>> {
        let session = &self.sessions[key];
        // A session that has left all its namespaces has said goodbye, and one that the server closes is told why.
        let cut = matches!(end, End::Gone | End::Lost | End::Left | End::PingTimeout);
        let breaks = cut && !session.sockets.is_empty() && !self.draining;
        if self.presence.grace == Duration::ZERO || !breaks {
            return None;
        }
        let mut rooms: Vec<Rc<str>> = Vec::new();
        for socket in &session.sockets {
            for seat in &self.sockets[*socket].seats {
                let name = &self.rooms[seat.room].name;
                if !rooms.iter().any(|known| Rc::ptr_eq(known, name)) {
                    rooms.push(name.clone());
                }
            }
        }
        Some(rooms.into())
    }

    /// A session of a user has broken off.
    pub(super) fn linger(&mut self, tenant: TenantKey, user: Rc<str>, rooms: Box<[Rc<str>]>) {
        let until = self.now.at + self.presence.grace;
        let lingering = &mut self.tenants[tenant].absences.lingering;
        if lingering.is_empty() {
            self.timers.arm(until, Timer::Grace(tenant));
        }
        lingering.push_back(Lingering { until, user, rooms });
        if lingering.len() > limit::LINGERING_MAX
            && let Some(oldest) = lingering.pop_front()
        {
            self.end_grace(tenant, &oldest);
        }
    }

    /// A user's last session has ended.
    pub(super) fn absent(&mut self, tenant: TenantKey, name: Rc<str>, user: User, lingers: bool) {
        // Who is nobody, but the name of one session, does not come back.
        let remembered = self.presence.last_seen_ttl > Duration::ZERO && self.settings.auth.is_some();
        if lingers || remembered {
            let absence = Absence { user, left: self.now.at, lingers };
            self.tenants[tenant].absences.insert(name.clone(), absence);
        }
        if !lingers {
            let standing = user.standing();
            self.note(Circle::Tenant(tenant), &name, Some(standing), None, user.last_seen);
        }
    }

    /// Ends the graces whose time is up.
    pub(super) fn end_graces(&mut self, tenant: TenantKey) {
        loop {
            let now = self.now.at;
            let Some(state) = self.tenants.get_mut(tenant) else { return };
            match state.absences.lingering.front() {
                Some(oldest) if oldest.until > now => break self.timers.arm(oldest.until, Timer::Grace(tenant)),
                Some(_) => {}
                None => break,
            }
            if let Some(ended) = state.absences.lingering.pop_front() {
                self.end_grace(tenant, &ended);
            }
        }
        self.tend_tenant(tenant);
    }

    /// One session's grace is over: unless its user is back, or has broken off again since, those it is gone for are told.
    fn end_grace(&mut self, tenant: TenantKey, ended: &Lingering) {
        let broke_off = ended.until - self.presence.grace;
        self.user_altered(tenant, &ended.user);
        for name in &ended.rooms {
            self.end_grace_in(tenant, name, &ended.user, broke_off);
        }
        let remembered = self.presence.last_seen_ttl > Duration::ZERO && self.settings.auth.is_some();
        let absences = &mut self.tenants[tenant].absences;
        let Some(absence) = absences.known.get_mut(&ended.user) else { return };
        if !absence.lingers || absence.left > broke_off {
            return;
        }
        absence.lingers = false;
        let user = absence.user;
        if !remembered {
            absences.known.remove(&ended.user);
        }
        self.note(Circle::Tenant(tenant), &ended.user, Some(user.standing()), None, user.last_seen);
    }
}

impl User {
    /// A user whose first session is here. Within its grace it is what it was; what an agent chose outlasts that.
    pub fn back(absence: Option<Absence>, now: UnixMs) -> User {
        let fresh =
            User { sessions: 1, status: Status::Online, choice: Choice::None, idle: false, since: now, last_seen: now };
        match absence {
            Some(absence) if absence.lingers => User { sessions: 1, last_seen: now, ..absence.user },
            Some(absence) => User { choice: absence.user.choice, ..fresh },
            None => fresh,
        }
    }
}
