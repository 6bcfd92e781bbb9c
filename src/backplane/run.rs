//! The backplane's one task: everything is decided here, and tasks beside it only wait for Redis.
//!
//! ```text
//!              connect            subscribed, all of them
//!   (no link) ---------> resubscribing -----------------> open: batches leave
//!       ^                     |                              |
//!       +------ broke --------+------------------------------+      what is under way goes back to the journal
//! ```

use super::{
    Settings, Start,
    command::{self, Encoder},
    count::Count,
    foreign::{Ask, Fleet, Outward, Tray, Word},
    inlet::{Heard, Inlet},
    journal::{Flight, Job, Journal},
    key::Keys,
    link::{self, Link, Refusal, backoff},
    outlet::Outlet,
    script::{KNOWS_NONE, Known, Scripts},
    seat::{self, Seat},
    tenant::{Change, Step, Tenants},
};
use crate::base::{
    chance::Chance,
    id::{NodeId, ShardId, TenantId},
    limit::{BATCH_COMMANDS_MAX, FLEET_MISSED_PATIENCE, RELAY_PATIENCE},
    time::{Duration, Instant},
};
use crate::shard::relay::{Relay, Report, Unavailable};
use crate::wire::envelope::{Origin, VERSION};
use redis::{RedisError, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::{Arc, mpsc},
};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
};

/// How often it is asked whether Redis is there.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How soon a shard's full lane is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(5);
/// How often a link is made anew at most because a channel has fallen silent.
const DEAF_EVERY: Duration = Duration::from_secs(30);
/// Asks that are taken before anything else is looked at.
const ASKS_MAX: usize = 1024;

/// What a task beside this one has to say, and of which link.
pub enum Event {
    Connected(u64, Result<Link, Refusal>),
    Subscribed(u64, Vec<Change>, Result<Vec<bool>, RedisError>),
    Answered(u64, Flight, Result<Vec<Value>, RedisError>),
    Pinged(u64, bool),
    Seat(u64, seat::Ended),
}

pub struct Core {
    settings: Arc<Settings>,
    pub(super) start: Start,
    pub(super) keys: Keys,
    scripts: Scripts,
    pub(super) chance: Chance,
    pub(super) journal: Journal,
    /// Of each batch under way: commands of each job, and the scripts that are known after it.
    pub(super) flights: BTreeMap<Flight, (Vec<usize>, Known)>,
    pub(super) tenants: Tenants,
    pub(super) seat: Seat,
    /// For the servers of other makes, where there may be any.
    pub(super) tray: Option<Arc<Tray>>,
    /// Where events get their rows in the stream that is shared with those, together with their places.
    pub(super) outward: Option<Outward>,
    outlets: Vec<Outlet>,
    inlet: Arc<Inlet>,
    pub(super) link: Option<Link>,
    pub(super) generation: u64,
    is_connecting: bool,
    pub(super) connect_at: Instant,
    failures: u32,
    is_subscribing: bool,
    /// Subscriptions to make before anything else is done with a new link.
    resubscribing: usize,
    ping_at: Instant,
    is_pinging: bool,
    pub(super) tasks: JoinSet<Event>,
    /// Of the newest append or claim.
    number: u64,
    /// Codes that the log has heard of, since all was well.
    said: BTreeSet<Box<str>>,
    /// In a Cluster a node that hangs is replaced by another one, and goes on holding our subscriptions: then envelopes do not come.
    is_deaf: bool,
    deaf_until: Instant,
    /// Since when some slot of the Cluster fails without a break.
    pub(super) failing_since: Option<Instant>,
    /// Links in a row that broke before anything was done with them.
    fruitless: u32,
    pub(super) first: Option<mpsc::Sender<Result<NodeId, Refusal>>>,
    end: Option<Instant>,
}

