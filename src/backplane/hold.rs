//! A bound that many tenants share: who holds little always finds room, however much another one holds.
//!
//! A tenant may hold [`TIMES`] as much as is left free: dynamic thresholds, as switches share their memory among queues (Choudhury, Hahne:
//! "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998).

/// Of what is left free: alone a tenant holds four fifths of all.
const TIMES: usize = 4;

/// How much waits or is under way, of how much at most.
pub struct Hold {
    pub count: usize,
    count_max: usize,
    pub bytes: usize,
    bytes_max: usize,
}

/// The same of one tenant.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Held {
    count: usize,
    bytes: usize,
}

impl Hold {
    pub fn new(count_max: usize, bytes_max: usize) -> Hold {
        Hold { count: 0, count_max, bytes: 0, bytes_max }
    }

    /// Whether a tenant may hold so many bytes more. One job that is too heavy by itself may wait when nothing else does: all go this way, also
    /// when nothing is wrong.
    pub fn has_room(&self, held: Held, bytes: usize) -> bool {
        let is_within = |held: usize, more: usize, all: usize, most: usize| {
            let free = most.checked_sub(all).and_then(|free| free.checked_sub(more));
            free.is_some_and(|free| held + more <= TIMES.saturating_mul(free))
        };
        self.count == 0
            || is_within(held.count, 1, self.count, self.count_max)
                && is_within(held.bytes, bytes, self.bytes, self.bytes_max)
    }

    pub fn add(&mut self, held: &mut Held, bytes: usize) {
        (self.count, self.bytes) = (self.count + 1, self.bytes + bytes);
        (held.count, held.bytes) = (held.count + 1, held.bytes + bytes);
    }

    pub fn remove(&mut self, held: &mut Held, bytes: usize) {
        (self.count, self.bytes) = (self.count.saturating_sub(1), self.bytes.saturating_sub(bytes));
        (held.count, held.bytes) = (held.count.saturating_sub(1), held.bytes.saturating_sub(bytes));
    }
}
