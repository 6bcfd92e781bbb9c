//! Changes of presence, gathered and told: to the circle of a tenant, or of a room that its rule has watched.
//!
//! Invariants: within one gathering a user has one entry, from what the circle knows to what is so now, and where both are equal nothing is
//! told; a circle is told in one turn at most once in its rhythm, unless its gathering is full. What a telling costs is its hearers, not
//! its changes: where many come and go it is told less often, after `every` or `batch_every` once for each [`PAUSE_PER`] changes just told, and
//! up to half as long again by chance. Circles that are due at once are told in that order; after [`limit::PRESENCE_TOLD_MAX`] members the rest
//! waits for the next turn, so that who speaks meanwhile is heard.
//!
//! ```text
//! members of the circle   the first change         what follows            told as
//! up to batch_over        at once                  every `every`           one event each
//! up to announce_max      after `batch_every`      every `batch_every`     one event with lists, encoded once for all
//! above                   never                    never                   nothing: clients ask
//! ```

use super::encode::Outgoing;
use super::room::RoomKey;
use super::socket::SocketKey;
use super::status::{Standing, Status};
use super::tenant::TenantKey;
use super::wording::{PresenceSettings, Telling, Wording};
use super::{Shard, Timer};
use crate::base::{
    chance::Map,
    limit,
    time::{Duration, Instant, UnixMs},
};
use crate::profile::template::quoted;
use crate::wire::json;
use std::borrow::Cow;
use std::io::Write;
use std::rc::Rc;

/// Changes told at once that put off the next telling by one rhythm.
const PAUSE_PER: usize = 10;
/// The most it is put off, in rhythms: `every`, or `batch_every` in a large circle.
const PAUSE_MAX: usize = 5;

/// Who hears of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circle {
    Tenant(TenantKey),
    /// A room that is watched.
    Room(RoomKey),
}

/// What became of a user within one gathering.
#[derive(Debug)]
pub struct Change {
    pub user: Rc<str>,
    /// What the circle knows; none: not there.
    pub from: Option<Standing>,
    pub to: Option<Standing>,
    pub at: UnixMs,
    /// Its last sign of life, where it has gone.
    pub seen: UnixMs,
}

/// What there is to tell, in the order of the lists of a large circle's event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Online,
    Offline,
    Status,
    Availability,
}

impl Change {
    /// How a circle hears of the user's presence, if there is anything to hear.
    fn presence(&self) -> Option<(Kind, Status)> {
        // Who wants to appear offline comes and goes unseen.
        let seen = |standing: Option<Standing>| {
            standing.map(|standing| standing.status).filter(|status| *status != Status::Offline)
        };
        let status = |standing: Option<Standing>| standing.map(|standing| standing.status);
        match (status(self.from), status(self.to)) {
            (from, to) if from == to => None,
            (None, _) => seen(self.to).map(|status| (Kind::Online, status)),
            (_, None) => seen(self.from).map(|_| (Kind::Offline, Status::Offline)),
            (Some(_), Some(status)) => Some((Kind::Status, status)),
        }
    }

    /// The word for an agent's availability, if it is another one.
    fn availability<'a>(&self, settings: &'a PresenceSettings) -> Option<&'a str> {
        let word = |standing: Option<Standing>| {
            let duty = standing.and_then(|standing| standing.duty);
            duty.map_or("offline", |duty| duty.as_str(settings.availability.as_ref()))
        };
        let (from, to) = (word(self.from), word(self.to));
        (from != to).then_some(to)
    }
}

/// Users of one circle that came, went or changed since it was last told; bounded by [`limit::PRESENCE_GATHERED_MAX`] in a small circle,
/// by [`limit::PRESENCE_BATCHED_MAX`] in a large one.
pub struct Gathering {
    list: Vec<Change>,
    places: Map<Rc<str>, u32>,
    /// When the circle may be told next.
    tell_from: Instant,
    /// Of the first change that is not told.
    since: Instant,
}