pub async fn run(
    settings: Settings,
    start: Start,
    tray: Option<Arc<Tray>>,
    first: mpsc::Sender<Result<NodeId, Refusal>>,
    mut end: oneshot::Receiver<Instant>,
) {
    let (errands, inlet) = (start.errands.clone(), Arc::new(Inlet::default()));
    let mut chance = Chance::new(start.seed);
    let mut core = Core {
        keys: settings.keys(),
        journal: Journal::new(settings.journal_bytes),
        scripts: Scripts::default(),
        seat: Seat::new(settings.node, start.shards, chance.u64()),
        chance,
        flights: BTreeMap::new(),
        tenants: Tenants::new(settings.fleet.as_ref().is_some_and(Fleet::recovers)),
        tray,
        outward: Outward::of(&settings),
        outlets: (0..start.shards).map(|_| Outlet::default()).collect(),
        inlet: inlet.clone(),
        link: None,
        generation: 0,
        is_connecting: false,
        connect_at: Instant::default(),
        failures: 0,
        is_subscribing: false,
        resubscribing: 0,
        ping_at: Instant::NEVER,
        is_pinging: false,
        tasks: JoinSet::new(),
        number: 0,
        said: BTreeSet::new(),
        is_deaf: false,
        deaf_until: Instant::default(),
        failing_since: None,
        fruitless: 0,
        first: Some(first),
        end: None,
        settings: Arc::new(settings),
        start,
    };
    while !core.is_over() {
        core.work();
        // The connections' tasks get their turn, also while asks keep coming.
        tokio::task::yield_now().await;
        let rest = core.rest();
        tokio::select! {
            biased;
            (from, relay) = poll_fn(|context| errands.poll_next(context)) => core.asked(from, relay),
            Some(ended) = core.tasks.join_next() => core.ended(ended),
            () = inlet.wait() => {}
            () = tokio::time::sleep(rest) => {}
            // Nobody holds the other end any more: as if it was now.
            until = &mut end, if core.end.is_none() => core.end = Some(until.unwrap_or_default()),
        }
    }
    core.leave_seat().await;
    let count = core.journal.events();
    if count > 0 {
        core.start.errands.add(Count::Lost as usize, count);
        tracing::warn!(count, "the server ends before these events reached Redis");
    }
}

impl Core {
    pub(super) fn now(&self) -> Instant {
        self.start.clock.now().at
    }

    pub(super) fn count(&self, count: Count) {
        self.start.errands.count(count as usize);
    }

    /// Everything that can be done now.
    fn work(&mut self) {
        for _ in 0..ASKS_MAX {
            let Some((from, relay)) = self.start.errands.try_next() else { break };
            self.asked(from, relay);
        }
        while let Some(ended) = self.tasks.try_join_next() {
            self.ended(ended);
        }
        self.hear();
        let now = self.now();
        if std::mem::take(&mut self.is_deaf) && self.deaf_until <= now {
            self.deaf_until = now + DEAF_EVERY;
            self.broke("a channel has fallen silent");
        }
        let mut steps = Vec::new();
        if self.link.is_some() {
            self.tenants.due(now, &mut steps);
        }
        for job in self.journal.expire(now) {
            self.refuse(&job);
        }
        for (index, outlet) in self.outlets.iter_mut().enumerate() {
            if outlet.has_regained() {
                self.tenants.regain(ShardId(index as u8), &mut steps);
            }
        }
        self.take(steps);
        self.tend_seat(now);
        if self.link.is_some() {
            self.ask_store(now);
        } else if !self.is_connecting && self.connect_at <= now {
            self.is_connecting = true;
            self.generation += 1;
            let (generation, inlet) = (self.generation, self.inlet.clone());
            let link = link::connect(self.settings.clone(), inlet, generation);
            self.tasks.spawn(async move { Event::Connected(generation, link.await) });
        }
        for (index, outlet) in self.outlets.iter_mut().enumerate() {
            let deliver = &self.start.deliver;
            outlet.flush(|reports, load| deliver(ShardId(index as u8), reports, load));
        }
    }

    /// How long there is nothing to do.
    fn rest(&self) -> Duration {
        let now = self.now();
        let up = self.link.is_some();
        let connects = (!up && !self.is_connecting).then_some(self.connect_at);
        let pings = (up && !self.is_pinging).then_some(self.ping_at);
        let sends = if up && self.resubscribing == 0 { self.journal.next_ready() } else { None };
        let looks = if up { self.tenants.next_deadline() } else { None };
        let retries = self.outlets.iter().any(Outlet::waits).then_some(now + RETRY_EVERY);
        let seat = self.seat.next_deadline();
        let deadlines = [connects, pings, sends, looks, retries, seat, self.journal.next_due(), self.end];
        // An end that is in the past waits for nothing: it is looked at before each rest.
        deadlines.into_iter().flatten().min().map_or(PING_EVERY, |at| at.since(now))
    }

    fn is_over(&self) -> bool {
        let Some(until) = self.end else { return false };
        let is_done = self.start.errands.bytes() == 0 && self.journal.is_empty() && self.seat.neighbours.is_empty();
        is_done || self.now() >= until
    }

