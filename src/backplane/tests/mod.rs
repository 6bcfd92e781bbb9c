//! Shards of several nodes on the store in memory.

mod nodes;
mod swarm;
