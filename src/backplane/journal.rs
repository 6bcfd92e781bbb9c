//! What waits for the store: in lanes, each of them a queue with one batch under way.
//!
//! ```text
//!  add ----> queue ---- take ----> flying ---- landed ----> settled: forget
//!              ^                                  |
//!              +------------- put_back -----------+       not done, or nobody knows
//! ```
//!
//! A lane is a share of the tenants, or in a Cluster one tenant, because a pipeline goes to one slot there. What comes while a batch is under way
//! is the next batch, so batches grow with the load.
//!
//! Invariants: what is asked for one tenant is in one lane and leaves it in order; a batch that was put back goes first; what waits is bounded
//! ([`Journal::add`]); nothing that is answered in time waits beyond its time ([`Journal::expire`]); of what is kept of one socket only the
//! newest waits.

use super::command::{KNOWS_NONE, Known};
use crate::base::{
    chance::Map,
    id::{ShardId, Sid, TenantId},
    limit::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, JOURNAL_EVENTS_MAX, JOURNAL_REST_BYTES_MAX},
    time::Instant,
};
use crate::shard::relay::{Act, Append, Ticket, Wanted};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Lanes where there is no Cluster: one could be held up by one tenant's long answer.
const LANES: u8 = 4;

/// Something for the store to do.
#[derive(Debug)]
pub enum Job {
    /// It was answered meanwhile, or something newer took its place.
    Void,
    /// Where a tenant's stream stands; it has an epoch then.
    Place {
        tenant: TenantId,
        stamp: u64,
    },
    /// The same, if the store knows.
    Check {
        tenant: TenantId,
        stamp: u64,
    },
    Append {
        tenant: TenantId,
        from: ShardId,
        ticket: Ticket,
        append: Box<Append>,
        number: u64,
    },
    Tell {
        tenant: TenantId,
        body: Box<[u8]>,
    },
    Read {
        tenant: TenantId,
        from: ShardId,
        ticket: Ticket,
        rooms: Vec<Wanted>,
        due: Instant,
    },
    Save {
        tenant: TenantId,
        from: ShardId,
        pid: Sid,
        generation: u32,
        body: Box<[u8]>,
        until: Instant,
    },
    Refresh {
        tenant: TenantId,
        pids: Vec<Sid>,
        until: Instant,
    },
    Forget {
        tenant: TenantId,
        pid: Sid,
        generation: u32,
    },
    Claim {
        tenant: TenantId,
        from: ShardId,
        ticket: Ticket,
        pid: Sid,
        number: u64,
        due: Instant,
    },
    Share {
        tenant: TenantId,
        from: ShardId,
        ticket: Option<Ticket>,
        act: Box<Act>,
        /// Without a ticket it is never too late.
        due: Option<Instant>,
    },
}

