//! Shards of several nodes on the store in memory.

mod document;
mod nodes;
mod swarm;
