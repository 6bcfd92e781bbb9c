//! Queues of events for users who are not there, bounded in number, bytes and age.
//!
//! Invariants: in a queue sequences rise, so what is given is in the order it was published; `bytes` and `count` are the sums over all
//! queues; every entry has a line in `order`; a queue that is empty is not there.
//!
//! The events are the history's own, by reference: what both remember costs once.

use super::history::Event;
use super::offline::Acknowledge;
use crate::base::{limit, time::Instant};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

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

/// What waits for one user, oldest first.
#[derive(Default)]
pub struct Queue {
    pub waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Events dropped since the user was told.
    pub dropped: u64,
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

    pub fn of(&self, user: &str) -> Option<&Queue> {
        self.users.get(user)
    }

    /// How many were dropped since the user was last told.
    pub fn take_dropped(&mut self, user: &str) -> u64 {
        self.users.get_mut(user).map_or(0, |queue| std::mem::take(&mut queue.dropped))
    }

    /// How many were dropped where a copy of this queue is kept; what is left out of the copy itself is not lost.
    pub fn set_dropped(&mut self, user: &str, dropped: u64) {
        if let Some(queue) = self.users.get_mut(user) {
            queue.dropped = dropped;
        }
    }

    /// Adds an event at its place of a user's queue, once; how many were dropped for it.
    pub fn keep(&mut self, user: &str, waiting: Waiting, per_user: u32) -> u64 {
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
    pub fn take(&mut self, user: &str, fits: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
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
