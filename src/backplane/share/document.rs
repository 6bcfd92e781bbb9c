//! Documents that several nodes write to.

use super::Script;
use crate::base::id::TenantId;
use crate::shard::relay::document::{Act, Answer};
use redis::Value;

/// The commands of an act.
pub fn encode(_script: &mut Script<'_>, _tenant: &TenantId, act: &Act) {
    match *act {}
}

/// What its answers say; none: they cannot be read.
pub fn decode(act: &Act, _values: Vec<Value>) -> Option<Answer> {
    match *act {}
}
