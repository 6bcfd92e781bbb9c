//! What waits for users who are not there, over all nodes.

use crate::base::time::Now;
use crate::shard::relay::queue::{Act, Answer};

/// What a tenant has of it.
#[derive(Default)]
pub struct Store {}

impl Store {
    pub fn act(&mut self, _now: Now, act: Act) -> Answer {
        match act {}
    }
}
