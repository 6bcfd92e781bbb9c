//! Shards of several nodes on the store in memory.

mod absent;
mod nodes;
mod queue;
mod swarm;
