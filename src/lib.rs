//! One real-time server for applications with tenants. See the README for what it is; this page is the map of the code.

pub mod base;
pub mod cli;
pub mod config;
pub mod wire;
pub mod shard;
pub mod bridge;
pub mod data_plane;
pub mod boot;