impl Job {
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Job::Void => None,
            Job::Place { tenant, .. }
            | Job::Check { tenant, .. }
            | Job::Append { tenant, .. }
            | Job::Tell { tenant, .. }
            | Job::Read { tenant, .. }
            | Job::Save { tenant, .. }
            | Job::Refresh { tenant, .. }
            | Job::Forget { tenant, .. }
            | Job::Claim { tenant, .. }
            | Job::Share { tenant, .. } => Some(tenant),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Job>()
            + self.tenant().map_or(0, |tenant| tenant.as_str().len())
            + match self {
                Job::Append { append, .. } => append.bytes(),
                Job::Tell { body, .. } | Job::Save { body, .. } => body.len(),
                Job::Read { rooms, .. } => rooms.iter().map(Wanted::bytes).sum(),
                Job::Refresh { pids, .. } => size_of_val(&pids[..]),
                Job::Share { act, .. } => act.bytes(),
                Job::Void | Job::Place { .. } | Job::Check { .. } | Job::Forget { .. } | Job::Claim { .. } => 0,
            }
    }

    /// Commands it will be, about.
    fn commands(&self) -> usize {
        match self {
            Job::Void => 0,
            Job::Read { rooms, .. } => 1 + 3 * rooms.len(),
            Job::Refresh { pids, .. } => pids.len(),
            _ => 1,
        }
    }

    fn due(&self) -> Option<Instant> {
        match self {
            Job::Read { due, .. } | Job::Claim { due, .. } => Some(*due),
            Job::Share { due, .. } => *due,
            _ => None,
        }
    }

    /// The socket whose newest state this is.
    fn state_of(&self) -> Option<(&TenantId, Sid)> {
        match self {
            Job::Save { tenant, pid, .. } | Job::Forget { tenant, pid, .. } => Some((tenant, *pid)),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LaneKey {
    Nth(u8),
    Of(TenantId),
}

pub struct Journal {
    lanes: BTreeMap<LaneKey, Lane>,
    /// Lanes that may send: a Cluster has as many as there are tenants, and nobody looks through all of them.
    awake: BTreeSet<LaneKey>,
    /// Lanes that have something to send, and may not yet.
    resting: BTreeSet<(Instant, LaneKey)>,
    /// Lanes whose last batch the store would not take.
    failing: BTreeSet<LaneKey>,
    /// By when something in a lane is to be answered; it may have been.
    dues: VecDeque<(Instant, LaneKey)>,
    by_tenant: bool,
    /// Bytes of events that may wait.
    bytes_max: usize,
    events: usize,
    event_bytes: usize,
    rest_bytes: usize,
}

struct Lane {
    queue: VecDeque<Job>,
    /// The place of the queue's first; places are never used twice, however often something is put back.
    first: u64,
    /// By socket: the place in the queue of its newest state.
    states: Map<(TenantId, Sid), u64>,
    /// Of what is answered in time: when, and its place in the queue.
    waits: VecDeque<(Instant, u64)>,
    flying: Vec<Job>,
    is_flying: bool,
    /// Nothing leaves before.
    rests_until: Instant,
    /// Batches in a row that the store would not take.
    failures: u32,
    /// Which scripts are known where this lane's tenants are.
    knows: Known,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            queue: VecDeque::new(),
            first: 1 << 40,
            states: Map::default(),
            waits: VecDeque::new(),
            flying: Vec::new(),
            is_flying: false,
            rests_until: Instant::default(),
            failures: 0,
            knows: KNOWS_NONE,
        }
    }
}

impl Journal {
    pub fn new(bytes_max: usize) -> Journal {
        Journal {
            lanes: BTreeMap::new(),
            awake: BTreeSet::new(),
            resting: BTreeSet::new(),
            failing: BTreeSet::new(),
            dues: VecDeque::new(),
            by_tenant: false,
            bytes_max,
            events: 0,
            event_bytes: 0,
            rest_bytes: 0,
        }
    }

    fn key(&self, tenant: &TenantId) -> LaneKey {
        if self.by_tenant { LaneKey::Of(tenant.clone()) } else { LaneKey::Nth(tenant.home(LANES).0) }
    }

    /// Lanes by tenant, or shares of the tenants. Nothing is under way then.
    pub fn group(&mut self, by_tenant: bool) {
        self.failing.clear();
        for (_, key) in std::mem::take(&mut self.resting) {
            self.awake.insert(key);
        }
        for lane in self.lanes.values_mut() {
            lane.knows = KNOWS_NONE;
            lane.failures = 0;
            lane.rests_until = Instant::default();
        }
        if by_tenant == self.by_tenant {
            return;
        }
        self.by_tenant = by_tenant;
        self.awake.clear();
        self.dues.clear();
        for lane in std::mem::take(&mut self.lanes).into_values() {
            for job in lane.flying.into_iter().chain(lane.queue) {
                self.push(job);
            }
        }
    }

    /// Puts something behind what waits, or gives it back when too much does.
    pub fn add(&mut self, job: Job) -> Result<(), Job> {
        let bytes = job.bytes();
        match &job {
            Job::Void => return Ok(()),
            Job::Place { .. } | Job::Check { .. } => {}
            Job::Append { .. } => {
                // One that is too heavy by itself may go when nothing else waits: all go this way, also when nothing is wrong.
                let is_full = self.event_bytes + bytes > self.bytes_max || self.events >= JOURNAL_EVENTS_MAX;
                if is_full && self.events > 0 {
                    return Err(job);
                }
                self.events += 1;
                self.event_bytes += bytes;
            }
            _ => {
                if self.rest_bytes + bytes > JOURNAL_REST_BYTES_MAX {
                    return Err(job);
                }
                self.rest_bytes += bytes;
            }
        }
        self.push(job);
        Ok(())
    }

