//! One real-time server for applications with tenants. See the README for what it is; this page is the map of the code.

pub mod base;
pub mod wire;
pub mod shard;
pub mod bridge;
pub mod data_plane;
pub mod config;
pub mod cli;
pub mod boot;
pub mod demo;
