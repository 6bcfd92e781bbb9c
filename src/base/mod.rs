//! Floor 0: ids, bounds, time values, small containers. Pure; imports nothing of the crate.

pub mod address;
pub mod buffer;
pub mod chance;
pub mod count;
pub mod id;
pub mod limit;
pub mod lru;
pub mod slab;
pub mod time;
pub mod wheel;