    /// A shard asks.
    fn asked(&mut self, from: ShardId, relay: Relay) {
        self.start.errands.done(relay.bytes());
        let now = self.now();
        let mut steps = Vec::new();
        let job = match relay {
            Relay::Open { tenant } => {
                let (channel, is_up) = (self.keys.channel(&tenant), self.link.is_some());
                self.tenants.open(tenant, &channel, from, is_up, &mut steps);
                return self.take(steps);
            }
            Relay::Close { tenant } => {
                let channel = self.keys.channel(&tenant);
                return self.tenants.close(&tenant, &channel);
            }
            Relay::Neighbour(errand) => return self.errand(from, *errand),
            Relay::Append { tenant, ticket, append } => {
                self.number += 1;
                Job::Append { tenant, from, ticket, append, number: self.number }
            }
            Relay::Tell { tenant, body, in_row } => {
                if self.link.is_none() {
                    return self.count(Count::ToldDropped);
                }
                self.tell_fleet(&tenant, &body, None);
                Job::Tell { tenant, body, in_row }
            }
            Relay::Room { tenant, room, is_here } => return self.put(Word::Room { tenant, room, is_here }),
            Relay::Missed { tenant, ticket, wanted } => {
                let due = now + FLEET_MISSED_PATIENCE;
                if !self.put_ask(Ask { from, tenant: tenant.clone(), ticket, wanted, due, newest: None }) {
                    self.tell(from, Some(&tenant), Report::Missed { ticket, result: Err(Unavailable) });
                }
                return;
            }
            Relay::Answer { ticket, answer } => return self.put(Word::Answer { from, ticket, answer }),
            Relay::Read { tenant, ticket, rooms } => {
                Job::Read { tenant, from, ticket, rooms, due: now + RELAY_PATIENCE }
            }
            Relay::Save { tenant, pid, generation, body, ttl } => {
                Job::Save { tenant, from, pid, generation, body, until: now + ttl }
            }
            Relay::Refresh { tenant, pids, ttl } => Job::Refresh { tenant, pids, until: now + ttl },
            Relay::Forget { tenant, pid, generation } => Job::Forget { tenant, pid, generation },
            Relay::Claim { tenant, pid, ticket } => {
                self.number += 1;
                Job::Claim { tenant, from, ticket, pid, number: self.number, due: now + RELAY_PATIENCE }
            }
            Relay::Share { tenant, ticket, act } => {
                Job::Share { tenant, from, ticket, act, due: ticket.map(|_| now + RELAY_PATIENCE) }
            }
        };
        if let Err(job) = self.journal.add(job) {
            self.refuse(&job);
        }
    }

    /// Something is not done, and will not be.
    pub(super) fn refuse(&mut self, job: &Job) {
        if let Some((shard, report)) = command::unavailable(job) {
            self.count(Count::Unavailable);
            self.tell(shard, job.tenant(), report);
        }
        match job {
            Job::Tell { .. } => self.count(Count::ToldDropped),
            Job::Save { .. } | Job::Refresh { .. } | Job::Forget { .. } | Job::Share { ticket: None, .. } => {
                self.count(Count::SavesDropped);
            }
            _ => {}
        }
    }

    /// Tells a shard something; an answer is of the tenant it was asked for, and keeps its place among what is told of that.
    pub(super) fn tell(&mut self, shard: ShardId, asker: Option<&TenantId>, report: Report) {
        let Some(outlet) = self.outlets.get_mut(shard.index()) else { return };
        if matches!(report, Report::Envelope { .. }) {
            self.start.errands.count(Count::Envelopes as usize);
        }
        if let Err(report) = outlet.push(asker, report) {
            self.count(Count::EnvelopesDropped);
            if let Some(tenant) = report.tenant() {
                self.tenants.lost(tenant);
            }
        }
    }

