//! Who has acknowledged an event, over all nodes: counted where it was published.
//!
//! ```text
//!  the event has its place           -> the store is asked on which nodes its room is; from now on there is an end
//!  it is here, as on every node      -> each asks its own members, as `delivery.rs` has it, and says whom     Receivers
//!  a user answers                    -> its node tells all: nobody goes on asking it                          Acked
//!  each node of the room has spoken, and nobody is waited for; or time is over -> the publisher is answered
//! ```
//!
//! Invariants: a user counts once, on however many nodes it is, and who has answered anywhere has answered; a tally ends at its time whatever
//! other nodes do, and so does its publisher's waiting; what is told is lost like all that is told, and then somebody is missing who was not.

use super::stream::State;
use crate::base::{
    limit::{DELIVERY_SEATS_MAX, DELIVERY_TRAVEL, DELIVERY_USERS_MAX},
    time::Duration,
};
use crate::shard::delivery::{self, Ended, Then};
use crate::shard::refusal::Refusal;
use crate::shard::relay::{
    self, Appended,
    presence::{Act, Answer, Question},
};
use crate::shard::tenant::{Receipt, Tenant, TenantKey};
use crate::shard::{Shard, Timer};
use crate::wire::{
    api::Ack,
    envelope::{Body, Origin},
};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What is known of one user; of what two nodes say the greater counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Missing,
    Waiting,
    Acked,
}

pub struct Tally {
    tenant: TenantKey,
    room: Box<str>,
    receipt: Receipt,
    ack: Ack,
    then: Then,
    /// Nodes that have said whom they ask.
    spoken: BTreeSet<u64>,
    /// Nodes on which the room is; none: the store has not said.
    nodes: Option<BTreeSet<u64>>,
    /// At most [`DELIVERY_USERS_MAX`].
    users: BTreeMap<Rc<str>, Known>,
    waiting: usize,
    /// Another node waits for somebody.
    elsewhere: bool,
    /// This node has given up those it waited for.
    given_up: bool,
}

impl Tally {
    fn mark(&mut self, user: &str, known: Known) {
        let before = self.users.get(user).copied();
        let after = before.map_or(known, |before| before.max(known));
        if before.is_none() && self.users.len() >= DELIVERY_USERS_MAX {
            return;
        }
        self.waiting += usize::from(after == Known::Waiting);
        self.waiting -= usize::from(before == Some(Known::Waiting));
        match self.users.get_mut(user) {
            Some(known) => *known = after,
            None => drop(self.users.insert(user.into(), after)),
        }
    }

    fn is_over(&self) -> bool {
        let all_have_spoken = self.nodes.as_ref().is_some_and(|nodes| nodes.is_subset(&self.spoken));
        all_have_spoken && (self.waiting == 0 || self.given_up && !self.elsewhere)
    }

    fn users(&self, is: impl Fn(Known) -> bool) -> Vec<Rc<str>> {
        self.users.iter().filter(|(_, known)| is(**known)).map(|(user, _)| user.clone()).collect()
    }
}

impl Shard {
    /// Counts who acknowledges an event that is about to be sent to its place. Only in a fleet.
    pub(super) fn begin_tally(
        &mut self,
        key: TenantKey,
        (id, room): (&Rc<str>, &str),
        ack: Ack,
        then: Then,
    ) -> Option<u64> {
        let number = self.next_delivery();
        // The user it is addressed to is missed when it is not there.
        let users: BTreeMap<Rc<str>, Known> =
            self.owner_of(room).map(|owner| (Rc::from(owner), Known::Missing)).into_iter().collect();
        let tally = Tally {
            tenant: key,
            room: room.into(),
            receipt: Receipt { id: id.clone(), place: None },
            ack,
            then,
            spoken: BTreeSet::new(),
            nodes: None,
            users,
            waiting: 0,
            elsewhere: false,
            given_up: false,
        };
        self.tenants[key].stream.get_or_insert_default().asking.insert(id.clone(), number);
        self.fleet.as_mut()?.tallies.insert(number, tally);
        Some(number)
    }