impl Gathering {
    pub fn new(now: Instant, places: Map<Rc<str>, u32>) -> Gathering {
        Gathering { list: Vec::new(), places, tell_from: now, since: now }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn note(&mut self, change: Change, now: Instant) {
        if self.list.is_empty() {
            self.since = now;
        }
        match self.places.get(&change.user) {
            Some(place) => {
                let known = &mut self.list[*place as usize];
                (known.to, known.at, known.seen) = (change.to, change.at, change.seen);
            }
            None => {
                self.places.insert(change.user.clone(), self.list.len() as u32);
                self.list.push(change);
            }
        }
    }

    fn take(&mut self) -> Vec<Change> {
        if self.places.capacity() > limit::PRESENCE_GATHERED_MAX * 2 {
            // A storm is over: its memory is not kept.
            self.places = Map::with_hasher(self.places.hasher().clone());
        }
        self.places.clear();
        std::mem::take(&mut self.list)
    }
}

impl Shard {
    /// Gathers what a circle is to be told of one user; `seen`: its last sign of life, where it has gone.
    pub(super) fn changed(
        &mut self,
        circle: Circle,
        user: &str,
        from: Option<Standing>,
        to: Option<Standing>,
        seen: UnixMs,
    ) {
        let Some(size) = self.hearers(circle) else { return };
        let change = Change { user: user.into(), from, to, at: self.now.unix, seen };
        let settings = self.presence.clone();
        let (large, now) = (size > settings.batch_over as usize, self.now.at);
        let Some(gathering) = self.gathering(circle) else { return };
        let first = gathering.is_empty();
        gathering.note(change, now);
        let bound = if large { limit::PRESENCE_BATCHED_MAX } else { limit::PRESENCE_GATHERED_MAX };
        if gathering.list.len() >= bound || (!large && gathering.tell_from <= now) {
            self.tell(circle);
        } else if first {
            let wait_until = if large { now + settings.batch_every } else { now };
            let at = gathering.tell_from.max(wait_until);
            self.timers.arm(at, Timer::Presence(circle));
        }
    }

    /// Tells the circles that are due, in the order they became so, as many as one turn has room for; the others in the next turn.
    pub(super) fn tell_circles(&mut self) {
        let mut told = 0;
        while told < limit::PRESENCE_TOLD_MAX
            && let Some(circle) = self.circles_due.pop_front()
        {
            told += self.gathered(circle);
        }
    }

    /// A circle that has become large since its timer was set waits as a large one: a storm of connections is told when it is over.
    /// How many members were told.
    fn gathered(&mut self, circle: Circle) -> usize {
        let large = self.hearers(circle).is_some_and(|size| size > self.presence.batch_over as usize);
        let (now, batch_every) = (self.now.at, self.presence.batch_every);
        let Some(gathering) = self.gathering(circle).filter(|gathering| !gathering.is_empty()) else { return 0 };
        let due = gathering.since + batch_every;
        if large && now < due {
            self.timers.arm(due, Timer::Presence(circle));
            return 0;
        }
        self.tell(circle)
    }

    /// How many sockets hear of the circle's users; none: nobody does.
    fn hearers(&self, circle: Circle) -> Option<usize> {
        self.wording(circle)?;
        let room = match circle {
            Circle::Tenant(tenant) if self.app.announces_users && self.tenants.contains(tenant) => {
                self.tenant_room(tenant)
            }
            Circle::Tenant(_) => return None,
            Circle::Room(room) => Some(room),
        };
        let sockets = room.and_then(|room| self.rooms.get(room)).map_or(0, |room| room.members.len());
        (sockets <= self.presence.announce_max as usize).then_some(sockets)
    }

    fn wording(&self, circle: Circle) -> Option<&Wording> {
        match circle {
            Circle::Tenant(_) => self.presence.tenant.as_ref(),
            Circle::Room(room) => {
                let rule = usize::from(self.rooms.get(room)?.rule).checked_sub(1)?;
                self.presence.rooms.get(rule).map(|rule| &rule.wording)
            }
        }
    }

