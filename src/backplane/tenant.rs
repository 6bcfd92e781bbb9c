//! The tenants whose channels this node hears, and how far each of them is.
//!
//! ```text
//!            open             subscribed             placed
//!   (none) -------> Waiting ------------> Placing ----------> Heard
//!                      ^                     |  ^               |
//!                      |  away: all of them  |  |   regained    | no room for an envelope
//!                      +---------------------+  +----- Lost <---+
//! ```
//!
//! Invariants: between `Opened` and what follows it nothing is missing: from the moment a channel is subscribed its envelopes are held until it
//! is known where the stream stood after that moment, and then that is told first. What is held is bounded. A late answer, about an earlier
//! subscription (`stamp`) or to an earlier question (`asked`), changes nothing.

use crate::base::{
    chance::{Chance, Map},
    id::{ShardId, TenantId},
    limit::OPENING_BYTES_MAX,
    time::{Duration, Instant},
};
use crate::shard::{
    history::Epoch,
    relay::{Place, Report, Unavailable},
};
use crate::wire::envelope::Frame;
use std::collections::{BTreeSet, VecDeque};

/// How often it is looked whether a tenant's stream went on without its envelopes having come.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// How long an envelope may be under way when the stream has already gone on.
const CHECK_AGAIN: Duration = Duration::from_millis(500);
/// How often a tenant's hash is read back into long life though nothing is appended: it is kept for 7 days.
const TOUCH_EVERY: u32 = 360;
/// How soon a subscription that was refused is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

#[derive(Default)]
pub struct Tenants {
    tenants: Map<TenantId, Tenant>,
    channels: Map<Box<[u8]>, TenantId>,
    /// Subscriptions to make and to end, in order.
    changes: VecDeque<Change>,
    checks: BTreeSet<(Instant, TenantId, u64)>,
    retries: BTreeSet<(Instant, TenantId, u64)>,
    stamps: u64,
    /// Events come another way than through the channels, and are not missed by who reads that.
    are_read: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub tenant: TenantId,
    pub stamp: u64,
    pub subscribe: bool,
}

struct Tenant {
    shard: ShardId,
    stamp: u64,
    state: State,
    held: Vec<Box<[u8]>>,
    held_bytes: usize,
    /// More came than may be held: it is asked again where the stream stands.
    overflowed: bool,
    /// The newest place the shard was told of.
    seen: Option<Place>,
    /// Which question about its place is the newest: only that one's answer counts.
    asked: u64,
    next_check: Instant,
    /// What had been seen when the last look was sent.
    seen_then: Option<Place>,
    /// The stream had gone on at the last look.
    suspect: Option<Place>,
    /// The shard knows that nothing is known.
    told_away: bool,
    checks: u32,
    refusals: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Placing,
    Heard,
    Lost,
}

/// What is to be done about a tenant.
#[derive(Debug)]
pub enum Step {
    Tell(ShardId, Report),
    /// Ask the store where the stream stands.
    Place(TenantId, u64),
    /// The same without writing anything.
    Check(TenantId, u64),
    /// An envelope was missing and nothing had broken.
    Gap,
}

impl Tenants {
    pub fn new(are_read: bool) -> Tenants {
        Tenants { are_read, ..Tenants::default() }
    }

    pub fn seen(&self, tenant: &TenantId) -> Option<Place> {
        self.tenants.get(tenant)?.seen
    }

    /// A shard wants to hear a tenant.
    pub fn open(&mut self, tenant: TenantId, channel: &str, shard: ShardId, is_up: bool, steps: &mut Vec<Step>) {
        self.stamps += 1;
        let stamp = self.stamps;
        let known = match self.tenants.get_mut(&tenant) {
            Some(known) => {
                // Asked again, it is told again.
                known.shard = shard;
                known.told_away = false;
                if matches!(known.state, State::Heard | State::Lost) {
                    known.ask(&tenant, &mut self.stamps, steps);
                }
                known
            }
            None => {
                self.channels.insert(channel.as_bytes().into(), tenant.clone());
                self.changes.push_back(Change { tenant: tenant.clone(), stamp, subscribe: true });
                let new = Tenant {
                    shard,
                    stamp,
                    state: State::Waiting,
                    held: Vec::new(),
                    held_bytes: 0,
                    overflowed: false,
                    seen: None,
                    asked: 0,
                    next_check: Instant::NEVER,
                    seen_then: None,
                    suspect: None,
                    told_away: false,
                    checks: 0,
                    refusals: 0,
                };
                self.tenants.entry(tenant.clone()).or_insert(new)
            }
        };
        if !is_up {
            known.tell_away(&tenant, steps);
        }
    }

