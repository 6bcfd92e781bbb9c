//! A session on its way from one shard to another.
#[derive(Debug)]
pub struct Transit {}
