//! Documents that several nodes write to.

use super::Script;
use crate::backplane::script::{Name, bytes, ms};
use crate::base::{
    id::TenantId,
    limit::{DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX},
    time::Duration,
};
use crate::shard::document::stored;
use crate::shard::relay::document::{Act, Answer, Write};
use crate::wire::envelope;
use redis::Value;

/// The commands of an act.
pub fn encode(script: &mut Script<'_>, tenant: &TenantId, act: &Act) {
    match act {
        Act::Read { document, keep } => {
            if let Some(keep) = keep {
                self::keep(script, tenant, &[(document.clone(), *keep)]);
            }
            script.pipeline.cmd("GET").arg(script.keys.document(tenant, document));
        }
        Act::Write(write) => self::write(script, tenant, write),
        Act::Keep { documents } => keep(script, tenant, documents),
    }
}

fn write(script: &mut Script<'_>, tenant: &TenantId, write: &Write) {
    let Write { document, on, body, keep, edition } = write;
    let keys = script.keys;
    let names = [keys.document(tenant, document), keys.document_ends(tenant), keys.document_weights(tenant)];
    let mut cmd = script.begin(Name::Document, &names);
    cmd.arg(&**document).arg(&on[..]).arg(&body[..]).arg(stored::head(body)).arg(ms(*keep));
    cmd.arg(DOCUMENTS_MAX).arg(DOCUMENTS_BYTES_MAX).arg(script.publish).arg(keys.channel(tenant));
    let edition = if edition.is_empty() { Vec::new() } else { envelope::announced(edition) };
    cmd.arg(edition);
    script.pipeline.add_command(cmd);
}

fn keep(script: &mut Script<'_>, tenant: &TenantId, documents: &[(Box<str>, Duration)]) {
    let keys = script.keys;
    let mut names = vec![keys.document_ends(tenant), keys.document_weights(tenant)];
    names.extend(documents.iter().map(|(document, _)| keys.document(tenant, document)));
    let mut cmd = script.begin(Name::KeepDocuments, &names);
    for (document, keep) in documents {
        cmd.arg(&**document).arg(ms(*keep));
    }
    script.pipeline.add_command(cmd);
}

/// What its answers say; none: they cannot be read.
pub fn decode(act: &Act, values: Vec<Value>) -> Option<Answer> {
    match act {
        Act::Read { .. } => values.last().and_then(body).map(Answer::Read),
        Act::Write(_) => {
            let Some(Value::Array(parts)) = values.first() else { return None };
            match parts.first()? {
                Value::Int(1) => Some(Answer::Written),
                Value::Int(2) => Some(Answer::Full),
                // Of an array Lua leaves out what is missing at its end.
                Value::Int(0) => Some(Answer::Other(parts.get(1).map_or(Some(None), body)?)),
                _ => None,
            }
        }
        Act::Keep { .. } => Some(Answer::Kept),
    }
}

fn body(value: &Value) -> Option<Option<Box<[u8]>>> {
    match value {
        Value::Nil => Some(None),
        value => bytes(value).map(|body| Some(body.into())),
    }
}