    pub(super) fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Tell(shard, report) => self.tell(shard, None, report),
                Step::Place(tenant, stamp) => {
                    let job = Job::Place { tenant, stamp };
                    if self.resubscribing > 0 {
                        self.journal.add_first(job);
                    } else {
                        // Questions are not bounded: a tenant has one or two.
                        let _ = self.journal.add(job);
                    }
                }
                Step::Check(tenant, stamp) => {
                    let _ = self.journal.add(Job::Check { tenant, stamp });
                }
                Step::Gap => {
                    self.count(Count::Gaps);
                    self.is_deaf |= self.link.as_ref().is_some_and(|link| link.is_cluster);
                    tracing::debug!("an envelope had not come, and was noticed by a look at the stream");
                }
            }
        }
    }

    /// What the channels carried.
    fn hear(&mut self) {
        let mut steps = Vec::new();
        for heard in self.inlet.take() {
            match heard {
                Heard::Frame { channel, frame } if self.is_seat(&channel) => self.hear_neighbour(&frame),
                Heard::Frame { frame, .. } if is_own_word(&frame, self.settings.origin) => {}
                Heard::Frame { channel, frame } => {
                    if !self.tenants.envelope(&channel, frame, &mut steps) {
                        self.count(Count::EnvelopesDropped);
                    }
                }
                Heard::Dropped { channel } => {
                    self.count(Count::EnvelopesDropped);
                    self.tenants.dropped(&channel, &mut steps);
                }
                Heard::Ended { channel } => {
                    if self.tenants.is_subscribed(&channel) || self.is_seat(&channel) {
                        self.take(std::mem::take(&mut steps));
                        self.broke("a slot of the Cluster has moved");
                    }
                }
                Heard::Broken => {
                    self.take(std::mem::take(&mut steps));
                    self.broke("the connection was closed");
                }
            }
        }
        self.take(steps);
    }

    /// Subscriptions, batches, pings.
    fn ask_store(&mut self, now: Instant) {
        let Some(link) = &self.link else { return };
        let generation = self.generation;
        if !self.is_subscribing && self.tenants.changes_left() > 0 {
            let changes = self.tenants.changes(BATCH_COMMANDS_MAX);
            let names = changes.iter().map(|change| (self.keys.channel(&change.tenant), change.subscribe)).collect();
            let asked = link.channels().subscribe(names, link.is_sharded);
            self.is_subscribing = true;
            self.tasks.spawn(async move { Event::Subscribed(generation, changes, asked.await) });
        }
        if !self.is_pinging && self.ping_at <= now {
            self.is_pinging = true;
            let (commands, channels) = (link.commands().ping(), link.channels().ping());
            self.tasks.spawn(async move { Event::Pinged(generation, commands.await && channels.await) });
        }
        if self.resubscribing > 0 {
            return;
        }
        while let Some((flight, jobs, knows)) = self.journal.take(now) {
            let encoder = Encoder {
                keys: &self.keys,
                scripts: &self.scripts,
                outward: self.outward.as_ref(),
                sharded: link.is_sharded,
                now,
                chance: &mut self.chance,
                seen: &|tenant: &TenantId| self.tenants.seen(tenant),
                knows,
            };
            let batch = encoder.encode(jobs);
            if batch.pipeline.is_empty() {
                for job in self.journal.landed(flight) {
                    self.journal.forget(&job);
                }
                self.journal.put_back(flight, Vec::new(), None, knows);
                continue;
            }
            self.start.errands.count(Count::Batches as usize);
            self.start.errands.add(Count::Commands as usize, batch.pipeline.len());
            self.flights.insert(flight, (batch.commands, batch.knows));
            let answer = link.commands().send(batch.pipeline, batch.key);
            self.tasks.spawn(async move { Event::Answered(generation, flight, answer.await) });
        }
    }

    /// A task beside this one has ended.
    fn ended(&mut self, ended: Result<Event, JoinError>) {
        let event = match ended {
            Ok(event) => event,
            Err(error) if error.is_cancelled() => return,
            Err(_) => {
                // The panic itself has been printed. What it was to say is not known: all of it is begun again.
                tracing::error!("a task of the backplane has panicked");
                self.is_connecting = false;
                return self.broke("a task has panicked");
            }
        };
        let generation = self.generation;
        match event {
            Event::Connected(of, result) if of == generation => self.connected(result),
            Event::Subscribed(of, changes, result) if of == generation => self.subscribed(&changes, result),
            Event::Answered(of, flight, result) if of == generation => self.answered(flight, result),
            Event::Seat(of, ended) if of == generation => self.seat_ended(ended),
            Event::Pinged(of, is_there) if of == generation => {
                self.is_pinging = false;
                self.ping_at = self.now() + PING_EVERY;
                if !is_there {
                    self.broke("it does not answer");
                }
            }
            _ => {}
        }
    }

    fn connected(&mut self, result: Result<Link, Refusal>) {
        self.is_connecting = false;
        let link = match result {
            Ok(link) => link,
            Err(refusal) => return self.not_connected(refusal),
        };
        self.count(Count::Connected);
        if self.is_worth_saying() {
            tracing::info!(version = %link.version, cluster = link.is_cluster, "Redis is there");
        }
        self.failures = 0;
        // By tenant, unless all are in one slot.
        self.journal.group(link.is_cluster && self.outward.is_none());
        self.resubscribing = self.tenants.changes_left();
        self.is_subscribing = false;
        self.is_pinging = false;
        self.ping_at = self.now() + PING_EVERY;
        self.link = Some(link);
        self.seat.begin();
        self.start.errands.set_up(true);
    }

    fn not_connected(&mut self, refusal: Refusal) {
        self.count(Count::ConnectFailed);
        self.failures += 1;
        self.connect_at = self.now() + backoff(self.failures, &mut self.chance);
        // Each time there are twice as many: a Redis that is gone must not fill the log.
        if self.failures.is_power_of_two() {
            tracing::warn!(attempts = self.failures, "Redis cannot be reached: {refusal}");
        }
        if let Some(first) = self.first.take() {
            if matches!(refusal, Refusal::Old(_) | Refusal::Denied(_) | Refusal::Split) {
                self.end = Some(Instant::default());
            }
            let _ = first.send(Err(refusal));
        }
    }

    /// The link is gone, or not to be trusted any more.
    pub(super) fn broke(&mut self, why: &str) {
        if self.link.take().is_none() {
            return;
        }
        if self.is_worth_saying() {
            tracing::warn!("Redis is away: {why}");
        }
        self.fruitless += 1;
        self.failing_since = None;
        self.start.errands.set_up(false);
        self.generation += 1;
        self.inlet.begin(self.generation);
        self.tasks.abort_all();
        self.flights.clear();
        self.is_subscribing = false;
        self.is_pinging = false;
        self.resubscribing = 0;
        self.lose_seat();
        self.failures = 0;
        self.connect_at = self.now() + backoff(0, &mut self.chance);
        for flight in self.journal.flying() {
            self.repeat(flight, None);
        }
        self.journal.drop_questions();
        let mut steps = Vec::new();
        self.tenants.away(&mut steps);
        self.take(steps);
    }

    /// Nobody knows what became of a batch: it is sent again, but for what would be heard twice.
    pub(super) fn repeat(&mut self, flight: Flight, rests_until: Option<Instant>) {
        self.count(Count::Repeated);
        let (told, again): (Vec<Job>, Vec<Job>) =
            self.journal.landed(flight).into_iter().partition(|job| matches!(job, Job::Tell { .. }));
        for job in told {
            self.journal.forget(&job);
            self.refuse(&job);
        }
        self.journal.put_back(flight, again, rests_until, KNOWS_NONE);
    }

    fn subscribed(&mut self, changes: &[Change], result: Result<Vec<bool>, RedisError>) {
        self.is_subscribing = false;
        let confirmed = match result {
            Ok(confirmed) => confirmed,
            Err(error) => return self.broke(&error.to_string()),
        };
        let now = self.now();
        let mut steps = Vec::new();
        for (change, confirmed) in changes.iter().zip(confirmed) {
            if !confirmed {
                self.say("SUBSCRIBE", "a channel cannot be subscribed");
            }
            self.tenants.subscribed(change, confirmed, now, &mut steps);
        }
        self.take(steps);
        self.resubscribing = self.resubscribing.saturating_sub(changes.len());
    }

    /// Says a code once, until all is well.
    pub(super) fn say(&mut self, code: &str, what: &str) {
        if self.said.insert(code.into()) {
            tracing::warn!(code, "Redis refuses: {what}");
        }
    }

    pub(super) fn show_health(&mut self) {
        let is_well = !self.journal.is_failing();
        self.start.errands.set_up(is_well && self.link.is_some());
        if is_well && self.link.is_some() {
            self.said.clear();
            self.fruitless = 0;
            self.failing_since = None;
        }
    }

    /// A link that comes and goes must not fill the log.
    fn is_worth_saying(&self) -> bool {
        self.fruitless == 0 || self.fruitless.is_power_of_two()
    }
}

/// What this process itself has told the others: Redis says it to everybody who hears the channel.
fn is_own_word(frame: &[u8], origin: Origin) -> bool {
    // Behind version and kind of the frame, and length, checksum and kind of the body.
    const AT: usize = 2 + 4 + 4 + 1;
    frame.starts_with(&[VERSION, 0]) && frame.get(AT..AT + 8) == Some(&origin.0.to_be_bytes()[..])
}
