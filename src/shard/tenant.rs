//! A tenant: its rooms, users and the sessions that may come back. Everything here lives on one shard, owned by value.
//!
//! Invariant, asserted at every join and fan-out: a room and its members are of one tenant.

use super::absence::Absences;
use super::bucket::Bucket;
use super::document::access::Documents;
use super::filter::Filter;
use super::fleet::Stream;
use super::gathering::Gathering;
use super::history::Epoch;
use super::identity::KnownRights;
use super::receipt::Receipts;
use super::relay::presence::Stance;
use super::room::RoomKey;
use super::socket::SocketKey;
use super::status::{Choice, Standing, Status};
use super::waiting::Offline;
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
    /// What listeners have counted, in the order of their names; empty until they have.
    pub counters: Vec<u64>,
    /// A timer that forgets what is too old runs.
    pub sweeping: bool,
    /// What its sockets are to be told of its users.
    pub gathering: Gathering,
    /// Users that have gone.
    pub absences: Absences,
    /// What waits for users who are not there.
    pub offline: Option<Box<Offline>>,
    pub receipts: Option<Box<Receipts>>,
    /// Its stream among the nodes; none where this node is alone, or has only published to it so far.
    pub stream: Option<Box<Stream>>,
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
            publish_ids: PublishIds { known: Map::with_hasher(hasher.clone()), order: VecDeque::new() },
            documents: None,
            bucket: Bucket::new(now, burst),
            counters: Vec::new(),
            sweeping: false,
            gathering: Gathering::new(now, Map::with_hasher(hasher.clone())),
            absences: Absences::new(Map::with_hasher(hasher)),
            offline: None,
            receipts: None,
            stream: None,
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

    /// Nothing is left that a client could come back to.
    pub fn is_empty(&self) -> bool {
        self.sessions == 0
            && self.rooms.is_empty()
            && self.pids.is_empty()
            && !self.publish_ids.is_filled()
            && self.documents.is_none()
            && self.absences.is_empty()
            && self.offline.is_none()
            && self.receipts.is_none()
            && self.stream.as_ref().is_none_or(|stream| stream.is_idle())
    }

    /// Whether it holds what is forgotten by age.
    pub fn has_aging(&self) -> bool {
        !self.saved.is_empty()
            || self.publish_ids.is_filled()
            || !self.absences.is_empty()
            || self.documents.is_some()
            || self.offline.is_some()
            || self.receipts.is_some()
    }

    /// Events that wait for users who are not there.
    pub fn waiting(&self) -> usize {
        self.offline.as_ref().map_or(0, |offline| offline.len())
    }
}

/// One user of a tenant, while it has sessions.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub sessions: u32,
    pub status: Status,
    /// Of an agent.
    pub choice: Choice,
    /// An agent that has been away for so long that it counts as not available.
    pub idle: bool,
    /// Of its status.
    pub since: UnixMs,
    pub last_seen: UnixMs,
}

const _: () = assert!(size_of::<Option<User>>() <= 24, "it is in every user's room");

impl User {
    pub fn standing(&self) -> Standing {
        self.stance().standing()
    }

    pub fn stance(&self) -> Stance {
        Stance { status: self.status, choice: self.choice, idle: self.idle, since: self.since }
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
    /// How often it has come back, among nodes.
    pub generation: u32,
    /// Of the tenant's stream: its places below are in it.
    pub epoch: Epoch,
    /// The tenant's sequence when it connected: where it starts if it never received anything.
    pub connected_at: u64,
    pub until: Instant,
    /// See [`Extras`](super::socket::Extras).
    pub data: Option<Box<[u8]>>,
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
