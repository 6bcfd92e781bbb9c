//! Floor 1: the wires. Pure: bytes in, values out. Decoders have three answers: done, need more, broken.

pub mod adapter;
pub mod api;
pub mod auth;
pub mod close;
pub mod engine_io;
pub mod envelope;
pub mod http;
pub mod json;
pub mod neighbour;
pub mod socket_io;
pub mod websocket;