    /// Among nodes a user's coming is told when the store has seen it, and its first socket is there by then: it is not told of itself.
    fn newcomer(&self, circle: Circle, change: &Change) -> Option<SocketKey> {
        if !self.is_fleet() || change.from.is_some() {
            return None;
        }
        let (tenant, within) = match circle {
            Circle::Tenant(tenant) => (tenant, None),
            Circle::Room(room) => (self.rooms[room].tenant, Some(room)),
        };
        let sessions = self.sessions_of(tenant, &change.user);
        let all = sessions.iter().flat_map(|session| &self.sessions[*session].sockets);
        let is_there = |socket: &&SocketKey| within.is_none_or(|room| self.sockets[**socket].seat(room).is_some());
        let mut sockets = all.filter(is_there);
        let first = sockets.next().copied();
        first.filter(|_| sockets.next().is_none())
    }

    fn gathering(&mut self, circle: Circle) -> Option<&mut Gathering> {
        match circle {
            Circle::Tenant(tenant) => self.tenants.get_mut(tenant).map(|tenant| &mut tenant.gathering),
            Circle::Room(room) => self.watches.get_mut(&room).map(|watch| &mut watch.gathering),
        }
    }

    /// How long a circle is told nothing more after these changes.
    fn pause(&mut self, rhythm: Duration, told: &[Change]) -> Duration {
        let told = told.iter().filter(|change| change.from != change.to).count();
        let pause = rhythm * (told / PAUSE_PER).clamp(1, PAUSE_MAX) as u32;
        if pause == rhythm {
            return pause;
        }
        // Where everybody comes back at once all circles are in a storm: they are not to be told in one moment.
        pause + Duration::from_micros(self.chance.below(pause.as_micros() as u64 / 2))
    }

    /// Tells a circle what was gathered; how many members that were, and so writes.
    fn tell(&mut self, circle: Circle) -> usize {
        let size = self.hearers(circle);
        let settings = self.presence.clone();
        let large = size.is_some_and(|size| size > settings.batch_over as usize);
        let Some(gathering) = self.gathering(circle) else { return 0 };
        let changes = gathering.take();
        if changes.is_empty() {
            return 0;
        }
        let pause = self.pause(if large { settings.batch_every } else { settings.every }, &changes);
        let now = self.now.at;
        if let Some(gathering) = self.gathering(circle) {
            gathering.tell_from = now + pause;
        }
        let (tenant, room) = match circle {
            Circle::Tenant(tenant) => (tenant, self.tenant_room(tenant)),
            Circle::Room(room) => (self.rooms[room].tenant, Some(room)),
        };
        let (Some(size), Some(room)) = (size.filter(|size| *size > 0), room) else { return 0 };
        let Some(wording) = self.wording(circle).cloned() else { return 0 };
        let in_room = matches!(circle, Circle::Room(_));
        let writer = Writer {
            settings: &settings,
            tenant: self.tenants[tenant].id.as_str().into(),
            room: in_room.then(|| (*self.rooms[room].name).into()),
        };
        if !large {
            for change in &changes {
                let except = self.newcomer(circle, change);
                for (_, telling, args) in writer.entries(change, &wording) {
                    self.emit_to(room, &Outgoing { name: &telling.event, args: &args, ..Outgoing::default() }, except);
                }
            }
            return size;
        }
        let told = changes.iter().flat_map(|change| writer.entries(change, &wording));
        let Some(event) = &wording.changes else { return 0 };
        let told: Vec<_> = told.collect();
        for part in told.chunks(limit::PRESENCE_BATCH_MAX) {
            let args = lists(part, writer.room.as_deref());
            self.emit_to(room, &Outgoing { name: event, args: &args, ..Outgoing::default() }, None);
        }
        size
    }
}

/// `{"online":[..],..}`: each entry in its kind's list, in the order the changes came; of a room `{"room":..,"joined":[..],..}`.
fn lists(told: &[(Kind, &Telling, String)], room: Option<&str>) -> String {
    let names = match room.is_some() {
        true => ["joined", "left", "status", "availability"],
        false => ["online", "offline", "status", "availability"],
    };
    let mut out = String::with_capacity(2 + told.iter().map(|(_, _, data)| data.len() + 1).sum::<usize>() + 64);
    out.push('{');
    if let Some(room) = room {
        out.push_str("\"room\":");
        out.push_str(&quoted(room));
    }
    for (kind, name) in [Kind::Online, Kind::Offline, Kind::Status, Kind::Availability].into_iter().zip(names) {
        let mut entries = told.iter().filter(|(other, _, _)| *other == kind).map(|(_, _, data)| data);
        let Some(first) = entries.next() else { continue };
        out.push_str(if out.len() > 1 { ",\"" } else { "\"" });
        out.push_str(name);
        out.push_str("\":[");
        out.push_str(first);
        for entry in entries {
            out.push(',');
            out.push_str(entry);
        }
        out.push(']');
    }
    out.push('}');
    out
}

/// Writes the data of a change as its wording has it.
struct Writer<'a> {
    settings: &'a PresenceSettings,
    tenant: Box<str>,
    /// Where a room is told.
    room: Option<Box<str>>,
}