    pub fn close(&mut self, tenant: &TenantId, channel: &str) {
        let Some(known) = self.tenants.remove(tenant) else { return };
        self.checks.remove(&(known.next_check, tenant.clone(), known.stamp));
        self.channels.remove(channel.as_bytes());
        self.changes.push_back(Change { tenant: tenant.clone(), stamp: known.stamp, subscribe: false });
    }

    /// The store is away: nothing that was subscribed is any more.
    pub fn away(&mut self, steps: &mut Vec<Step>) {
        self.changes.clear();
        self.checks.clear();
        self.retries.clear();
        for (tenant, known) in &mut self.tenants {
            self.stamps += 1;
            known.stamp = self.stamps;
            known.state = State::Waiting;
            known.drop_held();
            known.suspect = None;
            known.next_check = Instant::NEVER;
            known.refusals = 0;
            known.tell_away(tenant, steps);
            self.changes.push_back(Change { tenant: tenant.clone(), stamp: known.stamp, subscribe: true });
        }
    }

    /// The next subscriptions to make and to end: of each tenant one, so that their order within the batch is of no matter.
    pub fn changes(&mut self, most: usize) -> Vec<Change> {
        let mut taken = BTreeSet::new();
        let mut changes = Vec::new();
        while let Some(change) = self.changes.front()
            && changes.len() < most
            && taken.insert(change.tenant.clone())
        {
            changes.extend(self.changes.pop_front());
        }
        changes
    }

    pub fn changes_left(&self) -> usize {
        self.changes.len()
    }

    /// A subscription was confirmed, or refused.
    pub fn subscribed(&mut self, change: &Change, confirmed: bool, now: Instant, steps: &mut Vec<Step>) {
        let Some(known) = self.tenants.get_mut(&change.tenant) else { return };
        if !change.subscribe || known.stamp != change.stamp || known.state != State::Waiting {
            return;
        }
        if confirmed {
            known.ask(&change.tenant, &mut self.stamps, steps);
            return;
        }
        known.drop_held();
        known.tell_away(&change.tenant, steps);
        let pause = RETRY.0.saturating_mul(1 << known.refusals.min(5)).min(RETRY.1);
        known.refusals += 1;
        self.retries.insert((now + pause, change.tenant.clone(), change.stamp));
    }

    /// Where a tenant's stream stands, asked after its channel was subscribed.
    pub fn placed(
        &mut self,
        tenant: &TenantId,
        asked: u64,
        place: Place,
        now: Instant,
        chance: &mut Chance,
        steps: &mut Vec<Step>,
    ) {
        let Some(known) = self.tenants.get_mut(tenant).filter(|known| known.asked == asked) else { return };
        match known.state {
            State::Placing => {}
            State::Heard => {
                let stamp = known.stamp;
                return self.stands(tenant, stamp, Some(place), now, steps);
            }
            State::Waiting | State::Lost => return,
        }
        if std::mem::take(&mut known.overflowed) {
            return known.ask(tenant, &mut self.stamps, steps);
        }
        known.state = State::Heard;
        known.told_away = false;
        known.refusals = 0;
        known.suspect = None;
        known.saw(place);
        steps.push(Step::Tell(known.shard, Report::Opened { tenant: tenant.clone(), place: Ok(place) }));
        known.held_bytes = 0;
        for frame in std::mem::take(&mut known.held) {
            known.note(&frame);
            steps.push(Step::Tell(known.shard, Report::Envelope { tenant: tenant.clone(), frame }));
        }
        if known.next_check == Instant::NEVER {
            // Spread over the time, so that tenants that came together are not looked at together.
            let micros = chance.below(CHECK_EVERY.as_micros() as u64);
            known.check_at(now + CHECK_EVERY / 2 + Duration::from_micros(micros), tenant, &mut self.checks);
        }
    }

