//! A tenant: its rooms, users and the sessions that may come back. Everything here lives on one shard, owned by value.
//!
//! Invariant, asserted at every join and fan-out: a room and its members are of one tenant.

use super::bucket::Bucket;
use super::document::access::Documents;
use super::filter::Filter;
use super::history::Epoch;
use super::identity::KnownRights;
use super::room::RoomKey;
use super::socket::SocketKey;
use crate::base::{
    chance::{Chance, Map},
    id::{Sid, TenantId},
    limit,
    time::{Instant, UnixMs},
};
use std::collections::VecDeque;
use std::rc::Rc;

crate::key!(
    /// A tenant of this shard.
    TenantKey
);

pub struct Tenant {
    pub id: Rc<TenantId>,
    /// Life of this tenant's stream on this shard.
    pub epoch: Epoch,
    /// Number of the newest durable event over all rooms.
    pub sequence: u64,
    /// The newest sequence that left with a forgotten room.
    pub lost: u64,
    pub sessions: u32,
    pub rights: KnownRights,
    pub rooms: Map<Rc<str>, RoomKey>,
    /// Users with sessions; each is in its own room.
    pub users: u32,
    /// Private ids whose socket is not in the slot they name: saved ones, and those that came back to another.
    pub pids: Map<Sid, Pid>,
    /// Saved sessions, oldest first; entries whose session came back are skipped.
    pub saved: VecDeque<(Instant, Sid)>,
    pub publish_ids: PublishIds,
    /// Documents that somebody wrote to.
    pub documents: Option<Box<Documents>>,
    pub bucket: Bucket,
    /// A timer that forgets what is too old runs.
    pub sweeping: bool,
    /// Users that came, went or changed since the tenant was last told; bounded by [`limit::PRESENCE_GATHERED_MAX`].
    pub changes: Vec<Change>,
    /// When the tenant may be told next.
    pub tell_from: Instant,
}

/// What became of a user within one gathering of presence.
#[derive(Debug)]
pub struct Change {
    pub user: Box<str>,
    /// What the tenant knows; none: not there.
    pub from: Option<Status>,
    pub to: Option<Status>,
    pub at: UnixMs,
}

impl Change {
    /// The event that tells of it; none: there is nothing to tell.
    pub fn event(&self) -> Option<(&'static str, Status)> {
        // Who wants to appear offline comes and goes unseen.
        let seen = |status: Option<Status>| status.filter(|status| *status != Status::Offline);
        match (self.from, self.to) {
            (from, to) if from == to => None,
            (None, to) => seen(to).map(|status| ("user:online", status)),
            (from, None) => seen(from).map(|_| ("user:offline", Status::Offline)),
            (Some(_), Some(status)) => Some(("user:status", status)),
        }
    }
}

impl Tenant {
    pub fn new(id: TenantId, now: Instant, burst: u32, chance: &mut Chance) -> Tenant {
        let hasher = chance.hasher();
        Tenant {
            id: Rc::new(id),
            rights: KnownRights::default(),
            epoch: Epoch(chance.u64() >> 16),
            sequence: 0,
            lost: 0,
            sessions: 0,
            rooms: Map::with_hasher(hasher.clone()),
            users: 0,
            pids: Map::with_hasher(hasher.clone()),
            saved: VecDeque::new(),
            publish_ids: PublishIds { known: Map::with_hasher(hasher), order: VecDeque::new() },
            documents: None,
            bucket: Bucket::new(now, burst),
            sweeping: false,
            changes: Vec::new(),
            tell_from: now,
        }
    }

    /// Forgets a socket that was saved until then, unless it came back meanwhile.
    pub fn forget_saved(&mut self, pid: Sid, until: Instant) {
        if let Some(Pid::Saved(saved)) = self.pids.get(&pid)
            && saved.until == until
        {
            self.pids.remove(&pid);
        }
    }

    /// It holds what is forgotten in time.
    pub fn needs_sweeping(&self) -> bool {
        !self.saved.is_empty() || self.publish_ids.is_filled() || self.documents.is_some()
    }

    /// Nothing is left that a client could come back to.
    pub fn is_empty(&self) -> bool {
        self.sessions == 0
            && self.rooms.is_empty()
            && self.pids.is_empty()
            && !self.publish_ids.is_filled()
            && self.documents.is_none()
    }
}

/// One user of a tenant, while it has sessions.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub sessions: u32,
    pub status: Status,
    pub since: UnixMs,
    pub last_seen: UnixMs,
}

/// What a user says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Online,
    Away,
    Busy,
    /// Connected, but wants to appear offline.
    Offline,
}

impl Status {
    pub fn parse(text: &str) -> Option<Status> {
        Some(match text {
            "online" => Status::Online,
            "away" => Status::Away,
            "busy" => Status::Busy,
            "offline" => Status::Offline,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Away => "away",
            Status::Busy => "busy",
            Status::Offline => "offline",
        }
    }
}

/// What a private session id leads to.
pub enum Pid {
    Live(SocketKey),
    Saved(Box<Saved>),
}

/// A room that a disconnected socket was in.
pub struct SavedSeat {
    pub room: Rc<str>,
    pub filter: Option<Rc<Filter>>,
    pub joined_at: u64,
}

/// A disconnected socket that may come back.
pub struct Saved {
    pub sid: Sid,
    pub user: Rc<str>,
    pub namespace: u8,
    /// How many of `rooms`, from the first, it is in by itself.
    pub automatic: u8,
    /// Its rooms, the automatic ones too.
    pub rooms: Vec<SavedSeat>,
    /// The tenant's sequence when it connected: where it starts if it never received anything.
    pub connected_at: u64,
    pub until: Instant,
}

/// What `publish` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub id: Rc<str>,
    /// Of a durable event.
    pub place: Option<(Epoch, u64)>,
}

/// Event ids that publishers chose, so that a retry is the same event. Bounded by [`limit::PUBLISH_IDS_MAX`] and
/// [`limit::PUBLISH_ID_TTL`].
pub struct PublishIds {
    known: Map<Rc<str>, Receipt>,
    order: VecDeque<(Instant, Rc<str>)>,
}

impl PublishIds {
    pub fn is_filled(&self) -> bool {
        !self.order.is_empty()
    }

    pub fn get(&self, id: &str) -> Option<&Receipt> {
        self.known.get(id)
    }

    pub fn insert(&mut self, now: Instant, receipt: Receipt) {
        self.order.push_back((now + limit::PUBLISH_ID_TTL, receipt.id.clone()));
        self.known.insert(receipt.id.clone(), receipt);
        while self.order.len() > limit::PUBLISH_IDS_MAX {
            self.forget_oldest();
        }
    }

    pub fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.known.remove(&id);
        }
    }
}