impl Writer<'_> {
    /// What there is to tell of one change: of its presence, then of its availability.
    fn entries<'a>(&self, change: &Change, wording: &'a Wording) -> Vec<(Kind, &'a Telling, String)> {
        let presence = change.presence().and_then(|(kind, status)| {
            let telling = match kind {
                Kind::Online => &wording.online,
                Kind::Offline => &wording.offline,
                Kind::Status | Kind::Availability => &wording.status,
            };
            telling.as_ref().map(|telling| (kind, telling, status))
        });
        let availability = change.availability(self.settings).and(wording.availability.as_ref());
        let status = change.to.map_or(Status::Offline, |standing| standing.status);
        let availability = availability.map(|telling| (Kind::Availability, telling, status));
        let told = presence.into_iter().chain(availability);
        told.map(|(kind, telling, status)| (kind, telling, self.data(kind, telling, change, status))).collect()
    }

    fn data(&self, kind: Kind, telling: &Telling, change: &Change, status: Status) -> String {
        let mut out = Vec::with_capacity(96 + change.user.len());
        // Of an agent alone; one that has gone is not available.
        let word = change.to.or(change.from).and_then(|standing| standing.duty).map(|duty| match change.to {
            Some(_) => duty.as_str(self.settings.availability.as_ref()),
            None => "offline",
        });
        let Some(shape) = &telling.data else {
            out.push(b'{');
            if let Some(room) = &self.room {
                out.extend_from_slice(b"\"room\":");
                json::write_string(&mut out, room);
                out.push(b',');
            }
            out.extend_from_slice(b"\"user\":");
            json::write_string(&mut out, &change.user);
            if kind == Kind::Availability {
                out.extend_from_slice(b",\"availability\":");
                json::write_string(&mut out, word.unwrap_or("offline"));
            } else if kind != Kind::Offline || self.room.is_none() {
                // Who has left a room may still be online elsewhere.
                let _ = write!(out, ",\"status\":\"{}\"", status.as_str());
            }
            let _ = write!(out, ",\"time\":\"{}\"", change.at.rfc3339());
            if kind == Kind::Offline {
                let _ = write!(out, ",\"lastSeen\":\"{}\"", change.seen.rfc3339());
            }
            out.push(b'}');
            return String::from_utf8(out).unwrap_or_default();
        };
        shape.write(&mut out, &|path| match path {
            "user" => Some(quoted(&change.user)),
            "status" => Some(Cow::Owned(format!("\"{}\"", status.as_str()))),
            "time" => Some(Cow::Owned(format!("\"{}\"", change.at.rfc3339()))),
            "lastSeen" => (kind == Kind::Offline).then(|| Cow::Owned(format!("\"{}\"", change.seen.rfc3339()))),
            "availability" => word.map(quoted),
            "tenant" => Some(quoted(&self.tenant)),
            "room" => self.room.as_deref().map(quoted),
            _ => None,
        });
        String::from_utf8(out).unwrap_or_default()
    }
}
