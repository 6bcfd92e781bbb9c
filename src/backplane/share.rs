//! What the nodes share of a tenant beside its stream: each act is one script, or a few commands.

pub mod address;
pub mod document;
pub mod presence;
pub mod queue;

use super::{
    key::Keys,
    script::{Known, Name, Scripts},
};
use crate::base::id::TenantId;
use crate::shard::relay::{Act, Answer};
use redis::{Cmd, Pipeline, Value};

/// Where the commands of an act go.
pub struct Script<'a> {
    pub keys: &'a Keys,
    /// PUBLISH or SPUBLISH.
    pub publish: &'static str,
    pub scripts: &'a Scripts,
    pub carried: &'a mut Known,
    pub pipeline: &'a mut Pipeline,
}

impl Script<'_> {
    /// A script, its arguments still to come.
    pub fn begin(&mut self, name: Name, keys: &[String]) -> Cmd {
        self.scripts.command(name, self.carried, keys)
    }
}

pub fn encode(script: &mut Script<'_>, tenant: &TenantId, act: &Act) {
    match act {
        Act::Presence(act) => presence::encode(script, tenant, act),
        Act::Queue(act) => queue::encode(script, tenant, act),
        Act::Document(act) => document::encode(script, tenant, act),
        Act::Address(act) => address::encode(script, tenant, act),
    }
}

/// What the answers of an act's commands say.
pub fn decode(act: &Act, values: Vec<Value>) -> Option<Answer> {
    Some(match act {
        Act::Presence(act) => Answer::Presence(presence::decode(act, values)?),
        Act::Queue(act) => Answer::Queue(queue::decode(act, values)?),
        Act::Document(act) => Answer::Document(document::decode(act, values)?),
        Act::Address(_) => Answer::Address(address::decode(&values)?),
    })
}
