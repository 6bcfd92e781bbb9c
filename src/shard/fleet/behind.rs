//! What somebody says behind an event of its own that has no place yet: durable and ephemeral events of one speaker stay in its order.
//!
//! ```text
//!  somebody's durable event  -> on its way to its place, and comes back through the stream
//!  its next ephemeral event  -> to the other nodes at once, behind the first on the same way; here when the first has come back
//! ```
//!
//! Invariants: only what the same speaker has published before holds it, and nobody else's; it is held for
//! [`BEHIND_PATIENCE`] at most, not at all while the store is away, and at most [`BEHIND_MAX`] of a tenant: beyond, it is not held.

use super::Relay;
use crate::base::{
    limit::{BEHIND_MAX, BEHIND_PATIENCE},
    time::Instant,
};
use crate::shard::socket::SocketKey;
use crate::shard::tenant::TenantKey;
use crate::shard::{Shard, Timer};
use crate::wire::envelope::Body;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Whose words have an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    Socket(SocketKey),
    /// The tenant's application, over HTTP at this node: what it does call by call is done in that order.
    Backend,
}

type Word = Box<dyn FnOnce(&mut Shard)>;

/// Of one tenant.
#[derive(Default)]
pub struct Behind {
    /// Events of speakers here that have not come back, by id.
    flying: BTreeMap<Rc<str>, Flying>,
    /// The newest of each.
    newest: BTreeMap<Speaker, Rc<str>>,
    held: usize,
    /// When an event of this node was sent to its place last.
    pub appended: Option<Instant>,
    /// The end of patience is awaited.
    armed: bool,
}

struct Flying {
    speaker: Speaker,
    held: Vec<Word>,
}

impl Shard {
    /// A speaker's event is on its way to its place.
    pub(super) fn flies(&mut self, key: TenantKey, id: &Rc<str>) {
        let (Some(speaker), Some(stream)) = (self.speaker, &mut self.tenants[key].stream) else { return };
        stream.behind.newest.insert(speaker, id.clone());
        // Two of one id are one event.
        stream.behind.flying.entry(id.clone()).or_insert(Flying { speaker, held: Vec::new() });
    }

    /// Does what somebody says here: now, or behind its newest event.
    pub(in crate::shard) fn say_behind(
        &mut self,
        key: TenantKey,
        speaker: Option<Speaker>,
        word: impl FnOnce(&mut Shard) + 'static,
    ) {
        let stream = self.tenants[key].stream.as_mut().filter(|stream| !stream.is_given_up());
        let Some((speaker, behind)) = speaker.zip(stream.map(|stream| &mut stream.behind)) else { return word(self) };
        let flying = behind.newest.get(&speaker).and_then(|id| behind.flying.get_mut(id));
        match flying.filter(|_| behind.held < BEHIND_MAX) {
            None => word(self),
            Some(flying) => {
                flying.held.push(Box::new(word));
                behind.held += 1;
                if !std::mem::replace(&mut behind.armed, true) {
                    self.timers.arm(self.now.at + BEHIND_PATIENCE, Timer::Behind(key));
                }
            }
        }
    }

    /// Tells every other node that has this tenant what somebody here says. Where events are read from the fleet's stream, the channel may be
    /// quicker than that: what is said soon after an event takes the same way.
    pub(in crate::shard) fn tell_behind(&mut self, key: TenantKey, body: &Body<'_>) {
        if !self.is_fleet() {
            return;
        }
        let appended = self.tenants[key].stream.as_ref().and_then(|stream| stream.behind.appended);
        let in_row = self.reads_rows() && appended.is_some_and(|at| self.now.at.since(at) <= BEHIND_PATIENCE);
        let body = body.encode(self.origin());
        let tenant = (*self.tenants[key].id).clone();
        self.relay(Relay::Tell { tenant, body, in_row });
    }

    /// Whether somebody's words here may have to wait.
    pub(in crate::shard) fn is_behind(&self, key: TenantKey, speaker: Option<Speaker>) -> bool {
        let stream = self.tenants[key].stream.as_ref();
        speaker.zip(stream).is_some_and(|(speaker, stream)| stream.behind.newest.contains_key(&speaker))
    }

    /// An event has come back, or will not.
    pub(super) fn landed(&mut self, key: TenantKey, id: &str) {
        let Some(stream) = self.tenants[key].stream.as_mut().filter(|stream| !stream.behind.flying.is_empty()) else {
            return;
        };
        let behind = &mut stream.behind;
        let Some((id, Flying { speaker, held })) = behind.flying.remove_entry(id) else { return };
        if behind.newest.get(&speaker) == Some(&id) {
            behind.newest.remove(&speaker);
        }
        behind.held -= held.len();
        held.into_iter().for_each(|word| word(self));
    }

    /// Nothing is held any more: it would be for too long.
    pub(in crate::shard) fn let_go(&mut self, key: TenantKey) {
        let Some(stream) = self.tenants.get_mut(key).and_then(|tenant| tenant.stream.as_mut()) else { return };
        let behind = &mut stream.behind;
        (behind.held, behind.armed) = (0, false);
        let held: Vec<Word> = behind.flying.values_mut().flat_map(|flying| std::mem::take(&mut flying.held)).collect();
        held.into_iter().for_each(|word| word(self));
    }

    /// The stream begins anew: what was on its way may not come back.
    pub(super) fn forget_flying(&mut self, key: TenantKey) {
        self.let_go(key);
        if let Some(stream) = &mut self.tenants[key].stream {
            stream.behind.flying.clear();
            stream.behind.newest.clear();
        }
    }
}
