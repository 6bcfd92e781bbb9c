//! The scripts that the store runs, and how what it answers is read.

use crate::base::time::Duration;
use redis::{Cmd, Script, Value};
use std::mem;

/// A script, by its place among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Append,
    Open,
    Claim,
    Save,
    Waiting,
    Receipt,
    Document,
    KeepDocuments,
    Presence,
    Roster,
    Address,
}

/// Their texts, in the order of their names.
const TEXTS: [&str; 11] = [
    concat!(include_str!("lua/queue.lua"), include_str!("lua/append.lua")),
    include_str!("lua/open.lua"),
    include_str!("lua/claim.lua"),
    include_str!("lua/save.lua"),
    concat!(include_str!("lua/queue.lua"), include_str!("lua/waiting.lua")),
    include_str!("lua/receipt.lua"),
    include_str!("lua/document.lua"),
    include_str!("lua/keep_documents.lua"),
    include_str!("lua/presence.lua"),
    include_str!("lua/roster.lua"),
    include_str!("lua/address.lua"),
];

/// Which scripts the store has.
pub type Known = [bool; TEXTS.len()];

pub const KNOWS_NONE: Known = [false; TEXTS.len()];

pub struct Scripts([Script; TEXTS.len()]);

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts(TEXTS.map(Script::new))
    }
}

impl Scripts {
    /// A script with its keys; its arguments are still to come. `carried`: what the store has, once this batch has come so far.
    pub fn command(&self, name: Name, carried: &mut Known, keys: &[String]) -> Cmd {
        let script = &self.0[name as usize];
        let mut cmd = if mem::replace(&mut carried[name as usize], true) {
            let mut cmd = redis::cmd("EVALSHA");
            cmd.arg(script.get_hash());
            cmd
        } else {
            let mut cmd = redis::cmd("EVAL");
            cmd.arg(TEXTS[name as usize]);
            cmd
        };
        cmd.arg(keys.len());
        for key in keys {
            cmd.arg(key);
        }
        cmd
    }
}

/// A span as the store takes it: 0 would not be kept for no time, but refused.
pub fn ms(span: Duration) -> u64 {
    (span.as_millis() as u64).max(1)
}

/// A text or bytes.
pub fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// A number, as an integer, a score or digits.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        // A score: exact below 2^53, as sequences are.
        Value::Double(number) => (*number >= 0.0 && *number < 9e15).then_some(*number as u64),
        value => std::str::from_utf8(bytes(value)?).ok()?.parse().ok(),
    }
}
