//! The last words to a long-polling session that the server closed: kept until its client comes for them.
//!
//! Invariant: the close packet goes alone, after everything else. The official client handles a close at once and what stands beside it in
//! the same payload later, which is never: it would not learn why it was closed, and come back where it should not.

use super::count::Count;
use super::{Place, Shard, Timer};
use crate::base::{
    id::{ReplyTo, Sid},
    time::Duration,
};
use std::collections::VecDeque;

/// How long they are kept, as the Node server's `closeTimeout`.
const KEPT_FOR: Duration = Duration::from_secs(30);

impl Shard {
    /// Tells a session what waits for it, then that it is closed: now where a poll waits, the rest at the next polls. True if something is
    /// left to be told.
    pub(super) fn begin_farewell(
        &mut self,
        sid: Sid,
        waiting: Option<ReplyTo>,
        mut payloads: VecDeque<Box<[u8]>>,
    ) -> bool {
        payloads.push_back((*b"1").into());
        if let Some(to) = waiting
            && let Some(first) = payloads.pop_front()
        {
            self.answer_poll(to, first.into_vec());
        }
        if payloads.is_empty() {
            return false;
        }
        self.sids.insert(sid, Place::Farewell(payloads));
        self.counts.add(Count::Farewells, 1);
        self.timers.arm(self.now.at + KEPT_FOR, Timer::Farewell(sid));
        true
    }

    /// A poll comes for the next of them.
    pub(super) fn poll_farewell(&mut self, from: ReplyTo, sid: Sid) {
        let Some(Place::Farewell(payloads)) = self.sids.get_mut(&sid) else { return };
        let Some(payload) = payloads.pop_front() else { return };
        if payloads.is_empty() {
            self.end_farewell(sid);
        }
        self.answer_poll(from, payload.into_vec());
    }

    /// A client that closes the session itself does not poll again.
    pub(super) fn post_farewell(&mut self, from: ReplyTo, sid: Sid, body: &str) {
        if body.split('\x1e').any(|packet| packet == "1") {
            self.end_farewell(sid);
        }
        self.answer_post(from);
    }

    /// They were told, or nobody came for them in time.
    pub(super) fn end_farewell(&mut self, sid: Sid) {
        if let Some(Place::Farewell(_)) = self.sids.get(&sid) {
            self.sids.remove(&sid);
            self.counts.down(Count::Farewells);
            self.forget_elsewhere(sid);
        }
    }
}