    /// What a channel carried.
    pub fn envelope(&mut self, channel: &[u8], frame: Box<[u8]>, steps: &mut Vec<Step>) -> bool {
        let Some(tenant) = self.channels.get(channel) else { return true };
        let Some(known) = self.tenants.get_mut(tenant) else { return true };
        match known.state {
            State::Heard => {
                known.note(&frame);
                steps.push(Step::Tell(known.shard, Report::Envelope { tenant: tenant.clone(), frame }));
                true
            }
            State::Waiting | State::Placing if known.overflowed => false,
            State::Waiting | State::Placing => {
                known.held_bytes += frame.len();
                known.held.push(frame);
                if known.held_bytes > OPENING_BYTES_MAX {
                    known.drop_held();
                    known.overflowed = true;
                    return false;
                }
                true
            }
            State::Lost => false,
        }
    }

    /// An envelope of this tenant could not be told.
    pub fn lost(&mut self, tenant: &TenantId) {
        if let Some(known) = self.tenants.get_mut(tenant)
            && matches!(known.state, State::Heard | State::Placing)
        {
            known.state = State::Lost;
            known.drop_held();
        }
    }

    /// Envelopes of this channel were dropped before it was known whose they are.
    pub fn dropped(&mut self, channel: &[u8], steps: &mut Vec<Step>) {
        let Some(tenant) = self.channels.get(channel) else { return };
        let Some(known) = self.tenants.get_mut(tenant) else { return };
        match known.state {
            State::Heard | State::Placing => known.ask(tenant, &mut self.stamps, steps),
            State::Waiting => known.overflowed = true,
            State::Lost => {}
        }
    }

    /// Whether this channel is subscribed, as far as we know.
    pub fn is_subscribed(&self, channel: &[u8]) -> bool {
        let known = self.channels.get(channel).and_then(|tenant| self.tenants.get(tenant));
        known.is_some_and(|known| known.state != State::Waiting)
    }

    /// An event of this node has its place: where events come another way, its frame is not heard here.
    pub fn appended(&mut self, tenant: &TenantId, sequence: u64) {
        let known = self.tenants.get_mut(tenant).filter(|_| self.are_read);
        if let Some(seen) = known.and_then(|known| known.seen.as_mut()) {
            seen.sequence = seen.sequence.max(sequence);
        }
    }

    /// The store does not say where a tenant's stream stands: all of it is tried again later.
    pub fn unplaced(&mut self, tenant: &TenantId, asked: u64, now: Instant, steps: &mut Vec<Step>) {
        let Some(known) = self.tenants.get_mut(tenant).filter(|known| known.asked == asked) else { return };
        if known.state == State::Placing {
            known.state = State::Waiting;
            let change = Change { tenant: tenant.clone(), stamp: known.stamp, subscribe: true };
            self.subscribed(&change, false, now, steps);
        }
    }

