//! Shards of several nodes on the store in memory.

mod absent;
mod address;
mod comeback;
mod delivery;
mod document;
mod follower;
mod foreign;
mod member;
mod neighbour;
mod nodes;
mod order;
mod presence;
mod queue;
mod rows;
mod swarm;
