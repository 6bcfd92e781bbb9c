//! Shards of several nodes on the store in memory.

mod absent;
mod document;
mod nodes;
mod queue;
mod swarm;
