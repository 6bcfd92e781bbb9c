//! Shards of several nodes on the store in memory.

mod foreign;
mod nodes;
mod swarm;
