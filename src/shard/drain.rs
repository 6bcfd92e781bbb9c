//! The end of a shard's work: its sessions leave one after the other, spread over a time, so that other nodes are not met by all of them at once.
//!
//! ```text
//! Input::Drain -> everybody is told when: `server:draining {reconnectAfterMs}`; nobody new is let in
//!   then, in an order that chance has made:   kept for its return -> closed `server_draining` -> its client comes back, to another node
//! the last one -> what waits for acknowledgements is answered
//! ```
//!
//! Invariants: in a fleet a session is in Redis before its client knows that it is closed; one that arrives from another shard meanwhile is closed
//! with the last ones.

use super::encode::Outgoing;
use super::neighbour::Errand;
use super::session::SessionKey;
use super::{Shard, Timer};
use crate::base::time::{Duration, Instant};
use crate::wire::close::Close;

/// Who has yet to leave.
#[derive(Default)]
pub struct Leavers {
    /// The next one last.
    order: Vec<(Instant, SessionKey)>,
    /// When the last of them leaves.
    until: Instant,
}

impl Leavers {
    pub fn len(&self) -> usize {
        self.order.len()
    }
}

impl Shard {
    pub(super) fn drain(&mut self, spread: Duration) {
        self.draining = true;
        if self.is_fleet() {
            // Who polls a session of another node through this one polls elsewhere.
            self.errand(Errand::Release);
        }
        let mut keys: Vec<SessionKey> = self.sessions.keys().collect();
        for last in (1..keys.len()).rev() {
            keys.swap(last, self.chance.below(last as u64 + 1) as usize);
        }
        let count = keys.len().max(1) as u64;
        for (nth, key) in keys.into_iter().enumerate() {
            let after = Duration::from_micros((spread.as_micros() as u64).saturating_mul(nth as u64) / count);
            self.say_draining(key, after);
            self.leavers.until = self.now.at + after;
            self.leavers.order.push((self.leavers.until, key));
        }
        self.leavers.order.reverse();
        self.let_leave();
    }

    fn say_draining(&mut self, key: SessionKey, after: Duration) {
        let Some(session) = self.sessions.get(key) else { return };
        let args = format!("{{\"reconnectAfterMs\":{}}}", after.as_millis());
        for socket in session.sockets.clone() {
            self.send_event(socket, &Outgoing { name: "server:draining", args: &args, ..Outgoing::default() }, false);
        }
    }

    /// Closes those whose time has come.
    pub(super) fn let_leave(&mut self) {
        while let Some(&(at, key)) = self.leavers.order.last() {
            if at > self.now.at {
                return self.timers.arm(at, Timer::Leave);
            }
            self.leavers.order.pop();
            self.close(key, Close::ServerDraining);
        }
        self.end_deliveries();
    }

    /// A session has arrived from another shard, on its way since before the drain.
    pub(super) fn leaves_too(&mut self, key: SessionKey) {
        let at = self.leavers.until.max(self.now.at);
        self.leavers.order.insert(0, (at, key));
        self.timers.arm(at, Timer::Leave);
    }
}
