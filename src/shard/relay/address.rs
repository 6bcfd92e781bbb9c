//! How many connections an address has, over all nodes. An address is to the store what a tenant is: a name, and all that is kept under it.

use crate::base::{id::ShardId, time::Duration};
use crate::wire::envelope::Origin;

/// What is done.
#[derive(Debug)]
pub enum Act {
    /// A shard of a process has `count` connections of the address; that counts for `lease` from now.
    Hold { origin: Origin, shard: ShardId, count: u32, lease: Duration },
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// So many have all together.
    Held { total: u64 },
}

impl Act {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        0
    }
}

impl Answer {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        0
    }
}