    /// There is room again on the way to a shard.
    pub fn regain(&mut self, shard: ShardId, steps: &mut Vec<Step>) {
        for (tenant, known) in &mut self.tenants {
            if known.state == State::Lost && known.shard == shard {
                known.ask(tenant, &mut self.stamps, steps);
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, TenantId, u64)>| set.first().map(|(at, ..)| *at);
        first(&self.checks).into_iter().chain(first(&self.retries)).min()
    }

    /// What is due: looks at streams, and subscriptions that were refused.
    pub fn due(&mut self, now: Instant, steps: &mut Vec<Step>) {
        while let Some((at, tenant, stamp)) = self.retries.pop_first() {
            if at > now {
                self.retries.insert((at, tenant, stamp));
                break;
            }
            if self.tenants.get(&tenant).is_some_and(|known| known.stamp == stamp) {
                self.changes.push_back(Change { tenant, stamp, subscribe: true });
            }
        }
        while let Some((at, tenant, stamp)) = self.checks.pop_first() {
            if at > now {
                self.checks.insert((at, tenant, stamp));
                break;
            }
            let is_planned = |known: &&mut Tenant| known.stamp == stamp && known.next_check == at;
            let Some(known) = self.tenants.get_mut(&tenant).filter(is_planned) else { continue };
            known.checks = known.checks.wrapping_add(1);
            if known.state == State::Heard {
                known.seen_then = known.seen;
                // Once in a while one that writes: a tenant in use is not forgotten for lack of events.
                if known.checks % TOUCH_EVERY == 0 {
                    self.stamps += 1;
                    known.asked = self.stamps;
                    steps.push(Step::Place(tenant.clone(), known.asked));
                } else {
                    steps.push(Step::Check(tenant.clone(), stamp));
                }
            }
            known.check_at(now + CHECK_EVERY, &tenant, &mut self.checks);
        }
    }

    /// What a look at a stream has found.
    pub fn stands(&mut self, tenant: &TenantId, stamp: u64, place: Option<Place>, now: Instant, steps: &mut Vec<Step>) {
        let Some(known) = self.tenants.get_mut(tenant).filter(|known| known.stamp == stamp) else { return };
        if known.state != State::Heard {
            return;
        }
        let Some(place) = place else {
            // The store has lost it: it gets a new epoch.
            return known.ask(tenant, &mut self.stamps, steps);
        };
        let went_back = |seen: Place| seen.epoch == place.epoch && seen.sequence > place.sequence;
        if known.seen_then.is_some_and(went_back) {
            // It stands before what had been seen when it was asked: it has lost something, and gets a new epoch.
            return known.ask(tenant, &mut self.stamps, steps);
        }
        let is_behind = |seen: Option<Place>, place: Place| {
            seen.is_none_or(|seen| seen.epoch != place.epoch || seen.sequence < place.sequence)
        };
        if self.are_read && known.seen.is_some_and(|seen| seen.epoch == place.epoch) {
            return known.saw(place);
        }
        let missed = known.suspect.take().is_some_and(|suspect| is_behind(known.seen, suspect));
        if missed {
            known.seen = Some(place);
            steps.push(Step::Gap);
            steps.push(Step::Tell(known.shard, Report::Opened { tenant: tenant.clone(), place: Ok(place) }));
        } else if is_behind(known.seen, place) {
            // Envelopes may be under way: only what has not come by the next look is missing.
            known.suspect = Some(place);
            known.check_at(now + CHECK_AGAIN, tenant, &mut self.checks);
        }
    }
}

impl Tenant {
    fn tell_away(&mut self, tenant: &TenantId, steps: &mut Vec<Step>) {
        if !std::mem::replace(&mut self.told_away, true) {
            let report = Report::Opened { tenant: tenant.clone(), place: Err(Unavailable) };
            steps.push(Step::Tell(self.shard, report));
        }
    }

    /// Holds what comes until it is known where the stream stands.
    fn ask(&mut self, tenant: &TenantId, stamps: &mut u64, steps: &mut Vec<Step>) {
        *stamps += 1;
        self.asked = *stamps;
        self.state = State::Placing;
        steps.push(Step::Place(tenant.clone(), self.asked));
    }

    fn check_at(&mut self, at: Instant, tenant: &TenantId, checks: &mut BTreeSet<(Instant, TenantId, u64)>) {
        checks.remove(&(self.next_check, tenant.clone(), self.stamp));
        self.next_check = at;
        checks.insert((at, tenant.clone(), self.stamp));
    }

    fn drop_held(&mut self) {
        self.held = Vec::new();
        self.held_bytes = 0;
        self.overflowed = false;
    }

    /// How far the shard is with this frame.
    fn note(&mut self, frame: &[u8]) {
        let Ok(Frame { place: Some(place), .. }) = Frame::decode(frame) else { return };
        self.saw(Place { epoch: Epoch(place.epoch), sequence: place.sequence });
    }

    fn saw(&mut self, place: Place) {
        let is_later = |seen: Place| seen.epoch != place.epoch || seen.sequence < place.sequence;
        if self.seen.is_none_or(is_later) {
            self.seen = Some(place);
        }
    }
}

#[cfg(test)]
#[path = "tenant_tests.rs"]
mod tests;