    /// Puts a question before everything that waits.
    pub fn add_first(&mut self, job: Job) {
        debug_assert!(matches!(job, Job::Place { .. }), "nothing else may pass");
        let Some(tenant) = job.tenant() else { return };
        let key = self.key(tenant);
        self.lanes.entry(key.clone()).or_default().push_front(job);
        self.rouse(&key);
    }

    fn push(&mut self, job: Job) {
        let Some(tenant) = job.tenant() else { return };
        let key = self.key(tenant);
        if let Some(due) = job.due() {
            self.dues.push_back((due, key.clone()));
        }
        if let Some(replaced) = self.lanes.entry(key.clone()).or_default().push(job) {
            self.forget(&replaced);
        }
        self.rouse(&key);
    }

    /// A lane that has something to send is among those that may, or that rest.
    fn rouse(&mut self, key: &LaneKey) {
        let Some(lane) = self.lanes.get(key) else { return };
        if lane.is_flying || lane.queue.is_empty() {
            return;
        }
        if lane.rests_until == Instant::default() {
            self.awake.insert(key.clone());
        } else {
            self.resting.insert((lane.rests_until, key.clone()));
        }
    }

    /// It is done, answered or dropped.
    pub fn forget(&mut self, job: &Job) {
        match job {
            Job::Void | Job::Place { .. } | Job::Check { .. } => {}
            Job::Append { .. } => {
                self.events = self.events.saturating_sub(1);
                self.event_bytes = self.event_bytes.saturating_sub(job.bytes());
            }
            _ => self.rest_bytes = self.rest_bytes.saturating_sub(job.bytes()),
        }
    }

