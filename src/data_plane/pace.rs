//! How long a shard that falls asleep gathers what happens, by what came lately.

use crate::base::time::{Duration, Instant};

/// Gathering is worth its timer where several events come within it, and is only latency where they do not. Who has just come can wait for
/// longer than who talks: where most events are of connections being opened, it lasts longer.
#[derive(Default)]
pub struct Pace {
    /// Of the last turns, older ones less.
    events: u64,
    opened: u64,
    nanos: u64,
    last: Instant,
    /// Ever.
    accepted: u64,
}

impl Pace {
    /// How many events have to be expected within the time.
    const EVENTS_MIN: u64 = 3;
    /// What opening a connection brings, at most: a knock, an upgrade, a CONNECT, something to join.
    const OPENING_EVENTS: u64 = 4;
    /// Times the usual.
    const OPENING_GATHER: u32 = 5;

    /// A turn ended that began at `now` and had so many events; `accepted`: connections so far.
    pub fn took(&mut self, now: Instant, events: usize, accepted: u64) {
        let nanos = now.since(self.last).as_nanos().min(1_000_000_000) as u64;
        // What is added may be less than what is forgotten.
        let blend = |known: &mut u64, new: u64| *known = *known - *known / 8 + new * 16;
        blend(&mut self.events, events as u64);
        blend(&mut self.opened, accepted - self.accepted);
        blend(&mut self.nanos, nanos);
        (self.last, self.accepted) = (now, accepted);
    }

    /// How long to gather; `most`: where connections talk.
    pub fn gather(&self, most: Duration) -> Duration {
        let opens = self.opened * Pace::OPENING_EVENTS >= self.events;
        let most = if opens { most * Pace::OPENING_GATHER } else { most };
        let most_nanos = most.as_nanos() as u64;
        let is_worth_it = self.events.saturating_mul(most_nanos) >= self.nanos.saturating_mul(Pace::EVENTS_MIN);
        if is_worth_it { most } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_is_worth_it() {
        // Microseconds between two turns, events in each, turns for a connection; microseconds gathered then.
        for (between, events, opened_every, want) in [
            (100, 1, None, 0),
            (60, 1, None, 200),
            (1000, 20, None, 200),
            (100_000, 20, None, 0),
            // Two turns a connection: 2,000 a second.
            (250, 1, Some(2), 1000),
            // 500 a second.
            (1000, 1, Some(2), 0),
            // Others talk more than who comes: 20,000 events a second, 2,000 of them knocks.
            (50, 1, Some(10), 200),
            (1000, 80, Some(1), 200),
            (1000, 3, Some(1), 1000),
        ] {
            let mut pace = Pace::default();
            for turn in 1..1000u64 {
                let now = Instant(0) + Duration::from_micros(between * turn);
                pace.took(now, events, opened_every.map_or(0, |every| turn / every));
            }
            let gathered = pace.gather(Duration::from_micros(200));
            assert_eq!(gathered, Duration::from_micros(want), "{events} every {between} us, {opened_every:?}");
            assert_eq!(pace.gather(Duration::ZERO), Duration::ZERO);
        }
    }
}
