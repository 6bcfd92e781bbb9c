//! How many connections an address has, over all nodes.

use super::Script;
use crate::backplane::script::{Name, ms};
use crate::base::id::TenantId;
use crate::shard::relay::address::{Act, Answer};
use redis::Value;

/// The commands of an act.
pub fn encode(script: &mut Script<'_>, address: &TenantId, act: &Act) {
    let Act::Hold { origin, shard, count, lease } = act;
    let mut cmd = script.begin(Name::Address, &[script.keys.address(address)]);
    cmd.arg(format!("{:x}:{}", origin.0, shard.0)).arg(*count).arg(ms(*lease));
    script.pipeline.add_command(cmd);
}

/// What its answers say; none: they cannot be read.
pub fn decode(values: &[Value]) -> Option<Answer> {
    match values.first() {
        Some(Value::Int(total)) => Some(Answer::Held { total: u64::try_from(*total).ok()? }),
        _ => None,
    }
}