    /// The event has its place, or had it from an earlier publish with its id: then nobody is asked.
    pub(super) fn tally_placed(&mut self, number: u64, receipt: Receipt, appended: &Appended) {
        if appended.known {
            return self.close_tally(number, |_| Ok(delivery::answer(&receipt, None)));
        }
        let own = self.origin().0;
        let Some(tally) = self.fleet.as_mut().and_then(|fleet| fleet.tallies.get_mut(&number)) else { return };
        tally.receipt = receipt;
        let (key, room, ack) = (tally.tenant, tally.room.clone(), tally.ack);
        let Tenant { sequence, stream, .. } = &self.tenants[key];
        let is_live = stream.as_ref().is_some_and(|stream| stream.state == State::Live);
        if !is_live || *sequence >= appended.sequence {
            // It is here, or was before anybody was.
            tally.spoken.insert(own);
        }
        let patience = Duration::from_millis(u64::from(ack.timeout_ms)) * (ack.retries + 1);
        self.timers.arm(self.now.at + patience + DELIVERY_TRAVEL, Timer::Delivery(number));
        let what = Question::Nodes { room, count: DELIVERY_SEATS_MAX };
        let act = relay::Act::Presence(Act::Ask { terms: self.terms(), what });
        self.share_then(key, act, move |shard, result| {
            // Where the store cannot say it, nobody knows who is not heard: time has to be over.
            let Ok(relay::Answer::Presence(Answer::Nodes(nodes))) = result else { return };
            let Some(tally) = shard.fleet.as_mut().and_then(|fleet| fleet.tallies.get_mut(&number)) else { return };
            let nodes = nodes.into_iter().map(|node| node.0).take(DELIVERY_SEATS_MAX);
            tally.nodes = Some(nodes.chain([own]).collect());
            shard.tend_tally(number);
        });
    }

    pub(super) fn tally_failed(&mut self, number: u64) {
        self.close_tally(number, |_| Err(Refusal::BackplaneUnavailable));
    }

    /// This node asks these for their acknowledgement of an event, and cannot ask those.
    pub(in crate::shard) fn say_receivers(
        &mut self,
        key: TenantKey,
        id: &str,
        waiting: &[Rc<str>],
        missing: &[Rc<str>],
    ) {
        let (waiting, missing) = (texts(waiting), texts(missing));
        let own = self.origin();
        if !self.hear_receivers(key, own, id, &waiting, &missing) {
            self.tell_others(key, &Body::Receivers { id, waiting, missing });
        }
    }

    /// What a node says of whom it asks; false: nobody counts that here.
    pub(super) fn hear_receivers(
        &mut self,
        key: TenantKey,
        node: Origin,
        id: &str,
        waiting: &[&str],
        missing: &[&str],
    ) -> bool {
        let Some(number) = self.tally_of(key, id) else { return false };
        let own = self.origin();
        let Some(tally) = self.fleet.as_mut().and_then(|fleet| fleet.tallies.get_mut(&number)) else { return false };
        tally.spoken.insert(node.0);
        tally.elsewhere |= node != own && !waiting.is_empty();
        let mut answered = Vec::new();
        for user in waiting {
            tally.mark(user, Known::Waiting);
            // It has answered before that node could hear of it.
            let known = tally.users.get_key_value(*user).filter(|(_, known)| **known == Known::Acked);
            answered.extend(known.map(|(user, _)| (tally.receipt.id.clone(), user.clone())));
        }
        for user in missing {
            tally.mark(user, Known::Missing);
        }
        if let Some(stream) = self.tenants[key].stream.as_mut().filter(|_| !answered.is_empty()) {
            stream.acked.extend(answered);
            self.stir(key);
        }
        self.tend_tally(number);
        true
    }

