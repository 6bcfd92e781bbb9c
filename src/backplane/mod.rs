//! placeholder
pub mod memory;
