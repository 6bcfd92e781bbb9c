//! What waits for the store: a queue for each tenant, and pipelines that carry the heads of these queues, in turn.
//!
//! ```text
//!  add ----> a tenant's queue ---- take ----> a flight ---- landed ----> settled: forget
//!                   ^                                          |
//!                   +------------------- put_back -------------+       not done, or nobody knows
//! ```
//!
//! A flight is one pipeline: of many tenants, each with its share of it; in a Cluster of one tenant, because it goes to one slot there. What
//! comes while a tenant's jobs are under way leaves with its next flight, so batches grow with the load.
//!
//! Invariants: what is asked for one tenant leaves in order, and is in one flight at a time; what was put back goes first; who waits has its turn
//! however much others ask; what waits is bounded, and a tenant alone cannot take all of it ([`Journal::add`]); nothing that is answered in time
//! waits beyond its time ([`Journal::expire`]); of what is kept of one socket only the newest waits.

use super::{
    hold::{Held, Hold},
    script::{KNOWS_NONE, Known},
};
use crate::base::{
    chance::Map,
    id::{ShardId, Sid, TenantId},
    limit::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, JOURNAL_EVENTS_MAX, JOURNAL_REST_BYTES_MAX},
    time::Instant,
};
use crate::shard::relay::{Act, Append, Ticket, Wanted};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Flights at a time where there is no Cluster: one could be held up by one tenant's long answer.
const FLIGHTS_MAX: usize = 4;
/// Commands of a tenant in one flight that any other tenant waits for, at least: a share may not be too small to be worth its turn.
const SHARE_MIN: usize = 8;

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
        in_row: bool,
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
    fn state_of(&self) -> Option<Sid> {
        match self {
            Job::Save { pid, .. } | Job::Forget { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

/// One pipeline under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flight(u64);

pub struct Journal {
    lanes: BTreeMap<TenantId, Lane>,
    /// Tenants that may send, in turn, each once: a node has many, and nobody looks through all of them.
    awake: VecDeque<TenantId>,
    /// Tenants that have something to send, and may not yet.
    resting: BTreeSet<(Instant, TenantId)>,
    /// Tenants of which the store would not take something that it is offered again.
    failing: BTreeSet<TenantId>,
    /// By when something of a tenant is to be answered; it may have been.
    dues: VecDeque<(Instant, TenantId)>,
    flights: BTreeMap<Flight, Flying>,
    newest: u64,
    /// A flight has one tenant.
    by_tenant: bool,
    /// Which scripts are known where all tenants are in one place.
    knows: Known,
    /// Events that may wait.
    events: Hold,
    /// All else.
    rest: Hold,
}

/// What is under way in one pipeline.
#[derive(Default)]
struct Flying {
    tenants: Vec<TenantId>,
    jobs: Vec<Job>,
}

struct Lane {
    queue: VecDeque<Job>,
    /// The place of the queue's first; places are never used twice, however often something is put back.
    first: u64,
    /// By socket: the place in the queue of its newest state.
    states: Map<Sid, u64>,
    /// Of what is answered in time: when, and its place in the queue.
    waits: VecDeque<(Instant, u64)>,
    /// Under way.
    flight: Option<Flight>,
    is_awake: bool,
    /// Nothing leaves before.
    rests_until: Instant,
    /// Flights in a row of which the store would not take what is offered again.
    failures: u32,
    /// Which scripts are known where this tenant is.
    knows: Known,
    events: Held,
    rest: Held,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            queue: VecDeque::new(),
            first: 1 << 40,
            states: Map::default(),
            waits: VecDeque::new(),
            flight: None,
            is_awake: false,
            rests_until: Instant::default(),
            failures: 0,
            knows: KNOWS_NONE,
            events: Held::default(),
            rest: Held::default(),
        }
    }
}

impl Journal {
    /// `bytes_max`: of events that may wait.
    pub fn new(bytes_max: usize) -> Journal {
        Journal {
            lanes: BTreeMap::new(),
            awake: VecDeque::new(),
            resting: BTreeSet::new(),
            failing: BTreeSet::new(),
            dues: VecDeque::new(),
            flights: BTreeMap::new(),
            newest: 0,
            by_tenant: false,
            knows: KNOWS_NONE,
            events: Hold::new(JOURNAL_EVENTS_MAX, bytes_max),
            rest: Hold::new(usize::MAX, JOURNAL_REST_BYTES_MAX),
        }
    }

    /// Another link: flights of one tenant each, or of many. Nothing is under way then.
    pub fn group(&mut self, by_tenant: bool) {
        debug_assert!(self.flights.is_empty(), "what is under way would be in the wrong place");
        self.by_tenant = by_tenant;
        self.knows = KNOWS_NONE;
        self.failing.clear();
        self.resting.clear();
        for (tenant, lane) in &mut self.lanes {
            lane.knows = KNOWS_NONE;
            lane.failures = 0;
            lane.rests_until = Instant::default();
            if !lane.queue.is_empty() && !std::mem::replace(&mut lane.is_awake, true) {
                self.awake.push_back(tenant.clone());
            }
        }
    }

    /// Puts something behind what waits, or gives it back when too much does: of all, or of its tenant, which may hold four times what is left.
    pub fn add(&mut self, job: Job) -> Result<(), Job> {
        let bytes = job.bytes();
        if let Some((hold, held)) = self.hold(&job) {
            if !hold.has_room(*held, bytes) {
                self.tidy(job.tenant());
                return Err(job);
            }
            hold.add(held, bytes);
        }
        self.push(job);
        Ok(())
    }

    /// What a job counts against; questions about where streams stand are not bounded: a tenant has one or two.
    fn hold(&mut self, job: &Job) -> Option<(&mut Hold, &mut Held)> {
        let Journal { lanes, events, rest, .. } = self;
        match job {
            Job::Void | Job::Place { .. } | Job::Check { .. } => None,
            Job::Append { tenant, .. } => Some((events, &mut lane(lanes, tenant)?.events)),
            _ => Some((rest, &mut lane(lanes, job.tenant()?)?.rest)),
        }
    }

    /// Puts a question before everything that waits.
    pub fn add_first(&mut self, job: Job) {
        debug_assert!(matches!(job, Job::Place { .. }), "nothing else may pass");
        let Some(tenant) = job.tenant().cloned() else { return };
        if let Some(lane) = lane(&mut self.lanes, &tenant) {
            lane.push_front(job);
        }
        self.rouse(&tenant);
    }

    fn push(&mut self, job: Job) {
        let Some(tenant) = job.tenant().cloned() else { return };
        if let Some(due) = job.due() {
            self.dues.push_back((due, tenant.clone()));
        }
        if let Some(replaced) = lane(&mut self.lanes, &tenant).and_then(|lane| lane.push(job)) {
            self.forget(&replaced);
        }
        self.rouse(&tenant);
    }

    /// A tenant that has something to send is among those that may, or that rest.
    fn rouse(&mut self, tenant: &TenantId) {
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        if lane.flight.is_some() || lane.queue.is_empty() || lane.is_awake {
            return;
        }
        if lane.rests_until == Instant::default() {
            lane.is_awake = true;
            self.awake.push_back(tenant.clone());
        } else {
            self.resting.insert((lane.rests_until, tenant.clone()));
        }
    }

    /// A tenant of which nothing waits is not there.
    fn tidy(&mut self, tenant: Option<&TenantId>) {
        if let Some(tenant) = tenant
            && self.lanes.get(tenant).is_some_and(|lane| lane.queue.is_empty() && lane.flight.is_none())
            && let Some(lane) = self.lanes.remove(tenant)
        {
            debug_assert_eq!((lane.events, lane.rest), Default::default(), "nothing of it is left");
            debug_assert!(!lane.is_awake, "nobody looks for it");
        }
    }

    /// It is done, answered or dropped.
    pub fn forget(&mut self, job: &Job) {
        if let Some((hold, held)) = self.hold(job) {
            hold.remove(held, job.bytes());
        }
    }

    /// Takes the next flight, if one may go: the caller sees its jobs, the journal keeps them until it has [`landed`](Self::landed). Each tenant
    /// whose turn it is has its share.
    pub fn take(&mut self, now: Instant) -> Option<(Flight, &[Job], Known)> {
        while let Some((until, tenant)) = self.resting.pop_first() {
            if until > now {
                self.resting.insert((until, tenant));
                break;
            }
            if let Some(lane) = self.lanes.get_mut(&tenant) {
                lane.rests_until = Instant::default();
            }
            self.rouse(&tenant);
        }
        if !self.by_tenant && self.flights.len() >= FLIGHTS_MAX {
            return None;
        }
        let flight = Flight(self.newest + 1);
        let mut flying = Flying::default();
        let mut knows = self.knows;
        let (mut commands, mut bytes) = (0, 0);
        while commands < BATCH_COMMANDS_MAX && bytes < BATCH_BYTES_MAX {
            let turns = if self.by_tenant { 1 } else { self.awake.len().max(1) };
            let Some(tenant) = self.awake.pop_front() else { break };
            let share = (BATCH_COMMANDS_MAX / turns).max(SHARE_MIN).min(BATCH_COMMANDS_MAX - commands);
            let share_bytes = (BATCH_BYTES_MAX / turns).min(BATCH_BYTES_MAX - bytes);
            let Some(lane) = self.lanes.get_mut(&tenant) else { continue };
            lane.is_awake = false;
            let before = flying.jobs.len();
            let taken = lane.take(share, share_bytes, &mut flying.jobs);
            if flying.jobs.len() == before {
                self.tidy(Some(&tenant));
                continue;
            }
            (commands, bytes) = (commands + taken.0, bytes + taken.1);
            lane.flight = Some(flight);
            flying.tenants.push(tenant);
            if self.by_tenant {
                knows = lane.knows;
                break;
            }
        }
        if flying.tenants.is_empty() {
            return None;
        }
        self.newest += 1;
        let flying = self.flights.entry(flight).or_insert(flying);
        Some((flight, &flying.jobs, knows))
    }

    /// A flight is not under way any more.
    pub fn landed(&mut self, flight: Flight) -> Vec<Job> {
        self.flights.get_mut(&flight).map_or(Vec::new(), |flying| std::mem::take(&mut flying.jobs))
    }

    /// The tenants of a flight go on, after `again` of what they had sent. `failed`: those of them that have something to send again do so not
    /// before then.
    pub fn put_back(&mut self, flight: Flight, again: Vec<Job>, failed: Option<Instant>, knows: Known) {
        let Some(flying) = self.flights.remove(&flight) else { return };
        let mut behind = BTreeSet::new();
        for job in again.into_iter().rev() {
            let Some(tenant) = job.tenant().cloned() else { continue };
            if let Some(lane) = lane(&mut self.lanes, &tenant) {
                lane.push_front(job);
            }
            behind.insert(tenant);
        }
        if !self.by_tenant {
            self.knows = knows;
        }
        for tenant in flying.tenants {
            let Some(lane) = self.lanes.get_mut(&tenant) else { continue };
            lane.flight = None;
            lane.knows = knows;
            match failed.filter(|_| behind.contains(&tenant)) {
                Some(until) => {
                    lane.failures += 1;
                    lane.rests_until = until;
                    self.failing.insert(tenant.clone());
                }
                // With nothing left to try there is nothing that would show that all is well again.
                None => {
                    lane.failures = 0;
                    lane.rests_until = Instant::default();
                    self.failing.remove(&tenant);
                }
            }
            self.rouse(&tenant);
            self.tidy(Some(&tenant));
        }
    }

    /// How often in a row the store would not take what some tenant of a flight has for it.
    pub fn failures(&self, flight: Flight) -> u32 {
        let tenants = self.flights.get(&flight).map_or(&[][..], |flying| &flying.tenants);
        tenants.iter().filter_map(|tenant| self.lanes.get(tenant)).map(|lane| lane.failures).max().unwrap_or(0)
    }

    /// Whether the store would not take what some tenant has for it.
    pub fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// What is under way.
    pub fn flying(&self) -> Vec<Flight> {
        self.flights.keys().copied().collect()
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
        while let Some((due, tenant)) = self.dues.pop_front() {
            if due > now {
                self.dues.push_front((due, tenant));
                break;
            }
            let Some(lane) = self.lanes.get_mut(&tenant) else { continue };
            while let Some(&(due, place)) = lane.waits.front()
                && due <= now
            {
                lane.waits.pop_front();
                if let Some(job) = lane.at(place) {
                    late.push(std::mem::replace(job, Job::Void));
                }
            }
            let flying = lane.flight.and_then(|flight| self.flights.get_mut(&flight));
            for job in flying.into_iter().flat_map(|flying| &mut flying.jobs) {
                if job.tenant() == Some(&tenant) && job.due().is_some_and(|due| due <= now) {
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

    /// When a flight may leave.
    pub fn next_ready(&self) -> Option<Instant> {
        if !self.by_tenant && self.flights.len() >= FLIGHTS_MAX {
            // One has to land before.
            return None;
        }
        let rested = self.resting.first().map(|(until, _)| *until);
        if self.awake.is_empty() { rested } else { Some(Instant::default()) }
    }

    /// Events that wait, or are under way.
    pub fn events(&self) -> usize {
        self.events.count
    }

    pub fn is_empty(&self) -> bool {
        let is_void = |lane: &Lane| lane.queue.iter().all(|job| matches!(job, Job::Void));
        self.flights.is_empty() && self.lanes.values().all(is_void)
    }
}

/// A tenant's lane, made where there is none: nearly always there is.
fn lane<'a>(lanes: &'a mut BTreeMap<TenantId, Lane>, tenant: &TenantId) -> Option<&'a mut Lane> {
    if !lanes.contains_key(tenant) {
        lanes.insert(tenant.clone(), Lane::default());
    }
    lanes.get_mut(tenant)
}

impl Lane {
    /// Takes from the queue what is within a share, and one job in any case; how many commands and bytes that is.
    fn take(&mut self, share: usize, share_bytes: usize, jobs: &mut Vec<Job>) -> (usize, usize) {
        let before = jobs.len();
        let (mut commands, mut bytes) = (0, 0);
        while let Some(job) = self.queue.front() {
            let (more, more_bytes) = (job.commands(), job.bytes());
            let fits = commands + more <= share && bytes + more_bytes <= share_bytes;
            if !fits && jobs.len() > before {
                break;
            }
            if let Some(job) = self.pop() {
                (commands, bytes) = (commands + more, bytes + more_bytes);
                jobs.push(job);
            }
        }
        (commands, bytes)
    }

    fn at(&mut self, place: u64) -> Option<&mut Job> {
        self.queue.get_mut(place.checked_sub(self.first)? as usize)
    }

    /// Answers what it took the place of.
    fn push(&mut self, job: Job) -> Option<Job> {
        let place = self.first + self.queue.len() as u64;
        if let Some(pid) = job.state_of() {
            if let Some(&earlier) = self.states.get(&pid)
                && let Some(known) = self.at(earlier)
            {
                return Some(std::mem::replace(known, job));
            }
            self.states.insert(pid, place);
        } else if let Job::Claim { pid, .. } = &job {
            // What is saved after it must stay after it.
            self.states.remove(pid);
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
        if let Some(pid) = job.state_of()
            && self.states.get(&pid) == Some(&place)
        {
            self.states.remove(&pid);
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
