//! Bytes nobody would send: every decoder, and whole shards, fed with mutations of a small corpus. Nothing panics, no decoder takes more than
//! it was given, and a shard holds nothing once everybody has hung up.
//!
//! Seeded, so a failure is found again; `FUZZ_ROUNDS=100` runs a hundred times as long.

mod mutate;
mod shards;
mod wires;

/// How often a target is tried.
fn rounds(count: u64) -> u64 {
    count * std::env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}
