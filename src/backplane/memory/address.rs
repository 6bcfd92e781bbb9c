//! How many connections an address has, over all nodes.

use crate::base::time::{Instant, Now};
use crate::shard::relay::address::{Act, Answer};
use std::collections::BTreeMap;

/// By process and shard: how many, and until when that counts.
#[derive(Default)]
pub struct Store {
    held: BTreeMap<(u64, u8), (u32, Instant)>,
}

impl Store {
    pub fn act(&mut self, now: Now, act: Act) -> Answer {
        let Act::Hold { origin, shard, count, lease } = act;
        self.held.insert((origin.0, shard.0), (count, now.at + lease));
        self.held.retain(|_, (count, until)| *count > 0 && *until > now.at);
        Answer::Held { total: self.held.values().map(|(count, _)| u64::from(*count)).sum() }
    }
}
