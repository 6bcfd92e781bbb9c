//! A hierarchical timer wheel: O(1) to arm, no cancel (the owner's generational key makes a late timer a no-op).
//!
//! ```text
//! level 0   64 slots of  8 ms   0.5 s      A timer sits on the level whose span covers its distance and moves
//! level 1   64 slots of  0.5 s   33 s      down as time comes near. Timers beyond level 3 wait in its last slot
//! level 2   64 slots of   33 s   35 min    and are placed again from there.
//! level 3   64 slots of 35 min   37 h
//! ```
//!
//! Invariant: a timer never fires early (one of more than 198 days fires then), and at most one tick (8 ms) late.

use super::time::{Duration, Instant};

const LEVELS: usize = 4;
const SLOTS: u64 = 64;
/// Microseconds of one tick.
const TICK: u64 = 8_000;
/// Ticks a timer may lie ahead: 198 days.
const AHEAD_MAX: u64 = 1 << 31;

struct Entry<T> {
    /// The low half of its tick: with the wheel's own it tells which one is meant, up to [`AHEAD_MAX`].
    tick: u32,
    value: T,
}

pub struct Wheel<T> {
    /// Ticks up to and including this one have fired.
    done: u64,
    levels: [Level<T>; LEVELS],
    count: usize,
}

struct Level<T> {
    /// A bit for each slot that holds something.
    filled: u64,
    slots: Vec<Vec<Entry<T>>>,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Wheel {
            done: 0,
            levels: std::array::from_fn(|_| Level { filled: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() }),
            count: 0,
        }
    }
}

impl<T> Wheel<T> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fires `value` at `at`, or at the next [`expire`](Self::expire) where that has passed.
    pub fn arm(&mut self, at: Instant, value: T) {
        self.count += 1;
        let tick = at.0.div_ceil(TICK).max(self.done + 1);
        // What is farther fires early, after 198 days; whoever armed it looks at its deadline and arms it again.
        self.place(Entry { tick: tick.min(self.done + AHEAD_MAX) as u32, value });
    }

    fn place(&mut self, entry: Entry<T>) {
        let distance = u64::from(entry.tick.wrapping_sub(self.done as u32));
        let tick = self.done + distance;
        let level = (0..LEVELS - 1).find(|&level| distance < SLOTS.pow(level as u32 + 1)).unwrap_or(LEVELS - 1);
        let width = SLOTS.pow(level as u32);
        let farthest = self.done + width * (SLOTS - 1);
        let slot = (tick.min(farthest) / width % SLOTS) as usize;
        self.levels[level].filled |= 1 << slot;
        self.levels[level].slots[slot].push(entry);
    }

    /// When to call [`expire`](Self::expire) next: never later than the earliest timer; earlier where a coarse level has to be looked at.
    pub fn next_deadline(&self) -> Option<Instant> {
        let mut earliest: Option<u64> = None;
        for (level, Level { filled, .. }) in self.levels.iter().enumerate() {
            if *filled == 0 {
                continue;
            }
            let width = SLOTS.pow(level as u32);
            let here = self.done / width;
            // The first filled slot after the present one, going round.
            let ahead = filled.rotate_right(((here + 1) % SLOTS) as u32).trailing_zeros();
            let tick = (here + 1 + u64::from(ahead)) * width;
            earliest = Some(earliest.map_or(tick, |least| least.min(tick)));
        }
        earliest.map(|tick| Instant(tick * TICK))
    }

    /// Moves the wheel to `now` and hands out what is due, earliest tick first.
    pub fn expire(&mut self, now: Instant, mut due: impl FnMut(T)) {
        let target = now.0 / TICK;
        while self.done < target {
            // Skip what is empty: the next tick at which anything can happen.
            let next = match self.next_deadline() {
                Some(at) if at.0 / TICK <= target => at.0 / TICK,
                _ => {
                    self.done = target;
                    return;
                }
            };
            // Set first: an entry that comes down must see its distance from here, or it would land in the slot being emptied.
            self.done = next;
            for level in (1..LEVELS).rev() {
                let width = SLOTS.pow(level as u32);
                if next % width == 0 {
                    let slot = (next / width % SLOTS) as usize;
                    self.levels[level].filled &= !(1 << slot);
                    for entry in std::mem::take(&mut self.levels[level].slots[slot]) {
                        self.place(entry);
                    }
                }
            }
            let slot = (next % SLOTS) as usize;
            self.levels[0].filled &= !(1 << slot);
            // The slot's memory is kept: it is used again half a second later.
            let mut entries = std::mem::take(&mut self.levels[0].slots[slot]);
            self.count -= entries.len();
            for entry in entries.drain(..) {
                debug_assert_eq!(entry.tick, next as u32);
                due(entry.value);
            }
            if entries.capacity() <= 1024 {
                self.levels[0].slots[slot] = entries;
            }
        }
    }

    /// The span after which a timer is placed more than once.
    pub const SPAN: Duration = Duration::from_micros(TICK * SLOTS * SLOTS * SLOTS * SLOTS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;

    /// Arms timers near and far, moves in uneven steps, and checks that each fires once, not early and not late.
    #[test]
    fn timers_fire_once_and_in_time() {
        let mut chance = Chance::new([3; 32]);
        let mut wheel = Wheel::default();
        // Past the point where 32 bits of ticks are full.
        let mut now = Instant((1 << 32) * TICK - 2_000_000_000);
        wheel.expire(now, |_: u64| unreachable!("nothing is armed"));
        let mut open = std::collections::BTreeMap::new();
        let mut id = 0u64;
        for step in 0..20_000u64 {
            for _ in 0..chance.below(4) {
                let far = [1_000, 100_000, 10_000_000, 3_000_000_000, 200_000_000_000][chance.below(5) as usize];
                let at = now + Duration::from_micros(chance.below(far));
                wheel.arm(at, id);
                open.insert(id, at);
                id += 1;
            }
            let jump = [500, 8_000, 50_000, 7_000_000][chance.below(4) as usize] * (1 + step % 7);
            let deadline = wheel.next_deadline();
            if let (Some(deadline), Some(earliest)) = (deadline, open.values().min()) {
                assert!(
                    deadline.0 <= earliest.0.max(now.0).div_ceil(TICK) * TICK + TICK,
                    "a deadline is never too late"
                );
            }
            now = now + Duration::from_micros(jump);
            wheel.expire(now, |id| {
                let at = open.remove(&id).expect("once");
                assert!(at <= now, "early: {at:?} at {now:?}");
            });
            for at in open.values() {
                assert!(at.0 + TICK > now.0, "late: {at:?} at {now:?}");
            }
            assert_eq!(wheel.len(), open.len());
        }
        assert!(id > 20_000);
    }

    #[test]
    fn an_empty_wheel_has_no_deadline() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.next_deadline(), None);
        wheel.arm(Instant(1), ());
        assert_eq!(wheel.next_deadline(), Some(Instant(TICK)));
        let mut fired = 0;
        wheel.expire(Instant(TICK), |()| fired += 1);
        assert_eq!((fired, wheel.next_deadline()), (1, None));
    }
}
