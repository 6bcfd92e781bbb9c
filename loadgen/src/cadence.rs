//! Who does something when: fixed before the first one, whatever the server does, so that a stalled server is charged for all that should have
//! happened meanwhile (no coordinated omission). Pure: the times are computed, never stored.
//!
//! Event `i` of a cadence is participant `i % participants`' turn at `start + i / rate`. Every process computes the same times and acts for its
//! own participants.

/// When the events of a cadence are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cadence {
    /// Microseconds of the monotonic clock.
    pub start_us: u64,
    /// Events a second, over all participants.
    pub rate: f64,
    pub participants: u64,
}

impl Cadence {
    pub fn at_us(&self, index: u64) -> u64 {
        self.start_us + (index as f64 * 1e6 / self.rate) as u64
    }

    /// The first of a participant's events, counted from 0, that is due after `now`.
    pub fn first_after(&self, participant: u64, now: u64) -> u64 {
        let passed = now.saturating_sub(self.start_us) as f64 * self.rate / 1e6;
        let turns = (passed - participant as f64) / self.participants as f64;
        // The division is near enough; the comparison is what is meant.
        let mut turn = (turns.max(1.0) as u64) - 1;
        while self.at_us(turn * self.participants + participant) <= now {
            turn += 1;
        }
        turn
    }
}

/// The events of some participants of a cadence, in order.
pub struct Turns {
    cadence: Cadence,
    /// Ascending.
    participants: Vec<u32>,
    round: u64,
    place: usize,
    until_us: u64,
}

impl Turns {
    /// Those due before `until_us`.
    pub fn new(cadence: Cadence, participants: Vec<u32>, until_us: u64) -> Turns {
        Turns { cadence, participants, round: 0, place: 0, until_us }
    }

    /// When the next event is due; `None` when there are no more.
    pub fn next_us(&self) -> Option<u64> {
        let participant = *self.participants.get(self.place)?;
        let at = self.cadence.at_us(self.round * self.cadence.participants + u64::from(participant));
        (at < self.until_us).then_some(at)
    }

    /// The next event, if it is due: whose, and when it should have been.
    pub fn pop(&mut self, now: u64) -> Option<(u32, u64)> {
        let at = self.next_us().filter(|&at| at <= now)?;
        let participant = self.participants[self.place];
        self.place += 1;
        if self.place == self.participants.len() {
            (self.place, self.round) = (0, self.round + 1);
        }
        Some((participant, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_share_a_cadence() {
        let cadence = Cadence { start_us: 1_000, rate: 3_000.0, participants: 7 };
        let end = 1_000 + 100_000;
        let mut all: Vec<(u64, u32)> = Vec::new();
        for share in [vec![0, 3, 6], vec![1, 4], vec![2, 5], vec![]] {
            let mut turns = Turns::new(cadence, share, end);
            assert_eq!(turns.pop(999), None);
            while let Some((participant, at)) = turns.pop(u64::MAX) {
                all.push((at, participant));
            }
            assert_eq!(turns.next_us(), None);
        }
        all.sort_unstable();
        let expected: Vec<(u64, u32)> = (0..300).map(|i| (cadence.at_us(i), (i % 7) as u32)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn the_first_after_a_moment() {
        for rate in [0.5, 1.0, 333.3, 20_000.0] {
            let cadence = Cadence { start_us: 5_000, rate, participants: 3 };
            for participant in 0..3 {
                for now in [0, 4_999, 5_000, 5_001, 6_000, 1_005_000, 60_000_000] {
                    let first = cadence.first_after(participant, now);
                    let at = |turn: u64| cadence.at_us(turn * 3 + participant);
                    assert!(at(first) > now, "{rate} {participant} {now}");
                    assert!(first == 0 || at(first - 1) <= now, "{rate} {participant} {now}");
                }
            }
        }
    }
}