    /// A lane that may send its next batch, if one is ready.
    pub fn ready(&mut self, now: Instant) -> Option<LaneKey> {
        while let Some((until, key)) = self.resting.pop_first() {
            if until > now {
                self.resting.insert((until, key));
                break;
            }
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.rests_until = Instant::default();
            }
            self.awake.insert(key);
        }
        self.awake.first().cloned()
    }

    /// Takes a lane's next batch: the caller sees it, the lane keeps it until it has [`landed`](Self::landed). Empty where all of it was void.
    pub fn take(&mut self, key: &LaneKey) -> (&[Job], Known) {
        self.awake.remove(key);
        let Some(lane) = self.lanes.get_mut(key) else { return (&[], KNOWS_NONE) };
        debug_assert!(!lane.is_flying, "one batch is under way in a lane");
        let (mut commands, mut bytes) = (0, 0);
        while let Some(job) = lane.queue.front() {
            let (more_commands, more_bytes) = (job.commands(), job.bytes());
            let fits = commands + more_commands <= BATCH_COMMANDS_MAX && bytes + more_bytes <= BATCH_BYTES_MAX;
            if !fits && !lane.flying.is_empty() {
                break;
            }
            (commands, bytes) = (commands + more_commands, bytes + more_bytes);
            if let Some(job) = lane.pop() {
                lane.flying.push(job);
            }
        }
        lane.is_flying = !lane.flying.is_empty();
        let knows = lane.knows;
        if !lane.is_flying && matches!(key, LaneKey::Of(_)) {
            self.lanes.remove(key);
            return (&[], knows);
        }
        (self.lanes.get(key).map_or(&[], |lane| &lane.flying), knows)
    }

    /// A lane's batch is not under way any more.
    pub fn landed(&mut self, key: &LaneKey) -> Vec<Job> {
        let Some(lane) = self.lanes.get_mut(key) else { return Vec::new() };
        lane.is_flying = false;
        std::mem::take(&mut lane.flying)
    }

    /// A lane goes on, after `again` of what it had sent. Failed: not before `rests_until`. Answers how often in a row it has failed.
    pub fn put_back(&mut self, key: &LaneKey, again: Vec<Job>, failed: Option<Instant>, knows: Known) -> u32 {
        let Some(lane) = self.lanes.get_mut(key) else { return 0 };
        for job in again.into_iter().rev() {
            lane.push_front(job);
        }
        lane.knows = knows;
        match failed {
            Some(until) => {
                lane.failures += 1;
                lane.rests_until = until;
            }
            None => {
                lane.failures = 0;
                lane.rests_until = Instant::default();
            }
        }
        let (failures, is_empty) = (lane.failures, lane.queue.is_empty());
        if is_empty && matches!(key, LaneKey::Of(_)) {
            self.lanes.remove(key);
        }
        // With nothing left to try there is nothing that would show that all is well again.
        if failed.is_some() && !is_empty {
            self.failing.insert(key.clone());
        } else {
            self.failing.remove(key);
        }
        self.rouse(key);
        failures
    }

    pub fn failures(&self, key: &LaneKey) -> u32 {
        self.lanes.get(key).map_or(0, |lane| lane.failures)
    }

    /// Whether the store would not take what some lane has for it.
    pub fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// Lanes with a batch under way.
    pub fn flying(&self) -> Vec<LaneKey> {
        self.lanes.iter().filter(|(_, lane)| lane.is_flying).map(|(key, _)| key.clone()).collect()
    }

    /// Forgets questions about where streams stand: all will be asked again.
    pub fn drop_questions(&mut self) {
        for lane in self.lanes.values_mut() {
            for job in &mut lane.queue {
                if matches!(job, Job::Place { .. } | Job::Check { .. }) {
                    *job = Job::Void;
                }
            }
        }
    }

    /// Takes out what was to be answered by now.
    pub fn expire(&mut self, now: Instant) -> Vec<Job> {
        let mut late = Vec::new();
        while let Some((due, key)) = self.dues.pop_front() {
            if due > now {
                self.dues.push_front((due, key));
                break;
            }
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            while let Some(&(due, place)) = lane.waits.front()
                && due <= now
            {
                lane.waits.pop_front();
                if let Some(job) = lane.at(place) {
                    late.push(std::mem::replace(job, Job::Void));
                }
            }
            for job in &mut lane.flying {
                if job.due().is_some_and(|due| due <= now) {
                    late.push(std::mem::replace(job, Job::Void));
                }
            }
        }
        late.iter().for_each(|job| self.forget(job));
        late
    }

    /// When something may have to be answered.
    pub fn next_due(&self) -> Option<Instant> {
        self.dues.front().map(|(due, _)| *due)
    }

    /// When a lane may send.
    pub fn next_ready(&self) -> Option<Instant> {
        let rested = self.resting.first().map(|(until, _)| *until);
        if self.awake.is_empty() { rested } else { Some(Instant::default()) }
    }

    /// Events that wait, or are under way.
    pub fn events(&self) -> usize {
        self.events
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| !lane.is_flying && lane.queue.iter().all(|job| matches!(job, Job::Void)))
    }
}

impl Lane {
    fn at(&mut self, place: u64) -> Option<&mut Job> {
        self.queue.get_mut(place.checked_sub(self.first)? as usize)
    }

    /// Answers what it took the place of.
    fn push(&mut self, job: Job) -> Option<Job> {
        let place = self.first + self.queue.len() as u64;
        if let Some((tenant, pid)) = job.state_of() {
            let key = (tenant.clone(), pid);
            if let Some(&earlier) = self.states.get(&key)
                && let Some(known) = self.at(earlier)
            {
                return Some(std::mem::replace(known, job));
            }
            self.states.insert(key, place);
        } else if let Job::Claim { tenant, pid, .. } = &job {
            // What is saved after it must stay after it.
            self.states.remove(&(tenant.clone(), *pid));
        }
        if let Some(due) = job.due() {
            self.waits.push_back((due, place));
        }
        self.queue.push_back(job);
        None
    }

    fn push_front(&mut self, job: Job) {
        if matches!(job, Job::Void) {
            return;
        }
        self.first -= 1;
        if let Some(due) = job.due() {
            self.waits.push_front((due, self.first));
        }
        self.queue.push_front(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let job = self.queue.pop_front()?;
        let place = self.first;
        self.first += 1;
        if let Some((tenant, pid)) = job.state_of() {
            let key = (tenant.clone(), pid);
            if self.states.get(&key) == Some(&place) {
                self.states.remove(&key);
            }
        }
        if job.due().is_some() && self.waits.front().is_some_and(|&(_, waits)| waits == place) {
            self.waits.pop_front();
        }
        Some(job).filter(|job| !matches!(job, Job::Void))
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
