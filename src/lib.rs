//! One real-time server for applications with tenants. See the README for what it is; this page is the map of the code.
//!
//! The one idea: the interesting part is a plain value you can hold in a test; I/O, time and chance are arguments. *A shard is a function of
//! a closed list of inputs ([`shard::io::Input`]). Everything else is plumbing.*
//!
//! ```text
//!  accept     data_plane/accept    a socket, on any shard
//!  handshake  wire/http            bytes -> request; data_plane/route -> what it wants to be
//!  auth       wire/auth            token + keys + now -> Admission, or a row of wire/close
//!  route      tenant's hash        not here? shard/moving hands over connection, bytes read and state, once;
//!                                  of a tenant that is spread, the socket stays: data_plane/loan
//!  session    shard/engine, shard/namespace    frame -> Engine.IO -> Socket.IO packet -> handler of shard/app
//!  room       shard/publish        event -> history (epoch, offset) -> fan_out
//!  fan-out    shard/room, outbox   one encoded frame, one u16 a member
//!  listeners  shard/listener      emit, count; what is slow goes to control_plane/ (webhooks, asking the application's backend)
//!  others     shard/relay, backplane/    what crosses nodes: an event gets its place in Redis and comes back to every node that has members
//!  leave      data_plane/pump      end of turn: one write for each session that has something
//! ```
//!
//! Architecture invariants, kept by `tests/tidy.rs`: imports point down only; `base`, `wire`, `profile` and `shard` know no clock, no entropy, no
//! socket, no lock and no other thread; a peer's bytes never panic a shard; every queue has a bound and a policy.

pub mod backplane;
pub mod base;
pub mod boot;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod control_plane;
pub mod data_plane;
pub mod demo;
pub mod profile;
pub mod shard;
pub mod wire;
