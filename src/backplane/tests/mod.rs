//! Shards of several nodes on the store in memory.

mod nodes;
mod presence;
mod swarm;