    /// A user has acknowledged an event here: at the end of the turn all nodes are told.
    pub(in crate::shard) fn say_acked(&mut self, key: TenantKey, id: &Rc<str>, user: &Rc<str>) {
        if let Some(stream) = &mut self.tenants[key].stream {
            stream.acked.push((id.clone(), user.clone()));
            self.stir(key);
        }
        self.count_acked(key, id, [&**user]);
    }

    pub(super) fn tell_acked(&mut self, key: TenantKey) {
        let Some(stream) = self.tenants[key].stream.as_mut().filter(|stream| !stream.acked.is_empty()) else { return };
        let mut of: BTreeMap<Rc<str>, Vec<Rc<str>>> = BTreeMap::new();
        for (id, user) in std::mem::take(&mut stream.acked) {
            of.entry(id).or_default().push(user);
        }
        for (id, users) in of {
            let users = users.iter().map(|user| &**user).collect();
            self.tell_others(key, &Body::Acked { id: &id, users });
        }
    }

    /// Users have acknowledged an event at another node.
    pub(super) fn hear_acked(&mut self, key: TenantKey, id: &str, users: &[&str]) {
        self.acked_elsewhere(key, id, users);
        self.count_acked(key, id, users.iter().copied());
    }

    /// This node asks nobody any more about an event.
    pub(in crate::shard) fn give_up_asking(&mut self, key: TenantKey, id: &str) {
        let Some(number) = self.tally_of(key, id) else { return };
        if let Some(tally) = self.fleet.as_mut().and_then(|fleet| fleet.tallies.get_mut(&number)) {
            tally.given_up = true;
            self.tend_tally(number);
        }
    }

    fn count_acked<'a>(&mut self, key: TenantKey, id: &str, users: impl IntoIterator<Item = &'a str>) {
        let Some(number) = self.tally_of(key, id) else { return };
        if let Some(tally) = self.fleet.as_mut().and_then(|fleet| fleet.tallies.get_mut(&number)) {
            users.into_iter().for_each(|user| tally.mark(user, Known::Acked));
            self.tend_tally(number);
        }
    }

    fn tally_of(&self, key: TenantKey, id: &str) -> Option<u64> {
        self.tenants[key].stream.as_ref()?.asking.get(id).copied()
    }

    fn tend_tally(&mut self, number: u64) {
        let tally = self.fleet.as_ref().and_then(|fleet| fleet.tallies.get(&number));
        if tally.is_some_and(Tally::is_over) {
            self.end_tally(number);
        }
    }

    /// Whoever has not answered is missing.
    pub(in crate::shard) fn end_tally(&mut self, number: u64) {
        self.close_tally(number, |tally| {
            let (acked, missing) =
                (tally.users(|known| known == Known::Acked), tally.users(|known| known != Known::Acked));
            Ok(delivery::answer(&tally.receipt, Some(Ended { acked: &acked, missing: &missing })))
        });
    }

    fn close_tally(&mut self, number: u64, answer: impl FnOnce(&Tally) -> Result<Vec<u8>, Refusal>) {
        let Some(tally) = self.fleet.as_mut().and_then(|fleet| fleet.tallies.remove(&number)) else { return };
        if let Some(stream) = &mut self.tenants[tally.tenant].stream {
            stream.asking.remove(&tally.receipt.id);
        }
        let answer = answer(&tally);
        self.answer_then(tally.then, answer);
        // Nobody else may be here.
        self.stir(tally.tenant);
    }

    /// The shard shuts down: those whose events have their places are told who has answered.
    pub(in crate::shard) fn end_tallies(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let placed = fleet.tallies.iter().filter(|(_, tally)| tally.receipt.place.is_some());
        for number in placed.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end_tally(number);
        }
    }
}

fn texts(users: &[Rc<str>]) -> Vec<&str> {
    users.iter().map(|user| &**user).collect()
}
