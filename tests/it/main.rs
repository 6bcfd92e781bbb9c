//! The real process over real sockets: what peers may throw at it, what it costs, what it says.
//!
//! Every test starts its own server and asks after each attack: is it alive, does it answer, has it given back what it took? Only
//! `webhook`, `backplane` and its `roster` know the inside of the server; tokens come from `tenantcast token`.

mod address;
mod backplane;
mod churn;
mod cluster;
mod command;
mod document;
mod fleet;
mod hostile;
mod member;
mod neighbour;
mod nodes;
mod outage;
mod peer;
mod redis;
mod roster;
mod secrets;
mod server;
mod spread;
mod webhook;
