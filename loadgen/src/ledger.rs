//! What arrived and what did not, for any server: none lost, none twice, each publisher's in order.
//!
//! A stream is what one member receives from one publisher: the sequences 0, 1, 2 and so on. The ledger keeps four bytes for each, the sequence
//! it expects next; holes are a table on the side that is empty unless something went wrong. So a delivery costs one read, one compare and one write.
//!
//! A member that was there from the start must receive everything. One that came later must receive everything published after it had joined,
//! and may receive what was under way: its streams are `open` until their first delivery says where they begin.

use std::collections::HashMap;
use std::ops::Range;

/// Set in a stream whose first delivery may come before the sequence expected.
const OPEN: u32 = 1 << 31;
/// No member misses so many of one publisher and then receives the next: a sequence further ahead is not behind a hole but nonsense.
const AHEAD_MAX: u32 = 1 << 16;

/// How a delivery fits its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    InOrder,
    /// After a later one.
    Late,
    Again,
    /// A sequence nobody can have reached.
    Unknown,
}

#[derive(Default)]
pub struct Ledger {
    next: Vec<u32>,
    holes: HashMap<usize, Vec<Range<u32>>>,
}

impl Ledger {
    pub fn new(streams: usize) -> Ledger {
        Ledger { next: vec![0; streams], holes: HashMap::new() }
    }

    #[inline]
    pub fn take(&mut self, stream: usize, sequence: u32) -> Arrival {
        let next = self.next[stream];
        if next == sequence {
            self.next[stream] = sequence + 1;
            return Arrival::InOrder;
        }
        self.take_other(stream, sequence)
    }

    /// The member of this stream has just joined; `due` is the first sequence that is published after this moment.
    pub fn open(&mut self, stream: usize, due: u32) {
        self.holes.remove(&stream);
        self.next[stream] = due.min(OPEN - 1) | OPEN;
    }

    /// What is missing of a stream of which `sent` were published.
    pub fn lost(&self, stream: usize, sent: u32) -> u64 {
        // A hole before a sequence that was never sent is none.
        let missing = |hole: &Range<u32>| u64::from(hole.end.min(sent).saturating_sub(hole.start));
        let holes: u64 = self.holes.get(&stream).into_iter().flatten().map(missing).sum();
        holes + u64::from(sent.saturating_sub(self.next[stream] & !OPEN))
    }

    /// Whether a stream holds a sequence that was never sent.
    pub fn exceeds(&self, stream: usize, sent: u32) -> bool {
        self.next[stream] & OPEN == 0 && self.next[stream] > sent
    }

    /// The first sequence missing.
    pub fn first_lost(&self, stream: usize) -> u32 {
        let holes = self.holes.get(&stream).into_iter().flatten();
        holes.map(|hole| hole.start).min().unwrap_or(self.next[stream] & !OPEN)
    }

    #[cold]
    fn take_other(&mut self, stream: usize, sequence: u32) -> Arrival {
        let open = self.next[stream] & OPEN != 0;
        let next = self.next[stream] & !OPEN;
        if sequence >= next.saturating_add(AHEAD_MAX).min(OPEN - 1) {
            return Arrival::Unknown;
        }
        if sequence >= next || open {
            if sequence > next {
                self.holes.entry(stream).or_default().push(next..sequence);
            }
            self.next[stream] = sequence + 1;
            return Arrival::InOrder;
        }
        let Some(holes) = self.holes.get_mut(&stream) else { return Arrival::Again };
        let Some(index) = holes.iter().position(|hole| hole.contains(&sequence)) else { return Arrival::Again };
        let hole = holes.swap_remove(index);
        holes.extend([hole.start..sequence, sequence + 1..hole.end].into_iter().filter(|part| !part.is_empty()));
        if holes.is_empty() {
            self.holes.remove(&stream);
        }
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Again, InOrder, Late, Unknown};

    #[test]
    fn arrivals_and_what_is_lost() {
        // (open at, sequences and how each fits, sent, lost, first lost)
        type Row<'a> = (Option<u32>, &'a [(u32, Arrival)], u32, u64, u32);
        let table: &[Row<'_>] = &[
            (None, &[(0, InOrder), (1, InOrder), (2, InOrder)], 3, 0, 3),
            (None, &[(0, InOrder), (0, Again), (1, InOrder)], 2, 0, 2),
            (None, &[], 4, 4, 0),
            (None, &[(0, InOrder)], 4, 3, 1),
            (None, &[(2, InOrder), (0, Late), (1, Late), (1, Again)], 3, 0, 3),
            (None, &[(4, InOrder), (2, Late), (4, Again), (2, Again)], 5, 3, 0),
            (None, &[(0, InOrder), (u32::MAX, Unknown), (1 << 24 | 1, Unknown), (1, InOrder)], 2, 0, 2),
            // Joined when 5 was next: 3 and 4 were under way and may come, 5 and later must.
            (Some(5), &[(3, InOrder), (4, InOrder), (5, InOrder)], 6, 0, 6),
            (Some(5), &[(3, InOrder), (5, InOrder)], 6, 1, 4),
            (Some(5), &[(5, InOrder), (5, Again)], 6, 0, 6),
            (Some(5), &[(7, InOrder)], 8, 2, 5),
            (Some(5), &[], 5, 0, 5),
            (Some(5), &[], 4, 0, 5),
            (Some(5), &[], 7, 2, 5),
            (Some(5), &[(2, InOrder), (1, Again)], 3, 0, 3),
        ];
        for (open, arrivals, sent, lost, first) in table {
            let mut ledger = Ledger::new(3);
            if let Some(due) = open {
                ledger.open(1, *due);
            }
            for &(sequence, arrival) in *arrivals {
                assert_eq!(ledger.take(1, sequence), arrival, "{sequence} of {arrivals:?}");
            }
            assert_eq!((ledger.lost(1, *sent), ledger.first_lost(1)), (*lost, *first), "{arrivals:?}");
            assert!(!ledger.exceeds(1, *sent), "{arrivals:?}");
            assert_eq!((ledger.lost(0, 2), ledger.lost(2, 0)), (2, 0), "another stream");
        }
    }

    #[test]
    fn more_than_was_sent() {
        let mut ledger = Ledger::new(1);
        assert_eq!(ledger.take(0, 0), InOrder);
        assert!(ledger.exceeds(0, 0));
        assert!(!ledger.exceeds(0, 1));
        assert_eq!(ledger.take(0, 50), InOrder);
        assert!(ledger.exceeds(0, 3));
        assert_eq!(ledger.lost(0, 3), 2, "of what was sent");
        ledger.open(0, 9);
        assert!(!ledger.exceeds(0, 0), "nothing has come yet");
    }
}
