//! Documents that several nodes write to.

use crate::base::time::Now;
use crate::shard::relay::document::{Act, Answer};

/// What a tenant has of it.
#[derive(Default)]
pub struct Store {}

impl Store {
    pub fn act(&mut self, _now: Now, act: Act) -> Answer {
        match act {}
    }
}
