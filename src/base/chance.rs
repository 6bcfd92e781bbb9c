//! Chance as a value: one seeded generator a shard, so that a run can be replayed from its seed.
//!
//! ChaCha because session ids are secrets: whoever guesses one owns a long-polling session.

use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// A map a peer can fill: its hasher is keyed, so that nobody can choose colliding keys.
pub type Map<K, V> = std::collections::HashMap<K, V, RandomState>;
/// A set a peer can fill.
pub type Set<K> = std::collections::HashSet<K, RandomState>;

pub struct Chance(ChaCha12Rng);

impl Chance {
    pub fn new(seed: [u8; 32]) -> Chance {
        Chance(ChaCha12Rng::from_seed(seed))
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn u128(&mut self) -> u128 {
        u128::from(self.u64()) << 64 | u128::from(self.u64())
    }

    /// A number below `bound`, which is not 0. The bias is below 2^-32 for the small bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Keys for the maps of one owner.
    pub fn hasher(&mut self) -> RandomState {
        RandomState::with_seeds(self.u64(), self.u64(), self.u64(), self.u64())
    }
}
